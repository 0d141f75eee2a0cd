"""The layers, read from the imports, and the habits that a linter does not know.

A module imports only from rows above its own.  Imports inside functions and under
``TYPE_CHECKING`` count too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hubthread"
MAX_LINES = 400


# asyncio is what hubthread does without; sockets are net's.
_IO = "asyncio selectors select socket socketserver ssl"
_THREADS = "_thread concurrent multiprocessing queue sched signal threading time"
_WSGI = "flask werkzeug"


class Row(NamedTuple):
    """One row of the table of layers, lowest first: it may import from the rows above it."""

    packages: str
    """Packages and modules below ``hubthread``."""
    third_party: str = ""
    not_stdlib: str = _IO
    typed_stdlib: str = ""
    """Modules of the standard library that annotations may name all the same."""


ROWS = (
    Row("errors statistics"),
    Row("checks types"),
    Row("limits"),
    # No threads, no clocks: what these two do depends on the bytes alone.
    Row("matcher", not_stdlib=f"{_IO} {_THREADS}"),
    Row("protocol", third_party="wsproto h11", not_stdlib=f"{_IO} {_THREADS}"),
    Row("concurrency"),
    Row("net", not_stdlib="asyncio"),
    Row("net.udp net.wsgi", not_stdlib="asyncio"),
    Row("interfaces"),
    Row("settings"),
    Row("defaults"),
    Row("core"),
    Row("clients", typed_stdlib="socket ssl"),
    Row("rooms"),
    Row("rooms.ticking"),
    Row("serving", typed_stdlib="socket ssl"),
    Row("hub", typed_stdlib="socket ssl"),
    Row("integrations", third_party=_WSGI, typed_stdlib="socket ssl"),
    Row("testing", typed_stdlib="socket ssl"),
    Row("__init__ __main__ cli demo", typed_stdlib="socket ssl"),
    Row("examples", third_party=_WSGI),
)


class Import(NamedTuple):
    """One imported module, by its whole name."""

    line: int
    module: str
    typed_only: bool


def test_a_module_imports_only_from_layers_above_it() -> None:
    assert_none(
        wrong for path in _files(PACKAGE) for wrong in layer_errors(_name(path), _tree(path))
    )


def test_nothing_sleeps() -> None:
    assert_none(
        f"{_name(path)}:{line}: time.sleep; wait for what you wait for (an Event, a fence)"
        for path in _files(PACKAGE, ROOT / "tests")
        for line in sleeps(_tree(path))
    )


def test_no_error_is_swallowed_unseen() -> None:
    assert_none(
        f"{_name(path)}:{line}: swallows every error; name the ones you expect, or log it"
        for path in _files(PACKAGE, ROOT / "tests")
        for line in swallowed(_tree(path))
    )


def test_every_file_opens_with_what_it_is() -> None:
    assert_none(
        f"{_name(path)}:1: no docstring"
        for path in _files(PACKAGE, ROOT / "tests", ROOT / "benchmarks")
        if not ast.get_docstring(_tree(path))
    )


def test_files_stay_short() -> None:
    assert_none(
        f"{_name(path)}: {lines} lines, at most {MAX_LINES}: split it"
        for path in _files(PACKAGE)
        if (lines := path.read_text(encoding="utf-8").count("\n")) > MAX_LINES
    )


def assert_none(errors: Iterator[str]) -> None:
    found = list(errors)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def layer_errors(file: str, tree: ast.Module) -> Iterator[str]:
    """What ``file`` (relative to the root) imports and may not."""
    # hubthread/net/listener.py: net; hubthread/cli.py: cli.
    name = Path(file).with_suffix("").parts[1]
    if name not in LAYER_OF:
        yield f"{file}:1: in no layer; add it to the table in tests/test_layers.py"
        return
    own = LAYER_OF[name]
    layer = LAYERS[own]
    typed_only = layer.typed_only.split()
    for line, module, only_typed in imports(file, tree):
        first, _, rest = module.partition(".")
        if first == "hubthread":
            target = LAYER_OF.get(rest.partition(".")[0], "top")
            ok = target in layer.layers.split() or (only_typed and target in typed_only)
            allowed = layer.layers
        elif first in sys.stdlib_module_names:
            ok = first not in layer.not_stdlib.split() or (only_typed and first in typed_only)
            allowed = f"the standard library without {layer.not_stdlib}"
        else:
            ok = first in layer.third_party.split()
            allowed = layer.third_party or "the standard library only"
        if not ok:
            under = f"; under TYPE_CHECKING also {layer.typed_only}" if typed_only else ""
            yield f"{file}:{line}: layer {own} imports {module}; allowed: {allowed}{under}"


def imports(file: str, tree: ast.Module) -> Iterator[Import]:
    """Each import, with relative names and ``from hubthread import x`` spelled out."""
    typed = {id(node) for block in _typed_blocks(tree) for node in ast.walk(block)}
    package = list(Path(file).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, id(node) in typed)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                # A name out of the root is a module, or something that only top offers.
                module = f"{source}.{alias.name}" if source == "hubthread" else source
                yield Import(node.lineno, module, id(node) in typed)


def _typed_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from node.body


def sleeps(tree: ast.Module) -> Iterator[int]:
    """Lines that name ``time.sleep``, under whatever name time goes."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "time"
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr="sleep") if owner in names:
                yield node.lineno
            case ast.ImportFrom(module="time", names=taken):
                if any(alias.name == "sleep" for alias in taken):
                    yield node.lineno


