"""CTC: what is computed in closed form is what counting all alignments gives."""

import itertools
import math

import pytest
import torch
from tiny_speech import tiny_ctc, tiny_labels, tiny_speech
from torch.nn.functional import ctc_loss

from attention_rnn.models.ctc import CTCHead, align, collapse, confidence
from attention_rnn.models.ctc_prefixes import PrefixScorer, prefix_beam_search

BLANK, TOKENS, POSITIONS = 0, (1, 2), 5
LENGTHS = torch.tensor([5, 4])


def log_probs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, POSITIONS, 3, generator=generator).log_softmax(-1)


def said_by(path):
    """The tokens that an alignment says."""
    return tuple(token for token, _ in itertools.groupby(path) if token != BLANK)


def paths(length):
    return itertools.product((BLANK, *TOKENS), repeat=length)


def probability(path, row):
    return math.exp(sum(row[position, token].item() for position, token in enumerate(path)))


PREFIXES = [(), (1,), (1, 1), (2, 1), (1, 2, 2), (1, 1, 1)]


@pytest.mark.parametrize("prefix", PREFIXES, ids=str)
def test_prefix_scores_are_those_of_all_alignments(prefix):
    probs = log_probs()
    scorer = PrefixScorer(probs, LENGTHS, BLANK)
    for token in prefix:
        scorer.advance(torch.arange(2), torch.tensor([token, token]))
    extended, said = scorer.extended(torch.tensor([TOKENS, TOKENS])).exp(), scorer.said().exp()
    for row, length in enumerate(LENGTHS.tolist()):
        begins, is_it = dict.fromkeys(TOKENS, 0.0), 0.0
        for path in paths(length):
            transcript = said_by(path)
            if transcript == prefix:
                is_it += probability(path, probs[row])
            for token in TOKENS:
                if transcript[: len(prefix) + 1] == (*prefix, token):
                    begins[token] += probability(path, probs[row])
        assert said[row].item() == pytest.approx(is_it, abs=1e-6)
        assert extended[row].tolist() == pytest.approx(list(begins.values()), abs=1e-6)


def test_rows_follow_their_parents():
    probs = log_probs()[:1].expand(2, -1, -1)
    lengths = LENGTHS[:1].expand(2)
    crossed = PrefixScorer(probs, lengths, BLANK)
    crossed.advance(torch.tensor([0, 1]), torch.tensor([1, 2]))
    crossed.advance(torch.tensor([1, 0]), torch.tensor([1, 1]))
    straight = PrefixScorer(probs, lengths, BLANK)
    straight.advance(torch.tensor([0, 1]), torch.tensor([2, 1]))
    straight.advance(torch.tensor([0, 1]), torch.tensor([1, 1]))
    torch.testing.assert_close(crossed.said(), straight.said())


def test_a_blank_changes_no_prefix():
    scorer = PrefixScorer(log_probs(), LENGTHS, BLANK)
    scorer.advance(torch.arange(2), torch.tensor([1, 2]))
    before = scorer.said(), scorer.extended(torch.tensor([TOKENS, TOKENS]))
    scorer.advance(torch.arange(2), torch.tensor([BLANK, BLANK]))
    torch.testing.assert_close((scorer.said(), scorer.extended(torch.tensor([TOKENS, TOKENS]))), before)


def test_more_tokens_than_positions_are_impossible():
    scorer = PrefixScorer(log_probs(), LENGTHS, BLANK)
    for token in (1, 2, 1, 2, 1):
        scorer.advance(torch.arange(2), torch.tensor([token, token]))
    assert scorer.said()[0].isfinite()
    assert scorer.said()[1] == -torch.inf
    assert (scorer.extended(torch.tensor([TOKENS, TOKENS])) == -torch.inf).all()


