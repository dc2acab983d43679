"""The training script for question answering, run within this process on a few questions."""

import gzip
import json
import logging
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, BertConfig, BertForQuestionAnswering, pipeline

from attention_rnn import AttentionRnnConfig
from attention_rnn.arguments import parse_arguments
from attention_rnn.tokenizer_training import train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import evaluate_checkpoint
import run_qa

CITIES = {"Tokyo": "Japan", "Paris": "France", "Rome": "Italy", "Oslo": "Norway", "Lima": "Peru", "Cairo": "Egypt"}


def paragraph(number, city, country):
    context = f"Of all {number} towns, {city} is the capital of {country}, as everyone knows."
    answer = {"text": city, "answer_start": context.index(city)}
    return {
        "context": context,
        "qas": [{"id": f"q{number}", "question": f"Capital of {country}?", "answers": [answer]}],
    }


PARAGRAPHS = [paragraph(number, *pair) for number, pair in enumerate(CITIES.items(), start=8)]

TINY_RUN = """
--config_overrides embedding_size=6,hidden_size=8 --tokenizer word --max_steps 2 --per_device_train_batch_size 4
--per_device_eval_batch_size 5 --max_seq_length 12 --max_question_length 4 --doc_stride 2 --max_answer_length 3
--num_heat_maps 1 --use_cpu --disable_tqdm True
"""


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return str(path)


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def train_file(tmp_path):
    return write(tmp_path / "train.jsonl", jsonl(PARAGRAPHS))


