"""Loaders on tiny stand-ins of every layout, the message for every kind of bad input, downloads from a local
server, and the real sets where $SALIENCY_DATA points to them."""

import functools
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from saliencylib import data
from saliencylib.data import registry as datasets


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root."""
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path))
    return tmp_path


def picture(path: Path, width: int, height: int, colour=(200, 100, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)
    return path


def message(error: type[Exception], call, *arguments) -> str:
    with pytest.raises(data.DataNotFound) as caught:
        call(*arguments)
    assert type(caught.value) is error
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ";" in text  # problem; remedy.
    return text


# ------------------------------------------------------------------------------------------------ registry


def test_registry_describes_every_set_and_every_set_has_a_loader():
    names = {"stl10", "mit1003", "osie", "crowd", "scene", "pascal", "salicon_val_recovered", "imagenet_val"}
    names |= {"imagenet_a", "nips2017_dev", "tinyimagenet10", "clothing96", "photographs", "cluttered digits"}
    names.add("rc_reference")
    names |= {f"salicon_{edition}_{kind}" for edition in (2015, 2017) for kind in ("mouse", "fixations")}
    assert set(data.REGISTRY) == names
    for name, entry in data.REGISTRY.items():
        assert entry.name == name and entry.title and entry.licence and entry.how and entry.files
        assert entry.kind in ("real", "embedded")
    showable = {name for name, entry in data.REGISTRY.items() if entry.showable}
    embedded = {"photographs", "cluttered digits"}
    assert showable == {"osie", "crowd", "scene", "clothing96", "nips2017_dev"} | embedded
    assert data.REGISTRY["stl10"].size == sum(data.STL10_COUNTS.values()) * (3 * 96 * 96 + 1)


def test_root_is_the_variable_else_data_in_the_project(monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path))
    assert data.root() == tmp_path
    monkeypatch.setenv("SALIENCY_DATA", "elsewhere")  # relative: to the project, wherever Python was started
    monkeypatch.chdir(tmp_path)
    assert data.root() == datasets.PROJECT / "elsewhere"
    for unset in (
        lambda: monkeypatch.setenv("SALIENCY_DATA", ""),
        lambda: monkeypatch.delenv("SALIENCY_DATA"),
    ):
        unset()
        assert data.root() == datasets.PROJECT / "data"


@pytest.mark.parametrize("name", [n for n, entry in data.REGISTRY.items() if entry.kind == "real"])
def test_absent_set_is_not_available_and_says_how_to_get_it(root, name):
    assert not data.available(name)
    assert data.fingerprint(name) == ""
    text = message(data.DataNotFound, data.verify, name)
    assert "is missing" in text and data.REGISTRY[name].how in text and str(root) in text


def test_missing_root_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path / "nowhere"))
    text = message(data.DataNotFound, data.fixation_set, "osie")
    assert f"The data root {tmp_path / 'nowhere'} is not there" in text and "SALIENCY_DATA" in text


@pytest.mark.parametrize(
    "call",
    [
        lambda: data.available("cifar10"),
        lambda: data.verify("cifar10"),
        lambda: data.stl10("validation"),
        lambda: data.tinyimagenet10("validation"),
        lambda: data.clothing96("val"),
        lambda: data.clothing96("test", per_class=0),
        lambda: data.fixation_set("salicon"),
        lambda: data.salicon("test", "2015", "mouse"),
        lambda: data.salicon("val", "2016", "mouse"),
        lambda: data.salicon("val", "2015", "gaze"),
    ],
)
def test_wrong_arguments_are_value_errors_that_name_the_valid_ones(call):
    with pytest.raises(ValueError, match="choose one of|at least 1"):
        call()


def test_salicon_edition_and_kind_are_required():
    with pytest.raises(TypeError):
        data.salicon("val")


def test_fingerprint_follows_names_and_sizes(root):
    fixations(root, "osie", [[(10, 10)]])
    first = data.fingerprint("osie")
    assert first == data.fingerprint("osie") and len(first) == 64
    file = root / "fixations/osie/images/more.jpg"
    file.write_bytes(b"12")
    second = data.fingerprint("osie")
    file.write_bytes(b"123")
    third = data.fingerprint("osie")
    file.rename(file.with_name("other.jpg"))
    assert len({first, second, third, data.fingerprint("osie")}) == 4
    assert data.fingerprint("photographs") and data.fingerprint("cluttered digits")


# ------------------------------------------------------------------------------------------------ STL-10


@pytest.fixture
def small_stl10(root, monkeypatch):
    """Official layout with 3 training and 2 test images, whose pixels count from 0 to 250 in file order."""
    folder = root / "stl10_binary"
    folder.mkdir()
    monkeypatch.setattr(data, "STL10_COUNTS", {"train": 3, "test": 2})
    checksums = {}
    for split, count in data.STL10_COUNTS.items():
        images = np.arange(count * 3 * 96 * 96, dtype=np.int64).reshape(count, 3, 96, 96) % 251
        files = {
            f"{split}_X.bin": images.astype(np.uint8),
            f"{split}_y.bin": np.arange(8, 8 + count) % 10 + 1,
        }
        for name, content in files.items():
            (folder / name).write_bytes(content.astype(np.uint8).tobytes())
            checksums[name] = "md5:" + hashlib.md5((folder / name).read_bytes()).hexdigest()
    entry = replace(data.REGISTRY["stl10"], count=data.STL10_COUNTS, checksums=checksums)
    monkeypatch.setitem(data.REGISTRY, "stl10", entry)
    return folder


def test_stl10_reads_channel_column_row(small_stl10):
    train = data.stl10("train")
    assert train.images.shape == (3, 96, 96, 3) and train.images.dtype == np.uint8
    assert train.labels.tolist() == [8, 9, 0] and train.labels.dtype == np.int64
    assert len(train) == 3 and len(train.classes) == 10 and train.name == "stl10"
    image, channel, column, row = 2, 1, 40, 7
    assert (
        train.images[image, row, column, channel] == (((image * 3 + channel) * 96 + column) * 96 + row) % 251
    )
    assert data.available("stl10")
    assert data.verify("stl10") == "STL-10, labelled images: 3 train, 2 test, complete."


def test_stl10_of_wrong_size_gives_the_expected_bytes(small_stl10):
    path = small_stl10 / "test_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    text = message(data.DataInvalid, data.stl10, "test")
    assert "test_X.bin is truncated" in text and "55,295 bytes, expected 55,296" in text
    assert not data.available("stl10")
    path.write_bytes(bytes(55_297))
    assert "too long" in message(data.DataInvalid, data.stl10, "test")


def test_stl10_official_sizes(root):
    folder = root / "stl10_binary"
    folder.mkdir()
    assert "expected 138,240,000 bytes" in message(data.DataNotFound, data.stl10, "train")
    (folder / "test_X.bin").write_bytes(b"part")
    assert "expected 221,184,000" in message(data.DataInvalid, data.stl10, "test")


def test_stl10_label_out_of_range(small_stl10):
    (small_stl10 / "test_y.bin").write_bytes(bytes([1, 11]))
    text = message(data.DataInvalid, data.stl10, "test")
    assert "test_y.bin has the label 11 at position 1, expected 1 to 10" in text


def test_stl10_wrong_checksum(small_stl10):
    (small_stl10 / "test_y.bin").write_bytes(bytes([3, 3]))
    assert "test_y.bin has the wrong md5 checksum" in message(data.DataInvalid, data.stl10, "test")


def test_stl10_images_are_hashed_by_verify_only(small_stl10):
    (small_stl10 / "train_X.bin").write_bytes(bytes(3 * 27648))
    data.stl10("train")
    assert "train_X.bin has the wrong md5 checksum" in message(data.DataInvalid, data.verify, "stl10")


# ------------------------------------------------------------------------------------- folders, one a class


@pytest.fixture
def clothing(root):
    """Official layout of clothing96's test split: class c has c + 1 images of brightness 10 c + i."""
    for c, label in enumerate(data.CLOTHING96_CLASSES):
        for i in range(c + 1):
            picture(root / f"clothing96/test/{label}/{i:02}.png", 96, 96, (10 * c + i,) * 3)
    return root / "clothing96/test"


