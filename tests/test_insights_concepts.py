"""Concepts: what was planted is found, what was not is not, and the numbers are those of slow second writings."""

import contextlib
import itertools
import math

import numpy as np
import pytest
import torch
from planted import Marker, Small, case, cohort, concepts, marker, network, pictures
from toys import images, make

from runners import Cohort, Concept, Owned, discover, explain, insights, profile, unmet_by
from runners.beyond.concepts_found import _completeness, _Factors, _shapley, _sobol
from runners.beyond.concepts_labelled import _iou, _regressed, _spread_out
from runners.beyond.directions import basis, compared, direction, others
from runners.beyond.inside import asked, closest_patches, cut, settled
from runners.registry import no_progress, parameters, seeded
from taxonomy.errors import ModelError, RequirementError, TargetError

FEW = {
    "ace": {"images": 8, "segments": 12, "samples": 60, "runs": 10},
    "craft": {"parts": 4, "images": 12, "judged": 3, "designs": 8},
    "ice": {"parts": 4, "images": 12},
    "conceptshap": {"parts": 3, "steps": 20, "images": 50},
    "crp": {"parts": 3, "images": 12},
    "tcav": {"samples": 100, "runs": 20},
    "rcv": {"samples": 60},
    "cme": {"layers": 2, "runs": 20},
    "post_hoc_cbm": {"samples": 5, "runs": 20},
    "network_dissection": {"samples": 100},
    "net2vec": {"samples": 100},
}


def found(method, model=None, dims=2, target=1, owned=None, **more):
    x, _ = case(dims)
    brought = owned or Owned(cohort=cohort(dims), concepts=concepts(dims))
    return discover(model or network(dims), x, method, target, owned=brought, **FEW.get(method, {}) | more)


def among(form):
    return dict(zip(form.names, range(len(form.names)), strict=True))


def inside_and_outside(form, k, mask):
    return float(form.maps[k][mask].mean()), float(form.maps[k][~mask].mean())


@pytest.mark.parametrize("pooled", [True, False])
def test_tcav_finds_the_sign_that_decides_and_not_the_one_that_does_not(pooled):
    told = found("tcav", pooled=pooled)
    at, form = among(told.form), told.form
    assert form.scores[at["blob"]] > 0.9
    assert form.p_values[at["blob"]] < 0.05
    assert form.p_values[at["stripes"]] > 0.1
    assert form.p_values[at["random"]] > 0.1
    assert form.measures["tcav_significance"] == pytest.approx(float(form.p_values.min()))
    assert (form.low <= form.scores).all()
    assert (form.scores <= form.high).all()
    there, elsewhere = inside_and_outside(form, at["blob"], case()[1])
    assert there > elsewhere
    assert form.patches.shape == (3, 4, 1, 28, 28)


def test_tcav_of_the_other_answer_is_the_other_way_round():
    form = found("tcav", target=0).form
    assert form.scores[among(form)["blob"]] < 0.1


def test_p_of_random_sets_is_uniform_where_the_t_test_of_the_paper_is_not():
    model, x = network(), case()[0]
    inside, _ = settled(
        cut(model, x, label_1, profile(model, x), 16), x, cohort().x, profile(model, x), None, bent=True
    )
    pool = inside.features(cohort().x).flatten(2).mean(2)
    slopes = inside.slopes(cohort().x[:40]).flatten(2).sum(2)
    p, t = [], []
    for seed in range(40):
        order = torch.randperm(len(pool), generator=seeded(100 + seed))
        told = compared(
            [pool[order[:20]]], pool[order[20:]], slopes, kind="pattern", correction="bonferroni", randoms=40, runs=8,
            generator=seeded(seed), progress=no_progress,
        )  # fmt: skip
        p.append(float(told.p[0]))
        t.append(float(told.t_test[0]))
    assert np.mean(np.array(p) <= 0.1) <= 0.25
    assert np.mean(np.array(t) <= 0.01) >= 0.15


def label_1(outputs, _rows):
    return outputs[:, 1]


