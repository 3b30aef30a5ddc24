"""`envbox push` and `envbox pull`."""

from __future__ import annotations

import click

from envbox.cli.context import (
    Invocation,
    compat_option,
    frozen_option,
    image_platforms_option,
    json_option,
    print_json,
)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[NAME] REF")
@image_platforms_option
@compat_option
@frozen_option
@json_option
@click.pass_obj
def push(
    invocation: Invocation,
    words: tuple[str, ...],
    platforms: tuple[str, ...],
    compat: bool,
    frozen: bool,
    as_json: bool,
) -> None:
    """Push an environment's image to a registry; no engine is needed.

    \b
    envbox push maps ghcr.io/you/maps:1.0

    What the registry lacks is made and sent, for all locked platforms unless --platform names some. Its name
    with the digest is printed. Logins are those of `docker login`.
    """
    from envbox.images.publication import PublishRequest
    from envbox.images.push import push as push_image
    from envbox.registry import parse_reference
    from envbox.sessions.prepare import ensure_locked

    if len(words) > 2:
        raise click.UsageError(f"one environment and one reference, not {' '.join(words)}")
    environment, reference = invocation.locked(words[0] if words[1:] else None), parse_reference(words[-1])
    ensure_locked(environment, invocation.settings, invocation.report, frozen=frozen)
    pushed = push_image(
        PublishRequest(environment, platforms, compat), reference, invocation.settings, invocation.report
    )
    if as_json:
        about = {"reference": str(reference), "sent": pushed.sent, "new": pushed.is_new}
        print_json(pushed.publication.to_json() | about)
    else:
        click.echo(pushed.name)


@click.command()
@click.argument("reference", metavar="REF")
@json_option
@click.pass_obj
def pull(invocation: Invocation, reference: str, as_json: bool) -> None:
    """Pull an image from a registry into the engine, and print its name there.

    Layers that the engine has are not fetched. `envbox shell REF`, `run REF` and `notebook REF` pull by
    themselves.
    """
    from dataclasses import asdict

    from envbox.images.pull import pull as pull_image
    from envbox.registry import parse_reference

    pulled = pull_image(parse_reference(reference), invocation.settings, invocation.engine, invocation.report)
    if as_json:
        print_json({("new" if key == "is_new" else key): value for key, value in asdict(pulled).items()})
    else:
        click.echo(pulled.reference)
