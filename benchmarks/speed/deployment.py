"""
Time of an exported folder in ONNX Runtime, and of `quantize`, against `generate()` of the same model in torch, and
against a Marian transformer with as many parameters in CTranslate2, where that is installed; and how soon a fresh
process has its first answer, in how much memory.

    python benchmarks/speed/deployment.py
    python benchmarks/speed/deployment.py --rounds 20 --threads 1

The weights are random and the number of tokens is forced, so that every side does the same work whatever it says.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from comparison import Line, compare
from generation import NEW_TOKENS, SOURCE_LENGTH, build_marian
from others import build_ctranslate2

from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration, OnnxRunner, export_onnx, quantize
from attention_rnn.tokenizer_training import train_tokenizer

# the default of the family, and one for characters
MODELS = {
    "11.0M": {"vocab_size": 8000, "embedding_size": 256, "hidden_size": 512},
    "2.3M": {"vocab_size": 60, "embedding_size": 128, "hidden_size": 256},
}
# batch size, beams, and the ratio to CTranslate2 that we aim at
SEARCHES = [(1, 1, 1.3), (32, 1, 1.4), (32, 5, 1.7)]
FIRST_ANSWER = r"""
import re, sys
from pathlib import Path
if sys.argv[1] == "onnx":
    from attention_rnn import OnnxRunner
    OnnxRunner.from_pretrained(sys.argv[2])(sys.argv[3], max_new_tokens=5)
else:
    import attention_rnn
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    model, tokenizer = (kind.from_pretrained(sys.argv[2]) for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
    model.generate(**tokenizer([sys.argv[3]], return_tensors="pt", return_token_type_ids=False), max_new_tokens=5)
status = Path("/proc/self/status")  # getrusage would count the process that has started this one
peak = re.search(r"VmHWM:\s+(\d+)", status.read_text() if status.is_file() else "")
print(int(peak[1]) // 1024 if peak else "?")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="how often the sides take turns (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"source {SOURCE_LENGTH}, {NEW_TOKENS} new tokens, {options.threads} threads")
    for line in measure(options.rounds):
        times = "".join(f"{1e3 * line[side]:7.0f} ms" for side in ("ours_seconds", "theirs_seconds"))
        print(f"{line['name']:75}{times}{line['ratio']:7.2f}{line['spread']:8.2f}", flush=True)


def measure(rounds: int = 9) -> Iterator[Line]:
    """Each comparison in turn, with as many threads as torch has."""
    for size, overrides in MODELS.items():
        torch.manual_seed(0)
        model = AttentionRnnForConditionalGeneration(AttentionRnnConfig(**overrides)).eval()
        words = [f"w{index}" for index in range(overrides["vocab_size"] - 4)]
        tokenizer = train_tokenizer([" ".join(words)], kind="word", vocab_size=overrides["vocab_size"])
        chosen = torch.randint(len(words), (32, SOURCE_LENGTH - 1), generator=torch.Generator().manual_seed(0))
        texts = [" ".join(words[index] for index in row) for row in chosen]
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(f"{folder}/torch")
            tokenizer.save_pretrained(f"{folder}/torch")
            in_float, in_int8 = (partial(generate, one, tokenizer) for one in (model, quantize(model)))
            for batch_size, beams, _ in SEARCHES:
                yield compare(
                    f"{title(size, batch_size, beams)}: torch int8 against torch float32",
                    partial(in_int8, texts[:batch_size], **settings(beams)),
                    partial(in_float, texts[:batch_size], **settings(beams)),
                    rounds,
                    1.0,
                )
            for weights in ("float32", "int8"):
                exported = export_onnx(model, tokenizer, f"{folder}/{weights}", weights)
                runner = OnnxRunner.from_pretrained(exported, threads=torch.get_num_threads())
                for batch_size, beams, _ in SEARCHES:
                    yield compare(
                        f"{title(size, batch_size, beams)}: ONNX {weights} against torch float32",
                        partial(runner, texts[:batch_size], **settings(beams)),
                        partial(in_float, texts[:batch_size], **settings(beams)),
                        rounds,
                    )
            if overrides["vocab_size"] == build_marian().config.vocab_size:
                yield from against_ctranslate2(size, runner, texts, rounds)
            sides = [("onnx", exported), ("torch", Path(folder) / "torch")]
            sizes = [
                f"{kind}, {first_answer(kind, of_kind, texts[0])} MB of memory, {megabytes(of_kind):.1f} MB of files"
                for kind, of_kind in sides
            ]
            yield compare(
                f"{size}, a fresh process to its first answer: {' against '.join(sizes)}",
                *(partial(first_answer, kind, of_kind, texts[0]) for kind, of_kind in sides),
                min(rounds, 3),
            )


def against_ctranslate2(size: str, runner: OnnxRunner, texts: list[str], rounds: int) -> Iterator[Line]:
    try:
        translate = build_ctranslate2(build_marian(), "int8")
    except ImportError as error:
        print(f"CTranslate2 is skipped: {error}. benchmarks/speed/others.py says how to install it.")
        return
    sources = torch.tensor([encoding.ids for encoding in runner.tokenizer.encode_batch(texts)])
    for batch_size, beams, goal in SEARCHES:
        yield compare(
            f"{title(size, batch_size, beams)}: ONNX int8 against a Marian of this size in CTranslate2 int8",
            partial(runner, texts[:batch_size], **settings(beams)),
            partial(translate, sources[:batch_size], beams, NEW_TOKENS),
            rounds,
            goal,
        )


def title(size: str, batch_size: int, beams: int) -> str:
    return f"{size}, batch {batch_size}, {'greedy' if beams == 1 else f'beam {beams}'}"


def settings(beams: int) -> dict[str, int]:
    return {"num_beams": beams, "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}


def generate(model: Any, tokenizer: Any, texts: list[str], **settings: Any) -> list[str]:
    inputs = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    return tokenizer.batch_decode(model.generate(**inputs, do_sample=False, **settings), skip_special_tokens=True)


def first_answer(kind: str, folder: Path, text: str) -> str:
    """Of a fresh process; returns the most memory that it had, in MB."""
    command = [sys.executable, "-c", FIRST_ANSWER, kind, str(folder), text]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


def megabytes(folder: Path) -> float:
    """What a program needs of a folder."""
    needed = {"encoder.onnx", "step.onnx", "config.json", "tokenizer.json", "model.safetensors"}
    return sum(file.stat().st_size for file in folder.iterdir() if file.name in needed) / 1e6


if __name__ == "__main__":
    main()
