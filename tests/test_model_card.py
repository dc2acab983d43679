"""The model card of a trained model."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import BartConfig, BartForConditionalGeneration, TrainingArguments

from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration
from attention_rnn.model_card import tell_chance, write_model_card


@pytest.fixture(scope="module")
def model():
    config = AttentionRnnConfig(vocab_size=9, embedding_size=4, hidden_size=4)
    return AttentionRnnForConditionalGeneration(config)


def write(folder, model, **options):
    """Writes a card with what is always needed, and loads it again from its file."""
    needed = {"name": "me/words", "task": "translation", "usage": "Use it.", "limits": "Do not trust it."}
    needed |= {"results": {}, "data": {"train": ("train.tsv", 29000), "test": ("test.tsv", None)}}
    write_model_card(folder, model=model, **{**needed, **options})
    return ModelCard.load(folder / "README.md")


def test_the_scores_stand_in_the_model_index_and_in_a_table(tmp_path, model):
    results = {
        "train": {"accuracy": 99.5},
        "test": {"accuracy": 87.654, "f1": 0.5, "f1_signature": "macro"},
    }
    card = write(tmp_path, model, results=results, task="text-classification", dataset_name="me/data")
    assert card.data.model_name == "me/words"
    assert card.data.metrics == ["accuracy", "f1"]
    index = [
        (result.task_type, result.dataset_type, result.dataset_name, result.dataset_split, result.metric_type)
        for result in card.data.eval_results
    ]
    place = ("text-classification", "me/data")
    assert index == [
        (*place, "train.tsv", "train", "accuracy"),
        (*place, "test.tsv", "test", "accuracy"),
        (*place, "test.tsv", "test", "f1"),
    ]
    assert [result.metric_value for result in card.data.eval_results] == [99.5, 87.654, 0.5]
    assert "| train | 99.50 |  |\n| test | 87.65 | 0.50 |" in card.text
    assert "f1_signature: `macro`" in card.text


@pytest.mark.parametrize(
    ("results", "examples", "expected"),
    [
        ({"exact_match": 72.5, "per": 4.6}, 40, "of 40, so that chance alone may move exact_match by 14 points"),
        ({"accuracy": 100.0}, 400, "of 400, so that chance alone may move accuracy by 1 point"),
        ({"accuracy": 50.0}, 2_000, None),
        ({"per": 4.6}, 40, None),
    ],
)
def test_scores_on_few_examples_are_told_as_such(results, examples, expected):
    assert tell_chance(results, examples) == (expected and f"{expected} either way")


def test_a_card_that_was_interrupted_is_not_there(tmp_path, model, monkeypatch):
    def interrupted(file, text, **options):
        file.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, model)
    assert not (tmp_path / "README.md").exists()


def test_scores_have_no_more_digits_than_mean_something(tmp_path, model):
    card = write(tmp_path, model, results={"test": {"per": 100 * 0.0023, "bleu": 36.123456}})
    assert [result.metric_value for result in card.data.eval_results] == [0.23, 36.1235]
    assert "0.2299" not in (tmp_path / "README.md").read_text()
    training_args = TrainingArguments(output_dir=str(tmp_path), weight_decay=0.1 + 0.2, use_cpu=True)
    assert "| weight_decay | 0.3 |" in write(tmp_path, model, training_args=training_args).text


def test_a_card_says_what_its_scores_are(tmp_path, model):
    explanations = {"per": "Edits per phone", "wer": "Edits per word"}
    card = write(tmp_path, model, results={"test": {"per": 3.0}}, explanations=explanations)
    assert "- per: Edits per phone." in card.text
    assert "Edits per word" not in card.text


def test_the_metadata_are_those_the_hub_knows(tmp_path, model):
    card = write(tmp_path, model, language=["en", "de"], license="mit", dataset_name="me/data", base_model="me/base")
    assert card.data.to_dict() == {
        "language": ["en", "de"],
        "license": "mit",
        "library_name": "transformers",
        "tags": ["attention-rnn"],
        "datasets": ["me/data"],
        "base_model": "me/base",
        "pipeline_tag": "translation",
    }
    assert "fine-tuned from [me/base](https://huggingface.co/me/base)" in card.text


def test_a_model_of_another_architecture_is_not_tagged_as_ours(tmp_path):
    config = BartConfig(vocab_size=9, d_model=2, encoder_layers=1, decoder_layers=1, decoder_attention_heads=1)
    config.encoder_attention_heads = 1
    card = write(tmp_path, BartForConditionalGeneration(config))
    assert "tags" not in card.data.to_dict()
    assert "`BartForConditionalGeneration` with" in card.text


def test_the_card_says_how_the_model_was_made(tmp_path, model):
    training_args = TrainingArguments(output_dir=str(tmp_path), learning_rate=0.003, use_cpu=True)
    card = write(tmp_path, model, training_args=training_args, training_seconds=3725.4, picture="maps/0.png")
    assert "| learning_rate | 0.003 |" in card.text
    assert "| lr_scheduler_type | linear |" in card.text
    assert "Trained in 1 h 2 min on" in card.text
    assert "transformers 5." in card.text
    assert "](maps/0.png)" in card.text
    assert "| train | train.tsv | 29,000 |\n| test | test.tsv | streamed |" in card.text
    assert f"with {model.num_parameters():,} parameters" in card.text


def test_the_command_keeps_neither_secrets_nor_folders(tmp_path, model):
    file = tmp_path / "my train.tsv"
    file.touch()
    command = [
        "python",
        "train.py",
        f"--train_file={file}",
        "--hub_token",
        "hf_one",
        "--push_to_hub",
        "--hub-token=hf_2",
    ]
    card = write(tmp_path, model, command=[*command, "--metrics", "bleu", "wer"])
    block = card.text.split("```bash\n")[1].split("\n```")[0]
    assert (
        block == "python train.py \\\n    --train_file 'my train.tsv' \\\n    --push_to_hub \\\n    --metrics bleu wer"
    )


def test_a_card_without_scores_is_valid(tmp_path, model):
    card = write(tmp_path, model)
    assert card.data.eval_results is None
    assert "## Results" not in card.text
    for part in ("Use it.", "Do not trust it.", "Evaluated on"):
        assert part in card.text


def test_scores_of_an_unknown_split_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match=r"results must be of the splits of data, \['train', 'test'\], got \['dev'\]"):
        write(tmp_path, model, results={"dev": {"wer": 3.0}})
    assert not (tmp_path / "README.md").exists()
