"""Test which deliveries a worker tracks, and when it releases them."""

import logging
import threading
import time

from alligator import Gator
from alligator.execution.acks import ACK_WITHIN
from alligator.execution.leases import Leases


def test_who_leaves_second_waits_until_all_is_released():
    """On a second signal two threads hand back, and one of them then ends the process."""
    gator = Gator(f"locmem://{__name__}", "leaving")
    gator.task("operator.add", 1, 2)
    client, release = gator.client, gator.client.release
    in_it, go_on = threading.Event(), threading.Event()

    def slow_release(delivery):
        in_it.set()
        assert go_on.wait(30)
        return release(delivery)

    client.release = slow_release
    leases = Leases(client, 60.0, log=logging.getLogger(__name__))
    leases.take(client.reserve(["leaving"]).deliveries)
    leases.start_next()
    first, second = (threading.Thread(target=leases.release_all) for _ in range(2))
    first.start()
    assert in_it.wait(30)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go_on.set()
    second.join(30)
    assert gator.len() == 1
    first.join(30)


def test_nothing_waits_long_behind_a_task_that_was_expected_to_be_slow():
    gator = Gator(f"locmem://{__name__}", "waiting")
    for _ in range(3):
        gator.task("operator.add", 1, 2)
    log = logging.getLogger(__name__)
    with Leases(gator.client, 60.0, log=log, expected=lambda: 30.0) as leases:
        leases.take(gator.client.reserve(["waiting"], 3).deliveries)
        running = leases.start_next()
        deadline = time.monotonic() + 30
        while gator.len() < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert gator.len() == 2
        leases.end(running, ack=True)


def test_batches_that_follow_soon_do_not_each_wake_the_thread():
    gator, turns = Gator(f"locmem://{__name__}", "batches"), 0

    def count():
        nonlocal turns
        turns += 1

    with gator.batch() as batch:
        for _ in range(300):
            batch.task("operator.add", 1, 2)
    log = logging.getLogger(__name__)
    with Leases(gator.client, 60.0, log=log, watch=count) as leases:
        began, acks = time.monotonic(), []
        while found := gator.client.reserve(["batches"], 2, acks=acks).deliveries:
            time.sleep(0.0005)  # as a server would take, so that the other thread may run
            leases.take(found)
            acks = [leases.start_next() for _ in found]
            for each in acks:
                leases.end(each, ack=False)
        most = 2 * (time.monotonic() - began) / ACK_WITHIN + 5
    assert turns <= most
