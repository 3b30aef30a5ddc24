"""Which channels, indexes and hosts are usual, and what it is called when a project names others.

On conda.anaconda.org anybody can open a channel, so what is usual is a short list of channels and not that
host. What the user has set is usual too: a channel or an index of his own configuration, and what a mirror
of his own stands in for, if that is one channel and not a whole host. An address in any odd spelling is not
usual, so that none can only look like one that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from envbox.mirrors import Mirrors, public, without_credentials
from envbox.settings import DEFAULT_BASE, DEFAULT_CHANNELS
from envbox.trust import Ask, ask, plain

ALIAS = "https://conda.anaconda.org"
"""Where a channel is that has only a name."""
USUAL_CHANNELS = ("conda-forge", "bioconda", "anaconda", "main", "r", "msys2", "nvidia", "pytorch")
"""Channels that are reviewed by many, or are a vendor's own. To be lengthened with care."""
_USUAL = (
    *(f"{ALIAS}/{name}" for name in USUAL_CHANNELS),
    *(f"https://repo.anaconda.com/pkgs/{name}" for name in ("main", "r", "msys2")),
    *(f"https://repo.prefix.dev/{name}" for name in ("conda-forge", "bioconda")),
    "https://pypi.org/simple",
    "https://files.pythonhosted.org/packages",
)
_DEFAULTS = ("defaults", "nodefaults")  # the first means the channels of repo.anaconda.com; the other none
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_CODED = "%(?:21|2[Bb]|3[Dd]|7[Ee])"  # `!`, `+`, `=` and `~`, as versions have them
_PATH = re.compile(rf"(/(?:[A-Za-z0-9_!+=~-]|{_CODED})(?:[A-Za-z0-9._!+=~-]|{_CODED})*)*/?")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")
_ARCHIVE = re.compile(r"/[^/]+/[^/]+\.(?:conda|tar\.bz2)(?:[?#].*)?$")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>\[\]]+")
_HASH = re.compile(r"\s--hash[= ]\w+$")  # of a requirement, before its colon
_CHANNEL_KEY = re.compile(r"\b(?:channel|url)\s*=+\s*['\"]?([^'\",\]]+)")
_DEFAULT_REPOSITORY = DEFAULT_BASE.partition("/")[2].partition(":")[0]


@dataclass(frozen=True, slots=True)
class Own:
    """What is the user's own, and therefore no ask when a project says it.

    :param mirrors: of the user, without those of the project
    :param addresses: of the user's channels and package indexes
    :param keys: settings that the command line or a variable has the last word on
    """

    mirrors: Mirrors = field(default_factory=Mirrors)
    addresses: tuple[str, ...] = ()
    said: Mapping[str, Any] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()

    @property
    def bases(self) -> frozenset[str]:
        """The images that the user starts from."""
        tables = self.said.get("environments", {}).values()
        said = [self.said.get("base"), *(table.base for table in tables)]
        return frozenset(_image(base) for base in said if base)

    @property
    def known(self) -> list[object]:
        """What makes a difference to what files ask for."""
        return [sorted(self.mirrors.rules.items()), self.addresses, sorted(self.bases)]

    def has(self, address: str) -> bool:
        """Return whether an address is below one of the user's."""
        return self.mirrors.rewrite(address) != address or any(
            address == mine or address.startswith(mine + "/") for mine in self.addresses
        )


def own_of(said: Mapping[str, Any], told: Mapping[str, Any]) -> Own:
    """Return what is the user's own.

    :param said: by the user anywhere
    :param told: by the command line and by variables, which nothing in a file can change
    """
    channels = [channel_address(c) for c in (*DEFAULT_CHANNELS, *said.get("channels", ()))]
    places = [without_credentials(a).rstrip("/") for a in (*channels, *said.get("extra_index_urls", ()))]
    # a mirror of a whole host, such as an organisation's proxy, says nothing of what is on that host
    mirrors = {key: url for key, url in said.get("mirrors", {}).items() if _has_path(key)}
    return Own(Mirrors(mirrors), tuple(places), said, frozenset(told))


def _has_path(prefix: str) -> bool:
    return prefix.partition("://")[2].partition("/")[2].strip("/") != ""


def channel_address(channel: str) -> str:
    """Return where a channel is, by its name or its address."""
    return channel if "://" in channel else f"{ALIAS}/{channel}"


