"""A page in the browser to try a model on: what it says of a text, its next best answers, and where it looked."""

import html
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .commands.explain import alignments_of
from .commands.models import Model, Source
from .data import significant
from .plotting import write_alignment_page

try:
    import gradio
except ImportError as error:
    raise ImportError(f"attention_rnn.demo needs gradio ({error}): pip install 'attention-rnn[demo]'") from error

_NO_ATTENTION = "<p>This model has no attention to show of this text.</p>"


def build_demo(model: str, int8: bool = False) -> Any:
    """
    The page of a model.

        build_demo("runs/words").launch()

    Args:
        model (`str`): a folder that a training left, or a name on the Hub.
        int8 (`bool`, *optional*, defaults to `False`): decode with int8 weights, on a CPU.

    Returns:
        `gradio.Blocks`

    Raises:
        ValueError: the model is of a kind that takes no texts.
        OSError: there is no such model.
    """
    opened = Model(model, int8)
    is_reader = opened.task == "question-answering"
    with gradio.Blocks(title=Path(model).name) as page:
        gradio.Markdown(f"# {Path(model).name}\n{_description(opened)}")
        with gradio.Row():
            with gradio.Column():
                text = gradio.Textbox(
                    label="Context" if is_reader else "Text", lines=6 if is_reader else 2, elem_id="text"
                )
                label = "Question" if is_reader else "Second text"
                question = gradio.Textbox(label=label, visible=opened.reads_two, elem_id="question")
                number = gradio.Slider(1, 10, 3, step=1, label="Answers", visible=opened.gives_several)
                button = gradio.Button("Answer", variant="primary", elem_id="answer")
            with gradio.Column():
                answers = gradio.Dataframe(headers=["answer", "score"], label="Answers", elem_id="answers")
                unknown = gradio.Markdown(elem_id="unknown")
        attention = gradio.HTML(label="Attention", elem_id="attention")
        inputs, outputs = [text, question, number], [answers, unknown, attention]
        answer = answer_function(opened)
        button.click(answer, inputs, outputs, api_name="answer")
        (question if opened.reads_two else text).submit(answer, inputs, outputs, api_name=False)
    return page


def answer_function(model: Model) -> Callable[[str, str, int], tuple[list[list[Any]], str, str]]:
    """
    What the button calls: from a text, a question or a second text, and a number of answers, to their table, a note and
    the attention.
    """

    def answer(text: str, question: str, number: int) -> tuple[list[list[Any]], str, str]:
        source: Source = (" ".join(text.split()), question.strip()) if model.reads_two else text
        try:
            (found,) = model.answers([source], int(number) if model.gives_several else 1)
            unknown = model.unknown(source) if text.strip() else []
        except ValueError as error:
            raise gradio.Error(str(error)) from error
        table = [[one.text, "" if one.score is None else significant(one.score)] for one in found]
        note = f"The model does not know {', '.join(map(repr, unknown))}." if unknown else ""
        return table, note, attention_page(model, source) if text.strip() else ""

    return answer


def attention_page(model: Model, text: Source) -> str:
    """Where a model looked in a text, as a frame that holds the page of `write_alignment_page`."""
    alignments = list(alignments_of(model, [text]))
    if not alignments:
        return _NO_ATTENTION
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "attention.html")
        write_alignment_page(file, alignments)
        page = html.escape(file.read_text(encoding="utf-8"))
    return f'<iframe title="Attention" srcdoc="{page}" style="width: 100%; height: 36rem; border: 0"></iframe>'


def _description(model: Model) -> str:
    return {
        "text2text-generation": "It writes the target of a text. Scores are log probabilities.",
        "text-classification": "It says which label a text has. Scores are probabilities.",
        "token-classification": "It labels the words of a text.",
        "question-answering": "It finds the answer to a question in a text. Scores are probabilities.",
        "text-generation": "It writes a text on.",
    }[model.task]
