"""The Gator: the one object an application needs. It enqueues, looks up and cancels."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from inspect import signature
from typing import Any, ParamSpec, overload

from alligator.backends.base import DeadTask
from alligator.common.clock import Seconds
from alligator.constants import WAITING
from alligator.exceptions import UnsupportedOption
from alligator.execution.inline import Taking
from alligator.producer.options import Batch, Options
from alligator.producer.prepare import Intake
from alligator.producer.push import Pusher
from alligator.results.explain import Explaining
from alligator.scheduling.scheduler import Schedules, Scheduling
from alligator.tasks.task import Task
from alligator.tasks.validation import CHECKS

P = ParamSpec("P")

_ALL_DEAD = 1_000_000


class Gator(Taking, Scheduling, Explaining):
    """A door to one queue, and to others of the same backend by ``queue_name=``.

    ::

        gator = Gator('redis://localhost:6379/0')
        gator.task(send_post_email, user.pk, post.pk)

    Constructing one connects to nothing; the first use does. It may be shared by threads
    and used after a fork.

    :param conn_string: the DSN of the backend.
    :param queue_name: the queue that tasks go to.
    :param task_class: a class to use in place of :class:`alligator.Task`.
    :param backend_class: a client class to use in place of the one that the DSN names.
    :param store: the DSN of a place for results (or the store itself), where the backend has
        none (beanstalk, sqs), or another one is to be used.
    :param allowed: the functions that may run, hooks included: ``['myapp.tasks.*', …]``; None:
        any but the known ways to run code. See :class:`alligator.security.Policy`.
    :param secret_keys: keys to sign tasks with; unsigned ones are then not run. The first
        signs, all are accepted: ``[new, old]``. At least 16 bytes each.
    :param clock: where time comes from; for tests.
    :raises InvalidDSN: the DSN is malformed, its scheme unknown, or its driver missing.
    :raises InvalidTask: the backend cannot have a queue of that name; ``allowed`` or
        ``secret_keys`` is not such a list.
    """

    def _make_parts(self) -> None:
        self.schedules = Schedules(self)
        #: What a task goes through here before it is queued.
        self.intake = Intake(self)
        self._pusher = Pusher(self)
        self._plain = self.mold({})

    # -- Putting tasks on the queue. ----------------------------------------------------------

    @overload
    def task(self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Task: ...

    @overload
    def task(self, func: str, /, *args: Any, **kwargs: Any) -> Task: ...

    def task(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Task:
        """Push a task with the default options, and return it.

        ::

            on_queue = gator.task(increment, incr_by=2)

        :param func: an importable function; or its name, ``'myapp.tasks.resize'``, where
            its code is not at hand.
        :raises InvalidTask: not importable, arguments that do not fit or do not survive
            JSON, or more than the backend takes. Nothing was queued then.
        :raises NotAllowed: it may not run here; see ``allowed``.
        :raises ConnectionLost, QueueFull, QueueNotFound: the backend did not take it.
        """
        if self._plain.task_class is not self.task_class:
            self._plain = self.mold({})
        return self.push(self._plain.cast(), func, *args, **kwargs)

    def options(self, **options: Any) -> Options:
        """Return a context whose ``task`` method uses these options; it may be used again.

        ::

            with gator.options(retries=2, on_success=party_time) as opts:
                opts.task(increment, incr_by=2678)
        """
        return Options(self, **options)

    def batch(self, **options: Any) -> Batch:
        """Like :meth:`options`, but all tasks go to the backend in bulk at the end.

        ::

            with gator.batch() as batch:
                for photo in photos:
                    batch.task(create_thumbnail, photo.path)
        """
        return Batch(self, **options)

    def push(
        self, task: Task, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Task:
        """Push a task of your own making and return it; run it at once if it is not async.

        ::

            finished = gator.push(Task(is_async=False, retries=3), increment, incr_by=2)
        """
        self.prepare(task, func, args, kwargs)
        return self._pusher.push(task) if task.is_async else self._run_here(task)

    def prepare(
        self, task: Task, func: Callable[..., Any] | str, args: Sequence[Any], kwargs: Any
    ) -> None:
        """Check a call and make the task ready for it, without pushing it."""
        self.intake.prepare(task, func, args, kwargs)
        if task.depends_on:
            self._pusher.dependencies.check(task)

    def push_batch(self, tasks: Sequence[Task]) -> None:
        """Push prepared tasks in bulk, queue by queue; then run those that are not async."""
        self._pusher.push_batch([task for task in tasks if task.is_async])
        for task in tasks:
            if not task.is_async:
                self._run_here(task)

    def _run_here(self, task: Task) -> Task:
        if self._pusher.dependencies.may_run(task):
            return self.execute(task)
        task.to_canceled()
        return task

    def run_until(self, when: Any, to_consume: str | Sequence[str] | None = None) -> int:
        """Let a FakeClock run up to a moment, and run what comes up on the way, as a worker would.

        :param when: ``'+1d'``, ``'+1h30m'``, a timedelta, seconds; or a datetime, a timestamp.
        :param to_consume: a queue name, or several in strict order; None: the Gator's queue.
        :returns: how many tasks were run, each try counted.
        :raises UnsupportedOption: the Gator's clock, or its backend's, cannot be moved.
        :raises InvalidTask: that is no moment to come.
        """
        from alligator.testing.simulation import play  # brings the worker, which stands above

        return play(self, when, to_consume)

    # -- What became of tasks. ----------------------------------------------------------------

    def status(self, task: Task | str) -> int | None:
        """Return how a task stands: ``WAITING``, ``DELAYED``, ``RUNNING``, ``RETRYING``,
        ``SUCCESS``, ``FAILED`` or ``CANCELED``.

        :param task: the task, or its id on this Gator's queue.
        :returns: None: never heard of, or it succeeded and nothing was saved (any more), or it
            was dropped or lost. A task object adds what it knows: see :meth:`alligator.Task.wait`.
        """
        return self.results.status(task)

    def wait(
        self,
        tasks: Sequence[Task | str] | Task,
        timeout: Seconds | None = None,
        *,
        started: bool = False,
    ) -> bool:
        """Block until all of these tasks have ended, well or badly.

        An id of which nothing is known has not ended: of a task without ``save_results``,
        only the object that :meth:`task` returned can be waited for. See
        :meth:`alligator.Task.wait` on what is known of that.

        :param timeout: seconds, or a timedelta; None: as long as it takes.
        :param started: wait only until all have started.
        :returns: False: not in that time, or one was canceled, dropped or lost.
        """
        return self.results.wait(tasks, timeout, started=started)

    def result(self, task: Task | str, timeout: Seconds | None = 0.0) -> Any:
        """Return what a task returned that was pushed with ``save_results``.

        :param timeout: seconds to wait for it, or a timedelta; None: as long as it takes.
        :raises TaskFailed: it failed; with its ``error`` and ``traceback``.
        :raises TaskCanceled: it was canceled.
        :raises ResultTimeout: it has not ended in that time, or nothing is known of it.
        """
        return self.results.result(task, timeout)

    # -- Looking after the queue. -------------------------------------------------------------

    def dead(self, limit: int = 100) -> list[DeadTask]:
        """Return the tasks of this queue that were given up, newest first."""
        return self.client.dead(self.queue_name, limit)

    def revive(self, task_id: Task | str | None = None, *, retries: int | None = None) -> int:
        """Put a dead task back on the queue, or all of them; return how many.

        It runs as often as when it was pushed: none of its ``retries`` is spent.

        ::

            gator.revive(letter.task_id, retries=5)

        :param task_id: of the dead letter; or the task itself. None: all of this queue.
        :param retries: other than those that it was pushed with.
        :raises InvalidTask: no such number of retries.
        :raises UnsupportedOption: a client of another make, which cannot change them.
        """
        queue_name, client, codec, given = self.queue_name, self.client, self.codec, task_id
        if task_id is not None:
            queue_name, task_id = self.results.where(task_id)
        if retries is not None:
            retries = CHECKS["retries"](retries)
        if self.store is not None:  # their failure is no longer how they stand
            letters = client.dead(queue_name, _ALL_DEAD)
            if given is not None and (letter := self.results.letter_among(letters, given)):
                task_id = letter.task_id
            self.store.forget(
                key
                for each in letters
                if task_id is None or task_id == each.task_id
                for key in self.recorder.keys_of_dead(each)
            )
            for each in letters:
                if task_id is None or task_id == each.task_id:
                    self.recorder.note_revived(each)
        if "renew" in signature(client.revive).parameters:
            revived = client.revive(
                queue_name,
                task_id,
                lambda each, data: codec.renewed(queue_name, each, data, retries),
            )
        elif retries is not None:  # a client made for Alligator 1.1
            raise UnsupportedOption(
                f"{type(client).__module__}.{type(client).__qualname__} does not take 'renew' in "
                "its revive(), so retries= cannot be changed; leave it out."
            )
        else:
            revived = client.revive(queue_name, task_id)
        if revived and isinstance(given, Task):
            given.status, given.error = WAITING, None  # it failed, and is there again
        return revived

    def stats(self) -> dict[str, Any]:
        """Return ``waiting``, ``delayed``, ``running``, ``dead`` (counts) and ``oldest`` (the
        seconds that the first in line has waited, or None).
        """
        found = asdict(self.client.stats(self.queue_name))
        del found["held"]  # these are counted nowhere else, and were not here
        return found

    def close(self) -> None:
        """Let go of connections and files; the next use opens them again."""
        self.client.close()
        if self.store is not None:
            self.store.close()
