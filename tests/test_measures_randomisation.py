"""Randomisation: what is randomised, how maps are compared, what must and must not notice."""

import copy

import numpy as np
import pytest
import torch
from metric_toys import SHAPES, Linear, Net, gradients, images, members, run
from scipy.stats import entropy, rankdata, spearmanr
from torch import nn
from torch.nn import functional as F
from toys import images as toy_images
from toys import make as toy

from runners import Contrast, Region, explain, measure, profile
from runners.measures.common import likeness, ranks
from runners.measures.randomisation import (
    _entropy,
    _groups,
    csc,
    data_randomisation,
    efficient_mprt,
    mprt,
    random_logit,
    smooth_mprt,
)
from runners.models import randomise, twin_of
from runners.registry import seeded
from runners.targets import resolve
from taxonomy.errors import ModelError, RequirementError


@pytest.mark.parametrize("cascading", [True, False])
def test_mprt_randomises_a_copy_from_the_output_down(cascading):
    model, x = Net(), images(2, 1, 10, 10)
    original, seen = copy.deepcopy(model.state_dict()), []

    def explain_again(x, model):
        seen.append({k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, original[k])})
        return gradients(model, x)

    values, told = gradients(model, x), []
    found = run(
        mprt, model, x, values, cascading=cascading, explain_again=explain_again, progress=lambda *d: told.append(d)
    )
    if cascading:
        assert seen == [{"head"}, {"head", "second"}, {"head", "second", "first"}]
    else:
        assert seen == [{"head"}, {"second"}, {"first"}]
    assert all(torch.equal(v, original[k]) for k, v in model.state_dict().items())
    assert told[-1] == (3, 3)
    assert found.curve.shape == (2, 4)
    assert (found.curve[:, 0] == 1).all()
    assert torch.allclose(found.score, found.curve[:, 1:].mean(1))
    assert "6 weight tensors in 3 groups" in found.notes[0]


@pytest.mark.parametrize("absolute", [True, False])
def test_mprt_compares_by_spearmans_rank_correlation(absolute):
    model, x = Net(1, 3), images(2, 1, 5, 4, 6)
    values, maps = gradients(model, x).relu(), []

    def explain_again(x, model):
        maps.append(gradients(model, x).relu() - 0.01)  # many ties
        return maps[-1]

    found = run(mprt, model, x, values, stages=2, absolute=absolute, explain_again=explain_again)
    for stage in range(2):
        for i in range(2):
            a, b = values[i].flatten(), maps[stage][i].flatten()
            r = spearmanr(a.abs() if absolute else a, b.abs() if absolute else b).statistic
            assert float(found.curve[i, stage + 1]) == pytest.approx(r, abs=1e-6)


def test_mprt_tells_an_explanation_of_the_model_from_one_of_the_image():
    model, x = Net(), images(3, 1, 14, 14)
    edges = (x - F.avg_pool2d(x, 3, 1, 1)).abs().sum(1)
    blind = run(mprt, model, x, edges, explain_again=lambda x, **_: (x - F.avg_pool2d(x, 3, 1, 1)).abs().sum(1))
    assert torch.allclose(blind.score, torch.ones(3))
    values = gradients(model, x)
    seeing = run(mprt, model, x, values)
    assert (seeing.curve[:, -1] < 0.5).all()
    assert (seeing.score < 0.7).all()
    signed = run(mprt, model, x, values, absolute=False)
    assert (signed.curve[:, -1].abs() < 0.5).all()


def test_mprt_of_constant_maps():
    x = images(2, 1, 8, 8)
    values = torch.rand(2, 8, 8)
    values[1] = 4
    found = run(mprt, Net(), x, values, explain_again=lambda *_, **__: torch.zeros(2, 8, 8))
    assert float(found.score[0]) == 0
    assert found.score[1].isnan()
    assert "image 2: not defined: the map is constant." in found.notes


def test_mprt_groups_every_weight_once_also_tied_and_uncalled_ones():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.randn(1, 1, 4))
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.out, self.tied, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(3, 3)
            self.tied.weight = self.out.weight

        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2) + self.token
            return self.tied(self.out(self.attention(tokens, tokens, tokens)[0].mean(1)))

    model = Odd()
    groups = _groups(model, torch.randn(1, 4, 3, 3), 99)
    flat = [id(p) for group in groups for p in group]
    assert sorted(flat) == sorted(map(id, model.parameters()))
    place = {id(p): i for i, group in enumerate(groups) for p in group}
    assert place[id(model.tied.bias)] < place[id(model.out.weight)] < place[id(model.attention.in_proj_weight)]
    assert place[id(model.attention.out_proj.weight)] < place[id(model.token)]
    assert [len(_groups(model, torch.randn(1, 4, 3, 3), n)) for n in (1, 2, 3)] == [1, 2, 3]


