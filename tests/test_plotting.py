import itertools
import json
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tiny import SOURCE, tiny_batch, tiny_model

from attention_rnn import plotting
from attention_rnn.alignment import Alignment, alignment_from_outputs
from attention_rnn.plotting import plot_alignment, plot_heads, write_alignment_page


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def uniform(target, source):
    return torch.full((len(target), len(source)), 1 / len(source))


def test_the_heat_map_holds_the_weights_with_source_on_top_and_target_downwards():
    weights = torch.tensor([[0.1, 0.9, 0.0], [1.0, 0.0, 0.0]])
    figure = plot_alignment(weights, ["a", "b", "c"], ["x", "y"], title="a title")
    axes = figure.axes[0]
    (mesh,) = axes.collections
    torch.testing.assert_close(torch.as_tensor(mesh.get_array().data).view(2, 3), weights)
    assert mesh.get_clim() == (0, 1)
    assert labels(axes.xaxis) == ["a", "b", "c"]
    assert labels(axes.yaxis) == ["x", "y"]
    assert axes.xaxis.get_ticks_position() == "top"
    assert axes.yaxis_inverted()
    assert not axes.xaxis_inverted()
    assert axes.get_title() == "a title"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (["a"], ["b"]),
        (list("grapheme"), [*list("ɡɹæfiːm"), "</s>"]),
        (["a"] * 60, ["b"] * 40),
        (["word", "W" * 30, "p" * 90], ["y" * 30, "z"]),
        (["the"] * 30, ["x" * 12] * 3),
    ],
    ids=["1x1", "characters", "60x40", "long words", "words"],
)
def test_all_labels_lie_within_the_figure_and_apart_from_each_other(source, target):
    figure = plot_alignment(uniform(target, source), source, target, title="A title that is longer than the picture")
    FigureCanvasAgg(figure).draw()
    axes, bar = figure.axes
    named = [axes.title, axes.xaxis.label, axes.yaxis.label, bar.yaxis.label]
    for text in [*named, *axes.get_xticklabels(), *axes.get_yticklabels(), *bar.get_yticklabels()]:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    upright = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_rotation() == 0]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(upright))
    rows = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(above.y0 > below.y1 for above, below in itertools.pairwise(rows))


def test_cells_are_square_and_shrink_with_the_number_of_tokens():
    def cell(count):
        figure = plot_alignment(torch.zeros(3, count), ["a"] * count, ["b"] * 3)
        box = figure.axes[0].get_window_extent()
        width, height = box.width / count / figure.dpi, box.height / 3 / figure.dpi
        assert width == pytest.approx(height)
        return width

    assert cell(2) == pytest.approx(cell(8))
    assert cell(8) > cell(40) > cell(60) > cell(300)


def test_a_very_long_sequence_labels_every_few_tokens_in_a_picture_of_bounded_size():
    tokens = [str(i) for i in range(600)]
    figure = plot_alignment(torch.zeros(2, 600), tokens, ["a", "b"])
    assert max(figure.get_size_inches()) < 17
    shown = labels(figure.axes[0].xaxis)
    step = int(shown[1])
    assert step > 1
    assert shown == tokens[::step]


def test_all_labels_lean_where_one_touches_the_next_and_else_none():
    def rotations(source):
        axes = plot_alignment(uniform("x", source), source, ["x"]).axes[0]
        return [label.get_rotation() for label in axes.get_xticklabels()]

    assert rotations([*"abc", "</s>"]) == [0, 0, 0, 0]
    assert rotations(["a", "b", "beautiful", "c"]) == [45] * 4
    assert rotations(["a", "beautiful", "wonderful", "thing"]) == [45] * 4


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (" ", "␣"),
        ("a b", "a␣b"),
        ("\n", "U+000A"),
        ("\u00a0", "U+00A0"),
        ("\u200d", "U+200D"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\u0301", "◌\u0301"),
        ("e\u0301", "e\u0301"),
        ("$x$", "$x$"),
        ("", ""),
        ("x" * 33, "x" * 31 + "…"),
    ],
)
def test_a_label_shows_all_of_its_token(token, label):
    axes = plot_alignment([[1.0]], [token], ["x"]).axes[0]
    assert labels(axes.xaxis) == [label]
    assert not axes.get_xticklabels()[0].get_parse_math()


