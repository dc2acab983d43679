"""
More pairs from few, where a part of each source stands in its target too, as the stem of a word in its forms.

The beginning of such a part is taken from another pair, in source and target alike: of *handeln*, *handelte* and
*wandern*, *wanderte* are made *wandeln*, *wandelte* and *handern*, *handerte*. Where there are no more of these, all of
it but its end is drawn, each symbol from those that follow the one before somewhere. Anastasopoulos and Neubig (2019,
https://arxiv.org/abs/1908.05838) put random letters there, so that a model learns to copy any stem; here every two
symbols in a row are those of a pair, so that what it reads also looks like the language, and the end stays, on which
the form often depends.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher

from .tokenizer_training import are_symbols

SHARED = 3  # symbols in a row that source and target must have in common
BEGIN = (
    0.9  # of the sources begin with what they share where stems are beginnings, as in all but Arabic of eight languages
)
KEPT = 2  # symbols at the end of what is drawn
_TRIES = 20  # for each new pair


def recombine(pairs: Sequence[Mapping[str, str]], number: int, seed: int = 0) -> list[dict[str, str]]:
    """
    Make new pairs of `source` and `target`.

    Args:
        pairs: what to take them from. Symbols are characters, or what stands between spaces where that is short.
        number: how many to make; there are fewer where the pairs have too little in common, and none where the shared
            parts of many sources are no beginnings, as the roots of Arabic: a new one would break their pattern.
        seed: which ones.

    Returns:
        new pairs, whose sources are different and none of those given.
    """
    is_spelt = are_symbols(pair["target"] for pair in pairs)
    split, between = (str.split, " ") if is_spelt else (list, "")
    beginnings: dict[tuple[str, ...], list[Sequence[str]]] = {}  # by the symbols around the cut behind them
    following: dict[str, list[str]] = {}  # in a source; the empty one stands before the first
    shared = []
    begin = 0
    for pair in pairs:
        source, target = split(pair["source"]), split(pair["target"])
        blocks = SequenceMatcher(None, source, target, autojunk=False).get_matching_blocks()
        begin += max(blocks, key=lambda block: block.size).a == 0
        blocks = [block for block in blocks if block.size >= SHARED]
        for start, _, size in blocks:
            for cut in range(start + 1, start + size):
                beginnings.setdefault(tuple(source[cut - 1 : cut + 1]), []).append(source[start:cut])
            for before, symbol in zip(["", *source][start:], source[start : start + size], strict=False):
                following.setdefault(before, []).append(symbol)
        if blocks:
            shared.append((source, target, blocks))
    if begin < BEGIN * len(pairs):
        return []
    draw = random.Random(seed)

    def with_another_beginning() -> tuple[list[str], list[str]]:
        source, target, blocks = draw.choice(shared)
        start, place, size = max(blocks, key=lambda block: block.size)
        length = draw.randrange(1, size)
        cut = start + length
        beginning = draw.choice(beginnings[tuple(source[cut - 1 : cut + 1])])
        source, target = (
            [*side[:at], *beginning, *side[at + length :]] for side, at in ((source, start), (target, place))
        )
        return source, target

    def with_drawn_symbols() -> tuple[list[str], list[str]] | None:
        source, target, blocks = draw.choice(shared)
        source, target = list(source), list(target)
        for start, place, size in blocks:
            length = size - KEPT
            symbols, kept = [source[start - 1] if start else ""], source[start + length]
            while len(symbols) <= length:
                symbols.append(draw.choice(following.get(symbols[-1]) or [kept]))
            if kept not in following.get(symbols[-1], ()):
                return None
            source[start : start + length] = target[place : place + length] = symbols[1:]
        return source, target

    known = {pair["source"] for pair in pairs}
    made: list[dict[str, str]] = []
    ways: tuple[Callable[[], tuple[list[str], list[str]] | None], ...] = (with_another_beginning, with_drawn_symbols)
    for make in ways if shared else ():
        for _ in range(_TRIES * number):
            if len(made) == number:
                break
            if (sides := make()) is None:
                continue
            new = dict(zip(("source", "target"), map(between.join, sides), strict=True))
            if new["source"] not in known:
                known.add(new["source"])
                made.append(new)
    return made
