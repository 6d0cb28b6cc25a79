"""Test ``gator.run_until``: simulate a day of delays, retries and schedules."""

import contextlib
import math
import time
from datetime import UTC, datetime, timedelta

import pytest

from alligator import Gator, current_task
from alligator.backends.locmem_backend import Client
from alligator.exceptions import AlligatorException, InvalidTask, TaskTimeout, UnsupportedOption
from alligator.testing import FakeClock, FlakyClient

NOW = 1_700_000_000.0
HOUR, DAY = 3600, 86_400

SEEN = []
CLOCK = [FakeClock()]


def look(what):
    """Note down what ran, and at which hour."""
    SEEN.append((what, (CLOCK[0].time() - NOW) / HOUR))


def fail(what):
    look(what)
    raise ValueError(what)


def work_for(seconds):
    CLOCK[0].advance(seconds)
    look("worked")


def press_control_c():
    raise KeyboardInterrupt


@pytest.fixture
def clock():
    SEEN.clear()
    CLOCK[0] = FakeClock(NOW)
    return CLOCK[0]


@pytest.fixture(params=["locmem", "sqlite"])
def gator(request, clock, tmp_path):
    dsn = {"locmem": f"locmem://{tmp_path}", "sqlite": f"sqlite://{tmp_path}/queue.db"}
    gator = Gator(dsn[request.param], clock=clock)
    yield gator
    gator.close()


def test_delays_and_retries_in_their_order_and_at_their_time(gator, clock):
    gator.options(delay_by=3 * HOUR)(look, "third")
    gator.options(delay_by=HOUR)(look, "first")
    gator.task(look, "now")
    gator.options(retries=2, retry_delay=2 * HOUR, delay_by=2 * HOUR)(fail, "retried")
    gator.options(delay_by=25 * HOUR)(look, "tomorrow")
    assert gator.run_until("+1d") == 6
    assert SEEN == [
        ("now", 0),
        ("first", 1),
        ("retried", 2),
        ("third", 3),
        ("retried", 4),
        ("retried", 6),
    ]
    assert clock.time() == NOW + DAY
    assert clock.monotonic() == DAY
    assert [letter.error for letter in gator.dead()] == ["ValueError: retried"]
    assert gator.dead()[0].died_at == NOW + 6 * HOUR
    assert gator.stats()["delayed"] == 1


def test_what_is_due_at_the_very_end_is_run(gator, clock):
    gator.options(delay_until=NOW + 60)(look, "at the end")
    assert gator.run_until(NOW + 59.999) == 0
    assert gator.run_until(NOW + 60) == 1
    assert SEEN[-1] == ("at the end", 1 / 60)


def test_tasks_that_queue_tasks(gator):
    gator.options(delay_by=60)(queue_another, gator.conn_string, 3)
    assert gator.run_until("+1h") == 4


def queue_another(dsn, left):
    if left:
        Gator(dsn, clock=CLOCK[0]).options(delay_by=60)(queue_another, dsn, left - 1)


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        ("+1d", DAY),
        ("90s", 90),
        ("+1h30m", 5400),
        ("+1w 2d", 9 * DAY),
        ("0.5s", 0.5),
        (timedelta(hours=2), 7200),
        (25, 25),
        (0, 0),
        (1.5, 1.5),
        (NOW + 5, 5),
        (int(NOW) + 5, 5),
        (datetime.fromtimestamp(NOW + 60, UTC), 60),
        (datetime.fromtimestamp(NOW + 60), 60),
    ],
)
def test_moments(clock, when, seconds):
    Gator("locmem://moments", clock=clock).run_until(when)
    assert clock.time() == NOW + seconds


@pytest.mark.parametrize(
    "when",
    [
        "",
        "tomorrow",
        "+1",
        "1y",
        "-1d",
        "+",
        "1d2",
        "\u0661d",
        True,
        None,
        math.nan,
        math.inf,
        [1],
        b"1d",
    ],
    ids=ascii,
)
def test_no_moments(clock, when):
    with pytest.raises(InvalidTask, match="is no moment"):
        Gator("locmem://moments", clock=clock).run_until(when)
    assert clock.time() == NOW


@pytest.mark.parametrize("when", [-1, timedelta(-1), NOW - 1, datetime(2020, 1, 1, tzinfo=UTC)])
def test_the_past(clock, when):
    with pytest.raises(InvalidTask, match="in the past"):
        Gator("locmem://moments", clock=clock).run_until(when)


def test_the_clock_of_the_machine_cannot_be_moved():
    with pytest.raises(UnsupportedOption, match=r"clock=FakeClock\(\)"):
        Gator("locmem://").run_until("+1d")


def test_nor_can_that_of_a_server(redis_dsn):
    gator = Gator(redis_dsn, clock=FakeClock())
    with pytest.raises(UnsupportedOption, match="a clock of its own"):
        gator.run_until("+1d")
    gator.close()


def test_other_queues(gator):
    gator.options(queue_name="low")(look, "low")
    gator.options(queue_name="high", delay_by=60)(look, "high")
    assert gator.run_until("+1h") == 0
    gator.options(queue_name="high")(look, "first")
    assert gator.run_until("+1h", ["high", "low"]) == 3
    assert [what for what, _ in SEEN] == ["high", "first", "low"]


