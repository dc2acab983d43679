"""Generating for a file and evaluating a checkpoint."""

import gzip
import json
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from attention_rnn import (
    AttentionRnnConfig,
    AttentionRnnForSequenceClassification,
    AttentionRnnForTokenClassification,
)
from attention_rnn.metrics import load_metric
from attention_rnn.parts import contents_of, merge, parts_of, prepare, write_whole
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import evaluate_checkpoint
import generate_file

TEXTS = ["abc", "b", "", "cabcab", "acb", "bb", "ca", "aaaa", "cc"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    source, target = train_tokenizer(TEXTS, "character"), train_tokenizer(["x yy zzz w v"], "word")
    tokenizer = pair_tokenizers(source, target)
    model = tiny_model(source_vocab_size=len(tokenizer), vocab_size=len(tokenizer.target))
    model.generation_config.max_length = 7
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return folder


def run(folder, output, *arguments, source="texts.txt"):
    generate_file.main([str(folder), str(folder / source), str(output), *map(str, arguments)])
    return read(output)


def read(output):
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def expected(folder, text, **arguments):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    outputs = model.generate(**tokenizer(text, return_tensors="pt"), **arguments)
    return tokenizer.batch_decode(outputs, skip_special_tokens=True)


def test_every_line_has_its_output_in_its_place(folder, tmp_path):
    rows = run(folder, tmp_path / "out.jsonl", "--part_size", 4, "--batch_size", 3, "--num_beams", 2)
    assert [row["source"] for row in rows] == TEXTS
    assert [row["prediction"] for row in rows] == [
        expected(folder, text, num_beams=2)[0] if text else "" for text in TEXTS
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_int8_weights_on_demand(folder, tmp_path, monkeypatch):
    for bound in ("MIN_WEIGHTS", "MIN_SIDE", "MIN_ALL_WEIGHTS"):  # small matrices and models stay as they are
        monkeypatch.setattr(f"attention_rnn.quantization.{bound}", 1)
    rows = run(folder, tmp_path / "out.jsonl", "--int8", "--scores")
    plain = run(folder, tmp_path / "plain.jsonl", "--scores")
    scores = [[row["n_best"][0]["score"] for row in side if row["source"]] for side in (rows, plain)]
    assert scores[0] == pytest.approx(scores[1], rel=0.2)
    assert scores[0] != scores[1]


def test_n_best_scores_and_alignments(folder, tmp_path):
    arguments = ["--num_beams", 3, "--num_return_sequences", 2, "--scores", "--alignments"]
    row = run(folder, tmp_path / "out.jsonl", *arguments)[3]
    assert [hypothesis["prediction"] for hypothesis in row["n_best"]] == expected(
        folder, "cabcab", num_beams=3, num_return_sequences=2
    )
    assert row["n_best"][0]["score"] >= row["n_best"][1]["score"]
    for hypothesis in row["n_best"]:
        assert hypothesis["source_tokens"] == [*"cabcab", "</s>"]
        links = [tuple(map(int, link.split("-"))) for link in hypothesis["alignment"].split()]
        assert sorted(target for _, target in links) == list(range(len(hypothesis["target_tokens"])))
        assert all(source < 7 for source, _ in links)


def test_tables_are_read_as_well(folder, tmp_path):
    with gzip.open(folder / "table.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps({"id": "x", "text": text}) + "\n" for text in TEXTS if text))
    rows = run(folder, tmp_path / "a.jsonl", "--source_column", "text", source="table.jsonl.gz")
    assert [row["source"] for row in rows] == [text for text in TEXTS if text]


class Killed(Exception):
    pass


@pytest.mark.parametrize("do_sample", [False, True])
def test_what_was_interrupted_continues_and_ends_the_same(folder, tmp_path, monkeypatch, do_sample):
    arguments = ["--part_size", 2, *(["--do_sample"] if do_sample else [])]
    whole = run(folder, tmp_path / "whole.jsonl", *arguments)
    generate, parts = generate_file.generate, []

    def generate_two_parts(*args):
        parts.append(args[1])
        if len(parts) == 3:
            raise Killed
        return generate(*args)

    monkeypatch.setattr(generate_file, "generate", generate_two_parts)
    with pytest.raises(Killed):
        run(folder, tmp_path / "out.jsonl", *arguments)
    assert not (tmp_path / "out.jsonl").exists()
    assert run(folder, tmp_path / "out.jsonl", *arguments) == whole
    assert parts == [TEXTS[:2], TEXTS[2:4], TEXTS[4:6], TEXTS[4:6], TEXTS[6:8], TEXTS[8:]]


def test_other_settings_do_not_continue_an_earlier_command(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(generate_file, "merge", lambda *arguments: None)
    output = tmp_path / "out.jsonl"
    with pytest.raises(FileNotFoundError):
        run(folder, output)
    with pytest.raises(ValueError, match=r"holds parts of a command with other num_beams: give that command again"):
        run(folder, output, "--num_beams", 2)
    monkeypatch.undo()
    assert len(run(folder, output, "--num_beams", 2, "--overwrite")) == len(TEXTS)
    with pytest.raises(ValueError, match=r"out.jsonl is there already"):
        run(folder, output, "--num_beams", 2)


def test_an_output_stays_until_a_new_one_is_whole(tmp_path):
    output = tmp_path / "out.jsonl"
    output.write_text("old")
    prepare(output, {"beams": 1}, overwrite=True)
    assert output.read_text() == "old"
    prepare(output, {"beams": 2}, overwrite=True)  # nothing was made by the other settings
    write_whole(parts_of(output) / "0.jsonl", "new")
    merge(output)
    assert output.read_text() == "new"


def test_a_command_that_failed_before_its_first_part_binds_nobody(tmp_path):
    prepare(tmp_path / "out.jsonl", {"beams": 1}, overwrite=False)
    prepare(tmp_path / "out.jsonl", {"beams": 2}, overwrite=False)


def test_a_model_and_an_input_are_known_by_their_content(tmp_path):
    for name in ("model.safetensors", "config.json", "texts.txt"):
        (tmp_path / name).write_text("old")
    before = contents_of(str(tmp_path), tmp_path / "texts.txt")
    (tmp_path / "model.safetensors").write_text("new")
    after = contents_of(str(tmp_path), tmp_path / "texts.txt")
    assert {name for name in before if before[name] != after[name]} == {"content of the model"}
    (tmp_path / "texts.txt").write_text("new")
    assert contents_of(str(tmp_path), tmp_path / "texts.txt")["content of the input"] != after["content of the input"]
    (tmp_path / "scores.json").write_text("{}")  # what an evaluation leaves
    assert contents_of(str(tmp_path), tmp_path / "texts.txt")["content of the model"] == after["content of the model"]
    assert contents_of("a-name/on-the-hub", tmp_path / "texts.txt")["content of the model"] is None


def test_a_wrong_row_is_found_before_any_work(folder, tmp_path):
    (folder / "bad.jsonl").write_text('{"text": "abc"}\n{"text": 7}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad.jsonl, line 2: column 'text' must hold text, got 7"):
        run(folder, tmp_path / "out.jsonl", source="bad.jsonl")
    assert not list(tmp_path.iterdir())


def test_an_empty_file_gives_an_empty_file(folder, tmp_path):
    (folder / "empty.txt").write_text("", encoding="utf-8")
    assert run(folder, tmp_path / "out.jsonl", source="empty.txt") == []


def test_an_empty_text_has_the_same_fields_as_any_other(folder, tmp_path):
    rows = run(folder, tmp_path / "out.jsonl", "--scores", "--alignments")
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert all(row["n_best"][0].keys() == rows[0]["n_best"][0].keys() for row in rows)
    (empty,) = rows[2]["n_best"]
    assert empty == {"prediction": "", "score": 0.0, "source_tokens": [], "target_tokens": [], "alignment": ""}


def test_an_empty_value_of_a_table_is_answered(folder, tmp_path):
    (folder / "table.csv").write_text("label,text\nx,abc\ny,\nz,b\n", encoding="utf-8")
    rows = run(folder, tmp_path / "out.jsonl", source="table.csv")
    assert [row["source"] for row in rows] == ["abc", "", "b"]
    assert [row["prediction"] for row in rows] == [*expected(folder, "abc"), "", *expected(folder, "b")]


def test_the_column_of_the_first_row_is_that_of_all(folder, tmp_path):
    rows = '{"lemma": "abc", "note": "x"}\n{"note": "x", "lemma": "b"}\n'
    (folder / "order.jsonl").write_text(rows, encoding="utf-8")
    assert [row["source"] for row in run(folder, tmp_path / "out.jsonl", source="order.jsonl")] == ["abc", "b"]


def test_a_line_of_the_output_is_one_of_the_input(folder, tmp_path):
    (folder / "lines.txt").write_bytes(b"abc\rcb\ncab\r\n\n")
    assert [row["source"] for row in run(folder, tmp_path / "out.jsonl", source="lines.txt")] == ["abc\rcb", "cab", ""]


@pytest.mark.parametrize("name", ["batch_size", "part_size", "num_beams", "num_return_sequences", "max_new_tokens"])
def test_numbers_below_one_are_refused(folder, tmp_path, name, capsys):
    with pytest.raises(SystemExit):
        run(folder, tmp_path / "out.jsonl", f"--{name}", 0)
    assert f"argument --{name}: 0 is below 1" in capsys.readouterr().err


# evaluate_checkpoint.py


def test_an_encoder_decoder_is_scored(folder, tmp_path):
    pairs = [(text, "x yy" if len(text) > 2 else "w") for text in TEXTS if text]
    file = tmp_path / "test.tsv"
    file.write_text("source\ttarget\n" + "".join(f"{s}\t{t}\n" for s, t in pairs), encoding="utf-8")
    arguments = [str(folder), str(file), "--metrics", "chrf", "wer", "--num_beams", "2", "--batch_size", "3"]
    scores = evaluate_checkpoint.main([*arguments, "--output_dir", str(tmp_path / "out")])
    predictions = [expected(folder, source, num_beams=2)[0] for source, _ in pairs]
    references = [target for _, target in pairs]
    for name in ("chrf", "wer"):
        metric = load_metric(name).compute(predictions=predictions, references=references)
        assert scores[name] == pytest.approx(metric[name])
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == scores
    rows = read(tmp_path / "out" / "predictions.jsonl")
    assert [(row["source"], row["prediction"]) for row in rows] == [
        (source, prediction) for (source, _), prediction in zip(pairs, predictions, strict=True)
    ]


def save_classifier(folder, **fields):
    """A classifier with random weights, and what it says of a text."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, "character")
    model = AttentionRnnForSequenceClassification(
        AttentionRnnConfig(vocab_size=len(tokenizer), hidden_size=8, **fields)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return lambda text: model(**tokenizer(text, return_tensors="pt")).logits[0].tolist()


def score_classifier(folder, rows, *arguments):
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return evaluate_checkpoint.main([str(folder), str(folder / "test.jsonl"), *arguments])


def test_a_classifier_is_scored(tmp_path):
    logits = save_classifier(tmp_path, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
    texts = [text for text in TEXTS if text]
    labels = [logits(text).index(max(logits(text))) for text in texts]
    labels = [label if index % 4 else 1 - label for index, label in enumerate(labels)]
    rows = [{"label": ["no", "yes"][label], "text": text} for text, label in zip(texts, labels, strict=True)]
    scores = score_classifier(tmp_path, rows, "--use_cpu")
    assert scores.keys() == {"accuracy", "f1"}
    assert scores["accuracy"] == 75.0
    with pytest.raises(ValueError, match=r"--metrics of single_label_classification must be one of accuracy, .*'wer'"):
        score_classifier(tmp_path, rows, "--use_cpu", "--metrics", "wer")


def test_a_classifier_with_several_labels_is_scored_by_sets(tmp_path):
    names = ["a", "b", "c"]
    fields = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    logits = save_classifier(tmp_path, problem_type="multi_label_classification", **fields)
    chosen = [[name for name, logit in zip(names, logits(text), strict=True) if logit > 0] for text in TEXTS]
    assert {len(labels) for labels in chosen} & {0, 2, 3}  # not always one
    rows = [{"label": labels[::-1], "text": text} for text, labels in zip(TEXTS, chosen, strict=True)]
    arguments = ["--use_cpu", "--batch_size", "2"]
    assert score_classifier(tmp_path, rows, *arguments, "--metrics", "accuracy", "f1_micro") == {
        "accuracy": 100.0,
        "f1_micro": 100.0,
    }
    for row in rows[:3]:
        row["label"] = [name for name in names if name not in row["label"]]
    arguments += ["--target_column", "label", "--max_samples", "4"]
    assert score_classifier(tmp_path, rows, *arguments, "--metrics", "accuracy") == {"accuracy": 25.0}
    with pytest.raises(ValueError, match=r"--metrics of multi_label_classification must be one of .*, got 'wer'"):
        score_classifier(tmp_path, rows, *arguments, "--metrics", "wer")
    with pytest.raises(ValueError, match="--int8"):
        score_classifier(tmp_path, rows, *arguments, "--int8")


def test_a_regression_is_scored_by_numbers(tmp_path):
    logits = save_classifier(tmp_path, num_labels=1)
    rows = [{"text": text, "score": 1 - 2 * logits(text)[0]} for text in TEXTS]
    scores = score_classifier(tmp_path, rows, "--use_cpu", "--num_heat_maps", "0")
    assert scores.pop("mae") == pytest.approx(
        sum(abs(row["score"] - logits(row["text"])[0]) for row in rows) / len(rows)
    )
    assert scores == {"pearson": pytest.approx(-100, abs=1e-3), "spearman": pytest.approx(-100, abs=1e-3)}
    with pytest.raises(ValueError, match="--metrics of regression must be one of pearson, spearman, mae, got"):
        score_classifier(tmp_path, rows, "--use_cpu", "--metrics", "exact_match")


def test_a_tagger_is_scored_by_its_script(tmp_path):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a b c"], "word")
    config = AttentionRnnConfig(vocab_size=len(tokenizer), hidden_size=8, id2label={0: "X", 1: "Y"})
    model = AttentionRnnForTokenClassification(config).eval()
    words = ["a", "b", "c"]
    best = model(**tokenizer(" ".join(words), return_tensors="pt")).logits[0, : len(words)].argmax(dim=-1)
    labels = [config.id2label[index] for index in best.tolist()]
    labels[0] = "X" if labels[0] == "Y" else "Y"
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "test.conll").write_text("".join(f"{row[0]} {row[1]}\n" for row in zip(words, labels, strict=True)))
    arguments = [str(tmp_path), str(tmp_path / "test.conll"), "--num_heat_maps", "0", "--use_cpu"]
    assert evaluate_checkpoint.main(arguments) == {"accuracy": pytest.approx(200 / 3)}


def test_a_table_without_a_header_does_not_lose_its_first_pair(folder, tmp_path):
    file = tmp_path / "test.tsv"
    file.write_text("abc\tx\nb\tyy\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"test.tsv, line 1: the first row must name the columns"):
        evaluate_checkpoint.main([str(folder), str(file), "--metrics", "wer"])
    arguments = ["--column_names", "b", "a", "--output_dir", str(tmp_path)]
    evaluate_checkpoint.main([str(folder), str(file), "--metrics", "wer", *arguments])
    assert [row["source"] for row in read(tmp_path / "predictions.jsonl")] == ["abc", "b"]


def test_two_aligned_files_are_scored(folder, tmp_path, capsys):
    sources, targets = tmp_path / "test.en", tmp_path / "test.de"
    sources.write_text("abc\nb\n", encoding="utf-8")
    targets.write_text("x\nyy\n", encoding="utf-8")
    arguments = [str(folder), str(sources), "--target_file", str(targets)]
    evaluate_checkpoint.main([*arguments, "--metrics", "wer", "--output_dir", str(tmp_path)])
    rows = [(row["source"], row["references"]) for row in read(tmp_path / "predictions.jsonl")]
    assert rows == [("abc", ["x"]), ("b", ["yy"])]
    save_classifier(tmp_path / "classifier", num_labels=2)
    with pytest.raises(SystemExit):
        evaluate_checkpoint.main([str(tmp_path / "classifier"), *arguments[1:]])
    assert "argument --target_file: " in capsys.readouterr().err


def test_an_empty_source_is_answered_and_counts(folder, tmp_path):
    file = tmp_path / "test.tsv"
    file.write_text("target\tsource\nx\tabc\nyy\t \n", encoding="utf-8")
    evaluate_checkpoint.main([str(folder), str(file), "--metrics", "wer", "--output_dir", str(tmp_path)])
    rows = read(tmp_path / "predictions.jsonl")
    assert rows[1] == {"source": "", "prediction": "", "references": ["yy"]}


def test_what_cannot_be_evaluated_is_refused(folder, tmp_path):
    file = tmp_path / "test.tsv"
    file.write_text("source\nabc\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2: there must be a column left for the target, got .* \['source'\]"):
        evaluate_checkpoint.main([str(folder), str(file), "--metrics", "wer"])
    config = AttentionRnnConfig(architectures=["AttentionRnnModel"])
    config.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"must name a model that ends in .*got AttentionRnnModel; give --task"):
        evaluate_checkpoint.main([str(tmp_path / "bare"), str(file), "--metrics", "wer"])
