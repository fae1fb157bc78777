"""Pictures: colours mean what they say, the anatomy stays, directions and proportions are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_store import case, explanation

from runners.case import Case
from runners.images import Image
from runners.pictures import (
    COLOUR_MAPS,
    MARKED,
    REFERENCE,
    colour_bar,
    default_colours,
    draw,
    figure,
    limits,
    middle,
    outline,
    overlay,
    plane,
    planes,
    polarity,
    ramp,
)
from taxonomy.errors import ImageError, TargetError

GREY = torch.full((5, 5), 0.5)


def spot(value: float) -> torch.Tensor:
    values = torch.zeros(5, 5)
    values[2, 2] = value
    return values


def test_red_is_for_and_blue_is_against() -> None:
    red = overlay(GREY, spot(1.0), signed=True)[2, 2].astype(int)
    blue = overlay(GREY, spot(-1.0), signed=True)[2, 2].astype(int)
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50


@pytest.mark.parametrize("signed", [True, False])
def test_where_the_map_is_zero_the_image_is_untouched(signed: bool) -> None:
    drawn = overlay(GREY, spot(1.0), signed=signed)
    drawn[2, 2] = 128
    assert (drawn == 128).all()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("opacity", [0.0, 0.4, 1.0])
def test_opacity_is_that_of_the_strongest_place(signed: bool, opacity: float) -> None:
    name = default_colours(signed, False)
    top = ramp(signed, name)[0, -1].astype(float)
    drawn = overlay(GREY, spot(3.0), signed=signed, opacity=opacity, limit=(-3.0, 3.0) if signed else (0.0, 3.0))
    np.testing.assert_allclose(drawn[2, 2], 127.5 * (1 - opacity) + top * opacity, atol=1.5)


def test_opacity_grows_with_the_magnitude() -> None:
    values = torch.linspace(-1, 1, 25).reshape(5, 5)
    white, black = (overlay(torch.full((5, 5), v), values, signed=True, opacity=0.8).astype(float) for v in (1.0, 0.0))
    alpha = 1 - (white - black)[..., 0].ravel() / 255  # what hides the difference of the images below
    np.testing.assert_allclose(alpha, 0.8 * values.abs().ravel().numpy(), atol=0.02)


def test_limits_are_robust_and_centred() -> None:
    values = torch.rand(100, 100, generator=torch.Generator().manual_seed(0)) - 0.2
    values[0, 0] = 1000.0
    low, high = limits(values, True)
    assert low == -high
    assert 0.7 < high < 0.9
    low, high = limits(values, False)
    assert -0.2 < low < -0.17
    assert high < 0.9
    lone = torch.zeros(100, 100)
    lone[5, 5] = -2.0
    assert limits(lone, True) == (-2.0, 2.0)
    assert limits(lone, False) == (-2.0, 0.0)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.7, -0.7])
def test_a_flat_map_says_nothing(signed: bool, value: float) -> None:
    values = torch.full((5, 5), value)
    drawn = overlay(GREY, values, signed=signed)
    if not signed or value == 0.0:
        assert (drawn == 128).all()
    assert figure(Case(image(torch.rand(1, 5, 5)), {}), explanation()).ndim == 3


def test_every_colour_map_can_be_drawn_and_wrong_ones_are_refused() -> None:
    for name, (signed, _, _) in COLOUR_MAPS.items():
        assert overlay(GREY, spot(1.0), signed=signed, colours=name).shape == (5, 5, 3)
        with pytest.raises(TargetError, match=f"{name!r} does not suit"):
            overlay(GREY, spot(1.0), signed=not signed, colours=name)
    with pytest.raises(TargetError, match="take one of"):
        overlay(GREY, spot(1.0), signed=True, colours="jet")
    with pytest.raises(TargetError, match="cannot lie on"):
        overlay(GREY, torch.zeros(4, 5), signed=True)


def test_even_scales_are_even() -> None:
    """Lightness rises steadily in every scale for maps without sign."""
    for name, (signed, _, _) in COLOUR_MAPS.items():
        if not signed:
            red, green, blue = ramp(False, name)[0].astype(float).T
            lightness = 0.2126 * red + 0.7152 * green + 0.0722 * blue
            assert (np.diff(lightness) > -1.0).all(), name
            assert lightness[-1] - lightness[0] > 120, name


def test_the_bar_is_the_scale_of_the_map() -> None:
    bar = colour_bar(200, signed=True, limit=(-0.5, 0.5), colours="RdBu_r")
    column = bar[30:170, 15].astype(int)
    assert column[0, 0] > column[0, 2]  # red on top
    assert column[-1, 2] > column[-1, 0]
    assert polarity(True) == ("speaks for", "speaks against")


def test_outline_is_the_edge_alone() -> None:
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[2:7, 2:7] = True
    drawn = outline(np.zeros((9, 9, 3), np.uint8), mask, (255, 0, 0))
    painted = drawn[..., 0] == 255
    assert painted.sum() == 16
    assert not painted[4, 4]
    assert painted[2, 2]
    around = outline(np.zeros((9, 9, 3), np.uint8), mask, (255, 0, 0), outside=True)[..., 0] == 255
    assert around.sum() == 24
    assert not (around & mask.numpy()).any()


def image(values: torch.Tensor, **more: object) -> Image:
    return Image(values=values, display_range=(0.0, 1.0), sha256="0" * 64, format="PNG", **more)  # type: ignore[arg-type]


def test_square_pixels() -> None:
    one = Case(image(torch.rand(1, 40, 20), spacing=(0.5, 2.0)), {})  # 20 mm tall, 40 mm wide
    assert plane(one, side=100).base.shape == (50, 100)
    assert plane(Case(image(torch.rand(3, 40, 20)), {}), side=100).base.shape == (100, 50, 3)


def oriented() -> Case:
    """A volume whose corner at the patient's right, anterior, superior end is bright, 2 mm thick slices."""
    values = torch.zeros(1, 10, 12, 8)
    values[0, 9, 11, 7] = 1.0
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    return Case(image(values, spacing=(1.0, 1.0, 2.0), affine=affine), {})


