"""The reader: its head, the flow of attention, and what stands around the model."""

import math
import unicodedata

import pytest
import torch
from tiny import tiny_config
from torch.nn.functional import cross_entropy
from transformers import AutoModel, AutoModelForQuestionAnswering

from attention_rnn import AttentionRnnForConditionalGeneration, AttentionRnnForQuestionAnswering
from attention_rnn.metrics import load_metric
from attention_rnn.models.modeling_attention_rnn_question_answering import AttentionFlow
from attention_rnn.question_answering import Window, answer_positions, encode_windows, find_answers, read_examples
from attention_rnn.tokenizer_training import train_tokenizer

END = 2
# question of 3 and 2 tokens, context of 5 and 6
INPUT_IDS = torch.tensor([[4, 5, 6, END, 7, 8, 5, 9, 10, END], [11, 12, END, 7, 12, 13, 14, 11, 15, END]])


def decomposed(text):
    return unicodedata.normalize("NFD", text)


def reader(seed=0, **overrides):
    torch.manual_seed(seed)
    model = AttentionRnnForQuestionAnswering(tiny_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def pad(rows, positions, length):
    """Each row with its tokens at the given positions, and the attention mask."""
    ids, mask = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.long)
    for index, (row, places) in enumerate(zip(rows, positions, strict=True)):
        ids[index, places], mask[index, places] = row, 1
    return ids, mask


def test_a_loss_in_half_precision_is_summed_in_single_precision():
    model = reader().bfloat16()
    ids = torch.cat([INPUT_IDS[:, :4], INPUT_IDS[:, 4:-1].repeat(1, 60), INPUT_IDS[:, -1:]], dim=1)
    kinds = torch.ones_like(ids)
    kinds[:, :4] = 0
    outputs = model(ids, token_type_ids=kinds, start_positions=torch.tensor([9, 7]), end_positions=torch.tensor([9, 8]))
    starts, ends = outputs.start_logits.float(), outputs.end_logits.float()
    expected = cross_entropy(starts, torch.tensor([9, 7])) + cross_entropy(ends, torch.tensor([9, 8]))
    assert outputs.loss.item() == pytest.approx(expected.item() / 2, rel=1e-5)