def test_mprt_says_when_there_is_nothing_to_randomise_or_to_copy():
    class Uncopied(Net):
        def __deepcopy__(self, memo):
            raise RuntimeError("only leaves can be copied")

    x = images(1, 1, 8, 8)
    with pytest.raises(RequirementError, match="shows none"):
        run(mprt, nn.Flatten(), x, x[:, 0])
    with pytest.raises(ModelError, match="only leaves can be copied"):
        run(mprt, Uncopied(), x, x[:, 0])


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
def test_mprt_reads_torchscript():
    model, x = Net(), images(1, 1, 8, 8)
    plain = nn.Sequential(model.first, nn.Tanh(), model.second, nn.AdaptiveMaxPool2d(1), nn.Flatten(), model.head)
    traced = torch.jit.trace(plain, x)
    before = copy.deepcopy(traced.state_dict())
    found = run(mprt, traced, x, gradients(traced, x))
    assert found.curve.shape == (1, 4)
    assert all(torch.equal(v, before[k]) for k, v in traced.state_dict().items())


def test_ranks_are_scipys_also_with_ties():
    rows = torch.cat(
        [images(2, 50).double(), torch.randint(0, 5, (2, 50), generator=seeded(1)).double(), torch.ones(1, 50)]
    )
    assert np.array_equal(ranks(rows).numpy(), rankdata(rows.numpy(), axis=1))
    assert np.array_equal(ranks(rows[2]).numpy(), rankdata(rows[2].numpy()))


# ---------------------------------------------------------------- smooth and efficient


