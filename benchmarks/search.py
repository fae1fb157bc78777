"""Time search, questions and pages of Explore on the real knowledge base: ``python benchmarks/search.py``."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from taxonomy import load_kb  # noqa: E402
from taxonomy.questions import blanks, disagreements, explains, neighbours, why  # noqa: E402
from taxonomy.report import coverage_report  # noqa: E402
from taxonomy.search import search  # noqa: E402

QUERIES = ["grad-cam", "ultrasound segm", "radiologists trust", "超声", "10.1038", "lrp 3d mri", "a", "saliency"]


def timed(work: Callable[[], object], repeats: int = 20) -> str:
    """Return the median and the longest time of some work in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    return f"median {statistics.median(times):8.2f} ms, longest {max(times):8.2f} ms"


def page(**params: str) -> Callable[[], object]:
    """Return the work of one run of the app's Explore page, without a browser."""
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.run()
    app.switch_page("views/explore.py")
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    return app.run


def main() -> None:
    """Print one line for each piece of work."""
    kb = load_kb()
    start = time.perf_counter()
    search(kb, "first")
    entities = sum(map(len, kb.kinds().values()))
    print(f"{f'index of {entities} entities':42} {(time.perf_counter() - start) * 1000:8.1f} ms")
    for query in QUERIES:
        print(f"{'search ' + repr(query):42} {timed(lambda query=query: search(kb, query))}")
    everything = {
        "what explains ultrasound segmentation": lambda: explains(kb, "ultrasound", "segmentation"),
        "all disagreements": lambda: disagreements(kb),
        "all blank cells": lambda: blanks(kb),
        "relatives of Grad-CAM": lambda: neighbours(kb, "grad_cam"),
        "ways from Grad-CAM to ultrasound": lambda: why(kb, "grad_cam", "ultrasound"),
        "coverage report": lambda: coverage_report(kb),
    }
    for name, work in everything.items():
        print(f"{name:42} {timed(work, 5)}")
    views = [
        "Search",
        "Taxonomy",
        "Evidence",
        "Modalities",
        "Compare",
        "Disagreements",
        "Not tried",
        "Metrics and tools",
    ]
    for view in views:
        print(f"{'Explore, ' + view:42} {timed(page(view=view), 3)}")
    for entity in ("grad_cam", "ultrasound", "mri", "deletion", "captum"):
        print(f"{'Explore, page of ' + entity:42} {timed(page(id=entity), 3)}")


if __name__ == "__main__":
    main()