@pytest.mark.parametrize("question_attention", [True, False])
@pytest.mark.parametrize("cell_type", ["gru", "lstm"])
@pytest.mark.parametrize(
    "positions",
    [
        [list(range(10)), list(range(10))],
        [list(range(10)), list(range(3, 13))],
        [[0, 1, 3, 4, 5, 7, 8, 10, 11, 12], [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]],
    ],
    ids=["right", "left", "holes"],
)
def test_padding_changes_nothing(question_attention, cell_type, positions):
    model = reader(question_attention=question_attention, cell_type=cell_type)
    plain = model(INPUT_IDS)
    ids, mask = pad(INPUT_IDS, positions, 13)
    padded = model(ids, mask)
    for name in ("start_logits", "end_logits"):
        for row, places in enumerate(positions):
            torch.testing.assert_close(padded[name][row, places], plain[name][row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("question_attention", [True, False])
def test_only_the_context_and_the_first_token_can_be_answers(question_attention):
    logits = reader(question_attention=question_attention)(INPUT_IDS)
    possible = torch.tensor([[1, 0, 0, 0, 1, 1, 1, 1, 1, 0], [1, 0, 0, 1, 1, 1, 1, 1, 1, 0]], dtype=torch.bool)
    for name in ("start_logits", "end_logits"):
        assert torch.equal(logits[name] > torch.finfo().min, possible)


def test_token_types_say_the_same_as_the_first_end_of_a_sequence():
    model = reader()
    types = torch.tensor([[0] * 4 + [1] * 6, [0] * 3 + [1] * 7])
    torch.testing.assert_close(model(INPUT_IDS, token_type_ids=types).start_logits, model(INPUT_IDS).start_logits)


def test_the_attention_of_the_context_is_returned():
    model = reader()
    (weights,) = model(INPUT_IDS, output_attentions=True).attentions
    assert weights.shape == (2, 1, 10, 10)
    sums = weights[:, 0].sum(dim=-1)
    torch.testing.assert_close(sums[0], torch.tensor([0.0] * 4 + [1.0] * 5 + [0.0]))
    assert (weights[0, 0, :, 3:] == 0).all()
    assert reader(question_attention=False)(INPUT_IDS, output_attentions=True).attentions == ()
    assert model(INPUT_IDS).attentions is None


def test_the_flow_computes_the_equations_of_the_paper():
    torch.manual_seed(0)
    flow = AttentionFlow(tiny_config(hidden_size=3))
    memory = torch.randn(1, 7, 6)
    question, context = memory[0, :2], memory[0, 3:6]
    masks = torch.tensor([[1, 1, 0]], dtype=torch.bool), torch.tensor([[0, 0, 0, 1, 1, 1, 0]], dtype=torch.bool)
    same = torch.zeros(1, 7, 3, dtype=torch.bool)
    same[0, 4, 1] = True
    matched, weights = flow(memory, *masks, same)

    scores = torch.empty(3, 2)
    for t in range(3):
        for j in range(2):
            bilinear = context[t] @ flow.product.weight.T @ question[j]
            scores[t, j] = flow.context.weight[0] @ context[t] + flow.question.weight[0] @ question[j] + bilinear
    of_context = scores.amax(dim=1).softmax(dim=0) @ context
    for t in range(3):
        of_question = scores[t].softmax(dim=0) @ question
        occurs = torch.tensor([1.0 if t == 1 else 0.0])
        parts = [context[t], of_question, context[t] * of_question, context[t] * of_context, occurs]
        torch.testing.assert_close(matched[0, 3 + t], torch.relu(flow.merge(torch.cat(parts))))
        torch.testing.assert_close(weights[0, 3 + t, :2], scores[t].softmax(dim=0))


def test_every_parameter_has_a_gradient():
    model = reader().train()
    model(INPUT_IDS, start_positions=torch.tensor([5, 4]), end_positions=torch.tensor([6, 4])).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_the_loss_is_the_mean_of_start_and_end():
    model = reader()
    starts, ends = torch.tensor([5, 4]), torch.tensor([6, 4])
    outputs = model(INPUT_IDS, start_positions=starts, end_positions=ends)
    of_start = -outputs.start_logits.log_softmax(dim=1).gather(1, starts[:, None]).mean()
    of_end = -outputs.end_logits.log_softmax(dim=1).gather(1, ends[:, None]).mean()
    torch.testing.assert_close(outputs.loss, (of_start + of_end) / 2)


def test_num_items_in_batch_makes_the_loss_of_parts_that_of_the_whole():
    model = reader()
    starts, ends = torch.tensor([5, 4]), torch.tensor([6, 4])
    whole = model(INPUT_IDS, start_positions=starts, end_positions=ends).loss
    parts = [
        model(
            INPUT_IDS[i : i + 1], start_positions=starts[i : i + 1], end_positions=ends[i : i + 1], num_items_in_batch=2
        ).loss
        for i in range(2)
    ]
    torch.testing.assert_close(sum(parts), whole)


@pytest.mark.parametrize("ignored", [-100, 10, 99])
def test_positions_that_are_cut_off_are_ignored(ignored):
    model = reader()
    one = model(INPUT_IDS[:1], start_positions=torch.tensor([5]), end_positions=torch.tensor([6])).loss
    positions = {"start_positions": torch.tensor([5, ignored]), "end_positions": torch.tensor([6, ignored])}
    torch.testing.assert_close(model(INPUT_IDS, **positions).loss, one)


@pytest.mark.parametrize(
    ("starts", "ends", "message"),
    [
        ([5, 1], [6, 4], "`start_positions` must point into the context.*got 1 in row 1"),
        ([5, 4], [9, 4], "`end_positions` must point into the context.*got 9 in row 0"),
        ([5, -1], [6, 4], "got -1 in row 1"),
        ([5, 5], [6, 4], "`end_positions` must not lie before `start_positions`, got 4 and 5 in row 1"),
        ([5], [6, 4], r"`start_positions` must have the shape \(2,\)"),
    ],
)
def test_wrong_positions_are_refused(starts, ends, message):
    with pytest.raises(ValueError, match=message):
        reader()(INPUT_IDS, start_positions=torch.tensor(starts), end_positions=torch.tensor(ends))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": torch.tensor([[4, 5, END]])}, "row 0 has no context"),
        ({"input_ids": torch.tensor([[END, 5, 6]])}, "row 0 has no question"),
        ({"inputs_embeds": torch.zeros(1, 3, 6)}, "`token_type_ids` must mark the context"),
        ({"input_ids": INPUT_IDS, "token_type_ids": torch.zeros(2, 3)}, "`token_type_ids` must have the shape"),
    ],
)
def test_sequences_without_question_and_context_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        reader()(**inputs)


