"""Autoencoders: the bundled ones and their cards, and what a user may bring."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from runners.generators import Drawer, autoencoder_of, bundled_autoencoders, load_autoencoder
from runners.load import bundled, load_model
from runners.owned import Autoencoder
from runners.registry import seeded
from runners.zoo import train, train_autoencoder
from taxonomy.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

CARDS = {card.id: card for card in bundled_autoencoders()}
MODELS = {card.id: card for card in bundled()}
LIKE = torch.randn(1, 1, 12, 10, generator=seeded(0))


class Pair(nn.Module):
    """Halves the image, and doubles it again."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    @torch.jit.export
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 2) * self.scale

    @torch.jit.export
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(z, scale_factor=2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x))


def like(name: str, batch: int = 1) -> torch.Tensor:
    card = MODELS[name]
    return torch.randn(batch, card.channels or 1, *(card.size or (35, 50, 36)), generator=seeded(1))


def test_every_bundled_model_has_one() -> None:
    assert set(CARDS) == set(MODELS) == set(train_autoencoder.DRAWINGS)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_card_tells_what_a_user_must_know(name: str) -> None:
    card, model = CARDS[name], MODELS[name]
    drawing = train_autoencoder.DRAWINGS[name]
    assert card.training is not None
    assert model.training is not None
    assert (card.training.licence, card.training.data) == (model.training.licence, model.training.data)
    assert (card.training.epochs, card.training.seed) == (drawing.epochs, drawing.seed)
    assert card.kwargs == drawing.kwargs
    assert card.weights_licence == model.weights_licence
    assert card.normalise == model.normalise
    assert "clinical use" in card.not_for
    left, same = card.measured
    assert 0 < left.value < 0.5
    assert 0 <= same.value <= 1
    assert left.n == same.n > 20
    assert (train_autoencoder.CARDS / f"{name}.safetensors").stat().st_size <= 500_000


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_bundled_one_draws_images_of_its_model(name: str) -> None:
    x = like(name, 2)
    drawer = load_autoencoder(name, x)
    code = drawer.encode(x)
    assert code.ndim == 2
    assert drawer.decode(code).shape == x.shape
    torch.testing.assert_close(drawer.encode(x[1:]), code[1:], rtol=1e-4, atol=1e-4)
    code = code.detach().requires_grad_()
    (slope,) = torch.autograd.grad(drawer.decode(code).square().sum(), code)
    assert float(slope.abs().max()) > 0
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(drawer.encode(leaf).square().sum(), leaf)
    assert float(slope.abs().max()) > 0
    assert not any(one.requires_grad for one in drawer.parameters())
    assert autoencoder_of(load_model(name)) == name


def test_a_model_of_the_same_name_but_other_weights_gets_none() -> None:
    other = load_model(nn.Conv2d(1, 1, 1))
    assert autoencoder_of(other) is None


def test_what_a_user_may_bring(tmp_path) -> None:
    script = tmp_path / "pair.pt"
    torch.jit.script(Pair()).save(script)
    folder = tmp_path / "both"
    folder.mkdir()
    torch.jit.script(nn.Sequential(nn.AvgPool2d(2))).save(folder / "encoder.pt")
    exported = torch.export.export(nn.Upsample(scale_factor=2.0), (torch.zeros(1, 1, 6, 5),))
    torch.export.save(exported, folder / "decoder.pt2")
    made = tmp_path / "mine.py"
    made.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(__file__.rsplit('/', 1)[0])!r})\n"
        "from test_generators import Pair\n\ndef make():\n    return Pair()\n"
    )
    weights = tmp_path / "weights.pt"
    torch.save(Pair().state_dict(), weights)
    wanted = Pair()(LIKE)
    brought = {
        "module": load_autoencoder(Pair(), LIKE),
        "script": load_autoencoder(script, LIKE),
        "folder": load_autoencoder(folder, LIKE),
        "factory": load_autoencoder(f"{made}:make", LIKE),
        "weights": load_autoencoder(weights, LIKE, factory=f"{made}:make"),
    }
    for name, one in brought.items():
        code = one.encode(LIKE).detach().requires_grad_()
        assert code.shape == (1, 30), name
        torch.testing.assert_close(one.decode(code), wanted, msg=name)
        assert one.decode(code).requires_grad, name
    usable: Autoencoder = brought["module"]
    assert usable.encode(LIKE).shape == (1, 30)


