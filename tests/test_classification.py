"""Classification of whole texts: the head, its pooling and its loss; pipelines; the encoder of sentences."""

import os
import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from tiny import SOURCE, tiny_config, tiny_model
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

from attention_rnn import AttentionRnnForSequenceClassification, AttentionRnnModel
from attention_rnn.models.pooling import SelfAttentionPooling, overlap_penalty
from attention_rnn.tokenizer_training import train_tokenizer

BATCH, LABELS = 3, 4
TEXTS = ["a fine film", "dull", "", "not a fine film , but not dull either"]


def classifier(seed=0, **overrides):
    """In evaluation mode, with weights large enough that the outputs depend visibly on every input."""
    torch.manual_seed(seed)
    config = tiny_config(**{"num_labels": LABELS, "pooling_heads": 2, **overrides})
    model = AttentionRnnForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, "word")


def batch():
    generator = torch.Generator().manual_seed(0)
    attention_mask = torch.ones(BATCH, SOURCE, dtype=torch.long)
    attention_mask[0, 5:] = 0
    attention_mask[1, :2] = 0
    attention_mask[2, 3:5] = 0
    return {"input_ids": torch.randint(4, 19, (BATCH, SOURCE), generator=generator), "attention_mask": attention_mask}


# the pooling


def test_pooling_is_the_equation_of_lin():
    torch.manual_seed(0)
    config = tiny_config(pooling_heads=3)
    pooling, memory = SelfAttentionPooling(config), torch.randn(1, 5, config.memory_size)
    pooled, weights = pooling(memory, None)
    h = memory[0]
    expected = torch.softmax(pooling.energy.weight @ torch.tanh(pooling.hidden.weight @ h.T), dim=1)
    torch.testing.assert_close(weights[0], expected)
    torch.testing.assert_close(pooled[0], (expected @ h).flatten())


def test_weights_sum_to_one_over_the_real_tokens():
    inputs = batch()
    (weights,) = classifier()(**inputs, output_attentions=True).attentions
    assert weights.shape == (BATCH, 2, 1, SOURCE)
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, 2, 1))
    assert (weights[(inputs["attention_mask"] == 0)[:, None, None].expand_as(weights)] == 0).all()


def test_the_overlap_penalty_is_zero_for_heads_on_different_tokens_and_counts_shared_ones():
    apart = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    together = torch.tensor([[[1.0, 0, 0], [1, 0, 0]]])
    assert overlap_penalty(torch.cat([apart, together])).tolist() == [0, 2]


# the model


def test_padding_changes_nothing():
    model, inputs = classifier(), batch()
    logits = model(**inputs).logits
    for row in range(BATCH):
        alone = inputs["input_ids"][row][inputs["attention_mask"][row] == 1][None]
        torch.testing.assert_close(model(input_ids=alone).logits[0], logits[row])


