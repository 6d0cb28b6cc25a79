"""Keep queues and outcomes on servers, in files and in memory, behind one contract.

:func:`client_class` finds the client for a DSN. Drivers are imported only when a DSN asks for them.
A third party's backend can register under the entry-point group ``alligator.backends``, named by
its scheme. The contract of clients is in ``base``, that of stores in ``store``, and the values that
both take and return are in ``types``; each backend has a package, and ``<scheme>_backend.Client``.

Imports: ``alligator.security``, ``alligator.common`` and below; no backend imports another.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from alligator.backends.dsn import mask_password
from alligator.exceptions import InvalidDSN, MissingDriver

__all__ = ["client_class", "known_schemes", "mask_password"]

ENTRY_POINT_GROUP = "alligator.backends"

_REDIS = "redis_backend"
_BUILT_IN = {
    "locmem": "locmem_backend",
    "sqlite": "sqlite_backend",
    "redis": _REDIS,
    "rediss": _REDIS,
    "redis+unix": _REDIS,
    "redis+sentinel": _REDIS,
    "rediss+sentinel": _REDIS,
    "redis+cluster": _REDIS,
    "rediss+cluster": _REDIS,
    "valkey": _REDIS,
    "valkeys": _REDIS,
    "beanstalk": "beanstalk_backend",
    "sqs": "sqs_backend",
}

#: Driver module → the extra of this package that installs it.
_EXTRAS = {"redis": "redis", "greenstalk": "beanstalk", "boto3": "sqs", "botocore": "sqs"}


def known_schemes() -> list[str]:
    """Return the schemes that a DSN may begin with, those of other packages included."""
    return sorted({*_BUILT_IN, *(point.name for point in _registered())})


def _registered() -> Iterable[Any]:
    from importlib.metadata import entry_points  # it takes longer than the rest together

    return entry_points(group=ENTRY_POINT_GROUP)


def client_class(conn_string: str) -> Any:
    """Return the class of client for a DSN.

    :raises InvalidDSN: no scheme, or one that no package registered.
    :raises MissingDriver: the scheme is known, its driver is not installed.
    """
    if not isinstance(conn_string, str):
        raise InvalidDSN(f"A DSN is text such as 'redis://localhost:6379/0', not {conn_string!r}.")
    scheme, separator, _ = conn_string.partition("://")
    if separator and scheme in _BUILT_IN:
        return _import_built_in(_BUILT_IN[scheme])
    for point in _registered():
        if separator and point.name == scheme:
            return point.load()
    known = ", ".join(f"{name}://" for name in known_schemes())
    raise InvalidDSN(
        f"DSN {mask_password(conn_string)!r} begins with none of the known schemes: {known}."
    )


def _import_built_in(module: str) -> Any:
    try:
        return import_module(f"alligator.backends.{module}").Client
    except ModuleNotFoundError as err:
        extra = _EXTRAS.get((err.name or "").partition(".")[0])
        if extra is None:
            raise
        raise MissingDriver(
            f"Package {err.name!r} is not installed; pip install 'alligator[{extra}]' brings it."
        ) from err
