"""Rules, curves and slopes in values that have names: the planted shortcut is found, chance is called chance."""

from dataclasses import replace

import numpy as np
import pytest
import tagged
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import partial_dependence as peer
from sklearn.linear_model import LinearRegression

from runners import Owned, discover
from runners.beyond.distilled import _near, accumulated, dependence, soft_tree
from taxonomy.errors import RequirementError, TargetError

OWNED = Owned(cohort=tagged.cohort(), features=tagged.VALUES)
FIDELITY = "fidelity of the surrogate (R² on cases left out)"


def ask(method, shortcut=True, owned=OWNED, **options):
    return discover(tagged.learned(shortcut), tagged.case(), method, 1, owned=owned, **options)


def only_tags():
    """The world without blobs: the tag alone decides, where the model learned the shortcut."""
    x, _, tag = tagged.images(120, 2, blob=False)
    values = tagged.cohort().features.clone()
    values[:, 0] = tag.float()
    return Owned(cohort=replace(tagged.cohort(), x=x, features=values), features=tagged.VALUES)


def test_lime_on_a_table_finds_the_tag_and_says_how_far_the_surrogate_goes():
    found = ask("lime_tabular", owned=only_tags())
    values = dict(zip(found.form.names, found.form.values.tolist(), strict=True))
    assert found.form.measures[FIDELITY] > 0.9
    assert values["tag"] > 10 * max(abs(values["age"]), abs(values["coin"]))
    again = ask("lime_tabular", owned=only_tags())
    assert torch.equal(found.form.values, again.form.values)
    control = ask("lime_tabular", shortcut=False, owned=OWNED)
    assert control.form.measures[FIDELITY] < 0.2
    assert "most of what the model sees is not in these values" in " ".join(control.cautions)


def test_slopes_near_a_case_are_those_of_weighted_least_squares():
    g = np.random.default_rng(0)
    z, weights = g.normal(size=(300, 3)), g.uniform(0.1, 1, 300)
    y = np.sin(z[:, 0]) + z[:, 1] * z[:, 2]
    slopes, fit = _near(z, y, weights, 1e-9)
    truth = LinearRegression().fit(z, y, sample_weight=weights)
    assert slopes == pytest.approx(truth.coef_, abs=1e-6)
    assert fit == pytest.approx(truth.score(z, y, weights), abs=1e-6)


def test_partial_dependence_draws_the_curve_of_the_tag():
    found = ask("partial_dependence", owned=only_tags(), points=8, runs=6).form
    assert found.names[0] == "tag"
    assert found.curves.shape == found.grid.shape == (3, 8)
    assert float(found.values[0]) == pytest.approx(float(found.curves[0, -1] - found.curves[0, 0]), abs=1e-4)
    assert found.low[0] > 0
    assert all(abs(float(v)) < 0.2 * float(found.values[0]) for v in found.values[1:])


class _Bent(RegressorMixin, BaseEstimator):
    def fit(self, *_):
        self.done_ = True
        return self

    def predict(self, rows):
        return rows[:, 0] ** 2 + rows[:, 0] * rows[:, 1]


def test_curves_are_those_of_sklearn_and_of_the_closed_form():
    g = np.random.default_rng(0)
    values = g.uniform(-1, 1, (4000, 2))
    grid = np.linspace(-0.9, 0.9, 9)
    ours = dependence(_Bent().predict, values, 0, grid)
    theirs = peer(_Bent().fit(), values, [0], custom_values={0: grid}, method="brute", kind="average")["average"][0]
    assert ours == pytest.approx(theirs, abs=1e-9)
    same = np.repeat(values[:, :1], 2, 1)  # the second value is the first: x² + x·y changes by 3x dx along y held local
    local = accumulated(_Bent().predict, same, 0, grid)
    closed = 1.5 * (grid**2 - grid[0] ** 2)
    assert local == pytest.approx(closed, abs=0.03)
    free = accumulated(_Bent().predict, values, 0, grid)
    assert free == pytest.approx(grid**2 - grid[0] ** 2, abs=0.05)


def test_the_tree_says_the_tag_and_its_fidelity():
    found = ask("soft_decision_tree", owned=only_tags(), depth=1)
    assert found.form.rules[0].startswith("This case: if tag is above")
    assert found.form.rules[0].endswith("gives the explained answer")
    assert found.form.precision[0] == 1
    assert found.form.measures["fidelity: answers as the model on cases left out"] == 1
    assert float(found.form.coverage.sum()) == pytest.approx(1)
    control = ask("soft_decision_tree", shortcut=False)
    assert "hardly more often" in " ".join(control.cautions)


def test_without_a_table_measures_of_the_image_are_used():
    bare = Owned(cohort=replace(tagged.cohort(), features=None, feature_names=()))
    found = ask("soft_decision_tree", shortcut=False, owned=bare)
    assert found.form.measures["fidelity: answers as the model on cases left out"] > 0.9  # the blob is bright
    assert "measures of the images are used" in " ".join(found.notes)


def test_a_soft_tree_is_soft_and_learns_a_rule_of_two_values():
    g = np.random.default_rng(0)
    z = g.normal(size=(300, 4))
    y = (z[:, 1] > 0.3) & (z[:, 2] < 0)
    tree = soft_tree(z, y, 2, 150, 0)
    assert set(tree.where.tolist()) == {1, 2}
    assert tree.reach(z).sum(1) == pytest.approx(np.ones(300))
    assert ((tree.predict(z) > 0.5) == y).mean() > 0.97
    loop = []
    for row in z[:20]:
        total = 0.0
        for k, leaf in enumerate(tree.leaf):
            reach = 1.0
            for i, side in enumerate(tree.paths[k]):
                right = 1 / (1 + np.exp(-tree.steepness[i] * (row[tree.where[i]] - tree.threshold[i])))
                reach *= {1: right, -1: 1 - right, 0: 1}[int(side)]
            total += reach * leaf
        loop.append(total)
    assert tree.predict(z[:20]) == pytest.approx(np.array(loop))


def test_what_is_missing_or_wrong_is_told():
    with pytest.raises(RequirementError, match="clinical values of this case"):
        ask("lime_tabular", owned=Owned(cohort=tagged.cohort()))
    with pytest.raises(TargetError, match="at least 50"):
        ask("lime_tabular", samples=3)
    x, *_ = tagged.images(40, 3, blob=False, tag=False)
    one = Owned(cohort=replace(tagged.cohort(), x=x, labels=None, features=tagged.cohort().features[:40]),
                features=tagged.VALUES)  # fmt: skip
    with pytest.raises(TargetError, match="at least 5 with it and 5 without"):
        ask("soft_decision_tree", owned=one)
