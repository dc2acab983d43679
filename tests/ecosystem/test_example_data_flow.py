"""What transformers' own example scripts hand to the heads."""

import pytest
import torch
import transformers
from clients import TEXTS, tiny_causal_model
from tiny import tiny_config
from transformers import DefaultDataCollator, Trainer, TrainingArguments

from attention_rnn import AttentionRnnForQuestionAnswering
from attention_rnn.tokenizer_training import train_tokenizer


@pytest.fixture
def tokenizer():
    return train_tokenizer(TEXTS, kind="word", model_max_length=16)


def features_of(tokenizer, questions, contexts, answers):
    """
    As `run_qa.py` makes them, padded to one length. An answer starts at the last place that does not begin behind it;
    and as padding has the offset 0, an answer in the last word of a context is said to start in the padding.
    """
    encoded = tokenizer(questions, contexts, padding="max_length", max_length=16, return_offsets_mapping=True)
    encoded["start_positions"], encoded["end_positions"] = [], []
    for index, answer in enumerate(answers):
        start = contexts[index].index(answer)
        offsets = encoded["offset_mapping"][index]
        context = [place for place, part in enumerate(encoded.sequence_ids(index)) if part == 1]
        place = context[0]
        while place < len(offsets) and offsets[place][0] <= start:
            place += 1
        encoded["start_positions"].append(place - 1)
        encoded["end_positions"].append(min(place for place in context if offsets[place][1] >= start + len(answer)))
    encoded.pop("offset_mapping")
    return [{name: encoded[name][index] for name in encoded} for index in range(len(questions))]


@pytest.fixture
def rows(tokenizer):
    """One of them with its answer in the last word of the context."""
    contexts = TEXTS[4:]
    answers = [contexts[0].split()[1], contexts[1].split()[-1], contexts[2].split()[0], contexts[3].split()[2]]
    return features_of(tokenizer, TEXTS[:4], contexts, answers)


@pytest.fixture
def answering_model(tokenizer):
    torch.manual_seed(0)
    return AttentionRnnForQuestionAnswering(tiny_config(vocab_size=len(tokenizer)))


def test_rows_with_an_answer_in_the_padding_are_left_out_with_one_warning(answering_model, rows, caplog):
    assert rows[1]["start_positions"] == 15
    collate = DefaultDataCollator()
    losses = [answering_model(**collate(rows)).loss for _ in range(2)]
    expected = answering_model(**collate([rows[0], *rows[2:]])).loss
    torch.testing.assert_close(losses, [expected, expected])
    assert len([record for record in caplog.records if "padding" in record.message]) == 1


def test_a_training_with_such_rows_goes_through(answering_model, rows, tmp_path):
    # also when a step has no other row
    arguments = TrainingArguments(
        str(tmp_path), max_steps=4, per_device_train_batch_size=1, report_to="none", use_cpu=True, disable_tqdm=True
    )
    assert Trainer(answering_model, arguments, train_dataset=rows).train().training_loss > 0


def test_a_position_in_the_question_is_still_an_error(answering_model, rows):
    rows[0] |= {"start_positions": 1, "end_positions": 1}
    with pytest.raises(ValueError, match="start_positions"):
        answering_model(**DefaultDataCollator()(rows))


def test_a_prompt_of_a_causal_tokenizer_is_continued():
    """`text-generation` hands over the prompt as the tokenizer encodes it."""
    tokenizer = train_tokenizer(TEXTS, kind="word", causal=True)
    model = tiny_causal_model(vocab_size=len(tokenizer))
    pipe = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
    ids = pipe.preprocess(TEXTS[0])["input_ids"][0]
    assert ids[-1] != tokenizer.eos_token_id