def test_class_folders_are_sorted_and_labelled(clothing):
    (clothing / "hat/notes.txt").write_text("not an image, and not read")
    loaded = data.clothing96("test")
    assert loaded.images.shape == (55, 96, 96, 3) and loaded.images.dtype == np.uint8
    assert loaded.labels.tolist() == [c for c in range(10) for _ in range(c + 1)]
    assert loaded.images[:, 0, 0, 0].tolist() == [10 * c + i for c in range(10) for i in range(c + 1)]
    assert loaded.classes == data.CLOTHING96_CLASSES


def test_per_class_takes_evenly_spaced_files(clothing):
    loaded = data.clothing96("test", per_class=3)
    assert loaded.images[loaded.labels == 8, 0, 0, 0].tolist() == [80, 83, 86]
    assert loaded.images[loaded.labels == 9, 0, 0, 0].tolist() == [90, 93, 96]
    assert np.bincount(loaded.labels).tolist() == [1, 2] + [3] * 8


def test_class_folders_bad_input(clothing):
    bad = picture(clothing / "hat/01.png", 95, 96)
    assert "01.png has 95x96 pixels, expected 96x96" in message(data.DataInvalid, data.clothing96, "test")
    bad.write_text("no image")
    assert "01.png is not an image" in message(data.DataInvalid, data.clothing96, "test")
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(noise).save(bad)
    bad.write_bytes(bad.read_bytes()[:9000])
    assert "01.png is a truncated image" in message(data.DataInvalid, data.clothing96, "test")
    for file in (clothing / "hat").iterdir():
        file.unlink()
    assert "hat is empty, expected images" in message(data.DataInvalid, data.clothing96, "test")
    (clothing / "hat").rmdir()
    assert "hat is missing" in message(data.DataNotFound, data.clothing96, "test")


