"""The scripts that train a classifier and that search its hyper-parameters, run within this process on a few texts."""

import gzip
import json
import logging
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from sklearn.metrics import f1_score
from tiny import tiny_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    EvalPrediction,
    pipeline,
)

from attention_rnn import AttentionRnnConfig
from attention_rnn.arguments import parse_arguments
from attention_rnn.classification import score_predictions, settle_labels
from attention_rnn.tokenizer_training import train_tokenizer
from attention_rnn.word_vectors import read_word_vectors

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_classification
import search_hyperparameters

ROWS = [
    {"text": "a fine film", "label": "good"},
    {"text": "dull and long", "label": "bad"},
    {"text": "what a fine day", "label": "good"},
    {"text": "dull , dull , dull and then even longer than that", "label": "bad"},
    {"text": "fine", "label": "good"},
    {"text": "007", "label": "bad"},
    {"text": "neither fine nor dull", "label": "mixed"},
    {"text": "a film", "label": "mixed"},
]
MULTI_LABEL = ["--problem_type", "multi_label_classification"]
REGRESSION = ["--problem_type", "regression"]
TINY_RUN = """
--config_overrides embedding_size=6,hidden_size=8 --tokenizer word --max_steps 3 --per_device_train_batch_size 4
--per_device_eval_batch_size 3 --num_heat_maps 2 --use_cpu --disable_tqdm True
"""


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return str(path)


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def train_file(tmp_path):
    return write(tmp_path / "train.jsonl", jsonl(ROWS))


def run(output_dir, *arguments):
    """Runs the script with a tiny model for a few steps; the given arguments win."""
    return run_classification.main([*TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, arguments)])


def read(*arguments):
    """What the script reads for the given arguments, without training."""
    kinds = (run_classification.DataArguments, run_classification.TrainingArguments)
    data_args, training_args = parse_arguments(["--do_train", *map(str, arguments)], *kinds)
    examples = run_classification.read_splits(data_args, training_args)
    labels = settle_labels([], examples, training_args.problem_type, "train")
    return [example["label"] for example in examples["train"]], labels


