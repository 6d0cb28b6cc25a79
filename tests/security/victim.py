"""Be a module like those of users: its own tasks, and imports for its own use."""

import ctypes
import functools
import os as operating_system
import subprocess
from os import system
from pathlib import Path
from shutil import rmtree
from subprocess import run
from threading import Thread

from tests.support.jobs import note as borrowed

called = []


def honest(*args, **kwargs):
    called.append((args, kwargs))
    return "done"


def _private(*args):
    called.append(args)


public = _private
partial = functools.partial(subprocess.run)
innocent_partial = functools.partial(honest, 1)
shell = subprocess
method = Path.unlink
runner = Path(__file__).read_text


@functools.lru_cache
def cached(number):
    return number


decorated_run = functools.lru_cache(subprocess.run)


class Mailer:
    def __init__(self, *args):
        called.append(("class", args))

    def __call__(self, *args):
        called.append(("instance", args))

    def later(self, *args):
        called.append(("later", args))

    @staticmethod
    def send(*args):
        called.append(("send", args))
        return "sent"

    popen = staticmethod(operating_system.popen)


class Address(ctypes.c_char_p):
    """Inherits ``from_address``, which reads memory anywhere."""


class Job(Thread):
    """Inherits ``run``, ``start`` and more from another module."""


mailer = Mailer()
called.clear()
imported = (system, rmtree, run, borrowed)
