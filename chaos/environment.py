"""Start a backend for one loop to break: a server on loopback, or a file."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from alligator import Gator
from tests.support.servers import redis as redis_servers
from tests.support.servers.beanstalk import Beanstalkd
from tests.support.servers.process import Server
from tests.support.servers.proxy import Proxy
from tests.support.servers.sqs import CREDENTIALS, MotoServer


@dataclass
class Environment:
    """Hold the backend of one loop. ``lease`` is the shortest that works well there, in seconds."""

    name: str
    dsn: str
    folder: Path
    lease: float = 1.0
    server: Server | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """The port on which the server listens."""
        return urlsplit(self.dsn).port or 0

    def through(self, proxy: Proxy) -> str:
        """Return the DSN that leads through a proxy."""
        return self.dsn.replace(f":{self.port}/", f":{proxy.port}/")

    def gator(self, queue: str | None = None, **options: Any) -> Gator:
        """Return a Gator on a queue of its own, and create the queue where SQS needs that."""
        gator = Gator(self.dsn, queue or f"chaos-{uuid.uuid4().hex[:8]}", **options)
        if self.name == "sqs":
            for name in (gator.queue_name, f"{gator.queue_name}-dead"):
                gator.client.conn.create_queue(QueueName=name)
        return gator


@contextmanager
def open_environment(name: str, folder: Path) -> Iterator[Environment]:
    """Start the server of a backend, durable if that can be chosen, and stop it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "sqlite":
        yield Environment(name, f"sqlite://{folder}/queue.db", folder)
    elif name == "redis":
        started = redis_servers.start(folder, "--appendonly", "yes", "--appendfsync", "always")
        try:
            yield Environment(name, started.dsn, folder, server=started.server)
        finally:
            started.stop()
    elif name == "beanstalk":
        server = Beanstalkd(folder, binlog=True).start()
        try:
            yield Environment(name, f"{server.dsn}?ttr=2", folder, lease=2.0, server=server)
        finally:
            server.stop()
    elif name == "sqs":
        moto = MotoServer(folder).start()
        os.environ.update(CREDENTIALS)
        try:
            yield Environment(name, moto.dsn, folder, lease=4.0, server=moto, variables=CREDENTIALS)
        finally:
            moto.stop()
    else:
        raise ValueError(f"{name!r} is not sqlite, redis, beanstalk or sqs")
