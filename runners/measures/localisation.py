"""Localisation: does the map lie on what it should mark?

Of a signed map only what speaks for the score counts: negative values are the least, or nothing.
"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import Tensor, nn

from runners.asking import at_least
from runners.measures.common import chance, ranks, undefined
from runners.models import run
from runners.registry import MetricResult, Score, metric
from runners.targets import marked, primary, task_of
from taxonomy.errors import TargetError

CUTS = ("otsu", "fixed", "best")
"""How a map becomes a region: see :func:`_region`."""
LEVELS = 256
"""Grey levels that Otsu's threshold is looked for among."""
FLAT = "the map is the same everywhere, or has no positive value"


@metric("pointing_game")
def pointing_game(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    tolerance: int = 0,
    mask: Tensor,
) -> MetricResult:
    """Say whether the largest value lies in the mask: 1 if it does, 0 if not.

    Where several pixels share the largest value (superpixel maps) the score is the share of them that hit, so a
    constant map gets what chance would get.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        tolerance: How many pixels (Euclidean) off the mask still count as a hit.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(0, tolerance=tolerance)
    return _hits(values, torch.stack([_near(area, tolerance) for area in mask]) if tolerance else mask)


@metric("hit_rate")
def hit_rate(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    mask: Tensor,
) -> MetricResult:
    """Say whether the most relevant point lies in the expert's outline: the pointing game without tolerance.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        mask: The expert's segmentation, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better: the share of the points with the largest value that hit.
    """
    return _hits(values, mask)


@metric("relevance_mass_accuracy")
def relevance_mass_accuracy(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    mask: Tensor,
) -> MetricResult:
    """Return the share of the positive values that lies in the mask: higher is better.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1]; NaN for a map without positive values.
    """
    return _share(values.clamp_min(0), mask, "the map has no positive value")


@metric("attribution_localisation")
def attribution_localisation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    weighted: bool = False,
    absolute: bool = False,
    mask: Tensor,
) -> MetricResult:
    """Return the share of the positive relevance inside the mask, for its size if wanted (towards_best_practice_2019).

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        weighted: Divide by the share of the image that the mask covers: 1 is then what an even map gets, and small
            objects are not at a disadvantage. Quantus 0.6.0 multiplies instead, by a share of the wrong number.
        absolute: Count the size of negative values too, as Quantus does.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score``, higher is better, in [0, 1]; weighted, from 0 to image over mask. NaN for a map without such values.
    """
    found = _share(values.abs() if absolute else values.clamp_min(0), mask, "the map has nothing to count")
    if weighted:
        notes = (*found.notes, "divided by what an even map would get: 1 is chance.")
        return MetricResult(found.score / mask.flatten(1).float().mean(1), notes=notes)
    return found


@metric("energy_pointing_game")
def energy_pointing_game(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    box: bool = False,
    mask: Tensor,
) -> MetricResult:
    """Return the share of the energy of the map inside the mask (score_cam_2019): higher is better.

    The paper's maps have no sign. Of a signed one the magnitude counts here, unlike in relevance_mass_accuracy.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        box: Take the smallest box around the mask, as the paper does, instead of the mask.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1]; NaN for an all-zero map.
    """
    return _share(values.abs(), _boxed(mask) if box else mask, "the map is all zero")


@metric("relevance_rank_accuracy")
def relevance_rank_accuracy(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    mask: Tensor,
) -> MetricResult:
    """Take as many of the largest values as the mask has pixels; return the share that lies in it (clevr_xai_2020).

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better. Equal values at the limit count with the share of them that hits.
    """
    inside = mask.flatten(1)
    return MetricResult(_top(values, inside, inside.sum(1)), notes=chance(inside))


@metric("topk_intersection")
def topk_intersection(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    share: float = 0.02,
    concept_influence: bool = False,
    mask: Tensor,
) -> MetricResult:
    """Return the share of the k largest values that lies in the mask (interpretable_semantic_photo_2021).

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        share: k as a share of the image, above 0 to 1: it means the same in any size and in 3D. 0.02 is the usual
            k = 1,000 in an image of 224 × 224.
        concept_influence: Divide by the share of the image that the mask covers: 1 is then chance.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better; with ``concept_influence`` up to image over mask. Equal values at the
        limit count with the share of them that hits.

    Raises:
        TargetError: a parameter is out of range.
    """
    if not 0 < share <= 1:
        raise TargetError(f"share = {share}: it must lie above 0 and at most at 1.")
    inside = mask.flatten(1)
    k = max(1, round(share * inside.shape[1]))
    found = _top(values, inside, torch.full((len(inside),), k, device=inside.device))
    most = ", ".join(f"{min(1.0, size / k):.0%}" for size in inside.sum(1).tolist())
    notes = (*chance(inside), f"k = {k}; the mask has room for {most} of them.")
    return MetricResult(found / inside.float().mean(1) if concept_influence else found, notes=notes)


@metric("iou_threshold")
def iou_threshold(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    cut: str = "otsu",
    level: float = 0.5,
    mask: Tensor,
) -> MetricResult:
    """Make a region of the map; return its intersection over union with the mask (saporta_2022_benchmark_cxr).

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        cut: Where to threshold: ``otsu`` (as the paper), ``fixed`` (at ``level`` of the largest value) or ``best`` (the
            optimum of each image: it looks at the mask, so it tells what is possible, not what the map does).
        level: Share of the largest value, used by ``fixed``.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better; NaN for a map without a threshold. The notes tell the optimum.

    Raises:
        TargetError: a parameter is out of range.
    """
    return _overlap(values, mask, cut, level, dice=False)


@metric("dice_localisation")
def dice_localisation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    cut: str = "otsu",
    level: float = 0.5,
    mask: Tensor,
) -> MetricResult:
    """Make a region of the map; return its Dice coefficient with the mask (attention_guided_cam_2024).

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        cut: Where to threshold: ``otsu``, ``fixed`` (at ``level`` of the largest value) or ``best`` (the optimum of
            each image, found with the mask).
        level: Share of the largest value, used by ``fixed``.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better; NaN for a map without a threshold. The notes tell the optimum.

    Raises:
        TargetError: a parameter is out of range.
    """
    return _overlap(values, mask, cut, level, dice=True)


@metric("hausdorff_localisation")
def hausdorff_localisation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    cut: str = "otsu",
    level: float = 0.5,
    percentile: float = 100.0,
    mask: Tensor,
    spacing: Sequence[float] | None,
) -> MetricResult:
    """Make a region of the map; return how far its border and that of the mask lie apart: lower is better.

    The Hausdorff distance, from each border to the other (ahmed_2024_mammo_hausdorff). The notes tell the distance
    of the centres too: of the mass of the positive values and of the mask.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        cut: Where to threshold: ``otsu``, ``fixed`` (at ``level`` of the largest value) or ``best`` (the largest IoU,
            found with the mask).
        level: Share of the largest value, used by ``fixed``.
        percentile: Of the distances from one border to the other, above 0 to 100; 95 forgives a stray speck.
        mask: What the map should mark, bool ``(B, *spatial)``.
        spacing: Millimetres per axis; pixels without it.

    Returns:
        ``score`` from 0, in millimetres or pixels; NaN for a map without a threshold.

    Raises:
        TargetError: a parameter is out of range.
    """
    if not 0 < percentile <= 100:
        raise TargetError(f"percentile = {percentile}: it must lie above 0 and at most at 100.")
    region, defined = _region(values, mask, cut, level)
    steps = tuple(spacing) if spacing is not None else (1.0,) * (values.ndim - 1)
    unit = "mm" if spacing is not None else "pixels (no spacing is known)"
    far = [
        _apart(own, other, steps, percentile) if valid else math.nan
        for own, other, valid in zip(region, mask, defined.tolist(), strict=True)
    ]
    found = torch.tensor(far, dtype=torch.float64, device=values.device)
    centres = torch.linalg.vector_norm(
        (_centre(values.clamp_min(0)) - _centre(mask)) * torch.tensor(steps, dtype=torch.float64, device=values.device),
        dim=1,
    )
    told = ", ".join(f"{distance:.3g}" for distance in centres.tolist())
    notes = (f"in {unit}; {_cut_note(cut, level)}", f"distance of the centres: {told} {unit.split()[0]}.")
    return MetricResult(found.float(), notes=(*notes, *undefined(found, FLAT)))


@metric("localisation_auc")
def localisation_auc(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    mask: Tensor,
) -> MetricResult:
    """Take the map as a detector of the mask's pixels: the area under its ROC curve (introduction_roc_analysis_2006).

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better, 0.5 is chance; NaN where the mask covers the whole image.
    """
    found = _auc(values, mask)
    return MetricResult(found.float(), notes=("0.5 is chance.", *undefined(found, "the mask covers the whole image")))


@metric("auprc_localisation")
def auprc_localisation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    mask: Tensor,
) -> MetricResult:
    """Take the map as a detector of the mask's pixels: its average precision (arun_2020_trustworthiness).

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in (0, 1], higher is better. The area under the steps of the precision-recall curve, as scikit-learn's
        average precision; pixels of equal value come in together.
    """
    _, hits, taken = _descending(values, mask)
    steps = torch.diff(hits, dim=1, prepend=torch.zeros_like(hits[:, :1]))
    found = (steps * hits / taken).sum(1) / mask.flatten(1).sum(1)
    return MetricResult(found.float(), notes=chance(mask.flatten(1)))


@metric("uncertainty_error_overlap")
def uncertainty_error_overlap(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    label: int = 1,
    mask: Tensor,
) -> MetricResult:
    """Take a map of uncertainty as a detector of the voxels that the model segments wrongly: the area under its ROC.

    Args:
        model: A model that segments.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps of uncertainty ``(B, *spatial)``.
        label: The label of the model that the mask shows.
        mask: The true segmentation of that label, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better, 0.5 is chance; NaN where the model does not segment, or marks every voxel
        rightly or every one wrongly.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(0, label=label)
    with torch.no_grad():
        outputs = run(model, x)
    if task_of(outputs, x) != "segmentation":
        found = torch.full((len(x),), math.nan)
        return MetricResult(found, notes=undefined(found, "the model does not segment"))
    output = primary(outputs)
    if label >= max(2, output.shape[1]):
        raise TargetError(f"label = {label}: the model has labels 0 to {max(2, output.shape[1]) - 1}.")
    if output.shape[2:] != x.shape[2:]:
        found = torch.full((len(x),), math.nan)
        return MetricResult(found, notes=undefined(found, "the model segments on another grid than the image's"))
    wrong = (marked(output) == label) != mask
    found = _auc(values, wrong)
    shares = ", ".join(f"{share:.1%}" for share in wrong.flatten(1).double().mean(1).tolist())
    notes = (f"the model is wrong about label {label} in {shares} of the voxels; 0.5 is chance.",)
    why = "the model marks every voxel rightly, or every one wrongly"
    return MetricResult(found.float(), notes=(*notes, *undefined(found, why)))


