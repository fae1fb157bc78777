"""Sparse autoencoders trained on a layer's features over a cohort: what it is made of, a few units at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least
from runners.beyond.inside import closest_patches, cut, enough, seed_of, settled
from runners.forms import Concepts
from runners.models import Wired
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight, no_progress
from taxonomy.errors import TargetError

PATCHES: Final = 4
"""Examples shown of each feature."""
TOKENS: Final = 20_000
"""Most positions that are learned from."""
RANDOMS: Final = 20
"""Directions drawn at random, for comparison."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A sparse autoencoder with a fixed number of active units (TopK).

    Attributes:
        encoder: ``(W, D)``.
        bias: ``(W,)``.
        decoder: ``(W, D)``, unit vectors.
        mean: ``(D,)``, the middle (median) of the features, which is taken off first.
        active: units that may be active at a position.
    """

    encoder: Tensor
    bias: Tensor
    decoder: Tensor
    mean: Tensor
    active: int

    def encode(self, features: Tensor) -> Tensor:
        """Return the activations ``(N, W)`` of features ``(N, D)``: not below 0, few above."""
        dense = F.relu((features - self.mean) @ self.encoder.T + self.bias)
        top, where = dense.topk(self.active, 1)
        return torch.zeros_like(dense).scatter(1, where, top)

    def decode(self, codes: Tensor) -> Tensor:
        """Return features ``(N, D)``."""
        return codes @ self.decoder + self.mean


@dataclass(frozen=True, eq=False)
class Hull:
    """Atoms held to the convex hull of real features (arXiv 2502.12892): a mixture of points, and a little beside it.

    Attributes:
        points: ``(P, D)``, centres of clusters of the features.
        mix: ``(W, P)``, what of each point an atom has; its positive part, divided by its sum.
        beside: ``(W, D)``, cut to a length of ``slack``.
        slack: how far an atom may lie beside the hull, in mean lengths of a feature.
    """

    points: Tensor
    mix: Tensor
    beside: Tensor
    slack: float

    def atoms(self) -> Tensor:
        """Return the atoms ``(W, D)``."""
        shares = self.mix.clamp(min=0)
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-12)
        length = self.beside.norm(dim=1, keepdim=True)
        found: Tensor = shares @ self.points + self.beside * (self.slack / length.clamp(min=1e-12)).clamp(max=1)
        return found

    def start(self, at: Sequence[int], towards: Tensor) -> None:
        """Begin atoms anew at the points whose direction is nearest to ``towards`` ``(n, D)``."""
        nearest = (F.normalize(towards, dim=1) @ F.normalize(self.points, dim=1).T).argmax(1)
        for unit, point in zip(at, nearest.tolist(), strict=True):
            self.mix[unit] = 0.1 / len(self.points)  # not nothing: what is at zero would stay there
            self.mix[unit, point] = 1
            self.beside[unit] = 0


def learned(
    tokens: Tensor,
    width: int,
    active: int,
    steps: int,
    generator: torch.Generator,
    progress: Progress = no_progress,
    *,
    points: int = 0,
    slack: float = 0.0,
) -> Dictionary:
    """Train a sparse autoencoder on features ``(N, D)``: a few seconds on one core.

    Units start at features of the data that point different ways; units that never fire move to what is worst
    reconstructed.

    Args:
        tokens: Features ``(N, D)``.
        width: Units.
        active: Units that may be active at once.
        steps: Steps of training with 256 features each.
        generator: Draws.
        progress: Told the steps done.
        points: Clusters of the features whose centres span the hull that atoms are held to; 0 leaves them free.
        slack: How far they may lie beside it; see :class:`Hull`.
    """
    mean = tokens.median(0).values
    size = (tokens - mean).norm(dim=1)
    scale = size.square().mean().sqrt().clamp(min=1e-12)
    data = (tokens - mean) / scale
    some = data[size.argsort(descending=True, stable=True)[: len(data) // 2]]
    some = F.normalize(some[torch.randperm(len(some), generator=generator)[:5000]], dim=1)
    start = torch.from_numpy(kmeans_plusplus(some.numpy(), min(width, len(some)), random_state=seed_of(generator))[0])
    start = start[torch.arange(width) % len(start)] + 0.05 * torch.randn(width, data.shape[1], generator=generator)
    start = F.normalize(start, dim=1)
    hull = None
    if points:
        fit = MiniBatchKMeans(min(points, len(data)), n_init=1, random_state=seed_of(generator)).fit(data.numpy())
        centres = torch.from_numpy(fit.cluster_centers_).to(data)
        hull = Hull(centres, torch.zeros(width, len(centres)), torch.zeros(width, data.shape[1]), slack)
        hull.start(range(width), start)
        start = F.normalize(hull.atoms(), dim=1)
    first = Dictionary(start, torch.zeros(width), start, torch.zeros_like(mean), active)
    again = first.decode(first.encode(data[:5000]))
    # several units answer to the same at first: together they must not give more than there is
    factor = float((again * data[:5000]).sum() / again.square().sum().clamp(min=1e-12))
    with torch.enable_grad():
        encoder, decoder = (factor * start).requires_grad_(), start.clone().requires_grad_()
        bias = torch.zeros(width, requires_grad=True)
        own = [decoder] if hull is None else [hull.mix.requires_grad_(), hull.beside.requires_grad_()]
        adam = torch.optim.Adam([encoder, bias, *own], 0.003)
        fired = torch.zeros(width, dtype=torch.bool)
        for step in range(steps):
            for group in adam.param_groups:
                group["lr"] = 0.003 * min(1.0, 2 * (steps - step) / steps)
            batch = data[torch.randint(len(data), (min(256, len(data)),), generator=generator)]
            atoms = F.normalize(decoder if hull is None else hull.atoms(), dim=1)
            one = Dictionary(encoder, bias, atoms, torch.zeros_like(mean), active)
            codes = one.encode(batch)
            error = (one.decode(codes) - batch).square().sum(1)
            adam.zero_grad()
            error.mean().backward()
            adam.step()
            fired |= (codes.detach() > 0).any(0)
            if step % 100 == 99 and step < 0.8 * steps:
                dead = (~fired).nonzero()[:, 0]
                worst = error.detach().argsort(descending=True, stable=True)[: len(dead)]
                with torch.no_grad():
                    dead = dead[: len(worst)]
                    if hull is not None:
                        hull.start(dead.tolist(), batch[worst])
                    decoder[dead] = F.normalize(batch[worst] if hull is None else hull.atoms()[dead], dim=1)
                    encoder[dead] = decoder[dead] / active
                    bias[dead] = 0
                fired = torch.zeros(width, dtype=torch.bool)
            progress(step + 1, steps)
    atoms = F.normalize((decoder if hull is None else hull.atoms()).detach(), dim=1)
    return Dictionary(encoder.detach(), bias.detach() * scale, atoms, mean, active)


def kept(dictionary: Dictionary, tokens: Tensor) -> float:
    """Return the share of the variance of features ``(N, D)`` that the dictionary gives again."""
    spread = (tokens - tokens.mean(0)).square().sum()
    return float(1 - (dictionary.decode(dictionary.encode(tokens)) - tokens).square().sum() / spread.clamp(min=1e-12))


@insight("sparse_autoencoder", sizes=True)
def sparse_autoencoder(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    width: int = 48,
    active: int = 3,
    steps: int = 800,
    shown: int = 8,
    images: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Take a layer's features apart into a few active units each, learned on a cohort (arXiv 2309.08600, 2406.04093).

    At every position of the layer a few of many units are active (TopK). For each unit that is active in this image it
    is computed how far the score falls when the unit's part is taken out of the layer.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest one that decides the score.
        width: Units of the autoencoder.
        active: Units that may be active at a position.
        steps: Steps of training.
        shown: Units shown, those whose removal changes the score most.
        images: Most images of the cohort that are learned from.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to learn from.
        generator: Draws.
        progress: Told the steps of training.

    Returns:
        By how much the score falls without each unit, where the unit is active, and the parts of the cohort's images
        that activate it most.
    """
    return _taken_apart(
        "sparse_autoencoder", model, x, score, layer, width, active, steps, shown, images, batch_size, profile, cohort,
        generator, progress,
    )  # fmt: skip


