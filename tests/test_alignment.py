from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny_batch, tiny_model
from transformers import BartConfig, BartForConditionalGeneration

from attention_rnn.alignment import (
    alignment_from_outputs,
    coverage_deviation_penalty,
    source_coverage,
    text_mask,
    to_pharaoh,
)


@pytest.fixture(scope="module")
def bart():
    config = BartConfig(
        vocab_size=14,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        max_position_embeddings=32,
        init_std=1.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
        attn_implementation="eager",
    )
    torch.manual_seed(68)
    return BartForConditionalGeneration(config).eval()


def before_the_end(sequences):
    """Mark the tokens up to the first end of sequence; transformers fills beams of a model with pad id 0 with it."""
    ends = (sequences[:, 1:] == 2).long()
    return ends.cumsum(dim=1) - ends == 0


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("prompt", [None, [[1, 5, 6]] * 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "num_return_sequences": 2},
        {"num_beams": 4},
        {"num_beams": 5, "num_return_sequences": 3, "length_penalty": 0.5},
    ],
    ids=["greedy", "sampling", "beams", "returned-beams"],
)
def test_alignment_of_generate_is_that_of_reading_the_sequence_again(bart, options, prompt, use_cache):
    torch.manual_seed(0)
    source = torch.tensor([[4, 5, 6, 7, 2], [9, 8, 3, 2, 0], [11, 2, 0, 0, 0]])
    mask = (source != 0).long()
    if prompt is not None:
        options = options | {"decoder_input_ids": torch.tensor(prompt)}
    outputs = bart.generate(
        source,
        attention_mask=mask,
        max_new_tokens=9,
        use_cache=use_cache,
        output_attentions=True,
        return_dict_in_generate=True,
        **options,
    )
    alignment = alignment_from_outputs(outputs)

    returned = options.get("num_return_sequences", 1)
    with torch.no_grad():
        again = bart(
            source.repeat_interleave(returned, dim=0),
            attention_mask=mask.repeat_interleave(returned, dim=0),
            decoder_input_ids=outputs.sequences[:, :-1],
            output_attentions=True,
        )
    expected = alignment_from_outputs(again)
    assert alignment.shape == (3 * returned, outputs.sequences.shape[1] - 1, 5)
    inside = before_the_end(outputs.sequences)
    torch.testing.assert_close(alignment[inside], expected[inside])


def test_the_sequences_of_the_test_model_end_at_different_steps(bart):
    """Without this the test above would prove little about the ends of sequences."""
    source = torch.tensor([[4, 5, 6, 7, 2], [9, 8, 3, 2, 0], [11, 2, 0, 0, 0]])
    outputs = bart.generate(
        source, attention_mask=(source != 0).long(), max_new_tokens=9, num_beams=5, num_return_sequences=3
    )
    assert len(set(before_the_end(outputs).sum(dim=1).tolist())) > 1


def test_alignment_of_a_forward_pass_is_the_mean_over_heads():
    weights = torch.rand(2, 4, 3, 5, dtype=torch.bfloat16)
    alignment = alignment_from_outputs(SimpleNamespace(cross_attentions=(weights,)))
    torch.testing.assert_close(alignment, weights.float().mean(dim=1))


def test_alignment_follows_each_beam_back_and_is_zero_after_its_end():
    # Two steps of four beams over one source position; the weight of row r in step t is (10 t + r) / 100.
    steps = tuple((torch.arange(4).view(4, 1, 1, 1) / 100 + t / 10,) for t in range(3))
    outputs = SimpleNamespace(
        cross_attentions=steps,
        beam_indices=torch.tensor([[1, 0], [2, -1]], dtype=torch.int32),
        sequences=torch.tensor([[1, 7, 2], [1, 2, 0]]),
    )
    expected = torch.tensor([[0.01, 0.10], [0.02, 0.0]])[:, :, None]
    torch.testing.assert_close(alignment_from_outputs(outputs), expected)


@pytest.mark.parametrize("attentions", [None, ()])
def test_outputs_without_attention_are_refused(attentions):
    with pytest.raises(ValueError, match="output_attentions=True"):
        alignment_from_outputs(SimpleNamespace(cross_attentions=attentions))


