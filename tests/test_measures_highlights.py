"""What is highlighted: closed forms, a slow second writing, torchcam, and nearest reference images."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from metric_toys import SHAPES, Net, confidence, gradients, images, run
from torchcam.metrics import ClassificationMetric

from runners.baselines import baseline
from runners.measures.highlights import adcc, average_drop, average_gain, average_increase, sufficiency
from runners.registry import no_progress, seeded


def shown_of(x, values, kind):
    heat = values.clamp(min=0)
    heat = heat / heat.flatten(1).amax(1).view(-1, *[1] * (heat.ndim - 1))
    base = baseline(x, kind, seeded(0))
    return heat[:, None] * x + (1 - heat[:, None]) * base, heat


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sign", [1, -1])
def test_drop_gain_and_increase_are_the_papers(shape, sign):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values = torch.randn(3, *shape[2:], generator=seeded(8))

    def belief(outputs, _rows):
        return (sign * outputs[:, 1]).sigmoid()

    shown, _ = shown_of(x, values, "blur")
    before, after = belief(model(x), None), belief(model(shown), None)
    assert (before - after).abs().min() > 0.001
    given = {"confidence": belief}
    expected = 100 * (before - after).clamp(min=0) / before
    assert torch.allclose(run(average_drop, model, x, values, **given).score, expected, atol=1e-3)
    expected = 100 * (after - before).clamp(min=0) / (1 - before)
    assert torch.allclose(run(average_gain, model, x, values, **given).score, expected, atol=1e-3)
    found = run(average_increase, model, x, values, **given)
    assert torch.equal(found.score, 100.0 * (after > before))
    assert f"image 1: confidence {before[0]:.3g}, of what is highlighted {after[0]:.3g}." in found.notes


def test_drop_and_increase_match_torchcams():
    model, x = Net(2), images(2, 2, 8, 8)
    values = torch.rand(2, 8, 8, generator=seeded(8))
    values = values / values.flatten(1).amax(1)[:, None, None]

    class Extractor:
        def __init__(self):
            self.model, self._hooks_off, self.fuse_cams = model, nullcontext, lambda maps: maps[0]

        def __call__(self, *_, **__):
            return [values]

    peer = ClassificationMetric(Extractor(), partial(torch.softmax, dim=-1))
    peer.update(x, 1)
    found = peer.summary()
    given = {"baseline": "zero", "confidence": lambda outputs, _: outputs.softmax(1)[:, 1]}
    assert float(run(average_drop, model, x, values, **given).score.mean()) == pytest.approx(
        100 * float(found["avg_drop"]), abs=1e-3
    )
    assert float(run(average_increase, model, x, values, **given).score.mean()) == pytest.approx(
        100 * float(found["conf_increase"]), abs=1e-3
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_adcc_is_the_harmonic_mean_of_its_three_parts(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values = gradients(model, x)
    found = run(adcc, model, x, values)
    shown, heat = shown_of(x, values, "blur")
    again = gradients(model, shown).clamp(min=0)
    for i in range(3):
        before, after = (float(confidence(model(one[i : i + 1]), None)) for one in (x, shown))
        r = float(torch.corrcoef(torch.stack([heat[i].flatten(), again[i].flatten()]))[0, 1])
        parts = [1 - max(0, before - after) / before, (r + 1) / 2, 1 - float(heat[i].mean())]
        assert float(found.score[i]) == pytest.approx(3 / sum(1 / part for part in parts), abs=1e-4)


def test_what_cannot_be_said_is_not_a_number():
    model, x = Net(), images(2, 1, 9, 9)
    for function in (average_drop, average_gain, average_increase, adcc):
        found = run(function, model, x, x[:, 0], confidence=None)
        assert found.score.isnan().all()
        assert "the target is no probability" in found.notes[0]
    found = run(adcc, model, x, -x[:, 0].abs())
    assert found.score.isnan().all()
    assert "the map no positive value" in found.notes[-1]
    assert run(average_drop, model, x, x[:, 0], confidence=lambda o, _: 0 * o[:, 0]).score.isnan().all()
    assert run(average_gain, model, x, x[:, 0], confidence=lambda o, _: 1 + 0 * o[:, 0]).score.isnan().all()
    assert run(sufficiency, model, x, x[:, 0], decision=None).score.isnan().all()


def test_sufficiency_asks_the_references_whose_maps_are_nearest():
    """The map is the image here; half of the references look like it and are decided alike."""
    model, x = Net(), images(2, 1, 9, 9)
    other = torch.randn(4, 1, 9, 9, generator=seeded(3))
    alike = x[:1] + torch.randn(4, 1, 9, 9, generator=seeded(4)) / 4
    reference = torch.cat([other, alike])[torch.randperm(8, generator=seeded(2))]

    def decision(outputs, rows):
        assert (rows == rows[0]).all()
        return torch.ones(len(outputs))

    asked = []

    def explain_again(given, *, score=None):
        asked.append(score(model(given), torch.arange(len(given))))
        return given[:, 0]

    given = {"reference": reference, "explain_again": explain_again, "neighbours": 4}
    rows = []

    def own(outputs, at):
        rows.append(at.tolist())
        return outputs[:, 0]

    found = sufficiency(model, x, own, x[:, 0], decision=decision, progress=no_progress, generator=seeded(0), **given)
    assert found.score.tolist() == [1, 1]
    assert rows == [[0] * 8, [1] * 8]  # the target of each image
    assert len(asked) == 2

    means = []

    def by_likeness(outputs, _rows):
        means.append(len(outputs))
        return torch.tensor([1.0, 1, 1, 0, 0])[: len(outputs)]

    found = run(sufficiency, model, x[:1], x[:1, 0], decision=by_likeness, **given)
    assert means == [5]
    assert float(found.score) == 0.5
    assert "correlate with this one by 0.9" in found.notes[1]
    assert "the 4 nearest of 8 reference images" in found.notes[0]


def test_highlights_cost_two_rows_and_calls_stay_small():
    model, x = Net(), images(4, 1, 9, 9)
    run(average_drop, model, x, x[:, 0], batch_size=3)
    assert (model.rows, model.largest) == (8, 3)
