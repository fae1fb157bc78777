"""Physically motivated pictures with planted evidence: we know exactly which pixels decide.

Every phantom draws its anatomy, its noise, its distractors and its evidence from one seed, whatever the label, so that
``draw(seed, 1)`` and ``draw(seed, 0)`` are the same patient with and without the finding. The picture is formed twice,
with the evidence in the tissue and without it, through the same noise; both pass through the physics of the modality.
Where physics spreads the difference (blur, shadows, streaks), pixels in which the change of the *tissue* stays below
``SHARE`` of its greatest are taken from the twin: outside of ``Planted.evidence`` the two pictures are equal bit for
bit. Inside, they differ almost everywhere (not where both are black, for instance).

Distractors are structures that a hasty eye would take for a finding; they are as frequent with as without evidence. All
phantoms are caricatures: they have the statistics, artefacts and contrasts of a modality, not the anatomy of a patient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runners.zoo.phantoms import below, blur, breast_tissue, compressed, contour, speckle, uniform

SHARE = 0.1
"""Pixels belong to the evidence where the tissue changes by more than this share of its greatest change."""

Size = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Planted:
    """A picture of which we know what decides.

    Attributes:
        image: float32 ``(C, *spatial)`` in the units of the modality: HU for CT, 0 to 255 for pictures.
        label: the true class; 0 is "nothing there" where evidence is planted.
        evidence: bool ``(*spatial)``, the pixels in which ``image`` differs from ``without``; for expert masks the
            marked region.
        distractors: bool ``(*spatial)``, structures that say nothing about the label; disjoint from ``evidence``.
        shortcut: bool ``(*spatial)``, a burnt-in marker, where there is one.
        truth: int64 ``(*spatial)``, label map of a segmentation.
        without: ``(C, *spatial)``, the same picture without its evidence; None where nobody knows it (expert masks).
        seed: what it was drawn from; -1 for real images.
        channels: the input channels that hold the evidence; None for all.
        centre: per channel ``(C,)``: what the network sees is ``(image - centre) / scale``.
        scale: per channel ``(C,)``.
        name: for rows and messages.
    """

    image: Tensor
    label: int
    evidence: Tensor
    distractors: Tensor
    shortcut: Tensor | None
    truth: Tensor | None
    without: Tensor | None
    seed: int
    centre: Tensor
    scale: Tensor
    channels: tuple[int, ...] | None = None
    name: str = ""

    @property
    def x(self) -> Tensor:
        """The picture as the network sees it, ``(C, *spatial)``."""
        return self.seen(self.image)

    @property
    def x_without(self) -> Tensor | None:
        """The picture without its evidence as the network sees it, ``(C, *spatial)``."""
        return None if self.without is None else self.seen(self.without)

    def seen(self, image: Tensor) -> Tensor:
        """Return ``(C, *spatial)`` in the units of :attr:`image` as the network sees it."""
        ones = (-1,) + (1,) * (image.ndim - 1)
        return (image - self.centre.view(ones)) / self.scale.view(ones)


@dataclass(frozen=True)
class Phantom:
    """A kind of picture.

    Attributes:
        modality: modality id of the knowledge base.
        draw: ``draw(seed, label, size, mark=False, distract=True) -> Planted``.
        channels: of its pictures.
        labels: what the labels mean, 0 first.
        dims: numbers of dimensions it can be drawn in.
    """

    modality: str
    draw: Callable[..., Planted]
    channels: int = 1
    labels: tuple[str, ...] = ("none", "lesion")
    dims: tuple[int, ...] = (2,)


# ---------------------------------------------------------------- shapes


def _grid(size: Size) -> tuple[Tensor, ...]:
    """Return one coordinate map per axis, -1 to 1 from edge to edge, broadcastable to ``size``."""
    axes = []
    for axis, count in enumerate(size):
        steps = (torch.arange(count, dtype=torch.float32) + 0.5) / count * 2 - 1
        axes.append(steps.view([-1 if other == axis else 1 for other in range(len(size))]))
    return tuple(axes)


def _waves(size: Size, sigma: float, generator: torch.Generator) -> Tensor:
    """Return smooth noise ``(*size)`` of unit variance; ``sigma`` in pixels."""
    noise = blur(torch.randn(size, generator=generator), (sigma,) * len(size))
    return noise / noise.std()


def _oval(size: Size, centre: Sequence[float], radii: Sequence[float], turn: float = 0.0) -> Tensor:
    """Return the distance from a centre in units of the radii, ``(*size)``; all in coordinates of :func:`_grid`.

    ``turn`` (radians) turns the last two axes.
    """
    offsets = [axis - middle for axis, middle in zip(_grid(size), centre, strict=True)]
    if turn:
        down, right = offsets[-2:]
        offsets[-2:] = [
            down * math.cos(turn) - right * math.sin(turn),
            right * math.cos(turn) + down * math.sin(turn),
        ]
    total = torch.zeros(size)
    for offset, radius in zip(offsets, radii, strict=True):
        total = total + (offset / radius) ** 2
    return total.sqrt()


def _spot(allowed: Tensor, generator: torch.Generator) -> tuple[float, ...]:
    """Return the coordinates of a random place where ``allowed`` holds; the middle of the picture if nowhere."""
    places = allowed.nonzero()
    pick = float(torch.rand((), generator=generator))
    if not len(places):
        return (0.0,) * allowed.ndim
    place = places[min(int(pick * len(places)), len(places) - 1)]
    return tuple((int(at) + 0.5) / count * 2 - 1 for at, count in zip(place, allowed.shape, strict=True))


def _blob(
    allowed: Tensor, low: float, high: float, rough: float, generator: torch.Generator, away: Tensor | None = None
) -> Tensor:
    """Return a soft random blob, 0 to 1, centred where ``allowed`` holds.

    Args:
        allowed: bool ``(*size)``.
        low: smallest radius in pixels.
        high: greatest radius in pixels.
        rough: 0 for an ellipsoid, about 0.3 for a lobed outline.
        generator: source of randomness.
        away: bool ``(*size)``: keep the centre farther than the greatest radius from these pixels, where possible.
    """
    size = tuple(allowed.shape)
    if away is not None:
        far = allowed & (blur(away.float(), (high,) * len(size)) < 0.02)
        allowed = far if far.any() else allowed
    centre = _spot(allowed, generator)
    radii = [2 * uniform(low, high, generator) / count for count in size]
    distance = _oval(size, centre, radii) * (1 + rough * _waves(size, max(low, 1.0), generator))
    sharp = min(low, 3.0)
    return ((1 - distance) * sharp + 0.5).clamp(0, 1)


# ---------------------------------------------------------------- what all phantoms share

# An R as on films; the shortcut is the commonest kind: a mark that the machine or the technician burnt in.
_GLYPH = torch.tensor(
    [[int(dot) for dot in row] for row in ("11110", "10001", "10001", "11110", "10100", "10010", "10001")]
)


def marker(size: Size, generator: torch.Generator) -> Tensor:
    """Return where a burnt-in mark lies, bool ``(*size)``: an R in the upper left corner; in volumes in all slices."""
    place = torch.zeros(size, dtype=torch.bool)
    side = max(1, size[-1] // 64)
    glyph = _GLYPH.bool().repeat_interleave(side, 0).repeat_interleave(side, 1)
    top = 2 + int(uniform(0, 3, generator))
    left = 2 + int(uniform(0, 3, generator))
    place[..., top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
    return place


@dataclass(frozen=True, eq=False)
class _Parts:
    """What a phantom hands over: both pictures ``(C, *spatial)`` and how much the tissue changed, ``(*spatial)``."""

    image: Tensor
    without: Tensor
    change: Tensor
    finding: Tensor
    distractors: Tensor
    centre: Sequence[float]
    scale: Sequence[float]
    white: Sequence[float]
    channels: tuple[int, ...] | None = None


def _planted(parts: _Parts, seed: int, label: int, mark: bool) -> Planted:
    size = tuple(parts.change.shape)
    change = parts.change.abs()
    evidence = change > SHARE * change.max()
    if label == 0:
        evidence = torch.zeros_like(evidence)
    image = torch.where(evidence, parts.image, parts.without)
    without = parts.without
    shortcut = None
    if mark:  # its own randomness, so that the marked picture is the same patient
        shortcut = marker(size, torch.Generator().manual_seed(seed + 2**40))
        white = torch.tensor(parts.white).view(-1, *(1,) * len(size))
        image, without = torch.where(shortcut, white, image), torch.where(shortcut, white, without)
        evidence = evidence & ~shortcut
    truth = (parts.finding & evidence).long() * label
    return Planted(
        image,
        label,
        evidence,
        parts.distractors & ~evidence,
        shortcut,
        truth,
        without,
        seed,
        torch.tensor(parts.centre),
        torch.tensor(parts.scale),
        parts.channels if label else None,
        str(seed),
    )


# ---------------------------------------------------------------- ultrasound


def ultrasound(seed: int, label: int, size: Size = (64, 64), *, mark: bool = False, distract: bool = True) -> Planted:
    """Breast ultrasound: label 1 is an irregular dark lesion with a shadow below; every picture has a cyst.

    Complex Gaussian scatterers, blurred by a point spread that widens with depth, give a Rayleigh envelope; tissue
    scales it; it is log-compressed to 55 dB. The lesion and its shadow are evidence, the lesion is ``truth``. The cyst
    (round, black, brighter below) is a distractor. Simplified: no refraction, no beam steering, no depth gain.

    Args:
        seed: the same seed gives the same picture, bit for bit.
        label: 0 nothing, 1 lesion.
        size: height and width in pixels.
        mark: whether to burn a marker into the corner, with the lesion or without it alike.
        distract: False leaves the distractors out of the same patient.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    grain = height / 256
    decibel = breast_tissue((height, width), generator) - 6 * torch.linspace(0, 1, height)[:, None]
    finding = contour((height, width), uniform(0.4, 0.9, generator), generator)
    inside, behind = uniform(-32, -24, generator), uniform(40, 70, generator)
    down = torch.linspace(-1, 1, height)[:, None]
    room = (down.abs() < 0.55).expand(size) & (torch.linspace(-1, 1, width).abs() < 0.8)
    taken = finding | (below(finding) > 0)
    cyst = _blob(room, 0.05 * height, 0.09 * height, 0.0, generator, away=taken)
    cyst = cyst * distract
    beyond = blur(below(cyst > 0.5), (0.5, width / 50))
    decibel = (1 - cyst) * (decibel + uniform(30, 60, generator) * beyond) + cyst * -45
    soft = blur(finding.float(), (0.5, 0.7))
    shadow = blur(below(finding), (0.5, width / 60))
    planted = soft * inside + (1 - soft) * decibel - behind * shadow
    echo = speckle((height, width), generator, max(grain, 0.4))
    pictures = [compressed(echo * 10 ** (each / 20))[None] for each in (planted, decibel)]
    distractors = (cyst > 0.5) | (beyond > 0.02)
    parts = _Parts(*pictures, planted - decibel, finding, distractors, [90.0], [60.0], [255.0])
    return _planted(parts, seed, label, mark)


PHANTOMS: dict[str, Phantom] = {"ultrasound": Phantom("ultrasound", ultrasound)}
