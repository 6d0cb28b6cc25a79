"""Draw charts as SVG: on the server, without style or script, and readable by screen readers.

Each has a role, a title with a summary in words, and the numbers, which a page puts into a table
behind it. Colours and widths stand in the style sheet, by class. All is pure.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from markupsafe import Markup

from alligator.common.text import shorten

#: The size of a chart, in its own units, and the room around what is drawn.
WIDTH, HEIGHT = 420, 180
_RIGHT, _TOP, _BOTTOM = 14, 10, 22
_PLOT_HEIGHT = HEIGHT - _TOP - _BOTTOM

#: The room for the labels of the axis on the left: for each character, at the size that they have
#: on a narrow screen, and beside them.
_LABEL, _GAP = 7.6, 6.0

#: The size of a sparkline.
SPARK_WIDTH, SPARK_HEIGHT = 120, 26

#: Numbers are drawn up to this one.
_MOST = 1e15

#: Series of one chart that have a colour.
COLOURS = 4

#: How lines differ for who cannot tell their colours: lengths of dashes.
_DASHES = ("", "6 5", "0.1 5", "9 5 0.1 5")

#: Seconds between two clock times on the axis, of which the first that fits is taken.
_CLOCK_STEPS = (60, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_MOST_CLOCKS = 7

#: Units of an axis of durations, in seconds; and the steps that are round in seconds or more.
_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))
_SECONDS_STEPS = (1, 2, 5, 10, 15, 30)
_LONG_STEPS = (3600, 7200, 10_800, 21_600, 43_200, 86_400)
_TIME_STEPS = (*_SECONDS_STEPS, *(60 * each for each in _SECONDS_STEPS), *_LONG_STEPS)


@dataclass(frozen=True)
class Series:
    """One line, or the bars of one colour.

    :param values: one for each part of the time; None: nothing is known of it.
    :param colour: 1 to 4; 0: by its place.
    """

    name: str
    values: Sequence[float | None]
    colour: int = 0


@dataclass(frozen=True)
class Chart:
    """A chart, with what a page shows around it."""

    title: str
    svg: Markup
    summary: str
    key: list[tuple[str, Markup]] = field(default_factory=list)  # names, and how each is drawn
    head: list[str] = field(default_factory=list)
    rows: list[tuple[float, list[str]]] = field(default_factory=list)  # Unix seconds, and cells

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self.rows


def short_number(value: float) -> str:
    """Return a number as an axis shows it: ``0.5``, ``12``, ``3 k``, ``1.5 M``."""
    for size, unit in ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            divisor = 1e3 if unit == " k" else size
            return f"{value / divisor:.4g}{unit}"
    return f"{value:,.4g}" if abs(value) < 1e3 else f"{value:,.0f}"


def round_steps(most: float, count: int = 4, *, whole: bool = False) -> list[float]:
    """Return round numbers from 0 to at least ``most``, for the lines of an axis.

    :param count: about how many steps.
    :param whole: no step is smaller than 1.
    """
    most = min(most, _MOST) if most > 0 else 1.0
    raw = max(most / count, 1e-9)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((each * power for each in (1, 2, 5) if each * power >= raw * 0.999), 10 * power)
    if whole:
        step = max(1.0, step)
    steps = max(1, math.ceil(most / step - 1e-9))
    return [index * step for index in range(steps + 1)]


def time_steps(most: float, count: int = 4) -> list[float]:
    """Return durations from 0 to at least ``most`` that are round as people count time.

    ::

        time_steps(70)  # [0.0, 30.0, 60.0, 90.0]
    """
    most = min(max(most, 0.001), _MOST) if most > 0 else 1.0
    if most <= count * _TIME_STEPS[0] * 0.999:
        return round_steps(most, count)
    step = next((float(each) for each in _TIME_STEPS if each * count >= most * 0.999), 0.0)
    if not step:
        return [86_400 * each for each in round_steps(most / 86_400, count, whole=True)]
    return [index * step for index in range(max(1, math.ceil(most / step - 1e-9)) + 1)]


def time_labels(steps: Sequence[float]) -> list[str]:
    """Return the labels of an axis of durations, all in one unit: ``0``, ``30 s``, ``60 s``."""
    step = steps[1]
    if step < 1:
        size, unit = (1.0, "s") if steps[-1] >= 1 else (0.001, "ms")
    else:
        size, unit = next((s, u) for s, u in _UNITS if (step >= s and step % s == 0) or s == 1.0)
    return [f"{round(each / size, 6):,.6g} {unit}" if each else "0" for each in steps]


def clock_times(start: int, end: int) -> list[int]:
    """Return round clock times between two, not too many: Unix seconds."""
    for step in _CLOCK_STEPS:
        first = math.ceil(start / step) * step
        found = list(range(first, end + 1, step))
        if len(found) <= _MOST_CLOCKS:
            return found
    return []


def clock(moment: float) -> str:
    """Return a clock time in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M")


