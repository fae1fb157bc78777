"""Groups of cases in which a model looks at the same place: where shortcuts of a cohort show."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least
from runners.beyond.inside import asked, closest_patches, enough, interval, of_class, resampled, seed_of, shrunk
from runners.forms import Concepts
from runners.gate import unmet
from runners.models import Wired
from runners.owned import Cohort
from runners.registry import Found, Progress, Score, Told, explainers, insight, seeded
from taxonomy.errors import TargetError

ORDER: Final = ("lrp_composite", "attnlrp", "input_x_gradient")
"""Maps that are clustered: the first that the model allows."""
GRID: Final = {4: 16, 5: 8}
"""Positions per axis of the maps that are compared, by number of axes."""
PATCHES: Final = 4
"""Examples shown of each group."""
MOST: Final = 6
"""Groups at most."""
SURE: Final = 0.01
"""p up to which the maps of a group are taken to agree on a place."""


@insight("spray")
def spray(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    maps: str = "auto",
    groups: int = 0,
    images: int = 120,
    samples: int = 200,
    runs: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Cluster the relevance maps of the cases that the model answers alike (SpRAy, arXiv 1902.10178).

    Maps are made coarse and of length 1; spectral clustering of their graph of nearest neighbours gives groups, as many
    as its largest eigengap says. Of each group it is tested whether its maps agree on a place: how often groups of
    the same maps, moved about at random, agree as much. Then that place is taken from cases that the model answers
    otherwise, to see how far the score falls.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        maps: Explainer whose maps are clustered — auto, lrp_composite, attnlrp, input_x_gradient, or another that
            needs nothing but the model.
        groups: How many; 0 for as many as the eigengap says, up to 6.
        images: Most images of the answer.
        samples: Times that all maps are moved about at random.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to look for shortcuts in.
        generator: Draws.
        progress: Told the maps made.

    Returns:
        Of each group the fall of the score without its place, p of its maps agreeing, examples and the mean map.
    """
    at_least(0, groups=groups)
    at_least(8, images=images)
    at_least(99, samples=samples)
    at_least(2, runs=runs)
    enough(cohort, 20, "spray")
    question = asked(model, x, score, profile, batch_size)
    index, chosen = of_class(question, cohort, images, generator)
    _, own, _ = question.look(cohort.stack)
    explainer, name = _explainer(maps, profile)
    both = torch.cat([cohort.stack[index].to(x), x])
    found = []
    for number, image in enumerate(both):
        found.append(explainer(model, image[None], lambda o, _: question.score(o)).detach().float().cpu()[0])
        progress(number + 1, len(both))
    whole = torch.stack(found)
    side = GRID[x.ndim]
    coarse = shrunk(whole.clamp(min=0)[:, None], [min(side, n) for n in whole.shape[1:]])[:, 0]
    unit = F.normalize(coarse.flatten(1), dim=1)
    kept = (unit.norm(dim=1) > 0.5).nonzero()[:, 0]
    here = int(kept[-1]) == len(index) if len(kept) else False
    if len(kept) < 8:
        raise TargetError(
            f"{name} finds nothing that speaks for this answer in {len(unit) - len(kept)} of {len(unit)} images; "
            "explain another answer (target), or name another explainer (maps)"
        )
    index, both = index[kept[:-1] if here else kept], both[kept.to(x.device)]
    whole, coarse, unit = whole[kept], coarse[kept], unit[kept]
    seed = seed_of(generator)
    cluster, gaps = clustered(unit, groups, seed)
    count = int(cluster.max()) + 1
    sizes = [int((cluster == k).sum()) for k in range(count)]
    agree = torch.tensor([consistency(unit[cluster == k]) for k in range(count)])
    null = []
    for _ in range(samples):
        moved = F.normalize(scattered(coarse, generator).flatten(1), dim=1)
        again, _ = clustered(moved, count, seed)
        null.append(max(consistency(moved[again == k]) for k in range(int(again.max()) + 1)))
    p = (torch.tensor(null)[None] >= agree[:, None]).double().sum(1).add(1) / (samples + 1)
    others = cohort.stack[(~own).nonzero()[:, 0]] if bool((~own).any()) else cohort.stack
    falls, lows, highs, places, patches, names, common = [], [], [], [], [], [], []
    for k in range(count):
        rows = (cluster == k).nonzero()[:, 0]
        mean = whole[rows].clamp(min=0)
        mean = (mean / mean.flatten(1).sum(1).clamp(min=1e-12).view(-1, *[1] * (mean.ndim - 1))).mean(0)
        place, compact = _place(mean)
        common.append(compact and float(p[k]) <= SURE)
        pairs = torch.randint(len(others), (len(rows),), generator=generator)
        images_ = both[rows.to(x.device)]
        before = question.look(images_)[0]
        after = question.look(torch.where(place.to(x.device), others[pairs].to(x), images_))[0]
        fall = (before - after).double()
        low, high = interval(resampled(fall[:, None], runs, generator))
        falls.append(float(fall.mean()))
        lows.append(min(float(low[0]), falls[-1]))
        highs.append(max(float(high[0]), falls[-1]))
        places.append(mean)
        order = (unit[rows] @ F.normalize(unit[rows].mean(0), dim=0)).argsort(descending=True, stable=True)
        patches.append(closest_patches(images_.cpu(), whole[rows], order, PATCHES))
        inside = here and len(unit) - 1 in rows.tolist()
        names.append(f"group {k + 1}: {sizes[k]} of {len(unit)} cases{', this one among them' if inside else ''}")
    order = torch.tensor(falls).argsort(descending=True, stable=True)
    form = Concepts(
        names=tuple(names[k] for k in order.tolist()),
        scores=torch.tensor(falls)[order],
        what="fall of the score when the group's common place is taken from cases with another answer",
        low=torch.tensor(lows)[order],
        high=torch.tensor(highs)[order],
        p_values=p[order],
        neutral=0.0,
        patches=torch.stack([patches[k] for k in order.tolist()]),
        maps=torch.stack(places)[order],
        measures={
            "groups": float(count),
            "groups with a common place (p up to 0.01, half of the relevance in a fifth of the image)": float(
                sum(common)
            ),
            "largest eigengap": float(gaps.max()),
            "agreement of the maps of the most agreeing group (mean cosine)": float(agree.max()),
            "agreement by chance (95th percentile)": float(torch.tensor(null).quantile(0.95)),
        },
    )
    notes = (
        *question.notes,
        chosen,
        f"Maps of {name}, what speaks for the answer.",
        f"p: how often the most agreeing of as many groups of maps, each moved to about where another lay ({samples} "
        "times), agrees as much on a place; this corrects for the number of groups.",
        *(f"Group {k + 1} has a common place." for k in range(count) if common[k]),
        "Agreement (mean cosine) — " + "; ".join(f"group {k + 1}: {float(agree[k]):.2f}" for k in range(count)) + ".",
        *_labels(cohort, index, cluster[: len(index)]),
        *(() if here else ("In this image nothing speaks for the answer: it is in no group.",)),
    )
    cautions = [
        "A common place can be a tag, a marker or a border, and as well the organ that always lies there: look at the "
        "examples.",
    ]
    if not any(common):
        cautions.append(
            "In no group do the maps agree on a place more than chance would have it: no shortcut was seen."
        )
    return Told(form, notes, tuple(cautions))


