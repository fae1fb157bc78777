"""Concepts that somebody has a word for: given as example images, with or without masks, or as measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import false_discovery_control
from sklearn.linear_model import ElasticNet, LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least
from runners.beyond.directions import COUNTER, compared, direction, others, significance_note
from runners.beyond.inside import (
    Inside,
    asked,
    cut,
    cut_at,
    enough,
    interval,
    of_class,
    settled,
    shrunk,
)
from runners.beyond.radiomic import table
from runners.embedding import embedded, embedding_note
from runners.forms import Concepts
from runners.models import Place, Wired
from runners.owned import Cohort, Concept
from runners.registry import Progress, Score, Told, insight
from runners.sized import framed, in_one_size, several
from taxonomy.errors import TargetError

PATCHES = 4
"""Examples shown of each concept."""
SAME_SOURCE = (
    "The concept images must come from the same source as the cohort: else the direction is the difference between "
    "the sources."
)


@insight("tcav", sizes=True)
def tcav(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    direction: str = "pattern",
    pooled: bool = True,
    correction: str = "bh",
    samples: int = 200,
    images: int = 100,
    runs: int = 50,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    concepts: Mapping[str, Concept],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Share of images whose score rises towards a concept, tested against random concepts (arXiv 1711.11279).

    The direction of a concept leads from the features of the cohort to those of its examples. The share is over the
    cohort's images that the model answers as the image. p is from random sets of the cohort that are treated as the
    concept is; it compares the change of the score, as the share has only two values where the score is nearly linear.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest one from which the way to the score is not linear.
        direction: pattern (difference of means) or logistic (normal of a classifier, as in the paper, which also
            carries what cancels other signals and can point the wrong way; arXiv 2202.03482).
        pooled: Average the features over positions; else every position has its own.
        correction: Of the p-values for the number of concepts: bh (Benjamini and Hochberg) or bonferroni.
        samples: Random sets for the test.
        images: Most images of the class.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to draw the class and the counter-examples from.
        concepts: Examples of every concept.
        generator: Draws.
        progress: Told what is done.

    Returns:
        Shares with 95 % intervals and p; where each concept lies in the image.
    """
    at_least(2, samples=samples, images=images, runs=runs)
    enough(cohort, 20, "tcav")
    inside = cut(model, x, score, profile, batch_size, layer)
    inside, passing = settled(inside, x, cohort.x, profile, layer, bent=True)
    index, class_note = of_class(inside, cohort, images, generator)

    def flat(features: Tensor) -> Tensor:
        return features.flatten(2).mean(2) if pooled else features.flatten(1)

    def total(slopes: Tensor) -> Tensor:
        return slopes.flatten(2).sum(2) if pooled else slopes.flatten(1)

    pool = flat(inside.features(cohort.x))
    examples = {name: flat(inside.features(one.x)) for name, one in concepts.items()}
    found = compared(
        list(examples.values()),
        pool,
        total(inside.slopes(cohort.x[index])),
        kind=direction,
        correction=correction,
        randoms=samples,
        runs=runs,
        generator=generator,
        progress=progress,
    )
    own, own_slope = inside.features(x)[0], total(inside.slopes(x))[0].double()
    maps = []
    for way in found.directions.float():
        if pooled:
            maps.append(torch.tensordot(way, own - pool.mean(0).view(-1, *[1] * (own.ndim - 1)), 1))
        else:
            maps.append((way.view_as(own) * (own - pool.mean(0).view_as(own))).sum(0))
    names = tuple(concepts)
    local = found.directions @ own_slope
    notes = [
        f"{name}: held-out accuracy of its direction {found.accuracy[k]:.2f}; from typical images to those with it the "
        f"score changes by {found.effects[k]:+.3g}; along it the score of this image "
        f"{'rises' if local[k] > 0 else 'falls' if local[k] < 0 else 'stays'} ({local[k]:+.3g} per unit); "
        f"t-test of the paper p = {found.t_test[k]:.2g}."
        for k, name in enumerate(names)
    ]
    weak = [name for k, name in enumerate(names) if not found.accuracy[k] >= 0.65]
    cautions = [
        *passing,
        SAME_SOURCE,
        "A share near 0 or 1 says which way the score goes along the concept, not how far.",
        "The t-test of the paper counts directions of the same examples as independent: it is too sure.",
    ]
    if weak:
        cautions.append(
            f"The layer hardly tells examples of {', '.join(weak)} from other images: their shares are noise."
        )
    if len(names) / (samples + 1) > 0.05:
        cautions.append(f"With {samples} random sets and {len(names)} concepts a single one can hardly reach p < 0.05.")
    form = Concepts(
        names=names,
        scores=found.shares,
        what="share of the images of this answer whose score rises towards the concept",
        low=found.low,
        high=found.high,
        p_values=found.p,
        neutral=0.5,
        patches=_examples(concepts, [examples[name].double() @ found.directions[k] for k, name in enumerate(names)]),
        maps=inside.up(torch.stack(maps), x.shape[2:]),
        measures={"tcav_significance": float(found.p.min())},
    )
    tested_note = significance_note(found, correction, "images of the cohort")
    lead = "tcav_significance: the smallest p."
    return Told(form, (*inside.notes, class_note, tested_note, lead, *notes), tuple(cautions))


