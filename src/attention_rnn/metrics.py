"""Metrics for text that work without a download, with the interface of `evaluate`.

    >>> from attention_rnn.metrics import load_metric
    >>> load_metric("wer").compute(predictions=["h ə l oʊ"], references=["h ɛ l oʊ"])
    {'wer': 25.0}

Every score is a percentage: 0 to 100, and above 100 only for an error rate with many insertions. The key of the score
is the name of the metric, so that the results of several metrics merge into one dict.
"""

import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tokenizers.normalizers import Lowercase

try:
    import datasets
    import evaluate
    import jiwer
    import sacrebleu
except ImportError as error:
    raise ImportError(
        f"attention_rnn.metrics needs datasets, evaluate, jiwer and sacrebleu ({error}): "
        "pip install 'attention-rnn[train]'"
    ) from error


class TextMetric(evaluate.Metric):
    """An `evaluate.Metric` over strings, each prediction with one or several acceptable references.

    Items lie in memory, unless `num_process` processes share them through files in `cache_dir`.

    Args:
        num_process (`int`): how many processes add items to one common score.
        process_id (`int`): which of them this is; `compute` returns the score in process 0 and `None` in the others.
        experiment_id (`str`): a name that those processes share and no other group of processes uses.
        cache_dir (`str`): a folder that those processes share; the one of `evaluate` if omitted.
    """

    def __init__(
        self,
        *,
        num_process: int = 1,
        process_id: int = 0,
        experiment_id: str | None = None,
        cache_dir: str | None = None,
    ):
        super().__init__(
            num_process=num_process,
            process_id=process_id,
            experiment_id=experiment_id,
            cache_dir=cache_dir,
            keep_in_memory=num_process == 1,
        )

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    def add(self, *, prediction: str, reference: str | Iterable[str]) -> None:
        """Add one prediction and its reference or references."""
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Iterable[str], references: Iterable[str | Iterable[str]]) -> None:
        """Add predictions and as many references.

        Args:
            predictions (`list[str]`): may hold empty strings.
            references (`list[str]` or `list[list[str]]`): for each prediction one string or several acceptable ones,
                in any mixture; may hold empty strings.

        Raises:
            TypeError: where something else than a string stands.
            ValueError: for lists of different lengths, an empty list, or a prediction without a reference.
        """
        predictions = _strings("predictions", predictions)
        references = [
            [reference] if isinstance(reference, str) else _strings(f"references[{i}]", reference)
            for i, reference in enumerate(_items("references", references))
        ]
        if len(predictions) != len(references):
            raise ValueError(
                f"predictions and references must have the same length, got {len(predictions)} and {len(references)}"
            )
        super().add_batch(predictions=predictions, references=references)

    def compute(
        self, *, predictions: Iterable[str] | None = None, references: Iterable[str | Iterable[str]] | None = None
    ) -> dict[str, Any] | None:
        """Score the given items, or those added before, and forget them. See `add_batch` for the arguments."""
        if predictions is None and references is None and len(self) == 0:
            raise ValueError("there is nothing to score: give predictions and references, or add some before")
        return super().compute(predictions=predictions, references=references)


def _items(name: str, values: Any) -> list:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of strings, got {values!r}")
    if not (values := list(values)):
        raise ValueError(f"{name} must not be empty")
    return values


def _strings(name: str, values: Any) -> list[str]:
    values = _items(name, values)
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(f"{name}[{i}] must be a string, got {value!r}")
    return values


class _SacrebleuMetric(TextMetric):
    scorer: sacrebleu.BLEU | sacrebleu.CHRF

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, Any]:
        # sacrebleu reads one stream per reference, None where an item has fewer.
        most = max(map(len, references))
        streams: list[list[Any]] = [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)]
        score = self.scorer.corpus_score(predictions, streams).score
        return {self.name: score, f"{self.name}_signature": str(self.scorer.get_signature())}


class BLEU(_SacrebleuMetric):
    """Corpus BLEU (Papineni et al. 2002, https://aclanthology.org/P02-1040) by sacrebleu.

    `compute` returns `{"bleu": float, "bleu_signature": str}`. The signature is sacrebleu's and says all that makes
    two scores comparable: report it along with the score. A corpus without four tokens in a row scores 0, even where
    all is right: for single words take another metric, or `"char"`.

    Args:
        tokenize (`str`): sacrebleu's tokenizer: `"13a"` for text as people write it, `"none"` for text that is split
            at spaces already, `"char"`, `"intl"`, `"zh"`, ...
        lowercase (`bool`): whether to ignore case.
        kwargs: see `TextMetric`.
    """

    def __init__(self, *, tokenize: str = "13a", lowercase: bool = False, **kwargs: Any):
        if tokenize not in sacrebleu.BLEU.TOKENIZERS:
            raise ValueError(f"tokenize must be one of {list(sacrebleu.BLEU.TOKENIZERS)}, got {tokenize!r}")
        super().__init__(**kwargs)
        # force: no warning about text that looks tokenized, where it is meant to be.
        self.scorer = sacrebleu.BLEU(tokenize=tokenize, lowercase=lowercase, force=tokenize == "none")


