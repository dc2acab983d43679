"""What the commands read of a file for a trained model: the columns of its training, as the model reads them."""

import argparse
import json
import shutil
from pathlib import Path

import pytest
from command_models import ARTICLE, LABELLED, PAIRED, PAIRS, QUESTIONS, RATED, UNNAMED, predicted, save_models, write

from attention_rnn import (
    cli,
)
from attention_rnn.checkpoints import members_of
from attention_rnn.commands import predict
from attention_rnn.commands.evaluate import trained_metrics
from attention_rnn.commands.folder import LOCK, settings_of, training_folder
from attention_rnn.commands.models import COMMAND, Answer, Model, read_settings
from attention_rnn.commands.reading import is_of_lines
from attention_rnn.commands.results import has_learned_nothing, tell_results, write_marked_predictions
from attention_rnn.commands.rows import known_of, rows_of, split_rows, suit_columns, with_labels
from attention_rnn.commands.train import (
    known_of_options,
    make_parser,
    read_files,
    settle_task,
    task_of_file,
    tell_content,
)
from attention_rnn.inspection import Content, Known, read_content
from attention_rnn.run_folder import NEXT, delete_run
from attention_rnn.tasks import Task, find_task
from attention_rnn.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_models(tmp_path_factory)


FILES = {
    "the column of the training, not the first": ("rated", "more.tsv", "1\tgreat, so\n5\tbad\n", ["great, so", "bad"]),
    "without labels": ("rated", "more.csv", 'review\n"great, so"\nbad\n', ["great, so", "bad"]),
    "a text a line": (
        "rated",
        "more.txt",
        "great, so\nbad, so\nNew, is\x0c so\n",
        ["great, so", "bad, so", "New, is\x0c so"],
    ),
    "both texts of a pair": ("paired", "more.tsv", "great\tbad\n", [["great", "bad"]]),
    "two texts on a line": ("paired", "more.txt", "great\tbad\n", ["great\tbad"]),
    "words": ("labelled", "more.jsonl", '{"tokens": ["New York", "is"]}\n', [["New York", "is"]]),
    "labelled words": ("labelled", "more.txt", "New X\nis O\n\nso O\n\n", [["New", "is"], ["so"]]),
    "sentences": ("labelled", "more.txt", "New York is\nso\n", ["New York is", "so"]),
    "questions": (
        "questions",
        "dev.json",
        json.dumps({"data": [ARTICLE]}),
        [["great New York", "is so"], ["great New York", "so"]],
    ),
    "lemma and features": ("inflection", "more.tsv", "a n\tN;PL\na\tN\n", ["a n N;PL", "a N"]),
    "pairs under no usual name": ("pairs", "more", "great\tx\nbad\ty\nso\tz\n", ["great", "bad", "so"]),
    "pairs between bars": ("pairs", "more.txt", "great ||| x\nbad ||| y\n", ["great", "bad"]),
    "a header with semicolons": ("rated", "more.txt", "stars;review\n1;great, so\n", ["great, so"]),
    "a pair with its label": ("paired", "more.txt", "great\tbad\tx\nso\tis\ty\n", [["great", "bad"], ["so", "is"]]),
    "json under another name": ("rated", "more.ndjson", '{"review": "great", "stars": 1}\n', ["great"]),
    "lemma, form and features": ("inflection", "more.txt", "a n\tx\tN;PL\na\ty\tN\n", ["a n N;PL", "a N"]),
    "a lemma with features": ("inflection", "more.txt", "a n\tN;PL\na N\n", ["a n\tN;PL", "a N"]),
}


@pytest.mark.parametrize("case", FILES)
def test_predict_reads_what_the_model_was_trained_on(folders, tmp_path, capsys, case):
    name, file, text, sources = FILES[case]
    rows = predicted(folders[name], write(tmp_path, file, text))
    assert [row["source"] for row in rows] == sources
    if name != "labelled":
        assert all(isinstance(row["prediction"], str) for row in rows)
        return
    words = [row["source"].split() if isinstance(row["source"], str) else row["source"] for row in rows]
    assert [len(row["prediction"]) for row in rows] == list(map(len, words))
    assert {label for row in rows for label in row["prediction"]} <= {"LABEL_0", "LABEL_1"}


