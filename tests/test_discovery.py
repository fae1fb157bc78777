"""The gate of insights: what is checked, what is asked for, what is left behind; forms survive being taken apart."""

import copy
import inspect
import json

import pytest
import torch
from metric_toys import Net, images

from runners import Cohort, Concept, Owned, discover, discoverable, insights, unmet_by
from runners.forms import FORMS, Cases, Concepts, Contributions, Counterfactual, checked, name_of, packed, unpacked
from runners.models import profile
from runners.owned import ASKED
from runners.registry import INJECTED, Told, injected, parameters
from taxonomy import load_kb
from taxonomy.errors import ImageError, ModelError, RequirementError, TargetError, UnknownIdError


def nearest(model, x, score, *, count: int = 2, cohort, generator):
    """Return the cases by a draw.

    Args:
        count: how many.
    """
    score(model(x), torch.zeros(len(x), dtype=torch.long))
    order = torch.randperm(len(cohort), generator=generator)[:count]
    form = Cases(order, torch.rand(len(order), generator=generator).double(), "a draw", ("most alike",) * len(order))
    return Told(form, ("a note",), ("a caution",))


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(insights, "knn_retrieval", nearest)
    return "knn_retrieval"


def owned(**more):
    return Owned(cohort=Cohort(images(5, 1, 9, 9), **more))


def test_an_insight_says_what_was_done_and_leaves_the_model_as_it_was(toy):
    model, x = Net(), images(1, 1, 9, 9)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = discover(model, x, toy, 2, owned=owned(), count=3)
    assert found.form.scores.dtype == torch.float32
    assert len(found.form.index) == 3
    assert found.parameters == {"count": 3}
    assert found.passes["forward"] == 1
    assert found.target_score == pytest.approx(float(model(x)[0, 2]))
    assert found.notes[-1] == "a note"
    assert found.cautions[-1] == "a caution"
    again, other = (discover(model, x, toy, owned=owned(), count=3, seed=seed).form for seed in (0, 1))
    assert torch.equal(again.scores, found.form.scores)
    assert not torch.equal(other.scores, found.form.scores)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_what_is_missing_is_asked_for_in_one_sentence(toy):
    x = images(1, 1, 9, 9)
    with pytest.raises(RequirementError, match=r"give a folder of images like those the model learned from"):
        discover(Net(), x, toy)
    wired = profile(Net(), x)
    assert [gap.need for gap in unmet_by(toy, wired)] == ["training_data"]
    assert unmet_by(toy, wired, owned()) == []


@pytest.mark.parametrize(
    ("brought", "error", "words"),
    [
        (Owned(cohort=Cohort(images(5, 2, 9, 9))), ImageError, r"5 images of shape \(2, 9, 9\); \(n, 1, H, W\)"),
        (Owned(cohort=Cohort(images(5, 1, 9, 9) * torch.nan)), ImageError, "NaN"),
        (owned(labels=torch.zeros(4)), TargetError, "5 images and 4 labels"),
        (owned(features=torch.zeros(5, 2), feature_names=("age",)), TargetError, "1 names"),
        (Owned(concepts={"spicules": Concept(images(2, 2, 8, 9))}), ImageError, "'spicules'"),
        (Owned(mask=torch.zeros(9, 9, dtype=torch.bool)), TargetError, "something marked"),
    ],
)
def test_what_is_brought_must_fit(toy, brought, error, words):
    with pytest.raises(error, match=words):
        discover(Net(), images(1, 1, 9, 9), toy, owned=brought)


def test_bad_calls_are_told(toy, monkeypatch):
    x = images(1, 1, 9, 9)
    with pytest.raises(UnknownIdError, match="insight"):
        discover(Net(), x, "no_such_method")
    with pytest.raises(ImageError, match="2 images"):
        discover(Net(), images(2, 1, 9, 9), toy, owned=owned())
    with pytest.raises(TargetError, match="no parameter 'k'"):
        discover(Net(), x, toy, owned=owned(), k=3)
    monkeypatch.setitem(insights, toy, lambda *_, cohort: Cases(torch.arange(2), torch.ones(3), "x", ("a", "b")))  # noqa: ARG005
    with pytest.raises(ModelError, match="its parts differ in number"):
        discover(Net(), x, toy, owned=owned())
    monkeypatch.setitem(insights, toy, lambda *_, cohort: Concepts(("a",), torch.tensor([torch.nan]), "x"))  # noqa: ARG005
    with pytest.raises(ModelError, match="scores holds NaN"):
        discover(Net(), x, toy, owned=owned())


@pytest.mark.parametrize(
    "form",
    [
        Concepts(
            ("a", "b"), torch.tensor([0.1, 0.2]), "x", p_values=torch.tensor([0.5, torch.nan]), measures={"f": 1.0}
        ),
        Cases(torch.tensor([3, 1]), torch.rand(2), "likeness", ("most alike",) * 2, labels=("sick", "well")),
        Counterfactual(torch.rand(3, 1, 4, 4), torch.rand(3), 0, 2, torch.rand(1, 4, 4), {"cf_validity": 1.0}),
        Contributions(("T1", "T2"), torch.tensor([1.0, -1.0]), "added to the score"),
    ],
)
def test_forms_survive_being_taken_apart(form):
    checked(form)
    facts, arrays = packed(form)
    back = unpacked(name_of(form), json.loads(json.dumps(facts, allow_nan=False)), arrays)
    assert type(back) is type(form)
    again, tensors = packed(back)
    assert again == facts
    assert all(torch.equal(tensors[key], value) or value.isnan().any() for key, value in arrays.items())
    assert set(FORMS) == {one.__name__.lower() for one in FORMS.values()}


@pytest.mark.parametrize("method", discoverable())
def test_signature_is_what_the_gate_reads_and_the_knowledge_base_says(method):
    function, needs = insights[method], load_kb().methods[method].requires.needs
    assert not set(INJECTED) & set(parameters(function))
    assert all(f"{name}:" in inspect.getdoc(function) for name in parameters(function))
    asked = {name for need in needs if need in ASKED for name in [ASKED[need][0]]}
    assert asked <= set(injected(function)), "the knowledge base asks for what the insight does not use"


def test_the_registry_is_what_the_decorators_say():
    assert set(discoverable()) == set(insights)
    assert not set(insights) & set(__import__("runners").explainers)
