"""The pipelines that this package registers with transformers."""

import subprocess
import sys

import pytest
import torch
from tiny import tiny_config, tiny_model
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForQuestionAnswering,
    BertForTokenClassification,
    T5Config,
    T5ForConditionalGeneration,
    pipeline,
    pipelines,
)
from transformers.pipelines import PIPELINE_REGISTRY

from attention_rnn import (
    AttentionRnnConfig,
    AttentionRnnForConditionalGeneration,
    AttentionRnnForQuestionAnswering,
    AttentionRnnForTokenClassification,
)
from attention_rnn.labelling import complete_labels, label_tokens, piece_labels
from attention_rnn.pipelines import (
    QuestionAnsweringPipeline,
    SummarizationPipeline,
    Text2TextGenerationPipeline,
    TranslationPipeline,
    register_pipelines,
)
from attention_rnn.pipelines_labelling import TokenClassificationPipeline
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

TEXTS = ["abc", "b", "cabcab", "acb"]
TASKS = {
    "text2text-generation": (Text2TextGenerationPipeline, "generated_text"),
    "translation": (TranslationPipeline, "translation_text"),
    "translation_en_to_de": (TranslationPipeline, "translation_text"),
    "translation_zh-Hant_to_pt_BR": (TranslationPipeline, "translation_text"),
    "summarization": (SummarizationPipeline, "summary_text"),
}


@pytest.fixture(scope="module")
def tokenizer():
    """Source and target have vocabularies of their own."""
    source, target = train_tokenizer(TEXTS, "character"), train_tokenizer(["x yy zzz w v"], "word")
    return pair_tokenizers(source, target)


@pytest.fixture(scope="module")
def model(tokenizer):
    model = tiny_model(source_vocab_size=len(tokenizer), vocab_size=len(tokenizer.target))
    model.generation_config.max_length = 7
    return model


def build(task, model, tokenizer, **arguments):
    return pipeline(task, model=model, tokenizer=tokenizer, device="cpu", **arguments)


def expected(model, tokenizer, text, **arguments):
    outputs = model.generate(**tokenizer(text, return_tensors="pt"), **arguments)
    return tokenizer.batch_decode(outputs, skip_special_tokens=True)


@pytest.mark.parametrize("task", TASKS)
def test_the_pipeline_gives_what_generate_gives(model, tokenizer, task):
    pipeline_class, key = TASKS[task]
    generator = build(task, model, tokenizer)
    assert type(generator) is pipeline_class
    assert generator("abc") == [{key: expected(model, tokenizer, "abc")[0]}]


@pytest.mark.parametrize("batch_size", [1, 3, 9])
def test_batches_change_nothing(model, tokenizer, batch_size):
    generator = build("text2text-generation", model, tokenizer, num_beams=2)
    outputs = generator(TEXTS, batch_size=batch_size)
    assert outputs == [{"generated_text": expected(model, tokenizer, text, num_beams=2)[0]} for text in TEXTS]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_several_outputs_a_text_have_the_scores_of_beam_search(model, tokenizer, batch_size):
    generator = build("text2text-generation", model, tokenizer)
    arguments = {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.5}
    outputs = generator(TEXTS, batch_size=batch_size, return_scores=True, **arguments)
    for text, of_text in zip(TEXTS, outputs, strict=True):
        assert [output["generated_text"] for output in of_text] == expected(model, tokenizer, text, **arguments)
        inputs = tokenizer(text, return_tensors="pt")
        generated = model.generate(**inputs, **arguments, return_dict_in_generate=True, output_scores=True)
        assert [output["score"] for output in of_text] == pytest.approx(generated.sequences_scores.tolist(), abs=1e-5)


