"""
The core of every configuration of the family: what cells, attention and stacks of recurrent layers read.

A kind of input (tokens, speech, values) has a configuration of its own, which adds its fields to these. Types stand
once, at the declaration of a field; `AttentionRnnCoreConfig.validate` reads them there.
"""

from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin

from transformers import GenerationConfig, PreTrainedConfig

# The version of what stands in a config file. It grows when an older version of this code would build another model
# from a newer file.
CONFIG_VERSION = 1

# Of how many vectors of `hidden_size` the state of each cell consists; `register_cell` adds to them.
CELL_STATES = {"gru": 1, "lstm": 2, "rnn_tanh": 1, "rnn_relu": 1, "echo_state": 1}
# The score functions; `register_attention` adds to them.
ATTENTION_TYPES = ["additive", "dot", "scaled_dot", "general", "concat", "multi_head", "location", "local", "aligned"]
RECURRENT_INITIALIZATIONS = ("orthogonal", "xavier", "uniform")
RECURRENCE_BACKENDS = ("auto", "reference")

LARGEST_NUMBER = 3.4e38  # of single precision

# of the configs that have the field, among their `contradictions`
OVERSMOOTHED: tuple[Callable[[Any], bool], str] = (
    lambda c: c.label_smoothing >= 1,
    "`label_smoothing` must be below 1, got {c.label_smoothing}.",
)

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
_KINDS: dict[Any, str] = {
    int: "an int",
    float: "a number",
    bool: "a bool",
    str: "a string",
    list[int]: "a list of ints",
    list[bool]: "a list of bools",
    list[float]: "a list of numbers",
    list[str]: "a list of strings",
}


# a contradiction of what has no tokens on both sides
NOT_ALIGNED: tuple[Callable[[Any], bool], str] = (
    lambda c: c.attention_type == "aligned",
    "`attention_type` must not be 'aligned', which goes from token to token of a text.",
)


def enter(classes: dict[str, Any], name: str, new_class: type) -> None:
    """
    Enter a class of a user's own; again, where its file is read again.

    Raises:
        ValueError: another class has that name.
    """
    known = classes.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (new_class.__module__, new_class.__qualname__):
        raise ValueError(f"`name` must be new, but {name!r} is {known.__module__}.{known.__qualname__} already.")
    classes[name] = new_class


