"""Builders, each from a tiny made-up copy of its source: the layout, points and labels, and equal bytes."""

import io
import tarfile
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from saliencylib import data
from saliencylib.data import build_classes, build_photographs
from saliencylib.data.images import CLOTHING96_CLASSES
from saliencylib.data.registry import REGISTRY, DataInvalid


def picture(width: int, height: int, kind: str = "JPEG", grades: tuple[int, int] = (0, 250)) -> bytes:
    """A ramp of greys, from left to right."""
    file = io.BytesIO()
    Image.fromarray(np.linspace(*grades, width).astype(np.uint8)[None].repeat(height, 0)).save(file, kind)
    return file.getvalue()


def matlab(fixations: object) -> bytes:
    file = io.BytesIO()
    savemat(file, {"fixations": fixations})
    return file.getvalue()


def cell(items: list) -> np.ndarray:
    return np.array([*items, None], object)[:-1, None]


def subjects(*pairs: tuple[list, list]) -> np.ndarray:
    return cell([{"fix_x": np.array([x]), "fix_y": np.array([y])} for x, y in pairs])


@pytest.fixture
def build(tmp_path, monkeypatch):
    """build(set, source={name: content}, ...) builds twice; its folder, which lies below the data root."""
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path / "root"))

    def twice(name: str, **sources: dict[str, bytes] | Path) -> Path:
        entry, made, paths = REGISTRY[name], [], dict(sources)
        for source, files in sources.items():
            if isinstance(files, dict):
                paths[source] = tmp_path / f"{source}.tar.gz"
                with tarfile.open(paths[source], "w:gz") as tar:
                    for path, content in files.items():
                        info = tarfile.TarInfo(f"repo-1/{path}")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))
        for folder in (entry.folder, tmp_path / "again" / name):
            folder.mkdir(parents=True, exist_ok=True)
            getattr(import_module(f"saliencylib.data.{entry.builder}"), f"build_{name}")(paths, folder)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            made.append({path.relative_to(folder): path.read_bytes() for path in files})
        assert made[0] == made[1] and made[0]
        return entry.folder

    return twice


@pytest.mark.parametrize("name, folder", [("mit1003", "data/mit/"), ("osie", "data/"), ("crowd", "data/")])
def test_sets_of_one_struct(build, name, folder):
    seen = subjects(([10.5, 700.0], [2.0, 3.0]), ([7.0], [400.0])), subjects(([], []), ([5.0], [6.0]))
    fixations = cell([{"img": f"{stem}.jpg", "subjects": seen[i]} for i, stem in enumerate("ba")])
    small = picture(120, 80)
    files = {"eye/fixations.mat": matlab(fixations), "stimuli/b.jpg": picture(1024, 768)}
    files |= {"stimuli/a.jpg": small, "stimuli/Thumbs.db": b"x"}
    below = build(name, **{name: {folder + path: content for path, content in files.items()}})
    looked = data.fixation_set(name)
    assert looked.names == ["b", "a"] and (looked.widths, looked.heights) == ([1024, 120], [768, 80])
    assert [x.tolist() for x in looked.x] == [[10.5, 700, 7], [5]] and looked.y[0].tolist() == [2, 3, 400]
    assert [one.tolist() for one in looked.subject] == [[0, 0, 1], [1]]
    assert Image.open(below / "images/b.png").size == (256, 192)  # scaled, without loss
    assert (below / "images/a.jpg").read_bytes() == small  # small enough: copied
    with zipfile.ZipFile(below / "fixations.npz") as file:
        assert {info.date_time[0] for info in file.infolist()} == {1980}


def test_mouse_samples_start_after_the_tenth_and_at_pixel_zero(build):
    order = np.r_[1:14, 1:13][:, None]
    people = np.repeat([7, 900], [13, 12])[:, None]
    samples = {"subj": people, "coord": np.hstack([order, 10 * order]).astype(np.uint16), "order": order}
    files = {"data/mouse_amt/1001.mat": matlab(samples), "data/stimuli/1001.jpg": picture(800, 600)}
    build("osie_mouse", osie=files)
    looked = data.osie_mouse()
    assert looked.x[0].tolist() == [109, 119, 129, 109, 119] and looked.y[0].tolist() == [10, 11, 12, 10, 11]
    assert looked.observers()[0].tolist() == [7, 7, 7, 900, 900]
    assert looked.points(600, 800)[0][0].tolist() == looked.x[0].tolist()  # a pixel is its own


def test_scene_has_empty_recordings(build):
    seen = np.empty((2, 12), object)
    for place in np.ndindex(2, 12):
        seen[place] = np.empty((0, 0))
    seen[0, 0], seen[1, 11] = np.array([[3.5, 9.0, 0.1, 0.2]]), np.array([[1.0, 2.0, 0, 0], [4.0, 5.0, 0, 0]])
    photographs = {f"data/stimuli/{name}.jpg": picture(300, 200) for name in ("002", "001")}
    build("scene", scene={"data/tidy/fixations.mat": matlab(seen)} | photographs)
    looked = data.fixation_set("scene")
    assert looked.names == ["001", "002"] and (looked.x[0], looked.y[0]) == ([9.0], [3.5])
    assert looked.x[1].tolist() == [2, 5] and looked.subject[1].tolist() == [11, 11]


def test_pascal_is_read_from_hdf5(build):
    h5py = pytest.importorskip("h5py")
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        cells = [made.create_dataset(f"#refs#/{i}", data=[[i + 1.0], [20.0], [8.0]]) for i in range(2)]
        made["fixCell"] = np.array([[one.ref for one in cells]], h5py.ref_dtype)
    photographs = {f"config/pascal/{i}.jpg": picture(500, 375) for i in (2, 1)}
    build("pascal", photographs=photographs, points={"pascalFix.mat": file.getvalue()})
    looked = data.fixation_set("pascal")
    assert looked.names == ["1", "2"] and (looked.x[1], looked.y[1], looked.subject[1]) == ([20], [2], [8])


