"""One piece of work of the benchmark: explain some pictures of a task by one method, and measure the maps.

Methods run at their default parameters; only where one would need more model passes than the level allows
(:class:`Spending`), the number of its samples is cut, and the row tells.

Every number also exists for *references*, which are no methods: a random map, the edges of the picture, and the true
map. What a method cannot do better than noise or edges it does not do.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runners import explain, explainers, measure, metrics, profile, unmet
from runners.bench import tasks as bench
from runners.bench.expert import expert
from runners.bench.phantoms import Planted
from runners.bench.pool import Enough, limited, tick
from runners.bench.store import BenchRow, Kind
from runners.bench.tasks import Level, Task
from runners.checks import rank_correlation
from runners.gate import Explanation
from runners.models import Wired, preserved
from runners.models import run as ask
from runners.registry import parameters
from runners.targets import Region, Target, marked, primary
from taxonomy import KB, load_kb
from taxonomy.errors import AtlasError
from taxonomy.measured import BENCHMARK, CONTROLS, REFERENCES

METHODS: Mapping[str, tuple[str, ...]] = {
    "quick": (
        "grad_cam",
        "guided_backprop",
        "input_x_gradient",
        "integrated_gradients",
        "layer_cam",
        "lrp",
        "occlusion",
        "vanilla_gradient",
    )
}
"""Methods of a level that names none; of the others, every one that can explain the model."""
METRICS: Mapping[str, tuple[str, ...]] = {
    "quick": (
        "relevance_mass_accuracy",
        "relevance_rank_accuracy",
        "pointing_game",
        "localisation_auc",
        "deletion",
        "insertion",
        "mprt",
        "max_sensitivity",
        "sparseness",
    ),
    "small": (
        "relevance_mass_accuracy",
        "relevance_rank_accuracy",
        "pointing_game",
        "localisation_auc",
        "auprc_localisation",
        "deletion",
        "insertion",
        "road",
        "faithfulness_correlation",
        "infidelity",
        "completeness",
        "mprt",
        "random_logit",
        "max_sensitivity",
        "sparseness",
        "complexity_entropy",
    ),
}
"""Metrics of a level that names none, such that every property is covered; one that is not computed here is skipped."""
COMPLETE = ("integrated_gradients", "lrp")
"""Methods whose values sum to the score, or to its difference to a baseline. On them and on the random map every metric
of faithfulness is measured, for the first known fact; the one starts from a chosen picture, the other from zero."""


@dataclass(frozen=True)
class Spending:
    """What a level spends on pictures, or on volumes.

    Attributes:
        passes: a method whose cost is above this gets fewer samples; None for no limit.
        again: pictures of a task on which metrics that explain again (robustness, randomisation) are measured.
        controls: pictures whose twin without evidence is explained too.
        most: largest values of the metrics' parameters that count something.
        seconds: after which one method on one batch of pictures is given up.
    """

    passes: int | None
    again: int
    controls: int
    most: Mapping[str, int]
    seconds: float


SPENDING: Mapping[tuple[str, int], Spending] = {
    ("quick", 2): Spending(60, 2, 2, {"steps": 16, "samples": 4, "stages": 3}, 60.0),
    ("quick", 3): Spending(30, 1, 1, {"steps": 12, "samples": 3, "stages": 3}, 60.0),
    ("small", 2): Spending(100, 2, 2, {"steps": 16, "samples": 3, "stages": 2}, 180.0),
    ("small", 3): Spending(30, 1, 1, {"steps": 10, "samples": 2, "stages": 2}, 180.0),
    ("full", 2): Spending(None, 1_000_000, 1_000_000, {}, 3600.0),
    ("full", 3): Spending(None, 1_000_000, 1_000_000, {}, 3600.0),
}
"""By level and dimensions."""
COUNTS = ("masks", "samples", "designs", "orders", "positions", "channels", "steps", "segments")
"""Parameters by which a method's passes are cut, the first that it has first."""
FEWEST = 4
BATCH: Mapping[int, int] = {2: 16, 3: 4}
"""Pictures that are explained together, by dimensions; the numbers are those of one at a time."""
REFERENCE_IMAGES = 8
"""Pictures of the training split for methods that compare with them."""


# --- references and controls ------------------------------------------------------------------------------------------


