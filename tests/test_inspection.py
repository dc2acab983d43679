"""What a file of one's own is seen to hold."""

import bz2
import datetime
import gzip
import io
import json
import lzma
import zipfile
from decimal import Decimal

import pyarrow.parquet
import pytest

from attention_rnn.inspection import Content, Known, read_aligned, read_content, text_of
from attention_rnn.onnx.spelling import spell_lemma, unspell
from attention_rnn.question_answering import read_examples
from attention_rnn.tasks import find_task

WORDS = [(f"wort{number}", f"v ɔ {number}") for number in range(12)]
TSV = "".join(f"{source}\t{target}\n" for source, target in WORDS)


def write(tmp_path, content, name="file.txt", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("words.tsv", data)
    return buffer.getvalue()


WHO = ["man", "cat", "dog", "king", "child", "woman"]


@pytest.mark.parametrize(
    ("compress", "seen"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz"), (zipped, "zip")]
)
def test_a_file_may_be_compressed_whatever_its_name(tmp_path, compress, seen):
    content = read_content(write(tmp_path, compress(TSV.encode())))
    assert [tuple(row.values()) for row in content.rows] == WORDS
    assert content.seen[0] == seen


@pytest.mark.parametrize(("encoding", "seen"), [("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16")])
def test_a_mark_of_the_byte_order_is_no_text(tmp_path, encoding, seen):
    content = read_content(write(tmp_path, TSV, encoding=encoding))
    assert content.rows[0]["column 1"] == "wort0"
    assert seen in content.seen


def test_an_older_encoding_is_named_and_never_guessed(tmp_path):
    lines = ["key\tclé", "élève\tpupil", "être\tto be"] * 5
    file = write(tmp_path, "\n".join(lines), encoding="latin-1")
    with pytest.raises(ValueError, match=r"line 1: must be UTF-8, got the byte 0xe9 .* cp1252 there is .key.tclé"):
        read_content(file)
    content = read_content(file, encoding="cp1252")
    assert content.rows[1] == {"column 1": "élève", "column 2": "pupil"}
    assert "CP1252" in content.seen
    with pytest.raises(ValueError, match="encoding must be one that Python knows, such as cp1252, got 'latein'"):
        read_content(file, encoding="latein")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_is_read_by_its_name_alone(tmp_path, encoding):
    file = write(tmp_path, TSV, encoding=encoding)
    with pytest.raises(ValueError, match=r"file.txt, line 1: .* got the character NUL.* --encoding utf-16-le"):
        read_content(file)
    assert read_content(file, encoding=encoding).rows[1]["column 1"] == "wort1"


def test_an_encoding_is_one_of_text(tmp_path):
    with pytest.raises(ValueError, match="encoding must be one that Python knows, such as cp1252, got 'base64'"):
        read_content(write(tmp_path, TSV), encoding="base64")


def test_aligned_files_have_an_encoding(tmp_path):
    files = [write(tmp_path, f"{word}\n" * 3, name, encoding="cp1252") for name, word in (("a", "clé"), ("b", "key"))]
    assert read_aligned(*files, encoding="cp1252").rows[2] == {"source": "clé\n", "target": "key\n"}
    with pytest.raises(ValueError, match=r"a, line 1: must be UTF-8, .* by --encoding cp1252 there is 'clé'"):
        read_aligned(*files)
    with pytest.raises(ValueError, match="must have the same number of lines, got 3 and 1"):
        read_aligned(files[0], write(tmp_path, "key", "c"), encoding="cp1252")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.tsv", "dev.tsv", "test.tsv"], "train.tsv --validation {}dev.tsv --test {}test.tsv"),
        (["train.csv.gz", "valid.csv", "README.md"], "train.csv.gz --validation {}valid.csv"),
        (["train.de", "train.en", "val.de", "val.en"], "train.de {}train.en --validation {}val.de {}val.en"),
    ],
)
def test_a_folder_tells_the_command_for_its_files(tmp_path, names, expected):
    for name in names:
        write(tmp_path, "x", name)
    with pytest.raises(ValueError, match="is a folder, and must be a file: attention-rnn train ") as caught:
        read_content(tmp_path)
    assert str(caught.value).endswith(f": attention-rnn train {tmp_path}/" + expected.replace("{}", f"{tmp_path}/"))


