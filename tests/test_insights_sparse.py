"""A sparse autoencoder finds planted directions, and the unit that stands for the shortcut."""

from dataclasses import replace

import pytest
import tagged
import torch
from torch.nn import functional as F

from runners import Owned, discover
from runners.beyond.sparse import Hull, kept, learned
from runners.registry import seeded
from taxonomy.errors import TargetError

COHORT = replace(tagged.cohort(), labels=tagged.cohort().features[:, 0].long(), label_names=("no tag", "tag"))
RANDOM = "change of the score by a random direction of this size (largest of 20)"


def ask(model, **options):
    given = {"layer": "features.3", "active": 2, "width": 24, "steps": 500} | options
    return discover(model, tagged.case(), "sparse_autoencoder", 1, owned=Owned(cohort=COHORT), **given)


def test_planted_directions_are_found_again():
    g = seeded(0)
    truth = F.normalize(torch.randn(6, 20, generator=g), dim=1)
    codes = torch.rand(3000, 6, generator=g) * (torch.rand(3000, 6, generator=g) < 0.2)
    one = learned(codes @ truth, 12, 3, 800, seeded(1))
    assert (truth @ one.decoder.T).amax(1).min() > 0.95
    assert kept(one, codes @ truth) > 0.9
    assert one.decoder.norm(dim=1) == pytest.approx(torch.ones(12), abs=1e-5)
    active = one.encode(codes @ truth)
    assert (active >= 0).all()
    assert int((active > 0).sum(1).max()) <= 3
    again = learned(codes @ truth, 12, 3, 800, seeded(1))
    assert torch.equal(one.decoder, again.decoder)
    noise = torch.randn(3000, 20, generator=g)
    assert kept(learned(noise, 12, 3, 300, seeded(1)), noise) < 0.6


def test_the_unit_of_the_tag_counts_where_the_model_learned_the_shortcut():
    found = ask(tagged.learned(True))
    form = found.form
    assert form.measures["share of the features' variance given again (images left out)"] > 0.9
    first = form.maps[0]
    assert float(first[1:8, 1:8].sum() / first.sum()) > 0.6
    assert float(form.scores[0]) > 1
    unit = form.names[0]
    assert f"{unit} is strongest in images of 'tag' (AUC 1.00)" in found.notes[-1]
    assert form.patches.shape[:2] == (len(form.names), 4)


def test_where_nothing_was_learned_no_unit_counts():
    found = ask(tagged.untrained())
    assert float(found.form.scores.abs().max()) < 0.05
    assert float(found.form.scores.abs().max()) <= 2 * found.form.measures[RANDOM]


def test_atoms_of_the_archetypal_kind_are_mixtures_of_real_features():
    g = seeded(0)
    truth = F.normalize(torch.randn(6, 20, generator=g), dim=1)
    codes = torch.rand(3000, 6, generator=g) * (torch.rand(3000, 6, generator=g) < 0.2)
    tokens = codes @ truth
    one, again = (learned(tokens, 12, 3, 500, seeded(k), points=150) for k in (1, 2))
    assert (truth @ one.decoder.T).amax(1).min() > 0.9  # planted directions are found
    assert kept(one, tokens) > 0.85
    noise = torch.randn(2000, 20, generator=g)
    held, free = ([learned(noise, 12, 3, 300, seeded(k), points=points).decoder for k in (1, 2)] for points in (40, 0))
    stable, loose = (float((a @ b.T).amax(1).mean()) for a, b in (held, free))
    assert stable > loose - 0.05
    assert again.decoder.norm(dim=1) == pytest.approx(torch.ones(12), abs=1e-5)


def test_atoms_lie_in_the_hull_and_beside_it_as_far_as_allowed():
    g = seeded(0)
    points, mix = torch.rand(9, 3, generator=g), torch.randn(5, 9, generator=g)
    beside = torch.randn(5, 3, generator=g)
    inside = Hull(points, mix, beside, 0.0).atoms()
    for atom, row in zip(inside, mix, strict=True):
        weights = row.clamp(min=0) / row.clamp(min=0).sum()
        assert torch.allclose(atom, sum(w * one for w, one in zip(weights, points, strict=True)), atol=1e-6)
    moved = Hull(points, mix, beside, 0.2).atoms() - inside
    assert torch.allclose(moved, 0.2 * F.normalize(beside, dim=1), atol=1e-6)  # all are longer than that
    one = Hull(points, mix.clone(), beside.clone(), 0.2)
    one.start([3], points[4:5])
    assert torch.allclose(F.normalize(one.atoms(), dim=1)[3], F.normalize(points, dim=1)[4], atol=0.1)
    assert torch.equal(one.atoms()[:3], (inside + moved)[:3])


def test_the_archetypal_kind_finds_the_tag_as_well():
    given = {"layer": "features.3", "active": 2, "width": 24, "steps": 400, "points": 100}
    owned = Owned(cohort=COHORT)
    form = discover(tagged.learned(True), tagged.case(), "archetypal_sae", 1, owned=owned, **given).form
    first = form.maps[0]
    assert float(first[1:8, 1:8].sum() / first.sum()) > 0.6
    assert float(form.scores[0]) > 1
    none = discover(tagged.untrained(), tagged.case(), "archetypal_sae", 1, owned=owned, **given).form
    assert float(none.scores.abs().max()) < 0.05


def test_bad_parameters_are_told():
    with pytest.raises(TargetError, match="no more units"):
        ask(tagged.untrained(), active=9, width=4)