def test_the_score_of_a_greedy_output_is_that_of_a_search_with_one_candidate(model, tokenizer):
    generator = build("text2text-generation", model, tokenizer)
    (output,) = generator("abc", return_scores=True, num_beams=1, length_penalty=0.0)
    sequence = model.generate(**tokenizer("abc", return_tensors="pt"))
    logits = model(**tokenizer("abc", return_tensors="pt"), decoder_input_ids=sequence[:, :-1]).logits
    log_probabilities = logits.log_softmax(dim=-1).gather(2, sequence[:, 1:, None])
    assert output["score"] == pytest.approx(log_probabilities.sum().item(), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_alignments_have_a_row_a_target_token_and_a_column_a_source_token(model, tokenizer, batch_size):
    generator = build("translation", model, tokenizer)
    for text, output in zip(TEXTS, generator(TEXTS, batch_size=batch_size, return_alignments=True), strict=True):
        assert output["source_tokens"] == [*text, "</s>"]
        weights = torch.tensor(output["alignment"])
        assert weights.shape == (len(output["target_tokens"]), len(text) + 1)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights)))
        words = [token for token in output["target_tokens"] if not token.startswith("<")]
        assert " ".join(words) == output["translation_text"]


def test_tensors_can_be_returned(model, tokenizer):
    (output,) = build("summarization", model, tokenizer)("abc", return_tensors=True)
    inputs = tokenizer("abc", return_tensors="pt")
    assert torch.equal(output["summary_token_ids"], model.generate(**inputs)[0])
    assert "summary_text" not in output


def test_a_generator_is_read_as_it_goes(model, tokenizer):
    outputs = build("translation", model, tokenizer)(text for text in TEXTS)
    assert next(iter(outputs)) == [{"translation_text": expected(model, tokenizer, "abc")[0]}]


def test_words_that_the_vocabulary_lacks_are_copied():
    tokenizer = train_tokenizer(["a b c"], "word")
    model = tiny_model(vocab_size=len(tokenizer), copy=True)
    with torch.no_grad():
        model.model.decoder.copy_gate.projection.bias.fill_(-50)  # never writes a word of its own
    generator = build("text2text-generation", model, tokenizer, max_new_tokens=3, min_new_tokens=3)
    for output in generator(["xyz uvw", "a tsr", "xyz"], batch_size=2, return_alignments=True):
        words = output["generated_text"].split()
        assert words == output["target_tokens"]
        assert set(words) <= {"xyz", "uvw", "a", "tsr"}


def test_a_saved_pipeline_opens_without_trusting_code(model, tokenizer, tmp_path):
    build("translation", model, tokenizer).save_pretrained(tmp_path)
    assert pipeline("translation", str(tmp_path), device="cpu")("abc")[0].keys() == {"translation_text"}


def small_bart(tokenizer):
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer),
            d_model=8,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=8,
            decoder_ffn_dim=8,
            decoder_start_token_id=1,
            forced_eos_token_id=None,
            **{name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")},
        )
    )


def test_another_model_of_transformers_is_served():
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, "character")
    bart = small_bart(tokenizer)
    generator = build("summarization", bart, tokenizer, max_new_tokens=4)
    outputs = generator(TEXTS, batch_size=2, num_beams=2, num_return_sequences=2, return_alignments=True)
    assert [len(of_text) for of_text in outputs] == [2] * 4
    assert outputs[1][0]["source_tokens"] == ["b", "</s>"]
    assert len(outputs[1][0]["alignment"]) == len(outputs[1][0]["target_tokens"])


def test_a_model_says_in_its_config_how_to_ask_for_a_task():
    tokenizer = train_tokenizer(["to de: abc"], "character")
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=8,
        d_kv=4,
        d_ff=8,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=2,
    )
    config.task_specific_params = {"translation_en_to_de": {"prefix": "to de: ", "max_length": 3}}
    t5 = T5ForConditionalGeneration(config)
    generator = build("translation_en_to_de", t5, tokenizer)
    assert tokenizer.decode(generator.preprocess("abc")["input_ids"][0]) == "to de: abc</s>"
    (output,) = generator("abc", return_tensors=True)
    assert len(output["translation_token_ids"]) <= 3


