"""A real Valkey that goes away, freezes, fills up or forgets, under real workers and a web process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from checkpoint_runner import Job, Runner, Status
from checkpoint_runner.embedded import EmbeddedValkey, _binary
from checkpoint_runner.errors import JobLost, RedisUnavailable
from tests.process import process_tasks as tasks
from tests.process.conftest import Processes, children, eventually, items_of, repeated

TOLD = re.compile("could not be saved|could not be renewed|is not saved yet|Redis trouble|The sweep is put off")
"""What a worker's log says of a server that does not do what it should."""

PATIENCE = 2.0
"""Seconds within which a request handler has its answer, whatever it is."""

Trouble = Callable[[EmbeddedValkey, Any], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def frozen(valkey: EmbeddedValkey, admin: Any = None) -> Iterator[None]:
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey.pid, signal.SIGCONT)


@contextlib.contextmanager
def killed(valkey: EmbeddedValkey, admin: Any) -> Iterator[None]:
    valkey.kill()
    try:
        yield
    finally:
        valkey.start()


@contextlib.contextmanager
def shut_down(valkey: EmbeddedValkey, admin: Any) -> Iterator[None]:
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGTERM)
    eventually(lambda: not answers(admin))
    valkey.kill()
    try:
        yield
    finally:
        valkey.start()


@contextlib.contextmanager
def loading(valkey: EmbeddedValkey, admin: Any) -> Iterator[None]:
    """Kill the server, and start it so that it is slow to read its own file."""
    admin.eval("for i = 0, 60000 do redis.call('SET', 'filler:' .. i, i) end", 0)
    valkey.kill()
    folder = valkey.folder.resolve()
    slow = subprocess.Popen(
        [
            _binary(),
            *("--port", "0", "--unixsocket", valkey.url.removeprefix("unix://"), "--dir", str(folder)),
            *("--save", "", "--appendonly", "yes", "--key-load-delay", "100", "--logfile", str(folder / "slow.log")),
        ],
        start_new_session=True,
    )
    try:
        eventually(lambda: is_loading(admin), what="the server says LOADING")
        yield
    finally:
        slow.kill()
        slow.wait()
        valkey.start()


@contextlib.contextmanager
def read_only(valkey: EmbeddedValkey, admin: Any) -> Iterator[None]:
    """A replica of nobody: what a failover looks like from its wrong side."""
    admin.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        admin.replicaof("NO", "ONE")


@contextlib.contextmanager
def full(valkey: EmbeddedValkey, admin: Any) -> Iterator[None]:
    admin.config_set("maxmemory", 1)
    try:
        yield
    finally:
        admin.config_set("maxmemory", 0)


