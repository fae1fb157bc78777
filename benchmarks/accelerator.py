"""Every explainer on an accelerator: the maps of the CPU, the time of its passes, memory on a volume, real networks.

    python benchmarks/accelerator.py [maps] [networks] [volume] [times]

Without a CUDA device only memory on a volume can be measured, that of the whole process. Networks are those of
torchvision and timm, where they are installed, with random weights.
"""

from __future__ import annotations

import collections
import functools
import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from test_matrix import options  # noqa: E402 (the path to the tests comes first)
from toys import images, make  # noqa: E402

from runners import explain, explainers, profile, unmet  # noqa: E402
from taxonomy import AtlasError, RequirementError  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOYS = (
    "cnn2d cnn2d_gated cnn3d vit_fused vit_module vit_3d swin unet2d unet3d unet2d_dropout detector mil tuple".split()
)
TOLERANCE = 2e-2
"""Of the largest value: kernels of an accelerator add up in another order, and maxima can move."""


def moved(value: Any) -> Any:
    """Bring tensors and modules to the accelerator."""
    if isinstance(value, Tensor | nn.Module):
        return value.to(DEVICE)
    return [moved(one) for one in value] if isinstance(value, list) else value


def maps() -> None:
    """Compare the maps of the toys with those of the CPU."""
    count: collections.Counter[str] = collections.Counter()
    for toy in TOYS:
        for method in sorted(explainers):
            given = options(method, toy)
            try:
                here = explain(make(toy), images(toy), method, **given).values
            except RequirementError:
                count["gap"] += 1
                continue
            try:
                there = explain(
                    make(toy).to(DEVICE), images(toy).to(DEVICE), method, **{k: moved(v) for k, v in given.items()}
                ).values
            except AtlasError as error:
                count["failed"] += 1
                print(f"FAILED {toy} {method}: {error}", flush=True)
                continue
            apart = float((here - there).abs().max() / here.abs().max().clamp(min=1e-12))
            count["same" if apart < TOLERANCE else "apart"] += 1
            if apart >= TOLERANCE:
                print(f"apart {toy} {method}: {apart:.3g} of the largest value", flush=True)
    print("maps:", dict(count))


def networks() -> Iterator[tuple[str, Callable[[], nn.Module], tuple[int, ...]]]:
    """Yield networks of torchvision and timm."""
    try:
        from torchvision import models as tv
        from torchvision.models import detection, segmentation, video
    except ImportError:
        print("torchvision is not installed")
    else:
        for name in ("densenet121", "convnext_tiny", "efficientnet_b0", "swin_t", "vit_b_16", "maxvit_t"):
            yield name, (lambda name=name: tv.get_model(name, weights=None)), (3, 224, 224)
        kwargs = {"weights": None, "weights_backbone": None}
        for name in ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "fcos_resnet50_fpn", "maskrcnn_resnet50_fpn"):
            yield name, (lambda name=name: getattr(detection, name)(**kwargs)), (3, 256, 256)
        yield "deeplabv3_resnet50", (lambda: segmentation.deeplabv3_resnet50(**kwargs)), (3, 224, 224)
        yield "r2plus1d_18", (lambda: video.r2plus1d_18(weights=None)), (3, 16, 112, 112)
        yield "mvit_v2_s", (lambda: video.mvit_v2_s(weights=None)), (3, 16, 224, 224)
    try:
        import timm
    except ImportError:
        print("timm is not installed")
        return
    for name in (
        "vit_small_patch14_reg4_dinov2",
        "deit_tiny_distilled_patch16_224",
        "swinv2_tiny_window8_256",
        "convnextv2_nano",
        "eva02_tiny_patch14_224",
        "coatnet_0_rw_224",
    ):
        size = {"vit_small_patch14_reg4_dinov2": 224, "swinv2_tiny_window8_256": 256}.get(name, 224)
        extra = {"img_size": 224} if "dinov2" in name else {}
        make_it = lambda name=name, extra=extra: timm.create_model(name, pretrained=False, num_classes=5, **extra)  # noqa: E731
        yield name, make_it, (3, size, size)


def wiring() -> None:
    """Explain real networks: what is found, and every method that is not refused."""
    for name, build, shape in networks():
        torch.manual_seed(0)
        try:
            model, x = build().eval().to(DEVICE), torch.rand(1, *shape, device=DEVICE)
            start = time.perf_counter()
            wired = profile(model, x)
        except Exception as error:  # noqa: BLE001 (the next network is to be tried whatever this one does)
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
            continue
        place = wired.place.text() if wired.place else "none"
        print(
            f"{name}: {wired.task} {wired.architecture}; {place}; tokens {wired.token_grid}+{wired.prefix}", flush=True
        )
        lacking = ", ".join(f"{need} ({why})" for need, why in wired.lacks.items() if need in ("tokens", "gradients"))
        print(f"    lacks {lacking}; profiled in {time.perf_counter() - start:.1f} s")
        done = refused = 0
        for method in sorted(explainers):
            quick = {k: v for k, v in options(method, "cnn2d").items() if k not in ("reference", "members", "target")}
            given = {"reference": torch.rand(2, *shape, device=DEVICE)}
            if unmet(method, wired, reference=given["reference"]):
                refused += 1
                continue
            try:
                explain(model, x, method, **given, **quick)
                done += 1
            except RequirementError:
                refused += 1
            except AtlasError as error:
                print(f"    FAILED {method}: {str(error)[:300]}", flush=True)
        print(f"    explained by {done}, refused by {refused}", flush=True)


