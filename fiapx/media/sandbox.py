"""What a child gives up before it reads a byte of a stranger's video: files, network, privileges, resources.

Landlock needs no privilege and no package (https://docs.kernel.org/userspace-api/landlock.html). A rule set that
handles every right and has no rule at all forbids opening anything; descriptors that are open already stay usable.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from typing import Final

MEMORY: Final = 4 * 1024**3
"""Address space in bytes. Decoders map much more than they touch."""
_OPEN_FILES: Final = 64

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same numbers on every architecture
_VERSION_FLAG = 1
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""ABI version → number of file-system rights it knows; ABI 5 has all there are so far."""


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))), 0)


def level() -> str:
    """The protection that decoding has on this machine, for ``fiapx doctor``."""
    abi = landlock_abi()
    return f"landlock (ABI {abi})" if abi else "resource limits only: this system has no Landlock"


def limit_resources(cpu_seconds: float, memory: int = MEMORY) -> None:
    """Cap memory, CPU time and descriptors; forbid core dumps and writing files."""
    _cap(resource.RLIMIT_CORE, 0)
    _cap(resource.RLIMIT_FSIZE, 0)
    _cap(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _cap(resource.RLIMIT_CPU, int(cpu_seconds) + 1)
    if sys.platform.startswith("linux"):
        _cap(resource.RLIMIT_AS, memory)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends, even by SIGKILL.

    `parent` is the id of that thread's process: it may have died before we could ask, and nobody would tell us.
    """
    if sys.platform.startswith("linux"):
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def give_up_files() -> bool:
    """Open nothing more, connect nowhere (ABI ≥ 4), gain no privileges. False where the kernel cannot."""
    abi = landlock_abi()
    if not abi:
        return False
    libc = _libc()
    file_rights = (1 << _FILE_RIGHTS[min(abi, 5)]) - 1
    net_rights = 0b11 if abi >= 4 else 0
    attributes = struct.pack("=QQ", file_rights, net_rights) if net_rights else struct.pack("=Q", file_rights)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return int(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))) == 0
    finally:
        os.close(ruleset)


def _cap(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (allowed, allowed))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
