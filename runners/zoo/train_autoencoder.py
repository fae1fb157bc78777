"""Train the autoencoder of a bundled model, measure it on the model's test split and write weights and card.

    python -m runners.zoo.train_autoencoder chest_xray_cnn --data /path/to/assets

It sees the training images of the bundled model whose name it carries, prepared in the same way, and none of their
labels. What it reaches is measured on the test split of that model, with the weights as they are stored.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from runners.zoo import nets
from runners.zoo.train import FOLDER, RECIPES, Case, Recipe, Split, augment, stored

CARDS = FOLDER / "autoencoders"
MADE = ("inserted", "phantom")
"""Strata of images that were made up or drawn into: what an image looks like is not learned from them."""


@dataclass(frozen=True)
class Drawing:
    """How an autoencoder is built and trained."""

    kwargs: Mapping[str, Any]
    """Of :class:`runners.zoo.nets.Autoencoder`."""
    epochs: int
    batch: int = 32
    rate: float = 3e-3
    noise: float = 0.1
    """Variance that the images are taken to have beside what the code tells: the larger, the smoother the code."""
    edges: float = 0.5
    """Weight of the differences between neighbours."""
    seed: int = 0


def _flat(grid: tuple[int, int], channels: int, code: int, local: int) -> dict[str, Any]:
    widths = [16, 32, 48, 64]
    return {"dims": 2, "channels": channels, "grid": list(grid), "widths": widths, "code": code, "local": local}


DRAWINGS: dict[str, Drawing] = {
    "chest_xray_cnn": Drawing(_flat((80, 80), 1, 64, 24), epochs=24),
    "brain_mri_vit": Drawing(_flat((64, 64), 1, 64, 24), epochs=12),
    "breast_us_unet": Drawing(_flat((64, 64), 1, 0, 16), epochs=100, noise=0.2),
    "nuclei_unet": Drawing(_flat((80, 80), 3, 0, 16), epochs=40, batch=16),
    "hippocampus_unet3d": Drawing(
        {"dims": 3, "channels": 1, "grid": [36, 52, 40], "widths": [8, 24, 40], "code": 0, "local": 4},
        epochs=24,
        batch=8,
    ),
}


def images(name: str, data: Path, parts: set[Split]) -> Iterator[Case]:
    """Yield the real images of a bundled model, on the autoencoder's grid."""
    recipe, grid = RECIPES[name], tuple(DRAWINGS[name].kwargs["grid"])
    for case in recipe.cases(data, grid, parts):
        if case.stratum in MADE:
            continue
        image = case.image
        if tuple(image.shape[1:]) != grid:  # volumes come in their own size
            image = F.interpolate(image[None], grid, mode="trilinear", align_corners=False)[0]
        yield replace(case, image=image)


def loss_of(given: Tensor, image: Tensor, code: Tensor, log_variance: Tensor, drawing: Drawing) -> Tensor:
    """Return squared error, differences between neighbours and distance of the codes from the standard normal."""
    error = F.mse_loss(given, image)
    edges = [F.l1_loss(given.diff(dim=axis), image.diff(dim=axis)) for axis in range(2, image.ndim)]
    variance = log_variance.exp()
    distance = 0.5 * (code.square() + variance - log_variance - 1).sum(1).mean()
    return error + drawing.edges * torch.stack(edges).mean() + 2 * drawing.noise * distance / image[0].numel()