def test_verify_counts(clothing):
    for split in ("train", "validation"):
        for label in data.CLOTHING96_CLASSES:
            picture(clothing.parent / split / label / "0.png", 96, 96)
    text = message(data.DataInvalid, data.verify, "clothing96")
    assert "holds 10 train, 10 validation, 55 test, expected 3,068 train, 341 validation, 372 test" in text


def test_tinyimagenet10_grey_files_become_rgb(root):
    for label in data.TINYIMAGENET10_CLASSES:
        folder = root / "tinyimagenet10/train" / label
        folder.mkdir(parents=True)
        Image.new("L", (64, 64), 77).save(folder / "a.png")
    loaded = data.tinyimagenet10("train")
    assert loaded.images.shape == (10, 64, 64, 3) and (loaded.images == 77).all()


# ------------------------------------------------------------------------------------------- fixation sets


def fixations(root: Path, name: str, points: list[list[tuple[float, float]]], **changes) -> Path:
    """fixations/NAME with an image of 40x20 stored pixels (original 80x40) for each list of positions."""
    folder = root / "fixations" / name
    flat = np.array([point for item in points for point in item], np.float32).reshape(-1, 2)
    fields = {
        "name": np.array([f"i{n}" for n in range(len(points))]),
        "width": np.full(len(points), 80, np.int32),
        "height": np.full(len(points), 40, np.int32),
        "offset": np.cumsum([0] + [len(item) for item in points]),
        "x": flat[:, 0],
        "y": flat[:, 1],
        "subject": np.zeros(len(flat), np.int16),
    } | changes
    for n in range(len(points)):
        picture(folder / f"images/i{n}.png", 40, 20, (n, n, n))
    path = folder / "fixations.npz"
    np.savez(path, **{key: value for key, value in fields.items() if value is not None})
    return path


def test_fixation_set(root):
    fixations(
        root, "osie", [[(0, 0), (79.9, 39.9), (79.9, 39.9)], [], [(40, 20), (80, 3), (-0.5, 3), (3, 40)]]
    )
    osie = data.fixation_set("osie")
    assert (len(osie), osie.name, osie.names) == (3, "osie", ["i0", "i1", "i2"])
    assert (osie.widths, osie.heights) == ([80] * 3, [40] * 3)
    assert [len(x) for x in osie.x] == [3, 0, 4] == [len(item) for item in osie.subject]
    images = osie.images(10, 30)
    assert images.shape == (3, 10, 30, 3) and images.dtype == np.uint8
    assert images[:, 5, 5, 0].tolist() == [0, 1, 2]
    points = osie.points(10, 30)
    assert [x.tolist() for x, _ in points] == [[0, 29, 29], [], [15]]  # 80, -0.5 and y = 40 lie outside
    assert [y.tolist() for _, y in points] == [[0, 9, 9], [], [5]]
    assert points[0][0].dtype.kind == "f"


def test_pascal_counts_from_one(root):
    fixations(root, "pascal", [[(1, 1), (80, 40), (41, 21)]])
    x, y = data.fixation_set("pascal").points(40, 80)[0]
    assert (x.tolist(), y.tolist()) == ([0, 79, 40], [0, 39, 20])


def test_images_are_stretched_bilinear_and_antialiased(root):
    fixations(root, "osie", [[(1, 1)]])
    path = root / "fixations/osie/images/i0.png"
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, ::2] = 200  # stripes of a pixel: without antialiasing they would not become grey
    Image.fromarray(pixels).save(path)
    small = data.fixation_set("osie").images(5, 10)
    assert np.abs(small[0, :, 1:-1].astype(int) - 100).max() <= 15


@pytest.mark.parametrize("indices", [[2, 0], np.array([2, 0]), slice(2, None, -2)])
def test_select(root, indices):
    fixations(root, "osie", [[(1, 1)], [(2, 2)], [(3, 3)]])
    chosen = data.fixation_set("osie").select(indices)
    assert isinstance(chosen, data.FixationSet)
    assert chosen.names == ["i2", "i0"] and [x.tolist() for x in chosen.x] == [[3], [1]]
    assert [path.stem for path in chosen.paths] == ["i2", "i0"]
    assert chosen.images(4, 4)[:, 0, 0, 0].tolist() == [2, 0]
    mask = data.fixation_set("osie").select(np.array([False, True, False]))
    assert mask.names == ["i1"] and mask.select([]).images(4, 4).shape == (0, 4, 4, 3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"offset": None, "subject": None}, "lacks the fields offset, subject"),
        ({"width": np.array([80])}, "(1,) for width, expected numbers of the shape (2,)"),
        ({"offset": np.array([0, 1, 3])}, "offset that does not rise from 0 to its 2 points"),
        ({"offset": np.array([0, 3, 2])}, "offset that does not rise"),
        ({"x": np.array([np.nan, 1])}, "positions that are not finite"),
        ({"y": np.array(["1", "2"])}, "for y, expected numbers"),
        ({"height": np.array([40, 0])}, "a width or height below 1"),
        ({"x": np.array([[1], [2]], object)}, "is not a whole npz file of plain arrays"),  # would need pickle
    ],
)
def test_fixations_with_bad_fields(root, changes, text):
    fixations(root, "crowd", [[(1, 1)], [(2, 2)]], **changes)
    assert text in message(data.DataInvalid, data.fixation_set, "crowd")


