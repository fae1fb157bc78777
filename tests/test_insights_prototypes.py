"""Prototypes: what stands for a cohort, what does not fit, and the parts that a prototype network looks for."""

from functools import cache

import numpy as np
import pytest
import torch
from planted import Small, _trained, case, cohort, network, pictures
from scipy.optimize import minimize
from sklearn.metrics.pairwise import rbf_kernel
from torch import nn
from torch.nn import functional as F
from toys import images, make

from runners import Cohort, Owned, discover
from runners.beyond.prototypes import discrepancy, likenesses, parts_of, spread_alike, unlike, weighted
from runners.embedding import embedded
from runners.models import profile
from runners.registry import seeded
from taxonomy.errors import RequirementError, TargetError


def found(method, model=None, dims=2, target=1, x=None, brought=None, **more):
    owned = Owned(cohort=brought or cohort(dims))
    return discover(model or network(dims), case(dims)[0] if x is None else x, method, target, owned=owned, **more)


def groups():
    """Twenty points around one place, ten around another, and one far off."""
    g = seeded(0)
    near = [torch.randn(20, 2, generator=g), torch.randn(10, 2, generator=g) + 12.0, torch.tensor([[-30.0, 30.0]])]
    return torch.cat(near).double()


def test_likeness_is_the_kernel_of_scikit_learn_with_the_median_distance():
    points = groups()
    own, other = likenesses(points, points[:3] + 1)
    apart = torch.pdist(points).square()
    wide = float(torch.cat([apart, apart]).median())
    assert np.allclose(own, rbf_kernel(points, gamma=1 / wide))
    assert np.allclose(other, rbf_kernel(points, points[:3] + 1, gamma=1 / wide))


def test_greedy_choice_is_that_of_the_slow_objective():
    kernel = likenesses(groups())[0]
    chosen, slow = spread_alike(kernel, 4), []
    for _ in range(4):
        costs = [discrepancy(kernel, [*slow, i]) if i not in slow else np.inf for i in range(31)]
        slow.append(int(np.argmin(costs)))
    assert chosen == slow
    direct = np.mean([[float(kernel[i, j]) for j in range(31)] for i in range(31)])
    direct -= 2 * np.mean([[float(kernel[i, j]) for j in chosen] for i in range(31)])
    direct += np.mean([[float(kernel[i, j]) for j in chosen] for i in chosen])
    assert discrepancy(kernel, chosen) == pytest.approx(direct)


def test_prototypes_are_one_of_each_group_and_the_case_far_off_is_criticised():
    kernel = likenesses(groups())[0]
    chosen = spread_alike(kernel, 3)
    assert min(chosen) < 20
    assert any(20 <= one < 30 for one in chosen)
    assert 30 not in chosen
    witness = kernel.mean(1) - kernel[:, chosen].mean(1)
    assert 30 in unlike(kernel, witness, chosen, 3)


def test_criticisms_are_those_of_the_slow_objective():
    kernel = likenesses(torch.randn(14, 3, generator=seeded(1)).double())[0]
    chosen = spread_alike(kernel, 3)
    witness = kernel.mean(1) - kernel[:, chosen].mean(1)
    slow = []
    for _ in range(3):
        gains = {}
        for i in set(range(14)) - {*chosen, *slow}:
            some = [*slow, i]
            gains[i] = float(witness[some].abs().sum() + torch.logdet(kernel[some][:, some]))
        slow.append(max(gains, key=gains.get))
    assert unlike(kernel, witness, chosen, 3) == slow


