"""The tree with byte-code, made by a process that is left behind, at the lowest priority.

At most one works in a cache; others wait for their turn. Each has a note in the cache that it removes in the
end. A note that nobody works on means that one was killed, or failed: then the next session waits for the
byte-code itself, and says what is wrong.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from envbox.files import disk_error, is_held, lock_file, remove, write_whole
from envbox.image_paths import PREFIX

if TYPE_CHECKING:
    from envbox.prefixes.request import PrefixRequest
    from envbox.prefixes.tree import Tree

FOLDER = Path("prefixes") / "unfinished"
_LOCK = FOLDER / ".lock"  # held by who is at work
_BOOT = (
    "import sys; sys.path[:] = {path!r};"
    " from envbox.prefixes.background_worker import finish; finish({handle})"
)


@dataclass(frozen=True, slots=True)
class Finisher:
    """The process that finishes one lock's tree; it may be there or not.

    :param seen_at: the path of the tree's prefix for what runs in it
    """

    cache_dir: Path
    lock_digest: str
    platform: str
    seen_at: str = PREFIX

    @property
    def note(self) -> Path:
        """A file that is there until the tree is finished."""
        name = sha256(os.fsencode(f"{self.lock_digest} {self.platform} {self.seen_at}")).hexdigest()
        return self.cache_dir / FOLDER / name

    def is_anybody_at_work(self) -> bool:
        """Return whether one is at work in this cache, for whatever lock."""
        return is_held(self.cache_dir / _LOCK)

    def has_failed(self) -> bool:
        """Return whether one was left, is gone, and was not done."""
        return os.path.lexists(self.note) and not self.is_anybody_at_work()

    def leave(self, wanted: PrefixRequest, without: Tree) -> None:
        """Leave a process behind that makes the tree with byte-code, if none was left for it yet.

        :param without: the tree that is superseded then
        """
        if os.path.lexists(self.note):
            return
        write_whole(self.note, b"")
        handle = lock_file(self.cache_dir / _LOCK)
        try:
            with suppress(BlockingIOError):  # then it waits for its turn
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which the process has from us
            with tempfile.TemporaryFile() as work:
                pickle.dump((self, wanted, without), work)
                work.seek(0)
                subprocess.Popen(
                    [
                        sys.executable,
                        "-X",
                        "utf8",
                        "-c",
                        _BOOT.format(path=[p for p in sys.path if p], handle=handle),
                    ],
                    stdin=work,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[handle],
                    cwd="/",
                    start_new_session=True,
                )
        finally:
            os.close(handle)

    def forget(self) -> None:
        """Remove the note: there is nothing to be finished."""
        try:
            remove(self.note)
        except OSError as error:
            raise disk_error(self.note, error) from error
