"""A surrogate finds what was planted in a table, says how far it does, and says so where there is nothing."""

import numpy as np
import pytest
import tagged
import torch
from sklearn.linear_model import LinearRegression

from runners import Cohort
from runners.beyond.surrogate import SECOND, fitted, r_squared, stand_in, table
from runners.models import profile
from runners.registry import no_progress, seeded
from taxonomy.errors import TargetError

NAMES = ("a", "b", "c", "d")
VALUES = np.random.default_rng(0).normal(size=(120, 4))
NOISE = np.random.default_rng(1).normal(size=120)


def fit(answers, **more):
    return fitted(VALUES, VALUES[0], NAMES, answers, answers > 0, generator=seeded(0), **more)


def test_a_line_is_found_with_its_slopes():
    one = fit(2 * VALUES[:, 0] - VALUES[:, 1] + 0.1 * NOISE)
    assert one.kind == "linear"
    assert one.slopes == pytest.approx([2, -1, 0, 0], abs=0.06)
    assert one.low <= one.fidelity <= one.high
    assert one.fidelity > 0.97
    assert one.auc > 0.97
    assert one.cautions == SECOND
    truth = LinearRegression().fit(VALUES, one.answers)
    assert one.predict(VALUES) == pytest.approx(truth.predict(VALUES), abs=0.15)


def test_what_bends_is_left_to_trees_and_can_be_fitted_again():
    one = fit(np.sign(VALUES[:, 0] * VALUES[:, 1]))
    assert (one.kind, one.slopes) == ("boosted", None)
    assert one.fidelity > 0.5
    half = one.again(np.arange(60))(VALUES)
    assert r_squared(one.answers[:60], half[:60]) > r_squared(one.answers[60:], half[60:]) > 0.2
    assert fit(np.sign(VALUES[:, 0] * VALUES[:, 1]), kind="linear").fidelity < 0.1


def test_nothing_is_called_nothing():
    one = fit(NOISE)
    assert one.fidelity < 0.15
    assert one.low < 0.1
    assert "most of what the model sees is not in these values" in one.cautions[0]
    assert "AUC" not in " ".join(fitted(VALUES, VALUES[0], NAMES, NOISE, NOISE > 99, generator=seeded(0)).measures)


def test_the_same_seed_gives_the_same_and_another_kind_is_refused():
    answers = VALUES[:, 0] + NOISE
    first, second = fit(answers), fit(answers)
    assert (first.fidelity, first.low) == (second.fidelity, second.low)
    assert np.array_equal(first.predict(VALUES), second.predict(VALUES))
    with pytest.raises(TargetError, match="auto, linear, boosted"):
        fit(answers, kind="magic")


def test_the_table_fills_what_is_unknown_and_drops_what_never_differs():
    features = torch.tensor([[1.0, 5.0, torch.nan]] + [[float(i), 5.0, float(i)] for i in range(40)])
    cohort = Cohort(torch.zeros(41, 1, 4, 4), features=features, feature_names=("age", "site", "dose"))
    values, own, names = table(cohort, {"age": 3.0, "site": 5.0, "dose": float("nan")}, "x")
    assert names == ("age", "dose")
    assert values[0].tolist() == [1.0, 19.5]
    assert own.tolist() == [3.0, 19.5]
    with pytest.raises(TargetError, match="no clinical values"):
        table(Cohort(torch.zeros(41, 1, 4, 4)), {}, "x")
    with pytest.raises(TargetError, match="at least 30"):
        table(Cohort(torch.zeros(4, 1, 4, 4)), {}, "x")
    with pytest.raises(TargetError, match="is the same in all cases"):
        table(Cohort(torch.zeros(41, 1, 4, 4), features=features[:, 1:2], feature_names=("site",)), {"site": 5.0}, "x")


def test_the_image_model_is_what_it_stands_for():
    model, x = tagged.learned(True), tagged.case()
    wired = profile(model, x, 1)
    one = stand_in(
        model, x, lambda o, _: o[:, 1], wired, tagged.cohort(), tagged.VALUES, method="lime_tabular", batch_size=50,
        generator=seeded(0), progress=no_progress,
    )  # fmt: skip
    with torch.no_grad():
        assert one.answers == pytest.approx(model(tagged.cohort().x)[:, 1].double().numpy(), abs=1e-3)
    assert one.auc > 0.7  # the tag decides, unless there is a blob