def run(output_dir, *arguments):
    """Runs the script with a tiny model for a few steps; the given arguments win."""
    return run_qa.main([*TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run: the output folder, and what the script returned."""
    folder = tmp_path_factory.mktemp("run")
    train_file = write(folder / "train.json", json.dumps({"data": [{"title": "x", "paragraphs": PARAGRAPHS}]}))
    with gzip.open(folder / "dev.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(jsonl(PARAGRAPHS[:5]))
    arguments = ["--do_train", "--do_eval", "--train_file", train_file, "--validation_file", folder / "dev.jsonl.gz"]
    arguments += ["--config_overrides", "embedding_size=16,hidden_size=32", "--learning_rate", "0.02", "--n_best", 2]
    arguments += ["--max_steps", "60", "--eval_strategy", "steps", "--eval_steps", "30", "--save_steps", "30"]
    return folder / "out", run(folder / "out", *arguments)


def test_it_learns_and_leaves_everything_in_its_folder(finished):
    output_dir, scores = finished
    assert scores["validation"]["answer_f1"] > 80
    names = {path.name for path in output_dir.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "README.md", "eval_results.json"}
    assert names >= {"predictions.json", "predictions.jsonl", "modeling_attention_rnn_question_answering.py"}
    assert {path.name for path in (output_dir / "attention_maps").iterdir()} == {"0.png", "attention.html"}
    results = json.loads((output_dir / "eval_results.json").read_text())
    assert results["eval_answer_f1"] == scores["validation"]["answer_f1"]


def test_evaluations_within_training_have_the_same_scores(finished):
    state = json.loads((finished[0] / "trainer_state.json").read_text())
    evaluations = [entry["eval_answer_f1"] for entry in state["log_history"] if "eval_answer_f1" in entry]
    assert max(evaluations) == state["best_metric"] == finished[1]["validation"]["answer_f1"]


def test_the_pipeline_answers_as_the_script_did(finished):
    output_dir, _ = finished
    reader = pipeline("question-answering", str(output_dir), device="cpu")
    texts = json.loads((output_dir / "predictions.json").read_text())
    rows = [json.loads(line) for line in (output_dir / "predictions.jsonl").read_text().splitlines()]
    assert reader.tokenizer.model_max_length == 12
    for row, of_paragraph in zip(rows, PARAGRAPHS, strict=False):
        question, context = of_paragraph["qas"][0]["question"], of_paragraph["context"]
        options = {"max_question_len": 4, "doc_stride": 2, "max_answer_len": 3, "top_k": 2}
        answers = reader(question=question, context=context, **options)
        assert row["id"] == of_paragraph["qas"][0]["id"]
        assert answers[0]["answer"] == row["prediction"] == texts[row["id"]]
        assert [a["answer"] for a in answers] == [a["answer"] for a in row["answers"]]
        assert [a["score"] for a in answers] == pytest.approx([a["score"] for a in row["answers"]], abs=1e-5)


def test_the_checkpoint_is_evaluated_on_a_file(finished, tmp_path, capsys):
    arguments = [str(finished[0]), str(finished[0].parent / "dev.jsonl.gz"), "--metrics", "answer_f1"]
    arguments += ["--batch_size", "2", "--output_dir", str(tmp_path)]
    scores = evaluate_checkpoint.main(arguments)
    assert scores["answer_f1"] == pytest.approx(finished[1]["validation"]["answer_f1"], abs=15)
    assert json.loads(capsys.readouterr().out) == {**scores, "examples": 5}
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 5


def test_the_card_tells_how_to_ask(finished):
    card = ModelCard.load(finished[0] / "README.md")
    assert card.data.pipeline_tag == "question-answering"
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values["answer_f1"] == round(finished[1]["validation"]["answer_f1"], 4)
    for part in ('pipeline("question-answering", "out")', "attention_maps/0.png", "| train | train.json | 6 |"):
        assert part in card.text


def windows(train_file, *arguments):
    """The windows of the script for these arguments, without training."""
    settings = ["--do_train", "--train_file", train_file, *map(str, arguments)]
    data_args, training_args = parse_arguments(settings, run_qa.DataArguments, run_qa.TrainingArguments)
    examples = run_qa.read_splits(data_args, training_args)["train"]
    tokenizer = train_tokenizer([p["context"] + " " + p["qas"][0]["question"] for p in PARAGRAPHS], "word")
    tokenizer.model_max_length = data_args.max_seq_length
    return run_qa.encode("train", examples, tokenizer, data_args), tokenizer


def test_the_answer_is_where_the_labels_point(train_file):
    encoded, tokenizer = windows(train_file, "--max_seq_length", 12, "--max_question_length", 4, "--doc_stride", 2)
    found = set()
    for row in encoded:
        ids = row["input_ids"][row["start_positions"] : row["end_positions"] + 1]
        if row["start_positions"] == row["end_positions"] == 0:
            assert set(CITIES).isdisjoint(tokenizer.decode(row["input_ids"]).replace(",", " ").split())
        else:
            assert tokenizer.decode(ids) in CITIES
            found.add(row["example"])
    assert found == set(range(6))
    assert len(encoded) > 6


def test_questions_without_answers_are_learnt_where_they_are_allowed(tmp_path, train_file):
    no_answer = {"context": "Nothing is said.", "qas": [{"id": "n", "question": "Capital?", "answers": []}]}
    file = write(tmp_path / "dev.jsonl", jsonl([*PARAGRAPHS[:2], no_answer]))
    arguments = ["--do_train", "--do_eval", "--train_file", file, "--validation_file", file]
    with pytest.raises(ValueError, match=r"dev.jsonl, line 3, question n: there must be an answer; give --allow_no"):
        run(tmp_path / "out", *arguments)
    scores = run(tmp_path / "out", *arguments, "--allow_no_answer", "--learning_rate", 0.02, "--max_steps", 60)
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert rows[2]["prediction"] == ""
    assert rows[2]["references"] == []
    assert scores["validation"]["answer_exact_match"] > 60


def test_another_model_of_transformers_is_fine_tuned(tmp_path, train_file):
    tokenizer = train_tokenizer([p["context"] + p["qas"][0]["question"] for p in PARAGRAPHS], "character")
    tokenizer.save_pretrained(tmp_path / "bert")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    BertForQuestionAnswering(config).save_pretrained(tmp_path / "bert")
    arguments = ["--output_dir", tmp_path / "out", "--max_steps", 2, "--use_cpu", "--disable_tqdm", "True"]
    arguments += ["--do_train", "--do_predict", "--train_file", train_file, "--test_file", train_file]
    arguments += ["--model_name_or_path", tmp_path / "bert", "--max_seq_length", 90, "--max_question_length", 30]
    scores = run_qa.main([*map(str, arguments), "--doc_stride", "9", "--answer_unit", "character"])
    assert 0 <= scores["test"]["answer_f1"] <= 100
    assert AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out").config.model_type == "bert"
    assert AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == 90


def test_what_is_empty_is_left_out_of_the_training_and_has_an_empty_answer(tmp_path, caplog):
    questions = [{"id": "empty", "question": " ", "answers": []}]
    rows = [{"context": "", "qas": [{"id": "none", "question": "Where?", "answers": []}]}, *PARAGRAPHS]
    rows.append({"context": "Oslo is a town.", "qas": questions})
    file = write(tmp_path / "train.jsonl", jsonl(rows))
    run(tmp_path / "out", "--do_train", "--do_predict", "--train_file", file, "--test_file", file)
    assert "2 of 8 rows of train.jsonl are left out of training: their question or context is empty." in caplog.text
    texts = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert list(texts) == ["none", *(f"q{number}" for number in range(8, 14)), "empty"]
    assert texts["none"] == texts["empty"] == ""
    assert all(texts[f"q{number}"] for number in range(8, 14))
    assert "Where?" not in ModelCard.load(tmp_path / "out" / "README.md").text


def test_by_itself_the_script_makes_a_model_for_few_questions(tmp_path, train_file, caplog):
    caplog.set_level(logging.INFO)
    arguments = ["--do_train", "--train_file", train_file, "--max_steps", "1", "--use_cpu", "--num_heat_maps", "0"]
    run_qa.main([*arguments, "--output_dir", str(tmp_path / "out")])
    config = AttentionRnnConfig.from_pretrained(tmp_path / "out")
    assert (config.hidden_size, config.embedding_size) == (128, 128)
    assert "tokenizer of the contexts and questions: bpe (chosen for long texts" in caplog.text


@pytest.mark.parametrize(("steps", "given", "epochs"), [(1, [], 2), (6, [], 3), (99, [], 10), (1, ["7"], 7)])
def test_a_cpu_trains_for_a_limited_time(tmp_path, train_file, monkeypatch, steps, given, epochs):
    monkeypatch.setattr(run_qa, "STEPS_ON_A_CPU", steps)
    given = [part for number in given for part in ("--num_train_epochs", number)]
    arguments = ["--do_train", "--train_file", train_file, "--max_seq_length", 60, "--max_steps", -1]
    run(tmp_path / "out", *arguments, "--per_device_train_batch_size", 3, *given)
    assert json.loads((tmp_path / "out" / "trainer_state.json").read_text())["num_train_epochs"] == epochs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give one or several of --do_train"),
        ("--do_train", "--do_train needs either --train_file or --dataset_name"),
        ("--do_train --train_file a.xml", r"file_format must be one of csv, tsv, json, jsonl, got 'xml' for a\.xml$"),
        ("--do_train --train_file {file} --max_seq_length 4", "--max_seq_length must be at least 8, got 4"),
        (
            "--do_train --train_file {file} --answer_unit letter",
            "--answer_unit must be one of word, character, got 'letter'",
        ),
        ("--do_train --train_file {file} --tokenizer syllable", "--tokenizer must be one of bpe, .*'syllable'"),
        (
            "--do_train --train_file {file} --metric_for_best_model bleu",
            "--metric_for_best_model must be one of loss, answer_f1",
        ),
        ("--do_train --train_file {file} --early_stopping_patience 2", "--early_stopping_patience needs"),
        ("--do_train --train_file {file} --model_name_or_path x", "no --config_overrides"),
        ("--do_predict --test_file {file}", "need --model_name_or_path"),
        (
            "--do_train --train_file {file} --config_overrides question_attention=2",
            "`question_attention` must be a bool",
        ),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, train_file, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        run(tmp_path / "out", *arguments.format(file=train_file).split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must hold at least one example, got none in train.jsonl"),
        ('{"context": "a"}\n', "train.jsonl, line 1, question 0: `question` must be a text"),
        (
            jsonl([paragraph(1, "Rome", "Italy") | {"context": "Nothing."}]),
            r"train.jsonl, line 1, question q1: the answer 'Rome' must stand at its `answer_start` 16 .*there is ''",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", "--do_train", "--train_file", write(tmp_path / "train.jsonl", content))
    assert not (tmp_path / "out").exists()
