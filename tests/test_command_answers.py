"""What `predict` and `evaluate` write: data that can be read again, under names that say what is in them."""

import csv
import json
import re

import pytest
import torch
import transformers
from command_line import messages, refused, run  # noqa: F401
from tiny import tiny_config

from attention_rnn import (
    AttentionRnnForConditionalGeneration,
    AttentionRnnForQuestionAnswering,
    AttentionRnnForSequenceClassification,
    AttentionRnnForTokenClassification,
    cli,
)
from attention_rnn.commands.answers import row_of
from attention_rnn.commands.evaluate import check_metrics, seen_in_training
from attention_rnn.commands.models import Answer, Model, tell_unknown
from attention_rnn.data import read_rows, write_json_lines
from attention_rnn.labelling import predict_labels
from attention_rnn.tasks import Task
from attention_rnn.tokenizer_training import train_tokenizer

SEVERAL = {"num_labels": 3, "problem_type": "multi_label_classification"}
TAGS = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "label2id": {"O": 0, "B-X": 1, "I-X": 2}}
# of each model the class and fields of its config
MODELS = {
    "pairs": (AttentionRnnForConditionalGeneration, {}),
    "label": (AttentionRnnForSequenceClassification, {"num_labels": 3}),
    "several": (AttentionRnnForSequenceClassification, SEVERAL),
    "number": (AttentionRnnForSequenceClassification, {"num_labels": 1, "problem_type": "regression"}),
    "tags": (AttentionRnnForTokenClassification, {**TAGS, "crf": True, "intents": ["ask", "tell"]}),
    "plain tags": (AttentionRnnForTokenClassification, TAGS),
    "questions": (AttentionRnnForQuestionAnswering, {}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["ab cd ef gh a b c d e f g h"], kind="bpe", vocab_size=40)
    paths = {}
    for name, (model_class, fields) in MODELS.items():
        paths[name] = tmp_path_factory.mktemp("models") / name
        model_class(tiny_config(vocab_size=len(tokenizer), **fields)).save_pretrained(paths[name])
        tokenizer.save_pretrained(paths[name])
    return paths


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("ab cd ef\n\nef, gh\n", encoding="utf-8")
    return file


def commanded(*arguments):
    cli.main(list(map(str, arguments)))


def predicted(folder, file, *arguments):
    output = file.with_name("out.jsonl")
    commanded("predict", folder, file, "-o", output, *arguments)
    return [row for _, row in read_rows(str(output))]


def test_a_tagger_writes_a_label_for_each_word(folders, texts):
    rows = predicted(folders["tags"], texts)
    assert [len(row["prediction"]) for row in rows] == [3, 0, 2]
    assert {label for row in rows for label in row["prediction"]} <= {"O", "B-X", "I-X"}
    assert {row["intent"] for row in rows if row["source"]} <= {"ask", "tell"}


def test_the_labels_of_words_do_not_depend_on_the_batch(folders):
    model = Model(str(folders["tags"])).pipeline.model
    tokenizer = Model(str(folders["tags"])).pipeline.tokenizer
    texts = [["ab"], ["ab", "efgh", "cdab", "c"], ["gh", "ab"]]
    alone = [predict_labels(model, tokenizer, [words])[0] for words in texts]
    assert predict_labels(model, tokenizer, texts) == alone
    assert [len(row["labels"]) for row in alone] == [1, 4, 2]


def test_chunks_are_shown_at_a_prompt_as_before(folders, monkeypatch):
    labels = {"labels": ["B-X", "I-X", "O", "B-X"], "intent": "ask"}
    monkeypatch.setattr("attention_rnn.labelling.predict_labels", lambda *_: [labels])
    ((answer,),) = Model(str(folders["tags"])).answers(["ab cd  ef gh"])
    assert answer.text == "ab cd/X  gh/X  (ask)"
    assert answer.value == labels["labels"]


def test_several_labels_are_a_list_and_a_number_is_one(folders, texts):
    rows = predicted(folders["several"], texts)
    assert all(isinstance(row["prediction"], list) for row in rows)
    (texts.with_name("out.jsonl")).unlink()
    rows = predicted(folders["number"], texts)
    assert [type(row["prediction"]) for row in rows] == [float, str, float]
    assert Answer(0.123456).text == "0.1235"
    assert Answer(["a", "b"]).text == "a, b"


def test_scores_have_four_digits_everywhere():
    answers = [Answer("x", -0.123456), Answer("y", -12.3456789)]
    assert row_of("a", answers) == {
        "source": "a",
        "prediction": "x",
        "score": -0.1235,
        "n_best": [{"prediction": "x", "score": -0.1235}, {"prediction": "y", "score": -12.35}],
    }


@pytest.mark.parametrize("name", ["tags", "several", "number"])
def test_next_best_answers_are_refused_where_there_are_none(folders, texts, name):
    assert "-n is for models with a next best answer" in refused("predict", folders[name], texts, "-n", 2)
    assert "-n is for models with a next best answer" in refused("predict", folders[name], "-n", 2)


def test_beams_are_refused_where_there_are_none(folders, texts):
    assert "--num_beams is for encoder-decoders" in refused("predict", folders["label"], texts, "--num_beams", 2)


@pytest.mark.parametrize("name", ["label", "tags", "questions"])
def test_eight_bits_are_refused_before_a_model_is_loaded(folders, texts, monkeypatch, name):
    monkeypatch.setattr(Model, "pipeline", property(lambda self: pytest.fail("it was loaded")))
    for command in (["predict", folders[name]], ["predict", folders[name], texts]):
        said = refused(*command, "--int8")
        assert "--int8 is for models that write texts" in said
        assert "TypeError" not in said
    (texts.parent / "t.tsv").write_text("text\tlabel\nab\tcd\n")
    if name == "label":
        assert "--int8 is for models that write" in refused("evaluate", folders[name], texts.parent / "t.tsv", "--int8")


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("name", ["pairs", "label", "several", "tags"])
def test_a_table_is_what_its_name_says(folders, texts, ending, name):
    output = texts.with_name(f"out.{ending}")
    commanded("predict", folders[name], texts, "-o", output)
    rows = [row for _, row in read_rows(str(output), wanted_columns=["source"])]
    assert [row["source"] for row in rows] == ["ab cd ef", "", "ef, gh"]
    separator = " " if name == "tags" else ","
    for row, in_json in zip(rows, predicted(folders[name], texts), strict=True):
        told = in_json["prediction"]
        assert row["prediction"] == (separator.join(told) if isinstance(told, list) else " ".join(told.split()))
    assert {path.name for path in texts.parent.iterdir()} == {"texts.txt", "out.jsonl", f"out.{ending}"}
    assert "is there already" in refused("predict", folders[name], texts, "-o", output)


def test_both_texts_have_a_column_of_a_table(folders, tmp_path):
    file, output = tmp_path / "q.txt", tmp_path / "out.csv"
    file.write_text("ab, cd\tef\n\n")
    commanded("predict", folders["questions"], file, "-o", output)
    with open(output, encoding="utf-8", newline="") as table:
        row, empty = csv.DictReader(table)
    assert (row["context"], row["question"]) == ("ab, cd", "ef")
    assert set(empty.values()) == {""}


@pytest.mark.parametrize("name", ["pairs", "label"])
def test_a_dash_is_the_standard_output_and_the_rest_is_quiet(folders, texts, name, monkeypatch, capsys):
    monkeypatch.chdir(texts.parent)
    transformers.logging.enable_progress_bar()
    cli.main(["predict", str(folders[name]), str(texts), "-o", "-"])
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert "Loading weights" not in said.err
    assert [row["source"] for row in rows] == ["ab cd ef", "", "ef, gh"]
    assert [path.name for path in texts.parent.iterdir()] == ["texts.txt"]


@pytest.mark.parametrize("name", ["w.parquet", "w.xlsx", "w.jsonl.gz", "w.csv.gz", "w"])
def test_what_is_not_written_is_refused(folders, texts, name):
    assert "must end in .jsonl, .csv or .tsv" in refused("predict", folders["pairs"], texts, "-o", name)
    models = [folders["pairs"]] * 2
    assert "must end in .jsonl, .csv or .tsv" in refused("ensemble", *models, "--file", texts, "-o", name)


def test_next_best_answers_are_in_no_table(folders, texts):
    assert "-n needs a .jsonl" in refused("predict", folders["pairs"], texts, "-o", "w.csv", "-n", 2)
    assert "--alignments needs a .jsonl" in refused("predict", folders["pairs"], texts, "-o", "w.csv", "--alignments")


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("label", "a.tsv", "text\tlabel\nab\tLABEL_0\nef\tLABEL_1\ncd\tLABEL_0\n"),
        ("plain tags", "a.conll", "ab O\ncd B-X\n\nef O\n\ngh B-X\n\n"),
    ],
)
def test_evaluate_tells_of_how_many_examples_a_score_is(folders, tmp_path, capsys, name, file, text):
    (tmp_path / file).write_text(text)
    said = run(capsys, "evaluate", folders[name], tmp_path / file)
    scores = json.loads(said[said.index("{") :])
    assert scores.pop("examples") == 3
    assert all(value == float(f"{value:.4g}") for value in scores.values())


