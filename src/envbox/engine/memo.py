"""What need not be asked of an engine at each start, remembered between calls."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from envbox.cache import Memo
from envbox.engine.address import Address


@dataclass(frozen=True, slots=True)
class EngineMemo:
    """Of one engine: of this very socket (a new engine makes a new one) and version.

    What is elsewhere is asked each time: behind an address of the network there may now be a new machine.

    :param folder: of the cache, for what was learned of engines
    :param server: what the engine calls itself, with its version
    """

    folder: Path
    address: Address
    server: str | None

    def read(self, subject: str) -> str | None:
        """Return what was kept; None when nothing was, or it cannot be read."""
        note = self._note(subject)
        return note.read() if note else None

    def keep(self, subject: str, text: str) -> None:
        """Keep something for the next call."""
        if note := self._note(subject):
            note.write(text)

    def _note(self, subject: str) -> Memo[str] | None:
        try:
            found = (self.address.socket_path or Path("/dev/null/none")).stat()
        except OSError:
            return None
        about = [found.st_dev, found.st_ino, found.st_ctime_ns, self.server, self.address.url]
        path = self.folder / subject / sha256(repr(about).encode()).hexdigest()[:32]
        return Memo(path, str, str)
