"""Schemes of labels, what becomes of labels in pieces of words, their scores, and the reader of CoNLL files."""

import gzip
import itertools
import random
import re

import pytest
from seqeval.metrics import f1_score

from attention_rnn.conll import read_conll
from attention_rnn.labelling import (
    complete_labels,
    cuts_words,
    label_tokens,
    marks_ends,
    piece_labels,
    score_chunks,
    texts_against_scheme,
    word_label,
)
from attention_rnn.tokenizer_training import train_tokenizer

# of each scheme, its letters and what a chunk looks like
SCHEMES = {"BIO": ("BI", "BI*"), "BIOES": ("BIES", "S|BI*E"), "BILOU": ("BILU", "U|BI*L"), "BMES": ("BMES", "S|BM*E")}


def labels_of(scheme):
    return ["O", *(f"{letter}-{kind}" for letter in SCHEMES[scheme][0] for kind in "XY")]


def valid_chunks(scheme, labels):
    """The chunks of a text as (type, first word, last word), or None where the scheme does not allow its labels."""
    letters, chunks = "".join(label[0] for label in labels), []
    for match in re.finditer(f"O|{SCHEMES[scheme][1]}|.", letters):
        kinds = {label[2:] for label in labels[match.start() : match.end()]}
        if match.group() != "O":
            if len(kinds) > 1 or not re.fullmatch(SCHEMES[scheme][1], match.group()):
                return None
            chunks.append((kinds.pop(), match.start(), match.end() - 1))
    return chunks


def valid_texts(scheme, length):
    for labels in itertools.product(labels_of(scheme), repeat=length):
        # a chunk of one type that touches one of another is cut by the types
        if valid_chunks(scheme, labels) is not None:
            yield list(labels)


# Pieces of words


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pieces_of_words_have_valid_labels_that_tell_those_of_the_words(scheme):
    labels = labels_of(scheme)
    pieces = piece_labels(labels)
    for length in (1, 2, 3):
        for text in valid_texts(scheme, length):
            for counts in itertools.product((1, 2, 3), repeat=length):
                word_ids = [word for word, count in enumerate(counts) for _ in range(count)]
                of_tokens, tokens = label_tokens(word_ids, text, pieces)
                # each chunk reaches from the first piece of its first word to the last piece of its last word
                starts = [0, *itertools.accumulate(counts)]
                expected = [
                    (kind, starts[first], starts[last + 1] - 1) for kind, first, last in valid_chunks(scheme, text)
                ]
                assert valid_chunks(scheme, of_tokens) == expected, (text, of_tokens)
                assert [word_label([of_tokens[token] for token in word]) for word in tokens] == text


@pytest.mark.parametrize(
    ("label", "labels", "expected"),
    [
        ("B-X", "O B-X I-X", "B-X I-X I-X"),
        ("I-X", "O B-X I-X", "I-X I-X I-X"),
        ("B-X", "O B-X I-X E-X S-X", "B-X I-X I-X"),
        ("E-X", "O B-X I-X E-X S-X", "I-X I-X E-X"),
        ("S-X", "O S-X", "B-X I-X E-X"),
        ("U-X", "O U-X", "B-X I-X L-X"),
        ("L-X", "O B-X L-X", "I-X I-X L-X"),
        ("S", "B M E S", "B M E"),
        ("E-X", "O B-X M-X E-X", "M-X M-X E-X"),
        ("O", "O B-X I-X", "O O O"),
        ("NOUN", "NOUN VERB", "NOUN NOUN NOUN"),
        ("I", "I J", "I I I"),  # parts of speech may have such names
    ],
)
def test_the_pieces_of_a_label_are_those_of_its_scheme(label, labels, expected):
    assert piece_labels(labels.split())[label] == tuple(expected.split())


@pytest.mark.parametrize(
    ("labels", "added"),
    [
        ("O S-LOC B-PER I-PER E-PER", "B-LOC I-LOC E-LOC"),
        ("O U-LOC", "B-LOC I-LOC L-LOC"),
        ("B E S", "I"),
        ("B M E S", ""),
        ("O B-LOC", "I-LOC"),
        ("O E-X B-X", "I-X"),
        ("NOUN VERB", ""),
    ],
)
def test_labels_are_completed_by_those_of_pieces(labels, added):
    assert complete_labels(labels.split()) == [*labels.split(), *added.split()]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ("B-X O", "B-X"),
        ("O B-X", "O"),
        ("S-X I-X", "S-X"),
        ("B-X E-X B-X", "S-X"),
        ("B-X E-Y", "B-X"),
        ("E-X E-X", "E-X"),
        ("B-X L-X", "U-X"),
        ("NOUN VERB", "NOUN"),
    ],
)
def test_where_pieces_contradict_each_other_the_first_chunk_counts(pieces, expected):
    assert word_label(pieces.split()) == expected


