"""An index of conda-forge's size, for benchmarks: no packages, only records, from a seed.

The real channel's names and who needs whom come back with many versions and builds, so that the real specs
can be solved on it; the rest is filler with a few much-used names and a long tail. Written as
`repodata.json`, `.zst` and shards. Runs in the rig's virtual environment.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLATFORMS = ("linux-64", "linux-aarch64", "osx-arm64")
_PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
_BEGIN, _END = 1420070400000, 1767225600000  # 2015 to 2026, in milliseconds
_LICENSES = ("MIT", "BSD-3-Clause", "Apache-2.0", "GPL-3.0-or-later", "LGPL-2.1-or-later", "PSF-2.0", "ISC")
_GLIBC, _MACOS = "__glibc >=2.17,<3.0.a0", "__osx >=11.0"
_MORE = 4  # times the versions that real names have: a jupyterlab solve then sees about 40,000 records
_SYLLABLES = (
    "ba be bi bo da de di do fa fi ga go ka ke ko la le li lo ma me mi mo na ne no pa pe po ra re ri ro sa "
    "se si so ta te ti to va vi xy za zo"
)
_PYTHON_NAMES = {"python", "python_abi", "cpython", "python-gil", "_python_abi3_support"}


@dataclass(slots=True)
class Name:
    """A package: its versions, oldest first, each with its age from 0 (2015) to 1 (2026)."""

    name: str
    kind: str  # python (noarch), extension, library, generic
    depends: tuple[str, ...]
    versions: list[tuple[str, float]] = field(default_factory=list)


class Index:
    """Records as they are made, by subdir; `count` is what one platform sees: its own and noarch."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names: dict[str, Name] = {}
        self.count = 0
        self.subdirs: dict[str, dict[str, dict[str, Any]]] = {
            subdir: {"packages": {}, "packages.conda": {}} for subdir in (*PLATFORMS, "noarch")
        }

    def add(self, record: dict[str, Any], age: float, is_noarch: bool = False) -> None:
        """Add a record to noarch, or to each platform with digests of its own."""
        chance = self.random
        moment = _BEGIN + (_END - _BEGIN) * min(0.999, max(0.0, age)) + chance.randrange(86_400_000)
        kind, ending = ("packages", "tar.bz2") if age < 0.45 else ("packages.conda", "conda")
        file = f"{record['name']}-{record['version']}-{record['build']}.{ending}"
        record.setdefault("size", int(min(4e8, chance.lognormvariate(11.5, 2))))
        record.update(license=chance.choice(_LICENSES), timestamp=int(moment))
        for subdir in ("noarch",) if is_noarch else PLATFORMS:
            digests = {"md5": f"{chance.getrandbits(128):032x}", "sha256": f"{chance.getrandbits(256):064x}"}
            depends = record["depends"]
            if subdir.startswith("osx-"):
                depends = [_MACOS if spec == _GLIBC else spec for spec in depends]
            self.subdirs[subdir][kind][file] = {**record, **digests, "depends": depends, "subdir": subdir}
        self.count += 1

    def hash7(self) -> str:
        """A build string's hash."""
        return f"{self.random.getrandbits(28):07x}"

    def spec(self, name: str, age: float, tight: bool) -> str:
        """A constraint on `name` that held when a package of this age was built."""
        versions = self.names[name].versions
        newest = max(0, bisect.bisect_right([a for _, a in versions], age) - 1)
        lowest = versions[max(0, newest - self.random.randrange(1, 6))][0]
        throw = self.random.random()
        if throw < 0.15:
            return name
        if throw < (0.35 if tight else 0.75):
            return f"{name} >={lowest}"
        major = int(versions[newest][0].split(".")[0]) + 1
        return f"{name} >={lowest},<{major}{'.0a0' if tight else ''}"

    def specs(self, found: Name, age: float, tight: bool) -> list[str]:
        """Constraints on all that a name depends on."""
        return [self.spec(name, age, tight) for name in found.depends]


def generate(total: int, channel: Path, seed: int) -> Index:
    """An index in which each platform sees `total` records.

    :param channel: whose names and dependencies come back
    """
    index = Index(seed)
    _pythons(index)
    for found in _real(channel):
        found.versions = _real_versions(index.random, found)
        index.names[found.name] = found
    real = list(index.names)
    for name in real:
        _records(index, index.names[name])
    popular = list(real)
    while index.count < total:
        found = _filler(index, popular, real)
        index.names[found.name] = found
        popular.append(found.name)
        _records(index, found, total)
    return index


