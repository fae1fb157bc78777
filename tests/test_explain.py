"""The gate: checks, targets, restoring, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import CNN, Linear, UNet, images, make

from runners import Model, Region, explain, load_model, measure, profile
from runners.load import OneByOne
from runners.models import preserved
from runners.registry import looking_first
from runners.targets import resolve
from runners.zoo.samples import samples
from taxonomy import ImageError, ModelError, RequirementError, TargetError, UnknownIdError


def test_linear_model_has_exact_answers() -> None:
    torch.manual_seed(0)
    model, x = Linear((1, 4, 4)).eval(), torch.rand(2, 1, 4, 4)
    weight = model.layer.weight[1].view(4, 4).detach()
    assert torch.allclose(explain(model, x, "vanilla_gradient", 1).values, weight.abs().expand(2, 4, 4))
    assert torch.allclose(explain(model, x, "input_x_gradient", 1).values, weight * x[:, 0])
    ig = explain(model, x, "integrated_gradients", 1, baseline="zero").values
    assert torch.allclose(ig, weight * x[:, 0], atol=1e-6)
    low = x.amin((2, 3), keepdim=True)
    assert torch.allclose(explain(model, x, "deeplift", 1).values, (weight * (x - low))[:, 0], atol=1e-6)


def test_target_per_image_and_default() -> None:
    torch.manual_seed(0)
    model, x = Linear((1, 4, 4), 3).eval(), torch.rand(2, 1, 4, 4)
    weight = model.layer.weight.view(3, 4, 4).detach()
    both = explain(model, x, "vanilla_gradient", [2, 0])
    assert torch.allclose(both.values, weight[[2, 0]].abs())
    chosen = model(x).argmax(1)
    assert torch.allclose(explain(model, x, "vanilla_gradient").values, weight[chosen].abs())
    assert torch.allclose(both.target_scores, model(x).detach()[[0, 1], [2, 0]])


@pytest.mark.parametrize("two", [[2, 0], (2, 0), torch.tensor([2, 0]), np.array([2, 0])])
def test_targets_as_arrays(two: object) -> None:
    model, x = make("cnn2d"), images("cnn2d")
    expected = explain(model, x, "vanilla_gradient", [2, 0]).values
    assert torch.equal(explain(model, x, "vanilla_gradient", two).values, expected)  # type: ignore[arg-type]
    single = explain(model, x, "vanilla_gradient", np.int64(2))  # type: ignore[arg-type]
    assert torch.equal(single.values, explain(model, x, "vanilla_gradient", 2).values)


def test_callable_target() -> None:
    torch.manual_seed(0)
    model, x = Linear((1, 4, 4), 3).eval(), torch.rand(2, 1, 4, 4)
    weight = model.layer.weight.view(3, 4, 4).detach()
    found = explain(model, x, "vanilla_gradient", lambda out: out[:, 0] - out[:, 2])
    assert torch.allclose(found.values, (weight[0] - weight[2]).abs().expand(2, 4, 4))
    by_row = explain(model, x, "vanilla_gradient", lambda out, rows: out[torch.arange(len(rows)), rows])
    assert torch.allclose(by_row.values, weight[[0, 1]].abs())
    with pytest.raises(TargetError, match="one number per row"):
        explain(model, x, "vanilla_gradient", lambda out: out)


def test_every_callable_target_has_its_own_profile() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    with pytest.raises(RequirementError, match="does not depend on the input"):
        explain(model, x, "vanilla_gradient", lambda out: out[:, 0].detach())
    assert explain(model, x, "vanilla_gradient", lambda out: out[:, 0]).values.any()


def test_segmentation_target_is_the_whole_region_of_each_image() -> None:
    model, x = make("unet2d"), images("unet2d")
    output = model(x).detach()
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[5:9, 6:20] = True
    source = x.clone().requires_grad_()
    expected = torch.autograd.grad(model(source)[:, 1, mask].sum(), source)[0].abs().amax(1)
    found = explain(model, x, "vanilla_gradient", Region(1, mask))
    assert torch.allclose(found.values, expected, atol=1e-6)
    assert torch.allclose(found.target_scores, output[:, 1, mask].sum(1), rtol=1e-4)
    source = x.clone().requires_grad_()
    region = output.argmax(1) == 0
    expected = torch.autograd.grad((model(source)[:, 0] * region).sum(), source)[0].abs().amax(1)
    assert torch.allclose(explain(model, x, "vanilla_gradient", 0).values, expected, atol=1e-6)


def test_one_logit_segmentation_background_is_the_opposite_sign() -> None:
    model, x = make("unet2d_one_logit"), images("unet2d_one_logit")
    mask = torch.ones(32, 32)
    up = explain(model, x, "input_x_gradient", Region(1, mask)).values
    down = explain(model, x, "input_x_gradient", Region(0, mask)).values
    assert torch.allclose(up, -down, atol=1e-6)


def test_labels_of_one_output_channel_have_names() -> None:
    x = images("unet2d_one_logit")
    segmented = resolve(Region(1, torch.ones(32, 32)), make("unet2d_one_logit")(x), x, labels=("lesion",))
    assert segmented.text.startswith("label 1 (lesion) in the given region (1024, 1024 pixels)")
    logit = torch.tensor([[2.0], [-1.0]])
    both = resolve(None, logit, x, "classification", ("tumour",))
    assert both.text == "label 1 (tumour), 0 (not tumour)"
    assert both.score(logit, torch.arange(2)).tolist() == [2.0, 1.0]


def test_empty_region_is_said() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x + 10, x], 1)

    x = torch.rand(1, 1, 8, 8)
    found = explain(Nothing(), x, "vanilla_gradient", 1)
    assert any("marks no pixel" in caution for caution in found.cautions)
    assert found.values.flatten().argmax() == x.flatten().argmax()
    assert found.values.sum() == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "label 3 does not exist: the model has 3, numbered 0 to 2"),
        (-1, "label -1 does not exist"),
        ([0], "1 targets for 2 images"),
        ("heart", "'heart' is not understood"),
        (1.5, "1.5 is not understood"),
        (True, "True is not understood"),
        (Region(1), "a Region needs a segmentation model"),
    ],
)
def test_wrong_target(target: object, message: str) -> None:
    with pytest.raises(TargetError, match=message.replace("(", r"\(")):
        explain(make("cnn2d"), images("cnn2d"), "vanilla_gradient", target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(32, 32), "mask is empty"),
        (torch.ones(3, 32, 32), r"mask has shape \(3, 32, 32\)"),
        (torch.ones(5), r"mask has shape \(5,\)"),
    ],
)
def test_wrong_region(mask: Tensor, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        explain(make("unet2d"), images("unet2d"), "vanilla_gradient", Region(1, mask))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(1, 32, 32), r"shape \(1, 32, 32\)"),
        (torch.full((1, 1, 32, 32), float("nan")), "1024 values that are NaN"),
        (torch.rand(0, 1, 32, 32), "is empty"),
        ([1, 2], "list was given"),
    ],
)
def test_wrong_input(x: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        explain(make("cnn2d"), x, "vanilla_gradient")


def test_wrong_channels_are_one_sentence() -> None:
    with pytest.raises(ModelError, match=r"input of shape \(1, 5, 32, 32\)") as caught:
        explain(make("cnn2d_inplace"), torch.rand(2, 5, 32, 32), "vanilla_gradient")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 3}, "no parameter 'step'; it has steps, baseline, batch_size"),
        ({"steps": 2.5}, "steps=2.5 was given; a int"),
        ({"steps": 0}, "steps=0 was given; it must be at least 1"),
        ({"baseline": "green"}, "green"),
        ({"layer": "head"}, "does not use a layer"),
    ],
)
def test_wrong_parameters(options: dict[str, object], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        explain(make("cnn2d"), images("cnn2d"), "integrated_gradients", **options)  # type: ignore[arg-type]


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UnknownIdError, match="did you mean grad_cam"):
        explain(make("cnn2d"), images("cnn2d"), "gradcam")


def test_layer_can_be_named() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    named = explain(model, x, "grad_cam", layer="block")
    assert any("block" in note for note in named.notes)
    assert not torch.equal(named.values, explain(model, x, "grad_cam").values)
    with pytest.raises(ModelError, match="layers that do: "):
        explain(model, x, "grad_cam", layer="head")


class Raises(nn.Module):
    """Raises from its second call on, after it has touched whatever it can."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = CNN(2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 4:
            torch.rand(3)
            raise RuntimeError("out of luck\nand more lines")
        return self.inner(x)


