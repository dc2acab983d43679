"""Make a corpus of words and their phonemes in several languages, which espeak-ng pronounces.

    pip install espeakng-loader wordfreq
    python examples/pronunciation/make_data.py --output_dir runs/pronunciation
    attention-rnn train runs/pronunciation/words.tsv

writes `words.tsv`: the language and a word, a tab, and its phonemes between spaces, with the signs of stress:

    de vergleichen	f ɛ ɾ ɡ l ˈ aɪ ç ə n

so that one model reads all languages. A word that two languages share is there twice, as they pronounce it. The words
are the most frequent ones in wordfreq's lists, lower-cased, of letters alone; those that espeak-ng spells or reads as
several words are left out.

espeak-ng is under the GPL and the lists are under CC BY-SA 4.0; both are for you to fetch, and nothing here needs them.
"""

import argparse
import ctypes
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

try:
    import espeakng_loader
    from wordfreq import top_n_list
except ImportError as error:
    raise ImportError(f"make_data.py needs more packages ({error}): pip install espeakng-loader wordfreq") from error

VOICES = {"de": "de", "en": "en-us", "es": "es", "fr": "fr", "it": "it", "nl": "nl", "pl": "pl", "pt": "pt", "sv": "sv"}
WORD = re.compile(r"[^\W\d_]{2,}(?:['’][^\W\d_]+)?")
STRESS = re.compile(r"([ˈˌ])")


class Pronouncer:
    """espeak-ng, called within this process."""

    SYNCHRONOUS, UTF8, IPA = 2, 1, 2  # of espeak-ng's speak_lib.h
    BETWEEN_PHONEMES = ord(" ") << 8

    def __init__(self, voice: str) -> None:
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        if self.library.espeak_Initialize(self.SYNCHRONOUS, 0, data, 0) < 1:
            raise RuntimeError(f"espeak-ng does not start with the data in {data.decode()}")
        if self.library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"voice must be one that espeak-ng has, got {voice!r}")
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def __call__(self, word: str) -> str:
        """The phonemes between spaces, as espeak-ng writes them: two spaces stand between words."""
        text = ctypes.c_char_p(word.encode())
        return self.library.espeak_TextToPhonemes(
            ctypes.byref(text), self.UTF8, self.BETWEEN_PHONEMES | self.IPA
        ).decode()


def pronounce(words: Iterable[str], voice: str) -> Iterator[tuple[str, str]]:
    """Words that are read as one, each with its phonemes and signs of stress between spaces."""
    pronouncer = Pronouncer(voice)
    for word in words:
        phonemes = pronouncer(word).strip()
        if phonemes and not re.search(r"  |[(-]", phonemes):  # in brackets stands another language
            yield word, " ".join(STRESS.sub(r"\1 ", phonemes).split())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="where words.tsv goes; made if missing")
    parser.add_argument("--languages", nargs="+", choices=VOICES, default=["de", "en", "fr"], help="(de en fr)")
    parser.add_argument("--words", type=int, default=10_000, help="most frequent words of each (%(default)s)")
    options = parser.parse_args(arguments)
    if options.words < 1:
        parser.error(f"argument --words must be at least 1, got {options.words}")
    options.output_dir.mkdir(parents=True, exist_ok=True)
    with open(options.output_dir / "words.tsv", "w", encoding="utf-8") as file:
        for language in options.languages:
            words = [word for word in top_n_list(language, 2 * options.words) if WORD.fullmatch(word)]
            pairs = list(pronounce(words[: options.words], VOICES[language]))
            file.writelines(f"{language} {word}\t{phonemes}\n" for word, phonemes in pairs)
            print(f"{language}: {len(pairs):,} words, such as {pairs[-1][0]} -> {pairs[-1][1]}")


if __name__ == "__main__":
    main()
