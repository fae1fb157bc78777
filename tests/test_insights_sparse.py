"""A sparse autoencoder finds planted directions, and the unit that stands for the shortcut."""

from dataclasses import replace

import pytest
import tagged
import torch
from torch.nn import functional as F

from runners import Owned, discover
from runners.beyond.sparse import kept, learned
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


def test_bad_parameters_are_told():
    with pytest.raises(TargetError, match="no more units"):
        ask(tagged.untrained(), active=9, width=4)