@pytest.mark.parametrize("method", ["grad_cam", "integrated_gradients", "lrp", "occlusion", "guided_backprop"])
def test_nothing_is_left_after_an_error(method: str) -> None:
    from test_matrix import state

    model = Raises().train()
    x = images("cnn2d")
    profile(model, x)
    model.calls = 4 if method in looking_first else 3  # the explainer's own first pass fails
    before = state(model)
    with pytest.raises(ModelError, match="RuntimeError: out of luck") as caught:
        explain(model, x, method)
    assert "more lines" not in str(caught.value)
    assert state(model) == before


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", ["grad_cam", "lrp", "integrated_gradients", "occlusion"])
def test_callers_context_makes_no_difference(context: type, method: str) -> None:
    model, x = make("cnn2d"), images("cnn2d")
    expected = explain(model, x, method).values
    with context():
        inside = explain(model, images("cnn2d"), method).values
    assert torch.equal(expected, inside)


def test_grads_of_the_user_survive() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    model(x).sum().backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    assert before
    explain(model, x, "integrated_gradients", steps=3)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def test_dropout_and_random_layers_repeat() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = CNN(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x + 0.1 * torch.randn_like(x))

    model, x = Noisy(), images("cnn2d")
    first, second = (explain(model, x, "smoothgrad", samples=3, seed=5).values for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, explain(model, x, "smoothgrad", samples=3, seed=6).values)


