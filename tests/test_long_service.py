"""One model that serves many threads, and for long."""

import gc
import os
import sys
import threading
from pathlib import Path

import pytest
import torch
from tiny import tiny_model

from attention_rnn import AttentionRnnForConditionalGeneration, quantize
from attention_rnn.models.prepared_linear import Int8Linear

THOROUGH = bool(os.environ.get("THOROUGH"))
THREADS = 16
CALLS = 2_000 if THOROUGH else 100

# wide enough that a decoding lays its matrices out for oneDNN
WIDE = {"embedding_size": 64, "hidden_size": 160, "vocab_size": 1_100, "encoder_layers": 1, "decoder_layers": 2}
MODELS = {
    "parallel": lambda: tiny_model(**WIDE),
    "conditional": lambda: tiny_model(context_feeding="conditional", attention_type="location", **WIDE),
    "copying": lambda: tiny_model(copy=True, coverage=True),
    "int8": lambda: quantize(tiny_model(**WIDE | {"hidden_size": 320})),
}
SETTINGS = {
    "greedy": {},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "top_k": 1},  # of one token: threads share the random numbers
    "transformers' loop": {"output_hidden_states": True},
}


def sources(number, vocab_size):
    generator = torch.Generator().manual_seed(number)
    return torch.randint(4, vocab_size, (1 + number % 4, 3 + number % 5), generator=generator)


def generate(model, number, settings):
    return model.generate(
        sources(number, model.config.vocab_size),
        max_new_tokens=6,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )


@pytest.mark.parametrize("name", MODELS)
def test_many_threads_get_what_one_gets(name):
    model = MODELS[name]()
    assert any(type(module) is Int8Linear for module in model.modules()) == (name == "int8")
    calls = [(number, settings) for number in range(THREADS) for settings in SETTINGS.values()]
    calls = calls if THOROUGH else calls[::5]  # all settings still
    expected = [generate(model, *call) for call in calls]
    results, barrier = {}, threading.Barrier(THREADS)

    def serve(thread):
        barrier.wait()
        for call in range(3):
            index = (thread + 7 * call) % len(calls)
            results[thread, index] = generate(model, *calls[index])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=serve, args=(thread,)) for thread in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(results) == 3 * THREADS
    for (_, index), result in results.items():
        assert torch.equal(result.sequences, expected[index].sequences)
        for scores, expected_scores in zip(result.scores, expected[index].scores, strict=True):
            torch.testing.assert_close(scores, expected_scores)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the memory of this process")
def test_memory_does_not_grow_from_call_to_call():
    model = tiny_model()
    assert isinstance(model, AttentionRnnForConditionalGeneration)

    def serve(calls):
        for number in range(calls):
            model.generate(sources(number, 19), max_new_tokens=4, num_beams=1 + number % 2)
        gc.collect()
        return len(gc.get_objects()), resident_bytes()

    serve(50)
    objects, size = serve(50)
    more_objects, more_size = serve(CALLS)
    print(f"{CALLS} calls: {more_objects - objects} objects and {(more_size - size) / 2**10:.0f} KiB more")
    assert more_objects - objects < CALLS / 10
    assert more_size - size < 2**20
