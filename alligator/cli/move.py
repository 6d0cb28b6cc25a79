"""Move the waiting and delayed tasks of a queue from one backend to another.

Each task is reserved at the source, pushed to the target, and then acked at the source. So nothing
is lost, wherever this is broken off. A kill between the push and the ack leaves the task at both:
its lease runs out, and it runs at the source, or the next move brings it along again.
"""

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from alligator.backends import client_class
from alligator.backends.base import (
    GET,
    LIMIT,
    LISTING,
    MAX_PRIORITY,
    MIN_PRIORITY,
    OWN_ID,
    PRIORITY,
    RATE,
    Client,
    Controls,
    Delivery,
    Listed,
    Message,
    controlled,
    reaching,
)
from alligator.backends.dsn import mask_password
from alligator.backends.legacy import id_in
from alligator.cli import table
from alligator.cli.source import queues_of
from alligator.common.text import describe_error, with_stop
from alligator.constants import DELAYED, WAITING
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption
from alligator.gator import Gator
from alligator.security.signing import body_of
from alligator.tasks.codec import Codec
from alligator.tasks.limits import with_limits

#: Tasks moved in one step.
_STEP = 100

#: The lease of a step, in seconds.
_LEASE = 60.0

#: The options of a task that its queue keeps beside its message.
_CONTROLS = ("limit", "rate")

#: Looks at a source that says it has tasks and hands none out, before the move ends.
_LOOKS = 3


@dataclass(slots=True)
class Moved:
    """What the move of one queue did."""

    most: int  # waiting, delayed and running before: the lease of a running one may be over
    moved: int = 0
    doubled: int = 0  # at both: the lease at the source was lost, or may have been
    perhaps_doubled: int = 0  # reserved before, perhaps by a move that was killed; or not answered
    without_priority: int = 0
    without_controls: int = 0  # the target keeps no limit or rate of theirs
    refused: list[Delivery] = field(default_factory=list)  # on lease at the source until the end
    why: list[str] = field(default_factory=list)  # the target did not take those
    trouble: str = ""  # what ended the move early


def move(gator: Gator, arguments: argparse.Namespace) -> int:
    """Move the queues; return 1 if some tasks are still at the source."""
    if arguments.target is None:
        raise InvalidTask("Say where to: latergator.py move SOURCE TARGET.")
    queues, source = queues_of(gator, arguments), gator.client
    target: Client = client_class(arguments.target)(arguments.target)
    all_there = True
    try:
        for name in queues:
            target.check_queue_name(name)
            _check_apart(source, target, name)
        with _stops() as stopped:
            for name in queues:
                all_there = _move_queue(gator, target, name, stopped) and all_there
    finally:
        target.close()
    return 0 if all_there else 1


def _check_apart(source: Client, target: Client, queue_name: str) -> None:
    here, there = source.place_of(queue_name), target.place_of(queue_name)
    if source.conn_string == target.conn_string or (here is not None and here == there):
        raise InvalidTask(
            f"{mask_password(source.conn_string)} and {mask_password(target.conn_string)} are one "
            "place: a queue cannot be moved onto itself."
        )


@contextmanager
def _stops() -> Iterator[list[int]]:
    """Note the first stop signal in a list; the second one has the effect that it had before."""
    stopped: list[int] = []
    before: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        stopped.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            before[each] = signal.signal(each, stop)
    except ValueError:  # not the main thread, which alone has signals
        pass
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _move_queue(gator: Gator, target: Client, name: str, stopped: Sequence[int]) -> bool:
    source = gator.client
    before, there = source.stats(name), target.len(name)
    waiting, delayed = before.waiting, before.delayed
    print(f"{name}: {waiting} waiting and {delayed} delayed at the source, {there} at the target")
    done, bar = Moved(waiting + delayed + before.running), _Bar(waiting + delayed)
    route = _Route(gator.client, target, name, done, gator.codec)
    try:
        for deliveries, listed in route.found(stopped):
            route.carry(deliveries, listed)
            bar.show(done.moved)
            if stopped:
                break
    except AlligatorException as err:
        done.trouble = describe_error(err)
    finally:
        bar.end()
        route.hand_back()
    return _say(source, target, name, done, is_stopped=bool(stopped)) == 0


