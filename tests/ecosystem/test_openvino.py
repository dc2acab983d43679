"""OpenVINO computes the graphs of an exported folder as ONNX Runtime does."""

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

IDS = np.array([[5, 6, 7, 8, 2], [5, 9, 2, 0, 0], [7, 7, 7, 2, 0]])  # ragged
INPUTS = {"input_ids": IDS, "attention_mask": (IDS != 0).astype(np.int64)}


def compared(file, inputs):
    """The outputs of a graph, when both have found the same."""
    session = onnxruntime.InferenceSession(file)
    given = {value.name: inputs[value.name] for value in session.get_inputs()}
    expected, found = session.run(None, given), openvino.Core().compile_model(file, "CPU")(given)
    names = [value.name for value in session.get_outputs()]
    for index, name in enumerate(names):
        np.testing.assert_allclose(found[index], expected[index], atol=1e-5, err_msg=name)
    return dict(zip(names, expected, strict=True))


@pytest.mark.parametrize("variant", ["parallel", "two vocabularies"])
def test_an_encoder_decoder(exported, variant):
    folder = exported(variant).folder
    encoded = compared(folder / "encoder.onnx", INPUTS)
    compared(folder / "step.onnx", {"tokens": np.array([1, 5, 6]), "k": np.array([3]), **encoded})
    compared(folder / "generate.onnx", {**INPUTS, "max_new_tokens": np.array(6)})


@pytest.mark.parametrize("variant", ["classifier", "tagger"])
def test_a_reader_of_texts(exported, variant):
    compared(exported(variant).folder / "model.onnx", INPUTS)
