"""What the documentation says of itself: its languages agree, its chapters are whole, its files are valid."""

import re
import sys
from importlib import import_module
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WITH_PAGES = ("benchmarks", "docs", "js", "model_cards")  # folders of files that are read as they stand
CHAPTERS = sorted((ROOT / "docs" / "learn").glob("*.py"))


PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(p for name in WITH_PAGES for p in (ROOT / name).rglob("*.md"))]
    if "node_modules" not in path.parts
)


def commands(readme):
    """The blocks of code, without comments, which are translated, and the spaces before them."""
    blocks = re.findall(r"^```\w+\n(.*?)^```", (ROOT / readme).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+#.*", "", block) for block in blocks]


def cells(chapter):
    """(kind, language, text) of each cell of a notebook in the percent form."""
    parts = re.split(r"^# %%(.*)$", chapter.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for mark, text in zip(parts[::2], parts[1::2], strict=True):
        language = re.search(r'lang="(\w+)"', mark)
        yield "markdown" if "[markdown]" in mark else "code", language and language[1], text


def prose(chapter, language):
    return "".join(text for _, of, text in cells(chapter) if of == language)


@pytest.mark.parametrize(
    ("page", "in_chinese"),
    [
        ("README.md", "README_zh-hans.md"),
        ("docs/guides/scripts.md", "docs/zh/scripts.md"),
        ("docs/guides/in_python.md", "docs/zh/in_python.md"),
    ],
)
def test_both_languages_name_the_same_commands(page, in_chinese):
    assert commands(in_chinese) == commands(page)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse lays its help out in another way")
def test_the_page_of_the_command_is_its_help(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.syspath_prepend(ROOT / "docs")
    command_page = import_module("command_page")
    assert command_page.PAGE.read_text(encoding="utf-8") == command_page.page(), "python docs/command_page.py"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_each_piece_of_prose_stands_in_both_languages(chapter):
    runs = [list(run) for kind, run in groupby(cells(chapter), key=lambda cell: cell[0]) if kind == "markdown"]
    assert runs
    for run in runs:
        assert [language for _, language, _ in run] == ["en", "zh"]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_both_languages_have_the_same_formulas_headings_and_links(chapter):
    def shape(language):
        text = prose(chapter, language)
        formulas = re.findall(r"\$\$.*?\$\$", text, re.DOTALL)
        return formulas, re.findall(r"^# (#+) ", text, re.MULTILINE), re.findall(r"\]\(([^)#]+)", text)

    def level(links):  # a page in Chinese lies one folder deeper
        return [re.sub(r"^(\.\./)+", "../", link) for link in links]

    (formulas, headings, links), (of_zh, headings_of_zh, links_of_zh) = shape("en"), shape("zh")
    assert [re.sub(r"\\text\{.*?\}", "", formula) for formula in formulas] == [
        re.sub(r"\\text\{.*?\}", "", formula) for formula in of_zh
    ]
    assert headings == headings_of_zh
    assert level(links) == level(links_of_zh)


def links(page):
    """The relative links and pictures of a markdown file."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^() ]+)\)", text) + re.findall(r'<(?:img|a) [^>]*?(?:src|href)="([^"]+)"', text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page):
    """The headings of a markdown file as links name them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page):
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize(
    ("page", "target", "led_to"),
    [
        ("guides/own_file.md", "../learn/applications.py", "../learn/applications.md"),
        ("zh/learn/index.md", "../../learn/gates.py", "gates.md"),
        ("zh/index.md", "docs/learn/gates.py", "learn/gates.md"),
        ("guides/own_file.md", "../../benchmarks/quality/RESULTS.md", "../results/quality.md"),
        ("guides/serving.md", "../../README.md#what-is-supported", "../index.md#what-is-supported"),
        ("live.md", "live/dates", "live/dates/index.html"),
        ("index.md", "docs/live/dates", "live/dates/index.html"),
        ("index.md", "model_cards", None),
    ],
)
def test_the_site_leads_links_to_files_to_their_pages(page, target, led_to, monkeypatch):
    pytest.importorskip("jupytext", reason="of the extra docs")
    monkeypatch.syspath_prepend(ROOT / "docs")
    hooks = import_module("hooks")
    chapters = [f"{folder}learn/{chapter.stem}.md" for chapter in CHAPTERS for folder in hooks.LANGUAGES.values()]
    known = [*hooks.PAGES.values(), *chapters, "live/dates/index.html"]
    files = SimpleNamespace(get_file_from_path={uri: uri for uri in known}.get)
    written = hooks.on_page_markdown(
        f"[text]({target})", SimpleNamespace(file=SimpleNamespace(src_uri=page)), config=None, files=files
    )
    assert written == (f"[text]({led_to})" if led_to else "text")


def test_every_page_is_in_the_navigation():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = set(re.findall(r"[\w/]+\.md", str(navigation)))
    docs = ROOT / "docs"
    written = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    chapters = {f"{folder}learn/{chapter.stem}.md" for chapter in CHAPTERS for folder in ("", "zh/")}
    assert written | chapters <= named


def test_the_version_that_is_cited_is_that_of_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{cited}"\n' in project


@pytest.mark.parametrize("file", sorted(path.name for path in ROOT.glob("Dockerfile*")))
def test_what_an_image_copies_is_sent_to_it(file):
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert copies
    assert {source for line in copies for source in line.split()} <= let_through
