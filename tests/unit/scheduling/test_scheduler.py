"""Test ``every`` and ``cron``: declared, queued once, caught up, skipped, listed."""

import logging
import os
import threading
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from alligator import Gator, Task, Worker, current_task
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    InvalidTask,
    MultipleDelayError,
    NotAllowed,
    UnsupportedOption,
)
from alligator.gator import reconfigure
from alligator.scheduling.scheduler import Ticker
from alligator.testing import FakeClock
from tests.support import jobs
from tests.support.helpers import eventually

START = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
MINUTE, HOUR, DAY = 60, 3600, 86_400

CLOCK = [FakeClock()]
RAN = []


def tick(*args, **kwargs):
    """Note down when it ran, and as which task."""
    RAN.append((CLOCK[0].time(), current_task().task_id, args, kwargs))


def take(seconds):
    tick()
    CLOCK[0].advance(seconds)


def times():
    return [when for when, *_ in RAN]


@pytest.fixture
def clock():
    RAN.clear()
    CLOCK[0] = FakeClock(START)
    return CLOCK[0]


@pytest.fixture(params=["locmem", "sqlite"])
def dsn(request, tmp_path):
    return {"locmem": f"locmem://{tmp_path}", "sqlite": f"sqlite://{tmp_path}/q.db"}[request.param]


@pytest.fixture
def make(dsn, clock):
    """Make Gators, each as in a process of its own."""
    made = []

    def make(**options):
        gator = Gator(dsn, clock=clock, **options)
        made.append(gator)
        return gator

    yield make
    for gator in made:
        gator.close()


@pytest.fixture
def gator(make):
    return make()


# -- When they run. -------------------------------------------------------------------------------


def test_every(gator):
    gator.every(25, tick, 1, two=2)
    assert gator.run_until("+10m") == 24
    assert times() == [START + 25 * each for each in range(1, 25)]
    assert RAN[0][2:] == ((1,), {"two": 2})


def test_a_year_of_tuesdays(gator):
    gator.cron("0 5 * * tue", tick)
    assert gator.run_until("+365d") == 52
    first = datetime(2026, 1, 6, 5, tzinfo=UTC).timestamp()
    assert times() == [first + 7 * DAY * each for each in range(52)]


SPRING, AUTUMN = datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "since", "hours", "ticks"),
    [
        ("30 2 * * *", SPRING, 72, ["28 02:30 CET", "29 03:00 CEST", "30 02:30 CEST"]),
        ("30 2 * * *", AUTUMN, 72, ["24 02:30 CEST", "25 02:30 CEST", "26 02:30 CET"]),
        ("0 1-4 * * *", AUTUMN, 22, ["24 03:00 CEST", "24 04:00 CEST"]),
        ("0 * * * *", SPRING + timedelta(hours=23.5), 2, ["29 01:00 CET", "29 03:00 CEST"]),
        (
            "0 * * * *",
            AUTUMN + timedelta(hours=22.5),
            3,
            ["25 01:00 CEST", "25 02:00 CEST", "25 02:00 CET"],
        ),
    ],
)
def test_the_clocks_change(gator, clock, expression, since, hours, ticks):
    clock.advance_to(since.timestamp())
    gator.options(tz="Europe/Berlin").cron(expression, tick)
    gator.run_until(timedelta(hours=hours))
    berlin = ZoneInfo("Europe/Berlin")
    assert [f"{datetime.fromtimestamp(when, berlin):%d %H:%M %Z}" for when in times()] == ticks


def test_options_of_a_task_go_along(gator):
    with gator.options(queue_name="low", retries=1, retry_delay=60, priority=7) as opts:
        opts.every(HOUR, jobs.fail)
    assert gator.run_until("+1h") == 0, "no worker serves that queue"
    assert gator.client.stats("low").waiting == 1
    assert gator.run_until("+30m", "low") == 2
    assert [letter.queue_name for letter in gator.client.dead("low")] == ["low"]


