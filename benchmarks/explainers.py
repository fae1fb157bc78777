"""Every explainer beside the model passes it needs by definition and beside peers, in one run.

    python benchmarks/explainers.py [--models densenet121] [--methods grad_cam lime] [--repeats 3] [--jobs 2]

``passes`` is the model alone on as many images, forwards and backwards, in chunks of the same size: ours / passes is
what everything else costs. Where a rule by definition evaluates the layers with other weights (z-plus once forwards
more, alpha-beta twice forwards and once backwards more), each of these evaluations counts as one forward pass. Peers
run at settings that ask for the same work; those that are not installed are left out, and one that raises is shown with
its error. Seconds are CPU seconds of one thread, the least of some turns in which all are timed. Every method runs in a
process of its own, ``--jobs`` of them at a time; its peak memory is told beside the peak of one chunk forwards and
backwards. What is done is told on the way; the tables come at the end, as docs/speed.md has them.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import DenseNet121, UNet
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from measuring import usual  # noqa: E402 (the path to the tests comes first)
from toys import CNN, ViT  # noqa: E402

from runners import explain, explainers, profile, unmet  # noqa: E402
from runners.superpixels import superpixels  # noqa: E402
from taxonomy import AtlasError, RequirementError, load_kb  # noqa: E402

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cnn2d": (lambda: CNN(2, 3), (3, 224, 224)),
    "cnn3d": (lambda: CNN(3), (1, 48, 48, 48)),
    "densenet121": (lambda: DenseNet121(2, 3, 3), (3, 224, 224)),
    "vit": (lambda: ViT((224, 224), width=64, depth=4), (1, 224, 224)),
    "unet2d": (lambda: UNet(2, 1, 2, (8, 16, 32, 64), (2, 2, 2), act="relu"), (1, 224, 224)),
}
LONG = 5.0
"""Seconds from which a call is timed once."""
ASKED = 100
"""How often methods that sample ask, ours and the peers'."""
LESS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("relax", "rise", "mc_rise", "hsic_attribution"), {"masks": ASKED}),
    **dict.fromkeys(("lime", "kernel_shap", "kernel_shap_organ_units", "kernel_shap_supervoxels"), {"samples": ASKED}),
    **dict.fromkeys(("shap_partition", "expected_gradients"), {"samples": ASKED}),
    "sobol_attribution": {"designs": 8}, "pixel_rde": {"steps": 25}, "xrai": {"steps": 20}, "guided_ig": {"steps": 40},
    "extremal_perturbation": {"steps": 40}, "meaningful_perturbation": {"steps": 40}, "ss_cam": {"samples": 2},
    "is_cam": {"steps": 2}, "opti_cam": {"steps": 20}, "shapley_sampling": {"orders": 2},
    "gscorecam": {"channels": ASKED},
}  # fmt: skip
"""Fewer of what many passes are made for: the ratio to them is the same."""
Calls = dict[str, Callable[[], object]]


def seconds(calls: Calls, repeats: int) -> dict[str, float | str]:
    """The least CPU time of every call, or the type of what it raised; all are timed in turn, after one to warm up.

    A call that takes long is timed once.
    """
    times: dict[str, float | str] = {}
    for turn in range(1 + repeats):
        for name, call in calls.items():
            before = times.get(name, 0.0)
            if isinstance(before, str) or before > LONG:
                continue
            start = time.process_time()
            try:
                call()
            except Exception as error:  # noqa: BLE001 (a peer may raise anything; its type is the result)
                times[name] = type(error).__name__
                continue
            now = time.process_time() - start
            times[name] = min(now, before) if turn > 1 else now  # the first one warms up
    return times


def passes(model: nn.Module, x: Tensor, forward: int, backward: int, chunk: int) -> None:
    """The model alone: ``backward`` images forwards and backwards, the others forwards."""
    for rows, grad in ((backward, True), (forward - backward, False)):
        for first in range(0, rows, chunk):
            batch = x.detach().expand(min(chunk, rows - first), *x.shape[1:]).clone().requires_grad_(grad)
            with torch.set_grad_enabled(grad):
                out = model(batch)
            if grad:
                torch.autograd.grad(out.flatten(1)[:, 0].sum(), batch)


