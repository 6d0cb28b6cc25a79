"""Run the scenarios pass by pass, the libraries in turn, so that drift of the machine hits all."""

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
from benchmarks.catalog import Library
from benchmarks.environment import LibraryEnvironment
from benchmarks.errors import TOO_LONG, NotMeasured
from benchmarks.results import Results
from benchmarks.scenarios import QUICK, Scale, Scenario
from tests.support.servers.process import need

Say = Callable[[str], None]


def run(
    scenarios: Sequence[Scenario], passes: int, scale: Scale, results: Results, file: Path, say: Say
) -> None:
    """Measure everything, and save the results after each pass."""
    started = time.monotonic()
    results.about = _about(passes, scale)
    prepare({library for scenario in scenarios for library in scenario.libraries}, results, say)
    for number in range(passes):
        for scenario in scenarios:
            _measure_scenario(scenario, number, scale, results, say)
        results.about["minutes"] = f"{(time.monotonic() - started) / 60:.0f}"
        results.save(file)


def prepare(libraries: Iterable[Library], results: Results, say: Say) -> None:
    """Make the environments that are missing, and note versions and settings."""
    for library in sorted(libraries, key=lambda library: library.name):
        found = {"versions": venvs.versions(library.folder)}
        try:
            with LibraryEnvironment(library) as environment:
                found["settings"] = environment.producer.about["settings"]
        except NotMeasured as err:
            found["settings"] = f"not measured: {_clean(str(err))}"
            say(f"{library.name}: {found['settings']}")
        results.libraries[library.name] = found


def _measure_scenario(
    scenario: Scenario, number: int, scale: Scale, results: Results, say: Say
) -> None:
    def measure(library: Library) -> None:
        try:
            figures = scenario.measure(library, scale)
        except Exception as err:  # one library that fails must not end the others
            results.fail(scenario.name, library.name, _why(err))
            say(f"{scenario.name:<15}{library.name:<22}not measured: {_why(err)}")
        else:
            results.add(scenario.name, library.name, number, figures)
            shown = "  ".join(f"{name} {value:,.4g}" for name, value in figures.items())
            say(f"{scenario.name:<15}{library.name:<22}{shown}")

    # A library that took too long once is not measured again.
    late = {
        name for name, why in results.failures.get(scenario.name, {}).items() if TOO_LONG in why
    }
    libraries = [library for library in scenario.libraries if library.name not in late]
    random.shuffle(libraries)  # so that no library always follows the same one
    with ThreadPoolExecutor(max(1, len(libraries)) if scenario.together else 1) as pool:
        list(pool.map(measure, libraries))


def _why(err: Exception) -> str:
    text = str(err) if isinstance(err, NotMeasured) else f"{type(err).__name__}: {err}"
    return _clean(text)


def _clean(text: str) -> str:
    """Remove paths of this machine from a message, and characters that no table can hold."""
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
