"""The tasks of the benchmark: phantom, question, network, and a model trained by script that decides by the evidence.

``trained(TASKS["ultrasound_cnn"])`` gives the model, ``cases(task, 20)`` unseen pictures with their truth,
``checked(task, model, pictures)`` says for each picture whether the model really decides by the planted evidence.
Weights are made on first use, from phantoms with fixed seeds, and kept under a hash of everything that decides them.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import platformdirs
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from runners.bench import phantoms
from runners.bench.phantoms import PHANTOMS, Planted
from runners.registry import Progress, no_progress
from runners.zoo import nets
from runners.zoo import phantoms as shared
from taxonomy.errors import ModelError

Split = Literal["train", "test"]
Kind = Literal["classification", "segmentation"]
FIRST_SEED: dict[Split, int] = {"train": 0, "test": 1_000_000}
"""Pictures of a split are drawn from these seeds on: no picture of one is ever in the other."""


@dataclass(frozen=True)
class Task:
    """A question, the pictures it is asked on, and the network that learns to answer it.

    Attributes:
        id: e.g. ``ultrasound_cnn``.
        modality: modality id of the knowledge base.
        task: what the model does.
        dims: 2 or 3.
        architecture: architecture word of the knowledge base.
        truth: ``planted``: we know the pixels that decide; ``mask``: an expert marked a finding; ``none``: labels are
            random, there is nothing to find.
        size: spatial size of the pictures.
        seed: of weights and order of training.
        phantom: key of ``PHANTOMS``.
        marked: the label is decided by a burnt-in marker, which is then the evidence; the finding is as frequent with
            as without it.
        images: patients to train on, each with and without its evidence.
        epochs: passes over them.
        batch: pictures per step.
        rate: peak learning rate.
    """

    id: str
    modality: str
    task: Kind
    dims: int
    architecture: str
    truth: Literal["planted", "mask", "none"]
    size: tuple[int, ...]
    seed: int = 0
    phantom: str = ""
    marked: bool = False
    images: int = 400
    epochs: int = 8
    batch: int = 32
    rate: float = 3e-3

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, 0 first."""
        if self.truth == "none":
            return ("one", "other")
        return ("no mark", "mark") if self.marked else PHANTOMS[self.phantom].labels


@dataclass(frozen=True)
class Level:
    """How much of the benchmark to run.

    Attributes:
        name: quick, small or full.
        tasks: ids of :data:`TASKS`.
        images: test pictures per task in 2D, all with evidence where the task has any.
        volumes: the same of a task in 3D.
        methods: method ids; None for every explainer that can explain the model.
        metrics: metric ids; None for every metric that can be computed.
    """

    name: str
    tasks: tuple[str, ...]
    images: int
    volumes: int
    methods: tuple[str, ...] | None = None
    metrics: tuple[str, ...] | None = None

    def pictures(self, dims: int) -> int:
        """Return how many pictures a task of these dimensions has."""
        return self.volumes if dims == 3 else self.images


@dataclass(frozen=True)
class Checked:
    """Whether a model decides by the evidence of one picture.

    Attributes:
        name: of the picture.
        margin: score of the true label over the next one: of logits, for a segmentation their mean over the truth.
        without: the margin when the evidence is replaced by its twin; None where there is none.
        undistracted: the margin when the picture is drawn without its distractors; None where that is unknown.
        problem: why the picture cannot serve as ground truth; "" when it can.
    """

    name: str
    margin: float
    without: float | None
    undistracted: float | None
    problem: str = ""


