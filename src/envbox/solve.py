"""The solve: match specs → packages, for all platforms at once, with py-rattler.

Two difficulties. The environment will run in a container, so what stands for the system (`__glibc` and its
kind) is the base image's and never this machine's. And what is locked should stay: the records of the
packages that are locked are looked up in the channels again and given to the solver as its preference, so
that a package that has gone, or no longer fits, moves, and nothing else does.

Rules: conda's channel priority "strict"; virtual packages are
https://github.com/conda/ceps/blob/main/cep-0030.md
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from posixpath import expandvars
from typing import Any, TypeVar
from urllib.parse import unquote

from envbox.errors import EnvboxError, SolveError, SpecError, ToolError
from envbox.lockfile import Base, LockedPackage
from envbox.mirrors import without_credentials
from envbox.settings import Settings

DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""What conda means by the channel `defaults` on Linux and macOS."""
LINUX = "5.10"  # conda-lock's own assumption; no package is known that asks for more
MACOS = "13.0"
TIMEOUT = 300  # seconds for one answer of a channel
_ARCHSPEC = {"64": "x86_64", "32": "x86"}  # other platforms' second half is the name itself
_CAUSE = "Caused by: "
_ARCHIVE_URL = re.compile(
    r"(?P<channel>\w+://.+)/[^/]+/(?P<name>[^/]+)-(?P<version>[^/-]+)-(?P<build>[^/-]+)\.(?:conda|tar\.bz2)(?:#.*)?"
)
_ROUNDS = 8  # of letting go; then all at once
_MOST_LINES = 30  # of a solver's tree; what clashes stands in the first few

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the solver for one platform.

    :param virtual: names of virtual packages → their version and build
    :param locked: to be kept where they still fit
    """

    platform: str
    specs: tuple[str, ...]
    virtual: Mapping[str, tuple[str, str]]
    locked: tuple[LockedPackage, ...] = ()


def virtual_packages(platform: str, base: Base | None) -> dict[str, tuple[str, str]]:
    """What the system that an environment will run in offers, by the name of the virtual package."""
    system, _, architecture = platform.partition("-")
    found = {"__archspec": ("1", _ARCHSPEC.get(architecture, architecture))}
    if system == "win":
        return found | {"__win": ("0", "0")}
    found["__unix"] = ("0", "0")
    if system == "osx":
        return found | {"__osx": (MACOS, "0")}
    found["__linux"] = (LINUX, "0")
    if base is not None and platform in base.glibc:
        found["__glibc"] = (base.glibc[platform], "0")
    return found


def solve(
    questions: Sequence[Question], channels: Sequence[str], settings: Settings
) -> dict[str, tuple[LockedPackage, ...] | SolveError]:
    """Solve all questions at once; each platform's answer is its packages, or why there is none.

    :raises SpecError: when a channel does not exist
    :raises ToolError: when a channel cannot be reached
    """
    _bound_arenas()
    return _run(_solve(questions, channels, settings))


def parse_match_spec(text: str) -> Any:
    """Give rattler's MatchSpec of a checked text, with conda's meaning of `defaults::` and of a URL.

    rattler takes a URL as a package outside of any channel, fetches it, and gives no hash; to conda it names
    a record.
    """
    from rattler import MatchSpec

    url = _ARCHIVE_URL.fullmatch(text)
    if url:
        name, version, build = (unquote(url[part]) for part in ("name", "version", "build"))
        return MatchSpec(f"{url['channel']}::{name} =={version} {build}")
    return MatchSpec(re.sub(r"^(defaults|pkgs/main)::", DEFAULTS[0] + "::", text))


def sources(channels: Iterable[str], specs: Iterable[str]) -> list[str]:
    """The channels to ask, by priority: those named, then those that only a match spec names."""
    named = [url for channel in channels for url in (DEFAULTS if channel == "defaults" else (channel,))]
    for text in specs:
        channel = parse_match_spec(text).channel
        if channel is not None:
            named.append(channel.base_url)
    unique: dict[str, str] = {}
    for channel in named:
        unique.setdefault(channel_url(channel), expandvars(channel))
    return list(unique.values())


def channel_url(channel: str) -> str:
    from rattler import Channel

    return str(Channel(expandvars(channel)).base_url)


# --- asking rattler -----------------------------------------------------------------------------------------


async def _solve(
    questions: Sequence[Question], channels: Sequence[str], settings: Settings
) -> dict[str, tuple[LockedPackage, ...] | SolveError]:
    import asyncio

    gateway = _gateway(settings)
    asked = sources(channels, (s for question in questions for s in question.specs))
    answers = await asyncio.gather(
        *(_answer(question, asked, gateway, settings) for question in questions), return_exceptions=True
    )
    broken = [a for a in answers if isinstance(a, BaseException) and not isinstance(a, SolveError)]
    if broken:
        raise await _reason(broken, asked, gateway, settings)
    return {
        question.platform: answer
        for question, answer in zip(questions, answers, strict=True)
        if isinstance(answer, tuple | SolveError)
    }


async def _answer(
    question: Question, asked: Sequence[str], gateway: Any, settings: Settings
) -> tuple[LockedPackage, ...]:
    from rattler.exceptions import SolverError

    try:
        locked = await _locked_records(question, asked, gateway)
        records = await _least_change(question, asked, gateway, locked)
    except SolverError as error:
        words, hint = await _in_words(str(error), question, asked, gateway)
        raise SolveError(words, hint) from error
    return tuple(_locked(record, question.platform, settings) for record in records)


async def _least_change(
    question: Question, asked: Sequence[str], gateway: Any, locked: Mapping[str, Any]
) -> list[Any]:
    """Solve with what is locked held fast, and let go of what stands in the way, a few packages at a time.

    A preference alone is not enough: the solver decides first on what was asked for, takes its newest
    version, and moves all that this version needs.
    """
    from rattler import Channel
    from rattler.exceptions import SolverError
    from rattler.solver.solver import solve as rattler_solve

    specs = [parse_match_spec(text) for text in question.specs]
    unfit = {s.name.normalized for s in specs if (r := locked.get(s.name.normalized)) and not s.matches(r)}
    held = {name: record for name, record in locked.items() if name not in unfit}
    rounds = 0
    while True:
        try:
            return list(await rattler_solve(
                sources=[Channel(url) for url in asked],
                specs=specs,
                gateway=gateway,
                platforms=[question.platform, "noarch"],
                locked_packages=[record for name, record in locked.items() if name not in held],
                pinned_packages=list(held.values()),
                virtual_packages=_generic(question.virtual),
            ))  # fmt: skip
        except SolverError as error:
            if not held:
                raise
            rounds += 1
            in_the_way = _names_in(str(error)) & set(held)
            held = {n: r for n, r in held.items() if in_the_way and rounds < _ROUNDS and n not in in_the_way}


async def _locked_records(question: Question, asked: Sequence[str], gateway: Any) -> dict[str, Any]:
    """The records of what is locked, as the channels have them now, by name."""
    from rattler import Channel, MatchSpec

    if not question.locked:
        return {}
    wanted = {p.sha256: p for p in question.locked}
    exact = [MatchSpec(f"{p.name}[sha256={p.sha256}]") for p in question.locked]
    found = await gateway.query(
        [Channel(url) for url in asked], [question.platform, "noarch"], exact, recursive=False
    )
    records: dict[str, Any] = {}
    for record in (record for part in found for record in part):
        locked = wanted.get(record.sha256.hex() if record.sha256 else "")
        if locked is not None and record.url.endswith(f"/{locked.subdir}/{locked.file_name}"):
            records.setdefault(locked.name, record)
    return records


def _gateway(settings: Settings) -> Any:
    from rattler import Client, Gateway
    from rattler.networking.middleware import AuthenticationMiddleware, MirrorMiddleware, RetryMiddleware

    mirrors = {key: [url] for key, url in settings.mirrors.rules.items() if "://" in key}
    middlewares = [MirrorMiddleware(mirrors), RetryMiddleware(3), AuthenticationMiddleware()]
    folder = settings.cache_dir / "repodata"
    folder.mkdir(parents=True, exist_ok=True)
    return Gateway(cache_dir=folder, client=Client(middlewares, user_agent="envbox", timeout=TIMEOUT))


def _generic(virtual: Mapping[str, tuple[str, str]]) -> list[Any]:
    from rattler import GenericVirtualPackage, PackageName, Version
    from rattler.package import BuildString

    return [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
        for name, (version, build) in virtual.items()
    ]


def _locked(record: Any, platform: str, settings: Settings) -> LockedPackage:
    url = settings.mirrors.canonical(without_credentials(record.url))
    if record.sha256 is None:
        raise ToolError(
            f"the channel gives no sha256 for {url}, so it cannot be locked",
            "have the channel indexed again, or take the package from another one",
        )
    return LockedPackage(
        manager="conda",
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        platform=platform,
        depends=dict(sorted(joined_depends(record.depends).items())),
        url=url,
        sha256=record.sha256.hex(),
        md5=record.md5.hex() if record.md5 else None,
    )


def joined_depends(depends: Iterable[str]) -> dict[str, str]:
    """Dependencies by name, as the lockfile has them: versions joined by commas, then the build, if any.

    Both constraints of `python >=3.9` and `python <3.13` hold, so neither may replace the other.
    """
    found: dict[str, tuple[list[str], str]] = {}
    for text in depends:
        name, _, rest = text.partition(" ")
        version, _, build = rest.strip().partition(" ")
        versions, known = found.setdefault(name, ([], ""))
        if version and version not in versions and (version != "*" or not versions):
            versions.append(version)
        found[name] = versions, build.strip() or known
    return {name: f"{','.join(versions)} {build}".strip() for name, (versions, build) in found.items()}


# --- what went wrong, in words ------------------------------------------------------------------------------


async def _reason(
    broken: Sequence[BaseException], asked: Sequence[str], gateway: Any, settings: Settings
) -> BaseException:
    """Find out why a channel could not be read: of requests that share a download, only one is told."""
    from rattler import Channel
    from rattler.exceptions import GatewayError

    error = next((e for e in broken if "://" in str(e) or not isinstance(e, GatewayError)), broken[0])
    if "://" not in str(error) and isinstance(error, GatewayError):
        try:
            for channel in asked:
                await gateway.query([Channel(channel)], ["noarch"], ["python"], recursive=False)
        except GatewayError as alone:
            error = alone
    if not isinstance(error, GatewayError):
        return error
    found = _channel_error(str(error), asked, settings)
    found.__cause__ = error
    return found


def _channel_error(text: str, asked: Sequence[str], settings: Settings) -> EnvboxError:
    text = re.sub(r"(?<=://)[^/@\s]+@|/t/[^/\s]+", "", text)  # no secret in a message
    cause = text.replace("\n", "").split(_CAUSE)[-1]
    url = next(iter(re.findall(r"\((\w+://[^)]+)\)", text)), "")
    urls = {without_credentials(channel_url(channel)): channel for channel in asked}
    named = next(
        (c for u, c in urls.items() if u in text or url.startswith(settings.mirrors.rewrite(u))), url
    )
    channel = without_credentials(named) if "://" in named else named or ", ".join(urls)
    if "could not find subdir" in text or "404" in text:
        return SpecError(
            f"there is no channel {channel}: {cause}", "check its name under `channels:` in the spec"
        )
    return ToolError(
        f"the channel {channel} cannot be read: {cause}" + (f" ({url})" if url else ""),
        "check the network and try again; a mirror can be set under [mirrors] in envbox.toml",
    )


async def _in_words(
    text: str, question: Question, asked: Sequence[str], gateway: Any
) -> tuple[str, str | None]:
    """Say which requirements clash; the solver's own tree follows, indented."""
    tree = text.removeprefix("Cannot solve the request because of: ").strip()
    missing = re.fullmatch(r"No candidates were found for (\S+) ?(.*?)\.?", tree)
    if missing:
        return await _missing(missing[1].rpartition("::")[2], missing[2], (question, asked, gateway))
    mentioned = _names_in(tree)
    names = {spec: parse_match_spec(spec).name.normalized for spec in question.specs}
    clashing = sorted(spec for spec, name in names.items() if name in mentioned)
    if len(clashing) > 1:
        head = f"these requirements clash on {question.platform}: {', '.join(clashing)}"
    else:
        head = f"{''.join(clashing) or 'the environment'} cannot be installed on {question.platform}"
    hint = "loosen or drop one of them in the spec"
    for name in sorted(question.virtual):
        if name in tree and name != "__unix":
            offered = f"the base image offers {name} {question.virtual[name][0]}"
            hint = f"{offered}: choose a newer base, or older packages"
    lines = [line.rstrip() for line in tree.splitlines() if line.strip()]
    return "\n".join([head, *(f"  {line}" for line in lines[:_MOST_LINES])]), hint


