"""What is known to fail with the clients. An entry goes when the fault is mended, as its test then passes."""

import re

import pytest

KNOWN_FAULTS = {
    r"test_(cpu_offload|disk_offload)\[": "the recurrence reads weights that lie elsewhere",
    r"test_from_pretrained_with_a_part_on_disk\[(?!two|causal|past)": "the target's embeddings have two names",
    r"test_from_pretrained_with_a_part_on_disk\[(two|causal|past)": "the recurrence reads weights that lie elsewhere",
    r"test_a_map_that_accelerate_infers\[(?!input|conditional)": "the recurrence reads weights that lie elsewhere",
    r"test_the_activation_of_a_recurrent_matrix_is_seen": "the recurrence does not call its matrix",
    r"test_(rows_with_an_answer_in_the_padding|a_training_with_such_rows)": "a label at padding is refused",
    r"test_a_prompt_of_a_causal_tokenizer_is_continued": "`train_tokenizer` always appends `</s>`",
    r"test_the_server_of_transformers_opens_a_model": "our classes are no names of transformers",
    r"test_lora_trains_generates_and_merges\[embeddings": "the model asks an adapter for `num_embeddings`",
    r"test_lora_trains_generates_and_merges\[(recurrent|cell|readout|all_linear)-two_vocabularies": "`lm_head` is lost",
    r"test_recurrent_dropout_leaves_lora": "recurrent dropout goes round an adapter",
    r"test_an_adapter_of_the_model_is_saved_and_loaded": "the loader lacks a keyword of transformers'",
    r"test_a_folder_with_an_adapter_opens": "the loader lacks a keyword of transformers'",
    r"test_single_tokens_can_be_trained": "the model asks an adapter for `num_embeddings`",
    r"test_an_untied_head_is_saved\[(tied|two_vocabularies|causal)\]": "`lm_head` is left out as if it were tied",
    r"test_prefix_tuning_is_refused_by_name\[untied\]": "a foreign cache ends in a size error",
    r"test_torchao": "the recurrence takes a quantised weight for a plain one",
    r"test_functional_gradients\[(?!lstm-(two|causal))": "an autograd function without `setup_context`; two names",
    r"test_functional_gradients_(step_by_step|in_training)": "an autograd function without `setup_context`",
    r"test_functional_call_uses_the_weights.*\[(tied|untied)\]": "the target's embeddings have two names",
    r"test_gradients_of_every_example_at_once": "an autograd function without `setup_context`",
    r"test_pruned_weights_stay_zero": "the recurrence does not call its matrix",
    r"test_a_hook_(changes|sees)": "the recurrence does not call its matrix",
    r"test_a_hook_on_another_matrix_is_called\[(input_to_hidden-lstm|lm_head)": "a fast path does not call its matrix",
}


def pytest_collection_modifyitems(items):
    for item in items:
        for pattern, reason in KNOWN_FAULTS.items():
            if re.match(pattern, item.name):
                item.add_marker(pytest.mark.xfail(strict=True, reason=reason))
