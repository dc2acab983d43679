"""
Targets as chunks: what each token of the source becomes, nothing included. A model with `attention_type="aligned"`
writes them, one at a step, and so is a transducer that never skips or repeats a part of the source. It need not learn
where to look, which few pairs teach badly; but it writes no chunk that they lack. With `aligned_steps=2` it writes the
first symbol of what a token becomes, if there is one, and then the rest, so that fewer chunks must have been seen.

Which symbols belong to which token is found by expectation maximisation over all ways to cut the targets of the
training pairs, as many-to-many aligners do (Jiampojamarn, Kondrak and Sherif, 2007, "Applying Many-to-Many Alignments
and Hidden Markov Models to Letter-to-Phoneme Conversion").
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy import ndarray
from transformers import PreTrainedTokenizerBase

from .tokenizer_training import BETWEEN_CHUNKS, EMPTY_CHUNK, are_symbols, part_of_new

ROUNDS = 10
MOST_EVENTS = 600_000  # to learn from, of about 2,000 words from everywhere: they say enough of an alphabet
LONGEST_CHUNK = 3  # longer ones are for targets that could not be cut otherwise
MOST_AT_A_TOKEN = 16  # symbols; of longer targets nothing is learned, and each token has as many of them
# how likely a chunk has 0, 1, 2, 3 symbols before anything is known; half as likely for each one more
LENGTHS = (0.25, 0.6, 0.12, 0.03)
SEEN_BEFORE = 0.5  # as if each token had been seen so often, with chunks as likely as that
BURDEN = 0.5  # of a chunk for each symbol after the first, or rare words would be learnt as a whole

# to judge whether pairs can be aligned
PAIRS_TO_JUDGE, FEWEST_TO_JUDGE = 200, 20
PLACES_TO_JUDGE = 60_000  # the product of the lengths of both sides; some seconds
RARE_SYMBOLS = 0.05  # the part of the next symbols that is not known
# nats a symbol. In the order of their sources pronunciations, names in other letters and other spellings had 0.3 to 1.7
# from 100 pairs on; dates, numbers in words, turned names and labels had less than 0.1.
IN_ORDER = 0.15
# of the nats of symbols by their frequencies alone: those had 0.04 to 0.43, words written twice 0.55 to 0.61
AS_SURPRISING = 0.5

Event = tuple[str, tuple[str, ...]] | None  # a token and its chunk; `None` where there is no room for one


class ChunkAligner:
    """
    Cuts targets into one chunk for each token of their sources.

    Args:
        pairs: the tokens of sources and the symbols of targets, to learn from.
    """

    def __init__(self, pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> None:
        self.counts: dict[Event, float] = {}
        self.totals: dict[str, float] = {}  # of each token
        alphabet, tables = set[str](), list[ndarray]()
        ids: dict[Event, int] = {}
        every = [pair for pair in pairs if not _is_far_longer(*pair)]
        number = sum(len(source) * (len(target) + 1) * _sizes(source, target) for source, target in every)
        for source, target in every[:: max(1, -(-number // MOST_EVENTS))]:
            events, shape = _list_events(source, target)
            alphabet.update(target)
            tables.append(np.reshape([ids.setdefault(event, len(ids)) for event in events], shape))
        self.alphabet_size = max(1, len(alphabet))
        for _ in range(ROUNDS):
            probabilities = np.exp([self._log_probability(event) for event in ids])
            counts = np.zeros(len(ids))
            for table in tables:
                with np.errstate(invalid="ignore"):
                    expected = _expected_counts(probabilities[table])
                if np.isfinite(expected).all():  # else any way to cut it is too unlikely to be a number
                    np.add.at(counts, table, expected)
            self.counts = dict(zip(ids, counts.tolist(), strict=True))
            self.totals.clear()
            for event, count in self.counts.items():
                if event is not None:
                    self.totals[event[0]] = self.totals.get(event[0], 0) + count

    def __call__(self, source: Sequence[str], target: Sequence[str]) -> list[Sequence[str]]:
        """The most likely chunks of a target, one for each token of the source, which must have one at least."""
        return self.cut(source, target)[0]

    def cut(self, source: Sequence[str], target: Sequence[str]) -> tuple[list[Sequence[str]], float]:
        """The most likely chunks, and the logarithm of their probability."""
        if _is_far_longer(source, target):
            ends = [len(target) * number // len(source) for number in range(len(source) + 1)]
            chunks = [target[start:end] for start, end in pairwise(ends)]
            return chunks, sum(self._log_probability(pair) for pair in zip(source, map(tuple, chunks), strict=True))
        events, shape = _list_events(source, target)
        scores = np.reshape([self._log_probability(event) for event in events], shape)
        best = np.full(len(target) + 1, -np.inf)
        best[0] = 0
        sizes = []
        for of_token in scores:  # (target + 1, size)
            ways = np.stack([_shift(best + of_size, size, -np.inf) for size, of_size in enumerate(of_token.T)])
            ways = ways.round(9)  # or chance would tell equal ones apart
            sizes.append(ways.argmax(axis=0))
            best = ways.max(axis=0)
        chunks, end = list[Sequence[str]](), len(target)
        for of_token in reversed(sizes):
            start = end - int(of_token[end])
            chunks.append(target[start:end])
            end = start
        return chunks[::-1], float(best[-1])

    def _log_probability(self, event: Event) -> float:
        """The logarithm of that of a chunk, given its token."""
        if event is None:
            return -math.inf
        token, chunk = event
        size, last = len(chunk), len(LENGTHS) - 1
        of_size = math.log(LENGTHS[min(size, last)]) + max(0, size - last) * math.log(0.5)
        expected = math.log(SEEN_BEFORE) + of_size - size * math.log(self.alphabet_size)
        if count := self.counts.get(event, 0):
            expected = math.log(count + math.exp(expected))
        return expected - math.log(self.totals.get(token, 0) + SEEN_BEFORE) + max(0, size - 1) * math.log(BURDEN)


def _is_far_longer(source: Sequence[str], target: Sequence[str]) -> bool:
    return len(target) > MOST_AT_A_TOKEN * len(source)


def _sizes(source: Sequence[str], target: Sequence[str]) -> int:
    """How many sizes a chunk may have, from nothing on."""
    return 1 + max(LONGEST_CHUNK, -(-len(target) // len(source)))


def _list_events(source: Sequence[str], target: Sequence[str]) -> tuple[list[Event], tuple[int, int, int]]:
    """What each token may become from each place of the target on, as a flat list, and its shape."""
    places, sizes = len(target) + 1, _sizes(source, target)
    events: list[Event] = [
        (token, tuple(target[start : start + size])) if start + size < places else None
        for token in source
        for start in range(places)
        for size in range(sizes)
    ]
    return events, (len(source), places, sizes)


def _expected_counts(probabilities: ndarray) -> ndarray:
    """How often each event happens, by the forward-backward algorithm: (source, target + 1, size), as given."""
    tokens, places, sizes = probabilities.shape
    forward, backward = np.zeros((tokens + 1, places)), np.zeros((tokens + 1, places))
    forward[0, 0] = backward[-1, -1] = 1
    after = np.zeros_like(probabilities)  # the backward probability of the place that an event leads to
    for token in reversed(range(tokens)):
        after[token] = np.stack([_shift(backward[token + 1], -size, 0) for size in range(sizes)], axis=1)
        backward[token] = (probabilities[token] * after[token]).sum(axis=1)
        backward[token] /= backward[token].sum()  # only ratios count
    for token in range(tokens):
        leads = forward[token, :, None] * probabilities[token]
        forward[token + 1] = sum(_shift(leads[:, size], size, 0) for size in range(sizes))
        forward[token + 1] /= forward[token + 1].sum()
    counts = forward[:-1, :, None] * probabilities * after
    return counts / counts.sum(axis=(1, 2), keepdims=True)  # a token has one chunk


def _shift(values: ndarray, distance: int, fill: float) -> ndarray:
    """Values moved towards the end, or by a negative distance towards the beginning."""
    shifted = np.full_like(values, fill)
    if abs(distance) < len(values):
        kept = len(values) - abs(distance)
        shifted[max(0, distance) :][:kept] = values[max(0, -distance) :][:kept]
    return shifted


def can_be_aligned(sources: Sequence[str], targets: Sequence[str]) -> bool:
    """
    Whether a model that writes chunks suits such pairs: their targets are in the order of their sources, and of symbols
    that are no new ones. In order, targets are likelier than the same ones backwards, each by an aligner of its own,
    and far likelier than their symbols alone.
    """
    are_words = are_symbols(targets)
    pairs = [
        (list(unicodedata.normalize("NFD", source)), target.split() if are_words else list(target))
        for source, target in zip(sources, targets, strict=True)
    ]
    places = sum(len(source) * len(target) for source, target in pairs)
    number = min(PAIRS_TO_JUDGE, PLACES_TO_JUDGE * len(pairs) // max(1, places))
    if number < FEWEST_TO_JUDGE:  # long texts
        return False
    pairs = [pair for pair in pairs[:: -(-len(pairs) // number)] if not _is_far_longer(*pair)]
    symbols = Counter(chain.from_iterable(target for _, target in pairs))
    if part_of_new(symbols) > RARE_SYMBOLS:
        return False
    aligned = _log_probability(pairs)
    by_frequency = sum(count * math.log(count / symbols.total()) for count in symbols.values())
    if aligned < AS_SURPRISING * by_frequency:
        return False
    backwards = [(source, target[::-1]) for source, target in pairs]
    return aligned - _log_probability(backwards) > IN_ORDER * symbols.total()


def _log_probability(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> float:
    """Of the most likely chunks of targets, by an aligner that has learned from them."""
    aligner = ChunkAligner(pairs)
    return sum(aligner.cut(source, target)[1] for source, target in pairs)


def writes_chunks(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the targets of a tokenizer are chunks, as `train_tokenizer(kind="chunk")` makes it."""
    backend = getattr(getattr(tokenizer, "target", tokenizer), "backend_tokenizer", None)
    splitter = getattr(backend, "pre_tokenizer", None)
    if splitter is None:
        return False
    return [chunk for chunk, _ in splitter.pre_tokenize_str(f"a{BETWEEN_CHUNKS}b")] == ["a", "b"]


