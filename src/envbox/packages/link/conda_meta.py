"""What conda keeps of an installed package, for `conda list -p` and every other tool to read.

The fields are those of rattler's and conda's PrefixRecord, from the archive and the lock alone: nothing of
the machine that linked it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from envbox.lockfile import LockedPackage
from envbox.packages.link.package import PackageInfo, PathEntry

SCRIPT = "unix_python_entry_point"


def record_of(
    final: str, entry: PathEntry, sha256: str | None = None, size: int | None = None
) -> dict[str, Any]:
    """Return one line of paths_data: a file, link or folder of the package.

    :param sha256: of the file as it is in the archive
    """
    record = {
        "_path": final,
        "path_type": entry.kind,
        "sha256": sha256 or entry.sha256,
        "size_in_bytes": entry.size if size is None else size,
        "prefix_placeholder": entry.placeholder,
        "file_mode": entry.mode,
        "no_link": entry.no_link or None,
    }
    return {key: value for key, value in record.items() if value is not None}


def generated_record(final: str, data: bytes, kind: str) -> dict[str, Any]:
    """Return one line of paths_data: a file that linking made.

    :param kind: `pyc_file` or `SCRIPT`
    """
    sha256 = hashlib.sha256(data).hexdigest()
    return {"_path": final, "path_type": kind, "sha256": sha256, "size_in_bytes": len(data)}


def conda_meta(package: LockedPackage, info: PackageInfo, records: Sequence[dict[str, Any]]) -> bytes:
    """Return the record that `conda list -p` reads: of the archive and the lock alone, no path of this
    machine.
    """
    records = sorted(records, key=lambda record: str(record["_path"]))
    meta = {
        **info.index,
        "channel": package.channel + "/",
        "depends": [f"{name} {bound}".strip() for name, bound in sorted(package.depends.items())],
        "files": [record["_path"] for record in records],
        "fn": package.file_name,
        "md5": package.md5,
        "paths_data": {"paths": records, "paths_version": 1},
        "requested_specs": [],
        "sha256": package.sha256,
        "subdir": package.subdir,
        "url": package.url,
    }
    return _dumps({key: value for key, value in meta.items() if value is not None})


def with_records_of(meta: bytes, other: bytes) -> bytes:
    """Return a record, with what another of the same package says of its files: of those that it has."""
    ours, theirs = json.loads(meta), json.loads(other)
    newer = {record["_path"]: record for record in theirs["paths_data"]["paths"]}
    paths = [newer.get(record["_path"], record) for record in ours["paths_data"]["paths"]]
    return _dumps({**ours, "paths_data": {**ours["paths_data"], "paths": paths}})


def depends_on_prefix(meta: bytes) -> set[str]:
    """Return the files of a package that have the prefix's path in them, as its record says; below the
    prefix.
    """
    return {
        record["_path"]
        for record in json.loads(meta)["paths_data"]["paths"]
        if "sha256_in_prefix" in record or record["path_type"] == SCRIPT
    }


def _dumps(meta: Mapping[str, Any]) -> bytes:
    # a line a key: `indent` would make json leave its C encoder, at half the cost of linking small files
    lines = (
        f'"{key}": {json.dumps(value, sort_keys=True, ensure_ascii=False)}'
        for key, value in sorted(meta.items())
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def timestamp_of(info: PackageInfo) -> int:
    """Return when a package was built, in seconds; 0 when it does not say."""
    value = info.index.get("timestamp")
    if not isinstance(value, int | float) or value < 0:
        return 0
    return int(
        value // 1000 if value > 253402300799 else value
    )  # conda: seconds where no year 10000 comes out
