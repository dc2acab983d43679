"""What all models of the family share: initial values, ties, a checkpoint that carries its code, and their inputs."""

import shutil
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .cells import Cell
from .checks import check_token_ids
from .configuration_attention_rnn import AUTO_MAP, AttentionRnnConfig


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
    _skip_keys_device_placement = ["past_key_values"]
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
            ValueError: the weights are damaged.
            RuntimeError: they have other shapes than the config says.
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
        return (model, info) if output_loading_info else model

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
        code = {file.name: file for file in Path(__file__).parent.glob("*.py") if file.name != "__init__.py"}
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


def embed(name: str, embed_tokens: nn.Embedding, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
    """
    Embeddings (batch, length, embedding) of `input_ids`, or `inputs_embeds` as they are.

    Args:
        name: what the caller calls these inputs, `""` or `"decoder_"`.

    Raises:
        ValueError: both or none are given, the embeddings have another shape, or an id is outside the vocabulary.
    """
    if input_ids is not None and inputs_embeds is None:
        check_token_ids(f"{name}input_ids", input_ids, embed_tokens.num_embeddings)
        return embed_tokens(input_ids)
    if inputs_embeds is None or input_ids is not None:
        raise ValueError(f"Give exactly one of `{name}input_ids` and `{name}inputs_embeds`.")
    if inputs_embeds.dim() != 3 or inputs_embeds.shape[1] == 0 or inputs_embeds.shape[2] != embed_tokens.embedding_dim:
        raise ValueError(
            f"`{name}inputs_embeds` must have the shape (batch, length, {embed_tokens.embedding_dim}) with a "
            f"length of one or more, got {tuple(inputs_embeds.shape)}."
        )
    return inputs_embeds