def predictions(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


# a whole run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The output folder of a run, and what the script returned."""
    folder = tmp_path_factory.mktemp("run")
    train_file = write(folder / "train.jsonl", jsonl(ROWS))
    test_file = write(folder / "test.tsv", "label\ttext\n" + "".join(f"{r['label']}\t{r['text']}\n" for r in ROWS[:7]))
    arguments = ["--do_train", "--do_eval", "--do_predict", "--train_file", train_file, "--test_file", test_file]
    arguments += ["--validation_file", test_file, "--text_columns", "text", "--label_column", "label"]
    arguments += ["--metrics", "accuracy", "f1", "matthews", "--language", "en", "--max_steps", "60"]
    arguments += ["--eval_strategy", "steps", "--eval_steps", "30", "--save_steps", "30", "--learning_rate", "0.03"]
    return folder / "out", run(folder / "out", *arguments, "--config_overrides", "hidden_size=8,pooling_heads=2")


def test_a_run_leaves_everything_in_its_folder(finished):
    output_dir, scores = finished
    names = {path.name for path in output_dir.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "README.md", "confusion_matrix.png"}
    assert names >= {"train_results.json", "eval_results.json", "predict_results.json", "all_results.json"}
    assert {path.name for path in (output_dir / "attention_maps").iterdir()} == {"0.png", "1.png", "attention.html"}
    results = json.loads((output_dir / "all_results.json").read_text())
    assert results["predict_matthews"] == scores["test"]["matthews"]
    state = json.loads((output_dir / "trainer_state.json").read_text())
    assert state["best_metric"] == scores["validation"]["accuracy"]


def test_it_has_learnt_the_labels_and_the_scores_are_those_of_the_predictions(finished):
    output_dir, scores = finished
    rows = predictions(output_dir)
    assert [(row["text"], row["reference"]) for row in rows] == [(row["text"], row["label"]) for row in ROWS[:7]]
    accuracy = np.mean([row["prediction"] == row["reference"] for row in rows])
    assert scores["test"]["accuracy"] == pytest.approx(100 * accuracy)
    assert accuracy > 0.8
    f1 = f1_score([row["reference"] for row in rows], [row["prediction"] for row in rows], average="macro")
    assert scores["test"]["f1"] == pytest.approx(100 * f1)


def test_the_folder_opens_in_a_pipeline_that_gives_the_same_probabilities(finished):
    classify = pipeline("text-classification", str(finished[0]))
    for row in predictions(finished[0]):
        every = classify(row["text"], top_k=None)
        assert every[0]["label"] == row["prediction"]
        assert {entry["label"]: pytest.approx(entry["score"], abs=1e-5) for entry in every} == row["probabilities"]


def test_the_card_tells_what_the_model_reached(finished):
    output_dir, scores = finished
    card = ModelCard.load(output_dir / "README.md")
    assert (card.data.language, card.data.pipeline_tag) == (["en"], "text-classification")
    values = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert values["test", "f1"] == round(scores["test"]["f1"], 4)
    for part in ("attention_maps/0.png", "with 'bad', 'good', 'mixed'", "| train | train.jsonl | 8 |"):
        assert part in card.text
    assert str(output_dir.parent) not in card.text


def test_a_checkpoint_is_evaluated_and_names_a_label_that_it_does_not_know(tmp_path, finished):
    test_file = write(tmp_path / "test.jsonl", jsonl(ROWS[:3]))
    arguments = ["--do_predict", "--model_name_or_path", finished[0], "--use_cpu", "--num_heat_maps", "0"]
    arguments = [str(argument) for argument in [*arguments, "--output_dir", tmp_path / "out", "--test_file", test_file]]
    run_classification.main(arguments)
    assert [row["prediction"] for row in predictions(tmp_path / "out")] == [
        row["prediction"] for row in predictions(finished[0])[:3]
    ]
    write(tmp_path / "test.jsonl", jsonl([ROWS[0], {"text": "an odd one", "label": "odd"}]))
    message = r"test.jsonl, line 2: the label must be among \['bad', 'good', 'mixed'\] of the model, got 'odd'"
    with pytest.raises(ValueError, match=message):
        run_classification.main([*arguments, "--overwrite_output_dir"])


def test_a_model_is_fine_tuned_to_other_labels(tmp_path, finished):
    rows = jsonl({**row, "label": index % 2} for index, row in enumerate(ROWS))
    arguments = ["--do_train", "--train_file", write(tmp_path / "train.jsonl", rows), "--max_steps", 1, "--use_cpu"]
    arguments += ["--model_name_or_path", finished[0], "--output_dir", tmp_path / "out", "--freeze_embeddings"]
    run_classification.main([str(argument) for argument in arguments])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "0", 1: "1"}
    before, after = (load_file(folder / "model.safetensors") for folder in (finished[0], tmp_path / "out"))
    assert torch.equal(before["model.encoder.embed_tokens.weight"], after["model.encoder.embed_tokens.weight"])
    assert not torch.equal(before["pooling.hidden.weight"], after["pooling.hidden.weight"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"bad": "worse"}, ["bad", "good", "mixed", "worse"]),
        ({"mixed": "good"}, ["bad", "good", "mixed"]),
        ({"bad": "a", "good": "b", "mixed": "c"}, ["a", "b", "c"]),
    ],
    ids=["one more", "one less", "others"],
)
def test_known_labels_keep_their_ids_and_weights(tmp_path, caplog, finished, names, expected):
    caplog.set_level(logging.INFO)
    rows = jsonl({**row, "label": names.get(row["label"], row["label"])} for row in ROWS)
    arguments = ["--do_train", "--train_file", write(tmp_path / "train.jsonl", rows), "--max_steps", 1, "--use_cpu"]
    arguments += ["--model_name_or_path", finished[0], "--output_dir", tmp_path / "out", "--learning_rate", 1e-12]
    run_classification.main([str(argument) for argument in arguments])
    before, after = (
        AutoModelForSequenceClassification.from_pretrained(folder) for folder in (finished[0], tmp_path / "out")
    )
    assert list(after.config.id2label.values()) == expected
    kept = len(set(before.config.id2label.values()) & set(expected))
    is_same = torch.isclose(after.classifier.weight[:3], before.classifier.weight).all()
    assert is_same == (kept == 3)
    assert ("the 3 labels of the checkpoint keep" in caplog.text) == (kept == 3)


