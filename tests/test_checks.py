"""Checks of maps, shares of channels, and faster forward passes: what the gate adds to every explanation."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from toys import CNN, Linear, images, make

from runners import explain, profile, rank_channels
from runners import gate as gates
from runners.checks import CHECKS, background, completeness_error, outside_body, rank_correlation, sentences, variation
from taxonomy import TargetError


def body() -> Tensor:
    """A bright body with a dark hole, on an empty background with a label in the corner."""
    x = torch.zeros(1, 1, 40, 40)
    x[..., 10:30, 10:30] = 1 + 0.1 * torch.rand(20, 20, generator=torch.Generator().manual_seed(0))
    x[..., 18:22, 18:22] = 0
    x[..., 1:4, 1:4] = 1
    return x


def test_background_is_what_touches_the_border() -> None:
    found = background(body())[0]
    assert found[5, 20]
    assert not found[20, 20], "a dark hole inside the body is not background"
    assert not found[2, 2]
    assert int(found.sum()) == 1600 - 400 - 9
    turned = background(1.2 - body())[0]
    assert torch.equal(turned, found), "a bright background counts as well"


def test_share_outside_the_body() -> None:
    values = torch.zeros(1, 40, 40)
    values[0, 20, 12], values[0, 5, 5] = 3.0, -1.0
    assert outside_body(values, body()).tolist() == [0.25]
    noise = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(1))
    assert math.isnan(outside_body(values, noise)[0]), "an image without background says nothing"
    volume = torch.zeros(1, 1, 12, 12, 12)
    volume[..., 4:8, 4:8, 4:8] = 1
    there = torch.zeros(1, 12, 12, 12)
    there[0, 0, 0, 0] = 1
    assert outside_body(there, volume).tolist() == [1.0]


def test_numbers_become_sentences() -> None:
    notes, cautions = sentences({"completeness_error": (0.01, 0.02), "outside_body": (math.nan, 0.4)})
    assert notes == ("Completeness: the map sums to the change of the score from the baseline within 2.00%.",)
    assert cautions == ("40% of the attribution lies in the uniform background that touches the image's border.",)
    assert sentences({"variation": (0.0, 0.5)})[1] == (CHECKS["variation"].caution,)
    assert sentences({"outside_body": (math.nan,)}) == ((), ())
    error = completeness_error(torch.tensor([[1.0, 2.0]]), torch.tensor([4.0]))
    assert error.tolist() == [0.25]
    assert variation(torch.tensor([[2.0, 2.0], [1.0, -1.0]])).tolist() == [0.0, 2.0]


def test_rank_correlation_is_spearmans() -> None:
    a, b = torch.rand(2, 20, 30), torch.rand(2, 20, 30)
    expected = [spearmanr(p.flatten(), q.flatten()).statistic for p, q in zip(a, b, strict=True)]
    assert rank_correlation(a, b).tolist() == pytest.approx(expected, abs=1e-6)


def test_explanations_carry_their_checks() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    found = explain(model, x, "integrated_gradients", steps=32)
    assert set(found.checks) == {"completeness_error", "variation", "outside_body"}
    assert all(len(numbers) == 2 for numbers in found.checks.values())
    alone = explain(model, x[1:], "integrated_gradients", steps=32)
    assert alone.checks["completeness_error"][0] == pytest.approx(found.checks["completeness_error"][1], abs=1e-4)


class Edges(nn.Module):
    """Answers the same whatever its weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        energy = (x.diff(dim=-1) ** 2).flatten(1).sum(1)
        return energy[:, None] * torch.tensor([1.0, -1.0]) + 0 * self.weight.sum()


def test_maps_that_ignore_the_weights_are_found_out() -> None:
    x = images("cnn2d")
    same = explain(Edges(), x, "vanilla_gradient", 0, random_check=True)
    assert same.checks["random_model"] == pytest.approx((1.0, 1.0))
    assert any("hardly changes when the model's weights are replaced" in caution for caution in same.cautions)
    torch.manual_seed(0)
    linear = Linear((1, 32, 32)).eval()
    other = explain(linear, x, "vanilla_gradient", 0, random_check=True)
    assert max(other.checks["random_model"]) < 0.2
    assert any("With random weights in the model the map is another one" in note for note in other.notes)
    before = linear.layer.weight.clone()
    explain(linear, x, "vanilla_gradient", 0, random_check=True)
    assert torch.equal(linear.layer.weight, before)


# --- channels ---------------------------------------------------------------------------------------------------------


def test_channels_sum_to_the_map() -> None:
    model, x = make("cnn2d_inplace"), images("cnn2d_inplace")
    for method in ("input_x_gradient", "integrated_gradients", "gradient_shap", "deeplift", "lrp"):
        found = explain(model, x, method)
        assert found.channels is not None
        assert found.channels.shape == x.shape
        assert torch.allclose(found.channels.sum(1), found.values, atol=1e-5)
        assert not any("Share of the attribution" in note for note in found.notes), "three channels are colours"
    assert explain(make("cnn2d"), images("cnn2d"), "input_x_gradient").channels is None


