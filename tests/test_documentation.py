"""What the documentation says of itself: its languages agree, its chapters are whole, its files are valid."""

import re
import sys
from importlib import import_module
from itertools import groupby
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "docs" / "learn").glob("*.py"))


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