def test_shares_are_those_of_captum():
    """Captum keeps activations in files and fits its own classifier: its counting is compared, for our direction."""
    concept = pytest.importorskip("captum.concept")
    model, x = network(), case()[0]
    inside = cut(model, x, label_1, profile(model, x), 64, "features.2")
    pool, example = (inside.features(one).flatten(1).double() for one in (cohort().x, concepts()["stripes"].x))
    way, slopes = direction(example, pool, "pattern"), inside.slopes(cohort().x[:50]).flatten(1)
    theirs, scores = concept.TCAV.__new__(concept.TCAV), {"0-1": {}}
    sets = [[concept.Concept(i, str(i), None) for i in range(2)]]
    theirs._tcav_sub_computation(scores, "here", slopes, torch.stack([way, -way])[None].float(), [[0, 1]], sets)
    own = (slopes.double() @ way > 0).double().mean()
    assert float(scores["0-1"]["here"]["sign_count"][0]) == pytest.approx(float(own), abs=0.021)
    assert 0 < float(own) < 1


def test_directions():
    g = seeded(0)
    a, b = torch.randn(30, 5, generator=g).double(), torch.randn(40, 5, generator=g).double()
    a[:, 2] += 3
    for kind in ("logistic", "pattern"):
        way = direction(a, b, kind)
        assert float(way.norm()) == pytest.approx(1)
        assert int(way.abs().argmax()) == 2
        assert way[2] > 0
    assert torch.allclose(direction(a, b, "pattern"), (a.mean(0) - b.mean(0)) / (a.mean(0) - b.mean(0)).norm())
    wide = torch.randn(12, 50, generator=g).double()
    axes = basis(wide)
    assert axes.shape == (11, 50)
    for kind in ("logistic", "pattern"):  # nothing is lost in the span of the features
        whole = direction(wide[:5], wide[5:], kind)
        assert torch.allclose(direction(wide[:5] @ axes.T, wide[5:] @ axes.T, kind) @ axes, whole, atol=2e-3)


def test_a_distractor_turns_the_classifier_but_not_the_pattern():
    g = seeded(1)
    noise = 3 * torch.randn(400, generator=g).double()
    has = torch.arange(400) % 2 == 0
    x = torch.stack([has + noise, noise], 1)  # the first feature shows the concept, the second only the distractor
    pattern, logistic = (direction(x[has], x[~has], kind) for kind in ("pattern", "logistic"))
    assert abs(float(pattern[1])) < 0.5 * float(pattern[0])
    assert float(logistic[1]) < -0.5 * float(logistic[0])


def test_images_of_a_concept_are_not_their_own_counter_examples():
    pool = torch.randn(30, 4, generator=seeded(2)).double()
    assert torch.equal(others(pool, pool[:10]), pool[10:])
    assert len(others(pool, pool[:29])) == 30


def test_rcv_finds_the_measure_that_is_used_and_not_the_noise():
    x, _, _, has, lined = pictures(120, 2)
    g = seeded(3)
    values = torch.stack([has + 0.2 * torch.randn(120, generator=g), torch.randn(120, generator=g)], 1)
    brought = Owned(
        cohort=Cohort(x, features=values, feature_names=("blob size", "noise")),
        features={"blob size": 1.0, "noise": 0.0},
    )
    told = found("rcv", owned=brought)
    at = among(told.form)
    assert float(told.form.scores[at["blob size"]]) == pytest.approx(1)
    assert abs(float(told.form.scores[at["noise"]])) < 0.2
    assert told.form.p_values[at["blob size"]] < 0.05 < told.form.p_values[at["noise"]]
    assert told.form.measures["best R² on images left out"] > 0.7
    measured = found("rcv")
    assert any("none were given" in note for note in measured.notes)
    assert float(measured.form.scores[among(measured.form)["brightness"]]) > 0.3


