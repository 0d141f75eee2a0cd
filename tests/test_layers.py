"""The layers, read from the imports, and habits that no linter checks.

A module imports only from its own row and the rows above it, and no two modules import each
other.  Imports inside functions and under ``TYPE_CHECKING`` count too.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import hubthread

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hubthread"
MAX_LINES = 600
MAX_PARAMETERS = 8

# Openings that promise an explanation instead of giving a noun or a verb.
QUESTIONS = (
    *("What", "Who", "Whose", "How", "Whether", "Where", "When"),
    *("Whatever", "Whoever", "Somebody"),
)

# Base classes with one subclass that are not a file split, each with the reason.
ONE_SUBCLASS = {
    "net.lasting.LastingOutbox": "its connection makes it, by Connection.outbox_class",
    "client.socket_driver.SocketDriver": "the links of a crowd share a thread instead",
    "matcher.matcher.Recipient": "lets the matcher know a client, which is in a higher layer",
    "rooms.ticking.setup.TickSetup": "knows the room's type only as a type variable",
    "rooms.ticking.countdown.BaseCountdownTicker": "knows the room only as a type variable",
    "rooms.ticking.inputs.BaseInputGate": "knows the room only as a type variable",
}

# hubthread does without asyncio, and only net has sockets.
_IO = "asyncio selectors select socket socketserver ssl"
_THREADS = "_thread concurrent multiprocessing queue sched signal threading time"
_WSGI = "flask werkzeug django"
_MONITORING = "prometheus_client opentelemetry"


class Row(NamedTuple):
    """One row of the table of layers, lowest first: it may import from the rows above it."""

    packages: str
    """Packages and modules below ``hubthread``."""
    third_party: str = ""
    not_stdlib: str = _IO
    typed_stdlib: str = ""
    """Modules of the standard library that annotations may name all the same."""


ROWS = (
    Row("errors statistics version"),
    Row("checks types"),
    Row("limits history nodes presence sessions"),
    # No threads, no clocks: what these two do depends on the bytes alone.
    Row("matcher", not_stdlib=f"{_IO} {_THREADS}"),
    Row("state", not_stdlib=f"{_IO} {_THREADS}"),
    Row("protocol", third_party="wsproto h11", not_stdlib=f"{_IO} {_THREADS}"),
    Row("concurrency"),
    Row("net", not_stdlib="asyncio"),
    Row("net.udp net.wsgi", not_stdlib="asyncio"),
    Row("client", typed_stdlib="ssl"),
    Row("backplane"),
    # Names redis only as a text: redis-py is imported when a program wants it.
    Row("backplane.redis", not_stdlib="asyncio"),
    Row("interfaces"),
    Row("room_option"),
    Row("publisher"),
    Row("settings"),
    Row("defaults"),
    Row("core"),
    Row("clients", typed_stdlib="socket ssl"),
    Row("rooms"),
    Row("rooms.ticking"),
    Row("serving", typed_stdlib="socket ssl"),
    Row("hub", typed_stdlib="socket ssl"),
    Row("integrations", third_party=f"{_WSGI} {_MONITORING}", typed_stdlib="socket ssl"),
    Row("testing", typed_stdlib="socket ssl"),
    Row("__init__ bots demo loading terminal top typescript", typed_stdlib="socket ssl"),
    Row("examples", third_party=f"{_WSGI} {_MONITORING}"),
    Row("__main__ cli", typed_stdlib="socket ssl"),
)


class Import(NamedTuple):
    """One imported module, or a name out of one, dotted."""

    line: int
    module: str
    typed_only: bool


def test_modules_import_only_from_rows_above() -> None:
    assert_none(
        wrong for path in _files(PACKAGE) for wrong in layer_errors(_name(path), _tree(path))
    )


def test_no_two_modules_import_each_other() -> None:
    files = {_module(_name(path)): path for path in _files(PACKAGE)}
    graph = {
        module: {_nearest(found.module, files) for found in imports(_name(path), _tree(path))}
        & (files.keys() - {module})
        for module, path in files.items()
    }
    assert circles(graph) == []


def test_nothing_sleeps_but_the_pause_that_yields_the_gil() -> None:
    pause = PACKAGE / "concurrency" / "fairness.py"
    assert_none(
        f"{_name(path)}:{line}: time.sleep; wait for a condition instead (an Event, a fence)"
        for path in _files(PACKAGE, ROOT / "tests")
        if "sleep" in _text(path)  # to parse all takes seconds
        for line in sleeps(_tree(path))
        if path != pause or line not in _lines_of("pause", _tree(path))
    )


def test_locks_are_entered_themselves_and_not_through_conditions() -> None:
    """``Condition.__enter__`` is Python code: an exception that strikes there keeps the lock."""
    assert_none(
        f"{_name(path)}:{line}: enters a condition; enter the lock that it shares"
        for path in _files(PACKAGE)
        for line in entered_conditions(_tree(path))
    )


def test_files_swallow_no_error() -> None:
    assert_none(
        f"{_name(path)}:{line}: swallows every error; name the ones you expect, or log it"
        for path in _files(PACKAGE, ROOT / "tests")
        if "except:" in _text(path) or "Exception" in _text(path)
        for line in swallowed(_tree(path))
    )


def test_files_have_docstrings() -> None:
    assert_none(
        f"{_name(path)}:1: no docstring"
        for path in _files(PACKAGE, ROOT / "tests", ROOT / "benchmarks")
        if not ast.get_docstring(_opening(path))
    )


def test_package_docstrings_name_every_file_that_is_there_and_no_other() -> None:
    assert_none(
        wrong
        for path in _files(PACKAGE)
        if path.name == "__init__.py"
        for wrong in map_errors(path, ast.get_docstring(_tree(path)) or "")
    )


def test_design_names_every_package_of_the_layers() -> None:
    page = (PACKAGE / "docs" / "topics" / "design.rst").read_text(encoding="utf-8")
    packages = {name for row in ROWS for name in row.packages.split()} - {"__init__", "__main__"}
    assert [name for name in sorted(packages) if f"``{name}``" not in page] == []


def test_map_of_the_main_things_names_functions_that_are_there() -> None:
    found = re.findall(
        r"^ +(.+?)  +(\S+\.py) +(\w+)\.(\w+)$", hubthread.__doc__ or "", re.MULTILINE
    )
    assert len(found) == 6
    for _, file, owner, method in found:
        module = importlib.import_module(_module(f"hubthread/{file}"))
        assert hasattr(getattr(module, owner), method), f"{file}: {owner}.{method}"


def test_docstrings_open_with_a_noun_or_an_imperative() -> None:
    """Those of all modules, and of the classes of the package."""
    assert_none(
        f"{_name(path)}:{line}: opens with {word!r}; open with a noun or an imperative"
        for path in _files(PACKAGE, ROOT / "tests", ROOT / "benchmarks")
        for line, word in questions(_tree(path) if PACKAGE in path.parents else _opening(path))
    )


def test_files_stay_short() -> None:
    assert_none(
        f"{_name(path)}: {lines} lines, at most {MAX_LINES}: split it"
        for path in _files(PACKAGE)
        if (lines := path.read_text(encoding="utf-8").count("\n")) > MAX_LINES
    )


def test_functions_have_few_parameters() -> None:
    """Public ones may have more: their callers name the few that they need."""
    assert_none(
        f"{_name(path)}:{line}: {name} has {count} parameters, at most {MAX_PARAMETERS}"
        for path in _files(PACKAGE)
        for line, name, count in long_signatures(_tree(path), public=hubthread.__all__)
    )


def test_base_classes_are_not_file_splits() -> None:
    """A class that is only a base of one other is a part of it in another file."""
    modules = [importlib.import_module(_module(_name(path))) for path in _files(PACKAGE)]
    own = {
        thing
        for module in modules
        for thing in vars(module).values()
        if inspect.isclass(thing) and thing.__module__.startswith("hubthread.")
    }
    made = {name for path in _files(PACKAGE) for name in called(_tree(path))}
    found = {
        f"{base.__module__.removeprefix('hubthread.')}.{base.__name__}"
        for base in single_bases(own, made, public=hubthread.__all__)
    }
    assert found == ONE_SUBCLASS.keys()


def assert_none(errors: Iterator[str]) -> None:
    found = list(errors)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def map_errors(init: Path, doc: str) -> Iterator[str]:
    """Yield each file that the docstring of a package leaves out, or names by mistake."""
    folder = init.parent
    named = set(re.findall(r"(?<![\w./])(?:\w+/)*(?:\w+\.py\b|\w+/)", doc))
    there = {path.name for path in folder.glob("*.py") if not path.name.startswith("__")}
    there |= {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    for name in sorted(there - named):
        yield f"{_name(init)}:1: the docstring does not name {name}"
    for name in sorted(named):
        if not (folder / name).exists() and not (PACKAGE / name).exists():
            yield f"{_name(init)}:1: the docstring names {name}, which is not there"


def row_of(module: str) -> int | None:
    """Return the number of the row that ``module`` (below ``hubthread``) is in."""
    while True:
        for number, row in enumerate(ROWS):
            if module in row.packages.split():
                return number
        if not module:
            return None
        module = module.rpartition(".")[0]


def layer_errors(file: str, tree: ast.Module) -> Iterator[str]:
    """Yield each import of ``file`` (relative to the root) that its row does not allow."""
    module = _module(file).removeprefix("hubthread").removeprefix(".") or "__init__"
    own = row_of(module)
    if own is None:
        yield f"{file}:1: in no row; add it to the table in tests/test_layers.py"
        return
    row = ROWS[own]
    for line, target, only_typed in imports(file, tree):
        first, _, rest = target.partition(".")
        if first == "hubthread":
            # A name other than a package or module comes from the root: only the top has it.
            number = row_of(rest)
            top = row_of("__init__")
            ok = (top if number is None else number) <= own  # type: ignore[operator]
            allowed = "its own row and the rows above it"
        elif first in sys.stdlib_module_names:
            ok = first not in row.not_stdlib.split() or (
                only_typed and first in row.typed_stdlib.split()
            )
            allowed = f"the standard library without {row.not_stdlib}"
        else:
            ok = first in row.third_party.split()
            allowed = row.third_party or "the standard library only"
        if not ok:
            yield f"{file}:{line}: {module} imports {target}; allowed: {allowed}"


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def imports(file: str, tree: ast.Module) -> Iterator[Import]:
    """Yield each import, with relative names and ``from hubthread import x`` spelled out."""
    typed = {id(node) for block in _typed_blocks(tree) for node in ast.walk(block)}
    package = list(Path(file).parent.parts)
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, id(node) in typed)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(node.lineno, f"{source}.{alias.name}", id(node) in typed)


def _nearest(name: str, files: Mapping[str, Path]) -> str:
    """Return the module of the package that ``name`` is or comes from, or ``""``."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name


