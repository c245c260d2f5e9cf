"""A photograph of one's own: reading anything, measuring it, and the command."""

import io
import os
import struct
import subprocess
import zlib
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from saliencylib.data.images import image_in
from saliencylib.data.registry import DataInvalid, DataNotFound
from saliencylib.licnn.blur import blurred, object_region, top_classes
from saliencylib.licnn.classifiers import load_classifier
from saliencylib.photograph import figures, views
from saliencylib.photograph.reading import (
    DEFAULT_PHOTOGRAPH,
    MAP_SIDE,
    SHORTEST_SIDE,
    folder_name,
    photograph,
)

ROOT = Path(__file__).resolve().parents[2]
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


def test_a_phones_pictures_are_read_upright(tmp_path):
    shown = photograph(Path(__file__).with_name("turned.heic"))
    assert shown.size == SIZE and close(shown.picture, scene())
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shown = photograph(tmp_path / "turned.jpg")
    assert close(shown.picture, scene()) and "turned upright" in shown.notes[0]


def segment(marker: int, content: bytes) -> bytes:
    """Of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def exif(orientation: int, *rational: int) -> bytes:
    """EXIF data with an orientation and one signed rational, an exposure compensation."""
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + struct.pack("<HHII", 0x9204, 10, 1, 38)
    return b"Exif\0\0II*\0\x08\0\0\0\2\0" + entries + bytes(4) + struct.pack("<ii", *rational)


def chunk(kind: bytes, content: bytes, damage: int = 0) -> bytes:
    """Of a PNG."""
    checksum = zlib.crc32(kind + content) ^ damage
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def encoded(kind: str, after: int, metadata: bytes) -> bytes:
    """The scene as a file, with metadata put in behind so many bytes."""
    file = io.BytesIO()
    scene().save(file, kind, quality=95)
    return file.getvalue()[:after] + metadata + file.getvalue()[after:]


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65535])
def test_only_an_orientation_that_turns_is_followed_and_noted_whatever_else_exif_holds(tmp_path, orientation):
    (tmp_path / "a.jpg").write_bytes(encoded("jpeg", 2, segment(0xE1, exif(orientation, -1, 0))))
    shown, turns = photograph(tmp_path / "a.jpg"), 2 <= orientation <= 8
    stored = scene()
    stored.getexif()[0x0112] = orientation if turns else 1
    assert close(shown.picture, ImageOps.exif_transpose(stored))
    assert shown.notes == ("turned upright as its EXIF data say",) * turns


HUGE = zlib.compress(bytes(2**22))


@pytest.mark.parametrize(
    ("kind", "after", "metadata"),
    [
        ("jpeg", 2, segment(0xE1, b"Exif\0\0no EXIF data")),
        ("jpeg", 2, segment(0xE1, exif(6, 1, 2)[:25])),
        ("jpeg", 2, segment(0xE2, b"ICC_PROFILE\0")),
        ("jpeg", 2, segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed")),
        ("jpeg", 2, segment(0xEE, b"Adobe")),
        ("jpeg", 2, b"\xff" + segment(0xE0, b"JFIF\0")),
        ("png", 33, chunk(b"iCCP", b"no profile")),
        ("png", 33, chunk(b"iCCP", b"x\0\0" + HUGE)),
        ("png", 33, chunk(b"zTXt", b"x\0\0" + HUGE)),
        ("png", -12, chunk(b"iTXt", b"x\0\1\0\0\0" + HUGE)),
        ("png", 33, chunk(b"tEXt", b"x\0words", damage=1)),
        ("png", 33, chunk(b"eXIf", b"no EXIF data")),
        ("png", 33, chunk(b"gAMA", b"")),
    ],
)
def test_damaged_metadata_leave_the_pixels_readable(tmp_path, kind, after, metadata):
    (tmp_path / f"a.{kind}").write_bytes(encoded(kind, after, metadata))
    shown = photograph(tmp_path / f"a.{kind}")
    assert close(shown.picture, scene()) and shown.notes == ()
    assert close(image_in(tmp_path / f"a.{kind}"), scene())


@pytest.mark.parametrize(
    ("kind", "after", "metadata"),
    [("jpeg", 2, segment(0xE2, b"ICC_PROFILE\0")), ("png", 33, chunk(b"iCCP", b"no profile"))],
)
def test_a_cut_picture_with_damaged_metadata_is_refused(tmp_path, kind, after, metadata):
    (tmp_path / "cut").write_bytes(encoded(kind, after, metadata)[:-150])
    with pytest.raises(DataInvalid, match="is not a picture"):
        photograph(tmp_path / "cut")


def test_metadata_that_decide_over_pixels_stay(tmp_path):
    whole = io.BytesIO()
    scene().convert("CMYK").save(whole, "jpeg", quality=95)
    damaged = whole.getvalue()[:2] + segment(0xE2, b"ICC_PROFILE\0") + segment(0xE1, exif(3, 1, 2))
    (tmp_path / "print.jpg").write_bytes(damaged + whole.getvalue()[2:])
    assert close(photograph(tmp_path / "print.jpg").picture, scene().rotate(180))
    clear = io.BytesIO()
    scene().save(clear, "png", transparency=(220, 30, 30))
    content = clear.getvalue()[:33] + chunk(b"gAMA", b"") + clear.getvalue()[33:]
    (tmp_path / "clear.png").write_bytes(content)
    assert (np.asarray(photograph(tmp_path / "clear.png").picture)[30, 27] == 255).all()


def test_transparency_is_laid_on_white(tmp_path):
    picture = scene().convert("RGBA")
    picture.putalpha(Image.fromarray(np.uint8([[0] * 45 + [255] * 45] * 60)))
    picture.save(tmp_path / "glass.png")
    shown, half = photograph(tmp_path / "glass.png"), (45, 0, 90, 60)
    assert (np.asarray(shown.picture)[:, :45] == 255).all()
    assert close(shown.picture.crop(half), scene().crop(half), 2) and "laid on white" in shown.notes[0]


def test_deep_pictures_keep_their_range_and_frames_are_counted(tmp_path):
    ramp = np.linspace(1000, 30000, 60 * 90).reshape(60, 90)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "deep.png")
    pixels = np.asarray(photograph(tmp_path / "deep.png").picture)
    assert pixels.min() == 0 and pixels.max() == 255 and 120 < pixels.mean() < 135
    scene().save(tmp_path / "film.gif", save_all=True, append_images=[Image.new("RGB", SIZE)])
    shown = photograph(tmp_path / "film.gif")
    assert "first of 2 frames" in shown.notes[0] and close(shown.picture, scene())


@pytest.mark.parametrize("size", [(1, 1), (4000, 1)])
def test_small_and_thin_pictures_get_every_map(tmp_path, size):
    scene(size).save(tmp_path / "odd.png")
    shown = photograph(tmp_path / "odd.png")
    assert shown.size == size and min(shown.picture.size) >= SHORTEST_SIDE
    for name, values in views.bottom_up_maps(shown).items():
        assert values.shape == shown.pixels.shape[:2] and np.isfinite(values).all(), name


def test_large_pictures_are_read_and_huge_ones_refused(tmp_path):
    Image.new("RGB", (8660, 5774), (9, 99, 199)).save(tmp_path / "large.png", compress_level=1)
    shown = photograph(tmp_path / "large.png")
    assert shown.picture.size == (1024, 683) and "resized from 8660x5774" in shown.notes[0]
    assert max(shown.pixels.shape) == MAP_SIDE
    Image.new("1", (10000, 9000)).save(tmp_path / "huge.png")
    with pytest.raises(DataInvalid, match="huge.png has more than the 89 million pixels.*smaller copy"):
        photograph(tmp_path / "huge.png")


def test_files_that_are_no_pictures_are_named_with_the_remedy(tmp_path):
    scene().save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:700])
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "nan.tif")
    for name in ("cut.jpg", "text.jpg", "nan.tif"):
        with pytest.raises(DataInvalid, match=f"{name} is not a picture .* save it as JPEG or PNG"):
            photograph(tmp_path / name)
    with pytest.raises(DataInvalid, match="is not a file"):
        photograph(tmp_path)
    with pytest.raises(DataNotFound, match="nowhere.jpg: give the path.*coffee"):
        photograph(tmp_path / "nowhere.jpg")


def test_pictures_that_ship_are_known_by_name_and_keep_their_credit():
    shown = photograph("coffee")
    assert "CC0" in shown.credit and shown.size == (600, 400)
    assert folder_name(DEFAULT_PHOTOGRAPH) is None, "it belongs to every run"
    assert folder_name("chelsea").startswith("photo-chelsea-")
    cells = nbformat.read(ROOT / "notebooks" / "05_your_own_photograph.ipynb", as_version=4).cells
    assert any(f'photograph = "{DEFAULT_PHOTOGRAPH}"' in cell.source for cell in cells)


# ---------------------------------------------------------------- what is measured


@pytest.fixture(scope="module")
def model():
    return load_classifier("efficientnet_lite0")


def test_a_map_of_the_whole_lands_on_the_crop(model):
    picture = scene((400, 300))
    red = np.asarray(picture)[..., 0].astype(float)
    wanted = np.asarray(model.preprocess.cut(picture))[..., 0]
    for values in (red, red[::2, ::2]):
        crop = views.map_on_crop(values, picture, model.preprocess)
        assert crop.shape == wanted.shape and np.abs(crop - wanted).mean() < 4


def test_rank_correlation_is_one_with_itself_and_minus_one_with_its_reverse():
    values = np.random.default_rng(0).random((8, 8))
    table = views.rank_correlations({"a": values, "b": -values, "flat": np.zeros((8, 8))})
    assert table.loc["a", "a"] == pytest.approx(1) and table.loc["a", "b"] == pytest.approx(-1)
    assert (table.loc["flat"] == 0).all()


def test_classes_and_blur_effects_are_those_of_the_blur_experiment(model):
    crop = model.preprocess.cut(photograph("coffee").picture)
    top, probabilities = views.likeliest_classes(model, [crop])
    np.testing.assert_array_equal(top, top_classes(model, [crop]))
    table = views.class_table(model, {"a": crop})
    assert table.loc[0, "a"] == f"espresso {probabilities[0].max():.1%}" and len(table) == 5
    y, x = np.mgrid[-1 : 1 : crop.height * 1j, -1 : 1 : crop.width * 1j]
    centred = np.exp(-2 * (x**2 + y**2))
    effects = views.blur_effects(model, crop, centred).set_index(["region", "picture"])
    assert len(effects) == 1 + 2 * 4
    before = effects.loc[("", "as it is")]
    assert before["first"] == "espresso" and before["probability"] == before["before"]
    by_hand = blurred(crop, object_region(centred), 10, "object")
    expected = views.likeliest_classes(model, [by_hand])[1].max()
    assert effects.loc[("LICNN", "object blurred"), "probability"] == pytest.approx(expected, abs=1e-5)


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
    figure = figures.blurs(crops, np.ones((64, 64), bool), table, "n = 1")
    assert figure.get_suptitle() == "The likeliest class changes with the object blurred"
    title = figures.blur_controls(table, 0.35, "n").get_suptitle()
    assert "50% by LICNN's region, of 50% by the best one (LICNN)" in title.replace("\n", " ")
    assert "no difference" in figures.blur_controls(table.assign(before=0.5), 0.35, "n").get_suptitle()
    maps = dict.fromkeys(figures.FULL_NAMES, np.zeros((40, 60)))
    figure = figures.bottom_up(np.zeros((40, 60, 3), np.uint8), maps, "n = 1")
    assert figure.get_suptitle().startswith("Nothing stands out")


# ---------------------------------------------------------------- the command


def test_the_command_makes_a_notebook_and_pictures_from_any_folder(tmp_path):
    name = b"my photo $\\frac{\xe9.jpg"
    scene((300, 200)).save(tmp_path / os.fsdecode(name))
    done = subprocess.run(
        ["bash", str(ROOT / "run_all.sh"), "photo", name, "--no-venv"],
        capture_output=True,
        text=True,
        env=os.environ | {"SALIENCY_RESULTS": "out"},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("photo-my-photo-") and "background blurred" in done.stdout
    printed = dict(line.split(": ", 1) for line in done.stdout.splitlines()[-2:])
    assert printed["pictures"] == f"out/{folder.name}/figures"
    assert (tmp_path / printed["notebook"]).is_file()
    assert len(list((folder / "figures").glob("05_*"))) == 8
    assert (folder / "notebooks" / "05_your_own_photograph.ipynb").exists()
    assert len(pd.read_csv(folder / "tables" / "05_classes.csv")) == 5
