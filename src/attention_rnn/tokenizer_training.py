"""Trains tokenizers for words, characters and subwords, with nothing to download."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, get_args

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .models.configuration_attention_rnn import AttentionRnnConfig
from .models.tokenization_attention_rnn import AttentionRnnTokenizer, arguments_of
from .recipes import LONGEST_SYMBOL

logger = logging.getLogger(__name__)

TokenizerKind = Literal["bpe", "unigram", "word", "character"]
TARGET_KINDS = (*get_args(TokenizerKind), "chunk")
NORMALIZERS = {"NFC": normalizers.NFC, "NFD": normalizers.NFD, "NFKC": normalizers.NFKC, "NFKD": normalizers.NFKD}

# In the order of their ids, which every model config of this package has as defaults.
SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

# what stands between chunks of a target, see `chunks.py`, and for one without a symbol
BETWEEN_CHUNKS, EMPTY_CHUNK = "│", "∅"

# `choose_tokenizer` measures lengths in characters
_MOST_UNKNOWN, _MOST_UNKNOWN_WORDS = 0.05, 0.3  # of the tokens; there is no end of words
_FEW_UNITS = 1_000
_SHORT, _SHORT_OF_FEW_WORDS = 24, 60
_LONGEST_WORD = 20  # on average; what is longer has no spaces between words
_CHARACTERS_PER_SUBWORD = 200
_MOST_SUBWORDS = 16_000
_LARGEST_VOCABULARY = 10_000


class TokenizerChoice(NamedTuple):
    """
    Attributes:
        kind (`str`): what a token is, see `train_tokenizer`.
        vocab_size (`int`): the most tokens to have.
        reason (`str`): why, in a few words.
    """

    kind: TokenizerKind
    vocab_size: int
    reason: str


def choose_tokenizer(texts: Iterable[str], is_target: bool = False) -> TokenizerChoice:
    """
    Choose the kind of tokenizer that suits texts, and the size of its vocabulary.

    - Texts of few distinct units between spaces, each of them seen often: words. In a source, units must be as short as
      symbols, such as phones and spelt letters: other words may be new or misspelt there.
    - Otherwise characters for texts that are short, such as words, names and dates, or that have no spaces between
      words, as Chinese, Japanese and Thai.
    - Otherwise subwords, as many as let the average one occur about a hundred times.

    Args:
        texts (`Iterable[str]`):
            Training texts, read once.
        is_target (`bool`, *optional*, defaults to `False`):
            Whether a model is to write such texts.

    Returns:
        `TokenizerChoice`: what `train_tokenizer` takes, and the reason.

    Raises:
        ValueError: If there is no text with a unit.
    """
    units: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    number = 0
    for text in texts:
        number += 1
        units.update(text.split())
        characters.update(text)
    if not units:
        raise ValueError("`texts` must hold at least one character other than white space, got none.")
    running, spaceless = units.total(), sum(len(unit) * count for unit, count in units.items())
    units_per_text, unit_length, text_length = running / number, spaceless / running, characters.total() / number
    new_unit = part_of_new(units)

    looks = f"{text_length:.0f} characters in {units_per_text:.1f} words on average"
    is_of_few = is_target and len(units) <= _FEW_UNITS and new_unit <= 0.01
    if is_of_few or (_are_symbols(unit_length, units_per_text) and new_unit <= 0.05):
        reason = (
            f"{len(units):,} distinct units between spaces, which occur {running / len(units):,.0f} times on average"
        )
        return TokenizerChoice("word", _LARGEST_VOCABULARY, reason)
    if text_length <= _SHORT or (text_length <= _SHORT_OF_FEW_WORDS and units_per_text <= 4):
        return TokenizerChoice("character", _LARGEST_VOCABULARY, f"short texts, {looks}")
    if unit_length > _LONGEST_WORD:
        return TokenizerChoice("character", _LARGEST_VOCABULARY, f"no spaces between words, {looks}")
    size = len(SPECIAL_TOKENS) + len(characters) + 1 + min(spaceless // _CHARACTERS_PER_SUBWORD, _MOST_SUBWORDS)
    return TokenizerChoice("bpe", size, f"long texts, {looks}, {characters.total():,} characters in all")


def part_of_new(counts: Counter[str]) -> float:
    """By Good and Turing, the probability that the next of what has been counted is a new one."""
    return sum(count == 1 for count in counts.values()) / max(1, counts.total())


def are_symbols(texts: Iterable[str]) -> bool:
    """Whether what stands between the spaces of texts is short, such as phones and spelt letters."""
    units = [text.split() for text in texts]
    running = sum(map(len, units))
    return running > 0 and _are_symbols(sum(map(len, chain.from_iterable(units))) / running, running / len(units))


def _are_symbols(unit_length: float, units_per_text: float) -> bool:
    return unit_length <= LONGEST_SYMBOL and units_per_text >= 2


def find_poor_tokens(
    token_ids: Iterable[Sequence[int]], unk_token_id: int | None, most_unknown: float = _MOST_UNKNOWN
) -> str | None:
    """
    What shows that a tokenizer does not suit encoded texts, if anything: many unknown tokens, or texts of which most
    are a single token that is rare.

    Args:
        token_ids (`Iterable[list[int]]`):
            Encoded texts, each with one special token at its end.
        unk_token_id (`int`, *optional*):
            The id of the unknown token.
        most_unknown (`float`, *optional*, defaults to 0.05):
            The part of the tokens that may be unknown.
    """
    texts, tokens, unknown = 0, 0, 0
    single: Counter[int] = Counter()
    for ids in token_ids:
        texts += 1
        tokens += len(ids) - 1
        unknown += sum(token_id == unk_token_id for token_id in ids)
        if len(ids) == 2:
            single[ids[0]] += 1
    if unknown > most_unknown * tokens:
        return f"{100 * unknown / tokens:.1f} % of the tokens are unknown, and all alike to the model"
    # a label is a single token as well, and has been seen often
    if single.total() > 0.5 * texts and single.total() < 5 * len(single) and len(single) > 20:
        share = 100 * single.total() / texts
        return (
            f"{share:.0f} % of the texts are a single token each, most of them a rare one, with little to learn of it"
        )
    return None


def warn_of_poor_tokens(what: str, token_ids: Iterable[Sequence[int]], tokenizer: PreTrainedTokenizerBase) -> None:
    """Log a warning if a tokenizer does not suit encoded texts, see `find_poor_tokens`."""
    splitter = getattr(getattr(tokenizer, "backend_tokenizer", None), "pre_tokenizer", None)
    most_unknown = _MOST_UNKNOWN_WORDS if isinstance(splitter, pre_tokenizers.WhitespaceSplit) else _MOST_UNKNOWN
    if fault := find_poor_tokens(token_ids, tokenizer.unk_token_id, most_unknown):
        logger.warning(f"The tokenizer does not suit the {what}: {fault}.")


def lowercases(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer of targets knows lower case alone, so that a model cannot write anything else."""
    backend = getattr(getattr(tokenizer, "target", tokenizer), "backend_tokenizer", None)
    normalizer = getattr(backend, "normalizer", None)
    return normalizer is not None and "A" not in normalizer.normalize_str("A")


