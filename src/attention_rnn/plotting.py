"""Draw what the attention did: one alignment of source and target as a heat map with the tokens on both axes."""

import math
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In inches. A cell is as large as lets the longer side of the heat map keep to `_LONG_SIDE`, within these bounds, but
# never so large that it exceeds `_LONGEST_SIDE`.
_SMALLEST_CELL, _LARGEST_CELL = 0.17, 0.36
_LONG_SIDE, _LONGEST_SIDE = 10.0, 16.0
_MARGIN = 0.1
_LONGEST_LABEL = 32  # characters


def alignment_from_outputs(outputs: Any) -> torch.Tensor:
    """Bring the cross-attention of a forward pass or of `generate` into one form, averaged over the heads.

    Args:
        outputs (`ModelOutput`): of `model(..., output_attentions=True)` or of `model.generate(...,
            output_attentions=True, return_dict_in_generate=True)`, with any decoding method. Of a model that attends
            in several layers, the last one counts.

    Returns:
        `torch.Tensor` of shape (batch, target, source) and type float32: row i holds where the model looked to predict
        `labels[:, i]`, or `sequences[:, i + 1]` after `generate`, whose batch is that of `sequences`. What lies beyond
        the end of a sequence means nothing.

    Raises:
        ValueError: if the outputs hold no cross-attention.
    """
    attentions = getattr(outputs, "cross_attentions", None)
    if not attentions:
        raise ValueError(
            "outputs must hold cross_attentions: call the model with output_attentions=True, and generate with "
            f"output_attentions=True and return_dict_in_generate=True; got {type(outputs).__name__}"
        )
    if isinstance(attentions[0], torch.Tensor):
        return attentions[-1].float().mean(dim=1)

    # The first step covers the whole decoder prompt. The later ones cover one token, or, without a cache, everything
    # so far again, of which the last row is new.
    prompt, *later = [layers[-1].float().mean(dim=1) for layers in attentions]
    steps = [prompt, *(step[:, -1:] for step in later)]
    beam_indices = getattr(outputs, "beam_indices", None)
    if beam_indices is not None:
        # beam_indices[i, t] is the row of step t that sequence i went through, -1 after its end.
        steps = [
            step[rows.clamp(min=0)] * (rows >= 0)[:, None, None]
            for step, rows in zip(steps, beam_indices.unbind(dim=1), strict=False)
        ]
    return torch.cat(steps, dim=1)[:, : outputs.sequences.shape[1] - 1]


