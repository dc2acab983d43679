"""Copying words that the vocabulary lacks, from text to ids and back."""

import json
import random
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from transformers import DataCollatorForSeq2Seq

from attention_rnn.copy_vocabulary import CopyVocabulary, DataCollatorForCopying
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_seq2seq
import translate

UNK, EOS = 3, 2
VOCAB_SIZE = 50  # of the model; larger than the tokenizer's
TEXTS = ["a b c d e", "a b c d", "a b c", "a b"]


def copying(kind="word", **options):
    return CopyVocabulary(train_tokenizer(TEXTS, kind, **options), VOCAB_SIZE)


def encode(vocabulary, texts, **options):
    return vocabulary.tokenizer(texts, **options)["input_ids"]


def test_unknown_words_are_numbered_source_by_source():
    vocabulary = copying()
    sources = ["a x b x y", "a b", "y x"]
    input_ids = encode(vocabulary, sources)
    unknown_words = vocabulary.unknown_words(sources, input_ids)
    assert unknown_words == [["x", "y"], [], ["y", "x"]]
    a, b = encode(vocabulary, ["a b"])[0][:2]
    assert vocabulary.extend(sources, input_ids, unknown_words) == [
        [a, 50, b, 50, 51, EOS],
        [a, b, EOS],
        [50, 51, EOS],
    ]


def test_a_target_has_the_ids_of_its_source_and_unk_for_what_that_lacks():
    vocabulary = copying()
    targets = ["y x z a", "x"]
    labels = vocabulary.extend(targets, encode(vocabulary, targets), [["x", "y"], ["z"]])
    a = encode(vocabulary, ["a"])[0][0]
    assert labels == [[51, 50, UNK, a, EOS], [UNK, EOS]]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("word", "x a yz b x"), ("character", "ab x\u3000yxa"), ("bpe", "xa byx x ab"), ("unigram", "b xa")],
)
def test_extended_ids_are_decoded_to_the_text(kind, text):
    vocabulary = copying(kind)
    inputs, unknown_words = vocabulary.encode_sources([text, "a"], padding=True, return_tensors="pt")
    assert UNK in inputs["input_ids"]
    assert UNK not in inputs["copy_ids"]
    assert vocabulary.batch_decode(inputs["copy_ids"], unknown_words) == [text, "a"]


def test_words_count_in_the_normal_form_of_the_tokenizer():
    vocabulary = copying(lowercase=True)
    sources, targets = ["A E\u0301cole"], ["\u00e9COLE"]
    unknown_words = vocabulary.unknown_words(sources, encode(vocabulary, sources))
    assert unknown_words == [["\u00e9cole"]]
    assert vocabulary.extend(targets, encode(vocabulary, targets), unknown_words) == [[50, EOS]]


