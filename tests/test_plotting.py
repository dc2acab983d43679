import itertools
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from transformers import BartConfig, BartForConditionalGeneration

from attention_rnn.plotting import alignment_from_outputs, plot_alignment


@pytest.fixture(scope="module")
def bart():
    config = BartConfig(
        vocab_size=14,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        max_position_embeddings=32,
        init_std=1.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
        attn_implementation="eager",
    )
    torch.manual_seed(68)
    return BartForConditionalGeneration(config).eval()


def before_the_end(sequences):
    """Mark the tokens up to the first end of sequence; transformers fills beams of a model with pad id 0 with it."""
    ends = (sequences[:, 1:] == 2).long()
    return ends.cumsum(dim=1) - ends == 0


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("prompt", [None, [[1, 5, 6]] * 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "num_return_sequences": 2},
        {"num_beams": 4},
        {"num_beams": 5, "num_return_sequences": 3, "length_penalty": 0.5},
    ],
    ids=["greedy", "sampling", "beams", "returned-beams"],
)
def test_alignment_of_generate_is_that_of_reading_the_sequence_again(bart, options, prompt, use_cache):
    torch.manual_seed(0)
    source = torch.tensor([[4, 5, 6, 7, 2], [9, 8, 3, 2, 0], [11, 2, 0, 0, 0]])
    mask = (source != 0).long()
    if prompt is not None:
        options = options | {"decoder_input_ids": torch.tensor(prompt)}
    outputs = bart.generate(
        source,
        attention_mask=mask,
        max_new_tokens=9,
        use_cache=use_cache,
        output_attentions=True,
        return_dict_in_generate=True,
        **options,
    )
    alignment = alignment_from_outputs(outputs)

    returned = options.get("num_return_sequences", 1)
    with torch.no_grad():
        again = bart(
            source.repeat_interleave(returned, dim=0),
            attention_mask=mask.repeat_interleave(returned, dim=0),
            decoder_input_ids=outputs.sequences[:, :-1],
            output_attentions=True,
        )
    expected = alignment_from_outputs(again)
    assert alignment.shape == (3 * returned, outputs.sequences.shape[1] - 1, 5)
    inside = before_the_end(outputs.sequences)
    torch.testing.assert_close(alignment[inside], expected[inside])


def test_the_sequences_of_the_test_model_end_at_different_steps(bart):
    """Without this the test above would prove little about the ends of sequences."""
    source = torch.tensor([[4, 5, 6, 7, 2], [9, 8, 3, 2, 0], [11, 2, 0, 0, 0]])
    outputs = bart.generate(
        source, attention_mask=(source != 0).long(), max_new_tokens=9, num_beams=5, num_return_sequences=3
    )
    assert len(set(before_the_end(outputs).sum(dim=1).tolist())) > 1


def test_alignment_of_a_forward_pass_is_the_mean_over_heads():
    weights = torch.rand(2, 4, 3, 5, dtype=torch.bfloat16)
    alignment = alignment_from_outputs(SimpleNamespace(cross_attentions=(weights,)))
    torch.testing.assert_close(alignment, weights.float().mean(dim=1))


def test_alignment_follows_each_beam_back_and_is_zero_after_its_end():
    # Two steps of four beams over one source position; the weight of row r in step t is (10 t + r) / 100.
    steps = tuple((torch.arange(4).view(4, 1, 1, 1) / 100 + t / 10,) for t in range(3))
    outputs = SimpleNamespace(
        cross_attentions=steps,
        beam_indices=torch.tensor([[1, 0], [2, -1]], dtype=torch.int32),
        sequences=torch.tensor([[1, 7, 2], [1, 2, 0]]),
    )
    expected = torch.tensor([[0.01, 0.10], [0.02, 0.0]])[:, :, None]
    torch.testing.assert_close(alignment_from_outputs(outputs), expected)


@pytest.mark.parametrize("attentions", [None, ()])
def test_outputs_without_attention_are_refused(attentions):
    with pytest.raises(ValueError, match="output_attentions=True"):
        alignment_from_outputs(SimpleNamespace(cross_attentions=attentions))


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
    (axes,) = figure.axes
    for text in [axes.title, *axes.get_xticklabels(), *axes.get_yticklabels()]:
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


def test_only_labels_wider_than_their_column_lean_unless_they_are_most():
    def rotations(source):
        axes = plot_alignment(uniform("x", source), source, ["x"]).axes[0]
        return [label.get_rotation() for label in axes.get_xticklabels()]

    assert rotations([*"abc", "</s>"]) == [0, 0, 0, 45]
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


def install_font(path, family, character):
    """Make a font whose one glyph is a square, and install it."""
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
    font_manager.fontManager.addfont(path)


def test_a_character_that_no_font_has_is_spelled_as_its_code_point(few_fonts, tmp_path):
    figure = plot_alignment([[0.5, 0.5]], ["年", "a年月"], ["x"], title="3月")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each hollow box
        figure.savefig(tmp_path / "alignment.png")
    assert labels(figure.axes[0].xaxis) == ["U+5E74", "a U+5E74 U+6708"]
    assert figure.axes[0].get_title() == "3 U+6708"


def test_a_character_is_drawn_with_whatever_font_has_it(few_fonts, tmp_path):
    install_font(tmp_path / "year.ttf", "Some Family: A-1", "年")
    install_font(tmp_path / "month.ttf", "Another Sans", "月")
    figure = plot_alignment([[0.5, 0.5]], ["1年3月", "年"], ["x"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(tmp_path / "alignment.png")
    assert labels(figure.axes[0].xaxis) == ["1年3月", "年"]
    families = figure.axes[0].get_xticklabels()[0].get_fontfamily()
    assert {"Some Family: A-1", "Another Sans"} <= set(families)


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
    ],
)
def test_weights_and_tokens_that_do_not_fit_are_refused(weights, source, target, error, message):
    with pytest.raises(error, match=message):
        plot_alignment(weights, source, target)


def test_matplotlib_is_loaded_only_to_draw_and_named_when_missing():
    code = """
import sys
from attention_rnn.plotting import plot_alignment
print("matplotlib" in sys.modules)
sys.modules["matplotlib"] = None
plot_alignment([[1.0]], ["a"], ["b"])
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "False"
    assert "ImportError" in process.stderr
    assert "pip install attention-rnn[plot]" in process.stderr
