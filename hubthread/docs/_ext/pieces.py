"""Text that the code has already: ``cli-help``, ``error-tree``; and members not for readers."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import hubthread
from hubthread import errors

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class CliHelp(SphinxDirective):
    """Insert the help of a command of ``hubthread``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section with the output of ``hubthread COMMAND --help``."""
        (command,) = self.arguments
        shown = subprocess.run(
            [sys.executable, "-m", "hubthread", command, "--help"],
            env={**os.environ, "COLUMNS": "78", "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        lines = [f"hubthread {command}", "-" * (len(command) + 10), "", ".. code-block:: text", ""]
        lines += [f"   {line}" for line in shown.splitlines()]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class ErrorTree(SphinxDirective):
    """Insert the tree of exceptions that the docstring of ``hubthread.errors`` draws."""

    def run(self) -> list[nodes.Node]:
        """Return the tree as a literal block."""
        lines = (errors.__doc__ or "").splitlines()
        root = hubthread.HubThreadError.__name__
        first = next(n for n, line in enumerate(lines) if line.strip() == root)
        tree = lines[first : lines.index("", first)]
        return self.parse_text_to_nodes("\n".join([".. code-block:: text", "", *tree]))


def skip_internal(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Return True for a member whose docstring says that it is not for users."""
    found = obj.fget if isinstance(obj, property) else obj
    return True if "not for users" in (found.__doc__ or "").lower() else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives; called by Sphinx."""
    app.add_directive("cli-help", CliHelp)
    app.add_directive("error-tree", ErrorTree)
    app.connect("autodoc-skip-member", skip_internal)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
