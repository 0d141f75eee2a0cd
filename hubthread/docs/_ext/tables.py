"""The directives that insert tables, links to exported names, charts.

An annotation names a class by the module that defines it.  Readers know it by the name that
``import hubthread`` offers, so each unresolved reference to an exported name is turned into a
reference to ``hubthread.<name>``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from close_table import close_table
from limits_table import limits_table
from metrics_table import metrics_table
from port_table import port_table
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from pathlib import Path

    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


class LimitsTable(SphinxDirective):
    """Insert the table of limits."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return self.parse_text_to_nodes("\n".join(limits_table()))


class CloseTable(SphinxDirective):
    """Insert the table of close codes."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return self.parse_text_to_nodes("\n".join(close_table()))


class MetricsTable(SphinxDirective):
    """Insert the table of metrics."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return self.parse_text_to_nodes("\n".join(metrics_table()))


class PortTable(SphinxDirective):
    """Insert the table of Go names."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return self.parse_text_to_nodes("\n".join(port_table()))


def link_exported_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """Resolve a reference to a documented object by the last part of its name.

    :returns: the link, or ``None`` if no public object has this name.
    """
    if node.get("refdomain") != "py":
        return None
    objects: dict[str, Any] = env.domaindata["py"]["objects"]
    target = node["reftarget"]
    name = target.rpartition(".")[2]
    candidates = [f"{package}.{name}" for package in app.config.public_packages]
    if node["reftype"] == "obj":  # the table of Go names: a plain attribute has no entry
        candidates.append(target.rpartition(".")[0])
    for public in candidates:
        if public in objects:
            python = env.domains.python_domain
            return python.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, text)
    return None


def leave_annotation(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """Leave a name of an annotation without a link if it has no page, such as a type variable.

    References that somebody wrote, in a docstring or on a page, stay an error.
    """
    written = "refexplicit" in node
    return text if node.get("refdomain") == "py" and not written else None


def find_charts(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Let the charts of an included ``benchmarks/README.rst`` be found from its page here."""
    content[0] = content[0].replace(":: charts/", ":: ../../../benchmarks/charts/")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives; called by Sphinx."""
    app.add_directive("limits-table", LimitsTable)
    app.add_directive("close-table", CloseTable)
    app.add_directive("metrics-table", MetricsTable)
    app.add_directive("port-table", PortTable)
    app.add_config_value("public_packages", ["hubthread"], "env")
    app.connect("missing-reference", link_exported_name)
    app.connect("missing-reference", leave_annotation, priority=900)
    app.connect("include-read", find_charts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