@pytest.mark.parametrize("kind", ["word", "character", "bpe", "unigram"])
@pytest.mark.parametrize("normalization", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("text", ["a Jose\u0301", "a \u0130 b", "\ud55c \u1112\u1161\u11ab", "b \ufb01 x\u0344"])
def test_what_is_copied_is_the_text_in_the_normal_form_of_the_tokenizer(kind, normalization, lowercase, text):
    # the last mark of a letter counts, and so does each of the characters that one is taken apart to
    vocabulary = CopyVocabulary(train_tokenizer(["a b i"], kind, normalization=normalization, lowercase=lowercase), 50)
    inputs, unknown_words = vocabulary.encode_sources([text])
    expected = unicodedata.normalize(normalization, text.lower() if lowercase else text)
    assert vocabulary.batch_decode(inputs["copy_ids"], unknown_words) == [expected]


def test_special_tokens_in_a_text_are_none_of_its_words():
    vocabulary = copying(lowercase=True)
    _, unknown_words = vocabulary.encode_sources(["a <pad> X<unk><UNK>x"])
    assert unknown_words == [["x", "<unk>", "<unk>x"]]


@pytest.mark.parametrize(("side", "words"), [("right", ["x", "y"]), ("left", ["y", "z"])])
def test_ids_may_be_cut_and_padded_on_either_side(side, words):
    vocabulary = copying()
    vocabulary.tokenizer.truncation_side = vocabulary.tokenizer.padding_side = side
    sources = ["x y a z", "a"]
    options = {"truncation": True, "max_length": 4 if side == "left" else 3, "padding": True}
    inputs, unknown_words = vocabulary.encode_sources(sources, **options, return_tensors="pt")
    assert unknown_words == [words, []]
    assert [int(i) for i in inputs["copy_ids"][0] if i >= VOCAB_SIZE] == [50, 51]


def test_tokens_name_the_unknown_words():
    vocabulary = copying()
    a = encode(vocabulary, ["a"])[0][0]
    ids = torch.tensor([51, a, 50, VOCAB_SIZE - 1, EOS])  # the last but one is in the model's vocabulary alone
    assert vocabulary.convert_ids_to_tokens(ids, ["x", "y"]) == ["y", "a", "x", "<unk>", "</s>"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_collator_pads_copy_ids_like_the_input(side):
    vocabulary = copying()
    vocabulary.tokenizer.padding_side = side
    features = [
        {"input_ids": [5, UNK, EOS], "copy_ids": [5, 50, EOS], "labels": [50, EOS]},
        {"input_ids": [UNK, UNK, 6, 7, EOS], "copy_ids": [51, 50, 6, 7, EOS], "labels": [EOS]},
    ]
    batch = DataCollatorForCopying(vocabulary.tokenizer)(features)
    padding = [0, 0]
    first = [5, 50, EOS, *padding] if side == "right" else [*padding, 5, 50, EOS]
    assert batch["copy_ids"].tolist() == [first, [51, 50, 6, 7, EOS]]
    assert torch.equal(batch["copy_ids"] == 0, batch["attention_mask"] == 0)


def test_without_copy_ids_the_collator_is_that_of_transformers():
    tokenizer = copying().tokenizer
    features = [{"input_ids": [5, EOS], "labels": [6, 7, EOS]}, {"input_ids": [5, 6, EOS], "labels": [EOS]}]
    batch, expected = (collator(tokenizer)(features) for collator in (DataCollatorForCopying, DataCollatorForSeq2Seq))
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in batch)


def test_wrong_tokenizers_are_refused():
    tokenizer = copying().tokenizer
    with pytest.raises(TypeError, match="must be a PreTrainedTokenizerFast, got str"):
        CopyVocabulary("word", VOCAB_SIZE)
    with pytest.raises(ValueError, match="one vocabulary for source and target"):
        CopyVocabulary(pair_tokenizers(tokenizer, tokenizer), VOCAB_SIZE)
    with pytest.raises(ValueError, match="`vocab_size` must be at least the tokenizer's 9, got 8"):
        CopyVocabulary(tokenizer, 8)
    tokenizer.unk_token = None
    with pytest.raises(ValueError, match="must have an `unk_token`"):
        CopyVocabulary(tokenizer, VOCAB_SIZE)


def test_wrong_arguments_are_refused():
    vocabulary = copying()
    with pytest.raises(TypeError, match="`sources` must be a list of strings, got 'a x'"):
        vocabulary.encode_sources("a x")
    with pytest.raises(ValueError, match="`texts` and `ids` must have the same length, got 2 and 1"):
        vocabulary.unknown_words(["x", "y"], [[UNK, EOS]])
    with pytest.raises(ValueError, match="`ids` must be those of `texts`, got 2 unknown words for 'a x'"):
        vocabulary.unknown_words(["a x"], [[UNK, UNK, EOS]])
    with pytest.raises(ValueError, match="`ids` and `unknown_words` must have the same length, got 1 and 0"):
        vocabulary.extend(["x"], [[UNK, EOS]], [])
    with pytest.raises(ValueError, match=r"`ids` must be below 50 \+ 1, .* got 51"):
        vocabulary.batch_decode([[51, EOS]], [["x"]])


def name(generator):
    return "".join(generator.choices("bdfgklmnprst", k=6)).title()


def write_requests(file, count, seed):
    """Whom to call: a name that no other example has."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        called, other = name(generator), name(generator)
        before, after = (
            generator.choice(["please", "now", "and then"]),
            generator.choice(["", " today", f" not {other}"]),
        )
        rows.append({"source": f"{before} call {called}{after}", "target": f"to {called}"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    """A model trained by the script to copy names, and its test data."""
    folder = tmp_path_factory.mktemp("caller")
    write_requests(folder / "train.jsonl", 200, seed=0)
    rows = write_requests(folder / "test.jsonl", 21, seed=1)
    arguments = f"""--do_train --do_eval --do_predict --train_file {folder}/train.jsonl --output_dir {folder}/model
    --validation_file {folder}/test.jsonl --test_file {folder}/test.jsonl --source_tokenizer word --shared_vocabulary
    --min_frequency 3 --config_overrides copy=True,embedding_size=16,hidden_size=24 --learning_rate 0.02
    --max_steps 60 --per_device_train_batch_size 20 --per_device_eval_batch_size 4 --label_smoothing_factor 0.1
    --eval_strategy steps --eval_steps 60 --save_steps 60 --num_beams 3 --num_heat_maps 1 --metrics exact_match
    --generation_max_length 6 --use_cpu --disable_tqdm True"""
    return folder / "model", rows, run_seq2seq.main(arguments.split())


def test_names_that_no_training_text_holds_are_copied(caller):
    folder, rows, scores = caller
    assert scores["test"]["exact_match"] >= 90
    predictions = [json.loads(line)["prediction"] for line in (folder / "generated_predictions.jsonl").open()]
    right = sum(prediction == row["target"] for prediction, row in zip(predictions, rows, strict=True))
    assert 100 * right / len(rows) == pytest.approx(scores["test"]["exact_match"])


def test_evaluation_within_training_knows_the_names(caller):
    state = json.loads((caller[0] / "trainer_state.json").read_text())
    assert state["best_metric"] >= 90


def test_a_folder_with_copying_translates_names(caller, capsys):
    folder, rows, _ = caller
    expected = [json.loads(line) for line in (folder / "generated_predictions.jsonl").open()][:5]
    translate.main([str(folder), *(row["source"] for row in rows[:5])])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{row['source']}\t{row['prediction']}" for row in expected]


def test_the_card_shows_how_to_copy(caller):
    assert "copying.encode_sources([" in (caller[0] / "README.md").read_text()


def test_the_script_refuses_to_copy_between_two_vocabularies(tmp_path):
    write_requests(tmp_path / "train.jsonl", 5, seed=0)
    arguments = ["--do_train", "--train_file", str(tmp_path / "train.jsonl"), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="copy=True needs --shared_vocabulary"):
        run_seq2seq.main([*arguments, "--config_overrides", "copy=True"])
