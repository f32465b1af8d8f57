"""The command line: `checkpoint-runner`."""

from __future__ import annotations

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
@click.option("--parent", type=int, hidden=True, help="The supervisor whose death ends this worker.")
def worker(
    queues: tuple[str, ...],
    url: str | None,
    grace: float | None,
    tasks: tuple[str, ...],
    processes: int,
    burst: bool,
    parent: int | None,
) -> None:
    """Run jobs from QUEUES (default: those of the registered tasks)."""
    from checkpoint_runner.console import start_logging
    from checkpoint_runner.settings import Settings
    from checkpoint_runner.worker_process import run_worker

    start_logging()
    settings = Settings.read(url=url, grace=grace, tasks=tasks)
    if processes == 1:
        run_worker(settings, queues, burst=burst, parent=parent)
        return
    from checkpoint_runner.supervisor import supervise_workers

    raise SystemExit(supervise_workers(settings, queues, processes, burst=burst, parent=parent))
