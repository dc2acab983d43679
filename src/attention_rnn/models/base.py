"""What all models of the family share: initial values, ties, a checkpoint that carries its code, and their inputs."""

import os
import shutil
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .cells import Cell
from .checks import check_tensors, check_token_ids
from .configuration_attention_rnn import AUTO_MAP, CACHE_NAMES, AttentionRnnConfig


class AttentionRnnPreTrainedModel(PreTrainedModel):
    """
    What all models of the family share: initial values, and a checkpoint that carries its code.

    Initial values: cells as they say themselves; embeddings and `lm_head` normal with standard deviation
    `embedding_size ** -0.5`, the padding row zero; other matrices and convolutions Xavier uniform, biases zero; layer
    norms one and zero.
    """

    config: AttentionRnnConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = "text"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AttentionRnnEncoderLayer", "AttentionRnnDecoderLayer"]
    _skip_keys_device_placement = list(CACHE_NAMES)
    _can_compile_fullgraph = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Cell):
            module.initialize(self.config)
        elif isinstance(module, nn.Embedding) or module is getattr(self, "lm_head", None):
            init.normal_(module.weight, std=self.config.embedding_size**-0.5)
            padding_index = getattr(module, "padding_idx", None)
            if padding_index is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[padding_index])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, (nn.Linear, nn.Conv1d)):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        # For code outside its tree transformers skips modules without parameters of their own, such as our cells, to
        # protect loaded weights. `_init_weights` protects them itself.
        super()._initialize_weights(module, is_custom_code=False)

    def post_init(self) -> None:
        super().post_init()
        # FSDP refuses a class that is not in the model
        kinds = {type(module).__name__ for module in self.modules()}
        self._no_split_modules = [name for name in self._no_split_modules or () if name in kinds]
        self.add_model_tags("attention-rnn")  # for the card of a model that is pushed
        # a tied weight is saved once; unless it is listed, the Trainer reports it as missing from a checkpoint
        self._keys_to_ignore_on_save = set(self.all_tied_weights_keys)

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        # transformers ties nothing when `tie_word_embeddings` is off, but a shared vocabulary is shared all the same;
        # our `_tied_weights_keys` already say what this config ties.
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys or {})

    def mark_tied_weights_as_initialized(self, loading_info: Any) -> None:
        # transformers leaves out what will be replaced by what it is tied to; a module with two names is no such thing
        tied = self.all_tied_weights_keys
        self.all_tied_weights_keys = {
            target: source
            for target, source in tied.items()
            if self.get_parameter(target) is not self.get_parameter(source)
        }
        super().mark_tied_weights_as_initialized(loading_info)
        self.all_tied_weights_keys = tied

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike | None,
        *args: Any,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """
        As in transformers.

        Raises:
            ValueError: the weights are damaged: truncated, NaN or infinite; or their index names files elsewhere.
            RuntimeError: they are not those of the model that the config describes.
        """
        try:
            loaded: Any = super().from_pretrained(
                pretrained_model_name_or_path, *args, ignore_mismatched_sizes=True, output_loading_info=True, **kwargs
            )
        except Exception as error:
            # by name, as this file travels with checkpoints and imports nothing but torch and transformers
            if type(error).__name__ != "SafetensorError":
                raise
            raise ValueError(
                f"The weights of `{pretrained_model_name_or_path}` cannot be read, its file is truncated or "
                f"damaged: {error}"
            ) from error
        model, info = loaded
        if info["mismatched_keys"] and not ignore_mismatched_sizes:
            mismatches = ", ".join(
                f"`{key}` is {tuple(saved)} in the weights and {tuple(expected)} by the config"
                for key, saved, expected in sorted(info["mismatched_keys"])
            )
            raise RuntimeError(
                f"The weights of `{pretrained_model_name_or_path}` disagree with its config: {mismatches}."
            )
        if pretrained_model_name_or_path is not None:
            _check_weights(str(pretrained_model_name_or_path), model, {} if output_loading_info else info)
        return (model, info) if output_loading_info else model

    @staticmethod
    def _load_pretrained_model(model: Any, state_dict: Any, files: Any, load_config: Any, *args: Any) -> Any:
        # transformers joins the names in an index with the folder as they are
        for name in {*(load_config.sharded_metadata or {}).get("weight_map", {}).values()}:
            if os.path.isabs(name) or ".." in Path(name).parts:
                raise ValueError(f"The index of the weights must name files of its own folder, got {name!r}.")
        return PreTrainedModel._load_pretrained_model(model, state_dict, files, load_config, *args)

    def option(self, name: str, value: bool | None) -> bool:
        """An option of `forward`: as passed, or else as the config says."""
        return bool(getattr(self.config, name) if value is None else value)

    def trains_without_logits(self) -> bool:
        """Whether a loss is to be made without the logits of all tokens, see `logits_in_training`."""
        if self.config.logits_in_training or not self.training:
            return False
        # what has taken the place of `lm_head` (LoRA, a quantiser) makes logits in its own way
        return type(self.lm_head) is nn.Linear and not torch.compiler.is_compiling()

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
        """The masks of a recurrent model stay (batch, length), also with a static cache."""
        return attention_mask

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | PathLike, is_main_process: bool = True, **kwargs: Any
    ) -> None:
        """
        As in transformers; the code of the model is saved as well, so that the checkpoint loads with
        `trust_remote_code=True` where this package is not installed.
        """
        code = _code_files()
        # code that came with a checkpoint may hold just the files of the head that was loaded
        self.config.auto_map = {
            auto_class: reference
            for auto_class, reference in AUTO_MAP.items()
            if f"{reference.split('.')[0]}.py" in code
        }
        if is_main_process and not Path(save_directory).is_file():
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            for name, file in code.items():
                shutil.copyfile(file, Path(save_directory) / name)
        self._keys_to_ignore_on_save = set(self.all_tied_weights_keys)  # what a checkpoint untied is saved
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)

    def _get_files_timestamps(self, working_dir: str | PathLike) -> dict[str, float]:
        # `save_pretrained(push_to_hub=True)` pushes what is newer than these, and the code is in the folder already
        timestamps, code = super()._get_files_timestamps(working_dir), _code_files()
        return {name: timestamp for name, timestamp in timestamps.items() if name not in code}


