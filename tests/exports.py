"""Models that tests export, once for all of them: exporting takes seconds."""

import os
from types import SimpleNamespace

import torch
from filelock import FileLock
from tiny import tiny_config, tiny_model

import attention_rnn
from attention_rnn import AttentionRnnWordTokenizer, OnnxRunner, export_onnx
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

SOURCES = ["abc", "ahgfed bc", "lmn op a"]
WORDS = ["to be or not", "be kind", "Xyzzy to Plugh be Xyzzy"]
SMALL = {"encoder_layers": 1, "decoder_layers": 2}


def characters():
    return train_tokenizer(["abcdefgh ijkl mnop"], kind="character", vocab_size=19)


def words():
    return train_tokenizer(["to be or not to be kind ."], kind="word", vocab_size=19)


def random_model(name, **overrides):
    torch.manual_seed(0)
    model = getattr(attention_rnn, name)(tiny_config(**{**SMALL, **overrides})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


LABELS = ["O", "B-A", "I-A", "B-B", "I-B"]
NAMED = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}
VARIANTS = {
    "parallel": (lambda: tiny_model(**SMALL, bidirectional=False), characters),
    "copying": (
        lambda: tiny_model(**SMALL, context_feeding="input", copy=True, coverage=True, cell_type="lstm"),
        words,
    ),
    "two vocabularies": (
        lambda: tiny_model(
            encoder_layers=1,
            decoder_layers=1,
            context_feeding="conditional",
            attention_type="multi_head",
            source_vocab_size=29,
            cell_type="rnn_tanh",
        ),
        lambda: pair_tokenizers(train_tokenizer(["abcdefgh ijkl mnop qrst"], kind="character"), characters()),
    ),
    "chunks": (
        lambda: tiny_model(**SMALL, attention_type="aligned", aligned_steps=2, source_vocab_size=29),
        lambda: pair_tokenizers(
            train_tokenizer(["abcdefgh ijkl mnop qrst"], kind="character"),
            train_tokenizer(["a│∅│b c│ d│e│f g│h│i│j│k│l│m│n│o│p"], kind="chunk"),
        ),
    ),
    "subwords": (
        lambda: tiny_model(**SMALL, attention_type="location", context_feeding="output", vocab_size=37),
        lambda: train_tokenizer(WORDS, kind="bpe", vocab_size=37),
    ),
    "language model": (
        lambda: random_model("AttentionRnnForCausalLM", hidden_size=12, past_attention_window=3),
        lambda: train_tokenizer(["abcdefgh ijkl mnop"], kind="character", vocab_size=19, causal=True),
    ),
    "inflection": (
        lambda: tiny_model(**SMALL, vocab_size=29),
        lambda: train_tokenizer(["a b c d e f g h i j k l m n o p é ␣ [V] [PST] [N] [PL]"], kind="word", vocab_size=29),
    ),
    "classifier": (lambda: random_model("AttentionRnnForSequenceClassification", pooling_heads=2, **NAMED), characters),
    "single label": (lambda: random_model("AttentionRnnForSequenceClassification", num_labels=1), characters),
    "tagger": (
        lambda: random_model(
            "AttentionRnnForTokenClassification",
            crf=True,
            constrained_decoding=True,
            intents=["x", "y"],
            vocab_size=37,
            **NAMED,
        ),
        lambda: train_tokenizer(WORDS, kind="bpe", vocab_size=37),
    ),
    "tagger of words": (
        lambda: random_model("AttentionRnnForTokenClassification", crf=True, character_size=6, **NAMED),
        lambda: AttentionRnnWordTokenizer.from_tokenizer(train_tokenizer(WORDS, "word", vocab_size=19), 6),
    ),
    "reader": (lambda: random_model("AttentionRnnForQuestionAnswering"), words),
}


def export(variant, tmp_path_factory):
    """A model, its tokenizer, its folder, which all processes of a test run share, and the runner of that."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    make_model, make_tokenizer = VARIANTS[variant]
    model, tokenizer = make_model(), make_tokenizer()
    folder = root / "onnx" / variant
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "README.md").exists():  # which is written last
            export_onnx(model, tokenizer, folder, spelt=variant == "inflection")
    return SimpleNamespace(model=model, tokenizer=tokenizer, folder=folder, runner=OnnxRunner([folder]))
