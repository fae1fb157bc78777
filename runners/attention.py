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
from runners.rules import PLUS, Composite
from runners.targets import primary
from taxonomy.errors import TargetError


def _heads(weights: Tensor, batch: int) -> Tensor:
    """Bring recorded weights to ``(B, heads, N, N)``."""
    return weights.reshape(batch, -1, *weights.shape[-2:])


def _with_residual(mixed: Tensor) -> Tensor:
    """Count the residual connection as much as what a block mixes, ``(B, N, N)``; every row then sums to 1."""
    joint = mixed + torch.eye(mixed.shape[-1], device=mixed.device, dtype=mixed.dtype)
    return joint / joint.sum(-1, keepdim=True)


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
            matrices.append(_with_residual(joined))
        values, note = _onto_image(_rolled(matrices), profile, x)
    caution = "It does not depend on the target: it shows where information flows from, whatever label is asked for."
    return Found(values, (note,), (caution,), signed=False)


@explainer("raw_attention")
@torch.no_grad()
def raw_attention(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001
    *,
    block: int = -1,
    profile: Wired,
) -> Found:
    """Attention of one block, averaged over its heads, of the tokens that the score reads (arXiv 1706.03762).

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: not used; the map does not depend on the target.
        block: which block, from 0; negative numbers count from the last.
        profile: the wired profile.
    """
    mode = Attention()
    with mode:
        run(model, x.clone())
    count = len(mode.attentions)
    if not -count <= block < count:
        raise TargetError(
            f"raw_attention: block={block} was given; the model has {count} blocks, -{count} to {count - 1}"
        )
    values, note = _onto_image(_heads(mode.attentions[block], len(x)).mean(1), profile, x)
    caution = "It does not depend on the target, and attention of one block need not be what the answer rests on."
    return Found(values, (f"Block {block % count + 1} of {count}. {note}",), (caution,), signed=False)


def _attention_gradients(model: nn.Module, x: Tensor, score: Score) -> list[tuple[Tensor, Tensor | None]]:
    """Return the attention of each block and its gradient, None where the score does not depend on it."""
    _, entry = leaf(x)
    mode = Attention()
    with torch.enable_grad():
        with mode:
            outputs = run(model, entry)
        grads = torch.autograd.grad(score(outputs, torch.arange(len(x))).sum(), mode.attentions, allow_unused=True)
    return [(a.detach(), g) for a, g in zip(mode.attentions, grads, strict=True)]


def _weighted(model: nn.Module, x: Tensor, score: Score) -> list[Tensor]:
    """Return the attention of each block times its gradient ``(B, heads, N, N)``; zeros where the score ignores it."""
    return [
        _heads(torch.zeros_like(a) if g is None else a * g, len(x)) for a, g in _attention_gradients(model, x, score)
    ]


@explainer("gradient_attention_rollout")
def gradient_attention_rollout(model: nn.Module, x: Tensor, score: Score, *, profile: Wired) -> Found:
    """Attention rollout with the positive part of attention times its gradient in place of attention.

    Each block mixes tokens as half the residual connection and half that product, every row summing to 1, so that the
    rollout of arXiv 2005.00928 follows the explained score.

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the score.
        profile: the wired profile.
    """
    matrices = []
    for product in _weighted(model, x, score):
        mixed = product.mean(1).clamp(min=0)
        # gradients have any size: what a row hands on counts like its residual connection, as attention does there
        mixed = mixed / mixed.sum(-1, keepdim=True).clamp(min=torch.finfo(mixed.dtype).tiny)
        matrices.append(_with_residual(mixed))
    values, note = _onto_image(_rolled(matrices), profile, x)
    return Found(values, (note,), signed=False)


@explainer("generic_attention")
def generic_attention(model: nn.Module, x: Tensor, score: Score, *, profile: Wired) -> Found:
    """Attention times its gradient, positive part per head, accumulated through the blocks (arXiv 2103.15679).

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the score.
        profile: the wired profile.
    """
    products = _weighted(model, x, score)
    eye = torch.eye(products[0].shape[-1], device=x.device, dtype=x.dtype)
    values, note = _onto_image(_rolled([eye + one.clamp(min=0).mean(1) for one in products]), profile, x)
    return Found(values, (note,), signed=False)


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
    plain = _attention_gradients(model, x, score)
    _, entry = leaf(x)
    mode = Relevance(Composite(PLUS, PLUS, bias=False, affine=False))
    with torch.enable_grad():
        with mode:
            output = primary(run(model, entry))
        start = relevance_of(score, output, torch.arange(len(x)))
        # the size of the start only scales the map; its sign must not turn a negative logit around
        start = start.abs()
        relevances = torch.autograd.grad(output, mode.attentions, start, allow_unused=True)
    matrices = []
    for (weights, gradient), relevance in zip(plain, relevances, strict=True):
        eye = torch.eye(weights.shape[-1], device=x.device, dtype=x.dtype).expand(len(x), -1, -1)
        if gradient is None or relevance is None:  # an attention that the score does not depend on mixes nothing
            matrices.append(eye)
            continue
        matrices.append(eye + _heads(gradient * relevance, len(x)).clamp(min=0).mean(1))
    values, note = _onto_image(_rolled(matrices), profile, x)
    return Found(values.detach(), (note,), signed=False)
