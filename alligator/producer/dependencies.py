"""Turn ``depends_on`` into children and parents for the store.

The store holds a child. The step that takes its last parent off the queue releases the child, or
cancels it; see ``alligator.backends.store``. This module decides which tasks the parents are.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from alligator.backends.base import GET, Client, Duplicate, Message
from alligator.backends.dsn import mask_password
from alligator.backends.store import ENDED, Child, Parent, Store
from alligator.common import strict_json
from alligator.common.clock import Clock
from alligator.common.text import shorten
from alligator.constants import CANCELED, FAILED
from alligator.exceptions import BadPayload, InvalidTask, UnsupportedOption
from alligator.producer.children_in_other_store import KEEP_CHILD, KEEP_END, must_save
from alligator.tasks.functions import explain_json
from alligator.tasks.message import fields_in, fields_of, id_of
from alligator.tasks.parent_ids_in_store import are_many, keep
from alligator.tasks.parent_results import KEEP_RESULT, ResultOf, Where, join, split
from alligator.tasks.task import Task
from alligator.tasks.validation import CHECKS


@dataclass(slots=True)
class Dependencies:
    """Find the parents of tasks, and have the store hold their children, for one Gator.

    A bare id is looked for on the child's queue, on the Gator's, and on every other that this
    Gator has pushed to. ``(queue_name, id)`` names any other queue.

    :param queue_name: the queue of tasks that name none.
    :param used: the names of the queues that this Gator has pushed to.
    """

    client: Client
    store: Store | None
    queue_name: str
    used: dict[str, None] = field(default_factory=dict)

    @property
    def _bridged(self) -> bool:
        return self.store is not None and self.store.bridged

    def check(self, task: Task) -> None:
        """Refuse a task that waits for itself.

        :raises InvalidTask: it does.
        """
        if any(each is task or id_of(each) == task.task_id for each in task.depends_on or ()):
            raise InvalidTask(
                f"Task {shorten(task.task_id)} depends on itself; it could never run."
            )

    def await_results(self, task: Task) -> None:
        """Let a task depend on the tasks whose results are its arguments, and these save them.

        Of a task that has ended in this process, put the result in.

        :raises UnsupportedOption: such a task is on its queue already, and saves no result.
        :raises InvalidTask: the task has ``debounce``.
        """
        if task.debounce:
            raise InvalidTask(
                "debounce= and result_of() do not go together: a task that waits for others starts "
                "when they have ended; use unique= instead."
            )
        _, _, awaited = split(task.func_args, task.func_kwargs)
        known = {at: _result_here(each) for at, each in awaited.items() if _is_done(each.parent)}
        parents = [each.parent for at, each in awaited.items() if at not in known]
        for parent in parents:
            if isinstance(parent, Task) and not parent.save_results:
                if parent.is_pushed:
                    raise _saves_nothing(parent.task_id)
                if parent.is_async:
                    parent.save_results = KEEP_RESULT
        if parents:
            task.depends_on = CHECKS["depends_on"]([*(task.depends_on or ()), *parents])
        task.awaits_results = bool(parents)
        task.func_args, task.func_kwargs = join(task.func_args, task.func_kwargs, known)

    def _name_queues(self, task: Task, queue_name: str, together: Container[str]) -> None:
        """Say in the arguments of a task where those are whose results it awaits."""
        _, _, awaited = split(task.func_args, task.func_kwargs)
        named = dict[Where, Any]()
        for where, each in awaited.items():
            if _is_done(each.parent):
                named[where] = _result_here(each)
                continue
            names = self._parent(each.parent, queue_name, together).queue_names
            if not isinstance(each.parent, Task):
                self._check_saved(id_of(each.parent), names)
            named[where] = ResultOf(each.parent, names)
        task.func_args, task.func_kwargs = join(task.func_args, task.func_kwargs, named)

    def in_order(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks that wait for others, parents before their children.

        :raises InvalidTask: some of them wait for each other.
        """
        if not any(task.depends_on for task in tasks):
            return []
        by_id = {task.task_id: task for task in tasks}
        sorter = TopologicalSorter[str]()
        for task in tasks:
            parents = (id_of(each) for each in task.depends_on or ())
            sorter.add(task.task_id, *(each for each in parents if each in by_id))
        try:
            ordered = [by_id[each] for each in sorter.static_order()]
        except CycleError as err:
            circle = " → ".join(shorten(each) for each in err.args[1])
            raise InvalidTask(f"These tasks wait for each other: {circle}.") from None
        return [task for task in ordered if task.depends_on]

    def record_outcomes(self, children: Sequence[Task], together: Sequence[Task]) -> None:
        """If queue and store are two backends, have tasks record their end, since children wait
        for that: all of them, unless they were pushed with ``save_results=0``.

        Children save their outcome, and so do their parents among ``together``.
        """
        if not self._bridged:
            return
        ids = {id_of(parent) for child in children for parent in child.depends_on or ()}
        for task in (*children, *(each for each in together if each.task_id in ids)):
            task.save_results = task.save_results or KEEP_CHILD
        for task in together:
            task.note_end = KEEP_END if task.note_end is None else task.note_end

    def may_run(self, task: Task) -> bool:
        """Whether a task may run here and now; False: one of its parents failed or was canceled.

        :raises InvalidTask: a parent is on a queue, so its end is not known here.
        """
        parents = [each for each in task.depends_on or () if isinstance(each, Task)]
        for each in parents:
            if each.is_pushed and each.status not in (*ENDED, None):
                raise InvalidTask(
                    f"Task {shorten(task.task_id)} is to run now (is_async=False), and its parent "
                    f"{shorten(each.task_id)} is on a queue; wait for that first."
                )
        return task.unconditional or not any(each.status in (FAILED, CANCELED) for each in parents)

    def in_steps(self, tasks: Sequence[Task]) -> Iterator[list[Task]]:
        """Yield tasks that wait for others in groups, each of which can be held in one step.

        A task with ``unique`` may turn out to be a duplicate, and then its children wait for the
        pending one. So they come in a later group.
        """
        step: list[Task] = []
        unsure = set[str]()
        for task in tasks:
            if unsure and not unsure.isdisjoint(id_of(each) for each in task.depends_on or ()):
                yield step
                for before in step:
                    replace_parent(tasks, before)
                step, unsure = [], set()
            if getattr(task, "unique", False):
                unsure.add(task.task_id)
            step.append(task)
        if step:
            yield step

    def hold(
        self, tasks: Sequence[Task], message: Callable[[Task, str], Message], clock: Clock
    ) -> Sequence[int | Duplicate]:
        """Push tasks that wait for others, in their order; return the new status of each.

        Of a duplicate it returns the pending task instead.

        :param message: returns a task as it goes on a queue of that name.
        :raises UnsupportedOption: there is no store to hold them.
        :raises InvalidTask: a parent was never pushed, or is on another backend.
        """
        store = self._holding()
        together = {task.task_id for task in tasks}
        children = []
        for task in tasks:
            queue_name = task.queue_name or self.queue_name
            parents = tuple(
                self._parent(each, queue_name, together)
                for each in task.depends_on or ()
                if not _is_done(each)
            )
            if task.awaits_results:
                self._name_queues(task, queue_name, together)
            self._keep_parents(store, task, clock.time())
            told = message(task, queue_name)
            children.append(Child(queue_name, told, parents, task.unconditional))
        return store.hold(self.client, children)

    def _holding(self) -> Store:
        if self.store is None:
            raise UnsupportedOption(
                f"{mask_password(self.client.conn_string)} keeps no 'depends_on'; name a place "
                "that does, Gator(…, store='redis://localhost:6379/0'), for the workers, too."
            )
        return self.store

    def check_store(self) -> None:
        """Refuse children where nothing can hold them, before their parents are pushed.

        :raises UnsupportedOption: see :meth:`hold`.
        """
        self._holding().hold(self.client, [])

    def _check_saved(self, task_id: str, queue_names: Iterable[str]) -> None:
        """Refuse a task that is on a queue and saves no result, where the queue can tell."""
        if GET not in self.client.supports:
            return
        for name in queue_names:
            data = self.client.peek(name, task_id)
            if data is not None:
                if not fields_in(fields_of(data), "options").get("save_results"):
                    raise _saves_nothing(task_id)
                return

    def _keep_parents(self, store: Store, task: Task, now: float) -> None:
        """Keep the parent ids of a task in the store, if they are too many for its message."""
        ids = [id_of(each) for each in task.depends_on or ()]
        if not are_many(ids, self.client.max_size()):
            task.kept_parents = None
            return
        delay = max(0.0, (task.delay_until or 0.0) - now)
        task.kept_parents = keep(store, task.task_id, ids, now, delay)
        if not self._bridged:  # else its end is recorded anyhow, and that forgets them
            task.note_end = task.note_end or KEEP_END

    def _parent(self, given: Any, child_queue: str, together: Container[str]) -> Parent:
        if isinstance(given, tuple):
            self.client.check_queue_name(given[0])
            return Parent(given[1], (given[0],))
        if isinstance(given, str):
            return Parent(given, tuple(dict.fromkeys((child_queue, self.queue_name, *self.used))))
        place = given.place
        if place is None and given.task_id in together:
            place = self.client.conn_string, given.queue_name or self.queue_name
        if place is None:
            waits = " It waits for a commit, on_commit=; so must its children." * bool(
                given.on_commit
            )
            raise InvalidTask(
                f"Parent {shorten(given.task_id)} was not pushed; push it first, or in the same "
                f"batch.{waits}"
            )
        if place[0] != self.client.conn_string:
            raise InvalidTask(
                f"Parent {shorten(given.task_id)} was pushed to {mask_password(place[0])}, and not "
                f"to {mask_password(self.client.conn_string)}: its end would not be known there. "
                "Push both to one backend."
            )
        if self._bridged and not given.known_for:
            raise must_save(given.task_id)
        return Parent(given.task_id, (place[1],))