def test_without_labels_of_pieces_the_first_one_bears_the_label():
    of_tokens, tokens = label_tokens([None, 0, 0, 2, None], ["S-X", "O", "S-Y"], None)
    assert of_tokens == [None, "S-X", None, "S-Y", None]
    assert tokens == [[1], [], [3]]  # the word between was cut off or has no token


@pytest.mark.parametrize(("kind", "expected"), [("word", False), ("character", True)])
def test_a_tokenizer_that_cuts_words_is_known(kind, expected):
    tokenizer = train_tokenizer(["to be or not"], kind)
    assert cuts_words(tokenizer, ["to", "be", "or", "unknown", "to"]) == expected


def test_words_with_a_space_inside_are_cut():
    assert cuts_words(train_tokenizer(["10\xa0000 a"], "word"), ["10\xa0000"])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("O B-X I-X", False),
        ("O B-X E-X", True),
        ("O U-X", True),
        ("B M E S", True),
        ("NOUN E", False),
        ("O I-X", False),
    ],
)
def test_schemes_that_mark_ends_are_known(labels, expected):
    assert marks_ends(labels.split()) == expected


def test_texts_that_break_the_scheme_are_found():
    texts = [["O", "B-X", "I-X"], ["I-X", "O"], ["B-X", "O"], ["B-X", "I-Y"]]
    assert texts_against_scheme(texts, ["O", "B-X", "I-X", "B-Y", "I-Y"]) == [1, 3]
    texts = [["B-X", "L-X", "U-X"], ["B-X", "O"], ["O", "B-X"]]
    assert texts_against_scheme(texts, ["O", "B-X", "L-X", "U-X"]) == [1, 2]


# Scores


def lenient_chunks(labels):
    """Every chunk that conlleval sees, also where labels break the scheme."""
    chunks = []
    for position, label in enumerate(labels):
        letter, kind = label[0], label[2:]
        before = labels[position - 1] if position else "O"
        if letter in "IMEL" and before[0] in "BIM" and before[2:] == kind:
            chunks[-1] = (*chunks[-1][:2], position)
        elif letter != "O":
            chunks.append((kind, position, position))
    return set(chunks)


def expected_scores(references, predictions):
    right = sum(len(lenient_chunks(a) & lenient_chunks(b)) for a, b in zip(references, predictions, strict=True))
    true, found = (sum(len(lenient_chunks(text)) for text in texts) for texts in (references, predictions))
    precision, recall = right / found if found else 0, right / true if true else 0
    return {"f1": 2 * right / (true + found) if true + found else 0, "precision": precision, "recall": recall}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("has_types", [True, False])
def test_scores_are_those_of_the_chunks(scheme, has_types):
    generator = random.Random(0)
    valid = list(valid_texts(scheme, 3))
    for text in valid:
        assert lenient_chunks(text) == set(valid_chunks(scheme, text))
    labels = labels_of(scheme)
    for _ in range(40):
        references = generator.choices(valid, k=3)
        predictions = [generator.choices(labels, k=3) for _ in range(2)] + [references[2]]
        if not has_types:
            references, predictions = (
                [[label[0] for label in text] for text in texts] for texts in (references, predictions)
            )
        assert score_chunks(references, predictions) == pytest.approx(expected_scores(references, predictions))


@pytest.mark.parametrize(
    ("reference", "prediction"), [("U-P U-P", "B-P L-P"), ("B M E", "B E S"), ("B-P M-P E-P", "B-P E-P S-P")]
)
def test_a_wrong_prediction_scores_nothing(reference, prediction):
    assert score_chunks([reference.split()], [prediction.split()])["f1"] == 0


def test_bio_is_scored_as_seqeval_does_by_default():
    generator = random.Random(1)
    for _ in range(40):
        references, predictions = ([generator.choices(labels_of("BIO"), k=6) for _ in range(3)] for _ in range(2))
        expected = f1_score(references, predictions, zero_division=0)
        assert score_chunks(references, predictions)["f1"] == pytest.approx(expected)


