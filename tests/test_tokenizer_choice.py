"""Which tokenizer suits which texts."""

import random

import pytest

from attention_rnn.tokenizer_training import choose_tokenizer, find_poor_tokens, train_tokenizer, warn_of_poor_tokens

random_ = random.Random(0)
SYLLABLES = [onset + nucleus for onset in ("b", "d", "k", "l", "m", "n", "r", "s", "t", "") for nucleus in "aeiou"]
LEXICON = ["".join(random_.choices(SYLLABLES, k=random_.randint(1, 4))) for _ in range(3_000)]
PHONES = ["a", "ə", "iː", "t͡ʃʰ", "k", "p", "ŋ", "s", "ʂ", "m"]
TAGS = ["V;IND;PST;3;SG", "V;IND;PRS;1;PL", "N;DAT;PL", "N;GEN;SG"]
MONTHS = ["january", "march", "may", "august", "october"]
CHINESE = [chr(code) for code in range(0x4E00, 0x4E00 + 900)]
THAI = [chr(code) for code in range(0x0E01, 0x0E2F)]


def texts(make, number=400):
    return [make() for _ in range(number)]


def joined(units, few, many, separator=""):
    return lambda: separator.join(random_.choices(units, k=random_.randint(few, many)))


def zipf(few, many):
    """A text of words that are as unevenly frequent as those of a language."""
    weights = [1 / rank for rank in range(1, len(LEXICON) + 1)]
    return lambda: " ".join(random_.choices(LEXICON, weights, k=random_.randint(few, many)))


def date():
    return f"{random_.randint(1, 31)} {random_.choice(MONTHS).title()} {random_.randint(1900, 2030)}"


WORDS = texts(joined(SYLLABLES, 2, 4))
CASES = {
    # what: texts, the choice as a source and as a target
    "words": (WORDS, "character", "character"),
    "spaced phones": (texts(joined(PHONES, 3, 9, " ")), "word", "word"),
    "spaced phones, few pairs": (texts(joined(PHONES, 3, 9, " "), 30), "word", "word"),
    "phones without spaces": (texts(joined(PHONES, 3, 9)), "character", "character"),
    "lemma and tags": ([f"{word} {random_.choice(TAGS)}" for word in WORDS], "character", "character"),
    "spelt lemma and tags": (
        [f"{' '.join(word)} [{tag.replace(';', '] [')}]" for word in WORDS for tag in TAGS],
        "word",
        "word",
    ),
    "names of several words": (texts(joined(LEXICON, 1, 3, " ")), "character", "character"),
    "dates": (texts(date), "character", "character"),
    "dates in words": (texts(joined([*MONTHS, "first", "of", "the", "nineteen"], 4, 7, " ")), "bpe", "word"),
    "labels": (texts(lambda: random_.choice(["noun", "verb", "adverb"])), "character", "word"),
    "sentences": (texts(zipf(6, 14)), "bpe", "bpe"),
    "long texts": (texts(zipf(60, 150)), "bpe", "bpe"),
    "short Chinese": (texts(joined(CHINESE, 2, 6)), "character", "character"),
    "long Chinese": (texts(joined(CHINESE, 60, 120)), "character", "character"),
    "Chinese words between spaces": (texts(joined(CHINESE, 40, 90, " ")), "word", "word"),
    "long Thai": (texts(joined(THAI, 60, 120)), "character", "character"),
    "emoji": (texts(joined(["😀", "👍🏽", "🇩🇪", "❤️"], 1, 4)), "character", "character"),
    "one character each": (list("abcdefghij"), "character", "character"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_kind_suits_the_texts(name):
    of_kind, as_source, as_target = CASES[name]
    source, target = choose_tokenizer(of_kind), choose_tokenizer(iter(of_kind), is_target=True)
    assert (source.kind, target.kind) == (as_source, as_target), (source, target)
    for choice in (source, target):
        tokenizer = train_tokenizer(of_kind, choice.kind, choice.vocab_size)
        assert find_poor_tokens(tokenizer(of_kind)["input_ids"], tokenizer.unk_token_id) is None


def test_the_average_subword_is_frequent():
    sentences = texts(zipf(8, 16), 3_000)
    choice = choose_tokenizer(sentences)
    tokenizer = train_tokenizer(sentences, choice.kind, choice.vocab_size)
    running = sum(len(ids) for ids in tokenizer(sentences)["input_ids"])
    assert 50 < running / len(tokenizer) < 150
    assert str(len(sentences)) not in choice.reason
    assert "characters in 1" in choice.reason


def test_texts_without_a_word_are_refused():
    with pytest.raises(ValueError, match="must hold at least one character other than white space"):
        choose_tokenizer(["", " "])


@pytest.mark.parametrize(
    ("token_ids", "fault"),
    [
        ([[4, 5, 2]] * 10, None),
        ([[4, 3, 2]] + [[4, 5, 2]] * 9, None),
        ([[4, 3, 2]] + [[4, 5, 2]] * 8, "5.6 % of the tokens are unknown"),
        ([[number, 2] for number in range(4, 34)], "100 % of the texts are a single token each"),
        ([[number % 3 + 4, 2] for number in range(30)], None),  # labels
        ([[2]] * 3, None),
    ],
)
def test_poor_tokens_are_found(token_ids, fault):
    assert (find_poor_tokens(token_ids, 3) or "None").startswith(fault or "None")


def test_words_may_be_unknown_more_often_than_letters(caplog):
    words = train_tokenizer(["a good one"], kind="word")
    letters = train_tokenizer(["a good one"], kind="character")
    warn_of_poor_tokens("words", words(["a good one and one"])["input_ids"], words)
    assert not caplog.text
    warn_of_poor_tokens("words", words(["so it was"])["input_ids"], words)
    warn_of_poor_tokens("letters", letters(["a good one xy"])["input_ids"], letters)
    assert "does not suit the words: 100.0 %" in caplog.text
    assert "does not suit the letters: 15.4 %" in caplog.text
