"""captum: gradients reach embeddings and layers, and attributions add up to the change of the output."""

import pytest
import torch
from tiny import tiny_config, tiny_model

pytest.importorskip("captum")
from captum.attr import (
    IntegratedGradients,
    LayerActivation,
    LayerIntegratedGradients,
)

from attention_rnn import AttentionRnnForSequenceClassification

IDS = torch.tensor([[5, 6, 7, 8, 9, 4], [9, 8, 7, 6, 5, 10]])


@pytest.fixture(params=["gru", "lstm"])
def classifier(request):
    torch.manual_seed(0)
    return AttentionRnnForSequenceClassification(tiny_config(cell_type=request.param, num_labels=3)).eval()


def test_integrated_gradients_of_the_embeddings_add_up(classifier):
    def score(ids):
        return classifier(input_ids=ids).logits[:, 1]

    attribution = LayerIntegratedGradients(score, classifier.get_input_embeddings())
    attributions, delta = attribution.attribute(
        IDS, baselines=torch.zeros_like(IDS), n_steps=64, return_convergence_delta=True
    )
    assert attributions.shape == (2, 6, 6)
    assert attributions.any()
    assert delta.abs().max() < 1e-3


def test_integrated_gradients_of_inputs_embeds_add_up():
    model = tiny_model(context_feeding="input")
    embeddings = model.get_input_embeddings()(IDS).detach()
    targets = IDS[:, :3]

    def score(embeddings):
        repeated = targets.repeat(len(embeddings) // len(targets), 1)
        return model(inputs_embeds=embeddings, decoder_input_ids=repeated).logits[:, -1, 5]

    attributions, delta = IntegratedGradients(score).attribute(
        embeddings, n_steps=64, return_convergence_delta=True, internal_batch_size=None
    )
    assert attributions.any()
    assert delta.abs().max() < 2e-2


def test_the_activation_of_a_recurrent_matrix_is_seen(classifier):
    """A hook on a recurrent matrix sees every step."""
    matrix = classifier.model.encoder.layers[0].cells[0].hidden_to_hidden
    seen = LayerActivation(lambda ids: classifier(input_ids=ids).logits, matrix).attribute(IDS)
    assert seen.shape == (2, matrix.out_features)
