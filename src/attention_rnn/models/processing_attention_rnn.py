"""What makes features of audio and tokens of its text: a feature extractor and a tokenizer in one."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import ProcessorMixin


class AttentionRnnSpeechProcessor(ProcessorMixin):
    """
    A feature extractor and a tokenizer in one, which save and load together.

    Args:
        feature_extractor ([`AttentionRnnFeatureExtractor`]): makes features of audio.
        tokenizer ([`PreTrainedTokenizerFast`]): of characters or subwords, see `train_tokenizer`.

    Example:
        >>> processor = AttentionRnnSpeechProcessor(AttentionRnnFeatureExtractor(), tokenizer)
        >>> batch = processor(audio=[waveform], text=["seven two"], sampling_rate=16000, return_tensors="pt")
        >>> batch.input_features.shape, batch.labels.shape  # (1, frames, mels), (1, tokens)
    """

    def __init__(self, feature_extractor: Any, tokenizer: Any) -> None:
        super().__init__(feature_extractor, tokenizer)

    def __call__(
        self,
        audio: Any = None,
        text: str | Sequence[str] | None = None,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Args:
            audio: one recording or several, see `AttentionRnnFeatureExtractor`.
            text: what is said in each.
            sampling_rate: that of the recordings.
            padding: of audio and text, see transformers.
            kwargs: passed to the feature extractor.

        Returns:
            `input_features` (batch, frames, mels) and `attention_mask` (batch, frames) of `audio`, and `labels` of
            `text`, (batch, tokens), -100 at padding if they are tensors. Of `text` alone, what the tokenizer returns.

        Raises:
            ValueError: neither audio nor text is given; see also the feature extractor.
        """
        if audio is None and text is None:
            raise ValueError("Give `audio`, `text` or both.")
        if audio is None:
            return self.tokenizer(text, padding=padding, return_tensors=return_tensors)
        inputs = self.feature_extractor(
            audio, sampling_rate=sampling_rate, padding=padding, return_tensors=return_tensors, **kwargs
        )
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            encoded = self.tokenizer(texts, padding=padding, return_tensors=return_tensors)
            labels = encoded["input_ids"]
            if return_tensors == "pt":
                labels = labels.masked_fill(encoded["attention_mask"] == 0, -100)
            inputs["labels"] = labels
        return inputs

    def words(self, tokens: Sequence[int], times: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
        """
        The words of a transcript and when they were said.

        Args:
            tokens: ids, (tokens,).
            times: `start`, `end` (in seconds) and `confidence` of each, as `token_times` of a model gives them.

        Returns:
            Of each word `text`, `start`, `end` and `confidence`, the lowest of its tokens.
        """
        words: list[dict[str, Any]] = []
        ends_word = True
        for piece in self.characters(tokens, times):
            text = piece["text"]
            if ends_word or text[:1].isspace():
                words.append({**piece, "text": ""})
            word = words[-1]
            word["text"] += text
            if text.strip():
                if not word["text"][: -len(text)].strip():
                    word["start"] = piece["start"]
                word["end"] = piece["end"]
                word["confidence"] = min(word["confidence"], piece["confidence"])
            ends_word = text[-1:].isspace()
        return [{**word, "text": word["text"].strip()} for word in words if word["text"].strip()]

    def characters(self, tokens: Sequence[int], times: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
        """As `words`, of each token, special tokens left out; with a tokenizer of characters these are characters."""
        special = set(self.tokenizer.all_special_ids)
        pieces: list[dict[str, Any]] = []
        kept: list[int] = []
        text = ""
        for position, token in enumerate(tokens):
            if int(token) in special:
                continue
            # the text of a token may depend on those before it, as the spaces of subwords do
            kept.append(int(token))
            longer = self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            piece = {name: float(values[position]) for name, values in times.items()}
            pieces.append({"text": longer[len(text) :], **piece})
            text = longer
        return pieces


AttentionRnnSpeechProcessor.register_for_auto_class("AutoProcessor")

__all__ = ["AttentionRnnSpeechProcessor"]
