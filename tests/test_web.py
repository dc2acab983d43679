"""JavaScript finds what Python finds: the runner in Node, and the page in a browser."""

import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from attention_rnn import cli

pytest.importorskip("onnxscript")

JS = Path(__file__).parents[1] / "js"
MODELS = ["parallel", "two vocabularies", "chunks", "subwords", "language model", "inflection"]
OPTIONS = [
    {},
    {"num_beams": 4, "num_return_sequences": 3},
    {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.3, "early_stopping": True, "min_new_tokens": 4},
    {"num_beams": 3, "early_stopping": "never"},
]
READ = ["to be", " be  kind or\tnot Xyzzy", "é 机 plugh, PLUGH", "be " * 20]
NEWER = '{"format": "attention-rnn-onnx", "format_version": 99, "task": "text-generation"}'
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (JS / "node_modules").is_dir(), reason="`npm ci` in js has not run"
)


def texts(count):
    random_ = random.Random(0)
    letters = "abcdefghijklmnop  qrzé"
    return [("a" + "".join(random_.choices(letters, k=random_.randint(0, 12)))).strip() for _ in range(count)]


def texts_for(model):
    return [f"{text} N;PL" for text in texts(12)] if model == "inflection" else texts(12)


def as_json(value):
    return np.round(value, 6).tolist() if isinstance(value, np.ndarray) else value


def in_camel_case(name):
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def test_the_runner_in_node_finds_what_python_finds(exported, tmp_path):
    cases = []
    for model in MODELS:
        export = exported(model)
        shutil.copytree(export.folder, tmp_path / model)
        attends = {} if model == "language model" else {"return_attention": True}
        for options in OPTIONS:
            results = export.runner(texts_for(model), max_new_tokens=9, **options, **attends)
            results = [result if isinstance(result, list) else [result] for result in results]
            cases.append(
                {
                    "model": model,
                    "options": {"maxNewTokens": 9, **{in_camel_case(name): value for name, value in options.items()}},
                    "texts": texts_for(model),
                    "expected": [
                        [{name: as_json(value) for name, value in one.items()} for one in of_text]
                        for of_text in results
                    ],
                }
            )
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    for model in ("classifier", "single label", "tagger", "tagger of words"):
        export = exported(model)
        shutil.copytree(export.folder, tmp_path / model)
        read = [{"text": text, "expected": export.runner(text)} for text in READ]
        (tmp_path / model / "read.json").write_text(json.dumps(read), encoding="utf-8")
    for name in ("reader", "copying"):
        shutil.copytree(exported(name).folder, tmp_path / name)
    for name, change in [("damaged", None), ("foreign", '{"model_type": "bert"}'), ("newer", NEWER)]:
        shutil.copytree(exported("parallel").folder, tmp_path / name)
        if change is not None:
            (tmp_path / name / "config.json").write_text(change)
    (tmp_path / "damaged" / "step.onnx").write_bytes(b"no graph")
    run_vitest("runner", MODELS=tmp_path)


@pytest.mark.parametrize("variant", ["parallel", "two vocabularies", "language model"])
def test_the_example_of_the_card_says_what_python_says(exported, tmp_path, variant):
    export = exported(variant)
    folder = shutil.copytree(export.folder, tmp_path / "model")
    (folder / "node_modules").symlink_to(JS / "node_modules")
    (example,) = re.findall(r"```js\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    (folder / "example.mjs").write_text(example)
    run = subprocess.run(["node", "example.mjs"], cwd=folder, capture_output=True, text=True)
    length = int(re.search(r"max_new_tokens: integers\(\[(\d+)\]", example)[1])
    read = export.runner.tokenizer.encode("a text").ids if variant == "language model" else []
    tokens = export.runner("a text", max_new_tokens=length)["token_ids"]
    assert run.stdout == export.runner.target.decode([*read, *tokens]) + "\n", run.stderr


def run_vitest(name, **environment):
    environment = {**os.environ, **{key: str(value) for key, value in environment.items()}}
    run = subprocess.run(["npm", "test", "--", f"test/{name}.test.js"], cwd=JS, env=environment, capture_output=True)
    assert run.returncode == 0, (run.stdout + run.stderr).decode()


@pytest.fixture
def write_site(exported, tmp_path, monkeypatch):
    """The command writes the page of what has been exported already."""

    def write(variant):
        monkeypatch.setattr(
            "attention_rnn.onnx.site.export_checkpoint",
            lambda name, folder, weights: shutil.copytree(exported(variant).folder, folder),
        )
        cli.main(["export", variant, "--web", "-o", str(tmp_path / "site")])
        return tmp_path / "site"

    return write


needs_js = pytest.mark.skipif(
    importlib.util.find_spec("attention_rnn.js") is None, reason="the package is not installed"
)


@needs_js
@pytest.mark.parametrize("variant", ["parallel", "subwords"])
def test_the_page_shows_what_python_finds(exported, write_site, variant):
    site, runner = write_site(variant), exported(variant).runner
    expected = []
    for text in texts(50):
        best = runner(text, num_beams=5, num_return_sequences=5, return_attention=True)
        first = {name: as_json(value) for name, value in best[0].items()}
        expected.append({"text": text, "first": first, "best": [one["text"] for one in best]})
    (site / "expected.json").write_text(json.dumps({"cases": expected}), encoding="utf-8")
    run_vitest("page", SITE=site)


@needs_js
@pytest.mark.parametrize("variant", ["classifier", "tagger of words"])
def test_the_page_shows_what_a_model_that_only_reads_says(exported, write_site, variant):
    site = write_site(variant)
    cases = [{"text": text, "expected": exported(variant).runner(text)} for text in READ[:3]]
    (site / "expected.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    run_vitest("reading_page", SITE=site)


@needs_js
def test_a_page_is_small_and_whole(write_site):
    site = write_site("parallel")
    files = [file for file in site.rglob("*") if file.is_file()]
    assert {"config.json", "encoder.onnx", "step.onnx", "tokenizer.json"} == {
        f.name for f in (site / "model").iterdir()
    }
    assert sum(file.stat().st_size for file in files if file.suffix != ".wasm") < 300_000
    assert (site / "README.md").read_text().startswith('---\ntitle: "parallel"\nsdk: static\n---')
    page = (site / "index.html").read_text()
    assert "<title>parallel</title>" in page
    assert "http" not in page.replace("http-equiv", "")


@needs_js
@pytest.mark.parametrize("variant", ["reader", "copying"])
def test_a_model_that_the_page_cannot_run_is_refused(write_site, tmp_path, variant):
    with pytest.raises(SystemExit, match=f"{variant} must generate without copying, classify or tag"):
        write_site(variant)
    assert not (tmp_path / "site").exists()


@needs_js
def test_a_page_without_npm_is_refused(write_site, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(SystemExit, match="a page needs npm"):
        write_site("parallel")
