"""Fill queues with the story of a small shop, for tests and for pictures of the dashboard.

The mail queue grows, since sending got slow half an hour ago; some receipts could not be sent. The
newsletter is paused. No worker serves the reports. The images go well.
"""

import importlib
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from typing import Any, NamedTuple
from unittest import mock

from alligator import Gator, Worker
from alligator.backends.store import record_key
from alligator.backends.types import Report
from alligator.monitoring import progress
from alligator.monitoring.activity_counts import QUEUE, Measured, Tally, depth_numbers
from alligator.monitoring.encoding import live_text
from alligator.monitoring.rows import NowRow, WorkerRow
from alligator.testing import FakeClock

MINUTE, HOUR = 60.0, 3600.0

#: How far back the story begins.
SPAN = 6 * HOUR

#: Seconds that what lives and runs at the end of the story goes on to.
LASTS = 24 * HOUR

#: Seconds of a lease: longer than all tests of it take.
LEASE = HOUR / 2


#: Who ran what has ended, by its queue.
WORKERS = {"mail": "worker-1:4120", "images": "worker-2:3977"}


class Told(NamedTuple):
    """The ids of the tasks of the story that pages are opened for, each with its queue."""

    retried: tuple[str, str]  # failed twice, then succeeded; has a history
    dead: tuple[str, str]
    parent: tuple[str, str]
    child: tuple[str, str]  # is held
    running: tuple[str, str]  # tells its progress
    waiting: tuple[str, str]
    delayed: tuple[str, str]


@contextmanager
def time_from(moment: float) -> Iterator[FakeClock]:
    """Let this process live at another time, in which ``time.sleep`` passes at once."""
    clock = FakeClock(moment)
    with ExitStack() as stack:
        for name in ("time", "monotonic", "sleep"):
            stack.enter_context(mock.patch.object(time, name, getattr(clock, name)))
        yield clock


@contextmanager
def later(moment: float) -> Iterator[None]:
    """Let this process live at another time, which goes on."""
    now, difference = time.time, moment - time.time()

    def then() -> float:
        return now() + difference

    with mock.patch.object(time, "time", then):
        yield


def tell(gator: Gator) -> Told:
    """Fill the queues of a Gator on an empty backend that is its own store; end now."""
    now = time.time()
    for name in ("mail", "images", "reports", "payments"):
        move(importlib.import_module(f"shop.{name}"))
    with time_from(now - SPAN) as clock:
        chance = random.Random(4)
        report_activity(gator, now, chance)
        schedule(gator)
        ran = run_tasks(gator, now, clock)
        waits = leave_tasks(gator, now, clock, chance)
        assert clock.time() <= now
    return Told(**ran, **waits)


def move(module: ModuleType) -> None:
    """Let tracebacks say that a module is in /srv, wherever it is."""
    for each in vars(module).values():
        if isinstance(each, FunctionType) and each.__module__ == module.__name__:
            file = f"/srv/{module.__name__.replace('.', '/')}.py"
            each.__code__ = each.__code__.replace(co_filename=file)


# -- What was: numbers by the minute. ----------------------------------------------------------


class Course(NamedTuple):
    """How one function went: a minute has about so many runs, which take about so long."""

    queue_name: str
    function: str
    rate: float
    took: float
    waited: float
    fails: float = 0.0


COURSES = [
    Course("mail", "shop.mail.send_receipt", 46, 0.2, 0.3, 0.004),
    Course("mail", "shop.mail.remind", 5, 0.12, 0.4),
    Course("newsletter", "shop.mail.send_newsletter", 60, 0.21, 2.0, 0.001),
    Course("images", "shop.images.resize", 21, 0.7, 0.9, 0.006),
    Course("images", "shop.images.fetch", 7, 1.4, 0.5, 0.01),
    Course("images", "shop.images.publish", 7, 0.08, 0.1),
    Course("payments", "shop.payments.capture", 18, 0.6, 0.05, 0.02),
]


