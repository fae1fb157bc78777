"""Pictures of insights: one panel for each form, for reports, exports and wherever nothing can be hovered over."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from runners.case import Case
from runners.discovery import Insight
from runners.forms import (
    Cases,
    Changes,
    Concepts,
    Contributions,
    Counterfactual,
    Projection,
    Rationale,
    Rules,
    Units,
    rules_in_words,
)
from runners.pictures import MARKED, Rgb, overlay
from taxonomy.loader import KB

MOST_ROWS = 12
"""Concepts, parts or units that are drawn, the strongest first."""
MOST_CASES = 8
"""Cases, rules and frames that are drawn."""
FOR, AGAINST, PLAIN = "#b2182b", "#2166ac", "#0f6b7a"
"""Colours of what speaks for and against, as in maps, and of what has no direction."""


def panel(insight: Insight, case: Case) -> Rgb:
    """Draw an insight as one picture, uint8 ``(H, W, 3)``.

    Args:
        insight: what was found.
        case: the image it is about; volumes are shown by one slice.
    """
    figure = DRAWING[type(insight.form)](insight.form, case)
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib annotates little
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def measured_words(insight: Insight, kb: KB) -> tuple[str, ...]:
    """Return what was measured of an insight itself, a phrase each; metrics of the knowledge base by their names."""
    return tuple(
        f"{kb.metrics[name].name if name in kb.metrics else name.replace('_', ' ')}: {value:.3g}"
        for name, value in insight.form.measures.items()
        if value == value
    )


def seen(values: Tensor, case: Case) -> Tensor:
    """Return an image ``(C, *spatial)`` of the model's input as a viewer would see it: ``(H, W)`` or ``(H, W, 3)``."""
    plane = flat(values, case)
    plane = plane if len(plane) == 3 else plane[:1]
    low, high = plane.min(), plane.max()
    shown = (plane - low) / (high - low if high > low else 1.0)
    return shown[0] if len(shown) == 1 else shown.movedim(0, -1)


