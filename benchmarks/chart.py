"""Draw the chart of the documentation: how fast a worker drains and a producer pushes."""

from pathlib import Path

from benchmarks.catalog import LIBRARIES, OURS
from benchmarks.results import Missing, Results

_PANELS = (("drain", "drained by one worker process"), ("enqueue", "enqueued one by one"))
_OURS, _OTHERS = "#3f7d3a", "#b4b9bd"


def draw(results: Results, file: Path) -> None:
    """Write the chart as SVG; the same results give the same bytes.

    :raises ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "alligator"
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text: a tenth of the size
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (scenario, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        rates = ranked(results, scenario)
        names = [name for name, _ in rates]
        colors = [_OURS if name == OURS.name else _OTHERS for name in names]
        bars = axes.barh(names, [rate for _, rate in rates], color=colors)
        axes.bar_label(bars, [f"{rate:,.0f}" for _, rate in rates], padding=3, fontsize=8)
        axes.set_title(f"tasks/s {title}", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.set_xticks([])
        axes.margins(x=0.2)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(file, format="svg", metadata={"Date": None})


def ranked(results: Results, scenario: str) -> list[tuple[str, float]]:
    """Return libraries with their medians, the fastest last."""
    found = []
    for library in (OURS, *LIBRARIES):
        try:
            found.append((library.name, results.median(scenario, library.name, "rate")))
        except Missing:
            continue
    return sorted(found, key=lambda each: each[1])
