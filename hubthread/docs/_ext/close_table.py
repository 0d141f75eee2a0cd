"""The table of close codes, from ``hubthread.protocol.close_codes``.

This module needs no Sphinx, so that the tests can read it: ``tables.py`` has the directives.
"""

from __future__ import annotations

from hubthread.protocol.close_codes import (
    AFTER_LOSS,
    BANDS,
    LONGEST_BACKOFF,
    OVERLOADED,
    Advice,
    CloseCode,
)

__all__ = ["close_table"]

TEXTS = {
    Advice.REST: "rests: it comes back with its next message",
    Advice.RESTART: f"comes back within {AFTER_LOSS:g} s, or within 8 s for ``retry=8``",
    Advice.OVERLOADED: f"comes back after {OVERLOADED:g} s and a wait as below",
    Advice.TOKEN: (
        f"comes back within {AFTER_LOSS:g} s, or within 8 s for ``retry=8``, with what its token "
        f"function returns then; ends at a second refusal"
    ),
    Advice.BACK: (
        f"comes back within {AFTER_LOSS:g} s; later after each attempt that fails, "
        f"within {LONGEST_BACKOFF:g} s at most; within 8 s for ``retry=8``"
    ),
    Advice.END: "ends: the same would happen again",
}


def close_table() -> list[str]:
    """Return the table as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 26 34 40", ""]
    lines += ["   * - Codes", "     - Names", "     - The client"]
    for advice, text in TEXTS.items():
        bands = [(first, last) for first, last, each in BANDS if each is advice]
        codes = [str(first) if first == last else f"{first} to {last}" for first, last in bands]
        names = [f"``{code.name}``" for code in CloseCode if code.advice is advice]
        lines += [
            f"   * - {', '.join(codes)}",
            f"     - {', '.join(names)}",
            f"     - {text}",
        ]
    return lines
