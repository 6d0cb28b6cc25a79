"""Adapt each compared library: one folder, one adapter, one virtual environment each.

An adapter runs in the environment of its library, so nothing else imports it. It has:

* ``IMPORT``: the name of the module whose import is timed.
* ``SETTINGS``: how its worker is run, in a few words for the documentation.
* ``setup()``: what a producer does first; may be ``async``.
* ``enqueue(count)``: push ``chosen(1, 'abc', x=2)``, one call after the other; may be ``async``.
* ``enqueue_bulk(count)``: the same with the library's call for many; only if it has one.
* ``worker(processes, concurrency)``: the commands that start its worker; the last parts of an
  argv, the first being the name of a script or ``-m`` for the interpreter.
"""
