"""Configuration of the attention RNNs that read speech."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

from .configuration_core import NOT_ALIGNED
from .configuration_decoder import AttentionRnnDecoderConfig
from .extensions import EXTENSIONS  # noqa: F401, registers what a checkpoint brings before its config is read
from .presets import SPEECH_PRESETS

AUTO_MAP = {
    "AutoConfig": "configuration_attention_rnn_speech.AttentionRnnSpeechConfig",
    "AutoModel": "modeling_attention_rnn_speech.AttentionRnnSpeechModel",
    "AutoModelForSpeechSeq2Seq": "modeling_attention_rnn_speech_seq2seq.AttentionRnnForSpeechSeq2Seq",
    "AutoModelForAudioClassification": (
        "modeling_attention_rnn_audio_classification.AttentionRnnForAudioClassification"
    ),
}

FREQUENCY_STRIDE = 2  # of each convolution over the mel bands
POOLINGS = ("attention", "query", "last")
_MAY_BE_ZERO = ("mask_time_min_masks", "mask_feature_min_masks", "lookahead")


class AttentionRnnSpeechConfig(AttentionRnnDecoderConfig):
    """
    Configuration of the models that read log-mel features of speech: [`AttentionRnnForSpeechSeq2Seq`] (Listen, Attend
    and Spell, Chan et al., 2016, https://arxiv.org/abs/1508.01211, with joint CTC, Watanabe et al., 2017) and
    [`AttentionRnnForAudioClassification`]. All arguments are keyword arguments; these and those of
    [`AttentionRnnDecoderConfig`] and [`AttentionRnnCoreConfig`], of which some have other defaults.

    Args:
        num_mel_bins (`int`, defaults to 80):
            Mel bands of a frame, `feature_size` of the feature extractor.
        sampling_rate (`int`, defaults to 16000), hop_length (`int`, defaults to 160):
            Samples per second of the audio, and from one frame to the next, as the feature extractor has them. Times
            are told by them.
        subsampling_channels, subsampling_strides (`list[int]`, default to `[32, 32]` and `[2, 2]`):
            Filters of each convolution in front of the recurrent layers, and how many frames it goes on at a time.
            Empty: the recurrent layers read the frames.
        subsampling_kernel_size (`int`, defaults to 3):
            Frames, and mel bands, that a filter spans. Odd.
        causal (`bool`, defaults to `False`):
            Whether a convolution sees no later frame, as a stream needs it.
        time_reduction (`list[int]`, *optional*):
            How many neighbours each recurrent layer of the encoder reads as one (the pyramid of Listen, Attend and
            Spell, `[1, 2, 2]` or the like). `None`: each layer reads them one by one.
        lookahead (`int`, defaults to 0):
            How many later positions the memory's positions also see, by a row convolution behind the last layer (Deep
            Speech 2, Amodei et al., 2016, https://arxiv.org/abs/1512.02595). What reads forwards alone needs it to hear
            a word to its end before it writes it; a stream writes so much later.
        ctc_weight (`float`, defaults to 0.3):
            Weight of the CTC loss of the encoder, beside that of the decoder (Watanabe et al., 2017). The blank is
            `pad_token_id`. 0: there is no CTC.
        decoding_ctc_weight (`float`, defaults to 0.8):
            Weight of the CTC score in `generate()`.
        emission_delay (`float`, defaults to 0.0):
            By how many seconds CTC hears a token later than it is said, which is taken off the times that the model
            tells; `fit_emission_delay` finds it.
        attention_window (`int`, *optional*):
            In training and decoding, a token attends to that many positions up to the one where CTC has seen it, and no
            later one, as a stream needs it (triggered attention, Moritz et al., 2019). `None`: to all.
        pooling (`str`, defaults to `"attention"`):
            How a classifier makes one vector of a recording: `"attention"`, see `pooling.py`; `"query"`: attention
            whose query is made of the position in the middle (de Andrade et al., 2018,
            https://arxiv.org/abs/1808.08929); `"last"`: the last state of each direction.
        apply_spec_augment (`bool`, defaults to `True`):
            Whether training masks spans of time and of mel bands (Park et al., 2019,
            https://arxiv.org/abs/1904.08779). What follows is named as in Whisper.
        mask_time_prob, mask_feature_prob (`float`, default to 0.05 and 0.1):
            Share of the frames, and of the bands, that spans would mask if none overlapped.
        mask_time_length, mask_feature_length (`int`, default to 10 and 8):
            Length of the longest span, in frames and in bands; spans are of any length up to it.
        mask_time_min_masks, mask_feature_min_masks (`int`, default to 2 and 2):
            The least number of spans.

    Raises:
        ValueError, TypeError: a value is out of range, of the wrong type, or contradicts another one.

    Example:
        >>> from attention_rnn import AttentionRnnForSpeechSeq2Seq, AttentionRnnSpeechConfig
        >>> config = AttentionRnnSpeechConfig(vocab_size=32, hidden_size=128)
        >>> model = AttentionRnnForSpeechSeq2Seq(config)
    """

    model_type = "attention_rnn_speech"
    auto_classes = AUTO_MAP
    presets = SPEECH_PRESETS

    vocab_size: int = 64
    hidden_size: int = 256
    embedding_size: int = 128
    encoder_layers: int = 2
    decoder_layers: int = 1
    attention_type: str | None = "location"
    num_mel_bins: int = 80
    sampling_rate: int = 16000
    hop_length: int = 160
    subsampling_channels: list[int] | None = None
    subsampling_strides: list[int] | None = None
    subsampling_kernel_size: int = 3
    causal: bool = False
    time_reduction: list[int] | None = None
    lookahead: int = 0
    ctc_weight: float = 0.3
    decoding_ctc_weight: float = 0.8
    emission_delay: float = 0.0
    attention_window: int | None = None
    pooling: str = "attention"
    apply_spec_augment: bool = True
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.1
    mask_feature_length: int = 8
    mask_feature_min_masks: int = 2

    choices: ClassVar[dict[str, Any]] = {**AttentionRnnDecoderConfig.choices, "pooling": POOLINGS}
    contradictions: ClassVar[list[tuple[Callable[[Any], bool], str]]] = [
        *AttentionRnnDecoderConfig.contradictions,
        NOT_ALIGNED,
        (
            lambda c: len(c.subsampling_channels) != len(c.subsampling_strides),
            "`subsampling_strides` must have one entry per convolution (`subsampling_channels` is "
            "{c.subsampling_channels}), got {c.subsampling_strides}.",
        ),
        (
            lambda c: min([*c.subsampling_channels, *c.subsampling_strides, *c.time_reduction]) < 1,
            "`subsampling_channels`, `subsampling_strides` and `time_reduction` must be at least 1, got "
            "{c.subsampling_channels}, {c.subsampling_strides} and {c.time_reduction}.",
        ),
        (
            lambda c: c.subsampling_kernel_size % 2 == 0,
            "`subsampling_kernel_size` must be odd, got {c.subsampling_kernel_size}.",
        ),
        (
            lambda c: len(c.time_reduction) != c.encoder_layers,
            "`time_reduction` must have one entry per encoder layer (`encoder_layers` is {c.encoder_layers}), got "
            "{c.time_reduction}.",
        ),
        (
            lambda c: c.ctc_weight >= 1,
            "`ctc_weight` must be below 1, got {c.ctc_weight}: without a decoder use `AttentionRnnForCTC`.",
        ),
        (
            lambda c: c.decoding_ctc_weight > 1,
            "`decoding_ctc_weight` must be from 0 to 1, got {c.decoding_ctc_weight}.",
        ),
        (
            lambda c: c.ctc_weight > 0 and c.pad_token_id is None,
            "`pad_token_id` must be set, as the blank of CTC, got None.",
        ),
        (
            lambda c: c.attention_window is not None and c.is_encoder_decoder and not c.ctc_weight,
            "`attention_window` needs `ctc_weight`, which says where the tokens are, got 0.",
        ),
        (
            lambda c: c.attention_window is not None and c.is_encoder_decoder and c.bridge != "zeros",
            '`attention_window` needs `bridge="zeros"`, since a stream has no final state to begin with, got '
            "{c.bridge!r}.",
        ),
        (
            lambda c: c.attention_window is not None and c.attention_type in (None, "local"),
            "`attention_window` needs an attention over the whole memory, got `attention_type={c.attention_type!r}`.",
        ),
    ]

    def __post_init__(self, **kwargs: Any) -> None:
        if self.subsampling_channels is None:
            self.subsampling_channels = [32, 32]
        if self.subsampling_strides is None and isinstance(self.subsampling_channels, list):
            self.subsampling_strides = [2] * len(self.subsampling_channels)
        if self.time_reduction is None and isinstance(self.encoder_layers, int):
            self.time_reduction = [1] * self.encoder_layers
        super().__post_init__(**kwargs)

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one position of the memory to the next."""
        return self.hop_length * math.prod([*self.subsampling_strides, *self.time_reduction])  # type: ignore[misc]

    def _check_range(self, name: str, value: float, least: float | None) -> None:
        super()._check_range(name, value, 0 if name in _MAY_BE_ZERO else least)


class AttentionRnnCTCConfig(AttentionRnnSpeechConfig):
    """
    Configuration of [`AttentionRnnForCTC`]: the fields of [`AttentionRnnSpeechConfig`], of which those of the decoder
    are of no effect. It is a model type of its own, since a pipeline tells by that how a model is decoded.
    """

    model_type = "attention_rnn_ctc"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_attention_rnn_speech.AttentionRnnCTCConfig",
        "AutoModelForCTC": "modeling_attention_rnn_ctc.AttentionRnnForCTC",
    }

    is_encoder_decoder: bool = False
