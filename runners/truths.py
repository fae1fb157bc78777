"""Planted truth: models whose decision is known in closed form, images for them, and what a true map of them is.

Metrics are put to the test on these (:mod:`runners.trust`). The models are built, not trained: filters that answer to
one shape, weights on one region, a smoothing that segments. What each pixel adds to the score then follows from the
weights, and for all of them it is gradient times input, as they are linear wherever their units do not switch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.baselines import smoothed
from runners.models import Wired, profile, randomise, twin_of
from runners.registry import Score, seeded
from runners.targets import resolve

TEXTURE = 0.06
"""Amplitude of the background; what is planted has about 1."""
REFERENCES = 24
"""Reference images of each case."""
SPREAD = 0.05
"""How far the weights of a model for the same task lie from those of the model, as a share."""

Mapper = Callable[[nn.Module, Tensor, Score], Tensor]
"""An explainer without its gate: model, images ``(B, C, *spatial)``, score to the map of every channel, like ``x``."""


@dataclass(frozen=True, eq=False)
class Planted:
    """A model, images, and what is known of them.

    Attributes:
        name: what it is, in words.
        model: network in eval mode.
        x: images ``(B, C, *spatial)``.
        target: the label that is explained.
        task: classification or segmentation.
        mask: where the evidence lies, bool ``(B, *spatial)``.
        ignored: where something lies that the score ignores, bool ``(B, *spatial)``.
        without: the same images with evidence in its place.
        reach: pixels by which a map is shifted to lie half beside the evidence.
        exact: the true explainer.
        seed: of the images.
    doubts: the maps tell where the model errs, not what it looks at.
    """

    name: str
    model: nn.Module
    x: Tensor
    target: int
    task: str
    mask: Tensor
    ignored: Tensor
    without: Tensor | None
    reference: Tensor
    reach: int
    exact: Mapper
    seed: int
    doubts: bool = False

    @cached_property
    def wired(self) -> Wired:
        """What the model offers."""
        return profile(self.model, self.x, task=self.task)

    @cached_property
    def score(self) -> Score:
        """The score that is explained."""
        with torch.no_grad():
            return resolve(self.target, self.model(self.x), self.x, self.task).score

    def members(self, *, untrained: bool) -> tuple[nn.Module, ...]:
        """Return two models built alike: with random weights, or with weights as another training might find them."""
        found = []
        for number in range(2):
            twin, generator = twin_of(self.model), seeded(self.seed + number + 1)
            if untrained:
                randomise(list(twin.parameters()), generator)
            else:
                for weight in twin.parameters():
                    weight.data *= 1 + SPREAD * torch.randn(weight.shape, generator=generator)
            found.append(twin)
        return tuple(found)


def product(model: nn.Module, x: Tensor, score: Score) -> Tensor:
    """Return gradient times input, for every channel."""
    return slope(model, x, score) * x


def slope(model: nn.Module, x: Tensor, score: Score) -> Tensor:
    """Return the gradient of the score, for every channel."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        total = score(model(x), torch.arange(len(x), device=x.device)).sum()
        return torch.autograd.grad(total, x)[0].detach()


# --- models -----------------------------------------------------------------------------------------------------------


