"""Runs rows: pass by pass, the libraries in turn, so that a machine's drift hits all alike."""

import datetime
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import venvs
from benchmarks.catalog import Peer
from benchmarks.errors import TOO_LONG, NotMeasured
from benchmarks.place import Place
from benchmarks.results import Results
from benchmarks.rows import QUICK, Row, Scale
from tests.support.servers.process import need

Say = Callable[[str], None]


def run(
    rows: Sequence[Row], passes: int, scale: Scale, results: Results, file: Path, say: Say
) -> None:
    """Measure everything, and save what is there after each pass."""
    started = time.monotonic()
    results.about = _about(passes, scale)
    prepare({peer for row in rows for peer in row.peers}, results, say)
    for number in range(passes):
        for row in rows:
            _measure_row(row, number, scale, results, say)
        results.about["minutes"] = f"{(time.monotonic() - started) / 60:.0f}"
        results.save(file)


def prepare(peers: Iterable[Peer], results: Results, say: Say) -> None:
    """Make the environments that are missing, and note versions and settings."""
    for peer in sorted(peers, key=lambda peer: peer.name):
        found = {"versions": venvs.versions(peer.folder)}
        try:
            with Place(peer) as place:
                found["settings"] = place.producer.about["settings"]
        except NotMeasured as err:
            found["settings"] = f"not measured: {_clean(str(err))}"
            say(f"{peer.name}: {found['settings']}")
        results.libraries[peer.name] = found


def _measure_row(row: Row, number: int, scale: Scale, results: Results, say: Say) -> None:
    def measure(peer: Peer) -> None:
        try:
            figures = row.measure(peer, scale)
        except Exception as err:  # one library that fails must not end the others
            results.fail(row.name, peer.name, _why(err))
            say(f"{row.name:<15}{peer.name:<22}not measured: {_why(err)}")
        else:
            results.add(row.name, peer.name, number, figures)
            shown = "  ".join(f"{name} {value:,.4g}" for name, value in figures.items())
            say(f"{row.name:<15}{peer.name:<22}{shown}")

    # Who took too long once is not waited for again.
    late = {name for name, why in results.failures.get(row.name, {}).items() if TOO_LONG in why}
    peers = [peer for peer in row.peers if peer.name not in late]
    random.shuffle(peers)  # so that nobody always follows the same one
    with ThreadPoolExecutor(max(1, len(peers)) if row.together else 1) as pool:
        list(pool.map(measure, peers))


def _why(err: Exception) -> str:
    text = str(err) if isinstance(err, NotMeasured) else f"{type(err).__name__}: {err}"
    return _clean(text)


def _clean(text: str) -> str:
    """Take the places of this machine out of a message, and what no table can hold."""
    text = re.sub(r"\b\w+://\S+", "…", text)
    for place in (str(venvs.HERE.parent), tempfile.gettempdir(), str(Path.home())):
        text = text.replace(place, "…")
    return re.sub(r"\s+", " ", text)[:300]


def _about(passes: int, scale: Scale) -> dict[str, str]:
    server = subprocess.run([need("redis-server"), "--version"], capture_output=True, text=True)
    version = re.search(r"v=(\S+)", server.stdout)
    return {
        "quick": "yes" if scale == QUICK else "",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": str(os.cpu_count()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{sys.platform} {platform.machine()}",
        "redis": version.group(1) if version else "of unknown version",
        "passes": str(passes),
        "scale": f"about {scale.seconds:g} s of work each, {scale.depth:,} tasks at most, "
        f"idle for {scale.idle:g} s, crashes watched for {scale.crash:g} s",
    }