def test_ridge_regression_leaves_images_out_as_a_loop_would():
    from sklearn.linear_model import Ridge

    g = seeded(4)
    a, y = torch.randn(25, 6, generator=g).double(), torch.randn(25, 2, generator=g).double()
    y[:, 0] += a[:, 1]
    y = (y - y.mean(0)) / y.std(0, correction=0)
    r2, p, ways = _regressed(a, y, 20, seeded(5))
    centred = a - a.mean(0)
    unit = float((centred @ centred.T).trace()) / 25
    loop = []
    for alpha in (0.001, 0.01, 0.1, 1.0, 10.0):
        left = np.empty((25, 2))
        for i in range(25):
            rest = [k for k in range(25) if k != i]
            # the penalised fit of the closed form keeps the mean of all images' features
            fit = Ridge(alpha * unit).fit(centred[rest].numpy(), y[rest].numpy())
            left[i] = fit.predict(centred[i : i + 1].numpy())[0]
        total = sum((y[i] - y[[k for k in range(25) if k != i]].mean(0)) ** 2 for i in range(25)).numpy()
        loop.append(1 - ((y.numpy() - left) ** 2).sum(0) / total)
    assert np.allclose(np.max(loop, 0), r2.numpy(), atol=0.02)
    assert p[0] < 0.1 < p[1]
    assert int(ways[0].abs().argmax()) == 1


def test_bottleneck_on_concepts_answers_alike_and_says_when_random_ones_do_too():
    told = found("post_hoc_cbm")
    at, form = among(told.form), told.form
    assert form.measures["concept_completeness"] > 0.8
    assert form.measures["same answer as the model on images left out"] > 0.9
    assert int(form.scores.abs().argmax()) == at["blob"]
    assert form.scores[at["blob"]] > 0
    assert any("random directions explain the score as well" in caution for caution in told.cautions)


def test_model_extracted_from_concepts_hangs_on_the_blob():
    told = found("cme")
    at, form = among(told.form), told.form
    assert form.measures["same answer as the model on images left out"] > 0.85
    assert int(form.scores.argmax()) == at["blob"]
    assert form.low[at["blob"]] > 0
    assert 0.5 < form.measures["concept_accuracy"] <= 1
    random = found("cme", owned=Owned(cohort=cohort(), concepts={"random": concepts()["random"]}))
    assert any("whether it counts cannot be said" in caution for caution in random.cautions)
    assert float(random.form.scores[0]) == 0


@pytest.mark.parametrize("method", ["network_dissection", "net2vec"])
@pytest.mark.parametrize("dims", [2, 3])
def test_units_mark_the_blob_and_nothing_marks_random_masks(method, dims):
    told = found(method, dims=dims)
    at, form = among(told.form), told.form
    assert form.scores[at["blob"]] > (0.5 if dims == 2 else 0.3)
    assert form.p_values[at["blob"]] < 0.05
    assert form.scores[at["random"]] < 0.15
    assert form.p_values[at["random"]] > 0.05
    there, elsewhere = inside_and_outside(form, at["blob"], case(dims)[1])
    assert there > elsewhere


def test_masks_are_asked_for():
    brought = Owned(concepts={"blob": Concept(concepts()["blob"].x)})
    with pytest.raises(TargetError, match="give masks of blob"):
        found("network_dissection", owned=brought)


def test_overlap_is_that_of_a_loop():
    g = seeded(6)
    marked, mask = torch.rand(4, 3, 20, generator=g) < 0.4, torch.rand(4, 20, generator=g) < 0.3
    for d in range(3):
        both = sum(int((marked[n, d] & mask[n]).sum()) for n in range(4))
        either = sum(int((marked[n, d] | mask[n]).sum()) for n in range(4))
        assert float(_iou(marked, mask)[d]) == pytest.approx(both / either)


@pytest.mark.parametrize("method", ["ace", "craft", "ice", "crp"])
def test_found_concept_of_most_effect_is_the_blob(method):
    told, mask = found(method), case()[1]
    form = told.form
    there, elsewhere = inside_and_outside(form, 0, mask)
    assert there > 3 * abs(elsewhere)
    assert there > 0
    assert torch.isfinite(form.patches).all()
    assert len(form.patches) == len(form.names) == len(form.maps)


