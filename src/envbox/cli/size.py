"""`envbox size`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbox.cli.context import Invocation, complete_name, json_option, platform_option, print_json
from envbox.cli.words import echo_line

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.images.size import Part, Sizes

FINEST = 1_000_000  # rows
FOLDERS = 200  # more of them are no overview


@click.command()
@click.argument("name", required=False, metavar="[NAME|IMAGE]", shell_complete=complete_name)
@platform_option("Of which platform, where several are locked.")
@click.option("-n", "--top", metavar="N", default=15, type=click.IntRange(1), help="How many rows (15).")
@click.option("-a", "--all", "everything", is_flag=True, help="Every package, and folders in fine pieces.")
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a treemap too: one page that needs nothing else.",
)
@json_option
@click.pass_obj
def size(invocation: Invocation, /, name: str | None, top: int, as_json: bool, **options: Any) -> None:
    """Show what is big, by package and by folder, and what could be left out.

    NAME is taken by its lockfile, without the base image and without an engine; what is not linked yet is.
    IMAGE is one in the engine, with all that is in it. --json has every package.
    """
    sizes = _sizes(invocation, name, options["platform"])
    if options["html"]:
        invocation.check_written(invocation.here / options["html"])
        _write(invocation.here / options["html"], sizes, invocation)
    print_json(_as_json(sizes)) if as_json else _print(sizes, FINEST if options["everything"] else top)


def _sizes(invocation: Invocation, name: str | None, platform: str | None) -> Sizes:
    from envbox.images.size.find import sizes_of_named_image
    from envbox.images.size.lock import sizes_of_lock
    from envbox.project import is_lockfile_path
    from envbox.sessions.prepare import check_archives

    def engine() -> Engine:
        return invocation.engine

    is_file = name is not None and is_lockfile_path(name) and (invocation.here / name).is_file()
    if (
        name is None
        or is_file
        or name in {environment.name for environment in invocation.project.environments}
    ):
        environment = invocation.locked(name)
        check_archives(environment)
        return sizes_of_lock(environment, invocation.settings, invocation.report, platform)
    return sizes_of_named_image(name, invocation.project, engine, invocation.report, platform)


def _write(path: Path, sizes: Sizes, invocation: Invocation) -> None:
    from envbox.files import write_whole
    from envbox.images.size.treemap import treemap

    write_whole(path, treemap(sizes).encode(), is_cache=False)
    invocation.report.say(f"a treemap is in {path}")


def _as_json(sizes: Sizes) -> dict[str, object]:
    from envbox.images.size import by_package, byte_code, part_of, unneeded
    from envbox.images.size.tree import largest_folders

    return {
        "name": sizes.name,
        "platform": sizes.platform,
        "slim": list(sizes.slim),
        "all": asdict(part_of("", sizes.items)) | {"name": sizes.name},
        "packages": [asdict(p) | {"version": sizes.versions.get(p.name)} for p in by_package(sizes)],
        "folders": [asdict(part) for part in largest_folders(sizes, FOLDERS)],
        "unneeded": [asdict(part) for part in unneeded(sizes)],
        "byte_code": asdict(byte_code(sizes)),
    }


def _print(sizes: Sizes, top: int) -> None:
    from envbox.images.size import by_package, part_of, unneeded
    from envbox.images.size.tree import largest_folders
    from envbox.report import counted

    whole = part_of("in all", sizes.items)
    packages = by_package(sizes)
    _table("package", [*packages[:top], whole], whole, sizes.versions)
    if len(packages) > top:
        echo_line(f"{counted(len(packages) - top, 'more package')} (--all)")
    _table("\nfolder", largest_folders(sizes, min(top, FOLDERS)), whole)
    _table(
        "\ncould be left out" + ", at most" * sizes.is_by_path,
        [part for part in unneeded(sizes) if part.files],
        whole,
    )
    if sizes.slim:
        echo_line(f"left out already: {', '.join(sizes.slim)}")


def _table(title: str, parts: Sequence[Part], whole: Part, versions: dict[str, str] | None = None) -> None:
    names = [f"{part.name} {(versions or {}).get(part.name, '')}".strip() for part in parts]
    wide = max(map(len, [title.strip(), *names]))
    if title.startswith("\n"):
        echo_line()
    echo_line(f"{title.strip():<{wide}}    files   in the image         compressed")
    for name, part in zip(names, parts, strict=True):
        share = part.size / (whole.size or 1)
        size, packed = part.size / 1e6, part.packed / 1e6
        echo_line(f"{name:<{wide}} {part.files:8,} {size:11,.1f} MB {share:4.0%} {packed:11,.1f} MB")
