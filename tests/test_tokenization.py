import copy
import json
import os
import pickle
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, DataCollatorForSeq2Seq, PreTrainedTokenizerFast, TextStreamer
from transformers.generation.stopping_criteria import StopStringCriteria

from attention_rnn import AttentionRnnConfig, AttentionRnnTokenizer
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

KINDS = ("bpe", "unigram", "word", "character")
TEXTS = [
    "le mardi 3 mars 1998",
    "1998年3月3日",
    "3. März 1998",
    "вторник, 3 марта 1998 г.",
    "le lundi 2 mars 1998",
    "a  b\tc\nd",
]
TOKENIZERS = {kind: train_tokenizer(TEXTS, kind, vocab_size=200) for kind in KINDS}
ALPHABET = sorted({character for text in TEXTS for character in text} | {"a\u0308"})


def decoded(tokenizer, text, **kwargs):
    return tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True, **kwargs)


# One vocabulary


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_those_every_model_config_expects(kind):
    tokenizer = TOKENIZERS[kind]
    assert type(tokenizer) is PreTrainedTokenizerFast
    assert [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id] == [
        0,
        1,
        2,
        3,
    ]
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]
    encoding = tokenizer("3 mars")
    assert list(encoding) == ["input_ids", "attention_mask"]
    assert encoding["input_ids"][-1] == 2
    assert not {0, 1, 2, 3} & set(encoding["input_ids"][:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_saved_tokenizer_loads_to_the_same_behaviour(kind, tmp_path):
    tokenizer = TOKENIZERS[kind]
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is PreTrainedTokenizerFast
    assert loaded.get_vocab() == tokenizer.get_vocab()
    text = " le  mardi 3 mars, xyz"
    assert dict(loaded(text, return_tensors="np")).keys() == dict(tokenizer(text, return_tensors="np")).keys()
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert decoded(loaded, text) == decoded(tokenizer, text)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
@settings(max_examples=100, deadline=None)
@given(text=st.lists(st.sampled_from([*ALPHABET, "  ", " mars "])).map("".join))
def test_decode_restores_every_text_of_known_characters(kind, text):
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
    assert decoded(tokenizer, text) == unicodedata.normalize("NFC", text)


def test_words_are_split_at_white_space_and_joined_with_one_space():
    tokenizer = train_tokenizer(["h ə l oʊ", "w ɜː l d"], "word")
    assert tokenizer.tokenize(" h ə  l\toʊ") == ["h", "ə", "l", "oʊ"]
    assert decoded(tokenizer, " h ə  l\toʊ") == "h ə l oʊ"


def test_characters_are_single_code_points():
    text = "a 日\u200d\n👩"
    assert train_tokenizer([text], "character").tokenize(text) == list(text)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_first_word_has_the_tokens_it_has_elsewhere(kind):
    first, second = (TOKENIZERS[kind](text)["input_ids"] for text in ("mars", "le mars"))
    assert second[-len(first) :] == first


@pytest.mark.parametrize("kind", KINDS)
def test_composed_and_decomposed_text_are_the_same(kind):
    tokenizer = TOKENIZERS[kind]
    assert tokenizer("Ma\u0308rz")["input_ids"] == tokenizer("März")["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_lowercase(kind):
    tokenizer = train_tokenizer(["Ä <UNK> É"], kind, lowercase=True)
    assert decoded(tokenizer, "Ä É") == "ä é"
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_nfd_takes_letters_apart():
    tokenizer = train_tokenizer(["각é"], "character", normalization="NFD")
    assert tokenizer.tokenize("각é") == list("\u1100\u1161\u11a8e\u0301")


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_text_keep_their_ids(kind):
    tokenizer = train_tokenizer(["a <unk> b </s>"], kind)
    assert [tokenizer.unk_token_id, tokenizer.eos_token_id] == [3, 2]
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert 3 in tokenizer("a <unk> b")["input_ids"]


@pytest.mark.parametrize(("kind", "expected"), [("word", ["b", "a"]), ("character", ["b", "a"])])
def test_vocab_size_keeps_the_most_frequent(kind, expected):
    texts = ["b", "b", "b", "a", "a", "c"]
    tokenizer = train_tokenizer(texts, kind, vocab_size=6)
    assert tokenizer.convert_ids_to_tokens([4, 5]) == expected
    assert tokenizer("c")["input_ids"] == [3, 2]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_subword_vocabularies_hold_every_character(kind):
    alphabet = len({character for text in TEXTS for character in text})
    for vocab_size in (4 + alphabet, 4 + alphabet + 5):
        tokenizer = train_tokenizer(TEXTS, kind, vocab_size=vocab_size)
        assert len(tokenizer) <= vocab_size
        assert tokenizer.unk_token_id not in tokenizer("".join(TEXTS))["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_vocab_size_beyond_reach_is_no_error(kind):
    assert len(train_tokenizer(["ab"], kind, vocab_size=10**6)) < 12


def test_min_frequency():
    texts = ["aa aa aa b"]
    assert "b" not in train_tokenizer(texts, "word", min_frequency=2).get_vocab()
    assert "b" not in train_tokenizer(texts, "character", min_frequency=2).get_vocab()
    vocabulary = train_tokenizer(texts, "bpe", min_frequency=2).get_vocab()
    assert {"▁aa", "b"} <= vocabulary.keys()
    assert "▁b" not in vocabulary


@pytest.mark.parametrize("kind", KINDS)
def test_training_again_gives_the_same_tokenizer(kind):
    words = [f"{stem}{ending}" for stem in ("mar", "lun", "ma", "и", "日") for ending in ("di", "s", "0", "((", "é!")]
    states = {train_tokenizer(words, kind, vocab_size=60).backend_tokenizer.to_str() for _ in range(5)}
    assert len(states) == 1


def test_texts_may_come_from_a_generator():
    texts = (text for text in TEXTS)
    assert train_tokenizer(texts, "character").get_vocab() == TOKENIZERS["character"].get_vocab()


@pytest.mark.parametrize("kind", KINDS)
def test_a_causal_tokenizer_leaves_the_text_open(kind, tmp_path):
    train_tokenizer(TEXTS, kind, vocab_size=200, causal=True).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts = ["3 mars", "3"]
    plain = [TOKENIZERS[kind](text)["input_ids"][:-1] for text in texts]
    missing = len(plain[0]) - len(plain[1])
    assert tokenizer(texts, padding=True)["input_ids"] == [[1, *plain[0]], [0] * missing + [1, *plain[1]]]
    assert tokenizer(*texts)["input_ids"] == [1, *plain[0], *plain[1]]


def test_model_max_length_is_where_truncation_cuts():
    assert train_tokenizer(["abc"], "character", model_max_length=3)("abcabc", truncation=True)["input_ids"][2] == 2
    assert TOKENIZERS["character"].model_max_length > 10**9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalization": "nfd"}, "`normalization`"),
        ({"kind": "sentencepiece"}, "`kind` must be one of bpe, unigram, word, character, chunk, got 'sentencepiece'"),
        ({"vocab_size": 4}, "`vocab_size` must be an integer of at least 5, got 4"),
        ({"vocab_size": 100.0}, "`vocab_size` must be an integer of at least 5, got 100.0"),
        ({"kind": "bpe", "vocab_size": 10}, "`vocab_size` must leave room for every character.*got 10"),
        ({"kind": "unigram", "vocab_size": 5}, "`vocab_size` must leave room for every character.*got 5"),
        ({"kind": "unigram", "vocab_size": 10}, "`vocab_size` must leave room for every character.*got 10"),
        ({"min_frequency": 0}, "`min_frequency` must be an integer of at least 1, got 0"),
        ({"kind": "unigram", "min_frequency": 2}, "`min_frequency` must be 1 for kind='unigram'.*got 2"),
        ({"kind": "word", "min_frequency": 9}, "`texts` must hold at least one token"),
        ({"model_max_length": 0}, "`model_max_length` must be an integer of at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(TEXTS, **arguments)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], [""], ["<unk>"]])
def test_texts_without_a_token(kind, texts):
    with pytest.raises(ValueError, match="`texts` must hold at least one token"):
        train_tokenizer(iter(texts), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_must_be_strings(kind):
    with pytest.raises(TypeError, match=r"`texts` must hold strings, got \['a'\] of <class 'list'> at index 1"):
        train_tokenizer(["a", ["a"]], kind)
    with pytest.raises(TypeError, match="`texts` must be an iterable of strings, got one string, 'abc'"):
        train_tokenizer("abc", kind)


def test_errors_of_the_iterator_are_its_own():
    def texts():
        yield "a"
        raise KeyError("column")

    with pytest.raises(KeyError, match="column"):
        train_tokenizer(texts())


# Two vocabularies


@pytest.fixture(scope="module")
def sides():
    source = train_tokenizer(["hello", "world", "low"], "character")
    target = train_tokenizer(["h ə l oʊ", "w ɜː l d", "l oʊ"], "word")
    return source, target


@pytest.fixture
def pair(sides):
    return pair_tokenizers(*sides)


def test_each_side_has_its_own_vocabulary(pair, sides):
    source, target = sides
    assert pair("hello")["input_ids"] == source("hello")["input_ids"]
    assert pair(text_target="h ə l oʊ")["input_ids"] == target("h ə l oʊ")["input_ids"]
    both = pair(["hello", "low"], text_target=["h ə l oʊ", "l oʊ"])
    assert both["input_ids"] == source(["hello", "low"])["input_ids"]
    assert both["labels"] == target(["h ə l oʊ", "l oʊ"])["input_ids"]
    assert list(both) == ["input_ids", "attention_mask", "labels"]
    with pytest.raises(ValueError, match="text_target"):
        pair()


def test_decode_reads_target_ids_unless_told_otherwise(pair):
    both = pair(["hello", "low"], text_target=["h ə l oʊ", "l oʊ"])
    assert pair.decode(both["labels"][0], skip_special_tokens=True) == "h ə l oʊ"
    assert pair.decode(torch.tensor(both["labels"][0])) == "h ə l oʊ </s>"
    assert pair.batch_decode(both["labels"], skip_special_tokens=True) == ["h ə l oʊ", "l oʊ"]
    source = {"skip_special_tokens": True, "use_source_tokenizer": True}
    assert pair.decode(both["input_ids"][0], **source) == "hello"
    assert pair.batch_decode(both["input_ids"], **source) == ["hello", "low"]


def test_lengths_truncation_and_padding_hold_for_both_sides(pair):
    both = pair(
        ["hello", "low"],
        text_target=["h ə l oʊ", "l oʊ"],
        max_length=4,
        max_target_length=3,
        truncation=True,
        padding=True,
        return_tensors="pt",
    )
    assert both["input_ids"].shape == (2, 4)
    assert both["labels"].shape == (2, 3)
    assert both["input_ids"][:, -1].tolist() == both["labels"][:, -1].tolist() == [2, 2]
    left = pair(["hello", "low"], text_target=["h", "l oʊ"], padding="max_length", max_length=7, padding_side="left")
    assert [row[0] for row in left["input_ids"] + left["labels"]] == [0] * 4
    assert [row[-1] for row in left["input_ids"] + left["labels"]] == [2] * 4


def test_collator_pads_both_sides(pair):
    features = [pair("hello", text_target="h ə l oʊ"), pair("low", text_target="l oʊ")]
    batch = DataCollatorForSeq2Seq(pair)(features)
    assert batch["input_ids"][1].tolist() == [*pair("low")["input_ids"], 0, 0]
    assert batch["attention_mask"][1].tolist() == [1, 1, 1, 1, 0, 0]
    assert batch["labels"][1].tolist() == [*pair(text_target="l oʊ")["input_ids"], -100, -100]


def test_streamer_prints_the_target(pair, capsys):
    streamer = TextStreamer(pair, skip_special_tokens=True)
    for token in [pair.bos_token_id, *pair(text_target="h ə l oʊ")["input_ids"]]:
        streamer.put(torch.tensor([token]))
    streamer.end()
    assert capsys.readouterr().out == "h ə l oʊ\n"


def test_stop_strings_take_the_target():
    source = train_tokenizer(["hello"], "character")
    target = train_tokenizer(["abcdef x;y"], "character")
    pair = pair_tokenizers(source, target)
    criterion = StopStringCriteria(pair.target, ";")
    ids = torch.tensor([pair.target(text, add_special_tokens=False)["input_ids"] for text in ("abc;", "abcx")])
    assert criterion(ids, None).tolist() == [True, False]


def test_added_tokens_and_lengths_survive_saving(pair, tmp_path):
    lengths = len(pair), len(pair.target)
    assert pair.add_tokens(["ß", "ç"]) == 2
    assert pair.target.add_tokens(["ʒ"]) == 1
    files = pair.save_pretrained(tmp_path)
    assert {Path(file).name for file in files} == {
        "tokenizer_config.json",
        *AttentionRnnTokenizer.vocab_files_names.values(),
    }
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for tokenizer in (pair, loaded):
        assert (len(tokenizer), len(tokenizer.target)) == (lengths[0] + 2, lengths[1] + 1)
        assert tokenizer("ßç")["input_ids"] == [lengths[0], lengths[0] + 1, 2]
        assert tokenizer(text_target="ʒ")["input_ids"] == [lengths[1], 2]


def test_special_tokens_of_the_target_alone_stay_special(sides, tmp_path):
    target = copy.deepcopy(sides[1])
    target.add_special_tokens({"extra_special_tokens": ["<2de>", "<2fr>"]})
    pair = pair_tokenizers(sides[0], target)
    pair.target.add_special_tokens({"extra_special_tokens": ["<2es>"]}, replace_extra_special_tokens=False)
    pair.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for tokenizer in (pair, loaded):
        assert tokenizer.target.extra_special_tokens == ["<2de>", "<2fr>", "<2es>"]
        ids = tokenizer(text_target="<2de>l oʊ<2es>")["input_ids"]
        assert len(ids) == 5
        assert tokenizer.decode(ids, skip_special_tokens=True) == "l oʊ"
        assert len(tokenizer.target) == len(sides[1]) + 3


@pytest.mark.parametrize("with_config", [False, True])
def test_pair_and_single_load_through_auto_tokenizer(pair, sides, tmp_path, with_config):
    for folder, tokenizer in (("pair", pair), ("single", sides[0])):
        tokenizer.save_pretrained(tmp_path / folder)
        if with_config:
            AttentionRnnConfig(vocab_size=len(sides[1])).save_pretrained(tmp_path / folder)
        loaded = AutoTokenizer.from_pretrained(tmp_path / folder)
        assert type(loaded) is type(tokenizer)
        assert loaded("hello")["input_ids"] == tokenizer("hello")["input_ids"]
    loaded = AutoTokenizer.from_pretrained(tmp_path / "pair")
    assert loaded.decode(loaded(text_target="h ə l oʊ")["input_ids"], skip_special_tokens=True) == "h ə l oʊ"
    assert decoded(loaded, "hello", use_source_tokenizer=True) == "hello"


def test_settings_reach_both_sides(sides, tmp_path):
    source = train_tokenizer(["hello"], "character", model_max_length=3)
    pair = pair_tokenizers(source, sides[1])
    assert pair.model_max_length == pair.target.model_max_length == 3
    pair.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, padding_side="left")
    assert loaded.model_max_length == loaded.target.model_max_length == 3
    assert loaded.padding_side == loaded.target.padding_side == "left"


def test_pair_is_independent_of_what_it_was_made_of(sides):
    source, target = copy.deepcopy(sides[0]), copy.deepcopy(sides[1])
    pair = pair_tokenizers(source, target)
    source.add_tokens(["ß"])
    target.add_tokens(["ʒ"])
    assert pair("ß")["input_ids"] == pair(text_target="ʒ")["input_ids"] == [3, 2]


def test_pair_can_be_pickled(pair):
    loaded = pickle.loads(pickle.dumps(pair))
    assert loaded.decode(loaded(text_target="l oʊ")["input_ids"]) == "l oʊ </s>"


def test_special_tokens_must_have_the_same_ids(sides):
    backend = Tokenizer(WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "<pad>": 3}, unk_token="<unk>"))
    target = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(ValueError, match=r"`target` must give pad_token '<pad>' the id .* 0, got 3"):
        pair_tokenizers(sides[0], target)


def test_special_tokens_of_the_source_alone_do_not_enter_the_target(sides):
    source = copy.deepcopy(sides[0])
    source.add_special_tokens({"mask_token": "<mask>", "extra_special_tokens": ["<2en>"]})
    source.bos_token = None
    pair = pair_tokenizers(source, sides[1])
    assert len(pair.target) == len(sides[1])
    assert pair.decode(pair("<2en>low")["input_ids"], use_source_tokenizer=True, skip_special_tokens=True) == "low"


@pytest.mark.parametrize("position", [0, 1])
def test_pairs_cannot_be_paired(sides, position):
    arguments = list(sides)
    arguments[position] = pair_tokenizers(*sides)
    with pytest.raises(TypeError, match=f"`{('source', 'target')[position]}` must be a PreTrainedTokenizerFast of one"):
        pair_tokenizers(*arguments)


def test_folder_without_the_target(pair, tmp_path):
    pair.save_pretrained(tmp_path)
    (tmp_path / "target_tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"must hold target_tokenizer\.json"):
        AutoTokenizer.from_pretrained(tmp_path)


REMOTE = """
import sys
sys.modules["attention_rnn"] = None  # no import finds it any more
from transformers import AutoTokenizer

for folder, copy in (sys.argv[1:3], sys.argv[2:4]):
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert type(tokenizer).__module__.startswith("transformers_modules."), type(tokenizer)
    both = tokenizer("hello", text_target="h ə l oʊ")
    assert tokenizer.decode(both["labels"], skip_special_tokens=True) == "h ə l oʊ"
    assert tokenizer.decode(both["input_ids"], skip_special_tokens=True, use_source_tokenizer=True) == "hello"
    tokenizer.save_pretrained(copy)
single = AutoTokenizer.from_pretrained(sys.argv[4])
assert single.decode(single("hello")["input_ids"], skip_special_tokens=True) == "hello"
"""


def test_saved_folder_loads_where_the_package_is_missing(pair, sides, tmp_path):
    folders = [str(tmp_path / name) for name in ("saved", "again", "and_again", "single")]
    pair.save_pretrained(folders[0])
    sides[0].save_pretrained(folders[3])
    for folder in (folders[0], folders[3]):
        AttentionRnnConfig(vocab_size=len(sides[1])).save_pretrained(folder)
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", REMOTE, *folders],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    configs = [json.loads(Path(folder, "tokenizer_config.json").read_text()) for folder in folders[:3]]
    assert configs[0]["auto_map"] == configs[2]["auto_map"]
    assert type(AutoTokenizer.from_pretrained(folders[2])) is AttentionRnnTokenizer
