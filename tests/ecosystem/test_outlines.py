"""outlines: generation that a regular expression or a choice constrains."""

import re

import pytest
from clients import tiny_causal_model
from tiny import tiny_model

outlines = pytest.importorskip("outlines")
from attention_rnn.tokenizer_training import train_tokenizer  # noqa: E402


@pytest.fixture
def tokenizer():
    return train_tokenizer(["0123456789-abc yes no"], kind="character")


@pytest.mark.parametrize("kind", [tiny_causal_model, tiny_model])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_a_regular_expression_is_kept_to(tokenizer, kind, options):
    model = outlines.from_transformers(kind(vocab_size=len(tokenizer)), tokenizer)
    text = model("abc", outlines.types.Regex(r"[0-9]{2}-[0-9]{3}"), max_new_tokens=12, do_sample=False, **options)
    assert re.search(r"[0-9]{2}-[0-9]{3}$", text)


def test_a_choice_is_kept_to(tokenizer):
    model = outlines.from_transformers(tiny_model(vocab_size=len(tokenizer)), tokenizer)
    assert model("abc", outlines.types.Choice(["yes", "no"]), max_new_tokens=8) in ("yes", "no")
