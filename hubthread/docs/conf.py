"""Configure Sphinx for the documentation: ``sphinx-build -nW hubthread/docs build/docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
# The hubthread of this repository, whichever version is installed.
sys.path[:0] = [str(DOCS.parents[1]), str(DOCS / "_ext")]

import hubthread  # noqa: E402

project = "hubthread"
author = "hubthread contributors"
project_copyright = author
version = release = hubthread.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest", "tables", "pieces"]
exclude_patterns = ["_ext"]

# Public names live in these modules; annotations link to them.
public_packages = ["hubthread", "hubthread.testing", "hubthread.statistics"]

autodoc_default_options = {
    "members": True,
    # Those of the library's own classes, not of what these derive from.
    "inherited-members": (
        "Enum, IntEnum, Exception, BaseException, OSError, TimeoutError, ValueError, TypeError, "
        "int, str, tuple, dict, Generic, Protocol"
    ),
    "member-order": "bysource",
}
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 70

nitpick_ignore_regex = [
    # Names of the standard library have links only with intersphinx, below.
    ("py:.*", r"(collections|logging)\..*"),
    # The type variable in the alias HandleFunc.
    ("py:obj", r"hubthread\.matcher\.handlers\.Meta"),
]
# Names of the standard library are links where the network is there, on Read the Docs.
if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {"python": ("https://docs.python.org/3", None)}

html_theme = "furo"
html_title = "hubthread"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
