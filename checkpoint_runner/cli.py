"""The command line: `checkpoint-runner`."""

from __future__ import annotations

from pathlib import Path

import click

from checkpoint_runner.errors import CheckpointRunnerError


class _Group(click.Group):
    """Turns errors of our tree into one clear line."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except CheckpointRunnerError as error:
            raise click.ClickException(str(error)) from error


_url = click.option("--url", help="The server: redis://, rediss:// or unix:// (default: the environment).")
_grace = click.option("--grace", type=float, help="Seconds from a signal until everything is gone (default 25).")
_tasks = click.option("--tasks", multiple=True, metavar="MODULE", help="A module that defines tasks; repeatable.")


@click.group(cls=_Group)
@click.version_option(package_name="checkpoint-runner")
def main() -> None:
    """Long background jobs that survive deploys."""


@main.command()
@click.argument("queues", nargs=-1)
@_url
@_grace
@_tasks
@click.option("--processes", type=click.IntRange(1, 1000), default=1, show_default=True, help="Worker processes.")
@click.option("--burst", is_flag=True, help="Stop when the queues are empty.")
@click.option("--supervised", is_flag=True, hidden=True, help="Supervise even one process.")
@click.option("--parent", type=int, hidden=True, help="The supervisor whose death ends this worker.")
def worker(
    queues: tuple[str, ...],
    url: str | None,
    grace: float | None,
    tasks: tuple[str, ...],
    processes: int,
    burst: bool,
    supervised: bool,
    parent: int | None,
) -> None:
    """Run jobs from QUEUES (default: those of the registered tasks)."""
    from checkpoint_runner.console import start_logging
    from checkpoint_runner.settings import Settings
    from checkpoint_runner.worker_process import run_worker

    start_logging()
    settings = Settings.read(url=url, grace=grace, tasks=tasks)
    if processes == 1 and not supervised:
        run_worker(settings, queues, burst=burst, parent=parent)
        return
    from checkpoint_runner.supervisor import supervise_workers

    raise SystemExit(supervise_workers(settings, queues, processes, burst=burst, parent=parent))


@main.command()
@_url
@_grace
@_tasks
@click.option("--web", metavar="MODULE:APP", help="The web app, to be run under gunicorn.")
@click.option(
    "--bind", default="127.0.0.1:8000", show_default=True, metavar="HOST:PORT", help="Where the web app listens."
)
@click.option("--workers", type=click.IntRange(0, 1000), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".checkpoint-runner"),
    show_default=True,
    help="Where the embedded server keeps its data.",
)
def up(
    url: str | None,
    grace: float | None,
    tasks: tuple[str, ...],
    web: str | None,
    bind: str,
    workers: int,
    state_dir: Path,
) -> None:
    """Run a whole stack: a server of its own, the web app and the workers."""
    from checkpoint_runner.console import start_logging
    from checkpoint_runner.settings import Settings
    from checkpoint_runner.up import Stack, own_server_wanted, run_stack

    start_logging()
    settings = Settings.read(url=url, grace=grace, tasks=tasks)
    raise SystemExit(run_stack(Stack(web, bind, workers, state_dir), settings, own_server=own_server_wanted(url)))


@main.command()
@click.option("--interrupt-at", type=click.FloatRange(0, 1), default=1 / 3, help="The part done at the Ctrl+C.")
@click.option("--kill-at", type=click.FloatRange(0, 1), default=2 / 3, help="The part done at the SIGKILL (1: never).")
@click.option("--files", type=click.IntRange(10), help="How many files (default: all).")
def demo(interrupt_at: float, kill_at: float, files: int | None) -> None:
    """Show the whole story in a minute, and check that it held (in a clone of the project)."""
    import sys

    from checkpoint_runner.demo import Plan, run_demo

    sys.path.insert(0, str(Path.cwd()))
    raise SystemExit(0 if run_demo(Plan(interrupt_at, kill_at, files)) else 1)
