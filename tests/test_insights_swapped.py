"""Counterfactuals inside the model: the planted sign is swapped, the concept that decides is taken away."""

import pytest
import torch
from planted import case, cohort, concepts, network, pictures

from runners import Cohort, Owned, discover
from runners.beyond.counterfactuals_inside import _pasted
from runners.beyond.drawing import NONE
from taxonomy.errors import TargetError


@pytest.mark.parametrize("dims", [2, 3])
def test_the_swapped_cells_lie_on_the_planted_sign(dims):
    x, mask = case(dims)
    told = discover(network(dims), x, "counterfactual_visual", 1, owned=Owned(cohort=cohort(dims)), edits=90)
    form = told.form
    assert form.measures["cf_validity"] == 1
    assert form.scores[-1] < form.scores[0]
    assert torch.equal(form.images[0], x[0])
    changed = (form.images[-1] - x[0]).abs().amax(0) > 0
    grown = torch.nn.functional.max_pool2d if dims == 2 else torch.nn.functional.max_pool3d
    near = grown(mask[None].float(), 5, 1, 2)[0] > 0
    assert float((changed & near).sum() / changed.sum()) > 0.8
    assert len(form.images) == 1 + round(
        form.measures["share of the cells that were swapped"] * (14**2 if dims == 2 else 125)
    )


def test_one_swap_is_the_best_of_all_by_a_slow_search():
    """The exact search over every pair of cells agrees with the one led by the gradient."""
    from runners.beyond.counterfactuals_inside import _swaps
    from runners.beyond.drawing import ask_for
    from runners.beyond.inside import cut
    from runners.models import profile
    from runners.targets import resolve

    x, _ = case()
    model = network()
    wired = profile(model, x)
    with torch.no_grad():
        what = resolve(1, model(x), x, None)
    asked = ask_for(
        model, x, what.score, profile=wired, others=what.others, decision=what.decision, goal=None, batch_size=64
    )
    inside = cut(model, x, what.score, wired, 64)
    own, there = inside.features(x), inside.features(pictures(1, 77, blob=False)[0])[0]
    pairs, scores, _ = _swaps(asked, inside, own, there, 1, 16)
    flat, other = own.flatten(2)[0], there.flatten(1)
    best, lowest = None, float("inf")
    weight = (model.head.weight[1] - model.head.weight[0]).detach()
    for j in range(flat.shape[1]):  # the head is linear in the mean
        change = weight @ (other - flat[:, [j]]) / flat.shape[1]
        if float(change.min()) < lowest:
            best, lowest = (j, int(change.argmin())), float(change.min())
    assert pairs == [best]
    assert scores[0] == pytest.approx(asked.before)


def test_without_a_case_to_swap_with_that_is_told():
    x, _ = case()
    same = Cohort(pictures(6, 3, blob=True)[0])
    with pytest.raises(TargetError, match="no case to swap with"):
        discover(network(), x, "counterfactual_visual", 1, owned=Owned(cohort=same))
    told = discover(network(), x, "counterfactual_visual", 1, owned=Owned(cohort=cohort()), edits=1)
    assert told.form.measures["cf_validity"] == 0
    assert told.cautions[0] == NONE


def test_a_cell_is_pasted_where_it_belongs():
    image, other = torch.zeros(1, 8, 6), torch.arange(48.0).view(1, 8, 6)
    made = _pasted(image, other, to=0, start=3, grid=(2, 2))
    assert torch.equal(made[0, :4, :3], other[0, 4:, 3:])
    assert int((made != 0).sum()) == 12


@pytest.mark.parametrize("dims", [2, 3])
def test_the_concept_that_decides_has_to_go(dims):
    x, _ = case(dims)
    told = discover(
        network(dims), x, "conceptual_counterfactual", 1, owned=Owned(cohort=cohort(dims), concepts=concepts(dims))
    )
    form = told.form
    weight = dict(zip(form.names, form.scores.tolist(), strict=True))
    assert form.measures["cf_validity"] == 1
    assert weight["blob"] < -0.2
    assert abs(weight["random"]) < 0.3 * abs(weight["blob"])
    assert abs(weight["stripes"]) < 0.5 * abs(weight["blob"])
    assert abs(weight["blob"]) > form.measures["largest weight of a random set"]


def test_concepts_that_mean_nothing_do_not_stand_out():
    x, _ = case()
    noise = {name: concepts()["random"] for name in ("one", "two")}
    told = discover(network(), x, "conceptual_counterfactual", 1, owned=Owned(cohort=cohort(), concepts=noise))
    assert told.form.measures["cf_validity"] == 0 or any("none" in note for note in told.notes)