@dataclass(slots=True)
class _Route:
    """Moves the tasks of one queue, step by step."""

    source: Client
    target: Client
    name: str
    done: Moved
    codec: Codec
    extended: float = field(default_factory=time.monotonic)

    def found(self, stopped: Sequence[int]) -> Iterator[tuple[list[Delivery], dict[str, Listed]]]:
        """Reserve what waits, in order; then what is delayed, task by task.

        No more than there was at the start: producers may go on, and the target may be the source
        under a name that nothing tells.
        """
        looks = 0
        while self._rest() and not stopped and looks < _LOOKS:
            limit = min(_STEP, self._rest())
            found = self.source.reserve([self.name], limit, _LEASE).deliveries
            if found:
                looks = 0
                yield found, {}
            elif self.source.stats(self.name).waiting:
                looks += 1  # a server may be late to hand out what it has
            else:
                break
        if LISTING in self.source.controls and GET in self.source.supports:
            for state in (DELAYED, WAITING):  # the latter may be kept back by a limit
                yield from self._one_by_one(state, stopped)

    def _rest(self) -> int:
        return self.done.most - self.done.moved - len(self.done.refused)

    def _one_by_one(
        self, state: int, stopped: Sequence[int]
    ) -> Iterator[tuple[list[Delivery], dict[str, Listed]]]:
        after: str | None = None
        while self._rest() > 0 and not stopped:
            page, after = self.source.list_tasks(self.name, state, _STEP, after)
            step: list[Delivery] = []
            for each in page[: self._rest()]:
                step += self.source.withdraw(self.name, each.task_id, _LEASE).deliveries
            if step:
                yield step, {each.task_id: each for each in page}
            if after is None:
                return

    def carry(self, deliveries: Sequence[Delivery], listed: Mapping[str, Listed]) -> None:
        """Push reserved tasks to the target, and ack them at the source.

        :raises ConnectionLost, QueueFull: the rest of the step was handed back.
        """
        self.source.note_stop(deliveries)  # a kill of this program is no death of theirs
        left = list(deliveries)
        try:
            self._push(left, listed)
        except AlligatorException:
            if OWN_ID not in self.target.supports:
                self.done.perhaps_doubled += len(left)
            raise
        finally:
            for each in left:
                late = listed.get(each.task_id)
                self.source.release(each, None, late.due if late is not None else None)
        if self.done.refused and time.monotonic() - self.extended > _LEASE / 3:
            self.source.extend(self.done.refused, _LEASE)
            self.extended = time.monotonic()

    def _push(self, left: list[Delivery], listed: Mapping[str, Listed]) -> None:
        """Push all of a step; take off the list what need not be handed back."""
        messages = [self._message(each, listed.get(each.task_id)) for each in left]
        try:
            self.target.push_many(self.name, messages)
        except (InvalidTask, UnsupportedOption) as err:  # of one of them: find it
            self._ack(left[: err.queued])
            del left[: err.queued], messages[: err.queued]
        else:
            self._ack(left)
            left.clear()
        for message in messages[len(messages) - len(left) :]:
            try:
                self.target.push_many(self.name, [message])
            except (InvalidTask, UnsupportedOption) as err:
                self.done.why.append(describe_error(err))
                self.done.refused.append(left.pop(0))
            else:
                self._ack([left.pop(0)])

    def _ack(self, pushed: Sequence[Delivery]) -> None:
        self.done.moved += len(pushed)
        self.done.perhaps_doubled += sum(each.attempt > 1 for each in pushed)
        self.done.doubled += len(pushed)  # until the source has let them go
        if pushed:
            refused = self.source.ack(pushed)
            self.done.doubled -= len(pushed) - len(refused)

    def hand_back(self) -> None:
        """Release the tasks that the target did not take."""
        for each in self.done.refused:
            with suppress(AlligatorException):  # then their lease runs out
                self.source.release(each)

    def _message(self, delivery: Delivery, listed: Listed | None) -> Message:
        options = _options(delivery)
        priority = listed.priority if listed is not None else options.get("priority", 0)
        if not isinstance(priority, int) or not MIN_PRIORITY <= priority <= MAX_PRIORITY:
            priority = 0
        if priority and PRIORITY not in self.target.supports:
            priority, self.done.without_priority = 0, self.done.without_priority + 1
        keeps_id = OWN_ID in self.source.supports
        task_id = delivery.task_id if keeps_id else id_in(delivery.data)
        due = listed.due if listed is not None else None
        timeouts = [options.get(each) for each in ("timeout", "hook_timeout")]
        limits = [each if isinstance(each, int | float) else None for each in timeouts]
        message = Message(task_id, delivery.data, due, priority)
        if any(options.get(each) for each in _CONTROLS) and (controls := self._controls(delivery)):
            message = controlled(message, controls)
        return reaching(message, self.target, *limits)

    def _controls(self, delivery: Delivery) -> Controls | None:
        """Return the limit and the rate of a task, as far as the target keeps them."""
        try:
            task = self.codec.decode_names(delivery)
            given = with_limits(Controls(), task)
        except Exception:  # not to be read here: its message goes along all the same
            self.done.without_controls += 1
            return None
        kept = given
        if LIMIT not in self.target.controls:
            kept = kept._replace(limit_key="", limit=0)
        if RATE not in self.target.controls:
            kept = kept._replace(rate_key="", rate=0.0, rate_seconds=0.0)
        self.done.without_controls += kept != given
        return kept if kept != Controls() else None


