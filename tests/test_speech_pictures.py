"""What a picture of a transcript names."""

import numpy as np
import pytest

from attention_rnn.speech.pictures import peaks_in_order


@pytest.mark.parametrize(
    ("spikes", "expected"),
    [
        ([[1, 7], [4], [1, 7]], [1, 4, 7]),
        ([[1, 5], [1, 5], [8]], [1, 5, 8]),
        ([[3]], [3]),
    ],
)
def test_tokens_are_named_at_their_spikes_one_behind_the_other(spikes, expected):
    curves = np.zeros((len(spikes), 10))
    for row, places in enumerate(spikes):
        curves[row, places] = 0.5 + 0.04 * np.array(places)  # the later ones are higher
    assert peaks_in_order(curves) == expected