def line_chart(
    title: str,
    series: Sequence[Series],
    starts: Sequence[int],
    seconds: int,
    *,
    show: Callable[[float], str] = short_number,
    whole: bool = False,
    filled: bool = False,
    is_time: bool = False,
) -> Chart:
    """Return a chart of lines; a line is broken where nothing is known.

    :param starts: when each part of the time begins: Unix seconds.
    :param seconds: how long each part is.
    :param show: writes a value.
    :param whole: the values are counts.
    :param filled: the area under each line is coloured as well.
    :param is_time: the values are seconds, so the axis has times that are round.
    """
    series = [_sound(each) for each in series]
    most = max((value for each in series for value in each.values if value is not None), default=0)
    steps = time_steps(most) if is_time else round_steps(most, whole=whole)
    labels = time_labels(steps) if is_time else _labels(steps, show)
    plot = _Plot(starts, seconds, steps, labels)
    drawn = list[Markup]()
    for index, each in enumerate(series):
        for points in _unbroken(each.values):
            where = [(plot.x(at), plot.y(value)) for at, value in points]
            drawn += _line(where, _colour(each, index), _DASHES[index % COLOURS], plot, filled)
    samples = [
        _sample(_line_to([(1.0, 5.0), (25.0, 5.0)], _colour(each, at), _DASHES[at % COLOURS]))
        for at, each in enumerate(series)
    ]
    return _chart(title, series, plot, drawn, samples, show)


def bar_chart(
    title: str,
    series: Sequence[Series],
    starts: Sequence[int],
    seconds: int,
    *,
    show: Callable[[float], str] = short_number,
    whole: bool = False,
) -> Chart:
    """Return a chart of bars, those of one time on top of each other; see :func:`line_chart`."""
    series = [_sound(each) for each in series]
    columns = list(zip(*(each.values for each in series), strict=False))
    most = max((sum(value or 0.0 for value in each) for each in columns), default=0.0)
    steps = round_steps(most, whole=whole)
    plot = _Plot(starts, seconds, steps, _labels(steps, show))
    wide = max(1.0, plot.part * 0.8)
    drawn = list[Markup]()
    for at, column in enumerate(columns):
        below = 0.0
        for index, value in enumerate(column):
            if not value:
                continue
            low, high = plot.y(below), plot.y(below + value)
            colour = _colour(series[index], index)
            drawn.append(_bar(colour, plot.x(at) - wide / 2, high, wide, max(0.0, low - high)))
            below += value
    samples = [_sample(_bar(_colour(each, at), 0, 0, 10, 10), 10) for at, each in enumerate(series)]
    return _chart(title, series, plot, drawn, samples, show)


def sparkline(
    title: str, values: Sequence[float | None], show: Callable[[float], str] = short_number
) -> Markup:
    """Return a small line without axes; an empty text if nothing is known."""
    sound = _sound(Series(title, values)).values
    known = [each for each in sound if each is not None]
    if not known:
        return Markup("")
    top = max(max(known), 1.0)
    wide = SPARK_WIDTH / max(1, len(sound) - 1)
    drawn = Markup("")
    for points in _unbroken(sound):
        where = [(at * wide, 2 + (SPARK_HEIGHT - 4) * (1 - value / top)) for at, value in points]
        if len(where) == 1:  # else nothing would be seen
            where.append((min(SPARK_WIDTH, where[0][0] + 2), where[0][1]))
        path = _path(where)
        under = f"{path}L{_at(where[-1][0])} {SPARK_HEIGHT}L{_at(where[0][0])} {SPARK_HEIGHT}Z"
        drawn += Markup('<path class="area s1" d="{}"/><path class="line s1" d="{}"/>').format(
            under, path
        )
    text = f"{shorten(title)}: {summary_of(sound, show)}"
    return Markup(
        '<svg class="spark chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}"><title>{}</title>{}</svg>'
    ).format(SPARK_WIDTH, SPARK_HEIGHT, text, text, drawn)


def summary_of(values: Sequence[float | None], show: Callable[[float], str]) -> str:
    """Return a series in words."""
    known = [each for each in values if each is not None]
    if not known:
        return "nothing was recorded"
    last = "not known" if values[-1] is None else show(values[-1])
    return f"now {last}, lowest {show(min(known))}, highest {show(max(known))}"


# -- Parts. ------------------------------------------------------------------------------------


