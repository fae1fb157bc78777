"""The report of the benchmark: one self-contained HTML page, tables as CSV and the data file as JSON."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runners.bench import tasks as bench
from runners.bench.boards import Fact, Friedman, Table, alike, localises, overall
from runners.bench.store import BenchRow, BenchTask
from runners.bench.work import remade
from runners.pictures import REFERENCE, Rgb, limits, outline, overlay
from runners.registry import Progress, no_progress
from runners.report import NOT_CLINICAL, png
from taxonomy.errors import AtlasError
from taxonomy.loader import KB
from taxonomy.measured import CONTROLS, REFERENCES, Benchmark, BenchmarkTask, Measured, write_benchmark
from taxonomy.trust import trust, weights

HEADLINE = "relevance_mass_accuracy"
"""The metric by which a task is told in one line: which share of what the map says lies on the evidence?"""
GALLERY = 12
"""Pictures in the gallery of failures at most."""
SIDE = 240
"""Pixels of a picture of the gallery."""

_STYLE = """
:root { --ink: #1d2b33; --soft: #5b7083; --line: #d9e2e7; --accent: #0f6b7a; --warn: #8a4b00; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
       max-width: 1280px; margin: 0 auto; padding: 1.2rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 1.6rem 0 .5rem; color: var(--accent); }