@pytest.mark.parametrize("bottom_up", [True, False])
def test_smooth_mprt_averages_the_same_noise_and_goes_from_the_input_up(bottom_up):
    model, x = Net(), images(2, 1, 9, 9)
    original, seen = copy.deepcopy(model.state_dict()), []

    def explain_again(copies, model, *, score):
        changed = {k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, original[k])}
        maps = gradients(model, copies, score)
        seen.append((changed, copies, maps))
        return maps

    given = {"samples": 5, "noise": 0.2, "bottom_up": bottom_up, "explain_again": explain_again}
    found = run(smooth_mprt, model, x, gradients(model, x), batch_size=4, **given)
    stages = [seen[i : i + 3] for i in range(0, len(seen), 3)]  # 2, 2 and 1 copies of two images
    order = [{"first"}, {"first", "second"}, {"first", "second", "head"}]
    order = order if bottom_up else [{"head"}, {"head", "second"}, {"head", "second", "first"}]
    assert [stage[0][0] for stage in stages] == [set(), *order]
    copies = [torch.cat([one for _, one, _ in stage]).view(5, 2, 1, 9, 9) for stage in stages]
    assert all(torch.equal(copies[0], other) for other in copies)
    assert torch.equal(copies[0][0], x)
    noise = (copies[0][1:] - x) / (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).view(2, 1, 1, 1)
    assert float(noise.std()) == pytest.approx(0.2, rel=0.2)
    means = [torch.cat([maps for *_, maps in stage]).view(5, 2, -1).mean(0).abs() for stage in stages]
    for stage in range(3):
        for i in range(2):
            r = spearmanr(means[0][i], means[stage + 1][i]).statistic
            assert float(found.curve[i, stage + 1]) == pytest.approx(r, abs=1e-5)
    whole = run(smooth_mprt, model, x, gradients(model, x), batch_size=99, **given)
    assert torch.allclose(whole.curve, found.curve, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_entropy_of_a_map_is_that_of_numpys_histogram(shape):
    maps = images(shape[0], *shape[2:])
    for bins in (10, 100):
        expected = [entropy(np.histogram(one.double().numpy(), bins=bins)[0]) for one in maps]
        assert _entropy(maps, bins).tolist() == pytest.approx(expected, abs=1e-12)
    assert _entropy(torch.ones(1, 4, 4), 10).tolist() == [0]


@pytest.mark.filterwarnings("ignore")
def test_entropy_is_that_of_quantus():
    quantus = pytest.importorskip("quantus")
    maps = images(1, 9, 9)
    theirs = quantus.functions.complexity_func.discrete_entropy(a=maps[0].double().numpy(), x=maps.numpy(), n_bins=100)
    assert float(_entropy(maps, 100)) == pytest.approx(theirs, abs=1e-12)


def test_efficient_mprt_is_the_relative_rise_of_entropy():
    model, x = Net(), images(3, 1, 4, 4)
    values = torch.zeros(3, 4, 4)
    values[:2, 0] = 1  # a quarter and three quarters
    again = torch.arange(16.0).view(1, 4, 4).repeat(3, 1, 1)  # all bins alike
    found = run(efficient_mprt, model, x, values, bins=16, explain_again=lambda *_, **__: again)
    before = entropy([0.25, 0.75])
    assert found.score[:2].tolist() == pytest.approx([np.log(16) / before - 1] * 2)
    assert found.score[2].isnan()
    twin = twin_of(model)
    randomise(list(twin.parameters()), seeded(0))
    values = gradients(model, x)
    after = _entropy(gradients(twin, x), 100)
    expected = (after / _entropy(values, 100) - 1).float()
    assert torch.allclose(run(efficient_mprt, model, x, values).score, expected, atol=1e-5)
    with pytest.raises(RequirementError, match="shows none"):
        run(efficient_mprt, nn.Flatten(), x, x[:, 0])


# ---------------------------------------------------------------- another output, other labels


def test_random_logit_compares_with_another_output():
    model, x = Net(), images(2, 1, 9, 9)
    values = gradients(model, x)
    same = run(random_logit, model, x, values, explain_again=lambda *_, **__: values)
    assert same.score.tolist() == pytest.approx([1, 1])
    opposite = run(random_logit, model, x, x[:, 0], explain_again=lambda *_, **__: -x[:, 0])
    assert (opposite.score < 0).all()
    every = run(random_logit, model, x, values, samples=9)
    alike = [likeness(values, gradients(model, x, lambda out, _, k=k: out[:, k])) for k in range(1, 4)]
    assert torch.allclose(every.score, torch.stack(alike).mean(0).float(), atol=1e-6)
    assert "3 of 3 other outputs" in every.notes[0]
    with pytest.raises(RequirementError, match="the model has one output"):
        run(random_logit, model, x, values, others=())


@pytest.mark.parametrize("name", ["cnn2d", "unet2d", "unet3d", "tuple"])
def test_other_outputs_of_every_task(name):
    model, x = toy(name), toy_images(name)
    outputs = model(x)
    resolved = resolve(None, outputs, x)
    output = outputs[0] if isinstance(outputs, tuple) else outputs
    rows = torch.arange(len(x))
    labels = output.shape[1]
    assert len(resolved.others) == labels - 1
    for step, other in enumerate(resolved.others, 1):
        if name in ("cnn2d", "tuple"):
            chosen = (output.argmax(1) + step) % labels
            assert torch.equal(other(outputs, rows), output[rows, chosen])
        else:
            own = [(output[i].argmax(0) == k).sum() for i in rows for k in range(1, labels)]
            chosen = torch.stack(own).view(len(x), -1).argmax(1) + 1
            for i in rows:  # the places stay
                area = output[i].argmax(0) == chosen[i]
                expected = output[i, (chosen[i] + step) % labels][area].sum()
                assert torch.allclose(other(outputs, rows)[i], expected, rtol=1e-4)


def test_targets_without_another_output():
    one, x = toy("unet2d_one_logit"), toy_images("unet2d_one_logit")
    for model, target in (
        (one, None),
        (one, Region(1)),
        (toy("cnn2d_regression"), None),
        (toy("cnn2d"), Contrast(0, 1)),
    ):
        assert resolve(target, model(x), x).others == ()
        explanation = explain(model, x, "input_x_gradient", target)
        with pytest.raises(RequirementError, match="no label is explained"):
            measure("random_logit", model, x, explanation, target)
    model = toy("cnn2d")
    explanation = explain(model, x, "input_x_gradient", 2)
    found = measure("random_logit", model, x, explanation, 2, samples=9)
    alike = [likeness(explanation.values, explain(model, x, "input_x_gradient", k).values) for k in (0, 1)]
    assert torch.allclose(found.score, torch.stack(alike).mean(0).float(), atol=1e-5)


def test_data_randomisation_ranks_against_the_members():
    model, x = Net(), images(2, 1, 9, 9)
    values = gradients(model, x)
    assert run(data_randomisation, model, x, values, members=(model,)).score.tolist() == pytest.approx([1, 1])
    found = run(data_randomisation, model, x, values)
    expected = [
        np.mean(
            [spearmanr(values[i].flatten().abs(), gradients(m, x)[i].flatten().abs()).statistic for m in members(model)]
        )
        for i in range(2)
    ]
    assert found.score.tolist() == pytest.approx(expected, abs=1e-5)
    flat = run(data_randomisation, model, x, torch.ones_like(values))
    assert flat.score.isnan().all()
    with pytest.raises(RequirementError, match="give members="):
        measure("data_randomisation", toy("cnn2d"), toy_images("cnn2d"), None, 1)


# ---------------------------------------------------------------- cosine similarity convergence


class Collapsed(nn.Module):
    """Features that all see the image in the same way, or each in its own."""

    def __init__(self, collapsed: bool) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.after = nn.ReLU()
        self.head = nn.Linear(6, 3)
        self.collapsed = collapsed
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=seeded(2)))

    def forward(self, x):
        x = x.mean((2, 3), keepdim=True).expand_as(x) if self.collapsed else x
        return self.head(self.after(self.features(x)).flatten(2).mean(2))


