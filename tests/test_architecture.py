"""Imports run one way: a module knows only those below it."""

import ast

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "alligator"

#: From the ground up; a module may import from its own row and those before it.
LAYERS = [
    ["constants", "exceptions", "clock"],
    [
        "utils",
        "descriptors",
        "forks",
        "log",
        "wire",
        "retries",
        "states",
        "pace",
        "signing",
        "safety_net",
        "ticks",
        "backends.dsn",
    ],
    ["watchdog", "interrupts", "timeouts", "coroutines"],
    ["backends.base", "backends"],
    ["backends.store"],
    ["backends.*"],
    ["callables", "options", "security"],
    ["fields", "parents", "messages", "ticking", "schedules"],
    [
        "tasks",
        "molds",
        "usual",
        "codec",
        "execution",
        "acks",
        "heartbeat",
        "keeper",
        "reach",
        "sent_ahead",
        "outage",
        "pulse",
        "signals",
        "unsettled",
    ],
    [
        "elsewhere",
        "intake",
        "recording",
        "results",
        "dependencies",
        "explaining",
        "pushing",
        "unserved",
    ],
    ["wiring", "taking"],
    ["gator"],
    ["crew", "processor", "isolation", "suspects", "fetching"],
    ["workers"],
    ["supervisor", "reaper", "dead_letters"],
    ["cli", "__main__", "contrib", "contrib.*"],
]
#: The package itself, and what tests import.
BESIDE = {"": "workers", "testing": "backends.*", "testing.playing": "workers"}
#: Imported by a method when it is called, since only tests call it.
AT_THE_CALL = {("gator", "testing.playing")}


def layer(name):
    if name == "" or name.startswith("testing"):
        name = BESIDE.get(name) or BESIDE[name.partition(".")[0]]
    for index, row in enumerate(LAYERS):
        if name in row or ("." in name and f"{name.partition('.')[0]}.*" in row):
            return index
    raise AssertionError(f"alligator.{name} has no place in the picture")


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix("__init__").rstrip("."), path


def imported(path):
    """Return what a module imports at run time (not what only a type checker sees)."""
    tree = ast.parse(path.read_text())
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    known = {name for name, _ in modules()}
    for node in ast.walk(tree):
        if node in skipped or not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        if node.module.partition(".")[0] != "alligator":
            continue
        base = node.module.removeprefix("alligator").lstrip(".")
        for alias in node.names:
            inner = f"{base}.{alias.name}".lstrip(".")
            yield inner if inner in known else base


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value)[-30:])
def test_imports_run_one_way(name, path):
    for other in set(imported(path)):
        if (name, other) in AT_THE_CALL:
            continue
        assert layer(other) <= layer(name), f"{name or 'alligator'} imports {other} from above it"
