"""How a trained model is used and what it is not for, in the words of its card, for each task of the scripts."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from .classes import list_labels
from .labelling import marks_ends
from .models.configuration_attention_rnn import AttentionRnnConfig
from .models.crf import is_chunk_scheme

_SEQ2SEQ_OPEN = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name}{options})
model = AutoModelForSeq2SeqLM.from_pretrained({name}{options})
"""
_SEQ2SEQ = """inputs = tokenizer([{source}], return_tensors="pt")
print(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))
"""
_SEQ2SEQ_COPY = """from attention_rnn.copy_vocabulary import CopyVocabulary
{opened}
copying = CopyVocabulary(tokenizer, model.config.vocab_size)
inputs, unknown_words = copying.encode_sources([{source}], return_tensors="pt")
print(copying.batch_decode(model.generate(**inputs), unknown_words))
"""
_SEQ2SEQ_SPELT = """

It reads a lemma letter by letter, its features in brackets, and so it writes: `attention-rnn predict` spells them, and
in Python `spell_lemma` and `unspell` of `attention_rnn.onnx.spelling`."""
_SPELT_LEMMA = re.compile(r"(\S )+\[\S+\]( \[\S+\])*")
_TRUST = ", trust_remote_code=True"
_SEQ2SEQ_LIMITS = """The model turns texts like the sources of its training data into texts like their targets. On other
texts expect worse than the scores above, which are those of {search}. It saw at most {max_source_length} tokens of a
source in training, and reads what its vocabulary lacks as `<unk>`. It repeats the errors and biases of its training
data, and nothing was tested beyond the scores above."""

_CLM = """```python
import attention_rnn  # pip install attention-rnn
from transformers import pipeline

write = pipeline("text-generation", {name})
print(write({prompt}, max_new_tokens=300, do_sample=True, temperature=0.8)[0]["generated_text"])
```

Without `import attention_rnn`, the code that the checkpoint carries does the same with
`pipeline("text-generation", {name}, trust_remote_code=True)`.

With a temperature of {temperature} it has written:

```
{sample}
```"""
CLM_LIMITS = """The model continues texts like that of its training, and scores how likely a text is. What it writes
need not be true. It repeats the errors and biases of its training data, and nothing was tested beyond the scores
above."""

_QA = """from transformers import pipeline

reader = pipeline("question-answering", {name})
print(reader(question={question}, context={context}))
"""
_QA_REMOTE_CODE = """from transformers import AutoModelForQuestionAnswering

model = AutoModelForQuestionAnswering.from_pretrained({name}, trust_remote_code=True)
"""
_QA_ATTENTION = """

How the tokens around an answer look at the question:

![Each row is a token of the context, each column one of the question]({picture})"""
_QA_LIMITS = """The model points at the part of a context that answers a question best, of at most {max_answer_length}
tokens. {no_answer} It was trained on texts like those named below; on others expect worse than the scores above. It
reads what its vocabulary lacks as `<unk>`, and reads a question up to {max_question_length} tokens. It repeats the
errors and biases of its training data, and nothing was tested beyond the scores above."""

_CLASSIFICATION = """from transformers import pipeline

classifier = pipeline("text-classification", {name})
{printed}
"""
# by problem type: transformers calls a number the score of its only label
_PRINTED = {
    "multi_label_classification": """(answer,) = classifier([{inputs}], top_k=None)
print([one["label"] for one in answer if one["score"] >= 0.5])""",
    "regression": """print([answer["score"] for answer in classifier([{inputs}])])""",
}
_PRINTED_OF_LABELS = "print(classifier([{inputs}], top_k=None))"
_CLASSIFICATION_REMOTE_CODE = """Without `import attention_rnn`, the code that the checkpoint carries does the same:
`pipeline("text-classification", {name}, trust_remote_code=True)`."""
_CLASSIFICATION_ATTENTION = """

`model(**inputs, output_attentions=True).attentions[0]` are the weights of the words, (batch, heads, 1, words):

![Which words each head of the pooling looked at]({picture})"""
_CLASSIFICATION_LIMITS = """The model {does} texts like those of its training data{labels}. On other texts expect worse
than the scores above. It read at most {max_length} tokens of a text in training, and reads what its vocabulary lacks as
`<unk>`. It repeats the errors and biases of its training data, and nothing was tested beyond the scores above."""

_LABELLING = """from transformers import pipeline

tagger = pipeline("token-classification", {name}, aggregation_strategy="{strategy}")
print(tagger({text}))
"""
_LABELLING_INTENT = """
inputs = tagger.tokenizer({text}, return_tensors="pt")
intent = tagger.model(**inputs).intent_logits.argmax()
print(tagger.model.config.intents[intent])
"""
LABELLING_LIMITS = """The model labels texts like those of its training data, split into words by spaces as they
are, punctuation marks being words of their own. On other texts expect worse than the scores above. It repeats the
errors and biases of its training data, and nothing was tested beyond the scores above."""