def test_a_classifier_learns_numbers_and_does_not_tell_them_before(tmp_path, finished):
    rows = write(tmp_path / "rows.jsonl", jsonl({**row, "label": 0.5} for row in ROWS))
    arguments = ["--problem_type", "regression", "--model_name_or_path", finished[0], "--use_cpu", "--num_heat_maps", 0]
    arguments = [str(argument) for argument in [*arguments, "--output_dir", tmp_path / "out"]]
    with pytest.raises(ValueError, match=r"regression needs a model that tells a number, got the labels \['bad'"):
        run_classification.main([*arguments, "--do_predict", "--test_file", rows])
    run_classification.main([*arguments, "--do_train", "--train_file", rows, "--max_steps", "1"])
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config
    assert (config.num_labels, config.problem_type) == (1, "regression")


def test_the_encoder_of_a_translator_and_another_model_of_transformers_are_fine_tuned(tmp_path, train_file):
    tokenizer = train_tokenizer([row["text"] for row in ROWS], "word")
    tokenizer.save_pretrained(tmp_path / "translator")
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "translator")
    tokenizer.save_pretrained(tmp_path / "bert")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "bert")
    for name, model_type in (("translator", "attention_rnn"), ("bert", "bert")):
        arguments = ["--do_train", "--do_predict", "--train_file", train_file, "--test_file", train_file, "--use_cpu"]
        arguments += ["--model_name_or_path", tmp_path / name, "--output_dir", tmp_path / "out" / name]
        scores = run_classification.main([str(argument) for argument in [*arguments, "--max_steps", 1]])
        assert 0 <= scores["test"]["accuracy"] <= 100
        assert AttentionRnnConfig.get_config_dict(tmp_path / "out" / name)[0]["model_type"] == model_type


def test_a_resumed_run_ends_with_the_same_numbers(tmp_path, train_file):
    saving = ["--do_train", "--train_file", train_file, "--save_strategy", "steps", "--save_steps", "2"]
    run(tmp_path / "whole", *saving, "--save_total_limit", "3")
    run(tmp_path / "resumed", *saving, "--resume_from_checkpoint", tmp_path / "whole" / "checkpoint-2")
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


# labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([10, 9, 10], ["9", "10"]),
        (["10", " 9", "10"], ["9", "10"]),
        ([True, False, True], ["False", "True"]),
    ],
)
def test_labels_are_names_in_their_order(tmp_path, labels, expected):
    file = write(tmp_path / "train.jsonl", jsonl({"text": "x", "label": label} for label in labels))
    assert read("--train_file", file) == ([str(label).strip() for label in labels], expected)


def test_several_labels_come_as_a_list_or_as_text(tmp_path):
    lists = write(tmp_path / "a.jsonl", jsonl([{"text": "x", "label": ["b", "a"]}, {"text": "y", "label": []}]))
    texts = write(tmp_path / "b.tsv", "text\tlabel\nx\tb; a\ny\t\n")
    expected = [["b", "a"], []], ["a", "b"]
    assert read("--train_file", lists, *MULTI_LABEL) == expected
    assert read("--train_file", texts, *MULTI_LABEL, "--label_separator", ";") == expected


