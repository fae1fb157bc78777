"""Metrics against closed forms, slow second writings, captum, torchcam and what they must and must not react to."""

import copy
import inspect
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional as F
from torchcam.metrics import DeletionInsertionMetric

from runners.baselines import baseline
from runners.measures import (
    _groups,
    deletion,
    insertion,
    max_sensitivity,
    mprt,
    pointing_game,
    relevance_mass_accuracy,
    sparseness,
)
from runners.registry import injected, no_progress, parameters, seeded
from taxonomy.errors import ModelError, RequirementError, TargetError

ALL = (deletion, insertion, max_sensitivity, sparseness, pointing_game, relevance_mass_accuracy, mprt)
SHAPES = [(3, 2, 10, 13), (3, 1, 6, 7, 5)]


class Linear(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, generator=seeded(1)), requires_grad=False)

    def forward(self, x):
        return (x * self.weight).flatten(1).sum(1, keepdim=True)


class Net(nn.Module):
    """Declares its layers in another order than it runs them and counts its rows."""

    def __init__(self, channels: int = 1, dims: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.head = nn.Linear(6, 4)
            self.second = conv(6, 6, 3, padding=1)
            self.first = conv(channels, 6, 3, padding=1)
        self.requires_grad_(False)
        self.rows = self.largest = 0

    def forward(self, x):
        self.rows += len(x)
        self.largest = max(self.largest, len(x))
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))).flatten(2).amax(2)) * 5


def score(outputs, _rows):
    return outputs[:, 0]


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(5))