def train_tokenizer(
    texts: Iterable[str],
    kind: TokenizerKind | Literal["chunk"] = "bpe",
    vocab_size: int = 10_000,
    min_frequency: int = 1,
    lowercase: bool = False,
    normalization: str = "NFC",
    model_max_length: int | None = None,
    causal: bool = False,
) -> PreTrainedTokenizerFast:
    """
    Train a tokenizer on texts. The same texts give the same vocabulary.

    Text is brought to one of Unicode's normal forms first, and decoding restores that form (in lower case with
    `lowercase`). `<pad>`, `<s>`, `</s>`, `<unk>` have the ids 0 to 3, also where they stand in a text; every sequence
    is encoded with `</s>` at its end, or with `causal` with `<s>` at its beginning.

    Args:
        texts (`Iterable[str]`):
            What to train on, read once.
        kind (`str`, *optional*, defaults to `"bpe"`):
            What a token is:

            - `"bpe"`: a subword, by merging the most frequent pairs (Sennrich et al., 2016).
            - `"unigram"`: a subword, by pruning a unigram language model (Kudo, 2018).
            - `"word"`: what stands between white space, such as the phones of "h ə l oʊ". Decoding joins the words
              with one space.
            - `"character"`: a Unicode code point, white space included.
            - `"chunk"`: what stands between "│" (U+2502), such as "t│∅│h e", which is decoded as "th e": chunks of a
              target, see `chunks.py`.

            All but `"word"` and `"chunk"` restore a text of known characters exactly, except that subwords are decoded
            with a space in place of "▁" (U+2581).
        vocab_size (`int`, *optional*, defaults to 10,000):
            The most tokens to have, special tokens included; a small corpus may give fewer. Words and characters
            beyond it become `<unk>`, the rarest first; subwords always keep every character.
        min_frequency (`int`, *optional*, defaults to 1):
            How often a word, a character or a pair to merge must occur. Not for `"unigram"`.
        lowercase (`bool`, *optional*, defaults to `False`):
            Whether to turn text into lower case.
        normalization (`str`, *optional*, defaults to `"NFC"`):
            Unicode's normal form: `"NFC"`, `"NFD"`, `"NFKC"` or `"NFKD"`. `"NFD"` takes letters apart: a syllable of
            Hangul into its two or three letters, "é" into "e" and its accent, so that rare ones share what they have
            in common. It suits a source; a target is better in the form in which it is read.
        model_max_length (`int`, *optional*):
            Tokens to which `truncation=True` cuts when no `max_length` is given. Unlimited by default, as a recurrent
            network has no longest sequence.
        causal (`bool`, *optional*, defaults to `False`):
            Whether it is for a causal language model, which continues a text: `<s>` begins the text, no `</s>` ends it,
            and padding stands on the left.

    Returns:
        `PreTrainedTokenizerFast`: `AutoTokenizer.from_pretrained` loads the folder that its `save_pretrained` writes.

    Raises:
        TypeError: If `texts` is a string, or holds anything else than strings.
        ValueError: If an argument is out of range, `texts` holds no token, or `vocab_size` leaves no room for the
            characters of a subword vocabulary.
    """
    if kind not in TARGET_KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(TARGET_KINDS)}, got {kind!r}.")
    if normalization not in NORMALIZERS:
        raise ValueError(f"`normalization` must be one of {', '.join(NORMALIZERS)}, got {normalization!r}.")
    for name, value, least in (
        ("vocab_size", vocab_size, len(SPECIAL_TOKENS) + 1),
        ("min_frequency", min_frequency, 1),
        ("model_max_length", 1 if model_max_length is None else model_max_length, 1),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}.")
    if kind == "unigram" and min_frequency > 1:
        raise ValueError(
            f"`min_frequency` must be 1 for kind='unigram', which prunes by likelihood, got {min_frequency}."
        )

    backend, trainer = _untrained(kind, vocab_size, min_frequency, lowercase, normalization)
    no_room = ValueError(f"`vocab_size` must leave room for every character of `texts`, got {vocab_size} for {kind=}.")
    try:
        backend.train_from_iterator(_training_texts(texts, lowercase), trainer)
    except Exception as error:
        if "not large enough" in str(error):  # the library raises a bare `Exception` for it
            raise no_room from error
        raise
    if backend.get_vocab_size() == len(SPECIAL_TOKENS):
        raise ValueError(
            f"`texts` must hold at least one token of {kind=} that occurs {min_frequency} time(s), got none"
            f"{'; min_frequency=1 takes all of them.' if min_frequency > 1 else '.'}"
        )
    if kind == "unigram":
        backend.model = _reproducible_unigram(backend, vocab_size)
    if backend.get_vocab_size() > vocab_size:
        raise no_room

    token = SPECIAL_TOKENS["bos_token" if causal else "eos_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{token} $A" if causal else f"$A {token}",
        pair=f"{token} $A $B" if causal else f"$A {token} $B {token}",
        special_tokens=[(token, backend.token_to_id(token))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=model_max_length,
        padding_side="left" if causal else "right",
        **SPECIAL_TOKENS,
    )


def pair_tokenizers(source: PreTrainedTokenizerFast, target: PreTrainedTokenizerFast) -> AttentionRnnTokenizer:
    """
    Join a tokenizer of the source and one of the target into one that is saved to and loaded from one folder.

    Args:
        source (`PreTrainedTokenizerFast`):
            Encodes the source. The pair takes its special tokens, `model_max_length`, `padding_side` and
            `truncation_side`, for both sides.
        target (`PreTrainedTokenizerFast`):
            Encodes and decodes the target; the special tokens must have the same ids as in `source`.

    Returns:
        `AttentionRnnTokenizer`: The pair; it does not change with `source` or `target` afterwards.

    Raises:
        TypeError: If one of them is no `PreTrainedTokenizerFast`, or is a pair already.
        ValueError: If a special token has different ids.
    """
    for name, tokenizer in (("source", source), ("target", target)):
        if not isinstance(tokenizer, PreTrainedTokenizerFast) or isinstance(tokenizer, AttentionRnnTokenizer):
            raise TypeError(f"`{name}` must be a PreTrainedTokenizerFast of one vocabulary, got {type(tokenizer)}.")
    return AttentionRnnTokenizer(target=target, **arguments_of(source))


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """
    Check that a model of this family has an embedding for every token; those of others are left to them.

    Raises:
        ValueError: the tokenizer has more tokens than the model, on either side.
    """
    if config.model_type != AttentionRnnConfig.model_type:
        return
    source = "vocab_size" if config.source_vocab_size is None else "source_vocab_size"
    for name, vocabulary in ((source, tokenizer), ("vocab_size", getattr(tokenizer, "target", tokenizer))):
        if len(vocabulary) > getattr(config, name):
            raise ValueError(
                f"The tokenizer does not fit the model: it has {len(vocabulary)} tokens, and the model's `{name}` is "
                f"{getattr(config, name)}."
            )


def _untrained(
    kind: str, vocab_size: int, min_frequency: int, lowercase: bool, normalization: str
) -> tuple[Tokenizer, Any]:
    steps: list[Any] = [normalizers.Lowercase()] if lowercase else []
    steps.append(NORMALIZERS[normalization]())
    unk_token = SPECIAL_TOKENS["unk_token"]
    special_tokens = list(SPECIAL_TOKENS.values())
    options: dict[str, Any] = {"vocab_size": vocab_size, "special_tokens": special_tokens, "show_progress": False}
    trainer: Any
    if kind == "unigram":
        backend = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(unk_token=unk_token, **options)
    elif kind == "bpe":
        backend = Tokenizer(models.BPE(unk_token=unk_token))
        trainer = trainers.BpeTrainer(min_frequency=min_frequency, **options)
    else:
        backend = Tokenizer(models.WordLevel(unk_token=unk_token))
        trainer = trainers.WordLevelTrainer(min_frequency=min_frequency, **options)

    if kind == "word":
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    elif kind == "character":
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        backend.decoder = decoders.Fuse()
    elif kind == "chunk":
        backend.pre_tokenizer = pre_tokenizers.Split(BETWEEN_CHUNKS, behavior="removed")
        # a chunk of words has a space before each
        empty = decoders.Replace(EMPTY_CHUNK, "")
        backend.decoder = decoders.Sequence([empty, decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        # The first word gets the space that the others have. Metaspace could add it itself, but not to a text that
        # starts with a space already, and decoding would then lose that one.
        steps.append(normalizers.Prepend(" "))
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.normalizer = normalizers.Sequence(steps)
    return backend, trainer


def _training_texts(texts: Iterable[str], lowercase: bool) -> Iterator[str]:
    if isinstance(texts, str):
        raise TypeError(f"`texts` must be an iterable of strings, got one string, {texts[:40]!r}.")
    # Encoding takes special tokens out of a text before all else. Training does not, and would give a word "<unk>" of
    # the text an id of its own.
    special_token = re.compile("|".join(map(re.escape, SPECIAL_TOKENS.values())), re.IGNORECASE if lowercase else 0)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"`texts` must hold strings, got {text!r} of {type(text)} at index {index}.")
        yield from special_token.split(text)


def _reproducible_unigram(backend: Tokenizer, vocab_size: int) -> models.Unigram:
    """
    The trained model with its pieces in an order, and with scores, that do not vary from run to run.

    The trainer visits words and characters in the order of a hash table. So scores differ in their last digits, pieces
    of equal score change places, and of the single characters that were pruned and are taken up again each gets the
    least score plus 1e-4 for every one before it. It may also exceed the size asked for by a few pieces, where that is
    hardly above the number of characters.
    """
    pieces = [(piece, score) for piece, score in json.loads(backend.to_str())["model"]["vocab"]]
    specials, pieces = pieces[: len(SPECIAL_TOKENS)], pieces[len(SPECIAL_TOKENS) :]
    characters = sum(len(piece) == 1 for piece, _ in pieces)
    least = min(score for _, score in pieces)
    rare = least + 1e-4 * characters
    pieces = [(piece, round(least if len(piece) == 1 and score < rare else score, 6)) for piece, score in pieces]
    pieces.sort(key=lambda piece: (len(piece[0]) > 1, -piece[1], piece[0]))
    pieces = pieces[: max(characters, vocab_size - len(specials))]
    pieces.sort(key=lambda piece: (-piece[1], piece[0]))
    return models.Unigram(specials + pieces, unk_id=backend.token_to_id(SPECIAL_TOKENS["unk_token"]))
