"""The page on the log has an entry for each line that the code logs, and no other."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import hubthread
from tests.pages import DOCS

PACKAGE = Path(hubthread.__file__).parent

# The place of the text among the arguments of the functions that log.
TEXTS = {
    "log_safely": 2, "log_limited": 2, "log_limit": 2, "log_exception": 1,
    "_say": 1, "_log": 0, "_warn": 0, "_trouble": 1, "_warn_once": 0, "log": 0,
    "debug": 0,
}  # fmt: skip
LEFT_OUT = ("demo", "examples", "testing", "client")

PLACEHOLDER = re.compile(r"%(?:\.\d+)?[rsdgf]|%%")


@functools.cache
def lines_of_code() -> dict[str, str]:
    """Return each text that is logged, with "…" for what varies, and where."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        if place.parts[0] not in (*LEFT_OUT, "docs"):
            for line, text in texts_of(ast.parse(path.read_text(encoding="utf-8"))):
                found[PLACEHOLDER.sub("…", text).replace("\n", " ")] = f"{place}:{line}"
    return found


def texts_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the texts that a module logs, with their lines."""
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef):
            for call in ast.walk(scope):
                if isinstance(call, ast.Call):
                    for text in texts_of_call(call, scope, tree):
                        yield call.lineno, text


def texts_of_call(call: ast.Call, scope: ast.FunctionDef, tree: ast.Module) -> Iterator[str]:
    name: str = getattr(call.func, "attr", getattr(call.func, "id", ""))
    place = TEXTS.get(name, len(call.args))
    if place < len(call.args):
        yield from values(call.args[place], scope, tree)


def values(node: ast.expr, scope: ast.FunctionDef, tree: ast.Module) -> Iterator[str]:
    """Yield the texts that an expression may be; none for what the caller of a function gives."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from values(node.body, scope, tree)
        yield from values(node.orelse, scope, tree)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            each.value if isinstance(each, ast.Constant) else "…"  # type: ignore[misc]
            for each in node.values
        )
    elif isinstance(node, ast.Name):
        constants: list[ast.stmt] = [each for each in tree.body if isinstance(each, ast.Assign)]
        for value in [*assigned(node.id, scope.body), *assigned(node.id, constants)]:
            yield from values(value, scope, tree)


def assigned(name: str, body: list[ast.stmt]) -> Iterator[ast.expr]:
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign):
                (target,) = node.targets[:1]
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                for each, value in pairs:
                    if isinstance(each, ast.Name) and each.id == name:
                        yield value


def lines_of_page() -> list[str]:
    page = (DOCS / "deploy" / "log.rst").read_text(encoding="utf-8")
    return re.findall(r"^``([^`]+)``$", page, re.MULTILINE)


def test_page_has_each_line_that_the_code_logs() -> None:
    code, page = lines_of_code(), lines_of_page()
    missing = [f"{where}: {line}" for line, where in code.items() if line not in page]
    assert missing == [], "say in hubthread/docs/deploy/log.rst what the line means"


def test_page_has_no_line_that_is_not_logged_and_none_twice() -> None:
    code, page = lines_of_code(), lines_of_page()
    assert [line for line in page if line not in code or page.count(line) > 1] == []
