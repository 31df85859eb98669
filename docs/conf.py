"""How Sphinx builds the site: `sphinx-build -W docs site`. Nothing is downloaded, by the build or by its pages."""

from __future__ import annotations

from typing import Any

import trimpot

project = "trimpot"
author = "the trimpot authors"
project_copyright = "the trimpot authors, Apache-2.0"
release = version = trimpot.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 4  # the anchors that GitHub makes too
myst_enable_extensions = ["colon_fence"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
highlight_language = "text"  # of indented blocks: commands, and what they print
default_role = "literal"  # docstrings write code in single backticks

html_theme = "furo"
html_title = "trimpot"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options: dict[str, Any] = {"top_of_page_buttons": []}


def setup(app: Any) -> None:
    """Show drawings in modules' docstrings as drawn, and the sources of trimpot alone."""
    app.connect("autodoc-process-docstring", with_drawings, priority=100)
    app.connect("html-collect-pages", own_sources, priority=100)


def own_sources(app: Any) -> list[Any]:
    """Show the sources of trimpot's modules alone, not of what it inherits from."""
    found = app.env._viewcode_modules
    app.env._viewcode_modules = {name: entry for name, entry in found.items() if name.startswith("trimpot.") and entry}
    return []


def with_drawings(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Mark the indented parts of a module's docstring as literal text; its authors need not write reStructuredText."""
    if what != "module":
        return
    marked, drawn = [], False
    for line in lines:
        if line.strip():
            if line.startswith("    ") and not drawn:
                marked += ["::", ""]
            drawn = line.startswith("    ")
        marked.append(line)
    lines[:] = marked
