"""Counterfactuals by a generator: the planted factor changes and no other; where nothing decides, none is found."""

import math

import pytest
import torch
from drawn_world import Painter, Reader, case, cohort, concepts
from torch import nn

from runners import Cohort, Owned, discover
from runners.beyond.drawing import NONE, judged
from taxonomy.errors import TargetError

BY_GENERATOR = (
    "cav_counterfactual",
    "ganspace",
    "interfacegan",
    "latent_shift",
    "vae_latent",
    "wachter_counterfactual",
)
FEW = {"wachter_counterfactual": {"steps": 30, "rounds": 4}, "clue": {"steps": 40, "rounds": 5}}


def brought(dims=2, **more):
    return Owned(autoencoder=Painter(dims), cohort=cohort(dims), concepts=concepts(dims), **more)


def found(method, model=None, dims=2, x=None, **more):
    x = case(dims) if x is None else x
    return discover(model or Reader(dims), x, method, owned=brought(dims), **FEW.get(method, {}) | more)


class Blind(nn.Module):
    """Answers the same, whatever it sees."""

    def forward(self, x):
        return torch.tensor([[0.0, 1.0]]) + 0 * x.flatten(1).mean(1, keepdim=True)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", BY_GENERATOR)
def test_the_factor_that_decides_changes_and_no_other(method, dims):
    told = found(method, dims=dims)
    form = told.form
    moved = (Painter(dims).encode(form.images[[form.chosen]]) - Painter(dims).encode(form.images[[form.start]]))[0]
    assert form.measures["cf_validity"] == 1
    assert moved[0] < -0.2
    leak = 0.35 if method in ("ganspace", "interfacegan") else 0.15 if method == "cav_counterfactual" else 0.02
    assert float(moved[1:].abs().max()) < leak * float(moved[0].abs())
    assert torch.allclose(form.images[form.start], form.original, atol=1e-5)
    model = Reader(dims)
    with torch.no_grad():
        assert torch.allclose(form.scores, model(form.images)[:, 1], atol=1e-4)
    assert NONE not in told.cautions


@pytest.mark.parametrize("method", [*BY_GENERATOR, "clue"])
def test_where_nothing_decides_no_counterfactual_is_found(method):
    if method == "interfacegan":
        with pytest.raises(Exception, match="at least 4 on either side"):
            found(method, Blind())
        return
    told = found(method, Blind())
    assert told.form.measures["cf_validity"] == 0
    assert NONE in told.cautions


def test_the_other_way_round_the_spot_comes():
    form = found("latent_shift", x=case(spot=False), reach=4).form
    assert form.measures["cf_validity"] == 1
    other = discover(
        Reader(), case(spot=False), "latent_shift", 1, owned=brought(), reach=4
    ).form  # not the model's answer
    assert float(other.scores[other.chosen]) > float(other.scores[other.start])
    assert Painter().encode(other.images[[other.chosen]])[0, 0] == pytest.approx(0.5, abs=0.05)


def test_the_shift_ends_at_the_border():
    form = found("latent_shift").form
    assert Painter().encode(form.images[[form.chosen]])[0, 0] == pytest.approx(0.5, abs=0.02)
    assert len(form.images) == 11
    assert (form.scores.diff() < 0).all()


def test_a_regression_has_a_goal():
    model = Reader(outputs=1)
    x = case()
    before = float(model(x)[0, 0].detach())
    told = discover(model, x, "latent_shift", owned=brought(), task="regression", goal=before + 1)
    assert float(told.form.scores[told.form.chosen]) == pytest.approx(before + 1, abs=0.1)
    assert told.form.measures["cf_validity"] == 1
    half = discover(model, x, "wachter_counterfactual", owned=brought(), task="regression", steps=30)
    assert float(half.form.scores[half.form.chosen]) == pytest.approx(before / 2, abs=0.3)


def test_the_notes_name_what_counts():
    told = found("vae_latent")
    assert any(note.startswith("Shown: value 1,") for note in told.notes)
    told = found("cav_counterfactual")
    assert any("'left spot'" in note for note in told.notes)
    other = found("cav_counterfactual", concept="stripes")
    assert other.form.measures["cf_validity"] == 0
    assert found("interfacegan").form.measures["balanced accuracy of the border on held-out cases"] > 0.9


def test_the_border_may_be_that_of_the_known_labels():
    told = found("interfacegan", label=True)
    assert any("the known label spot" in note for note in told.notes)
    assert told.form.measures["cf_validity"] == 1
    bare = Owned(autoencoder=Painter(), cohort=Cohort(cohort().x))
    with pytest.raises(TargetError, match="no labels"):
        discover(Reader(), case(), "interfacegan", owned=bare, label=True)


def test_measures_are_their_closed_forms():
    before = torch.linspace(0, 1, 100).view(1, 10, 10)
    after = before.clone()
    after[0, 0, :3] += 0.5
    told = judged(before, after, True)
    assert told["cf_validity"] == 1
    assert told["cf_sparsity"] == pytest.approx(0.97)
    assert told["cf_proximity"] == pytest.approx(0.015 / float(before.std()))


def test_an_image_that_no_generator_draws_is_called_implausible():
    inside = judged(case()[0], case()[0], True, None)
    assert not [name for name in inside if name.startswith("implaus")]
    from runners.beyond.drawing import drawn

    one = drawn(Painter(), case(), True, 4)
    noise = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(0))
    name = "implausibility (error of the generator, relative to the cohort's)"
    assert judged(case()[0], case()[0], True, one, cohort())[name] == pytest.approx(1, abs=0.4)
    assert judged(case()[0], noise, True, one, cohort())[name] > 50


def test_clue_takes_the_doubt_away():
    x = Painter().decode(torch.tensor([[0.52, 0.3, -0.2, 0.4]]))
    told = discover(Reader(steep=6.0), x, "clue", owned=brought(), **FEW["clue"])
    form = told.form
    assert float(form.scores[0]) > 0.6
    assert float(form.scores[form.chosen]) <= 0.5 * float(form.scores[0])
    moved = (Painter().encode(form.images[[form.chosen]]) - Painter().encode(x))[0]
    assert float(moved[1:].abs().max()) < 0.05 * float(moved[0].abs())
    sure = discover(Reader(steep=60.0), case(), "clue", owned=brought())
    assert any("sure already" in one for one in sure.cautions)
    assert math.isclose(sure.form.measures["cf_proximity"], 0, abs_tol=1e-6)
