"""The training script, run within this process on a few strings."""

import gzip
import json
import logging
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BartConfig, BartForConditionalGeneration

from attention_rnn import AttentionRnnConfig
from attention_rnn.arguments import expand_config_file, parse_arguments
from attention_rnn.metrics import load_metric
from attention_rnn.pairs import encode_pairs
from attention_rnn.tokenizer_training import train_tokenizer
from attention_rnn.trainer import EndlessStream

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_seq2seq

# lengths differ, so that batches grouped by length would change the order; some look like numbers, dates, nothing
PAIRS = [
    ("007", "zero zero seven"),
    ('a "quoted" word', "A QUOTED WORD"),
    ("null", "nothing"),
    ("1998-03-03", "third of march nineteen ninety eight"),
    ("l'été, enfin", "summer at last"),
    ("x", "ex"),
    ("東京", "tokyo"),
    ("a fairly long source with several words", "lang"),
    ("na", "sodium"),
    ("42", "forty two"),
]


PREDICTIONS = "generated_predictions.jsonl"


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return str(path)


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def train_file(tmp_path):
    return write(tmp_path / "train.jsonl", jsonl({"text": source, "label": target} for source, target in PAIRS))


TINY_RUN = """
--config_overrides embedding_size=6,hidden_size=8,readout_dropout=0.2 --source_tokenizer character --max_steps 4
--per_device_train_batch_size 4 --per_device_eval_batch_size 3 --max_target_length 12 --num_beams 1 --num_heat_maps 2
--use_cpu --disable_tqdm True
"""


def run(output_dir, *arguments):
    """Runs the script with a tiny model for a few steps; the given arguments win."""
    return run_seq2seq.main([*TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, arguments)])


def read(*arguments):
    """What the script reads for the given arguments, without training."""
    kinds = (run_seq2seq.DataArguments, run_seq2seq.TrainingArguments)
    data_args, training_args = parse_arguments(["--do_train", *map(str, arguments)], *kinds)
    examples = run_seq2seq.read_splits(data_args, training_args)["train"]
    return [(example["source"], example["target"]) for example in examples]


def csv_field(value):
    return '"' + value.replace('"', '""') + '"'


