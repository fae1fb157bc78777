"""The vector by which a model describes an image: what its last linear layer reads, or its pooled deepest features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runners.models import Place, Wired, captured, find_place, run
from runners.modes import Codes
from runners.registry import Progress, no_progress
from runners.sized import Pictures, chunks
from taxonomy.errors import RequirementError
from taxonomy.requirements import Gap


def codes(model: nn.Module, x: Tensor) -> Tensor:
    """Return what the last linear layer of a model reads, ``(B, D)``."""
    with Codes() as seen:
        run(model, x.clone())
    assert seen.last is not None
    code: Tensor = seen.last.flatten(1)
    return code


@torch.no_grad()
def embedded(
    model: nn.Module,
    x: Pictures,
    profile: Wired,
    *,
    layer: str | None = None,
    batch_size: int = 16,
    progress: Progress = no_progress,
) -> Tensor:
    """Describe every image by a vector, ``(B, D)`` on the CPU, a chunk at a time.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``, or of several sizes.
        profile: What is known of the model.
        layer: A layer whose features are pooled over positions; None for what the last linear layer reads, or, where
            the model ends otherwise (segmentation), the layer that class activation maps use.
        batch_size: Images per model call.
        progress: Told the images done.

    Raises:
        RequirementError: no vector that describes the whole image is found.
        ModelError: the named layer has no features.
    """
    linear = layer is None and "embedding" in profile.has
    if not linear and layer is None and profile.place is None:
        raise RequirementError("embedding", [Gap("embedding", "no vector that describes the whole image was found.")])
    place = None if linear else find_place(profile, layer)[0]
    found = []
    done = 0
    for part in chunks(x, batch_size):
        found.append((codes(model, part) if place is None else pooled(model, part, place)).float().cpu())
        done += len(part)
        progress(done, len(x))
    return torch.cat(found)


def pooled(model: nn.Module, x: Tensor, place: Place) -> Tensor:
    """Return the mean of the features of a place over its positions, ``(B, D)``."""
    with captured(model, place) as kept:
        run(model, x.clone())
    return place.fold(kept[-1]).flatten(2).mean(2)


def embedding_note(profile: Wired, layer: str | None = None) -> str:
    """Say what the vector is."""
    if layer is None and "embedding" in profile.has:
        return "Embedding: what the last linear layer reads."
    place, _ = find_place(profile, layer)
    return f"Embedding: {place.text()}, averaged over positions."
