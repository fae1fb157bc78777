"""The sanity laboratory: known facts, tests whose outcome is known beforehand, and what is said when there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from PIL import Image as Pillow
from test_report import Page
from torch import Tensor, nn

from runners import Image, load_model, sanity
from runners.case import Result, Subject, subject
from runners.gate import explain
from runners.load import Model, ModelCard
from runners.regions import PLACEMENTS, placements
from runners.registry import seeded
from runners.sanity import (
    Labelled,
    Sanity,
    absorbing,
    examine,
    markers,
    read_labelled,
    top_region,
)
from runners.verdict import page
from runners.zoo.samples import samples
from taxonomy import KB, AtlasError, load_kb


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


def picture(side: int = 32, seed: int = 0) -> Image:
    values = torch.rand(1, side, side, generator=torch.Generator().manual_seed(seed))
    return Image(values, (0.0, 1.0), f"{seed}" * 64, "PNG")


def wrapped(network: nn.Module, labels: int = 2) -> Model:
    names = [f"label {one}" for one in range(labels)]
    card = ModelCard(id="toy", name="Toy", task="classification", labels=names, normalise={"scale": "none"})
    return Model(network.eval(), card)


class Weighted(nn.Module):
    """Two logits: plus and minus the sum of the image times fixed weights."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        total = (x[:, 0] * self.weights).flatten(1).sum(1)
        return torch.stack([total, -total], 1)


def block(side: int, rows: slice, columns: slice) -> Tensor:
    weights = torch.zeros(side, side)
    weights[rows, columns] = 1.0
    return weights


def lab(model: Model, kb: KB, *methods: str, one: Subject | None = None, **more: Any) -> sanity._Lab:
    """A laboratory with its maps, before any test."""
    clock = sanity.Clock(600, None)
    made = sanity._Lab(model, one or subject(picture(), model), methods, kb, None, 0, {}, clock, None)
    for name, value in more.items():
        setattr(made, name, value)
    for method in methods:
        made.results[method] = Result(method, explain(model, made.x, method))
    return made


def claimed(made: sanity._Lab, method: str, values: Tensor) -> None:
    """Put another map in the place of a method's."""
    from dataclasses import replace

    found = made.results[method].explanation
    assert found is not None
    made.results[method] = Result(method, replace(found, values=values[None]))


# --- known facts ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chest(kb: KB) -> Sanity:
    model = load_model("chest_xray_cnn")
    image = next(one for one in samples() if one.id == "chest_radiograph").load()
    methods = ["guided_backprop", "vanilla_gradient", "grad_cam"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    *_, last = examine(model, subject(image, model, source="chest_radiograph"), methods, kb, budget=300)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return last


def test_guided_backpropagation_fails_under_random_weights_and_gradient_and_grad_cam_do_not(chest: Sanity) -> None:
    verdicts = {one: chest.of(one, "cascade").verdict for one in chest.methods}  # type: ignore[union-attr]
    assert verdicts == {"guided_backprop": "fails", "vanilla_gradient": "passes", "grad_cam": "passes"}
    verdict, text = chest.overall("guided_backprop")
    assert verdict == "fails"
    assert "depends on the image more than on what the model knows" in text


def test_every_test_of_every_method_has_a_verdict_and_a_sentence(chest: Sanity, kb: KB) -> None:
    assert chest.ended is None
    assert chest.planned == ("cascade", "labels", "shift", "shortcut", "deletion", "agreement")
    for test in chest.planned:
        for method in [None] if test == "agreement" else chest.methods:
            found = chest.of(method, test)
            assert found is not None
            assert found.why.endswith(".")
            assert found.why[0].isupper()
    for about in sanity.QUESTIONS.values():
        assert set(about.sources) <= set(kb.publications)
        assert about.metric is None or about.metric in kb.metrics


def test_the_json_can_be_written_and_the_page_says_it_all(chest: Sanity) -> None:
    data = json.loads(json.dumps(chest.as_json(), allow_nan=False))
    assert {one["test"] for one in data["findings"]} == set(chest.planned)
    read = Page(page(chest))
    for one in chest.findings:
        assert " ".join(one.why.split()) in read.text
    assert "Sanity Checks for Saliency Maps" in read.text
    told = sanity.QUESTIONS["cascade"].trusted(chest.kb)
    assert re.search(r", trust \d\.\d\d: orders", told)
    assert told in read.text
    assert data["tests"]["cascade"]["trust"] == told
    assert not data["tests"]["deletion"]["trust"]
    assert all(str(value).startswith("data:") for tag, found in read.tags if tag == "img" for value in [found["src"]])


# --- the shift --------------------------------------------------------------------------------------------------------


class First(nn.Module):
    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x).relu().flatten(1)[:, :5]