def last_convolution(model: nn.Module) -> nn.Module:
    """The layer that users of the peers name."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)][-1]


def of_captum(model: nn.Module, x: Tensor, chunk: int) -> Calls:
    """Calls of captum, superpixels given where it takes them."""
    import captum.attr as ca

    base = x.amin(tuple(range(2, x.ndim)), keepdim=True).expand_as(x).contiguous()
    layer, labels = last_convolution(model), superpixels(x, 50)[0][None, None]
    window = tuple(max(1, round(side / 8)) for side in x.shape[2:])
    stride = tuple(max(1, side // (2 if x.ndim == 4 else 1)) for side in window)
    on_regions: dict[str, Any] = {
        "baselines": 0, "target": 0, "feature_mask": labels, "n_samples": ASKED, "perturbations_per_eval": chunk,
    }  # fmt: skip
    tunnel = ca.NoiseTunnel(ca.Saliency(model))
    return {
        "vanilla_gradient": lambda: ca.Saliency(model).attribute(x, target=0),
        "input_x_gradient": lambda: ca.InputXGradient(model).attribute(x, target=0),
        "integrated_gradients": lambda: ca.IntegratedGradients(model).attribute(
            x, base, target=0, n_steps=50, internal_batch_size=chunk
        ),
        "smoothgrad": lambda: tunnel.attribute(x, nt_samples=25, nt_samples_batch_size=chunk, target=0),
        "gradient_shap": lambda: ca.GradientShap(model).attribute(x, base, target=0, n_samples=25),
        "guided_backprop": lambda: ca.GuidedBackprop(model).attribute(x, target=0),
        "deconvnet": lambda: ca.Deconvolution(model).attribute(x, target=0),
        "deeplift": lambda: ca.DeepLift(model).attribute(x, base, target=0),
        "lrp": lambda: ca.LRP(model).attribute(x, target=0),
        "grad_cam": lambda: ca.LayerGradCam(model, layer).attribute(x, target=0),
        "guided_grad_cam": lambda: ca.GuidedGradCam(model, layer).attribute(x, target=0),
        "layer_conductance": lambda: ca.LayerConductance(model, layer).attribute(
            x, base, target=0, n_steps=50, internal_batch_size=chunk
        ),
        "occlusion": lambda: ca.Occlusion(model).attribute(
            x, (x.shape[1], *window), strides=(x.shape[1], *stride), target=0, perturbations_per_eval=chunk
        ),
        "lime": lambda: ca.Lime(model).attribute(x, **on_regions),
        "kernel_shap": lambda: ca.KernelShap(model).attribute(x, **on_regions),
        "feature_ablation": lambda: ca.FeatureAblation(model).attribute(
            x, target=0, feature_mask=labels, perturbations_per_eval=chunk
        ),
    }


def of_torchcam(model: nn.Module, _x: Tensor, _chunk: int) -> Calls:
    """Calls of torchcam."""
    import torchcam.methods as tc

    def cam(kind: str) -> Callable[[], object]:
        def call() -> object:
            with getattr(tc, kind)(model, last_convolution(model)) as extractor:
                return extractor(0, model(_x.clone().requires_grad_()))

        return call

    names = {
        "grad_cam": "GradCAM", "grad_cam_pp": "GradCAMpp", "layer_cam": "LayerCAM", "xgrad_cam": "XGradCAM",
        "smooth_grad_cam_pp": "SmoothGradCAMpp",
    }  # fmt: skip
    return {ours: cam(theirs) for ours, theirs in names.items()}


def of_grad_cam(model: nn.Module, x: Tensor, _chunk: int) -> Calls:
    """Calls of grad-cam."""
    import pytorch_grad_cam as pg
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def cam(kind: str) -> Callable[[], object]:
        def call() -> object:
            with getattr(pg, kind)(model=model, target_layers=[last_convolution(model)]) as extractor:
                return extractor(input_tensor=x, targets=[ClassifierOutputTarget(0)])

        return call

    names = {
        "grad_cam": "GradCAM", "grad_cam_pp": "GradCAMPlusPlus", "hirescam": "HiResCAM", "layer_cam": "LayerCAM",
        "xgrad_cam": "XGradCAM", "eigen_cam": "EigenCAM", "eigen_grad_cam": "EigenGradCAM", "fullgrad": "FullGrad",
        "finer_cam": "FinerCAM", "fem": "FEM", "kpca_cam": "KPCA_CAM", "shapley_cam": "ShapleyCAM",
    }  # fmt: skip
    return {ours: cam(theirs) for ours, theirs in names.items()}


def of_zennit(model: nn.Module, x: Tensor, _chunk: int) -> Calls:
    """Calls of zennit, on a copy: where a composite fails half-way, it leaves the model changed."""
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonAlpha2Beta1, EpsilonPlus

    model = copy.deepcopy(model)

    def lrp(kind: Callable[..., Any]) -> Callable[[], object]:
        def call() -> object:
            with Gradient(model=model, composite=kind(canonizers=[SequentialMergeBatchNorm()])) as attributor:
                return attributor(x, torch.eye(model(x).shape[1])[[0]])

        return call

    return {"lrp": lrp(EpsilonPlus), "lrp_composite": lrp(EpsilonPlus), "lrp_alpha_beta": lrp(EpsilonAlpha2Beta1)}


def of_monai(model: nn.Module, x: Tensor, chunk: int) -> Calls:
    """Calls of MONAI."""
    from monai.visualize import GradCAM, GradCAMpp, OcclusionSensitivity, SmoothGrad, VanillaGrad

    name = next(n for n, m in model.named_modules() if m is last_convolution(model))
    window, step = max(1, round(x.shape[-1] / 8)), 0.5 if x.ndim == 4 else 0.0
    occlude = OcclusionSensitivity(model, mask_size=window, overlap=step, n_batch=chunk, verbose=False)
    return {
        "grad_cam": lambda: GradCAM(model, name)(x, class_idx=0),
        "grad_cam_pp": lambda: GradCAMpp(model, name)(x, class_idx=0),
        "vanilla_gradient": lambda: VanillaGrad(model)(x, index=0),
        "smoothgrad": lambda: SmoothGrad(model, n_samples=25, verbose=False)(x, index=0),
        "occlusion": lambda: occlude(x),
    }


def of_lime(model: nn.Module, x: Tensor, chunk: int) -> Calls:
    """The original LIME, on the superpixels of ours."""
    from lime.lime_image import LimeImageExplainer

    if x.shape[1] != 3 or x.ndim != 4:
        return {}
    labels, image = superpixels(x, 50)[0].numpy(), x[0].permute(1, 2, 0).double().numpy()

    def ask(batch: Any) -> Any:
        with torch.no_grad():
            return model(torch.from_numpy(np.asarray(batch)).float().permute(0, 3, 1, 2)).numpy()

    return {
        "lime": lambda: LimeImageExplainer(random_state=0).explain_instance(
            image, ask, num_samples=ASKED, batch_size=chunk, segmentation_fn=lambda _: labels, progress_bar=False
        )
    }


def of_shap(model: nn.Module, x: Tensor, chunk: int) -> Calls:
    """SHAP's explainers, on a copy for the same reason."""
    import shap

    if x.ndim != 4:
        return {}
    model = copy.deepcopy(model)
    image = x.permute(0, 2, 3, 1).numpy()

    def ask(batch: Any) -> Any:
        with torch.no_grad():
            return model(torch.from_numpy(np.asarray(batch)).float().permute(0, 3, 1, 2)).numpy()

    def partition() -> object:
        explainer = shap.PartitionExplainer(ask, shap.maskers.Image("blur(28,28)", image[0].shape))
        return explainer(image, max_evals=ASKED, batch_size=chunk, outputs=[0], silent=True)

    background = x.flip(-1).repeat(4, 1, 1, 1)
    return {
        "shap_partition": partition,
        "expected_gradients": lambda: shap.GradientExplainer(model, background, batch_size=chunk).shap_values(
            x, nsamples=ASKED
        ),
        "deepshap": lambda: shap.DeepExplainer(model, background).shap_values(x, check_additivity=False),
    }


