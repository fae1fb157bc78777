"""What we measured, as the package carries it: plain data in ``kb/measured``, read without torch.

``benchmark.json`` holds the leaderboards of ``xai-atlas benchmark``: per task, metric and method the mean over the
pictures with its interval and rank. These are our measurements, not findings of the literature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import FiniteFloat, StringConstraints, ValidationError

from taxonomy.errors import AtlasError
from taxonomy.loader import KB, MEASURED
from taxonomy.schema import Id, Part

BENCHMARK = "1"
"""Version of the benchmark: numbers of different versions do not compare."""
FILE = "benchmark.json"
REFERENCES: Mapping[str, str] = {
    "reference_random": "a random map",
    "reference_edges": "the edges of the picture",
    "reference_truth": "the true evidence",
}
"""Lines of a board that are no methods: what noise, the picture alone, and the truth would get."""


class Control(NamedTuple):
    """A number that only pictures without evidence have; it is no metric of the knowledge base."""

    name: str
    direction: Literal["higher", "lower"] | None
    text: str


CONTROLS: Mapping[str, Control] = {
    "control_left_over": Control(
        "Left over", "lower", "positive mass of the map when the evidence is gone, as a share of before"
    ),
    "control_same_place": Control(
        "Same place", "lower", "rank correlation of the maps with and without the evidence; 1: it noticed nothing"
    ),
    "control_on_distractors": Control(
        "On distractors", "lower", "mass on distractors over their share of the picture, without evidence; 1: chance"
    ),
    "control_like_random": Control(
        "Like random", None, "rank correlation with a random map, without evidence; 0: chance"
    ),
}
Short = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\r\n]*$")]


class Measured(NamedTuple):
    """One line of a board: a method, or a reference, by one metric on one task."""

    method: str
    mean: FiniteFloat
    low: FiniteFloat | None
    """Ends of the 95 % bootstrap interval of the mean; None for a single picture."""
    high: FiniteFloat | None
    rank: int | None
    """1 is best; None for references, methods measured on too few pictures, and metrics without a better end."""
    n: int
    """Pictures with a number."""


class Scores(Part):
    """A board: all methods by one metric on one task."""

    lines: list[Measured]
    p: FiniteFloat | None = None
    """Of Friedman's test over the pictures that all compared methods have."""
    difference: FiniteFloat | None = None
    """Nemenyi's critical difference of mean ranks at 5 %."""

    @cached_property
    def of(self) -> int:
        """Methods that were ranked."""
        return sum(line.rank is not None for line in self.lines)


class Place(NamedTuple):
    """Where a method stands on a board."""

    metric: str
    line: Measured
    rank: int
    of: int


class BenchmarkTask(Part):
    """What was asked of which model on which pictures."""

    modality: Id
    task: Id
    dims: Literal[2, 3]
    architecture: Id
    truth: Literal["planted", "mask", "none"]
    marked: bool = False
    """A burnt-in marker decides."""
    size: list[int]
    sha: Short
    """Hash of what decides model and pictures."""
    images: int
    problems: dict[str, str] = {}
    """Picture to why it is no ground truth."""
    quality: FiniteFloat | None = None
    """Accuracy of the model, or mean Dice."""
    boards: dict[Id, Scores]
    """Metric, or control, to its board."""

    @cached_property
    def places(self) -> Mapping[str, tuple[Place, ...]]:
        """Method to its places on the boards, in their order, where it was ranked."""
        found: dict[str, list[Place]] = {}
        for metric, board in self.boards.items():
            for line in board.lines:
                if line.rank is not None:
                    found.setdefault(line.method, []).append(Place(metric, line, line.rank, board.of))
        return {method: tuple(each) for method, each in found.items()}


class Benchmark(Part):
    """The data file."""

    benchmark: str
    level: Line
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    runs: list[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]]
    seeds: list[int]
    versions: dict[str, Line]
    by: Line | None = None
    machine: Line | None = None
    """What kind of machine, in the words of who ran it."""
    tasks: dict[Id, BenchmarkTask]

    @property
    def citation(self) -> str:
        """How a number of it is cited."""
        return f"XAI Atlas benchmark {self.benchmark}, {self.level}, {self.date}, run {', '.join(self.runs[:3])}"


