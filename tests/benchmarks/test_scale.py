"""Test the model of the scale page and its tables, without measuring anything."""

import json
import math
import random
import re
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import NotMeasured
from benchmarks.scale import arrivals, depth, model, plan, render, report
from benchmarks.scale.environment import Spent, pace
from benchmarks.scale.model import Cost
from tests.docs.snippets import ROOT

us = st.floats(0.1, 1e6)
crowd = st.integers(1, 200)
parts = st.floats(0.0, 1000.0)


# -- Costs. -----------------------------------------------------------------------------------


@given(parts, parts, st.lists(st.integers(1, 1000), min_size=2, max_size=5, unique=True))
def test_a_cost_is_found_again_in_its_figures(trip, each, batches):
    cost = Cost(trip, each)
    found = model.fit({batch: cost.per_task(batch) for batch in batches})
    for batch in batches:
        assert found.per_task(batch) == pytest.approx(cost.per_task(batch), rel=1e-3, abs=1e-6)


@given(st.dictionaries(st.integers(1, 1000), us, max_size=5), st.integers(1, 1000))
def test_no_cost_is_negative(figures, batch):
    found = model.fit(figures)
    assert found.trip >= 0
    assert found.each >= 0
    assert found.per_task(batch) >= 0


def test_a_fit_weighs_errors_by_proportion():
    # 1 % off at each size, up and down: the fit stays within that of either.
    found = model.fit({1: 101.0 * 1.01, 100: 2.0 * 0.99})
    assert found.per_task(1) == pytest.approx(102.01)
    assert found.per_task(100) == pytest.approx(1.98)


@pytest.mark.parametrize(
    ("task_us", "fetched", "together"),
    [
        (0, 100, 100),  # all in one
        (50, 100, 100),  # acked with the next fetch
        (1000, 50, 1 / (1 / 50 + 1 / 6)),  # six acks in 5 ms
        (10_000, 5, 1 / (1 / 5 + 1)),  # acked one by one
        (1e6, 1, 1 / 2),
    ],
)
def test_tasks_that_share_a_round_trip(task_us, fetched, together):
    assert model.prefetch(task_us) == fetched
    assert model.per_trip(task_us) == pytest.approx(together)


def test_the_model_fetches_as_a_worker_does():
    from alligator.workers.prefetch_size import AHEAD, MOST, Prefetch

    assert (AHEAD * 1e6, MOST) == (model.AHEAD_US, model.MOST)
    for seconds in (0.0001, 0.001, 0.01, 0.2):
        worker = Prefetch("auto", 1)
        worker.add(seconds)
        assert abs(worker.limit() - model.prefetch(seconds * 1e6)) <= 1  # floats


# -- Throughput. ------------------------------------------------------------------------------


@given(crowd, us, us)
def test_throughput_keeps_within_the_bounds(workers, think, server):
    rate = model.closed(workers, think, server)
    assert rate <= model.capacity(server) * (1 + 1e-9)
    assert rate <= workers * 1e6 / (think + server) * (1 + 1e-9)
    # No worker waits for more than all the others at once.
    assert rate >= workers * 1e6 / (think + workers * server) * (1 - 1e-9)


@given(crowd, us, us)
def test_another_worker_never_harms_and_adds_at_most_its_own(workers, think, server):
    rate, more = (model.closed(each, think, server) for each in (workers, workers + 1))
    assert rate <= more * (1 + 1e-9)
    assert more <= rate + 1e6 / (think + server) * (1 + 1e-9)


@given(us, st.floats(0.0, 1.0))
def test_a_worker_that_is_alone_is_as_fast_as_it_was_found(cycle, share):
    assert model.throughput(1, cycle, cycle * share) == pytest.approx(1e6 / cycle)