h3 { font-size: 1.05rem; margin: 1rem 0 .4rem; } p { margin: .35rem 0; }
.soft { color: var(--soft); font-size: .88rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .86rem; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.reference td { color: var(--soft); font-style: italic; }
td b { color: var(--accent); } td i { color: var(--soft); font-style: normal; font-size: .78rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; }
.gallery div { break-inside: avoid; } img { max-width: 100%; height: auto; display: block; }
summary { cursor: pointer; color: var(--accent); margin-top: .4rem; } .no { color: var(--warn); }
a { color: var(--accent); } code { font-size: .85rem; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, eq=False)
class Failure:
    """A map that misses the evidence, and the best one of the same picture.

    Attributes:
        task: task. image: picture. method: who missed. value: share of its mass on the evidence.
        picture: the map over the picture, the evidence outlined.
        best: who did best there. best_value: the same of it. best_picture: the same of it.
    """

    task: str
    image: str
    method: str
    value: float
    picture: Rgb
    best: str
    best_value: float
    best_picture: Rgb


def name_of(method: str, kb: KB) -> str:
    """Return the name of a method, or of a reference."""
    return REFERENCES[method] if method in REFERENCES else kb.methods[method].name


def metric_name(metric: str, kb: KB) -> str:
    """Return the name of a metric, or of a control."""
    return CONTROLS[metric].name if metric in CONTROLS else kb.metrics[metric].name


def task_words(task: BenchmarkTask, kb: KB) -> str:
    """Return a task in words, such as "planted evidence in ultrasound, U-Net, segmentation, 2D"."""
    what = {"planted": "a planted shortcut" if task.marked else "planted evidence", "mask": "experts' masks"}
    truth = what.get(task.truth, "random labels")
    architecture = kb.vocabulary.architectures[task.architecture].name
    return f"{truth} in {kb.modalities[task.modality].name}, {architecture}, {task.task}, {task.dims}D"


# --- the gallery ------------------------------------------------------------------------------------------------------


def failures(
    rows: Sequence[BenchRow],
    tasks: Sequence[BenchTask],
    *,
    most: int = GALLERY,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> list[Failure]:
    """Make the worst maps of the benchmark again, the same bit for bit, each beside the best of its picture.

    Of every task with planted evidence the pictures that some method misses most are taken in turn, each method once
    at most, so that one bad method or one hard task does not fill the gallery. Tasks of which model or pictures were
    changed since are left out.

    Args:
        rows: rows of the benchmark.
        tasks: tasks of the rows.
        most: how many.
        cache: folder of the trained models.
        progress: called with ``(done, total)``.
    """
    known = {
        one.task: one
        for one in tasks
        if one.task in bench.TASKS and one.task_sha == bench.fingerprint(bench.TASKS[one.task])
    }
    scored = [
        row
        for row in rows
        if row.metric == HEADLINE and row.value is not None and row.holds and row.task in known
        and row.method not in REFERENCES
    ]  # fmt: skip
    best: dict[tuple[str, str], BenchRow] = {}
    for row in scored:
        before = best.get((row.task, row.image))
        if before is None or (row.value or 0.0) > (before.value or 0.0):
            best[row.task, row.image] = row
    queues = {task: sorted((r for r in scored if r.task == task), key=lambda r: (r.value, r.method)) for task in known}
    chosen: list[BenchRow] = []
    used: set[str] = set()
    while len(chosen) < most and any(queues.values()):
        for queue in queues.values():
            while queue and queue[0].method in used:
                queue.pop(0)
            if queue and len(chosen) < most:
                used.add(queue[0].method)
                chosen.append(queue.pop(0))
    found = []
    for number, row in enumerate(chosen):
        other = best[row.task, row.image]
        pictures = [_picture(one, known[one.task].images, cache) for one in (row, other)]
        found.append(
            Failure(
                row.task,
                row.image,
                row.method,
                row.value or 0.0,
                pictures[0],
                other.method,
                other.value or 0.0,
                pictures[1],
            )
        )
        progress(number + 1, len(chosen))
    return found


def _picture(row: BenchRow, images: int, cache: Path | None) -> Rgb:
    """Draw a map over its picture, of a volume the slice with most of the evidence."""
    planted, made = remade(row, images, cache)
    values, evidence, image = made.values[0], planted.evidence, planted.image
    if values.ndim == 3:
        at = int(evidence.flatten(1).sum(1).argmax())
        values, evidence, image = values[at], evidence[at], image[:, at]
    limit = limits(made.values[0], made.signed)
    base = _enlarged(_grey(image), values.shape).clamp(0, 1)
    shown = _enlarged(values[None], values.shape)[0]
    painted = overlay(base.permute(1, 2, 0) if len(base) == 3 else base[0], shown, signed=made.signed, limit=limit)
    return outline(painted, _enlarged(evidence[None].float(), values.shape)[0] > 0.5, REFERENCE, outside=True)


def _grey(image: Tensor) -> Tensor:
    """Return ``(1 or 3, H, W)`` in 0..1; of other numbers of channels the first is shown."""
    shown = image if len(image) in (1, 3) else image[:1]
    low, high = (float(torch.quantile(shown.flatten(), share)) for share in (0.005, 0.995))
    return (shown - low) / ((high - low) or 1.0)


def _enlarged(image: Tensor, size: Sequence[int]) -> Tensor:
    scale = max(1, round(SIDE / max(size)))
    return image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


# --- figures ----------------------------------------------------------------------------------------------------------


def diagram(found: Friedman, kb: KB, title: str) -> Any:
    """Draw a critical-difference diagram: mean ranks, best on top; bars that do not overlap differ.

    Args:
        found: the test.
        kb: for names.
        title: above the figure.

    Returns:
        A plotly figure.
    """
    import plotly.graph_objects as go

    order = sorted(found.ranks, key=lambda method: (found.ranks[method], method))
    names = [name_of(method, kb) for method in order]
    ranks = [found.ranks[method] for method in order]
    half = found.difference / 2
    figure = go.Figure(
        go.Scatter(
            x=ranks,
            y=names,
            mode="markers",
            marker={"color": "#0f6b7a", "size": 8},
            error_x={"type": "constant", "value": half, "color": "#9db4bf", "thickness": 4, "width": 0},
            hovertemplate="%{y}: mean rank %{x:.2f}<extra></extra>",
        )
    )
    figure.add_vrect(ranks[0], ranks[0] + found.difference, fillcolor="#0f6b7a", opacity=0.08, line_width=0)
    figure.update_layout(
        title={"text": title, "font": {"size": 14}},
        height=130 + 19 * len(order),
        margin={"l": 10, "r": 10, "t": 46, "b": 40},
        xaxis={"title": "mean rank (1 is best)"},
        yaxis={"autorange": "reversed", "automargin": True, "tickfont": {"size": 11}, "dtick": 1},
        template="plotly_white",
        showlegend=False,
    )
    return figure


# --- the page ---------------------------------------------------------------------------------------------------------


def html(found: Benchmark, made: Sequence[Table], kb: KB, told: Sequence[Fact], gallery: Sequence[Failure] = ()) -> str:
    """Write the page.

    Args:
        found: the data file.
        made: the tables behind it.
        kb: for names and definitions.
        told: the known facts.
        gallery: the worst maps.

    Returns:
        A whole page without references to other files.
    """
    from plotly.offline import get_plotlyjs

    modalities = list(dict.fromkeys(task.modality for task in found.tasks.values()))
    sections = "".join(_modality(found, made, kb, modality) for modality in modalities)
    marks = {True: "✔", False: "<span class='no'>✘</span>", None: "–"}
    lines = "".join(f"<li>{marks[fact.holds]} {escape(fact.text)}</li>" for fact in told)
    left_out = "".join(
        f"<li>{escape(name)}, picture {escape(image)}: {escape(why)}</li>"
        for name, task in found.tasks.items()
        for image, why in task.problems.items()
    )
    who = f", by {escape(found.by)}" if found.by else ""
    on = f", on {escape(found.machine)}" if found.machine else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>XAI Atlas benchmark {escape(found.benchmark)}</title><style>{_STYLE}</style>
<script>{get_plotlyjs()}</script></head><body>
<h1>Which explanations show what decides?</h1>
<p class="soft">{escape(found.citation)}{who}{on}. {NOT_CLINICAL}</p>
<p>Small models were trained on drawn pictures of which every pixel that decides is known. Every method explains the
same pictures; what it shows is compared with what decides. Means over pictures, in brackets their 95 % interval.
Lines in italics are no methods: what noise, the bare picture and the truth would get.</p>
<h2>Known facts</h2><ul>{lines}</ul>
{sections}
{_overall(made, kb)}
{_gallery(kb, gallery)}
{_folded("Pictures that do not count for localisation, and why", f"<ul>{left_out}</ul>") if left_out else ""}
{_meaning(made, kb)}
<p class="soft"><code>{escape(", ".join(f"{name} {number}" for name, number in found.versions.items()))}; seeds
{escape(", ".join(map(str, found.seeds)))}</code></p>
</body></html>
"""


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inside}</details>"


def _modality(found: Benchmark, made: Sequence[Table], kb: KB, modality: str) -> str:
    parts = [f"<h2>{escape(kb.modalities[modality].name)}</h2>"]
    for name, task in found.tasks.items():
        if task.modality == modality:
            parts.append(f"<h3>{escape(name)}: {escape(task_words(task, kb))}</h3>")
            quality = {"classification": "accuracy", "segmentation": "mean Dice"}.get(task.task, "quality")
            reached = "" if task.quality is None else f"; the model reaches {quality} {task.quality:.2f} on them"
            counted = task.images - len(task.problems)
            checked = f", of {counted} of which it surely decides by the evidence" if task.truth == "planted" else ""
            parts.append(f"<p class='soft'>{task.images} pictures{reached}{checked}.</p>")
            parts.append(_boards(task, kb))
    mine = [name for name, task in found.tasks.items() if task.modality == modality]
    if len(mine) > 1 and (test := overall(made, kb, HEADLINE, mine)) is not None:
        title = f"{metric_name(HEADLINE, kb)} over the tasks of {kb.modalities[modality].name}"
        parts.append(_folded("Which methods differ here?", _drawn(test, kb, title)))
    return "".join(parts)


def _boards(task: BenchmarkTask, kb: KB) -> str:
    """All metrics of a task as one table, methods by their mean place over all ranked metrics, as far as trusted."""
    trusted, counts = trust(kb), weights(kb)
    lines: dict[str, dict[str, Measured]] = {}
    for metric, board in task.boards.items():
        for line in board.lines:
            lines.setdefault(line.method, {})[metric] = line
    order = sorted(lines, key=lambda method: (method in REFERENCES, mean_place(lines[method], task, counts), method))
    arrows = {"higher": "↑", "lower": "↓", None: ""}
    directions = {m: CONTROLS[m].direction if m in CONTROLS else kb.metrics[m].direction for m in task.boards}
    heads = "".join(
        f'<th title="{escape(trusted[metric].phrase if metric in trusted else "trust not measured")}">'
        f"{escape(metric_name(metric, kb))} {arrows[directions[metric]]}</th>"
        for metric in task.boards
    )
    body = []
    for method in order:
        cells = "".join(f"<td>{_cell(lines[method].get(metric))}</td>" for metric in task.boards)
        kind = " class='reference'" if method in REFERENCES else ""
        body.append(f"<tr{kind}><td>{escape(name_of(method, kb))}</td>{cells}</tr>")
    tests = [
        f"{metric_name(metric, kb)} p = {board.p:.2g}, critical difference {board.difference:.2f}"
        for metric, board in task.boards.items()
        if board.p is not None and board.difference is not None
    ]
    told = f"<p class='soft'>Friedman over pictures: {escape('; '.join(tests))}.</p>" if tests else ""
    return f"<div class='wide'><table><tr><th>Method</th>{heads}</tr>{''.join(body)}</table></div>{told}"


def mean_place(lines: Mapping[str, Measured], task: BenchmarkTask, trusted: Mapping[str, float]) -> float:
    """Return a method's mean place on a task, from 0 (first) to 1 (last), over metrics, not controls; infinite if none.

    Args:
        lines: metric to the method's line.
        task: the task, for how many were ranked.
        trusted: metric to how far it is trusted, by which its place counts; one that is not there counts in full.
    """
    places = [
        (trusted.get(metric, 1.0), (line.rank - 1) / max(task.boards[metric].of - 1, 1))
        for metric, line in lines.items()
        if line.rank is not None and metric not in CONTROLS
    ]
    whole = sum(weight for weight, _ in places)
    return sum(weight * place for weight, place in places) / whole if whole else math.inf


def _cell(line: Measured | None) -> str:
    if line is None:
        return "–"
    interval = "" if line.low is None or line.high is None else f" <i>[{line.low:.3g}, {line.high:.3g}]</i>"
    text = f"{line.mean:.3g}{interval}"
    return f"<b>{text}</b>" if line.rank == 1 else text


def _overall(made: Sequence[Table], kb: KB) -> str:
    parts = []
    for metric in dict.fromkeys(one.metric for one in made):
        if metric not in CONTROLS and (test := overall(made, kb, metric)) is not None and test.blocks > 1:
            parts.append(
                _folded(metric_name(metric, kb), _drawn(test, kb, f"{metric_name(metric, kb)} over all tasks"))
            )
    if not parts:
        return ""
    return (
        "<h2>Over all tasks</h2><p>Each task is one block of the test. Two methods differ where their bars do not "
        f"overlap; in the shaded part nobody surely loses against the first.</p>{''.join(parts)}"
    )


def _drawn(test: Friedman, kb: KB, title: str) -> str:
    figure = diagram(test, kb, f"{title}: {test.blocks} blocks, Friedman p = {test.p:.2g}")
    groups = alike(test)
    first = f"<p class='soft'>Not told apart from the first: {len(groups[0]) - 1} methods.</p>" if groups else ""
    return str(figure.to_html(full_html=False, include_plotlyjs=False)) + first


def _gallery(kb: KB, gallery: Sequence[Failure]) -> str:
    if not gallery:
        return ""
    cards = "".join(
        f"<div>{_img(one.picture, one.method)}<p><b>{escape(name_of(one.method, kb))}</b>: {one.value:.1%} on the "
        f"evidence</p>{_img(one.best_picture, one.best)}<p class='soft'>the best there, "
        f"{escape(name_of(one.best, kb))}: {one.best_value:.1%}<br>"
        f"{escape(one.task)}, picture {escape(one.image)}</p></div>"
        for one in gallery
    )
    return (
        "<h2>Failures</h2><p>The maps that miss the evidence (green outline) most, each above the best of the same "
        f"picture.</p><div class='gallery'>{cards}</div>"
    )


def _img(picture: Rgb, words: str) -> str:
    data = base64.b64encode(png(picture)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(words)}">'


def _meaning(made: Iterable[Table], kb: KB) -> str:
    items, judged = [], trust(kb)
    for metric in dict.fromkeys(one.metric for one in made):
        text = CONTROLS[metric].text if metric in CONTROLS else kb.metrics[metric].definition
        only = " Only pictures of which the model surely decides by the evidence." if localises(metric, kb) else ""
        trusted = f" {escape(judged[metric].sentence)}" if metric in judged else ""
        items.append(f"<li><b>{escape(metric_name(metric, kb))}</b>: {escape(text)}{only}{trusted}</li>")
    return _folded("What the numbers mean", f"<ul>{''.join(items)}</ul>")


# --- files ------------------------------------------------------------------------------------------------------------


def table_csv(found: Benchmark) -> str:
    """Return every line of every board as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    facts = ("modality", "task", "dims", "architecture", "truth", "marked")
    writer.writerow(["benchmark", "name", *facts, "metric", "method", "mean", "low", "high", "rank", "of", "n"])
    for name, task in found.tasks.items():
        own = [getattr(task, fact) for fact in facts]
        for metric, board in task.boards.items():
            for line in board.lines:
                mean = [line.mean, line.low, line.high, line.rank, board.of, line.n]
                writer.writerow([found.benchmark, name, *own, metric, line.method, *mean])
    return text.getvalue()


def save(folder: Path, found: Benchmark, page: str) -> tuple[Path, ...]:
    """Write ``benchmark.html``, ``benchmark.csv`` and ``benchmark.json`` into a folder and return their paths.

    Raises:
        AtlasError: the folder cannot be written.
    """
    paths = tuple(folder / f"benchmark.{ending}" for ending in ("html", "csv", "json"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(page, encoding="utf-8")
        paths[1].write_text(table_csv(found), encoding="utf-8")
    except OSError as error:
        raise AtlasError(f"{folder} cannot be written: {error.strerror or error}; give another folder") from error
    write_benchmark(found, paths[2])
    return paths