def _tasks() -> dict[str, Task]:
    flat, deep = (64, 64), (32, 32, 32)
    see: Kind = "classification"
    mark: Kind = "segmentation"
    listed = [
        Task("ultrasound_cnn", "ultrasound", see, 2, "cnn", "planted", flat, phantom="ultrasound"),
        Task("ultrasound_vit", "ultrasound", see, 2, "vit", "planted", flat, phantom="ultrasound", images=500),
        Task("ultrasound_unet", "ultrasound", mark, 2, "unet", "planted", flat, phantom="ultrasound", epochs=4),
        Task("ct_cnn", "ct", see, 2, "cnn", "planted", flat, phantom="ct", images=500, epochs=10),
        Task("ct_swin_unet", "ct", mark, 2, "swin", "planted", flat, phantom="ct", batch=16, rate=2e-3, epochs=6),
        Task("ct3d_vit", "ct", see, 3, "vit", "planted", deep, phantom="ct", images=300, epochs=10, batch=16),
        Task("mr_vit", "mri", see, 2, "vit", "planted", flat, phantom="mr"),
        Task("mr_unet", "mri", mark, 2, "unet", "planted", flat, phantom="mr", epochs=5),
        Task("mr_sequences_cnn", "mri", see, 2, "cnn", "planted", flat, phantom="mr_sequences"),
        Task("mr3d_cnn", "mri", see, 3, "cnn", "planted", deep, phantom="mr", images=240, batch=16),
        Task("mr3d_vit", "mri", see, 3, "vit", "planted", deep, phantom="mr", images=360, epochs=8, batch=16),
        Task(
            "mr3d_unet", "mri", mark, 3, "unet", "planted", deep, phantom="mr", images=64, epochs=6, batch=4, rate=2e-2
        ),
        Task("mr3d_swin_unet", "mri", mark, 3, "swin", "planted", deep, phantom="mr", images=120, epochs=6, batch=8),
        Task("histology_cnn", "histopathology", see, 2, "cnn", "planted", flat, phantom="histology"),
        Task("histology_swin", "histopathology", see, 2, "swin", "planted", flat, phantom="histology"),
        Task("fundus_cnn", "fundus", see, 2, "cnn", "planted", (96, 96), phantom="fundus"),
        Task(
            "fundus_unet",
            "fundus",
            mark,
            2,
            "unet",
            "planted",
            (96, 96),
            phantom="fundus",
            images=200,
            epochs=5,
            batch=8,
        ),
        Task("xray_cnn", "xray", see, 2, "cnn", "planted", flat, phantom="xray", images=500),
        Task("xray_shortcut_cnn", "xray", see, 2, "cnn", "planted", flat, phantom="xray", marked=True),
        Task("xray_control_cnn", "xray", see, 2, "cnn", "none", flat, phantom="xray", images=96, epochs=40),
    ]
    return {task.id: task for task in listed}


TASKS = _tasks()
"""All tasks on phantoms by id. Expert masks come from :func:`runners.bench.expert.expert`."""

QUICK = Level("quick", ("histology_cnn", "mr_sequences_cnn", "ultrasound_unet"), 4, 3)
SMALL = Level("small", tuple(TASKS), 5, 4)
FULL = Level("full", tuple(TASKS), 60, 60)
LEVELS = {level.name: level for level in (QUICK, SMALL, FULL)}


# ---------------------------------------------------------------- pictures


def draw(task: Task, seed: int, label: int, distract: bool = True) -> Planted:
    """Return one picture of a task.

    Args:
        task: a task with a phantom.
        seed: the same seed gives the same patient.
        label: the class to draw.
        distract: False leaves the distractors out.
    """
    make = PHANTOMS[task.phantom].draw
    if not task.marked and task.truth == "planted":
        return make(seed, label, task.size, distract=distract)
    # the finding of the modality is there in every second picture, whatever the label
    chance = torch.Generator().manual_seed(seed + 2**41)
    finding = int(torch.rand((), generator=chance) < 0.5)
    marked = make(seed, finding if distract else 0, task.size, mark=task.marked and label == 1, distract=distract)
    nothing = torch.zeros_like(marked.evidence)
    distractors = marked.distractors | marked.evidence
    if marked.shortcut is None:
        plain, evidence = marked.image, nothing
    else:
        plain = make(seed, finding if distract else 0, task.size, distract=distract).image
        evidence, distractors = marked.shortcut, distractors & ~marked.shortcut
    return replace(
        marked,
        label=label,
        evidence=evidence,
        distractors=distractors,
        truth=evidence.long(),
        without=plain,
        channels=None,
    )


def cases(task: Task, number: int, split: Split = "test", *, evident: bool = False) -> list[Planted]:
    """Return pictures of a task; ``planted.x`` is what the network sees.

    Args:
        task: a task with a phantom.
        number: how many; the first of 20 are the first of 10.
        split: ``test`` pictures were never trained on.
        evident: only pictures with evidence, for those without there is nothing to find; by default labels take turns.
            Without effect where no picture has evidence.
    """
    return [_case(task, i, split, evident) for i in range(number)]