def test_a_separator_behind_the_last_label_separates_nothing(tmp_path):
    rows = "".join(f"text {n}\t{('a;b;', 'b;', 'c;a;', 'a;')[n % 4]}\n" for n in range(60))
    assert find_task(read_content(write(tmp_path, rows))).reason == "3 labels between semicolons"


@pytest.mark.parametrize(
    ("separator", "seen"), [("\t", "tabs"), (",", "commas"), (";", "semicolons"), ("|||", "|||"), ("|", "bars")]
)
def test_separators_are_found(tmp_path, separator, seen):
    lines = [f"Wort {number}{separator}w {number}" for number in range(5)]
    content = read_content(write(tmp_path, "\n".join(lines)))
    assert content.rows[4] == {"column 1": "Wort 4", "column 2": "w 4"}
    assert f"separated by {seen}" in content.seen


def test_a_quoted_comma_separates_nothing(tmp_path):
    lines = ["text,label", '"good, really",pos', "bad,neg", '"so ""so""",neg']
    content = read_content(write(tmp_path, "\n".join(lines), "file.csv"))
    assert [row["text"] for row in content.rows] == ["good, really", "bad", 'so "so"']


@pytest.mark.parametrize(
    ("first", "has_header"),
    [
        ("word\tphones", True),
        ("wort\tv ɔ", False),
        ("Wort\tlang", False),  # nothing tells that it is one
    ],
)
def test_a_header_is_told_from_data(tmp_path, first, has_header):
    content = read_content(write(tmp_path, f"{first}\n{TSV}"))
    assert len(content.rows) == len(WORDS) + (not has_header)


def test_a_header_in_unusual_names_stands_above_numbers_or_labels(tmp_path):
    rows = "".join(f"satz {number}\t{'ja' if number % 2 else 'nein'}\n" for number in range(60))
    assert list(read_content(write(tmp_path, f"Satz\tMeinung\n{rows}")).rows[0]) == ["Satz", "Meinung"]
    rows = "".join(f"satz {number}\t{number}\n" for number in range(12))
    assert list(read_content(write(tmp_path, f"Satz\tWert\n{rows}")).rows[0]) == ["Satz", "Wert"]


def test_a_row_of_another_length_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"file.txt, line 201: there must be one value for each of .*'column 2'\], got"
    ):
        read_content(write(tmp_path, "a\tb\n" * 200 + "a\tb\tc\n"))


@pytest.mark.parametrize("content", ["", " \n", b"\x1f\x8bnot gzip"])
def test_what_cannot_be_read_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="must"):
        read_content(write(tmp_path, content))


QUESTION = {"context": "So it is.", "qas": [{"id": "1", "question": "Is it?", "answers": []}]}
CASES = {
    "pairs": (TSV, "pairs", {"source": ["column 1"], "target": ["column 2"]}),
    "pairs by name": (
        "id,target,source\n" + "".join(f"{n},t{n},s{n}\n" for n in range(5)),
        "pairs",
        {"source": ["source"], "target": ["target"]},
    ),
    "nested pairs": (
        "".join(json.dumps({"translation": {"en": f"e{n}", "de": f"d{n}"}}) + "\n" for n in range(3)),
        "pairs",
        {"source": ["translation.en"], "target": ["translation.de"]},
    ),
    "labels": (
        "".join(f"{'pos' if n % 2 else 'neg'}\ttext {n}\n" for n in range(40)),
        "classification",
        {"text": ["column 2"], "label": ["column 1"]},
    ),
    "labels by name": (
        json.dumps([{"title": "t", "label": n % 2, "text": f"text {n}"} for n in range(20)]),
        "classification",
        {"text": ["text"], "label": ["label"]},
    ),
    "conll": ("the DET\ndog NOUN\nbarks VERB\n\n" * 5, "labelling", {"tokens": ["tokens"], "labels": ["labels"]}),
    "lists": (
        json.dumps([{"words": ["a", "b"], "ner": ["O", "B-X"]}]),
        "labelling",
        {"tokens": ["words"], "labels": ["ner"]},
    ),
    "questions": (json.dumps({"data": [{"paragraphs": [QUESTION]}]}), "question-answering", {}),
    "running text": ("Es war einmal, vor Zeiten.\nEin König, reich,\nalt, müde, allein.\n", "language-model", {}),
}


