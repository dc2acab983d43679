"""What the configurations share whose models write tokens: the fields of the decoder and of the heads on top."""

from collections.abc import Callable
from typing import Any, ClassVar

from .configuration_core import OVERSMOOTHED, AttentionRnnCoreConfig

# The decoding state in transformers' arguments and outputs: since version 5.24, and before.
CACHE_NAMES = ("cache", "past_key_values")

# The name under which `cache.py` registers the cache layer of a recurrent layer.
LAYER_TYPE = "attention_rnn"
# The same for a recurrent layer whose past outputs are attended to, see `past_attention.py`.
LAYER_TYPE_WITH_PAST = "attention_rnn_with_past"

CONTEXT_FEEDINGS = ("parallel", "input", "conditional", "output")
BRIDGES = ("zeros", "copy", "linear", "mean")


class AttentionRnnDecoderConfig(AttentionRnnCoreConfig):
    """
    The fields of decoder and heads, which all configurations share whose models write tokens. All arguments are keyword
    arguments; these and those of [`AttentionRnnCoreConfig`].

    Args:
        vocab_size (`int`, defaults to 8000):
            Number of target tokens.
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
    """

    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        *CACHE_NAMES,
        "encoder_last_hidden_state",
        "decoder_attentions",
        "encoder_attentions",
    ]
    attribute_map: ClassVar[dict[str, str]] = {"num_hidden_layers": "decoder_layers"}

    vocab_size: int = 8000
    embedding_size: int = 256
    decoder_layers: int = 2
    coverage_loss_weight: float = 0.0
    context_feeding: str | None = None
    bridge: str = "linear"
    embedding_dropout: float = 0.1
    readout_dropout: float = 0.1
    word_dropout: float = 0.0
    pooling_heads: int = 1
    pooling_penalty_weight: float = 0.0
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

    choices: ClassVar[dict[str, Any]] = {
        **AttentionRnnCoreConfig.choices,
        "context_feeding": CONTEXT_FEEDINGS,
        "bridge": BRIDGES,
    }
    contradictions: ClassVar[list[tuple[Callable[[Any], bool], str]]] = [
        *AttentionRnnCoreConfig.contradictions,
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
            lambda c: c.bridge == "copy" and (set(c.encoder_directions) != {1} or c.encoder_layers != c.decoder_layers),
            '`bridge="copy"` needs a unidirectional encoder with as many layers as the decoder, got '
            "`bidirectional={c.bidirectional}`, `encoder_layers={c.encoder_layers}`, "
            '`decoder_layers={c.decoder_layers}`. Use `bridge="linear"` otherwise.',
        ),
        OVERSMOOTHED,
    ]

    def __post_init__(self, **kwargs: Any) -> None:
        if self.context_feeding is None:
            one_layer = self.decoder_layers == 1 and self.attention_type is not None
            self.context_feeding = "input" if one_layer else "parallel"
        super().__post_init__(**kwargs)

    @property
    def layer_types(self) -> list[str]:
        """The cache layer of each decoder layer; `generate` builds its cache from these."""
        return [LAYER_TYPE] * self.decoder_layers

    @property
    def shares_embeddings(self) -> bool:
        """Whether source and target have one embedding matrix, which the encoder holds."""
        return False

    @property
    def copy(self) -> bool:
        """Whether the decoder may copy the source, which must then consist of tokens."""
        return False

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
