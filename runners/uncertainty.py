"""Maps of doubt: how far several answers to the same image lie apart, place by place.

They show where the model is unsure of the explained label, not what speaks for it. Answers come from dropout left on,
from several networks or from changed copies of the image; their mean and variance are running ones, so memory does not
grow with the number of answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.models import as_input, preserved, run, upsample
from runners.modes import Dropping
from runners.registry import Found, Progress, Score, explainer
from runners.targets import primary
from taxonomy.errors import ModelError, RequirementError, TargetError
from taxonomy.requirements import Gap

SHOWN = ("deviation", "entropy")
"""What a map of doubt may show."""
MEANING = "It shows where the model is in doubt, not what speaks for the label."
SEEN = 0.999
"""A pixel counts as seen in a changed copy when at least this share of it comes from inside the image."""

Answer = tuple[Tensor, Any, Tensor | None]
"""Rows ``(n,)``, the model's outputs for them, and the affine maps ``(n, d, d + 1)`` that undo the change, if any."""


def label_read(score: Score, outputs: Any, images: int) -> Tensor:
    """Return the output channel that the score of each image reads (most), ``(B,)``.

    Args:
        score: the score.
        outputs: what the model returned without gradients.
        images: how many.

    Raises:
        TargetError: the score does not read the model's main output.
    """
    output = primary(outputs)
    bare = not output.requires_grad
    if bare:
        output.requires_grad_()  # in place: the score finds it inside any structure
    with torch.enable_grad():
        scores = score(outputs, torch.arange(images))
        (grad,) = torch.autograd.grad(scores.sum(), output, allow_unused=True) if scores.requires_grad else (None,)
    if bare:
        output.requires_grad_(False)
    if grad is None:
        raise TargetError("the target function does not read the model's main output, so no label can be told from it")
    return grad.reshape(images, grad.shape[1] if grad.ndim > 1 else 1, -1).abs().sum(2).argmax(1)


def _probabilities(output: Tensor, given: Tensor) -> Tensor:
    """Return the probabilities ``(n, K, *spatial)`` that an output stands for; rows ``given`` are probabilities."""
    made = output.sigmoid() if output.shape[1] == 1 else output.softmax(1)
    return torch.where(given.view(-1, *[1] * (output.ndim - 1)), output, made)


def _warped(values: Tensor, affine: Tensor, padding: str) -> Tensor:
    grid = F.affine_grid(affine.to(values), list(values.shape), align_corners=False)
    return F.grid_sample(values, grid, padding_mode=padding, align_corners=False)


