"""Metrics beside torchcam and captum at equal settings and beside the bare model, all in one run.

    python benchmarks/metrics.py [--repeats 3] [--model cnn2d]

``rows``: images that went through the model; ``ours / bare``: our time over that of the rows alone. torchcam computes
deletion and insertion in one go, so the pair is compared. Seconds are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from captum.attr import Saliency
from captum.metrics import sensitivity_max
from torch import Tensor, nn
from torchcam.metrics import DeletionInsertionMetric

sys.path.extend([str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")])

from measuring import CHUNK, MODELS, Counted, bare, logit, median_seconds, show

from runners.measures.faithfulness import deletion, insertion
from runners.measures.randomisation import mprt
from runners.measures.robustness import max_sensitivity
from runners.registry import no_progress, seeded


def saliency(model: nn.Module, x: Tensor) -> Tensor:
    return Saliency(model).attribute(x.clone(), target=1).mean(1).detach()


class Extractor:
    """Hands a finished map to torchcam."""

    def __init__(self, model: nn.Module, values: Tensor) -> None:
        self.model, self.values = model, values
        self._hooks_off, self.fuse_cams = nullcontext, lambda maps: maps[0]

    def __call__(self, *_: object) -> list[Tensor]:
        """Return the map, whatever is asked."""
        return [self.values]


def compare(name: str, repeats: int) -> None:
    model, x = MODELS[name]()
    values = saliency(model, x)

    def areas(m):
        for function in (deletion, insertion):
            given = {"steps": 32, "baseline": "zero", "batch_size": CHUNK, "progress": no_progress}
            function(m, x, logit, values, generator=seeded(0), **given)

    def torchcams(m):
        DeletionInsertionMetric(Extractor(m, values), steps=32, batch_size=CHUNK).update(x, 1)

    def repeated(function, m, **given):
        return function(
            m,
            x,
            logit,
            values,
            explain_again=lambda again, model=m: saliency(model, again),
            generator=seeded(0),
            progress=no_progress,
            **given,
        )

    def captums(m):
        sensitivity_max(lambda pictures: (saliency(m, pictures[0]),), (x,), max_examples_per_batch=1)

    cases = {
        "deletion + insertion": (areas, torchcams),
        "max_sensitivity": (lambda m: repeated(max_sensitivity, m, samples=10), captums),
        "mprt": (lambda m: repeated(mprt, m), None),
    }
    for metric, (ours, theirs) in cases.items():
        counted, Counted.rows = Counted(model), 0
        ours(counted)
        rows, Counted.rows = Counted.rows, 0
        peer = None
        if theirs:
            theirs(counted)
            peer = median_seconds(lambda call=theirs: call(model), repeats)
        mine = median_seconds(lambda call=ours: call(model), repeats)
        show(f"{name} {metric}", rows, mine, bare(model, x, rows, repeats), peer, Counted.rows if peer else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", choices=MODELS, action="append")
    given = parser.parse_args()
    for chosen in given.model or MODELS:
        compare(chosen, given.repeats)
