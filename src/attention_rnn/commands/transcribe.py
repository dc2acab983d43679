"""`attention-rnn transcribe`: what is said in recordings, or at a microphone."""

from collections.abc import Sequence

from . import CommandParser

_DESCRIPTION = """Write what is said in recordings, or at a microphone.

  attention-rnn transcribe runs/digits kitchen.wav hall.flac
  attention-rnn transcribe runs/digits --timestamps word lecture.mp3
  attention-rnn transcribe runs/live --microphone

examples/transcribe.py does it. A model that streams is needed for --microphone and --stream."""


def main(arguments: Sequence[str]) -> None:
    from ..examples.transcribe import main as transcribe

    transcribe(arguments, CommandParser("transcribe", _DESCRIPTION))
