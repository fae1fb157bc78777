"""Randomisation: what is randomised, how maps are compared, what must and must not notice."""

import copy

import pytest
import torch
from metric_toys import Net, gradients, images, run
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional as F

from runners.measures.randomisation import _groups, mprt
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
