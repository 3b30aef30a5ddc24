"""`-r FILE` and `-c FILE` in a `pip:` section: requirement files beside the spec, read as pip reads them.

A path is relative to the file that names it. Whoever wrote a spec can name any file of whoever locks it, and
what is in it would stand in errors and lockfiles: so nothing outside of the project is read, however the path
leads there.

Specification: https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from envbox import files
from envbox.lockfile import pip_name
from envbox.locks.spec.pip_faults import requirement_fault
from envbox.mirrors import shown

_FILE = re.compile(r"(?:(?:-r|-c)[ \t]*=?|(?:--requirement|--constraint)(?:[ \t]+|=))[ \t]*(.+)")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_MEANS_NOTHING = re.compile(  # of wheels that are pinned by their hashes
    r"--(require-hashes|prefer-binary|only-binary|trusted-host|no-cache-dir|disable-pip-version-check)\b"
)
_HASH = re.compile(r"\s--hash[= ]\S+")
_LARGEST = 1 << 18  # bytes
_MOST = 50  # files


@dataclass(frozen=True, slots=True)
class Line:
    """A requirement, and where it stands.

    :param where: the file and line, where that is not the spec; else empty
    """

    text: str
    where: str = ""


@dataclass(slots=True)
class RequirementFiles:
    """What a pip section and the files that it names ask for.

    :param folder: the spec's
    :param faults: in words
    """

    folder: Path
    lines: list[Line] = field(default_factory=list)
    constraints: list[Line] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _open: list[Path] = field(default_factory=list)
    _read: set[tuple[Path, bool]] = field(default_factory=set)

    def add(self, text: str) -> None:
        """Read a line of the section, and what it names."""
        self._add(Line(text), self.folder, is_constraint=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were read."""
        return tuple(sorted({path for path, _ in self._read}))

    def asked(self) -> tuple[str, ...]:
        """Return the requirements, each within the constraints on its project."""
        bounds: dict[str, list[str]] = {}
        for line in self.constraints:
            bounds.setdefault(_name(line.text), []).append(line.text)
        found = [text for line in self.lines for text in _within(line.text, bounds.get(_name(line.text), ()))]
        return tuple(dict.fromkeys(found))

    def idle(self) -> tuple[str, ...]:
        """Return the projects that only constraints name, which then hold for nothing."""
        return tuple(sorted({_name(c.text) for c in self.constraints} - {_name(r.text) for r in self.lines}))

    def _add(self, line: Line, folder: Path, *, is_constraint: bool) -> None:
        if named := _FILE.fullmatch(line.text):
            is_constraint = is_constraint or line.text.startswith(("-c", "--constraint"))
            self._add_file(named[1].strip().strip("'\""), line, folder, is_constraint)
            return
        if line.where and _MEANS_NOTHING.match(line.text):
            return
        if words := requirement_fault(line.text):
            self.faults.append(f"{line.where}{words}")
            return
        (self.constraints if is_constraint else self.lines).append(line)

    def _add_file(self, name: str, line: Line, folder: Path, is_constraint: bool) -> None:
        words, path = self._place(name, folder)
        if path is not None and (path, is_constraint) in self._read and path not in self._open:
            return
        if path is not None and path in self._open:
            words = "includes itself"
        if path is not None and len(self._read) >= _MOST:
            words = f"is one file too many: at most {_MOST} are read"
        if words or path is None:
            self.faults.append(f"{line.where}{shown(line.text)}: {shown(name)} {words}")
            return
        self._read.add((path, is_constraint))
        try:
            text = _decoded(path.read_bytes()[: _LARGEST + 1])
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            self.faults.append(f"{line.where}{shown(line.text)}: {shown(name)} cannot be read: {said}")
            return
        self._open.append(path)
        for number, one in _lines(text):
            self._add(Line(one, f"{name} (line {number}): "), path.parent, is_constraint=is_constraint)
        self._open.pop()

    def _place(self, name: str, folder: Path) -> tuple[str, Path | None]:
        """Return where a file is; or why it is not read."""
        if re.match(r"\w+://|git\+", name):
            return "is not beside the spec; download it, or list the requirements here", None
        root = root_of(self.folder)
        try:
            path = (folder / name).resolve()
            if not path.is_relative_to(root.resolve()):
                return f"lies outside of the project ({root}), where nothing is read; copy it into it", None
            if not path.is_file():
                return "is no file, seen from " + str(folder), None
            if path.stat().st_size > _LARGEST:
                return f"is larger than {_LARGEST} bytes: that is no list of requirements", None
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
            return f"cannot be read: {getattr(error, 'strerror', None) or error}", None
        return "", path


def one_line(text: str) -> str:
    """Return a dependency as it is asked for: to conda, a tab between words is a blank."""
    return text.replace("\t", " ").strip()


def root_of(folder: Path) -> Path:
    """Return the project that a spec's folder belongs to: what is above is not read."""
    return folder.parent if folder.name in ("environments", "binder") else folder


def for_conda_lock(text: str) -> str:
    """Return a requirement as conda-lock's parser takes it: with one hash, before its marker.

    Of several hashes it gets one of them all, since nothing but its own hash is made of that.
    """
    hashes = sorted(found.strip().removeprefix("--hash")[1:] for found in _HASH.findall(text))
    if not hashes:
        return text
    import hashlib

    joined = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    one = hashes[0] if len(hashes) == 1 else f"sha256:{joined}"
    plain, semicolon, marker = _HASH.sub("", text).partition(";")
    return f"{plain.strip()} --hash={one}" + (f"; {marker.strip()}" if semicolon else "")


def _decoded(data: bytes) -> str:
    """Return the text of a requirement file: UTF-8 or UTF-16, or as its first lines say it is encoded.

    :raises ValueError: when it is something else
    """
    for line in data.split(b"\n", 2)[:2]:
        if cookie := _COOKIE.match(line):
            try:
                codecs.lookup(cookie[1].decode())
            except LookupError:
                raise ValueError(f"it says that it is in {cookie[1].decode()}, which is unknown") from None
            return data.decode(cookie[1].decode())
    try:
        return files.decoded(data)
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"it is not UTF-8 text (line {number})") from None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    r"""Yield the lines that say something, with their numbers; what ends in `\` goes on in the next."""
    joined, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        first = first or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            joined += raw[:-1]
            continue
        line = " ".join(_COMMENT.sub("", joined + raw).split())
        if line:
            yield first, line
        joined, first = "", 0
    if line := " ".join(_COMMENT.sub("", joined).split()):
        yield first, line


def _name(text: str) -> str:
    found = re.match(r"[A-Za-z0-9][\w.-]*", text)
    return pip_name(found[0]) if found else ""


def _within(text: str, bounds: Sequence[str]) -> Iterator[str]:
    """Yield a requirement with the constraints on it; those with markers stand by themselves."""
    from packaging.requirements import Requirement

    hashes = "".join(_HASH.findall(text))
    own = Requirement(_HASH.sub("", text))
    more = [Requirement(_HASH.sub("", bound)) for bound in bounds]
    plain = [bound for bound in more if bound.marker is None and not bound.url]
    if own.url or not plain:
        yield text
    else:
        for bound in plain:
            own.specifier &= bound.specifier
        yield str(own) + hashes
    yield from (bound for bound, parsed in zip(bounds, more, strict=True) if parsed.marker is not None)
