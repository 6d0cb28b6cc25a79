"""What the parts of the contract suite share: the helpers they call, by signature."""

from collections.abc import Callable
from typing import ClassVar

from alligator.backends.base import Client, Data, Delivery


class ContractHelpers:
    """Implemented in :class:`alligator.testing.BackendContract`."""

    short_lease: ClassVar[float]
    has_exact_counts: ClassVar[bool]
    keeps_order: ClassVar[bool]
    client: Client
    queue: str
    another_client: Callable[[], Client]
    make_queue: Callable[[], str]
    supports: Callable[..., bool]
    needs: Callable[..., None]
    push: Callable[..., list[str]]
    reserve: Callable[..., list[Delivery]]
    reserve_one: Callable[..., Delivery]
    reserve_soon: Callable[..., Delivery]
    drain: Callable[[], list[Data]]
    eventually: Callable[..., None]
