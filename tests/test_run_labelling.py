"""The labelling script, run within this process on a few texts."""

import gzip
import json
import logging
import sys
from pathlib import Path

import datasets
import pytest
import torch
from huggingface_hub import ModelCard
from tiny import tiny_config
from transformers import AutoModelForTokenClassification, BertConfig, BertForTokenClassification, pipeline

from attention_rnn import AttentionRnnForTokenClassification, AttentionRnnWordTokenizer
from attention_rnn.arguments import parse_arguments
from attention_rnn.tokenizer_training import train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_labelling

# lengths differ, so that batches grouped by length would change the order
TEXTS = [
    ("play Blue Moon by Ella Fitzgerald", "O B-song I-song O B-artist I-artist", "play"),
    ("book a table in Rome", "O O O O B-city", "book"),
    ("play anything", "O O", "play"),
    ("table for two in New York City please", "O O B-number O B-city I-city I-city O", "book"),
    ("# 9 dream", "B-song I-song I-song", "play"),
    ("Rome", "B-city", "book"),
]
ROWS = [{"tokens": text.split(), "labels": labels.split(), "intent": intent} for text, labels, intent in TEXTS]
EXPECTED = [(row["tokens"], row["labels"]) for row in ROWS]

TINY_RUN = """
--config_overrides embedding_size=16,hidden_size=24,character_size=8,crf=True,constrained_decoding=True --max_steps 4
--per_device_train_batch_size 3 --per_device_eval_batch_size 2 --num_heat_maps 0 --use_cpu --disable_tqdm True
--learning_rate 0.02
"""


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return str(path)


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def conll(rows, separator=" "):
    lines = (
        "".join(
            f"{token}{separator}X{separator}{label}\n" for token, label in zip(r["tokens"], r["labels"], strict=True)
        )
        for r in rows
    )
    return "\n".join(lines)


def run(output_dir, *arguments):
    """Runs the script with a tiny model for a few steps; the given arguments win."""
    return run_labelling.main([*TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, arguments)])


def read(*arguments):
    """What the script reads for the given arguments, without training."""
    kinds = (run_labelling.DataArguments, run_labelling.TrainingArguments)
    data_args, training_args = parse_arguments(["--do_train", *map(str, arguments)], *kinds)
    rows = run_labelling.read_splits(data_args, training_args)["train"]
    return [(row["tokens"], row["labels"]) for row in rows]


