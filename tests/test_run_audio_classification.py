"""The script that trains a classifier of recordings, run within this process on a few tones."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard
from transformers import pipeline

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_audio_classification

RATE = 8000
FREQUENCIES = {"high": 2000, "low": 300}
TINY_RUN = """
--config_overrides hidden_size=8,num_mel_bins=13,subsampling_channels=[3,4],apply_spec_augment=False
--max_steps 3 --warmup_steps 5 --learning_rate 0.01 --num_heat_maps 1
--per_device_train_batch_size 4 --use_cpu --disable_tqdm True
"""
ONE_STEP = ["--max_steps", "1", "--use_cpu", "--disable_tqdm", "True", "--num_heat_maps", "0"]


def tone(frequency, seconds=0.2, rate=RATE):
    """A tone between two pauses: what never changes has no features, as each band loses its mean."""
    samples = 0.3 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)
    return np.pad(samples, int(0.05 * rate)).astype(np.float32) if seconds > 0.05 else samples.astype(np.float32)


def write_corpus(folder, speakers=("anna", "ben"), rate=RATE, of_each=3):
    """Tones that are high or low, of each speaker in a pitch of his own, and the table that lists them."""
    (folder / "wav").mkdir(parents=True)
    rows = ["audio\tlabel\tspeaker"]
    for number, speaker in enumerate(speakers):
        for label, frequency in FREQUENCIES.items():
            for take in range(of_each):
                name = f"wav/{speaker}_{label}_{take}.wav"
                samples = tone(frequency * (1 + 0.05 * number), 0.15 + 0.03 * take, rate)
                soundfile.write(folder / name, samples, rate)
                rows.append(f"{name}\t{label}\t{speaker}")
    table = folder / "table.tsv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def run(output_dir, *arguments):
    """Runs the script with a tiny model for a few steps; the given arguments win."""
    return run_audio_classification.main([*TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """The output folder of a run, and what the script returned."""
    folder = tmp_path_factory.mktemp("run") / "tones"
    files = [f"--{split}_file={corpus}" for split in ("train", "validation", "test")]
    options = ["--max_steps", "60", "--eval_strategy", "no", "--speed_change", "0"]
    return folder, run(folder, "--do_train", "--do_eval", "--do_predict", *files, *options)


def test_a_run_leaves_everything_in_its_folder(finished):
    folder, scores = finished
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}
    assert names >= {"confusion_matrix.png", "predict_results.json", "predictions.jsonl"}
    assert [path.name for path in (folder / "attention_maps").iterdir()] == ["0.png"]
    assert scores["test"]["accuracy"] == 100
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert rows[0]["audio"] == "wav/anna_high_0.wav"
    assert rows[0]["prediction"] == rows[0]["reference"] == "high"


def test_the_model_is_used_as_its_card_says(finished, corpus):
    folder, _ = finished
    classify = pipeline("audio-classification", str(folder))
    assert classify(str(corpus.parent / "wav" / "ben_low_1.wav"), top_k=1)[0]["label"] == "low"
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "audio-classification"
    assert card.data.tags == ["attention-rnn"]
    assert "attention_maps/0.png" in card.text


def test_features_are_of_the_sampling_rate_of_the_data(finished):
    config = json.loads((finished[0] / "config.json").read_text())
    assert (config["sampling_rate"], config["hop_length"], config["num_mel_bins"]) == (RATE, 80, 13)


def test_a_model_is_trained_on_with_a_new_label(finished, tmp_path):
    table = write_corpus(tmp_path, of_each=2)
    table.write_text(table.read_text().replace("high\tben", "shrill\tben"))
    arguments = ["--do_train", "--do_predict", "--train_file", table, "--test_file", table]
    run_audio_classification.main(
        [
            *map(str, arguments),
            "--model_name_or_path",
            str(finished[0]),
            "--output_dir",
            str(tmp_path / "on"),
            *ONE_STEP,
        ]
    )
    assert json.loads((tmp_path / "on" / "config.json").read_text())["id2label"]["2"] == "shrill"


def test_each_group_is_tested_by_a_model_that_has_not_heard_it(corpus, tmp_path):
    scores = run(tmp_path / "groups", "--do_train", "--do_predict", "--train_file", corpus, "--group_column", "speaker")
    assert set(scores) == {"anna", "ben", "mean"}
    assert scores["mean"]["accuracy"] == (scores["anna"]["accuracy"] + scores["ben"]["accuracy"]) / 2
    assert json.loads((tmp_path / "groups" / "leave_one_out_results.json").read_text()) == scores
    for group in ("anna", "ben"):
        rows = [json.loads(row) for row in (tmp_path / "groups" / group / "predictions.jsonl").read_text().splitlines()]
        assert {row["audio"].split("/")[1].split("_")[0] for row in rows} == {group}


def test_the_folders_of_a_folder_are_labels(tmp_path):
    for label, frequency in FREQUENCIES.items():
        (tmp_path / "data" / label).mkdir(parents=True)
        for take in range(2):
            soundfile.write(tmp_path / "data" / label / f"{take}.wav", tone(frequency, 0.1 + 0.05 * take), RATE)
    run(tmp_path / "out", "--do_train", "--train_file", tmp_path / "data")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["label2id"] == {"high": 0, "low": 1}


def test_a_folder_with_metadata_is_read_by_them(tmp_path):
    write_corpus(tmp_path)
    (tmp_path / "metadata.csv").write_text(
        "file_name,command\nwav/anna_high_0.wav,up\nwav/anna_low_0.wav,down\nwav/ben_low_1.wav,down\n"
    )
    run(tmp_path / "out", "--do_train", "--train_file", tmp_path)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["label2id"] == {"down": 0, "up": 1}


def damage_missing(folder):
    (folder / "wav" / "anna_high_1.wav").unlink()


def damage_text(folder):
    (folder / "wav" / "anna_high_1.wav").write_text("no audio")


def damage_short(folder):
    soundfile.write(folder / "wav" / "anna_high_1.wav", tone(300, 0.01), RATE)


def damage_nan(folder):
    soundfile.write(folder / "wav" / "anna_high_1.wav", np.full(4000, np.nan), RATE, subtype="FLOAT")


def damage_empty(folder):
    soundfile.write(folder / "wav" / "anna_high_1.wav", np.zeros(0), RATE)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (damage_missing, FileNotFoundError, "there is no recording .*anna_high_1.wav"),
        (damage_text, ValueError, "cannot be read as audio"),
        (damage_short, ValueError, r"must last a frame or longer, 0.025 s, got 0.0100 s"),
        (damage_nan, ValueError, "NaN"),
        (damage_empty, ValueError, "must hold samples"),
    ],
)
def test_a_bad_recording_is_told_with_its_row_before_training(tmp_path, damage, error, message):
    table = write_corpus(tmp_path)
    damage(tmp_path)
    with pytest.raises(error, match=rf"table.tsv, line 3: .*{message}"):
        run(tmp_path / "out", "--do_train", "--train_file", table)


def test_channels_rates_and_depths_may_be_mixed(tmp_path):
    table = write_corpus(tmp_path, of_each=2)
    folder = tmp_path / "wav"
    soundfile.write(folder / "anna_high_1.wav", np.stack([tone(2000, rate=48_000)] * 2, axis=1), 48_000)
    soundfile.write(folder / "ben_low_1.wav", tone(300, rate=22_050), 22_050, subtype="PCM_24")
    soundfile.write(folder / "ben_high_1.wav", tone(2000), RATE, subtype="PCM_U8")
    whole = (folder / "anna_low_1.wav").read_bytes()
    (folder / "anna_low_1.wav").write_bytes(whole[: len(whole) * 2 // 3])  # its header tells more than there is
    arguments = ["--do_train", "--do_predict", "--train_file", table, "--test_file", table]
    scores = run(tmp_path / "out", *arguments, "--signal_to_noise", "20", "--time_shift", "0.02")
    assert np.isfinite(scores["test"]["accuracy"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speed_change", "0.6"], "--speed_change must be from 0 to 0.5"),
        (["--max_duration", "0.1"], "--max_duration 0.1 leaves out all 12 training recordings"),
        (
            ["--config_overrides", "hop_length=100"],
            r"--config_overrides must leave \['hop_length'\] to --sampling_rate",
        ),
        (["--normalization", "global_mean"], "`normalization` must be one of"),
        (["--metrics", "wer"], "--metrics must be one of accuracy"),
        (["--group_column", "speaker"], "--group_column needs --do_train and --do_predict"),
        (["--label_column", "command"], "there must be a column 'command'"),
    ],
)
def test_arguments_are_checked(corpus, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", "--do_train", "--train_file", corpus, *arguments)
