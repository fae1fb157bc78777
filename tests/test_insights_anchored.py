"""Anchors hold the answer: the region of the tag is found, and none where nothing in the image matters."""

import math

import pytest
import tagged
import torch

from runners import Owned, discover
from runners.beyond.anchored import bound, search
from runners.registry import seeded
from taxonomy.errors import TargetError

PRECISE = {"threshold": 0.9, "delta": 0.05, "epsilon": 0.1, "beam": 2, "largest": 4, "batch": 20, "most": 8000}


def test_bounds_are_those_of_the_divergence():
    for share, count, level in ((0.9, 50, 3.0), (0.5, 10, 1.0), (0.2, 400, 5.0)):
        low, high = (bound(share, count, level, lower=one) for one in (True, False))
        assert low < share < high
        for q in (low, high):
            distance = share * math.log(share / q) + (1 - share) * math.log((1 - share) / (1 - q))
            assert distance == pytest.approx(level / count, abs=1e-6)
    assert bound(1.0, 100, 3.0, lower=True) == pytest.approx(math.exp(-0.03))
    assert (bound(0.5, 0, 3, lower=True), bound(0.5, 0, 3, lower=False)) == (0, 1)


def kept(rule):
    """Draw samples of ten regions, and say which of them the rule keeps."""
    g = seeded(0)

    def draw(stay, number):
        shown = torch.rand(number, 10, generator=g) < 0.5
        shown[:, sorted(stay)] = True
        return rule(shown)

    return draw


def test_the_search_finds_the_planted_rule_and_no_more():
    arm, sure, used = search(kept(lambda s: s[:, 3] & s[:, 7]), 10, **PRECISE)
    assert (arm.regions, sure) == ({3, 7}, True)
    assert used < 8000
    either, sure, _ = search(kept(lambda s: s[:, 1] | s[:, 2]), 10, **PRECISE)
    assert (len(either.regions), sure) == (1, True)
    assert either.regions <= {1, 2}


def test_where_everything_or_nothing_keeps_the_answer_there_is_no_rule():
    arm, sure, _ = search(kept(lambda s: torch.ones(len(s), dtype=torch.bool)), 10, **PRECISE)
    assert (arm.regions, sure) == (frozenset(), True)
    g = seeded(1)
    arm, sure, _ = search(kept(lambda s: torch.rand(len(s), generator=g) < 0.5), 10, **PRECISE)
    assert not sure


def test_the_region_of_the_tag_holds_the_answer_of_the_shortcut():
    owned = Owned(cohort=tagged.cohort())
    found = discover(tagged.learned(True), tagged.case(), "anchors", 1, owned=owned, samples=3000, batch_size=64)
    rules = found.form
    assert "the marked 1 region" in rules.rules[0]
    assert rules.precision[0] > 0.95 > rules.precision[1]
    assert rules.coverage.tolist() == [0.5, 1.0]
    tag = torch.zeros_like(rules.maps[0])
    tag[tagged.TAG] = True
    assert (rules.maps[0] & tag).sum() > 0.8 * tag.sum()
    assert not rules.maps[1].any()
    again = discover(tagged.learned(True), tagged.case(), "anchors", 1, owned=owned, samples=3000, batch_size=64)
    assert torch.equal(again.form.precision, rules.precision)


def test_a_model_that_ignores_the_tag_has_no_anchor_there():
    x = tagged.case(blob=True)
    owned = Owned(cohort=tagged.cohort())
    found = discover(tagged.learned(False), x, "anchors", 1, owned=owned, samples=3000, batch_size=64).form
    assert not found.maps[0][tagged.TAG].float().mean() > 0.5
    still = discover(tagged.untrained(), x, "anchors", owned=owned, samples=400)
    assert "no region of this image holds it" in still.cautions[-1]
    assert len(still.form.rules) == 1


def test_bad_parameters_are_told():
    for options, words in (
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"baseline": "magic"}, "auto, cohort, black"),
        ({"baseline": "cohort"}, "give one"),
        ({"epsilon": 0.0}, "above 0"),
    ):
        with pytest.raises(TargetError, match=words):
            discover(tagged.untrained(), tagged.case(), "anchors", **options)