def _code_files() -> dict[str, Path]:
    """The files that travel with a checkpoint, by their names."""
    return {file.name: file for file in Path(__file__).parent.glob("*.py") if file.name != "__init__.py"}


def _check_weights(name: str, model: PreTrainedModel, info: dict[str, Any]) -> None:
    """
    Whether weights that a model of the same class has left are complete, unless the caller takes `info` to see for
    himself, and whether they are numbers.
    """
    if type(model).__name__ in (model.config.architectures or ()):  # another class may lack what the head needs
        for kind, fault in (("missing_keys", "lack"), ("unexpected_keys", "hold the unknown")):
            if keys := info.get(kind):
                raise RuntimeError(
                    f"The weights of `{name}` {fault} `{min(keys)}` ({len(keys)} in all), though its config says that "
                    f"they are of an {type(model).__name__}: the file is damaged, or belongs to another model."
                )
    for key, weight in model.named_parameters():
        if weight.device.type == "cpu" and type(weight) is nn.Parameter and not weight.isfinite().all():
            raise ValueError(f"The weights of `{name}` are damaged: `{key}` holds NaN or infinite values.")


def embed(name: str, embed_tokens: nn.Embedding, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
    """
    Embeddings (batch, length, embedding) of `input_ids`, or `inputs_embeds` as they are.

    Args:
        name: what the caller calls these inputs, `""` or `"decoder_"`.

    Raises:
        TypeError: no tensor, ids that are no integers, or embeddings in another precision than the model.
        ValueError: both or none are given, the embeddings have another shape, an id is outside the vocabulary, or they
            are not on the device of the model.
    """
    if input_ids is not None and inputs_embeds is None:
        check_token_ids(f"{name}input_ids", input_ids, embed_tokens.num_embeddings)
        _check_device(f"{name}input_ids", input_ids, embed_tokens)
        return embed_tokens(input_ids)
    if inputs_embeds is None or input_ids is not None:
        raise ValueError(f"Give exactly one of `{name}input_ids` and `{name}inputs_embeds`.")
    _check_embeddings(f"{name}inputs_embeds", inputs_embeds, embed_tokens)
    return inputs_embeds


def _check_embeddings(name: str, embeddings: Tensor, embed_tokens: nn.Embedding) -> None:
    check_tensors(**{name: embeddings})
    width, dtype = embed_tokens.embedding_dim, embed_tokens.weight.dtype
    if embeddings.dim() != 3 or embeddings.numel() == 0 or embeddings.shape[2] != width:
        raise ValueError(
            f"`{name}` must have the shape (batch, length, {width}) with a length of one or more, got "
            f"{tuple(embeddings.shape)}."
        )
    _check_device(name, embeddings, embed_tokens)
    if embeddings.dtype != dtype:
        device_type = embeddings.device.type
        may_differ = embeddings.is_floating_point() and device_type != "meta"
        if not (may_differ and torch.is_autocast_enabled(device_type)):
            raise TypeError(f"`{name}` must be of the type of the model, {dtype}, got {embeddings.dtype}.")


def _check_device(name: str, inputs: Tensor, embed_tokens: nn.Embedding) -> None:
    device = embed_tokens.weight.device
    # accelerate moves the inputs of a module that it has placed
    if inputs.device != device and not hasattr(embed_tokens, "_hf_hook"):
        raise ValueError(f"`{name}` must be on the device of the model, {device}, got a tensor on {inputs.device}.")