def _module(file: str) -> str:
    """Return the dotted name of ``file``."""
    return ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")


def _typed_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in _nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from node.body


def sleeps(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that name ``time.sleep``, by whatever name time was imported."""
    names = {
        alias.asname or alias.name
        for node in _nodes(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "time"
    }
    for node in _nodes(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr="sleep") if owner in names:
                yield node.lineno
            case ast.ImportFrom(module="time", names=taken):
                if any(alias.name == "sleep" for alias in taken):
                    yield node.lineno


def _lines_of(function: str, tree: ast.Module) -> range:
    (found,) = (
        node
        for node in _nodes(tree)
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    return range(found.lineno, (found.end_lineno or 0) + 1)


def entered_conditions(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of ``with`` statements that enter a condition made in this file.

    Also the lines that make a condition with a lock of its own.
    """
    conditions: set[str] = set()
    for node in _nodes(tree):
        match node:
            case ast.Assign(targets=targets, value=ast.Call(func=called, args=locks)) if (
                ast.unparse(called) == "threading.Condition"
            ):
                conditions.update(map(ast.unparse, targets))
                if not locks:
                    yield node.lineno
    for node in _nodes(tree):
        if isinstance(node, ast.With) and any(
            ast.unparse(item.context_expr) in conditions for item in node.items
        ):
            yield node.lineno


def swallowed(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of bare excepts, and of excepts for everything that do nothing."""
    for node in _nodes(tree):
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


def questions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and first word of each docstring that opens with one of ``QUESTIONS``."""
    for node in _nodes(tree):
        if isinstance(node, (ast.Module, ast.ClassDef)):
            word = (ast.get_docstring(node) or "").split(maxsplit=1)[:1]
            if word and word[0].rstrip(",:;.") in QUESTIONS:
                yield getattr(node, "lineno", 1), word[0]


def long_signatures(
    tree: ast.Module, *, public: Collection[str]
) -> Iterator[tuple[int, str, int]]:
    """Yield line, name and number of parameters of each function that has too many.

    Methods of the classes in ``public`` are left out, if their names are public too.
    """
    public_methods = {
        id(step)
        for node in _nodes(tree)
        if isinstance(node, ast.ClassDef) and node.name in public
        for step in node.body
        if isinstance(step, ast.FunctionDef) and not step.name.startswith("_")
    }
    for node in _nodes(tree):
        if isinstance(node, ast.FunctionDef) and id(node) not in public_methods:
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            if count > MAX_PARAMETERS:
                yield node.lineno, node.name, count


def called(tree: ast.Module) -> Iterator[str]:
    """Yield the last part of the name of everything that is called."""
    for node in _nodes(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).partition("[")[0].rpartition(".")[2]


def single_bases(
    classes: Iterable[type], made: Collection[str], *, public: Collection[str]
) -> Iterator[type]:
    """Yield each base of exactly one class that is not public, no protocol and never made."""
    subclasses: dict[type, list[type]] = {}
    for each in classes:
        for base in each.__bases__:
            subclasses.setdefault(base, []).append(each)
    for base in classes:
        usable = base.__name__ in public or base.__name__ in made
        is_protocol = getattr(base, "_is_protocol", False)
        if len(subclasses.get(base, ())) == 1 and not usable and not is_protocol:
            yield base


def _is_idle(step: ast.stmt) -> bool:
    return isinstance(step, (ast.Pass, ast.Continue)) or (
        isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)
    )


def _is_everything(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(ast.unparse(part) in ("Exception", "BaseException") for part in parts)


def _files(*folders: Path) -> list[Path]:
    """Return the Python files below the folders, without the documentation."""
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*.py")
        if PACKAGE / "docs" not in path.parents
    )


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def _nodes(tree: ast.Module) -> list[ast.AST]:
    return list(ast.walk(tree))


@functools.cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(_text(path), filename=str(path))


def _opening(path: Path) -> ast.Module:
    """Return the docstring of a module alone, if its first line begins one."""
    found = re.match(r'''(?:#.*\n)*""".*?"""''', _text(path), re.DOTALL)
    return ast.parse(found[0] if found else "")


@pytest.mark.parametrize(
    ("file", "source", "told"),
    [
        ("net/a.py", "import hubthread.hub.hub", "net.a imports hubthread.hub.hub"),
        ("net/a.py", "from ..hub import hub", "net.a imports hubthread.hub.hub"),
        ("net/a.py", "from .. import hub", "net.a imports hubthread.hub"),
        ("net/a.py", "from .udp import peer", "net.a imports hubthread.net.udp.peer"),
        ("net/a.py", "from hubthread import Hub", "net.a imports hubthread.Hub"),
        ("net/a.py", "import wsproto", "net.a imports wsproto"),
        ("hub/a.py", "def f():\n    import socket", "hub/a.py:2: hub.a imports socket"),
        ("protocol/a.py", "from time import monotonic", "protocol.a imports time.monotonic"),
        ("protocol/a.py", "from ..concurrency import clock", "imports hubthread.concurrency"),
        ("rooms/a.py", "from .ticking import loop", "imports hubthread.rooms.ticking.loop"),
        (
            "core/a.py",
            "if TYPE_CHECKING:\n    from hubthread.clients.client import Client",
            "core.a imports hubthread.clients.client.Client",
        ),
        ("errors.py", "from hubthread import statistics, cli", "errors imports hubthread.cli"),
        ("other/a.py", "", "in no row"),
    ],
)
def test_layer_errors_wrong_import_is_found(file: str, source: str, told: str) -> None:
    (error,) = layer_errors(f"hubthread/{file}", ast.parse(source))
    assert told in error


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("hub/a.py", "from ..net.listener import Listener\nfrom . import client"),
        ("hub/a.py", "if TYPE_CHECKING:\n    import ssl"),
        ("settings.py", "if typing.TYPE_CHECKING:\n    from .protocol.frames import Frame"),
        ("rooms/ticking/a.py", "from ..hotline import Hotline"),
        ("net/__init__.py", "import socket, selectors\nfrom .listener import Listener"),
        ("__init__.py", "from .hub.hub import Hub as Hub\nfrom . import errors"),
    ],
)
def test_layer_errors_right_import_passes(file: str, source: str) -> None:
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
def test_sleeps_and_swallowed_find_each_form(source: str) -> None:
    tree = ast.parse(source)
    assert [*sleeps(tree), *swallowed(tree)] == [2]


