"""A photograph of one's own: reading anything, measuring it, and the command."""

import os
import subprocess

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFilter

from saliencylib.licnn.method import blur, classifiers
from saliencylib import data, metrics
from saliencylib.photograph import figures as figures_photo, reading as photo
from saliencylib.study import plan, run
from saliencylib.shallow_cnn.network import shipped

SIZE = (90, 60)


def scene(size=SIZE) -> Image.Image:
    """A red disc left of the centre on a smooth ground, so that sides and colours can be told apart."""
    width, height = size
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    pixels = np.stack([60 + 40 * x, 90 + 40 * y, 120 + 0 * x], axis=2)
    pixels[(x - 0.3) ** 2 + (y - 0.5) ** 2 < 0.04] = (220, 30, 30)
    return Image.fromarray(pixels.astype(np.uint8))


def close(picture, wanted, tolerance=12) -> bool:
    difference = np.asarray(picture, float) - np.asarray(wanted.resize(picture.size), float)
    return bool(np.abs(difference).mean() < tolerance)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "jp2", "bmp", "ppm", "tif", "gif", "ico"])
def test_every_common_format_shows_the_same_picture(tmp_path, suffix):
    scene().save(tmp_path / f"one.{suffix}")
    shown = photo.photograph(tmp_path / f"one.{suffix}")
    assert shown.picture.mode == "RGB" and close(shown.picture, scene())


def test_a_phones_heic_is_read_upright():
    shown = photo.photograph(plan.ROOT / "tests" / "turned.heic")
    assert shown.size == SIZE and close(shown.picture, scene())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_ends_upright(tmp_path, orientation):
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene().transpose(turn[orientation]) if orientation in turn else scene()
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shown = photo.photograph(tmp_path / "turned.jpg")
    assert close(shown.picture, scene()) and len(shown.notes) == (orientation != 1)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "YCbCr"])
def test_colour_models_become_rgb(tmp_path, mode):
    path = tmp_path / ("one.jpg" if mode in ("CMYK", "YCbCr") else "one.png")
    scene().convert(mode).save(path)
    shown = photo.photograph(path).picture
    grey = mode in ("L", "1", "LA")
    assert shown.mode == "RGB"
    assert close(
        shown.filter(ImageFilter.BoxBlur(4)), scene().convert("L" if grey else "RGB").convert("RGB"), 25
    )


def test_transparency_is_laid_on_white(tmp_path):
    picture = scene().convert("RGBA")
    picture.putalpha(Image.fromarray(np.uint8([[0] * 45 + [255] * 45] * 60)))
    picture.save(tmp_path / "glass.png")
    shown = photo.photograph(tmp_path / "glass.png")
    pixels = np.asarray(shown.picture)
    half = (45, 0, 90, 60)
    assert (pixels[:, :45] == 255).all() and close(shown.picture.crop(half), scene().crop(half), 2)
    assert "laid on white" in shown.notes[0]


def test_deep_pictures_keep_their_range_and_frames_are_counted(tmp_path):
    ramp = np.linspace(1000, 30000, 60 * 90).reshape(60, 90)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "deep.tif")
    for name in ("deep.png", "deep.tif"):
        pixels = np.asarray(photo.photograph(tmp_path / name).picture)
        assert pixels.min() == 0 and pixels.max() == 255 and 120 < pixels.mean() < 135
    scene().save(tmp_path / "film.gif", save_all=True, append_images=[Image.new("RGB", SIZE)])
    shown = photo.photograph(tmp_path / "film.gif")
    assert "first of 2 frames" in shown.notes[0] and close(shown.picture, scene())


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (33, 31)])
def test_small_and_thin_pictures_get_every_map(tmp_path, size):
    scene(size).save(tmp_path / "odd.png")
    shown = photo.photograph(tmp_path / "odd.png")
    assert shown.size == size and min(shown.picture.size) >= photo.SHORTEST
    for name, values in photo.bottom_up_maps(shown).items():
        assert values.shape == shown.pixels.shape[:2] and np.isfinite(values).all(), name


def test_fifty_megapixels_are_read_and_ninety_are_refused(tmp_path):
    Image.new("RGB", (8660, 5774), (9, 99, 199)).save(tmp_path / "large.png", compress_level=1)
    shown = photo.photograph(tmp_path / "large.png")
    assert shown.picture.size == (1024, 683) and "resized from 8660x5774" in shown.notes[0]
    assert max(shown.pixels.shape) == photo.MAP_SIDE
    for size in ((10000, 9000), (20000, 9000)):  # Pillow itself refuses the second
        Image.new("1", size).save(tmp_path / "huge.png")
        with pytest.raises(
            data.DataInvalid, match="huge.png has more than the 89 million pixels.*smaller copy"
        ):
            photo.photograph(tmp_path / "huge.png")