@pytest.mark.parametrize("method", ["ace", "craft", "ice", "crp"])
def test_after_random_labels_the_blob_is_no_concept(method):
    there, elsewhere = inside_and_outside(found(method, network(2, random=True)).form, 0, case()[1])
    assert there < 1.5 * abs(elsewhere) + 1e-3


def test_after_random_labels_no_concepts_suffice():
    assert found("conceptshap", network(2, random=True)).form.measures["concept_completeness"] < 0.1


def test_discovery_in_a_segmenter_finds_what_it_marks():
    told = found("d_tcav", marker(), target=None, **FEW["ace"])
    assert told.form.p_values[0] < 0.1
    there, elsewhere = inside_and_outside(told.form, 0, case()[1])
    assert there > elsewhere
    assert any("mean logit" in note for note in told.notes)


def test_learned_concepts_suffice_and_one_is_the_blob():
    form = found("conceptshap").form
    assert form.measures["concept_completeness"] > 0.8
    assert float(form.scores.sum()) == pytest.approx(form.measures["concept_completeness"], abs=0.1)
    assert any(there > 3 * elsewhere for there, elsewhere in (inside_and_outside(form, k, case()[1]) for k in range(3)))


def test_shapley_values_are_those_of_the_definition():
    worth = torch.rand(8, generator=seeded(7)).double()
    subsets = list(itertools.product((0, 1), repeat=3))
    slow = []
    for k in range(3):
        total = 0.0
        for order in itertools.permutations(range(3)):
            before = order[: order.index(k)]
            without = tuple(int(i in before) for i in range(3))
            with_ = tuple(int(i in before or i == k) for i in range(3))
            total += float(worth[subsets.index(with_)] - worth[subsets.index(without)])
        slow.append(total / math.factorial(3))
    assert torch.allclose(_shapley(3) @ worth, torch.tensor(slow).double())
    assert float((_shapley(3) @ worth).sum()) == pytest.approx(float(worth[-1] - worth[0]))


def test_completeness_runs_from_a_constant_to_the_model():
    answers, scores = torch.tensor([0, 0, 0, 1]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    table = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 0], [1, 1, 1, 1]]).double()
    assert _completeness(table, answers, scores, True).tolist() == [0, 0, 1]
    errors = -torch.stack([(scores - 2.5).square(), torch.zeros(4)]).double()
    assert _completeness(errors, answers, scores, False).tolist() == pytest.approx([0, 1])


def test_sobol_indices_of_an_additive_score():
    """Of ``y = Σ w m`` with uniform shares the total index of a concept is its share of ``Σ w²``."""

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = torch.nn.Conv2d(1, 2, 1), torch.nn.Linear(2, 1, bias=False)
            with torch.no_grad():
                self.features.weight.copy_(torch.tensor([1.0, 1.0]).view(2, 1, 1, 1))
                self.features.bias.zero_()
                self.head.weight.copy_(torch.tensor([[1.0, 2.0]]))
            self.requires_grad_(False)

        def forward(self, x):
            return self.head(self.features(x).mean((2, 3)))

    model, x = Sum(), torch.ones(1, 1, 4, 4)
    inside = cut(model, x, lambda o, _: o[:, 0], profile(model, x), 64)
    factors = _Factors(torch.eye(2).repeat(10, 1), 2, False, seeded(0))
    amounts = factors.amounts(inside.features(x))[0]
    index, drop, off = _sobol(inside, factors, x, amounts, 512, 3)
    assert sorted(index.tolist()) == pytest.approx([0.2, 0.8], abs=0.06)
    assert sorted(drop.tolist()) == pytest.approx([1, 2], abs=0.05)
    assert off < 0.02


def test_relevance_of_all_channels_is_the_relevance_of_the_whole():
    model, x = network(), case()[0]
    whole = explain(model, x, "lrp_composite", 1).values[0]
    every = found("crp", parts=12)
    assert torch.allclose(every.form.maps.sum(0), whole, atol=1e-4 * float(whole.abs().max()))
    assert float(every.form.scores.abs().sum()) == pytest.approx(1, abs=1e-4)
    assert every.form.measures["share of the relevance in channels not shown"] == pytest.approx(0, abs=1e-4)