def of_medcam(model: nn.Module, x: Tensor, _chunk: int) -> Calls:
    """Calls of medcam; it changes the model, so each call pays for a copy as its users do."""
    from medcam import medcam

    def cam(kind: str) -> Callable[[], object]:
        return lambda: medcam.inject(copy.deepcopy(model), backend=kind, layer="auto", label=0, return_attention=True)(
            x
        )

    return {"grad_cam": cam("gcam"), "grad_cam_pp": cam("gcampp"), "guided_backprop": cam("gbp")}


def of_pnpxai(model: nn.Module, x: Tensor, _chunk: int) -> Calls:
    """Calls of pnpxai, at the numbers of steps and samples of ours; it finds its layer by itself."""
    import pnpxai.explainers as pn

    target, labels = torch.zeros(1, dtype=torch.long), superpixels(x, 50)
    regions: dict[str, Any] = {"feature_mask_fn": lambda _: labels, "n_samples": ASKED}
    calls = {
        "vanilla_gradient": pn.Gradient(model),
        "input_x_gradient": pn.GradientXInput(model),
        "integrated_gradients": pn.IntegratedGradients(model, n_steps=50),
        "smoothgrad": pn.SmoothGrad(model, n_iter=25),
        "grad_cam": pn.GradCam(model),
        "guided_grad_cam": pn.GuidedGradCam(model),
        "lrp": pn.LRPEpsilonPlus(model),
        "lrp_alpha_beta": pn.LRPEpsilonAlpha2Beta1(model),
        "lime": pn.Lime(model, **regions),
        "kernel_shap": pn.KernelShap(model, **regions),
    }
    return {ours: functools.partial(theirs.attribute, x, target) for ours, theirs in calls.items()}


