"""Show what the attention did: one alignment as a heat map, a heat map for each head, or many alignments in a page."""

import html
import json
import logging
import math
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import ArrayLike
from torch import Tensor

from .alignment import Alignment, as_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_alignment", "plot_heads", "write_alignment_page"]

logger = logging.getLogger(__name__)

# In inches. A cell is as large as lets the longer side of the heat map keep to `_LONG_SIDE`, within these bounds, but
# never so large that it exceeds `_LONGEST_SIDE`.
_SMALLEST_CELL, _LARGEST_CELL = 0.17, 0.36
_LONG_SIDE, _LONGEST_SIDE = 10.0, 16.0
_MARGIN = 0.1
_HEAD_GAP = 0.35  # between the heat maps of heads, with room for the name of a head
_LONGEST_LABEL, _NARROWEST_TITLE = 32, 40  # characters
_BAR_GAP, _BAR_WIDTH, _BAR_HEIGHT = 0.2, 0.1, 1.2  # of the colour bar at the right
_NAMES: dict[str, Any] = {
    "fontsize": 7,
    "color": "0.4",
    "labelpad": 2,
}  # how an axis, the colour bar and a head are named


class _Words(NamedTuple):
    """What is shown of a kind of alignment: its columns, its rows, one of them, what lights what, and its score."""

    columns: str
    rows: str
    row: str
    lights: str
    score: str


_WORDS = {
    "pairs": _Words(
        "source",
        "target",
        "token of the target",
        "A token of the target lights where the model looked to write it; a token of the source lights what was "
        "written while looking at it.",
        "The score is the log probability of what was written, divided by its length where the search did so: 0 is "
        "certain.",
    ),
    "classification": _Words(
        "text",
        "attention",
        "head of the attention",
        "A head of the attention lights the tokens that the answer was told from; a token lights how much of it each "
        "head took.",
        "The score is the probability of what was said: 1 is certain.",
    ),
    "labelling": _Words(
        "words looked at",
        "words labelled",
        "token that is labelled",
        "A token that is labelled lights the tokens that the model looked at for it; a token looked at lights those "
        "that were labelled by it.",
        "The score is the probability of what was said: 1 is certain.",
    ),
    "question-answering": _Words(
        "question",
        "context",
        "token of the context around the answer",
        "A token of the context lights the tokens of the question that it was compared with; a token of the question "
        "lights the tokens of the context that looked at it.",
        "The score is the probability of the answer: 1 is certain.",
    ),
}


