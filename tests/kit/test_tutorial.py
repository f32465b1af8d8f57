"""docs/testing.md does what it says."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
FILES = {name: f"# {name}\n{code}" for name, code in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)}
SAID = [block.splitlines() for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of its own that holds the files of the page."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    return tmp_path


def cpu_of_children() -> float:
    """Return the seconds that they have computed: a busy machine makes no difference."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(folder: Path, *arguments: str, plugins: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does, with no plugin but ours and those given."""
    named = [argument for plugin in ("checkpoint_runner.testing.plugin", *plugins) for argument in ("-p", plugin)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *named, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize(("name", "said"), [("test_wrong.py", SAID[0]), ("test_half_right.py", SAID[1])])
def test_the_wrong_task_is_caught_as_the_page_says(folder: Path, name: str, said: list[str]) -> None:
    """If the report said something else, a user would not find his mistake in it."""
    ended = run(folder, name, "-k", "survives")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    for line in said:
        assert line.strip() in ended.stdout


@pytest.mark.parametrize("name", ["test_right.py", "test_ten_lines.py"])
def test_the_right_task_passes(folder: Path, name: str) -> None:
    """If it failed, a user would have followed the page for nothing."""
    ended = run(folder, name)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_both_take_less_than_five_seconds(folder: Path) -> None:
    """If they took longer, users would try fewer of their tasks."""
    began = cpu_of_children()
    ended = run(folder, "test_wrong.py", "test_right.py")
    assert cpu_of_children() - began < 5
    assert "1 failed, 1 passed" in ended.stdout


def test_the_plugin_imports_nothing_until_its_fixture_is_used(folder: Path) -> None:
    """If it did, every test run of every project on the machine would start later."""
    (folder / "test_modules.py").write_text(
        "import sys\n"
        "OURS = {'checkpoint_runner', 'checkpoint_runner.testing', 'checkpoint_runner.testing.plugin'}\n"
        "HEAVY = {'fakeredis', 'redis', 'rq', 'msgspec', 'click', 'lupa'}\n"
        "def test_before():\n"
        "    assert {name for name in sys.modules if name.partition('.')[0] == 'checkpoint_runner'} == OURS\n"
        "    assert not HEAVY & set(sys.modules)\n"
        "def test_with_it(checkpoints):\n"
        "    assert 'checkpoint_runner.runner' in sys.modules\n"
    )
    ended = run(folder, "test_modules.py")
    assert ended.returncode == 0, ended.stdout


def test_it_works_with_xdist(folder: Path) -> None:
    """If it did not, a project that runs its tests in parallel could not use it."""
    ended = run(folder, "test_right.py", "test_ten_lines.py", "-n", "2", plugins=("xdist.plugin",))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed" in ended.stdout


def test_it_works_on_a_real_server(folder: Path) -> None:
    """If it did not, a user could not run his tests on the server that he deploys."""
    ended = run(folder, "test_ten_lines.py", "--checkpoints-server=embedded")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_the_built_wheel_works_in_a_new_environment(folder: Path) -> None:
    """If the wheel lacked the entry point or a file, the page's first test would fail for everybody."""
    if "CHECKPOINT_RUNNER_RACE_RUNS" not in os.environ:
        pytest.skip("`make test-deep` runs it: it builds, and downloads what the wheel needs")
    python = folder / "venv" / "bin" / "python"
    for command in (
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)],
        [sys.executable, "-m", "venv", str(folder / "venv")],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=100)
    (wheel,) = folder.glob("*.whl")
    install = [str(python), "-m", "pip", "install", "--quiet", f"{wheel}[testing]"]
    subprocess.run(install, check=True, capture_output=True, timeout=100)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(
        [str(python), "-m", "pytest", "test_ten_lines.py"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