RATED = "".join(f"text {n}\t{n % 5 + n % 2 / 2}\n" for n in range(40))
SEVERAL = "".join(f"text {n}\t{('drama', 'comedy; war', 'war', 'comedy')[n % 4]}\n" for n in range(60))


@pytest.mark.parametrize(
    ("text", "problem_type", "label_separator"),
    [
        (RATED, "regression", ","),
        ("".join(f"text {n}\t{n % 5}\n" for n in range(40)), "single_label_classification", ","),
        ("".join(f"text {n}\t{'ab'[n % 2]}\t0.{n}\n" for n in range(40)), "single_label_classification", ","),
        (SEVERAL, "multi_label_classification", ";"),
        (SEVERAL.replace("comedy; war", "sports, indoor"), "single_label_classification", ","),
        (json.dumps([{"text": "a", "genres": ["war"]}] * 3), "multi_label_classification", ","),
    ],
)
def test_numbers_and_several_labels_are_told_from_one(tmp_path, text, problem_type, label_separator):
    task = find_task(read_content(write(tmp_path, text)))
    assert (task.name, task.problem_type) == ("classification", problem_type)
    assert task.label_separator == label_separator


def test_whole_numbers_may_be_written(tmp_path):
    rows = "".join(f"{'x' * n}y\t{n}\n" for n in range(40))
    assert find_task(read_content(write(tmp_path, rows))).name == "pairs"


@pytest.mark.parametrize("first", ["{}", "{:.1}."])
def test_parts_of_a_text_in_another_order_are_written(tmp_path, first):
    names = [f"{first} {last}" for first in ("Eva", "Anna", "Uwe", "Rolf") for last in ("Becker", "Bayer", "Meyer")]
    rows = "".join(f"{name}\t{name.split()[1]}, {first.format(name)}\n" for name in names * 5)
    assert find_task(read_content(write(tmp_path, rows))).name == "pairs"


@pytest.mark.parametrize("name", CASES)
def test_the_task_is_found(tmp_path, name):
    text, task, columns = CASES[name]
    found = find_task(read_content(write(tmp_path, text)))
    assert (found.name, found.columns) == (task, columns)


WORDS_OF_TEXTS = [("the", "DET"), ("dog", "NOUN"), ("barks", "VERB")]


@pytest.mark.parametrize(
    ("name", "text", "task", "header"),
    [
        ("a.tsv", "text\tlabel\n" + "".join(f"text {n}\t{'ab'[n % 2]}\n" for n in range(60)), "classification", None),
        ("a.txt", "".join(f"text {n}\t{'ab'[n % 2]}\n" for n in range(60)), "classification", None),
        ("a.tsv", "".join(f"w{n}\t{'ab'[n % 2]}\n" for n in range(60)), "classification", None),  # words and classes
        ("a.tsv", "text\tlabel\n" + "".join(f"w{n % 40}\t{'ab'[n % 2]}\n" for n in range(60)), "classification", None),
        ("a.tsv", "x\ty\n" + "".join(f"w{n % 40}\t{'ab'[n % 2]}\n" for n in range(60)), "classification", True),
        ("a.csv", "".join(f"text,{'ab'[n % 2]} {n}\n" for n in range(60)), "pairs", False),
        ("a.tsv", "".join(f"w{n}\t{n % 7}\n" for n in range(60)), "classification", None),
    ],
)
@pytest.mark.parametrize("empty", [1, 6])
def test_empty_lines_make_no_conll_of_a_table(tmp_path, name, text, task, header, empty):
    lines = text.split("\n")
    for number in range(empty):
        lines.insert(5 + 9 * number, "")
    content = read_content(write(tmp_path, "\n".join(lines), name), header=header)
    assert len(content.rows) == 60
    if name != "a.csv":
        assert find_task(content).name == task


def test_different_words_between_spaces_are_conll(tmp_path):
    text = "".join(f"w{n} A\nv{n} B\n\n" for n in range(30))
    assert len(read_content(write(tmp_path, text)).rows) == 30


