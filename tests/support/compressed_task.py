"""Define a Task class of the user's own, which compresses its messages: their data is bytes."""

import bz2
import json

from alligator import Task
from alligator.utils import determine_module, determine_name, import_attr


class SkinnyTask(Task):
    """Be the compressed task of the 'extending' document, with its mistakes fixed."""

    def serialize(self):
        data = {
            "task_id": self.task_id,
            "retries": self.retries,
            "module": determine_module(self.func),
            "callable": determine_name(self.func),
            "args": self.func_args,
            "kwargs": self.func_kwargs,
        }
        return bz2.compress(json.dumps(data).encode())

    @classmethod
    def deserialize(cls, data):
        data = json.loads(bz2.decompress(data))
        task = cls(task_id=data["task_id"], retries=data["retries"])
        func = import_attr(data["module"], data["callable"])
        task.to_call(func, *data.get("args", []), **data.get("kwargs", {}))
        return task