def test_a_multi_label_run(tmp_path):
    rows = [{"text": row["text"], "label": [w for w in ("fine", "dull") if w in row["text"]]} for row in ROWS]
    file = write(tmp_path / "train.jsonl", jsonl(rows))
    arguments = ["--do_train", "--do_predict", "--train_file", file, "--test_file", file, *MULTI_LABEL]
    scores = run(tmp_path / "out", *arguments, "--max_steps", "80", "--learning_rate", "0.03")
    assert scores["test"].keys() == {"f1", "f1_micro"}
    assert scores["test"]["f1"] > 80
    row = predictions(tmp_path / "out")[6]
    assert set(row["prediction"]) == {name for name, p in row["probabilities"].items() if p > 0.5}
    assert row["reference"] == ["fine", "dull"]
    every = pipeline("text-classification", str(tmp_path / "out"))(row["text"], top_k=None)
    assert {e["label"]: pytest.approx(e["score"], abs=1e-5) for e in every} == row["probabilities"]


@pytest.mark.parametrize(
    ("references", "predicted", "f1", "f1_micro"),
    [
        ([[1, 0, 0], [1, 0, 0]], [[1, 0, 0], [1, 0, 0]], 100, 100),  # two labels are absent
        ([[1, 1, 0], [1, 0, 0]], [[1, 0, 0], [1, 0, 0]], 50, 80),  # one is, and one is missed
        ([[1, 0, 0], [1, 0, 0]], [[1, 0, 1], [1, 0, 0]], 50, 80),  # one is predicted and wrong
        ([[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]], 100, 100),
    ],
)
def test_labels_that_are_absent_do_not_count(references, predicted, f1, f1_micro):
    output = EvalPrediction(predictions=2 * np.array(predicted) - 1, label_ids=np.array(references, dtype=float))
    scores = score_predictions(output, "multi_label_classification", ["f1", "f1_micro"])
    assert scores == {"f1": pytest.approx(f1), "f1_micro": pytest.approx(f1_micro)}


def test_smoothed_labels_leave_the_penalty_of_the_heads_in_the_loss(tmp_path, train_file):
    losses = []
    for weight in (0, 1_000):
        overrides = f"embedding_size=6,hidden_size=8,pooling_heads=2,pooling_penalty_weight={weight}"
        arguments = ["--do_train", "--train_file", train_file, "--label_smoothing_factor", 0.1, "--max_steps", 1]
        run(tmp_path / str(weight), *arguments, "--config_overrides", overrides)
        losses.append(json.loads((tmp_path / str(weight) / "all_results.json").read_text())["train_loss"])
    assert losses[0] < 10 < losses[1]


def test_a_regression_on_pairs_of_texts(tmp_path):
    lines = "".join(f"{row['text']}\tdull\t{row['text'].count('dull') + 0.5}\n" for row in ROWS)
    file = write(tmp_path / "train.tsv", "first\tsecond\tscore\n" + lines)
    arguments = ["--do_train", "--do_predict", "--train_file", file, "--test_file", file, *REGRESSION]
    arguments += ["--text_columns", "first", "second", "--label_column", "score"]
    scores = run(tmp_path / "out", *arguments, "--max_steps", "80", "--learning_rate", "0.03")
    assert scores["test"].keys() == {"pearson", "spearman", "mae"}
    assert scores["test"]["pearson"] > 80
    row = predictions(tmp_path / "out")[0]
    assert (row["text_pair"], row["reference"]) == ("dull", 0.5)
    errors = [abs(row["prediction"] - row["reference"]) for row in predictions(tmp_path / "out")]
    assert scores["test"]["mae"] == pytest.approx(sum(errors) / len(errors), abs=1e-4)
    (result,) = [pipeline("text-classification", str(tmp_path / "out"))({k: row[k] for k in ("text", "text_pair")})]
    assert result["score"] == pytest.approx(row["prediction"], abs=1e-5)


def test_the_correlation_with_a_constant_is_zero():
    output = EvalPrediction(predictions=np.ones((3, 1)), label_ids=np.array([1.0, 2.0, 3.0]))
    assert score_predictions(output, "regression", ["pearson", "spearman"]) == {"pearson": 0, "spearman": 0}


