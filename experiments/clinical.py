"""Experiment 3: image and clinical values in one model: how much did each count, and is that what was planted?

The images are phantoms and the clinical table is synthetic: nobody was ever measured. So it is known what decides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.measuring import mean_in_words
from experiments.page import Experiment, Section
from runners import explain, profile
from runners.bench.phantoms import Planted, xray
from runners.case import Case, Result, discovered
from runners.forms import Contributions
from runners.images import Image
from runners.joint import Fused
from runners.owned import Cohort, Owned
from runners.panels import panel
from runners.pictures import beside, captioned, figure
from runners.registry import Progress, no_progress
from runners.zoo.nets import ResNet
from taxonomy import KB
from taxonomy.errors import TargetError

PLANTED: Final[Mapping[str, float]] = {"image": 1.5, "CRP": 1.0, "age": 0.5, "visit number": 0.0}
"""What a standard deviation of each adds to the log-odds of the synthetic diagnosis; the image: opacity or none."""
WORLDS: Final[Mapping[str, Mapping[str, float]]] = {
    "as planted": PLANTED,
    "control, where the image decides nothing": {**PLANTED, "image": 0.0},
}
TOGETHER: Final = "clinical data"
"""What methods that do not tell the values apart call them."""
VALUES: Final = tuple(name for name in PLANTED if name != "image")
SCALES: Final[Mapping[str, tuple[float, float]]] = {
    "CRP": (40.0, 25.0),
    "age": (62.0, 12.0),
    "visit number": (6.0, 2.0),
}
"""Mean and standard deviation of the drawn values: mg/l, years, a number."""
METHODS: Final[Mapping[str, Mapping[str, int]]] = {
    "sequence_shapley": {"references": 64},
    "modality_occlusion": {"references": 64},
    "modality_swap": {"cases": 64},
    "lime_tabular": {},
}
"""Methods with their settings: of the cohort so many cases stand for what is absent."""
SHAPLEY: Final = "sequence_shapley"
HELD_OUT: Final = 200
"""Patients by whom the network is judged; the first of them are explained."""
LABELS: Final = ("no pneumonia", "pneumonia")
RATE: Final = 1e-2
EXPLAINED: Final = 1_000_000
"""Seed of the first explained phantom; the network learns from those before."""


class Both(nn.Module):
    """A residual network of the image and a linear layer of the values, added up: what each adds can be read off."""

    centre: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.image = ResNet(1, 1, (8, 12, 16))
        self.values = nn.Linear(len(VALUES), 1)
        self.register_buffer("centre", torch.tensor([SCALES[name][0] for name in VALUES]))
        self.register_buffer("spread", torch.tensor([SCALES[name][1] for name in VALUES]))

    def parts(self, image: Tensor, table: Tensor) -> Tensor:
        """Return what image and each value add to the log-odds, ``(B, 1 + V)``, without the intercept."""
        own = (table - self.centre) / self.spread * self.values.weight
        return torch.cat([self.image(image), own], 1)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        """Return logits ``(B, 2)`` of images ``(B, 1, H, W)`` and values ``(B, V)``."""
        odds = self.parts(image, table).sum(1) + self.values.bias
        return torch.stack([-odds / 2, odds / 2], 1)


@dataclass(frozen=True, eq=False)
class World:
    """Synthetic patients.

    Attributes:
        pictures: phantoms, half of them with an opacity.
        x: ``(N, 1, H, W)``, as the network sees them. table: ``(N, V)``.
        labels: ``(N,)``, drawn from the log-odds.
    """

    pictures: Sequence[Planted]
    x: Tensor
    table: Tensor
    labels: Tensor

    @property
    def cohort(self) -> Cohort:
        """The patients as a user would bring them."""
        return Cohort(self.x, self.labels, LABELS, features=self.table, feature_names=VALUES)


@lru_cache(maxsize=2)
def _phantoms(first: int, count: int) -> tuple[Planted, ...]:
    return tuple(xray(first + i, i % 2) for i in range(count))


def world(first: int, count: int, weights: Mapping[str, float] = PLANTED) -> World:
    """Draw patients; the same first number gives the same ones.

    Args:
        first: number of the first patient, a seed.
        count: how many.
        weights: as :data:`PLANTED`.
    """
    generator = torch.Generator().manual_seed(first)
    pictures = _phantoms(first, count)
    opacity = torch.tensor([1.0 if one.label else -1.0 for one in pictures])
    drawn = torch.randn(count, len(VALUES), generator=generator)
    odds = weights["image"] * opacity + drawn @ torch.tensor([weights[name] for name in VALUES])
    labels = (torch.rand(count, generator=generator) < odds.sigmoid()).long()
    scale = torch.tensor([SCALES[name] for name in VALUES])
    return World(pictures, torch.stack([one.x for one in pictures]), drawn * scale[:, 1] + scale[:, 0], labels)


def trained(patients: World, epochs: int, seed: int = 0) -> Both:
    """Train the network on patients; one thread, so that the same seed gives the same weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Both()
            steps = epochs * (len(patients.x) // 32)
            adam = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
            schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=steps)
            for _ in range(steps):
                rows = torch.randint(len(patients.x), (32,))
                adam.zero_grad()
                loss = F.cross_entropy(network(patients.x[rows], patients.table[rows]), patients.labels[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
                schedule.step()
    finally:
        torch.set_num_threads(threads)
    return network.eval()


def clinical(
    kb: KB,
    *,
    images: int = 8,
    patients: int = 800,
    epochs: int = 6,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Experiment:
    """Train a network of radiograph phantoms and a synthetic clinical table, and explain it by both.

    Args:
        kb: the knowledge base.
        images: patients that are explained.
        patients: patients that the network learns from.
        epochs: passes over them.
        seed: of all randomness.
        progress: called with ``(done, total)``, counted in patients and explanations.

    Raises:
        TargetError: too few images or patients.
    """
    if not 2 <= images <= HELD_OUT or patients < 64:
        raise TargetError(f"images = {images}, patients = {patients}: 2 to {HELD_OUT} and at least 64 are allowed")
    start = time.perf_counter()
    total, done = len(WORLDS) * images * len(METHODS), 0
    numbers: list[dict[str, str | float | None]] = []
    sections, lines = [], []
    for named, weights in WORLDS.items():
        known, new = world(0, patients, weights), world(EXPLAINED, HELD_OUT, weights)
        network = trained(known, epochs, seed)
        true = added(network, new, known)[:images]
        results: list[list[Result]] = [[] for _ in range(images)]
        for i, own in enumerate(results):
            for method in METHODS:
                own.append(_explained(network, new, i, method, known, seed))
                progress(done := done + 1, total)
        rows = [row for i, own in enumerate(results) for one in own for row in _rows(named, i, one, true[i])]
        right = float((network(new.x, new.table).argmax(1) == new.labels).float().mean())
        lines.append(_said(named, rows, right))
        errors = dict.fromkeys(f"{kb.methods[r.method].name}: {r.error}" for own in results for r in own if r.error)
        sections.append(_board(kb, named, weights, true, rows, tuple(errors)))
        numbers += rows
        if not sections[1:]:
            drawn = _pictures(kb, network, new, results, seed)
    return Experiment(
        title="Image and clinical values",
        question="How much did the image count, and how much each clinical value?",
        done=(
            f"SYNTHETIC: a small network learned a made-up diagnosis from {patients} phantoms of chest radiographs and "
            f"made-up values of {', '.join(VALUES)}. What decides is known: a standard deviation adds "
            + ", ".join(f"{weight:g} ({name})" for name, weight in PLANTED.items())
            + " to the log-odds. The network adds up what image and values give, so what each added to an answer can "
            "be read off it: that is the truth that explanations are held against.",
            f"{len(METHODS)} methods explained {images} further patients. As a control the same was done with a "
            "network whose diagnosis does not depend on the image.",
        ),
        answer=tuple(lines),
        sections=(*sections, Section("One patient", pictures=tuple(drawn))),
        limits=(
            "The network adds up its parts; in one that combines them, what belongs to the image alone is a matter of "
            "definition, and methods will differ more.",
            "Occlusion hides parts of the image by its mean grey, which over the lung looks like an opacity itself.",
            "Values are independent of each other and of the image here; in patients they are not.",
        ),
        numbers=tuple(numbers),
        seconds=time.perf_counter() - start,
        seed=seed,
    )


def _explained(network: Both, new: World, i: int, method: str, known: World, seed: int) -> Result:
    values = dict(zip(VALUES, new.table[i].tolist(), strict=True))
    model, x = Fused(network, values).eval(), new.x[i : i + 1]
    owned = Owned(cohort=known.cohort, features=values)
    return discovered(model, x, method, 1, owned=owned, seed=seed, task="classification", **METHODS[method])


def added(network: Both, new: World, known: World) -> np.ndarray:
    """Return what each part adds to the score of each patient, against the average known patient: ``(N, 1 + V)``."""
    with torch.no_grad():
        usual = network.parts(known.x, known.table).mean(0)
        found: np.ndarray = ((network.parts(new.x, new.table) - usual) / 2).numpy()  # a score is half of the log-odds
    return found


def _parts(true: np.ndarray) -> dict[str, float]:
    """Return what each part adds to the score of one patient; the values together are "clinical data"."""
    return {**dict(zip(PLANTED, true.tolist(), strict=True)), TOGETHER: float(true[1:].sum())}


def _rows(named: str, patient: int, one: Result, true: np.ndarray) -> list[dict[str, str | float | None]]:
    if one.insight is None or not isinstance(one.insight.form, Contributions):
        return []
    form, parts = one.insight.form, _parts(true)
    return [
        {"model": named, "patient": patient + 1, "method": one.method, "part": part, "value": value, "what": form.what}
        | {"added": parts[part]}
        for part, value in zip(form.names, form.values.tolist(), strict=True)
    ]


def _said(named: str, rows: Sequence[Mapping[str, Any]], right: float) -> str:
    own = [row for row in rows if row["method"] == SHAPLEY]
    size = {part: np.mean([abs(row["value"]) for row in own if row["part"] == part]) for part in PLANTED}
    total = max(sum(size.values()), 1e-12)
    told = ", ".join(f"{part} {size[part] / total:.0%}" for part in sorted(PLANTED, key=lambda part: -size[part]))
    alike = np.corrcoef([row["value"] for row in own], [row["added"] for row in own])[0, 1]
    return (
        f"{named[0].upper()}{named[1:]}: by Shapley values the score is made up of {told}; they correlate {alike:.3f} "
        f"with what the network really added. The network answers right in {right:.0%} of {HELD_OUT} new patients."
    )


def _board(
    kb: KB,
    named: str,
    weights: Mapping[str, float],
    true: np.ndarray,
    rows: Sequence[Mapping[str, Any]],
    errors: tuple[str, ...],
) -> Section:
    sizes = {part: np.mean([abs(_parts(one)[part]) for one in true]) for part in (*PLANTED, TOGETHER)}
    shown = []
    for part, size in sizes.items():
        cells = [f"{weights[part]:g}" if part in weights else "", f"{size:.2f}"]
        for method in METHODS:
            own = np.array([abs(row["value"]) for row in rows if (row["method"], row["part"]) == (method, part)])
            cells.append(mean_in_words(own, "2f"))
        shown.append((part, *cells))
    what = {str(row["method"]): row["what"] for row in rows}
    return Section(
        f"How much each part counted: {named}",
        lines=("Mean size over the patients, with the 95 % bootstrap interval.", *errors),
        head=(
            "Part",
            "Planted weight",
            "Truly added",
            *(f"{kb.methods[method].name}: {what.get(method, 'nothing')}" for method in METHODS),
        ),
        rows=tuple(shown),
    )


def _pictures(
    kb: KB, network: Both, new: World, found: Sequence[Sequence[Result]], seed: int
) -> list[tuple[np.ndarray, str]]:
    """Draw one patient with an opacity: the maps of the image beside the parts."""
    at = next(i for i, one in enumerate(new.pictures) if one.label)
    values = dict(zip(VALUES, new.table[at].tolist(), strict=True))
    model, x = Fused(network, values).eval(), new.x[at : at + 1]
    picture = new.pictures[at]
    image = Image(picture.image, (0.0, 255.0), "", "phantom", modality="xray")
    case = Case(image, {"id": "synthetic", "name": "Image and values", "task": "classification", "labels": LABELS},
                modality="xray", mask=picture.evidence)  # fmt: skip
    wired = profile(model, x, task="classification")
    maps = [captioned(figure(case, None, side=260), "the phantom, its opacity outlined")]
    for method in ("grad_cam", "integrated_gradients", "occlusion"):
        maps.append(
            captioned(
                figure(case, explain(model, x, method, 1, seed=seed, known=wired), side=260), kb.methods[method].name
            )
        )
    said = ", ".join(f"{name} {value:.0f}" for name, value in values.items())
    shown = [(beside(maps), f"Where the image spoke for pneumonia, with {said}")]
    for one in found[at]:
        if one.insight is not None:
            shown.append((panel(one.insight, case), kb.methods[one.method].name))
    return shown
