"""
How a model reads recordings that are longer than those of its training: by its attention alone, which loses its place,
and together with CTC. Draws one, and prints the word error rates by how many digits were said and by `ctc_weight`, with
greedy search.

    python benchmarks/quality/long_audio.py runs/quality/speech_digits/joint/seed1
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speech import LENGTHS, score_digits
from torch import Tensor
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

from attention_rnn.alignment import alignment_from_outputs
from attention_rnn.plotting import figure_class
from attention_rnn.speech.audio import read_audio

WEIGHTS = (0.0, 0.3, 0.5, 0.8, 1.0)
BATCH = 30
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "long_audio.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a model of speech_digits")
    folder = parser.parse_args().run
    rows = [json.loads(line) for line in (folder.parent / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    rate = processor.feature_extractor.sampling_rate
    recordings = [read_audio(str(folder.parent / row["audio"]), rate) for row in rows]
    shown = next(number for number, row in enumerate(rows) if row["part"] == list(LENGTHS)[-1])
    draw(model, processor, recordings[shown], rows[shown]["text"])
    print(f"{PICTURE} shows {rows[shown]['audio']}: {rows[shown]['text']}")
    print("| `ctc_weight` | " + " | ".join(LENGTHS) + " |\n|" + "---|" * (1 + len(LENGTHS)))
    for weight in WEIGHTS:
        scores = score_digits(transcribe(model, processor, recordings, weight), rows)
        print(f"| {weight} | " + " | ".join(f"{scores[f'wer_{part}']:.1f}" for part in LENGTHS) + " |", flush=True)


def transcribe(model: Any, processor: Any, recordings: list[np.ndarray], ctc_weight: float) -> list[str]:
    rate, texts = processor.feature_extractor.sampling_rate, []
    for start in range(0, len(recordings), BATCH):
        inputs = processor(audio=recordings[start : start + BATCH], sampling_rate=rate, return_tensors="pt")
        tokens = model.generate(**inputs, ctc_weight=ctc_weight, num_beams=1)
        texts += [text.strip() for text in processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    return texts


def draw(model: Any, processor: Any, samples: np.ndarray, text: str) -> None:
    """Write `PICTURE` of a recording in which `text` is said."""
    rate = processor.feature_extractor.sampling_rate
    inputs = processor(audio=samples, sampling_rate=rate, return_tensors="pt")
    figure = figure_class()(figsize=(9, 7), layout="constrained")
    spectrogram, *panels = figure.subplots(3, 1, sharex=True, height_ratios=[1, 2.2, 2.2])
    duration = len(samples) / rate
    frames = inputs["input_features"][0].T
    spectrogram.imshow(frames, origin="lower", aspect="auto", extent=(0, duration, 0, len(frames)), cmap="magma")
    spectrogram.set(title=f"said: {text}", ylabel="mel band")
    for axes, (name, weight) in zip(panels, {"attention alone": 0.0, "with CTC": None}.items(), strict=True):
        words, weights = attend(model, processor, inputs, weight)
        extent = (0, duration, len(words) - 0.5, -0.5)
        axes.imshow(weights, aspect="auto", extent=extent, cmap="Blues", vmin=0, interpolation="none")
        axes.set_yticks(np.arange(len(words)), words, fontsize=7)
        axes.set(ylabel=name)
    panels[-1].set(xlabel="seconds")
    figure.savefig(PICTURE, dpi=110)


def attend(model: Any, processor: Any, inputs: Any, ctc_weight: float | None) -> tuple[list[str], Tensor]:
    """The words that greedy search writes, and the attention of each, (words, positions)."""
    options = {"num_beams": 1, "output_attentions": True, "return_dict_in_generate": True}
    outputs = model.generate(**inputs, ctc_weight=ctc_weight, **options)
    written = outputs.sequences[0, 1:]
    is_word = ~torch.isin(written, torch.tensor(processor.tokenizer.all_special_ids))
    weights = alignment_from_outputs(outputs)[0]
    return processor.tokenizer.convert_ids_to_tokens(written[is_word].tolist()), weights[is_word[: len(weights)]]


if __name__ == "__main__":
    main()