def test_a_file_is_read_as_the_text_file_of_the_training(folders, tmp_path, capsys):
    settings = json.loads((folders["pairs"] / COMMAND).read_text(encoding="utf-8"))
    file = write(tmp_path, "more.txt", "great, so\nbad, is\n")
    assert [row["source"] for row in predicted(folders["pairs"], file)] == ["great, so", "bad, is"]
    (folders["pairs"] / COMMAND).write_text(json.dumps(settings | {"arguments": ["train.txt", "-o", "runs/a"]}))
    try:
        assert [row["source"] for row in predicted(folders["pairs"], file, "--overwrite")] == ["great", "bad"]
    finally:
        (folders["pairs"] / COMMAND).write_text(json.dumps(settings))
    assert f"reads source of {file}" in capsys.readouterr().err


def test_a_large_text_is_not_read_to_tell_what_it_is(folders, tmp_path):
    def lines():
        yield from [b"great so\n"] * 1_000
        pytest.fail("more than the first lines were read")

    class Endless:
        def __enter__(self):
            return lines()

        def __exit__(self, *_):
            pass

    file = write(tmp_path, "more.txt", "great so\n")
    options = argparse.Namespace(file=str(file), columns=None, separator=None, header=None, encoding=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attention_rnn.data.open_file", lambda _: Endless())
        options.encoding = "utf-8"
        assert is_of_lines(Model(str(folders["pairs"])), options)


def test_the_sources_of_a_table_are_generated_from(folders, tmp_path, capsys):
    rows = predicted(folders["pairs"], write(tmp_path, "more.tsv", "great\tx\nbad\ty\n"))
    assert [row["source"] for row in rows] == ["great", "bad"]
    (tmp_path / "out.jsonl").unlink()
    file = write(tmp_path, "more.json", json.dumps([{"a": "great", "b": "so", "c": "x"}]))
    assert [row["source"] for row in predicted(folders["pairs"], file, "--columns", "a", "b")] == ["great so"]
    assert {path.name for path in tmp_path.iterdir()} == {"more.tsv", "more.json", "out.jsonl"}


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("rated", "more.json", '[{"body": "great"}]', "more.json, item 1: there must be a column 'review'"),
        ("rated", "more.json", '[{"review": ["great"]}]', "column 'review' must hold text, got"),
        ("paired", "more.txt", "great\n", "this model needs a text, a tab and another text, got 'great'"),
        ("inflection", "more.txt", "great bad\n", "this model needs a lemma and its features"),
        (
            "inflection",
            "more.txt",
            "a\tb\tN\tx\n" * 3,
            "more.txt, line 1: there must be a column 'lemma', got the columns",
        ),
    ],
)
def test_what_lacks_a_column_is_refused(folders, tmp_path, name, file, text, message):
    with pytest.raises(SystemExit, match=message):
        predicted(folders[name], write(tmp_path, file, text))


def test_an_interrupted_prediction_goes_on_and_is_not_mixed(folders, tmp_path, monkeypatch, capsys):
    file = write(tmp_path, "more.txt", "great\nbad\nso\n")
    monkeypatch.setattr(predict, "_PART", 1)

    def answers(self, texts, *arguments):
        if texts == ["so"] and is_interrupted:
            raise KeyboardInterrupt
        asked.extend(texts)
        return [[Answer(text)] for text in texts]

    asked, is_interrupted = [], True
    monkeypatch.setattr(Model, "answers", answers)
    with pytest.raises(SystemExit):
        predicted(folders["rated"], file)
    with pytest.raises(SystemExit, match="holds parts of a command with other content of the model, model"):
        predicted(folders["labelled"], file)
    is_interrupted = False
    assert [row["prediction"] for row in predicted(folders["rated"], file)] == ["great", "bad", "so"]
    assert asked == ["great", "bad", "so"]
    with pytest.raises(SystemExit, match="is there already"):
        predicted(folders["rated"], file)
    assert len(predicted(folders["rated"], file, "--overwrite")) == 3


