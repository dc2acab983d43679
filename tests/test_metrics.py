import multiprocessing
import subprocess
import sys

import evaluate
import pytest
import sacrebleu

from attention_rnn.metrics import LOWER_IS_BETTER, METRICS, load_metric

PREDICTIONS = ["The cat sat on a mat .", "It is raining, again."]
REFERENCES = ["The cat sat on the mat.", "it is raining again."]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the folders that `evaluate` makes for each metric out of the home directory."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_an_evaluate_metric_with_a_percentage_under_its_name(name):
    metric = load_metric(name)
    assert isinstance(metric, evaluate.Metric)
    assert metric.name == name
    perfect = metric.compute(predictions=REFERENCES, references=REFERENCES)[name]
    wrong = metric.compute(predictions=["zzzz"], references=["aaaa"])[name]
    best, worst = (0, 100) if name in LOWER_IS_BETTER else (100, 0)
    assert perfect == pytest.approx(best)
    assert wrong == pytest.approx(worst)


@pytest.mark.parametrize("name", METRICS)
def test_batches_and_single_items_count_like_one_list(name):
    metric = load_metric(name)
    whole = metric.compute(predictions=PREDICTIONS, references=REFERENCES)
    metric.add_batch(predictions=PREDICTIONS[:1], references=REFERENCES[:1])
    metric.add(prediction=PREDICTIONS[1], reference=REFERENCES[1])
    assert metric.compute() == whole


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_forgets_what_it_has_scored(name):
    metric = load_metric(name)
    metric.compute(predictions=["a wrong one of five words"], references=["b"])
    again = metric.compute(predictions=PREDICTIONS, references=REFERENCES)
    assert again == load_metric(name).compute(predictions=PREDICTIONS, references=REFERENCES)


@pytest.mark.parametrize(
    ("options", "scorer"),
    [
        ({}, sacrebleu.BLEU()),
        ({"tokenize": "none"}, sacrebleu.BLEU(tokenize="none")),
        ({"tokenize": "char"}, sacrebleu.BLEU(tokenize="char")),
        ({"lowercase": True}, sacrebleu.BLEU(lowercase=True)),
    ],
)
def test_bleu_is_that_of_sacrebleu_with_the_signature(options, scorer):
    result = load_metric("bleu", **options).compute(predictions=PREDICTIONS, references=REFERENCES)
    assert result["bleu"] == scorer.corpus_score(PREDICTIONS, [REFERENCES]).score
    assert result["bleu_signature"] == str(scorer.get_signature())


@pytest.mark.parametrize(
    ("options", "scorer"),
    [({}, sacrebleu.CHRF()), ({"word_order": 2, "lowercase": True}, sacrebleu.CHRF(word_order=2, lowercase=True))],
)
def test_chrf_is_that_of_sacrebleu_with_the_signature(options, scorer):
    result = load_metric("chrf", **options).compute(predictions=PREDICTIONS, references=REFERENCES)
    assert result["chrf"] == scorer.corpus_score(PREDICTIONS, [REFERENCES]).score
    assert result["chrf_signature"] == str(scorer.get_signature())


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_items_may_have_different_numbers_of_references(name):
    metric = load_metric(name)
    result = metric.compute(predictions=REFERENCES, references=[["something else", REFERENCES[0]], REFERENCES[1]])
    assert result[name] == pytest.approx(100)
    assert "nrefs:var" in result[f"{name}_signature"]


def test_wer_counts_edits_of_tokens_over_reference_tokens():
    # one substitution among four phones, one insertion beside one phone: 2 / 5
    result = load_metric("wer").compute(predictions=["h ə l oʊ", "eɪ b"], references=["h ɛ l oʊ", "eɪ"])
    assert result == {"wer": pytest.approx(40)}


def test_phones_and_words_of_a_pronunciation_have_error_rates_of_their_own():
    texts = {"predictions": ["h ə l oʊ", "eɪ b", "k"], "references": ["h ɛ l oʊ", "eɪ", ["s", "k"]]}
    assert load_metric("per").compute(**texts) == {"per": pytest.approx(100 * 2 / 6)}
    assert load_metric("word_error_rate").compute(**texts) == {"word_error_rate": pytest.approx(100 * 2 / 3)}


def test_cer_counts_edits_of_characters_over_reference_characters():
    result = load_metric("cer").compute(predictions=["kitten", "a b"], references=["sitting", "ab"])
    assert result == {"cer": pytest.approx(100 * 4 / 9)}


@pytest.mark.parametrize(
    ("name", "score"),
    # 3 of 4 words and of 5; 1 of 3 pairs and of 4; "the sat mat" is common
    [("rouge1", 200 * 3 / 9), ("rouge2", 200 * 1 / 7), ("rougeL", 200 * 3 / 9)],
)
def test_rouge_is_the_f_score_of_words_of_pairs_and_of_the_common_subsequence(name, score):
    metric = load_metric(name)
    result = metric.compute(predictions=["The old sat, mat"], references=["the cat sat mat again"])
    assert result == {name: pytest.approx(score)}