class _Plot:
    """Where values are drawn."""

    def __init__(
        self, starts: Sequence[int], seconds: int, steps: Sequence[float], labels: Sequence[str]
    ) -> None:
        self.starts, self.seconds = starts, seconds
        self.lines = list(zip(steps, labels, strict=True))
        self.left = _LABEL * max(3, *map(len, labels)) + _GAP
        self._wide = WIDTH - self.left - _RIGHT
        self.part = self._wide / max(1, len(starts))

    def x(self, index: float) -> float:
        return self.left + (index + 0.5) * self.part

    def y(self, value: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - min(1.0, value / self.lines[-1][0]))

    def clocks(self) -> list[tuple[float, int]]:
        """Return where which clock time stands."""
        if not self.starts:
            return []
        start, end = self.starts[0], self.starts[-1] + self.seconds
        wide = self._wide / (end - start)
        return [(self.left + (each - start) * wide, each) for each in clock_times(start, end)]


def _labels(steps: Sequence[float], show: Callable[[float], str]) -> list[str]:
    return [show(each) if each else "0" for each in steps]


def _sound(series: Series) -> Series:
    """Return a series whose values can be drawn: finite, from 0 up to a bound."""
    values = [
        None if each is None or not math.isfinite(each) else min(max(0.0, float(each)), _MOST)
        for each in series.values
    ]
    return Series(shorten(series.name, 80), values, series.colour)


def _colour(series: Series, index: int) -> int:
    return series.colour or index % COLOURS + 1


def _unbroken(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Return the runs of known values, each with its place."""
    found, run = list[list[tuple[int, float]]](), list[tuple[int, float]]()
    for index, value in enumerate(values):
        if value is not None:
            run.append((index, value))
        elif run:
            found.append(run)
            run = []
    return [*found, run] if run else found


def _at(number: float) -> str:
    return f"{number:.1f}"


def _path(where: Sequence[tuple[float, float]]) -> str:
    steps = [f"{_at(x)} {_at(y)}" for x, y in where]
    return f"M{steps[0]}" + "".join(f"L{each}" for each in steps[1:])


def _line(
    where: list[tuple[float, float]], colour: int, dashes: str, plot: _Plot, filled: bool
) -> list[Markup]:
    if len(where) == 1:
        (x, y) = where[0]
        where = [(x - 2, y), (x + 2, y)]
    drawn = list[Markup]()
    if filled:
        floor = _at(plot.y(0.0))
        under = f"{_path(where)}L{_at(where[-1][0])} {floor}L{_at(where[0][0])} {floor}Z"
        drawn.append(Markup('<path class="area s{}" d="{}"/>').format(colour, under))
    return [*drawn, _line_to(where, colour, dashes)]


def _line_to(where: Sequence[tuple[float, float]], colour: int, dashes: str) -> Markup:
    dashed = Markup(' stroke-dasharray="{}"').format(dashes) if dashes else Markup("")
    return Markup('<path class="line s{}" d="{}"{}/>').format(colour, _path(where), dashed)


def _bar(colour: int, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="bar s{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        colour, _at(x), _at(y), _at(width), _at(height)
    )


def _sample(drawn: Markup, wide: int = 26) -> Markup:
    """Return what stands beside a name in the key: drawn as in the chart."""
    return Markup(
        '<svg class="sample" width="{}" height="10" viewBox="0 0 {} 10" aria-hidden="true">{}</svg>'
    ).format(wide, wide, drawn)


def _chart(
    title: str,
    series: Sequence[Series],
    plot: _Plot,
    drawn: Sequence[Markup],
    samples: Sequence[Markup],
    show: Callable[[float], str],
) -> Chart:
    title = shorten(title)
    known = [each for each in series if any(value is not None for value in each.values)]
    if not known or not plot.starts:
        return Chart(title, Markup(""), f"{title}: nothing was recorded.")
    start, end = plot.starts[0], plot.starts[-1] + plot.seconds
    parts = "; ".join(f"{each.name}: {summary_of(each.values, show)}" for each in known)
    summary = f"{title}, {clock(start)} to {clock(end)} UTC. {parts}."
    axes = list[Markup]()
    for value, label in plot.lines:
        y = _at(plot.y(value))
        axes.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _at(plot.left), WIDTH - _RIGHT, y, y
            )
        )
        axes.append(
            Markup('<text class="axis" x="{}" y="{}" text-anchor="end">{}</text>').format(
                _at(plot.left - _GAP), _at(plot.y(value) + 4), label
            )
        )
    for x, moment in plot.clocks():
        axes.append(
            Markup(
                '<text class="axis" x="{}" y="{}" text-anchor="middle" data-clock="{}">{}</text>'
            ).format(_at(x), HEIGHT - 6, moment, clock(moment))
        )
    svg = Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>'
        "{}{}</svg>"
    ).format(WIDTH, HEIGHT, summary, title, Markup("").join(axes), Markup("").join(drawn))
    rows = [
        (float(moment), ["–" if value is None else show(value) for value in values])  # noqa: RUF001 - a dash is meant
        for moment, *values in zip(plot.starts, *(each.values for each in series), strict=False)
        if any(value is not None for value in values)
    ]
    key = [(each.name, samples[index]) for index, each in enumerate(series) if each in known]
    return Chart(title, svg, summary, key, [each.name for each in series], rows[::-1])
