"""What all models of the family share: initial values, ties, and a checkpoint that is checked and carries its code."""

import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .carried_code import code_of
from .cells import Cell
from .checks import check_device
from .configuration_attention_rnn import AttentionRnnConfig
from .configuration_decoder import CACHE_NAMES
from .prepared_linear import is_plain, is_watched

_HUB_ARGUMENTS = ("cache_dir", "local_files_only", "revision", "subfolder", "token")


class AttentionRnnPreTrainedModel(PreTrainedModel):
    """
    What all models of the family share: initial values, and a checkpoint that carries its code.

    Initial values: cells as they say themselves; embeddings and `lm_head` normal with standard deviation
    `embedding_size ** -0.5`, the padding row zero; other matrices and convolutions Xavier uniform, biases zero; layer
    norms one and zero.

    Raises:
        TypeError: the configuration is of a model that reads something else.
    """

    config: AttentionRnnConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = "text"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AttentionRnnEncoderLayer", "AttentionRnnDecoderLayer"]
    _skip_keys_device_placement = list(CACHE_NAMES)
    _can_compile_fullgraph = True
    # parts of weights' names that older versions have saved, and what they are called now
    _renamed_weights: dict[str, str] = {}

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        config_class: Any = self.config_class
        wanted = config_class.__name__
        # by name, as the class that a checkpoint carries may be there twice
        if wanted not in (kind.__name__ for kind in type(config).__mro__):
            raise TypeError(f"`config` must be an {wanted}, got {type(config).__name__}.")
        super().__init__(config, *args, **kwargs)

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
        elif isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
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
            ValueError: the weights are damaged: truncated, NaN or infinite; or their index names files elsewhere; or
                they are of another kind of model, none of whose weights this one has.
            RuntimeError: they are not those of the model that the config describes.
        """
        if cls._renamed_weights:
            kwargs["key_mapping"] = {**cls._renamed_weights, **(kwargs.get("key_mapping") or {})}
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
        for module in model.modules():
            if getattr(module, "is_frozen", False):
                module.requires_grad_(False)  # loading makes new parameters of all weights
        if cls._renamed_weights:
            model._weight_conversions = None  # it is saved under the names of today
        if pretrained_model_name_or_path is not None:
            of_hub = {key: value for key, value in kwargs.items() if key in _HUB_ARGUMENTS}
            _check_weights(str(pretrained_model_name_or_path), model, info, output_loading_info, of_hub)
        return (model, info) if output_loading_info else model

    @staticmethod
    def _load_pretrained_model(
        model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        # transformers joins the names in an index with the folder as they are
        for name in {*(load_config.sharded_metadata or {}).get("weight_map", {}).values()}:
            if os.path.isabs(name) or ".." in Path(name).parts:
                raise ValueError(f"The index of the weights must name files of its own folder, got {name!r}.")
        load: Any = PreTrainedModel._load_pretrained_model
        loaded = load(model, state_dict, checkpoint_files, load_config, *args, **kwargs)
        if checkpoint_files:  # here, before transformers reports every weight that it misses
            _refuse_another_architecture(model, loaded[0].missing_keys)
        return loaded

    def option(self, name: str, value: bool | None) -> bool:
        """An option of `forward`: as passed, or else as the config says."""
        return bool(getattr(self.config, name) if value is None else value)

    def check_device(self, name: str, inputs: Tensor) -> None:
        """
        Raises:
            ValueError: `inputs` are not where the weights are.
        """
        device = next((weight.device for weight in self.parameters()), inputs.device)
        # accelerate moves the inputs of a module that it has placed, and fetches weights that it has offloaded
        if inputs.device != device and not any(hasattr(module, "_hf_hook") for module in self.modules()):
            check_device(name, inputs, device)

    def trains_without_logits(self) -> bool:
        """Whether a loss is to be made without the logits of all tokens, see `logits_in_training`."""
        if self.config.logits_in_training or not self.training:
            return False
        # what has taken the place of `lm_head` (LoRA, a quantiser) makes logits in its own way
        return is_plain(self.lm_head) and not is_watched()

    def refuse_a_loss_from_outside(self, num_items_in_batch: Any, **parts: Any) -> None:
        """
        To be called where there are no labels.

        Raises:
            ValueError: a Trainer has taken the labels away, to make the loss of the logits, and a part of it that only
                the model can make would be missing: one of `parts`, fields of the config, is not zero.
        """
        needed = [name for name, value in parts.items() if value]
        if needed and num_items_in_batch is not None:
            raise ValueError(
                f"`labels` must be given to train a model with `{needed[0]}`, which makes its loss itself, got None. "
                "The `label_smoothing_factor` of a Trainer takes them away: set `label_smoothing` in the config."
            )

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
        code = code_of(type(self), self.config)
        self.config.auto_map = {
            auto_class: reference
            for auto_class, reference in self.config.auto_classes.items()
            if f"{reference.split('.')[0]}.py" in code
        }
        if is_main_process and not Path(save_directory).is_file():
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            for name, text in code.items():
                (Path(save_directory) / name).write_text(text, encoding="utf-8")
        untied = self._forget_untied(kwargs.get("state_dict"))
        if untied and kwargs.get("state_dict") is None:
            kwargs["state_dict"] = {
                name: weight.clone() if name in untied else weight for name, weight in self.state_dict().items()
            }
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)

    def _forget_untied(self, state_dict: Any) -> set[str]:
        """Let what is no longer tied, by the config or as a user or an adapter has set the weights, be saved apart."""
        name = "lm_head.weight"
        source = self.all_tied_weights_keys.get(name)
        weights = dict(self.named_parameters(remove_duplicate=False)) if state_dict is None else {}
        if source in weights and name in weights and weights[name].device.type != "meta":  # offloaded, it is two
            self.config.tie_word_embeddings &= weights[name] is weights[source]
        if source is None or self.config.tie_word_embeddings:
            untied = set()
        else:
            untied = {name}
            del self.all_tied_weights_keys[name]
            self._tied_weights_keys = {}
        self._keys_to_ignore_on_save = set(self.all_tied_weights_keys)  # what a checkpoint untied is saved
        return untied

    def _get_files_timestamps(self, working_dir: str | PathLike) -> dict[str, float]:
        # `save_pretrained(push_to_hub=True)` pushes what is newer than these, and the code is in the folder already
        timestamps, code = super()._get_files_timestamps(working_dir), code_of(type(self), self.config)
        return {name: timestamp for name, timestamp in timestamps.items() if name not in code}


def _is_of_class(model: PreTrainedModel) -> bool:
    return type(model).__name__ in (model.config.architectures or ())


def _refuse_another_architecture(model: PreTrainedModel, missing_keys: Iterable[str]) -> None:
    body = {key for key, _ in model.named_parameters() if key.startswith(f"{model.base_model_prefix}.")}
    body = body or {key for key, _ in model.named_parameters()}
    if not _is_of_class(model) and body <= set(missing_keys):
        raise ValueError(
            f"`{model.config.name_or_path}` holds no weight of an {type(model).__name__}: its config says that it is "
            f"of {' or '.join(model.config.architectures or ['an unknown class'])}."
        )


def _check_weights(
    name: str, model: PreTrainedModel, info: dict[str, Any], is_asked: bool, of_hub: dict[str, Any]
) -> None:
    """
    Whether weights are those of this model, and whether they are numbers. Those that a model of the same class has left
    must be complete, unless the caller has asked for `info`, to see for himself, or for another config.
    """
    of_same_class = _is_of_class(model)
    faults = {"lack": info["missing_keys"], "hold the unknown": info["unexpected_keys"]}
    if of_same_class and not is_asked and any(faults.values()) and _is_config_of(name, model.config, of_hub):
        fault, keys = next((fault, keys) for fault, keys in faults.items() if keys)
        raise RuntimeError(
            f"The weights of `{name}` {fault} `{min(keys)}` ({len(keys)} in all), though its config says that they are "
            f"of an {type(model).__name__}: the file is damaged, or belongs to another model."
        )
    for key, weight in model.named_parameters():
        if weight.device.type == "cpu" and type(weight) is nn.Parameter and not weight.isfinite().all():
            raise ValueError(f"The weights of `{name}` are damaged: `{key}` holds NaN or infinite values.")


def _is_config_of(name: str, config: Any, of_hub: dict[str, Any]) -> bool:
    """Whether a config is the one that was saved, of which nothing has been set otherwise for loading."""
    values, _ = type(config).get_config_dict(name, **of_hub)
    saved = type(config).from_dict(values)
    return all(getattr(saved, field) == getattr(config, field) for field in config._fields)
