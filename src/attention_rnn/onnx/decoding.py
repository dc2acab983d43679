"""The graphs of a folder, and the searches that call them: greedy, beams, and the best labels or span, in numpy."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy import ndarray
from tokenizers import Encoding

from .reading import whole_offsets

FORMAT, FORMAT_VERSION = "attention-rnn-onnx", 2
CONFIG, ENCODER, STEP, MODEL = "config.json", "encoder.onnx", "step.onnx", "model.onnx"
SEQ2SEQ, CAUSAL = "text2text-generation", "text-generation"
CLASSIFICATION, LABELLING, ANSWERING = "text-classification", "token-classification", "question-answering"
TASKS = (SEQ2SEQ, CAUSAL, CLASSIFICATION, LABELLING, ANSWERING)
FIELDS: dict[str, Any] = {
    "format_version": int,
    "task": str,
    "vocab_size": int,
    "source_vocab_size": int,
    "special_tokens": dict,
}
FIELDS |= {"tokens": dict, "states": dict, "generation": dict, "copy": bool, "has_target_tokenizer": bool}
FIELDS |= {name: (int, type(None)) for name in ("max_source_length", "max_word_length", "max_length")}
IMPOSSIBLE = np.float32(-1e9)  # added to the score of what must not be chosen
Arrays = dict[str, ndarray]


def read_config(file: Path, tasks: tuple[str, ...] = TASKS, fields: Mapping[str, Any] = FIELDS) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file.parent} must be a folder that `export_onnx` has written, but has no {file.name}.")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}.") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{file} must be of the format {FORMAT!r}, which `export_onnx` writes.")
    if isinstance(task := config.get("task"), str) and task not in tasks:
        raise ValueError(f"{file} must be for one of the tasks {tasks}, got {task!r:.100}.")
    if faulty := [name for name, kind in fields.items() if not isinstance(config.get(name, ...), kind)]:
        raise ValueError(f"{file} is damaged: it lacks {faulty}, or has something else there.")
    if config["format_version"] > FORMAT_VERSION:
        raise ValueError(f"{file} has the version {config['format_version']}, and this runner knows {FORMAT_VERSION}.")
    if "special_tokens" in fields:
        _check_special_tokens(file, config)
    return config


def _check_special_tokens(file: Path, config: dict[str, Any]) -> None:
    tokens, size = config["special_tokens"], max(config["vocab_size"], config["source_vocab_size"])

    def is_token(token: Any) -> bool:
        return type(token) is int and 0 <= token < size

    wrong = [
        name for name in ("pad", "bos", "unk", "start") if not (tokens.get(name) is None or is_token(tokens[name]))
    ]
    wrong += [name for name in ("pad", "bos", "unk", "start", "eos") if name not in tokens]
    ends = tokens.get("eos", [])
    if not isinstance(ends, list) or not all(map(is_token, ends)):
        wrong.append("eos")
    if config["task"] == SEQ2SEQ and tokens.get("start") is None:
        wrong.append("start")
    if wrong:
        raise ValueError(
            f"{file} is damaged: `special_tokens` lacks {sorted(set(wrong))}, or has something else there."
        )


def find_folder(name: str | Path, revision: str | None = None) -> Path:
    """
    A folder, or that of a repository of the Hub, of which graphs and configs are fetched.

    Raises:
        OSError: the Hub does not give it.
        ValueError: it is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        raise ValueError(f"`name` must be a folder or a repository of the Hub, got {str(name)!r}.")
    from huggingface_hub import snapshot_download  # which tokenizers brings along

    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=["*.json", "*.onnx"]))
    except OSError as error:
        reason = " ".join(str(error).split())
        raise OSError(f"There is no folder {name}, and the Hub gives no such repository: {reason}") from error


