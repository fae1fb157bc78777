"""Models that read a slide as a bag of tiles: a wrapper that makes them image models, and maps of single tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from runners.models import Place, captured, joined, leaf, run
from runners.modes import Relevance, Softmaxes
from runners.registry import Found, Progress, Score, explainer
from runners.relevance import relevance_of
from runners.rules import composites
from runners.targets import primary
from runners.uncertainty import label_read
from taxonomy.errors import ImageError, RequirementError, TargetError
from taxonomy.requirements import Gap


class Tiled(nn.Module):
    """An image model ``(B, C, *spatial) -> (B, K)`` made of a model that reads bags of tiles.

    Every image is cut into tiles, in a way that gradients pass, and read as one bag. The last tile of an axis is moved
    back to end at the border, so that all of the image is read. With it every explainer works on slides.

    Args:
        model: ``(N, C, *tile) -> (1, K)`` or ``(K,)``, for any number of tiles.
        tile: side of the tiles in pixels, or one per axis.
        stride: step between tiles; by default tiles lie side by side.
        batched: the model wants ``(1, N, C, *tile)``.

    >>> slide_model = Tiled(bag_model, tile=224)  # doctest: +SKIP
    >>> explain(slide_model, slide, "attention_mil")  # doctest: +SKIP
    """

    one_by_one = True
    """One call of the bag model for every image: a hook inside sees one image at a time."""

    def __init__(
        self,
        model: nn.Module,
        tile: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        *,
        batched: bool = False,
    ) -> None:
        super().__init__()
        self.bags = nn.Identity()  # where the tiles ``(B, N, C, *tile)`` can be seen
        self.model, self.batched = model, batched
        self.tile = tile if isinstance(tile, int) else tuple(tile)
        self.stride = stride if stride is None or isinstance(stride, int) else tuple(stride)
        if min(*_each(self.tile, 1), *_each(self.stride or 1, 1)) < 1 or self.stride == 0:
            raise TargetError(f"Tiled: tile={tile} and stride={stride} were given; both must be at least 1 pixel")

    def starts(self, spatial: Sequence[int]) -> list[list[int]]:
        """Return where tiles begin on each axis of an image.

        Raises:
            ImageError: the image is smaller than a tile, or has other axes.
        """
        sides, steps = _each(self.tile, len(spatial)), _each(self.stride or self.tile, len(spatial))
        fits = len(sides) == len(steps) == len(spatial)
        if not fits or any(side > length for side, length in zip(sides, spatial, strict=True)):
            raise ImageError(f"tiles of {self.tile} pixels do not fit an image of {tuple(spatial)}")
        return [
            sorted({*range(0, length - side + 1, step), length - side})
            for length, side, step in zip(spatial, sides, steps, strict=True)
        ]

    def count(self, spatial: Sequence[int]) -> int:
        """Return the number of tiles of an image."""
        return math.prod(map(len, self.starts(spatial)))

    def cut(self, x: Tensor) -> Tensor:
        """Return the tiles ``(B, N, C, *tile)`` of images ``(B, C, *spatial)``, row by row."""
        dims = x.ndim - 2
        for axis, (begin, side) in enumerate(zip(self.starts(x.shape[2:]), _each(self.tile, dims), strict=True)):
            index = (torch.tensor(begin)[:, None] + torch.arange(side)).flatten().to(x.device)
            at = 2 + 2 * axis  # each axis done has become two: which tile, and where in it
            x = x.index_select(at, index).unflatten(at, (len(begin), side))  # type: ignore[no-untyped-call]
        order = [0, *range(2, x.ndim, 2), 1, *range(3, x.ndim, 2)]
        return x.permute(order).flatten(1, dims)

    def lay(self, values: Tensor, spatial: Sequence[int]) -> Tensor:
        """Lay one value per tile, ``(B, N)``, onto the images: ``(B, *spatial)``, the mean where tiles overlap."""
        total = values.new_zeros(len(values), *spatial)
        count = values.new_zeros(*spatial)
        sides = _each(self.tile, len(spatial))
        for number, begin in enumerate(product(*self.starts(spatial))):
            where = tuple(slice(first, first + side) for first, side in zip(begin, sides, strict=True))
            total[(slice(None), *where)] += values[:, number].view(-1, *[1] * len(spatial))
            count[where] += 1
        return total / count.clamp(min=1)  # a stride above the tile leaves gaps

    def forward(self, x: Tensor) -> Any:
        """Return the bag model's output for every image."""
        bags = self.bags(self.cut(x))
        outputs = [self.model(bag[None] if self.batched else bag) for bag in bags]
        outputs = [out[None] if isinstance(out, Tensor) and out.ndim == 1 else out for out in outputs]
        return outputs[0] if len(outputs) == 1 else joined(outputs)


