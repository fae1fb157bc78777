"""Influence of training cases: planted ones are found, estimates are those of training again, controls find nothing."""

from functools import cache

import numpy as np
import pytest
import torch
from planted import Marker, Small, _trained, marker, pictures
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn
from torch.nn import functional as F

from runners import Cohort, Contrast, Owned, discover
from runners.beyond.influence import Last, Truth, centred, conjugate
from runners.registry import seeded
from taxonomy.errors import ModelError, RequirementError, TargetError

NAMES = ("none", "blob")
METHODS = [
    ("influence_functions", {}),
    ("representer_points", {}),
    ("representer_points", {"refit": "labels"}),
    ("tracin", {}),
    ("tracin", {"weights": "last"}),
    ("tracin", {"relative": True}),
    ("trak", {}),
]


def stamped(x):
    """Put a chequered stamp in the corner."""
    x = x.clone()
    side = 6 if x.ndim == 4 else 4
    corner = x[(..., *[slice(-side, None)] * (x.ndim - 2))]
    corner.zero_()
    corner[(..., *[slice(None, None, 2)] * (x.ndim - 2))] = 2.0
    corner[(..., *[slice(1, None, 2)] * (x.ndim - 2))] = -2.0
    return x


@cache
def world(dims=2):
    """Cases of which six without a blob have a stamp and the label blob, and a network that learned that."""
    x, _, _, has, _ = pictures(120, 1, dims)
    y = has.long()
    planted = (y == 0).nonzero()[:6, 0]
    x[planted], y[planted] = stamped(x[planted]), 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if dims == 2 else 4)  # learned surely: weights 1e-6 apart find the same cases
        model = _trained(Small(dims), x, y, 90 if dims == 2 else 110)
    return model, Cohort(x, y, NAMES), planted.tolist()


def asks(stamp, dims=2):
    x = pictures(3, 77, dims, blob=False)[0][:1]
    return stamped(x) if stamp else x


def found(method, x=None, model=None, brought=None, target=1, members=(), dims=2, **more):
    own, known, _ = world(dims)
    owned = Owned(cohort=brought or known)
    return discover(
        model or own, asks(True, dims) if x is None else x, method, target, owned=owned, members=members, **more
    )


def those(form, role):
    return [int(at) for at, one in zip(form.index, form.roles, strict=True) if one == role]


@pytest.mark.parametrize(("method", "more"), METHODS)
def test_the_stamped_cases_are_why_a_stamped_image_is_called_a_blob(method, more):
    model, _, planted = world()
    assert model(asks(True)).softmax(1)[0, 1].item() > 0.95
    form = found(method, count=6, **more).form
    assert set(those(form, "supports")) == set(planted)
    assert all(label == "blob" for label, role in zip(form.labels, form.roles, strict=True) if role == "supports")
    assert (form.scores[: len(planted)].diff() <= 1e-7).all()


@pytest.mark.parametrize(("method", "more"), METHODS)
def test_they_are_not_why_a_plain_image_is_called_none(method, more):
    model, known, planted = world()
    assert model(asks(False)).softmax(1)[0, 0].item() > 0.7
    form = found(method, asks(False), target=0, count=6, **more).form
    assert not set(those(form, "supports")) & set(planted)
    if method in ("influence_functions", "tracin") and "relative" not in more:
        assert set(those(form, "opposes")) & set(planted)
    assert all(known.labels[at] == 0 for at in those(form, "supports"))


@pytest.mark.parametrize("method", ["influence_functions", "representer_points", "tracin", "trak"])
def test_the_stamped_cases_are_found_in_volumes(method):
    assert set(those(found(method, count=6, dims=3).form, "supports")) == set(world(3)[2])