def test_it_is_saved_and_loaded_and_its_encoder_is_a_model_of_its_own(tmp_path):
    model = reader()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path)
    assert torch.equal(loaded(INPUT_IDS).start_logits, model(INPUT_IDS).start_logits)
    memory = AutoModel.from_pretrained(tmp_path)(INPUT_IDS).last_hidden_state
    assert torch.equal(memory, model.model(INPUT_IDS).last_hidden_state)


def test_it_takes_the_encoder_of_a_translator(tmp_path):
    translator = AttentionRnnForConditionalGeneration(tiny_config())
    translator.save_pretrained(tmp_path)
    model = AutoModelForQuestionAnswering.from_pretrained(tmp_path)
    assert torch.equal(model.model.encoder.embed_tokens.weight, translator.model.encoder.embed_tokens.weight)


def test_it_learns_to_find_what_stands_behind_the_word_of_the_question():
    torch.manual_seed(0)
    model = AttentionRnnForQuestionAnswering(tiny_config(vocab_size=30, embedding_size=16, hidden_size=24))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def batch(size):
        keys = torch.stack([torch.randperm(26)[:6] + 4 for _ in range(size)])
        wanted = torch.randint(0, 5, (size,))
        ends = torch.full((size, 1), END)
        return torch.cat([keys.gather(1, wanted[:, None]), ends, keys, ends], dim=1), wanted + 3

    for _ in range(60):
        ids, answers = batch(32)
        optimizer.zero_grad()
        model(ids, start_positions=answers, end_positions=answers).loss.backward()
        optimizer.step()
    ids, answers = batch(64)
    assert (model.eval()(ids).start_logits.argmax(dim=1) == answers).float().mean() > 0.9


# What stands around the model

CONTEXT = "Tokyo is the capital of Japan."
ANSWER = {"text": "Tokyo", "answer_start": 0}
FLAT = {"id": "q", "question": "Which?", "context": CONTEXT, "answers": {"text": ["Tokyo"], "answer_start": [0]}}
PARAGRAPH = {"context": CONTEXT, "qas": [{"id": "q", "question": " Which? ", "answers": [ANSWER]}]}


@pytest.mark.parametrize(
    "row",
    [
        FLAT,
        PARAGRAPH,
        {"paragraphs": [PARAGRAPH]},
        {"version": "1", "data": [{"title": "x", "paragraphs": [PARAGRAPH]}]},
    ],
    ids=["question", "paragraph", "article", "data set"],
)
def test_every_form_of_squad_is_read(row):
    assert list(read_examples([("here", row)])) == [{**FLAT, "place": "here, question q"}]


def test_questions_without_answers_have_empty_lists():
    rows = [("a", {**FLAT, "id": 7, "answers": []}), ("b", {**FLAT, "is_impossible": True})]
    assert [example["answers"] for example in read_examples(rows)] == [{"text": [], "answer_start": []}] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": " "}, "here, question q: `question` must be a text that is not empty, got ' '"),
        ({"context": None}, "`context` must be a text that is not empty, got None"),
        ({"answers": [{"text": "Kyoto", "answer_start": 0}]}, "'Kyoto' must stand at its `answer_start` 0 .*'Tokyo'"),
        ({"answers": [{"text": "n.", "answer_start": -2}]}, "must stand at its `answer_start` -2"),
        (
            {"answers": [{"text": "Tokyo", "answer_start": 90}]},
            "must stand at its `answer_start` 90 .*where there is ''",
        ),
        ({"answers": [{"text": "", "answer_start": 0}]}, "an answer must have a `text` and an `answer_start`"),
        ({"answers": [{"text": "Tokyo"}]}, "an answer must have a `text` and an `answer_start`"),
        (
            {"answers": ["Tokyo"]},
            r"here, question q: `answers` must be a list of answers or two lists, got \['Tokyo'\]",
        ),
        ({"answers": {"text": ["Tokyo"]}}, "here, question q: `text` and `answer_start` must be lists of one length"),
        ({"answers": {"text": ["Tokyo"], "answer_start": []}}, "`text` and `answer_start` must be lists of one length"),
        ({"qas": ["Which?"]}, "here: `qas` must be a list of objects"),
        ({"data": [{"paragraphs": ["Tokyo"]}]}, r"here: `paragraphs` must be a list of objects, got \['Tokyo'\]"),
    ],
)
def test_wrong_examples_are_refused_with_their_place(changes, message):
    with pytest.raises(ValueError, match=message):
        list(read_examples([("here", {**FLAT, **changes})]))


