"""Changes of clinical values: the value that goes along with the answer changes; where none does, that is said."""

import pytest
import torch
from drawn_world import Painter, Reader, codes

from runners import Cohort, Owned, discover
from taxonomy.errors import TargetError

NAMES = ("age", "marker", "height", "treated")


def world(told=True, count=80):
    """A cohort whose value "marker" goes along with the spot that the model reads, or with nothing."""
    g = torch.Generator().manual_seed(0)
    z = codes(count, 1)
    marker = 10 * (z[:, 0] if told else torch.rand(count, generator=g)) + torch.randn(count, generator=g)
    rest = torch.randn(count, 2, generator=g) * torch.tensor([12.0, 9.0]) + torch.tensor([60.0, 170.0])
    flag = (torch.rand(count, generator=g) < 0.5).float()
    table = torch.stack([rest[:, 0], marker, rest[:, 1], flag], 1)
    return Cohort(Painter().decode(z), features=table, feature_names=NAMES)


def found(told=True, marker=11.0, **more):
    x = Painter().decode(codes(1, 5, spot=True))
    features = dict(zip(NAMES, (61.0, marker, 171.0, 1.0), strict=True))
    owned = Owned(cohort=world(told), features=features)
    return discover(Reader(), x, "dice", owned=owned, candidates=600, runs=40, **more)


def test_the_value_that_goes_along_changes_and_the_others_go_back():
    told = found()
    form = told.form
    assert form.measures["cf_validity"] == 1
    assert form.measures["fidelity of the stand-in (balanced accuracy on held-out cases)"] > 0.85
    assert form.measures["p of the fidelity"] < 0.05
    assert (form.scores < 0.5).all()
    nearest = form.after[0]
    assert nearest[1] < 8
    assert torch.equal(nearest[[0, 2, 3]], form.before[[0, 2, 3]])
    assert set(form.after[:, 3].tolist()) <= {0.0, 1.0}
    assert len(torch.unique(form.after, dim=0)) == len(form.after)
    assert not any("say nothing" in one for one in told.cautions)


def test_where_the_values_tell_nothing_that_is_said():
    told = found(told=False)
    assert told.form.measures["p of the fidelity"] > 0.05
    assert any("say nothing about it" in one for one in told.cautions)


def test_fixed_values_stay_and_what_cannot_be_reached_is_told():
    told = found(fixed="marker")
    assert (told.form.after[:, 1] == told.form.before[1]).all()
    if told.form.measures["cf_validity"] == 0:
        assert "No counterfactual was found" in told.cautions[0]
    with pytest.raises(TargetError, match="fixed names weight"):
        found(fixed="weight")
    with pytest.raises(TargetError, match="every clinical value is fixed"):
        found(fixed=", ".join(NAMES))


def test_diversity_gives_other_ways():
    near, wide = found(diversity=0.0).form, found(diversity=10.0).form
    assert wide.measures["mean distance between the ways"] >= near.measures["mean distance between the ways"]


def test_the_same_seed_gives_the_same_and_a_small_cohort_is_refused():
    a, b = found().form, found().form
    assert torch.equal(a.after, b.after)
    x = Painter().decode(codes(1, 5, spot=True))
    few = Owned(cohort=world(count=10), features=dict.fromkeys(NAMES, 1.0))
    with pytest.raises(TargetError, match="needs at least 20"):
        discover(Reader(), x, "dice", owned=few)
    unknown = Owned(cohort=world(), features=dict.fromkeys(NAMES, float("nan")))
    with pytest.raises(TargetError, match="is unknown"):
        discover(Reader(), x, "dice", owned=unknown)


def test_without_clinical_values_measures_of_the_image_change():
    x = Painter().decode(codes(1, 5, spot=True))
    told = discover(Reader(), x, "dice", owned=Owned(cohort=Cohort(world().x)), candidates=400, runs=20)
    assert "brightness" in told.form.names
    assert any("radiomic measures" in note for note in told.notes)
    assert told.form.measures["fidelity of the stand-in (balanced accuracy on held-out cases)"] > 0.7


def test_a_regression_moves_across_the_median():
    x = Painter().decode(codes(1, 5, spot=True))
    owned = Owned(cohort=world(), features=dict(zip(NAMES, (61.0, 11.0, 171.0, 1.0), strict=True)))
    told = discover(Reader(outputs=1), x, "dice", owned=owned, task="regression", candidates=400, runs=20)
    assert told.form.measures["fidelity of the stand-in (R² on held-out cases)"] > 0.5
    assert told.form.measures["cf_validity"] == 1
    assert told.form.after[0, 1] < told.form.before[1]
