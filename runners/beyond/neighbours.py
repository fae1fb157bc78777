"""Cases that are near in the model's eyes: the most alike, the nearest of another class, and mixtures of cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least
from runners.beyond.inside import asked, enough
from runners.embedding import codes, embedded, embedding_note, pooled
from runners.forms import Cases
from runners.models import Wired, captured, find_place, run, upsample
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight
from runners.sized import framed
from runners.targets import primary
from taxonomy.errors import TargetError

DISTANCES = ("cosine", "euclidean")
WINDOWS = 20
"""Parts of each axis over which slopes, which are speckled, are averaged to be seen."""
CHUNK = 200_000
"""Vectors that are compared at a time, which bounds the memory of a search."""


@dataclass(frozen=True, eq=False)
class Index:
    """Vectors to search: exact, as fast as memory is read (``benchmarks/neighbours.py``), so no library is needed.

    Attributes:
        vectors: ``(N, D)`` float32; unit length for cosines.
        squares: ``(N,)`` half their squared length.
        distance: one of :data:`DISTANCES`.
    """

    vectors: Tensor
    squares: Tensor
    distance: str

    def nearest(self, queries: Tensor, count: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Find the vectors nearest to each query.

        Args:
            queries: ``(Q, D)``.
            count: how many, at most N.
            among: bool ``(N,)`` or ``(Q, N)``, those that may be found; None for all.

        Returns:
            Numbers ``(Q, count)``, the nearest first, and their likeness: the cosine, or the distance, negated. What
            may not be found has a likeness of ``-inf``.
        """
        queries = queries.float()
        if self.distance == "cosine":
            queries = F.normalize(queries, dim=1)
        found: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(self.vectors), CHUNK):
            part = slice(start, start + CHUNK)
            likeness = queries @ self.vectors[part].T
            if self.distance == "euclidean":
                likeness -= self.squares[part]
            if among is not None:
                likeness = likeness.masked_fill(~among[..., part], -math.inf)
            best = likeness.topk(min(count, likeness.shape[1]), dim=1)
            found.append((best.indices + start, best.values))
        numbers, likeness = (torch.cat(one, 1) for one in zip(*found, strict=True))
        order = likeness.argsort(dim=1, descending=True, stable=True)[:, :count]
        numbers, likeness = numbers.gather(1, order), likeness.gather(1, order)
        if self.distance == "euclidean":  # a difference of large numbers is not exact: the few that stay are done again
            apart = torch.linalg.vector_norm(self.vectors[numbers] - queries[:, None], dim=2)
            likeness = torch.where(likeness.isinf(), likeness, -apart)
        return numbers, likeness


def index_of(vectors: Tensor, distance: str = "cosine") -> Index:
    """Make vectors ``(N, D)`` ready to search.

    Raises:
        TargetError: there is no such distance.
    """
    if distance not in DISTANCES:
        raise TargetError(f"distance={distance!r} was given; {' or '.join(DISTANCES)} is allowed")
    vectors = vectors.float()
    if distance == "cosine":
        vectors = F.normalize(vectors, dim=1)
    return Index(vectors.contiguous(), vectors.square().sum(1) / 2, distance)


def gathered(
    cohort: Cohort,
    index: Tensor,
    scores: Tensor,
    what: str,
    roles: Sequence[str],
    measures: Mapping[str, float],
    maps: Tensor | None = None,
    case_maps: Tensor | None = None,
) -> Cases:
    """Return cases of a cohort as a form, with their images, labels and names."""
    numbers = index.tolist()
    return Cases(
        index=index.long(),
        scores=scores,
        what=what,
        roles=tuple(roles),
        labels=tuple(cohort.label(at) for at in numbers) if cohort.labels is not None else (),
        names=tuple(cohort.names[at] for at in numbers) if cohort.names else (),
        images=framed(cohort.x[index.to(cohort.x.device)].cpu()),
        maps=maps,
        case_maps=case_maps,
        measures=measures,
    )


def called(cohort: Cohort, at: int | Tensor) -> str:
    """Return what to call a case."""
    return cohort.names[int(at)] if cohort.names else f"case {int(at) + 1} of the cohort"


def same_as(cohort: Cohort, x: Tensor) -> Tensor:
    """Return which cases ``(N,)`` are the image itself."""
    here, near = x[0], 1e-6 * float(x.abs().max())
    same = (one.shape == here.shape and bool(((one.to(x) - here).abs() <= near).all()) for one in cohort.x)
    return torch.tensor(list(same))


