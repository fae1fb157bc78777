"""Time of answering a question: reading it, the whole answer, and its JSON; and both in a fresh process.

Run: ``python benchmarks/ask.py [--repeat N]``. Asks the questions of tests/questions.yaml and variations made from
names of the knowledge base, 1,000 in all, the same in every run. Counts time of the processor, the least of N runs,
which other work on the machine disturbs least, with the tables built and out of the garbage collector's way as in the
app and the MCP server; ends with an error where 5 % of the questions take longer than the aim.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from recommender import answer, parse, ready  # noqa: E402
from taxonomy import KB, load_kb  # noqa: E402

NUMBER = 1000
AIMS = {"parse": 20.0, "answer": 50.0}
"""Milliseconds that 95 % of the questions must stay below."""


def questions(kb: KB) -> list[str]:
    """Return the questions of the tests, filled up with variations."""
    asked = [q["ask"] for q in yaml.safe_load((ROOT / "tests" / "questions.yaml").read_text(encoding="utf-8"))]
    known = dict.fromkeys(asked)
    for one in variations(kb):
        if len(known) >= NUMBER:
            return list(known)
        known[one] = None
    raise AssertionError("variations never end")


def variations(kb: KB) -> Iterator[str]:
    """Yield questions made from names, for ever: a recommendation, a comparison, a "why not" in turn."""
    chance = random.Random(0)
    words = kb.vocabulary
    names = [m.name for m in kb.methods.values()]
    while True:
        modality = chance.choice(list(kb.modalities.values())).name
        task, architecture, goal = (
            chance.choice(list(each.values())).name for each in (words.tasks, words.architectures, words.goals)
        )
        one, other = chance.sample(names, 2)
        audience = chance.choice(list(words.audiences.values())).name
        yield f"which method for {modality} {task} with a {architecture}?"
        yield f"{modality} {task}, {architecture}: {goal}"
        yield f"{one} or {other} for {modality} {task}?"
        yield f"explain a {architecture} on {modality} to {audience}, {chance.choice((2, 30, 300))} s per image"
        yield f"why not {one} for {task} of {modality}?"


def milliseconds(function: Callable[[], object], repeat: int, clock: Callable[[], float] = time.process_time) -> float:
    """Return the best of several runs."""
    best = float("inf")
    for _ in range(repeat):
        start = clock()
        function()
        best = min(best, clock() - start)
    return best * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    loading = milliseconds(load_kb, 1)
    kb = ready(load_kb())
    asked = questions(kb)

    def public(question: str, top: int | None) -> object:
        return answer(question, kb, top=top).as_json()

    first = milliseconds(partial(public, asked[0], 5), 1)
    print(f"{len(asked)} questions, {len(kb.methods)} methods, {len(kb.publications)} publications")
    print(f"loading {loading:.0f} ms, first answer (tables are built) {first:.0f} ms")
    runs: dict[str, Callable[[str], object]] = {
        "parse": lambda q: parse(q, kb),
        "answer": lambda q: public(q, 5),  # as the command line shows it
        "answer with every method's reasons, as --json": lambda q: public(q, None),
    }
    late = []
    for what, run in runs.items():
        found = [milliseconds(partial(run, q), repeat) for q in asked]
        p95 = statistics.quantiles(found, n=20)[-1]
        print(f"{what}: median {statistics.median(found):.1f} ms, p95 {p95:.1f} ms, slowest {max(found):.1f} ms")
        late += [what] if p95 > AIMS.get(what, p95) else []
    code = "from recommender import answer; from taxonomy import load_kb; answer('ultrasound segmentation', load_kb())"
    run_fresh = partial(subprocess.run, [sys.executable, "-c", code], check=True, cwd=ROOT)
    print(f"fresh process, imports and loading included: {milliseconds(run_fresh, repeat, time.perf_counter):.0f} ms")
    if late:
        sys.exit(f"too slow: {', '.join(late)}")


if __name__ == "__main__":
    main()
