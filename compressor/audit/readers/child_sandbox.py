"""Takes from the process what a network that only computes does not need. Linux; best effort.

What the kernel offers is used and its absence is no error: limits on processor time, memory and
file size everywhere; no network and a process tree that ends with its root (user, network and
process namespaces); no writing outside the working directory (Landlock).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys

__all__ = ["close_off", "limit_memory"]

_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
# system calls, the same on every architecture
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
# LANDLOCK_ACCESS_FS_* of version 1: write a file, remove and make anything
_WRITES = (1 << 1) | sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14  # of versions 2 and 3


def close_off(seconds: float) -> None:
    """Applies the limits; call it before anything starts a thread.

    Args:
        seconds: processor time.
    """
    cpu = int(seconds) + 1
    _limit(resource.RLIMIT_CPU, cpu)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWPID | _CLONE_NEWNET) == 0:
        _become_first(libc)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _forbid_writing(libc)


def limit_memory(extra: int) -> None:
    """Bounds the address space to what is taken now and `extra` bytes more."""
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123
            pages = int(stream.read().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + extra)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (bound, bound))


def _become_first(libc: ctypes.CDLL) -> None:
    """Goes on as the first process of its namespace: when it ends, all it started end with it."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        return
    del parent
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _forbid_writing(libc: ctypes.CDLL) -> None:
    """A Landlock rule set with one rule: what it handles is allowed in the working directory alone.

    That is an empty folder which the parent removes (torch makes folders for caches there).
    """
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return
    handled = _WRITES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    attributes = ctypes.create_string_buffer(struct.pack("=Q", handled), 8)
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, 8, 0)
    if ruleset >= 0:
        folder = os.open(".", os.O_PATH | os.O_DIRECTORY)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", handled, folder), 12)
        libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0)  # 1: everything beneath a path
        os.close(folder)
        libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
        os.close(ruleset)
