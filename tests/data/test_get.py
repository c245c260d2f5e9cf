"""Getting data from a server on this machine: archives of the real layouts, tiny, and everything that can go
wrong with them. Every problem is one sentence with a remedy, leaves nothing half-written and keeps what was
whole."""

import dataclasses
import hashlib
import http.server
import io
import json
import os
import random
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from saliencylib import data
from saliencylib.data import build_official, downloads, get, states
from saliencylib.data.archives import members_of
from saliencylib.data.manifest import difference, listed_in, manifest_of
from saliencylib.data.registry import REGISTRY, DataInvalid, DataNotFound, DataSet, Source
from saliencylib.lock import alone_in
from saliencylib.places import ROOT
from saliencylib.study.report import report_parts, updated

COMMIT = "c0ffee"
ARCHIVE = f"toys-{COMMIT}.tar.gz"
URL = f"https://codeload.github.com/us/toys/tar.gz/{COMMIT}"
TOYS = {f"images/{n}.txt": random.Random(n).randbytes(100_000) for n in range(5)}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the files of its server by their paths, well or badly, as its server says."""

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path, asked))
        fault = server.faults.pop(0) if server.faults else server.always
        if isinstance(fault, int):
            return self.send_error(fault)
        if fault == "login" and not self.path.startswith("/login"):
            return self.answer(302, b"", Location="/login?next=archive")
        if self.path.startswith("/login"):
            return self.answer(200, b"<!DOCTYPE html>Sign in", **{"Content-Type": "text/html; charset=utf-8"})
        if fault == "page":  # that calls itself a file
            return self.answer(200, b"\n <HTML>Please wait</HTML>")
        content = server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if asked and first >= len(content):
            return self.send_error(416)
        more = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        half = first + (len(content) - first) // 2
        self.answer(
            206 if first else 200, content[first:], half - first if fault == "breaks off" else None, **more
        )

    def answer(self, status: int, content: bytes, sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(content[:sent]), 20_000):
            time.sleep(self.server.pause)
            self.wfile.write(content[:sent][start : start + 20_000])

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    """A web server for all hosts. ``files``: content by path; ``asked``: (path, Range) of every request;
    ``faults``: what goes wrong with the next requests, ``always`` with all others."""
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.asked, running.faults, running.always, running.ranges = {}, [], [], "", True
    running.pause = 0.0
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setenv("SALIENCY_MIRROR", f"http://127.0.0.1:{running.server_port}")
    monkeypatch.setattr(downloads, "PAUSES", (0.01, 0.01))
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root, and an empty folder of manifests."""
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path / "data"))
    for module in (states, get):
        monkeypatch.setattr(module, "MANIFESTS", tmp_path / "manifests")
    return tmp_path / "data"


