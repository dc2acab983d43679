"""Configuration of the attention RNN family: one field per axis of the design."""

from typing import Any, ClassVar

from transformers import GenerationConfig, PreTrainedConfig

from .presets import PRESETS

# Which class of which file opens a checkpoint through which Auto class. It is written into every saved
# `config.json`, so that any head can be loaded from the code that travels with the checkpoint.
AUTO_MAP = {
    "AutoConfig": "configuration_attention_rnn.AttentionRnnConfig",
    "AutoModel": "modeling_attention_rnn.AttentionRnnModel",
    "AutoModelForSeq2SeqLM": "modeling_attention_rnn.AttentionRnnForConditionalGeneration",
    "AutoModelForCausalLM": "modeling_attention_rnn_causal.AttentionRnnForCausalLM",
    "AutoModelForSequenceClassification": "modeling_attention_rnn_classification.AttentionRnnForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_attention_rnn_labelling.AttentionRnnForTokenClassification",
    "AutoModelForQuestionAnswering": "modeling_attention_rnn_question_answering.AttentionRnnForQuestionAnswering",
}

# The decoding state in transformers' arguments and outputs: since version 5.24, and before.
CACHE_NAMES = ("cache", "past_key_values")

# The name under which `cache.py` registers the cache layer of a recurrent layer.
LAYER_TYPE = "attention_rnn"
# The same for a recurrent layer whose past outputs are attended to, see `self_attention.py`.
LAYER_TYPE_WITH_PAST = "attention_rnn_with_past"

CELL_TYPES = ("gru", "lstm", "rnn_tanh", "rnn_relu")
RECURRENT_INITIALIZATIONS = ("orthogonal", "xavier", "uniform")
ATTENTION_TYPES = ("additive", "dot", "scaled_dot", "general", "concat", "multi_head", "location", "local")
SELF_ATTENTION_TYPES = ("additive", "dot", "scaled_dot", "general", "concat")
RECURRENCE_BACKENDS = ("auto", "reference")
CONTEXT_FEEDINGS = ("parallel", "input", "conditional", "output")
BRIDGES = ("zeros", "copy", "linear", "mean")

LARGEST_NUMBER = 3.4e38  # of single precision

# What transformers writes into a config, or reads from one, that is neither a field nor a property of its class.
_OF_TRANSFORMERS = {
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "distributed_config",
    "experts_implementation",
    "fusion_config",
    "model_type",
    "output_attentions",
    "per_layer_config",
    "prefix",
    "quantization_config",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
}


