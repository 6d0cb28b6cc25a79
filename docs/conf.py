"""Sphinx: run by ``make docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import alligator

project = "Alligator"
author = "Daniel Lindsley and the Alligator contributors"
copyright = "2015-2026, Daniel Lindsley and the Alligator contributors"  # noqa: A001 - Sphinx's name
version = release = alligator.version()

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Simple offline task queues. For Python."}

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