def swallowed(tree: ast.Module) -> Iterator[int]:
    """Lines of bare excepts, and of excepts for everything that do nothing."""
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler(type=None):
                yield node.lineno
            case ast.ExceptHandler(type=ast.expr() as caught, body=body):
                if _is_everything(caught) and all(_is_idle(step) for step in body):
                    yield node.lineno
            case ast.Call(func=called, args=caught_by_call):
                suppresses = ast.unparse(called).endswith("suppress")
                if suppresses and any(_is_everything(caught) for caught in caught_by_call):
                    yield node.lineno


def _is_idle(step: ast.stmt) -> bool:
    return isinstance(step, (ast.Pass, ast.Continue)) or (
        isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)
    )


def _is_everything(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(ast.unparse(part) in ("Exception", "BaseException") for part in parts)


def _files(*folders: Path) -> list[Path]:
    """Return the Python files below the folders; the documentation is no part of the package."""
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*.py")
        if PACKAGE / "docs" not in path.parents
    )


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.mark.parametrize(
    ("file", "source", "told"),
    [
        ("net/a.py", "import hubthread.hub.hub", "net imports hubthread.hub.hub"),
        ("net/a.py", "from ..hub import hub", "net imports hubthread.hub"),
        ("net/a.py", "from .. import hub", "net imports hubthread.hub"),
        ("net/a.py", "from hubthread import Hub", "net imports hubthread.Hub"),
        ("net/a.py", "import wsproto", "net imports wsproto"),
        ("hub/a.py", "def f():\n    import socket", "hub/a.py:2: layer hub imports socket"),
        ("protocol/a.py", "from time import monotonic", "protocol imports time"),
        ("protocol/a.py", "from ..concurrency import clock", "imports hubthread.concurrency"),
        ("testing/a.py", "from hubthread.integrations import wsgi", "hubthread.integrations"),
        ("errors.py", "from hubthread import settings, cli", "base imports hubthread.cli"),
        ("errors.py", "from .protocol import frames", "base imports hubthread.protocol"),
        ("other/a.py", "", "in no layer"),
    ],
)
def test_the_check_finds(file: str, source: str, told: str) -> None:
    (error,) = layer_errors(f"hubthread/{file}", ast.parse(source))
    assert told in error


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("hub/a.py", "from ..net.listener import Listener\nfrom . import client"),
        ("hub/a.py", "if TYPE_CHECKING:\n    import ssl"),
        ("settings.py", "if typing.TYPE_CHECKING:\n    from .protocol.frames import Frame"),
        ("net/__init__.py", "import socket, selectors\nfrom .listener import Listener"),
        ("__init__.py", "from .hub.hub import Hub as Hub\nfrom . import errors"),
    ],
)
def test_the_check_allows(file: str, source: str) -> None:
    assert list(layer_errors(f"hubthread/{file}", ast.parse(source))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.sleep(1)",
        "import time as t\nf(t.sleep)",
        "x = 1\nfrom time import sleep as s",
        "try: f()\nexcept: raise",
        "try: f()\nexcept (ValueError, Exception): pass",
        "try: f()\nexcept BaseException: ...",
        "from contextlib import *\nwith suppress(Exception): f()",
    ],
)
def test_the_habit_checks_find(source: str) -> None:
    tree = ast.parse(source)
    assert [*sleeps(tree), *swallowed(tree)] == [2]
