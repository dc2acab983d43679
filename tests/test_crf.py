"""The conditional random field against the enumeration of all sequences of labels."""

import itertools
import re

import pytest
import torch

from attention_rnn.models.crf import ConditionalRandomField, allowed_transitions, is_chunk_scheme

BATCH, LENGTH, LABELS = 4, 5, 3
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0]], dtype=torch.bool)


def case(seed=0):
    torch.manual_seed(seed)
    crf = ConditionalRandomField(LABELS).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf, 2 * torch.randn(BATCH, LENGTH, LABELS, dtype=torch.double), torch.randint(LABELS, (BATCH, LENGTH))


def enumerate_scores(crf, emissions, mask):
    """Of one row: each sequence of labels over the mask, and its score by the definition."""
    emissions = emissions[mask]
    for labels in itertools.product(range(LABELS), repeat=len(emissions)):
        score = crf.start[labels[0]] + crf.end[labels[-1]]
        score = score + sum(emission[label] for emission, label in zip(emissions, labels, strict=True))
        yield labels, score + sum(crf.transitions[pair] for pair in itertools.pairwise(labels))


def test_the_likelihood_is_that_of_the_definition():
    crf, emissions, labels = case()
    likelihood = crf.log_likelihood(emissions, labels, MASK)
    for row in range(BATCH):
        scores = dict(enumerate_scores(crf, emissions[row], MASK[row]))
        expected = scores[tuple(labels[row, MASK[row]].tolist())] - torch.stack(list(scores.values())).logsumexp(0)
        torch.testing.assert_close(likelihood[row], expected)


def test_the_gradient_of_the_partition_is_the_marginals():
    crf, emissions, _ = case()
    emissions.requires_grad_()
    (gradient,) = torch.autograd.grad(crf._log_partition(emissions, MASK).sum(), emissions)
    for row in range(BATCH):
        sequences, scores = zip(*enumerate_scores(crf, emissions[row], MASK[row]), strict=True)
        probabilities = torch.stack(scores).softmax(dim=0)
        marginals = torch.zeros(int(MASK[row].sum()), LABELS, dtype=torch.double)
        for sequence, probability in zip(sequences, probabilities, strict=True):
            marginals[range(len(sequence)), sequence] += probability
        torch.testing.assert_close(gradient[row, MASK[row]], marginals.detach())
        assert not gradient[row, ~MASK[row]].any()


