"""A tiny report writer, trained here: each of its sentences finds what it speaks of, one of nothing finds nothing."""

import json

import numpy as np
import pytest
import tiny_writer as tiny
import torch
from planted import network as planted_network
from torch import nn
from toys import Seeing, Telling, images, make
from typer.testing import CliRunner

import cli
from runners import Contrast, discover, explain, load_model, measure, unmet, unmet_by, with_report
from runners.models import profile
from runners.writing import Writer, Written, split, writes, written
from taxonomy.errors import ModelError, RequirementError, TargetError

pytest.importorskip("transformers")
MAPS = ("decoder_cross_attention", "decoder_generic_attention")


def report(seed=7, text=None, trained=True, **which):
    """Return a model with a report, the image, and the masks of square and stripe."""
    x, masks = tiny.scene(1, seed, **which)
    return with_report(tiny.writer(trained=trained), x, text), x, masks[:, 0]


def share(values, mask):
    """Share of a map's positive part inside a mask, as a multiple of the mask's share of the image."""
    positive = values.clamp(min=0)
    return float(positive[mask].sum() / positive.sum().clamp(min=1e-12) / mask.float().mean())


# --- sentences as outputs ---


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("No effusion. Heart enlarged.", ["No effusion.", "Heart enlarged."]),
        (" 1. No effusion.\n2. A 3.5 cm mass!  Why? ", ["1. No effusion.", "2. A 3.5 cm mass!", "Why?"]),
        ("one line\n\nanother", ["one line", "another"]),
        ("no end", ["no end"]),
        (" 12. ", []),
    ],
)
def test_a_text_is_cut_into_sentences(text, sentences):
    assert [text[a:b] for a, b in split(text)] == sentences


@pytest.mark.parametrize("family", ["encoder_decoder", "blip"])
def test_what_is_written_is_what_the_library_writes(family):
    import transformers

    kinds = {"encoder_decoder": "VisionEncoderDecoderModel", "blip": "BlipForConditionalGeneration"}
    trained = family == "encoder_decoder"
    whole = getattr(transformers, kinds[family]).from_pretrained(tiny.folder(family, trained)).eval()
    model = tiny.writer(family, trained)
    assert (model.card.task, model.card.size, model.card.channels) == ("regression", [32, 32], 3)
    assert model.card.normalise.mean == [0.5] * 3
    x, _ = tiny.scene(2, 3, square=True, stripe=False)
    for one in x:
        found = whole.generate(pixel_values=one[None], num_beams=1, do_sample=False, max_new_tokens=12)[0].tolist()[1:]
        ids = model.network.write(one[None])
        assert ids[:12] == (found[: found.index(2)] if 2 in found else found)[:12]
    given = with_report(model, x[:1], "square left. no stripe.")
    ids = torch.tensor([[1, 5, 6, 4, 9, 7, 4]])
    key = "input_ids" if family == "blip" else "decoder_input_ids"
    with torch.no_grad():
        likely = whole(pixel_values=x, **{key: ids.expand(2, -1)}).logits.log_softmax(-1)
        truth = torch.stack(
            [sum(likely[:, t - 1, ids[0, t]] for t in places) / 3 for places in (range(1, 4), range(4, 7))], 1
        )
        assert torch.allclose(given(x), truth, atol=1e-5)
        assert torch.allclose(given(x[1:]), truth[1:], atol=1e-5)


def test_the_writer_is_right_and_its_sentences_are_labels():
    model = tiny.writer()
    x, masks = tiny.scene(20, 99)
    assert [model.network.spell(model.network.write(one[None])) for one in x] == tiny.reports(masks)
    own, x, _ = report(square=True, stripe=True)
    assert own.card.labels == ["square left.", "stripe below.", "heart normal."]
    assert "own report" in own.notes[-1]
    assert written(own) is own.network
    assert not writes(own)
    twice = with_report(model, x, "heart normal. square left.\nheart normal.")
    assert twice.card.labels == ["heart normal. (1)", "square left.", "heart normal. (2)"]
    wired = profile(own, x)
    assert {"text_decoder", "attention_weights", "gradients", "spatial_features"} <= wired.has
    assert {"tokens", "embedding", "text_encoder"} <= set(wired.lacks)
    assert (wired.source.grid, wired.source.prefix, wired.task) == ((8, 8), 1, "regression")


def test_what_cannot_be_explained_is_told(tmp_path):
    model, x = tiny.writer(), tiny.scene(1, 1)[0]
    with pytest.raises(ModelError, match="with_report"):
        explain(model, x, "occlusion")
    with pytest.raises(ModelError, match="writes no text"):
        with_report(load_model(planted_network()), torch.rand(1, 1, 28, 28))
    with pytest.raises(TargetError, match="no sentence"):
        with_report(model, x, " ... ")
    with pytest.raises(TargetError, match="30 word pieces"):
        with_report(model, x, "square left. " * 10)
    still = Writer(nn.Identity(), lambda _ids, _: torch.eye(3)[[2]][None], start=[0], end=[2], spell=str, pieces=list)  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="writes nothing"):
        still.about(x)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "git", "architectures": ["GitForCausalLM"]}))
    with pytest.raises(ModelError, match="not read here"):
        load_model(tmp_path)


