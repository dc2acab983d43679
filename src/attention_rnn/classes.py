"""The classes of a model, and what becomes of them where a checkpoint is fine-tuned on other labels."""

import copy
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from .data import brief

logger = logging.getLogger(__name__)

FEW_LABELLED = 20


def merge_labels(known: Sequence[str], found: Sequence[str], kind: str = "labels") -> list[str]:
    """
    The labels that a model is trained on. How those of a checkpoint and of new data come together is logged.

    Args:
        known: the labels of the checkpoint, in the order of their ids. They keep their ids, new ones follow them.
            None of a new model.
        found: the labels of the data. Where they have none in common with `known`, they take its place.
        kind: what they are called.
    """
    if not known:
        return list(found)
    new = [label for label in found if label not in known]
    if len(new) == len(found):
        logger.info(f"{kind}: no label of the checkpoint, {_some(known)}, is one of the data: its classes start anew")
        return list(found)
    parts = [f"the {len(known)} labels of the checkpoint keep their ids and weights"]
    if new:
        parts.append(f"{len(new)} new ones follow them: {_some(new)}")
    if unused := [label for label in known if label not in found]:
        parts.append(f"{len(unused)} do not stand in the training data: {_some(unused)}")
    logger.info(f"{kind}: {'; '.join(parts)}")
    return [*known, *new]


def with_labels(model: PreTrainedModel, labels: Sequence[str], *, of_texts: bool = False) -> PreTrainedModel:
    """
    A model with other classes: the same one if it has these labels already, otherwise a new one in which everything
    keeps its weights but the parameters that are as large as the labels are many. Of those, what belongs to the labels
    of the model stays if they are the first ones of `labels`, and the rest starts as in a new model.

    Args:
        model: any model of transformers with a classifier.
        labels: the names of the classes in the order of their ids.
        of_texts: whether they are the `intents` of a tagger.
    """
    known = list_labels(model.config, of_texts=of_texts)
    if known == list(labels):
        return model
    kept = len(known) if known == list(labels[: len(known)]) else 0
    resized: Any = type(model)(_config_with(model.config, labels, of_texts))
    # which sizes are the number of labels is seen from a model with one more, of a name that fits the scheme
    one_more = [*labels, min(labels, key="O".__eq__) + "-"]
    with torch.device("meta"):
        larger = type(model)(_config_with(model.config, one_more, of_texts)).state_dict()
    new, old = resized.state_dict(), model.state_dict()
    for name, values in new.items():
        if name in old:
            is_of_labels = [size != other for size, other in zip(values.shape, larger[name].shape, strict=True)]
            part = tuple(slice(kept if is_resized else None) for is_resized in is_of_labels)
            values[part] = old[name][part]
    return resized.to(device=model.device, dtype=model.dtype).train(model.training)


def list_labels(config: Any, *, of_texts: bool = False) -> list[str]:
    """The names of the classes in the order of their ids; with `of_texts`, the intents, of which there may be none."""
    if of_texts:
        return list(getattr(config, "intents", None) or ())
    return [config.id2label[index] for index in range(config.num_labels)]


def label_fields(labels: Sequence[str]) -> dict[str, Any]:
    """The fields of a config that name its classes, in the order of their ids."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def check_labels(labels: Iterable[str], known: Sequence[str], place: str, origin: str, kind: str = "label") -> None:
    """
    Refuse labels that are not among those known.

    Args:
        labels, known: the labels of an example, and those of which they must be.
        place, origin, kind: where the example stands, where the known ones come from, and what they are.
    """
    for label in labels:
        if label not in known:
            raise ValueError(f"{place}: the {kind} must be among {brief(list(known))} {origin}, got {brief(label)}")


def check_recurrence(labels: Iterable[str], kind: str = "label") -> None:
    """
    Refuse labels of the training data of which none occurs twice, and warn if they are more than half as many as what
    they label: they are texts of another column then. A few examples show nothing.

    Args:
        labels: of all examples, or of all their words.
        kind: what they are; `--<kind>_column` names their column.
    """
    counts = Counter(labels)
    distinct, total = len(counts), sum(counts.values())
    if total < FEW_LABELLED or 2 * distinct <= total:
        return
    found = (
        f"{distinct:,} different {kind}s on {total:,} places of the training data, such as "
        f"{brief(max(counts, key=len))}. Is --{kind}_column another one?"
    )
    if distinct == total:
        raise ValueError(f"no {kind} stands twice: there are {found}")
    logger.warning(f"There are {found}")


def _config_with(config: Any, labels: Sequence[str], of_texts: bool) -> Any:
    config = copy.deepcopy(config)
    if of_texts:
        config.intents = list(labels)
    else:
        for name, value in label_fields(labels).items():
            setattr(config, name, value)
    return config


def _some(labels: Sequence[str], most: int = 10) -> str:
    return ", ".join(labels[:most]) + (", ..." if len(labels) > most else "")
