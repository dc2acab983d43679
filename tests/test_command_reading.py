"""What the commands read of a file for a trained model: the columns of its training, as the model reads them."""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from command_models import (
    ARTICLE,
    INFLECTION,
    LABELLED,
    PAIRED,
    PAIRS,
    QUESTIONS,
    RATED,
    UNNAMED,
    predicted,
    save_models,
    write,
)

from attention_rnn import cli
from attention_rnn.checkpoints import MEMBERS
from attention_rnn.commands import UsageError, predict
from attention_rnn.commands.evaluate import trained_metrics
from attention_rnn.commands.models import Answer, Model
from attention_rnn.commands.reading import is_of_lines
from attention_rnn.commands.results import has_learned_nothing, tell_results, write_marked_predictions
from attention_rnn.commands.rows import known_of, rows_of, settle_intents, split_rows, suit_columns, with_labels
from attention_rnn.commands.train import (
    check_places,
    known_of_options,
    make_parser,
    most_of,
    origins_of,
    read_files,
    script_arguments,
    settle_task,
    task_of_file,
    tell_content,
)
from attention_rnn.inspection import Content, Known, read_content
from attention_rnn.tasks import Task, find_task


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


def test_commas_in_texts_that_might_be_columns_are_told_of(folders, tmp_path, capsys):
    file = write(tmp_path, "more.txt", "great, so\nbad, is\nso, is\n")
    assert [row["source"] for row in predicted(folders["pairs"], file)] == ["great, so", "bad, is", "so, is"]
    assert f"each line of {file} is read as one text; --separator ',' would read 2 columns" in capsys.readouterr().err
    rows = predicted(folders["pairs"], file, "--overwrite", "--separator", ",")
    assert [row["source"] for row in rows] == ["great", "bad", "so"]
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
    split = split_rows({"train": list(rows_of(content, QUESTIONS))}, QUESTIONS)
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
    split = split_rows(labelled(*counts), RATED)
    for name in ("validation", "test"):
        assert [sum(row["label"] == label for row in split[name]) for label in "abcde"] == [20, 10, 6, 3, 1]
    assert sum(map(len, split.values())) == 399
    assert capsys.readouterr().out == ""
    assert split_rows(labelled(*counts), RATED) == split


def test_a_label_that_is_rare_is_trained_on(capsys):
    split = split_rows(labelled(("a", 60), ("b", 2), ("c", 1)), RATED)
    assert {row["label"] for name in ("validation", "test") for row in split[name]} == {"a"}
    said = capsys.readouterr().out
    assert "there are fewer than 3 texts for the label 'b', 'c': all of them are trained on" in said
    assert "the test has no label 'b', 'c'" in said


def test_a_source_with_two_labels_is_in_one_split():
    rows = labelled(("a", 30), ("b", 30))["train"]
    rows += [row | {"label": "b"} for row in rows[:20]]
    split = split_rows({"train": rows}, RATED)
    texts = [{row["text"] for row in split[name]} for name in ("train", "validation", "test")]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]


def test_labels_of_which_none_is_frequent_are_not_split():
    with pytest.raises(ValueError, match=r"there must be 3 texts of a label to split, .* --validation and --test"):
        split_rows(labelled(*((f"l{n}", 2) for n in range(20))), RATED)


def test_rows_without_a_label_are_left_out(capsys):
    rows = labelled(("good", 90), ("bad", 90), ("", 60))
    split = split_rows(rows | {"test": rows["train"][88:184]}, RATED)
    assert {row["label"] for of_split in split.values() for row in of_split} == {"good", "bad"}
    said = capsys.readouterr().out
    assert "60 of 240 rows of train have no label and are left out" in said
    assert "4 of 96 rows of test have no label and are left out" in said
    with pytest.raises(ValueError, match="the rows of train must have what is needed, got 60 rows with no label"):
        split_rows(labelled(("", 60)), RATED)