PEERS = {
    "captum": of_captum, "torchcam": of_torchcam, "grad-cam": of_grad_cam, "zennit": of_zennit, "MONAI": of_monai,
    "lime": of_lime, "shap": of_shap, "medcam": of_medcam, "pnpxai": of_pnpxai,
}  # fmt: skip


def peers(model: nn.Module, x: Tensor, chunk: int) -> dict[str, Calls]:
    """The calls of all peers that are installed, with as many images at a time as ours where they take a number."""
    found = {}
    for name, calls in PEERS.items():
        try:
            found[name] = calls(model, x, chunk)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        except Exception as error:  # noqa: BLE001 (a peer may raise anything; its words are the result)
            print(f"{name} fails on this model: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
    return found


def peak_so_far() -> int:
    """Return the most memory this process ever had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(name: str, method: str, repeats: int) -> dict[str, Any]:
    """Measure one method on one model, or ``chunk``: the model alone on one chunk.

    Returns:
        ``peak`` in MiB; ``passes``, ``seconds``, ``ratio`` to the passes alone, and ``peers``: name to time in units of
        ours, or to what it raised. ``error`` where there is no map; nothing where the model cannot be explained so.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model, x = make().eval().requires_grad_(False), torch.rand(1, *shape)
    reference = x.flip(-1).repeat(4, *[1] * (x.ndim - 1))
    wired = profile(model, x)
    before = peak_so_far()
    together = usual(model, x)
    if method == "chunk":
        passes(model, x, together, together, together)
        return {"peak": (peak_so_far() - before) / 2**20, "images": together}
    if unmet(method.partition(":")[0], wired, reference=reference):
        return {}
    target = None if wired.task == "segmentation" else 0
    method, _, steps = method.partition(":")  # integrated_gradients:300 shows that memory does not grow with steps
    given = {"steps": int(steps)} if steps else LESS.get(method, {})
    call = functools.partial(explain, model, x, method, target, known=wired, reference=reference, **given)
    try:
        found = call()
    except RequirementError:
        return {}
    except AtlasError as error:
        return {"error": str(error)[:80]}
    peak = (peak_so_far() - before) / 2**20
    rows, back = found.passes["forward"] + found.passes.get("again", 0), found.passes["backward"]
    chunk = int(found.parameters.get("batch_size", max(back, 1)))
    model.requires_grad_(True)  # noqa: FBT003 (some peers need it)
    theirs = (
        {} if steps else {peer: calls[method] for peer, calls in peers(model, x, together).items() if method in calls}
    )
    times = seconds({"ours": call, "passes": lambda: passes(model, x, rows, back, chunk), **theirs}, repeats)
    ours, alone = times.pop("ours"), times.pop("passes")
    assert isinstance(ours, float)
    assert isinstance(alone, float)
    told = {peer: f"{took / ours:.2f}" if isinstance(took, float) else took for peer, took in times.items()}
    return {"passes": [rows, back], "seconds": ours, "ratio": ours / alone, "peak": peak, "peers": told}


def table(name: str, chunk: dict[str, Any], found: dict[str, dict[str, Any]], repeats: int) -> str:
    """Return what was measured on a model as a table, the dearest beside its passes first."""
    lines = [
        f"## {name}",
        "",
        f"Torch {torch.__version__}, {platform.system()}, one thread of a CPU, {repeats} repeats. One chunk of "
        f"{chunk['images']} forwards and backwards takes {chunk['peak']:.0f} MiB.",
        "",
        "| method | passes | seconds | ours / passes | MiB | peers / ours |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for method, one in sorted(found.items(), key=lambda pair: -pair[1].get("ratio", 0.0)):
        if "ratio" in one:
            theirs = ", ".join(f"{peer} {value}" for peer, value in one["peers"].items())
            counts = "+".join(map(str, one["passes"]))
            lines.append(
                f"| {method} | {counts} | {one['seconds']:.2f} | {one['ratio']:.2f} | {one['peak']:.0f} | {theirs} |"
            )
    lines += ["", *(f"- {method}: {one['error']}" for method, one in found.items() if "error" in one)]
    return "\n".join(lines)


def long_first() -> list[str]:
    """All explainers, those of many passes first, so that no long one is left alone at the end."""
    methods = load_kb().methods
    return sorted(explainers, key=lambda m: (-(methods[m].cost.passes or 0), m))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=["densenet121"])
    parser.add_argument("--methods", nargs="*", default=["integrated_gradients:300", *long_first()])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--one", nargs=2, help="measure one method on one model in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(*arguments.one, arguments.repeats)))
        return

    def apart(name: str, method: str) -> dict[str, Any]:
        command = [sys.executable, __file__, "--one", name, method, "--repeats", str(arguments.repeats)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (this file)
        last = (done.stdout.strip().splitlines() or [""])[-1]
        found = json.loads(last) if last else {"error": (done.stderr.strip().splitlines() or ["nothing came"])[-1]}
        print(name, method, last or found["error"], file=sys.stderr, flush=True)
        return dict(found)

    print("# Explainers beside their passes and beside peers\n")
    print(f"Written by `python {' '.join(sys.argv)}`, which says what the columns mean.\n")
    for name in arguments.models:
        chunk = apart(name, "chunk")
        with ThreadPoolExecutor(arguments.jobs) as pool:
            rows = list(pool.map(functools.partial(apart, name), arguments.methods))
        print(table(name, chunk, dict(zip(arguments.methods, rows, strict=True)), arguments.repeats))


if __name__ == "__main__":
    main()
