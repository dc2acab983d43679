"""
Memory and time of additive attention over a whole target, forward and backward: the plain formula against
`additive_scores`.

    python benchmarks/speed/attention_memory.py
    python benchmarks/speed/attention_memory.py --targets 200 --width 256

Each measurement is a process of its own, so that its peak is its own; the peak holds the libraries too, about 250 MB.
The plain formula is left out where its hidden layer does not fit the free memory.
"""

import argparse
import os
import resource
import subprocess
import sys
import time

import torch

from attention_rnn import AttentionRnnConfig
from attention_rnn.models import attention

FORMS = {"plain": sys.maxsize, "additive_scores": 0}  # `PLAIN_BELOW` that selects it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--source", type=int, default=1000, help="length (%(default)s)")
    parser.add_argument("--targets", type=int, nargs="+", default=[50, 1000], help="lengths (%(default)s)")
    parser.add_argument("--width", type=int, default=512, help="of hidden states and attention (%(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)  # measure it in this process
    options = parser.parse_args()
    if options.form:
        measure(options)
        return
    print(f"batch {options.batch}, source {options.source}, width {options.width}, {options.threads} threads, float32")
    for target in options.targets:
        for form in FORMS:
            arguments = [*sys.argv[1:], "--targets", str(target), "--form", form]  # the last one counts
            subprocess.run([sys.executable, __file__, *arguments], check=True)


def measure(options: argparse.Namespace) -> None:
    (target,) = options.targets
    line = f"target {target:5}  {options.form:15}"
    hidden_layer = 4 * options.batch * target * options.source * options.width
    if options.form == "plain" and 3 * hidden_layer > os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        print(f"{line} not run, it needs three hidden layers of {hidden_layer / 1e9:.1f} GB")
        return
    attention.PLAIN_BELOW = FORMS[options.form]
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = AttentionRnnConfig(attention_type="additive", hidden_size=options.width)
    layer = attention.AdditiveAttention(config)
    query = torch.randn(options.batch, target, config.hidden_size, requires_grad=True)
    memory = torch.randn(options.batch, options.source, config.memory_size, requires_grad=True)
    mask = torch.ones(options.batch, options.source, dtype=torch.bool)
    mask[0, options.source // 2 :] = False

    start = time.perf_counter()
    keys, values = layer.project(memory)
    alignment = memory.new_zeros(options.batch, 0, options.source)
    context, _, _ = layer(query, attention.Memory(keys, values, mask), alignment, None)
    context.square().mean().backward()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    print(f"{line} peak {peak:6.2f} GB  {seconds:6.2f} s")


if __name__ == "__main__":
    main()
