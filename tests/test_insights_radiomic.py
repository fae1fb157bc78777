"""Measures of images against closed forms and second writings; a model is tied to what it reads, noise to nothing."""

import itertools
import math

import numpy as np
import pytest
import torch
from planted import case, cohort, concepts, network
from torch import nn

from runners import Cohort, Owned, discover
from runners.beyond.radiomic import LEVELS, MEASURES, _walks, measured, measured_concepts, table
from runners.discovery import MEASURED_CONCEPTS
from runners.registry import seeded
from taxonomy.errors import RequirementError, TargetError


def noise(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed))


def disc(side=61, radius=15, dims=2):
    axes = torch.meshgrid(*[torch.arange(side) - side // 2] * dims, indexing="ij")
    return sum(a.square() for a in axes) <= radius**2


def test_every_measure_is_described_and_exists_where_it_says():
    whole, region = measured(noise(1, 20, 22)), measured(noise(1, 30, 32), disc(32, 6)[:30])
    volume = measured(noise(1, 24, 24, 24), disc(24, 5, 3))
    assert set(whole) | set(region) == set(MEASURES)
    assert set(region) - set(whole) == {name for name, one in MEASURES.items() if one.region}
    assert set(region) - set(volume) == {name for name, one in MEASURES.items() if one.flat}
    assert all(math.isfinite(v) for v in (*whole.values(), *region.values(), *volume.values()))
    assert all(one.text.endswith(".") for one in MEASURES.values())


def test_first_order_measures_are_those_of_scipy():
    from scipy import stats

    x = noise(2, 30, 31).exp()
    grey = x.double().mean(0).flatten().numpy()
    found = measured(x)
    assert found["brightness"] == pytest.approx(grey.mean())
    assert found["contrast"] == pytest.approx(grey.std())
    assert found["bright tail"] == pytest.approx(stats.skew(grey))
    assert found["outlying spots"] == pytest.approx(stats.kurtosis(grey))
    assert 0 < found["disorder"] <= 5
    assert measured(torch.arange(3200.0).view(1, 40, 80))["disorder"] == pytest.approx(5, abs=0.05)


@pytest.mark.parametrize("region", [False, True])
def test_texture_is_that_of_a_loop_over_neighbours(region):
    x = noise(1, 14, 15)
    mask = disc(15, 5)[:14] if region else None
    where = np.ones((14, 15), bool) if mask is None else mask.numpy()
    grey = x[0].double().numpy()
    low, high = np.percentile(grey[where], (1, 99))
    level = np.clip((grey - low) / (high - low) * LEVELS, 0, LEVELS - 1).astype(int)
    pairs = np.zeros((LEVELS, LEVELS))
    for i, j in itertools.product(range(14), range(15)):
        for a, b in itertools.product((-1, 0, 1), repeat=2):
            k, m = i + a, j + b
            if (a or b) and 0 <= k < 14 and 0 <= m < 15 and where[i, j] and where[k, m]:
                pairs[level[i, j], level[k, m]] += 1
    pairs /= pairs.sum()
    i, j = np.indices(pairs.shape)
    mean = (pairs * i).sum()
    found = measured(x, mask)
    assert found["texture contrast"] == pytest.approx((pairs * (i - j) ** 2).sum())
    assert found["texture smoothness"] == pytest.approx((pairs / (1 + (i - j) ** 2)).sum())
    assert found["texture order"] == pytest.approx((pairs**2).sum())
    assert found["texture coherence"] == pytest.approx(
        (pairs * (i - mean) * (j - mean)).sum() / (pairs * (i - mean) ** 2).sum()
    )


def test_texture_of_a_volume_is_that_of_its_slices_together():
    flat = noise(1, 12, 12)
    volume = flat[:, None].expand(1, 5, 12, 12)
    a, b = measured(flat), measured(volume)
    assert all(
        a[name] == pytest.approx(b[name], rel=0.15)
        for name in ("texture contrast", "texture order", "texture coherence")
    )


@pytest.mark.parametrize("flat", [(slice(2, 3), slice(1, 4), slice(1, 4)), (slice(2, 3),) * 3], ids=["slice", "voxel"])
def test_a_flat_region_of_a_volume_has_no_smoothness_and_says_so_quietly(flat):
    region = torch.zeros(6, 6, 6, dtype=torch.bool)
    region[flat] = True
    found = measured(noise(1, 6, 6, 6), region)
    assert math.isnan(found["margin smoothness"])
    assert math.isfinite(found["elongation"])
    region[1:4, 1:4, 1:4] = True
    assert 0 < measured(noise(1, 6, 6, 6), region)["margin smoothness"] <= 1


def test_shapes_have_their_closed_forms():
    round_ = measured(noise(1, 61, 61), disc())
    assert round_["roundness"] == pytest.approx(1, abs=0.05)
    assert round_["size"] == pytest.approx(math.pi * 15**2 / 61**2, rel=0.02)
    assert round_["elongation"] == pytest.approx(0, abs=0.02)
    assert round_["taller than wide"] == 1
    assert round_["margin smoothness"] > 0.9
    box = torch.zeros(61, 61, dtype=torch.bool)
    box[10:50, 20:30] = True
    long = measured(noise(1, 61, 61), box)
    assert long["taller than wide"] == 4
    assert long["elongation"] == pytest.approx(0.75, abs=0.01)
    star = disc(61, 8)
    star[30, :] = star[:, 30] = True
    spiky = measured(noise(1, 61, 61), star)
    assert spiky["roundness"] < 0.4
    assert spiky["margin smoothness"] < 0.5
    ball = measured(noise(1, 25, 25, 25), disc(25, 9, 3))
    assert ball["roundness"] == pytest.approx(1, abs=0.08)
    assert ball["elongation"] == pytest.approx(0, abs=0.02)


def test_ultrasound_signs_are_seen():
    background = 0.1 * noise(1, 60, 60)
    mask = torch.zeros(60, 60, dtype=torch.bool)
    mask[15:30, 22:38] = True
    dark, shadow, enhanced = background.clone(), background.clone(), background.clone()
    for one in (dark, shadow, enhanced):
        one[0][mask] -= 1
    shadow[0, 30:, 22:38] -= 0.8
    enhanced[0, 30:, 22:38] += 0.8
    found = [measured(one, mask) for one in (dark, shadow, enhanced)]
    assert all(one["echogenicity"] < -1 for one in found)
    assert found[1]["posterior echo"] < -1 < -0.2 < found[0]["posterior echo"] < 0.2 < 1 < found[2]["posterior echo"]
    soft = torch.nn.functional.avg_pool2d(dark[None], 9, 1, 4)[0]
    assert measured(soft, mask)["margin sharpness"] < 0.6 * found[0]["margin sharpness"]
    low = torch.zeros(60, 60, dtype=torch.bool)
    low[40:59, 22:38] = True
    assert math.isnan(measured(background, low)["posterior echo"])  # nothing of the image lies below


def test_grain_edges_and_asymmetry():
    smooth = torch.linspace(0, 1, 40).view(1, 40, 1).expand(1, 40, 40)
    assert measured(smooth)["fine grain"] < 0.01 < 0.5 < measured(noise(1, 40, 40))["fine grain"]
    assert measured(smooth)["asymmetry"] == 0
    assert measured(smooth.transpose(1, 2))["asymmetry"] > 1
    assert measured(smooth)["edge strength"] < measured(noise(1, 40, 40))["edge strength"]
    flat = measured(torch.ones(1, 9, 9))
    assert all(math.isfinite(v) for v in flat.values())


def test_tiny_regions_are_measured_and_empty_ones_told():
    x, mask = noise(1, 9, 9), torch.zeros(9, 9, dtype=torch.bool)
    with pytest.raises(TargetError, match="marks nothing"):
        measured(x, mask)
    mask[4, 4] = True
    found = measured(x, mask)
    assert found["size"] == pytest.approx(1 / 81)
    assert math.isnan(found["texture contrast"])


def test_concepts_are_made_of_a_cohort_for_who_has_none():
    x = noise(30, 1, 12, 12) * torch.linspace(1, 3, 30).view(-1, 1, 1, 1)
    made = measured_concepts(Cohort(x), low=True)
    assert "much contrast" in made
    assert len(made["much contrast"].x) == 10
    assert float(made["much contrast"].x.std()) > float(made["little contrast"].x.std())
    values, names = table(x)
    top = values[:, names.index("brightness")].argsort(descending=True)[:10]
    assert torch.equal(made["much brightness"].x, x[top])
    masked = measured_concepts(Cohort(x, masks=(x[:, 0] > 0)))
    assert masked["much size"].masks is not None
    with pytest.raises(TargetError, match="at least 3"):
        measured_concepts(Cohort(x[:6]))
    with pytest.raises(TargetError, match="share"):
        measured_concepts(Cohort(x), 0.9)


def test_made_concepts_answer_without_labels():
    made = {k: v for k, v in measured_concepts(cohort()).items() if k in ("much bright tail", "much asymmetry")}
    form = discover(network(), case()[0], "tcav", 1, owned=Owned(cohort=cohort(), concepts=made), samples=60).form
    at = form.names.index("much bright tail")  # a bright blob on noise
    assert form.scores[at] > 0.9
    assert form.p_values[at] < 0.05


def test_a_method_that_needs_concepts_and_is_given_none_makes_them():
    asked = {"samples": 40, "runs": 20}
    own = discover(network(), case()[0], "tcav", 1, owned=Owned(cohort=cohort()), **asked)
    given = Owned(cohort=cohort(), concepts=measured_concepts(cohort()))
    assert torch.equal(own.form.scores, discover(network(), case()[0], "tcav", 1, owned=given, **asked).form.scores)
    assert MEASURED_CONCEPTS in own.notes
    with pytest.raises(RequirementError, match="or a cohort to measure them on"):
        discover(network(), case()[0], "tcav", 1)


class Brightness(nn.Module):
    """One feature is the mean, one the spread, one noise of no meaning; the score is 2 mean - spread."""

    def __init__(self, noisy: bool = False):
        super().__init__()
        self.noisy = noisy
        self.head = nn.Linear(3, 1, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[2.0, -1.0, 0.0]]))

    def forward(self, x):
        flat = x.flatten(1)
        odd = torch.frac(flat.double().sum(1) * 1e4).to(x)
        parts = [flat.mean(1), flat.std(1), odd]
        return self.head(torch.stack([odd, 0 * odd, odd] if self.noisy else parts, 1))


