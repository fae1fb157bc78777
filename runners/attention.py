"""Methods that read the attention of transformers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from runners.cams import upsample
from runners.models import Wired, leaf, run
from runners.modes import Attention, Relevance
from runners.registry import Found, Score, explainer
from runners.relevance import relevance_of
from runners.targets import primary
from taxonomy.errors import TargetError


def _heads(weights: Tensor, batch: int) -> Tensor:
    """Bring recorded weights to ``(B, heads, N, N)``."""
    return weights.reshape(batch, -1, *weights.shape[-2:])


def _rolled(matrices: Sequence[Tensor]) -> Tensor:
    """Multiply the blocks' token mixing matrices ``(B, N, N)``, first block first."""
    joint = matrices[0]
    for matrix in matrices[1:]:
        joint = matrix @ joint
    return joint


def _onto_image(joint: Tensor, wired: Wired, x: Tensor) -> tuple[Tensor, str]:
    """Read the row of the tokens that the score reads, and lay its image tokens onto the image."""
    grid = wired.token_grid or ()
    total = wired.prefix + math.prod(grid)
    read = list(wired.readout) or list(range(total))
    how = "read from the class token" if read == [0] else f"averaged over the {len(read)} tokens that the score reads"
    row = joint[:, read].mean(1)[:, wired.prefix :]
    maps = row.reshape(len(x), *grid)
    shape = "×".join(map(str, grid))
    note = f"Attention of {wired.blocks} blocks over {shape} image tokens and {wired.prefix} other tokens, {how}."
    return upsample(maps, tuple(x.shape[2:])), note


@explainer("attention_rollout")
def attention_rollout(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001
    *,
    heads: str = "mean",
    discard: float = 0.0,
    profile: Wired,
) -> Found:
    """Attention multiplied through the blocks, the residual connection counted as half (arXiv 2005.00928).

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: not used; the map does not depend on the target.
        heads: how heads are joined: mean, max or min.
        discard: share of the weakest attention to drop in each row, 0 to 0.99.
        profile: the wired profile.
    """
    if heads not in ("mean", "max", "min"):
        raise TargetError(f"attention_rollout: heads={heads!r} was given; mean, max or min is allowed")
    with torch.no_grad():
        mode = Attention()
        with mode:
            run(model, x.clone())
        matrices = []
        for weights in mode.attentions:
            per_head = _heads(weights, len(x))
            joined = {"mean": per_head.mean(1), "max": per_head.amax(1), "min": per_head.amin(1)}[heads]
            if discard > 0:
                floor = joined.quantile(min(discard, 0.99), dim=-1, keepdim=True)
                joined = torch.where(joined < floor, 0.0, joined)
            mixed = joined + torch.eye(joined.shape[-1], device=joined.device, dtype=joined.dtype)
            matrices.append(mixed / mixed.sum(-1, keepdim=True))
        values, note = _onto_image(_rolled(matrices), profile, x)
    caution = "It does not depend on the target: it shows where information flows from, whatever label is asked for."
    return Found(values, (note,), (caution,), signed=False)


@explainer("chefer_lrp")
def chefer_lrp(model: nn.Module, x: Tensor, score: Score, *, profile: Wired) -> Found:
    """Transformer relevance: attention gradients times attention relevance, rolled out (arXiv 2012.09838).

    Relevance follows the z-plus rule for linear layers; normalisation, activations and softmax pass it on; the sum of
    two
    branches is shared in proportion; products of activations share it half and half.

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the score.
        profile: the wired profile.
    """
    rows = torch.arange(len(x))
    _, entry = leaf(x)
    plain = Attention()
    with torch.enable_grad():
        with plain:
            outputs = run(model, entry)
        gradients = torch.autograd.grad(score(outputs, rows).sum(), plain.attentions, allow_unused=True)
    del outputs
    _, entry = leaf(x)
    mode = Relevance("transformer")
    with torch.enable_grad():
        with mode:
            output = primary(run(model, entry))
        start = relevance_of(score, output, rows)
        # the size of the start only scales the map; its sign must not turn a negative logit around
        start = start.abs()
        relevances = torch.autograd.grad(output, mode.attentions, start, allow_unused=True)
    matrices = []
    for gradient, relevance, weights in zip(gradients, relevances, plain.attentions, strict=True):
        eye = torch.eye(weights.shape[-1], device=x.device, dtype=x.dtype).expand(len(x), -1, -1)
        if gradient is None or relevance is None:  # an attention that the score does not depend on mixes nothing
            matrices.append(eye)
            continue
        matrices.append(eye + _heads(gradient * relevance, len(x)).clamp(min=0).mean(1))
    values, note = _onto_image(_rolled(matrices), profile, x)
    return Found(values.detach(), (note,), signed=False)
