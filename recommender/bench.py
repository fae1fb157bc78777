"""What our own benchmark says of a method for a question: plain data of :mod:`taxonomy.measured`, no torch.

Boards of the nearest tasks count: same modality and same kind of task first, and where there is none, farther ones,
which is said and counts less. These are measurements of ours on small models, not findings of the literature; their
weight was fixed before there were any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from recommender.case import KIND, Case, lower
from recommender.points import CLOSENESS, Points
from taxonomy import KB
from taxonomy.measured import BenchmarkTask, Place, benchmark
from taxonomy.schema import Method
from taxonomy.trust import weights

_TOLD = 2
"""Boards that a sentence tells; the weightiest first."""
_FEWEST = 3
"""Methods below which a rank says nothing."""


def measured_by_us(case: Case, method: Method) -> Iterator[tuple[float, Callable[[], str]]]:
    """Yield the points of a method's places in the benchmark, with the sentence; nothing where it was not measured."""
    near, tasks, citation, counted, means = _nearest(case)
    if method.id not in means:
        return

    def words() -> str:
        told = [
            (_trust(kind) * trust * abs(_share(place)), task, place)
            for task, place, kind, trust in _counting(tasks, method.id, counted)
        ]
        told.sort(key=lambda one: -one[0])
        by_task: dict[str, list[str]] = {}
        for _, task, place in told[:_TOLD]:
            by_task.setdefault(_where(case, task), []).append(_place(case, place))
        places = "; ".join(f"{where} {', '.join(found)}" for where, found in by_task.items())
        more = f"; and {len(told) - _TOLD} more boards" if len(told) > _TOLD else ""
        far = "" if near == 1.0 else ", which is not your case but the nearest that we measured"
        return f"Measured by us, not from the literature: {places}{more}{far} ({citation})."

    yield round(Points.BENCHMARK * near * means[method.id], 3), words


def _counting(
    tasks: Iterable[BenchmarkTask], method: str, counted: Mapping[str, tuple[str, float]]
) -> Iterator[tuple[BenchmarkTask, Place, str, float]]:
    """Yield the places of a method that count, each with the property of its metric and how far that is trusted."""
    for task in tasks:
        for place in task.places.get(method, ()):
            if place.metric in counted and place.of >= _FEWEST:
                yield task, place, *counted[place.metric]


_MEANS: WeakKeyDictionary[KB, dict[tuple[Any, ...], tuple[Sequence[BenchmarkTask], Mapping[str, float]]]] = (
    WeakKeyDictionary()
)
"""Ids of tasks and trust in metrics to the tasks, which keeps their ids their own, and to the means."""


def _means(kb: KB, tasks: Sequence[BenchmarkTask], counted: Mapping[str, tuple[str, float]]) -> Mapping[str, float]:
    """Return method to its mean place on the boards of some tasks, from -1 (last) to 1 (first); found once."""
    known, key = _MEANS.setdefault(kb, {}), (*map(id, tasks), *counted.items())
    if key not in known:
        means = {
            method: mean
            for method in dict.fromkeys(m for task in tasks for m in task.places)
            if (mean := _mean(tasks, method, counted)) is not None
        }
        known[key] = tasks, means
    return known[key][1]


def _mean(tasks: Sequence[BenchmarkTask], method: str, counted: Mapping[str, tuple[str, float]]) -> float | None:
    """Return the mean place; the metrics of a property share its weight by how far each can be trusted."""
    sums: dict[str, list[float]] = {}
    for _, place, kind, trust in _counting(tasks, method, counted):
        own = sums.setdefault(kind, [0.0, 0.0])
        own[0] += trust * _share(place)
        own[1] += trust
    if not sums:
        return None
    return sum(_trust(kind) * (share / trust) for kind, (share, trust) in sums.items()) / sum(map(_trust, sums))


def _share(place: Place) -> float:
    """Return a place from -1 (last) to 1 (first)."""
    return 1 - 2 * (place.rank - 1) / (place.of - 1)


def _trust(kind: str) -> float:
    return Points.TRUST.get(kind, Points.OTHER_TRUST)


def _where(case: Case, task: BenchmarkTask) -> str:
    what = {"planted": "a planted shortcut" if task.marked else "planted evidence", "mask": "experts' masks"}[
        task.truth
    ]
    model = case.kb.vocabulary.architectures[task.architecture].name
    return f"on {what} in {lower(case.label(task.modality))} ({model}, {task.task}, {task.dims}D)"


def _place(case: Case, place: Place) -> str:
    line = place.line
    interval = "" if line.low is None or line.high is None else f", 95 % CI {line.low:.2g} to {line.high:.2g}"
    return f"rank {place.rank} of {place.of} in {case.kb.metrics[place.metric].name} ({line.mean:.2g}{interval})"


@lru_cache(maxsize=1)  # a case holds on to its knowledge base
def _nearest(
    case: Case,
) -> tuple[float, tuple[BenchmarkTask, ...], str, Mapping[str, tuple[str, float]], Mapping[str, float]]:
    """Return how near the nearest tasks are (1 is the same), these tasks, how to cite them, what counts, and the means.

    A metric that is not trusted at all does not count; to the others their property and trust. A mean for each method.
    """
    found = benchmark(case.kb)
    if found is None:
        return 0.0, (), "", {}, {}
    near = {
        name: _closeness(case, task)
        for name, task in found.tasks.items()
        if task.truth != "none" and task.modality in case.distances  # what is not there is told by `check`
    }
    best = max(near.values(), default=0.0)
    trusted = weights(case.kb)
    counted = {
        name: (one.property, trust) for name, one in case.kb.metrics.items() if (trust := trusted.get(name, 1.0)) > 0
    }
    tasks = tuple(found.tasks[name] for name, value in near.items() if value == best)
    return best, tasks, found.citation, counted, _means(case.kb, tasks, counted)


def _closeness(case: Case, task: BenchmarkTask) -> float:
    profile = case.profile
    near = CLOSENESS[case.distances[task.modality], profile.task in (None, task.task)]
    if {KIND.get(str(profile.architecture)), KIND.get(task.architecture)} == {"conv", "attention"}:
        near *= Points.OTHER_KIND
    if profile.dims not in (None, task.dims):
        near *= Points.OTHER_DIMS
    return near
