"""A program: become a command, in a process that the kernel lets neither mount nor make namespaces.

    python no_namespaces.py COMMAND…

So it is in a container as Docker starts it, whose filter of system calls (seccomp) this is, for those that
count here; what is forbidden is forbidden to root as well, and to all that the command starts.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

UNSHARE, MOUNT, CLONE3 = {"x86_64": (272, 165, 435), "aarch64": (97, 40, 435)}[platform.machine()]
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET
REFUSE, ALLOW = 0x00050000, 0x7FFF0000  # SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def wall() -> None:
    """Give up namespaces and mounts, for good."""
    steps = [
        (LOAD, 0, 0, 0),  # the call's number
        (IF_EQUAL, 0, 1, CLONE3),
        (RETURN, 0, 0, REFUSE | errno.ENOSYS),  # its flags cannot be seen; without it, clone is called
        (IF_EQUAL, 1, 0, UNSHARE),
        (IF_EQUAL, 0, 1, MOUNT),
        (RETURN, 0, 0, REFUSE | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    program = Program(len(steps), ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for words in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, ctypes.byref(program), 0, 0)):
        if prctl(*words):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    wall()
    os.execvp(sys.argv[1], sys.argv[1:])
