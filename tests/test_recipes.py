"""The recipes of the quality benchmarks by the commands of their model cards, two steps on made-up data."""

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
from transformers import HfArgumentParser

from attention_rnn import ReliableTrainingArguments
from attention_rnn.arguments import parse_arguments
from attention_rnn.recipes import RECIPES

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

WORDS = ["uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove", "dieci"]
SPELT = [{"source": f"{' '.join(word)} [N]", "target": " ".join(word.upper())} for word in WORDS]
PAIRS = [{"source": word, "target": f"{word} {word[::-1]}"} for word in WORDS]
SENTIMENTS = [{"text": f"{word} {word}", "label": str(number % 3)} for number, word in enumerate(WORDS)]
TAGGED = [{"tokens": [word, "x"], "labels": ["B-A", "O"], "intent": word[0]} for word in WORDS]
QUESTIONS = [
    {
        "context": f"So {word} it is.",
        "qas": [{"id": word, "question": "What?", "answers": [{"text": word, "answer_start": 3}]}],
    }
    for word in WORDS
]
DATA = {
    "g2p": SPELT,
    "inflection": SPELT,
    "mt": PAIRS,
    "norm": PAIRS,
    "summ": PAIRS,
    "cls": SENTIMENTS,
    "seqlab": TAGGED,
    "qa": QUESTIONS,
    "ts": [{"day": day, "rate": day % 7} for day in range(180)],
}


def write_recordings(folder):
    """Half a second of noise for each word, which is text and label at once."""
    rows = [{"audio": f"{word}.wav", "text": word, "label": word} for word in WORDS]
    for row in rows:
        noise = np.random.default_rng(1).uniform(-0.5, 0.5, 4000 + 100 * len(row["text"]))
        soundfile.write(folder / row["audio"], noise, 8000)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def command_of(card):
    text = card.read_text(encoding="utf-8")
    (command,) = re.findall(r"^python (examples/run_.*?)\n```", text, re.DOTALL | re.MULTILINE)
    return command


CARDS = {card.stem: card for card in sorted((ROOT / "model_cards").glob("*.md"))}
COMMANDS = {name: command_of(card) for name, card in CARDS.items()}
# recipes that no table has been made of
COMMANDS["speech_keywords"] = (
    "examples/run_audio_classification.py src/attention_rnn/recipes/keyword-spotting.yaml --do_train --do_eval "
    "--do_predict --train_file TRAIN --validation_file DEV --test_file TEST --output_dir runs/speech_keywords"
)
COMMANDS["cls_names"] = COMMANDS["cls_sst2"].replace("sentiment.yaml", "names.yaml").replace("cls_sst2", "cls_names")
for of_card, size in (("g2p_sigmorphon2020", ""), ("g2p_few", "-small")):
    command = COMMANDS[of_card].replace(f"g2p{size}.yaml", f"transliteration{size}.yaml")
    COMMANDS[f"g2p_transliteration{size}"] = command.replace(of_card, f"g2p_transliteration{size}")


def test_every_recipe_is_tried():
    tried = {recipe for command in COMMANDS.values() for recipe in re.findall(r"recipes/([\w-]+)\.yaml", command)}
    assert tried == set(RECIPES)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_of_a_card_runs_as_it_stands(name, tmp_path, monkeypatch):
    script, *arguments = shlex.split(COMMANDS[name].replace("\\\n", " "))
    monkeypatch.chdir(ROOT)  # where the command names the recipe
    if name.startswith("speech"):
        file = write_recordings(tmp_path)
    elif script.endswith("run_clm.py"):
        file = tmp_path / "text.txt"
        file.write_text("".join(f"{word}, {word}!\n" for word in WORDS * 3), encoding="utf-8")
    else:
        file = tmp_path / "rows.jsonl"
        rows = DATA[name.split("_")[0]]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values = {split: str(file) for split in ("TRAIN", "DEV", "TEST")} | {f"runs/{name}": str(tmp_path / "run")}
    if script.endswith("run_forecasting.py"):  # splits follow each other in time
        for number, split in enumerate(("TRAIN", "DEV", "TEST")):
            values[split] = str(tmp_path / f"{split}.jsonl")
            lines = [json.dumps(row) + "\n" for row in rows[60 * number : 60 * number + 60]]
            Path(values[split]).write_text("".join(lines), encoding="utf-8")
    arguments = [values.get(argument, argument) for argument in arguments]
    arguments += ["--max_steps", "2", "--disable_tqdm", "True"]
    if not script.endswith("run_forecasting.py"):  # it stops early
        arguments += ["--eval_strategy", "no", "--save_strategy", "no"]
    if script.endswith("run_seq2seq.py"):
        arguments += ["--max_target_length", "4", "--num_heat_maps", "1"]  # what has learnt nothing does not end
    if script.endswith("run_clm.py"):
        arguments += ["--sample_length", "5"]
    scores = import_module(Path(script).stem).main(arguments)
    assert scores.keys() == {"validation", "test"}
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "script", ["run_seq2seq", "run_clm", "run_classification", "run_labelling", "run_qa", "run_forecasting"]
)
def test_a_command_line_has_the_defaults_of_the_arguments(script, tmp_path):
    kind = import_module(script).TrainingArguments
    (parsed,) = parse_arguments(["--output_dir", str(tmp_path)], kind)
    in_python = kind(output_dir=str(tmp_path))
    for name in ("use_cpu", "dataloader_pin_memory", "load_best_model_at_end", "bf16"):
        assert getattr(parsed, name) == getattr(in_python, name), name
    assert parsed.use_cpu == (not torch.accelerator.is_available())
    assert parsed.dataloader_pin_memory == torch.accelerator.is_available()


@pytest.mark.parametrize(("given", "expected"), [(["--use_cpu"], True), (["--use_cpu", "True"], True)])
def test_the_cpu_can_be_asked_for(tmp_path, given, expected):
    parser = HfArgumentParser(ReliableTrainingArguments)
    (args,) = parser.parse_args_into_dataclasses(["--output_dir", str(tmp_path), "--bf16", "True", *given])
    assert (args.use_cpu, args.dataloader_pin_memory, args.bf16) == (expected, False, True)
    assert args.device.type == "cpu"


@pytest.mark.parametrize("has_accelerator", [True, False])
def test_an_accelerator_is_used_where_there_is_one(tmp_path, monkeypatch, has_accelerator):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_accelerator)
    for given, use_cpu in (([], not has_accelerator), (["--use_cpu", "False"], False), (["--use_cpu"], True)):
        parser = HfArgumentParser(ReliableTrainingArguments)
        (args,) = parser.parse_args_into_dataclasses(["--output_dir", str(tmp_path), *given])
        assert args.use_cpu is use_cpu
        assert args.dataloader_pin_memory is (has_accelerator and not use_cpu)
