"""What of the host a container gets: folders, ports, limits, as people write them and the client takes them.

A folder becomes a `--mount`, which unlike `-v` takes paths with a colon and does not make a missing folder as
root; its value is one line of CSV. https://docs.docker.com/engine/storage/bind-mounts/
"""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from envbox.errors import LaunchError

_VOLUME = re.compile(r"(?P<source>.+?):(?P<target>/[^:]*)(?::(?P<options>[A-Za-z,]+))?", re.DOTALL)
_NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PORT = re.compile(
    r"(?:(?P<address>\[[0-9A-Fa-f:.]+\]|\d+\.\d+\.\d+\.\d+):)?"
    r"(?:(?P<host>\d+(?:-\d+)?):)?(?P<container>\d+(?:-\d+)?)(?P<protocol>/(?:tcp|udp|sctp))?"
)
# docker/go-units' RAMInBytes, and --cpus
_SIZE = re.compile(r"(\d+(\.\d*)?|\.\d+) ?([kmgtp]?i?b?)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"  # noqa: S104  # where somebody asked for it


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder of the host at a path in the container."""

    source: Path
    target: str
    read_only: bool = False

    def argv(self) -> tuple[str, ...]:
        """Return the client's words for it."""
        line = io.StringIO()
        fields = ["type=bind", f"source={self.source}", f"target={self.target}"]
        # the usual line end: without one, a field that has a line end in it would not be quoted
        csv.writer(line, lineterminator="\r\n").writerow(fields + ["readonly"] * self.read_only)
        return ("--mount", line.getvalue().removesuffix("\r\n"))


@dataclass(frozen=True, slots=True)
class Volume:
    """What the engine itself keeps (`data:/data`), or a folder with options that only it knows (`:z`)."""

    text: str

    def argv(self) -> tuple[str, ...]:
        """Return the client's words for it."""
        return ("--volume", self.text)


def said(key: str, text: str, table: str | None) -> str:
    """Return a value and where it came from, as a message begins.

    :param table: the table of the settings that it stands in, None for the command line
    """
    return f"--{key.replace('_', '-')} {text}" if table is None else f"{key} {text} in [{table}]"


def split_volume(text: str) -> tuple[str, str, str] | None:
    """Give the source, the target and the options of a volume as people write it; None where it is none."""
    match = _VOLUME.fullmatch(text)
    return (match["source"], match["target"], match["options"] or "rw") if match else None


def is_named(source: str) -> bool:
    """Return whether a volume's source is one that the engine keeps, and no path."""
    return _NAMED.fullmatch(source) is not None


def parse_volume(text: str, folder: Path, table: str | None = None) -> Bind | Volume:
    """Read `HOST:CONTAINER[:ro]` or `NAME:CONTAINER[:ro]`.

    :param folder: what a relative host path starts from
    :param table: as `said` takes it
    :raises LaunchError: when it is neither, or the host path is not there
    """
    parts = split_volume(text)
    if parts is None:
        raise LaunchError(
            f"{said('volume', text, table)}: not a volume",
            "write HOST:CONTAINER[:ro] with an absolute path in the container",
        )
    source, target, options = parts
    if is_named(source):
        return Volume(text)
    path = Path(os.path.normpath(folder / Path(source).expanduser()))
    if not path.exists():
        raise LaunchError(
            f"{said('volume', text, table)}: there is no {path}",
            f"mkdir -p '{path}', or name another folder",
        )
    if set(options.split(",")) <= {"ro", "rw"}:
        return Bind(path, target, read_only="ro" in options.split(","))
    return Volume(f"{path}:{target}:{options}")


def is_loopback(address: str) -> bool:
    """Return whether an address is of this machine alone."""
    try:
        return ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_port(text: str, table: str | None = None, *, public: bool = False) -> str:
    """Read `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]` into what the client publishes: on loopback unless told.

    :param table: as `said` takes it
    :param public: whether it may be, and by default is, for other machines
    :raises LaunchError: when it is not that, or a setting opens it to other machines and nobody else does
    """
    match = _PORT.fullmatch(text)
    numbers = re.findall(r"\d+", f"{match['host'] or ''} {match['container']}") if match else ["0"]
    if match is None or not all(0 < int(number) < 65536 for number in numbers):
        raise LaunchError(
            f"{said('port', text, table)}: not a port", "write [HOST:]CONTAINER, such as 8000 or 9000:8000"
        )
    address, container = match["address"] or (ANY if public else LOOPBACK), match["container"]
    if table is not None and not public and not is_loopback(address):
        raise LaunchError(
            f"{said('port', text, table)}: a setting opens no port to other machines",
            f"leave {address} out, or open the ports on the command line: --public",
        )
    return f"{address}:{match['host'] or container}:{container}{match['protocol'] or ''}"


def parse_memory(text: str, table: str | None = None) -> str:
    """Read a size as the client takes it: a number with b, k, m or g behind it; 0 is no limit.

    :param table: as `said` takes it
    :raises LaunchError: when it is not that
    """
    if not _SIZE.fullmatch(text):
        raise LaunchError(
            f"{said('memory', text, table)}: not a size",
            "write a number with b, k, m or g, such as 512m or 4g",
        )
    return text


def parse_cpus(text: str, table: str | None = None) -> str:
    """Read a number of CPUs; 0 is no limit.

    :param table: as `said` takes it
    :raises LaunchError: when it is not that
    """
    if not _NUMBER.fullmatch(text):
        raise LaunchError(f"{said('cpus', text, table)}: not a number of CPUs", "write one such as 2 or 1.5")
    return text
