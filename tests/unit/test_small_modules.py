"""Durations, names, keys and settings: small modules, each with its rules."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from checkpoint_runner.durations import milliseconds, seconds
from checkpoint_runner.errors import WrongName, WrongSetting
from checkpoint_runner.interruptions import Interruption, Reason
from checkpoint_runner.keys import Keys
from checkpoint_runner.names import checked, new_job_id
from checkpoint_runner.settings import DEFAULT_URL, Settings, count


@pytest.mark.parametrize(("value", "wanted"), [(0, 0.0), (1.5, 1.5), (timedelta(minutes=1), 60.0), (10**6, 1e6)])
def test_durations(value: Any, wanted: float) -> None:
    """A timeout would be taken for another one."""
    assert seconds(value, "grace") == wanted
    assert isinstance(seconds(value, "grace"), float)


@pytest.mark.parametrize("value", ["5", None, True, float("nan"), float("inf"), -0.1, timedelta(days=-1), [1]])
def test_odd_durations(value: Any) -> None:
    """A job would wait for ever, or not at all."""
    with pytest.raises(WrongSetting, match=r"^grace is .*; expected"):
        seconds(value, "grace")


def test_the_least_duration() -> None:
    """A lease of a millisecond would lose every job."""
    assert seconds(0.5, "lease", least=0.5) == 0.5
    with pytest.raises(WrongSetting, match=r"lease is 0.4 seconds; expected at least 0.5\."):
        seconds(0.4, "lease", least=0.5)


def test_milliseconds_are_whole() -> None:
    """The scripts would be sent a fraction, which Redis refuses."""
    assert milliseconds(0.0015) == 2
    assert milliseconds(10.0) == 10_000


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("queue", "high-1.urgent_x:y"),
        ("task", "shop.tasks.import_users"),
        ("task", "a.<lambda>"),
        ("loop", "Zeilen für Österreich"),
        ("key", "order 7: 漢字"),
        ("key", "x" * 500),
        ("label", "tenant"),
        ("namespace", "ckpt"),
    ],
)
def test_usable_names(kind: str, name: str) -> None:
    """A reasonable name would be refused."""
    assert checked(kind, name) == name


@pytest.mark.parametrize("kind", ["queue", "task", "loop", "step", "key", "unique", "label", "namespace"])
@pytest.mark.parametrize("name", ["", "\n", "a\n", "\x1b[31m", "x" * 10_000, None, 5, b"x", "\x00"], ids=repr)
def test_unusable_names(kind: str, name: Any) -> None:
    """A name would break keys, log lines or terminals."""
    with pytest.raises(WrongName) as caught:
        checked(kind, name)
    assert str(caught.value).startswith(f"The {kind} name ")
    assert "expected 1 to" in str(caught.value)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["loop", "step", "key", "unique", "label"])
@pytest.mark.parametrize("name", ["caf\udce9", "\x9b31m", "\u2028", "\u202e"], ids=ascii)
def test_names_that_only_look_printable(kind: str, name: str) -> None:
    """Control characters beyond ASCII would reach terminals, and a broken file name would break the save."""
    with pytest.raises(WrongName):
        checked(kind, name)


def test_job_ids_cannot_be_guessed() -> None:
    """Anybody could read other people's jobs by counting."""
    ids = {new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(job_id) == 32 and job_id.isalnum() for job_id in ids)


def test_keys_stay_in_their_namespace() -> None:
    """Two applications in one database would overwrite each other."""
    keys = Keys("mine", "rq")
    ours = [keys.job("1"), keys.steps("1"), keys.history("1"), keys.status("queued"), keys.key("t", "k")]
    ours += [keys.unique("t", "u"), keys.agenda, keys.taken, keys.sweep]
    assert len(set(ours)) == len(ours)
    assert all(key.startswith("mine:") for key in ours)
    assert keys.of_job("1") == [
        keys.job("1"),
        keys.steps("1"),
        keys.history("1"),
        keys.agenda,
        keys.status(""),
        "rq:",
        keys.taken,
    ]