def test_an_ensemble_reads_and_writes_as_each_of_its_models(folders, tmp_path, capsys):
    file = write(tmp_path, "more.tsv", "a n\tN;PL\n")
    alone = predicted(folders["inflection"], file, "--num_beams", "2")
    together = tmp_path / "ensemble.jsonl"
    models = [str(folders["inflection"])] * 2
    cli.main(["ensemble", *models, "--file", str(file), "-o", str(together), "--num_beams", "2"])
    assert [json.loads(line) for line in together.read_text(encoding="utf-8").splitlines()] == alone


def test_evaluate_reads_the_columns_of_the_training(folders, tmp_path):
    with pytest.raises(SystemExit, match=r"more.json, item 1: there must be a column 'source', got .*'src', 'tgt'"):
        cli.main(["evaluate", str(folders["pairs"]), str(write(tmp_path, "more.json", '[{"src": "a", "tgt": "b"}]'))])


def test_evaluate_names_no_folder_that_it_deletes(folders, tmp_path, capsys, caplog):
    file = write(tmp_path, "test.conll", "New LABEL_0\nYork LABEL_1\n\nis LABEL_0\n\n")
    with caplog.at_level("INFO"):
        cli.main(["evaluate", str(folders["labelled"]), str(file)])
    assert '"accuracy"' in capsys.readouterr().out
    assert "All results lie in" not in caplog.text


def test_rows_of_another_file_are_those_of_the_training(tmp_path):
    training = read_content(write(tmp_path, "train.tsv", "wort\tword\n" * 20))
    task = find_task(training)
    known = known_of(task, list(training.rows[0]))
    other = write(tmp_path, "dev.json", json.dumps([{"quelle": "wort", "ziel": "word"}]))
    with pytest.raises(ValueError, match=r"dev.json, item 1: there must be a column 'column 1', got .*'quelle'"):
        list(rows_of(read_content(other, known=known), task))


def test_a_decimal_comma_is_a_point_for_the_script():
    content = Content("a.csv", [{"text": "so", "score": "3,5"}], ["a.csv, line 2"])
    task = Task("classification", {"text": ["text"], "label": ["score"]}, "", problem_type="regression")
    assert list(rows_of(content, task)) == [{"text": "so", "label": "3.5"}]


def test_ids_of_labels_are_told_and_written_as_labels(capsys):
    content = Content("a.json", [{"tokens": ["so", "is"], "ner_tags": [0, 2]}], ["a.json, item 1"])
    task = find_task(content)
    tell_content(content, task)
    assert "labels  0 2  (ner_tags)" in capsys.readouterr().out
    assert list(rows_of(content, task)) == [{"tokens": ["so", "is"], "labels": ["0", "2"]}]


@pytest.mark.parametrize("contexts", [1, 20])
def test_questions_are_split_by_their_contexts_or_by_themselves(contexts):
    questions = [
        {"context": f"so {n % contexts}", "question": f"is {n}", "answers": [{"text": "so", "answer_start": 0}]}
        for n in range(40)
    ]
    content = Content("a.json")
    content.add([("a.json", question | {"id": str(n)}) for n, question in enumerate(questions)])
    split = split_rows({"train": list(rows_of(content, QUESTIONS))}, QUESTIONS, seed=1)
    assert [len(split[name]) for name in ("train", "validation", "test")] == [32, 4, 4]
    assert split["test"][0]["answers"] == {"text": ["so"], "answer_start": [0]}


@pytest.mark.parametrize(
    ("task", "row", "expected"),
    [
        (PAIRS, {"source": "a", "target": "b"}, {"source": ["source"], "target": ["target"]}),
        (UNNAMED, {"source": "a", "target": "b"}, {"source": ["source"], "target": ["target"]}),
        (UNNAMED, {"word": "a", "phones": "b", "more": "c"}, {"source": ["word"], "target": ["phones"]}),
        (UNNAMED, {"column 1": "a"}, UNNAMED.columns),
        (PAIRED, {"text": "a", "text_pair": "b", "label": "c"}, {"text": ["text", "text_pair"], "label": ["label"]}),
        (PAIRED, {"other": "a"}, PAIRED.columns),
    ],
)
def test_a_task_suits_the_columns_of_another_file(task, row, expected):
    assert suit_columns(task, Content("a.jsonl", [row], ["line 1"])).columns == expected


