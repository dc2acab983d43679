"""Products of eight bits for inference on a CPU."""

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from .ensemble import AttentionRnnEnsemble
from .models.prepared_linear import MIN_INT8_WEIGHTS as MIN_WEIGHTS
from .models.prepared_linear import Int8Linear

MIN_SIDE = 64  # for the same reason as MIN_WEIGHTS
# Where the matrices have fewer weights in all, a step is bound by its calls and not by reading them.
MIN_ALL_WEIGHTS = 2**20
METHOD = "attention_rnn_int8"
QUANTIZED = ("AttentionRnnForConditionalGeneration", "AttentionRnnForCausalLM")


@register_quantization_config(METHOD)
class Int8Config(QuantizationConfigMixin):
    """What stands in the config of a model that `quantize` has made: `from_pretrained` makes it so again."""

    def __init__(self, **kwargs: Any) -> None:
        self.quant_method: Any = METHOD


@register_quantizer(METHOD)
class Int8Quantizer(HfQuantizer):
    """Lets the large matrices of a decoder multiply in eight bits. The weights are saved as they are."""

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        decodes = "model.decoder." if model.config.is_encoder_decoder else "model."
        large = [
            module
            for name, module in model.named_modules()
            if name.startswith((decodes, "lm_head")) and type(module) is nn.Linear and _is_worth_it(module)
        ]
        if sum(module.weight.numel() for module in large) >= MIN_ALL_WEIGHTS:
            for module in large:
                module.__class__ = Int8Linear  # the parameters are the same

    def _dequantize(self, model: Any, dtype: Any = None) -> Any:
        for module in model.modules():
            if type(module) is Int8Linear:
                module.__class__ = nn.Linear  # type: ignore[assignment]
        return model

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float32  # of the weights that are rounded

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        engines = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
        if not engines or not hasattr(torch, "quantize_per_channel"):
            raise ValueError("`quantize` needs a torch with int8 products for this processor, and this one has none.")

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


def quantize(model: PreTrainedModel) -> PreTrainedModel:
    """
    A copy of a model that generates with int8 products, for inference on a CPU.

    The large matrices that each token goes through, those of the decoder or the language model and `lm_head`, are
    rounded to eight bits for each output, and what they are multiplied with is rounded as it comes (dynamic
    quantisation). The encoder, which reads a source once and all at once, the embeddings, small or narrow matrices, and
    models with few large ones stay as they are. What is saved or pushed has the weights of the model, and multiplies in
    eight bits where this package is imported when it is loaded. The copy cannot be trained.

    Args:
        model: an `AttentionRnnForConditionalGeneration`, an `AttentionRnnEnsemble` of some, or an
            `AttentionRnnForCausalLM`.

    Raises:
        TypeError: the model is none of these.
        ValueError: the model is not on a CPU, or this torch has no int8 products for this processor.

    Example:
        >>> model = quantize(AutoModelForSeq2SeqLM.from_pretrained("my-model"))
        >>> model.generate(**tokenizer("a text", return_tensors="pt"))
    """
    if isinstance(model, AttentionRnnEnsemble):
        members: list[Any] = [quantize(member) for member in model.members]
        return AttentionRnnEnsemble(members)
    is_own = getattr(model.config, "model_type", None) == "attention_rnn" and hasattr(model, "lm_head")
    if not is_own or not hasattr(model, "model"):
        raise TypeError(
            "`model` must be an AttentionRnnForConditionalGeneration or an AttentionRnnForCausalLM, got "
            f"{type(model).__name__}."
        )
    if model.device.type != "cpu":
        raise ValueError(f"`model` must be on the CPU to be quantised, got a model on {model.device}.")
    quantized: Any = without_int8(copy.deepcopy(model)).float().eval()
    quantizer = Int8Quantizer(Int8Config())
    quantizer.validate_environment()
    quantizer.preprocess_model(quantized)
    quantizer.postprocess_model(quantized)
    quantized.hf_quantizer = quantizer
    return quantized


def without_int8(model: Any) -> Any:
    """The model, which multiplies in the precision of its weights again if `quantize` has made it."""
    quantizer = getattr(model, "hf_quantizer", None)
    return quantizer.dequantize(model) if isinstance(quantizer, Int8Quantizer) else model


def check_int8(name: str, config: Any) -> None:
    """
    Refuse `--int8` with a model that `quantize` does not take, before it is loaded.

    Raises:
        ValueError: the model of this config is none that writes texts, or not of this package.
    """
    architecture = next(iter(config.architectures or []), None)
    if architecture not in QUANTIZED:
        raise ValueError(
            f"--int8 is for models that write texts, {' and '.join(QUANTIZED)}, and {name} is {architecture}"
        )


def _is_worth_it(layer: nn.Linear) -> bool:
    return layer.weight.numel() >= MIN_WEIGHTS and min(layer.weight.shape) >= MIN_SIDE