def test_a_single_empty_line_makes_no_conll_of_many_rows(tmp_path):
    rows = [f"w{n % 9}\t{'ab'[n % 2]}\n" for n in range(100)]
    assert len(read_content(write(tmp_path, "".join([*rows[:40], "\n", *rows[40:]]), "a.tsv")).rows) == 100


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.tsv.gz"])
@pytest.mark.parametrize("first", ["", "token\tlabel\n", "word\tpos\n\n"])
def test_the_header_of_conll_is_no_word(tmp_path, name, first):
    text = first + ("".join("\t".join(pair) + "\n" for pair in WORDS_OF_TEXTS) + "\n") * 20
    content = read_content(write(tmp_path, gzip.compress(text.encode()) if name.endswith("gz") else text, name))
    tokens, labels = map(list, zip(*WORDS_OF_TEXTS, strict=True))
    assert content.rows == [{"tokens": tokens, "labels": labels}] * 20


def test_the_task_decides_between_conll_and_a_table(tmp_path):
    file = write(tmp_path, "the DET\ndog NOUN\nbarks VERB\n\n".replace(" ", "\t") * 20)
    assert "tokens" in read_content(file).rows[0]
    assert list(read_content(file, known=Known("pairs")).rows[0]) == ["column 1", "column 2"]
    file = write(tmp_path, "mot\tclasse\n" + "the\tDET\ndog\tNOUN\nbarks\tVERB\n\n" * 20, "a.tsv")
    assert len(read_content(file, known=Known(wanted=["mot", "classe"])).rows) == 60


THREE = "".join(f"{word}\t{tag}\t{tag}-{n}\n" for n, (word, tag) in enumerate(WORDS_OF_TEXTS)) + "\n"


@pytest.mark.parametrize("header", ["", "token\tupos\txpos\n"])
@pytest.mark.parametrize("wanted", [["1", "2"], ["column 1", "column 2"]])
def test_columns_of_conll_have_numbers(tmp_path, header, wanted):
    content = read_content(write(tmp_path, header + THREE * 3), known=Known(wanted=wanted))
    assert content.rows[0] == {"column 1": ["the", "dog", "barks"], "column 2": ["DET", "NOUN", "VERB"]}
    assert content.unread == ["xpos" if header else "column 3"]
    assert find_task(content).columns == {"tokens": ["column 1"], "labels": ["column 2"]}


def test_columns_of_conll_have_the_names_of_its_header_or_of_conll_u(tmp_path):
    file = write(tmp_path, "token\tupos\txpos\n" + THREE * 3)
    assert read_content(file).unread == ["upos"]
    assert read_content(file, known=Known(wanted=["token", "upos"])).rows[0]["upos"] == ["DET", "NOUN", "VERB"]
    token = "{}\t{}\tx\t{}\t{}\t_\t0\troot\t_\t_\n"
    file = write(tmp_path, (token.format(1, "dogs", "NOUN", "NNS") + token.format(2, "bark", "VERB", "VB") + "\n") * 3)
    assert read_content(file, known=Known(wanted=["FORM", "XPOS"])).rows[0]["XPOS"] == ["NNS", "VB"]


@pytest.mark.parametrize(
    ("name", "line", "columns"),
    [
        ("a.csv", "walk{n},V;PST,walked{n}", 3),
        ("a.csv", "text {n},x;y", 2),
        ("a.csv", "A: {n} | B: so,pos", 2),
        ("a.csv", '"so; {n}",pos', 2),
        ("a.csv", "so {n};3,5", 2),  # a decimal comma
        ("a.csv", "so {n};pos;a", 3),
        ("a.tsv", "so {n}\ta,b,c", 2),
        ("a.txt", "so {n};x,y", 2),
    ],
)
def test_what_a_file_is_called_tells_what_separates_its_columns(tmp_path, name, line, columns):
    content = read_content(write(tmp_path, "".join(line.format(n=n) + "\n" for n in range(20)), name))
    assert len(content.rows[0]) == columns


def test_conll_u_is_read_by_form_and_universal_tag(tmp_path):
    token = "{}\t{}\t_\t{}\t_\t_\t0\troot\t_\t_\n"
    sentence = "# text = x\n" + token.format(1, "dogs", "NOUN") + token.format(2, "bark", "VERB") + "\n"
    content = read_content(write(tmp_path, sentence * 3))
    assert content.rows == [{"tokens": ["dogs", "bark"], "labels": ["NOUN", "VERB"]}] * 3


