"""Reading rows of text: what is a header, and that errors say where."""

import gzip
import json
import logging

import pytest

from attention_rnn.data import brief, choose_columns, drop_empty, get_text, read_lines, read_rows


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def rows_of(path, content, **options):
    return [row for _, row in read_rows(write(path, content), **options)]


# headers


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("source,target", {}),
        ("\ufeffSource,Target", {}),
        ("id,Text,label", {}),
        ("text", {}),
        ("wort,laut", {"wanted_columns": ["wort", None]}),
        ("wort,laut", {"column_names": ["wort", "laut"]}),
    ],
)
def test_a_header_is_known_by_usual_names_or_by_those_that_the_caller_gives(tmp_path, header, options):
    names = header.removeprefix("\ufeff").split(",")
    values = ["a", "b", "c"][: len(names)]
    table = f"{header}\n{','.join(values)}\n"
    assert rows_of(tmp_path / "a.csv", table, **options) == [dict(zip(names, values, strict=True))]


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.tsv.gz"])
@pytest.mark.parametrize("first", ["hello", "text"])
def test_a_first_row_of_data_is_refused_rather_than_lost(tmp_path, name, first):
    separator = "," if "csv" in name else "\t"
    table = f"{first}{separator}h ə\nyes{separator}j ɛ s\n"
    content = gzip.compress(table.encode()) if name.endswith("gz") else table
    with pytest.raises(ValueError, match=rf"{name}, line 1: the first row must name.*'{first}'.*give --column_names"):
        rows_of(tmp_path / name, content)
    assert rows_of(tmp_path / name, content, column_names=["a", "b"])[0] == {"a": first, "b": "h ə"}


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.csv: the columns must have different names, got \['text', 'text'\]"):
        rows_of(tmp_path / "a.csv", "text,text\na,b\n")


@pytest.mark.parametrize(
    ("columns", "given", "expected"),
    [
        (["label", "text"], {}, ["text", "label"]),
        (["id", "Sentence", "Label"], {}, ["Sentence", "Label"]),
        (["a", "b"], {}, ["a", "b"]),
        (["label", "remark"], {}, ["remark", "label"]),
        (["label", "text", "sense"], {"label": "sense"}, ["text", "sense"]),
        (["label", "text"], {"text": "label"}, ["label", "text"]),
    ],
)
def test_columns_are_chosen_by_their_names_before_their_places(columns, given, expected):
    assert choose_columns(columns, "a.csv, line 2", **{"text": None, "label": None, **given}) == expected


def test_too_few_columns_are_refused():
    with pytest.raises(
        ValueError, match=r"a.csv, line 2: there must be a column left for the target, got .*\['word'\]"
    ):
        choose_columns(["word"], "a.csv, line 2", source=None, target=None)


# quotation marks


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ('he said,"hello\nbye,au revoir\nyes,oui\n', 2),  # never closed
        ('a,b\nhe said,"hello\nyes,"oui"\n', 3),  # closed within a later row
        ('a,b\nhe said,"hello\nyes,oui"\n', 3),  # closed at the end of a later row
        ('a,b\nhe said,"hello" she\n', 3),
    ],
)
def test_a_stray_quotation_mark_does_not_swallow_rows(tmp_path, table, line):
    with pytest.raises(ValueError, match=rf"a.csv, line {line}: "):
        rows_of(tmp_path / "a.csv", "source,target\n" + table)


def test_quotation_marks_of_csv_are_understood(tmp_path):
    table = 'source,target\n"a, b","say ""x"""\n"one\ntwo, three, four",5" disk\n'
    assert rows_of(tmp_path / "a.csv", table) == [
        {"source": "a, b", "target": 'say "x"'},
        {"source": "one\ntwo, three, four", "target": '5" disk'},
    ]


def test_a_place_is_the_line_on_which_a_row_begins(tmp_path):
    file = write(tmp_path / "a.csv", 'source,target\n"one\ntwo",b\n\nc,d\n')
    assert [place.rpartition(", ")[2] for place, _ in read_rows(file)] == ["line 2", "line 5"]


def test_tsv_has_no_quotation_marks_and_no_longest_value(tmp_path):
    long = "x" * 200_000
    assert rows_of(tmp_path / "a.tsv", f'source\ttarget\n"a\t{long}\nb"\tc\rd\r\n') == [
        {"source": '"a', "target": long},
        {"source": 'b"', "target": "c\rd"},
    ]


def test_a_value_that_is_too_long_for_csv_is_refused_with_its_line(tmp_path):
    with pytest.raises(ValueError, match=r"a.csv, line 3: .*more than 131,072 characters needs another format"):
        rows_of(tmp_path / "a.csv", "source,target\na,b\nc," + "x" * 200_000 + "\n")


# JSON


