"""Test the largest task: the documentation has the limits of the code."""

import re

import pytest

from alligator import Gator
from alligator.backends.sqlite import client as sqlite_client
from alligator.common import strict_json
from alligator.exceptions import InvalidTask
from tests.support import ROOT, jobs

UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GB": 10**9}
BACKENDS = ["locmem", "sqlite", "redis", "beanstalk", "sqs"]
SIZE = r"([\d,]+) (bytes|KiB|MiB|GB)"


def size_in(cell):
    """``'1 MiB less 1 KiB'`` in bytes."""
    found = re.match(rf"{SIZE}(?: less {SIZE})?", cell)
    assert found, cell
    size = int(found[1].replace(",", "")) * UNITS[found[2]]
    return size - (int(found[3]) * UNITS[found[4]] if found[3] else 0)


def in_readme(backend):
    rows = (ROOT / "README.rst").read_text().partition("- largest task")[2].split("\n   * - ")
    (row,) = (each for each in rows if each.startswith(f"``{backend}://"))
    return row.split("\n\n")[0].rpartition("\n     - ")[2]


def in_chapter(backend):
    text = (ROOT / "docs" / "backends.rst").read_text()
    row = text.partition("* - Largest task\n")[2].partition("\n\n")[0]
    cells = [each.strip().removeprefix("- ") for each in row.splitlines()]
    return dict(zip(BACKENDS, cells, strict=True))[backend]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_tables_say_what_a_backend_takes(backend, request, tmp_path):
    dsn = (
        f"locmem://{tmp_path}" if backend == "locmem" else request.getfixturevalue(f"{backend}_dsn")
    )
    gator = Gator(dsn, "sizes")
    largest = min(gator.client.max_size() or strict_json.MAX_BYTES, strict_json.MAX_BYTES)
    gator.close()
    assert size_in(in_readme(backend)) == size_in(in_chapter(backend)) == largest


def test_the_chapter_says_what_is_read_and_what_sqlite_takes():
    text = (ROOT / "docs" / "backends.rst").read_text()
    said = re.search(rf"{SIZE} is\s+what Alligator reads as one message", text)
    assert size_in(said[0]) == strict_json.MAX_BYTES
    assert size_in(re.search(rf"on sqlite up to {SIZE}", text)[0][16:]) == sqlite_client.MAX_SIZE


@pytest.mark.parametrize("backend", ["locmem", "sqlite"])
def test_the_largest_task_runs_and_a_larger_one_is_refused(backend, request, tmp_path, monkeypatch):
    monkeypatch.setattr(strict_json, "MAX_BYTES", 3_000_000)  # else it takes its time
    dsn = f"locmem://{tmp_path}" if backend == "locmem" else request.getfixturevalue("sqlite_dsn")
    gator = Gator(dsn, "sizes")
    jobs.seen.clear()
    with pytest.raises(InvalidTask, match=str(strict_json.MAX_BYTES)):
        gator.task(jobs.note, "x" * strict_json.MAX_BYTES)
    gator.task(jobs.note, "x" * (strict_json.MAX_BYTES - 400))
    assert gator.run_all() == 1
    assert len(jobs.seen[0][0][0]) == strict_json.MAX_BYTES - 400
    jobs.seen.clear()
    gator.close()