def test_csc_is_one_where_the_layers_below_collapse():
    x = images(2, 1, 12, 12)

    def again(model):  # plain gradients: collapsed, they are the same everywhere, whatever is asked above
        def explain_again(copies, model=model, *, score):
            with torch.enable_grad():
                copies = copies.detach().requires_grad_()
                total = score(model(copies), torch.arange(len(copies))).sum()
                return torch.autograd.grad(total, copies)[0].sum(1)

        return explain_again

    one, many = Collapsed(True), Collapsed(False)
    alike = run(csc, one, x, x[:, 0], samples=6, explain_again=again(one))
    assert alike.score.tolist() == pytest.approx([1, 1], abs=1e-5)
    apart = run(csc, many, x, x[:, 0], samples=6, explain_again=again(many))
    assert (apart.score < 0.4).all()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in many.modules())
    chunks = run(csc, many, x, x[:, 0], samples=6, batch_size=4, explain_again=again(many))
    assert torch.allclose(chunks.score, apart.score, atol=1e-5)


def test_csc_against_the_jacobian():
    """Maps of random mixtures, from the Jacobian of the features, pair by pair."""
    model, x = Net(), images(1, 1, 5, 5)
    found = run(csc, model, x, x[:, 0], samples=3, layers=1)
    place = profile(model, x).place
    assert place.name == "second"
    jacobian = torch.autograd.functional.jacobian(lambda t: model.second(torch.tanh(model.first(t))).flatten(), x)[:, 0]
    mixtures = torch.randn(3, place.channels, *place.grid, generator=seeded(0)).flatten(1)
    maps = (mixtures @ jacobian.flatten(1)) * x.flatten()
    pairs = [abs(float(F.cosine_similarity(maps[a], maps[b], dim=0))) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert float(found.score) == pytest.approx(sorted(pairs)[1], abs=1e-5)
    deep = run(csc, model, x, x[:, 0], samples=3, layers=2)
    assert deep.curve.shape == (1, 2)


def test_csc_needs_features_and_a_method_that_asks_about_what_the_model_saw():
    model, x = Linear(1, 8, 8), images(1, 1, 8, 8)
    with pytest.raises(RequirementError, match="keeps the layout"):
        run(csc, model, x, x[:, 0])
    net = Net()

    def halves(copies, *, score, **_):
        return gradients(net, copies[:1], lambda out, _: score(out, torch.arange(2)))

    with pytest.raises(ModelError, match="what the model saw last"):
        run(csc, net, x, x[:, 0], explain_again=halves)


@pytest.mark.parametrize("name", ["unet2d", "unet3d", "vit_fused", "cnn3d"])
@pytest.mark.parametrize("metric", ["smooth_mprt", "efficient_mprt", "random_logit", "csc"])
def test_all_tasks_batch_is_single(metric, name):
    model, x = toy(name), toy_images(name)
    few = {"samples": 3, "stages": 2} if metric == "smooth_mprt" else {}
    whole = measure(metric, model, x, explain(model, x, "input_x_gradient"), **few)
    alone = measure(metric, model, x[1:], explain(model, x[1:], "input_x_gradient"), **few)
    assert torch.allclose(whole.score[1:], alone.score, rtol=1e-3, atol=2e-3)
