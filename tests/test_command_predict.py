"""What `attention-rnn predict` writes of files and pipes: whatever can be answered, beside what the file holds."""

import csv
import datetime
import json

import pytest
from command_models import ARTICLE, predicted, save_models, write

from attention_rnn import cli
from attention_rnn.commands import predict
from attention_rnn.commands.models import Answer, Model
from attention_rnn.data import read_rows


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_models(tmp_path_factory)


def test_what_cannot_be_read_has_an_empty_prediction(folders, tmp_path, capsys):
    file = write(tmp_path, "more.txt", "a N\nHaus\n\na n\tN;PL\n" * 2)
    rows = predicted(folders["inflection"], file)
    assert [row["source"] for row in rows] == ["a N", "Haus", "", "a n\tN;PL"] * 2
    assert rows[1]["prediction"] == ""
    assert rows[1]["error"].startswith("line 2: this model needs a lemma and its features, such as 'gehen V;PST'")
    assert [index for index, row in enumerate(rows) if "error" in row] == [1, 5]
    assert "2 of 8 lines could not be read: line 2: this model needs" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt"])
def test_a_row_of_another_length_does_not_end_a_table(folders, tmp_path, capsys, ending):
    separator = "," if ending == "csv" else "\t"
    text = "review\tstars\tid\ngreat\t1\t007\nbad\n\nso\t2\t008\n".replace("\t", separator)
    rows = predicted(folders["rated"], write(tmp_path, f"more.{ending}", text))
    assert [row["source"] for row in rows] == ["great", "bad", "so"]
    assert [row.get("id") for row in rows] == ["007", None, "008"]
    assert rows[1]["error"] == "line 3: there must be 3 values as in most rows, got ['bad']"
    assert "1 of 3 rows could not be read: line 3: there must be 3 values" in capsys.readouterr().err


def test_tabs_tell_a_table_though_another_separator_is_in_each_line(folders, tmp_path, capsys):
    rows = predicted(folders["inflection"], write(tmp_path, "more.txt", "a\tx\tN;PL\nn\ty\tN;SG\na x N;SG\n"))
    assert [row["source"] for row in rows] == ["a N;PL", "n N;SG", "a x N;SG"]
    assert "there must be 3 values" in rows[2]["error"]


def test_quotation_marks_that_join_rows_end_a_table(folders, tmp_path):
    with pytest.raises(SystemExit, match=r"more\.csv, line 3: a row of csv begins here that cannot be read"):
        predicted(folders["rated"], write(tmp_path, "more.csv", 'review,stars\ngreat,1\n"bad,2\nso,3\n'))


def test_what_cannot_be_read_stays_where_a_prediction_goes_on(folders, tmp_path, monkeypatch, capsys):
    rows = [{"review": "great", "id": 1}, {"body": "bad", "id": 2}, {"review": "so", "id": 3}]
    file = write(tmp_path, "more.jsonl", "".join(map("{}\n".format, map(json.dumps, rows))))
    monkeypatch.setattr(predict, "_PART", 1)
    asked, is_interrupted = [], True

    def answers(self, texts, *arguments):
        if texts == ["so"] and is_interrupted:
            raise KeyboardInterrupt
        asked.extend(texts)
        return [[Answer(text)] for text in texts]

    monkeypatch.setattr(Model, "answers", answers)
    with pytest.raises(SystemExit):
        predicted(folders["rated"], file)
    is_interrupted = False
    told = predicted(folders["rated"], file)
    assert [row["prediction"] for row in told] == asked == ["great", "", "so"]
    assert [row["id"] for row in told] == [1, 2, 3]
    assert "there must be a column 'review'" in told[1]["error"]
    assert {path.name for path in tmp_path.iterdir()} == {"more.jsonl", "out.jsonl"}


@pytest.mark.parametrize("name", ["pairs", "inflection", "rated"])
def test_an_ensemble_and_a_translator_pass_over_a_row_too(folders, tmp_path, capsys, name):
    columns = {"pairs": ["source"], "inflection": ["lemma", "features"], "rated": ["review"]}[name]
    good = dict(zip(columns, ["great", "N"], strict=False))
    file = write(tmp_path, "more.jsonl", f"{json.dumps(good)}\n{json.dumps(good | {columns[0]: ['x']})}\n")
    rows = predicted(folders[name], file)
    assert ["error" in row for row in rows] == [False, True]
    assert f"line 2: column '{columns[0]}' must hold text, got ['x']" in rows[1]["error"]
    if name != "rated":
        output = tmp_path / "ensemble.jsonl"
        cli.main(["ensemble", *[str(folders[name])] * 2, "--file", str(file), "-o", str(output)])
        again = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        assert [row.get("error") for row in again] == [row.get("error") for row in rows]


