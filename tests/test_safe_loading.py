"""Nothing that comes with a checkpoint runs or reads what it should not."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_trainer import trainer
from tiny import tiny_model
from transformers import AutoTokenizer
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

import attention_rnn
from attention_rnn import AttentionRnnForConditionalGeneration, AttentionRnnTokenizer, average_checkpoints
from attention_rnn.models.configuration_attention_rnn import AUTO_MAP
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

ROOT = Path(attention_rnn.__file__).parents[2]
SOURCES = [path for folder in ("src", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]


def relative(path):
    return str(path.relative_to(ROOT))


class Explosive:
    """Its pickle makes a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    tiny_model().save_pretrained(folder)
    pair_tokenizers(train_tokenizer(["a b"], "word"), train_tokenizer(["c d"], "word")).save_pretrained(folder)
    return folder


def edit_json(path, **changes):
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **changes}))


# Pickle


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_source_unpickles(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {name.split(".")[0] for name in names} & {
            "pickle",
            "dill",
            "cloudpickle",
            "joblib",
            "shelve",
            "marshal",
        }
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "np.load", "numpy.load"), called
            if called == "torch.load":
                assert {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}.get(
                    "weights_only"
                ) == "True"


def test_what_is_saved_is_safetensors(checkpoint):
    assert {path.suffix for path in checkpoint.iterdir()} == {".json", ".py", ".safetensors"}


def test_weights_in_a_pickle_that_does_something_are_refused(checkpoint, tmp_path):
    (checkpoint / SAFE_WEIGHTS_NAME).unlink()
    mark = tmp_path / "mark"
    torch.save({"lm_head.weight": Explosive(mark)}, checkpoint / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"(?i)weights.only|safetensors|pickle"):
        AttentionRnnForConditionalGeneration.from_pretrained(checkpoint)
    assert not mark.exists()


def test_the_mean_of_checkpoints_reads_no_pickle(checkpoint, tmp_path):
    (checkpoint / SAFE_WEIGHTS_NAME).rename(tmp_path / "elsewhere.safetensors")
    torch.save({"lm_head.weight": Explosive(tmp_path / "mark")}, checkpoint / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        average_checkpoints([checkpoint], tmp_path / "mean")
    assert not (tmp_path / "mark").exists()


# Code

CODE_OUTSIDE = ["../outside", "{root}/outside", "..outside"]
LOAD = """
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

def load(folders):
    for folder in folders:
        for auto_class in (AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer):
            for trust in ({}, {"trust_remote_code": False}):
                try:
                    yield type(auto_class.from_pretrained(folder, **trust)).__name__
                except Exception as error:
                    yield type(error).__name__
"""
WITHOUT_PACKAGE = f"""
import sys
sys.modules["attention_rnn"] = None
{LOAD}
print(*load(sys.argv[1:]))
AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], trust_remote_code=True)
"""


def leave_mark(mark):
    return f"\nimport os\nos.makedirs({str(mark)!r}, exist_ok=True)\n"


@pytest.fixture
def folders_with_code(checkpoint, tmp_path):
    """A checkpoint whose code makes the folder `inside`, and others which refer to code that makes `outside`."""
    folders = [checkpoint]
    for index, module in enumerate(CODE_OUTSIDE):
        folders.append(shutil.copytree(checkpoint, tmp_path / f"checkpoint{index}"))
        reference = module.format(root=tmp_path) + ".Outside"
        edit_json(folders[-1] / "config.json", auto_map={name: reference for name in AUTO_MAP})
        edit_json(folders[-1] / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, reference]})
    (tmp_path / "outside.py").write_text(leave_mark(tmp_path / "outside") + "class Outside: pass\n")
    for path in checkpoint.glob("*.py"):
        path.write_text(path.read_text() + leave_mark(tmp_path / "inside"))
    return folders