def without_itself(cohort: Cohort, x: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """Return which cases ``(N,)`` are not the image itself, and what to say of those that are."""
    same = same_as(cohort, x)
    if same.all():
        raise TargetError("every case of the cohort is the image itself; give other cases")
    return ~same, tuple(
        f"The image itself is in the cohort, {called(cohort, at)}, and left out." for at in same.nonzero()[:, 0]
    )


def kinds(cohort: Cohort, decided: Tensor, task: str | None) -> tuple[Tensor | None, str]:
    """Return the class of every case ``(N,)``, None where there is none, and what it is."""
    if cohort.labels is not None:
        return cohort.labels, "known label"
    if task == "classification":
        return decided, "the model's own answer, since the cohort has no labels"
    return None, ""


@insight("knn_retrieval", sizes=True)
def knn_retrieval(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    count: int = 5,
    contrasts: int = 2,
    distance: str = "cosine",
    layer: str | None = None,
    samples: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Show the cases nearest to the image in the model's embedding, and the nearest of another class (1803.04765).

    How much a near case says is measured on the cohort: how often the cases nearest to each have its label, and how
    often they would by chance. How usual the image is: the share of the cohort's cases that are less like their own
    nearest than it is.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        count: Cases to show.
        contrasts: Cases of another class than that of the image to show.
        distance: cosine or euclidean.
        layer: Name of the layer to take the embedding from; None for what the last linear layer reads.
        samples: Permutations of the labels for chance.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Cases to search.
        generator: Draws.
        progress: Told what is done.

    Returns:
        The cases with their likeness, and where in the image it lies if the embedding is an average over positions.
    """
    at_least(1, count=count, samples=samples)
    at_least(0, contrasts=contrasts)
    vectors = embedded(model, cohort.x, profile, layer=layer, batch_size=batch_size, progress=progress)
    own = embedded(model, x, profile, layer=layer, batch_size=batch_size)
    index = index_of(vectors, distance)
    other, notes = without_itself(cohort, x)
    numbers, likeness = (one[0] for one in index.nearest(own, min(count, int(other.sum())), other))
    usual = _usual(index, float(likeness[0]))
    measures = {"share of the cohort less like its own nearest case": usual}
    cautions = [
        "What is near to the model need not be alike to a clinician: it also sees devices, borders and brightness.",
    ]
    if usual < 0.05:
        cautions.append(
            f"The image is unlike the cohort (only {usual:.0%} of its cases lie as far from their nearest): its "
            "neighbours say little."
        )
    own_kind, kind, source = _kind_of(model, x, score, profile, cohort, numbers, batch_size)
    roles = ["most alike"] * len(numbers)
    if kind is not None and bool((kind != kind[0]).any()):
        agreement, chance, p = _agreement(index, kind, count, samples, generator)
        measures |= {
            "nearest cases with the same label, in the cohort": agreement,
            "the same by chance": chance,
            "p": p,
            "nearest cases of the image's class": float((kind[numbers] == own_kind).double().mean()),
        }
        if p > 0.05:
            cautions.append(
                "In the cohort the nearest cases have the same label no more often than by chance: the labels of "
                "the cases shown here say nothing."
            )
        notes = (*notes, f"Class of a case: {source}. Chance: {samples} permutations of the classes.")
        among = other & (kind != own_kind)
        if contrasts and among.any():
            more, further = (one[0] for one in index.nearest(own, min(contrasts, int(among.sum())), among))
            fresh = ~torch.isin(more, numbers)
            numbers, likeness = torch.cat([numbers, more[fresh]]), torch.cat([likeness, further[fresh]])
            # a case of another class may be among the most alike as well
            roles = ["most alike" if at < count else "" for at in range(len(numbers))]
            for at in torch.isin(numbers, more).nonzero()[:, 0].tolist():
                roles[at] = "most alike, of another class" if roles[at] else "nearest of another class"
    if contrasts and not any("another" in role for role in roles):
        cautions.append("The cohort has no case known to be of another class.")
    what = "likeness to this image (cosine)" if distance == "cosine" else "distance to this image, negated"
    maps = _places(model, x, own[0], vectors[numbers], profile, distance, layer)
    form = gathered(cohort, numbers, likeness, what, roles, measures, maps)
    note = f"{embedding_note(profile, layer)} Searched: all {len(cohort)} cases, exactly."
    where = (
        ("Maps: the share of every position of the image in the likeness; they add up to it.",)
        if maps is not None
        else ()
    )
    return Told(form, (note, *where, *notes), tuple(cautions))


def _kind_of(
    model: nn.Module, x: Tensor, score: Score, profile: Wired, cohort: Cohort, nearest: Tensor, batch_size: int
) -> tuple[int, Tensor | None, str]:
    """Return the class of the image, those of the cases ``(N,)``, None without, and what a class is.

    The model's answer is the image's class where labels are numbered like the model's outputs; else the class that is
    most frequent among the nearest cases.
    """
    names = getattr(getattr(model, "card", None), "labels", None)
    fits = profile.task == "classification" and (
        cohort.labels is None
        or (
            int(cohort.labels.max()) < max(profile.outputs, 2)
            and (not names or not cohort.label_names or tuple(names) == cohort.label_names)
        )
    )
    if fits:
        looked = asked(model, x, score, profile, batch_size)
        answer = int(looked.look(x)[2])
        classes, source = kinds(
            cohort, looked.look(cohort.x)[2] if cohort.labels is None else torch.empty(0), profile.task
        )
        return answer, classes, f"{source}; of the image: the model's answer"
    if cohort.labels is None:
        return 0, None, ""
    return (
        int(cohort.labels[nearest].mode().values),
        cohort.labels,
        "known label; of the image: that of most of the nearest cases",
    )


def _usual(index: Index, likeness: float, most: int = 2000) -> float:
    """Return the share of the indexed vectors whose nearest other one is no nearer than ``likeness``."""
    rows = torch.arange(len(index.vectors))[:: max(1, len(index.vectors) // most)]
    if len(index.vectors) < 2:
        return math.nan
    numbers, found = index.nearest(index.vectors[rows], 2)
    nearest = torch.where(numbers[:, 0] == rows, found[:, 1], found[:, 0])
    return float((nearest <= likeness).double().mean())


def _agreement(
    index: Index, kind: Tensor, count: int, samples: int, generator: torch.Generator
) -> tuple[float, float, float]:
    """Return how often the cases nearest to each have its class, the mean of that under permutations, and p."""
    count = min(count, len(kind) - 1)
    if count < 1:
        return math.nan, math.nan, 1.0
    rows = torch.arange(len(kind))
    numbers = torch.cat([index.nearest(index.vectors[part], count + 1)[0] for part in torch.split(rows, 1000)])
    itself = numbers == rows[:, None]
    itself[~itself.any(1), -1] = True  # more than ``count`` copies of it: it may not be among the nearest
    numbers = numbers[~itself].view(len(kind), count)

    def share(classes: Tensor) -> float:
        return float((classes[numbers] == classes[:, None]).double().mean())

    found = share(kind)
    chance = [share(kind[torch.randperm(len(kind), generator=generator)]) for _ in range(samples)]
    p = (1 + sum(one >= found - 1e-12 for one in chance)) / (samples + 1)
    return found, float(np.mean(chance)), p


@torch.no_grad()
def _places(
    model: nn.Module, x: Tensor, own: Tensor, near: Tensor, profile: Wired, distance: str, layer: str | None
) -> Tensor | None:
    """Return each position's share in the cosine with each case, ``(N, *spatial)``; None where it has none."""
    if distance != "cosine" or profile.place is None:
        return None
    place = find_place(profile, layer)[0]
    with captured(model, place) as kept:
        run(model, x.clone())
    features = place.fold(kept[-1])[0].float().cpu()
    if features.shape[0] != len(own) or not torch.allclose(features.flatten(1).mean(1), own, rtol=1e-3, atol=1e-4):
        return None
    count = math.prod(features.shape[1:])
    shares = torch.einsum("d...,nd->n...", features, F.normalize(near, dim=1)) / (count * own.norm().clamp(min=1e-12))
    return upsample(shares, tuple(x.shape[2:])) * (count / math.prod(x.shape[2:]))


@insight("simplex")
def simplex(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    count: int = 5,
    steps: int = 16,
    layer: str | None = None,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    progress: Progress,
) -> Told:
    """Write the embedding of the image as a mixture of those of cases, with weights that sum to one (2110.15355).

    The weights are those of the nearest point in the hull of the cohort's embeddings, found exactly (non-negative least
    squares); those of the ``count`` largest are then fitted again without the others. Where in each case lies what it
    has in common: the Jacobian of the embedding, integrated from the cohort's mean image to the case and projected on
    the way from the mean image's embedding to that of the image.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        count: Cases in the mixture.
        steps: Points on the way from the mean image to a case; 0 leaves the maps out.
        layer: Name of the layer to take the embedding from; None for what the last linear layer reads.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Cases to mix.
        progress: Told what is done.

    Returns:
        The cases with their weights, and maps on them.
    """
    at_least(1, count=count)
    at_least(0, steps=steps)
    enough(cohort, 2, "simplex")
    vectors = embedded(model, cohort.x, profile, layer=layer, batch_size=batch_size, progress=progress).double()
    own = embedded(model, x, profile, layer=layer, batch_size=batch_size)[0].double()
    other, notes = without_itself(cohort, x)
    rows = other.nonzero()[:, 0]
    every = mixture(own, vectors[rows])
    chosen = rows[every.argsort(descending=True, stable=True)[:count]]
    weights = mixture(own, vectors[chosen])
    order = weights.argsort(descending=True, stable=True)
    chosen, weights = chosen[order], weights[order]
    chosen, weights = chosen[weights > 1e-6], weights[weights > 1e-6]
    total = float((own - vectors[rows].mean(0)).square().sum())

    def fit(weights: Tensor, vectors: Tensor) -> float:
        return 1 - float((own - weights @ vectors).square().sum()) / max(total, 1e-30)

    measures = {
        "share of the image's embedding that the cases shown explain": fit(weights, vectors[chosen]),
        "the same with all cases": fit(every, vectors[rows]),
    }
    cautions = [
        "A mixture that misses the embedding explains another image: look at the shares first.",
        "Weights say how to mix the embeddings; other cases can do as well, and a small one does not mean unlike.",
    ]
    if "embedding" in profile.has and layer is None:
        looked = asked(model, x, score, profile, batch_size)
        outputs = torch.cat([primary(run(model, part)).detach() for part in looked.parts(cohort.x[chosen])])
        mixed = torch.tensordot(weights.to(outputs), outputs, 1)[None]
        measures["score of the image"] = float(looked.look(x)[0])
        measures["score of the mixture"] = float(looked.score(mixed))
    if measures["share of the image's embedding that the cases shown explain"] < 0.5:
        cautions.append("The cases shown explain less than half of what sets the image apart from the mean case.")
    case_maps = _jacobians(model, x, cohort, chosen, steps, layer, profile, batch_size, progress) if steps else None
    roles = ["part of the mixture"] * len(chosen)
    form = gathered(cohort, chosen, weights, "weight in the mixture", roles, measures, case_maps=case_maps)
    where = () if case_maps is None else ("Maps on the cases: averaged over windows, as slopes are speckled.",)
    return Told(form, (embedding_note(profile, layer), *where, *notes), tuple(cautions))


def mixture(target: Tensor, vectors: Tensor) -> Tensor:
    """Return the weights ``(N,)``, at least 0 and of sum 1, that bring ``vectors`` ``(N, D)`` nearest to ``(D,)``."""
    centred = vectors - target  # weights of sum one: nothing is lost, and digits are won
    scale = float(centred.norm(dim=1).max()) or 1.0
    # least |Vw| for sum 1 is, but for its scale, the least |Vw|² + (sum - 1)²: no weight for the sum is to be chosen
    system = torch.cat([centred.T / scale, torch.ones(1, len(vectors), dtype=vectors.dtype)])
    goal = np.zeros(len(system))
    goal[-1] = 1.0
    found = torch.from_numpy(nnls(system.numpy(), goal, maxiter=30 * len(vectors))[0])
    weights: Tensor = found / found.sum()
    return weights


def _jacobians(
    model: nn.Module,
    x: Tensor,
    cohort: Cohort,
    chosen: Tensor,
    steps: int,
    layer: str | None,
    profile: Wired,
    batch_size: int,
    progress: Progress,
) -> Tensor | None:
    """Return for each case the share of each position in its way towards the image, ``(N, *spatial)``."""
    if "gradients" in profile.lacks:
        return None
    place = None if layer is None and "embedding" in profile.has else find_place(profile, layer)[0]

    def embed(images: Tensor) -> Tensor:
        return codes(model, images) if place is None else pooled(model, images, place)

    start = cohort.stack.mean(0, keepdim=True).to(x)
    with torch.no_grad():
        ends = [embed(one) for one in (x, start)]
    way = (ends[0] - ends[1])[0]
    way = way / way.square().sum().clamp(min=1e-20)
    points = (torch.arange(steps, device=x.device) + 0.5) / steps
    maps = []
    for done, at in enumerate(chosen.tolist(), 1):
        there, total = cohort.x[at][None].to(x), torch.zeros_like(x)
        for part in torch.split(points, batch_size):
            on = (start + part.view(-1, *[1] * (x.ndim - 1)) * (there - start)).requires_grad_()
            with torch.enable_grad():
                total += torch.autograd.grad((embed(on.clone()) @ way).sum(), on)[0].sum(0, keepdim=True)
        maps.append(((there - start) * total / steps)[0].sum(0).cpu())
        progress(done, len(chosen))
    size = tuple(x.shape[2:])
    windows: Any = tuple(min(WINDOWS, n) for n in size)
    pool = F.adaptive_avg_pool2d if len(size) == 2 else F.adaptive_avg_pool3d
    coarse = pool(torch.stack(maps)[:, None], windows)
    return upsample(coarse[:, 0], size)
