"""Concepts that nobody named: found in a cohort by clustering or factorising what the model sees in parts of images."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import qmc
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least
from runners.beyond.directions import compared, significance_note
from runners.beyond.inside import (
    Inside,
    closest_patches,
    cut,
    enough,
    interval,
    of_class,
    resampled,
    seed_of,
    settled,
    shrunk,
    sides,
    window,
)
from runners.forms import Concepts
from runners.models import Wired, captured, find_place, leaf, run
from runners.modes import Relevance
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight, no_progress
from runners.relevance import slope_of
from runners.rules import composites
from runners.superpixels import superpixels
from runners.targets import primary
from taxonomy.errors import ModelError, TargetError

PATCHES = 4
"""Examples shown of each concept."""
UNNAMED = "The concepts have no names: look at the examples before you call them something."


@insight("ace")
def ace(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    segments: int = 15,
    groups: int = 8,
    images: int = 15,
    correction: str = "bh",
    samples: int = 200,
    runs: int = 50,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Cluster segments of images of the explained answer by what the model sees in them, and test each (1902.03129).

    Images are cut into superpixels of two sizes. Each segment stays where it is, at its size, the rest of the image
    being its mean (the paper enlarges it to the whole image, which a model that learned one scale does not know).
    Features averaged over the segment are clustered; a cluster keeps its nearest segments and must come from several
    images. Shares and tests are those of TCAV with the difference of means as direction, random sets
    being drawn from segments of all images.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest one from which the way to the score is not linear.
        segments: Segments per image in the coarser cut; the finer one has three times as many.
        groups: Clusters.
        images: Most images of the class; as many other ones give random segments.
        correction: Of the p-values for the number of concepts: bh (Benjamini and Hochberg) or bonferroni.
        samples: Random sets for the test.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Segments per model call.
        profile: What is known of the model.
        cohort: Images to find concepts in.
        generator: Draws.
        progress: Told the segments seen.

    Returns:
        Share of the images whose score rises towards each concept; examples, and where it lies in the image.
    """
    return _discovered(
        "ace", model, x, score, layer, segments, groups, images, correction, samples, runs, batch_size, profile, cohort,
        generator, progress,
    )  # fmt: skip


