"""An image's name, parsed: `docker.io/continuumio/miniconda3:25.3.1-1`, and where its registry answers.

The grammar, and Docker Hub's special cases, are those of https://github.com/distribution/reference.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from envbox.errors import ImageError
from envbox.mirrors import Mirrors
from envbox.oci import Digest, parse_digest

DOCKER_HUB = "docker.io"
HUB_NAMES = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
_HUB_HOST = "registry-1.docker.io"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's canonical name. Where there is a digest, it decides and the tag is only for people."""

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a repository is really asked for: its mirror, or itself.

    :param url: scheme and host of the API, without a slash at the end
    :param repository: as it is called there
    :param user: with its password, when the mirror is set with them
    """

    host: str
    url: str
    repository: str
    user: str = ""
    password: str = field(default="", repr=False)


def parse_reference(text: str) -> Reference:
    """Parse `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`; Docker Hub and `latest` are what is not said.

    :raises ImageError: when it is not an image's name
    """
    rest, _, digest = text.partition("@")
    first, slash, remainder = rest.partition("/")
    if slash and (re.search(r"[.:]", first) or first == "localhost"):
        registry, path = first, remainder
    else:
        registry, path = DOCKER_HUB, rest
    repository, colon, tag = path.partition(":")
    if registry in HUB_NAMES:
        registry = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    if not (
        _REGISTRY.fullmatch(registry)
        and _REPOSITORY.fullmatch(repository)
        and (_TAG.fullmatch(tag) or not colon)
        and bool(digest) == ("@" in text)
    ):
        lower = text.lower()
        hint = f"did you mean {lower}?" if lower != text and "://" not in text else None
        raise ImageError(
            f"{text!r} is not an image's name",
            hint or "image names look like docker.io/continuumio/miniconda3:25.3.1-1",
        )
    return Reference(
        registry, repository, tag or (None if digest else "latest"), parse_digest(digest) if digest else None
    )


def endpoint(reference: Reference, mirrors: Mirrors) -> Endpoint:
    """Return where to ask for a reference. https, but for a host on this machine and a mirror that says
    http://.
    """
    address = mirrors.rewrite(reference.name)
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    authority, _, repository = rest.partition("/")
    login, _, host = authority.rpartition("@")
    user, _, password = login.partition(":")
    if not scheme:
        scheme = "http" if is_loopback(host) else "https"
    api_host = _HUB_HOST if host in HUB_NAMES else host
    return Endpoint(host, f"{scheme}://{api_host}", repository, unquote(user), unquote(password))


def push_endpoint(reference: Reference, mirrors: Mirrors) -> Endpoint:
    """Return where to push a reference: the very registry that it names.

    Mirrors are for reading. Only one that says how the same host is spoken to (plain http) counts here.
    """
    mirrored = endpoint(reference, mirrors)
    return mirrored if mirrored.host == reference.registry else endpoint(reference, Mirrors())


def is_loopback(host: str) -> bool:
    """Return whether a host (with or without a port) is this machine by its very name."""
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
