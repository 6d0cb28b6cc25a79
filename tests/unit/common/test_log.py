"""Test that each log line of a worker is shown once, whatever handlers the application has."""

import io
import logging
import os
import subprocess
import sys

import pytest

from alligator import Gator, Worker
from tests.support import ROOT, jobs

NAMES = ("alligator.workers", "alligator", "")


@pytest.fixture(autouse=True)
def loggers():
    """Put back what tests change of the loggers above that of a worker."""
    found = [logging.getLogger(name) for name in NAMES]
    before = [(each.handlers[:], each.propagate, each.disabled, each.filters[:]) for each in found]
    yield
    logging.disable(logging.NOTSET)
    for each, (handlers, propagate, disabled, filters) in zip(found, before, strict=True):
        each.handlers[:], each.propagate, each.disabled = handlers, propagate, disabled
        each.filters[:] = filters


@pytest.fixture
def worker(tmp_path):
    return Worker(Gator(f"locmem://{tmp_path}"))


def on_terminal(name, stream="stderr", level=logging.NOTSET):
    handler = logging.StreamHandler(getattr(sys, stream))
    handler.setLevel(level)
    logging.getLogger(name).addHandler(handler)
    return handler


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("name", NAMES)
def test_a_handler_on_the_terminal_doubles_no_line(worker, capsys, name, stream):
    on_terminal(name, stream)
    worker.log.info("one line")
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("one line") == 1
    assert "one line" in getattr(shown, stream[3:])


def test_nor_does_one_on_the_logger_of_the_worker_itself(worker, capsys):
    worker.log.addHandler(logging.StreamHandler(sys.stderr))
    worker.log.info("one line")
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("one line") == 1


class Console:
    """As that of ``rich``, whose handler has no stream of its own."""

    @property
    def file(self):
        return sys.stdout


class ConsoleHandler(logging.Handler):
    console = Console()

    def emit(self, record):
        print(self.format(record), file=self.console.file)


def test_nor_does_the_handler_of_rich(worker, capsys):
    logging.getLogger().addHandler(ConsoleHandler())
    worker.log.info("one line")
    assert capsys.readouterr().out == "one line\n"


def critical_only(handler):
    handler.setLevel(logging.CRITICAL)


def filtered(handler):
    handler.addFilter(lambda record: False)


def cut_off_above_workers(handler):
    logging.getLogger("alligator.workers").propagate = False


def cut_off_above_alligator(handler):
    logging.getLogger("alligator").propagate = False


def to_a_file(handler):
    handler.stream = io.StringIO()


@pytest.mark.parametrize(
    "hinder",
    [critical_only, filtered, cut_off_above_workers, cut_off_above_alligator, to_a_file],
)
def test_a_handler_that_does_not_show_a_line_does_not_silence_the_worker(worker, capsys, hinder):
    hinder(on_terminal(""))
    worker.log.info("one line")
    shown = capsys.readouterr()
    assert shown.out.count("one line") == 1
    assert shown.err == ""


def test_each_record_goes_its_own_way(worker, capsys):
    on_terminal("", level=logging.WARNING)
    worker.log.info("small")
    worker.log.warning("large")
    shown = capsys.readouterr()
    assert "small" in shown.out
    assert "large" not in shown.out
    assert shown.err == "large\n"


def test_a_worker_cut_off_by_itself_shows_its_lines(worker, capsys):
    on_terminal("")
    worker.log.propagate = False
    worker.log.info("one line")
    shown = capsys.readouterr()
    assert (shown.out.count("one line"), shown.err) == (1, "")


def test_a_filter_that_lets_each_line_pass_once_is_asked_once(worker, capsys):
    seen = set()

    def first_time(record):
        return not (record.msg in seen or seen.add(record.msg))

    on_terminal("").addFilter(first_time)
    worker.log.info("one line")
    assert capsys.readouterr().err == "one line\n"


def test_what_does_not_hinder_propagation_hinders_nothing_here(worker, capsys):
    """As in the standard library: a logger's own filters and level are for its own records."""
    on_terminal("")
    above = logging.getLogger("alligator.workers")
    above.disabled = True
    above.addFilter(lambda record: False)
    worker.log.info("one line")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "one line\n")


def test_logging_that_is_off_is_off(worker, capsys):
    logging.disable(logging.CRITICAL)
    worker.log.critical("one line")
    assert capsys.readouterr() == ("", "")


def test_without_any_handler_there_is_the_last_resort(worker, capsys, monkeypatch):
    for name in NAMES:
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    worker.log.handlers.clear()
    worker.log.info("small")
    worker.log.warning("large")
    assert capsys.readouterr() == ("", "large\n")


def python(*arguments, **extra):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **extra},
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("ascii", rb"\u2192 na\xefve"),
        ("latin-1", b"\\u2192 na\xefve"),
        ("utf-8", "→ naïve".encode()),
    ],
)
def test_what_standard_output_has_no_letters_for_is_written_out(encoding, line):
    code = (
        "from alligator import Gator, Worker\n"
        "Worker(Gator('locmem://')).log.info('%s', '\\u2192 na\\xefve')"
    )
    done = python("-c", code, PYTHONIOENCODING=encoding)
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1
    assert done.stdout.endswith(b" INFO " + line + b"\n")


def test_commands_write_out_what_standard_output_has_no_letters_for(tmp_path):
    dsn = f"sqlite://{tmp_path}/q.db"
    gator = Gator(dsn)
    gator.task(jobs.fail, "naïve")
    gator.run_all()
    letter = gator.dead()[0]
    gator.close()
    done = python(
        "-m", "alligator", "dead", dsn, "--show", letter.task_id, PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0, done.stderr
    assert rb"na\xefve" in done.stdout
