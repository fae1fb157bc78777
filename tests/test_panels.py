"""Panels: every form is drawn, in 2D and 3D, and what it says is in the picture."""

import numpy as np
import pytest
import torch
from test_store import case

from runners import forms
from runners.discovery import Insight
from runners.forms import Cases, Changes, Concepts, Contributions, Counterfactual, Projection, Rationale, Rules, Units
from runners.panels import DRAWING, measured_words, panel, strongest
from runners.registry import seeded
from taxonomy import load_kb


def draw(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=seeded(1))


def all_forms(spatial: tuple[int, ...]) -> list[forms.Form]:
    image, region = (1, *spatial), torch.zeros(2, *spatial, dtype=torch.bool)
    region[0, 2:5] = True
    return [
        Concepts(
            ("speckle", "shadow"), torch.tensor([0.8, 0.4]), "TCAV score", torch.tensor([0.7, 0.3]),
            torch.tensor([0.9, 0.5]), torch.tensor([0.01, 0.4]), 0.5, draw(2, 3, *image), measures={"cf_validity": 1.0},
        ),
        Cases(torch.arange(3), draw(3), "likeness", ("most alike",) * 3, ("ill", "well", ""), images=draw(3, *image),
              maps=draw(3, *spatial), case_maps=draw(3, *spatial) - 0.5),
        Cases(torch.arange(2), draw(2), "influence", ("supports", "opposes")),
        Counterfactual(draw(5, *image), torch.linspace(0, 1, 5), 2, 4, draw(*image)),
        Changes(("age", "PSA"), torch.tensor([60.0, 4.0]), torch.tensor([[60.0, 2.0], [50.0, 4.0]]), draw(2)),
        Projection(draw(20, 2), draw(2), ("t-SNE 1", "t-SNE 2"), ("ill", "well") * 10),
        Rules(("IF dark THEN lesion", "IF bright THEN none"), draw(2), draw(2), region),
        Rules(("IF dark THEN lesion",)),
        Rationale(
            ("The lesion is dark.", "It is large."), ("contrast in dB", "area"), torch.tensor([-9.0, 80.0]), region,
            torch.tensor([0.3, torch.nan]), (True, False),
        ),
        Contributions(("T1", "FLAIR"), torch.tensor([0.5, -0.2]), "added to the score", inputs=("1", "2")),
        Contributions(("T1", "age"), torch.tensor([0.5, 0.2]), "added to the score", map=draw(*spatial) - 0.5),
        Contributions(
            ("age", "PSA"), torch.tensor([0.5, 0.2]), "change of the answer", inputs=("60", "4"),
            grid=draw(2, 5).sort().values, curves=draw(2, 5),
        ),
        Units(("unit 3", "unit 7"), draw(2), "mean", draw(2, *image), draw(2, 3, *image), draw(2, *spatial)),
    ]  # fmt: skip


def insight(form: forms.Form) -> Insight:
    return Insight(form, "tcav", "label 1", 0.5, (), (), {}, {}, 0.1, 0)


@pytest.mark.parametrize("volume", [False, True])
@pytest.mark.parametrize("number", range(13))
def test_every_form_is_drawn(number: int, volume: bool) -> None:
    one = case(volume=volume)
    form = all_forms(one.image.shape)[number]
    forms.checked(form)
    picture = panel(insight(form), one)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.std() > 3
    assert np.array_equal(panel(insight(form), one), picture)


def test_all_forms_have_a_drawing() -> None:
    assert set(DRAWING) == set(forms.FORMS.values()) == {type(one) for one in all_forms((6, 5))}


def test_the_strongest_are_shown_in_their_order() -> None:
    assert strongest(torch.tensor([0.1, -5.0, 3.0, 0.2]), 3) == [2, 3, 1]


def test_measures_have_the_names_of_the_knowledge_base() -> None:
    kb = load_kb()
    form = Concepts(("a",), torch.ones(1), "x", measures={"cf_validity": 0.5, "own_number": 2.0, "nothing": torch.nan})
    assert measured_words(insight(form), kb) == (f"{kb.metrics['cf_validity'].name}: 0.5", "own number: 2")


def test_forms_are_told_in_words() -> None:
    said = [forms.in_words(one) for one in all_forms((6, 5))]
    assert said[0] == ("speckle: TCAV score 0.8 (0.7 to 0.9), p 0.01", "shadow: TCAV score 0.4 (0.3 to 0.5), p 0.4")
    assert said[1][0].startswith("most alike: case 1 of the cohort, ill; likeness 0.")
    assert said[3] == ("the score goes from 0.5 to 1 in 5 images",)
    assert said[4][0].startswith("PSA 4 → 2: score 0.")
    assert said[5][0].startswith("among 20 cases; nearest in the picture: ")
    assert said[8] == (
        "The lesion is dark. [contrast in dB: -9]",
        "It is large. [area: 80; not confirmed by its check]",
    )
    assert said[9] == ("T1 = 1: added to the score 0.5", "FLAIR = 2: added to the score -0.2")
    many = Contributions(tuple(map(str, range(13))), torch.arange(13.0), "x")
    assert forms.in_words(many)[0] == "12: x 12"
    assert forms.in_words(many)[-1] == "and 3 more"
