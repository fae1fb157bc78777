"""Maps of doubt against plain loops, exact cases, and the sentences where no map exists."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import MultiOutput, UNet, images, make

from runners import Region, explain
from runners.modes import Dropping
from runners.registry import seeded
from taxonomy import ModelError, RequirementError, TargetError

METHODS = ("mc_dropout", "deep_ensemble", "test_time_augmentation")


def spread(probabilities: list[Tensor], label: int) -> np.ndarray:
    return np.std([p[:, label].detach().numpy() for p in probabilities], axis=0)


def entropy(probabilities: list[Tensor]) -> np.ndarray:
    mean = np.mean([p.detach().numpy() for p in probabilities], axis=0)
    return -(mean * np.log(mean)).sum(1)


def test_ensemble_by_hand() -> None:
    x, networks = images("unet2d"), [make("unet2d", seed) for seed in (7, 8, 9, 10)]
    answers = [network(x).softmax(1) for network in networks]
    found = explain(networks[0], x, "deep_ensemble", 1, members=networks[1:])
    assert np.allclose(found.values, spread(answers, 1), atol=1e-6)
    assert found.values.std() > 0
    assert not found.signed
    both = explain(networks[0], x, "deep_ensemble", 1, members=networks[1:], show="entropy")
    assert np.allclose(both.values, entropy(answers), atol=1e-5)


def test_each_image_is_shown_for_its_own_label() -> None:
    x, networks = images("unet3d"), [make("unet3d", seed) for seed in (7, 8)]
    answers = [network(x).softmax(1) for network in networks]
    found = explain(networks[0], x, "deep_ensemble", [2, 1], members=networks[1:]).values
    assert np.allclose(found[0], spread(answers, 2)[0], atol=1e-6)
    assert np.allclose(found[1], spread(answers, 1)[1], atol=1e-6)


def test_one_logit_and_probabilities_inside_the_model() -> None:
    x, networks = images("unet2d_one_logit"), [make("unet2d_one_logit", seed) for seed in (7, 8)]
    answers = [network(x).sigmoid() for network in networks]
    inside = [nn.Sequential(network, nn.Sigmoid()) for network in networks]
    for model, member in (networks, inside):
        found = explain(model, x, "deep_ensemble", Region(1), members=[member]).values
        assert np.allclose(found, spread(answers, 0), atol=1e-6)
        both = explain(model, x, "deep_ensemble", 0, members=[member], show="entropy").values
        assert np.allclose(both, entropy([torch.cat([p, 1 - p], 1) for p in answers]), atol=1e-5)
    several = [make("unet2d", seed) for seed in (7, 8)]
    soft = [nn.Sequential(network, nn.Softmax(1)) for network in several]
    one, other = (explain(m, x, "deep_ensemble", 1, members=[k]).values for m, k in (several, soft))
    assert torch.allclose(one, other, atol=1e-6)


def test_the_label_is_found_inside_any_output() -> None:
    x, networks = images("unet2d"), [make("unet2d", seed) for seed in (7, 8)]
    expected = explain(networks[0], x, "deep_ensemble", 0, members=networks[1:]).values
    for kind in ("tuple", "dict", "dataclass"):
        model, member = (MultiOutput(network, kind) for network in networks)
        assert torch.equal(explain(model, x, "deep_ensemble", 0, members=[member]).values, expected)

    def corner(outputs: dict[str, Tensor]) -> Tensor:
        return outputs["logits"][:, 0, 0, 0]

    model, member = (MultiOutput(network, "dict") for network in networks)
    assert torch.equal(explain(model, x, "deep_ensemble", corner, members=[member]).values, expected)
    with pytest.raises(TargetError, match="does not read the model's main output"):
        explain(model, x, "deep_ensemble", lambda outputs: outputs["logits"].detach().mean((1, 2, 3)), members=[member])


def test_dropout_by_hand() -> None:
    model, x = make("unet2d_dropout"), images("unet2d_dropout")
    base = int(torch.randint(2**62, (1,), generator=seeded(3)))
    answers = []
    for step in range(6):
        with Dropping([base + step] * 2), torch.no_grad():
            answers.append(model(x).softmax(1))
    found = explain(model, x, "mc_dropout", 2, samples=6, seed=3)
    assert np.allclose(found.values, spread(answers, 2), atol=1e-6)
    assert found.values.std() > 0
    both = explain(model, x, "mc_dropout", 2, samples=6, seed=3, show="entropy")
    assert np.allclose(both.values, entropy(answers), atol=1e-5)


def test_dropout_of_a_pixel_has_a_known_spread() -> None:
    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.scale = nn.Dropout(0.25), nn.Parameter(torch.tensor(3.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(x) * self.scale

    x = torch.full((1, 1, 16, 16), 0.5)
    found = explain(Dropped(), x, "mc_dropout", 1, samples=400).values
    exact = (0.25 * 0.75) ** 0.5 * (torch.sigmoid(torch.tensor(2.0)) - 0.5)  # kept: 0.5 * 3 / 0.75; dropped: 0
    assert abs(float(found.mean() / exact) - 1) < 0.02


class Pointwise(nn.Module):
    """Each pixel is judged alone, whatever the place: every change of place can be undone."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.ramp = 0.0
        self.layer = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, 2, 1)
        with torch.no_grad():
            self.layer.weight[0], self.layer.weight[1] = -1.0, 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.ramp * torch.linspace(-1, 1, x.shape[-1]) * torch.tensor([-1.0, 1.0]).view(
            -1, *[1] * (x.ndim - 2)
        )


