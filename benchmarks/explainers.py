"""Time of one explanation in units of one forward and backward pass of the same model, ours beside peers, in one run.

    python benchmarks/explainers.py [--repeats 3]

Values wander with the load of the machine: read the ratios of one row, not the absolute numbers. Peers that are not
installed are left out; a peer that raises is shown with its error. Profiling is done once per model and is timed by
itself.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from monai.networks.nets import DenseNet121, UNet
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from toys import CNN, ViT  # noqa: E402 (the path to the tests comes first)

from runners import explain, explainers, profile  # noqa: E402
from taxonomy import AtlasError, RequirementError  # noqa: E402

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cnn2d": (lambda: CNN(2, 3), (3, 224, 224)),
    "cnn3d": (lambda: CNN(3), (1, 48, 48, 48)),
    "densenet121": (lambda: DenseNet121(2, 3, 3), (3, 224, 224)),
    "vit": (lambda: ViT((224, 224), width=64, depth=4), (1, 224, 224)),
    "unet2d": (lambda: UNet(2, 1, 2, (8, 16, 32, 64), (2, 2, 2), act="relu"), (1, 224, 224)),
}


def seconds(function: Callable[[], object], repeats: int) -> float:
    """The median time of a call, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peers(model: nn.Module, x: Tensor) -> dict[str, dict[str, Callable[[], object]]]:
    """Calls of captum and torchcam for our method ids, with settings that match ours."""
    import captum.attr as ca

    base = x.amin(tuple(range(2, x.ndim)), keepdim=True).expand_as(x).contiguous()
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)][-1]
    found: dict[str, dict[str, Callable[[], object]]] = {
        "captum": {
            "vanilla_gradient": lambda: ca.Saliency(model).attribute(x, target=0),
            "input_x_gradient": lambda: ca.InputXGradient(model).attribute(x, target=0),
            "integrated_gradients": lambda: ca.IntegratedGradients(model).attribute(x, base, target=0, n_steps=50),
            "smoothgrad": lambda: ca.NoiseTunnel(ca.Saliency(model)).attribute(
                x, nt_samples=25, nt_samples_batch_size=16, target=0
            ),
            "gradient_shap": lambda: ca.GradientShap(model).attribute(x, base, target=0, n_samples=25),
            "guided_backprop": lambda: ca.GuidedBackprop(model).attribute(x, target=0),
            "deeplift": lambda: ca.DeepLift(model).attribute(x, base, target=0),
            "lrp": lambda: ca.LRP(model).attribute(x, target=0),
            "grad_cam": lambda: ca.LayerGradCam(model, last).attribute(x, target=0),
        }
    }
    try:
        import torchcam.methods as tc
    except ImportError:
        return found

    def cam(kind: str) -> Callable[[], object]:
        def call() -> object:
            with getattr(tc, kind)(model, last) as extractor:
                return extractor(0, model(x.clone().requires_grad_()))

        return call

    names = {"grad_cam": "GradCAM", "grad_cam_pp": "GradCAMpp", "layer_cam": "LayerCAM", "score_cam": "ScoreCAM"}
    found["torchcam"] = {ours: cam(theirs) for ours, theirs in names.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=sorted(MODELS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in arguments.models:
        make, shape = MODELS[name]
        torch.manual_seed(0)
        model, x = make().eval(), torch.rand(1, *shape)

        def once(model: nn.Module = model, x: Tensor = x) -> None:
            source = x.clone().requires_grad_()
            torch.autograd.grad(model(source).flatten(1)[:, 0].sum(), source)

        unit = seconds(once, 5)
        start = time.perf_counter()
        profile(model, x)
        looked = (time.perf_counter() - start) / unit
        print(f"\n{name}: forward + backward {1000 * unit:.1f} ms; profiling, once, x{looked:.1f}")
        others = peers(model, x)
        print(f"{'method':24}{'ours':>10}{'passes':>9}" + "".join(f"{peer:>12}" for peer in others))
        target = None if name == "unet2d" else 0
        for method in sorted(explainers):
            try:
                passes = sum(explain(model, x, method, target).passes.values())
                call = functools.partial(explain, model, x, method, target)
                ours = f"{seconds(call, arguments.repeats) / unit:.1f}"
            except RequirementError:
                ours, passes = "gap", 0
            except AtlasError as error:
                ours, passes = str(error)[:40], 0
            row = f"{method:24}{ours:>10}{passes:>9}"
            for calls in others.values():
                if method not in calls:
                    row += f"{'':>12}"
                    continue
                try:
                    row += f"{seconds(calls[method], arguments.repeats) / unit:>12.1f}"
                except Exception as error:  # noqa: BLE001 (a peer may raise anything; its type is the result)
                    row += f"{type(error).__name__[:11]:>12}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
