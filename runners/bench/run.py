"""Run the benchmark: tasks × methods × pictures × metrics, into SQL; it can be stopped, resumed and spread.

Work is spread over the processes of one machine by ``concurrent.futures``, a thread each; nothing here spreads it over
machines (Ray would, and is not among our dependencies), but several machines may write into one PostgreSQL database,
each with tasks of its own.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runners import explainers, metrics
from runners.bench import tasks as bench
from runners.bench.pool import Pool
from runners.bench.store import Key, Results
from runners.bench.tasks import Level, Task
from runners.bench.work import (
    BATCH,
    METHODS,
    METRICS,
    Own,
    Prepared,
    Source,
    Spending,
    Work,
    given_of,
    kb_of,
    kind_of,
    measured_on,
    options_of,
    prepare,
    sentence_of,
    settings_hash,
    spending,
    task_id,
    work,
)
from runners.gate import versions
from taxonomy import KB
from taxonomy.errors import AtlasError, UnknownIdError
from taxonomy.measured import BENCHMARK, CONTROLS, REFERENCES


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        words: what was done last. done: pieces of work that are done. total: all.
        share: of the expected time, 0 to 1. left: expected seconds, or None while nothing is known.
    """

    words: str
    done: int
    total: int
    share: float
    left: float | None


@dataclass(frozen=True)
class Ran:
    """What a run did.

    Attributes:
        run: its id; None when all was there already.
        rows: rows that were written. failed: those of them without a number.
        kept: rows that were there already.
        seconds: wall time. stopped: the user ended it.
        skipped: metrics and tasks that were not run, with the reason.
        tasks: the tasks, prepared.
    """

    run: str | None
    rows: int
    failed: int
    kept: int
    seconds: float
    stopped: bool
    skipped: Mapping[str, str]
    tasks: tuple[Prepared, ...]