def _moments(answers: Iterable[tuple[Tensor, Tensor, Tensor | None]], images: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the values ``(n, ...)`` of each image, over the places where they were seen.

    Welford's running form: each value is added as it comes.
    """
    count = mean = square = torch.empty(0)
    for rows, values, seen in answers:
        if not len(count):
            count = values.new_zeros(images, 1, *values.shape[2:])
            mean, square = (values.new_zeros(images, *values.shape[1:]) for _ in range(2))
        for i, row in enumerate(rows.tolist()):
            weight = torch.ones_like(count[row]) if seen is None else seen[i].to(count)
            count[row] += weight
            delta = (values[i] - mean[row]) * weight
            mean[row] += delta / count[row].clamp(min=1)
            square[row] += delta * (values[i] - mean[row])
    return mean, square / count.clamp(min=1)


def _doubt(
    method: str, x: Tensor, score: Score, show: str, plain: Any, answers: Iterable[Answer], what: str, caution: str
) -> Found:
    """Return the map of doubt from the answers; ``plain`` are the model's outputs on the images as they are.

    Raises:
        RequirementError: the model gives no answer place by place.
    """
    output = primary(plain)
    images, spatial = len(x), tuple(x.shape[2:])
    if output.ndim != x.ndim:
        scores = ((rows, score(outputs, rows)[:, None], None) for rows, outputs, _ in answers)
        mean, variance = _moments(scores, images)
        told = ", ".join(
            f"{s:.2g} around {m:.3g}" for m, s in zip(mean[:, 0].tolist(), variance[:, 0].sqrt().tolist(), strict=True)
        )
        sentence = (
            "it maps doubt place by place, and this model gives one answer for the whole image: "
            f"over {what} its score spreads by {told}."
        )
        raise RequirementError(method, [Gap("task", sentence)])
    label = label_read(score, plain, images)
    flat = output.flatten(1)
    given = ((flat >= 0) & (flat <= 1)).all(1)
    exclusive = ~given | (torch.isclose(output.sum(1), output.new_ones(()), atol=1e-3).flatten(1).all(1))
    exclusive &= output.shape[1] > 1

    def values() -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        for rows, outputs, undo in answers:
            at = rows.to(output.device)
            found = _probabilities(primary(outputs).detach().to(output), given[at])
            if show == "deviation":
                found = found[torch.arange(len(at), device=at.device), label[at]][:, None]
            if undo is None:
                yield rows, found, None
            else:
                inside = _warped(torch.ones_like(found[:, :1]), undo, "zeros") > SEEN
                yield rows, _warped(found, undo, "zeros"), inside

    mean, variance = _moments(values(), images)
    if show == "deviation":
        maps = variance[:, 0].sqrt()
        text = f"Standard deviation of the probability of the label over {what}."
    else:
        own = mean[torch.arange(images, device=mean.device), label].clamp(0, 1)
        both = torch.special.entr(own) + torch.special.entr(1 - own)
        every = torch.special.entr(mean.clamp(0, 1)).sum(1)
        maps = torch.where(exclusive.view(-1, *[1] * len(spatial)), every, both)
        among = "labels" if bool(exclusive.all()) else "label and its absence"
        text = f"Entropy between {among} of the mean probability over {what}, in nats."
    maps = maps if tuple(maps.shape[1:]) == spatial else upsample(maps, spatial)
    note = f"{text} The whole image is shown, inside and outside the explained region."
    return Found(maps, (note,), (MEANING, caution), signed=False)


def _check(method: str, show: str, **ranges: tuple[float, float]) -> None:
    if show not in SHOWN:
        raise TargetError(f"{method}: show={show!r} was given; {' or '.join(SHOWN)} is allowed")
    for name, (value, most) in ranges.items():
        if not 0 <= value <= most:
            raise TargetError(f"{method}: {name}={value} was given; 0 to {most:g} is allowed")


def _chunks(samples: int, images: int, batch_size: int, progress: Progress) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield sample numbers and rows, ``batch_size`` at a time, and tell progress after each."""
    for index in torch.split(torch.arange(samples * images), batch_size):
        yield index // images, index % images
        progress(int(index[-1]) + 1, samples * images)


@explainer("mc_dropout")
@torch.no_grad()
def mc_dropout(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 20,
    show: str = "deviation",
    batch_size: int = 8,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Spread of the answers with dropout left on, the masks drawn anew in every pass (arXiv 1506.02142).

    Args:
        model: a segmentation model with dropout.
        x: ``(B, C, *spatial)``.
        score: the score; the label it reads is the one whose probability is followed.
        samples: passes with dropout.
        show: deviation (of the label's probability over the passes) or entropy (of the mean probability).
        batch_size: model rows at a time.
        generator: decides the masks, the same for every image of the batch.
        progress: told after every chunk.
    """
    _check("mc_dropout", show)
    base = int(torch.randint(2**62, (1,), generator=generator))

    def answers() -> Iterator[Answer]:
        for steps, rows in _chunks(samples, len(x), batch_size, progress):
            with Dropping([base + step for step in steps.tolist()]):
                outputs = run(model, x[rows])
            yield rows, outputs, None

    caution = "Doubt from dropout follows errors loosely: a wrong outline can be drawn without any doubt."
    what = f"{samples} passes with dropout on"
    return _doubt("mc_dropout", x, score, show, run(model, x.clone()), answers(), what, caution)


@explainer("deep_ensemble")
@torch.no_grad()
def deep_ensemble(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    show: str = "deviation",
    batch_size: int = 8,
    members: Sequence[nn.Module],
    progress: Progress,
) -> Found:
    """Spread of the answers of several networks trained for the same task (arXiv 1612.01474).

    Args:
        model: a segmentation model, counted as one of the networks.
        x: ``(B, C, *spatial)``.
        score: the score; the label it reads is the one whose probability is followed.
        show: deviation (of the label's probability over the networks) or entropy (of the mean probability).
        batch_size: model rows at a time.
        members: the further networks.
        progress: told after every chunk.
    """
    _check("deep_ensemble", show)
    plain = run(model, x.clone())
    shape = tuple(primary(plain).shape[1:])

    def answers() -> Iterator[Answer]:
        yield torch.arange(len(x)), plain, None
        for number, member in enumerate(members, start=1):
            with preserved(member):
                for _, rows in _chunks(1, len(x), batch_size, lambda done, total: None):  # noqa: ARG005
                    outputs = run(member, as_input(member, x[rows]))
                    given = tuple(primary(outputs).shape[1:])
                    if given != shape:
                        raise ModelError(
                            f"member {number} returns {given} for an image, the model {shape}: all must answer alike"
                        )
                    yield rows, outputs, None
            progress(number, len(members))

    count = len(members) + 1
    caution = (
        f"The spread of only {count} networks is a rough estimate."
        if count < 5
        else "Networks that share a mistake agree on it without doubt."
    )
    return _doubt("deep_ensemble", x, score, show, plain, answers(), f"{count} networks", caution)


@explainer("test_time_augmentation")
@torch.no_grad()
def changed_copies(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 20,
    flips: bool = True,
    rotation: float = 10.0,
    shift: float = 0.05,
    intensity: float = 0.1,
    show: str = "deviation",
    batch_size: int = 8,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Spread of the answers to changed copies of the image, the change undone on the answer (arXiv 1807.07356).

    Every copy is flipped, turned, shifted and changed in contrast and brightness at random; the first is the image
    itself. Places that a copy moved out of view are not counted for it.

    Args:
        model: a segmentation model.
        x: ``(B, C, *spatial)``.
        score: the score; the label it reads is the one whose probability is followed.
        samples: copies, the image itself included.
        flips: mirror half of the copies along the last axis (left and right).
        rotation: largest turn in degrees, in the plane of the last two axes.
        shift: largest shift along every axis, as a share of its length; whole pixels.
        intensity: largest change of contrast, and of brightness in standard deviations of the image.
        show: deviation (of the label's probability over the copies) or entropy (of the mean probability).
        batch_size: model rows at a time.
        generator: draws the changes, the same for every image of the batch.
        progress: told after every chunk.
    """
    _check("test_time_augmentation", show, rotation=(rotation, 180), shift=(shift, 0.5), intensity=(intensity, 0.9))
    if samples < 2:
        raise TargetError(f"test_time_augmentation: samples={samples} was given; it must be at least 2")
    dims, axes = x.ndim - 2, tuple(range(2, x.ndim))
    drawn = 2 * torch.rand(samples - 1, dims + 4, generator=generator, dtype=torch.float64) - 1
    mirrored = drawn[:, 0] > 0 if flips else torch.zeros(samples - 1, dtype=torch.bool)
    turned = drawn[:, 1] * math.radians(rotation)
    forth, back = _placements(tuple(x.shape[2:]), mirrored, turned, drawn[:, 4:] * shift)
    gain, level = (drawn[:, k].view(-1, *[1] * (dims + 1)) * intensity for k in (2, 3))
    mean, spread = x.mean(axes, keepdim=True), x.std(axes, correction=0, keepdim=True)

    def answers() -> Iterator[Answer]:
        yield torch.arange(len(x)), plain, None
        for steps, rows in _chunks(samples - 1, len(x), batch_size, progress):
            moved = _warped(x[rows], forth[steps], "border")
            here = mean[rows] + (moved - mean[rows]) * (1 + gain[steps].to(x)) + level[steps].to(x) * spread[rows]
            yield rows, run(model, here), back[steps]

    what, plain = f"the image and {samples - 1} changed copies", run(model, x.clone())
    caution = "A model that never met such copies in training doubts them more than it doubts the image."
    return _doubt("test_time_augmentation", x, score, show, plain, answers(), what, caution)


def _placements(spatial: tuple[int, ...], mirrored: Tensor, turned: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the affine maps ``(N, d, d + 1)`` that make copies, and those that undo them, as ``affine_grid`` wants.

    Args:
        spatial: shape of the image; a turn is one in pixels, not in shares of the axes.
        mirrored: which copies are mirrored along the last axis.
        turned: angles in the plane of the last two axes.
        shifts: ``(N, d)``, share of each axis, rounded to pixels.
    """
    dims = len(spatial)
    half = torch.tensor(spatial[::-1], dtype=torch.float64) / 2  # affine_grid counts axes from the last
    turn = torch.eye(dims, dtype=torch.float64).repeat(len(turned), 1, 1)
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = turned.cos(), -turned.sin(), turned.sin(), turned.cos()
    turn[mirrored, :, 0] *= -1
    move = (shifts.flip(1) * 2 * half).round()[..., None]
    undone = turn.transpose(1, 2)  # orthogonal
    scaled = half[:, None]
    return tuple(  # type: ignore[return-value]
        torch.cat([matrix * half / scaled, offset / scaled], 2)
        for matrix, offset in ((turn, move), (undone, -undone @ move))
    )
