"""Phantoms: the planted evidence is exact, nothing else tells the label, and the physics is that of the modality."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, rice
from skimage.color import separate_stains
from skimage.transform import iradon, radon
from torch import Tensor

from runners.bench import phantoms as p
from runners.bench.phantoms import PHANTOMS, Planted
from runners.zoo.phantoms import blur, compressed, speckle
from taxonomy import load_kb

SIZES = {2: (64, 64), 3: (20, 32, 32)}
KINDS = [(name, dims) for name, phantom in PHANTOMS.items() for dims in phantom.dims]


def draw(name: str, dims: int, seed: int, label: int, **more: bool) -> Planted:
    return PHANTOMS[name].draw(seed, label, SIZES[dims], **more)


# ---------------------------------------------------------------- what all promise


@pytest.mark.parametrize(("name", "dims"), KINDS)
def test_the_same_seed_gives_the_same_patient_bit_for_bit(name: str, dims: int) -> None:
    phantom, state = PHANTOMS[name], torch.get_rng_state()
    one, again, other = (draw(name, dims, seed, 1) for seed in (7, 7, 8))
    assert one.image.shape == (phantom.channels, *SIZES[dims])
    assert one.image.dtype == torch.float32
    assert torch.isfinite(one.x).all()
    for field in ("image", "without", "evidence", "distractors", "truth"):
        assert torch.equal(getattr(one, field), getattr(again, field)), field
    assert not torch.equal(one.image, other.image)
    assert torch.equal(torch.get_rng_state(), state)
    assert phantom.modality in load_kb().modalities


@pytest.mark.parametrize(("name", "dims"), KINDS)
def test_the_twin_differs_by_the_evidence_and_by_nothing_else(name: str, dims: int) -> None:
    for label in range(1, len(PHANTOMS[name].labels)):
        for seed in range(4):
            there, gone = draw(name, dims, seed, label), draw(name, dims, seed, 0)
            assert there.without is not None
            assert torch.equal(there.without, gone.image)  # the same patient without the finding
            assert torch.equal(gone.image, gone.without)
            assert not gone.evidence.any()
            differs = (there.image != there.without).any(0)
            assert not (differs & ~there.evidence).any()
            assert 0.002 < float(there.evidence.float().mean()) < 0.45
            assert float(differs[there.evidence].float().mean()) > 0.7  # the rest is black, or equal by rounding
            assert there.channels is None or not gone.channels
            if there.channels is not None:  # the other channels know nothing
                rest = [channel for channel in range(len(there.image)) if channel not in there.channels]
                assert torch.equal(there.image[rest], there.without[rest])


@pytest.mark.parametrize(("name", "dims"), KINDS)
def test_the_label_map_is_the_finding_within_the_evidence(name: str, dims: int) -> None:
    for label in range(len(PHANTOMS[name].labels)):
        one = draw(name, dims, 3, label)
        assert one.truth is not None
        assert set(one.truth.unique().tolist()) == {0, label}
        assert not ((one.truth > 0) & ~one.evidence).any()


@pytest.mark.parametrize(("name", "dims"), KINDS)
def test_distractors_are_there_with_every_label_and_can_be_left_out(name: str, dims: int) -> None:
    seen = 0
    for seed in range(4):
        there, gone = draw(name, dims, seed, 1), draw(name, dims, seed, 0)
        assert not (there.distractors & there.evidence).any()
        assert torch.equal(there.distractors, gone.distractors & ~there.evidence)
        assert float((gone.distractors & there.evidence).sum()) <= 0.3 * float(gone.distractors.sum())
        plain = draw(name, dims, seed, 1, distract=False)
        assert not plain.distractors.any()
        changed = (plain.image - there.image).abs().amax(0)
        if there.distractors.any():
            seen += 1
            # it is the distractors that went, not the finding
            assert changed[there.distractors].mean() > 4 * changed[there.truth > 0].mean()
    assert seen >= 3


@pytest.mark.parametrize(("name", "dims"), KINDS)
def test_a_marker_marks_and_changes_nothing_else(name: str, dims: int) -> None:
    for label in (0, 1):
        plain, marked = draw(name, dims, 2, label), draw(name, dims, 2, label, mark=True)
        assert plain.shortcut is None
        assert marked.shortcut is not None
        assert marked.without is not None
        changed = (plain.image != marked.image).any(0)
        assert not (changed & ~marked.shortcut).any()
        assert torch.equal(marked.image[:, marked.shortcut], marked.without[:, marked.shortcut])
        assert not (marked.evidence & marked.shortcut).any()
        corner = marked.shortcut.nonzero()[:, -2:]
        assert 0 < len(corner.unique(dim=0)) < 30
        assert int(corner.max()) < 16


def test_the_position_of_the_finding_does_not_hang_on_where_the_distractors_are_left_out() -> None:
    for name, dims in KINDS:
        one, other = draw(name, dims, 5, 1), draw(name, dims, 5, 1, distract=False)
        assert one.truth is not None
        assert other.truth is not None
        overlap = ((one.truth > 0) & (other.truth > 0)).sum() / ((one.truth > 0) | (other.truth > 0)).sum()
        assert overlap > 0.9, name


def test_what_the_network_sees_is_scaled_and_clipped() -> None:
    one = draw("ct", 2, 0, 1)
    wanted = ((one.image - one.centre[0]) / one.scale[0]).clamp(-one.limit, one.limit)
    assert torch.equal(one.x, wanted)
    assert float(one.x.min()) == -one.limit
    assert float(draw("xray", 2, 0, 1).x.std()) == pytest.approx(1, abs=0.6)


# ---------------------------------------------------------------- ultrasound


def test_speckle_is_rayleigh_before_compression() -> None:
    envelope = speckle((256, 256), torch.Generator().manual_seed(0), 0.5)
    middle = envelope[64:192:8, ::12].flatten()  # far enough apart to be independent
    assert float(envelope.mean() / envelope.std()) == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.03)
    assert kstest((middle / middle.square().mean().sqrt() * math.sqrt(2)).numpy(), "rayleigh").pvalue > 0.01


def test_compression_is_logarithmic() -> None:
    grey = compressed(torch.tensor([0.01, 0.1, 0.02]))
    assert float(grey[1] - grey[0]) == pytest.approx(20 * 255 / 55, abs=1)
    assert float(grey[2] - grey[0]) == pytest.approx(6.02 * 255 / 55, abs=1)


def test_a_lesion_is_dark_and_throws_a_shadow() -> None:
    for seed in range(5):
        one = draw("ultrasound", 2, seed, 1)
        assert one.without is not None
        assert one.truth is not None
        lower = one.evidence & (one.truth == 0)
        for region in (one.truth > 0, lower):
            assert one.image[0][region].mean() < one.without[0][region].mean() - 15
        assert lower.nonzero()[:, 0].float().mean() > (one.truth > 0).nonzero()[:, 0].float().mean()


# ---------------------------------------------------------------- CT


def disc(side: int, radius: float) -> Tensor:
    down, right = p._grid((side, side))
    return torch.where((down**2 + right**2).sqrt() < radius, 0.0, -1000.0)


def test_the_scanner_gives_back_what_it_scans_and_agrees_with_scikit_image() -> None:
    side = 64
    water = disc(side, 0.6)
    quiet, none = torch.zeros(1, p.lines_of(side)), torch.zeros(1, side, side)
    found = p.scanned(water[None, None], none, quiet, 1e12, 0.0)[0, 0]
    inside = disc(side, 0.5) == 0
    assert found[inside].mean() == pytest.approx(0, abs=15)
    assert found[inside].std() < 15
    assert found[0].mean() == pytest.approx(-1000, abs=40)
    angles = np.arange(96) * 180 / 96
    theirs = iradon(radon((water.numpy() + 1000) / 1000, angles), angles, filter_name="hann") * 1000 - 1000
    assert abs(theirs[inside.numpy()].mean() - float(found[inside].mean())) < 20


def test_noise_of_the_scanner_falls_with_the_root_of_the_dose() -> None:
    side, generator = 64, torch.Generator().manual_seed(0)
    noise, none = torch.randn(1, p.lines_of(side), generator=generator), torch.zeros(1, side, side)
    water, inside = disc(side, 0.6)[None, None], disc(side, 0.5) == 0
    clean, low, high = (p.scanned(water, none, noise, dose, 0.0)[0, 0][inside] for dose in (1e13, 1e6, 4e6))
    assert float((low - clean).std() / (high - clean).std()) == pytest.approx(2, rel=0.05)


def test_hardening_darkens_what_lies_between_bones() -> None:
    side = 64
    slices, bone = disc(side, 0.8), torch.zeros(side, side)
    for left in (14, 44):
        bone[28:36, left : left + 6] = 1
    slices = torch.where(bone > 0, 800.0, slices)
    quiet = torch.zeros(1, p.lines_of(side))
    plain, hard = (p.scanned(slices[None, None], bone[None], quiet, 1e12, by)[0, 0] for by in (0.0, 0.02))
    lost = plain - hard
    assert lost[30:34, 26:38].mean() > 5 + 2 * lost[10:16, 26:38].mean().abs()


@pytest.mark.parametrize("dims", [2, 3])
def test_ct_is_in_hounsfield_units(dims: int) -> None:
    darker, brighter = draw("ct", dims, 1, 1), draw("ct", dims, 1, 2)
    for one, way in ((darker, -1), (brighter, 1)):
        assert one.without is not None
        assert one.truth is not None
        finding = one.truth > 0
        assert float(one.without[0][finding].mean()) == pytest.approx(110, abs=45)  # liver with contrast
        assert way * float((one.image - one.without)[0][finding].mean()) > 20
        assert float(one.image.min()) < -900
        assert 200 < float(one.image.max()) < 1500  # bone, in volumes with much partial volume


# ---------------------------------------------------------------- MR


def test_noise_is_rician() -> None:
    generator = torch.Generator().manual_seed(0)
    air = p.rician(torch.zeros(200_000), 6.0, generator)
    assert float(air.mean()) == pytest.approx(6 * math.sqrt(math.pi / 2), rel=0.01)  # the noise floor
    assert kstest(p.rician(torch.full((3000,), 15.0), 6.0, generator).numpy(), rice(2.5, scale=6).cdf).pvalue > 0.01
    one = draw("mr", 2, 0, 1)
    assert float(one.image[0, :3, :3].mean()) == pytest.approx(6 * math.sqrt(math.pi / 2), abs=3)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_bias_field_is_smooth_and_multiplies(dims: int) -> None:
    field = p.bias_field(SIZES[dims], torch.Generator().manual_seed(3))
    assert float(field.mean()) == pytest.approx(1, abs=1e-5)
    assert 0.1 < float(field.log().std()) < 0.3
    for axis in range(dims):  # its logarithm is a quadratic form: third differences vanish
        assert field.double().log().diff(3, axis).abs().max() < 1e-5


def test_only_flair_shows_the_lesions_and_fluid_is_dark_there() -> None:
    one = draw("mr_sequences", 2, 1, 1)
    assert one.channels == (2,)
    t1, t2, flair = draw("mr_sequences", 2, 1, 0).image
    shares, _, _ = p._brain((64, 64), torch.Generator().manual_seed(1))
    fluid, white = shares[3] > 0.95, shares[5] > 0.99
    assert t1[fluid].mean() < t1[white].mean()
    assert t2[fluid].mean() > t2[white].mean()
    assert flair[fluid].mean() < flair[white].mean()
    assert torch.allclose(shares.sum(0), torch.ones(64, 64), atol=1e-5)


# ---------------------------------------------------------------- light


def test_stains_follow_beer_and_lambert() -> None:
    one, none = torch.full((4, 4), 0.4), torch.zeros(4, 4)
    single, double = p.stained(one, one / 2) / 255, p.stained(2 * one, one) / 255
    assert torch.allclose(double, single**2, atol=1e-5)
    assert torch.equal(p.stained(none, none), torch.full((3, 4, 4), 255.0))
    blue, pink = p.stained(one, none)[:, 0, 0], p.stained(none, one)[:, 0, 0]
    assert blue[2] > blue[0]
    assert pink[0] > pink[1]
    from skimage.color import hed_from_rgb

    found = separate_stains((p.stained(one, none) / 255).permute(1, 2, 0).numpy(), hed_from_rgb)[0, 0]
    assert found[0] > 10 * max(abs(found[1]), 1e-3)


def test_atypical_nuclei_are_darker_and_larger_than_ordinary_ones() -> None:
    one = draw("histology", 2, 0, 1)
    assert one.without is not None
    assert one.truth is not None
    assert one.image[:, one.truth > 0].mean() < one.without[:, one.truth > 0].mean() - 30


def test_the_fundus_is_round_with_a_bright_disc_and_small_red_lesions() -> None:
    one = PHANTOMS["fundus"].draw(0, 1)
    assert one.image.shape == (3, 96, 96)
    assert one.image[:, :4, :4].max() < 15
    assert one.image[1].max() > one.image[1][48, 30:66].median() + 60
    assert 0.002 < float(one.evidence.float().mean()) < 0.03
    assert one.without is not None
    loss = (one.without - one.image)[:, one.evidence].mean(1)
    assert loss[1] > loss[2] > 0  # haemoglobin takes green most


def test_the_chest_is_darker_in_the_lungs_and_opacities_are_brighter() -> None:
    one = draw("xray", 2, 0, 1)
    assert one.without is not None
    assert one.truth is not None
    lung, middle = one.without[0][20:30, 44:50].mean(), one.without[0][20:60, 30:34].mean()
    assert lung < middle - 40
    assert one.image[0][one.truth > 0].mean() > one.without[0][one.truth > 0].mean() + 15


# ---------------------------------------------------------------- tools


def test_blur_by_matrices_is_a_gaussian_convolution_with_replicated_borders() -> None:
    values = torch.randn(14, 17, 11, generator=torch.Generator().manual_seed(0))
    sigma = (1.3, 0.7, 2.0)
    slow = values.clone()
    for axis, width in enumerate(sigma):
        reach = min(math.ceil(3 * width), values.shape[axis] - 1)
        kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
        kernel /= kernel.sum()
        lines = np.moveaxis(slow.numpy(), axis, -1)
        padded = np.pad(lines, [(0, 0), (0, 0), (reach, reach)], mode="edge")
        out = sum(padded[..., k : k + lines.shape[-1]] * kernel[k] for k in range(2 * reach + 1))
        slow = torch.from_numpy(np.ascontiguousarray(np.moveaxis(out, -1, axis)))
    assert torch.allclose(blur(values, sigma), slow.float(), atol=1e-5)
