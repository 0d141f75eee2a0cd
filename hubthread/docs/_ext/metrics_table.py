"""The table of metrics, from the code.

This module needs no Sphinx, so that the tests can read it: ``tables.py`` has the directives.
"""

from __future__ import annotations

from hubthread import Hub, HubSetting
from hubthread.hub.metrics import families

__all__ = ["metrics_table"]


def metrics_table() -> list[str]:
    """Return the table as reStructuredText."""
    hub: Hub[object, str] = Hub(HubSetting(dict))
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 45 12 43", ""]
    lines += ["   * - Metric", "     - Type", "     - Meaning"]
    for family in families(hub._core, hub.statistics()):
        name = family.name + ("_total" if family.type == "counter" else "")
        lines += [f"   * - ``{name}``", f"     - {family.type}", f"     - {family.help}"]
    hub.close()
    return lines
