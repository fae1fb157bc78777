"""Measures of an image or a region that clinicians have words for: brightness, texture, edges, shape, ultrasound signs.

Names and formulas follow the Image Biomarker Standardisation Initiative (arXiv 1612.07003) where it has them, but
images are taken as the model sees them (resized, normalised), so that values compare within a cohort only, not with
published ones. pyradiomics, the usual implementation, is not used: it could not be installed beside our other packages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import false_discovery_control, rankdata
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import marching_cubes, mesh_surface_area, perimeter_crofton, regionprops
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold, cross_val_predict
from torch import Tensor, nn

from runners.asking import at_least
from runners.beyond.inside import asked, enough, interval, seed_of
from runners.embedding import embedded, embedding_note
from runners.forms import Contributions
from runners.models import Wired
from runners.owned import Cohort, Concept
from runners.registry import Progress, Score, Told, insight
from runners.sized import Pictures
from taxonomy.errors import TargetError

Array = NDArray[np.float64]
LEVELS: Final = 32
"""Grey levels of histograms and co-occurrence matrices, from the 1st to the 99th percentile of the region."""


@dataclass(frozen=True)
class Measure:
    """A measure.

    Attributes:
        text: what it is, with formula and unit, in a clinician's words.
        region: it is one of a region, not of a whole image.
        flat: it exists in 2D only.
    """

    text: str
    region: bool = False
    flat: bool = False


MEASURES: Final[Mapping[str, Measure]] = {
    "brightness": Measure("Mean intensity, in units of the model's input."),
    "contrast": Measure("Standard deviation of the intensity, in units of the model's input."),
    "bright tail": Measure("Skewness of the intensity, without unit: above 0, few bright spots on a darker ground."),
    "outlying spots": Measure(
        "Excess kurtosis of the intensity, without unit: above 0, few very dark or bright spots."
    ),
    "disorder": Measure("Entropy of the histogram of 32 grey levels, in bit (0 to 5)."),
    "texture contrast": Measure("Contrast of the grey level co-occurrence matrix: mean squared step to a neighbour."),
    "texture smoothness": Measure("Inverse difference moment of that matrix, 0 to 1: neighbours are alike."),
    "texture order": Measure("Angular second moment of that matrix, 0 to 1: few pairs of grey levels recur."),
    "texture coherence": Measure("Correlation of that matrix, -1 to 1: neighbours vary together."),
    "fine grain": Measure("Share of the variance finer than a Gaussian of 1 pixel (speckle, noise), 0 to 1."),
    "edge strength": Measure("Mean length of the intensity gradient per pixel, over the standard deviation."),
    "asymmetry": Measure("Mean difference from the image mirrored along its last axis, over the standard deviation."),
    "size": Measure("Share of the image that the region takes, 0 to 1.", region=True),
    "roundness": Measure(
        "4π area / perimeter² (2D), (36π volume²)^(1/3) / surface (3D): 1 for a disc or ball.", region=True
    ),
    "margin smoothness": Measure("Area or volume over that of the convex hull, 0 to 1: low if lobed.", region=True),
    "elongation": Measure("1 - shortest / longest principal axis, 0 to 1.", region=True),
    "taller than wide": Measure("Height over width of the bounding box; above 1 taller than wide.", True, True),
    "margin sharpness": Measure(
        "Mean step of intensity from 2 pixels inside to 2 pixels outside the outline, over the image's standard "
        "deviation, without sign.",
        region=True,
    ),
    "echogenicity": Measure(
        "Mean intensity inside minus that of a ring around, over the image's standard deviation: below 0 hypoechoic.",
        region=True,
    ),
    "posterior echo": Measure(
        "Mean intensity below the region, as deep as the region, minus that beside it at the same depth, over the "
        "image's standard deviation: below 0 shadowing, above 0 enhancement. Depth runs down the image.",
        True,
        True,
    ),
}
"""Name to what is measured."""


def measured(image: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """Measure an image ``(C, *spatial)``, or the region in it, bool ``(*spatial)``.

    Channels are averaged. What is measured in 2D slices of volumes (co-occurrence) is averaged over the slices of the
    first axis. A measure that does not exist for this region is NaN. See :data:`MEASURES` for formulas and units.

    Raises:
        TargetError: the mask marks nothing.
    """
    grey: Array = image.detach().double().mean(0).cpu().numpy()
    where = np.ones(grey.shape, bool) if mask is None else mask.cpu().numpy().astype(bool)
    if not where.any():
        raise TargetError("the mask marks nothing: there is no region to measure")
    inside = grey[where]
    spread = float(inside.std())
    whole = max(float(grey.std()), 1e-12)
    low, high = np.percentile(inside, (1, 99))
    levels = np.clip((grey - low) / max(high - low, 1e-12) * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    share = np.bincount(levels[where], minlength=LEVELS) / where.sum()
    centred = (inside - inside.mean()) / max(spread, 1e-12)
    gradient = np.sqrt(sum(np.square(g) for g in np.gradient(grey)))
    fine = grey - ndimage.gaussian_filter(grey, 1)
    found = {
        "brightness": float(inside.mean()),
        "contrast": spread,
        "bright tail": float((centred**3).mean()),
        "outlying spots": float((centred**4).mean() - 3) if spread > 0 else 0.0,
        "disorder": float(-(share[share > 0] * np.log2(share[share > 0])).sum()),
        **_texture(levels, where),
        "fine grain": float(fine[where].var() / max(spread**2, 1e-24)),
        "edge strength": float(gradient[where].mean() / max(spread, 1e-12)),
    }
    if mask is None:
        return found | {"asymmetry": float(np.abs(grey - grey[..., ::-1]).mean() / whole)}
    return found | _shape(where) | _margin(grey, where, whole)


def _texture(levels: NDArray[np.uint8], where: NDArray[np.bool_]) -> dict[str, float]:
    """Return the measures of the co-occurrence of neighbours, of all directions of a plane, each way."""
    total = np.zeros((LEVELS + 1, LEVELS + 1))
    marked = np.where(where, levels + 1, 0).astype(np.uint8)
    for plane in marked if marked.ndim == 3 else [marked]:
        if plane.any():
            angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
            total += graycomatrix(plane, [1], angles, LEVELS + 1, symmetric=True)[:, :, 0].sum(-1)  # type: ignore[no-untyped-call]
    pairs = total[1:, 1:]  # level 0 is outside
    if pairs.sum() == 0:
        return dict.fromkeys(_TEXTURE, math.nan)
    matrix = (pairs / pairs.sum())[:, :, None, None]
    return {name: float(graycoprops(matrix, key)[0, 0]) for name, key in _TEXTURE.items()}  # type: ignore[no-untyped-call]


_TEXTURE: Final = {
    "texture contrast": "contrast",
    "texture smoothness": "homogeneity",
    "texture order": "ASM",
    "texture coherence": "correlation",
}


def _shape(where: NDArray[np.bool_]) -> dict[str, float]:
    (props,) = regionprops(where.astype(np.uint8))  # type: ignore[no-untyped-call]
    size, dims = float(where.sum()), where.ndim
    if dims == 2:
        edge = float(perimeter_crofton(where, 4))  # type: ignore[no-untyped-call]
        round_ = 4 * math.pi * size / edge**2 if edge > 0 else math.nan
    else:
        verts, faces, *_ = marching_cubes(np.pad(where, 1).astype(float), 0.5)  # type: ignore[no-untyped-call]
        edge = float(mesh_surface_area(verts, faces))  # type: ignore[no-untyped-call]
        round_ = (36 * math.pi * size**2) ** (1 / 3) / edge
    at = np.argwhere(where) - np.argwhere(where).mean(0)
    # a flat region of a volume has no hull
    solid = float(props.solidity) if dims == 2 or np.linalg.matrix_rank(at) == dims else math.nan
    axes = np.sqrt(np.linalg.eigvalsh(at.T @ at / size + np.eye(dims) / 12))  # a pixel has an extent of its own
    found = {
        "size": size / where.size,
        "roundness": min(round_, 1.0) if round_ == round_ else math.nan,
        "margin smoothness": solid,
        "elongation": float(1 - axes[0] / axes[-1]),
    }
    if dims == 2:
        top, left, bottom, right = props.bbox
        found["taller than wide"] = (bottom - top) / (right - left)
    return found


def _margin(grey: Array, where: NDArray[np.bool_], whole: float) -> dict[str, float]:
    """Compare the region with what is around it."""
    outer = ndimage.distance_transform_edt(~where)
    inner = ndimage.distance_transform_edt(where)
    rim_in, rim_out = (inner > 0) & (inner <= 2), (outer > 0) & (outer <= 2)
    ring = (outer > 2) & (outer <= 2 + max(4, 0.5 * where.sum() ** (1 / where.ndim)))

    def mean(part: NDArray[np.bool_]) -> float:
        return float(grey[part].mean()) if part.any() else math.nan

    found = {
        "margin sharpness": _step(grey, rim_in, rim_out) / whole,
        "echogenicity": (mean(where) - mean(ring)) / whole,
    }
    if where.ndim == 2:
        rows, columns = np.nonzero(where.any(1))[0], np.nonzero(where.any(0))[0]
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        below = slice(rows[-1] + 1, rows[-1] + 1 + height)
        middle = slice(columns[0] + width // 4, max(columns[0] + width // 4 + 1, columns[-1] + 1 - width // 4))
        beside = [
            slice(max(0, columns[0] - width // 2), columns[0]),
            slice(columns[-1] + 1, columns[-1] + 1 + width // 2),
        ]
        flanks = np.concatenate([grey[below, one].ravel() for one in beside])
        centre = grey[below, middle]
        enough_seen = centre.shape[0] >= min(3, height) and flanks.size > 0
        found["posterior echo"] = float(centre.mean() - flanks.mean()) / whole if enough_seen else math.nan
    return found


def _step(grey: Array, rim_in: NDArray[np.bool_], rim_out: NDArray[np.bool_]) -> float:
    """Return the mean size of the step from each place just inside to the nearest ones just outside."""
    if not rim_in.any() or not rim_out.any():
        return math.nan
    nearest = ndimage.distance_transform_edt(~rim_out, return_distances=False, return_indices=True)
    smooth = ndimage.uniform_filter(grey, 3)
    across = smooth[tuple(axis[rim_in] for axis in nearest)]
    return float(np.abs(smooth[rim_in] - across).mean())


def table(x: Pictures, masks: Pictures | None = None) -> tuple[Tensor, tuple[str, ...]]:
    """Measure images ``(N, C, *spatial)``, or the region in each ``(N, *spatial)``: values ``(N, V)`` and names."""
    rows = [measured(image, None if masks is None else masks[i]) for i, image in enumerate(x)]
    names = tuple(rows[0])
    return torch.tensor([[row[name] for name in names] for row in rows], dtype=torch.float64), names


def measured_concepts(cohort: Cohort, share: float = 1 / 3, *, low: bool = False) -> dict[str, Concept]:
    """Make concepts of a cohort for who has no labelled ones: of every measure, the images that have most of it.

    Args:
        cohort: the images, with their regions of interest where there are masks.
        share: of the images that show a concept.
        low: also make concepts of those that have least of it.

    Returns:
        "much …" (and "little …") to the images, with their masks.

    Raises:
        TargetError: the cohort is too small, or the share is not between 0 and a half.
    """
    if not 0 < share <= 0.5:
        raise TargetError(f"share = {share}: it must be above 0 and at most 0.5")
    count = round(share * len(cohort))
    if count < 3:
        raise TargetError(f"{share:.0%} of {len(cohort)} images are {count}; at least 3 are needed to show a concept")
    values, names = table(cohort.x, cohort.masks)
    found = {}
    for k, name in enumerate(names):
        own = values[:, k]
        known = (~own.isnan()).nonzero()[:, 0]
        if len(known) < 2 * count or float(own[known].max() - own[known].min()) <= 1e-12:
            continue
        order = known[own[known].argsort(descending=True, stable=True)]
        found[f"much {name}"] = _part_of(cohort, order[:count])
        if low:
            found[f"little {name}"] = _part_of(cohort, order[-count:])
    return found


def _part_of(cohort: Cohort, index: Tensor) -> Concept:
    return Concept(cohort.x[index], None if cohort.masks is None else cohort.masks[index])


def measured_alike(x: Tensor, cohort: Cohort, mask: Tensor | None) -> tuple[Tensor, Tensor, tuple[str, ...], str]:
    """Measure the cohort ``(N, V)`` and the image ``(V,)`` alike: regions only where both have them.

    Unknown values count as the cohort's median; measures that are the same everywhere are left out.
    """
    regions = mask is not None and cohort.masks is not None
    values, names = table(cohort.x, cohort.masks if regions else None)
    own = table(x, mask[None] if mask is not None and regions else None)[0][0]
    middle = values.nanmedian(0).values.nan_to_num()
    values, own = torch.where(values.isnan(), middle, values), torch.where(own.isnan(), middle, own)
    kept = (values.amax(0) - values.amin(0) > 1e-12).nonzero()[:, 0]
    if len(kept) == 0:
        raise TargetError("every measure is the same in all images of the cohort; give images that differ")
    where = (
        "in the region of interest, in the image and in the cohort"
        if regions
        else "in the whole images, as the image, the cohort or both have no region of interest"
    )
    return values[:, kept], own[kept], tuple(names[k] for k in kept.tolist()), f"Measured {where}."


PYRADIOMICS = (
    "The measures are of the image as the model sees it and not those of pyradiomics: compare within the cohort only."
)


@insight("rad4xcnn", sizes=True)
def rad4xcnn(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001  what the model's features go with does not hang on the answer
    *,
    samples: int = 1000,
    runs: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    mask: Tensor | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Tie the model's features to measures that have a meaning, by rank correlation over a cohort (arXiv 2405.02334).

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        samples: Permutations of the images for the test.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to correlate over.
        mask: Region of interest in the image, bool ``(*spatial)``, or None.
        generator: Draws.
        progress: Told what is done.

    Returns:
        Of each measure Spearman's correlation with the feature that it goes with best. The best of many features
        correlates by chance too: the notes say how strongly, from permutations.
    """
    at_least(10, samples=samples)
    at_least(2, runs=runs)
    enough(cohort, 20, "rad4xcnn")
    values, own, names, where = measured_alike(x, cohort, mask)
    codes = embedded(model, cohort.x, profile, batch_size=batch_size, progress=progress).double()
    live = (codes.std(0) > 1e-9 * codes.std(0).max().clamp(min=1e-300)).nonzero()[:, 0]
    if len(live) == 0:
        raise TargetError("the model describes every image of the cohort by the same vector")
    a, b = _ranks(codes[:, live]), _ranks(values)
    rho = a.T @ b
    unit = rho.abs().argmax(0)
    best = rho[unit, torch.arange(len(names))]
    null = torch.stack([(a.T @ b[torch.randperm(len(b), generator=generator)]).abs().amax(0) for _ in range(samples)])
    p = torch.as_tensor(false_discovery_control((((null >= best.abs()).double().sum(0) + 1) / (samples + 1)).numpy()))
    draws = []
    for _ in range(runs):
        rows = torch.randint(len(codes), (len(codes),), generator=generator)
        again, measures = _ranks(codes[rows][:, live[unit]]), _ranks(values[rows])
        draws.append((again * measures).sum(0))
    low, high = interval(torch.stack(draws))
    order = best.abs().argsort(descending=True, stable=True)
    chance = null.quantile(0.95, dim=0)
    sure = [k for k in order.tolist() if p[k] <= 0.05]
    notes = [
        embedding_note(profile),
        where,
        f"By chance the best of {len(live)} features reaches {float(chance.mean()):.2f} in one of twenty permutations.",
        *(
            f"Feature {int(live[unit[k]])} goes with {names[k]} (ρ = {best[k]:+.2f}, corrected p = {p[k]:.2g}). "
            f"{MEASURES[names[k]].text}"
            for k in sure
        ),
    ]
    if not sure:
        notes.append("No feature goes with any of these measures more than chance would have it.")
    form = Contributions(
        names=tuple(names[k] for k in order.tolist()),
        values=best[order],
        what="rank correlation of the measure with the feature of the model that it goes with best",
        low=torch.minimum(low, best)[order],
        high=torch.maximum(high, best)[order],
        inputs=tuple(f"{own[k]:.3g}" for k in order.tolist()),
        measures={
            "measures that a feature goes with (corrected p up to 0.05)": float(len(sure)),
            "correlation by chance (95th percentile)": float(chance.mean()),
        },
    )
    cautions = (
        PYRADIOMICS,
        "That a feature goes with a measure does not say that it computes it, nor that the answer hangs on it.",
    )
    return Told(form, tuple(notes), cautions)


