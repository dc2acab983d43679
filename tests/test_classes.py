"""What becomes of the classes of a checkpoint that is fine-tuned on other labels."""

import logging

import pytest
import torch
from tiny import tiny_config
from transformers import (
    BertConfig,
    BertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from attention_rnn import AttentionRnnForSequenceClassification, AttentionRnnForTokenClassification
from attention_rnn.classes import check_recurrence, list_labels, merge_labels, with_labels

KNOWN = ["B-X", "I-X", "O"]
SIZES = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}


def names(labels):
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


MODELS = {
    "tagger": lambda: AttentionRnnForTokenClassification(
        tiny_config(crf=True, constrained_decoding=True, intents=["ask", "order"], **names(KNOWN))
    ),
    "classifier": lambda: AttentionRnnForSequenceClassification(tiny_config(**names(KNOWN))),
    "bert": lambda: BertForTokenClassification(BertConfig(vocab_size=9, **SIZES, **names(KNOWN))),
    # one has a layer of its own in its head, the other no bias
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(vocab_size=9, **SIZES, **names(KNOWN))),
    "gpt2": lambda: GPT2ForSequenceClassification(
        GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1, **names(KNOWN))
    ),
}
OF_LABELS = {
    "tagger": {"classifier.weight", "classifier.bias", "crf.start", "crf.transitions", "crf.end"},
    "classifier": {"classifier.weight", "classifier.bias"},
    "bert": {"classifier.weight", "classifier.bias"},
    "roberta": {"classifier.out_proj.weight", "classifier.out_proj.bias"},
    "gpt2": {"score.weight"},
}


def build(name):
    """A model of which every weight is larger than what a new one starts with."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(2, 3)
    return model


@pytest.mark.parametrize(
    ("found", "expected", "told"),
    [
        (["B-X", "I-X", "O"], KNOWN, "the 3 labels of the checkpoint keep their ids and weights"),
        (["O", "I-X"], KNOWN, "weights; 1 do not stand in the training data: B-X"),
        (["A-Y", "O"], [*KNOWN, "A-Y"], "weights; 1 new ones follow them: A-Y; 2 do not stand in the training data"),
        (["NOUN", "VERB", "X"], ["NOUN", "VERB", "X"], "no label of the checkpoint, B-X, I-X, O, is one of the data"),
    ],
)
def test_known_labels_keep_their_ids(found, expected, told, caplog):
    caplog.set_level(logging.INFO)
    assert merge_labels(KNOWN, found) == expected
    assert told in caplog.text


def test_a_new_model_has_the_labels_of_the_data(caplog):
    caplog.set_level(logging.INFO)
    assert merge_labels([], ["O", "B-X"]) == ["O", "B-X"]
    assert not caplog.records


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("labels", [[*KNOWN, "B-Y", "I-Y"], ["O", "B-X", "I-X"], ["B-Z", "O"]])
def test_what_belongs_to_known_labels_stays_and_the_rest_starts_anew(name, labels):
    model = build(name)
    changed = with_labels(model, labels)
    assert list_labels(changed.config) == labels
    assert changed.config.label2id == {label: index for index, label in enumerate(labels)}
    old, new = model.state_dict(), changed.state_dict()
    assert old.keys() == new.keys()
    for key, values in old.items():
        if key not in OF_LABELS[name]:
            assert torch.equal(new[key], values)
        elif labels[:3] == KNOWN:
            part = tuple(slice(3 if size == 3 else None) for size in values.shape)
            assert torch.equal(new[key][part], values)
            new[key][part] = 0
            assert new[key].abs().max() < 1
        else:
            assert new[key].abs().max() < 1


def test_a_model_that_has_the_labels_is_left_alone():
    model = build("tagger")
    assert with_labels(model, KNOWN) is model
    assert with_labels(model, ["ask", "order"], of_texts=True) is model


@pytest.mark.parametrize("intents", [["ask", "order", "thank"], ["order", "ask"]])
def test_intents_grow_like_labels(intents):
    model = build("tagger")
    changed = with_labels(model, intents, of_texts=True)
    assert list_labels(changed.config, of_texts=True) == intents
    old, new = (m.intent_classifier.weight for m in (model, changed))
    assert len(new) == len(intents)
    assert torch.equal(new[:2], old) == (intents[:2] == ["ask", "order"])
    assert torch.equal(changed.classifier.weight, model.classifier.weight)


def test_a_tagger_learns_to_tell_intents():
    model = AttentionRnnForTokenClassification(tiny_config(**names(KNOWN)))
    changed = with_labels(model, ["ask", "order"], of_texts=True)
    assert changed(input_ids=torch.tensor([[5, 6]])).intent_logits.shape == (1, 2)
    assert torch.equal(changed.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize(
    ("distinct", "times", "outcome"),
    [(5, 1, None), (30, 1, "refused"), (30, 2, None), (10, 2, None), (25, 1.2, "warned")],
)
def test_labels_that_are_texts_are_told(distinct, times, outcome, caplog):
    labels = [f"I like number {index}" for index in range(distinct)]
    labels += labels[: round(distinct * (times - 1))]
    if outcome == "refused":
        message = "no intent stands twice: there are 30 different intents on 30 places .*--intent_column another"
        with pytest.raises(ValueError, match=message):
            check_recurrence(labels, "intent")
        return
    check_recurrence(labels)
    warned = "There are 25 different labels on 30 places of the training data, such as 'I like number 10'"
    assert (warned in caplog.text) == (outcome == "warned")
