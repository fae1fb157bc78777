"""Robustness against captum and in its edge cases."""

import pytest
import torch
from captum.metrics import sensitivity_max
from metric_toys import SHAPES, Net, gradients, images, run

from runners.measures.robustness import max_sensitivity
from runners.registry import seeded


@pytest.mark.parametrize("shape", SHAPES)
def test_max_sensitivity_is_captums_for_the_same_noise(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values = gradients(model, x)
    found = run(max_sensitivity, model, x, values, samples=4, radius=0.1)
    draw = seeded(0)
    noises = [torch.rand(x.shape[1:], generator=draw) * 2 - 1 for _ in range(4)]
    axes = tuple(range(2, x.ndim))
    reach = 0.1 * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))

    def only(inputs):
        return inputs[0] if isinstance(inputs, tuple) else inputs

    def perturb(inputs):  # captum repeats every image 4 times in a row
        return only(inputs) + torch.cat([noise[None] * r for r in reach for noise in noises])

    theirs = sensitivity_max(lambda pictures: (gradients(model, only(pictures)),), x, perturb, n_perturb_samples=4)
    assert torch.allclose(found.score, theirs, atol=1e-4)


def test_max_sensitivity_of_a_constant_explanation_is_zero_and_of_no_map_undefined():
    x, values = images(2, 1, 8, 8), torch.ones(2, 8, 8)
    values[1] = 0
    told = []
    found = run(
        max_sensitivity, Net(), x, values, explain_again=lambda _x: values, progress=lambda *done: told.append(done)
    )
    assert float(found.score[0]) == 0
    assert found.score[1].isnan()
    assert found.notes[1] == "image 2: not defined: the map is all zero."
    assert told[-1] == (10, 10)