def test_each_head_is_returned_on_request(bart):
    source = torch.tensor([[4, 5, 6, 7, 2], [9, 8, 3, 2, 0]])
    outputs = bart.generate(
        source,
        attention_mask=(source != 0).long(),
        num_beams=3,
        max_new_tokens=4,
        output_attentions=True,
        return_dict_in_generate=True,
    )
    heads = alignment_from_outputs(outputs, average_heads=False)
    assert heads.shape == (2, bart.config.decoder_attention_heads, outputs.sequences.shape[1] - 1, 5)
    assert not torch.allclose(heads[:, 0], heads[:, 1])
    torch.testing.assert_close(heads.mean(dim=1), alignment_from_outputs(outputs))


def test_outputs_of_an_attention_that_keeps_its_weights_are_refused(bart):
    model = BartForConditionalGeneration._from_config(bart.config, attn_implementation="sdpa")
    outputs = model.generate(
        torch.tensor([[4, 2]]), max_new_tokens=2, output_attentions=True, return_dict_in_generate=True
    )
    with pytest.raises(ValueError, match=r'set_attn_implementation\("eager"\)'):
        alignment_from_outputs(outputs)


@pytest.mark.parametrize("options", [{}, {"num_beams": 4}], ids=["greedy", "beams"])
@pytest.mark.parametrize("context_feeding", ["parallel", "input"])
def test_our_model_looks_in_generate_where_it_looks_when_it_reads_the_sequence(context_feeding, options):
    model = tiny_model(context_feeding=context_feeding)
    batch = tiny_batch(model)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    outputs = model.generate(
        **inputs, max_new_tokens=7, output_attentions=True, return_dict_in_generate=True, **options
    )
    with torch.no_grad():
        again = model(**inputs, decoder_input_ids=outputs.sequences[:, :-1], output_attentions=True)
    inside = before_the_end(outputs.sequences)
    alignment, expected = alignment_from_outputs(outputs), alignment_from_outputs(again)
    torch.testing.assert_close(alignment[inside], expected[inside])


def test_the_text_mask_leaves_out_padding_ends_and_ignored_labels_but_not_unknown_tokens():
    config = SimpleNamespace(pad_token_id=0, bos_token_id=None, eos_token_id=[2, 9], decoder_start_token_id=1)
    mask = text_mask(np.array([[1, 3, 7, 2, 0], [8, 9, -100, 5, -100]]), config)
    assert mask.tolist() == [[False, True, True, False, False], [True, False, False, True, False]]


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list])
def test_each_target_token_is_linked_with_its_best_source_token_in_the_order_of_the_source(kind):
    weights = kind([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2], [0.4, 0.2, 0.4]]])
    assert to_pharaoh(weights) == ["0-0 0-3 1-2 2-1"]


def test_a_threshold_links_with_any_number_of_source_tokens():
    weights = [[[0.5, 0.5, 0.0], [0.3, 0.3, 0.4], [0.1, 0.0, 0.9]]]
    assert to_pharaoh(weights, threshold=0.5) == ["0-0 1-0 2-2"]


def test_positions_count_from_the_first_token_that_is_left():
    # <pad> a <unk> b </s> -> X </s> Y: the greatest weights lie on tokens left out
    weights = [[[0.5, 0.1, 0.0, 0.3, 0.1], [0.9, 0.1, 0.0, 0.0, 0.0], [0.0, 0.3, 0.1, 0.0, 0.6]]]
    masks = {"source_mask": [[0, 1, 1, 1, 0]], "target_mask": [[1, 0, 1]]}
    assert to_pharaoh(weights, **masks) == ["0-1 2-0"]
    assert to_pharaoh(weights, **masks, threshold=0.1) == ["0-0 0-1 1-1 2-0"]


@pytest.mark.parametrize("masks", [([[0, 0]], [[1, 1]]), ([[1, 1]], [[0, 0]])], ids=["source", "target"])
def test_an_empty_side_gives_an_empty_line(masks):
    assert to_pharaoh(torch.full((1, 2, 2), 0.5), *masks) == [""]


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 4}, {"num_beams": 4, "num_return_sequences": 3}],
    ids=["greedy", "beams", "returned-beams"],
)
def test_the_lines_of_a_padded_batch_are_those_of_each_pair_alone(options):
    model = tiny_model(seed=1)
    sources = [[4, 9, 7, 5, 11, 2], [12, 6, 2], [8, 13, 10, 6, 2]]
    padded = torch.tensor([ids + [0] * (6 - len(ids)) for ids in sources])
    returned = options.get("num_return_sequences", 1)

    def lines(input_ids):
        outputs = model.generate(
            input_ids,
            attention_mask=(input_ids != 0).long(),
            max_new_tokens=7,
            output_attentions=True,
            return_dict_in_generate=True,
            **options,
        )
        source_mask = text_mask(input_ids, model.config).repeat_interleave(returned, dim=0)
        target_mask = text_mask(outputs.sequences[:, 1:], model.config)
        lines = to_pharaoh(alignment_from_outputs(outputs), source_mask, target_mask)
        for line, sources, targets in zip(lines, source_mask.sum(dim=1), target_mask.sum(dim=1), strict=True):
            links = [tuple(map(int, link.split("-"))) for link in line.split()]
            assert sorted(target for _, target in links) == list(range(targets))
            assert all(source < sources for source, _ in links)
        return lines

    alone = [line for ids in sources for line in lines(torch.tensor([ids]))]
    assert lines(padded) == alone
    assert any(alone)


