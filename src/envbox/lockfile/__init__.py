"""What a lockfile says, whatever format it was read from. One module beside this per format and version.

A `Lock` is complete: every later stage reads it and decides nothing again. Values only; nothing here reads a
file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from envbox.errors import LockfileError


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package for one platform, pinned by hash.

    :param build: conda's build string; None for a wheel
    :param platform: the conda subdir that this entry is locked for (`linux-64`), also when the package is
        noarch
    :param depends: name → version constraint as in the lockfile (`">=1.2,<2 *_cp311"`), sorted by name
    :param url: canonical (never a mirror's), without credentials
    :param sha256: of the archive or wheel, lower-case hex
    :param size: of the archive or wheel, in bytes; None where the channel does not say, or the lock is older
    :param license: as the package's record has it, usually an SPDX expression
    """

    manager: Literal["conda", "pip"]
    name: str
    version: str
    build: str | None
    platform: str
    depends: Mapping[str, str]
    url: str
    sha256: str
    md5: str | None = None
    category: str = "main"
    size: int | None = None
    license: str | None = None

    @property
    def file_name(self) -> str:
        """The archive's or wheel's own file name."""
        return self.url.rsplit("#", 1)[0].rsplit("/", 1)[-1]

    @property
    def subdir(self) -> str:
        """The channel folder the archive lies in: the platform or `noarch` (conda packages)."""
        return self.url.rsplit("/", 2)[-2]

    @property
    def channel(self) -> str:
        """The channel's canonical URL, without a slash at the end (conda packages)."""
        return self.url.rsplit("/", 2)[0]


@dataclass(frozen=True, slots=True)
class Base:
    """The base image a lock was made for.

    :param reference: canonical, with tag (`docker.io/continuumio/miniconda3:25.3.1-1`)
    :param digests: platform → digest of that platform's image manifest (`sha256:…`)
    :param glibc: platform → version of the C library in it (`2.36`)
    """

    reference: str
    digests: Mapping[str, str]
    glibc: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lock:
    """A solved environment for one or more platforms.

    :param name: of the environment; part of the image (prompt, label)
    :param content_hash: platform → conda-lock's hash of what was asked for
    :param channels: canonical URLs or names as in the spec, by priority
    :param sources: spec files, relative to the lockfile's folder
    :param requested: platform → the match specs and requirements that were asked for, as text, sorted
    :param variables: the spec's `variables:`, set in the image
    :param slim: kinds of files that packages are linked without, of `envbox.slim.KINDS`, sorted
    :param digest: `sha256:…` of the lockfile's bytes; what a label or a cache key names
    :param exclude_newer: the time up to which packages were looked at, as text; None: whatever there was
    :param strategy: which of the fitting versions was taken, where not the newest (`lowest-direct`)
    :param virtual: platform → virtual package → version that was assumed of the machine (`__cuda`: `12.4`)
    """

    name: str
    platforms: tuple[str, ...]
    channels: tuple[str, ...]
    content_hash: Mapping[str, str]
    packages: tuple[LockedPackage, ...]
    base: Base | None
    digest: str
    sources: tuple[str, ...] = ()
    requested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    slim: tuple[str, ...] = ()
    exclude_newer: str | None = None
    strategy: str | None = None
    virtual: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def for_platform(self, platform: str) -> tuple[LockedPackage, ...]:
        """Return the packages of one platform, conda's first, then wheels, each sorted by name.

        :raises LockfileError: when the lock has nothing for that platform
        """
        if platform not in self.platforms:
            raise LockfileError(
                f"{self.name} is not locked for {platform}, only for {', '.join(self.platforms)}",
                lock_command(self.name, (*self.platforms, platform)),
            )
        return tuple(
            sorted((p for p in self.packages if p.platform == platform), key=lambda p: (p.manager, p.name))
        )


def plain_lines(data: bytes) -> bytes:
    """Return a lockfile's bytes with the line ends that it was written with, whatever a checkout made of
    them.

    They are what is hashed and what lies in images: so git's `autocrlf` makes no other image.
    """
    return data.replace(b"\r\n", b"\n")


def is_file_name(name: str) -> bool:
    """Return whether an archive's name can be a file's, and leads nowhere else."""
    return name not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f]", name)


def pip_name(name: str) -> str:
    """Return a project's name in the form that indexes compare names in (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lock_command(name: str, platforms: Iterable[str]) -> str:
    """Return the command that locks an environment for these platforms."""
    return f"envbox lock {name} " + " ".join(f"--platform {platform}" for platform in platforms)


def lock_anew() -> str:
    """Return what to do about a lock that is fresh by its spec and cannot be used: `lock` alone would keep
    it.
    """
    return "remove the lockfile (NAME.conda-lock.yml), and run: envbox lock NAME"