def test_damaged_fixations(root):
    path = fixations(root, "crowd", [[(1, 1)]])
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"x.npy") + 140] ^= 255  # inside the values: the archive's own checksum finds it
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    for content in (whole[:300], b"", b"text", bytes(flipped), array.getvalue()):
        path.write_bytes(content)
        assert "is not a whole npz file" in message(data.DataInvalid, data.fixation_set, "crowd")


def test_fixation_images_bad_input(root):
    fixations(root, "crowd", [[(1, 1)], [(2, 2)]])
    picture(root / "fixations/crowd/images/i1.png", 40, 30)
    crowd = data.fixation_set("crowd")
    text = message(data.DataInvalid, crowd.images, 8, 8)
    assert "i1.png has 40x30 pixels, expected the shape of its 80x40 original" in text
    (root / "fixations/crowd/images/i1.png").unlink()
    assert "i1.png is missing" in message(data.DataNotFound, crowd.images, 8, 8)
    text = message(data.DataNotFound, data.fixation_set, "crowd")
    assert "i1.* is missing, expected one image for each of 2 names, 1 absent" in text


# ------------------------------------------------------------------------------------------------- SALICON


def salicon_folders(root: Path, edition: str, split: str = "val") -> Path:
    """images and maps of two images, 64x48, the map of image i with the value 100 i."""
    folder = root / "salicon" / edition
    for n in range(2):
        picture(folder / f"images/{split}/COCO_{split}2014_{n:012}.jpg", 64, 48)
        picture(folder / f"maps/{split}/COCO_{split}2014_{n:012}.png", 64, 48, (100 * n,) * 3)
    return folder


def salicon_json(folder: Path, split: str = "val") -> Path:
    images = [{"id": 7 + n, "file_name": f"COCO_{split}2014_{n:012}.jpg"} for n in range(2)]
    annotations = [
        {"id": 1, "image_id": 8, "worker_id": 5, "fixations": [[48, 64], [1, 1]]},  # row, column, from 1
        {"id": 2, "image_id": 7, "worker_id": 6, "fixations": []},
        {"id": 3, "image_id": 8, "worker_id": 6, "fixations": [[2, 30]]},
    ]
    path = folder / f"fixations/fixations_{split}2014.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations}))
    return path


def salicon_mat(folder: Path, split: str = "val") -> Path:
    target = folder / "fixations" / split
    target.mkdir(parents=True)
    gaze = np.zeros(2, dtype=[("location", "O"), ("timestamp", "O"), ("fixations", "O")])
    gaze[0] = (np.array([[1.0, 2.0], [3, 4], [5, 6]]), np.arange(3), np.array([[64.0, 48.0]]))  # column, row
    gaze[1] = (np.array([[7.0, 8.0]]), np.arange(1), np.empty((0, 0)))
    for n in range(2):
        savemat(target / f"COCO_{split}2014_{n:012}.mat", {"gaze": gaze, "resolution": [48, 64]})
    return target


def test_salicon_json(root):
    folder = salicon_folders(root, "2015")
    salicon_json(folder)
    val = data.salicon("val", edition="2015", kind="mouse")
    assert (val.name, val.edition, val.kind) == ("salicon_2015_mouse", "2015", "mouse")
    assert val.names == [f"COCO_val2014_{n:012}" for n in range(2)]
    assert (val.widths, val.heights) == ([64, 64], [48, 48])
    assert [x.tolist() for x in val.x] == [[], [64, 1, 30]] and val.subject[1].tolist() == [0, 0, 1]
    x, y = val.points(48, 64)[1]
    assert (x.tolist(), y.tolist()) == ([63, 0, 29], [47, 0, 1])
    maps = val.maps(12, 16)
    assert maps.shape == (2, 12, 16) and maps.dtype == np.float32
    assert np.allclose(maps[:, 0, 0], [0, 100 / 255])
    assert val.images(12, 16).shape == (2, 12, 16, 3)
    assert val.select([1]).maps(4, 4).mean() > 0.3


def test_salicon_json_holds_one_kind_an_edition(root):
    for edition, absent in (("2015", "fixations"), ("2017", "mouse")):
        salicon_json(salicon_folders(root, edition))
        text = message(data.DataInvalid, data.salicon, "val", edition, absent)
        assert f"has no points of the kind '{absent}', expected one .mat file an image" in text
    assert data.salicon("val", "2017", "fixations").name == "salicon_2017_fixations"