def test_what_expires_is_not_run_when_a_worker_comes_at_last(gator, clock):
    gator.options(expires=60, queue_name="low").every(HOUR, tick)
    gator.run_until("+3h")
    assert gator.run_until("+0s", "low") == 3
    assert len(RAN) == 1
    assert len(gator.client.dead("low")) == 2


def test_a_delay_counts_from_the_tick(gator):
    gator.options(delay_by=90).every(HOUR, tick)
    gator.run_until("+2h")
    assert times() == [START + HOUR + 90]


def test_a_function_by_its_name(gator):
    gator.every(HOUR, f"{__name__}.tick", "by name")
    assert gator.run_until("+1h") == 1
    assert RAN[0][2] == ("by name",)


def test_ids_are_made_of_name_and_time(gator, make):
    schedule = gator.cron("0 5 * * tue", tick)
    gator.run_until("+6d")
    task_id = RAN[0][1]
    assert task_id == f"{schedule.name}@2026-01-06T05:00:00Z"
    assert schedule.name.startswith("tests.unit.scheduling.test_scheduler.tick-")
    assert make().cron("0  5 * * tue", f"{__name__}.tick").name == schedule.name


# -- How many times. ------------------------------------------------------------------------------


def test_of_many_workers_one_queues_each_tick(make, clock):
    gators = [make() for _ in range(5)]
    for each in gators:
        each.every(10, tick)
        each.cron("* * * * *", tick)
    clock.advance(1)
    for _ in range(120):
        clock.advance(1)
        for each in gators:
            each.schedules.fire()
    assert gators[0].len() == 12 + 2


