"""How Sphinx builds the site: `sphinx-build -W docs site`. Nothing is downloaded, by the build or by its pages."""

from __future__ import annotations

import trimpot

project = "trimpot"
author = "the trimpot authors"
project_copyright = "the trimpot authors, Apache-2.0"
release = version = trimpot.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
suppress_warnings = ["toc.empty_glob"]  # the navigation has places for pages that a branch may not have yet

myst_heading_anchors = 4  # the anchors that GitHub makes too
myst_enable_extensions = ["colon_fence"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "literal"  # docstrings write code in single backticks

html_theme = "furo"
html_title = "trimpot"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