def is_exported(folder: Path) -> bool:
    """Whether a folder is one that `export_onnx` has written; a checkpoint has a config of the same name."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


class Graph:
    """A graph whose inputs and outputs are known by name."""

    def __init__(self, file: Path, threads: int, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        if not file.is_file():
            raise ValueError(f"{file.parent} must hold {file.name}: the folder is not complete.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no base class for its own
            newer = "opset" in str(error).lower() or "ir version" in str(error).lower()
            fault = (
                f"needs a newer onnxruntime than {onnxruntime.__version__}" if newer else "is damaged or no ONNX graph"
            )
            raise ValueError(f"{file} {fault}: {str(error)[:200]}") from error
        self.inputs = {value.name for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]
        for kind, needed, given in (("inputs", set(inputs), self.inputs), ("outputs", set(outputs), set(self.outputs))):
            if not needed <= given:
                raise ValueError(
                    f"{file} is of another model: its {kind} must hold {sorted(needed)}, got {sorted(given)}."
                )

    def run(self, inputs: Mapping[str, ndarray]) -> Arrays:
        given = {name: value for name, value in inputs.items() if name in self.inputs}
        return dict(zip(self.outputs, self.session.run(None, given), strict=True))


def _agree(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two shapes may be of one array; a side of any length has no number."""
    sides = zip(one, other, strict=False)
    return len(one) == len(other) and all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in sides)


