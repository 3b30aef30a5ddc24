"""`envbox build`."""

from __future__ import annotations

import click

from envbox.cli.context import Session, frozen_option, json_option, name_argument, print_json


@click.command()
@name_argument
@frozen_option
@json_option
@click.pass_obj
def build(session: Session, name: str | None, frozen: bool, as_json: bool) -> None:
    """Assemble an environment's image from its lockfile and load it into the engine.

    Nothing is solved and no installer runs; the same lockfile gives the same image everywhere. A missing or
    outdated lockfile is made first, which is said. The image's name is printed.
    """
    from envbox.ready import ready_image

    image = ready_image(
        session.environment(name), session.settings, session.engine, session.report, frozen=frozen
    )
    if as_json:
        print_json(
            {
                "name": image.name,
                "id": image.id,
                "reference": image.reference,
                "platform": image.platform,
                "lock": image.lock_digest,
                "new": image.is_new,
            }
        )
    else:
        click.echo(image.reference)
