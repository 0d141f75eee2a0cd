"""Configure Sphinx for the documentation: ``sphinx-build -nW hubthread/docs build/docs``."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
# The repository's own hubthread, whatever is installed.
sys.path[:0] = [str(DOCS.parents[1]), str(DOCS / "_ext")]

import hubthread  # noqa: E402

project = "hubthread"
author = "hubthread contributors"
project_copyright = "hubthread contributors"
version = release = hubthread.__version__

extensions = ["sphinx.ext.autodoc"]

exclude_patterns = ["_ext"]

html_theme = "furo"
html_title = "hubthread"
