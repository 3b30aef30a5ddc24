"""Every file of an image held against what its own packages list, without making anything.

conda's records (`conda-meta/*.json`) have a hash for each file as it lies in the prefix, and so has a wheel's
RECORD; what belongs to no package is computed from the lockfile inside. So damage, and whatever somebody
changed, added or removed by hand, is found in the time it takes to read the image. Who changes the records as
well is not found: only making the image anew (`rebuild`) does that.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from envbox.documents import read_json
from envbox.errors import ImageError, LockfileError
from envbox.image_paths import LOCK_LABEL
from envbox.images.saved import SavedImage
from envbox.images.saved_tree import ImageTree, tree_of
from envbox.images.verify.compare import FileDifference
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import loads
from envbox.oci import Digest, digest_of
from envbox.packages.activation import LOCKFILE, environment_files, is_variables_file, read_activation
from envbox.packages.link.entries import EXECUTABLE, PLAIN
from envbox.packages.link.fragments import FileEntry
from envbox.packages.link.tar import DIRECTORY, FILE, SYMLINK
from envbox.packages.link.target import ROOT
from envbox.project import LOCK_SUFFIX

ENVIRONMENT = "(environment)"
"""Who has the files that are envbox's own: activation, the lockfile, conda's history."""

_LOCKFILE = LOCKFILE.lstrip("/")
_RECORD = re.compile(rf"{ROOT}/conda-meta/([^/]+)\.json")
_WHEEL = re.compile(rf"{ROOT}/lib/[^/]+/site-packages/([^/]+)\.dist-info/RECORD")
_EMPTY = hashlib.sha256().hexdigest()  # what conda-build lists for a link to a folder, or to nothing
_LONGEST_CHAIN = 40  # of links; Linux's own limit
_USUAL = {FILE: (EXECUTABLE, PLAIN), DIRECTORY: (EXECUTABLE,), SYMLINK: (0o777,)}


@dataclass(frozen=True, slots=True)
class ContentCheck:
    """What checking came to.

    :param checked: files whose content a package lists, or envbox knows
    :param unlisted: files that a package has without a hash for them (byte-code of wheels, mostly)
    """

    image: str
    id: Digest
    checked: int
    unlisted: int
    differences: tuple[FileDifference, ...]

    @property
    def is_identical(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def is_listing(path: str) -> bool:
    """Return whether a file (relative to `/`) has to be read, to know what others should be."""
    return (
        path == _LOCKFILE
        or bool(_RECORD.fullmatch(path) or _WHEEL.fullmatch(path))
        or is_variables_file(path)
    )


def verify_content(saved: SavedImage) -> ContentCheck:
    """Check an image that was read with the hash of every file, keeping what `is_listing`.

    :raises ImageError: when it has no environment of envbox's
    """
    checking = _Checking(saved, tree_of(saved))
    checking.run()
    differences = sorted(checking.differences, key=lambda d: (d.path, d.field))
    return ContentCheck(saved.name, saved.id, checking.checked, checking.unlisted, tuple(differences))


@dataclass
class _Checking:
    saved: SavedImage
    tree: ImageTree
    differences: list[FileDifference] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    checked: int = 0
    unlisted: int = 0

    def run(self) -> None:
        lock = self._lock()
        records = dict(self._records())
        if lock:
            self._against_lock(lock, records)
        for path, record in records.items():
            self.owners[path] = str(record.get("name"))
            lines = (record.get("paths_data") or {}).get("paths") or []
            self._conda_package(str(record.get("name")), lines)
        for path, data in self.tree.kept.items():
            if (found := _WHEEL.fullmatch(path)) and path not in self.owners:
                self._wheel("pip:" + found[1].rpartition("-")[0].lower(), path, data.decode())
        if lock:
            self._environment(lock)
        self._nobody()
        self._rules()

    def _lock(self) -> Lock | None:
        data = self.tree.kept.get(_LOCKFILE)
        if data is None:
            raise ImageError(f"there is no lockfile in {self.saved.name}: it was not made by envbox")
        said = self.saved.labels.get(LOCK_LABEL)
        if said != digest_of(data):
            self._differs(_LOCKFILE, "content", str(said), digest_of(data), ENVIRONMENT)
        try:
            return loads(data, Path(f"image{LOCK_SUFFIX}"))
        except LockfileError as error:
            self._differs(_LOCKFILE, "content", "a lockfile", error.message, ENVIRONMENT)
            return None

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for path, data in self.tree.kept.items():
            if not _RECORD.fullmatch(path):
                continue
            try:
                record = read_json(data)
                if not isinstance(record, dict):
                    raise TypeError
                yield path, record
            except (ValueError, TypeError):
                self._differs(path, "content", "a record of conda's", "something else", None)
                self.owners[path] = "?"

    def _against_lock(self, lock: Lock, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Check that each conda package of the lock has its record, of the archive that is locked, and no
        other has.
        """
        wanted = {
            f"{ROOT}/conda-meta/{p.name}-{p.version}-{p.build}.json": p
            for p in lock.for_platform(self.saved.platform)
            if p.manager == "conda"
        }
        for path, package in wanted.items():
            if path not in self.tree.entries:
                self._differs(path, "missing", f"sha256 {package.sha256}", "", package.name)
            elif path in records and records[path].get("sha256") != package.sha256:
                said = str(records[path].get("sha256"))
                self._differs(path, "content", f"of the archive {package.sha256}", f"of {said}", package.name)
        for path in records.keys() - wanted.keys():
            self._differs(path, "extra", "", "a package that is not locked", str(records[path].get("name")))

    def _conda_package(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        links: list[tuple[str, str | None]] = []
        listed: dict[str, set[str]] = {}
        for line in lines:
            path, sha256 = f"{ROOT}/{line['_path']}", line.get("sha256")
            self.owners[path] = name
            if line.get("path_type") == "softlink":
                links.append((path, sha256))
            elif line.get("path_type") == "directory":
                self.checked += self._is_there(path, DIRECTORY, "a directory", name)
            else:
                listed.setdefault(str(sha256), set()).add(path)
                self._file(path, line.get("sha256_in_prefix") or sha256, line.get("size_in_bytes"), name)
        files = {path for paths in listed.values() for path in paths}
        for path, sha256 in links:
            expected = listed.get(sha256, set()) if sha256 and sha256 != _EMPTY else set()
            self._link(path, expected, files, name)

    def _file(self, path: str, sha256: str | None, size: int | None, name: str) -> None:
        if not self._is_there(path, FILE, f"{size} bytes, sha256 {sha256}", name):
            return
        entry = self.tree.entries[path]
        if sha256 is None:
            self.unlisted += 1
            return
        self.checked += 1
        if entry.sha256 != sha256:
            self._differs(
                path,
                "content",
                f"{size} bytes, sha256 {sha256}",
                f"{entry.size} bytes, sha256 {entry.sha256}",
                name,
            )

    def _link(self, path: str, expected: set[str], files: set[str], name: str) -> None:
        """Check a link: its target is listed nowhere; the hash of what it led to when the package was made
        is.

        That tells only where it led within its own package: others may have been of another version then.

        :param expected: the package's files that have that hash
        :param files: all of the package's
        """
        if not self._is_there(path, SYMLINK, "a symlink", name):
            return
        target, end = self.tree.entries[path].link, self._end(path, files)
        if end != ROOT and not end.startswith(f"{ROOT}/"):
            self._differs(path, "link target", "inside the prefix", target, name)
        elif expected and end not in expected:
            self._differs(path, "link target", f"leads to /{min(expected)}", target, name)
        self.checked += bool(expected)
        self.unlisted += not expected

    def _end(self, path: str, files: set[str]) -> str:
        """Return where a chain of links ends: at a file of the package, whatever is there now, or at no
        link.
        """
        for _ in range(_LONGEST_CHAIN):
            entry = self.tree.entries.get(path)
            if entry is None or entry.kind != SYMLINK or path in files:
                break
            path = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), entry.link)).lstrip("/")
        return path

    def _wheel(self, name: str, record: str, text: str) -> None:
        site_packages = record.rsplit("/", 2)[0]
        for row in csv.reader(text.splitlines()):
            path = posixpath.normpath(posixpath.join(site_packages, row[0]))
            if path in self.owners:
                continue  # a conda package has that path now
            self.owners[path] = name
            algorithm, _, value = row[1].partition("=")
            sha256 = base64.urlsafe_b64decode(value + "==").hex() if algorithm == "sha256" else None
            self._file(path, sha256, int(row[2]) if row[2] else None, name)

    def _environment(self, lock: Lock) -> None:
        """Check what belongs to the environment, a function of the lock, by making it again in memory."""
        said = self.saved.labels.get("org.opencontainers.image.created") or self.saved.document.get("created")
        created = int(datetime.fromisoformat(str(said)).timestamp())
        variables = {p: d for p, d in self.tree.kept.items() if is_variables_file(p) and p in self.owners}
        platform, data = self.saved.platform, self.tree.kept[_LOCKFILE]
        activation = read_activation(lock, self.owners, variables)
        for path, entry in environment_files(lock, platform, data, activation, created).items():
            name = path.rstrip("/")
            self.owners[name] = ENVIRONMENT
            assert isinstance(entry, FileEntry)
            if path.endswith("/"):
                if self._is_there(name, DIRECTORY, "a directory", ENVIRONMENT):
                    self._mode(name, (entry.mode,))
                continue
            self._file(path, hashlib.sha256(entry.data).hexdigest(), len(entry.data), ENVIRONMENT)

    def _nobody(self) -> None:
        folders = {str(parent) for path in self.owners for parent in Path(path).parents}
        for path, entry in self.tree.entries.items():
            if path not in self.owners and not (entry.kind == DIRECTORY and path in folders):
                self._differs(path, "extra", "", f"{entry.size} bytes, sha256 {entry.sha256}", None)
        for path in self.tree.removed:
            self._differs(path, "missing", "what the base has there", "", "(base)")

    def _rules(self) -> None:
        """Check what holds for every entry that envbox writes."""
        for path, entry in self.tree.entries.items():
            owner = self.owners.get(path)
            if entry.owner != (0, 0):
                self._differs(path, "owner", "0:0", f"{entry.owner[0]}:{entry.owner[1]}", owner)
            if not (owner == ENVIRONMENT and entry.kind == DIRECTORY):
                self._mode(path, _USUAL.get(entry.kind, ()))

    def _mode(self, path: str, usual: tuple[int, ...]) -> None:
        mode = self.tree.entries[path].mode
        if mode not in usual:
            expected = " or ".join(f"{m:04o}" for m in usual)
            self._differs(path, "mode", expected, f"{mode:04o}", self.owners.get(path))

    def _is_there(self, path: str, kind: bytes, expected: str, name: str) -> bool:
        entry = self.tree.entries.get(path)
        if entry is None:
            self._differs(path, "missing", expected, "", name)
        elif entry.kind != kind:
            self._differs(path, "kind", expected, f"type {entry.kind.decode()}", name)
        return entry is not None and entry.kind == kind

    def _differs(self, path: str, what: str, expected: str, found: str, package: str | None) -> None:
        self.differences.append(FileDifference(f"/{path}", what, expected, found, package))
