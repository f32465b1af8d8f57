"""What our plugin relies on in gunicorn: names and orders that its documentation does not promise."""

from __future__ import annotations

import inspect
import queue
import signal

import pytest
from gunicorn import config
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from checkpoint_runner import gunicorn_conf

MASTER_HOOKS = ("on_starting", "on_reload", "when_ready", "on_exit")
WORKER_HOOKS = ("pre_fork", "post_fork", "post_worker_init", "worker_int", "worker_abort", "worker_exit", "child_exit")


def arity(function: object) -> int:
    return len(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_master_has_its_handlers_before_it_says_that_it_is_ready() -> None:
    """If when_ready came first, gunicorn would overwrite the handlers that tell our workers of a stop."""
    source = inspect.getsource(Arbiter.start)
    order = ["self.cfg.on_starting(self)", "self.init_signals()", "self.cfg.when_ready(self)"]
    assert sorted(order, key=source.index) == order


def test_the_master_installs_python_handlers_that_only_queue() -> None:
    """If gunicorn waited for signals in another way, a chained handler would never run, or deadlock."""
    assert "signal.signal(s, self.signal)" in inspect.getsource(Arbiter.init_signals)
    assert "self.SIG_QUEUE.put_nowait(sig)" in inspect.getsource(Arbiter.signal)
    assert arity(Arbiter.signal) == 3
    assert "queue.SimpleQueue()" in inspect.getsource(Arbiter.__init__)


def test_the_master_handles_the_signals_that_we_forward() -> None:
    """If one of them were not gunicorn's any more, the master would die of it and leave the workers alone."""
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP} <= set(Arbiter.SIGNALS)
    assert signal.SIGCHLD not in Arbiter.SIGNALS


def test_the_end_of_a_child_is_handled_by_a_method_that_is_looked_up_each_time() -> None:
    """If the method were bound once, the plugin would not see that its supervisor died."""
    assert arity(Arbiter.handle_chld) == 1
    assert 'getattr(self, "handle_%s" % signame, None)' in inspect.getsource(Arbiter.run)
    assert Arbiter.SIG_NAMES[signal.SIGCHLD] in ("chld", "cld")


def test_the_master_reaps_every_child() -> None:
    """If it reaped only its own, our supervisor would stay a zombie and look alive."""
    assert "os.waitpid(-1, os.WNOHANG)" in inspect.getsource(Arbiter.reap_workers)


@pytest.mark.parametrize("name", [*MASTER_HOOKS, *WORKER_HOOKS])
def test_the_hooks_have_the_names_that_we_use(name: str) -> None:
    """If gunicorn renamed a hook, our function of the old name would silently never be called."""
    setting = config.make_settings()[name]
    assert callable(setting.get())
    ours = getattr(gunicorn_conf, name, None)
    if ours is not None:
        assert arity(ours) == arity(setting.get())


def test_our_config_module_binds_only_names_that_gunicorn_knows_as_ours() -> None:
    """If a helper of ours had a setting's name, gunicorn would take it for a value and refuse to start."""
    settings = set(config.make_settings())
    bound = {name for name in vars(gunicorn_conf) if name in settings}
    assert bound <= {*MASTER_HOOKS, *WORKER_HOOKS, "graceful_timeout"}
    assert "workers" not in bound


def test_a_worker_calls_its_hook_when_its_handlers_stand() -> None:
    """If post_worker_init came before gunicorn's handlers, ours would be overwritten and streams hold up a stop."""
    source = inspect.getsource(Worker.init_process)
    order = ["self.init_signals()", "self.cfg.post_worker_init(self)", "self.run()"]
    assert sorted(order, key=source.index) == order
    assert "self.cfg.worker_exit(self, worker)" in inspect.getsource(Arbiter.spawn_worker)


def test_the_master_leaves_by_its_hook_after_the_workers() -> None:
    """If on_exit came first, the master would wait for the job workers while web requests are cut."""
    source = inspect.getsource(Arbiter.halt)
    assert source.index("self.stop()") < source.index("self.cfg.on_exit(self)")


def test_a_queue_of_the_standard_library_may_be_filled_in_a_handler() -> None:
    """If SimpleQueue were not reentrant, a signal at the wrong moment would deadlock the shutdown."""
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    previous = signal.signal(signal.SIGUSR2, lambda number, _frame: signals.put(number))
    try:
        for _ in range(200):
            signal.raise_signal(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, previous)
    assert signals.qsize() == 200
