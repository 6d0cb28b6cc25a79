"""What a visitor may do from the pages: each action is confirmed first, and says what it did.

A page links to ``do/NAME`` with the fields of the action in the query. That shows the question, and
a form that posts the same fields. So no action needs a script, and none happens by a link.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from alligator.common.text import describe_error, shorten, show_time
from alligator.constants import CANCELED, FAILED, RUNNING, SUCCESS
from alligator.exceptions import AlligatorException, ConnectionLost, InvalidTask, UnsupportedOption
from alligator.gator import Gator
from alligator.web.rendering import NAVIGATION, whole_number
from alligator.web.selection import Selection, Summary
from alligator.web.view import Page, View

#: Seconds that an action on many tasks takes at most; the visitor may go on with the rest.
_LONGEST = 5.0

#: Tasks that a page links to after an action on them.
_LINKED = 5

_LONGEST_PAUSE = 366 * 86_400

#: The fields of an action, each with its values, as a query or a form has them.
Fields = dict[str, list[str]]


class Question(NamedTuple):
    """What a visitor is asked.

    :param about: the tasks that are meant; None: a whole queue is.
    :param selection: what selects them.
    """

    text: str
    about: Summary | None = None
    selection: Selection | None = None


class Done(NamedTuple):
    """What an action did, in one sentence, and where to look at it.

    :param tasks: queues and ids of the first tasks that are still there to look at.
    :param queue_names: the queues on which it was done.
    :param state: which tasks of these queues to look at.
    """

    text: str
    is_done: bool = True  # False: there was nothing to do, or another visitor was faster
    has_more: bool = False  # its time was over, and there is more to do
    tasks: tuple[tuple[str, str], ...] = ()
    queue_names: tuple[str, ...] = ()
    state: str = ""
    changed: tuple[tuple[str, str], ...] = ()  # queues and ids of the first tasks it was done to


class ActionRecord(NamedTuple):
    """What a visitor has done, for a log of who did what.

    :param name: the action: ``'pause'``, ``'resume'``, ``'drop'``, ``'revive'``, ``'purge'``,
        ``'run'`` or ``'cancel'``.
    :param title: what its button says.
    :param text: what it did, in one sentence; or that its connection broke off.
    :param source: the name of the Gator; ``''`` if the dashboard shows one alone.
    :param queue_names: the queues on which it was done, as far as they are known.
    :param tasks: queues and ids of the first tasks to which it was done; none: to whole queues.
    :param is_destructive: whether something is gone.
    """

    name: str
    title: str
    text: str
    source: str
    queue_names: tuple[str, ...]
    tasks: tuple[tuple[str, str], ...]
    is_destructive: bool


class Action(NamedTuple):
    """One action.

    :param title: what the button says.
    :param ask: returns the question, with what would happen.
    :param do: does it.
    :param is_destructive: whether something is gone afterwards.
    :param inputs: what a visitor may fill in: the name of a field, and what it is.
    """

    title: str
    ask: Callable[[View, Fields], Question]
    do: Callable[[View, Fields], Done]
    is_destructive: bool = False
    inputs: tuple[tuple[str, str], ...] = ()

    def page(self, view: View, done: Done) -> Page:
        """Return the page that says what was done with the fields of the form."""
        fields = view.request.form
        values = {
            "done": done,
            "back": back_of(view, fields),
            "fields": _pairs(view, fields) if done.has_more else [],
        }
        return Page("done.html", self.title, values, nav=nav_of(view, fields))


class Confirmation(NamedTuple):
    """Asks before an action is carried out."""

    action: Action
    view: View

    def page(self) -> Page:
        """Return the page that asks."""
        fields = self.view.request.query
        values = {
            "question": self.action.ask(self.view, fields),
            "action": self.action,
            "fields": _pairs(self.view, fields),
            "back": back_of(self.view, fields),
        }
        nav = nav_of(self.view, fields)
        return Page("confirm.html", self.action.title, values, nav=nav)


def _pairs(view: View, fields: Fields) -> list[tuple[str, str]]:
    """Return the fields for a form; nothing that a page of ours sends has other characters."""
    asked = view.form_fields  # of the application: renewed, not repeated
    given = [
        (name, each)
        for name, found in fields.items()
        for each in found
        if name not in asked and f"{name}{each}".isprintable()
    ]
    return [*asked.items(), *given]


def field(fields: Fields, name: str) -> str:
    """Return a field that has to be there.

    :raises InvalidTask: it is missing or empty.
    """
    found = fields.get(name, [""])[0]
    if not found:
        raise InvalidTask(f"The field {name!r} is missing; use the buttons of the pages.")
    return found


def back_of(view: View, fields: Fields) -> str:
    """Return where to go afterwards: a path of this dashboard, whatever the field says."""
    back = fields.get("back", [""])[0]
    root = f"{view.root}/"
    if back.startswith(root) and not back.startswith("//") and "\\" not in back:
        return back
    return view.url()


def nav_of(view: View, fields: Fields) -> str | None:
    """Return the entry of the navigation from which the visitor came; None: from none."""
    path = back_of(view, fields).removeprefix(view.url()).partition("?")[0].strip("/")
    return path if path in dict(NAVIGATION) else None


def _queue(view: View, fields: Fields) -> str:
    queue = field(fields, "queue")
    view.gator.client.check_queue_name(queue)
    return queue


# -- Queues. ------------------------------------------------------------------------------------


def _ask_pause(view: View, fields: Fields) -> Question:
    paused = view.gator.paused(_queue(view, fields))
    again = f" It is paused already{_until(paused)}." if paused is not None else ""
    return Question(
        f"Pause queue {_queue(view, fields)}? Its workers start no further task, and finish what "
        f"runs. Pushes go on.{again}"
    )


def _pause(view: View, fields: Fields) -> Done:
    queue = _queue(view, fields)
    text = fields.get("seconds", [""])[0].strip()
    seconds = whole_number(text, "seconds", 0, 1, _LONGEST_PAUSE) or None
    view.gator.pause(queue, seconds)
    until = _until(view.gator.paused(queue))
    text = f"Queue {queue} is paused{until}. What runs is finished."
    return Done(text, queue_names=(queue,))


def _until(moment: float | None) -> str:
    if moment is None or math.isinf(moment) or moment > 1e11:
        return ""
    return f" until {show_time(moment)}"


def _ask_resume(view: View, fields: Fields) -> Question:
    waiting = view.gator.client.stats(_queue(view, fields)).waiting
    wait = "waits" if waiting == 1 else "wait"
    return Question(
        f"Let queue {_queue(view, fields)} go on? {_count(waiting, 'task')} {wait} there."
    )


def _resume(view: View, fields: Fields) -> Done:
    queue = _queue(view, fields)
    if view.gator.resume(queue):
        return Done(f"Queue {queue} goes on.", queue_names=(queue,))
    text = f"Queue {queue} was not paused, or goes on already."
    return Done(text, is_done=False, queue_names=(queue,))


def _on_it(view: View, queue: str) -> tuple[int, str]:
    """Return how many tasks a queue has, and the counts in words."""
    stats = view.gator.client.stats(queue)
    counts = {
        "waiting": stats.waiting,
        "delayed": stats.delayed,
        "running": stats.running,
        "dead": stats.dead,
        "held": stats.held,
    }
    told = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    return sum(counts.values()), told


def _ask_drop(view: View, fields: Fields) -> Question:
    queue = _queue(view, fields)
    total, told = _on_it(view, queue)
    if not total:
        return Question(f"Queue {queue} has no tasks. Drop what may come until you answer?")
    return Question(
        f"Delete all {_count(total, 'task')} of queue {queue}: {told}? They will not run, and "
        "cannot be brought back."
    )


def _drop(view: View, fields: Fields) -> Done:
    queue = _queue(view, fields)
    total, told = _on_it(view, queue)
    if not total:
        return Done(f"Queue {queue} had no tasks.", is_done=False, queue_names=(queue,))
    view.gator.client.drop_all(queue)
    were = "was" if total == 1 else "were"
    text = f"Queue {queue} is empty. {_count(total, 'task')} {were} deleted: {told}."
    return Done(text, queue_names=(queue,))


# -- Tasks. ---------------------------------------------------------------------------------------


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


class _OnTasks(NamedTuple):
    """An action on one task, on the checked ones, or on all that match.

    :param verb: what it does: ``'Revive'``.
    :param done: what is said of those to which it was done: ``'revived'``.
    :param effect: what would happen.
    :param one: does it to a task, of a Gator for its queue; '' : done; else why not.
    :param state: the state in which to look for the tasks afterwards; '': they are gone.
    """

    verb: str
    done: str
    effect: str
    one: Callable[[Gator, str], str]
    state: str = ""

    def ask(self, view: View, fields: Fields) -> Question:
        selection = Selection.of(view, fields)
        about = selection.summary(view)
        count, is_all = about.count, about.is_all
        if selection.refs is not None and count == 1:
            ((queue_name, task_id),) = selection.refs
            what = f"task {shorten(task_id, 60)} of queue {shorten(queue_name, 60)}"
        elif not count:
            return Question("No task matches any more. Look again all the same?")
        elif is_all:
            what = f"all {_count(count, 'task')}" if selection.refs is None else f"{count:,} tasks"
        else:
            what = f"all tasks that match: at least {count:,}, as far as was counted in a second"
        return Question(f"{self.verb} {what}? {self.effect}", about, selection)

    def do(self, view: View, fields: Fields) -> Done:
        selection = Selection.of(view, fields)
        until, acted = time.monotonic() + _LONGEST, 0
        reasons, has_more = dict[str, int](), False
        gators, acted_on = dict[str, Gator](), list[tuple[str, str]]()
        changed = list[tuple[str, str]]()
        for queue_name, task_id in selection.tasks(view, until):
            if queue_name not in gators:
                gators[queue_name] = view.gator.on_queue(queue_name)
            try:
                reason = self.one(gators[queue_name], task_id)
            except (ConnectionLost, UnsupportedOption):
                if not acted:
                    raise
                reason = "The queue could not be reached, or could not do it."
            except AlligatorException as err:
                reason = describe_error(err)
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
            else:
                acted += 1
                if len(changed) < _LINKED:
                    changed.append((queue_name, task_id))
            if len(acted_on) < _LINKED and self.state:
                acted_on.append((queue_name, task_id))
            if time.monotonic() > until:
                has_more = True
                break
        told = self._told(acted, reasons, has_more=has_more or selection.was_cut)
        return told._replace(
            tasks=tuple(acted_on),
            queue_names=tuple(gators),
            state=self.state or "dead",
            changed=tuple(changed),
        )

    def _told(self, acted: int, reasons: dict[str, int], *, has_more: bool) -> Done:
        left = sum(reasons.values())
        if not acted and not left and not has_more:
            return Done("No task matches any more.", is_done=False)
        parts = []
        if acted or left > 1:
            were = "task was" if acted == 1 else "tasks were"
            parts.append(f"{acted:,} {were} {self.done}.")
        for reason, count in sorted(reasons.items(), key=lambda each: -each[1])[:3]:
            parts.append(reason if acted + left == 1 else f"{count:,} not: {reason}")
        if has_more:
            parts.append("There may be more: this is what was done in a few seconds.")
        return Done(" ".join(parts), is_done=bool(acted), has_more=has_more)


def _revive_one(gator: Gator, task_id: str) -> str:
    if gator.revive(task_id):
        return ""
    return _why_not_revived(gator, task_id)


def _why_not_revived(gator: Gator, task_id: str) -> str:
    try:
        status = gator.status(task_id)
    except AlligatorException:
        status = None
    if status == FAILED:
        return "It stays dead: a task with its id or its unique key is on the queue."
    if status in (None, SUCCESS, CANCELED):
        return (
            "It is no dead letter any more: it was revived already, and has ended, or was purged."
        )
    return "It was revived already."


def _purge_one(gator: Gator, task_id: str) -> str:
    return (
        "" if gator.purge(task_id) else "It is no dead letter any more: it was purged or revived."
    )


def _run_one(gator: Gator, task_id: str) -> str:
    if gator.run_now(task_id):
        return ""
    return "It is not delayed any more: it runs, or has run, or was canceled."


def _cancel_one(gator: Gator, task_id: str) -> str:
    try:
        found = gator.cancel(task_id, running=True)
    except UnsupportedOption:  # no store could pass that on to a worker
        found = gator.cancel(task_id)
    if found is not None and found.status in (CANCELED, RUNNING):
        return ""
    return "It neither waits nor runs any more: it has ended, or was canceled already."


def _action(title: str, tasks: _OnTasks, *, is_destructive: bool = False) -> Action:
    return Action(title, tasks.ask, tasks.do, is_destructive)


#: The actions by the name in their path, ``do/NAME``.
ACTIONS: dict[str, Action] = {
    "pause": Action(
        "Pause", _ask_pause, _pause, inputs=(("seconds", "Seconds; empty: until it is resumed"),)
    ),
    "resume": Action("Resume", _ask_resume, _resume),
    "drop": Action("Drop all tasks", _ask_drop, _drop, is_destructive=True),
    "revive": _action(
        "Revive",
        _OnTasks(
            "Revive",
            "revived",
            "They go back on their queues, and run again with all their retries.",
            _revive_one,
            "waiting",
        ),
    ),
    "purge": _action(
        "Purge",
        _OnTasks(
            "Delete", "deleted", "Dead letters that are purged cannot be brought back.", _purge_one
        ),
        is_destructive=True,
    ),
    "run": _action(
        "Run now",
        _OnTasks(
            "Run now",
            "made due",
            "Delays end, and workers take the tasks next.",
            _run_one,
            "waiting",
        ),
    ),
    "cancel": _action(
        "Cancel",
        _OnTasks(
            "Cancel",
            "canceled, or its worker was asked to end it",
            "What waits is taken off its queue. What runs is ended by its worker, within a second "
            "or so. Tasks that wait for them are canceled, too.",
            _cancel_one,
            "waiting",
        ),
        is_destructive=True,
    ),
}