def _each(given: int | tuple[int, ...], dims: int) -> tuple[int, ...]:
    return (given,) * dims if isinstance(given, int) else given


MOST_BRANCHES = 64
"""A softmax over the tiles that has more rows than this pools no slide."""


def _tiles_of(method: str, model: nn.Module) -> tuple[str, Tiled]:
    """Return the wrapper inside a model, and its name there.

    Raises:
        RequirementError: the model reads no bags of tiles.
    """
    for name, module in model.named_modules():
        if isinstance(module, Tiled):
            return name, module
    sentence = "it needs a model that reads a slide as a bag of tiles; put it into runners.Tiled."
    raise RequirementError(method, [Gap("tiles", sentence)])


def _pooling(method: str, model: nn.Module, x: Tensor) -> tuple[Tensor, Any, Tiled]:
    """Return the weights ``(B, branches, N)`` that the model gives to the tiles, its outputs, and the wrapper.

    They are the softmax over all tiles that ran last and is not the answer itself.

    Raises:
        RequirementError: nothing weighs the tiles.
    """
    _, tiled = _tiles_of(method, model)
    found, outputs = [], []
    for image in x:
        with Softmaxes() as mode:
            outputs.append(run(model, image[None].clone()))
        count = tiled.count(x.shape[2:])
        fitting = [w for w in mode.weights if w.shape[-1] == count and w.numel() <= count * MOST_BRANCHES]
        pooling = [w for w in fitting if w.ndim < 3 or w.shape[-2] != count or count == 1]  # not between tiles
        if len(pooling) > 1 and primary(outputs[-1]).shape[-1] == count:
            pooling = pooling[:-1]  # as many labels as tiles: the last one makes probabilities
        if not pooling:
            sentence = "it needs a model that weighs its tiles with a softmax, and none was seen over the tiles."
            raise RequirementError(method, [Gap("tiles", sentence)])
        found.append(pooling[-1].reshape(-1, count))
    return torch.stack(found), joined(outputs), tiled


def _cautions(tiled: Tiled, x: Tensor) -> tuple[str, ...]:
    side = "×".join(map(str, _each(tiled.tile, x.ndim - 2)))
    return (f"One value per tile of {side} {'voxels' if x.ndim == 5 else 'pixels'}: nothing inside a tile is told.",)


ATTENDED = "Attention says what was read, not for which label: a tile of high weight can speak against it."


@explainer("attention_mil")
@torch.no_grad()
def attention_mil(model: nn.Module, x: Tensor, score: Score) -> Found:  # noqa: ARG001
    """Weight that attention pooling gives to each tile, the mean if it has several branches (arXiv 1802.04712).

    Args:
        model: a bag model inside ``Tiled``.
        x: ``(B, C, *spatial)``.
        score: not used; the map does not depend on the target.
    """
    weights, _, tiled = _pooling("attention_mil", model, x)
    several = f", the mean of {weights.shape[1]} branches" if weights.shape[1] > 1 else ""
    note = f"Attention over {weights.shape[2]} tiles{several}; the weights sum to 1."
    return Found(tiled.lay(weights.mean(1), x.shape[2:]), (note,), (ATTENDED, *_cautions(tiled, x)), signed=False)


