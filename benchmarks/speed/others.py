"""
The same work by libraries that are compared where they are installed:

    pip install ctranslate2
    pip install --no-deps joeynmt && pip install tensorboard importlib_metadata sacremoses sentencepiece subword-nmt \
        seaborn wrapt

JoeyNMT goes without its own pins, since they exclude the protobuf of today.
"""

import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

SPECIAL_TOKENS = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}


def build_joeynmt(vocab_size: int, embedding_size: int, hidden_size: int) -> torch.nn.Module:
    """A GRU in both directions, and a GRU with additive attention and input feeding as it is there by default."""
    from joeynmt.model import build_model
    from joeynmt.vocabulary import Vocabulary

    names = list(SPECIAL_TOKENS)
    special = {f"{name}_token": token for name, token in SPECIAL_TOKENS.items()}
    # it puts them in this order
    ids = {f"{name}_id": index for index, name in enumerate(("unk", *(name for name in names if name != "unk")))}
    settings = SimpleNamespace(**special, **ids, sep_token=None, sep_id=None, lang_tags=[])
    vocabulary = Vocabulary([f"word{index}" for index in range(vocab_size - len(names))], settings)
    side = {"type": "recurrent", "rnn_type": "gru", "hidden_size": hidden_size, "num_layers": 1}
    embeddings = {"embeddings": {"embedding_dim": embedding_size}}
    encoder = {**side, **embeddings, "bidirectional": True}
    decoder = {**side, **embeddings, "attention": "bahdanau"}
    torch.manual_seed(0)
    model = build_model({"encoder": encoder, "decoder": decoder}, vocabulary, vocabulary)
    model.loss_function = ("crossentropy", 0.0)
    return model.train()


def step_joeynmt(model: Any, source: Tensor, target: Tensor) -> Tensor:
    start = torch.full_like(target[:, :1], model.bos_index)
    loss, *_ = model(
        return_type="loss",
        src=source,
        src_mask=torch.ones_like(source, dtype=torch.bool)[:, None],
        src_length=torch.full((len(source),), source.shape[1]),
        trg_input=torch.cat([start, target[:, :-1]], dim=1),
        trg=target,
        trg_mask=torch.ones_like(target, dtype=torch.bool)[:, None],
    )
    return loss / target.numel()


def build_ctranslate2(marian: PreTrainedModel, compute_type: str) -> Callable[[Tensor, int, int], Any]:
    """
    A function of sources (batch, source), beams and new tokens: this Marian in CTranslate2. Raises `ImportError`.

    Its vocabulary holds a token less, as CTranslate2 takes the last one for padding that nothing generates.
    """
    import ctranslate2
    from ctranslate2.converters.transformers import MarianMTLoader

    spec = MarianMTLoader().get_model_spec(marian)
    tokens = [*SPECIAL_TOKENS.values(), *(f"word{index}" for index in range(marian.config.vocab_size - 5))]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.eos_token, spec.config.unk_token = SPECIAL_TOKENS["eos"], SPECIAL_TOKENS["unk"]
    spec.config.decoder_start_token = SPECIAL_TOKENS["eos"]
    spec.validate()
    with tempfile.TemporaryDirectory() as directory:
        spec.save(directory)
        translator = ctranslate2.Translator(
            directory, inter_threads=1, intra_threads=torch.get_num_threads(), compute_type=compute_type
        )

    def generate(sources: Tensor, beams: int, new_tokens: int) -> Any:
        texts = [[tokens[index % len(tokens)] for index in source] for source in sources.tolist()]
        return translator.translate_batch(
            texts, beam_size=beams, min_decoding_length=new_tokens, max_decoding_length=new_tokens
        )

    return generate
