"""The command `attention-rnn`, run within this process."""

import argparse
import contextlib
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import chain, pairwise
from pathlib import Path

import pytest
from command_line import messages, refused, run  # noqa: F401
from huggingface_hub import ModelCard
from tiny import tiny_config

from attention_rnn import AttentionRnnCTCConfig, AttentionRnnForSequenceClassification, AttentionRnnSpeechConfig, cli
from attention_rnn.arguments import parse_config_overrides
from attention_rnn.commands import UsageError
from attention_rnn.commands.rows import SPLITS, rows_of, split_rows
from attention_rnn.commands.train import make_parser, script_arguments, settle_recipe
from attention_rnn.inspection import read_content
from attention_rnn.models.presets import PRESETS
from attention_rnn.recipes import (
    RECIPES,
    SHORT_NAMES,
    TASKS,
    PairLooks,
    as_arguments,
    choose_pair_recipe,
    full_name,
    load_recipe,
)
from attention_rnn.run_folder import NEXT, delete_run
from attention_rnn.tasks import Task, find_task

try:
    import tomllib
except ImportError:  # Python 3.10
    import pip._vendor.tomli as tomllib

ROOT = Path(__file__).parents[1]
needs_scripts = pytest.mark.skipif(
    importlib.util.find_spec("attention_rnn.examples") is None, reason="the package is not installed"
)
random_ = random.Random(0)
WORDS = sorted({"".join(random_.choices("abcdef", k=random_.randint(2, 5))) for _ in range(60)})
SIZES = "embedding_size=6,hidden_size=8"
TINY = f"""--config_overrides {SIZES} --max_steps 4 --eval_steps 2 --save_steps 2 --save_total_limit 3
--warmup_steps 1 --max_target_length 8 --num_beams 1 --num_heat_maps 1 --per_device_train_batch_size 8""".split()


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    file = folder / "words.tsv"
    file.write_text("".join(f"{word}\t{' '.join(word.upper())}\n" for word in WORDS), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def trained(words):
    output = words.parent / "runs" / "words"
    cli.main(["train", str(words), "--output", str(output), *TINY])
    return output


def test_the_help_is_short_and_comes_at_once(capsys):
    start = time.process_time()
    output = run(capsys, "--help")
    assert time.process_time() - start < 0.1
    assert len(output.splitlines()) < 60
    assert all(name in output for name in cli.COMMANDS)


# transcribe has the parser of its script
@pytest.mark.parametrize(
    "words", [[], *([name, "--help"] for name in cli.COMMANDS if name != "transcribe")], ids=" ".join
)
def test_a_help_imports_nothing_that_takes_time(words):
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from attention_rnn import cli; "
    code += f"cli.main({words})"
    run = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert not {"torch", "transformers", "datasets", "numpy"} & set(run.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_help_of_its_own(capsys, name):
    with pytest.raises(SystemExit) as exit_:
        cli.main([name, "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: attention-rnn {name}")


@pytest.mark.parametrize("name", ["", *cli.COMMANDS])
@pytest.mark.parametrize(("columns", "longest"), [(80, 80), (200, 100)])
def test_a_help_fits_the_terminal(capsys, monkeypatch, name, columns, longest):
    monkeypatch.setenv("COLUMNS", str(columns))
    with contextlib.suppress(SystemExit):
        cli.main([name, "--help"] if name else ["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= longest
    assert len(lines) < 60
    prose = [paragraph for paragraph in "\n".join(lines).split("\n\n") if "\n " not in f"\n{paragraph}"]
    for line, following in (pair for paragraph in prose for pair in pairwise(paragraph.splitlines())):
        assert len(f"{line} {following.split()[0]}") > longest - 2, "there was room for another word"


@needs_scripts
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "there is no command 'trian'; did you mean train?"),
        (["predict"], "attention-rnn predict: the following arguments are required: model"),
        (["info", "a", "--jsn"], "there is no --jsn"),
        (["train"], "name a file"),
        (
            ["train", "WORDS", "--num_train_epoch", "3"],
            "there is no --num_train_epoch; did you mean --num_train_epochs?",
        ),
        (["train", "WORDS", "--outputs", "x"], "there is no --outputs; did you mean --output?"),
        (["train", "WORDS", "--recipe", "g2q"], "there is no recipe 'g2q'; did you mean g2p?"),
        (
            ["train", "WORDS", "--recipe", "sentiment"],
            "the recipe sentiment is for classification; for pairs there are",
        ),
        (["train", "WORDS", "--task", "pear"], "there is no task 'pear'; did you mean pairs?"),
        (["train", "WORDS", "--task", "labelling"], "--task labelling needs another file"),
        (["train", "WORDS", "--columns", "column 1", "column 3"], "there is no column 'column 3'; did you mean"),
        (["train", "WORDS", "WORDS"], "there must be one file, or one with a source a line and one with their targets"),
        (["train", "WORDS", "--seed", "1", "WORDS"], "belongs to no argument: name the files first"),
        (["train", "--num_train_epochs", "3", "WORDS"], "name a file first"),
        (["train", "WORDS", "--from", "x", "--config_overrides", "hidden_size=8"], "x brings its config"),
        (["train", "WORDS", "--config_overrides", "hidden_sise=8"], "got 'hidden_sise'; did you mean hidden_size?"),
        (["train", "WORDS", "--config_overrides", "hidden_size"], "must be name=value,..., got 'hidden_size'"),
        (["train", "WORDS", "--preset", "bahdanau"], "there is no preset 'bahdanau'; did you mean bahdanau2015?"),
        (["train", "WORDS", "--output_dir", "x"], "--output_dir is not for this command: -o names the folder"),
        (["train", "WORDS", "--overwrite-output-dir"], "--again trains anew what is there"),
        (["train", "WORDS", "--resume_from_checkpoint", "True"], "the same command goes on"),
        (["train", "WORDS", "--validation_file=x"], "--validation_file is not for this command: the file comes first"),
        (["train", "WORDS", "--test_target_file", "x"], "--validation and --test name others"),
        (["train", "WORDS", "--source_column", "x"], "--columns names the columns"),
        (["train", "WORDS", "--do_predict", "False"], "a model is trained, validated and tested"),
        (["train", "WORDS", "--num_models", "2", "--do_predict", "False"], "--do_predict is not for this command"),
        (["train", "WORDS", "--model_name_or_path", "x"], "--from names the model"),
        (["train", "nothing.tsv"], "there is no file nothing.tsv"),
        (["predict", "nothing", "nothing.tsv"], "there is no file nothing.tsv"),
        (["recipes", "g2"], "there is no recipe 'g2'; did you mean g2p?"),
    ],
)
def test_an_error_is_one_line_and_leaves_no_folder(words, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    said = refused(*[str(words) if argument == "WORDS" else argument for argument in arguments])
    assert message in said
    assert "\n" not in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_a_traceback_is_shown_when_asked_for(monkeypatch):
    with pytest.raises(FileNotFoundError):
        cli.main(["train", "nothing.tsv", "--traceback"])
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(FileNotFoundError):
        cli.main(["train", "nothing.tsv"])


@needs_scripts
def test_a_file_becomes_a_folder_with_all_there_is_to_see(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"model.safetensors", "README.md", "predictions.tsv", "training.png", "attention_maps", "data"} <= names
    marks = [line.split("\t")[0] for line in (trained / "predictions.tsv").read_text().splitlines()[1:]]
    assert marks == sorted(marks, key="✗✓".index)
    card = (trained / "README.md").read_text()
    assert "attention-rnn train words.tsv" in card
    assert "| train | words.tsv |" in card
    assert "| test | a part of words.tsv |" in card
    rows = [
        [json.loads(line)["source"] for line in (trained / "data" / f"{split}.jsonl").read_text().splitlines()]
        for split in SPLITS
    ]
    assert sorted(chain(*rows)) == WORDS


@needs_scripts
def test_what_is_finished_is_not_trained_again(words, trained, capsys):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    output = run(capsys, "train", words, "--output", trained, *TINY)
    assert "holds this model already" in output
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    assert "holds the training of another command" in refused("train", words, "--output", trained, "--max_steps", "5")


@needs_scripts
def test_all_that_a_training_leaves_gives_way_to_another_one(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint-2.bak").mkdir()
    (folder / NEXT).mkdir()
    (folder / NEXT / "command.json").write_text("the next one")
    delete_run(folder)
    assert {path.name for path in folder.iterdir()} == {"command.json", "data", NEXT, "notes.txt", "checkpoint-2.bak"}
    assert not list((folder / "data").iterdir())
    assert (folder / "command.json").read_text() == "the next one"


@needs_scripts
@pytest.mark.parametrize("wrong", [["--max_source_length", "0"], ["--learning_rate", "abc"]])
def test_what_the_script_refuses_leaves_the_model_as_it_is(words, trained, tmp_path, wrong):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "more.tsv").write_text(words.read_text().replace("a", "e"))
    refused("train", tmp_path / "more.tsv", "--output", tmp_path / "run", *TINY, *wrong, "--again")
    for file in trained.rglob("*"):
        if file.is_file():
            assert (tmp_path / "run" / file.relative_to(trained)).read_bytes() == file.read_bytes()


@needs_scripts
def test_another_folder_is_left_alone(words, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear ...")
    assert "holds something else" in refused("train", words, "--output", tmp_path, *TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def words_of(words, *arguments):
    """What the script of a task would get for the command line."""
    options, others = make_parser().parse_known_args([str(words), *arguments])
    return script_arguments(Task("pairs", {}, ""), "g2p", options, others)


@needs_scripts
def test_overrides_stand_on_top_of_the_recipes(words):
    arguments = words_of(words, "--config_overrides", "hidden_size=7,copy=True")
    overrides = parse_config_overrides(arguments[arguments.index("--config_overrides") + 1])
    recipe = parse_config_overrides(load_recipe("g2p")["config_overrides"])
    assert overrides == recipe | {"hidden_size": 7, "copy": True}


@needs_scripts
@pytest.mark.parametrize(("arguments", "steps"), [((), 100), (("--max_steps", "50"), 5)])
def test_a_short_training_warms_up_shortly(words, arguments, steps):
    chosen = words_of(words, *arguments)
    assert chosen[chosen.index("--warmup_steps") + 1] == str(steps)


@needs_scripts
@pytest.mark.parametrize(
    ("recipe", "rows", "arguments", "keeps_last"),
    [
        ("g2p", 40, (), True),
        ("g2p", 400, (), False),
        ("translation", 40, (), False),
        ("g2p", 40, ("--load_best_model_at_end", "True"), False),
    ],
)
def test_few_rows_choose_no_model(words, recipe, rows, arguments, keeps_last):
    options, others = make_parser().parse_known_args([str(words), *arguments])
    chosen = script_arguments(Task("pairs", {}, ""), recipe, options, others, rows_to_choose_by=rows)
    assert ("--load_best_model_at_end" in chosen) == keeps_last
    assert ("--early_stopping_patience" in chosen) == (not keeps_last and not arguments)


@needs_scripts
@pytest.mark.parametrize(
    ("text", "options", "kind"),
    [
        ("A great film, really!", (), "auto"),
        ("a great film , really !", (), "word"),
        ("A great film, really!", ("--recipe", "sentiment"), "word"),
    ],
)
def test_texts_as_people_write_them_are_not_cut_at_spaces_alone(words, text, options, kind):
    rows = [{"text": text, "label": "good"}]
    chosen, others = make_parser().parse_known_args([str(words), *options])
    arguments = script_arguments(Task("classification", {}, ""), "sentiment", chosen, others, rows)
    assert arguments[arguments.index("--tokenizer") + 1] == kind
    assert ("--vocab_size" in arguments) == (kind == "word")


@needs_scripts
def test_evaluations_and_checkpoints_go_together(words):
    for given in (["--eval_steps", "10"], ["--eval_steps=10"], ["--save_steps", "10"]):
        arguments = words_of(words, *given)
        other = "--save_steps" if given[0].startswith("--eval") else "--eval_steps"
        assert arguments[arguments.index(other) + 1] == "10"


@needs_scripts
def test_a_model_of_another_kind_is_no_beginning(words, tmp_path):
    AttentionRnnForSequenceClassification(tiny_config(num_labels=2)).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=f"--from needs a model for text2text.*{tmp_path.name} is for text-cl"):
        words_of(words, "--from", str(tmp_path))


@needs_scripts
def test_overrides_stand_on_top_of_the_presets(words):
    arguments = words_of(words, "--preset", "bahdanau2015", "--config_overrides", "hidden_size=7")
    overrides = parse_config_overrides(arguments[arguments.index("--config_overrides") + 1])
    assert overrides == PRESETS["bahdanau2015"] | {"hidden_size": 7}


@needs_scripts
def test_a_tokenizer_of_ones_own_takes_the_place_of_the_recipes(words):
    assert "--source_tokenizer" in words_of(words)
    arguments = words_of(words, "--tokenizer_name", "runs/words")
    assert not {"--source_tokenizer", "--target_tokenizer", "--source_normalization"} & set(arguments)
    assert "--config_overrides" in arguments


@needs_scripts
def test_two_aligned_files_are_pairs(words, tmp_path, capsys):
    (tmp_path / "names.en").write_text("".join(f"{word}\n" for word in WORDS))
    (tmp_path / "names.xx").write_text("".join(f"{' '.join(word)}\n" for word in WORDS))
    pairs = [tmp_path / "names.en", tmp_path / "names.xx"]
    run(capsys, "train", *pairs, "--test", *pairs, "--output", tmp_path / "run", *TINY)
    rows = [json.loads(line) for line in (tmp_path / "run" / "data" / "test.jsonl").read_text().splitlines()]
    assert rows == [{"source": word, "target": " ".join(word)} for word in WORDS]
    assert f'"examples": {len(WORDS)}' in run(capsys, "evaluate", tmp_path / "run", *pairs)
    (tmp_path / "names.xx").write_text("one line\n")
    assert f"must have the same number of lines, got {len(WORDS)} and 1" in refused("train", *pairs)


@needs_scripts
@pytest.mark.parametrize(
    ("labels", "problem_type", "answer"),
    [
        (["0.5", "1.0", "1.5"], "regression", r"-?\d+(\.\d+)?(e-\d+)?"),
        (["a", "b", "c", "a;b", "b;c"], "multi_label_classification", "(a|b|c|, )*"),
    ],
)
def test_numbers_and_several_labels_are_learnt_and_told(tmp_path, capsys, monkeypatch, labels, problem_type, answer):
    file = tmp_path / "texts.tsv"
    file.write_text("".join(f"{w}\t{labels[n % len(labels)]}\n" for n, w in enumerate(WORDS)), encoding="utf-8")
    steps = [*TINY[:8], "--num_heat_maps", "0", "--vocab_size", "50", "--min_frequency", "1"]
    run(capsys, "train", file, "--output", tmp_path / "run", *steps)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["problem_type"] == problem_type
    monkeypatch.setattr(sys, "stdin", WithoutTerminal([f"{WORDS[0]}\n"]))
    assert re.fullmatch(answer, run(capsys, "predict", tmp_path / "run").strip())
    few = tmp_path / "few.tsv"
    few.write_text("".join(file.read_text().splitlines(keepends=True)[:4]), encoding="utf-8")
    first = {"regression": "pearson", "multi_label_classification": "f1"}[problem_type]
    assert f'"{first}"' in run(capsys, "evaluate", tmp_path / "run", few)


@needs_scripts
def test_a_training_that_was_stopped_goes_on(words, tmp_path, capsys):
    arguments = ["train", words, "--output", tmp_path / "run", *TINY, "--max_steps", "4000"]
    arguments += ["--eval_steps", "5", "--save_steps", "5", "--save_total_limit", "1"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background begins without

    def stop():
        deadline = time.monotonic() + 60
        while signal.getsignal(signal.SIGINT) is signal.default_int_handler and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    assert refused(*arguments) == "130"
    said = capsys.readouterr().err
    thread.join()
    assert "Stopped at step" in said
    assert "The same command goes on" in said
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / "README.md").exists()
    step = int(said.split("Stopped at step ")[1].split()[0].replace(",", ""))
    assert (tmp_path / "run" / f"checkpoint-{step}").is_dir()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@needs_scripts
def test_lines_of_the_standard_input_are_answered(trained, capsys, monkeypatch):
    lines = WithoutTerminal(["ab\n", "\n", "aβ\n"])
    monkeypatch.setattr(sys, "stdin", lines)
    cli.main(["predict", str(trained)])
    captured = capsys.readouterr()
    answers = captured.out.split("\n")
    assert len(answers) == 4  # and the end of the last line
    assert answers[1] == ""
    assert "does not know 'β' (U+03B2)" in captured.err


class WithoutTerminal(list):
    def isatty(self):
        return False


@needs_scripts
def test_the_best_answers_come_with_their_scores(trained, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", WithoutTerminal(["ab\n"]))
    scores = [float(line.split()[0]) for line in run(capsys, "predict", trained, "-n", 3).splitlines()]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


@needs_scripts
def test_a_file_is_predicted_in_its_order(trained, tmp_path, capsys):
    (tmp_path / "more.txt").write_text("ab\n\nba\n")
    run(capsys, "predict", trained, tmp_path / "more.txt", "-o", tmp_path / "more.jsonl", "--int8")
    rows = [json.loads(line) for line in (tmp_path / "more.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == ["ab", "", "ba"]


@needs_scripts
def test_several_processes_write_what_one_writes(trained, tmp_path, capsys):
    (tmp_path / "more.txt").write_text("ab\n\nba\ncab\n")
    for processes in (1, 2):
        output = tmp_path / f"{processes}.jsonl"
        run(capsys, "predict", trained, tmp_path / "more.txt", "-o", output, "--processes", processes)
    assert (tmp_path / "1.jsonl").read_text() == (tmp_path / "2.jsonl").read_text()


@needs_scripts
def test_a_model_is_scored_and_described(words, trained, capsys):
    output = run(capsys, "evaluate", trained, words, "--max_samples", 5)
    assert '"exact_match"' in output
    output = run(capsys, "info", trained)
    assert "parameters" in output
    assert "test       exact_match" in output


@needs_scripts
def test_a_card_is_shown_and_added_to(trained, tmp_path, capsys):
    shutil.copy(trained / "README.md", tmp_path)
    assert run(capsys, "card", trained) == (trained / "README.md").read_text()
    run(capsys, "card", tmp_path, "--license", "mit", "--language", "de", "fr", "--tags", "g2p")
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.license, card.data.language, card.data.tags) == ("mit", ["de", "fr"], ["attention-rnn", "g2p"])
    assert card.text.strip() == ModelCard.load(trained / "README.md").text.strip()
    assert card.data.eval_results == ModelCard.load(trained / "README.md").data.eval_results
    assert "there is no card" in refused("card", trained / "data")


@needs_scripts
def test_texts_are_explained(trained, tmp_path, capsys):
    run(capsys, "explain", trained, "ab", "ba", "-o", tmp_path)
    assert sorted(path.name for path in (tmp_path / "attention_maps").iterdir()) == ["0.png", "1.png", "attention.html"]
    run(capsys, "explain", trained, "ab", "-o", tmp_path)  # leaves nothing of what was there
    assert sorted(path.name for path in (tmp_path / "attention_maps").iterdir()) == ["0.png", "attention.html"]


@needs_scripts
def test_models_are_combined(trained, tmp_path, capsys):
    run(capsys, "average", *trained.glob("checkpoint-*"), "-o", tmp_path / "mean")
    (tmp_path / "more.txt").write_text("ab\n\n")
    output = run(capsys, "ensemble", trained, tmp_path / "mean", "--file", tmp_path / "more.txt")
    assert [line.split("\t")[0] for line in output.splitlines()] == ["ab", ""]


@needs_scripts
def test_a_model_learns_new_letters(words, trained, tmp_path, capsys, caplog):
    file = tmp_path / "more.tsv"
    file.write_text("".join(f"{word}ß\t{' '.join(word.upper())} S\n" for word in WORDS), encoding="utf-8")
    steps = ["--max_steps", "2", "--eval_steps", "2", "--save_steps", "2", "--num_heat_maps", "0"]
    run(capsys, "train", file, "--output", tmp_path / "run", "--from", trained, *steps, "--num_beams", "1")
    assert "The vocabulary of the sources is extended by 1: 'ß'" in caplog.text
    assert "The vocabulary of the targets is extended by 1: ' S'" in caplog.text
    assert "ß" in (tmp_path / "run" / "tokenizer.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("looks", "recipe"),
    [
        (PairLooks("character", "word", 7, 12, 0.1, 1.2, True), "g2p-small"),
        (PairLooks("character", "word", 7, 12, 0.1, 1.2, False), "g2p"),
        (PairLooks("bpe", "word", 40, 60, 0.1, 1.2, False), "g2p"),
        (PairLooks("character", "character", 7, 7, 0.1, 7, False), "transliteration"),
        (PairLooks("character", "character", 7, 7, 0.9, 7, False), "normalisation"),
        (PairLooks("character", "word", 10, 11, 0.9, 5, False), "normalisation"),  # turned names, of few words
        (PairLooks("character", "word", 7, 12, 0.9, 1.2, False), "g2p"),
        (PairLooks("character", "character", 7, 7, 0.1, 7, True), "transliteration-small"),
        (PairLooks("character", "character", 7, 7, 0.9, 7, True), "transliteration-small"),
        (PairLooks("word", "word", 25, 15, 0.9, 1, False), "inflection"),
        (PairLooks("bpe", "bpe", 60, 60, 0.5, 5, False), "translation"),
        (PairLooks("bpe", "word", 40, 40, 0.5, 5, False), "translation"),  # of a small vocabulary
        (PairLooks("bpe", "bpe", 900, 60, 0.9, 5, False), "summarisation"),
    ],
)
def test_pairs_get_the_recipe_of_their_looks(looks, recipe):
    assert choose_pair_recipe(looks)[0] == recipe


@pytest.mark.parametrize(
    ("target", "options", "recipe"),
    [
        ("k a t", [], "g2p-small"),
        ("k ∅ t", [], "g2p"),
        ("k a t", ["--preset", "bahdanau2015"], "g2p"),
        ("k a t", ["--config_overrides", "hidden_size=9,copy=True", "--shared_vocabulary"], "g2p"),
        ("k a t", ["--shared_vocabulary=True"], "g2p"),
        ("k a t", ["--config_overrides", "hidden_size=9"], "g2p-small"),
    ],
)
def test_few_words_are_cut_into_chunks_where_they_can_be(target, options, recipe):
    plain = [{"source": word, "target": " ".join(word).replace("c", "k")} for word in ("cat", "act", "tab", "cab")] * 75
    rows = [*plain, {"source": "cat", "target": target}]
    chosen, others = make_parser().parse_known_args(["words.tsv", *options])
    for splits in ({"train": rows}, {"train": plain, "test": rows}):
        assert settle_recipe(Task("pairs", {}, ""), splits, chosen, others)[0] == recipe


@pytest.mark.parametrize(
    ("text", "recipe"),
    [("Rossi\tit\n", "names"), ("这部电影很好看\tgood\n", "names"), ("a good one\tgood\n", "sentiment")],
)
def test_single_words_are_classified_by_their_characters(text, recipe, tmp_path):
    file = tmp_path / "labels.tsv"
    file.write_text("".join(f"{number}{text}" for number in range(60)) + "x\tother\n" * 15, encoding="utf-8")
    content = read_content(file)
    task = find_task(content)
    options = argparse.Namespace(recipe="auto")
    assert settle_recipe(task, {"train": list(rows_of(content, task))}, options)[0] == recipe


def test_every_recipe_is_a_file_and_every_file_a_recipe():
    files = {file.stem for file in (ROOT / "src" / "attention_rnn" / "recipes").glob("*.yaml")}
    assert files == set(RECIPES)
    assert set(TASKS) <= set(RECIPES.values())
    for name in RECIPES:
        assert as_arguments(load_recipe(name))


def test_recipes_have_short_names_too(capsys):
    cli.main(["recipes", "qa"])
    of_short = capsys.readouterr().out
    cli.main(["recipes", "question-answering"])
    assert of_short == capsys.readouterr().out
    assert set(map(full_name, SHORT_NAMES)) <= set(RECIPES)


def test_no_source_is_in_two_splits():
    rows = [{"source": f"s{number // 3}", "target": str(number)} for number in range(90)]
    split = split_rows({"train": rows}, Task("pairs", {}, ""))
    sources = [{row["source"] for row in split[name]} for name in SPLITS]
    assert [len(of_split) for of_split in sources] == [24, 3, 3]
    assert sum(map(len, split.values())) == 90
    assert split == split_rows({"train": rows}, Task("pairs", {}, ""))


def test_a_split_that_was_given_is_taken():
    rows = [{"source": f"s{number}", "target": "t"} for number in range(20)]
    split = split_rows({"train": rows, "validation": rows[:1]}, Task("pairs", {}, ""))
    assert split["validation"] == rows[:1]
    assert [len(split[name]) for name in SPLITS] == [18, 1, 2]


def test_a_running_text_is_cut_at_its_lines():
    text = "".join(f"line {number}\n" for number in range(100))
    split = split_rows({"train": [{"text": text}]}, Task("language-model", {}, ""))
    parts = [split[name][0]["text"] for name in SPLITS]
    assert "".join(parts) == text
    assert all(part.endswith("\n") for part in parts)


def test_every_package_is_installed():
    """The list in pyproject.toml is written by hand, as some of its packages lie elsewhere."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    source = ROOT / "src"
    found = {".".join(file.parent.relative_to(source).parts) for file in source.rglob("__init__.py")}
    elsewhere = {name for name in settings["package-dir"] if name}
    assert {*settings["packages"]} == found | elsewhere
    assert all((ROOT / settings["package-dir"][name] / "__init__.py").is_file() for name in elsewhere)


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ("AttentionRnnForCTC", "attention-rnn transcribe"),
        ("AttentionRnnForSpeechSeq2Seq", "attention-rnn transcribe"),
        ("AttentionRnnForAudioClassification", 'pipeline("audio-classification"'),
    ],
)
def test_a_model_that_hears_is_told_from_one_that_reads(tmp_path, architecture, says, capsys):
    kind = AttentionRnnCTCConfig if architecture.endswith("CTC") else AttentionRnnSpeechConfig
    kind(architectures=[architecture]).save_pretrained(tmp_path)
    message = refused("predict", tmp_path)
    assert "reads no texts" in message
    assert says in message
    assert says in refused("space", tmp_path, "-o", tmp_path / "space")
    assert architecture in run(capsys, "info", tmp_path)