def test_lemmas_with_features_are_spelt(tmp_path):
    rows = "".join(f"gehen{n}\tging{n}\tV;PST;{n}\n" for n in (1, 2, 3))
    task = find_task(read_content(write(tmp_path, rows)))
    assert task.spelt
    assert task.columns == {"source": ["column 1", "column 3"], "target": ["column 2"]}
    assert spell_lemma("an N", "N;PL") == "a n ␣ N [N] [PL]"
    assert unspell("ä n ␣ N") == "än N"


def test_one_column_is_for_no_task(tmp_path):
    with pytest.raises(ValueError, match="there must be a column of sources"):
        find_task(read_content(write(tmp_path, json.dumps([{"text": "a"}]))))


def test_values_of_parquet_are_read_as_their_text(tmp_path):
    file = tmp_path / "rated.parquet"
    values = {"text": [b"\xc3\xa9"], "price": [Decimal("1.50")], "day": [datetime.date(2026, 3, 1)]}
    pyarrow.parquet.write_table(pyarrow.table(values), file)
    assert read_content(file).rows == [{"text": "é", "price": "1.50", "day": "2026-03-01"}]


def test_lines_of_old_macs_are_refused(tmp_path):
    (tmp_path / "words.tsv").write_bytes(b"ab\tx\rcd\ty\ref\tz\r")
    with pytest.raises(ValueError, match=r"words.tsv must have line feeds, got lines that end in a carriage return"):
        read_content(tmp_path / "words.tsv")


def test_parquet_is_read(tmp_path):
    file = tmp_path / "words.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"source": ["a"], "target": ["b"]}), file)
    assert read_content(file).rows == [{"source": "a", "target": "b"}]


# columns that another file of the same data has named

KNOWN = Known("classification", ["label", "Satz"], ["Satz", "label"])


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Satz\tlabel\ngut so\tja\n", KNOWN),  # nothing but the other file tells that it is a header
        ("ja\tgut so\n", KNOWN),
        ("ja\tgut so\nnein\tgut so\n", KNOWN),
        ("gut so\n", Known("classification", ["label", "Satz"], ["Satz"])),
        ("Satz\ngut so\n", Known("classification", ["label", "Satz"], ["Satz"])),
    ],
)
@pytest.mark.parametrize(("ending", "separator"), [("tsv", "\t"), ("csv", ","), ("csv", ";")])
def test_the_columns_of_the_training_are_found_in_another_file(tmp_path, text, known, ending, separator):
    content = read_content(write(tmp_path, text.replace("\t", separator), f"file.{ending}"), known=known)
    assert {row["Satz"] for row in content.rows} == {"gut so"}


def test_columns_that_the_user_names_are_found_in_the_header_and_never_by_position(tmp_path):
    known = Known(wanted=["body", "stars"])
    assert list(read_content(write(tmp_path, "stars\tbody\n1\tso\n"), known=known).rows[0]) == ["stars", "body"]
    content = read_content(write(tmp_path, TSV), known=Known(wanted=["column 1", "column 3"]))
    assert list(content.rows[0]) == ["column 1", "column 2"]


def test_a_column_that_is_not_there_is_no_empty_text(tmp_path):
    content = read_content(write(tmp_path, json.dumps([{"src": "a", "tgt": None}]), "dev.json"))
    ((place, row),) = content
    assert text_of(row, "tgt", place) == ""
    with pytest.raises(ValueError, match=r"dev.json, item 1: there must be a column 'source', got .*'src', 'tgt'"):
        text_of(row, "source", place)


@pytest.mark.parametrize("value", [["New", "York"], {"en": "a"}])
def test_what_is_no_text_is_not_written_as_python_shows_it(value):
    with pytest.raises(ValueError, match=r"a.json, line 1: column 'a' must hold text, got"):
        text_of({"a": value}, "a", "a.json, line 1")
    assert text_of({"a": 7}, "a", "a.json, line 1") == "7"