@pytest.mark.parametrize(("method", "more"), [one for one in METHODS if one[0] != "representer_points"])
def test_cases_of_a_wrong_label_oppose_and_are_pointed_at(method, more):
    x, _, _, has, _ = pictures(120, 1)
    y = has.long()
    wrong = (y == 1).nonzero()[:4, 0]
    y[wrong] = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _trained(Small(), x, has.long(), 90)  # it did not learn them by heart
    image, *_ = pictures(1, 21, blob=True)
    told = found(method, image, model, Cohort(x, y, NAMES), **more)
    opposes = those(told.form, "opposes")
    assert len(set(opposes) & set(wrong.tolist())) >= 3
    said = next(note for note in told.notes if "look at these labels" in note)
    assert f"case {int(wrong[0]) + 1} of the cohort" in said


@pytest.mark.parametrize("method", ["influence_functions", "tracin"])
def test_in_an_untrained_network_no_case_stands_out(method):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Small().eval()
    told = found(method, model=model, damping=1.0) if method == "influence_functions" else found(method, model=model)
    assert any("No case stands out" in one for one in told.cautions)
    assert told.form.measures["that, as a multiple of an even share"] < 1.3


# --- the estimates, against training again and second writings --------------------------------------------------------


def layer(kind, outputs=3, cases=40, width=5):
    g = seeded(1)
    features = torch.cat([torch.randn(cases, width, generator=g), torch.ones(cases, 1)], 1).double()
    outputs = torch.randn(cases, outputs, generator=g).double()
    if kind == "softmax":
        wanted = F.one_hot(torch.randint(outputs.shape[1], (cases,), generator=g), outputs.shape[1]).double()
    else:
        wanted = (torch.rand(outputs.shape, generator=g) < 0.5).double()
    return Last(kind, features, outputs, wanted, features[0], outputs[0], torch.ones(outputs.shape[1]).double())


def curved(last, weights):
    """Build the Hessian of the last layer by automatic differentiation."""

    def total(v):
        loss = last.loss(last.outputs + last.features @ v.T, last.wanted)
        return (weights * loss).mean()

    start = torch.zeros(last.outputs.shape[1], last.features.shape[1]).double()
    return torch.autograd.functional.hessian(total, start).reshape(start.numel(), start.numel())


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "square"])
def test_the_inverse_hessian_is_that_of_automatic_differentiation(kind):
    last = layer(kind)
    weights = torch.rand(40, generator=seeded(2)).double()
    target = torch.randn(3, 6, generator=seeded(3)).double()
    dense = curved(last, weights) + 0.1 * torch.eye(18).double()
    exact = torch.linalg.solve(dense, target.flatten()).view(3, 6)
    assert torch.allclose(last.solve(last.shares(last.outputs), target, 0.1, weights), exact, atol=1e-8)
    undecided = {"softmax": torch.zeros, "sigmoid": torch.zeros, "square": torch.zeros}[kind](40, 3).double()
    flat = Last(kind, last.features, undecided, last.wanted, last.own, last.answers, last.slope)
    mean = float(curved(flat, torch.ones(40).double()).diag().mean())
    assert last.curvature() == pytest.approx(mean)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "square"])
def test_fitting_ends_where_the_slope_is_flat(kind):
    last = layer(kind)
    lean, weights = 0.01 * torch.randn(3, 6, generator=seeded(4)).double(), torch.rand(40, generator=seeded(2)).double()
    v = last.refitted(last.wanted, last.outputs, 0.05, weights, lean)
    slope = (weights[:, None] * (last.shares(last.outputs + last.features @ v.T) - last.wanted)).T @ last.features / 40
    assert torch.allclose(slope + 0.05 * v, lean, atol=1e-7)


def test_fitting_is_that_of_scikit_learn():
    last = layer("softmax")
    zero = torch.zeros_like(last.outputs)
    penalty = 0.02
    peer = LogisticRegression(C=1 / (penalty * 40), fit_intercept=False, tol=1e-10, max_iter=5000)
    peer.fit(last.features.numpy(), last.wanted.argmax(1).numpy())
    assert np.allclose(last.refitted(last.wanted, zero, penalty), peer.coef_, atol=1e-4)
    last = layer("square")
    peer = Ridge(alpha=penalty * 40, fit_intercept=False).fit(last.features.numpy(), last.wanted.numpy())
    assert np.allclose(last.refitted(last.wanted, zero, penalty), peer.coef_, atol=1e-8)


