"""Debian's packages, of one release for every machine: the mirror, the download, the contents of a .deb.

The rig asks for bookworm whatever this machine runs, so that the channel and the base are the same
everywhere. The mirror is the one this machine's own apt uses; apt works in folders of the rig, with an empty
status, so that nothing of the machine's state is read or changed, and any architecture can be had.
"""

from __future__ import annotations

import copy
import io
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rigging.places import Places
from rigging.state import RigError, write_whole

RELEASE = "bookworm"
ARCHITECTURES = {"linux-64": "amd64", "linux-aarch64": "arm64"}
_SUITES = {
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "stable",
    "testing",
    "unstable",
    "oldstable",
    "oldoldstable",
}
_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """One place that apt fetches from."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str | None = None


def sources(etc: Path = Path("/etc/apt")) -> Iterator[Source]:
    """The machine's own sources, in both of apt's formats, in apt's order."""
    lists = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]
    for path in lists:
        if path.is_file():
            yield from parse_one_line(path.read_text(encoding="utf-8", errors="replace"))
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        yield from parse_deb822(path.read_text(encoding="utf-8", errors="replace"))


def parse_one_line(text: str) -> Iterator[Source]:
    """`deb [options] URI SUITE COMPONENT…`, one a line."""
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if found:
            options = dict(item.partition("=")[::2] for item in (found[1] or "").split())
            yield Source(found[2], found[3], tuple(found[4].split()), options.get("signed-by"))


def parse_deb822(text: str) -> Iterator[Source]:
    """Stanzas of `Key: value`, a blank line between them."""
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = {key.lower(): " ".join(value.split()) for key, value in _fields(stanza)}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        signed_by = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(
                    uri,
                    suite,
                    tuple(fields.get("components", "").split()),
                    signed_by if signed_by.startswith("/") else None,
                )


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"(?m)^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza):
        yield found[1], found[2]


def mirror(found: Iterator[Source]) -> Source:
    """The source that Debian itself comes from.

    :raises RigError: when there is none
    """
    for source in found:
        if source.suite in _SUITES and "main" in source.components:
            return source
    raise RigError(
        "no Debian mirror in this machine's apt sources",
        "the rig takes CPython, libraries and the base image from Debian: it needs Debian 12 or newer",
    )


def native() -> str:
    """Debian's name of this machine's architecture."""
    done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def download(places: Places, architecture: str, packages: Sequence[str]) -> dict[str, Path]:
    """Fetch packages of the release and all that they depend on; by name. Fetches nothing that is there.

    :raises RigError: when apt cannot
    """
    folder = places.debs(architecture)
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    options = _apt_options(places, architecture, RELEASE)
    _apt([*options, "update"])
    _apt([*options, "-y", "--no-install-recommends", "--download-only", "install", *packages])
    return available(places, architecture)


def download_own(places: Places, package: str) -> Path:
    """Fetch one package, without what it depends on, of the release that this machine runs.

    :raises RigError: when apt cannot
    """
    folder = places.debs(native())
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    options = _apt_options(places, native(), mirror(sources()).suite)
    _apt([*options, "update"])
    _apt([*options, "download", package], folder)
    return available(places, native())[package]


def available(places: Places, architecture: str) -> dict[str, Path]:
    """The packages that were downloaded, by name."""
    return {path.name.split("_")[0]: path for path in sorted(places.debs(architecture).glob("*.deb"))}


def _apt_options(places: Places, architecture: str, release: str) -> list[str]:
    root = places.apt(architecture)
    for folder in (root / "state/lists/partial", root / "cache", root / "etc"):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "status").touch()
    source = mirror(sources())
    keyring = source.signed_by or next((str(k) for k in _KEYRINGS if k.exists()), None)
    signed = f" signed-by={keyring}" if keyring else ""
    write_whole(
        root / "etc/sources.list", f"deb [arch={architecture}{signed}] {source.uri} {release} main\n".encode()
    )
    settings = {
        "Dir::Etc::sourcelist": root / "etc/sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": root / "state",
        "Dir::State::status": root / "status",
        "Dir::Cache": root / "cache",
        "Dir::Cache::archives": places.debs(architecture),
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Default-Release": "",
        "APT::Sandbox::User": "root",
        "APT::Install-Suggests": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [item for key, value in settings.items() for item in ("-o", f"{key}={value}")]


def _apt(arguments: Sequence[str], folder: Path | None = None) -> None:
    command = ["apt-get", "-qq", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except FileNotFoundError:
        raise RigError("no apt-get here", "the rig needs Debian 12 or newer") from None
    if done.returncode:
        raise RigError(
            f"apt-get cannot fetch: {done.stderr.strip()[-2000:]}", "is the Debian mirror reachable?"
        )


def fields(deb: Path) -> Mapping[str, str]:
    """The control fields of a .deb."""
    done = subprocess.run(["dpkg-deb", "-f", deb], capture_output=True, text=True, check=True)
    return dict(_fields(done.stdout))


def contents(deb: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The members of a .deb and their data, names without the leading `./`."""
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        for member in tar:
            name = member.name.removeprefix("./").rstrip("/")
            if name and name != ".":
                file = tar.extractfile(member) if member.isreg() or member.islnk() else None
                found = copy.copy(member)  # the original's name is how hard links to it are found
                found.name = name
                yield found, file.read() if file else b""


def upstream_version(version: str) -> str:
    """Debian's version without epoch, revision and repackaging, in characters that conda allows."""
    version = re.sub(r"^\d+:", "", version)
    version = version.rsplit("-", 1)[0] if "-" in version else version
    version = re.sub(r"[.+~](dfsg|ds|deb|git|really).*$", "", version)
    return version.replace("~", "_").replace("+", "_").replace("-", "_")
