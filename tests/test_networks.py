"""The profile and the explainers on the field's real networks (MONAI), untrained."""

from __future__ import annotations

from collections.abc import Callable

import monai.networks.nets as nets
import pytest
import torch
from torch import nn

from runners import explain, profile

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
