"""Test the contract of dead letters."""

import time

import pytest

from alligator.backends.base import GET, OWN_ID, Data, Reason
from alligator.constants import FAILED
from alligator.exceptions import UnsupportedOption
from alligator.testing.conformance.base import ClientContract

_WHY = Reason("ValueError: too much", "Traceback …\nValueError: too much")


class DeadLetterContract(ClientContract):
    """A dead letter is kept whole, with the reason, and can be run again."""

    def bury(self, data: Data, kept: Data | None = None) -> str:
        """Push, reserve and bury one task; return its id."""
        self.push(data)
        delivery = self.reserve_one()
        assert self.client.bury(delivery, kept, _WHY) is True
        return delivery.task_id

    def test_buried_is_off_the_queue_and_on_record(self) -> None:
        """With its bytes, error, traceback and time."""
        task_id = self.bury("1")
        assert self.client.len(self.queue) == 0
        assert self.client.reserve([self.queue]).deliveries == []
        (letter,) = self.client.dead(self.queue)
        assert (letter.queue_name, letter.data) == (self.queue, "1")
        assert (letter.error, letter.traceback) == _WHY
        assert abs(letter.died_at - time.time()) < 60
        assert letter.attempts >= 1
        if self.supports(GET):
            assert letter.task_id == task_id
            place = self.client.find(self.queue, task_id)
            assert place is not None
            assert place.state == FAILED
            assert place.attempts == letter.attempts
            assert self.client.peek(self.queue, task_id) == "1"
            assert self.client.get(self.queue, task_id) is None

    def test_one_letter_is_read_by_its_id(self) -> None:
        """As it stands among all; None: it is not there."""
        ids = [self.bury(data) for data in ("1", "2", "3")]
        letters = {each.task_id: each for each in self.client.dead(self.queue)}
        for task_id in ids if self.supports(OWN_ID) else letters:
            assert self.client.letter(self.queue, task_id) == letters[task_id]
        assert self.client.letter(self.queue, "never-heard-of") is None

    def test_single_letters_are_deleted(self) -> None:
        """By their ids, and no others; they are not revived then."""
        ids = [self.bury(data) for data in ("1", "2", "3")]
        try:
            assert self.client.delete_dead(self.queue, [ids[0], ids[2], "never-heard-of"]) == 2
        except UnsupportedOption:
            pytest.skip("this backend cannot delete single dead letters")
        assert [letter.data for letter in self.client.dead(self.queue)] == ["2"]
        assert self.client.stats(self.queue).dead == 1
        assert self.client.delete_dead(self.queue, [ids[0], "un\udcffreadable\0"]) == 0
        assert self.client.delete_dead(self.queue, []) == 0
        assert self.client.find(self.queue, ids[0]) is None
        assert self.client.revive(self.queue, ids[0]) == 0
        assert self.client.revive(self.queue) == 1

    def test_bury_keeps_what_it_is_given(self) -> None:
        """Text or bytes, instead of the data as delivered."""
        self.bury("1", b"\xff\x00 changed")
        assert [letter.data for letter in self.client.dead(self.queue)] == [b"\xff\x00 changed"]

    def test_bury_notes_how_often_it_was_tried(self) -> None:
        """As the caller says, which may know that some deliveries were no tries."""
        self.push("1")
        assert self.client.release(self.reserve_one()) is True
        delivery = self.reserve_soon()
        assert delivery.attempt == 2
        assert self.client.bury(delivery._replace(attempt=1), None, _WHY) is True
        assert [letter.attempts for letter in self.client.dead(self.queue)] == [1]

    def test_bury_takes_any_text_for_a_reason(self) -> None:
        """Also what no alphabet has: errors quote messages, and no letter may fail for it."""
        self.push("1")
        assert self.client.bury(self.reserve_one(), None, Reason("E: \udcff\0", "T: \ud800\0"))
        (letter,) = self.client.dead(self.queue)
        assert letter.data == "1"
        assert letter.error.startswith("E: ")
        assert letter.traceback.startswith("T: ")

    def test_newest_first_and_limited(self) -> None:
        """As a person looking for the latest trouble wants it."""
        for data in "123":
            self.bury(data)
        letters = self.client.dead(self.queue)
        assert {letter.data for letter in letters} == set("123")
        if self.keeps_order:
            assert [letter.data for letter in letters] == ["3", "2", "1"]
            assert [letter.data for letter in self.client.dead(self.queue, limit=2)] == ["3", "2"]
        if self.has_exact_counts:
            assert self.client.stats(self.queue).dead == 3

    def test_revive_one(self) -> None:
        """By id; it runs again with a clean record."""
        self.bury("1")
        self.bury("2")
        chosen = next(each for each in self.client.dead(self.queue) if each.data == "1")
        assert self.client.revive(self.queue, chosen.task_id) == 1
        assert [letter.data for letter in self.client.dead(self.queue)] == ["2"]
        delivery = self.reserve_soon()
        assert (delivery.data, delivery.deaths) == ("1", 0)
        assert self.client.revive(self.queue, "never-heard-of") == 0

    def test_revive_all(self) -> None:
        """Without an id."""
        for data in "123":
            self.bury(data)
        assert self.client.revive(self.queue) == 3
        assert self.client.dead(self.queue) == []
        assert sorted(map(str, self.drain())) == ["1", "2", "3"]

    def test_revive_with_other_data(self) -> None:
        """Each with what is made of its own, text or bytes, and nothing is asked of the others."""
        for data in ("1", "2", "3"):
            self.bury(data)
        ids = {letter.data: letter.task_id for letter in self.client.dead(self.queue)}
        asked: list[tuple[str, Data]] = []
        renewed: dict[Data, Data] = {"1": "one", "2": b"\xff", "3": "three"}

        def renew(task_id: str, data: Data) -> Data:
            asked.append((task_id, data))
            return renewed[data]

        assert self.client.revive(self.queue, ids["1"], renew) == 1
        assert set(asked) == {(ids["1"], "1")}
        assert self.client.revive(self.queue, "never-heard-of", renew) == 0
        assert self.client.revive(self.queue, renew=renew) == 2
        assert set(asked) == {(each, data) for data, each in ids.items()}
        assert self.client.dead(self.queue) == []
        assert sorted(map(str, self.drain())) == ["b'\\xff'", "one", "three"]
        assert self.client.revive(self.queue, renew=renew) == 0

    def test_revive_leaves_an_id_in_use_alone(self) -> None:
        """Never two tasks with one id."""
        self.needs(OWN_ID, GET)
        self.bury("1")
        self.push("1")
        assert self.client.revive(self.queue) == 0
        assert self.client.revive(self.queue, renew=lambda _, data: data) == 0
        assert len(self.client.dead(self.queue)) == 1
        assert self.drain() == ["1"]

    def test_burying_leaves_new_data_of_the_same_id(self) -> None:
        """A push while it ran is not buried with it."""
        self.needs(OWN_ID, GET)
        self.client.push(self.queue, "x", "old")
        running = self.reserve_one()
        self.client.push(self.queue, "x", "new")
        assert self.client.bury(running, None, _WHY) is True
        assert [letter.data for letter in self.client.dead(self.queue)] == ["old"]
        assert self.drain() == ["new"]

    def test_purge_by_age(self) -> None:
        """Old ones go, young ones stay."""
        self.bury("1")
        assert self.client.purge_dead(self.queue, older_than=3600) == 0
        assert len(self.client.dead(self.queue)) == 1
        assert self.client.purge_dead(self.queue) == 1
        assert self.client.dead(self.queue) == []

    def test_drop_all_drops_the_dead(self) -> None:
        """As documented."""
        self.bury("1")
        self.client.drop_all(self.queue)
        assert self.client.dead(self.queue) == []