def folder(kb: KB) -> Path:
    """Return where the data files of a knowledge base lie."""
    return kb.root / MEASURED


def benchmark(kb: KB) -> Benchmark | None:
    """Return the benchmark that came with a knowledge base, or None where there is none or another version.

    Raises:
        AtlasError: the file is damaged.
    """
    path = folder(kb) / FILE
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return None
    found = _read(path, changed)
    return found if found.benchmark == BENCHMARK else None


@cache
def _read(path: Path, changed: int) -> Benchmark:  # noqa: ARG001 - the file is read again when it changed
    return read_benchmark(path)


def read_benchmark(path: Path) -> Benchmark:
    """Read and check the form of a data file.

    Raises:
        AtlasError: it cannot be read, or its form is wrong; every problem is told.
    """
    try:
        return Benchmark.model_validate_json(path.read_bytes())
    except OSError as error:
        raise AtlasError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors()[:20]]
        raise AtlasError("\n".join(lines)) from error


def write_benchmark(found: Benchmark, path: Path) -> None:
    """Write a data file, a board on each line: small, and differences can be read.

    Raises:
        AtlasError: the file cannot be written.
    """
    text = json.dumps(found.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False, indent=1)
    # a board on one line
    text = re.sub(r'(?m)^    "(\w+)": \{\n((?: {5,}.*\n)+?)    \}', _on_one_line, text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise AtlasError(f"{path} cannot be written: {error.strerror or error}") from error


def _on_one_line(found: re.Match[str]) -> str:
    inside = json.loads("{" + found[2] + "}")
    return f'    "{found[1]}": {json.dumps(inside, ensure_ascii=False, separators=(",", ":"))}'


def check(kb: KB) -> list[str]:
    """Return what is wrong with the data files of a knowledge base."""
    path = folder(kb) / FILE
    if not path.is_file():
        return []
    try:
        found = read_benchmark(path)
    except AtlasError as error:
        return str(error).splitlines()
    return [f"{MEASURED}/{FILE}: {problem}" for problem in problems(found, kb)]


def problems(found: Benchmark, kb: KB) -> list[str]:
    """Return what is wrong with a data file beside its form, one sentence each."""
    return list(_problems(found, kb))


def _problems(found: Benchmark, kb: KB) -> Iterator[str]:
    if found.benchmark != BENCHMARK:
        yield f"benchmark: {found.benchmark} was given; this is version {BENCHMARK}, and versions do not compare"
    if not found.tasks:
        yield "tasks: there is none; run the benchmark first"
    vocabulary = kb.vocabulary
    for name, task in found.tasks.items():
        given: list[tuple[str, Mapping[str, Any], str]] = [
            (task.modality, kb.modalities, "modality"),
            (task.task, vocabulary.tasks, "task"),
            (task.architecture, vocabulary.architectures, "architecture"),
        ]
        for value, allowed, what in given:
            if value not in allowed:
                yield f"{name}: {what}: {value} is not in the knowledge base"
        for metric, board in task.boards.items():
            if metric not in kb.metrics and metric not in CONTROLS:
                yield f"{name}: {metric} is no metric of the knowledge base"
            for line in board.lines:
                if line.method not in kb.methods and line.method not in REFERENCES:
                    yield f"{name}: {metric}: {line.method} is no method of the knowledge base"
                if not 1 <= line.n <= task.images:
                    yield f"{name}: {metric}: {line.method}: n = {line.n}, of {task.images} pictures"
                if line.low is not None and line.high is not None:
                    slack = 1e-3 * max(abs(line.low), abs(line.high))  # they are rounded
                    if not line.low - slack <= line.mean <= line.high + slack:
                        yield f"{name}: {metric}: {line.method}: the mean {line.mean} lies outside of its interval"
                if line.rank is not None and not 1 <= line.rank <= board.of:
                    yield f"{name}: {metric}: {line.method}: rank {line.rank} of {board.of}"
            if len({line.method for line in board.lines}) < len(board.lines):
                yield f"{name}: {metric}: a method is named twice"
