"""Images of several sizes: each goes into the model as it would alone, and what mixes them says that it resized."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
import torch
from PIL import Image as Pillow
from torch import nn
from torch.nn import functional as F

from runners import Cohort, Concept, Owned, discover, profile
from runners.beyond.inside import cut
from runners.bring import read_cohort
from runners.embedding import embedded
from runners.load import load_model
from runners.sized import Images, at_size, chunks, framed, on_disk, several, spread
from taxonomy.errors import ImageError

SIZES = {2: [(28, 28), (34, 30), (25, 40)], 3: [(10, 10, 10), (12, 9, 14), (9, 13, 10)]}


def mixed(dims: int, count: int = 36, marked: bool = False) -> Cohort:
    """A cohort of :mod:`planted`, each image with noise beside it so that sizes differ; the blob stays as large."""
    whole = planted.cohort(dims, count)
    g = torch.Generator().manual_seed(5)
    parts, masks = [], []
    for i, image in enumerate(whole.x):
        size = SIZES[dims][i % 3]
        larger = tuple(max(a, b) for a, b in zip(size, image.shape[1:], strict=True))
        there = 0.3 * torch.randn(1, *larger, generator=g)
        there[(0, *(slice(n) for n in image.shape[1:]))] = image[0]
        parts.append(there)
        masks.append(there[0] > 1)
    return replace(whole, x=several(parts), masks=several(masks) if marked else None)


def one_by_one(model: nn.Module, x, wired) -> torch.Tensor:
    return torch.cat([embedded(model, one[None], wired) for one in x])


@pytest.mark.parametrize("dims", [2, 3])
def test_each_image_goes_in_as_it_would_alone(dims):
    model, brought = planted.network(dims), mixed(dims)
    x, _ = planted.case(dims)
    wired = profile(model, x)
    assert isinstance(brought.x, Images)
    alone = one_by_one(model, brought.x, wired)
    assert torch.allclose(embedded(model, brought.x, wired, batch_size=4), alone, atol=1e-6)
    inside = cut(model, x, lambda o, _: o[:, 1], wired, 4)
    scores = torch.cat([model(one[None])[:, 1] for one in brought.x])
    assert torch.allclose(inside.look(brought.x)[0], scores, atol=1e-5)
    features, slopes = inside.features(brought.x), inside.slopes(brought.x)
    assert features.shape[2:] == inside.features(x).shape[2:]
    assert torch.allclose(features.flatten(2).mean(2), alone, atol=1e-5)  # what the linear layer reads
    # the gradient of an average over n positions is 1/n at each, whatever n: their sum is the weight of the feature
    weight = model.head.weight[1].detach()
    assert torch.allclose(slopes.flatten(2).sum(2), weight.expand(len(slopes), -1), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_planted_is_found_among_sizes(dims):
    model, (x, _) = planted.network(dims), planted.case(dims)
    owned = Owned(cohort=mixed(dims))
    near = discover(model, x, "knn_retrieval", 1, owned=owned)
    assert near.form.labels[:5] == ("blob",) * 5
    assert any("go into the model as they are" in note for note in near.notes)
    assert near.form.images is not None
    assert near.form.images.shape[2:] == tuple(max(one.shape[1 + a] for one in owned.cohort.x[near.form.index])
                                               for a in range(dims))  # fmt: skip
    projected = discover(model, x, "pca_projection", 1, owned=owned).form
    assert projected.measures["neighbours with the same label, for the model"] > 0.85
    found = discover(model, x, "tcav", 1, owned=replace(owned, concepts=planted.concepts(dims)), samples=100, runs=20)
    by_name = dict(zip(found.form.names, found.form.p_values.tolist(), strict=True))
    assert by_name["blob"] < 0.06
    assert by_name["random"] > 0.06
    measured = discover(model, x, "tcav", 1, owned=owned, samples=20, runs=20)
    assert "much contrast" in measured.form.names


@pytest.mark.parametrize(
    "method", ["simplex", "crp", "ice", "craft", "spray", "cka", "sparse_autoencoder", "mmd_critic", "radiomics_shap"]
)
def test_every_kind_of_method_takes_them(method):
    model, (x, _) = planted.network(), planted.case()
    few = {
        "craft": {"designs": 8, "judged": 2},
        "cka": {"runs": 10},
        "spray": {"samples": 99},
        "sparse_autoencoder": {"steps": 20},
        "radiomics_shap": {"trees": 10, "orders": 4},
    }
    told = discover(model, x, method, 1, owned=Owned(cohort=mixed(2)), **few.get(method, {}))
    resized = method in ("simplex", "crp", "ice", "craft", "spray")
    assert any("were resized to 28×28" in note for note in told.notes) == resized
    assert any("go into the model as they are" in note for note in told.notes) != resized


def test_a_segmenters_masks_keep_their_sizes():
    brought = mixed(2, 24, marked=True)
    x, _ = planted.case()
    told = discover(planted.marker(), x, "tracin", 1, owned=Owned(cohort=brought), count=2)
    # the second way of writing: each case's own gradient, at its own size
    model = planted.marker()
    weights = list(model.parameters())
    for one in weights:
        one.requires_grad_(True)
    region = model(x).argmax(1)[0] == 1
    with torch.enable_grad():
        own = torch.autograd.grad(model(x)[0, 1][region].mean(), weights)
        adds = []
        for image, mask in zip(brought.x, brought.masks, strict=True):
            odds = (lambda o: o[0, 1] - o[0, 0])(model(image[None]))
            slope = torch.autograd.grad(F.binary_cross_entropy_with_logits(odds, mask.float()), weights)
            adds.append(-float(sum((a * b).sum() for a, b in zip(own, slope, strict=True))))
    shares = torch.tensor(adds) / torch.tensor(adds).abs().sum()
    assert torch.allclose(told.form.scores, shares[told.form.index], atol=1e-3)


def test_images_on_disk_are_the_same_images():
    parts = [torch.randn(2, *size) for size in ((4, 5), (4, 5), (3, 7))]
    mapped = on_disk(iter(parts))
    assert isinstance(mapped, Images)
    assert all(torch.equal(a, b) for a, b in zip(mapped, parts, strict=True))
    assert [tuple(one.shape) for one in chunks(mapped, 8)] == [(2, 2, 4, 5), (1, 2, 3, 7)]
    assert [len(one) for one in chunks(several(parts[:1] * 5), 2)] == [2, 2, 1]
    assert torch.equal(on_disk(parts[:2]), torch.stack(parts[:2]))
    mapped.parts[0].add_(1)  # nobody else sees it, and the file stays
    assert isinstance(mapped[torch.tensor([0, 2])], Images)
    assert mapped[torch.tensor([True, True, False])].shape == (2, 2, 4, 5)
    shown = framed(several(parts))
    assert shown.shape == (3, 2, 4, 7)
    assert torch.equal(shown[0, :, :, 1:6], parts[0])
    assert torch.equal(at_size(Images((parts[2],)), (3, 7))[0], parts[2])
    with pytest.raises(ImageError, match="3×7 and 4×5"):
        _ = Cohort(several(parts)).stack


@pytest.mark.parametrize("grid", [(3, 4), (9, 5), (6, 8), (1, 1)])
def test_features_change_their_grid_and_keep_their_mean(grid):
    features = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    found = spread(features, grid)
    fine = features.repeat_interleave(grid[0], 2).repeat_interleave(grid[1], 3)  # on a grid that both divide
    slow = F.avg_pool2d(fine, (6, 8))
    assert torch.allclose(found, slow)
    assert torch.allclose(found.mean((2, 3)), features.mean((2, 3)))


def test_folders_of_mixed_sizes_are_read(tmp_path: Path):
    for number, size in enumerate([(40, 40), (40, 40), (56, 44)]):
        Pillow.fromarray(np.full(size, 90 + 40 * number, np.uint8)).save(tmp_path / f"{number}.png")
        mask = np.zeros(size, np.uint8)
        mask[:20, :10] = 255
        Pillow.fromarray(mask).save(tmp_path / f"{number}_mask.png")
    free = load_model(planted.marker(), task="segmentation", labels=["ground", "blob"], channels=1, dims=2)
    found = read_cohort(tmp_path, free)
    assert [tuple(one.shape) for one in found.x] == [(1, 40, 40), (1, 40, 40), (1, 56, 44)]
    assert found.notes == ()
    assert [int(mask.sum()) for mask in found.masks] == [200, 200, 200]
    padded = read_cohort(tmp_path, load_model(planted.marker(), channels=1, dims=2, multiple_of=16))
    assert [tuple(one.shape[1:]) for one in padded.x] == [(48, 48), (48, 48), (64, 48)]
    assert padded.notes == ("Cohort: 3 of 3 images were padded with zeros to multiples of 16.",)
    assert [int(mask.sum()) for mask in padded.masks] == [200, 200, 200]
    fixed = read_cohort(tmp_path, load_model(planted.marker(), channels=1, dims=2, size=[40, 40]))
    assert fixed.x.shape == (3, 1, 40, 40)
    assert fixed.notes == ("Cohort: 1 of 3 images were resized to 40×40, as the model needs.",)
    other = Owned(concepts={"a": Concept(torch.zeros(1, 2, 5, 5))})
    with pytest.raises(ImageError, match=r"\(2, 5, 5\); \(n, 1, H, W\)"):
        discover(planted.network(), planted.case()[0], "knn_retrieval", owned=other)


def test_tokens_on_a_grid_of_one_size_get_images_of_that_size():
    from toys import images, make

    model, x = make("vit_fused"), images("vit_fused", 1)
    g = torch.Generator().manual_seed(0)
    sizes = [tuple(n + 4 * (i % 2) for n in x.shape[2:]) for i in range(20)]
    brought = Cohort(several([torch.randn(x.shape[1], *size, generator=g) for size in sizes]))
    told = discover(model, x, "knn_retrieval", owned=Owned(cohort=brought))
    assert any("were resized to" in note for note in told.notes)