def test_every_parameter_has_a_gradient_and_the_logits_come_from_embeddings_too():
    model, inputs = classifier(pooling_penalty_weight=0.1), batch()
    output = model(**inputs, labels=torch.tensor([3, 0, 2]))
    output.loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    logits = model(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"]).logits
    torch.testing.assert_close(logits, output.logits)


def test_outputs_come_as_a_tuple_and_with_hidden_states_when_asked_for():
    model, inputs = classifier(), batch()
    output = model(**inputs, output_hidden_states=True)
    assert [states.shape[2] for states in output.hidden_states] == [6, 20, 20]
    assert output.attentions is None
    (logits,) = model(**inputs, return_dict=False)
    torch.testing.assert_close(logits, output.logits)


PROBLEMS = {
    "single_label_classification": (LABELS, torch.tensor([3, 0, 2])),
    "multi_label_classification": (LABELS, torch.tensor([[0.0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0.5]])),
    "regression": (1, torch.tensor([0.3, -2.0, 5.0])),
    "regression of several": (2, torch.tensor([[0.3, -2.0], [5.0, 1.0], [0.0, 1.0]])),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_loss_is_that_of_the_problem(problem):
    num_labels, labels = PROBLEMS[problem]
    problem_type = problem.split()[0]
    # transformers guesses all but the regression of several numbers
    model = classifier(num_labels=num_labels, problem_type=problem_type if num_labels == 2 else None)
    output = model(**batch(), labels=labels)
    functions = {"s": cross_entropy, "m": binary_cross_entropy_with_logits, "r": mse_loss}
    expected = functions[problem[0]](output.logits.squeeze(1), labels)
    torch.testing.assert_close(output.loss, expected)
    assert model.config.problem_type == problem_type


def test_the_loss_holds_the_mean_penalty():
    model, inputs, (_, labels) = classifier(), batch(), PROBLEMS["multi_label_classification"]
    plain = model(**inputs, labels=labels, output_attentions=True)
    model.config.pooling_penalty_weight = 0.7
    expected = plain.loss + 0.7 * overlap_penalty(plain.attentions[0][:, :, 0]).mean()
    torch.testing.assert_close(model(**inputs, labels=labels).loss, expected)


def test_ignored_labels_take_no_part():
    model, inputs = classifier(pooling_penalty_weight=0.7), batch()
    loss = model(**inputs, labels=torch.tensor([3, -100, 2])).loss
    others = {name: values[[0, 2]] for name, values in inputs.items()}
    torch.testing.assert_close(loss, model(**others, labels=torch.tensor([3, 2])).loss)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_uneven_parts_of_a_batch_add_up_to_its_loss(problem):
    num_labels, labels = PROBLEMS[problem]
    model = classifier(num_labels=num_labels, problem_type=problem.split()[0], pooling_penalty_weight=0.7)
    inputs = {**batch(), "labels": labels}
    parts = [
        model(**{name: values[part] for name, values in inputs.items()}, num_items_in_batch=labels.numel()).loss
        for part in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(parts), model(**inputs).loss)


REFUSED_LABELS = {
    "single_label_classification": [
        (torch.tensor([0, 4, 1]), r"must be from 0 to 3 .* got 4"),
        (torch.tensor([0, -1, 1]), r"must be from 0 to 3 .* got -1"),
        (torch.tensor([0.0, 1.0, 2.0]), r"must be integers, got torch.float32"),
        (torch.tensor([True, False, True]), r"must be integers, got torch.bool"),
        (torch.tensor([0, 1]), r"must have the shape \(3,\), got \(2,\)"),
        (torch.tensor([[0], [1], [2]]), r"must have the shape \(3,\), got \(3, 1\)"),
    ],
    "multi_label_classification": [
        (torch.zeros(3, LABELS).long(), r"must be floating point numbers, got torch.int64"),
        (torch.zeros(3), r"must have the shape \(3, 4\), got \(3,\)"),
        (torch.full((3, LABELS), 2.0), r"must be from 0 to 1 .* got 2.0"),
        (torch.full((3, LABELS), float("nan")), r"must be from 0 to 1 .* got nan"),
    ],
    "regression": [
        (torch.tensor([1, 2, 3]), r"must be floating point numbers, got torch.int64"),
        (torch.tensor([[1.0, 2.0]] * 3), r"must have the shape \(3, 1\) or \(3,\), got \(3, 2\)"),
        (torch.tensor([1.0, float("inf"), 3.0]), r"must be finite .* got inf"),
    ],
}


@pytest.mark.parametrize(
    ("problem_type", "labels", "message"),
    [(problem_type, *case) for problem_type, cases in REFUSED_LABELS.items() for case in cases],
)
def test_wrong_labels_are_refused(problem_type, labels, message):
    model = classifier(num_labels=PROBLEMS[problem_type][0], problem_type=problem_type)
    with pytest.raises(ValueError, match=rf'`labels` for `problem_type="{problem_type}"` {message}'):
        model(**batch(), labels=labels)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"pooling_heads": 0}, ValueError, "`pooling_heads` must be at least 1, got 0"),
        ({"pooling_heads": 1.5}, TypeError, "`pooling_heads` must be an int, got 1.5"),
        ({"pooling_penalty_weight": -1}, ValueError, "`pooling_penalty_weight` must be at least 0, got -1"),
    ],
)
def test_wrong_fields_are_refused(overrides, error, message):
    with pytest.raises(error, match=message):
        tiny_config(**overrides)