def is_usual(address: str, own: Own) -> bool:
    """Return whether an address, without a login, is one of the usual ones or of the user's own, or below
    it.
    """
    try:
        parts = urlsplit(address)
        odd = parts.scheme != "https" or not re.fullmatch(r"[a-z0-9.-]+", parts.netloc)
    except ValueError:  # its host is none
        return False
    if ".." in parts.path or "\\" in address or "$" in address:
        return False
    if own.has(address):
        return True
    if odd or parts.query or not _PATH.fullmatch(parts.path):
        return False
    return any(f"{parts.scheme}://{parts.netloc}{parts.path}/".startswith(u + "/") for u in _USUAL)


def variables_in(text: str) -> list[str]:
    """Return the names of the variables in a text, as any of those who fill them in reads them."""
    return list(dict.fromkeys(a or b for a, b in _VARIABLE.findall(text)))


def channel_asks(channel: str, own: Own) -> Iterator[Ask]:
    """Yield what a channel asks for, as a spec, a lockfile or a setting names it."""
    if channel in _DEFAULTS or not channel.strip():
        return
    if "://" not in channel and _NAME.fullmatch(channel) and ".." not in channel:
        base = channel.removeprefix("pkgs/")
        if is_usual(f"{ALIAS}/{base}", own):
            return
    yield from address_asks(channel_address(channel), own)


def address_asks(address: str, own: Own) -> Iterator[Ask]:
    """Yield what an address asks for that packages are to come from: its host, and the variables in it."""
    bare = _without_login(address)
    names = variables_in(address)
    place = _place(bare)
    if not is_usual(bare.split("#", 1)[0], own):
        yield ask(f"takes packages from {_shown(place)}", "packages", place)
    for name in names:
        yield ask(f"sends the value of ${plain(name)} to {_shown(place)}", "variable", name, place)


def dependency_asks(text: str, own: Own) -> Iterator[Ask]:
    """Yield what a match spec or a requirement asks for: a channel or an address of its own."""
    for channel in dict.fromkeys(_before_colons(text)):
        yield from channel_asks(re.sub(r"/(noarch|[a-z]+-[a-z0-9]+)$", "", channel), own)
    for found in _CHANNEL_KEY.findall(text):
        yield from channel_asks(found.strip(), own)
    for url in _URL.findall(text):
        yield from address_asks(url.partition("::")[0].rstrip(",;)"), own)


def _before_colons(text: str) -> Iterator[str]:
    """Yield what may be a channel: readers differ in what it may be, and take CHANNEL:NAMESPACE:NAME, too."""
    places = [found.start() for found in re.finditer(":", text)]
    for place in places[:-1]:
        channel, rest = text[:place].strip(), text[place + 1 :]
        is_address = rest.startswith("//") or ("://" in channel and not rest.startswith(":"))
        if not is_address and ("$" in channel or not _HASH.search(channel)):
            yield channel.rstrip(":")


def mirror_asks(prefix: str, target: str, own: Own) -> Iterator[Ask]:
    """Yield what a mirror asks for."""
    if own.said.get("mirrors", {}).get(prefix) == target:
        return
    place = _without_login(target)
    words = f"fetches from {_shown(place)} what belongs to {_shown(_without_login(prefix))}"
    yield ask(words, "mirror", prefix, target)
    for name in variables_in(target):
        yield ask(f"sends the value of ${plain(name)} to {_shown(place)}", "variable", name, place)


def base_asks(reference: str | None, own: Own) -> Iterator[Ask]:
    """Yield what a base image asks for: any other than the default's, or the user's."""
    if reference is None:
        return
    name = _image(reference)
    if name in own.bases:
        return
    if re.fullmatch(rf"{re.escape(_DEFAULT_REPOSITORY)}(:[\w.-]+)?(@sha256:[0-9a-f]{{64}})?", name):
        return
    yield ask(f"starts from the image {plain(name)}", "base", name)


def _image(reference: str) -> str:
    """Return the same image by one name, however much of Docker Hub's own is written out."""
    return reference.removeprefix("docker.io/").removeprefix("library/")


def _place(address: str) -> str:
    """Return what is listed of an address: the channel of an archive, the host of another file, else
    itself.
    """
    if _ARCHIVE.search(address):
        return _ARCHIVE.sub("", address)
    if re.search(r"\.(whl|zip|tar\.gz)([?#].*)?$", address):
        scheme, _, rest = address.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}"
    return address.rstrip("/")


def _without_login(address: str) -> str:
    """Return an address without user and token, also where these are variables, and where it is none."""
    if "://" not in address:
        return address.rpartition("@")[2]
    try:
        return without_credentials(address)
    except ValueError:
        return address


def _shown(address: str) -> str:
    return plain(public(address) if "://" in address else address)