SQUAD = {"version": "1.1", "data": [{"paragraphs": []}]}


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("value", [SQUAD, [SQUAD, SQUAD]], ids=["object", "list"])
def test_json_may_be_laid_out_in_any_way(tmp_path, indent, value):
    expected = value if isinstance(value, list) else [value]
    assert rows_of(tmp_path / "a.json", "\n" + json.dumps(value, indent=indent)) == expected


def test_a_json_file_may_have_an_object_a_line(tmp_path):
    assert rows_of(tmp_path / "a.json", '{"a": "1"}\n\n{"a": "2"}\n') == [{"a": "1"}, {"a": "2"}]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.json", '{\n "a": [1,\n 2\n}\n', "line 4"),
        ("a.json", '\n[{"a": 1},\n {"a" 2}]\n', "line 3"),
        ("a.json", '{"a": 1}\n{"a"\n', "line 2"),
        ("a.jsonl", '{"a"\n{"a": 1}\n', "line 1"),
        ("a.jsonl", '{"a": 1}\n\n[2]\n', "line 3"),
        ("a.json", '[{"a": 1}, "b"]', "item 2"),
    ],
)
def test_broken_json_is_refused_with_its_line(tmp_path, name, content, place):
    with pytest.raises(ValueError, match=rf"{name}, {place}: there must be a JSON object") as error:
        rows_of(tmp_path / name, content + " " * 100_000)
    assert len(str(error.value)) < 1_000


# files that are not what they seem


FORMATS = {
    "a.csv": "source,target\nb,c\nd,{}\n",
    "a.tsv": "source\ttarget\nb\tc\nd\t{}\n",
    "a.json": '[\n{{"a": "b"}},\n{{"a": "{}"}}]\n',
    "a.jsonl": '{{"a": "b"}}\n{{"a": "c"}}\n{{"a": "{}"}}\n',
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_another_encoding_is_refused_with_its_line(tmp_path, name):
    content = FORMATS[name].format("é").encode("latin-1")
    position = content.splitlines()[2].index(b"\xe9") + 1
    with pytest.raises(ValueError, match=f"{name}, line 3: must be UTF-8, got the byte 0xe9 at position {position} "):
        rows_of(tmp_path / name, content)


def test_aligned_files_of_another_encoding_are_refused_with_the_file_and_its_line(tmp_path):
    files = write(tmp_path / "a.en", "a\nb\n"), write(tmp_path / "a.fr", "a\né\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.fr, line 2: must be UTF-8"):
        list(read_rows(*files))


@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_gz_file_is_refused_with_the_line_before(tmp_path, name):
    whole = gzip.compress(FORMATS[name].format("é").encode())
    damaged = bytearray(whole)
    damaged[-6] ^= 1  # the checksum
    for content in (whole[:-9], bytes(damaged), b"no gzip at all"):
        with pytest.raises(ValueError, match=rf"{name}.gz, after line \d: must be a whole gzip file"):
            rows_of(tmp_path / f"{name}.gz", content)


def test_a_lone_carriage_return_ends_no_line(tmp_path):
    file = write(tmp_path / "a.txt", "\ufeffa\rb\r\nc\u2028d\n\ne")
    assert list(read_lines(file)) == ["a\rb\r\n", "c\u2028d\n", "\n", "e"]


# empty texts


@pytest.mark.parametrize("value", ["", " \n", None])
def test_a_text_may_be_empty(value):
    assert get_text({"a": value}, "a", "a.json, line 1") == ""


@pytest.mark.parametrize("value", [7, ["a"], False])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(ValueError, match=r"a.json, line 1: column 'a' must hold text, got"):
        get_text({"a": value}, "a", "a.json, line 1")


def test_rows_with_an_empty_text_are_dropped_with_their_number(caplog):
    examples = [{"a": "x", "b": "y"}, {"a": "", "b": "y"}, {"a": "x", "b": ""}, {"a": "z", "b": "y"}]
    with caplog.at_level(logging.WARNING):
        assert list(drop_empty(examples, ["a", "b"], "train.tsv")) == [examples[0], examples[3]]
        assert caplog.messages == ["2 of 4 rows of train.tsv are left out of training: their a or b is empty."]
        caplog.clear()
        assert list(drop_empty(examples[:1], ["a", "b"], "train.tsv")) == examples[:1]
        assert not caplog.messages
    with pytest.raises(ValueError, match=r"train.tsv must hold an example to train on, got 2 of which the a or b is"):
        list(drop_empty(examples[1:3], ["a", "b"], "train.tsv"))


def test_messages_do_not_print_all_of_a_long_value():
    assert brief(["a", "b"]) == "['a', 'b']"
    for value in ([str(i) for i in range(5_000)], {str(i) for i in range(5_000)}, "x" * 5_000, {"a": ["x" * 5_000]}):
        assert len(brief(value)) < 200