def test_files_that_are_no_pictures_are_named_with_the_remedy(tmp_path):
    scene().save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:700])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "nan.tif")
    for name in ("cut.jpg", "empty.png", "text.jpg", "nan.tif"):
        with pytest.raises(data.DataInvalid, match=f"{name} is not a picture .* save it as JPEG or PNG"):
            photo.photograph(tmp_path / name)
    with pytest.raises(data.DataInvalid, match="is not a file"):
        photo.photograph(tmp_path)
    with pytest.raises(data.DataNotFound, match="nowhere.jpg: give the path.*coffee"):
        photo.photograph(tmp_path / "nowhere.jpg")


def test_pictures_that_ship_are_known_by_name_and_keep_their_credit():
    shown = photo.photograph("coffee")
    assert "CC0" in shown.credit and shown.size == (600, 400)
    assert photo.folder_name(photo.DEFAULT) is None, "it belongs to every run"
    assert photo.folder_name("chelsea").startswith("photo-chelsea-")
    cells = nbformat.read(plan.ROOT / "notebooks" / "05_your_own_photograph.ipynb", as_version=4).cells
    assert any(f'photograph = "{photo.DEFAULT}"' in cell.source for cell in cells)


def test_run_folders_tell_pictures_of_one_name_apart(tmp_path):
    names = []
    for folder, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "Foto 1 (neu).png"
        Image.new("RGB", SIZE, colour).save(path)
        names.append(photo.folder_name(str(path)))
    assert names[0] == names[2] != names[1] and names[0].startswith("photo-Foto-1-neu-")


# ---------------------------------------------------------------- what is measured


@pytest.fixture(scope="module")
def model():
    return classifiers.load_classifier("efficientnet_lite0")


def test_a_map_of_the_whole_lands_on_the_crop(model):
    picture = scene((400, 300))
    red = np.asarray(picture)[..., 0].astype(float)
    for values in (red, red[::2, ::2]):
        crop = photo.on_crop(values, picture, model.preprocess)
        wanted = np.asarray(model.preprocess.cut(picture))[..., 0]
        assert crop.shape == wanted.shape and np.abs(crop - wanted).mean() < 4


def test_agreement_is_one_with_itself_and_minus_one_with_its_reverse():
    values = np.random.default_rng(0).random((8, 8))
    table = photo.agreement({"a": values, "b": -values, "flat": np.zeros((8, 8))})
    assert table.loc["a", "a"] == pytest.approx(1) and table.loc["a", "b"] == pytest.approx(-1)
    assert (table.loc["flat"] == 0).all()


def test_likeliest_classes_are_those_of_the_blur_experiment(model):
    crops = [model.preprocess.cut(photo.photograph(name).picture) for name in ("coffee", "chelsea")]
    top, probabilities = photo.likeliest(model, crops)
    np.testing.assert_array_equal(top, blur.top_classes(model, crops))
    assert probabilities.sum(1) == pytest.approx([1, 1], abs=1e-5)
    assert model.classes[top[0, 0]] == "espresso"
    table = photo.class_table(model, {"a": crops[0], "b": crops[1]})
    assert table.loc[0, "a"] == f"espresso {probabilities[0].max():.1%}" and len(table) == 5


def test_blur_effects_follow_the_region(model):
    crop = model.preprocess.cut(photo.photograph("coffee").picture)
    y, x = np.mgrid[-1 : 1 : crop.height * 1j, -1 : 1 : crop.width * 1j]
    centred = np.exp(-2 * (x**2 + y**2))
    effects = photo.blur_effects(model, crop, centred, 0.35).set_index(["region", "picture"])
    assert len(effects) == 1 + 2 * 4
    before = effects.loc[("", "as it is")]
    assert before["first"] == "espresso" and before["probability"] == before["before"]
    region = blur.region(centred, 0.35)
    by_hand = photo.likeliest(model, [blur.blurred(crop, region, 10, "object")])[1][0]
    assert effects.loc[("LICNN", "object blurred"), "probability"] == pytest.approx(by_hand.max(), abs=1e-5)
    assert effects["before"].max() == before["before"]
    assert list(photo.blurred_crops(crop, region)) == ["as it is", "background blurred", "object blurred"]


