"""Models that write a report of an image: each sentence becomes an output, so that "why this sentence?" is a target.

A sentence's number is the mean log-probability of its word pieces, given the image and the text before it. Everything
that explains a model then explains a report: a sentence is a label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from taxonomy.errors import ModelError, TargetError

LONGEST = 128
"""Word pieces after which a model's own report is cut."""
_ENDS = re.compile(r"(?<=[.!?])\s+|\s*\n\s*")


class Writer(nn.Module):
    """A network that writes text about an image, a word piece at a time.

    Args:
        encoder: images ``(B, C, *spatial)`` to image tokens ``(B, N, E)``.
        decoder: word pieces ``(B, T)`` and image tokens to logits ``(B, T, V)``; each reads only the pieces before it.
        start: the pieces that every text begins with, which are no part of it.
        end: the pieces that end a text.
        spell: word pieces to text.
        pieces: text to word pieces, without those of ``start`` and ``end``.
        longest: word pieces that the decoder reads at most.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        start: Sequence[int],
        end: Sequence[int],
        spell: Callable[[list[int]], str],
        pieces: Callable[[str], list[int]],
        longest: int = LONGEST,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.start, self.end, self.longest = tuple(start), tuple(end), longest
        self.spell, self.pieces = spell, pieces

    def forward(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """Say that there is nothing to explain before there is a text.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            "this model writes a report; let it write about the image first (with_report(model, x)), or give a text: "
            "its sentences are what is explained"
        )

    @torch.no_grad()
    def write(self, x: Tensor) -> list[int]:
        """Return the word pieces that are likeliest one by one for an image ``(1, C, *spatial)``, without the end."""
        tokens, ids = self.encoder(x), list(self.start)
        room = min(LONGEST, self.longest - len(self.start))
        for _ in range(room):
            likeliest = int(self.decoder(torch.tensor([ids], device=x.device), tokens)[0, -1].argmax())
            if likeliest in self.end:
                break
            ids.append(likeliest)
        return ids[len(self.start) :]

    def about(self, x: Tensor, text: str | None = None) -> Written:
        """Return the network whose outputs are the sentences of a report.

        Args:
            x: the image ``(1, C, *spatial)``.
            text: the report; None for what the model itself writes.

        Raises:
            TargetError: there is no sentence, or the text is too long for the model.
        """
        if text is None:
            ids = self.write(x)
            text = self.spell(ids).strip()
            ends = split(text)
            # a piece belongs to the sentence in which the text ends that is spelt with it
            reached = [len(self.spell(ids[: i + 1]).strip()) for i in range(len(ids))]
            counts = [sum(length <= end for length in reached) for _, end in ends]
            nothing = "the model writes nothing about this image; give a text to explain"
        else:
            ids = self.pieces(text)
            ends = split(text)
            counts = [len(self.pieces(text[:end])) for _, end in ends]
            nothing = "the text has no sentence; give one, such as 'There is no effusion.'"
        counts[-1:] = [len(ids)] * bool(counts)
        starts = [0, *counts][: len(counts)]
        spans = [(a, b) for a, b in zip(starts, counts, strict=True) if b > a]
        if not spans:
            raise TargetError(nothing)
        if len(self.start) + len(ids) > self.longest:
            raise TargetError(
                f"the text has {len(ids)} word pieces; this model reads {self.longest} at most: shorten it"
            )
        said = [text[a:b] for (a, b), first, last in zip(ends, starts, counts, strict=True) if last > first]
        shift = len(self.start)
        return Written(
            self.encoder,
            self.decoder,
            [*self.start, *ids],
            [(a + shift, b + shift) for a, b in spans],
            said,
        )


class Written(nn.Module):
    """A writer with a report: the mean log-probability per word piece of each sentence, given all text before it.

    Args:
        encoder: as in :class:`Writer`. decoder: likewise.
        ids: word pieces of the whole report, with those it begins with.
        spans: of each sentence, its first piece and the one after its last.
        sentences: their words.
    """

    ids: Tensor
    shares: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        ids: Sequence[int],
        spans: Sequence[tuple[int, int]],
        sentences: Sequence[str],
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.sentences = tuple(sentences)
        self.sizes = tuple(b - a for a, b in spans)
        """Word pieces of each sentence."""
        shares = torch.zeros(len(spans), len(ids) - 1)
        for sentence, (a, b) in enumerate(spans):
            shares[sentence, a - 1 : b - 1] = 1 / (b - a)  # a piece is told where the piece before it is read
        self.register_buffer("ids", torch.tensor(list(ids)))
        self.register_buffer("shares", shares)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, sentences)`` for images ``(B, C, *spatial)``."""
        tokens = self.encoder(x)
        # as many places as there are image tokens would make reading the text and reading the image look alike
        places = len(self.ids) - 1
        read = self.ids[: places + (places == tokens.shape[1])].expand(len(x), -1)
        likely = self.decoder(read, tokens)[:, :places].log_softmax(-1)
        told = likely.gather(-1, self.ids[1:].expand(len(x), -1)[..., None])[..., 0]
        found: Tensor = (told[:, None] * self.shares).sum(-1)
        return found


def split(text: str) -> list[tuple[int, int]]:
    """Return where the sentences of a text begin and end; what has no letter ("1.") belongs to the next."""
    found: list[tuple[int, int]] = []
    begin = 0
    for cut in [*_ENDS.finditer(text), None]:
        end = len(text) if cut is None else cut.start()
        if any(c.isalpha() for c in text[begin:end]):
            first = begin + len(text[begin:end]) - len(text[begin:end].lstrip())
            found.append((first, first + len(text[first:end].rstrip())))
            begin = end
    return found


def written(model: nn.Module) -> Written | None:
    """Return the part of a model that is a report, None where there is none."""
    return next((one for one in model.modules() if isinstance(one, Written)), None)


def writes(model: nn.Module) -> bool:
    """Say whether a model writes text and has none yet."""
    return any(isinstance(one, Writer) for one in model.modules())
