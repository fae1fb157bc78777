"""Modalities with planted weights are weighed as planted; one that does nothing gets nothing."""

import itertools
import math
import warnings

import pytest
import torch
from metric_toys import images
from torch import nn

from runners import Cohort, Owned, discover, insights, unmet_by
from runners.joint import Fused, fused, takes_table, with_values
from runners.load import load_model
from runners.models import profile
from runners.sequences import coalitions_of, exact_shapley
from taxonomy.errors import ModelError, RequirementError, TargetError

WEIGHTS = (2.0, -1.0, 0.0)


class Sequences(nn.Module):
    """The mean of every sequence times its weight, against nothing."""

    def __init__(self, weights=WEIGHTS, dims=2):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.bend = nn.Conv2d(1, 1, 1) if dims == 2 else nn.Conv3d(1, 1, 1)

    def forward(self, x):
        told = (x.flatten(2).mean(2) * self.weights).sum(1)
        return torch.stack([told, -told], 1)


class Both(nn.Module):
    """Brightness, three times the first value, minus the second; the third is ignored; and, if asked, a product."""

    def __init__(self, product=0.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([3.0, -1.0, 0.0]))
        self.product = product

    def forward(self, x, table):
        bright = x.flatten(1).mean(1)
        told = bright + (table * self.scale).sum(1) + self.product * bright * table[:, 0]
        return torch.stack([told, -told], 1)


def pair(**more):
    """Return a model with clinical values, the image, and a cohort with their table."""
    g = torch.Generator().manual_seed(3)
    x = images(1, 1, 12, 12) + 1
    cohort = Cohort(
        images(40, 1, 12, 12) * 0.5,
        labels=torch.arange(40) % 2,
        label_names=("ill", "well"),
        features=torch.randn(40, 3, generator=g),
        feature_names=("noise", "age", "dose"),
    )
    model = load_model(Fused(Both(**more), {"age": 2.0, "dose": 1.0, "noise": 5.0}), task="classification")
    return model, x, cohort, {"age": 2.0, "dose": 1.0, "noise": 5.0}


@pytest.mark.parametrize("dims", [2, 3])
def test_planted_weights_of_sequences_are_found_exactly(dims):
    x = images(1, 3, *(8,) * dims) + 1
    model = load_model(Sequences(dims=dims), task="classification")
    model.card.sequences[:] = ["T1", "T2", "FLAIR"]
    found = discover(model, x, "sequence_shapley", 0, baseline="zero").form
    assert found.names == ("T1", "T2", "FLAIR")
    truth = x.flatten(2).mean(2)[0] * torch.tensor(WEIGHTS)
    assert torch.allclose(found.values, truth, atol=1e-6)
    assert found.values[2] == 0
    assert found.measures["added only together"] == pytest.approx(0, abs=1e-6)
    shares = discover(model, x, "modality_occlusion", 0, baseline="zero").form
    assert torch.allclose(shares.values, truth.abs() / truth.abs().sum(), atol=1e-6)
    parts = discover(model, x, "modality_occlusion", 0, baseline="zero", cells=2).form  # hidden block by block
    assert parts.values[2] == 0
    assert parts.values[0] > 0.5


def test_an_absent_sequence_may_be_that_of_other_cases():
    x, others = images(1, 3, 8, 8) + 1, images(8, 3, 8, 8) * 0.5 + 0.2
    model = load_model(Sequences(), task="classification")
    form = discover(model, x, "sequence_shapley", 0, owned=Owned(cohort=Cohort(others))).form
    truth = (x - others).flatten(2).mean(2).mean(0) * torch.tensor(WEIGHTS)
    assert torch.allclose(form.values, truth, atol=1e-5)
    assert (form.low <= form.values).all()
    assert (form.values <= form.high).all()
    assert form.high[0] > form.low[0]
    assert form.low[2] == form.high[2] == 0


def test_image_and_clinical_values_share_the_score():
    model, x, cohort, values = pair()
    owned = Owned(cohort=cohort, features=values)
    form = discover(model, x, "sequence_shapley", 0, owned=owned, references=40).form
    own = cohort.features[:, [1, 2, 0]].mean(0)
    truth = torch.tensor([float(x.mean() - cohort.x.mean()), 3 * (2 - own[0]), -(1 - own[1]), 0.0])
    assert form.names == ("image", "age", "dose", "noise")
    assert torch.allclose(form.values, truth, atol=1e-5)
    assert form.inputs == ("as it is", "2", "1", "5")
    assert form.map.shape == x.shape[2:]
    assert form.map.abs().sum() > 0
    shares = discover(model, x, "modality_occlusion", 0, owned=owned, references=40).form
    table = abs(float(truth[1:].sum()))
    assert float(shares.values[1]) == pytest.approx(table / (table + abs(float(truth[0]))), abs=1e-5)
    slopes = discover(model, x, "lime_tabular", 0, owned=owned).form
    spread = cohort.features[:, [1, 2, 0]].std(0)
    at = [cohort.feature_names.index(name) for name in ("age", "dose", "noise")]
    assert torch.allclose(slopes.values[at], torch.tensor([3.0, -1.0, 0.0]) * spread, rtol=0.02, atol=1e-3)
    assert slopes.measures["fit of the linear model to the surrogate near the case (weighted R²)"] > 0.99
    assert not any("fidelity" in name for name in slopes.measures)  # no surrogate: the model itself was asked


