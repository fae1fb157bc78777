"""Localisation in closed forms."""

import pytest
import torch
from metric_toys import run

from runners.measures.localisation import pointing_game, relevance_mass_accuracy


@pytest.mark.parametrize("shape", [(4, 9, 9), (4, 7, 9, 9)])
def test_pointing_game(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[..., 2:4, 2:4] = True
    values = torch.zeros(shape)
    middle = (3,) * (len(shape) - 3)
    values[(0, *middle, 3, 3)] = 1  # inside
    values[(1, *middle, 6, 3)] = 1  # 3 below
    values[(2, *middle, 5, 5)] = 1  # 2 and 2 off: 2.83 away
    values[3] = 1  # no preference
    share = float(mask[0].double().mean())
    exact = run(pointing_game, None, None, values, mask=mask)
    assert exact.score.tolist() == pytest.approx([1, 0, 0, share])
    assert f"{share:.1%}" in exact.notes[0]
    assert run(pointing_game, None, None, values, mask=mask, tolerance=2).score[:3].tolist() == [1, 0, 0]
    assert run(pointing_game, None, None, values, mask=mask, tolerance=3).score[:3].tolist() == [1, 1, 1]


def test_pointing_game_shares_a_plateau():
    values, mask = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    values[0, 1, :] = 3
    mask[0, :, 1:] = True
    assert float(run(pointing_game, None, None, values, mask=mask).score) == 0.75


def test_relevance_mass():
    values, mask = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    values[0, 0, 0], values[0, 3, 3], values[0, 0, 1] = 3, 1, -50  # negative values do not count
    values[1] = -1
    values[2] = 2
    found = run(relevance_mass_accuracy, None, None, values, mask=mask)
    assert found.score[[0, 2]].tolist() == [0.75, 0.5]
    assert found.score[1].isnan()
    assert "image 2: not defined: the map has no positive value." in found.notes