def _options(delivery: Delivery) -> dict[str, Any]:
    try:
        options = json.loads(body_of(delivery.data)).get("options")
    except (ValueError, AttributeError, RecursionError):
        return {}  # of a Task class of the user's own
    return options if isinstance(options, dict) else {}


def _say(source: Client, target: Client, name: str, done: Moved, *, is_stopped: bool) -> int:
    """Say what was done, and count what is left; return how many tasks are."""
    after, there = source.stats(name), target.len(name)
    left = after.waiting + after.delayed
    print(f"{name}: {done.moved} moved; {left} left at the source, {there} at the target")
    lines = [f"The move ended early: {with_stop(done.trouble)}"] if done.trouble else []
    if done.why:
        lines.append(f"The target did not take {len(done.why)}, the first since {done.why[0]}")
    if done.doubled:
        lines.append(
            f"{done.doubled} are at both, since their lease at the source was lost or may have "
            "been; they will run twice."
        )
    if done.perhaps_doubled and OWN_ID not in target.supports:
        lines.append(
            f"{done.perhaps_doubled} may be at the target twice: they were reserved before, "
            "perhaps by a move that was killed, or the target did not answer."
        )
    if done.without_priority:
        lines.append(f"{done.without_priority} had a priority, which the target cannot keep.")
    if done.without_controls:
        lines.append(
            f"{done.without_controls} had a limit or a rate, which the target cannot keep."
        )
    if left and is_stopped:
        lines.append("The move was interrupted; the same command goes on with it.")
    elif left > len(done.why) and not done.trouble:
        lines.append(
            f"{left - len(done.why)} were not handed out: they are delayed, paused or kept back "
            "there, or were pushed meanwhile. Repeat the command later."
        )
    kept = {
        "running": after.running,
        "dead": after.dead,
        "held back until others are done": after.held,
    }
    rest = ", ".join(f"{count} {what}" for what, count in kept.items() if count)
    if rest:
        lines.append(f"These stay where they are: {rest}.")
    for line in lines:
        print(table.warning(line))
    return left


class _Bar:
    """A bar on the terminal that standard error is; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.shown = False

    def show(self, count: int) -> None:
        """Show how many of the total are done."""
        if not table.is_terminal(sys.stderr) or not self.total:
            return
        numbers = f" {count}/{self.total}"
        room = max(0, min(60, shutil.get_terminal_size().columns - len(numbers) - 3))
        full = min(room, room * count // self.total)
        bar = f"[{'#' * full}{'.' * (room - full)}]" if room else ""
        print(f"\r{bar}{numbers}", end="", file=sys.stderr, flush=True)
        self.shown = True

    def end(self) -> None:
        """Begin a new line after the bar."""
        if self.shown:
            print(file=sys.stderr)
