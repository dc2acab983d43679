"""
The tests of transformers that do not apply to our models: why, and the patterns of their names.

A pattern is a test's name, or that of its class, a dot, and its name. A test that is listed here and passes fails, and
so does one that transformers skips and that is not listed.
"""

import torch

INAPPLICABLE: dict[str, list[str]] = {
    "The scores of our attentions are no scaled dot products that a fused kernel could compute.": [
        "test_attn_implementation_composite_models",
        "test_can_set_attention_dynamically*",
        "test_eager_matches_sdpa_inference_*",
        "test_flash_attn_*",
        "test_flex_attention_with_grads",
        "test_kernels_can_load_without_crashing",
        "test_sdpa_*",
        "test_sliding_window_mask",
    ],
    "There is no self-attention in every layer; tests/test_modeling.py looks at the attention there is.": [
        "test_attention_outputs"
    ],
    "Positions are neither embedded nor rotated: a recurrent layer reads them in order.": [
        "test_model_rope_*",
        "test_resize_position_vector_embeddings",
        "test_vision_axial_rope",
    ],
    "There are no experts.": [
        "test_eager_matches_batched_and_grouped_inference_*",
        "test_moe_models_record_router_logits",
        "test_output_router_logits_from_config",
    ],
    "Layers return what they have to return; nothing is captured by hooks.": [
        "test_can_capture_specific_layers_hidden_states",
        "test_capture_outputs_decorator",
    ],
    "No weight has to stay in single precision.": ["test_keep_in_fp32_modules*"],
    "No older checkpoint has other names for the weights.": [
        "test_can_load_from_already_mapped_keys",
        "test_reverse_loading_mapping",
    ],
    "The config is not made of others.": ["test_internal_model_config_and_subconfig_are_same"],
    "There is no plan for tensor parallelism: the models are small.": [
        "test_tied_head_has_a_tp_plan_entry",
        "test_tp_plan_matches_params",
    ],
    "This is about language models alone.": [
        "Encoder*.test_causal_lm_loss_honors_shift_labels",
        "Labelling*.test_causal_lm_loss_honors_shift_labels",
        "QuestionAnswering*.test_causal_lm_loss_honors_shift_labels",
        "SequenceToSequence*.test_causal_lm_loss_honors_shift_labels",
        "Speech*.test_causal_lm_loss_honors_shift_labels",
        "TimeSeries*.test_causal_lm_loss_honors_shift_labels",
    ],
    "This is about encoder-decoders alone.": [
        "Encoder*.test_encoder_decoder_loss_no_double_shift",
        "Labelling*.test_encoder_decoder_loss_no_double_shift",
        "LanguageModel*.test_encoder_decoder_loss_no_double_shift",
        "QuestionAnswering*.test_encoder_decoder_loss_no_double_shift",
        "SpeechCtc*.test_encoder_decoder_loss_no_double_shift",
        "SpeechEncoder*.test_encoder_decoder_loss_no_double_shift",
        "TimeSeries*.test_encoder_decoder_loss_no_double_shift",
    ],
    "What reads speech and writes no text has no embeddings of tokens.": [
        f"Speech{kind}*.{test}"
        for kind in ("Ctc", "Encoder")
        for test in (
            "test_enable_input_require_grads_with_gradient_checkpointing",
            "test_inputs_embeds",
            "test_model_get_set_embeddings",
            "test_resize_tokens_embeddings",
        )
    ],
    "What reads speech takes features, for which these tests have no words.": [
        "SpeechToText*.test_inputs_embeds",
        "SpeechToText*.test_inputs_embeds_matches_input_ids",
        "SpeechToText*.test_resize_embeddings_untied",
        "SpeechToText*.test_resize_tokens_embeddings",
        "SpeechToText*.test_training_overfit",
    ],
    "The configuration of CTC makes no bare model.": ["SpeechCtc*.test_torch_save_load"],
    "A part of the loss is that of CTC, which knows nothing of the logits.": [
        "SpeechToTextLocation*.test_encoder_decoder_loss_no_double_shift"
    ],
    "A series has no tokens to embed.": [
        "TimeSeries*.test_enable_input_require_grads_with_gradient_checkpointing",
        "TimeSeries*.test_inputs_embeds",
        "TimeSeriesAutoregressive*.test_inputs_embeds_matches_input_ids",
        "TimeSeriesParallel*.test_inputs_embeds_matches_input_ids",
        "TimeSeries*.test_model_get_set_embeddings",
        "TimeSeriesClassification*.test_load_with_mismatched_shapes",
        "TimeSeries*.test_resize_tokens_embeddings",
    ],
    "The hidden states of a series are those of its patches, of which the memory is returned.": [
        "TimeSeries*.test_hidden_states_output",
        "TimeSeries*.test_retain_grad_hidden_states_attentions",
    ],
    "Our models read and write text, and have no masked language model.": [
        "test_pipeline_any_to_any*",
        "test_pipeline_audio_classification*",
        "test_pipeline_automatic_speech_recognition*",
        "test_pipeline_depth_estimation*",
        "test_pipeline_document_question_answering*",
        "test_pipeline_fill_mask*",
        "test_pipeline_image_*",
        "test_pipeline_mask_generation*",
        "test_pipeline_object_detection*",
        "test_pipeline_table_question_answering*",
        "test_pipeline_text_to_audio*",
        "test_pipeline_video_classification*",
        "test_pipeline_zero_shot_audio_classification*",
        "test_pipeline_zero_shot_image_classification*",
        "test_pipeline_zero_shot_object_detection*",
    ],
}

if not torch.cuda.is_available():
    INAPPLICABLE["This needs a GPU, or several."] = [
        "test_can_load_with_device_context_manager",
        "test_can_load_with_global_device_set",
        "test_cpu_offload",
        "test_disk_offload_*",
        "test_model_parallelism",
        "test_resize_*_with_deepspeed*",
        "test_torch_compile_for_training",
    ]
