"""The reference has an entry for each public name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hubthread
from hubthread import client, testing
from hubthread.integrations import flask, opentelemetry, prometheus
from tests.pages import DOCS

ENTRIES = re.findall(
    r"^\.\. (?:auto\w+|py:data):: ([\w.]+)(?:\(\))?$",
    "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.rst")),
    re.MULTILINE,
)


@pytest.mark.parametrize(
    "module",
    [hubthread, client, testing, flask, opentelemetry, prometheus],
    ids=lambda module: module.__name__,
)
def test_reference_has_every_public_name_once(module: object) -> None:
    package: str = module.__name__  # type: ignore[attr-defined]
    names: list[str] = module.__all__  # type: ignore[attr-defined]
    found = [ENTRIES.count(f"{package}.{name}") for name in names]
    assert [name for name, count in zip(names, found, strict=True) if count != 1] == []


def test_reference_has_every_name_of_the_browsers_client() -> None:
    """Each name that ``hubthread.d.ts`` declares stands on the page, as code."""
    page = (DOCS / "reference" / "browser_client.rst").read_text(encoding="utf-8")
    code = " ".join(re.findall("``(.+?)``", page))
    types = (Path(hubthread.__file__).parent / "static" / "hubthread.d.ts").read_text("utf-8")
    declared = re.findall(
        r"^(?:export (?:class|function|const) |  (?:readonly )?)(?!private|interface)(\w+)"
        r"\??[(:<{ ]",
        types,
        re.MULTILINE,
    )
    names = set(declared)
    assert {"connect", "Hub", "retryAt", "maxMessage", "onEntity", "request", "volatile"} <= names
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", code)] == []


def test_reference_pages_stand_in_the_index() -> None:
    index = (DOCS / "index.rst").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.rst")]
    assert [page for page in pages if page != "index" and f"   {page}\n" not in index] == []
