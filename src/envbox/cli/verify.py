"""`envbox verify`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbox.cli.context import Invocation, complete_name, json_option, platform_option, print_json
from envbox.cli.words import echo_line

if TYPE_CHECKING:
    from envbox.images.saved import Keep
    from envbox.images.verify.compare import FileDifference
    from envbox.images.verify.content import ContentCheck
    from envbox.images.verify.rebuild import Read, Verification

_SHOWN = 40  # differences, and
_LONGEST = 160  # characters of a value; --json has all


@click.command()
@click.argument("image", required=False, shell_complete=complete_name)
@click.option(
    "--lock",
    "lockfile",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The lockfile that the image should be of, instead of the one inside it.",
)
@click.option(
    "--content",
    is_flag=True,
    help="Make nothing anew: hold every file against what its own package lists.",
)
@click.option(
    "--fresh", is_flag=True, help="Fetch every archive anew, instead of trusting hashes of cached ones."
)
@platform_option("Which image of several in a registry; this machine's.")
@json_option
@click.pass_obj
def verify(invocation: Invocation, /, image: str | None, as_json: bool, content: bool, **options: Any) -> int:
    """Check that an image is what its lockfile says, by making it anew and comparing.

    IMAGE is an environment's name, an image in the engine, or docker://REFERENCE in a registry. What differs
    is said file by file, field by field; the exit code is then 1.
    """
    if content and (options["lockfile"] or options["fresh"]):
        raise click.UsageError("--content makes nothing anew: it takes neither --lock nor --fresh")
    found = (_check_content if content else _compare)(invocation, image, **options)
    if as_json:
        print_json({**asdict(found), "identical": found.is_identical})
    else:
        _print(found.differences)
        echo_line("identical" if found.is_identical else f"{len(found.differences)} differences")
    return 0 if found.is_identical else 1


def _compare(
    invocation: Invocation, image: str | None, platform: str | None, lockfile: Path | None, fresh: bool
) -> Verification:
    from envbox.images.verify.rebuild import is_lockfile, verify_image

    read = _find(invocation, image, platform, is_lockfile)
    if lockfile is not None:
        lockfile = invocation.locked(str(Path(lockfile).absolute())).lock_path
    # it may be anybody's image: what the user has set for his own lockfiles does not count
    settings = replace(invocation.settings, trust_python=invocation.trust_python)
    found = verify_image(read, settings, invocation.report, lockfile, fresh=fresh)
    for note in found.notes:
        invocation.report.say(note)
    return found


def _check_content(
    invocation: Invocation, image: str | None, platform: str | None, **unused: Any
) -> ContentCheck:
    from envbox.images.verify.content import is_listing, verify_content

    found = verify_content(_find(invocation, image, platform, is_listing)(True))
    invocation.report.say(
        f"{found.checked} files checked; {found.unlisted} have no hash in their package's list"
    )
    return found


def _find(invocation: Invocation, image: str | None, platform: str | None, keep: Keep) -> Read:
    from envbox.images.find import REGISTRY, in_engine, in_registry

    if image and image.startswith(REGISTRY):
        return in_registry(image, platform, keep, invocation.settings, invocation.report)
    if platform:
        raise click.UsageError(f"--platform is about images in a registry ({REGISTRY}…)")
    return in_engine(image, invocation.project, invocation.engine, keep, invocation.report)


def _print(differences: tuple[FileDifference, ...]) -> None:
    """Write a table: package, field, path, what should be and what is."""
    shown = differences[:_SHOWN]
    packages = [d.package or "-" for d in shown]
    wide = max(map(len, packages), default=0)
    field = max((len(d.field) for d in shown), default=0)
    field = max(field, len("expected"))
    for d, package in zip(shown, packages, strict=True):
        echo_line(f"{package:<{wide}}  {d.field:<{field}}  {d.path}")
        for word, value in (("expected", d.expected), ("found", d.found)):
            if value:
                echo_line(f"{'':<{wide}}  {word:>{field}}  {_short(value)}")
    if len(differences) > len(shown):
        echo_line(f"… and {len(differences) - len(shown)} more (--json has all)")


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
