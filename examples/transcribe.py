r"""Write what is said in recordings, with a model that `run_speech_seq2seq.py` has trained, or any other.

    python examples/transcribe.py runs/digits kitchen.wav hall.flac
    python examples/transcribe.py runs/digits --timestamps word lecture.mp3
    python examples/transcribe.py runs/digits --jsonl *.wav > transcripts.jsonl
    python examples/transcribe.py runs/live --microphone

Recordings may have any sampling rate, and be long: beyond --chunk_seconds they are read in chunks that overlap. A model
that streams (`bidirectional=False,causal=True`, see docs/speech.md) also writes while somebody speaks: at a microphone,
or as it would there, with --stream. Needs `pip install 'attention-rnn[audio]'`, and sounddevice for a microphone.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import attention_rnn  # noqa: F401, makes the pipelines known
from attention_rnn import AttentionRnnSpeechProcessor
from attention_rnn.checkpoints import open_pipeline
from attention_rnn.speech.audio import read_audio

STREAM_SECONDS = 0.32  # how much of a stream is read at once
ENDPOINT_SECONDS = 0.8  # a pause that ends a line


def main(argv: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None) -> list[dict[str, Any]]:
    if parser is None:
        parser = argparse.ArgumentParser(
            description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
    parser.add_argument("model", help="folder or name of a model")
    parser.add_argument("recordings", nargs="*", help="files of audio")
    parser.add_argument("--microphone", action="store_true", help="listen until Ctrl-C, and write what is said")
    parser.add_argument("--stream", action="store_true", help="read recordings piece by piece, as from a microphone")
    parser.add_argument("--timestamps", choices=["word", "char"], help="also write when each word, or token, was said")
    parser.add_argument("--jsonl", action="store_true", help="one JSON object a recording")
    parser.add_argument("--num_beams", type=int, default=4, help="beams of the search, without a stream (%(default)s)")
    parser.add_argument("--chunk_seconds", type=float, default=20.0, help="longest audio to read at once (%(default)s)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    options = parser.parse_intermixed_args(argv)
    if options.num_beams < 1 or options.chunk_seconds < 1:
        parser.error("--num_beams and --chunk_seconds must be at least 1")
    if options.microphone == bool(options.recordings):
        parser.error("name recordings, or give --microphone")
    if options.microphone and (options.jsonl or options.timestamps):
        parser.error("--jsonl and --timestamps are for recordings")
    for recording in options.recordings:  # before a model is opened
        if not Path(recording).is_file():
            raise FileNotFoundError(f"there is no recording {recording}")
    transcribe = open_pipeline(
        "automatic-speech-recognition", options.model, trust_remote_code=options.trust_remote_code or None
    )
    if options.microphone:
        return [follow(transcribe, microphone(transcribe.feature_extractor.sampling_rate), shows_text=True)]
    results = []
    for recording in options.recordings:
        results.append({"audio": recording, **transcript(transcribe, recording, options)})
        print(json.dumps(results[-1], ensure_ascii=False) if options.jsonl else described(results[-1]), flush=True)
    return results


def transcript(transcribe: Any, recording: str, options: argparse.Namespace) -> dict[str, Any]:
    """What is said in a recording: its text, and if they are asked for `chunks` with their seconds."""
    rate = transcribe.feature_extractor.sampling_rate
    samples = read_audio(recording, rate)
    if options.stream:
        return follow(transcribe, pieces(samples, rate), options.timestamps)
    settings: dict[str, Any] = {"num_beams": options.num_beams, "return_timestamps": options.timestamps}
    if len(samples) > options.chunk_seconds * rate:
        settings["chunk_length_s"] = options.chunk_seconds
    return transcribe(samples, **settings)


def follow(
    transcribe: Any, chunks: Iterable[np.ndarray], timestamps: str | None = None, shows_text: bool = False
) -> dict[str, Any]:
    """
    Write what is said in a stream, to its end or to Ctrl-C.

    Args:
        chunks: samples at the rate of the model, (samples,) each.
        timestamps: `"word"` or `"char"` for `chunks`, of which a stream knows when each begins.
        shows_text: whether to print the text as it comes, a line for what is said between two pauses.

    Returns:
        `text`, and `real_time_factor`, the time of computing by that of the audio.

    Raises:
        ValueError: the model does not stream.
    """
    model = transcribe.model
    if not hasattr(model, "begin_stream"):
        raise ValueError(f"a stream needs a model of attention_rnn, got one of {model.config.model_type}")
    extractor = transcribe.feature_extractor
    processor = AttentionRnnSpeechProcessor(extractor, transcribe.tokenizer)
    features, state = extractor.begin_stream(), model.begin_stream()
    tokens: list[int] = []
    starts: list[float] = []
    line = shown = 0  # where the last line begins in the tokens, and how much of its text has been printed
    samples, seconds = 0, 0.0

    def hear(chunk: np.ndarray, is_last: bool = False) -> None:
        nonlocal features, state, line, shown, samples, seconds
        start = time.perf_counter()
        frames, features = extractor.stream(chunk, features)
        said, times, state = model.stream_step(frames, state, ENDPOINT_SECONDS, is_last)
        seconds += time.perf_counter() - start
        samples += len(chunk)
        for token, begins in zip(said, times, strict=True):
            tokens.append(token)
            starts.append(begins)
            if shows_text:
                text = transcribe.tokenizer.decode(tokens[line:], skip_special_tokens=True)
                is_end = token in transcribe.tokenizer.all_special_ids
                print(text[shown:], end="\n" if is_end else "", flush=True)
                line, shown = (len(tokens), 0) if is_end else (line, len(text))

    try:
        for chunk in chunks:
            hear(chunk)
    except KeyboardInterrupt:
        pass
    hear(np.zeros(0, np.float32), is_last=True)
    if shown:
        print()
    result: dict[str, Any] = {"text": transcribe.tokenizer.decode(tokens, skip_special_tokens=True).strip()}
    if timestamps is not None:
        times = {"start": starts, "end": starts, "confidence": [0.0] * len(starts)}
        units = processor.words(tokens, times) if timestamps == "word" else processor.characters(tokens, times)
        result["chunks"] = [{"text": unit["text"], "timestamp": (round(unit["start"], 3), None)} for unit in units]
    duration = samples / extractor.sampling_rate
    return {**result, "real_time_factor": round(seconds / duration, 4) if duration else 0.0}


def pieces(samples: np.ndarray, sampling_rate: int) -> Iterator[np.ndarray]:
    """A recording, piece by piece."""
    yield from np.split(samples, range(0, len(samples), int(STREAM_SECONDS * sampling_rate))[1:])


def microphone(sampling_rate: int) -> Iterator[np.ndarray]:
    """
    What the microphone hears, piece by piece, without end.

    Raises:
        ImportError: sounddevice is missing, or the library that it calls.
        OSError: there is no microphone, or it has no such sampling rate.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise ImportError(f"--microphone needs sounddevice ({error}): pip install sounddevice") from error
    size = int(STREAM_SECONDS * sampling_rate)
    try:
        with sounddevice.InputStream(samplerate=sampling_rate, channels=1, dtype="float32", blocksize=size) as stream:
            print("Listening; Ctrl-C ends.", flush=True)
            while True:
                samples, _ = stream.read(size)
                yield samples[:, 0]
    except sounddevice.PortAudioError as error:
        raise OSError(f"the microphone cannot be read at {sampling_rate:,} samples per second: {error}") from error


def described(result: dict[str, Any]) -> str:
    lines = [f"{result['audio']}: {result['text']}"]
    for chunk in result.get("chunks", ()):
        start, end = chunk["timestamp"]
        times = f"{start:8.2f} " + (" " * 8 if end is None else f"{end:8.2f}")
        sure = f" {chunk['confidence']:.2f}" if "confidence" in chunk else ""
        lines.append(f"  {times}  {chunk['text']:<20}{sure}".rstrip())
    if "real_time_factor" in result:
        lines.append(f"  computed in {result['real_time_factor']:.4f} of its duration")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