def test_a_text_of_padding_alone_is_refused():
    with pytest.raises(ValueError, match="row 1 is fully masked"):
        classifier()(input_ids=torch.ones(2, 3).long(), attention_mask=torch.tensor([[1, 1, 1], [0, 0, 0]]))


# checkpoints


def test_a_saved_model_is_loaded_and_opens_as_a_bare_encoder(tmp_path):
    model, inputs = classifier(id2label={0: "a", 1: "b", 2: "c", 3: "d"}), batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is AttentionRnnForSequenceClassification
    assert loaded.config.id2label[2] == "c"
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert type(encoder) is AttentionRnnModel
    torch.testing.assert_close(encoder(**inputs).last_hidden_state, model.model(**inputs).last_hidden_state)


def test_the_encoder_of_an_encoder_decoder_is_loaded(tmp_path):
    translator = tiny_model()
    translator.save_pretrained(tmp_path)
    model, info = AttentionRnnForSequenceClassification.from_pretrained(
        tmp_path, num_labels=LABELS, output_loading_info=True
    )
    assert info["unexpected_keys"] == set()
    assert {key.split(".")[0] for key in info["missing_keys"]} == {"pooling", "classifier"}
    expected = translator.model.encoder(**batch()).last_hidden_state
    torch.testing.assert_close(model.eval().model(**batch()).last_hidden_state, expected)
    assert all(parameter.abs().max() < 10 for parameter in model.parameters())


def test_a_checkpoint_loads_without_the_package(tmp_path):
    model, inputs = classifier(), batch()
    model.save_pretrained(tmp_path / "checkpoint")
    torch.save({"inputs": inputs, "logits": model(**inputs).logits.detach()}, tmp_path / "case.pt")
    code = f"""
import sys
sys.modules["attention_rnn"] = None  # its import now raises
import torch
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained({str(tmp_path / "checkpoint")!r}, trust_remote_code=True)
case = torch.load({str(tmp_path / "case.pt")!r})
torch.testing.assert_close(model.eval()(**case["inputs"]).logits, case["logits"])
"""
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)


def test_embeddings_are_resized():
    model = classifier()
    model.resize_token_embeddings(23)
    assert model.config.vocab_size == 23
    assert model(input_ids=torch.tensor([[22]])).logits.shape == (1, LABELS)


# the Trainer


def trainer(tmp_path, model, columns, **arguments):
    return Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", **arguments
        ),
        train_dataset=Dataset.from_dict(columns),
        data_collator=DataCollatorWithPadding(train_tokenizer(["a"], "word")),
    )


@pytest.mark.parametrize("problem", PROBLEMS)
def test_gradient_accumulation_over_uneven_batches_gives_the_step_of_the_big_batch(tmp_path, problem):
    num_labels, labels = PROBLEMS[problem]
    columns = {"input_ids": [[4, 5, 6], [7, 8], [9, 10, 11, 12]], "labels": labels.tolist()}
    weights = []
    for batch_size, accumulation in ((3, 1), (2, 2)):  # three examples at once, or two and one
        model = classifier(num_labels=num_labels, problem_type=problem.split()[0], pooling_penalty_weight=0.1)
        trainer(
            tmp_path,
            model,
            columns,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=0.0,
        ).train()
        weights.append([parameter.detach() for parameter in model.parameters()])
    for big, accumulated in zip(*weights, strict=True):
        torch.testing.assert_close(accumulated, big, atol=1e-5, rtol=1e-4)


