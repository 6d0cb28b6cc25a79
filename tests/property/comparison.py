"""Run operations on a backend and on the model, and compare the results."""

from alligator.backends.base import GET, PRIORITY, Message
from alligator.constants import DELAYED, RUNNING, WAITING
from tests.property.reference_model import Model, name_of


def is_among(delivery, others):
    """Whether this very delivery is among them: equal ones may be two leases."""
    return any(delivery is other for other in others)


class Comparison:
    """Hold one queue, two clients, and the model that predicts the outcome."""

    def __init__(self, environment):
        self.environment, self.queue = environment, environment.queue
        self.model = Model(environment.kind)
        self.clients = [environment.open(), environment.open()]
        self.opened = list(self.clients)
        environment.prepare(self.clients[0])
        self.deliveries = []  # all there ever were: any of them may turn up again
        self.owners = {}
        self.counter = self.lapses = self.looks = 0
        self.offset = 0.0  # of the wall clock, by steps

    @property
    def client(self):
        return self.clients[0]

    @property
    def now(self):
        return self.environment.now()

    # -- What is made up, and picked. -----------------------------------------------------

    def can(self, what):
        return what in self.client.supports

    def owner(self, delivery):
        """The client that reserved it."""
        return self.owners[id(delivery)]

    def message(self, name, priority, when):
        if self.environment.kind.ids != "own":
            self.counter += 1
            name = f"t{self.counter}"
        priority = priority if self.can(PRIORITY) else 0
        return Message(name, self.data(name), self.due(when), priority)

    def data(self, name):
        """Data like no other, text or bytes."""
        self.counter += 1
        text = f"{name}.{self.counter}"
        return text if self.counter % 3 else text.encode()

    def due(self, when):
        if not when:
            return None
        return self.now + self.environment.delays[when % len(self.environment.delays)]

    def lease(self, number):
        return self.environment.leases[number % len(self.environment.leases)]

    def picked(self, picks):
        """Deliveries to settle, mostly such as hold their task; some that were overtaken.

        Those of one client, where no other may settle them.
        """
        held = [item.holder for item in self.model.items.values() if item.state == RUNNING]
        found = []
        for pick in sorted(picks):
            those = held if pick < 12 and held else self.deliveries
            each = those[-1 - pick % len(those)] if those else None
            if each and not self.model.is_adrift(each) and not is_among(each, found):
                found.append(each)
        if not self.environment.kind.portable:
            found = [each for each in found if self.owner(each) is self.owner(found[0])]
        return found

    def settler(self, who, deliveries):
        """The client to settle them."""
        if self.environment.kind.portable or not deliveries:
            return self.clients[who]
        return self.owner(deliveries[0])

    def known(self, name, pick):
        """A name, and the id that it goes by."""
        if self.environment.kind.ids != "own":
            there = [item for item in self.model.items.values() if item.task_id]
            if not there:
                return "never-heard-of", "4711"
            name = there[pick % len(there)].name
            return name, self.model.items[name].task_id
        return name, name

    # -- Done, and compared. --------------------------------------------------------------

    def note_push(self, one, task_id):
        if self.environment.kind.ids == "own":
            assert task_id == one.task_id
        self.model.push(one.task_id, one.data, one.delay_until, one.priority, self.now, task_id)

    def reserve_now(self, client, limit, lease, acks=()):
        now = self.now
        found, refused = client.reserve([self.queue], limit, lease, acks=acks)
        self.note_acks(acks, refused)
        self.keep(client, found)
        self.model.reserved(found, limit, lease, now, self.is_running)
        return found

    def is_running(self, name):
        return self.client.find(self.queue, name).state == RUNNING

    def keep(self, client, found):
        self.deliveries += found
        self.owners.update((id(each), client) for each in found)

    def note_acks(self, deliveries, refused):
        for each in deliveries:
            was_refused = is_among(each, refused)
            if item := self.model.held(each):
                assert not was_refused, f"{item} was held"
                self.model.settle(item, self.now)
            elif not (self.environment.kind.remembers and id(each) in self.model.settled):
                assert was_refused, f"{each} was overtaken"

    def hand_back(self, delivery, client, is_retry=False, due=None):
        item = self.model.held(delivery)
        must = item is not None and not item.has_place  # it has none to go back to
        data = self.data(name_of(delivery.data)) if is_retry or must else None
        assert client.release(delivery, data, due) == (item is not None)
        if item:
            self.model.release(item, data, due, self.now)

    def extend(self, client, deliveries, lease):
        now, lost = self.now, client.extend(deliveries, lease)
        for each in deliveries:
            item = self.model.held(each)
            assert is_among(each, lost) == (item is None)
            if item:
                item.ends = now + lease

    def crash_of(self, client):
        """A client is gone, with all it had reserved; a new one comes."""
        client.close()
        self.clients[self.clients.index(client)] = new = self.environment.open()
        self.opened.append(new)
        self.environment.closed(self, client)

    def look(self, name, pick):
        name, task_id = self.known(name, pick)
        state, least, most = self.model.find(name)
        place = self.client.find(self.queue, task_id)
        assert (place and place.state) == state
        item, letter = self.model.items.get(name), self.model.dead.get(name)
        if state == WAITING and place.ahead is not None:
            assert least <= place.ahead <= most
        if state == DELAYED:
            assert abs(place.due - item.due) < 1.5
        kept = item or letter
        assert self.client.peek(self.queue, task_id) == (kept and kept.data)

    def look_at_the_dead(self):
        found = [(each.data, each.error) for each in self.client.dead(self.queue)]
        wanted = [(each.data, each.error) for each in reversed(self.model.dead.values())]
        if not self.environment.kind.in_order:
            found.sort(key=repr)
            wanted.sort(key=repr)
        assert found == wanted

    def all_comes_out(self):
        """Nothing is lost, nothing is there twice."""
        self.environment.to_the_end()
        for item in list(self.model.items.values()):
            if item.state == RUNNING and item.ends > self.now:
                self.hand_back(item.holder, self.owner(item.holder))
        while found := self.reserve_now(self.client, 3, self.lease(0)):
            self.note_acks(found, self.client.ack(found))
        for item in list(self.model.items.values()):
            assert item.state == DELAYED, f"{item} was lost"
            if self.can(GET) and item.task_id:
                assert self.client.get(self.queue, item.task_id) == item.data
                self.model.settle(item, self.now)
        stats = self.client.stats(self.queue)
        assert stats.waiting + stats.delayed + stats.running == len(self.model.items)
        if self.model.dead or self.environment.kind.exact:  # on SQS a look for nothing takes long
            self.look_at_the_dead()
