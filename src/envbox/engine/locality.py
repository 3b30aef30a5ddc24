"""How near an engine is: whether what it mounts is this machine's files, as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def kernel_and_name() -> tuple[str, str]:
    """Return the release of the kernel that we run on, and the name of the host."""
    import platform

    return platform.release(), platform.node()


def obstacle(info: Mapping[str, Any], release: str, hostname: str) -> str | None:
    """Return what keeps an engine on a local socket from mounting our files as they are; None when nothing
    does.

    :param info: what it says of itself (`GET /info`)
    :param release: of the kernel that we run on
    """
    if "Docker Desktop" in str(info.get("OperatingSystem")) or info.get("KernelVersion") != release:
        return "the engine runs in a virtual machine"
    if info.get("Name") != hostname:  # we are in a container ourselves, or the socket leads elsewhere
        return "the engine sees other folders than we do"
    if any("selinux" in str(option) for option in info.get("SecurityOptions") or ()):
        return "SELinux keeps containers out of the cache"
    return None