class AttentionRnnCoreConfig(PreTrainedConfig):
    """
    The fields that all configurations of the family share. All arguments are keyword arguments.

    Args:
        hidden_size (`int`, defaults to 512):
            Width of the recurrent state in the decoder, and per direction in the encoder.
        encoder_layers (`int`, defaults to 1):
            Number of recurrent layers of the encoder.
        bidirectional (`bool` or `list[bool]`, defaults to `True`):
            Whether the encoder layers read in both directions; a list says it layer by layer. The memory, i.e. the
            output of the last encoder layer, is `2 * hidden_size` wide when that layer is bidirectional.
        cell_type (`str`, defaults to `"gru"`):
            The recurrent cell, see `cells.py`: `"gru"`, `"lstm"`, `"rnn_tanh"`, `"rnn_relu"`, `"echo_state"`, or one
            of your own, see `register_cell`.
        recurrent_initialization (`str`, defaults to `"orthogonal"`):
            Initial recurrent matrices: `"orthogonal"`, `"xavier"`, or `"uniform"` for everything in the cell as in
            torch's own modules. See `Cell.initialize`.
        forget_gate_bias (`float`, defaults to 1.0):
            What is added to the initial bias of the forget gate of an LSTM.
        spectral_radius, leak, input_scaling, connectivity (`float`, default to 0.9, 0.3, 0.5, 0.1):
            Of `"echo_state"`: the largest absolute eigenvalue of its recurrent matrix; the share of a new state that
            is new; the bound of its input weights; the share of its recurrent weights that are not zero.
        cell_layer_norm (`bool`, defaults to `False`):
            Layer normalisation of the products inside the cell (Ba et al., 2016).
        recurrence_backend (`str`, defaults to `"auto"`):
            How cells and attention compute: `"auto"` takes the fastest way that serves, `"reference"` always the plain
            equations, to compare; with it `generate()` decodes by transformers' own loops.
        attention_type (`str`, *optional*, defaults to `"additive"`):
            The score function, see `attention.py`: `"additive"`, `"concat"`, `"general"`, `"multi_head"`, `"location"`,
            `"local"`, and `"dot"` and `"scaled_dot"`, which need a memory as wide as `hidden_size`; `"aligned"`, which
            goes from token to token; or one of your own, see `register_attention`. `None`: no attention; the decoder
            knows the source from its first state alone (Sutskever et al., 2014, https://arxiv.org/abs/1409.3215).
        attention_size (`int`, *optional*):
            Width of the hidden layer of `"additive"`, `"concat"` and `"location"`; `None` takes `hidden_size`.
        num_attention_heads (`int`, defaults to 4):
            Heads of `"multi_head"`; they must divide `hidden_size`.
        location_channels (`int`, defaults to 10), location_kernel_size (`int`, defaults to 15):
            Filters, and positions that a filter spans, of the convolution over the last weights in `"location"`.
        local_window_size (`int`, defaults to 5):
            How many positions on either side of its centre `"local"` sees: D of Luong et al. (2015).
        aligned_steps (`int`, defaults to 1):
            How many steps `"aligned"` makes at each token of the source.
        coverage (`bool`, defaults to `False`):
            Whether the attention knows how much it has attended to each position so far (See et al., 2017).
        residual (`bool`, defaults to `False`):
            Add the input of a layer to its output where both have the same width.
        layer_norm (`bool`, defaults to `False`):
            Layer normalisation of the input of each recurrent layer.
        hidden_dropout (`float`, defaults to 0.1):
            Dropout on the output of each recurrent layer (the memory and the query included).
        recurrent_dropout (`float`, defaults to 0.0):
            Probability that an entry of a recurrent matrix is dropped, for a whole sequence (Merity et al., 2018).
        variational_dropout (`bool`, defaults to `False`):
            Whether dropout drops the same units at every step (Gal and Ghahramani, 2016).

    Raises:
        ValueError, TypeError: a value is out of range, of the wrong type, or contradicts another one.
    """

    hidden_size: int = 512
    encoder_layers: int = 1
    bidirectional: bool | list[bool] = True
    cell_type: str = "gru"
    recurrent_initialization: str = "orthogonal"
    forget_gate_bias: float = 1.0
    spectral_radius: float = 0.9
    leak: float = 0.3
    input_scaling: float = 0.5
    connectivity: float = 0.1
    cell_layer_norm: bool = False
    recurrence_backend: str = "auto"
    attention_type: str | None = "additive"
    attention_size: int | None = None
    num_attention_heads: int = 4
    location_channels: int = 10
    location_kernel_size: int = 15
    local_window_size: int = 5
    aligned_steps: int = 1
    coverage: bool = False
    residual: bool = False
    layer_norm: bool = False
    hidden_dropout: float = 0.1
    recurrent_dropout: float = 0.0
    variational_dropout: bool = False
    config_version: int = CONFIG_VERSION

    # Which class of which file opens a checkpoint through which Auto class. A saved `config.json` names those whose
    # code travels with the checkpoint.
    auto_classes: ClassVar[dict[str, str]] = {}
    # The architectures that `from_preset` knows.
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    # The values of fields that take names. A subclass adds its own.
    choices: ClassVar[dict[str, Any]] = {
        "cell_type": CELL_STATES,
        "recurrent_initialization": RECURRENT_INITIALIZATIONS,
        "recurrence_backend": RECURRENCE_BACKENDS,
        "attention_type": ATTENTION_TYPES,
    }
    # What cannot hold together: a condition, and what to say of a config `c` that meets it. A subclass adds its own.
    contradictions: ClassVar[list[tuple[Callable[[Any], bool], str]]] = [
        (
            lambda c: c.attention_type == "aligned" and c.coverage,
            "`coverage` must be False for `attention_type='aligned'`, which has no scores.",
        ),
        (
            lambda c: not 0 < c.leak <= 1 or not 0 < c.connectivity <= 1,
            "`leak` and `connectivity` must be more than 0 and at most 1, got {c.leak} and {c.connectivity}.",
        ),
        (
            lambda c: isinstance(c.bidirectional, list) and len(c.bidirectional) != c.encoder_layers,
            "`bidirectional` must have one entry per encoder layer (`encoder_layers` is {c.encoder_layers}), got "
            "{c.bidirectional}.",
        ),
        (
            lambda c: c.attention_type == "multi_head" and c.hidden_size % c.num_attention_heads != 0,
            "`num_attention_heads` must divide `hidden_size` ({c.hidden_size}), got {c.num_attention_heads}.",
        ),
    ]

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Any:
        """
        The architecture of a paper, see `presets.py` and `presets_time_series.py` for what differs from it.

        Args:
            name: of a preset of this kind of configuration: of `AttentionRnnConfig` `"bahdanau2015"`, `"luong2015"`,
                `"nematus"`, `"gnmt"`, `"pointer-generator"`, `"sutskever2014"`, or `"tiny"` for small data on a small
                machine; of `AttentionRnnSpeechConfig` `"las"`, `"deepspeech2"`, `"kws-att-rnn"` or
                `"speechbrain-crdnn"`; of `AttentionRnnTimeSeriesConfig` `"deepar"`, `"segrnn"`, `"lstnet"`, `"da-rnn"`
                or `"echo-state"`.
            overrides: fields to set otherwise; at least `vocab_size` as your tokenizer has it, or `prediction_length`.
        """
        if name not in cls.presets:
            raise ValueError(f"`name` must be one of {list(cls.presets)}, got {name!r}.")
        return cls(**{**cls.presets[name], **overrides})

    def __post_init__(self, **kwargs: Any) -> None:
        self._check_others(kwargs)
        self.validate()
        super().__post_init__(**kwargs)

    @property
    def _fields(self) -> dict[str, Any]:
        config_class: Any = type(self)
        return declared_fields(config_class)

    @property
    def state_size(self) -> int:
        """Width of the state of a recurrent layer in one direction; its first `hidden_size` columns are the output."""
        return CELL_STATES[self.cell_type] * self.hidden_size

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
        self._take_scalars()
        for name, hint in self._fields.items():
            self._check_field(name, hint, getattr(self, name))
        ids = [int(label_id) for label_id in self.id2label or ()]
        if sorted(ids) != list(range(len(ids))):
            raise ValueError(f"`id2label` must name the labels from 0 to {len(ids) - 1}, got {ids}.")
        for is_met, message in self.contradictions:
            if is_met(self):
                raise ValueError(message.format(c=self))

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """
        As in transformers; what a user has set on a config besides its fields is there again.

        Raises:
            TypeError: a newer version of this code has written a field that this one does not know.
            ValueError: the cell or the score function is not known.
        """
        unknown = {name: value for name, value in config_dict.items() if not cls._knows(name)}
        if unknown and config_dict.get("config_version", CONFIG_VERSION) > CONFIG_VERSION:
            raise TypeError(
                f"{cls.__name__} has no field `{min(unknown)}`: the config is of a newer version of this code, which "
                "the checkpoint carries (`trust_remote_code=True`)."
            )
        for name in ("cell_type", "attention_type"):
            value, allowed = kwargs.get(name, config_dict.get(name)), list(cls.choices[name])
            if value is not None and value not in allowed:
                raise ValueError(
                    f"`{name}` must be one of {allowed}, got {value!r}. If it is of a user's own, import "
                    "the file that registers it, which the checkpoint carries as `attention_rnn_extension_<name>.py`; "
                    "or load the checkpoint by `trust_remote_code=True` where `attention_rnn` is not imported."
                )
        known = {name: value for name, value in config_dict.items() if name not in unknown}
        of_user = {  # transformers drops settings of generation
            name: kwargs.pop(name, value) for name, value in unknown.items() if name not in _generation_settings()
        }
        loaded: Any = super().from_dict(known, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        for name, value in of_user.items():
            setattr(config, name, value)
        return loaded

    @classmethod
    def _knows(cls, name: str) -> bool:
        return name.startswith("_") or name in _OF_TRANSFORMERS or name in cls.attribute_map or hasattr(cls, name)

    @classmethod
    def _derives(cls, name: str) -> bool:
        """Whether it is a property that follows from the fields."""
        of_class = next((vars(kind)[name] for kind in cls.__mro__ if name in vars(kind)), None)
        return isinstance(of_class, property) and of_class.fset is None

    def _check_others(self, others: dict[str, Any]) -> None:
        """What is given besides the fields. transformers would keep all of it, and a wrong model would come of it."""
        if others.get("model_type", self.model_type) != self.model_type:
            raise ValueError(
                f"`model_type` must be {self.model_type!r}, got the config of a model of the type "
                f"{others['model_type']!r}."
            )
        for name, value in others.items():
            if name in _generation_settings() and not self._knows(name):
                raise TypeError(
                    f"{type(self).__name__} has no field `{name}`, got {value!r}: it is a setting of generation, to be "
                    "given to `generate` or set in `model.generation_config`."
                )
            if not self._knows(name) or self._derives(name):
                close = get_close_matches(name, self._fields, n=1)
                hint = f"; did you mean `{close[0]}`?" if close else "."
                raise TypeError(f"{type(self).__name__} has no field `{name}`, got {value!r}{hint}")

    def _take_scalars(self) -> None:
        """Let numbers of numpy and the like become numbers, as json wants them."""
        for name in self._fields:
            value = getattr(self, name)
            if isinstance(value, list):
                setattr(self, name, [_scalar(item) for item in value])
            else:
                setattr(self, name, _scalar(value))

    def _check_field(self, name: str, hint: Any, value: Any) -> None:
        alternatives = _alternatives(hint)
        if value is None and NoneType in alternatives:
            return
        if name in self.choices:
            allowed = [*self.choices[name], *([None] if NoneType in alternatives else [])]
            if value not in allowed:
                raise ValueError(f"`{name}` must be one of {allowed}, got {value!r}.")
            return
        kinds = [kind for kind in alternatives if kind is not NoneType]
        if not any(_is(kind, value) for kind in kinds):
            raise TypeError(f"`{name}` must be {' or '.join(_KINDS[kind] for kind in kinds)}, got {value!r}.")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self._check_range(name, value, least=0 if float in kinds else 1)

    def _check_range(self, name: str, value: float, least: float | None) -> None:
        below = 1 if name.endswith("_dropout") else None
        if name == "forget_gate_bias":
            least = None
        if not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
            raise ValueError(f"`{name}` must be finite in single precision, got {value}.")
        if (least is not None and value < least) or (below is not None and value >= below):
            limit = "" if below is None else f" and below {below}"
            raise ValueError(f"`{name}` must be at least {least}{limit}, got {value}.")


@cache
def declared_fields(config_class: Any) -> dict[str, Any]:
    """The fields that a class of configurations has besides those of transformers, and their types."""
    of_family = [kind for kind in config_class.__mro__ if issubclass(kind, AttentionRnnCoreConfig)]
    declared = {name for kind in of_family for name in vars(kind).get("__annotations__", {})}
    return {field.name: field.type for field in fields(config_class) if field.name in declared}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _scalar(value: Any) -> Any:
    return value.item() if getattr(value, "shape", None) == () else value


def _is(kind: Any, value: Any) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is(get_args(kind)[0], item) for item in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


@cache
def _generation_settings() -> set[str]:
    return {name for name in vars(GenerationConfig()) if not name.startswith("_")} - {"transformers_version"}
