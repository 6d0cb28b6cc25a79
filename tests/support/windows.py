"""Run Python as it is on Windows, as far as a Unix can show it: ``-m tests.support.windows ARGS``.

What Windows does not have is taken away, before Alligator is imported: forks, FIFOs, masks of
signals and most signals, ``poll``, and the modules that only a Unix has. The standard library is
imported first, and keeps what it needs. What cannot be shown: that files which are open cannot be
deleted there, that only sockets can be waited for, and how the console sends Ctrl-C.

As a program it is ``latergator.py`` with these arguments.
"""

import asyncio
import concurrent.futures.thread
import ctypes
import http.server
import inspect
import logging.handlers
import multiprocessing.popen_spawn_posix
import multiprocessing.spawn
import os
import platform
import select
import selectors
import shutil
import signal
import socketserver
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
import uuid
import zoneinfo

#: What has to be imported before anything is taken away.
FIRST = (
    *(asyncio, concurrent.futures.thread, ctypes, http.server, inspect, logging.handlers),
    *(
        multiprocessing.popen_spawn_posix,
        multiprocessing.spawn,
        platform,
        selectors,
        shutil,
        socketserver,
        sqlite3,
        ssl,
    ),
    *(subprocess, tempfile, traceback, urllib.request, uuid, zoneinfo),
)

SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}

GONE = {
    signal: (
        *("alarm", "setitimer", "getitimer", "pause", "siginterrupt", "pthread_kill"),
        *("pthread_sigmask", "sigpending", "sigwait", "sigwaitinfo", "sigtimedwait"),
        *("SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK", "pidfd_send_signal"),
    ),
    select: ("poll", "epoll", "kqueue", "POLLIN", "POLLOUT"),
    os: (
        *("fork", "forkpty", "register_at_fork", "posix_spawn", "setsid", "killpg", "getpgid"),
        *("wait", "wait3", "wait4", "WNOHANG", "nice", "pidfd_open", "sched_getaffinity"),
        *("getuid", "geteuid", "getgid", "getegid", "setuid", "setgid", "chown", "fchown"),
        *("lchown", "fchmod", "mkfifo", "mknod", "major", "minor", "openpty", "ttyname"),
        *("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_DIRECTORY", "set_blocking", "get_blocking"),
        *("statvfs", "fdatasync", "sync", "pread", "pwrite", "posix_fallocate", "eventfd"),
        *("memfd_create", "uname", "sysconf", "confstr", "getloadavg"),
    ),
    time: ("pthread_getcpuclockid", "clock_gettime", "CLOCK_MONOTONIC", "CLOCK_REALTIME", "tzset"),
}

MODULES = ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "readline")


def simulate() -> None:
    """Take away, in this process, what Windows does not have."""
    disk_usage = shutil.disk_usage(os.curdir)  # asks the system by a name that goes
    shutil.disk_usage = lambda path: disk_usage
    for name in dir(signal):
        if name.startswith("SIG") and name.isupper() and name not in SIGNALS:
            delattr(signal, name)
    for module, names in GONE.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment] - an import of it fails


if __name__ == "__main__":
    simulate()
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    from alligator.cli import main

    sys.exit(main())