def packed(files: dict[str, bytes], mode: str = "w:gz", *odd: tarfile.TarInfo) -> bytes:
    """A tar archive of files, and of odd members, which have no content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in odd:
            tar.addfile(info)
    return out.getvalue()


def repository(files: dict[str, bytes], *odd: tarfile.TarInfo) -> bytes:
    """An archive as GitHub makes it: everything below one folder, REPOSITORY-COMMIT."""
    return packed({f"toys-{COMMIT}/{name}": content for name, content in files.items()}, "w:gz", *odd)


def build_toys(sources: dict[str, Path], target: Path) -> None:
    for name, content in sorted(members_of(sources["toys"], ["images/"])):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(content)


def entry(name: str, *sources: Source, **more) -> DataSet:
    known = {"licence": "CC0", "size": 1000, "count": {}, "showable": True, "kind": "real"}
    known |= {
        "how": f"run ./run_all.sh data {name}",
        "files": (name,),
        "builder": "build_official",
    }
    return DataSet(name, f"a few {name}", **known | {"sources": sources, "terms": "Do as you like."} | more)


@pytest.fixture
def toys(root, server, monkeypatch):
    """The set "toys", five files from one archive that the server has, with its manifest."""
    source = Source("toys", URL, 100_000, ("images/",), ARCHIVE)
    monkeypatch.setitem(REGISTRY, "toys", entry("toys", source))
    monkeypatch.setattr(build_official, "build_toys", build_toys, raising=False)
    server.files[f"/codeload.github.com/us/toys/tar.gz/{COMMIT}"] = repository(TOYS | {"README": b"not used"})
    assert get.main(["toys", "--write-manifest"]) == 0
    server.asked.clear()
    yield root / "toys"


@pytest.fixture
def no_toys(toys, root):
    """The set "toys" once more, taken out of the data root."""
    get.shutil.rmtree(root)
    return toys


def remains(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refused(capsys, *arguments: str, status: int = 1) -> str:
    """The one sentence that a call is refused with."""
    capsys.readouterr()
    assert get.main(list(arguments)) == status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("run_all.sh: ")]
    assert line.endswith(".") and ";" in line, "problem; remedy."
    return line


def serve(server, content: bytes) -> None:
    server.files[f"/codeload.github.com/us/toys/tar.gz/{COMMIT}"] = content


# --- what is whole ------------------------------------------------------------------------------------------


def test_a_set_is_fetched_built_checked_and_marked(no_toys, root, server, capsys):
    assert str(states.state_of("toys")) == "absent"
    assert get.main(["toys"]) == 0
    printed = capsys.readouterr().err
    assert (
        printed.startswith("toys: a few toys. Do as you like.\nto fetch: 1 files")
        and f"fetched {ARCHIVE}: 0.5 MB" in printed
    )
    assert remains(root) == ["toys/.built", *(f"toys/{name}" for name in TOYS)]
    assert {name: (no_toys / name).read_bytes() for name in TOYS} == TOYS
    assert str(states.state_of("toys", hashed=True)) == "whole"
    assert json.loads((no_toys / ".built").read_text())["set"] == "toys"
    assert get.main(["toys"]) == 0 and len(server.asked) == 1, "whole: not asked again"
    assert data.download("toys") == no_toys and data.fingerprint("toys")


def test_two_builds_are_equal_byte_for_byte(no_toys, root):
    contents = []
    for _ in range(2):
        get.main(["toys"])
        contents.append({name: (root / name).read_bytes() for name in remains(root)})
        get.shutil.rmtree(root)
    assert contents[0] == contents[1]


def test_the_official_archives(root, server, monkeypatch, capsys):
    """STL-10's as tar.gz, ImageNet-A's as tar, weights as they are; each known by its checksum."""
    stl10 = {"train_X.bin": b"1", "train_y.bin": b"2", "test_X.bin": b"3", "test_y.bin": b"4"}
    contents = {
        "stl10": packed(
            {f"stl10_binary/{n}": c for n, c in (stl10 | {"unlabeled_X.bin": b"not used"}).items()}
        ),
        "imagenet_a": packed({"imagenet-a/n01440764/a.jpg": b"a", "imagenet-a/README.txt": b"r"}, "w"),
        "vgg16": b"weights",
    }
    for name, content in contents.items():
        (source,) = REGISTRY[name].sources
        algorithm = source.checksum.partition(":")[0]
        checksum = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()[:32]}"
        changed = dataclasses.replace(source, checksum=checksum, bytes=len(content))
        monkeypatch.setitem(REGISTRY, name, dataclasses.replace(REGISTRY[name], sources=(changed,), sizes={}))
        server.files[f"/{source.url.partition('://')[2]}"] = content
    assert get.main(["--paper"]) == 0
    assert remains(root / "stl10_binary") == sorted([".built", *stl10])
    assert remains(root / "imagenet-a") == [".built", "n01440764/a.jpg"]
    assert remains(root / "weights") == [".vgg16.built", "vgg16-397923af.pth"]
    assert [states.state_of(name, hashed=True).word for name in get.OFFICIAL] == ["whole"] * 3
    (root / "weights/vgg16-397923af.pth").write_bytes(b"Weights")
    (root / "imagenet-a/n01440764/a.jpg").unlink()
    assert (
        states.state_of("vgg16").word == "whole" and states.state_of("vgg16", hashed=True).word == "damaged"
    )
    assert states.state_of("imagenet_a").word == "partial"
    assert get.main(["imagenet_a"]) == 0 and states.state_of("imagenet_a").word == "whole"


def test_a_set_that_a_person_put_there_is_unverified_adopted_when_equal_and_never_replaced(
    no_toys, root, capsys
):
    for name, content in TOYS.items():
        (no_toys / name).parent.mkdir(parents=True, exist_ok=True)
        (no_toys / name).write_bytes(content)
    assert states.state_of("toys").word == "unverified" and states.lacking(["toys"]) == {}
    (no_toys / "images/0.txt").write_text("mine")
    assert get.main(["toys"]) == 0
    assert "left alone" in capsys.readouterr().err and (no_toys / "images/0.txt").read_text() == "mine"
    assert str(states.state_of("toys", hashed=True)) == "unverified (1 changed (images/0.txt))"
    (no_toys / "images/0.txt").write_bytes(TOYS["images/0.txt"])
    assert get.main(["toys"]) == 0 and states.state_of("toys").word == "whole"


def test_fewer_photographs_than_promised_are_partial(root, monkeypatch, capsys):
    monkeypatch.setitem(REGISTRY, "toys", entry("toys", count={"images": 3, "points": 99}))
    (root / "toys/images").mkdir(parents=True)
    for n in range(3):
        assert states.state_of("toys").word == "partial"
        (root / f"toys/images/{n}.jpg").write_text("")
    assert states.state_of("toys").word == "unverified"
    (root / "toys/images/0.jpg").unlink()
    line = refused(capsys, "toys")
    assert "is partial (2 of 3 files in" in line and "move it away and run ./run_all.sh data toys." in line


@pytest.mark.parametrize(
    ("change", "word"), [("absent", "partial"), ("changed", "damaged"), ("more", "damaged")]
)
def test_a_damaged_set_is_seen_and_built_again(toys, change, word, capsys):
    file = toys / "images/2.txt"
    file.unlink() if change == "absent" else file.write_text("x")
    if change == "more":
        file.write_bytes(TOYS["images/2.txt"])
        (toys / "images/9.txt").write_text("x")
    assert states.state_of("toys", hashed=True).word == word
    assert get.main(["toys", "--verify"]) == 1
    assert f"toys: {word} (1 " in capsys.readouterr().out
    if change != "changed":
        assert get.main(["toys"]) == 0 and get.main(["toys", "--verify"]) == 0


def test_a_marker_of_another_manifest_is_none(toys):
    path = states.MANIFESTS / "toys.txt"
    path.write_text(path.read_text().replace("images/0", "images/7"))
    assert states.state_of("toys").word == "unverified"
    (toys / ".built").write_text("{")
    assert states.state_of("toys").word == "unverified"


def test_official_files_put_there_by_hand_are_known_by_their_checksums(root, monkeypatch, capsys):
    (source,) = REGISTRY["vgg16"].sources
    known = dataclasses.replace(source, checksum="md5:" + hashlib.md5(b"weights").hexdigest())
    monkeypatch.setitem(REGISTRY, "vgg16", dataclasses.replace(REGISTRY["vgg16"], sources=(known,)))
    (root / "weights").mkdir(parents=True)
    (root / "weights/vgg16.pth").write_bytes(b"another copy")
    assert get.main(["vgg16"]) == 0 and states.state_of("vgg16").word == "unverified"
    (root / "weights/vgg16-397923af.pth").write_bytes(b"weights")
    assert get.main(["vgg16"]) == 0 and states.state_of("vgg16", hashed=True).word == "whole"


# --- where archives come from -------------------------------------------------------------------------------


def test_archives_fetched_before_are_taken_and_stay(no_toys, root, server, tmp_path):
    mine = tmp_path / "mine" / ARCHIVE
    mine.parent.mkdir()
    mine.write_bytes(server.files.popitem()[1])
    assert get.main(["toys", "--from", str(mine.parent)]) == 0
    assert states.state_of("toys").word == "whole" and mine.exists() and not server.asked


def test_from_must_be_a_folder(no_toys, tmp_path, capsys):
    assert "is no folder" in refused(capsys, "toys", "--from", str(tmp_path / "none"), status=2)


@pytest.fixture
def two_sources(no_toys, monkeypatch):
    """The toys from a file that only its owner has, from a zip, or from the archive."""
    (archive,) = REGISTRY["toys"].sources
    own = Source("toys", "", 10, (), "OWN.tar", alternative="own")
    zipped = Source("toys", "https://example.org/toys.zip", 10, (), "toys.zip", alternative="zip")
    copy = dataclasses.replace(archive, alternative="copy")
    monkeypatch.setitem(REGISTRY, "toys", entry("toys", own, zipped, copy, variants=True))
    manifest = (states.MANIFESTS / "toys.txt").read_text()
    for group in ("own", "zip", "copy"):
        (states.MANIFESTS / f"toys.{group}.txt").write_text(manifest)
    return no_toys


def test_the_next_source_is_asked_when_one_fails(two_sources, capsys):
    assert get.main(["toys"]) == 0
    assert str(states.state_of("toys")) == "whole (from copy)"


def test_a_zip_is_as_good(two_sources, server):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in TOYS.items():
            file.writestr(f"toys/{name}", content)
    server.files["/example.org/toys.zip"] = out.getvalue()
    assert get.main(["toys"]) == 0 and str(states.state_of("toys")) == "whole (from zip)"


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_file_or_folder_of_its_owner_comes_first(two_sources, server, tmp_path, unpacked):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, content in TOYS.items() if unpacked else ():
        (mine / "OWN" / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / "OWN" / name).write_bytes(content)
    if not unpacked:
        (mine / "OWN.tar").write_bytes(packed({f"own/{name}": c for name, c in TOYS.items()}, "w"))
    assert get.main(["toys", "--from", str(mine)]) == 0
    assert str(states.state_of("toys")) == "whole (from own)" and not server.asked


def test_terms_for_research_are_accepted_once(no_toys, root, server, monkeypatch, capsys):
    changed = dataclasses.replace(REGISTRY["toys"], research=True, terms="For research only.")
    monkeypatch.setitem(REGISTRY, "toys", changed)
    line = refused(capsys, "toys", status=2)
    assert "./run_all.sh data toys --accept-terms" in line and not server.asked and not root.exists()
    with pytest.raises(DataNotFound, match="accept them once"):
        data.download("toys")
    assert get.main(["toys", "--accept-terms"]) == 0
    assert (root / get.ACCEPTED).read_text() == "toys: For research only.\n"
    get.shutil.rmtree(no_toys)
    assert get.main(["toys"]) == 0


# --- faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (404, f"tar.gz/{COMMIT} is refused by its server (404 Not Found); give the file {ARCHIVE} from"),
        (403, "is refused by its server (403 Forbidden)"),
        (500, "could not be fetched (500 Internal Server Error); check the network"),
        ("login", "leads to a web page at 127.0.0.1"),
        (
            "page",
            f"(a login?), not to the file {ARCHIVE}; fetch it in a browser and give it with --from FOLDER.",
        ),
    ],
)
def test_a_server_that_refuses(no_toys, root, server, capsys, fault, text):
    server.always = fault
    assert text in refused(capsys, "toys")
    assert remains(root) == [] and states.state_of("toys").word == "absent"


def test_a_dead_server(no_toys, root, monkeypatch, capsys):
    monkeypatch.setenv("SALIENCY_MIRROR", "http://127.0.0.1:1")
    line = refused(capsys, "toys")
    assert "could not be fetched (ConnectionError)" in line and f"give the file {ARCHIVE} with --from" in line
    assert remains(root) == []


def test_faults_that_pass_are_retried(no_toys, server):
    server.faults = [503, 429]
    assert get.main(["toys"]) == 0 and len(server.asked) == 3


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(no_toys, root, server, capsys, ranges):
    server.ranges, server.always = ranges, "breaks off"
    assert "could not be fetched (ChunkedEncodingError)" in refused(capsys, "toys")
    (part,) = remains(root)
    assert part == f".archives/{ARCHIVE}.part"
    (content,) = server.files.values()
    had = (root / part).stat().st_size
    assert 0 < had < len(content)
    server.always = ""
    server.asked.clear()
    assert get.main(["toys"]) == 0 and states.state_of("toys", hashed=True).word == "whole"
    assert [asked for _, asked in server.asked] == [f"bytes={had}-"]
    assert not (root / ".archives").exists()


def test_a_part_that_does_not_fit_is_begun_again(no_toys, root, server):
    part = root / f".archives/{ARCHIVE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(10**6))  # more than there is
    assert get.main(["toys"]) == 0 and [asked for _, asked in server.asked] == ["bytes=1000000-", None]


def test_a_file_that_changed_between_two_halves_is_noticed_and_not_kept(no_toys, root, server, capsys):
    server.always = "breaks off"
    refused(capsys, "toys")
    server.always = ""
    serve(server, repository({name: content[::-1] for name, content in TOYS.items()}))
    assert "is truncated or no archive (" in refused(capsys, "toys") and remains(root) == []
    serve(server, repository(TOYS))
    assert get.main(["toys"]) == 0


def test_an_interruption_while_downloading_keeps_the_part(no_toys, root, server, tmp_path):
    """A real interrupt of a real process, in the middle of a slow download."""
    server.pause = 0.05
    code = "import signal; from saliencylib.data import downloads\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # also where a shell ignores it
    code += "from saliencylib.data.registry import Source; from pathlib import Path\n"
    code += f"downloads.fetch_all([Source('toys', {URL!r}, 9, (), {ARCHIVE!r})], Path({str(root)!r}))"
    running = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    part = root / f"{ARCHIVE}.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert running.wait(30) != 0 and remains(root) == [part.name] and part.stat().st_size > 0


def test_an_interruption_by_hand_keeps_what_was_whole(toys, root, monkeypatch, capsys):
    before = remains(root)
    monkeypatch.setattr(build_official, "build_toys", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    (toys / "images/2.txt").unlink()
    assert get.main(["toys"]) == 130
    assert "the same call goes on" in capsys.readouterr().err
    assert set(remains(root)) == set(before) - {"toys/images/2.txt"} | {f".archives/{ARCHIVE}"}


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"toys-{COMMIT}/images/9.txt")
    info.type, info.linkname = kind, "../../../secret"
    return info


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (repository(TOYS)[:-200], "is truncated or no archive ("),
        (b"nonsense " * 100, "is truncated or no archive ("),
        (b"", "is truncated or no archive ("),
        (
            repository({"../../secret": b"x"} | TOYS),
            "has a name that leads out of it, 'toys-c0ffee/../../secret'",
        ),
        (packed({"/etc/secret": b"x"}), "has a name that leads out of it, '/etc/secret'"),
        (repository(TOYS, link(tarfile.SYMTYPE)), "has a link where a file is expected, images/9.txt"),
        (repository(TOYS, link(tarfile.LNKTYPE)), "has a link where a file is expected, images/9.txt"),
        (repository({"pictures/0.txt": b"x"}), "does not hold images/: its source has changed"),
    ],
    ids=["cut", "nonsense", "empty", "../", "absolute", "symbolic link", "hard link", "other names"],
)
@pytest.mark.parametrize("before", ["nothing", "a damaged set"])
def test_a_bad_archive(no_toys, root, server, capsys, content, text, before):
    if before == "a damaged set":
        get.main(["toys"])
        (no_toys / "images/0.txt").unlink()
    there = remains(root)
    serve(server, content)
    line = refused(capsys, "toys")
    assert text in line and ARCHIVE in line
    assert remains(root) == there and not (root.parent / "secret").exists()
    serve(server, repository(TOYS))
    assert get.main(["toys"]) == 0, "the bad archive was not kept"


@pytest.mark.parametrize(
    ("name", "link_mode", "text"),
    [
        ("toys/../../secret", False, "leads out of it"),
        ("/secret", False, "leads out of it"),
        ("toys\\..\\secret", False, "leads out of it"),
        ("toys/images/9.txt", True, "has a link where a file is expected, images/9.txt"),
    ],
)
def test_a_bad_zip(tmp_path, name, link_mode, text):
    path = tmp_path / "toys.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("toys/images/0.txt", "x")
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK if link_mode else stat.S_IFREG) << 16
        file.writestr(info, "../secret")
    with pytest.raises(DataInvalid, match=text):
        list(members_of(path, ["images/"]))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataInvalid, match="truncated or no archive"):
        list(members_of(path, ["images/"]))


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_file_that_unpacks_to_more_than_is_read_is_refused(tmp_path, monkeypatch, form):
    monkeypatch.setattr("saliencylib.data.archives.MOST_BYTES", 1000)
    path = tmp_path / f"toys.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("toys/images/0.txt", bytes(1001))
    else:
        path.write_bytes(packed({"toys/images/0.txt": bytes(1001)}))
    with pytest.raises(DataInvalid, match=r"a file of 1,001 bytes, images/0\.txt, but at most 1,000"):
        list(members_of(path, ["images/"]))


def test_what_programs_leave_behind_in_archives_and_folders_is_passed_over(tmp_path):
    files = {
        "__MACOSX/toys/._0.jpg": "x",
        "toys/.DS_Store": "x",
        "toys/a/0.jpg": "0",
        "toys/a/@eaDir/0.jpg/x.jpg": "x",
    }
    with zipfile.ZipFile(tmp_path / "toys.zip", "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
    for source in ("toys.zip", "toys"):
        assert list(members_of(tmp_path / source, ["*.jpg"])) == [("a/0.jpg", b"0")]


def test_a_file_that_changed_upstream(no_toys, root, server, capsys):
    serve(server, repository(TOYS | {"images/3.txt": b"new"}))
    line = refused(capsys, "toys")
    assert "differs from its manifest toys.txt (1 changed (images/3.txt)): a source has changed;" in line
    assert ARCHIVE in line and remains(root) == []


def test_a_wrong_checksum(no_toys, root, server, monkeypatch, tmp_path, capsys):
    (source,) = REGISTRY["toys"].sources
    changed = dataclasses.replace(source, checksum="sha256:0123456789abcdef")
    monkeypatch.setitem(REGISTRY, "toys", dataclasses.replace(REGISTRY["toys"], sources=(changed,)))
    assert "expected 0123456789abcdef: it was damaged" in refused(capsys, "toys") and remains(root) == []
    (tmp_path / ARCHIVE).write_bytes(b"mine")
    assert str(tmp_path / ARCHIVE) in refused(capsys, "toys", "--from", str(tmp_path))
    assert (tmp_path / ARCHIVE).exists()


def test_a_set_without_manifest_is_not_taken_on_trust(no_toys, root, capsys):
    (states.MANIFESTS / "toys.txt").unlink()
    assert "has no manifest to be checked against" in refused(capsys, "toys") and remains(root) == []


def test_one_set_that_fails_does_not_keep_another(no_toys, root, server, monkeypatch, capsys):
    source = Source("bricks", "https://example.org/bricks.tar.gz", 10, (), "bricks.tar.gz")
    monkeypatch.setitem(REGISTRY, "bricks", entry("bricks", source))
    assert "example.org/bricks.tar.gz is refused" in refused(capsys, "bricks", "toys")
    assert states.state_of("toys").word == "whole" and states.state_of("bricks").word == "absent"


# --- the disk -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_while_downloading(no_toys, root, capsys):
    part = root / f".archives/{ARCHIVE}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    line = refused(capsys, "toys")
    assert f"{part} could not be written (No space left on device); free disk space" in line
    assert remains(root) == [] and not part.is_symlink()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_while_building(toys, root, monkeypatch, capsys):
    def full(sources: dict[str, Path], target: Path) -> None:
        build_toys(sources, target)
        (target / "images/5.txt").symlink_to("/dev/full")
        (target / "images/5.txt").write_text("x")

    (toys / "images/4.txt").unlink()
    there = remains(root)
    monkeypatch.setattr(build_official, "build_toys", full)
    assert ".toys.part could not be written (No space left on device)" in refused(capsys, "toys")
    assert remains(root) == sorted([*there, f".archives/{ARCHIVE}"])


def test_a_disk_without_room_is_refused_before_the_first_byte(no_toys, root, server, monkeypatch, capsys):
    (source,) = REGISTRY["toys"].sources
    changed = dataclasses.replace(source, bytes=10**18)
    monkeypatch.setitem(REGISTRY, "toys", dataclasses.replace(REGISTRY["toys"], sources=(changed,)))
    line = refused(capsys, "toys", status=2)
    assert "MB are needed; free disk space, or point SALIENCY_DATA" in line and not server.asked


def test_a_data_root_that_cannot_be_written(no_toys, root, capsys):
    root.write_text("a file")
    assert "could not be written" in refused(capsys, "toys", status=2) and root.read_text() == "a file"


# --- the command --------------------------------------------------------------------------------------------


def test_listing_needs_nothing_but_python_and_is_quick():
    command = [sys.executable, "-S", "-m", "saliencylib.data.get", "--list"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 0, ran.stderr
    rows = {line.split("  ")[0]: line for line in ran.stdout.splitlines()}
    assert "01 mini" in rows["tinyimagenet10"] and "seshuad/IMagenet" in rows["tinyimagenet10"]
    assert set(rows) >= {name for name, known in REGISTRY.items() if known.kind == "real"}


def test_wrong_arguments_are_named(capsys):
    assert get.main(["cifar10"]) == 2 and "choose one of: stl10, " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        get.main(["--fast"])
    assert "unrecognized arguments: --fast" in capsys.readouterr().err


def test_an_empty_folder_of_archives_is_refused(capsys):
    with pytest.raises(SystemExit):
        get.main(["toys", "--from", ""])
    assert "give the folder that holds the archives" in capsys.readouterr().err


def test_a_second_call_is_refused_while_one_is_at_work(no_toys, root, capsys):
    root.mkdir()
    with alone_in(root) as alone:
        assert alone and "is at work in" in refused(capsys, "toys", status=2) and remains(root) == []
    assert get.main(["toys"]) == 0


@pytest.mark.parametrize("mirror", ["nonsense", "ftp://host", "http://", "/a/folder"])
def test_a_mirror_that_is_no_host_is_named(no_toys, root, monkeypatch, capsys, mirror):
    monkeypatch.setenv("SALIENCY_MIRROR", mirror)
    assert "set it to an address such as http://HOST." in refused(capsys, "toys") and remains(root) == []


@pytest.mark.parametrize("arguments", [["--list"], ["--verify"], ["osie", "--accept-terms"]])
def test_a_data_root_without_rights_is_named(root, monkeypatch, capsys, arguments):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)  # as Python 3.11 does below a folder without rights
    assert get.main(arguments) == 2
    line = capsys.readouterr().err
    assert "could not be read (Permission denied); change its rights" in line and str(root) in line


def test_files_without_rights_in_an_unmarked_set_are_named(toys, root, monkeypatch, capsys):
    states.marker_path(REGISTRY["toys"]).unlink()
    monkeypatch.setattr(get, "state_of", lambda name: states.State("unverified"))

    def refuse(*_):
        raise PermissionError(13, "Permission denied", "images/1.txt")

    monkeypatch.setattr(get, "manifest_of", refuse)
    assert "images/1.txt could not be read (Permission denied)" in refused(capsys, "toys", status=2)


def test_sets_that_only_a_person_can_get_say_how(root, capsys):
    for name in ("salicon_2015_mouse", "imagenet_val_50000"):
        assert REGISTRY[name].how in refused(capsys, name)
    assert get.main(["salicon_val_recovered"]) == 0, "optional"


@pytest.mark.parametrize("name", [name for name, known in REGISTRY.items() if known.builder])
def test_every_set_with_a_builder_can_be_fetched_and_has_terms(name):
    known = REGISTRY[name]
    assert known.terms.endswith(".") and known.how.startswith(f"run ./run_all.sh data {name}")
    assert known.online and known.download_size > 0 and known.used_by
    files = [(source.file, source.url) for other in REGISTRY.values() for source in other.sources]
    assert len({file for file, _ in files}) == len(set(files)), "one address a file name"


def test_the_registry_and_what_is_told_of_it_agree():
    text = (ROOT / "DATA.md").read_text(encoding="utf-8")
    assert updated(text, report_parts()) == text, "out of date: run python -m saliencylib.study.report"
    told = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    assert set(told[1:]) >= {name for name, known in REGISTRY.items() if known.builder}


def test_manifests_know_content_from_bytes(tmp_path):
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    for level in (1, 9):
        picture.save(tmp_path / "a.png", compress_level=level)
        np.savez(tmp_path / "b.npz", x=np.zeros(1000)) if level == 1 else np.savez_compressed(
            tmp_path / "b.npz", x=np.zeros(1000)
        )
        by_content = manifest_of(tmp_path, ["*.png", "*.npz"])
        by_bytes = manifest_of(tmp_path)
        if level == 1:
            first = by_content, by_bytes
    assert by_content == first[0] and by_bytes != first[1]
    assert all(len(digits) == 17 and digits.endswith("p") for digits in listed_in(by_content).values())
    assert not difference(tmp_path, by_content)
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert difference(tmp_path, by_content).changed == ("a.png",)
