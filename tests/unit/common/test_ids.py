"""Test task ids: UUIDs of version 7."""

import threading
import uuid

from alligator.common.ids import LookalikeId, is_generated, new_task_id, own_ids


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


def test_own_ids_of_a_batch_are_those_that_are_own_each():
    made, own = [new_task_id() for _ in range(3)], LookalikeId(new_task_id())
    others = ["", "7", "x" * 36, str(uuid.uuid4()), new_task_id()[:-1], new_task_id() + "7"]
    # Together as long as two that are Alligator's, and each as one with the wrong length.
    others += [new_task_id().replace("-", "7"), own, "ü" * 36]
    for each in others:
        for batch in ([], made, [each], [*made, each], [made[0][:35], made[0] + "7"]):
            assert own_ids(batch) == [one for one in batch if not is_generated(one)]
