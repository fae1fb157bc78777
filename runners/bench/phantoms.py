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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from scipy import sparse
from skimage.color import rgb_from_hed
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
        centre: per channel ``(C,)``: what the network sees is ``(image - centre) / scale``, clipped to ``limit``.
        scale: per channel ``(C,)``.
        limit: greatest magnitude of what the network sees: a CT window.
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
    limit: float = math.inf
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
        return ((image - self.centre.view(ones)) / self.scale.view(ones)).clamp(-self.limit, self.limit)


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


@cache
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
    distance = _oval(size, centre, radii) * (1 + rough * _waves(size, max(low, 1.0), generator)).clamp(0.6, 1.5)
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
    limit: float = math.inf
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
        parts.limit,
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
    deeper = (down - down[finding.any(1)].max()).relu() if finding.any() else down  # the beam widens and fills it in
    shadow = blur(below(finding), (0.5, width / 60)) * (-deeper / 0.2).exp()
    planted = soft * inside + (1 - soft) * decibel - behind * shadow
    echo = speckle((height, width), generator, max(grain, 0.5))
    pictures = [compressed(echo * 10 ** (each / 20))[None] for each in (planted, decibel)]
    distractors = (cyst > 0.5) | (beyond > 0.02)
    parts = _Parts(pictures[0], pictures[1], planted - decibel, finding, distractors, [90.0], [60.0], [255.0])
    return _planted(parts, seed, label, mark)


# ---------------------------------------------------------------- CT

WATER = 0.0193
"""Attenuation of water per millimetre at about 70 keV."""
FIELD = 380.0
"""Field of view of the CT slices in millimetres."""
PHOTONS = 8e5
"""Counts of the open beam per detector bin."""
HARDENING = 0.015
"""Relative loss of a line integral per line integral of bone."""


