"""
Pipelines that transformers 5 has no more: question answering, and what an encoder-decoder makes of a text. One that it
never had: forecasting. And its pipelines of token classification and of audio, which then do more.

After `import attention_rnn`, `transformers.pipeline` knows them by their old names, `"question-answering"`,
`"text2text-generation"`, `"translation"`, `"translation_XX_to_YY"` and `"summarization"`, for every model of
`AutoModelForQuestionAnswering` or `AutoModelForSeq2SeqLM`, and `"time-series-forecasting"` for every model of
`AutoModelForTimeSeriesPrediction`, see [`~pipelines_time_series.TimeSeriesForecastingPipeline`]. Where transformers has
a pipeline of such a name, its own stays. In place of its `"token-classification"`, `"automatic-speech-recognition"` and
`"audio-classification"` come subclasses, see [`~pipelines_labelling.TokenClassificationPipeline`] and
`pipelines_speech.py`.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM, AutoModelForTimeSeriesPrediction
from transformers import pipelines as transformers_pipelines

from .alignment import alignment_from_outputs
from .copy_vocabulary import CopyVocabulary
from .pipelines_labelling import TokenClassificationPipeline, is_empty
from .pipelines_speech import AudioClassificationPipeline, AutomaticSpeechRecognitionPipeline
from .pipelines_time_series import TimeSeriesForecastingPipeline
from .question_answering import Window, encode_windows, find_answers, window_length
from .tokenizer_training import check_vocabulary

# Any, as every pipeline takes other arguments than the base class declares
Pipeline: Any = transformers_pipelines.base.Pipeline
ChunkPipeline: Any = transformers_pipelines.base.ChunkPipeline


class Text2TextGenerationPipeline(Pipeline):
    """
    What an encoder-decoder makes of a text.

        >>> generator = pipeline("text2text-generation", "runs/g2p")
        >>> generator(["hello", "yellow"], batch_size=32, num_beams=5)
        [{'generated_text': 'h ə l oʊ'}, {'generated_text': 'j ɛ l oʊ'}]

    Arguments of a call, or of the pipeline for all its calls:

    - `return_scores` (`bool`): add `score`, the log probability of the output, divided by its length to the power of
      `length_penalty` as beam search does.
    - `return_alignments` (`bool`): add `source_tokens`, `target_tokens` and `alignment`, the weights of the last
      cross-attention, one row for each token of the output and one column for each of the source.
    - `return_tensors` (`bool`): return `generated_token_ids` in place of the text.
    - `truncation`: as of the tokenizer; by default a text is read whole.
    - `src_lang`, `tgt_lang` (`str`): for the tokenizers of transformers that have languages.
    - All others go to `generate`; what they leave open is settled by the model's generation config.

    Returns a list of dicts for a text, one for each of `num_return_sequences`. For a list of texts a dict each, or a
    list of dicts each if `num_return_sequences` is not 1.

    With a model that copies (`copy=True`), words that its vocabulary lacks are copied too.

    Raises:
        TypeError: an input is no text.
        ValueError: an input is empty, or alignments are asked of a model without attention.
    """

    tokenizer: Any
    _forward_params: dict[str, Any]
    _preprocess_params: dict[str, Any]

    return_name = "generated"
    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.tokenizer is None:
            raise ValueError(f"The pipeline {self.task!r} needs a tokenizer.")
        config = self.model.config
        check_vocabulary(self.tokenizer, config)
        # T5 and others say in their config how to ask for a task
        settings = dict((getattr(config, "task_specific_params", None) or {}).get(self.task, {}))
        self.source_prefix = settings.pop("prefix", None) or getattr(config, "prefix", None) or ""
        self._forward_params = {**settings, **self._forward_params}
        self.copying = CopyVocabulary(self.tokenizer, config.vocab_size) if getattr(config, "copy", False) else None

    def _sanitize_parameters(
        self,
        return_scores: bool | None = None,
        return_alignments: bool | None = None,
        return_tensors: bool | None = None,
        truncation: Any = None,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess = _given(truncation=truncation, src_lang=src_lang, tgt_lang=tgt_lang)
        forward = _given(return_scores=return_scores, return_alignments=return_alignments)
        return preprocess, {**forward, **generate_kwargs}, _given(return_tensors=return_tensors)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """The outputs for a text, or for each of a list, a generator or a data set of them; see the class."""
        if is_empty(inputs):
            return []
        results = super().__call__(inputs, **kwargs)
        if isinstance(inputs, list) and all(len(result) == 1 for result in results):
            return [result[0] for result in results]
        return results

    def preprocess(
        self, text: str, truncation: Any = False, src_lang: str | None = None, tgt_lang: str | None = None
    ) -> dict[str, Any]:
        if not isinstance(text, str):
            raise TypeError(f"The input must be a text or a list of texts, got {text!r}.")
        if not text.strip():
            raise ValueError(f"The input must be a text that is not empty, got {text!r}.")
        text = self.source_prefix + text
        options = {"truncation": truncation, "return_tensors": "pt"}
        if self.copying is not None:
            inputs, (unknown_words,) = self.copying.encode_sources([text], **options)
            return {**inputs, "unknown_words": unknown_words}
        if hasattr(self.tokenizer, "_build_translation_inputs"):
            return {**self.tokenizer._build_translation_inputs(text, src_lang=src_lang, tgt_lang=tgt_lang, **options)}
        inputs = self.tokenizer(text, **options)
        inputs.pop("token_type_ids", None)
        return {**inputs}

    def _forward(
        self,
        model_inputs: dict[str, Any],
        return_scores: bool = False,
        return_alignments: bool = False,
        **generate_kwargs: Any,
    ) -> dict[str, Any]:
        unknown_words = model_inputs.pop("unknown_words", None)
        if (first_token := model_inputs.pop("forced_bos_token_id", None)) is not None:
            # one for each text of a batch, and all the same
            generate_kwargs["forced_bos_token_id"] = first_token[0] if isinstance(first_token, list) else first_token
        if return_alignments and not self.model.config.model_type.startswith("attention_rnn"):
            self.model.set_attn_implementation("eager")  # others do not return the weights
        outputs = self.model.generate(
            **model_inputs,
            **{
                **generate_kwargs,
                "return_dict_in_generate": True,
                "output_scores": return_scores,
                "output_attentions": return_alignments,
            },
        )
        batch_size = len(model_inputs["input_ids"])
        results = {"sequences": outputs.sequences, "scores": None, "alignments": None}
        if return_scores:
            results["scores"] = self._sequence_scores(outputs, generate_kwargs)
        if return_alignments:
            results["alignments"] = alignment_from_outputs(outputs)
        results = {
            name: None if value is None else value.unflatten(0, (batch_size, -1)) for name, value in results.items()
        }
        return {**results, "input_ids": model_inputs["input_ids"], "unknown_words": unknown_words}

    def _sequence_scores(self, outputs: Any, generate_kwargs: dict[str, Any]) -> Tensor:
        if getattr(outputs, "sequences_scores", None) is not None:
            return outputs.sequences_scores
        step_scores = self.model.compute_transition_scores(outputs.sequences, outputs.scores, normalize_logits=True)
        config = generate_kwargs.get("generation_config", self.model.generation_config)
        length_penalty = generate_kwargs.get("length_penalty", getattr(config, "length_penalty", None))
        is_text = self._lengths(outputs.sequences[:, -step_scores.shape[1] :])
        total = step_scores.masked_fill(~is_text, 0).sum(dim=1)
        return total / is_text.sum(dim=1) ** (1.0 if length_penalty is None else length_penalty)

    def _lengths(self, sequences: Tensor) -> Tensor:
        """True up to and including the first end of each sequence."""
        eos_token_id = self.model.generation_config.eos_token_id
        if eos_token_id is None:
            return torch.ones_like(sequences, dtype=torch.bool)
        is_end = torch.isin(sequences, torch.tensor(eos_token_id, device=sequences.device))
        return is_end.cumsum(dim=1) - is_end.long() == 0

    def postprocess(self, model_outputs: dict[str, Any], return_tensors: bool = False) -> list[dict[str, Any]]:
        (sequences,), (source_ids,) = model_outputs["sequences"], model_outputs["input_ids"]
        unknown_words = model_outputs["unknown_words"] or []
        results = []
        for index, sequence in enumerate(sequences):
            result: dict[str, Any] = {f"{self.return_name}_token_ids": sequence} if return_tensors else {}
            if not return_tensors:
                result[f"{self.return_name}_text"] = self._decode(sequence, unknown_words)
            if model_outputs["scores"] is not None:
                result["score"] = float(model_outputs["scores"][0, index])
            if model_outputs["alignments"] is not None:
                weights = model_outputs["alignments"][0, index]
                result |= self._align(weights, source_ids, sequence, unknown_words)
            results.append(result)
        return results

    def _decode(self, sequence: Tensor, unknown_words: list[str]) -> str:
        if self.copying is not None:
            return self.copying.batch_decode([sequence], [unknown_words])[0]
        return self.tokenizer.decode(sequence, skip_special_tokens=True)

    def _align(self, weights: Tensor, source_ids: Tensor, sequence: Tensor, unknown_words: list[str]) -> dict[str, Any]:
        """The weights without padding and without what lies behind the end, and the tokens they belong to."""
        columns = source_ids != self.tokenizer.pad_token_id
        target_ids = sequence[-len(weights) :]
        rows = self._lengths(target_ids[None])[0]
        if self.copying is not None:
            target_tokens = self.copying.convert_ids_to_tokens(target_ids[rows], unknown_words)
        else:
            target_tokens = getattr(self.tokenizer, "target", self.tokenizer).convert_ids_to_tokens(target_ids[rows])
        return {
            "source_tokens": self.tokenizer.convert_ids_to_tokens(source_ids[columns]),
            "target_tokens": target_tokens,
            "alignment": weights[rows][:, columns].tolist(),
        }


class SummarizationPipeline(Text2TextGenerationPipeline):
    """As [`Text2TextGenerationPipeline`], with `summary_text` in place of `generated_text`."""

    return_name = "summary"


class TranslationPipeline(Text2TextGenerationPipeline):
    """
    As [`Text2TextGenerationPipeline`], with `translation_text` in place of `generated_text`. The task may name two
    languages, `"translation_en_to_de"`; they are `src_lang` and `tgt_lang` where these are not given.
    """

    return_name = "translation"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if match := _LANGUAGE_PAIR.fullmatch(self.task):
            self._preprocess_params = {"src_lang": match[1], "tgt_lang": match[2], **self._preprocess_params}


class QuestionAnsweringPipeline(ChunkPipeline):
    """
    Answers a question by a span of a context.

        >>> reader = pipeline("question-answering", "runs/jaquad")
        >>> reader(question="日本の首都は?", context="日本の首都は東京である。")
        {'score': 0.91, 'start': 6, 'end': 8, 'answer': '東京'}

    A call takes `question` and `context`, each a text or a list of texts, and one context may serve many questions; or
    a dict with these keys, or a list, a generator or a data set of dicts. Other arguments of a call, or of the pipeline
    for all its calls:

    - `top_k` (`int`, 1): how many answers to return.
    - `max_answer_len` (`int`, 30): the most tokens of an answer.
    - `max_seq_len` (`int`): the most tokens of question and context together, the tokenizer's `model_max_length` by
      default. A longer context is read in windows, each of which shares `doc_stride` tokens (an eighth of that by
      default) with the next.
    - `max_question_len` (`int`): the tokens to which a question is cut; half of `max_seq_len` by default.
    - `handle_impossible_answer` (`bool`): whether an empty text is one of the answers.

    Returns a dict, or a list of dicts if `top_k` is above 1, for each question: `score`, `start`, `end`, `answer`, see
    [`~question_answering.find_answers`].

    Raises:
        TypeError: an input is no question with a context, or the tokenizer is not a fast one.
        ValueError: a question or a context is empty, as many questions as contexts are needed, or a window has no room.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def _sanitize_parameters(
        self,
        top_k: int | None = None,
        max_answer_len: int | None = None,
        max_seq_len: int | None = None,
        max_question_len: int | None = None,
        doc_stride: int | None = None,
        handle_impossible_answer: bool | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise TypeError(f"A question answering pipeline knows no arguments {sorted(kwargs)}.")
        preprocess = _given(max_seq_len=max_seq_len, max_question_len=max_question_len, doc_stride=doc_stride)
        postprocess = _given(
            top_k=top_k, max_answer_len=max_answer_len, handle_impossible_answer=handle_impossible_answer
        )
        return preprocess, {}, postprocess

    def __call__(self, inputs: Any = None, *, question: Any = None, context: Any = None, **kwargs: Any) -> Any:
        """The answers to one question or to many; see the class."""
        if inputs is None:
            inputs = _pair(question, context)
        elif question is not None or context is not None:
            raise TypeError("Give either `question` and `context`, or dicts with these keys.")
        elif isinstance(inputs, dict) and not isinstance(inputs.get("question"), str):
            inputs = _pair(inputs.get("question"), inputs.get("context"))
        if is_empty(inputs):
            return []
        return super().__call__(inputs, **kwargs)

    def preprocess(
        self,
        example: dict[str, str],
        max_seq_len: int | None = None,
        max_question_len: int | None = None,
        doc_stride: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        if not isinstance(example, dict) or not {"question", "context"} <= example.keys():
            raise TypeError(f"The input must be a dict with a `question` and a `context`, got {example!r}.")
        if max_seq_len is None:
            max_seq_len = window_length(self.tokenizer)
        if doc_stride is None:
            doc_stride = 0 if max_seq_len is None else max_seq_len // 8
        context = example["context"]
        windows = encode_windows(
            self.tokenizer, [example["question"]], [context], max_seq_len, max_question_len, doc_stride
        )
        # a tokenizer may return what its model does not read
        accepted = inspect.signature(self.model.forward).parameters
        names = [name for name in self.tokenizer.model_input_names if name in windows and name in accepted]
        for index, offsets in enumerate(windows["context_offsets"]):
            yield {
                **{name: torch.tensor([windows[name][index]]) for name in names},
                "context": context,
                "offsets": offsets,
                "is_last": index == len(windows["context_offsets"]) - 1,
            }

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        others = {name: model_inputs.pop(name) for name in ("context", "offsets", "is_last")}
        outputs = self.model(**model_inputs, return_dict=True)
        return {"start_logits": outputs.start_logits, "end_logits": outputs.end_logits, **others}

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
        top_k: int = 1,
        max_answer_len: int = 30,
        handle_impossible_answer: bool = False,
    ) -> Any:
        windows = []
        for outputs in model_outputs:
            length = len(outputs["offsets"])
            of_window = slice(-length, None) if self.tokenizer.padding_side == "left" else slice(length)
            start_logits, end_logits = (outputs[name][0, of_window] for name in ("start_logits", "end_logits"))
            windows.append(Window(start_logits, end_logits, outputs["offsets"]))
        answers = find_answers(model_outputs[0]["context"], windows, top_k, max_answer_len, handle_impossible_answer)
        return answers[0] if top_k == 1 else answers


_LANGUAGE_PAIR = re.compile(r"translation_(.+?)_to_(.+)")

PIPELINES: dict[str, tuple[Any, Any]] = {
    "question-answering": (QuestionAnsweringPipeline, AutoModelForQuestionAnswering),
    "text2text-generation": (Text2TextGenerationPipeline, AutoModelForSeq2SeqLM),
    "translation": (TranslationPipeline, AutoModelForSeq2SeqLM),
    "summarization": (SummarizationPipeline, AutoModelForSeq2SeqLM),
    "time-series-forecasting": (TimeSeriesForecastingPipeline, AutoModelForTimeSeriesPrediction),
}


REPLACED: dict[str, Any] = {
    "token-classification": TokenClassificationPipeline,
    "automatic-speech-recognition": AutomaticSpeechRecognitionPipeline,
    "audio-classification": AudioClassificationPipeline,
}


class _TaskAliases(dict):
    """The aliases of tasks, and `"translation_XX_to_YY"` for all languages."""

    def __contains__(self, task: object) -> bool:
        return super().__contains__(task) or (isinstance(task, str) and bool(_LANGUAGE_PAIR.fullmatch(task)))

    def __missing__(self, task: str) -> str:
        return "translation"


def register_pipelines() -> None:
    """
    Register with `transformers.pipeline` those of our pipelines that transformers has not itself, and those of
    `REPLACED` in place of its own.
    """
    registry = transformers_pipelines.PIPELINE_REGISTRY
    # later versions of transformers refuse these names before they look at the registry
    removed_tasks = getattr(transformers_pipelines, "REMOVED_TASKS", {})
    for task, (pipeline_class, auto_class) in PIPELINES.items():
        if task in registry.supported_tasks:
            continue
        removed_tasks.pop(task, None)
        registry.register_pipeline(task, pipeline_class, pt_model=auto_class, type="text")
        # with it `save_pretrained` would make a checkpoint load with `trust_remote_code` alone
        del pipeline_class._registered_impl
        if task == "translation":
            registry.task_aliases = _TaskAliases(registry.task_aliases)
    for task, pipeline_class in REPLACED.items():
        entry = registry.supported_tasks[task]
        (base,) = pipeline_class.__bases__
        # it names its pipelines, or holds their classes
        if entry["impl"] in (base, f"{base.__module__}.{base.__name__}"):
            entry["impl"] = pipeline_class


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _pair(question: Any, context: Any) -> Any:
    """A question with its context, or a list of them."""
    if isinstance(question, str):
        question = [question] if not isinstance(context, str) else question
    if isinstance(question, str):
        return {"question": question, "context": context}
    if not isinstance(question, list):
        raise TypeError(f"`question` must be a text or a list of texts, got {question!r}.")
    contexts = [context] * len(question) if isinstance(context, str) else context
    if not isinstance(contexts, list):
        raise TypeError(f"`context` must be a text or a list of texts, got {context!r}.")
    if len(question) == 1:
        question = question * len(contexts)
    if len(question) != len(contexts):
        raise ValueError(
            f"There must be as many questions as contexts, or one for all, got {len(question)} and {len(contexts)}."
        )
    return [{"question": q, "context": c} for q, c in zip(question, contexts, strict=True)]