_FORECASTING = """import attention_rnn  # pip install 'attention-rnn[forecasting]'
import pandas as pd
from transformers import pipeline

forecast = pipeline("time-series-forecasting", {name})
print(forecast(pd.read_csv({file})))  # a table with {levels}
"""
_FORECASTING_LIMITS = """The model forecasts {targets} up to {prediction_length} steps ahead, one in {frequency},
from the last {context_length}; farther ahead it goes on from its own forecasts. It knows nothing but the past of a
series{told}, and expects that what comes resembles what was: it does not foresee a break. The scores above are of the
cut-offs that were tested. Compare them with the forecasts that need no training, and use the best."""
_AUDIO_CLASSIFICATION = """import attention_rnn  # pip install 'attention-rnn[audio]'
from transformers import pipeline

classifier = pipeline("audio-classification", {name})
print(classifier("recording.wav"))  # any sampling rate; or samples, bytes, ...
"""
_AUDIO_CLASSIFICATION_ATTENTION = """

`model(**inputs, output_attentions=True).attentions[0]` are the weights of the positions, (batch, heads, 1, positions):

![Where in a recording each head of the pooling listened]({picture})"""
_TRANSCRIPTION = """import attention_rnn  # pip install 'attention-rnn[audio]'
from transformers import pipeline

transcribe = pipeline("automatic-speech-recognition", {name})
print(transcribe("recording.wav", return_timestamps="word"))  # any sampling rate; or samples, bytes, ...
print(transcribe("hour.wav", chunk_length_s=20))  # long audio, in chunks that overlap
"""
_TRANSCRIPTION_PICTURE = """

Where the model listened for each token that it wrote, and when CTC heard it:

![Attention over the spectrogram, and the probabilities of CTC]({picture})"""
_SPEECH_LIMITS = """The model hears recordings like those of its training data{labels}. Other voices, rooms,
microphones and languages are expected to come out worse than the scores above. Everything is resampled to
{sampling_rate:,} samples per second. It repeats the errors and biases of its training data, and nothing was tested
beyond the scores above."""


def seq2seq_usage(model: PreTrainedModel, name: str, source: str) -> str:
    """How to turn a source into a target, with and without this package."""
    quoted = _quote(source)
    opened = _SEQ2SEQ_OPEN.format(name=_quote(name), options="")
    write = _SEQ2SEQ.format(source=quoted)
    if not _is_ours(model):
        return _python(opened + write)
    remote = _python(_SEQ2SEQ_OPEN.format(name=_quote(name), options=_TRUST) + write)
    usage = _ours(opened + write)
    usage += f"Without `import attention_rnn`, the code that the checkpoint carries does the same:\n\n{remote}"
    if model.config.copy:
        copying = _python(_SEQ2SEQ_COPY.format(opened=opened, source=quoted))
        usage += "\n\nTo copy words that the vocabulary lacks as well, let it be extended by those of each source:\n\n"
        usage += copying
    return usage + (_SEQ2SEQ_SPELT if _SPELT_LEMMA.fullmatch(source) else "")


def seq2seq_limits(max_source_length: int, lowercase: bool, num_beams: int) -> str:
    """What a model is not for, and how its scores were reached."""
    search = "greedy search" if num_beams == 1 else f"a search with {num_beams} beams"
    case = " It writes lower case alone, and the scores do not count case." if lowercase else ""
    return _SEQ2SEQ_LIMITS.format(max_source_length=max_source_length, search=search) + case


def clm_usage(name: str, prompt: str, temperature: float, sample: str) -> str:
    """How to let a language model write, and what it has written."""
    sample = sample.replace("`" * 3, "'" * 3)
    return _CLM.format(name=_quote(name), prompt=_quote(prompt), temperature=temperature, sample=sample)


def qa_usage(model: PreTrainedModel, name: str, question: str, context: str, picture: str | None) -> str:
    """How to ask, with and without this package, and how the attention looked."""
    usage = _QA.format(name=_quote(name), question=_quote(question), context=_quote(context))
    if not _is_ours(model):
        return _python(f"import attention_rnn  # brings this pipeline back\n{usage}")
    attention = _QA_ATTENTION.format(picture=picture) if picture else ""
    remote = (
        "Without `import attention_rnn`, transformers 5 has no pipeline of that name. The model itself opens there, by "
        f"the code that the checkpoint carries:\n\n{_python(_QA_REMOTE_CODE.format(name=_quote(name)))}"
    )
    return _ours(usage) + remote + attention


