"""Test options that a Gator has for all of its tasks."""

import json
import uuid

import pytest

from alligator import Gator, Task
from alligator.exceptions import InvalidTask, MultipleDelayError
from alligator.gator import reconfigure
from alligator.testing import FakeClock
from tests.support import jobs


@pytest.fixture(autouse=True)
def nothing_seen():
    jobs.seen.clear()


def make(**options):
    return Gator(f"locmem://{uuid.uuid4().hex}", clock=FakeClock(), options=options)


def pushed(gator, task):
    data = gator.client.peek(task.queue_name or gator.queue_name, task.task_id)
    fields = json.loads(data)
    return fields["retries"], fields["options"]


def test_each_task_has_them():
    gator = make(retries=3, timeout=5, headers={"tenant": "ada"})
    own = 3, {"timeout": 5, "headers": {"tenant": "ada"}}
    tasks = [gator.task(jobs.note), gator.options().task(jobs.note), gator.options()(jobs.note)]
    with gator.batch() as batch:
        tasks.append(batch.task(jobs.note))
    assert [pushed(gator, task) for task in tasks] == [own] * 4
    tasks[0].headers["tenant"] = "another"
    assert gator.task(jobs.note).headers == {"tenant": "ada"}


@pytest.mark.parametrize("context", ["options", "batch"])
def test_overridden_one_by_one(context):
    gator = make(retries=3, timeout=5, priority=2, on_start=jobs.on_start, headers={"a": "b"})

    def push(**options):
        with getattr(gator, context)(**options) as opts:
            task = opts.task(jobs.note)
        return pushed(gator, task)

    retries, options = push(retries=1, timeout=9, headers={"c": "d"})
    assert (retries, options["timeout"], options["priority"]) == (1, 9, 2)
    assert options["headers"] == {"c": "d"}
    nothing = {"timeout": None, "priority": 0, "on_start": None, "headers": None}
    assert push(retries=0, **nothing) == (0, {})
    assert push(**nothing) == (3, {})


def test_a_timeout_of_one_call():
    gator = make(timeout=5)
    assert gator.options()(jobs.which_task, timeout=7).timeout == 7
    assert gator.options()(jobs.which_task, timeout=None).timeout is None
    assert gator.options(timeout=6)(jobs.which_task).timeout == 6


def test_a_delay_of_another_kind_overrides():
    gator = make(delay_by=60)
    assert gator.options(delay_until=5).task(jobs.note).delay_by is None
    assert gator.options(run_after=None).task(jobs.note).delay_until is None
    with pytest.raises(MultipleDelayError):
        gator.options(delay_by=1, delay_until=5)


def test_run_at_once():
    gator = make(is_async=False, on_success=jobs.on_success)
    assert gator.task(jobs.note, 1).result == 1
    assert len(jobs.seen) == 2
    assert gator.options(is_async=True).task(jobs.note, 1).result is None
    assert gator.len() == 1


def test_schedules_have_them():
    gator = make(retries=2, is_async=False, queue_name="other")
    gator.every(60, jobs.note)
    gator.options(retries=0).cron("*/1 * * * *", jobs.note, 1)
    assert [each.task_options["retries"] for each in gator.schedules] == [2, 0]
    assert gator.run_until("+60s", "other") == 2


def test_a_task_of_ones_own_has_its_own():
    gator = make(retries=2)
    assert pushed(gator, gator.push(Task(), jobs.note)) == (0, {})


def test_a_class_of_ones_own_is_made_with_them():
    class Mine(Task):
        def __init__(self, **options):
            super().__init__(**options)
            self.mine = True

    gator = make(retries=2, headers={"a": "b"}, retry_on=OSError)
    gator.task_class = Mine
    task = gator.task(jobs.note)
    assert (task.mine, task.retries, task.headers) == (True, 2, {"a": "b"})
    assert task.retry_on == ["builtins.OSError"]


def test_they_stay_when_the_command_line_reconfigures():
    gator = make(retries=2)
    reconfigure(gator, allowed=["tests.*"], secret_keys=["k" * 16])
    gator.queue_name = "another"
    assert gator.task(jobs.note).retries == 2
    assert gator.default_options == {"retries": 2}


def test_retry_on_with_the_retries_of_all():
    gator = make(retries=2)
    assert gator.options(retry_on="a.B").task(jobs.note).retry_on == ["a.B"]
    with pytest.raises(InvalidTask, match="retries"):
        gator.options(retry_on="a.B", retries=0)
    gator = make(retries=2, retry_on="a.B")
    assert gator.options(retries=0).task(jobs.note).retries == 0


def plain(value):
    """Take one argument."""


def with_retries(value, retries):
    """Take an argument that is called as an option is."""


@pytest.mark.parametrize("is_async", [True, False])
def test_an_option_among_the_arguments_is_named(is_async):
    gator = make(is_async=is_async)
    with pytest.raises(InvalidTask) as found:
        gator.task(plain, 1, retries=3, colour="red", priority=5)
    said = "retries and priority are options: gator.options(retries=…, priority=…).task(plain, …)."
    assert str(found.value).endswith(said)
    with pytest.raises(InvalidTask, match=r"retries is an option: gator\.options\(retries=…\)"):
        gator.task(plain, 1, retries=3)
    with pytest.raises(InvalidTask) as found:
        gator.task(with_retries, 1, retries=3, colour="red")
    assert "option" not in str(found.value), "it takes retries itself"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"retrys": 1}, TypeError, "Did you mean 'retries'"),
        ({"retries": -1}, InvalidTask, "retries=-1"),
        ({"retry_on": OSError}, InvalidTask, "without retries"),
        ({"tz": "UTC"}, InvalidTask, "for schedules"),
        ({"task_id": "a"}, InvalidTask, "task_id= is about one task"),
        ({"depends_on": ["a"]}, InvalidTask, "depends_on= is about one task"),
        ({"delay_until": 5}, InvalidTask, "delay_until= is about one task"),
        ({"delay_by": 1, "delay_until": 5}, MultipleDelayError, "not both"),
        ([("retries", 1)], InvalidTask, "options= is a list"),
    ],
)
def test_bad_ones_are_refused_by_the_constructor(options, error, says):
    with pytest.raises(error, match=says):
        Gator("locmem://", options=options)
