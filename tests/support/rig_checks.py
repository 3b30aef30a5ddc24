"""What the rig's own tests ask of it: a solve, an install, a file over http."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Rig


async def _solve(channel: str, specs: Sequence[str], platform: str) -> list[Any]:
    from rattler import (
        BuildString,
        Channel,
        GenericVirtualPackage,
        PackageName,
        Version,
        solve,
    )

    known = {"__unix": "0", "__linux": "6", "__glibc": "2.36"}
    virtual = [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString("0"))
        for name, version in known.items()
    ]
    found = await solve(
        [Channel(channel)], list(specs), platforms=[platform, "noarch"], virtual_packages=virtual
    )
    return list(found)


def solved(channel: str, specs: Sequence[str], platform: str = "linux-64") -> dict[str, Any]:
    return {r.name.normalized: r for r in asyncio.run(_solve(channel, specs, platform))}


def installed(channel: str, specs: Sequence[str], prefix: Path, cache: Path) -> Path:
    async def work() -> None:
        from rattler import install

        records = await _solve(channel, specs, "linux-64")
        await install(records, prefix, cache_dir=cache, show_progress=False)

    asyncio.run(work())
    return prefix


def channel_of(rig: Rig, name: str = "conda-forge") -> str:
    mirrors = dict(pair.split("=", 1) for pair in rig.env["ENVBOX_MIRRORS"].split())
    return mirrors[f"https://conda.anaconda.org/{name}"]


def fetch(url: str, **headers: str) -> tuple[int, bytes, Any]:
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers
