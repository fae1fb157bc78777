"""Where the case lies among a cohort in the model's eyes, as a picture in two dimensions, and how far to trust it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor, nn

from runners.asking import at_least
from runners.beyond.inside import enough, seed_of
from runners.embedding import embedded, embedding_note
from runners.forms import Projection
from runners.models import Wired
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight
from runners.sized import at_size
from taxonomy.errors import ModelError, TargetError

NEAR: Final = 10
"""Neighbours that are compared."""
SMALL: Final = {4: 64, 5: 24}
"""Longest side of the images shown, by number of axes."""
FIRST: Final = 50
"""Dimensions that PCA leaves before t-SNE and UMAP."""


@insight("tsne", sizes=True)
def tsne(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001  where a case lies does not hang on the answer
    *,
    layer: str | None = None,
    perplexity: float = 30.0,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Draw cohort and case by t-SNE of the vectors by which the model describes them (JMLR 2008).

    The case is one of the points that are laid out, not added afterwards.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Layer whose features are averaged over positions; None for what the last linear layer reads.
        perplexity: About how many neighbours count for each point; at most a third of the cases.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to lie among.
        generator: Draws.
        progress: Told the images done.

    Returns:
        The points, and how far the picture can be trusted.
    """
    if not perplexity >= 2:
        raise TargetError(f"perplexity = {perplexity}: it must be at least 2.")
    used = min(perplexity, (len(cohort)) / 3)

    def place(codes: Any, seed: int) -> Any:
        return TSNE(perplexity=used, init="pca", random_state=seed).fit_transform(codes)

    cautions = (
        "Sizes of clusters, and distances between them, mean nothing here; another perplexity draws another picture.",
    )
    notes = (f"t-SNE with perplexity {used:.3g}.",)
    return _drawn("tsne", place, ("t-SNE 1", "t-SNE 2"), model, x, layer, batch_size, profile, cohort, generator,
                  progress, notes, cautions)  # fmt: skip


@insight("umap", sizes=True)
def umap(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001  where a case lies does not hang on the answer
    *,
    layer: str | None = None,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Draw cohort and case by UMAP of the vectors by which the model describes them (arXiv 1802.03426).

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Layer whose features are averaged over positions; None for what the last linear layer reads.
        n_neighbors: Neighbours that count for each point.
        min_dist: How near points may lie in the picture.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to lie among.
        generator: Draws.
        progress: Told the images done.

    Returns:
        The points, and how far the picture can be trusted.

    Raises:
        ModelError: the package umap-learn is not installed.
    """
    at_least(2, n_neighbors=n_neighbors)
    if not 0 <= min_dist <= 1:
        raise TargetError(f"min_dist = {min_dist}: it must be from 0 to 1.")
    try:
        umap_learn = importlib.import_module("umap")
    except ImportError as error:
        raise ModelError(
            'UMAP needs the extra "umap": pip install "xai-atlas[umap]"; t-SNE and PCA draw such pictures without it.'
        ) from error
    used = min(n_neighbors, len(cohort) - 1)

    def place(codes: Any, seed: int) -> Any:
        return umap_learn.UMAP(n_neighbors=used, min_dist=min_dist, random_state=seed, n_jobs=1).fit_transform(codes)

    cautions = ("Sizes of clusters, and distances between them, mean little in this picture.",)
    notes = (f"UMAP with {used} neighbours.",)
    return _drawn("umap", place, ("UMAP 1", "UMAP 2"), model, x, layer, batch_size, profile, cohort, generator,
                  progress, notes, cautions)  # fmt: skip


@insight("pca_projection", sizes=True)
def pca_projection(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001  where a case lies does not hang on the answer
    *,
    layer: str | None = None,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Draw the cohort along the two directions in which the model's vectors vary most, and the case among it.

    The directions are those of the cohort alone: the case does not bend them.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Layer whose features are averaged over positions; None for what the last linear layer reads.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to lie among.
        generator: Unused draws.
        progress: Told the images done.

    Returns:
        The points, and the share of the variance that the two directions have.
    """
    shares: list[float] = []

    def place(codes: Any, seed: int) -> Any:
        fitted = PCA(2, svd_solver="full", random_state=seed).fit(codes[:-1])
        shares.extend(map(float, fitted.explained_variance_ratio_))
        return fitted.transform(codes)

    told = _drawn("pca_projection", place, ("component 1", "component 2"), model, x, layer, batch_size, profile, cohort,
                  generator, progress, (), ())  # fmt: skip
    form = told.form
    assert isinstance(form, Projection)
    measures = {"share of the variance that the picture shows": sum(shares), **form.measures}
    axes = (f"component 1 ({shares[0]:.0%} of the variance)", f"component 2 ({shares[1]:.0%} of the variance)")
    found = Projection(form.points, form.here, axes, form.labels, form.names, form.images, measures)
    cautions = list(told.cautions)
    if sum(shares) < 0.6:
        cautions.append(f"The picture shows {sum(shares):.0%} of the variance: what is near here can be far apart.")
    return Told(found, told.notes, tuple(cautions))


def _drawn(
    method: str,
    place: Callable[[Any, int], Any],
    axes: tuple[str, str],
    model: nn.Module,
    x: Tensor,
    layer: str | None,
    batch_size: int,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
    notes: tuple[str, ...],
    cautions: tuple[str, ...],
) -> Told:
    """Describe all images, lay them out, and measure the picture."""
    at_least(1, batch_size=batch_size)
    enough(cohort, 10, method)
    each = (
        embedded(model, one.to(x), profile, layer=layer, batch_size=batch_size, progress=progress)
        for one in (cohort.x, x)
    )
    codes = torch.cat(list(each)).double()
    if float(codes.std(0).max()) <= 1e-6 * float(codes.abs().max()):  # batches of other sizes round otherwise
        raise TargetError("the model describes every image of the cohort by the same vector")
    seed = seed_of(generator)
    with threadpool_limits(1):  # sums over threads differ in their last bits
        few = codes.numpy()
        if method != "pca_projection" and few.shape[1] > FIRST < len(few):
            few = PCA(FIRST, svd_solver="full").fit_transform(few)
        points = torch.from_numpy(place(few, seed)).double()
    near = min(NEAR, len(cohort) // 2 - 1)
    high, flat = _neighbours(codes, near), _neighbours(points, near)
    distances = torch.cdist(codes, codes).fill_diagonal_(torch.inf).topk(near, largest=False).values.mean(1)
    measures = {
        f"trustworthiness of the picture ({near} neighbours; 1 is perfect)": float(
            trustworthiness(codes.numpy(), points.numpy(), n_neighbors=near)
        ),
        f"of the {near} cases most alike to this one, share also nearest in the picture": len(
            set(high[-1].tolist()) & set(flat[-1].tolist())
        )
        / near,
        "share of the cohort that lies nearer to its neighbours than the case": float(
            (distances[:-1] < distances[-1]).double().mean()
        ),
    }
    labels = tuple(cohort.label(i) for i in range(len(cohort))) if cohort.labels is not None else ()
    if cohort.labels is not None:
        kinds = cohort.labels.cpu()
        share = kinds.bincount().double() / len(kinds)
        measures["neighbours with the same label, for the model"] = _agreement(kinds, codes[:-1], near)
        measures["neighbours with the same label, in the picture"] = _agreement(kinds, points[:-1], near)
        measures["neighbours with the same label, by chance"] = float(share.square().sum())
    cautions = (
        *cautions,
        "That the case lies beside others says that the model sees them alike, not that they have the same disease.",
    )
    if measures["share of the cohort that lies nearer to its neighbours than the case"] > 0.95:
        cautions += ("The case lies farther from its neighbours than 95% of the cohort do: it is unlike all of them.",)
    most = SMALL[x.ndim] / max(x.shape[2:])
    size = [max(1, round(n * min(1.0, most))) for n in x.shape[2:]]
    form = Projection(
        points=points[:-1],
        here=points[-1],
        axes=axes,
        labels=labels,
        names=cohort.names,
        images=at_size(cohort.x.cpu(), size).float(),
        measures=measures,
    )
    return Told(form, (embedding_note(profile, layer), *notes), cautions)


def _neighbours(points: Tensor, near: int) -> Tensor:
    """Return the numbers of the nearest others of each point, ``(N, near)``."""
    found: Tensor = torch.cdist(points, points).fill_diagonal_(torch.inf).topk(near, largest=False).indices
    return found


def _agreement(labels: Tensor, points: Tensor, near: int) -> float:
    """Return the share of neighbours with the label of the point."""
    return float((labels[_neighbours(points, near)] == labels[:, None]).double().mean())
