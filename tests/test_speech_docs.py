"""The commands and lines of docs/speech.md, as they stand, on a few recordings of noise and with tiny models."""

import json
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
TEXT = (ROOT / "docs" / "speech.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(command.replace("\\\n", " "))
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for command in re.findall(r"^python examples/(run_.*?[^\\])\n", block, re.DOTALL | re.MULTILINE)
]
TINY = ["hidden_size=8", "num_mel_bins=13", "subsampling_channels=[4]", "apply_spec_augment=False"]
FEW = "--max_steps 2 --eval_strategy no --save_strategy no --num_heat_maps 0 --use_cpu --disable_tqdm True"
RATE = 8000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where train.tsv, dev.tsv, test.tsv and all.tsv lie, without a header as `--column_names` wants them."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(1)
    for number, word in enumerate(["left", "right", "left", "right"]):
        soundfile.write(f"{number}.wav", noise.uniform(-0.5, 0.5, 4000 + 200 * number), RATE)
        for table in ("train", "dev", "test", "all"):
            columns = [f"{number}.wav", word] + ["anna" if number < 2 else "ben"] * (table == "all")
            with open(f"{table}.tsv", "a", encoding="utf-8") as file:
                file.write("\t".join(columns) + "\n")
    return tmp_path


def run(command):
    """Two steps of a command, with a tiny model; returns the folder of its output."""
    script, *arguments = command
    overrides = list(TINY)
    if "--config_overrides" in arguments:
        place = arguments.index("--config_overrides")
        overrides += arguments[place + 1].split(",")
        del arguments[place : place + 2]
    if "seq2seq" in script:
        overrides.append("embedding_size=6")
    import_module(script.removesuffix(".py")).main(
        [*arguments, "--config_overrides", ",".join(overrides), *FEW.split()]
    )
    return Path(arguments[arguments.index("--output_dir") + 1])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[command.index("--output_dir") + 1])
def test_a_command_runs_as_it_stands(folder, command):
    assert list(run(command).glob("*_results.json"))


def test_all_commands_are_found():
    assert len(COMMANDS) == TEXT.count("python examples/run_") == 4


def test_a_model_for_streams_hears_in_chunks_what_it_hears_at_once(folder):
    output_dir = run(COMMANDS[-1])
    assert json.loads((output_dir / "config.json").read_text())["causal"]
    model = AutoModelForSpeechSeq2Seq.from_pretrained(output_dir).eval()
    extractor = AutoProcessor.from_pretrained(output_dir).feature_extractor
    samples, _ = soundfile.read("0.wav", dtype="float32")
    said = []
    for size in (len(samples), 700):
        features, state, tokens = extractor.begin_stream(), model.begin_stream(), []
        for start in range(0, len(samples), size):
            frames, features = extractor.stream(samples[start : start + size], features)
            new, _, state = model.stream_step(frames, state)
            tokens += new
        new, _, _ = model.stream_step(torch.zeros(0, 13), state, is_last=True)
        said.append(tokens + new)
    assert said[0] == said[1]