class Piped(list):
    def isatty(self):
        return False


def test_a_line_that_cannot_be_read_does_not_end_a_pipe(folders, monkeypatch, capsys):
    lines = Piped(["a N\n", "Haus\n", "a\tn\tN;PL\n", "\n", "n N\n"])
    monkeypatch.setattr("sys.stdin", lines)
    monkeypatch.setattr(Model, "_answers", lambda self, texts, *_: [[Answer(text)] for text in texts])
    cli.main(["predict", str(folders["inflection"])])
    captured = capsys.readouterr()
    assert captured.out == "a [N]\n\n\n\nn [N]\n"
    assert "line 2: this model needs a lemma and its features" in captured.err
    assert "line 3: this model needs a lemma, a tab and its features, got 'a\\tn\\tN;PL'" in captured.err
    lines[:] = ["Haus\n", "\n"]
    with pytest.raises(SystemExit, match="none of 1 lines could be read"):
        cli.main(["predict", str(folders["inflection"])])


def test_a_pipe_tells_that_it_reads_tabs(folders, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Piped(["great\tgut\n"] * 2))
    monkeypatch.setattr(Model, "_answers", lambda self, texts, *_: [[Answer("x")] for _ in texts])
    cli.main(["predict", str(folders["pairs"])])
    assert capsys.readouterr().err.count("line 1: the tab is read as part of the text") == 1


TICKETS = 'Ticket-Nr.;review;prediction;Ort\r\nA  1;great, so;x;Köln\r\nB 2;bad;y;"a;b"\r\n'


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_spreadsheet_gets_its_own_columns_back(folders, tmp_path, monkeypatch, capsys, mark):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets.csv").write_text(mark + TICKETS, encoding="utf-8", newline="")
    cli.main(["predict", str(folders["rated"]), "tickets.csv"])
    text = (tmp_path / "tickets.predictions.csv").read_text(encoding="utf-8")
    assert text.startswith(f"{mark}source;prediction;score;Ticket-Nr.;Ort\n")
    (_, first), (_, second) = read_rows(str(tmp_path / "tickets.predictions.csv"), separator=";", column_names=None)
    assert (first["source"], first["Ticket-Nr."], first["Ort"]) == ("great, so", "A  1", "Köln")
    assert (second["source"], second["Ticket-Nr."], second["Ort"]) == ("bad", "B 2", "a;b")
    assert first["prediction"].startswith("LABEL_")
    assert "reads review of tickets.csv" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "output"), [("a.tsv", "a.predictions.tsv"), ("a.json", "a.predictions.jsonl")])
def test_predictions_are_of_the_kind_of_the_table(folders, tmp_path, monkeypatch, name, output):
    monkeypatch.chdir(tmp_path)
    text = {"a.tsv": "id\treview\n7\tgreat\n", "a.json": '[{"review": "great", "id": "7"}]'}[name]
    write(tmp_path, name, text)
    cli.main(["predict", str(folders["rated"]), name])
    ((_, row),) = read_rows(output)
    assert (row["source"], row["id"]) == ("great", "7")


@pytest.mark.parametrize(
    ("name", "row", "kept"),
    [
        ("pairs", {"source": "great", "target": "gut", "score": None, "tags": ["a"]}, ["target", "score", "tags"]),
        ("inflection", {"lemma": "a n", "form": "a", "features": "N"}, ["lemma", "form", "features"]),
        ("paired", {"premise": "so", "hypothesis": "is", "label": "x"}, ["label"]),
        ("labelled", {"tokens": ["so"], "id": 3}, ["id"]),
        ("questions", {"id": "q7", "context": "great is so", "question": "is", "title": "t"}, ["id", "title"]),
        ("questions", ARTICLE, ["id"]),
    ],
)
def test_the_other_columns_of_a_table_are_kept(folders, tmp_path, capsys, name, row, kept):
    told = predicted(folders[name], write(tmp_path, "a.json", json.dumps([row])))[0]
    row = {"id": "1"} if row is ARTICLE else row
    assert {key: told[key] for key in kept} == {key: row[key] for key in kept}
    assert set(told) - {"source", "prediction", "score", "intent"} == set(kept) - {"score"}
    cli.main(["predict", str(folders[name]), str(tmp_path / "a.json"), "-o", str(tmp_path / "a.csv")])
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as table:
        cells = next(csv.DictReader(table))
    assert {key: cells[key] for key in kept} == {
        key: json.dumps(row[key]) if key == "tags" else str(row[key] or "") for key in kept
    }