def test_gradients_are_those_of_finite_differences():
    crf, emissions, labels = case()
    parameters = [parameter.detach().requires_grad_() for parameter in crf.parameters()]

    def likelihood(emissions, *parameters):
        named = dict(zip(dict(crf.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(Likelihood(crf), {f"crf.{k}": v for k, v in named.items()}, (emissions,))

    class Likelihood(torch.nn.Module):
        def __init__(self, crf):
            super().__init__()
            self.crf = crf

        def forward(self, emissions):
            return self.crf.log_likelihood(emissions, labels, MASK)

    assert torch.autograd.gradcheck(likelihood, (emissions.requires_grad_(), *parameters))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_labels_are_those_of_the_highest_score(seed):
    crf, emissions, _ = case(seed)
    best = crf.best_labels(emissions, MASK)
    for row in range(BATCH):
        expected, _ = max(enumerate_scores(crf, emissions[row], MASK[row]), key=lambda scored: scored[1].item())
        assert best[row, MASK[row]].tolist() == list(expected)


def test_a_max_marginal_is_the_gap_between_the_best_sequence_and_the_best_with_that_label():
    crf, emissions, _ = case()
    gaps = crf.max_marginals(emissions, MASK)
    for row in range(BATCH):
        scored = [(labels, score.item()) for labels, score in enumerate_scores(crf, emissions[row], MASK[row])]
        best = max(score for _, score in scored)
        for index, position in enumerate(MASK[row].nonzero()[:, 0]):
            for label in range(LABELS):
                expected = max(score for labels, score in scored if labels[index] == label) - best
                assert gaps[row, position, label].item() == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(gaps[~MASK], emissions[~MASK])


def test_sequences_that_tie_do_not_mix():
    crf = ConditionalRandomField(LABELS)
    with torch.no_grad():  # 0 1 0 1 and 1 0 1 0 are equally good, 0 0 and 1 1 are worse; 2 is worst
        crf.transitions[:2, :2].fill_diagonal_(-1)
        crf.start[2] = crf.transitions[:, 2] = -5
    best = crf.best_labels(torch.zeros(1, 4, LABELS), torch.ones(1, 4, dtype=torch.bool))[0].tolist()
    assert best in ([0, 1, 0, 1], [1, 0, 1, 0])


def test_a_row_without_a_chain_has_the_likelihood_one():
    crf, emissions, labels = case()
    likelihood = crf.log_likelihood(emissions, labels, torch.zeros_like(MASK))
    assert likelihood.tolist() == [0] * BATCH


def test_low_precision_is_summed_in_single_precision():
    crf, emissions, labels = case()
    crf = crf.bfloat16()
    likelihood = crf.log_likelihood(emissions.bfloat16(), labels, MASK)
    assert likelihood.dtype == torch.float32
    torch.testing.assert_close(likelihood, crf.float().log_likelihood(emissions.bfloat16().float(), labels, MASK))


SCHEMES = {
    "BIO": (("O", "B-X", "I-X", "B-Y", "I-Y"), "O|(B-X)(I-X)*|(B-Y)(I-Y)*"),
    "BIOES": (("O", "B-X", "I-X", "E-X", "S-X"), "O|S-X|(B-X)(I-X)*E-X"),
    "BILOU": (("U-X", "O", "L-X", "I-X", "B-X"), "O|U-X|(B-X)(I-X)*L-X"),
    "BMES": (("B", "M", "E", "S"), "S|BM*E"),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_exactly_the_sequences_of_a_scheme_are_allowed(scheme):
    labels, chunks = SCHEMES[scheme]
    allowed = allowed_transitions(labels)
    for length in range(1, 5):
        for sequence in itertools.product(range(len(labels)), repeat=length):
            path = [0, *(label + 1 for label in sequence)]
            steps = itertools.pairwise([*path, 0])
            is_allowed = all(allowed[before, after - 1] for before, after in steps)
            text = "".join(labels[label] for label in sequence)
            assert is_allowed == bool(re.fullmatch(f"({chunks})+", text)), text


def test_constrained_labels_are_the_best_of_those_allowed():
    crf, emissions, _ = case()
    allowed = allowed_transitions(("O", "B-X", "I-X"))
    best = crf.best_labels(emissions, MASK, allowed)
    unconstrained = crf.best_labels(emissions, MASK)
    for row in range(BATCH):
        scored = [
            (labels, score.item())
            for labels, score in enumerate_scores(crf, emissions[row], MASK[row])
            if labels[0] != 2 and (0, 2) not in itertools.pairwise(labels)
        ]
        assert best[row, MASK[row]].tolist() == list(max(scored, key=lambda item: item[1])[0])
    assert not torch.equal(best, unconstrained)


def test_a_sequence_that_no_scheme_allows_is_still_labelled():
    crf = ConditionalRandomField(2)  # no single token can be a chunk, nor be outside
    allowed = allowed_transitions(("B-X", "E-X"))
    gaps = crf.max_marginals(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[True]]), allowed)
    assert torch.isfinite(gaps).all()


def test_other_labels_are_no_scheme():
    assert not is_chunk_scheme(("NOUN", "VERB"))
    assert not is_chunk_scheme(("O", "I-X"))  # IO: nothing tells where a chunk begins
    with pytest.raises(ValueError, match="NOUN"):
        allowed_transitions(("NOUN", "O"))