@pytest.mark.parametrize(("axis", "size"), [(2, (12, 10)), (1, (16, 10)), (0, (16, 12))])
def test_directions(axis: int, size: tuple[int, int]) -> None:
    one = oriented()
    drawn = plane(one, one.image.values[0], axis, one.image.shape[axis] - 1, side=16)
    assert drawn.letters is not None
    assert drawn.values is not None
    assert tuple(drawn.base.shape) == size
    row, column = divmod(int(drawn.values.argmax()), size[1])
    left, _, top, _ = drawn.letters
    # RAS: the last index lies right, anterior and superior; where the bright corner is drawn, the letter must agree
    assert (column < size[1] / 2) == (left in "RA")
    assert (row < size[0] / 2) == (top in "AS")
    assert (left, top) == {2: ("R", "A"), 1: ("R", "S"), 0: ("A", "S")}[axis]


def test_slices_go_through_what_the_map_marks() -> None:
    one = oriented()
    values = torch.zeros(10, 12, 8)
    values[2, 9, 6] = -5.0
    values[5:, :5, :5] = 0.1
    assert middle(values) == (2, 9, 6)
    assert [p.title for p in planes(one, values)] == ["axial 7 of 8", "coronal 10 of 12", "sagittal 3 of 10"]
    assert middle(torch.zeros(10, 12, 8)) == (5, 6, 4)


def test_a_volume_without_directions_claims_none() -> None:
    one = Case(image(torch.rand(1, 6, 7, 8)), {})
    assert [p.letters for p in planes(one)] == [None] * 3
    assert plane(one, axis=0, index=2, side=80).title == "across axis 0 3 of 6"
    with pytest.raises(ImageError, match="slices 0 to 5"):
        plane(one, axis=0, index=6)


def test_regions_are_outlined() -> None:
    same = torch.zeros(12, 10)
    same[3:8, 2:7] = 1
    one = replace(case(), marked=same.long(), mask=same > 0)  # the model is right: both lines must be seen
    drawn = draw(plane(one), signed=True, limit=(0.0, 0.0)).reshape(-1, 3)
    for colour in (MARKED, REFERENCE):
        assert (drawn == colour).all(1).any()


@pytest.mark.parametrize("kind", [{"volume": True}, {"volume": False}, {"channels": 3}], ids=str)
def test_figures_of_all_kinds(kind: dict[str, int]) -> None:
    one = case(**kind)
    found = explanation(shape=(8, 8, 12) if kind.get("volume") else (16, 16))
    with_map, without = figure(one, found), figure(one, None)
    assert with_map.dtype == without.dtype == np.uint8
    assert with_map.shape[1] > without.shape[1]  # the colour bar
    assert not np.array_equal(with_map[: without.shape[0], : without.shape[1]], without)