def test_the_command_line_says_what_a_file_is(tmp_path, capsys):
    file = write(tmp_path, "lines.txt", "".join(f"{number} it, so\n" for number in range(40)))
    options = argparse.Namespace(
        file=[str(file)], task="language-model", columns=None, separator=None, header=None, encoding=None
    )
    assert task_of_file(options) == "language-model"
    options.task = None
    assert task_of_file(options) == "classification"


def test_the_intents_of_texts_are_told_among_what_is_read(tmp_path, capsys):
    row = {"words": ["wake", "me"], "labels": ["O", "O"], "intent": "alarm", "id": 3}
    (tmp_path / "commands.jsonl").write_text(json.dumps(row) + "\n")
    content = read_content(tmp_path / "commands.jsonl")
    tell_content(content, find_task(content))
    said = capsys.readouterr().out
    assert "intent  alarm  (intent)" in said
    assert "not read: id;" in said


def test_columns_without_names_have_numbers(tmp_path):
    content = read_content(write(tmp_path, "o.tsv", "a\tb\tc\n" * 3))
    options = argparse.Namespace(task="pairs", columns=["3", "1"])
    assert settle_task(content, options).columns == {"source": ["column 3"], "target": ["column 1"]}


def options_of(**given):
    usual = {"task": None, "columns": None, "separator": None, "header": None, "encoding": None, "file": ["a.json"]}
    return argparse.Namespace(**usual | given)


def settled(rows, **given):
    content = Content("a.json")
    content.add((f"a.json, item {number}", row) for number, row in enumerate(rows, start=1))
    return settle_task(content, options_of(**given))


TEXTS = [{"n": n, "body": f"a text {n}", "stars": n % 3, "price": f"{n + 1},250"} for n in range(60)]
NESTED = [{"d": {"text": f"a text {n}", "label": "ab"[n % 2]}} for n in range(40)]
DOTTED = [{"text.clean": f"a text {n}", "label": "ab"[n % 2]} for n in range(40)]
ASKED = [{"question": f"who is {n}", "context": f"it is {n}", "answer": f"you {n}"} for n in range(12)]
LISTS = [{"id": n, "tokens": ["so", "is"], "labels": ["A", "B"]} for n in range(12)]


@pytest.mark.parametrize(
    ("rows", "given", "name", "columns"),
    [
        (NESTED, {"columns": ["d.text", "d.label"]}, "classification", {"text": ["d.text"], "label": ["d.label"]}),
        (DOTTED, {"columns": ["text.clean", "label"]}, "classification", {"text": ["text.clean"], "label": ["label"]}),
        (LISTS, {"columns": ["tokens", "labels"]}, "labelling", {"tokens": ["tokens"], "labels": ["labels"]}),
        (TEXTS, {"columns": ["body", "stars"]}, "classification", {"text": ["body"], "label": ["stars"]}),
        (TEXTS, {"columns": ["n", "body"]}, "pairs", {"source": ["n"], "target": ["body"]}),
        (TEXTS, {"columns": ["body", "price"], "task": "pairs"}, "pairs", {"source": ["body"], "target": ["price"]}),
        (ASKED, {"columns": ["question", "answer"]}, "pairs", {"source": ["question"], "target": ["answer"]}),
        (TEXTS, {"task": "pairs"}, "pairs", {"source": ["body"], "target": ["stars"]}),
    ],
)
def test_columns_that_are_named_decide(rows, given, name, columns):
    task = settled(rows, **given)
    assert (task.name, task.columns) == (name, columns)


def test_named_columns_of_any_kind_are_told(capsys):
    for rows, columns in ((NESTED, ["d.text", "d.label"]), (DOTTED, ["text.clean", "label"])):
        content = Content("a.json", rows, ["a.json"] * len(rows))
        tell_content(content, settle_task(content, options_of(columns=columns)))
        said = capsys.readouterr().out
        assert "a text 0" in said
        assert "not read" not in said


@pytest.mark.parametrize("task", ["pairs", "classification"])
def test_running_text_has_no_columns(task):
    with pytest.raises(ValueError, match=rf"--task {task} needs another file: a\.txt holds running text; --separator"):
        settle_task(Content("a.txt", text="so it is"), options_of(task=task))


