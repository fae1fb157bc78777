"""Faithfulness of sets against closed forms, slow second writings, Quantus and captum."""

import itertools
import math

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from metric_toys import SHAPES, Linear, Net, images, run, score
from scipy.stats import pearsonr, spearmanr

from runners.baselines import baseline
from runners.measures.subsets import (
    _square,
    faithfulness_correlation,
    faithfulness_estimate,
    infidelity,
    monotonicity_correlation,
    saco,
    sensitivity_n,
)
from runners.registry import seeded

ZERO = {"baseline": "zero"}


def contributions(model, x):
    """The exact map of a linear model against the baseline 0."""
    return (model.weight * x).sum(1)


def noisy(*shape):
    return torch.randn(shape, generator=seeded(8))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", [faithfulness_correlation, sensitivity_n, faithfulness_estimate, saco])
def test_the_exact_map_of_a_linear_model_gets_1_and_its_opposite_minus_1(function, shape):
    model, x = Linear(*shape[1:]), images(*shape)
    values = contributions(model, x)
    for sign in (1, -1):
        found = run(function, model, x, sign * values, **ZERO)
        assert torch.allclose(found.score, torch.full((3,), float(sign)), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_infidelity_of_the_exact_map_is_0_and_a_wrong_sign_is_not_turned_round(shape):
    model, x = Linear(*shape[1:]), images(*shape)
    values = contributions(model, x)
    slopes = {"channels": model.weight.expand(shape), "slopes": True}
    for given in ({}, slopes, {**slopes, "perturbation": "noise"}):
        assert (run(infidelity, model, x, values, scaled=False, **ZERO, **given).score < 1e-6).all()
    assert (run(infidelity, model, x, 7 * values, **ZERO).score < 1e-6).all()
    nothing, wrong = (run(infidelity, model, x, one, **ZERO).score for one in (0 * values, -values))
    assert torch.allclose(nothing, wrong)
    assert (nothing > 1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_infidelity_against_a_slow_second_writing(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values = noisy(3, *shape[2:])
    found = run(infidelity, model, x, values, samples=5, scaled=False, baseline="mean")
    base, generator = baseline(x, "mean", seeded(0)), seeded(0)
    kept = [_square(shape[2:], generator) for _ in range(5)]
    for i in range(3):
        gaps = []
        for mask in kept:
            changed = torch.where(mask, x[i], base[i])
            gaps.append(float(values[i][~mask].sum() - score(model(x[i : i + 1]), 0) + score(model(changed[None]), 0)))
        assert float(found.score[i]) == pytest.approx(np.mean(np.square(gaps)), rel=1e-3)


def test_squares_are_inside_and_between_a_tenth_and_a_half_of_every_axis():
    generator = seeded(0)
    for _ in range(50):
        gone = ~_square((30, 20, 10), generator)
        sides = [int(gone.any(tuple({0, 1, 2} - {axis})).sum()) for axis in range(3)]
        assert math.prod(sides) == int(gone.sum())
        assert all(round(0.1 * n) <= side <= n // 2 for n, side in zip((30, 20, 10), sides, strict=True))


@pytest.mark.parametrize("normalise", [False, True])
def test_infidelity_matches_captums(normalise):
    """Equal draws; captum perturbs every image by its own, so images are asked one by one."""
    model, x = Net(2), images(2, 2, 12, 10)
    phi = model_slopes(model, x)
    for i in range(2):
        generator = seeded(0)
        base, one = baseline(x[i : i + 1], "mean", seeded(0)), x[i : i + 1]

        def perturb(inputs, base=base, generator=generator):
            kept = torch.stack([_square((12, 10), generator) for _ in inputs])[:, None]
            changed = torch.where(kept, inputs, base)
            return inputs - changed, changed

        theirs = captum_infidelity(
            model, perturb, one, phi[i : i + 1], target=0, n_perturb_samples=20, normalize=normalise
        )
        given = {"channels": phi[i : i + 1], "slopes": True, "scaled": normalise, "samples": 20}
        ours = run(infidelity, model, one, phi[i : i + 1].sum(1), **given)
        assert float(ours.score) == pytest.approx(float(theirs), rel=1e-3)


def model_slopes(model, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x)[:, 0].sum(), x)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_groups_removed_alone_against_a_slow_second_writing(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values, base = noisy(3, *shape[2:]), baseline(x, "black", seeded(0))
    estimate = run(faithfulness_estimate, model, x, values, steps=6, baseline="black").score
    coefficient = run(saco, model, x, values, groups=6, baseline="black").score
    for i in range(3):
        order = values[i].flatten().argsort(descending=True)
        pixels, sums, drops = len(order), [], []
        for k in range(6):
            chosen = [int(p) for n, p in enumerate(order) if n * 6 // pixels == k]
            changed = x[i].flatten(1).clone()
            changed[:, chosen] = base[i].flatten(1)[:, chosen]
            sums.append(float(values[i].flatten()[chosen].sum()))
            drops.append(float(model(x[i : i + 1])[0, 0] - model(changed.view(1, *shape[1:]))[0, 0]))
        assert float(estimate[i]) == pytest.approx(pearsonr(sums, drops)[0], abs=1e-3)
        weights = [
            (sums[a] - sums[b]) * (1 if drops[a] >= drops[b] else -1) for a, b in itertools.combinations(range(6), 2)
        ]
        assert float(coefficient[i]) == pytest.approx(sum(weights) / sum(map(abs, weights)), abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_random_sets_against_a_slow_second_writing(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values, base = noisy(3, *shape[2:]), baseline(x, "white", seeded(0))
    found = run(sensitivity_n, model, x, values, sizes=3, samples=5, baseline="white")
    pixels, generator = math.prod(shape[2:]), seeded(0)
    counts = [max(1, round(pixels * 0.01 * 80 ** (k / 2))) for k in range(3)]
    sets = [[torch.randperm(pixels, generator=generator)[:n] for _ in range(5)] for n in counts]
    for i in range(3):
        for k, chosen in enumerate(sets):
            sums = [float(values[i].flatten()[one].sum()) for one in chosen]
            drops = []
            for one in chosen:
                changed = x[i].flatten(1).clone()
                changed[:, one] = base[i].flatten(1)[:, one]
                drops.append(float(model(x[i : i + 1])[0, 0] - model(changed.view(1, *shape[1:]))[0, 0]))
            assert float(found.curve[i, k]) == pytest.approx(pearsonr(sums, drops)[0], abs=0.01)
        assert float(found.score[i]) == pytest.approx(float(found.curve[i].mean()), abs=1e-6)


def test_monotonicity_correlation_against_a_slow_second_writing():
    model, x = Net(2), images(2, 2, 9, 8)
    values = noisy(2, 9, 8)
    found = run(monotonicity_correlation, model, x, values, steps=6, samples=3)
    generator = seeded(0)
    torch.randperm(72, generator=generator)  # breaks ties
    shares = torch.rand((3, 2), generator=generator)
    for i in range(2):
        strength = values[i].abs().flatten()
        order, sums, moves = strength.argsort(descending=True), [], []
        for k in range(6):
            chosen = [int(p) for n, p in enumerate(order) if n * 6 // 72 == k]
            squares = []
            for share in shares:
                changed = x[i].flatten(1).clone()
                for c in range(2):
                    low, high = changed[c].min().item(), changed[c].max().item()
                    changed[c, chosen] = low + float(share[c]) * (high - low)
                squares.append(float(model(changed.view(1, 2, 9, 8))[0, 0] - model(x[i : i + 1])[0, 0]) ** 2)
            sums.append(float(strength[chosen].sum()))
            moves.append(np.mean(squares))
        assert float(found.score[i]) == pytest.approx(spearmanr(sums, moves)[0], abs=1e-4)


@pytest.mark.parametrize(
    ("function", "given", "rows"),
    [
        (faithfulness_correlation, {"samples": 9}, 10),
        (sensitivity_n, {"sizes": 2, "samples": 5}, 11),
        (faithfulness_estimate, {"steps": 9}, 10),
        (saco, {"groups": 4}, 5),
        (monotonicity_correlation, {"steps": 4, "samples": 3}, 13),
        (infidelity, {"samples": 9}, 10),
    ],
)
def test_sets_cost_one_row_each_and_chunks_change_nothing(function, given, rows):
    model, x, told = Net(), images(2, 1, 9, 9), []
    given = given | ({"channels": None} if function is infidelity else {})
    chunked = run(function, model, x, x[:, 0], batch_size=3, progress=lambda *done: told.append(done), **given)
    assert model.rows == 2 * rows
    assert model.largest == 3
    assert told[-1] == (2 * rows, 2 * rows)
    assert told == sorted(told)
    assert torch.allclose(run(function, model, x, x[:, 0], batch_size=64, **given).score, chunked.score, atol=1e-4)


class Touchy(torch.nn.Module):
    """Falls to the same score whatever is changed."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def forward(self, x):
        same = (x[:, None] == self.x).flatten(2).all(2).any(1)
        return torch.where(same, 0.3, 0.1).double().mul(1.1)[:, None]


@pytest.mark.parametrize(
    "function", [faithfulness_correlation, sensitivity_n, faithfulness_estimate, saco, monotonicity_correlation]
)
def test_a_map_that_says_nothing_is_not_a_number(function):
    x = images(2, 1, 9, 9)
    for found in (
        run(function, Net(), images(2, 1, 9, 9), torch.full((2, 9, 9), 0.1)),
        run(function, Linear(1, 9, 9), torch.zeros(2, 1, 9, 9), noisy(2, 9, 9)),  # nothing can be removed
        run(function, Touchy(x), x, noisy(2, 9, 9)),
    ):
        assert found.score.isnan().all()
        assert "image 2: not defined" in found.notes[-1]