@pytest.fixture
def few_fonts(monkeypatch):
    """Let only the fonts that come with matplotlib be installed."""
    folder = str(Path(matplotlib.get_data_path()) / "fonts")
    entries = [entry for entry in font_manager.fontManager.ttflist if entry.fname.startswith(folder)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    monkeypatch.setattr(plotting, "_warned", set())
    plotting._add_new_fonts.cache_clear()
    yield
    plotting._add_new_fonts.cache_clear()


def make_font(path, family, character):
    """Make a font whose one glyph is a square."""
    builder = FontBuilder(1000)
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in [(0, 800), (800, 800), (800, 0)]:
        pen.lineTo(corner)
    pen.closePath()
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_a_character_that_no_font_has_is_spelled_as_its_code_point(few_fonts, tmp_path):
    figure = plot_alignment([[0.5, 0.5]], ["年", "a年月"], ["x"], title="3月")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each hollow box
        figure.savefig(tmp_path / "alignment.png")
    assert labels(figure.axes[0].xaxis) == ["U+5E74", "a U+5E74 U+6708"]
    assert figure.axes[0].get_title() == "3 U+6708"


def test_a_character_is_drawn_with_whatever_font_has_it(few_fonts, tmp_path):
    font_manager.fontManager.addfont(make_font(tmp_path / "year.ttf", "Some Family: A-1", "年"))
    font_manager.fontManager.addfont(make_font(tmp_path / "month.ttf", "Another Sans", "月"))
    figure = plot_alignment([[0.5, 0.5]], ["1年3月", "年"], ["x"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(tmp_path / "alignment.png")
    assert labels(figure.axes[0].xaxis) == ["1年3月", "年"]
    families = figure.axes[0].get_xticklabels()[0].get_fontfamily()
    assert {"Some Family: A-1", "Another Sans"} <= set(families)


def test_a_font_that_was_installed_since_matplotlib_made_its_list_is_found(few_fonts, tmp_path, monkeypatch):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    fonts = [str(broken), str(make_font(tmp_path / "year.ttf", "A New Sans", "年"))]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: fonts)
    axes = plot_alignment([[0.5, 0.5]], ["1", "年"], ["x"]).axes[0]
    assert labels(axes.xaxis) == ["1", "年"]


def test_a_warning_names_the_package_with_the_fonts_once(few_fonts, caplog):
    for _ in range(2):
        plot_alignment([[0.5, 0.5]], ["年", "月"], ["ꯀ"])
    assert [record.message.split("package ")[1].split()[0] for record in caplog.records] == [
        "fonts-noto-cjk",
        "fonts-noto-core",
    ]
    assert "年 (U+5E74)" in caplog.text


def test_a_title_much_longer_than_the_picture_takes_several_lines():
    title = "a word and another " * 10
    figure = plot_alignment(uniform("x", "ab"), "ab", "x", title=title)
    FigureCanvasAgg(figure).draw()
    shown = figure.axes[0].title
    assert " ".join(shown.get_text().split()) == title.strip()
    assert shown.get_window_extent().width < 5 * figure.dpi
    assert shown.get_window_extent().y1 <= figure.bbox.y1


def test_axes_and_colours_are_named():
    axes, bar = plot_alignment(uniform("xy", "abc"), "abc", "xy").axes
    assert (axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == ("source", "target", "weight")
    assert labels(bar.yaxis) == ["0", "1"]
    assert plot_alignment([[0.5, 0.5]], "ab", ["attention"]).axes[0].get_ylabel() == ""


def test_given_axes_are_drawn_on_as_they_are():
    figure = Figure(figsize=(6, 3))
    left, right = figure.subfigures(1, 2)
    axes = [left.subplots(), right.subplots()]
    for one in axes:
        assert plot_alignment(uniform("xy", "abc"), "abc", "xy", axes=one) is figure
    assert tuple(figure.get_size_inches()) == (6, 3)
    assert [labels(one.xaxis) for one in axes] == [["a", "b", "c"]] * 2


@pytest.mark.parametrize(
    ("weights", "source", "target", "error", "message"),
    [
        (torch.zeros(2, 3), "ab", "xyz", ValueError, r"shape \(2, 3\) for 3 target_tokens and 2 source_tokens"),
        (torch.zeros(1, 2, 3), "abc", "xy", ValueError, r"shape \(1, 2, 3\)"),
        (torch.zeros(0, 3), "abc", "", ValueError, "at least one"),
        (torch.tensor([[1.5, -0.5]]), "ab", "x", ValueError, "between 0 and 1, got values from -0.5 to 1.5"),
        (torch.tensor([[torch.nan, 1.0]]), "ab", "x", ValueError, "got values from nan"),
        (torch.zeros(1, 2), ["a", None], "x", TypeError, r"source_tokens\[1\] must be a string, got None"),
        ([[0.5], [0.5, 0.5]], "ab", "xy", TypeError, "weights must be a tensor, an array or nested lists of numbers"),
    ],
)
def test_weights_and_tokens_that_do_not_fit_are_refused(weights, source, target, error, message):
    with pytest.raises(error, match=message):
        plot_alignment(weights, source, target)


def test_the_heads_stand_in_rows_with_the_tokens_at_the_edge_of_the_grid():
    weights = torch.rand(6, 3, 2)
    figure = plot_heads(weights, ["a", "b"], ["x", "y", "z"], title="a title")
    *maps, _ = figure.axes
    assert len(maps) == 6
    for head, axes in enumerate(maps):
        (mesh,) = axes.collections
        torch.testing.assert_close(torch.as_tensor(mesh.get_array().data).view(3, 2), weights[head])
        assert axes.get_xlabel() == f"head {head}"
    boxes = [axes.get_window_extent() for axes in maps]
    top, left = max(box.y1 for box in boxes), min(box.x0 for box in boxes)
    for axes, box in zip(maps, boxes, strict=True):
        assert labels(axes.xaxis) == (["a", "b"] if box.y1 == pytest.approx(top) else [])
        assert labels(axes.yaxis) == (["x", "y", "z"] if box.x0 == pytest.approx(left) else [])
    assert [axes.get_title() for axes in maps] == ["a title", *[""] * 5]


@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 11, 19), (7, 2, 30), (16, 40, 5), (16, 60, 60)])
def test_the_heads_lie_apart_within_a_figure_of_bounded_size(shape):
    heads, target, source = shape
    figure = plot_heads(torch.zeros(shape), ["word"] * source, ["word"] * target, title="A title that is rather long")
    FigureCanvasAgg(figure).draw()
    assert max(figure.get_size_inches()) < 20
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert len(boxes) == heads + 1  # and the colour bar
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    maps = [axes.get_window_extent() for axes in figure.axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(maps, 2))