@pytest.mark.parametrize("row", [{"path": "a/{}.wav", "transcript": "so {}"}, {"file": "{}.FLAC", "label": "yes"}])
def test_recordings_are_redirected_to_the_scripts_for_speech(row):
    rows = [{name: value.format(n) for name, value in row.items()} for n in range(20)]
    with pytest.raises(ValueError, match=r"names recordings, in column '(path|file)': examples/run_speech_seq2seq.py"):
        settled(rows)
    assert settled(rows, columns=list(row)).name in ("pairs", "classification")


def test_a_separator_is_read_as_it_is_typed():
    assert make_parser().parse_args(["a.txt", "--separator", "\\t"]).separator == "\t"
    with pytest.raises(ValueError, match="argument --separator: must be one or more characters, got ''"):
        make_parser().parse_args(["a.txt", "--separator", ""])


def test_predict_takes_the_commas_of_csv(folders, tmp_path, capsys):
    file = write(tmp_path, "more.csv", "a n,N;PL\na,N;SG\n" * 6)
    assert [row["source"] for row in predicted(folders["inflection"], file)][:2] == ["a n N;PL", "a N;SG"]


def test_two_files_are_no_tables(tmp_path):
    files = [str(write(tmp_path, name, "so\n" * 12)) for name in ("a.txt", "b.txt", "a.tsv.gz", "b.tsv.gz")]
    with pytest.raises(ValueError, match="--separator and --header are of one table, and two files hold a source"):
        read_files(files[:2], options_of(header=False), Known())
    with pytest.raises(ValueError, match=r"there must be one file, or one with a source a line .* --validation"):
        read_files(files[2:], options_of(), Known())


@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
def test_the_task_that_is_named_tells_a_table_from_conll(tmp_path, name):
    file = str(write(tmp_path, name, "the\tDET\ndog\tNOUN\nbarks\tVERB\n\n" * 20))
    tasks = {}
    for task in ("pairs", "classification", "labelling", None):
        options = options_of(file=[file], task=task)
        tasks[task] = settle_task(read_files([file], options, known_of_options(options)), options).name
    assert tasks == {"pairs": "pairs", "classification": "classification", "labelling": "labelling", None: "labelling"}


def test_what_is_not_read_is_told_also_without_a_name(capsys):
    content = Content("a.csv", [{"": "0", "text": "so", "label": "is"}] * 3, ["a.csv"] * 3)
    tell_content(content, Task("classification", {"text": ["text"], "label": ["label"]}, ""))
    assert "not read: (no name); --columns names others" in capsys.readouterr().out


def test_line_breaks_of_cells_break_no_summary(capsys):
    content = Content("a.json", [{"a\nb": "so\nit", "label": "is"}] * 3, ["a.json"] * 3, seen=["header: a\nb, label"])
    tell_content(content, Task("pairs", {"source": ["a\nb"], "target": ["label"]}, ""))
    assert capsys.readouterr().out.count("\n") == 4


def labelled(*counts):
    rows = [{"text": f"text {n} {label}", "label": label} for label, count in counts for n in range(count)]
    return {"train": rows}


def test_each_split_has_its_share_of_each_class(capsys):
    counts = [("a", 200), ("b", 100), ("c", 60), ("d", 33), ("e", 6)]
    split = split_rows(labelled(*counts), RATED, seed=1)
    for name in ("validation", "test"):
        assert [sum(row["label"] == label for row in split[name]) for label in "abcde"] == [20, 10, 6, 3, 1]
    assert sum(map(len, split.values())) == 399
    assert capsys.readouterr().out == ""
    assert split_rows(labelled(*counts), RATED, seed=1) == split
    assert split_rows(labelled(*counts), RATED, seed=2) != split


def test_a_label_that_is_rare_is_trained_on(capsys):
    split = split_rows(labelled(("a", 60), ("b", 2), ("c", 1)), RATED, seed=1)
    assert {row["label"] for name in ("validation", "test") for row in split[name]} == {"a"}
    said = capsys.readouterr().out
    assert "there are fewer than 3 texts for the label 'b', 'c': all of them are trained on" in said
    assert "the test has no label 'b', 'c'" in said


