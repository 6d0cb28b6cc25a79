"""One line to beanstalkd: greenstalk's client made safe for outages and interruptions."""

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from io import BufferedReader
from typing import TypeVar

import greenstalk

from alligator.backends.beanstalk.protocol import Answer, Reply, read_answer, windows
from alligator.backends.keepalive import keep_alive
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


class Line:
    """A socket that is either in step with the server or closed."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.used = time.monotonic()  # when the server last answered
        self._server: Server | None = None
        self._socket: socket.socket | None = None
        self._reader: BufferedReader | None = None  # empty but within a pipeline

    def connect(self) -> None:
        """Open the socket.

        :raises ConnectionLost: nobody answers there.
        """
        try:
            self._socket = socket.create_connection(self.address, CONNECT_TIMEOUT)
            self._socket.settimeout(REPLY_TIMEOUT)
            keep_alive(self._socket)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._server = greenstalk.Client(self._socket, encoding=None)
            self._reader = self._socket.makefile("rb")
        except (OSError, ValueError) as err:
            self.drop()
            host, port = self.address
            raise ConnectionLost(f"beanstalkd at {host}:{port} is out of reach: {err}") from err

    def drop(self) -> None:
        """Close the socket; the server puts back what it held."""
        server, self._server = self._server, None
        sock, self._socket = self._socket, None
        reader, self._reader = self._reader, None
        for each in (reader, server):
            if each is not None:
                with contextlib.suppress(OSError, ValueError):
                    each.close()
        if sock is not None:
            sock.close()

    def abandon(self) -> None:
        """Close this process's copy of an inherited socket; the parent's stays open."""
        # Finalizing a reader could wait for a parent's thread.
        _abandoned.append((self._server, self._reader))
        sock, self._socket, self._server, self._reader = self._socket, None, None, None
        if sock is not None:
            with contextlib.suppress(OSError):
                os.close(sock.detach())

    def alive(self) -> bool:
        """Whether it is open; one that the server closed meanwhile is dropped here."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if poll.poll(0):  # nothing is due on an idle line but its end
            self.drop()
        return self._socket is not None

    def pipeline(self, commands: Sequence[bytes], *, until_refused: bool = False) -> list[Answer]:
        """Send many commands in one write (or a few) and return the answer to each.

        :param until_refused: send nothing after a write of which a command was refused; then
            there are fewer answers than commands.
        :raises ConnectionLost: what became of any of them is unknown.
        """
        answers: list[Answer] = []

        def exchange(_: Server) -> None:
            assert self._socket is not None
            assert self._reader is not None
            came: list[Answer] = []
            for window in windows(commands):
                if until_refused and not all(type(each) is Reply for each in came):
                    return
                self._socket.sendall(b"".join(window))
                came = [read_answer(self._reader) for _ in window]
                answers.extend(came)

        self.call(exchange)
        return answers

    def call(self, command: Callable[[Server], T]) -> T:
        """Send one command. Its refusals pass; anything else leaves the line unusable.

        :raises greenstalk.BeanstalkdError: the server's answer to this command.
        :raises ConnectionLost: no answer, or one that cannot be read.
        """
        if self._server is None:
            raise ConnectionLost("The connection to beanstalkd was closed meanwhile.")
        try:
            reply = command(self._server)
        except greenstalk.BeanstalkdError:
            self.used = time.monotonic()
            raise
        except (OSError, greenstalk.Error, AssertionError, ValueError, IndexError) as err:
            self.drop()
            raise ConnectionLost(f"The connection to beanstalkd broke: {err!r}") from err
        except BaseException:  # interrupted half-way: the reply would be taken for the next one's
            self.drop()
            raise
        self.used = time.monotonic()
        return reply


def is_cut(err: ConnectionLost) -> bool:
    """Whether the line broke, rather than that the reply took too long or was a refusal."""
    return isinstance(err.__cause__, OSError) and not isinstance(err.__cause__, TimeoutError)


_abandoned: list[tuple[Server | None, BufferedReader | None]] = []


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