def test_titles_say_what_was_found():
    table = pd.DataFrame(
        {
            "region": ["", "LICNN", "LICNN", "RC", "RC"],
            "picture": ["as it is", *["background blurred", "object blurred"] * 2],
            "first": ["cup", "cup", "bowl", "cup", "cup"],
            "probability": [0.9, 0.5, 0.3, 0.2, 0.8],
            "before": [0.9, 0.5, 0.1, 0.2, 0.8],
        }
    )
    crops = {name: scene((64, 64)) for name in ("as it is", "background blurred", "object blurred")}
    figure = figures_photo.blurs(crops, np.ones((64, 64), bool), table, "n = 1")
    assert figure.get_suptitle() == "The class changes with object blurred"
    assert (
        "50%\nby LICNN's region, of 50% by the best one (LICNN)"
        in figures_photo.blur_controls(table, 0.35, "n").get_suptitle()
    )
    flat = figures_photo.blur_controls(table.assign(before=0.5), 0.35, "n")
    assert "no difference" in flat.get_suptitle()
    maps = dict.fromkeys(figures_photo.METHODS, np.zeros((40, 60)))
    figure = figures_photo.bottom_up(np.zeros((40, 60, 3), np.uint8), maps, "n = 1")
    assert figure.get_suptitle().startswith("Nothing stands out")


# ---------------------------------------------------------------- the shipped network


def test_the_shipped_network_is_small_trained_and_says_on_what():
    small, facts = shipped.network()
    assert shipped.PATH.stat().st_size < 3 * 2**20
    assert f"{sum(p.numel() for p in small.parameters()):,}" == facts["parameters"]
    assert facts["trained_on"] == ", ".join(shipped.TRAINED_ON)
    assert all(data.REGISTRY[name].licence.startswith("MIT") for name in shipped.TRAINED_ON)
    prediction = shipped.saliency_map(small, photo.photograph("coffee").picture)
    assert prediction.shape == (48, 48) and prediction.sum() == pytest.approx(1) and prediction.min() >= 0
    other = shipped.saliency_map(small, photo.photograph("rocket").picture)
    assert metrics.cc(prediction, other) < 0.95


def test_the_shipped_network_scores_as_its_header_says(real_data):
    from saliencylib.shallow_cnn.network import gaze
    from saliencylib.shallow_cnn.network import results as evaluation
    from saliencylib.shallow_cnn.network import training

    small, facts = shipped.network()
    test = gaze.from_fixations(data.fixation_set("mit1003").select(np.arange(0, 1003, 4)), showable=False)
    maps = training.predict(small, shipped.RECIPE, test.images, torch.device("cpu"))
    value = float(facts["cc"].split()[0])
    assert evaluation.correlations(maps, test.targets).mean() == pytest.approx(value, abs=0.03)
    assert value > float(facts["cc_mean_map"].split()[0])


def test_a_damaged_or_missing_network_is_named(tmp_path):
    with pytest.raises(data.DataNotFound, match="none.safetensors is missing.*git checkout"):
        shipped.network(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(shipped.PATH.read_bytes()[:5000])
    with pytest.raises(data.DataInvalid, match="cut.safetensors cannot be read"):
        shipped.network(tmp_path / "cut.safetensors")


# ---------------------------------------------------------------- the command


def test_the_command_makes_a_notebook_and_pictures_from_any_folder(tmp_path):
    scene((300, 200)).save(tmp_path / "my photo.jpg")
    done = subprocess.run(
        ["bash", str(plan.ROOT / "run_all.sh"), "photo", "my photo.jpg", "--no-venv"],
        capture_output=True,
        text=True,
        env=os.environ | {"SALIENCY_RESULTS": str(tmp_path / "out")},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("photo-my-photo-") and "background blurred" in done.stdout
    assert len(list((folder / "figures").glob("05_*"))) == 8
    assert (folder / "notebooks" / "05_your_own_photograph.ipynb").exists()
    assert len(pd.read_csv(folder / "tables" / "05_classes.csv")) == 5


def test_the_command_refuses_what_it_cannot_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path / "out"))
    (tmp_path / "text.jpg").write_text("not a picture")
    for arguments, said in (
        ([str(tmp_path / "text.jpg")], "text.jpg is not a picture"),
        (["none.jpg"], "there is no file none.jpg"),
        ([], "photo takes one file"),
        (["a.jpg", "b.jpg"], "photo takes one file"),
        (["--help"], "photo takes one file"),
    ):
        assert run.run_photograph(arguments) == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
