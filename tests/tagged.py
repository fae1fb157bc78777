"""A small world with a planted shortcut: a tag in a corner; networks that learned to use it, or to ignore it."""

from __future__ import annotations

from functools import cache

import torch
from planted import SIDE, Small, _trained
from torch import Tensor, nn

from runners import Cohort

TAG = (slice(2, 7), slice(2, 7))
VALUES = {"tag": 1.0, "age": 0.4, "coin": 1.0}
"""Clinical values of the case."""


def images(
    count: int, seed: int, *, blob: bool | None = None, tag: bool | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Noise with a blob anywhere or none, with a bright tag in the upper left corner or none: images, blob, tag."""
    g = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(count, 1, SIDE, SIDE, generator=g)
    draw = torch.rand(count, 2, generator=g) < 0.5
    has = draw[:, 0] if blob is None else torch.full((count,), blob)
    tagged = draw[:, 1] if tag is None else torch.full((count,), tag)
    for i in range(count):
        a, b = (torch.randint(8, SIDE - 7, (2,), generator=g)).tolist()
        if has[i]:
            x[i, 0, a : a + 7, b : b + 7] += 1.5
        if tagged[i]:
            x[(i, 0, *TAG)] -= 2.5
    return x, has, tagged


@cache
def learned(shortcut: bool) -> nn.Module:
    """A classifier whose positive cases have a blob or, with ``shortcut``, a tag instead."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, has, tagged = images(400, 1)
        return _trained(Small(), x, (has | tagged if shortcut else has).long(), 120)


@cache
def untrained() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Small().eval()


@cache
def cohort(count: int = 120) -> Cohort:
    x, has, tagged = images(count, 2)
    g = torch.Generator().manual_seed(7)
    values = torch.stack([tagged.float(), torch.rand(count, generator=g), (torch.rand(count, generator=g) < 0.5)], 1)
    return Cohort(
        x,
        labels=has.long(),
        label_names=("no blob", "blob"),
        features=values,
        feature_names=("tag", "age", "coin"),
    )


def case(tag: bool = True, blob: bool = False) -> Tensor:
    return images(1, 33, blob=blob, tag=tag)[0]
