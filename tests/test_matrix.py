"""Every registered explainer on every toy model: no gap and a valid explanation, or gaps and a RequirementError."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from toys import TOYS, images, make

from runners import Similarity, explain, explainers, measure, metrics, profile, unmet
from runners.gate import left_out
from runners.registry import INJECTED, helps, injected, looking_first, parameters
from runners.targets import primary, resolve
from taxonomy import RequirementError, load_kb

FAST = {
    "rise": {"masks": 12},
    "lime": {"samples": 40, "segments": 8},
    "kernel_shap": {"samples": 40, "segments": 8},
    "smoothgrad": {"samples": 4},
    "gradient_shap": {"samples": 4},
    "integrated_gradients": {"steps": 8},
    "score_cam": {"channels": 6},
    "ablation_cam": {"channels": 6},
    "squaregrad": {"samples": 4},
    "vargrad": {"samples": 4},
    "blur_ig": {"steps": 8},
    "idgi": {"steps": 8},
    "feature_ablation": {"segments": 8},
    "shapley_sampling": {"orders": 2, "segments": 8},
    "sobol_attribution": {"designs": 4, "cells": 2},
    "hsic_attribution": {"masks": 24, "cells": 3},
    "d_rise": {"masks": 12, "cells": 4},
    "smooth_grad_cam_pp": {"samples": 2},
    "ss_cam": {"channels": 4, "samples": 2},
    "is_cam": {"channels": 4, "steps": 2},
    "group_cam": {"groups": 4},
    "poly_cam": {"channels": 4},
    "sidu": {"channels": 6},
    "recipro_cam": {"positions": 16},
    "opti_cam": {"steps": 5},
    "noisegrad": {"samples": 3},
    "mc_guided_backprop": {"samples": 4},
    "expected_gradients": {"samples": 4},
    "layer_conductance": {"steps": 8},
    "guided_ig": {"steps": 6, "max_distance": 0.1},
    "xrai": {"steps": 8},
    "beyond_intuition": {"steps": 4},
    "mc_dropout": {"samples": 4},
    "test_time_augmentation": {"samples": 4},
    "mc_rise": {"masks": 12},
    "relax": {"masks": 12},
    "shap_partition": {"samples": 40},
    "kernel_shap_supervoxels": {"samples": 40, "segments": 8},
    "kernel_shap_organ_units": {"samples": 40},
    "meaningful_perturbation": {"steps": 8, "cells": 6},
    "extremal_perturbation": {"steps": 8, "cells": 8},
    "pixel_rde": {"steps": 4, "samples": 2},
    "iba": {"steps": 4, "samples": 2},
    "m2ib": {"steps": 4, "samples": 2},
    "gscorecam": {"channels": 6},
}
PLACELESS = {n for n, toy in TOYS.items() if toy.task != "segmentation"}
"""Toys that give one answer for the whole image."""
DOUBT = ("mc_dropout", "deep_ensemble", "test_time_augmentation")
BAGS = ("attention_mil", "clam", "single_patch_perturbation", "xmil_lrp")
DROPPING = {"vit_module", "vit_tokens_first", "unet2d_dropout"}
AT_RUN: dict[str, set[str]] = {
    # features of one resolution
    **dict.fromkeys(
        ("refine_cam", "poly_cam"), {"cnn2d_gated", "dataclass", *[n for n in TOYS if n.startswith("vit")]}
    ),
    "relax": {n for n in TOYS if n.startswith("unet")} | {"dict"},
    "deep_ensemble": PLACELESS,
    "test_time_augmentation": PLACELESS,
    "mc_dropout": PLACELESS & DROPPING,
    **dict.fromkeys(BAGS, PLACELESS - {"mil"}),
}
"""Toys that a method refuses for a reason that no profile can tell."""
UNITS = ("kernel_shap_supervoxels", "kernel_shap_organ_units")
REGIONS = ("kernel_shap", "feature_ablation", "shapley_sampling", *UNITS)
BLACK_BOX = (
    *("occlusion", "rise", "mc_rise", "lime", "kernel_shap", "feature_ablation", "shapley_sampling", "shap_partition"),
    *("sobol_attribution", "hsic_attribution"),
)
CHANNELS = ("score_cam", "ablation_cam", "ss_cam", "is_cam", "group_cam", "poly_cam", "sidu", "gscorecam")
RELEVANCE = (
    "relevance_cam",
    "fullgrad",
    "lrp",
    "lrp_epsilon",
    "lrp_alpha_beta",
    "lrp_composite",
    "excitation_backprop",
    "contrastive_excitation_backprop",
    "deeplift",
    "deepshap",
)
WEIGHTS = ("attnlrp", "conservative_lrp")
"""Methods that ask for attention, on windows or on one sequence."""
DROPOUT = ("mc_guided_backprop",)
ATTENTION = (
    *("raw_attention", "attention_rollout", "gradient_attention_rollout", "generic_attention", "chefer_lrp"),
    *("attention_flow", "legrad", "grad_sam", "ag_cam", "beyond_intuition"),
)

# What a radiographer of the matrix should see: which toys each structural need rules out.
WITHOUT = {
    **dict.fromkeys(
        ("guided_backprop", "guided_grad_cam", "deconvnet"),
        {"cnn2d_gated", *[n for n in TOYS if n.startswith(("vit", "swin"))], "dataclass", "box"},
    ),
    **dict.fromkeys(RELEVANCE, {*[n for n in TOYS if n.startswith(("vit", "swin", "detector"))], "dataclass", "box"}),
    "deep_taylor": {"cnn2d_gated", *[n for n in TOYS if n.startswith(("vit", "swin"))], "dataclass", "box"},
    "contrastive_lrp": {n for n in TOYS if n.startswith(("vit", "swin", "unet")) or n.endswith("regression")}
    | {"dataclass", "box"},
    **dict.fromkeys(WEIGHTS, {n for n in TOYS if not n.startswith(("vit", "swin")) and n != "dataclass"}),
    **dict.fromkeys(DROPOUT, {n for n in TOYS if "dropout" not in n}),
    **dict.fromkeys(
        ("clip_surgery", "gscorecam", "grad_eclip", "m2ib"), set(TOYS) - {"vit_prompted"}
    ),  # the rest knows no text
    **dict.fromkeys(("decoder_cross_attention", "decoder_generic_attention"), set(TOYS) - {"vit_writer"}),
    "cam": {n for n in TOYS if n.startswith(("vit", "swin", "unet"))} | {"dataclass", "box"},
    **dict.fromkeys(ATTENTION, {n for n in TOYS if not n.startswith("vit") and n != "dataclass"}),
    **dict.fromkeys(BLACK_BOX, set()),
    **dict.fromkeys(("deep_ensemble", "test_time_augmentation"), set()),
    "mc_dropout": {*TOYS} - DROPPING,
    **dict.fromkeys(("attention_mil", "single_patch_perturbation"), {*TOYS} - PLACELESS),
    "clam": {n for n, toy in TOYS.items() if toy.task != "classification"},
    "xmil_lrp": {*[n for n in TOYS if n.startswith(("vit", "swin", "unet"))], "dataclass", "box"},
    **dict.fromkeys(UNITS, set()),
}
LACKS = {
    "mil": {"spatial_features", "tokens", "attention_weights", "relu_only", "linear_head"},
    "vit_writer": {"tokens", "embedding", "linear_head"},
}
"""What a toy lacks whatever the method: layers of a bag model see tiles, not the image; a writer writes from tokens."""


def without(method: str) -> set[str]:
    """Toys that a method cannot explain: for what they are built of, or for their task."""
    tasks = load_kb().methods[method].requires.tasks
    dims = load_kb().methods[method].requires.dims
    tasks = ["classification", "regression"] if tasks == ["retrieval"] else tasks
    other = {name for name, toy in TOYS.items() if toy.task not in tasks or len(toy.shape) - 1 not in dims}
    needs = set(load_kb().methods[method].requires.needs)
    return WITHOUT.get(method, {"box"}) | other | {toy for toy, lacks in LACKS.items() if needs & lacks}


SHOWN = ("visualization", "multimodal")
"""Branches whose maps are made here."""
TYPICAL = ("cnn2d", "vit_fused", "vit_prompted", "vit_writer", "unet2d", "unet2d_dropout", "unet3d", "detector", "mil")
"""Where a method is at home: on the first of these that it can explain."""


def options(method: str, toy: str) -> dict[str, object]:
    """Fast parameters, and what the owner of the model has to give."""
    wanted, given = injected(explainers[method]), dict(FAST.get(method, {}))
    if "reference" in wanted:
        given["reference"] = images(toy, 4).flip(0) * 0.8
    if "members" in wanted:
        given["members"] = [make(toy, seed) for seed in (8, 9)]
    if load_kb().methods[method].requires.tasks == ["retrieval"]:
        found = make(toy)(images(toy, 1))
        width = found.shape[-1] if isinstance(found, torch.Tensor) else 3
        given["target"] = Similarity(torch.tensor([1.0, -2.0, 0.5, 1.5, -1.0])[:width])
    return given


def home(method: str) -> str:
    """A toy that the method can explain."""
    return next(toy for toy in TYPICAL if toy not in without(method) | AT_RUN.get(method, set()))


def state(model: torch.nn.Module) -> list[object]:
    """Everything that an explanation must leave as it was."""
    found: list[object] = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()]
    for name, module in model.named_modules():
        found.append(
            (
                name,
                module.training,
                len(module._forward_hooks),
                len(module._backward_hooks),
                len(module._forward_pre_hooks),
            )
        )
    for name, parameter in model.named_parameters():
        found.append((name, parameter.requires_grad, parameter.grad is None, parameter.detach().clone().tolist()))
    for name, buffer in model.named_buffers():
        found.append((name, buffer.tolist()))
    return found


@pytest.mark.parametrize("toy", sorted(TOYS))
@pytest.mark.parametrize("method", sorted(explainers))
def test_explainer_on_toy(method: str, toy: str) -> None:
    model, x = make(toy), images(toy)
    model.train()  # the gate must explain in evaluation mode and put this back
    before, given = state(model), x.clone()
    given_options = options(method, toy)
    owned = {key: value for key, value in given_options.items() if key in ("target", "reference", "members")}
    missing = unmet(method, profile(model, x), **owned)
    assert bool(missing) == (toy in without(method)), [gap.sentence for gap in missing]
    if toy in AT_RUN.get(method, set()):
        with pytest.raises(RequirementError):
            explain(model, x, method, **given_options)
        assert state(model) == before
        return
    if missing:
        with pytest.raises(RequirementError) as caught:
            explain(model, x, method, **given_options)
        assert [gap.need for gap in caught.value.gaps] == [gap.need for gap in missing]
        assert state(model) == before
        return
    first = explain(model, x, method, **given_options)
    assert state(model) == before
    assert torch.equal(x, given)
    assert first.values.shape == (len(x), *x.shape[2:])
    assert first.values.dtype == torch.float32
    assert torch.isfinite(first.values).all()
    assert first.signed or (first.values >= 0).all()
    assert first.passes["forward"] >= len(x)
    if "generator" in injected(explainers[method]):  # the others draw nothing
        again = explain(model, x, method, **given_options)
        assert torch.equal(first.values, again.values), "the same seed must give the same map, bit for bit"
    alone = explain(model, x[1:], method, **given_options)
    scale = first.values[1].abs().max().clamp(min=1e-12)
    # steps of Adam make more of a rounding error, more on some CPUs than on others
    near = 1e-2 if explainers[method].__module__ == "runners.learned_masks" else 1e-3
    assert ((alone.values[0] - first.values[1]).abs().max() / scale) < near, "a map must not depend on the batch"


class Shifted(torch.nn.Module):
    """Normalises its input, in place or not."""

    def __init__(self, in_place: bool, toy: str = "cnn2d") -> None:
        super().__init__()
        self.in_place, self.inner = in_place, make(toy)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.sub_(0.2).mul_(1.5) if self.in_place else (x - 0.2) * 1.5)


@pytest.mark.parametrize("name", sorted({*metrics, *(m for m in explainers if "cnn2d" not in without(m))}))
def test_models_that_change_their_input_in_place(name: str) -> None:
    found = []
    toy = "cnn2d" if name in metrics else home(name)
    for in_place in (True, False):
        model, x = Shifted(in_place, toy).eval(), images(toy)
        if name in metrics:
            explanation = explain(model, x, "input_x_gradient", 1)
            given = {"mask": torch.eye(32).bool(), "reference": x, "members": [make(toy, seed=8)]}
            found.append(measure(name, model, x, explanation, 1, **given).score)
        else:
            found.append(explain(model, x, name, **({"target": 1} | options(name, toy))).values)
        assert torch.equal(x, images(toy))
    torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)  # of one channel some metrics say nothing


@pytest.mark.parametrize("toy", sorted(TOYS))
def test_profile_of_toy(toy: str) -> None:
    model, x = make(toy), images(toy)
    before = state(model)
    found = profile(model, x)
    assert state(model) == before
    assert found.task == TOYS[toy].task
    assert found.architecture == TOYS[toy].architecture
    assert found.dims == x.ndim - 2
    assert not found.has & set(found.lacks)


def test_every_explainer_is_a_method_with_its_branch() -> None:
    kb = load_kb()
    for method in explainers:
        assert kb.methods[method].output == "map"
        assert kb.branch(method) in SHOWN
        assert not kb.methods[method].umbrella


def test_every_method_that_gives_a_map_runs_or_says_why_not() -> None:
    kb = load_kb()
    maps = {one for one, m in kb.methods.items() if m.output == "map" and kb.branch(one) in SHOWN}
    maps -= {one for one in maps if kb.methods[one].umbrella}
    assert left_out().keys() | explainers.keys() == maps
    assert not left_out().keys() & explainers.keys()
    for why in left_out().values():
        assert re.fullmatch(r"[a-zA-Z].{20,150}\.", why), why
    with pytest.raises(RequirementError, match="b_cos cannot explain this model: it is not run here: the network must"):
        explain(make("cnn2d"), images("cnn2d"), "b_cos")


@pytest.mark.parametrize("method", sorted(explainers))
def test_every_parameter_is_described(method: str) -> None:
    assert set(parameters(explainers[method])) <= set(helps(explainers[method]))


@pytest.mark.parametrize("method", sorted(explainers))
def test_cost_in_the_knowledge_base_is_the_measured_one(method: str) -> None:
    """Model passes at default parameters."""
    stated = load_kb().methods[method].cost.passes
    toy = home(method)
    owned = {key: value for key, value in options(method, toy).items() if key in (*INJECTED, "target")}
    passes = explain(make(toy), images(toy, 1), method, **owned).passes
    measured = sum(passes.values())
    if method == "single_patch_perturbation":  # tiles of the image
        assert stated is None
        assert measured == 16
    elif method == "legrad":  # blocks of the model: 3 here, 12 in the knowledge base
        assert (measured, stated) == (2 * 3, 2 * 12)
    elif method in ("occlusion", *CHANNELS, *REGIONS):  # windows, channels, superpixels of the image
        assert stated is not None
        assert measured <= stated
    elif method == "deepshap":  # as many as there are reference images
        assert stated is None
        assert measured == 3 * len(owned["reference"])
    else:
        assert measured == stated


@pytest.mark.parametrize("method", sorted(looking_first))
def test_the_target_is_found_in_the_pass_that_looks_at_the_images_first(method: str) -> None:
    """Beside one that is known before: the same map, target and scores, and no further pass."""
    model, x = make(home(method)), images(home(method))
    asked: list[torch.Tensor] = []
    model.register_forward_hook(lambda _module, _inputs, outputs: asked.append(primary(outputs).detach()))
    wired = profile(model, x)
    asked.clear()
    found = explain(model, x, method, known=wired, **options(method, home(method)))
    assert sum(map(len, asked)) == found.passes["forward"]
    resolved = resolve(options(method, home(method)).get("target"), primary(model(x)), x)
    assert found.target == resolved.text
    assert torch.allclose(found.target_scores, resolved.score(model(x), torch.arange(len(x))), rtol=1e-4)


@pytest.mark.parametrize("toy", ["cnn2d", "vit_fused", "unet2d"])
@pytest.mark.parametrize("method", sorted(explainers))
def test_models_in_double_precision(method: str, toy: str) -> None:
    single, double, x = make(toy), make(toy).double(), images(toy)
    if toy in without(method) | AT_RUN.get(method, set()):
        return
    expected = explain(single, x, method, **({"target": 1} | options(method, toy))).values
    found = explain(double, x, method, **({"target": 1} | options(method, toy))).values
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=2e-3 * float(expected.abs().max()))