def test_a_text_may_have_none_of_several_labels():
    rows = [{"text": "so", "label": []}]
    task = Task("classification", {}, "", problem_type="multi_label_classification")
    assert with_labels(rows, task, "a.csv") == rows
    with pytest.raises(ValueError, match=r"the rows of a\.csv must have what is needed, got 1 rows with no label"):
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
    numbers = [{"text": text, "prediction": 1.5, "reference": right} for text, right in (("a", 1.25), ("b", 4))]
    write(tmp_path, "predictions.jsonl", "".join(json.dumps(row) + "\n" for row in numbers))
    assert table(replace(RATED, problem_type="regression")) == ["-2.5\tb\t1.5\t4", "+0.25\ta\t1.5\t1.25"]
    spelt = {"source": "N e w ␣ Y [N] [PL]", "prediction": "N e w ␣ Y s", "reference": "N e w ␣ Y s"}
    write(tmp_path, "generated_predictions.jsonl", json.dumps(spelt) + "\n")
    assert table(INFLECTION) == ["✓\tNew Y N;PL\tNew Ys\tNew Ys"]
    assert table(LABELLED) == ["✗\tLos A\tB-X O\tB-X I-X", "✓\thi\tO\tO"]


@pytest.mark.parametrize(
    ("problem_type", "trained", "tested", "scores", "said"),
    [
        ("regression", ["1.5", "2.5"], ["2", "4"], {"mae": 1.0}, "to compare mae 1.00 by saying 2 of every text"),
        (
            "multi_label_classification",
            [["a"], ["a", "b"]],
            [["a"], ["b"], ["b"], []],
            {"f1": 53.3},
            "to compare f1 53.33 by saying all labels of every text",
        ),
    ],
)
def test_numbers_and_several_labels_are_compared_with_a_guess(
    tmp_path, capsys, problem_type, trained, tested, scores, said
):
    rows = {"train": [{"label": label} for label in trained], "test": [{"label": label} for label in tested]}
    tell_results(tmp_path, replace(RATED, problem_type=problem_type), {"test": scores}, rows)
    output = capsys.readouterr().out
    assert said in output
    assert "The model has learned nothing of use" in output


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
    rows = {split: [{"source": "a", "target": "b"}] for split in ("train", "test")}
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


def intents(*values):
    return [{"tokens": ["a"], "labels": ["O"]} | ({} if value is None else {"intent": value}) for value in values]


@pytest.mark.parametrize("values", [("ask", None), (None, "ask"), ("ask", " ")])
def test_intents_that_some_texts_lack_are_left_out(values, capsys):
    rows = settle_intents({"train": intents(*values), "test": intents("ask")})
    assert rows == {"train": intents(None, None), "test": intents(None)}
    assert "the intents are left out: 1 of 3 texts have none" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "is_given"), [("ask", True), (None, False)])
def test_the_recipe_of_slots_needs_no_intents(value, is_given):
    options, _ = make_parser().parse_known_args(["a.conll", "--recipe", "slot-filling"])
    words = script_arguments(Task("labelling", {}, ""), "slot-filling", options, [], intents(value))
    assert ("--intent_column" in words) == is_given


def test_what_is_in_two_files_is_told(capsys):
    (rows,) = labelled(("a", 20)).values()
    rows = {"train": rows, "validation": rows[:3], "test": rows[:2]}
    split_rows(rows, RATED)
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "3 of 3 texts of validation are trained on too: what it scores on them flatters the model",
        "2 of 2 texts of test are trained on too: what it scores on them flatters the model",
        "2 of 2 texts of test choose the best model too: what it scores on them flatters the model",
    ]


def test_places_of_columns_need_as_many_columns(tmp_path):
    trained = read_content(write(tmp_path, "a.tsv", "ab\tx y\n" * 9))
    other = read_content(write(tmp_path, "b.tsv", "0\tab\tx y\n" * 9))
    named = read_content(write(tmp_path, "c.tsv", "source\ttarget\nab\tx y\n"))
    check_places(named, named, "--test")
    with pytest.raises(ValueError, match=r"--test needs the columns of a.tsv, which has 2 of them; b.tsv has 3"):
        check_places(other, trained, "--test")


