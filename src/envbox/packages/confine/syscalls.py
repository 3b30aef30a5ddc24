"""Which calls of the kernel a confined program has: an allow-list, as a seccomp filter's bytes.

What CPython needs to read its own modules, compute, and answer through pipes that are open. So: no sockets,
no processes or threads, no signals to others, nothing opened for writing, no namespaces, mounts, keys,
tracing, memory files, io_uring or bpf. What is not listed is refused, not killed: C libraries try new calls
and fall back. https://docs.kernel.org/userspace-api/seccomp_filter.html, linux/audit.h; the numbers are those
of asm/unistd_64.h (x86_64) and asm-generic/unistd.h (aarch64, riscv64).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_*, linux/bpf_common.h
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_ALLOW, _ERRNO, _KILL_PROCESS
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data; little-endian halves of 8 bytes
X32 = 0x40000000  # __X32_SYSCALL_BIT: the same numbers by other rules
NEWER = 424  # from here numbers are the same everywhere, and whoever calls one can do without

_OPENED_TO_WRITE = (
    0o1 | 0o2 | 0o100 | 0o1000
)  # O_WRONLY, O_RDWR (O_TMPFILE needs one of both), O_CREAT, O_TRUNC
_TERMINAL_OR_CLOEXEC = (0x5401, 0x5451, 0x5450)  # TCGETS, FIOCLEX, FIONCLEX
_OWN_HANDLES = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC

# fmt: off
_X86_64: Mapping[str, int] = {
    "read": 0, "pread64": 17, "readv": 19, "write": 1, "writev": 20, "lseek": 8, "close": 3, "fstat": 5,
    "newfstatat": 262, "stat": 4, "lstat": 6, "statx": 332, "open": 2, "openat": 257, "getdents64": 217,
    "readlink": 89, "readlinkat": 267, "access": 21, "faccessat": 269, "faccessat2": 439, "getcwd": 79,
    "ioctl": 16, "fcntl": 72, "dup": 32, "dup2": 33, "dup3": 292, "brk": 12, "mmap": 9, "munmap": 11,
    "mprotect": 10, "mremap": 25, "madvise": 28, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "sigaltstack": 131, "exit": 60, "exit_group": 231, "getpid": 39, "gettid": 186, "getuid": 102,
    "geteuid": 107, "getgid": 104, "getegid": 108, "getppid": 110, "uname": 63, "sysinfo": 99,
    "getrandom": 318, "clock_gettime": 228, "clock_getres": 229, "gettimeofday": 96, "time": 201,
    "times": 100, "getrusage": 98, "futex": 202, "set_robust_list": 273, "rseq": 334, "set_tid_address": 218,
    "arch_prctl": 158, "prlimit64": 302, "getrlimit": 97, "sched_getaffinity": 204, "sched_yield": 24,
    "execve": 59, "restart_syscall": 219, "fadvise64": 221,
}
_GENERIC: Mapping[str, int] = {
    "read": 63, "pread64": 67, "readv": 65, "write": 64, "writev": 66, "lseek": 62, "close": 57, "fstat": 80,
    "newfstatat": 79, "statx": 291, "openat": 56, "getdents64": 61, "readlinkat": 78, "faccessat": 48,
    "faccessat2": 439, "getcwd": 17, "ioctl": 29, "fcntl": 25, "dup": 23, "dup3": 24, "brk": 214, "mmap": 222,
    "munmap": 215, "mprotect": 226, "mremap": 216, "madvise": 233, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "sigaltstack": 132, "exit": 93, "exit_group": 94,
    "getpid": 172, "gettid": 178, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177,
    "getppid": 173, "uname": 160,
    "sysinfo": 179, "getrandom": 278, "clock_gettime": 113, "clock_getres": 114, "gettimeofday": 169,
    "times": 153, "getrusage": 165, "futex": 98, "set_robust_list": 99, "rseq": 293, "set_tid_address": 96,
    "prlimit64": 261, "getrlimit": 163, "sched_getaffinity": 123, "sched_yield": 124, "execve": 221,
    "restart_syscall": 128, "fadvise64": 223,
}
# fmt: on


@dataclass(frozen=True, slots=True)
class Machine:
    """What is special to a processor.

    :param audit: its AUDIT_ARCH_*
    :param loader: where programs of the GNU C library have their dynamic loader
    """

    audit: int
    calls: Mapping[str, int]
    loader: str


MACHINES = {
    "x86_64": Machine(0xC000003E, _X86_64, "/lib64/ld-linux-x86-64.so.2"),
    "aarch64": Machine(0xC00000B7, _GENERIC, "/lib/ld-linux-aarch64.so.1"),
    "riscv64": Machine(0xC00000F3, _GENERIC, "/lib/ld-linux-riscv64-lp64d.so.1"),
}
"""By what uname(2) calls them: those of which the numbers are known here."""

Step = tuple[int, int, int, int]


def filter_for(machine: Machine) -> bytes:
    """Return the filter: an array of struct sock_filter."""
    steps = list(_steps(machine))
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def _steps(machine: Machine) -> Iterator[Step]:
    yield LOAD, 0, 0, ARCHITECTURE_AT
    yield IF_EQUAL, 1, 0, machine.audit
    yield RETURN, 0, 0, KILL
    yield LOAD, 0, 0, NUMBER_AT
    yield IF_AT_LEAST, 0, 1, X32
    yield RETURN, 0, 0, KILL
    for name, number in machine.calls.items():
        rule = [*_RULES.get(name, ()), (RETURN, 0, 0, ALLOW)]
        yield IF_EQUAL, 0, len(rule), number
        yield from rule
    yield IF_AT_LEAST, 0, 1, NEWER
    yield RETURN, 0, 0, REFUSE | errno.ENOSYS
    yield RETURN, 0, 0, REFUSE | errno.EPERM


def _one_of(argument: int, values: Sequence[int]) -> list[Step]:
    """Return steps that refuse a call when an argument is another; of it, the kernel takes the lower half."""
    tests = [(IF_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)]
    return [(LOAD, 0, 0, ARGUMENTS_AT + 8 * argument), *tests, (RETURN, 0, 0, REFUSE | errno.EPERM)]


def _none_of(argument: int, bits: int) -> list[Step]:
    """Return steps that refuse a call when an argument has one of these bits."""
    refuse = (RETURN, 0, 0, REFUSE | errno.EROFS)
    return [(LOAD, 0, 0, ARGUMENTS_AT + 8 * argument), (IF_ANY_BIT, 0, 1, bits), refuse]


_RULES: Mapping[str, list[Step]] = {
    "open": _none_of(1, _OPENED_TO_WRITE),
    "openat": _none_of(2, _OPENED_TO_WRITE),
    "ioctl": _one_of(1, _TERMINAL_OR_CLOEXEC),
    "fcntl": _one_of(1, _OWN_HANDLES),
    "prlimit64": _one_of(0, (0,)),  # of nobody else
}