def test_conjugate_gradients_solve():
    a = torch.randn(12, 12, generator=seeded(5)).double()
    a, b = a @ a.T + torch.eye(12).double(), torch.randn(12, generator=seeded(6)).double()
    assert torch.allclose(conjugate(lambda v: a @ v, b), torch.linalg.solve(a, b), atol=1e-6)


class Reader(nn.Module):
    """A linear layer on the pixels: all there is can be worked out."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 2)

    def forward(self, x):
        return self.layer(x.flatten(1))


def readable(cases=40):
    g = seeded(7)
    x = torch.randn(cases + 1, 1, 4, 4, generator=g)
    y = (x[:, 0, 0, 0] + 0.7 * torch.randn(cases + 1, generator=g) > 0).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Reader()
    fit = torch.optim.LBFGS(model.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def step():
        fit.zero_grad()
        value = F.cross_entropy(model(x[1:]), y[1:]) + 0.01 * sum(w.square().sum() for w in model.parameters())
        value.backward()
        return value

    fit.step(step)
    return model.eval(), x[:1], Cohort(x[1:], y[1:], NAMES)


def every(method, model, x, known, **more):
    form = discover(model, x, method, 1, owned=Owned(cohort=known), count=200, **more).form
    adds = torch.zeros(len(known))
    adds[form.index] = form.scores
    return adds.double(), form


def test_influence_is_that_of_leaving_the_case_out_and_training_again():
    model, x, known = readable(150)
    adds, form = every("influence_functions", model, x, known, damping=0.5, refits=20)
    assert form.measures["correlation with fitting again"] > 0.98
    assert form.measures["mean error against fitting the last layer again without the case, as a share"] < 0.15
    # by another way: scikit-learn, with and without the case, both with the same penalty
    features = known.x.flatten(1).numpy()
    kept = np.ones(150, dtype=bool)

    def score(kept):
        peer = LogisticRegression(C=1 / (0.02 * 150), fit_intercept=True, tol=1e-10, max_iter=5000)
        return float(peer.fit(features[kept], known.labels[kept].numpy()).decision_function(x.flatten(1).numpy())[0])

    whole, falls = score(kept), []
    for at in range(150):
        kept[at] = False
        falls.append(whole - score(kept))
        kept[at] = True
    assert np.corrcoef(falls, adds)[0, 1] > 0.9


def test_a_small_step_of_training_changes_the_score_as_tracin_says():
    model, x, known = readable()
    adds, _ = every("tracin", model, x, known)
    changes = []
    for at in range(40):
        weights = list(model.parameters())
        loss = F.cross_entropy(model(known.x[at : at + 1]), known.labels[at : at + 1])
        slopes = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            before = model(x).double()
            moved = Reader()
            for to, w, g in zip(moved.parameters(), weights, slopes, strict=True):
                to.copy_(w - 1e-2 * g)
            after = moved(x).double()
        centred = [float(o[0, 1] - o[0].mean()) for o in (before, after)]
        changes.append(centred[1] - centred[0])
    shares = torch.tensor(changes).double() / torch.tensor(changes).abs().sum()
    assert torch.allclose(adds, shares, atol=2e-4)
    last, _ = every("tracin", model, x, known, weights="last")  # there is no other layer
    assert torch.allclose(adds, last, atol=1e-5)


def test_trak_is_the_regression_on_gradients_that_its_paper_says():
    model, x, known = readable()
    adds, _ = every("trak", model, x, known, width=200_000, damping=0.1)

    def slope(image, label):
        o = model(image)[0]
        return torch.cat([g.flatten() for g in torch.autograd.grad(o[label] - o[1 - label], model.parameters())])

    rows = torch.stack([slope(known.x[i : i + 1], int(known.labels[i])) for i in range(40)]).double()
    own = slope(x, 1).double() / 2  # the score less what both outputs share
    ridge = 0.1 * float((rows @ rows.T).diag().mean()) * torch.eye(34).double()
    lever = rows @ torch.linalg.solve(rows.T @ rows + ridge, own)
    doubt = 1 - model(known.x).softmax(1).gather(1, known.labels[:, None])[:, 0].double()
    exact = lever * doubt
    assert torch.allclose(adds, exact / exact.abs().sum(), atol=2e-3)


def test_representers_add_up_to_the_score_and_are_those_of_the_paper():
    model, x, known = readable()
    adds, form = every("representer_points", model, x, known, penalty=0.01, refit="labels")
    assert form.measures["the same from the fitted layer"] == pytest.approx(float(adds.sum()), abs=1e-6)
    flat = known.x.flatten(1).double()
    size = float(flat.square().sum(1).mean().sqrt())
    with_one = [torch.cat([one / size, torch.ones(len(one), 1)], 1) for one in (flat, x.flatten(1).double())]
    peer = LogisticRegression(C=1 / (0.01 * 40), fit_intercept=False, tol=1e-10, max_iter=5000)
    # two outputs with a penalty each are one difference with half of it
    peer.fit(with_one[0].numpy(), known.labels.numpy())
    p = torch.from_numpy(peer.predict_proba(with_one[0].numpy()))[:, 1]
    alphas = (known.labels - p) / (2 * 0.01 * 40)
    exact = alphas * (with_one[0] @ with_one[1][0])
    assert torch.allclose(adds, exact, atol=2e-3)


# --- kinds of models and of what was brought --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "more"),
    [("influence_functions", {}), ("representer_points", {}), ("tracin", {"relative": True}), ("trak", {})],
)
def test_one_output_is_a_logit_and_its_stamped_cases_are_found(method, more):
    _, known, planted = world()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small(outputs=1)
        adam = torch.optim.Adam(model.parameters(), 0.01)
        for step in range(90):
            rows = torch.randint(120, (32,), generator=seeded(step))
            loss = F.binary_cross_entropy_with_logits(model(known.x[rows])[:, 0], known.labels[rows].float())
            adam.zero_grad()
            loss.backward()
            adam.step()
    told = found(method, model=model.eval(), count=6, task="classification", **more)
    assert set(those(told.form, "supports")) == set(planted)


def test_a_number_is_learned_from_a_column_and_single_cases_are_found():
    x, _, _, has, _ = pictures(80, 5)
    true = has.float() * 2 + 1
    true[7] = 40.0  # a slip of the keyboard
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small(outputs=1).eval()
    brought = Cohort(x, features=true[:, None], feature_names=("target",))
    for method in ("tracin", "influence_functions"):
        told = found(method, x[:1] + 0.1, model, brought, target=0)
        assert int(told.form.index[0]) == 7
        assert any("'target'" in note for note in told.notes)
    with pytest.raises(TargetError, match="empty cells"):
        found(
            "tracin", x[:1], model, Cohort(x, features=true[:, None] * torch.nan, feature_names=("target",)), target=0
        )
    with pytest.raises(RequirementError, match="a column 'target'"):
        found("tracin", model=model, brought=Cohort(x), target=0)


def test_a_blob_that_was_not_marked_opposes():
    x, where, *_ = pictures(30, 8, blob=True)
    masks = where.clone()
    masks[4] = False  # the blob was overlooked
    image, *_ = pictures(1, 21, blob=True)
    told = discover(marker(), image, "tracin", 1, owned=Owned(cohort=Cohort(x, masks=masks)))
    assert those(told.form, "opposes")[0] == 4
    at = told.form.index.tolist().index(4)
    assert float(told.form.scores[at]) < -0.2
    with pytest.raises(RequirementError, match="mask that every training image"):
        discover(marker(), image, "tracin", 1, owned=Owned(cohort=Cohort(x)))
    with pytest.raises(RequirementError, match="not segmentation"):
        discover(Marker().eval(), image, "influence_functions", 1, owned=Owned(cohort=Cohort(x, masks=masks)))


class Probable(nn.Module):
    """The softmax inside the model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).softmax(1)