FORMATS = {
    "train.conll": "-DOCSTART- X O\n\n" + conll(ROWS) + "\n\n\n",
    "train.tsv": "\ufeff# text = play Blue Moon\n" + conll(ROWS, "\t").rstrip("\n"),
    "train.jsonl": jsonl(ROWS),
    "train.json": json.dumps(ROWS),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_any_format_is_read(tmp_path, name):
    assert read("--train_file", write(tmp_path / name, FORMATS[name])) == EXPECTED


def test_empty_texts_are_left_out_of_the_training_alone(tmp_path, caplog):
    empty = {"tokens": [], "labels": [], "intent": "play"}
    file = write(tmp_path / "rows.jsonl", jsonl([ROWS[0], empty, ROWS[1]]))
    assert read("--train_file", file) == EXPECTED[:2]
    assert "1 of 3" in caplog.text
    data_args, _ = parse_arguments(["--test_file", file], run_labelling.DataArguments, run_labelling.TrainingArguments)
    assert [row["tokens"] for row in run_labelling.read_texts("test", data_args)] == [
        EXPECTED[0][0],
        [],
        EXPECTED[1][0],
    ]


@pytest.mark.parametrize(("character_size", "warns"), [(None, True), (4, False)])
def test_words_that_the_tokenizer_does_not_know_are_told(character_size, warns, caplog):
    tokenizer = train_tokenizer(["play a song"], "word")
    config = tiny_config(vocab_size=len(tokenizer), num_labels=2, character_size=character_size)
    model = AttentionRnnForTokenClassification(config)
    texts = datasets.Dataset.from_list([{"tokens": ["παίξε", "ένα"], "labels": ["LABEL_0", "LABEL_1"], "place": "1"}])
    with caplog.at_level(logging.WARNING):
        run_labelling.encode("train", texts, tokenizer, model, run_labelling.DataArguments(max_length=9))
    assert ("does not suit the words of the train data" in caplog.text) == warns


def test_columns_are_chosen_and_files_may_be_compressed(tmp_path):
    file = tmp_path / "train.txt.gz"
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.write(conll(ROWS[:1]))
    ((tokens, labels),) = read("--train_file", file, "--token_column", 2, "--label_column", 0)
    assert (tokens, labels) == (ROWS[0]["labels"], ROWS[0]["tokens"])


def test_a_data_set_is_read_with_the_names_of_its_classes(tmp_path):
    names = ["O", "B-city", "I-city"]
    features = datasets.Features(
        {
            "words": datasets.Sequence(datasets.Value("string")),
            "tags": datasets.Sequence(datasets.ClassLabel(names=names)),
        }
    )
    rows = {"words": [["in", "Rome"]], "tags": [[0, 1]]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    found = read("--dataset_name", tmp_path, "--token_column", "words", "--label_column", "tags")
    assert found == [(["in", "Rome"], ["O", "B-city"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jsonl([{"tokens": ["a"], "tags": ["O"]}]), r"line 1: there must be a column 'labels'"),
        (jsonl([{"tokens": ["a"], "labels": [1]}]), r"column 'labels' must hold a list of words.*got \[1\]"),
        (jsonl([{"tokens": ["a", " "], "labels": ["O", "O"]}]), "column 'tokens' must hold a list of words"),
        (jsonl([{"tokens": [], "labels": []}]), "must hold an example to train on"),
        (jsonl([{"tokens": ["a", "b"], "labels": ["O"]}]), "one label for each word, got 1 for 2"),
        ("", "the train data must hold at least one example"),
    ],
)
def test_bad_rows_are_errors_that_say_where(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read("--train_file", write(tmp_path / "train.jsonl", content))


def test_a_table_of_pairs_is_no_file_of_labels(tmp_path):
    content = "".join(f"word {number}\tits {number} sounds\n" for number in range(30))
    with pytest.raises(ValueError, match="no label stands twice: there are 30 different labels on 30 places"):
        run(tmp_path / "out", "--do_train", "--train_file", write(tmp_path / "train.tsv", content))


def test_an_empty_intent_is_an_error_that_says_where(tmp_path):
    file = write(tmp_path / "train.jsonl", jsonl([{"tokens": ["a"], "labels": ["O"], "intent": " "}]))
    with pytest.raises(ValueError, match="line 1: column 'intent' must hold an intent"):
        read("--train_file", file, "--intent_column", "intent")


def test_conll_u_is_read_by_its_words_and_their_universal_parts_of_speech(tmp_path):
    lines = ["1-2\tdel", "1\tde\tde\tADP", "2\tel\tel\tDET", "2.1\tx\tx\tX"]
    content = "".join(line + "\t_" * (9 - line.count("\t")) + "\n" for line in lines)
    assert read("--train_file", write(tmp_path / "train.conllu", "# text = del\n" + content)) == [
        (["de", "el"], ["ADP", "DET"])
    ]


def test_a_column_of_a_conll_file_is_a_number(tmp_path):
    file = write(tmp_path / "train.conll", "a O\n")
    with pytest.raises(ValueError, match="label_column must be a number for a CoNLL file, got 'tags'"):
        read("--train_file", file, "--label_column", "tags")


def test_a_line_with_too_few_columns_is_an_error_that_says_where(tmp_path):
    file = write(tmp_path / "train.conll", "a O\n\nb O\nc\n")
    with pytest.raises(ValueError, match=r"line 4: there must be the columns 0 and 1, got \['c'\]"):
        read("--train_file", file, "--label_column", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output_dir", "out"], "nothing to do"),
        (["--output_dir", "out", "--do_train"], "--train_file or --dataset_name"),
        (["--output_dir", "out", "--do_eval", "--validation_file", "f"], "need --model_name_or_path"),
        (
            ["--output_dir", "out", "--do_train", "--train_file", "f", "--max_length", "1"],
            "--max_length must be at least",
        ),
        (
            ["--output_dir", "out", "--do_train", "--train_file", "f", "--tokenizer", "phones"],
            "--tokenizer must be one",
        ),
        (
            ["--output_dir", "out", "--do_train", "--train_file", "f", "--model_name_or_path", "x", "--lowercase"],
            "--model_name_or_path brings its config and tokenizer: no --lowercase",
        ),
    ],
)
def test_arguments_that_do_not_go_together_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_labelling.main(arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run: the output folder, and what the script returned."""
    folder = tmp_path_factory.mktemp("run")
    file = write(folder / "train.jsonl", jsonl(ROWS))
    test_file = write(folder / "test.jsonl", jsonl(ROWS[:5]))
    arguments = ["--do_train", "--do_eval", "--do_predict", "--train_file", file, "--validation_file", test_file]
    arguments += ["--test_file", test_file, "--intent_column", "intent", "--max_steps", "60", "--num_heat_maps", "2"]
    arguments += ["--eval_strategy", "steps", "--eval_steps", "30", "--save_steps", "30", "--language", "en"]
    return folder / "out", run(folder / "out", *arguments)


def test_a_run_leaves_everything_in_its_folder(finished):
    output_dir, scores = finished
    names = {path.name for path in output_dir.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "README.md", "all_results.json"}
    assert names >= {"predictions.conll", "intent_predictions.tsv"}
    assert {path.name for path in (output_dir / "attention_maps").iterdir()} == {"0.png", "1.png", "attention.html"}
    results = json.loads((output_dir / "all_results.json").read_text())
    assert results["predict_sentence_accuracy"] == scores["test"]["sentence_accuracy"] > 50
    state = json.loads((output_dir / "trainer_state.json").read_text())
    assert state["best_metric"] == scores["validation"]["sentence_accuracy"]


def test_predictions_stand_beside_their_words_and_give_the_scores(finished):
    output_dir, scores = finished
    texts = [text.splitlines() for text in (output_dir / "predictions.conll").read_text().split("\n\n") if text]
    columns = [list(zip(*(line.split() for line in lines), strict=True)) for lines in texts]
    assert [(list(tokens), list(labels)) for tokens, labels, _ in columns] == EXPECTED[:5]
    right = [
        label == prediction
        for _, labels, predictions in columns
        for label, prediction in zip(labels, predictions, strict=True)
    ]
    assert scores["test"]["accuracy"] == pytest.approx(100 * sum(right) / len(right))
    intents = [line.split("\t") for line in (output_dir / "intent_predictions.tsv").read_text().splitlines()]
    assert [reference for reference, _ in intents] == [row["intent"] for row in ROWS[:5]]
    assert scores["test"]["intent_accuracy"] == 100 * sum(a == b for a, b in intents) / 5


def test_a_pipeline_finds_what_the_script_predicted(finished):
    output_dir, _ = finished
    tokenizer = AttentionRnnWordTokenizer.from_pretrained(output_dir)
    model = AutoModelForTokenClassification.from_pretrained(output_dir)
    tagger = pipeline("token-classification", model, tokenizer=tokenizer, ignore_labels=[])
    predictions = (output_dir / "predictions.conll").read_text().split("\n\n")
    for row, lines in zip(ROWS[:5], predictions, strict=False):
        found = [token["entity"] for token in tagger(" ".join(row["tokens"]))]
        assert found == [line.split()[-1] for line in lines.splitlines()]


def test_the_card_tells_how_the_model_is_used(finished):
    card = ModelCard.load(finished[0] / "README.md")
    assert card.data.pipeline_tag == "token-classification"
    for part in (
        "intent_logits",
        'aggregation_strategy="simple"',
        "| train | train.jsonl | 6 |",
        "attention_maps/0.png",
    ):
        assert part in card.text


def test_a_finished_model_is_tested_again_and_tells_the_same(finished, tmp_path):
    output_dir, scores = finished
    arguments = ["--do_predict", "--test_file", output_dir.parent / "test.jsonl", "--intent_column", "intent"]
    arguments += ["--model_name_or_path", output_dir, "--trust_remote_code", "--output_dir", tmp_path]
    found = run_labelling.main([*map(str, arguments), "--num_heat_maps", "0", "--use_cpu", "--disable_tqdm", "True"])
    assert found["test"] == scores["test"]


def test_a_tokenizer_that_pads_on_the_left_is_decoded_in_place(finished, tmp_path):
    output_dir, scores = finished
    tokenizer = AttentionRnnWordTokenizer.from_pretrained(output_dir, padding_side="left")
    AutoModelForTokenClassification.from_pretrained(output_dir).save_pretrained(tmp_path / "left")
    tokenizer.save_pretrained(tmp_path / "left")
    arguments = ["--do_predict", "--test_file", output_dir.parent / "test.jsonl", "--intent_column", "intent"]
    arguments += ["--model_name_or_path", tmp_path / "left", "--output_dir", tmp_path / "out", "--num_heat_maps", 0]
    found = run_labelling.main([*map(str, arguments), "--use_cpu", "--disable_tqdm", "True"])
    assert found["test"] == scores["test"]


def test_the_metric_that_chooses_the_best_model_is_checked_early(tmp_path):
    arguments = ["--do_train", "--train_file", "missing.conll", "--metric_for_best_model", "eval_bleu"]
    with pytest.raises(ValueError, match=r"--metric_for_best_model must be one of loss, f1, .* got 'bleu'"):
        run(tmp_path / "out", *arguments)


def test_an_unknown_label_at_evaluation_is_an_error_unless_it_is_given(tmp_path):
    train_file = write(tmp_path / "train.conll", conll(ROWS[:3]))
    test_file = write(tmp_path / "test.conll", conll(ROWS[3:]))
    arguments = ["--do_train", "--do_predict", "--train_file", train_file, "--test_file", test_file]
    with pytest.raises(
        ValueError, match=r"test.conll, line 1: the label must be among \[.*--extra_labels .* got 'B-number'"
    ):
        run(tmp_path / "out", *arguments)
    scores = run(tmp_path / "out", *arguments, "--extra_labels", "B-number", "I-city")
    assert scores["test"].keys() == {"f1", "precision", "recall", "accuracy"}


def test_other_labels_than_chunks_are_scored_by_accuracy(tmp_path):
    rows = [{"tokens": row["tokens"], "labels": ["WORD"] * len(row["tokens"])} for row in ROWS]
    file = write(tmp_path / "train.jsonl", jsonl(rows))
    overrides = ["--config_overrides", "embedding_size=6,hidden_size=8,attention_type=None"]
    scores = run(
        tmp_path / "out", "--do_train", "--do_eval", "--train_file", file, "--validation_file", file, *overrides
    )
    assert scores["validation"] == {"accuracy": 100}


def test_what_is_cut_is_told_and_predicted_as_outside(tmp_path, caplog):
    file = write(tmp_path / "train.jsonl", jsonl(ROWS))
    caplog.set_level(logging.WARNING)
    run(tmp_path / "out", "--do_train", "--do_predict", "--train_file", file, "--test_file", file, "--max_length", "4")
    assert "3 of 6 texts of the test data are longer than --max_length 4" in caplog.text
    first, *_ = (tmp_path / "out" / "predictions.conll").read_text().split("\n\n")
    assert [line.split()[-1] for line in first.splitlines()[3:]] == ["O"] * 3


@pytest.mark.parametrize(
    ("crf", "expected", "tokens"), [(True, [0, 1, 1, -100], [0, 1, 2]), (False, [0, -100, -100, -100], [0])]
)
def test_a_field_labels_every_piece_of_a_word_and_others_the_first(crf, expected, tokens):
    rows = datasets.Dataset.from_list([{"tokens": ["Rom"], "labels": ["B-city"], "place": ""}])
    model = BertForTokenClassification(
        BertConfig(
            vocab_size=9,
            hidden_size=4,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=4,
            crf=crf,
            id2label={0: "B-city", 1: "I-city"},
            label2id={"B-city": 0, "I-city": 1},
        )
    )
    tokenizer = train_tokenizer(["Rom"], kind="character")
    encoded = run_labelling.encode("train", rows, tokenizer, model, run_labelling.DataArguments())
    assert encoded[0]["labels"] == expected
    assert encoded[0]["tokens_of_words"] == [tokens]


def test_another_model_of_transformers_is_fine_tuned(tmp_path):
    tokenizer = train_tokenizer([" ".join(row["tokens"]) for row in ROWS], kind="bpe", vocab_size=80)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertForTokenClassification(config).bert.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    file = write(tmp_path / "train.jsonl", jsonl(ROWS))
    arguments = ["--do_train", "--do_eval", "--train_file", file, "--validation_file", file, "--max_steps", "2"]
    arguments += ["--model_name_or_path", tmp_path / "bert", "--output_dir", tmp_path / "out", "--num_heat_maps", "1"]
    scores = run_labelling.main([*map(str, arguments), "--use_cpu", "--disable_tqdm", "True"])
    assert 0 <= scores["validation"]["f1"] <= 100
    assert torch.load(tmp_path / "out" / "training_args.bin", weights_only=False).metric_for_best_model == "f1"
    # it learns the first piece of a word alone
    assert 'aggregation_strategy="first"' in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="--intent_column needs an attention RNN, got a model of type bert"):
        run_labelling.main([*map(str, arguments), "--intent_column", "intent", "--use_cpu", "--overwrite_output_dir"])


def test_a_field_is_not_smoothed(tmp_path):
    file = write(tmp_path / "train.jsonl", jsonl(ROWS))
    with pytest.raises(ValueError, match="label_smoothing_factor"):
        run(tmp_path / "out", "--do_train", "--train_file", file, "--label_smoothing_factor", "0.1")


# of each scheme, the labels of a name of three words, and of one of a single word
SCHEMES = {"BIO": "B I I B", "BIOES": "B I E S", "BILOU": "B I L U", "BMES": "B M E S"}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_constrained_field_learns_the_chunks_of_words_in_pieces(tmp_path, scheme):
    names = [f"{first}{last}" for first in ("Kowal", "Schmidt", "Oga") for last in ("ski", "bauer", "wa")]
    begin, inside, end, single = SCHEMES[scheme].split()
    lines = [
        f"we O\nmet O\nAnna {begin}-PER\nMaria {inside}-PER\n{name} {end}-PER\nin O\nBern {single}-LOC\n\n"
        for name in names
    ]
    file = write(tmp_path / "train.conll", "".join(lines))
    overrides = "embedding_size=16,hidden_size=24,attention_type=None,crf=True,constrained_decoding=True"
    arguments = ["--do_train", "--do_predict", "--train_file", file, "--test_file", file, "--tokenizer", "bpe"]
    arguments += ["--vocab_size", 42, "--max_steps", 60, "--config_overrides", overrides]
    assert run(tmp_path / "out", *arguments)["test"]["f1"] > 90
    tagger = pipeline("token-classification", str(tmp_path / "out"), aggregation_strategy="simple")
    found = [
        (chunk["entity_group"], chunk["start"], chunk["end"]) for chunk in tagger("we met Anna Maria Ogawa in Bern")
    ]
    assert found == [("PER", 7, 23), ("LOC", 27, 31)]


def test_labels_of_pieces_are_added_and_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    file = write(tmp_path / "train.conll", "in O\nBern S-LOC\n")
    arguments = ["--do_train", "--train_file", file, "--tokenizer", "character", "--max_steps", 1]
    run(tmp_path / "out", *arguments)
    assert "labels: pieces of words need 3 more, B-LOC, I-LOC, E-LOC" in caplog.text
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "out")
    assert list(model.config.id2label.values()) == ["O", "S-LOC", "B-LOC", "I-LOC", "E-LOC"]
    run(tmp_path / "words", *arguments, "--tokenizer", "word")  # which cuts none
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "words")
    assert list(model.config.id2label.values()) == ["O", "S-LOC"]


def test_data_that_the_constraint_forbids_are_told(tmp_path, caplog):
    file = write(tmp_path / "train.conll", "in O\nBern B-LOC\n\nin O\nNew I-LOC\nYork I-LOC\n")
    run(tmp_path / "out", "--do_train", "--train_file", file, "--max_steps", 1)
    assert "1 of 2 texts of the train data have labels in an order that their scheme forbids" in caplog.text
    assert f"first {file}, line 4" in caplog.text


@pytest.mark.parametrize(
    ("labels", "intents", "expected", "expected_intents"),
    [
        ({"city": "place"}, {}, ["B-place", "I-place"], []),
        ({}, {"book": "rent"}, [], ["rent"]),
        ({"song": "city", "artist": "city", "number": "city"}, {"play": "book"}, [], []),
    ],
    ids=["other labels", "other intents", "fewer"],
)
def test_known_labels_keep_their_ids_and_new_ones_follow(
    finished, tmp_path, caplog, labels, intents, expected, expected_intents
):
    caplog.set_level(logging.INFO)
    output_dir, _ = finished
    rows = [
        {
            "tokens": row["tokens"],
            "labels": [
                label[:2] + labels.get(label[2:], label[2:]) if label != "O" else "O" for label in row["labels"]
            ],
            "intent": intents.get(row["intent"], row["intent"]),
        }
        for row in ROWS
    ]
    arguments = [
        "--do_train",
        "--train_file",
        write(tmp_path / "train.jsonl", jsonl(rows)),
        "--intent_column",
        "intent",
    ]
    arguments += ["--model_name_or_path", output_dir, "--output_dir", tmp_path / "out", "--max_steps", 1]
    arguments += ["--learning_rate", 1e-12, "--num_heat_maps", 0, "--use_cpu", "--disable_tqdm", "True"]
    run_labelling.main([str(argument) for argument in arguments])
    before, after = (AutoModelForTokenClassification.from_pretrained(path) for path in (output_dir, tmp_path / "out"))
    known = list(before.config.id2label.values())
    assert list(after.config.id2label.values()) == [*known, *expected]
    assert after.config.intents == [*before.config.intents, *expected_intents]
    assert f"labels: the {len(known)} labels of the checkpoint keep their ids and weights" in caplog.text
    size = len(known)
    for new, old in (
        (after.classifier.weight[:size], before.classifier.weight),
        (after.crf.transitions[:size, :size], before.crf.transitions),
        (after.intent_classifier.weight[:2], before.intent_classifier.weight),
    ):
        torch.testing.assert_close(new, old)


def test_a_model_of_other_labels_alone_starts_anew(finished, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    rows = [{"tokens": row["tokens"], "labels": ["WORD"] * len(row["tokens"]), "intent": row["intent"]} for row in ROWS]
    arguments = [
        "--do_train",
        "--train_file",
        write(tmp_path / "train.jsonl", jsonl(rows)),
        "--intent_column",
        "intent",
    ]
    arguments += ["--model_name_or_path", finished[0], "--output_dir", tmp_path / "out", "--max_steps", 1]
    with pytest.raises(ValueError, match="constrained_decoding"):
        run_labelling.main([str(argument) for argument in [*arguments, "--use_cpu", "--num_heat_maps", 0]])
    assert "no label of the checkpoint, B-artist" in caplog.text
