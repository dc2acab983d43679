"""Checkpoint averaging: one model from the last checkpoints of a run, by the mean of their weights."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from .run_folder import RESULTS

# the state of the training and what was measured do not hold for the mean
_NOT_COPIED = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*_results.json", *RESULTS)


def average_checkpoints(folders: Sequence[str | PathLike], output_folder: str | PathLike) -> None:
    """
    Write a model whose weights are the mean of those of several checkpoints of one run, which is often better than the
    last of them and as fast (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 6.1; Popel and Bojar,
    2018, https://arxiv.org/abs/1804.00247). The weights of different runs have no useful mean, but their models can
    form an ensemble (`AttentionRnnEnsemble`).

    Works for every transformers model with weights in safetensors files, sharded or not. One file of the output is held
    in memory at a time.

    Args:
        folders (`Sequence[str | PathLike]`):
            Folders that the Trainer or `save_pretrained` wrote. The Trainer keeps no more checkpoints than its
            `save_total_limit`: raise it to the number that you want to average.
        output_folder (`str | PathLike`):
            Receives the weights, in the data types of the checkpoints, and the config, tokenizer and code of the last
            folder; not the state of its training, nor its scores and its model card.

    Raises:
        TypeError: `folders` is a single folder.
        ValueError: there is no folder; a folder lacks its config or weights, or these are damaged or in another folder;
            configs differ, or names, shapes or data types of tensors, or the values of an integer tensor;
            `output_folder` holds a model.

    Example:
        >>> average_checkpoints([f"runs/g2p/checkpoint-{step}" for step in (800, 900, 1000)], "runs/g2p-averaged")
        >>> model = AutoModelForSeq2SeqLM.from_pretrained("runs/g2p-averaged")
    """
    if isinstance(folders, (str, PathLike)):
        raise TypeError(f"`folders` must be a list of folders, got {folders!r}.")
    if len(folders) == 0:
        raise ValueError("`folders` must hold at least one folder, got none.")
    sources, output = [Path(folder) for folder in folders], Path(output_folder)
    for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):
        if (output / name).exists():
            raise ValueError(f"`output_folder` must not hold a model yet, but {output / name} exists.")
    _check_configs(sources)
    with ExitStack() as stack:
        files = [_open_weights(folder, stack) for folder in sources]
        tensors = [{key: file for file in of_folder.values() for key in file.keys()} for of_folder in files]  # noqa: SIM118
        _check_tensors(sources, tensors)
        output.mkdir(parents=True, exist_ok=True)
        for name, file in files[-1].items():
            means = {key: _mean(key, [of_folder[key] for of_folder in tensors]) for key in file.keys()}  # noqa: SIM118
            save_file(means, output / name, metadata=file.metadata())
    for path in sources[-1].iterdir():
        if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in _NOT_COPIED):
            shutil.copyfile(path, output / path.name)


def _check_configs(folders: list[Path]) -> None:
    configs = []
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"`folders` must be folders of checkpoints, but there is no folder {folder}.")
        if not (folder / CONFIG_NAME).is_file():
            raise ValueError(f"`folders` must hold a {CONFIG_NAME} each, but {folder} has none.")
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        config.pop("transformers_version", None)  # a run may be resumed with another
        configs.append(config)
    for folder, config in zip(folders, configs, strict=True):
        for name in sorted({*configs[0], *config}):
            expected, value = configs[0].get(name), config.get(name)
            if value != expected:
                raise ValueError(
                    f"`folders` must be checkpoints of one run, but in their configs {name} is {expected!r} in "
                    f"{folders[0]} and {value!r} in {folder}."
                )


def _open_weights(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """The open safetensors files of a checkpoint by name."""
    index, names = folder / SAFE_WEIGHTS_INDEX_NAME, [SAFE_WEIGHTS_NAME]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    files = {}
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{index} must name files of its own folder, got {name!r}.")
        try:
            files[name] = stack.enter_context(safe_open(folder / name, framework="pt"))
        except FileNotFoundError as error:
            raise ValueError(f"`folders` must hold weights in safetensors files, but {folder} lacks {name}.") from error
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is truncated or damaged: {error}") from error
    return files


def _check_tensors(folders: list[Path], tensors: list[dict[str, Any]]) -> None:
    first = tensors[0]
    for folder, others in zip(folders[1:], tensors[1:], strict=True):
        for key in sorted({*first, *others}):
            if key not in first or key not in others:
                raise ValueError(f"`{key}` is in the weights of only one of {folders[0]} and {folder}.")
            one, other = first[key].get_slice(key), others[key].get_slice(key)
            if one.get_shape() != other.get_shape() or one.get_dtype() != other.get_dtype():
                raise ValueError(
                    f"`{key}` is {one.get_dtype()} {one.get_shape()} in {folders[0]} and {other.get_dtype()} "
                    f"{other.get_shape()} in {folder}."
                )
            is_float = one.get_dtype().startswith(("F", "BF"))
            if not is_float and not torch.equal(first[key].get_tensor(key), others[key].get_tensor(key)):
                raise ValueError(f"`{key}`, a tensor of {one.get_dtype()}, has no mean: {folders[0]}, {folder} differ.")


def _mean(key: str, files: list[Any]) -> Tensor:
    """The mean in double precision, in which the sum of a few equal weights is exact."""
    tensor = files[0].get_tensor(key)
    if not tensor.is_floating_point():
        return tensor
    total = tensor.double()
    for file in files[1:]:
        total = total + file.get_tensor(key)
    return (total / len(files)).to(tensor.dtype)
