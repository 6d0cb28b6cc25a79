"""Race cancellations with the ends of tasks: never must one meet the task that runs next."""

import threading
import time
import uuid

import pytest

from alligator import CANCELED, RUNNING, Gator, Task, Worker

TASKS = 10_000

done: list[int] = []
caught: list[int] = []


def brief(number):
    """Take some steps of Python, calls and loops among them, and a moment for other threads."""
    total = 0
    for each in range(number % 40):
        total += len(str(each))
        if each == 20:
            time.sleep(0)
    done.append(number)
    return total


def is_to_be_canceled(number):
    return number % 3 == 0


def cancel_some(over):
    """Cancel a third of the tasks, each at some moment of its run or right after it."""
    while not over.is_set():
        for task in Task.that_run():
            number = task.func_args[0]
            if is_to_be_canceled(number) and not task.is_canceled:
                caught.append(number)
                task.cancel_run(None, lambda each=task: each.status != RUNNING)
        time.sleep(0)


@pytest.mark.parametrize("how", ["run_all", "one thread", "three threads"])
def test_no_cancellation_meets_another_task(how):
    done.clear()
    caught.clear()
    gator, count = Gator(f"locmem://{uuid.uuid4().hex}"), TASKS if how == "run_all" else TASKS // 4
    with gator.batch() as batch:
        tasks = [batch.task(brief, number) for number in range(count)]
    over = threading.Event()
    canceler = threading.Thread(target=cancel_some, args=[over], daemon=True)
    canceler.start()
    try:
        if how == "run_all":
            assert gator.run_all() == count
        else:
            concurrency = 1 if how == "one thread" else 3
            Worker(gator, burst=True, concurrency=concurrency, log_level="ERROR").run_forever()
    finally:
        over.set()
        canceler.join(20)
    others = [number for number in range(count) if not is_to_be_canceled(number)]
    assert sorted(number for number in done if not is_to_be_canceled(number)) == others
    assert gator.stats() == {"waiting": 0, "delayed": 0, "running": 0, "dead": 0, "oldest": None}
    canceled = [number for number in range(count) if gator.status(tasks[number]) == CANCELED]
    assert set(canceled) <= set(caught)
    assert len(canceled) > count / 100, "that many races there were, at least"
