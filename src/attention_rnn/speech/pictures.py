"""Pictures of where a model of speech listened: attention over a spectrogram, spikes of CTC, pooling of a waveform."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..alignment import alignment_from_outputs
from ..plotting import figure_class

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "attention_maps"
_DPI = 150


def plot_pooling(samples: np.ndarray, weights: Tensor, sampling_rate: int, title: str = "") -> "Figure":
    """
    Draw with which weights each head pools a recording, over its waveform.

    Args:
        samples: (samples,).
        weights: (heads, positions), over the whole recording.
        sampling_rate: samples per second.
        title: a line above.
    """
    duration = len(samples) / sampling_rate
    figure = figure_class()(figsize=(8, 2.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(np.linspace(0, duration, len(samples)), samples, color="0.7", linewidth=0.5)
    axes.set(xlim=(0, duration), xlabel="seconds", title=title, yticks=[])
    above = axes.twinx()
    for head, of_head in enumerate(weights.float().cpu().numpy()):
        label = f"head {head}" if len(weights) > 1 else None
        above.stairs(of_head, np.linspace(0, duration, len(of_head) + 1), label=label)
    above.set(ylabel="weight", ylim=(0, None))
    if len(weights) > 1:
        above.legend()
    return figure


def plot_transcription(
    log_mel: Tensor,
    tokens: Sequence[str],
    weights: Tensor | None,
    probabilities: Tensor | None,
    duration: float,
    title: str = "",
) -> "Figure":
    """
    Draw a spectrogram, below it the attention of each token that was written, and the probability of each at each
    position as CTC has it; what is `None` is left out.

    Args:
        log_mel: (frames, mels).
        tokens: those that were written.
        weights: of the attention, (tokens, positions).
        probabilities: of CTC, (tokens, positions).
        duration: of the recording, in seconds.
        title: a line above.
    """
    panels = 1 + (weights is not None) + (probabilities is not None)
    heights = [1.0] + [max(1.0, 0.12 * len(tokens))] * (weights is not None) + [1.0] * (probabilities is not None)
    figure = figure_class()(figsize=(8, 2.2 * sum(heights)), layout="constrained")
    every_axes = np.atleast_1d(figure.subplots(panels, 1, sharex=True, height_ratios=heights)).tolist()
    spectrogram = every_axes.pop(0)
    extent: tuple[float, ...] = (0, duration, 0, log_mel.shape[1])
    spectrogram.imshow(log_mel.float().cpu().numpy().T, origin="lower", aspect="auto", extent=extent, cmap="magma")
    spectrogram.set(title=title, ylabel="mel band")
    shown = [token if token.strip() else "␣" for token in tokens]
    if weights is not None:
        attention = every_axes.pop(0)
        extent = (0, duration, len(tokens) - 0.5, -0.5)
        attention.imshow(weights.float().cpu().numpy(), aspect="auto", extent=extent, cmap="Blues", vmin=0)
        attention.set_yticks(range(len(tokens)), shown, fontsize=6)
        attention.set(ylabel="attention")
    if probabilities is not None:
        spikes = every_axes.pop(0)
        edges = np.linspace(0, duration, probabilities.shape[1] + 1)
        curves = probabilities.float().cpu().numpy()
        for token, of_token, peak in zip(shown, curves, peaks_in_order(curves), strict=True):
            spikes.stairs(of_token, edges)
            spikes.text(edges[peak], 1.02, token, fontsize=7, horizontalalignment="center")
        spikes.set(ylabel="CTC", ylim=(0, 1.15))
    (spikes if probabilities is not None else attention if weights is not None else spectrogram).set(xlabel="seconds")
    return figure


def peaks_in_order(curves: np.ndarray) -> list[int]:
    """For each row of (rows, columns) a column behind that of the row before, such that their sum is the highest."""
    best, origins = curves[0], []
    for curve in curves[1:]:
        highest = np.maximum.accumulate(best)
        places = np.maximum.accumulate(np.where(best == highest, np.arange(len(best)), 0))
        origins.append(np.concatenate([[0], places[:-1]]))  # where the rows before end, before each column
        best = curve + np.concatenate([[-len(curves)], highest[:-1]])
    peaks = [int(best.argmax())]
    for places in reversed(origins):
        peaks.append(int(places[peaks[-1]]))
    return peaks[::-1]


def draw_poolings(
    output_dir: str | Path, model: Any, extractor: Any, recordings: Iterable[tuple[np.ndarray, str]]
) -> list[str]:
    """
    Draw where a classifier of this package listens in recordings, each with its label; nothing of another model.

    Returns:
        The pictures, relative to `output_dir`.
    """
    if not model.config.model_type.startswith("attention_rnn"):
        return []
    model.eval()
    folder, pictures = Path(output_dir, FOLDER), []
    for number, (samples, label) in enumerate(recordings):
        inputs = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt").to(model.device)
        with torch.no_grad():
            outputs = model(**inputs, output_attentions=True)
        said = model.config.id2label[int(outputs.logits.argmax())]
        title = f"predicted: {said}; label: {label}"
        figure = plot_pooling(samples, outputs.attentions[0][0, :, 0], extractor.sampling_rate, title)
        pictures.append(_save(figure, folder, number))
    return pictures


def draw_transcriptions(
    output_dir: str | Path, model: Any, processor: Any, recordings: Iterable[tuple[np.ndarray, str]]
) -> list[str]:
    """
    Draw where a model of this package listens for what it writes of recordings, each with its text; nothing of another
    model.

    Returns:
        The pictures, relative to `output_dir`.
    """
    if not model.config.model_type.startswith("attention_rnn"):
        return []
    model.eval()
    folder, pictures = Path(output_dir, FOLDER), []
    rate = processor.feature_extractor.sampling_rate
    for number, (samples, text) in enumerate(recordings):
        inputs = processor(audio=samples, sampling_rate=rate, return_tensors="pt").to(model.device)
        with torch.no_grad():
            outputs = model.generate(**inputs, output_attentions=True, return_dict_in_generate=True)
            encoded = model.model.encoder(**inputs, return_dict=True)
            log_probs = None if model.ctc_head is None else model.ctc_head(encoded.last_hidden_state)[0]
        sequences = outputs if isinstance(outputs, Tensor) else outputs.sequences  # of a triggered attention alone
        written = sequences[0, 1:]
        special = torch.tensor(processor.tokenizer.all_special_ids, device=written.device)
        is_text = ~torch.isin(written, special)
        tokens = [processor.tokenizer.decode([token]) for token in written[is_text].tolist()]
        if not tokens:
            continue
        weights = None
        if getattr(outputs, "cross_attentions", None) and len(outputs.cross_attentions[0]):
            attention = alignment_from_outputs(outputs)[0]
            weights = attention[is_text[: len(attention)]]
        probabilities = None if log_probs is None else log_probs.exp()[:, written[is_text]].T
        figure = plot_transcription(
            inputs["input_features"][0], tokens, weights, probabilities, len(samples) / rate, text
        )
        pictures.append(_save(figure, folder, number))
    return pictures


def _save(figure: "Figure", folder: Path, number: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{number}.png", dpi=_DPI)
    return f"{folder.name}/{number}.png"