def random_map(x: Tensor, evidence: Tensor, seed: int) -> Tensor:  # noqa: ARG001 - as the others
    """Return normal noise ``(B, *spatial)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(one.shape, generator=generator) for one in evidence])


def edge_map(x: Tensor, evidence: Tensor, seed: int) -> Tensor:  # noqa: ARG001 - as the others
    """Return the size of the picture's gradient, over all channels: a map that never saw the model."""
    axes = tuple(range(2, x.ndim))
    slopes = torch.gradient(x, dim=axes)
    total: Tensor = sum((slope.square().sum(1) for slope in slopes), torch.zeros(x.shape[0], *x.shape[2:]))
    return total.sqrt()


def true_map(x: Tensor, evidence: Tensor, seed: int) -> Tensor:  # noqa: ARG001 - as the others
    """Return 1 on the evidence, which speaks for the label, and 0 elsewhere."""
    return evidence.float()


_MAPS: Mapping[str, tuple[Callable[[Tensor, Tensor, int], Tensor], bool]] = {
    "reference_random": (random_map, True),
    "reference_edges": (edge_map, False),
    "reference_truth": (true_map, True),
}
"""Reference to its map and whether it is signed."""


def left_over(without: Tensor, with_it: Tensor, planted: Sequence[Planted], seed: int) -> Tensor:  # noqa: ARG001
    """Return the positive mass of the map without the evidence, as a share of that with it."""
    gone, here = (values.flatten(1).clamp_min(0).double().sum(1) for values in (without, with_it))
    return gone / here


def same_place(without: Tensor, with_it: Tensor, planted: Sequence[Planted], seed: int) -> Tensor:  # noqa: ARG001
    """Return the rank correlation of the maps with and without the evidence: 1 is a map that noticed nothing."""
    return rank_correlation(without, with_it)


def on_distractors(without: Tensor, with_it: Tensor, planted: Sequence[Planted], seed: int) -> Tensor:  # noqa: ARG001
    """Return the share of the positive mass on distractors over their share of the picture: 1 is chance."""
    inside = torch.stack([one.distractors for one in planted]).flatten(1).double()
    mass = without.flatten(1).clamp_min(0).double()
    return (mass * inside).sum(1) / mass.sum(1) / inside.mean(1)


def like_random(without: Tensor, with_it: Tensor, planted: Sequence[Planted], seed: int) -> Tensor:  # noqa: ARG001
    """Return the rank correlation of the map without evidence with a random map: 0 is chance."""
    noise = [random_map(one[None], one[None], seed_of(p, seed)) for one, p in zip(without, planted, strict=True)]
    return rank_correlation(without, torch.cat(noise))


def seed_of(planted: Planted, seed: int) -> int:
    """Return a seed of a picture's own: its noise does not depend on what it is explained together with."""
    return seed * 2**32 + int.from_bytes(hashlib.sha256(planted.name.encode()).digest()[:4], "big")


_CONTROLS: Mapping[str, Callable[[Tensor, Tensor, Sequence[Planted], int], Tensor]] = {
    "control_left_over": left_over,
    "control_same_place": same_place,
    "control_on_distractors": on_distractors,
    "control_like_random": like_random,
}


# --- what is run ------------------------------------------------------------------------------------------------------


def spending(level: Level, dims: int) -> Spending:
    """Return what a level spends; one of another name spends as the small one."""
    return SPENDING.get((level.name, dims), SPENDING["small", dims])


def method_options(method: str, passes: int | None, limit: int | None, size: Sequence[int]) -> dict[str, Any]:
    """Return the parameters that keep a method within a limit of model passes; none where it is within anyway.

    What takes samples takes fewer of them, and where that is not enough fewer steps; a sliding window takes longer
    steps, and is as wide as they are.

    Args:
        method: a method id with an explainer.
        passes: what one explanation takes by the knowledge base, or None.
        limit: passes that may be spent, or None.
        size: spatial size of the pictures.
    """
    if passes is None or limit is None or passes <= limit:
        return {}
    known = parameters(explainers[method])
    if {"window", "stride"} <= known.keys():
        stride = math.ceil(min(size) / int(limit ** (1 / len(size)) + 1e-9))
        return {"window": max(stride, round(min(size) / 8)), "stride": stride}
    found: dict[str, Any] = {}
    for name in COUNTS:
        if passes > limit and isinstance(known.get(name), int):
            fewer = max(FEWEST, known[name] * limit // passes)
            passes = math.ceil(passes * fewer / known[name])
            found[name] = fewer
    return found


def metric_options(metric: str, most: Mapping[str, int]) -> dict[str, Any]:
    """Return the parameters of a metric that a level cuts."""
    known = parameters(metrics[metric])
    return {name: top for name, top in most.items() if isinstance(known.get(name), int) and known[name] > top}


def kind_of(metric: str) -> Kind:
    """Return on which kind of picture a metric, or a control, is measured."""
    return "control" if metric in CONTROLS else "evidence"


def given_of(metric: str, budget: Spending) -> dict[str, Any]:
    """Return the parameters of a metric in a level; controls have none."""
    return {} if metric in CONTROLS else metric_options(metric, budget.most)


def settings_hash(*given: Mapping[str, Any]) -> str:
    """Return 16 digits that stand for parameters."""
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]