class AttentionRnnConfig(PreTrainedConfig):
    """
    Configuration of an [`AttentionRnnModel`]: an encoder-decoder of recurrent layers with attention (Bahdanau, Cho
    and Bengio, 2015, https://arxiv.org/abs/1409.0473; Luong, Pham and Manning, 2015,
    https://arxiv.org/abs/1508.04025). All arguments are keyword arguments.

    Args:
        vocab_size (`int`, defaults to 8000):
            Number of target tokens; also of source tokens when `source_vocab_size` is `None`.
        source_vocab_size (`int`, *optional*):
            Number of source tokens when the source has a vocabulary and an embedding matrix of its own. `None`: source
            and target share one vocabulary and one embedding matrix.
        embedding_size (`int`, defaults to 256):
            Width of the token embeddings and of the attentional vector that `lm_head` reads.
        hidden_size (`int`, defaults to 512):
            Width of the recurrent state in the decoder, and per direction in the encoder.
        encoder_layers (`int`, defaults to 1), decoder_layers (`int`, defaults to 2):
            Number of recurrent layers. `context_feeding="parallel"` needs two decoder layers or more.
        bidirectional (`bool` or `list[bool]`, defaults to `True`):
            Whether the encoder layers read in both directions; a list says it layer by layer. The memory, i.e. the
            output of the last encoder layer, is `2 * hidden_size` wide when that layer is bidirectional.
        cell_type (`str`, defaults to `"gru"`):
            The recurrent cell, see `cells.py`: `"gru"`, `"lstm"`, `"rnn_tanh"` or `"rnn_relu"`.
        recurrent_initialization (`str`, defaults to `"orthogonal"`):
            Initial recurrent matrices: `"orthogonal"`, `"xavier"`, or `"uniform"` for everything in the cell as in
            torch's own modules. See `Cell.initialize`.
        forget_gate_bias (`float`, defaults to 1.0):
            What is added to the initial bias of the forget gate of an LSTM.
        cell_layer_norm (`bool`, defaults to `False`):
            Layer normalisation of the products inside the cell (Ba et al., 2016).
        recurrence_backend (`str`, defaults to `"auto"`):
            How a whole sequence goes through a cell, see `recurrence.py`: `"auto"` takes the fastest way that serves,
            `"reference"` always the plain loop, to compare.
        attention_type (`str`, *optional*, defaults to `"additive"`):
            The score function, see `attention.py`: `"additive"`, `"concat"`, `"general"`, `"multi_head"`, `"location"`,
            `"local"`, and `"dot"` and `"scaled_dot"`, which need a memory as wide as `hidden_size`. `None`: no
            attention; the decoder knows the source from its first state alone (Sutskever et al., 2014,
            https://arxiv.org/abs/1409.3215).
        attention_size (`int`, *optional*):
            Width of the hidden layer of `"additive"`, `"concat"` and `"location"`; `None` takes `hidden_size`.
        num_attention_heads (`int`, defaults to 4):
            Heads of `"multi_head"`; they must divide `hidden_size`.
        location_channels (`int`, defaults to 10), location_kernel_size (`int`, defaults to 15):
            Filters, and positions that a filter spans, of the convolution over the last weights in `"location"`.
        local_window_size (`int`, defaults to 5):
            How many positions on either side of its centre `"local"` sees: D of Luong et al. (2015).
        coverage (`bool`, defaults to `False`):
            Whether the attention knows how much it has attended to each position so far (See et al., 2017).
        coverage_loss_weight (`float`, defaults to 0.0):
            Weight of the coverage loss, which punishes attending to the same position again; See et al. (2017) use 1.
        context_feeding (`str`, defaults to `"parallel"`):
            Where the context enters the decoder. `"parallel"`: the first layer reads the target alone and queries the
            memory, the context joins the input of the layers above (as in GNMT v2); training has no loop over
            attention. `"input"`: the last layer queries the memory and the last attentional vector joins the next
            input (input feeding, Luong et al., 2015, section 3.3). `"conditional"`: the first layer steps with the
            target, queries the memory, and steps again with the context (Sennrich et al., 2017). `"output"`: the last
            layer queries the memory and the context meets the readout alone. Of no effect without attention.
        self_attention_window (`int` or `"all"`, *optional*):
            How many of its own past outputs a causal language model attends to, see `self_attention.py`; the scores are
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
        residual (`bool`, defaults to `False`):
            Add the input of a layer to its output where both have the same width.
        layer_norm (`bool`, defaults to `False`):
            Layer normalisation of the input of each recurrent layer.
        embedding_dropout, hidden_dropout, readout_dropout (`float`, default to 0.1):
            Dropout on the embeddings; on the output of each recurrent layer (the memory and the query included); on
            the attentional vector, or the pooled vector of a classifier.
        word_dropout (`float`, defaults to 0.0):
            Probability that a whole token is dropped, that is, its embedding is zero.
        recurrent_dropout (`float`, defaults to 0.0):
            Probability that an entry of a recurrent matrix is dropped, for a whole sequence (Merity et al., 2018).
        variational_dropout (`bool`, defaults to `False`):
            Whether the three dropouts above drop the same units at every step (Gal and Ghahramani, 2016).
        pooling_heads (`int`, defaults to 1):
            Heads of the self-attention that pools a text into one vector for classification, see `pooling.py`.
        pooling_penalty_weight (`float`, defaults to 0.0):
            Weight of the penalty in the loss for heads that look at the same tokens, see `pooling.py`.
        character_size (`int`, *optional*):
            Width of the encoder that reads the characters of each word for a labelling model, see `characters.py`.
            `None`: it knows words by their embeddings alone.
        crf (`bool`, defaults to `False`):
            Whether a labelling model scores whole sequences of labels, by a conditional random field, see `crf.py`.
        constrained_decoding (`bool`, defaults to `False`):
            Whether the field gives only sequences that the scheme of the labels allows: BIO, BIOES, BILOU or BMES.
        intents (`list[str]`, *optional*):
            Classes of whole texts that a labelling model tells besides the labels of tokens.
        question_attention (`bool`, defaults to `True`):
            Whether question answering lets the context and the question attend to each other, see `match.py`. Without
            it the context knows of the question by the state in which the encoder has read it.
        tie_word_embeddings (`bool`, defaults to `True`):
            Whether `lm_head` uses the target's embedding matrix.
        logits_in_training (`bool`, defaults to `True`):
            Whether a training step with `labels` returns logits. `False` takes less time and much less memory: the loss
            makes the logits of a part of the tokens at a time and keeps none. They are returned all the same in
            evaluation, so for `compute_metrics`; without `labels`, so with the Trainer's own label smoothing, which
            takes the labels away; and with `copy`.
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
    attribute_map: ClassVar[dict[str, str]] = {"num_hidden_layers": "decoder_layers"}

    vocab_size: int = 8000
    source_vocab_size: int | None = None
    embedding_size: int = 256
    hidden_size: int = 512
    encoder_layers: int = 1
    decoder_layers: int = 2
    bidirectional: bool | list[bool] = True
    cell_type: str = "gru"
    recurrent_initialization: str = "orthogonal"
    forget_gate_bias: float = 1.0
    cell_layer_norm: bool = False
    recurrence_backend: str = "auto"
    attention_type: str | None = "additive"
    attention_size: int | None = None
    num_attention_heads: int = 4
    location_channels: int = 10
    location_kernel_size: int = 15
    local_window_size: int = 5
    coverage: bool = False
    coverage_loss_weight: float = 0.0
    context_feeding: str = "parallel"
    self_attention_window: int | str | None = None
    copy: bool = False
    bridge: str = "linear"
    residual: bool = False
    layer_norm: bool = False
    embedding_dropout: float = 0.1
    hidden_dropout: float = 0.1
    readout_dropout: float = 0.1
    word_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    variational_dropout: bool = False
    pooling_heads: int = 1
    pooling_penalty_weight: float = 0.0
    character_size: int | None = None
    crf: bool = False
    constrained_decoding: bool = False
    intents: list[str] | None = None
    question_attention: bool = True
    tie_word_embeddings: bool = True
    logits_in_training: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    unk_token_id: int | None = 3
    decoder_start_token_id: int | None = 1
    is_encoder_decoder: bool = True

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
        self._check_others(kwargs)
        self.validate()
        super().__post_init__(**kwargs)

    @property
    def layer_types(self) -> list[str]:
        """The cache layer of each decoder layer; `generate` builds its cache from these."""
        last = LAYER_TYPE if self.self_attention_window is None else LAYER_TYPE_WITH_PAST
        return [LAYER_TYPE] * (self.decoder_layers - 1) + [last]

    @property
    def encoder_directions(self) -> list[int]:
        """Number of directions, 1 or 2, of each encoder layer."""
        if isinstance(self.bidirectional, bool):
            return [1 + self.bidirectional] * self.encoder_layers
        return [1 + both for both in self.bidirectional]

    @property
    def memory_size(self) -> int:
        """Width of the memory, that is, of the last encoder layer's output."""
        return self.encoder_directions[-1] * self.hidden_size

    @property
    def context_size(self) -> int:
        """Width of the context that the attention returns; zero without attention."""
        return 0 if self.attention_type is None else self.memory_size

    def validate(self) -> None:
        """Check every field; done at construction and, by transformers, before saving."""
        # the `@strict` of huggingface_hub would raise errors that are neither ValueError nor TypeError, and it knows
        # no `layer_types` but those of transformers itself
        for name in (
            "vocab_size",
            "embedding_size",
            "hidden_size",
            "encoder_layers",
            "decoder_layers",
            "num_attention_heads",
            "location_channels",
            "location_kernel_size",
            "local_window_size",
            "pooling_heads",
        ):
            _check_size(name, getattr(self, name))
        for name in ("source_vocab_size", "attention_size", "character_size"):
            if getattr(self, name) is not None:
                _check_size(name, getattr(self, name))
        for name in (
            "cell_layer_norm",
            "coverage",
            "copy",
            "residual",
            "layer_norm",
            "variational_dropout",
            "crf",
            "constrained_decoding",
            "question_attention",
            "tie_word_embeddings",
            "logits_in_training",
            "use_cache",
            "is_encoder_decoder",
        ):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}` must be a bool, got {getattr(self, name)!r}.")
        for name, allowed in (
            ("cell_type", CELL_TYPES),
            ("recurrent_initialization", RECURRENT_INITIALIZATIONS),
            ("attention_type", (*ATTENTION_TYPES, None)),
            ("recurrence_backend", RECURRENCE_BACKENDS),
            ("context_feeding", CONTEXT_FEEDINGS),
            ("bridge", BRIDGES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {list(allowed)}, got {getattr(self, name)!r}.")
        for name in (
            "embedding_dropout",
            "hidden_dropout",
            "readout_dropout",
            "word_dropout",
            "recurrent_dropout",
        ):
            _check_number(name, getattr(self, name), below=1)
        _check_number("coverage_loss_weight", self.coverage_loss_weight)
        _check_number("pooling_penalty_weight", self.pooling_penalty_weight)
        _check_number("forget_gate_bias", self.forget_gate_bias, least=None)
        for name in ("pad_token_id", "bos_token_id", "unk_token_id", "decoder_start_token_id"):
            self._check_token_id(name, getattr(self, name))
        eos_token_ids = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        for token_id in eos_token_ids:
            self._check_token_id("eos_token_id", token_id)
        sizes = [self.vocab_size, self.source_vocab_size or self.vocab_size]
        if self.pad_token_id is not None and self.pad_token_id >= min(sizes):
            raise ValueError(
                f"`pad_token_id` must be below `source_vocab_size`, {self.source_vocab_size}, got {self.pad_token_id}."
            )
        self._check_directions()
        self._check_contradictions()
        self._check_self_attention()
        self._check_labelling()

    def _check_others(self, others: dict[str, Any]) -> None:
        """What is given besides the fields. transformers would keep all of it, and a wrong model would come of it."""
        if others.get("model_type", self.model_type) != self.model_type:
            raise ValueError(
                f"`model_type` must be {self.model_type!r}, got the config of a model of the type "
                f"{others['model_type']!r}."
            )
        of_generation = GenerationConfig()  # transformers drops these
        for name in others:
            known = name.startswith("_") or name in _OF_TRANSFORMERS or hasattr(type(self), name)
            if not known and name not in self.attribute_map and not hasattr(of_generation, name):
                raise TypeError(
                    f"{type(self).__name__} has no field `{name}`, got {others[name]!r}: it is misspelt, or belongs to "
                    "a newer version of this code, which the checkpoint then carries (`trust_remote_code=True`)."
                )

    def _check_token_id(self, name: str, token_id: int | None) -> None:
        if token_id is None:
            return
        if isinstance(token_id, bool) or not isinstance(token_id, int):
            raise TypeError(f"`{name}` must be an int, got {token_id!r}.")
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(
                f"`{name}` must be a token of the vocabulary, 0 to {self.vocab_size - 1} (`vocab_size` is "
                f"{self.vocab_size}), got {token_id}."
            )

    def _check_directions(self) -> None:
        if isinstance(self.bidirectional, bool):
            return
        if not isinstance(self.bidirectional, list) or not all(isinstance(both, bool) for both in self.bidirectional):
            raise TypeError(f"`bidirectional` must be a bool or a list of bools, got {self.bidirectional!r}.")
        if len(self.bidirectional) != self.encoder_layers:
            raise ValueError(
                f"`bidirectional` must have one entry per encoder layer (`encoder_layers` is {self.encoder_layers}), "
                f"got {len(self.bidirectional)}."
            )

    def _check_contradictions(self) -> None:
        attention, feeding = self.attention_type, self.context_feeding
        if self.is_encoder_decoder and attention is not None and feeding == "parallel" and self.decoder_layers < 2:
            raise ValueError(
                '`context_feeding="parallel"` feeds the context to the layers above the first, so `decoder_layers` '
                f'must be at least 2, got {self.decoder_layers}. With one layer use `context_feeding="input"`.'
            )
        if attention is None and feeding != "parallel":
            raise ValueError(
                "`attention_type=None` makes no context to feed, so `context_feeding` must be left at its default, got "
                f"{feeding!r}."
            )
        if attention is None and (self.coverage or self.copy):
            raise ValueError("`coverage` and `copy` need attention, got `attention_type=None`.")
        if attention is None and self.bridge == "zeros":
            raise ValueError('`attention_type=None` with `bridge="zeros"` leaves the decoder ignorant of the source.')
        if self.is_encoder_decoder and attention in ("dot", "scaled_dot") and self.memory_size != self.hidden_size:
            raise ValueError(
                f'`attention_type="{attention}"` needs a memory as wide as the query (`hidden_size` is '
                f"{self.hidden_size}), but a bidirectional last encoder layer makes it {self.memory_size} wide. Use "
                '`attention_type="general"` or `bidirectional=False`.'
            )
        if attention == "multi_head" and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`num_attention_heads` must divide `hidden_size` ({self.hidden_size}), got {self.num_attention_heads}."
            )
        if self.coverage_loss_weight and not self.coverage:
            raise ValueError(f"`coverage_loss_weight` needs `coverage=True`, got {self.coverage_loss_weight}.")
        if self.copy and self.source_vocab_size is not None:
            raise ValueError(
                "`copy` needs one vocabulary for source and target (`source_vocab_size=None`), got "
                f"`source_vocab_size={self.source_vocab_size}`."
            )
        if self.bridge == "copy" and (
            set(self.encoder_directions) != {1} or self.encoder_layers != self.decoder_layers
        ):
            raise ValueError(
                '`bridge="copy"` needs a unidirectional encoder with as many layers as the decoder, got '
                f"`bidirectional={self.bidirectional}`, `encoder_layers={self.encoder_layers}`, "
                f'`decoder_layers={self.decoder_layers}`. Use `bridge="linear"` otherwise.'
            )

    def _check_self_attention(self) -> None:
        window = self.self_attention_window
        if window is None:
            return
        if isinstance(window, str):
            if window != "all":
                raise ValueError(f'`self_attention_window` must be a number, "all" or None, got {window!r}.')
        else:
            _check_size("self_attention_window", window)
        if self.attention_type not in SELF_ATTENTION_TYPES:
            raise ValueError(
                f"`self_attention_window` needs an `attention_type` among {list(SELF_ATTENTION_TYPES)}, got "
                f"{self.attention_type!r}."
            )
        if self.hidden_size % 3:
            raise ValueError(
                "`self_attention_window` splits the output into key, value and prediction, so `hidden_size` must be "
                f"divisible by 3, got {self.hidden_size}."
            )

    def _check_labelling(self) -> None:
        if self.constrained_decoding and not self.crf:
            raise ValueError("`constrained_decoding=True` needs `crf=True`, which scores sequences of labels.")
        if self.intents is None:
            return
        if not isinstance(self.intents, list) or not all(isinstance(intent, str) for intent in self.intents):
            raise TypeError(f"`intents` must be a list of strings, got {self.intents!r}.")
        if len(set(self.intents)) != len(self.intents) or not self.intents:
            raise ValueError(f"`intents` must be different names, at least one, got {self.intents}.")


def _check_size(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an int, got {value!r}.")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}.")


def _check_number(name: str, value: Any, least: float | None = 0, below: float | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    if not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
        raise ValueError(f"`{name}` must be finite in single precision, got {value}.")
    if (least is not None and value < least) or (below is not None and value >= below):
        limit = "" if below is None else f" and below {below}"
        raise ValueError(f"`{name}` must be at least {least}{limit}, got {value}.")
