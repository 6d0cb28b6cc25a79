"""Reserve, run and settle tasks, until the worker is told to stop.

1. ``starting()``.
2. Reserve: a batch of short tasks, or one slow one; the acks of ended tasks ride along. With
   nothing to do, block until something arrives (``alligator.workers.fetcher``).
3. Run and settle each (``alligator.workers.processor``): in this thread, or with ``concurrency``
   above 1 in threads that take from the batch. A crash before a task is settled repeats the task,
   and loses nothing. ``result()`` of a success.
4. Again, until ``max_tasks``, a signal, or an empty queue in a burst; ``stopping()``.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from alligator.backends.base import Delivery
from alligator.common import after_fork
from alligator.common.clock import Seconds, in_seconds
from alligator.common.hard_exit import beside, hard_exit
from alligator.common.log import worker_logger
from alligator.common.text import describe_error, shorten
from alligator.exceptions import AlligatorException, InvalidTask, LeaveNow, QueueFull
from alligator.execution.attempt import Outcome, Verdict, canceled
from alligator.execution.backend_trouble import Outage
from alligator.execution.lease_process import LeaseProcess
from alligator.execution.leases import Leases
from alligator.execution.progress_and_cancels import TaskDocuments
from alligator.execution.unsettled_outcomes import MOST_HELD
from alligator.gator import Gator
from alligator.monitoring.message_summary import describe_briefly
from alligator.results.unserved import Served, Unserved
from alligator.runtime import safe_points
from alligator.runtime.event_loop import EventLoop, worker_loop
from alligator.runtime.timeouts import Overrun
from alligator.tasks.task import Task
from alligator.workers.fetcher import Fetcher, queue_names
from alligator.workers.heartbeat import Heartbeat
from alligator.workers.isolation import CAN_START_WORKERS, MOST, Given, Isolation
from alligator.workers.paused_queues import PausedQueues
from alligator.workers.pool import ThreadPool
from alligator.workers.prefetch_size import Prefetch
from alligator.workers.processor import Processor
from alligator.workers.queue_depths import QueueDepths
from alligator.workers.signals import QUIT, StopSignals
from alligator.workers.suspects import Suspects
from alligator.workers.task_lines import TaskLines
from alligator.workers.worker_description import LiveView

#: Characters of a result that are logged.
LONGEST_RESULT = 200

#: Seconds that a task has at least to end after its timeout, whatever the grace.
LEAST_GRACE = 0.2

#: Seconds that a worker which has to end takes at most to hand back its tasks; then to do so over
#: another connection; and to log why it ends.
_TO_RELEASE = 3.0
_TO_RELEASE_AGAIN = 15.0
_TO_LOG = 3.0

_ACK = Verdict.ACK  # found at once: see attempt.py


class Worker:
    """Consumes queues of a Gator and runs their tasks.

    ::

        Worker(gator).run_forever()

    :param max_tasks: stop after so many tasks have ended, well or badly; 0: never.
    :param to_consume: a queue name, or several in strict order; None: the Gator's queue.
    :param nap_time: seconds between two looks at an empty queue, on a backend that cannot
        wake its workers; all that come with Alligator can.
    :param log_level: the level of ``worker.log``, such as ``logging.DEBUG``.
    :param concurrency: how many tasks run at the same time: in threads, ``async def`` tasks on
        one event loop.
    :param lease: seconds after which a task comes back if this worker dies. It is extended
        while the worker lives, so a task may take longer.
    :param prefetch: how many tasks to reserve at once; ``'auto'``: about 50 ms of work.
    :param grace: seconds that running tasks get to finish after the first stop signal, or
        after their timeout.
    :param burst: stop once the queues are empty.

    Each number of seconds may also be a timedelta.

    :raises InvalidTask: a value that one of them cannot have.
    """

    #: Set by the command line: whether the process may be ended when a task does not stop.
    owns_process = False

    #: Set by the command line: its arguments, by which a process for a single task is started.
    command_line: Sequence[str] | None = None

    #: Set by the command line: whether :meth:`result` logs nothing.
    hides_results = False

    #: Set in such a process: the tasks that it is given, one by one; it fetches no others.
    given: Given | None = None

    # Set by the command line: the signals of the process; None: each run counts its own.
    process_signals: StopSignals | None = None

    def __init__(
        self,
        gator: Gator,
        max_tasks: int = 0,
        to_consume: str | Sequence[str] | None = None,
        nap_time: Seconds = 0.1,
        log_level: int | str = logging.INFO,
        *,
        concurrency: int = 1,
        lease: Seconds = 30.0,
        prefetch: int | str = "auto",
        grace: Seconds = 30.0,
        burst: bool = False,
    ) -> None:
        self.gator = gator
        self.max_tasks: int = int(max_tasks)
        self.to_consume: str | Sequence[str] = (
            gator.queue_name if to_consume is None else to_consume
        )
        self.nap_time: float = _seconds("nap_time", nap_time, 0)
        self.concurrency: int = _at_least("concurrency", concurrency, 1)
        self.lease: float = _seconds("lease", lease, 0.1)
        self.grace: float = _seconds("grace", grace, 0)
        self.burst = burst
        self.tasks_complete: int = 0
        self.keep_running: bool = False
        self.log: logging.Logger = self.get_log(log_level)
        self._prefetch = Prefetch(prefetch, self.concurrency)
        self._ended = 0
        self._fetcher: Fetcher | None = None
        self._goes_on = False  # until it ends by itself, or is told to
        self._has_begun = self._is_released = False
        self._leases_of_run: Leases | None = None  # also for outcomes that there is no room for
        self._leases_of_one: Leases | None = None  # of check_and_run_task, while it runs
        self._outage = Outage(self.log, queue_names(self))
        self._paused = PausedQueues(gator.pauses, lambda: queue_names(self), self.log)
        self._signals = StopSignals()
        self._origin = after_fork.generation
        self._isolated: Isolation | None = None  # of a run
        self._count_lock = threading.Lock()
        self._recording = gator.new_recording()
        self._heart: Heartbeat | None = None  # of a run
        self._tasks_of_run: TaskDocuments | None = None  # of which the heartbeat tells
        for name in queue_names(self):
            gator.client.check_queue_name(name)

    # -- To be overridden at will. --------------------------------------------------------------

    def get_log(self, log_level: int | str = logging.INFO) -> logging.Logger:
        """Return a logger of this worker that writes to standard output."""
        return worker_logger(log_level)

    def ident(self) -> str:
        """Return the name of this worker: ``Alligator Worker (#<pid>)``."""
        return f"Alligator Worker (#{os.getpid()})"

    def starting(self) -> None:
        """Log that the worker starts, and when it will end."""
        self.log.info("%s starting & consuming %s.", self.ident(), self._quoted_queues())
        if self.max_tasks:
            self.log.info("%s will die after %s tasks.", self.ident(), self.max_tasks)
        else:
            self.log.info("%s will never die.", self.ident())

    def interrupt(self) -> None:
        """Log that a stop signal arrived."""
        self.log.info("%s was told to stop; finishing what runs.", self.ident())

    def stopping(self) -> None:
        """Log that the worker ends, and how many tasks it consumed."""
        self.log.info(
            "%s for %s shutting down. Consumed %s tasks.",
            self.ident(),
            self._quoted_queues(),
            self.tasks_complete,
        )

    def _quoted_queues(self) -> str:
        return ", ".join(f'"{name}"' for name in queue_names(self))

    def result(self, result: Any) -> None:
        """Log what a task returned, shortened, unless that is None."""
        if result is not None and not self.hides_results:
            self.log.info("%s", shorten(repr(result), LONGEST_RESULT))

    # -- Running. -------------------------------------------------------------------------------

    def check_and_run_task(self) -> bool:
        """Run one task, settled before this returns; never raises.

        If the backend has no room for the outcome, this waits for up to ``grace`` seconds, and
        then hands the task back. (Called by :meth:`run_forever`, it leaves that to it.)

        :returns: True if one was there and succeeded.
        """
        try:
            return self._signals.shielded(self._check_and_run_task)
        except LeaveNow:
            return False  # the task has been handed back
        except QueueFull as err:
            self._outage.begins(err)
            return False
        except Exception as err:
            # The task comes back when its lease runs out.
            self.log.warning("The task could not be settled: %s", describe_error(err))
            return False

    def _check_and_run_task(self) -> bool:
        holder = self._leases_of_run
        self.gator.schedules.fire(self.log)
        if holder is not None and holder.outcomes_held() >= MOST_HELD:
            return False
        names = self._paused.open_queues() if self._paused.in_store else queue_names(self)
        if not names:
            return False
        reserved = self.gator.client.reserve(names, 1, self.lease)
        self._outage.ends()
        found = reserved.deliveries
        if holder is not None:
            found = list(holder.without_known(found))
        if not found:
            return False
        with self._leases() as leases:
            self._leases_of_one = leases
            try:
                leases.take(found)
                leases.start_next()
                return self._processor(leases).run_now(found[0], self.grace, holder)
            except LeaveNow:
                leases.release_all()
                raise
            finally:
                self._leases_of_one = None
                if self._recording is not None and self._heart is None:
                    self._recording.flush_quietly()

    def run_forever(self) -> int:
        """Run until ``max_tasks``, a stop signal, or an empty queue in a burst; return 0.

        In the main thread SIGINT, SIGTERM and SIGQUIT are handled: the first finishes what runs,
        for up to ``grace`` seconds. A SIGQUIT, or a SIGINT at least a second after the first,
        makes the worker leave at once. Both release what has not run. At the end the handlers
        from before are put back; a SIGQUIT handler that is not Python's default stays in place.
        In another thread, set ``keep_running`` to False to stop it: it finishes what runs, however
        long that takes. As in 1.0, it is True once this begins, whatever it was set to before: for
        a worker that may not have begun yet, see :meth:`release`.
        """
        self._signals = self.process_signals or StopSignals()
        self._origin = after_fork.generation
        self.keep_running = self._goes_on = True
        self._ended = 0
        if self._is_released:  # asked after keep_running was set, and release() sets it before
            self._goes_on = self.keep_running = False
            return 0
        self._has_begun = True
        with self._signals:
            self.starting()
            self._warn_of_loss()
            try:
                self._run()
            except LeaveNow:
                pass  # told again while it was leaving; what it still had comes back by its lease
            finally:
                self._goes_on = self.keep_running = False
                self._leases_of_run = self._isolated = self._heart = self._tasks_of_run = None
                self.stopping()
            if self._signals.count > 1 and self.owns_process:
                self._leave()  # threads may still be running tasks that were handed back
        return 0

    def release(self) -> None:
        """Hand back the tasks that run, to be started again elsewhere: this process is to end now.

        ::

            worker.keep_running = False
            thread.join(5)
            worker.release()

        This is for a worker in a thread, which is told of no signal. What still runs is not
        stopped, so call this only before the process ends. A worker that has ended has nothing to
        hand back. One that has not begun yet will not run anything: its :meth:`run_forever` returns
        at once.
        """
        self._is_released = not self._has_begun
        self.keep_running = False
        if (leases := self._leases_of_run) is not None:
            self._release_all(leases, but=None)

    def _run(self) -> None:
        with (
            self._lease_process() as process,
            self._heartbeat() as self._heart,
            self._leases(process) as leases,
            _event_loop() as loop,
        ):
            self._leases_of_run = leases
            try:
                self._work(self._processor(leases, loop if self.concurrency > 1 else None))
                self._wait_for_room(leases)
                leaves = self._signals.count > 1
            except LeaveNow:
                leaves = True
            if leaves:
                safe_points.release_logging()  # the exception may have come anywhere
                self.log.warning("%s leaves now, handing back all it held.", self.ident())
                loop.cancel()
                leases.release_all()

    def _work(self, processor: Processor) -> None:
        if self.given is not None:
            self._work_given(processor, self.given)
            return
        isolation = self._isolated = self._isolation()
        fetcher = self._fetcher = self._new_fetcher(processor.leases, isolation)
        if type(self).check_and_run_task is not Worker.check_and_run_task:
            self._run_one_by_one()
        elif self.concurrency == 1:
            self._work_inline(processor, fetcher)
        else:
            self._work_in_threads(processor, fetcher, isolation)

    def _new_fetcher(self, leases: Leases, isolation: Isolation | None) -> Fetcher:
        gator, outage, lease = self.gator, self._outage, self.lease
        return Fetcher(
            self,
            gator.client,
            leases,
            self._prefetch,
            Suspects(gator.client, gator.clock, leases, outage, lease=lease, isolation=isolation),
            schedules=gator.schedules,
            store=gator.store,
            outage=outage,
            log=self.log,
            stop=self._stops,
            ended=lambda: self._ended,
            paused=self._paused,
        )

    def _isolation(self) -> Isolation | None:
        if self.command_line is None or self.concurrency == 1 or not CAN_START_WORKERS:
            return None
        return Isolation(self.command_line, min(MOST, self.concurrency), self.log)

    def _work_given(self, processor: Processor, given: Given) -> None:
        leases = processor.leases
        for queue_name, task_id in given.keys(self._is_done):
            take = partial(self.gator.client.reserve, [queue_name], 1, self.lease, task_id=task_id)
            reserved = self._outage.call(take)
            # Another worker may have taken it meanwhile.
            leases.take(leases.without_known(reserved.deliveries) if reserved else ())
            if (delivery := leases.start_next()) is not None:
                processor.run(delivery)
                leases.send_acks()

    def _run_one_by_one(self) -> None:
        # A subclass overrides check_and_run_task: call it for every task.
        while not self._is_done():
            before = self._ended
            self.gator.schedules.fire(self.log)
            if self._signals.interruptible(self.check_and_run_task):
                self._ended = max(self._ended, before + 1)
            elif not self.burst or self._waiting():
                time.sleep(self.nap_time)
            else:
                return

    def _waiting(self) -> int:
        return sum(self.gator.client.stats(name).waiting for name in queue_names(self))

    def _work_inline(self, processor: Processor, fetcher: Fetcher) -> None:
        leases = processor.leases
        while not self._is_done():
            delivery = leases.start_next()
            if delivery is not None:
                processor.run(delivery)
            elif not fetcher.fetch(self._prefetch.limit()) and self.burst:
                return

    def _work_in_threads(
        self, processor: Processor, fetcher: Fetcher, isolation: Isolation | None
    ) -> None:
        leases = processor.leases
        pool = ThreadPool(
            processor.run,
            leases,
            processor.executor,
            processor.loop,
            self.concurrency,
            self._pulls_on,
        )
        try:
            while not self._is_done():
                pause = pool.look()
                waiting, running = leases.counts()
                most = 1 if fetcher.suspects.alone else self.concurrency
                if waiting or running >= most:
                    self.gator.schedules.fire(self.log)
                    leases.wait_for_turn(pause, most)
                    continue
                found = fetcher.fetch(self._prefetch.limit(self.concurrency - running))
                if self.burst and not found and not any(leases.counts()):
                    return
        finally:
            self._goes_on = self._goes_on and not self.keep_running  # else it ends by itself
            self.keep_running = False
            leases.wake_all()
            if isolation is not None:
                isolation.stop()
            pool.join(lambda: self._signals.grace_is_over(self.grace))
            if isolation is not None:
                isolation.join(lambda: self._signals.grace_is_over(self.grace))
                if self._signals.count > 1:
                    isolation.stop(QUIT)

    def _wait_for_room(self, leases: Leases) -> None:
        """Wait for a full backend to take all outcomes, as long as the grace lasts."""
        grace = self.grace - min(1.0, self.grace / 4)  # after it, no call is made any more
        leases.wait_for_room(grace, lambda: self._signals.grace_is_over(grace))

    def _count(self, outcome: Outcome) -> None:
        complete = outcome.verdict is _ACK
        with self._count_lock:
            self._ended += complete or outcome.verdict in (Verdict.BURY, Verdict.CANCEL)
            self.tasks_complete += complete

    # -- Stopping. ------------------------------------------------------------------------------

    def _stops(self) -> bool:
        return not self.keep_running or self._signals.count > 0

    def _is_told_to_stop(self) -> bool:
        has_come = self._signals.has_come()
        return has_come or (self._goes_on and not self.keep_running)

    def _pulls_on(self) -> bool:
        after_fork.exit_child_unless(self._origin)
        return self.keep_running

    def _is_done(self) -> bool:
        if after_fork.generation != self._origin:
            after_fork.exit_child_unless(self._origin)
        if not self.keep_running or self._signals.count:
            return True
        if self.max_tasks:
            return self._ended >= self.max_tasks
        return False

    def _leases(self, process: LeaseProcess | None = None) -> Leases:
        leases = Leases(
            self.gator.client,
            self.lease,
            log=self.log,
            watch=lambda: self._watch(leases, own),
            outage=self._outage,
            process=process,
            expected=lambda: self._prefetch.average,
            at_end=lambda: tasks.close(),
            refused=None if self._recording is None else self._recording.note_lost,
        )
        # In a run, the heartbeat tells of them.
        of_run = self._tasks_of_run
        tasks = of_run or self._tasks(lambda: leases.running(), lambda _: leases)
        own = None if of_run else tasks
        return leases

    def _tasks(
        self,
        running: Callable[[], list[tuple[Delivery, float]]],
        holder: Callable[[Delivery], Leases | None],
    ) -> TaskDocuments:
        """Return what exchanges documents about the tasks that run.

        :param running: returns these.
        :param holder: returns the leases that have one of them.
        """
        return TaskDocuments(
            self.gator.store,
            self.gator.recorder,
            running,
            lambda delivery, task: self._limit_of_canceled(holder(delivery), delivery, task),
        )

    @contextmanager
    def _lease_process(self) -> Iterator[LeaseProcess | None]:
        process = LeaseProcess(self.gator.client, self.lease)
        try:
            yield process if self.owns_process and process.start() else None
        finally:
            process.stop()

    def _heartbeat(self) -> Heartbeat:
        gator, recording, names = self.gator, self._recording, queue_names(self)
        at_home = gator.store is gator.client.store
        served = Served(gator.client, gator.store, gator.schedules)
        self._tasks_of_run = self._tasks(self._running, self._holder)
        live = sample = note_depth = None
        if recording is not None and recording.store is not None:
            if self.given is None:
                note_depth = recording.note_depth
                sample = QueueDepths(gator.client, names, note_depth, gator.clock, self._outage)
            live = LiveView(recording, gator.clock, names, self.concurrency, self._running).text
        return Heartbeat(
            gator.store,
            names,
            log=self.log,
            outage=self._outage if at_home else None,
            look=Unserved(served, names, self.log, note_depth).look,
            sample=None if sample is None else sample.look,
            recording=recording,
            live=live,
            tasks=self._tasks_of_run,
            beats=self.given is None,  # else it serves no queue
        )

    def _running(self) -> list[tuple[Delivery, float]]:
        """Return what runs, each with when it started (monotonic)."""
        both = self._leases_of_run, self._leases_of_one
        return [found for each in both if each is not None for found in each.running()]

    def _holder(self, delivery: Delivery) -> Leases | None:
        """Return the leases that have a delivery that runs."""
        one = self._leases_of_one
        if one is not None and any(each is delivery for each, _ in one.running()):
            return one
        return self._leases_of_run

    def _processor(self, leases: Leases, loop: EventLoop | None = None) -> Processor:
        return Processor(
            self.gator,
            leases,
            log=self.log,
            prefetch=self._prefetch,
            outage=self._outage,
            count=self._count,
            show=self.result,
            limit=lambda delivery, seconds: self._limit(leases, delivery, seconds),
            signals=None if loop else self._signals,
            loop=loop,
            shows_none=getattr(self.result, "__func__", None) is not Worker.result,
            lines=TaskLines(self.log) if self.log.isEnabledFor(logging.INFO) else None,
            recording=self._recording,
        )

    def _limit(self, leases: Leases, delivery: Delivery, seconds: float) -> Overrun:
        grace = max(self.grace, LEAST_GRACE)
        try:
            leases.cover(delivery, seconds + grace)
        except AlligatorException as err:
            self._outage.begins(err)
        return Overrun(grace, lambda: self._overran(leases, delivery), self.owns_process)

    def _limit_of_canceled(
        self, leases: Leases | None, delivery: Delivery, task: Task
    ) -> Overrun | None:
        if leases is None:
            return None  # it has just ended
        settle = partial(self.gator.settler.settle, canceled(delivery, task))

        def act() -> None:
            leases.settles(delivery)
            beside(settle, _TO_RELEASE)  # it must not run again
            self._overran(leases, delivery, "it was canceled")

        return Overrun(max(self.grace, LEAST_GRACE), act, self.owns_process)

    def _overran(self, leases: Leases, delivery: Delivery, what: str = "its timeout") -> None:
        """In the thread that watches timeouts, act on a task that runs beyond timeout and grace.

        The task may hold any lock that its code can take, also those of logging and of the client.
        So all tasks are handed back first, and no step here waits without end.
        """
        if self.owns_process:
            self._goes_on = self.keep_running = False
            self._release_all(leases, but=delivery)
        else:
            leases.give_up(delivery)
        why = (
            f"{self.ident()}: task {shorten(delivery.task_id)} could not be stopped within "
            f"{max(self.grace, LEAST_GRACE):g} s after {what}"
        )
        if self.owns_process:
            self._leave(f"{why}; leaving.")
        beside(lambda: self.log.error("%s; its lease is left to run out.", why), 0.0)

    def _of_late(self, late: Sequence[tuple[Delivery, float]]) -> str:
        """Say which tasks ran beyond the grace, and that they start again."""
        names = [
            f"{shorten(each.task_id, 60)} {shorten(describe_briefly(each.data).function, 100)}"
            for each, _ in late[:5]
        ]
        if len(late) > len(names):
            names.append(f"and {len(late) - len(names)} more")
        some, it = ("task", "it starts") if len(late) == 1 else ("tasks", "they start")
        return (
            f"{some} {', '.join(names)} did not end within {self.grace:g} s; leaving, and {it} "
            "again where a worker is free."
        )

    def _release_all(self, leases: Leases, but: Delivery | None) -> None:
        if self._isolated is not None and self._signals.count > 1:
            self._isolated.stop(QUIT)
        all_leases = [
            each
            for each in dict.fromkeys((leases, self._leases_of_one, self._leases_of_run))
            if each
        ]
        held = [each.snapshot() for each in all_leases]

        def release() -> None:
            if self._fetcher is not None:
                self._fetcher.halt(2.0)  # else it would fetch again what is released
            for each in all_leases:
                each.release_all(but=but)

        def release_again() -> None:
            client = self.gator.build_backend(self.gator.conn_string)
            for each, deliveries in zip(all_leases, held, strict=True):
                each.release_by(client, deliveries, but=but)

        # If that takes long, a task may have locked what the client needs; a new client needs none.
        if not beside(release, _TO_RELEASE):
            beside(release_again, _TO_RELEASE_AGAIN)

    def _leave(self, why: str | None = None, level: int = logging.ERROR) -> NoReturn:
        """End the process, whatever its threads do; its tasks have been handed back."""

        def log_why() -> None:
            if why is not None:
                self.log.log(level, "%s", why)
            sys.stdout.flush()

        if not beside(log_why, _TO_LOG) and why is not None:
            beside(lambda: os.write(2, f"{why}\n".encode()), _TO_LOG)
        if self._heart is not None:
            beside(self._heart.end, _TO_LOG)
        hard_exit(1)

    def _watch(self, leases: Leases, tasks: TaskDocuments | None) -> None:
        """In the lease thread, act on a stop signal while the main thread is busy."""
        if tasks is not None:
            tasks.look()
        self._hand_back_paused(leases)
        if self._is_told_to_stop():
            leases.note_stop()  # first: a kill may follow at once
        if self._signals.count and not self._signals.announced:
            self._signals.announced = True
            leases.note_stop()  # the signal may have come just now
            self.interrupt()
            try:
                leases.hand_back()
            except Exception as err:
                self._outage.begins(err)  # they are handed back at the end
        if self._signals.count and self._signals.grace_is_over(self.grace):
            if self.owns_process:
                late = self._running()
                self._release_all(leases, but=None)
                if self._signals.count > 1:
                    self._leave(f"{self.ident()} leaves now.")
                self._leave(f"{self.ident()}: {self._of_late(late)}", logging.WARNING)
            leases.stop_extending()

    def _hand_back_paused(self, leases: Leases) -> None:
        """Hand back what has not started if its queue was paused since it was fetched."""

        def names() -> set[str]:
            return {each.queue_name for each in leases.unstarted()}

        try:
            if self._paused.holds_paused(leases.last_unstarted(), names):
                leases.hand_back()
        except Exception as err:
            self._outage.begins(err)  # it is looked at again

    def _warn_of_loss(self) -> None:
        try:
            warning = self.gator.client.durability_warning()
        except AlligatorException:
            return  # the first reserve logs it
        if warning:
            self.log.warning("%s", warning)


@contextmanager
def _event_loop() -> Iterator[EventLoop]:
    """Run ``async def`` tasks on one loop, in this thread and in all threads that it starts."""
    loop = EventLoop()
    token = worker_loop.set(loop)
    try:
        yield loop
    finally:
        worker_loop.reset(token)
        loop.close()


def _seconds(name: str, value: Any, low: float) -> float:
    number = in_seconds(value)
    if not number >= low:
        raise InvalidTask(
            f"{name}={value!r} is neither a number of seconds from {low} up nor such a timedelta."
        )
    return number


def _at_least(name: str, value: Any, low: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= low:
        raise InvalidTask(f"{name}={value!r} is not a number from {low} up.")
    return value
