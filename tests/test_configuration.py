import numpy as np
import pytest
import torch

import attention_rnn
from attention_rnn import (
    AttentionRnnConfig,
    AttentionRnnCTCConfig,
    AttentionRnnForCausalLM,
    AttentionRnnForConditionalGeneration,
    AttentionRnnSpeechConfig,
    AttentionRnnTimeSeriesConfig,
)
from attention_rnn.models.attention import ATTENTIONS
from attention_rnn.models.cells import CELLS
from attention_rnn.models.configuration_core import ATTENTION_TYPES, CELL_STATES
from attention_rnn.models.presets import PRESETS


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"vocab_size": 0}, ValueError, "`vocab_size` must be at least 1, got 0"),
        ({"hidden_size": -3}, ValueError, "`hidden_size` must be at least 1, got -3"),
        ({"hidden_size": 2.5}, TypeError, "`hidden_size` must be an int, got 2.5"),
        ({"embedding_size": "64"}, TypeError, "`embedding_size` must be an int, got '64'"),
        ({"encoder_layers": True}, TypeError, "`encoder_layers` must be an int, got True"),
        ({"source_vocab_size": 0}, ValueError, "`source_vocab_size` must be at least 1, got 0"),
        ({"attention_size": 0}, ValueError, "`attention_size` must be at least 1, got 0"),
        ({"hidden_dropout": 1.0}, ValueError, "`hidden_dropout` must be at least 0 and below 1, got 1.0"),
        ({"readout_dropout": "a lot"}, TypeError, "`readout_dropout` must be a number, got 'a lot'"),
        ({"residual": 1}, TypeError, "`residual` must be a bool, got 1"),
        ({"cell_type": "grru"}, ValueError, r"`cell_type` must be one of \['gru'.*got 'grru'"),
        ({"attention_type": "bilinear"}, ValueError, r"`attention_type` must be one of \['additive'.*got 'bilinear'"),
        ({"context_feeding": "none"}, ValueError, r"`context_feeding` must be one of \['parallel'.*got 'none'"),
        ({"bridge": "average"}, ValueError, r"`bridge` must be one of \['zeros'.*got 'average'"),
        ({"vocab_size": 10, "eos_token_id": 10}, ValueError, "`eos_token_id` must be a token .* 0 to 9 .*, got 10"),
        ({"pad_token_id": -1}, ValueError, "`pad_token_id` must be a token of the vocabulary, .*, got -1"),
        ({"bos_token_id": "<s>"}, TypeError, "`bos_token_id` must be an int, got '<s>'"),
        ({"unk_token_id": 8000}, ValueError, "`unk_token_id` must be a token of the vocabulary, .*, got 8000"),
        (
            {"recurrent_initialization": "zeros"},
            ValueError,
            r"`recurrent_initialization` must be one of \['orthogonal'",
        ),
        ({"forget_gate_bias": "1"}, TypeError, "`forget_gate_bias` must be a number, got '1'"),
        ({"forget_gate_bias": float("nan")}, ValueError, "`forget_gate_bias` must be .*, got nan"),
        ({"word_dropout": -0.1}, ValueError, "`word_dropout` must be at least 0 and below 1, got -0.1"),
        ({"attention_type": "aligned", "coverage": True}, ValueError, "`coverage` must be False"),
        ({"coverage_loss_weight": 1.0}, ValueError, "`coverage_loss_weight` needs `coverage=True`, got 1.0"),
        ({"location_kernel_size": 0}, ValueError, "`location_kernel_size` must be at least 1, got 0"),
        (
            {"attention_type": "multi_head", "num_attention_heads": 3},
            ValueError,
            r"`num_attention_heads` must divide `hidden_size` \(512\), got 3",
        ),
        ({"attention_type": None, "copy": True}, ValueError, "`coverage` and `copy` need attention"),
        ({"attention_type": None, "bridge": "zeros"}, ValueError, "leaves the decoder ignorant of the source"),
        (
            {"attention_type": None, "context_feeding": "input"},
            ValueError,
            "`context_feeding` must be left at its default, got 'input'",
        ),
        ({"copy": True, "source_vocab_size": 9}, ValueError, "`copy` needs one vocabulary .*`source_vocab_size=9`"),
        ({"bidirectional": 2}, TypeError, "`bidirectional` must be a bool or a list of bools, got 2"),
        ({"bidirectional": [True, False]}, ValueError, "`bidirectional` must have one entry per encoder layer"),
        ({"num_beams": 4}, TypeError, "no field `num_beams`, got 4: it is a setting of generation"),
        ({"hiden_size": 4}, TypeError, "no field `hiden_size`, got 4; did you mean `hidden_size`"),
        ({"label_smoothing": 1.0}, ValueError, "`label_smoothing` must be below 1, got 1.0"),
        (
            {"decoder_layers": 1, "context_feeding": "parallel"},
            ValueError,
            "`decoder_layers` must be at least 2, got 1",
        ),
        ({"attention_type": "dot"}, ValueError, "needs a memory as wide as the query"),
        ({"bridge": "copy"}, ValueError, "needs a unidirectional encoder with as many layers"),
        (
            {"bridge": "copy", "bidirectional": False, "encoder_layers": 3},
            ValueError,
            "needs a unidirectional encoder with as many layers",
        ),
    ],
)
def test_bad_values_are_refused_by_name(values, error, message):
    with pytest.raises(error, match=message):
        AttentionRnnConfig(**values)


