"""`envbox build --explain` and `--dry-run`: which layers are new, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envbox.cli.context import Invocation, image_json, print_json
from envbox.cli.words import echo_line

if TYPE_CHECKING:
    from envbox.images.build import BuiltImage
    from envbox.images.explain import Explanation
    from envbox.project import Environment

_SHOWN = 6  # causes of one layer; --json has all of them


def explain_build(
    invocation: Invocation, environment: Environment, *, frozen: bool, dry_run: bool, as_json: bool
) -> None:
    """Say what is new in an environment's image, and load it unless this is a dry run."""
    from envbox.images.explain import explain
    from envbox.sessions.prepare import ensure_locked, ready_image

    ensure_locked(environment, invocation.settings, invocation.report, frozen=frozen or dry_run)
    told = explain(environment, invocation.settings, invocation.engine, invocation.report)
    image: BuiltImage | None = None
    if not dry_run:
        image = ready_image(
            environment, invocation.settings, invocation.engine, invocation.report, frozen=True
        )
    if as_json:
        print_json({"image": image_json(image) if image else None, "explanation": told.to_json()})
        return
    _print(told)
    if image:
        echo_line(image.reference)


def _print(told: Explanation) -> None:
    from envbox.images.explain import NEW, RESTACKED, REUSED

    if told.previous is None:
        echo_line("there is no image of it in the engine yet")
    elif not told.is_known:
        echo_line("nothing is known of the image before: it was not built with this cache")
    other = [layer for layer in told.layers if layer.causes or layer.state == NEW]
    wide = max([len(layer.name) for layer in other] + [12])
    if other:
        echo_line(f"{'layer':<{wide}}   in the image     compressed   because of")
    for layer in other:
        causes = [str(cause) for cause in layer.causes]
        if layer.state == REUSED:
            causes[0] += " (there already)"
        more = [f"and {len(causes) - _SHOWN} more (--json)"] if len(causes) > _SHOWN else []
        first, *others = [*causes[:_SHOWN], *more] or [""]
        both = f"{_megabytes(layer.raw_size)} {_megabytes(layer.size)}"
        echo_line(f"{layer.name:<{wide}} {both}   {first}".rstrip())
        for words in others:
            echo_line(f"{'':<{wide}} {'':<29}   {words}")
    for state, words in (
        (NEW, "new"),
        (RESTACKED, "the same bytes, on a layer that changed: unpacked again, not pushed again"),
        (REUSED, "there already"),
    ):
        layers = told.of(state)
        sizes = [sum(layer.raw_size for layer in layers), sum(layer.size for layer in layers)]
        name = f"{len(layers)} layer{'s' * (len(layers) != 1)}"
        if layers:
            echo_line(f"{name:<{wide}} {_megabytes(sizes[0])} {_megabytes(sizes[1])}   {words}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:11,.2f} MB" if size else f"{'-':>14}"