def test_rouge_is_the_mean_over_items_of_the_best_reference():
    result = load_metric("rouge1").compute(predictions=["a b", "c"], references=[["a x", "a b"], "d"])
    assert result == {"rouge1": pytest.approx(50)}


def test_rouge_strips_endings_if_asked():
    texts = {"predictions": ["approving reports"], "references": ["approved report"]}
    assert load_metric("rougeL").compute(**texts) == {"rougeL": 0}
    assert load_metric("rougeL", use_stemmer=True).compute(**texts) == {"rougeL": pytest.approx(100)}


@pytest.mark.parametrize("name", ["wer", "per", "cer"])
def test_error_rates_take_the_reference_with_the_fewest_edits_and_of_those_the_longest(name):
    result = load_metric(name).compute(predictions=["a b c"], references=[["x y z", "a b", "a b c d"]])
    longest = load_metric(name).compute(predictions=["a b c"], references=["a b c d"])
    assert result == longest


def test_exact_match_accepts_any_reference_and_nothing_but_equality():
    result = load_metric("exact_match").compute(
        predictions=["a", "b", "c ", "C"], references=["a", ["x", "b"], "c", ["c"]]
    )
    assert result == {"exact_match": 50}


@pytest.mark.parametrize(
    ("name", "nothing_said", "nothing_to_say", "both"),
    [
        ("bleu", 0, 0, 0),
        ("chrf", 0, 0, 0),
        ("wer", 100, 200, 0),
        ("per", 100, 200, 0),
        ("cer", 100, 300, 0),
        ("word_error_rate", 100, 100, 0),
        ("exact_match", 0, 0, 100),
        ("rouge1", 0, 0, 0),
    ],
)
def test_empty_strings_have_a_score(name, nothing_said, nothing_to_say, both):
    metric = load_metric(name)
    assert metric.compute(predictions=[""], references=["a b"])[name] == nothing_said
    assert metric.compute(predictions=["a b"], references=[""])[name] == nothing_to_say
    assert metric.compute(predictions=[""], references=[""])[name] == both


@pytest.mark.parametrize(
    ("predictions", "references", "error", "message"),
    [
        (["a"], ["a", "b"], ValueError, "same length, got 1 and 2"),
        ([], [], ValueError, "predictions must not be empty"),
        (["a"], [[]], ValueError, r"references\[0\] must not be empty"),
        (["a", 3], ["a", "b"], TypeError, r"predictions\[1\] must be a string, got 3"),
        (["a", "b"], ["a", ["b", None]], TypeError, r"references\[1\]\[1\] must be a string, got None"),
        (["a", "b"], ["a", 7], TypeError, r"references\[1\] must be a list of strings, got 7"),
        ("a", ["a"], TypeError, "predictions must be a list of strings, got 'a'"),
        (["a"], None, TypeError, "references must be a list of strings, got None"),
        (None, None, ValueError, "nothing to score"),
    ],
)
def test_bad_input_is_named_and_leaves_the_metric_usable(predictions, references, error, message):
    metric = load_metric("exact_match")
    with pytest.raises(error, match=message):
        metric.compute(predictions=predictions, references=references)
    assert metric.compute(predictions=["a"], references=["a"]) == {"exact_match": 100}


def test_bad_names_and_options_are_refused():
    with pytest.raises(ValueError, match=r"name must be one of \['bleu', 'chrf', .*\], got 'rouge'"):
        load_metric("rouge")
    with pytest.raises(ValueError, match=r"tokenize must be one of .*'13a'.*, got 'moses'"):
        load_metric("bleu", tokenize="moses")
    with pytest.raises(ValueError, match="word_order must be an integer of at least 0, got -1"):
        load_metric("chrf", word_order=-1)
    with pytest.raises(TypeError, match="tokenise"):
        load_metric("bleu", tokenise="13a")


def test_instances_do_not_share_items():
    first, second = load_metric("exact_match"), load_metric("exact_match")
    first.add_batch(predictions=["a"], references=["a"])
    second.add_batch(predictions=["a"], references=["b"])
    assert first.compute() == {"exact_match": 100}
    assert second.compute() == {"exact_match": 0}


def _score_a_part(part):
    process_id, cache_dir, predictions, references = part
    metric = load_metric(
        "exact_match", num_process=2, process_id=process_id, experiment_id="parts", cache_dir=cache_dir
    )
    return metric.compute(predictions=predictions, references=references)


@pytest.mark.skipif(sys.platform != "linux", reason="needs processes that start by fork")
def test_several_processes_make_one_score(tmp_path):
    parts = [(0, str(tmp_path), ["a", "b", "c"], ["a", "b", "x"]), (1, str(tmp_path), ["d"], ["d"])]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_score_a_part, parts, chunksize=1) == [{"exact_match": 75}, None]


@pytest.mark.parametrize("library", ["datasets", "rouge_score"])
def test_a_missing_library_is_named_with_the_extra_that_brings_it(library):
    code = f"import sys; sys.modules['{library}'] = None; from attention_rnn.metrics import Rouge1; Rouge1()"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError" in process.stderr
    assert "pip install 'attention-rnn[train]'" in process.stderr