def test_heads_need_an_axis_of_heads():
    with pytest.raises(ValueError, match=r"weights must have the shape \(heads, target, source\), got .* \(2, 3\)"):
        plot_heads(torch.zeros(2, 3), "abc", "xy")


class Page(HTMLParser):
    """Reads a page strictly: every element that opens must close, and in order."""

    VOID = {"meta", "br", "img", "input", "link"}

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.text = path.read_text(encoding="utf-8")
        self.open, self.elements, self.weights, self.rows = [], [], [], []
        self.titles, self.special = [], []
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "section":
            self.weights.append(json.loads(attributes["data-weights"]))
        elif attributes.get("class") in ("source", "target"):
            self.rows.append([])
        elif tag == "button":
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "button" in self.open:
            self.rows[-1][-1] += data
            if "bdi" in self.open:
                self.special.append(data)
        elif "h2" in self.open:
            self.titles.append(data)


@pytest.fixture
def page_of(tmp_path):
    def write_and_read(*alignments, **options):
        path = tmp_path / "attention.html"
        write_alignment_page(path, alignments, **options)
        return Page(path)

    return write_and_read


def test_the_page_holds_the_tokens_and_weights_of_each_pair(page_of):
    first = Alignment([[0.125, 0.875], [1.0, 0.0], [1 / 3, 2 / 3]], ["a", "b"], ["x", "y", "z"], "the first")
    second = Alignment(np.array([[0.5, 0.5]]), ["c", "d"], ["w"])
    page = page_of(first, second)
    assert page.rows == [["a", "b"], ["x", "y", "z"], ["c", "d"], ["w"]]
    assert page.weights == [[[12, 88], [100, 0], [33, 67]], [[50, 50]]]
    assert page.titles == ["the first"]


def test_the_least_certain_pair_comes_first_and_says_whether_it_is_right(page_of):
    scored = [("sure", -0.1, True), ("unsure", -2.0, False), ("between", -0.5, None)]
    page = page_of(*(Alignment([[1.0]], ["a"], ["x"], *values) for values in scored))
    assert page.titles == ["unsure", "between", "sure"]
    sections = [attributes["class"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["wrong", "", "right"]
    assert "✗ wrong</span> score -2.00" in page.text


def test_the_page_needs_nothing_but_itself(page_of):
    page = page_of(Alignment([[1.0]], ["a"], ["x"], "title"))
    assert "http" not in page.text
    assert "url(" not in page.text
    assert "@import" not in page.text
    assert not [tag for tag, _ in page.elements if tag in {"link", "img", "iframe", "object", "embed", "base"}]
    assert not [name for _, attributes in page.elements for name in attributes if name in {"src", "href", "srcset"}]


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "</section>", '"><img src=x onerror=alert(1)>', "&lt;", "$pairs", "'-->"]
)
def test_what_looks_like_html_stays_text(page_of, text):
    harmless = page_of(Alignment([[1.0]], ["a"], ["x"], "title"))
    page = page_of(Alignment([[1.0]], [text], [text], text), title=text)
    # `<...>` as a whole is a special token, which stands in a <bdi>
    assert [tag for tag, _ in page.elements if tag != "bdi"] == [tag for tag, _ in harmless.elements]
    assert page.rows == [[text.replace(" ", "␣")]] * 2
    assert "".join(page.titles) == text