def test_weights_are_those_of_a_general_solver_and_tell_how_large_the_groups_are():
    kernel = likenesses(groups())[0]
    towards = kernel.mean(1)
    chosen, weights = weighted(kernel, towards, 2)
    k, mu = kernel[chosen][:, chosen].numpy(), towards[chosen].numpy()
    slow = minimize(lambda w: w @ k @ w / 2 - w @ mu, np.full(2, 0.5), bounds=[(0, None)] * 2, tol=1e-12).x
    assert np.allclose(weights, slow, atol=1e-4)
    assert [one < 20 for one in chosen] == [True, False]
    assert float(weights[0] / weights[1]) == pytest.approx(2, rel=0.25)
    alone, weight = weighted(kernel, kernel[:, 25], 5)
    assert alone == [25]
    assert float(weight[0]) == pytest.approx(1)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_cohort_of_two_kinds_has_prototypes_of_both(dims):
    form = found("mmd_critic", dims=dims).form
    roles = dict.fromkeys(form.roles)
    assert list(roles) == ["prototype", "criticism"]
    assert {label for label, role in zip(form.labels, form.roles, strict=True) if role == "prototype"} == {
        "none",
        "blob",
    }
    assert form.measures["cases whose nearest prototype has their label"] > 0.9
    own, chance = (value for name, value in form.measures.items() if "label" not in name)
    assert own < chance / 3
    vectors = embedded(network(dims), cohort(dims).x, profile(network(dims), case(dims)[0])).double()
    here = embedded(network(dims), case(dims)[0], profile(network(dims), case(dims)[0])).double()
    assert torch.allclose(form.scores.double(), likenesses(vectors, here)[1][form.index, 0], atol=1e-5)


def test_a_summary_of_the_image_is_like_it_and_one_of_the_cohort_is_not():
    image = found("protodash", represents="image").form
    assert sum(float(w) for w, label in zip(image.scores, image.labels, strict=True) if label == "blob") > 0.8
    whole = found("protodash").form
    assert set(whole.labels) == {"none", "blob"}
    assert (whole.scores.diff() <= 1e-7).all()
    assert float(whole.scores.sum()) == pytest.approx(1)
    own, chance = whole.measures.values()
    assert own < chance


@pytest.mark.parametrize("method", ["mmd_critic", "protodash"])
def test_only_cases_of_the_answer_can_be_asked_for(method):
    form = found(method, among="answer").form
    assert set(form.labels) == {"blob"}
    with pytest.raises(TargetError, match="cohort or answer"):
        found(method, among="class")
    with pytest.raises(TargetError, match="at least 4"):
        found(method, brought=Cohort(cohort().x[:3]))


class Flat(nn.Module):
    """Reads the pixels as they are."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(784, 2)

    def forward(self, x):
        return self.head(x.flatten(1))


@pytest.mark.parametrize("method", ["mmd_critic", "protodash"])
def test_where_all_cases_are_equally_far_apart_no_choice_is_better_than_chance(method):
    apart = torch.linalg.qr(torch.randn(784, 20, generator=seeded(3))).Q.T.reshape(20, 1, 28, 28)
    assert any("Random cases" in caution for caution in found(method, Flat().eval(), brought=Cohort(apart)).cautions)
    assert not any("Random cases" in caution for caution in found(method).cautions)


# --- networks that have prototypes ------------------------------------------------------------------------------------


class Parts(nn.Module):
    """A small prototype network, written as the family is: distances, their best position, a linear layer."""

    def __init__(self, dims=2, kind="log", count=6):
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.features = nn.Sequential(
            conv(1, 8, 3, stride=2, padding=1), nn.ReLU(), conv(8, 8, 3, stride=2, padding=1), nn.Sigmoid()
        )
        self.prototypes = nn.Parameter(torch.rand(count, 8, *[1] * dims))
        self.last = nn.Linear(count, 2, bias=False)
        self.kind = kind
        with torch.no_grad():
            half = count // 2
            self.last.weight.fill_(-0.5)
            self.last.weight[0, :half] = self.last.weight[1, half:] = 1.0

    def forward(self, x):
        z = self.features(x)
        conv, dims = (F.conv2d, 2) if x.ndim == 4 else (F.conv3d, 3)
        if self.kind == "cosine":
            likeness = conv(F.normalize(z, dim=1), F.normalize(self.prototypes, dim=1))
            best = likeness.flatten(2).amax(2)
        else:
            apart = conv(z.square(), torch.ones_like(self.prototypes)) - 2 * conv(z, self.prototypes)
            apart = F.relu(apart + self.prototypes.square().sum(1).view(1, -1, *[1] * dims))
            pool = F.max_pool2d if dims == 2 else F.max_pool3d
            least = -pool(-apart, kernel_size=apart.shape[2:]).flatten(1)
            best = {"log": ((least + 1) / (least + 1e-4)).log(), "linear": -least, "exp": (-least).exp()}[self.kind]
        return self.last(best)


@cache
def parts(dims=2):
    """One that learned blobs, its prototypes projected on the nearest patches of the cohort."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        x, _, _, has, _ = pictures(200, 1, dims)
        model = _trained(Parts(dims), x, has.long(), 150)
    with torch.no_grad():
        z = model.features(cohort(dims).x).movedim(1, -1).reshape(-1, 8)
        nearest = torch.cdist(model.prototypes.flatten(1), z).argmin(1)
        model.prototypes.copy_(z[nearest].view_as(model.prototypes))
    return model