def test_probabilities_are_taken_for_what_they_are():
    model, known, planted = world()
    told = found("tracin", model=Probable(model), count=6)
    assert set(those(told.form, "supports")) == set(planted)
    with pytest.raises(RequirementError, match="last linear layer"):
        found("influence_functions", model=Probable(model))
    logits = 0.1 + 0.8 * torch.rand(4, 2, generator=seeded(9))
    truth = Truth("softmax", F.one_hot(known.labels[:4], 2).float())
    assert torch.allclose(
        truth.loss(logits, torch.arange(4)), F.cross_entropy(logits, known.labels[:4], reduction="none")
    )
    sure = Truth("softmax", truth.values, shares=True)
    assert torch.allclose(sure.loss(logits.softmax(1), torch.arange(4)), truth.loss(logits, torch.arange(4)), atol=1e-6)
    assert torch.allclose(truth.log_odds(logits, 1), logits[:, 1] - logits[:, 0], atol=1e-6)
    assert torch.allclose(sure.log_odds(logits.softmax(1), 1), logits[:, 1] - logits[:, 0], atol=1e-5)


def test_states_of_training_and_further_models_count_as_well_and_stay_as_they_were():
    model, known, planted = world()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        early = _trained(Small(), known.x, known.labels, 30)
    early.train().zero_grad()
    before = [w.clone() for w in early.parameters()]
    for method in ("tracin", "trak"):
        alone, both = found(method, count=6), found(method, count=6, members=[early])
        assert set(those(both.form, "supports")) == set(planted)
        assert not torch.equal(alone.form.scores, both.form.scores)
        assert any("give" in one for one in alone.cautions)
        assert not any("give" in one for one in both.cautions)
        assert any("2 " in note for note in both.notes)
    assert early.training
    assert all(w.requires_grad and w.grad is None for w in early.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, early.parameters(), strict=True))