class Member:
    """The graphs of one folder."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder = folder
        self.config = read_config(folder / CONFIG)
        self.states: dict[str, list[int]] = self.config["states"]
        if self.config["task"] == SEQ2SEQ:
            self.encoder = Graph(folder / ENCODER, threads, ["input_ids", "attention_mask"], self.states)
        if self.config["task"] in (SEQ2SEQ, CAUSAL):
            after = {f"{name}_next" for name in self.states}
            self.step = Graph(folder / STEP, threads, ["tokens", "k", *self.states], ["top_scores", "top_ids", *after])
            self._check_steps()
        else:
            outputs = ["start_logits", "end_logits"] if self.config["task"] == ANSWERING else ["logits"]
            inputs = ["input_ids", "attention_mask", *(["character_ids"] if self.config["max_word_length"] else [])]
            self.model = Graph(folder / MODEL, threads, inputs, outputs)
            self._check_model(set(inputs))

    def _check_model(self, inputs: set[str]) -> None:
        """That the graph is of the model that the config tells of."""
        shape = next(value.shape for value in self.model.session.get_outputs() if value.name.endswith("logits"))
        task, labels = self.config["task"], self.config["labels"]
        if (len(shape) == 3) != (task == LABELLING):
            fault = f"{MODEL} is not for {task}"
        elif labels is not None and isinstance(shape[-1], int) and shape[-1] != len(labels):
            fault = f"{MODEL} tells {shape[-1]} labels, {CONFIG} {len(labels)}"
        elif more := self.model.inputs - inputs - ({"token_type_ids"} if task == ANSWERING else set()):
            fault = f"{MODEL} reads {sorted(more)} besides, which {CONFIG} does not tell"
        else:
            return
        raise ValueError(f"{self.folder} holds files of two models: {fault}.")

    def _check_steps(self) -> None:
        """As `_check_model`, of the graphs that generate."""
        given = self.step.session.get_inputs()
        shapes = {value.name: value.shape for value in (*given, *self.step.session.get_outputs())}
        expected = {name: list(shape) for name, shape in self.states.items()}
        expected["log_probabilities"] = [self.config["vocab_size"]]
        wrong = [name for name, shape in expected.items() if name in shapes and not _agree(shapes[name][1:], shape)]
        if self.config["task"] == CAUSAL:
            wrong += [name for name in ("keys", "values") if name in self.step.inputs]
        else:
            read = {value.name: value.shape for value in self.encoder.session.get_outputs()}
            wrong += [name for name in read if name in shapes and not _agree(read[name][1:], shapes[name][1:])]
        if wrong:
            raise ValueError(f"{self.folder} holds files of two models: they do not agree on {sorted(set(wrong))}.")

    def first_states(self, rows: int) -> Arrays:
        return {name: np.zeros((rows, *shape), np.float32) for name, shape in self.states.items()}


class Hypothesis(NamedTuple):
    tokens: list[int]
    score: float
    attention: Any  # (target, source), or `None`


class Decoding:
    """
    The decoding of some texts: the memory of each member about each source, and its state for each row.

    Args:
        prompts: the tokens to begin with, at least one for each row.
    """

    def __init__(
        self,
        members: list["Member"],
        prompts: list[list[int]],
        memories: list[Arrays],
        states: list[Arrays],
        keeps_attention: bool,
    ) -> None:
        config = members[0].config
        self.members, self.memories, self.states = members, memories, states
        self.keeps_attention = keeps_attention
        self.attends = "keys" in memories[0]
        self.prompts, self.vocab_size = prompts, config["vocab_size"]
        tokens = config["special_tokens"]
        self.pad = tokens["pad"] or 0
        self.ends = np.array(tokens["eos"], np.int64)

    def read(self, count: int) -> tuple[ndarray, ndarray, Any]:
        """The prompts; returns what `step` returns after the last token of each."""
        longest = max(map(len, self.prompts))
        for position in range(longest):
            begun = np.array([position >= longest - len(prompt) for prompt in self.prompts])
            tokens = [prompt[position - longest] if is_begun else self.pad for prompt, is_begun in
                      zip(self.prompts, begun, strict=True)]  # fmt: skip
            result = self.step(np.array(tokens, np.int64), count)
            if not begun.all():
                for state in self.states:
                    for value in state.values():
                        value[~begun] = 0
        return result

    def step(self, tokens: ndarray, count: int) -> tuple[ndarray, ndarray, Any]:
        """
        The next step of all rows.

        Returns:
            The log probabilities and the ids of the best `count` tokens of each row, both (rows, count), best first;
            and the attention, (rows, source).
        """
        k = np.array([min(count, self.vocab_size)], np.int64)
        outputs = []
        for member, memory, state in zip(self.members, self.memories, self.states, strict=True):
            outputs.append(member.step.run({"tokens": tokens, "k": k, **memory, **state}))
            state.update({name: outputs[-1][f"{name}_next"] for name in state})
        attention = None
        if self.keeps_attention:
            attention = np.mean([of["attention"].mean(axis=1) for of in outputs if "attention" in of], axis=0)
        if len(outputs) == 1:
            return outputs[0]["top_scores"], outputs[0]["top_ids"], attention
        logs = [of["log_probabilities"] for of in outputs]
        total = np.logaddexp.reduce(logs) - np.float32(math.log(len(logs)))
        ids = np.argsort(-total, axis=1, kind="stable")[:, : k[0]]
        return np.take_along_axis(total, ids, axis=1), ids, attention

    def select(self, rows: ndarray) -> None:
        """Go on with some of the rows, or with the same one several times."""
        for state in self.states:
            for name, value in state.items():
                state[name] = value[rows]

    def repeat(self, beams: int) -> None:
        """Go on with so many rows about each source, which share its memory where the attention does not look back."""
        self.select(np.arange(len(self.prompts)).repeat(beams))
        for member, memory in zip(self.members, self.memories, strict=True):
            if member.config["repeats_memory"]:
                memory.update({name: value.repeat(beams, axis=0) for name, value in memory.items()})

    def best_allowed(self, result: tuple[ndarray, ndarray, Any], may_end: bool) -> tuple[ndarray, ndarray]:
        scores, ids, _ = result
        return (scores if may_end else np.where(np.isin(ids, self.ends), -np.inf, scores)), ids

    def greedy_steps(self, settings: Mapping[str, Any], max_new: int) -> Iterator[tuple[ndarray, ndarray, Any]]:
        """The token of each row, its log probability, and where it looked; what has ended gets padding."""
        least, count = settings["min_new_tokens"], 1 + len(self.ends)
        rows = np.arange(len(self.prompts))  # those that have not ended
        result = self.read(count)
        for step in range(max_new):
            scores, ids = self.best_allowed(result, step >= least)
            best = scores.argmax(axis=1)
            present = np.arange(len(rows)), best
            tokens, log_probabilities = np.full(len(self.prompts), self.pad), np.zeros(len(self.prompts), np.float32)
            tokens[rows], log_probabilities[rows] = ids[present], scores[present]
            looks = result[2]
            if looks is not None:
                looks = np.zeros((len(self.prompts), looks.shape[1]), np.float32)
                looks[rows] = result[2]
            yield tokens, log_probabilities, looks
            goes_on = ~np.isin(tokens[rows], self.ends)
            if not goes_on.any() or step == max_new - 1:
                return
            if not goes_on.all():
                rows = rows[goes_on]
                self.select(goes_on)
                for memory in self.memories:
                    memory.update({name: value[goes_on] for name, value in memory.items()})
            result = self.step(tokens[rows], count)

    def greedy(self, settings: Mapping[str, Any], max_new: int) -> list[list[Hypothesis]]:
        steps = list(self.greedy_steps(settings, max_new))
        attention = np.stack([step[2] for step in steps], 1)[:, None] if self.keeps_attention else None
        tokens, scores = np.stack([step[0] for step in steps], 1), np.sum([step[1] for step in steps], axis=0)
        lengths = np.array([self._length(row) for row in tokens])
        return self._hypotheses(tokens[:, None], (scores / lengths ** settings["length_penalty"])[:, None], attention)

    def _hypotheses(self, tokens: ndarray, scores: ndarray, attention: ndarray | None) -> list[list[Hypothesis]]:
        """By source and rank, each up to its end."""
        found: list[list[Hypothesis]] = [[] for _ in tokens]
        for source, rank in np.ndindex(*tokens.shape[:2]):
            kept = slice(self._length(tokens[source, rank]))
            looks = None if attention is None else attention[source, rank, kept]
            found[source].append(Hypothesis(tokens[source, rank, kept].tolist(), float(scores[source, rank]), looks))
        return found

    def _length(self, tokens: ndarray) -> int:
        """Up to and including the end, without what fills up behind a longest hypothesis."""
        ends = np.flatnonzero(np.isin(tokens, self.ends) | (tokens < 0))
        return len(tokens) if not len(ends) else int(ends[0]) + int(tokens[ends[0]] >= 0)

    def beam_search(self, settings: Mapping[str, Any], max_new: int) -> list[list[Hypothesis]]:
        """As transformers' `generate`; the same in torch is `Beams` in the package's models/beams.py."""
        beams, early, penalty = settings["num_beams"], settings["early_stopping"], settings["length_penalty"]
        sources = np.arange(len(self.prompts))
        candidates = beams * max(2, 1 + len(self.ends))
        count = candidates + len(self.ends)
        result: Any = tuple(None if part is None else part.repeat(beams, axis=0) for part in self.read(count))
        self.repeat(beams)
        # what is carried with each hypothesis: its tokens and, if wanted, where it looked
        running = {"tokens": np.zeros((len(sources), beams, 0), np.int64)}
        if result[2] is not None:
            running["attention"] = np.zeros((len(sources), beams, 0, result[2].shape[-1]), np.float32)
        finished = running
        running_scores = np.full((len(sources), beams), IMPOSSIBLE)
        running_scores[:, 0] = 0  # at first all beams are the same
        finished_scores = np.full_like(running_scores, IMPOSSIBLE)
        is_finished, improvable = np.zeros(running_scores.shape, bool), np.ones((len(sources), 1), bool)
        rows = sources[:, None]
        for length in range(1, max_new + 1):
            scores, ids = self.best_allowed(result, may_end=length > settings["min_new_tokens"])
            totals = (scores.reshape(len(sources), beams, -1) + running_scores[..., None]).reshape(len(sources), -1)
            best = _top(totals, candidates)
            totals, parents = totals[rows, best], best // scores.shape[1]
            new = {"tokens": ids.reshape(len(sources), -1)[rows, best][..., None]}
            if result[2] is not None:
                new["attention"] = result[2].reshape(len(sources), beams, 1, -1)[rows, parents]
            extended = {name: np.concatenate([running[name][rows, parents], new[name]], axis=2) for name in new}
            stops = np.isin(new["tokens"][..., 0], self.ends) | (length == max_new)
            chosen = _top(totals + stops * IMPOSSIBLE, beams)
            running = {name: value[rows, chosen] for name, value in extended.items()}
            running_scores = (totals + stops * IMPOSSIBLE)[rows, chosen]

            finishes = stops & (np.arange(stops.shape[1]) < beams)
            reached = totals / np.float32(length**penalty) + (~improvable | ~finishes) * IMPOSSIBLE
            if early is True:
                reached = reached + is_finished.all(axis=1, keepdims=True) * IMPOSSIBLE
            reached = np.concatenate([finished_scores, reached], axis=1)
            winners = _top(reached, beams)
            finished_scores = reached[rows, winners]
            is_finished = np.concatenate([is_finished, finishes], axis=1)[rows, winners]
            finished = {
                name: np.concatenate([_lengthen(finished[name]), value], axis=1)[rows, winners]
                for name, value in extended.items()
            }

            hoped = max_new if early == "never" and penalty > 0 else length
            worst = np.where(is_finished, finished_scores.min(axis=1, keepdims=True), IMPOSSIBLE)
            improvable &= (running_scores[:, :1] / np.float32(hoped**penalty) > worst).any(axis=1, keepdims=True)
            if not improvable.any() or stops.all() or (early is True and is_finished.all()):
                break
            self.select((parents[rows, chosen] + beams * rows).ravel())
            result = self.step(running["tokens"][..., -1].ravel(), count)
        best_ones = slice(settings["num_return_sequences"])
        attention = finished["attention"][:, best_ones] if "attention" in finished else None
        return self._hypotheses(finished["tokens"][:, best_ones], finished_scores, attention)


def _top(scores: ndarray, count: int) -> ndarray:
    """The columns of the largest scores of each row, best first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _lengthen(hypotheses: ndarray) -> ndarray:
    """(sources, beams, length, ...) with one more place, -1, behind."""
    width = [(0, 0)] * hypotheses.ndim
    width[2] = (0, 1)
    return np.pad(hypotheses, width, constant_values=-1)


