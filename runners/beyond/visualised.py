"""Images made by optimisation: what raises an output, what excites a channel, what a layer keeps of an image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least
from runners.beyond.inside import asked, cut
from runners.beyond.probing import spread_places
from runners.forms import Units
from runners.models import Place, Wired, captured, find_place, run
from runners.owned import Autoencoder
from runners.registry import Progress, Score, Told, insight
from taxonomy.errors import TargetError

MADE: Final = (
    "Made images show what raises a number most, not what such findings look like: they run through the network "
    "otherwise than real images do."
)


class _Painted:
    """An image as weights of waves, slow waves first: neighbouring pixels change together (Fourier parametrisation).

    Every channel stays within the range of the image that is explained.

    Args:
        x: the image that is explained, ``(1, C, *spatial)``.
        generator: draws the start.
        contrast: how far the start is from a grey image.
    """

    def __init__(self, x: Tensor, generator: torch.Generator, contrast: float = 0.01) -> None:
        self.size = tuple(x.shape[2:])
        axes = tuple(range(2, x.ndim))
        self.low, self.high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
        flat = self.high <= self.low
        self.low, self.high = torch.where(flat, self.low - 0.5, self.low), torch.where(flat, self.high + 0.5, self.high)
        middle = ((x.mean(axes, keepdim=True) - self.low) / (self.high - self.low)).clamp(0.05, 0.95)
        self.start = torch.logit(middle)
        shape = torch.fft.rfftn(x.float(), dim=axes).shape
        steps = [torch.fft.fftfreq(n, device=x.device) for n in self.size[:-1]]
        steps.append(torch.fft.rfftfreq(self.size[-1], device=x.device))
        waves = torch.stack(torch.meshgrid(*steps, indexing="ij")).square().sum(0).sqrt()
        self.scale = 1 / waves.clamp(min=1 / max(self.size)) * math.sqrt(math.prod(self.size))
        self.weights = (contrast * torch.randn(*shape, 2, generator=generator)).to(x.device).requires_grad_()

    def parameters(self) -> list[Tensor]:
        """Return what is optimised."""
        return [self.weights]

    def __call__(self) -> Tensor:
        """Return the image, ``(1, C, *spatial)``."""
        axes = tuple(range(2, 2 + len(self.size)))
        drawn = torch.fft.irfftn(torch.view_as_complex(self.weights) * self.scale, s=self.size, dim=axes)
        return torch.sigmoid(drawn / 4 + self.start) * (self.high - self.low) + self.low


STARTS: Final = (0.01, 0.1, 0.3, 1.0)
"""Contrasts of the starts that are tried: a unit that is silent gives no slope to climb."""


def _started(x: Tensor, loss: Callable[[Tensor], Tensor], generator: torch.Generator) -> _Painted:
    """Return the start of the lowest loss."""
    tried = [_Painted(x, generator, contrast) for contrast in STARTS]
    with torch.no_grad():
        losses = [float(loss(one())) for one in tried]
    return tried[losses.index(min(losses))]


class _Decoded:
    """An image as the code of a generator (arXiv 1605.09304), starting at the code of the image.

    Args:
        x: the image that is explained.
        autoencoder: the generator.
    """

    def __init__(self, x: Tensor, autoencoder: Autoencoder) -> None:
        self.autoencoder = autoencoder
        with torch.no_grad():
            self.code = autoencoder.encode(x).detach().clone().requires_grad_()

    def parameters(self) -> list[Tensor]:
        """Return what is optimised."""
        return [self.code]

    def __call__(self) -> Tensor:
        """Return the image, ``(1, C, *spatial)``."""
        return self.autoencoder.decode(self.code)


def jittered(image: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift an image ``(1, C, *spatial)`` by up to ``most`` pixels along every axis; the border is mirrored."""
    sides = [min(most, n - 1) for n in image.shape[2:]]
    if not any(sides):
        return image
    padded = F.pad(image, [p for side in reversed(sides) for p in (side, side)], mode="reflect")
    starts = [int(torch.randint(2 * side + 1, (1,), generator=generator)) for side in sides]
    where = [slice(start, start + n) for start, n in zip(starts, image.shape[2:], strict=True)]
    return padded[(slice(None), slice(None), *where)]


def roughness(image: Tensor) -> Tensor:
    """Return the mean square of the steps between neighbouring pixels."""
    steps = [image.diff(dim=axis).square().mean() for axis in range(2, image.ndim)]
    return torch.stack(steps).sum()


