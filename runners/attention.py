"""Methods that read the attention of transformers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least
from runners.joint import prompted
from runners.models import Place, Wired, captured, leaf, replaced, run, unwrap, upsample
from runners.modes import Attention, Relevance, Values, detached, read_by, scores_of
from runners.registry import Found, Progress, Score, explainer
from runners.relevance import relevance_of
from runners.rules import WITHOUT_BIAS
from runners.targets import primary
from taxonomy.errors import ModelError, RequirementError, TargetError
from taxonomy.requirements import Gap


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


def _read(wired: Wired) -> list[int]:
    """Positions of the tokens that the score reads."""
    return list(wired.readout) or list(range(wired.prefix + math.prod(wired.token_grid or ())))


def _onto_image(joint: Tensor, wired: Wired, x: Tensor) -> tuple[Tensor, str]:
    """Read the row of the tokens that the score reads, and lay its image tokens onto the image."""
    read = _read(wired)
    how = "read from the class token" if read == [0] else f"averaged over the {len(read)} tokens that the score reads"
    return _laid(joint[:, read].mean(1), wired, x, how)


def _laid(row: Tensor, wired: Wired, x: Tensor, how: str) -> tuple[Tensor, str]:
    """Lay one value per token ``(B, N)`` onto the image, and say ``how`` they came about."""
    grid = wired.token_grid or ()
    maps = row[:, wired.prefix :].reshape(len(x), *grid)
    shape = "×".join(map(str, grid))
    note = f"Attention of {wired.blocks} blocks over {shape} image tokens and {wired.prefix} other tokens, {how}."
    return upsample(maps, tuple(x.shape[2:])), note


@explainer("attention_rollout", looks_first=True)
def attention_rollout(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    heads: str = "mean",
    discard: float = 0.0,
    profile: Wired,
) -> Found:
    """Attention multiplied through the blocks, the residual connection counted as half (arXiv 2005.00928).

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the map does not depend on it.
        heads: how heads are joined: mean, max or min.
        discard: share of the weakest attention to drop in each row, 0 to 0.99.
        profile: the wired profile.
    """
    if heads not in ("mean", "max", "min"):
        raise TargetError(f"attention_rollout: heads={heads!r} was given; mean, max or min is allowed")
    with torch.no_grad():
        mode = Attention()
        with mode:
            score(run(model, x.clone()), torch.arange(len(x)))
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


@explainer("raw_attention", looks_first=True)
@torch.no_grad()
def raw_attention(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    block: int = -1,
    profile: Wired,
) -> Found:
    """Attention of one block, averaged over its heads, of the tokens that the score reads (arXiv 1706.03762).

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the map does not depend on it.
        block: which block, from 0; negative numbers count from the last.
        profile: the wired profile.
    """
    mode = Attention()
    with mode:
        score(run(model, x.clone()), torch.arange(len(x)))
    count = len(mode.attentions)
    if not -count <= block < count:
        raise TargetError(
            f"raw_attention: block={block} was given; the model has {count} blocks, -{count} to {count - 1}"
        )
    values, note = _onto_image(_heads(mode.attentions[block], len(x)).mean(1), profile, x)
    caution = "It does not depend on the target, and attention of one block need not be what the answer rests on."
    return Found(values, (f"Block {block % count + 1} of {count}. {note}",), (caution,), signed=False)


def _attention_gradients(
    model: nn.Module, x: Tensor, score: Score, rows: Tensor | None = None
) -> list[tuple[Tensor, Tensor | None]]:
    """Return the attention of each block and its gradient, None where the score does not depend on it."""
    rows = torch.arange(len(x)) if rows is None else rows
    _, entry = leaf(x)
    mode = Attention()
    with torch.enable_grad():
        with mode:
            outputs = run(model, entry)
        grads = torch.autograd.grad(score(outputs, rows).sum(), mode.attentions, allow_unused=True)
    return [(detached(a), g) for a, g in zip(mode.attentions, grads, strict=True)]


def _weighted(model: nn.Module, x: Tensor, score: Score) -> list[Tensor]:
    """Return the attention of each block times its gradient ``(B, heads, N, N)``; zeros where the score ignores it."""
    return [
        _heads(torch.zeros_like(a) if g is None else a * g, len(x)) for a, g in _attention_gradients(model, x, score)
    ]


@explainer("gradient_attention_rollout", looks_first=True)
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


@explainer("generic_attention", looks_first=True)
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


@explainer("chefer_lrp", looks_first=True)
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
    mode = Relevance(WITHOUT_BIAS)
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


@explainer("grad_sam", looks_first=True)
def grad_sam(model: nn.Module, x: Tensor, score: Score, *, profile: Wired) -> Found:
    """Attention times the positive part of its gradient, averaged over blocks, heads and tokens (arXiv 2204.11073).

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the score.
        profile: the wired profile.
    """
    products = [one.clamp(min=0).mean((1, 2)) for one in _weighted(model, x, score)]  # attention is never negative
    values, note = _laid(torch.stack(products).mean(0), profile, x, "averaged over all tokens that attend")
    return Found(values, (note,), signed=False)


@explainer("ag_cam", looks_first=True)
def ag_cam(model: nn.Module, x: Tensor, score: Score, *, profile: Wired) -> Found:
    """Attention Guided CAM: positive gradients of attention times its sigmoid scores, summed (arXiv 2402.04563).

    Of every block the row of the class token counts, or of the tokens that the score reads; what attention is the
    softmax of goes through a sigmoid instead, so that one peak does not hide all else.

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the score.
        profile: the wired profile.
    """
    joint = x.new_zeros(())
    for weights, gradient in _attention_gradients(model, x, score):
        if gradient is not None:
            joint = joint + _heads(gradient.clamp(min=0) * scores_of(weights).sigmoid(), len(x)).sum(1)
    values, note = _onto_image(joint, profile, x)
    return Found(values, (note,), signed=False)


@explainer("grad_eclip", looks_first=True)
def grad_eclip(model: nn.Module, x: Tensor, score: Score, *, profile: Wired) -> Found:
    """Grad-ECLIP: the last block's values weighed by the gradient of the image-text score (ICML 2024, Zhao).

    Each token counts its values times the gradient of what attention hands to the token that the score reads, positive
    part; and how alike its key is to that token's query, from 0 for the least to 1 for the most alike, in place of
    attention, which is too sparse. Heads are kept apart as the model has them; the published code joins them into one.

    Args:
        model: an image tower read through texts, with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: of one prompt.
        profile: the wired profile.
    """
    rows = torch.arange(len(x))
    _, entry = leaf(x)
    mode = Attention()
    with torch.enable_grad():
        with mode:
            outputs = run(model, entry)
        weights = mode.attentions[-1]
        # what attention hands over is linear in its weights: their gradient is values times gradient, summed
        (grad,) = torch.autograd.grad(score(outputs, rows).sum(), weights)
    read = _read(profile)
    carried = _heads(grad, len(x)).sum(1)[:, read]
    known = read_by(weights)
    if known is None:
        alike = _heads(scores_of(weights).detach(), len(x)).sum(1)[:, read]
        how = "likeness from the scores before the softmax, as queries and keys cannot be had"
    else:
        query, key = (t.detach().movedim(1, 2).flatten(2) for t in known)
        alike = F.normalize(query[:, read], dim=-1) @ F.normalize(key, dim=-1).mT
        how = "likeness from queries and keys"
    seen = alike[..., profile.prefix :]
    low, high = seen.amin(-1, keepdim=True), seen.amax(-1, keepdim=True)
    alike = ((alike - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    values, note = _laid((carried * alike).mean(1).clamp(min=0), profile, x, f"of the last block only, {how}")
    return Found(values.detach(), (note,), signed=False)


@explainer("clip_surgery")
@torch.no_grad()
def clip_surgery(model: nn.Module, x: Tensor, score: Score, *, depth: int = 6, profile: Wired) -> Found:
    """CLIP Surgery: how alike each token is to the text, its relations to other tokens set right (arXiv 2304.05653).

    Beside the model's own path a second one is led through the last blocks: their attention takes values for queries
    and keys, so that a token reads what is like it, and their feed-forward parts are left out. The model's own end
    reads each of its tokens as it would the class token. What all prompts share is taken off: each prompt counts as it
    does for the whole image (softmax of twice the cosine, over its mean), and the mean over prompts goes. Published
    code scales each map to 0 to 1; here it keeps its sign.

    Args:
        model: an image tower read through texts, from its class token, with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: of one prompt, or of several.
        depth: last blocks that the second path is led through; all where there are fewer.
        profile: the wired profile.
    """
    at_least(1, depth=depth)
    blocks, reads = _steps(model, profile)[-depth:], prompted(model)
    if not blocks or reads is None or list(profile.readout) != [0]:
        raise _no_surgery("its answer is not read from the class token of one row of blocks.")
    scale, maps = float(reads.scale), []
    for row in range(len(x)):
        own, tokens = _led_beside(model, x[row : row + 1], blocks, profile)
        whole = primary(own)[:1] / scale
        weights = (2 * whole).softmax(1)
        alike = primary(tokens) / scale * (weights / weights.mean(1, keepdim=True))
        told = scale * (alike - alike.mean(1, keepdim=True))
        maps.append(score(told, torch.full((len(told),), row)).detach())
    values, note = _laid(torch.stack(maps), profile, x, "each read by the model's own end as its class token is")
    led = f"A second path through the last {len(blocks)} blocks: values attend to values, no feed-forward parts."
    caution = (
        "It shows where the image is more like this prompt than like the others: other prompts give another map, and "
        "what the model's answer rests on may lie elsewhere, as its own path is not the one shown."
    )
    return Found(values, (note, led), (caution,))


def _no_surgery(why: str) -> RequirementError:
    return RequirementError("clip_surgery", [Gap("attention_weights", why)])


def _led_beside(model: nn.Module, x: Tensor, blocks: Sequence[Place], profile: Wired) -> tuple[Any, Any]:
    """Return the outputs on an image ``(1, C, *spatial)``, and those on each token of the second path, ``(N, P)``.

    Raises:
        RequirementError: attention cannot be changed, or the model's end does not take tokens as a batch.
    """
    whole = unwrap(model)
    inside = [whole.get_submodule(place.name) for place in blocks]
    start: list[Tensor] = []
    calls: list[tuple[nn.Module, Any, dict[str, Any]]] = []
    seen: list[int] = []
    mode = Attention()

    def entered(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        start.append((args[0] if args else kwargs["hidden_states"]).clone())

    def before(_module: nn.Module, _args: Any) -> None:
        seen.append(len(mode.attentions))

    def after(module: nn.Module, args: Any, kwargs: dict[str, Any], _output: Any) -> None:
        if len(mode.attentions) > seen.pop():
            calls.append((module, args, kwargs))

    parts = [part for block in inside for part in block.children()]
    hooks = [inside[0].register_forward_pre_hook(entered, with_kwargs=True)]
    hooks += [part.register_forward_pre_hook(before) for part in parts]
    hooks += [part.register_forward_hook(after, with_kwargs=True) for part in parts]
    try:
        with mode:
            own = run(model, x.clone())
    finally:
        for hook in hooks:
            hook.remove()
    path, changed = start[0], Values()
    with changed:
        for module, args, kwargs in calls:
            added = module(*args, **kwargs)
            path = path + (added[0] if isinstance(added, tuple) else added)
    if len(calls) != len(blocks) or changed.changed != len(calls):
        raise _no_surgery("its attention is written in a way that cannot be changed from outside.")
    rows = path.transpose(0, 1) if blocks[-1].layout == "tokens_first" else path
    rows = rows.movedim(0, 1)  # each token as a row, where the class token stands
    rows = rows.transpose(0, 1) if blocks[-1].layout == "tokens_first" else rows
    try:
        with replaced(model, blocks[-1], lambda: rows):
            tokens = run(model, x.clone())
    except ModelError as error:
        raise _no_surgery("its end does not take tokens as a batch.") from error
    if len(primary(tokens)) != profile.prefix + math.prod(profile.token_grid or ()):
        raise _no_surgery("its end does not take tokens as a batch.")
    return own, tokens


def _steps(model: nn.Module, wired: Wired) -> list[Place]:
    """Return the outputs of the transformer blocks: siblings in one list, as many as there are attentions.

    The last of them is no place of the profile where only its class token is read.
    """
    for place in sorted(wired.places, key=lambda place: place.name.count(".")):  # the outermost
        parent, _, number = place.name.rpartition(".")
        if number != "0" or not place.layout.startswith("tokens") or place.grid != wired.token_grid:
            continue
        siblings = dict(unwrap(model).get_submodule(parent).named_children())
        whole = all(len(list(one.children())) for one in siblings.values())  # a block, not a layer of one
        if len(siblings) == wired.blocks and whole:
            return [replace(place, name=f"{parent}.{name}") for name in siblings]
    return []


@explainer("legrad")
def legrad(model: nn.Module, x: Tensor, score: Score, *, profile: Wired) -> Found:
    """LeGrad: positive gradients of each block's own score with respect to its attention, averaged (arXiv 2404.03214).

    The score of a block is what the model's own end makes of its tokens when they skip the blocks after it.

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the score.
        profile: the wired profile.
    """
    blocks, rows = _steps(model, profile), torch.arange(len(x))
    total = x.new_zeros(())
    if blocks:
        how = "the score of each block read by the model's own end"
        for number, place in enumerate(blocks):
            _, entry = leaf(x)
            mode = Attention()
            last = number == len(blocks) - 1
            with torch.enable_grad():
                with captured(model, place) as kept, contextlib.ExitStack() as stack:
                    if not last:
                        stack.enter_context(replaced(model, blocks[-1], lambda kept=kept: kept[-1]))  # type: ignore[misc]
                    with mode:
                        outputs = run(model, entry)
                (grad,) = torch.autograd.grad(score(outputs, rows).sum(), mode.attentions[number])
            total = total + _heads(grad, len(x)).clamp(min=0).mean((1, 2))
    else:
        how = "by the final score for all blocks, as no blocks were found that can be skipped"
        for weights, gradient in _attention_gradients(model, x, score):
            found = torch.zeros_like(weights) if gradient is None else gradient
            total = total + _heads(found, len(x)).clamp(min=0).mean((1, 2))
    values, note = _laid(total / profile.blocks, profile, x, how)
    return Found(values, (note,), signed=False)


@explainer("beyond_intuition", looks_first=True)
def beyond_intuition(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 20,
    start: float = 0.25,
    batch_size: int = 8,
    profile: Wired,
    progress: Progress,
) -> Found:
    """Bidirectional transformer attribution, head-wise (openreview.net/forum?id=rm0zIzlhcX).

    Perception rolls attention out, each head weighed by the size of the product of its attention and its gradient.
    Feedback is the gradient of the last block's attention, averaged while the image is faded in from zero.

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the score; its gradient is taken as it is, not that of a probability.
        steps: images from zero to the image.
        start: share of the blocks, from the first, that perception leaves out.
        batch_size: model rows at a time.
        profile: the wired profile.
        progress: told after every chunk.
    """
    if not 0 <= start < 1:
        raise TargetError(f"beyond_intuition: start={start} was given; 0 to below 1 is allowed")
    recorded = _attention_gradients(model, x, score)
    eye = torch.eye(recorded[0][0].shape[-1], device=x.device, dtype=x.dtype).expand(len(x), -1, -1)
    joint = eye
    for weights, gradient in recorded[int(start * len(recorded)) :]:
        if gradient is None:  # an attention that the score does not depend on mixes nothing
            continue
        own, back = _heads(weights, len(x)), _heads(gradient, len(x))
        size = (own.transpose(-2, -1) @ back).abs().mean((2, 3), keepdim=True)
        share = size / size.sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        joint = joint + (share * own).sum(1) @ joint
    feedback = torch.zeros_like(_heads(recorded[-1][0], len(x)))
    for index in torch.split(torch.arange(steps * len(x)), batch_size):
        rows, faded = index % len(x), (index // len(x)) / max(steps - 1, 1)
        inputs = x[rows] * faded.to(x).view(-1, *[1] * (x.ndim - 1))
        _, gradient = _attention_gradients(model, inputs, score, rows)[-1]
        if gradient is not None:
            feedback.index_add_(0, rows.to(x.device), _heads(gradient, len(rows)))
        progress(int(index[-1]) + 1, steps * len(x))
    values, note = _onto_image(joint * (feedback / steps).clamp(min=0).mean(1), profile, x)
    return Found(values, (note,), signed=False)


MANY = 0.25
"""Above this share of places with the largest flow a caution is given."""
UNITS = 1_000_000
"""Whole units of flow that stand for an attention of 1."""


@explainer("attention_flow", looks_first=True)
@torch.no_grad()
def attention_flow(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    tokens: int = 200,
    profile: Wired,
    progress: Progress,
) -> Found:
    """Largest flow from each token through the blocks, attention as capacity (arXiv 2005.00928).

    The flow runs from one image token to the tokens that the score reads, through edges as wide as the attention
    between two tokens, residual connections counted as half; it is exact. Larger grids are first merged to cells of
    neighbouring tokens, which attend to each other as their tokens do on average: an approximation.

    Args:
        model: a transformer with one token sequence through all blocks.
        x: ``(B, C, *spatial)``.
        score: the map does not depend on it.
        tokens: largest number of image tokens, or of cells of them, between which flows are computed.
        profile: the wired profile.
        progress: told after every image.
    """
    mode = Attention()
    with mode:
        score(run(model, x.clone()), torch.arange(len(x)))
    grid = profile.token_grid or ()
    cells, side = _cells(grid, tokens)
    belongs = torch.cat([torch.arange(profile.prefix), profile.prefix + _cell_of(grid, side).flatten()])
    number = profile.prefix + math.prod(cells)
    member = torch.nn.functional.one_hot(belongs, number).double()
    average = member / member.sum(0)
    read = sorted({int(belongs[position]) for position in _read(profile)})
    maps = []
    blocks = [_with_residual(_heads(weights, len(x)).mean(1)).double().cpu() for weights in mode.attentions]
    for image in range(len(x)):
        capacities = [(average.T @ block[image] @ member).numpy() for block in blocks]
        maps.append(_flows(capacities, range(profile.prefix, number), read))
        progress(image + 1, len(x))
    flows = torch.from_numpy(np.array(maps)).to(x).view(len(x), *cells)
    merged = f", merged to {'×'.join(map(str, cells))} cells" if side > 1 else ""
    note = (
        f"Flow through {profile.blocks} blocks from {'×'.join(map(str, grid))} image tokens{merged}, "
        f"to the {len(read)} {'cells' if side > 1 and len(read) > 1 else 'tokens'} that the score reads."
    )
    cautions = ["It does not depend on the target: it shows how much could flow from a place, whatever label is asked."]
    if side > 1:
        cautions.append(
            "Tokens were merged: the map is approximate and coarser than the grid (a larger limit takes longer)."
        )
    full = float((flows >= (1 - 1e-4) * flows.flatten(1).amax(1).view(-1, *[1] * len(cells))).float().mean())
    if full > MANY:
        cautions.append(f"{full:.0%} of the places reach the largest flow that can arrive and cannot be told apart.")
    return Found(upsample(flows, tuple(x.shape[2:])), (note,), tuple(cautions), signed=False)


def _cells(grid: tuple[int, ...], most: int) -> tuple[tuple[int, ...], int]:
    """Return the grid of cells with at most ``most`` of them, and how many tokens a cell spans on each axis."""
    if most < 1:
        raise TargetError(f"attention_flow: tokens={most} was given; it must be at least 1")
    side = 1
    while math.prod(-(-length // side) for length in grid) > most:
        side += 1
    return tuple(-(-length // side) for length in grid), side


def _cell_of(grid: tuple[int, ...], side: int) -> Tensor:
    """Return which cell each token belongs to, in row-major order."""
    found = torch.zeros(grid, dtype=torch.long)
    for axis, length in enumerate(grid):
        at = torch.arange(length).view([-1 if d == axis else 1 for d in range(len(grid))]) // side
        found = found * -(-length // side) + at
    return found


def _flows(capacities: Sequence[np.ndarray], sources: Sequence[int], read: Sequence[int]) -> list[float]:
    """Return the largest flow from each source in front of the first block to what is read behind the last.

    ``capacities[l][i, j]`` is how much token ``i`` behind block ``l`` takes from token ``j`` in front of it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    count, depth = len(capacities[0]), len(capacities)
    taken, given = (index.ravel() for index in np.indices((count, count)))
    begins = np.concatenate([layer * count + given for layer in range(depth)])
    ends = np.concatenate([(layer + 1) * count + taken for layer in range(depth)])
    wide = np.concatenate([np.rint(matrix.ravel() * UNITS) for matrix in capacities])
    sink = (depth + 1) * count
    begins = np.concatenate([begins, [depth * count + token for token in read]])
    ends = np.concatenate([ends, [sink] * len(read)])
    wide = np.concatenate([wide, [2**30] * len(read)]).astype(np.int32)
    graph = coo_array((wide, (begins, ends)), shape=(sink + 1, sink + 1)).tocsr()
    return [maximum_flow(graph, source, sink).flow_value / UNITS for source in sources]
