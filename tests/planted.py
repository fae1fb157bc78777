"""A small world with a planted truth: a bright blob decides, stripes do not matter, and a network that learned it."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from runners import Cohort, Concept

SIDE = 28


class Small(nn.Module):
    """Three convolutions and a linear layer on averaged features."""

    def __init__(self, dims: int = 2, outputs: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.features = nn.Sequential(
            conv(1, 8, 3, padding=1), nn.ReLU(), conv(8, 12, 3, stride=2, padding=1), nn.ReLU(),
            conv(12, 12, 3, padding=1), nn.ReLU(), conv(12, 12, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(12, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(2).mean(2))


class Marker(nn.Module):
    """The same features, and an answer at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.features = Small().features
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.out = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.out(self.features(x)))


def pictures(count: int, seed: int, dims: int = 2, blob: bool | None = None, stripes: bool | None = None):
    """Noise with a blob or without, stripes or without: images, blob masks, stripe masks, blob and stripes or not."""
    g = torch.Generator().manual_seed(seed)
    side = SIDE if dims == 2 else 10
    size = (side,) * dims
    x = 0.3 * torch.randn(count, 1, *size, generator=g)
    draw = torch.rand(count, 2, generator=g) < 0.5
    has = draw[:, 0] if blob is None else torch.full((count,), blob)
    lined = draw[:, 1] if stripes is None else torch.full((count,), stripes)
    where, lines = torch.zeros(count, *size, dtype=torch.bool), torch.zeros(count, *size, dtype=torch.bool)
    wide = side // (4 if dims == 2 else 2)
    for i in range(count):
        at = torch.randint(0, side - wide, (2, dims), generator=g).tolist()
        box = tuple(slice(a, a + wide) for a in at[0])
        band = tuple(slice(a, a + wide) for a in at[1])
        if has[i]:
            x[(i, 0, *box)] += 1.5
            where[(i, *box)] = True
        if lined[i]:
            x[(i, 0, *band)][..., ::2] += 1.0
            x[(i, 0, *band)][..., 1::2] -= 1.0
            lines[(i, *band)] = True
    return x, where, lines, has, lined


def _trained(model: nn.Module, x: Tensor, y: Tensor, steps: int, weights: tuple[float, ...] = (1.0, 1.0)) -> nn.Module:
    adam = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(steps):
        rows = torch.randint(len(x), (32,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows], torch.tensor(weights))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model.eval()


@cache
def network(dims: int = 2, random: bool = False) -> nn.Module:
    """A classifier: is there a blob? With ``random``, labels that mean nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, _, _, has, _ = pictures(300, 1, dims)
        y = torch.rand(len(x), generator=torch.Generator().manual_seed(9)) < 0.5 if random else has
        return _trained(Small(dims), x, y.long(), 90)


@cache
def marker() -> nn.Module:
    """A segmenter of blobs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, where, *_ = pictures(200, 1)
        return _trained(Marker(), x, where.long(), 90, (1.0, 6.0))


@cache
def cohort(dims: int = 2, count: int = 120) -> Cohort:
    x, where, _, has, _ = pictures(count, 2, dims)
    return Cohort(x, labels=has.long(), label_names=("none", "blob"))


@cache
def concepts(dims: int = 2, count: int = 30) -> dict[str, Concept]:
    """Blobs, stripes, and a random draw from the same world."""
    blobs, where, *_ = pictures(count, 3, dims, blob=True)
    lined, _, lines, *_ = pictures(count, 4, dims, stripes=True)
    others, *_ = pictures(count, 10, dims)
    noise = torch.rand(count, *others.shape[2:], generator=torch.Generator().manual_seed(6)) < 0.1
    return {"blob": Concept(blobs, where), "stripes": Concept(lined, lines), "random": Concept(others, noise)}


def case(dims: int = 2) -> tuple[Tensor, Tensor]:
    """One image with a blob and its mask."""
    x, where, *_ = pictures(1, 21, dims, blob=True, stripes=True)
    return x, where[0]