@pytest.mark.parametrize("edition", ["2015", "2017"])
def test_salicon_mat_holds_both_kinds(root, edition):
    salicon_mat(salicon_folders(root, edition))
    mouse = data.salicon("val", edition, "mouse")
    assert mouse.x[0].tolist() == [1, 3, 5, 7] and mouse.y[0].tolist() == [2, 4, 6, 8]
    assert mouse.subject[0].tolist() == [0, 0, 0, 1]
    fixed = data.salicon("val", edition, "fixations")
    x, y = fixed.points(48, 64)[0]
    assert (x.tolist(), y.tolist()) == ([63], [47])


def test_salicon_availability_asks_for_points_of_both_splits(root):
    for split in ("train", "val"):
        salicon_folders(root, "2015", split)
    salicon_json(root / "salicon/2015", "train")
    assert not data.available("salicon_2015_mouse")
    salicon_json(root / "salicon/2015", "val")
    assert data.available("salicon_2015_mouse") and not data.available("salicon_2015_fixations")
    assert "holds 2 train, 2 val, expected 10,000 train, 5,000 val" in message(
        data.DataInvalid, data.verify, "salicon_2015_mouse"
    )


def test_salicon_bad_input(root):
    folder = salicon_folders(root, "2015")
    call = (data.salicon, "val", "2015", "mouse")
    assert "fixations_val2014.json is missing" in message(data.DataNotFound, *call)
    path = salicon_json(folder)
    whole = path.read_text()
    for content in (
        whole[:100],
        whole.replace('"image_id": 8', '"image_id": 9'),
        whole.replace("[48, 64]", "[48]"),
        "[]",
    ):
        path.write_text(content)
        assert "is not a whole annotation file" in message(data.DataInvalid, *call)
    path.write_text(whole.replace("000000000001.jpg", "000000000005.jpg"))
    assert "lacks 1 of 2 images, first COCO_val2014_000000000001" in message(data.DataInvalid, *call)
    mats = salicon_mat(folder)
    damaged = mats / "COCO_val2014_000000000001.mat"
    damaged.write_bytes(damaged.read_bytes()[:200])
    assert "000000000001.mat is not a whole SALICON file" in message(data.DataInvalid, *call)
    damaged.unlink()
    assert "000000000001.mat is missing" in message(data.DataNotFound, *call)
    next((folder / "maps/val").iterdir()).unlink()
    assert "maps/val" in message(data.DataNotFound, *call)


def test_salicon_val_recovered(root):
    for n in (1, 0):
        picture(root / f"salicon_val_recovered/images/{n:03}.jpg", 320, 240)
        picture(root / f"salicon_val_recovered/maps/{n:03}.png", 320, 240, (51 * n,) * 3)
    pairs = data.salicon_val_recovered()
    assert pairs.images.shape == (2, 240, 320, 3) and pairs.images.dtype == np.uint8
    assert pairs.maps.dtype == np.float32 and np.allclose(pairs.maps[:, 3, 3], [0, 0.2])
    assert pairs.names == ["000", "001"] and len(pairs) == 2
    picture(root / "salicon_val_recovered/maps/000.png", 240, 320)
    assert "has 240x320 pixels, expected 320x240" in message(data.DataInvalid, data.salicon_val_recovered)


def test_rc_reference(root):
    for n in (1, 2):
        picture(root / f"rc_reference/DataSet{n}/Imgs/a{n}.jpg", 30, 20)
        mask = np.zeros((20, 30), np.uint8)
        mask[5:9, 4 : 9 + n] = 255
        Image.fromarray(mask).save(root / f"rc_reference/DataSet{n}/Imgs/a{n}.png")
    loaded = data.rc_reference()
    assert [image.shape for image in loaded.images] == [(20, 30, 3)] * 2 and len(loaded) == 2
    assert [int(mask.sum()) for mask in loaded.masks] == [4 * 6, 4 * 7]
    picture(root / "rc_reference/DataSet2/Imgs/a2.png", 31, 20)
    assert "a2.png is no mask" in message(data.DataInvalid, data.rc_reference)
    (root / "rc_reference/DataSet2/Imgs/a2.png").unlink()
    assert "a2.png is missing" in message(data.DataNotFound, data.rc_reference)


# -------------------------------------------------------------------------------------------- photographs


@pytest.fixture
def sample(root):
    """imagenet_val in the layout with labels.csv: b.JPEG was 100x50 and is stored squashed to 40x40."""
    folder = root / "imagenet_val"
    picture(folder / "images/b.JPEG", 40, 40)
    picture(folder / "images/a.JPEG", 60, 30)
    table = "file,wnid,index,width,height,boxes,source\n"
    table += "b.JPEG,n01440764,0,100,50,0.1 0.2 0.3 0.4;0 0 1 1,x\na.JPEG,n15075141,999,120,60,,x\n"
    (folder / "labels.csv").write_text(table)
    return folder / "labels.csv"