def test_a_separator_of_unicode_ends_no_line(tmp_path):
    rows = [{"source": f"a{separator}b", "target": "t"} for separator in "\x0b\x0c\x85\u2028"]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert read_content(write(tmp_path, lines, "file.jsonl")).rows == rows
    table = "".join(f"{row['source']}\t{row['target']}\n" for row in rows)
    assert [row["column 1"] for row in read_content(write(tmp_path, table)).rows] == [row["source"] for row in rows]


def test_a_broken_line_of_jsonl_is_named_and_no_table(tmp_path):
    with pytest.raises(ValueError, match=r"file.txt, line 2: there must be a JSON object"):
        read_content(write(tmp_path, '{"source": "a, b"}\n{"source": "a, b\n' * 2))


CONLL = "-DOCSTART-\tO\n\nNew York\tB-LOC\nis\tO\n\n" + "big\tO\n# s1\nso\u00a0so\tO\n\n" * 700


def test_conll_is_read_as_the_script_reads_it(tmp_path):
    rows = read_content(write(tmp_path, CONLL)).rows
    assert rows[0] == {"tokens": ["New York", "is"], "labels": ["B-LOC", "O"]}
    assert rows[1:] == [{"tokens": ["big", "so\u00a0so"], "labels": ["O", "O"]}] * 700


def test_one_sentence_of_conll_is_read_beside_a_training(tmp_path):
    content = read_content(write(tmp_path, "the DET\ndog NOUN\n"), known=Known("labelling"))
    assert content.rows == [{"tokens": ["the", "dog"], "labels": ["DET", "NOUN"]}]


@pytest.mark.parametrize(
    "lines",
    [
        [f"The {who} sees the book here, and the child finds {what}.\n" for who in WHO for what in WHO],
        [f"The {who} went home, for it was late{end}\n" for who in WHO for end in "!?.…"],
        [
            f"The {who} sees the book and buys a {what}.\n{'' if what == 'cat' else chr(10)}"
            for who in WHO
            for what in WHO
        ],
        [f"then {who} met {what}\n\n" for who in WHO for what in WHO],
    ],
    ids=["a comma", "few ends", "lines of a length", "no punctuation"],
)
def test_sentences_are_running_text(tmp_path, lines):
    file = tmp_path / "story.txt"
    file.write_text("".join(lines), encoding="utf-8")
    assert find_task(read_content(file)).name == "language-model"


def test_running_text_beside_a_training_is_no_table(tmp_path):
    text = "a, b\nc, d\ne, f\n"
    assert read_content(write(tmp_path, text), known=Known("language-model")).text == text


def read_content_of(rows):
    content = Content("file.json")
    content.add((f"file.json, item {number}", row) for number, row in enumerate(rows, start=1))
    return content


PAIR = [{"source": f"s{n}", "target": f"t{n % 3}"} for n in range(60)]


@pytest.mark.parametrize(
    "others",
    [
        lambda n: {},
        lambda n: {"lang": "de"},
        lambda n: {"confidence": n / 100},
        lambda n: {"note": None if n == 0 else "x"},
        lambda n: {"target": "3,1,1" if n % 2 else "2,1"},
    ],
)
def test_columns_called_source_and_target_are_pairs_whatever_stands_beside_them(others):
    task = find_task(read_content_of([row | others(n) for n, row in enumerate(PAIR)]))
    assert (task.name, task.columns) == ("pairs", {"source": ["source"], "target": ["target"]})


@pytest.mark.parametrize("target", ["yes no", "0.5 1.5"])
def test_the_label_of_a_text_may_be_called_target(target):
    rows = [{"text": f"text {n}", "target": target.split()[n % 2]} for n in range(40)]
    task = find_task(read_content_of(rows))
    assert (task.name, task.columns) == ("classification", {"text": ["text"], "label": ["target"]})


def test_a_first_target_that_is_missing_names_no_other():
    rows = [{"source": f"s{n}", "target": None if n == 0 else f"t{n}", "note": f"n{n}"} for n in range(12)]
    assert find_task(read_content_of(rows)).columns == {"source": ["source"], "target": ["target"]}


