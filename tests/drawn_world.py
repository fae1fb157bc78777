"""A small world with known factors: a generator with one code value for each, and a model that reads only the first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runners import Cohort, Concept

SIDE = 12
FACTORS = ("left spot", "right spot", "tone", "stripes")


def patterns(dims: int = 2) -> Tensor:
    """Orthogonal patterns ``(4, 1, *spatial)``, each of unit mean square."""
    size = (SIDE,) * dims
    left, right = torch.zeros(size), torch.zeros(size)
    left[..., 2:6, 1:5] = 1
    right[..., 6:10, 7:11] = 1
    rest = ((left + right) == 0).float()
    stripes = rest * torch.where(torch.arange(SIDE) % 4 < 2, 1.0, -1.0)
    stripes = stripes - rest * (stripes.sum() / rest.sum())
    found = torch.stack([left, right, rest, stripes])[:, None]
    return found / found.square().flatten(1).mean(1).sqrt().view(-1, *[1] * (dims + 1))


class Painter(nn.Module):
    """Image = sum of code values times patterns; encode projects."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.register_buffer("patterns", patterns(dims))

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.patterns.flatten(1).T / self.patterns[0].numel()

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.patterns.flatten(1)).view(len(z), *self.patterns.shape[1:])


class Reader(nn.Module):
    """Logits of "none" and "spot": how bright the left spot is."""

    def __init__(self, dims: int = 2, steep: float = 4.0, outputs: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.eye = conv(1, 1, SIDE, bias=False).requires_grad_(False)
        self.eye.weight.copy_(patterns(dims)[:1] / patterns(dims)[0].numel())
        self.head = nn.Linear(1, outputs)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-steep / 2], [steep / 2]])[-outputs:])
            self.head.bias.copy_(torch.tensor([0.5, -0.5])[-outputs:] * steep / 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.eye(x).flatten(1))


def codes(count: int, seed: int, spot: bool | None = None) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(count, 4, generator=g) * torch.tensor([0.2, 0.3, 0.15, 0.1])
    has = torch.rand(count, generator=g) < 0.5 if spot is None else torch.full((count,), spot)
    z[:, 0] += has.float()
    return z


def pictures(count: int, seed: int, dims: int = 2, spot: bool | None = None, noise: float = 0.05) -> Tensor:
    g = torch.Generator().manual_seed(seed + 100)
    x = Painter(dims).decode(codes(count, seed, spot))
    return x + noise * torch.randn(x.shape, generator=g)


def cohort(dims: int = 2, count: int = 60) -> Cohort:
    x = pictures(count, 1, dims)
    has = Painter(dims).encode(x)[:, 0] > 0.5
    return Cohort(x, labels=has.long(), label_names=("none", "spot"))


def concepts(dims: int = 2) -> dict[str, Concept]:
    """Examples of the left spot, of the right spot and of stripes."""
    found = {}
    for at, name in ((0, "left spot"), (1, "right spot"), (3, "stripes")):
        z = codes(40, 10 + at)
        z[:, at] = 1.0
        found[name] = Concept(Painter(dims).decode(z))
    return found


def case(dims: int = 2, spot: bool = True) -> Tensor:
    return pictures(1, 5, dims, spot)