def test_languages_go_to_a_tokenizer_that_has_them(model):
    source, target = train_tokenizer(TEXTS, "character"), train_tokenizer(["x yy zzz w v"], "word")
    tokenizer = pair_tokenizers(source, target)
    asked = []

    def build_inputs(text, src_lang=None, tgt_lang=None, **options):
        asked.append((src_lang, tgt_lang))
        return {**tokenizer(text, **options), "forced_bos_token_id": 5}

    tokenizer._build_translation_inputs = build_inputs
    generator = build("translation_en_to_de", model, tokenizer)
    outputs = generator(TEXTS, batch_size=3, return_tensors=True)
    assert all(output["translation_token_ids"][1] == 5 for output in outputs)
    generator("abc", tgt_lang="fr")
    assert asked == [("en", "de")] * 4 + [("en", "fr")]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("  ", ValueError, "must be a text that is not empty, got '  '"),
        (["abc", ""], ValueError, "must be a text that is not empty, got ''"),
        (["abc", 3], TypeError, "must be a text or a list of texts, got 3"),
    ],
)
def test_what_is_no_text_is_refused(model, tokenizer, text, error, message):
    with pytest.raises(error, match=message):
        build("text2text-generation", model, tokenizer)(text)


@pytest.mark.parametrize("task", [*TASKS, "question-answering"])
def test_nothing_gives_nothing(model, tokenizer, reader, task):
    answer = reader if task == "question-answering" else build(task, model, tokenizer)
    assert answer([]) == answer(()) == list(answer(text for text in ())) == []
    if task == "question-answering":
        assert answer(question=[], context=[]) == answer(question="a", context=[]) == []


def test_no_words_have_no_labels():
    tokenizer = train_tokenizer(TEXTS, "word")
    model = AttentionRnnForTokenClassification(tiny_config(vocab_size=len(tokenizer), num_labels=3))
    assert build("token-classification", model, tokenizer)([]) == []


def test_alignments_of_a_model_without_attention_are_refused(tokenizer):
    model = tiny_model(source_vocab_size=len(tokenizer), vocab_size=len(tokenizer.target), attention_type=None)
    with pytest.raises(ValueError, match="must hold cross_attentions"):
        build("translation", model, tokenizer)("abc", return_alignments=True, max_new_tokens=3)


# Question answering

CONTEXT = "abc def ghi " * 6
QUESTION = "a fed?"


@pytest.fixture(scope="module")
def letters():
    return train_tokenizer([CONTEXT + QUESTION], "character")


@pytest.fixture(scope="module")
def reader(letters):
    torch.manual_seed(0)
    config = AttentionRnnConfig(vocab_size=len(letters), embedding_size=6, hidden_size=10)
    return build("question-answering", AttentionRnnForQuestionAnswering(config).eval(), letters)


def test_an_answer_is_a_part_of_the_context(reader):
    assert type(reader) is QuestionAnsweringPipeline
    answer = reader(question=QUESTION, context=CONTEXT, max_answer_len=4)
    assert answer.keys() == {"score", "start", "end", "answer"}
    assert CONTEXT[answer["start"] : answer["end"]] == answer["answer"]
    assert 1 <= len(answer["answer"]) <= 4


def test_questions_are_given_in_several_ways(reader):
    alone = [reader(question=question, context=CONTEXT) for question in (QUESTION, "b?")]
    pairs = [{"question": question, "context": CONTEXT} for question in (QUESTION, "b?")]
    assert reader(pairs[0]) == alone[0]
    assert reader(pairs) == alone
    assert reader(question=[QUESTION, "b?"], context=CONTEXT) == alone
    assert reader({"question": [QUESTION, "b?"], "context": [CONTEXT] * 2}) == alone
    assert list(reader(pair for pair in pairs)) == alone
    assert len(reader(question=QUESTION, context=[CONTEXT, "abc", "def"])) == 3