class CHRF(_SacrebleuMetric):
    """chrF, the F-score of character n-grams (Popović 2015, https://aclanthology.org/W15-3049) by sacrebleu.

    `compute` returns `{"chrf": float, "chrf_signature": str}`, with sacrebleu's signature.

    Args:
        word_order (`int`): the longest word n-grams that count too; 2 makes it chrF++.
        lowercase (`bool`): whether to ignore case.
        kwargs: see `TextMetric`.
    """

    def __init__(self, *, word_order: int = 0, lowercase: bool = False, **kwargs: Any):
        if not isinstance(word_order, int) or word_order < 0:
            raise ValueError(f"word_order must be an integer of at least 0, got {word_order!r}")
        super().__init__(**kwargs)
        self.scorer = sacrebleu.CHRF(word_order=word_order, lowercase=lowercase)


class _ErrorRate(TextMetric):
    process: Callable[..., jiwer.WordOutput | jiwer.CharacterOutput]

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        output = self.process([self._closest(*item) for item in zip(predictions, references, strict=True)], predictions)
        rate = output.wer if isinstance(output, jiwer.WordOutput) else output.cer
        return {self.name: 100.0 * rate}

    def _closest(self, prediction: str, references: list[str]) -> str:
        if len(references) == 1:
            return references[0]

        def edits(reference: str) -> tuple[int, int]:
            output = self.process(reference, prediction)
            return output.substitutions + output.deletions + output.insertions, -len(output.references[0])

        return min(references, key=edits)


class WER(_ErrorRate):
    """Word error rate of texts, as of speech recognition: edits per word of the reference, over all items, by jiwer.

    Words are what spaces separate. Of phones such as "h ə l oʊ" take `PER`; what papers on grapheme-to-phoneme
    conversion call word error rate is `WordErrorRate`.

    `compute` returns `{"wer": float}`. Of several references the one with the fewest edits counts, the longest of
    those. In an item with an empty reference each predicted word is an insertion; if no item has a reference word,
    the edits are divided by 1.
    """

    process = staticmethod(jiwer.process_words)


class PER(_ErrorRate):
    """Phone error rate: edits per phone, spelt letter or other unit between spaces of the reference, by jiwer.

    `compute` returns `{"per": float}`. See `WER` for the rest.
    """

    process = staticmethod(jiwer.process_words)


class CER(_ErrorRate):
    """Character error rate: edits per Unicode code point of the reference, spaces included, over all items, by jiwer.

    `compute` returns `{"cer": float}`. Accents that may be composed or decomposed should be normalised first. See `WER`
    for the rest.
    """

    process = staticmethod(jiwer.process_characters)


class _Rouge(TextMetric):
    rouge_type: str

    def __init__(self, *, use_stemmer: bool = False, **kwargs: Any):
        # here, as it takes long to import
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError as error:
            raise ImportError(f"ROUGE needs rouge-score ({error}): pip install 'attention-rnn[train]'") from error
        super().__init__(**kwargs)
        self.scorer = RougeScorer([self.rouge_type], use_stemmer=use_stemmer)

    @property
    def name(self) -> str:
        return self.rouge_type

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        items = zip(predictions, references, strict=True)
        scores = [self.scorer.score_multi(of_item, prediction)[self.name].fmeasure for prediction, of_item in items]
        return {self.name: 100.0 * sum(scores) / len(scores)}


class Rouge1(_Rouge):
    """ROUGE-1, the F-score of words (Lin 2004, https://aclanthology.org/W04-1013), the mean over the items, by
    rouge-score.

    `compute` returns `{"rouge1": float}`. Of several references the one with the highest score counts. Words are runs
    of a-z and 0-9 whatever their case: for other alphabets it says nothing.

    Args:
        use_stemmer (`bool`): whether to strip English endings before, as most papers on summaries do. It adds about a
            point: say which it was.
        kwargs: see `TextMetric`.
    """

    rouge_type = "rouge1"


class Rouge2(_Rouge):
    """ROUGE-2, the F-score of pairs of neighbouring words: see `Rouge1`. `compute` returns `{"rouge2": float}`."""

    rouge_type = "rouge2"


class RougeL(_Rouge):
    """ROUGE-L, the F-score of the longest common subsequence of words, over the whole text: see `Rouge1`.

    `compute` returns `{"rougeL": float}`.
    """

    rouge_type = "rougeL"


