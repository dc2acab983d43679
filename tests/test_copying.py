"""Pointer-generator: copying tokens of the source, also those that the vocabulary lacks."""

import pytest
import torch
from tiny import BATCH, SOURCE, TARGET, tiny_batch, tiny_model

from attention_rnn.models.losses import coverage_loss
from attention_rnn.models.readout import mix_copies

COPY = {"copy": True, "attention_type": "additive"}


def test_the_mixture_equals_the_sum_by_hand():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=generator)
    gate = torch.rand(2, 3, 1, generator=generator)
    weights = torch.rand(2, 4, 3, 6, generator=generator).softmax(-1)
    copy_ids = torch.tensor([[4, 4, 0, 6, 1, 4], [5, 2, 7, 5, 0, 0]])  # 5, 6 and 7 are not in the vocabulary
    result = mix_copies(logits, gate, weights, copy_ids).exp()
    assert result.shape == (2, 3, 8)
    for b in range(2):
        for t in range(3):
            expected = torch.zeros(8)
            expected[:5] = gate[b, t] * logits[b, t].softmax(-1)
            for j in range(6):
                expected[copy_ids[b, j]] += (1 - gate[b, t, 0]) * weights[b, :, t, j].mean()
            torch.testing.assert_close(result[b, t], expected)


def test_logits_are_log_probabilities_with_a_place_for_each_unknown_token():
    model = tiny_model(**COPY)
    batch = tiny_batch(model)
    copy_ids = batch["input_ids"].clone()
    copy_ids[1, 4] = 19 + 1
    logits = model(**batch, copy_ids=copy_ids).logits
    assert logits.shape == (BATCH, TARGET, 21)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(BATCH, TARGET))
    assert (logits[1, :, 20] > logits[0, :, 20] + 10).all()  # of the other sources no weight goes there


def test_a_label_that_the_vocabulary_lacks_is_learnt_and_generated():
    torch.manual_seed(0)
    model = tiny_model(**COPY, embedding_size=16, hidden_size=16).train()
    sources = torch.tensor([[4, 3, 5, 2], [3, 6, 4, 2]])
    copy_ids = torch.tensor([[4, 19, 5, 2], [20, 6, 4, 2]])  # what `<unk>`, 3, stands for in each source
    labels = torch.tensor([[19, 2], [20, 2]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        model(input_ids=sources, copy_ids=copy_ids, labels=labels).loss.backward()
        optimizer.step()
    model.eval()
    for options in ({}, {"num_beams": 3}, {"use_cache": False}):
        tokens = model.generate(sources, copy_ids=copy_ids, max_new_tokens=4, **options)
        assert tokens[:, 1:3].tolist() == labels.tolist()


def test_a_copied_unknown_token_is_read_back_as_unk():
    model = tiny_model(**COPY)
    batch = tiny_batch(model)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    unknown = model(**inputs, decoder_input_ids=torch.tensor([[1, 25, 7]]).expand(BATCH, -1)).logits
    unk = model(**inputs, decoder_input_ids=torch.tensor([[1, 3, 7]]).expand(BATCH, -1)).logits
    assert torch.equal(unknown, unk)


def test_labels_beyond_the_extended_vocabulary_are_refused():
    model = tiny_model(**COPY)
    batch = tiny_batch(model)
    batch["labels"][0, 0] = 19
    with pytest.raises(ValueError, match="`labels` must be tokens of the vocabulary, 0 to 18, got 19"):
        model(**batch)


@pytest.mark.parametrize("copy_ids", [torch.ones(BATCH, SOURCE + 1).long(), None])
def test_copy_ids_that_do_not_name_every_position_are_refused(copy_ids):
    model = tiny_model(**COPY)
    batch = tiny_batch(model)
    if copy_ids is None:
        batch["inputs_embeds"] = model.get_input_embeddings()(batch.pop("input_ids"))
    with pytest.raises(ValueError, match="`copy_ids` must name the token at each position"):
        model(**batch, copy_ids=copy_ids)


def test_coverage_loss_equals_the_sum_by_hand():
    weights = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    is_target = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    total = 0.0
    for b in range(2):
        seen = torch.zeros(5)
        for t in range(4):
            attention = weights[b, :, t].mean(0)
            if is_target[b, t]:
                total += torch.minimum(attention, seen).sum()
            seen = seen + attention
    torch.testing.assert_close(coverage_loss(weights, is_target), total / 6)
    torch.testing.assert_close(coverage_loss(weights, is_target, num_items_in_batch=12), total / 12)


def test_the_coverage_loss_is_added_with_its_weight():
    batch = tiny_batch(tiny_model())
    plain = tiny_model(attention_type="additive", coverage=True)
    weighted = tiny_model(attention_type="additive", coverage=True, coverage_loss_weight=0.5)
    output = plain(**batch, output_attentions=True)
    covered = coverage_loss(output.cross_attentions[0], batch["labels"] != -100)
    torch.testing.assert_close(weighted(**batch).loss, output.loss + 0.5 * covered)
    assert weighted(**batch).cross_attentions is None
