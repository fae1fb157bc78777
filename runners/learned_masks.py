"""Masks that are learned for one image by gradient descent: what must go, what must stay, what may be noise.

The terms of a loss have weights, so the score must be of ordinary size whatever the model computes (a logit, a sum of
logits over a region, an age in years). It is put on the scale from its value without content to its value on the image,
and through a sigmoid that gives 2% to the one and 98% to the other (:data:`SURE`): like the probability of a class that
the model is sure of, it cannot be pushed far beyond either end.

Every image has its own mask and its own scale; Adam works number by number, so nothing is shared in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least, which
from runners.baselines import baseline as make_baseline
from runners.baselines import mixed, smoothed
from runners.gradients import Draws
from runners.joint import prompted
from runners.models import Place, Wired, find_place, run, watched
from runners.registry import Found, Progress, Score, explainer
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap

SURE = 4.0
"""Logit of the image's score on its own scale; that of the score without content is its negative."""
EPSILON = 0.03
"""Adam's, as a share of the largest gradient of an image in the first step: smaller ones move a mask less, so that what
is next to nothing, or only a rounding error, does not move it as far as all else."""
FEW_REFERENCES = 100
"""From so many reference images on, every position of the features has statistics of its own."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Masks of some rows, these rows, number of the draw for each, to losses ``(n,)``."""


class _Scale:
    """The scale on which a score runs from -SURE (no content) to SURE (the image)."""

    def __init__(self, score: Score, whole: Tensor, empty: Tensor, baseline: bool = False) -> None:
        self.score, self.middle = score, (whole + empty) / 2
        span = (whole - empty).abs()
        self.unit = torch.where(span > 0, span, 1.0) / (2 * SURE)
        self.cautions = tuple(
            f"{which(i, len(whole))}the score without content is not below that of the image, so the map means little"
            + ("; try another baseline." if baseline else ".")
            for i in range(len(whole))
            if not whole[i] > empty[i]
        )

    def logit(self, outputs: object, rows: Tensor) -> Tensor:
        """The score of every row on the scale of its image."""
        at = rows.to(self.middle.device)
        found: Tensor = (self.score(outputs, rows) - self.middle[at]) / self.unit[at]
        return found

    def share(self, outputs: object, rows: Tensor) -> Tensor:
        """The score as a probability."""
        return self.logit(outputs, rows).sigmoid()

    def lost(self, outputs: object, rows: Tensor) -> Tensor:
        """The cross-entropy of the score as a probability: 0 where it is kept, 1 where all is lost."""
        return F.softplus(-self.logit(outputs, rows)) / SURE


def _scaled(model: nn.Module, x: Tensor, base: Tensor, score: Score) -> _Scale:
    rows = torch.arange(len(x))
    with torch.no_grad():
        return _Scale(score, score(run(model, x.clone()), rows), score(run(model, base.clone()), rows), baseline=True)