class Shapes(nn.Module):
    """Classifies by the shapes it finds: filters for a ball, a shell and a hole, cut by ReLUs, added up over the image.

    Args:
        filters: ``(3, *window)`` with zero mean, one per label.
        needed: what a filter's answer must exceed.
    """

    def __init__(self, filters: Tensor, needed: float) -> None:
        super().__init__()
        dims, window = filters.ndim - 1, filters.shape[1]
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.find = conv(1, 3, window, padding=window // 2)
        self.weigh = conv(3, 3, 1, bias=False)
        self.decide = nn.Linear(3, 3, bias=False)
        self.find.weight.data = filters[:, None].clone()
        nn.init.constant_(self.find.bias, -needed)  # type: ignore[arg-type]
        self.weigh.weight.data = torch.eye(3).view(3, 3, *[1] * dims)
        self.decide.weight.data = 2 * torch.eye(3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, 3)``."""
        found: Tensor = self.decide(F.relu(self.weigh(F.relu(self.find(x)))).flatten(2).sum(2))
        return found


class Sums(nn.Module):
    """Classifies by weighted sums over fixed regions, each channel with a weight of its own: linear.

    Args:
        channels: ``(C,)``, what each channel counts for the first label; in reverse for the second.
        regions: ``(2, *spatial)``, what each pixel counts for either label.
    """

    def __init__(self, channels: Tensor, regions: Tensor) -> None:
        super().__init__()
        dims = regions.ndim - 1
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.mix = conv(len(channels), 2, 1, bias=False)
        self.first, self.second = (nn.Linear(regions[0].numel(), 1, bias=False) for _ in range(2))
        self.mix.weight.data = torch.stack([channels, channels.flip(0)]).view(2, -1, *[1] * dims)
        self.first.weight.data, self.second.weight.data = regions.flatten(1)[:, None].clone()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, 2)``."""
        mixed = self.mix(x).flatten(2)
        return torch.cat([self.first(mixed[:, 0]), self.second(mixed[:, 1])], 1)


class Blobs(nn.Module):
    """Segments what is bright (label 1) and what is dark (label 2) after smoothing twice: linear.

    Args:
        kernel: ``(*window)`` with sum 1.
        level: what counts as bright.
    """

    def __init__(self, kernel: Tensor, level: float) -> None:
        super().__init__()
        dims, window = kernel.ndim, kernel.shape[0]
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.first = conv(1, 1, window, padding=window // 2, bias=False)
        self.second = conv(1, 1, window, padding=window // 2, bias=False)
        self.decide = conv(1, 3, 1)
        self.first.weight.data = kernel[None, None].clone()
        self.second.weight.data = kernel[None, None].clone()
        self.decide.weight.data = torch.tensor([0.0, 1.0, -1.0]).view(3, 1, *[1] * dims)
        self.decide.bias.data = torch.tensor([level, 0.0, 0.0])  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, 3, *spatial)``."""
        found: Tensor = self.decide(self.second(self.first(x)))
        return found


# --- images -----------------------------------------------------------------------------------------------------------


def _quiet(make: Callable[[], nn.Module]) -> nn.Module:
    """Build a model: its layers draw weights that are not used, which the global generator must not notice."""
    with torch.random.fork_rng(devices=[]):
        return make().eval().requires_grad_(requires_grad=False)


def _texture(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = smoothed(torch.randn(shape, generator=generator), [1.0] * (len(shape) - 2))
    return TEXTURE * noise / noise.std()


def _half_without(x: Tensor, mask: Tensor) -> Tensor:
    """Return images ``(R, C, *spatial)``, every other one with nothing where the mask ``(R, *spatial)`` is."""
    odd = (torch.arange(len(x)) % 2).bool().view(-1, *[1] * (x.ndim - 1))
    return x.where(~(mask[:, None] & odd), 0.0)


def _distance(spatial: tuple[int, ...], centre: tuple[int, ...]) -> Tensor:
    """Return the distance of every pixel from a centre."""
    axes = [torch.arange(side, dtype=torch.float32) - at for side, at in zip(spatial, centre, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()


def _places(spatial: tuple[int, ...], number: int, apart: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    """Draw centres that lie so far apart on some axis, and half as far from the border."""
    margin = math.ceil(apart / 2)
    while True:
        found = [
            tuple(int(torch.randint(margin, side - margin, (), generator=generator)) for side in spatial)
            for _ in range(number)
        ]
        if all(
            max(abs(a - b) for a, b in zip(one, other, strict=True)) >= apart
            for one, other in itertools.combinations(found, 2)
        ):
            return found


def shapes(dims: int, images: int, seed: int) -> Planted:
    """Plant two balls, one fainter, that decide for label 0; a shell and a hole beside them decide for the others."""
    radius, window = (2.3, 7) if dims == 2 else (1.5, 5)
    spatial = (28, 28) if dims == 2 else (15, 15, 15)
    middle = (window // 2,) * dims
    away = _distance((window,) * dims, middle)
    ball, shell = away <= radius, (away > radius) & (away <= window / 2)
    raw = torch.stack([ball.float() / ball.sum(), shell.float() / shell.sum(), -ball.float() / ball.sum()])
    filters = raw - raw.flatten(1).mean(1).view(-1, *[1] * dims)
    generator = seeded(seed)
    x = _texture((images + REFERENCES, 1, *spatial), generator)
    mask = torch.zeros(len(x), *spatial, dtype=torch.bool)
    ignored, without = mask.clone(), x.clone()
    for i in range(len(x)):
        first, second, round_, hole = _places(spatial, 4, window, generator)
        for place, bright in ((first, 1.0), (second, 0.75)):
            here = _distance(spatial, place) <= radius
            x[i, 0][here] += bright
            without[i, 0][here] += bright
            mask[i] |= here
        ring = _distance(spatial, round_)
        x[i, 0][(ring > radius) & (ring <= window / 2)] += 0.9
        without[i, 0][ring <= radius] += 0.9
        ignored[i] = ring <= window / 2
        for picture in (x, without):
            picture[i, 0][_distance(spatial, hole) <= radius] -= 0.6
    model = _quiet(lambda: Shapes(filters, 0.5 * float((filters[0] * ball).sum())))
    return Planted(
        name=f"shapes among others, {dims}D classification",
        model=model,
        x=x[:images],
        target=0,
        task="classification",
        mask=mask[:images],
        ignored=ignored[:images],
        without=without[:images],
        reference=_half_without(x[images:], mask[images:]),
        reach=math.ceil(radius),
        exact=product,
        seed=seed,
    )


def sums(dims: int, images: int, seed: int) -> Planted:
    """Plant bright regions in four channels that count differently; another region is ignored by the label."""
    spatial = (24, 24) if dims == 2 else (16, 16, 16)
    radius = 3.2 if dims == 2 else 2.3
    generator = seeded(seed)
    centres = _places(spatial, 3, math.ceil(2 * radius) + 1, generator)
    heights = [(_distance(spatial, centre) / radius).square().neg().add(1.3).clamp_min(0) for centre in centres]
    inside = [_distance(spatial, centre) <= radius for centre in centres]
    regions = torch.stack([
        (heights[0] * inside[0] + 0.6 * heights[1] * inside[1]),
        heights[2] * inside[2],
    ])  # fmt: skip
    regions /= regions.flatten(1).sum(1).view(-1, *[1] * dims)
    channels = torch.tensor([3.0, 2.0, 1.0, 0.2])
    x = _texture((images + REFERENCES, 4, *spatial), generator)
    for here, bright in zip(inside, (1.0, 1.0, 0.8), strict=True):
        x[:, :, here] += bright * (0.8 + 0.4 * torch.rand(len(x), 4, 1, generator=generator))
    mask, ignored = (here.expand(len(x), *spatial) for here in (inside[0] | inside[1], inside[2]))
    model = _quiet(lambda: Sums(channels, regions))
    return Planted(
        name=f"weighted regions in four channels, {dims}D classification",
        model=model,
        x=x[:images],
        target=0,
        task="classification",
        mask=mask[:images],
        ignored=ignored[:images],
        without=None,
        reference=_half_without(x[images:], mask[images:]),
        reach=math.ceil(radius),
        exact=product,
        seed=seed,
    )


def blobs(dims: int, images: int, seed: int) -> Planted:
    """Plant a bright object that is segmented, and a dark one beside it."""
    spatial, radius = ((28, 28), 4.2) if dims == 2 else ((14, 14, 14), 3.2)
    window = 3
    generator = seeded(seed)
    x = _texture((images + REFERENCES, 1, *spatial), generator)
    mask = torch.zeros(len(x), *spatial, dtype=torch.bool)
    ignored = mask.clone()
    for i in range(len(x)):
        bright, dark = _places(spatial, 2, math.ceil(2 * radius) - (dims == 3), generator)
        mask[i] = _distance(spatial, bright) <= radius
        ignored[i] = (_distance(spatial, dark) <= radius - 1) & ~mask[i]
        x[i, 0][mask[i]] += 1
        x[i, 0][ignored[i]] -= 1
    kernel = _distance((window,) * dims, (1,) * dims).neg().exp()  # not even: random weights must be other ones
    kernel /= kernel.sum()
    model = _quiet(lambda: Blobs(kernel, 0.4))
    return Planted(
        name=f"a bright and a dark object, {dims}D segmentation",
        model=model,
        x=x[:images],
        target=1,
        task="segmentation",
        mask=mask[:images],
        ignored=ignored[:images],
        without=None,
        reference=_half_without(x[images:], mask[images:]),
        reach=math.ceil(radius),
        exact=product,
        seed=seed,
    )


def errors(dims: int, images: int, seed: int) -> Planted:
    """Plant what a segmenter gets wrong: a part of the object is too faint to be seen; the true doubt lies there."""
    base = blobs(dims, images, seed)
    x, mask = base.x.clone(), base.mask
    half = torch.zeros_like(mask)
    for i in range(images):
        along = mask[i].nonzero()[:, 0].float()
        index = torch.arange(mask.shape[1]).view(-1, *[1] * (dims - 1))
        half[i] = mask[i] & (index > along.median())
    x[:, 0][half] -= 0.9
    with torch.no_grad():
        wrong = (base.model(x).argmax(1) == base.target) != mask

    def doubt(model: nn.Module, seen: Tensor, score: Score) -> Tensor:  # noqa: ARG001
        found: Tensor = wrong[: len(seen), None].float()
        return found

    return replace(base, name=f"an object segmented in part, {dims}D", x=x, exact=doubt, doubts=True)
