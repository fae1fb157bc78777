"""The image without the finding: the planted sign is filled, found by itself or given; elsewhere nothing changes."""

import pytest
import torch
from planted import case, marker, network

from runners import Owned, discover
from runners.beyond.counterfactuals_filled import _touching
from runners.beyond.drawing import NONE


@pytest.mark.parametrize("dims", [2, 3])
def test_the_planted_sign_is_filled(dims):
    x, mask = case(dims)
    told = discover(network(dims), x, "inpainting_counterfactual", 1, segments=40 if dims == 2 else 30)
    form = told.form
    assert form.measures["cf_validity"] == 1
    filled = (form.images[-1] - x[0]).abs().amax(0) > 1e-6
    assert float((filled & mask).sum() / mask.sum()) > 0.4
    assert float(form.images[-1][0][mask].mean()) < float(x[0, 0][mask].mean())
    assert form.measures["p of the change of the score against random places"] < 0.1
    assert torch.equal(form.images[0], x[0])


def test_a_given_mask_fades_out():
    x, mask = case()
    told = discover(network(), x, "inpainting_counterfactual", 1, owned=Owned(mask=mask), blend=4)
    form = told.form
    assert len(form.images) == 5
    assert form.measures["cf_validity"] == 1
    assert torch.equal(form.images[-1][:, ~mask], x[0][:, ~mask])
    assert (form.scores.diff() < 0).all()
    middle = (form.images[0] + form.images[-1]) / 2
    assert torch.allclose(form.images[2], middle, atol=1e-5)


def test_a_mask_of_nothing_changes_nothing():
    x, mask = case()
    other = torch.zeros_like(mask)
    free = (~mask).nonzero()
    corner = max(
        ((0, 0), (0, 20), (20, 0), (20, 20)), key=lambda at: int((~mask[at[0] : at[0] + 8, at[1] : at[1] + 8]).sum())
    )
    assert len(free)
    other[corner[0] : corner[0] + 8, corner[1] : corner[1] + 8] = True
    other &= ~mask
    told = discover(network(), x, "inpainting_counterfactual", 1, owned=Owned(mask=other))
    assert told.form.measures["cf_validity"] == 0
    assert NONE in told.cautions
    assert told.form.measures["p of the change of the score against random places"] > 0.05


def test_what_a_segmenter_marks_goes_too():
    x, mask = case()
    told = discover(marker(), x, "inpainting_counterfactual", 1, owned=Owned(mask=mask))
    assert told.form.measures["cf_validity"] == 1


def test_neighbours_are_those_of_a_slow_search():
    grid = torch.tensor([[0, 0, 1], [2, 3, 1], [2, 3, 3]]).numpy()
    slow = [set() for _ in range(4)]
    for i in range(3):
        for j in range(3):
            for k, m in ((i + 1, j), (i, j + 1)):
                if k < 3 and m < 3 and grid[i, j] != grid[k, m]:
                    slow[grid[i, j]].add(int(grid[k, m]))
                    slow[grid[k, m]].add(int(grid[i, j]))
    assert _touching(grid, 4) == slow
