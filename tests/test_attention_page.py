"""The attention page as a browser shows it: pointed at, walked over by keys, filtered and printed."""

import html
import json
import re
import shutil
import subprocess

import pytest

from attention_rnn.alignment import Alignment
from attention_rnn.plotting import write_alignment_page

BROWSER = shutil.which("chromium")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync --virtual-time-budget=2000"
PAIRS = [
    Alignment([[0.75, 0.25], [0.0, 1.0]], ["a", "b"], ["x", "y"], "unsure", -2.0, False),
    Alignment([[1.0]], ["c"], ["z"], "sure", -0.1, True),
]
# what a test's script says, and every error of the page's own
SCRIPT = """
<pre id="said"></pre><script>
const faults = []; window.onerror = message => faults.push(message);
const $ = selector => document.querySelector(selector), all = selector => [...document.querySelectorAll(selector)];
const press = key => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {{key, bubbles: true}}));
const lit = () => all("button[data-weight]").map(token => token.textContent + " " + token.dataset.weight);
addEventListener("load", () => {{
  const said = (() => {{ {script} }})();
  $("#said").textContent = JSON.stringify({{said, faults}});
}});
</script>"""


@pytest.fixture
def browse(tmp_path):
    def run(script, pairs=PAIRS):
        page = tmp_path / "attention.html"
        write_alignment_page(page, pairs)
        text = page.read_text(encoding="utf-8").replace("<body>", f"<body>{SCRIPT.format(script=script)}")
        page.write_text(text, encoding="utf-8")
        return browser(tmp_path, "--dump-dom", page.as_uri())

    return run


def browser(folder, *arguments):
    command = [BROWSER, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", *arguments]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r'<pre id="said">(.*?)</pre>', dom)
    if found is None:
        return None
    result = json.loads(html.unescape(found[1]))
    assert result["faults"] == []
    return result["said"]


def test_the_first_pair_opens_lit(browse):
    assert browse("return [lit(), all('section.wrong').length, all('canvas').length]") == [["a 0.75", "b 0.25"], 1, 2]


@pytest.mark.parametrize("title", ["", "a title"])
def test_the_target_stands_below_the_source_and_the_matrix_beside_both(browse, title):
    pair = Alignment([[0.75, 0.25], [0.0, 1.0]], ["a", "b"], ["x", "y"], title)
    script = """
    const [source, target, matrix] = [".source", ".target", "canvas"].map(name => $(name).getBoundingClientRect());
    return [source.left === target.left, source.bottom <= target.top, matrix.left >= source.right,
            matrix.top === source.top]"""
    assert browse(script, [pair]) == [True, True, True, True]


def test_a_click_lights_where_the_model_looked(browse):
    script = "all('.target button')[1].click(); return [lit(), $('output').textContent]"
    assert browse(script) == [["b 1.00"], "b 1.00"]


def test_pointing_at_a_token_of_the_source_lights_what_was_written(browse):
    point = "$('.source button').dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
    assert browse(f"{point}; return lit()") == ["x 0.75"]


def test_keys_walk_over_the_tokens(browse):
    walk = (
        "$('.target button').focus(); press('ArrowRight'); const right = lit(); press('ArrowUp'); return [right, lit()]"
    )
    assert browse(walk) == [["b 1.00"], ["x 0.25", "y 1.00"]]
    assert browse("$('.source button').focus(); press('Escape'); return document.activeElement.tagName") == "BODY"


def test_one_can_look_at_errors_only(browse):
    script = "$('#filter input').click(); return all('section').map(section => section.hidden)"
    assert browse(script) == [False, True]


def test_it_is_printed_without_what_only_a_screen_needs(browse, tmp_path):
    rules = "[...document.styleSheets[0].cssRules].filter(rule => rule.media?.mediaText === 'print')"
    assert "#filter" in browse(f"return {rules}[0].cssText")
    page, paper = tmp_path / "attention.html", tmp_path / "attention.pdf"
    browser(tmp_path, f"--print-to-pdf={paper}", "--no-pdf-header-footer", page.as_uri())
    assert paper.read_bytes().startswith(b"%PDF")
