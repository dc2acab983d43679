r"""Write what is said in recordings, with a model that `run_speech_seq2seq.py` has trained, or any other.

    python examples/transcribe.py runs/digits kitchen.wav hall.flac
    python examples/transcribe.py runs/digits --timestamps word lecture.mp3
    python examples/transcribe.py runs/digits --jsonl *.wav > transcripts.jsonl

Recordings may have any sampling rate, and be long: beyond --chunk_seconds they are read in chunks that overlap. Needs
`pip install 'attention-rnn[audio]'`.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import soundfile
from transformers import pipeline

import attention_rnn  # noqa: F401, makes the pipelines known


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or name of a model")
    parser.add_argument("recordings", nargs="+", help="files of audio")
    parser.add_argument("--timestamps", choices=["word", "char"], help="also write when each word, or token, was said")
    parser.add_argument("--jsonl", action="store_true", help="one JSON object a recording")
    parser.add_argument("--num_beams", type=int, default=4, help="beams of the search (%(default)s)")
    parser.add_argument("--chunk_seconds", type=float, default=20.0, help="longest audio to read at once (%(default)s)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    options = parser.parse_args(argv)
    if options.num_beams < 1 or options.chunk_seconds < 1:
        parser.error("--num_beams and --chunk_seconds must be at least 1")
    transcribe = pipeline(
        "automatic-speech-recognition", options.model, trust_remote_code=options.trust_remote_code or None
    )
    results = []
    for recording in options.recordings:
        settings: dict[str, Any] = {"num_beams": options.num_beams, "return_timestamps": options.timestamps}
        if duration(recording) > options.chunk_seconds:
            settings["chunk_length_s"] = options.chunk_seconds
        results.append({"audio": recording, **transcribe(recording, **settings)})
        print(json.dumps(results[-1], ensure_ascii=False) if options.jsonl else described(results[-1]), flush=True)
    return results


def duration(recording: str) -> float:
    """In seconds; 0 of what cannot be read, which the pipeline tells better."""
    try:
        return soundfile.info(recording).duration
    except (soundfile.LibsndfileError, RuntimeError):
        return 0.0


def described(result: dict[str, Any]) -> str:
    lines = [f"{result['audio']}: {result['text']}"]
    for chunk in result.get("chunks", ()):
        start, end = chunk["timestamp"]
        lines.append(f"  {start:8.2f} {end:8.2f}  {chunk['text']:<20} {chunk.get('confidence', float('nan')):.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
