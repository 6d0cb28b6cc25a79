"""What a visitor may do from the pages: each action is confirmed first, and says what it did.

A page links to ``do/NAME`` with the fields of the action in the query. That shows the question, and
a form that posts the same fields. So no action needs a script, and none happens by a link.
"""

from collections.abc import Callable
from typing import NamedTuple

from alligator.common.text import shorten
from alligator.exceptions import InvalidTask
from alligator.web.view import Page, View

#: The fields of an action, each with its values, as a query or a form has them.
Fields = dict[str, list[str]]


class Done(NamedTuple):
    """What an action did, in one sentence."""

    text: str
    is_done: bool = True  # False: there was nothing to do, or another visitor was faster


class Action(NamedTuple):
    """One action.

    :param title: what the button says.
    :param ask: returns the question, with what would happen.
    :param do: does it.
    :param is_destructive: whether something is gone afterwards.
    """

    title: str
    ask: Callable[[View, Fields], str]
    do: Callable[[View, Fields], Done]
    is_destructive: bool = False

    def carry_out(self, view: View) -> Page:
        """Do it with the fields of the form, and return the page that says what was done."""
        fields = view.request.form
        done = self.do(view, fields)
        values = {"done": done, "back": back_of(view, fields)}
        return Page("done.html", self.title, values)


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
            "fields": [(name, each) for name, found in fields.items() for each in found],
            "back": back_of(self.view, fields),
        }
        return Page("confirm.html", self.action.title, values)


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
    root = f"{view.request.root}/"
    if back.startswith(root) and not back.startswith("//") and "\\" not in back:
        return back
    return view.url()


def _pause(view: View, fields: Fields) -> Done:
    queue = field(fields, "queue")
    view.gator.pause(queue)
    return Done(f"Queue {shorten(queue)} is paused. What runs is finished.")


def _resume(view: View, fields: Fields) -> Done:
    queue = field(fields, "queue")
    if view.gator.resume(queue):
        return Done(f"Queue {shorten(queue)} goes on.")
    return Done(f"Queue {shorten(queue)} was not paused.", is_done=False)


#: The actions by the name in their path, ``do/NAME``.
ACTIONS: dict[str, Action] = {
    "pause": Action(
        "Pause",
        lambda _, fields: (
            f"Pause queue {shorten(field(fields, 'queue'))}? Its workers start no "
            "further task. Pushes go on."
        ),
        _pause,
    ),
    "resume": Action(
        "Resume",
        lambda _, fields: f"Let queue {shorten(field(fields, 'queue'))} go on?",
        _resume,
    ),
}