def measured_on(method: str, kb: KB, level: Level, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics to measure of a method: those wanted, and all of faithfulness for the first known fact."""
    found = list(wanted)
    if method in (*COMPLETE, "reference_random") and level.metrics is None:
        found += [m for m in metrics if m not in found and kb.metrics[m].property == "faithfulness"]
    owned = {"labels", "retraining", "generator", "human"}
    found = [m for m in found if not owned & set(kb.metrics[m].needs)]
    if method in REFERENCES:  # nothing explains again
        found = [m for m in found if "explainer" not in kb.metrics[m].needs]
    return tuple(found)


@dataclass(frozen=True)
class Own:
    """Pictures of the user's with masks of experts, and the model to explain on them.

    Attributes:
        modality: modality id of the pictures.
        path: folder, see :func:`runners.bench.expert.pairs`.
        model: as in ``load_model``.
    """

    modality: str
    path: Path
    model: str


Source = Task | Own


@dataclass(frozen=True)
class Work:
    """A method, or a reference, on some pictures of a task.

    Attributes:
        source: the task.
        method: method or reference.
        due: numbers of the pictures, each with the metrics and controls to measure on it.
        level: what may be spent; its number of pictures decides which there are.
        seed: of maps and metrics.
        cache: folder of the trained models.
    """

    source: Source
    method: str
    due: tuple[tuple[int, tuple[str, ...]], ...]
    level: Level
    seed: int
    cache: Path | None

    @property
    def images(self) -> tuple[int, ...]:
        """The numbers of the pictures."""
        return tuple(number for number, _ in self.due)


@dataclass(frozen=True)
class Prepared:
    """A task whose model is trained, in plain data.

    Attributes:
        task: the task. sha: hash of what decides model and pictures. names: of the pictures.
        problems: picture to why it is no ground truth.
        twins: numbers of the pictures with a twin. evident: numbers of those with evidence.
        able: methods that can explain the model. unmet: those that cannot, with the sentence.
        seconds: of one forward pass of one picture.
        quality: accuracy or mean Dice.
    """

    task: Task
    sha: str
    names: tuple[str, ...]
    problems: Mapping[str, str]
    twins: tuple[int, ...]
    evident: tuple[int, ...]
    able: tuple[str, ...]
    unmet: Mapping[str, str]
    seconds: float
    quality: float | None


@dataclass(frozen=True, eq=False)
class _Ready:
    """A task in a process: model, profile and pictures."""

    task: Task
    sha: str
    model: nn.Module
    wired: Wired
    pictures: list[Planted]
    reference: Tensor | None


@cache
def kb_of() -> KB:
    """Return the knowledge base, read once in a process."""
    return load_kb()


def task_id(source: Source) -> str:
    """Return the name of a task, or of pictures of the user's."""
    return source.id if isinstance(source, Task) else f"own_{source.modality}"


@lru_cache(maxsize=2)
def _ready(source: Source, level: Level, cache: Path | None) -> _Ready:
    """Load a task; a worker keeps the last two."""
    if isinstance(source, Own):
        return _own(source, level)
    model = bench.trained(source, cache, tick)
    pictures = bench.cases(source, level.pictures(source.dims), evident=True)
    reference = torch.stack([one.x for one in bench.cases(source, REFERENCE_IMAGES, "train")])
    wired = profile(model, pictures[0].x[None], task=source.task, architecture=source.architecture)
    return _Ready(source, bench.fingerprint(source), model, wired, pictures, reference)


def _own(source: Own, level: Level) -> _Ready:
    """Load pictures of the user's. Their names stay on this machine: rows name a picture by a hash of what it shows."""
    task, model, read = expert(source.path, source.model, level.images)
    pictures = [replace(one, name=_content(one)) for one in read]
    task = replace(task, id=task_id(source), modality=source.modality)
    told = "".join((repr(task), str(model.sha256), *(one.name for one in pictures)))
    wired = profile(model, pictures[0].x[None], task=task.task)
    return _Ready(task, hashlib.sha256(told.encode()).hexdigest()[:16], model, wired, pictures, None)


def _content(planted: Planted) -> str:
    digest = hashlib.sha256(planted.image.numpy().tobytes())
    digest.update(planted.evidence.numpy().tobytes())
    return digest.hexdigest()[:12]


def _target(task: Task, label: int) -> Target:
    """What is explained: the true label, or what the model marks as it; without any truth, the decision."""
    if task.truth == "none" or label < 0:
        return None
    return Region(label) if task.task == "segmentation" else label


def prepare(source: Source, level: Level, cache: Path | None) -> Prepared:
    """Train the model of a task unless it is there, and find out what can be run on it."""
    ready = _ready(source, level, cache)
    task, pictures = ready.task, ready.pictures
    checks = [] if task.truth == "mask" else bench.checked(task, ready.model, pictures)
    target = _target(task, pictures[0].label)
    gaps = {method: unmet(method, ready.wired, target, reference=ready.reference) for method in explainers}
    with preserved(ready.model), torch.no_grad():
        many = pictures[0].x.expand(BATCH[task.dims], *pictures[0].x.shape)
        ask(ready.model, many.clone())
        start = time.perf_counter()
        ask(ready.model, many.clone())
        seconds = (time.perf_counter() - start) / len(many)
    return Prepared(
        task=task,
        sha=ready.sha,
        names=tuple(one.name for one in pictures),
        problems={} if task.truth == "none" else {one.name: one.problem for one in checks if one.problem},
        twins=tuple(i for i, one in enumerate(pictures) if one.without is not None and one.evidence.any()),
        evident=tuple(i for i, one in enumerate(pictures) if one.evidence.any()),
        able=tuple(sorted(method for method, gap in gaps.items() if not gap)),
        unmet={method: " ".join(one.sentence for one in gap) for method, gap in gaps.items() if gap},
        seconds=seconds,
        quality=None if task.truth == "mask" else bench.quality(task, ready.model, pictures),
    )


# --- one piece of work ------------------------------------------------------------------------------------------------


def work(job: Work) -> list[dict[str, Any]]:
    """Explain some pictures by a method and measure the maps.

    Returns:
        Rows of :class:`runners.bench.store.BenchRow` without run and ``holds``; of a failure one per metric, with the
        sentence. When the user stopped it, nothing.
    """
    ready = _ready(job.source, job.level, job.cache)
    rows: list[dict[str, Any]] = []
    groups: dict[tuple[int, ...], list[int]] = {}
    for number in job.images:  # what is explained together has one size, and of a segmentation one label
        planted = ready.pictures[number]
        label = planted.label if ready.task.task == "segmentation" else min(planted.label, 0)
        groups.setdefault((label, *planted.image.shape), []).append(number)
    for numbers in groups.values():
        size = BATCH[ready.task.dims]
        for start in range(0, len(numbers), size):
            try:
                rows += _batch(ready, job, numbers[start : start + size])
            except Enough as end:
                if end.args == ("stopped",):
                    return rows
                raise
    return rows


@dataclass
class _Rows:
    """Collects the rows of one method on some pictures."""

    ready: _Ready
    job: Work
    numbers: Sequence[int]
    found: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        metric: str,
        values: Sequence[float | None] | None,
        why: Sequence[str] | str,
        *,
        options: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        numbers: Sequence[int],
    ) -> None:
        """Add one row per picture: its value, or why there is none."""
        kind, given = kind_of(metric), given_of(metric, spending(self.job.level, self.ready.task.dims))
        for at, number in enumerate(numbers):
            value = None if values is None else values[at]
            sentence = why if isinstance(why, str) else why[at]
            self.found.append(
                {
                    "benchmark": BENCHMARK,
                    "task": self.ready.task.id,
                    "task_sha": self.ready.sha,
                    "method": self.job.method,
                    "metric": metric,
                    "image": self.ready.pictures[number].name,
                    "kind": kind,
                    "settings": settings_hash(options, given),
                    "seed": self.job.seed,
                    "value": value,
                    "error": None if value is not None else sentence or "not defined",
                    "seconds": None if seconds is None else seconds / len(numbers),
                    "method_parameters": dict(options),
                    "metric_parameters": given,
                    **(more or {}),
                }
            )


