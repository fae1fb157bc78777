"""Metrics beside Quantus 0.6.0, captum and torchcam at equal settings and beside the bare model, all in one run.

    python benchmarks/metrics.py [--repeats 3] [--threads 1] [--device cuda] [--case road ...]

The model is MONAI's DenseNet-121 at 224² with one channel, as of a radiograph: Quantus flips channels one by one and
its ROAD knows one channel only. ``rows``: images that went through the model; ``ours/bare``: our time over that of our
rows alone; ``gap``: the largest difference of the two results, relative to the largest of theirs, where both compute
the same. Quantus is not installed with the package: ``pip install --no-deps quantus==0.6.0 cachetools
opencv-python-headless``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import quantus
import torch
from captum.attr import Saliency
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from monai.networks.nets import DenseNet121, UNet
from skimage.segmentation import slic
from torch import Tensor, nn
from torchcam.metrics import DeletionInsertionMetric

sys.path.extend([str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")])

from measuring import Counted, logit, usual

from runners import baselines
from runners.measures import curves, faithfulness, robustness, subsets
from runners.registry import no_progress, seeded

SIDE, LABEL = 224, 1
PLAIN: dict[str, Any] = {"normalise": False, "abs": False, "disable_warnings": True, "return_aggregate": False}
np.trapz = np.trapezoid  # Quantus calls the old name
baselines.GRAIN = 0.0  # the noise of ROAD is drawn differently


def confidence(outputs: Tensor, _rows: Tensor) -> Tensor:
    return outputs.softmax(1)[:, LABEL]


def decision(outputs: Tensor, _rows: Tensor) -> Tensor:
    return (outputs.argmax(1) == LABEL).float()


@dataclass(frozen=True)
class Case:
    """One line of the table: our call, the peer's, and whether both compute the same numbers."""

    name: str
    ours: Callable[[nn.Module], Any]
    peer: Callable[[nn.Module], Any]
    who: str = "Quantus"
    same: bool = True
    note: str = ""


def saliency(model: nn.Module, x: Tensor) -> Tensor:
    return Saliency(model).attribute(x.clone(), target=LABEL).mean(1).detach()


class Extractor:
    """Hands a finished map to torchcam."""

    def __init__(self, model: nn.Module, values: Tensor) -> None:
        self.model, self.values = model, values
        self._hooks_off, self.fuse_cams = nullcontext, lambda maps: maps[0]

    def __call__(self, *_: object) -> list[Tensor]:
        """Return the map, whatever is asked."""
        return [self.values]