def test_preserved_restores_buffers_that_a_model_changes() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))
            self.inner = CNN(2)

        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1
            return self.inner(x)

    model = Counts()
    explain(model, images("cnn2d"), "vanilla_gradient")
    assert model.seen.item() == 0

    def fail() -> None:
        with preserved(model):
            model.seen += 1
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert model.seen.item() == 0


def test_black_box_names_all_gaps() -> None:
    with pytest.raises(RequirementError) as caught:
        explain(make("box"), images("box"), "grad_cam")
    assert [gap.need for gap in caught.value.gaps] == ["gradients", "spatial_features"]
    assert explain(make("box"), images("box"), "occlusion").values.any()


def test_nan_output_is_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3] / 0.0 * 0.0

    with pytest.raises(ModelError, match="NaN"):
        explain(Broken(), images("cnn2d"), "occlusion")


def test_integer_output_asks_for_logits() -> None:
    class Labels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x > 0.5).long()

    with pytest.raises(ModelError, match=r"torch.int64 tensor of shape \(1, 1, 32, 32\).*let it return logits"):
        explain(Labels(), images("cnn2d"), "occlusion")


def test_volumes_and_multi_label() -> None:
    model = nn.Sequential(CNN(3, labels=4), nn.Sigmoid()).eval()
    x = images("cnn3d")
    found = profile(model, x)
    assert found.task == "classification"
    assert any("multi-label" in note for note in found.notes)
    assert explain(model, x, "grad_cam", 2).values.shape == (2, 16, 16, 16)