# --- maps ---


@pytest.mark.parametrize("method", [*MAPS, "integrated_gradients"])
def test_the_map_of_a_sentence_lies_on_what_it_speaks_of(method):
    found = []
    for seed in range(50, 56):
        own, x, masks = report(seed, square=True, stripe=True)
        for sentence in (0, 1):
            values = explain(own, x, method, sentence).values[0]
            found.append((share(values, masks[sentence]), share(values, masks[1 - sentence])))
    mean = np.mean(found, 0)
    assert mean[0] > 3
    assert mean[0] > 1.3 * mean[1]
    right = np.mean([a > b for a, b in found])
    assert right > (0.7 if method == "decoder_generic_attention" else 0.9)  # its gradients are small where all is sure


def test_a_sentence_that_is_always_the_same_has_no_evidence():
    own, x, _ = report(51, square=True, stripe=True)
    size = [float(explain(own, x, "integrated_gradients", s).values.abs().sum()) for s in range(3)]
    assert size[2] < 0.1 * min(size[:2])


def test_cross_attention_is_that_of_the_library():
    import transformers

    whole = transformers.VisionEncoderDecoderModel.from_pretrained(tiny.folder(), attn_implementation="eager").eval()
    own, x, _ = report(52, text="square left. stripe below.")
    with torch.no_grad():
        ids = torch.tensor([[1, 5, 6, 4, 7, 8]])
        across = whole(pixel_values=x, decoder_input_ids=ids, output_attentions=True).cross_attentions
    for layers, used in (("all", across), ("last", across[-1:])):
        row = torch.stack([one[0].mean(0)[3:6].mean(0) for one in used]).mean(0)[1:].view(1, 1, 8, 8)
        truth = nn.functional.interpolate(row, size=(32, 32), mode="bilinear")[0, 0]
        assert torch.allclose(explain(own, x, MAPS[0], 1, layers=layers).values[0], truth, atol=1e-5)
    with pytest.raises(TargetError, match="last or all"):
        explain(own, x, MAPS[0], 1, layers="first")
    rather = explain(own, x, MAPS[0], Contrast(1, 0), layers="last")
    alone = [explain(own, x, MAPS[0], s, layers="last").values for s in (0, 1)]
    assert rather.signed
    assert torch.allclose(rather.values, alone[1] - alone[0], atol=1e-5)


def _slow(model, x, sentence):
    """Generic attention of an encoder-decoder, written out with its rules, from the library's own attention."""
    import transformers

    whole = transformers.VisionEncoderDecoderModel.from_pretrained(tiny.folder(), attn_implementation="eager")
    whole = whole.eval().double()
    ids = model.network.ids[None, :-1]
    found = whole(pixel_values=x, decoder_input_ids=ids, output_attentions=True)
    likely = found.logits.log_softmax(-1)
    places = range(3 * sentence, 3 * sentence + 3)
    score = sum(likely[0, t, model.network.ids[t + 1]] for t in places) / 3
    every = [*found.encoder_attentions]
    for text, across in zip(found.decoder_attentions, found.cross_attentions, strict=True):
        every += [text, across]
    slopes = torch.autograd.grad(score, every)
    steps = [(a * g)[0].clamp(min=0).mean(0).detach().double().numpy() for a, g in zip(every, slopes, strict=True)]

    def even(mixed):
        rest = mixed - np.eye(len(mixed))
        sums = rest.sum(1, keepdims=True)
        return np.divide(rest, sums, out=np.zeros_like(rest), where=sums > 0) + np.eye(len(mixed))

    image, text = np.eye(65), np.eye(ids.shape[1])
    joint = np.zeros((ids.shape[1], 65))
    for number, step in enumerate(steps):
        if number < len(found.encoder_attentions):
            image = image + step @ image
        elif step.shape[1] == len(step):
            joint, text = joint + step @ joint, text + step @ text
        else:
            joint = joint + even(text).T @ step @ even(image)
    row = torch.tensor(joint[list(places)].mean(0)[1:]).view(1, 1, 8, 8).float()
    return nn.functional.interpolate(row, size=(32, 32), mode="bilinear")[0, 0]


@pytest.mark.parametrize("sentence", [0, 2])
def test_generic_attention_follows_its_rules(sentence):
    own, x, _ = report(53, square=True, stripe=True)
    own, x = own.double(), x.double()
    truth = _slow(own, x, sentence)
    found = explain(own, x, MAPS[1], sentence).values[0]
    assert torch.allclose(found, truth, rtol=1e-4, atol=1e-5 * float(truth.max()))


