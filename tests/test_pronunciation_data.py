"""The corpus of words and phonemes: what espeak-ng reads as one word, and how it is written."""

import sys
from types import SimpleNamespace

import pytest
from example_scripts import load_script

pytest.importorskip("espeakng_loader")


@pytest.fixture
def make_data(monkeypatch):
    lists = {"de": ["ich", "und", "co2", "a", "haus"], "fr": ["été"]}
    wordfreq = SimpleNamespace(top_n_list=lambda language, count: lists[language][:count])
    monkeypatch.setitem(sys.modules, "wordfreq", wordfreq)
    return load_script("pronunciation/make_data.py")


def test_phonemes_and_stress_stand_between_spaces(make_data):
    assert dict(make_data.pronounce(["haus", "vergleichen"], "de")) == {
        "haus": "h ˈ aʊ s",
        "vergleichen": "f ɛ ɾ ɡ l ˈ aɪ ç ə n",
    }


def test_what_is_read_as_several_words_is_left_out(make_data):
    assert [word for word, _ in make_data.pronounce(["house", "co2"], "en-us")] == ["house"]


def test_each_word_is_written_with_its_language(make_data, tmp_path):
    make_data.main(["--output_dir", str(tmp_path / "new"), "--languages", "de", "fr", "--words", "3"])
    words = [line.split("\t")[0] for line in (tmp_path / "new" / "words.tsv").read_text().splitlines()]
    assert words == ["de ich", "de und", "de haus", "fr été"]


def test_a_voice_that_is_not_there_is_refused(make_data):
    with pytest.raises(ValueError, match="voice must be one that espeak-ng has, got 'xx-none'"):
        list(make_data.pronounce(["a"], "xx-none"))