def test_threads_at_once(make, clock):
    gators = [make() for _ in range(4)]
    for each in gators:
        each.options(catch_up=True).every(1, tick)
        each.schedules.fire()
    clock.advance(8)
    threads = [threading.Thread(target=each.schedules.fire) for each in gators * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gators[0].len() == 8


def test_rows_tell_the_last_tick_and_the_next_ones(make, clock):
    """Of each schedule, in another process than the one that queued it, too."""
    gator, other = make(), make()
    for each in (gator, other):
        each.every(60, tick, 1, password="hunter2")
        each.options(overlap=False).every(90, take, 200)
    (first, second) = other.schedule_rows(ahead=2)
    assert (first.function, first.args) == (f"{__name__}.tick", "1")
    assert (first.rule, first.tz, first.kwargs) == ("every 60 s", "", "password='***'")
    assert (first.queued, first.queued_id, first.is_known) == (None, "", False)
    assert first.following == (START + 60, START + 120)
    assert second.following[0] == START + 90
    gator.schedules.fire()
    clock.advance(90)
    gator.schedules.fire()
    row = {each.function: each for each in other.schedule_rows()}
    ticked, taken = row[f"{__name__}.tick"], row[f"{__name__}.take"]
    assert (ticked.queued, ticked.skipped, ticked.missed) == (START + 60, None, None)
    assert other.client.find("all", ticked.queued_id) is not None
    assert (taken.queued, taken.skipped) == (START + 90, None)
    clock.advance(90)
    gator.schedules.fire()  # the last run of take waits still
    row = {each.function: each for each in other.schedule_rows()}
    assert (row[f"{__name__}.take"].queued, row[f"{__name__}.take"].skipped) == (
        START + 90,
        START + 180,
    )
    clock.advance(100)
    row = {each.function: each for each in other.schedule_rows()}
    assert row[f"{__name__}.tick"].missed == START + 240
    with pytest.raises(InvalidTask, match="ahead=0 is no whole number"):
        gator.schedule_rows(ahead=0)


def test_a_worker_that_comes_late_finds_all_done(make, clock):
    first = make()
    first.every(10, tick)
    first.run_until("+1m")
    late = make()
    late.every(10, tick)
    assert late.run_until("+0s") == 0
    late.schedules.fire()
    assert late.len() == 0


def test_a_tick_of_a_moment_ago_is_not_lost_between_two_workers(make, clock):
    before = make()
    before.cron("0 13 * * *", tick)
    before.run_until("+59m59s")
    clock.advance(6)
    after = make()
    after.cron("0 13 * * *", tick)
    assert after.run_until("+0s") == 1


@pytest.mark.parametrize("catch_up", [True, False])
def test_what_was_missed(make, clock, catch_up):
    def declare():
        gator = make()
        gator.options(catch_up=catch_up).every(HOUR, tick)
        return gator

    declare().run_until("+90m")
    RAN.clear()
    clock.advance(5 * HOUR)  # with no worker
    gator = declare()
    gator.run_until("+0s")
    assert [task_id[-20:] for _, task_id, *_ in RAN] == (
        [f"2026-01-01T{hour}:00:00Z" for hour in range(14, 19)] if catch_up else []
    )
    RAN.clear()
    gator.run_until("+1h")
    assert times() == [START + 7 * HOUR]


def test_what_was_missed_before_the_first_tick(make, clock):
    def declare():
        gator = make()
        gator.options(catch_up=True).cron("0 0 1 2 *", tick)
        return gator

    declare().run_until("+1d")
    clock.advance(60 * DAY)
    assert declare().run_until("+0s") == 1


def test_more_was_missed_than_is_made_up_for_at_a_time(make, clock):
    def declare():
        gator = make()
        gator.options(catch_up=True).every(1, tick)
        return gator

    declare().run_until("+1s")
    clock.advance(1200)
    assert declare().run_until("+0s") == 1200
    assert len({task_id for _, task_id, *_ in RAN}) == 1201


def test_a_worker_that_had_no_time_to_look_queues_the_newest(gator, clock):
    gator.every(HOUR, tick)
    gator.options(delay_by=30 * MINUTE)(take, 3 * HOUR)
    gator.run_until("+4h")
    assert [when - START for when in times()] == [30 * MINUTE, 3.5 * HOUR, 4 * HOUR]
    assert RAN[1][1].endswith("15:00:00Z")


@pytest.mark.parametrize("busy", [3.25, 9.25, 30.25, HOUR])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_after_a_long_task_only_the_latest_tick_is_queued(gator, clock, busy, concurrency):
    gator.every(1, tick)
    gator.schedules.fire()
    gator.task(take, busy)
    Worker(gator, burst=True, concurrency=concurrency, log_level="CRITICAL").run_forever()
    assert [task_id[-20:] for _, task_id, *_ in RAN[1:]] == [stamp(START + int(busy))]


@pytest.mark.parametrize("busy", [3.25, 9.25, 30.25, HOUR])
def test_the_same_where_the_clock_is_played(gator, busy):
    gator.every(1, tick)
    gator.options(delay_by=0.5)(take, busy)
    gator.run_until(busy + 2)
    ids = [task_id[-20:] for _, task_id, *_ in RAN[1:]]
    begin = int(busy + 0.5)
    assert ids == [stamp(START + begin + each) for each in range(len(ids))]
    assert len(ids) == 1 + int(busy + 2) - begin


def stamp(moment):
    return datetime.fromtimestamp(moment, UTC).isoformat().removesuffix("+00:00") + "Z"


def test_only_the_latest_on_every_backend(gator_with_store):
    clock = FakeClock(START)
    store = gator_with_store.store if gator_with_store.store.bridged else None
    gator = Gator(
        gator_with_store.conn_string, gator_with_store.queue_name, store=store, clock=clock
    )
    gator.every(1, tick)
    gator.schedules.fire()
    for busy in (1, 3.5, 9.5, 60):
        clock.advance(busy)
        gator.schedules.fire()
    gator.schedules.fire()
    assert gator.len() == 4


def test_a_missed_tick_is_told(gator, make, clock, caplog):
    gator.every(HOUR, tick)
    gator.run_until("+1h")
    clock.advance(DAY + 60)
    again = make()
    again.every(HOUR, tick)
    with caplog.at_level(logging.INFO):
        again.schedules.fire()
    assert "2026-01-02T13:00:00Z was missed, and is skipped" in caplog.text


# -- One at a time. -------------------------------------------------------------------------------


def test_no_overlap(gator, clock, caplog):
    gator.options(overlap=False, queue_name="low").every(MINUTE, tick)
    with caplog.at_level(logging.INFO):
        gator.run_until("+3m")
    assert gator.client.stats("low").waiting == 1, "it has waited since the first minute"
    assert "12:02:00Z is skipped: tests.unit.scheduling.test_scheduler.tick-" in caplog.text
    running = gator.client.reserve(["low"], 1, 10 * MINUTE).deliveries
    gator.run_until("+3m")
    assert gator.client.stats("low").waiting == 0, "it runs"
    gator.client.release(running[0], running[0].data, clock.time() + 150)
    gator.run_until("+2m")
    assert gator.client.stats("low").delayed == 1, "it is to be tried again"
    clock.advance(30)
    running = gator.client.reserve(["low"], 1, 10 * MINUTE).deliveries
    gator.client.ack(running)
    gator.run_until("+1m")
    assert gator.client.stats("low").waiting == 1


def test_overlap_is_the_rule(gator):
    gator.options(queue_name="low").every(MINUTE, tick)
    gator.run_until("+3m")
    assert gator.client.stats("low").waiting == 3


def test_no_overlap_seen_by_another_worker(make, clock):
    for _ in range(4):
        gator = make()
        gator.options(overlap=False).every(MINUTE, tick)
        gator.schedules.fire()
        clock.advance(MINUTE)
    gator.schedules.fire()
    assert gator.len() == 1


def test_a_failure_is_an_end(gator):
    gator.options(overlap=False).every(MINUTE, jobs.fail)
    gator.run_until("+3m")
    assert len(gator.dead()) == 3


def test_without_overlap_one_run_makes_up_for_all(make, clock):
    def declare():
        gator = make()
        gator.options(overlap=False, catch_up=True).every(MINUTE, tick)
        return gator

    declare().run_until("+1m")
    clock.advance(DAY)
    assert declare().run_until("+0s") == 1
    assert len(RAN) == 2


def test_what_was_skipped_was_not_missed(make, clock):
    gator = make()
    gator.options(overlap=False, catch_up=True, queue_name="low").every(MINUTE, tick)
    gator.run_until("+3m30s")
    assert gator.run_until("+0s", "low") == 1
    again = make()
    again.options(overlap=False, catch_up=True, queue_name="low").every(MINUTE, tick)
    assert again.run_until("+0s", "low") == 0


def test_a_tick_does_not_overlap_with_itself(make, clock, caplog):
    gators = [make(), make()]
    for each in gators:
        each.options(overlap=False).every(MINUTE, tick)
        each.schedules.fire()
    clock.advance(MINUTE)
    with caplog.at_level(logging.INFO):
        for each in gators:
            each.schedules.fire()
    assert "is skipped" not in caplog.text
    assert gators[0].len() == 1


def test_no_overlap_though_whoever_queued_it_died_before_it_was_noted(make, clock, monkeypatch):
    def declare():
        gator = make()
        gator.options(overlap=False).every(MINUTE, tick)
        gator.schedules.fire()
        return gator

    gator = declare()
    clock.advance(MINUTE)
    note = Ticker._note
    monkeypatch.setattr(Ticker, "_note", lambda *args: None)
    gator.schedules.fire()
    monkeypatch.setattr(Ticker, "_note", note)
    clock.advance(MINUTE)
    gator = declare()
    assert gator.len() == 1


# -- A store elsewhere. ---------------------------------------------------------------------------


@pytest.fixture
def apart(clock, tmp_path):
    def make():
        return Gator(f"locmem://{tmp_path}", store=f"locmem://{tmp_path}-store", clock=clock)

    return make


def test_a_store_elsewhere(apart, clock):
    gators = [apart(), apart()]
    for each in gators:
        each.every(10, tick)
    for _ in range(60):
        clock.advance(1)
        for each in gators:
            each.schedules.fire()
    assert gators[0].len() == 6


class Died(BaseException):
    """A worker was killed."""


def test_who_claimed_a_tick_and_died_is_made_up_for(apart, clock, monkeypatch):
    dies, lives = apart(), apart()
    for each in (dies, lives):
        each.every(MINUTE, tick)
        each.schedules.fire()
    clock.advance(MINUTE)

    def push_many(*args):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(dies.client, "push_many", push_many)
        with pytest.raises(Died):
            dies.schedules.fire()
    lives.schedules.fire()
    assert lives.len() == 0, "it might be being pushed"
    lives.run_until("+50s")
    assert [task_id[-9:] for _, task_id, *_ in RAN] == ["12:01:00Z"]
    lives.run_until("+1h")
    assert len({task_id for _, task_id, *_ in RAN}) == len(RAN) == 61


# -- What goes wrong. -----------------------------------------------------------------------------


def test_a_store_out_of_reach_is_tried_again(gator, caplog, monkeypatch):
    gator.every(MINUTE, tick)
    gator.run_until("+1m")

    def push_once(*args):
        raise ConnectionLost("out of reach")

    with caplog.at_level(logging.INFO):
        with monkeypatch.context() as patch:
            patch.setattr(type(gator.client.store), "push_once", push_once)
            gator.run_until("+65s")
        assert len(RAN) == 1
        gator.run_until("+5s")
    assert len(RAN) == 2
    assert caplog.text.count("cannot be queued") == 1
    assert caplog.text.count("is queued again") == 1


def test_one_that_cannot_be_queued_holds_nothing_up(gator, clock, caplog):
    gator.every(MINUTE, jobs.note)
    gator.every(MINUTE, tick)
    reconfigure(gator, allowed=[f"{__name__}.*"], secret_keys=None)  # as --allow does
    gator.task(tick)
    assert gator.run_until("+3m") == 4
    assert "jobs.note-" in caplog.text
    assert caplog.text.count("cannot be queued (NotAllowed") == 1


def test_a_clock_set_back_by_a_year(gator, make, clock):
    clock.step(365 * DAY)
    gator.every(MINUTE, tick)
    gator.run_until("+2m")
    clock.step(-365 * DAY)
    RAN.clear()
    other = make()
    other.every(MINUTE, tick)
    other.run_until("+2m")
    gator.run_until("+2m")
    assert [when - START for when in times()] == [180, 240, 300, 360]
    clock.advance(5)
    record = gator.store.record(next(iter(gator.schedules)).key)
    assert record.pushed == START + 360, "it is known again what would be missed"


def test_a_clock_set_back_a_little_repeats_nothing(gator, clock):
    gator.every(MINUTE, tick)
    gator.run_until("+30m")
    clock.step(-10 * MINUTE)
    gator.run_until("+12m")
    assert len({task_id for _, task_id, *_ in RAN}) == len(RAN) == 32


@pytest.mark.parametrize(
    ("declare", "error", "says"),
    [
        (lambda g: g.every(0, tick), InvalidTask, "no interval"),
        (lambda g: g.every("25", tick), InvalidTask, "no interval"),
        (lambda g: g.cron("0 5 * *", tick), InvalidTask, "five fields"),
        (lambda g: g.cron("0 5 30 feb *", tick), InvalidTask, "Cron expression"),
        (lambda g: g.options(tz="Mars/Base"), InvalidTask, "time zone"),
        (lambda g: g.options(tz=7), InvalidTask, "time zone"),
        (lambda g: g.options(catch_up=1), InvalidTask, "catch_up=1"),
        (lambda g: g.options(overlap="no"), InvalidTask, "overlap='no'"),
        (lambda g: g.options(tz=Nameless()).cron("* * * * *", tick), InvalidTask, "no name"),
        (lambda g: g.every(1, tick, object()), InvalidTask, "survive JSON"),
        (lambda g: g.every(1, lambda: None), InvalidTask, "lambda"),
        (lambda g: g.every(1, []), InvalidTask, "not a function"),
        (lambda g: g.every(1, "nowhere"), InvalidTask, "nowhere"),
        (lambda g: g.every(1, take, 1, 2), InvalidTask, "take"),
        (lambda g: g.every(1, "os.system", "true"), NotAllowed, "os"),
        (lambda g: g.options(task_id="x").every(1, tick), InvalidTask, "task_id= is not"),
        (lambda g: g.options(delay_until=5).every(1, tick), InvalidTask, "delay_by"),
        (lambda g: g.options(delay_by=1, delay_until=5), MultipleDelayError, "not both"),
        (lambda g: g.options(expires=5, delay_by=9).every(1, tick), InvalidTask, "expires"),
        (lambda g: g.options(tz="UTC").task(tick), InvalidTask, "leave it out"),
        (lambda g: g.options(overlap=False)(tick), InvalidTask, "leave it out"),
        (lambda g: g.batch(catch_up=True), InvalidTask, "leave it out"),
        (lambda g: g.batch().every(1, tick), InvalidTask, "gator.options"),
        (lambda g: Task(tz="UTC"), InvalidTask, "leave it out"),
    ],
)
def test_bad_input_is_refused_at_the_call(clock, declare, error, says):
    gator = Gator(f"locmem://{os.urandom(4).hex()}", clock=clock)
    with pytest.raises(error, match=says):
        declare(gator)
    assert len(gator.schedules) == 0


class Nameless(tzinfo):
    def utcoffset(self, dt):
        return timedelta(0)

    def dst(self, dt):
        return timedelta(0)


@pytest.mark.parametrize("dsn", ["beanstalk://127.0.0.1:1/", "sqs://us-west-2/"])
def test_without_a_store(dsn):
    gator = Gator(dsn)
    for declare in (gator.every, gator.options().every):
        with pytest.raises(UnsupportedOption, match=r"store='redis://"):
            declare(5, tick)
    with pytest.raises(UnsupportedOption, match=r"store='redis://"):
        gator.cron("* * * * *", tick)


def test_no_overlap_where_no_run_can_be_looked_up(apart):
    gator = apart()
    gator.client.supports = gator.client.supports - {"get"}
    with pytest.raises(UnsupportedOption, match="leave overlap=False out"):
        gator.options(overlap=False).every(5, tick)


# -- What is one schedule, and what are two. ------------------------------------------------------


def test_other_arguments_times_or_queues_are_other_schedules(gator):
    gator.every(60, tick)
    gator.every(60, tick, 1)
    gator.every(60, tick, one=1)
    gator.every(30, tick)
    gator.cron("* * * * *", tick)
    gator.options(tz="Europe/Berlin").cron("* * * * *", tick)
    gator.options(tz=timezone(timedelta(hours=1))).cron("* * * * *", tick)
    gator.options(queue_name="low").every(60, tick)
    assert len(gator.schedules) == 8
    assert len({each.name for each in gator.schedules}) == 7, "the queue is told apart by the store"
    assert gator.run_until("+1m", ["all", "low"]) == 9


def test_the_same_twice_is_one(gator):
    gator.every(60, tick, a=1, b=2)
    gator.every(60.0, f"{__name__}.tick", b=2, a=1)
    gator.options(tz="UTC").cron("* * * * *", tick)
    gator.options(tz=ZoneInfo("UTC")).cron("* * * * *", tick)
    gator.cron("* * * * *", tick)
    assert len(gator.schedules) == 2
    assert gator.run_until("+2m") == 4


@pytest.mark.parametrize("options", [{"priority": 3}, {"catch_up": True}, {"overlap": False}])
def test_the_same_twice_with_other_options_is_refused(gator, options):
    gator.every(60, tick)
    with pytest.raises(InvalidTask, match="already"):
        gator.options(**options).every(60, tick)
    assert gator.run_until("+1m") == 1


def test_the_queue_is_that_of_the_declaration(make):
    gator = make(queue_name="mine")
    gator.every(60, tick)
    gator.queue_name = "other"  # as latergator.py --app … --queue other does
    gator.run_until("+1m")
    assert gator.client.stats("mine").waiting == 1


def test_what_happens_to_a_list_later_does_not_matter(gator):
    names = ["a"]
    gator.every(60, tick, names)
    names.append("b")
    gator.run_until("+1m")
    assert RAN[0][2] == (["a"],)


def test_is_async_has_no_bearing(gator):
    gator.options(is_async=False).every(60, tick)
    assert RAN == []
    assert gator.run_until("+1m") == 1


def test_batches_and_options_go_on_as_before(gator):
    with gator.batch(retries=1, tz=None) as batch:
        batch.task(tick)
    assert gator.run_all() == 1


# -- Workers. -------------------------------------------------------------------------------------


def test_no_schedules_cost_nothing(gator, monkeypatch):
    monkeypatch.setattr(gator.schedules, "_client", None)
    monkeypatch.setattr(gator.schedules, "_clock", None)
    gator.schedules.fire()
    assert gator.schedules.seconds_left() == float("inf")
    monkeypatch.undo()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_idle_worker_wakes_for_a_tick(dsn, concurrency):
    RAN.clear()
    gator, late = Gator(dsn), []

    class Timed(Worker):
        def result(self, result):
            late.append(gator.clock.time() % 0.5)
            self.keep_running = len(late) < (2 if min(late) < 0.1 else 20)

    gator.every(0.5, jobs.note)
    worker = Timed(gator, log_level=logging.WARNING, concurrency=concurrency)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert min(late) < 0.1, "it slept on, and was woken by something else"
    gator.close()


GO_ON = threading.Event()


def hold():
    GO_ON.wait(60)


def test_a_worker_with_all_hands_busy_queues_as_well(dsn):
    GO_ON.clear()
    gator = Gator(dsn)
    gator.options(queue_name="low").every(0.2, jobs.note)
    for _ in range(2):
        gator.task(hold)
    worker = Worker(gator, concurrency=2, log_level=logging.WARNING)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: gator.client.stats("low").waiting >= 3, "three ticks wait")
    assert gator.stats()["running"] == 2
    worker.keep_running = False
    GO_ON.set()
    thread.join(20)
    gator.close()


