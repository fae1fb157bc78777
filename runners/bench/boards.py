"""What the rows of the benchmark say: leaderboards with intervals, tests of the differences, and the known facts.

A board is one metric on one task. Means are over pictures, with 95 % bootstrap intervals whose draws all methods share.
Whether methods differ at all is Friedman's test with the pictures as blocks; which of them do is Nemenyi's critical
difference of mean ranks (Demšar 2006, "Statistical comparisons of classifiers over multiple data sets").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from runners.bench.store import BenchRow, BenchRun, BenchTask
from runners.bench.work import COMPLETE
from taxonomy.loader import KB
from taxonomy.measured import BENCHMARK, CONTROLS, REFERENCES, Benchmark, BenchmarkTask, Measured, Scores
from taxonomy.requirements import sane_below

Array = NDArray[np.float64]
DRAWS = 2000
ALPHA = 0.05
ALIKE = 1e-6
"""Values that differ by less than this share of the larger one are tied."""


@dataclass(frozen=True, eq=False)
class Table:
    """The numbers of one metric on one task.

    Attributes:
        task: task. metric: metric or control. methods: methods and references. images: pictures.
        values: ``(methods, images)``, NaN where there is none.
        direction: "higher" or "lower" is better, or None.
    """

    task: str
    metric: str
    methods: tuple[str, ...]
    images: tuple[str, ...]
    values: Array
    direction: str | None

    @property
    def own(self) -> list[int]:
        """The rows of methods, without the references."""
        return [i for i, method in enumerate(self.methods) if method not in REFERENCES]


@dataclass(frozen=True)
class Friedman:
    """Do methods differ, and by how much must mean ranks differ to tell?

    Attributes:
        statistic: chi-square. p: probability of it were all methods alike.
        difference: Nemenyi's critical difference of mean ranks.
        ranks: method to mean rank, 1 is best.
        blocks: number of pictures, or tasks, that were compared.
    """

    statistic: float
    p: float
    difference: float
    ranks: Mapping[str, float]
    blocks: int


def direction(metric: str, kb: KB) -> str | None:
    """Return which end of a metric, or a control, is the better."""
    return CONTROLS[metric].direction if metric in CONTROLS else kb.metrics[metric].direction


def localises(metric: str, kb: KB) -> bool:
    """Whether a metric compares the map with the evidence."""
    return metric not in CONTROLS and "mask" in kb.metrics[metric].needs


def tables(rows: Iterable[BenchRow], kb: KB) -> list[Table]:
    """Sort rows into tables; what compares with the evidence counts only pictures of which the model decides by it.

    A later row replaces an earlier one, and of several seeds the mean counts.
    """
    found: dict[tuple[str, str], dict[tuple[str, str], dict[int, float]]] = {}
    for row in rows:
        if localises(row.metric, kb) and not row.holds:
            continue
        cell = found.setdefault((row.task, row.metric), {}).setdefault((row.method, row.image), {})
        cell[row.seed] = math.nan if row.value is None else row.value
    made = []
    for (task, metric), cells in sorted(found.items()):
        methods = tuple(sorted({method for method, _ in cells}))
        images = tuple(sorted({image for _, image in cells}))
        values = np.full((len(methods), len(images)), math.nan)
        for (method, image), each in cells.items():
            values[methods.index(method), images.index(image)] = np.mean(list(each.values()))
        made.append(Table(task, metric, methods, images, values, direction(metric, kb)))
    return made


def bootstrap(values: Array, seed: int = 0, draws: int = DRAWS) -> tuple[Array, Array]:
    """Return the ends of the 95 % percentile intervals of the means of the rows.

    Args:
        values: ``(methods, images)``; NaN is left out.
        seed: the same seed draws the same pictures for every row.
        draws: how often pictures are drawn.

    Returns:
        Two arrays ``(methods,)``; NaN for rows with less than two numbers.
    """
    count = values.shape[1]
    picked = np.random.default_rng(seed).integers(0, count, (draws, count))
    low, high = np.full(len(values), math.nan), np.full(len(values), math.nan)
    for i, row in enumerate(values):
        if np.isfinite(row).sum() > 1:
            drawn = row[picked]
            there = np.isfinite(drawn)
            some = there.any(1)
            means = np.where(there, drawn, 0.0).sum(1)[some] / there.sum(1)[some]
            low[i], high[i] = np.percentile(means, (2.5, 97.5))
    return low, high


def ranked(means: Sequence[float], better: str | None) -> list[int | None]:
    """Return the place of every mean, 1 is best, ties share the better one; None for NaN or where nothing is better."""
    if better is None:
        return [None] * len(means)
    sign = -1 if better == "lower" else 1

    def ahead(other: float, own: float) -> bool:
        return sign * other > sign * own and not math.isclose(other, own, rel_tol=ALIKE, abs_tol=1e-12)

    return [None if math.isnan(own) else 1 + sum(ahead(other, own) for other in means) for own in means]


def critical_difference(methods: int, blocks: int, alpha: float = ALPHA) -> float:
    """Return Nemenyi's critical difference of mean ranks: q √(k (k + 1) / 6 N), Demšar 2006.

    q is the quantile of the studentised range for infinite degrees of freedom over √2.

    Args:
        methods: k, at least 2.
        blocks: N, pictures or tasks.
        alpha: level of the test.
    """
    q = float(stats.studentized_range.ppf(1 - alpha, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * blocks))


def friedman(values: Array, methods: Sequence[str], better: str | None) -> Friedman | None:
    """Compare methods over blocks.

    Blocks in which more than half of the methods have no number are left out first, then methods with a gap.

    Args:
        values: ``(methods, blocks)``, NaN where there is none.
        methods: names of the rows.
        better: "higher" or "lower".

    Returns:
        None with less than three methods or two blocks, or where all are tied.
    """
    if better is None or len(values) < 3:
        return None
    values = values[:, np.isfinite(values).mean(0) >= 0.5]
    whole = np.asarray(np.isfinite(values).all(axis=1))
    kept = values[whole]
    names = [name for name, keep in zip(methods, whole, strict=True) if keep]
    if len(kept) < 3 or kept.shape[1] < 2:
        return None
    signed = kept if better == "lower" else -kept
    ranks = stats.rankdata(signed, axis=0)
    if (ranks == ranks[0]).all():
        return None
    statistic, p = stats.friedmanchisquare(*signed)
    return Friedman(
        statistic=float(statistic),
        p=float(p),
        difference=critical_difference(*kept.shape),
        ranks=dict(zip(names, ranks.mean(1).tolist(), strict=True)),
        blocks=kept.shape[1],
    )


def alike(found: Friedman) -> list[tuple[str, ...]]:
    """Return the largest groups of methods that the test cannot tell apart, best first."""
    order = sorted(found.ranks, key=lambda method: (found.ranks[method], method))
    groups: list[tuple[str, ...]] = []
    last = -1
    for start, method in enumerate(order):
        end = max(i for i, one in enumerate(order) if found.ranks[one] - found.ranks[method] <= found.difference)
        if end > last and end > start:
            groups.append(tuple(order[start : end + 1]))
            last = end
    return groups


def board(table: Table, seed: int = 0) -> Scores:
    """Return a table as a board: the best first, then what could not be ranked.

    References are not ranked, nor are methods without a number on more than half of the pictures.
    """
    means = [float(np.nanmean(row)) if np.isfinite(row).any() else math.nan for row in table.values]
    low, high = bootstrap(table.values, seed)
    counts = np.isfinite(table.values).sum(1)
    own = [i for i in table.own if 2 * counts[i] >= counts.max()]  # a mean over other pictures does not compare
    places = dict(zip(own, ranked([means[i] for i in own], table.direction), strict=True))
    lines = [
        Measured(
            method,
            _digits(means[i]),
            None if math.isnan(low[i]) else _digits(low[i]),
            None if math.isnan(high[i]) else _digits(high[i]),
            places.get(i),
            int(counts[i]),
        )
        for i, method in enumerate(table.methods)
        if not math.isnan(means[i])
    ]
    lines.sort(key=lambda line: (line.rank is None, line.rank or 0, line.method))
    test = friedman(table.values[own], [table.methods[i] for i in own], table.direction)
    return Scores(
        lines=lines,
        p=None if test is None else _digits(test.p),
        difference=None if test is None else _digits(test.difference),
    )


def _digits(value: float) -> float:
    """Four significant digits: more is noise, and makes the file large."""
    return float(f"{value:.4g}")


def overall(found: Sequence[Table], kb: KB, metric: str, tasks: Sequence[str] | None = None) -> Friedman | None:
    """Compare methods by a metric over tasks: each task is a block, its mean the number.

    Args:
        found: all tables.
        kb: the knowledge base.
        metric: the metric.
        tasks: only these tasks, for instance of one modality.
    """
    some = [one for one in found if one.metric == metric and (tasks is None or one.task in tasks)]
    methods = sorted({one.methods[i] for one in some for i in one.own})
    values = np.full((len(methods), len(some)), math.nan)
    for column, one in enumerate(some):
        for i in one.own:
            if np.isfinite(one.values[i]).any():
                values[methods.index(one.methods[i]), column] = np.nanmean(one.values[i])
    if not len(some):
        return None
    return friedman(values, methods, direction(metric, kb))


# --- the known facts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """Something that is known and must show.

    Attributes:
        text: what was found, with the numbers.
        holds: it shows; None where it could not be looked at.
    """

    text: str
    holds: bool | None


def compared(table: Table, first: str, second: str, seed: int = 0) -> tuple[float, float, float] | None:
    """Return by how much the first method is better than the second, with the 95 % interval over the same pictures.

    Positive is better whatever the direction of the metric; None where they share no picture.
    """
    if first not in table.methods or second not in table.methods or table.direction is None:
        return None
    a, b = (table.values[table.methods.index(one)] for one in (first, second))
    gain = (a - b) * (-1 if table.direction == "lower" else 1)
    gain = gain[np.isfinite(gain)]
    if not len(gain):
        return None
    low, high = bootstrap(gain[None], seed)
    return float(gain.mean()), float(low[0]), float(high[0])


def facts(found: Sequence[Table], kb: KB, tasks: Mapping[str, Mapping[str, Any]]) -> list[Fact]:
    """Say for each known fact whether the benchmark shows it.

    Args:
        found: all tables.
        kb: the knowledge base.
        tasks: task to its facts.
    """
    planted = {name for name, one in tasks.items() if one["truth"] == "planted"}
    return [
        *_beats_random([one for one in found if one.task in planted], kb),
        *_insane(found, tasks),
        _small_lesions([one for one in found if one.task in planted and tasks[one.task]["modality"] == "fundus"], kb),
    ]


def _beats_random(found: Sequence[Table], kb: KB) -> list[Fact]:
    told = []
    for metric in sorted({one.metric for one in found if one.metric in kb.metrics}):
        if kb.metrics[metric].property != "faithfulness":
            continue
        for method in COMPLETE:
            gains = {one.task: compared(one, method, "reference_random") for one in found if one.metric == metric}
            known = {task: gain for task, gain in gains.items() if gain is not None}
            if not known:
                continue
            better = [task for task, (mean, _, _) in known.items() if mean > 0]
            sure = sum(low > 0 for _, low, _ in known.values())
            tied = [task for task, (mean, _, _) in known.items() if mean == 0]
            worse = [f"{task} ({mean:+.3g})" for task, (mean, _, _) in known.items() if mean < 0]
            text = f"{kb.methods[method].name} against a random map by {kb.metrics[metric].name}: "
            text += f"better on {len(better)} of {len(known)} tasks, surely (95 %) on {sure}"
            text += f"; tied on {', '.join(tied)}" if tied else ""
            text += f"; worse on {', '.join(worse)}" if worse else ""
            told.append(Fact(text + ".", bool(better) and not worse))
    return told or [
        Fact("Complete methods against a random map: no metric of faithfulness was measured on both.", None)
    ]


def _insane(found: Sequence[Table], tasks: Mapping[str, Mapping[str, Any]]) -> list[Fact]:
    told = []
    for one in found:
        if one.metric != "mprt" or "guided_backprop" not in one.methods:
            continue
        limit = sane_below(tasks[one.task]["task"])
        values = one.values[one.methods.index("guided_backprop")]
        if not np.isfinite(values).any():
            continue
        mean = float(np.nanmean(values))
        text = f"{one.task}: guided backpropagation keeps a similarity of {mean:.2f} under random weights"
        if "vanilla_gradient" in one.methods:
            plain = one.values[one.methods.index("vanilla_gradient")]
            if np.isfinite(plain).any():
                text += f" (the plain gradient {float(np.nanmean(plain)):.2f})"
        told.append(Fact(f"{text}; above {limit:g} is failing.", mean > limit))
    return told or [Fact("Guided backpropagation under random weights: not measured.", None)]


def _small_lesions(found: Sequence[Table], kb: KB) -> Fact:
    told, wins = [], []
    for one in found:
        if localises(one.metric, kb) and (gain := compared(one, "layer_cam", "grad_cam")) is not None:
            mean, low, high = gain
            told.append(f"{one.task}, {kb.metrics[one.metric].name} {mean:+.3g} ({low:.3g} to {high:.3g})")
            wins.append(mean > 0)
    if not told:
        return Fact("Layer-CAM against Grad-CAM on small lesions: no task with small lesions was run.", None)
    words = "better" if all(wins) else "worse" if not any(wins) else "mixed"
    return Fact(f"Layer-CAM against Grad-CAM on small lesions is {words}: {'; '.join(told)}.", all(wins))


# --- the data file ----------------------------------------------------------------------------------------------------


def collect(
    rows: Sequence[BenchRow],
    tasks: Sequence[BenchTask],
    runs: Sequence[BenchRun],
    kb: KB,
    *,
    seed: int = 0,
    by: str | None = None,
    machine: str | None = None,
) -> Benchmark:
    """Make the data file of rows.

    Args:
        rows: of one version of the benchmark and of one hash per task.
        tasks: the tasks of the rows.
        runs: the invocations of the rows.
        kb: the knowledge base.
        seed: of the bootstrap.
        by: who ran it; by default what the last invocation says.
        machine: on what; the same.
    """
    boards: dict[str, dict[str, Scores]] = {}
    for table in tables(rows, kb):
        made = board(table, seed)
        if made.lines:
            boards.setdefault(table.task, {})[table.metric] = made
    last = runs[-1] if runs else None
    return Benchmark(
        benchmark=BENCHMARK,
        level="+".join(dict.fromkeys(run.level for run in runs)) or "none",
        date=(last.created if last else datetime.now(UTC)).date().isoformat(),
        runs=[run.id for run in runs],
        seeds=sorted({row.seed for row in rows}),
        versions={name: str(value) for name, value in (last.versions if last else {}).items()},
        by=by or (last.by if last else None),
        machine=machine or (last.machine if last else None),
        tasks={
            one.task: BenchmarkTask(
                modality=one.facts["modality"],
                task=one.facts["task"],
                dims=one.facts["dims"],
                architecture=one.facts["architecture"],
                truth=one.facts["truth"],
                marked=one.facts["marked"],
                size=list(one.facts["size"]),
                sha=one.task_sha,
                images=one.images,
                problems=one.problems,
                quality=None if one.quality is None else _digits(one.quality),
                boards=boards[one.task],
            )
            for one in sorted(tasks, key=lambda one: one.task)
            if one.task in boards
        },
    )
