"""Propagation of relevance or contributions back through the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runners.baselines import baseline as make_baseline
from runners.checks import completeness_error
from runners.models import leaf, run
from runners.modes import DeepLift, Relevance
from runners.registry import Found, Progress, Score, by_channel, explainer
from runners.targets import primary
from taxonomy.errors import RequirementError
from taxonomy.requirements import Gap


def relevance_of(score: Score, outputs: Tensor, rows: Tensor) -> Tensor:
    """Return the relevance to start with: each output's share ``output * d score / d output`` of the score."""
    with torch.enable_grad():
        own = outputs.detach().requires_grad_()
        (grad,) = torch.autograd.grad(score(own, rows).sum(), own)
    return own.detach() * grad


@explainer("lrp")
def lrp(model: nn.Module, x: Tensor, score: Score, *, epsilon: float = 1e-6) -> Found:
    """Layer-wise relevance propagation, composite epsilon-plus (Bach et al. 2015, 10.1371/journal.pone.0130140).

    z-plus rule for convolutions, epsilon rule for linear layers; batch normalisation is merged into the layer before
    it. The sum
    over the map is the share of the score that is not absorbed by biases and the stabiliser.

    Args:
        model: a network of convolutions, linear layers, pooling and element-wise activations.
        x: ``(B, C, *spatial)``.
        score: the score.
        epsilon: stabiliser of the denominators.
    """
    source, entry = leaf(x)
    rows = torch.arange(len(x))
    with torch.enable_grad():
        with Relevance("epsilon_plus", epsilon):
            output = primary(run(model, entry))
        (values,) = torch.autograd.grad(output, source, relevance_of(score, output, rows))
    return by_channel(values)


@explainer("deeplift")
def deeplift(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    baseline: str = "black",
    batch_size: int = 8,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """DeepLIFT with the rescale rule (arXiv 1704.02685). Completeness is measured and told.

    Args:
        model: a network of element-wise activations between linear layers, normalisation and pooling.
        x: ``(B, C, *spatial)``.
        score: the score.
        baseline: the reference image: black, white, mean, blur, noise or zero.
        batch_size: images at a time; each runs together with its reference.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    if getattr(model, "one_by_one", False):
        sentence = (
            "it runs an image and its reference in one batch, and this model runs one image at a time; if it was "
            "exported so, export it with a dynamic batch dimension."
        )
        raise RequirementError("deeplift", [Gap("batch", sentence)])
    reference = make_baseline(x, baseline, generator)
    parts, gaps = [], []
    for first in range(0, len(x), batch_size):
        rows = torch.arange(first, min(first + batch_size, len(x)))
        source, entry = leaf(torch.cat([x[rows], reference[rows]]))
        with torch.enable_grad():
            with DeepLift():
                outputs = run(model, entry)
            scores = score(outputs, rows.repeat(2))
            here, there = scores.chunk(2)
            (grad,) = torch.autograd.grad(here.sum(), source)
        parts.append((x[rows] - reference[rows]) * grad[: len(rows)])
        gaps.append((here - there).detach())
        progress(int(rows[-1]) + 1, len(x))
    values = torch.cat(parts)
    return by_channel(values, checks={"completeness_error": completeness_error(values, torch.cat(gaps))})
