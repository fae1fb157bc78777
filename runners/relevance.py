"""Propagation of relevance or contributions back through the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from runners.baselines import baseline as make_baseline
from runners.checks import completeness_error
from runners.gradients import gradient
from runners.models import Wired, leaf, run
from runners.modes import DeepLift, Frozen, Given, Relevance
from runners.registry import Found, Progress, Score, by_channel, explainer
from runners.rules import BOX, EPSILON, PLUS, Composite, alpha_beta, composites, mirrored
from runners.targets import primary
from taxonomy.errors import TargetError


def slope_of(score: Score, outputs: Tensor, rows: Tensor) -> Tensor:
    """Return the gradient of the score with respect to the outputs."""
    with torch.enable_grad():
        own = outputs.detach().requires_grad_()
        (grad,) = torch.autograd.grad(score(own, rows).sum(), own)
    return grad


def relevance_of(score: Score, outputs: Tensor, rows: Tensor) -> Tensor:
    """Return the relevance to start with: each output's share ``output * d score / d output`` of the score."""
    return outputs.detach() * slope_of(score, outputs, rows)


def _forward(
    model: nn.Module, x: Tensor, composite: Composite, epsilon: float, *, kept: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the leaf and the output of a forward pass whose backward pass, or passes if ``kept``, carry relevance."""
    source, entry = leaf(x)
    mode = Relevance(composite, epsilon, kept=kept)
    with torch.enable_grad(), mode:
        output = primary(run(model, entry))
    mode.close(output)
    return source, output


def _relevance(model: nn.Module, x: Tensor, score: Score, composite: Composite, epsilon: float) -> Tensor:
    """Hand the score back to the input, like ``x``.

    A composite with a rule of its own for the output layer hands back the size of the score: there, negative relevance
    marks an output whose opposite is explained.
    """
    source, output = _forward(model, x, composite, epsilon)
    own = output.detach() if composite.last is None else output.detach().abs()
    (values,) = torch.autograd.grad(output, source, own * slope_of(score, output, torch.arange(len(x))))
    return values


def _positive_epsilon(method: str, epsilon: float) -> None:
    if epsilon <= 0:
        raise TargetError(f"{method}: epsilon={epsilon} was given; a number above 0 is needed")


@explainer("lrp", looks_first=True)
def lrp(model: nn.Module, x: Tensor, score: Score, *, epsilon: float = 1e-6) -> Found:
    """Layer-wise relevance propagation, composite epsilon-plus (Bach et al. 2015, 10.1371/journal.pone.0130140).

    z-plus rule for convolutions, epsilon rule for linear layers; batch normalisation is merged into the layer before
    it. The sum over the map is the share of the score that is not absorbed by biases and the stabiliser.

    Args:
        model: a network of convolutions, linear layers, pooling and element-wise activations.
        x: ``(B, C, *spatial)``.
        score: the score.
        epsilon: stabiliser of the denominators.
    """
    _positive_epsilon("lrp", epsilon)
    composite = composites()["epsilon_plus"]
    return by_channel(_relevance(model, x, score, composite, epsilon), again=composite.again)


@explainer("lrp_epsilon", looks_first=True)
def lrp_epsilon(model: nn.Module, x: Tensor, score: Score, *, epsilon: float = 1e-6, profile: Wired) -> Found:
    """Layer-wise relevance propagation, epsilon rule in all layers (Bach et al. 2015, 10.1371/journal.pone.0130140).

    Normalisation that cannot be merged into the layer before it is a layer too, its deviation held.

    Args:
        model: a network of convolutions, linear layers, pooling and element-wise activations.
        x: ``(B, C, *spatial)``.
        score: the score.
        epsilon: is added to the denominators; larger numbers absorb weak and contradicting contributions.
        profile: the wired profile.
    """
    _positive_epsilon("lrp_epsilon", epsilon)
    same = (
        "With ReLUs, normalisation of fixed statistics and a small epsilon this is nearly input times gradient: "
        "that the two agree proves nothing."
    )
    return by_channel(
        _relevance(model, x, score, Composite(EPSILON, EPSILON), epsilon),
        cautions=(same,) if "relu_only" in profile.has else (),
    )


@explainer("lrp_alpha_beta", looks_first=True)
def lrp_alpha_beta(
    model: nn.Module, x: Tensor, score: Score, *, alpha: float = 2.0, beta: float = 1.0, epsilon: float = 1e-6
) -> Found:
    """Layer-wise relevance propagation, alpha-beta rule in all layers (Bach et al. 2015, 10.1371/journal.pone.0130140).

    The size of the score is handed back: what speaks for the score is positive also where the score is negative.

    Args:
        model: a network of convolutions, linear layers, pooling and element-wise activations.
        x: ``(B, C, *spatial)``.
        score: the score.
        alpha: how much contributions count that raise a unit, at least 1.
        beta: how much contributions count that lower it, always alpha - 1.
        epsilon: stabiliser of the denominators.
    """
    if beta < 0 or abs(alpha - beta - 1) > 1e-6:
        raise TargetError(
            f"lrp_alpha_beta: alpha={alpha} and beta={beta} were given; beta must be at least 0 and alpha = beta + 1"
        )
    _positive_epsilon("lrp_alpha_beta", epsilon)
    rule = alpha_beta(alpha, beta)
    composite = Composite(rule, rule, last=mirrored(rule))
    return by_channel(_relevance(model, x, score, composite, epsilon), again=composite.again)


@explainer("lrp_composite", looks_first=True)
def lrp_composite(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    composite: str = "epsilon_plus_flat",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
) -> Found:
    """Layer-wise relevance propagation with another rule for each kind of layer (arXiv 1910.09840).

    All composites have the epsilon rule in linear layers. Convolutions have z-plus (``plus``), alpha-beta
    (``alpha2_beta1``) or gamma; layers that read the image share relevance evenly (``flat``) or by the distance of each
    pixel from the ends of its channel's range (``box``).

    Args:
        model: a network of convolutions, linear layers, pooling and element-wise activations.
        x: ``(B, C, *spatial)``.
        score: the score.
        composite: epsilon_plus, epsilon_plus_flat, epsilon_alpha2_beta1, epsilon_alpha2_beta1_flat or
            epsilon_gamma_box.
        epsilon: stabiliser of the denominators.
        gamma: how much the gamma rule strengthens contributions of the sign of the unit they go to.
    """
    known = composites(gamma)
    if composite not in known:
        raise TargetError(f"lrp_composite: composite={composite!r} was given; {', '.join(known)} are allowed")
    if gamma < 0:
        raise TargetError(f"lrp_composite: gamma={gamma} was given; 0 or more is allowed")
    _positive_epsilon("lrp_composite", epsilon)
    flat = "The first layer shares relevance evenly over what each unit sees: the map is no finer than its kernel."
    return by_channel(
        _relevance(model, x, score, known[composite], epsilon),
        cautions=(flat,) if composite.endswith("flat") else (),
        again=known[composite].again,
    )


@explainer("deep_taylor", looks_first=True)
def deep_taylor(model: nn.Module, x: Tensor, score: Score, *, epsilon: float = 1e-9) -> Found:
    """Deep Taylor decomposition: z-plus rule inside, z-box rule at the image (arXiv 1512.02479).

    The box is the range of each channel of the image. Biases take no part, so that the size of the score is kept; batch
    normalisation is merged into the layer before it.

    Args:
        model: a network of convolutions, linear layers, pooling and ReLUs.
        x: ``(B, C, *spatial)``.
        score: the score.
        epsilon: stabiliser of the denominators.
    """
    _positive_epsilon("deep_taylor", epsilon)
    composite = Composite(PLUS, PLUS, first=BOX, last=mirrored(PLUS), bias=False, positive=True, affine=False)
    return _unsigned(_relevance(model, x, score, composite, epsilon), composite)


def _unsigned(values: Tensor, composite: Composite) -> Found:
    """Return a map of importance; its maps of labels are alike, as nothing in it can speak against the score."""
    return by_channel(
        values.clamp(min=0),  # up-sampling of higher order has negative weights
        signed=False,
        again=composite.again,
        cautions=("Only what raises a unit is followed: maps of different labels are much alike.",),
    )


def _excitation(model: nn.Module, x: Tensor, score: Score, composite: Composite, epsilon: float) -> Tensor:
    """Pass the probability 1, shared between the explained outputs, down to the input."""
    source, output = _forward(model, x, composite, epsilon)
    slope = slope_of(score, output, torch.arange(len(x)))
    total = slope.abs().flatten(1).sum(1) if slope.ndim > 1 else slope.abs()
    start = slope / total.clamp(min=torch.finfo(x.dtype).tiny).view(-1, *[1] * (slope.ndim - 1))
    (values,) = torch.autograd.grad(output, source, start)
    return values


@explainer("excitation_backprop", looks_first=True)
def excitation_backprop(model: nn.Module, x: Tensor, score: Score, *, epsilon: float = 1e-9) -> Found:
    """Excitation backprop: a winner's probability is shared among what excites it (arXiv 1608.00507).

    Every value is the probability that the pixel wins. They sum to 1, less what goes to units that nothing excites.

    Args:
        model: a network of convolutions, linear layers, pooling and element-wise activations.
        x: ``(B, C, *spatial)``.
        score: the score.
        epsilon: stabiliser of the denominators.
    """
    _positive_epsilon("excitation_backprop", epsilon)
    composite = Composite(PLUS, PLUS, last=mirrored(PLUS), bias=False, positive=True, affine=False)
    return _unsigned(_excitation(model, x, score, composite, epsilon), composite)


@explainer("contrastive_excitation_backprop", looks_first=True)
def contrastive_excitation_backprop(model: nn.Module, x: Tensor, score: Score, *, epsilon: float = 1e-9) -> Found:
    """Excitation backprop of the explained output minus that of its opposite, the last weights negated (1608.00507).

    Below the last layer probabilities add up, so that the difference is taken there and one backward pass is enough.
    Negative values, which the paper cuts off, are what speaks for the opposite.

    Args:
        model: a network of convolutions, linear layers, pooling and element-wise activations.
        x: ``(B, C, *spatial)``.
        score: the score.
        epsilon: stabiliser of the denominators.
    """
    _positive_epsilon("contrastive_excitation_backprop", epsilon)
    composite = Composite(PLUS, PLUS, last=alpha_beta(1, 1), bias=False, positive=True, affine=False)
    return by_channel(_excitation(model, x, score, composite, epsilon), again=composite.again)


@explainer("contrastive_lrp", looks_first=True)
def contrastive_lrp(model: nn.Module, x: Tensor, score: Score, *, dual: str = "others", epsilon: float = 1e-9) -> Found:
    """Relevance of the explained label minus that of its dual, of the same sum (arXiv 1812.02100).

    z-plus rule inside, z-box rule at the image, no biases, as in the paper. Negative values, which the paper cuts off,
    are what speaks for the dual.

    Args:
        model: a network of convolutions, linear layers, pooling and element-wise activations.
        x: ``(B, C, *spatial)``.
        score: the score.
        dual: what the label is set against: others (all other labels evenly, CLRP1 of the paper) or negative (the label
            with its last weights negated, CLRP2); where there is no other label, always negative.
        epsilon: stabiliser of the denominators.
    """
    if dual not in ("others", "negative"):
        raise TargetError(f"contrastive_lrp: dual={dual!r} was given; others or negative is allowed")
    _positive_epsilon("contrastive_lrp", epsilon)
    composite = Composite(PLUS, PLUS, first=BOX, last=mirrored(PLUS), bias=False, positive=True, affine=False)
    source, output = _forward(model, x, composite, epsilon, kept=True)
    slope = slope_of(score, output, torch.arange(len(x)))
    others = (slope == 0).to(slope)
    alone = slope.ndim == 1 or not bool(others.flatten(1).any(1).all())
    against = -slope if dual == "negative" or alone else others
    # both start with the size of the score; the scale of the second is set below
    (own,) = torch.autograd.grad(output, source, output.detach().abs() * slope, retain_graph=True)
    (opposed,) = torch.autograd.grad(output, source, against)
    totals = [part.flatten(1).sum(1).view(-1, *[1] * (x.ndim - 1)) for part in (own, opposed)]
    scale = totals[0] / torch.where(totals[1] > 0, totals[1], torch.inf)
    return by_channel(own - opposed * scale, again=composite.again)


def _input_times(model: nn.Module, x: Tensor, score: Score, mode: Frozen) -> Found:
    with mode:
        grad, _ = gradient(model, x, score)
    noisy = (
        "Single pixels are noisy, and position embeddings and biases keep part of the score: read regions, not pixels."
    )
    return by_channel(x * grad, cautions=(noisy,))


@explainer("attnlrp", looks_first=True)
def attnlrp(model: nn.Module, x: Tensor, score: Score, *, gamma: float = 0.0) -> Found:
    """AttnLRP: relevance through softmax, products and normalisation of transformers (arXiv 2402.05602).

    Epsilon rule with a vanishing epsilon in linear layers and sums, softmax by its Taylor expansion, half of the
    relevance to each factor of a product; activations, and the deviation in normalisation, pass it on.

    Args:
        model: a transformer.
        x: ``(B, C, *spatial)``.
        score: the score.
        gamma: how much linear layers and convolutions strengthen contributions of the sign of the unit they go to; 0 is
            the epsilon rule, larger numbers give calmer maps.
    """
    if gamma < 0:
        raise TargetError(f"attnlrp: gamma={gamma} was given; 0 or more is allowed")
    return _input_times(model, x, score, Frozen(taylor=True, gamma=gamma))


@explainer("conservative_lrp", looks_first=True)
def conservative_lrp(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Conservative propagation: input times gradient, attention weights and normalisation held (arXiv 2202.07304).

    Attention weights and the deviations that normalisation divides by count as constants.
    """
    return _input_times(model, x, score, Frozen(taylor=False))


def _kept(model: nn.Module, reference: Tensor) -> tuple[Any, list[Given]]:
    """Return the model's outputs for reference images, and what its functions were given for them."""
    mode = DeepLift()
    with torch.enable_grad(), mode:  # as for the images: which calls count is told by what needs a gradient
        outputs = run(model, leaf(reference)[1])
    return tree_map_only(Tensor, Tensor.detach, outputs), mode.kept


def _contributions(
    model: nn.Module, x: Tensor, reference: Tensor, kept: tuple[Any, list[Given]], score: Score, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Return DeepLIFT's contributions, like ``x``, and the change of the score that they sum to ``(N,)``."""
    outputs, others = kept
    mode = DeepLift(others)
    slope, scores = gradient(model, x, score, rows, mode)
    mode.close()
    return (x - reference) * slope, scores - score(outputs, rows).detach()


@explainer("deeplift", looks_first=True)
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
        baseline: the reference image: black, white, mean, organ, blur, noise or zero.
        batch_size: images at a time.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    reference = make_baseline(x, baseline, generator)
    parts = []
    for first in range(0, len(x), batch_size):
        rows = torch.arange(first, min(first + batch_size, len(x)))
        kept = _kept(model, reference[rows])
        parts.append(_contributions(model, x[rows], reference[rows], kept, score, rows))
        progress(int(rows[-1]) + 1, len(x))
    values, gaps = (torch.cat(list(part)) for part in zip(*parts, strict=True))
    return by_channel(values, checks={"completeness_error": completeness_error(values, gaps)})


@explainer("deepshap")
def deepshap(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    batch_size: int = 8,
    reference: Tensor,
    progress: Progress,
) -> Found:
    """DeepSHAP: DeepLIFT averaged over reference images (arXiv 1705.07874). Completeness is measured and told.

    The map sums to the score of the image minus the mean score of the reference images.

    Args:
        model: a network of element-wise activations between linear layers, normalisation and pooling.
        x: ``(B, C, *spatial)``.
        score: the score.
        batch_size: reference images at a time.
        reference: images of the data the model learned from.
        progress: told after every chunk.
    """
    values, gaps = torch.zeros_like(x), x.new_zeros(len(x))
    for first in range(0, len(reference), batch_size):
        others = reference[first : first + batch_size]
        kept = _kept(model, others)
        for i in range(len(x)):
            rows = torch.full((len(others),), i)
            found, change = _contributions(model, x[rows], others, kept, score, rows)
            values[i] += found.sum(0) / len(reference)
            gaps[i] += change.sum() / len(reference)
            progress(first * len(x) + (i + 1) * len(others), len(reference) * len(x))
    note = f"Averaged over {len(reference)} reference images."
    return by_channel(values, notes=(note,), checks={"completeness_error": completeness_error(values, gaps)})
