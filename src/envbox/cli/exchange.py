"""`envbox import` and `envbox export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from envbox.cli.context import (
    Invocation,
    json_option,
    name_argument,
    platforms_option,
    print_json,
    split_commas,
)
from envbox.cli.words import write_data

_FORMATS = ("conda-lock", "environment", "explicit", "pixi", "requirements")  # envbox.lockfile.formats, cheap


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--name", metavar="NAME", help="What the environment is to be called.")
@click.option("--environment", metavar="NAME", help="Which environment of a pixi.lock; `default`.")
@platforms_option(
    "Only what is for this platform; several with commas. An environment.yml is for one platform and "
    "does not say which: this machine's, if this does not."
)
@click.option(
    "--without",
    multiple=True,
    metavar="PKG",
    callback=split_commas,
    help="Leave a package out, such as one that is no archive; several with commas. What is lost is said.",
)
@click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="NAME",
    callback=split_commas,
    help="Take a category of packages (`dev`) besides `main`; several with commas.",
)
@click.option("-f", "--force", is_flag=True, help="Replace an environment of that name.")
@json_option
@click.pass_obj
def import_(
    invocation: Invocation, /, files: tuple[str, ...], force: bool, as_json: bool, **said: Any
) -> None:
    """Make a spec and a lockfile of another tool's lockfile.

    Read are conda-lock files, @EXPLICIT files, pixi.lock (versions 6 and 7) and exported environment.yml; of
    several FILEs, each is for another platform. No package moves; what the file leaves out is looked up.
    """
    from envbox.lockfile.foreign import Selection
    from envbox.locks.convert.import_lock import ForeignFiles, default_name, import_files, target_of

    paths = tuple(invocation.here / file for file in files)
    selection = Selection(
        said["environment"], said["platforms"], frozenset(said["without"]), frozenset(said["categories"])
    )
    source = ForeignFiles(paths, said["name"] or default_name(paths), selection)
    invocation.check([], paths)
    target = target_of(source, invocation.project)
    invocation.check_written(target.spec_path, target.lock_path)
    found = import_files(source, invocation.project, invocation.settings, invocation.report, force=force)
    if as_json:
        print_json({"name": found.name, "spec": str(found.spec_path), "lockfile": str(found.lock_path)})
    else:
        write_data(f"{found.spec_path}\n")


@click.command()
@name_argument
@click.option("--format", "kind", type=click.Choice(_FORMATS), required=True, help="Whose format.")
@platforms_option("Only what is for this platform; several with commas, where the format can.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write there, not on stdout."
)
@click.pass_obj
def export(
    invocation: Invocation, name: str | None, kind: str, platforms: tuple[str, ...], output: Path | None
) -> None:
    """Write an environment's lockfile as other tools read it.

    explicit (conda, mamba), environment and requirements are for one platform: --platform, the only one that
    is locked, or this machine's. conda-lock and pixi hold them all.
    """
    from envbox.files import write_whole
    from envbox.lockfile.conda_lock_v1 import read_lockfile
    from envbox.locks.convert.export import export as export_lock

    lock = read_lockfile(invocation.locked(name).lock_path)
    data = export_lock(lock, kind, platforms, invocation.settings, invocation.report)
    if output is None:
        write_data(data)
    else:
        invocation.check_written(invocation.here / output)
        write_whole(invocation.here / output, data, is_cache=False)


def give_back(invocation: Invocation, image: str, names: tuple[str, ...], platforms: tuple[str, ...]) -> None:
    """Print the lockfile inside an image, or write it as an environment's."""
    from envbox.files import write_whole
    from envbox.images.embedded_lock import find_lockfile, lockfile_in_registry
    from envbox.project import lock_path_of

    if len(names) > 1 or len(platforms) > 1:
        raise click.UsageError("--from-image is about one image: at most one NAME, and one --platform")
    if platforms:
        data = lockfile_in_registry(image, platforms[0], invocation.settings, invocation.report)
    else:
        data = find_lockfile(
            image, invocation.project, lambda: invocation.engine, invocation.settings, invocation.report
        )
    if not names:
        write_data(data)
        return
    path = lock_path_of(invocation.project, names[0])
    invocation.check_written(path)
    write_whole(path, data, is_cache=False)
    invocation.report.say(f"wrote {path}, from {image}")