def test_a_data_set_by_its_name_has_the_names_of_its_labels(tmp_path, monkeypatch):
    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"sentence": datasets.Value("string"), "label": names})
    examples = datasets.Dataset.from_dict({"sentence": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: {"train": examples})
    assert read("--dataset_name", "some/reviews") == (["pos", "neg", "pos"], ["neg", "pos"])


# word vectors

VECTORS = {"fine": [1.0, 2.0, 3.0], "dull": [-1.0, 0.5, 0.0], ". . .": [9.0, 9.0, 9.0], "</s>": [7.0, 7.0, 7.0]}
GLOVE = "".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in VECTORS.items())


@pytest.mark.parametrize("name", ["glove.txt", "word2vec.txt", "glove.txt.gz"])
def test_embeddings_start_from_word_vectors_and_may_be_frozen(tmp_path, train_file, name):
    content = f"4 3\n{GLOVE}" if name == "word2vec.txt" else GLOVE
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    arguments = ["--do_train", "--train_file", train_file, "--config_overrides", "hidden_size=8"]
    run(tmp_path / "out", *arguments, "--word_vectors", tmp_path / name, "--freeze_embeddings")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    ids = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    weight = model.get_input_embeddings().weight
    for word in ("fine", "dull"):
        assert weight[ids[word]].tolist() == VECTORS[word]
    assert weight[ids["</s>"]].tolist() != VECTORS["</s>"]
    assert 0 < weight[ids["film"]].abs().max() < 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "v.txt",
            "fine 1\ngrün 1\n".encode("latin-1"),
            "v.txt, line 2: must be UTF-8, got the byte 0xfc at position 3",
        ),
        ("v.txt.gz", gzip.compress(GLOVE.encode(), mtime=0)[:-9], "v.txt.gz, after line 4: must be a whole gzip file"),
    ],
)
def test_broken_files_of_word_vectors_are_refused_with_their_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_word_vectors(str(tmp_path / name), {"fine"})


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        ("fine 1 2 3\ndull 1 2\n", "hidden_size=8", "line 2: there must be a word and 3 numbers"),
        ("fine 1 2 3\ndull 1 x 3\n", "hidden_size=8", "line 2: there must be a word and 3 numbers.*'x'"),
        ("grün 1 2 3\n", "hidden_size=8", "must hold a vector for at least one of the 17 words"),
        ("fine 1 2 3\n", "embedding_size=6", "embedding_size must be that of .*, 3, got 6"),
    ],
)
def test_wrong_word_vectors_are_refused(tmp_path, train_file, content, overrides, message):
    file = write(tmp_path / "vectors.txt", content)
    with pytest.raises(ValueError, match=message):
        run(
            tmp_path / "o",
            "--do_train",
            "--train_file",
            train_file,
            "--word_vectors",
            file,
            "--config_overrides",
            overrides,
        )


# what is refused


def test_a_checkpoint_of_another_alphabet_is_told(tmp_path, finished, caplog):
    rows = jsonl({"text": text, "label": "good"} for text in ("мир", "дом и сад"))
    arguments = ["--do_predict", "--test_file", write(tmp_path / "test.jsonl", rows), "--use_cpu"]
    arguments += ["--model_name_or_path", finished[0], "--output_dir", tmp_path / "out"]
    run_classification.main([str(argument) for argument in arguments])
    assert "does not suit the texts of the test data" in caplog.text


