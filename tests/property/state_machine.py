"""Define what producers, workers and clocks may do to a queue, as a Hypothesis state machine."""

import sys

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from alligator.backends.base import GET, PAUSE, Reason
from alligator.constants import RUNNING
from tests.property.comparison import Comparison
from tests.property.reference_model import name_of

NAMES = st.sampled_from("abcde")
PRIORITIES = st.sampled_from([0, 0, 0, 0, 7, -100])
WHEN = st.sampled_from([0, 0, 0, 1, 2, 3])  # 0: now; else a delay of the environment
LEASE = st.integers(0, 2)
WHO = st.integers(0, 1)
PICK = st.integers(0, 15)  # see picked()
PICKS = st.sets(PICK, max_size=3)
SECONDS = st.sampled_from([0.5, 10.0, 100.0, 3600.0])


class QueueMachine(Comparison, RuleBasedStateMachine):
    """The rules: what may happen, to which task, and when.

    :param environment: the backend to run against.
    """

    def __init__(self, environment):
        RuleBasedStateMachine.__init__(self)
        Comparison.__init__(self, environment)

    # -- Producers. -----------------------------------------------------------------------

    @rule(name=NAMES, priority=PRIORITIES, when=WHEN)
    def push(self, name, priority, when):
        one = self.message(name, priority, when)
        task_id = self.client.push(
            self.queue, one.task_id, one.data, one.delay_until, priority=one.priority
        )
        self.note_push(one, task_id)

    @rule(several=st.lists(st.tuples(NAMES, PRIORITIES, WHEN), min_size=2, max_size=4))
    def batch(self, several):
        messages = [self.message(*each) for each in several]
        ids = self.client.push_many(self.queue, messages)
        for one, task_id in zip(messages, ids, strict=True):
            self.note_push(one, task_id)

    # -- Workers. -------------------------------------------------------------------------

    @rule(who=WHO, limit=st.integers(1, 4), lease=LEASE, acks=st.sets(PICK, max_size=1))
    def reserve(self, who, limit, lease, acks):
        acks = self.picked(acks)
        if not self.environment.kind.portable:  # a client that crashed reserves no more
            acks = [each for each in acks if self.owner(each) in self.clients]
        self.reserve_now(self.settler(who, acks), limit, self.lease(lease), acks)

    @precondition(lambda self: PAUSE in self.client.controls)
    @rule(who=WHO, limit=st.integers(1, 4), acks=st.sets(PICK, max_size=1))
    def reserve_while_paused(self, who, limit, acks):
        """Nothing comes, and nothing changes but by the acks."""
        acks = self.picked(acks)
        if not self.environment.kind.portable:
            acks = [each for each in acks if self.owner(each) in self.clients]
        self.client.pause(self.queue)
        found, refused = self.settler(who, acks).reserve([self.queue], limit, acks=acks)
        assert found == []
        self.note_acks(acks, refused)
        assert self.client.resume(self.queue)

    @rule(who=WHO, limit=st.integers(1, 3), lease=LEASE, is_retry=st.booleans(), when=WHEN)
    def try_and_fail(self, who, limit, lease, is_retry, when):
        for each in self.reserve_now(self.clients[who], limit, self.lease(lease)):
            self.hand_back(each, self.clients[who], is_retry, self.due(when))

    @precondition(lambda self: self.can(GET))
    @rule(who=WHO, name=NAMES, pick=PICK, lease=LEASE)
    def reserve_by_id(self, who, name, pick, lease):
        name, task_id = self.known(name, pick)
        now, lease = self.now, self.lease(lease)
        wanted = self.model.by_id(name, now)
        found, _ = self.clients[who].reserve([self.queue], 3, lease, task_id=task_id)
        self.keep(self.clients[who], found)
        assert len(found) == (wanted is not None)
        if found:
            self.model.lease(wanted, found[0], lease, now)

    @precondition(lambda self: self.can(GET))
    @rule(name=NAMES, pick=PICK)
    def cancel(self, name, pick):
        name, task_id = self.known(name, pick)
        wanted = self.model.by_id(name, self.now)
        assert self.client.get(self.queue, task_id) == (wanted and wanted.data)
        if wanted:
            self.model.settle(wanted, self.now)

    @precondition(lambda self: self.deliveries)
    @rule(who=WHO, picks=PICKS)
    def ack(self, who, picks):
        deliveries = self.picked(picks)
        self.note_acks(deliveries, self.settler(who, deliveries).ack(deliveries))

    @precondition(lambda self: self.deliveries)
    @rule(who=WHO, pick=PICK, is_retry=st.booleans(), when=WHEN)
    def release(self, who, pick, is_retry, when):
        for each in self.picked([pick]):
            self.hand_back(each, self.settler(who, [each]), is_retry, self.due(when))

    @precondition(lambda self: self.deliveries)
    @rule(who=WHO, picks=PICKS, lease=LEASE)
    def extend_some(self, who, picks, lease):
        deliveries = self.picked(picks)
        self.extend(self.settler(who, deliveries), deliveries, self.lease(lease))

    # -- Dead letters. --------------------------------------------------------------------

    @precondition(lambda self: self.deliveries)
    @rule(who=WHO, pick=PICK, changed=st.booleans())
    def bury(self, who, pick, changed):
        for each in self.picked([pick]):
            item = self.model.held(each)
            self.counter += 1
            error = f"error {self.counter}"
            data = self.data(name_of(each.data)) if changed else None
            client = self.settler(who, [each])
            assert client.bury(each, data, Reason(error)) == (item is not None)
            if item:
                self.model.bury(item, data, error, self.now)

    @precondition(lambda self: self.model.dead)
    @rule(pick=PICK, everything=st.booleans())
    def revive(self, pick, everything):
        names, task_id = list(self.model.dead), None
        if not everything:
            names = [names[pick % len(names)]]
            task_id = self.model.dead[names[0]].task_id
        assert self.client.revive(self.queue, task_id) == self.model.revive(names, self.now)

    @precondition(lambda self: self.model.dead)
    @rule(older_than=st.sampled_from([0.0, 10.0, 3600.0]))
    def purge(self, older_than):
        purged = self.client.purge_dead(self.queue, older_than)
        assert purged == self.model.purge(self.now - older_than)

    # -- Time, and crashes. ---------------------------------------------------------------

    @precondition(lambda self: self.lapses < self.environment.most_lapses)
    @rule(pick=PICK, who=WHO, lease=LEASE, at_once=st.booleans())
    def expire(self, pick, who, lease, at_once):
        running = [i for i in self.model.items.values() if i.state == RUNNING and i.ends > self.now]
        if running:
            self.lapses += 1
            running.sort(key=lambda item: -item.deaths)  # so that some die more than once
            self.environment.end_lease(self, running[pick // 4 % len(running)])
            if at_once:
                self.reserve_now(self.clients[who], 3, self.lease(lease))

    @precondition(lambda self: self.environment.has_fake_clock)
    @rule(seconds=SECONDS, how=st.sampled_from(["pass", "forward", "back"]))
    def tell_time(self, seconds, how):
        if how == "pass":
            self.environment.clock.advance(seconds)
            return
        to = self.offset + (seconds if how == "forward" else -seconds)
        to = min(3600.0, max(-3600.0, to))
        self.environment.clock.step(to - self.offset)
        self.offset = to

    @rule(who=WHO)
    def crash(self, who):
        self.crash_of(self.clients[who])

    # -- Looking. -------------------------------------------------------------------------

    @invariant()
    def one_is_where_it_should_be(self):
        if self.can(GET):
            self.looks += 1
            self.look("abcde"[self.looks % 5], self.looks)

    @precondition(lambda self: self.model.dead)
    @rule()
    def see_the_dead(self):
        self.look_at_the_dead()

    @invariant()
    def counts_agree(self):
        if self.environment.kind.exact:
            stats = self.client.stats(self.queue)
            found = stats.waiting, stats.delayed, stats.running, stats.dead
            assert found == self.model.counts()
            if self.looks % 4 == 0:
                assert self.client.len(self.queue) == stats.waiting + stats.delayed

    # -- The end. -------------------------------------------------------------------------

    def teardown(self):
        try:
            if sys.exc_info()[0] is None:  # else the history has failed already
                self.all_comes_out()
            self.client.drop_all(self.queue)
        finally:
            for each in self.opened:
                each.close()