def plot_alignment(
    weights: Tensor | ArrayLike,
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    *,
    title: str | None = None,
    axes: "Axes | None" = None,
    kind: str = "pairs",
) -> "Figure":
    """Draw one alignment: source on top, target downwards, from white (weight 0) to dark (weight 1).

        plot_alignment(weights, source_tokens, target_tokens).savefig("alignment.png")

    Tokens of any script are drawn with the fonts that are installed. A character that no font has stands as its code
    point (U+5E74), and a warning names a package of fonts that may have it; a space stands as ␣.

    Args:
        weights (`torch.Tensor` of shape (target, source), an array or nested lists): between 0 and 1, without padding.
        source_tokens (`list[str]`): one for each column.
        target_tokens (`list[str]`): one for each row.
        title (`str`): a line above the picture.
        axes (`matplotlib.axes.Axes`): draw there, as it is, instead of in a new figure of fitting size. The names of
            the axes and the colour bar are then left to you.
        kind (`str`): of `Alignment`, which names the axes.

    Returns:
        `matplotlib.figure.Figure`: the new figure, or the one of `axes`.

    Raises:
        ImportError: without matplotlib.
        TypeError: for a token that is no string, or weights that are no array of numbers.
        ValueError: for weights of another shape than the tokens, without any token, or outside of 0 to 1.
    """
    new_figure = figure_class()
    weights = _fitting_weights(weights, ("target", "source"), source_tokens, target_tokens)
    targets, sources = weights.shape
    if axes is not None:
        box = axes.get_window_extent()
        cell = min(box.width / sources, box.height / targets) / axes.figure.dpi
        _draw_weights(axes, weights, cell)
        _draw_tokens(axes, source_tokens, target_tokens, title, cell)
        return axes.figure.figure  # the whole figure, where axes lie in a part of one

    cell = _cell_size(max(sources, targets))
    figure = new_figure(figsize=(sources * cell, targets * cell), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    _draw_weights(axes, weights, cell)
    _draw_tokens(axes, source_tokens, target_tokens, title, cell)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(_WORDS[kind].columns, **_NAMES)
    if targets > 1:  # a single row has a name of its own
        axes.set_ylabel(_WORDS[kind].rows, **_NAMES)
    _add_colour_bar(figure)
    _add_margins(figure)
    return figure


def plot_heads(
    weights: Tensor | ArrayLike,
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    *,
    title: str | None = None,
) -> "Figure":
    """Draw the alignment of every head, each a heat map as of `plot_alignment`, side by side and in rows.

        weights = alignment_from_outputs(outputs, average_heads=False)[0]
        plot_heads(weights, source_tokens, target_tokens).savefig("heads.png")

    The source stands above the first row, the target at the left of the first column, and the number of a head, from
    0, below it.

    Args:
        weights (`torch.Tensor` of shape (heads, target, source), an array or nested lists): between 0 and 1, without
            padding.
        source_tokens (`list[str]`): one for each column of a heat map.
        target_tokens (`list[str]`): one for each row of a heat map.
        title (`str`): a line above the picture.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        As `plot_alignment`.
    """
    new_figure = figure_class()
    weights = _fitting_weights(weights, ("heads", "target", "source"), source_tokens, target_tokens)
    heads, targets, sources = weights.shape
    # as many columns as make the picture about as wide as high
    columns = min(heads, max(1, round(math.sqrt(heads * targets / sources))))
    rows = math.ceil(heads / columns)
    cell = _cell_size(max(columns * sources, rows * targets))
    width, height = sources * cell, targets * cell
    full_width = columns * (width + _HEAD_GAP) - _HEAD_GAP
    full_height = rows * (height + _HEAD_GAP) - _HEAD_GAP

    figure = new_figure(figsize=(full_width, full_height), dpi=150)
    for head in range(heads):
        row, column = divmod(head, columns)
        left, bottom = column * (width + _HEAD_GAP), full_height - height - row * (height + _HEAD_GAP)
        axes = figure.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))
        _draw_weights(axes, weights[head], cell)
        _draw_tokens(
            axes,
            source_tokens if row == 0 else (),
            target_tokens if column == 0 else (),
            title if head == 0 else None,
            cell,
        )
        axes.set_xlabel(f"head {head}", **_NAMES)
        axes.xaxis.set_label_position("bottom")
    figure.axes[0].title.set(horizontalalignment="left", x=0)  # above all heat maps, where it may be longer than one
    _add_colour_bar(figure)
    _add_margins(figure)
    return figure


