"""Nearest cases and mixtures: what is near is found, exactly, and where nothing is alike that is said."""

import numpy as np
import pytest
import torch
from planted import Small, case, cohort, network, pictures
from scipy.optimize import minimize
from torch import nn
from toys import images, make

from runners import Cohort, Owned, discover
from runners.beyond import neighbours
from runners.beyond.neighbours import index_of, mixture
from runners.embedding import embedded
from runners.models import profile
from runners.registry import seeded
from taxonomy.errors import RequirementError, TargetError


def found(method, model=None, dims=2, target=1, x=None, brought=None, **more):
    owned = Owned(cohort=brought or cohort(dims))
    return discover(model or network(dims), case(dims)[0] if x is None else x, method, target, owned=owned, **more)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("chunk", [200_000, 7])
def test_search_is_that_of_a_loop(distance, chunk, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    vectors = torch.randn(50, 6, generator=seeded(0)) * 3 + 1
    queries = torch.randn(4, 6, generator=seeded(1))
    allowed = torch.arange(50) % 3 != 0
    numbers, likeness = index_of(vectors, distance).nearest(queries, 8, allowed)
    for q, one in enumerate(queries.numpy()):
        slow = [
            -np.linalg.norm(v - one) if distance == "euclidean" else v @ one / np.linalg.norm(v) / np.linalg.norm(one)
            for v in vectors.numpy()
        ]
        order = [int(i) for i in np.argsort(slow)[::-1] if allowed[i]][:8]
        assert numbers[q].tolist() == order
        assert np.allclose(likeness[q], [slow[i] for i in order], atol=1e-5)


def test_search_tells_vectors_apart_that_are_large_and_near_together():
    vectors = 1000 + torch.randn(200, 16, generator=seeded(2)) * 0.01
    numbers, likeness = index_of(vectors, "euclidean").nearest(vectors[:1], 200)
    exact = -torch.linalg.vector_norm(vectors.double() - vectors[0].double(), dim=1)
    assert torch.allclose(likeness[0].double(), exact[numbers[0]], atol=1e-3)
    assert numbers[0].sort().values.tolist() == list(range(200))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_near_copy_is_first_and_the_nearest_of_another_class_is_the_nearest(dims):
    x, known = case(dims)[0], cohort(dims)
    planted = known.x.clone()
    planted[17] = x[0] + 0.02 * torch.randn(x[0].shape, generator=seeded(3))
    labels = known.labels.clone()
    labels[17] = 1
    brought = Cohort(planted, labels, known.label_names)
    told = found("knn_retrieval", dims=dims, x=x, brought=brought)
    form = told.form
    assert int(form.index[0]) == 17
    assert form.scores[0] > 0.99
    assert form.labels[0] == "blob"
    assert (form.scores[:5].diff() <= 0).all()
    other = [at for at, role in enumerate(form.roles) if role == "nearest of another class"]
    assert len(other) == 2
    assert all(form.labels[at] == "none" for at in other)
    vectors = embedded(network(dims), torch.cat([planted, x]), profile(network(dims), x)).double()
    cosine = nn.functional.cosine_similarity(vectors[:-1], vectors[-1:])
    assert int(form.index[other[0]]) == int(cosine.masked_fill(labels == 1, -2).argmax())
    assert torch.equal(form.images[0], planted[17])


def test_labels_agree_where_the_model_learned_them_and_not_where_they_are_shuffled():
    learned = found("knn_retrieval")
    assert learned.form.measures["nearest cases with the same label, in the cohort"] > 0.9
    assert learned.form.measures["p"] < 0.01
    known = cohort()
    shuffled = Cohort(known.x, known.labels[torch.randperm(len(known), generator=seeded(4))], known.label_names)
    nothing = found("knn_retrieval", brought=shuffled)
    assert nothing.form.measures["p"] > 0.05
    assert any("no more often than by chance" in one for one in nothing.cautions)


def test_agreement_is_that_of_a_loop():
    known = cohort()
    told = found("knn_retrieval", count=3)
    vectors = embedded(network(), known.x, profile(network(), case()[0])).double()
    cosine = nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=2).fill_diagonal_(-2)
    same = [float(known.labels[j] == known.labels[i]) for i in range(120) for j in cosine[i].topk(3).indices.tolist()]
    assert told.form.measures["nearest cases with the same label, in the cohort"] == pytest.approx(np.mean(same))
    own = embedded(network(), case()[0], profile(network(), case()[0])).double()
    nearest = nn.functional.cosine_similarity(vectors, own).max()
    usual = float((cosine.amax(1) <= nearest).double().mean())
    assert told.form.measures["share of the cohort less like its own nearest case"] == pytest.approx(usual, abs=0.02)


def test_an_image_unlike_all_others_is_called_so():
    odd = 4 * torch.randn(1, 1, 28, 28, generator=seeded(5)).abs()
    assert any("unlike the cohort" in one for one in found("knn_retrieval", x=odd).cautions)
    assert not any("unlike the cohort" in one for one in found("knn_retrieval").cautions)


def test_the_image_itself_is_left_out():
    known = cohort()
    for method in ("knn_retrieval", "simplex"):
        told = found(method, x=known.x[4:5].clone())
        assert 4 not in told.form.index.tolist()
        assert any("case 5 of the cohort" in note for note in told.notes)
    with pytest.raises(TargetError, match="every case"):
        found("knn_retrieval", brought=Cohort(case()[0]))


