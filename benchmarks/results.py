"""Keep the results of a run as JSON, and compute medians and ratios of them."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self


class Missing(Exception):
    """A requested figure was not measured."""


@dataclass
class Results:
    """Hold figures by scenario, library and pass, and the reasons of those not measured.

    :param figures: ``{scenario: {library: [{'pass': 0, 'rate': 1.0, ...}, ...]}}``.
    :param failures: ``{scenario: {library: why}}``; the last reason of each.
    :param about: date, machine, passes, scale.
    :param libraries: ``{library: {'versions': ..., 'settings': ...}}``.
    """

    figures: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, scenario: str, name: str, number: int, figures: dict[str, float]) -> None:
        """Add the figures of one measurement in pass ``number``."""
        self.figures.setdefault(scenario, {}).setdefault(name, []).append(
            {"pass": number, **figures}
        )

    def fail(self, scenario: str, name: str, why: str) -> None:
        """Add the reason why a measurement failed."""
        self.failures.setdefault(scenario, {})[name] = why

    def median(self, scenario: str, name: str, figure: str) -> float:
        """Return the median over the passes.

        :raises Missing: it was not measured.
        """
        return statistics.median(self._by_pass(scenario, name, figure).values())

    def ratio(self, over: tuple[str, str, str], under: tuple[str, str, str]) -> float:
        """Return the median over the passes of one figure by another of the same pass.

        Within a pass the two are measured shortly after each other, so that a machine that
        becomes slower between passes does not count.

        :raises Missing: no pass has both.
        """
        first, second = self._by_pass(*over), self._by_pass(*under)
        both = [first[each] / second[each] for each in first if second.get(each)]
        if not both:
            raise Missing
        return statistics.median(both)

    def best(self, scenario: str, names: Iterable[str], figure: str, *, least: bool = False) -> str:
        """Return which of the libraries has the highest (``least``: the lowest) median.

        :raises Missing: none was measured.
        """
        found = {}
        for name in names:
            try:
                found[name] = self.median(scenario, name, figure)
            except Missing:
                continue
        if not found:
            raise Missing
        return (min if least else max)(found, key=lambda name: found[name])

    def _by_pass(self, scenario: str, name: str, figure: str) -> dict[float, float]:
        samples = self.figures.get(scenario, {}).get(name, [])
        found = {each["pass"]: each[figure] for each in samples if figure in each}
        if not found:
            raise Missing
        return found

    def save(self, file: Path) -> None:
        """Write everything."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a file that :meth:`save` wrote."""
        return cls(**json.loads(file.read_text()))
