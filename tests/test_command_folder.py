"""The folders that the commands train in and read from: what they hold when something goes wrong."""

import json
import shutil

import pytest
from tiny import tiny_config

from attention_rnn import AttentionRnnForConditionalGeneration, cli
from attention_rnn.checkpoints import members_of
from attention_rnn.commands.flags import check_inputs
from attention_rnn.commands.folder import LOCK, settings_of, training_folder
from attention_rnn.commands.models import COMMAND, Model, read_settings
from attention_rnn.run_folder import NEXT, delete_run
from attention_rnn.tasks import Task
from attention_rnn.tokenizer_training import train_tokenizer

INFLECTION = Task("pairs", {"source": ["lemma", "features"], "target": ["form"]}, "", spelt=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model as a command leaves it that read lemmas and features."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["great bad New York is so"], kind="word")
    AttentionRnnForConditionalGeneration(tiny_config(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = settings_of([], b"", task=vars(INFLECTION), names=["lemma", "features", "form"])
    (folder / COMMAND).write_text(json.dumps(settings), encoding="utf-8")
    return folder


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return folder / name


def test_a_start_that_failed_claims_no_folder(tmp_path):
    folder, first, second = tmp_path / "run", settings_of(["a"], b""), settings_of(["b"], b"")
    with training_folder(folder, first, again=False) as is_left:
        assert is_left
    (folder / "data").mkdir()
    with training_folder(folder, second, again=False) as is_left:
        assert is_left
    (folder / "checkpoint-2").mkdir()
    with (
        pytest.raises(ValueError, match="holds the training of another command"),
        training_folder(folder, first, again=False),
    ):
        pass


def test_how_many_train_at_once_is_nothing_of_what_they_train(tmp_path, capsys):
    for words in (["a", "--processes", "2"], ["a"], ["--processes=3", "a"]):
        with training_folder(tmp_path / "run", settings_of(words, b""), again=False):
            (tmp_path / "run" / "checkpoint-2").mkdir(exist_ok=True)
    assert capsys.readouterr().out.count("goes on") == 2
    with (
        pytest.raises(ValueError, match="holds the training of another command"),
        training_folder(tmp_path / "run", settings_of(["a", "2"], b""), again=False),
    ):
        pass


def test_a_training_is_replaced_only_by_one_that_begins(tmp_path):
    folder, first, second = tmp_path / "run", settings_of(["a"], b""), settings_of(["b"], b"")
    with training_folder(folder, first, again=False):
        (folder / "README.md").write_text("a card")

    def fail(begins):
        with training_folder(folder, second, again=True):
            if begins:
                delete_run(folder)
                (folder / "checkpoint-2").mkdir()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(begins=False)
    with training_folder(folder, first, again=False) as is_left:
        assert not is_left
    with pytest.raises(RuntimeError):
        fail(begins=True)
    with training_folder(folder, second, again=False) as is_left:
        assert is_left


def test_another_training_takes_a_folder_over_when_it_deletes_the_model(tmp_path):
    folder, first, second = tmp_path / "run", settings_of(["a"], b""), settings_of(["b"], b"")
    with training_folder(folder, first, again=False) as data:
        write_data(data, "first")
        (folder / "README.md").write_text("a card")
    with training_folder(folder, second, again=True) as data:
        write_data(data, "second")
        shutil.copytree(folder, tmp_path / "killed before")
        (folder / "members" / "seed1").mkdir(parents=True)
        delete_run(folder)
        assert {path.name for path in folder.iterdir()} == {LOCK, NEXT, COMMAND, "data"}
        (folder / "checkpoint-2").mkdir()
        shutil.copytree(folder, tmp_path / "killed after")
    for place, settings, text in ((tmp_path / "killed before", first, "first"), (folder, second, "second")):
        assert read_settings(place) == settings
        assert (place / "data" / "train.jsonl").read_text() == text
    with (
        pytest.raises(ValueError, match="holds the training of another command"),
        training_folder(tmp_path / "killed before", second, again=False),
    ):
        pass
    with training_folder(tmp_path / "killed after", second, again=False) as data:
        assert data is not None
    assert {path.name for path in folder.iterdir()} == {COMMAND, "data", "checkpoint-2"}


def write_data(data, text):
    data.mkdir()
    (data / "train.jsonl").write_text(text)


def test_a_start_that_failed_leaves_the_data_of_the_model_that_stays(tmp_path):
    folder = tmp_path / "run"
    with training_folder(folder, settings_of(["a"], b""), again=False) as data:
        write_data(data, "first")
        (folder / "README.md").write_text("a card")

    def fail(folder):
        with training_folder(folder, settings_of(["b"], b""), again=True) as data:
            write_data(data, "second")
            raise RuntimeError

    for place in (folder, tmp_path / "new"):
        with pytest.raises(RuntimeError):
            fail(place)
    assert {path.name for path in folder.iterdir()} == {COMMAND, "data", "README.md"}
    assert (folder / "data" / "train.jsonl").read_text() == "first"
    assert not (tmp_path / "new").exists()


def test_two_commands_do_not_train_in_one_folder(tmp_path):
    with (
        training_folder(tmp_path, settings_of(["a"], b""), again=False),
        pytest.raises(ValueError, match="another command trains in"),
        training_folder(tmp_path, settings_of(["a"], b""), again=False),
    ):
        pass


@pytest.mark.parametrize(
    ("begins", "best_metric", "expected"),
    [
        (True, 50.0, ["Stopped", "The best model so far lies in FOLDER: USE", "The same command goes on: COMMAND"]),
        (True, None, ["Stopped", "The model so far lies in FOLDER: USE", "The same command goes on: COMMAND"]),
        (False, 50.0, ["Stopped", "The same command goes on: COMMAND --again"]),
    ],
)
@pytest.mark.parametrize("command", ["train", "forecast"])
def test_what_to_do_after_ctrl_c_throws_nothing_away(tmp_path, command, begins, best_metric, expected):
    settings = settings_of(["a b.tsv", "--again"], b"", command=command)
    with training_folder(tmp_path, settings, again=False):
        (tmp_path / "README.md").write_text("a card")

    def stop():
        with training_folder(tmp_path, settings, again=True):
            if begins:
                delete_run(tmp_path)
            (tmp_path / "model.safetensors").touch()
            (tmp_path / "trainer_state.json").write_text(json.dumps({"best_metric": best_metric}))
            raise KeyboardInterrupt("Stopped")

    with pytest.raises(KeyboardInterrupt) as interrupt:
        stop()
    use = {"train": "attention-rnn predict FOLDER", "forecast": "attention-rnn forecast FILE --model FOLDER"}[command]
    names = {"USE": use, "FOLDER": str(tmp_path), "COMMAND": f"attention-rnn {command} 'a b.tsv'"}
    for name, value in names.items():
        expected = [line.replace(name, value) for line in expected]
    assert str(interrupt.value).split("\n") == expected


@pytest.mark.parametrize("text", ["", '{"arguments": ['])
def test_settings_that_a_full_disk_has_cut_off_are_told(model, tmp_path, text):
    shutil.copytree(model, tmp_path / "run")
    (tmp_path / "run" / COMMAND).write_text(text)
    file = write(tmp_path, "pairs.tsv", "".join(f"great {n}\tbad\n" for n in range(20)))
    for command in (["info", tmp_path / "run"], ["train", file, "-o", tmp_path / "run"]):
        with pytest.raises(SystemExit, match=r"command.json must tell of the training, but is empty or cut off"):
            cli.main([str(word) for word in command])


@pytest.mark.parametrize("argument", ["--from", "--tokenizer_name", "--teacher_models", "--test"])
@pytest.mark.parametrize("place", ["", "checkpoint-2"])
def test_what_a_training_reads_does_not_lie_where_it_goes(model, tmp_path, argument, place):
    shutil.copytree(model, tmp_path / "run")
    shutil.copytree(model, tmp_path / "run" / "checkpoint-2")
    text = "".join(f"great {n}\tbad\n" for n in range(20))
    file, name = write(tmp_path, "pairs.tsv", text), tmp_path / "run" / place
    if argument == "--test":
        name = write(name, "test.tsv", text)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(SystemExit, match=rf"{argument} {name} lies in {tmp_path / 'run'}.*-o must name another folder"):
        cli.main(["train", str(file), argument, str(name), "-o", str(tmp_path / "run"), "--again", "--task", "pairs"])
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


@pytest.fixture
def run_folder(model, tmp_path):
    """A training with two checkpoints, whose command read lemmas and features."""
    folder = tmp_path / "run"
    shutil.copytree(model, folder)
    for name in ("checkpoint-20", "checkpoint-100", "checkpoint-100.bak"):
        shutil.copytree(model, folder / name)
        (folder / name / COMMAND).unlink()
        log = [{"loss": 2.0, "step": 1}, {"loss": 1.0, "step": int(name[11:14])}]
        write(folder / name, "trainer_state.json", json.dumps({"log_history": log}))
    return folder


def test_a_checkpoint_knows_what_its_training_knew(run_folder, monkeypatch):
    assert Model(str(run_folder / "checkpoint-100")).is_spelt
    assert read_settings(run_folder / "checkpoint-100") == read_settings(run_folder)
    monkeypatch.chdir(run_folder / "checkpoint-20")
    assert read_settings(".") == read_settings(run_folder)
    assert read_settings("checkpoint-20") == {}  # a name on the Hub
    shutil.copytree(run_folder / "checkpoint-20", run_folder / "mine")
    assert read_settings(run_folder / "mine") == {}


def test_an_average_knows_what_its_training_knew(run_folder, tmp_path, capsys):
    output = tmp_path / "mean"
    write(run_folder / "checkpoint-100", "predictions.tsv", "of another model")
    cli.main(["average", str(run_folder), "-o", str(output)])
    assert not (output / "predictions.tsv").exists()
    assert capsys.readouterr().out == f"{output} is the mean of checkpoint-20, checkpoint-100\n"
    assert Model(str(output)).is_spelt
    cli.main(["info", str(output)])
    assert f"made by    attention-rnn average {run_folder} -o {output}" in capsys.readouterr().out


def test_models_of_different_runs_are_not_averaged(run_folder, model, tmp_path, capsys):
    def average(*models, output=tmp_path / "mean"):
        cli.main(["average", *map(str, models), "-o", str(output)])

    one, other = run_folder / "checkpoint-20", run_folder / "checkpoint-100"
    average(one, model)
    assert "nothing tells whether they are of one run" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds something else: -o names another folder"):
        average(one, other)
    (tmp_path / "tokens").mkdir()
    write(tmp_path / "tokens", "tokenizer.json", "of another model")
    with pytest.raises(SystemExit, match="holds something else: -o names another folder"):
        average(one, other, output=tmp_path / "tokens")
    write(other, "trainer_state.json", json.dumps({"log_history": [{"loss": 2.1, "step": 1}]}))
    with pytest.raises(SystemExit, match=r"checkpoint-20 and .*checkpoint-100 are of different runs"):
        average(one, other, output=tmp_path / "different")
    (other / "trainer_state.json").unlink()
    train_tokenizer(["other words than those"], kind="word").save_pretrained(other)
    with pytest.raises(SystemExit, match="must have one vocabulary"):
        average(one, other, output=tmp_path / "different")
    assert not (tmp_path / "different").exists()


def test_an_ensemble_overwrites_nothing_unasked(model, tmp_path):
    def ensemble(file, output, *arguments):
        models = [str(model)] * 2
        cli.main(["ensemble", *models, "--file", str(file), "-o", str(output), "--num_beams", "1", *arguments])

    file = write(tmp_path, "in.jsonl", '{"lemma": "great", "features": "N"}\n')
    with pytest.raises(SystemExit, match="-o must be another file than --file"):
        ensemble(file, tmp_path / "in.jsonl", "--overwrite")
    output = write(tmp_path, "out.jsonl", "mine")
    with pytest.raises(SystemExit, match=r"out.jsonl is there already: name another file, or give --overwrite"):
        ensemble(file, output)
    assert (file.read_text(), output.read_text()) == ('{"lemma": "great", "features": "N"}\n', "mine")
    ensemble(file, output, "--overwrite")
    assert json.loads(output.read_text())["source"] == "great N"


def test_a_model_that_is_half_trained_is_no_member(model, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(model, folder / "members" / "seed42")
    shutil.copytree(model, folder / "members" / "seed43")
    settings = settings_of(["pairs.tsv", "--num_models", "3"], b"")
    write(folder, COMMAND, json.dumps(settings))

    def info():
        cli.main(["info", str(folder)])
        return capsys.readouterr().out

    assert info() == f"{folder}: unfinished, 0 of 3 models are trained; the same command goes on\n"
    write(folder / "members" / "seed42", "README.md", "a card")
    assert members_of(folder) == [str(folder / "members" / "seed42")]
    assert "an ensemble of 1, each" in (said := info())
    assert "unfinished 1 of 3 models are trained; the same command goes on" in said


def test_a_recipe_or_model_that_has_changed_is_another_training(tmp_path):
    folder, recipe = tmp_path / "run", tmp_path / "mine.yaml"

    def settings(text):
        recipe.write_text(text)
        return settings_of(["a"], b"", check_inputs(folder, {}, {"--from": None, "--recipe": str(recipe)}, []))

    with training_folder(folder, settings("hidden_size: 8"), again=False):
        (folder / "README.md").write_text("a card")
    with training_folder(folder, settings("hidden_size: 8"), again=False) as is_left:
        assert is_left is None
    with (
        pytest.raises(ValueError, match=f"holds the training of {recipe} as it was before"),
        training_folder(folder, settings("hidden_size: 16"), again=False),
    ):
        pass
