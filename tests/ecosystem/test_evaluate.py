"""
evaluate: its evaluators drive our pipelines over a data set.

They get a model and its tokenizer: given a pipeline, evaluate 0.4.6 looks for a class of TensorFlow that transformers 5
has not.
"""

import pytest
import torch
from clients import TEXTS, tiny_causal_model
from tiny import tiny_config, tiny_model

evaluate = pytest.importorskip("evaluate")
from datasets import ClassLabel, Dataset, Features, Sequence, Value  # noqa: E402
from transformers import pipeline  # noqa: E402

from attention_rnn import (  # noqa: E402
    AttentionRnnForQuestionAnswering,
    AttentionRnnForSequenceClassification,
    AttentionRnnForTokenClassification,
)
from attention_rnn.tokenizer_training import train_tokenizer  # noqa: E402


@pytest.fixture
def tokenizer():
    return train_tokenizer(TEXTS, kind="word")


class Share(evaluate.Metric):
    """The share of rows that are right, without a script from the Hub."""

    def __init__(self, kind):
        self.kind = kind
        super().__init__()

    def _info(self):
        features = Features({"predictions": self.kind, "references": self.kind})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        pairs = zip(predictions, references, strict=True)
        return {"share": sum(prediction == reference for prediction, reference in pairs) / len(references)}


def labels(*names):
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {n: i for i, n in enumerate(names)},
    }


def test_text_classification(tokenizer):
    torch.manual_seed(0)
    model = AttentionRnnForSequenceClassification(tiny_config(vocab_size=len(tokenizer), **labels("no", "yes"))).eval()
    answers = [
        model.config.label2id[answer["label"]]
        for answer in pipeline("text-classification", model=model, tokenizer=tokenizer)(TEXTS)
    ]
    scores = evaluate.evaluator("text-classification").compute(
        model,
        tokenizer=tokenizer,
        data=Dataset.from_dict({"text": TEXTS, "label": [*answers[:6], *(1 - answer for answer in answers[6:])]}),
        metric=Share(Value("int64")),
        label_mapping=model.config.label2id,
    )
    assert scores["share"] == 6 / 8


@pytest.mark.parametrize("crf", [False, True])
def test_token_classification(tokenizer, crf):
    torch.manual_seed(0)
    names = ("O", "B-X", "I-X")
    config = tiny_config(vocab_size=len(tokenizer), attention_type=None, crf=crf, **labels(*names))
    model = AttentionRnnForTokenClassification(config).eval()
    pipe = pipeline("token-classification", model=model, tokenizer=tokenizer, ignore_labels=[])
    answers = [[names.index(token["entity"]) for token in tokens] for tokens in pipe(TEXTS)]
    answers[0][0] = (answers[0][0] + 1) % len(names)
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=list(names)))})
    scores = evaluate.evaluator("token-classification").compute(
        model,
        tokenizer=tokenizer,
        data=Dataset.from_dict({"tokens": [text.split() for text in TEXTS], "ner_tags": answers}, features),
        metric=Share(Sequence(Value("string"))),
    )
    assert scores["share"] == 7 / 8


class Squad(evaluate.Metric):
    """The share of answers that are right."""

    def _info(self):
        answer = {"id": Value("string"), "prediction_text": Value("string")}
        reference = {
            "id": Value("string"),
            "answers": {"text": Sequence(Value("string")), "answer_start": Sequence(Value("int32"))},
        }
        features = Features({"predictions": answer, "references": reference})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        pairs = zip(predictions, references, strict=True)
        right = [answer["prediction_text"] in reference["answers"]["text"] for answer, reference in pairs]
        return {"share": sum(right) / len(right)}


def test_question_answering(tokenizer):
    torch.manual_seed(0)
    model = AttentionRnnForQuestionAnswering(tiny_config(vocab_size=len(tokenizer))).eval()
    pipe = pipeline("question-answering", model=model, tokenizer=tokenizer)
    questions, contexts = TEXTS[:4], TEXTS[4:]
    answers = [
        pipe(question=question, context=context)["answer"]
        for question, context in zip(questions, contexts, strict=True)
    ]
    answers[3] = "nothing of it"
    scores = evaluate.evaluator("question-answering").compute(
        model,
        tokenizer=tokenizer,
        data=Dataset.from_dict(
            {
                "id": ["0", "1", "2", "3"],
                "question": questions,
                "context": contexts,
                "answers": [{"text": [answer], "answer_start": [0]} for answer in answers],
            }
        ),
        metric=Squad(),
        squad_v2_format=False,
    )
    assert scores["share"] == 3 / 4


@pytest.mark.parametrize("task", ["text2text-generation", "translation", "summarization"])
def test_conditional_generation(tokenizer, task):
    model = tiny_model(vocab_size=len(tokenizer))
    model.generation_config.max_new_tokens = 5
    pipe = pipeline(task, model=model, tokenizer=tokenizer)
    answers = [next(iter(answer.values())) for answer in pipe(TEXTS)]
    answers[0] += " or not"
    scores = evaluate.evaluator(task).compute(
        model,
        tokenizer=tokenizer,
        data=Dataset.from_dict({"source": TEXTS, "target": answers}),
        metric=Share(Value("string")),
        input_column="source",
        label_column="target",
    )
    assert scores["share"] == 7 / 8


class Words(evaluate.Measurement):
    """The mean number of words."""

    def _info(self):
        return evaluate.MeasurementInfo(description="", citation="", features=Features({"data": Value("string")}))

    def _compute(self, data):
        return {"words": sum(len(text.split()) for text in data) / len(data)}


def test_text_generation(tokenizer):
    model = tiny_causal_model(vocab_size=len(tokenizer))
    model.generation_config.update(max_new_tokens=5, min_new_tokens=5, do_sample=False)
    scores = evaluate.evaluator("text-generation").compute(
        model, tokenizer=tokenizer, data=Dataset.from_dict({"text": TEXTS}), metric=Words()
    )
    assert scores["words"] > 4
