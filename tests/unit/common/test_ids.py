"""Task ids: UUIDs of version 7."""

import threading
import uuid

from alligator.common.ids import new_task_id


def test_ids_sort_by_creation_and_are_unique():
    ids = [new_task_id() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5000
    assert {uuid.UUID(each).version for each in ids} == {7}
    assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.extend(new_task_id() for _ in range(500)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4000
