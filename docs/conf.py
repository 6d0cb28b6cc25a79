"""Sphinx: run by ``make docs``."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import alligator

project = "Alligator"
author = "Daniel Lindsley and the Alligator contributors"
copyright = "2015-2026, Daniel Lindsley and the Alligator contributors"  # noqa: A001 - Sphinx's name
version = release = alligator.version()

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Alligator {version}"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}

# Every reference has to lead somewhere, but for what other projects document and what the
# reference leaves out.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(abc|collections|contextlib|contextvars|datetime|logging)\..*"),
    ("py:.*", r"(random|re|threading|types|typing)\..*"),
    ("py:class", r"(~P|Store|TaskEvent|alligator\.(common\.clock\.Clock|tasks\.codec\.Codec))"),
    (
        "py:class",
        r"alligator\.(producer\.options_and_batch\.Target|tasks\.(task\.TaskHandle|message\.Described))",
    ),
    (
        "py:class",
        r"alligator\.(workers\.isolation\.Given|security\.policy\.Reading"
        r"|tasks\.parent_ids_in_store\.KeptParents|runtime\.timeouts\.Overrun)",
    ),
    (
        "py:class",
        r"alligator\.(tasks\.middleware\.\w+|execution\.activity_report\.Recording|backends\.queue_pauses\.Pauses)",
    ),
    ("py:class", r"alligator\.tasks\.adapters\.Observer"),
    ("py:obj", r"alligator\.monitoring\.rows\.Row"),
    ("py:class", r"(django\.core|alligator\.contrib\.django\.settings)\.[\w.]+"),
    ("py:class", r"prometheus_client\.\w+\.\w+"),
    ("py:.*", r"([PR]|R_co|alligator\.(\w+\.)+(P|R|R_co))"),
    # Types of options, which docs/typing.rst describes.
    ("py:.*", r"(alligator\.(\w+\.)+)?(\w*Hook|\w*Options|Parent|AnyMiddleware)"),
    ("py:class", r"alligator\.(execution\.settle\.Settler|tasks\.adapters\.Observer)"),
    ("py:class", r"alligator\.testing\.conformance\.\w+\.\w+"),
]


def find_where_it_is_defined(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Let ``alligator.Gator.task`` lead to ``alligator.gator.Gator.task``, and a name of a file to
    that of the package which exports it.
    """
    package, _, name = node.get("reftarget", "").rpartition(".")
    candidates = [(package, name)]
    if "." in package:
        outer, _, owner = package.rpartition(".")
        candidates.append((outer, f"{owner}.{name}"))
    if not package and node.get("py:module"):
        candidates.append((node["py:module"], name))
    for module, attribute in candidates:
        if module.split(".")[0] != "alligator":
            continue
        try:
            found = getattr(importlib.import_module(module), attribute.split(".")[0])
        except (ImportError, AttributeError):
            continue
        home = getattr(found, "__module__", None)
        for place in (home or module, module, (home or module).rpartition(".")[0]):
            target = f"{place}.{attribute}"
            if found := env.get_domain("py").resolve_xref(
                env, node["refdoc"], app.builder, "obj", target, node, contnode
            ):
                return found
    return None


#: Pages that include a file of the root, by that file.
PAGES = {
    "CHANGELOG.rst": "releasenotes",
    "CONTRIBUTING.rst": "contributing",
    "RELEASING.rst": "releasing",
    "SECURITY.rst": "security",
}


def link_to_pages(app: Any, path: Path, parent: str, content: list[str]) -> None:
    """Turn the links of a file in the root, which lead to files, into links to pages."""

    def link(match: re.Match[str]) -> str:
        text, file = match.groups()
        page = PAGES.get(file) or file.removeprefix("docs/").removesuffix(".rst")
        there = Path(app.srcdir, f"{page}.rst").exists()
        return f":doc:`{text} <{page}>`" if there else text

    content[0] = re.sub(r"`([^`<]+) <((?:docs/)?[\w/]+\.rst)>`_", link, content[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("include-read", link_to_pages)
    app.connect("missing-reference", find_where_it_is_defined)