def climbed(
    painted: Any,
    loss: Callable[[Tensor], Tensor],
    *,
    steps: int,
    rate: float,
    smooth: float,
    jitter: int,
    generator: torch.Generator,
    told: Callable[[int], None],
) -> Tensor:
    """Change an image step by step so that a loss falls.

    Args:
        painted: Gives the image, and what is optimised.
        loss: of an image.
        steps: of Adam.
        rate: Size of a step.
        smooth: Weight of the roughness, which the loss is compared with.
        jitter: Pixels by which the image is shifted at random in each step.
        generator: Draws.
        told: Called with the steps done.

    Returns:
        The image ``(1, C, *spatial)``.
    """
    with torch.enable_grad():
        adam = torch.optim.Adam(painted.parameters(), rate)
        for step in range(steps):
            adam.param_groups[0]["lr"] = rate * min(1.0, 2 * (steps - step) / steps)
            image = painted()
            spread = image.detach().var().clamp(min=1e-12)
            cost = loss(jittered(image, jitter, generator)) + smooth * roughness(image) / spread
            adam.zero_grad()
            grads = torch.autograd.grad(cost, painted.parameters(), allow_unused=True)
            for one, grad in zip(painted.parameters(), grads, strict=True):
                one.grad = torch.zeros_like(one) if grad is None else grad
            adam.step()
            told(step + 1)
        found: Tensor = painted().detach()
    return found


@insight("activation_maximisation")
def activation_maximisation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 200,
    rate: float = 0.05,
    smooth: float = 0.05,
    jitter: int = 4,
    profile: Wired,
    autoencoder: Autoencoder | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Make an image that raises the explained score, and one that lowers it.

    With a generator its code is optimised, from that of the image on (arXiv 1605.09304); without one the image itself,
    from noise, as weights of waves, under random shifts and with a penalty for roughness.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D; its range is kept.
        score: One number per output row.
        steps: Steps of Adam.
        rate: Size of a step.
        smooth: Weight of the penalty for roughness, without a generator.
        jitter: Pixels by which the image is shifted at random in each step.
        profile: What is known of the model.
        autoencoder: Generator of such images, or None.
        generator: Draws.
        progress: Told the steps done.

    Returns:
        The two images with their scores.
    """
    _checked(steps, rate, smooth, jitter)
    question = asked(model, x, score, profile, 1)
    images, scores = [], []
    for number, sign in enumerate((1.0, -1.0)):

        def loss(image: Tensor, sign: float = sign) -> Tensor:
            return -sign * question.score(run(model, image)).sum()

        painted = _started(x, loss, generator) if autoencoder is None else _Decoded(x, autoencoder)
        made = climbed(
            painted, loss, steps=steps, rate=rate, smooth=smooth if autoencoder is None else 0.0, jitter=jitter,
            generator=generator, told=_after(progress, number * steps, 2 * steps),
        )  # fmt: skip
        images.append(made[0])
        scores.append(float(question.look(made)[0][0]))
    own = float(question.look(x)[0][0])
    form = Units(
        names=("for the answer", "against the answer"),
        activations=torch.tensor(scores),
        what="score of the image that was made",
        images=torch.stack(images),
        measures={
            "score of the case": own,
            "score of the image made for the answer, above the case's": scores[0] - own,
            "likeness of the two images (correlation)": _likeness(images[0], images[1]),
        },
    )
    how = (
        "Made without a generator, as weights of waves: patterns, not anatomy."
        if autoencoder is None
        else "Made by the generator, from the code of this image on."
    )
    cautions = [MADE]
    if scores[0] <= own:
        cautions.append("The score of the image made for the answer is not above that of the case: take more steps.")
    return Told(form, (*question.notes, how), tuple(cautions))


@insight("feature_visualization")
def feature_visualization(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    units: str = "",
    shown: int = 4,
    steps: int = 128,
    rate: float = 0.1,
    smooth: float = 0.02,
    jitter: int = 4,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Make an image that excites a channel of a layer, as weights of waves and under random shifts (Distill 2017).

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D; its range is kept.
        score: One number per output row.
        layer: Name of the layer; None for the deepest features.
        units: Numbers of the channels, with commas; empty for those that count most for the score on this image.
        shown: How many when none are named.
        steps: Steps of Adam per channel.
        rate: Size of a step.
        smooth: Weight of the penalty for roughness.
        jitter: Pixels by which the image is shifted at random in each step.
        profile: What is known of the model.
        generator: Draws.
        progress: Told the steps done.

    Returns:
        Of each channel the image made for it, how strongly it responds in the case, and where.
    """
    _checked(steps, rate, smooth, jitter)
    at_least(1, shown=shown)
    inside = cut(model, x, score, profile, 1, layer)
    place = inside.place
    own = inside.features(x)[0]
    weight = (own * inside.slopes(x)[0]).flatten(1).sum(1)
    if units:
        try:
            chosen = [int(one) for one in units.split(",")]
        except ValueError:
            raise TargetError(f"units = {units!r}: numbers of channels with commas are needed, like 3,17") from None
        if not all(0 <= one < place.channels for one in chosen):
            raise TargetError(f"units = {units!r}: {place.name or 'the model'} has channels 0 to {place.channels - 1}")
    else:
        chosen = weight.abs().argsort(descending=True, stable=True)[:shown].tolist()
    images, gains, kept = [], [], []
    usual = own.flatten(1).mean(1)
    spread = own.flatten(1).std(1).clamp(min=1e-6)
    for number, unit in enumerate(chosen):

        def loss(image: Tensor, unit: int = unit) -> Tensor:
            return -_responses(model, image, place)[unit].mean() / spread[unit].to(image.device)

        made = climbed(
            _started(x, loss, generator), loss, steps=steps, rate=rate, smooth=smooth, jitter=jitter,
            generator=generator, told=_after(progress, number * steps, len(chosen) * steps),
        )  # fmt: skip
        images.append(made[0])
        with torch.no_grad():
            reached = float(_responses(model, made, place)[unit].mean())
            moved = [
                float(_responses(model, jittered(made, 2 * jitter + 2, generator), place)[unit].mean())
                for _ in range(5)
            ]
        gains.append((reached - float(usual[unit])) / float(spread[unit]))
        more = reached - float(usual[unit])
        kept.append((sum(moved) / 5 - float(usual[unit])) / more if more > 0 else 0.0)
    index = torch.tensor(chosen)
    form = Units(
        names=tuple(f"channel {one}" for one in chosen),
        activations=usual[index],
        what="mean activation in the case; the image was made to raise it",
        images=torch.stack(images),
        maps=inside.up(own[index], x.shape[2:]),
        measures={
            "mean activation on the made images, above the case's, in its spreads (smallest)": min(gains),
            "share of that kept when the images are shifted (smallest)": min(kept),
        },
    )
    notes = (
        *inside.notes,
        "Channels that count most for the score on this image (activation times gradient)." if not units else
        "Channels named by the user.",
    )  # fmt: skip
    cautions = [MADE, "A channel can respond to several unrelated things, of which one image shows one."]
    if min(gains) <= 0:
        cautions.append("Some images excite their channel no more than the case does: take more steps.")
    return Told(form, notes, tuple(cautions))


