"""The static pages: their links, words and colours, in the files and in a real browser."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

import saliencylib
from saliencylib import stats
from saliencylib.places import ROOT
from saliencylib.study import claims, findings, plan, site

RUN = ROOT / "results" / "mini-short"
PAGES = ("index", *plan.NOTEBOOKS, "USING", "api", "REPORT", "EDITIONS", "provenance", "search")
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PHONE, DESK = {"width": 375, "height": 667}, {"width": 1280, "height": 800}

# Elements of the text that stick out on the right and that no box inside the text scrolls to. (The theme puts
# the text as a whole into a box that scrolls sideways, so the width of the document says nothing.)
STICKING_OUT = """() => {
  const scrolls = (e) => e.tagName != "ARTICLE"
    && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  return [...document.querySelectorAll("article *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement))
    .map((e) => e.outerHTML.slice(0, 80));
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of the committed run, built once."""
    folder = tmp_path_factory.mktemp("site") / "site"
    site.build(RUN, folder)
    return folder


@pytest.fixture(scope="module")
def soups(pages):
    return {path.stem: BeautifulSoup(path.read_text(), "html.parser") for path in pages.glob("*.html")}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs a browser, one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser):
    """Opens a file in a window of its own; notes errors and every request that leaves the files."""
    contexts = []

    def open_page(path: Path, scheme: str = "light", size: dict = DESK, anchor: str = ""):
        contexts.append(browser.new_context(color_scheme=scheme, viewport=size))
        page = contexts[-1].new_page()
        page.wrong = []
        page.on("console", lambda m: page.wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("requestfailed", lambda request: page.wrong.append(f"failed: {request.url}"))
        page.on("request", lambda r: page.wrong.append(r.url) if not r.url.startswith("file:") else None)
        page.goto(path.as_uri() + anchor)
        return page

    yield open_page
    for context in contexts:
        context.close()


def run_folder(root, name="own", finished="2026-01-01T00:00:00Z", cells=(), claim="SM-E1"):
    """A run folder with one executed notebook, 01, that measured one claim."""
    folder = root / name
    for part in ("notebooks", "tables"):
        (folder / part).mkdir(parents=True)
    rows = claims.measured_rows(claim, stats.exact(True), "tensors", "paper")
    pd.DataFrame(rows).to_csv(folder / "tables" / "01_claims.csv", index=False)
    texts = ["# A title", "## The claim", *cells, "## The result"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text) for text in texts])
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    mark = nbformat.v4.new_output("display_data", {"text/plain": claim}, metadata={"claims": [claim]})
    notebook.cells.append(nbformat.v4.new_code_cell("measure()", execution_count=1, outputs=[mark]))
    nbformat.write(notebook, folder / "notebooks" / "01_sal_mask.ipynb")
    entry = {"finished": finished, "seconds": 60, "device": "CPU", "python": "3", "commit": "unknown"}
    record = {"01_sal_mask": entry | {"versions": {"torch": "2"}, "data": {}}}
    (folder / "provenance.json").write_text(json.dumps(record))
    return folder


def test_all_pages_are_there_and_every_link_resolves(pages, soups):
    assert set(soups) == set(PAGES)
    assert site.broken_links(pages) == []


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="x"><a href="#x">1</a> <a href="b.html#y">2</a> <img src="c.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#z">3</a> <a href="https://example.org">4</a>')
    assert sorted(site.broken_links(tmp_path)) == ["a.html: b.html#y", "a.html: c.png", "b.html: a.html#z"]


def test_what_holds_comes_first_with_a_figure_a_paper(soups):
    index = soups["index"]
    assert index.select_one("h2").contents[0] == "What holds, and what does not"
    text = " ".join(index.select_one("section").get_text().replace("\u2019", "'").split())
    told = findings.findings(RUN)
    missing = [one for found in told.values() for one in found.sentences if one not in text]
    assert missing == []
    pictures = index.select("#what-holds-and-what-does-not img")
    assert [picture["alt"] for picture in pictures] == [found.shows for found in told.values()]
    pictures += [soups[notebook].select_one("h1 ~ p img") for notebook in plan.NOTEBOOK_OF.values()]
    assert all(picture.find_parent("a")["href"] == picture["src"] for picture in pictures)


def test_code_is_folded_and_machinery_left_out(soups):
    page = soups["01_sal_mask"]
    cells = page.select(".cell")
    assert cells and all(c.select_one("details.hide") for c in cells if c.select_one(".cell_input"))
    assert "find_spec" not in page.get_text() and 'profile = "quick"' not in page.get_text()


def test_every_name_of_the_library_is_described(soups):
    described = {tag.get_text() for tag in soups["api"].select("dt .descname")}
    assert set(saliencylib.NAMES) <= described


def test_verdicts_are_counted_and_every_claim_has_its_row(soups):
    index = soups["index"]
    assert [h.contents[0] for h in index.select("h2")][1:3] == ["Verdicts", "Sal-Mask"]
    joined = claims.verdicts(RUN)
    assert [row["id"] for row in index.select(".claims tbody tr")] == [f"claim-{i}" for i in joined["id"]]
    for row in claims.readable(joined).to_dict("records"):
        *cells, verdict = index.find(id=f"claim-{row['id']}").find_all("td")
        shown = dict(zip(site.COLUMNS, cells, strict=False))
        below = [line.get_text() for line in shown["measured (95 % interval)"].find_all("small")]
        assert below == [f"{name}: {row[name]}" for name in site.BELOW_MEASURED if row[name]]
        for name, cell in shown.items():
            assert (cell.span or cell).get_text() == row[name] or (cell.span and not row[name])
        assert verdict.get_text().startswith(row["verdict"].partition(": ")[0])
    counts = claims.verdict_counts(joined).drop(columns="paper")
    shown = [[td.get_text() for td in tr.find_all("td")] for tr in index.find("table").select("tbody tr")]
    assert [[name, *map(str, counts[name])] for name in counts] == shown


def test_verdicts_lead_to_the_measuring_cell_and_back(soups):
    for row in claims.verdicts(RUN).to_dict("records"):
        link = soups["index"].find(id=f"claim-{row['id']}").find("a")
        if pd.isna(row["measured"]):
            assert link is None
            continue
        notebook = plan.NOTEBOOK_OF[row["paper"]]
        assert link["href"] == f"{notebook}.html#measured-{row['id']}"
        (mark,) = soups[notebook].find_all(id=f"measured-{row['id']}")
        assert mark["href"] == f"index.html#claim-{row['id']}"
        assert mark.find_parent("section").find(re.compile("h[1-4]")).contents[0] == row["section"]
        cell = mark.parent.find_next_sibling("div", class_="cell")
        assert ".measure(" in cell.find(class_="cell_input").get_text()
        assert "measured:" not in cell.get_text(), "the link above the cell says it"


def test_every_figure_has_its_alternative_text(soups):
    for name in site.executed_notebooks(RUN):
        notebook = nbformat.read(RUN / "notebooks" / f"{name}.ipynb", as_version=4)
        outputs = [o for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]
        texts = [o.metadata[kind]["alt"] for o in outputs for kind in site.PICTURE_KINDS if kind in o.data]
        assert texts and [img["alt"] for img in soups[name].select(".cell_output img")] == texts
    assert all(img.get("alt", "").strip() for soup in soups.values() for img in soup.find_all("img"))


def test_equations_are_mathml_and_nothing_of_tex_is_left(soups):
    for name in site.executed_notebooks(RUN):
        notebook = nbformat.read(RUN / "notebooks" / f"{name}.ipynb", as_version=4)
        text = "\n".join(re.sub("`.*?`", "", c.source) for c in notebook.cells if c.cell_type == "markdown")
        blocks = re.findall(r"\$\$.+?\$\$", text, flags=re.DOTALL)
        inline = re.findall(r"\$[^$]+\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL))
        soup = soups[name]
        assert len(soup.select(".equation math[display=block]")) == len(blocks)
        assert len(soup.find_all("math", display="inline")) == len(inline)
        words = "".join(t for t in soup.article.find_all(string=True) if not t.find_parent("pre"))
        assert "$" not in words and "\\" not in words


def test_no_page_asks_the_network_for_anything(pages):
    for path in [*pages.rglob("*.html"), *pages.rglob("*.css")]:
        text = path.read_text()
        assert not re.search(r"<script[^>]*mathjax", text, flags=re.IGNORECASE)
        assert not re.search(r"<(?:script|img|link|iframe|source)\b[^>]*(?:src|href)=\"(?:https?:)?//", text)
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", text)


def test_no_path_of_this_machine_is_on_a_page(pages):
    for path in pages.glob("*.html"):
        assert str(ROOT) not in path.read_text() and str(pages.parent) not in path.read_text()


def test_pages_say_what_was_run(soups):
    record = json.loads((RUN / "provenance.json").read_text())
    for name, entry in record.items():
        note = soups[name].find("p", class_="run-note").get_text()
        assert "mini-short" in note and entry["finished"][:10] in note
        assert all(data in note for data in entry["data"])
        assert all(data in soups["provenance"].get_text() for data in entry["data"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_in_a_browser(opened, pages, name, scheme):
    page = opened(pages / f"{name}.html", scheme, PHONE)
    wide = "s => [...document.querySelectorAll(s)].filter((e) => e.scrollWidth > e.clientWidth).length"
    assert page.evaluate(wide, "html, body, .content") == 0
    assert page.evaluate(STICKING_OUT) == []
    assert page.evaluate("[...document.images].filter((i) => !i.complete || !i.naturalWidth).length") == 0
    page.set_viewport_size(DESK)
    assert page.evaluate(STICKING_OUT) == []
    assert page.wrong == []


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_verdict_and_back_by_clicks(opened, pages, size):
    page = opened(pages / "index.html", size=size)
    for link, place in (("#claim-LI-E1 a", "measured-LI-E1"), ("#measured-LI-E1", "claim-LI-E1")):
        page.click(link)
        page.wait_for_url(f"**#{place}")
        page.wait_for_function(
            "place => { const top = document.getElementById(place).getBoundingClientRect().top;"
            "return top > document.querySelector('.mobile-header').offsetHeight && top < innerHeight; }",
            arg=place,
            timeout=5000,
        )
    assert page.wrong == []


def test_light_and_dark_follow_the_reader(opened, pages):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (opened(pages / "index.html", scheme).evaluate(ground) for scheme in ("light", "dark"))
    assert light == "rgb(255, 255, 255)" != dark


def test_equations_have_a_size_and_figures_lead_to_full_size(opened, pages):
    page = opened(pages / "03_licnn.html", size=PHONE)
    boxes = page.locator("math").evaluate_all("all => all.map((m) => m.getBoundingClientRect().height)")
    assert boxes and min(boxes) > 5
    widths = page.locator(".cell_output img").evaluate_all("all => all.map((i) => i.clientWidth)")
    assert max(widths) <= 375 and all(
        page.locator(".cell_output a:has(img)").evaluate_all("a => a.map(x => x.href)")
    )


def test_search_finds_words_in_files(opened, pages):
    page = opened(pages / "search.html", size=DESK, anchor="?q=inhibition")
    page.wait_for_selector("#search-results li a", timeout=5000)
    assert page.wrong == []


def test_a_run_with_one_notebook_says_what_is_missing(tmp_path):
    text = "It costs $5 or $10. See [the other](03_licnn.ipynb#The-claim), [here](#The-result) and $x^2$."
    site.build(run_folder(tmp_path, cells=[text]), tmp_path / "site")
    pages = {p.stem: BeautifulSoup(p.read_text(), "html.parser") for p in (tmp_path / "site").glob("*.html")}
    assert "Not in this run: 02_shallow_saliency_cnn, 03_licnn" in pages["index"].get_text()
    assert "not in this run" in pages["03_licnn"].h1.get_text()
    assert (
        "It costs $5 or $10." in pages["01_sal_mask"].get_text()
        and len(pages["01_sal_mask"].find_all("math")) == 1
    )
    assert "commit" not in pages["01_sal_mask"].find("p", class_="run-note").get_text()
    assert "speaks of results/mini-short" in pages["REPORT"].get_text()
    assert pages["index"].find(id="claim-SM-E1").a["href"] == "01_sal_mask.html#measured-SM-E1"


def test_links_to_nowhere_are_refused_and_the_old_pages_stay(tmp_path):
    old = tmp_path / "site" / "index.html"
    old.parent.mkdir()
    old.write_text("old")
    text = "[x](#No-1), [x](01_sal_mask.ipynb#No-2) and <a href='#No-3'>x</a>"
    with pytest.raises(ValueError, match="(?s)No-1.*No-2.*No-3"):
        site.build(run_folder(tmp_path, cells=[text]), old.parent)
    assert old.read_text() == "old"


def test_a_figure_without_words_is_refused():
    output = nbformat.v4.new_output("display_data", data={"image/png": ""})
    cells = [nbformat.v4.new_markdown_cell("# T"), nbformat.v4.new_code_cell("show()", outputs=[output])]
    with pytest.raises(ValueError, match="no alternative text: show"):
        site.staged(nbformat.v4.new_notebook(cells=cells), "")


def test_the_newest_run_is_the_one_on_real_data_finished_last(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path))
    with pytest.raises(ValueError, match="call ./run_all.sh first"):
        site.newest_run()
    quick = run_folder(tmp_path, "quick", "2026-06-01T00:00:00Z")
    assert site.newest_run() == quick
    assert "says nothing about the papers" in site.index_page(quick)
    run_folder(tmp_path, "older", "2026-02-01T00:00:00Z")
    newest = run_folder(tmp_path, "newest", "2026-03-01T00:00:00Z")
    run_folder(tmp_path, "oldest", "2026-01-01T00:00:00Z")
    bare = run_folder(tmp_path, "bare", "2026-04-01T00:00:00Z")
    shutil.rmtree(bare / "notebooks")
    photograph = run_folder(tmp_path, "photograph", "2026-05-01T00:00:00Z") / "notebooks"
    (photograph / "01_sal_mask.ipynb").rename(photograph / "05_your_own_photograph.ipynb")
    assert site.newest_run() == newest


def test_command_names_what_it_wrote_and_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(site, "SITE", tmp_path / "site")
    assert site.main([]) == 2
    assert "call ./run_all.sh first" in capsys.readouterr().err
    shutil.rmtree(run_folder(tmp_path / "results", "bare") / "notebooks")
    run_folder(tmp_path / "results", "mine")
    assert site.main(["yours"]) == 2
    assert "runs: bare, mine" in capsys.readouterr().err
    assert site.main(["bare"]) == 2
    assert "stores no executed notebook" in capsys.readouterr().err
    assert site.main(["mine"]) == 0
    printed = capsys.readouterr().out
    assert f"{len(PAGES)} pages" in printed and str(tmp_path / "site" / "index.html") in printed
    (tmp_path / "results" / "mine" / "provenance.json").write_text("{")
    assert site.main(["mine"]) == 2
    assert "mine/provenance.json cannot be read" in capsys.readouterr().err
