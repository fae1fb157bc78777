"""Complexity in closed forms and against Quantus."""

import math

import numpy as np
import pytest
import torch
from metric_toys import images, run
from torch import nn

from runners.measures.complexity import complexity_entropy, effective_complexity, sparseness


def test_sparseness_has_closed_forms():
    n = 6 * 7
    one, even, half, steps = torch.zeros(4, 6, 7)
    one[3, 2], even[:], half[:3] = -5, 2, 1
    steps.copy_(torch.arange(n).view(6, 7) + 1)
    values = torch.stack([one, even, half, steps])
    found = run(sparseness, None, None, values).score
    assert torch.allclose(found, torch.tensor([1 - 1 / n, 0, 0.5, (n - 1) / (3 * n)]), atol=1e-6)
    scaled = torch.stack([values[3] * 1e-4, -values[3] * 1e5])
    assert torch.allclose(run(sparseness, None, None, scaled).score, found[3].expand(2), atol=1e-6)
    assert run(sparseness, None, None, torch.zeros(1, 3, 3)).score.isnan().all()


def test_sparseness_is_the_mean_absolute_difference_between_pixels():
    values = images(2, 9, 5)
    flat = values.flatten(1).abs()
    slow = (flat[:, :, None] - flat[:, None]).abs().mean((1, 2)) / (2 * flat.mean(1))
    assert torch.allclose(run(sparseness, None, None, values).score, slow, atol=1e-6)


def test_entropy_has_closed_forms():
    n = 6 * 7
    one, even, half, negative = torch.zeros(4, 6, 7)
    one[3, 2], even[:], half[:3] = -5, 2, 1
    negative[0, :4] = torch.tensor([1.0, -2.0, 3.0, -4.0])
    share = torch.tensor([0.1, 0.2, 0.3, 0.4])
    wanted = torch.tensor([0, math.log(n), math.log(n / 2), -(share * share.log()).sum()])
    found = run(complexity_entropy, None, None, torch.stack([one, even, half, negative]))
    assert torch.allclose(found.score, wanted, atol=1e-6)
    assert "42 pixels has 3.74" in found.notes[0]
    assert run(complexity_entropy, None, None, torch.zeros(1, 3, 3, 3)).score.isnan().all()


def test_effective_complexity_counts():
    values = torch.zeros(2, 4, 4)
    values[0, 0] = torch.tensor([-8.0, 4.0, 1.0, 1e-6])
    values[1] = 1e-9
    assert run(effective_complexity, None, None, values).score.tolist() == [3, 16]
    assert run(effective_complexity, None, None, values, eps=0.2).score.tolist() == [2, 16]
    assert run(effective_complexity, None, None, values, eps=0.0).score.tolist() == [4, 16]
    assert run(effective_complexity, None, None, torch.zeros(1, 3, 3)).score.isnan().all()


@pytest.mark.parametrize(
    ("function", "name"),
    [(sparseness, "Sparseness"), (complexity_entropy, "Complexity"), (effective_complexity, "EffectiveComplexity")],
)
def test_values_are_those_of_quantus_which_refuses_volumes(function, name):
    quantus = pytest.importorskip("quantus")
    values = images(4, 11, 13) ** 5  # some below the threshold
    metric = getattr(quantus, name)(disable_warnings=True)
    peer = [  # one at a time: it divides by the largest value of the whole batch
        metric(
            model=nn.Sequential(nn.Flatten(), nn.Linear(143, 2)),
            x_batch=np.ones((1, 1, 11, 13), np.float32),
            y_batch=np.zeros(1, int),
            a_batch=one[None, None].numpy().copy(),
            channel_first=True,
        )[0]
        for one in values
    ]
    assert run(function, None, None, values).score.tolist() == pytest.approx(list(map(float, peer)), rel=1e-5)