def gradients(model, x):
    """A plain input-times-gradient explanation."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(score(model(x), None).sum(), x)[0].mul(x).sum(1).detach()


def again_on(model):
    own = model

    def explain_again(x, model=own):
        return gradients(model, x)

    return explain_again


def run(function, model, x, values, seed=0, **given):
    extra = {"generator": seeded(seed), "progress": no_progress, "explain_again": again_on(model)} | given
    wanted = {*injected(function), *parameters(function)}
    return function(model, x, score, values, **{k: v for k, v in extra.items() if k in wanted})


def mask_of(x):
    mask = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
    mask[:, 2:5, 1:4] = True
    return mask


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_is_single_seeds_hold_and_nothing_is_left_behind(function, shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values, mask = gradients(model, x), mask_of(x)
    before, state, copied = copy.deepcopy(model.state_dict()), torch.get_rng_state(), x.clone()
    whole = run(function, model, x, values, mask=mask)
    assert whole.score.shape == (3,)
    assert whole.score.isfinite().all()
    assert len(whole.score.unique()) > 1 or function is pointing_game
    alone = [run(function, model, x[i : i + 1], values[i : i + 1], mask=mask[i : i + 1]) for i in range(3)]
    assert torch.allclose(torch.cat([one.score for one in alone]), whole.score, atol=1e-5)
    if whole.curve is not None:
        assert torch.allclose(torch.cat([one.curve for one in alone]), whole.curve, atol=1e-4)
    assert torch.equal(run(function, model, x, values, mask=mask).score, whole.score)
    if "generator" in injected(function) and function not in (deletion, insertion):  # these draw only to break ties
        assert not torch.equal(run(function, model, x, values, mask=mask, seed=1).score, whole.score)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, copied)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("function", ALL)
def test_signature_is_what_the_gate_reads(function):
    names = {"explain_again", "mask", "progress", "generator"}
    assert set(injected(function)) <= names
    assert not names & set(parameters(function))
    assert all(f"{name}:" in inspect.getdoc(function) for name in parameters(function))


@pytest.mark.parametrize(
    ("function", "given", "words"),
    [
        (deletion, {"steps": 0}, "steps = 0"),
        (deletion, {"baseline": "grey"}, "'grey'"),
        (insertion, {"batch_size": 0}, "batch_size = 0"),
        (max_sensitivity, {"radius": 0.0}, "radius = 0.0"),
        (max_sensitivity, {"samples": 0}, "samples = 0"),
        (pointing_game, {"tolerance": -1}, "tolerance = -1"),
        (mprt, {"stages": 0}, "stages = 0"),
    ],
)
def test_bad_parameters_are_named(function, given, words):
    x = images(1, 1, 8, 8)
    with pytest.raises(TargetError, match=words):
        run(function, Net(), x, x[:, 0], mask=mask_of(x), **given)


# --- deletion and insertion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [deletion, insertion])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("steps", "kind"), [(7, "black"), (1000, "mean"), (1, "blur")])
def test_curves_against_a_slow_second_writing(function, shape, steps, kind):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values = torch.randn(3, *shape[2:], generator=seeded(8))
    found = run(function, model, x, values, steps=steps, baseline=kind)
    base, pixels = baseline(x, kind, seeded(0)), math.prod(shape[2:])
    steps = min(steps, pixels)
    for i in range(3):
        order = sorted(range(pixels), key=lambda p, i=i: -float(values[i].flatten()[p]))
        start, end = (base, x) if function is insertion else (x, base)
        curve, counts = [], [round(pixels * k / steps) for k in range(steps + 1)]
        for count in counts:
            picture = start[i].flatten(1).clone()
            picture[:, order[:count]] = end[i].flatten(1)[:, order[:count]]
            curve.append(float(model(picture.view(1, *shape[1:]))[0, 0]))
        assert np.allclose(found.curve[i].numpy(), curve, atol=1e-4)
        full, empty = float(model(x[i : i + 1])[0, 0]), float(model(base[i : i + 1])[0, 0])
        area = sum((counts[k + 1] - counts[k]) / pixels * ((curve[k] + curve[k + 1]) / 2 - empty) for k in range(steps))
        assert float(found.score[i]) == pytest.approx(area / abs(full - empty), abs=1e-3)
        assert any(f"image {i + 1}: the baseline scores higher" in note for note in found.notes) == (full < empty)


def test_areas_of_a_linear_model_have_closed_forms():
    """n pixels of weight 1, k of them counted: the best order falls linearly over k/n, the worst over the last k/n."""
    model, x = Linear(1, 8, 8), torch.ones(1, 1, 8, 8)
    weight = torch.zeros(1, 8, 8)
    weight[0, :2] = 1  # 16 of 64
    model.weight.data = weight
    given = {"steps": 64, "baseline": "zero"}
    for values, low in ((weight, 0.125), (-weight, 0.875)):
        assert float(run(deletion, model, x, values, **given).score) == pytest.approx(low)
        assert float(run(insertion, model, x, values, **given).score) == pytest.approx(1 - low)
    # the image scores below its baseline: a map with the right signs still gets the better numbers
    right, wrong = (run(deletion, model, -x, values, **given) for values in (-weight, weight))
    assert (float(right.score), float(wrong.score)) == pytest.approx((-0.875, -0.125))


def test_the_area_matches_torchcams():
    """torchcam integrates the raw score over the same ranks; its steps coincide when they divide the pixels."""
    model, x = Net(2), images(2, 2, 8, 8)
    values = torch.randn(2, 8, 8, generator=seeded(8))

    class Extractor:
        def __init__(self):
            self.model, self._hooks_off, self.fuse_cams = model, nullcontext, lambda maps: maps[0]

        def __call__(self, *_):
            return [values]

    peer = DeletionInsertionMetric(Extractor(), steps=16)
    peer.update(x, 0)
    for function, key in ((deletion, "deletion_auc"), (insertion, "insertion_auc")):
        curve = run(function, model, x, values, steps=16, baseline="zero").curve
        area = torch.trapezoid(curve, dx=1 / 16, dim=1).mean()
        assert float(area) == pytest.approx(peer.summary()[key], abs=1e-4)


@pytest.mark.parametrize("function", [deletion, insertion])
def test_curves_cost_one_row_per_point_and_calls_stay_small(function):
    model, x, told = Net(), images(2, 1, 9, 9), []
    run(function, model, x, x[:, 0], steps=11, batch_size=5, progress=lambda *done: told.append(done))
    assert model.rows == 24
    assert model.largest == 5
    assert told[-1] == (24, 24)
    whole, chunked = (run(function, model, x, x[:, 0], batch_size=size).score for size in (64, 3))
    assert torch.allclose(whole, chunked, atol=1e-5)


def test_equal_values_favour_no_side_of_the_image():
    model, x = Linear(1, 20, 20), torch.ones(1, 1, 20, 20)
    for half in (slice(0, 10), slice(10, 20)):
        model.weight.data = torch.zeros(1, 20, 20)
        model.weight.data[0, half] = 1
        found = run(deletion, model, x, torch.zeros(1, 20, 20), baseline="zero")
        assert float(found.score) == pytest.approx(0.5, abs=0.06)


def test_a_curve_that_swings_far_beyond_its_ends_is_told():
    model, x = Linear(1, 8, 8), torch.ones(1, 1, 8, 8)
    model.weight.data = torch.ones(1, 8, 8)
    model.weight.data[0, :4] = -0.9
    wild = run(deletion, model, x, model.weight, baseline="zero")
    assert "image and baseline differ by 3.2, the curve swings by 32: the area says little" in wild.notes[1]
    model.weight.data[0, :4] = 0
    assert len(run(deletion, model, x, model.weight, baseline="zero").notes) == 1


def test_no_difference_to_the_baseline_is_not_a_number():
    found = run(deletion, Linear(1, 6, 6), torch.ones(1, 1, 6, 6), torch.rand(1, 6, 6))
    assert found.score.isnan().all()
    assert "not defined: image and baseline have the same score" in found.notes[1]


# --- robustness and complexity ----------------------------------------------------------------------------------------


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


# --- localisation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 9, 9), (4, 7, 9, 9)])
def test_pointing_game(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[..., 2:4, 2:4] = True
    values = torch.zeros(shape)
    middle = (3,) * (len(shape) - 3)
    values[(0, *middle, 3, 3)] = 1  # inside
    values[(1, *middle, 6, 3)] = 1  # 3 below
    values[(2, *middle, 5, 5)] = 1  # 2 and 2 off: 2.83 away
    values[3] = 1  # no preference
    share = float(mask[0].double().mean())
    exact = run(pointing_game, None, None, values, mask=mask)
    assert exact.score.tolist() == pytest.approx([1, 0, 0, share])
    assert f"{share:.1%}" in exact.notes[0]
    assert run(pointing_game, None, None, values, mask=mask, tolerance=2).score[:3].tolist() == [1, 0, 0]
    assert run(pointing_game, None, None, values, mask=mask, tolerance=3).score[:3].tolist() == [1, 1, 1]


def test_pointing_game_shares_a_plateau():
    values, mask = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    values[0, 1, :] = 3
    mask[0, :, 1:] = True
    assert float(run(pointing_game, None, None, values, mask=mask).score) == 0.75


def test_relevance_mass():
    values, mask = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    values[0, 0, 0], values[0, 3, 3], values[0, 0, 1] = 3, 1, -50  # negative values do not count
    values[1] = -1
    values[2] = 2
    found = run(relevance_mass_accuracy, None, None, values, mask=mask)
    assert found.score[[0, 2]].tolist() == [0.75, 0.5]
    assert found.score[1].isnan()
    assert "image 2: not defined: the map has no positive value." in found.notes


# --- model-parameter randomisation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cascading", [True, False])
def test_mprt_randomises_a_copy_from_the_output_down(cascading):
    model, x = Net(), images(2, 1, 10, 10)
    original, seen = copy.deepcopy(model.state_dict()), []

    def explain_again(x, model):
        seen.append({k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, original[k])})
        return gradients(model, x)

    values, told = gradients(model, x), []
    found = run(
        mprt, model, x, values, cascading=cascading, explain_again=explain_again, progress=lambda *d: told.append(d)
    )
    if cascading:
        assert seen == [{"head"}, {"head", "second"}, {"head", "second", "first"}]
    else:
        assert seen == [{"head"}, {"second"}, {"first"}]
    assert all(torch.equal(v, original[k]) for k, v in model.state_dict().items())
    assert told[-1] == (3, 3)
    assert found.curve.shape == (2, 4)
    assert (found.curve[:, 0] == 1).all()
    assert torch.allclose(found.score, found.curve[:, 1:].mean(1))
    assert "6 weight tensors in 3 groups" in found.notes[0]


@pytest.mark.parametrize("absolute", [True, False])
def test_mprt_compares_by_spearmans_rank_correlation(absolute):
    model, x = Net(1, 3), images(2, 1, 5, 4, 6)
    values, maps = gradients(model, x).relu(), []

    def explain_again(x, model):
        maps.append(gradients(model, x).relu() - 0.01)  # many ties
        return maps[-1]

    found = run(mprt, model, x, values, stages=2, absolute=absolute, explain_again=explain_again)
    for stage in range(2):
        for i in range(2):
            a, b = values[i].flatten(), maps[stage][i].flatten()
            r = spearmanr(a.abs() if absolute else a, b.abs() if absolute else b).statistic
            assert float(found.curve[i, stage + 1]) == pytest.approx(r, abs=1e-6)


def test_mprt_tells_an_explanation_of_the_model_from_one_of_the_image():
    model, x = Net(), images(3, 1, 14, 14)
    edges = (x - F.avg_pool2d(x, 3, 1, 1)).abs().sum(1)
    blind = run(mprt, model, x, edges, explain_again=lambda x, **_: (x - F.avg_pool2d(x, 3, 1, 1)).abs().sum(1))
    assert torch.allclose(blind.score, torch.ones(3))
    values = gradients(model, x)
    seeing = run(mprt, model, x, values)
    assert (seeing.curve[:, -1] < 0.5).all()
    assert (seeing.score < 0.7).all()
    signed = run(mprt, model, x, values, absolute=False)
    assert (signed.curve[:, -1].abs() < 0.5).all()


def test_mprt_of_constant_maps():
    x = images(2, 1, 8, 8)
    values = torch.rand(2, 8, 8)
    values[1] = 4
    found = run(mprt, Net(), x, values, explain_again=lambda *_, **__: torch.zeros(2, 8, 8))
    assert float(found.score[0]) == 0
    assert found.score[1].isnan()
    assert "image 2: not defined: the map is constant." in found.notes


def test_mprt_groups_every_weight_once_also_tied_and_uncalled_ones():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.randn(1, 1, 4))
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.out, self.tied, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(3, 3)
            self.tied.weight = self.out.weight

        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2) + self.token
            return self.tied(self.out(self.attention(tokens, tokens, tokens)[0].mean(1)))

    model = Odd()
    groups = _groups(model, torch.randn(1, 4, 3, 3), 99)
    flat = [id(p) for group in groups for p in group]
    assert sorted(flat) == sorted(map(id, model.parameters()))
    place = {id(p): i for i, group in enumerate(groups) for p in group}
    assert place[id(model.tied.bias)] < place[id(model.out.weight)] < place[id(model.attention.in_proj_weight)]
    assert place[id(model.attention.out_proj.weight)] < place[id(model.token)]
    assert [len(_groups(model, torch.randn(1, 4, 3, 3), n)) for n in (1, 2, 3)] == [1, 2, 3]


def test_mprt_says_when_there_is_nothing_to_randomise_or_to_copy():
    class Uncopied(Net):
        def __deepcopy__(self, memo):
            raise RuntimeError("only leaves can be copied")

    x = images(1, 1, 8, 8)
    with pytest.raises(RequirementError, match="shows none"):
        run(mprt, nn.Flatten(), x, x[:, 0])
    with pytest.raises(ModelError, match="only leaves can be copied"):
        run(mprt, Uncopied(), x, x[:, 0])


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
def test_mprt_reads_torchscript():
    model, x = Net(), images(1, 1, 8, 8)
    plain = nn.Sequential(model.first, nn.Tanh(), model.second, nn.AdaptiveMaxPool2d(1), nn.Flatten(), model.head)
    traced = torch.jit.trace(plain, x)
    before = copy.deepcopy(traced.state_dict())
    found = run(mprt, traced, x, gradients(traced, x))
    assert found.curve.shape == (1, 4)
    assert all(torch.equal(v, before[k]) for k, v in traced.state_dict().items())