def test_with_the_package_no_code_of_a_checkpoint_runs(folders_with_code, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "")  # transformers asks whether to trust it
    names: dict = {}
    exec(LOAD, names)
    loaded = list(names["load"](folders_with_code))
    assert loaded[:6:2] == ["AttentionRnnConfig", "AttentionRnnForConditionalGeneration", "AttentionRnnTokenizer"]
    assert not (tmp_path / "inside").exists()
    assert not (tmp_path / "outside").exists()


def test_without_the_package_code_runs_with_trust_alone(folders_with_code, tmp_path):
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", WITHOUT_PACKAGE, *folders_with_code]
    finished = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, input="")
    assert finished.returncode == 0, finished.stderr
    assert "ValueError" in finished.stdout
    assert "AttentionRnn" not in finished.stdout
    assert (tmp_path / "inside").exists()  # of the last line, which trusts it
    assert not (tmp_path / "outside").exists()


# Files


def shard(checkpoint, name):
    """Move the weights to `name`, relative to the checkpoint, with an index that says so."""
    weights = load_file(checkpoint / SAFE_WEIGHTS_NAME)
    (checkpoint / SAFE_WEIGHTS_NAME).unlink()
    save_file(weights, checkpoint / name, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": {key: str(name) for key in weights}}
    (checkpoint / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index))


@pytest.mark.parametrize(
    "where", ["../outside.safetensors", "sub/../../outside.safetensors", "{root}/outside.safetensors"]
)
def test_an_index_cannot_name_weights_outside(checkpoint, tmp_path, where):
    (checkpoint / "sub").mkdir()
    shard(checkpoint, where.format(root=tmp_path))
    with pytest.raises(ValueError, match="own folder, got"):
        AttentionRnnForConditionalGeneration.from_pretrained(checkpoint)
    with pytest.raises(ValueError, match="own folder, got"):
        average_checkpoints([checkpoint], tmp_path / "mean")


def test_an_index_names_weights_inside(checkpoint):
    expected = load_file(checkpoint / SAFE_WEIGHTS_NAME)
    shard(checkpoint, "model-00001-of-00001.safetensors")
    model = AttentionRnnForConditionalGeneration.from_pretrained(checkpoint)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in expected.items())


@pytest.mark.parametrize("is_missing", [True, False], ids=["own file missing", "own file there"])
@pytest.mark.parametrize("argument", ["tokenizer_file", "target_tokenizer_file"])
def test_the_config_of_a_tokenizer_cannot_name_a_file(checkpoint, tmp_path, argument, is_missing):
    secret = train_tokenizer(["secret words"], "word")
    secret.save_pretrained(tmp_path / "outside")
    outside = str(tmp_path / "outside" / "tokenizer.json")
    name = AttentionRnnTokenizer.vocab_files_names[argument]
    edit_json(checkpoint / "tokenizer_config.json", **{argument: outside, "vocab_files_names": {argument: outside}})
    if is_missing:
        (checkpoint / name).unlink()
        with pytest.raises((ValueError, OSError)):
            AutoTokenizer.from_pretrained(checkpoint)
        return
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert isinstance(tokenizer, AttentionRnnTokenizer)
    assert "secret" not in {**tokenizer.get_vocab(), **tokenizer.target.get_vocab()}


def test_a_config_names_no_file_that_loading_reads(checkpoint, tmp_path):
    secret = {"name_or_path": str(tmp_path), "_name_or_path": str(tmp_path), "tokenizer_class": f"{tmp_path}/outside"}
    edit_json(checkpoint / "config.json", **secret)
    model = AttentionRnnForConditionalGeneration.from_pretrained(checkpoint)
    assert model.config.name_or_path == str(checkpoint)


def test_a_resumed_training_unpickles_nothing_that_acts(tmp_path):
    mark = tmp_path / "mark"
    trainer(tmp_path / "run", save_strategy="epoch").train()
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.save({"state": Explosive(mark)}, checkpoint / name)
    torch.save(Explosive(mark), checkpoint / "training_args.bin")
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        trainer(tmp_path / "run", num_train_epochs=2).train(resume_from_checkpoint=str(checkpoint))
    assert not mark.exists()
