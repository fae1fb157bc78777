"""Methods that read how the text of a report attends to the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runners.models import Wired, leaf, run, upsample
from runners.modes import Attention
from runners.registry import Found, Score, explainer
from runners.targets import primary
from runners.writing import Written, written
from taxonomy.errors import TargetError


@dataclass(frozen=True, eq=False)
class _Read:
    """What a pass of images through a writer with a report gave.

    Attributes:
        outputs: of the model.
        encoder: the attention weights of its encoder, in order, ``(B, heads, N, N)`` where it is a plain transformer.
        decoder: those of its decoder, ``(B, heads, T, T)`` among word pieces and ``(B, heads, T, N)`` from these to the
            image.
    """

    outputs: Any
    encoder: list[Tensor]
    decoder: list[Tensor]


def _read(model: nn.Module, x: Tensor) -> _Read:
    own, begun = _report(model), list[int]()
    mode = Attention(across=True)
    handle = own.decoder.register_forward_pre_hook(lambda *_: begun.append(len(mode.attentions)))
    try:
        with mode:
            outputs = run(model, x)
    finally:
        handle.remove()
    return _Read(outputs, mode.attentions[: begun[0]], mode.attentions[begun[0] :])


def _report(model: nn.Module) -> Written:
    own = written(model)
    assert own is not None  # the need text_decoder says so
    return own


def _places(model: nn.Module, outputs: Any, score: Score) -> Tensor:
    """Return how much each place of the text counts for the score ``(B, T - 1)``: those that tell its sentence, alike.

    A place tells the piece behind it. Of a difference of sentences those of the other one count negatively.
    """
    told = primary(outputs).detach().requires_grad_()
    with torch.enable_grad():
        (weights,) = torch.autograd.grad(score(told, torch.arange(len(told), device=told.device)).sum(), told)
    return weights @ _report(model).shares.to(weights)


def _laid(row: Tensor, wired: Wired, x: Tensor) -> Tensor:
    """Lay values of image tokens ``(B, N)`` onto the image."""
    assert wired.source is not None
    return upsample(row[:, wired.source.prefix :].reshape(len(x), *wired.source.grid), tuple(x.shape[2:]))


def _told(wired: Wired, places: Tensor, layers: int) -> str:
    assert wired.source is not None
    shape, count = "×".join(map(str, wired.source.grid)), int((places[0] != 0).sum())
    return f"Attention of {layers} layers from {count} word pieces to {shape} image tokens."


@explainer("decoder_cross_attention", looks_first=True)
def decoder_cross_attention(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layers: str = "all",
    profile: Wired,
) -> Found:
    """Attention of the places where a sentence is written to the image tokens, averaged over heads (arXiv 1502.03044).

    Args:
        model: a writer with a report.
        x: ``(B, C, H, W)``.
        score: of a sentence; only which sentence it reads counts.
        layers: all for their mean, or last.
        profile: the wired profile.
    """
    if layers not in ("last", "all"):
        raise TargetError(f"decoder_cross_attention: layers={layers!r} was given; last or all is allowed")
    with torch.no_grad():
        read = _read(model, x.clone())
    across = [one for one in read.decoder if one.shape[-1] != one.shape[-2]]
    used = across[-1:] if layers == "last" else across
    places = _places(model, read.outputs, score)
    mean = torch.stack([one.mean(1) for one in used]).mean(0)[:, : places.shape[1]]
    caution = "Attention shows where the decoder looks, which need not be what the sentence rests on."
    return Found(
        _laid((places[:, None] @ mean)[:, 0], profile, x),
        (_told(profile, places, len(used)),),
        (caution,),
        signed=bool((places < 0).any()),
    )


@explainer("decoder_generic_attention", looks_first=True)
def decoder_generic_attention(model: nn.Module, x: Tensor, score: Score, *, profile: Wired) -> Found:
    """Generic attention through encoder, text and what joins them, for the places of a sentence (arXiv 2103.15679).

    Attention times its gradient, positive part, averaged over heads. Image tokens mix through the encoder, text
    through the decoder; each step from text to image adds what both have mixed so far.

    Args:
        model: a writer with a report.
        x: ``(B, C, H, W)``.
        score: the score.
        profile: the wired profile.
    """
    _, entry = leaf(x)
    with torch.enable_grad():
        read = _read(model, entry)
        kept = [*read.encoder, *read.decoder]
        total = score(read.outputs, torch.arange(len(x))).sum()
        slopes = torch.autograd.grad(total, kept, allow_unused=True)
    products = [
        torch.zeros_like(a).mean(-3) if g is None else (a * g).detach().clamp(min=0).mean(-3)
        for a, g in zip(kept, slopes, strict=True)
    ]
    notes = []
    before, within = products[: len(read.encoder)], products[len(read.encoder) :]
    assert profile.source is not None
    number = profile.source.prefix + math.prod(profile.source.grid)
    if not before or any(one.shape != (len(x), number, number) for one in before):
        before = []
        notes.append("The encoder has no attention among all image tokens: they stand for their own places only.")
    image = _eye(number, x)
    for one in before:
        image = image + one @ image
    row = _through(within, image)
    places = _places(model, read.outputs, score).abs()
    share = places / places.sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    values = _laid((share[:, None] @ row[:, : share.shape[1]])[:, 0], profile, x)
    across = sum(one.shape[-1] != one.shape[-2] for one in read.decoder)
    caution = "Where the model is sure of its words these gradients are small, and the map may miss what they rest on."
    return Found(values, (_told(profile, places, across), *notes), (caution,), signed=False)


def _eye(number: int, x: Tensor) -> Tensor:
    return torch.eye(number, device=x.device, dtype=x.dtype).expand(len(x), -1, -1)


def _through(products: Sequence[Tensor], image: Tensor) -> Tensor:
    """Follow the decoder's products, in order, and return what each image token adds to each word piece ``(B, T, N)``.

    Args:
        products: ``(B, T, T)`` among word pieces, ``(B, T, N)`` from these to the image.
        image: how the image tokens have mixed, ``(B, N, N)``.
    """
    pieces = products[0].shape[-2]
    text = _eye(pieces, image)
    found = image.new_zeros(len(image), pieces, image.shape[-1])
    for one in products:
        if one.shape[-1] == pieces:
            found, text = found + one @ found, text + one @ text
        else:
            found = found + _even(text).mT @ one @ _even(image)
    return found


def _even(mixed: Tensor) -> Tensor:
    """Let what a token takes from others count as much as itself: rows of the rest sum to 1, or stay 0."""
    eye = torch.eye(mixed.shape[-1], device=mixed.device, dtype=mixed.dtype)
    rest = mixed - eye
    return rest / rest.sum(-1, keepdim=True).clamp(min=torch.finfo(mixed.dtype).tiny) + eye