def _ranks(values: Tensor) -> Tensor:
    """Return ranks of every column ``(N, V)``, centred and of length 1: products are Spearman's correlations."""
    ranks = torch.from_numpy(rankdata(values.numpy(), axis=0)).double()
    ranks = ranks - ranks.mean(0)
    unit: Tensor = ranks / ranks.norm(dim=0).clamp(min=1e-12)
    return unit


@insight("radiomics_shap", sizes=True)
def radiomics_shap(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    trees: int = 200,
    orders: int = 100,
    references: int = 50,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    mask: Tensor | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Shapley values of measured image features, in a forest that learned the model's score from them.

    The forest stands for the model: how well it does on images left out is told. Shapley values are those of the
    forest against the cohort, from orders in which measures take the image's values one after the other and, each order
    once more, in reverse.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        trees: Trees of the forest.
        orders: Orders of the measures that are drawn.
        references: Images of the cohort that stand for typical values.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to learn from.
        mask: Region of interest in the image, bool ``(*spatial)``, or None.
        generator: Draws.
        progress: Told what is done.

    Returns:
        What each measure adds to the forest's answer, against the cohort's mean, with its sampling error as interval.
    """
    at_least(1, trees=trees, references=references)
    at_least(2, orders=orders)
    enough(cohort, 20, "radiomics_shap")
    values, own, names, where = measured_alike(x, cohort, mask)
    question = asked(model, x, score, profile, batch_size)
    y = question.look(cohort.x, progress)[0].double()
    forest = RandomForestRegressor(trees, min_samples_leaf=3, max_features=0.5, random_state=seed_of(generator))
    data, target = values.numpy(), y.numpy()
    folds = KFold(5, shuffle=True, random_state=seed_of(generator))
    held = cross_val_predict(forest, data, target, cv=folds)
    spread = float(((target - target.mean()) ** 2).sum())
    fidelity = 1 - float(((target - held) ** 2).sum()) / spread if spread > 0 else 0.0
    forest.fit(data, target)
    drawn = torch.randperm(len(data), generator=generator)[:references].numpy()
    parts = _walks(lambda one: forest.predict(one), own.numpy(), data[drawn], orders, generator)
    told, error = torch.from_numpy(parts.mean(0)), torch.from_numpy(parts.std(0, ddof=1) / math.sqrt(len(parts)))
    order = told.abs().argsort(descending=True, stable=True)
    base, reached = float(forest.predict(data[drawn]).mean()), float(forest.predict(own.numpy()[None])[0])
    usual = values.mean(0)
    form = Contributions(
        names=tuple(names[k] for k in order.tolist()),
        values=told[order],
        what="added to the surrogate's answer, in units of the score",
        low=(told - 1.96 * error)[order],
        high=(told + 1.96 * error)[order],
        inputs=tuple(f"{own[k]:.3g} (cohort {usual[k]:.3g})" for k in order.tolist()),
        measures={
            "fidelity of the surrogate (R² on images left out)": fidelity,
            "answer of the surrogate": reached,
            "its mean over the cohort": base,
        },
    )
    notes = [*question.notes, where, *(f"{names[k]}: {MEASURES[names[k]].text}" for k in order[:5].tolist())]
    cautions = [PYRADIOMICS, "The values speak of the surrogate, and share out among measures that go together."]
    if fidelity < 0.5:
        cautions.append(
            f"The surrogate explains {max(0.0, fidelity):.0%} of the model's score on images left out: most of what "
            "the model sees is not in these measures."
        )
    return Told(form, tuple(notes), tuple(cautions))


def _walks(
    predict: Callable[[Array], Array], own: Array, typical: Array, orders: int, generator: torch.Generator
) -> Array:
    """Return the steps of the answer, ``(walks, V)``: each starts at a typical case and takes over value after value.

    Orders come in pairs, one the reverse of the other, from the same typical case; a pair is one row.
    """
    v = len(own)
    ways = [torch.randperm(v, generator=generator).numpy() for _ in range(orders)]
    starts = np.arange(orders) % len(typical)
    rows, walks = [], []
    for way, start in zip(ways, starts, strict=True):
        for one in (way, way[::-1]):
            steps = np.repeat(typical[start][None], v + 1, 0)
            for i, at in enumerate(one):
                steps[i + 1 :, at] = own[at]
            rows.append(steps)
            walks.append(one)
    answers = predict(np.concatenate(rows)).reshape(len(walks), v + 1)
    found = np.zeros((len(walks), v))
    for k, (one, answer) in enumerate(zip(walks, answers, strict=True)):
        found[k, one] = np.diff(answer)
    return (found[::2] + found[1::2]) / 2