def run(
    level: Level,
    results: Results,
    *,
    jobs: int = 1,
    tasks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    own: Sequence[Own] = (),
    seed: int = 0,
    retry: bool = False,
    by: str | None = None,
    machine: str | None = None,
    cache: Path | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Ran:
    """Run a level of the benchmark; what is in the database already is not run again.

    Args:
        level: which tasks, how many pictures, which methods and metrics.
        results: where rows are kept, as soon as they come.
        jobs: processes, a thread each.
        tasks: only these of the level.
        methods: only these.
        own: pictures of the user's, beside the tasks or, with ``tasks=()``, instead.
        seed: of maps and metrics.
        retry: run again what failed before.
        by: who runs it, to be told with the results.
        machine: on what, to be told with the results.
        cache: folder of the trained models; by default in the user's cache folder.
        progress: told after every piece of work.

    Returns:
        What was done; after Ctrl-C what was done until then.

    Raises:
        UnknownIdError: there is no such task, method or metric.
        AtlasError: the database cannot be written, or ``jobs`` is below 1.
    """
    if jobs < 1:
        raise AtlasError(f"{jobs} jobs were given; at least 1 is needed")
    kb = kb_of()
    chosen = (level.methods or METHODS.get(level.name)) if methods is None else tuple(methods)
    sources = (*(_known_task(one) for one in (level.tasks if tasks is None else tasks)), *own)
    for method in chosen or ():
        if method not in explainers:
            raise UnknownIdError(method, explainers, "explainer")
    wanted, skipped = _wanted_metrics(level, kb)
    start = time.monotonic()
    clock = _Progress(progress)
    pool = Pool(jobs)
    prepared: list[tuple[Source, Prepared]] = []
    state = _State(results, level, seed, by, machine)
    stopped = False
    try:
        for number, ((source, *_), found) in enumerate(pool.map(prepare, [(s, level, cache) for s in sources]), 1):
            name = task_id(source)
            if isinstance(found, Prepared):
                prepared.append((source, found))
                state.note(found)
            elif found != "stopped":
                skipped[name] = f"the task could not be prepared: {sentence_of(found)}"
            clock.told(f"{name}: the model is ready", number, len(sources))
        prepared.sort(key=lambda pair: sources.index(pair[0]))
        planned = [
            (job, seconds)
            for source, one in prepared
            for job, seconds in _plan(source, one, level, kb, wanted, chosen, seed, cache, state, retry)
        ]
        clock.expect(seconds for _, seconds in planned)
        expected = dict(planned)
        by_task = {task_id(source): one for source, one in prepared}
        for (job,), found in pool.map(work, ((job,) for job, _ in planned)):
            one = by_task[task_id(job.source)]
            rows = found if isinstance(found, list) else _lost(job, one, found, kb) if found != "stopped" else []
            state.add(rows, one)
            clock.did(f"{one.task.id}: {job.method}", expected[job])
    except KeyboardInterrupt:
        stopped = True
    finally:
        pool.stop()
        pool.close()
    return Ran(
        state.run, state.rows, state.failed, state.kept, time.monotonic() - start, stopped, skipped,
        tuple(one for _, one in prepared),
    )  # fmt: skip


def _known_task(task: str) -> Task:
    if task not in bench.TASKS:
        raise UnknownIdError(task, bench.TASKS, "benchmark task")
    return bench.TASKS[task]


def _wanted_metrics(level: Level, kb: KB) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the metrics of a level that are computed here, and why others are not."""
    named = level.metrics or METRICS.get(level.name) or tuple(sorted(metrics))
    if unknown := [metric for metric in named if metric not in kb.metrics]:
        raise UnknownIdError(unknown[0], kb.metrics, "metric")
    skipped = {metric: "it is not computed here" for metric in named if metric not in metrics}
    return tuple(metric for metric in named if metric in metrics), skipped


def _plan(
    source: Source,
    one: Prepared,
    level: Level,
    kb: KB,
    wanted: Sequence[str],
    chosen: Sequence[str] | None,
    seed: int,
    cache: Path | None,
    state: _State,
    retry: bool,
) -> Iterator[tuple[Work, float]]:
    """Yield what is still to do of a task with the seconds it may take, the references first."""
    budget = spending(level, one.task.dims)
    done = state.results.done(BENCHMARK, one.task.id, one.sha, failures=not retry)
    able = [method for method in one.able if chosen is None or method in chosen]
    for method in (*REFERENCES, *able):
        measured = measured_on(method, kb, level, wanted)
        left = []
        for number, name in enumerate(one.names):
            keys = {m: _key(method, m, name, one, level, kb, seed) for m in _due(number, one, measured, budget, kb)}
            state.kept += sum(key in done for key in keys.values())
            if missing := tuple(metric for metric, key in keys.items() if key not in done):
                left.append((number, missing))
        size = BATCH[one.task.dims]
        for start in range(0, len(left), size):
            job = Work(source, method, tuple(left[start : start + size]), level, seed, cache)
            yield job, _expected(job, one, kb, budget)


def _due(number: int, one: Prepared, measured: Iterable[str], budget: Spending, kb: KB) -> Iterator[str]:
    """Yield what is measured on a picture: what explains again on the first ones, with a mask where one is."""
    for metric in measured:
        needs = kb.metrics[metric].needs
        if ("explainer" not in needs or number < budget.again) and ("mask" not in needs or number in one.evident):
            yield metric
    if number in one.twins and number < budget.controls:
        yield from CONTROLS


def _key(method: str, metric: str, image: str, one: Prepared, level: Level, kb: KB, seed: int) -> Key:
    budget = spending(level, one.task.dims)
    settings = settings_hash(options_of(method, kb, budget, one.task.size), given_of(metric, budget))
    return Key(method, metric, image, kind_of(metric), settings, seed)


def _expected(job: Work, one: Prepared, kb: KB, budget: Spending) -> float:
    """Return about how many seconds a piece of work takes."""
    passes = 0 if job.method in REFERENCES else kb.methods[job.method].cost.passes or 100
    passes = min(passes, budget.passes or passes)
    explained, asked = float(len(job.due)), 0.0
    for _, metrics_of in job.due:
        for metric in metrics_of:
            needs = () if metric in CONTROLS else kb.metrics[metric].needs
            if "explainer" in needs:
                explained += 4
            elif metric in CONTROLS:
                explained += 1 / len(CONTROLS)
            elif "model" in needs:
                asked += 1.3 * budget.most.get("steps", 32)
    return 0.05 + one.seconds * (1.5 * passes * explained + asked)


def _lost(job: Work, one: Prepared, error: Any, kb: KB) -> list[dict[str, Any]]:
    """Return the rows of a piece of work that never came back."""
    budget = spending(job.level, one.task.dims)
    why = f"given up after {budget.seconds:.0f} s" if error == "late" else sentence_of(error)
    return [
        {
            **_key(job.method, metric, one.names[number], one, job.level, kb, job.seed)._asdict(),
            "benchmark": BENCHMARK,
            "task": one.task.id,
            "task_sha": one.sha,
            "error": why,
            "method_parameters": options_of(job.method, kb, budget, one.task.size),
            "metric_parameters": given_of(metric, budget),
        }
        for number, due in job.due
        for metric in due
    ]


class _State:
    """Writes what comes, and counts it; the invocation is noted with its first row."""

    def __init__(self, results: Results, level: Level, seed: int, by: str | None, machine: str | None) -> None:
        self.results = results
        self.run: str | None = None
        self.rows = self.failed = self.kept = 0
        self._fields = {
            "benchmark": BENCHMARK,
            "level": level.name,
            "seed": seed,
            "by": by,
            "machine": machine,
            "versions": {**versions(), "system": platform.system()},
        }

    def note(self, one: Prepared) -> None:
        """Keep what a task is."""
        task = asdict(one.task)
        kept = ("modality", "task", "dims", "architecture", "truth", "size", "phantom", "marked")
        self.results.note(
            benchmark=BENCHMARK, task=one.task.id, task_sha=one.sha, facts={name: task[name] for name in kept},
            images=len(one.names), problems=dict(one.problems), unmet=dict(one.unmet), quality=one.quality,
        )  # fmt: skip

    def add(self, rows: Sequence[Mapping[str, Any]], one: Prepared) -> None:
        """Keep rows of a task."""
        if not rows:
            return
        if self.run is None:
            self.run = self.results.begin(**self._fields)
        self.results.add([{**row, "run": self.run, "holds": row["image"] not in one.problems} for row in rows])
        self.rows += len(rows)
        self.failed += sum(row.get("value") is None for row in rows)


class _Progress:
    """Turns what was done into a share of the expected time."""

    def __init__(self, told: Callable[[Progress], None]) -> None:
        self._told = told
        self._sum = self._done = 0.0
        self._count = self._total = 0
        self._start = time.monotonic()

    def told(self, words: str, done: int, total: int) -> None:
        """Tell of a stage whose time nobody knows."""
        self._told(Progress(words, done, total, 0.0, None))

    def expect(self, seconds: Iterable[float]) -> None:
        """Take down what is to be done."""
        expected = list(seconds)
        self._sum, self._total, self._start = sum(expected), len(expected), time.monotonic()

    def did(self, words: str, seconds: float) -> None:
        """Tell of a piece of work by the seconds that were expected of it."""
        self._done += seconds
        self._count += 1
        share = self._done / self._sum if self._sum else 1.0
        left = (time.monotonic() - self._start) * (1 - share) / share if share else None
        self._told(Progress(words, self._count, self._total, share, left))
