"""Messages that begin as others did: read from where they differ.

Of the messages on a queue, those for one function are alike but for the id and the arguments::

    {"task_id":"0199…","retries":0,"is_async":true,"module":"m","callable":"f",
     "args":[…],"kwargs":{…},"options":{}}

Such a beginning is read in full once, and its function held to the policy. Of messages with the
very same text around the id, only the arguments are parsed. What is not exactly so is read in
full, so that nothing passes here that would not pass there.
"""

import sys
from typing import Any, NamedTuple

from alligator.common import strict_json
from alligator.exceptions import AlligatorException
from alligator.security.policy import Policy
from alligator.tasks.task import Task

_BEGIN = '{"task_id":"'
_ID = slice(len(_BEGIN), len(_BEGIN) + 36)  # a UUID; messages with other ids are read in full
_AFTER_ID = _ID.stop
#: In a JSON text, this cannot be part of a string: the quotation marks would be escaped.
_ARGS = ',"args":'
_KWARGS = ',"kwargs":'
_CLOSE = ',"options":{}}'
_LONGEST = 1500  # characters of a beginning
_MOST = 1024

_FIELDS = {"task_id", "retries", "is_async", "module", "callable"}


class _Known(NamedTuple):
    retries: int
    module: str
    name: str
    func: Any


class Usual:
    """What one Gator has learned of its messages.

    :param policy: what the functions of these have passed.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        # By what stands between the id and the arguments.
        self._known: dict[str, _Known] = {}

    def read(self, data: str) -> Task | None:
        """Return the task of a message; None: it has to be read in full."""
        end = data.find(_ARGS, _AFTER_ID, _LONGEST)
        known = self._known.get(data[_AFTER_ID:end])
        if known is None or not data.startswith(_BEGIN):
            return None
        retries, module, name, func = known
        here: Any = getattr(sys.modules.get(module), "__dict__", {})
        if here.get(name) is not func:
            return None  # it has been replaced
        task_id = data[_ID]
        call = strict_json.load_two(data, end + len(_ARGS), _KWARGS)
        if call is None or not _is_usual(task_id):
            return None
        args, kwargs, end = call
        if type(args) is not list or type(kwargs) is not dict or data[end:] != _CLOSE:
            return None
        task = Task.with_id(task_id, retries)
        task.func, task.func_args, task.func_kwargs = func, tuple(args), kwargs
        return task

    def learn(self, data: str, task: Task) -> None:
        """Remember how a message begins that was read in full, checked and found fine."""
        end = data.find(_ARGS, _AFTER_ID, _LONGEST)
        if end < 0 or not data.startswith(_BEGIN) or data[_AFTER_ID:end] in self._known:
            return
        try:
            fields = strict_json.loads(data[:end] + "}")
            if not _is_usual(data[_ID]) or data[_ID] != fields.get("task_id"):
                return
        except AlligatorException:
            return
        if set(fields) != _FIELDS or fields["is_async"] is not True:
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        module, name = fields["module"], fields["callable"]
        self._known[data[_AFTER_ID:end]] = _Known(task.retries, module, name, task.func)


def _is_usual(task_id: str) -> bool:
    return '"' not in task_id and "\\" not in task_id and task_id.isprintable()