def _batch(ready: _Ready, job: Work, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Explain a batch; when it fails as a whole, one picture at a time."""
    budget = spending(job.level, ready.task.dims)
    rows = _Rows(ready, job, numbers)
    kb = kb_of()
    options = options_of(job.method, kb, budget, ready.task.size)
    pictures = [ready.pictures[number] for number in numbers]
    x = torch.stack([one.x for one in pictures])
    target = _targets(ready.task, pictures)
    due: dict[str, list[int]] = {}
    for at, number in enumerate(numbers):
        for metric in dict(job.due)[number]:
            due.setdefault(metric, []).append(at)
    try:
        with limited(budget.seconds):
            made: Explanation | str = _explained(ready, job, x, pictures, target, options)
    except Enough as end:
        if end.args == ("stopped",):
            raise
        made = f"given up after {budget.seconds:.0f} s"
    except Exception as error:  # a method of whatever kind of failure must not end the benchmark
        if len(numbers) > 1:
            return [row for number in numbers for row in _batch(ready, job, [number])]
        made = sentence_of(error)
    if isinstance(made, str):
        for metric, some in due.items():
            rows.add(metric, None, made, options=options, numbers=[numbers[at] for at in some])
        return rows.found
    more = {
        "map_seconds": made.seconds / len(numbers),
        "forward": made.passes.get("forward", 0) // len(numbers),
        "backward": made.passes.get("backward", 0) // len(numbers),
    }
    for metric, some in due.items():
        if metric not in CONTROLS:
            given = metric_options(metric, budget.most)
            values, why, seconds = _scored(ready, job, metric, made, x, target, pictures, some, given, budget)
            chosen = [numbers[at] for at in some]
            rows.add(metric, values, why, options=options, more=more, seconds=seconds, numbers=chosen)
    if controls := {metric: some for metric, some in due.items() if metric in CONTROLS}:
        _control(ready, job, rows, made, x, pictures, controls, options, budget)
    return rows.found


def options_of(method: str, kb: KB, budget: Spending, size: Sequence[int]) -> dict[str, Any]:
    """Return the parameters of a method, or of a reference, in a level."""
    return {} if method in REFERENCES else method_options(method, kb.methods[method].cost.passes, budget.passes, size)


def _targets(task: Task, pictures: Sequence[Planted]) -> Target:
    if task.truth == "none" or task.task == "segmentation":
        return _target(task, pictures[0].label)
    labels = [one.label for one in pictures]
    return None if min(labels) < 0 else labels


def _explained(
    ready: _Ready, job: Work, x: Tensor, pictures: Sequence[Planted], target: Target, options: Mapping[str, Any]
) -> Explanation:
    if job.method in REFERENCES:
        make, signed = _MAPS[job.method]
        values = [make(x[i : i + 1], p.evidence[None], seed_of(p, job.seed)) for i, p in enumerate(pictures)]
        return Explanation(
            torch.cat(values),
            job.method,
            REFERENCES[job.method],
            torch.zeros(len(x)),
            signed,
            (),
            (),
            {},
            {},
            0.0,
            job.seed,
        )
    return explain(
        ready.model,
        x,
        job.method,
        target,
        seed=job.seed,
        task=ready.task.task,
        known=ready.wired,
        reference=ready.reference,
        progress=tick,
        **options,
    )


def _scored(
    ready: _Ready,
    job: Work,
    metric: str,
    made: Explanation,
    x: Tensor,
    target: Target,
    pictures: Sequence[Planted],
    some: Sequence[int],
    given: Mapping[str, Any],
    budget: Spending,
) -> tuple[list[float | None], list[str], float]:
    """Measure some maps of a batch: values, why one is missing, and seconds."""
    part = _part(made, some)
    chosen = [target[at] for at in some] if isinstance(target, list) else target
    mask = torch.stack([pictures[at].evidence for at in some]) if "mask" in kb_of().metrics[metric].needs else None
    start = time.perf_counter()
    try:
        with limited(budget.seconds):
            result = measure(
                metric,
                ready.model,
                x[list(some)],
                part,
                chosen,
                mask=mask,
                seed=job.seed,
                task=ready.task.task,
                known=ready.wired,
                reference=ready.reference,
                progress=tick,
                **given,
            )
    except Enough as end:
        if end.args == ("stopped",):
            raise
        return [None] * len(some), [f"given up after {budget.seconds:.0f} s"] * len(some), time.perf_counter() - start
    except Exception as error:  # one metric must not lose the others
        if len(some) > 1:
            each = [_scored(ready, job, metric, made, x, target, pictures, [at], given, budget) for at in some]
            return (
                [v for values, _, _ in each for v in values],
                [w for _, why, _ in each for w in why],
                sum(seconds for *_, seconds in each),
            )
        return [None], [sentence_of(error)], time.perf_counter() - start
    values = [one if one == one else None for one in result.score.tolist()]
    return values, _reasons(result.notes, len(some)), time.perf_counter() - start


def _part(made: Explanation, some: Sequence[int]) -> Explanation:
    """Return the explanations of some pictures of a batch."""
    rows = list(some)
    return replace(
        made,
        values=made.values[rows],
        target_scores=made.target_scores[rows],
        channels=None if made.channels is None else made.channels[rows],
    )


def _reasons(notes: Sequence[str], images: int) -> list[str]:
    """Return for every picture the notes that say why its number is not defined."""
    told = [note for note in notes if "not defined" in note]
    if images == 1:
        return [" ".join(told)]
    starts = [f"image {i + 1}: " for i in range(images)]
    return [" ".join(note.removeprefix(start) for note in told if note.startswith(start)) for start in starts]


def _control(
    ready: _Ready,
    job: Work,
    rows: _Rows,
    made: Explanation,
    x: Tensor,
    pictures: Sequence[Planted],
    due: Mapping[str, Sequence[int]],
    options: Mapping[str, Any],
    budget: Spending,
) -> None:
    """Explain the twins without evidence for the same label, and see what is left of the maps."""
    twins = sorted(set().union(*due.values()))
    chosen = [pictures[at] for at in twins]
    numbers = [rows.numbers[at] for at in twins]
    without = torch.stack([one.seen(one.without) for one in chosen if one.without is not None])
    target = _targets(ready.task, chosen)
    if isinstance(target, Region):  # the same place is asked about, whatever the model marks there now
        with preserved(ready.model), torch.no_grad():
            region = marked(primary(ask(ready.model, x[list(twins)].clone()))).eq(target.label or 0)
        target = replace(target, mask=region)
    start = time.perf_counter()
    empty = [replace(one, evidence=torch.zeros_like(one.evidence)) for one in chosen]
    try:
        with limited(budget.seconds):
            gone = _explained(ready, job, without, empty, target, options)
    except Enough as end:
        if end.args == ("stopped",):
            raise
        why: str | None = f"given up after {budget.seconds:.0f} s"
    except Exception as error:  # as above
        why = sentence_of(error)
    else:
        why = None
    seconds = (time.perf_counter() - start) / len(due)
    for metric, some in due.items():
        values = None
        if why is None:
            found = _CONTROLS[metric](gone.values, made.values[list(twins)], chosen, job.seed)
            values = [one if torch.isfinite(torch.tensor(one)) else None for one in found.tolist()]
        kept = [twins.index(at) for at in some]
        rows.add(
            metric,
            None if values is None else [values[i] for i in kept],
            why or "not defined for this map",
            options=options,
            seconds=seconds,
            numbers=[numbers[i] for i in kept],
        )


def remade(row: BenchRow, images: int, cache: Path | None = None) -> tuple[Planted, Explanation]:
    """Make the map of a row again, the same bit for bit.

    Args:
        row: of a method on one of our tasks.
        images: pictures of its task.
        cache: folder of the trained models.

    Raises:
        AtlasError: the method fails.
    """
    task = bench.TASKS[row.task]
    ready = _ready(task, Level("again", (task.id,), images, images), cache)
    planted = next(one for one in ready.pictures if one.name == row.image)
    job = Work(task, row.method, (), Level("again", (), images, images), row.seed, cache)
    made = _explained(ready, job, planted.x[None], [planted], _targets(task, [planted]), row.method_parameters)
    return planted, made


def sentence_of(error: BaseException) -> str:
    """Return what went wrong, for a row: the message of ours, else kind and first line."""
    if isinstance(error, AtlasError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:300]}"
