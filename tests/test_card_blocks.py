"""Every block of code in a card runs by itself, with the model that lies beside it."""

import re

import pytest
import torch
from command_line import refused, run
from tiny import tiny_config

from attention_rnn import (
    AttentionRnnForCausalLM,
    AttentionRnnForConditionalGeneration,
    AttentionRnnForQuestionAnswering,
    AttentionRnnForSequenceClassification,
    AttentionRnnForTokenClassification,
)
from attention_rnn.classification import EXPLANATIONS, METRICS, baseline
from attention_rnn.labelling import EXPLANATIONS as OF_LABELLING
from attention_rnn.model_card import write_model_card
from attention_rnn.tokenizer_training import train_tokenizer
from attention_rnn.usage import classification_usage, clm_usage, labelling_usage, qa_usage, seq2seq_usage

CHUNKS = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "label2id": {"O": 0, "B-X": 1, "I-X": 2}}
# of each task the class of its model, fields of its config, its usage, and the number of its blocks
CARDS = {
    "pairs": (AttentionRnnForConditionalGeneration, {}, lambda model, name: seq2seq_usage(model, name, "ab"), 2),
    "copying": (
        AttentionRnnForConditionalGeneration,
        {"copy": True},
        lambda model, name: seq2seq_usage(model, name, "ab"),
        3,
    ),
    "questions": (
        AttentionRnnForQuestionAnswering,
        {},
        lambda model, name: qa_usage(model, name, "ab?", "cd ef", "a.png"),
        2,
    ),
    "text": (AttentionRnnForCausalLM, {}, lambda model, name: clm_usage(name, "ab", 0.8, "ab cd"), 1),
    "labels": (
        AttentionRnnForSequenceClassification,
        {"num_labels": 2},
        lambda model, name: classification_usage(model, name, {"text": "ab", "text_pair": "cd"}, "a.png"),
        1,
    ),
    "words": (
        AttentionRnnForTokenClassification,
        CHUNKS | {"intents": ["ask", "tell"]},
        lambda model, name: labelling_usage(model, name, "ab cd"),
        1,
    ),
}


@pytest.mark.parametrize("task", CARDS)
def test_every_block_of_a_card_runs_by_itself(task, tmp_path, monkeypatch, capsys):
    model_class, fields, usage, number = CARDS[task]
    tokenizer = train_tokenizer(["ab cd ef gh ?"], kind="word", causal=task == "text")
    torch.manual_seed(0)
    model = model_class(tiny_config(vocab_size=len(tokenizer), **fields))
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", usage(model, "model"), re.DOTALL)
    assert len(blocks) == number
    for block in blocks:
        exec(compile(block.replace("max_new_tokens=300", "max_new_tokens=3"), "card", "exec"), {})
    assert capsys.readouterr().out


def test_every_metric_of_labels_is_explained():
    for problem_type, metrics in METRICS.items():
        assert set(EXPLANATIONS[problem_type]) == set(metrics)
    assert {"f1", "precision", "recall", "accuracy", "intent_accuracy", "sentence_accuracy"} == set(OF_LABELLING)


def test_a_card_tells_what_is_to_be_beaten():
    examples = {"train": {"label": ["x", "x", "y"]}, "test": {"label": ["x", "y", "y", "y"]}}
    told = baseline(examples, "single_label_classification")
    assert told == "To compare: always saying 'x' has accuracy 25.00 on the test."
    assert baseline({"test": examples["test"]}, "single_label_classification") is None


def test_a_model_names_the_folder_that_it_was_made_from(tmp_path):
    model = AttentionRnnForConditionalGeneration(tiny_config())
    options = {"name": "new", "task": "translation", "usage": "", "limits": "", "results": {}, "data": {}}
    card = write_model_card(tmp_path, model=model, base_folder="words", **options)
    assert "parameters, fine-tuned from `words`." in str(card)
    assert card.data.base_model is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--language", "de", "deutsch"], "--language must be ISO 639 codes of two or three letters, such as de, got"),
        (["--language", "DE"], "got 'DE'"),
    ],
)
def test_what_the_hub_would_refuse_is_refused_before(tmp_path, arguments, message):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert message in refused("card", tmp_path, *arguments)
    assert (tmp_path / "README.md").read_text() == "---\nlicense: mit\n---\n"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mit", False),
        ("mitt", "the Hub may not know the licence 'mitt'; did you mean mit?"),
        ("of-2030", "the Hub may not know the licence 'of-2030'\n"),
    ],
)
def test_a_licence_that_is_not_known_here_is_told(tmp_path, capsys, name, told):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    said = run(capsys, "card", tmp_path, "--license", name)
    assert told in said if told else "may not" not in said
    assert f"license: {name}\n" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(("source", "is_spelt"), [("g e h e n [V] [PST]", True), ("gehen", False), ("g e h", False)])
def test_a_card_says_how_a_lemma_is_spelt(source, is_spelt):
    usage = seq2seq_usage(AttentionRnnForConditionalGeneration(tiny_config()), "me/verbs", source)
    assert ("`spell_lemma` and `unspell`" in usage) == is_spelt
