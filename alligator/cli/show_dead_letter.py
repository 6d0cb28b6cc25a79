"""Show a dead letter, as text or as a test that fails as the task did.

Anyone who can write to the queue may have written the letter. So its control characters are
escaped. Only checked names and literals of it become code, and none of it is imported or run here.
"""

import keyword
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

from alligator.backends.base import DeadTask, Delivery
from alligator.common import strict_json
from alligator.common.text import describe_error, escape, shorten, show_time
from alligator.exceptions import AlligatorException, BadPayload, InvalidTask
from alligator.gator import Gator
from alligator.tasks.functions import split_name
from alligator.tasks.message import Fields
from alligator.tasks.parent_results import join, split
from alligator.tasks.parent_results import read as read_awaited

#: How many letters of a queue are searched for an id.
_LOOKED_THROUGH = 10_000

_TEST = """\
# Dead letter {task_id}
# of queue {queue}, died {when}, attempts: {attempts}.
# {error}
{notes}from {module} import {top}

import alligator


def test_{title}_as_it_died():
    alligator.Gator("locmem://").options(is_async=False{headers}).task(
        {call}
    )
"""


def print_one(gator: Gator, queues: Iterable[str], task_id: str, *, as_code: bool = False) -> int:
    """Print the dead letter of that id, or a test made of it; return 1 if there is none."""
    letter = find(gator, queues, task_id)
    if letter is None:
        print(f"latergator.py: no dead task {shorten(repr(task_id))} there", file=sys.stderr)
        return 1
    print(as_test(gator, letter) if as_code else show(letter), end="")
    return 0


def find(gator: Gator, queues: Iterable[str], task_id: str) -> DeadTask | None:
    """Return the dead letter of that id on one of the queues; None: there is none."""
    for name in queues:
        for letter in gator.client.dead(name, _LOOKED_THROUGH):
            if letter.task_id == task_id:
                return letter
    return None


def show(letter: DeadTask) -> str:
    """Return a letter as text, with its error, traceback and data."""
    data = letter.data
    text = data if isinstance(data, str) else data.decode(errors="backslashreplace")
    return (
        f"id:        {escape(letter.task_id)}\n"
        f"queue:     {escape(letter.queue_name)}\n"
        f"died:      {show_time(letter.died_at)}\n"
        f"attempts:  {letter.attempts}\n"
        f"error:     {escape(letter.error)}\n"
        f"traceback:\n{_indented(letter.traceback)}"
        f"data:\n{_indented(text)}"
    )


def _indented(text: str) -> str:
    # No line of it may look like one of ours.
    return "".join(f"  {escape(line)}\n" for line in text.rstrip("\n").split("\n") if text)


def as_test(gator: Gator, letter: DeadTask) -> str:
    """Return the source of a pytest test that calls the function as the dead task did.

    :raises BadPayload: the letter is no task, or has a name that is not valid.
    :raises NotAllowed: it names a function that may not run; see ``allowed``.
    :raises BadSignature: the Gator has keys, and none of them has signed it.
    """
    delivery = Delivery(letter.queue_name, letter.task_id, letter.data, None)
    message = Fields(strict_json.loads(gator.codec.open(delivery)))
    module, name = message.read("module", str), message.read("callable", str)
    _check_names(module, name)
    gator.policy.check_name(module, name)
    args, kwargs, notes = _call(gator, message)
    arguments = [name, *map(ascii, args)]
    if kwargs:
        arguments.append(f"**{kwargs!a}")
    headers = Fields(message.read("options", dict, {})).read("headers", dict, {})
    return _TEST.format(
        task_id=_comment(letter.task_id),
        queue=_comment(letter.queue_name),
        when=show_time(letter.died_at),
        attempts=letter.attempts,
        error=_comment(letter.error),
        notes="".join(f"# {_comment(each)}\n" for each in notes),
        module=module,
        top=name.partition(".")[0],
        title=name.replace(".", "_"),
        headers=f", headers={headers!a}" if headers else "",
        call=",\n        ".join(arguments) + ",",
    )


def _call(gator: Gator, message: Fields) -> tuple[list[Any], dict[str, Any], list[str]]:
    """Return the arguments of a task, and what is to be said about them.

    Results of other tasks are put in, as far as they are kept.
    """
    args, kwargs = message.read("args", list, []), message.read("kwargs", dict, {})
    given = Fields(message.read("options", dict, {})).read("result_of", list, [])
    args, kwargs, awaited = split(*read_awaited(given, args, kwargs))
    values, notes = {}, []
    for where, each in awaited.items():
        try:
            values[where] = gator.recorder.results_of([each])[0]
        except AlligatorException as err:
            notes.append(f"Argument {where!r} is None here: {describe_error(err)}")
    found_args, found_kwargs = join(args, kwargs, values)
    return list(found_args), found_kwargs, notes


def _check_names(module: str, name: str) -> None:
    try:
        split_name(f"{module}:{name}")
    except InvalidTask as err:
        raise BadPayload(str(err)) from err
    for part in f"{module}.{name}".split("."):
        # Python normalizes an identifier, but a worker looks for it as written.
        if keyword.iskeyword(part) or unicodedata.normalize("NFKC", part) != part:
            raise BadPayload(f"{shorten(part)!r} is no name that Python code can use.")


def _comment(text: str) -> str:
    return shorten(text, 300).encode("ascii", "backslashreplace").decode()