def _names_in(tree: str) -> set[str]:
    return set(re.findall(r"(?<![\w.-])[A-Za-z0-9_][\w.-]*", tree))


async def _missing(
    name: str, wanted: str, where: tuple[Question, Sequence[str], Any]
) -> tuple[str, str | None]:
    import difflib

    from rattler import Channel

    question, asked, gateway = where
    channels, subdirs = [Channel(url) for url in asked], [question.platform, "noarch"]
    shown = ", ".join(without_credentials(c) if "://" in c else c for c in asked)
    found = await gateway.query(channels, subdirs, [name], recursive=False)
    versions = {record.version for part in found for record in part}
    if versions:
        return (
            f"no {name} {wanted} in {shown} for {question.platform}",
            f"the newest there is {max(versions)}",
        )
    names = [n.normalized for n in await gateway.names(channels, subdirs)]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.75)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "another channel may have it: name it in `channels:`"
    )
    return f"there is no package {name} in {shown} for {question.platform}", hint


# --- two pitfalls of running rattler inside Python ----------------------------------------------------------


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, and let rattler's threads put down what they hold of Python.

    A thread that still wants the interpreter when Python ends aborts the process (one run in forty did).
    """
    import asyncio

    try:
        return asyncio.run(work)
    finally:
        time.sleep(0.005)


def _bound_arenas() -> None:
    """Keep glibc from giving each of rattler's threads an arena of its own, which grows with every solve."""
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-8, 2)  # M_ARENA_MAX, malloc.h