def test_ids_of_labels_beside_words_are_labels_of_words():
    rows = [{"id": str(n), "tokens": ["a", "b"], "ner_tags": [0, 2]} for n in range(3)]
    task = find_task(read_content_of(rows))
    assert (task.name, task.columns) == ("labelling", {"tokens": ["tokens"], "labels": ["ner_tags"]})
    with pytest.raises(ValueError, match="there must be a list of labels as long as that in 'tokens'"):
        find_task(read_content_of([row | {"ner_tags": [0]} for row in rows]))


def test_a_decimal_comma_separates_no_labels(tmp_path):
    rows = "text;score\n" + "".join(f"text {n};{n % 5},{n % 2 * 5}\n" for n in range(60))
    task = find_task(read_content(write(tmp_path, rows)))
    assert (task.problem_type, task.columns) == ("regression", {"text": ["text"], "label": ["score"]})


def test_a_column_of_one_value_is_no_label(tmp_path):
    rows = "".join(f"wort {n}\tword {n}\tde\n" for n in range(60))
    task = find_task(read_content(write(tmp_path, rows)))
    assert (task.name, task.columns) == ("pairs", {"source": ["column 1"], "target": ["column 2"]})


REVIEWS = [{"body": f"a {'dull' if n % 2 else 'stirring'} film {n}, they say", "stars": n % 5} for n in range(60)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("review_id", str),
        ("review-id", lambda n: f"R-{n:05}"),
        ("reviewId", lambda n: 10_000 + n),
        ("customer_id", lambda n: n % 7),  # that repeats
        ("customer", lambda n: 31 * n + 7),  # whose name tells nothing
        ("customer", lambda n: 31 * (n % 40) + 7),
        ("picture", lambda n: f"img_{n}.jpg"),
        ("day", lambda n: f"2024-01-{n % 28 + 1:02} 10:0{n % 7}"),
        ("Unnamed: 0", str),
        ("", str),
        ("uuid", lambda n: f"{n * 7919:08x}-4f1a"),
        ("nr", lambda n: n // 2),
    ],
)
@pytest.mark.parametrize("label", [lambda n: n, lambda n: f"{'abcde'[n]}"])
def test_what_numbers_the_rows_is_no_text(name, value, label):
    rows = [{name: value(n)} | row | {"stars": label(row["stars"])} for n, row in enumerate(REVIEWS)]
    task = find_task(read_content_of(rows))
    assert (task.name, task.columns) == ("classification", {"text": ["body"], "label": ["stars"]})


@pytest.mark.parametrize(
    ("names", "row", "expected"),
    [
        (["nr", "a", "b"], lambda n: [n, f"haus {n}", f"house {n}"], ["a", "b"]),
        (["x", "y", "z"], lambda n: [f"haus{n}", 9 * n, f"house{n}"], ["x", "z"]),  # words
        (["x", "y", "z"], lambda n: [f"S-{n}", f"das Haus {n}", f"the house {n}"], ["y", "z"]),
        (["en", "id"], lambda n: [f"house {n}", f"rumah {n}"], ["en", "id"]),  # Indonesian
        (["en", "no"], lambda n: [f"house{n}", f"hus{n}"], ["en", "no"]),  # Norwegian
        (["written", "number"], lambda n: [f"one and {n}", n], ["written", "number"]),
        (["word", "sounds", "x"], lambda n: [f"w{n}", f"w-{n}", 7 * n], ["word", "sounds"]),
    ],
)
def test_pairs_beside_what_numbers_them_are_pairs(names, row, expected):
    task = find_task(read_content_of([dict(zip(names, row(n), strict=True)) for n in range(40)]))
    assert (task.name, [*task.columns["source"], *task.columns["target"]]) == ("pairs", expected)


def test_a_number_for_each_text_is_nothing_to_learn():
    with pytest.raises(ValueError, match=r"there must be a column of sources .*; --columns names them"):
        find_task(read_content_of([{"text_id": n, "text": row["body"]} for n, row in enumerate(REVIEWS)]))


def rated(values):
    return read_content_of([{"text": f"a text {n}", "price": values[n % len(values)]} for n in range(40)])


