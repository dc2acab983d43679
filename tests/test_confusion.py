"""Which symbol is taken for which."""

from attention_rnn.confusion import NOTHING, count_confusions, write_confusions
from attention_rnn.progress import plot_training


def test_symbols_are_aligned_by_the_fewest_edits():
    references = ["h ə l oʊ", "l oʊ", "a b", ""]
    predictions = ["h ɛ l oʊ", "l oʊ s", "b", "x"]
    found = count_confusions(references, predictions, of_words=True)
    assert sorted(found) == sorted([("ə", "ɛ", 1, 1), (NOTHING, "s", 1, 0), ("a", NOTHING, 1, 1)])


def test_the_most_frequent_comes_first():
    found = count_confusions(["abc", "ab", "ac"], ["xbc", "xb", "ay"], of_words=False)
    assert found[0] == ("a", "x", 2, 3)
    assert found[1] == ("c", "y", 1, 2)


def test_confusions_are_written_and_drawn(tmp_path):
    write_confusions(tmp_path, count_confusions(["東 a"], ["京 a"], of_words=True))
    assert (tmp_path / "confusions.tsv").read_text(encoding="utf-8").splitlines()[1] == "東\t京\t1\t1"
    assert (tmp_path / "confusions.png").stat().st_size > 1_000


def test_without_an_error_there_is_no_picture(tmp_path):
    write_confusions(tmp_path, count_confusions(["a"], ["a"], of_words=True))
    assert [path.name for path in tmp_path.iterdir()] == ["confusions.tsv"]


def test_the_curves_of_a_training_are_drawn(tmp_path):
    log = [{"step": 1, "loss": 2.0, "learning_rate": 1e-3}, {"step": 1, "eval_bleu": 3.0, "eval_loss": 1.0}]
    assert plot_training(tmp_path / "training.png", log, "bleu")
    assert (tmp_path / "training.png").stat().st_size > 1_000
    assert not plot_training(tmp_path / "none.png", [{"step": 1, "epoch": 1}], "bleu")
