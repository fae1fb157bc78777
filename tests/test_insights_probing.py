"""Probes read the tag and nothing from shuffled labels; similarity of layers against closed forms and a loop."""

from dataclasses import replace

import pytest
import tagged
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from runners import Owned, discover
from runners.beyond.probing import alike, concordance, held_out, hsic
from runners.registry import seeded
from taxonomy.errors import TargetError


def draw(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def ask(method, model=None, cohort=None, **options):
    owned = Owned(cohort=cohort or tagged.cohort())
    return discover(model or tagged.learned(True), tagged.case(), method, 1, owned=owned, **options)


def test_the_tag_can_be_read_and_a_coin_and_shuffled_labels_cannot():
    found = ask("linear_probing")
    read = dict(zip(found.form.names, found.form.values.tolist(), strict=True))
    assert read["tag, in the embedding"] > 0.95
    assert read["blob, in the embedding"] > 0.95
    assert all(abs(v) < 0.35 for name, v in read.items() if name.startswith(("coin", "age")))
    assert found.form.measures["readings above chance (corrected p up to 0.05)"] == 6
    assert abs(found.form.measures["mean reading of shuffled labels (0 is chance)"]) < 0.03
    said = dict(zip(found.form.names, found.form.inputs, strict=True))
    assert int(said["tag, in the embedding"].split("%")[0]) > 80
    assert int(said["blob, in the embedding"].split("%")[0]) < 20
    assert (found.form.low <= found.form.values).all()
    again = ask("linear_probing")
    assert torch.equal(again.form.values, found.form.values)


def test_of_shuffled_cases_nothing_is_read():
    order = torch.randperm(120, generator=seeded(3))
    mixed = replace(tagged.cohort(), x=tagged.cohort().x[order])
    assert ask("linear_probing", cohort=mixed).form.measures["readings above chance (corrected p up to 0.05)"] == 0


def test_measures_of_images_are_probed_where_nothing_is_known():
    bare = replace(tagged.cohort(), labels=None, features=None, feature_names=())
    found = ask("linear_probing", cohort=bare, layers=1, samples=40, runs=10)
    assert "brightness, in the embedding" in found.form.names
    assert "measures of the images are probed instead" in " ".join(found.notes)


def test_a_probe_is_ridge_regression_on_the_other_folds():
    x, y = draw(50, 8), draw(50, 1, seed=1) + draw(50, 8)[:, :1]
    folds = torch.arange(50) % 5
    ours = held_out(x, y, folds)[:, 0]
    for fold in range(5):
        own, rest = folds == fold, folds != fold
        mean, std = x[rest].mean(0), x[rest].std(0, correction=0)
        a, b = ((one - mean) / std for one in (x[rest], x[own]))
        unit = torch.linalg.eigvalsh(a @ a.T).clamp(min=0).mean()
        fits = []
        for strength in (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2):
            alpha = float(strength * unit)
            error = 0.0
            for i in range(len(a)):  # each case left out, one by one
                kept = torch.arange(len(a)) != i
                one = Ridge(alpha).fit(a[kept].numpy(), y[rest][kept, 0].numpy())
                error += (one.predict(a[i : i + 1].numpy())[0] - float(y[rest][i, 0])) ** 2
            fits.append((error, alpha))
        best = Ridge(min(fits)[1]).fit(a.numpy(), y[rest][:, 0].numpy())
        assert ours[own].numpy() == pytest.approx(best.predict(b.numpy()), abs=0.02)


def test_concordance_is_auc_and_rank_correlation():
    said, yes = draw(40, 1), (draw(40, 1, seed=2) > 0).double()
    one = torch.zeros(40, dtype=torch.long)
    assert float(concordance(said, yes, one)) == pytest.approx(2 * roc_auc_score(yes[:, 0], said[:, 0]) - 1)
    assert float(concordance(said, said.exp(), one)) == pytest.approx(1)
    assert float(concordance(said, -said, one)) == pytest.approx(-1)
    split = torch.arange(40) % 2
    parts = [2 * roc_auc_score(yes[split == k, 0], said[split == k, 0]) - 1 for k in (0, 1)]
    assert float(concordance(said, yes, split)) == pytest.approx(sum(parts) / 2)


def test_similarity_ignores_rotation_and_scale_and_is_none_by_chance():
    a, b = draw(60, 12), draw(60, 200, seed=1)
    turn, _ = torch.linalg.qr(draw(12, 12, seed=2))
    assert alike(a, 3 * a @ turn) == pytest.approx(1)
    assert abs(alike(a, b)) < 0.1  # the biased estimate is far above 0 with 200 features of 60 cases
    k, m = ((one - one.mean(0)) @ (one - one.mean(0)).T for one in (a, b))
    biased = float((k * m).sum() / (k.norm() * m.norm()))
    assert biased > 0.3


def test_hsic_is_the_mean_over_quadruples():
    a, b = (one @ one.T for one in (draw(7, 3), draw(7, 2, seed=1)))
    a, b = a.fill_diagonal_(0), b.fill_diagonal_(0)
    total, count = 0.0, 0
    for i in range(7):
        for j in range(7):
            for k in range(7):
                for m in range(7):
                    if len({i, j, k, m}) == 4:
                        total += float(a[i, j] * (b[i, j] + b[k, m] - 2 * b[i, k]))
                        count += 1
    assert float(hsic(a, b)) == pytest.approx(total / count)


def test_layers_and_models_are_compared():
    owned = Owned(cohort=tagged.cohort())
    layers = ask("cka", layers=4).form
    assert float(layers.values[-1]) > float(layers.values[0])
    assert layers.measures["similarity of shuffled cases (95th percentile)"] < 0.15
    twin = discover(
        tagged.learned(True), tagged.case(), "cka", 1, owned=owned, members=[tagged.learned(True)], layers=3
    ).form
    assert twin.values == pytest.approx(torch.ones(3))
    other = discover(
        tagged.learned(True), tagged.case(), "cka", 1, owned=owned, members=[tagged.untrained()], layers=3
    ).form
    assert float(other.values[-1]) < 0.95
    with pytest.raises(TargetError, match="no layer like those"):
        discover(
            tagged.learned(True),
            tagged.case(),
            "cka",
            1,
            owned=owned,
            members=[torch.nn.Sequential(torch.nn.Flatten())],
        )