def test_windows_and_batches_change_nothing_but_the_speed(reader):
    pairs = [{"question": QUESTION, "context": CONTEXT[: 9 + 13 * i]} for i in range(5)]
    arguments = {"max_seq_len": 24, "max_question_len": 8, "doc_stride": 5, "top_k": 3}
    one_by_one = [reader(pair, **arguments) for pair in pairs]
    for batch_size in (2, 4, 50):
        outputs = reader(pairs, batch_size=batch_size, **arguments)
        for answers, of_one in zip(outputs, one_by_one, strict=True):
            assert [answer["answer"] for answer in answers] == [answer["answer"] for answer in of_one]
            assert [a["score"] for a in answers] == pytest.approx([a["score"] for a in of_one], abs=1e-6)


def test_the_tokenizer_may_limit_the_window(reader, letters, monkeypatch):
    calls = []
    monkeypatch.setattr(letters, "model_max_length", 40)
    handle = reader.model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    reader(question=QUESTION, context=CONTEXT)
    handle.remove()
    assert len(calls) > 1
    assert max(calls) == 40


def test_no_answer_is_one_of_the_answers(reader):
    answers = reader(question=QUESTION, context="abc", top_k=20, handle_impossible_answer=True)
    assert [answer for answer in answers if answer["answer"] == ""] == [
        {
            "score": pytest.approx(next(a["score"] for a in answers if not a["answer"])),
            "start": 0,
            "end": 0,
            "answer": "",
        }
    ]
    assert all(answer["answer"] for answer in reader(question=QUESTION, context="abc", top_k=20))


def test_a_transformer_of_another_tokenizer_answers_too(letters):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(letters), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    reader = build("question-answering", BertForQuestionAnswering(config).eval(), letters)
    answers = reader(question=QUESTION, context=CONTEXT, top_k=2, max_seq_len=30, max_question_len=8)
    assert all(CONTEXT[answer["start"] : answer["end"]] == answer["answer"] for answer in answers)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"question": "", "context": "a"}, ValueError, "`questions` must hold texts that are not empty, got ''"),
        ({"question": "a", "context": " "}, ValueError, "`contexts` must hold texts that are not empty, got ' '"),
        ({"question": "a"}, TypeError, "`context` must be a text or a list of texts, got None"),
        ({"question": ["a", "b"], "context": ["c"] * 3}, ValueError, "as many questions as contexts.* got 2 and 3"),
        ({"question": "a", "context": "b", "top_p": 1}, TypeError, r"knows no arguments \['top_p'\]"),
        ({"question": "a", "context": "b", "top_k": 0}, ValueError, "`top_k` must be at least 1, got 0"),
        ({"question": "a", "context": "b", "max_seq_len": 4}, ValueError, "leaves 0 tokens"),
    ],
)
def test_wrong_questions_are_refused(reader, inputs, error, message):
    with pytest.raises(error, match=message):
        reader(**inputs)


# Registration


def test_what_transformers_has_itself_stays(monkeypatch):
    own = {"impl": object, "pt": (), "type": "text"}
    monkeypatch.setitem(PIPELINE_REGISTRY.supported_tasks, "summarization", own)
    register_pipelines()
    assert PIPELINE_REGISTRY.supported_tasks["summarization"] is own


def test_other_aliases_and_removed_tasks_stay_as_they_are():
    assert PIPELINE_REGISTRY.check_task("ner")[0] == "token-classification"
    assert PIPELINE_REGISTRY.check_task("translation_en_to_de")[0] == "translation"
    for task in ("translation_", "translation_en", "image-to-image"):
        with pytest.raises(KeyError, match=task):
            pipelines.check_task(task)


