"""Which symbol a sequence-to-sequence model takes for which: phones, letters, or whatever it writes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_SHOWN = 20  # in a picture
NOTHING = "∅"  # a symbol that is left out, or one too many


class Confusion(NamedTuple):
    """
    Args:
        reference (`str`): the symbol that should stand there, `NOTHING` for one too many.
        prediction (`str`): the one that was written, `NOTHING` if it was left out.
        times (`int`): how often that happened.
        of (`int`, *optional*): how often the reference occurs; nothing of a symbol too many, which has none.
    """

    reference: str
    prediction: str
    times: int
    of: int | None


def count_confusions(references: Sequence[str], predictions: Sequence[str], of_words: bool) -> list[Confusion]:
    """
    Align predictions with their references by the fewest edits, and count what stands for what.

    Args:
        references, predictions (`Sequence[str]`): texts.
        of_words (`bool`): whether a symbol is what stands between spaces, such as a phone, or else a character.

    Returns:
        `list[Confusion]`: the most frequent first; nothing of what is right.
    """
    import jiwer

    pairs = [(r, p) for r, p in zip(references, predictions, strict=True) if r.strip()]
    counts: Counter[tuple[str, str]] = Counter()
    occurrences: Counter[str] = Counter()
    if pairs:
        process: Any = jiwer.process_words if of_words else jiwer.process_characters
        output = process([r for r, _ in pairs], [p for _, p in pairs])
        for reference, prediction, alignment in zip(
            output.references, output.hypotheses, output.alignments, strict=True
        ):
            occurrences.update(reference)
            for chunk in alignment:
                right = reference[chunk.ref_start_idx : chunk.ref_end_idx]
                written = prediction[chunk.hyp_start_idx : chunk.hyp_end_idx]
                if chunk.type == "substitute":
                    counts.update(zip(right, written, strict=True))
                elif chunk.type == "delete":
                    counts.update((symbol, NOTHING) for symbol in right)
                elif chunk.type == "insert":
                    counts.update((NOTHING, symbol) for symbol in written)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Confusion(*pair, count, occurrences.get(pair[0])) for pair, count in ordered]


def write_confusions(folder: Path, confusions: Sequence[Confusion]) -> None:
    """Write all of them as `confusions.tsv` and, with matplotlib, the most frequent ones as `confusions.png`."""
    with open(folder / "confusions.tsv", "w", encoding="utf-8") as file:
        print("reference", "prediction", "times", "of", sep="\t", file=file)
        for confusion in confusions:
            print(*("" if value is None else value for value in confusion), sep="\t", file=file)
    if not confusions:
        return
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return
    from .plotting import drawable, from_to

    shown = confusions[:_SHOWN]
    families, names = drawable([from_to(confusion.reference, confusion.prediction) for confusion in shown])
    figure = Figure(figsize=(5, 0.8 + 0.24 * len(shown)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(shown)), [confusion.times for confusion in shown], color="tab:blue")
    style: dict[str, Any] = {"fontfamily": families, "parse_math": False}
    axes.set_yticks(range(len(shown)), names, **style)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="times", title="right → written, the most frequent errors of the test")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "confusions.png")