def test_imagenet_val_by_csv(sample):
    photos = data.imagenet_val()
    assert [path.name for path in photos.paths] == ["a.JPEG", "b.JPEG"]
    assert photos.labels.tolist() == [999, 0] and photos.accepted == [(999,), (0,)]
    assert [box.tolist() for box in photos.boxes] == [[], [[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]]]
    assert photos.boxes[0].shape == (0, 4)
    assert (photos.image(0).size, photos.image(1).size) == ((60, 30), (100, 50))
    assert photos.image(1).mode == "RGB"
    chosen = photos.select([1])
    assert chosen.labels.tolist() == [0] and chosen.image(0).size == (100, 50) and len(chosen.credits) == 1
    assert "holds 2 images by labels.csv, expected 1,810" in message(
        data.DataInvalid, data.verify, "imagenet_val"
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (",999,", ",1000,", "has the label 1000 at position 0, expected 0 to 999"),
        (",999,", ",cat,", "has a value that cannot be read"),
        ("index", "label", "lacks the columns index"),
        ("0.1 0.2 0.3 0.4", "0.1 0.2 1.3 0.4", "has a box outside its image b.JPEG"),
        ("0.1 0.2 0.3 0.4", "0.1 0.2 0.3", "has not four numbers"),
        (",120,60,", ",0,60,", "a width or height below 1 for a.JPEG"),
        (",120,60,", ",120,,", "has a value that cannot be read"),
    ],
)
def test_labels_csv_bad_input(sample, old, new, text):
    table = sample.read_text()
    assert old in table
    sample.write_text(table.replace(old, new))
    assert text in message(data.DataInvalid, data.imagenet_val)


def test_labels_csv_and_its_images_missing_or_damaged(sample):
    table = sample.read_text()
    sample.write_text(table + "c.JPEG,n01440764,0,100,50,,x\n")
    text = message(data.DataNotFound, data.imagenet_val)
    assert "c.JPEG is missing, expected an image for each of 3 rows of labels.csv, 1 absent" in text
    for content, problem in ((b"\xff\xfe\x00", "cannot be read as a table"), (b"file,index\n", "is empty")):
        sample.write_bytes(content)
        assert f"labels.csv {problem}" in message(data.DataInvalid, data.imagenet_val)
    sample.unlink()
    assert "labels.csv is missing" in message(data.DataNotFound, data.imagenet_val)
    sample.write_text(table)
    (sample.parent / "images/a.JPEG").write_text("no image")
    assert "a.JPEG is not an image" in message(data.DataInvalid, data.imagenet_val().image, 0)


@pytest.mark.parametrize(
    ("load", "folder"), [(data.imagenet_val, "imagenet_val"), (data.imagenet_a, "imagenet-a")]
)
def test_synset_folders(root, load, folder):
    for wnid, name in (("n15075141", "z"), ("n01440764", "b"), ("n01440764", "a"), ("n02123045", "c")):
        picture(root / folder / wnid / f"{name}.JPEG", 30, 20)
    (root / folder / "README.txt").write_text("ignored")
    photos = load()
    assert [path.stem for path in photos.paths] == ["a", "b", "c", "z"]
    assert photos.labels.tolist() == [0, 0, 281, 999] and photos.labels.dtype == np.int64
    assert photos.accepted[2] == (281,) and photos.boxes[0].shape == (0, 4)
    assert photos.image(0).size == (30, 20)
    (root / folder / "n02123394").mkdir()
    assert "n02123394 is empty" in message(data.DataInvalid, load)
    (root / folder / "n99999999").mkdir()
    assert "n99999999 is none of the 1000 ImageNet synsets" in message(data.DataInvalid, load)


def test_folder_without_synsets(root):
    picture(root / "imagenet-a/a.jpg", 30, 20)
    assert "has no folders, expected one of images a synset" in message(data.DataInvalid, data.imagenet_a)


def test_nips2017_dev_names_its_authors(root):
    picture(root / "nips2017_dev/images/a.jpg", 30, 30)
    table = 'file,wnid,index,author,url,licence\na.jpg,n03447447,576,"Eden, Jim",https://flickr/1,by\n'
    (root / "nips2017_dev/labels.csv").write_text(table)
    photos = data.nips2017_dev()
    assert photos.credits == ["Eden, Jim, https://flickr/1, CC BY 2.0"] and photos.labels.tolist() == [576]
    assert photos.image(0).size == (30, 30)


def test_photographs_need_no_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path / "nowhere"))
    photos = data.photographs()
    stems = [path.stem for path in photos.paths]
    assert stems == sorted(stems) and len(photos) == 8
    labels = dict(zip(stems, photos.labels.tolist(), strict=True))
    assert (labels["chelsea"], labels["coffee"], labels["coins"]) == (281, 967, -1)
    for label, accepted, credit in zip(photos.labels, photos.accepted, photos.credits, strict=True):
        assert accepted[:1] == ((label,) if label >= 0 else ()) and all(0 <= i < 1000 for i in accepted)
        assert "scikit-image" in credit
    assert photos.image(stems.index("camera")).mode == "RGB"
    assert data.verify("photographs") == "scikit-image's own photographs: 8 images, complete."
    assert data.download("photographs") == photos.paths[0].parent