def _case(task: Task, number: int, split: Split, evident: bool, distract: bool = True) -> Planted:
    seed, count = FIRST_SEED[split] + number, len(task.labels)
    if task.truth == "none":
        label = int(torch.randint(count, (), generator=torch.Generator().manual_seed(seed + 2**42)))
    else:
        label = 1 + number % (count - 1) if evident else number % count
    return draw(task, seed, label, distract)


# ---------------------------------------------------------------- models


def network(task: Task) -> nn.Module:
    """Return the freshly initialised network of a task.

    Raises:
        ModelError: there is no network of this architecture for this task.
    """
    channels, classes, maps = PHANTOMS[task.phantom].channels, len(task.labels), task.task == "segmentation"
    if task.architecture == "unet" and maps:
        if task.dims == 2:
            return nets.UNet(2, channels, classes, (8, 16, 24, 32), nn.BatchNorm2d)
        return nets.UNet(3, channels, classes, (4, 8, 16), lambda width: nn.InstanceNorm3d(width, affine=True))
    if task.architecture == "swin":
        return nets.Swin(channels, classes, 32, 2, task.dims, maps=maps)
    if task.architecture == "cnn" and not maps:
        return nets.ResNet(channels, classes, (16, 32, 64) if task.dims == 2 else (16, 32, 48), task.dims)
    if task.architecture == "vit" and not maps:
        return nets.VisionTransformer(channels, task.size[0], classes, 64, 4, 4, task.dims)
    raise ModelError(
        f"there is no {task.architecture} for {task.task} in the benchmark; cnn, vit and swin classify, unet and swin "
        "segment"
    )


def fingerprint(task: Task) -> str:
    """Return a hash of all that decides the weights: the task, the code of phantoms, networks and training, torch."""
    told = repr([(field, value) for field, value in sorted(asdict(task).items()) if field not in ("id", "modality")])
    code = "".join(inspect.getsource(part) for part in (phantoms, shared, nets, network, draw, _case, _learned, _loss))
    return hashlib.sha256("\n".join((told, code, torch.__version__)).encode()).hexdigest()[:16]


def trained(task: Task, cache: Path | None = None, progress: Progress | None = None) -> nn.Module:
    """Return the model of a task in evaluation mode, trained on first use.

    Args:
        task: a task with a phantom.
        cache: folder of the weights; None takes the user's cache folder.
        progress: called with ``(done, total)`` steps of drawing and training.
    """
    folder = cache or platformdirs.user_cache_path("xai-atlas", appauthor=False) / "benchmark"
    path = folder / f"{task.id}-{fingerprint(task)}.safetensors"
    if not path.is_file():
        learned = _learned(task, progress or no_progress).state_dict()
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.part")  # another process may be at it: the file appears at once
        save_file({key: value.contiguous() for key, value in learned.items()}, unfinished)
        unfinished.replace(path)
    with torch.random.fork_rng(devices=[]):
        model = network(task)
    model.load_state_dict(load_file(path))
    return model.eval()


