"""Take Redis away for long: the workers stay, retry rarely, and go on once it is back."""

import time

from chaos.environment import Environment
from chaos.load import Load
from chaos.rows import Row
from tests.support.servers.proxy import Proxy

BACKENDS = ("redis",)
FULL = 60  # seconds
SMALL = 3

RESUMED = 8.0  # seconds: the longest pause of a worker, and a slow machine


def run(environment: Environment, size: int) -> Row:
    """Take the server away for so many seconds; recovery is the time until both workers go on."""
    began = time.monotonic()
    with (
        Proxy(environment.port) as proxy,
        Load(environment, lease=2.0, workers_dsn=environment.through(proxy)) as load,
    ):
        load.progress(0, by_all=True)
        gone_at, tries = time.time(), proxy.accepted
        environment.server.kill()
        time.sleep(size)
        tries = proxy.accepted - tries
        since = load.size()
        environment.server.start()
        back_at = time.time()
        recovery = load.progress(since, by_all=True)
        load.drain()
        row = load.row("redis outage", [(gone_at, back_at)])
    row.recovery, row.seconds = [recovery], time.monotonic() - began
    row.note = f"{size} s, {tries} tries to connect; {row.note}"
    row.wrong += _wrong(size, tries, recovery, load)
    return row


def _wrong(size: int, tries: int, recovery: float, load: Load) -> list[str]:
    wrong = []
    # In each of two workers at most two threads retry: six times in the first three seconds, then
    # every 2.5 to 5 s. The first round includes the tasks that ran just then. Each try connects
    # twice: the proxy accepts the connection and closes it, as a restarting server does.
    if tries > 2 * (2 * 2 * (6 + size / 2.5) + 20):
        wrong.append(f"{tries} tries to connect in {size} s")
    if tries < 4:
        wrong.append(f"only {tries} tries to connect: was it away at all?")
    if recovery > RESUMED:
        wrong.append(f"the workers went on {recovery:.1f} s after its return")
    if not load.refused:
        wrong.append("no push was refused: was it away at all?")
    wrong += [f"said {each!r}" for each in load.changes() if each != "-+"]
    return wrong
