"""Putting lines through a model one by one."""

import os
import select
import shutil
import sys
import threading
from pathlib import Path

import pytest
from tiny import tiny_config, tiny_model

from attention_rnn import AttentionRnnForTokenClassification, average_checkpoints
from attention_rnn.tokenizer_training import train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import evaluate_checkpoint
import generate_file
import run_classification
import run_seq2seq
import translate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["abc xyz"], "character")
    model = tiny_model(vocab_size=len(tokenizer))
    model.generation_config.max_length = 6
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pipe():
    reader, writer = os.pipe()
    return open(reader, encoding="utf-8"), open(writer, "w", encoding="utf-8", buffering=1)


def test_a_line_is_answered_before_the_next_one_comes(folder, monkeypatch):
    (stdin, to_script), (from_script, stdout) = pipe(), pipe()
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stdout", stdout)
    script = threading.Thread(target=translate.main, args=[[str(folder)]], daemon=True)
    script.start()
    for line in ("abc", "", "x"):
        to_script.write(line + "\n")
        assert select.select([from_script], [], [], 60)[0], f"no answer to {line!r} came"
        source, output = from_script.readline().rstrip("\n").split("\t")
        assert source == line
        assert bool(output) == bool(line)
    to_script.close()
    script.join(60)
    assert not script.is_alive()


def test_lines_that_have_come_are_read_together():
    lines = [f" {number}\n" for number in range(7)]
    batches = list(translate.read_batches(lines, 3))
    assert [line for batch in batches for line in batch] == [str(number) for number in range(7)]
    assert max(map(len, batches)) <= 3


def test_an_error_of_the_input_comes_after_the_lines_before_it():
    def lines():
        yield "a"
        raise UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid")

    read = []
    with pytest.raises(UnicodeDecodeError):
        read.extend(line for batch in translate.read_batches(lines(), 3) for line in batch)
    assert read == ["a"]


def test_empty_strings_of_the_command_line_have_empty_answers(folder, capsys):
    translate.main([str(folder), "abc", "", "x", " "])
    pairs = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [source for source, _ in pairs] == ["abc", "", "x", ""]
    assert [bool(output) for _, output in pairs] == [True, False, True, False]


def test_what_is_no_encoder_decoder_is_told_in_one_line(folder, tmp_path):
    tokenizer = train_tokenizer(["abc"], "character")
    tagger = AttentionRnnForTokenClassification(tiny_config(vocab_size=len(tokenizer)))
    tagger.save_pretrained(tmp_path / "tagger")
    tokenizer.save_pretrained(tmp_path / "tagger")
    shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "members" / "seed42").mkdir(parents=True)
    for name, kind, message in (
        ("tagger", ValueError, "must hold an encoder-decoder, got AttentionRnnForTokenClassification"),
        ("bare", OSError, "has no tokenizer that can be opened"),
        ("empty", OSError, "must be a folder that a training or `save_pretrained` left, but has no config.json"),
        ("begun", OSError, "must hold a trained model, and its training has not ended: the same command goes on"),
        ("missing", OSError, "there is no folder .*missing, and the Hub gives no such model"),
    ):
        with pytest.raises(kind, match=message) as raised:
            translate.main([str(tmp_path / name), "abc"])
        assert "\n" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_every_script_tells_that_there_is_no_such_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tsv").write_text("source\ttarget\na\tb\n")
    options = ["--output_dir", "out", "--use_cpu", "--num_heat_maps", "0"]
    options += ["--do_predict", "--test_file", "a.tsv", "--model_name_or_path"]
    for run in (
        lambda: translate.main(["runs/missing", "abc"]),
        lambda: generate_file.main(["runs/missing", "a.tsv", "out.jsonl"]),
        lambda: evaluate_checkpoint.main(["runs/missing", "a.tsv", "--metrics", "chrf"]),
        lambda: run_seq2seq.main([*options, "runs/missing"]),
        lambda: run_classification.main([*options, "runs/missing"]),
    ):
        with pytest.raises(OSError, match=r"^there is no folder runs/missing, and the Hub gives no such model"):
            run()
    with pytest.raises(ValueError, match="there is no folder runs/missing"):
        average_checkpoints(["runs/missing"], "mean")


@pytest.mark.parametrize("name", ["num_beams", "max_new_tokens", "batch_size"])
def test_numbers_below_one_are_refused(folder, name, capsys):
    with pytest.raises(SystemExit):
        translate.main([str(folder), "abc", f"--{name}", "0"])
    assert f"argument --{name}: 0 is below 1" in capsys.readouterr().err
