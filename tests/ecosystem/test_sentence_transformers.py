"""sentence-transformers: our encoder makes sentence embeddings, is tuned for it, saved and read again."""

import pytest
import torch
from clients import TEXTS
from tiny import tiny_model

pytest.importorskip("sentence_transformers")
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from attention_rnn.tokenizer_training import train_tokenizer


@pytest.fixture
def encoder(tmp_path):
    """The encoder of an encoder-decoder's checkpoint, pooled."""
    tokenizer = train_tokenizer(TEXTS, kind="word")
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    transformer = Transformer(str(tmp_path / "checkpoint"), config_kwargs={"is_encoder_decoder": False})
    # the memory is wider than `hidden_size`, which `transformer.get_embedding_dimension()` reads
    pooling = Pooling(transformer.model.config.memory_size, pooling_mode="mean")
    return SentenceTransformer(modules=[transformer, pooling], device="cpu")


def test_embeddings_are_the_mean_of_the_memory(encoder):
    embeddings = encoder.encode(TEXTS[:3], convert_to_tensor=True)
    assert embeddings.shape[1] == encoder.get_embedding_dimension()
    inputs = encoder.tokenizer(TEXTS[1], return_tensors="pt")
    with torch.no_grad():
        memory = encoder[0].model(**inputs).last_hidden_state
    torch.testing.assert_close(embeddings[1], memory[0].mean(dim=0))


def test_it_is_tuned_saved_and_read(encoder, tmp_path):
    data = Dataset.from_dict({"anchor": TEXTS, "positive": TEXTS[1:] + TEXTS[:1]})
    from sentence_transformers import SentenceTransformerTrainingArguments

    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    before = encoder.encode(TEXTS, convert_to_tensor=True)
    SentenceTransformerTrainer(
        encoder, arguments, train_dataset=data, loss=losses.MultipleNegativesRankingLoss(encoder)
    ).train()
    expected = encoder.encode(TEXTS, convert_to_tensor=True)
    assert not torch.allclose(expected, before, atol=1e-4)
    encoder.save_pretrained(str(tmp_path / "saved"))
    read = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    torch.testing.assert_close(read.encode(TEXTS, convert_to_tensor=True), expected)
    assert read.get_embedding_dimension() == expected.shape[1]