def _hits(values: Tensor, inside: Tensor) -> MetricResult:
    """Return the share of the largest values that lies inside."""
    inside, flat = inside.flatten(1), values.flatten(1)
    largest = flat == flat.amax(1, keepdim=True)
    return MetricResult((largest & inside).sum(1) / largest.sum(1), notes=chance(inside))


def _share(mass: Tensor, mask: Tensor, why: str) -> MetricResult:
    """Return the share of what is counted ``(B, *spatial)`` that lies in the mask."""
    inside, mass = mask.flatten(1), mass.flatten(1).double()
    total = mass.sum(1)
    found = ((mass * inside).sum(1) / total).where(total > 0, math.nan)
    return MetricResult(found.float(), notes=(*chance(inside), *undefined(found, why)))


def _top(values: Tensor, inside: Tensor, k: Tensor) -> Tensor:
    """Return the share of the ``k`` ``(B,)`` largest values that lies inside ``(B, N)``; ties at the limit share."""
    flat = values.flatten(1)
    limit = flat.sort(1, descending=True).values.gather(1, k[:, None] - 1)
    above, at = flat > limit, flat == limit
    room = k - above.sum(1)
    hit = (above & inside).sum(1) + room * (at & inside).sum(1).double() / at.sum(1)
    return (hit / k).float()