def smooth(*spatial: int) -> Tensor:
    axes = torch.meshgrid(*[torch.linspace(0, 2, side) for side in spatial], indexing="ij")
    return sum((k + 1) * axis for k, axis in enumerate(axes)).sin()[None, None]  # type: ignore[union-attr]


@pytest.mark.parametrize("spatial", [(24, 40), (8, 20, 16)])
def test_copies_are_put_back_in_place(spatial: tuple[int, ...]) -> None:
    model, rough = Pointwise(len(spatial)), torch.rand(1, 1, *spatial, generator=seeded(0))
    exact = explain(model, rough, "test_time_augmentation", 1, rotation=0.0, intensity=0.0, samples=12).values
    assert exact.max() < 1e-4  # mirrored and shifted by whole pixels, then undone
    x = smooth(*spatial)
    turned = explain(model, x, "test_time_augmentation", 1, rotation=20.0, intensity=0.0, samples=12).values
    inner = tuple(slice(2, -2) for _ in spatial)
    assert turned[0][inner].max() < 0.02
    changed = explain(model, x, "test_time_augmentation", 1, rotation=0.0, intensity=0.3, samples=12).values
    assert changed.mean() > 0.02


def test_doubt_of_a_model_that_tells_left_from_right() -> None:
    model, x = Pointwise(), smooth(10, 12)
    model.ramp = 2.0
    with torch.no_grad():
        here = model(x).softmax(1)[:, 1]
        there = model(x.flip(-1)).softmax(1)[:, 1].flip(-1)
    found = explain(model, x, "test_time_augmentation", 1, rotation=0.0, shift=0.0, intensity=0.0, samples=8).values
    share = (found / (here - there).abs()).flatten()
    assert (share - share[0]).abs().max() < 1e-3  # two answers, q of them mirrored: sqrt(q (1 - q)) of their distance
    assert min(abs(float(share[0]) - (q / 8 * (1 - q / 8)) ** 0.5) for q in range(1, 8)) < 1e-3


def test_places_that_were_moved_out_of_view_are_not_counted() -> None:
    x = torch.rand(1, 1, 20, 20, generator=seeded(1))
    options = {"rotation": 0.0, "intensity": 0.0, "flips": False, "shift": 0.4, "samples": 10}
    assert explain(Pointwise(), x, "test_time_augmentation", 1, **options).values.max() < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_chunks_do_not_change_the_map(method: str) -> None:
    model, x = make("unet2d_dropout"), images("unet2d_dropout")
    more = {"members": [make("unet2d_dropout", 8)]} if method == "deep_ensemble" else {"samples": 5}
    one, other = (explain(model, x, method, 1, batch_size=size, **more).values for size in (1, 7))
    assert torch.allclose(one, other, atol=1e-6)


def test_a_smaller_output_is_enlarged() -> None:
    class Half(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.inner = make("unet2d", seed)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.avg_pool2d(self.inner(x), 2)

    found = explain(Half(7), images("unet2d"), "deep_ensemble", 1, members=[Half(8)])
    assert found.values.shape == (2, 32, 32)


def test_where_no_map_exists_the_number_is_told() -> None:
    x, networks = images("cnn2d", 1), [make("cnn2d", seed) for seed in (7, 8, 9)]
    with torch.no_grad():
        scores = np.array([float(network(x)[0, 2]) for network in networks])
    with pytest.raises(RequirementError, match="one answer for the whole image") as caught:
        explain(networks[0], x, "deep_ensemble", 2, members=networks[1:])
    assert f"over 3 networks its score spreads by {scores.std():.2g} around {scores.mean():.3g}." in str(caught.value)


def test_what_does_not_fit_is_told() -> None:
    model, x = make("unet2d_dropout"), images("unet2d_dropout")
    with pytest.raises(ModelError, match="member 1 returns"):
        explain(model, x, "deep_ensemble", 1, members=[make("unet2d")])
    with pytest.raises(RequirementError, match="give members="):
        explain(model, x, "deep_ensemble", 1)
    with pytest.raises(TargetError, match="show='both' was given; deviation or entropy is allowed"):
        explain(model, x, "mc_dropout", 1, show="both")
    with pytest.raises(TargetError, match="rotation=270.0 was given; 0 to 180 is allowed"):
        explain(model, x, "test_time_augmentation", 1, rotation=270.0)
    with pytest.raises(TargetError, match="samples=1 was given; it must be at least 2"):
        explain(model, x, "test_time_augmentation", 1, samples=1)
    with pytest.raises(RequirementError, match="every dropout rate is 0"):
        explain(UNet(2), x, "mc_dropout")


def test_members_are_left_as_they_were() -> None:
    member = make("unet2d", 8).train()
    explain(make("unet2d"), images("unet2d"), "deep_ensemble", 1, members=[member])
    assert member.training
    assert all(parameter.requires_grad for parameter in member.parameters())