@pytest.mark.parametrize(
    ("values", "thousands"),
    [
        (["999", "1,250.5", "12,000"], ","),
        (["999", "12,000,000", "1,250", "7.5"], ","),
        (["1.250,5", "12.000", "3"], "."),
        (["3,5", "1,250"], ""),
        (["0,125", "1,250"], ""),
        (["1.250", "0.5"], ""),
        (["1e-05", "2.5E3", "3"], ""),
        ([1e-05, 0.5], ""),
        ([float("nan"), 0.5, 1.5], ""),
        (["NaN", "0.5", "1.5", ""], ""),
    ],
)
def test_numbers_are_rated_as_they_are_written(values, thousands):
    task = find_task(rated(values))
    assert (task.problem_type, task.columns["label"], task.thousands) == ("regression", ["price"], thousands)


def test_a_comma_that_may_mean_two_things_is_refused():
    with pytest.raises(ValueError, match=r"file.json: the comma of '1,250' in column 'price' .* write 1250 or 1.250"):
        find_task(rated(["999", "1,250", "12,000"]))


def test_whole_numbers_with_marks_of_thousands_may_be_written():
    assert find_task(read_content_of([{"a": f"x{n}", "b": f"{n},000,000"} for n in range(1, 40)])).name == "pairs"


def test_a_label_that_is_missing_is_none():
    rows = [{"text": f"a text {n}", "label": ["", "good", "bad", None][n % 4]} for n in range(80)]
    assert find_task(read_content_of(rows)).reason == "2 labels, each of many texts"


QUESTIONS = [{"question": f"who is {n}", "context": f"it is {n}", "answer": str(n)} for n in range(12)]


def test_answers_may_stand_in_a_column_of_texts():
    content = read_content_of(QUESTIONS)
    assert find_task(content).name == "question-answering"
    assert next(read_examples(content))["answers"] == {"text": ["0"], "answer_start": [6]}
    content = read_content_of([QUESTIONS[0], QUESTIONS[1] | {"answer": "you"}])
    with pytest.raises(ValueError, match=r"file.json, item 2, question 1: the answer 'you' must stand in the context"):
        list(read_examples(content))


@pytest.mark.parametrize("names", [["question", "context"], ["Question", "Context", "Answer"]])
def test_questions_without_answers_are_no_pairs(names):
    rows = [dict(zip(names, row.values(), strict=False)) for row in QUESTIONS]
    with pytest.raises(ValueError, match="questions need the columns question, context and answer"):
        find_task(read_content_of(rows))


def test_questions_with_labels_are_pairs_to_classify():
    rows = [row | {"label": n % 2} for n, row in enumerate(QUESTIONS)]
    task = find_task(read_content_of([{name: row[name] for name in row if name != "answer"} for row in rows]))
    assert (task.name, task.columns) == ("classification", {"text": ["question", "context"], "label": ["label"]})


def test_a_text_with_two_columns_of_labels_is_no_pair(tmp_path):
    rows = "".join(f"a text {n}\t{'ab'[n % 2]}\t{'cde'[n % 3]}\n" for n in range(60))
    task = find_task(read_content(write(tmp_path, rows)))
    assert (task.name, task.columns) == ("classification", {"text": ["column 1"], "label": ["column 2"]})


def test_one_row_has_a_task(tmp_path):
    assert find_task(read_content(write(tmp_path, "a\tb\n"))).name == "pairs"


@pytest.mark.parametrize(
    ("name", "good", "bad", "message"),
    [
        ("a.csv", '"fine, really",good\n', '"it is ,good\n', "line 62: a row of csv begins here"),
        ("a.csv", "fine,good\n", "dull,bad,bad\n", "line 62: there must be one value for each of the columns"),
        ("a.tsv", "fine\tgood\n", "dull bad\n", "line 62: there must be one value for each of the columns"),
        ("a.conll", "Los B-LOC\nAngeles I-LOC\n\n", "Broken\n", "line 182: there must be 2 columns as in most lines"),
        ("a.txt", "Los B-LOC\nAngeles I-LOC\n\n", "Broken\n", "line 182: there must be 2 columns as in most lines"),
    ],
)
def test_a_broken_line_makes_no_running_text_of_a_table(tmp_path, name, good, bad, message):
    header = "text\tlabel\n" if name.endswith("tsv") else "text,label\n" if name.endswith("csv") else "A O\n"
    with pytest.raises(ValueError, match=message):
        read_content(write(tmp_path, header + 60 * good + bad + 2 * good, name))
