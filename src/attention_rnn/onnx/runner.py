"""
Runs a folder that `attention_rnn.onnx.export_onnx` has written, with numpy, onnxruntime and tokenizers alone.

    from attention_rnn import OnnxRunner

    runner = OnnxRunner.from_pretrained("runs/g2p-onnx")
    runner("hello", num_beams=5)["text"]

Each folder holds this file, and the two that it imports, as one: `run_onnx.py`, which needs no other.

    python run_onnx.py hello yellow --num_beams 5
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding

from .decoding import (
    ANSWERING,
    CAUSAL,
    CLASSIFICATION,
    SEQ2SEQ,
    Arrays,
    Decoding,
    Member,
    best_span,
    class_scores,
    find_folder,
    log_softmax,
    viterbi,
)
from .reading import TOKENIZER, UnknownWords, as_written, open_tokenizer, pad_rows, spell
from .spelling import read_lemma, unspell

TARGET_TOKENIZER = "target_tokenizer.json"
GENERATION: dict[str, Any] = {"num_beams": 1, "num_return_sequences": 1, "max_new_tokens": None, "min_new_tokens": 0}
GENERATION |= {"length_penalty": 1.0, "early_stopping": False}


class OnnxRunner:
    """
    A model without torch, for its task.

    - `text2text-generation`, `text-generation`: `runner(text)` gives `{"text", "score", "token_ids"}`, the score being
      the log probability divided by the number of tokens to the power of `length_penalty`. Options: `num_beams`,
      `num_return_sequences` (a list of so many for each text), `max_new_tokens`, `min_new_tokens`, `length_penalty`,
      `early_stopping`; what is left open is settled by `config.json`. `return_attention=True` adds `source_tokens`,
      `target_tokens` and `attention`, (target, source), the mean over the heads. `stream=True` returns an iterator over
      pieces of the text of one source, as they are found, of a language model those behind the prompt. A model of
      inflection reads a lemma with its features, `"gehen V;PST"`, if `attention-rnn train` has made it.
    - `text-classification`: a list of `{"label", "score"}`, the best first.
    - `token-classification`: a list of `{"word", "label", "start", "end"}`, for what stands between white space. With
      intents, `{"words", "intent", "score"}`.
    - `question-answering`: `runner({"question": ..., "context": ...})` gives `{"answer", "score", "start", "end"}`.

    For a list of inputs the result is a list. A runner may be called by several threads.

    Args:
        folders: what `export_onnx` has written. Of several models for generation, which share a vocabulary, the mean of
            their probabilities is taken.
        threads: of each call.
        max_source_length: the most tokens of a text; what the tokenizer says by default.

    Raises:
        ValueError: a file is missing, damaged, of another kind, or does not fit the others.
    """

    def __init__(self, folders: Sequence[str | Path], threads: int = 1, max_source_length: int | None = None) -> None:
        if not folders or not isinstance(threads, int) or threads < 1:
            raise ValueError(f"`folders` and `threads` must be at least one, got {len(folders)} and {threads!r}.")
        self.members = [Member(Path(folder), threads) for folder in folders]
        self.config = config = self.members[0].config
        self.task: str = config["task"]
        for member in self.members[1:]:
            for name in ("task", "vocab_size", "source_vocab_size", "special_tokens", "copy"):
                if member.config.get(name) != config.get(name):
                    raise ValueError(
                        f"{member.folder} must have the `{name}` of {self.members[0].folder}, to be joined."
                    )
            for name in (TOKENIZER, TARGET_TOKENIZER):
                if _vocabulary(member.folder / name) != _vocabulary(self.members[0].folder / name):
                    raise ValueError(f"{member.folder} must have the tokens of {self.members[0].folder}, to be joined.")
        if len(self.members) > 1 and self.task not in (SEQ2SEQ, CAUSAL):
            raise ValueError(f"`folders` must be one for the task {self.task}, got {len(self.members)}.")
        self.is_spelt: bool = config.get("spelt", False)
        self.max_source_length = max_source_length or config["max_source_length"]
        folder = self.members[0].folder
        digests = config.get("vocabularies") or {}  # which older folders do not tell
        known = config["source_vocab_size"], config["tokens"], digests.get(TOKENIZER)
        self.tokenizer = open_tokenizer(folder / TOKENIZER, *known)
        self.target = self.tokenizer
        if config["has_target_tokenizer"]:
            known = config["vocab_size"], config["tokens"], digests.get(TARGET_TOKENIZER)
            self.target = open_tokenizer(folder / TARGET_TOKENIZER, *known)
        self.unknown = UnknownWords(self.tokenizer, config) if config["copy"] else None
        self.most_new_tokens: int | None = None

    def limit(self, num_beams: int, new_tokens: int) -> None:
        """Let what a call does not ask for be no more than this, whatever `config.json` says."""
        self.most_new_tokens = new_tokens
        generation = self.config["generation"] = {**GENERATION, **self.config["generation"]}
        for name in ("num_beams", "num_return_sequences"):
            generation[name] = min(generation[name], num_beams)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | Sequence[str | Path],
        threads: int = 1,
        max_source_length: int | None = None,
        revision: str | None = None,
    ) -> "OnnxRunner":
        """The runner of a folder, of a repository of the Hugging Face Hub, or of several of them; see the class."""
        names = [name] if isinstance(name, (str, Path)) else list(name)
        return cls([find_folder(one, revision) for one in names], threads, max_source_length)

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """
        Args:
            inputs: a text, or a list of texts; of question answering dicts of `question` and `context`.
            options: `batch_size`, 32 by default: how many are read at once. Others: see the class.

        Raises:
            TypeError: an input is no text, or the task knows no such option.
            ValueError: a text is empty, or too long, or an option is out of range.
        """
        is_single = isinstance(inputs, (str, dict))
        if not is_single and not isinstance(inputs, Iterable):
            raise TypeError(f"`inputs` must be a text or a list, got {inputs!r:.100}.")
        batch_size = check_whole("batch_size", options.pop("batch_size", 32), 1)
        items = [inputs] if is_single else list(inputs)
        known = {SEQ2SEQ: self._generate, CAUSAL: self._generate, CLASSIFICATION: self._classify}
        run: Callable[..., list[Any]] = known.get(self.task, self._label)
        run = self._answer if self.task == ANSWERING else run
        if options.pop("stream", False):
            if len(items) != 1 or self.task not in (SEQ2SEQ, CAUSAL):
                raise ValueError("`stream` needs one text to generate from.")
            return self._stream(items, options)
        unknown = options.keys() - ({"max_answer_length"} if self.task == ANSWERING else set())
        if unknown and self.task not in (SEQ2SEQ, CAUSAL):
            raise TypeError(f"A runner for {self.task} knows no option {min(unknown)!r}.")
        results: list[Any] = []
        for start in range(0, len(items), batch_size):
            results += run(items[start : start + batch_size], **options)
        return results[0] if is_single else results

    # what is read

    def _encode(self, texts: Sequence[Any], is_split: bool = False) -> tuple[list[Encoding], Arrays]:
        """The tokens of texts or pairs of texts, and the inputs of the encoder."""
        for text in texts:
            if not all(isinstance(part, str) for part in (text if isinstance(text, (tuple, list)) else [text])):
                raise TypeError(f"An input must be a text, got {text!r:.100}.")
        try:
            encodings = self.tokenizer.encode_batch(list(texts), is_pretokenized=is_split)
        except (TypeError, UnicodeError) as error:
            raise ValueError(f"An input must be valid Unicode: {error}.") from error
        for text, encoding in zip(texts, encodings, strict=True):
            length = len(encoding.ids)
            if length == 0 or not (text if isinstance(text, (tuple, list)) else text.strip()):
                raise ValueError(f"An input must be a text that is not empty, got {text!r:.100}.")
            if self.max_source_length is not None and length > self.max_source_length:
                raise ValueError(
                    f"An input may have {self.max_source_length} tokens, got one of {length}: {text!r:.100}."
                )
        pad = self.config["special_tokens"]["pad"] or 0
        arrays = {
            "input_ids": pad_rows([encoding.ids for encoding in encodings], pad),
            "attention_mask": pad_rows([[1] * len(encoding.ids) for encoding in encodings], 0),
        }
        if size := self.config["max_word_length"]:
            characters = np.zeros((*arrays["input_ids"].shape, size), np.int64)
            for row, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
                for column, token in enumerate(as_written(text, encoding)):
                    spelt = spell(token, size)
                    characters[row, column, : len(spelt)] = spelt
            arrays["character_ids"] = characters
        return encodings, arrays

    # generation

    def _generate(self, texts: list[str], return_attention: bool = False, **options: Any) -> list[Any]:
        settings = self._settings(options)
        if self.task == CAUSAL and settings["max_new_tokens"] is None and len(texts) > 1:
            # how many may come depends on the prompt, which must not depend on what else is in the batch
            return [result for text in texts for result in self._generate([text], return_attention, **options)]
        decoding, encodings, unknown = self._begin(texts, return_attention)
        if return_attention and not decoding.attends:
            raise ValueError("`return_attention` needs a model with attention to a source.")
        search = decoding.greedy if settings["num_beams"] == 1 else decoding.beam_search
        found = search(settings, self._max_new_tokens(settings, encodings))
        results = []
        for source, hypotheses in enumerate(found):
            text, encoding, words = texts[source], encodings[source], unknown[source]
            described = []
            for hypothesis in hypotheses:
                result = {"text": self._text(text, encoding, hypothesis.tokens, words), "score": hypothesis.score}
                result["token_ids"] = hypothesis.tokens
                if return_attention:
                    result["source_tokens"] = encoding.tokens
                    result["target_tokens"] = [self._token(token, words) for token in hypothesis.tokens]
                    result["attention"] = hypothesis.attention[:, : len(encoding.ids)]
                described.append(result)
            results.append(described if settings["num_return_sequences"] > 1 else described[0])
        return results

    def _stream(self, texts: list[str], options: dict[str, Any]) -> Iterator[str]:
        greedily = {name: 1 for name in ("num_beams", "num_return_sequences") if options.get(name) is None}
        settings = self._settings(options | greedily)
        if settings["num_beams"] != 1:
            raise ValueError(f"`stream` needs `num_beams=1`, got {settings['num_beams']}.")
        (prompt,), (decoding, (encoding,), (words,)) = texts, self._begin(texts, False)

        def pieces() -> Iterator[str]:
            tokens: list[int] = []
            said = prompt if self.task == CAUSAL else ""
            for chosen, _, _ in decoding.greedy_steps(settings, self._max_new_tokens(settings, [encoding])):
                tokens.append(int(chosen[0]))
                text = self._text(prompt, encoding, tokens, words)
                # a letter may need several tokens
                if text.startswith(said) and not text.endswith("\ufffd"):
                    if text != said:
                        yield text[len(said) :]
                    said = text
            if text.startswith(said) and text != said:  # the end cut a letter off
                yield text[len(said) :]

        return pieces()

    def _settings(self, options: dict[str, Any]) -> dict[str, Any]:
        if unknown := options.keys() - GENERATION.keys():
            raise TypeError(f"A runner for {self.task} knows no option {min(unknown)!r}, only {sorted(GENERATION)}.")
        given = {name: value for name, value in options.items() if value is not None}
        settings = {**GENERATION, **self.config["generation"], **given}
        for name in ("num_beams", "num_return_sequences", "max_new_tokens"):
            check_whole(name, 1 if settings[name] is None else settings[name], 1)
        check_whole("min_new_tokens", settings["min_new_tokens"], 0)
        if settings["num_return_sequences"] > settings["num_beams"]:
            raise ValueError(f"`num_return_sequences` must be at most `num_beams`, {settings['num_beams']}.")
        penalty = settings["length_penalty"]
        if isinstance(penalty, bool) or not isinstance(penalty, (int, float)) or not -10 <= penalty <= 10:
            raise ValueError(f"`length_penalty` must be from -10 to 10, got {settings['length_penalty']!r}.")
        if not isinstance(settings["early_stopping"], bool) and settings["early_stopping"] != "never":
            raise ValueError(f"`early_stopping` must be a bool or 'never', got {settings['early_stopping']!r}.")
        return settings | {"length_penalty": float(penalty)}  # numpy's whole numbers have no small powers

    def _max_new_tokens(self, settings: dict[str, Any], encodings: list[Encoding]) -> int:
        prompt = len(encodings[0].ids) if self.task == CAUSAL else 1
        number = settings["max_new_tokens"] or self.config["max_length"] - prompt
        if number < 1:
            raise ValueError(
                f"The prompt may have {self.config['max_length'] - 1} tokens, got {prompt}: give `max_new_tokens`."
            )
        return number if self.most_new_tokens is None else min(number, self.most_new_tokens)

    def _begin(self, texts: list[str], attends: bool) -> tuple[Decoding, list[Encoding], list[list[str]]]:
        if self.is_spelt:
            texts = [read_lemma(text) if isinstance(text, str) else text for text in texts]
        encodings, inputs = self._encode(texts)
        unknown: list[list[str]] = [[] for _ in texts]
        memories: list[Arrays] = [{} for _ in self.members]
        if self.task == CAUSAL:
            prompts = [encoding.ids for encoding in encodings]
            states = [member.first_states(len(texts)) for member in self.members]
        else:
            prompts = [[self.config["special_tokens"]["start"]]] * len(texts)
            encoded = [member.encoder.run(inputs) for member in self.members]
            memories = [{name: of[name] for name in of if name in ("keys", "values", "mask")} for of in encoded]
            states = [
                {name: of[name] for name in member.states} for member, of in zip(self.members, encoded, strict=True)
            ]
            if self.unknown is not None:
                unknown, copy_ids = self.unknown.extend(texts, inputs["input_ids"])
                for memory in memories:
                    memory["copy_ids"] = copy_ids
        return Decoding(self.members, prompts, memories, states, attends), encodings, unknown

    def _text(self, source: str, encoding: Encoding, tokens: list[int], words: list[str]) -> str:
        if self.task == CAUSAL:  # what goes on from the prompt as it was given, also where it has unknown characters
            read = self._decode(encoding.ids, words)
            return source + self._decode([*encoding.ids, *tokens], words)[len(read) :]
        text = self._decode(tokens, words)
        return unspell(text) if self.is_spelt else text

    def _decode(self, tokens: list[int], words: list[str]) -> str:
        if self.unknown is not None:
            special = self.unknown.special_ids
            written = [self._token(token, words) for token in tokens if token not in special]
            return " ".join(written) if self.target.decoder is None else self.target.decoder.decode(written)
        return self.target.decode(tokens, skip_special_tokens=True)

    def _token(self, token: int, words: list[str]) -> str:
        size = self.config["vocab_size"]
        if token >= size:
            return words[token - size]
        return self.target.id_to_token(token) or self.config["unk_token"] or ""

    # the other tasks

    def _classify(self, texts: list[str]) -> list[Any]:
        _, inputs = self._encode(texts)
        logits = self.members[0].model.run(inputs)["logits"]
        labels = self.config["labels"]
        return [
            [{"label": labels[index], "score": float(row[index])} for index in np.argsort(-row, kind="stable")]
            for row in class_scores(logits, self.config["problem_type"])
        ]

    def _label(self, texts: list[str]) -> list[Any]:
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"An input must be a text that is not empty, got {text!r:.100}.")
        words = [list(re.finditer(r"\S+", text)) for text in texts]
        encodings, inputs = self._encode([[word.group() for word in of_text] for of_text in words], is_split=True)
        outputs = self.members[0].model.run(inputs)
        config, results = self.config, list[Any]()
        tokens = config["special_tokens"]
        special = {tokens["pad"], tokens["bos"], *tokens["eos"]}
        for row, (of_text, encoding) in enumerate(zip(words, encodings, strict=True)):
            emissions = outputs["logits"][row, : len(encoding.ids)]
            best = emissions.argmax(axis=-1)
            if config["crf"] is not None:
                chain = [column for column, token in enumerate(encoding.ids) if token not in special]
                best[chain] = viterbi(emissions[chain], *(np.array(part, np.float32) for part in config["crf"]))
            pieces: list[list[int]] = [[] for _ in of_text]
            for label, word in zip(best.tolist(), encoding.word_ids, strict=True):
                if word is not None:
                    pieces[word].append(label)
            labelled = [
                {"word": word.group(), "label": self._word_label(labels), "start": word.start(), "end": word.end()}
                for word, labels in zip(of_text, pieces, strict=True)
            ]
            if config["intents"]:
                scores = np.exp(log_softmax(outputs["intent_logits"][row]))
                intent = int(scores.argmax())
                results.append({"words": labelled, "intent": config["intents"][intent], "score": float(scores[intent])})
            else:
                results.append(labelled)
        return results

    def _word_label(self, pieces: list[int]) -> str | None:
        if not pieces:  # the tokenizer has dropped the word
            return None
        first = last = pieces[0]
        joined = self.config["joined_labels"]  # what two pieces make, if the second goes on with the first
        if joined is not None:
            for label in pieces[1:]:
                if joined[last][label] is None:
                    break
                last = label
            if last != first:
                return self.config["labels"][joined[first][last]]
        return self.config["labels"][first]

    def _answer(self, examples: list[dict[str, str]], max_answer_length: int = 30) -> list[Any]:
        check_whole("max_answer_length", max_answer_length, 1)
        for example in examples:
            if not isinstance(example, dict) or not {"question", "context"} <= example.keys():
                raise TypeError(f"An input must be a dict with `question` and `context`, got {example!r:.100}.")
            for name in ("question", "context"):
                if not isinstance(example[name], str) or not example[name].strip():
                    raise ValueError(f"`{name}` must be a text that is not empty, got {example[name]!r:.100}.")
        encodings, inputs = self._encode([(example["question"], example["context"]) for example in examples])
        inputs["token_type_ids"] = pad_rows(
            [[int(part == 1) for part in encoding.sequence_ids] for encoding in encodings], 0
        )
        outputs = self.members[0].model.run(inputs)
        results = []
        for row, (example, encoding) in enumerate(zip(examples, encodings, strict=True)):
            starts, ends = (outputs[name][row, : len(encoding.ids)] for name in ("start_logits", "end_logits"))
            results.append(best_span(example["context"], encoding, starts, ends, max_answer_length))
        return results


def _vocabulary(file: Path) -> Any:
    """What a tokenizer makes of texts, if there is one."""
    return json.loads(file.read_text(encoding="utf-8"))["model"] if file.exists() else None


def check_whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}.")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="What the model in the folder of this file makes of texts.")
    parser.add_argument("texts", nargs="+", help="of question answering, a question and a context")
    parser.add_argument("--folder", default=Path(__file__).parent, help="another folder")
    for name in ("num_beams", "num_return_sequences", "max_new_tokens"):
        parser.add_argument(f"--{name}", type=int)
    options = vars(parser.parse_intermixed_args())
    texts, runner = options.pop("texts"), OnnxRunner.from_pretrained(options.pop("folder"))
    inputs = texts
    if runner.task == ANSWERING:
        if len(texts) != 2:
            parser.error(f"a question and a context are needed, got {len(texts)} texts")
        inputs = [{"question": texts[0], "context": texts[1]}]
    try:
        for result in runner(inputs, **{name: value for name, value in options.items() if value is not None}):
            print(json.dumps(result, ensure_ascii=False))
    except (TypeError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
