"""Methods made for image retrieval: what makes two images alike to the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runners.perturbation import occlusion
from runners.registry import Found, Progress, Score, explainer


@explainer("occlusion_similarity_saliency")
@torch.no_grad()
def occlusion_similarity_saliency(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Slide a window over the image and record how far its likeness to another image falls.

    The score is the likeness of a ``Similarity`` target (10.1109/WACV51458.2022.00161).

    Parameters as in :func:`occlusion`.
    """
    return occlusion(
        model,
        x,
        score,
        window=window,
        stride=stride,
        baseline=baseline,
        batch_size=batch_size,
        progress=progress,
        generator=generator,
    )