def test_factors_put_features_of_both_signs_together():
    features = torch.randn(200, 3, generator=seeded(8)) @ torch.randn(3, 6, generator=seeded(9))
    factors = _Factors(features, 6, True, seeded(0))
    again = factors.features(factors.amounts(features[:, :, None, None]))[:, :, 0, 0]
    assert float((again - features).norm() / features.norm()) < 0.2


def test_the_layer_is_one_that_decides():
    model, x = network(), case()[0]
    wired = profile(model, x)
    inside, cautions = settled(cut(model, x, label_1, wired, 16), x, cohort().x, wired, None)
    assert inside.place == wired.place
    assert cautions == ()
    bent, _ = settled(inside, x, cohort().x, wired, None, bent=True)
    assert bent.place != wired.place
    slopes = [bent.slopes(one[None]) for one in cohort().x[:2]]
    assert not torch.allclose(*slopes)
    net = make("cnn2d")
    image = images("cnn2d", 1)
    wired = profile(net, image)
    branched, _ = settled(
        cut(net, image, lambda o, _: o[:, 0], wired, 8, "block"), image, images("cnn2d", 3)[1:], wired, "block"
    )
    assert branched.place.name == "block"
    _, told = settled(branched, image, images("cnn2d", 3)[1:], wired, "block")
    assert "passes by" in told[0]


def test_slopes_are_finite_differences_and_features_can_be_put_back():
    model, x = network(), case()[0]
    inside = cut(model, x, label_1, profile(model, x), 4, "features.4")
    features, way = inside.features(x), torch.randn(1, 12, 14, 14, generator=seeded(3))
    step = 1e-3
    numeric = (inside.behind(x, features + step * way)[0] - inside.behind(x, features - step * way)[0]) / (2 * step)
    assert float((inside.slopes(x) * way).sum()) == pytest.approx(float(numeric), rel=0.02)
    assert float(inside.behind(x, features)[0]) == pytest.approx(float(inside.look(x)[0]), rel=1e-5)


def test_a_segmentation_is_scored_on_what_is_marked_in_each_image():
    model = marker()
    x = case()[0]
    output = model(x).detach()
    region = output.argmax(1) == 1

    def score(o, _rows):
        return (o[:, 1] * region).flatten(1).sum(1)

    one = asked(model, x, score, profile(model, x), 8)
    images_ = cohort().x[:6]
    scores, own, _ = one.look(images_)
    for image, value, has in zip(images_, scores, own, strict=True):
        o = model(image[None])[0].detach()
        there = o.argmax(0) == 1
        assert bool(there.any()) == bool(has)
        assert float(value) == pytest.approx(float(o[1][there].mean()) if there.any() else 0.0, abs=1e-4)


def test_one_logit_knows_which_side_it_is_on():
    model = Small(outputs=1).eval()
    x = case()[0]
    wired = profile(model, x, task="classification")
    for sign in (1, -1):
        _, own, _ = asked(model, x, lambda o, _, s=sign: s * o[:, 0], wired, 8).look(cohort().x[:10])
        assert torch.equal(own, (sign * model(cohort().x[:10])[:, 0] > 0))


@pytest.mark.parametrize("method", sorted(FEW))
def test_same_seed_same_answer_and_batches_do_not_matter(method):
    if method == "crp":
        pytest.skip("no draws, no batches")
    quick = {"samples": 5, "runs": 4} if method in ("tcav", "ace") else {}
    if method == "conceptshap":  # learns in steps of a batch
        quick = {"batch_size": 8, "steps": 4}
    sizes = (16, 16) if method in ("tcav", "conceptshap") else (16, 5)
    a, b = (found(method, **{"batch_size": size} | quick).form.scores for size in sizes)
    assert torch.equal(a, b) if sizes == (16, 16) else torch.allclose(a, b, atol=2e-3 * float(a.abs().max()) + 1e-4)


