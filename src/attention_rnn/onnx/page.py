"""A static page that runs an exported model in the reader's browser."""

import html
import json
import shutil
import subprocess
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

OWN = ("page.js", "runner.js")
# what the page needs of other packages, of which js/package-lock.json pins the content
VENDORED = (
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "@huggingface/tokenizers/dist/tokenizers.min.mjs",
)
_CARD = """---
title: {title}
sdk: static
---

A model of attention-rnn in a page: `python -m http.server --directory .` shows it, as does any host of static files. It
fetches nothing from elsewhere.
"""


def write_page(folder: Path, title: str, packages: str = "vendor") -> None:
    """
    Write all that a page needs beside its model, which lies in `model` of this folder or comes there.

    Args:
        packages: where `vendor` has put other packages, from this folder; several pages may share them.
    """
    with as_file(files("attention_rnn.js")) as js:
        page = (js / "index.html").read_text(encoding="utf-8")
        page = page.replace("{title}", html.escape(title)).replace("{packages}", packages)
        (folder / "index.html").write_text(page, encoding="utf-8")
        for file in OWN:
            shutil.copyfile(js / file, folder / file)
    (folder / "README.md").write_text(_CARD.format(title=json.dumps(title)), encoding="utf-8")


def vendor(folder: Path) -> None:
    """
    Copy what a page needs of packages of npm, in the versions that the folder `js` pins.

    Raises:
        RuntimeError: npm is not there, or fails.
    """
    folder.mkdir(exist_ok=True)
    if shutil.which("npm") is None:
        raise RuntimeError("a page needs npm once, which is not there: it brings onnxruntime-web and its tokenizers")
    with as_file(files("attention_rnn.js")) as js, tempfile.TemporaryDirectory() as temporary:
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(js / file, Path(temporary, file))
        command = ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        run = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"`{' '.join(command)}` failed: {' '.join(run.stderr.split())[-500:]}")
        for file in VENDORED:
            shutil.copyfile(Path(temporary, "node_modules", file), folder / Path(file).name)