def test_a_bad_value_set_later_is_not_saved(tmp_path):
    config = AttentionRnnConfig()
    config.hidden_size = 0
    with pytest.raises(ValueError, match="`hidden_size` must be at least 1, got 0"):
        config.save_pretrained(tmp_path)


def test_saved_equals_loaded(tmp_path):
    config = AttentionRnnConfig(vocab_size=50, source_vocab_size=40, encoder_layers=2, bidirectional=[True, False])
    config.save_pretrained(tmp_path)
    assert AttentionRnnConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_what_a_user_has_set_besides_the_fields_can_be_set_otherwise_on_loading(tmp_path):
    config = AttentionRnnConfig(vocab_size=9, embedding_size=4, hidden_size=4)
    config.note = "first"
    AttentionRnnForCausalLM(config).save_pretrained(tmp_path)
    assert AttentionRnnForCausalLM.from_pretrained(tmp_path, note="second").config.note == "second"
    loaded, unused = AttentionRnnConfig.from_pretrained(tmp_path, note="second", return_unused_kwargs=True)
    assert (loaded.note, unused) == ("second", {})


def test_memory_is_as_wide_as_the_last_encoder_layer():
    assert AttentionRnnConfig(hidden_size=8).memory_size == 16
    assert AttentionRnnConfig(hidden_size=8, encoder_layers=2, bidirectional=[True, False]).memory_size == 8


def test_every_named_cell_and_score_exists():
    assert set(CELL_STATES) == set(CELLS)
    assert set(ATTENTION_TYPES) == set(ATTENTIONS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_a_model_and_its_fields_can_be_overridden(name):
    config = AttentionRnnConfig.from_preset(name, vocab_size=11, embedding_size=8, hidden_size=12)
    assert (config.vocab_size, config.hidden_size) == (11, 12)
    assert {field: getattr(config, field) for field in PRESETS[name]} == {
        **PRESETS[name],
        "embedding_size": 8,
        "hidden_size": 12,
    }
    labels = torch.tensor([[5, 6, 2]])
    assert AttentionRnnForConditionalGeneration(config)(input_ids=labels, labels=labels).loss.isfinite()


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"`name` must be one of \['bahdanau2015'.*got 'bert'"):
        AttentionRnnConfig.from_preset("bert")