def test_classes_come_from_the_model_or_the_neighbours_where_the_cohort_has_none_of_its_own():
    known = cohort()
    told = found("knn_retrieval", brought=Cohort(known.x))
    assert any("model's own answer" in note for note in told.notes)
    assert told.form.labels == ()
    with torch.no_grad():
        decided = network()(known.x).argmax(1)
    other = [int(i) for i, role in zip(told.form.index, told.form.roles, strict=True) if "another" in role]
    assert other
    assert all(decided[i] == 0 for i in other)
    strange = found("knn_retrieval", brought=Cohort(known.x, known.labels + 5, ("",) * 5 + ("a", "b")))
    assert any("most of the nearest" in note for note in strange.notes)
    alone = found("knn_retrieval", brought=Cohort(known.x, torch.ones(120, dtype=torch.long), ("none", "blob")))
    assert any("no case known to be of another class" in one for one in alone.cautions)
    assert "p" not in alone.form.measures


def test_maps_add_up_to_the_likeness():
    form = found("knn_retrieval").form
    assert torch.allclose(form.maps.flatten(1).sum(1), form.scores, rtol=0.02)
    there = case()[1]
    assert form.maps[0][there].mean() > 2 * form.maps[0][~there].mean()
    assert found("knn_retrieval", distance="euclidean").form.maps is None


def test_bad_parameters_are_told():
    with pytest.raises(TargetError, match="cosine or euclidean"):
        found("knn_retrieval", distance="manhattan")
    with pytest.raises(TargetError, match="count"):
        found("simplex", count=0)
    with pytest.raises(RequirementError, match="cohort"):
        discover(network(), case()[0], "knn_retrieval")


def test_mixtures_are_found_again():
    vectors = torch.randn(12, 20, generator=seeded(6)).double()
    weights = torch.zeros(12).double()
    weights[[1, 4, 9]] = torch.tensor([0.5, 0.3, 0.2]).double()
    assert torch.allclose(mixture(weights @ vectors, vectors), weights, atol=1e-6)


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_mixtures_are_the_nearest_point_of_the_hull(scale):
    vectors = scale * torch.randn(9, 4, generator=seeded(7)).double()
    target = scale * torch.tensor([3.0, -2.0, 0.5, 1.0]).double()
    v, t = vectors.numpy() / scale, target.numpy() / scale
    slow = minimize(
        lambda w: ((w @ v - t) ** 2).sum(),
        np.full(9, 1 / 9),
        bounds=[(0, 1)] * 9,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = mixture(target, vectors)
    assert float(found.sum()) == pytest.approx(1)
    assert (found >= 0).all()
    assert torch.allclose(found, torch.from_numpy(slow.x), atol=1e-4)


class Straight(nn.Module):
    """A linear embedding: a mixture of images is the mixture of their embeddings."""

    def __init__(self, dims):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.conv = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, 12, 5, stride=4)
            self.head = nn.Linear(12 * (2**dims), 3)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_planted_mixture_is_found_with_its_weights_and_where_it_lies(dims):
    known = torch.randn(10, 1, *[12] * dims, generator=seeded(8))
    x = 0.7 * known[3:4] + 0.3 * known[8:9]
    told = found("simplex", Straight(dims).eval(), x=x, brought=Cohort(known), target=2)
    form = told.form
    assert form.index.tolist() == [3, 8]
    assert torch.allclose(form.scores, torch.tensor([0.7, 0.3]), atol=1e-4)
    assert form.measures["share of the image's embedding that the cases shown explain"] > 0.9999
    assert form.measures["score of the mixture"] == pytest.approx(form.measures["score of the image"], abs=1e-4)
    # the projected Jacobian of a linear embedding sums to the projection of the case's embedding
    model, start = Straight(dims), known.mean(0, keepdim=True)
    with torch.no_grad():
        way = (model.conv(x) - model.conv(start)).flatten()
        ends = [(model.conv(known[i : i + 1]) - model.conv(start)).flatten() for i in (3, 8)]
    for k, end in enumerate(ends):
        assert float(form.case_maps[k].sum()) == pytest.approx(float(end @ way / (way @ way)), abs=0.02)


def test_the_mixture_of_a_blob_is_of_blobs_and_a_poor_one_is_called_so():
    form = found("simplex").form
    assert sum(float(w) for w, label in zip(form.scores, form.labels, strict=True) if label == "blob") > 0.9
    assert float(form.scores.sum()) == pytest.approx(1)
    odd = 4 * torch.randn(1, 1, 28, 28, generator=seeded(5)).abs()
    assert any("less than half" in one for one in found("simplex", x=odd, count=1).cautions)


@pytest.mark.parametrize("toy", ["vit_fused", "unet2d", "cnn3d", "cnn2d_regression"])
@pytest.mark.parametrize("method", ["knn_retrieval", "simplex"])
def test_every_kind_of_model_has_neighbours(toy, method):
    x = images(toy, 9)
    told = discover(make(toy), x[:1], method, owned=Owned(cohort=Cohort(x[1:])))
    assert len(told.form.index) >= 1
    again = discover(make(toy), x[:1], method, owned=Owned(cohort=Cohort(x[1:])), batch_size=2)
    assert torch.equal(told.form.index, again.form.index)
    assert torch.allclose(told.form.scores, again.form.scores, atol=1e-4)


def test_an_untrained_model_finds_no_labels():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Small().eval()
    x, *_ = pictures(60, 31, blob=False, stripes=False)
    labels = torch.arange(60) % 2
    told = found("knn_retrieval", model, brought=Cohort(x, labels, ("a", "b")), target=0)
    assert told.form.measures["p"] > 0.05