@pytest.mark.parametrize(
    "imports",
    [
        "import attention_rnn; from transformers import pipelines",
        "from transformers import pipelines; import attention_rnn",
    ],
)
def test_the_tasks_are_known_in_any_order_of_imports(imports):
    code = f"{imports}\nprint([pipelines.check_task(t)[1]['impl'].__name__ for t in ('summarization', 'translation')])"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "['SummarizationPipeline', 'TranslationPipeline']"


def test_it_works_with_an_untrained_model_of_one_vocabulary():
    tokenizer = train_tokenizer(TEXTS, "bpe", 12)
    model = AttentionRnnForConditionalGeneration(AttentionRnnConfig(vocab_size=len(tokenizer), hidden_size=8))
    assert len(build("text2text-generation", model, tokenizer)(TEXTS, max_new_tokens=3)) == 4


# Token classification

WORDS = ["we", "met", "Anna", "Maria", "Kowalska", "in", "Bern", "Rome", "today"]
CHUNKS = [("PER", "Anna Maria Kowalska"), ("LOC", "Bern"), ("LOC", "Rome")]
SCHEMES = {
    "BIO": "O O B-PER I-PER I-PER O B-LOC B-LOC O",
    "BIOES": "O O B-PER I-PER E-PER O S-LOC S-LOC O",
    "BILOU": "O O B-PER I-PER L-PER O U-LOC U-LOC O",
    "BMES": "O O B-PER M-PER E-PER O S-LOC S-LOC O",
}
FALLBACK = pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
SEPARATORS = [" ", "  ", "\n", "\xa0"]


def tagger_of(scheme, kind, crf, monkeypatch):
    """The pipeline of a tagger that labels `WORDS` as its training wants it, and other pieces than that at random."""
    labels = complete_labels(dict.fromkeys(SCHEMES[scheme].split()))
    tokenizer = train_tokenizer([" ".join(WORDS)], kind, 40)
    model = AttentionRnnForTokenClassification(
        tiny_config(
            vocab_size=len(tokenizer),
            crf=crf,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
        )
    )
    encoded = tokenizer(WORDS, is_split_into_words=True)
    of_tokens, _ = label_tokens(encoded.word_ids(), SCHEMES[scheme].split(), piece_labels(labels) if crf else None)

    def forward(input_ids, **kwargs):
        generator = torch.Generator().manual_seed(0)
        logits = torch.rand(*input_ids.shape, len(labels), generator=generator)
        for row, ids in enumerate(input_ids.tolist()):
            assert ids == encoded["input_ids"]
            for position, label in enumerate(of_tokens):
                if label is not None:
                    logits[row, position, labels.index(label)] = 9
        return {"logits": logits}

    monkeypatch.setattr(model, "forward", forward)
    return build("token-classification", model, tokenizer, aggregation_strategy="simple")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["word", "bpe", "character"])
@pytest.mark.parametrize("crf", [True, False])
def test_chunks_of_every_scheme_are_joined_at_their_place(scheme, kind, crf, monkeypatch):
    tagger = tagger_of(scheme, kind, crf, monkeypatch)
    for separator in SEPARATORS:
        text = separator.join(WORDS)
        expected = []
        for name, words in CHUNKS:
            chunk = words.replace(" ", separator)
            expected.append((name, words, text.index(chunk), text.index(chunk) + len(chunk)))
        for found in (tagger(text), *tagger([text, text], batch_size=2)):
            keys = ("entity_group", "word", "start", "end")
            assert [tuple(chunk[key] for key in keys) for chunk in found] == expected
            assert all(chunk["score"] > 0.9 for chunk in found)


def test_words_may_be_given_and_labels_may_stand_alone(monkeypatch):
    tagger = tagger_of("BMES", "character", True, monkeypatch)
    (found,) = tagger(WORDS, is_split_into_words=True)
    assert [(chunk["entity_group"], chunk["start"], chunk["end"]) for chunk in found] == [
        ("PER", 7, 26),
        ("LOC", 30, 34),
        ("LOC", 35, 39),
    ]
    pieces = tagger(" ".join(WORDS), aggregation_strategy="none", ignore_labels=["O", "B-PER", "M-PER", "E-PER"])
    assert [piece["entity"] for piece in pieces] == ["B-LOC", "M-LOC", "M-LOC", "E-LOC"] * 2
    assert [(piece["start"], piece["end"]) for piece in pieces[:4]] == [(30, 31), (31, 32), (32, 33), (33, 34)]


