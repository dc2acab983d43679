"""Weights of eight bits for inference on a CPU."""

import copy
import warnings
from typing import Any, NoReturn

import torch
from torch import nn
from transformers import PreTrainedModel

# In a smaller or narrower matrix, the rounding of what it is multiplied with takes more time than the product saves.
MIN_WEIGHTS = 2**16
MIN_SIDE = 64


def quantize(model: PreTrainedModel) -> PreTrainedModel:
    """
    A copy of a model that generates with int8 weights, for inference on a CPU.

    The large matrices that each token goes through, those of the decoder or the language model and `lm_head`, are
    rounded to eight bits for each output, and what they are multiplied with is rounded as it comes (dynamic
    quantisation). The encoder, which reads a source once and all at once, the embeddings, and small or narrow matrices
    stay as they are. It gains most with few rows, where the time goes into reading the weights. The copy cannot be
    trained or saved; save the model and quantise what is loaded.

    Args:
        model: an `AttentionRnnForConditionalGeneration` or an `AttentionRnnForCausalLM`.

    Raises:
        TypeError: the model is neither.
        ValueError: the model is not on a CPU, or this torch has no int8 products for this processor.

    Example:
        >>> model = quantize(AutoModelForSeq2SeqLM.from_pretrained("my-model"))
        >>> model.generate(**tokenizer("a text", return_tensors="pt"))
    """
    is_own = getattr(model.config, "model_type", None) == "attention_rnn" and hasattr(model, "lm_head")
    if not is_own or not hasattr(model, "model"):
        raise TypeError(
            "`model` must be an AttentionRnnForConditionalGeneration or an AttentionRnnForCausalLM, got "
            f"{type(model).__name__}."
        )
    if model.device.type != "cpu":
        raise ValueError(f"`model` must be on the CPU to be quantised, got a model on {model.device}.")
    engines = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
    if not engines or not hasattr(torch.ao, "quantization"):
        raise ValueError("`quantize` needs a torch with int8 products for this processor, and this one has none.")
    quantized = copy.deepcopy(model).float().eval()
    decodes = "model.decoder." if model.config.is_encoder_decoder else "model."
    names = {
        name
        for name, module in quantized.named_modules()
        if name.startswith((decodes, "lm_head")) and isinstance(module, nn.Linear) and _is_worth_it(module)
    }
    with warnings.catch_warnings():
        # torch announces a successor, torchao, which has no eager int8 products for CPUs
        warnings.simplefilter("ignore")
        configured: Any = dict.fromkeys(names, torch.ao.quantization.default_dynamic_qconfig)
        torch.ao.quantization.quantize_dynamic(quantized, configured, dtype=torch.qint8, inplace=True)
    quantized.save_pretrained = _refuse_to_save
    return quantized


def _is_worth_it(layer: nn.Linear) -> bool:
    return layer.weight.numel() >= MIN_WEIGHTS and min(layer.weight.shape) >= MIN_SIDE


def _refuse_to_save(*args: Any, **kwargs: Any) -> NoReturn:
    raise NotImplementedError("A quantised copy is not saved: save the model itself and quantise what is loaded.")
