"""`attention-rnn train --num_models`: several models as one folder, and their student."""

import importlib.util
import json
import os
import shutil
import signal
import threading
import time

import pytest
from command_line import messages, refused, run  # noqa: F401
from transformers import AutoTokenizer

from attention_rnn import AttentionRnnEnsemble, cli
from attention_rnn.checkpoints import members_of
from attention_rnn.commands import several
from attention_rnn.commands.folder import training_folder
from attention_rnn.commands.models import COMMAND
from attention_rnn.commands.train import script
from attention_rnn.run_folder import NEXT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("attention_rnn.examples") is None, reason="the package is not installed"
)
WORDS = [f"{a}{b}{c}" for a in "abc" for b in "def" for c in "abdf"]
SIZES = "embedding_size=6,hidden_size=8"
TINY = f"""--config_overrides {SIZES} --max_steps 4 --eval_steps 2 --save_steps 2 --warmup_steps 1
--max_target_length 8 --num_beams 2 --num_heat_maps 1 --per_device_train_batch_size 8 --bf16 False""".split()


class Finished:
    """A process that has been."""

    returncode = 0

    def poll(self):
        return 0


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    file = tmp_path_factory.mktemp("several") / "words.tsv"
    file.write_text("".join(f"{word}\t{' '.join(word.upper())}\n" for word in WORDS), encoding="utf-8")
    return file


@pytest.fixture
def in_this_process(monkeypatch):
    """Trains here, which takes a second in place of ten; the folders that were trained."""
    return _in_this_process(monkeypatch)


def _in_this_process(monkeypatch):
    trained = []

    def start(folder, arguments, processes):
        trained.append(folder.name)
        script("pairs").main(list(arguments))
        return Finished()

    monkeypatch.setattr(several, "start_training", start)
    return trained


@pytest.fixture(scope="module")
def ensemble(words):
    with pytest.MonkeyPatch.context() as monkeypatch:
        _in_this_process(monkeypatch)
        cli.main(["train", str(words), "--output", str(words.parent / "ensemble"), "--num_models", "2", *TINY])
    return words.parent / "ensemble"


def scores_of(folder, prefix="predict"):
    results = json.loads((folder / f"{prefix}_results.json").read_text())
    return [results[f"{prefix}_{name}"] for name in ("exact_match", "per")]


def test_models_of_several_seeds_lie_in_one_folder(ensemble):
    members = [ensemble / "members" / name for name in ("seed42", "seed43")]
    assert members_of(ensemble) == list(map(str, members))
    assert [json.loads((member / "trainer_state.json").read_text())["max_steps"] for member in members] == [4, 4]
    weights = [(member / "model.safetensors").read_bytes() for member in members]
    assert weights[0] != weights[1]
    tokenizers = [(member / "tokenizer.json").read_text() for member in members]
    assert tokenizers[0] == tokenizers[1]
    assert not (ensemble / "config.json").exists()
    for folder in (ensemble, *members):
        assert {"README.md", "predictions.tsv", "command.json"} <= {path.name for path in folder.iterdir()}


