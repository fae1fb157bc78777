"""A tiny vision-language model that was trained here: its words find what they name, and nothing where it is not."""

import sys
import types

import pytest
import tiny_clip as tiny
import torch
from planted import network as planted_network
from torch import nn
from typer.testing import CliRunner

import cli
from runners import (
    Cohort,
    Owned,
    Reason,
    check_rationale,
    discover,
    explain,
    load_image,
    load_model,
    load_towers,
    unmet,
)
from runners.beyond.worded import likeness
from runners.bring import language_for, read_reasons
from runners.case import open_case
from runners.joint import Prompted, prompted
from runners.models import profile
from runners.zoo.samples import samples
from taxonomy.errors import AtlasError, ImageError, ModelError, RequirementError, TargetError

pytest.importorskip("transformers")
MAPS = ("gscorecam", "grad_eclip", "m2ib", "clip_surgery")


def language(*prompts, trained=True, model=None):
    return language_for(tiny.towers(trained), prompts, model or tiny.classifier(trained=trained))


def share(values, mask):
    """Share of a map's positive part inside a mask, as a multiple of the mask's share of the image."""
    positive = values.clamp(min=0)
    return float(positive[mask].sum() / positive.sum().clamp(min=1e-12) / mask.float().mean())


# --- reading ---


def test_prompts_make_a_classifier_that_is_right():
    model = tiny.classifier()
    assert model.card.labels == list(tiny.PROMPTS)
    assert model.card.task == "classification"
    x, masks = tiny.scene(100, 9)
    has = masks.flatten(2).any(2)
    with torch.no_grad():
        answer = model(x).argmax(1)
    truth = torch.where(has[0], 0, torch.where(has[1], 1, 2))
    single = ~has.all(0)
    assert (answer == truth)[single].float().mean() > 0.95
    wired = profile(model, x[:1])
    assert {"text_encoder", "tokens", "embedding", "gradients"} <= wired.has
    assert "text_encoder" in profile(planted_network(), torch.rand(1, 1, 28, 28)).lacks
    assert prompted(model) is model.network


def test_towers_are_those_of_the_library():
    from transformers import AutoTokenizer, CLIPModel

    place = tiny.folder()
    whole, tokens = CLIPModel.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)
    x, _ = tiny.scene(3, 1)
    with torch.no_grad():
        truth = whole(pixel_values=x, **tokens(list(tiny.PROMPTS), padding=True, return_tensors="pt")).logits_per_image
        assert torch.allclose(tiny.classifier()(x), truth, atol=1e-4)


def test_what_cannot_be_read_is_told(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="answers to texts only"):
        load_model(tiny.folder())
    with pytest.raises(ModelError, match="two different prompts"):
        tiny.classifier(("disc", "disc"))
    with pytest.raises(ModelError, match="There is no folder"):
        load_towers(tmp_path / "none")
    with pytest.raises(ModelError, match="no vision-language model"):
        load_towers(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="no image and text tower"):
        load_towers(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModelError, match=r"xai-atlas\[open_clip\]"):
        load_towers(tmp_path)


def test_open_clip_is_read_as_its_interface_says(tmp_path, monkeypatch):
    (tmp_path / "open_clip_config.json").write_text("{}")

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 4))
            self.visual.preprocess_cfg = {"size": (4, 4), "mean": (0.5,) * 3, "std": (0.5,) * 3}
            self.logit_scale = nn.Parameter(torch.tensor(2.0))

        def encode_text(self, tokens):
            return tokens

    asked = []
    fake = types.ModuleType("open_clip")
    fake.create_model = lambda name, **more: asked.append((name, more)) or Whole()
    fake.get_tokenizer = lambda name: lambda words: torch.tensor([[len(w), 1.0, 0.0, 0.0] for w in words])  # noqa: ARG005
    monkeypatch.setitem(sys.modules, "open_clip", fake)
    towers = load_towers(tmp_path)
    assert asked == [(f"local-dir:{tmp_path}", {"weights_only": True})]
    assert towers.card.size == [4, 4]
    assert towers.card.normalise.mean == [0.5] * 3
    assert towers.scale == pytest.approx(7.389, abs=1e-3)
    model = load_model(towers, prompts=["a", "bbb"])
    assert model(torch.rand(2, 3, 4, 4)).shape == (2, 2)


