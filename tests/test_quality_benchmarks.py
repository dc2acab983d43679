"""The quality benchmarks, on data sets of a few lines."""

import gzip
import io
import json
import re
import shlex
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard
from tiny import tiny_model
from tiny_speech import STREAMED, tiny_ctc
from transformers import pipeline

from attention_rnn import (
    AttentionRnnFeatureExtractor,
    AttentionRnnForConditionalGeneration,
    AttentionRnnSpeechProcessor,
    cli,
)
from attention_rnn.arguments import parse_config_overrides
from attention_rnn.recipes import as_arguments
from attention_rnn.tokenizer_training import train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "quality"))
import mackey_glass
import report
import run
import speech
import tasks
from tasks import TASKS

QUALITY = Path(run.__file__).parent


def write(file, *lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


@pytest.mark.parametrize("name", TASKS)
def test_a_recipe_makes_a_valid_model_in_every_setting(name):
    recipe = tasks.arguments_of(TASKS[name])
    script = import_module(TASKS[name].script.removesuffix(".py"))
    config_class = script.ModelArguments.config_class
    for overrides in TASKS[name].settings.values():
        fields = parse_config_overrides(f"{recipe['config_overrides']},{overrides}".strip(","), config_class)
        config = config_class(**fields)
        assert config.attention_type is None or "attention_type=None" not in overrides
    arguments = (script.ModelArguments, script.DataArguments, script.TrainingArguments)
    assert set(recipe) <= {field for of_kind in arguments for field in of_kind.__dataclass_fields__}


@pytest.fixture(scope="module")
def encoder_decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder_decoder")
    tokenizer = train_tokenizer(["abc"], kind="character")
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


MEASURED = [name for name in TASKS if report.read_results(report.RESULTS / f"{name}.json")]


@pytest.mark.parametrize("name", [name for name in MEASURED if TASKS[name].script == "run_seq2seq.py"])
def test_the_tag_of_a_card_and_its_recipe_opens_an_encoder_decoder(name, encoder_decoder):
    tag = ModelCard.load(report.CARDS / f"{name}.md").data.pipeline_tag
    recipe = tasks.arguments_of(TASKS[name])
    assert recipe["task"] == tag
    assert isinstance(pipeline(tag, encoder_decoder).model, AttentionRnnForConditionalGeneration)


@pytest.mark.parametrize("name", MEASURED)
def test_the_committed_card_is_that_of_the_committed_results(name):
    card = (report.CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert card == report.card(name, report.read_results(report.RESULTS / f"{name}.json"))


@pytest.mark.parametrize("name", TASKS)
def test_the_command_of_a_card_has_the_arguments_of_the_task_whole(name):
    results = {"runs": [run_of(next(iter(TASKS[name].settings)), 1) | {"parameters": 10}], "ensembles": []}
    (block,) = re.findall(r"^python examples/.*?(?=^```)", report.card(name, results), re.DOTALL | re.MULTILINE)
    words = shlex.split(block.replace("\\\n", " "))
    arguments = as_arguments(TASKS[name].arguments)
    assert words[len(words) - len(arguments) :] == arguments


def test_multi30k_has_two_test_sets_that_are_scored_apart(tmp_path):
    for year, german in (("2016", "ein hund rennt schnell"), ("2017", "eine katze schläft hier")):
        write(tmp_path / f"test_{year}_flickr.lc.norm.tok.en", "a dog runs fast")
        write(tmp_path / f"test_{year}_flickr.lc.norm.tok.de", german)
    task = TASKS["mt_multi30k_ende"]
    rows = list(task.read(tmp_path, "attention", "test"))
    assert [row["target"] for row in rows] == ["ein hund rennt schnell", "eine katze schläft hier"]
    scores = task.score(["ein hund rennt schnell", "der"], rows)
    assert scores == {"bleu_test2016": pytest.approx(100), "bleu_test2017": 0}


def test_g2p_counts_wrong_words_and_wrong_phones(tmp_path):
    write(tmp_path / "dev" / "ice_dev.tsv", "adda\ta tː a", "af\taː v")
    task = TASKS["g2p_sigmorphon2020"]
    rows = list(task.read(tmp_path, "ice", "dev"))
    assert rows[0] == {"source": "adda", "target": "a tː a"}
    assert task.score(["a tː a", "aː f"], rows) == {"word_error_rate": 50, "per": pytest.approx(20)}


def test_features_stand_among_the_characters_of_a_lemma(tmp_path):
    write(tmp_path / "german-train-medium", "an N\tä n\tN;DAT;PL")
    write(tmp_path / "german-test", "ab\tba\tV")
    task = TASKS["inflection_sigmorphon2017"]
    assert list(task.read(tmp_path, "german-medium", "train")) == [
        {"source": "a n ␣ N [N] [DAT] [PL]", "target": "ä ␣ n"}
    ]
    rows = list(task.read(tmp_path, "german-medium", "test"))
    assert task.score(["b a"], rows) == {"accuracy": 100}


def test_historical_tokens_are_prepared_as_published(tmp_path, monkeypatch):
    lines = ["AN\tAn", "", "¶", "\t", ".\t.", "a\u0308l\tÖl", "1482\t1482", "17te\t17.", "vnnd\tund"]
    write(tmp_path / "german-ridges.train.txt", *lines)
    task = TASKS["norm_historical"]
    expected = [("an", "an"), ("äl", "öl"), ("0000", "0000"), ("17te", "17."), ("vnnd", "und")]
    assert [tuple(row.values()) for row in task.read(tmp_path, "german", "train")] == expected
    monkeypatch.setattr(tasks, "HISTORICAL_TRAINING_TOKENS", 2)
    assert [tuple(row.values()) for row in task.read(tmp_path, "german", "train")] == expected[:2]


def test_subject_lines_are_scored_against_the_original(tmp_path):
    with gzip.open(tmp_path / "test.jsonl.gz", "wt") as file:
        file.write(json.dumps({"body": "Hi Greg,\nsee Exhibit C.", "subject": "Re: Exhibit-C"}) + "\n")
    task = TASKS["summ_aeslc"]
    rows = list(task.read(tmp_path, "pointer", "test"))
    assert rows == [{"source": "hi greg , see exhibit c .", "target": "re : exhibit - c", "reference": "Re: Exhibit-C"}]
    assert task.score(["re : exhibit - c"], rows)["rouge2"] == pytest.approx(100)


def test_scores_are_split_by_source_length():
    rows = [
        {"source": " ".join("a" * n), "target": "b c d e", "part": part} for n, part in ((3, "x"), (8, "y"), (30, "x"))
    ]
    scores = tasks.scores_by_length(TASKS["mt_multi30k_ende"], ["b c d e", "b c d f", "b c d e"], rows)
    assert {name: of_bucket["examples"] for name, of_bucket in scores.items()} == {"1-8": 2, "21+": 1}
    assert scores["21+"]["bleu"] == pytest.approx(100)
    assert scores["1-8"]["bleu"] < 100


def test_missing_data_are_named_with_their_home_and_are_no_error(tmp_path, capsys):
    run.main(["g2p_sigmorphon2020", "--data_dir", str(tmp_path), "--settings", "ice", "--runs_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.startswith("skipped: ")
    assert "ice_train.tsv is missing" in printed
    assert "https://github.com/sigmorphon/2020" in printed


def test_an_unknown_setting_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run.main(["g2p_sigmorphon2020", "--data_dir", str(tmp_path), "--settings", "eng"])
    assert "['eng'] are not among ['ady'" in capsys.readouterr().err


def test_a_trial_trains_scores_and_combines_and_leaves_the_table_alone(tmp_path, capsys, monkeypatch):
    for split in ("train", "dev", "test"):
        write(tmp_path / split / f"ice_{split}.tsv", "ab\ta b", "ba\tb a", "aa\ta a", "bb\tb b")
    arguments = ["g2p_sigmorphon2020", "--data_dir", str(tmp_path), "--settings", "ice", "--seeds", "1", "2"]
    arguments += ["--runs_dir", str(tmp_path), "--threads", "1", "--config_overrides", "embedding_size=6,hidden_size=8"]
    arguments += ["--max_steps", "2", "--eval_steps", "2", "--save_steps", "2", "--max_predict_samples", "3"]
    # in this process, which is faster
    monkeypatch.setattr(
        run.subprocess, "call", lambda command, **_: import_module("run_seq2seq").main(command[2:]) and 0
    )
    run.main(arguments)
    results = json.loads((tmp_path / "trial" / "results" / "g2p_sigmorphon2020.json").read_text())
    assert [(entry["setting"], entry["seed"]) for entry in results["runs"]] == [("ice", 1), ("ice", 2)]
    assert results["runs"][0]["test"].keys() == {"word_error_rate", "per"}
    assert "exact_match" in results["runs"][0]["dev"]
    assert results["ensembles"][0]["test"].keys() == {"word_error_rate", "per"}
    assert str(tmp_path) not in json.dumps(results)
    assert "**single model** (2 seeds, 1 of 15)" in capsys.readouterr().out
    monkeypatch.setattr(run, "train", None)  # what has a result is not trained again
    run.main(arguments)


def test_without_a_recipe_the_command_chooses_and_the_published_files_are_read(tmp_path, capsys, monkeypatch):
    pytest.importorskip("attention_rnn.examples")
    forms = [f"{stem}en\tge{stem}t\tV;V.PTCP;PST" for stem in ("mach", "sag", "leg", "hol", "lob", "wein")]
    for split in ("train-high", "dev", "test"):
        write(tmp_path / f"german-{split}", *forms)
    arguments = ["inflection_sigmorphon2017", "--data_dir", str(tmp_path), "--settings", "german-high", "--auto"]
    arguments += ["--seeds", "1", "--runs_dir", str(tmp_path), "--threads", "1"]
    arguments += ["--config_overrides", "embedding_size=6,hidden_size=8", "--num_heat_maps", "0"]
    arguments += ["--max_steps", "2", "--eval_steps", "2", "--save_steps", "2"]
    monkeypatch.setattr(run.subprocess, "call", lambda command, **_: cli.main(command[3:]) or 0)
    run.main(arguments)
    results = json.loads((tmp_path / "trial" / "auto" / "results" / "inflection_sigmorphon2017.json").read_text())
    assert results["recipe"] == {}
    assert results["runs"][0]["test"].keys() == {"accuracy"}
    assert "task pairs (lemmas, forms and features)" in capsys.readouterr().out


def test_what_the_command_chose_stands_beside_the_recipes(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "AUTO", tmp_path / "auto")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "auto").mkdir()
    tuned = [run_of("ice", seed, word_error_rate=rate, per=1.0) for seed, rate in ((1, 9.0), (2, 10.0))]
    automatic = [run_of("ice", 1, 6.0, word_error_rate=9.6, per=1.0)]
    for folder, runs in ((tmp_path, tuned), (tmp_path / "auto", automatic)):
        (folder / "g2p_sigmorphon2020.json").write_text(json.dumps({"runs": runs}))
    lines = report.automatic_section().splitlines()
    assert "| g2p_sigmorphon2020, ice | wrong words | 9.50 ± 0.71 | 3.0 ± 0.0 | 9.60 | 6.0 | 1 |" in lines
    assert any(line.startswith("Not measured: g2p_sigmorphon2020: ady, arm,") for line in lines)


def run_of(setting, seed, minutes=3.0, **scores):
    return {
        "setting": setting,
        "seed": seed,
        "test": scores,
        "cpu_minutes": minutes,
        "machine": "a machine",
        "versions": "versions",
        "commit": "abc" if seed < 3 else "def",
    }


def test_the_table_has_means_over_settings_and_deviations_over_seeds():
    runs = [run_of(lang, seed, word_error_rate=rate, per=1.0) for lang, seed, rate in (
        ("ice", 1, 10.0), ("kor", 1, 20.0), ("ice", 2, 11.0), ("kor", 2, 23.0), ("kor", 3, 0.0)
    )]  # fmt: skip
    ensembles = [{"setting": "ice", "seeds": [1, 2], "test": {"word_error_rate": 9.0, "per": 1.0}}]
    lines = report.section("g2p_sigmorphon2020", {"runs": runs, "ensembles": ensembles}).splitlines()
    assert "| **single model** (2 seeds, 2 of 15) | 16.00 ± 1.41 | 1.00 ± 0.00 | 3.0 ± 0.0 |" in lines
    assert "| goal | ≤ 15.5 |  | ≤ 8 |" in lines
    assert "| **ensemble of 2** (1 of 15) | 9.00 | 1.00 |  |" in lines
    assert "| *transformer, the organisers' baseline, tuned by language* | *17.51* |  |  |" in lines
    assert "| kor | 14.33 ± 12.50 | 1.00 ± 0.00 | 3.0 ± 0.0 |" in lines
    assert "On a machine; versions; commit abc, def." in lines


def test_the_committed_report_is_that_of_the_committed_results():
    before = (QUALITY / "RESULTS.md").read_text(encoding="utf-8")
    assert report.report_text(plot=False) == before


def test_the_plot_compares_scores_by_length(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PLOT", tmp_path / "plot.png")
    by_length = {"1-8": {"bleu": 30.0, "examples": 2}, "9+": {"bleu": 20.0, "examples": 2}}
    runs = [{**run_of(setting, 1), "test_by_length": by_length} for setting in ("attention", "no_attention")]
    report.plot_by_length({"mt_multi30k_ende": {"runs": runs[:1]}})
    assert not report.PLOT.exists()
    report.plot_by_length({"mt_multi30k_ende": {"runs": runs}, "summ_aeslc": None})
    assert report.PLOT.stat().st_size > 1000


# forecasting


def test_forecasters_are_scored_together_as_each_is_alone(tmp_path, monkeypatch):
    rates = np.random.default_rng(0).normal(size=(600, 8)).cumsum(axis=0)
    write(tmp_path / "exchange_rate.txt", *(",".join(f"{rate:.4f}" for rate in row) for row in rates))
    arguments = ["ts_exchange_rate", "--data_dir", str(tmp_path), "--settings", "96_mse", "--seeds", "1"]
    arguments += ["--runs_dir", str(tmp_path), "--threads", "1", "--config_overrides", "hidden_size=4"]
    arguments += ["--max_steps", "2", "--eval_steps", "2", "--save_steps", "2", "--warmup_steps", "0"]
    script = import_module("run_forecasting").main
    monkeypatch.setattr(run.subprocess, "call", lambda command, **_: script(command[2:]) and 0)
    run.main(arguments)
    results = json.loads((tmp_path / "trial" / "results" / "ts_exchange_rate.json").read_text())
    folder = tmp_path / "trial" / "ts_exchange_rate" / "96_mse" / "seed1"
    together = run.test_ensemble(TASKS["ts_exchange_rate"], [folder, folder], "test", threads=1)
    assert together == pytest.approx(results["runs"][0]["test"], rel=1e-4)


def test_an_echo_state_network_runs_freely_on_mackey_glass(monkeypatch):
    for name, value in {"WASHOUT": 100, "TRAINED": 500, "STARTS": 3, "HORIZON": 10, "LONG_RUN": 50}.items():
        monkeypatch.setattr(mackey_glass, name, value)
    of_a_run = mackey_glass.measure(units=50, tau=17, seed=1)
    assert of_a_run["error"] < 0.3  # that of the mean is 1
    assert of_a_run["lowest of the run"] >= of_a_run["lowest of the series"] - 0.2
    of_another = {**of_a_run, "error": 0.02, "highest of the series": 0.5, "lowest of the series": -0.75}
    text = mackey_glass.section({(1000, 17): [{**of_another, "error": 0.01}, of_another]})
    assert "| **1,000 units, tau 17** (2 seeds) | 0.0150 ± 0.0071 |" in text
    assert "| -0.75 to 0.50 |" in text
    assert "| goal | ≤ 0.008 |" in text


def test_mackey_glass_obeys_its_equation():
    values = np.arctanh(mackey_glass.mackey_glass(400, tau=17).numpy()) + 1
    slopes = (values[2:] - values[:-2]) / 2
    late, now = values[:-18], values[17:-1]
    expected = 0.2 * late / (1 + late**10) - 0.1 * now
    np.testing.assert_allclose(slopes[16:], expected, atol=0.01)
    assert values.std() > 0.1


# speech


def write_takes(folder, speakers, takes=8, length=400):
    """A zip file of noise for each speaker, a recording of each digit and take."""
    noise = np.random.default_rng(3)
    for speaker in speakers:
        with zipfile.ZipFile(folder / f"{speaker}.zip", "w") as archive:
            for digit in range(10):
                for take in (*range(takes), 8, 9):
                    file = io.BytesIO()
                    soundfile.write(file, noise.uniform(-0.5, 0.5, length), 8000, format="WAV")
                    archive.writestr(f"{digit}_{speaker}_{take}.wav", file.getvalue())


def test_spoken_digits_are_split_by_take_or_by_speaker(tmp_path):
    write_takes(tmp_path, speech.SPEAKERS)
    read = {split: list(speech.read_fsdd(tmp_path, "official", split)) for split in ("train", "dev", "test")}
    assert {split: len(rows) for split, rows in read.items()} == {"train": 120, "dev": 180, "test": 300}
    assert read["test"][0]["label"] == "zero"
    left_out = {split: len(list(speech.read_fsdd(tmp_path, "without_theo", split))) for split in read}
    assert left_out == {"train": 350, "dev": 150, "test": 100}


def test_connected_digits_are_longer_in_the_test_than_in_training(tmp_path):
    write_takes(tmp_path, speech.SPEAKERS)
    speech.takes.cache_clear()
    rows = list(speech.read_digits(tmp_path, "joint", "test"))
    lengths = {part: {len(row["text"].split()) for row in rows if row["part"] == part} for part in speech.LENGTHS}
    assert lengths == {"1-5": {1, 2, 3, 4, 5}, "6-8": {6, 7, 8}, "12-16": {12, 13, 14, 15, 16}}
    assert all(np.abs(row["samples"]).max() <= 1 for row in rows)
    for row in rows[:20]:  # what lies between the words is noise alone
        samples, times = row["samples"], np.array(row["times"])
        assert len(times) == len(row["text"].split())
        np.testing.assert_allclose(times[:, 1] - times[:, 0], 400 / 8000, atol=2e-4)
        assert (times[1:, 0] - times[:-1, 1] >= 0.02 - 2e-4).all()
        first = samples[: int(times[0, 0] * 8000)].std()
        assert first < samples[int(times[0, 0] * 8000) : int(times[0, 1] * 8000)].std()
    assert tasks.score_digits([row["text"] for row in rows], rows) == {"wer_1-5": 0, "wer_6-8": 0, "wer_12-16": 0}


def test_a_boundary_is_off_by_seconds():
    assert speech.boundary_errors([(0.5, 0.9), (1.0, 1.5)], [[0.52, 0.9], [1.0, 1.25]]) == pytest.approx(
        [0.02, 0, 0, 0.25]
    )


def test_boundaries_and_streams_are_measured_with_the_model_of_a_run(tmp_path):
    tokenizer = train_tokenizer(["one two"], kind="word")
    extractor = AttentionRnnFeatureExtractor(13, 8000, normalization="running")
    tiny_ctc(vocab_size=len(tokenizer), **STREAMED).save_pretrained(tmp_path / "seed1")
    AttentionRnnSpeechProcessor(extractor, tokenizer).save_pretrained(tmp_path / "seed1")
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 16000), 8000)
    transcribe = pipeline("automatic-speech-recognition", str(tmp_path / "seed1"))
    heard = transcribe(str(tmp_path / "noise.wav"), return_timestamps="word")
    times = [[start, end + 0.1] for start, end in (chunk["timestamp"] for chunk in heard["chunks"])]
    rows = [{"audio": "noise.wav", "text": heard["text"], "times": times, "part": "1-5"}]
    assert heard["text"]
    assert speech.hear_digits("joint", tmp_path / "seed1", rows) == {"boundaries": 50}
    assert speech.hear_digits("streamed", tmp_path / "seed1", rows) == {"boundaries": 50, "wer_1-5": 0}


def test_the_name_of_a_file_tells_yes_and_no(tmp_path):
    with zipfile.ZipFile(tmp_path / "waves_yesno.zip", "w") as archive:
        for number in range(33):
            file = io.BytesIO()
            soundfile.write(file, np.zeros(80), 8000, format="WAV")
            archive.writestr(f"waves_yesno/1_0_{number % 2}_{number:02}.wav".replace("_00", "_0"), file.getvalue())
    rows = {split: list(speech.read_yesno(tmp_path, "yesno", split)) for split in ("train", "dev", "test")}
    assert {split: len(of_split) for split, of_split in rows.items()} == {"train": 27, "dev": 4, "test": 2}
    assert rows["train"][0]["text"].startswith("yes no")


def test_a_recording_of_a_row_is_written_as_a_file(tmp_path):
    row = run.write_recording({"samples": np.zeros(80), "sampling_rate": 8000, "text": "yes"}, tmp_path, "train_0")
    assert row == {"audio": "wav/train_0.wav", "text": "yes"}
    assert soundfile.info(tmp_path / "wav" / "train_0.wav").frames == 80
