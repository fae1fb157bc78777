"""Multi-sequence: does the map give each input channel (MR sequence, energy, stain) what it is worth to the model?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runners.asking import ask, at_least, which
from runners.baselines import baseline as content
from runners.measures.common import undefined
from runners.registry import MetricResult, Progress, Score, metric
from runners.sequences import channel_shapley
from taxonomy.errors import TargetError


@metric("msfi")
def msfi(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    importance: str = "",
    baseline: str = "mean",
    batch_size: int = 16,
    mask: Tensor,
    channels: Tensor | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Return the share of each channel's map inside the mask, weighted by the channel's importance: higher is better.

    From evaluating_explainable_ai_2022, with two differences: the paper's importance is the Shapley value of a channel
    for the accuracy on a labelled test set (give it as ``importance`` if it is known), here it is that for the
    explained score of this very image; and the paper's mask may differ between channels, here it is one for all. As in
    the authors' code the importance is brought to 0..1, so the least important channel has no weight.

    Args:
        model: Network in eval mode, asked about every subset of the channels.
        x: Images ``(B, C, *spatial)``, 2 to 10 channels.
        score: One number per output row.
        values: Maps ``(B, *spatial)``; taken for every channel where the method tells none apart, as in the paper.
        importance: One number per channel, with commas, instead of the Shapley values; no model pass is needed then.
        baseline: What an absent channel shows — black, white, mean, blur, noise or zero.
        batch_size: Changed images per model call.
        mask: The feature that the channels show, bool ``(B, *spatial)``.
        channels: Maps ``(B, C, *spatial)``, or None.
        progress: Told the model rows done.
        generator: Of the noise baseline.

    Returns:
        ``score`` in [0, 1]; NaN for a single channel, or where no channel that counts has a positive value.

    Raises:
        TargetError: a parameter is out of range, or there are too many channels.
    """
    count = x.shape[1]
    if count == 1:
        return _single(x)
    if importance:
        worth = _given(importance, count).expand(len(x), count)
        told = "importance as given"
    else:
        worth = channel_shapley(model, x, score, baseline, batch_size, progress, generator)
        told = f"importance from the Shapley values of the channels for the score, absent ones showing {baseline}"
    low, high = worth.amin(1, keepdim=True), worth.amax(1, keepdim=True)
    weight = ((worth - low) / (high - low)).where(high > low, 1.0).to(values.device)  # all alike: all count
    maps = values[:, None].expand(-1, count, *values.shape[1:]) if channels is None else channels
    mass = maps.flatten(2).double().clamp_min(0)
    total = mass.sum(2)
    share = (mass * mask.flatten(1)[:, None]).sum(2) / total
    weight = weight.where(total > 0, 0.0)
    found = (share.nan_to_num() * weight).sum(1) / weight.sum(1)
    notes = [f"{told}; weights of the channels: {_rows(weight)}."]
    if channels is None:
        notes.append("the method gives one map for all channels: it was taken for each of them.")
    return MetricResult(found.float(), notes=(*notes, *undefined(found, "no channel that counts has a positive value")))


