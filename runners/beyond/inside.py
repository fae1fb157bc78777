"""A model cut in two at a layer, and asked about many images: what methods of concepts share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.models import Place, Wired, captured, find_place, run, watched
from runners.owned import Cohort
from runners.registry import Progress, Score, no_progress
from runners.relevance import slope_of
from runners.sized import Pictures, chunks, spread
from runners.targets import primary
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap

LEAST = 8
"""Images of the explained answer below which those that come nearest are taken along."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A model, with what is asked about its answer on any image.

    Attributes:
        model: the model.
        score: outputs to one number per image.
        own: outputs to bool per image: the model answers as explained here.
        decided: outputs to the number of the answer per image; 0 where there is nothing to decide.
        device: of the model's input.
        batch_size: images per model call.
        notes: what the score is on other images.
    """

    model: nn.Module
    score: Callable[[Any], Tensor]
    own: Callable[[Any], Tensor]
    decided: Callable[[Any], Tensor]
    device: torch.device
    batch_size: int
    notes: tuple[str, ...] = ()

    def parts(self, x: Pictures, progress: Progress = no_progress) -> Iterator[Tensor]:
        """Yield images a chunk at a time, where the model takes them."""
        done = 0
        for part in chunks(x, self.batch_size):
            yield part.to(self.device, copy=True)
            done += len(part)
            progress(done, len(x))

    @torch.no_grad()
    def look(self, x: Pictures, progress: Progress = no_progress) -> tuple[Tensor, Tensor, Tensor]:
        """Return of every image the score, whether the model answers as explained, and its answer, ``(N,)`` each."""
        scores, own, decided = [], [], []
        for part in self.parts(x, progress):
            outputs = run(self.model, part)
            scores.append(self.score(outputs).float().cpu())
            own.append(self.own(outputs).cpu())
            decided.append(self.decided(outputs).cpu())
        return torch.cat(scores), torch.cat(own), torch.cat(decided)


@dataclass(frozen=True, eq=False, kw_only=True)
class Inside(Asked):
    """The same model cut in two at a layer, ``place``."""

    place: Place

    @torch.no_grad()
    def features(self, x: Pictures, progress: Progress = no_progress) -> Tensor:
        """Return the features of images: ``(N, D, *grid)`` on the CPU; those of other sizes are brought to the grid."""
        found = []
        for part in self.parts(x, progress):
            with captured(self.model, self.place) as kept:
                run(self.model, part)
            found.append(spread(self.place.fold(kept[-1]).float().cpu(), self.place.grid))
        return torch.cat(found)

    def slopes(self, x: Pictures, progress: Progress = no_progress) -> Tensor:
        """Return the gradient of each image's score with respect to its features: ``(N, D, *grid)`` on the CPU.

        Those of images of other sizes are brought to the grid, their sums kept.
        """
        found = []
        for part in self.parts(x, progress):
            with torch.enable_grad(), captured(self.model, self.place, cut=True) as kept:
                score = self.score(run(self.model, part))
                (slope,) = torch.autograd.grad(score.sum(), kept[-1])
            folded = self.place.fold(slope).float().cpu()
            cells = math.prod(folded.shape[2:]) / math.prod(self.place.grid)
            found.append(spread(folded, self.place.grid) * cells)
        return torch.cat(found)

    @torch.no_grad()
    def behind(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and answers ``(N,)`` when the features are ``(N, D, *grid)`` instead.

        ``x`` are the images, ``(N, C, *spatial)``, or one for all: tokens that stand for no position come from them.
        """
        scores, decided = [], []
        for start in range(0, len(features), self.batch_size):
            part = features[start : start + self.batch_size]
            images = x[start : start + self.batch_size] if len(x) > 1 else x.expand(len(part), *x.shape[1:])
            outputs = self.outputs_behind(images, part)
            scores.append(self.score(outputs).float().cpu())
            decided.append(self.decided(outputs).cpu())
        return torch.cat(scores), torch.cat(decided)

    def outputs_behind(self, x: Tensor, features: Tensor) -> Any:
        """Return the model's outputs on images when their features are ``(N, D, *grid)`` instead."""
        features = features.to(self.device)
        with watched(self.model, self.place, lambda output: self.place.put(features.to(output.dtype), output)):
            return run(self.model, x.to(self.device, copy=True))

    def up(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Enlarge maps ``(K, *grid)`` to the image."""
        return F.interpolate(maps[:, None], tuple(size), mode="bilinear" if len(size) == 2 else "trilinear")[:, 0]


def asked(model: nn.Module, x: Tensor, score: Score, profile: Wired, batch_size: int) -> Asked:
    """Make what is asked about one image a question to any image.

    On other images than ``x`` the score is what it is on ``x``: the same output. Of a segmentation it is the mean logit
    of the explained label where the model marks it in each image.

    Args:
        model: Network in eval mode.
        x: The image that is explained, ``(1, C, *spatial)``.
        score: What is explained.
        profile: What is known of the model.
        batch_size: Images per model call.

    Raises:
        RequirementError: the model is a detector, whose boxes differ from image to image.
    """
    if profile.task == "detection":
        sentence = "a box of this image stands for nothing in other images, which this method asks about."
        raise RequirementError("concepts", [Gap("task", sentence)])
    with torch.no_grad():
        output = primary(run(model, x.clone())).detach()
    slope = slope_of(score, output, torch.zeros(1, dtype=torch.long, device=output.device))
    per = slope.flatten(2).sum(2)[0] if slope.ndim > 2 else slope.reshape(-1)
    at, single = int(per.argmax()), len(per) == 1
    sign = -1.0 if single and float(per[0]) < 0 else 1.0
    several = bool(getattr(getattr(model, "card", None), "multilabel", False))

    def plain_score(outputs: Any) -> Tensor:
        return score(outputs, torch.zeros(len(primary(outputs)), dtype=torch.long, device=output.device))

    def chosen(outputs: Any) -> Tensor:
        o = primary(outputs)
        o = o.reshape(len(o), -1)
        return (o[:, at] > 0).long() if several else (o[:, 0] > 0).long() if single else o.argmax(1)

    def marked(outputs: Any) -> Tensor:
        o = primary(outputs)
        return o[:, 0] * sign > 0 if single else o.argmax(1) == at

    def mean_logit(outputs: Any) -> Tensor:
        region = marked(outputs)
        total = (sign * primary(outputs)[:, at] * region).flatten(1).sum(1)
        return total / region.flatten(1).sum(1).clamp(min=1)

    found = Asked(model, plain_score, _all, _none, x.device, batch_size)
    if profile.task == "segmentation":
        note = "On other images the score is the mean logit of the label where the model marks it."
        return replace(found, score=mean_logit, own=lambda o: marked(o).flatten(1).any(1), notes=(note,))
    if profile.task == "classification":
        answer = 1 if several or (single and sign > 0) else 0 if single else at
        return replace(found, own=lambda o: chosen(o) == answer, decided=chosen)
    return found


def cut(model: nn.Module, x: Tensor, score: Score, profile: Wired, batch_size: int, layer: str | None = None) -> Inside:
    """Cut a model at its deepest features, or at a named layer.

    Args:
        model: Network in eval mode.
        x: The image that is explained, ``(1, C, *spatial)``.
        score: What is explained.
        profile: What is known of the model.
        batch_size: Images per model call.
        layer: Name of the layer.

    Raises:
        ModelError: there is no such layer.
        RequirementError: the model is a detector.
    """
    place, notes = find_place(profile, layer)
    return cut_at(asked(model, x, score, profile, batch_size), place, notes)


def cut_at(one: Asked, place: Place, notes: tuple[str, ...] = ()) -> Inside:
    """Cut a model at a place."""
    return Inside(
        one.model, one.score, one.own, one.decided, one.device, one.batch_size, (*notes, *one.notes), place=place
    )


def _all(outputs: Any) -> Tensor:
    return torch.ones(len(primary(outputs)), dtype=torch.bool)


def _none(outputs: Any) -> Tensor:
    return torch.zeros(len(primary(outputs)), dtype=torch.long)


SEARCHED = 64
"""Layers that are looked at, from the deepest one back."""
DECIDES = 0.9
"""Share of the score that the features of a layer must decide to stand for the model."""
TOKENS_DECIDE = 0.5
"""The same for image tokens: a class token gathers from them in every block, and only the first decide everything."""


def settled(
    inside: Inside, x: Tensor, others: Pictures, profile: Wired, layer: str | None, *, bent: bool = False
) -> tuple[Inside, tuple[str, ...]]:
    """Move the cut back to where the features decide, unless the user named the layer.

    They do where the score becomes that of another image when the features are those of the other image: class tokens,
    skip connections and parallel branches carry something past a layer.

    Args:
        inside: The model, cut at its deepest features.
        x: The image, ``(1, C, *spatial)``.
        others: Other images.
        profile: What is known of the model.
        layer: The layer that the user named.
        bent: The way from there to the score must not be linear: else the derivative along a concept is the same for
            every image, and counts all or none.

    Returns:
        The cut model, and cautions.
    """
    others = others[:2]
    places = [p for p in profile.places if not p.layout.startswith("tokens") or p.channels == inside.place.channels]
    places = places[: places.index(inside.place) + 1]
    own, there = inside.look(x)[0], inside.look(others)[0]
    apart = float((own - there).abs().sum())
    least = TOKENS_DECIDE if inside.place.layout.startswith("tokens") else DECIDES
    tried: list[tuple[float, Inside]] = []
    for place in [inside.place] if layer else places[: -SEARCHED - 1 : -1]:
        here = replace(inside, place=place)
        swapped = torch.cat([here.behind(x, one[None])[0] for one in here.features(others)])
        share = 1 - float((swapped - there).abs().sum()) / max(apart, 1e-12)
        if share >= least and bent and not _bends(here, x, others[:1]):
            continue
        tried.append((share, here))
        if share >= least or profile.task == "segmentation":  # with skip connections only the first layers do
            break
    tried.sort(key=lambda one: one[0], reverse=True)
    if bent:
        tried = [one for one in tried if one[0] >= least or _bends(one[1], x, others[:1])][:1]
    if not tried:
        note = "From this layer on the score is linear: its derivative along a concept is the same for every image."
        return replace(inside, notes=(*inside.notes, note)), ()
    share, found = tried[0]
    if found.place != inside.place:
        why = "from which the way to the score is not linear" if bent else "that decides the score"
        note = f"Features: {found.place.text()}, the deepest layer {why}."
        found = replace(found, notes=(note, *inside.notes[len(profile.place_notes) :]))
    if share >= DECIDES:
        return found, ()
    return found, (
        f"With the features of other images in this layer the score goes {max(0.0, share):.0%} of the way to theirs: "
        "the rest passes by it, and no concept here can stand for that.",
    )


def _bends(inside: Inside, x: Tensor, other: Pictures) -> bool:
    """Say whether the derivative of the score differs between two images."""
    first, second = inside.slopes(x), inside.slopes(other)
    return float((first - second).abs().max()) > 1e-4 * float(first.abs().max())


def of_class(inside: Asked, cohort: Cohort, most: int, generator: torch.Generator) -> tuple[Tensor, str]:
    """Choose the cohort's images that the model answers as explained: their numbers in ascending order, and a note.

    Where there are fewer than :data:`LEAST`, those of the highest score are taken along; of more than ``most`` a draw.
    """
    scores, own, _ = inside.look(cohort.x)
    index = own.nonzero()[:, 0]
    note = f"Of {len(cohort)} images of the cohort the model answers {len(index)} as explained here"
    if len(index) < LEAST:
        index = (scores + 1e12 * own).argsort(descending=True, stable=True)[: min(LEAST, len(cohort))]
        note += f"; with those that come nearest, {len(index)} are used"
    elif len(index) > most:
        index = index[torch.randperm(len(index), generator=generator)[:most]]
        note += f"; {most} drawn from them are used"
    return index.sort().values, note + "."


def enough(cohort: Cohort, least: int, method: str) -> None:
    """Raise a TargetError when the cohort is too small to say anything."""
    if len(cohort) < least:
        raise TargetError(f"the cohort has {len(cohort)} images; {method} needs at least {least}")


def seed_of(generator: torch.Generator) -> int:
    """Draw a seed for a library's own generator."""
    return int(torch.randint(2**31 - 1, (1,), generator=generator))


def shrunk(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize images ``(N, C, *spatial)``."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear" if len(size) == 2 else "trilinear", align_corners=False)


def window(image: Tensor, centre: Sequence[int], sides: Sequence[int]) -> Tensor:
    """Return the part of an image ``(C, *spatial)`` of the given sides whose centre is as near as the border allows."""
    where = []
    for at, side, length in zip(centre, sides, image.shape[1:], strict=True):
        start = min(max(at - side // 2, 0), length - side)
        where.append(slice(start, start + side))
    return image[(slice(None), *where)]


def peak(map_: Tensor) -> tuple[int, ...]:
    """Return where a map ``(*spatial)`` is highest."""
    at = int(map_.argmax())
    place = []
    for side in reversed(map_.shape):
        place.append(at % side)
        at //= side
    return tuple(reversed(place))


def sides(size: Sequence[int], share: float) -> tuple[int, ...]:
    """Return the sides of a window that takes a share of every axis."""
    return tuple(max(4, min(n, math.ceil(share * n))) for n in size)


def closest_patches(images: Pictures, maps: Tensor, order: Tensor, count: int, share: float = 0.4) -> Tensor:
    """Cut the part out of the first images where a concept is strongest, ``(count, C, *window)``; repeated if too few.

    Args:
        images: ``(N, C, *spatial)``, or of several sizes.
        maps: of the concept in each, ``(N, *grid)``.
        order: numbers of the images, the best first.
        count: how many.
        share: of every axis that a part takes.
    """
    smallest = [min(one.shape[axis] for one in images) for axis in range(1, images.ndim - 1)]
    cuts = []
    for i in order[:count].tolist():
        size = images[i].shape[1:]
        at = [round((a + 0.5) * n / g - 0.5) for a, n, g in zip(peak(maps[i]), size, maps.shape[1:], strict=True)]
        cuts.append(window(images[i], at, sides(smallest, share)))
    return torch.stack([cuts[i % len(cuts)] for i in range(count)])


def interval(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 95 % interval of draws ``(runs, K)``."""
    return torch.quantile(draws, 0.025, dim=0), torch.quantile(draws, 0.975, dim=0)


def resampled(values: Tensor, runs: int, generator: torch.Generator) -> Tensor:
    """Return the means of bootstrap samples of the rows of ``values`` ``(N, K)``, ``(runs, K)``."""
    draws = torch.randint(len(values), (runs, len(values)), generator=generator)
    return values[draws].mean(1)