def test_a_source_with_two_labels_is_in_one_split():
    rows = labelled(("a", 30), ("b", 30))["train"]
    rows += [row | {"label": "b"} for row in rows[:20]]
    split = split_rows({"train": rows}, RATED, seed=1)
    texts = [{row["text"] for row in split[name]} for name in ("train", "validation", "test")]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]


def test_labels_of_which_none_is_frequent_are_not_split():
    with pytest.raises(ValueError, match=r"there must be 3 texts of a label to split, .* --validation and --test"):
        split_rows(labelled(*((f"l{n}", 2) for n in range(20))), RATED, seed=1)


def test_rows_without_a_label_are_left_out(capsys):
    rows = labelled(("good", 90), ("bad", 90), ("", 60))
    split = split_rows(rows | {"test": rows["train"][88:184]}, RATED, seed=1)
    assert {row["label"] for of_split in split.values() for row in of_split} == {"good", "bad"}
    said = capsys.readouterr().out
    assert "60 of 240 rows of train have no label and are left out" in said
    assert "4 of 96 rows of test have no label and are left out" in said
    with pytest.raises(ValueError, match="there must be a label in the rows of train, got 60 rows without one"):
        split_rows(labelled(("", 60)), RATED, seed=1)


def test_a_text_may_have_none_of_several_labels():
    rows = [{"text": "so", "label": []}]
    task = Task("classification", {}, "", problem_type="multi_label_classification")
    assert with_labels(rows, task, "a.csv") == rows
    with pytest.raises(ValueError, match=r"there must be a label in the rows of a\.csv, got 1 rows without one"):
        with_labels([{"text": "so", "label": ""}], RATED, "a.csv")


@pytest.mark.parametrize(
    ("label", "fields", "expected"),
    [
        ("1,250.5", {"problem_type": "regression", "thousands": ","}, "1250.5"),
        ("1.250,5", {"problem_type": "regression", "thousands": "."}, "1250.5"),
        (float("nan"), {"problem_type": "regression"}, ""),
        ("a; x; ", {"problem_type": "multi_label_classification", "label_separator": ";"}, ["a", " x"]),
    ],
)
def test_labels_are_read_as_they_are_written(label, fields, expected):
    content = Content("a.csv", [{"text": "so", "score": label}], ["a.csv, line 2"])
    task = Task("classification", {"text": ["text"], "label": ["score"]}, "", **fields)
    assert list(rows_of(content, task)) == [{"text": "so", "label": expected}]


def test_columns_of_conll_are_told_and_named_by_number(tmp_path, capsys):
    file = write(tmp_path, "a.txt", "the\tDET\tDT\ndog\tNOUN\tNN\n\n" * 20)
    options = options_of(file=[str(file)])
    content = read_files([str(file)], options, known_of_options(options))
    tell_content(content, settle_task(content, options))
    assert "not read: column 2; --columns names others" in capsys.readouterr().out
    options.columns = ["1", "2"]
    content = read_files([str(file)], options, known_of_options(options))
    assert next(rows_of(content, settle_task(content, options)))["labels"] == ["DET", "NOUN"]
    options.columns = ["word", "tag"]
    content = read_files([str(file)], options, known_of_options(options))
    with pytest.raises(ValueError, match=r"there is no column 'word'; .*: --columns 1 2"):
        settle_task(content, options)


def test_one_row_is_too_few(tmp_path):
    with pytest.raises(SystemExit, match="there must be at least 10 different sources to split, got 1"):
        cli.main(["train", str(write(tmp_path, "o.tsv", "a\tb\n")), "-o", str(tmp_path / "run")])


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
def test_settings_that_a_full_disk_has_cut_off_are_told(folders, tmp_path, text):
    shutil.copytree(folders["pairs"], tmp_path / "run")
    (tmp_path / "run" / COMMAND).write_text(text)
    file = write(tmp_path, "pairs.tsv", "".join(f"great {n}\tbad\n" for n in range(20)))
    for command in (["info", tmp_path / "run"], ["train", file, "-o", tmp_path / "run"]):
        with pytest.raises(SystemExit, match=r"command.json must tell of the training, but is empty or cut off"):
            cli.main([str(word) for word in command])


