"""A trained model of any task, as the commands use it: a text in, answers out."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from ..data import distinct, significant
from ..onnx.spelling import read_lemma, unspell
from ..tasks import Task

COMMAND = "command.json"  # what `attention-rnn train` leaves in its folder of how it read the data

# how the name of a model's class ends, and the pipeline that opens it
PIPELINES = {
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "text2text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForCausalLM": "text-generation",
    "ForTimeSeriesPrediction": "time-series-forecasting",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "ForCTC": "automatic-speech-recognition",
    "ForAudioClassification": "audio-classification",
}
# what to do with models that read no texts
_OTHERS = {
    "time-series-forecasting": "forecasts series and reads no texts: attention-rnn forecast FILE --model {folder}",
    "automatic-speech-recognition": "hears speech and reads no texts: attention-rnn transcribe {folder} FILE",
    "audio-classification": 'hears audio and reads no texts: pipeline("audio-classification", "{folder}")',
}


# of any script
_QUESTION_MARKS = ("?", "？", "؟", "՞", ";", "⁇")

# a text; a text pair, or a context with its question; the words of a text
Source = str | tuple[str, str] | list[str]


class Answer(NamedTuple):
    """
    Args:
        value (`str`, `float` or `list[str]`): what the model says, as its training data have it: a text or a label, a
            number, or the labels of a text or of its words.
        score (`float`, *optional*): a log probability of what it wrote, or the probability of what it chose.
        shown (`str`, *optional*): the same to be read by people, where it is not the value itself.
        intent (`str`, *optional*): what a tagger with intents says of the whole text.
    """

    value: str | float | list[str]
    score: float | None = None
    shown: str | None = None
    intent: str | None = None

    @property
    def text(self) -> str:
        """What is shown at a prompt."""
        if self.shown is not None:
            return self.shown
        if isinstance(self.value, float):
            return f"{self.value:.4g}"
        return ", ".join(self.value) if isinstance(self.value, list) else self.value


def read_settings(folder: str | Path) -> dict[str, Any]:
    """
    What `attention-rnn train` wrote of its data, of a checkpoint in the folder around it; nothing of other models.

    Raises:
        ValueError: it is damaged.
    """
    file = Path(folder, COMMAND)
    if not file.exists() and re.fullmatch("checkpoint-[0-9]+", file.resolve().parent.name):
        file = file.resolve().parent.with_name(COMMAND)
    if not file.exists():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(
            f"{file} must tell of the training, but is empty or cut off, as a full disk leaves it: delete the folder, "
            "or train anew with --again"
        ) from None


def read_task(folder: str | Path) -> Task | None:
    """The task that `attention-rnn train` has taken its data for."""
    task = read_settings(folder).get("task")
    return Task(**task) if task else None


def task_of(folder: str) -> str:
    """
    The pipeline of a model or an ensemble, by its config.

    Raises:
        OSError: there is no such model.
        ValueError: it is of another kind.
    """
    from ..checkpoints import one_of, open_config

    config = open_config(one_of(folder))
    architecture = next(iter(config.architectures or []), "")
    for ending, task in PIPELINES.items():
        if architecture.endswith(ending):
            return task
    raise ValueError(f"{folder} must hold a model that ends in {', '.join(PIPELINES)}, got {architecture or 'none'}")


def text_task_of(folder: str) -> str:
    """
    The pipeline of a model that reads texts.

    Raises:
        OSError: there is no such model.
        ValueError: it is of another kind.
    """
    task = task_of(folder)
    if task in _OTHERS:
        raise ValueError(f"{folder} {_OTHERS[task].format(folder=folder)}")
    return task


def tells_intents(folder: str) -> bool:
    """Whether a model that labels words says of the whole text what it wants, too."""
    from ..checkpoints import one_of, open_config

    return bool(getattr(open_config(one_of(folder)), "intents", None))


class Model:
    """
    A model with its tokenizer.

    Args:
        folder (`str`): a folder that a training left, or a name on the Hub.
        int8 (`bool`): decode with int8 weights, on a CPU; of a model that writes texts.

    Attributes:
        task (`str`): the pipeline that opens it.
        data_task (`Task`, *optional*): what `attention-rnn train` has taken its data for.
        reads_two (`bool`): whether it reads two texts, a pair or a context and a question.
        gives_several (`bool`): whether it has a next best answer.
        batch_size (`int`): how many texts are read at once.
    """

    def __init__(self, folder: str, int8: bool = False) -> None:
        self.folder, self.int8, self.batch_size = folder, int8, 32
        from ..checkpoints import one_of, open_config

        self.task = text_task_of(folder)
        self.data_task = read_task(folder)
        self.is_spelt = self.data_task is not None and self.data_task.spelt
        columns = self.data_task.columns if self.data_task else {}
        self.reads_two = self.task == "question-answering" or len(columns.get("text", ())) == 2
        config = open_config(one_of(folder))
        if int8:
            from ..quantization import check_int8

            check_int8(folder, config)
        self.reads_letters = bool(getattr(config, "character_size", None))
        self.problem_type = config.problem_type or "single_label_classification"
        is_classifier = self.task == "text-classification"
        self.gives_several = self.task != "token-classification" and not (
            is_classifier and self.problem_type != "single_label_classification"
        )
        lists = self.task == "token-classification" or (is_classifier and not self.gives_several)
        self._nothing = Answer([] if lists and self.problem_type != "regression" else "")

    @cached_property
    def pipeline(self) -> Any:
        import torch
        import transformers

        import attention_rnn

        from ..checkpoints import open_pipeline

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        device = "cuda" if torch.cuda.is_available() and not self.int8 else "cpu"
        opened = open_pipeline(self.task, self.folder, device=device)
        if self.int8:
            opened.model = attention_rnn.quantize(opened.model)
        return opened

    def answers(self, texts: Sequence[Source], number: int = 1, num_beams: int | None = None) -> list[list[Answer]]:
        """
        What the model says of each text, the best first; nothing of an empty text.

        Args:
            texts (`Sequence[str | tuple[str, str] | list[str]]`): texts as `source` reads them; of a model that reads
                two also both, of one that labels words also the words.
            number (`int`): how many answers, of a model that has several.
            num_beams (`int`, *optional*): of an encoder-decoder; the model's own setting if omitted.
        """
        filled = [self.source(text) if isinstance(text, str) else text for text in texts if not self.is_empty(text)]
        found = iter(self._answers(filled, number, num_beams)) if filled else iter(())
        return [[self._nothing] if self.is_empty(text) else next(found) for text in texts]

    def is_empty(self, text: Source) -> bool:
        """Whether there is nothing to answer."""
        parts = [text] if isinstance(text, str) else text
        blank = [not part.strip() for part in parts]
        return any(blank) if self.task == "question-answering" else all(blank)

    def _answers(self, texts: list[Any], number: int, num_beams: int | None) -> Iterable[list[Answer]]:
        size = min(self.batch_size, len(texts))
        if self.task == "text2text-generation":
            beams = max(num_beams or self.pipeline.model.generation_config.num_beams or 1, number)
            options = {"num_beams": beams, "num_return_sequences": number, "return_scores": number > 1}
            outputs = self.pipeline(texts, batch_size=size, **options)
            for of_text in outputs:
                of_text = of_text if isinstance(of_text, list) else [of_text]
                answers = [Answer(self._target(one["generated_text"]), one.get("score")) for one in of_text]
                yield distinct(answers, attrgetter("value"))  # several tokenizations may be of one text
        elif self.task == "text-classification":
            yield from self._classes(texts, number, size)
        elif self.task == "token-classification":
            for start in range(0, len(texts), size):
                yield from self._labels(texts[start : start + size])
        elif self.task == "question-answering":
            for context, question in texts:
                found = self.pipeline(question=question, context=context, top_k=number)
                yield [Answer(one["answer"], one["score"]) for one in (found if isinstance(found, list) else [found])]
        else:
            options = {"max_new_tokens": 200, "do_sample": True, "num_return_sequences": number}
            for text in texts:
                yield [Answer(one["generated_text"]) for one in self.pipeline(text, **options)]

    def _classes(self, texts: list[Any], number: int, size: int) -> Iterable[list[Answer]]:
        texts = [{"text": text[0], "text_pair": text[1]} if isinstance(text, tuple) else text for text in texts]
        if self.problem_type == "regression":
            for of_text in self.pipeline(texts, batch_size=size, top_k=1):
                yield [Answer(significant(of_text[0]["score"]))]
        elif self.problem_type == "multi_label_classification":
            for of_text in self.pipeline(texts, batch_size=size, top_k=self.pipeline.model.config.num_labels):
                yield [Answer([one["label"] for one in of_text if one["score"] >= 0.5])]
        else:
            for of_text in self.pipeline(texts, batch_size=size, top_k=number):
                yield [Answer(one["label"], one["score"]) for one in of_text]

    def _labels(self, texts: list[Any]) -> Iterable[list[Answer]]:
        from ..labelling import predict_labels

        texts = [text.split() if isinstance(text, str) else text for text in texts]
        for words, row in zip(texts, predict_labels(self.pipeline.model, self.pipeline.tokenizer, texts), strict=True):
            of_words = enumerate(zip(words, row["labels"], strict=True))
            chunks = self.pipeline.group_entities(
                [
                    {"entity": label, "word": word, "score": 1.0, "start": place, "end": place + 1}
                    for place, (word, label) in of_words
                ]
            )
            told = [(" ".join(words[one["start"] : one["end"]]), one["entity_group"]) for one in chunks]
            shown = [f"{text}/{label}" for text, label in told if label != "O"]
            intent = row.get("intent")
            shown += [f"({intent})"] if intent else []
            yield [Answer(row["labels"], shown="  ".join(shown), intent=intent)]

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        import attention_rnn  # noqa: F401  # registers the tokenizers

        from ..checkpoints import one_of

        return AutoTokenizer.from_pretrained(one_of(self.folder))

    def unknown(self, text: Source) -> list[str]:
        """The pieces of a text that the vocabulary lacks, in their order."""
        return self.unknown_of([text])[0]

    def unknown_of(self, texts: Sequence[Source]) -> list[list[str]]:
        """Of each text the pieces that the vocabulary lacks, in their order; none of a model that reads letters too."""
        unknown: list[dict[str, None]] = [{} for _ in texts]
        unk = self.tokenizer.unk_token_id
        if unk is None or not self.tokenizer.is_fast or self.reads_letters:
            return [[] for _ in texts]
        sources = [self.source(text) if isinstance(text, str) and text.strip() else text for text in texts]
        parts = [
            (number, part)
            for number, source in enumerate(sources)
            for part in ([source] if isinstance(source, str) else source)
        ]
        if parts:
            encoded = self.tokenizer([part for _, part in parts], return_offsets_mapping=True)
            rows = zip(parts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
            for (number, part), ids, offsets in rows:
                spans = zip(ids, offsets, strict=True)
                unknown[number] |= dict.fromkeys(part[a:b] for id_, (a, b) in spans if id_ == unk and a < b)
        return list(map(list, unknown))

    def source(self, text: str) -> str | tuple[str, str]:
        """
        What the model reads of a text that was typed; of a context and a question, whichever ends in a question mark
        is the question.

        Raises:
            ValueError: it lacks the tab between two texts or has more of them, or lacks the features of a lemma.
        """
        if self.reads_two:
            what = ("a context", "a question") if self.task == "question-answering" else ("a text", "another text")
        elif self.is_spelt:
            what = ("a lemma", "its features")
        else:
            return text
        first, *others = text.split("\t")
        if len(others) > 1 or (self.reads_two and not others):
            raise ValueError(f"this model needs {what[0]}, a tab and {what[1]}, got {text[:60]!r}")
        if self.is_spelt:
            return read_lemma(text)
        (second,) = others
        if self.task == "question-answering" and _asks(first) and not _asks(second):
            return second, first
        return first, second

    def _target(self, text: str) -> str:
        return unspell(text) if self.is_spelt else text.strip()


def _asks(text: str) -> bool:
    return text.rstrip().endswith(_QUESTION_MARKS)


def tell_unknown(model: Model, texts: Iterable[Source], most: int = 10) -> str | None:
    """How many texts hold what the vocabulary lacks, and what is most frequent of it."""
    total = number = 0
    pieces: Counter[str] = Counter()
    left = iter(texts)
    while batch := list(islice(left, 1_024)):
        for unknown in model.unknown_of(batch):
            total += 1
            number += bool(unknown)
            pieces.update(unknown)
    if not number:
        return None
    words: list[str] = []
    numbers: list[str] = []
    for piece, _ in pieces.most_common():
        (numbers if any(map(str.isdigit, piece)) else words).append(piece)
    # a text is often full of numbers, which tell the least
    told = [_listed(words, most, "others"), _listed(numbers, 3, "others with digits")]
    rare = ", which was rare in training or not there" if any(len(word) > 1 for word in words) else ""
    return f"{number:,} of {total:,} texts hold what the model does not know{rare}: {'; '.join(filter(None, told))}"


def _listed(pieces: Sequence[str], most: int, what: str) -> str:
    if len(pieces) <= most + 1:
        return ", ".join(map(name_piece, pieces))
    return f"{', '.join(map(name_piece, pieces[:most]))} and {len(pieces) - most:,} {what}"


def name_piece(piece: str) -> str:
    return f"{piece!r} (U+{ord(piece):04X})" if len(piece) == 1 else repr(piece)