class ExactMatch(TextMetric):
    """Percentage of predictions that equal their reference, or one of several, code point for code point.

    `compute` returns `{"exact_match": float}`.
    """

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        matches = sum(prediction in acceptable for prediction, acceptable in zip(predictions, references, strict=True))
        return {self.name: 100.0 * matches / len(predictions)}


class WordErrorRate(TextMetric):
    """Percentage of items with any error, where an item is a word: what papers on pronunciation call word error rate.

    `compute` returns `{"word_error_rate": float}`, 100 minus `ExactMatch`. The rate of wrong words within texts is
    `WER`.
    """

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        errors = sum(
            prediction not in acceptable for prediction, acceptable in zip(predictions, references, strict=True)
        )
        return {self.name: 100.0 * errors / len(predictions)}


class _AnswerMetric(TextMetric):
    def __init__(self, *, unit: str = "word", **kwargs: Any):
        if unit not in ("word", "character"):
            raise ValueError(f"unit must be word or character, got {unit!r}")
        super().__init__(**kwargs)
        self.unit = unit

    def _units(self, answer: str) -> list[str]:
        """An answer as SQuAD's own script compares it; only words are normalised."""
        if self.unit == "character":
            return [character for character in answer if not character.isspace()]
        letters = "".join(character for character in answer.lower() if character not in string.punctuation)
        return [word for word in letters.split() if word not in ("a", "an", "the")]

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        best = [
            max(self._score(self._units(prediction), self._units(reference)) for reference in of_item)
            for prediction, of_item in zip(predictions, references, strict=True)
        ]
        return {self.name: 100.0 * sum(best) / len(best)}

    def _score(self, prediction: list[str], reference: list[str]) -> float:
        raise NotImplementedError


class AnswerF1(_AnswerMetric):
    """F-score of the words that an answer shares with the reference (Rajpurkar et al. 2016,
    https://arxiv.org/abs/1606.05250), the mean over the questions, as SQuAD's own script computes it.

    `compute` returns `{"answer_f1": float}`. Of several references the one with the highest score counts. An empty
    answer equals an empty reference and no other.

    Args:
        unit (`str`): `"word"`: case, English articles and ASCII punctuation do not count. `"character"`, for languages
            that write no spaces: every character but white space counts.
        kwargs: see `TextMetric`.
    """

    def _score(self, prediction: list[str], reference: list[str]) -> float:
        common = sum((Counter(prediction) & Counter(reference)).values())
        if not prediction or not reference:
            return float(prediction == reference)
        return 2 * common / (len(prediction) + len(reference))


class AnswerExactMatch(_AnswerMetric):
    """Percentage of answers that equal a reference but for what `AnswerF1` leaves out; its arguments are the same.

    `compute` returns `{"answer_exact_match": float}`.
    """

    def _score(self, prediction: list[str], reference: list[str]) -> float:
        return float(prediction == reference)


METRICS: dict[str, type[TextMetric]] = {
    "bleu": BLEU,
    "chrf": CHRF,
    "wer": WER,
    "per": PER,
    "cer": CER,
    "word_error_rate": WordErrorRate,
    "exact_match": ExactMatch,
    "answer_f1": AnswerF1,
    "answer_exact_match": AnswerExactMatch,
    "rouge1": Rouge1,
    "rouge2": Rouge2,
    "rougeL": RougeL,
}


LOWER_IS_BETTER = ("wer", "per", "cer", "word_error_rate")


def describe_metrics(names: Iterable[str]) -> dict[str, str]:
    """What each of these metrics is, in a sentence."""
    sentences = {name: " ".join((METRICS[name].__doc__ or "").split("\n\n")[0].split()) for name in names}
    return {name: sentence.rstrip(".") for name, sentence in sentences.items()}


def score_texts(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    metrics: Mapping[str, TextMetric],
    lowercase: bool = False,
) -> dict[str, float | str]:
    """
    The scores of all metrics.

    Args:
        predictions (`list[str]`), references (`list[str]` or `list[list[str]]`): as of `TextMetric.compute`.
        metrics (`dict[str, TextMetric]`): by their names.
        lowercase (`bool`): whether to compare in lower case, as a model must be that can write nothing else.
    """
    fold = Lowercase().normalize_str if lowercase else str
    predictions = [fold(text) for text in predictions]
    references = [
        [fold(text) for text in ([reference] if isinstance(reference, str) else reference)] for reference in references
    ]
    scores: dict[str, Any] = {}
    for metric in metrics.values():
        scores |= metric.compute(predictions=predictions, references=references) or {}
    return scores


def load_metric(name: str, **options: Any) -> TextMetric:
    """Make a metric by its name, as `evaluate.load` does from the Hub.

    Args:
        name (`str`): a key of `METRICS`.
        options: keyword arguments of its class.

    Raises:
        ValueError: for another name.
    """
    if name not in METRICS:
        raise ValueError(f"name must be one of {list(METRICS)}, got {name!r}")
    return METRICS[name](**options)