@insight("feature_inversion")
def feature_inversion(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001  what a layer keeps of an image does not hang on the answer
    *,
    layer: str | None = None,
    layers: int = 4,
    steps: int = 200,
    rate: float = 0.05,
    smooth: float = 0.002,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Make images whose features in a layer are those of this image: what they lack, the layer has lost (1412.0035).

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D; its range is kept.
        score: One number per output row.
        layer: Name of the layer; None for several spread over the model.
        layers: How many when none is named.
        steps: Steps of Adam per layer.
        rate: Size of a step.
        smooth: Weight of the penalty for roughness.
        profile: What is known of the model.
        generator: Draws.
        progress: Told the steps done.

    Returns:
        Of each layer the image made from its features, and how far its features are those of the case.
    """
    _checked(steps, rate, smooth, 0)
    at_least(1, layers=layers)
    places = [find_place(profile, layer)[0]] if layer else spread_places(profile, layers)
    images, reached, like = [], [], []
    for number, place in enumerate(places):
        with torch.no_grad():
            goal = _responses(model, x, place).detach()
        size = (goal - goal.mean()).square().sum().clamp(min=1e-12)

        def loss(image: Tensor, goal: Tensor = goal, size: Tensor = size, place: Place = place) -> Tensor:
            return (_responses(model, image, place) - goal).square().sum() / size

        made = climbed(
            _started(x, loss, generator), loss, steps=steps, rate=rate, smooth=smooth, jitter=0, generator=generator,
            told=_after(progress, number * steps, len(places) * steps),
        )  # fmt: skip
        images.append(made[0])
        with torch.no_grad():
            reached.append(1 - float(loss(made)))
        like.append(_likeness(made[0], x[0]))
    names = tuple(place.name or "the model" for place in places)
    form = Units(
        names=names,
        activations=torch.tensor(reached),
        what="share of the layer's features of the case that the made image has again",
        images=torch.stack(images),
        measures={f"likeness to the case, {name} (correlation)": one for name, one in zip(names, like, strict=True)},
    )
    cautions = [
        "Detail that comes back was kept by the layer, not used: untrained networks keep much, too.",
        "Detail that is missing may be in the layer and not found, where its features are not reached.",
    ]
    if min(reached) < 0.8:
        cautions.append("In some layers less than 80% of the features were reached: take more steps.")
    return Told(form, ("Images were made from noise, as weights of waves.",), tuple(cautions))


def _checked(steps: int, rate: float, smooth: float, jitter: int) -> None:
    at_least(1, steps=steps)
    at_least(0, smooth=smooth, jitter=jitter)
    if not rate > 0:
        raise TargetError(f"rate = {rate}: it must be above 0.")


def _responses(model: nn.Module, image: Tensor, place: Place) -> Tensor:
    """Return the features of one image at a place, ``(D, *grid)``; differentiable."""
    with captured(model, place) as kept:
        run(model, image)
    return place.fold(kept[-1])[0]


def _likeness(a: Tensor, b: Tensor) -> float:
    """Return Pearson's correlation of two images."""
    a, b = (one.flatten().double().cpu() - one.double().cpu().mean() for one in (a, b))
    return float((a @ b) / (a.norm() * b.norm()).clamp(min=1e-12))


def _after(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    return lambda step: progress(before + step, total)
