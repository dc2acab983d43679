"""
Architectures of papers, as fields of `AttentionRnnTimeSeriesConfig`.

The length of the forecast, the channels, the features and, for `patch_length`, the season are the user's.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Salinas et al. (2020), https://arxiv.org/abs/1704.04110: one network reads the past and writes the future, value
    # by value, knowing the value before. Differs: lagged values are not given.
    "deepar": {
        "cell_type": "lstm",
        "hidden_size": 40,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "share_layers": True,
        "patch_length": 1,
        "scaling": "mean",
        "decoding": "autoregressive",
        "attention_type": None,
        "copy": False,
        "distribution_output": "student_t",
        "hidden_dropout": 0.1,
        "readout_dropout": 0.0,
    },
    # Lin et al. (2023), https://arxiv.org/abs/2308.11200: patches, and all future ones at once from the final state.
    # Differs: position and channel are added rather than set side by side.
    "segrnn": {
        "hidden_size": 512,
        "share_layers": True,
        "patch_length": 48,
        "scaling": "last",
        "decoding": "parallel",
        "attention_type": None,
        "copy": False,
        "distribution_output": "point",
        "loss": "mae",
        "readout_dropout": 0.5,
    },
    # Lai et al. (2018), https://arxiv.org/abs/1703.07015, LSTNet-Attn: convolutions, a recurrent layer, attention over
    # its past states, and a linear highway. Differs: the windows of the convolution do not overlap, each series is
    # scaled by what is read of it, and the similarity is a dot product, not its cosine.
    "lstnet": {
        "hidden_size": 100,
        "patch_length": 6,
        "channel_mixing": True,
        "decoding": "parallel",
        "attention_type": "dot",
        "copy": False,
        "highway_length": 24,
        "distribution_output": "point",
        "loss": "mae",
        "readout_dropout": 0.2,
    },
    # Qin et al. (2017), https://arxiv.org/abs/1704.02971, the temporal attention and the recurrent decoder. Differs:
    # all channels are read together, without the attention over them.
    "da-rnn": {
        "cell_type": "lstm",
        "hidden_size": 64,
        "patch_length": 1,
        "channel_mixing": True,
        "decoding": "autoregressive",
        "attention_type": "additive",
        "copy": False,
        "distribution_output": "point",
        "loss": "mse",
        "readout_dropout": 0.0,
    },
    # Jaeger (2001): a random network that is never trained, whose readout `fit_readout` solves for. Differs: the
    # readout sees the state alone.
    "echo-state": {
        "cell_type": "echo_state",
        "hidden_size": 1000,
        "share_layers": True,
        "patch_length": 1,
        "decoding": "autoregressive",
        "attention_type": None,
        "copy": False,
        "distribution_output": "point",
        "loss": "mse",
        "readout_dropout": 0.0,
    },
}
