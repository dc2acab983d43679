"""The page to try a model on, called as its button calls it, and in a browser where there is one."""

import shutil

import pytest
from tiny import tiny_config

from attention_rnn import (
    AttentionRnnForConditionalGeneration,
    AttentionRnnForQuestionAnswering,
    AttentionRnnForSequenceClassification,
    AttentionRnnForTokenClassification,
)
from attention_rnn.commands.models import Model
from attention_rnn.tokenizer_training import train_tokenizer

gradio = pytest.importorskip("gradio")
from attention_rnn.demo import answer_function, build_demo  # noqa: E402  # which gradio must be there for

MODELS = {
    "pairs": AttentionRnnForConditionalGeneration,
    "classification": AttentionRnnForSequenceClassification,
    "tagging": AttentionRnnForTokenClassification,
    "questions": AttentionRnnForQuestionAnswering,
}
BROWSER = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    tokenizer = train_tokenizer(["ab cd ef gh"], kind="word")
    paths = {}
    for name, model_class in MODELS.items():
        paths[name] = str(tmp_path_factory.mktemp("models") / name)
        labels = {} if name == "questions" else {"num_labels": 2}
        model_class(tiny_config(vocab_size=len(tokenizer), **labels)).save_pretrained(paths[name])
        tokenizer.save_pretrained(paths[name])
    return paths


@pytest.mark.parametrize(
    ("name", "text", "question", "answers"),
    [
        ("pairs", "ab cd", "", 3),
        ("classification", "ab cd", "", 2),  # as many as there are labels
        ("tagging", "ab cd", "", 1),
        ("questions", "ab cd\nef", "gh", 3),
    ],
)
def test_a_text_is_answered_and_shown(folders, name, text, question, answers):
    table, note, attention = answer_function(Model(folders[name]))(text, question, 3)
    assert len(table) == answers
    assert note == ""
    assert attention.startswith("<iframe") or name == "tagging"
    assert "&lt;section" in attention or name == "tagging"


def test_an_unknown_word_is_pointed_out_and_an_empty_text_is_answered(folders):
    answer = answer_function(Model(folders["pairs"]))
    assert answer("ab <b>", "", 1)[1] == "The model does not know '<b>'."
    assert answer(" ", "", 3) == ([["", ""]], "", "")


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
@pytest.mark.parametrize("name", ["pairs", "questions"])
def test_the_page_answers_in_a_browser(folders, name):
    sync_api = pytest.importorskip("playwright.sync_api")
    page = build_demo(folders[name])
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, share=False)
    try:
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
            tab = browser.new_page()
            faults = []
            tab.on("pageerror", lambda fault: faults.append(fault))
            tab.goto(url)
            tab.locator("#text textarea").fill("ab cd")
            if name == "questions":
                tab.locator("#question textarea, #question input").fill("ef")
            tab.locator("#answer").click()
            frame = tab.frame_locator("#attention iframe")
            frame.locator("section button").first.wait_for(timeout=30_000)
            assert frame.locator(".source button").first.inner_text() == {"pairs": "ab", "questions": "ef"}[name]
            assert tab.locator("#answers").inner_text().strip()
            assert faults == []
            browser.close()
    finally:
        page.close()
