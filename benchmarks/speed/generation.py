"""
Time of `generate()`: an attention RNN against transformers' own loops around the same model, and against a Marian
transformer with as many parameters.

    python benchmarks/speed/generation.py
    python benchmarks/speed/generation.py --rounds 20 --json generation.json

The weights are random and the number of tokens is forced, so that every side does the same work whatever it says.
"""

import argparse
import json
from collections.abc import Iterator

import torch
from comparison import Line, compare
from others import build_ctranslate2
from torch import Tensor
from transformers import GenerationMixin, MarianConfig, MarianMTModel, PreTrainedModel

from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration, quantize

VOCABULARY, SOURCE_LENGTH, NEW_TOKENS = 8000, 30, 50
LOOPS, MARIAN = "transformers' loop", "Marian"
# against what, batch size, beams, and the ratio that we aim at
COMPARISONS = [
    (LOOPS, 1, 1, 1.8),
    (LOOPS, 32, 1, None),
    (LOOPS, 32, 5, 1.8),
    (MARIAN, 1, 1, 7.0),
    (MARIAN, 32, 1, 5.0),
    (MARIAN, 32, 5, 3.0),
]


class WithTransformersLoops(AttentionRnnForConditionalGeneration):
    """The same model with the loops that transformers has for every model."""

    _sample = GenerationMixin._sample
    _beam_search = GenerationMixin._beam_search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="how often the sides take turns (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"source {SOURCE_LENGTH}, {NEW_TOKENS} new tokens, {options.threads} threads, float32")
    print(f"{'':60}{'ours':>10}{'theirs':>10}{'ratio':>7}{'spread':>8}{'goal':>6}")
    lines = []
    for line in measure(options.rounds):
        times = "".join(f"{1e3 * line[side]:7.0f} ms" for side in ("ours_seconds", "theirs_seconds"))
        print(f"{line['name']:60}{times}{line['ratio']:7.2f}{line['spread']:8.2f}{line['goal'] or '':>6}", flush=True)
        lines.append(line)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(lines, file, indent=2)


def measure(rounds: int = 9) -> Iterator[Line]:
    """Each comparison in turn, with as many threads as torch has."""
    ours, others = build_attention_rnn(), {LOOPS: build_attention_rnn(WithTransformersLoops), MARIAN: build_marian()}
    sources = torch.randint(4, VOCABULARY, (32, SOURCE_LENGTH), generator=torch.Generator().manual_seed(0))
    for other, batch_size, beams, goal in COMPARISONS:
        theirs, source = others[other], sources[:batch_size]
        search = "greedy" if beams == 1 else f"beam {beams}"
        size = f"{theirs.num_parameters() / 1e6:.1f}M" if other == MARIAN else "same model"
        yield compare(
            f"generate, batch {batch_size}, {search}: {other} ({size})",
            lambda: generate(ours, source, beams),  # noqa: B023 (called before the loop goes on)
            lambda: generate(theirs, source, beams),  # noqa: B023
            rounds,
            goal,
        )

    quantized, source = quantize(ours), sources[:1]
    yield compare(
        "generate, batch 1, greedy: int8 against the same model in float32",
        lambda: generate(quantized, source, 1),
        lambda: generate(ours, source, 1),
        rounds,
        1.0,
    )

    for model, compute_type in ((ours, "float32"), (quantized, "int8")):
        try:
            translate = build_ctranslate2(others[MARIAN], compute_type)
        except ImportError as error:
            print(f"CTranslate2 is skipped: {error}. benchmarks/speed/others.py says how to install it.")
            return
        for batch_size, beams in ((1, 1), (32, 1), (32, 5)):
            source = sources[:batch_size]
            search = "greedy" if beams == 1 else f"beam {beams}"
            yield compare(
                f"generate, batch {batch_size}, {search}, {compute_type}: the same Marian in CTranslate2",
                lambda: generate(model, source, beams),  # noqa: B023
                lambda: translate(source, beams, NEW_TOKENS),  # noqa: B023
                rounds,
            )


def build_attention_rnn(
    model_class: type[AttentionRnnForConditionalGeneration] = AttentionRnnForConditionalGeneration,
) -> PreTrainedModel:
    """The default of the family, 11.0M parameters."""
    torch.manual_seed(0)
    return model_class(AttentionRnnConfig(vocab_size=VOCABULARY, embedding_size=256, hidden_size=512)).eval()


def build_marian() -> PreTrainedModel:
    """As wide as our embeddings and as large as our model; fewer and wider layers than usual, which is faster."""
    config = MarianConfig(
        vocab_size=VOCABULARY,
        d_model=256,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=1280,
        decoder_ffn_dim=1280,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        forced_eos_token_id=None,
        decoder_start_token_id=0,
    )
    torch.manual_seed(0)
    return MarianMTModel(config).eval()


def generate(model: PreTrainedModel, source: Tensor, beams: int) -> Tensor:
    """`NEW_TOKENS` tokens about each source."""
    return model.generate(
        source,
        attention_mask=torch.ones_like(source),
        num_beams=beams,
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
    )


if __name__ == "__main__":
    main()