@pytest.mark.parametrize("seed", range(5))
def test_beam_search_finds_the_likeliest_transcripts(seed):
    probs = 2 * log_probs(seed)
    probs = probs.log_softmax(-1)
    tokens, scores = prefix_beam_search(probs, LENGTHS, BLANK, beams=12)
    for row, length in enumerate(LENGTHS.tolist()):
        totals = {}
        for path in paths(length):
            totals[said_by(path)] = totals.get(said_by(path), 0.0) + probability(path, probs[row])
        expected = sorted(totals, key=lambda transcript: -totals[transcript])[:3]
        found = [tuple(token for token in some.tolist() if token != BLANK) for some in tokens[row, :3]]
        assert found == expected
        assert scores[row, :3].exp().tolist() == pytest.approx([totals[transcript] for transcript in expected])


ALIGNED = [((1,), (2, 1)), ((1, 1), (1, 2)), ((), (2,)), ((1, 2, 1), (2, 2)), ((1, 1, 1), ())]


@pytest.mark.parametrize("transcripts", ALIGNED, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_the_alignment_is_the_likeliest_of_all(transcripts, seed):
    probs, longest = log_probs(seed), max(1, *map(len, transcripts))
    targets = torch.tensor([[*transcript, *[BLANK] * (longest - len(transcript))] for transcript in transcripts])
    counts = torch.tensor([len(transcript) for transcript in transcripts])
    first, behind = align(probs, LENGTHS, targets, counts, BLANK)
    certainty = confidence(probs, targets, first, behind)
    for row, (transcript, length) in enumerate(zip(transcripts, LENGTHS.tolist(), strict=True)):
        fitting = [path for path in paths(length) if said_by(path) == transcript]
        best = max(fitting, key=lambda path: probability(path, probs[row]))
        position, spans = 0, []
        for token, group in itertools.groupby(best):
            size = len(list(group))
            if token != BLANK:
                spans.append((position, position + size, token))
            position += size
        found = list(zip(first[row].tolist(), behind[row].tolist(), strict=True))[: len(transcript)]
        assert found == [span[:2] for span in spans]
        expected = [probs[row, start:end, token].mean().exp().item() for start, end, token in spans]
        assert certainty[row, : len(transcript)].tolist() == pytest.approx(expected)
    assert (behind[torch.arange(longest) >= counts[:, None]] == 0).all()


def test_what_does_not_fit_cannot_be_aligned():
    with pytest.raises(ValueError, match="row 1 needs 5, got 4"):
        align(log_probs(), LENGTHS, torch.tensor([[1, 2, 1], [1, 1, 1]]), torch.tensor([3, 3]), BLANK)


def test_repeats_collapse_and_blanks_go():
    tokens = torch.tensor([[1, 1, 0, 1, 2, 2], [0, 2, 2, 2, 1, 1]])
    collapsed, begins = collapse(tokens, torch.tensor([6, 4]), BLANK)
    assert collapsed.tolist() == [[1, 1, 2], [2, 0, 0]]
    assert begins.tolist() == [[0, 3, 4], [1, -1, -1]]


def test_the_loss_is_that_of_torch_per_label_without_silent_tokens():
    model, speech, labels = tiny_ctc(), tiny_speech(), tiny_labels()
    output = model(**speech, labels=labels)
    lengths = model.model(**speech).attention_mask.sum(1)
    expected = sum(
        ctc_loss(
            output.logits[row, : lengths[row], None],
            (sounded := labels[row][labels[row] > 3])[None],
            lengths[row][None],
            torch.tensor([len(sounded)]),
            reduction="sum",
        )
        for row in range(len(labels))
    )
    torch.testing.assert_close(output.loss, expected / (labels != -100).sum())
    torch.testing.assert_close(model(**speech, labels=labels, num_items_in_batch=50).loss, expected / 50)


def test_silent_tokens_are_never_said():
    model = tiny_ctc()
    head = CTCHead(model.config)
    assert head.silent == [1, 2]
    probabilities = head(torch.randn(2, 4, model.config.memory_size)).exp()
    assert (probabilities[..., [1, 2]] == 0).all()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, 4))


def test_a_transcript_that_does_not_fit_leaves_the_gradient_finite():
    model, speech = tiny_ctc(), tiny_speech()
    labels = torch.full((3, 30), 5)
    loss = model(**speech, labels=labels).loss
    loss.backward()
    assert loss == 0
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
