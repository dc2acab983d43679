"""lm-eval: a causal model and an encoder-decoder answer a task that lies in a local folder."""

import json

import pytest
import torch
from clients import TEXTS, causal_tokenizer, tiny_causal_model
from tiny import tiny_model

lm_eval = pytest.importorskip("lm_eval")
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

TASKS = {
    "choice": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
target_delimiter: " "
metric_list: [{metric: acc}]
""",
    "perplexity": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}]
""",
    "writing": """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean}]
""",
}


@pytest.fixture
def tokenizer():
    return causal_tokenizer()


def evaluated(model, tokenizer, name, folder, **options):
    rows = [{"question": text, "choices": ["mat", "sea"], "answer": index % 2} for index, text in enumerate(TEXTS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}\n"
    (folder / f"{name}.yaml").write_text(source + "test_split: test\n" + TASKS[name])
    results = lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=2, **options),
        tasks=[name],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    return results["results"][name], results["samples"][name]


def log_likelihood(model, tokenizer, context, continuation):
    """Of the continuation of a text, by one plain call."""
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    ids, target = encode(context), encode(continuation)
    with torch.no_grad():
        logits = model(torch.tensor([ids + target])).logits[0].log_softmax(-1)
    return sum(float(logits[len(ids) + index - 1, token]) for index, token in enumerate(target))


def test_multiple_choice(tokenizer, tmp_path):
    model = tiny_causal_model(vocab_size=len(tokenizer))
    result, samples = evaluated(model, tokenizer, "choice", tmp_path, max_length=32)
    assert 0 <= result["acc,none"] <= 1
    for sample in samples:
        for choice, ((value, _),) in zip(["mat", "sea"], sample["resps"], strict=True):
            assert float(value) == pytest.approx(
                log_likelihood(model, tokenizer, sample["doc"]["question"], choice), abs=1e-4
            )


def test_perplexity(tokenizer, tmp_path):
    model = tiny_causal_model(vocab_size=len(tokenizer))
    result, _ = evaluated(model, tokenizer, "perplexity", tmp_path, max_length=32)
    assert result["word_perplexity,none"] > 1


def test_writing(tokenizer, tmp_path):
    model = tiny_causal_model(vocab_size=len(tokenizer))
    _, samples = evaluated(model, tokenizer, "writing", tmp_path, max_length=32)
    assert all(len(sample["resps"][0][0].split()) <= 4 for sample in samples)
    assert any(sample["resps"][0][0] for sample in samples)


@pytest.mark.parametrize("name", ["choice", "writing"])
def test_encoder_decoder(tokenizer, tmp_path, name):
    model = tiny_model(vocab_size=len(tokenizer))
    _, samples = evaluated(model, tokenizer, name, tmp_path, max_length=32, backend="seq2seq")
    assert len(samples) == len(TEXTS)