def _examples(concepts: Mapping[str, Concept], closeness: Sequence[Tensor]) -> Tensor:
    """Return the examples of each concept that lie furthest along its direction, ``(K, P, C, *spatial)``."""
    count = min(PATCHES, *(len(one.x) for one in concepts.values()))
    best = [near.topk(count).indices.tolist() for near in closeness]
    every = [one.x[at].cpu() for one, chosen in zip(concepts.values(), best, strict=True) for at in chosen]
    shown = framed(several(every))
    return shown.view(len(best), count, *shown.shape[1:])


@insight("rcv", sizes=True)
def rcv(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    direction: str = "pattern",
    samples: int = 1000,
    images: int = 100,
    runs: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Directions along which a measured concept grows, and how the score changes along them (arXiv 1904.04520).

    The measures are those that the cohort came with, else texture, brightness and shape measured in its images. A ridge
    regression on the pooled features tells how well each can be read from them, its R² that of images left out. The
    bidirectional relevance ``Br = R² * mean / deviation`` of the derivatives along the direction, over the images of
    the answer, is divided by the largest.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest one from which the way to the score is not linear.
        direction: pattern (how the features change with the measure) or regression (the coefficients, as in the paper,
            which also carry what cancels other signals and can point the wrong way; arXiv 2202.03482).
        samples: Permutations of each measure for the p of its R².
        images: Most images of the class.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to fit the directions and to draw the class from.
        generator: Draws.
        progress: Told what is done.

    Returns:
        Br from -1 (the more of it, the lower the score) to 1, with 95 % intervals; p of R², corrected.
    """
    at_least(2, samples=samples, images=images, runs=runs)
    enough(cohort, 20, "rcv")
    if direction not in ("pattern", "regression"):
        raise TargetError(f"direction={direction!r} was given; pattern or regression is allowed")
    inside = cut(model, x, score, profile, batch_size, layer)
    inside, passing = settled(inside, x, cohort.x, profile, layer, bent=True)
    index, class_note = of_class(inside, cohort, images, generator)
    values, names, source = measures_of(cohort)
    features = inside.features(cohort.x, progress).flatten(2).mean(2).double()
    slopes = inside.slopes(cohort.x[index]).flatten(2).sum(2).double()
    r2, p, ways = _regressed(features, values, samples, generator)
    pattern = values.T @ (features - features.mean(0)) / len(values)  # change of the features per deviation
    steps = pattern if direction == "pattern" else ways / ways.square().sum(1, keepdim=True)
    rises = slopes @ F.normalize(steps, dim=1).T
    relevance = _relevance(r2, rises)
    largest = float(relevance.abs().max()) or 1.0
    draws = torch.stack(
        [_relevance(r2, rises[torch.randint(len(rises), (len(rises),), generator=generator)]) for _ in range(runs)]
    )
    low, high = interval(draws / largest)
    corrected = torch.as_tensor(false_discovery_control(p.numpy()))
    own = inside.slopes(x).flatten(2).sum(2)[0].double()
    per = steps @ own
    order = relevance.abs().argsort(descending=True, stable=True)
    notes = [
        f"{names[k]}: R² {r2[k]:.2f} on images left out"
        + (f"; one standard deviation more of it changes this image's score by {per[k]:+.3g}." if r2[k] > 0.1 else ".")
        for k in order.tolist()
    ]
    told = relevance / largest
    form = Concepts(
        names=tuple(names[k] for k in order.tolist()),
        scores=told[order],
        what="bidirectional relevance: R² times mean over deviation of the derivative, relative to the largest",
        low=torch.minimum(low, told)[order],
        high=torch.maximum(high, told)[order],
        p_values=corrected[order],
        neutral=0.0,
        measures={"best R² on images left out": float(r2.max())},
    )
    cautions = [
        *passing,
        "A measure can be read from the features without being used, and stand for another one that goes with it.",
        *(
            ["No measure can be read from the features (R² below 0.1): the directions are noise."]
            if r2.max() < 0.1
            else []
        ),
    ]
    tail = (
        f"p: of {samples} permutations of the measure over the images, those with as high an R², corrected by "
        "Benjamini and Hochberg."
    )
    return Told(form, (*inside.notes, class_note, source, tail, *notes), tuple(cautions))


def measures_of(cohort: Cohort) -> tuple[Tensor, tuple[str, ...], str]:
    """Return measures of the cohort's images ``(N, V)``, standardised, with their names and where they come from.

    Those it came with, else those measured in the images; unknown values count as the mean, constants are left out.
    """
    if cohort.features is not None:
        values, names, source = cohort.features.double(), cohort.feature_names, "Measures: those given with the cohort."
    else:
        values, names = table(cohort.x, cohort.masks)
        where = "in the given regions" if cohort.masks is not None else "in the whole images"
        source = f"Measures: none were given with the cohort; they were taken from its images, {where}."
    mean = values.nanmean(0)
    filled = torch.where(values.isnan(), mean, values) - mean
    spread = filled.std(0, correction=0)
    kept = (spread > 1e-9 * values.abs().nan_to_num().amax(0).clamp(min=1e-300)).nonzero()[:, 0]
    if len(kept) == 0:
        raise TargetError("every measure is the same in all images of the cohort; give measures that differ")
    return (filled / spread.clamp(min=1e-300))[:, kept], tuple(names[k] for k in kept.tolist()), source


ALPHAS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Penalties of the ridge regression, as shares of the mean eigenvalue of the features' covariance."""


def _regressed(features: Tensor, y: Tensor, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Fit every measure ``(N, V)`` by ridge regression; return R² on images left out, its p, coefficients ``(V, D)``.

    The images are left out one at a time, in closed form; the penalty is the best one, for permuted measures too.
    """
    a = features - features.mean(0)
    gram, n = a @ a.T, len(a)
    unit = gram.trace() / n
    solved = [torch.linalg.inv(gram + alpha * unit * torch.eye(n, dtype=a.dtype)) for alpha in ALPHAS]
    hats = [gram @ one + 1 / n for one in solved]

    def r2_of(y: Tensor) -> Tensor:
        total = ((y - y.mean(0)) * n / (n - 1)).square().sum(0)
        left = [((y - hat @ y) / (1 - hat.diag())[:, None]).square().sum(0) for hat in hats]
        return 1 - torch.stack(left) / total

    every = r2_of(y)
    best = every.argmax(0)
    r2 = every.amax(0)
    beyond = torch.ones_like(r2)
    for _ in range(samples):
        beyond += r2_of(y[torch.randperm(n, generator=generator)]).amax(0) >= r2
    ways = torch.stack([a.T @ (solved[best[k]] @ (y[:, k] - y[:, k].mean())) for k in range(y.shape[1])])
    return r2, beyond / (samples + 1), ways


def _relevance(r2: Tensor, rises: Tensor) -> Tensor:
    """Return R² times mean over deviation; a deviation below a hundredth of the mean counts as that much."""
    mean, deviation = rises.mean(0), rises.std(0)
    found: Tensor = r2.clamp(min=0) * mean / torch.maximum(deviation, 0.01 * mean.abs()).clamp(min=1e-300)
    return found


@insight("post_hoc_cbm", sizes=True)
def post_hoc_cbm(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    direction: str = "logistic",
    penalty: float = 0.01,
    samples: int = 20,
    runs: int = 50,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    concepts: Mapping[str, Concept],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Replace the model's last step by a sparse linear one on concepts, and see how far it answers alike (2205.15480).

    Every concept has a direction in the embedding; an image's concept score is its place along it, standardised over
    the cohort. A linear model with an elastic net gives the model's own score from them. Random directions, as many,
    are fitted the same way: where they do as well, the concepts mean nothing.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        direction: logistic or pattern (difference of means).
        penalty: Weight of the elastic net, for scores of deviation 1; larger numbers leave fewer concepts.
        samples: Sets of random directions.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to fit the linear step on.
        concepts: Examples of every concept.
        generator: Draws.
        progress: Told what is done.

    Returns:
        What each concept adds to this image's score: weight times the image's concept score. Setting a concept to its
        usual size takes just that away, which is the intervention.
    """
    at_least(1, samples=samples)
    at_least(2, runs=runs)
    if not penalty >= 0:
        raise TargetError(f"penalty = {penalty}: it must be at least 0")
    enough(cohort, 20, "post_hoc_cbm")
    codes = embedded(model, cohort.x, profile, batch_size=batch_size, progress=progress).double()
    own = embedded(model, x, profile, batch_size=batch_size)[0].double()
    scores, answered, _ = asked(model, x, score, profile, batch_size).look(cohort.x)
    y = scores.double()
    names = tuple(concepts)
    bank = {name: embedded(model, one.x, profile, batch_size=batch_size).double() for name, one in concepts.items()}
    ways = torch.stack([_way(one, codes, direction, generator) for one in bank.values()])
    patches = _examples(concepts, [one @ ways[k] for k, one in enumerate(bank.values())])
    kinds = answered if profile.task == "classification" else None
    form, notes, cautions = bottlenecked(names, ways, codes, own, y, kinds, penalty, samples, runs, generator)
    return Told(replace(form, patches=patches), (embedding_note(profile), *notes), (SAME_SOURCE, *cautions))


def bottlenecked(
    names: tuple[str, ...],
    ways: Tensor,
    codes: Tensor,
    own: Tensor,
    y: Tensor,
    answered: Tensor | None,
    penalty: float,
    samples: int,
    runs: int,
    generator: torch.Generator,
) -> tuple[Concepts, list[str], list[str]]:
    """Give the model's score by a sparse linear step on concepts, and see how far that goes.

    Args:
        names: of the K concepts.
        ways: ``(K, D)``, of each its direction in the embedding.
        codes: embeddings of the cohort, ``(N, D)``.
        own: of the image, ``(D,)``.
        y: scores of the cohort, ``(N,)``.
        answered: bool ``(N,)``, which the model answers as explained; None where it decides nothing.
        penalty: weight of the elastic net.
        samples: sets of random directions.
        runs: bootstrap samples.
        generator: draws.

    Returns:
        What each concept adds to the image's score, notes and cautions.
    """
    fit = _bottleneck(codes, y, ways, own, penalty)
    folds = torch.randperm(len(codes), generator=generator) % 5
    held = _held_out(codes, y, ways, penalty, folds)
    random = torch.stack(
        [
            _held_out(
                codes,
                y,
                F.normalize(torch.randn(ways.shape, generator=generator, dtype=ways.dtype), dim=1),
                penalty,
                folds,
            )
            for _ in range(samples)
        ]
    )
    draws = []
    for _ in range(runs):
        rows = torch.randint(len(codes), (len(codes),), generator=generator)
        draws.append(_bottleneck(codes[rows], y[rows], ways, own, penalty).contributions)
    low, high = interval(torch.stack(draws))
    explained = _r2(y, held)
    beaten = [_r2(y, one) for one in random]
    measures = {
        "concept_completeness": max(0.0, explained),
        "the same with random directions, mean": float(np.mean([max(0.0, one) for one in beaten])),
    }
    notes = [
        "The linear step was fitted to the model's own score; concept_completeness is the share of its variance that "
        "the concepts explain on images left out (5 folds).",
    ]
    if answered is not None:
        same = _same_answer(y, held, answered)
        measures["same answer as the model on images left out"] = same
    notes += [
        f"{name}: this image has {fit.own[k]:+.2f} standard deviations of it; each adds {fit.weights[k]:+.3g} to the "
        "score."
        for k, name in enumerate(names)
    ]
    cautions: list[str] = []
    rank = sum(one >= explained for one in beaten)
    if rank >= max(1, samples // 20):
        cautions.append(
            f"{rank} of {samples} sets of random directions explain the score as well: that it can be had from these "
            "concepts does not show that the model uses them."
        )
    if explained < 0.5:
        cautions.append(
            f"The concepts explain {max(0.0, explained):.0%} of the score: most of it lies outside of them."
        )
    told = fit.contributions
    form = Concepts(
        names=names,
        scores=told,
        what="added to this image's score, against an image with a usual amount of the concept",
        low=torch.minimum(low, told),
        high=torch.maximum(high, told),
        neutral=0.0,
        measures=measures,
    )
    return form, notes, cautions


def _way(positive: Tensor, pool: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    if kind not in ("logistic", "pattern"):
        raise TargetError(f"direction={kind!r} was given; logistic or pattern is allowed")
    counter = others(pool, positive)
    return direction(positive, counter[torch.randperm(len(counter), generator=generator)[:COUNTER]], kind)


class _Bottleneck:
    """A linear step on standardised concept scores: weights and contributions ``(K,)`` for one image."""

    def __init__(self, weights: Tensor, own: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        self.weights, self.own, self.predict = weights, own, predict
        self.contributions = weights * own


def _bottleneck(codes: Tensor, y: Tensor, ways: Tensor, own: Tensor, penalty: float) -> _Bottleneck:
    c = codes @ ways.T
    mean, spread = c.mean(0), c.std(0, correction=0).clamp(min=1e-12)
    middle, scale = y.mean(), y.std(correction=0).clamp(min=1e-12)
    net = ElasticNet(alpha=max(penalty, 1e-6), l1_ratio=0.99, max_iter=5000)
    net.fit(((c - mean) / spread).numpy(), ((y - middle) / scale).numpy())
    weights = torch.from_numpy(net.coef_) * scale
    shift = middle + float(net.intercept_) * scale

    def predict(codes: Tensor) -> Tensor:
        return (codes @ ways.T - mean) / spread @ weights + shift

    return _Bottleneck(weights, (own @ ways.T - mean) / spread, predict)


def _held_out(codes: Tensor, y: Tensor, ways: Tensor, penalty: float, folds: Tensor) -> Tensor:
    """Return predictions of every image by a step that was fitted without its fold."""
    found = torch.empty_like(y)
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        found[out] = _bottleneck(codes[~out], y[~out], ways, codes[0], penalty).predict(codes[out])
    return found


def _r2(y: Tensor, predicted: Tensor) -> float:
    return float(1 - (y - predicted).square().sum() / (y - y.mean()).square().sum().clamp(min=1e-300))


def _same_answer(y: Tensor, predicted: Tensor, answered: Tensor) -> float:
    """Return how often a threshold on predicted scores gives the model's own answer; it is set on the scores."""
    if answered.all() or not answered.any():
        return 1.0
    candidates = y.sort().values
    rates = [((y > t) == answered).double().mean() for t in candidates]
    best = candidates[int(torch.stack(rates).argmax())]
    return float(((predicted > best) == answered).double().mean())


@insight("cme", sizes=True)
def cme(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layers: int = 4,
    runs: int = 50,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    concepts: Mapping[str, Concept],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Read each concept from the layer that tells it best, and the answer from the concepts (arXiv 2010.13233).

    An image has or lacks each concept: a logistic regression on the pooled features of a layer says so, learned from
    the concept's examples against the cohort. A second one gives the model's answer, or a linear one its score, from
    the concepts found in the cohort's images.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layers: Layers to choose from, spread over the depth.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to fit the readable model on.
        concepts: Examples of every concept.
        generator: Draws.
        progress: Told what is done.

    Returns:
        What having or lacking each concept adds for this image, in log-odds of the answer, or in units of the score.
    """
    at_least(1, layers=layers)
    at_least(2, runs=runs)
    enough(cohort, 20, "cme")
    question = asked(model, x, score, profile, batch_size)
    scores, answered, _ = question.look(cohort.x)
    places = _spread_out(profile.places, layers)
    names, best = tuple(concepts), {name: (-1.0, "") for name in concepts}
    has, own = torch.zeros(len(cohort), len(names)), torch.zeros(len(names))
    for number, place in enumerate(places):
        here = cut_at(question, place)
        pool = here.features(cohort.x).flatten(2).mean(2).double()
        image = here.features(x).flatten(2).mean(2).double()
        for k, (name, one) in enumerate(concepts.items()):
            examples = here.features(one.x).flatten(2).mean(2).double()
            accuracy, reads = _reader(examples, others(pool, examples), generator)
            if accuracy > best[name][0]:
                best[name] = (accuracy, place.text())
                has[:, k], own[k] = reads(pool), reads(image)[0]
        progress(number + 1, len(places))
    weak = [name for name, (accuracy, _) in best.items() if accuracy < _readable_from(concepts[name], cohort)]
    has[:, [names.index(name) for name in weak]] = 0.0  # noise may go with the answer
    own[[names.index(name) for name in weak]] = 0.0
    classes = profile.task == "classification" and bool(answered.any()) and not bool(answered.all())
    y = answered.double() if classes else scores.double()
    folds = torch.randperm(len(cohort), generator=generator) % 5
    held = torch.empty(len(y), dtype=torch.float64)
    for fold in range(5):
        out = folds == fold
        held[out] = _readable(has[~out].double(), y[~out], classes)[2](has[out].double())
    usual = has.double().mean(0)
    weights = _readable(has.double(), y, classes)[0]
    draws = []
    for _ in range(runs):
        rows = torch.randint(len(y), (len(y),), generator=generator)
        draws.append(_readable(has[rows].double(), y[rows], classes)[0] * (own - usual))
    low, high = interval(torch.stack(draws))
    told = weights * (own - usual)
    mean_accuracy = float(np.mean([one[0] for one in best.values()]))
    measures = {"concept_accuracy": mean_accuracy}
    if classes:
        fidelity, floor = float(((held > 0) == answered).double().mean()), float(max(y.mean(), 1 - y.mean()))
        measures["same answer as the model on images left out"] = fidelity
        measures["concept_completeness"] = max(0.0, (fidelity - floor) / (1 - floor))
        scale = "concept_completeness: how far it gets from always giving the commonest answer (0) to the model's (1)."
    else:
        measures["concept_completeness"] = max(0.0, _r2(y, held))
        scale = "concept_completeness: share of the score's variance explained on images left out."
    notes = (
        *(
            f"{name}: read from {where}, balanced accuracy {value:.2f} on held-out examples; "
            + (
                "that is no more than chance, so it is left out."
                if name in weak
                else f"this image {'has' if own[k] else 'lacks'} it, as do {usual[k]:.0%} of the cohort's."
            )
            for k, (name, (value, where)) in enumerate(best.items())
        ),
        scale,
    )
    cautions = [SAME_SOURCE, "The readable model stands for the network only as far as they answer alike."]
    if weak:
        cautions.append(f"No layer tells {', '.join(weak)} from other images: whether it counts cannot be said.")
    if measures["concept_completeness"] < 0.5:
        cautions.append(
            "The concepts do not suffice for the model's answers: most of what it does lies outside of them."
        )
    form = Concepts(
        names=names,
        scores=told,
        what="added by having or lacking the concept, in "
        + ("log-odds of this answer" if classes else "units of the score"),
        low=torch.minimum(low, told),
        high=torch.maximum(high, told),
        neutral=0.0,
        measures=measures,
    )
    return Told(form, notes, tuple(cautions))


def _readable_from(one: Concept, cohort: Cohort) -> float:
    """Return the balanced accuracy that chance hardly exceeds, two standard errors above a half."""
    return 0.5 + math.sqrt(1 / len(one.x) + 1 / len(cohort))


def _spread_out(places: Sequence[Place], count: int) -> list[Place]:
    """Return places spread evenly over the depth, the deepest one among them."""
    wanted = np.linspace(len(places) - 1, 0, min(count, len(places))).round().astype(int)
    return [places[i] for i in wanted]


def _reader(examples: Tensor, pool: Tensor, generator: torch.Generator) -> tuple[float, Callable[[Tensor], Tensor]]:
    """Learn to tell a concept; return the balanced accuracy on held-out thirds and a function to 0 or 1."""
    rates = []
    for _ in range(5):
        (positive, own), (negative, other) = [
            (group[order[len(order) // 3 :]], group[order[: max(1, len(order) // 3)]])
            for group in (examples, pool)
            for order in [torch.randperm(len(group), generator=generator)]
        ]
        fit = _told_apart(positive, negative)
        rates.append(((fit(own) == 1).double().mean() + (fit(other) == 0).double().mean()) / 2)
    return float(torch.stack(rates).mean()), _told_apart(examples, pool)


def _told_apart(positive: Tensor, negative: Tensor) -> Callable[[Tensor], Tensor]:
    x = torch.cat([positive, negative])
    middle, spread = x.mean(0), x.std(0, correction=0).square().mean().sqrt().clamp(min=1e-12)
    fit = LogisticRegression(class_weight="balanced", max_iter=500)
    fit.fit(((x - middle) / spread).numpy(), [1] * len(positive) + [0] * len(negative))
    return lambda one: torch.from_numpy(fit.predict(((one - middle) / spread).numpy())).float()


def _readable(has: Tensor, y: Tensor, classes: bool) -> tuple[Tensor, float, Callable[[Tensor], Tensor]]:
    """Fit the answer (log-odds) or the score from the concepts: weights, intercept, function."""
    if classes and 0 < float(y.mean()) < 1:
        fit = LogisticRegression(max_iter=500).fit(has.numpy(), y.numpy().astype(int))
        weights, shift = torch.from_numpy(fit.coef_[0]), float(fit.intercept_[0])
    elif classes:
        weights, shift = torch.zeros(has.shape[1], dtype=has.dtype), 1.0 if float(y.mean()) == 1 else -1.0
    else:
        a = torch.cat([has, torch.ones(len(has), 1, dtype=has.dtype)], 1)
        solved = torch.linalg.solve(a.T @ a + 1e-3 * torch.eye(a.shape[1], dtype=a.dtype), a.T @ y)
        weights, shift = solved[:-1], float(solved[-1])
    return weights, shift, lambda one: one @ weights + shift


def _probed(
    inside: Inside, x: Tensor, concepts: Mapping[str, Concept], method: str
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Return features, which concept each probe image has, this image's features, and the masks, all on one grid.

    Returns:
        ``(N, D, P)`` features of all concepts' images, ``(N,)`` number of the concept, ``(D, *grid)`` of the image, and
        the masks ``(n, P)`` by concept; the grid is that of the features, at least 28 a side in 2D and 16 in 3D.
    """
    if lacking := [name for name, one in concepts.items() if one.masks is None]:
        raise TargetError(f"{method} needs to know where the concept is: give masks of {', '.join(lacking)}")
    dims = x.ndim - 2
    grid = tuple(min(n, max(g, 28 if dims == 2 else 16)) for n, g in zip(x.shape[2:], inside.place.grid, strict=True))
    features, which, masks = [], [], {}
    for k, (name, one) in enumerate(concepts.items()):
        assert one.masks is not None
        features.append(shrunk(inside.features(one.x), grid).flatten(2))
        which += [k] * len(one.x)
        pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if dims == 2 else F.adaptive_avg_pool3d
        masks[name] = (pool(in_one_size(one.masks)[:, None].float().cpu(), grid)[:, 0] >= 0.5).flatten(1)
        if not masks[name].any():
            raise TargetError(f"the masks of the concept {name!r} mark nothing as large as a cell of the layer's grid")
    return torch.cat(features), torch.tensor(which), shrunk(inside.features(x), grid)[0], masks


def _iou(marked: Tensor, mask: Tensor) -> Tensor:
    """Return the overlap of units' marks ``(n, D, P)`` with masks ``(n, P)`` over all images, ``(D,)``."""
    both = torch.einsum("ndp,np->d", marked.float(), mask.float())
    return both / (marked.flatten(2).sum((0, 2)) + mask.sum() - both).clamp(min=1)


def _threshold(a: Tensor, share: float) -> Tensor:
    """Return of every unit the activation ``(D,)`` that a share of all positions ``(n, D, P)`` is above."""
    flat = a.transpose(0, 1).flatten(1).sort(1, descending=True).values
    return flat[:, min(flat.shape[1] - 1, max(0, round(share * flat.shape[1])))]


@insight("network_dissection")
def network_dissection(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    share: float = 0.0,
    samples: int = 200,
    runs: int = 200,
    batch_size: int = 16,
    profile: Wired,
    concepts: Mapping[str, Concept],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Find for every concept the unit whose strong activations overlap it most (arXiv 1704.05796).

    A unit marks where it is above a threshold that a share of all positions passes. The overlap is the intersection
    over the union with the concept's masks, over all its images. The unit is chosen on half of the images, its overlap
    told on the other half, and the other way round; p is from masks that were exchanged between images.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest features.
        share: Of all positions that a unit marks (0.005 in the paper); 0 for as much as the concept covers.
        samples: Exchanges of masks for the p-values.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        concepts: Examples of every concept, with masks.
        generator: Draws.
        progress: Told what is done.

    Returns:
        Overlap of the best unit with each concept; the maps show that unit in the image.
    """
    at_least(1, samples=samples)
    at_least(2, runs=runs)
    if not 0 <= share < 1:
        raise TargetError(f"share = {share}: it must be at least 0 and below 1")
    inside = cut(model, x, score, profile, batch_size, layer)
    features, which, image, masks = _probed(inside, x, concepts, "network_dissection")
    names, rows = tuple(concepts), []
    for k, name in enumerate(names):
        mask = masks[name]
        t = _threshold(features, share or float(mask.float().mean()))
        marked = features[which == k] > t[None, :, None]
        unit, held, parts = _chosen_unit(marked, mask, generator)
        draws = torch.stack(
            [_ratio(parts[torch.randint(len(parts), (len(parts),), generator=generator)]) for _ in range(runs)]
        )
        low, high = interval(draws[:, None])
        best = float(_iou(marked, mask).max())
        null = [float(_iou(marked, mask[torch.randperm(len(mask), generator=generator)]).max()) for _ in range(samples)]
        p = (1 + sum(one >= best for one in null)) / (samples + 1)
        rows.append((unit, held, float(low[0]), float(high[0]), p, float(np.mean(null))))
        progress(k + 1, len(names))
    p_values = torch.as_tensor(false_discovery_control([row[4] for row in rows]))
    scores = torch.tensor([row[1] for row in rows])
    few = [name for name in names if len(masks[name]) < 10]
    form = Concepts(
        names=names,
        scores=scores,
        what="overlap (intersection over union) of the best unit with the concept, on images it was not chosen on",
        low=torch.minimum(torch.tensor([row[2] for row in rows]), scores),
        high=torch.maximum(torch.tensor([row[3] for row in rows]), scores),
        p_values=p_values,
        patches=_examples(concepts, [masks[name].sum(1).float() for name in names]),
        maps=inside.up(torch.stack([image[row[0]] for row in rows]), x.shape[2:]),
    )
    notes = [
        *inside.notes,
        *(
            f"{name}: unit {row[0]} overlaps it most; exchanged masks give {row[5]:.2f} at best on average."
            for name, row in zip(names, rows, strict=True)
        ),
        f"p: of {samples} exchanges of the masks between images, those with a unit as good, corrected by Benjamini and "
        "Hochberg.",
    ]
    cautions = [
        "That a unit marks a concept does not say that the answer hangs on it.",
        "Most concepts need several units; a low overlap does not say that the layer lacks the concept.",
        *([f"Fewer than 10 images show {', '.join(few)}: the overlap is uncertain."] if few else []),
    ]
    return Told(form, tuple(notes), tuple(cautions))


def _chosen_unit(marked: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[int, float, Tensor]:
    """Return the best unit of all images, its overlap on images it was not chosen on, and their parts ``(n, 2)``."""
    whole = int(_iou(marked, mask).argmax())
    if len(mask) < 2:
        return whole, float(_iou(marked, mask)[whole]), _parts(marked[:, whole], mask)
    order = torch.randperm(len(mask), generator=generator)
    halves, parts = (order[::2], order[1::2]), []
    for here, there in (halves, halves[::-1]):
        unit = int(_iou(marked[here], mask[here]).argmax())
        parts.append(_parts(marked[there, unit], mask[there]))
    joined = torch.cat(parts)
    return whole, float(_ratio(joined)), joined


def _parts(marked: Tensor, mask: Tensor) -> Tensor:
    return torch.stack([(marked & mask).sum(1), (marked | mask).sum(1)], 1).double()


def _ratio(parts: Tensor) -> Tensor:
    both, either = parts.sum(0)
    found: Tensor = both / either.clamp(min=1)
    return found


@insight("net2vec")
def net2vec(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    samples: int = 200,
    runs: int = 200,
    positions: int = 4000,
    batch_size: int = 16,
    profile: Wired,
    concepts: Mapping[str, Concept],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Find for every concept the combination of units that marks it, and compare it with the best unit (1801.03454).

    A logistic regression gives from all units of a position whether the concept is there. It is fitted on half of the
    images and told on the other half, and the other way round; p is from the other half's masks, exchanged between
    images.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest features.
        samples: Exchanges of masks for the p-values.
        runs: Bootstrap samples for the confidence interval.
        positions: Most positions that a regression is fitted on.
        batch_size: Images per model call.
        profile: What is known of the model.
        concepts: Examples of every concept, with masks.
        generator: Draws.
        progress: Told what is done.

    Returns:
        Overlap of the combination with each concept; the maps show its probability in the image.
    """
    at_least(1, samples=samples)
    at_least(2, runs=runs)
    at_least(20, positions=positions)
    inside = cut(model, x, score, profile, batch_size, layer)
    features, which, image, masks = _probed(inside, x, concepts, "net2vec")
    spread = features.std((0, 2), correction=0).clamp(min=1e-9)
    middle = features.mean((0, 2))
    features = (features - middle[None, :, None]) / spread[None, :, None]
    image = (image - middle.view(-1, *[1] * (image.ndim - 1))) / spread.view(-1, *[1] * (image.ndim - 1))
    names, rows, maps = tuple(concepts), [], []
    for k, name in enumerate(names):
        a, mask = features[which == k], masks[name]
        if len(a) < 2:
            raise TargetError(f"net2vec needs at least 2 images of the concept {name!r}")
        order = torch.randperm(len(a), generator=generator)
        halves = (order[::2], order[1::2])

        pieces = []
        for here, there in (halves, halves[::-1]):
            w, _ = _combined(a[here], mask[here], positions, generator)
            pieces.append((_as_large(a[there], w, mask[here]), mask[there]))
        parts = torch.cat([_parts(*piece) for piece in pieces])
        held = float(_ratio(parts))
        draws = torch.stack(
            [_ratio(parts[torch.randint(len(parts), (len(parts),), generator=generator)]) for _ in range(runs)]
        )
        low, high = interval(draws[:, None])
        null = [
            float(_ratio(torch.cat([_parts(m, at[torch.randperm(len(at), generator=generator)]) for m, at in pieces])))
            for _ in range(samples)
        ]
        t = _threshold(features, float(mask.float().mean()))
        single = _chosen_unit(a > t[None, :, None], mask, generator)[1]
        w, b = _combined(a, mask, positions, generator)
        maps.append(torch.sigmoid(torch.tensordot(w.float(), image, 1) + b))
        rows.append(
            (held, float(low[0]), float(high[0]), (1 + sum(o >= held for o in null)) / (samples + 1), single, w)
        )
        progress(k + 1, len(names))
    scores = torch.tensor([row[0] for row in rows])
    notes = [
        *inside.notes,
        *(
            f"{name}: the best single unit overlaps it by {row[4]:.2f}, the combination by {row[0]:.2f}; "
            f"{int((row[5].abs() > 0.5 * row[5].abs().max()).sum())} units carry most of it."
            for name, row in zip(names, rows, strict=True)
        ),
        f"p: of {samples} exchanges of the masks between images, those that the combination fits as well, corrected by "
        "Benjamini and Hochberg.",
    ]
    form = Concepts(
        names=names,
        scores=scores,
        what="overlap (intersection over union) of combined units with the concept, on images they were not fitted on",
        low=torch.minimum(torch.tensor([row[1] for row in rows]), scores),
        high=torch.maximum(torch.tensor([row[2] for row in rows]), scores),
        p_values=torch.as_tensor(false_discovery_control([row[3] for row in rows])),
        patches=_examples(concepts, [masks[name].sum(1).float() for name in names]),
        maps=inside.up(torch.stack(maps), x.shape[2:]),
        measures={"gain over the best single unit, mean": float(np.mean([row[0] - row[4] for row in rows]))},
    )
    cautions = (
        "That units together mark a concept does not say that the answer hangs on it.",
        "A combination can learn what goes with the concept, such as its place in the image.",
    )
    return Told(form, tuple(notes), cautions)


def _combined(a: Tensor, mask: Tensor, positions: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Return weights ``(D,)`` and intercept of the balanced logistic regression of masks ``(n, P)``."""
    x, y = a.transpose(1, 2).flatten(0, 1), mask.flatten()
    yes, no = y.nonzero()[:, 0], (~y).nonzero()[:, 0]
    if len(yes) == 0 or len(no) == 0:
        return torch.zeros(a.shape[1], dtype=torch.float64), 0.0
    half = positions // 2
    rows = torch.cat([one[torch.randperm(len(one), generator=generator)[:half]] for one in (yes, no)])
    fit = LogisticRegression(class_weight="balanced", C=0.1, max_iter=200)
    fit.fit(x[rows].double().numpy(), y[rows].numpy())
    return torch.from_numpy(fit.coef_[0]), float(fit.intercept_[0])


def _as_large(a: Tensor, w: Tensor, seen: Tensor) -> Tensor:
    """Mark as large a share of the positions ``(n, P)`` as the masks that were seen cover, the surest ones."""
    values = torch.einsum("ndp,d->np", a.double(), w)
    count = max(1, round(float(seen.float().mean()) * values.numel()))
    return values >= values.flatten().topk(count).values[-1]