FORMATS = {
    "train.csv": "source,target\r\n" + "".join(f"{csv_field(s)},{csv_field(t)}\r\n" for s, t in PAIRS),
    "train.tsv": "\ufeffsource\ttarget\n" + "".join(f"{s}\t{t}\n" for s, t in PAIRS),
    "train.json": json.dumps([{"source": s, "target": t} for s, t in PAIRS]),
    "train.jsonl": jsonl({"source": s, "target": t} for s, t in PAIRS) + "\n",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_any_format_is_read_as_the_text_it_holds(tmp_path, name):
    assert read("--train_file", write(tmp_path / name, FORMATS[name])) == PAIRS


def test_a_table_without_a_header_and_extension_is_read(tmp_path):
    file = write(tmp_path / "german-dev", "".join(f"note\t{s}\t{t}\n" for s, t in PAIRS))
    columns = ["--column_names", "note", "lemma", "form", "--source_column", "lemma", "--target_column", "form"]
    assert read("--train_file", file, "--file_format", "tsv", *columns) == PAIRS


def test_two_aligned_and_compressed_text_files_are_read(tmp_path):
    files = []
    for side, language in enumerate(("en", "de")):
        files.append(str(tmp_path / f"train.{language}.gz"))
        with gzip.open(files[-1], "wt", encoding="utf-8") as file:
            file.write("\n".join(pair[side] for pair in PAIRS) + "\n\n")  # a line that is empty on both sides
    assert read("--train_file", files[0], "--train_target_file", files[1]) == PAIRS


def test_a_nested_column_a_prefix_and_a_limit(tmp_path):
    rows = jsonl({"id": 1, "translation": {"en": source, "de": target}} for source, target in PAIRS)
    arguments = [
        "--source_column",
        "translation.en",
        "--target_column",
        "translation.de",
        "--source_prefix",
        "to de: ",
    ]
    pairs = read("--train_file", write(tmp_path / "train.jsonl", rows), *arguments, "--max_train_samples", "3")
    assert pairs == [("to de: " + source, target) for source, target in PAIRS[:3]]


def test_decomposed_characters_are_composed_as_the_tokenizers_do(tmp_path):
    assert read("--train_file", write(tmp_path / "train.tsv", "source\ttarget\ne\u0301\tu\u0308\n")) == [("é", "ü")]


def test_by_itself_the_script_chooses_what_suits_the_data(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    words = [f"{a}{b}{c}" for a in "kmnp" for b in "aeiu" for c in "rst"]
    pairs = "".join(f"{word}\t{' '.join(word.upper())}\n" for word in words)
    file = write(tmp_path / "train.tsv", "word\tphones\n" + pairs)
    arguments = ["--do_train", "--do_eval", "--train_file", file, "--validation_file", file]
    arguments += ["--vocab_size", "30", "--num_beams", "2"]
    plain = ["--use_cpu", "--max_steps", "3", "--num_heat_maps", "0", "--disable_tqdm", "True", "--output_dir"]
    run_seq2seq.main([*arguments, *plain, str(tmp_path / "out")])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.tokenize("kar") == ["k", "a", "r"]
    assert tokenizer.target.tokenize("K A R") == ["K", "A", "R"]
    config = AttentionRnnConfig.from_pretrained(tmp_path / "out")
    assert (config.hidden_size, config.embedding_size) == (256, 128)
    assert "tokenizer of the sources: character (chosen for short texts, 3 characters" in caplog.text
    assert "tokenizer of the targets: word (chosen for 11 distinct units between spaces" in caplog.text
    assert "The model gets hidden_size=256, embedding_size=128, embedding_dropout=0.3" in caplog.text
    assert "does not suit" not in caplog.text
    for what, kind, size in (("sources", "character", len(tokenizer)), ("targets", "word", len(tokenizer.target))):
        told = f"A vocabulary of 30 has no effect on the tokenizer of the {what}: of the kind {kind} there are {size} "
        assert told in caplog.text
    card = " ".join((tmp_path / "out" / "README.md").read_text(encoding="utf-8").split())
    assert "the scores above, which are those of a search with 2 beams" in card


def test_it_says_how_long_the_training_takes(tmp_path, train_file, caplog):
    caplog.set_level(logging.INFO)
    run(tmp_path / "out", "--do_train", "--train_file", train_file, "--max_steps", "52")
    told = [message for message in caplog.messages if "to come" in message]
    assert len(told) == 1
    assert re.fullmatch(r"\d+ steps are to come, of \d\.\d\d s each: about 0 min \d+ s, evaluations not.*", told[0])


POOR_TOKENS = {
    "a token a word": (["--source_tokenizer", "word"], "sources of the train data.* 100 % of the texts are a single"),
    "unseen words": (["--target_tokenizer", "word"], "targets of the validation data.* 100.0 % of the tokens are unk"),
}


@pytest.mark.parametrize("name", POOR_TOKENS)
def test_tokens_that_do_not_suit_the_data_are_told(tmp_path, caplog, name):
    arguments, message = POOR_TOKENS[name]
    words = [f"{a}{b}{c}" for a in "kmnp" for b in "aeiu" for c in "rst"]
    for split, chosen in (("train", words[:40]), ("validation", words[40:])):
        rows = "".join(f"{word}\t{word.upper()}\n" for word in chosen)
        arguments = [*arguments, f"--{split}_file", write(tmp_path / f"{split}.tsv", "word\tphones\n" + rows)]
    run(tmp_path / "out", "--do_train", "--do_eval", *arguments, "--max_steps", 1)
    assert re.search(message, caplog.text)


def test_a_checkpoint_of_another_alphabet_is_told(tmp_path, finished, caplog):
    rows = "".join(f"{word}\t{word}\n" for word in ("мир", "дом", "кот", "сад"))
    arguments = ["--do_train", "--train_file", write(tmp_path / "train.tsv", "source\ttarget\n" + rows), "--use_cpu"]
    arguments += ["--model_name_or_path", finished[0], "--output_dir", tmp_path / "out", "--max_steps", 1]
    run_seq2seq.main([*map(str, arguments)])
    assert "does not suit the sources of the train data" in caplog.text
    assert "100.0 % of the tokens are unknown" in caplog.text


def test_lower_cased_targets_meet_lower_cased_references(tmp_path):
    file = write(tmp_path / "train.tsv", "source\ttarget\nx\tXY\nz\tΣΊΣΥΦΟΣ\n")
    arguments = ["--do_train", "--do_eval", "--train_file", file, "--validation_file", file, "--lowercase"]
    arguments += ["--config_overrides", "embedding_size=16,hidden_size=32", "--learning_rate", 0.03]
    arguments += ["--metrics", "exact_match", "--max_steps", 60, "--eval_strategy", "steps", "--eval_steps", 30]
    scores = run(tmp_path / "out", *arguments, "--save_steps", 30)
    assert scores["validation"]["exact_match"] == 100
    assert "It writes lower case alone" in ModelCard.load(tmp_path / "out" / "README.md").text


def test_pairs_with_an_empty_text_are_left_out_of_the_training_and_answered_elsewhere(tmp_path, caplog):
    rows = [("a", "b"), ("", "b"), ("a", " "), ("b", "a")]
    file = write(tmp_path / "train.tsv", "source\ttarget\n" + "".join(f"{s}\t{t}\n" for s, t in rows))
    arguments = ["--do_train", "--do_eval", "--do_predict", "--max_steps", 1]
    for split in ("train", "validation", "test"):
        arguments += [f"--{split}_file", file]
    run(tmp_path / "out", *arguments)
    assert "2 of 4 rows of train.tsv are left out of training: their source or target is empty." in caplog.text
    assert "| train | train.tsv | 2 |" in ModelCard.load(tmp_path / "out" / "README.md").text
    answered = [json.loads(line) for line in (tmp_path / "out" / PREDICTIONS).read_text().splitlines()]
    assert [(row["source"], row["reference"]) for row in answered] == [(s, t.strip()) for s, t in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run: the data, the output folder, and what the script returned."""
    folder = tmp_path_factory.mktemp("run")
    train_file = write(folder / "train.jsonl", jsonl({"text": source, "label": target} for source, target in PAIRS))
    test_file = write(folder / "test.tsv", "text\tlabel\n" + "".join(f"{s}\t{t}\n" for s, t in PAIRS[:7]))
    arguments = ["--do_train", "--do_eval", "--do_predict", "--train_file", train_file, "--test_file", test_file]
    arguments += ["--validation_file", test_file, "--target_tokenizer", "word", "--metrics", "chrf", "wer"]
    arguments += ["--language", "en", "--license", "cc0-1.0", "--hub_token", "secret"]
    arguments += ["--config_overrides", "embedding_size=16,hidden_size=32", "--learning_rate", "0.02"]
    arguments += ["--max_steps", "80", "--eval_strategy", "steps", "--eval_steps", "40", "--save_steps", "40"]
    return folder / "out", run(folder / "out", *arguments)


def test_a_run_leaves_everything_in_its_folder(finished):
    output_dir, scores = finished
    names = {path.name for path in output_dir.iterdir()}
    assert names >= {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "README.md"}
    assert names >= {"train_results.json", "eval_results.json", "predict_results.json", "all_results.json"}
    assert {path.name for path in (output_dir / "attention_maps").iterdir()} == {"0.png", "1.png", "attention.html"}
    generation_config = json.loads((output_dir / "generation_config.json").read_text())
    assert (generation_config["num_beams"], generation_config["max_length"]) == (1, 13)
    results = json.loads((output_dir / "all_results.json").read_text())
    assert results["predict_wer"] == scores["test"]["wer"]
    assert "version:" in results["predict_chrf_signature"]


def test_the_folder_loads_with_a_vocabulary_for_each_side(finished):
    model = AutoModelForSeq2SeqLM.from_pretrained(finished[0])
    tokenizer = AutoTokenizer.from_pretrained(finished[0])
    assert model.config.source_vocab_size == len(tokenizer)
    assert model.config.vocab_size == len(tokenizer.target)
    labels = tokenizer(text_target="zero zero seven")["input_ids"]
    assert tokenizer.decode(labels, skip_special_tokens=True) == "zero zero seven"
    assert tokenizer.unk_token_id not in tokenizer("東京")["input_ids"]


def test_predictions_stand_beside_their_source_and_give_the_scores(finished):
    output_dir, scores = finished
    rows = [json.loads(line) for line in (output_dir / PREDICTIONS).read_text().splitlines()]
    assert [(row["source"], row["reference"]) for row in rows] == PAIRS[:7]
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(output_dir), AutoTokenizer.from_pretrained(output_dir)
    for row in rows:
        generated = model.generate(**tokenizer(row["source"], return_tensors="pt"))
        assert tokenizer.decode(generated[0], skip_special_tokens=True) == row["prediction"]
    predictions, references = [row["prediction"] for row in rows], [row["reference"] for row in rows]
    assert load_metric("wer").compute(predictions=predictions, references=references)["wer"] == scores["test"]["wer"]


def test_evaluations_within_training_meet_the_right_references(finished):
    # both decode greedily, and the model at the end is the best one
    state = json.loads((finished[0] / "trainer_state.json").read_text())
    evaluations = {entry["step"]: entry for entry in state["log_history"] if "eval_chrf" in entry}
    best = evaluations[int(state["best_model_checkpoint"].rsplit("-", 1)[1])]
    assert state["best_metric"] == best["eval_chrf"] == max(entry["eval_chrf"] for entry in evaluations.values())
    assert best["eval_chrf"] == finished[1]["validation"]["chrf"] > 50


def test_the_card_tells_how_the_model_was_made_and_what_it_reached(finished):
    output_dir, scores = finished
    card = ModelCard.load(output_dir / "README.md")
    assert (card.data.language, card.data.license, card.data.pipeline_tag) == (["en"], "cc0-1.0", "translation")
    values = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert values["test", "wer"] == round(scores["test"]["wer"], 4)
    assert "wer: Word error rate of texts, as of speech recognition: edits per word" in card.text
    assert len(values) == 4
    for part in (
        "attention_maps/0.png",
        "--target_tokenizer word",
        "| train | train.jsonl | 10 |",
        "trust_remote_code",
    ):
        assert part in card.text
    assert "secret" not in card.text
    assert str(output_dir.parent) not in card.text


def test_a_resumed_run_ends_with_the_same_numbers(tmp_path, train_file):
    saving = ["--do_train", "--train_file", train_file, "--save_strategy", "steps", "--save_steps", "2"]
    run(tmp_path / "whole", *saving, "--save_total_limit", "3")
    run(tmp_path / "resumed", *saving, "--resume_from_checkpoint", tmp_path / "whole" / "checkpoint-2")
    run(tmp_path / "resumed", *saving, "--resume_from_checkpoint", "True")  # finished already: nothing changes
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


@pytest.mark.parametrize("limit", [40, 23])
def test_a_resumed_stream_ends_with_the_same_numbers_after_several_passes(tmp_path, limit):
    # 5 batches a pass, or 2.9
    rows = "".join(f"{number:02}{number * 7 % 40:02}\t{' '.join(str(number))}\n" for number in range(40))
    arguments = ["--do_train", "--train_file", write(tmp_path / "train.tsv", "source\ttarget\n" + rows), "--streaming"]
    arguments += ["--max_steps", 14, "--per_device_train_batch_size", 8, "--max_train_samples", limit]
    saving = ["--save_strategy", "steps", "--save_steps", 7, "--save_total_limit", 5]
    run(tmp_path / "whole", *arguments, *saving)
    run(tmp_path / "resumed", *arguments, *saving, "--resume_from_checkpoint", tmp_path / "whole" / "checkpoint-7")
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def test_a_stream_is_shuffled_anew_at_each_pass_and_is_evaluated_by_steps(tmp_path, train_file):
    rows = [{"number": number} for number in range(8)]
    stream = EndlessStream(datasets.IterableDataset.from_generator(lambda: iter(rows)).shuffle(seed=1))
    numbers = [row["number"] for row in islice(stream, 24)]
    passes = [tuple(numbers[start : start + 8]) for start in (0, 8, 16)]
    assert [sorted(one) for one in passes] == [list(range(8))] * 3
    assert len(set(passes)) == 3
    files = ["--train_file", train_file, "--validation_file", train_file]
    run(tmp_path / "out", "--do_train", "--do_eval", "--streaming", *files, "--max_steps", "40")
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "eval_loss" in entry] == list(range(2, 41, 2))


def test_two_aligned_files_train_one_joint_vocabulary(tmp_path):
    files = [write(tmp_path / f"train.{n}", "\n".join(pair[n] for pair in PAIRS)) for n in (0, 1)]
    arguments = ["--train_file", files[0], "--train_target_file", files[1], "--source_tokenizer", "bpe"]
    run(tmp_path / "out", "--do_train", *arguments, "--shared_vocabulary", "--vocab_size", "90")
    config = AttentionRnnConfig.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert config.source_vocab_size is None
    assert config.vocab_size == len(tokenizer) == 90
    assert tokenizer.decode(tokenizer("東京 tokyo")["input_ids"], skip_special_tokens=True) == "東京 tokyo"


def test_a_data_set_is_streamed_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "my_data").mkdir()
    for split in ("train", "test"):
        write(tmp_path / "my_data" / f"{split}.jsonl", jsonl({"text": s, "label": t} for s, t in PAIRS))
    scores = run(tmp_path / "out", "--do_train", "--do_predict", "--dataset_name", tmp_path / "my_data", "--streaming")
    assert scores["test"].keys() == {"chrf", "chrf_signature", "exact_match"}
    assert "| train | my_data | streamed |" in ModelCard.load(tmp_path / "out" / "README.md").text
    with pytest.raises(ValueError, match=r"must have the split 'validation', got \['train', 'test'\]"):
        run(tmp_path / "other", "--do_train", "--do_eval", "--dataset_name", tmp_path / "my_data")


def test_another_model_of_transformers_is_fine_tuned(tmp_path, train_file):
    tokenizer = train_tokenizer([text for pair in PAIRS for text in pair], "character")
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        decoder_start_token_id=1,
        **{name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")},
    )
    tokenizer.save_pretrained(tmp_path / "bart")
    BartForConditionalGeneration(config).save_pretrained(tmp_path / "bart")
    files = ["--train_file", train_file, "--test_file", train_file, "--model_name_or_path", tmp_path / "bart"]
    arguments = ["--output_dir", tmp_path / "out", "--max_steps", 2, "--use_cpu", "--disable_tqdm", "True"]
    arguments += ["--max_target_length", 12, "--num_beams", 2, "--do_train", "--do_predict"]
    scores = run_seq2seq.main([str(argument) for argument in arguments + files])
    assert 0 <= scores["test"]["chrf"] <= 100
    assert "import attention_rnn" not in ModelCard.load(tmp_path / "out" / "README.md").text
    assert len(list((tmp_path / "out" / "attention_maps").glob("*.png"))) == 4
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").config.model_type == "bart"


def test_push_to_hub_sends_the_card_of_the_script(tmp_path, train_file, monkeypatch):
    sent = {}

    def upload_folder(self, *, folder_path, **kwargs):
        sent.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir() if path.is_file()})

    create_repo = lambda self, name, **kwargs: huggingface_hub.RepoUrl(f"https://huggingface.co/me/{name}")  # noqa: E731
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    run(tmp_path / "words", "--do_train", "--train_file", train_file, "--push_to_hub", "--save_strategy", "no")
    assert 'from_pretrained("me/words")' in sent["README.md"].decode()
    assert {"model.safetensors", "tokenizer.json", "modeling_attention_rnn.py"} <= sent.keys()


def test_two_processes_pair_each_prediction_with_its_reference(tmp_path, finished):
    # 7 examples do not fill 2 batches of 3: the last batches are filled up with examples seen before
    folder, arguments = finished[0].parent, ["--do_predict", "--test_file", finished[0].parent / "test.tsv"]
    arguments += ["--model_name_or_path", folder / "out", "--per_device_eval_batch_size", 3, "--use_cpu"]
    arguments += ["--output_dir", tmp_path / "out", "--num_beams", 1, "--max_target_length", 12, "--metrics", "chrf"]
    script = [run_seq2seq.__file__, *map(str, arguments)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    subprocess.run([*launcher, *script], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    predictions = [(folder / "out" / PREDICTIONS).read_text(), (tmp_path / "out" / PREDICTIONS).read_text()]
    assert predictions[0] == predictions[1]
    results = json.loads((tmp_path / "out" / "predict_results.json").read_text())
    assert results["predict_chrf"] == finished[1]["test"]["chrf"]


def test_a_config_file_stands_for_arguments_and_later_ones_win(tmp_path, train_file):
    settings = {"do_train": True, "train_file": train_file, "output_dir": str(tmp_path / "a"), "seed": None}
    settings |= {"learning_rate": 1e-3, "metrics": ["cer", "wer"], "max_steps": 50, "lr_scheduler_kwargs": {"a": 1}}
    argv = [write(tmp_path / "run.json", json.dumps(settings)), "--max_steps", "2"]
    data_args, training_args = parse_arguments(argv, run_seq2seq.DataArguments, run_seq2seq.TrainingArguments)
    assert (data_args.train_file, training_args.do_train, training_args.max_steps) == (train_file, True, 2)
    assert (training_args.learning_rate, training_args.metrics) == (1e-3, ["cer", "wer"])
    assert training_args.lr_scheduler_kwargs == {"a": 1}
    yaml_file = write(tmp_path / "run.yaml", "learning_rate: 1e-4  # a string in YAML\nmetrics: [cer]\n")
    assert expand_config_file([yaml_file]) == ["--learning_rate", "1e-4", "--metrics", "cer"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--do_train --do_eval", ("epoch", "epoch", True, "chrf", True)),
        ("--do_train --do_eval --metrics wer", ("epoch", "epoch", True, "wer", False)),
        ("--do_train --do_eval --metric_for_best_model loss", ("epoch", "epoch", True, "loss", False)),
        ("--do_train --do_eval --eval_strategy steps", ("steps", "steps", True, "chrf", True)),
        ("--do_train --do_eval --no_load_best_model_at_end", ("epoch", "epoch", False, None, None)),
        ("--do_train", ("no", "epoch", False, None, None)),
    ],
)
def test_the_best_model_is_chosen_by_the_first_metric(tmp_path, arguments, expected):
    (args,) = parse_arguments([*arguments.split(), "--output_dir", str(tmp_path)], run_seq2seq.TrainingArguments)
    strategies = (args.eval_strategy.value, args.save_strategy.value)
    assert (*strategies, args.load_best_model_at_end, args.metric_for_best_model, args.greater_is_better) == expected


def test_long_examples_are_cut_with_one_warning(caplog):
    tokenizer = train_tokenizer(["abcdefgh"], "character")
    examples = datasets.Dataset.from_list([{"source": "abcdefgh"[:n], "target": "a"} for n in (2, 3, 4, 5, 8)])
    with caplog.at_level(logging.WARNING):
        encoded = encode_pairs(examples, tokenizer, 4, 256, what="train")
    assert [len(ids) for ids in encoded["input_ids"]] == [3, 4, 4, 4, 4]
    assert all(ids[-1] == tokenizer.eos_token_id for ids in encoded["input_ids"])
    assert [record.message for record in caplog.records] == [
        "3 of 5 sources of the train data are longer than --max_source_length 4 and were cut."
    ]


REFUSED_ARGUMENTS = [
    ("", "give one or several of --do_train"),
    ("--do_train", "--do_train needs either --train_file or --dataset_name"),
    ("--do_train --do_eval --train_file {file}", "--do_eval needs either --validation_file or --dataset_name"),
    ("--do_train --train_file a.en", r"--train_file must be csv, .*, or plain text with --train_target_file .* a\.en"),
    ("--do_train --train_file {file} --dataset_name wmt14", "needs either --train_file or --dataset_name"),
    ("--do_train --train_file {file} --metrics bleu rouge", "--metrics must be one of bleu, .* got 'rouge'"),
    ("--do_train --train_file {file} --task text-generation", "--task must be one of translation, .*'text-generation'"),
    ("--do_train --train_file {file} --metric_for_best_model bleu", "--metric_for_best_model must be one of loss, "),
    ("--do_train --train_file {file} --max_source_length 1", "--max_source_length must be at least 2, got 1"),
    ("--do_train --train_file {file} --max_train_samples 0", "--max_train_samples must be at least 1, got 0"),
    (
        "--do_train --train_file {file} --source_tokenizer syllable",
        "--source_tokenizer must be one of bpe, .*'syllable'",
    ),
    ("--do_train --train_file {file} --shared_vocabulary --target_tokenizer word", "--shared_vocabulary makes one"),
    ("--do_train --train_file {file} --config_overrides hiden_size=3", r"did you mean hidden_size\?"),
    ("--do_train --train_file {file} --config_overrides cell_type=tree", "cell_type.*'tree'"),
    ("--do_train --train_file {file} --config_overrides vocab_size=9", "got 'vocab_size'"),
    ("--do_train --train_file {file} --model_name_or_path x", "no --config_overrides, --source_tokenizer"),
    (
        "--do_train --train_file {file} --tokenizer_name x",
        "--tokenizer_name brings its vocabulary: no --source_tokenizer",
    ),
    ("--do_train --train_file {file} --streaming --max_steps -1", "--streaming needs --max_steps"),
    ("--do_train --train_file {file} --early_stopping_patience 2", "--early_stopping_patience needs"),
    ("--do_train --train_file {file} --predict_with_generate False", "--predict_with_generate must stay True"),
    ("--do_train --train_file {file} --resume_from_checkpoint True", "--resume_from_checkpoint must be .* got 'True'"),
    ("--do_train --train_file {file} --source_column question", r"'question', got the columns \['text', 'label'\]"),
    ("--do_predict --test_file {file}", "need --model_name_or_path"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED_ARGUMENTS, ids=[arguments for arguments, _ in REFUSED_ARGUMENTS]
)
def test_wrong_arguments_are_refused(tmp_path, train_file, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", *arguments.format(file=train_file).split())
    assert not (tmp_path / "out").exists()


REFUSED_FILES = {
    "empty.jsonl": ("", "must hold at least one example, got none in empty.jsonl"),
    "header.csv": ("source,target\n", "got none in header.csv"),
    "train.txt": (
        "a b\n",
        r"--train_file must be csv, .*or --file_format, or plain text with --train_target_file .*train\.txt",
    ),
    "one.tsv": ("source\na\n", r"one.tsv, line 2: there must be a column left for the target.*\['source'\]"),
    "short.tsv": ("source\ttarget\na\tb\nc\n", r"short.tsv, line 3: .*\['source', 'target'\], got \['c'\]"),
    "twice.tsv": ("text\ttext\nb\tc\n", r"twice.tsv: the columns must have different names, got \['text', 'text'\]"),
    "headless.tsv": ("hello\th ə\nyes\tj ɛ s\n", r"headless.tsv, line 1: the first row must name the columns"),
    "blank.csv": ("source,target\na,\n ,b\n", "must hold an example to train on, got 2 of which"),
    "missing.jsonl": (
        jsonl([{"a": "b", "c": "d"}, {"a": "b"}]),
        r"missing.jsonl, line 2: .*'c', got the columns \['a'\]",
    ),
    "number.json": ('[{"a": "b", "c": 7}]', "number.json, item 1: column 'c' must hold text, got 7"),
    "broken.jsonl": ('{"a": "b", "c": "d"}\n{"a"\n', "broken.jsonl, line 2: there must be a JSON object"),
}


@pytest.mark.parametrize("name", REFUSED_FILES)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, name):
    content, message = REFUSED_FILES[name]
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", "--do_train", "--train_file", write(tmp_path / name, content))
    assert not (tmp_path / "out").exists()


def test_misaligned_files_are_refused(tmp_path):
    files = ["--train_file", write(tmp_path / "train.en", "a\nb\nc\n")]
    files += ["--train_target_file", write(tmp_path / "train.de", "A\nB\n")]
    with pytest.raises(ValueError, match=r"train.en and .*train.de must have the same number of lines, got 3 and 2"):
        run(tmp_path / "out", "--do_train", *files)


def test_pairs_with_an_empty_side_are_left_out_of_training_alone(tmp_path, caplog):
    table = write(tmp_path / "train.tsv", "source\ttarget\na\tb\nc\t \n\td\ne\tf\n")
    assert read("--train_file", table, "--source_prefix", "to de: ") == [("to de: a", "b"), ("to de: e", "f")]
    assert "2 of 4 rows" in caplog.text
    data_args = run_seq2seq.DataArguments(test_file=table)
    training_args = run_seq2seq.TrainingArguments(output_dir=str(tmp_path / "out"), do_predict=True)
    test = run_seq2seq.read_splits(data_args, training_args)["test"]
    assert list(zip(test["source"], test["target"], strict=True)) == [("a", "b"), ("c", ""), ("", "d"), ("e", "f")]


def test_a_file_of_another_encoding_is_refused(tmp_path):
    (tmp_path / "train.tsv").write_bytes("source\ttarget\nä\tö\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train.tsv, line 2: must be UTF-8"):
        run(tmp_path / "out", "--do_train", "--train_file", tmp_path / "train.tsv")


@pytest.mark.parametrize("left", ["config.json", "all_results.json", "checkpoint-5"])
def test_a_folder_with_an_earlier_run_is_refused_unless_it_may_be_replaced(tmp_path, train_file, left):
    (tmp_path / "out" / left).mkdir(parents=True)
    arguments = ["--do_train", "--train_file", train_file, "--max_steps", "1", "--save_strategy", "no"]
    with pytest.raises(ValueError, match=rf"--output_dir must not hold a run already, got .*out with {left}"):
        run(tmp_path / "out", *arguments)
    if left == "checkpoint-5":
        run(tmp_path / "out", *arguments, "--overwrite_output_dir")
        assert not (tmp_path / "out" / left).exists()
        assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("pairs", "batch_size", "epochs"),
    [(300, 8, 91), (800, 20, 85), (3_600, 32, 31), (10_000, 32, 14), (29_000, 64, 20), (1_000_000, 64, 20)],
)
def test_small_data_are_read_in_small_steps(pairs, batch_size, epochs, tmp_path):
    arguments = run_seq2seq.TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    arguments.suit_pairs(pairs)
    assert (arguments.train_batch_size, arguments.num_train_epochs) == (batch_size, epochs)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_train_epochs", "nan"),
        ("num_train_epochs", "inf"),
        ("num_train_epochs", "0"),
        ("learning_rate", "-1"),
        ("learning_rate", "nan"),
        ("seed", "-1"),
        ("max_steps", "0"),
        ("max_grad_norm", "nan"),
        ("gradient_accumulation_steps", "0"),
        ("per_device_train_batch_size", "0"),
    ],
)
def test_numbers_of_a_training_that_make_no_sense_are_refused(tmp_path, argument, value):
    with pytest.raises(ValueError, match=f"--{argument} must be .*, got {value}"):
        run_seq2seq.main(["--do_train", "--output_dir", str(tmp_path), f"--{argument}", value])


def test_few_pairs_are_recombined(tmp_path, caplog):
    verbs = [f"{letter}and{'el' if place % 2 else 'er'}n" for place, letter in enumerate("bhmrswlkpf")]
    rows = "".join(f"{verb}\t{verb}te\n" for verb in verbs)
    arguments = ["--train_file", write(tmp_path / "train.tsv", "source\ttarget\n" + rows), "--max_steps", 1]
    with caplog.at_level(logging.INFO):
        run(tmp_path / "out", "--do_train", *arguments, "--augment_to", 12)
    assert "2 pairs are made of parts of the 10 to train on." in caplog.text
    assert "To the 10 pairs 2 were added that are made of their parts." in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="--augment_to must be a number of pairs"):
        run(tmp_path / "more", "--do_train", *arguments, "--augment_to", -1)


@pytest.mark.parametrize("overrides", ["hidden_size=abc", "hidden_size=0"])
def test_a_wrong_value_of_a_field_names_the_argument(overrides):
    arguments = ["--do_train", "--train_file", "a.tsv", "--output_dir", "x", "--config_overrides", overrides]
    kinds = (run_seq2seq.ModelArguments, run_seq2seq.DataArguments, run_seq2seq.TrainingArguments)
    with pytest.raises(ValueError, match=r"--config_overrides: `?hidden_size"):
        run_seq2seq.check_arguments(*parse_arguments(arguments, *kinds))
