"""Searches in the image: what suffices is the planted sign, what changes the answer touches it alone."""

import pytest
import torch
from drawn_world import Painter, Reader, case, cohort, patterns

from runners import Cohort, Owned, discover
from runners.beyond.drawing import NONE
from taxonomy.errors import TargetError

FEW = {"steps": 40, "rounds": 4}


class Blind(torch.nn.Module):
    """Answers the same, whatever it sees."""

    def forward(self, x):
        return torch.tensor([[0.0, 1.0]]) + 0 * x.flatten(1).mean(1, keepdim=True)


def sign(dims=2):
    return patterns(dims)[0, 0] > 0


def found(method, model=None, x=None, dims=2, **more):
    owned = Owned(autoencoder=Painter(dims), cohort=cohort(dims))
    return discover(model or Reader(dims), case(dims) if x is None else x, method, owned=owned, **FEW | more)


@pytest.mark.parametrize("dims", [2, 3])
def test_what_suffices_is_the_planted_sign(dims):
    form = found("cem_pertinent", dims=dims).form
    assert form.measures["validity of the part that suffices"] == 1
    first, x = form.images[0, 0], form.original[0]
    there = (first - x.amin()).abs() > 1e-6
    assert float((there & sign(dims)).sum() / there.sum()) > 0.85  # a ninth of the image
    assert form.scores[0] > 0
    assert (first <= x + 1e-5).all()  # nothing is there that the image does not have
    assert torch.equal(form.images[1], form.original)


def test_what_must_not_be_added_is_the_sign_and_only_brightens():
    form = found("cem_pertinent", x=case(spot=False), rounds=5).form
    added = form.images[2, 0] - form.original[0]
    assert (added >= -1e-5).all()
    assert float(added[sign()].sum() / added.sum()) > 0.8


def test_the_prototype_draws_the_sign_away():
    told = found("cf_proto")
    form = told.form
    assert form.measures["cf_validity"] == 1
    moved = (Painter().encode(form.images[[-1]]) - Painter().encode(form.images[[0]]))[0]
    assert moved[0] < -0.3
    assert float(moved[1:].abs().max()) < float(moved[0].abs())
    assert form.measures["squared distance to the prototype, relative to the image's"] < 0.7
    without = found("cf_proto", theta=0.0).form
    name = "squared distance to the prototype, relative to the image's"
    assert without.measures[name] > form.measures[name]


def test_where_nothing_decides_nothing_is_found():
    told = found("cem_pertinent", Blind())
    assert told.form.measures["cf_validity"] == 0
    assert NONE in told.cautions
    assert any("an image of nothing (black) the same" in one for one in told.cautions)
    assert not any("an image of nothing" in one for one in found("cem_pertinent").cautions)
    with pytest.raises(TargetError, match="no case for a prototype"):
        found("cf_proto", Blind())
    same = Owned(autoencoder=Painter(), cohort=Cohort(case()))
    with pytest.raises(TargetError, match="no case for a prototype"):
        discover(Reader(), case(), "cf_proto", owned=same)