class TargetChunks:
    """
    Spells the targets of pairs in chunks; `dataset.map(chunks, batched=True)` does it for a whole split.

    Args:
        examples: training pairs to learn from, with the columns `source` and `target`.
        tokenizer: of the sources, or of both sides. One that has chunks already says whether they are of words.
        steps: how many chunks a token has, `aligned_steps` of the model: all but the last one hold a symbol at most.
    """

    def __init__(self, examples: Any, tokenizer: PreTrainedTokenizerBase, steps: int = 1) -> None:
        self.tokenizer, self.steps = tokenizer, steps
        if writes_chunks(tokenizer):
            target = getattr(tokenizer, "target", tokenizer)
            others = {EMPTY_CHUNK, *target.all_special_tokens}
            self.are_words = all(chunk[0] == " " for chunk in target.get_vocab() if chunk not in others)
        else:
            self.are_words = are_symbols(examples["target"])
        targets = (self._symbols(target) for target in examples["target"])
        self.aligner = ChunkAligner(zip(self._tokens(examples["source"]), targets, strict=True))

    def __call__(self, batch: dict[str, list[str]]) -> dict[str, list[str]]:
        spelt = []
        for tokens, target in zip(self._tokens(batch["source"]), batch["target"], strict=True):
            chunks = chain.from_iterable(map(self._by_steps, self.aligner(tokens, self._symbols(target))))
            spelt.append(BETWEEN_CHUNKS.join("".join(chunk) or EMPTY_CHUNK for chunk in chunks))
        return {"target": spelt}

    def _by_steps(self, chunk: Sequence[str]) -> list[Sequence[str]]:
        last = self.steps - 1
        return [*(chunk[step : step + 1] for step in range(last)), chunk[last:]]

    def _tokens(self, sources: Sequence[str]) -> Iterator[list[str]]:
        for ids in self.tokenizer(list(sources), add_special_tokens=False)["input_ids"]:
            tokens: Any = self.tokenizer.convert_ids_to_tokens(ids)
            yield tokens or [""]

    def _symbols(self, target: str) -> list[str]:
        """Its characters, or what stands between spaces, each with a space before it."""
        for sign in (BETWEEN_CHUNKS, EMPTY_CHUNK):
            if sign in target:
                raise ValueError(f"a target must not hold {sign}, which is a sign of chunks, got {target!r:.60}")
        return [f" {word}" for word in target.split()] if self.are_words else list(target)
