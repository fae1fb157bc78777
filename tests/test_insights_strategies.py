"""Clusters of relevance maps show the planted shortcut, and none where there is none."""

import pytest
import tagged
import torch
from torch.nn import functional as F

from runners import Cohort, Owned, discover
from runners.beyond.strategies import _place, clustered, consistency, scattered
from runners.registry import seeded
from taxonomy.errors import TargetError

COMMON = "groups with a common place (p up to 0.01, half of the relevance in a fifth of the image)"
OWNED = Owned(cohort=tagged.cohort())


def in_tag(map_):
    return float(map_[1:8, 1:8].sum() / map_.sum())


def test_the_group_that_goes_by_the_tag_is_found():
    found = discover(tagged.learned(True), tagged.case(), "spray", 1, owned=OWNED)
    form = found.form
    group = max(range(len(form.names)), key=lambda k: in_tag(form.maps[k]))
    assert in_tag(form.maps[group]) > 0.7
    assert "this one among them" in form.names[group]
    assert form.p_values[group] <= 0.01
    assert form.low[group] > 1
    assert form.measures[COMMON] >= 1
    number = form.names[group].split(":")[0].removeprefix("group ")
    told = next(note for note in found.notes if note.startswith("Known labels"))
    assert "no blob" in told.split(f"group {number}: ")[1].split(";")[0]
    again = discover(tagged.learned(True), tagged.case(), "spray", 1, owned=OWNED)
    assert torch.equal(again.form.scores, form.scores)
    assert torch.equal(again.form.p_values, form.p_values)


@pytest.mark.parametrize("which", ["no shortcut", "untrained"])
def test_without_a_shortcut_no_common_place_is_found(which):
    model = tagged.untrained() if which == "untrained" else tagged.learned(False)
    found = discover(model, tagged.case(tag=False, blob=True), "spray", 1, owned=OWNED)
    assert found.form.measures[COMMON] == 0
    assert "no shortcut was seen" in found.cautions[-1]


def test_a_case_for_which_nothing_speaks_is_in_no_group():
    found = discover(tagged.learned(False), tagged.case(blob=False), "spray", 1, owned=OWNED)
    assert not any("this one" in name for name in found.form.names)
    assert "in no group" in " ".join(found.notes)


def test_spectral_clusters_are_the_planted_ones():
    g = seeded(0)
    centres = torch.eye(3).repeat_interleave(4, 1)
    rows = torch.arange(60) % 3
    unit = F.normalize(centres[rows] + 0.1 * torch.rand(60, 12, generator=g), dim=1)
    found, gaps = clustered(unit, 0, 0)
    assert int(gaps.argmax()) + 1 == 3
    assert all(len(set(found[rows == k].tolist())) == 1 for k in range(3))
    assert len(set(found.tolist())) == 3


def test_agreement_is_the_mean_of_all_pairs():
    unit = F.normalize(torch.rand(9, 5, generator=seeded(0)), dim=1)
    pairs = [float(unit[i] @ unit[j]) for i in range(9) for j in range(9) if i != j]
    assert consistency(unit) == pytest.approx(sum(pairs) / len(pairs))
    assert consistency(unit[:3]) == 0


def test_scattering_keeps_maps_whole_and_smears_a_place():
    maps = torch.zeros(80, 16, 16)
    for i in range(80):
        a, b = (3, 3) if i % 2 else torch.randint(2, 14, (2,), generator=seeded(i)).tolist()
        maps[i, a, b] = 1
    moved = scattered(maps, seeded(0))
    assert torch.equal(moved.flatten(1).sum(1), torch.ones(80))
    assert moved[:, 3, 3].sum() < 20 < 40 <= maps[:, 3, 3].sum()


def test_a_place_is_compact_or_none():
    peak = torch.zeros(10, 10)
    peak[2:4, 2:4] = 1
    place, compact = _place(peak)
    assert (int(place.sum()), compact) == (2, True)
    assert _place(torch.ones(10, 10))[1] is False


def test_bad_choices_are_told():
    for maps in ("magic", "attention_rollout"):
        with pytest.raises(TargetError, match="lrp_composite"):
            discover(tagged.untrained(), tagged.case(), "spray", 1, owned=OWNED, maps=maps)
    few = Owned(cohort=Cohort(tagged.cohort().x[:9]))
    with pytest.raises(TargetError, match="at least 20"):
        discover(tagged.untrained(), tagged.case(), "spray", 1, owned=few)
