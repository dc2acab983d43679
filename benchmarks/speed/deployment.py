"""
Time of an exported folder in ONNX Runtime against `generate()` of the same model in torch, and how soon a fresh process
has its first answer.

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
from generation import NEW_TOKENS, SOURCE_LENGTH

from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration, OnnxRunner, export_onnx
from attention_rnn.tokenizer_training import train_tokenizer

# the default of the family, and one for characters
MODELS = {
    "11.0M": {"vocab_size": 8000, "embedding_size": 256, "hidden_size": 512},
    "2.3M": {"vocab_size": 60, "embedding_size": 128, "hidden_size": 256},
}
SEARCHES = [(1, 1), (32, 1), (32, 5)]  # batch size, beams
FIRST_ANSWER = """
import sys
if sys.argv[1] == "onnx":
    from attention_rnn import OnnxRunner
    OnnxRunner.from_pretrained(sys.argv[2])(sys.argv[3], max_new_tokens=5)
else:
    import attention_rnn
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    model, tokenizer = (kind.from_pretrained(sys.argv[2]) for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
    model.generate(**tokenizer([sys.argv[3]], return_tensors="pt", return_token_type_ids=False), max_new_tokens=5)
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
    """Each comparison in turn, with as many threads as torch has; "theirs" is torch."""
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
            for weights in ("float32", "int8"):
                exported = export_onnx(model, tokenizer, f"{folder}/{weights}", weights)
                runner = OnnxRunner.from_pretrained(exported, threads=torch.get_num_threads())
                for batch_size, beams in SEARCHES:
                    settings = {"num_beams": beams, "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
                    search = "greedy" if beams == 1 else f"beam {beams}"
                    yield compare(
                        f"{size}, batch {batch_size}, {search}: ONNX {weights} against torch float32",
                        partial(runner, texts[:batch_size], **settings),
                        partial(generate, model, tokenizer, texts[:batch_size], **settings),
                        rounds,
                    )
            yield compare(
                f"{size}, a fresh process to its first answer: ONNX int8 against torch",
                partial(first_answer, "onnx", exported, texts[0]),
                partial(first_answer, "torch", Path(folder) / "torch", texts[0]),
                min(rounds, 3),
            )


def generate(model: Any, tokenizer: Any, texts: list[str], **settings: Any) -> list[str]:
    inputs = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    return tokenizer.batch_decode(model.generate(**inputs, do_sample=False, **settings), skip_special_tokens=True)


def first_answer(kind: str, folder: Path, text: str) -> None:
    subprocess.run([sys.executable, "-c", FIRST_ANSWER, kind, str(folder), text], check=True, capture_output=True)


if __name__ == "__main__":
    main()
