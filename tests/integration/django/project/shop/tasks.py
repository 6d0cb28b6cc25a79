"""Tasks; each line that they note goes to a file that the tests read."""

import os
import signal
import time

from django.conf import settings
from django.db import connection
from django.db.backends.signals import connection_created

from shop.models import Order

NAMES = []


def note(text):
    with (settings.FOLDER / "notes").open("a") as file:
        file.write(f"{text}\n")


def remember(name):
    NAMES.append(name)
    return name


def fail():
    raise ValueError("it fails")


def order(name):
    Order.objects.create(name=name)
    note(f"{name} {Order.objects.count()} {os.getpid()}")
    return name


async def aorder(name):
    await Order.objects.acreate(name=name)
    note(f"{name} {await Order.objects.acount()}")
    return name


def note_queries():
    note(f"queries {len(connection.queries)}")


def note_connection(**_given):
    note("connected")


connection_created.connect(note_connection)


def lose_connection():
    """Close what the driver has, as a server that goes away does, while it is used."""
    Order.objects.count()
    connection.connection.close()
    note("lost")
    Order.objects.count()


def close_quietly():
    """Close what the driver has; no error tells Django."""
    connection.ensure_connection()
    connection.connection.close()
    note("closed")


async def aclose_quietly():
    from asgiref.sync import sync_to_async

    await sync_to_async(close_quietly)()


async def alose_connection():
    from asgiref.sync import sync_to_async

    await sync_to_async(lose_connection)()


def hook(task, result):
    if result == "lose":
        lose_connection()
    note(f"hook {result} {Order.objects.count()}")


def until_told(name):
    """Run until a file is there: longer than any grace."""
    note(f"started {name} {os.getpid()}")
    while not (settings.FOLDER / "go").exists():
        time.sleep(0.05)
    note(f"ended {name}")
    return name


def version():
    from shop import text

    note(f"version {text.VERSION}")


def kill_once():
    marker = settings.FOLDER / "killed"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    order("after a kill")
