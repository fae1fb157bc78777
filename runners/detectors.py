"""Methods made for detectors: one map for one box."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runners.cams import hirescam
from runners.models import Wired
from runners.perturbation import rise
from runners.registry import Found, Progress, Score, explainer


@explainer("d_rise")
@torch.no_grad()
def d_rise(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    masks: int = 1000,
    cells: int = 16,
    probability: float = 0.5,
    baseline: str = "black",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """D-RISE: how well a box is found again under random masks, as a map (arXiv 2006.03204).

    The score of a box is already its likeness to what is found (see ``runners.detection``). The level that all masks
    share is taken away, as in :func:`runners.perturbation.rise`.

    Args:
        model: A detector.
        x: Images ``(B, C, *spatial)``.
        score: The likeness of the box, one number per output row.
        masks: Number of masks, at least 2; the paper takes 5000.
        cells: Cells per axis of the random grid.
        probability: Chance of a cell to be visible.
        baseline: What is seen where the mask is 0 (:data:`runners.baselines.BASELINES`).
        batch_size: Masked images per model call.
        progress: Told the model rows done.
        generator: Draws grids and shifts.
    """
    return rise(
        model,
        x,
        score,
        masks=masks,
        cells=cells,
        probability=probability,
        baseline=baseline,
        batch_size=batch_size,
        progress=progress,
        generator=generator,
    )


@explainer("odam")
def odam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """ODAM: features times the gradient of one box's score at each position, positive part (arXiv 2304.06354).

    Parameters as in :func:`grad_cam`.
    """
    return hirescam(model, x, score, layer=layer, profile=profile)
