"""Train a bundled model, measure it on its test split and write weights and numbers: one recipe per model.

    python -m runners.zoo.train breast_us_unet --data /path/to/assets

The recipe reads its data set below ``--data``, splits it by patient (or by groups of look-alike images where no patient
is known), trains with a fixed seed and a fixed number of epochs on the training split, rounds the weights to float16,
writes ``<id>.safetensors``, reads it back and measures *those* weights on the test split. The numbers go into the
``measured`` block of ``<id>.yaml``. Nothing is chosen by the test split: recipes are judged on the validation split,
which the script prints. ``--measure`` only measures the weights that are there.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from runners.zoo import nets
from runners.zoo.phantoms import breast_phantom, insert_lesion

FOLDER = Path(__file__).parent
UNKNOWN = -1
"""The label of pixels whose truth is not known: somewhere in this image there is a lesion."""
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Case:
    """One image as the model sees it, with its truth."""

    name: str
    image: Tensor
    """(C, *spatial) float32, normalised."""
    truth: Tensor
    """A class index, or (*spatial) class indices."""
    stratum: str
    """The subgroup that is measured on its own, e.g. ``malignant``."""
    split: Split


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; geometric ranges are half-widths around "unchanged"."""

    cases: Callable[[Path, tuple[int, ...], Collection[Split]], Iterator[Case]]
    """Reads the images of some splits below a folder, fitted to a size."""
    size: tuple[int, ...]
    """Height and width of the input; for volumes the box that training batches are padded or cropped to."""
    held_out: str
    """What the test split is, for the card."""
    epochs: int
    batch: int
    rate: float = 3e-3
    decay: float = 0.02
    rotate: float = 15.0
    zoom: float = 0.15
    shift: float = 0.08
    flips: tuple[int, ...] = ()
    """Spatial axes that may be mirrored."""
    gamma: float = 0.3
    contrast: float = 0.0
    noise: float = 0.05
    smoothing: float = 0.0
    seed: int = 0


# ---------------------------------------------------------------- images and splits


def normalise(image: Tensor) -> Tensor:
    """Return ``(C, *spatial)`` with zero mean and unit variance over the whole image: the cards' ``zscore``."""
    image = image.float()
    return (image - image.mean()) / image.std(correction=0).clamp_min(1e-6)


def pixels(path: Path, mode: str | None = None) -> Tensor:
    """Return a picture as float32 ``(C, H, W)``, converted to ``mode`` (Pillow's ``L`` or ``RGB``) when it is given."""
    with Image.open(path) as picture:
        values = torch.from_numpy(np.array(picture if mode is None else picture.convert(mode)).astype(np.float32))
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1)


