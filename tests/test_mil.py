"""Models that read bags of tiles: cutting and laying, maps by hand, and a planted tile that every method must find."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from toys import ABMIL, images, make

from runners import Tiled, explain, load_model
from taxonomy import ImageError, RequirementError, TargetError

BAGS = ("attention_mil", "clam", "single_patch_perturbation", "xmil_lrp")


def painted(values: Tensor, side: int = 8) -> Tensor:
    """One value per tile ``(B, rows, columns)`` as constant squares."""
    return values.repeat_interleave(side, 1).repeat_interleave(side, 2)


def abmil(**options: object) -> Tiled:
    torch.manual_seed(3)
    return Tiled(ABMIL(**options), 8).eval()  # type: ignore[arg-type]


def bag(image: Tensor, side: int = 8) -> Tensor:
    """Tiles of one image ``(C, H, W)``, row by row."""
    rows, columns = (range(0, length, side) for length in image.shape[1:])
    return torch.stack([image[:, a : a + side, b : b + side] for a in rows for b in columns])


@pytest.mark.parametrize(
    ("spatial", "tile", "stride"), [((20, 33), 8, 5), ((6, 9, 7), (3, 4, 7), None), ((8, 8), 8, 3)]
)
def test_cutting_and_laying_by_hand(spatial: tuple[int, ...], tile: int | tuple[int, ...], stride: int | None) -> None:
    tiled, x = Tiled(nn.Identity(), tile, stride), torch.rand(2, 3, *spatial)
    sides = (tile,) * len(spatial) if isinstance(tile, int) else tile
    steps = sides if stride is None else (stride,) * len(spatial)
    begins = [
        [*range(0, length - side, step), length - side]
        for length, side, step in zip(spatial, sides, steps, strict=True)
    ]
    places = [()]
    for begin in begins:
        places = [(*place, first) for place in places for first in begin]
    where = [tuple(slice(a, a + s) for a, s in zip(place, sides, strict=True)) for place in places]
    assert torch.equal(tiled.cut(x), torch.stack([x[(..., *at)] for at in where], 1))
    assert tiled.count(spatial) == len(where)
    values = torch.rand(2, len(where))
    total, count = torch.zeros(2, *spatial), torch.zeros(spatial)
    for number, at in enumerate(where):
        total[(..., *at)] += values[:, number].view(-1, *[1] * len(spatial))
        count[at] += 1
    assert (count > 0).all()
    assert torch.allclose(tiled.lay(values, spatial), total / count)


def test_an_image_is_read_as_one_bag() -> None:
    tiled, x = abmil(), images("mil")
    assert torch.allclose(tiled(x), torch.cat([tiled.model(bag(image)) for image in x]), atol=1e-6)

    class Batched(nn.Module):
        def forward(self, bags: Tensor) -> Tensor:
            assert bags.shape == (1, 16, 1, 8, 8)
            return tiled.model(bags[0])[0]  # (K,)

    assert torch.allclose(Tiled(Batched(), 8, batched=True)(x), tiled(x), atol=1e-6)


def test_gradients_pass_the_cutting() -> None:
    tiled, x = abmil(), images("mil")
    tiles = torch.stack([bag(image) for image in x]).requires_grad_()
    score = sum(tiled.model(one)[0, 2] for one in tiles)
    (grad,) = torch.autograd.grad(score, tiles)
    joined = grad.view(2, 4, 4, 8, 8).permute(0, 1, 3, 2, 4).reshape(2, 32, 32)
    found = explain(tiled, x, "vanilla_gradient", 2).values
    assert torch.allclose(found, joined.abs(), atol=1e-6)


def attention_of(model: ABMIL, image: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``(branches, N)`` and features ``(N, D)``, written out."""
    h = torch.stack([model.encoder(tile[None])[0].flatten(1).mean(1) for tile in bag(image)])
    raw = torch.stack([model.weigh(torch.tanh(model.values(one)) * torch.sigmoid(model.gates(one))) for one in h])
    return (raw.exp() / raw.exp().sum(0)).T.detach(), h.detach()


def test_attention_by_hand() -> None:
    tiled, x = abmil(), images("mil")
    weights = torch.stack([attention_of(tiled.model, image)[0][0] for image in x])
    found = explain(tiled, x, "attention_mil")
    assert torch.allclose(found.values, painted(weights.view(2, 4, 4)), atol=1e-6)
    assert not found.signed
    assert "1 attention branch(es) for 3 label(s)" in " ".join(explain(tiled, x, "clam", 1).notes)
    assert torch.allclose(explain(tiled, x, "clam", 1).values, found.values)