def test_the_labels_of_a_forward_pass_give_its_target_mask():
    model = tiny_model()
    batch = tiny_batch(model)
    with torch.no_grad():
        outputs = model(**batch, output_attentions=True)
    masks = batch["attention_mask"], text_mask(batch["labels"], model.config)
    lines = to_pharaoh(alignment_from_outputs(outputs), *masks)
    assert [len(line.split()) for line in lines] == [5, 3, 5]


def test_coverage_is_the_attention_each_source_token_received_in_all():
    weights = torch.tensor([[[0.5, 0.5, 0.0], [0.25, 0.0, 0.75], [1.0, 0.0, 0.0]]])
    expected = torch.tensor([[1.75, 0.5, 0.75]])
    torch.testing.assert_close(source_coverage(weights), expected)
    torch.testing.assert_close(source_coverage(weights.numpy()), expected)
    torch.testing.assert_close(source_coverage(weights, [[1, 1, 0]]), torch.tensor([[0.75, 0.5, 0.75]]))


def test_the_coverage_of_our_model_sums_to_the_number_of_target_tokens():
    model = tiny_model()
    batch = tiny_batch(model)
    with torch.no_grad():
        alignment = alignment_from_outputs(model(**batch, output_attentions=True))
    coverage = source_coverage(alignment, text_mask(batch["labels"], model.config))
    assert (coverage[batch["attention_mask"] == 0] == 0).all()
    torch.testing.assert_close(coverage.sum(dim=1), torch.tensor([5.0, 3.0, 5.0]))


def test_the_coverage_deviation_penalty_is_that_of_the_paper():
    coverage = np.array([[1.0, 0.0, 3.0], [0.5, 1.0, 7.0]])
    expected = torch.tensor([-(np.log(2) + np.log(5)) / 3, -np.log(1.25) / 2], dtype=torch.float32)
    penalty = coverage_deviation_penalty(coverage, [[1, 1, 1], [1, 1, 0]])
    torch.testing.assert_close(penalty, expected)


def test_the_coverage_deviation_penalty_is_zero_at_best_and_without_source():
    penalty = coverage_deviation_penalty([[1.0, 1.0], [5.0, 5.0]], [[1, 1], [0, 0]])
    assert penalty.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0.5, 0.5]],), ValueError, r"weights must have the shape \(batch, target, source\), got the shape \(1, 2\)"),
        (([[[0.5, 1.5]]],), ValueError, "weights must lie between 0 and 1, got values from 0.5 to 1.5"),
        (([[["a"]]],), TypeError, "weights must be a tensor, an array or nested lists of numbers"),
        (([[[1.0]]], [[1, 1]]), ValueError, r"source_mask must have the shape \(1, 1\), got \(1, 2\)"),
        (([[[1.0]]], None, [1]), ValueError, r"target_mask must have the shape \(1, 1\), got \(1,\)"),
        (([[[1.0]]], [[3]]), ValueError, r"source_mask must hold 0 and 1 alone, got \[3\]"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        to_pharaoh(*arguments)


@pytest.mark.parametrize("threshold", [0, 1.5, float("nan")])
def test_a_threshold_that_is_no_weight_is_refused(threshold):
    with pytest.raises(ValueError, match=f"threshold must be None or a weight above 0 and at most 1, got {threshold}"):
        to_pharaoh([[[1.0]]], threshold=threshold)


@pytest.mark.parametrize(
    ("coverage", "message"),
    [([1.0, 1.0], r"coverage must have the shape \(batch, source\)"), ([[-1.0]], "coverage must be 0 or more, got -1")],
)
def test_a_coverage_that_is_none_is_refused(coverage, message):
    with pytest.raises(ValueError, match=message):
        coverage_deviation_penalty(coverage)