def test_numbers_of_numpy_are_numbers(tmp_path):
    config = AttentionRnnConfig(vocab_size=np.int64(9), hidden_size=np.int32(6), hidden_dropout=np.float32(0.5))
    assert [type(config.vocab_size), type(config.hidden_size), type(config.hidden_dropout)] == [int, int, float]
    config.save_pretrained(tmp_path)
    assert AttentionRnnConfig.from_pretrained(tmp_path).hidden_size == 6


@pytest.mark.parametrize(
    ("fields", "feeding"),
    [({}, "parallel"), ({"decoder_layers": 1}, "input"), ({"decoder_layers": 1, "attention_type": None}, "parallel")],
)
def test_the_feeding_suits_the_number_of_decoder_layers(fields, feeding):
    assert AttentionRnnConfig(**fields).context_feeding == feeding


def test_a_language_model_may_have_one_layer():
    model = AttentionRnnForCausalLM(AttentionRnnConfig(vocab_size=9, hidden_size=6, decoder_layers=1))
    assert model(torch.tensor([[5, 6]])).logits.shape == (1, 2, 9)


def test_a_field_is_known_by_its_former_name():
    config = AttentionRnnConfig(self_attention_window=5, hidden_size=6)
    assert config.past_attention_window == config.self_attention_window == 5
    assert "self_attention_window" not in config.to_dict()


KINDS = {
    AttentionRnnConfig: [
        "AttentionRnnModel",
        "AttentionRnnForConditionalGeneration",
        "AttentionRnnForCausalLM",
        "AttentionRnnForSequenceClassification",
        "AttentionRnnForQuestionAnswering",
        "AttentionRnnForTokenClassification",
    ],
    AttentionRnnSpeechConfig: [
        "AttentionRnnSpeechModel",
        "AttentionRnnForSpeechSeq2Seq",
        "AttentionRnnForAudioClassification",
    ],
    AttentionRnnCTCConfig: ["AttentionRnnForCTC"],
    AttentionRnnTimeSeriesConfig: [
        "AttentionRnnTimeSeriesModel",
        "AttentionRnnForTimeSeriesPrediction",
        "AttentionRnnForTimeSeriesClassification",
    ],
}


@pytest.mark.parametrize(("wanted", "name"), [(kind, name) for kind, names in KINDS.items() for name in names])
def test_a_model_is_made_of_its_own_kind_of_configuration_alone(wanted, name):
    model_class = getattr(attention_rnn, name)
    small = {"hidden_size": 6, "embedding_size": 4}
    for kind in KINDS:
        config = kind(prediction_length=2, context_length=3) if kind is AttentionRnnTimeSeriesConfig else kind(**small)
        if not issubclass(kind, wanted):
            message = f"`config` must be an {wanted.__name__}, got {kind.__name__}"
            with pytest.raises(TypeError, match=message):
                model_class(config)


def test_a_subclass_of_a_configuration_is_of_its_kind():
    class OwnConfig(AttentionRnnConfig):
        pass

    AttentionRnnForCausalLM(OwnConfig(vocab_size=11, hidden_size=6, embedding_size=4))


def test_labels_are_numbered_from_zero():
    with pytest.raises(ValueError, match="`id2label` must name the labels from 0 to 1, got \\[0, 5\\]"):
        AttentionRnnConfig(id2label={0: "a", 5: "b"})


def test_numbers_of_numpy_are_taken_at_any_time(tmp_path):
    config = AttentionRnnConfig(bidirectional=np.bool_(True), hidden_size=np.int64(8))
    config.hidden_size, config.hidden_dropout = np.int64(6), np.float32(0.5)
    config.save_pretrained(tmp_path)
    read = AttentionRnnConfig.from_pretrained(tmp_path)
    assert (read.bidirectional, read.hidden_size, read.hidden_dropout) == (True, 6, 0.5)
    assert [type(value) for value in (read.bidirectional, config.hidden_size)] == [bool, int]
