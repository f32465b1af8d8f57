"""Tasks whose items are hard to end: they hold the interpreter, wait for others, or leave on their own terms."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from checkpoint_runner import Checkpoint, checkpointed
from tests.process.process_tasks import note

LONG = 60.0
"""Seconds that an item takes which nobody lets end."""


def in_python(seconds: float) -> None:
    """Compute, with the interpreter free for other threads now and then."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        pass


def in_c(seconds: float) -> None:
    """Hold the GIL in one call: no other thread and no signal handler of Python runs meanwhile.

    It waits for a lock that it has itself, which no signal interrupts and which uses no CPU.
    """
    libc = ctypes.PyDLL(None)
    lock = ctypes.create_string_buffer(128)
    until = (ctypes.c_long * 2)(int(time.time() + seconds), 0)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_timedlock(lock, until)


def in_a_regex(seconds: float) -> None:
    """Hold the GIL as a thoughtless pattern does: twice as long for each letter more."""
    limit = time.monotonic() + seconds
    letters = 15
    while time.monotonic() < limit:
        re.match(r"(a+)+$", "a" * letters + "b")
        letters = min(letters + 1, 20)


def in_a_subprocess(seconds: float) -> None:
    subprocess.run(["sleep", str(seconds)], check=True)


def swallowing(seconds: float) -> None:
    """Catch whatever is thrown at it."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            time.sleep(0.05)
        except BaseException:
            continue


def in_a_joined_thread(seconds: float) -> None:
    """Wait for a thread that is not a daemon."""
    thread = threading.Thread(target=time.sleep, args=(seconds,))
    thread.start()
    thread.join()


BLOCKS: dict[str, Callable[[float], None]] = {
    block.__name__: block for block in (in_python, in_c, in_a_regex, in_a_subprocess, swallowing, in_a_joined_thread)
}


@checkpointed
def blocks(checkpoint: Checkpoint, path: str, how: str, seconds: float = LONG) -> int:
    """One short item, one that takes so many seconds, one short item."""
    for item in checkpoint.each(range(3)):
        note(path, checkpoint, item)
        if item == 1:
            BLOCKS[how](seconds)
    return 3


@checkpointed
def back_to_back(checkpoint: Checkpoint, path: str, count: int) -> int:
    """Items without any pause between them."""
    for item in checkpoint.each(range(count)):
        note(path, checkpoint, item)
    return count


@checkpointed(save_every=60)
def seldom_saved(checkpoint: Checkpoint, path: str, count: int) -> int:
    for item in checkpoint.each(range(count)):
        note(path, checkpoint, item)
        time.sleep(0.01)
    return count


@checkpointed(max_crashes=2)
def always_exits(checkpoint: Checkpoint, path: str, code: int) -> None:
    for item in checkpoint.each(range(4)):
        note(path, checkpoint, item)
        if item == 2:
            os._exit(code)


@checkpointed
def leaves_when_stopped(checkpoint: Checkpoint, path: str, how: str) -> int:
    """An item that answers a stop request by ending the process in its own way, once."""
    for item in checkpoint.each(range(3)):
        note(path, checkpoint, item)
        while item == 1 and checkpoint.attempt == 1:
            if checkpoint.stopping is not None:
                if how == "os._exit(0)":
                    os._exit(0)
                sys.exit(3)
            time.sleep(0.01)
    return 3


@checkpointed
def leaves_a_thread_and_a_subprocess(checkpoint: Checkpoint, path: str, count: int) -> int:
    """Starts what it never ends: a thread that is not a daemon, and a subprocess in the same group."""
    threading.Thread(target=time.sleep, args=(LONG,)).start()
    child = subprocess.Popen(["sleep", str(LONG)])
    note(path, checkpoint, f"child:{child.pid}")
    for item in checkpoint.each(range(count)):
        note(path, checkpoint, item)
        time.sleep(0.01)
    return count


@checkpointed
def forks(checkpoint: Checkpoint, path: str, count: int) -> int:
    """Every few items a copy of this process, which uses Redis too and ends as Python ends."""
    context = multiprocessing.get_context("fork")
    for item in checkpoint.each(range(count)):
        note(path, checkpoint, item)
        if item % 5 == 0:
            child: Any = context.Process(target=_use_redis, args=(checkpoint.job_id,))
            child.start()
            child.join()
            if child.exitcode != 0:
                raise RuntimeError(f"the child exited with {child.exitcode}")
        time.sleep(0.01)
    return count


def _use_redis(job_id: str) -> None:
    for _ in range(20):
        assert forks.job(job_id).id == job_id
