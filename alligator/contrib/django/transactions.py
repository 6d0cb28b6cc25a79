"""Push tasks once the open transaction of a database has been committed."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from django.db import connections

from alligator.common.text import shorten
from alligator.exceptions import InvalidTask
from alligator.gator import Gator
from alligator.runtime.blocking_calls import warn_in_loop
from alligator.tasks.functions import explain_json
from alligator.tasks.middleware import AnyMiddleware
from alligator.tasks.parent_results import join, split
from alligator.tasks.task import Task

_PACKAGE = f"{Path(__file__).parents[2]}{os.sep}"


class PushInTransaction(RuntimeWarning):
    """A task was pushed inside a transaction: its worker may look before the commit."""


class DjangoGator(Gator):
    """A Gator that can wait for a commit: with ``on_commit=True``, or the alias of a database.

    ``gators['default']`` is one. Inside a transaction that a task waits for, all is checked at the
    call that can be, and its arguments are kept as they are then; its delay and ``expires`` count
    from then, too. A task object that is pushed twice keeps those of each push. If the push itself
    fails, after the commit, its error is raised where the transaction ends.

    :param using: the alias of the database that ``on_commit=True`` means.
    """

    #: Of a copy for a command line: lets the Gators by which tasks push have a middleware, too.
    share_middleware: Callable[[AnyMiddleware], None] | None = None

    def __init__(self, *args: Any, using: str = "default", **given: Any) -> None:
        self.using = using
        super().__init__(*args, **given)

    def check_on_commit(self, on_commit: bool | str) -> None:
        """Refuse an alias that is not among ``settings.DATABASES``.

        :raises InvalidTask: it is not.
        """
        alias = self._alias(on_commit)
        known = list(connections)
        if alias is not None and alias not in known:
            near = get_close_matches(alias, known, 1, 0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise InvalidTask(f"on_commit: DATABASES has no {alias!r:.60}. {hint}")

    def _push_prepared(self, task: Task) -> Task:
        if (alias := self._waits_for(task.on_commit)) is None:
            return super()._push_prepared(task)
        kept = self._keep([task], alias)
        later = partial(super()._push_prepared, task)
        connections[alias].on_commit(partial(_push_after_commit, later, [task], kept))
        return task

    def push_batch(self, tasks: Sequence[Task]) -> None:
        """Push prepared tasks in bulk, or have them all pushed after the commit."""
        alias = self._waits_for(tasks[0].on_commit) if tasks else None
        if alias is None:
            super().push_batch(tasks)
            return
        kept = self._keep(tasks, alias)
        later = partial(super().push_batch, tasks)
        connections[alias].on_commit(partial(_push_after_commit, later, tasks, kept))

    def _note_blocking(self, plain: str, twin: str) -> None:
        if self._warn_in_loop:
            warn_in_loop(plain, twin, "'WARN_IN_LOOP': False in the setting ALLIGATOR")

    def _alias(self, on_commit: bool | str | None) -> str | None:
        return self.using if on_commit is True else on_commit or None

    def _waits_for(self, on_commit: bool | str | None) -> str | None:
        """Return the alias of the database whose transaction is open, if a push waits for it."""
        if on_commit:
            self.check_on_commit(on_commit)
        alias = self._alias(on_commit)
        if alias is not None:
            connection = connections[alias]
            if connection.in_atomic_block:
                return alias
            # To ask connection.get_autocommit() would connect.
            if connection.connection is not None and not connection.autocommit:
                raise InvalidTask(
                    f"on_commit={on_commit!r}: the transactions of database {alias!r} are managed "
                    "by hand (autocommit is off), so its commit is not seen; use "
                    "transaction.atomic()."
                )
        return None

    def _keep(self, tasks: Sequence[Task], alias: str) -> list[dict[str, Any]]:
        """Check what a push would find, and return the tasks as they are now.

        Their arguments are now copies, so a later push of the same object shows by those.
        """
        if children := self._producer.dependencies.in_order(tasks):
            self._producer.dependencies.check_store()
            _check_parents(children, tasks, alias)
        for task in tasks:
            args, kwargs, awaited = split(task.func_args, task.func_kwargs)
            if task.is_async:
                self._producer.check_supported(task)
                likeness = copy(task)  # without what needs a server, or its parents
                likeness.func_args, likeness.func_kwargs = args, kwargs
                likeness.delay_until = likeness.expires = likeness.expires_at = None
                likeness.depends_on, likeness.awaits_results = None, False
                self._producer.message(likeness, task.queue_name or self.queue_name)
            try:
                args, kwargs = deepcopy((args, kwargs))
            except Exception as err:
                raise InvalidTask(f"{_name(task)}: {explain_json(err)}.") from err
            task.func_args, task.func_kwargs = join(args, kwargs, awaited)
        return [dict(vars(task)) for task in tasks]


class WarnInTransaction:
    """Middleware that warns of tasks that are pushed inside a transaction, without ``on_commit``.

    By default, Python shows a warning once for each line of code that causes it.
    """

    def push(self, task: Task, call_next: Callable[[], Any]) -> Any:
        """Warn if it is to be warned of, and push the task.

        :raises PushInTransaction: Python is told to raise such warnings.
        """
        if task.on_commit is None:
            for each in connections.all(initialized_only=True):
                if _is_in_transaction(each):
                    warnings.warn(
                        f"A task is pushed inside a transaction of database {each.alias!r}, so its "
                        "worker may run before the commit; give on_commit=True, or False to have "
                        "it pushed at once.",
                        PushInTransaction,
                        stacklevel=_level_of_caller(),
                    )
                    break
        return call_next()


def _push_after_commit(
    push: Callable[[], object], tasks: Sequence[Task], kept: Sequence[dict[str, Any]]
) -> None:
    for task, then in zip(tasks, kept, strict=True):
        if task.func_kwargs is not then["func_kwargs"]:  # it was pushed again, by a later call
            vars(task).clear()
            vars(task).update(then)
    try:
        push()
    except Exception as err:
        names = ", ".join(f"{_name(each)} ({each.task_id})" for each in tasks[:10])
        err.add_note(
            f"Not pushed, though its transaction has been committed: {shorten(names, 1000)}. What "
            "was to be done after this commit, and after these, was not done either."
        )
        raise


def _check_parents(children: Sequence[Task], together: Sequence[Task], alias: str) -> None:
    """Refuse tasks whose parents will not have been pushed by the commit of a database.

    :param together: what is pushed in one batch.
    :raises InvalidTask: a parent was rolled back with its savepoint, waits for another database,
        or was not pushed at all.
    """
    known = {id(each) for each in together}
    for _, call, *_ in connections[alias].run_on_commit:  # what is rolled back is not in it
        if isinstance(call, partial) and call.func is _push_after_commit:
            known |= {id(each) for each in call.args[1]}
    for child in children:
        for each in child.depends_on or ():
            if not isinstance(each, Task) or not each.is_async or each.is_pushed:
                continue
            if id(each) not in known:
                raise InvalidTask(
                    f"Parent {_name(each)} ({each.task_id}) is not pushed before the commit of "
                    f"database {alias!r}: it waits for another database, was rolled back, or was "
                    "never pushed. Push it in the same transaction."
                )


def _name(task: Task) -> str:
    func = task.func
    return func if isinstance(func, str) else getattr(func, "__qualname__", repr(func))


def _is_in_transaction(connection: Any) -> bool:
    """Return whether a transaction is open that is not that of a Django TestCase."""
    blocks = getattr(connection, "atomic_blocks", ())
    if connection.in_atomic_block and blocks:
        return not all(getattr(each, "_from_testcase", False) for each in blocks)
    return bool(connection.in_atomic_block)


def _level_of_caller() -> int:
    """Return the ``stacklevel`` by which a warning of the caller names the line that pushes."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