@contextlib.contextmanager
def misconfigured(valkey: EmbeddedValkey, admin: Any) -> Iterator[None]:
    """Snapshots are on and fail, so that the server refuses writes (MISCONF)."""
    in_the_way = valkey.folder / "dump.rdb"
    in_the_way.mkdir()
    (in_the_way / "file").touch()
    admin.config_set("save", "3600 1")
    admin.bgsave()
    eventually(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
    try:
        yield
    finally:
        admin.config_set("save", "")


@contextlib.contextmanager
def no_clients(valkey: EmbeddedValkey, admin: Any) -> Iterator[None]:
    """Every connection but the administrator's is cut, and no new one is let in."""
    admin.config_set("maxclients", 1)
    admin.client_kill_filter(_type="normal", skipme=True)
    try:
        yield
    finally:
        admin.config_set("maxclients", 1000)


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:
        return False


def is_loading(client: Any) -> bool:
    try:
        client.get("filler:0")
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.exceptions.RedisError:
        return False
    return False


WRITES_FAIL: dict[str, Trouble] = {
    "READONLY": read_only,
    "OOM": full,
    "MISCONF": misconfigured,
}
NOTHING_GOES: dict[str, Trouble] = {
    "frozen": frozen,
    "killed": killed,
    "shut down": shut_down,
    "LOADING": loading,
    "maxclients": no_clients,
}
ALL = {**WRITES_FAIL, **NOTHING_GOES}
OF_EACH_SORT = ["READONLY", "OOM", "frozen", "killed", "LOADING", "maxclients"]


@pytest.fixture
def admin(processes: Processes) -> Any:
    """A connection from before the trouble."""
    processes.client.config_set("maxmemory-policy", "noeviction")
    return processes.client


def gone(pid: int) -> bool:
    """Whether a process has ended, whoever is to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def attempts_of(path: Path, job: Job[Any]) -> dict[int, list[int]]:
    """Return the items that each attempt of a job began, in order."""
    found: dict[int, list[int]] = {}
    for line in path.read_text("utf-8").splitlines():
        job_id, item, attempt = line.split(" ")
        if job_id == job.id:
            found.setdefault(int(attempt), []).append(int(item))
    return found


def working(path: Path, job: Job[Any], least: int = 5) -> None:
    eventually(lambda: len(items_of(path, job.id)) >= least, what=f"job {job.id} works")


@pytest.mark.parametrize("trouble", ALL.values(), ids=ALL)
def test_a_running_job_survives_it_and_repeats_nothing(
    trouble: Trouble, processes: Processes, real_runner: Runner, valkey: EmbeddedValkey, admin: Any, tmp_path: Path
) -> None:
    """If this fails, a hiccup of Redis costs the work of every job that runs."""
    path = tmp_path / "items"
    worker = processes.worker()
    job = tasks.items.start(str(path), 300)
    working(path, job)

    with trouble(valkey, admin):
        eventually(lambda: TOLD.search(processes.log("worker")), what="the worker tells of the trouble")

    assert job.wait(20) == 300
    assert repeated(path) == 0
    done = job.refresh()
    assert (done.attempts, done.crashes, done.lost, done.interruptions) == (1, 0, 0, 0)
    again = tasks.items.start(str(path), 1)
    assert again.wait(20) == 1, "the worker serves on"
    assert worker.poll() is None


@pytest.mark.parametrize("trouble", ALL.values(), ids=ALL)
def test_a_request_has_its_answer_within_two_seconds(
    trouble: Trouble, processes: Processes, real_runner: Runner, valkey: EmbeddedValkey, admin: Any, tmp_path: Path
) -> None:
    """If this fails, an outage of Redis takes down the web app: each request blocks a gunicorn worker."""
    path = str(tmp_path / "items")
    job = tasks.items.start(path, 1)

    with trouble(valkey, admin):
        limited(lambda: tasks.items.start(path, 2), fails=True)
        limited(job.refresh, fails=trouble in NOTHING_GOES.values())
        limited(job.cancel, fails=trouble is not full)  # a full server lets go of what it has

    after = eventually(lambda: quiet(job.refresh))
    assert after.status in (Status.QUEUED, Status.CANCELLED), "applied late, or not at all"


def quiet(command: Callable[[], Any]) -> Any:
    try:
        return command()
    except RedisUnavailable:
        return None


def limited(command: Callable[[], Any], *, fails: bool) -> None:
    began = time.monotonic()
    try:
        command()
    except RedisUnavailable:
        assert fails
    else:
        assert not fails, "the trouble is not what the test thinks"
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("trouble", [ALL[name] for name in OF_EACH_SORT], ids=OF_EACH_SORT)
def test_a_shutdown_meanwhile_ends_inside_its_grace_and_the_job_goes_on_later(
    trouble: Trouble, processes: Processes, real_runner: Runner, valkey: EmbeddedValkey, admin: Any, tmp_path: Path
) -> None:
    """If this fails, a deploy during an outage hangs, or costs more than what was not saved yet."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "2")
    job = tasks.items.start(str(path), 250)
    working(path, job)
    eventually(lambda: job.refresh().progress.done > 0, what="a first save")
    (horse,) = children(worker.pid)

    with trouble(valkey, admin):
        eventually(lambda: TOLD.search(processes.log("worker")))
        worker.send_signal(signal.SIGTERM)
        worker.wait(3.5)  # its grace of 2 s, and the end of an interpreter on a busy machine
        assert gone(horse)

    saved = eventually(lambda: quiet(job.refresh)).progress.done
    assert saved > 0
    processes.worker("--burst", name="next")
    assert job.wait(20) == 250
    first, *later = attempts_of(path, job).values()
    assert later[0][0] == saved, "it goes on after its last acknowledged save"
    assert sorted(set(first) | set(later[0])) == list(range(250))
    assert len(later) == 1
    assert job.refresh().lost == 0


def test_a_freeze_longer_than_the_lease_loses_no_lease(
    processes: Processes, real_runner: Runner, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """If this fails, a server that swaps for some seconds makes every job change its worker, at once."""
    path = tmp_path / "items"
    for name in ("one", "two", "three"):
        processes.worker(name=name, CHECKPOINT_RUNNER_LEASE="3")
    jobs = [tasks.items.start(str(path), 350) for _ in range(3)]
    for job in jobs:
        working(path, job)

    with frozen(valkey):
        until = time.monotonic() + 4.5
        eventually(lambda: time.monotonic() > until)

    assert [job.wait(30) for job in jobs] == [350] * 3
    assert repeated(path) == 0
    assert [(job.refresh().lost, job.refresh().attempts) for job in jobs] == [(0, 1)] * 3


def test_forgotten_scripts_are_sent_again(
    processes: Processes, real_runner: Runner, admin: Any, tmp_path: Path
) -> None:
    """If this fails, a restart or a SCRIPT FLUSH by somebody else breaks every call."""
    path = tmp_path / "items"
    processes.worker()
    job = tasks.items.start(str(path), 200)

    for least in range(20, 200, 30):
        working(path, job, least)
        admin.script_flush()
        assert job.refresh().task.endswith("items")

    assert job.wait(20) == 200
    assert repeated(path) == 0
    assert (job.refresh().attempts, TOLD.search(processes.log("worker"))) == (1, None)


@pytest.mark.parametrize("then", ["it goes on", "it stops", "it is killed"])
def test_a_wiped_server_is_told_and_nothing_comes_back(
    then: str, processes: Processes, real_runner: Runner, admin: Any, tmp_path: Path
) -> None:
    """If this fails, a FLUSHALL goes unnoticed, or half a job rises again from its worker's memory."""
    path = tmp_path / "items"
    worker = processes.worker("--grace", "5")
    job = tasks.items.start(str(path), 100_000)
    working(path, job)
    (horse,) = children(worker.pid)

    admin.flushall()
    if then == "it stops":
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(5) == 0
    if then == "it is killed":
        os.kill(horse, signal.SIGKILL)

    eventually(lambda: gone(horse), what="the attempt ends by itself")
    if then != "it is killed":
        assert "the server no longer has it" in processes.log("worker")
        with pytest.raises(JobLost):
            job.refresh()
    assert admin.keys(f"ckpt:*{job.id}*") == []
    if then != "it stops":
        assert tasks.items.start(str(path), 3).wait(15) == 3, "the worker serves on"
    assert admin.keys(f"ckpt:*{job.id}*") == []


def test_a_delivery_that_is_gone_is_no_failure_in_rq(
    processes: Processes, real_runner: Runner, admin: Any, tmp_path: Path
) -> None:
    """If this fails, each lost lease leaves a failed RQ job behind, whose entry nobody removes."""
    path = tmp_path / "items"
    worker = processes.worker()
    job = tasks.items.start(str(path), 100_000)
    working(path, job)
    (horse,) = children(worker.pid)
    admin.delete(*admin.keys("rq:job:*"), *admin.keys("ckpt:job:*"))
    eventually(lambda: gone(horse))
    assert admin.keys(f"rq:*{job.id}*") == []
    assert admin.zcard("rq:failed:default") == 0


WORKER_WHOSE_HORSES_KILL_THE_SERVER = """
import os, pathlib, signal, sys
from checkpoint_runner import processes
from checkpoint_runner.console import start_logging
from checkpoint_runner.settings import Settings
from checkpoint_runner.worker_process import run_worker

pid_file, real = pathlib.Path(sys.argv[1]), processes.die_with_parent

def kill_the_server(parent, sig=signal.SIGTERM):
    real(parent, sig)
    if pid_file.exists():
        pid = int(pid_file.read_text())
        pid_file.unlink()
        os.kill(pid, signal.SIGKILL)

processes.die_with_parent = kill_the_server
start_logging()
run_worker(Settings.read(), ())
"""


def test_an_outage_between_delivery_and_claim_is_no_crash_of_the_job(
    processes: Processes, real_runner: Runner, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """If this fails, a server that fails three times in a row fails the jobs that were about to begin."""
    pid_file = tmp_path / "server.pid"
    processes.start(sys.executable, "-c", WORKER_WHOSE_HORSES_KILL_THE_SERVER, str(pid_file), name="worker")
    eventually(processes.listening)
    pid_file.write_text(str(valkey.pid))
    job = tasks.items.start(str(tmp_path / "items"), 3)

    for _ in range(3):
        eventually(lambda: not pid_file.exists(), within=30, what="a horse has killed the server")
        valkey.kill()
        valkey.start()
        pid_file.write_text(str(valkey.pid))
    pid_file.unlink()

    assert job.wait(30) == 3
    assert job.refresh().crashes == 0