def test_what_is_told_of_an_ensemble_are_its_scores_and_those_of_its_models(ensemble):
    """By a decoding of its own of what the test holds."""
    rows = [json.loads(line) for line in (ensemble / "data" / "test.jsonl").read_text().splitlines()]
    model = AttentionRnnEnsemble.from_pretrained(members_of(ensemble))
    tokenizer = AutoTokenizer.from_pretrained(members_of(ensemble)[0])
    inputs = tokenizer([row["source"] for row in rows], return_tensors="pt", padding=True)
    texts = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)
    told = (ensemble / "generated_predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["prediction"] for line in told] == [text.strip() for text in texts]
    card = (ensemble / "README.md").read_text()
    single = [scores_of(ensemble / "members" / name)[1] for name in ("seed42", "seed43")]
    deviation = abs(single[0] - single[1]) / 2**0.5
    assert f"{sum(single) / 2:.2f} ± {deviation:.2f}" in card
    assert f"| together | {' | '.join(f'{score:.2f}' for score in scores_of(ensemble))} |" in card


def test_what_is_finished_is_not_trained_again(words, ensemble, in_this_process, capsys):
    output = run(capsys, "train", words, "--output", ensemble, "--num_models", 2, *TINY)
    assert "holds this model already" in output
    assert "holds the training of another command" in refused("train", words, "--output", ensemble, *TINY)
    (ensemble / "README.md").unlink()
    (ensemble / "members" / "seed43" / "README.md").unlink()  # as if stopped in its test
    output = run(capsys, "train", words, "--output", ensemble, "--num_models", 2, *TINY)
    assert in_this_process == ["seed43"]
    assert "goes on" in output
    assert (ensemble / "README.md").exists()


def test_the_folder_of_an_ensemble_is_used_as_that_of_a_model(words, ensemble, tmp_path, capsys):
    (tmp_path / "more.txt").write_text("ab\n\nda\n")
    for options in ([], ["--int8"]):
        run(capsys, "predict", ensemble, tmp_path / "more.txt", "-o", tmp_path / f"{len(options)}.jsonl", *options)
    rows = [json.loads(line) for line in (tmp_path / "0.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == ["ab", "", "da"]
    assert f'"examples": {len(WORDS)}' in run(capsys, "evaluate", ensemble, words)
    together = run(capsys, "ensemble", ensemble, "--file", tmp_path / "more.txt", "--num_beams", 2)
    assert together.splitlines() == [f"{row['source']}\t{row['prediction']}" for row in rows]
    told = run(capsys, "info", ensemble)
    assert "an ensemble of 2, each AttentionRnnForConditionalGeneration" in told
    assert f"test       exact_match {scores_of(ensemble)[0]:.2f}, per {scores_of(ensemble)[1]:.2f}" in told
    assert "a picture" in run(capsys, "explain", ensemble, "ab", "-o", tmp_path / "explained")


def test_what_the_script_refuses_leaves_the_models_as_they_are(words, ensemble, tmp_path):
    shutil.copytree(ensemble, tmp_path / "run")
    arguments = ["--num_models", 2, *TINY, "--num_beams", 0, "--again"]
    assert "--num_beams must be at least 1, got 0" in refused("train", words, "--output", tmp_path / "run", *arguments)
    assert members_of(tmp_path / "run") == [str(tmp_path / "run" / "members" / f"seed{seed}") for seed in (42, 43)]
    for name in (COMMAND, "README.md", "data/train.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (ensemble / name).read_bytes()


@pytest.mark.parametrize("arguments", [["export", "FOLDER"], ["train", "WORDS", "--from", "FOLDER", "-o", "OUTPUT"]])
def test_what_needs_a_single_model_says_so(words, ensemble, tmp_path, arguments):
    places = {"FOLDER": ensemble, "WORDS": words, "OUTPUT": tmp_path / "out"}
    said = refused(*(places.get(argument, argument) for argument in arguments))
    assert "needs a single model" in said or "must hold a single model, got an ensemble of 2" in said


def test_an_ensemble_is_distilled_into_the_folder(words, in_this_process, tmp_path, capsys):
    options = ["--num_models", 2, "--distil", *TINY, "--distillation_weight", 0.4]
    output = run(capsys, "train", words, "--output", tmp_path / "run", *options)
    assert in_this_process == ["seed42", "seed43"]
    assert len(members_of(tmp_path / "run" / "teachers")) == 2
    assert members_of(tmp_path / "run") == []
    for name, folder in {"test": tmp_path / "run", "together": tmp_path / "run" / "teachers"}.items():
        exact, per = scores_of(folder)
        assert f"{name:10} exact_match {exact:.2f}, per {per:.2f}" in output
    assert "±" in next(line for line in output.splitlines() if line.startswith("single"))
    assert (
        "Distilled from seed42, seed43 at the level of word, weighted by 0.4"
        in (tmp_path / "run" / "README.md").read_text()
    )
    assert "## Beside its teachers" in (tmp_path / "run" / "README.md").read_text()
    (tmp_path / "run" / NEXT).mkdir()
    (tmp_path / "run" / NEXT / COMMAND).write_text("{}")
    several.delete_earlier(tmp_path / "run")
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {COMMAND, "data", NEXT}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_models", "0"], "0 is below 1"),
        (["--distil"], "--distil needs --num_models 2 or more"),
        (["--processes", "2"], "--processes needs --num_models 2 or more"),
        (["--num_models", "2", "--distil", "--teacher_models", "a"], "--distil has teachers of its own"),
        (["--num_models", "2", "--push_to_hub"], "--push_to_hub is for one model"),
        (
            ["--num_models", "2", "--task", "classification"],
            "--num_models is for pairs, and the task is classification",
        ),
    ],
)
def test_what_does_not_fit_is_refused(words, tmp_path, arguments, message):
    assert message in refused("train", words, "--output", tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_stops_the_processes_and_leaves_their_checkpoints(words, tmp_path, capsys):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background begins without
    members = tmp_path / "run" / "members"
    arguments = ["train", words, "--output", tmp_path / "run", "--num_models", 2, *TINY, "--max_steps", 4000]

    def stop():
        deadline = time.monotonic() + 120
        while not list(members.glob("*/checkpoint-*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    assert refused(*arguments) == "130"
    said = capsys.readouterr().err
    thread.join()
    assert "Stopped: 0 of 2 models are trained." in said
    assert "The same command goes on" in said
    assert (members / "seed42" / "model.safetensors").is_file()  # which it saves as it stops
    assert not (members / "seed42" / "README.md").exists()


def test_of_several_at_once_the_last_lines_are_told(tmp_path, monkeypatch, capsys):
    class Training:
        returncode, polls = 0, iter([None, 0])

        def poll(self):
            return next(self.polls)

    def start(folder, arguments, processes):
        folder.mkdir()
        (folder / several.LOG).write_text("step 1 of 4\nstep 2 of 4\n\n")
        return Training()

    monkeypatch.setattr(several, "start_training", start)
    monkeypatch.setattr(several, "_BETWEEN_LINES", 0)
    several.train_all({tmp_path / "seed1": []}, processes=2)
    assert capsys.readouterr().out.endswith("seed1: step 2 of 4\nseed1: step 2 of 4\nseed1 is trained\n")


def test_several_at_once_write_to_files_and_a_failure_is_told(words, tmp_path):
    arguments = ["--num_models", 2, "--processes", 2, *TINY, "--num_beams", 0]
    said = refused("train", words, "--output", tmp_path / "run", *arguments)
    assert "has failed, see" in said
    with training_folder(tmp_path / "run", {"arguments": [], "data": ""}, again=False) as is_left:
        assert is_left  # of whatever command, as nothing was begun
    logs = [file.read_text() for file in (tmp_path / "run" / "members").glob("*/training.log")]
    assert any(log == "--num_beams must be at least 1, got 0\n" for log in logs)