def _pythons(index: Index) -> None:
    libraries = ["bzip2", "libffi", "libsqlite", "libzlib", "ncurses", "openssl", "readline", "tzdata"]
    for number, series in enumerate(_PYTHONS):
        tag = f"cp{series.replace('.', '')}"
        for patch in range(14):
            age = 0.1 + 0.12 * number + patch * 0.012
            for build in range(2 if patch % 3 else 4):
                record = {
                    "name": "python",
                    "version": f"{series}.{patch}",
                    "build": f"h{index.hash7()}_{build}_cpython",
                    "build_number": build,
                    "depends": [*libraries, _GLIBC],
                    "constrains": [f"python_abi {series}.* *_{tag}"],
                    "size": 30_000_000,
                }
                index.add(record, age)
        for build in range(3, 9):
            record = {
                "name": "python_abi",
                "version": series,
                "build": f"{build}_{tag}",
                "build_number": build,
                "depends": [],
                "constrains": [f"python {series}.* *_cpython"],
                "noarch": "generic",
            }
            index.add(record, 0.5, is_noarch=True)


def _real(channel: Path) -> Iterator[Name]:
    """The channel's names, each after those that it depends on; `versions` holds the newest one."""
    graph: dict[str, dict[str, Any]] = {}
    for subdir in ("linux-64", "noarch"):
        data = json.loads((channel / subdir / "repodata.json").read_text(encoding="utf-8"))
        for _, record in sorted(data["packages.conda"].items()):
            if record["name"] in _PYTHON_NAMES:
                continue
            words = {spec.split()[0] for spec in record["depends"]}
            node = graph.setdefault(
                record["name"], {"depends": set(), "python": False, "binary": False, "newest": (0,)}
            )
            node["depends"] |= {word for word in words if not word.startswith("_")} - _PYTHON_NAMES
            node["binary"] |= subdir != "noarch"
            node["python"] |= bool(words & {"python", "cpython"})
            node["newest"] = max(node["newest"], tuple(int(x) for x in re.findall(r"\d+", record["version"])))
    done: set[str] = set()

    def visit(name: str) -> Iterator[Name]:
        if name in done or name not in graph:
            return
        done.add(name)
        node = graph[name]
        for other in sorted(node["depends"]):
            yield from visit(other)
        kinds = {(1, 1): "extension", (1, 0): "library", (0, 1): "python", (0, 0): "generic"}
        kind = kinds[node["binary"], node["python"]]
        depends = tuple(sorted(node["depends"] & done - {name}))
        yield Name(name, kind, depends, [(".".join(map(str, node["newest"][:3])), 1.0)])

    for name in sorted(graph):
        yield from visit(name)


def _real_versions(chance: random.Random, found: Name) -> list[tuple[str, float]]:
    """Many versions that end in the real newest one."""
    wanted = _MORE * chance.choice([12, 20, 30, 45, 70, 110] if "python" in found.kind else [6, 10, 18])
    major, minor, patch = [*map(int, found.versions[0][0].split(".")), 0, 0][:3]
    falling = []
    for _ in range(wanted):
        falling.append(f"{major}.{minor}.{patch}")
        if patch > 0:
            patch -= 1
        elif minor > 0:
            minor, patch = minor - 1, chance.randrange(3 * _MORE)
        elif major > 0:
            major, minor, patch = (
                major - 1,
                chance.randrange(2, 3 + 6 * _MORE),
                chance.randrange(3 * _MORE),
            )
        else:
            break
    return [(v, 0.98 - 0.9 * i / len(falling)) for i, v in enumerate(falling)][::-1]


