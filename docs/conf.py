"""Builds the site: `make docs`, or `python -m sphinx -W --keep-going docs site`.

Sphinx with MyST was chosen over mkdocs-material: of mkdocs the last release is of August 2024, and
its theme takes security fixes only; Sphinx, myst-parser and furo had releases within the year.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "_ext")]

import compressor  # noqa: E402 - found by the line above

project = "compressor"
version = release = compressor.__version__
project_copyright = "the authors of compressor"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "run_commands", "gallery"]
exclude_patterns = ["_ext", "results/*.html"]
html_theme = "furo"
html_title = "compressor"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"  # single backticks in docstrings are names, as everywhere in the project


def _plain(*event) -> None:  # type: ignore[no-untyped-def]
    """Docstrings are plain text: `*` and `|` outside of backticks mark up nothing."""
    lines = event[-1]
    for i, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
        lines[i] = "`".join(parts)


def setup(app) -> None:  # type: ignore[no-untyped-def]
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _plain, priority=100)  # before napoleon