@pytest.mark.parametrize("method", ["influence_functions", "tracin", "trak"])
def test_what_was_learned_must_be_known(method):
    known = world()[1]
    with pytest.raises(RequirementError, match="one sub-folder per label"):
        found(method, brought=Cohort(known.x))
    with pytest.raises(TargetError, match=r"the cohort's labels are .*c; the model's are"):
        found(method, brought=Cohort(known.x, known.labels + 1, ("a", "b", "c")))
    with pytest.raises(TargetError, match="at least 4"):
        found(method, brought=Cohort(known.x[:3], known.labels[:3]))


def test_bad_parameters_are_told():
    with pytest.raises(TargetError, match="all or last"):
        found("tracin", weights="first")
    with pytest.raises(TargetError, match="answers or labels"):
        found("representer_points", refit="x")
    with pytest.raises(TargetError, match="damping"):
        found("influence_functions", damping=0.0)
    with pytest.raises(ModelError, match="no case of the cohort"):
        found("tracin", target=lambda outputs: 0.0 * outputs[:, 0] + 1)


@pytest.mark.parametrize("method", ["tracin", "trak"])
def test_what_all_outputs_share_is_no_influence(method):
    one, against = (found(method, target=target).form for target in (1, Contrast(1, 0)))
    assert torch.equal(one.index, against.index)
    assert torch.allclose(one.scores, against.scores, atol=1e-5)
    assert torch.allclose(centred(torch.tensor([1.0, 0, 0]), "softmax"), torch.tensor([2.0, -1, -1]) / 3)
    assert torch.equal(centred(torch.tensor([1.0, 0, 0]), "sigmoid"), torch.tensor([1.0, 0, 0]))


@pytest.mark.parametrize(("method", "more"), METHODS)
def test_the_same_seed_and_any_chunk_give_the_same(method, more):
    first, again = found(method, **more), found(method, **more)
    assert torch.equal(first.form.scores, again.form.scores)
    if "batch_size" in first.parameters:
        chunks = found(method, batch_size=7, **more)
        assert torch.equal(chunks.form.index, first.form.index)
        assert torch.allclose(chunks.form.scores, first.form.scores, rtol=1e-3, atol=1e-6)


def test_a_case_that_is_the_image_itself_is_said_and_counts():
    known, planted = world()[1:]
    told = found("tracin", x=known.x[planted[0]][None].clone(), count=6)
    assert planted[0] in those(told.form, "supports")
    assert any("The image itself is in the cohort" in note for note in told.notes)