def test_a_worker_of_another_queue_queues_as_well(gator, clock):
    gator.options(queue_name="low").every(60, tick)
    worker = Worker(gator, to_consume="high", log_level=logging.WARNING)
    worker.check_and_run_task()
    clock.advance(60)
    assert not worker.check_and_run_task()
    assert gator.client.stats("low").waiting == 1


def test_a_worker_with_a_way_of_its_own(dsn, clock):
    gator = Gator(dsn, clock=clock)
    gator.every(60, tick)
    turns = []

    class Own(Worker):
        def check_and_run_task(self):
            clock.advance(60)
            turns.append(1)
            self.keep_running = len(turns) < 3
            return self.gator.run_all() > 0

    Own(gator, nap_time=0.001, log_level=logging.WARNING).run_forever()
    assert len(RAN) == 2
    gator.close()


def test_what_is_coming(gator):
    hourly = gator.every(HOUR, tick)
    daily = gator.options(queue_name="low", tz="Europe/Berlin").cron("30 14 * * *", tick, "x")
    found = gator.schedules.coming(4)
    assert [each.name for _, each in found] == [hourly.name, daily.name, hourly.name, hourly.name]
    assert [when - START for when, _ in found] == [HOUR, 1.5 * HOUR, 2 * HOUR, 3 * HOUR]
    assert [when - START for when, _ in gator.schedules.coming(2, ["low"])] == [
        1.5 * HOUR,
        25.5 * HOUR,
    ]
    assert gator.schedules.next_tick() == START + HOUR
    never_soon = gator.cron("30 14 29 2 *", tick, "y")
    for limit in (1, 3, 5):
        found = gator.schedules.coming(limit)
        assert {each.name for _, each in found} == {hourly.name, daily.name, never_soon.name}
        assert [when for when, _ in found] == sorted(when for when, _ in found)
        assert len(found) == max(limit, 3)
    assert Gator("locmem://").schedules.next_tick() == float("inf")
    assert repr(daily) == f"<Schedule {daily.name} on 'low'>"