def test_the_lease_of_a_dead_worker_ends(gator):
    gator.task(look, "left behind")
    gator.client.reserve(["all"], 1, 600.0)
    assert gator.run_until("+9m") == 0
    assert gator.run_until("+2m") == 1
    assert SEEN == [("left behind", 1 / 6)]


def test_a_task_may_move_the_clock_itself(gator, clock):
    gator.options(delay_by=60)(look, "late")
    gator.task(work_for, 2 * HOUR)
    assert gator.run_until("+1h") == 2
    assert SEEN == [("worked", 2), ("late", 2)]
    assert clock.time() == NOW + 2 * HOUR


def sleep_by_the_clock(hours):
    try:
        for _ in range(hours):
            CLOCK[0].sleep(HOUR)
    finally:
        look("slept")


async def sleep_in_a_coroutine(hours):
    sleep_by_the_clock(hours)


def swallow(hours):
    try:
        sleep_by_the_clock(hours)
    except BaseException:
        CLOCK[0].advance(HOUR)


def run_another(hours, timeout):
    with contextlib.suppress(TaskTimeout):
        Gator("locmem://", clock=CLOCK[0]).options(is_async=False, timeout=timeout).task(
            sleep_by_the_clock, hours
        )
        look("in time")
    CLOCK[0].sleep(HOUR)
    look("and an hour")


def slow_hook(task, *extra):
    CLOCK[0].sleep(9 * HOUR)


@pytest.mark.parametrize("func", [sleep_by_the_clock, sleep_in_a_coroutine, swallow])
def test_a_task_that_lets_more_time_pass_than_its_timeout(gator, clock, func):
    real = time.monotonic()
    gator.options(timeout=2.5 * HOUR, retries=1, retry_delay=6 * HOUR).task(func, 20)
    gator.options(timeout=2.5 * HOUR, delay_by=20 * HOUR).task(func, 2)
    assert gator.run_until("+1d") == 3
    extra = HOUR * (func is swallow)
    again = NOW + 2.5 * HOUR + extra + 6 * HOUR
    assert [("slept", 2.5), ("slept", 11 + extra / HOUR), ("slept", 22)] == SEEN
    (letter,) = gator.dead()
    assert letter.error == "TaskTimeout: It ran for more than its 9000 s."
    assert letter.died_at == again + 2.5 * HOUR + extra
    assert "sleep_by_the_clock" in letter.traceback or func is swallow
    assert time.monotonic() - real < 60


def test_exactly_its_timeout_is_in_time_and_hooks_take_theirs(gator):
    gator.options(timeout=2 * HOUR, on_start=slow_hook, on_success=slow_hook).task(
        sleep_by_the_clock, 2
    )
    assert gator.run_until("+1d") == 1
    assert gator.dead() == []


@pytest.mark.parametrize(
    ("outer", "inner", "seen"),
    [
        (9, 3, [("slept", 3), ("and an hour", 4)]),
        (9, 7, [("slept", 5), ("in time", 5), ("and an hour", 6)]),
        (3, 9, [("slept", 3)]),
        (5.5, 5, [("slept", 5), ("in time", 5)]),
    ],
)
def test_one_within_another(gator, outer, inner, seen):
    gator.options(timeout=outer * HOUR).task(run_another, 5, inner * HOUR)
    gator.run_until("+1d")
    assert seen == SEEN
    assert len(gator.dead()) == (outer < 6)


def test_what_others_let_pass_is_not_the_tasks(gator, clock):
    gator.options(timeout=60).task(look, "soon")
    clock.sleep(HOUR)
    assert gator.run_until("+1h") == 1
    clock.sleep(HOUR)
    assert SEEN == [("soon", 1)]


def test_control_c_is_not_a_failure_of_a_task(gator):
    gator.task(press_control_c)
    with pytest.raises(KeyboardInterrupt):
        gator.run_until("+1d")


def test_a_lost_connection_is_tried_again_and_not_for_ever(clock, tmp_path):
    flaky = FlakyClient(Client(f"locmem://{tmp_path}", clock=clock))
    gator = Gator(flaky.conn_string, backend_class=lambda dsn: flaky, clock=clock)
    gator.task(look, "in the end")
    flaky.fail("reserve", times=3)
    assert gator.run_until("+1h") == 1
    assert SEEN == [("in the end", 0)]
    gator.task(look, "never")
    flaky.fail("reserve", times=math.inf)
    with pytest.raises(AlligatorException, match="cannot be run"):
        gator.run_until("+1h")


class Unfired:
    """Replace schedules that are never queued."""

    def next_tick(self):
        return NOW + HOUR

    def fire(self, log):
        pass


def test_a_schedule_that_nobody_fires_does_not_stop_time_for_ever(gator):
    gator.schedules = Unfired()
    with pytest.raises(AlligatorException, match="cannot be run"):
        gator.run_until("+1d")


def test_no_line_on_standard_output_and_the_current_task_is_known(gator, capsys):
    gator.task(note_task)
    gator.options(retries=1)(fail, "loud")
    gator.run_until("+1s")
    assert capsys.readouterr().out == ""
    assert SEEN[0][0] == "note_task"


def note_task():
    look(current_task().func.__name__)