def test_a_language_model_sees_the_images_of_another_model_as_it_needs_them():
    towers = tiny.towers()
    grey = load_model(planted_network(), normalise={"scale": "zscore"})
    x = torch.randn(2, 1, 28, 28)
    found = language_for(towers, ["disc"], grey)
    assert found.prompts == ("disc",)
    code = found.encode_image(x)
    assert torch.allclose(code.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(code, found.encode_image(5 * x + 3), atol=1e-4)  # only the picture counts
    with pytest.raises(ImageError, match="three axes"):
        found.encode_image(torch.rand(1, 1, 8, 8, 8))


# --- maps ---


@pytest.mark.parametrize("method", [*MAPS, "generic_attention"])
def test_the_map_of_a_text_lies_on_what_it_names(method):
    model, untrained = tiny.classifier(), tiny.classifier(trained=False)
    for seed in (5, 6):
        x, masks = tiny.picture(seed, disc=True, stripes=True)
        for label in (0, 1):
            values = explain(model, x, method, label).values[0]
            own, other = share(values, masks[label]), share(values, masks[1 - label])
            assert own > 1.5
            assert own > 3 * other
            assert share(explain(untrained, x, method, label).values[0], masks[label]) < own


@pytest.mark.parametrize("method", MAPS)
def test_a_batch_is_explained_as_single_images_are(method):
    model = tiny.classifier()
    x, _ = tiny.scene(2, 3, disc=True, stripes=True)
    both = explain(model, x, method, [0, 1]).values
    alone = torch.cat([explain(model, x[i : i + 1], method, i).values for i in (0, 1)])
    assert torch.allclose(both, alone, rtol=1e-3, atol=1e-5)


def test_grad_eclip_is_values_times_gradient_times_likeness():
    model = tiny.classifier()
    x, _ = tiny.picture(5, disc=True, stripes=True)
    layer = model.network.tower.vision.encoder.layers[-1].self_attn
    kept = {}
    hooks = [
        getattr(layer, name).register_forward_hook(lambda _m, _i, out, name=name: kept.__setitem__(name, out))
        for name in ("q_proj", "k_proj", "v_proj")
    ]
    hooks.append(layer.out_proj.register_forward_pre_hook(lambda _m, args: kept.__setitem__("mixed", args[0])))
    score = model(x)[0, 0]
    for hook in hooks:
        hook.remove()
    (slope,) = torch.autograd.grad(score, kept["mixed"])
    q, k = (nn.functional.normalize(kept[name][0], dim=-1) for name in ("q_proj", "k_proj"))
    alike = k[1:] @ q[0]
    alike = (alike - alike.min()) / (alike.max() - alike.min())
    truth = ((slope[0, 0] * kept["v_proj"][0, 1:]).sum(-1) * alike).clamp(min=0).view(1, 1, 8, 8)
    truth = nn.functional.interpolate(truth, size=(32, 32), mode="bilinear")[0, 0]
    assert torch.allclose(explain(model, x, "grad_eclip", 0).values[0], truth, rtol=1e-3, atol=1e-5)


def test_clip_surgery_leads_values_past_the_last_blocks():
    """Written again, slowly, for the layers of this tower."""
    model = tiny.classifier()
    x, _ = tiny.picture(5, disc=True, stripes=True)
    vision = model.network.tower.vision
    with torch.no_grad():
        states = vision(pixel_values=x, output_hidden_states=True).hidden_states
        layer = vision.encoder.layers[-1]
        v = layer.self_attn.v_proj(layer.layer_norm1(states[-2]))[0].view(65, 2, 16).movedim(1, 0)
        mixed = (v @ v.mT / 4).softmax(-1) @ v
        path = states[-2][0] + layer.self_attn.out_proj(mixed.movedim(0, 1).reshape(65, 32))
        tokens = model.network.tower.projection(vision.post_layernorm(path))
        cosine = nn.functional.normalize(tokens, dim=-1) @ model.network.text.T
        whole = (2 * model(x) / model.network.scale).softmax(1)
        weighed = cosine * whole / whole.mean()
        truth = (model.network.scale * (weighed - weighed.mean(1, keepdim=True)))[1:].T.view(3, 1, 8, 8)
        truth = nn.functional.interpolate(truth, size=(32, 32), mode="bilinear")[:, 0]
    for label in range(3):
        found = explain(model, x, "clip_surgery", label, depth=1)
        assert torch.allclose(found.values[0], truth[label], rtol=1e-3, atol=1e-4)
    assert (
        float(sum(explain(model, x, "clip_surgery", i).values for i in range(3)).abs().max()) < 1e-4
    )  # nothing shared
    with pytest.raises(TargetError, match="depth = 0"):
        explain(model, x, "clip_surgery", 0, depth=0)


def test_values_attend_to_values_in_a_torch_layer_as_well():
    from runners.modes import Values

    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(2, 5, 8)
    with torch.no_grad(), Values() as mode:
        found = layer(x, x, x, need_weights=False)[0]
    with torch.no_grad():
        weight, bias = layer.in_proj_weight[16:], layer.in_proj_bias[16:]
        v = nn.functional.linear(x, weight, bias).view(2, 5, 2, 4).transpose(1, 2)
        truth = layer.out_proj(((v @ v.mT / 2).softmax(-1) @ v).transpose(1, 2).reshape(2, 5, 8))
    assert mode.changed == 1
    assert torch.allclose(found, truth, atol=1e-6)


def read_through(**kind):
    from toys import ViT

    torch.manual_seed(0)
    return Prompted(ViT(**kind), torch.eye(3)[:2]).eval()


def test_clip_surgery_asks_for_a_class_token_and_for_attention_that_it_can_change():
    x = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    for kind, words in (({"kind": "handwritten"}, "cannot be changed"), ({"prefix": 0}, "class token")):
        with pytest.raises(RequirementError, match=words):
            explain(read_through(**kind), x, "clip_surgery", 0)
    first, last = (explain(read_through(kind=kind), x, "clip_surgery", 0) for kind in ("module", "tokens_first"))
    assert torch.allclose(first.values, last.values, atol=1e-5)  # how tokens are laid out does not matter
    assert float(first.values.std()) > 0


def test_text_maps_ask_for_a_text():
    wired = profile(planted_network(), torch.rand(1, 1, 28, 28))
    assert "text_encoder" in [gap.need for method in MAPS for gap in unmet(method, wired)]
    with pytest.raises(RequirementError, match="text encoder"):
        explain(planted_network(), torch.rand(1, 1, 28, 28), "gscorecam")


# --- words as concepts ---


def test_signs_are_told_present_where_they_are():
    for which, there in (({"disc": True, "stripes": False}, 0), ({"disc": False, "stripes": True}, 1)):
        x, _ = tiny.picture(4, **which)
        form = discover(
            tiny.classifier(), x, "xplainer", owned=Owned(language=language("ill: bright disc", "ill: stripes"))
        ).form
        assert form.scores[there] > 0.6 > 0.4 > form.scores[1 - there]
    mean = form.scores.log().mean().exp()
    assert form.measures["probability of ill"] == pytest.approx(float(mean), abs=1e-5)
    chance = discover(
        tiny.classifier(trained=False), x, "xplainer", owned=Owned(language=language("bright disc", trained=False))
    )
    assert abs(float(chance.form.scores[0]) - 0.5) < 0.15
    grey = load_model(planted_network())
    told = discover(grey, x[:, :1], "xplainer", owned=Owned(language=language("stripes", model=grey)))
    assert any("not what the explained model" in caution for caution in told.cautions)


class Discs(nn.Module):
    """Two channels that see the disc and the stripes, and one that sees a corner of noise; only the disc decides."""

    def __init__(self):
        super().__init__()
        self.look = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        with torch.no_grad():
            self.look.weight.zero_()
            self.look.weight[0] = 1 / 27
            self.look.weight[1, 0, 1] = torch.tensor([-0.5, 1.0, -0.5])
            self.look.weight[2, 0, 1, 1] = 1
        mask = torch.ones(3, 32, 32)
        mask[2] = 0
        mask[2, :2, :2] = 1
        self.register_buffer("mask", mask)
        self.gate = nn.ReLU()
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[30.0, 1.0, 1.0], [-30.0, -1.0, -1.0]]))

    def forward(self, x):
        return self.head(self.gate(self.look(x) * self.mask - 0.5).flatten(2).mean(2))


