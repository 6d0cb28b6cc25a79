"""How prepared tasks get from a Gator to its queues, or into the hands of a store."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alligator.backends.base import LastingMessage, Message
from alligator.constants import CANCELED
from alligator.producer.dependencies import Dependencies
from alligator.tasks.task import Task

if TYPE_CHECKING:
    from alligator.gator import Gator


class Pusher:
    """Pushes for one Gator."""

    def __init__(self, gator: "Gator") -> None:
        self.gator = gator
        #: The names of the queues that were pushed to.
        self.used: dict[str, None] = {}

    @property
    def dependencies(self) -> Dependencies:
        """Who waits for whom."""
        gator = self.gator
        return Dependencies(gator.client, gator.store, gator.elsewhere, gator.queue_name, self.used)

    def push(self, task: Task) -> Task:
        """Push a prepared task that is async, or have it held back."""
        if task.depends_on:
            self.dependencies.see_to_outcomes([task], ())
            self._hold([task])
            return task
        if self.gator.elsewhere is not None:
            self.dependencies.see_to_outcomes([], [task])
        return self.enqueue(task)

    def push_batch(self, tasks: Sequence[Task]) -> None:
        """Push prepared tasks in bulk, queue by queue, and then those that wait for others."""
        queues: dict[str, list[tuple[Task, Message]]] = {}
        children = self.dependencies.in_order(tasks)
        self.dependencies.see_to_outcomes(children, tasks)
        usual_name, message = self.gator.queue_name, self.gator.intake.message
        for task in tasks:
            if not (children and task.depends_on):
                name = task.queue_name or usual_name
                queues.setdefault(name, []).append((task, message(task, name)))
        self.gator.recorder.overrule(
            (name, task) for name, pairs in queues.items() for task, _ in pairs
        )
        for name, pairs in queues.items():
            ids = self.gator.client.push_many(name, [message for _, message in pairs])
            for (task, _), task_id in zip(pairs, ids, strict=True):
                self._was_pushed(task, task_id)
        if children:
            self._hold(children)

    def enqueue(self, task: Task) -> Task:
        """Push a prepared task, whatever it depends on."""
        queue_name = task.queue_name or self.gator.queue_name
        message = self.gator.intake.message(task, queue_name)
        task_id, data, delay_until, priority = message
        if self.gator.elsewhere is not None:
            self.gator.recorder.overrule([(queue_name, task)])
        if isinstance(message, LastingMessage):
            self._was_pushed(task, self.gator.client.push_many(queue_name, [message])[0])
            return task
        extra: dict[str, Any] = {}
        if delay_until is not None:
            extra["delay_until"] = delay_until
        if priority:
            extra["priority"] = priority
        self._was_pushed(task, self.gator.client.push(queue_name, task_id, data, **extra))
        return task

    def _was_pushed(self, task: Task, backend_id: str) -> None:
        task.queue_position = getattr(backend_id, "position", None)
        task.backend_id = None
        name = task.queue_name or self.gator.queue_name
        if backend_id != task.task_id:
            task.backend_id = str(backend_id)
            if not self.gator.recorder.note_pushed(task, name):
                task.task_id, task.backend_id = task.backend_id, None
        self.used[name] = None
        task.to_pushed(self.gator)

    def _note(self, task: Task) -> None:
        self.used[task.queue_name or self.gator.queue_name] = None
        task.to_pushed(self.gator)

    def _hold(self, tasks: Sequence[Task]) -> None:
        positions = self._positions(tasks)
        states = self.dependencies.hold(self.gator.intake, tasks)
        for task, state in zip(tasks, states, strict=True):
            task.queue_position = positions.get(task.queue_name or self.gator.queue_name)
            self._note(task)
            if state == CANCELED:
                task.to_canceled()

    def _positions(self, tasks: Sequence[Task]) -> dict[str, Any]:
        """Return how far the queues have come that children are held for, who tell no store."""
        names = {each.queue_name or self.gator.queue_name for each in tasks if not each.known_for}
        return {each: self.gator.client.position(each) for each in names}
