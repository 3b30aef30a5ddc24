"""`envbox build`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbox.cli.context import (
    Invocation,
    compat_option,
    frozen_option,
    image_json,
    image_platforms_option,
    json_option,
    name_argument,
    print_json,
)
from envbox.cli.explain import explain_build
from envbox.platforms import container_platform

if TYPE_CHECKING:
    from envbox.images.publication import PublishRequest


@click.command()
@name_argument
@image_platforms_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.oci.tar|DIR",
    help="Write the image there, as an OCI layout, instead of loading it; no engine is needed.",
)
@compat_option
@click.option("--explain", is_flag=True, help="Say which layers are new, and because of which packages.")
@click.option(
    "-n", "--dry-run", is_flag=True, help="Say the same of the lockfile as it is, and load nothing."
)
@frozen_option
@json_option
@click.pass_obj
def build(invocation: Invocation, /, name: str | None, frozen: bool, as_json: bool, **options: Any) -> None:
    """Assemble an environment's image from its lockfile and load it into the engine.

    Nothing is solved and no installer runs; the same lockfile gives the same image everywhere. A missing or
    outdated lockfile is made first, which is said. The image's name is printed; with --output or --platform,
    the digest that a registry gives it. Of several platforms only the engine's own is loaded.
    """
    from envbox.images.publication import PublishRequest
    from envbox.sessions.prepare import ensure_locked, ready_image

    environment = invocation.locked(name)
    if options["explain"] or options["dry_run"]:
        if options["output"] or options["platforms"]:
            raise click.UsageError("--explain is about the engine: it takes neither --output nor --platform")
        explain_build(invocation, environment, frozen=frozen, dry_run=options["dry_run"], as_json=as_json)
        return
    wanted = PublishRequest(environment, options["platforms"], options["compat"])
    if wanted.is_compat and options["output"] is None:
        raise click.UsageError("--compat says how layers are compressed in an --output")
    if options["output"] is None and not wanted.platforms:
        image = ready_image(
            environment, invocation.settings, invocation.engine, invocation.report, frozen=frozen
        )
        print_json(image_json(image)) if as_json else click.echo(image.reference)
        return
    ensure_locked(environment, invocation.settings, invocation.report, frozen=frozen)
    found = build_several(invocation, wanted, options["output"])
    print_json(found) if as_json else click.echo(found["digest"])


def build_several(invocation: Invocation, wanted: PublishRequest, output: Path | None) -> dict[str, Any]:
    """Write images into a file or folder, or load what is for the engine."""
    from envbox.images.output import write_output
    from envbox.images.publication import build_platforms

    if output is None:
        publication, loaded = build_platforms(
            wanted, invocation.settings, invocation.engine, invocation.report
        )
        return publication.to_json() | {"loaded": image_json(loaded) if loaded else None}
    if not wanted.platforms:
        wanted = replace(wanted, platforms=(container_platform(),))
    invocation.check_written(invocation.here / output)
    publication = write_output(wanted, invocation.here / output, invocation.settings, invocation.report)
    return publication.to_json() | {"output": str(output)}