def test_measure_uses_the_same_target() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    found = explain(model, x, "input_x_gradient", 1)
    result = measure("deletion", model, x, found, 1)
    assert result.score.shape == (2,)
    assert torch.isfinite(result.score).all()
    with pytest.raises(TargetError, match="needs a mask"):
        measure("pointing_game", model, x, found, 1)
    with pytest.raises(UnknownIdError):
        measure("deletionn", model, x, found, 1)


def test_regression_of_segmenter_head_layer_is_not_the_output() -> None:
    model = UNet(2).eval()
    place = profile(model, images("unet2d")).place
    assert place is not None
    assert place.name == "bottom"
    assert "the deepest features" in profile(model, images("unet2d")).place_reason


@pytest.mark.parametrize("method", ["attention_rollout", "chefer_lrp", "grad_cam", "integrated_gradients", "rise"])
def test_models_that_run_one_image_at_a_time(method: str) -> None:
    model, x = make("vit_fused"), images("vit_fused")
    loaded = Model(OneByOne(make("vit_fused")), None)  # type: ignore[arg-type]
    assert loaded.one_by_one
    expected = explain(model, x, method, [2, 0])
    found = explain(loaded, x, method, [2, 0])
    assert torch.allclose(found.values, expected.values, atol=1e-4 * float(expected.values.abs().max()))
    assert torch.allclose(found.target_scores, expected.target_scores, atol=1e-5)
    with pytest.raises(TargetError, match="1 targets for 2 images"):
        explain(loaded, x, method, [1])

    def by_row(outputs: Tensor, rows: Tensor) -> Tensor:
        return outputs[torch.arange(len(rows)), torch.tensor([2, 0])[rows]]

    assert torch.allclose(explain(loaded, x, method, by_row).values, found.values, atol=1e-6)


def test_one_image_at_a_time_is_enough_for_deeplift() -> None:
    class Fixed(Model):
        one_by_one = True

    x = images("cnn2d")
    alone, together = (explain(model, x, "deeplift") for model in (Fixed(make("cnn2d"), None), make("cnn2d")))
    assert torch.allclose(alone.values, together.values, atol=1e-6)


def test_a_flattened_feature_map_is_no_token_sequence() -> None:
    class Reshaped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4))
            self.flat = nn.Flatten(2)
            self.head = nn.Linear(256, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.flat(self.features(x)).flatten(1))

    place = profile(Reshaped(), images("cnn2d")).place
    assert place is not None
    assert place.name.startswith("features")


def test_linear_head_is_one_layer_on_pooled_features() -> None:
    assert "linear_head" in profile(make("cnn2d"), images("cnn2d")).has
    flat = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 32 * 32, 3))
    assert "linear_head" in profile(flat, images("cnn2d")).lacks
    assert "linear_head" in profile(make("vit_fused"), images("vit_fused")).lacks