def test_points_without_a_photograph_and_a_changed_file(build):
    fixations = matlab(cell([{"img": "a.jpg", "subjects": subjects(([1.0], [1.0]))}]))
    files = {"data/eye/fixations.mat": fixations, "data/stimuli/b.jpg": picture(300, 200)}
    with pytest.raises(DataInvalid, match="do not agree in a; delete"):
        build("crowd", crowd=files)
    with pytest.raises(DataInvalid, match="something else than expected in data/stimuli/b.jpg"):
        build("crowd", crowd=files | {"data/stimuli/b.jpg": picture(300, 200)[:900]})


def test_tinyimagenet10_draws_synsets_in_turn(build, monkeypatch):
    monkeypatch.setattr(build_classes, "TRAIN", 4)
    monkeypatch.setattr(build_classes, "TEST", 3)
    merged = REGISTRY["tinyimagenet10"].synsets
    names = [
        f"train/{synset}/images/{synset}_{i}.JPEG" for synset in sum(merged.values(), []) for i in (10, 2, 1)
    ]
    below = build("tinyimagenet10", zip={name: picture(64, 64) for name in names})
    train, test = (sorted(path.stem for path in (below / s / "boat").iterdir()) for s in ("train", "test"))
    one, two = merged["boat"]
    assert train == [f"{one}_1", f"{one}_10", f"{two}_1", f"{two}_10"] and test == [f"{one}_2", f"{two}_2"]
    assert len(list((below / "test/dog").iterdir())) == 3


def test_clothing96_is_the_centre(build):
    folders = [f"{split}/{c}" for split in ("train", "validation", "test") for c in CLOTHING96_CLASSES]
    build("clothing96", clothing={f"{folder}/a.jpg": picture(40, 53) for folder in folders})
    loaded = data.clothing96("validation")
    assert loaded.images.shape == (10, 96, 96, 3) and loaded.labels.tolist() == list(range(10))
    wide = np.asarray(build_classes.centred(Image.open(io.BytesIO(picture(192, 96))), 96))
    assert abs(wide[0].mean() - 125) < 2 and wide[0, 0] > 50


def test_photographs_with_masks(build):
    kinds = {"Imgs/1.jpg": picture(30, 20), "Imgs/1.png": picture(30, 20, "PNG")}
    files = {f"DataSet{k}/{path}": content for k in (1, 2) for path, content in kinds.items()}
    files |= {"DataSet1/Imgs/Output/1_SaliencyMap.jpg": b"x", "DataSet1/Saliency/1_RC.png": b"map"}
    below = build("rc_reference", benchmark={f"Data/{path}": content for path, content in files.items()})
    assert len(data.rc_reference()) == 2 and (below / "DataSet1/Saliency/1_RC.png").read_bytes() == b"map"
    assert not (below / "DataSet1/Imgs/Output").exists()


def test_nips2017_dev_counts_labels_from_zero(build):
    table = 'ImageId,TrueLabel,OriginalLandingURL,License,Author\nab,1,https://x/1,CC,"É, J"\ngone,2,u,l,a\n'
    files = {"data/images/ab.png": picture(9, 9, "PNG"), "data/dev_dataset.csv": table.encode()}
    build("nips2017_dev", flickr=files)
    photos = data.nips2017_dev()
    assert photos.labels.tolist() == [0] and photos.credits == ["É, J, https://x/1, CC BY 2.0"]


@pytest.mark.parametrize("official", [False, True])
def test_imagenet_val_from_copies_or_the_official_files(build, monkeypatch, tmp_path, official):
    names = [f"ILSVRC2012_val_0000000{i}.JPEG" for i in (1, 2)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    monkeypatch.setattr(build_photographs, "IMAGENET_VAL_NAMES", tmp_path / "names.txt")
    tables = {"class_labels": ["7"], "image_sizes": ["50,40"], "localization": ["5,10,25,40", "0,0,5,4"]}
    listed = {table: [f"val/{name},{row}" for name in names for row in tables[table]] for table in tables}
    boxes = {f"metadata/ILSVRC/test/{table}.txt": "\n".join(listed[table]).encode() for table in tables}
    small, large = picture(22, 22), picture(50, 40)
    copies = {
        "zoo": {f"datasets/imagenet/ILSVRC2012_img_val_samples/{names[0]}": large},
        "patch": {"assets/val/n0/other.JPEG": small},
        "acuity": {f"ILSVRC2012_VAL_SET/data/{name}": small for name in names},
        "imagenette": {f"train/n0/{names[1]}": large},  # later in the order
    }
    if official:
        copies = {"official": tmp_path / "own"}
        (tmp_path / "own/n0").mkdir(parents=True)
        for name in (*names, "ILSVRC2012_val_00000003.JPEG"):
            (tmp_path / "own/n0" / name).write_bytes(large)
        with pytest.raises(DataInvalid, match="22x22 pixels, expected the official 50x40; give"):
            build("imagenet_val", boxes=boxes, official={name: small for name in names})
    below = build("imagenet_val", boxes=boxes, **copies)
    photos = data.imagenet_val()
    assert photos.labels.tolist() == [7, 7] and photos.sizes == [(50, 40)] * 2
    assert photos.boxes[0].tolist() == [[0.1, 0.25, 0.5, 1], [0, 0, 0.1, 0.1]]
    assert [path.read_bytes() for path in photos.paths] == [large, large if official else small]
    assert ("ILSVRC2012_img_val" if official else "rknn_model_zoo") in (below / "labels.csv").read_text()
