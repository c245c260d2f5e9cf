"""Loaders on tiny stand-ins of every layout, the message for every kind of bad input, and the real sets
where $SALIENCY_DATA points to them."""

import functools
import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from saliencylib import data
from saliencylib.data import registry
from saliencylib.data.build_photographs import IMAGENET_VAL_NAMES
from saliencylib.data.fixations import FIXATION_SETS
from saliencylib.data.folders import is_left_behind
from saliencylib.data.images import CLOTHING96_CLASSES, TINYIMAGENET10_CLASSES, image_in
from saliencylib.data.manifest import manifest_of
from saliencylib.data.photosets import SETTLED_ON_TXT
from saliencylib.data.registry import REGISTRY, DataNotFound
from saliencylib.data.states import state_of
from saliencylib.places import ROOT


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root."""
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path))
    return tmp_path


def message(error: type[Exception], call, *arguments) -> str:
    with pytest.raises(data.DataNotFound) as caught:
        call(*arguments)
    assert type(caught.value) is error
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ";" in text  # problem; remedy.
    return text


# --- the layouts, each with a few small files --------------------------------------------------------------


def picture(path: Path, width: int, height: int, colour=(200, 100, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)
    return path


@pytest.fixture
def small_stl10(root, monkeypatch):
    """3 training and 2 test images, whose pixels count from 0 to 250 in file order."""
    folder = root / "stl10_binary"
    folder.mkdir()
    sizes, checksums = {}, {}
    for split, count in (("train", 3), ("test", 2)):
        images = np.arange(count * 3 * 96 * 96, dtype=np.int64).reshape(count, 3, 96, 96) % 251
        labels = np.arange(8, 8 + count) % 10 + 1
        for name, content in ((f"{split}_X.bin", images), (f"{split}_y.bin", labels)):
            (folder / name).write_bytes(content.astype(np.uint8).tobytes())
            sizes[name] = content.size
            checksums[name] = "md5:" + hashlib.md5((folder / name).read_bytes()).hexdigest()
    entry = replace(REGISTRY["stl10"], count={"train": 3, "test": 2}, sizes=sizes, checksums=checksums)
    monkeypatch.setitem(REGISTRY, "stl10", entry)
    return folder


def clothing(root: Path) -> None:
    """The test split: class c has c + 1 images of brightness 10 c + i."""
    for c, label in enumerate(CLOTHING96_CLASSES):
        for i in range(c + 1):
            picture(root / f"clothing96/test/{label}/{i:02}.png", 96, 96, (10 * c + i,) * 3)


def fixations(root: Path, name: str = "osie", points: list | None = None, **changes) -> Path:
    """An image of 40x20 stored pixels (original 80x40) for each list of positions."""
    points = points or [[(1, 1)], [(2, 2)], [(3, 3)]]
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
        picture(root / f"fixations/{name}/images/i{n}.png", 40, 20, (n, n, n))
    path = root / f"fixations/{name}/fixations.npz"
    np.savez(path, **{key: value for key, value in fields.items() if value is not None})
    return path


GAZE = np.zeros(2, dtype=[("location", "O"), ("timestamp", "O"), ("fixations", "O")])
GAZE[0] = (np.array([[1.0, 2.0], [3, 4], [5, 6]]), np.arange(3), np.array([[64.0, 48.0]]))  # column, row
GAZE[1] = (np.array([[7.0, 8.0]]), np.arange(1), np.empty((0, 0)))


def salicon(root: Path, edition: str = "2015", split: str = "val") -> None:
    """Two images, 64x48, the map of image i with the value 100 i, seen by two people."""
    folder = root / "salicon" / edition
    (folder / "fixations" / split).mkdir(parents=True)
    for n in range(2):
        picture(folder / f"images/{split}/i{n}.jpg", 64, 48)
        picture(folder / f"maps/{split}/i{n}.png", 64, 48, (100 * n,) * 3)
        savemat(folder / f"fixations/{split}/i{n}.mat", {"gaze": GAZE})


def recovered(root: Path) -> None:
    for n in (1, 0):
        picture(root / f"salicon_val_recovered/images/{n:03}.jpg", 320, 240)
        picture(root / f"salicon_val_recovered/maps/{n:03}.png", 320, 240, (51 * n,) * 3)


def reference(root: Path) -> None:
    for n in (1, 2):
        photo = picture(root / f"rc_reference/DataSet{n}/Imgs/a{n}.jpg", 30, 20)
        mask = np.zeros((20, 30), np.uint8)
        mask[5:9, 4 : 9 + n] = 255
        Image.fromarray(mask).save(photo.with_suffix(".png"))


TABLE = """file,wnid,index,width,height,boxes,source
b.JPEG,n01440764,0,100,50,0.1 0.2 0.3 0.4;0 0 1 1,x
a.JPEG,n15075141,999,120,60,,x
"""


def sample(root: Path) -> None:
    """imagenet_val in the layout with labels.csv: b.JPEG was 100x50 and is stored squashed to 40x40."""
    picture(root / "imagenet_val/images/b.JPEG", 40, 40)
    picture(root / "imagenet_val/images/a.JPEG", 60, 30)
    (root / "imagenet_val/labels.csv").write_text(TABLE)


def synsets(root: Path, folder: str = "imagenet-a") -> None:
    for wnid, name in (("n15075141", "z"), ("n01440764", "b"), ("n01440764", "a"), ("n02123045", "c")):
        picture(root / folder / wnid / f"{name}.JPEG", 30, 20)
    (root / folder / "README.txt").write_text("ignored")


# --- the registry ------------------------------------------------------------------------------------------


def test_registry_needs_nothing_but_python():
    """So that run_all.sh can say which data is there before it installs anything."""
    code = (
        "import sys; before = set(sys.modules); from saliencylib.data.registry import REGISTRY;"
        "[entry.present() for entry in REGISTRY.values() if entry.kind == 'real'];"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(loaded - set(sys.stdlib_module_names))"
    )
    ran = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout == "{'saliencylib'}\n"


@pytest.mark.parametrize("name", [n for n, entry in REGISTRY.items() if entry.kind == "real"])
def test_absent_set_is_not_available_and_says_how_to_get_it(root, name):
    assert not data.available(name) and data.fingerprint(name) == ""
    text = message(data.DataNotFound, data.verify, name)
    assert "is missing" in text and REGISTRY[name].how in text and str(root) in text


def test_missing_root_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path / "nowhere"))
    text = message(data.DataNotFound, data.fixation_set, "osie")
    assert f"The data root {tmp_path / 'nowhere'} is not there" in text and "SALIENCY_DATA" in text


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (data.available, ("cifar10",)),
        (data.verify, ("cifar10",)),
        (data.stl10, ("validation",)),
        (data.tinyimagenet10, ("validation",)),
        (data.clothing96, ("test", 0)),
        (data.fixation_set, ("salicon",)),
        (data.salicon, ("test", "2015", "mouse")),
        (data.salicon, ("val", "2016", "mouse")),
        (data.salicon, ("val", "2015", "gaze")),
    ],
)
def test_wrong_arguments_are_value_errors_that_name_the_valid_ones(call, arguments):
    with pytest.raises(ValueError, match="choose one of|at least 1"):
        call(*arguments)


def test_fingerprint_follows_names_and_sizes(root):
    fixations(root)
    file = root / "fixations/osie/images/more.jpg"
    found = [data.fingerprint("osie"), data.fingerprint("osie")]
    for content in (b"12", b"123"):
        file.write_bytes(content)
        found.append(data.fingerprint("osie"))
    file.rename(file.with_name("other.jpg"))
    assert len({*found, data.fingerprint("osie")}) == 4 and len(found[0]) == 64
    assert data.fingerprint("photographs") and data.fingerprint("cluttered digits")


# --- what the loaders read ---------------------------------------------------------------------------------


def test_stl10_reads_channel_column_row(small_stl10):
    train = data.stl10("train")
    assert train.images.shape == (3, 96, 96, 3) and train.images.dtype == np.uint8
    assert train.labels.tolist() == [8, 9, 0] and train.labels.dtype == np.int64
    assert len(train) == 3 and len(train.classes) == 10 and train.name == "stl10"
    image, channel, column, row = 2, 1, 40, 7
    value = (((image * 3 + channel) * 96 + column) * 96 + row) % 251
    assert train.images[image, row, column, channel] == value
    assert data.available("stl10")
    assert data.verify("stl10") == "STL-10, labelled images: 3 train, 2 test, complete."


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("test_X.bin", bytes(2 * 27_648 - 1), "is truncated: it has 55,295 bytes, expected 55,296"),
        ("test_X.bin", bytes(2 * 27_648 + 1), "is too long"),
        ("test_y.bin", bytes([1, 11]), "has the label 11 at position 1, expected 1 to 10"),
        ("test_y.bin", bytes([3, 3]), "has the wrong md5 checksum"),
    ],
)
def test_stl10_bad_input(small_stl10, name, content, text):
    (small_stl10 / name).write_bytes(content)
    assert f"{name} {text}" in message(data.DataInvalid, data.stl10, "test")
    assert data.available("stl10") == (len(content) == 2)
    assert len(data.stl10("train")) == 3


def test_stl10_images_are_hashed_by_verify_only(small_stl10):
    (small_stl10 / "train_X.bin").write_bytes(bytes(3 * 27_648))
    data.stl10("train")
    assert "train_X.bin has the wrong md5 checksum" in message(data.DataInvalid, data.verify, "stl10")


def test_class_folders_are_sorted_and_labelled(root):
    clothing(root)
    (root / "clothing96/test/hat/notes.txt").write_text("not an image, and not read")
    loaded = data.clothing96("test")
    assert loaded.images.shape == (55, 96, 96, 3) and loaded.images.dtype == np.uint8
    assert loaded.labels.tolist() == [c for c in range(10) for _ in range(c + 1)]
    assert loaded.images[:, 0, 0, 0].tolist() == [10 * c + i for c in range(10) for i in range(c + 1)]
    few = data.clothing96("test", per_class=3)  # evenly spaced
    assert few.images[few.labels == 8, 0, 0, 0].tolist() == [80, 83, 86]
    assert np.bincount(few.labels).tolist() == [1, 2] + [3] * 8


def test_tinyimagenet10_grey_files_become_rgb(root):
    for label in TINYIMAGENET10_CLASSES:
        (root / "tinyimagenet10/train" / label).mkdir(parents=True)
        Image.new("L", (64, 64), 77).save(root / "tinyimagenet10/train" / label / "a.png")
    loaded = data.tinyimagenet10("train")
    assert loaded.images.shape == (10, 64, 64, 3) and (loaded.images == 77).all()


def test_fixation_set(root):
    fixations(
        root, "osie", [[(0, 0), (79.9, 39.9), (79.9, 39.9)], [], [(40, 20), (80, 3), (-0.5, 3), (3, 40)]]
    )
    osie = data.fixation_set("osie")
    assert (len(osie), osie.name, osie.names) == (3, "osie", ["i0", "i1", "i2"])
    assert (osie.widths, osie.heights) == ([80] * 3, [40] * 3)
    assert [len(x) for x in osie.x] == [3, 0, 4] == [len(item) for item in osie.subject]
    images = osie.images(10, 30)
    assert images.shape == (3, 10, 30, 3) and images[:, 5, 5, 0].tolist() == [0, 1, 2]
    points = osie.points(10, 30)
    assert [x.tolist() for x, _ in points] == [[0, 29, 29], [], [15]]  # 80, -0.5 and y = 40 lie outside
    assert [y.tolist() for _, y in points] == [[0, 9, 9], [], [5]]
    assert [len(people) for people in osie.observers()] == [3, 0, 1]


def test_pascal_counts_from_one(root):
    fixations(root, "pascal", [[(1, 1), (80, 40), (41, 21)]])
    x, y = data.fixation_set("pascal").points(40, 80)[0]
    assert (x.tolist(), y.tolist()) == ([0, 79, 40], [0, 39, 20])


@pytest.mark.parametrize("indices", [[2, 0], np.array([2, 0]), slice(2, None, -2)])
def test_select(root, indices):
    fixations(root)
    chosen = data.fixation_set("osie").select(indices)
    assert isinstance(chosen, data.FixationSet)
    assert chosen.names == ["i2", "i0"] and [x.tolist() for x in chosen.x] == [[3], [1]]
    assert chosen.images(4, 4)[:, 0, 0, 0].tolist() == [2, 0]
    mask = data.fixation_set("osie").select(np.array([False, True, False]))
    assert mask.names == ["i1"] and mask.select([]).images(4, 4).shape == (0, 4, 4, 3)


@pytest.mark.parametrize("edition", ["2015", "2017"])
def test_salicon(root, edition):
    salicon(root, edition)
    mouse = data.salicon("val", edition, "mouse")
    assert (mouse.name, mouse.edition, mouse.kind) == (f"salicon_{edition}_mouse", edition, "mouse")
    assert (mouse.names, mouse.widths, mouse.heights) == (["i0", "i1"], [64, 64], [48, 48])
    assert mouse.x[0].tolist() == [1, 3, 5, 7] and mouse.y[0].tolist() == [2, 4, 6, 8]
    assert mouse.subject[0].tolist() == [0, 0, 0, 1]
    x, y = data.salicon("val", edition, "fixations").points(48, 64)[0]
    assert (x.tolist(), y.tolist()) == ([63], [47])
    maps = mouse.maps(12, 16)
    assert maps.shape == (2, 12, 16) and maps.dtype == np.float32
    assert np.allclose(maps[:, 0, 0], [0, 100 / 255]) and mouse.select([1]).maps(4, 4).mean() > 0.3


def test_salicon_is_available_with_both_splits(root):
    for split in ("train", "val"):
        assert not data.available("salicon_2015_mouse")
        salicon(root, "2015", split)
    assert data.available("salicon_2015_mouse") and not data.available("salicon_2017_mouse")
    text = message(data.DataInvalid, data.verify, "salicon_2015_mouse")
    assert "holds 2 train, 2 val, expected 10,000 train, 5,000 val" in text


def test_salicon_val_recovered(root):
    recovered(root)
    pairs = data.salicon_val_recovered()
    assert pairs.images.shape == (2, 240, 320, 3) and pairs.images.dtype == np.uint8
    assert pairs.maps.dtype == np.float32 and np.allclose(pairs.maps[:, 3, 3], [0, 0.2])
    assert pairs.names == ["000", "001"] and len(pairs) == 2


def test_rc_reference(root):
    reference(root)
    loaded = data.rc_reference()
    assert [image.shape for image in loaded.images] == [(20, 30, 3)] * 2 and len(loaded) == 2
    assert [int(mask.sum()) for mask in loaded.masks] == [4 * 6, 4 * 7]


def test_imagenet_val_by_csv(root):
    sample(root)
    photos = data.imagenet_val()
    assert [path.name for path in photos.paths] == ["a.JPEG", "b.JPEG"]
    assert photos.labels.tolist() == [999, 0] and photos.accepted == [(999,), (0,)]
    assert [box.tolist() for box in photos.boxes] == [[], [[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]]]
    assert (photos.image(0).size, photos.image(1).size) == ((60, 30), (100, 50))
    assert photos.image(1).mode == "RGB" and photos.boxes[0].shape == (0, 4)
    chosen = photos.select([1])
    assert chosen.labels.tolist() == [0] and chosen.image(0).size == (100, 50) and len(chosen.credits) == 1
    text = message(data.DataInvalid, data.verify, "imagenet_val")
    assert "holds 2 images, expected 1,810 images" in text


def test_photographs_that_settled_a_preset_judge_nothing(root):
    sample(root)
    names = SETTLED_ON_TXT.read_text().splitlines()[1:]
    known = {line.split()[0] for line in IMAGENET_VAL_NAMES.read_text().splitlines() if line}
    assert len(names) == 160 and set(names) <= known
    photos = data.imagenet_val()
    settled = replace(photos, paths=[photos.paths[0].with_name(names[7]), *photos.paths[1:]])
    assert data.judging(settled).paths == photos.paths[1:] and len(data.judging(photos)) == len(photos)


@pytest.mark.parametrize("load", [data.imagenet_val_50000, data.imagenet_a])
def test_synset_folders(root, load):
    synsets(root, load.__name__.replace("_a", "-a"))
    photos = load()
    assert [path.stem for path in photos.paths] == ["a", "b", "c", "z"]
    assert photos.labels.tolist() == [0, 0, 281, 999] and photos.labels.dtype == np.int64
    assert photos.accepted[2] == (281,) and photos.boxes[0].shape == (0, 4)
    assert photos.image(0).size == (30, 20)


def test_nips2017_dev_names_its_authors(root):
    picture(root / "nips2017_dev/images/a.jpg", 30, 30)
    table = 'file,wnid,index,author,url,licence\na.jpg,n03447447,576,"Eden, Jim",https://flickr/1,by\n'
    (root / "nips2017_dev/labels.csv").write_text(table)
    photos = data.nips2017_dev()
    assert photos.credits == ["Eden, Jim, https://flickr/1, CC BY 2.0"] and photos.labels.tolist() == [576]
    assert photos.image(0).size == (30, 30)


def test_labelled_photographs_of_foolbox_need_neither_it_nor_a_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path / "nowhere"))
    photos = data.imagenet_samples()
    assert len(photos) == 20 and photos.labels.tolist()[:3] == [243, 559, 438]
    assert photos.image(0).size == (512, 512) and "foolbox" not in sys.modules
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(DataNotFound, match="pip install foolbox==3.3.4"):
        data.imagenet_samples()


def test_photographs_need_no_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path / "nowhere"))
    photos = data.photographs()
    stems = [path.stem for path in photos.paths]
    labels = dict(zip(stems, photos.labels.tolist(), strict=True))
    assert stems == sorted(stems) and (labels["chelsea"], labels["coffee"], labels["coins"]) == (281, 967, -1)
    for label, accepted, credit in zip(photos.labels, photos.accepted, photos.credits, strict=True):
        assert accepted[:1] == ((label,) if label >= 0 else ()) and all(0 <= i < 1000 for i in accepted)
        assert "scikit-image" in credit
    assert photos.image(stems.index("camera")).mode == "RGB"
    assert data.verify("photographs") == "scikit-image's own photographs: 8 images, complete."
    assert data.download("photographs") == photos.paths[0].parent
    looked_at = data.people(photos)
    assert [path.stem for path in looked_at.paths] == ["astronaut", "camera"]
    assert [boxes.shape for boxes in looked_at.boxes] == [(2, 4), (3, 4)]


def test_downscaled_is_antialiased_and_keeps_the_type():
    stripes = np.zeros((1, 20, 40, 3), np.uint8)
    stripes[:, :, ::2] = 201
    assert np.abs(data.downscaled(stripes, 5, 10)[0, :, 1:-1].astype(int) - 100).max() <= 1
    small = data.downscaled(np.broadcast_to(np.arange(40.0), (1, 20, 40)), 5, 10)
    assert small.dtype == np.float32 and small.shape == (1, 5, 10)
    np.testing.assert_allclose(small[0, 2, 1:-1], np.arange(1, 9) * 4 + 1.5, rtol=1e-5)


# --- what is wrong with a file -----------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(file, "png")
    return file.getvalue()


def whole_set(name: str) -> None:
    data.fixation_set(name).images(8, 8)


HAT, I1, MAT = (
    "clothing96/test/hat/01.png",
    "fixations/osie/images/i1.png",
    "salicon/2015/fixations/val/i1.mat",
)
NPZ = "fixations/osie/fixations.npz"
MASK, LABELS = "rc_reference/DataSet2/Imgs/a2.png", "imagenet_val/labels.csv"
PAIR = "salicon_val_recovered/maps/000.png"
HATS = functools.partial(data.clothing96, "test")
LOOKED = functools.partial(whole_set, "osie")
MOUSE = functools.partial(data.salicon, "val", "2015", "mouse")


@pytest.mark.parametrize(
    ("layout", "load", "file", "content", "text"),
    [
        (clothing, HATS, HAT, png(95, 96), "01.png has 95x96 pixels, expected 96x96"),
        (clothing, HATS, HAT, b"no image", "01.png is not an image"),
        (clothing, HATS, HAT, png(96, 96)[:9000], "01.png is a truncated image"),
        (clothing, HATS, "clothing96/test/dress/00.png", None, "dress is empty, expected images"),
        (fixations, LOOKED, I1, png(40, 30), "40x30 pixels, expected the shape of its 80x40 original"),
        (fixations, LOOKED, I1, None, "i1 is missing, expected an image for each of 3 names, 1 absent"),
        (fixations, LOOKED, NPZ, b"PK no archive", "is not a whole npz file of plain arrays"),
        (salicon, MOUSE, MAT, b"MATLAB 5.0", "i1.mat is not a whole file of SALICON's mouse"),
        (salicon, MOUSE, MAT, None, "i1.mat is missing, expected one file an image"),
        (salicon, MOUSE, "salicon/2015/maps/val/i1.png", None, "maps/val/i1 is missing"),
        (recovered, data.salicon_val_recovered, PAIR, png(240, 320), "has 240x320 pixels, expected 320x240"),
        (reference, data.rc_reference, MASK, png(31, 20), "a2.png is no mask"),
        (reference, data.rc_reference, MASK, None, "a2.png is missing"),
        (sample, data.imagenet_val, LABELS, b"\xff\xfe\x00", "cannot be read"),
        (sample, data.imagenet_val, LABELS, b"file,index\n", "holds no image"),
        (sample, data.imagenet_val, LABELS, None, "labels.csv is missing"),
        (
            sample,
            data.imagenet_val,
            "imagenet_val/images/a.JPEG",
            None,
            "a.JPEG is missing, expected an image",
        ),
        (synsets, data.imagenet_a, "imagenet-a/n99999999/a.jpg", b"", "n99999999 is none of the 1000"),
        (synsets, data.imagenet_a, "imagenet-a/n02123045/c.JPEG", None, "n02123045 is empty"),
        (sample, data.imagenet_a, "imagenet-a/a.jpg", b"", "has no folders, expected one of images a synset"),
    ],
)
def test_bad_input(root, layout, load, file, content, text):
    layout(root)
    if content is None:
        (root / file).unlink()
    else:
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_bytes(content)
    error = data.DataNotFound if "is missing" in text else data.DataInvalid
    assert text in message(error, load)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"offset": None, "subject": None}, "lacks the fields offset, subject"),
        ({"width": np.array([80])}, "(1,) for width, expected numbers of the shape (3,)"),
        ({"offset": np.array([0, 1, 2, 4])}, "offset that does not rise from 0 to its 3 points"),
        ({"offset": np.array([0, 4, 2, 3])}, "offset that does not rise"),
        ({"x": np.array([np.nan, 1, 1])}, "positions that are not finite"),
        ({"y": np.array(["1", "2", "3"])}, "for y, expected numbers"),
        ({"height": np.array([40, 0, 40])}, "a width or height below 1"),
        ({"x": np.array([[1], [2], [3]], object)}, "is not a whole npz file of plain arrays"),  # needs pickle
    ],
)
def test_fixations_with_bad_fields(root, changes, text):
    fixations(root, "crowd", **changes)
    assert text in message(data.DataInvalid, data.fixation_set, "crowd")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (",999,", ",1000,", "has the label 1000 at position 0, expected 0 to 999"),
        (",999,", ",cat,", "has a value that cannot be read"),
        ("index", "label", "lacks the column 'index'"),
        ("0.1 0.2 0.3 0.4", "0.1 0.2 1.3 0.4", "the box 0.1 0.2 1.3 0.4;0 0 1 1 lies outside its image"),
        ("0.1 0.2 0.3 0.4", "0.1 0.2 0.3", "has a value that cannot be read"),
        (",120,60,", ",120,,", "has a value that cannot be read"),
    ],
)
def test_labels_csv_bad_input(root, old, new, text):
    sample(root)
    (root / LABELS).write_text(TABLE.replace(old, new))
    assert text in message(data.DataInvalid, data.imagenet_val)


# --- grey pictures of every depth --------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 256).repeat(8).reshape(16, 128)
BYTES = (255 * RAMP).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "stored", "step"),
    [
        ("a.png", Image.fromarray((65535 * RAMP).round().astype(np.uint16)), 65535),
        ("a.tif", Image.fromarray((65535 * RAMP).round().astype(np.uint16)), 65535),
        ("a.tif", Image.fromarray(RAMP.astype(np.float32)), 1e6),
        ("a.tif", Image.fromarray(((2**31 - 1) * RAMP).astype(np.int32)), 1e6),
        ("a.png", Image.fromarray(BYTES), 255),
        ("a.png", Image.fromarray(BYTES).convert("RGB"), 255),
        ("a.png", Image.fromarray(BYTES).convert("LA"), 255),
        ("a.png", Image.fromarray(BYTES).convert("P"), 255),
        ("a.png", Image.fromarray(BYTES).convert("1"), None),
        ("a.jpg", Image.fromarray(BYTES).convert("CMYK"), 40),
    ],
    ids=lambda value: getattr(value, "mode", str(value)),
)
def test_a_map_is_scaled_by_the_depth_of_its_format(root, name, stored, step):
    """``step``: the smallest step of the format; of one bit, the mean is kept."""
    picture(root / "salicon/2015/images/val/a.jpg", 128, 16)
    salicon(root)
    (path,) = [picture(root / "salicon/2015/maps/val" / name, 128, 16)]
    stored.save(path, **({"quality": 100} if path.suffix == ".jpg" else {}))
    savemat(root / "salicon/2015/fixations/val/a.mat", {"gaze": GAZE})
    found = MOUSE().select([0]).maps(16, 128)[0]
    assert found.dtype == np.float32 and found.min() == pytest.approx(0, abs=0.01) and found.max() <= 1
    if step is None:
        assert set(np.unique(found)) == {0, 1} and abs(found.mean() - 0.5) < 0.02
    else:
        np.testing.assert_allclose(found, RAMP, atol=1 / step)


def test_a_deep_photograph_is_scaled_and_values_without_a_scale_are_refused(root):
    path = root / "a.png"
    Image.fromarray(257 * BYTES.astype(np.uint16)).save(path)
    assert (np.asarray(image_in(path)) == BYTES[..., None]).all()
    for wrong in (RAMP * 255, RAMP - 0.1, np.where(RAMP > 0.5, np.nan, RAMP)):
        Image.fromarray(wrong.astype(np.float32)).save(root / "a.tif")
        assert "a.tif has values from" in message(data.DataInvalid, image_in, root / "a.tif", "L")


# --- what systems and programs leave behind ----------------------------------------------------------------

STRANGERS = (
    *(".DS_Store", "._a.JPEG", ".directory", ".nfs000001.png", ".ipynb_checkpoints/a.JPEG", ".hidden.jpg"),
    *("Thumbs.db", "thumbs.DB", "desktop.ini", "$RECYCLE.BIN/a.jpg", "__MACOSX/._a.JPEG", "Icon\r"),
    *("@eaDir/a.JPEG/SYNOPHOTO_THUMB_M.jpg", "a.sync-conflict-20260101-120000-ABCDEFG.jpg"),
    *("a (somebody's conflicted copy 2026-01-01).jpg", "a.JPEG~", "~$a.jpg", "#a.jpg#", "a.jpg.swp"),
)


def with_strangers(folder: Path) -> None:
    """Leaves them behind in a folder and in all below it."""
    for inside in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in STRANGERS:
            (inside / name).parent.mkdir(parents=True, exist_ok=True)
            (inside / name).write_bytes(b"not a picture")


@pytest.mark.parametrize(
    ("layout", "load", "name", "folder"),
    [
        (clothing, HATS, "clothing96", "clothing96"),
        (fixations, LOOKED, "osie", "fixations/osie"),
        (salicon, lambda: MOUSE().maps(4, 4), "salicon_2015_mouse", "salicon"),
        (recovered, data.salicon_val_recovered, "salicon_val_recovered", "salicon_val_recovered"),
        (reference, data.rc_reference, "rc_reference", "rc_reference"),
        (sample, data.imagenet_val, "imagenet_val", "imagenet_val"),
        (synsets, data.imagenet_a, "imagenet_a", "imagenet-a"),
    ],
)
def test_what_programs_leave_behind_is_no_data(root, layout, load, name, folder):
    layout(root)
    before = state_of(name), data.fingerprint(name), manifest_of(root / folder)
    with_strangers(root / folder)
    load()
    assert (state_of(name), data.fingerprint(name), manifest_of(root / folder)) == before


@pytest.mark.parametrize("name", ["n01440764", "a.jpg", "a~b.png", "Thumbs.dbx", "_a", "a.built", "a#1.jpg"])
def test_names_of_data_are_not_taken_for_left_behind(name):
    assert not is_left_behind(name)


# --- the real data -----------------------------------------------------------------------------------------


def real(name: str):
    if not os.environ.get("SALIENCY_DATA") or not data.available(name):
        pytest.skip(f"{name} is not below $SALIENCY_DATA")


COMPLETE = (
    *FIXATION_SETS,
    "salicon_val_recovered",
    "nips2017_dev",
    "clothing96",
    "rc_reference",
    "tinyimagenet10",
)


@pytest.mark.parametrize("name", COMPLETE)
def test_real_set_holds_what_its_authors_say(name):
    real(name)
    if name == "tinyimagenet10" and state_of(name).word == "unverified":
        pytest.skip("tinyimagenet10 was not made by ./run_all.sh data and may be another draw")
    assert data.verify(name).endswith("complete.")
    if name in FIXATION_SETS:
        looked = data.fixation_set(name)
        dropped = REGISTRY[name].count["points"] - sum(len(x) for x, _ in looked.points(96, 128))
        assert 0 <= dropped <= 3  # three positions of crowd lie on the far edge


def test_real_named_objects():
    real("rc_reference")
    known, unknown = data.named_objects().values()
    assert max(known + unknown) < len(data.rc_reference()) and not set(known) & set(unknown)


def test_real_imagenet_val_labels_are_sorted_synsets():
    real("imagenet_val")
    from timm.data import ImageNetInfo

    table = REGISTRY["imagenet_val"].folder / "labels.csv"
    if not table.exists():
        pytest.skip("imagenet_val has no labels.csv")
    photos = data.imagenet_val()
    assert len(photos) == REGISTRY["imagenet_val"].count["images"]
    wnid = dict(line.split(",")[:2] for line in table.read_text().splitlines())
    names = ImageNetInfo("imagenet-1k").label_names()
    assert [names[label] for label in photos.labels] == [wnid[path.name] for path in photos.paths]
    assert all(len(boxes) for boxes in photos.boxes)
    squashed = [path.name for path in photos.paths].index("ILSVRC2012_val_00000293.JPEG")
    assert Image.open(photos.paths[squashed]).size == (224, 224)
    assert photos.image(squashed).size == photos.sizes[squashed] == (500, 375)
