"""Time of answering a question: parsing, ranking, and both with a fresh process.

Run: ``python benchmarks/ask.py [--repeat N]``. Prints median and slowest over the questions of tests/questions.yaml.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from recommender import answer, parse  # noqa: E402
from taxonomy import load_kb  # noqa: E402

AIMS = {"parse": 20.0, "answer": 150.0}
"""Milliseconds that the median must stay below."""


def milliseconds(function: Callable[[], object], repeat: int) -> float:
    """Return the best of several runs, which other work on the machine disturbs least."""
    best = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    kb = load_kb()
    questions = [q["ask"] for q in yaml.safe_load((ROOT / "tests" / "questions.yaml").read_text(encoding="utf-8"))]
    first = milliseconds(partial(answer, questions[0], kb), 1)
    print(f"{len(questions)} questions, {len(kb.methods)} methods, {len(kb.publications)} publications")
    print(f"first answer in a process (tables are built): {first:.0f} ms")
    times = {
        "parse": [milliseconds(partial(parse, q, kb), repeat) for q in questions],
        "answer": [milliseconds(partial(answer, q, kb), repeat) for q in questions],
    }
    late = []
    for what, found in times.items():
        median, slowest = statistics.median(found), max(found)
        print(f"{what}: median {median:.1f} ms, slowest {slowest:.1f} ms, aim {AIMS[what]:.0f} ms")
        late += [what] if median > AIMS[what] else []
    code = "from recommender import answer; from taxonomy import load_kb; answer('ultrasound segmentation', load_kb())"
    fresh = milliseconds(lambda: subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT), repeat)
    print(f"fresh process, imports and loading included: {fresh:.0f} ms")
    if late:
        sys.exit(f"too slow: {', '.join(late)}")


if __name__ == "__main__":
    main()