def test_shares_of_sequences_are_told() -> None:
    torch.manual_seed(0)
    model, x = Linear((4, 8, 8)).eval(), torch.ones(1, 4, 8, 8)
    with torch.no_grad():
        model.layer.weight.zero_()
        model.layer.weight[1].view(4, 64)[2] = 3.0
        model.layer.weight[1].view(4, 64)[0] = -1.0
    found = explain(model, x, "input_x_gradient", 1)
    assert "Share of the attribution: channel 2 75%, channel 0 25%, channel 1 0%, channel 3 0%." in found.notes


class Product(nn.Module):
    """Channel means whose first two only count together."""

    def forward(self, x: Tensor) -> Tensor:
        m = x.flatten(2).mean(2)
        return torch.stack([m[:, 0] * m[:, 1] + 2 * m[:, 2], -m[:, 2]], 1)


def test_channels_are_ranked_by_exact_shapley_values() -> None:
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    ranking = rank_channels(Product(), x, 0, baseline="zero")
    m = x.flatten(2).mean(2)
    expected = torch.stack([m[:, 0] * m[:, 1] / 2, m[:, 0] * m[:, 1] / 2, 2 * m[:, 2]], 1)
    assert torch.allclose(ranking.values, expected, atol=1e-6)
    assert ranking.order[:, 0].tolist() == [2, 2]
    assert ranking.target == "label 0"


def test_channel_ranking_by_all_orders() -> None:
    model, x = CNN(2, 4).eval(), torch.rand(1, 4, 16, 16)
    ranking = rank_channels(model, x, 1)
    low = x.mean((2, 3), keepdim=True).expand_as(x)
    gains = torch.zeros(4)
    orders = list(itertools.permutations(range(4)))
    with torch.no_grad():
        for order in orders:
            shown = low.clone()
            before = model(shown)[0, 1]
            for channel in order:
                shown[:, channel] = x[:, channel]
                after = model(shown)[0, 1]
                gains[channel] += (after - before) / len(orders)
                before = after
    assert torch.allclose(ranking.values[0], gains, atol=1e-5)
    for channels in (1, 11):
        with pytest.raises(TargetError, match=f"{channels} channels; 2 to 10"):
            rank_channels(CNN(2, channels).eval(), torch.rand(1, channels, 16, 16))


# --- speed ------------------------------------------------------------------------------------------------------------


def test_lower_precision_is_the_models_only() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    plain = explain(model, x, "integrated_gradients", 1)
    lower = explain(model, x, "integrated_gradients", 1, autocast="bfloat16")
    assert not torch.equal(plain.values, lower.values)
    assert float(torch.corrcoef(torch.stack([plain.values.flatten(), lower.values.flatten()]))[0, 1]) > 0.99
    assert any("computes in bfloat16" in caution for caution in lower.cautions)
    assert "forward" not in model.__dict__
    with pytest.raises(TargetError, match="bfloat16 or float16"):
        explain(model, x, "rise", autocast="int8")
    assert "forward" not in model.__dict__


def test_compiled_models_are_asked_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compile_(forward: object) -> object:
        def counted(*args: object) -> object:
            calls.append(1)
            return forward(*args)  # type: ignore[operator]

        return counted

    monkeypatch.setattr(torch, "compile", compile_)
    model, x = make("cnn2d"), images("cnn2d")
    plain = explain(model, x, "rise", 1, masks=12)
    assert torch.equal(explain(model, x, "rise", 1, masks=12, compiled=True).values, plain.values)
    assert calls
    assert "forward" not in model.__dict__
    with pytest.raises(TargetError, match="grad_cam needs gradients, spatial_features"):
        explain(model, x, "grad_cam", compiled=True)


def test_chunks_follow_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = make("cnn2d"), images("cnn2d")
    wired = profile(model, x)
    own = [torch.Size([1, 8, 32, 32]), torch.Size([1, 8, 16, 16]), torch.Size([1, 12, 16, 16])]
    assert wired.bytes_per_image >= sum(4 * shape.numel() for shape in own)
    assert explain(model, x, "rise", masks=4).parameters["batch_size"] == 16
    monkeypatch.setattr(gates, "_free_memory", lambda: 2 * 2 * 3 * wired.bytes_per_image)
    assert explain(model, x, "rise", masks=4).parameters["batch_size"] == 3
    monkeypatch.setattr(gates, "_free_memory", lambda: 1)
    assert explain(model, x, "rise", masks=4).parameters["batch_size"] == 1
    monkeypatch.setattr(gates, "_free_memory", lambda: 2**40)  # a deep network fills the caches of a CPU long before
    deep = replace(wired, bytes_per_image=126 * 2**20)
    assert explain(model, x, "rise", masks=4, known=deep).parameters["batch_size"] == 4


class Video(nn.Module):
    """Frames keep their number while the picture shrinks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 6, 3, stride=(1, 2, 2), padding=1)
        self.second = nn.Conv3d(6, 8, 3, stride=(1, 2, 2), padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu().flatten(2).mean(2))


def test_frames_of_a_video_may_have_a_stride_of_their_own() -> None:
    torch.manual_seed(0)
    model, x = Video().eval(), torch.rand(1, 1, 6, 32, 32)
    wired = profile(model, x)
    assert wired.place is not None
    assert (wired.place.name, wired.place.grid) == ("second", (6, 8, 8))
    assert explain(model, x, "grad_cam").values.shape == (1, 6, 32, 32)
