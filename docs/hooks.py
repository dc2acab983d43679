"""
What mkdocs does not do by itself: it runs the chapters of docs/learn and shows them in each language, brings in pages
that have their place elsewhere in the repository, and sets formulas without any script in the reader's browser.

A chapter is a notebook in jupytext's percent form. Its code stands there once. Its prose stands beside the code in each
language, in cells marked `lang="en"` or `lang="zh"`; a cell without a mark belongs to all. A code cell marked `figure`,
with a text for those who cannot see it, is folded.
"""

import base64
import hashlib
import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

import jupytext
import nbformat
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient

from attention_rnn.onnx.page import vendor, write_page

ROOT = Path(__file__).parents[1]
EXECUTED = ROOT / "build" / "chapters"
LANGUAGES = {"en": "", "zh": "zh/"}  # and the folder of its pages
FOLDED = {"en": "Code of the picture", "zh": "作图的代码"}
FOOTERS = {
    "en": "This chapter is a notebook: [{name}.ipynb]({name}.ipynb). 中文版：[{title}]({other}).",
    "zh": "本章是一个可以运行的笔记本：[{name}.ipynb]({name}.ipynb)。English: [{title}]({other}).",
}
# Files of the repository that are pages of the site as they stand there.
PAGES = {
    "README.md": "index.md",
    "README_zh-hans.md": "zh/index.md",
    "CONTRIBUTING.md": "house.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/quality/RESULTS.md": "results/quality.md",
    "benchmarks/speed/RESULTS.md": "results/speed.md",
}
WIDE = "\u3000-\u9fff\uff00-\uffef"
IMAGES = {"image/png": "png", "image/gif": "gif"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no file of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for path in sorted((ROOT / "docs" / "learn").glob("*.py")):
        notebook = run_chapter(path)
        for language in LANGUAGES:
            for name, content in render_chapter(path.stem, notebook, language):
                files.append(File.generated(config, f"{LANGUAGES[language]}learn/{name}", content=content))
    for folder in (ROOT / "docs" / "live").iterdir():  # what stands there until the page is put in its place
        files.append(File.generated(config, f"live/{folder.name}/index.html", content="Built without npm."))
    return files


def on_post_build(config: Any) -> None:
    """Put the page about each model of docs/live, if npm can bring what it needs."""
    if shutil.which("npm") is None:
        print("npm is not there, so that the models of docs/live have no page")
        return
    site = Path(config.site_dir, "live")
    vendor(site / "vendor")
    for folder in (ROOT / "docs" / "live").iterdir():
        write_page(site / folder.name, folder.name, packages="../vendor")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links between files of the repository lead to their pages, and unlink those to files without a page."""
    origins = {page: source for source, page in PAGES.items()}
    here = origins.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    folder = next(folder for folder in reversed(LANGUAGES.values()) if page.file.src_uri.startswith(folder))

    def link(target: str) -> str | None:
        if re.match(r"[a-z]+:|#", target):
            return target
        path, _, anchor = target.partition("#")
        path = normpath(join(dirname(here), path))
        uri = PAGES.get(path, path.removeprefix("docs/"))
        uri = re.sub(r"^(learn/\w+)\.py$", rf"{folder}\1.md", uri)  # a chapter, in the language of the page
        uri = re.sub(r"^(live/\w+)$", r"\1/index.html", uri)  # a model that has a page of its own
        if files.get_file_from_path(uri) is None:
            # a broken link within docs/ is left for mkdocs to complain about
            return target if path.startswith("docs/") else None
        return relpath(uri, dirname(page.file.src_uri) or ".") + (f"#{anchor}" if anchor else "")

    def replace_link(match: re.Match[str]) -> str:
        target = link(match["target"])
        return match["text"] if target is None else f"[{match['text']}]({target})"

    def replace_image(match: re.Match[str]) -> str:
        return f'{match[1]}"{link(match[2])}"'

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    for index in range(0, len(parts), 2):  # the others are code
        parts[index] = re.sub(r"\[(?P<text>[^][]*)\]\((?P<target>[^() ]+)\)", replace_link, parts[index])
        parts[index] = re.sub(r'(<img [^>]*?src=)"([^"]+)"', replace_image, parts[index])
    return "".join(parts)


def on_page_content(content: str, **_: Any) -> str:
    """Set formulas in MathML, which browsers draw by themselves, and unlink names in docstrings as transformers has."""
    content = re.sub(
        r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>',
        lambda match: convert(html.unescape(match[3]), display="inline" if match[2] == "(" else "block"),
        content,
        flags=re.DOTALL,
    )
    # a new line in the source is a space to a browser, which Chinese does not have
    content = re.sub(f"(?<=[{WIDE}])\\n(?=[{WIDE}])", "", content)
    return re.sub(r"\[(<code>)~?([\w.]+</code>)\]", r"\1\2", content)


def run_chapter(path: Path) -> Any:
    """The notebook with its outputs: of an earlier build where neither its code nor the package has changed."""
    notebook = jupytext.read(path, fmt="py:percent")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    digest = hashlib.sha256("\0".join(cell.source for cell in code).encode())
    for file in [path.parent / "matplotlibrc", *sorted((ROOT / "src").rglob("*.py"))]:
        digest.update(file.read_bytes())
    outputs = EXECUTED / f"{path.stem}-{digest.hexdigest()[:16]}.json"
    if not outputs.exists():
        # one core is enough; and tqdm, which transformers imports, warns of a notebook without widgets
        os.environ.update(OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore:IProgress not found")
        NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": path.parent}},  # where matplotlib finds the style of the pictures
            extra_arguments=["--log-level=ERROR"],
        ).execute()
        for output in (output for cell in code for output in cell.outputs):
            if output.get("name") == "stderr":
                raise ValueError(f"{path.name}: a cell writes to stderr: {output.text}")
        EXECUTED.mkdir(parents=True, exist_ok=True)
        for outdated in EXECUTED.glob(f"{path.stem}-*.json"):
            outdated.unlink()
        outputs.write_text(json.dumps([cell.outputs for cell in code]), encoding="utf-8")
    for cell, output in zip(code, json.loads(outputs.read_text(encoding="utf-8")), strict=True):
        cell.outputs = [nbformat.from_dict(part) for part in output]
    return notebook


def render_chapter(name: str, notebook: Any, language: str) -> Iterator[tuple[str, str | bytes]]:
    """The files of a chapter in a language: its page, its pictures, and the notebook to take home."""
    other = next(code for code in LANGUAGES if code != language)
    lines: list[str] = []
    cells = [cell for cell in notebook.cells if cell.metadata.get("lang", language) == language]
    for cell in cells:
        if cell.cell_type == "markdown":
            lines += [cell.source, ""]
            continue
        code = f"```python\n{cell.source}\n```"
        alternative = cell.metadata.get("figure")
        if alternative:
            code = f'??? note "{FOLDED[language]}"\n' + "\n".join(f"    {line}" for line in code.splitlines())
        lines += [code, ""]
        for kind, outputs in groupby(cell.outputs, key=lambda output: output.output_type):
            if kind == "stream":  # what a cell prints, also if it takes its time over it
                printed = "".join(output.text for output in outputs).rstrip()
                lines += [f"```{{ .text .output }}\n{printed}\n```", ""]
                continue
            for output in outputs:
                kind = next(kind for kind in IMAGES if kind in output.data)
                picture = f"{name}_{len(lines)}.{IMAGES[kind]}"
                yield picture, base64.b64decode(output.data[kind])
                lines += [f"![{alternative}]({picture})" + "{ .figure }", ""]
    title = re.search(
        r"^# (.*)", next(c.source for c in notebook.cells if c.metadata.get("lang") == other), re.MULTILINE
    )
    page = f"{LANGUAGES[other]}learn/{name}.md"
    footer = FOOTERS[language].format(
        name=name, title=title[1] if title else name, other=relpath(page, f"{LANGUAGES[language]}learn")
    )
    yield f"{name}.md", "\n".join([*lines, footer])
    taken = nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)
    yield f"{name}.ipynb", nbformat.writes(taken)
