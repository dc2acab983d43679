"""What becomes of the rows of a file: other columns, odd cells, and messages that name the line the user wrote."""

import json
import zipfile

import pytest
from command_models import RATED, save_models, write

from attention_rnn import cli
from attention_rnn.commands.results import tell_results
from attention_rnn.commands.rows import (
    PlacedRow,
    rows_of,
    settle_intents,
    suit_features,
    told_of_the_file,
    with_labels,
    write_splits,
)
from attention_rnn.commands.train import make_parser, read_files, settle_task
from attention_rnn.data import read_rows
from attention_rnn.inspection import Content, Known, read_content
from attention_rnn.tasks import Task, find_task
from attention_rnn.usage import classification_limits

TRIPLES = "".join(f"geh{n}en\tging{n}\tV;PST\n" for n in range(40))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_models(tmp_path_factory)


def test_two_seeds_have_the_same_splits_so_that_they_can_decode_together(tmp_path):
    file = write(tmp_path, "words.tsv", "source\ttarget\n" + "".join(f"w{n % 7}{n}\tp {n}\n" for n in range(60)))
    for seed in ("1", "2"):
        flags = ["--max_steps", "1", "--recipe", "g2p", "--seed", seed, "-o", str(tmp_path / seed)]
        cli.main(["train", str(file), *flags])
    for name in ("data/train.jsonl", "data/test.jsonl", "tokenizer.json", "target_tokenizer.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    more = write(tmp_path, "more.txt", "w11\n")
    output = tmp_path / "more.jsonl"
    cli.main(["ensemble", str(tmp_path / "1"), str(tmp_path / "2"), "--file", str(more), "-o", str(output)])
    assert json.loads(output.read_text())["source"] == "w11"


def test_lemmas_and_features_that_are_named_are_spelt(tmp_path):
    file = write(tmp_path, "more.tsv", "".join(f"{n}\tgeh{n}en\tging{n}\tV;PST;{n % 3}\n" for n in range(40)))
    for named in ([], ["--columns", "2", "4", "3"], ["--columns", "4", "2", "3"]):
        options = make_parser().parse_args([str(file), *named])
        task = settle_task(read_files([str(file)], options, Known()), options)
        assert task.spelt
        assert task.columns == {"source": ["column 2", "column 4"], "target": ["column 3"]}


def test_one_odd_tag_changes_no_task_and_is_named(tmp_path):
    content = read_content(write(tmp_path, "more.tsv", TRIPLES + "foo\tfoos\tplural form\n"))
    task = find_task(content)
    assert task.spelt
    with pytest.raises(ValueError, match=r"more.tsv, line 41: column 'column 3' must hold features, .* 'plural form'"):
        list(rows_of(content, task))


def test_a_lemma_without_features_is_left_out(tmp_path, capsys):
    content = read_content(write(tmp_path, "more.tsv", TRIPLES + "foo\tfoos\t\n"))
    task = find_task(content)
    assert len(with_labels(list(rows_of(content, task)), task, "train")) == 40
    assert capsys.readouterr().out == "1 of 41 rows of train have no source or no target and are left out\n"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (TRIPLES, ["column 1", "column 3", "column 2"]),
        ("".join(f"geh{n}en\tV;PST\tging{n}\n" for n in range(40)), ["column 1", "column 2", "column 3"]),
        ("form\tlemma\ttags\n" + "".join(f"ging{n}\tgeh{n}en\tV;PST\n" for n in range(40)), ["lemma", "tags", "form"]),
    ],
)
def test_features_are_scored_wherever_they_stand(tmp_path, text, columns):
    content = read_content(write(tmp_path, "more.tsv", text))
    places = {"source": ["column 1", "column 3"], "target": ["column 2"]}
    trained = Task("pairs", places, "", spelt=True)
    if "lemma" in content.rows[0]:
        trained = Task("pairs", {"source": ["form", "tags"], "target": ["lemma"]}, "", spelt=True)  # by their places
    lemma, features, form = columns
    assert suit_features(trained, content).columns == {"source": [lemma, features], "target": [form]}