def clustered(unit: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cluster unit vectors ``(N, P)`` by the spectrum of their graph of nearest neighbours.

    Args:
        unit: Vectors of length 1.
        count: Clusters; 0 for as many as the largest gap between the first eigenvalues says.
        seed: For the last step, k-means.

    Returns:
        The cluster of each, ``(N,)``, and the gaps after 1, 2, … clusters.
    """
    n = len(unit)
    near = min(n - 1, max(5, round(n**0.5)))
    cosine = unit @ unit.T
    cosine.fill_diagonal_(-torch.inf)
    value, where = cosine.topk(near, 1)
    graph = torch.zeros(n, n, dtype=torch.float64).scatter(1, where, value.clamp(min=1e-6).double())
    graph = torch.maximum(graph, graph.T)
    root = graph.sum(1).rsqrt()
    laplacian = torch.eye(n, dtype=torch.float64) - root[:, None] * graph * root
    values, vectors = torch.linalg.eigh(laplacian)
    gaps = values[1 : MOST + 1] - values[:MOST]
    count = min(count or int(gaps.argmax()) + 1, n)
    if count == 1:
        return torch.zeros(n, dtype=torch.long), gaps
    rows = F.normalize(vectors[:, :count], dim=1)
    found = KMeans(count, n_init=3, random_state=seed).fit(rows.numpy()).labels_
    return torch.from_numpy(found).long(), gaps


def consistency(unit: Tensor) -> float:
    """Return the mean cosine of all pairs of unit vectors ``(n, P)``; 0 of fewer than four."""
    n = len(unit)
    return float((unit.sum(0).square().sum() - n) / (n * (n - 1))) if n >= 4 else 0.0


def _explainer(maps: str, profile: Wired) -> tuple[Callable[..., Tensor], str]:
    """Return the explainer of the maps, and its id."""
    allowed = [one for one in ORDER if one in explainers and not unmet(one, profile)]
    name = maps if maps != "auto" else next(iter(allowed), ORDER[-1])
    if name not in explainers or unmet(name, profile):
        raise TargetError(f"maps = {maps!r}: it cannot explain this model; auto, {', '.join(allowed)} can")
    function = explainers[name]
    wanted = {
        one.name
        for one in inspect.signature(function).parameters.values()
        if one.kind is one.KEYWORD_ONLY and one.default is one.empty
    }
    given: dict[str, Any] = {"profile": profile, "progress": lambda *_: None}
    if not wanted <= {*given, "generator"}:
        raise TargetError(f"maps = {maps!r}: it needs more than the model; auto, {', '.join(allowed)} do not")

    def explain(model: nn.Module, x: Tensor, score: Score) -> Tensor:
        more = {"generator": seeded(0)} if "generator" in wanted else {}
        found = function(model, x, score, **{key: given[key] for key in wanted & set(given)}, **more)
        return found.values if isinstance(found, Found) else found

    return explain, name


def scattered(maps: Tensor, generator: torch.Generator) -> Tensor:
    """Move maps ``(N, *grid)`` to where maps could lie if they had no place in common: around the borders, if need be.

    The centre of each comes to lie where that of another was, give or take the width of a kernel (Scott's rule): on the
    whole they lie where they lay, but a place that many share is smeared.
    """
    axes = [torch.arange(n, dtype=torch.float64) for n in maps.shape[1:]]
    weight = maps.double().flatten(1).sum(1).clamp(min=1e-300)
    centre = torch.stack(
        [torch.einsum("n...,...->n", maps.double(), one) / weight for one in torch.meshgrid(*axes, indexing="ij")], 1
    )
    n, dims = centre.shape
    width = centre.std(0) * n ** (-1 / (dims + 4))
    goal = centre[torch.randint(n, (n,), generator=generator)]
    goal = goal + width * torch.randn(n, dims, generator=generator, dtype=torch.float64)
    steps = (goal - centre).round().long().tolist()
    return torch.stack([one.roll(step, tuple(range(dims))) for one, step in zip(maps, steps, strict=True)])


def _place(mean: Tensor, share: float = 0.5, most: float = 0.2) -> tuple[Tensor, bool]:
    """Return the smallest place, bool ``(*spatial)``, that holds a share of a mean map, and whether it is one.

    It is none where it would take more than ``most`` of the image, and is cut off there.
    """
    flat = mean.flatten()
    order = flat.argsort(descending=True, stable=True)
    need = int((flat[order].cumsum(0) < share * flat.sum()).sum()) + 1
    limit = max(1, int(len(flat) * most))
    found = torch.zeros_like(flat, dtype=torch.bool)
    found[order[: min(need, limit)]] = True
    return found.view(mean.shape), need <= limit


def _labels(cohort: Cohort, index: Tensor, cluster: Tensor) -> tuple[str, ...]:
    """Say what the cases of each group are known to be."""
    if cohort.labels is None:
        return ()
    told = []
    for k in sorted(set(cluster.tolist())):
        names = [cohort.label(i) for i in index[cluster == k].tolist()]
        shares = sorted({one: names.count(one) for one in names}.items(), key=lambda one: -one[1])
        told.append(f"group {k + 1}: " + ", ".join(f"{number} {one}" for one, number in shares[:3]))
    return (f"Known labels of the groups — {'; '.join(told)}.",)