@pytest.mark.parametrize("argument", ["--from", "--tokenizer_name", "--teacher_models", "--test"])
@pytest.mark.parametrize("place", ["", "checkpoint-2"])
def test_what_a_training_reads_does_not_lie_where_it_goes(folders, tmp_path, argument, place):
    shutil.copytree(folders["pairs"], tmp_path / "run")
    shutil.copytree(folders["pairs"], tmp_path / "run" / "checkpoint-2")
    text = "".join(f"great {n}\tbad\n" for n in range(20))
    file, name = write(tmp_path, "pairs.tsv", text), tmp_path / "run" / place
    if argument == "--test":
        name = write(name, "test.tsv", text)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(SystemExit, match=rf"{argument} {name} lies in {tmp_path / 'run'}.*-o must name another folder"):
        cli.main(["train", str(file), argument, str(name), "-o", str(tmp_path / "run"), "--again", "--task", "pairs"])
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


@pytest.fixture
def run_folder(folders, tmp_path):
    """A training with two checkpoints, whose command read lemmas and features."""
    folder = tmp_path / "run"
    shutil.copytree(folders["inflection"], folder)
    for name in ("checkpoint-20", "checkpoint-100", "checkpoint-100.bak"):
        shutil.copytree(folders["inflection"], folder / name)
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
    cli.main(["average", str(run_folder), "-o", str(output)])
    assert capsys.readouterr().out == f"{output} is the mean of checkpoint-20, checkpoint-100\n"
    assert Model(str(output)).is_spelt
    cli.main(["info", str(output)])
    assert f"made by    attention-rnn average {run_folder} -o {output}" in capsys.readouterr().out


def test_models_of_different_runs_are_not_averaged(run_folder, folders, tmp_path, capsys):
    def average(*models, output=tmp_path / "mean"):
        cli.main(["average", *map(str, models), "-o", str(output)])

    one, other = run_folder / "checkpoint-20", run_folder / "checkpoint-100"
    average(one, folders["pairs"])
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
    train_tokenizer(["so is York New bad great"], kind="word").save_pretrained(other)
    with pytest.raises(SystemExit, match="must have one vocabulary"):
        average(one, other, output=tmp_path / "different")
    assert not (tmp_path / "different").exists()


def test_an_ensemble_overwrites_nothing_unasked(folders, tmp_path):
    def ensemble(file, output, *arguments):
        models = [str(folders["pairs"])] * 2
        cli.main(["ensemble", *models, "--file", str(file), "-o", str(output), "--num_beams", "1", *arguments])

    file = write(tmp_path, "in.jsonl", '{"source": "great", "target": "bad"}\n')
    with pytest.raises(SystemExit, match="-o must be another file than --file"):
        ensemble(file, tmp_path / "in.jsonl", "--overwrite")
    output = write(tmp_path, "out.jsonl", "mine")
    with pytest.raises(SystemExit, match=r"out.jsonl is there already: name another file, or give --overwrite"):
        ensemble(file, output)
    assert (file.read_text(), output.read_text()) == ('{"source": "great", "target": "bad"}\n', "mine")
    ensemble(file, output, "--overwrite")
    assert json.loads(output.read_text())["source"] == "great"