@pytest.mark.parametrize("kind", ["log", "linear", "exp", "cosine"])
@pytest.mark.parametrize("dims", [2, 3])
def test_prototypes_are_found_whatever_the_family_member(kind, dims):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Parts(dims, kind).eval()
    x = torch.randn(2, 1, *[16] * dims, generator=seeded(4))
    scores, maps = parts_of(model, x)
    assert scores.shape == (2, 6)
    assert maps.shape == (2, 6, *[4] * dims)
    assert torch.allclose(maps.flatten(2).amax(2), scores, rtol=1e-3, atol=1e-4)
    assert torch.allclose(model.last(scores), model(x), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_part_that_decides_is_the_blob_here_and_in_the_case(dims):
    x, there = case(dims)
    told = found("protopnet", parts(dims), dims=dims, count=6)
    form = told.form
    with torch.no_grad():
        output = parts(dims)(x)[0, 1]
    assert float(form.scores.sum()) == pytest.approx(float(output), abs=1e-4)
    assert form.measures["added by all prototypes"] == pytest.approx(float(output), abs=1e-4)
    first = form.maps[0]
    assert form.roles[0].endswith("for")
    assert first[there].mean() > first[~there].mean()
    at = np.unravel_index(int(first.argmax()), first.shape)
    assert min(np.abs(np.argwhere(there.numpy()) - at).max(1)) <= 3  # a position reads its surroundings
    _, where, *_ = pictures(120, 2, dims)
    shown = int(form.index[0])
    assert form.labels[0] == "blob"
    peak = np.unravel_index(int(form.case_maps[0].argmax()), first.shape)
    assert min(np.abs(np.argwhere(where[shown].numpy()) - peak).max(1)) <= 3


def test_the_case_shown_is_the_best_match_and_of_projected_prototypes_the_patch_itself():
    form = found("protopnet", parts(), count=6, batch_size=7).form
    with torch.no_grad():
        every = parts_of(parts(), cohort().x)[0]
    for at, role in zip(form.index.tolist(), form.roles, strict=True):
        k = int(role.split(",")[0].removeprefix("prototype ")) - 1
        assert at == int(every[:, k].argmax())
        assert float(every[at, k]) == pytest.approx(np.log(1 / 1e-4), abs=0.1)


class Pooled(nn.Module):
    """Maximum pooling and a linear layer, as a prototype network ends, without prototypes."""

    def __init__(self):
        super().__init__()
        self.features, self.head = Small().features, nn.Linear(12, 2)

    def forward(self, x):
        return self.head(self.features(x).flatten(2).amax(2))


@pytest.mark.parametrize("make_one", [network, lambda: Pooled().eval(), lambda: make("vit_fused")])
def test_a_model_without_prototypes_is_told_what_is_missing(make_one):
    model = make_one()
    x = images("vit_fused", 5)
    with pytest.raises(RequirementError, match="none were found in this model"):
        discover(model, x[:1], "protopnet", 1, owned=Owned(cohort=Cohort(x[1:])))


@pytest.mark.parametrize("toy", ["vit_fused", "unet2d", "unet3d", "cnn2d_regression"])
@pytest.mark.parametrize("method", ["mmd_critic", "protodash"])
def test_every_kind_of_model_has_prototypes_of_its_cohort(toy, method):
    x = images(toy, 7)
    told = [discover(make(toy), x[:1], method, owned=Owned(cohort=Cohort(x[1:])), batch_size=size) for size in (16, 2)]
    assert torch.equal(told[0].form.index, told[1].form.index)
    assert torch.allclose(told[0].form.scores, told[1].form.scores, atol=1e-4)
