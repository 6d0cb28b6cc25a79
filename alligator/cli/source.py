"""Build the Gator that a command line names, and load the classes of the user's own."""

import argparse
import os
import sys
from typing import Any

from alligator.backends.dsn import mask_password
from alligator.common.importing import import_attr
from alligator.constants import ALL
from alligator.exceptions import InvalidTask
from alligator.gator import Gator, reconfigure
from alligator.tasks.functions import split_name
from alligator.tasks.task import Task

#: Names the secret keys, separated by spaces or commas; the first signs. It is an environment
#: variable, since every user of a machine can read command lines.
KEYS_VARIABLE = "ALLIGATOR_SECRET_KEYS"


def with_source(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> argparse.Namespace:
    """Refuse a command line that names no queue, and show the usage."""
    if arguments.dsn is None and arguments.app is None:
        parser.print_usage(sys.stderr)
        raise InvalidTask("Give a DSN such as redis://localhost:6379/0, or --app.")
    return arguments


def check_exists(gator: Gator) -> None:
    """Refuse a file that does not exist: to look at a queue must not create one."""
    for client in (gator.client, gator.store.home if gator.store else None):
        if client is not None:
            client.check_exists()


def gator_of(arguments: argparse.Namespace) -> Gator:
    """Return the Gator of a DSN, or of the application.

    :raises InvalidTask, InvalidDSN: the arguments name none, or contradict each other.
    """
    task_class = load(arguments.task, Task, "--task") if arguments.task else Task
    allowed = getattr(arguments, "allow", None)
    if arguments.app is None:
        return Gator(
            arguments.dsn,
            arguments.queue[0] if arguments.queue else ALL,
            task_class,
            store=arguments.store,
            allowed=allowed,
            secret_keys=_keys(),
        )
    if arguments.store is not None:
        raise InvalidTask("--app names a Gator; its store goes there: Gator(…, store=…).")
    gator = import_attr(*_split(arguments.app, "--app"))
    if not isinstance(gator, Gator) and hasattr(gator, "for_command_line"):
        gator = gator.for_command_line()  # that of Django's settings
    if not isinstance(gator, Gator):
        raise InvalidTask(f"--app {arguments.app} is no Gator but a {type(gator).__name__}.")
    if arguments.dsn is not None and arguments.dsn != gator.conn_string:
        given = mask_password(arguments.dsn)
        raise InvalidTask(f"--app names a Gator, and {given} another one; give one of the two.")
    if arguments.task:
        gator.task_class = task_class
    if arguments.queue:
        gator.queue_name = arguments.queue[0]
    reconfigure(gator, allowed=allowed, secret_keys=None if gator.signer else _keys())
    return gator


def _keys() -> list[str] | None:
    """Return the secret keys of the environment; None: it names none."""
    if KEYS_VARIABLE not in os.environ:
        return None
    keys = os.environ[KEYS_VARIABLE].replace(",", " ").split()
    if not keys:
        raise InvalidTask(f"{KEYS_VARIABLE} is set, and empty; unset it, or give it a key.")
    return keys


def _split(name: str, flag: str) -> tuple[str, str]:
    if ":" not in name:
        raise InvalidTask(f"{flag} {name} is not module:name, such as myapp.queues:gator.")
    return split_name(name)


def load(name: str, base: type, flag: str) -> Any:
    """Return a class of the user's own.

    :param name: ``'module:name'``.
    :raises InvalidTask: it is not a subclass of ``base``.
    """
    found = import_attr(*_split(name, flag))
    if not isinstance(found, type) or not issubclass(found, base):
        raise InvalidTask(f"{flag} {name} is not a subclass of alligator.{base.__name__}.")
    return found


def without_dsn(arguments: argparse.Namespace) -> argparse.Namespace:
    """With --app, read the first positional argument as an id, or a target, and not as a DSN."""
    if arguments.app and "ids" in arguments and "://" not in (arguments.dsn or "://"):
        arguments.ids.insert(0, arguments.dsn)
        arguments.dsn = None
    if arguments.app and "target" in arguments and arguments.target is None:
        arguments.target, arguments.dsn = arguments.dsn, None
    return arguments


def _with_source(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> argparse.Namespace:
    """Refuse a command line that names no queue, and show the usage."""
    if arguments.dsn is None and arguments.app is None:
        parser.print_usage(sys.stderr)
        raise InvalidTask("Give a DSN such as redis://localhost:6379/0, or --app.")
    return arguments


def queues_of(gator: Gator, arguments: argparse.Namespace) -> list[str]:
    """Return the queues that a command is about, once each is known to have a valid name."""
    queues = arguments.queue or [gator.queue_name]
    for name in queues:
        gator.client.check_queue_name(name)
    return list(queues)
