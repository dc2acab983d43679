"""Configuration of the attention RNNs that read tokens: one field per axis of the design."""

from collections.abc import Callable
from typing import Any, ClassVar

from .configuration_decoder import LAYER_TYPE, LAYER_TYPE_WITH_PAST, AttentionRnnDecoderConfig
from .extensions import EXTENSIONS  # noqa: F401, registers what a checkpoint brings before its config is read
from .presets import PRESETS

# see `auto_classes` of the core
AUTO_MAP = {
    "AutoConfig": "configuration_attention_rnn.AttentionRnnConfig",
    "AutoModel": "modeling_attention_rnn.AttentionRnnModel",
    "AutoModelForSeq2SeqLM": "modeling_attention_rnn_seq2seq.AttentionRnnForConditionalGeneration",
    "AutoModelForCausalLM": "modeling_attention_rnn_causal.AttentionRnnForCausalLM",
    "AutoModelForSequenceClassification": (
        "modeling_attention_rnn_sequence_classification.AttentionRnnForSequenceClassification"
    ),
    "AutoModelForTokenClassification": (
        "modeling_attention_rnn_token_classification.AttentionRnnForTokenClassification"
    ),
    "AutoModelForQuestionAnswering": "modeling_attention_rnn_question_answering.AttentionRnnForQuestionAnswering",
}

PAST_ATTENTION_TYPES = ("additive", "dot", "scaled_dot", "general", "concat")


class AttentionRnnConfig(AttentionRnnDecoderConfig):
    """
    Configuration of an [`AttentionRnnModel`]: an encoder-decoder of recurrent layers with attention (Bahdanau, Cho
    and Bengio, 2015, https://arxiv.org/abs/1409.0473; Luong, Pham and Manning, 2015,
    https://arxiv.org/abs/1508.04025). All arguments are keyword arguments; these and those of
    [`AttentionRnnDecoderConfig`] and [`AttentionRnnCoreConfig`].

    Args:
        source_vocab_size (`int`, *optional*):
            Number of source tokens when the source has a vocabulary and an embedding matrix of its own. `None`: source
            and target share one vocabulary and one embedding matrix.
        past_attention_window (`int` or `"all"`, *optional*):
            How many of its own past outputs a causal language model attends to, see `past_attention.py`; the scores are
            those of `attention_type`. `None`: it has no attention, and a state of constant size. A number: that many,
            and the state is still of constant size. `"all"`: the state grows with the text.
        copy (`bool`, defaults to `False`):
            Whether the decoder may copy tokens of the source (pointer-generator, See et al., 2017). The source must
            share the target's vocabulary; tokens that are not in it can be copied too, see `copy_ids` of the models.
        character_size (`int`, *optional*):
            Width of the encoder that reads the characters of each word for a labelling model, see `fronts.py`.
            `None`: it knows words by their embeddings alone.
        crf (`bool`, defaults to `False`):
            Whether a labelling model scores whole sequences of labels, by a conditional random field, see `crf.py`.
        constrained_decoding (`bool`, defaults to `False`):
            Whether the field gives only sequences that the scheme of the labels allows: BIO, BIOES, BILOU or BMES.
        intents (`list[str]`, *optional*):
            Classes of whole texts that a labelling model tells besides the labels of tokens.
        question_attention (`bool`, defaults to `True`):
            Whether question answering lets the context and the question attend to each other, see `AttentionFlow`.
            Without it the context knows of the question by the state in which the encoder has read it.

    Raises:
        ValueError, TypeError: a value is out of range, of the wrong type, or contradicts another one.

    Example:
        >>> from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration
        >>> config = AttentionRnnConfig(vocab_size=100, embedding_size=32, hidden_size=64)
        >>> model = AttentionRnnForConditionalGeneration(config)
    """

    model_type = "attention_rnn"
    auto_classes = AUTO_MAP
    presets = PRESETS
    attribute_map: ClassVar[dict[str, str]] = {
        **AttentionRnnDecoderConfig.attribute_map,
        "self_attention_window": "past_attention_window",  # its name before
    }

    source_vocab_size: int | None = None
    past_attention_window: int | str | None = None
    copy: bool = False
    character_size: int | None = None
    crf: bool = False
    constrained_decoding: bool = False
    intents: list[str] | None = None
    question_attention: bool = True

    contradictions: ClassVar[list[tuple[Callable[[Any], bool], str]]] = [
        *AttentionRnnDecoderConfig.contradictions,
        (
            lambda c: c.pad_token_id is not None and c.pad_token_id >= min(c.vocab_size, c.source_size),
            "`pad_token_id` must be below `source_vocab_size`, {c.source_vocab_size}, got {c.pad_token_id}.",
        ),
        (
            lambda c: c.copy and c.source_vocab_size is not None,
            "`copy` needs one vocabulary for source and target (`source_vocab_size=None`), got "
            "`source_vocab_size={c.source_vocab_size}`.",
        ),
        (
            lambda c: isinstance(c.past_attention_window, str) and c.past_attention_window != "all",
            '`past_attention_window` must be a number, "all" or None, got {c.past_attention_window!r}.',
        ),
        (
            lambda c: c.past_attention_window and c.attention_type not in PAST_ATTENTION_TYPES,
            f"`past_attention_window` needs an `attention_type` among {list(PAST_ATTENTION_TYPES)}, got "
            "{c.attention_type!r}.",
        ),
        (
            lambda c: c.past_attention_window and c.hidden_size % 3 != 0,
            "`past_attention_window` splits the output into key, value and prediction, so `hidden_size` must be "
            "divisible by 3, got {c.hidden_size}.",
        ),
        (
            lambda c: c.constrained_decoding and not c.crf,
            "`constrained_decoding=True` needs `crf=True`, which scores sequences of labels.",
        ),
        (
            lambda c: c.label_smoothing and c.crf,
            "`label_smoothing` smoothes labels one by one, and `crf=True` scores sequences of them; got "
            "{c.label_smoothing}.",
        ),
        (
            lambda c: c.intents is not None and (len(set(c.intents)) != len(c.intents) or not c.intents),
            "`intents` must be different names, at least one, got {c.intents}.",
        ),
    ]

    def __post_init__(self, **kwargs: Any) -> None:
        if "self_attention_window" in kwargs:
            self.past_attention_window = kwargs.pop("self_attention_window")
        super().__post_init__(**kwargs)

    @property
    def layer_types(self) -> list[str]:
        """The cache layer of each decoder layer; `generate` builds its cache from these."""
        last = LAYER_TYPE if self.past_attention_window is None else LAYER_TYPE_WITH_PAST
        return [LAYER_TYPE] * (self.decoder_layers - 1) + [last]

    @property
    def shares_embeddings(self) -> bool:
        """Whether source and target have one embedding matrix, which the encoder holds: that of one vocabulary."""
        return self.source_vocab_size is None

    @property
    def source_size(self) -> int:
        """Number of source tokens."""
        return self.source_vocab_size or self.vocab_size