def _descending(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Walk down the values; equal ones come in together.

    Returns:
        The values in order, the pixels of the mask and all pixels that have come in with each: float64 ``(B, N)``.
    """
    ordered, order = values.flatten(1).sort(1, descending=True)
    hits = mask.flatten(1).gather(1, order).double().cumsum(1)
    n = ordered.shape[1]
    place = torch.arange(n, device=values.device).expand_as(ordered)
    ends = torch.ones_like(ordered, dtype=torch.bool)
    ends[:, :-1] = ordered[:, 1:] < ordered[:, :-1]
    last = place.where(ends, n).flip(1).cummin(1).values.flip(1)
    return ordered, hits.gather(1, last), (last + 1).double()


def _auc(values: Tensor, truth: Tensor) -> Tensor:
    """Return the area under the ROC curve, float64 ``(B,)``: the share of pairs in order; NaN without both kinds."""
    inside = truth.flatten(1)
    yes = inside.sum(1).double()
    no = inside.shape[1] - yes
    total = (ranks(values.flatten(1)) * inside).sum(1)
    area: Tensor = (total - yes * (yes + 1) / 2) / (yes * no)
    return area


def _region(values: Tensor, mask: Tensor, cut: str, level: float) -> tuple[Tensor, Tensor]:
    """Threshold the positive part of the maps.

    Args:
        values: ``(B, *spatial)``.
        mask: ``(B, *spatial)``, looked at by ``best`` only.
        cut: ``otsu``, ``fixed`` or ``best`` (by the IoU).
        level: Share of the largest value, for ``fixed``.

    Returns:
        The region, bool ``(B, *spatial)``, and whether there is one, bool ``(B,)``.

    Raises:
        TargetError: ``cut`` or ``level`` is not allowed.
    """
    if cut not in CUTS:
        raise TargetError(f"unknown cut {cut!r}: choose one of {', '.join(CUTS)}.")
    if not 0 < level < 1:
        raise TargetError(f"level = {level}: it must lie between 0 and 1.")
    flat = values.flatten(1).clamp_min(0)
    most = flat.amax(1, keepdim=True)
    defined = flat.amin(1) < most[:, 0]
    if cut == "best":
        ordered, hits, taken = _descending(flat, mask)
        union = taken + mask.flatten(1).sum(1, keepdim=True) - hits
        region = flat >= ordered.gather(1, (hits / union).argmax(1, keepdim=True))
    elif cut == "fixed":
        region = flat >= level * most
    else:
        low = flat.amin(1, keepdim=True)
        grey = ((flat - low) / (most - low).clamp_min(torch.finfo(flat.dtype).tiny) * (LEVELS - 1)).long()
        region = grey > _otsu(grey)[:, None]
    return region.view_as(values), defined


def _otsu(grey: Tensor) -> Tensor:
    """Return the level ``(B,)`` up to which the grey levels ``(B, N)`` are background (Otsu, as OpenCV and skimage)."""
    counts = torch.zeros(len(grey), LEVELS, dtype=torch.float64, device=grey.device)
    counts.scatter_add_(1, grey, torch.ones_like(grey, dtype=torch.float64))
    below, mass = counts.cumsum(1), (counts * torch.arange(LEVELS, device=grey.device)).cumsum(1)
    above, rest = below[:, -1:] - below, mass[:, -1:] - mass
    between = below * above * (mass / below.clamp_min(1) - rest / above.clamp_min(1)) ** 2
    return between.argmax(1)


def _overlap(values: Tensor, mask: Tensor, cut: str, level: float, *, dice: bool) -> MetricResult:
    region, defined = _region(values, mask, cut, level)
    inside, own = mask.flatten(1), region.flatten(1)

    def overlap(hits: Tensor, taken: Tensor, size: Tensor) -> Tensor:
        return 2 * hits / (taken + size) if dice else hits / (taken + size - hits)

    size = inside.sum(1).double()
    found = overlap((own & inside).sum(1).double(), own.sum(1).double(), size).where(defined, math.nan)
    _, hits, taken = _descending(values.clamp_min(0), mask)
    best = overlap(hits, taken, size[:, None]).amax(1)
    told = ", ".join(f"{value:.3f}" for value in best.tolist())
    notes = (_cut_note(cut, level), f"at the best threshold of each image: {told}.")
    return MetricResult(found.float(), notes=(*notes, *chance(inside), *undefined(found, FLAT)))


def _cut_note(cut: str, level: float) -> str:
    return {
        "otsu": "the map is cut at Otsu's threshold.",
        "fixed": f"the map is cut at {level:.0%} of its largest value.",
        "best": "the map is cut where its IoU is best, which looks at the mask.",
    }[cut]


def _boxed(mask: Tensor) -> Tensor:
    """Return the smallest box around each mask ``(B, *spatial)``."""
    box = torch.ones_like(mask)
    for axis in range(1, mask.ndim):
        others = tuple(other for other in range(1, mask.ndim) if other != axis)
        along = mask.any(others, keepdim=True).to(torch.uint8)
        box &= along.cummax(axis).values.bool() & along.flip(axis).cummax(axis).values.flip(axis).bool()
    return box


def _centre(mass: Tensor) -> Tensor:
    """Return the centre of mass of ``(B, *spatial)`` in pixels, float64 ``(B, axes)``; NaN without mass."""
    axes = range(1, mass.ndim)
    mass = mass.double()
    lines = [mass.sum(tuple(other for other in axes if other != axis)) for axis in axes]
    along = [line @ torch.arange(line.shape[1], dtype=line.dtype, device=line.device) for line in lines]
    return torch.stack(along, 1) / mass.flatten(1).sum(1, keepdim=True)


def _apart(own: Tensor, other: Tensor, steps: Sequence[float], percentile: float) -> float:
    """Return the Hausdorff distance of the borders of two regions ``(*spatial)``."""
    borders = [area & ~binary_erosion(area) for area in (own.cpu().numpy(), other.cpu().numpy())]
    distances = [distance_transform_edt(~border, sampling=steps) for border in borders]
    both = (distances[1][borders[0]], distances[0][borders[1]])
    return max(float(torch.from_numpy(one).quantile(percentile / 100)) for one in both)


def _near(area: Tensor, tolerance: int) -> Tensor:
    """Return the pixels that are at most ``tolerance`` from a marked one."""
    distance = distance_transform_edt(~area.cpu().numpy())
    return torch.from_numpy(distance <= tolerance).to(area.device)
