"""Dropout in evaluation mode: what is dropped, how it is scaled, and that masks follow the seeds alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.modes import Dropping


def dropped(layer: nn.Module, x: Tensor, seeds: list[int]) -> Tensor:
    with Dropping(seeds):
        out: Tensor = layer.eval()(x)
    return out


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_a_value_is_zero_or_scaled(rate: float) -> None:
    x = torch.rand(2, 50, 40) + 1
    ratio = dropped(nn.Dropout(rate), x, [1, 2]) / x
    assert torch.allclose(ratio[ratio > 0], torch.tensor(1 / (1 - rate)))
    assert float((ratio == 0).float().mean()) == pytest.approx(rate, abs=0.03)
    assert not torch.equal(ratio[0], ratio[1])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Dropout1d(0.5), (2, 40, 6)),
        (nn.Dropout2d(0.5), (2, 40, 3, 4)),
        (nn.Dropout3d(0.5), (2, 40, 3, 4, 2)),
        (nn.FeatureAlphaDropout(0.5), (2, 40, 3, 4)),
    ],
)
def test_whole_features_go_together(layer: nn.Module, shape: tuple[int, ...]) -> None:
    out = dropped(layer, torch.ones(shape), [3, 4]).flatten(2)
    assert torch.equal(out, out[..., :1].expand_as(out))
    low, high = out.unique().tolist()
    assert 20 < int((out[..., 0] == low).sum()) < 60
    own = layer.train()(torch.ones(shape)).unique()
    assert torch.allclose(torch.tensor([low, high]), own, atol=1e-6)


def test_alpha_dropout_has_the_two_values_of_torch_and_keeps_mean_and_variance() -> None:
    layer, x = nn.AlphaDropout(0.3), torch.randn(1, 200000, generator=torch.Generator().manual_seed(0))
    out = dropped(layer, x, [5])
    assert float(out.mean()) == pytest.approx(0, abs=0.02)
    assert float(out.var()) == pytest.approx(1, abs=0.02)
    ones = torch.ones(1, 2000)
    assert torch.allclose(dropped(layer, ones, [5]).unique(), layer.train()(ones).unique(), atol=1e-6)


def test_masks_follow_the_seeds_and_nothing_else() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 30), nn.Dropout(0.4), nn.ReLU(), nn.Dropout(0.4, inplace=True), nn.Linear(30, 2))
    x = torch.rand(4, 6)
    state = torch.get_rng_state()
    seeds = [8, 9, 8, 7]
    together = dropped(net, x, seeds)
    assert torch.equal(torch.get_rng_state(), state)
    for i, seed in enumerate(seeds):
        assert torch.allclose(dropped(net, x[i : i + 1], [seed]), together[i : i + 1], atol=1e-6)
    assert torch.allclose(dropped(net, x[:1].expand(2, -1), [8, 8])[1], together[0], atol=1e-6)
    assert not torch.allclose(dropped(net, x[:1], [9]), together[:1], atol=1e-3)


@pytest.mark.parametrize("layout", ["tokens_first", "windows"])
def test_images_are_found_behind_tokens_and_inside_windows(layout: str) -> None:
    rows = torch.rand(3, 8, 5, generator=torch.Generator().manual_seed(0))

    def of(some: Tensor, seeds: list[int]) -> Tensor:
        if layout == "tokens_first":
            return dropped(nn.Dropout(0.5), some.transpose(0, 1), seeds).transpose(0, 1)
        return dropped(nn.Dropout(0.5), some.reshape(-1, 4, 5), seeds).reshape(some.shape)

    together = of(rows, [1, 2, 1])
    for i, seed in enumerate([1, 2, 1]):
        assert torch.equal(of(rows[i : i + 1], [seed])[0], together[i])


def test_a_tensor_without_rows_drops_alike_for_all_or_says_no() -> None:
    position = torch.ones(1, 7, 5)
    assert torch.equal(dropped(nn.Dropout(0.5), position, [6, 6]), dropped(nn.Dropout(0.5), position, [6]))
    with pytest.raises(NotImplementedError, match="no row for each image"):
        dropped(nn.Dropout(0.5), position, [6, 7])


def test_functional_calls_and_rates_of_nothing_and_all() -> None:
    x = torch.ones(1, 20)
    with Dropping([1]):
        assert torch.equal(F.dropout(x, 0.0, training=False), x)
        assert not F.dropout(x, 1.0, training=False).any()
        assert not F.alpha_dropout(x, 1.0, training=False).any()
        assert (torch.dropout(x, 0.5, False) == 0).any()
    assert torch.equal(F.dropout(x, 0.5, training=False), x)