# Files


def read(path, content, **columns):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(text["tokens"], text["labels"]) for _, text in read_conll(str(path), **columns)]


CONLLU = """# sent_id = 1
# text = vámonos\tal mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\tx=1
2.1\tvamos\tir\tVERB\t_\t_\t_\t_\t1:conj\t_
3\t10 000\t_\tNUM\t_\t_\t1\tobl\t_\t_

# sent_id = 2
1\t#\t#\tSYM\t_\t_\t0\troot\t_\t_

"""


def test_conll_u_is_read_by_words_without_ranges_and_empty_nodes(tmp_path):
    expected = [(["vamos", "nos", "10 000"], ["VERB", "PRON", "NUM"]), (["#"], ["SYM"])]
    assert read(tmp_path / "a.conllu", CONLLU) == expected
    assert read(tmp_path / "a.conllu", CONLLU.replace("\n", "\r\n")) == expected
    assert read(tmp_path / "a.conllu", CONLLU, label_column=7)[0] == (
        ["vamos", "nos", "10 000"],
        ["root", "obj", "obl"],
    )


@pytest.mark.parametrize(
    "content",
    [
        "10\xa0000 O\nin O\nRome\u2009! B-LOC\n",
        "10\xa0000\tO\nin\tO\nRome\u2009!\tB-LOC\n",
        "\ufeff10\xa0000  O \r\nin \t O\r\nRome\u2009! B-LOC\r\n \t\r\n",
        "-DOCSTART- -X- O O\n\n10\xa0000 O\n-DOCSTART- O\nin O\nRome\u2009! B-LOC",
        # the first line alone has a tab, or none
        "10\xa0000\tO\nin O\nRome\u2009! B-LOC\n",
        "# a comment\n10\xa0000\tO\nin\tO\nRome\u2009!\tB-LOC\n",
    ],
)
def test_words_are_cut_at_nothing_but_their_separator(tmp_path, content):
    assert read(tmp_path / "a.conll", content) == [(["10\xa0000", "in", "Rome\u2009!"], ["O", "O", "B-LOC"])]


def test_a_word_may_hold_a_space_where_tabs_separate(tmp_path):
    assert read(tmp_path / "a.tsv", "New York\tB-LOC\n# 9\tO\n") == [(["New York", "# 9"], ["B-LOC", "O"])]


def test_places_are_those_of_the_first_word_and_files_may_be_compressed(tmp_path):
    with gzip.open(tmp_path / "a.conll.gz", "wt") as file:
        file.write("\n# O\nb O\n\n\nc O\n")
    places = [place.rsplit(", ", 1)[1] for place, _ in read_conll(str(tmp_path / "a.conll.gz"))]
    assert places == ["line 2", "line 6"]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("EU B-ORG\nrejects\ncall O\n", {}, r"a.conll, line 2: there must be 2 columns as in most lines, got \['rej"),
        ("EU\nrejects O\ncall O\n", {}, "line 1: there must be 2 columns"),
        ("EU\tB-ORG\nNew York\ncall\tO\n", {}, r"line 2: there must be 2 columns as in most lines, got \['New York'\]"),
        ("EU X B-ORG\nNew York X O\ncall X O\n", {}, "line 2: there must be 3 columns as in most lines"),
        ("a O\n\nb\n", {"label_column": 1}, r"line 3: there must be the columns 0 and 1, got \['b'\]"),
        ("a O\n", {"label_column": -3}, r"line 1: there must be the columns 0 and -3, got \['a', 'O'\]"),
        ("a\nb\n", {}, "line 1: there must be a word in column 0 and its label in column -1"),
        ("a\tO\nb\t\n", {}, "line 2: there must be a word in column 0 and its label in column -1"),
        (CONLLU.replace("\tobl\t_\t_", "\tobl\t_"), {"label_column": 3}, "line 7: there must be 10 columns"),
        ("caf\xe9 O\n".encode("latin-1"), {}, "a.conll, line 1: must be UTF-8"),
    ],
)
def test_a_line_of_another_shape_is_an_error_that_says_where(tmp_path, content, columns, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.conll", content, **columns)


def test_lines_may_differ_behind_the_columns_that_are_asked_for(tmp_path):
    content = "a O x y\nb B-X\n"
    assert read(tmp_path / "a.conll", content, token_column=0, label_column=1) == [(["a", "b"], ["O", "B-X"])]
