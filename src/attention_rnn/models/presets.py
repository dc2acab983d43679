"""
Architectures of papers, as fields of `AttentionRnnConfig` and, of those that read speech, `AttentionRnnSpeechConfig`.

Vocabularies are the user's. In all of them the readout is one tanh layer as wide as the embeddings, which are tied to
`lm_head` where a preset does not say otherwise.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Bahdanau, Cho and Bengio (2015), https://arxiv.org/abs/1409.0473, RNNsearch. Differs: the readout is tanh rather
    # than maxout, and it is the attentional vector, not the context alone, that joins the next input; the first state
    # is made of both directions' final states.
    "bahdanau2015": {
        "embedding_size": 620,
        "hidden_size": 1000,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "attention_type": "additive",
        "context_feeding": "input",
        "bridge": "linear",
        "tie_word_embeddings": False,
        "embedding_dropout": 0.0,
        "hidden_dropout": 0.0,
        "readout_dropout": 0.5,
    },
    # Luong, Pham and Manning (2015), https://arxiv.org/abs/1508.04025, local-p with the general score and input
    # feeding. Differs: local weights are normalised to sum to one; the readout sees the last token too; the paper
    # reverses the source.
    "luong2015": {
        "cell_type": "lstm",
        "recurrent_initialization": "uniform",
        "forget_gate_bias": 0.0,
        "embedding_size": 1000,
        "hidden_size": 1000,
        "encoder_layers": 4,
        "decoder_layers": 4,
        "bidirectional": False,
        "attention_type": "local",
        "local_window_size": 10,
        "context_feeding": "input",
        "bridge": "copy",
        "tie_word_embeddings": False,
        "embedding_dropout": 0.0,
        "hidden_dropout": 0.2,
        "readout_dropout": 0.0,
    },
    # Sennrich et al. (2017), https://arxiv.org/abs/1703.04357: the conditional GRU with attention. Differs: recurrent
    # connections are dropped entry by entry of the matrix rather than unit by unit.
    "nematus": {
        "embedding_size": 512,
        "hidden_size": 1024,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "attention_type": "additive",
        "attention_size": 2048,
        "context_feeding": "conditional",
        "bridge": "mean",
        "embedding_dropout": 0.2,
        "hidden_dropout": 0.2,
        "readout_dropout": 0.2,
        "recurrent_dropout": 0.2,
        "variational_dropout": True,
    },
    # Wu et al. (2016), https://arxiv.org/abs/1609.08144. Differs: the residual connections begin where two layers have
    # the same width, the decoder begins with a tanh layer on the encoder's final state instead of zeros, and the
    # readout is one layer more.
    "gnmt": {
        "cell_type": "lstm",
        "recurrent_initialization": "uniform",
        "forget_gate_bias": 0.0,
        "embedding_size": 1024,
        "hidden_size": 1024,
        "encoder_layers": 8,
        "decoder_layers": 8,
        "bidirectional": [True] + [False] * 7,
        "attention_type": "additive",
        "context_feeding": "parallel",
        "residual": True,
        "tie_word_embeddings": False,
        "embedding_dropout": 0.2,
        "hidden_dropout": 0.2,
        "readout_dropout": 0.2,
    },
    # See, Liu and Manning (2017), https://arxiv.org/abs/1704.04368, with coverage. Differs: coverage is trained from
    # the start, and the attentional vector rather than the context joins the next input.
    "pointer-generator": {
        "cell_type": "lstm",
        "embedding_size": 128,
        "hidden_size": 256,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "attention_type": "additive",
        "attention_size": 512,
        "coverage": True,
        "coverage_loss_weight": 1.0,
        "context_feeding": "input",
        "copy": True,
        "bridge": "linear",
        "embedding_dropout": 0.0,
        "hidden_dropout": 0.0,
        "readout_dropout": 0.0,
    },
    # Sutskever, Vinyals and Le (2014), https://arxiv.org/abs/1409.3215: no attention, the yardstick for those that have
    # it. Differs: the paper reverses the source, and has no layer between the last state and the output.
    "sutskever2014": {
        "cell_type": "lstm",
        "recurrent_initialization": "uniform",
        "forget_gate_bias": 0.0,
        "embedding_size": 1000,
        "hidden_size": 1000,
        "encoder_layers": 4,
        "decoder_layers": 4,
        "bidirectional": False,
        "attention_type": None,
        "bridge": "copy",
        "tie_word_embeddings": False,
        "embedding_dropout": 0.0,
        "hidden_dropout": 0.0,
        "readout_dropout": 0.0,
    },
    # For a few thousand pairs of short strings on a laptop.
    "tiny": {
        "embedding_size": 64,
        "hidden_size": 128,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "embedding_dropout": 0.2,
        "hidden_dropout": 0.2,
        "readout_dropout": 0.2,
    },
}

SPEECH_PRESETS: dict[str, dict[str, Any]] = {
    # Chan et al. (2016), https://arxiv.org/abs/1508.01211: a pyramid of bidirectional LSTMs. Differs: the decoder is as
    # wide as one direction of the encoder, the attention has one hidden layer, and CTC is at hand (`ctc_weight`).
    "las": {
        "cell_type": "lstm",
        "recurrent_initialization": "uniform",
        "num_mel_bins": 40,
        "hidden_size": 256,
        "embedding_size": 256,
        "encoder_layers": 4,
        "decoder_layers": 2,
        "subsampling_channels": [],
        "time_reduction": [1, 2, 2, 2],
        "attention_type": "additive",
        "context_feeding": "input",
        "ctc_weight": 0.0,
        "decoding_ctc_weight": 0.0,
        "apply_spec_augment": False,
        "hidden_dropout": 0.0,
    },
    # Amodei et al. (2016), https://arxiv.org/abs/1512.02595, for `AttentionRnnForCTC`. Differs: layers are normalised
    # by layer normalisation rather than in the batch, all filters span 11 frames and bands, and there are two
    # convolutions.
    "deepspeech2": {
        "num_mel_bins": 80,
        "hidden_size": 800,
        "encoder_layers": 5,
        "layer_norm": True,
        "subsampling_channels": [32, 32],
        "subsampling_kernel_size": 11,
        "subsampling_strides": [2, 1],
        "apply_spec_augment": False,
    },
    # de Andrade et al. (2018), https://arxiv.org/abs/1808.08929, for `AttentionRnnForAudioClassification`. Differs: the
    # filters span mel bands too, and one linear layer follows the pooled vector.
    "kws-att-rnn": {
        "cell_type": "lstm",
        "hidden_size": 64,
        "encoder_layers": 2,
        "is_encoder_decoder": False,
        "subsampling_channels": [10, 1],
        "subsampling_kernel_size": 5,
        "subsampling_strides": [1, 1],
        "pooling": "query",
    },
    # The recipe of SpeechBrain (Ravanelli et al., 2021, https://arxiv.org/abs/2106.04624) for LibriSpeech. Differs: no
    # pooling over time beside the strides, no layers between the recurrent ones and the decoder, a decoder as wide as
    # one direction of the encoder, and filters of the location over 101 positions rather than 100.
    "speechbrain-crdnn": {
        "cell_type": "lstm",
        "num_mel_bins": 40,
        "hidden_size": 1024,
        "embedding_size": 128,
        "encoder_layers": 4,
        "decoder_layers": 1,
        "subsampling_channels": [128, 256],
        "attention_type": "location",
        "location_channels": 10,
        "location_kernel_size": 101,
        "attention_size": 1024,
        "context_feeding": "input",
        "ctc_weight": 0.5,
        "hidden_dropout": 0.15,
    },
}
