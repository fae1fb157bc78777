"""Perturbation explainers beside captum at equal settings and beside the bare model, all in one run.

    python benchmarks/perturbation.py [--repeats 3] [--model cnn2d]

``rows`` is the number of images that went through the model. ``bare`` is the time of that many rows alone: ours / bare
is what masking and bookkeeping cost. ``error`` is the distance to the exact Shapley values over their mean size, where
there are few enough regions to know them. Seconds are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from captum.attr import KernelShap, Lime, Occlusion

sys.path.extend([str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")])

from measuring import CHUNK, MODELS, Counted, bare, logit, median_seconds, show

from runners.baselines import baseline
from runners.perturbation import kernel_shap, lime, occlusion, rise
from runners.registry import Found, no_progress, seeded
from runners.superpixels import superpixels


def explain(function, model, x, seed=0, **given) -> Found:
    return function(model, x, logit, progress=no_progress, generator=seeded(seed), batch_size=CHUNK, **given)


def compare(name: str, repeats: int) -> None:
    model, x = MODELS[name]()
    dims = x.ndim - 2
    labels = superpixels(x, 50)[0][None, None]
    window = 16 if dims == 2 else 6
    occluded = {
        "sliding_window_shapes": (x.shape[1], *[window] * dims),
        "strides": (x.shape[1], *[window] * dims),
        "baselines": 0,
        "target": 1,
        "perturbations_per_eval": CHUNK,
    }
    on_regions = {
        "baselines": 0,
        "target": 1,
        "feature_mask": labels,
        "n_samples": 500,
        "perturbations_per_eval": CHUNK,
    }
    cases = {
        "occlusion": (
            lambda m: explain(occlusion, m, x, window=window, stride=window, baseline="zero"),
            lambda m: Occlusion(m).attribute(x, **occluded),
        ),
        "rise": (lambda m: explain(rise, m, x), None),
        "lime": (lambda m: explain(lime, m, x, baseline="zero"), lambda m: Lime(m).attribute(x, **on_regions)),
        "kernel_shap": (
            lambda m: explain(kernel_shap, m, x, baseline="zero"),
            lambda m: KernelShap(m).attribute(x, **on_regions),
        ),
    }
    for method, (ours, theirs) in cases.items():
        counted, Counted.rows = Counted(model), 0
        ours(counted)
        rows, Counted.rows = Counted.rows, 0
        peer = None
        if theirs:
            theirs(counted)
            peer = median_seconds(lambda call=theirs: call(model), repeats)
        mine = median_seconds(lambda call=ours: call(model), repeats)
        show(f"{name} {method}", rows, mine, bare(model, x, rows, repeats), peer, Counted.rows if peer else None)


def accuracy() -> None:
    """Distance to the exact Shapley values at equal budgets, ours and captum's."""
    model, x = MODELS["cnn2d"]()
    labels = superpixels(x, 12)[0]
    count = int(labels.max()) + 1
    exact = explain(kernel_shap, model, x, samples=2**count, segments=12, baseline="zero").values[0]
    for samples in (64, 128, 256):
        errors = torch.zeros(2, 5)
        for seed in range(5):
            found = explain(kernel_shap, model, x, seed, samples=samples, segments=12, baseline="zero").values[0]
            torch.manual_seed(seed)
            base = baseline(x, "zero", seeded(0))
            peer = KernelShap(model).attribute(
                x, base, target=1, feature_mask=labels[None, None], n_samples=samples, perturbations_per_eval=CHUNK
            )[0, 0]
            errors[:, seed] = torch.stack([(f - exact).abs().mean() / exact.abs().mean() for f in (found, peer)])
        ours, theirs = errors.median(1).values.tolist()
        print(f"kernel_shap, {count} regions, {samples:4d} samples: error ours {ours:.3f}, captum {theirs:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", choices=MODELS, action="append")
    given = parser.parse_args()
    for chosen in given.model or MODELS:
        compare(chosen, given.repeats)
    accuracy()