def write_alignment_page(path: str | Path, alignments: Iterable[Alignment], *, title: str = "Attention") -> None:
    """Write alignments as one HTML page to explore in a browser: pointing at a token (or tapping it, or walking to it
    with Tab and the arrow keys) lights the tokens of the other side by their weights.

        write_alignment_page("attention.html", [Alignment(weights, source_tokens, target_tokens, "a title")])

    The page needs no other file and no network. It shows weights with two decimals, a matrix beside each pair, and what
    is known of its score and whether it is right: pairs with scores stand in their order, the least certain one first,
    and one can look at errors only.

    Args:
        path (`str` or `Path`): the file to write.
        alignments (`Iterable[Alignment]`): the pairs to show, one below the other.
        title (`str`): the heading of the page.

    Raises:
        TypeError: for anything but an `Alignment`, a token or title that is no string, or weights that are no array
            of numbers.
        ValueError: for weights of another shape than the tokens, without any token, or outside of 0 to 1.
    """
    _check_string("title", title)
    pairs, kinds, has_scores = [], [], False
    for index, alignment in sorted(enumerate(alignments), key=lambda numbered: certainty(numbered[1])):
        if not isinstance(alignment, Alignment):
            raise TypeError(f"alignments[{index}] must be an Alignment, got {type(alignment).__name__}")
        try:
            pairs.append(_pair(alignment))
            kinds.append(alignment.kind)
            has_scores |= alignment.score is not None
        except (TypeError, ValueError) as error:
            raise type(error)(f"alignments[{index}]: {error}") from error
    template = Template(Path(__file__).with_name("alignment_page.html").read_text(encoding="utf-8"))
    words = _WORDS[kinds[0] if kinds else "pairs"]
    score = f" {words.score} What is least certain comes first." if has_scores else ""
    page = template.substitute(
        words._asdict(), title=html.escape(title), pairs="\n".join(pairs), explanation=words.lights + score
    )
    Path(path).write_text(page, encoding="utf-8")


def from_to(source: str, target: str) -> str:
    """Two texts and an arrow from left to right, also where they are written from right to left."""
    is_turned = any(unicodedata.bidirectional(character) in ("R", "AL") for character in source + target)
    mark = "\N{LEFT-TO-RIGHT MARK}" if is_turned else ""
    return f"{mark}{source}{mark} → {mark}{target}"


def certainty(alignment: Any) -> float:
    """By which alignments are shown in their order: the least certain one first, those without a score last."""
    score = getattr(alignment, "score", None)
    return math.inf if score is None else score


def _pair(alignment: Alignment) -> str:
    source_tokens, target_tokens, title = alignment.source_tokens, alignment.target_tokens, alignment.title
    weights = _fitting_weights(alignment.weights, ("target", "source"), source_tokens, target_tokens)
    heading = ""
    if title is not None:
        _check_string("title", title)
        heading = f'<h2 dir="auto">{html.escape(title)}</h2>'
    if alignment.text is not None:
        _check_string("text", alignment.text)
        heading += f'<p class="text" dir="auto">{html.escape(alignment.text)}</p>'
    verdict = {None: "", True: "right", False: "wrong"}[alignment.is_right]
    told = f'<span class="mark">{"✓" if alignment.is_right else "✗"} {verdict}</span>' if verdict else ""
    if alignment.score is not None:
        told += f" score {alignment.score:.2f}"
    if told:
        heading += f'<p class="verdict">{told}</p>'
    percents = json.dumps((100 * weights).round().int().tolist(), separators=(",", ":"))
    columns, rows = (name[0].upper() + name[1:] for name in _WORDS[alignment.kind][:2])
    return f"""<section class="{verdict}" data-weights="{percents}">{heading}
<h3>{columns}</h3><div class="source" role="group" aria-label="{columns}" {_ROW}>{_buttons(source_tokens)}</div>
<h3>{rows}</h3><div class="target" role="group" aria-label="{rows}" {_ROW}>{_buttons(target_tokens)}</div>
<output></output></section>"""


def _buttons(tokens: Sequence[str]) -> str:
    def button(token: str) -> str:
        text = html.escape(_visible(token))
        # The direction of a row is that of its first letter. `bdi` hides the letters of <s>.
        special = re.fullmatch(r"<[^<>]+>|\[[A-Z]+\]", token)
        return f"<button><bdi>{text}</bdi></button>" if special else f"<button>{text}</button>"

    return "".join(map(button, tokens))