def test_numbers_are_no_features(tmp_path):
    content = read_content(write(tmp_path, "more.tsv", "".join(f"geh{n}en\tging{n}\t{n}\n" for n in range(40))))
    trained = Task("pairs", {"source": ["column 1", "column 3"], "target": ["column 2"]}, "", spelt=True)
    with pytest.raises(ValueError, match=r"more\.tsv: column 'column 3' must hold features, such as V;PST, got '0'"):
        suit_features(trained, content)


@pytest.mark.parametrize("odd", [None, 1.5])
def test_a_label_of_a_word_must_be_one(odd):
    task = Task("labelling", {"tokens": ["tokens"], "labels": ["labels"]}, "")
    content = Content("a.jsonl", [{"tokens": ["a", "b"], "labels": [3, odd]}], ["a.jsonl, line 1"])
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: column 'labels' must hold a list of words"):
        list(rows_of(content, task))
    content.rows[0]["labels"] = [3, 4]
    assert list(rows_of(content, task)) == [{"tokens": ["a", "b"], "labels": ["3", "4"]}]


def test_messages_name_the_line_of_the_users_file(tmp_path):
    content = Content("mine.csv", [{"review": "good", "stars": "1"}], ["mine.csv, line 7"])
    rows = {"train": list(rows_of(content, RATED))}
    written = write_splits(tmp_path, RATED, rows)["train_file"]
    with pytest.raises(ValueError, match=r"^mine.csv, line 7: the label"), told_of_the_file(rows, tmp_path):
        raise ValueError(f"{written}, line 1: the label is odd")
    with pytest.raises(ValueError, match=r"^something else"), told_of_the_file(rows, tmp_path):
        raise ValueError("something else")


def test_a_label_that_training_lacks_is_told_by_its_line(tmp_path):
    train = write(tmp_path, "a.csv", "text,label\n" + "".join(f"great {n},{'yn'[n % 2]}\n" for n in range(20)))
    other = write(tmp_path, "b.csv", "text,label\ngreat,y\nbad,z\n")
    with pytest.raises(SystemExit, match=r"b\.csv, line 3: the label must be among"):
        cli.main(["train", str(train), "--validation", str(other), "--test", str(other), "-o", str(tmp_path / "run")])


def test_a_row_keeps_its_place_without_its_intent():
    rows = [PlacedRow.at("a, line 1", {"tokens": ["a"], "labels": ["O"], "intent": "x"}), {"tokens": [], "labels": []}]
    (first, _) = settle_intents({"train": rows})["train"]
    assert first == {"tokens": ["a"], "labels": ["O"]}
    assert first.place == "a, line 1"


def test_missing_labels_of_a_list_are_none():
    task = Task("classification", {"text": ["t"], "label": ["l"]}, "", problem_type="multi_label_classification")
    content = Content("a.parquet", [{"t": "x", "l": ["a", None, " ", float("nan")]}], ["row 1"])
    assert list(rows_of(content, task)) == [{"text": "x", "label": ["a"]}]


@pytest.mark.parametrize("number", ["1e39", "-6e300", "inf", "1e999"])
def test_a_number_beyond_single_precision_is_told_by_its_row(number):
    task = Task("classification", {"text": ["t"], "label": ["l"]}, "", problem_type="regression")
    with pytest.raises(
        ValueError, match=f"row 1: column 'l' must hold a finite number of single precision, got '{number}'"
    ):
        list(rows_of(Content("a.csv", [{"t": "x", "l": number}], ["row 1"]), task))


