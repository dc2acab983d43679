"""Small models as `attention-rnn train` leaves them, one of each task, with the columns of their training."""

import json

from tiny import tiny_config

from attention_rnn import (
    AttentionRnnForConditionalGeneration,
    AttentionRnnForQuestionAnswering,
    AttentionRnnForSequenceClassification,
    AttentionRnnForTokenClassification,
    cli,
)
from attention_rnn.commands.folder import settings_of
from attention_rnn.commands.models import COMMAND
from attention_rnn.tasks import Task
from attention_rnn.tokenizer_training import train_tokenizer

PAIRS = Task("pairs", {"source": ["source"], "target": ["target"]}, "")
INFLECTION = Task("pairs", {"source": ["lemma", "features"], "target": ["form"]}, "", spelt=True)
UNNAMED = Task("pairs", {"source": ["column 1"], "target": ["column 2"]}, "")
RATED = Task("classification", {"text": ["review"], "label": ["stars"]}, "")
PAIRED = Task("classification", {"text": ["premise", "hypothesis"], "label": ["label"]}, "")
LABELLED = Task("labelling", {"tokens": ["tokens"], "labels": ["labels"]}, "")
QUESTIONS = Task("question-answering", {}, "")
# of each model the class, the task, and the columns that its training file had
MODELS = {
    "pairs": (AttentionRnnForConditionalGeneration, PAIRS, ["source", "target"]),
    "inflection": (AttentionRnnForConditionalGeneration, INFLECTION, ["lemma", "form", "features"]),
    "rated": (AttentionRnnForSequenceClassification, RATED, ["stars", "review"]),
    "paired": (AttentionRnnForSequenceClassification, PAIRED, ["premise", "hypothesis", "label"]),
    "labelled": (AttentionRnnForTokenClassification, LABELLED, ["tokens", "labels"]),
    "questions": (AttentionRnnForQuestionAnswering, QUESTIONS, ["paragraphs"]),
}


def save_models(tmp_path_factory):
    """The folder of each."""
    tokenizer = train_tokenizer(["great bad New York is so a n ␣ N [N] [PL]"], kind="word")
    paths = {}
    for name, (model_class, task, names) in MODELS.items():
        paths[name] = tmp_path_factory.mktemp("models") / name
        labels = {} if name == "questions" else {"num_labels": 2}
        model_class(tiny_config(vocab_size=len(tokenizer), **labels)).save_pretrained(paths[name])
        tokenizer.save_pretrained(paths[name])
        settings = settings_of([], b"", task=vars(task), names=names)
        (paths[name] / COMMAND).write_text(json.dumps(settings), encoding="utf-8")
    return paths


def write(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="\n")
    return tmp_path / name


def predicted(folder, file, *arguments):
    output = file.with_name("out.jsonl")
    cli.main(["predict", str(folder), str(file), "-o", str(output), *arguments])
    return [json.loads(line) for line in output.read_text(encoding="utf-8").split("\n")[:-1]]


ARTICLE = {
    "paragraphs": [
        {"context": "great New York", "qas": [{"id": "1", "question": "is so"}, {"id": "2", "question": "so"}]}
    ]
}
