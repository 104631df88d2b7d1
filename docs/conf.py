"""How Sphinx makes a site of these pages: ``make docs``."""

from __future__ import annotations

import re
from typing import Any

from airflow_ee_provider import __version__

project = "airflow-ee-provider"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_copyright = False
html_title = f"Earth Engine for Airflow {release}"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
add_module_names = False
# A docstring names what Airflow's classes and the standard library have; their sites are not asked.
nitpicky = False


def _without_links_out_of_the_site(_app: Any, page: str, source: list[str]) -> None:
    """Name a file of the repository in place of a link to it: the site does not have it."""
    out_of_the_site = "../" * (page.count("/") + 1)
    source[0] = re.sub(rf"\[([^\]]+)\]\({re.escape(out_of_the_site)}([^)]+)\)", _named, source[0])


def _named(link: re.Match[str]) -> str:
    text, path = link.groups()
    is_its_name = path.rstrip("/").endswith(text.strip("`/"))
    return f"`{path}`" if is_its_name else f"{text} (`{path}`)"


def setup(app: Any) -> None:
    """Let the pages be read as they are in the repository."""
    app.connect("source-read", _without_links_out_of_the_site)