def test_the_branch_of_the_label() -> None:
    tiled, x = abmil(branches=3), images("mil")
    weights = [attention_of(tiled.model, image)[0] for image in x]
    found = explain(tiled, x, "clam", [2, 0])
    expected = torch.stack([weights[0][2], weights[1][0]]).view(2, 4, 4)
    assert torch.allclose(found.values, painted(expected), atol=1e-6)
    assert "in the branch of the explained label, one of 3" in " ".join(found.notes)
    mean = torch.stack([one.mean(0) for one in weights]).view(2, 4, 4)
    assert torch.allclose(explain(tiled, x, "attention_mil").values, painted(mean), atol=1e-6)


def test_as_many_labels_as_tiles_do_not_confuse_the_pooling() -> None:
    torch.manual_seed(0)
    tiled = Tiled(nn.Sequential(ABMIL(labels=16), nn.Softmax(1)), 8)
    x = images("mil", 1)
    weights, _ = attention_of(tiled.model[0], x[0])
    assert torch.allclose(explain(tiled, x, "attention_mil").values, painted(weights.view(1, 4, 4)), atol=1e-6)


def test_each_tile_alone_by_hand() -> None:
    tiled, x = abmil(), images("mil")
    alone = torch.stack([torch.stack([tiled.model(tile[None])[0, 1] for tile in bag(image)]) for image in x])
    found = explain(tiled, x, "single_patch_perturbation", 1)
    assert torch.allclose(found.values, painted(alone.detach().view(2, 4, 4)), atol=1e-6)
    assert found.passes["forward"] == 2 * 16
    assert found.signed


class Bag(nn.Module):
    """Linear tile features, attention pooling, linear head."""

    def __init__(self, side: int = 8, width: int = 6, labels: int = 2) -> None:
        super().__init__()
        self.features, self.weigh, self.head = (
            nn.Linear(side * side, width),
            nn.Linear(width, 1),
            nn.Linear(width, labels),
        )

    def forward(self, tiles: Tensor) -> Tensor:
        h = torch.relu(self.features(tiles.flatten(1)))
        a = torch.softmax(self.weigh(h), 0)
        return self.head(a.T @ h)


def test_relevance_of_tiles_by_hand() -> None:
    torch.manual_seed(2)
    model, x = Bag(), images("mil", 1)
    tiles = bag(x[0]).flatten(1)
    expected = []
    u = tiles @ model.features.weight.T + model.features.bias
    h = u.clamp(min=0)
    a = (h @ model.weigh.weight[0]).exp()
    a = a / a.sum()
    for n in range(16):
        relevance = 0.0
        for j in range(6):  # the head's share of the feature, the pooling's share of the tile, the inputs' share of it
            if h[n, j] > 0:
                own = model.head.weight[1, j] * a[n] * h[n, j]
                relevance += (own * (1 - model.features.bias[j] / u[n, j])).item()
        expected.append(relevance)
    found = explain(Tiled(model, 8), x, "xmil_lrp", 1)
    want = painted(torch.tensor(expected).view(1, 4, 4))
    assert torch.allclose(found.values, want, atol=1e-3 * float(want.abs().max()))
    assert found.signed
    pixels = explain(Tiled(model, 8), x, "lrp", 1).values
    sums = pixels.view(1, 4, 8, 4, 8).sum((2, 4))
    assert torch.allclose(painted(sums), found.values, atol=1e-4 * float(want.abs().max()))


def test_relevance_of_overlapping_tiles_is_that_of_the_bag() -> None:
    torch.manual_seed(2)
    tiled, x = Tiled(Bag(), 8, 6), images("mil", 1)
    found = explain(tiled, x, "xmil_lrp", 0).values
    tiles = tiled.cut(x)[0]
    side = math.isqrt(len(tiles))
    mosaic = tiles.view(side, side, 1, 8, 8).permute(2, 0, 3, 1, 4).reshape(1, 1, 8 * side, 8 * side)
    flat = explain(Tiled(tiled.model, 8), mosaic, "xmil_lrp", 0).values[:, ::8, ::8]
    assert torch.allclose(found, tiled.lay(flat.flatten(1), (32, 32)), atol=1e-5)


class Bright(nn.Module):
    """A bag model that knows one thing: tiles brighter than 1 are positive, and it looks at those."""

    def forward(self, tiles: Tensor) -> Tensor:
        h = torch.relu(tiles.flatten(1).mean(1, keepdim=True) - 0.5)
        a = torch.softmax(20 * h.transpose(0, 1), 1)
        return torch.mm(a, torch.cat([0.5 * h, h], 1))


PLANTED = (1, 2)


