"""What is shown of where a model looked: its words are those of the task, its letters those of the text."""

import re

import pytest
import torch
from tiny import tiny_config

from attention_rnn import (
    AttentionRnnForConditionalGeneration,
    AttentionRnnForQuestionAnswering,
    AttentionRnnForSequenceClassification,
    AttentionRnnForTokenClassification,
    heat_maps,
)
from attention_rnn.alignment import Alignment
from attention_rnn.commands.explain import alignments_of
from attention_rnn.commands.models import Model
from attention_rnn.tokenizer_training import train_tokenizer

LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
MODELS = {
    "pairs": (AttentionRnnForConditionalGeneration, {}),
    "classification": (AttentionRnnForSequenceClassification, LABELS),
    "labelling": (AttentionRnnForTokenClassification, LABELS),
    "questions": (AttentionRnnForQuestionAnswering, {}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["ab cd ef gh ?"], kind="word")
    opened = {}
    for name, (model_class, fields) in MODELS.items():
        folder = tmp_path_factory.mktemp("models") / name
        model_class(tiny_config(vocab_size=len(tokenizer), **fields)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        opened[name] = Model(str(folder))
    return opened


@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("pairs", "ab Ω ef", ["ab", "Ω", "ef", "</s>"]),
        ("classification", "ab Ω ef", ["ab", "Ω", "ef", "</s>"]),
    ],
)
def test_what_the_vocabulary_lacks_stands_as_it_is(models, name, text, tokens):
    (alignment,) = alignments_of(models[name], [text])
    assert list(alignment.source_tokens) == tokens


def test_a_title_runs_from_left_to_right_whatever_its_letters(models):
    (alignment,) = alignments_of(models["pairs"], ["אב"])
    assert alignment.title.startswith("\u200eאב\u200e → ")
    (alignment,) = alignments_of(models["pairs"], ["ab"])
    assert alignment.title.startswith("ab → ")


def test_words_and_pairs_are_shown_as_they_are(models):
    tokenizer = models["labelling"].pipeline.tokenizer
    words = ["Ω", "ab", "Ψ"]
    inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    assert heat_maps.visible_tokens(tokenizer, inputs, words, are_words=True)[:3] == words
    inputs = tokenizer("Ω ab", "cd Ψ", return_tensors="pt")
    assert [token for token in heat_maps.visible_tokens(tokenizer, inputs, ["Ω ab", "cd Ψ"]) if token != "</s>"] == [
        "Ω",
        "ab",
        "cd",
        "Ψ",
    ]


@pytest.mark.parametrize("typed", ["ab Ω cd\tef Ψ ?", "ef Ψ ?\tab Ω cd"])
def test_question_context_and_answer_are_shown_in_any_order(models, typed):
    (alignment,) = alignments_of(models["questions"], [typed])
    answer = alignment.title.removeprefix("ef Ψ ? → ")
    assert alignment.text == "ab Ω cd"
    assert answer in alignment.text
    assert alignment.kind == "question-answering"
    assert list(alignment.source_tokens)[:3] == ["ef", "Ψ", "?"]
    assert "<unk>" not in alignment.target_tokens
    assert 0 < alignment.score <= 1


@pytest.mark.parametrize(
    ("typed", "context", "question"),
    [
        ("so it is.\tis it?", "so it is.", "is it?"),
        ("is it?\tso it is.", "so it is.", "is it?"),
        ("是吗？\t是。", "是。", "是吗？"),
        ("هل هو؟\tنعم", "نعم", "هل هو؟"),
        ("what? so.\tis it? ", "what? so.", "is it? "),
        ("is it?\tis it?", "is it?", "is it?"),
        ("so\tis it", "so", "is it"),
    ],
)
def test_what_ends_in_a_question_mark_is_the_question(models, typed, context, question):
    assert models["questions"].source(typed) == (context, question)


def test_what_a_classifier_says_is_judged(models):
    network, tokenizer = models["classification"].pipeline.model, models["classification"].pipeline.tokenizer
    shown = list(heat_maps.classification_alignments(network, tokenizer, [(("ab",), "good"), (("ab",), "bad")], 9))
    assert sorted([alignment.is_right for alignment in shown]) == [False, True]
    assert all(0.5 <= alignment.score <= 1 and alignment.kind == "classification" for alignment in shown)
    assert shown[0].text == "ab"


def test_pictures_and_page_are_in_the_same_order(tmp_path, monkeypatch):
    drawn = []

    class Picture:
        def savefig(self, file):
            file.write_bytes(b"")

    def plot(weights, source_tokens, target_tokens, *, title, kind):
        drawn.append(title)
        return Picture()

    monkeypatch.setattr(heat_maps, "plot_alignment", plot)
    shown = [Alignment([[1.0]], ["a"], ["x"], title, score) for title, score in (("b", -1.0), ("a", -2.0), ("c", None))]
    heat_maps.draw_heat_maps(tmp_path, shown)
    page = (tmp_path / "attention_maps" / "attention.html").read_text(encoding="utf-8")
    assert re.findall("<h2[^>]*>(.)</h2>", page) == drawn == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("kind", "columns", "rows"),
    [
        ("pairs", "Source", "Target"),
        ("classification", "Text", "Attention"),
        ("labelling", "Words looked at", "Words labelled"),
        ("question-answering", "Question", "Context"),
    ],
)
def test_a_page_speaks_of_its_task(tmp_path, kind, columns, rows):
    shown = Alignment([[1.0]], ["a"], ["x"], "title", 0.5, kind=kind, text="<b>")
    heat_maps.write_alignment_page(tmp_path / "page.html", [shown])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall("<h3>(.*?)</h3>", page) == [columns, rows]
    shown_to_readers = re.sub(r"(?s)<style>.*?</style>|<script>.*?</script>|<[^>]*>", "", page)
    assert ("target" in shown_to_readers) == (kind == "pairs")
    assert "The score is" in shown_to_readers
    assert "$" not in shown_to_readers
    assert '<p class="text" dir="auto">&lt;b&gt;</p>' in page


def test_a_page_without_scores_explains_none(tmp_path):
    heat_maps.write_alignment_page(tmp_path / "page.html", [Alignment([[1.0]], ["a"], ["x"])])
    assert "The score" not in (tmp_path / "page.html").read_text(encoding="utf-8")
