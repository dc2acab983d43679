"""ExecuTorch: an encoder as a program for small devices. ONNX is tried in `test_export.py`."""

import pytest
import torch
from tiny import tiny_batch, tiny_model

pytest.importorskip("executorch")
from transformers.exporters import ExecutorchConfig, ExecutorchExporter


def test_an_encoder_runs_as_a_program():
    model = tiny_model(encoder_layers=1, bidirectional=False, hidden_size=4, embedding_size=3, decoder_layers=2)
    batch = tiny_batch(model)
    inputs = {name: batch[name][:, :3].clone() for name in ("input_ids", "attention_mask")}
    encoder = model.get_encoder()
    program = ExecutorchExporter().export(encoder, inputs, ExecutorchConfig())
    with torch.no_grad():
        expected = encoder(**inputs).last_hidden_state
    torch.testing.assert_close(program(**inputs).last_hidden_state, expected, atol=1e-4, rtol=1e-4)
