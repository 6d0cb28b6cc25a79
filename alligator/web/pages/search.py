"""Find a task by its id on any queue, or a function or a queue by a part of its name."""

import time
from typing import NamedTuple

from alligator.exceptions import AlligatorException, UnsupportedOption
from alligator.monitoring.rows import STATE_WORDS
from alligator.web.view import Page, View

#: Seconds that a search takes.
_SEARCH = 0.1

#: Runs that are looked through, and tasks at the front of each queue.
_RECENT, _FRONT = 1_000, 50

#: Results of a kind that are shown.
_MOST = 50

_LONGEST = 300

#: The fewest characters of an id that are enough to look for its beginning.
_BEGINNING = 6


class TaskHit(NamedTuple):
    """A task that was found."""

    task_id: str
    queue_name: str
    state: str
    function: str = ""


def page(view: View) -> Page:
    """Show what was found; exactly one goes straight there."""
    text = view.request.first("q").strip()[:_LONGEST]
    text = "".join(each for each in text if each.isprintable())
    if not text:
        return Page("search.html", "Search", {"text": "", "is_all": True}, nav="search")
    search = _Search(view, text)
    tasks, queues, functions = search.tasks(), search.queues(), search.functions()
    urls = [
        *(view.url("task", queue=each.queue_name, id=each.task_id) for each in tasks),
        *(view.url("queue", name=each) for each in queues),
        *(view.url("recent", function=each) for each in functions),
    ]
    values = {
        "text": text,
        "tasks": tasks[:_MOST],
        "queues": queues[:_MOST],
        "functions": functions[:_MOST],
        "is_all": search.is_all,
    }
    location = urls[0] if len(urls) == 1 and search.is_all else ""
    return Page("search.html", "Search", values, nav="search", location=location)


class _Search:
    """One search, within its time."""

    def __init__(self, view: View, text: str) -> None:
        self.view, self.text, self.lower = view, text, text.lower()
        self.is_all = True
        self._until = time.monotonic() + _SEARCH
        self._names = self._queue_names()
        try:
            self._recent = view.gator.recent(_RECENT)
        except UnsupportedOption:
            self._recent = []
        self._front = [
            row for name in self._names if self._is_time() for row in self._first_of(name)
        ]

    def _queue_names(self) -> list[str]:
        gator = self.view.gator
        names = dict.fromkeys([*(gator.client.queue_names() or ()), gator.queue_name])
        try:
            for worker in gator.workers():
                names.update(dict.fromkeys(worker.queues))
        except UnsupportedOption:
            pass
        return sorted(names)

    def _is_time(self) -> bool:
        self.is_all = self.is_all and time.monotonic() < self._until
        return self.is_all

    def _first_of(self, name: str) -> list[tuple[str, str, str]]:
        """Return id, queue and function of the tasks at the front of a queue."""
        try:
            page = self.view.gator.tasks("waiting", _FRONT, queue_name=name)
        except AlligatorException:
            return []
        return [(row.task_id, name, row.function) for row in page]

    def tasks(self) -> list[TaskHit]:
        """Return the tasks of this id, or whose id begins so."""
        found = dict[tuple[str, str], TaskHit]()
        for name in self._names:
            if not self._is_time():
                break
            try:
                status = self.view.gator.on_queue(name).status(self.text)
            except AlligatorException:
                continue
            if status is not None:
                hit = TaskHit(self.text, name, STATE_WORDS.get(status, ""))
                found[self.text, name] = hit
        # A record by the id alone is that of each queue: the one that ran it says which.
        known = [
            (row.task_id, row.queue_name, row.function, STATE_WORDS.get(row.state, ""))
            for row in self._recent
        ]
        known += [(*each, "waiting") for each in self._front]
        of_runs = {(task_id, queue) for task_id, queue, *_ in known if task_id == self.text}
        if of_runs and len(found) > 1:
            found = {key: hit for key, hit in found.items() if key in of_runs} or found
        for task_id, queue, function, state in known:
            is_it = task_id == self.text or (
                len(self.text) >= _BEGINNING and task_id.startswith(self.text)
            )
            if is_it:
                hit = found.get((task_id, queue), TaskHit(task_id, queue, state))
                found[task_id, queue] = hit._replace(function=hit.function or function)
        return list(found.values())

    def queues(self) -> list[str]:
        """Return the queues with the text in their names."""
        return [each for each in self._names if self.lower in each.lower()]

    def functions(self) -> list[str]:
        """Return the functions with the text in their names."""
        names = {row.function for row in self._recent} | {each[2] for each in self._front}
        view = self.view
        found = view.source.history.recorded(view.gator, 60, view.now)
        names |= {row.function for row in found.activity}
        return sorted(each for each in names if each and self.lower in each.lower())
