"""Test that a five-method client, as documented in 2015, works unchanged."""

import sqlite3

import pytest

from alligator import Gator, Worker
from alligator.exceptions import UnsupportedOption
from tests.support import jobs


class Client2015:
    """Fails on an empty queue, knows no delay, and is not thread-safe: as documented."""

    def __init__(self, conn_string):
        self.conn_string = conn_string
        self.conn = sqlite3.connect(conn_string.split("://", 1)[1])

    def _run_query(self, query, args):
        cur = self.conn.cursor()
        cur.execute(query, args)
        return cur

    def len(self, queue_name):
        return self._run_query(f"SELECT COUNT(task_id) FROM `{queue_name}`", []).fetchone()[0]

    def drop_all(self, queue_name):
        self._run_query(f"DELETE FROM `{queue_name}`", [])

    def push(self, queue_name, task_id, data):
        self._run_query(
            f"INSERT INTO `{queue_name}` (task_id, data) VALUES (?, ?)", [task_id, data]
        )
        return task_id

    def pop(self, queue_name):
        res = self._run_query(f"SELECT task_id, data FROM `{queue_name}` LIMIT 1", []).fetchone()
        self._run_query(f"DELETE FROM `{queue_name}` WHERE task_id = ?", [res[0]])
        return res[1]

    def get(self, queue_name, task_id):
        where = f"FROM `{queue_name}` WHERE task_id = ?"
        res = self._run_query(f"SELECT task_id, data {where}", [task_id]).fetchone()
        self._run_query(f"DELETE {where}", [task_id])
        return res[1]


class ClientWithDelay(Client2015):
    def push(self, queue_name, task_id, data, delay_until=None):
        self.delayed = delay_until
        return super().push(queue_name, task_id, data)


@pytest.fixture(params=[Client2015, ClientWithDelay])
def gator(request, tmp_path):
    jobs.seen.clear()
    gator = Gator(f"sqlite://{tmp_path}/old.db", backend_class=request.param)
    gator.backend.conn.execute("CREATE TABLE `all` (task_id, data)")
    return gator


def test_push_pop_get_cancel_len(gator):
    assert isinstance(gator.backend, Client2015)
    assert gator.pop() is None
    first, second = gator.task(jobs.note, 1), gator.task(jobs.note, 2)
    third = gator.task(jobs.note, 3)
    assert gator.len() == 3
    assert gator.get(second.task_id).task_id == second.task_id
    assert gator.cancel(third.task_id).task_id == third.task_id
    assert gator.pop().task_id == first.task_id
    assert gator.get("unknown") is None
    assert [call[0] for call in jobs.seen] == [(2,), (1,)]
    assert gator.stats()["waiting"] == 0


def test_a_worker_runs_it_and_says_what_it_cannot_promise(gator, capsys):
    for number in range(5):
        gator.task(jobs.note, number)
    failing = gator.options(retries=1)(jobs.fail)
    worker = Worker(gator, max_tasks=6, nap_time=0.01)
    worker.run_forever()
    assert [call[0] for call in jobs.seen] == [(number,) for number in range(5)]
    out = capsys.readouterr().out
    assert "cannot lease" in out
    assert failing.task_id in out
    assert gator.len() == 0


def test_given_up_is_logged_with_its_bytes(gator, caplog):
    gator.backend.push("all", "x", "not json")
    assert Worker(gator).check_and_run_task() is False
    assert "not json" in caplog.text


def test_delay_only_where_push_takes_it(gator):
    opts = gator.options(delay_by=60)
    if isinstance(gator.backend, ClientWithDelay):
        opts(jobs.note)
        assert gator.backend.delayed is not None
    else:
        with pytest.raises(UnsupportedOption, match="delay_until"):
            opts(jobs.note)
    with pytest.raises(UnsupportedOption, match="priority"):
        gator.options(priority=1)(jobs.note)


def test_missing_code_is_given_up_in_the_end(gator, caplog):
    gator.task("tests.support.jobs.not_there")
    assert gator.run_all() == 6
    assert gator.len() == 0
    assert "UnknownCallableError" in caplog.text