def _check_string(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")


def _fitting_weights(
    weights: Tensor | ArrayLike, axes: tuple[str, ...], source_tokens: Sequence[str], target_tokens: Sequence[str]
) -> Tensor:
    """The weights as a tensor, checked to fit the tokens."""
    for name, tokens in (("source_tokens", source_tokens), ("target_tokens", target_tokens)):
        for i, token in enumerate(tokens):
            _check_string(f"{name}[{i}]", token)
    tensor = as_weights(weights, axes)
    if tensor.shape[-2:] != (len(target_tokens), len(source_tokens)) or 0 in tensor.shape:
        raise ValueError(
            f"weights must have the shape ({', '.join(axes)}), one row for each of target_tokens and one column for "
            f"each of source_tokens, at least one: got the shape {tuple(tensor.shape)} for {len(target_tokens)} "
            f"target_tokens and {len(source_tokens)} source_tokens"
        )
    return tensor


def figure_class() -> type["Figure"]:
    """Matplotlib's class of figures that no window shows; an `ImportError` says how to install it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"plotting needs matplotlib ({error}): pip install 'attention-rnn[plot]'") from error
    return Figure


def _cell_size(cells: int) -> float:
    """In inches, for the longer side of a picture."""
    return min(max(_SMALLEST_CELL, _LONG_SIDE / cells), _LARGEST_CELL, _LONGEST_SIDE / cells)


def _draw_weights(axes: "Axes", weights: Tensor, cell: float) -> None:
    """Draw into axes in which a cell is `cell` inches wide."""
    targets, sources = weights.shape
    # In "Blues" white is nothing, and equal steps of the weight look equal.
    lines = 0.3 if cell > 0.1 else 0.0  # lines between small cells would hide them
    axes.pcolormesh(weights.numpy(), cmap="Blues", vmin=0, vmax=1, edgecolors="0.9", linewidth=lines)
    axes.set(aspect="equal", xlim=(0, sources), ylim=(targets, 0))
    axes.spines[:].set(color="0.9", linewidth=lines)


def _draw_tokens(
    axes: "Axes", source_tokens: Sequence[str], target_tokens: Sequence[str], title: str | None, cell: float
) -> None:
    """Label columns, rows and the whole, in axes in which a cell is `cell` inches wide."""
    from matplotlib.backends.backend_agg import RendererAgg

    families, missing = _fonts("".join([*source_tokens, *target_tokens, title or "", "␣◌…"]))
    size = min(10.0, max(5.0, 0.55 * 72 * cell))
    # parse_math: a "$" is a token like any other.
    style: dict[str, Any] = {"fontfamily": families, "fontsize": size, "parse_math": False}
    # In cells too small for a label each, every second, third, ... token has one.
    step = math.ceil(1.2 * size / 72 / cell)
    columns, rows = range(0, len(source_tokens), step), range(0, len(target_tokens), step)
    axes.set_xticks([i + 0.5 for i in columns], [_label(source_tokens[i], missing) for i in columns], **style)
    axes.set_yticks([i + 0.5 for i in rows], [_label(target_tokens[i], missing) for i in rows], **style)
    if title is not None:
        characters = max(_NARROWEST_TITLE, int(len(source_tokens) * cell / (size / 72 / 2)))
        axes.set_title(textwrap.fill(_spell_out(title, missing), characters), pad=10, **style)

    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    # Where a label touches the next one, all lean.
    renderer = RendererAgg(1, 1, axes.figure.dpi)
    boxes = [label.get_window_extent(renderer) for label in axes.get_xticklabels()]
    gap = 0.15 * step * cell * axes.figure.dpi
    if any(left.x1 + gap > right.x0 for left, right in pairwise(boxes)):
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="left", rotation_mode="anchor")


def _add_colour_bar(figure: "Figure") -> None:
    """At the right of a figure that its heat maps fill."""
    width, height = figure.get_size_inches()
    of_height = min(1.0, _BAR_HEIGHT / height)
    place = (1 + _BAR_GAP / width, 1 - of_height, _BAR_WIDTH / width, of_height)
    bar = figure.colorbar(figure.axes[0].collections[0], cax=figure.add_axes(place), ticks=[0, 1])
    bar.set_label("weight", **_NAMES)
    bar.ax.tick_params(length=0, labelsize=7, labelcolor="0.4", pad=2)
    bar.outline.set(color="0.9", linewidth=0.3)


def _add_margins(figure: "Figure") -> None:
    """Enlarge a figure that its axes fill, so that it holds their labels too."""
    from matplotlib.backends.backend_agg import RendererAgg

    width, height = figure.get_size_inches()
    box = figure.get_tightbbox(RendererAgg(1, 1, figure.dpi))  # in inches
    left, bottom = _MARGIN - box.x0, _MARGIN - box.y0
    full_width, full_height = left + box.x1 + _MARGIN, bottom + box.y1 + _MARGIN
    figure.set_size_inches(full_width, full_height)
    for axes in figure.axes:
        x, y, w, h = axes.get_position(original=True).bounds
        axes.set_position(
            (
                (left + x * width) / full_width,
                (bottom + y * height) / full_height,
                w * width / full_width,
                h * height / full_height,
            )
        )


def drawable(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The families of installed fonts to draw texts with, and the texts with code points for what none of them has."""
    families, missing = _fonts("".join(texts))
    return families, [_spell_out(text, missing) for text in texts]


def _fonts(text: str) -> tuple[list[str], set[str]]:
    """Find installed fonts for a text: the families to draw with, by preference, and the characters that none has."""
    from matplotlib import font_manager, rcParams
    from matplotlib.font_manager import FontProperties

    families = list(rcParams["font.family"])
    printable = {character for character in text if character.isprintable()}
    missing = _without_glyph(printable, font_manager.findfont(FontProperties()))
    if missing:
        _add_new_fonts()
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
    for character in sorted(missing):
        is_east_asian = unicodedata.name(character, "").startswith(_EAST_ASIAN)
        _warn_of_missing("fonts-noto-cjk" if is_east_asian else "fonts-noto-core", character)
    return families, missing


_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO")
_warned: set[str] = set()


def _warn_of_missing(package: str, character: str) -> None:
    """Once for each package."""
    if package not in _warned:
        _warned.add(package)
        logger.warning(
            f"No installed font has {character} (U+{ord(character):04X}) and perhaps others, which are drawn as their "
            f"code points; the fonts of the Debian package {package} may have them."
        )


@cache
def _add_new_fonts() -> None:
    """Take in the fonts that were installed since matplotlib made the list that it keeps."""
    from matplotlib import font_manager

    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for file in sorted(set(font_manager.findSystemFonts()) - known):
        with suppress(OSError, RuntimeError):  # broken, or of a kind that matplotlib cannot read
            font_manager.fontManager.addfont(file)


def _without_glyph(characters: set[str], font_path: str) -> set[str]:
    from matplotlib.font_manager import get_font

    try:
        font = get_font(font_path)
    except (OSError, RuntimeError):  # removed since matplotlib made its list, or broken
        return characters
    return {character for character in characters if font.get_char_index(ord(character)) == 0}


def _label(token: str, missing: set[str]) -> str:
    label = _visible(token, missing)
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _visible(token: str, missing: Iterable[str] = ()) -> str:
    """Write a token so that all of it can be seen."""
    text = token.replace(" ", "␣")
    if text and unicodedata.category(text[0]).startswith("M"):
        text = "◌" + text  # a mark needs something to stand on
    # Control characters and spaces of other kinds; joiners do their work inside a word.
    hidden = {c for c in text if not c.isprintable() and (len(text) == 1 or unicodedata.category(c) != "Cf")}
    return _spell_out(text, hidden.union(missing))


def _spell_out(text: str, characters: set[str]) -> str:
    """Replace characters by their code points, such as U+5E74."""
    pieces = [f" U+{ord(c):04X} " if c in characters else c for c in text]
    return "".join(pieces).replace("  ", " ").strip(" ")


# The tokens are of an unknown language, which a browser must not translate.
_ROW = 'dir="auto" lang="" translate="no"'