@insight("d_tcav")
def d_tcav(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    segments: int = 15,
    groups: int = 8,
    images: int = 15,
    correction: str = "bh",
    samples: int = 200,
    runs: int = 50,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Discover concepts inside a segmentation network and test them with activation vectors (arXiv 2103.08590).

    Discovery is that of ACE; the score is the mean logit of the explained label where the model marks it.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest one from which the way to the score is not linear.
        segments: Segments per image in the coarser cut; the finer one has three times as many.
        groups: Clusters.
        images: Most images in which the label is marked; as many other ones give random segments.
        correction: Of the p-values for the number of concepts: bh (Benjamini and Hochberg) or bonferroni.
        samples: Random sets for the test.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Segments per model call.
        profile: What is known of the model.
        cohort: Images to find concepts in.
        generator: Draws.
        progress: Told the segments seen.

    Returns:
        Share of the images whose score rises towards each concept; examples, and where it lies in the image.
    """
    return _discovered(
        "d_tcav", model, x, score, layer, segments, groups, images, correction, samples, runs, batch_size, profile,
        cohort, generator, progress,
    )  # fmt: skip


def _discovered(
    method: str,
    model: nn.Module,
    x: Tensor,
    score: Score,
    layer: str | None,
    segments: int,
    groups: int,
    images: int,
    correction: str,
    samples: int,
    runs: int,
    batch_size: int,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    at_least(2, segments=segments, groups=groups, images=images, samples=samples, runs=runs)
    enough(cohort, 10, method)
    inside = cut(model, x, score, profile, batch_size, layer)
    inside, passing = settled(inside, x, cohort.stack, profile, layer, bent=True)
    index, class_note = of_class(inside, cohort, images, generator)
    others = torch.tensor([i for i in range(len(cohort)) if i not in set(index.tolist())], dtype=torch.long)
    others = others[torch.randperm(len(others), generator=generator)[:images]]
    features, source, regions = _segments(inside, cohort.stack[index], segments, progress)
    pool = features
    if len(others) >= 3:
        pool = torch.cat([features, _segments(inside, cohort.stack[others], segments, progress)[0]])
    unit = F.normalize(features, dim=1)
    count = min(groups, len(unit) // 5)
    fit = KMeans(count, n_init=4, random_state=seed_of(generator)).fit(unit.numpy())
    centres, label = torch.from_numpy(fit.cluster_centers_), torch.from_numpy(fit.labels_).long()
    distance = (unit - centres[label]).norm(dim=1)
    kept: list[tuple[Tensor, Tensor, float]] = []
    for k in range(count):
        own = (label == k).nonzero()[:, 0]
        own = own[distance[own].argsort(stable=True)][:40]
        if len(own) >= 5 and len(set(source[own].tolist())) >= min(3, len(index)):
            kept.append((own, centres[k], float(distance[own].max())))
    if not kept:
        raise TargetError(
            f"{method}: no cluster of segments recurs in several images; give more images or fewer groups"
        )
    found = compared(
        [features[own] for own, _, _ in kept],
        pool,
        inside.slopes(cohort.stack[index]).flatten(2).sum(2),
        kind="pattern",
        correction=correction,
        randoms=samples,
        runs=runs,
        generator=generator,
        progress=progress,
    )
    order = found.effects.abs().argsort(descending=True, stable=True)
    mine, _, where = _segments(inside, x.cpu(), segments, no_progress)
    here = F.normalize(mine, dim=1)
    maps = torch.stack([_lies(here, where, kept[k][1], kept[k][2]) for k in order.tolist()])
    names = tuple(f"concept {number}" for number in range(1, len(kept) + 1))

    def patch(i: int) -> Tensor:
        image, region = cohort.stack[index[source[i]]].cpu(), regions[i]
        middle = [int(at) for at in region.nonzero().float().mean(0).round()]
        return window(_alone(image, region), middle, sides(image.shape[1:], 0.4))

    notes = [
        *inside.notes,
        class_note,
        f"{len(regions)} segments of {len(index)} images fell into {len(kept)} concepts that recur in several images; "
        f"they are in the order of their effect on the score.",
        significance_note(found, correction, "segments"),
        *(
            f"{names[i]}: {len(kept[k][0])} segments from {len(set(source[kept[k][0]].tolist()))} images, in "
            f"{float((maps[i] > 0).float().mean()):.0%} of this image; effect on the score {found.effects[k]:+.3g}; "
            f"t-test of the paper p = {found.t_test[k]:.2g}."
            for i, k in enumerate(order.tolist())
        ),
    ]
    cautions = (
        *passing,
        UNNAMED,
        "A segment alone is unlike any image the model learned from: its features may mean something else.",
        "Segments of a cluster were chosen because they are alike, which random sets are not: p is optimistic.",
    )
    form = Concepts(
        names=names,
        scores=found.shares[order],
        what="share of the images of this answer whose score rises towards the concept",
        low=found.low[order],
        high=found.high[order],
        p_values=found.p[order],
        neutral=0.5,
        patches=torch.stack([torch.stack([patch(i) for i in kept[k][0][:PATCHES].tolist()]) for k in order.tolist()]),
        maps=maps,
        measures={"tcav_significance": float(found.p.min())},
    )
    return Told(form, tuple(notes), cautions)


def _segments(inside: Inside, x: Tensor, segments: int, progress: Progress) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Describe every segment of images ``(N, C, *spatial)`` by the features that it alone gives, where it lies.

    Returns:
        ``(S, D)``, the image each comes from ``(S,)``, and S masks ``(*spatial)``.
    """
    source, regions = [], []
    for count in (segments, 3 * segments):
        for i, labels in enumerate(superpixels(x, count).cpu()):
            for number in range(int(labels.max()) + 1):
                source.append(i)
                regions.append(labels == number)
    pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if x.ndim == 4 else F.adaptive_avg_pool3d
    found = []
    for start in range(0, len(regions), inside.batch_size):
        some = regions[start : start + inside.batch_size]
        alone = [_alone(x[i].cpu(), region) for i, region in zip(source[start:], some, strict=False)]
        features = inside.features(torch.stack(alone)).double()
        share = pool(torch.stack(some)[:, None].double(), inside.place.grid)
        found.append((features * share).flatten(2).sum(2) / share.flatten(2).sum(2))
        progress(start + len(some), len(regions))
    return torch.cat(found), torch.tensor(source), regions


def _alone(image: Tensor, region: Tensor) -> Tensor:
    """Return an image ``(C, *spatial)`` that is its mean outside of a region."""
    return torch.where(region, image, image.flatten(1).mean(1).view(-1, *[1] * (image.ndim - 1)))


def _lies(here: Tensor, where: Sequence[Tensor], centre: Tensor, radius: float) -> Tensor:
    """Return where segments lie that are as near to a cluster's centre as its own: 1 near the centre, 0 at its edge."""
    near = (1 - (here - centre).norm(dim=1) / max(2 * radius, 1e-9)).clamp(min=0)
    near = torch.where(near >= 0.5, near, torch.zeros_like(near))
    found = torch.zeros(where[0].shape)
    for region, value in zip(where, near.tolist(), strict=True):
        found = torch.maximum(found, region * value)
    return found


# Factorisations


def _positive(features: Tensor, both: bool) -> Tensor:
    """Return features ``(n, D)`` as non-negative numbers; of either sign side by side where they have both."""
    return torch.cat([features.clamp(min=0), (-features).clamp(min=0)], 1) if both else features.clamp(min=0)


def _signed(positive: Tensor, both: bool) -> Tensor:
    half = positive.shape[1] // 2
    return positive[:, :half] - positive[:, half:] if both else positive


class _Factors:
    """Non-negative concepts ``(K, D)`` of features, and how much of each is where."""

    def __init__(self, features: Tensor, count: int, both: bool, generator: torch.Generator) -> None:
        self.both = both
        x = _positive(features, both).double().numpy()
        self.scale = max(float(x.mean()), 1e-12)
        self.fit = NMF(count, init="nndsvda", random_state=seed_of(generator), max_iter=400, tol=1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # some more rounds hardly change the concepts
            self.used = torch.from_numpy(self.fit.fit_transform(x / self.scale)).float()
        self.basis = torch.from_numpy(self.fit.components_ * self.scale).float()

    def amounts(self, features: Tensor) -> Tensor:
        """Return how much of each concept is at each position: ``(N, D, *grid)`` to ``(N, K, *grid)``."""
        flat = features.movedim(1, -1)
        x = _positive(flat.reshape(-1, flat.shape[-1]), self.both).double().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = torch.from_numpy(self.fit.transform(x / self.scale)).float()
        return found.view(*flat.shape[:-1], -1).movedim(-1, 1)

    def features(self, amounts: Tensor) -> Tensor:
        """Put features together from amounts, ``(N, K, *grid)`` to ``(N, D, *grid)``."""
        flat = amounts.movedim(1, -1)
        found = _signed(flat.reshape(-1, flat.shape[-1]) @ self.basis, self.both)
        return found.view(*flat.shape[:-1], -1).movedim(-1, 1)


def _factor_notes(both: bool) -> tuple[str, ...]:
    return ("The features have both signs; each sign was factorised as a feature of its own.",) if both else ()


def _count(concepts: int, rows: int, columns: int) -> int:
    return max(2, min(concepts, rows, columns))


@insight("craft")
def craft(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    parts: int = 8,
    crop: float = 0.35,
    images: int = 30,
    judged: int = 8,
    designs: int = 16,
    runs: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Factorise features of crops into concepts, and rank them by their effect on the score (arXiv 2211.10154).

    Crops of the cohort's images of this answer are enlarged to the model's input; non-negative factorisation of their
    pooled features gives the concepts. In whole images each position is a non-negative mixture of them. Their total
    Sobol indices come from scaling the amounts by random shares, each concept's for the whole image at once.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest features.
        parts: Concepts.
        crop: Share of every axis that a crop takes.
        images: Most images of the class to take crops from.
        judged: Of these, images in which the effect is measured.
        designs: Random shares, a power of 2; each costs concepts + 2 model rows per image.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to find concepts in.
        generator: Draws.
        progress: Told the model rows of the Sobol indices.

    Returns:
        Total Sobol index of each concept, the mean over images; examples, and where it lies in the image.
    """
    at_least(2, parts=parts, images=images, designs=designs, runs=runs)
    at_least(1, judged=judged)
    if not 0 < crop <= 1 or designs & (designs - 1):
        raise TargetError(f"crop = {crop}, designs = {designs}: up to 1, above 0, and a power of 2 are allowed")
    enough(cohort, 5, "craft")
    inside = cut(model, x, score, profile, batch_size, layer)
    inside, passing = settled(inside, x, cohort.stack, profile, layer)
    index, class_note = of_class(inside, cohort, images, generator)
    some = cohort.stack[index]
    crops = _crops(some, crop)
    pooled = inside.features(shrunk(crops, x.shape[2:])).flatten(2).mean(2)
    own = inside.features(x)
    both = bool((pooled < 0).any() or (own < 0).any())
    factors = _Factors(pooled, _count(parts, *pooled.shape), both, generator)
    amounts = factors.amounts(torch.cat([own, inside.features(some[:judged])]))
    count = amounts.shape[1]
    seed = seed_of(generator)
    indices, lost, kept = [], [], []
    for i in range(len(amounts)):
        image = x if i == 0 else some[i - 1 : i]
        sobol, drop, share = _sobol(inside, factors, image, amounts[i], designs, seed)
        indices.append(sobol)
        lost.append(drop)
        kept.append(share)
        progress(i + 1, len(amounts))
    told = torch.stack(indices[1:]) if len(indices) > 1 else torch.stack(indices)
    drops = torch.stack(lost)
    scores = told.mean(0)
    low, high = interval(resampled(told, runs, generator))
    order = scores.argsort(descending=True, stable=True)
    best = factors.used.argsort(dim=0, descending=True, stable=True)
    names = tuple(f"concept {number}" for number in range(1, count + 1))
    notes = [
        *inside.notes,
        class_note,
        *_factor_notes(both),
        f"{len(crops)} crops were factorised into {count} concepts, in the order of their index.",
        *(
            f"{names[i]}: in this image its index is {indices[0][k]:.2f}; without it the score "
            f"{'falls' if drops[0][k] > 0 else 'rises'} by {abs(float(drops[0][k])):.3g} (other images: "
            f"{float(-drops[1:, k].mean()) if len(drops) > 1 else 0.0:+.3g})."
            for i, k in enumerate(order.tolist())
        ),
    ]
    error = float(np.mean(kept))
    cautions = [
        *passing,
        UNNAMED,
        "The index has no direction: the notes say whether the score falls or rises without a concept.",
    ]
    if error > 0.25:
        cautions.append(
            f"Put together from the concepts the score differs from the true one by {error:.0%} on average: part of "
            "what the model uses is in none of them."
        )
    form = Concepts(
        names=names,
        scores=scores[order],
        what="total Sobol index: share of the score's variance that needs the concept, when all are scaled at random",
        low=torch.minimum(low, scores)[order],
        high=torch.maximum(high, scores)[order],
        neutral=0.0,
        patches=torch.stack([crops[best[torch.arange(PATCHES) % len(crops), k]] for k in order.tolist()]),
        maps=inside.up(amounts[0], x.shape[2:])[order],
        measures={"difference of the score when put together from the concepts, mean share": error},
    )
    return Told(form, tuple(notes), tuple(cautions))


def _crops(x: Tensor, share: float) -> Tensor:
    """Return crops that cover every image ``(N, C, *spatial)`` evenly, ``(n, C, *window)``."""
    size = sides(x.shape[2:], share)
    steps = max(1, math.ceil(1 / share))
    starts = [np.linspace(0, n - side, steps).round().astype(int) for n, side in zip(x.shape[2:], size, strict=True)]
    found = []
    for image in x.cpu():
        for corner in itertools.product(*starts):
            found.append(window(image, [int(c) + side // 2 for c, side in zip(corner, size, strict=True)], size))
    return torch.stack(found)


def _sobol(
    inside: Inside, factors: _Factors, image: Tensor, amounts: Tensor, designs: int, seed: int
) -> tuple[Tensor, Tensor, float]:
    """Return total indices and losses of the score ``(K,)`` for one image, and how far its score is off.

    The indices are Jansen's estimates (10.1016/S0010-4655(98)00154-4) from scrambled Sobol sequences.
    """
    count = len(amounts)
    drawn = torch.from_numpy(qmc.Sobol(2 * count, rng=np.random.default_rng(seed)).random(designs)).float()
    a, b = drawn[:, :count], drawn[:, count:]
    mixed = a[None].repeat(count, 1, 1)
    for k in range(count):
        mixed[k, :, k] = b[:, k]
    shares = torch.cat([a, b, mixed.flatten(0, 1), torch.ones(1, count), 1 - torch.eye(count)])
    answers = []
    for part in torch.split(shares, inside.batch_size):
        scaled = amounts[None] * part.view(*part.shape, *[1] * (amounts.ndim - 1))
        answers.append(inside.behind(image, factors.features(scaled))[0])
    y = torch.cat(answers).double()
    first, second = y[:designs], y[designs : 2 * designs]
    crossed, whole = y[2 * designs : -count - 1].view(count, designs), y[-count - 1]
    variance = torch.cat([first, second]).var(correction=0)
    index = (first - crossed).square().mean(1) / (2 * variance).clamp(min=1e-300)
    true = float(inside.look(image)[0])
    off = abs(float(whole) - true) / max(abs(true), float(y.max() - y.min()), 1e-12)
    return torch.where(variance > 0, index, torch.zeros_like(index)), whole - y[-count:], off


@insight("ice")
def ice(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    parts: int = 8,
    images: int = 30,
    positions: int = 20000,
    runs: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Factorise feature maps into non-negative concepts that can be put together again (arXiv 2006.15417).

    What a concept adds is its amount times the derivative of the score along it, summed over positions, the derivative
    that of this image. Fidelity is how well the model answers on features put together from the concepts.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest features.
        parts: Concepts.
        images: Most images of the class.
        positions: Most positions to factorise.
        runs: Bootstrap samples for the interval of the mean over images, in the notes.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to find concepts in.
        generator: Draws.
        progress: Told the images seen.

    Returns:
        What each concept adds to the score of this image; examples, and where it lies.
    """
    at_least(2, parts=parts, images=images, positions=positions, runs=runs)
    enough(cohort, 5, "ice")
    inside = cut(model, x, score, profile, batch_size, layer)
    inside, passing = settled(inside, x, cohort.stack, profile, layer)
    index, class_note = of_class(inside, cohort, images, generator)
    some = cohort.stack[index]
    features, own = inside.features(some, progress), inside.features(x)
    flat = features.movedim(1, -1).flatten(0, -2)
    flat = flat[torch.randperm(len(flat), generator=generator)[:positions]]
    both = bool((flat < 0).any() or (own < 0).any())
    factors = _Factors(flat, _count(parts, *flat.shape), both, generator)
    amounts, mine = factors.amounts(features), factors.amounts(own)
    signed = _signed(factors.basis, both)
    adds = _added(amounts, inside.slopes(some), signed)
    told = _added(mine, inside.slopes(x), signed)[0]
    low, high = interval(resampled(adds, runs, generator))
    usual = adds.mean(0)
    every = torch.cat([x.cpu(), some.cpu()])
    true, _, before = inside.look(every)
    again, after = inside.behind(every, factors.features(torch.cat([mine, amounts])))
    spread = float((true - true.mean()).square().sum())
    measures = {}
    if profile.task == "classification":
        measures["fidelity: same answer when put together from the concepts"] = float((before == after).float().mean())
    off = float((again - true).abs().mean() / max(float(true.abs().mean()), 1e-12))
    measures["difference of the score when put together from the concepts, mean share"] = off
    if spread > 0:
        measures["concept_completeness"] = max(0.0, 1 - float((again - true).square().sum()) / spread)
    order = told.abs().argsort(descending=True, stable=True)
    count = len(told)
    names = tuple(f"concept {number}" for number in range(1, count + 1))
    strongest = amounts.flatten(2).amax(2).argsort(dim=0, descending=True, stable=True)
    notes = [
        *inside.notes,
        class_note,
        *_factor_notes(both),
        "concept_completeness: share of the variance of the score that is kept when the features are put together from "
        "the concepts.",
        *(
            f"{names[i]}: adds {told[k]:+.3g} here; on average over images of this answer {usual[k]:+.3g} "
            f"({low[k]:+.3g} to {high[k]:+.3g})."
            for i, k in enumerate(order.tolist())
        ),
    ]
    cautions = [
        *passing,
        UNNAMED,
        "What a concept adds is a first-order estimate, exact only where the score is linear in the features.",
    ]
    if off > 0.25:
        cautions.append(
            "Put together from the concepts the score is another one: part of what the model uses is in none."
        )
    form = Concepts(
        names=names,
        scores=told[order],
        what="added to this image's score, to first order",
        neutral=0.0,
        patches=torch.stack(
            [closest_patches(some.cpu(), amounts[:, k], strongest[:, k], PATCHES) for k in order.tolist()]
        ),
        maps=inside.up(mine[0], x.shape[2:])[order],
        measures=measures,
    )
    return Told(form, tuple(notes), tuple(cautions))


def _added(amounts: Tensor, slopes: Tensor, basis: Tensor) -> Tensor:
    """Return amount times derivative along each concept, summed over positions: ``(N, K)``."""
    return (amounts.flatten(2) * torch.einsum("kd,ndp->nkp", basis, slopes.flatten(2))).sum(2)


@insight("conceptshap")
def conceptshap(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    parts: int = 5,
    images: int = 60,
    steps: int = 60,
    threshold: float = 0.3,
    by: str = "score",
    runs: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Learn concepts that suffice for the model's answers, and share out their completeness fairly (arXiv 1910.07969).

    A position has a concept as far as the cosine of its features, less their mean, with the concept's vector is above a
    threshold. Vectors are
    learned together with a linear map back to the features, so that the model answers as before, near to what they
    stand for and far from each other. For every set of concepts the map back is fitted anew by least squares on half of
    the images; completeness is told on the other half. The shares are exact Shapley values of it.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest features.
        parts: Concepts, at most 8: every set of them is tried.
        images: Most images of the cohort.
        steps: Steps of learning, each on ``batch_size`` images.
        threshold: Cosine below which a position lacks the concept.
        by: Whether the model does as before is judged by its score (share of the variance that is kept) or, as in
            the paper, by its answer (share of images of the same answer).
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to learn from.
        generator: Draws.
        progress: Told the steps and sets.

    Returns:
        Share of each concept in the completeness; examples, and where it lies in the image.
    """
    at_least(2, parts=parts, images=images, runs=runs)
    at_least(0, steps=steps)
    if parts > 8 or not -1 < threshold < 1:
        raise TargetError(f"parts = {parts}, threshold = {threshold}: at most 8 and between -1 and 1 are allowed")
    if by not in ("score", "answer"):
        raise TargetError(f"by={by!r} was given; score or answer is allowed")
    enough(cohort, 16, "conceptshap")
    inside = cut(model, x, score, profile, batch_size, layer)
    inside, passing = settled(inside, x, cohort.stack, profile, layer)
    drawn = torch.randperm(len(cohort), generator=generator)[:images].sort().values
    some = cohort.stack[drawn].cpu()
    features = inside.features(some)
    mean = features.transpose(0, 1).flatten(1).mean(1)
    scores, _, answers = inside.look(some)
    mix = torch.randperm(len(some), generator=generator)
    learn, judge = mix[::2], mix[1::2]
    vectors = _learned(
        inside, some, features, mean, scores, learn, parts, steps, threshold, batch_size, generator, progress
    )
    has = _present(features, mean, vectors, threshold)
    kinds = by == "answer" and profile.task == "classification" and len(set(answers[judge].tolist())) > 1
    worth = []
    subsets = [torch.tensor(one, dtype=torch.bool) for one in itertools.product((False, True), repeat=parts)]
    for number, subset in enumerate(subsets):
        back = _fitted_back(has[learn], features[learn], subset)
        again, answer = inside.behind(some[judge], back(has[judge]))
        worth.append((answer == answers[judge]).double() if kinds else -(again - scores[judge]).double().square())
        progress(number + 1, len(subsets))
    table = torch.stack(worth)
    weights = _shapley(parts)
    complete = _completeness(table, answers[judge], scores[judge], kinds)
    told = weights @ complete
    draws = []
    for _ in range(runs):
        rows = torch.randint(len(judge), (len(judge),), generator=generator)
        draws.append(weights @ _completeness(table[:, rows], answers[judge][rows], scores[judge][rows], kinds))
    low, high = interval(torch.stack(draws))
    order = told.argsort(descending=True, stable=True)
    own = _present(inside.features(x), mean, vectors, threshold)[0]
    strongest = has.flatten(2).sum(2).argsort(dim=0, descending=True, stable=True)
    names = tuple(f"concept {number}" for number in range(1, parts + 1))
    everything = float(complete[-1])
    notes = (
        *inside.notes,
        (
            "concept_completeness: how far the answers on features put together from the concepts get from always "
            "giving the commonest answer (0) to the model's own (1), on images left out."
            if kinds
            else "concept_completeness: share of the variance of the score that is kept on images left out."
        ),
        f"The shares sum up to it, less the {float(complete[0]):.2f} that is kept without any concept.",
    )
    cautions = [*passing, UNNAMED]
    if everything < 0.7:
        cautions.append(
            "The concepts do not suffice for the model's answers: most of what it does may lie outside of them."
        )
    form = Concepts(
        names=names,
        scores=told[order],
        what="share in the completeness (Shapley value)",
        low=torch.minimum(low, told)[order],
        high=torch.maximum(high, told)[order],
        neutral=0.0,
        patches=torch.stack([closest_patches(some, has[:, k], strongest[:, k], PATCHES) for k in order.tolist()]),
        maps=inside.up(own, x.shape[2:])[order],
        measures={"concept_completeness": everything},
    )
    return Told(form, notes, tuple(cautions))


def _present(features: Tensor, mean: Tensor, vectors: Tensor, threshold: float) -> Tensor:
    """Return how far each position has each concept: cosines above the threshold, ``(N, K, *grid)``."""
    centred = features - mean.view(-1, *[1] * (features.ndim - 2))
    cosine = torch.einsum("kd,nd...->nk...", F.normalize(vectors, dim=1), F.normalize(centred, dim=1))
    return torch.where(cosine > threshold, cosine, torch.zeros_like(cosine))


def _learned(
    inside: Inside,
    x: Tensor,
    features: Tensor,
    mean: Tensor,
    scores: Tensor,
    learn: Tensor,
    parts: int,
    steps: int,
    threshold: float,
    batch_size: int,
    generator: torch.Generator,
    progress: Progress,
) -> Tensor:
    """Learn concept vectors ``(K, D)``: from centres of clusters, by what keeps the score."""
    centred = features[learn] - mean.view(-1, *[1] * (features.ndim - 2))
    flat = F.normalize(centred, dim=1).movedim(1, -1).flatten(0, -2)
    flat = flat[torch.randperm(len(flat), generator=generator)[:5000]]
    start = KMeans(parts, n_init=2, random_state=seed_of(generator)).fit(flat.numpy()).cluster_centers_
    vectors = torch.from_numpy(start).float().requires_grad_()
    has = _present(features[learn], mean, vectors.detach(), threshold)
    solved = _least_squares(has, features[learn])
    back, shift = solved[:-1].clone().requires_grad_(), solved[-1].clone().requires_grad_()
    adam = torch.optim.Adam([{"params": [vectors], "lr": 0.02}, {"params": [back, shift], "lr": 0.01}])
    spread = scores.std().clamp(min=1e-6)
    for step in range(steps):
        rows = learn[torch.randint(len(learn), (min(batch_size, len(learn)),), generator=generator)]
        with torch.enable_grad():
            present = _present(features[rows], mean, vectors, threshold)
            again = torch.einsum("kd,nk...->nd...", back, present) + shift.view(-1, *[1] * (features.ndim - 2))
            new = inside.score(inside.outputs_behind(x[rows], again.to(inside.device))).cpu()
            unit = F.normalize(vectors, dim=1)
            near = torch.einsum("kd,pd->kp", unit, flat).topk(min(50, len(flat)), 1).values.mean()
            apart = (unit @ unit.T - torch.eye(parts)).square().sum() / (parts * (parts - 1))
            loss = ((new - scores[rows]) / spread).square().mean() - 0.1 * near + 0.1 * apart
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        progress(step + 1, steps)
    return vectors.detach()


def _least_squares(has: Tensor, features: Tensor) -> Tensor:
    """Return the linear map from concepts to features, ``(K + 1, D)``; its last row is the shift."""
    a = has.movedim(1, -1).flatten(0, -2).double()
    y = features.movedim(1, -1).flatten(0, -2).double()
    a = torch.cat([a, torch.ones(len(a), 1, dtype=a.dtype)], 1)
    gram = a.T @ a
    found: Tensor = torch.linalg.solve(gram + 1e-6 * gram.trace() * torch.eye(len(gram), dtype=a.dtype), a.T @ y)
    return found.float()


def _fitted_back(has: Tensor, features: Tensor, subset: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map from the chosen concepts back to features, fitted to these images."""
    solved = _least_squares(has[:, subset], features)

    def back(has: Tensor) -> Tensor:
        shape = (-1, *[1] * (has.ndim - 2))
        return torch.einsum("kd,nk...->nd...", solved[:-1], has[:, subset]) + solved[-1].view(shape)

    return back


def _completeness(table: Tensor, answers: Tensor, scores: Tensor, kinds: bool) -> Tensor:
    """Return how far every set of concepts gets from a constant answer (0) to the model's own (1), ``(2^K,)``.

    A constant can always be answered, whatever the concepts: no set is worse than that.

    Args:
        table: ``(2^K, n)``, right or not, or minus the squared error of the score.
        answers: ``(n,)`` of the model.
        scores: ``(n,)`` of the model.
        kinds: answers are compared, not scores.
    """
    worth = table.mean(1)
    if kinds:
        floor, ceiling = float(answers.bincount().max() / len(answers)), 1.0
    else:
        floor, ceiling = -float(scores.double().var(correction=0)), 0.0
    return (worth.clamp(min=floor) - floor) / max(ceiling - floor, 1e-12)


def _shapley(count: int) -> Tensor:
    """Return the weights ``(K, 2^K)`` that turn the worth of all sets, in the order of ``product``, into shares."""
    weights = torch.zeros(count, 2**count, dtype=torch.float64)
    for number, subset in enumerate(itertools.product((0, 1), repeat=count)):
        size = sum(subset)
        for k, one in enumerate(subset):
            if one:
                weights[k, number] = 1 / (count * math.comb(count - 1, size - 1))
            else:
                weights[k, number] = -1 / (count * math.comb(count - 1, size))
    return weights


@insight("crp")
def crp(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    parts: int = 6,
    composite: str = "epsilon_plus_flat",
    epsilon: float = 1e-6,
    images: int = 60,
    profile: Wired,
    cohort: Cohort,
    progress: Progress,
) -> Told:
    """Send relevance through one channel of a layer at a time: each gets its share and its own map (arXiv 2206.03208).

    The maps of all channels sum up to the relevance map of the whole. Examples are the parts of the cohort's images in
    which the channel has most relevance for the same score.

    Args:
        model: a network of convolutions, linear layers, pooling and element-wise activations.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest features.
        parts: Channels shown, those of most relevance.
        composite: Rules of propagation: epsilon_plus, epsilon_plus_flat, epsilon_alpha2_beta1,
            epsilon_alpha2_beta1_flat or epsilon_gamma_box.
        epsilon: Stabiliser of the denominators.
        images: Most images of the cohort that are looked at for examples.
        profile: What is known of the model.
        cohort: Images to take examples from.
        progress: Told the images looked at.

    Returns:
        Share of the relevance that goes through each channel, with its map and examples.
    """
    known = composites()
    if composite not in known:
        raise TargetError(f"crp: composite={composite!r} was given; {', '.join(known)} are allowed")
    at_least(1, parts=parts, images=images)
    if not epsilon > 0:
        raise TargetError(f"crp: epsilon={epsilon} was given; a number above 0 is needed")
    place, notes = find_place(profile, layer)
    inside = cut(model, x, score, profile, 1, layer)

    def backwards(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the leaf, the layer's output and its relevance."""
        source, entry = leaf(image)
        mode = Relevance(known[composite], epsilon)
        with torch.enable_grad(), captured(model, place) as kept, mode:
            output = primary(run(model, entry))
        mode.close(output)
        slope = slope_of(lambda o, _: inside.score(o), output, torch.zeros(1, dtype=torch.long, device=x.device))
        start = (output.detach() if known[composite].last is None else output.detach().abs()) * slope
        (found,) = torch.autograd.grad(output, kept[-1], start, retain_graph=True, allow_unused=True)
        if found is None:
            raise ModelError(f"crp: no relevance passes {place.name!r} as it stands; name another layer")
        return source, kept[-1], found

    source, output, found = backwards(x)
    r = place.fold(found)[0]
    each = r.flatten(1).sum(1)
    total = each.abs().sum().clamp(min=torch.finfo(each.dtype).tiny)
    best = each.abs().argsort(descending=True, stable=True)[:parts]
    maps = []
    for k in best.tolist():
        only = torch.zeros_like(r)
        only[k] = r[k]
        masked = _masked(place.put(only[None], found), place.prefix, place.layout)
        (own,) = torch.autograd.grad(output, source, masked, retain_graph=True)
        maps.append(own[0].sum(0))
    some = cohort.stack[:images]
    seen = []
    for number, image in enumerate(some):
        seen.append(place.fold(backwards(image[None].to(x.device, copy=True))[2])[0, best].cpu())
        progress(number + 1, len(some))
    there = torch.stack(seen).float()
    sign = each[best].sign().cpu().view(1, -1, *[1] * (there.ndim - 2))
    there = there * sign
    ranked = there.flatten(2).sum(2).argsort(dim=0, descending=True, stable=True)
    shares = each[best] / total
    rest = float(1 - shares.abs().sum())
    form = Concepts(
        names=tuple(f"channel {k}" for k in best.tolist()),
        scores=shares,
        what="share of the relevance that passes each channel of the layer; below 0 it speaks against",
        neutral=0.0,
        patches=torch.stack(
            [closest_patches(some.cpu(), there[:, i], ranked[:, i], PATCHES) for i in range(len(best))]
        ),
        maps=torch.stack(maps),
        measures={"share of the relevance in channels not shown": max(0.0, rest)},
    )
    cautions = (
        "A channel is taken for one concept, yet one channel can stand for several unrelated things.",
        UNNAMED,
    )
    return Told(form, (*notes, *inside.notes[len(notes) :]), cautions)


def _masked(put: Tensor, prefix: int, layout: str) -> Tensor:
    """Take away the relevance of tokens that stand for no position: it belongs to no map of a channel."""
    if not prefix:
        return put
    put = put.clone()
    if layout == "tokens_first":
        put[:prefix] = 0
    else:
        put[:, :prefix] = 0
    return put