REFUSED_ARGUMENTS = [
    ("", "give one or several of --do_train"),
    ("--do_train", "--do_train needs either --train_file or --dataset_name"),
    ("--do_predict --test_file {file}", "need --model_name_or_path"),
    ("--do_train --train_file {file} --problem_type ranking", "--problem_type must be one of .* got 'ranking'"),
    ("--do_train --train_file {file} --metrics pearson", "of single_label.* must be one of accuracy.* got 'pearson'"),
    (
        "--do_train --train_file {file} --metric_for_best_model f1_micro",
        "--metric_for_best_model must be one of loss, ",
    ),
    ("--do_train --train_file {file} --text_columns a b c", "--text_columns must be one column, or two"),
    ("--do_train --train_file {file} --label_column sense", r"'sense', got the columns \['text', 'label'\]"),
    ("--do_train --train_file {file} --max_length 1", "--max_length must be at least 2, got 1"),
    ("--do_train --train_file {file} --tokenizer syllable", "--tokenizer must be one of bpe, .*'syllable'"),
    ("--do_train --train_file {file} --tokenizer bpe --word_vectors x", "--word_vectors needs --tokenizer word"),
    ("--do_train --train_file {file} --config_overrides hidden_size=3,pooling_heads=0", "pooling_heads.* got 0"),
    ("--do_train --train_file {file} --problem_type regression --label_smoothing_factor 0.1", "needs --problem_type"),
    ("--do_train --train_file {file} --early_stopping_patience 2", "--early_stopping_patience needs"),
    ("--do_train --train_file {file} --model_name_or_path x", "no --config_overrides"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED_ARGUMENTS, ids=[arguments for arguments, _ in REFUSED_ARGUMENTS]
)
def test_wrong_arguments_are_refused(tmp_path, train_file, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", *arguments.format(file=train_file).split())
    assert not (tmp_path / "out").exists()


REFUSED_ROWS = [
    ([{"text": "a", "label": "b"}, {"text": 7, "label": "c"}], [], "line 2: column 'text' must hold text, got 7"),
    ([{"text": "a", "label": "b"}, {"text": "a", "label": " "}], [], "line 2: a label .* must be text or an integer"),
    ([{"text": "a", "label": 1}, {"text": "b", "label": 2.5}], [], "got 2.5.* other numbers --problem_type regression"),
    ([{"text": "a", "label": ["b"]}], [], r"got \['b'\]. Lists need --problem_type multi_label_classification"),
    ([{"text": "a", "label": 3}], MULTI_LABEL, "line 1: column 'label' must hold a list of labels or text, got 3"),
    ([{"text": "a", "label": "much"}], REGRESSION, "must hold a number other than -100, got 'much'"),
    ([{"text": "a", "label": -100}], REGRESSION, "must hold a number other than -100, got -100"),
    ([{"text": "a", "label": "b"}, {"text": "b"}], [], r"line 2: there must be a column 'label'.*\['text'\]"),
    ([{"text": "a", "label": "b"}], [], r"at least two labels of the training data, train.jsonl, got \['b'\]"),
    ([], [], "must hold at least one example, got none in train.jsonl"),
]


@pytest.mark.parametrize(("rows", "arguments", "message"), REFUSED_ROWS, ids=[case[2] for case in REFUSED_ROWS])
def test_wrong_rows_are_refused_with_their_line(tmp_path, rows, arguments, message):
    file = write(tmp_path / "train.jsonl", jsonl(rows))
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", "--do_train", "--train_file", file, *arguments)
    assert not (tmp_path / "out").exists()


def test_a_column_of_texts_is_no_column_of_labels(tmp_path):
    rows = [{"label": "good", "text": f"a film with {number} acts"} for number in range(30)]
    file = write(tmp_path / "train.jsonl", jsonl(rows))
    with pytest.raises(ValueError, match=r"no label stands twice: there are 30 .*'a film with .* Is --label_column"):
        run(tmp_path / "out", "--do_train", "--train_file", file, "--text_columns", "label", "--label_column", "text")


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl"])
def test_columns_are_found_by_their_names(tmp_path, name):
    rows = [{"label": label, "id": "7", "text": text} for label, text in (("good", "a fine film"), ("bad", "b"))]
    table = "".join(f"{','.join(values)}\n" for values in [rows[0], *(row.values() for row in rows)])
    file = write(tmp_path / name, table if name.endswith("csv") else jsonl(rows))
    assert read("--train_file", file) == (["good", "bad"], ["bad", "good"])


def test_an_empty_text_is_left_out_of_training_alone(tmp_path, caplog):
    file = write(tmp_path / "train.csv", "text,label\na,x\n,y\nb,y\n")
    with caplog.at_level(logging.WARNING):
        assert read("--train_file", file) == (["x", "y"], ["x", "y"])
    assert "1 of 3 rows of train.csv" in caplog.text
    arguments = ["--do_train", "--do_predict", "--train_file", file, "--test_file", file]
    run(tmp_path / "out", *arguments, "--config_overrides", "hidden_size=8")
    rows = predictions(tmp_path / "out")
    assert [row["text"] for row in rows] == ["a", "", "b"]
    assert rows[1]["prediction"] in ("x", "y")


def test_a_message_does_not_print_thousands_of_labels(tmp_path):
    train = write(tmp_path / "train.csv", "text,label\n" + "".join(f"a,label {i}\n" for i in range(5_000)) * 2)
    dev = write(tmp_path / "dev.csv", "text,label\na,odd\n")
    with pytest.raises(ValueError, match=r"dev.csv, line 2: the label must be among .* got 'odd'") as error:
        run(tmp_path / "out", "--do_train", "--do_eval", "--train_file", train, "--validation_file", dev)
    assert len(str(error.value)) < 500


def test_a_label_that_training_has_not_seen_is_named(tmp_path, train_file):
    file = write(tmp_path / "dev.jsonl", jsonl([ROWS[0], {"text": "x", "label": "odd"}]))
    message = r"dev.jsonl, line 2: the label must be among \['bad', 'good', 'mixed'\] of the training data.* got 'odd'"
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", "--do_train", "--do_eval", "--train_file", train_file, "--validation_file", file)


def test_long_texts_are_cut_with_one_warning(caplog):
    tokenizer = train_tokenizer(["a b c d e"], "word")
    examples = datasets.Dataset.from_list([{"text": "a b c d e"[:n], "label": 0.5} for n in (1, 5, 9)])
    data_args = run_classification.DataArguments(max_length=3)
    with caplog.at_level(logging.WARNING):
        encoded = run_classification.encode("train", examples, tokenizer, [], data_args)
    assert [len(ids) for ids in encoded["input_ids"]] == [2, 3, 3]
    assert [record.message for record in caplog.records] == [
        "2 of 3 texts of the train data are longer than --max_length 3 and were cut."
    ]


# the search


def test_a_search_writes_arguments_that_the_training_script_reads(tmp_path, train_file, monkeypatch):
    config_space = lambda trial: {"hidden_size": trial.suggest_categorical("hidden_size", [4, 8])}  # noqa: E731
    monkeypatch.setattr(search_hyperparameters, "config_space", config_space)
    files = ["--train_file", train_file, "--validation_file", train_file]
    arguments = [
        *TINY_RUN.split(),
        "--output_dir",
        str(tmp_path / "search"),
        *files,
        "--config_overrides",
        "embedding_size=6",
    ]
    search_hyperparameters.main([*arguments, "--n_trials", "2"])
    best = search_hyperparameters.main([*arguments, "--n_trials", "1"])  # one more
    assert 3e-4 <= best["learning_rate"] <= 1e-2
    assert best["config_overrides"] in ("embedding_size=6,hidden_size=4", "embedding_size=6,hidden_size=8")
    study = search_hyperparameters.optuna.load_study(
        study_name="search", storage=f"sqlite:///{tmp_path}/search/trials.db"
    )
    assert len(study.trials) == 3
    arguments = [tmp_path / "search" / "best.yaml", "--do_train", *files[:2], "--tokenizer", "word", "--max_steps", 1]
    run_classification.main([str(argument) for argument in [*arguments, "--use_cpu", "--output_dir", tmp_path / "out"]])
    config = AttentionRnnConfig.from_pretrained(tmp_path / "out")
    assert best["config_overrides"] == f"embedding_size=6,hidden_size={config.hidden_size}"
