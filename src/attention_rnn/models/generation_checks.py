"""`generate()` with its arguments checked before any work is done."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from .cache import CACHE
from .checks import check_tensors, check_token_ids
from .configuration_decoder import CACHE_NAMES

_LEAST = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "max_length": 0,
    "max_new_tokens": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "top_k": 0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
}
# beyond these the numbers of single precision end: the scores become infinite, or all the same
_RANGES = {
    "temperature": (1e-6, 1e6),
    "top_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "epsilon_cutoff": (0.0, 1.0),
    "eta_cutoff": (0.0, 1.0),
    "repetition_penalty": (1e-6, 1e6),
    "encoder_repetition_penalty": (1e-6, 1e6),
    "length_penalty": (-10.0, 10.0),
    "max_time": (0.0, math.inf),
}
_SWITCHES = (
    "do_sample",
    "use_cache",
    "low_memory",
    "renormalize_logits",
    "remove_invalid_values",
    "return_dict_in_generate",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
)
_ONE_TOKEN = ("pad_token_id", "bos_token_id", "forced_bos_token_id")
_ONE_OR_MORE = ("eos_token_id", "forced_eos_token_id", "decoder_start_token_id")
_OF_SOURCE_TOKENS = {"encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0}
_LISTS_OF_TOKENS = ("suppress_tokens", "begin_suppress_tokens")


class CheckedGenerationMixin(GenerationMixin):
    """`GenerationMixin`, which finds out late or never that a setting makes no sense."""

    config: Any
    device: Any
    main_input_name: str

    def generate(
        self, inputs: Tensor | None = None, generation_config: GenerationConfig | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """
        As in transformers. Of a tokenizer with a vocabulary for each side, `stop_strings` are the target's.

        Raises:
            TypeError, ValueError: an input or a setting has another type, is out of range, or contradicts another one.
        """
        if generation_config is not None and not isinstance(generation_config, GenerationConfig):
            raise TypeError(f"`generation_config` must be a GenerationConfig, got {generation_config!r}.")
        if "tokenizer" in kwargs:
            kwargs["tokenizer"] = getattr(kwargs["tokenizer"], "target", kwargs["tokenizer"])
        for name in set(CACHE_NAMES).intersection(kwargs) - {CACHE}:
            kwargs[CACHE] = kwargs.pop(name)
        self._check_inputs(**{self.main_input_name: inputs, **kwargs})
        return super().generate(inputs, generation_config, *args, **kwargs)  # type: ignore[misc]

    def _prepare_generation_config(self, generation_config: Any, **kwargs: Any) -> Any:
        check_generation_settings(kwargs, self.config)
        prepared = super()._prepare_generation_config(generation_config, **kwargs)  # type: ignore[misc]
        settings = vars(prepared[0])
        check_generation_settings(settings, self.config)
        if settings["pad_token_id"] is None and settings["eos_token_id"] is not None:
            first_end = torch.as_tensor(settings["eos_token_id"]).flatten()[0]  # with which transformers pads
            check_generation_settings({"pad_token_id": int(first_end)}, self.config)
        return prepared

    def _check_inputs(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        inputs_embeds: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        copy_ids: Any = None,
        input_features: Any = None,
        **kwargs: Any,
    ) -> None:
        """What transformers looks at before `forward`, which checks the rest."""
        tensors = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "inputs_embeds": inputs_embeds,
            "decoder_input_ids": decoder_input_ids,
            "decoder_attention_mask": decoder_attention_mask,
            "copy_ids": copy_ids,
            "input_features": input_features,
        }
        check_tensors(**tensors)
        for name, tensor in tensors.items():
            if tensor is not None and tensor.device.type not in ("cpu", self.device.type):
                raise ValueError(
                    f"`{name}` must be on the device of the model, {self.device}, got a tensor on {tensor.device}."
                )
        prompts = [("attention_mask", "input_ids"), ("decoder_attention_mask", "decoder_input_ids")]
        for mask_name, name in prompts:
            mask, ids = tensors[mask_name], tensors[name]
            has_ids = ids is not None and (inputs_embeds is None or name != "input_ids")
            if has_ids:
                check_token_ids(name, ids, None)
            if mask is None:
                continue
            shape = tuple(ids.shape) if has_ids and kwargs.get(CACHE) is None else None
            if mask.dim() != 2 or shape not in (None, mask.shape):
                raise ValueError(
                    f"`{mask_name}` must have the shape of `{name}`, {shape or '(batch, length)'}, got "
                    f"{tuple(mask.shape)}."
                )


def check_generation_settings(settings: Mapping[str, Any], config: Any) -> None:
    """
    Check what stands in a `GenerationConfig`; `None` is an unset value.

    Raises:
        TypeError: a setting has another type.
        ValueError: it is out of range, or a token is outside of the vocabulary.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    for name in settings.keys() & _LEAST.keys():
        _check_whole(name, settings[name], least=_LEAST[name])
    for name in settings.keys() & _RANGES.keys():
        _check_number(name, settings[name], *_RANGES[name])
    for name in _SWITCHES:
        if not isinstance(settings.get(name, False), bool):
            raise TypeError(f"`{name}` must be a bool, got {settings[name]!r}.")
    early_stopping = settings.get("early_stopping", False)
    if not isinstance(early_stopping, bool) and early_stopping != "never":
        raise ValueError(f"`early_stopping` must be a bool or 'never', got {early_stopping!r}.")
    for name in settings.keys() & {*_ONE_TOKEN, *_ONE_OR_MORE, *_LISTS_OF_TOKENS}:
        value = settings[name].tolist() if isinstance(settings[name], Tensor) else settings[name]
        is_list = isinstance(value, (list, tuple))
        if is_list != (name in _LISTS_OF_TOKENS) and name not in _ONE_OR_MORE:
            raise TypeError(f"`{name}` must be {'a token' if is_list else 'a list of tokens'}, got {value!r}.")
        if name in _ONE_OR_MORE and value in ([], ()):
            raise ValueError(f"`{name}` must name at least one token, got {value!r}.")
        for token in value if is_list else [value]:
            # a token that is not there is never suppressed and ends nothing; checkpoints of other models have such
            least = None if name in _LISTS_OF_TOKENS else 0
            may_be_absent = name == "eos_token_id" and "exponential_decay_length_penalty" not in settings
            _check_whole(name, token, least, None if may_be_absent else config.vocab_size - 1)
    bad_words, biases = settings.get("bad_words_ids", [[0]]), settings.get("sequence_bias", [])
    if not isinstance(bad_words, (list, tuple)) or not bad_words:
        raise TypeError(f"`bad_words_ids` must be a list of lists of tokens, got {bad_words!r}.")
    for word in bad_words:
        _check_sequence("bad_words_ids", word, config.vocab_size)
    if isinstance(biases, dict):  # transformers checks the other form, and the numbers
        for sequence in biases:
            _check_sequence("sequence_bias", sequence, config.vocab_size)
    _check_decay(settings.get("exponential_decay_length_penalty", (0, 1.0)))
    guidance_scale = settings.get("guidance_scale", 1.0)
    _check_number("guidance_scale", guidance_scale, 0.0, 1e6)
    if config.is_encoder_decoder and guidance_scale != 1:
        raise ValueError(f"`guidance_scale` must be 1 for a model with an encoder, got {guidance_scale}.")
    for name, neutral in _OF_SOURCE_TOKENS.items():
        if settings.get(name, neutral) != neutral and not getattr(config, "shares_embeddings", False):
            raise ValueError(
                f"`{name}` must be {neutral} where source and target share no vocabulary, got {settings[name]}."
            )


def _check_whole(name: str, value: Any, least: int | None, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an int, got {value!r}.")
    if least is not None and (value < least or (most is not None and value > most)):
        limit = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"`{name}` must be {limit}, got {value}.")


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    if not low <= value <= high:
        raise ValueError(f"`{name}` must be from {low} to {high}, got {value}.")


def _check_sequence(name: str, sequence: Any, vocab_size: int) -> None:
    if not isinstance(sequence, (list, tuple)) or not sequence:
        raise TypeError(f"`{name}` must hold sequences of tokens, got {sequence!r}.")
    for token in sequence:
        _check_whole(name, token, 0, vocab_size - 1)


def _check_decay(value: Any) -> None:
    name = "exponential_decay_length_penalty"
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise TypeError(f"`{name}` must be a start and a factor, got {value!r}.")
    _check_whole(name, value[0], least=0)
    _check_number(name, value[1], 1e-6, 1e6)