def test_units_are_named_by_what_excites_them_and_noise_is_not():
    model, (x, _), (others, masks) = Discs().eval(), tiny.picture(4, disc=True, stripes=True), tiny.scene(200, 77)
    others = others[~masks.flatten(2).any(2).all(0)]  # one thing at a time
    words = language("bright disc", "stripes", "nothing", model=tiny.classifier())
    owned = Owned(cohort=Cohort(others), language=words)
    form = discover(model, x, "clip_dissect", 0, owned=owned, layer="gate").form
    named = dict(name.split(": ") for name in form.names)
    assert named == {"unit 0": "bright disc", "unit 1": "stripes", "unit 2": "no name"}


def test_a_bottleneck_of_words_finds_the_word_that_decides():
    model, (x, _), (others, masks) = tiny.classifier(), tiny.picture(4, disc=True, stripes=False), tiny.scene(120, 77)
    owned = Owned(cohort=Cohort(others), language=language("bright disc", "stripes"))
    told = discover(model, x, "label_free_cbm", 0, owned=owned)
    form = told.form
    assert form.measures["concept_completeness"] > 0.6
    assert float(form.scores[form.names.index("bright disc")]) > 0
    assert masks.any()
    blind = torch.nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    noise = Owned(
        cohort=Cohort(torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))), language=owned.language
    )
    with pytest.raises(TargetError, match="follows none of the prompts"):
        discover(blind, x, "label_free_cbm", 0, owned=noise, least=0.9)


