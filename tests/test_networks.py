"""The profile and the explainers on the field's real networks (MONAI, Hugging Face), untrained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import monai.networks.nets as nets
import pytest
import torch
from test_matrix import FAST
from torch import Tensor, nn
from torch.nn import functional as F

from runners import explain, explainers, profile
from taxonomy import RequirementError

# ruff: noqa: E501 (a table)
# name: constructor, input shape, task, architecture, start of the chosen layer's name, needs it lacks
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, str, str, set[str]]] = {
    "densenet121": (lambda: nets.DenseNet121(2, 1, 3), (1, 64, 64), "classification", "cnn", "class_layers.relu", {"tokens"}),
    "resnet18_3d": (
        lambda: nets.resnet18(spatial_dims=3, n_input_channels=1, num_classes=2), (1, 32, 32, 32), "classification", "cnn", "layer4", {"tokens"},
    ),
    "efficientnet": (
        lambda: nets.EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=3, num_classes=4),
        (3, 64, 64), "classification", "cnn", "_swish", {"relu_only"},
    ),
    "unet": (lambda: nets.UNet(2, 1, 3, (8, 16, 32), (2, 2)), (1, 64, 64), "segmentation", "unet", "model.1.submodule.1", {"relu_only"}),
    "unet3d": (
        lambda: nets.UNet(3, 1, 2, (8, 16, 32), (2, 2), num_res_units=2, act="relu"),
        (1, 32, 32, 32), "segmentation", "unet", "model.1.submodule.1", {"tokens"},
    ),
    "segresnet3d": (
        lambda: nets.SegResNet(spatial_dims=3, init_filters=8, in_channels=1, out_channels=2), (1, 32, 32, 32), "segmentation", "unet", "up_samples.0", {"tokens"},
    ),
    "attention_unet": (lambda: nets.AttentionUnet(2, 1, 2, (8, 16, 32), (2, 2)), (1, 64, 64), "segmentation", "unet", "model.1", {"attention_weights"}),
    "dynunet": (
        lambda: nets.DynUNet(2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], deep_supervision=False), (1, 64, 64), "segmentation", "unet", "bottleneck", {"relu_only"},
    ),
    "vit": (
        lambda: nets.ViT(
            in_channels=1, img_size=(32, 48), patch_size=(8, 8), hidden_size=48, mlp_dim=96, num_layers=3, num_heads=4,
            proj_type="perceptron", classification=True, num_classes=3, spatial_dims=2,
        ),
        (1, 32, 48), "classification", "vit", "blocks.2.norm1", {"relu_only", "elementwise_activations"},
    ),
    "unetr": (
        lambda: nets.UNETR(
            in_channels=1, out_channels=2, img_size=(32, 32), feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4, spatial_dims=2
        ),
        (1, 32, 32), "segmentation", "vit", "vit", {"relu_only"},
    ),
    "swin_unetr": (
        lambda: nets.SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=2), (1, 64, 64), "segmentation", "swin", "encoder10", {"tokens"},
    ),
}  # fmt: skip

METHODS = (
    "grad_cam",
    "lrp",
    "lrp_epsilon",
    "lrp_composite",
    "contrastive_excitation_backprop",
    "deep_taylor",
    "attnlrp",
    "conservative_lrp",
    "deeplift",
    "guided_backprop",
    "attention_rollout",
    "chefer_lrp",
    "eigen_cam",
    "vanilla_gradient",
)
NEEDED = {
    "guided_backprop": "relu_only",
    "lrp": "elementwise_activations",
    "lrp_epsilon": "elementwise_activations",
    "lrp_composite": "elementwise_activations",
    "contrastive_excitation_backprop": "elementwise_activations",
    "deep_taylor": "relu_only",
    "attnlrp": "attention_weights",
    "conservative_lrp": "attention_weights",
    "deeplift": "elementwise_activations",
    "attention_rollout": "tokens",
    "chefer_lrp": "tokens",
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_network(name: str) -> None:
    make, shape, task, architecture, layer, lacking = NETWORKS[name]
    torch.manual_seed(0)
    model, x = make().eval(), torch.rand(1, *shape)
    found = profile(model, x)
    assert (found.task, found.architecture) == (task, architecture)
    assert found.place is not None
    assert found.place.name.startswith(layer)
    assert lacking <= set(found.lacks)
    output = model(x)
    for method in METHODS:
        if NEEDED.get(method) in found.lacks:
            continue
        explanation = explain(model, x, method)
        assert explanation.values.shape == (1, *shape[1:])
        if method == "deeplift":
            assert any("Completeness: " in note for note in explanation.notes)
    again = model(x)
    first = (output[0] if isinstance(output, tuple) else output, again[0] if isinstance(again, tuple) else again)
    assert torch.equal(*first)


# name: model and configuration, its options, input shape, task, architecture, token grid, prefix, tokens read, the chosen layer
TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "patch_size": 8,
    "num_channels": 1,
    "num_labels": 3,
}
CLASS, WIDE = "ForImageClassification", {"intermediate_size": 48, "image_size": (32, 48)}
HUGGING_FACE: dict[str, tuple[str, str, dict[str, Any], tuple[int, ...], str, str, tuple[int, ...] | None, int, tuple[int, ...], str]] = {
    "vit": ("ViT" + CLASS, "ViT", TINY | WIDE, (1, 32, 48), "classification", "vit", (4, 6), 1, (0,), "vit.layers.2.layernorm_before"),
    "deit": ("DeiT" + CLASS, "DeiT", TINY | WIDE, (1, 32, 48), "classification", "vit", (4, 6), 2, (0,), "deit.layers.2.layernorm_before"),
    "deit_distilled": (
        "DeiT" + CLASS + "WithTeacher", "DeiT", TINY | WIDE, (1, 32, 48), "classification", "vit", (4, 6), 2, (0, 1), "deit.layers.2.layernorm_before",
    ),
    "dinov2_registers": (
        "Dinov2WithRegisters" + CLASS, "Dinov2WithRegisters", TINY | {"image_size": 32, "num_register_tokens": 4, "mlp_ratio": 2},
        (1, 32, 32), "classification", "vit", (4, 4), 5, (0, *range(5, 21)), "dinov2_with_registers.layernorm",
    ),
    "swin": (
        "Swin" + CLASS, "Swin",
        {"image_size": 64, "patch_size": 4, "num_channels": 1, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "num_labels": 3},
        (1, 64, 64), "classification", "swin", None, 0, (), "swin.layernorm",
    ),
    "convnext": (
        "ConvNext" + CLASS, "ConvNext", {"num_channels": 1, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1], "num_labels": 3},
        (1, 64, 64), "classification", "cnn", None, 0, (), "convnext.encoder.stages.3",
    ),
    "segformer": (
        "SegformerForSemanticSegmentation", "Segformer",
        {"num_channels": 1, "hidden_sizes": [8, 16, 20, 24], "depths": [1] * 4, "num_attention_heads": [1, 2, 4, 4], "decoder_hidden_size": 16, "num_labels": 3},
        (1, 64, 64), "segmentation", "unet", None, 0, (), "decode_head.linear_projections.3",
    ),
}  # fmt: skip
OPEN = ("attention", "cams", "gradients", "paths", "relevance", "score_cams")
"""Modules whose explainers look inside the model."""


def hugging_face(name: str, attention: str = "sdpa") -> nn.Module:
    transformers = pytest.importorskip("transformers")
    model, config, options = HUGGING_FACE[name][:3]
    torch.manual_seed(0)
    made = getattr(transformers, config + "Config")(
        **options, **({} if name == "convnext" else {"attn_implementation": attention})
    )
    return getattr(transformers, model)(made).eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", sorted(HUGGING_FACE))
@pytest.mark.filterwarnings("ignore")
def test_hugging_face_network(name: str, attention: str) -> None:
    shape, task, architecture, grid, prefix, read, layer = HUGGING_FACE[name][3:]
    model = hugging_face(name, attention)
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))
    found = profile(model, x)  # before the model's first own pass, in which it hooks itself
    assert (found.task, found.architecture) == (task, architecture)
    assert (found.token_grid, found.prefix, found.readout) == (grid, prefix, read)
    assert found.place is not None
    assert found.place.name == layer
    output = model(x).logits
    for method in [m for m in sorted(explainers) if explainers[m].__module__.removeprefix("runners.") in OPEN]:
        try:
            explanation = explain(model, x, method, 1, **FAST.get(method, {}))
        except RequirementError:  # what it lacks is tested below
            continue
        assert explanation.values.shape == (1, *shape[1:])
        assert torch.isfinite(explanation.values).all()
        if method in ("eigen_cam", "vanilla_gradient", "attention_rollout", "chefer_lrp"):
            assert explanation.values.any()
    # without training all places may speak against one label
    assert any(explain(model, x, "grad_cam", label).values.any() for label in range(3))
    assert torch.equal(model(x).logits, output)


def needs(name: str) -> set[str]:
    return set(profile(hugging_face(name), torch.rand(1, *HUGGING_FACE[name][3])).lacks)


@pytest.mark.filterwarnings("ignore")
def test_what_hugging_face_networks_lack() -> None:
    for name, (*_, grid, _, _, _) in HUGGING_FACE.items():
        assert ("tokens" in needs(name)) == (grid is None)
    assert "attention_weights" in needs("convnext")
    assert "elementwise_activations" not in needs("convnext")
    assert "elementwise_activations" in needs("segformer")
    reason = profile(hugging_face("segformer"), torch.rand(1, 1, 64, 64)).lacks["tokens"]
    assert reason == "its attention reads a reduced sequence, 4 tokens for 256"


@pytest.mark.parametrize("name", [n for n in sorted(HUGGING_FACE) if HUGGING_FACE[n][6]])
@pytest.mark.filterwarnings("ignore")
def test_attention_that_the_network_itself_returns_gives_the_rollout(name: str) -> None:
    shape, _, _, grid, prefix, read, _ = HUGGING_FACE[name][3:]
    model, fused, x = hugging_face(name, "eager"), hugging_face(name), torch.rand(1, *shape)
    count = prefix + grid[0] * grid[1]  # type: ignore[index]
    joint = torch.eye(count)
    with torch.no_grad():
        for weights in model(x, output_attentions=True).attentions:
            joint = (0.5 * weights[0].mean(0) + 0.5 * torch.eye(count)) @ joint
    row: Tensor = joint[list(read)].mean(0)[prefix:].view(1, 1, *grid)  # type: ignore[misc]
    expected = F.interpolate(row, shape[1:], mode="bilinear")[0]
    for one in (model, fused):
        assert torch.allclose(explain(one, x, "attention_rollout").values, expected, atol=1e-5)
    for method in ("generic_attention", "chefer_lrp", "gradient_attention_rollout", "grad_cam"):
        plain, quick = (explain(one, x, method, 2).values for one in (model, fused))
        assert torch.allclose(plain, quick, atol=1e-4 * float(plain.abs().max()))


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_hooks_itself_once_keeps_its_hooks() -> None:
    model, x = hugging_face("segformer"), torch.rand(1, 1, 64, 64)
    first = explain(model, x, "vanilla_gradient", 1).values
    assert torch.equal(explain(model, x, "vanilla_gradient", 1).values, first)
    assert model(x).logits.shape == (1, 3, 16, 16)
