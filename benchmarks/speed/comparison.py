"""How two sides are compared: in turns within one run, since a machine is never the same twice."""

import statistics
import time
from collections.abc import Callable
from typing import Any, TypedDict


class Line(TypedDict):
    """One line of RESULTS.md: `ratio` is the median over the rounds of theirs / ours, `spread` its quartiles' range."""

    name: str
    ours_seconds: float
    theirs_seconds: float
    ratio: float
    spread: float
    goal: float | None


def compare(
    name: str, ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int, goal: float | None = None
) -> Line:
    """Let both sides take turns, after one call each that does not count."""
    seconds: list[list[float]] = [[], []]
    ours()
    theirs()
    for _ in range(rounds):
        for side, times in zip((ours, theirs), seconds, strict=True):
            time.sleep(0.25)  # until the threads that the other side has left waiting go to sleep
            start = time.perf_counter()
            side()
            times.append(time.perf_counter() - start)
    ratios = [their_time / our_time for our_time, their_time in zip(*seconds, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Line(
        name=name,
        ours_seconds=statistics.median(seconds[0]),
        theirs_seconds=statistics.median(seconds[1]),
        ratio=middle,
        spread=high - low,
        goal=goal,
    )
