"""What README and the guides that it leads to show works as it stands there."""

import contextlib
import io
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from attention_rnn import AttentionRnnConfig
from attention_rnn.arguments import parse_arguments
from attention_rnn.onnx.spelling import read_lemma

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import evaluate_checkpoint

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS, IN_PYTHON = (
    (ROOT / "docs" / "guides" / name).read_text(encoding="utf-8") for name in ("scripts.md", "in_python.md")
)
COMMANDS = re.findall(r"^python examples/(run_\w+)\.py (.*)$", SCRIPTS.replace("\\\n", " "), re.MULTILINE)
EVALUATIONS = re.findall(r"^python examples/evaluate_checkpoint\.py (.*)$", SCRIPTS, re.MULTILINE)


@pytest.fixture(scope="module")
def quickstart():
    """The names that the code defines, and what it prints."""
    torch.manual_seed(0)
    code = re.search(r"## Quickstart\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return names, printed.getvalue()


def test_the_quickstart_prints_what_it_says(quickstart):
    assert quickstart[1].strip() == re.search(r"It prints `(.*?)`", README)[1]


def test_the_quickstart_does_not_train_on_padding(quickstart):
    names = quickstart[0]
    batch, pad_token_id = names["batch"], names["tokenizer"].pad_token_id
    lengths = [len(names["tokenizer"](text_target=phones)["input_ids"]) for phones in names["phones"]]
    assert (batch["labels"] != -100).sum(dim=1).tolist() == lengths
    assert pad_token_id not in batch["labels"]


def test_what_the_quickstart_saves_opens_as_it_says(quickstart, tmp_path):
    names, printed = quickstart
    for name in ("model", "tokenizer"):
        names[name].save_pretrained(tmp_path)
    code = re.search(r"that the Auto classes open:\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    opened = {"folder": tmp_path}
    exec(code, opened)
    outputs = opened["model"].generate(names["batch"]["input_ids"], max_new_tokens=9)
    assert str(opened["tokenizer"].batch_decode(outputs, skip_special_tokens=True)) == printed.strip()


def test_the_guide_spells_a_lemma_as_its_model_reads_it():
    guide = (ROOT / "docs" / "guides" / "own_file.md").read_text(encoding="utf-8")
    assert "`sagen V;PST`" in guide
    assert f'inflect("{read_lemma("sagen V;PST")}")' in guide


@pytest.mark.parametrize(("script", "arguments"), COMMANDS, ids=[script for script, _ in COMMANDS])
def test_the_arguments_of_a_training_are_accepted(script, arguments):
    module = import_module(script)
    kinds = (module.ModelArguments, module.DataArguments, module.TrainingArguments)
    module.check_arguments(*parse_arguments(shlex.split(arguments), *kinds))


def test_the_attention_is_drawn_as_it_says(quickstart, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    code = re.search(r"## Look at the attention\n.*?```python\n(.*?)```", IN_PYTHON, re.DOTALL)[1]
    names = {name: quickstart[0][name] for name in ("model", "tokenizer")}
    exec(code, names)
    assert names["target_tokens"] == ["j", "ɛ", "l", "oʊ", "</s>"]
    assert names["weights"].shape == (len(names["target_tokens"]), len(names["source_tokens"]))
    assert {"attention.png", "attention.html"} <= {file.name for file in tmp_path.iterdir()}


@pytest.mark.parametrize("arguments", EVALUATIONS)
def test_an_evaluation_reads_the_files_of_its_training(arguments, tmp_path, monkeypatch):
    """A table without header, or two aligned files."""
    monkeypatch.chdir(tmp_path)
    folder, file, *_ = shlex.split(arguments)
    AttentionRnnConfig(architectures=["AttentionRnnForConditionalGeneration"]).save_pretrained(folder)
    Path(file).write_text("hello\th ə l oʊ\n" if file.endswith(".tsv") else "hello\n", encoding="utf-8")
    Path("test.de").write_text("hallo\n", encoding="utf-8")
    monkeypatch.setattr(evaluate_checkpoint, "predict", lambda task, items, options: [i.references[0] for i in items])
    scores = evaluate_checkpoint.main(shlex.split(arguments))
    assert scores.get("exact_match", scores.get("chrf")) == 100.0
