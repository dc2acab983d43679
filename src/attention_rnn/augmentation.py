"""
More pairs from few, where a part of each source stands in its target too, as the stem of a word in its forms.

The beginning of such a part is taken from another pair, in source and target alike: of *handeln*, *handelte* and
*wandern*, *wanderte* are made *wandeln*, *wandelte* and *handern*, *handerte*. Where there are no more of these, all of
it but its end is drawn, each symbol from those that follow the one before somewhere. Anastasopoulos and Neubig (2019,
https://arxiv.org/abs/1908.05838) put random letters there, so that a model learns to copy any stem; here every two
symbols in a row are those of a pair, so that what it reads also looks like the language, and the end stays, on which
the form often depends.

Where the shared parts are no beginnings, as the roots of Arabic, whose consonants stand apart among changing vowels,
and pairs are very few, single symbols that both sides share change places with others that stand between the same two
neighbours.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import Match, SequenceMatcher
from typing import NamedTuple

from .tokenizer_training import are_symbols

SHARED = 3  # symbols in a row that source and target must have in common
BEGIN = (
    0.9  # of the sources begin with what they share where stems are beginnings, as in all but Arabic of eight languages
)
KEPT = 2  # symbols at the end of what is drawn
STAYING = 0.9  # of the occurrences of a symbol in sources are in the target too, or it is not exchanged
EXCHANGED = 0.5  # of the symbols that may be
FEW = 200  # pairs; of more, a model learns more than it does from exchanged symbols, which are not always right
SPACES = frozenset(" ␣")  # the second where symbols are spelt with spaces between them
_TRIES = 20  # for each new pair


Sides = tuple[list[str], list[str]]  # the symbols of a source and of its target
Way = Callable[[], Sides | None]  # makes a new pair, if it comes about


class _Matched(NamedTuple):
    source: list[str]
    target: list[str]
    blocks: list[Match]  # what both have in common, in order

    @property
    def longest(self) -> Match:
        return max(self.blocks, key=lambda block: block.size)


def recombine(pairs: Sequence[Mapping[str, str]], number: int, seed: int = 0) -> list[dict[str, str]]:
    """
    Make new pairs of `source` and `target`.

    Args:
        pairs: what to take them from. Symbols are characters, or what stands between spaces where that is short.
        number: how many to make; there are fewer where the pairs have too little in common, and none of `FEW` pairs or
            more where the shared parts of many sources are no beginnings.
        seed: which ones.

    Returns:
        new pairs, whose sources are different and none of those given.
    """
    is_spelt = are_symbols(pair["target"] for pair in pairs)
    split, between = (str.split, " ") if is_spelt else (list, "")
    matched = [_match(split(pair["source"]), split(pair["target"])) for pair in pairs]
    draw = random.Random(seed)
    begin = sum(pair.longest.a == 0 for pair in matched)
    ways: Sequence[Way] = ()
    if begin >= BEGIN * len(pairs):
        ways = _with_other_stems(matched, draw)
    elif len(pairs) < FEW:
        ways = _with_other_symbols(matched, draw)
    known = {pair["source"] for pair in pairs}
    made: list[dict[str, str]] = []
    for make in ways:
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


def _match(source: list[str], target: list[str]) -> _Matched:
    return _Matched(source, target, SequenceMatcher(None, source, target, autojunk=False).get_matching_blocks())


def _with_other_stems(matched: list[_Matched], draw: random.Random) -> Sequence[Way]:
    """Two ways to make a part that both sides share another one: the beginning of another, or drawn symbols."""
    beginnings: dict[tuple[str, ...], list[list[str]]] = {}  # by the symbols around the cut behind them
    following: dict[str, list[str]] = {}  # in a source; the empty one stands before the first
    shared = []
    for source, target, all_blocks in matched:
        blocks = [block for block in all_blocks if block.size >= SHARED]
        for start, _, size in blocks:
            for cut in range(start + 1, start + size):
                beginnings.setdefault(tuple(source[cut - 1 : cut + 1]), []).append(source[start:cut])
            for before, symbol in zip(["", *source][start:], source[start : start + size], strict=False):
                following.setdefault(before, []).append(symbol)
        if blocks:
            shared.append(_Matched(source, target, blocks))

    def with_another_beginning() -> Sides:
        pair = draw.choice(shared)
        start, place, size = pair.longest
        length = draw.randrange(1, size)
        cut = start + length
        beginning = draw.choice(beginnings[tuple(pair.source[cut - 1 : cut + 1])])
        source, target = (
            [*side[:at], *beginning, *side[at + length :]] for side, at in ((pair.source, start), (pair.target, place))
        )
        return source, target

    def with_drawn_symbols() -> Sides | None:
        pair = draw.choice(shared)
        source, target = list(pair.source), list(pair.target)
        for start, place, size in pair.blocks:
            length = size - KEPT
            symbols, kept = [source[start - 1] if start else ""], source[start + length]
            while len(symbols) <= length:
                symbols.append(draw.choice(following.get(symbols[-1]) or [kept]))
            if kept not in following.get(symbols[-1], ()):
                return None
            source[start : start + length] = target[place : place + length] = symbols[1:]
        return source, target

    return (with_another_beginning, with_drawn_symbols) if shared else ()


def _with_other_symbols(matched: list[_Matched], draw: random.Random) -> Sequence[Way]:
    """A way to exchange single symbols that both sides share, each for one that stands between the same neighbours."""
    number = Counter[str](symbol for pair in matched for symbol in pair.source)
    staying = Counter[str](
        symbol for pair in matched for start, _, size in pair.blocks for symbol in pair.source[start : start + size]
    )
    # in words of the language: features stand in sources alone
    letters = {symbol for pair in matched for symbol in pair.target} - SPACES
    exchanged = {symbol for symbol in letters if 0 < STAYING * number[symbol] <= staying[symbol]}
    between: dict[tuple[str, str], list[str]] = {}  # what may stand there

    def neighbours(side: list[str]) -> list[tuple[str, str]]:
        padded = ["", *(symbol if symbol in letters else "" for symbol in side), ""]
        return list(zip(padded, padded[2:], strict=False))

    for side in (side for pair in matched for side in (pair.source, pair.target)):
        for symbol, around in zip(side, neighbours(side), strict=True):
            if symbol in exchanged:
                between.setdefault(around, []).append(symbol)

    def with_other_symbols() -> Sides:
        pair = draw.choice(matched)
        source, target = list(pair.source), list(pair.target)
        around = neighbours(source)
        for start, place, size in pair.blocks:
            for step in range(size):
                if pair.source[start + step] in exchanged and draw.random() < EXCHANGED:
                    source[start + step] = target[place + step] = draw.choice(between[around[start + step]])
        return source, target

    return (with_other_symbols,) if exchanged else ()