@given(crowd, us, us, us, st.integers(1, 64))
def test_shared_cores_bound_the_rate(workers, cycle, server, cpu, cores):
    rate = model.throughput(workers, cycle, server, cpu, cores)
    assert rate <= cores * 1e6 / cpu * (1 + 1e-9)
    assert rate <= model.throughput(workers, cycle, server) * (1 + 1e-9)


@given(us, st.floats(0.001, 1.0))
def test_workers_saturate_a_server_where_the_bounds_meet(cycle, share):
    server = cycle * share
    needed = model.saturating(cycle, server)
    assert needed * 1e6 / cycle == pytest.approx(model.capacity(server))
    # That many only just begin to; four times as many are close to all it can do.
    assert model.throughput(math.ceil(4 * needed), cycle, server) >= 0.9 * model.capacity(server)


def test_two_workers_by_hand():
    # Think 30, server 10. One: 1/40. The second finds the first there a quarter of the time.
    assert model.closed(2, 30, 10) == pytest.approx(2e6 / (30 + 10 * 1.25))


# -- Waiting. ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("servers", "offered", "expected"),
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9), (1, 1.5, 1.0), (5, 0.0, 0.0)],
)
def test_erlang_c_by_hand(servers, offered, expected):
    assert model.erlang_c(servers, offered) == pytest.approx(expected)


@given(st.integers(1, 100), st.floats(0.01, 0.99))
def test_who_waits_is_a_probability_and_more_workers_help(servers, load):
    found = model.erlang_c(servers, servers * load)
    assert 0 <= found <= 1
    assert model.erlang_c(servers + 1, servers * load) <= found + 1e-12


@given(st.integers(1, 50), st.floats(0.01, 0.99), st.floats(0.001, 100.0))
def test_waits_grow_with_the_load_and_quantiles_are_in_order(workers, load, service):
    rate = load * workers / service
    wait = model.mean_wait(rate, service, workers)
    assert 0 <= wait < math.inf
    assert wait >= model.mean_wait(rate * 0.9, service, workers)
    half, most = (model.wait_quantile(each, rate, service, workers) for each in (0.5, 0.99))
    assert 0 <= half <= most
    assert model.mean_wait(rate / load * 1.01, service, workers) == math.inf
    assert model.wait_quantile(0.5, rate / load * 1.01, service, workers) == math.inf


@pytest.mark.parametrize("workers", [1, 3])
def test_the_simulation_comes_to_what_the_formula_says(workers):
    dice, at, tasks = random.Random(7), 0.0, []
    for _ in range(100_000):
        at += dice.expovariate(0.6 * workers)
        tasks.append((at, dice.expovariate(1.0)))
    waited = sorted(model.simulate(tasks, workers))
    rate = 0.6 * workers
    assert statistics.fmean(waited) == pytest.approx(model.mean_wait(rate, 1.0, workers), rel=0.1)
    assert waited[99_000] == pytest.approx(model.wait_quantile(0.99, rate, 1.0, workers), rel=0.1)


def test_a_simulation_by_hand():
    tasks = [(0.0, 5.0), (1.0, 1.0), (2.0, 1.0), (2.5, 1.0)]
    assert model.simulate(tasks, 1) == [0.0, 4.0, 4.0, 4.5]
    assert model.simulate(tasks, 2) == [0.0, 0.0, 0.0, 0.5]


def test_arrivals_are_the_same_for_the_same_seed():
    assert arrivals.draws(50, 2, 1) == arrivals.draws(50, 2, 1) != arrivals.draws(50, 2, 2)
    assert len(arrivals.draws(100, 100, 3)) == pytest.approx(10_000, rel=0.05)


# -- Memory, money, shards. -------------------------------------------------------------------


@given(st.integers(0, 10**9), st.floats(1, 1e6), st.floats(0, 1e9), st.floats(1, 3))
def test_memory_grows_with_depth(tasks, task_bytes, base, headroom):
    found = model.memory(tasks, task_bytes, base, headroom)
    assert found >= base
    more = model.memory(tasks + 1000, task_bytes, base, headroom) - found
    assert more == pytest.approx(1000 * task_bytes * headroom, rel=1e-3, abs=found * 1e-9)


