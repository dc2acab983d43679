"""Targets in chunks: what each token of a source becomes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Regex, pre_tokenizers

from attention_rnn import chunks as chunks_module
from attention_rnn.chunks import (
    ChunkAligner,
    TargetChunks,
    _expected_counts,
    _list_events,
    can_be_aligned,
    writes_chunks,
)
from attention_rnn.pairs import choose_normalization
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_seq2seq

# "sh" is one sound, "x" is two, "e" at the end none
# fmt: off
WORDS = {
    "sash": "saS", "shed": "Sed", "hash": "haS", "bash": "baS", "dash": "daS", "ash": "aS", "has": "has", "sad":
    "sad", "ad": "ad", "had": "had", "hed": "hed", "ax": "aks", "bax": "baks", "saxe": "saks", "base": "bas",
    "bed": "bed", "dase": "das", "bade": "bad", "abe": "ab", "deb": "deb", "dab": "dab", "be": "be",
}
# fmt: on


@pytest.fixture(scope="module")
def aligner():
    return ChunkAligner((list(word), list(sounds)) for word, sounds in WORDS.items())


@pytest.mark.parametrize(
    ("word", "sounds", "chunks"),
    [
        ("ad", "ad", ["a", "d"]),
        ("bax", "baks", ["b", "a", "ks"]),
        ("base", "bas", ["b", "a", "s", ""]),
        ("a", "adbed", ["adbed"]),
        ("z", "", [""]),
        ("zq", "ad", ["a", "d"]),
    ],
)
def test_each_token_gets_what_it_becomes(aligner, word, sounds, chunks):
    assert ["".join(chunk) for chunk in aligner(list(word), list(sounds))] == chunks


def test_two_letters_of_one_sound_share_it_in_one_way(aligner):
    cut = [aligner(list(word), list(WORDS[word]))[-2:] for word in ("sash", "hash", "bash", "ash", "dash")]
    assert all(chunks == cut[0] for chunks in cut)
    assert sorted(cut[0]) == [[], ["S"]]


def every_way(source, target):
    """All ways to cut a target, each as its events."""
    if not source:
        return [] if target else [[]]
    ways = []
    for size in range(len(target) + 1):
        ways += [[(source[0], tuple(target[:size])), *rest] for rest in every_way(source[1:], target[size:])]
    return ways


def test_of_many_pairs_it_learns_from_everywhere(monkeypatch):
    # sorted as lists of words are: the letters of the last words do not stand in the first
    pairs = [("ax", "aks")] * 50 + [("ex", "eks")] * 50
    monkeypatch.setattr(chunks_module, "MOST_EVENTS", 40 * len(_list_events("ax", "aks")[0]))
    aligner = ChunkAligner((list(source), list(target)) for source, target in pairs)
    assert set(aligner.totals) == {"a", "e", "x"}


@pytest.mark.parametrize("length", [40, 200, 2_000])
def test_a_pair_that_cannot_be_aligned_spoils_no_others(aligner, length):
    pairs = [*WORDS.items(), ("a", "S" * length), ("ab", "S" * length)]
    spoilt = ChunkAligner((list(word), list(sounds)) for word, sounds in pairs)
    assert [spoilt(word, WORDS[word]) for word in WORDS] == [aligner(word, WORDS[word]) for word in WORDS]
    assert "".join(spoilt("a", "S" * length)) == "S" * length
    assert can_be_aligned(*zip(*pairs, strict=True))


def test_many_symbols_at_each_of_many_tokens_spoil_nothing():
    spoilt = ChunkAligner([*WORDS.items(), ("abcdefgh" * 20, "S" * 2_000)])
    assert ["".join(spoilt(word, WORDS[word])) for word in WORDS] == list(WORDS.values())
    assert ["".join(chunk) for chunk in spoilt("bad", "bad")] == ["b", "a", "d"]


def test_expected_counts_equal_those_of_all_ways_to_cut(monkeypatch):
    monkeypatch.setattr(chunks_module, "LONGEST_CHUNK", 4)  # as long as the target
    source, target = ["x", "y", "x"], list("abca")
    events, shape = _list_events(source, target)
    random = np.random.default_rng(0)
    probability = {event: random.uniform(0.1, 1) for event in events if event is not None}
    probabilities = np.reshape([0 if event is None else probability[event] for event in events], shape)
    found: dict = {}
    for event, count in zip(events, _expected_counts(probabilities).ravel(), strict=True):
        found[event] = found.get(event, 0) + count
    ways = every_way(source, target)
    weights = np.array([np.prod([probability[event] for event in way]) for way in ways])
    expected: dict = {}
    for way, weight in zip(ways, weights / weights.sum(), strict=True):
        for event in way:
            expected[event] = expected.get(event, 0) + weight
    assert found.pop(None, 0) == 0
    assert {event: count for event, count in found.items() if count > 1e-12} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("targets", "decoded"),
    [(["k ə t", "ə t", "k ə", "t ə k"] * 9, "k ə t"), (["ABC", "BC", "AB C", "CBA"], "AB C")],
    ids=["symbols between spaces", "characters"],
)
def test_chunks_are_decoded_as_the_target(targets, decoded):
    sources = ["".join(target.split()).lower() for target in targets]
    examples = Dataset.from_dict({"source": sources, "target": targets})
    source = train_tokenizer(sources, kind="character")
    spelt = examples.map(TargetChunks(examples, source), batched=True)["target"]
    tokenizer = pair_tokenizers(source, train_tokenizer(spelt, kind="chunk"))
    assert writes_chunks(tokenizer)
    assert not writes_chunks(source)
    for text, target in zip(spelt, targets, strict=True):
        ids = tokenizer(text_target=text)["input_ids"]
        assert len(ids) == len(tokenizer("".join(target.split()).lower())["input_ids"])
        assert tokenizer.decode(ids, skip_special_tokens=True) == target
    assert decoded in targets


@pytest.mark.parametrize(("separator", "space"), [(" ", " "), ("", "")], ids=["symbols between spaces", "characters"])
def test_the_first_of_two_steps_writes_one_symbol_and_the_second_the_rest(separator, space):
    examples = Dataset.from_dict({"source": list(WORDS), "target": [separator.join(of) for of in WORDS.values()]})
    chunks = TargetChunks(examples, train_tokenizer(WORDS, kind="character"), steps=2)
    asked = {"source": ["bax", "be", "a"], "target": [separator.join(of) for of in ("baks", "b", "kad")]}
    expected = ["b│∅│a│∅│k│s", "b│∅│∅│∅", "k│ad"]
    assert chunks(asked)["target"] == [
        "│".join("".join(space + of for of in chunk) if chunk != "∅" else chunk for chunk in text.split("│"))
        for text in expected
    ]


NAMES = [f"{first} {last}" for first in ("anna", "peter", "li", "jose", "ivan") for last in ("rossi", "wang", "novak")]
SYLLABLES = [chr(0x4E00 + 2 * index) + chr(0x4E01 + 6 * index) for index in range(40)]


@pytest.mark.parametrize(
    ("sources", "targets", "expected"),
    [
        (list(WORDS), list(WORDS.values()), True),
        (list(WORDS), [" ".join(sounds) for sounds in WORDS.values()], True),
        (NAMES, NAMES, True),
        (NAMES, [" ".join(reversed(name.split())) for name in NAMES], False),  # turned
        (NAMES, ["first", "second", "third"] * 5, False),  # labels
        (list(WORDS), [f"{word}-{word}" for word in WORDS], False),  # twice
        (SYLLABLES, SYLLABLES, False),  # most are new in the next text, and can be copied at best
        (["a"] * 9, [" "] * 9, False),
        (["a long text. " * 900] * 9, ["a text. " * 900] * 9, False),  # at once
    ],
)
def test_pairs_can_be_aligned_whose_targets_follow_their_sources(sources, targets, expected):
    assert can_be_aligned(sources, targets) == expected


def test_letters_are_taken_apart_where_many_are_rare():
    syllables = [chr(0xAC00 + 37 * index) + chr(0xAC00 + 91 * index) for index in range(100)]
    assert choose_normalization(syllables) == "NFD"
    assert choose_normalization(["été", "thé", "née"] * 30) == "NFC"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "word", "character"])
def test_other_tokenizers_write_no_chunks(kind):
    assert not writes_chunks(train_tokenizer(["the chunks of a text"] * 9, kind=kind, vocab_size=40))


def test_a_tokenizer_that_cuts_before_signs_writes_no_chunks():
    tokenizer = train_tokenizer(["the chunks of a text"] * 9, kind="bpe", vocab_size=40)
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+")  # of Qwen and Llama 3
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="isolated")
    assert not writes_chunks(tokenizer)


def test_signs_of_chunks_are_no_symbols():
    examples = Dataset.from_dict({"source": ["a"], "target": ["∅"]})
    with pytest.raises(ValueError, match="must not hold ∅"):
        TargetChunks(examples, train_tokenizer(["a"], kind="character"))


@pytest.mark.parametrize(("separator", "unit"), [(" ", " kk"), ("", "kk")])
def test_few_more_pairs_are_cut_into_what_the_tokenizer_knows(separator, unit):
    trained = Dataset.from_dict({"source": list(WORDS), "target": [separator.join(of) for of in WORDS.values()]})
    source = train_tokenizer(WORDS, kind="character")
    chunks = TargetChunks(trained, source)(trained[:])["target"]
    both = pair_tokenizers(source, train_tokenizer(chunks, kind="chunk"))
    more = Dataset.from_dict({"source": ["b"], "target": ["kk"]})  # which alone could be a symbol or two
    assert TargetChunks(more, both)(more[:])["target"] == [unit]


def test_all_that_the_longest_source_becomes_is_written(tmp_path):
    rows = [{"source": word, "target": sounds} for word, sounds in [*WORDS.items(), ("bad" * 80, "bad" * 80)]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--do_train", "--use_cpu", "True", "--max_steps", "1", "--num_heat_maps", "0", "--train_file"]
    words += [tmp_path / "rows.jsonl", "--output_dir", tmp_path / "model", "--source_tokenizer", "character"]
    sizes = "embedding_size=4,hidden_size=4,attention_type=aligned,aligned_steps=2"
    run_seq2seq.main([*map(str, words), "--target_tokenizer", "chunk", "--config_overrides", sizes])
    settings = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    # two for each of its tokens, one of which ends it, and what the decoder begins with
    assert settings["max_length"] == 2 * (3 * 80 + 1) + 1


def test_a_model_of_phones_is_not_fine_tuned_on_words(tmp_path):
    rows = [{"source": word, "target": " ".join(sounds)} for word, sounds in WORDS.items()]
    for name, of_file in (("phones", rows), ("words", [{"source": word, "target": word} for word in WORDS])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_file))
    common = ["--do_train", "--use_cpu", "True", "--max_steps", "1", "--num_heat_maps", "0", "--output_dir"]
    new = ["--source_tokenizer", "character", "--target_tokenizer", "chunk", "--train_file", tmp_path / "phones.jsonl"]
    sizes = ["--config_overrides", "embedding_size=4,hidden_size=4,attention_type=aligned"]
    run_seq2seq.main([*map(str, [*common, tmp_path / "model", *new]), *sizes])
    more = ["--model_name_or_path", tmp_path / "model", "--train_file", tmp_path / "words.jsonl", "--extend_vocabulary"]
    with pytest.raises(ValueError, match="writes symbols between spaces, such as phones, got targets that are none"):
        run_seq2seq.main([*map(str, [*common, tmp_path / "more", *more])])


@pytest.mark.parametrize("steps", [1, 2])
def test_a_script_learns_chunks_and_goes_on_with_new_ones(steps, tmp_path, monkeypatch):
    rows = [{"source": word, "target": " ".join(sounds)} for word, sounds in WORDS.items()]
    new = [*rows, *[{"source": "qed", "target": "k w e d"}] * 4]
    for name, of_file in (("train", rows), ("new", new)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_file))
    common = ["--do_train", "--do_predict", "--use_cpu", "True", "--num_heat_maps", "1", "--num_beams", "2"]
    common += ["--metrics", "exact_match", "--report_to", "none", "--save_strategy", "no", "--learning_rate", "0.02"]
    sizes = "embedding_size=16,hidden_size=32,decoder_layers=2,context_feeding=parallel,attention_type=aligned"
    first = ["--train_file", tmp_path / "train.jsonl", "--test_file", tmp_path / "train.jsonl", "--output_dir"]
    first += [tmp_path / "model", "--source_tokenizer", "character", "--target_tokenizer", "chunk", "--max_steps", "90"]
    run_seq2seq.main([*map(str, first), *common, "--config_overrides", f"{sizes},aligned_steps={steps}"])
    assert json.loads((tmp_path / "model" / "all_results.json").read_text())["predict_exact_match"] > 90
    more = ["--train_file", tmp_path / "new.jsonl", "--test_file", tmp_path / "new.jsonl", "--output_dir"]
    more += [tmp_path / "more", "--model_name_or_path", tmp_path / "model", "--extend_vocabulary", "--max_steps", "90"]
    run_seq2seq.main([*map(str, more), *common])
    predictions = [json.loads(line) for line in (tmp_path / "more" / "generated_predictions.jsonl").open()]
    assert predictions[-1] == {"source": "qed", "prediction": "k w e d", "reference": "k w e d"}
