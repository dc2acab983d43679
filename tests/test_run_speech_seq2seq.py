"""The script that trains speech to text, and the one that transcribes, run in this process on words made of tones."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_speech_seq2seq
import transcribe

from attention_rnn import ReliableSeq2SeqTrainingArguments
from attention_rnn.speech.data import AscendingFirst, AscendingSampler

RATE = 8000
WORDS = {"a": 300, "b": 900, "c": 2500}
TINY_RUN = """
--config_overrides hidden_size=16,embedding_size=8,num_mel_bins=13,subsampling_channels=[4],apply_spec_augment=False
--max_steps 2 --warmup_steps 5 --num_heat_maps 1 --per_device_train_batch_size 4 --use_cpu --disable_tqdm True
"""


def say(text):
    """A tone for each letter, and pauses."""
    silence = np.zeros(int(0.06 * RATE))
    time = np.arange(int(0.1 * RATE)) / RATE
    parts = [silence]
    for letter in text.replace(" ", ""):
        parts += [0.3 * np.sin(2 * np.pi * WORDS[letter] * time), silence]
    return np.concatenate(parts).astype(np.float32)


TEXTS = ["a b", "b", "c a", "a", "b c", "c", "a c", "b a"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for number, text in enumerate(TEXTS):
        soundfile.write(folder / f"{number}.wav", say(text), RATE)
        rows.append({"audio": f"{number}.wav", "text": text})
    table = folder / "table.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return table


def run(output_dir, *arguments):
    """Runs the script with a tiny model for a few steps; the given arguments win."""
    return run_speech_seq2seq.main([*TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """The output folder of a run, and what the script returned."""
    folder = tmp_path_factory.mktemp("run") / "tones"
    files = [f"--{split}_file={corpus}" for split in ("train", "validation", "test")]
    options = ["--max_steps", "150", "--eval_strategy", "no", "--learning_rate", "0.01", "--speed_change", "0"]
    return folder, run(folder, "--do_train", "--do_eval", "--do_predict", *files, *options)


def test_a_run_leaves_everything_in_its_folder(finished):
    folder, _ = finished
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "README.md"}
    assert names >= {"predict_results.json", "generated_predictions.jsonl"}
    assert [path.name for path in (folder / "attention_maps").iterdir()] == ["0.png"]
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "automatic-speech-recognition"
    assert "attention_maps/0.png" in card.text


def test_a_run_finds_how_late_its_model_hears(finished):
    config = json.loads((finished[0] / "config.json").read_text())
    assert 0 <= config["emission_delay"] < 0.8
    assert "AutoModelForSpeechSeq2Seq" in config["auto_map"]


def test_it_learns_to_write_what_is_said(finished):
    folder, scores = finished
    assert scores["test"]["cer"] < 40
    rows = [json.loads(line) for line in (folder / "generated_predictions.jsonl").read_text().splitlines()]
    assert [row["reference"] for row in rows] == TEXTS


def test_an_evaluation_leaves_the_length_of_transcripts_open(finished):
    folder, scores = finished
    settings = json.loads((folder / "generation_config.json").read_text())
    assert "max_length" not in settings
    assert scores["validation"] == scores["test"]  # the same data, decoded a second time


def test_transcribing_gives_the_predictions_of_the_run_with_times(finished, corpus, capsys):
    folder, _ = finished
    rows = [json.loads(line) for line in (folder / "generated_predictions.jsonl").read_text().splitlines()]
    recordings = [str(corpus.parent / row["audio"]) for row in rows[:3]]
    results = transcribe.main([str(folder), *recordings, "--timestamps", "word"])
    assert [result["text"] for result in results] == [row["prediction"] for row in rows[:3]]
    for result in results:
        assert [chunk["text"] for chunk in result["chunks"]] == result["text"].split()
    assert f"{recordings[0]}: {results[0]['text']}\n" in capsys.readouterr().out


def test_transcribing_reads_long_audio_in_chunks(finished, tmp_path, capsys):
    soundfile.write(tmp_path / "long.wav", np.tile(say("a b c"), 5), RATE)
    (result,) = transcribe.main([str(finished[0]), str(tmp_path / "long.wav"), "--chunk_seconds", "1", "--jsonl"])
    assert json.loads(capsys.readouterr().out) == result
    assert len(result["text"]) > 5


def test_a_training_goes_on_from_a_checkpoint(finished, corpus, tmp_path):
    model = ["--model_name_or_path", finished[0], "--output_dir", tmp_path / "on", "--max_steps", "1"]
    arguments = ["--do_train", "--train_file", corpus, *model, "--use_cpu", "--num_heat_maps", "0"]
    run_speech_seq2seq.main([*map(str, arguments), "--disable_tqdm", "True"])
    assert (tmp_path / "on" / "processor_config.json").exists()


def test_the_shortest_come_first_and_later_neighbours_are_of_similar_length():
    lengths = [5.0, 1.0, 3.0, 2.0, 4.0, 6.0]
    sampler = AscendingSampler(lengths, batch_size=2, seed=7)
    assert list(sampler) == [1, 3, 2, 4, 0, 5]
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(second) == [0, 1, 2, 3, 4, 5]
    assert second != [1, 3, 2, 4, 0, 5]
    assert list(sampler) == second  # a resumed training reads the same order
    sampler.set_epoch(2)
    assert list(sampler) != second


def test_a_trainer_takes_that_order_unless_it_is_told_random(tmp_path):
    class Parent:
        def _get_train_sampler(self, train_dataset=None):
            return "of transformers"

    class Trainer(AscendingFirst, Parent):
        def __init__(self, strategy):
            options = {"use_cpu": True, "train_sampling_strategy": strategy}
            self.args = ReliableSeq2SeqTrainingArguments(str(tmp_path), **options)
            self.train_dataset = type("Examples", (), {"lengths": [2.0, 1.0]})()

    assert list(Trainer("group_by_length")._get_train_sampler()) == [1, 0]
    assert Trainer("random")._get_train_sampler() == "of transformers"


def test_what_is_too_long_is_left_out_of_training_alone(corpus, tmp_path, caplog):
    caplog.set_level("WARNING")
    arguments = ["--do_train", "--do_predict", "--train_file", corpus, "--test_file", corpus, "--max_duration", "0.3"]
    run(tmp_path / "out", *arguments)
    assert "5 of 8 training recordings are longer than --max_duration 0.3 s" in caplog.text
    rows = (tmp_path / "out" / "generated_predictions.jsonl").read_text().splitlines()
    assert len(rows) == 8


@pytest.mark.parametrize(("given", "expected"), [("", 10), (",lookahead=0", 0), (",time_reduction=[2,1]", 5)])
def test_a_model_that_reads_forwards_looks_ahead(corpus, tmp_path, given, expected):
    overrides = "hidden_size=16,num_mel_bins=13,subsampling_channels=[4,4],bidirectional=False,causal=True" + given
    run(tmp_path, "--do_train", "--train_file", corpus, "--config_overrides", overrides)
    assert json.loads((tmp_path / "config.json").read_text())["lookahead"] == expected


def test_a_triggered_attention_is_trained_and_tested(corpus, tmp_path):
    overrides = "hidden_size=16,num_mel_bins=13,subsampling_channels=[4],bidirectional=False,causal=True"
    overrides += ",attention_window=8,bridge=zeros"
    files = ["--train_file", corpus, "--validation_file", corpus, "--config_overrides", overrides]
    scores = run(tmp_path, "--do_train", "--do_eval", *files)
    assert scores["validation"]["wer"] >= 0
    assert (tmp_path / "README.md").is_file()


def test_a_model_for_streams_is_normalised_by_what_it_has_heard(corpus, tmp_path):
    overrides = "hidden_size=16,num_mel_bins=13,subsampling_channels=[4],bidirectional=False,causal=True"
    arguments = ["--speed_change", "0", "--config_overrides", overrides]
    run(tmp_path / "out", "--do_train", "--train_file", corpus, *arguments)
    saved = json.loads((tmp_path / "out" / "processor_config.json").read_text())["feature_extractor"]
    assert saved["normalization"] == "running"
    assert len(saved["mean"]) == 13


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokenizer", "auto"], "--tokenizer must be one of"),
        (["--metrics", "accuracy"], "--metrics must be one of"),
        (["--num_beams", "0"], "--num_beams must be at least 1"),
        (["--max_duration", "0"], "--max_duration must be from 0.01"),
        (["--transcript_column", "words"], "there must be a column 'words'"),
        (["--config_overrides", "cell_kind=gru"], "--config_overrides must name fields of the config"),
    ],
)
def test_arguments_are_checked(corpus, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", "--do_train", "--train_file", corpus, *arguments)


def test_a_missing_recording_is_told_with_its_row(corpus, tmp_path):
    table = tmp_path / "table.tsv"
    table.write_text("audio\ttext\nnone.wav\ta b\n")
    with pytest.raises(FileNotFoundError, match=r"table.tsv, line 2: there is no recording .*none.wav"):
        run(tmp_path / "out", "--do_train", "--train_file", table)
