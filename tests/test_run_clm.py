"""The training script of language models, run within this process on a few lines."""

import gzip
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, pipeline

from attention_rnn.language_modelling import IGNORED_LABEL, Streams, StreamTrainer, Text
from attention_rnn.recipes import FOLDER

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import evaluate_checkpoint
import run_clm

TEXT = "".join(f"{number} men went to mow,\nwent to mow a meadow.\n" for number in ("One", "Two", "Ten", "No", "Six"))

TINY_RUN = """
--config_overrides embedding_size=6,hidden_size=9,embedding_dropout=0,hidden_dropout=0,readout_dropout=0
--per_device_train_batch_size 3 --per_device_eval_batch_size 2 --block_size 16 --num_train_epochs 2
--sample_length 5 --use_cpu --disable_tqdm True
"""


@pytest.fixture
def train_file(tmp_path):
    return write(tmp_path / "mow.txt", TEXT)


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return str(path)


def run(output_dir, *arguments):
    """Runs the script with a tiny model; the given arguments win."""
    return run_clm.main([*TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, arguments)])


def nats(folder, text):
    """The negative log likelihood of a text, read at once."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert ids[0, 0] == tokenizer.bos_token_id
    log_probabilities = model(ids).logits[0, :-1].log_softmax(dim=-1)
    return -log_probabilities.gather(1, ids[0, 1:, None]).sum().item()


def test_batches_continue_each_other_and_predict_each_token_once():
    ids = torch.arange(4, 27)
    streams = Streams(Text(ids, 23), start_token_id=1, streams=3, block_size=5)
    batches = [[streams[index + row] for row in range(3)] for index in range(0, len(streams), 3)]
    inputs, targets = (
        torch.cat([torch.stack([row[name] for row in batch]) for batch in batches], dim=1)
        for name in ("input_ids", "shift_labels")
    )
    assert [len(batch[0]["input_ids"]) for batch in batches] == [5, 3]
    assert targets[targets != IGNORED_LABEL].tolist() == ids.tolist()
    assert inputs[:, 0].tolist() == [1, 1, 1]
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_each_epoch_opens_the_text_at_another_token():
    ids = torch.arange(4, 28)
    streams = Streams(Text(ids, 24), start_token_id=1, streams=3, block_size=8, seed=5)
    layouts = []
    for epoch in (0, 1, 0):
        streams.set_epoch(epoch)
        layouts.append(torch.stack([streams[index]["shift_labels"] for index in range(3)]))
        assert sorted(layouts[-1].flatten().tolist()) == ids.tolist()
    assert torch.equal(layouts[0], layouts[2])
    assert not torch.equal(layouts[0], layouts[1])


def test_a_model_is_scored_on_another_file(tmp_path, train_file):
    run(tmp_path / "run", "--do_train", "--max_steps", 2, "--train_file", train_file)
    file = write(tmp_path / "test.txt", "Six men went")
    scores = evaluate_checkpoint.main([str(tmp_path / "run"), file, "--block_size", "4", "--use_cpu"])
    assert scores["nats_per_character"] == pytest.approx(nats(tmp_path / "run", "Six men went") / 12, rel=1e-4)


def test_a_run_leaves_a_model_its_scores_a_sample_and_a_card(tmp_path, train_file):
    arguments = ("--do_train", "--do_eval", "--validation_split_percentage", 20, "--prompt", "No", "--train_file")
    scores = run(tmp_path / "run", *arguments, train_file)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {
        "model.safetensors",
        "tokenizer.json",
        "training.png",
        "sample.txt",
        "README.md",
        "all_results.json",
    } <= names
    assert (tmp_path / "run" / "sample.txt").read_text().startswith("No")
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"{scores['validation']['nats_per_character']:.2f}" in card
    assert "the last 20 % of mow.txt" in card
    assert str(tmp_path) not in card
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["eval_perplexity"] == scores["validation"]["perplexity"]
    text = pipeline("text-generation", str(tmp_path / "run"))("No men", max_new_tokens=3, do_sample=False)
    assert text[0]["generated_text"].startswith("No men")


def test_the_final_scores_are_those_of_the_whole_text_with_all_its_past(tmp_path, train_file):
    arguments = ("--do_train", "--do_eval", "--do_predict", "--train_file", train_file, "--block_size", 7)
    files = [write(tmp_path / f"{split}.txt", text) for split, text in (("dev", TEXT[40:99]), ("test", TEXT[9:50]))]
    scores = run(tmp_path / "run", *arguments, "--validation_file", files[0], "--test_file", files[1])
    for split, text in (("validation", TEXT[40:99]), ("test", TEXT[9:50])):
        expected = nats(tmp_path / "run", text) / len(text)
        assert scores[split]["nats_per_character"] == pytest.approx(expected, rel=1e-5)
        assert scores[split]["bits_per_character"] == pytest.approx(expected / math.log(2), rel=1e-5)
        assert scores[split]["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_loss_of_an_epoch_is_that_of_its_streams_read_at_once(tmp_path, train_file, window, accumulation):
    overrides = f"embedding_size=6,hidden_size=9,hidden_dropout=0,readout_dropout=0,past_attention_window={window}"
    run(
        *(tmp_path / "run", "--do_train", "--train_file", train_file, "--learning_rate", 0, "--num_train_epochs", 1),
        *("--config_overrides", overrides + ",embedding_dropout=0", "--block_size", 11),
        *("--gradient_accumulation_steps", accumulation, "--logging_steps", 1),
    )
    ids = AutoTokenizer.from_pretrained(tmp_path / "run")(TEXT, add_special_tokens=False)["input_ids"]
    streams = Streams(Text(torch.tensor(ids), len(TEXT)), 1, streams=3, block_size=10**6, seed=42)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    logits = model(streams.inputs).logits
    blocks = zip(logits.split(11, dim=1), streams.targets.split(11, dim=1), strict=True)
    losses = [torch.nn.functional.cross_entropy(part.flatten(0, 1), targets.flatten()) for part, targets in blocks]
    expected = torch.stack(losses).split(accumulation)
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    logged = [entry["loss"] for entry in history if "loss" in entry]
    full = [chunk.mean().item() for chunk in expected if len(chunk) == accumulation]
    assert logged[: len(full)] == pytest.approx(full, rel=1e-4)


def test_the_state_is_handed_on_within_an_epoch_and_forgotten_between_two(tmp_path, train_file, monkeypatch):
    seen, forward = [], StreamTrainer.compute_loss

    def spy(self, model, inputs, *args, **kwargs):
        seen.append(None if self.carried is None else self.carried.get_seq_length())
        return forward(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(StreamTrainer, "compute_loss", spy)
    run(tmp_path / "run", "--do_train", "--train_file", train_file, "--block_size", 30)
    assert seen == [None, 30, 60] * 2


def test_a_resumed_run_ends_as_the_uninterrupted_one(tmp_path, train_file):
    arguments = ("--do_train", "--train_file", train_file, "--save_total_limit", 2, "--config_overrides")
    arguments += ("embedding_size=6,hidden_size=9,hidden_dropout=0.3",)
    run(tmp_path / "whole", *arguments)
    first = min((tmp_path / "whole").glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    shutil.copytree(first, tmp_path / "resumed" / first.name)
    run(tmp_path / "resumed", *arguments, "--resume_from_checkpoint", "True")
    expected, weights = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight)


def test_arguments_stand_in_a_file_and_the_text_is_compressed(tmp_path):
    with gzip.open(tmp_path / "mow.txt.gz", "wt", encoding="utf-8") as file:
        file.write(TEXT)
    config = write(
        tmp_path / "run.yaml", f"train_file: {tmp_path / 'mow.txt.gz'}\ndo_train: true\nnum_train_epochs: 9\n"
    )
    run_clm.main([config, *TINY_RUN.split(), "--output_dir", str(tmp_path / "run"), "--max_steps", "1"])
    assert json.loads((tmp_path / "run" / "trainer_state.json").read_text())["global_step"] == 1


def test_the_recipe_of_the_benchmark_is_read(tmp_path, train_file):
    recipe = FOLDER / "language-model.yaml"
    arguments = [*TINY_RUN.split(), "--output_dir", str(tmp_path / "run"), "--train_file", train_file, "--do_eval"]
    arguments += ["--validation_split_percentage", "10"]
    run_clm.main([str(recipe), *arguments, "--do_train", "--max_steps", "1", "--bf16", "False"])
    assert (tmp_path / "run" / "README.md").is_file()


def test_line_ends_become_tokens_for_words(tmp_path, train_file):
    arguments = (
        "--do_train",
        "--do_eval",
        "--tokenizer",
        "word",
        "--line_by_line",
        "--validation_split_percentage",
        50,
    )
    scores = run(tmp_path / "run", *arguments, "--train_file", train_file)["validation"]
    lines = [line for line in TEXT[len(TEXT) // 2 :].splitlines() if line]
    tokens = sum(len(line.split()) + 1 for line in lines)
    characters = sum(len(line) + 1 for line in lines)
    assert scores["nats_per_character"] * characters == pytest.approx(math.log(scores["perplexity"]) * tokens)


def test_tokens_that_the_vocabulary_lacks_are_told(tmp_path, train_file, caplog):
    file = write(tmp_path / "dev.txt", "One zebra 7")
    run(tmp_path / "run", "--do_train", "--do_eval", "--train_file", train_file, "--validation_file", file)
    assert "4 of 11 tokens of the validation text are not in the vocabulary" in caplog.text


def test_a_model_is_evaluated_and_trained_further(tmp_path, train_file):
    run(tmp_path / "first", "--do_train", "--train_file", train_file)
    further = [argument for argument in TINY_RUN.split("\n") if not argument.startswith("--config")]
    further = [*" ".join(further).split(), "--model_name_or_path", str(tmp_path / "first")]
    scores = run_clm.main(
        [*further, "--do_eval", "--validation_file", train_file, "--output_dir", str(tmp_path / "eval")]
    )
    expected = nats(tmp_path / "first", TEXT) / len(TEXT)
    assert scores["validation"]["nats_per_character"] == pytest.approx(expected, rel=1e-5)
    run_clm.main([*further, "--do_train", "--train_file", train_file, "--output_dir", str(tmp_path / "second")])
    assert nats(tmp_path / "second", TEXT) < nats(tmp_path / "first", TEXT)


def test_a_data_set_is_read_from_its_column(tmp_path):
    rows = "".join(json.dumps({"id": 1, "line": line}) + "\n" for line in TEXT.splitlines())
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train.jsonl", rows)
    arguments = run_clm.DataArguments(dataset_name=str(tmp_path / "data"), text_column="line")
    assert run_clm.read_text("train", arguments) == TEXT
    with pytest.raises(ValueError, match="must have the split 'train' with the column 'text'"):
        run_clm.read_text("train", run_clm.DataArguments(dataset_name=str(tmp_path / "data")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "nothing to do"),
        ("--do_train", "--do_train needs either --train_file or --dataset_name"),
        (
            "--do_train --train_file FILE --do_eval",
            "--dataset_name, or --validation_split_percentage",
        ),
        ("--do_train --train_file FILE --validation_split_percentage 0", "must be from 1 to 99, got 0"),
        (
            "--do_train --train_file FILE --validation_split_percentage 9 --validation_file FILE",
            "takes the validation text from --train_file alone",
        ),
        ("--do_eval --validation_file FILE", "need --model_name_or_path"),
        ("--do_train --train_file FILE --block_size 0", "--block_size must be at least 1, got 0"),
        ("--do_train --train_file FILE --sample_length 0", "--sample_length must be at least 1, got 0"),
        ("--do_train --train_file FILE --temperature 0", "--temperature must be above 0, got 0"),
        ("--do_train --train_file FILE --tokenizer letters", "--tokenizer must be one of .*, got 'letters'"),
        ("--do_train --train_file FILE --label_smoothing_factor 0.1", "--label_smoothing_factor must be 0"),
        ("--do_train --train_file FILE --early_stopping_patience 2", "--early_stopping_patience needs"),
        (
            "--do_train --train_file FILE --config_overrides depth=2",
            "--config_overrides must name fields of the config",
        ),
        (
            "--do_train --train_file FILE --config_overrides past_attention_window=all,hidden_size=9",
            "past_attention_window must be a number",
        ),
        ("--do_train --train_file FILE --per_device_train_batch_size 900", "a token for each of 900 streams, got 214"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, train_file, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", *arguments.replace("FILE", train_file).split())


@pytest.mark.parametrize(
    ("content", "message"), [(b" \n", "must not be empty"), (b"a\n\xff\xfe", "line 2: must be UTF-8")]
)
def test_a_bad_file_is_refused(tmp_path, content, message):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", "--do_train", "--train_file", tmp_path / "bad.txt")


def test_a_model_of_another_kind_is_refused(tmp_path, train_file):
    GPT2Config().save_pretrained(tmp_path / "gpt2")
    arguments = ["--do_eval", "--validation_file", train_file, "--model_name_or_path", str(tmp_path / "gpt2")]
    with pytest.raises(ValueError, match=r"must be an attention_rnn model, .*, got gpt2"):
        run_clm.main([*arguments, "--output_dir", str(tmp_path / "run")])


def test_a_line_ends_at_a_line_feed_alone():
    settings = run_clm.DataArguments(line_by_line=True)
    assert run_clm.passages("a\x0cb\x85c\n\nd\u2028e\n", settings) == ["a\x0cb\x85c", "d\u2028e"]
