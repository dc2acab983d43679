"""examples/pronounce.py: a lexicon first, and a model for what it lacks."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import pronounce


class Runner:
    """In the place of a model: spells."""

    def __init__(self):
        self.read = []

    def __call__(self, words, num_beams):
        self.read += words
        return [{"text": " ".join(word)} for word in words]


@pytest.fixture
def lexicon(tmp_path):
    (tmp_path / "lexicon.tsv").write_text("hello\th ə l oʊ\nhello\th ɛ l oʊ\nParis\tp æ ɹ ɪ s\n", encoding="utf-8")
    return tmp_path / "lexicon.tsv"


def test_unknown_words_are_read_by_the_model_once(lexicon):
    runner = Runner()
    texts = ["Hello, Xan! Xan's 3 xan.", "Paris; xan"]
    assert list(pronounce.pronounce(texts, pronounce.read_lexicon(lexicon), runner)) == [
        "h ə l oʊ, x a n! x a n ' s 3 x a n.",
        "p æ ɹ ɪ s; x a n",
    ]
    assert runner.read == ["xan", "xan's"]


def test_a_line_without_a_tab_is_named(lexicon):
    with lexicon.open("a") as file:
        file.write("word phonemes\n")
    with pytest.raises(ValueError, match="line 4, must hold a word, a tab and its phonemes, got 'word phonemes'"):
        pronounce.read_lexicon(lexicon)


def test_the_script_speaks_by_an_exported_model(exported, lexicon, capsys):
    pytest.importorskip("onnxscript")
    export = exported("parallel")
    pronounce.main([str(export.folder), str(lexicon), "hello, abc"])
    expected = export.runner("abc", num_beams=4)["text"]
    assert capsys.readouterr().out == f"h ə l oʊ, {expected.strip()}\n"
