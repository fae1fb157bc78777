"""Made images against closed forms: what a linear model reads is painted, a layer that lost detail shows it."""

import pytest
import tagged
import torch
from torch import nn

from runners import Owned, discover
from runners.beyond.visualised import _Painted, jittered, roughness
from runners.registry import seeded
from taxonomy.errors import ModelError, TargetError


class Template(nn.Module):
    """The score is how like an image is to a template."""

    def __init__(self, template):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)
        self.register_buffer("template", template)

    def forward(self, x):
        like = (self.conv(x)[:, 0] * self.template).flatten(1).sum(1)
        return torch.stack([-like, like], 1)


def bump():
    at = torch.arange(20.0) - 10
    return (-(at[:, None] ** 2 + (at[None] - 3) ** 2) / 30).exp() - 0.3


class Decoder(nn.Module):
    """A generator whose one number is the brightness of a bump."""

    def encode(self, x):
        return x.flatten(1).mean(1, keepdim=True)

    def decode(self, z):
        return z[:, :, None, None] * bump()[None, None]


def test_maximisation_paints_the_template_of_a_linear_model():
    x = torch.rand(1, 1, 20, 20, generator=seeded(0))
    found = discover(Template(bump()), x, "activation_maximisation", 1, jitter=0, steps=120)
    up, down = found.form.images[:, 0]
    correlation = torch.corrcoef(torch.stack([up.flatten(), bump().flatten()]))[0, 1]
    assert correlation > 0.8
    assert found.form.activations[0] > found.target_score > found.form.activations[1]
    assert float(up.min()) >= float(x.min()) - 1e-5
    assert float(up.max()) <= float(x.max()) + 1e-5
    assert torch.corrcoef(torch.stack([down.flatten(), bump().flatten()]))[0, 1] < -0.8
    again = discover(Template(bump()), x, "activation_maximisation", 1, jitter=0, steps=120)
    assert torch.equal(again.form.images, found.form.images)


def test_with_a_generator_its_code_is_moved():
    x = torch.rand(1, 1, 20, 20, generator=seeded(0))
    found = discover(
        Template(bump()), x, "activation_maximisation", 1, jitter=0, steps=60, owned=Owned(autoencoder=Decoder())
    )
    made = found.form.images[0, 0]
    assert torch.corrcoef(torch.stack([made.flatten(), bump().flatten()]))[0, 1] == pytest.approx(1, abs=1e-4)
    assert "generator" in found.notes[-1]


def test_a_model_that_wants_blobs_gets_bright_ones_and_a_channel_is_excited():
    x = tagged.case(tag=False, blob=True)
    made = discover(tagged.learned(False), x, "activation_maximisation", 1, steps=60).form
    assert made.activations[0] > 2 * made.measures["score of the case"]
    assert made.images[0].mean() > x.mean()
    units = discover(tagged.learned(False), x, "feature_visualization", 1, shown=2)
    assert len(units.form.names) == 2
    assert units.form.measures["mean activation on the made images, above the case's, in its spreads (smallest)"] > 1
    assert units.form.measures["share of that kept when the images are shifted (smallest)"] > 0.6
    named = discover(tagged.learned(False), x, "feature_visualization", 1, units="3,5", steps=2)
    assert named.form.names == ("channel 3", "channel 5")
    for wrong in ("3,x", "99"):
        with pytest.raises(TargetError, match="units"):
            discover(tagged.learned(False), x, "feature_visualization", 1, units=wrong)


class Forgetful(nn.Module):
    """A first layer that keeps all and a second that keeps the mean of each tile."""

    def __init__(self):
        super().__init__()
        self.all = nn.Conv2d(1, 1, 1)
        self.mean = nn.Conv2d(1, 1, 5, stride=5, bias=False)
        nn.init.constant_(self.mean.weight, 1 / 25)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.mean(self.all(x)).flatten(1))


def test_inversion_shows_what_a_layer_lost():
    x = torch.rand(1, 1, 20, 20, generator=seeded(0))
    found = discover(Forgetful().eval(), x, "feature_inversion", layers=2, steps=250, smooth=0.0).form
    assert found.names == ("all", "mean")
    assert (found.activations > 0.95).all()
    like = [value for name, value in found.measures.items() if name.startswith("likeness")]
    assert like[0] > 0.95
    assert like[1] < 0.5
    pool = nn.functional.avg_pool2d
    assert pool(found.images[1], 5) == pytest.approx(pool(x[0], 5), abs=0.03)


def test_volumes_are_made_too():
    x = torch.rand(1, 1, 8, 9, 10, generator=seeded(0))
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    found = discover(model, x, "feature_inversion", layers=1, steps=3)
    assert found.form.images.shape == (1, *x.shape[1:])
    assert len(discover(model, x, "activation_maximisation", steps=2).form.images) == 2


def test_the_parts_do_what_they_say():
    x = torch.rand(1, 2, 9, 11, generator=seeded(0))
    image = _Painted(x, seeded(1))()
    assert image.shape == x.shape
    assert (image.amin((2, 3)) >= x.amin((2, 3))).all()
    assert (image.amax((2, 3)) <= x.amax((2, 3))).all()
    assert torch.equal(jittered(x, 0, seeded(0)), x)
    moved = jittered(x, 3, seeded(0))
    assert moved.shape == x.shape
    assert set(moved.flatten().tolist()) <= set(x.flatten().tolist())
    ramp = torch.arange(4.0).expand(1, 1, 3, 4)
    assert float(roughness(ramp)) == 1
    with pytest.raises(TargetError, match="rate"):
        discover(Template(torch.ones(9, 9)), x[:, :1, :, :9], "activation_maximisation", rate=0.0)
    with pytest.raises(ModelError, match="no_layer"):
        discover(Template(torch.ones(9, 9)), x[:, :1, :, :9], "feature_inversion", layer="no_layer")
