"""
What length costs: tokens per second of the encoder-decoder over sources of 1,000 to 30,000 tokens, and the time of a
generated token, and the size of the cache, from token 10 to token 10,000. Draws docs/length.png.

    python benchmarks/speed/run.py length
"""

import statistics
import time
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration

PLOT = Path(__file__).resolve().parents[2] / "docs" / "length.png"
SOURCES = [1000, 3000, 10_000, 30_000]
TARGET = 50
GENERATED = [10, 100, 1000, 10_000]
WINDOW = 50  # generated tokens that are timed together


class Point(TypedDict):
    """`seconds` for each source token, or for each generated one; `cache` is the number of values in the cache."""

    kind: str
    length: int
    seconds: float
    cache: int | None


def measure(rounds: int) -> list[Point]:
    torch.manual_seed(0)
    model = AttentionRnnForConditionalGeneration(AttentionRnnConfig(vocab_size=1000, attention_type="general"))
    labels = torch.randint(4, 1000, (1, TARGET))
    points: list[Point] = []
    for length in SOURCES:
        source = torch.randint(4, 1000, (1, length))
        times = {"forward": [], "training": []}  # type: dict[str, list[float]]
        model.train()(input_ids=source, labels=labels).loss.backward()  # the first time takes memory from the system
        for _ in range(rounds):
            with torch.no_grad():
                start = time.perf_counter()
                model.eval()(input_ids=source, labels=labels)
                times["forward"].append(time.perf_counter() - start)
            start = time.perf_counter()
            model.train()(input_ids=source, labels=labels).loss.backward()
            times["training"].append(time.perf_counter() - start)
        for kind, seconds in times.items():
            points.append(Point(kind=kind, length=length, seconds=statistics.median(seconds) / length, cache=None))
    return points + generation(model.eval())


def generation(model: Any) -> list[Point]:
    """One long greedy generation by the cache, as `generate()` does it, timed on its way."""
    encoded = model.get_encoder()(input_ids=torch.randint(4, 1000, (1, 30)))
    points, cache, token = [], None, torch.full((1, 1), model.config.decoder_start_token_id)
    times: list[float] = []
    with torch.no_grad():
        for length in range(1, max(GENERATED) + WINDOW + 1):
            start = time.perf_counter()
            output = model(encoder_outputs=encoded, decoder_input_ids=token, past_key_values=cache)
            token, cache = output.logits[:, -1:].argmax(dim=-1), output.past_key_values
            times.append(time.perf_counter() - start)
            if length - WINDOW in GENERATED:
                seconds = statistics.median(times[-WINDOW:])
                size = cache_size(cache)
                points.append(Point(kind="generation", length=length - WINDOW, seconds=seconds, cache=size))
    return points


def cache_size(cache: Any) -> int:
    layers = [*cache.self_attention_cache.layers, *cache.cross_attention_cache.layers]
    tensors = {id(value): value for layer in layers for value in vars(layer).values() if isinstance(value, Tensor)}
    return sum(value.untyped_storage().nbytes() // value.element_size() for value in tensors.values())


def draw(points: list[Point]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for kind in ("forward", "training"):
        of_kind = [point for point in points if point["kind"] == kind]
        left.plot([point["length"] for point in of_kind], [1 / point["seconds"] for point in of_kind], "o-", label=kind)
    left.set(
        xscale="log", xlabel="source tokens", ylabel="source tokens / s", ylim=0, title="One source, by its length"
    )
    left.legend()
    generated = [point for point in points if point["kind"] == "generation"]
    right.plot([point["length"] for point in generated], [1e3 * point["seconds"] for point in generated], "o-")
    right.set(xscale="log", xlabel="token", ylabel="ms / token", ylim=(0, 5), title="A generated token, by its place")
    figure.savefig(PLOT, dpi=150)