def plot_alignment(
    weights: torch.Tensor | Sequence[Sequence[float]],
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    *,
    title: str | None = None,
    axes: "Axes | None" = None,
) -> "Figure":
    """Draw one alignment: source on top, target downwards, from white (weight 0) to dark (weight 1).

        plot_alignment(weights, source_tokens, target_tokens).savefig("alignment.png")

    Tokens of any script are drawn with the fonts that are installed. A character that no font has stands as its code
    point (U+5E74), a space as ␣.

    Args:
        weights (`torch.Tensor` of shape (target, source), an array or nested lists): between 0 and 1, without padding.
        source_tokens (`list[str]`): one for each column.
        target_tokens (`list[str]`): one for each row.
        title (`str`): a line above the picture.
        axes (`matplotlib.axes.Axes`): draw there, as it is, instead of in a new figure of fitting size.

    Returns:
        `matplotlib.figure.Figure`: the new figure, or the one of `axes`.

    Raises:
        ImportError: without matplotlib.
        TypeError: for a token that is no string.
        ValueError: for weights of another shape than the tokens, without any token, or outside of 0 to 1.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"plotting needs matplotlib ({error}): pip install attention-rnn[plot]") from error

    for name, tokens in (("source_tokens", source_tokens), ("target_tokens", target_tokens)):
        for i, token in enumerate(tokens):
            if not isinstance(token, str):
                raise TypeError(f"{name}[{i}] must be a string, got {token!r}")
    weights = torch.as_tensor(weights).detach().float().cpu()
    shape = (len(target_tokens), len(source_tokens))
    if tuple(weights.shape) != shape or 0 in shape:
        raise ValueError(
            "weights must have the shape (target, source), one row for each of target_tokens and one column for each "
            f"of source_tokens, at least one: got the shape {tuple(weights.shape)} for {shape[0]} target_tokens and "
            f"{shape[1]} source_tokens"
        )
    # A little room, as sums in bfloat16 exceed 1. Written so that NaN fails too.
    low, high = weights.min().item(), weights.max().item()
    if not (low >= -0.01 and high <= 1.01):
        raise ValueError(f"weights must lie between 0 and 1, got values from {low:.3g} to {high:.3g}")

    targets, sources = shape
    if axes is not None:
        box = axes.get_window_extent()
        cell = min(box.width / sources, box.height / targets) / axes.figure.dpi
        _draw(axes, weights, source_tokens, target_tokens, title, cell)
        return axes.figure.figure  # the whole figure, where axes lie in a part of one
    cell = min(max(_SMALLEST_CELL, _LONG_SIDE / max(shape)), _LARGEST_CELL, _LONGEST_SIDE / max(shape))
    figure = Figure(figsize=(sources * cell, targets * cell), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    _draw(axes, weights, source_tokens, target_tokens, title, cell)
    _add_margins(figure, axes)
    return figure


def _draw(
    axes: "Axes",
    weights: torch.Tensor,
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    title: str | None,
    cell: float,
) -> None:
    """Draw into axes in which a cell is `cell` inches wide."""
    from matplotlib.backends.backend_agg import RendererAgg

    targets, sources = weights.shape
    # In "Blues" white is nothing, and equal steps of the weight look equal.
    lines = 0.3 if cell > 0.1 else 0.0  # lines between small cells would hide them
    axes.pcolormesh(weights.numpy(), cmap="Blues", vmin=0, vmax=1, edgecolors="0.9", linewidth=lines)
    axes.set(aspect="equal", xlim=(0, sources), ylim=(targets, 0))
    axes.spines[:].set(color="0.9", linewidth=lines)

    families, missing = _fonts("".join([*source_tokens, *target_tokens, title or "", "␣◌…"]))
    size = min(10.0, max(5.0, 0.55 * 72 * cell))
    # parse_math: a "$" is a token like any other.
    style: dict[str, Any] = {"fontfamily": families, "fontsize": size, "parse_math": False}
    # In cells too small for a label each, every second, third, ... token has one.
    step = math.ceil(1.2 * size / 72 / cell)
    columns, rows = range(0, sources, step), range(0, targets, step)
    axes.set_xticks([i + 0.5 for i in columns], [_label(source_tokens[i], missing) for i in columns], **style)
    axes.set_yticks([i + 0.5 for i in rows], [_label(target_tokens[i], missing) for i in rows], **style)
    if title is not None:
        axes.set_title(_spell_out(title, missing), pad=10, **style)

    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    # Labels wider than their column lean; where that is most of them, all do.
    labels = axes.get_xticklabels()
    room = 0.95 * step * cell * axes.figure.dpi
    renderer = RendererAgg(1, 1, axes.figure.dpi)
    wide = [label for label in labels if label.get_window_extent(renderer).width > room]
    for label in labels if 2 * len(wide) > len(labels) else wide:
        label.set(rotation=45, ha="left", rotation_mode="anchor")


def _add_margins(figure: "Figure", axes: "Axes") -> None:
    """Enlarge a figure that its axes fill, so that it holds their labels too."""
    from matplotlib.backends.backend_agg import RendererAgg

    width, height = figure.get_size_inches()
    box = figure.get_tightbbox(RendererAgg(1, 1, figure.dpi))  # in inches
    left, bottom = _MARGIN - box.x0, _MARGIN - box.y0
    full_width, full_height = left + box.x1 + _MARGIN, bottom + box.y1 + _MARGIN
    figure.set_size_inches(full_width, full_height)
    axes.set_position((left / full_width, bottom / full_height, width / full_width, height / full_height))


def _fonts(text: str) -> tuple[list[str], set[str]]:
    """Find installed fonts for a text: the families to draw with, by preference, and the characters that none has."""
    from matplotlib import font_manager, rcParams
    from matplotlib.font_manager import FontProperties

    families = list(rcParams["font.family"])
    printable = {character for character in text if character.isprintable()}
    missing = _without_glyph(printable, font_manager.findfont(FontProperties()))
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: ("Sans" not in entry.name, entry.name)):
        if not missing:
            break
        # Last Resort, a font that comes with matplotlib, has a box for everything.
        if entry.style != "normal" or "Last Resort" in entry.name:
            continue
        still_missing = _without_glyph(missing, entry.fname)
        # Of a family, matplotlib draws with one file only.
        if still_missing != missing and entry.fname == font_manager.findfont(FontProperties(family=[entry.name])):
            families.append(entry.name)
            missing = still_missing
    return families, missing


def _without_glyph(characters: set[str], font_path: str) -> set[str]:
    from matplotlib.font_manager import get_font

    try:
        font = get_font(font_path)
    except (OSError, RuntimeError):  # removed since matplotlib made its list, or broken
        return characters
    return {character for character in characters if font.get_char_index(ord(character)) == 0}


def _label(token: str, missing: set[str]) -> str:
    """Write a token so that all of it can be seen."""
    label = token.replace(" ", "␣")
    if label and unicodedata.category(label[0]).startswith("M"):
        label = "◌" + label  # a mark needs something to stand on
    # Control characters and spaces of other kinds; joiners do their work inside a word.
    hidden = {c for c in label if not c.isprintable() and (len(label) == 1 or unicodedata.category(c) != "Cf")}
    label = _spell_out(label, missing | hidden)
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _spell_out(text: str, characters: set[str]) -> str:
    """Replace characters by their code points, such as U+5E74."""
    pieces = [f" U+{ord(c):04X} " if c in characters else c for c in text]
    return "".join(pieces).replace("  ", " ").strip(" ")
