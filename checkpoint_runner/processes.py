"""What the operating system knows about processes: who lives, who died, who is whose child."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import sys
from functools import cache
from pathlib import Path

_PR_SET_PDEATHSIG = 1


@cache
def host() -> str:
    """Return this machine's name, as it stands in a holder."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", socket.gethostname())


@cache
def boot() -> str:
    """Return what tells this boot of the machine, and this container's view of its processes, from any other."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot_id} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "unknown"


def start_time(pid: int) -> str:
    """Return when a process started, in the kernel's ticks since boot; "" where there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    fields = stat[stat.rindex(")") + 2 :].split()
    return "" if fields[0] in "ZX" else fields[19]


def cpu_time(pid: int) -> int:
    """Return the ticks of CPU that a process has used; 0 where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0
    fields = stat[stat.rindex(")") + 2 :].split()
    return int(fields[11]) + int(fields[12])


def holder(delivery: str) -> str:
    """Return the name under which this process holds a job: the delivery, and who can be proved dead."""
    pid = os.getpid()
    return "|".join((delivery, host(), boot(), str(pid), start_time(pid)))


def die_with_parent(parent: int, sig: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel for `sig` when the parent process is gone; at once where it is gone already.

    Does nothing but the second half where the kernel is not Linux.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), sig)


def proved_dead(holder_name: str) -> bool:
    """Say whether a holder lived on this machine, in this boot, and is gone. Anything unclear is not proved."""
    parts = holder_name.split("|")
    if len(parts) != 5 or parts[1:3] != [host(), boot()] or not parts[3].isdigit() or not parts[4]:
        return False
    started = start_time(int(parts[3]))
    return started != parts[4] and (started != "" or not _may_live(int(parts[3])))


def _may_live(pid: int) -> bool:
    """Say whether a process of that pid may be there although /proc does not show it to us."""
    if Path(f"/proc/{pid}").exists():
        return False  # it is shown, and it is a zombie
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def children_of(parent: int) -> list[int]:
    """Return the pids of a process's children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text("utf-8", "replace")
            except OSError:
                continue  # it ended while we looked
            if int(stat[stat.rindex(")") + 2 :].split()[1]) == parent:
                found.append(int(entry.name))
    return sorted(found)