def world(count=80):
    g = seeded(4)
    level, size = torch.rand(2, count, 1, 1, 1, generator=g)
    return Cohort(torch.randn(count, 1, 10, 10, generator=g) * (0.5 + size) + 4 * level)


def told(method, model, **more):
    x = world(3).x[:1] + 1
    return discover(model.eval(), x, method, owned=Owned(cohort=world(), **more), task="regression", **{
        "rad4xcnn": {"samples": 400, "runs": 20}, "radiomics_shap": {"trees": 60, "orders": 20, "references": 10}
    }[method])  # fmt: skip


def test_features_are_tied_to_what_they_compute_and_noise_to_nothing():
    found = told("rad4xcnn", Brightness())
    at = {name: k for k, name in enumerate(found.form.names)}
    for name in ("brightness", "contrast"):
        assert float(found.form.values[at[name]]) == pytest.approx(1, abs=0.01)
    assert any("Feature 0 goes with brightness" in note for note in found.notes)
    assert abs(float(found.form.values[at["asymmetry"]])) < 0.5
    random = told("rad4xcnn", Brightness(noisy=True))
    assert random.form.measures["measures that a feature goes with (corrected p up to 0.05)"] == 0
    assert any("No feature goes with" in note for note in random.notes)


def test_shapley_values_of_measures_find_what_the_score_reads_and_say_when_it_reads_none():
    found = told("radiomics_shap", Brightness())
    assert found.form.names[0] == "brightness"
    measures = found.form.measures
    assert measures["fidelity of the surrogate (R² on images left out)"] > 0.8
    assert float(found.form.values.sum()) == pytest.approx(
        measures["answer of the surrogate"] - measures["its mean over the cohort"], abs=1e-4
    )
    random = told("radiomics_shap", Brightness(noisy=True))
    assert random.form.measures["fidelity of the surrogate (R² on images left out)"] < 0.2
    assert any("most of what" in caution for caution in random.cautions)
    again = told("radiomics_shap", Brightness())
    assert torch.equal(again.form.values, found.form.values)


