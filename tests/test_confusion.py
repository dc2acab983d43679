"""Which symbol is taken for which."""

import pytest

from attention_rnn.confusion import NOTHING, count_confusions, write_confusions
from attention_rnn.progress import plot_training


def test_symbols_are_aligned_by_the_fewest_edits():
    references = ["h ə l oʊ", "l oʊ", "a b", ""]
    predictions = ["h ɛ l oʊ", "l oʊ s", "b", "x"]
    found = count_confusions(references, predictions, of_words=True)
    assert set(found) == {("ə", "ɛ", 1, 1), (NOTHING, "s", 1, None), ("a", NOTHING, 1, 1)}


def test_the_most_frequent_comes_first():
    found = count_confusions(["abc", "ab", "ac"], ["xbc", "xb", "ay"], of_words=False)
    assert found[0] == ("a", "x", 2, 3)
    assert found[1] == ("c", "y", 1, 2)


def test_confusions_are_written_and_drawn(tmp_path):
    write_confusions(tmp_path, count_confusions(["東 a"], ["京 a"], of_words=True))
    assert (tmp_path / "confusions.tsv").read_text(encoding="utf-8").splitlines()[1] == "東\t京\t1\t1"
    assert (tmp_path / "confusions.png").stat().st_size > 1_000


def test_a_symbol_too_many_is_one_of_none(tmp_path):
    write_confusions(tmp_path, count_confusions(["a"], ["a b"], of_words=True))
    assert (tmp_path / "confusions.tsv").read_text(encoding="utf-8").splitlines()[1] == f"{NOTHING}\tb\t1\t"


def test_errors_are_counted_in_whole_numbers(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    marks = []
    save = figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda self, file: marks.extend(self.axes[0].get_xticks()) or save(self, file)
    )
    write_confusions(tmp_path, count_confusions(["a"], ["b"], of_words=True))
    assert marks
    assert all(mark == round(mark) for mark in marks)


def test_without_an_error_there_is_no_picture(tmp_path):
    write_confusions(tmp_path, count_confusions(["a"], ["a"], of_words=True))
    assert [path.name for path in tmp_path.iterdir()] == ["confusions.tsv"]


def test_the_curves_of_a_training_are_drawn(tmp_path):
    log = [{"step": 1, "loss": 2.0, "learning_rate": 1e-3}, {"step": 1, "eval_bleu": 3.0, "eval_loss": 1.0}]
    assert plot_training(tmp_path / "training.png", log, "bleu")
    assert (tmp_path / "training.png").stat().st_size > 1_000
    assert not plot_training(tmp_path / "none.png", [{"step": 1, "epoch": 1}], "bleu")


def test_what_is_right_stands_first_whatever_its_letters(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    labels = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, file: labels.extend(self.axes[0].get_yticklabels()))
    write_confusions(tmp_path, count_confusions(["א", "a"], ["ב", "b"], of_words=True))
    assert sorted(label.get_text() for label in labels) == ["a → b", "\u200eא\u200e → \u200eב"]