def test_what_two_add_only_together_is_told():
    model, x, cohort, values = pair(product=5.0)
    told = discover(model, x, "sequence_shapley", 0, owned=Owned(cohort=cohort, features=values), references=40)
    image, age = float(x.mean()), 2.0
    off, table = cohort.x.flatten(1).mean(1), cohort.features[:, 1]
    truth = 5 * ((image - off) * (age - table)).mean()
    assert told.form.measures["added only together"] == pytest.approx(float(truth), abs=1e-4)
    assert any("together" in caution for caution in told.cautions)


def test_swapping_tells_what_the_answer_rests_on():
    model, x, cohort, values = pair()
    cohort.x[cohort.labels == 1] -= 3  # images of the others are dark, their values are no different
    owned = Owned(cohort=cohort, features=values)
    form = discover(model, x, "modality_swap", 0, owned=owned, cases=20).form
    others = cohort.labels == 1
    table = cohort.features[others][:, [1, 2]]
    truth = [float(x.mean() - cohort.x[others].mean()), float((3 * (2 - table[:, 0]) - (1 - table[:, 1])).mean())]
    assert form.names == ("image", "clinical data")
    assert torch.allclose(form.values, torch.tensor(truth), atol=1e-5)
    assert form.low[0] > 0
    assert set(form.measures) == {"answers changed by image", "answers changed by clinical data"}


def test_shapley_values_are_those_of_all_orders():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(16, 2, generator=g, dtype=torch.float64)
    number = {tuple(one): i for i, one in enumerate(coalitions_of(4).tolist())}
    truth = torch.zeros(2, 4, dtype=torch.float64)
    for order in itertools.permutations(range(4)):
        has = [False] * 4
        for part in order:
            before = scores[number[tuple(has)]]
            has[part] = True
            truth[:, part] += (scores[number[tuple(has)]] - before) / 24
    assert torch.allclose(exact_shapley(scores), truth)


def test_many_parts_are_sampled_and_still_sum_to_the_score():
    weights = tuple(float(i) for i in range(12))
    x = images(1, 12, 6, 6) + 1
    model = load_model(Sequences(weights), task="classification")
    found = discover(model, x, "sequence_shapley", 0, baseline="zero", orders=8)
    truth = x.flatten(2).mean(2)[0] * torch.tensor(weights)
    assert torch.allclose(found.form.values, truth, atol=1e-4)  # additive: every order gives the truth
    assert math.isnan(found.form.measures["added only together"])
    assert "Estimated" in found.notes[-1]


def test_what_is_missing_is_told():
    model, x, cohort, values = pair()
    with pytest.raises(TargetError, match=r"cohort\.csv that has the columns age, dose, noise"):
        discover(model, x, "sequence_shapley", 0)
    with pytest.raises(TargetError, match="the cohort has no age, dose, noise"):
        discover(model, x, "sequence_shapley", 0, owned=Owned(cohort=Cohort(cohort.x)))
    grey = load_model(Sequences((1.0,)), task="classification")
    with pytest.raises(RequirementError, match="one channel"):
        discover(grey, images(1, 1, 8, 8), "modality_occlusion")
    wired = profile(model, x)
    assert [gap.need for gap in unmet_by("lime_tabular", wired)] == ["clinical_features", "training_data"]
    assert values


def test_a_network_that_takes_values_is_seen_and_wrapped():
    assert takes_table(Both())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what users bring
        assert takes_table(torch.jit.script(Both()))
    assert not takes_table(Sequences())
    with pytest.raises(ModelError, match="name=value"):
        with_values(Both(), {})
    whole = load_model(with_values(Both(), {"age": 2.0, "dose": 1.0, "noise": 0.0}))
    assert not takes_table(whole.network)
    inner = fused(whole)
    x = images(2, 1, 8, 8)
    with inner.reading(torch.zeros(2, 3)):
        assert torch.allclose(whole(x)[:, 0], x.flatten(1).mean(1))
    assert torch.allclose(whole(x)[:, 0], x.flatten(1).mean(1) + 5)


def test_every_insight_of_modalities_is_registered():
    assert {"sequence_shapley", "modality_occlusion", "modality_swap"} <= set(insights)
