"""What a server allows; by itself, so that the help of the command needs nothing else."""

from typing import NamedTuple


class Limits(NamedTuple):
    """What a server does not exceed."""

    texts: int = 64  # of a request
    characters: int = 10_000  # of a text
    body: int = 2**20  # bytes of a request
    new_tokens: int = 512
    beams: int = 16
    batch: int = 32  # texts that are computed at once
    queue: int = 256  # texts that wait; beyond them the answer is 429
    seconds: float = 30.0  # after which the answer is 504
