"""Layers into an engine while other packages are still being linked.

An engine unpacks what it is sent on one core, after all of it came: the largest part of a cold build, and one
that need not wait for the linker. Large packages are linked first, and their layers are the lowest of ours.
As they come, they are loaded as an image of their own, the image's lower part; the image itself then leaves
them out. A part has no name, and is removed when the image is there (which keeps its layers), or when nothing
came of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from envbox.engine import MissingLayerError
from envbox.errors import EnvboxError, ToolError
from envbox.images.assemble import assemble_part
from envbox.images.layers import measured
from envbox.oci import Digest, chain_ids
from envbox.registry.base import BaseImage

if TYPE_CHECKING:
    from envbox.images.assemble import Image
    from envbox.images.layers import Layer
    from envbox.images.load import Loading
    from envbox.packages.link.fragments import Fragment

LEAST = 32 << 20
"""Bytes that are worth a load of their own."""


class EarlyLoader:
    """What is known of an image that is being made, and the parts of it that an engine has got.

    While the engine unpacks one part, the next is sent, and waits before its end: what it stands on must be
    there. The image itself goes the same way, through `gate`.

    A context: when it ends, the parts are removed. `see` and `end` are for the thread that makes, `work` for
    one beside it.
    """

    def __init__(self, loading: Loading, base: BaseImage) -> None:
        self._loading = loading
        self._base = base
        self._changed = threading.Condition()
        self._fragments: dict[str, Fragment] = {}
        self._plan: Sequence[Sequence[str]] = ()
        self._ended = False
        self._parts: list[_Part] = []
        self._pool = ThreadPoolExecutor(2, "part")

    def __enter__(self) -> EarlyLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        for part in self._parts:
            with suppress(EnvboxError):  # the engine went away, which somebody else will say
                self._loading.engine.remove_image(part.id)

    def begin(self, plan: Sequence[Sequence[str]]) -> None:
        """Take note of which packages will be in which layer, from the lowest of ours up."""
        with self._changed:
            self._plan = plan

    def see(self, fragment: Fragment) -> None:
        """Take note of a package that is linked."""
        with self._changed:
            self._fragments[fragment.name] = fragment
            self._changed.notify()

    def end(self) -> None:
        """Take note that all are linked: no part is begun any more."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def work(self, stop: threading.Event) -> None:
        """Bring the base, then begin to load parts until `end`, or `stop`."""
        self._loading.bring_base(self._base, stop)
        if not self._loading.present.keeps_layers:
            return
        layers: list[Layer] = []
        waiting = 0  # bytes of those that no part has
        while fragments := self._next(len(layers), stop):
            layers.append(measured(fragments, self._loading.settings))
            waiting += layers[-1].raw_size
            if waiting >= LEAST and all(part.loaded.done() for part in self._parts[:-1]):
                waiting = 0
                self._begin(assemble_part(self._base, layers), stop)

    def gate(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Let the image's own pieces through, the last one when the parts are there.

        :raises MissingLayerError: when one is not
        """
        return _after(self._parts[-1:], threading.Event(), pieces)

    def _begin(self, part: Image, stop: threading.Event) -> None:
        """Load a part, in a thread of its own, on top of the one before."""
        if not self._loading.present.chain_ids.issuperset(chain_ids(part.diff_ids)):
            gate = partial(_after, self._parts[-1:], stop)
            # packed here: what comes after must know, whenever the pool gets round to it
            loaded = self._pool.submit(self._loading.load_part, self._loading.pack_part(part), gate)
            self._parts.append(_Part(part.id, loaded))

    def _next(self, number: int, stop: threading.Event) -> tuple[Fragment, ...]:
        """Wait until all of one layer is linked; empty when the image itself will bring it.

        :param number: of the layer, from the lowest of ours
        """
        with self._changed:
            while not (self._ended or stop.is_set()):
                names = self._plan[number] if number < len(self._plan) else ()
                if names and self._fragments.keys() >= set(names):
                    return tuple(self._fragments[name] for name in names)
                self._changed.wait(0.1)  # `stop` does not notify
        return ()


@dataclass(frozen=True, slots=True)
class _Part:
    id: Digest
    loaded: Future[None]


def _after(before: Sequence[_Part], stop: threading.Event, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Hold the last piece back until a part is loaded; before it, an engine only writes down what comes."""
    held: list[bytes] = []
    for piece in pieces:
        if stop.is_set():
            raise ToolError("the image that this would be a part of is not made")
        yield from held
        held = [piece]
    for part in before:
        if error := part.loaded.exception():
            raise MissingLayerError(f"a part of the image is not in the engine: {error}")
    yield from held
