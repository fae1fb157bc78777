"""Time the loading of a generated knowledge base: ``python benchmarks/load_kb.py [--methods N] [--publications N]``.

A knowledge base of the asked size is written to a temporary folder from a fixed seed, in the real format, and loaded
four ways. Each figure is the median of several rounds, in ms of wall time and of CPU time (what a free core needs):

- *parsed*: a fresh process, no cache: every YAML file is read, validated and checked;
- *fresh process, cached*: a fresh process that finds the cache. The import of ``taxonomy`` is told apart from the
  ``load_kb()`` call; the start of the interpreter is in neither;
- *warm process, from the cache file*: the call in a process that has loaded before, its memory of it cleared;
- *warm process*: the same call again, as the app makes it at every click.

It fails when a cached load takes more than ``--limit`` ms (150) of CPU time, or when torch or networkx was imported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

WORDS = ["the", "map", "follows", "lesion", "border", "while", "reader", "sees", "coarse", "grain"]
CHILD = """
import sys, time, json
start = time.perf_counter(), time.process_time()
import taxonomy
imported, busy = time.perf_counter(), time.process_time()
kb = taxonomy.load_kb(sys.argv[1])
loaded, done = time.perf_counter(), time.process_time()
heavy = [name for name in ("torch", "networkx") if name in sys.modules]
taken = {"import": [imported - start[0], busy - start[1]], "wall": loaded - imported, "cpu": done - busy}
print(json.dumps(taken | {"heavy": heavy}))
"""


def generate(root: Path, methods: int, publications: int, seed: int = 0) -> None:
    """Write a valid knowledge base of the given size; the same seed gives the same files."""
    import yaml

    from taxonomy import schema

    draw = random.Random(seed)

    def prose(words: int) -> str:
        return " ".join(draw.choices(WORDS, k=words))

    def write(kind: str, entity_id: str, value: dict[str, Any]) -> None:
        folder = root / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{entity_id}.yaml").write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")

    families = [f"family_{i}" for i in range(20)]
    branches = get_args(schema.Branch)
    vocabulary: dict[str, Any] = {
        "branches": {b: {"name": b} for b in branches},
        "families": {f: {"name": f"Family {i}", "branch": branches[i % 4]} for i, f in enumerate(families)},
        "tasks": {t: {"name": t} for t in ("classification", "segmentation", "regression")},
        "architectures": {a: {"name": a} for a in ("cnn", "vit", "unet")},
        "audiences": {"clinician": {"name": "Clinician"}},
        "goals": {"where": {"name": "Where"}},
        "criteria": {c: {"name": c} for c in get_args(schema.Criterion)},
        "needs": {n: {"name": n, "gap": f"it needs {n}.", "condition": f"if {n}"} for n in get_args(schema.Need)},
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "vocabulary.yaml").write_text(yaml.safe_dump(vocabulary, sort_keys=False), encoding="utf-8")
    papers = [f"paper_{i}" for i in range(publications)]
    names = [f"method_{i}" for i in range(methods)]
    modalities = [f"modality_{i}" for i in range(16)]
    challenges = [f"challenge_{i}" for i in range(30)]
    for i, name in enumerate(modalities):
        value: dict[str, Any] = {"name": f"Modality {i}", "definition": prose(15), "dims": [2, 3], "formats": ["DICOM"]}
        hard = [{"challenge": c, "sources": [draw.choice(papers)]} for c in draw.sample(challenges, 5)]
        write("modalities", name, value | {"challenges": hard, "sources": draw.sample(papers, 2)})
    for i, name in enumerate(challenges):
        effects = [
            {"method": draw.choice(names), "text": prose(12), "sources": [draw.choice(papers)]} for _ in range(3)
        ]
        value = {"name": f"Challenge {i}", "definition": prose(20), "general": True, "sources": draw.sample(papers, 2)}
        write("challenges", name, value | {"eased_by": effects})
    for i, name in enumerate(names):
        statements = [{"text": prose(20), "sources": draw.sample(papers, 2)} for _ in range(4)]
        value = {
            "name": f"Method {i}",
            "aliases": [f"M{i}", f"the method {i}"],
            "family": families[i % len(families)],
            "definition": prose(40),
            "requires": {"needs": ["gradients"], "tasks": ["classification", "segmentation"], "dims": [2, 3]},
            "output": "map",
            "scope": "local",
            "stage": "post_hoc",
            "cost": {"passes": 2},
            "hyperparameters": [{"name": "steps", "default": 50}],
            "strengths": statements[:2],
            "limitations": statements[2:],
            "source": papers[i % publications],
        }
        write("methods", name, value)
    for i, paper in enumerate(papers):
        used = draw.sample(names, min(methods, 4))
        claims = [
            {
                "methods": [used[0]],
                "versus": [used[1 + k % 3]],
                "criterion": draw.choice(get_args(schema.Criterion)),
                "outcome": draw.choice(get_args(schema.Outcome)),
                "text": prose(20),
            }
            for k in range(3)
        ]
        value = {
            "title": f"Paper {i}: {prose(8)}",
            "year": 2015 + i % 11,
            "first_author": "Author",
            "doi": f"10.1234/paper.{i}",
            "url": f"https://example.org/{i}",
            "read": "abstract",
            "study": {
                "modalities": [draw.choice(modalities)],
                "anatomy": "chest",
                "task": "classification",
                "architecture": "cnn",
                "dims": [2],
            },
            "methods": used,
            "claims": claims,
        }
        write("publications", paper, value)


def _child(root: Path, cache: Path) -> dict[str, Any]:
    environment = {**os.environ, "XAI_ATLAS_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(root)], env=environment, check=True, capture_output=True, text=True
    )
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def _times(call: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _medians(rounds: list[dict[str, Any]]) -> tuple[float, float]:
    wall, cpu = (1000 * statistics.median(one[clock] for one in rounds) for clock in ("wall", "cpu"))
    return wall, cpu


def measure(root: Path, cache: Path, rounds: int) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Return (wall, CPU) in ms by name, and the heavy modules that a load imported."""
    os.environ["XAI_ATLAS_CACHE"] = str(cache)
    parsed = _child(root, cache)
    fresh = [_child(root, cache) for _ in range(rounds)]
    from taxonomy import load_kb, loader

    def from_file() -> None:
        loader._loaded.clear()
        load_kb(root)

    result = {
        "parsed": _medians([parsed]),
        "fresh process": _medians(fresh),
        "warm from file": _medians([_times(from_file) for _ in range(rounds)]),
        "warm": _medians([_times(lambda: load_kb(root)) for _ in range(rounds)]),
        "index": _medians([_times(lambda: load_kb(root).index)]),
        "graph": _medians([_times(lambda: load_kb(root).graph)]),
    }
    imports = [{"wall": f["import"][0], "cpu": f["import"][1]} for f in fresh]
    return {"import taxonomy": _medians(imports), **result}, fresh[0]["heavy"]


def main() -> None:
    """Measure, print, and exit with 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", type=int, default=200)
    parser.add_argument("--publications", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, default=150.0, help="ms of CPU time for a cached load")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "kb"
        generate(root, given.methods, given.publications)
        sizes = [file.stat().st_size for file in root.rglob("*.yaml")]
        print(f"Python {platform.python_version()}, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB; wall and CPU ms")
        times, heavy = measure(root, Path(folder) / "cache", given.rounds)
    for name, (wall, cpu) in times.items():
        print(f"{name:>16}: {wall:8.1f} {cpu:8.1f}")
    slow = [name for name in ("fresh process", "warm from file", "warm") if times[name][1] > given.limit]
    if slow or heavy:
        sys.exit(f"too slow: {slow}; imported: {heavy}")


if __name__ == "__main__":
    main()
