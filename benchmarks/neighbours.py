"""Time the exact search for nearest cases on one core: ``python benchmarks/neighbours.py``.

One image against 100,000 cases of 512 numbers must take less than 50 ms; while it does, no library for approximate
search is needed.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from runners.beyond.neighbours import DISTANCES, index_of  # noqa: E402
from runners.registry import seeded  # noqa: E402

REPEATS = 20


def main() -> None:
    """Print one line for each size and distance."""
    torch.set_num_threads(1)
    for cases in (1_000, 10_000, 100_000):
        vectors = torch.randn(cases, 512, generator=seeded(0))
        query = vectors[7:8] + 0.5 * torch.randn(1, 512, generator=seeded(1))
        for distance in DISTANCES:
            index = index_of(vectors, distance)
            times = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                numbers, _ = index.nearest(query, 10)
                times.append(1000 * (time.perf_counter() - start))
            assert int(numbers[0, 0]) == 7
            median = statistics.median(times)
            print(f"{cases:8,} cases x 512, {distance:10} median {median:6.2f} ms, longest {max(times):6.2f} ms")


if __name__ == "__main__":
    main()
