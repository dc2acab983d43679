"""
Measure speed and write RESULTS.md.

    python benchmarks/speed/run.py
    python benchmarks/speed/run.py recurrence training generation deployment forecasting length memory --rounds 15
    python benchmarks/speed/run.py speech --threads 1

Every line is a ratio of two sides that take turns in one run. Each processor has results of its own, in results/; what
is not asked for, or was measured on another one, stays as it is.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import deployment
import forecasting
import generation
import length
import recurrence
import speech
import torch
import training

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PARTS = {
    "recurrence": "Recurrent layers, against torch.nn",
    "training": "Training steps of whole models",
    "generation": "generate()",
    "deployment": "Without torch",
    "forecasting": "Forecasting, against a GRU of torch.nn",
    "speech": "Speech, on one core; of streams, theirs is how long the audio lasts",
    "length": "Length",
    "memory": "Memory of additive attention",
}
MEASURED: dict[str, Any] = {
    "recurrence": recurrence,
    "training": training,
    "generation": generation,
    "deployment": deployment,
    "forecasting": forecasting,
    "speech": speech,
}
INTRODUCTION = """# Speed

Written by `python benchmarks/speed/run.py`. Ratios are theirs / ours, so that more is better: the median over rounds in
which both sides take turns, in one process, ± half the range between the quartiles. Goals were set beforehand.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)} (all)")
    parser.add_argument("--rounds", type=int, default=9, help="how often the sides take turns (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"argument PART: {sorted(unknown)} are not among {list(PARTS)}")
    torch.set_num_threads(options.threads)
    folder = RESULTS / re.sub(r"[^a-z0-9]+", "-", processor().lower())
    folder.mkdir(parents=True, exist_ok=True)
    for part in options.parts or PARTS:
        results = {"machine": machine(options.threads), "lines": measure(part, options.rounds)}
        (folder / f"{part}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(report(), encoding="utf-8")


def measure(part: str, rounds: int) -> list[Any]:
    if part == "memory":
        command = [sys.executable, str(HERE / "attention_memory.py")]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    if part == "length":
        points = length.measure(rounds)
        length.draw(points)
        return list(points)
    lines = []
    for line in MEASURED[part].measure(rounds):
        print(row(line), flush=True)
        lines.append(line)
    return lines


def processor() -> str:
    """What the processor is called, without trade marks."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":")[1] for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0] if names else name
    return " ".join(re.sub(r"\((R|TM)\)|Processor", "", name).split())


def machine(threads: int) -> str:
    versions = ", ".join(f"{library} {version(library)}" for library in ("torch", "transformers"))
    return f"{processor()}, {threads} threads, Python {platform.python_version()}, {versions}"


def report() -> str:
    sections = [INTRODUCTION]
    for part, title in PARTS.items():
        body = [f"## {title}\n"]
        for file in sorted(RESULTS.glob(f"*/{part}.json")):
            results = json.loads(file.read_text(encoding="utf-8"))
            body += [results["machine"] + ".\n", table(part, results["lines"])]
        if len(body) == 1:
            body.append("Not measured yet.\n")
        notes = RESULTS / f"{part}.md"
        if notes.is_file():
            body.append(notes.read_text(encoding="utf-8"))
        sections.append("\n".join(body))
    return "\n".join(sections)


def table(part: str, lines: list[Any]) -> str:
    if part == "memory":
        return "```\n" + "\n".join(lines) + "\n```\n"
    if part == "length":
        rows = [
            f"| {point['kind']} | {point['length']:,} | {1 / point['seconds']:,.0f} | {point['cache'] or ''} |"
            for point in lines
        ]
        head = ["| | length | tokens / s | values in the cache |", "|---|---|---|---|"]
        return "\n".join([*head, *rows, "", f"![Speed by length](../../docs/{length.PLOT.name})", ""])
    return "\n".join(["| | ours | theirs | ratio | goal |", "|---|---|---|---|---|", *map(row, lines), ""])


def row(line: Any) -> str:
    goal = "" if line["goal"] is None else f"{line['goal']:.1f}"
    times = " | ".join(f"{1e3 * line[side]:,.1f} ms" for side in ("ours_seconds", "theirs_seconds"))
    return f"| {line['name']} | {times} | {line['ratio']:.2f} ± {line['spread'] / 2:.2f} | {goal} |"


if __name__ == "__main__":
    main()
