"""Multi-sequence metrics on models whose channels are worth what is planted."""

import itertools
import math

import pytest
import torch
from metric_toys import images, mask_of, run, score
from scipy.stats import kendalltau
from torch import nn

from runners import rank_channels
from runners.measures.channels import mm_shap, modality_shapley, msfi
from taxonomy.errors import TargetError

SHAPES = [(3, 4, 8, 9), (3, 4, 5, 6, 7)]


class Weighted(nn.Module):
    """Adds the channels up with weights, and the product of the first two."""

    def __init__(self, *weights, together=0.0):
        super().__init__()
        self.weights, self.together = torch.tensor(weights), together

    def forward(self, x):
        means = x.flatten(2).mean(2)
        return (means @ self.weights + self.together * means[:, 0] * means[:, 1])[:, None]


def worth(model, x):
    """Shapley values over all orders, one after the other."""
    count = x.shape[1]
    base = x.mean(tuple(range(2, x.ndim)), keepdim=True).expand_as(x) * 0  # what black is for images with a zero
    total = torch.zeros(len(x), count, dtype=torch.float64)
    for order in itertools.permutations(range(count)):
        mixed = base.clone()
        for channel in order:
            before = score(model(mixed), None)
            mixed[:, channel] = x[:, channel]
            total[:, channel] += (score(model(mixed), None) - before).double()
    return total / math.factorial(count)


@pytest.mark.parametrize("shape", SHAPES)
def test_importance_against_all_orders(shape):
    x, model = images(*shape), Weighted(3.0, -2.0, 1.0, 0.5, together=4.0)
    slow = worth(model, x)
    channels = images(*shape).roll(1, 0)
    parts = channels.clamp_min(0).flatten(2).sum(2)
    own = run(modality_shapley, model, x, x[:, 0], channels=channels, baseline="zero")
    for i in range(3):
        assert float(own.score[i]) == pytest.approx(kendalltau(parts[i], slow[i]).statistic, abs=1e-6)
    mask = mask_of(x)
    weight = (slow - slow.amin(1, keepdim=True)) / (slow.amax(1) - slow.amin(1))[:, None]
    share = (channels.clamp_min(0) * mask[:, None]).flatten(2).sum(2) / parts
    wanted = (weight * share).sum(1) / weight.sum(1)
    found = run(msfi, model, x, x[:, 0], channels=channels, mask=mask, baseline="zero")
    assert torch.allclose(found.score.double(), wanted, atol=1e-5)
    assert torch.allclose(rank_channels(model, x, score, baseline="zero").values.double(), slow, atol=1e-5)


def test_known_importance_needs_no_model():
    x, mask = images(2, 3, 6, 6), mask_of(images(2, 3, 6, 6))
    channels = torch.zeros(2, 3, 6, 6)
    channels[:, 0] = mask  # the important one lies inside
    channels[:, 1] = ~mask * 1.0
    channels[:, 2] = 0.001
    given = {"importance": "1, 0.5, 0"}
    own = run(msfi, None, x, x[:, 0], channels=channels, mask=mask, **given)
    assert own.score.tolist() == pytest.approx([1 / 1.5] * 2)
    assert "as given" in own.notes[0]
    channels[:, 1] *= 0.01
    assert run(modality_shapley, None, x, x[:, 0], channels=channels, **given).score.tolist() == [1, 1]
    tied = run(modality_shapley, None, x, x[:, 0], channels=channels, importance="1,1,0").score
    assert float(tied[0]) == pytest.approx(kendalltau([3, 2, 1], [1, 1, 0]).statistic)
    with pytest.raises(TargetError, match="3 numbers"):
        run(msfi, None, x, x[:, 0], channels=channels, mask=mask, importance="1,2")
    alike = run(modality_shapley, None, x, x[:, 0], channels=channels, importance="1,1,1")
    assert alike.score.isnan().all()
    assert "count the same" in alike.notes[-1]


def test_one_map_for_all_channels():
    x, mask = images(2, 3, 6, 6), mask_of(images(2, 3, 6, 6))
    values = images(2, 6, 6)
    share = (values.clamp_min(0) * mask).sum((1, 2)) / values.clamp_min(0).sum((1, 2))
    own = run(msfi, Weighted(1.0, 2.0, 3.0), x, values, channels=None, mask=mask)
    assert torch.allclose(own.score, share)
    assert "one map for all" in own.notes[1]
    none = run(modality_shapley, Weighted(1.0, 2.0, 3.0), x, values, channels=None)
    assert none.score.isnan().all()
    assert "one map for all" in none.notes[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_shares_of_an_additive_model_are_exact(shape):
    x, model = images(*shape), Weighted(3.0, -2.0, 0.0, 0.5)
    cells = [t.abs() for t in _cell_means(x, 2)]
    size = torch.stack([w * t.sum(1) for w, t in zip((3.0, 2.0, 0.0, 0.5), cells, strict=True)], 1)
    wanted = size / size.sum(1, keepdim=True)
    for channel in range(4):
        own = run(mm_shap, model, x, x[:, 0], channel=channel, cells=2, orders=1, baseline="zero")
        assert torch.allclose(own.score, wanted[:, channel], atol=1e-5)
    assert run(mm_shap, Weighted(0.0, 0.0, 0.0, 0.0), x, x[:, 0]).score.isnan().all()


def _cell_means(x, cells):
    """Sum each channel over the cells of a grid: ``(B, cells)`` per channel."""
    parts = [x]
    for axis in range(2, x.ndim):
        side = x.shape[axis]
        owner = torch.arange(side) * cells // side
        parts = [p.index_select(axis, (owner == c).nonzero()[:, 0]) for p in parts for c in range(cells)]
    return torch.stack([p.flatten(2).sum(2) for p in parts], 2).unbind(1)


def test_more_orders_come_near_the_exact_shares():
    x, model = images(2, 2, 4, 4), Weighted(1.0, 2.0, together=6.0)
    exact = worth(model, x).abs()
    own = run(mm_shap, model, x, x[:, 0], cells=1, orders=1, baseline="zero").score
    assert torch.allclose(own.double(), exact[:, 0] / exact.sum(1), atol=1e-6)  # an order and its reverse: all of two
