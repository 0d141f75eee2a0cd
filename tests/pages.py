"""The programs that the documentation shows: README.rst, hubthread/docs and benchmarks."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "DOCS",
    "PAGES",
    "ROOT",
    "Block",
    "blocks",
    "code_of",
    "execute",
    "page_name",
    "program",
]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "hubthread" / "docs"
PAGES = sorted(
    {*(ROOT / each / "README.rst" for each in (".", "benchmarks", "tests")), *DOCS.rglob("*.rst")}
)

_OPENING = re.compile(r"^( *)\.\. (code-block|testsetup|testcode)::(.*)$")
_OPTION = re.compile(r"^ +:(\w+):(.*)$")


class Block(NamedTuple):
    """One block of code on a page."""

    language: str
    """Such as ``python`` or ``nginx``; the blocks that Sphinx hides are ``python``."""
    name: str
    """The option ``:name:``, or an empty string."""
    line: int
    """The number of lines above the code, so that a traceback names the line of the page."""
    code: str


def page_name(page: Path) -> str:
    """Return the path of a page from the root of the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in their order."""
    found = []
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if not (opening := _OPENING.match(line)):
            continue
        indent, directive, argument = opening.groups()
        language = argument.strip() if directive == "code-block" else "python"
        start = number + 1
        options = {}
        while start < len(lines) and (option := _OPTION.match(lines[start])):
            options[option[1]] = option[2].strip()
            start += 1
        end = start
        while end < len(lines) and (lines[end].startswith(indent + " ") or not lines[end].strip()):
            end += 1
        code = textwrap.dedent("\n".join(lines[start:end])).rstrip() + "\n"
        found.append(Block(language, options.get("name", ""), start, code))
    return found


def program(name: str) -> str:
    """Return the program that has this ``:name:`` on one of the pages."""
    (code,) = [each.code for page in PAGES for each in blocks(page) if each.name == name]
    return code.lstrip("\n")


def execute(code: str, file: str, names: dict[str, Any]) -> None:
    """Run code as a file of its own, without the ``__future__`` imports of the tests."""
    exec(compile(code, file, "exec", dont_inherit=True), names)


def code_of(page: str, language: str) -> str:
    """Return the only block of a language on a page of ``hubthread/docs``."""
    (code,) = [each.code for each in blocks(DOCS / page) if each.language == language]
    return code.lstrip("\n")
