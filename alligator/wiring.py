"""What a Gator is made of, and how its parts get at each other."""

from collections.abc import Callable, Sequence
from typing import Any

from alligator.backends import client_class
from alligator.backends.base import OWN_ID, Client
from alligator.backends.dsn import mask_password
from alligator.backends.legacy import LegacyClient
from alligator.backends.store import Store
from alligator.common.clock import Clock, SystemClock
from alligator.constants import ALL
from alligator.exceptions import InvalidDSN
from alligator.producer.bridge import between
from alligator.results.query import Results
from alligator.results.records import Recorder
from alligator.security.policy import Policy
from alligator.security.signing import Signer
from alligator.tasks.codec import Codec
from alligator.tasks.molds import Mold
from alligator.tasks.parent_ids import KeptParents, load
from alligator.tasks.task import Task
from alligator.tasks.usual import Usual


class Wiring:
    """See :class:`alligator.Gator`, which says what the parameters are."""

    def __init__(
        self,
        conn_string: str,
        queue_name: str = ALL,
        task_class: type[Task] = Task,
        backend_class: Callable[..., Any] | None = None,
        *,
        store: str | Store | None = None,
        allowed: Sequence[str] | None = None,
        secret_keys: Sequence[str | bytes] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.conn_string = conn_string
        self.queue_name = queue_name
        self.task_class = task_class
        self.backend_class = backend_class
        self.policy = Policy(allowed)
        self._codec: tuple[tuple[Any, ...], Codec] | None = None
        self.signer = None if secret_keys is None else Signer(secret_keys)
        self._usual = Usual(self.policy)
        self._given_clock = clock
        self.clock: Clock = clock or SystemClock()
        self.backend: Any = self.build_backend(conn_string)
        #: The backend with the full contract, whatever it has of its own.
        self.client: Client = (
            self.backend if isinstance(self.backend, Client) else LegacyClient(self.backend)
        )
        self.client.check_queue_name(queue_name)
        #: Where outcomes are kept; None: nowhere.
        self.store: Store | None = self.client.store if store is None else self._store_at(store)
        self.elsewhere = between(self.client, self.store)
        self._make_parts()

    def _make_parts(self) -> None:
        """Make what knows the whole of a Gator; called at the end of its construction."""

    def __repr__(self) -> str:
        return f"<Gator {mask_password(self.conn_string)} {self.queue_name!r}>"

    def build_backend(self, conn_string: str) -> Any:
        """Return a new client for a DSN.

        ::

            backend = gator.build_backend('locmem://')
        """
        factory = self.backend_class or client_class(conn_string)
        ours = isinstance(factory, type) and issubclass(factory, Client)
        if ours and self._given_clock is not None:
            return factory(conn_string, clock=self._given_clock)
        return factory(conn_string)

    def _store_at(self, place: str | Store) -> Store:
        if isinstance(place, Store):
            return place
        client = client_class(place)(place, clock=self._given_clock)
        store: Store | None = getattr(client, "store", None)
        if store is None:
            raise InvalidDSN(f"{mask_password(place)} is no store; locmem, sqlite and redis are.")
        return store

    @property
    def recorder(self) -> Recorder:
        """How outcomes are put on record here."""
        return Recorder(self.client, self.store, self.clock, self.signer, self.elsewhere)

    @property
    def results(self) -> Results:
        """What can be said of tasks after they were pushed."""
        return Results(self.recorder, self.queue_name)

    @property
    def codec(self) -> Codec:
        """How tasks are written and read here."""
        if self._usual.policy is not self.policy:
            self._usual = Usual(self.policy)
        made, of_what = self._codec, (self.task_class, self.policy, self.signer, self.client)
        if made is None or made[0] != of_what:  # each of them may be replaced
            own_ids, parents = OWN_ID in self.client.supports, self._load_parents
            about = self.task_class, self.policy, self.signer, own_ids, self._usual, parents
            made = self._codec = of_what, Codec(*about)
        return made[1]

    def _load_parents(self, task_id: str, kept: KeptParents) -> list[str]:
        return load(self.store, task_id, kept)

    def mold(self, options: dict[str, Any]) -> Mold:
        """Return what makes new tasks of this Gator's class, with checked options."""
        return Mold(self.task_class, options)