def test_a_model_learns_which_word_decides(tmp_path):
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(6, 19, (64, 7), generator=generator)
    labels, positions = torch.randint(0, 2, (64,), generator=generator), torch.randint(0, 7, (64,), generator=generator)
    texts[torch.arange(64), positions] = 4 + labels
    torch.manual_seed(0)
    model = AttentionRnnForSequenceClassification(tiny_config(num_labels=2, encoder_layers=1))
    trainer(
        tmp_path,
        model,
        {"input_ids": texts.tolist(), "labels": labels.tolist()},
        per_device_train_batch_size=16,
        learning_rate=0.03,
        num_train_epochs=8,
    ).train()
    output = model.eval()(texts, output_attentions=True)
    assert (output.logits.argmax(-1) == labels).all()
    is_decisive = output.attentions[0][:, 0, 0].argmax(-1) == positions
    assert is_decisive.float().mean() > 0.5


# pipelines


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("checkpoint")
    names = {0: "bad", 1: "good", 2: "mixed", 3: "none"}
    classifier(vocab_size=len(tokenizer), id2label=names, label2id={v: k for k, v in names.items()}).save_pretrained(
        path
    )
    tokenizer.save_pretrained(path)
    return str(path)


def test_the_pipeline_classifies_alone_in_batches_and_an_empty_text(folder, tokenizer):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    classify = pipeline("text-classification", folder)
    alone, batched = [classify(text)[0] for text in TEXTS], classify(TEXTS, batch_size=3)
    for text, first, second in zip(TEXTS, alone, batched, strict=True):
        # our tokenizers encode an empty text as </s>, so that there is a token to look at
        probabilities = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1)
        assert first["label"] == second["label"] == model.config.id2label[int(probabilities.argmax())]
        assert first["score"] == pytest.approx(probabilities.max().item(), abs=1e-5)
        assert second["score"] == pytest.approx(first["score"], abs=1e-5)


def test_the_pipeline_gives_several_labels(folder):
    classify = pipeline("text-classification", folder)
    assert len(classify(TEXTS[0], top_k=2)) == 2
    every = classify(TEXTS[0], top_k=None)
    assert {entry["label"] for entry in every} == {"bad", "good", "mixed", "none"}
    assert sum(entry["score"] for entry in every) == pytest.approx(1, abs=1e-5)


def test_the_pipeline_gives_a_number(folder, tokenizer):
    model = classifier(vocab_size=len(tokenizer), num_labels=1, problem_type="regression")
    (result,) = pipeline("text-classification", model, tokenizer=tokenizer)(TEXTS[0])
    assert result["score"] == pytest.approx(model(**tokenizer(TEXTS[0], return_tensors="pt")).logits.item(), abs=1e-5)


def test_the_encoder_gives_the_features_of_a_text(folder, tokenizer):
    features = pipeline("feature-extraction", folder)(TEXTS[0], return_tensors=True)
    assert features.shape == (1, 4, 20)  # three words and </s>
    encoder = AttentionRnnModel.from_pretrained(folder)
    torch.testing.assert_close(features, encoder(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state)


def test_the_encoder_of_an_encoder_decoder_gives_the_features_of_a_text(tmp_path, tokenizer):
    translator = tiny_model(vocab_size=len(tokenizer))
    translator.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    extract = pipeline("feature-extraction", str(tmp_path), model_kwargs={"is_encoder_decoder": False})
    inputs = tokenizer(TEXTS[0], return_tensors="pt")
    expected = translator.model.encoder(**inputs).last_hidden_state
    torch.testing.assert_close(extract(TEXTS[0], return_tensors=True), expected)


def test_the_final_state_is_a_sentence_vector_that_padding_leaves_alone(folder, tokenizer):
    encoder = AttentionRnnModel.from_pretrained(folder)
    together = encoder(**tokenizer(TEXTS, padding=True, return_tensors="pt")).final_state
    for text, state in zip(TEXTS, together, strict=True):
        torch.testing.assert_close(encoder(**tokenizer(text, return_tensors="pt")).final_state[0], state)