def test_likeness_is_in_order():
    x, _ = tiny.scene(5, 3)
    found = likeness(language("a"), x, ["bright disc", "stripes"], 2)
    assert found.shape == (5, 2)
    assert torch.allclose(found[3:4], likeness(language("a"), x[3:4], ["bright disc", "stripes"], 8), atol=1e-5)


# --- sentences ---


def test_a_cited_region_is_confirmed_where_the_model_needs_it():
    model = tiny.classifier()
    x, masks = tiny.picture(5, disc=True, stripes=False)
    aside = masks[0].roll((12, 12), (0, 1))
    reasons = (Reason("There is a disc.", masks[0]), Reason("It is here.", aside), Reason("I am sure."))
    found = check_rationale(model, x, reasons, 0)
    assert found.form.holds == (True, False, False)
    assert found.form.drops[0] > 1
    assert found.form.drops[2].isnan()
    assert found.form.measures["answer changes without them"] == 1
    assert torch.equal(found.form.maps[0], masks[0])
    same = discover(model, x, "llm_text_rationale", 0, owned=Owned(reasons=reasons)).form
    assert torch.equal(same.values, found.form.values)
    nothing = check_rationale(tiny.classifier(trained=False), x, reasons, 0)
    assert not any(nothing.form.holds)
    whole = Reason("All of it.", torch.ones(32, 32, dtype=torch.bool))
    assert check_rationale(model, x, (whole,), 0).form.holds == (False,)  # everything is no reason


def test_reasons_are_asked_for():
    model, (x, _) = tiny.classifier(), tiny.picture(5, disc=True)
    with pytest.raises(RequirementError, match="give the sentences to check"):
        discover(model, x, "cot_rationale")
    with pytest.raises(TargetError, match="region of sentence 1"):
        check_rationale(model, x, (Reason("a", torch.ones(4, 4)),))


def test_sentences_find_their_place_only_where_it_is():
    x, masks = tiny.picture(4, disc=True, stripes=True)
    prompts = ("bright disc", "stripes", "banana", "nothing")
    form = discover(tiny.classifier(), x, "phrase_grounding", owned=Owned(language=language(*prompts))).form
    assert form.holds[1:] == (True, False, False)
    assert float(form.maps[1][masks[1]].sum() / form.maps[1].sum()) > 0.5
    x, masks = tiny.picture(4, disc=True, stripes=False)
    form = discover(tiny.classifier(), x, "phrase_grounding", owned=Owned(language=language(*prompts))).form
    assert form.holds == (True, False, False, False)
    assert float(form.maps[0][masks[0]].sum() / form.maps[0].sum()) > 0.3
    reason = Owned(language=language("stripes", "nothing"), reasons=(Reason("a bright disc"),))
    assert discover(tiny.classifier(), x, "phrase_grounding", owned=reason).form.sentences == ("a bright disc",)
    untrained = Owned(language=language(*prompts, trained=False))
    assert not any(discover(tiny.classifier(trained=False), x, "phrase_grounding", owned=untrained).form.holds)


