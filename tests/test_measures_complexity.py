"""Complexity in closed forms."""

import torch
from metric_toys import images, run

from runners.measures.complexity import sparseness


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