def peak(call: Callable[[], object]) -> float:
    """Return the most memory in GiB while a call runs: of the accelerator, or else all that a process of its own has.

    Raises:
        RequirementError: what the call raised.
        AtlasError: the same.
    """
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() / 2**30
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def alone() -> None:
        try:
            call()
            theirs.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        except AtlasError as error:
            theirs.send(error)

    process = multiprocessing.get_context("fork").Process(target=alone)
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        raise AtlasError("its process was killed") from None
    finally:
        process.join()
    if isinstance(found, AtlasError):
        raise found
    return float(found)


def volume() -> None:
    """Peak memory of every method on a volume of 128³ voxels under a 3D U-Net."""
    from monai.networks.nets import UNet

    torch.set_num_threads(1)  # threads do not live on in a process of its own
    torch.manual_seed(0)
    model = UNet(3, 1, 3, (16, 32, 64, 128), (2, 2, 2), num_res_units=2, dropout=0.1).eval().to(DEVICE)
    x, reference = torch.rand(1, 1, 128, 128, 128, device=DEVICE), torch.rand(2, 1, 128, 128, 128, device=DEVICE)
    wired = profile(model, x)
    worst: list[tuple[float, str]] = []
    for method in sorted(explainers):
        quick = {k: v for k, v in options(method, "unet3d").items() if k not in ("reference", "members", "target")}
        if unmet(method, wired, reference=reference):
            continue
        start = time.perf_counter()
        try:
            gib = peak(functools.partial(explain, model, x, method, known=wired, reference=reference, **quick))
        except RequirementError:
            continue
        except AtlasError as error:
            print(f"FAILED {method}: {str(error)[:300]}", flush=True)
            continue
        worst.append((gib, method))
        print(f"    {gib:5.2f} GiB {method} {time.perf_counter() - start:.1f} s", flush=True)
    print(f"volume: {len(worst)} methods, at most {max(worst)[0]:.2f} GiB ({max(worst)[1]})", flush=True)


def times() -> None:
    """Time of each method on a DenseNet-121 at 224², beside that of its own passes in chunks of the same size."""
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    model, x = DenseNet121(2, 3, 5).eval().to(DEVICE), torch.rand(1, 3, 224, 224, device=DEVICE)

    def seconds(call: Callable[[], object]) -> float:
        call()
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def passes(rows: int, chunk: int, backward: bool) -> None:
        for first in range(0, rows, chunk):
            batch = x.expand(min(chunk, rows - first), *x.shape[1:]).clone().requires_grad_(backward)
            with torch.set_grad_enabled(backward):
                out = model(batch)
            if backward:
                torch.autograd.grad(out[:, 0].sum(), batch)

    model.requires_grad_(False)
    for method in (
        "vanilla_gradient grad_cam integrated_gradients smoothgrad rise lime kernel_shap occlusion score_cam lrp "
        "deeplift xrai shap_partition extremal_perturbation"
    ).split():
        if method not in explainers:
            continue
        found = explain(model, x, method, 0)
        chunk = int(found.parameters.get("batch_size", 1))
        own = seconds(lambda f=found, c=chunk: passes(f.passes["forward"], c, f.passes["backward"] > 0))
        line = (
            f"{method:24s} {found.passes} chunk {chunk}: x{seconds(lambda m=method: explain(model, x, m, 0)) / own:.2f}"
        )
        half = seconds(lambda m=method: explain(model, x, m, 0, autocast="bfloat16"))
        print(f"{line} of its passes ({own:.3f} s), in bfloat16 x{half / own:.2f}", flush=True)
    for compiled in (False, True):
        took = seconds(lambda c=compiled: explain(model, x, "rise", 0, masks=2000, compiled=c))
        print(f"rise, 2000 masks, compiled={compiled}: {took:.2f} s", flush=True)


PARTS = {"maps": maps, "networks": wiring, "volume": volume, "times": times}

if __name__ == "__main__":
    if DEVICE == "cpu" and sys.argv[1:] != ["volume"]:
        sys.exit("no CUDA device is here; volume can be measured without one")
    warnings.simplefilter("ignore")
    print(torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU", "torch", torch.__version__)
    for part in sys.argv[1:] or PARTS:
        began = time.perf_counter()
        try:
            PARTS[part]()
        except Exception as error:  # noqa: BLE001 (the next part is to run whatever this one does)
            print(f"FAILED {part}: {type(error).__name__}: {error}", flush=True)
        print(f"== {part}: {time.perf_counter() - began:.0f} s", flush=True)