def test_sentences_from_measurements_say_what_was_measured():
    model = tiny.classifier()
    x, masks = tiny.picture(5, disc=True, stripes=False)
    others, _ = tiny.scene(60, 77)
    owned = Owned(cohort=Cohort(others), mask=masks[0], language=language("bright disc", "stripes"))
    told = discover(model, x, "combined_text_saliency", 0, owned=owned)
    form = told.form
    assert f"The explained score is {told.target_score:.3g}" in form.sentences[0]
    (marked,) = [i for i, words in enumerate(form.sentences) if words.startswith("The marked region")]
    assert form.holds[marked]
    assert form.drops[marked] > 1
    assert f"{float(masks[0].float().mean()):.1%}" in form.sentences[marked]
    for words, quantity, value in zip(form.sentences, form.quantities, form.values, strict=True):
        if quantity == "share of the cohort with less":
            assert value <= 0.1 or value >= 0.9
            assert "the score" in words
    bare = discover(model, x, "combined_text_saliency", 0).form
    assert all(quantity != "share of the cohort with less" for quantity in bare.quantities)


def test_a_model_that_does_not_look_gives_no_reasons():
    class Still(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Conv2d(3, 2, 1)
            nn.init.zeros_(self.look.weight)

        def forward(self, x):
            return self.look(x).flatten(2).mean(2)

    x, masks = tiny.picture(5, disc=True)
    owned = Owned(mask=masks[0], cohort=Cohort(tiny.scene(30, 7)[0]))
    assert not any(discover(Still(), x, "combined_text_saliency", 0, owned=owned).form.holds)


# --- faces ---


def test_reasons_are_read_from_a_text(tmp_path):
    sample = samples()[0]
    image = sample.load()
    model = load_model(sample.models[0])
    x = model.prepare(image)
    case = open_case(image, model, x, source=sample.id)
    shape = tuple(x.shape[2:])
    text = "# made up\nA bright area. [0, 20, 0, 30]\n\nThe rest looks well."
    first, second = read_reasons(text, case, shape)
    assert (first.text, second.text, second.region) == ("A bright area.", "The rest looks well.", None)
    assert first.region.shape == shape
    assert 0 < float(first.region.float().mean()) < 0.2
    for bad, words in (
        ("", "no sentence"),
        ("a [1, 2]", "whole numbers are needed"),
        ("a [9, 3, 1, 2]", "whole numbers are needed"),
        ("a [there.png]", "nor a mask beside the text"),
        ("a [99999, 99999, 0, 3]", "nothing of the region"),
    ):
        with pytest.raises(AtlasError, match=words):
            read_reasons(bad, case, shape, tmp_path)


def test_the_command_line_takes_a_language_model_and_a_text(tmp_path):
    from PIL import Image

    x, _ = tiny.picture(5, disc=True, stripes=False)
    pixels = ((x[0, 0] + 1) / 4).clamp(0, 1).mul(255).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "one.png")
    assert load_image(tmp_path / "one.png").shape == (32, 32)
    (tmp_path / "why.txt").write_text("There is a disc. [10, 20, 0, 31]\n")
    given = ["explain", str(tmp_path / "one.png"), "--language", str(tiny.folder())]
    given += ["--prompt", "bright disc", "--prompt", "stripes", "--method", "grad_eclip", "--method", "xplainer"]
    given += ["--method", "cot_rationale", "--rationale", str(tmp_path / "why.txt")]
    done = CliRunner().invoke(cli.app, given)
    assert done.exit_code == 0, done.output
    assert "Grad-ECLIP" in done.output
    assert "There is a disc." in done.output
    done = CliRunner().invoke(cli.app, ["explain", str(tmp_path / "one.png")])
    assert "--language" in done.output
