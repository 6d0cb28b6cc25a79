"""Test that scripts are joined with their libraries, and share numbers with these and Python."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

import alligator.backends.redis
from alligator.backends.redis.scripts import script

LUA = Path(alligator.backends.redis.__file__).parent / "lua"
SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_server_gets_code_and_nothing_else(name):
    flags, *lines = script(name).text.decode().splitlines()
    assert flags.startswith("#!lua")
    assert "\n".join(lines).encode() == script(name).flagless.rstrip()
    assert not [line for line in lines if not line.strip() or line.lstrip().startswith("--")]
    for line in ("local clock = redis.call('TIME')", "local function wake()"):
        assert lines.count(line) <= 1, "a library twice"


def test_a_library_stands_where_it_is_included():
    lines = script("reserve").text.decode().splitlines()
    early = lines.index("local refused, done, own, special = end_leases(6, #ARGV)")
    assert lines.index("local function end_leases(first, last)") < early
    assert lines.index("local function count_lost()") > early, "made only when it is needed"


def test_each_library_is_used():
    used = set()
    for path in LUA.rglob("*.lua"):
        for names in re.findall(r"^-- include: (.*)$", path.read_text(), re.MULTILINE):
            used |= set(names.split())
    assert used == {path.stem for path in (LUA / "lib").glob("*.lua")}


def test_python_and_lua_have_the_same_numbers():
    text = script("hold").text.decode()
    for line in ("MAX_LEASE = 43200000000", "KEEP_FAILED = 2592000000", "LONGEST_WAIT = 15000"):
        assert f"local {line}\n" in text


def test_no_large_number_stands_in_two_files():
    where = defaultdict(set)
    for path in LUA.rglob("*.lua"):
        for number in re.findall(r"\d{8,}", path.read_text()):
            where[number].add(path.name)
    assert where
    assert {number: names for number, names in where.items() if len(names) > 1} == {}


def test_a_script_that_may_run_twice_says_so():
    assert script("extend").idempotent
    for name in ("push_batch", "push_plain", "reserve", "reserve_by_id", "ack", "release", "bury"):
        assert not script(name).idempotent, name