def planted() -> Tensor:
    x = 0.3 * torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    x[:, :, 8:16, 16:24] += 1.0
    return x


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *[(method, {}) for method in BAGS],
        ("input_x_gradient", {}),
        ("integrated_gradients", {"steps": 16}),
        ("smoothgrad", {"samples": 4}),
        ("lrp", {}),
        ("occlusion", {"window": 8, "stride": 8}),
        ("rise", {"masks": 200, "cells": 4}),
        ("feature_ablation", {"segments": 16}),
    ],
)
def test_the_planted_tile_is_found(method: str, options: dict[str, object]) -> None:
    found = explain(Tiled(Bright(), 8), planted(), method, 1, **options).values
    tiles = found.view(4, 8, 4, 8).mean((1, 3))
    assert divmod(int(tiles.argmax()), 4) == PLANTED
    assert tiles[PLANTED] > 2 * tiles.flatten().sort().values[-2]


def test_exact_values_of_the_planted_tile() -> None:
    model, x = Bright(), planted()
    h = (torch.stack([tile.mean() for tile in bag(x[0])]) - 0.5).clamp(min=0)
    a = (20 * h).softmax(0)
    tile = PLANTED[0] * 4 + PLANTED[1]
    alone = explain(Tiled(model, 8), x, "single_patch_perturbation", 1).values
    assert torch.allclose(alone[0, 8, 16], h[tile])
    assert alone[0, 0, 0] == 0
    seen = explain(Tiled(model, 8), x, "attention_mil").values
    assert torch.allclose(seen[0, 8, 16], a[tile])


def test_deeplift_is_complete_through_a_bag_of_tiles() -> None:
    model, x = abmil(), images("mil")
    change = (model(x) - model(x.amin((2, 3), keepdim=True).expand_as(x))).detach()[:, 1]
    assert torch.allclose(explain(model, x, "deeplift", 1).values.flatten(1).sum(1), change, rtol=1e-3, atol=1e-5)


def test_refusals_say_what_is_missing() -> None:
    for method in BAGS:
        with pytest.raises(RequirementError, match=r"put it into runners\.Tiled"):
            explain(make("cnn2d"), images("cnn2d"), method)

    class Mean(nn.Module):
        def forward(self, tiles: Tensor) -> Tensor:
            return tiles.flatten(1)[:, :3].mean(0, keepdim=True)

    with pytest.raises(RequirementError, match="none was seen over the tiles"):
        explain(Tiled(Mean(), 8), images("mil"), "attention_mil")
    with pytest.raises(ImageError, match=r"tiles of 64 pixels do not fit an image of \(32, 32\)"):
        Tiled(Mean(), 64)(images("mil"))
    with pytest.raises(ImageError, match=r"tiles of \(8, 8, 8\) pixels do not fit"):
        Tiled(Mean(), (8, 8, 8))(images("mil"))
    for wrong in ({"tile": 0}, {"tile": 8, "stride": 0}, {"tile": (8, -1)}):
        with pytest.raises(TargetError, match="both must be at least 1 pixel"):
            Tiled(Mean(), **wrong)  # type: ignore[arg-type]


def test_a_bag_model_with_a_card() -> None:
    tiled, x = abmil(), images("mil")
    loaded = load_model(tiled)
    for method in (*BAGS, "lrp", "input_x_gradient"):
        expected = explain(tiled, x, method, [1, 2]).values
        assert torch.allclose(explain(loaded, x, method, [1, 2]).values, expected, atol=1e-6)


def test_slices_of_a_volume_are_a_bag() -> None:
    torch.manual_seed(1)
    tiled, x = Tiled(ABMIL(dims=3), (1, 16, 16)), torch.rand(1, 1, 6, 16, 16)
    x[:, :, 4] += 1.0
    for method in BAGS:
        found = explain(tiled, x, method, 1).values
        assert found.shape == (1, 6, 16, 16)
        assert (found[0].flatten(1).std(1) < 1e-6).all()  # one value per slice


def test_features_of_all_tiles_are_found_where_the_model_keeps_them_in_a_row() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.norm = nn.Linear(64, 6), nn.LayerNorm(6)
            self.weigh, self.head = nn.Linear(6, 1), nn.Linear(6, 2)

        def forward(self, bags: Tensor) -> Tensor:
            h = self.norm(self.features(bags.flatten(2)))
            return self.head((torch.softmax(self.weigh(h), 1) * h).sum(1))

    torch.manual_seed(4)
    tiled, x = Tiled(Normed(), 8, batched=True), images("mil")
    found = explain(tiled, x, "ablation_cam", 1)
    assert found.parameters["batch_size"] == 1  # the bags come one by one, and so must the changed ones
    assert found.values.flatten(1).std(1).min() > 0
    assert torch.allclose(explain(tiled, x, "ablation_cam", 1, batch_size=5).values, found.values, atol=1e-6)
    assert explain(tiled, x, "grad_cam", 1).values.any()