class Stem(nn.Module):
    """Convolution and batch normalisation, then tokens: the gradient comes back to the normalisation in strides."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
        self.embed = nn.Sequential(conv(1, 8, 2, stride=2), norm(8))
        self.head = nn.Linear(8, 2)
        self.weight = nn.Parameter(torch.randn(4**dims, 8))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.head((tokens * self.weight).sum(1))


def scripted(model: nn.Module, _x: Tensor, folder: Path) -> Path:
    torch.jit.script(model).save(folder / "model.pt")
    return folder / "model.pt"


def exported(model: nn.Module, x: Tensor, folder: Path) -> Path:
    many = {0: torch.export.Dim("batch", min=1, max=64)}
    torch.export.save(torch.export.export(model, (torch.cat([x, x]),), dynamic_shapes=(many,)), folder / "model.pt2")
    return folder / "model.pt2"


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(("dims", "written"), [(2, None), (3, None), (2, scripted), (2, exported)])
def test_gradients_of_one_image_through_batch_normalisation_and_tokens_are_right(
    dims: int, written: Callable[[nn.Module, Tensor, Path], Path] | None, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, x = Stem(dims).eval(), torch.rand(1, 1, *(8,) * dims)
    network = model if written is None else load_model(written(model, x, tmp_path), task="classification")
    found = explain(network, x, "input_x_gradient", 1).values[0] / x[0, 0]
    step = torch.zeros_like(x).double()
    step[(0, 0, *(3,) * dims)] = 1e-4
    exact = model.double()
    slope = (exact(x.double() + step)[0, 1] - exact(x.double() - step)[0, 1]) / 2e-4
    assert float(found[(3,) * dims]) == pytest.approx(float(slope.detach()), rel=1e-3)


def test_large_volumes_go_through_one_at_a_time() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows: list[int] = []

        def forward(self, x: Tensor) -> Tensor:
            self.rows.append(len(x))
            return torch.stack([x.flatten(1).mean(1), x.flatten(1).amax(1)], 1)

    model = Mean()
    found = explain(model, torch.rand(1, 1, 128, 128, 128), "integrated_gradients", 0, steps=2)
    assert found.parameters["batch_size"] == 1
    assert max(model.rows) == 1
    assert explain(model, torch.rand(1, 1, 128, 128, 128), "smoothgrad", 0, samples=2, batch_size=2).values.any()
    assert max(model.rows) == 2
    assert explain(model, images("cnn2d"), "smoothgrad", 0, samples=2).parameters["batch_size"] == 16


def test_an_image_is_prepared_by_the_models_card() -> None:
    model, image = load_model("chest_xray_cnn"), next(s for s in samples() if s.id == "chest_radiograph").load()
    found = explain(model, image, "grad_cam")
    assert torch.equal(found.values, explain(model, model.prepare(image), "grad_cam").values)
    assert found.target.startswith("label 0 (normal)")
    assert profile(model, image) is profile(model, model.prepare(image))
    assert torch.isfinite(measure("sparseness", model, image, found).score).all()
    with pytest.raises(ImageError, match="an Image works with a model from load_model"):
        profile(make("cnn2d"), image)


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(_: object, x: Tensor) -> Tensor:
        return x / 2

    @staticmethod
    def backward(_: object, *grads: Tensor) -> Tensor:
        return grads[0] / 2


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = make("cnn2d")

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(Halved.apply(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit.script, which models still come from
def test_what_a_mode_cannot_see_is_a_gap() -> None:
    x = images("cnn2d")
    with pytest.raises(RequirementError, match="its own function Halved"):
        explain(Custom(), x, "lrp")
    scripted = nn.Sequential(
        torch.jit.script(nn.Conv2d(1, 4, 3, padding=1)), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 2)
    )
    for method in ("lrp", "deeplift", "guided_backprop"):
        with pytest.raises(RequirementError, match="its part '0' is TorchScript"):
            explain(scripted, x, method)
    assert explain(scripted, x, "integrated_gradients", steps=3).values.any()
    whole, plain = torch.jit.script(make("cnn2d")), make("cnn2d")
    assert torch.allclose(
        explain(whole, x, "input_x_gradient", 1).values, explain(plain, x, "input_x_gradient", 1).values, atol=1e-6
    )
    with pytest.raises(RequirementError, match="TorchScript hides its layers"):
        explain(whole, x, "grad_cam")
    assert explain(Custom(), x, "grad_cam").values.shape == (2, 32, 32)


def test_coarse_numbers_are_told() -> None:
    found = explain(make("cnn2d").bfloat16(), images("cnn2d"), "grad_cam")
    assert any("computes in bfloat16" in caution for caution in found.cautions)


def test_attributes_of_tensors_are_no_functions() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make("cnn2d")

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.mT.requires_grad_().mT)

    x = images("cnn2d")
    assert torch.equal(explain(Turned(), x, "lrp", 1).values, explain(make("cnn2d"), x, "lrp", 1).values)