@insight("archetypal_sae", sizes=True)
def archetypal_sae(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    width: int = 48,
    active: int = 3,
    steps: int = 800,
    points: int = 200,
    slack: float = 0.1,
    shown: int = 8,
    images: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Take features apart into units that are mixtures of real ones, which makes them stable (arXiv 2502.12892).

    A sparse autoencoder whose atoms are convex mixtures of the centres of clusters of the cohort's features, and lie a
    little beside them at most. Atoms are then brought to length 1, so that activations compare.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest one that decides the score.
        width: Units of the autoencoder.
        active: Units that may be active at a position.
        steps: Steps of training.
        points: Clusters of the features whose centres are mixed.
        slack: How far an atom may lie beside their hull, in mean lengths of a feature; 0 holds it inside.
        shown: Units shown, those whose removal changes the score most.
        images: Most images of the cohort that are learned from.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to learn from.
        generator: Draws.
        progress: Told the steps of training.

    Returns:
        By how much the score falls without each unit, where the unit is active, and the parts of the cohort's images
        that activate it most.
    """
    at_least(2, points=points)
    at_least(0, slack=slack)
    return _taken_apart(
        "archetypal_sae", model, x, score, layer, width, active, steps, shown, images, batch_size, profile, cohort,
        generator, progress, points, slack,
    )  # fmt: skip


def _taken_apart(
    method: str,
    model: nn.Module,
    x: Tensor,
    score: Score,
    layer: str | None,
    width: int,
    active: int,
    steps: int,
    shown: int,
    images: int,
    batch_size: int,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
    points: int = 0,
    slack: float = 0.0,
) -> Told:
    at_least(2, width=width, images=images)
    at_least(1, active=active, steps=steps, shown=shown, batch_size=batch_size)
    if active > width:
        raise TargetError(f"active = {active} and width = {width}: no more units can be active than there are.")
    enough(cohort, 16, method)
    inside = cut(model, x, score, profile, batch_size, layer)
    inside, passing = settled(inside, x, cohort.x, profile, layer)
    drawn = torch.randperm(len(cohort), generator=generator)[:images]
    some = cohort.x[drawn].cpu()
    features, own = inside.features(some), inside.features(x)
    last = max(1, len(some) // 5)
    learn, judge = _flat(features[last:]), _flat(features[:last])
    learn = learn[torch.randperm(len(learn), generator=generator)[:TOKENS]]
    one, again = (
        learned(learn, width, active, steps, generator, progress, points=points, slack=slack) for _ in range(2)
    )
    codes = one.encode(_flat(own))
    grid = own.shape[2:]
    live = (codes.amax(0) > 0).nonzero()[:, 0]
    if len(live) == 0:
        raise TargetError("no unit of the autoencoder is active in this image; give more images or a larger width")
    parts = [_part(codes[:, k], one.decoder[k], own.shape) for k in live.tolist()]
    before = inside.behind(x, own)[0]
    falls = before - inside.behind(x, torch.cat([own - part for part in parts]))[0]
    order = falls.abs().argsort(descending=True, stable=True)[:shown]
    unit = live[order]
    everywhere = torch.stack([_maps(one.encode(_flat(f[None])), grid, unit) for f in features])
    strongest = everywhere.flatten(2).amax(2)
    ranked = strongest.argsort(dim=0, descending=True, stable=True)
    randoms = []
    for _ in range(RANDOMS):
        way = torch.randn(own.shape[1], generator=generator) * learn.std(0)
        randoms.append(own - _part(codes[:, unit[0]], F.normalize(way, dim=0), own.shape))
    chance = (before - inside.behind(x, torch.cat(randoms))[0]).abs()
    cosine = (one.decoder[unit] @ again.decoder.T).amax(1)
    held = judge[torch.randperm(len(judge), generator=generator)[:TOKENS]]
    seen = one.encode(held)
    used = (one.encode(learn) > 0).any(0)
    form = Concepts(
        names=tuple(f"unit {k}" for k in unit.tolist()),
        scores=falls[order],
        what="fall of the score when the unit's part is taken out of the layer",
        neutral=0.0,
        patches=torch.stack(
            [closest_patches(some, everywhere[:, i], ranked[:, i], PATCHES, 0.3) for i in range(len(unit))]
        ),
        maps=inside.up(_maps(codes, grid, unit), x.shape[2:]),
        measures={
            "share of the features' variance given again (images left out)": kept(one, held),
            "units active at a position (mean)": float((seen > 0).double().sum(1).mean()),
            "units that are never active": float((~used).double().mean()),
            "likeness of the shown units to those of a second training (cosine)": float(cosine.mean()),
            f"change of the score by a random direction of this size (largest of {RANDOMS})": float(chance.max()),
        },
    )
    notes = (
        *inside.notes,
        f"Learned from {len(learn)} positions in {len(some) - last} images of the cohort; {last} judge.",
        *((f"Units are mixtures of {min(points, len(learn))} centres of clusters of features.",) if points else ()),
        *_goes_with(cohort, drawn, strongest, unit),
    )
    cautions = [
        *passing,
        "Units have no names: look at the examples before you call them something. Units of untrained networks can "
        "look as clear.",
    ]
    if float(cosine.mean()) < 0.7:
        cautions.append("A second training gave other units: do not take these for the parts of the model.")
    if float(chance.max()) >= float(falls[order].abs().max()):
        cautions.append("A random direction changes the score as much as the strongest unit: none of them stands out.")
    return Told(form, notes, tuple(cautions))


def _flat(features: Tensor) -> Tensor:
    """Return features ``(N, D, *grid)`` of all positions, ``(N * positions, D)``."""
    return features.flatten(2).transpose(1, 2).flatten(0, 1)


def _part(codes: Tensor, way: Tensor, shape: torch.Size) -> Tensor:
    """Return what a unit adds to the features of one image, ``(1, D, *grid)``."""
    return (codes[:, None] * way).T.reshape(shape)


def _maps(codes: Tensor, grid: torch.Size, unit: Tensor) -> Tensor:
    """Return where units are active in one image, ``(K, *grid)``."""
    return codes[:, unit].T.reshape(len(unit), *grid)


def _goes_with(cohort: Cohort, drawn: Tensor, strongest: Tensor, unit: Tensor) -> tuple[str, ...]:
    """Say which label each unit goes with most: how well its largest activation tells it, as an AUC."""
    if cohort.labels is None:
        return ()
    labels, found = cohort.labels.cpu()[drawn], []
    kinds = [k for k in sorted(set(labels.tolist())) if 0 < int((labels == k).sum()) < len(labels)]
    for i, k in enumerate(unit.tolist()):
        told = [(float(roc_auc_score((labels == kind).numpy(), strongest[:, i].numpy())), kind) for kind in kinds]
        if told:
            auc, kind = max(told)
            name = cohort.label_names[kind] if kind < len(cohort.label_names) else f"label {kind}"
            found.append(f"unit {k} is strongest in images of {name!r} (AUC {auc:.2f})")
    return (f"In the cohort {'; '.join(found)}.",) if found else ()