def test_answers_come_without_the_white_space_around_them():
    (example,) = read_examples([("here", {**FLAT, "answers": {"text": [" of "], "answer_start": [20]}})])
    assert example["answers"] == {"text": ["of"], "answer_start": [21]}


def test_an_id_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match="there, question q: every question must have an id of its own"):
        list(read_examples([("here", FLAT), ("there", FLAT)]))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["abcdefghij ?"], "character")


def test_long_contexts_are_read_in_windows_that_overlap(tokenizer):
    windows = encode_windows(tokenizer, ["ab?", "c?"], ["abcdefghij", "de"], 11, 4, stride=2)
    assert windows["example"] == [0, 0, 1]
    shown = [[offset for offset in offsets if offset] for offsets in windows["context_offsets"]]
    assert [(of_window[0][0], of_window[-1][1]) for of_window in shown] == [(0, 6), (4, 10), (0, 2)]
    assert all(len(ids) <= 11 for ids in windows["input_ids"])


def test_every_character_is_in_some_window(tokenizer):
    context = "abcdefghij" * 5
    windows = encode_windows(tokenizer, ["a?"], [context], 12, 3, stride=3)
    seen = {offset for offsets in windows["context_offsets"] for offset in offsets if offset}
    assert seen == {(index, index + 1) for index in range(len(context))}


def test_without_a_limit_a_context_is_one_window(tokenizer):
    windows = encode_windows(tokenizer, ["a?"], ["abcdefghij" * 90])
    assert [len(ids) for ids in windows["input_ids"]] == [904]


def test_a_long_question_is_cut(tokenizer):
    windows = encode_windows(tokenizer, ["abcdefghij"], ["ab"], 12, 4)
    assert tokenizer.decode(windows["input_ids"][0], skip_special_tokens=True) == "abcdab"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], ["  "]), "`contexts` must hold texts that are not empty, got '  ' at index 0"),
        (([""], ["a"]), "`questions` must hold texts"),
        ((["a"], ["b"], 8, 4, 2), "leaves 2 tokens to the context.*`stride` must be from 0 .* got 2"),
        ((["a"], ["b"], 8, 7, 0), "leaves 0 tokens"),
    ],
)
def test_windows_without_room_are_refused(tokenizer, arguments, message):
    with pytest.raises(ValueError, match=message):
        encode_windows(tokenizer, *arguments)


def test_answers_are_found_in_windows_by_their_characters():
    offsets = [None, None, (0, 3), (3, 5), (5, 9), None]
    assert answer_positions(offsets, 0, 3) == (2, 2)
    assert answer_positions(offsets, 4, 8) == (3, 4)  # not at the borders of tokens
    assert answer_positions(offsets, 4, 10) is None
    assert answer_positions([None, (3, 5)], 0, 4) is None


@pytest.mark.parametrize("kind", ["word", "character", "bpe"])
@pytest.mark.parametrize("normalization", ["NFC", "NFD", "NFKC"])
@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("answer", [decomposed(text) for text in ("José", "한국", "ậ", "İ")] + ["İ", "한", "of ﬁ"])
def test_a_span_keeps_the_marks_of_its_last_letter(kind, normalization, lowercase, answer):
    context = decomposed("é ") + answer
    tokenizer = train_tokenizer([context], kind, normalization=normalization, lowercase=lowercase)
    (offsets,) = encode_windows(tokenizer, ["a?"], [context])["context_offsets"]
    start, end = context.index(answer), len(context)
    first, last = answer_positions(offsets, start, end)
    logits = [torch.full((len(offsets),), -9.0).index_fill(0, torch.tensor(place), 9.0) for place in (first, last)]
    (best,) = find_answers(context, [Window(*logits, offsets)])
    assert (best["answer"], best["start"], best["end"]) == (answer, start, end)


def test_a_question_is_not_cut_within_a_letter():
    tokenizer = train_tokenizer(["aé"], "character")
    windows = encode_windows(tokenizer, [decomposed("aéaa")], ["a"], 8, 2)
    assert tokenizer.decode(windows["input_ids"][0], skip_special_tokens=True) == "aéa"


def test_a_mark_with_a_token_of_its_own_is_left_to_it():
    tokenizer = train_tokenizer(["x\u0344"], "character")  # no letter is made of the two
    (offsets,) = encode_windows(tokenizer, ["x"], ["x\u0344x"])["context_offsets"]
    assert offsets[2:5] == [(0, 1), (1, 2), (2, 3)]


def window(starts, ends, offsets):
    return Window(torch.tensor(starts), torch.tensor(ends), offsets)


