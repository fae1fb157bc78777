"""What our own benchmark says of a method for a question: plain data of :mod:`taxonomy.measured`, no torch.

Boards of the nearest tasks count: same modality and same kind of task first, and where there is none, farther ones,
which is said and counts less. These are measurements of ours on small models, not findings of the literature; their
weight was fixed before there were any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from recommender.case import KIND, Case, lower
from recommender.points import CLOSENESS, Points
from taxonomy.measured import BenchmarkTask, Measured, Scores, benchmark
from taxonomy.schema import Method
from taxonomy.trust import weights

_TOLD = 2
"""Boards that a sentence tells; the weightiest first."""
_FEWEST = 3
"""Methods below which a rank says nothing."""


def measured_by_us(case: Case, method: Method) -> Iterator[tuple[float, Callable[[], str]]]:
    """Yield the points of a method's places in the benchmark, with the sentence; nothing where it was not measured."""
    near, tasks, citation, trusted = _nearest(case)
    shares: dict[str, list[tuple[float, float]]] = {}
    told: list[tuple[float, str, BenchmarkTask, Measured, Scores]] = []
    for task in tasks:
        for metric, board in task.boards.items():
            line = next((one for one in board.lines if one.method == method.id), None)
            if metric not in case.kb.metrics or line is None or line.rank is None or board.of < _FEWEST:
                continue
            kind, trust = case.kb.metrics[metric].property, trusted.get(metric, 1.0)
            share = 1 - 2 * (line.rank - 1) / (board.of - 1)
            if trust > 0:
                shares.setdefault(kind, []).append((trust, share))
                told.append((_trust(kind) * trust * abs(share), metric, task, line, board))
    if not shares:
        return
    # the metrics of a property share its weight by how far each can be trusted
    means = {kind: sum(t * s for t, s in own) / sum(t for t, _ in own) for kind, own in shares.items()}
    mean = sum(_trust(kind) * own for kind, own in means.items()) / sum(map(_trust, means))
    told.sort(key=lambda one: -one[0])

    def words() -> str:
        by_task: dict[str, list[str]] = {}
        for _, metric, task, line, board in told[:_TOLD]:
            by_task.setdefault(_where(case, task), []).append(_place(case, metric, line, board))
        places = "; ".join(f"{where} {', '.join(found)}" for where, found in by_task.items())
        more = f"; and {len(told) - _TOLD} more boards" if len(told) > _TOLD else ""
        far = "" if near == 1.0 else ", which is not your case but the nearest that we measured"
        return f"Measured by us, not from the literature: {places}{more}{far} ({citation})."

    yield round(Points.BENCHMARK * near * mean, 3), words


def _trust(kind: str) -> float:
    return Points.TRUST.get(kind, Points.OTHER_TRUST)


def _where(case: Case, task: BenchmarkTask) -> str:
    what = {"planted": "a planted shortcut" if task.marked else "planted evidence", "mask": "experts' masks"}[
        task.truth
    ]
    model = case.kb.vocabulary.architectures[task.architecture].name
    return f"on {what} in {lower(case.label(task.modality))} ({model}, {task.task}, {task.dims}D)"


def _place(case: Case, metric: str, line: Measured, board: Scores) -> str:
    interval = "" if line.low is None or line.high is None else f", 95 % CI {line.low:.2g} to {line.high:.2g}"
    return f"rank {line.rank} of {board.of} in {case.kb.metrics[metric].name} ({line.mean:.2g}{interval})"


@lru_cache(maxsize=1)  # a case holds on to its knowledge base
def _nearest(case: Case) -> tuple[float, tuple[BenchmarkTask, ...], str, Mapping[str, float]]:
    """Return how near the nearest tasks are (1 is the same), these tasks, how to cite them, and trust in metrics."""
    found = benchmark(case.kb)
    if found is None:
        return 0.0, (), "", {}
    known = {name: task for name, task in found.tasks.items() if task.modality in case.distances}
    if not known:
        return 0.0, (), "", {}
    near = {name: _closeness(case, task) for name, task in known.items() if task.truth != "none"}
    best = max(near.values(), default=0.0)
    return (
        best,
        tuple(found.tasks[name] for name, value in near.items() if value == best),
        found.citation,
        weights(case.kb),
    )


def _closeness(case: Case, task: BenchmarkTask) -> float:
    profile = case.profile
    near = CLOSENESS[case.distances[task.modality], profile.task in (None, task.task)]
    if {KIND.get(str(profile.architecture)), KIND.get(task.architecture)} == {"conv", "attention"}:
        near *= Points.OTHER_KIND
    if profile.dims not in (None, task.dims):
        near *= Points.OTHER_DIMS
    return near