def test_a_row_of_the_page_takes_the_direction_of_its_text_and_not_of_a_special_token(page_of):
    page = page_of(Alignment(torch.full((1, 3), 1 / 3), ["<s>", "س", "[SEP]"], ["<"]))
    rows = [attributes for _, attributes in page.elements if attributes.get("class") in ("source", "target")]
    assert [row["dir"] for row in rows] == ["auto", "auto"]
    assert page.special == ["<s>", "[SEP]"]  # `dir="auto"` does not look into <bdi>


def test_spaces_and_control_characters_show_in_the_page(page_of):
    page = page_of(Alignment(torch.full((1, 4), 0.25), [" ", "\n", "\u0301", "年"], ["a" * 40]))
    assert page.rows == [["␣", "U+000A", "◌\u0301", "年"], ["a" * 40]]


def test_a_page_of_40_pairs_of_40_tokens_is_small(page_of):
    weights = torch.softmax(5 * torch.randn(40, 40), dim=-1)
    alignment = Alignment(weights, ["token"] * 40, ["token"] * 40, "a title", -1.0, False)
    page = page_of(*[alignment] * 40)
    assert len(page.text) < 350_000
    assert len(page_of(*[alignment] * 20).text) < 200_000


def test_a_page_without_pairs_can_be_written(page_of):
    page = page_of()
    assert page.rows == []


@pytest.mark.parametrize(
    ("alignment", "error", "message"),
    [
        (([[1.0]], ["a"], ["x"]), TypeError, r"alignments\[1\] must be an Alignment, got tuple"),
        (Alignment([[1.0]], ["a"], ["x", "y"]), ValueError, r"alignments\[1\]: weights must have the shape"),
        (Alignment([[1.0]], [7], ["x"]), TypeError, r"alignments\[1\]: source_tokens\[0\] must be a string, got 7"),
        (Alignment([[1.0]], ["a"], ["x"], 7), TypeError, r"alignments\[1\]: title must be a string, got 7"),
    ],
)
def test_a_pair_that_does_not_fit_is_named_and_no_page_written(tmp_path, alignment, error, message):
    path = tmp_path / "attention.html"
    with pytest.raises(error, match=message):
        write_alignment_page(path, [Alignment([[1.0]], ["a"], ["x"]), alignment])
    assert not path.exists()


def test_what_a_model_generates_can_be_shown_in_all_ways(page_of):
    model = tiny_model()
    inputs = {name: values[:1] for name, values in tiny_batch(model).items() if name != "labels"}
    inputs["attention_mask"][:] = 1
    outputs = model.generate(
        **inputs, num_beams=2, max_new_tokens=6, output_attentions=True, return_dict_in_generate=True
    )
    source_tokens, target_tokens = ([str(i) for i in ids] for ids in (inputs["input_ids"][0], outputs.sequences[0, 1:]))
    weights = alignment_from_outputs(outputs)[0]
    (mesh,) = plot_alignment(weights, source_tokens, target_tokens).axes[0].collections
    assert mesh.get_array().size == weights.numel()
    heads = alignment_from_outputs(outputs, average_heads=False)[0]
    assert len(plot_heads(heads, source_tokens, target_tokens).axes) == heads.shape[0] + 1  # and the colour bar
    page = page_of(Alignment(weights, source_tokens, target_tokens))
    assert [len(row) for row in page.weights[0]] == [SOURCE] * len(target_tokens)


def test_matplotlib_is_loaded_only_to_draw_a_figure_and_named_when_missing(tmp_path):
    code = """
import sys
from attention_rnn.alignment import Alignment
from attention_rnn.plotting import plot_alignment, write_alignment_page
write_alignment_page(sys.argv[1], [Alignment([[1.0]], ["a"], ["b"])])
print("matplotlib" in sys.modules)
sys.modules["matplotlib"] = None
plot_alignment([[1.0]], ["a"], ["b"])
"""
    process = subprocess.run([sys.executable, "-c", code, tmp_path / "page.html"], capture_output=True, text=True)
    assert process.stdout.strip() == "False"
    assert "ImportError" in process.stderr
    assert "pip install 'attention-rnn[plot]'" in process.stderr