def test_the_store_is_asked_for_at_the_call_only():
    gator = Gator("sqs://us-west-2/")
    with pytest.raises(AlligatorException, match="has no place to note"):
        gator.every(60, tick)


# -- On every backend, and whatever dies. ---------------------------------------------------------


def test_each_backend_with_a_store(durable_gator, tmp_path):
    """Real time, since servers have clocks of their own."""
    queue = f"ticks-{os.urandom(4).hex()}"
    elsewhere = None if durable_gator(queue).store else f"sqlite://{tmp_path}/store.db"
    gators = [durable_gator(queue, store=elsewhere) for _ in range(2)]
    RAN.clear()
    began = gators[0].clock.time()
    for each in gators:
        each.every(0.25, tick)

    def run_what_is_due():
        for each in gators:
            each.schedules.fire()
        gators[0].run_all()
        return len(RAN) >= 5

    eventually(run_what_is_due, "five ticks run")
    ended = gators[0].clock.time()
    gators[0].run_all()
    ids = [task_id for _, task_id, *_ in RAN]
    assert len(set(ids)) == len(ids), "each tick is queued once"
    due = [datetime.fromisoformat(each.rpartition("@")[2]).timestamp() for each in ids]
    assert all(began < each <= ended and each % 0.25 == 0 for each in due)
    assert gators[0].dead() == []


