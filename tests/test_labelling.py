"""The labelling head, with and without characters, conditional random field and intents."""

import itertools
import json
import unicodedata

import pytest
import torch
from test_remote_code import run_without_the_package
from tiny import tiny_config, tiny_model
from torch.nn.functional import cross_entropy, log_softmax
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification, pipeline

from attention_rnn import AttentionRnnForTokenClassification, AttentionRnnWordTokenizer
from attention_rnn.models.configuration_core import ATTENTION_TYPES
from attention_rnn.tokenizer_training import train_tokenizer

BATCH, SOURCE, CHARACTERS = 3, 8, 4
LABELS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
INTENTS = ["ask", "order", "thank"]
ALL = {"crf": True, "constrained_decoding": True, "character_size": 7, "intents": INTENTS}
VARIANTS = [{}, {"attention_type": None}, {"crf": True}, {"character_size": 7}, {"intents": INTENTS}, ALL]


def labelling_config(**overrides):
    return tiny_config(id2label=dict(enumerate(LABELS)), label2id={n: i for i, n in enumerate(LABELS)}, **overrides)


def labelling_model(seed=0, **overrides):
    """In evaluation mode, with weights large enough that the outputs depend visibly on every input."""
    torch.manual_seed(seed)
    model = AttentionRnnForTokenClassification(labelling_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def labelling_batch(model, seed=0):
    """Padding on the right, on the left and in the middle; each text ends in a token without a label."""
    generator = torch.Generator().manual_seed(seed)
    attention_mask = torch.ones(BATCH, SOURCE, dtype=torch.long)
    attention_mask[0, 5:] = 0
    attention_mask[1, :2] = 0
    attention_mask[2, 3:5] = 0
    batch = {
        "input_ids": torch.randint(4, model.config.vocab_size, (BATCH, SOURCE), generator=generator),
        "attention_mask": attention_mask,
        "labels": torch.randint(len(LABELS), (BATCH, SOURCE), generator=generator),
    }
    for row, last in enumerate((4, 7, 7)):
        batch["input_ids"][row, last] = model.config.eos_token_id
        batch["labels"][row, last] = -100
    batch["labels"][attention_mask == 0] = -100
    if model.config.character_size:
        batch["character_ids"] = torch.randint(0, 257, (BATCH, SOURCE, CHARACTERS), generator=generator)
    if model.config.intents:
        batch["intent_ids"] = torch.tensor([2, 0, 1])
    return batch


def name(variant):
    return "-".join(variant) or "plain"


@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_every_parameter_has_a_gradient_and_a_finite_initial_value(variant):
    torch.manual_seed(0)
    model = AttentionRnnForTokenClassification(labelling_config(**variant)).train()
    model(**labelling_batch(model)).loss.backward()
    for key, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), key
        assert parameter.grad is not None, key


@pytest.mark.parametrize("variant", [*VARIANTS, {"attention_type": "local"}, {"attention_type": "location"}], ids=name)
def test_padding_changes_nothing(variant):
    model = labelling_model(**variant)
    batch = labelling_batch(model)
    outputs = model(**batch)
    for row in range(BATCH):
        real = batch["attention_mask"][row].bool()
        alone = {key: value[row : row + 1] for key, value in batch.items()}
        alone = {key: value if key == "intent_ids" else value[:, real] for key, value in alone.items()}
        expected = model(**alone)
        torch.testing.assert_close(outputs.logits[row, real], expected.logits[0])
        if model.config.intents:
            torch.testing.assert_close(outputs.intent_logits[row], expected.intent_logits[0])


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_the_attention_of_each_token_is_over_the_real_tokens(attention_type):
    directions = {"bidirectional": attention_type not in ("dot", "scaled_dot")}
    model = labelling_model(attention_type=attention_type, **directions)
    batch = labelling_batch(model)
    (weights,) = model(**batch, output_attentions=True).attentions
    assert weights.shape[-2:] == (SOURCE, SOURCE)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    assert not weights[batch["attention_mask"][:, None, None].expand_as(weights) == 0].any()


def test_attention_that_does_not_fit_the_memory_is_an_error():
    config = labelling_config(attention_type="dot", is_encoder_decoder=False)
    config.bidirectional = True
    with pytest.raises(ValueError, match="hidden_size"):
        AttentionRnnForTokenClassification(config)