@pytest.mark.parametrize("method", sorted({*FEW, "d_tcav"}))
@pytest.mark.parametrize("name", ["cnn3d", "vit_tokens_first", "unet3d", "cnn2d_regression", "detector", "box"])
def test_every_kind_of_model_is_served_or_told_why_not(name, method):
    model, x = make(name), images(name, 1)
    g = seeded(1)
    shape = tuple(x.shape[1:])
    pool = torch.rand(24, *shape, generator=g) * (0.3 + torch.arange(24).view(-1, *[1] * len(shape)) / 24)
    lit = torch.rand(6, *shape, generator=g)
    masks = torch.zeros(6, *shape[1:], dtype=torch.bool)
    masks[(slice(None), *(slice(s // 4, 3 * s // 4) for s in shape[1:]))] = True
    lit[masks[:, None].expand_as(lit)] += 1
    brought = Owned(cohort=Cohort(pool), concepts={"lit": Concept(lit, masks)})
    small = {
        "samples": 5,
        "runs": 4,
        "images": 6,
        "segments": 4,
        "groups": 3,
        "parts": 2,
        "designs": 4,
        "judged": 1,
        "steps": 2,
        "layers": 2,
    }
    options = {key: value for key, value in small.items() if key in parameters(insights[method])}
    wired = profile(model, x)
    if unmet_by(method, wired, brought):
        with pytest.raises(RequirementError):
            discover(model, x, method, owned=brought, **options)
        return
    with contextlib.suppress(TargetError) if method in ("ace", "d_tcav") else contextlib.nullcontext():
        form = discover(model, x, method, owned=brought, **options).form  # nothing may recur in noise
        assert torch.isfinite(form.scores).all()
        assert form.maps is None or tuple(form.maps.shape[1:]) == shape[1:]


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("tcav", {"direction": "svm"}, "logistic or pattern"),
        ("tcav", {"correction": "none"}, "bonferroni or bh"),
        ("rcv", {"direction": "svm"}, "pattern or regression"),
        ("post_hoc_cbm", {"direction": "svm"}, "logistic or pattern"),
        ("post_hoc_cbm", {"penalty": -1.0}, "at least 0"),
        ("craft", {"crop": 0.0}, "crop = 0.0"),
        ("craft", {"designs": 12}, "power of 2"),
        ("conceptshap", {"parts": 9}, "at most 8"),
        ("conceptshap", {"by": "taste"}, "score or answer"),
        ("crp", {"composite": "magic"}, "epsilon_plus"),
        ("crp", {"epsilon": 0.0}, "above 0"),
        ("network_dissection", {"share": 1.0}, "below 1"),
    ],
)
def test_bad_parameters_are_told(method, options, words):
    with pytest.raises(TargetError, match=words):
        found(method, **options)


def test_small_cohorts_and_unknown_layers_are_told():
    with pytest.raises(TargetError, match="the cohort has 6 images; tcav needs at least 20"):
        found("tcav", owned=Owned(cohort=Cohort(cohort().x[:6]), concepts=concepts()))
    with pytest.raises(ModelError, match="layers that do"):
        found("ice", layer="nowhere")


def test_patches_and_layers():
    pictures_ = torch.arange(2 * 64, dtype=torch.float32).view(2, 1, 8, 8)
    maps = torch.zeros(2, 4, 4)
    maps[0, 3, 3] = maps[1, 0, 0] = 1
    cuts = closest_patches(pictures_, maps, torch.tensor([1, 0]), 3, 0.5)
    assert torch.equal(cuts[0], pictures_[1][:, :4, :4])
    assert torch.equal(cuts[1], pictures_[0][:, 4:, 4:])
    assert torch.equal(cuts[2], cuts[0])
    places = profile(network(), case()[0]).places
    assert _spread_out(places, 3)[0] == places[-1]
    assert len({p.name for p in _spread_out(places, 3)}) == 3
    assert isinstance(marker(), Marker)