def test_values_that_json_has_not_are_kept_as_texts(folders, tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    day = datetime.date(2026, 3, 1)
    parquet.write_table(pa.table({"review": ["great"], "day": [day]}), tmp_path / "a.parquet")
    assert predicted(folders["rated"], tmp_path / "a.parquet")[0]["day"] == "2026-03-01"


def test_a_text_without_score_has_not_that_of_its_row(folders, tmp_path, capsys):
    rows = [{"review": "great", "score": 1}, {"review": "", "score": 2}]
    first, second = predicted(folders["rated"], write(tmp_path, "a.json", json.dumps(rows)))
    assert 0 < first["score"] < 1
    assert "score" not in second


def explained(capsys, folder, *arguments):
    cli.main(["explain", str(folder), *map(str, arguments)])
    return capsys.readouterr()


def test_of_many_texts_some_are_explained(folders, tmp_path, capsys):
    file = write(tmp_path, "more.txt", "great so\tx\nis so\ty\nbad\tz\n")
    said = explained(capsys, folders["pairs"], "--file", file, "-o", tmp_path, "--most", 2)
    assert "of 3 texts the first 2 are shown: --most 3 shows all" in said.err
    assert f"reads source of {file}" in said.err
    assert "2 pictures and a page" in said.out
    page = (tmp_path / "attention_maps" / "attention.html").read_text(encoding="utf-8")
    assert "great so →" in page
    assert "bad →" not in page
    assert "3 pictures" in explained(capsys, folders["pairs"], "--file", file, "-o", tmp_path).out


@pytest.mark.parametrize(
    ("text", "shown", "what"),
    [
        ("great\nbad\nso\n", {"bad", "so"}, "the 2 least certain"),
        ("review\tstars\ngreat\tLABEL_1\nbad\tLABEL_0\nso\tLABEL_0\n", {"great", "so"}, "the 2 wrong or least certain"),
    ],
)
def test_of_a_classifier_errors_and_doubts_are_explained(folders, tmp_path, capsys, monkeypatch, text, shown, what):
    scores = {"great": 0.9, "bad": 0.7, "so": 0.6}
    monkeypatch.setattr(Model, "answers", lambda self, texts: [[Answer("LABEL_0", scores[text])] for text in texts])
    file = write(tmp_path, "more.txt", text)
    said = explained(capsys, folders["rated"], "--file", file, "-o", tmp_path, "--most", 2)
    assert f"of 3 texts {what} are shown" in said.err
    page = (tmp_path / "attention_maps" / "attention.html").read_text(encoding="utf-8")
    assert {word for word in scores if f'dir="auto">{word}</p>' in page} == shown


def test_words_of_a_file_are_explained(folders, tmp_path, capsys):
    file = write(tmp_path, "more.conll", "New X\nis O\n\nso O\n\n")
    assert "2 pictures" in explained(capsys, folders["labelled"], "--file", file, "-o", tmp_path).out


def test_a_file_may_follow_options(folders, tmp_path):
    file = write(tmp_path, "words.txt", "ab\n")
    predict.main([str(folders["pairs"]), "-o", str(tmp_path / "out.jsonl"), str(file)])
    (row,) = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(row)["source"] == "ab"


def test_predictions_do_not_take_the_place_of_what_is_read(folders, tmp_path):
    file = tmp_path / "words.jsonl"
    file.write_text('{"source": "ab"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="-o must name another file than the one that is read"):
        predict.main([str(folders["pairs"]), str(file), "-o", str(file), "--overwrite"])
    assert file.read_text(encoding="utf-8") == '{"source": "ab"}\n'
