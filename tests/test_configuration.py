import pytest

from attention_rnn import AttentionRnnConfig
from attention_rnn.models.attention import build_attention
from attention_rnn.models.cells import CELLS
from attention_rnn.models.configuration_attention_rnn import ATTENTION_TYPES, CELL_TYPES


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
        ({"bidirectional": 2}, TypeError, "`bidirectional` must be a bool or a list of bools, got 2"),
        ({"bidirectional": [True, False]}, ValueError, "`bidirectional` must have one entry per encoder layer"),
        ({"decoder_layers": 1}, ValueError, "`decoder_layers` must be at least 2, got 1"),
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


def test_memory_is_as_wide_as_the_last_encoder_layer():
    assert AttentionRnnConfig(hidden_size=8).memory_size == 16
    assert AttentionRnnConfig(hidden_size=8, encoder_layers=2, bidirectional=[True, False]).memory_size == 8


def test_every_named_cell_and_score_exists():
    assert set(CELL_TYPES) == set(CELLS)
    for attention_type in ATTENTION_TYPES:
        build_attention(attention_type, query_size=4, memory_size=4, attention_size=3)