def _filler(index: Index, popular: Sequence[str], real: Sequence[str]) -> Name:
    """A name that nobody asks for, with a few versions or, seldom, many."""
    chance, syllables = index.random, _SYLLABLES.split()
    name = "".join(chance.choice(syllables) for _ in range(chance.randrange(2, 5)))
    name += chance.choice(["", "", f"-{chance.choice(syllables)}{chance.choice(syllables)}", "py"])
    if name in index.names:
        name += str(len(index.names))
    depends = set()
    for _ in range(chance.choice([0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 12])):
        # three in five from the names that everybody uses
        if chance.random() < 0.6:
            depends.add(real[int(len(real) * chance.random())])
        else:
            depends.add(popular[int(len(popular) * chance.random() ** 3)])
    kind = chance.choices(["python", "extension", "library"], [55, 20, 25])[0]
    count = min(300, max(1, int(chance.paretovariate(0.9) * 2)))
    begin, versions, parts = chance.random() * 0.85, [], [chance.choice([0, 0, 1, 2]), 0, 0]
    for number in range(count):
        place = chance.choices([2, 1, 0], [60, 35, 5])[0]
        parts = [*parts[:place], parts[place] + 1, *[0] * (2 - place)]
        versions.append((".".join(map(str, parts)), begin + (0.98 - begin) * number / count))
    return Name(name, kind, tuple(sorted(depends)), versions)


def _records(index: Index, found: Name, limit: int | None = None) -> None:
    """The records of all versions of a name."""
    is_real = limit is None
    for version, age in found.versions:
        if limit is not None and index.count >= limit:
            return
        for record in _builds(index, found, age, is_real):
            record.update(name=found.name, version=version)
            index.add(record, age, is_noarch="noarch" in record)


def _builds(index: Index, found: Name, age: float, is_real: bool) -> Iterator[dict[str, Any]]:
    """The builds of one version: one, a few, or some for each Python of its time."""
    repeats = index.random.choice([1, 1, 2, 3]) if is_real else 1
    tight = found.kind in ("extension", "library")
    if found.kind == "extension":
        for number, series in enumerate(_PYTHONS):
            born = 0.05 + 0.12 * number
            if not born <= age <= born + 0.55:
                continue
            tag, after = series.replace(".", ""), int(series[2:]) + 1
            python = [f"python >={series},<3.{after}.0a0", f"python_abi {series}.* *_cp{tag}", _GLIBC]
            for build in range(repeats):
                yield {
                    "build": f"py{tag}h{index.hash7()}_{build}",
                    "build_number": build,
                    "depends": [*index.specs(found, age, tight), *python],
                }
        return
    python = [f"python >=3.{max(6, int(6 + age * 4))}"] if found.kind == "python" else []
    for build in range(repeats if tight else 1):
        record: dict[str, Any] = {
            "build": f"h{index.hash7()}_{build}" if tight else f"pyhd8ed1ab_{build}",
            "build_number": build,
            "depends": [*index.specs(found, age, tight), *python, *([_GLIBC] if tight else [])],
        }
        if not tight:
            record["noarch"] = "python" if python else "generic"
        yield record


def write(index: Index, channel: Path) -> None:
    """Write the index in its three forms."""
    import msgpack
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3)
    for subdir, kinds in index.subdirs.items():
        folder = channel / subdir
        (folder / "shards").mkdir(parents=True)
        whole = {"info": {"subdir": subdir}, **kinds, "removed": [], "repodata_version": 1}
        text = json.dumps(whole, separators=(",", ":")).encode()
        (folder / "repodata.json").write_bytes(text)
        (folder / "repodata.json.zst").write_bytes(compressor.compress(text))
        shards: dict[str, dict[str, Any]] = {}
        for kind, records in kinds.items():
            for file, record in records.items():
                digests = {key: bytes.fromhex(record[key]) for key in ("md5", "sha256")}
                shard = shards.setdefault(
                    record["name"], {"packages": {}, "packages.conda": {}, "removed": []}
                )
                shard[kind][file] = {**record, **digests}
        names = {}
        for name, shard in shards.items():
            data = compressor.compress(msgpack.packb(shard))
            names[name] = hashlib.sha256(data).digest()
            (folder / "shards" / f"{names[name].hex()}.msgpack.zst").write_bytes(data)
        info = {"subdir": subdir, "base_url": "", "shards_base_url": "./shards/"}
        info["created_at"] = "2026-01-01T00:00:00Z"
        data = compressor.compress(msgpack.packb({"info": info, "shards": names}))
        (folder / "repodata_shards.msgpack.zst").write_bytes(data)


def build(total: int, channel: Path, seed: int, target: Path) -> int:
    """Make the index in `target`, whole or not at all; return how many records a platform sees."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    index = generate(total, channel, seed)
    write(index, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    return index.count


if __name__ == "__main__":
    _, records_text, seed_text, where = sys.argv[1:]
    made = build(int(records_text), Path(sys.argv[1], "www/conda-forge"), int(seed_text), Path(where))
    print(made, "records")