def report_activity(gator: Gator, now: float, chance: random.Random) -> None:
    """Tell the store of six hours of work, as workers do."""
    minutes = range(int((now - SPAN) // 60) * 60, int(now // 60) * 60 + 1, 60)
    rows = []
    for minute in minutes:
        left = (now - minute) / MINUTE
        for course in COURSES:
            slow = 1.0
            if course.queue_name == "mail" and left < 35:  # since then, mail goes slowly
                slow = min(9.0, 1 + (35 - left) / 2)
            rate = course.rate * (1.0 + 0.35 * wave(left / 90.0)) / slow**0.5
            if course.queue_name == "newsletter" and left < 50:  # paused
                continue
            runs = max(1, round(chance.gauss(rate, rate / 9)))
            tally = Tally()
            failed = sum(chance.random() < course.fails * slow for _ in range(runs))
            tally.add("succeeded", runs - failed)
            if failed:
                tally.add("failed", failed)
                tally.add("retried", failed)
            spread = [
                Measured(
                    course.took * slow * chance.lognormvariate(0.0, 0.5),
                    course.waited * slow**2 * chance.lognormvariate(0.0, 0.7),
                )
                for _ in range(6)
            ]
            tally.add_runs(runs, spread)
            rows.append((minute, course.queue_name, course.function, tally.take() or ()))
        rows += depths(minute, left, chance)
    for at in range(0, len(rows), 500):
        gator.store.report(Report("history", activity=rows[at : at + 500]))


def depths(
    minute: int, left: float, chance: random.Random
) -> list[tuple[int, str, str, tuple[float, ...]]]:
    """Return how full the queues were, so many minutes before the end."""
    mail = 3 + chance.random() * 4 + 1290 * max(0.0, 1 - left / 35) ** 1.5
    news = 40.0 if left < 50 else 40 * max(0.0, 1 - (left - 50) / 60)
    found = {
        "mail": (mail, 12, 4, max(0.0, 480 - 14 * left)),
        "newsletter": (news, 0, 0, max(0.0, 60 * (50 - left))),
        "images": (11 + 4 * wave(left / 19) + chance.random() * 3 - 1.5, 0, 4, 30),
        "payments": (max(0.0, chance.gauss(0.5, 1.2)), 0, 1, 1),
    }
    if left < 10:
        found["reports"] = (4, 0, 0, 60 * (10 - left))
    return [
        (minute, name, QUEUE, depth_numbers(round(waiting), delayed, running, oldest))
        for name, (waiting, delayed, running, oldest) in found.items()
    ]


def wave(turns: float) -> float:
    """Return from -1 to 1: up, down, and up again."""
    return math.sin(2 * math.pi * turns)


# -- What was: tasks that ran. -----------------------------------------------------------------


def run_tasks(gator: Gator, now: float, clock: FakeClock) -> dict[str, tuple[str, str]]:
    """Run some tasks of the last hours, and let some fail."""
    queues = ("mail", "images", "reports", "payments", "newsletter")
    worker = Worker(gator, to_consume=queues, log_level="CRITICAL")
    found: dict[str, tuple[str, str]] = {}

    def run(name: str, *args: Any, **options: Any) -> Any:
        kwargs = options.pop("kwargs", {})
        task = gator.options(queue_name=queue_of(name), history=LASTS, **options).task(
            name, *args, **kwargs
        )
        clock.advance(0.05)
        work(WORKERS["images" if queue_of(name) == "images" else "mail"])
        return task

    def work(name: str) -> None:
        """Run what is due, as the worker of this name."""
        with mock.patch("alligator.execution.activity_report._worker", return_value=name):
            worker.check_and_run_task()  # a retry that is due counts as delayed until it is taken
            while any(gator.client.stats(each).waiting for each in queues):
                worker.check_and_run_task()

    receipt, resize = "shop.mail.send_receipt", "shop.images.resize"
    capture, sales = "shop.payments.capture", "shop.reports.daily_sales"
    token, saved = {"token": "not-to-be-shown"}, {"save_results": LASTS}
    plan: list[tuple[float, str, tuple[Any, ...], dict[str, Any]]] = [
        (118, sales, ("2026-11-01",), {"kwargs": token, **saved}),
        (40, sales, ("2026-11-31",), {"kwargs": token}),
        (14, "shop.payments.settle_day", ("2026-11-02",), {"timeout": 90}),
    ]
    for index, at in enumerate(range(150, 22, -4)):
        plan.append((at, receipt, (10200 + index * 2, f"buyer-{index}@shop.example"), {}))
    for index, at in enumerate(range(149, 20, -8)):
        plan.append((at, resize, (f"photos/{830 + index}.jpg",), saved))
        plan.append((at, capture, (10203 + 10 * index, "24.90"), {}))
    # Dead letters, of several kinds.
    for order, at in ((10307, 61), (10407, 47), (10507, 19), (10313, 33), (10413, 18)):
        plan.append((at, receipt, (order, "nowhere@shop.example"), {}))
    for index, at in enumerate((95, 94, 41)):
        plan.append((at, resize, (f"photos/scan-{index}.tif", "large"), {}))
    for order, at in ((10264, 52), (10314, 15)):
        plan.append((at, capture, (order, "89.00"), {"kwargs": {"api_key": "sk-none"}}))
    for at, name, args, options in sorted(plan, key=lambda each: -each[0]):
        clock.advance_to(now - at * MINUTE)
        task = run(name, *args, **options)
        if args[0] == 10413:
            found["dead"] = ("mail", task.task_id)
    # One that fails twice and then succeeds.
    clock.advance_to(now - 12 * MINUTE)
    options = {"queue_name": "images", "retries": 3, "retry_delay": 20, "history": LASTS}
    task = gator.options(headers={"shop": "north"}, save_results=LASTS, **options).task(
        "shop.images.resize", "photos/871.jpg"
    )
    with mock.patch("shop.images.WIDTHS", {}):
        for _ in range(2):
            clock.advance(0.4)
            work(WORKERS["images"])
            clock.advance(70)
    work(WORKERS["images"])
    found["retried"] = ("images", task.task_id)
    return found


def queue_of(name: str) -> str:
    """Return the queue of a function of the shop."""
    if name.endswith("send_newsletter"):
        return "newsletter"
    return name.split(".")[1]


def schedule(gator: Gator) -> None:
    """Schedule what the shop does again and again; two of these are on a queue without workers."""
    mail, reports = gator.options(queue_name="mail"), gator.options(queue_name="reports")
    mail.every(900, "shop.mail.remind", 0)
    reports.cron("30 5 * * *", "shop.reports.daily_sales", "yesterday")
    reports.cron("0 6 1 * *", "shop.reports.export_orders", "last month")
    gator.options(queue_name="payments", tz="Europe/Berlin").cron(
        "15 2 * * mon-fri", "shop.payments.settle_day", "yesterday"
    )


# -- What is: tasks on their queues, and workers. ------------------------------------------------


def leave_tasks(
    gator: Gator, now: float, clock: FakeClock, chance: random.Random
) -> dict[str, tuple[str, str]]:
    """Queue what still waits, is delayed, held and running, and list workers."""
    clock.advance_to(now - 9.3 * MINUTE)
    orders = iter(range(10520, 20000))
    waiting = None
    with gator.batch() as batch:
        for issue in range(64, 104):
            batch.options(queue_name="newsletter", priority=-5).task(
                "shop.mail.send_newsletter", 41, f"reader-{issue}@shop.example"
            )
    gator.pause("newsletter")
    for _ in range(8):
        clock.advance(1.07 * MINUTE)
        gator.schedules.fire()
        with gator.batch() as batch:
            for _ in range(chance.randrange(120, 190)):
                order = next(orders)
                task = batch.options(queue_name="mail").task(
                    "shop.mail.send_receipt", order, f"buyer-{order}@shop.example"
                )
                waiting = waiting or task
    reports = gator.options(queue_name="reports", history=LASTS)
    for month in ("2026-07", "2026-08", "2026-09", "2026-10"):
        reports.task("shop.reports.export_orders", month)
    mail = gator.options(queue_name="mail", priority=3)
    for index in range(12):
        delayed = gator.options(queue_name="mail", delay_by=(index * 25 + 7) * MINUTE).task(
            "shop.mail.remind", 10400 + index, days=3
        )
    mail.task("shop.mail.remind", 10399)
    images = {"queue_name": "images", "history": LASTS, "save_results": LASTS}
    parent = gator.options(**images, task_id="fetch-902").task("shop.images.fetch", 902)
    sizes = [
        gator.options(**images, depends_on=[parent], task_id=f"resize-902-{size}").task(
            "shop.images.resize", "photos/902.jpg", size
        )
        for size in ("small", "medium", "large")
    ]
    child = gator.options(**images, depends_on=sizes, task_id="publish-902").task(
        "shop.images.publish", 902
    )
    for product in range(903, 917):
        gator.options(queue_name="images").task("shop.images.fetch", product)
    clock.advance_to(now - 1.5)
    running = run_some(gator, now, clock)
    assert waiting is not None
    return {
        "parent": ("images", parent.task_id),
        "child": ("images", child.task_id),
        "running": running,
        "waiting": ("mail", waiting.task_id),
        "delayed": ("mail", delayed.task_id),
    }


def run_some(gator: Gator, now: float, clock: FakeClock) -> tuple[str, str]:
    """Let some tasks run, and list their workers, and one that was lost."""
    client, store = gator.client, gator.store
    lost = Working("worker-3", 2207, ("images",), 2, done=1904, failed=11)
    with mock.patch.object(time, "time", return_value=now - 11 * MINUTE):
        lost.report(gator, [], seconds=30)
    workers = [
        Working("worker-1", 4120, ("mail", "payments"), 4, done=18_212, failed=97),
        Working("worker-2", 3977, ("images",), 2, done=5_341, failed=38),
        Working("worker-2", 3981, ("images", "payments"), 2, done=5_112, failed=31),
    ]
    first = None
    for worker, queues, count in zip(
        workers, (["mail", "payments"], ["images"], ["images"]), (4, 2, 2), strict=True
    ):
        found = [client.reserve(queues, 1, LEASE).deliveries[0] for _ in range(count)]
        rows = []
        for index, each in enumerate(found):
            function = gator.codec.decode(each).func
            name = f"{function.__module__}.{function.__qualname__}"
            started = now - 3.2 - 17 * index - worker.pid % 7
            rows.append(NowRow(each.task_id, name, each.queue_name, each.attempt, started))
            if each.queue_name == "images":
                key = progress.document_key(record_key(each.queue_name, each.task_id))
                text = progress.to_text(0.62 - 0.3 * index, f"{31 - 15 * index} of 50 parts")
                store.put_document(key, text, LASTS)
                first = first or (each.queue_name, each.task_id)
        worker.report(gator, rows, seconds=LASTS)
    assert first is not None
    return first


class Working(NamedTuple):
    """A worker that is listed."""

    host: str
    pid: int
    queues: tuple[str, ...]
    concurrency: int
    done: int
    failed: int

    def report(self, gator: Gator, running: Sequence[NowRow], seconds: float) -> None:
        """List it, with what it runs."""
        name, now = f"{self.host}:{self.pid}:1f", time.time()
        row = WorkerRow(
            self.host,
            self.pid,
            self.queues,
            self.concurrency,
            "1.2.0",
            started=now - 26 * HOUR,
            last_seen=now,
            done=self.done,
            failed=self.failed,
            running=tuple(running),
        )
        gator.store.report(Report(name, live_text(row), seconds))
        gator.store.beat(name, self.queues, seconds)