@pytest.mark.parametrize(
    "first",
    [
        lambda: nn.Conv2d(1, 4, 3, padding=1),
        lambda: nn.Conv2d(1, 4, (3, 5), padding=(1, 2), bias=False),
        lambda: nn.Conv2d(1, 4, 4, padding="same", dilation=2),
        lambda: nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
        lambda: nn.Conv2d(1, 4, 5, stride=2, padding="valid"),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 8)),
    ],
)
def test_a_first_layer_takes_the_shift_off_borders_included(first: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = First(first()).eval(), torch.randn(1, 1, 12, 12)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin, _ = absorbing(model, x, 3.0)
    torch.testing.assert_close(twin(x + 3.0), model(x), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(model(x + 3.0), model(x))
    assert set(model.state_dict()) == set(before)


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv(x).relu() * x).mean((2, 3))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((x - x.mean()) / x.std()).relu().mean((2, 3))


@pytest.mark.parametrize(("network", "words"), [(Skip, "in another way too"), (Scaled, "scales or cuts it first")])
def test_a_model_that_no_bias_can_shield_cannot_be_judged(network: type[nn.Module], words: str, kb: KB) -> None:
    torch.manual_seed(0)
    *_, last = examine(wrapped(network()), subject(picture(), wrapped(network())), ["vanilla_gradient"], kb)
    found = last.of("vanilla_gradient", "shift")
    assert found is not None
    assert found.verdict == "cannot say"
    assert words in found.why


def test_the_gradient_survives_the_shift_and_input_times_gradient_does_not(kb: KB) -> None:
    model = wrapped(toys.make("cnn2d"), 3)
    made = lab(model, kb, "vanilla_gradient", "input_x_gradient")
    assert made.shift("vanilla_gradient").verdict == "passes"
    assert made.shift("input_x_gradient").verdict == "fails"


# --- the marker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32, 40), (12, 16, 20)])
def test_markers_change_only_their_place_and_keep_off_the_finding(shape: tuple[int, ...]) -> None:
    x = torch.randn(1, 2, *shape)
    found = markers(x)
    assert len(found) == 2 ** len(shape) + 2 * (len(shape) == 2)
    for _, inside, marked in found:
        assert 0 < int(inside.sum()) < 0.1 * inside.numel()
        assert torch.equal(marked[:, :, ~inside], x[:, :, ~inside])
        assert not torch.equal(marked[:, :, inside], x[:, :, inside])
        assert marked.amax() <= x.amax()
    corner = torch.zeros(shape, dtype=torch.bool)
    corner[tuple(slice(side // 2) for side in shape)] = True
    clear = markers(x, corner)
    assert 0 < len(clear) < len(found)
    assert all(int((inside & corner).sum()) <= 0.1 * int(inside.sum()) for _, inside, _ in clear)


def test_a_map_must_show_a_mark_that_moves_the_score_and_no_other(kb: KB) -> None:
    reacting = lab(wrapped(Weighted(torch.full((32, 32), 0.01) + block(32, slice(0, 5), slice(0, 5)))), kb, "occlusion")
    ignoring = lab(wrapped(Weighted(block(32, slice(12, 20), slice(12, 20)))), kb, "occlusion")
    for made, on_it, off_it in ((reacting, "passes", "fails"), (ignoring, "fails", "passes")):
        for where, verdict in ((made.marker[1], on_it), (~made.marker[1], off_it)):
            claimed(made, "occlusion", where.float())
            explanation = made.results["occlusion"].explanation
            made.again = lambda *_, found=explanation: found  # type: ignore[method-assign]
            found = made.shortcut("occlusion")
            assert found.verdict == verdict, found.why
            assert found.picture is not None


# --- hiding -----------------------------------------------------------------------------------------------------------


def test_what_the_model_uses_is_missed_and_what_it_does_not_use_is_not(kb: KB) -> None:
    image = picture()
    image.values[:, 8:16, 8:16] += 2
    model = wrapped(Weighted(block(32, slice(8, 16), slice(8, 16))))
    made = lab(model, kb, "occlusion", one=subject(image, model))
    claimed(made, "occlusion", block(32, slice(7, 17), slice(7, 17)))
    found = made.deletion("occlusion")
    assert found.verdict == "passes", found.why
    assert found.numbers["p"] == pytest.approx(1 / 31)
    claimed(made, "occlusion", block(32, slice(20, 30), slice(20, 30)))
    assert made.deletion("occlusion").verdict == "fails"
    nothing = lab(wrapped(Weighted(torch.full((32, 32), 1e-9))), kb, "occlusion", swing=1.0)
    claimed(nothing, "occlusion", block(32, slice(7, 17), slice(7, 17)))
    assert nothing.deletion("occlusion").verdict == "cannot say"


def test_a_map_on_the_finding_is_right_only_if_the_model_uses_the_finding(kb: KB) -> None:
    image = picture()
    image.values[:, 8:16, 8:16] += 2
    finding = block(32, slice(8, 16), slice(8, 16)) > 0
    elsewhere = block(32, slice(20, 28), slice(20, 28))
    for weights, on_it, off_it in ((finding.float(), "passes", "fails"), (elsewhere, "fails", "passes")):
        model = wrapped(Weighted(weights))
        made = lab(model, kb, "occlusion", one=subject(image, model, mask=finding))
        for where, verdict in ((finding.float(), on_it), (elsewhere, off_it)):
            claimed(made, "occlusion", where)
            found = made.finding("occlusion")
            assert found.verdict == verdict, found.why


def test_random_places_have_the_shape_and_hide_as_much_of_the_body() -> None:
    inside = block(32, slice(10, 14), slice(10, 20)) > 0
    body = torch.zeros(32, 32, dtype=torch.bool)
    body[:, 4:28] = True
    found, notes = placements(inside, body, seeded(0))
    assert found.shape == (PLACEMENTS, 32, 32)
    assert not notes
    assert all(int(one.sum()) == 40 for one in found)
    assert all(int((one & body).sum()) >= 36 for one in found)
    assert all(int((one & inside).sum()) <= 12 for one in found)
    assert torch.equal(found, placements(inside, body, seeded(0))[0])
    _, notes = placements(inside, inside, seeded(0))
    assert "hide less of the body" in notes[0]


def test_the_marked_place_is_a_tenth_of_the_image_around_the_largest_values() -> None:
    inside = top_region(block(40, slice(10, 20), slice(10, 20)), seeded(0))
    assert int(inside.sum()) == 160
    assert bool(inside[11:19, 11:19].all())


# --- random labels ----------------------------------------------------------------------------------------------------


class Bright(nn.Module):
    """Tells bright left halves from bright right halves."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.adaptive_avg_pool2d(self.conv(x).relu(), 4).flatten(1))


@pytest.fixture(scope="module")
def taught() -> tuple[Model, Labelled]:
    generator = seeded(0)
    x, labels = torch.rand(64, 1, 16, 16, generator=generator), torch.arange(64) % 2
    for row, label in enumerate(labels.tolist()):
        x[row, :, :, 8 * label : 8 * label + 8] += 1
    torch.manual_seed(0)
    network = Bright()
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimiser.step()
    return wrapped(network), Labelled(x, labels)


def test_nonsense_is_learned_by_a_copy_and_told(
    taught: tuple[Model, Labelled], kb: KB, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = taught
    monkeypatch.setattr(sanity, "RATE", 1e-2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = lab(model, kb, "vanilla_gradient", one=subject(picture(16), model), training=data)
    nonsense, right = made.pupils
    assert nonsense.forgot
    assert nonsense.curve[0] == 1.0
    assert right.curve[-1] > 0.9
    assert right.steps == nonsense.steps
    found = made.labels("vanilla_gradient")
    assert set(found.curves) == {"random labels", "right labels"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [one.requires_grad for one in model.parameters()] == [True] * 4
    first = made.results["vanilla_gradient"].explanation
    made.again = lambda *_, **__: first  # type: ignore[method-assign, assignment, return-value]
    assert made.labels("vanilla_gradient").verdict == "fails", "a map that stays has not noticed"


def test_a_copy_that_did_not_unlearn_gives_no_verdict(
    taught: tuple[Model, Labelled], kb: KB, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = taught
    monkeypatch.setattr(sanity, "STEPS", 1)
    made = lab(model, kb, "vanilla_gradient", one=subject(picture(16), model), training=data)
    found = made.labels("vanilla_gradient")
    assert found.verdict == "cannot say"
    assert "did not unlearn" in found.why


def files(folder: Path, names: tuple[str, ...]) -> Path:
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for one in range(3):
            Pillow.fromarray(np.full((8, 8), 20 * number + one, np.uint8)).save(folder / name / f"{one}.png")
    return folder


def test_labels_are_read_by_name_by_order_and_from_a_list(tmp_path: Path) -> None:
    card = ModelCard(id="toy", name="Toy", labels=["well", "ill"], normalise={"scale": "none"})
    model = Model(nn.Identity(), card)
    named = read_labelled(files(tmp_path / "a", ("ILL", "Well")), model)
    assert named.x.shape == (6, 1, 8, 8)
    assert sorted(zip(named.x.amax((1, 2, 3)).tolist(), named.labels.tolist(), strict=True))[0] == (0.0, 1)
    ordered = read_labelled(files(tmp_path / "b", ("first", "second")), model)
    assert "alphabetic" in ordered.notes[0]
    (tmp_path / "b" / "labels.csv").write_text("file,label\nfirst/0.png,ill\nsecond/0.png,well\n", encoding="utf-8")
    assert read_labelled(tmp_path / "b", model).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("names", "words"), [((), "no folders"), (("well",), "at least two"), (("well", "odd"), "odd")]
)
def test_bad_training_data_is_a_sentence(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    model = Model(nn.Identity(), ModelCard(id="toy", name="Toy", labels=["well", "ill"]))
    with pytest.raises(AtlasError, match=words):
        read_labelled(files(tmp_path, names), model)
    with pytest.raises(AtlasError, match="is no folder"):
        read_labelled(tmp_path / "nowhere", model)


# --- the whole --------------------------------------------------------------------------------------------------------


def test_methods_that_agree_and_that_do_not(kb: KB) -> None:
    made = lab(wrapped(toys.make("cnn2d"), 3), kb, "occlusion", "grad_cam")
    at = torch.arange(32.0)
    for second, verdict in ((6, "passes"), (26, "fails")):
        for method, centre in (("occlusion", 6), ("grad_cam", second)):
            claimed(made, method, torch.exp(-((at[:, None] - centre).abs() + (at - centre).abs()) / 10))
        found = made.agreement()
        assert found.verdict == verdict, found.why


def test_who_stops_it_keeps_what_is_done_and_every_test_has_its_sentence(kb: KB) -> None:
    model = wrapped(toys.make("cnn2d"), 3)
    states: list[Sanity] = []
    methods = ["vanilla_gradient", "grad_cam"]
    for state in examine(model, subject(picture(), model), methods, kb, stop=lambda: len(states) > 4):
        states.append(state)
    last = states[-1]
    assert last.ended == "you stopped it"
    assert len(last.methods) == 2
    assert all(last.of(one, test) for one in last.methods for test in last.planned if test != "agreement")
    assert any("you stopped it" in one.why for one in last.findings)
    assert [len(one.findings) for one in states] == sorted(len(one.findings) for one in states)


def test_an_interrupt_leaves_no_test_without_a_sentence(kb: KB) -> None:
    model = wrapped(toys.make("cnn2d"), 3)

    def progress(words: str, done: int, _total: int) -> None:
        if words == sanity.QUESTIONS["deletion"].name and done:
            raise KeyboardInterrupt

    *_, last = examine(model, subject(picture(), model), ["vanilla_gradient"], kb, progress=progress)
    assert last.ended == "you stopped it"
    found = last.of("vanilla_gradient", "cascade")
    assert found is not None
    assert "was not reached: you stopped it" in found.why


def test_too_little_time_is_told(kb: KB) -> None:
    model = wrapped(toys.make("cnn2d"), 3)
    *_, last = examine(model, subject(picture(), model), ["occlusion"], kb, budget=1e-6)
    assert last.ended == "not all fitted into the budget of 1e-06 s"
    assert last.methods == ()
    with pytest.raises(AtlasError, match="above 0"):
        list(examine(model, subject(picture(), model), ["occlusion"], kb, budget=0))
    with pytest.raises(AtlasError, match="no method"):
        list(examine(model, subject(picture(), model), [], kb))


def test_the_same_seed_gives_the_same_numbers(kb: KB) -> None:
    model = wrapped(toys.make("cnn2d"), 3)
    runs = [list(examine(model, subject(picture(), model), ["smoothgrad"], kb, budget=300))[-1] for _ in range(2)]
    assert [one.as_json() for one in runs[0].findings] == [one.as_json() for one in runs[1].findings]


@pytest.mark.parametrize("name", ["cnn3d", "unet2d", "vit_fused", "cnn2d_regression"])
def test_volumes_segmenters_transformers_and_regressions_are_tested_too(name: str, kb: KB) -> None:
    toy, x = toys.TOYS[name], toys.images(name, 1)
    card = ModelCard(id="toy", name="Toy", dims=x.ndim - 2, task=toy.task, normalise={"scale": "none"})
    model = Model(toys.make(name), card)
    image = Image(x[0], (float(x.min()), float(x.max())), "0" * 64, "PNG")
    *_, last = examine(model, subject(image, model), ["vanilla_gradient"], kb, budget=300)
    assert last.ended is None
    for test in ("cascade", "shift", "shortcut", "deletion"):
        found = last.of("vanilla_gradient", test)
        assert found is not None
        assert found.numbers, found.why
    page(last)