def viterbi(emissions: ndarray, start: ndarray, transitions: ndarray, end: ndarray) -> ndarray:
    """
    The best labels of a chain (Viterbi, 1967); see the package's models/crf.py.

    Args:
        emissions: (length, labels).
        transitions: from, to.
    """
    best, origins = start + emissions[:1].sum(axis=0), []
    for emission in emissions[1:]:
        scores = best[:, None] + transitions
        origins.append(scores.argmax(axis=0))
        best = scores.max(axis=0) + emission
    labels = [int((best + end).argmax())]
    for origin in reversed(origins):
        labels.append(int(origin[labels[-1]]))
    return np.array(labels[::-1][: len(emissions)], np.int64)


def best_span(
    context: str, encoding: Encoding, start_logits: ndarray, end_logits: ndarray, longest: int
) -> dict[str, Any]:
    """The most probable answer; see `find_answers` in the package's question_answering.py."""
    in_context = np.array([part == 1 for part in encoding.sequence_ids])
    spans = whole_offsets(context, encoding.offsets, in_context)
    choices = in_context.copy()
    choices[0] = True  # "no answer here"
    starts, ends = (log_softmax(np.where(choices, logits, -np.inf)) for logits in (start_logits, end_logits))
    is_text = np.array([bool(of and context[slice(*span)].strip()) for of, span in zip(in_context, spans, strict=True)])
    scores = np.where(is_text, starts, -np.inf)[:, None] + np.where(is_text, ends, -np.inf)
    position = np.arange(len(spans))
    distance = position - position[:, None]
    scores = np.where((distance >= 0) & (distance < longest), scores, -np.inf)
    first, last = np.unravel_index(scores.argmax(), scores.shape)
    text = context[spans[first][0] : spans[last][1]]  # with the space that a subword brings
    start, end = spans[last][1] - len(text.lstrip()), spans[first][0] + len(text.rstrip())
    return {"answer": context[start:end], "score": float(np.exp(scores.max())), "start": start, "end": end}


def class_scores(logits: ndarray, problem_type: str | None) -> ndarray:
    """As the pipelines: probabilities, of each label alone where several may be right, or a regression's numbers."""
    if problem_type == "regression":
        return logits
    if problem_type == "multi_label_classification" or (problem_type is None and logits.shape[-1] == 1):
        return np.exp(-np.logaddexp(0, -logits))
    return np.exp(log_softmax(logits))


def log_softmax(logits: ndarray) -> ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