@metric("modality_shapley")
def modality_shapley(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    importance: str = "",
    baseline: str = "mean",
    batch_size: int = 16,
    channels: Tensor | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Compare the order of the channels in the map with that of their Shapley values: Kendall's tau, higher is better.

    From evaluating_explainable_ai_2022; the importance is that for the explained score of this image unless it is
    given, see :func:`msfi`. A channel's part in the map is the sum of its positive values.

    Args:
        model: Network in eval mode, asked about every subset of the channels.
        x: Images ``(B, C, *spatial)``, 2 to 10 channels.
        score: One number per output row.
        values: Not used: only the maps of the channels are.
        importance: One number per channel, with commas, instead of the Shapley values.
        baseline: What an absent channel shows — black, white, mean, blur, noise or zero.
        batch_size: Changed images per model call.
        channels: Maps ``(B, C, *spatial)``, or None.
        progress: Told the model rows done.
        generator: Of the noise baseline.

    Returns:
        ``score`` in [-1, 1] (tau-b: ties count as ties); NaN for a single channel, where the method does not tell the
        channels apart, or where all are worth the same.

    Raises:
        TargetError: a parameter is out of range, or there are too many channels.
    """
    count = x.shape[1]
    if count == 1:
        return _single(x)
    if channels is None:
        found = torch.full((len(x),), math.nan)
        return MetricResult(found, notes=undefined(found, "the method gives one map for all channels"))
    if importance:
        worth = _given(importance, count).expand(len(x), count)
    else:
        worth = channel_shapley(model, x, score, baseline, batch_size, progress, generator)
    parts = channels.flatten(2).double().clamp_min(0).sum(2).cpu()
    found = _kendall(parts, worth)
    notes = (
        f"importance of the channels: {_rows(worth)}; their parts in the map: {_rows(parts / parts.sum(1)[:, None])}.",
        "as given." if importance else f"Shapley values for the score, absent channels showing {baseline}.",
    )
    return MetricResult(found.float(), notes=(*notes, *undefined(found, "all channels count the same")))


@metric("mm_shap")
def mm_shap(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    channel: int = 0,
    cells: int = 3,
    orders: int = 4,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Return how much of what the model uses comes from one channel, whatever the map says (mm_shap_2022).

    It measures the model, not the map: neither high nor low is better. The paper has words and image patches; here
    every channel is cut into ``cells`` per axis, each cell is a player, its Shapley value is estimated over random
    orders, and the magnitudes are summed by channel.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``, at least 2 channels.
        score: One number per output row.
        values: Not used.
        channel: The channel whose share is told; the notes tell all.
        cells: Cells per axis.
        orders: Random orders of the players, each with its reverse; about ``2 · orders · C · cells^axes`` model rows
            per image.
        baseline: What an absent cell shows — black, white, mean, blur, noise or zero.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the orders, the same for all images.

    Returns:
        ``score`` in [0, 1]; NaN for a single channel, or where the score never changes.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, cells=cells, orders=orders, batch_size=batch_size)
    images, count, spatial = len(x), x.shape[1], x.shape[2:]
    if not 0 <= channel < count:
        raise TargetError(f"channel = {channel}: the image has the channels 0 to {count - 1}.")
    if count == 1:
        return _single(x)
    owner = torch.zeros(1, dtype=torch.long)  # the cell of every pixel
    for side in spatial:
        per = min(cells, side)
        owner = owner[..., None] * per + torch.arange(side) * per // side
    owner = owner[0]
    players = count * (int(owner.max()) + 1)
    player = (torch.arange(count).view(-1, *[1] * len(spatial)) * (players // count) + owner).to(x.device)
    drawn = [torch.randperm(players, generator=generator) for _ in range(orders)]
    turn = torch.stack([order.argsort() for one in drawn for order in (one, one.flip(0))])  # when a player comes in
    base = content(x, baseline, generator)
    inner = players + 1

    def keep(jobs: Tensor) -> Tensor:
        here = (turn[jobs % (len(turn) * inner) // inner] < (jobs % inner)[:, None]).to(x.device)
        return here[:, player]

    def fill(rows: Tensor, kept: Tensor) -> Tensor:
        return torch.where(kept, x[rows], base[rows])

    rows = torch.arange(images).repeat_interleave(len(turn) * inner)
    with torch.no_grad():
        asked = ask(model, x, fill, score, rows, keep, batch_size, progress)
        scores = torch.cat([answers.double().cpu() for *_, answers in asked]).view(images, len(turn), inner)
    shapley = scores.diff(dim=2).gather(2, turn.expand(images, -1, -1)).mean(1)
    size = shapley.abs().view(images, count, -1).sum(2)
    share = size / size.sum(1, keepdim=True)
    notes = (f"shares of the channels: {_rows(share)}; absent cells show {baseline}. It speaks of the model.",)
    return MetricResult(
        share[:, channel].float(), notes=(*notes, *undefined(share[:, channel], "the score never changes"))
    )


def _single(x: Tensor) -> MetricResult:
    found = torch.full((len(x),), math.nan)
    return MetricResult(found, notes=undefined(found, "the image has one channel only"))


def _given(importance: str, count: int) -> Tensor:
    """Read the importance of the channels, float64 ``(C,)``."""
    try:
        found = [float(one) for one in importance.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(map(math.isfinite, found)):
        raise TargetError(f"importance = {importance!r}: {count} numbers with commas between are needed.")
    return torch.tensor(found, dtype=torch.float64)


def _kendall(a: Tensor, b: Tensor) -> Tensor:
    """Return Kendall's tau-b of the rows of ``a`` and ``b`` ``(B, C)``; NaN where a row is constant."""
    first, second = (torch.sign(t[:, :, None] - t[:, None]).flatten(1) for t in (a, b))
    tau: Tensor = (first * second).sum(1) / ((first**2).sum(1) * (second**2).sum(1)).sqrt()
    return tau


def _rows(numbers: Tensor) -> str:
    """Write ``(B, C)``."""
    return "; ".join(
        which(i, len(numbers)) + ", ".join(f"{value:.2g}" for value in row) for i, row in enumerate(numbers.tolist())
    )