def test_without_a_field_the_loss_is_the_mean_cross_entropy():
    model = labelling_model()
    batch = labelling_batch(model)
    outputs = model(**batch)
    expected = cross_entropy(outputs.logits.transpose(1, 2), batch["labels"])
    torch.testing.assert_close(outputs.loss, expected)


def test_with_a_field_the_loss_is_its_likelihood_and_skips_what_has_no_label():
    model = labelling_model(crf=True).train()
    batch = labelling_batch(model)
    outputs = model(**batch)
    is_labelled = batch["labels"] != -100
    likelihood = 0.0
    for row in range(BATCH):
        emissions, labels = outputs.logits[row, is_labelled[row]], batch["labels"][row, is_labelled[row]]
        every = torch.ones(1, len(labels), dtype=torch.bool)
        likelihood += model.crf.log_likelihood(emissions[None], labels[None], every)
    torch.testing.assert_close(outputs.loss, -likelihood[0] / is_labelled.sum())


@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_the_parts_of_a_batch_add_up_to_its_loss(variant):
    model = labelling_model(**variant)
    batch = labelling_batch(model)
    count = (batch["labels"] != -100).sum()
    parts = [
        model(**{key: value[row : row + 1] for key, value in batch.items()}, num_items_in_batch=count).loss
        for row in range(BATCH)
    ]
    torch.testing.assert_close(sum(parts), model(**batch).loss)


def test_the_intent_counts_once_for_each_labelled_token():
    model = labelling_model(intents=INTENTS)
    batch = labelling_batch(model)
    outputs = model(**batch)
    tokens = (batch["labels"] != -100).sum(dim=1)
    losses = -log_softmax(outputs.intent_logits, dim=-1)[range(BATCH), batch["intent_ids"]]
    slots = cross_entropy(outputs.logits.transpose(1, 2), batch["labels"])
    torch.testing.assert_close(outputs.loss, slots + (losses * tokens).sum() / tokens.sum())
    torch.testing.assert_close(model(**{**batch, "labels": None}).loss, losses.mean())


def test_in_evaluation_the_highest_logits_are_the_best_allowed_sequence():
    model = labelling_model(**ALL)
    with torch.no_grad():  # the best sequence begins inside a chunk, which is not allowed
        model.crf.start[LABELS.index("I-X")] = 100
    batch = {key: value for key, value in labelling_batch(model).items() if key not in ("labels", "intent_ids")}
    predictions = model(**batch).logits.argmax(dim=-1)
    emissions = model.train()(**batch).logits
    chain = (batch["attention_mask"] == 1) & (batch["input_ids"] != model.config.eos_token_id)
    expected = model.crf.best_labels(emissions, chain, model._allowed_transitions())
    assert torch.equal(predictions[chain], expected[chain])
    unconstrained = model.crf.best_labels(emissions, chain)
    assert not torch.equal(expected[chain], unconstrained[chain])
    for row in range(BATCH):
        labels = ["O", *(LABELS[label] for label in predictions[row, chain[row]])]
        for before, label in itertools.pairwise(labels):
            assert not label.startswith("I-") or before[1:] == label[1:]


def test_constraints_need_labels_of_a_scheme():
    with pytest.raises(ValueError, match="LABEL_0"):
        AttentionRnnForTokenClassification(tiny_config(crf=True, constrained_decoding=True))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"constrained_decoding": True}, ValueError, "crf"),
        ({"intents": "ask"}, TypeError, "ask"),
        ({"intents": []}, ValueError, "at least one"),
        ({"intents": ["a", "a"]}, ValueError, "different"),
        ({"character_size": 0}, ValueError, "character_size"),
        ({"crf": 1}, TypeError, "crf"),
    ],
)
def test_a_wrong_config_is_an_error(fields, error, message):
    with pytest.raises(error, match=message):
        labelling_config(**fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.full((BATCH, SOURCE), len(LABELS))}, "from 0 to 4, got 5"),
        ({"labels": torch.full((BATCH, SOURCE), -1)}, "from 0 to 4, got -1"),
        ({"labels": torch.zeros(BATCH, dtype=torch.long)}, r"must have the shape \(3, 8\), got \(3,\)"),
        ({"intent_ids": torch.full((BATCH,), len(INTENTS))}, "`intent_ids` must be from 0 to 2, got 3"),
        ({"character_ids": None}, "got None"),
        ({"character_ids": torch.zeros(BATCH, SOURCE + 1, 2, dtype=torch.long)}, r"got \(3, 9, 2\)"),
        ({"character_ids": torch.full((BATCH, SOURCE, 2), 257)}, "character_ids"),
    ],
)
def test_a_wrong_input_is_an_error(changes, message):
    model = labelling_model(**ALL)
    with pytest.raises(ValueError, match=message):
        model(**{**labelling_batch(model), **changes})


