"""What the benchmarks of perturbation explainers and metrics share."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.extend([str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")])

from toys import CNN, ViT

from runners import explainers, profile
from runners.gate import chosen_options

torch.set_num_threads(1)
CHUNK = 16
"""Images per model call of small networks, for us and for the peers."""


def _built(make: Callable[[], nn.Module], *shape: int) -> Callable[[], tuple[nn.Module, Tensor]]:
    def build() -> tuple[nn.Module, Tensor]:
        torch.manual_seed(0)
        return make().eval().requires_grad_(False), torch.randn(1, *shape).cumsum(-1).cumsum(-2) / 100

    return build


MODELS = {
    "cnn2d": _built(lambda: CNN(2, 3), 3, 224, 224),
    "vit": _built(lambda: ViT((224, 224), width=64, depth=4), 1, 224, 224),
    "cnn3d": _built(lambda: CNN(3), 1, 48, 48, 48),
}


class Counted(nn.Module):
    """Counts the images that go through a model, or through any copy of it."""

    rows = 0

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Count and pass on."""
        Counted.rows += len(x)
        return self.model(x)


def logit(outputs: Tensor, _rows: Tensor) -> Tensor:
    """The score that is explained."""
    return outputs[:, 1]


def usual(model: nn.Module, x: Tensor) -> int:
    """How many images the gate lets through this model at a time."""
    return int(chosen_options("rise", explainers["rise"], {}, x, profile(model, x))["batch_size"])


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """The median CPU time of a call on one thread, after one to warm up: a busy machine does not lengthen it."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


@torch.no_grad()
def bare(model: nn.Module, x: Tensor, rows: int, repeats: int) -> float:
    """The time of the model alone on that many rows, in the same chunks."""
    chunk = x.expand(CHUNK, *x.shape[1:]).contiguous()
    return median_seconds(lambda: model(chunk), max(repeats, 5)) * rows / CHUNK


def show(name: str, rows: int, ours: float, alone: float, peer: float | None, peer_rows: int | None) -> None:
    """Print one line of the table."""
    line = f"{name:28s} rows {rows:5d}  ours {ours:7.2f} s  ours/bare {ours / alone:5.2f}"
    print(line + (f"  peer rows {peer_rows:5d}  peer/ours {peer / ours:6.2f}" if peer else "  no peer"), flush=True)
