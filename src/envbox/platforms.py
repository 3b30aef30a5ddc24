"""What conda, OCI and the machine itself call a platform; no other module keeps a table of these names."""

from __future__ import annotations

import platform as machine
import sys
from collections.abc import Sequence

from envbox.errors import ImageError, ToolError

PLATFORMS = (
    "linux-64", "linux-aarch64", "linux-ppc64le", "linux-s390x", "linux-riscv64", "linux-32", "linux-armv6l",
    "linux-armv7l", "linux-loongarch64", "linux-ppc", "linux-ppc64", "linux-riscv32", "osx-64", "osx-arm64",
    "win-64", "win-arm64", "win-32", "emscripten-wasm32", "emscripten-wasm64", "wasi-wasm32", "freebsd-64",
    "freebsd-32", "freebsd-arm64", "freebsd-ppc64", "freebsd-ppc64le", "ios-arm64", "iossimulator-64",
    "iossimulator-arm64", "android-64", "android-32", "android-aarch64", "android-armv7a", "zos-z",
)  # fmt: skip
"""The conda platforms that a lockfile may be for: all that rattler knows."""
DEFAULT_PLATFORMS = ("linux-64", "linux-aarch64")
"""Those that images are made for when nobody names any; none of them is locked without a base."""
_OCI = {
    "linux-64": ("linux", "amd64"),
    "linux-aarch64": ("linux", "arm64"),
    "linux-ppc64le": ("linux", "ppc64le"),
    "linux-s390x": ("linux", "s390x"),
    "linux-riscv64": ("linux", "riscv64"),
}
IMAGE_PLATFORMS = tuple(_OCI)
"""The conda platforms that an image can be of."""
_HOSTS = {
    ("linux", "x86_64"): "linux-64",
    ("linux", "aarch64"): "linux-aarch64",
    ("linux", "ppc64le"): "linux-ppc64le",
    ("linux", "s390x"): "linux-s390x",
    ("linux", "riscv64"): "linux-riscv64",
    ("darwin", "x86_64"): "osx-64",
    ("darwin", "arm64"): "osx-arm64",
}
"""Python's (sys.platform, machine) → conda's platform."""
_CONTAINERS = {"osx-64": "linux-64", "osx-arm64": "linux-aarch64"}


def host_platform() -> str:
    """Return the conda platform of this machine.

    :raises ToolError: when conda has none for it
    """
    key = (sys.platform, machine.machine())
    if key not in _HOSTS:
        raise ToolError(f"no conda platform for {key[0]} on {key[1]}")
    return _HOSTS[key]


def container_platform() -> str:
    """Return the conda platform of containers on this machine: Linux, whatever the machine is itself.

    :raises ToolError: when conda has none for it
    """
    host = host_platform()
    return _CONTAINERS.get(host, host)


def preferred_platform(platforms: Sequence[str]) -> str:
    """Return the platform of containers on this machine where it is among these, else the first of them."""
    try:
        own = container_platform()
    except ToolError:
        return platforms[0]
    return own if own in platforms else platforms[0]


def image_platform(platform: str) -> tuple[str, str]:
    """Return the OCI (os, architecture) of a conda platform.

    :raises ImageError: when no Linux container can be of that platform
    """
    if platform not in _OCI:
        raise ImageError(
            f"no container image can be of platform {platform}", f"images are made for {', '.join(_OCI)}"
        )
    return _OCI[platform]


def conda_platform(architecture: str) -> str | None:
    """Return the conda platform of a Linux image's architecture (`amd64`), None where conda has none."""
    return next((platform for platform, (_, a) in _OCI.items() if a == architecture), None)