def test_labels_must_be_integers():
    model = labelling_model()
    with pytest.raises(TypeError, match=r"`labels` must be of the type torch.int64 or torch.int32, got torch.float32"):
        model(**{**labelling_batch(model), "labels": torch.zeros(BATCH, SOURCE)})


@pytest.mark.parametrize("key", ["character_ids", "intent_ids"])
def test_an_input_that_the_model_does_not_read_is_an_error(key):
    model = labelling_model()
    batch = labelling_batch(labelling_model(**ALL))
    with pytest.raises(ValueError, match=key):
        model(**{name: value for name, value in batch.items() if name in ("input_ids", "labels", key)})


def test_the_room_for_characters_does_not_matter():
    model = labelling_model(**ALL)
    batch = labelling_batch(model)
    wide = torch.nn.functional.pad(batch["character_ids"], (0, 5))
    torch.testing.assert_close(model(**{**batch, "character_ids": wide}).logits, model(**batch).logits)


def test_a_checkpoint_opens_as_it_was_saved(tmp_path):
    model = labelling_model(**ALL)
    model.save_pretrained(tmp_path)
    batch = labelling_batch(model)
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits)
    torch.testing.assert_close(loaded(**batch).intent_logits, model(**batch).intent_logits)


def test_the_encoder_of_a_sequence_to_sequence_model_is_taken_over(tmp_path):
    seq2seq = tiny_model()
    seq2seq.save_pretrained(tmp_path)
    model = AutoModelForTokenClassification.from_pretrained(tmp_path, num_labels=3)
    for key, parameter in model.model.encoder.named_parameters():
        assert torch.equal(parameter, seq2seq.model.encoder.get_parameter(key)), key
    assert not model.config.is_encoder_decoder


def test_a_checkpoint_loads_without_the_package(tmp_path):
    folder = tmp_path / "checkpoint"
    model = labelling_model(**ALL)
    model.save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    batch = labelling_batch(model)
    torch.save({"batch": batch, "logits": model(**batch).logits.detach()}, tmp_path / "case.pt")
    code = """
        from transformers import AutoModelForTokenClassification, AutoTokenizer

        case = torch.load(f"{work}/case.pt")
        model = AutoModelForTokenClassification.from_pretrained(folder, trust_remote_code=True)
        torch.testing.assert_close(model(**case["batch"]).logits, case["logits"])
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        assert tokenizer("to bee")["character_ids"][1][:4] == [99, 102, 102, 0]
    """
    run_without_the_package(code, folder, tmp_path)


def words_tokenizer(**options):
    words = train_tokenizer(["to be or not to be"], kind="word", lowercase=True)
    return AttentionRnnWordTokenizer.from_tokenizer(words, **options)


def spelt(word, room):
    return [byte + 1 for byte in word.encode()] + [0] * (room - len(word.encode()))


def test_a_word_is_spelt_as_it_stands_in_the_text():
    tokenizer = words_tokenizer(max_word_length=6)
    encoded = tokenizer("To bée  NOT")
    assert encoded["input_ids"] == tokenizer.convert_tokens_to_ids(["to", "<unk>", "not", "</s>"])
    assert encoded["character_ids"] == [spelt(word, 6) for word in ("To", "bée", "NOT", "")]


@pytest.mark.parametrize("is_split", [False, True])
def test_the_marks_of_a_decomposed_word_are_spelt(is_split):
    words = [unicodedata.normalize("NFD", word) for word in ("José", "tô", "한")]
    text = words if is_split else " ".join(words)
    encoded = words_tokenizer(max_word_length=10)(text, is_split_into_words=is_split)
    assert encoded["character_ids"][:3] == [spelt(word, 10) for word in words]