def test_half_a_character_is_told_by_its_line(tmp_path):
    file = write(tmp_path, "a.jsonl", '{"text": "\\ud83d\\ude00"}\n{"text": "\\ud800"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: \\ud800 is one half of a character"):
        list(read_rows(str(file)))
    assert next(iter(read_rows(str(file))))[1] == {"text": "😀"}


def test_a_zip_file_of_a_mac_holds_one_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", "source,target\na,b\n")
        archive.writestr("__MACOSX/._a.csv", b"\0")
    rows = read_content(tmp_path / "a.csv.zip").rows
    assert rows == [{"source": "a", "target": "b"}]


def test_evaluate_scores_intents_and_says_which_file_has_none(tmp_path, capsys):
    text = {"tokens": ["play", "jazz"], "labels": ["O", "B-GENRE"], "intent": "play"}
    other = {"tokens": ["stop", "it"], "labels": ["O", "O"], "intent": "stop"}
    lines = [json.dumps(row | {"tokens": [*row["tokens"], f"w{n}"], "labels": [*row["labels"], "O"]})
             for n in range(12) for row in (text, other)]  # fmt: skip
    train = write(tmp_path, "train.jsonl", "\n".join(lines))
    cli.main(["train", str(train), "--max_steps", "1", "-o", str(tmp_path / "run")])
    cli.main(["evaluate", str(tmp_path / "run"), str(train)])
    assert '"intent_accuracy"' in capsys.readouterr().out
    bare = write(tmp_path, "bare.jsonl", json.dumps({name: text[name] for name in ("tokens", "labels")}))
    with pytest.raises(SystemExit, match=r"bare\.jsonl, line 1: there must be an intent, which .*run tells too"):
        cli.main(["evaluate", str(tmp_path / "run"), str(bare)])


def test_what_is_no_text_stands_beside_its_fault(folders, tmp_path):
    file = write(tmp_path, "more.jsonl", '{"source": ["a"]}\n{"source": "so"}\n')
    output = tmp_path / "out.jsonl"
    cli.main(["predict", str(folders["pairs"]), str(file), "-o", str(output)])
    first, second = map(json.loads, output.read_text().splitlines())
    assert first["source"] == "['a']"
    assert first["prediction"] == ""
    assert "error" in first
    assert second["source"] == "so"


def test_a_table_with_decimal_commas_gets_them(folders, tmp_path):
    file = write(tmp_path, "more.csv", "review;stars\ngreat;2,6\n")
    cli.main(["predict", str(folders["rated"]), str(file), "-o", str(tmp_path / "out.csv")])
    (_, row) = (tmp_path / "out.csv").read_text().splitlines()
    _, _, score, stars = row.split(";")
    assert stars == "2,6"
    assert 0 < float(score.replace(",", ".")) < 1
    assert "." not in score


def test_pairs_are_compared_with_what_training_had(tmp_path, capsys):
    rows = {
        "train": [{"source": "a", "target": "b"}, {"source": "a", "target": "b"}, {"source": "a", "target": "c"}],
        "test": [{"source": s, "target": t} for s, t in (("a", "b"), ("same", "same"), ("x", "y"), ("a", "c"))],
    }
    task = Task("pairs", {"source": ["source"], "target": ["target"]}, "")
    tell_results(tmp_path, task, {"test": {"exact_match": 75.0}}, rows)
    assert "to compare exact_match 50.00 by writing what training had for a source" in capsys.readouterr().out


def test_the_card_of_a_model_of_numbers_tells_their_range():
    assert "tells a number of texts like those of its training data, whose numbers were from -1 to 2.5." in (
        classification_limits(64, [], [2.5, -1.0])
    )


def test_an_unknown_option_of_a_prompt_is_guessed(folders):
    with pytest.raises(SystemExit, match="there is no --ouput without a file; did you mean --output"):
        cli.main(["predict", str(folders["pairs"]), "--ouput", "x"])


@pytest.mark.parametrize("arguments", [["--help"], ["recipes"]])
def test_a_full_disk_is_told_of_without_a_traceback(monkeypatch, arguments):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        def flush(self):
            pass

    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert isinstance(raised.value.code, str)


def test_a_prompt_without_standard_input_names_the_way(folders, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SystemExit, match="there is no standard input to read texts from: name a file"):
        cli.main(["predict", str(folders["pairs"])])
