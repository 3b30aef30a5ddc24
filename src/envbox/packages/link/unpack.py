"""Unpacking a lock's packages: each into a folder, as the image has it, or for another place.

What is to be seen elsewhere has another path in some of its files: scripts, configuration, strings in a few
libraries; byte-code has none, since Python puts the file's own in when it imports. A package's record says
which files those are. Only they are linked again, so a new place costs little time and next to no space.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from envbox.files import is_regular, open_file, read_file
from envbox.image_paths import PREFIX
from envbox.packages.link.conda_meta import depends_on_prefix, with_records_of
from envbox.packages.link.folders import (
    Folder,
    FolderWriter,
    VanishedError,
    forget_folder,
    is_there,
    made_folder,
    make_folder,
    new_folder,
    read_folder,
    write_record,
)
from envbox.packages.link.packages import Installation, LinkTask, Maker, link_lock, package_keys
from envbox.packages.link.target import ROOT
from envbox.report import Reporter
from envbox.settings import Settings

_SHEBANG = f"#!{PREFIX}/".encode()


def unpack_packages(
    installation: Installation, settings: Settings, report: Reporter, *, compiled: bool = True
) -> tuple[Folder, ...]:
    """Have a folder of every package of one platform, conflicts settled.

    :param compiled: with the byte-code that the image has
    :raises PackageError: when an archive is damaged, lies, or could do harm
    :raises LockfileError: when byte-code cannot be compiled with what the lock has
    """
    make = make_folder if installation.prefix == PREFIX else _make_elsewhere
    return link_lock(installation, settings, report, Maker(read_folder, make, "unpacking", compiled))


def left_to_compile(installation: Installation, settings: Settings) -> int:
    """Return how many packages of pure Python `unpack_packages` would have to compile."""
    cache = settings.cache_dir
    installation = replace(installation, prefix=PREFIX)  # what that one has need not be compiled again
    missing = (
        package
        for package, key in package_keys(installation, settings)
        if not (is_there(cache, key) or is_regular(cache / "fragments" / f"{key}.json"))
    )
    return sum(p.manager == "pip" or p.subdir == "noarch" or p.name == "python" for p in missing)


def _make_elsewhere(task: LinkTask) -> Folder:
    """Unpack a package for another place than the image's."""
    image = task.as_in_image()
    for folder in (read_folder(task.cache_dir, image.key), None):
        try:
            return _from_image(task, folder or make_folder(image))
        except VanishedError:  # another process had no use for it any more
            continue
        except OSError:  # nor had it, or it is damaged
            if folder:
                forget_folder(folder)
    return _from_image(task, make_folder(image))


def _from_image(task: LinkTask, whole: Folder) -> Folder:
    """Link again what is different from the image's folder, and leave the rest there."""
    sources = {file.path: Path(file.source) for file in whole.files}
    record = _record_path(task, sources)
    said = read_file(sources[record]) if record else b""
    wanted = _different(task, sources, record)
    with new_folder(task) as part:
        out = FolderWriter(part)
        if record and wanted:
            task.excluding(frozenset(whole.paths) - wanted - {record}).link(out)
            _complete(out, part, record, said)
        write_record(part, {"files": out.files, "whole": whole.key})
    return made_folder(task)


def _record_path(task: LinkTask, sources: Mapping[str, Path]) -> str | None:
    """Return where a package's own list of its files is: conda's, or a wheel's."""
    python = task.source.python
    if task.source.package.manager == "conda":
        form = re.compile(rf"{ROOT}/conda-meta/[^/]+\.json")
    elif python:  # what a wheel has of others inside lies deeper
        form = re.compile(rf"{ROOT}/{re.escape(python.site_packages)}/[^/]+\.dist-info/RECORD")
    else:
        return None
    return next(filter(form.fullmatch, sources), None)


def _different(task: LinkTask, sources: Mapping[str, Path], record: str | None) -> frozenset[str]:
    """Return the files that have the path in them, and the byte-code of such sources."""
    if record is None:
        return frozenset()
    if record.endswith(".json"):
        found = {f"{ROOT}/{path}" for path in depends_on_prefix(read_file(sources[record]))}
    else:
        found = {path for path in sources if path.startswith(f"{ROOT}/bin/") and _is_script(sources[path])}
    if python := task.source.python:
        found |= {python.cache_path(path) for path in found if path.endswith(".py")}
    return frozenset(found & sources.keys())


def _is_script(path: Path) -> bool:
    with open_file(path) as file:
        return file.read(len(_SHEBANG)) == _SHEBANG


def _complete(out: FolderWriter, folder: Path, record: str, said: bytes) -> None:
    """Let the record that was written with some files say all that the image's says of the others."""
    number, entry = next((n, entry) for n, entry in enumerate(out.files) if entry[0] == record)
    path = folder / str(number)
    merge = with_records_of if record.endswith(".json") else _with_lines_of
    data = merge(said, path.read_bytes())
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, (stat.st_atime, stat.st_mtime))
    out.files[number] = (*entry[:3], len(data))


def _with_lines_of(record: bytes, other: bytes) -> bytes:
    """Return a wheel's RECORD, with another's lines on files that both have."""
    newer = {line[0]: line for line in csv.reader(io.StringIO(other.decode()))}
    lines = [newer.get(line[0], line) for line in csv.reader(io.StringIO(record.decode()))]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()
