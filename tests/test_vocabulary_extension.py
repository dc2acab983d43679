"""A vocabulary that grows with other data."""

import pytest
import torch
from tiny import tiny_model

from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer
from attention_rnn.vocabulary_extension import extend_tokenizer, fit_embeddings


@pytest.mark.parametrize("kind", ["character", "word", "bpe", "unigram"])
def test_new_units_follow_those_that_stay(kind):
    tokenizer = train_tokenizer(["ab ba", "ab"] * 3, kind, vocab_size=20)
    before = tokenizer.get_vocab()
    extended = extend_tokenizer(tokenizer, ["ab ç", "ç", "ab <unk> ñ"])
    after = extended.get_vocab()
    assert {token: after[token] for token in before} == before
    assert sorted(after.values()) == list(range(len(after)))
    assert extended.decode(extended("ab ç")["input_ids"], skip_special_tokens=True) == "ab ç"
    assert extended.unk_token_id not in extended("ñ")["input_ids"]
    assert tokenizer.unk_token_id in tokenizer("ç")["input_ids"]


def test_each_side_of_a_pair_grows_by_its_own_texts(tmp_path):
    pair = pair_tokenizers(train_tokenizer(["ab"], "character"), train_tokenizer(["A B"], "word"))
    extended = extend_tokenizer(pair, ["aç"], ["A Ç CH"])
    assert len(extended) == len(pair) + 1
    assert len(extended.target) == len(pair.target) + 2
    extended.save_pretrained(tmp_path)
    loaded = type(pair).from_pretrained(tmp_path)
    assert loaded.decode(loaded(text_target="CH A")["input_ids"], skip_special_tokens=True) == "CH A"


@pytest.mark.parametrize("own_source", [True, False])
def test_the_rows_of_what_is_known_stay(own_source):
    tokenizer = train_tokenizer(["ab"], "character")
    if own_source:
        tokenizer = pair_tokenizers(tokenizer, train_tokenizer(["A B C"], "word"))
    target = getattr(tokenizer, "target", tokenizer)
    model = tiny_model(vocab_size=len(target), source_vocab_size=len(tokenizer) if own_source else None)
    inputs = tokenizer("ab", return_tensors="pt")
    labels = torch.tensor([target(" ".join("ab") if not own_source else "A B")["input_ids"][:2]])
    before = model(**inputs, labels=labels).logits
    extended = extend_tokenizer(tokenizer, ["ç"], ["Ç"])
    fit_embeddings(model, extended)
    after = model(**extended("ab", return_tensors="pt"), labels=labels).logits
    torch.testing.assert_close(after[..., : before.shape[-1]], before)
    assert after.shape[-1] == len(getattr(extended, "target", extended))
