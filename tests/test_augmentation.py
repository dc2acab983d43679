"""New pairs from the parts of those that are there."""

import pytest

from attention_rnn.augmentation import recombine

VERBS = [
    ("handeln", "handelte"),
    ("wandern", "wanderte"),
    ("sammeln", "sammelte"),
    ("hämmern", "hämmert"),
    ("lächeln", "gelächelt"),
]


def pairs_of(words, between=""):
    return [{"source": between.join(source), "target": between.join(target)} for source, target in words]


def test_what_both_sides_share_is_changed_alike():
    made = recombine(pairs_of(VERBS), 40)
    stems = {source.removesuffix("n") for source, _ in VERBS}
    twos = {stem[at : at + 2] for stem in stems for at in range(len(stem) - 1)}
    for pair in made:
        stem = pair["source"].removesuffix("n")
        assert pair["target"] in (f"{stem}te", f"{stem}t", f"ge{stem}t")
        assert stem not in stems
        assert {stem[at : at + 2] for at in range(len(stem) - 1)} <= twos
    assert {"source": "wandeln", "target": "wandelte"} in made
    assert len({pair["source"] for pair in made}) == len(made)


def test_features_between_spaces_stay():
    pairs = [{"source": f"{pair['source']} [V] [PST]", "target": pair["target"]} for pair in pairs_of(VERBS, " ")]
    made = recombine(pairs, 5)
    assert made
    assert all(pair["source"].endswith(" n [V] [PST]") for pair in made)


def test_stems_are_drawn_where_beginnings_are_used_up():
    made = recombine(pairs_of([("handel", "handelt"), ("wander", "wandert"), ("anderland", "anderlandt")]), 60)
    assert all(pair["target"] == f"{pair['source']}t" for pair in made)
    # of "anderland" with all but its last two letters drawn, as no beginning of another makes them
    assert {"handeland", "wandeland"} <= {pair["source"] for pair in made}
    stems = ("handel", "wander", "anderland")
    twos = {stem[at : at + 2] for stem in stems for at in range(len(stem) - 1)}
    assert all({stem[at : at + 2] for at in range(len(stem) - 1)} <= twos for stem in (p["source"] for p in made))


@pytest.mark.parametrize("number", [0, 3])
def test_so_many_are_made_and_always_the_same(number):
    made = recombine(pairs_of(VERBS), number, seed=5)
    assert len(made) == number
    assert made == recombine(pairs_of(VERBS), number, seed=5)


def test_single_symbols_are_exchanged_where_stems_are_no_beginnings():
    # three consonants stand among vowels that change
    roots = ["ktb", "drs", "slm", "fth", "kbr"]
    pairs = [{"source": f"e {a} a {b} a {c} [V]", "target": f"y u {a} {b} i {c} u"} for a, b, c in roots]
    made = recombine(pairs, 40)
    assert len(made) == 40
    for pair in made:
        _, a, _, b, _, c, _ = pair["source"].split()
        assert pair == {"source": f"e {a} a {b} a {c} [V]", "target": f"y u {a} {b} i {c} u"}
        assert {a, b, c} <= set("".join(roots))


def test_nothing_is_exchanged_where_pairs_are_many():
    pairs = pairs_of([(f"e{source}", target) for source, target in VERBS])
    assert recombine(pairs, 9)
    assert recombine(pairs * 40, 9) == []


def test_spaces_and_what_the_target_often_lacks_are_not_exchanged():
    pairs = [
        {"source": f"e {a} x a ␣ {b} u", "target": f"{a} a ␣ {b} u o x"} for a, b in ("kt", "pm", "tp", "mk", "sl")
    ]
    made = recombine(pairs, 10)
    assert len(made) == 10
    for pair in made:
        first, a, second, b, third, c, d = pair["source"].split()
        assert (first, second, third) == ("e", "x", "␣")
        assert pair["target"] == f"{a} {b} ␣ {c} {d} o x"


def test_nothing_is_made_of_what_shares_nothing():
    assert recombine(pairs_of([("haus", "HAUS"), ("ab", "ab")]), 9) == []