def test_an_ensemble_is_of_several_models_that_are_there(folders, texts):
    assert "two models or more, got 1" in refused("ensemble", folders["pairs"], "--file", texts)
    assert "there is no folder nowhere" in refused("ensemble", folders["pairs"], "nowhere", "--file", texts)
    said = refused("ensemble", folders["pairs"], folders["label"], "--file", texts)
    assert f"an ensemble is of encoder-decoders, and {folders['label']} does text-classification" in said


def test_evaluate_tells_what_the_model_was_trained_on(tmp_path):
    (tmp_path / "data").mkdir()
    rows = [{"text": "ab", "label": "x"}, {"text": "cd", "label": "x"}]
    assert seen_in_training(str(tmp_path), rows) is None
    write_json_lines(tmp_path / "data" / "train.jsonl", [{"text": "ab", "label": "y"}, {"text": "ef", "label": "x"}])
    assert seen_in_training(str(tmp_path), rows).startswith("1 of 2 rows the model was trained on")
    assert seen_in_training(str(tmp_path), rows[1:]) is None
    for inner in ("checkpoint-4", "members/seed42", "teachers/members/seed43/checkpoint-2"):
        (tmp_path / inner).mkdir(parents=True)
        assert seen_in_training(str(tmp_path / inner), rows).startswith("1 of 2 rows the model was trained on")
    tokens = [{"tokens": ["ab"], "labels": ["x"]}]
    assert seen_in_training(str(tmp_path), tokens) is None
    (tmp_path / "data" / "train.txt").write_text("so it is\n\nand so on\n")
    text = [{"text": "new\n\nand so on\n"}]
    assert seen_in_training(str(tmp_path), text).startswith("1 of 2 lines")