def test_windows_and_texts_without_words_do_not_disturb_each_other():
    tokenizer = train_tokenizer([" ".join(WORDS)], "word", model_max_length=6)
    torch.manual_seed(0)
    model = AttentionRnnForTokenClassification(
        tiny_config(vocab_size=len(tokenizer), id2label={0: "X", 1: "Y"}, label2id={"X": 0, "Y": 1})
    )
    tagger = build("token-classification", model.eval(), tokenizer, aggregation_strategy="simple", stride=2)
    texts = [" ".join(WORDS), "", " \n", " ".join(WORDS[:3])]
    found = tagger(texts)
    assert found == [tagger(text) for text in texts]
    assert found[1] == found[2] == []
    assert found[0]


def test_chunks_without_a_type_are_joined_too(monkeypatch):
    monkeypatch.setitem(SCHEMES, "BMES", "S S B M E S S S S")
    found = tagger_of("BMES", "word", False, monkeypatch)(" ".join(WORDS))
    assert [chunk["word"] for chunk in found] == ["we", "met", "Anna Maria Kowalska", *WORDS[5:]]
    assert {chunk["entity_group"] for chunk in found} == {"_"}


def bert_tagger(labels, seed):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, id2label=dict(enumerate(labels))
    )
    config.initializer_range = 2.0
    return BertForTokenClassification(config).eval()


@pytest.mark.parametrize("labels", ["O B-X I-X B-Y I-Y", "O X Y", "O I-X I-Y"])
@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@FALLBACK
def test_other_models_of_bio_and_of_single_words_give_what_transformers_gives(labels, strategy):
    tokenizer = train_tokenizer([" ".join(WORDS)], "bpe", 40)
    for seed in range(3):
        arguments = {"model": bert_tagger(labels.split(), seed), "tokenizer": tokenizer}
        ours, theirs = (
            pipeline("token-classification", **arguments, aggregation_strategy=strategy, pipeline_class=pipeline_class)
            for pipeline_class in (None, pipelines.TokenClassificationPipeline)
        )
        assert isinstance(ours, TokenClassificationPipeline)
        texts = [" ".join(WORDS), "met\nAnna, Bern"]
        assert ours(texts) == theirs(texts)
        assert any(ours(texts))


@FALLBACK
@pytest.mark.parametrize("scheme", ["BIOES", "BILOU", "BMES"])
def test_chunks_of_other_models_are_joined_too(scheme, monkeypatch):
    labels = list(dict.fromkeys(SCHEMES[scheme].split()))
    model, tokenizer = bert_tagger(labels, 0), train_tokenizer([" ".join(WORDS)], "word")
    of_words = [labels.index(label) for label in SCHEMES[scheme].split()]
    logits = 9 * torch.nn.functional.one_hot(torch.tensor([[*of_words, 0]]), len(labels)).float()
    monkeypatch.setattr(model, "forward", lambda **inputs: {"logits": logits})
    for strategy in ("simple", "first"):
        found = build("ner", model, tokenizer, aggregation_strategy=strategy)(" ".join(WORDS))
        assert [(chunk["entity_group"], chunk["word"]) for chunk in found] == CHUNKS


def test_a_pipeline_that_somebody_else_has_registered_stays(monkeypatch):
    own = {**PIPELINE_REGISTRY.supported_tasks["token-classification"], "impl": object}
    monkeypatch.setitem(PIPELINE_REGISTRY.supported_tasks, "token-classification", own)
    register_pipelines()
    assert own["impl"] is object