def _learned(task: Task, progress: Progress) -> nn.Module:
    """Train a network on patients with and without their evidence."""
    twins = 1 if task.truth == "none" else 2
    patients = task.batch // twins  # per step; both pictures of a patient go together, so that anatomy cancels out
    steps = max(1, task.images // patients)
    total = task.images + steps * task.epochs
    images, truths = [], []
    for i in range(task.images):
        # some patients without distractors: those must not matter, there or not
        planted = _case(task, i, "train", evident=True, distract=i % 3 > 0 or task.truth == "none")
        images.append(planted.x)
        assert planted.truth is not None
        truths.append(torch.tensor(planted.label) if task.task == "classification" else planted.truth)
        progress(i + 1, total)
        if task.truth != "none":
            assert planted.x_without is not None
            images.append(planted.x_without)
            truths.append(torch.zeros_like(truths[-1]))
    layout = torch.contiguous_format if task.dims == 2 else torch.channels_last_3d  # as fast as it gets on a CPU
    x, truth = torch.stack(images).contiguous(memory_format=layout), torch.stack(truths)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order give other weights
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            model = network(task)
            if task.task == "segmentation":
                # findings are small: start from "nothing here", or most of the training goes into learning that
                bias: Any = model.get_parameter("head.bias")
                bias.data[:] = -1.5
                bias.data[0] = 1.5
            model.to(memory_format=layout)  # type: ignore[call-overload]
            model.train()
            optimiser = torch.optim.AdamW(model.parameters(), task.rate, weight_decay=0.02)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, task.rate, total_steps=steps * task.epochs)
            for epoch in range(task.epochs):
                order = torch.randperm(task.images)[: steps * patients]
                for i in range(steps):
                    chosen = order[i * patients : (i + 1) * patients]
                    rows = (twins * chosen[:, None] + torch.arange(twins)).flatten()
                    optimiser.zero_grad()
                    _loss(model(x[rows]), truth[rows]).backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimiser.step()
                    schedule.step()
                    progress(task.images + epoch * steps + i + 1, total)
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy; for maps with findings weighted five times, and the soft Dice of the foreground."""
    if logits.ndim == 2:
        return F.cross_entropy(logits, truth)
    loss = F.cross_entropy(logits, truth, torch.tensor([1.0] + [5.0] * (logits.shape[1] - 1)))
    given, wanted = 1 - logits.softmax(1)[:, 0].flatten(1), (truth > 0).flatten(1).float()
    overlap = (2 * (given * wanted).sum() + 1) / (given.sum() + wanted.sum() + 1)
    return loss + 1 - overlap


# ---------------------------------------------------------------- does the model decide by the evidence?


@torch.no_grad()
def quality(task: Task, model: nn.Module, pictures: Sequence[Planted]) -> float:
    """Return what the model reaches: accuracy, or for segmentations the mean Dice of pictures with a finding."""
    outputs = torch.cat(
        [model(torch.stack([each.x for each in pictures[i : i + 32]])) for i in range(0, len(pictures), 32)]
    )
    if task.task == "classification":
        return float((outputs.argmax(1) == torch.tensor([each.label for each in pictures])).float().mean())
    values = []
    for output, each in zip(outputs, pictures, strict=True):
        assert each.truth is not None
        if (each.truth > 0).any():
            given, wanted = output.argmax(0), each.truth
            both = int(((given == wanted) & (wanted > 0)).sum())
            values.append(2 * both / int((given > 0).sum() + (wanted > 0).sum()))
    return sum(values) / max(1, len(values))


@torch.no_grad()
def checked(task: Task, model: nn.Module, pictures: Sequence[Planted]) -> list[Checked]:
    """Check causally, picture by picture, that the model decides by the evidence and not by the distractors.

    The picture is its own control: with its evidence replaced by the twin the decision must be gone, and drawn without
    its distractors it must stay, with at least half of what the evidence gave.

    Args:
        task: the task of the model.
        model: as :func:`trained` returns it, or any model for this task.
        pictures: of :func:`cases`; those without evidence (label 0) are only checked for a right answer.

    Returns:
        One entry per picture; ``problem`` names what is wrong with it.
    """
    found = []
    for each in pictures:
        margin = _margin(model, each, each.x)
        without = undistracted = None
        problem = "the model's answer is wrong" if margin <= 0 and task.truth != "none" else ""
        if each.evidence.any() and each.x_without is not None:
            without = _margin(model, each, each.x_without)
            if not problem and without > 0:
                problem = "the decision stays without the evidence"
        if task.truth == "planted" and each.distractors.any():
            undistracted = _margin(model, each, draw(task, each.seed, each.label, distract=False).x)
            lost = margin - undistracted
            if not problem and (undistracted < 0 or (without is not None and lost > (margin - without) / 2)):
                problem = "the decision hangs on a distractor"
        found.append(Checked(each.name, margin, without, undistracted, problem))
    return found


def _margin(model: nn.Module, planted: Planted, x: Tensor) -> float:
    """Return the true label's logit over the next best; for maps the mean over the true region."""
    logits = model(x[None])[0]
    label = planted.label
    if logits.ndim > 1:
        assert planted.truth is not None
        region = planted.truth > 0
        logits = logits[:, region].mean(1) if region.any() else logits.flatten(1).amax(1)
    others = torch.cat([logits[:label], logits[label + 1 :]])
    return float(logits[label] - others.max())