def test_a_model_that_is_half_trained_is_no_member(folders, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(folders["pairs"], folder / "members" / "seed42")
    shutil.copytree(folders["pairs"], folder / "members" / "seed43")
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


def test_marked_predictions_may_hold_any_separator(tmp_path):
    row = {"source": "a\u2028b", "prediction": "a\x85b", "reference": "b"}
    write(tmp_path, "generated_predictions.jsonl", json.dumps(row, ensure_ascii=False) + "\n")
    write_marked_predictions(tmp_path, Task("pairs", {}, ""))
    assert Path(tmp_path, "predictions.tsv").read_text(encoding="utf-8").split("\n")[1] == "✗\ta b\ta b\tb"


def test_predictions_of_every_task_are_marked(tmp_path):
    def table(task):
        write_marked_predictions(tmp_path, task)
        return Path(tmp_path, "predictions.tsv").read_text(encoding="utf-8").splitlines()[1:]

    labels = [
        {"text": "fine", "text_pair": "so", "prediction": "good", "reference": "good"},
        {"text": "dull", "text_pair": "no", "prediction": "good", "reference": "bad"},
    ]
    write(tmp_path, "predictions.jsonl", "".join(json.dumps(row) + "\n" for row in labels))
    assert table(RATED) == ["✗\tdull | no\tgood\tbad", "✓\tfine | so\tgood\tgood"]
    several = [{"text": "x", "prediction": ["b", "a"], "reference": ["a", "b"]}]
    write(tmp_path, "predictions.jsonl", json.dumps(several[0]) + "\n")
    assert table(RATED) == ["✓\tx\tb, a\ta, b"]
    answers = [
        {"question": "who", "prediction": "you", "references": ["me", "you"]},
        {"question": "what", "prediction": "this", "references": []},
    ]
    write(tmp_path, "predictions.jsonl", "".join(json.dumps(row) + "\n" for row in answers))
    assert table(QUESTIONS) == ["✗\twhat\tthis\t", "✓\twho\tyou\tme"]
    write(tmp_path, "predictions.conll", "Los B-X B-X\nA I-X O\n\nhi O O\n\n")
    assert table(LABELLED) == ["✗\tLos A\tB-X O\tB-X I-X", "✓\thi\tO\tO"]


def test_a_classifier_is_compared_with_the_most_frequent_label(tmp_path, capsys):
    rows = {
        "train": [{"text": "a", "label": "good"}] * 3 + [{"text": "b", "label": "bad"}],
        "test": [{"text": "a", "label": "good"}, {"text": "b", "label": "bad"}],
    }
    tell_results(tmp_path, RATED, {"test": {"accuracy": 75.0}}, rows)
    said = capsys.readouterr().out
    assert "to compare accuracy 50.00 by saying 'good' of every text" in said
    assert "nothing of use" not in said
    tell_results(tmp_path, RATED, {"test": {"accuracy": 50.0}}, rows)
    assert "The model has learned nothing of use" in capsys.readouterr().out
    tell_results(tmp_path, QUESTIONS, {"test": {"answer_f1": 0.0, "answer_exact_match": 0.0}}, rows)
    assert "The model has learned nothing of use" in capsys.readouterr().out
    tell_results(tmp_path, PAIRS, {"test": {"exact_match": 0.0, "per": 40.0}}, rows)
    assert "nothing of use" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scores", "nothing"),
    [
        ({"exact_match": 0.0, "per": 837.0}, True),
        ({"exact_match": 0.0, "per": 60.0}, False),
        ({"exact_match": 0.4, "per": 95.0}, False),
        ({"loss": 3.0}, False),
        ({"f1": 0.0, "precision": 0.0}, True),
        ({}, False),
    ],
)
def test_nothing_is_learned_where_nothing_is_right(scores, nothing):
    assert has_learned_nothing(scores) == nothing


def test_a_stopped_training_is_evaluated_by_its_own_metrics(tmp_path):
    state = {"log_history": [{"loss": 1.0}, {"eval_loss": 1.0, "eval_exact_match": 50.0, "eval_per": 9.0}]}
    write(tmp_path, "trainer_state.json", json.dumps(state))
    assert sorted(trained_metrics(str(tmp_path))) == ["exact_match", "per"]


def test_a_tagger_has_no_decoder_to_tell_of(folders, capsys):
    cli.main(["info", str(folders["labelled"])])
    said = capsys.readouterr().out
    assert "encoder_layers" in said
    assert "decoder_layers" not in said
    assert "target" not in said


@pytest.mark.parametrize(
    ("name", "text", "arguments", "message"),
    [
        ("a.txt", "running text\n" * 30, ["--columns", "text", "label"], "--columns are of a table, and a.txt holds"),
        ("a.csv", "text,label\n" + ",\n" * 30, [], "every row is empty where there should be a text"),
        (
            "a.tsv",
            "".join(f"a{n}\tb\n" for n in range(30)),
            ["--config_overrides", "hiden_size=3"],
            "did you mean hidden",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_told_in_a_line(tmp_path, name, text, arguments, message):
    with pytest.raises(SystemExit, match=message):
        cli.main(["train", str(write(tmp_path, name, text)), "-o", str(tmp_path / "run"), *arguments])