@pytest.mark.parametrize(
    ("name", "problem_type", "metric", "message"),
    [
        ("pairs", "", "exact_mach", "no metric 'exact_mach' of pairs; did you mean exact_match?"),
        ("pairs", "", "foo", "no metric 'foo' of pairs; there are bleu, chrf"),
        ("question-answering", "", "answer_f2", "did you mean answer_f1?"),
        ("classification", "single_label_classification", "bleu", "no metric 'bleu' of classification; there are acc"),
        ("classification", "regression", "pearsons", "did you mean pearson?"),
        ("labelling", "", "f1", "no metric 'f1' of labelling, whose scores are always the same"),
    ],
)
def test_a_metric_that_a_task_has_not_is_refused(name, problem_type, metric, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_metrics([metric], Task(name, {}, "", problem_type=problem_type))


def test_the_metrics_of_a_classifier_can_be_chosen(folders, tmp_path, capsys):
    file = tmp_path / "a.tsv"
    file.write_text("text\tlabel\nab\tLABEL_0\nef\tLABEL_1\ncd\tLABEL_0\n")
    said = run(capsys, "evaluate", folders["label"], file, "--metrics", "matthews")
    assert set(json.loads(said[said.index("{") :])) == {"matthews", "examples"}


@pytest.mark.parametrize("name", ["pairs", "label"])
def test_a_file_with_unknown_letters_is_told_of_at_the_end(folders, tmp_path, name, capsys):
    file = tmp_path / "a.txt"
    file.write_text("Ωab\n\nΨΩ cd\nab\n", encoding="utf-8")
    commanded("predict", folders[name], file, "-o", tmp_path / "a.csv")
    assert "2 of 4 texts hold what the model does not know: 'Ω' (U+03A9), 'Ψ' (U+03A8)" in capsys.readouterr().err
    file.write_text("ab\n")
    commanded("predict", folders[name], file, "-o", tmp_path / "a.csv", "--overwrite")
    assert "does not know" not in capsys.readouterr().err


def test_of_many_unknown_letters_the_most_frequent_are_named(folders):
    texts = ["".join(chr(0x3B1 + n) for n in range(12)), "γ", "γ"]
    told = tell_unknown(Model(str(folders["label"])), texts)
    assert told.startswith("3 of 3 texts hold what the model does not know: 'γ' (U+03B3), ")
    assert told.endswith(" and 2 others")


def test_numbers_do_not_hide_unknown_words(folders):
    model = Model(str(folders["label"]))
    model.unknown_of = lambda texts: [text.split() for text in texts]
    told = tell_unknown(model, ["821 17", "821 eh 3b", "44 821 5"])
    assert told == (
        "3 of 3 texts hold what the model does not know, which was rare in training or not there: "
        "'eh'; '821', '17', '3b' and 2 others with digits"
    )


def test_explain_tells_of_unknown_letters_too(folders, tmp_path, capsys):
    commanded("explain", folders["pairs"], "aΩ", "-o", tmp_path)
    assert "1 of 1 texts hold what the model does not know: 'Ω'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["average", "nowhere", "-o", "x"],
        ["ensemble", "nowhere", "nowhere", "--file", "x"],
        ["explain", "nowhere", "a"],
        ["evaluate", "nowhere", "a.tsv"],
        ["info", "nowhere"],
        ["predict", "nowhere"],
        ["transcribe", "nowhere", __file__],
    ],
)
def test_a_model_that_is_not_there_is_named(command):
    assert "there is no folder nowhere" in refused(*command)
