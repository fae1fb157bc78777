"""Robustness against captum, Quantus, second writings from the papers' formulas, and in its edge cases."""

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from metric_toys import SHAPES, Linear, Net, again_on, gradients, images, mask_of, run
from skimage.metrics import structural_similarity
from torch import nn
from toys import images as toy_images
from toys import make as toy

from runners import explain, measure
from runners.measures import robustness
from runners.measures.common import likeness
from runners.measures.copies import moved, same
from runners.measures.robustness import (
    avg_sensitivity,
    consistency_dasgupta,
    continuity,
    cose,
    input_dependence_rate,
    input_independence_rate,
    local_lipschitz,
    max_sensitivity,
    relative_input_stability,
    relative_output_stability,
    relative_representation_stability,
    repeatability_ssim,
)
from runners.registry import seeded
from taxonomy.errors import ModelError, RequirementError, TargetError


def noises(x, radius, samples):
    """The noise that the metrics draw with seed 0, ``(samples, B, C, *spatial)``."""
    draw, axes = seeded(0), tuple(range(2, x.ndim))
    reach = radius * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))
    return torch.stack([reach * (torch.rand(x.shape[1:], generator=draw) * 2 - 1) for _ in range(samples)])


@pytest.mark.parametrize("shape", SHAPES)
def test_max_sensitivity_is_captums_for_the_same_noise(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values = gradients(model, x)
    found = run(max_sensitivity, model, x, values, samples=4, radius=0.1)
    drawn = noises(x, 0.1, 4)

    def only(inputs):
        return inputs[0] if isinstance(inputs, tuple) else inputs

    def perturb(inputs):  # captum repeats every image 4 times in a row
        return only(inputs) + drawn.transpose(0, 1).flatten(0, 1)

    theirs = sensitivity_max(lambda pictures: (gradients(model, only(pictures)),), x, perturb, n_perturb_samples=4)
    assert torch.allclose(found.score, theirs, atol=1e-4)


def test_max_sensitivity_of_a_constant_explanation_is_zero_and_of_no_map_undefined():
    x, values = images(2, 1, 8, 8), torch.ones(2, 8, 8)
    values[1] = 0
    told = []
    found = run(
        max_sensitivity,
        Net(),
        x,
        values,
        explain_again=lambda copies, **_: values.repeat(len(copies) // 2, 1, 1),
        progress=lambda *done: told.append(done),
    )
    assert float(found.score[0]) == 0
    assert found.score[1].isnan()
    assert found.notes[-1] == "image 2: not defined: the map is all zero."
    assert told[-1] == (10, 10)


@pytest.mark.parametrize("metric", [max_sensitivity, relative_representation_stability, continuity])
def test_chunks_change_nothing_and_are_kept(metric):
    x, sizes = images(2, 1, 9, 9), []
    model = Net()
    values = gradients(model, x)

    def explain_again(copies, **given):
        sizes.append(len(copies))
        return again_on(model)(copies, **given)

    whole = run(metric, model, x, values, batch_size=99, explain_again=explain_again)
    assert len(sizes) == 1
    sizes.clear()
    parts = run(metric, model, x, values, batch_size=5, explain_again=explain_again)
    assert max(sizes) == 4  # two copies of both images
    assert torch.allclose(whole.score, parts.score, rtol=1e-4)


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("shape", SHAPES)
def test_closed_forms_of_a_linear_model(shape):
    """Input times gradient of ``w x`` is ``w x``: it changes by ``w`` times the noise, relatively as the image does."""
    model, x = Linear(*shape[1:]), images(*shape)
    values = gradients(model, x)
    given = {"samples": 5, "radius": 0.05}
    drawn = noises(x, 0.05, 5)
    change = (drawn * model.weight).sum(2).flatten(2).norm(dim=2)
    assert torch.allclose(
        run(avg_sensitivity, model, x, values, **given).score, change.mean(0) / values.flatten(1).norm(dim=1), rtol=1e-4
    )
    by = drawn.flatten(2).norm(dim=2)
    lipschitz = run(local_lipschitz, model, x, values, normalise=False, **given)
    assert torch.allclose(lipschitz.score, (change / by).amax(0), rtol=1e-4)
    gradient = (model.weight.sum(0)).expand_as(values)
    constant = run(
        local_lipschitz, model, x, gradient, explain_again=lambda c, **_: gradient.repeat(5, *[1] * (c.ndim - 2))
    )
    assert torch.equal(constant.score, torch.zeros(len(x)))


def test_relative_stability_of_a_linear_model():
    model, x = Linear(1, 8, 8), images(2, 1, 8, 8)
    values = gradients(model, x)
    found = run(relative_input_stability, model, x, values, floor=0.0, samples=6, radius=1e-3)
    assert torch.allclose(found.score, torch.ones(2), rtol=1e-3)
    drawn = noises(x, 1e-3, 6).double()
    upper = (drawn / x).flatten(2).norm(dim=2)
    lower = (drawn * model.weight).flatten(2).sum(2).abs()
    held = lower <= 0.1 * model(x).abs().double().T  # one output is a regression: a tenth off is another answer
    found = run(relative_output_stability, model, x, values, floor=0.0, samples=6, radius=1e-3)
    assert torch.allclose(found.score, (upper / lower).where(held, 0).amax(0).float(), rtol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_relative_stabilities_against_a_slow_second_writing(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values, drawn = gradients(model, x), noises(x, 0.6, 6)
    features = {}
    model.second.register_forward_hook(lambda _m, _i, out: features.update(out=out))
    expected = {"input": [], "output": [], "representation": []}
    kept = []
    for i in range(len(x)):
        ratios = {key: [] for key in expected}
        for noise in drawn[:, i : i + 1]:
            own, own_features = model(x[i : i + 1]), features["out"]
            new, new_features = model(x[i : i + 1] + noise), features["out"]
            kept.append(bool(own.argmax() == new.argmax()))
            if not kept[-1]:
                continue

            def relative(a, b):
                size = a.abs().clamp_min(0.01 * a.abs().max())
                return float(((b - a) / size).double().norm())

            top = relative(values[i], gradients(model, x[i : i + 1] + noise)[0])
            ratios["input"].append(top / relative(x[i], (x[i : i + 1] + noise)[0]))
            ratios["output"].append(top / float((new - own).norm()))
            ratios["representation"].append(top / relative(own_features, new_features))
        for key, found in ratios.items():
            expected[key].append(max(found))
    assert any(kept)
    assert not all(kept) or len(shape) == 5  # the test sees what must be left out
    given = {"radius": 0.6, "samples": 6}
    for metric, key in (
        (relative_input_stability, "input"),
        (relative_output_stability, "output"),
        (relative_representation_stability, "representation"),
    ):
        more = {"layer": "second"} if key == "representation" else {}
        found = run(metric, model, x, values, **given, **more)
        assert torch.allclose(found.score, torch.tensor(expected[key]), rtol=1e-3), key
        assert any("decides otherwise on" in note for note in found.notes) is not all(kept)


def test_representation_stability_needs_features():
    model, x = Linear(1, 8, 8), images(1, 1, 8, 8)
    with pytest.raises(RequirementError, match="keeps the layout"):
        run(relative_representation_stability, model, x, gradients(model, x))
    with pytest.raises(ModelError, match="layer 'nowhere'"):
        run(relative_representation_stability, Net(), x, x[:, 0], layer="nowhere")


@pytest.mark.parametrize("shape", SHAPES)
def test_continuity_against_a_slow_second_writing(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values, width = gradients(model, x), shape[-1]
    found = run(continuity, model, x, values, reach=0.5, steps=5)
    dark = x.amin(tuple(range(2, x.ndim)), keepdim=True)
    expected = torch.zeros(len(x))
    for by in {round(f * max(1, round(0.5 * width))) for f in (-1, -0.5, 0.5, 1)}:
        copy = dark.expand_as(x).clone()
        for column in range(width):
            if 0 <= column - by < width:
                copy[..., column] = x[..., column - by]
        new = gradients(model, copy)
        a, b = (m / m.flatten(1).abs().amax(1).view(-1, *[1] * (m.ndim - 1)) for m in (values, new))
        ratio = (a - b).flatten(1).abs().sum(1) / (copy - x).flatten(1).norm(dim=1)
        expected = expected.maximum(ratio)
    assert torch.allclose(found.score, expected, rtol=1e-4)


def test_moved():
    row = torch.tensor([[1, 2, 3, 4]])
    new = torch.tensor([[5, 6, 7, 8]])
    assert moved(row, 1, 1, new).tolist() == [[5, 1, 2, 3]]
    assert moved(row, -3, 1, new).tolist() == [[4, 6, 7, 8]]
    assert moved(row, 9, 1, new).tolist() == new.tolist()
    assert moved(row, 0, 1, new) is row


def test_what_counts_as_the_same_decision():
    assert same(torch.tensor([1, 2]), torch.tensor([1, 0])).tolist() == [True, False]
    assert same(torch.tensor([10.0, -10.0, 0.0]), torch.tensor([10.9, -11.1, 0.1])).tolist() == [True, False, False]
    a = torch.zeros(3, 4, 5, dtype=torch.long)
    b = a.clone()
    a[1:, :2], b[1:, :2] = 1, 1
    b[1, 3, 0] = 1  # 10 of 11: a Dice of 0.95
    b[2, 0, :3] = 2  # another structure is no overlap
    assert same(a, b).tolist() == [True, True, False]


# ---------------------------------------------------------------- Quantus


def quantus_given(drawn):
    """What Quantus needs: the same noise, and no softmax."""
    left = iter(drawn)

    def perturb(arr, **_):
        return arr + next(left).reshape(arr.shape).numpy()

    def explain_func(model, inputs, targets, **_):  # noqa: ARG001
        return gradients(model, torch.as_tensor(np.asarray(inputs)).float())[:, None].numpy()

    return {"perturb_func": perturb, "disable_warnings": True}, {"explain_func": explain_func, "softmax": False}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "metric", "settings", "ours"),
    [
        ("AvgSensitivity", avg_sensitivity, {"normalise": False}, {}),
        ("MaxSensitivity", max_sensitivity, {"normalise": False}, {}),
        ("LocalLipschitzEstimate", local_lipschitz, {"normalise": True}, {}),
        ("RelativeInputStability", relative_input_stability, {}, {"floor": 0.0}),
        ("RelativeOutputStability", relative_output_stability, {}, {"floor": 0.0}),
        (
            "RelativeRepresentationStability",
            relative_representation_stability,
            {"layer_names": ["second"]},
            {"floor": 0.0, "layer": "second"},
        ),
    ],
)
def test_values_of_quantus_for_the_same_noise(name, metric, settings, ours):
    """2D classification only: Quantus takes neither volumes nor segmentations."""
    quantus = pytest.importorskip("quantus")
    model, x = Net(2).eval(), images(2, 2, 9, 9)
    values = gradients(model, x)
    drawn = noises(x, 0.02, 4)
    found = run(metric, model, x, values, samples=4, **ours)
    for i in range(2):
        init, call = quantus_given(drawn[:, i])
        theirs = getattr(quantus, name)(nr_samples=4, **init, **settings)(
            model=model,
            x_batch=x[i : i + 1].numpy(),
            y_batch=np.array([0]),
            a_batch=values[i : i + 1, None].numpy(),
            **call,
        )
        assert float(found.score[i]) == pytest.approx(float(theirs[0]), rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_continuity_of_quantus():
    """All shifts over the whole width, which it cannot do in as many steps as there are; its first equals our last."""
    quantus = pytest.importorskip("quantus")
    model, x = Net(1).eval(), images(1, 1, 9, 9)
    _, call = quantus_given([])
    theirs = quantus.Continuity(nr_steps=18, abs=False, normalise=True, disable_warnings=True)(
        model=model, x_batch=x.numpy(), y_batch=np.array([0]), a_batch=gradients(model, x)[:, None].numpy(), **call
    )
    found = run(continuity, model, x, gradients(model, x), reach=1.0, steps=19)
    assert float(found.score[0]) == pytest.approx(float(theirs[0]), rel=1e-3)


# ---------------------------------------------------------------- same explanation, same decision


class Brighter(nn.Module):
    """Decides by the sign of the mean."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack([mean, -mean], 1)


def test_consistency_counts_copies_with_the_same_explanation():
    model, x = Brighter(), images(2, 1, 8, 8)
    values = torch.zeros(2, 8, 8)
    values[:, 0, 0] = 1
    calls = []

    def explain_again(copies, **_):
        maps = torch.zeros(len(copies), 8, 8)
        for row in range(len(copies)):
            at = 0 if (len(calls) + row) // 2 % 2 == 0 else 7  # every other copy is explained by another corner
            maps[row, at, at] = 1
        calls.extend(copies)
        return maps

    found = run(consistency_dasgupta, model, x, values, samples=8, radius=3.0, explain_again=explain_again)
    decisions = model(x).argmax(1)
    copies = torch.stack(calls).view(8, 2, 1, 8, 8)
    expected = [float((model(copies[::2, i]).argmax(1) == decisions[i]).float().mean()) for i in range(2)]
    assert found.score.tolist() == pytest.approx(expected)
    assert expected != [1, 1]
    assert "4, 4 of them are explained by the same cell of 4 per axis" in found.notes[0]
    size = (copies - x).abs().flatten(2).amax(2)
    assert (size[-1] > size[0]).all()  # from slight to strong
    nowhere = run(consistency_dasgupta, model, x, values, explain_again=lambda c, **_: c.new_ones(len(c), 8, 8).triu(1))
    assert nowhere.score.isnan().all()


def test_consistency_explains_what_the_model_decides_on_a_copy():
    model, x, seen = Net(), images(1, 1, 8, 8), []

    def explain_again(copies, *, score, **_):
        with torch.no_grad():
            outputs = model(copies)
        seen.append((outputs, score(outputs, torch.arange(len(copies)))))
        return gradients(model, copies, score)

    run(consistency_dasgupta, model, x, gradients(model, x), radius=3.0, explain_again=explain_again)
    own = int(model(x).argmax())
    changed = 0
    for outputs, scores in seen:
        for row, number in zip(outputs, scores, strict=True):
            other = int(row.argmax()) != own
            assert float(number) == float(row.max() if other else row[0])
            changed += other
    assert changed


# ---------------------------------------------------------------- COSE


@pytest.mark.parametrize("shape", SHAPES)
def test_cose_rewards_maps_that_stay_with_the_decision_and_go_with_it(shape):
    torch.manual_seed(0)
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values = x.abs().sum(1)

    def of_the_image(images, model=model, **_):  # noqa: ARG001
        return images.abs().sum(1)

    def of_the_model(images, model=model, **_):
        found = images.abs().sum(1)
        return found if model is the_model else torch.randn(found.shape, generator=seeded(1))

    the_model = model
    blind = run(cose, model, x, values, explain_again=of_the_image)
    seeing = run(cose, model, x, values, explain_again=of_the_model)
    assert (blind.score < 0.5).all()
    assert (seeing.score > blind.score + 0.2).all()
    assert all("sensitivity 0." in note for note in blind.notes[1:])


def test_cose_brings_maps_back_to_their_place():
    """An explanation that follows its image exactly: 1 under every flip and shift."""
    x = images(2, 1, 20, 16)
    for change, undo, counted in robustness._transforms(x)[:6]:
        back = undo(change(x)[:, 0])
        assert torch.equal(back[:, counted], x[:, 0][:, counted])
        assert counted.float().mean() > 0.9
    volume = images(1, 1, 6, 7, 8)
    assert len(robustness._transforms(volume)) == 3 + 6 + 5
    found = run(cose, Brighter(), x + 9, x[:, 0], explain_again=lambda copies, **_: copies[:, 0] - 9)
    consistency = [float(note.split("consistency ")[1].split()[0]) for note in found.notes[1:3]]
    assert min(consistency) > 0.8  # all decisions held; what is not brought back is nothing like the first map


def test_likeness_is_skimages_ssim_and_defined_for_empty_maps():
    a, b = images(2, 12, 9), images(2, 9, 12).transpose(1, 2) * 5
    for maps, up in (((a, b), 1), ((a.abs(), b.abs()), 0)):
        for i, found in enumerate(likeness(*maps).tolist()):
            one, other = (m[i].double().numpy() / float(m[i].abs().max()) + up for m in maps)
            assert found == pytest.approx(structural_similarity(one, other, data_range=1 + up))
    assert (likeness(a, -a) < 0).all()
    zero = torch.zeros(1, 12, 9)
    assert likeness(zero, a[:1]).isnan().all()
    assert likeness(a[:1], zero).tolist() == [0]
    assert likeness(a, 3 * a).tolist() == pytest.approx([1, 1])


# ---------------------------------------------------------------- trained again


def test_repeatability_is_one_for_the_same_model_and_follows_the_members():
    model, x = Net(), images(2, 1, 9, 9)
    values = gradients(model, x)
    assert run(repeatability_ssim, model, x, values, members=(model, model)).score.tolist() == pytest.approx([1, 1])
    told = []
    other = run(repeatability_ssim, model, x, values, progress=lambda *done: told.append(done))
    assert (other.score < 0.9).all()
    assert told == [(1, 2), (2, 2)]


def test_members_may_be_of_another_architecture_and_must_be_there():
    model, member, x = toy("cnn2d"), toy("vit_fused"), toy_images("cnn2d")
    explanation = explain(model, x, "grad_cam", 1)
    with pytest.raises(RequirementError, match="give members="):
        measure("repeatability_ssim", model, x, explanation, 1)
    found = measure("repeatability_ssim", model, x, explanation, 1, members=[member])
    expected = likeness(explanation.values, explain(member, x, "grad_cam", 1).values)
    assert torch.allclose(found.score, expected.float(), atol=1e-5)


# ---------------------------------------------------------------- patches


class Blind(nn.Module):
    """Looks at the left half of an image only."""

    def forward(self, x):
        half = x[..., : x.shape[-1] // 2].flatten(1)
        return torch.stack([half.sum(1), half.abs().sum(1)], 1)


def test_input_independence_asks_of_patches_that_change_nothing():
    model, x = Net(), images(2, 1, 16, 16)
    values = gradients(model, x)
    stays = run(input_independence_rate, model, x, values, explain_again=lambda *_, **__: values)
    assert stays.score.tolist() == [1, 1]
    gone = run(
        input_independence_rate, model, x, values, explain_again=lambda c, **_: values.flip(1) + c.square().sum(1)
    )
    assert (gone.score < 1).all()
    shown = []

    def explain_again(copies, **_):
        shown.append(copies)
        return values

    run(input_independence_rate, model, x, values, explain_again=explain_again)
    for copies in shown:
        assert ((model(copies) - model(x)).norm(dim=1) <= 0.021 * model(x).norm(dim=1)).any()
        assert ((copies != x).flatten(1).double().mean(1) <= 1 / 16 + 1e-6).all()
        assert (copies.amax((1, 2, 3)) <= x.amax((1, 2, 3)) + 1e-5).all()
    assert all("of 4 patches leave it so; they change the image by" in note for note in stays.notes[1:])
    blind = Blind()
    untouched = run(input_independence_rate, blind, x, gradients(blind, x), side=0.2, steps=9)
    assert untouched.score.isfinite().all()


def test_input_independence_needs_gradients():
    model, x = toy("box"), toy_images("box")
    explanation = explain(model, x, "occlusion", 1)
    with pytest.raises(RequirementError, match="needs gradients"):
        measure("input_independence_rate", model, x, explanation, 1)


def test_input_dependence_compares_the_object_with_what_it_covers():
    model, x = Net(), images(3, 1, 10, 10)
    mask = mask_of(x)
    without = x.where(~mask[:, None], 0.0)
    low, high = torch.rand(3, 10, 10), torch.rand(3, 10, 10)
    low[mask], high[mask] = 0.1, 0.9

    def told(values, before):
        given = {"mask": mask, "reference": without, "explain_again": lambda *_, **__: before}
        return run(input_dependence_rate, model, x, values, **given).score.tolist()

    assert told(low, high) == [1, 1, 1]
    assert told(high, low) == [0, 0, 0]
    assert all(one != one for one in told(-high, low))
    with pytest.raises(TargetError, match="2 reference images were given for 3"):
        run(input_dependence_rate, model, x, low, mask=mask, reference=without[:2])
    with pytest.raises(TargetError, match="outside the mask"):
        run(input_dependence_rate, model, x, low, mask=mask, reference=without + 1)
    with pytest.raises(RequirementError, match="give reference="):
        measure("input_dependence_rate", toy("cnn2d"), toy_images("cnn2d"), None, 1)


# ---------------------------------------------------------------- segmentation


@pytest.mark.parametrize(
    "metric", ["avg_sensitivity", "continuity", "relative_output_stability", "consistency_dasgupta", "cose"]
)
@pytest.mark.parametrize("name", ["unet2d", "unet3d"])
def test_segmentation_batch_is_single(metric, name):
    model, x = toy(name), toy_images(name)
    explanation = explain(model, x, "input_x_gradient")
    few = {"samples": 4} if metric != "cose" and metric != "continuity" else {}
    whole = measure(metric, model, x, explanation, **few)
    alone = measure(metric, model, x[1:], explain(model, x[1:], "input_x_gradient"), **few)
    assert torch.allclose(whole.score[1:], alone.score, rtol=1e-3, atol=1e-4, equal_nan=True)