def test_walks_give_the_shapley_values_of_all_orders():
    def predict(rows):
        return rows[:, 0] * rows[:, 1] + 2 * rows[:, 2] - rows[:, 0] * rows[:, 2]

    own, typical = np.array([1.0, 2.0, 3.0]), np.array([[0.5, -1.0, 0.0], [0.0, 1.0, 1.0]])
    exact = np.zeros(3)
    for start in typical:
        for order in itertools.permutations(range(3)):
            row = start.copy()
            for at in order:
                before = predict(row[None])[0]
                row[at] = own[at]
                exact[at] += (predict(row[None])[0] - before) / 12
    found = _walks(predict, own, typical, 3000, seeded(0)).mean(0)
    assert np.allclose(found, exact, atol=0.05)
    assert found.sum() == pytest.approx(predict(own[None])[0] - predict(typical).mean())


def test_regions_are_used_only_where_both_have_them():
    x, mask = case()
    masks = torch.stack([mask] * len(cohort()))
    both = Owned(cohort=Cohort(cohort().x, masks=masks), mask=mask)
    one = Owned(cohort=cohort(), mask=mask)
    words = [discover(network(), x, "rad4xcnn", owned=owned, samples=20, runs=4) for owned in (both, one)]
    assert any("in the region of interest" in note for note in words[0].notes)
    assert any("in the whole images" in note for note in words[1].notes)
    assert "echogenicity" in words[0].form.names
    assert "echogenicity" not in words[1].form.names


def test_segmentations_and_volumes_are_served():
    form = discover(network(3), case(3)[0], "radiomics_shap", owned=Owned(cohort=cohort(3)), trees=10, orders=4).form
    assert torch.isfinite(form.values).all()
    assert len(concepts(3)) == 3