@explainer("clam")
@torch.no_grad()
def clam(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Weight of each tile in the attention branch of the explained label (10.1038/s41551-020-00682-w).

    A model with one branch gives the same map for every label. The authors' heat maps show percentiles of the weights;
    here they are left as they are.

    Args:
        model: a bag model inside ``Tiled``.
        x: ``(B, C, *spatial)``.
        score: the score; the label it reads is the one whose branch is shown.
    """
    weights, outputs, tiled = _pooling("clam", model, x)
    branches, labels = weights.shape[1], primary(outputs).shape[-1]
    cautions = (ATTENDED, *_cautions(tiled, x))
    if branches == labels and labels > 1:
        chosen = label_read(score, outputs, len(x))
        rows = weights[torch.arange(len(x), device=weights.device), chosen]
        note = f"Attention over {weights.shape[2]} tiles in the branch of the explained label, one of {branches}."
    else:
        rows = weights.mean(1)
        note = f"Attention over {weights.shape[2]} tiles; {branches} attention branch(es) for {labels} label(s)."
        cautions = ("No branch belongs to the label alone: the map is the same for every label.", *cautions)
    return Found(tiled.lay(rows, x.shape[2:]), (note,), cautions, signed=False)


@explainer("single_patch_perturbation")
@torch.no_grad()
def single_patch_perturbation(
    model: nn.Module, x: Tensor, score: Score, *, batch_size: int = 16, progress: Progress
) -> Found:
    """Score of a bag that holds one tile only, for every tile (arXiv 2201.11701).

    Args:
        model: a bag model inside ``Tiled`` that accepts bags of any size.
        x: ``(B, C, *spatial)``.
        score: the score.
        batch_size: tiles at a time.
        progress: told after every chunk.
    """
    _, tiled = _tiles_of("single_patch_perturbation", model)
    tiles = tiled.cut(x)
    images, count = tiles.shape[:2]
    alone, rows = tiles.flatten(0, 1), torch.arange(images * count) // count
    answers = []
    for index in torch.split(torch.arange(len(rows)), batch_size):
        answers.append(score(run(model, alone[index]), rows[index]))  # a tile is an image of one tile
        progress(int(index[-1]) + 1, len(rows))
    values = torch.cat(answers).view(images, count)
    note = f"Score of each of {count} tiles in a bag of its own; zero is the zero of the score, not that of the slide."
    caution = "Every tile is judged alone: what tiles do together is left out."
    return Found(tiled.lay(values, x.shape[2:]), (note,), (caution, *_cautions(tiled, x)))


@explainer("xmil_lrp")
def xmil_lrp(model: nn.Module, x: Tensor, score: Score, *, epsilon: float = 1e-6) -> Found:
    """Relevance propagated through the pooling to the tiles, summed over each (arXiv 2406.04280).

    Attention weights count as constants, so that all relevance goes to what they weigh. It is followed through the tile
    encoder to the pixels, where the paper stops at the encoder's features: what a tile gets is the same but for the
    encoder's biases.

    Args:
        model: a bag model inside ``Tiled``.
        x: ``(B, C, *spatial)``.
        score: the score.
        epsilon: stabiliser of the denominators.
    """
    name, tiled = _tiles_of("xmil_lrp", model)
    place = Place(f"{name}.bags".removeprefix("."), "channels_first", (), 0)
    _, entry = leaf(x)
    with torch.enable_grad(), captured(model, place) as tiles:
        with Relevance(composites()["epsilon_plus"], epsilon):
            output = primary(run(model, entry))
        (relevance,) = torch.autograd.grad(output, tiles[-1], relevance_of(score, output, torch.arange(len(x))))
    values = relevance.flatten(2).sum(2)
    return Found(tiled.lay(values, x.shape[2:]), (f"Relevance of {values.shape[1]} tiles.",), _cautions(tiled, x))