@pytest.mark.parametrize("kind", ["key", "unique"])
def test_keys_of_two_tasks_never_meet(kind: str) -> None:
    """The key "b:c" of task "a" would be the key "c" of task "a:b"."""
    keys = Keys("ckpt", "rq")
    of = getattr(keys, kind)
    assert of("a", "b:c") != of("a:b", "c")


def test_settings_have_defaults() -> None:
    """Nothing would work without configuration."""
    assert Settings.read({}) == Settings(DEFAULT_URL, "ckpt", 10.0, 25.0, ())
    assert {field.name for field in fields(Settings)} == {"url", "namespace", "lease", "grace", "tasks"}


def test_settings_from_the_environment() -> None:
    """A deployment could not be configured without code."""
    environ = {
        "CHECKPOINT_RUNNER_REDIS_URL": "redis://a/1",
        "CHECKPOINT_RUNNER_NAMESPACE": "shop",
        "CHECKPOINT_RUNNER_LEASE": "3",
        "CHECKPOINT_RUNNER_GRACE": "7.5",
        "CHECKPOINT_RUNNER_TASKS": "a.tasks, b.tasks,,",
    }
    assert Settings.read(environ) == Settings("redis://a/1", "shop", 3.0, 7.5, ("a.tasks", "b.tasks"))


def test_arguments_beat_the_environment() -> None:
    """A test could not point a runner at another server."""
    environ = {"CHECKPOINT_RUNNER_REDIS_URL": "redis://a/1", "CHECKPOINT_RUNNER_LEASE": "nonsense"}
    read = Settings.read(environ, url="redis://b/2", lease=timedelta(seconds=2), tasks=("c",))
    assert (read.url, read.lease, read.tasks) == ("redis://b/2", 2.0, ("c",))


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("CHECKPOINT_RUNNER_REDIS_URL", "RQ_REDIS_URL", "REDIS_URL"), "redis://CHECKPOINT_RUNNER_REDIS_URL"),
        (("RQ_REDIS_URL", "REDIS_URL"), "redis://RQ_REDIS_URL"),
        (("REDIS_URL",), "redis://REDIS_URL"),
    ],
)
def test_the_order_of_url_variables(names: tuple[str, ...], wanted: str) -> None:
    """RQ and this library would talk to different servers."""
    environ = {name: f"redis://{name}" for name in names} | {"CHECKPOINT_RUNNER_REDIS_URL_": "x"}
    assert Settings.read(environ).url == wanted
    assert Settings.read({"CHECKPOINT_RUNNER_REDIS_URL": "", **environ}).url == wanted


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CHECKPOINT_RUNNER_LEASE", "ten"),
        ("CHECKPOINT_RUNNER_LEASE", "nan"),
        ("CHECKPOINT_RUNNER_LEASE", "0"),
        ("CHECKPOINT_RUNNER_LEASE", "-1"),
        ("CHECKPOINT_RUNNER_GRACE", "inf"),
        ("CHECKPOINT_RUNNER_GRACE", "5 s"),
    ],
)
def test_odd_settings(name: str, text: str) -> None:
    """A typing error in a deployment would be found by the first lost job."""
    with pytest.raises(WrongSetting, match=rf"^{name} is .*; expected"):
        Settings.read({name: text})


def test_an_odd_namespace() -> None:
    """Keys would not be found again."""
    with pytest.raises(WrongName, match="The namespace name 'a:b' can't be used"):
        Settings.read({"CHECKPOINT_RUNNER_NAMESPACE": "a:b"})


@pytest.mark.parametrize("text", ["two", "-1", "1.5", "²", " 1"])
def test_odd_counts(text: str) -> None:
    """The plugin would start a wrong number of workers."""
    with pytest.raises(WrongSetting, match=r"^N is .*expected a whole number"):
        count({"N": text}, "N", 2)
    assert count({}, "N", 2) == 2
    assert count({"N": "0"}, "N", 2) == 0


def test_seconds_left() -> None:
    """A long item could not know how long it may go on."""
    assert Interruption(Reason.PAUSE).seconds_left == float("inf")
    assert Interruption(Reason.SHUTDOWN, 0.0).seconds_left == 0.0
