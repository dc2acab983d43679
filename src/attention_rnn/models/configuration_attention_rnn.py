"""Configuration of the attention RNNs that read tokens: one field per axis of the design."""

from collections.abc import Callable
from typing import Any, ClassVar

from .configuration_core import AttentionRnnCoreConfig
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

# The decoding state in transformers' arguments and outputs: since version 5.24, and before.
CACHE_NAMES = ("cache", "past_key_values")

# The name under which `cache.py` registers the cache layer of a recurrent layer.
LAYER_TYPE = "attention_rnn"
# The same for a recurrent layer whose past outputs are attended to, see `past_attention.py`.
LAYER_TYPE_WITH_PAST = "attention_rnn_with_past"

PAST_ATTENTION_TYPES = ("additive", "dot", "scaled_dot", "general", "concat")
CONTEXT_FEEDINGS = ("parallel", "input", "conditional", "output")
BRIDGES = ("zeros", "copy", "linear", "mean")


class AttentionRnnConfig(AttentionRnnCoreConfig):
    """
    Configuration of an [`AttentionRnnModel`]: an encoder-decoder of recurrent layers with attention (Bahdanau, Cho
    and Bengio, 2015, https://arxiv.org/abs/1409.0473; Luong, Pham and Manning, 2015,
    https://arxiv.org/abs/1508.04025). All arguments are keyword arguments; these and those of
    [`AttentionRnnCoreConfig`].

    Args:
        vocab_size (`int`, defaults to 8000):
            Number of target tokens; also of source tokens when `source_vocab_size` is `None`.
        source_vocab_size (`int`, *optional*):
            Number of source tokens when the source has a vocabulary and an embedding matrix of its own. `None`: source
            and target share one vocabulary and one embedding matrix.
        embedding_size (`int`, defaults to 256):
            Width of the token embeddings and of the attentional vector that `lm_head` reads.
        decoder_layers (`int`, defaults to 2):
            Number of recurrent layers of the decoder.
        coverage_loss_weight (`float`, defaults to 0.0):
            Weight of the coverage loss, which punishes attending to the same position again; See et al. (2017) use 1.
        context_feeding (`str`, *optional*):
            Where the context enters the decoder. `None` takes `"parallel"`, or `"input"` for a single decoder layer.
            `"parallel"`, which needs two decoder layers or more: the first layer reads the target alone and queries the
            memory, the context joins the input of the layers above (as in GNMT v2); training has no loop over
            attention. `"input"`: the last layer queries the memory and the last attentional vector joins the next
            input (input feeding, Luong et al., 2015, section 3.3). `"conditional"`: the first layer steps with the
            target, queries the memory, and steps again with the context (Sennrich et al., 2017). `"output"`: the last
            layer queries the memory and the context meets the readout alone. Of no effect without attention.
        past_attention_window (`int` or `"all"`, *optional*):
            How many of its own past outputs a causal language model attends to, see `past_attention.py`; the scores are
            those of `attention_type`. `None`: it has no attention, and a state of constant size. A number: that many,
            and the state is still of constant size. `"all"`: the state grows with the text.
        copy (`bool`, defaults to `False`):
            Whether the decoder may copy tokens of the source (pointer-generator, See et al., 2017). The source must
            share the target's vocabulary; tokens that are not in it can be copied too, see `copy_ids` of the models.
        bridge (`str`, defaults to `"linear"`):
            How the first decoder state is made. `"zeros"`; `"copy"`: the final states of the encoder, layer by layer
            (needs a unidirectional encoder with `decoder_layers` layers); `"linear"`: a tanh layer on the final state
            of the last encoder layer (Bahdanau et al., 2015, appendix A.2.2); `"mean"`: the same on the mean of the
            memory (Sennrich et al., 2017, https://arxiv.org/abs/1703.04357).
        embedding_dropout, readout_dropout (`float`, default to 0.1):
            Dropout on the embeddings; on the attentional vector, or the pooled vector of a classifier.
        word_dropout (`float`, defaults to 0.0):
            Probability that a whole token is dropped, that is, its embedding is zero.
        pooling_heads (`int`, defaults to 1):
            Heads of the self-attention that pools a text into one vector for classification, see `pooling.py`.
        pooling_penalty_weight (`float`, defaults to 0.0):
            Weight of the penalty in the loss for heads that look at the same tokens, see `pooling.py`.
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
        tie_word_embeddings (`bool`, defaults to `True`):
            Whether `lm_head` uses the target's embedding matrix.
        label_smoothing (`float`, defaults to 0.0):
            In training, the share of the probability of a target, or a class, that goes to all of them alike (Szegedy
            et al., 2016, https://arxiv.org/abs/1512.00567, section 7); with `copy`, to all tokens that the row can
            write or copy. Unlike the Trainer's `label_smoothing_factor` it leaves the other parts of the loss alone.
        logits_in_training (`bool`, defaults to `True`):
            Whether a training step with `labels` returns logits. `False` takes less time and much less memory: the loss
            makes the logits of a part of the tokens at a time and keeps none. They are returned all the same in
            evaluation, so for `compute_metrics`; without `labels`; and with `copy`.
        use_cache (`bool`, defaults to `True`):
            Whether the model returns the decoding state, so that the next call reads new tokens alone.
        pad_token_id, bos_token_id, eos_token_id, unk_token_id, decoder_start_token_id (`int`, default 0, 1, 2, 3, 1):
            Ids of the special tokens. The decoder reads `decoder_start_token_id` first, and `unk_token_id` for a copied
            token that the vocabulary lacks.

    Raises:
        ValueError, TypeError: a value is out of range, of the wrong type, or contradicts another one.

    Example:
        >>> from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration
        >>> config = AttentionRnnConfig(vocab_size=100, embedding_size=32, hidden_size=64)
        >>> model = AttentionRnnForConditionalGeneration(config)
    """

    model_type = "attention_rnn"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        *CACHE_NAMES,
        "encoder_last_hidden_state",
        "decoder_attentions",
        "encoder_attentions",
    ]
    attribute_map: ClassVar[dict[str, str]] = {
        "num_hidden_layers": "decoder_layers",
        "self_attention_window": "past_attention_window",  # its name before
    }

    vocab_size: int = 8000
    source_vocab_size: int | None = None
    embedding_size: int = 256
    decoder_layers: int = 2
    coverage_loss_weight: float = 0.0
    context_feeding: str | None = None
    past_attention_window: int | str | None = None
    copy: bool = False
    bridge: str = "linear"
    embedding_dropout: float = 0.1
    readout_dropout: float = 0.1
    word_dropout: float = 0.0
    pooling_heads: int = 1
    pooling_penalty_weight: float = 0.0
    character_size: int | None = None
    crf: bool = False
    constrained_decoding: bool = False
    intents: list[str] | None = None
    question_attention: bool = True
    tie_word_embeddings: bool = True
    label_smoothing: float = 0.0
    logits_in_training: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    unk_token_id: int | None = 3
    decoder_start_token_id: int | None = 1
    is_encoder_decoder: bool = True

    auto_classes: ClassVar[dict[str, str]] = AUTO_MAP
    choices: ClassVar[dict[str, Any]] = {
        **AttentionRnnCoreConfig.choices,
        "context_feeding": CONTEXT_FEEDINGS,
        "bridge": BRIDGES,
    }
    contradictions: ClassVar[list[tuple[Callable[[Any], bool], str]]] = [
        *AttentionRnnCoreConfig.contradictions,
        (
            lambda c: c.pad_token_id is not None and c.pad_token_id >= min(c.vocab_size, c.source_size),
            "`pad_token_id` must be below `source_vocab_size`, {c.source_vocab_size}, got {c.pad_token_id}.",
        ),
        (
            lambda c: (
                c.is_encoder_decoder and c.attention_type and c.context_feeding == "parallel" and c.decoder_layers < 2
            ),
            '`context_feeding="parallel"` feeds the context to the layers above the first, so `decoder_layers` must be '
            'at least 2, got {c.decoder_layers}. With one layer use `context_feeding="input"`.',
        ),
        (
            lambda c: c.attention_type is None and c.context_feeding != "parallel",
            "`attention_type=None` makes no context to feed, so `context_feeding` must be left at its default, got "
            "{c.context_feeding!r}.",
        ),
        (
            lambda c: c.attention_type is None and (c.coverage or c.copy),
            "`coverage` and `copy` need attention, got `attention_type=None`.",
        ),
        (
            lambda c: c.attention_type is None and c.bridge == "zeros",
            '`attention_type=None` with `bridge="zeros"` leaves the decoder ignorant of the source.',
        ),
        (
            lambda c: (
                c.is_encoder_decoder and c.attention_type in ("dot", "scaled_dot") and c.memory_size != c.hidden_size
            ),
            '`attention_type="{c.attention_type}"` needs a memory as wide as the query (`hidden_size` is '
            "{c.hidden_size}), but a bidirectional last encoder layer makes it {c.memory_size} wide. Use "
            '`attention_type="general"` or `bidirectional=False`.',
        ),
        (
            lambda c: c.coverage_loss_weight and not c.coverage,
            "`coverage_loss_weight` needs `coverage=True`, got {c.coverage_loss_weight}.",
        ),
        (
            lambda c: c.copy and c.source_vocab_size is not None,
            "`copy` needs one vocabulary for source and target (`source_vocab_size=None`), got "
            "`source_vocab_size={c.source_vocab_size}`.",
        ),
        (
            lambda c: c.bridge == "copy" and (set(c.encoder_directions) != {1} or c.encoder_layers != c.decoder_layers),
            '`bridge="copy"` needs a unidirectional encoder with as many layers as the decoder, got '
            "`bidirectional={c.bidirectional}`, `encoder_layers={c.encoder_layers}`, "
            '`decoder_layers={c.decoder_layers}`. Use `bridge="linear"` otherwise.',
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
            lambda c: c.label_smoothing >= 1,
            "`label_smoothing` must be below 1, got {c.label_smoothing}.",
        ),
        (
            lambda c: c.intents is not None and (len(set(c.intents)) != len(c.intents) or not c.intents),
            "`intents` must be different names, at least one, got {c.intents}.",
        ),
    ]

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "AttentionRnnConfig":
        """
        The architecture of a paper, see `presets.py` for what differs from it.

        Args:
            name: `"bahdanau2015"`, `"luong2015"`, `"nematus"`, `"gnmt"`, `"pointer-generator"`, `"sutskever2014"`, or
                `"tiny"` for small data on a small machine.
            overrides: fields to set otherwise; at least `vocab_size` as your tokenizer has it.
        """
        if name not in PRESETS:
            raise ValueError(f"`name` must be one of {list(PRESETS)}, got {name!r}.")
        return cls(**{**PRESETS[name], **overrides})

    def __post_init__(self, **kwargs: Any) -> None:
        if "self_attention_window" in kwargs:
            self.past_attention_window = kwargs.pop("self_attention_window")
        if self.context_feeding is None:
            one_layer = self.decoder_layers == 1 and self.attention_type is not None
            self.context_feeding = "input" if one_layer else "parallel"
        super().__post_init__(**kwargs)

    @property
    def layer_types(self) -> list[str]:
        """The cache layer of each decoder layer; `generate` builds its cache from these."""
        last = LAYER_TYPE if self.past_attention_window is None else LAYER_TYPE_WITH_PAST
        return [LAYER_TYPE] * (self.decoder_layers - 1) + [last]

    @property
    def source_size(self) -> int:
        """Number of source tokens."""
        return self.source_vocab_size or self.vocab_size

    def _check_range(self, name: str, value: float, least: float | None) -> None:
        if not name.endswith("_token_id"):
            super()._check_range(name, value, least)
        elif not 0 <= value < self.vocab_size:
            raise ValueError(
                f"`{name}` must be a token of the vocabulary, 0 to {self.vocab_size - 1} (`vocab_size` is "
                f"{self.vocab_size}), got {value}."
            )

    def _check_field(self, name: str, hint: Any, value: Any) -> None:
        super()._check_field(name, hint, value)
        if name == "eos_token_id" and isinstance(value, list):
            for token_id in value:
                self._check_range(name, token_id, least=0)
