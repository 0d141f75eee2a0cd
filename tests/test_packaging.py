"""The installed package: version, files, command, and the modules that an import loads."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources

import hubthread

# Run-time dependencies; everything else is an extra.
ALLOWED = {"hubthread", "wsproto", "h11"}


def test_package_version_is_module_version() -> None:
    # If this fails, the installation is stale: run ``pip install -e .`` again.
    assert metadata.version("hubthread") == hubthread.__version__


def test_package_has_py_typed() -> None:
    assert (resources.files("hubthread") / "py.typed").is_file()


def test_package_has_demo_pages() -> None:
    pages = resources.files("hubthread") / "demo" / "pages"
    assert any(page.name.endswith(".html") for page in pages.iterdir())


def test_package_script_is_cli_main() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="hubthread")
    assert script.value == "hubthread.cli:main"
    assert callable(script.load())


def test_module_run_is_same_command() -> None:
    shown = _python("-m", "hubthread", "--help")
    assert "demo" in shown
    assert "serve" in shown


def test_import_brings_no_extra_and_no_asyncio() -> None:
    # Modules loaded before the import belong to the interpreter and the environment.
    brought = _python(
        "-c",
        "import sys; before = set(sys.modules); import hubthread; "
        "print(*{name.partition('.')[0] for name in sys.modules.keys() - before})",
    )
    imported = set(brought.split())
    assert imported - sys.stdlib_module_names <= ALLOWED
    assert "asyncio" not in imported


def _python(*arguments: str) -> str:
    """Return the output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