def test_map_errors_finds_missing_and_wrong_names() -> None:
    init = PACKAGE / "net" / "wsgi" / "__init__.py"
    assert list(map_errors(init, "``hijack.py``, ``parked.py``; see ``net/tls.py``")) == []
    missing, wrong = map_errors(init, "``hijack.py``; see ``net/parked.py``")
    assert missing.endswith("does not name parked.py")
    assert "net/parked.py, which is not there" in wrong


def test_circles_finds_each_group() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"f"}, "f": {"e"}}
    assert circles(graph) == [["a", "b", "c"], ["e", "f"]]


@pytest.mark.parametrize(
    "source",
    [
        '"""What it is."""\nclass A:\n    """A class."""',
        '"""A module."""\nclass A:\n    """Who does it."""',
        '"""Somebody, somewhere."""\nclass A:\n    pass',
    ],
)
def test_questions_finds_module_and_class(source: str) -> None:
    assert len(list(questions(ast.parse(source)))) == 1
    assert list(questions(ast.parse('"""A hub."""\nclass A:\n    """A client."""'))) == []


def test_long_signatures_finds_nine_parameters() -> None:
    nine = "self, a, b, c, d, e, f, g, *, h, i"
    tree = ast.parse(f"class Hub:\n    def _open({nine}): ...\n    def serve({nine}): ...")
    assert list(long_signatures(tree, public=["Hub"])) == [(2, "_open", 9)]
    assert list(long_signatures(ast.parse("def f(a, b, c, d, e, f, g, h): ..."), public=[])) == []


def test_single_bases_finds_file_split() -> None:
    class Split: ...

    class Made: ...

    class Shared: ...

    class One(Split, Made, Shared): ...

    class Other(Shared): ...

    classes = [Split, Made, Shared, One, Other]
    made = set(called(ast.parse("Made[int](3)\nmodule.One()")))
    assert list(single_bases(classes, made, public=["Other"])) == [Split]
    assert list(single_bases(classes, made, public=["Split"])) == []