# ---------------------------------------------------------------------------------------------- downloads


class Server(http.server.ThreadingHTTPServer):
    requests: list[str]


@pytest.fixture
def server(tmp_path_factory):
    """A web server on this machine over an empty folder; it notes what was asked of it."""
    folder = tmp_path_factory.mktemp("web")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_):
            self.server.requests.append(self.path)

        def log_message(self, *_):
            pass

    running = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    running.requests, running.folder = [], folder
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def serve(server, monkeypatch, name: str, source: Path, archive: str) -> Path:
    """Puts `source` into an archive on the server and points the set's entry to it."""
    path = server.folder / archive
    with tarfile.open(path, "w:gz" if archive.endswith("gz") else "w") as tar:
        tar.add(source, source.name)
    entry = data.REGISTRY[name]
    checksums = entry.checksums | {archive: "md5:" + hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setitem(data.REGISTRY, name, replace(entry, checksums=checksums))
    monkeypatch.setitem(datasets.ARCHIVES, name, f"http://127.0.0.1:{server.server_port}/{archive}")
    return path


def remains(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_download_stl10(small_stl10, server, monkeypatch, tmp_path_factory):
    root = small_stl10.parent
    source = tmp_path_factory.mktemp("source") / "stl10_binary"
    small_stl10.rename(source)
    (source / "unlabeled_X.bin").write_bytes(b"not needed")
    serve(server, monkeypatch, "stl10", source, "stl10_binary.tar.gz")
    assert data.download("stl10") == small_stl10
    assert remains(root) == ["stl10_binary"] and len(remains(small_stl10)) == 4
    assert len(data.stl10("train")) == 3 and len(server.requests) == 1
    data.download("stl10")
    assert len(server.requests) == 1  # complete: not asked again
    (small_stl10 / "train_X.bin").write_bytes(b"half")
    data.download("stl10")
    assert len(server.requests) == 2 and len(data.stl10("train")) == 3


def test_download_resumes_after_the_archive(small_stl10, server, monkeypatch, tmp_path_factory):
    root = small_stl10.parent
    source = tmp_path_factory.mktemp("source") / "stl10_binary"
    small_stl10.rename(source)
    archive = serve(server, monkeypatch, "stl10", source, "stl10_binary.tar.gz")
    (root / archive.name).write_bytes(archive.read_bytes())  # fetched before an interruption
    (root / ".stl10_binary.part").mkdir()
    data.download("stl10")
    assert server.requests == [] and remains(root) == ["stl10_binary"]


def test_download_with_a_wrong_checksum_keeps_nothing(root, server, monkeypatch, tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "imagenet-a"
    picture(source / "n01440764/a.jpg", 30, 20)
    path = serve(server, monkeypatch, "imagenet_a", source, "imagenet-a.tar")
    path.write_bytes(path.read_bytes() + b"x")
    text = message(data.DataInvalid, data.download, "imagenet_a")
    assert "did not have the expected checksum" in text and remains(root) == []


def test_download_checks_each_file_before_it_gets_its_name(
    small_stl10, server, monkeypatch, tmp_path_factory
):
    source = tmp_path_factory.mktemp("source") / "stl10_binary"
    small_stl10.rename(source)
    (source / "test_X.bin").write_bytes(bytes(2 * 27_648))
    serve(server, monkeypatch, "stl10", source, "stl10_binary.tar.gz")
    assert "test_X.bin has the wrong md5 checksum" in message(data.DataInvalid, data.download, "stl10")
    assert not small_stl10.exists()


def test_download_imagenet_a(root, server, monkeypatch, tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "imagenet-a"
    for wnid in ("n01440764", "n02123045"):
        picture(source / wnid / "a.jpg", 30, 20)
    serve(server, monkeypatch, "imagenet_a", source, "imagenet-a.tar")
    monkeypatch.setitem(data.REGISTRY["imagenet_a"].count, "images", 2)
    data.download("imagenet_a")
    assert data.imagenet_a().labels.tolist() == [0, 281] and remains(root) == ["imagenet-a"]
    (root / "imagenet-a/n01440764/a.jpg").unlink()
    assert "is incomplete; delete this folder" in message(data.DataInvalid, data.download, "imagenet_a")


def test_download_of_an_archive_without_the_files(root, server, monkeypatch, tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "other"
    picture(source / "a.jpg", 30, 20)
    path = serve(server, monkeypatch, "imagenet_a", source, "imagenet-a.tar")
    assert "imagenet-a.tar lacks imagenet-a" in message(data.DataInvalid, data.download, "imagenet_a")
    (root / path.name).unlink()
    path.write_text("no archive")
    checksums = {"imagenet-a.tar": "md5:" + hashlib.md5(b"no archive").hexdigest()}
    monkeypatch.setitem(
        data.REGISTRY, "imagenet_a", replace(data.REGISTRY["imagenet_a"], checksums=checksums)
    )
    assert "is not a whole tar archive" in message(data.DataInvalid, data.download, "imagenet_a")
    assert not (root / "imagenet-a").exists()


def test_download_without_network_or_disk(root, server, monkeypatch):
    monkeypatch.setitem(
        datasets.ARCHIVES, "imagenet_a", f"http://127.0.0.1:{server.server_port}/imagenet-a.tar"
    )
    text = message(data.DataNotFound, data.download, "imagenet_a")
    assert "could not be fetched (HTTPError)" in text and str(root) in text
    (root / "file").write_text("")
    monkeypatch.setenv("SALIENCY_DATA", str(root / "file"))  # no folder can be made here
    assert "could not be written" in message(data.DataNotFound, data.download, "imagenet_a")


def test_download_of_what_needs_a_person(root):
    for name in ("imagenet_val", "mit1003", "salicon_2015_mouse", "clothing96"):
        assert data.REGISTRY[name].how in message(data.DataNotFound, data.download, name)


# --------------------------------------------------------------------------------------------- the real data


def real(name: str):
    if not os.environ.get("SALIENCY_DATA"):
        pytest.skip("SALIENCY_DATA is not set: no real data to test on")
    if not data.available(name):
        pytest.skip(f"{name} is not below SALIENCY_DATA")


@pytest.mark.parametrize("name", data.FIXATION_SETS)
def test_real_fixation_sets_hold_what_their_authors_say(name):
    real(name)
    looked = data.fixation_set(name)
    count = data.REGISTRY[name].count
    assert (len(looked), sum(len(x) for x in looked.x)) == (count["images"], count["points"])
    kept = sum(len(x) for x, _ in looked.points(96, 128))
    assert 0 <= count["points"] - kept <= 3  # three positions of crowd lie on the far edge
    assert looked.select(range(3)).images(48, 64).shape == (3, 48, 64, 3)


@pytest.mark.parametrize("name", ["salicon_val_recovered", "nips2017_dev", "clothing96", "rc_reference"])
def test_real_set_is_complete(name):
    real(name)
    assert data.verify(name).endswith("complete.")


def test_real_imagenet_val_labels_are_sorted_synsets():
    real("imagenet_val")
    from timm.data import ImageNetInfo

    table = data.root() / "imagenet_val/labels.csv"
    if not table.exists():
        pytest.skip("imagenet_val has no labels.csv")
    photos = data.imagenet_val()
    assert len(photos) == data.REGISTRY["imagenet_val"].count["images by labels.csv"]
    wnid = {line.split(",")[0]: line.split(",")[1] for line in table.read_text().splitlines()[1:]}
    names = ImageNetInfo("imagenet-1k").label_names()
    assert all(
        names[label] == wnid[path.name] for label, path in zip(photos.labels, photos.paths, strict=True)
    )
    assert all(len(boxes) for boxes in photos.boxes)
    squashed = [path.name for path in photos.paths].index("ILSVRC2012_val_00000293.JPEG")
    assert Image.open(photos.paths[squashed]).size == (224, 224)
    assert photos.image(squashed).size == photos.sizes[squashed] == (500, 375)


def test_real_tinyimagenet10():
    real("tinyimagenet10")
    loaded = data.tinyimagenet10("test", per_class=20)
    assert loaded.images.shape == (200, 64, 64, 3) and np.bincount(loaded.labels).tolist() == [20] * 10
    assert data.tinyimagenet10("test").images.shape[0] == data.REGISTRY["tinyimagenet10"].count["test"]


def test_real_stl10_excerpt_is_not_taken_for_the_official_file():
    if not os.environ.get("SALIENCY_DATA"):
        pytest.skip("SALIENCY_DATA is not set: no real data to test on")
    folder = data.root() / "stl10_binary"
    if not (folder / "test_X.first161.bin").exists() or (folder / "test_X.bin").exists():
        pytest.skip("stl10_binary below SALIENCY_DATA is not the excerpt")
    text = message(data.DataNotFound, data.stl10, "test")
    assert "test_X.bin is missing, expected 221,184,000 bytes" in text
    for split in data.STL10_COUNTS:
        data.REGISTRY["stl10"].check_hash(folder / f"{split}_y.bin")


def test_stl10_excerpt_copied_to_the_official_name_is_truncated(root, monkeypatch):
    folder = root / "stl10_binary"
    folder.mkdir()
    (folder / "test_X.bin").write_bytes(bytes(161 * 27_648))
    text = message(data.DataInvalid, data.stl10, "test")
    assert "is truncated: it has 4,451,328 bytes, expected 221,184,000" in text