def flat(values: Tensor, case: Case) -> Tensor:
    """Return the middle slice of ``(..., D, H, W)`` across the image's plane, turned as the image is shown."""
    if case.image.dims == 2:
        return values
    axis = case.image.plane_axis - 3
    plane = values.select(axis, values.shape[axis] // 2)
    return plane if case.image.affine is None else plane.transpose(-1, -2).flip(-1, -2)


def laid(values: Tensor, case: Case) -> Tensor:
    """Return a map ``(*input spatial)`` as it lies on what :meth:`Image.display` shows of the image."""
    return case.image.view(case.place(values.float(), labels=values.dtype == torch.bool))


def strongest(values: Tensor, count: int = MOST_ROWS) -> list[int]:
    """Return the numbers of the values ``(N,)`` of largest magnitude, in falling order of the values themselves."""
    chosen = values.abs().argsort(descending=True, stable=True)[:count]
    order: list[int] = chosen[values[chosen].argsort(descending=True, stable=True)].tolist()
    return order


# --- each form --------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> Figure:
    return Figure((width, height), dpi=110, layout="constrained")


def _picture(axes: Axes, shown: Any, title: str = "") -> None:
    axes.imshow(np.asarray(shown), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    if title:
        axes.set_title("\n".join(textwrap.wrap(title, 26)), fontsize=8)


def _bars(
    axes: Axes,
    names: Sequence[str],
    values: Tensor,
    what: str,
    low: Tensor | None,
    high: Tensor | None,
    neutral: float | None,
    order: Sequence[int],
) -> None:
    zero = neutral or 0.0
    for row, at in enumerate(order):
        value = float(values[at])
        colour = PLAIN if neutral is None and bool((values >= 0).all()) else FOR if value >= zero else AGAINST
        axes.barh(row, value - zero, left=zero, color=colour, height=0.62)
        if low is not None and high is not None:
            axes.plot([float(low[at]), float(high[at])], [row, row], color="#1d2b33", linewidth=1.4)
    axes.axvline(zero, color="#5b7083", linewidth=0.8, linestyle="--" if neutral is not None else "-")
    axes.set_yticks(range(len(order)), ["\n".join(textwrap.wrap(names[at], 30)) for at in order], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("\n".join(textwrap.wrap(what, 60)), fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _concepts(form: Concepts, case: Case) -> Figure:
    order = strongest(form.scores - (form.neutral or 0.0))
    patches = 0 if form.patches is None else min(4, form.patches.shape[1])
    figure = _figure(7.5 + patches, 1.2 + 0.62 * len(order))
    grid = figure.add_gridspec(len(order), 4 + patches)
    axes = figure.add_subplot(grid[:, : 4 if patches else None])
    names = [
        name + (f" (p {float(form.p_values[i]):.2g})" if form.p_values is not None else "")
        for i, name in enumerate(form.names)
    ]
    _bars(axes, names, form.scores, form.what, form.low, form.high, form.neutral, order)
    if form.patches is not None:
        for row, at in enumerate(order):
            for column in range(patches):
                _picture(figure.add_subplot(grid[row, 4 + column]), seen(form.patches[at, column], case))
    return figure


def _cases(form: Cases, case: Case) -> Figure:
    """Draw this case and the others beside it; where maps say what is alike, this image stands above each again."""
    shown = range(min(MOST_CASES, len(form.index)))
    here = form.maps is not None
    columns = min(5, len(shown) + 1)
    rows = -(-(len(shown) + 1) // columns) * (1 + here)
    figure = _figure(2.0 * columns, 2.5 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.ravel():
        one.set_axis_off()
    _picture(axes[0, 0], case.image.display(), "this case")
    for at in shown:
        column, row = (at + 1) % columns, (at + 1) // columns * (1 + here)
        words = [form.roles[at], *form.labels[at : at + 1], f"{float(form.scores[at]):.3g}"]
        title = ", ".join(word for word in words if word)
        if form.maps is not None:
            values = laid(form.maps[at], case)
            axes[row, column].imshow(overlay(case.image.display(), values, signed=bool((form.maps < 0).any())))
            axes[row, column].set_title("where it is alike", fontsize=8)
        if form.images is None:
            below = axes[row + here, column]
            below.text(0.5, 0.5, f"case {int(form.index[at])}\n{title}", ha="center", va="center", fontsize=8)
        else:
            _picture(axes[row + here, column], in_case(form, at, case), title)
    figure.supxlabel(form.what, fontsize=8)
    return figure


def in_case(form: Cases, at: int, case: Case) -> Any:
    """Return a case as it is shown, with the map laid over it that says where it is like the image, where there is one.

    ``(H, W)`` or ``(H, W, 3)`` in 0..1.
    """
    assert form.images is not None
    base = seen(form.images[at], case)
    if form.case_maps is None:
        return base
    signed = bool((form.case_maps < 0).any())
    return overlay(base, flat(form.case_maps[at], case), signed=signed) / 255


def _counterfactual(form: Counterfactual, case: Case) -> Figure:
    figure = _figure(9.6, 4.6)
    grid = figure.add_gridspec(2, 4, height_ratios=[3, 1.5])
    start, chosen = form.images[form.start], form.images[form.chosen]
    change = flat(chosen - start, case).sum(0)
    size = float(change.abs().quantile(0.995)) or 1.0
    _picture(figure.add_subplot(grid[0, 0]), seen(form.original, case), "the image")
    for column, (at, words) in enumerate(((form.start, "start"), (form.chosen, "counterfactual")), 1):
        title = f"{words}, score {float(form.scores[at]):.3g}"
        _picture(figure.add_subplot(grid[0, column]), seen(form.images[at], case), title)
    axes = figure.add_subplot(grid[0, 3])
    base = seen(start, case)
    axes.imshow(overlay(base, change, signed=True, limit=(-size, size), colours="RdBu_r"))
    axes.set_axis_off()
    axes.set_title("what changed: red brighter, blue darker", fontsize=8)
    line = figure.add_subplot(grid[1, :])
    line.plot(range(len(form.scores)), form.scores.tolist(), color=PLAIN, marker="o", markersize=3)
    line.axvline(form.start, color="#5b7083", linewidth=0.8, linestyle="--")
    line.axvline(form.chosen, color=FOR, linewidth=0.8, linestyle="--")
    line.set_ylabel("score", fontsize=8)
    line.set_xlabel("frames of the series", fontsize=8)
    line.tick_params(labelsize=8)
    return figure


def _changes(form: Changes, _case: Case) -> Figure:
    ways = min(MOST_CASES, len(form.after))
    figure = _figure(3.2 + 1.4 * ways, 1.2 + 0.34 * len(form.names))
    axes = figure.subplots()
    axes.set_axis_off()
    heads = ["", "this case", *(f"way {i + 1}\nscore {float(form.scores[i]):.3g}" for i in range(ways))]
    cells = []
    for row, name in enumerate(form.names):
        before = float(form.before[row])
        after = [float(form.after[i, row]) for i in range(ways)]
        cells.append([name, f"{before:.4g}", *("" if np.isclose(one, before) else f"{one:.4g}" for one in after)])
    table = axes.table(cells, colLabels=heads, loc="center", cellLoc="center")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.scale(1, 1.3)
    return figure


def _projection(form: Projection, _case: Case) -> Figure:
    figure = _figure(6.4, 5.2)
    axes = figure.subplots()
    kinds = list(dict.fromkeys(form.labels))
    for number, kind in enumerate(kinds or [""]):
        own_points = form.points[[i for i in range(len(form.points)) if not kinds or form.labels[i] == kind]]
        colour = colormaps["tab10"](number % 10)
        across, up = own_points.T.tolist()
        axes.scatter(across, up, s=14, color=colour, alpha=0.7, label=kind or "cohort")
    x, y = form.here.tolist()
    axes.scatter(x, y, marker="*", s=260, color="#ffd600", edgecolor="black", label="this case", zorder=5)
    axes.set_xlabel(form.axes[0], fontsize=8)
    axes.set_ylabel(form.axes[1], fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=8, frameon=False)
    return figure


def _lines(texts: Sequence[str], maps: Tensor | None, case: Case) -> Figure:
    """Draw sentences, and the image with the region of each that speaks of one: beside them, or several below."""
    count = min(MOST_CASES, len(texts))
    marked = [] if maps is None else [i for i in range(count) if bool(maps[i].any())]
    below = len(marked) > 1
    beside = maps is not None and not below
    wrapped = ["\n".join(textwrap.wrap(f"{i + 1}. {texts[i]}", 78 if beside else 110)) for i in range(count)]
    height = 0.4 + 0.21 * sum(one.count("\n") + 1.6 for one in wrapped)
    across = max(4, len(marked))
    pictures = 10.5 / across + 0.3
    figure = _figure(10.5, height + pictures if below else max(height, 3.0 if beside else 1.0))
    grid = figure.add_gridspec(2 if below else 1, across, height_ratios=[height, pictures] if below else None)
    axes = figure.add_subplot(grid[0, : 3 if beside else None])
    axes.set_axis_off()
    axes.text(0, 1, "\n\n".join(wrapped), va="top", fontsize=9, transform=axes.transAxes)
    if beside and not marked:
        _picture(figure.add_subplot(grid[0, 3]), case.image.display(), "")
    for at, number in enumerate(marked):
        assert maps is not None
        picture = figure.add_subplot(grid[1, at] if below else grid[0, 3])
        _picture(picture, case.image.display(), f"region of {number + 1}")
        region = laid(maps[number], case) > 0
        picture.contour(region.numpy(), levels=[0.5], colors=[tuple(c / 255 for c in MARKED)], linewidths=1.4)
    return figure


def _rules(form: Rules, case: Case) -> Figure:
    return _lines(list(rules_in_words(form)), form.maps, case)


def _rationale(form: Rationale, case: Case) -> Figure:
    lines = []
    for i, sentence in enumerate(form.sentences):
        drop = (
            "" if form.drops is None or form.drops[i].isnan() else f"; without its region {-float(form.drops[i]):+.2g}"
        )
        failed = "; NOT CONFIRMED" if form.holds and not form.holds[i] else ""
        lines.append(f"{sentence} [{form.quantities[i]}: {float(form.values[i]):.3g}{drop}{failed}]")
    return _lines(lines, form.maps, case)


def _contributions(form: Contributions, case: Case) -> Figure:
    order = strongest(form.values)
    beside = form.curves is not None or form.map is not None
    figure = _figure(7.5 + (2.4 if beside else 0), 1.2 + (0.8 if form.curves is not None else 0.5) * len(order))
    grid = figure.add_gridspec(len(order), 4)
    names = [name + (f" = {form.inputs[i]}" if form.inputs else "") for i, name in enumerate(form.names)]
    axes = figure.add_subplot(grid[:, : 3 if beside else None])
    _bars(axes, names, form.values, form.what, form.low, form.high, None, order)
    if form.curves is not None and form.grid is not None:
        low, high = float(form.curves.min()), float(form.curves.max())
        for row, at in enumerate(order):
            line = figure.add_subplot(grid[row, 3])
            line.plot(form.grid[at].tolist(), form.curves[at].tolist(), color=PLAIN)
            line.set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.05 * (high - low) + 1e-9)
            line.tick_params(labelsize=6)
    elif form.map is not None:
        shown = laid(form.map, case)
        picture = figure.add_subplot(grid[:, 3])
        picture.imshow(overlay(case.image.display(), shown, signed=bool((form.map < 0).any())))
        picture.set_axis_off()
    return figure


def _units(form: Units, case: Case) -> Figure:
    order = strongest(form.activations, MOST_CASES)
    patches = 0 if form.patches is None else min(5, form.patches.shape[1])
    pictures = (form.images is not None) + (form.maps is not None) + patches
    figure = _figure(1.5 * max(pictures, 1) + 2.0, 1.5 * len(order) + 0.4)
    axes = figure.subplots(len(order), pictures + 1, squeeze=False)
    for row, at in enumerate(order):
        words = "\n".join(textwrap.wrap(f"{form.names[at]}: {float(form.activations[at]):.3g}", 22))
        axes[row, 0].text(0, 0.5, words, va="center", fontsize=8)
        axes[row, 0].set_axis_off()
        column = 1
        if form.images is not None:
            _picture(axes[row, column], seen(form.images[at], case), "made for it" if row == 0 else "")
            column += 1
        if form.maps is not None:
            shown = laid(form.maps[at], case)
            axes[row, column].imshow(overlay(case.image.display(), shown, signed=bool((shown < 0).any())))
            axes[row, column].set_axis_off()
            column += 1
        for patch in range(patches):
            assert form.patches is not None
            _picture(axes[row, column + patch], seen(form.patches[at, patch], case))
    figure.supxlabel(form.what, fontsize=8)
    return figure


DRAWING: Final[dict[type, Callable[[Any, Case], Figure]]] = {
    Concepts: _concepts,
    Cases: _cases,
    Counterfactual: _counterfactual,
    Changes: _changes,
    Projection: _projection,
    Rules: _rules,
    Rationale: _rationale,
    Contributions: _contributions,
    Units: _units,
}
"""Form to what draws it."""
READING: Final[dict[type, str]] = {
    Concepts: "The longer the bar from the dashed line, the more the concept counts for the explained answer; the thin "
    "line is the 95 % interval, p tells how easily chance would give as much.",
    Cases: "Known cases beside this one, and why each is shown. What they share with this one in the model's eyes need "
    "not be what a clinician sees.",
    Counterfactual: "What would have to look different for the model to answer otherwise. It shows what the model "
    "reacts to, not how the disease changes.",
    Changes: "Which values would have to be different for the model to answer otherwise; empty cells stay as they are.",
    Projection: "Each dot is a known case, the star is this one; near dots look alike to the model. Distances across "
    "the picture mean little.",
    Rules: "Simple rules that answer as the model does, as often as their precision says; they are not the model.",
    Rationale: "Every sentence rests on the measured quantity in brackets; what the check did not confirm is marked.",
    Contributions: "What each part of the input adds to the score: to the right for, to the left against.",
    Units: "What units inside the model respond to, and how strongly on this image.",
}
"""Form to how it is read, for somebody who has never seen one."""
LEAST_SIDE = 256
"""Shortest side of a frame of an animation, in pixels."""


def sweep(form: Counterfactual, case: Case) -> list[Rgb]:
    """Draw the series of a counterfactual, all frames at one brightness, uint8 ``(H, W, 3)`` each."""
    frames = flat(form.images, case)
    frames = frames if frames.shape[1] == 3 else frames[:, :1].expand(-1, 3, -1, -1)
    low, high = frames.min(), frames.max()
    shown = ((frames - low) / (high - low if high > low else 1.0)).movedim(1, -1)
    times = max(1, -(-LEAST_SIDE // min(shown.shape[1:3])))
    large = shown.repeat_interleave(times, 1).repeat_interleave(times, 2)
    return list((large * 255).round().to(torch.uint8).numpy())