def test_cron_on_each_backend_with_a_store(durable_gator, tmp_path):
    queue, clock = f"cron-{os.urandom(4).hex()}", FakeClock(START)
    elsewhere = None if durable_gator(queue).store else f"sqlite://{tmp_path}/store.db"
    gators = [durable_gator(queue, store=elsewhere, clock=clock) for _ in range(2)]
    for each in gators:
        with each.options(tz="Europe/Berlin", catch_up=True) as opts:
            opts.cron("0 5 * * *", jobs.note)
        each.schedules.fire()
    clock.advance(3 * DAY)
    for each in (*gators, *gators):
        each.schedules.fire()
    assert gators[0].run_all() == 3


STEPS = ("record", "note", "push_once")


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("nth", range(1, 9))
def test_a_worker_that_dies_between_any_two_steps(make, clock, monkeypatch, nth, after, overlap):
    """Each tick is queued once, whichever call to the store was the last of a worker."""
    left = [nth]

    def dying(step):
        def call(self, *args):
            left[0] -= 1
            if not left[0] and not after:
                raise Died
            result = step(self, *args)
            if not left[0] and after:
                raise Died
            return result

        return call

    store = type(make().client.store)
    for name in STEPS:
        monkeypatch.setattr(store, name, dying(getattr(store, name)))

    def start():
        gator = make()
        gator.options(catch_up=True, overlap=overlap).every(MINUTE, tick)
        return gator

    worker, died = start(), 0
    for _ in range(305):
        try:
            worker.run_until("+2s")
        except Died:
            died += 1
            worker = start()
    assert died == 1
    assert [task_id[-9:] for _, task_id, *_ in RAN] == [
        f"12:{each:02}:00Z" for each in range(1, 11)
    ]
