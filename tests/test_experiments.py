"""The first experiments: they run by one command, and what they say follows from their numbers."""

import csv
import io

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from typer.testing import CliRunner

import cli
from experiments import measuring
from experiments.branches import branches
from experiments.clinical import PLANTED, WORLDS, added, clinical, trained, world
from experiments.measuring import RANDOM, files, mean_in_words
from experiments.modalities import agreement, modalities
from experiments.page import html, save, table
from runners import load_model
from runners.load import bundled
from taxonomy import load_kb
from taxonomy.errors import AtlasError, ImageError, TargetError, UnknownIdError

FAST = ("vanilla_gradient", "guided_backprop", "grad_cam")


@pytest.fixture(scope="module")
def across():
    return modalities(load_kb(), methods=FAST, models=("chest_xray_cnn", "brain_mri_vit", "breast_us_unet"))


def test_every_number_is_there_and_the_sentences_are_those_of_the_numbers(across):
    rows = list(csv.DictReader(io.StringIO(table(across))))
    assert {row["modality"] for row in rows} == {"xray", "ultrasound", "mri"}
    assert {row["method"] for row in rows} == {*FAST, RANDOM}
    assert all(row["value"] or row["note"] for row in rows)
    maps = next(one for one in across.sections if one.title == "The maps: MRI slice")
    assert "Guided Backpropagation" in maps.lines[0]  # what it says of a transformer
    mprt = [
        float(row["value"])
        for row in rows
        if row["metric"] == "mprt" and row["method"] == "guided_backprop" and row["model"] == "chest_xray_cnn"
    ]
    said = [line for line in across.answer if "randomisation test, chest radiograph" in line]
    assert mprt[0] > 0.5
    assert "Guided Backpropagation" in said[0]
    assert not [row for row in rows if row["method"] == RANDOM and row["metric"] == "mprt"]


def test_maps_that_ask_much_are_not_made_again(monkeypatch):
    monkeypatch.setattr(measuring, "MOST", 1)
    kb, model = load_kb(), load_model("chest_xray_cnn")
    (map_, _) = measuring.run(model, next(measuring.subjects(model)), ["grad_cam"], kb)
    found = {one.metric: one for one in map_.measured}
    assert found["deletion"].value is not None
    assert found["mprt"].value is None
    assert "asks too much" in found["mprt"].notes[0]


def test_a_random_map_is_worst_at_pointing(across):
    board = next(one for one in across.sections if one.title.startswith("Pointing"))
    assert board.rows[-1][0] == RANDOM


def test_the_page_stands_alone(across, tmp_path):
    page, numbers = save(tmp_path / "new", across)
    text = page.read_text("utf-8")
    assert across.question in text
    assert text.count("data:image/png") == 4  # a picture for each image
    assert "http://" not in html(across)
    assert numbers.read_text("utf-8") == table(across)
    with pytest.raises(AtlasError, match="--force"):
        save(tmp_path / "new", across)
    save(tmp_path / "new", across, force=True)


def test_agreement_is_kendalls():
    places = np.array([rankdata(row) for row in np.random.default_rng(0).random((4, 6))])
    sums = places.sum(0)
    w, p = agreement(places)
    assert w == pytest.approx(12 * ((sums - sums.mean()) ** 2).sum() / (4**2 * (6**3 - 6)))
    assert 0 < p < 1
    assert agreement(np.tile(np.arange(5.0), (3, 1)))[0] == pytest.approx(1)
    assert agreement(places[:2]) is None
    assert agreement(np.ones((4, 4))) is None


@pytest.fixture(scope="module")
def sides():
    return branches(load_kb(), maps=("vanilla_gradient", "grad_cam"), latent=("latent_shift",), images=2, cohort=8)


def test_maps_and_changes_in_a_latent_space_are_measured_alike(sides):
    rows = list(csv.DictReader(io.StringIO(table(sides))))
    on = {m: {row["metric"] for row in rows if row["method"] == m} for m in ("grad_cam", "latent_shift", RANDOM)}
    assert on["grad_cam"] == on[RANDOM] < on["latent_shift"]
    assert {"cf_validity", "cf_proximity"} <= on["latent_shift"] - on["grad_cam"]
    pointed = [row for row in rows if row["metric"] == "pointing_game" and row["method"] != RANDOM]
    maps = [float(row["value"]) for row in pointed if row["method"] != "latent_shift"]
    assert len(pointed) == len(maps) + 2
    assert any(line.startswith(f"Pointing Game: maps {np.mean(maps):.3g}, latent") for line in sides.answer)
    assert sum("changed the marking in" in line for line in sides.answer) == 1
    assert len(sides.sections[-1].pictures) == 2  # all maps, and the series


def test_means_say_how_sure_they_are():
    assert mean_in_words(np.array([np.nan, 2.0, 2.0]), "2f") == "2.00 (2.00 to 2.00)"
    assert mean_in_words(np.array([1.0]), "3g") == "1"
    assert mean_in_words(np.array([np.nan]), "3g") == "–"


@pytest.mark.slow
def test_planted_weights_of_image_and_values_are_found_and_an_idle_image_is_not():
    found = clinical(load_kb(), images=4)
    rows = [row for row in found.numbers if row["method"] == "sequence_shapley"]
    size = {
        named: {p: np.mean([abs(r["value"]) for r in rows if (r["model"], r["part"]) == (named, p)]) for p in PLANTED}
        for named in WORLDS
    }
    planted, control = size.values()
    assert planted["image"] == max(planted.values())
    assert planted["visit number"] == min(planted.values()) < 0.3 * planted["CRP"]
    assert control["image"] < 0.25 * planted["image"]
    assert control["image"] < 0.3 * control["CRP"]
    assert np.corrcoef([r["value"] for r in rows], [r["added"] for r in rows])[0, 1] > 0.98
    assert "SYNTHETIC" in found.done[0]


def test_the_network_of_image_and_values_is_the_sum_of_its_parts():
    known = world(0, 64)
    network = trained(known, 1)
    x, table_ = known.x[:5], known.table[:5]
    odds = network(x, table_).diff(dim=1)[:, 0]
    assert torch.allclose(network.parts(x, table_).sum(1) + network.values.bias, odds, atol=1e-5)
    assert torch.equal(network(x, table_), trained(world(0, 64), 1)(x, table_))
    assert added(network, known, known).mean(0) == pytest.approx(0, abs=1e-5)
    with pytest.raises(TargetError, match="at least 64"):
        clinical(load_kb(), patients=10)


def test_own_images_and_what_is_wrong_with_them(tmp_path):
    (tmp_path / "b.png").touch()
    (tmp_path / "a.png").touch()
    assert files([f"x={tmp_path}"]) == {"x": [tmp_path / "a.png", tmp_path / "b.png"]}
    with pytest.raises(AtlasError, match="MODEL=PATH"):
        files(["picture.png"])
    with pytest.raises(ImageError, match="no image"):
        files([f"x={tmp_path / 'none.png'}"])
    with pytest.raises(UnknownIdError, match="chest_xray"):
        modalities(load_kb(), models=("chest_xray",))


def test_the_command(tmp_path):
    command = ["experiment", "modalities", "--method", "grad_cam", "--model", "chest_xray_cnn", "--out"]
    done = CliRunner().invoke(cli.app, [*command, str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "fare alike" in done.output
    assert (tmp_path / "out" / "report.html").exists()
    assert len(bundled()) == 5
