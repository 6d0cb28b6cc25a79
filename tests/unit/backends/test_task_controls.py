"""Test that the backends keep the controls of a task as long as it is on its queue."""

import sqlite3

from alligator.backends.locmem_backend import Client as LocmemClient
from alligator.backends.sqlite_backend import Client as SqliteClient
from alligator.backends.task_controls import read_controls, write_controls
from alligator.backends.types import Controls, Message, Reason, controlled, controls_of

CONTROLS = Controls(limit_key="kunde √ 7", limit=3, rate_key="r", rate=50.0, rate_seconds=60.0)


def test_controls_are_read_as_they_were_written():
    assert read_controls(write_controls(CONTROLS)) == CONTROLS
    assert read_controls(write_controls(None)) is None
    for text in ("nonsense", "{}x", "[1,2,3,4,5,6,7,8,9,10,11]", b"\xff"):
        assert read_controls(text) is None


def test_a_changed_message_keeps_its_controls():
    message = controlled(Message("a", "1"), CONTROLS)._replace(priority=5)
    assert (message.priority, controls_of(message)) == (5, CONTROLS)


def test_locmem_keeps_controls_until_the_task_has_left():
    client = LocmemClient("locmem://test-controls")
    client.push_many("all", [controlled(Message("a", "1"), CONTROLS)])
    queue = client._memory.queue("all")
    assert queue.entries["a"].controls == CONTROLS
    (first,) = client.reserve(["all"]).deliveries
    client.push_many("all", [controlled(Message("a", "2"), CONTROLS._replace(limit=4))])
    client.ack([first])
    assert queue.entries["a"].controls.limit == 4
    (second,) = client.reserve(["all"]).deliveries
    client.bury(second, None, Reason("error"))
    client.revive("all")
    assert queue.entries["a"].controls.limit == 4
    client.push("all", "a", "3")
    assert queue.entries["a"].controls is None


def test_sqlite_keeps_controls_until_the_task_has_left(tmp_path):
    client = SqliteClient(f"sqlite:///{tmp_path / 'q.db'}")

    def kept():
        rows = client.conn.execute("SELECT controls FROM alligator_tasks WHERE task_id = 'a'")
        return [read_controls(text) for (text,) in rows]

    client.push_many("all", [controlled(Message("a", "1"), CONTROLS), Message("b", "1")])
    first, _ = client.reserve(["all"], 2).deliveries
    client.push_many("all", [controlled(Message("a", "2"), CONTROLS._replace(limit=4))])
    assert kept() == [CONTROLS]
    client.ack([first])
    assert kept() == [CONTROLS._replace(limit=4)]
    (second,) = client.reserve(["all"]).deliveries
    client.release(second, "again")
    (third,) = client.reserve(["all"]).deliveries
    client.bury(third, None, Reason("error"))
    assert kept() == []
    client.revive("all")
    assert kept() == [CONTROLS._replace(limit=4)]
    client.push("all", "a", "3")
    assert kept() == [None]


def test_a_sqlite_file_of_an_earlier_version_gets_the_columns(tmp_path):
    path = tmp_path / "q.db"
    client = SqliteClient(f"sqlite:///{path}")
    client.push("all", "a", "1")
    client.close()
    with sqlite3.connect(path) as connection:
        for table, column in (
            ("alligator_tasks", "controls"),
            ("alligator_tasks", "next_controls"),
            ("alligator_dead", "controls"),
        ):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    connection.close()
    client.push_many("all", [controlled(Message("b", "2"), CONTROLS)])
    assert [each.data for each in client.reserve(["all"], 2).deliveries] == ["1", "2"]
