"""The default logger, and what a logger must be able to do.  Layer: base.

Source: the specification's ``ILogger`` and ``DefaultLogger``.  Its ``Panic`` and
``Fatal`` become ``critical``: the library never ends the process.
"""

from __future__ import annotations

import logging

__all__ = ["default_logger"]


def default_logger() -> logging.Logger:
    """The logger ``hubthread`` of the standard library's ``logging``."""
    return logging.getLogger("hubthread")
