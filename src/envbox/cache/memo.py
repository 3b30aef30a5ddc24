"""Notes in the cache: small values that are known again, under a hash over what they are a function of.

One rule for all: what is absent, damaged, of another version or cannot be read is not known, and is worked
out again. A note that cannot be written is skipped, since nothing depends on it. Each has a hash of its own
bytes, so that a disk's wrong bit is not taken for knowledge.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar

from envbox.errors import EnvboxError, ToolError
from envbox.files import read_file, remove, write_whole
from envbox.oci import canonical_json

Value = TypeVar("Value")
_DIGEST = 64  # hex digits, and a line break


@dataclass(frozen=True, slots=True)
class Memo(Generic[Value]):
    """One note.

    :param loads: a value of what was noted, as JSON has it; any error says that it is none
    :param dumps: what is noted of a value, for JSON
    """

    path: Path
    loads: Callable[[Any], Value]
    dumps: Callable[[Value], Any]

    def read(self) -> Value | None:
        """Give what was noted; None when that is not known."""
        try:
            data = read_file(self.path)
            return self.loads(json.loads(sealed_content(data)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return None
        except EnvboxError:
            return None

    def write(self, value: Value) -> None:
        """Note a value, if the cache can be written."""
        with suppress(ToolError):
            self.keep(value)

    def keep(self, value: Value) -> None:
        """Note a value that must be there afterwards.

        :raises ToolError: when the disk is full or the cache cannot be written
        """
        write_whole(self.path, sealed(canonical_json(self.dumps(value))))

    def forget(self) -> None:
        """Remove the note, whatever is there."""
        with suppress(OSError):
            remove(self.path)


def memo_key(*parts: object) -> str:
    """Return a hash over everything that a note is a function of, as JSON has it."""
    return sha256(canonical_json(list(parts))).hexdigest()


def sealed(data: bytes) -> bytes:
    """Put its hash in front of data, which tells whether it is what was written."""
    return sha256(data).hexdigest().encode() + b"\n" + data


def sealed_content(data: bytes) -> bytes:
    """Give what was sealed.

    :raises ValueError: when it is no longer what was written
    """
    content = data[_DIGEST + 1 :]
    if data[: _DIGEST + 1] != sha256(content).hexdigest().encode() + b"\n":
        raise ValueError("not what was written")
    return content


def plain(value: Any) -> Any:
    """Take a value as JSON has it."""
    return value