@cache
def _scanner(side: int) -> tuple[sparse.csr_array, np.ndarray]:
    """Return a parallel-beam projector ``(angles * bins, side²)`` and the ramp filter of one projection's spectrum.

    Every pixel is shared between the two detector bins next to its projection. scikit-image's ``radon`` does the same
    by turning the picture, 100 times slower; the projector is a matrix because every picture passes it.
    """
    angles = np.arange(3 * side // 2) * np.pi / (3 * side // 2)
    bins = math.ceil(1.5 * side)
    at = np.arange(side) - (side - 1) / 2
    place = (np.cos(angles)[:, None, None] * at + np.sin(angles)[:, None, None] * at[:, None]).reshape(len(angles), -1)
    place += (bins - 1) / 2
    low = np.floor(place).astype(int)
    share = place - low
    rows = low + bins * np.arange(len(angles))[:, None]
    columns = np.broadcast_to(np.arange(side**2), rows.shape)
    index = (np.concatenate([rows.ravel(), rows.ravel() + 1]), np.concatenate([columns.ravel()] * 2))
    values = np.concatenate([(1 - share).ravel(), share.ravel()]).astype(np.float32)
    projector = sparse.csr_array((values, index), (len(angles) * bins, side**2))
    # the ramp, sampled in space (Kak and Slaney, Principles of Computerized Tomographic Imaging, section 3.3)
    taps = np.zeros(2 * bins)
    taps[0] = 0.25
    odd = np.arange(1, bins, 2)
    taps[odd] = taps[-odd] = -1 / (np.pi * odd) ** 2
    # a soft (Hamming) window, as in kernels for the abdomen
    window = 0.55 + 0.45 * np.cos(np.pi * np.arange(bins + 1) / bins)
    return projector, (np.fft.rfft(taps).real * window).astype(np.float32)


def scanned(hounsfield: Tensor, bone: Tensor, noise: Tensor, photons: float, hardening: float) -> Tensor:
    """Return slices as a CT scanner with filtered back-projection shows them, in HU.

    Line integrals of attenuation are hardened by the bone that they cross (dark bands between bones), get the noise of
    counted photons (Gaussian limit of Poisson counts: the variance of a line integral is one over its counts, at least
    five), and are filtered by a windowed ramp and projected back. Simplified: parallel beam, one energy but for the
    hardening term, no scatter.

    Args:
        hounsfield: ``(K, N, side, side)`` HU: K variants of N slices.
        bone: ``(N, side, side)``, share of bone.
        noise: ``(N, M)`` standard normal numbers, M the number of line integrals (:func:`lines_of`); the same for all
            variants.
        photons: counts per bin of the open beam.
        hardening: relative loss of a line integral per line integral of bone.
    """
    side = hounsfield.shape[-1]
    projector, ramp = _scanner(side)
    per_pixel = np.float32(WATER * FIELD / side)
    angles = 3 * side // 2
    bins = projector.shape[0] // angles

    def lines(slices: Tensor) -> np.ndarray:
        flat = np.ascontiguousarray(slices.reshape(-1, side**2).numpy().T)
        return np.asarray((projector @ flat).T) * per_pixel

    through = lines((hounsfield / 1000 + 1).clamp_min(0)).reshape(len(hounsfield), len(bone), -1)
    through = through * (1 - np.float32(hardening) * lines(bone * 2))
    counts = np.maximum(np.float32(photons) * np.exp(-through), np.float32(5))
    through = (through + noise.numpy() / np.sqrt(counts)).reshape(-1, angles, bins)
    filtered = np.fft.irfft(np.fft.rfft(through, 2 * bins) * ramp, 2 * bins)[..., :bins].astype(np.float32)
    back = (projector.T @ np.ascontiguousarray(filtered.reshape(len(through), -1).T)).T * np.pi / angles / per_pixel
    found = torch.from_numpy(np.ascontiguousarray(back, dtype=np.float32)).view(hounsfield.shape)
    return ((found - 1) * 1000).clamp(-1024, 3071)


def lines_of(side: int) -> int:
    """Return the number of line integrals of a slice of ``side`` pixels a side."""
    return 3 * side // 2 * math.ceil(1.5 * side)


def ct(seed: int, label: int, size: Size = (64, 64), *, mark: bool = False, distract: bool = True) -> Planted:
    """Contrast-enhanced abdominal CT in HU: label 1 is a dark, label 2 a bright lesion of the liver.

    Fat, muscle, liver, spleen, kidneys, aorta, spine and ribs in their usual HU; see :func:`scanned` for the physics.
    A gas bubble in the stomach, and bright vessels in the liver, are distractors. Volumes are stacks of such slices,
    with larger lesions of 1.4 times the contrast, some of which thick voxels take away again.
    The change of the noise and of the streaks by the lesion, far below the noise, is cut off outside the evidence.

    Args:
        seed: the same seed gives the same picture, bit for bit.
        label: 0 nothing, 1 hypodense lesion (75 to 110 HU below the liver, as a cyst), 2 hyperdense (as much above).
        size: (H, W) or (D, H, W), H and W equal; D runs from the head to the feet.
        mark: whether to burn a marker into the corner.
        distract: False leaves the distractors out of the same patient.
    """
    generator = torch.Generator().manual_seed(seed)
    flat = len(size) == 2
    full = (1, *size) if flat else size
    side = full[-1]
    wide = uniform(0.9, 0.98, generator)
    tall = wide * uniform(0.7, 0.82, generator)

    def jitter(value: float, by: float = 0.03) -> float:
        return value + uniform(-by, by, generator)

    def oval(z: float, y: float, x: float, depth: float, high: float, broad: float, turn: float = 0.0) -> Tensor:
        place = (0.0 if flat else z, y * tall, x * wide)
        return _oval(full, place, (depth if not flat else 2.0, high * tall, broad * wide), turn)

    body = _oval(full, (0.0, 0.0, 0.0), (1e3, tall, wide))
    grain = _waves(full, side / 20, generator)
    values = torch.full(full, -1000.0)
    values = torch.where(body < 1, -100 + 8 * grain, values)
    values = torch.where(body < uniform(0.84, 0.92, generator), 55 + 6 * grain, values)  # muscle of the wall
    bowel = -70 + 60 * _waves(full, side / 16, generator).clamp(-1, 1.6)  # and the fat around it
    values = torch.where(body < 0.78, bowel, values)
    wavy = 1 + 0.08 * _waves(full, side / 8, generator)
    stomach = oval(0, jitter(-0.35), jitter(0.42), 0.9, 0.26, 0.28) * wavy
    values = torch.where(stomach < 1, torch.tensor(30.0), values)
    parenchyma = uniform(100, 120, generator)
    liver = (oval(-0.1, jitter(-0.12), jitter(-0.38), 1.3, 0.58, 0.44, 0.3) * wavy < 1) & (body < 0.8)
    liver |= (oval(-0.2, jitter(-0.4), jitter(-0.08), 1.0, 0.26, 0.36) * wavy < 1) & (body < 0.8) & (stomach >= 1)
    values = torch.where(liver, parenchyma + 3 * grain, values)
    spleen = (oval(-0.1, jitter(0.2), jitter(0.6), 0.8, 0.36, 0.16, -0.3) < 1) & (body < 0.8)
    values = torch.where(spleen, torch.tensor(uniform(115, 130, generator)), values)
    for x in (-0.4, 0.36):
        kidney = oval(0.5, jitter(0.42), jitter(x), 0.6, 0.2, 0.14, 0.4 * math.copysign(1, x))
        values = torch.where(kidney < 1, torch.where(kidney < 0.45, -20.0, 180.0), values)
    for x in (-0.2, 0.2):  # muscles beside the spine
        values = torch.where(oval(0, 0.68, x, 9, 0.2, 0.16) < 1, torch.tensor(55.0), values)
    spine = oval(0, jitter(0.42, 0.02), 0.0, 9, 0.2, 0.14)
    arch = (oval(0, 0.68, 0.0, 9, 0.12, 0.17) < 1) | (oval(0, 0.8, 0.0, 9, 0.2, 0.04) < 1)
    bones = (spine < 1) | arch
    values = torch.where(arch, torch.tensor(500.0), values)
    values = torch.where(spine < 1, torch.where(spine < 0.75, 220.0, 650.0), values)
    canal = oval(0, 0.68, 0.0, 9, 0.09, 0.08) < 1
    values = torch.where(canal, torch.tensor(25.0), values)
    values = torch.where(oval(0, jitter(0.12, 0.02), 0.07, 9, 0.08, 0.06) < 1, torch.tensor(190.0), values)  # aorta
    z = _grid(full)[0] if not flat else torch.zeros(1, 1, 1)
    angle = torch.atan2(_grid(full)[1] / tall, _grid(full)[2] / wide)
    phase = uniform(0, 2 * math.pi, generator)
    ribs = ((body > 0.8) & (body < 0.88) & (torch.cos(9 * angle + phase + 4 * z) > 0.55)).expand(full)
    ribs = ribs & (_grid(full)[1] > -0.45 * tall)
    values = torch.where(ribs, torch.tensor(600.0), values)
    bones = (bones & ~canal) | ribs

    unit = side / 64
    deep = liver & (blur(liver.float(), (2.0 * unit,) * 3 if not flat else (0.1, 2.0 * unit, 2.0 * unit)) > 0.8)
    room = deep[0] if flat else deep
    low, high = (4.0 * unit, 7.5 * unit) if flat else (8 * unit, 11 * unit)
    lesion = _blob(room, low, high, 0.25, generator).view(full) * liver
    contrast = uniform(75, 110, generator) * (1 if flat else 1.4)  # thick voxels take some of it
    contrast = contrast if label == 2 else -contrast
    vessels = torch.zeros(full)
    for _ in range(4 if flat else 6):
        tube = _blob(room, 1.0 * unit, 1.7 * unit, 0.2, generator, away=lesion[0] > 0.1 if flat else lesion > 0.1)
        vessels = torch.maximum(vessels, tube.view(full))
    vessels = vessels * liver
    bubble = (stomach < 0.8) & (_grid(full)[1] < jitter(-0.38) * tall)  # gas rises: a level in the supine patient
    if distract:
        values = torch.where(bubble, torch.tensor(-950.0), values) + 60 * vessels * (1 - lesion)
    distractors = (bubble | ((vessels > 0.3) & (lesion < 0.1))) & distract

    noise = torch.randn(full[0], lines_of(side), generator=generator)
    change = blur(contrast * lesion, (0.3 if flat else 0.5, 0.6, 0.6))
    both = scanned(torch.stack([values + change, values]), bones.float(), noise, PHOTONS, HARDENING)
    shape = (1, *size)
    parts = _Parts(
        both[0].reshape(shape),
        both[1].reshape(shape),
        change.view(size),
        (lesion > 0.5).view(size),
        distractors.view(size),
        [60.0],
        [60.0],
        [1000.0],
        limit=2.5,
    )
    return _planted(parts, seed, label, mark)


# ---------------------------------------------------------------- MR

_TISSUES = ("air", "skull", "scalp", "csf", "grey", "white")
_SIGNAL: Mapping[str, tuple[float, ...]] = {
    "t1": (0, 20, 225, 45, 115, 160),
    "t2": (0, 20, 170, 230, 135, 95),
    "flair": (0, 20, 180, 25, 125, 95),
}
"""Grey levels of the tissues per sequence, in the order of ``_TISSUES``; what matters is their order."""


def bias_field(size: Size, generator: torch.Generator, strength: float = 0.2) -> Tensor:
    """Return a smooth multiplicative field ``(*size)`` with mean 1: the exponential of a random quadratic form."""
    axes = _grid(size)
    total = torch.zeros(size)
    for i, first in enumerate(axes):
        total = total + uniform(-1, 1, generator) * first
        for second in axes[i:]:
            total = total + uniform(-1, 1, generator) * first * second
    total = total / total.std()
    field = (strength * total).exp()
    return field / field.mean()


def rician(signal: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Return the magnitude of a signal with complex Gaussian noise of ``sigma`` per part (Rician; Rayleigh in air)."""
    real = signal + sigma * torch.randn(signal.shape, generator=generator)
    imaginary = sigma * torch.randn(signal.shape, generator=generator)
    return (real**2 + imaginary**2).sqrt()


def _brain(size: Size, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return shares of the tissues ``(6, *size)``, where white matter lies deep, and where the cortex lies."""
    side, dims = size[-1], len(size)
    narrow = uniform(0.72, 0.78, generator)
    radii = (0.88, 0.92, narrow) if dims == 3 else (0.92, narrow)
    middle = (0.0,) * dims
    head = _oval(size, middle, radii) * (1 + 0.012 * _waves(size, side / 6, generator))
    brain = head < uniform(0.8, 0.83, generator)
    folds = _waves(size, side / 28, generator)
    depth = (0.82 - head) * side / 2  # pixels below the surface of the brain, about
    right = _grid(size)[-1]
    fissure = (right.abs() < 1.2 / side) & (_grid(size)[-2].abs() > 0.3)
    cortex = brain & (depth < 2.6 * side / 64 * (1 + 0.8 * folds).clamp(0.4, 2.4))
    cortex |= brain & (right.abs() < 4.0 / side) & (_grid(size)[-2].abs() > 0.28)
    csf = brain & ((depth < 0.8 * side / 64) | ((folds > 1.0) & (depth < 4 * side / 64)) | fissure)
    grow = uniform(0.9, 1.3, generator)
    where = torch.zeros(size, dtype=torch.long)
    where[head < 1] = 2
    where[head < 0.93] = 1
    where[head < 0.86] = 3
    where[brain] = 5
    for way in (-1, 1):
        up = (0.0,) if dims == 3 else ()
        tall = (0.3,) if dims == 3 else ()
        nucleus = _oval(size, (*up, -0.02, 0.22 * way), (*tall, 0.2, 0.09), 0.35 * way)
        where[nucleus < 1] = 4
        ventricle = _oval(size, (*up, 0.02, 0.105 * way), (*tall, 0.3 * grow, 0.06 * grow), -0.15 * way)
        where[ventricle < 1] = 3
    deep = (where == 5) & (depth > 6 * side / 64)
    where[cortex] = 4
    where[csf] = 3
    shares = torch.stack([blur((where == tissue).float(), (0.45,) * dims) for tissue in range(len(_TISSUES))])
    return shares, deep, cortex & ~csf


def mr(
    seed: int,
    label: int,
    size: Size = (64, 64),
    *,
    mark: bool = False,
    distract: bool = True,
    sequences: tuple[str, ...] = ("flair",),
) -> Planted:
    """Brain MR: label 1 are bright lesions of the white matter in FLAIR; with several sequences, in FLAIR only.

    Tissue classes with partial volume get the signal of the sequence, a smooth multiplicative bias field (the same for
    all sequences) and Rician noise. Lacunes, which look like fluid in every sequence, and a bright spot of the cortex,
    are distractors; in T1 and T2 further spots, bright in T2 and dark in T1, say nothing. Simplified: real lesions of
    the white matter are seen in T2 too; here FLAIR alone decides, so that the deciding channel is known.

    Args:
        seed: the same seed gives the same picture, bit for bit.
        label: 0 nothing, 1 lesions.
        size: (H, W) or (D, H, W): axial slices, front up.
        mark: whether to burn a marker into the corner.
        distract: False leaves the distractors out of the same patient.
        sequences: the channels: t1, t2, flair.
    """
    generator = torch.Generator().manual_seed(seed)
    side, dims = size[-1], len(size)
    unit = side / 64 if dims == 2 else side / 32
    shares, deep, cortex = _brain(size, generator)
    lesion = torch.zeros(size)
    for _ in range(1 + int(uniform(0, 2.99, generator))):
        lesion = torch.maximum(lesion, _blob(deep, 2.2 * unit, 4.2 * unit, 0.25, generator))
    bright = uniform(95, 130, generator)
    lacune = torch.zeros(size)
    for _ in range(2):
        lacune = torch.maximum(lacune, _blob(deep, 1.6 * unit, 2.6 * unit, 0.1, generator, away=lesion > 0.1))
    spot = torch.zeros(size)
    for _ in range(2):
        spot = torch.maximum(spot, _blob(deep, 2.0 * unit, 4.0 * unit, 0.25, generator, away=lesion + lacune > 0.1))
    rim = _blob(cortex, 1.5 * unit, 2.5 * unit, 0.1, generator, away=lesion > 0.1)
    free = 1 - lesion
    lacune, spot, rim = lacune * free * distract, spot * free * distract, rim * free * distract
    field = bias_field(size, generator)
    several = len(sequences) > 1
    change = torch.zeros(size)
    images, twins = [], []
    for name in sequences:
        levels = torch.tensor(_SIGNAL[name])
        signal = (shares * levels.view(-1, *(1,) * dims)).sum(0)
        signal = signal * (1 + 0.03 * _waves(size, 1.5, generator))
        signal = (1 - lacune) * signal + lacune * levels[3]
        if name == "flair":
            signal = signal + 45 * rim * (shares[4] + shares[5])
            change = bright * lesion * (shares[4] + shares[5])
        elif several:
            signal = signal + spot * (70 if name == "t2" else -50)
        noise = torch.Generator().manual_seed(int(torch.randint(2**40, (), generator=generator)))
        state = noise.get_state()
        twins.append(rician(field * signal, 6.0, noise))
        if name == "flair":
            noise.set_state(state)
            images.append(rician(field * (signal + change), 6.0, noise))
        else:
            images.append(twins[-1])
    distractors = (lacune > 0.3) | (rim > 0.3) | ((spot > 0.3) & several)
    channels = len(sequences)
    parts = _Parts(
        torch.stack(images),
        torch.stack(twins),
        change,
        lesion > 0.5,
        distractors,
        [90.0] * channels,
        [65.0] * channels,
        [255.0] * channels,
        channels=(sequences.index("flair"),) if several else None,
    )
    return _planted(parts, seed, label, mark)


# ---------------------------------------------------------------- histopathology

_STAINS = torch.tensor(rgb_from_hed, dtype=torch.float32)
"""Optical density in red, green and blue of haematoxylin, eosin and DAB, as scikit-image separates stains by."""


def stained(haematoxylin: Tensor, eosin: Tensor) -> Tensor:
    """Return the RGB picture ``(3, H, W)``, 0 to 255, of stain amounts ``(H, W)``: Beer and Lambert's law."""
    density = haematoxylin[None] * _STAINS[0].view(3, 1, 1) + eosin[None] * _STAINS[1].view(3, 1, 1)
    return 255 * 10**-density


def histology(seed: int, label: int, size: Size = (64, 64), *, mark: bool = False, distract: bool = True) -> Planted:
    """Haematoxylin and eosin, about 0.7 µm a pixel: label 1 is a cluster of large, dark, irregular nuclei.

    Wavy pink fibres with gaps, ordinary oval nuclei; stain strengths vary between pictures; transmitted light follows
    Beer and Lambert. A cluster of lymphocytes (small, round, just as dark) is the distractor. Simplified: no cytoplasm
    borders, no glands, nuclei do not deform their neighbours.

    Args:
        seed: the same seed gives the same picture, bit for bit.
        label: 0 nothing, 1 atypical nuclei.
        size: height and width in pixels.
        mark: whether to burn a marker into the corner.
        distract: False leaves the distractors out of the same patient.
    """
    generator = torch.Generator().manual_seed(seed)
    unit = size[-1] / 64
    eosin_strength, blue = uniform(0.8, 1.2, generator), uniform(0.85, 1.15, generator)
    turn = uniform(0, math.pi, generator)
    down, right = _grid(size)
    bend = 0.5 * _waves(size, 10 * unit, generator)
    along = (right * math.cos(turn) + down * math.sin(turn)) * 14 + 3 * bend
    fibres = 0.5 + 0.5 * torch.sin(along + 2 * _waves(size, 4 * unit, generator))
    gaps = (_waves(size, 3.5 * unit, generator) > 1.6).float()
    eosin = (0.16 + 0.22 * fibres + 0.03 * _waves(size, 0.7, generator)) * (1 - 0.85 * blur(gaps, (0.8, 0.8)))
    blues = 0.03 + 0.02 * fibres
    chromatin = _waves(size, 0.8 * unit, generator)
    inside = torch.ones(size, dtype=torch.bool)

    def nucleus(place: tuple[float, ...], radius: float, lean: float, rough: float) -> Tensor:
        radii = [2 * radius * share / count for share, count in zip((lean, 1.0), size, strict=True)]
        distance = _oval(size, place, radii, uniform(0, math.pi, generator))
        if rough:
            distance = distance * (1 + rough * _waves(size, 1.6 * unit, generator)).clamp(0.6, 1.5)
        return ((1 - distance) * radius + 0.5).clamp(0, 1)

    def cluster(
        count: int, near: float, spread: float, small: float, large: float, rough: float, place: Sequence[float]
    ) -> Tensor:
        total = torch.zeros(size)
        first = uniform(0, 2 * math.pi, generator)
        for number in range(count):
            angle = first + 2 * math.pi * number / count
            far = uniform(near, spread, generator)
            at = (place[0] + far * math.sin(angle), place[1] + far * math.cos(angle))
            total = torch.maximum(
                total, nucleus(at, uniform(small, large, generator) * unit, uniform(0.7, 1, generator), rough)
            )
        return total

    ordinary = torch.zeros(size)
    for _ in range(20):
        at = _spot(inside, generator)
        one = nucleus(at, uniform(2.6, 3.4, generator) * unit, uniform(0.5, 0.8, generator), 0.0)
        if not (one * ordinary > 0).any():
            ordinary = torch.maximum(ordinary, one)
    where = [uniform(-0.6, 0.6, generator) for _ in range(2)]
    angle = math.atan2(-where[0], -where[1]) + uniform(-0.9, 0.9, generator)
    opposite = [
        max(-0.75, min(0.75, at + 0.95 * way))
        for at, way in zip(where, (math.sin(angle), math.cos(angle)), strict=True)
    ]
    atypical = cluster(4, 0.2, 0.3, 3.8, 5.4, 0.13, where)
    lymphocytes = cluster(8, 0.05, 0.24, 1.8, 2.2, 0.0, opposite) * (atypical == 0) * distract

    edge = (1 - blur(atypical, (1.5 * unit, 1.5 * unit))).clamp(0, 1) * 2

    def formed(odd: Tensor) -> Tensor:
        amount = (0.75 + 0.12 * chromatin) * ordinary
        amount = (1 - lymphocytes) * amount + lymphocytes * (1.35 + 0.08 * chromatin)
        amount = (1 - odd) * amount + odd * (0.8 + 0.25 * chromatin + edge)
        pink = eosin * (1 - 0.5 * torch.maximum(torch.maximum(ordinary, odd), lymphocytes))
        return stained(blue * (blues + amount).clamp_min(0), eosin_strength * pink.clamp_min(0))

    noise = 2.5 * torch.randn(3, *size, generator=generator)
    pictures = [(formed(odd) + noise).clamp(0, 255).round() for odd in (atypical, torch.zeros(size))]
    parts = _Parts(
        pictures[0], pictures[1], atypical, atypical > 0.5, lymphocytes > 0.3, [180.0] * 3, [55.0] * 3, [0.0] * 3
    )
    return _planted(parts, seed, label, mark)


# ---------------------------------------------------------------- fundus


def _vessels(size: Size, disc: tuple[float, float], way: int, generator: torch.Generator) -> Tensor:
    """Return the vessel tree of a retina, 0 to 1: branches that leave the disc, arch around the macula and thin out."""
    points: list[tuple[float, float, float]] = []
    open_ends = []
    for start, bend, radius in (
        (1.15, -1.35, 1.0), (-1.15, 1.35, 1.0), (2.3, -0.4, 0.8), (-2.3, 0.4, 0.8), (1.5, -0.9, 0.7), (-1.45, 0.9, 0.7)
    ):  # fmt: skip
        open_ends.append((disc[0], disc[1], start + uniform(-0.15, 0.15, generator), bend, radius, 0))
    while open_ends:
        y, x, angle, bend, radius, level = open_ends.pop()
        wander = torch.rand(2, 70, generator=generator).tolist()
        last, outwards = 4, math.copysign(1, angle)
        for step in range(70):
            points.append((y, x, radius))
            y, x = y + 0.025 * math.sin(angle), x + 0.025 * way * math.cos(angle)
            angle += 0.025 * bend + 0.16 * (wander[0][step] - 0.5)
            radius *= 0.99
            if y * y + x * x > 0.98 or radius < 0.3:
                break
            if level < 2 and step > last + 7 and wander[1][step] < 0.12:
                last = step
                outwards = -outwards if level else outwards
                open_ends.append((y, x, angle + 0.6 * outwards, -0.3 * bend, radius * 0.62, level + 1))
    table = torch.tensor(points)
    place = (table[:, :2] + 1) * size[0] / 2 - 0.5  # in pixels; a point reaches three pixels around
    near = torch.cartesian_prod(torch.arange(-3, 4), torch.arange(-3, 4))
    pixels = place.round().long()[:, None] + near
    cover = table[:, 2, None] * size[0] / 72 + 0.5 - (pixels - place[:, None]).norm(dim=-1)
    inside = ((pixels >= 0) & (pixels < size[0])).all(-1)
    flat = torch.zeros(size[0] * size[1])
    index = (pixels[..., 0] * size[1] + pixels[..., 1])[inside]
    return flat.scatter_reduce(0, index, cover[inside], "amax").clamp(0, 1).view(size)


def fundus(seed: int, label: int, size: Size = (96, 96), *, mark: bool = False, distract: bool = True) -> Planted:
    """Colour fundus photograph: label 1 are three to six small haemorrhages and microaneurysms.

    An orange retina with choroidal mottle, darker to the rim (vignette), bright disc, dark macula, and a tree of
    vessels that branches and thins; the camera's blur and noise. Drusen (small, pale) are distractors; so are vessels
    by nature. Simplified: arteries and veins look alike, no reflexes.

    Args:
        seed: the same seed gives the same picture, bit for bit.
        label: 0 nothing, 1 small red lesions.
        size: height and width in pixels.
        mark: whether to burn a marker into the corner.
        distract: False leaves the distractors out of the same patient.
    """
    generator = torch.Generator().manual_seed(seed)
    unit = size[-1] / 96
    way = 1 if uniform(0, 1, generator) < 0.5 else -1
    disc = (uniform(-0.08, 0.08, generator), -0.55 * way + uniform(-0.05, 0.05, generator))
    macula = (disc[0] + uniform(-0.02, 0.08, generator), disc[1] + way * uniform(0.62, 0.7, generator))
    down, right = _grid(size)
    radius = (down**2 + right**2).sqrt()
    mottle = 0.04 * _waves(size, 5 * unit, generator) + 0.02 * _waves(size, 1.2 * unit, generator)
    shade = (1.05 - 0.42 * radius**2 + 0.1 * right * uniform(-1, 1, generator)) * (1 + mottle)
    base = torch.tensor([uniform(185, 215, generator), uniform(88, 115, generator), uniform(40, 62, generator)])
    colour = base.view(3, 1, 1) * shade
    spot = _oval(size, macula, (0.2, 0.2))
    colour = colour * (1 - 0.3 * (-(spot**2) * 2).exp() * torch.tensor([0.8, 1.0, 1.0]).view(3, 1, 1))
    cup = _oval(size, disc, (0.17, 0.15))
    glow = torch.sigmoid((1 - cup) * 9)
    colour = colour * (1 - 0.8 * glow) + 0.8 * glow * torch.tensor([250.0, 215, 150]).view(3, 1, 1) * (
        1 - 0.1 * cup.clamp(0, 1)
    )
    vessels = _vessels(size, disc, way, generator)
    red = torch.tensor([0.30, 0.55, 0.45]).view(3, 1, 1)
    colour = colour * (1 - red * vessels)
    room = (radius < 0.8) & (cup > 1.6) & (spot > 0.6) & (blur(vessels, (1.2 * unit,) * 2) < 0.12)
    lesions = torch.zeros(size)
    for number in range(3 + int(uniform(0, 3.99, generator))):
        low, high = (2.0, 2.9) if number % 2 == 0 else (1.1, 1.5)  # blot haemorrhages and microaneurysms
        lesions = torch.maximum(lesions, _blob(room, low * unit, high * unit, 0.15, generator, away=lesions > 0.1))
    drusen = torch.zeros(size)
    for _ in range(5):
        drusen = torch.maximum(drusen, _blob(room, 1.1 * unit, 2.4 * unit, 0.1, generator, away=lesions > 0.1))
    drusen = drusen * (lesions == 0) * distract
    pale = torch.tensor([235.0, 190, 95]).view(3, 1, 1)
    colour = colour * (1 - 0.6 * drusen) + 0.6 * drusen * pale * shade
    noise = 2.5 * torch.randn(3, *size, generator=generator)
    round_view = torch.sigmoid((0.97 - radius) * size[0] / 2)
    dark = torch.tensor([0.42, 0.74, 0.6]).view(3, 1, 1)
    pictures = []
    for found in (lesions, torch.zeros(size)):
        sharp = colour * (1 - dark * found) * round_view
        optics = torch.stack([blur(channel, (0.5 * unit, 0.5 * unit)) for channel in sharp])
        pictures.append((optics + noise).clamp(0, 255).round())
    change = blur(lesions, (0.5 * unit, 0.5 * unit))
    parts = _Parts(
        pictures[0],
        pictures[1],
        change,
        lesions > 0.5,
        drusen > 0.3,
        [110.0, 60.0, 35.0],
        [60.0, 40.0, 25.0],
        [255.0] * 3,
    )
    return _planted(parts, seed, label, mark)


# ---------------------------------------------------------------- chest X-ray


def xray(seed: int, label: int, size: Size = (64, 64), *, mark: bool = False, distract: bool = True) -> Planted:
    """Frontal chest radiograph, bones white: label 1 are one or two round opacities of the lung.

    Path lengths through soft tissue, lung, heart, ribs and collar bones add up and attenuate exponentially (Beer and
    Lambert); photons are counted; the film shows the logarithm. Electrodes of an ECG are distractors. Simplified: one
    energy, no scatter, ribs are bands of one thickness.

    Args:
        seed: the same seed gives the same picture, bit for bit.
        label: 0 nothing, 1 opacities.
        size: height and width in pixels.
        mark: whether to burn a marker into the corner.
        distract: False leaves the distractors out of the same patient.
    """
    generator = torch.Generator().manual_seed(seed)
    unit = size[-1] / 64
    down, right = _grid(size)

    def jitter(value: float, by: float = 0.03) -> float:
        return value + uniform(-by, by, generator)

    def soft(distance: Tensor, edge: float = 8.0) -> Tensor:
        return torch.sigmoid((1 - distance) * edge)

    shoulders = 0.98 - 0.5 * ((-0.55 - down).relu() / 0.45) ** 1.5
    body = torch.sigmoid((shoulders - right.abs()) * 25) * (1 - 0.2 * right**2)
    neck = torch.sigmoid((0.24 - right.abs()) * 20) * torch.sigmoid((-0.6 - down) * 10)
    path = 1.9 * torch.maximum(body * torch.sigmoid((down + 0.86) * 25), neck)
    lungs = torch.zeros(size)
    for side in (-1, 1):
        centre = (jitter(-0.08), jitter(0.43) * side)
        shape = _oval(size, centre, (jitter(0.72), jitter(0.32, 0.02)), -0.12 * side)
        floor = (
            jitter(0.42 if side < 0 else 0.47)
            - 0.5 * (right - centre[1]) ** 2
            + 0.9 * ((right - centre[1]).abs() - 0.12).relu() ** 1.5
        )
        lungs = torch.maximum(lungs, soft(shape, 14) * torch.sigmoid((floor - down) * 22))
    path = path - 1.15 * lungs
    heart = soft(_oval(size, (jitter(0.22), jitter(0.16)), (jitter(0.36), jitter(0.36)), 0.5), 9)
    column = torch.sigmoid((0.13 - right.abs()) * 30)
    path = path + 0.85 * heart * lungs + 0.45 * column + 0.35 * soft(_oval(size, (-0.28, 0.1), (0.3, 0.14)), 6) * lungs
    markings = _waves(size, 1.0 * unit, generator).relu() * (0.9 - ((right.abs() - 0.2) * 1.6).abs()).relu()
    path = path + 0.07 * markings * lungs
    ribs = torch.zeros(size)
    gap = uniform(0.19, 0.22, generator)
    for number in range(8):
        for side in (-1, 1):
            reach = right * side
            level = -0.78 + gap * number + 0.75 * (reach - 0.42) ** 2 - 0.1 * reach
            band = torch.exp(-(((down - level) / 0.034) ** 4)) * torch.sigmoid((reach - 0.08) * 30)
            ribs = torch.maximum(ribs, band * torch.sigmoid((0.84 - reach) * 30))
    path = path + 0.2 * ribs * torch.maximum(lungs, 0.5 * body) * torch.sigmoid((0.75 - down) * 8)
    for side in (-1, 1):
        level = -0.72 - 0.16 * (right * side - 0.15)
        bar = torch.exp(-(((down - level) / 0.04) ** 4)) * torch.sigmoid((right * side - 0.06) * 25)
        path = path + 0.3 * bar * torch.sigmoid((0.7 - right * side) * 25)
    room = (lungs > 0.85) & (heart < 0.3)
    nodules = torch.zeros(size)
    for _ in range(1 + int(uniform(0, 1.99, generator))):
        nodules = torch.maximum(nodules, blur(_blob(room, 3.2 * unit, 5.0 * unit, 0.2, generator), (unit, unit)))
    electrodes = torch.zeros(size)
    for _ in range(2):
        place = _blob((body > 0.8) & (down < 0.7), 1.8 * unit, 1.9 * unit, 0.0, generator, away=nodules > 0.1)
        electrodes = torch.maximum(electrodes, place)
    electrodes = electrodes * (nodules < 0.05) * distract
    path = path + 1.0 * electrodes
    noise = torch.randn(size, generator=generator)
    pictures = []
    for found in (nodules, torch.zeros(size)):
        through = path.clamp_min(0) + 0.5 * found
        counts = 3e4 * (-1.3 * through).exp()
        film = -(counts + noise * counts.sqrt()).clamp_min(1).log()
        pictures.append(((film + math.log(3e4)) / 1.3 * 98).clamp(0, 255).round()[None])
    parts = _Parts(pictures[0], pictures[1], nodules, nodules > 0.4, electrodes > 0.3, [130.0], [60.0], [255.0])
    return _planted(parts, seed, label, mark)


PHANTOMS: dict[str, Phantom] = {
    "ultrasound": Phantom("ultrasound", ultrasound),
    "ct": Phantom("ct", ct, labels=("none", "dark lesion", "bright lesion"), dims=(2, 3)),
    "mr": Phantom("mri", mr, dims=(2, 3)),
    "mr_sequences": Phantom("mri", partial(mr, sequences=("t1", "t2", "flair")), 3, dims=(2, 3)),
    "histology": Phantom("histopathology", histology, 3, ("none", "atypical nuclei")),
    "fundus": Phantom("fundus", fundus, 3, ("none", "red lesions")),
    "xray": Phantom("xray", xray, labels=("none", "opacity")),
}