def qa_limits(max_question_length: int, max_answer_length: int, allow_no_answer: bool) -> str:
    no_answer = "It may say that there is none." if allow_no_answer else "It always finds one."
    return _QA_LIMITS.format(
        max_question_length=max_question_length, max_answer_length=max_answer_length, no_answer=no_answer
    )


def classification_usage(model: PreTrainedModel, name: str, texts: Mapping[str, str], picture: str | None) -> str:
    """How to label a text, or a pair of them (`text` and `text_pair`), and how the attention looked."""
    inputs = _quote(texts if len(texts) > 1 else texts["text"])
    printed = _PRINTED.get(model.config.problem_type or "", _PRINTED_OF_LABELS).format(inputs=inputs)
    usage = _CLASSIFICATION.format(name=_quote(name), printed=printed)
    if not _is_ours(model):
        return _python(usage)
    attention = _CLASSIFICATION_ATTENTION.format(picture=picture) if picture else ""
    return _ours(usage) + _CLASSIFICATION_REMOTE_CODE.format(name=_quote(name)) + attention


def classification_limits(max_length: int, labels: Sequence[str], numbers: Sequence[float] = ()) -> str:
    """Of a model that tells labels, or else numbers, of which `numbers` are those of the training."""
    named = f" with {', '.join(map(repr, labels))}" if labels else ""
    named = f", whose numbers were from {min(numbers):g} to {max(numbers):g}" if numbers else named
    does = "labels" if labels else "tells a number of"
    return _CLASSIFICATION_LIMITS.format(does=does, max_length=max_length, labels=named)


def labelling_usage(model: PreTrainedModel, name: str, text: str) -> str:
    """How to label the words of a text, and to tell its intent if the model does."""
    labels, intents = list_labels(model.config), list_labels(model.config, of_texts=True)
    # the pipeline of transformers labels every piece of a word by itself, which trains the first one here
    strategy = ("simple" if _is_ours(model) else "first") if is_chunk_scheme(labels) else "none"
    values = {"name": _quote(name), "text": _quote(text), "strategy": strategy}
    usage = _LABELLING.format(**values) + (_LABELLING_INTENT.format(**values) if intents else "")
    if _is_ours(model):
        usage = (
            f"import attention_rnn  # pip install attention-rnn; or give the pipeline trust_remote_code=True\n{usage}"
        )
    elif marks_ends(labels):
        usage = f"import attention_rnn  # pip install attention-rnn; it lets the pipeline join these chunks\n{usage}"
    return _python(usage)


def forecasting_usage(model: PreTrainedModel, name: str, file: str) -> str:
    """How to forecast the series of a table."""
    is_point = model.config.distribution_output == "point"
    point = "median" if model.config.distribution_output == "quantile" else "mean"
    levels = "the forecast" if is_point else f"the {point} and a column for each quantile"
    return _python(_FORECASTING.format(name=_quote(name), file=_quote(file), levels=levels))


def forecasting_limits(model: PreTrainedModel, features: Mapping[str, Any]) -> str:
    told = [*features["known"], *features["past_only"], *features["static"], *features.get("categories", [])]
    return _FORECASTING_LIMITS.format(
        targets=", ".join(features["targets"]),
        prediction_length=model.config.prediction_length,
        context_length=model.config.context_length,
        frequency=features["frequency"],
        told=f", and {', '.join(told)}" if told else "",
    )


def audio_classification_usage(name: str, pictures: Sequence[str]) -> str:
    """How to label a recording, and where the model listened."""
    attention = "".join(_AUDIO_CLASSIFICATION_ATTENTION.format(picture=picture) for picture in pictures)
    return _python(_AUDIO_CLASSIFICATION.format(name=_quote(name))) + attention


def transcription_usage(name: str, pictures: Sequence[str]) -> str:
    """How to transcribe a recording, and where the model listened."""
    shown = "".join(_TRANSCRIPTION_PICTURE.format(picture=picture) for picture in pictures)
    return _python(_TRANSCRIPTION.format(name=_quote(name))) + shown


def speech_limits(sampling_rate: int, labels: Sequence[str] = ()) -> str:
    named = f" and labels them with {', '.join(map(repr, labels))}" if labels else ""
    return _SPEECH_LIMITS.format(sampling_rate=sampling_rate, labels=named)


def _is_ours(model: PreTrainedModel) -> bool:
    return model.config.model_type == AttentionRnnConfig.model_type


def _quote(value: Any) -> str:
    """As Python writes it."""
    return json.dumps(value, ensure_ascii=False)


def _python(code: str) -> str:
    return f"```python\n{code}```"


def _ours(code: str) -> str:
    return _python(f"import attention_rnn  # pip install attention-rnn\n{code}") + "\n\n"
