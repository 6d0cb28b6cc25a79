"""Write a test that fails as a dead task did.

Anyone who can write to the queue may have written the letter. So only checked names and literals of
it become code, and none of it is imported or run here.
"""

import keyword
import unicodedata
from typing import Any

from alligator.backends.base import DeadTask, Delivery
from alligator.common import strict_json
from alligator.common.text import describe_error, shorten, show_time
from alligator.exceptions import AlligatorException, BadPayload, InvalidTask
from alligator.gator import Gator
from alligator.monitoring.arguments import MASK, is_secret
from alligator.monitoring.arguments import masked as mask
from alligator.monitoring.queues import names_known
from alligator.tasks.functions import split_name
from alligator.tasks.message import Fields
from alligator.tasks.parent_results import join, split
from alligator.tasks.parent_results import read as read_awaited

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


def as_test(gator: Gator, letter: DeadTask, *, masked: bool = False) -> str:
    """Return the source of a pytest test that calls the function as the dead task did.

    :param masked: whether to write ``'***'`` for secrets among its arguments, and no headers.

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
    headers = Fields(message.read("options", dict, {})).read("headers", dict, {})
    if masked:
        args, kwargs, hidden = _masked(f"{module}.{name}", args, kwargs)
        headers, notes = {}, [*notes, *hidden]
    arguments = [name, *map(ascii, args)]
    if kwargs:
        arguments.append(f"**{kwargs!a}")
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


def _masked(
    function: str, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any], list[str]]:
    """Return arguments without their secrets, and what is to be said about that."""
    names = names_known(function)
    shown = [
        MASK if at < len(names) and is_secret(names[at]) else mask(each)
        for at, each in enumerate(args)
    ]
    named = mask(kwargs)
    if shown == args and named == kwargs:
        return args, kwargs, []
    return shown, named, [f"Secrets are {MASK!r} here; write them in."]


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