def fit_image(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return ``(C, H, W)`` normalised and resized, as :meth:`runners.load.Model.prepare` does by the card."""
    return F.interpolate(normalise(values)[None], size, mode="bilinear", antialias=True, align_corners=False)[0]


def fit_labels(labels: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return ``(H, W)`` labels as int64 ``size``, resampled by nearest neighbour."""
    return F.interpolate(labels[None, None].double(), size, mode="nearest-exact")[0, 0].long()


def split_of(group: str) -> Split:
    """Return the split of a group (patient): 20 % test, 8 % validation, decided by a hash of its name."""
    place = int(hashlib.sha256(group.encode()).hexdigest(), 16) % 100
    return "test" if place < 20 else "validation" if place < 28 else "train"


def _thumbnails(paths: Sequence[Path], side: int = 24) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return one unit vector per picture; their dot products are correlations."""
    vectors = []
    for path in paths:
        with Image.open(path) as picture:
            vectors.append(
                np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BOX), np.float32).ravel()
            )
    stack = np.stack(vectors)
    stack -= stack.mean(1, keepdims=True)
    return np.asarray(stack / np.maximum(np.linalg.norm(stack, axis=1, keepdims=True), 1e-6), np.float32)


def look_alikes(paths: Sequence[Path], correlation: float = 0.9) -> list[str]:
    """Return a group name per picture; pictures whose thumbnails correlate more than ``correlation`` share one."""
    vectors = _thumbnails(paths)
    _, labels = connected_components(vectors @ vectors.T > correlation, directed=False)
    first: dict[int, str] = {}
    return [first.setdefault(int(label), path.stem) for label, path in zip(labels, paths, strict=True)]


# ---------------------------------------------------------------- data sets


def busi(data: Path, size: tuple[int, ...], parts: Collection[Split] = SPLITS) -> Iterator[Case]:
    """Breast ultrasound without lesion masks: what a lesion looks like comes from two sources.

    Lesions inserted into the normal images (and into phantoms, for training) have exact masks; of the benign and
    malignant images only the class is known: there is a lesion somewhere (``UNKNOWN``). Look-alikes share a split,
    since the set has many repeats of one scan.
    """
    paths = sorted((data / "ultrasound/busi").glob("*/*.png"))
    for path, group in zip(paths, look_alikes(paths), strict=True):
        part = split_of(group)
        if part not in parts:
            continue
        values = pixels(path, "L")
        normal = path.parent.name == "normal"
        yield Case(
            path.stem, fit_image(values, size), torch.full(size, 0 if normal else UNKNOWN), path.parent.name, part
        )
        if normal:
            generator = torch.Generator().manual_seed(int(path.stem.split("_")[1]))
            for copy in range(12 if part == "train" else 3):
                image, mask = insert_lesion(values[0], generator)
                name = f"{path.stem}_inserted_{copy}"
                yield Case(name, fit_image(image[None], size), fit_labels(mask, size), "inserted", part)
    for seed in range(1000, 1120) if "train" in parts else ():
        image, mask = breast_phantom(seed, lesion=seed % 4 > 0)
        yield Case(f"phantom_{seed}", fit_image(image[None], size), fit_labels(mask, size), "phantom", "train")


def pneumonia(data: Path, size: tuple[int, ...], parts: Collection[Split] = SPLITS) -> Iterator[Case]:
    """Chest radiographs of children, split by the person id in the file name."""
    for path in sorted((data / "xray/pneumonia").glob("*/*.jpeg")):
        person = re.match(r"person\d+|(NORMAL2-)?IM-\d+", path.stem)
        if person is None:
            raise ValueError(f"{path.name}: no person id in the file name")
        if (part := split_of(person[0])) in parts:
            truth = torch.tensor(int(path.parent.name == "PNEUMONIA"))
            yield Case(path.stem, fit_image(pixels(path, "L"), size), truth, path.parent.name.lower(), part)


def brain_tumour(data: Path, size: tuple[int, ...], parts: Collection[Split] = SPLITS) -> Iterator[Case]:
    """Brain MRI slices: the set's own test folder; training slices that look like a test slice are left out."""
    classes = ("glioma", "meningioma", "notumor", "pituitary")
    train, test = (sorted((data / "mri/brain_tumor" / folder).glob("*/*.jpg")) for folder in ("train", "test"))
    split: dict[Path, Split] = dict.fromkeys(test, "test")
    if set(parts) != {"test"}:
        leaks = (_thumbnails(train) @ _thumbnails(test).T).max(1) > 0.95
        kept = [path for path, leak in zip(train, leaks, strict=True) if not leak]
        for path, group in zip(kept, look_alikes(kept), strict=True):
            split[path] = "validation" if split_of(group) == "validation" else "train"
    for path, part in split.items():
        if part in parts:
            truth = torch.tensor(classes.index(path.parent.name))
            yield Case(path.stem, fit_image(pixels(path, "L"), size), truth, path.parent.name, part)


def nuclei(data: Path, size: tuple[int, ...], parts: Collection[Split] = SPLITS) -> Iterator[Case]:
    """Microscopy with nucleus instances, here as one foreground class."""
    for path in sorted((data / "microscopy/dsb2018").glob("*_instances.png")):
        stem = path.stem.removesuffix("_instances")
        if (part := split_of(stem)) in parts:
            values = pixels(path.with_name(f"{stem}.png"), "RGB")
            stratum = "dark field" if float(values.mean()) < 100 else "bright field"
            yield Case(stem, fit_image(values, size), fit_labels(pixels(path)[0] > 0, size), stratum, part)


def hippocampus(data: Path, size: tuple[int, ...], parts: Collection[Split] = SPLITS) -> Iterator[Case]:  # noqa: ARG001
    """T1 volumes cropped around one hippocampus, one a patient, in their own size; anterior and posterior part."""
    for path in sorted((data / "mri/hippocampus/images").glob("*.nii.gz")):
        stem = path.name.removesuffix(".nii.gz")
        if (part := split_of(stem)) in parts:
            volume: Any = nibabel.load(path)
            labels: Any = nibabel.load(path.parents[1] / "labels" / path.name)
            image = torch.from_numpy(np.asarray(volume.dataobj).astype(np.float32))
            truth = torch.from_numpy(np.asarray(labels.dataobj).astype(np.int64))
            yield Case(stem, normalise(image[None]), truth, "volume", part)


# ---------------------------------------------------------------- training


def _fit(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return ``(*, *spatial)`` centre-cropped or zero-padded to ``size``."""
    pads: list[int] = []
    for have, want in zip(reversed(values.shape[-len(size) :]), reversed(size), strict=True):
        before = (want - have) // 2
        pads += [before, want - have - before]
    return F.pad(values, pads)


def augment(image: Tensor, truth: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return randomly moved, turned, mirrored and re-exposed copies of a batch, truth maps moved along."""
    count, dims = len(image), image.ndim - 2

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * 2 - 1

    matrix = torch.diag_embed((recipe.zoom * uniform(count, 1)).exp().expand(-1, dims))
    for axis in recipe.flips:  # affine_grid counts axes from the last one
        matrix[:, :, dims - 1 - axis] *= torch.where(uniform(count, 1) > 0, 1.0, -1.0)
    for first in range(dims):
        for second in range(first + 1, dims):
            angle = math.radians(recipe.rotate) * uniform(count)
            turn = torch.eye(dims).repeat(count, 1, 1)
            turn[:, first, first] = turn[:, second, second] = angle.cos()
            turn[:, first, second], turn[:, second, first] = -angle.sin(), angle.sin()
            matrix = matrix @ turn
    grid = F.affine_grid(torch.cat([matrix, recipe.shift * uniform(count, dims, 1)], 2), list(image.shape), False)
    moved = F.grid_sample(image, grid, padding_mode="reflection" if dims == 2 else "border", align_corners=False)
    if truth.ndim > 1:
        padding = "reflection" if dims == 2 else "border"
        maps = F.grid_sample(truth[:, None].float(), grid, "nearest", padding, align_corners=False)
        truth = maps[:, 0].long()
    flat = moved.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    exposed = ((flat - low) / (high - low).clamp_min(1e-6)) ** (recipe.gamma * uniform(count, 1)).exp()
    exposed = (exposed - exposed.mean(1, keepdim=True)) / exposed.std(1, keepdim=True).clamp_min(1e-6)
    if recipe.contrast:
        exposed = exposed * (recipe.contrast * uniform(count, 1)).exp()
    strength = recipe.noise * torch.rand(count, 1, generator=generator)
    exposed = exposed + strength * torch.randn(flat.shape, generator=generator)
    return exposed.view_as(image), truth


def loss_of(logits: Tensor, truth: Tensor, recipe: Recipe) -> Tensor:
    """Return the loss of a batch.

    For classes: cross-entropy. For maps: cross-entropy and soft Dice over the images whose map is known; an image with
    an ``UNKNOWN`` map must mark something with certainty (its highest percent of pixels) and between 3 and 35 % of it.
    """
    loss = F.cross_entropy(logits, truth, ignore_index=UNKNOWN, label_smoothing=recipe.smoothing)
    if logits.ndim == 2:
        return loss
    chances = logits.softmax(1)
    unknown = (truth == UNKNOWN).flatten(1).all(1)
    wanted = F.one_hot(truth[~unknown], logits.shape[1]).movedim(-1, 1)[:, 1:].float()
    given = chances[~unknown, 1:]
    axes = [0, *range(2, logits.ndim)]
    overlap = (2 * (given * wanted).sum(axes) + 1) / (given.sum(axes) + wanted.sum(axes) + 1)
    loss = loss + 1 - overlap.mean()
    if unknown.any():
        marked = 1 - chances[unknown, 0].flatten(1)
        surest, area = _surest(marked), marked.mean(1)
        sizes = (0.03 - area).relu() / 0.03 + (area - 0.35).relu()
        loss = loss + 0.5 * (sizes - surest.clamp_min(1e-4).log()).mean()
    return loss


def _surest(chances: Tensor) -> Tensor:
    """Return the mean of the highest percent of each row of ``(N, pixels)``."""
    return chances.topk(chances.shape[1] // 100, dim=1).values.mean(1)


def train(name: str, recipe: Recipe, cases: Sequence[Case]) -> nn.Module:
    """Return the trained network; prints the loss and, now and then, the validation numbers."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network: nn.Module = getattr(nets, name)()
    layout = torch.channels_last if len(recipe.size) == 2 else torch.channels_last_3d
    network.to(memory_format=layout)  # type: ignore[call-overload]
    seen = [case for case in cases if case.split == "train"]
    kept = [case for case in cases if case.split == "validation"]
    print(f"{len(seen)} images to train on, {len(kept)} to validate", flush=True)
    steps = len(seen) // recipe.batch
    optimiser = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps * recipe.epochs)
    start = time.monotonic()
    for epoch in range(1, recipe.epochs + 1):
        network.train()
        total = 0.0
        for rows in torch.randperm(len(seen), generator=generator)[: steps * recipe.batch].view(steps, -1):
            chosen = [seen[row] for row in rows.tolist()]
            image = torch.stack([_fit(case.image, recipe.size) for case in chosen])
            truth = torch.stack([_fit(case.truth, recipe.size) if case.truth.ndim else case.truth for case in chosen])
            image, truth = augment(image, truth, recipe, generator)
            # the fused attention kernel's backward pass on CPU is several times slower than plain matrix products
            with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
                logits = network(image)
            loss = loss_of(logits.float(), truth, recipe)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        report = f" {rounded(measure(network, kept))}" if epoch % max(1, recipe.epochs // 8) == 0 else ""
        print(f"epoch {epoch} loss {total / steps:.4f} after {time.monotonic() - start:.0f} s{report}", flush=True)
    return network


# ---------------------------------------------------------------- measuring


@torch.no_grad()
def predict(network: nn.Module, cases: Sequence[Case], batch: int = 16) -> list[Tensor]:
    """Return one tensor of logits per case."""
    network.eval()
    alike = len({case.image.shape for case in cases}) == 1
    found: list[Tensor] = []
    for start in range(0, len(cases), step := batch if alike else 1):
        found += network(torch.stack([case.image for case in cases[start : start + step]])).unbind()
    return found


def dice(given: Tensor, wanted: Tensor) -> float:
    """Return the Dice overlap of two boolean maps, 1 when both are empty."""
    total = int(given.sum() + wanted.sum())
    return 2 * int((given & wanted).sum()) / total if total else 1.0


def auc(positive: np.ndarray[Any, np.dtype[np.bool_]], scores: np.ndarray[Any, Any]) -> float:
    """Return the chance that a positive case scores higher than a negative one, ties counting half."""
    ranks, count = rankdata(scores), int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(scores) - count)))


def measure(network: nn.Module, cases: Sequence[Case]) -> dict[str, tuple[float, int]]:
    """Return what the model reaches on these cases: metric to value and number of images.

    Classifiers: accuracy, AUC (for several classes the mean of one-versus-rest) and recall per class. Segmenters: the
    mean over images of the Dice overlap, also per stratum and per foreground class where there are several; images
    whose true map is empty are not averaged but give ``false marks``, the share of them with more than 0.5 % of the
    pixels marked. Images with an unknown map give ``AUC lesion or none``: are their surest pixels surer than those of
    the empty ones?
    """
    logits = predict(network, cases)
    if cases[0].truth.ndim == 0:
        chances = torch.stack(logits).softmax(1).double().numpy()
        truth = np.array([int(case.truth) for case in cases])
        right = chances.argmax(1) == truth
        columns = [1] if chances.shape[1] == 2 else range(chances.shape[1])
        area = float(np.mean([auc(truth == column, chances[:, column]) for column in columns]))
        found = {"accuracy": (float(right.mean()), len(cases)), "AUC": (area, len(cases))}
        for stratum in sorted({case.stratum for case in cases}):
            rows = [case.stratum == stratum for case in cases]
            found[f"recall {stratum}"] = (float(right[rows].mean()), sum(rows))
        return found

    values: dict[str, list[float]] = {"Dice": []}
    sure: dict[bool, list[float]] = {True: [], False: []}
    for case, logit in zip(cases, logits, strict=True):
        surest = float(_surest(1 - logit.softmax(0)[:1].flatten(1)))
        guess = logit.argmax(0)
        if (case.truth == UNKNOWN).all():
            sure[True].append(surest)
        elif not case.truth.any():
            sure[False].append(surest)
            values.setdefault("false marks", []).append(float((guess > 0).float().mean() > 0.005))
        else:
            each = {label: dice(guess == label, case.truth == label) for label in range(1, len(logit))}
            for key in ("Dice", f"Dice {case.stratum}"):
                values.setdefault(key, []).append(float(np.mean(list(each.values()))))
            for label, one in each.items():
                values.setdefault(f"Dice label {label}", []).append(one)
    found = {key: (float(np.mean(some)), len(some)) for key, some in values.items()}
    if sure[True]:
        truth = np.repeat([True, False], [len(sure[True]), len(sure[False])])
        found["AUC lesion or none"] = (auc(truth, np.array(sure[True] + sure[False])), len(truth))
    whole = found["Dice"]
    return {key: value for key, value in found.items() if key == "Dice" or not key.startswith("Dice") or value != whole}


def rounded(found: dict[str, tuple[float, int]]) -> dict[str, str]:
    """Return measured numbers as texts to print."""
    return {metric: f"{value:.4f} ({count})" for metric, (value, count) in found.items()}


def stored(name: str) -> nn.Module:
    """Return the network of a bundled model with the weights that lie beside its card, in float32."""
    network: nn.Module = getattr(nets, name)()
    network.load_state_dict({key: value.float() for key, value in load_file(FOLDER / f"{name}.safetensors").items()})
    return network.eval()


def save(network: nn.Module, name: str) -> None:
    """Write the weights, rounded to float16 (counters stay integers)."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_file({key: value.contiguous() for key, value in state.items()}, FOLDER / f"{name}.safetensors")


RECIPES: dict[str, Recipe] = {
    "breast_us_unet": Recipe(
        busi,
        (128, 128),
        "held-out groups of BUSI: Dice on lesions inserted into normal images, the rest on real images",
        epochs=30,
        batch=24,
        flips=(1,),
    ),
    "chest_xray_cnn": Recipe(
        pneumonia, (160, 160), "images of held-out children", epochs=16, batch=32, rotate=8, smoothing=0.05
    ),
    "brain_mri_vit": Recipe(
        brain_tumour,
        (96, 96),
        "the set's own test folder",
        epochs=50,
        batch=32,
        rate=1e-3,
        decay=0.05,
        flips=(1,),
        smoothing=0.05,
    ),
    "nuclei_unet": Recipe(
        nuclei, (160, 160), "held-out images", epochs=14, batch=8, rotate=45, flips=(0, 1), contrast=0.2
    ),
    "hippocampus_unet3d": Recipe(
        hippocampus, (36, 52, 40), "held-out patients", epochs=14, batch=4, rotate=10, zoom=0.1, contrast=0.2
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train (unless ``--measure``), measure and write the card's ``training`` and ``measured`` numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--measure", action="store_true", help="measure the weights that are there, without training")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    recipe = RECIPES[given.model]
    if not given.measure:
        cases = list(recipe.cases(given.data, recipe.size, ("train", "validation")))
        save(train(given.model, recipe, cases), given.model)
    found = measure(stored(given.model), list(recipe.cases(given.data, recipe.size, {"test"})))
    path = FOLDER / f"{given.model}.yaml"
    card = yaml.safe_load(path.read_text(encoding="utf-8"))
    card["sha256"] = hashlib.sha256((FOLDER / f"{given.model}.safetensors").read_bytes()).hexdigest()
    card["training"] |= {"epochs": recipe.epochs, "seed": recipe.seed}
    card["measured"] = [
        {"metric": metric, "value": round(value, 4), "n": count, "data": recipe.held_out}
        for metric, (value, count) in found.items()
    ]
    path.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    print(rounded(found))


if __name__ == "__main__":
    main()