def test_a_name_that_looks_like_an_argument_is_none():
    assert origins_of({"train": ["data/-w.tsv"], "test": ["t.tsv"]}) == ["./-w.tsv", "a part of ./-w.tsv", "t.tsv"]


def test_a_model_gives_each_text_once(folders, monkeypatch):
    model = Model(str(folders["pairs"]))
    found = [[{"generated_text": text, "score": score} for text, score in ((" a", -0.1), ("b", -0.2), ("a", -0.9))]]
    monkeypatch.setattr(model, "pipeline", lambda *_, **__: found)
    model.pipeline.model = model
    monkeypatch.setattr(Model, "generation_config", argparse.Namespace(num_beams=1), raising=False)
    assert model.answers(["so"], 3) == [[Answer("a", -0.1), Answer("b", -0.2)]]


def test_pairs_without_one_side_are_left_out(capsys):
    rows = [{"source": "a", "target": "b"}, {"source": " ", "target": "b"}, {"source": "a", "target": ""}]
    assert with_labels(rows, PAIRS, "test") == rows[:1]
    assert "2 of 3 rows of test have no source or no target and are left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="got 2 rows with no source or no target"):
        with_labels(rows[1:], PAIRS, "test")


def test_labels_are_found_where_the_training_wrote_them():
    task = Task("classification", {"text": ["text"], "label": ["tags"]}, "")
    content = Content("test.jsonl", [{"text": "a", "label": ["x"]}], ["line 1"])
    assert suit_columns(task, content).columns == {"text": ["text"], "label": ["label"]}
    assert suit_columns(task, Content("a", [{"text": "a", "tags": ["x"]}], ["line 1"])) == task


def test_an_ensemble_is_not_trained_further(folders, tmp_path):
    for seed in (1, 2):
        member = shutil.copytree(folders["pairs"], tmp_path / "both" / MEMBERS / f"seed{seed}")
        write(member, "README.md", "a card")
    options, _ = make_parser().parse_known_args(["a.tsv", "--from", str(tmp_path / "both")])
    with pytest.raises(UsageError, match=r"--from needs a single model, and .* holds an ensemble: take one of it"):
        script_arguments(PAIRS, "g2p", options, [])


def test_an_exported_folder_is_told_from_a_model(tmp_path):
    for name in ("run_onnx.py", "config.json"):
        write(tmp_path, name, "{}")
    with pytest.raises(OSError, match=r"got an exported one, which python .*run_onnx.py and attention-rnn serve run"):
        Model(str(tmp_path))


def test_an_average_is_scored_as_its_training_was(folders, tmp_path, capsys):
    for step in (1, 2):
        folder = shutil.copytree(folders["pairs"], tmp_path / "run" / f"checkpoint-{step}")
        state = {"log_history": [{"eval_exact_match": 1.0, "eval_per": 2.0, "step": 1}]}
        write(folder, "trainer_state.json", json.dumps(state))
    (tmp_path / "run" / "data").mkdir()
    write(tmp_path / "run" / "data", "validation.jsonl", "{}")
    cli.main(["average", str(tmp_path / "run"), "-o", str(tmp_path / "mean")])
    assert trained_metrics(str(tmp_path / "mean")) == ["per", "exact_match"]
    data = tmp_path / "run" / "data" / "validation.jsonl"
    assert f"attention-rnn evaluate {tmp_path / 'mean'} {data}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "number"), [(["--max_train_samples", "5"], 5), (["--max_train_samples=5"], 5), (["--seed", "5"], None)]
)
def test_an_argument_leaves_so_many_rows(words, number):
    assert most_of("train", words) == number
    assert most_of("test", words) is None