def test_the_best_span_ends_behind_its_start_and_is_short():
    offsets = [None, None, (0, 1), (1, 2), (2, 3)]
    peaked = window([0, 99.0, 0, 0, 9], [0, 99.0, 9, 0, 8], offsets)  # the question has no part in it
    (best,) = find_answers("xyz", [peaked])
    assert (best["start"], best["end"], best["answer"]) == (2, 3, "z")
    wide = window([0, 0.0, 9, 0, 0], [0, 0.0, 0, 1, 9], offsets)
    assert find_answers("xyz", [wide])[0]["answer"] == "xyz"
    assert find_answers("xyz", [wide], max_answer_length=2)[0]["answer"] == "xy"


def test_spans_are_scored_by_the_product_of_their_probabilities():
    offsets = [None, None, (0, 1), (1, 2)]
    starts, ends = [0.3, 0.0, 1.0, 2.0], [0.1, 0.0, 0.5, 0.7]
    answers = find_answers("xy", [window(starts, ends, offsets)], top_k=9, allow_no_answer=True)
    of_start, of_end = (torch.tensor([values[i] for i in (0, 2, 3)]).softmax(0) for values in (starts, ends))
    expected = {
        "": of_start[0] * of_end[0],
        "x": of_start[1] * of_end[1],
        "y": of_start[2] * of_end[2],
        "xy": of_start[1] * of_end[2],
    }
    assert {answer["answer"]: pytest.approx(answer["score"], rel=1e-5) for answer in answers} == {
        answer: float(score) for answer, score in expected.items()
    }
    assert [answer["score"] for answer in answers] == sorted((answer["score"] for answer in answers), reverse=True)


def test_a_window_that_holds_no_answer_gives_way_to_the_other():
    offsets = [None, None, (0, 1), (1, 2)]
    sure = window([0, 0, 0, 5.0], [0, 0, 0, 5.0], offsets)
    none = window([20.0, 0, 9, 0], [20.0, 0, 9, 0], offsets)
    assert find_answers("xy", [none, sure], allow_no_answer=True)[0]["answer"] == "y"
    assert find_answers("xy", [none], allow_no_answer=True)[0]["answer"] == ""
    assert find_answers("xy", [none])[0]["answer"] == "x"


def test_a_span_of_two_windows_is_one_answer():
    offsets = [None, None, (0, 1)]
    answers = find_answers("x", [window([0, 0, 1.0], [0, 0, 1.0], offsets)] * 2, top_k=5)
    assert len(answers) == 1
    assert math.isclose(answers[0]["score"], torch.tensor([0, 1.0]).softmax(0)[1] ** 2, rel_tol=1e-5)


def test_an_answer_neither_begins_nor_ends_with_white_space():
    offsets = [None, None, (0, 3), (3, 4), (4, 8)]
    high = window([0, 0, 1, 9.0, 2], [0, 0, 1, 9.0, 2], offsets)
    answers = find_answers("ab\n  cde", [high], top_k=9)
    assert {answer["answer"] for answer in answers} == {"ab", "cde", "ab\n  cde"}


def test_numbers_below_one_are_refused():
    offsets = [None, None, (0, 1)]
    one = window([0.0] * 3, [0.0] * 3, offsets)
    for arguments in ({"top_k": 0}, {"max_answer_length": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be at least 1, got 0"):
            find_answers("x", [one], **arguments)


@pytest.mark.parametrize(
    ("prediction", "reference", "f1", "exact"),
    [
        ("The  Cat!", "cat", 100, 100),
        ("black cat", "the cat sat", 50, 0),
        ("", "", 100, 100),
        ("the", "cat", 0, 0),
        ("dog", ["cat", "a dog"], 100, 100),
    ],
)
def test_answers_are_compared_by_words_as_squad_does(prediction, reference, f1, exact):
    arguments = {"predictions": [prediction], "references": [reference]}
    assert load_metric("answer_f1").compute(**arguments) == {"answer_f1": pytest.approx(f1)}
    assert load_metric("answer_exact_match").compute(**arguments) == {"answer_exact_match": exact}


def test_answers_are_compared_by_characters():
    arguments = {"predictions": ["東京 都", "ABC"], "references": ["東京", "abc"]}
    assert load_metric("answer_f1", unit="character").compute(**arguments) == {"answer_f1": pytest.approx(40)}
    with pytest.raises(ValueError, match="unit must be word or character, got 'letter'"):
        load_metric("answer_f1", unit="letter")
