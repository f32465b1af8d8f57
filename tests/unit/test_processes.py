"""What the operating system knows about processes."""

from __future__ import annotations

import os
import subprocess
import sys

from checkpoint_runner import processes


def test_this_process_is_alive() -> None:
    """A sweep would take the job of a living process away."""
    holder = processes.holder("delivery")
    assert holder.split("|")[0] == "delivery"
    assert holder.split("|")[3] == str(os.getpid())
    assert not processes.proved_dead(holder)


def test_a_process_that_ended_is_proved_dead() -> None:
    """A killed worker's job would wait for its lease to run out."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    _, host, boot, _, _ = processes.holder("d").split("|")
    holder = "|".join(("d", host, boot, str(child.pid), processes.start_time(child.pid)))
    assert not processes.proved_dead(holder)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.proved_dead(holder), "a zombie does not run any more"
    child.communicate()
    assert processes.proved_dead(holder)


def test_what_is_unclear_is_not_proved() -> None:
    """The job of a process on another machine would be taken away."""
    delivery, host, boot, pid, _ = processes.holder("d").split("|")
    for holder in (
        "",
        "d",
        "|||||",
        f"{delivery}|other|{boot}|{pid}|1",
        f"{delivery}|{host}|other|{pid}|1",
        f"{delivery}|{host}|{boot}|x|1",
        f"{delivery}|{host}|{boot}|{pid}|",
        f"{delivery}|{host}|{boot}|{pid}|1|more",
    ):
        assert not processes.proved_dead(holder), holder


def test_a_number_that_was_given_to_another_process_is_proved_dead() -> None:
    """A new process with the old one's number would keep a dead job alive."""
    delivery, host, boot, pid, start = processes.holder("d").split("|")
    assert processes.proved_dead("|".join((delivery, host, boot, pid, str(int(start) + 1))))


def test_there_is_no_process_zero() -> None:
    """A worker would look at files that are not there."""
    assert processes.start_time(2**22 + 5) == ""
    assert processes.cpu_time(2**22 + 5) == 0
    assert processes.cpu_time(os.getpid()) >= 0


def test_a_live_process_of_another_view_is_not_proved_dead() -> None:
    """Two containers with one host name would take each other's jobs for crashed, again and again."""
    holder = processes.holder("d")
    assert not processes.proved_dead(holder)
    delivery, host, _, pid, started = holder.split("|")
    assert not processes.proved_dead("|".join((delivery, host, "another boot or namespace", pid, started)))
    assert processes.proved_dead("|".join((delivery, host, processes.boot(), pid, "1"))), "the pid was given again"