@pytest.mark.parametrize("side", ["left", "right"])
def test_words_and_texts_give_the_same_and_so_does_padding_afterwards(side):
    tokenizer = words_tokenizer(max_word_length=6)
    tokenizer.padding_side = side
    texts = ["to be or", "Bee"]
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    assert encoded["character_ids"].shape == (2, 4, 6)
    assert encoded["character_ids"][1].tolist() == (
        [*[[0] * 6] * 2, spelt("Bee", 6), [0] * 6] if side == "left" else [spelt("Bee", 6), *[[0] * 6] * 3]
    )
    words = tokenizer([text.split() for text in texts], is_split_into_words=True, padding=True, return_tensors="pt")
    padded = tokenizer.pad([tokenizer(text) for text in texts], return_tensors="pt")
    for key, value in encoded.items():
        assert torch.equal(words[key], value), key
        assert torch.equal(padded[key], value), key


def test_a_long_word_keeps_its_beginning_and_its_end():
    assert words_tokenizer(max_word_length=4)("unhappily")["character_ids"][0] == spelt("unly", 4)


def test_a_text_in_overlapping_pieces_is_spelt_piece_by_piece():
    tokenizer = words_tokenizer(max_word_length=2)
    encoded = tokenizer("to be or", truncation=True, max_length=3, stride=1, return_overflowing_tokens=True)
    words = [[tokenizer.convert_ids_to_tokens(ids)[:-1]] for ids in encoded["input_ids"]]
    assert words == [[["to", "be"]], [["be", "or"]]]
    assert [rows[:-1] for rows in encoded["character_ids"]] == [
        [spelt(word, 2) for word in piece] for (piece,) in words
    ]


def test_the_tokenizer_is_saved_and_loaded(tmp_path):
    tokenizer = words_tokenizer(max_word_length=10)
    tokenizer.save_pretrained(tmp_path)
    loaded = AttentionRnnWordTokenizer.from_pretrained(tmp_path)
    assert dict(loaded("To beé")) == dict(tokenizer("To beé"))
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["max_word_length"] == 10


@pytest.mark.parametrize("length", [0, 3, 2.0, "8"])
def test_a_wrong_room_for_characters_is_an_error(length):
    with pytest.raises(ValueError, match="max_word_length"):
        words_tokenizer(max_word_length=length)


def test_a_pair_of_texts_is_an_error():
    with pytest.raises(ValueError, match="text_pair"):
        words_tokenizer()("to", "be")


def test_the_collator_of_transformers_makes_batches():
    tokenizer = words_tokenizer()
    model = labelling_model(**ALL)
    features = [{**tokenizer(text), "labels": labels, "intent_ids": 1} for text, labels in TEXTS.items()]
    batch = DataCollatorForTokenClassification(tokenizer)(features)
    assert batch["character_ids"].shape == (2, 5, 32)
    assert torch.isfinite(model(**batch).loss)


TEXTS = {"to Be or not": [1, 2, 0, 3, -100], "bee": [1, -100]}


@pytest.fixture(scope="module")
def tagger():
    torch.manual_seed(0)
    tokenizer = words_tokenizer()
    model = AttentionRnnForTokenClassification(labelling_config(**ALL))
    features = [{**tokenizer(text), "labels": labels, "intent_ids": 0} for text, labels in TEXTS.items()]
    batch = DataCollatorForTokenClassification(tokenizer)(features)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return pipeline("token-classification", model.eval(), tokenizer=tokenizer, aggregation_strategy="simple")


@pytest.mark.parametrize("strategy", ["none", "simple", "first"])
def test_a_chunk_of_decomposed_text_keeps_its_last_mark(tagger, strategy):
    text = unicodedata.normalize("NFD", "to bé or nôt José")
    chunks = tagger(text, aggregation_strategy=strategy, ignore_labels=[])
    assert chunks[-1]["end"] == len(text)
    ends = {word: text.index(word) + len(word) for word in text.split()}
    assert {chunk["end"] for chunk in chunks} <= set(ends.values())
    assert chunks[-1]["word"].split()[-1] == text.split()[-1]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_pipeline_gives_chunks_with_their_place_in_the_text(tagger, batch_size):
    texts = tagger(list(TEXTS), batch_size=batch_size)
    found = [[(chunk["entity_group"], chunk["start"], chunk["end"]) for chunk in chunks] for chunks in texts]
    assert found == [[("X", 0, 5), ("Y", 9, 12)], [("X", 0, 3)]]
    assert all(0.5 < chunk["score"] <= 1 for chunks in texts for chunk in chunks)
