"""Weights of eight bits for inference on a CPU."""

import copy
import warnings

import torch
from torch import nn
from transformers import PreTrainedModel


def quantize(model: PreTrainedModel) -> PreTrainedModel:
    """
    A copy of an encoder-decoder that decodes with int8 weights, for inference on a CPU.

    The matrices that each token goes through, those of the decoder and `lm_head`, are rounded to eight bits for each
    output, and what they are multiplied with is rounded as it comes (dynamic quantisation). The encoder, which reads a
    source once and all at once, and the embeddings stay as they are. It gains most with few rows, where the time goes
    into reading the weights. The copy cannot be trained or saved; save the model and quantise what is loaded.

    Args:
        model: a model for conditional generation of this family.

    Raises:
        TypeError: the model is not an encoder-decoder of this family.
        ValueError: the model is not on a CPU, or this torch has no int8 products for this processor.

    Example:
        >>> model = quantize(AutoModelForSeq2SeqLM.from_pretrained("my-model"))
        >>> model.generate(**tokenizer("a text", return_tensors="pt"))
    """
    if model.config.model_type != "attention_rnn" or not hasattr(model, "lm_head") or not hasattr(model, "model"):
        raise TypeError(f"`model` must be an AttentionRnnForConditionalGeneration, got {type(model).__name__}.")
    if model.device.type != "cpu":
        raise ValueError(f"`model` must be on the CPU to be quantised, got a model on {model.device}.")
    engines = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
    if not engines or not hasattr(torch.ao, "quantization"):
        raise ValueError("`quantize` needs a torch with int8 products for this processor, and this one has none.")
    quantized = copy.deepcopy(model).float().eval()
    with warnings.catch_warnings():
        # torch announces a successor, torchao, which has no eager int8 products for CPUs
        warnings.simplefilter("ignore")
        for parent, name in ((quantized.model, "decoder"), (quantized, "lm_head")):
            part = nn.ModuleDict({name: getattr(parent, name)})
            torch.ao.quantization.quantize_dynamic(part, {nn.Linear}, dtype=torch.qint8, inplace=True)
            setattr(parent, name, part[name])
    return quantized