@pytest.mark.parametrize("method", MAPS)
def test_a_text_of_as_many_places_as_image_tokens_is_read_too(method):
    torch.manual_seed(0)
    eye, pen = Seeing().eval(), Telling(words=8).eval()
    ids = torch.randint(3, 8, (19,)).tolist()
    spans = [(1, 5), (5, 18)]
    x = images("vit_writer")
    even, more = (Written(eye, pen, one, spans, ["a", "b"]).eval() for one in (ids[:18], ids))  # 17 tokens, 17 places
    with torch.no_grad():
        assert torch.allclose(even(x), more(x), atol=1e-6)
    assert torch.allclose(*(explain(one, x, method, 1).values for one in (even, more)), atol=1e-6)


def test_maps_of_a_text_ask_for_a_writer():
    wired = profile(planted_network(), torch.rand(1, 1, 28, 28))
    for method in MAPS:
        assert "text_decoder" in [gap.need for gap in unmet(method, wired)]
    assert "text_decoder" in [gap.need for gap in unmet_by("report_generation", wired)]
    with pytest.raises(RequirementError, match="writes text"):
        discover(make("cnn2d"), images("cnn2d", 1), "report_generation")


def test_a_sentence_is_measured_like_any_output():
    own, x, _ = report(54, square=True, stripe=True)
    good = explain(own, x, "integrated_gradients", 0)
    score = measure("deletion", own, x, good, 0).score
    bad = measure("deletion", own, x, explain(own, x, "integrated_gradients", 2), 0).score
    assert score < bad


# --- sentence to region ---


def test_every_sentence_finds_its_region():
    for seed in (7, 8, 9):
        own, x, masks = report(seed, square=True, stripe=True)
        form = discover(own, x, "report_generation").form
        assert form.sentences == ("square left.", "stripe below.", "heart normal.")
        assert form.holds == (True, True, False)
        assert not form.maps[2].any()
        assert form.drops[2].isnan()
        for region, mask, other in zip(form.maps[:2], masks, masks.flip(0), strict=True):
            assert float((region & mask).sum() / mask.sum()) > 0.7
            assert float(region.float().mean()) < 0.25
            assert not (region & other).any()
        assert torch.allclose(form.values, own(x)[0].exp(), atol=1e-5)
        assert form.measures == {"sentences with a region": 2, "sentences": 3}
        again = discover(own, x, "report_generation").form
        assert torch.equal(again.maps, form.maps)


def test_what_is_absent_or_not_looked_at_has_no_region():
    own, x, _ = report(12, square=False, stripe=False)
    form = discover(own, x, "report_generation").form
    assert form.sentences[:2] == ("no square.", "no stripe.")
    assert not any(form.holds)
    blind, x, _ = report(8, "square left. stripe below.", trained=False, square=True, stripe=True)
    form = discover(blind, x, "report_generation").form
    assert not any(form.holds)
    assert not form.maps.any()
    with pytest.raises(TargetError, match="window"):
        discover(blind, x, "report_generation", window=0.0)


def test_a_wrong_sentence_is_unlikely():
    own, x, _ = report(8, "no square. stripe below.", square=True, stripe=True)
    form = discover(own, x, "report_generation").form
    assert form.holds == (False, True)
    assert float(form.values[0]) < 0.5 < float(form.values[1])


def test_the_command_line_explains_a_report(tmp_path):
    from PIL import Image

    x, _ = tiny.scene(1, 9, square=True, stripe=True)
    Image.fromarray(((x[0, 0] + 2) / 4).clamp(0, 1).mul(255).byte().numpy()).save(tmp_path / "one.png")
    given = ["explain", str(tmp_path / "one.png"), "--model", str(tiny.folder())]
    done = CliRunner().invoke(cli.app, [*given, "--target", "stripe below.", "--method", MAPS[0]])
    assert done.exit_code == 0, done.output
    assert "explains output 1 (stripe below.)" in done.output
    (tmp_path / "report.txt").write_text("no square. stripe below.")
    for text in (str(tmp_path / "report.txt"), "no square. stripe below.", "no square. " + "stripe below. " * 5):
        done = CliRunner().invoke(cli.app, [*given, "--method", "report_generation", "--report", text])
        assert done.exit_code == 0, done.output
        assert "rests on no region" in done.output
    (tmp_path / "report.txt").write_bytes(b"\xff\xfe\x00")
    done = CliRunner().invoke(cli.app, [*given, "--report", str(tmp_path / "report.txt")])
    assert "UTF-8" in done.output
    done = CliRunner().invoke(
        cli.app, ["explain", str(tmp_path / "one.png"), "--model", "chest_xray_cnn", "--report", "a"]
    )
    assert "writes no text" in done.output
