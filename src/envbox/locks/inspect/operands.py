"""What is compared with what: words on a command line → pairs of locks.

A word is an environment's name, a lockfile, a git revision or an image, looked for in that order, so that the
names of the project mean what they always mean. What a word leaves open, the other one says: an environment
and a revision are that environment then; a revision alone is all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from envbox.errors import LockfileError, ToolError
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import read_lockfile
from envbox.lockfile.formats import is_spec, read_any
from envbox.locks.inspect.revisions import HEAD, commit_of, locks_at, read_at, top_of
from envbox.project import Environment, Project, environment_at, is_reference

HERE = "working tree"
REGISTRY = "docker://"
_ID = re.compile(r"[0-9a-f]{12,64}")
_RANGE = re.compile(r"(.*[^.])?\.\.([^./].*)?")

ReadImage = Callable[[str], bytes]
"""Gives the lockfile inside an image."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two.

    :param label: where it is from, for people
    :param lock: None: there is no lockfile there
    """

    label: str
    lock: Lock | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two locks to compare.

    :param name: the environment's
    """

    name: str
    old: Side
    new: Side


@dataclass(frozen=True, slots=True)
class _At:
    """A revision, of whichever file is meant."""

    label: str
    top: Path
    commit: str | None

    def side(self, path: Path) -> Side:
        data = read_at(self.top, self.commit, path) if self.commit else None
        return Side(self.label, read_any(data, Path(f"{self.label}:{path.name}")) if data else None)


@dataclass(frozen=True, slots=True)
class _File:
    """A lockfile in the working tree, which need not be there.

    :param is_named: by the environment, whose lock may be missing; else by its path
    """

    label: str
    path: Path
    is_named: bool

    def side(self, *, must_be: bool) -> Side:
        if self.is_named and not must_be and not self.path.is_file():
            return Side(HERE, None)
        if not self.path.is_file():
            read_lockfile(self.path)  # says in words that there is none
        return Side(self.label if must_be else HERE, read_any(_bytes(self.path), self.path))


Word = _At | _File | Side


def find_pairs(words: Sequence[str], project: Project, here: Path, read_image: ReadImage) -> tuple[Pair, ...]:
    """Give what is compared with what, the older first.

    :param words: none (HEAD and the working tree), one or two
    :param here: what a path is relative to
    :raises LockfileError: when a word means nothing, or a lockfile is missing or damaged
    :raises EnvboxError: when an image cannot be read, or there is no repository
    """
    if len(words) == 1 and (found := _RANGE.fullmatch(words[0])) and not (here / words[0]).exists():
        words = (found[1] or HEAD, found[2] or HEAD)
    known = [_find(word, project, here, read_image) for word in words]
    match known:
        case []:
            pairs = _all(_head(project.root), None, project)
        case [_At() as at]:
            pairs = _all(at, None, project)
        case [_File() as file]:
            pairs = iter([_pair(_head(file.path.parent).side(file.path), file.side(must_be=False))])
        case [Side() as image]:
            pairs = iter([_pair(image, _counterpart(image, project).side(must_be=True))])
        case [_At() as at, _At() as later]:
            pairs = _all(at, later, project)
        case [_At() as at, other]:
            pairs = iter([_pair(at.side(_path(other, project)), _side(other, must_be=False))])
        case [other, _At() as at]:
            pairs = iter([_pair(_side(other, must_be=False), at.side(_path(other, project)))])
        case _:
            old, new = (_side(word, must_be=True) for word in known)
            pairs = iter([_pair(old, new)])
    compared = tuple(pair for pair in pairs if pair.old.lock or pair.new.lock)
    if not compared:
        raise LockfileError("nothing is locked on either side", "envbox lock")
    return compared


# --- what a word is -----------------------------------------------------------------------------------------


def _find(word: str, project: Project, here: Path, read_image: ReadImage) -> Word:
    for environment in project.environments:
        if environment.name == word:
            return _file(environment)
    if (here / word).is_file():
        path = Path(os.path.abspath(here / word))  # noqa: PTH100  # `..` must go, symlinks stay
        if is_spec(path):
            return _File(word, environment_at(path, is_spec=True).lock_path, is_named=False)
        return _File(word, path, is_named=False)
    is_image = word.startswith(REGISTRY) or is_reference(word) or "/" in word or bool(_ID.fullmatch(word))
    top = None if word.startswith(REGISTRY) else _top(project.root, is_needed=not is_image)
    if top and (commit := commit_of(project.root, word)):
        return _At(word, top, commit)
    if is_image:
        return Side(word, read_any(read_image(word), Path(word)))
    names = ", ".join(environment.name for environment in project.environments)
    raise LockfileError(
        f"{word} is no environment here, no lockfile and no git revision",
        f"there is {names}; an image is named with its tag: {word}:latest" if names else None,
    )


def _top(folder: Path, *, is_needed: bool) -> Path | None:
    """Return the repository's root; where a word can be something else, no git is no matter."""
    try:
        return top_of(folder)
    except ToolError:
        if is_needed:
            raise
        return None


def _file(environment: Environment) -> _File:
    return _File(environment.name, environment.foreign or environment.lock_path, is_named=True)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LockfileError(f"cannot read the lockfile {path}: {error.strerror}") from error


def _head(folder: Path) -> _At:
    top = top_of(folder)
    if top is None:
        raise LockfileError(
            f"{folder} is in no git repository, so there is nothing to compare with",
            "name two lockfiles, environments or images: envbox diff A B",
        )
    return _At(HEAD, top, commit_of(folder, HEAD))  # without a commit, there was nothing before


# --- what goes with what ------------------------------------------------------------------------------------


def _all(old: _At, new: _At | None, project: Project) -> Iterator[Pair]:
    """Yield every environment of a revision and of another, or of the working tree."""
    files = {file.path: file for file in map(_file, project.environments)}
    for at in filter(None, (old, new)):
        for path in locks_at(project.root, at.commit) if at.commit else ():
            files.setdefault(path, _File(path.name, path, is_named=True))
    for path, file in sorted(files.items()):
        yield _pair(old.side(path), new.side(path) if new else file.side(must_be=False))


def _side(word: Word, *, must_be: bool) -> Side:
    if isinstance(word, _File):
        return word.side(must_be=must_be)
    assert isinstance(word, Side)
    return word


def _path(word: Word, project: Project) -> Path:
    """Return which file of a revision is meant beside this."""
    return word.path if isinstance(word, _File) else _counterpart(word, project).path


def _counterpart(word: Word, project: Project) -> _File:
    """Return the environment that an image was made of: it has the same name."""
    assert isinstance(word, Side)
    assert word.lock
    for environment in project.environments:
        if environment.name == word.lock.name:
            return _file(environment)
    raise LockfileError(
        f"{word.label} is of an environment {word.lock.name}, which is not here",
        f"name what to compare it with: envbox diff {word.label} NAME",
    )


def _pair(old: Side, new: Side) -> Pair:
    lock = new.lock or old.lock
    return Pair(lock.name if lock else "", old, new)
