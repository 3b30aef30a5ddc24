"""What can go wrong, sorted by who can mend it. `cli` alone turns these into words and exit codes."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 400  # characters of one fault of several


class EnvboxError(Exception):
    """A failure that a person can act on.

    :param message: what went wrong, with the value that was wrong; lower case, no full stop
    :param hint: what to do about it, best as a command to run
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(EnvboxError):
    """envbox.toml, [tool.envbox], an ENVBOX_ variable or an option's value is wrong."""


class TrustError(EnvboxError):
    """A project asks for what its user has not allowed."""


class SpecError(EnvboxError):
    """The environment's spec cannot be read, or says something that cannot be."""


class LockfileError(EnvboxError):
    """The lockfile is missing, damaged, of another version, or not what the spec asks for."""


class SolveError(EnvboxError):
    """No set of packages satisfies the spec."""


class NotebookError(EnvboxError):
    """A notebook cannot be read, or is not what its environment has."""


class PackageError(EnvboxError):
    """A package's archive is not what the lock says, or is not safe to use."""


class ImageError(EnvboxError):
    """A base or image is missing, damaged, or not fit for this lock."""


class LaunchError(EnvboxError):
    """A container or the server in it did not start, or died."""


class ToolError(EnvboxError):
    """Something outside envbox failed: the engine, a registry, a channel, the disk."""


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.75) -> str | None:
    """Return a hint with the names that a misspelt one is near to; None when there is none.

    :param cutoff: how alike they must be, from 0 to 1
    """
    import difflib

    near = difflib.get_close_matches(name, list(known), n=3, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}?" if near else None


def listed(head: str, faults: list[str], most: int = 10) -> str:
    """Return several faults as one message: the only one on the head's line, else one below another.

    :param most: more than a screen of them helps nobody, and no more of each than a few lines
    """
    more = len(faults) - most
    shown = [f if len(f) <= _LONGEST else f[: _LONGEST - 3] + "..." for f in faults[:most]]
    shown += [f"and {more} more"] if more > 0 else []
    return f"{head}: {shown[0]}" if len(shown) == 1 else "\n  ".join([f"{head}:", *shown])