def cases(x: Tensor, values: Tensor, chunk: int) -> list[Case]:
    """Return all comparisons on the images ``x`` ``(B, 1, SIDE, SIDE)`` and their maps."""

    def ours(function: Callable[..., Any], model: nn.Module, **given: Any) -> Any:
        given = {"batch_size": chunk, "progress": no_progress, "generator": seeded(0)} | given
        return function(model, x, logit, values, **given)

    def theirs(metric: Any, model: nn.Module, *, softmax: bool = False) -> np.ndarray:
        given = {"x_batch": x.cpu().numpy(), "a_batch": values[:, None].cpu().numpy()}
        labels = np.full(len(x), LABEL)
        inner = model.eval()
        return np.asarray(metric(model=inner, y_batch=labels, softmax=softmax, device=str(x.device), **given))

    def both(
        name: str, function: Callable[..., Any], given: dict[str, Any], metric: Any, read: Any, **more: Any
    ) -> Case:
        softmax = more.pop("softmax", False)
        return Case(
            name,
            lambda model: read(ours(function, model, **given)),
            lambda model: theirs(metric(), model, softmax=softmax),
            **more,
        )

    def course(found: Any) -> Tensor:
        return found.curve[:, 1:]

    pixels, black = SIDE * SIDE, {"baseline": "black"}
    label = torch.from_numpy(
        np.stack([slic(np.moveaxis(one, 0, -1).astype("double"), start_label=0) for one in x.cpu().numpy()])
    ).to(x.device)

    def irof(model: nn.Module) -> Any:
        kept, curves.superpixels = curves.superpixels, lambda *_: label
        try:
            found = ours(
                faithfulness.irof, model, segments=int(label.max()) + 1, baseline="zero", confidence=confidence
            )
        finally:
            curves.superpixels = kept
        return found.curve.shape[1] - 1 - torch.trapezoid(found.curve[:, 1:], dim=1)

    def road(model: nn.Module) -> np.ndarray:
        given = {"x_batch": x.cpu().numpy(), "a_batch": values[:, None].cpu().numpy()}
        metric = quantus.ROAD(percentages=list(range(10, 100, 10)), noise=0.0, **PLAIN)
        found = metric(model=model, y_batch=np.full(len(x), LABEL), device=str(x.device), **given)
        return np.array(list(found.values()))

    def perturb(inputs: Tensor, base: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        kept = torch.stack([subsets._square(tuple(x.shape[2:]), generator) for _ in inputs])[:, None].to(x.device)
        changed = torch.where(kept, inputs, base.expand_as(inputs))
        return inputs - changed, changed

    def captums(model: nn.Module) -> Tensor:
        base = baselines.baseline(x, "mean", seeded(0))
        draw = partial(perturb, base=base, generator=seeded(0))
        given = {"target": LABEL, "n_perturb_samples": 64, "max_examples_per_batch": chunk}
        with torch.no_grad():
            return captum_infidelity(model, draw, x, values[:, None], **given)

    def torchcams(model: nn.Module) -> None:
        DeletionInsertionMetric(Extractor(model, values), steps=32, batch_size=chunk).update(x, LABEL)

    def areas(model: nn.Module) -> None:
        for function in (faithfulness.deletion, faithfulness.insertion):
            ours(function, model, steps=32, baseline="zero")

    def sensitivity(model: nn.Module) -> Any:
        given = {"generator": seeded(0), "progress": no_progress, "samples": 10}
        again = lambda noisy: saliency(model, noisy)  # noqa: E731
        return robustness.max_sensitivity(model, x, logit, values, explain_again=again, **given).score

    infidel = {"slopes": True, "scaled": False, "channels": None}
    return [
        both(
            "pixel_flipping, 32 steps",
            faithfulness.pixel_flipping,
            {"steps": 32, **black},
            lambda: quantus.PixelFlipping(features_in_step=pixels // 32, **PLAIN),
            course,
        ),
        both(
            "region_perturbation, 100 of 16×16",
            faithfulness.region_perturbation,
            {"patches": 196, "steps": 100, **black},
            lambda: quantus.RegionPerturbation(patch_size=16, regions_evaluation=100, **PLAIN),
            course,
        ),
        both(
            "selectivity, 64 of 28×28",
            faithfulness.selectivity,
            {"patches": 64, **black},
            lambda: quantus.Selectivity(patch_size=28, **PLAIN),
            course,
        ),
        Case(
            "irof, SLIC", irof, lambda model: theirs(quantus.IROF(perturb_baseline=0.0, **PLAIN), model, softmax=True)
        ),
        Case(
            "road, 10% to 90%",
            lambda model: ours(faithfulness.road, model, decision=decision).curve[:, 1:].mean(0),
            road,
            note="Quantus solves the imputation of each image with a sparse direct solver",
        ),
        both(
            "faithfulness_estimate, 32 steps",
            subsets.faithfulness_estimate,
            {"steps": 32, **black},
            lambda: quantus.FaithfulnessEstimate(features_in_step=pixels // 32, **PLAIN),
            lambda found: found.score,
        ),
        both(
            "faithfulness_correlation, 100 × 224",
            subsets.faithfulness_correlation,
            {"samples": 100, "share": 224 / pixels, **black},
            lambda: quantus.FaithfulnessCorrelation(nr_runs=100, subset_size=224, **PLAIN),
            lambda found: found.score,
            same=False,
            note="other draws",
        ),
        both(
            "monotonicity_correlation, 16 × 8",
            subsets.monotonicity_correlation,
            {"steps": 16, "samples": 8},
            lambda: quantus.MonotonicityCorrelation(nr_samples=8, features_in_step=pixels // 16, normalise=False),
            lambda found: found.score,
            same=False,
            note="other draws",
        ),
        both(
            "infidelity, 16 perturbations",
            subsets.infidelity,
            {"samples": 16, **infidel, **black},
            lambda: quantus.Infidelity(perturb_patch_sizes=[56], **PLAIN),
            lambda found: found.score,
            same=False,
            note="Quantus asks its 16 perturbed images ten times over (n_perturb_samples=10), with equal answers",
        ),
        Case(
            "infidelity, 64 squares",
            lambda model: ours(subsets.infidelity, model, samples=64, **infidel).score,
            captums,
            "captum",
            same=len(x) == 1,
        ),
        Case(
            "max_sensitivity, 10 copies",
            sensitivity,
            partial(captum_sensitivity, x),
            "captum",
            same=False,
            note="other draws",
        ),
        Case("deletion + insertion, 32 steps", areas, torchcams, "torchcam", same=False),
    ]


def captum_sensitivity(x: Tensor, model: nn.Module) -> Tensor:
    return sensitivity_max(lambda pictures: (saliency(model, pictures[0]),), (x,), max_examples_per_batch=1)


def seconds(call: Callable[[], Any], device: torch.device, repeats: int) -> tuple[float, Any]:
    """Return the median time of a call after one to warm up, and its result: CPU seconds, or wall seconds of a GPU."""
    clock = time.perf_counter if device.type == "cuda" or torch.get_num_threads() > 1 else time.process_time
    found, times = call(), []
    for _ in range(repeats):
        start = clock()
        found = call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return statistics.median(times), found


def line(case: Case, model: nn.Module, x: Tensor, chunk: int, repeats: int) -> None:
    """Measure one case and print it."""
    counted, rows = Counted(model).eval(), []
    for call in (case.ours, case.peer):
        Counted.rows = 0
        call(counted)
        rows.append(Counted.rows)
    mine, found = seconds(lambda: case.ours(model), x.device, repeats)
    other, expected = seconds(lambda: case.peer(model), x.device, repeats)
    full = x[:1].expand(chunk, *x.shape[1:]).contiguous()
    with torch.no_grad():
        alone = seconds(lambda: model(full), x.device, max(repeats, 3))[0] * rows[0] / chunk
    text = (
        f"{case.name:36s} rows {rows[0]:4d}  {mine:7.2f} s  ours/bare {mine / alone:5.2f}   "
        f"{case.who:8s} rows {rows[1]:4d}  {other:8.2f} s   {other / mine:6.1f}× as long"
    )
    if case.same:
        a, b = torch.as_tensor(found).double().cpu().numpy(), np.asarray(torch.as_tensor(expected).double().cpu())
        text += f"   gap {np.abs(a - b.reshape(a.shape)).max() / np.abs(b).max():.0e}"
    print(text + (f"   ({case.note})" if case.note else ""), flush=True)


def as_they_come(model: nn.Module, x: Tensor, values: Tensor, chunk: int) -> None:
    """Quantus' own defaults: a row for every pixel; its time is that of the first rows, drawn out."""
    given = {"batch_size": chunk, "progress": no_progress, "generator": seeded(0), "baseline": "black"}
    flip = partial(faithfulness.pixel_flipping, model, x, logit, values, **given)
    mine, coarse = seconds(flip, x.device, 1)
    fine = flip(steps=256)
    few = quantus.PixelFlipping(features_in_step=SIDE * SIDE // 32, **PLAIN)
    arrays = {"x_batch": x.cpu().numpy(), "a_batch": values[:, None].cpu().numpy(), "y_batch": np.full(len(x), LABEL)}
    other, _ = seconds(lambda: few(model=model, softmax=False, device=str(x.device), **arrays), x.device, 1)
    hours = other * SIDE * SIDE / 32 / 3600
    print(
        f"PixelFlipping as Quantus comes: {SIDE * SIDE} rows, about {hours:.1f} h (from 32 rows); "
        f"ours as it comes: 33 rows, {mine:.1f} s; its area is {float(coarse.score[0]):.4f}, with 257 rows "
        f"{float(fine.score[0]):.4f}",
        flush=True,
    )


def refused(device: torch.device) -> None:
    """What Quantus refuses: a volume and a segmentation."""
    torch.manual_seed(0)
    volume = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2), torch.randn(1, 1, 64, 64, 64)
    unet = UNet(2, 1, 2, (16, 32, 64), (2, 2)), torch.randn(1, 1, SIDE, SIDE)

    def region(outputs: Tensor, _rows: Tensor) -> Tensor:
        return outputs[:, LABEL, 80:120, 80:120].sum((1, 2))

    for name, (model, x), score in (("a volume, 64³", volume, logit), ("a segmentation, 224²", unet, region)):
        model, x = model.to(device).eval().requires_grad_(False), x.to(device)
        values = torch.randn(x.shape[0], *x.shape[2:], generator=seeded(1)).to(device)
        given = {"batch_size": 4, "progress": no_progress, "generator": seeded(0)}
        call = partial(faithfulness.pixel_flipping, model, x, score, values, steps=16, **given)
        took, found = seconds(call, device, 1)
        try:
            quantus.PixelFlipping(features_in_step=values.numel() // 16, **PLAIN)(
                model=model,
                x_batch=x.cpu().numpy(),
                y_batch=np.array([LABEL]),
                a_batch=values[:, None].cpu().numpy(),
                softmax=False,
                device=str(device),
            )
            said = "finishes"
        except Exception as error:  # noqa: BLE001 (what it says is the point)
            said = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
        print(f"{name}: ours {took:.1f} s, {float(found.score[0]):.4g}; Quantus: {said}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--chunk", type=int, help="rows per call of ours and captum's; else what the gate takes")
    parser.add_argument("--case", action="append", help="beginning of a case's name; several are allowed")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    device = torch.device(given.device)
    torch.manual_seed(0)
    model = DenseNet121(spatial_dims=2, in_channels=1, out_channels=2).to(device).eval().requires_grad_(False)
    x = (torch.randn(given.images, 1, SIDE, SIDE).cumsum(-1).cumsum(-2) / 100).to(device)
    chunk = given.chunk or usual(model, x)
    values = saliency(model, x) * x.mean(1)
    place = torch.cuda.get_device_name() if device.type == "cuda" else f"{given.threads} CPU thread(s)"
    print(f"DenseNet-121, {given.images} × 1 × {SIDE}², {place}, chunks of {chunk}; Quantus {quantus.__version__}")
    for case in cases(x, values, chunk):
        if not given.case or case.name.startswith(tuple(given.case)):
            line(case, model, x, chunk, given.repeats)
    if not given.case:
        as_they_come(model, x[:1], values[:1], chunk)
        refused(device)


if __name__ == "__main__":
    main()