def test_prices_by_hand():
    assert model.cpu_seconds(1e6, 30.0, 12.5) == 42.5
    assert model.sqs_requests(1e6, 0.3) == 300_000
    assert model.sqs_requests(1e6, 3, chunks=2) == 6e6
    assert model.sqs_polls(10, 86_400) == 43_200
    assert model.sqs_price(3e6, 0.5) == 1.5


@given(st.integers(1, 100), st.integers(1, 100))
def test_shards_in_use_are_at_most_those_there_are(queues, shards):
    found = model.shards_in_use(queues, shards)
    assert 0.999 <= found <= min(queues, shards) + 1e-9
    assert model.shards_in_use(queues + 1, shards) >= found


# -- What is measured, and what is made of it. ------------------------------------------------


def test_depths_grow_tenfold_up_to_the_most():
    assert list(depth.depths(10_000_000)) == [10**4, 10**5, 10**6, 10**7]
    assert list(depth.depths(250_000)) == [10_000, 100_000, 250_000]
    assert list(depth.depths(500)) == [500]


@pytest.mark.parametrize(
    ("limit", "free", "fits"),
    [(6e9, 20e9, True), (6e9, 5e9, False), (4e9, 20e9, False)],
)
def test_a_queue_that_does_not_fit_is_not_tried(limit, free, fits):
    assert (depth.room(10_000_000, 430.0, limit, free) == "") is fits


def test_a_pace_lies_between_two_moments():
    found = pace(Spent(1.0, 100, 5000.0, 100.0), Spent(3.0, 300, 25_000.0, 900.0))
    assert (found.rate, found.worker_us, found.server_us) == (100.0, 100.0, 4.0)
    with pytest.raises(NotMeasured):
        pace(Spent(1.0, 100, 0.0, 0.0), Spent(1.1, 100, 0.0, 0.0))


@pytest.fixture(scope="module")
def figures():
    return json.loads((ROOT / "docs" / "figures" / "scale.json").read_text())


def test_the_tables_are_those_of_the_figures(figures):
    assert (ROOT / "docs" / "figures" / "scale.inc").read_text() == render.as_rst(figures)


def test_the_page_shows_every_part_that_is_made():
    page = (ROOT / "docs" / "scale.rst").read_text()
    shown = re.findall(r":start-after: begin (\w+)\n +:end-before: end (\w+)\n", page)
    assert shown
    assert all(first == last for first, last in shown)
    assert {name for name, _ in shown} == set(render.PARTS)


def test_what_was_not_measured_is_said(figures):
    figures = figures | {"notes": ["redis: 10,000,000 tasks would take longer."]}
    assert "Not measured:\n\n* redis: 10,000,000 tasks would" in render.as_rst(figures)


def test_how_far_off_the_model_is_is_a_part_of_what_was_measured():
    assert report.Check("it", 1, measured=200.0, model=150.0).off == -0.25


@settings(max_examples=30)
@given(us)
def test_one_redis_serves_more_workers_the_longer_tasks_are(figures, task_us):
    costs = report.inputs(figures)
    short, long = report.reach(costs, task_us), report.reach(costs, task_us * 2)
    assert long.most <= short.most * (1 + 1e-9)
    assert long.alone < short.alone
    assert long.workers >= short.workers * (1 - 1e-9)


def test_a_plan_for_a_load(figures, tmp_path, capsys):
    file = tmp_path / "figures.json"
    file.write_text(json.dumps(figures))
    plan.main(["--figures", str(file), "--rate=100", "--task-ms=70", "--price=1"])
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["workers"] == "11 (at most 70% busy)"  # 7 and a bit of Erlang, by 0.7
    # Three requests for each of 259,200,000 tasks, and 11 workers that might poll.
    assert said["SQS"].endswith("requests in 30 days: 779.03")