def train(drawing: Drawing, recipe: Recipe, cases: Sequence[Case]) -> nets.Autoencoder:
    """Return the trained autoencoder; prints the loss and, now and then, the error on the validation split."""
    torch.manual_seed(drawing.seed)
    generator = torch.Generator().manual_seed(drawing.seed)
    network = nets.Autoencoder(**drawing.kwargs)
    seen = torch.stack([case.image for case in cases if case.split == "train"])
    kept = torch.stack([case.image for case in cases if case.split == "validation"])
    print(f"{len(seen)} images to train on, {len(kept)} to validate", flush=True)
    mild = replace(recipe, rotate=5.0, zoom=0.06, shift=0.04, gamma=0.1, contrast=0.05, noise=0.0)
    steps = len(seen) // drawing.batch
    optimiser = torch.optim.AdamW(network.parameters(), drawing.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, drawing.rate, total_steps=steps * drawing.epochs)
    start = time.monotonic()
    for epoch in range(1, drawing.epochs + 1):
        network.train()
        total = 0.0
        for rows in torch.randperm(len(seen), generator=generator)[: steps * drawing.batch].view(steps, -1):
            image, _ = augment(seen[rows], torch.zeros(len(rows)), mild, generator)
            code = network.encode(image)
            spread = (0.5 * network.log_variance).exp()
            drawn = network.decode(code + spread * torch.randn(code.shape, generator=generator))
            loss = loss_of(drawn, image, code, network.log_variance, drawing)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        if epoch % max(1, drawing.epochs // 8) == 0:
            left = float(unexplained(network.eval(), kept).mean())
            print(
                f"epoch {epoch} loss {total / steps:.4f} left {left:.4f} {time.monotonic() - start:.0f} s", flush=True
            )
    return network


@torch.no_grad()
def unexplained(network: nets.Autoencoder, images: Tensor) -> Tensor:
    """Return the share of the variance of each image ``(B, C, *grid)`` that its reconstruction leaves, ``(B,)``."""
    given = torch.cat([network(part) for part in torch.split(images, 16)])
    return (given - images).square().flatten(1).mean(1) / images.flatten(1).var(1, correction=0).clamp_min(1e-6)


def load(name: str) -> nets.Autoencoder:
    """Return the autoencoder with the weights that lie beside its card, in float32."""
    network = nets.Autoencoder(**DRAWINGS[name].kwargs)
    state = load_file(CARDS / f"{name}.safetensors")
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    )
    return network.eval()


@torch.no_grad()
def measure(name: str, data: Path) -> list[dict[str, Any]]:
    """Return what the stored weights reach on the test split, as a card has it."""
    network, recipe = load(name), RECIPES[name]
    cases = list(images(name, data, {"test"}))
    left = unexplained(network, torch.stack([case.image for case in cases]))
    model = stored(name)
    alike = []
    for case in recipe.cases(data, recipe.size, {"test"}):
        if case.stratum in MADE:
            continue
        image = case.image[None]
        drawn = F.interpolate(network(image), image.shape[2:], mode=network.mode, align_corners=False)
        before, after = model(image).argmax(1), model(drawn).argmax(1)
        alike.append(float((before == after).float().mean()))
    same = "same answer of the model as on the image" if before.ndim == 1 else "share of positions with the same label"
    return [
        {"metric": "share of the variance left", "value": round(float(left.mean()), 4), "n": len(left)},
        {"metric": same, "value": round(sum(alike) / len(alike), 4), "n": len(alike)},
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train (unless ``--measure``), measure and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(DRAWINGS))
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--measure", action="store_true", help="measure the weights that are there, without training")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    name, drawing = given.model, DRAWINGS[given.model]
    weights = CARDS / f"{name}.safetensors"
    if not given.measure:
        network = train(drawing, RECIPES[name], list(images(name, given.data, {"train", "validation"})))
        state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
        save_file({key: value.contiguous() for key, value in state.items()}, weights)
    of = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    found = measure(name, given.data)
    held_out = "real images of the test split of the bundled model"
    card = {
        "name": f"Autoencoder for: {of['name']}",
        "dims": of["dims"],
        "channels": of["channels"],
        "normalise": of["normalise"],
        "modality": of["modality"],
        "factory": "nets:Autoencoder",
        "kwargs": dict(drawing.kwargs),
        "training": of["training"]
        | {"script": "runners/zoo/train_autoencoder.py", "epochs": drawing.epochs, "seed": drawing.seed},
        "intended_use": f"Drawing counterfactuals for the bundled model {name}, teaching and tests. It draws coarse "
        "structure only; what is finer is carried over from the image.",
        "not_for": "Not for clinical use.",
        "weights_licence": of["weights_licence"],
        "measured": [one | {"data": held_out} for one in found],
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120)
    (CARDS / f"{name}.yaml").write_text(text, encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
