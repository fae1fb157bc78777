"""What the tests of metrics share: models with known answers and a way to run a metric without the gate."""

import torch
from torch import nn

from runners.models import profile, randomise, twin_of
from runners.registry import injected, no_progress, parameters, seeded

SHAPES = [(3, 2, 10, 13), (3, 1, 6, 7, 5)]


class Linear(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, generator=seeded(1)), requires_grad=False)

    def forward(self, x):
        return (x * self.weight).flatten(1).sum(1, keepdim=True)


class Net(nn.Module):
    """Declares its layers in another order than it runs them and counts its rows."""

    def __init__(self, channels: int = 1, dims: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.head = nn.Linear(6, 4)
            self.second = conv(6, 6, 3, padding=1)
            self.first = conv(channels, 6, 3, padding=1)
        self.requires_grad_(False)
        self.rows = self.largest = 0

    def forward(self, x):
        self.rows += len(x)
        self.largest = max(self.largest, len(x))
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))).flatten(2).amax(2)) * 5


def score(outputs, _rows):
    return outputs[:, 0]


def confidence(outputs, _rows):
    """That of another output, which falls when images are blurred."""
    return outputs[:, -1].sigmoid()


def decision(outputs, rows):
    return (score(outputs, rows) > -5.8).float()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(5))


def gradients_by_channel(model, x, score=score):
    """A plain input-times-gradient explanation ``(B, C, *spatial)``."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(score(model(x), torch.arange(len(x))).sum(), x)[0].mul(x).detach()


def gradients(model, x, score=score):
    return gradients_by_channel(model, x, score).sum(1)


def again_on(model):
    own, usual = model, score

    def explain_again(x, model=own, *, score=usual):
        return gradients(model, x, score)

    return explain_again


def members(model, count=2):
    """Models built alike, with other weights."""
    found = [twin_of(model) for _ in range(count)]
    for number, member in enumerate(found):
        randomise(list(member.parameters()), seeded(50 + number))
    return tuple(found)


def run(function, model, x, values, seed=0, **given):
    """Call a metric as the gate does, with what it asks for."""
    wanted = {*injected(function), *parameters(function)}
    extra = {
        "generator": seeded(seed),
        "progress": no_progress,
        "explain_again": again_on(model),
        "spacing": None,
        "others": tuple(lambda outputs, _rows, k=k: outputs[:, k] for k in range(1, 4)),
        "settings": {},
        # the same images, something taken out of the mask
        "reference": x.where(~mask_of(x)[:, None], 0.5 * x - 0.3) if "reference" in wanted else None,
        "members": members(model) if "members" in wanted else (),
        "confidence": confidence,
        "decision": decision,
        "channels": gradients_by_channel(model, x) if "channels" in wanted and "channels" not in given else None,
        "profile": profile(model, x) if "profile" in wanted and "profile" not in given else None,
    } | given
    return function(model, x, score, values, **{k: v for k, v in extra.items() if k in wanted})


def mask_of(x):
    mask = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
    mask[:, 2:5, 1:4] = True
    return mask
