"""Speak to beanstalkd over one socket: greenstalk's client, safe for outages and interruptions."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from io import BufferedReader
from typing import TypeVar

import greenstalk

from alligator.backends.beanstalk.protocol import Answer, Reply, read_answer, windows
from alligator.backends.keepalive import keep_alive
from alligator.common.descriptors import note_socket, readable
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    InvalidTask,
    QueueFull,
    UnsupportedOption,
)

Server = greenstalk.Client[bytes]
T = TypeVar("T")

CONNECT_TIMEOUT = 5.0
REPLY_TIMEOUT = 10.0


class Socket:
    """A socket that is either in step with the server or closed.

    :param on_close: called whenever it was closed, for whatever reason.
    """

    def __init__(self, address: tuple[str, int], on_close: Callable[[], None]) -> None:
        self.address, self._on_close = address, on_close
        self.last_reply = time.monotonic()
        self.raw: socket.socket | None = None
        self._server: Server | None = None
        self._reader: BufferedReader | None = None  # empty except within a pipeline

    def connect(self) -> None:
        """Open the socket.

        :raises ConnectionLost: no server answers there.
        """
        try:
            self.raw = socket.create_connection(self.address, CONNECT_TIMEOUT)
            note_socket(self.raw)
            self.raw.settimeout(REPLY_TIMEOUT)
            keep_alive(self.raw)
            self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._server = greenstalk.Client(self.raw, encoding=None)
            self._reader = self.raw.makefile("rb")
        except (OSError, ValueError) as err:
            self.close()
            host, port = self.address
            raise ConnectionLost(f"Cannot reach beanstalkd at {host}:{port}: {err}") from err

    def close(self) -> None:
        """Close the socket; the server then releases the jobs reserved over it."""
        server, self._server = self._server, None
        sock, self.raw = self.raw, None
        reader, self._reader = self._reader, None
        for each in (reader, server):
            if each is not None:
                with contextlib.suppress(OSError, ValueError):
                    each.close()
        if sock is not None:
            sock.close()
        self._on_close()

    def close_inherited(self) -> None:
        """Close this process's copy of an inherited socket; the parent's stays open."""
        # Finalizing a reader could wait for a parent's thread.
        _inherited.append((self._server, self._reader))
        sock, self.raw, self._server, self._reader = self.raw, None, None, None
        if sock is not None:
            with contextlib.suppress(OSError):
                os.close(sock.detach())
        self._on_close()

    def is_alive(self) -> bool:
        """Whether it is open; close it if the server has closed its end."""
        if self.raw is None:
            return False
        if self.raw.fileno() < 0:  # other code has closed it; see note_socket
            self.close()
            return False
        if readable([self.raw], 0):  # an idle socket has nothing to read except its end
            self.close()
        return self.raw is not None

    def pipeline(self, commands: Sequence[bytes], *, until_refused: bool = False) -> list[Answer]:
        """Send many commands in one write (or a few) and return the answer to each.

        :param until_refused: send nothing after a write of which a command was refused; then
            there are fewer answers than commands.
        :raises ConnectionLost: it is unknown which of them took effect.
        """
        answers: list[Answer] = []

        def exchange(_: Server) -> None:
            assert self.raw is not None
            assert self._reader is not None
            last: list[Answer] = []
            for window in windows(commands):
                if until_refused and not all(type(each) is Reply for each in last):
                    return
                self.raw.sendall(b"".join(window))
                last = [read_answer(self._reader) for _ in window]
                answers.extend(last)

        self.call(exchange)
        return answers

    def call(self, command: Callable[[Server], T]) -> T:
        """Send one command. Raise its refusal; after any other error the socket is closed.

        :raises greenstalk.BeanstalkdError: the server's answer to this command.
        :raises ConnectionLost: no answer, or one that cannot be read.
        """
        if self._server is None:
            raise ConnectionLost("The connection to beanstalkd was closed meanwhile.")
        try:
            reply = command(self._server)
        except greenstalk.BeanstalkdError:
            self.last_reply = time.monotonic()
            raise
        except (OSError, greenstalk.Error, AssertionError, ValueError, IndexError) as err:
            self.close()
            raise ConnectionLost(f"The connection to beanstalkd broke: {err!r}") from err
        except BaseException:  # interrupted half-way: the next command would read this reply
            self.close()
            raise
        self.last_reply = time.monotonic()
        return reply


def is_broken(err: ConnectionLost) -> bool:
    """Whether the connection broke; False: the reply took too long, or was a refusal."""
    return isinstance(err.__cause__, OSError) and not isinstance(err.__cause__, TimeoutError)


_inherited: list[tuple[Server | None, BufferedReader | None]] = []


def translated(err: greenstalk.BeanstalkdError) -> AlligatorException:
    """Return a refusal of the server as an error of ours."""
    said = type(err).__name__.removesuffix("Error")
    if isinstance(
        err, greenstalk.OutOfMemoryError | greenstalk.DrainingError | greenstalk.BuriedError
    ):
        return QueueFull(f"beanstalkd takes no more tasks ({said}).")
    if isinstance(err, greenstalk.JobTooBigError):
        return InvalidTask("The task is larger than this beanstalkd takes (its option -z).")
    if isinstance(err, greenstalk.UnknownCommandError):
        return UnsupportedOption("This beanstalkd is too old for that; version 1.12 can do it.")
    return ConnectionLost(f"beanstalkd refused the command ({said}).")