def test_a_generator_of_another_size_is_enlarged_and_that_is_told() -> None:
    small = Drawer(lambda x: x[..., ::2, ::2], lambda z: z, LIKE, ())
    assert small.decode(small.encode(LIKE)).shape == LIKE.shape
    assert "6×5" in small.notes[0]
    assert Drawer(lambda x: (x, x + 1), lambda z: [z], LIKE, ()).notes == ()


@pytest.mark.parametrize(
    ("encode", "decode", "words"),
    [
        (lambda x: x, lambda z: z[:, :, 0], "the same number of axes"),
        (lambda x: x, lambda z: z.expand(-1, 2, -1, -1), "channels"),
        (lambda x: x * torch.nan, lambda z: z, "NaN"),
        (lambda x: x @ x, lambda z: z, "fails on an image"),
        (lambda _: "code", lambda z: z, "a tensor of codes"),
    ],
)
def test_one_that_does_not_draw_such_images_is_refused(encode, decode, words) -> None:
    with pytest.raises(ModelError, match=words):
        Drawer(encode, decode, LIKE, ())


def test_what_cannot_be_read_is_told(tmp_path) -> None:
    with pytest.raises(ModelError, match="There is no autoencoder 'nothing'; bundled are: brain_mri_vit"):
        load_autoencoder("nothing", LIKE)
    script = tmp_path / "plain.pt"
    torch.jit.script(nn.Identity()).save(script)
    with pytest.raises(ModelError, match="no method encode and no decode"):
        load_autoencoder(script, LIKE)
    with pytest.raises(ModelError, match="0 files named encoder"):
        load_autoencoder(tmp_path, LIKE)
    with pytest.raises(ModelError, match="draws 2D images of 1 channels; this one is 2D with 3"):
        load_autoencoder("chest_xray_cnn", torch.zeros(1, 3, 160, 160))


def test_only_real_images_teach_it(assets) -> None:
    cases = list(train_autoencoder.images("breast_us_unet", assets, {"validation"}))
    assert cases
    assert not {case.stratum for case in cases} & set(train_autoencoder.MADE)
    assert {tuple(case.image.shape) for case in cases} == {(1, 64, 64)}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_measured_numbers_are_those_of_the_committed_weights(name: str, assets) -> None:
    torch.set_num_threads(1)
    found = {one["metric"]: one["value"] for one in train_autoencoder.measure(name, assets)}
    assert found == pytest.approx({one.metric: one.value for one in CARDS[name].measured}, abs=2e-3)


def test_training_is_repeatable_and_learns() -> None:
    drawing = train_autoencoder.Drawing(
        {"dims": 2, "channels": 1, "grid": [16, 16], "widths": [4, 8], "code": 6, "local": 4}, epochs=12, batch=8
    )
    g = seeded(3)
    blobs = torch.nn.functional.interpolate(torch.randn(40, 1, 2, 2, generator=g), (16, 16), mode="bilinear")
    cases = [
        train.Case(str(i), train.normalise(one), torch.tensor(0), "blob", "train" if i < 32 else "validation")
        for i, one in enumerate(blobs)
    ]
    recipe = train.RECIPES["chest_xray_cnn"]
    a, b = (train_autoencoder.train(drawing, recipe, cases) for _ in range(2))
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    kept = torch.stack([case.image for case in cases[32:]])
    assert float(train_autoencoder.unexplained(a.eval(), kept).mean()) < 0.6
