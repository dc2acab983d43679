"""What is dropped, and when it is the same at every step."""

import pytest
import torch
from tiny import tiny_batch, tiny_model

from attention_rnn.models.cells import CELLS
from attention_rnn.models.dropout import SequenceDropout, WordDropout

BATCH, STEPS, WIDTH = 3, 50, 40


def test_variational_dropout_drops_the_same_units_at_every_step():
    dropout = SequenceDropout(0.5, variational=True)
    dropped = dropout(torch.ones(BATCH, STEPS, WIDTH)) == 0
    assert (dropped == dropped[:, :1]).all()
    assert not (dropped[0] == dropped[1]).all()
    assert 0.3 < dropped.float().mean() < 0.7


def test_a_drawn_mask_is_the_one_applied():
    dropout = SequenceDropout(0.5, variational=True)
    mask = dropout.draw(BATCH, WIDTH, torch.ones(()))
    torch.testing.assert_close(dropout(torch.ones(BATCH, STEPS, WIDTH), mask), mask.expand(-1, STEPS, -1))


def test_plain_dropout_drops_units_at_each_step_anew():
    dropped = SequenceDropout(0.5, variational=False)(torch.ones(BATCH, STEPS, WIDTH)) == 0
    assert not (dropped == dropped[:, :1]).all()


def test_word_dropout_drops_whole_tokens_and_scales_the_others():
    kept = WordDropout(0.25)(torch.ones(BATCH, STEPS, WIDTH))
    assert (kept == kept[:, :, :1]).all()
    assert kept.unique().tolist() == pytest.approx([0.0, 4 / 3])


@pytest.mark.parametrize("context_feeding", ["parallel", "input", "conditional"])
@pytest.mark.parametrize(
    "option",
    [
        {"variational_dropout": True, "hidden_dropout": 0.5, "readout_dropout": 0.5},
        {"recurrent_dropout": 0.5},
        {"word_dropout": 0.5},
    ],
)
def test_dropout_acts_in_training_alone_and_in_every_feeding(option, context_feeding):
    model = tiny_model(context_feeding=context_feeding, **option)
    batch = tiny_batch(model)
    assert torch.equal(model(**batch).loss, model(**batch).loss)
    model.train()
    assert not torch.equal(model(**batch).loss, model(**batch).loss)


@pytest.mark.parametrize("context_feeding", ["input", "conditional"])
def test_a_stepwise_decoder_drops_the_same_units_at_every_step(context_feeding, monkeypatch):
    masks = []
    forward = SequenceDropout.forward

    def spy(self, inputs, mask=None):
        masks.append(mask)
        return forward(self, inputs, mask)

    model = tiny_model(
        context_feeding=context_feeding, decoder_layers=1, variational_dropout=True, hidden_dropout=0.5
    ).train()
    batch = tiny_batch(model)
    encoder_outputs = model.get_encoder()(batch["input_ids"])
    monkeypatch.setattr(SequenceDropout, "forward", spy)
    model(encoder_outputs=encoder_outputs, decoder_input_ids=torch.ones(BATCH, 6).long())
    drawn = [mask for mask in masks if mask is not None]
    layers = 2 if context_feeding == "conditional" else 1
    assert len(drawn) == 6 * layers
    assert len({mask.data_ptr() for mask in drawn}) == layers


@pytest.mark.parametrize("cell_type", CELLS)
def test_recurrent_dropout_drops_the_same_entries_at_every_step(cell_type):
    model = tiny_model(cell_type=cell_type, recurrent_dropout=0.5, context_feeding="input").train()
    batch = tiny_batch(model)
    torch.manual_seed(3)
    plain = model(**batch).loss
    torch.manual_seed(3)
    assert torch.equal(model(**batch).loss, plain)
    plain.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