def _saves_nothing(task_id: str) -> UnsupportedOption:
    """Return the error for a parent whose result a child awaits, and that saves none."""
    return UnsupportedOption(
        f"Task {shorten(task_id)} was pushed without save_results=seconds, so its result cannot be "
        "an argument: push it with gator.options(save_results=3600), or in one batch with this one."
    )


def replace_parent(children: Sequence[Task], before: Task) -> None:
    """Where children name a duplicate by its own id, name the pending task instead."""
    if not before.is_duplicate:
        return
    for child in children:
        if child.depends_on:
            child.depends_on = [_pending(each, before) for each in child.depends_on]


def _pending(parent: Any, before: Task) -> Any:
    if parent is before or id_of(parent) != before.replaced_id:
        return parent
    return (parent[0], before.task_id) if isinstance(parent, tuple) else before.task_id


def _result_here(awaited: ResultOf) -> Any:
    """Return what a task returned that ended in this process, as a worker would get it."""
    task = awaited.parent
    try:
        return strict_json.loads(strict_json.dumps(task.result))
    except (TypeError, ValueError, BadPayload) as err:
        raise InvalidTask(
            f"{awaited!r} cannot be an argument: {explain_json(err, 'a result')}."
        ) from err


def _is_done(given: Any) -> bool:
    """Whether a parent has succeeded in this process, without a queue."""
    return (
        isinstance(given, Task)
        and not given.is_pushed
        and given.status in ENDED - {FAILED, CANCELED}
    )