def _descend(
    mask: Tensor,
    steps: int,
    samples: int,
    rate: float,
    data: Loss,
    penalty: Callable[[Tensor, int], Tensor],
    batch_size: int,
    progress: Progress,
    bounded: bool = True,
    epsilon: float = EPSILON,
) -> Tensor:
    """Return the masks ``(B, ...)`` after descent on ``mean of data over samples + penalty``, one loss per image.

    Args:
        mask: where to begin.
        steps: steps of Adam.
        samples: draws of the data term in a step.
        rate: Adam's learning rate.
        data: the term that runs the model.
        penalty: masks and step to a loss per image.
        batch_size: rows at a time.
        progress: told after every chunk.
        bounded: keep the masks between 0 and 1.
        epsilon: see :data:`EPSILON`.
    """
    learned = mask.detach().clone().requires_grad_()
    adam = torch.optim.Adam([learned], lr=rate, eps=epsilon)
    images, unit = len(mask), torch.ones(())
    with torch.enable_grad():
        for step in range(steps):
            (total,) = torch.autograd.grad(penalty(learned, step).sum(), learned, materialize_grads=True)
            for jobs in torch.split(torch.arange(images * samples), batch_size):
                rows = jobs % images
                losses = data(learned[rows.to(mask.device)], rows, step * samples + jobs // images)
                (grad,) = torch.autograd.grad(losses.sum() / samples, learned)
                total = total + grad
                progress(step * images * samples + int(jobs[-1]) + 1, steps * images * samples)
            if step == 0:
                largest = total.flatten(1).abs().amax(1).view(-1, *[1] * (mask.ndim - 1))
                unit = torch.where(largest > 0, largest, 1.0)
            learned.grad = total / unit
            adam.step()
            if bounded:
                with torch.no_grad():
                    learned.clamp_(0, 1)
    return learned.detach()


def _grid(x: Tensor, cells: int | None, flat: int, deep: int) -> list[int]:
    return [min(cells or (flat if x.ndim == 4 else deep), length) for length in x.shape[2:]]


def _enlarged(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge masks ``(n, *grid)`` linearly to ``(n, *size)``."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(masks[:, None], size=tuple(size), mode=mode, align_corners=False)[:, 0]


@explainer("meaningful_perturbation")
def meaningful_perturbation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 150,
    cells: int | None = None,
    area: float = 0.2,
    smoothness: float = 2.0,
    rate: float = 0.1,
    baseline: str = "blur",
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """The smallest smooth mask that makes the score fall when what it covers is blurred (arXiv 1704.03296).

    The loss is the score as a probability, plus ``area`` times the share of the image that is hidden, plus
    ``smoothness`` times the mean cubed difference of neighbouring cells. The mask is coarse, enlarged and blurred
    before use, which keeps it from drawing patterns that fool the model. The paper begins with the smallest circle that
    works and shifts the image by some pixels; here the mask begins everywhere alike and the image stays in place.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        steps: steps of Adam.
        cells: cells of the mask per axis; by default 28 in 2D and 12 in 3D.
        area: price of hiding the whole image, against 1 for the whole score.
        smoothness: price of a rough mask.
        rate: learning rate.
        baseline: what is seen where the mask hides: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        generator: for the noise baseline.
        progress: told after every chunk.

    Returns:
        Unsigned map ``(B, *spatial)``: how far each pixel is hidden, 0 to 1.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, steps=steps, batch_size=batch_size, **({} if cells is None else {"cells": cells}))
    at_least(0, area=area, smoothness=smoothness)
    counts, size = _grid(x, cells, 28, 12), x.shape[2:]
    base = make_baseline(x, baseline, generator)
    scale = _scaled(model, x, base, score)
    widths = [length / count / 1.6 for length, count in zip(size, counts, strict=True)]  # 5 of 224 pixels, as there

    def kept(masks: Tensor) -> Tensor:
        return smoothed(_enlarged(masks, size)[:, None], widths)[:, 0]

    def data(masks: Tensor, rows: Tensor, draws: Tensor) -> Tensor:  # noqa: ARG001
        return scale.share(run(model, mixed(x[rows], base[rows], kept(masks))), rows)

    def penalty(masks: Tensor, step: int) -> Tensor:  # noqa: ARG001
        rough = sum(masks.diff(dim=axis).abs().pow(3).flatten(1).sum(1) for axis in range(1, masks.ndim))
        return area * (1 - masks.flatten(1)).mean(1) + smoothness * rough / math.prod(counts)

    start = x.new_full((len(x), *counts), 0.5)
    found = _descend(start, steps, 1, rate, data, penalty, batch_size, progress)
    hidden = kept(1 - found)
    note = (
        f"A mask of {'×'.join(map(str, counts))} cells, {steps} steps, baseline {baseline}; hidden: "
        f"{', '.join(f'{share:.0%}' for share in hidden.flatten(1).mean(1).tolist())} of the image."
    )
    return Found(hidden.clamp(0, 1), (note,), scale.cautions, signed=False)


@explainer("extremal_perturbation")
def extremal_perturbation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    areas: str = "0.1",
    steps: int = 200,
    cells: int | None = None,
    rate: float = 0.05,
    baseline: str = "blur",
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """The smooth mask of a given area that keeps most of the score when all else is blurred (arXiv 1910.08485).

    The mask is a smooth maximum of bumps on a coarse grid. Its values, in order, are drawn to 1 and 0 in the share of
    the area, ever more strongly; what reaches beyond the border counts too, or corners would be cheap. The loss is the
    score's, as the cross-entropy of a probability. The paper's mask picks one of several blurs at every pixel and flips
    the image in every second step; here it mixes the image with one baseline.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        areas: shares of the image to keep, such as "0.05 0.1 0.2"; the masks of several areas are averaged.
        steps: steps of Adam for every area.
        cells: points of the grid per axis; by default 32 in 2D and 16 in 3D.
        rate: learning rate.
        baseline: what is seen outside the mask: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        generator: for the noise baseline, and for the order of equal values.
        progress: told after every chunk.

    Returns:
        Unsigned map ``(B, *spatial)``: how far each pixel is kept, 0 to 1.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, steps=steps, batch_size=batch_size, **({} if cells is None else {"cells": cells}))
    shares = _areas(areas)
    counts, size = _grid(x, cells, 32, 16), x.shape[2:]
    base = make_baseline(x, baseline, generator)
    scale = _scaled(model, x, base, score)
    bump = _bump(3.0 if x.ndim == 4 else 1.5, x)
    total, notes, cautions = torch.zeros_like(x[:, 0]), [], list(scale.cautions)

    around = math.prod(count + 2 * (len(bump) // 2) for count in counts)
    shuffle = torch.randperm(around, generator=generator).to(x.device)  # equal values go in no order of place
    inside = (slice(None), *[slice(len(bump) // 2, -(len(bump) // 2))] * bump.ndim)

    def kept(masks: Tensor) -> Tensor:
        return _enlarged(_spread(masks, bump)[inside], size)

    rows_all = torch.arange(len(x))
    for number, share in enumerate(shares):

        def data(masks: Tensor, rows: Tensor, draws: Tensor) -> Tensor:  # noqa: ARG001
            return scale.lost(run(model, mixed(x[rows], base[rows], kept(masks))), rows)

        def penalty(masks: Tensor, step: int, share: float = share) -> Tensor:
            spread = _spread(masks, bump).flatten(1)[:, shuffle]
            order = (spread.detach() * 1e3).round().argsort(dim=1, descending=True, stable=True)
            ordered = spread.gather(1, order)
            wanted = torch.arange(ordered.shape[1], device=x.device) < round(share * math.prod(counts))
            wrong = (ordered - wanted.to(ordered)).square().mean(1)
            return float(AREA_WEIGHT * AREA_GROWTH ** (step / steps)) * wrong

        def told(done: int, each: int, number: int = number) -> None:
            progress(number * each + done, len(shares) * each)

        start = x.new_full((len(x), *counts), 0.5)
        found = kept(_descend(start, steps, 1, rate, data, penalty, batch_size, told))
        total += found / len(shares)
        with torch.no_grad():
            parts = torch.split(rows_all, batch_size)
            left = torch.cat([scale.logit(run(model, mixed(x[rows], base[rows], found[rows])), rows) for rows in parts])
        rise = [(float(v) / SURE + 1) / 2 for v in left]
        reached = ", ".join(f"{part:.0%}" for part in rise)
        cautions += [
            f"{which(i, len(x))}the mask of {share:.0%} keeps only {part:.0%} of the score's rise; a larger area may "
            "be needed."
            for i, part in enumerate(rise)
            if part < LEAST_KEPT
        ]
        mean = ", ".join(f"{v:.1%}" for v in found.flatten(1).mean(1).tolist())
        notes.append(
            f"Area {share:g} (reached: {mean}): keeps {reached} of the score's rise from the baseline {baseline}."
        )
    return Found(total.clamp(0, 1), tuple(notes), tuple(cautions), signed=False)


AREA_WEIGHT = 0.3
"""Price of a wrong area at the first step of an extremal perturbation, against 1 for the whole score.

Low, so that at first the score decides what is worth keeping."""
AREA_GROWTH = 300.0
"""How many times larger it is at the last step."""
LEAST_KEPT = 0.5
"""Below this share of the score's rise an extremal perturbation gets a caution."""
COLDNESS = 20.0
"""How sharp the smooth maximum is."""


def _areas(areas: str) -> list[float]:
    try:
        shares = [float(word) for word in areas.replace(",", " ").split()]
    except ValueError:
        shares = []
    if not shares or not all(0 < share < 1 for share in shares):
        raise TargetError(f"areas = {areas!r}: shares between 0 and 1 are needed, such as '0.1' or '0.05 0.1 0.2'.")
    return shares


def _bump(width: float, x: Tensor) -> Tensor:
    """Return the heights of a bump on the grid, ``(k, ...)``; it is flat up to half its ``width``."""
    reach = 1 + math.ceil(width)
    axis = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    apart = sum(at.square() for at in torch.meshgrid(*[axis] * (x.ndim - 2), indexing="ij"))
    heights: Tensor = torch.exp(-2 * (torch.as_tensor(apart).sqrt() / width - 0.5).clamp(min=0) ** 2)
    return heights


def _spread(masks: Tensor, bump: Tensor) -> Tensor:
    """Return the smooth maximum of bumps as high as the values of masks ``(n, *grid)``, on the grid and around it."""
    side, dims = len(bump), bump.ndim
    values = F.pad(masks, (side - 1, side - 1) * dims)
    for axis in range(1, dims + 1):
        values = values.unfold(axis, side, 1)
    flat = (values * bump).flatten(-dims)
    return (flat * (COLDNESS * flat).softmax(-1)).sum(-1)


@explainer("pixel_rde")
def pixel_rde(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 150,
    samples: int = 4,
    sparsity: float = 0.5,
    rate: float = 0.05,
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """The fewest pixels that keep the score when all others are noise (arXiv 2110.08252).

    The loss is the mean squared change of the score, as a probability, plus ``sparsity`` times the mean of the mask.
    The noise has the mean and the spread of each channel of the image. The paper takes 2000 small steps with 64 draws
    of the noise; fewer and larger ones here.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        steps: steps of Adam.
        samples: draws of the noise in every step.
        sparsity: price of keeping the whole image, against 1 for the whole score.
        rate: learning rate.
        batch_size: model rows at a time.
        generator: draws the noise, the same for every image of the batch.
        progress: told after every chunk.

    Returns:
        Unsigned map ``(B, *spatial)``: how far each pixel is kept, 0 to 1.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, steps=steps, samples=samples, batch_size=batch_size)
    at_least(0, sparsity=sparsity)
    axes = tuple(range(2, x.ndim))
    level, spread = x.mean(axes, keepdim=True), x.std(axes, correction=0, keepdim=True)
    draws = Draws(x, generator)
    scale = _scaled(model, x, level + spread * draws(torch.zeros(1)), score)
    wanted = 1 / (1 + math.exp(-SURE))

    def data(masks: Tensor, rows: Tensor, numbers: Tensor) -> Tensor:
        noise = level[rows] + spread[rows] * draws(numbers + 1)
        found = scale.share(run(model, mixed(x[rows], noise, masks)), rows)
        return (found - wanted).square()

    def penalty(masks: Tensor, step: int) -> Tensor:  # noqa: ARG001
        return sparsity * masks.flatten(1).mean(1)

    start = torch.ones_like(x[:, 0])  # where many pixels matter a little each: their gradients are small, and count
    found = _descend(start, steps, samples, rate, data, penalty, batch_size, progress, epsilon=1e-3)
    note = (
        f"{steps} steps with {samples} draws of noise; kept: "
        f"{', '.join(f'{share:.1%}' for share in found.flatten(1).mean(1).tolist())} of the image."
    )
    caution = "Single pixels are kept, not shapes: the map is rough, and other seeds keep other pixels."
    return Found(found, (note,), (*scale.cautions, caution), signed=False)


@explainer("iba")
def iba(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    beta: float = 10.0,
    steps: int = 10,
    samples: int = 10,
    rate: float = 1.0,
    layer: str | None = None,
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
    reference: Tensor,
) -> Found:
    """How many bits of an inner layer the score needs at each place, the rest drowned in noise (arXiv 2001.00396).

    Each feature is mixed with noise of the mean and the spread that it has over the reference images. The mixture costs
    bits (its distance from pure noise) and the loss is the score's, as the cross-entropy of a probability, plus
    ``beta`` times the mean cost of a feature. Tokens that stand for no place, such as the class token, are set to their
    mean, or they would carry everything past the bottleneck.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        beta: price of information.
        steps: steps of Adam.
        samples: draws of the noise in every step.
        rate: learning rate.
        layer: module to take the features from; None lets the profile choose.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: draws the noise, the same for every image of the batch.
        progress: told after every chunk.
        reference: images like those the model was trained on, at least 2.

    Returns:
        Unsigned map ``(B, *spatial)`` in bits per pixel.

    Raises:
        RequirementError: there is only one reference image.
        TargetError: a parameter is out of range.
    """
    at_least(1, steps=steps, samples=samples, batch_size=batch_size)
    at_least(0, beta=beta)
    if len(reference) < 2:
        raise RequirementError("iba", [Gap("training_data", "at least 2 reference images are needed for a spread")])
    place, notes = find_place(profile, layer)
    with torch.no_grad():
        output, features = _features(model, x, place)
        known, seen = map(
            torch.cat,
            zip(*(_features(model, part, place) for part in torch.split(reference.to(x), batch_size)), strict=True),
        )
    axes = (0,) if len(reference) >= FEW_REFERENCES else (0, *range(2, seen.ndim))
    level = seen.mean(axes, keepdim=True)
    spread = seen.std(axes, keepdim=True).clamp(min=LEAST_SPREAD)
    active = ((seen != 0).to(seen).mean(axes, keepdim=True) > LEAST_ACTIVE).to(seen)
    lowest = 0.0 if bool((seen >= 0).all()) else -math.inf  # after a ReLU noise must not go below 0
    middle = known.mean(1 if place.layout == "tokens_first" else 0, keepdim=True)
    normal = (features - level) / spread
    draws = Draws(features, generator)

    def through(rows: Tensor, features: Tensor) -> object:
        """Run the model with its features at the place replaced."""
        raw = output[:, rows] if place.layout == "tokens_first" else output[rows]
        emptied = _without_prefix(raw, middle, place)
        with watched(model, place, lambda _: place.put(features, emptied)):
            return run(model, x[rows])

    rows_all = torch.arange(len(x))
    with torch.no_grad():
        plain = (level * active).expand_as(features).clone()  # models may change it in place
        scale = _Scale(score, score(run(model, x.clone()), rows_all), score(through(rows_all, plain), rows_all))

    def passed(masks: Tensor) -> Tensor:
        """Share of each feature that passes, smoothed over neighbouring positions."""
        return smoothed(torch.sigmoid(masks), [1.0] * (masks.ndim - 2)).clamp(max=1 - 1e-6)

    def bits(masks: Tensor, normal: Tensor) -> Tensor:
        share = passed(masks)
        variance = (1 - share) ** 2
        return ((share * normal) ** 2 + variance - variance.log() - 1) / (2 * math.log(2)) * active

    def data(masks: Tensor, rows: Tensor, numbers: Tensor) -> Tensor:
        share = passed(masks)
        noisy = share * normal[rows] + (1 - share) * draws(numbers)
        found = ((noisy * spread + level) * active).clamp(min=lowest)
        return SURE * scale.lost(through(rows, found), rows)  # in nats

    def penalty(masks: Tensor, step: int) -> Tensor:  # noqa: ARG001
        return beta * math.log(2) * bits(masks, normal).flatten(1).mean(1)

    start = torch.full_like(features, 5.0)
    found = _descend(start, steps, samples, rate, data, penalty, batch_size, progress, bounded=False)
    cost = bits(found, normal).sum(1)
    size = tuple(x.shape[2:])
    values = _enlarged(cost, size) * (math.prod(place.grid) / math.prod(size))
    told = ", ".join(f"{total:.0f}" for total in cost.flatten(1).sum(1).tolist())
    about = f"Statistics from {len(reference)} reference images; information passed: {told} bits."
    cautions = list(scale.cautions)
    if profile.task == "segmentation":
        cautions.append("What goes around this layer, such as skip connections, is not restricted and not counted.")
    if len(reference) < FEW_REFERENCES:
        cautions.append(
            f"{len(reference)} reference images: mean and spread are taken over all positions, bits are approximate."
        )
    return Found(values, (*notes, about), tuple(cautions), signed=False)


@explainer("m2ib")
def m2ib(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    beta: float = 0.1,
    steps: int = 10,
    samples: int = 10,
    rate: float = 1.0,
    layer: str | None = None,
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """What of an inner layer image and text both need, the rest drowned in noise (arXiv 2312.17174).

    Every value of the layer, tokens that stand for no place included, is mixed with standard normal noise. The mixture
    costs bits (its distance from pure noise); the loss is ``beta`` times their mean less the cosine of image and text.

    Args:
        model: an image tower read through texts.
        x: ``(B, C, *spatial)``.
        score: of one prompt.
        beta: price of information, in cosines per nat of a value.
        steps: steps of Adam.
        samples: draws of the noise in every step.
        rate: learning rate.
        layer: module to take the features from; None lets the profile choose.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: draws the noise, the same for every image of the batch.
        progress: told after every chunk.

    Returns:
        Unsigned map ``(B, *spatial)`` in bits per pixel.
    """
    at_least(1, steps=steps, samples=samples, batch_size=batch_size)
    at_least(0, beta=beta)
    place, notes = find_place(profile, layer)
    read = prompted(model)
    scale = 1.0 if read is None else float(read.scale)
    first = place.layout == "tokens_first"
    with torch.no_grad():
        output, _ = _features(model, x, place)
    raw = output.transpose(0, 1) if first else output
    draws = Draws(raw, generator)

    def cost(masks: Tensor) -> Tensor:
        """Nats that pass, of every value."""
        share = torch.sigmoid(masks).clamp(max=1 - 1e-6)
        variance = (1 - share) ** 2
        return ((share * raw) ** 2 + variance - variance.log() - 1) / 2

    def data(masks: Tensor, rows: Tensor, numbers: Tensor) -> Tensor:
        share = torch.sigmoid(masks)
        noisy = share * raw[rows] + (1 - share) * draws(numbers)
        with watched(model, place, lambda _: noisy.transpose(0, 1) if first else noisy):
            return -score(run(model, x[rows]), rows) / scale

    def penalty(masks: Tensor, step: int) -> Tensor:  # noqa: ARG001
        return beta * cost(masks).flatten(1).mean(1)

    start = torch.full_like(raw, 5.0)
    found = cost(_descend(start, steps, samples, rate, data, penalty, batch_size, progress, bounded=False)) / math.log(
        2
    )
    bits = place.fold(found.transpose(0, 1) if first else found).sum(1)
    size = tuple(x.shape[2:])
    values = _enlarged(bits, size) * (math.prod(place.grid) / math.prod(size))
    told = ", ".join(f"{total:.0f}" for total in bits.flatten(1).sum(1).tolist())
    note = f"Information passed at the places of the image: {told} bits."
    return Found(values, (*notes, note), signed=False)


LEAST_SPREAD = 0.01
"""Features that vary less count as if they varied so much."""
LEAST_ACTIVE = 0.01
"""Features that are 0 on all but this share of the reference carry no information."""


def _features(model: nn.Module, x: Tensor, place: Place) -> tuple[Tensor, Tensor]:
    """Return the output of a place and the features in it ``(B, C, *grid)``."""
    kept: list[Tensor] = []
    with watched(model, place, lambda output: kept.append(output.clone())):  # models may go on in place
        run(model, x.clone())
    return kept[-1], place.fold(kept[-1])


def _without_prefix(output: Tensor, middle: Tensor, place: Place) -> Tensor:
    """Set the tokens that stand for no place to their mean."""
    if not place.prefix:
        return output
    axis = 0 if place.layout == "tokens_first" else 1
    first = middle.narrow(axis, 0, place.prefix).expand_as(output.narrow(axis, 0, place.prefix))
    return torch.cat([first, output.narrow(axis, place.prefix, output.shape[axis] - place.prefix)], axis)
