"""
More pairs from few, where a part of each source stands in its target too, as the stem of a word in its forms.

The beginning of such a part is taken from another pair, in source and target alike: of *handeln*, *handelte* and
*wandern*, *wanderte* are made *wandeln*, *wandelte* and *handern*, *handerte*. Anastasopoulos and Neubig (2019,
https://arxiv.org/abs/1908.05838) put random letters there, so that a model learns to copy any stem; with those of
another pair, cut where both have the same two letters, what it reads also looks like the language.
"""

import random
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from .tokenizer_training import are_symbols

SHARED = 3  # symbols in a row that source and target must have in common
BEGIN = (
    0.9  # of the sources begin with what they share where stems are beginnings, as in all but Arabic of eight languages
)
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
        if blocks:
            shared.append((source, target, max(blocks, key=lambda block: block.size)))
    if begin < BEGIN * len(pairs):
        return []
    draw = random.Random(seed)
    known = {pair["source"] for pair in pairs}
    made: list[dict[str, str]] = []
    for _ in range(_TRIES * number if shared else 0):
        if len(made) == number:
            break
        source, target, (start, place, size) = draw.choice(shared)
        length = draw.randrange(1, size)
        cut = start + length
        beginning = draw.choice(beginnings[tuple(source[cut - 1 : cut + 1])])
        sides = ((source, start), (target, place))
        texts = [between.join([*side[:at], *beginning, *side[at + length :]]) for side, at in sides]
        if texts[0] not in known:
            known.add(texts[0])
            made.append({"source": texts[0], "target": texts[1]})
    return made
