"""
Load on `attention-rnn serve`: latency and throughput with and without batches of several requests, and whether all
answers come and are right while workers are killed and memory stays flat.

    python benchmarks/speed/serving.py runs/words-onnx texts.txt
    python benchmarks/speed/serving.py runs/words-onnx texts.txt --requests 100000 --kills 30

Clients and server share this machine, over the loopback interface. Each client sends its next request when it has the
answer to the one before. The answers are compared with those of `OnnxRunner`.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

from attention_rnn import OnnxRunner

CLIENTS = (1, 16, 64)
TIMEOUT = 60


class Load(NamedTuple):
    seconds: list[float]  # from each request to its answer
    wall: float
    wrong: int
    interrupted: int  # requests that were sent again, since the connection closed


class Server(NamedTuple):
    port: int
    pid: int

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def megabytes(self) -> list[int]:
        """The memory of each worker."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.workers()]
        return [int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) // 1024 for status in statuses]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="an exported encoder-decoder")
    parser.add_argument("texts", type=Path, help="a text on each line")
    parser.add_argument("--requests", type=int, default=2_000, help="of each line (%(default)s)")
    parser.add_argument("--kills", type=int, default=0, help="of a worker, in a single run of 16 clients (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="of the server; 2 with --kills (%(default)s)")
    options = parser.parse_args()
    texts = options.texts.read_text(encoding="utf-8").splitlines()
    expected = [result["text"] for result in OnnxRunner([options.folder])(texts)]
    cases = [(request_of(text), answer) for text, answer in zip(texts, expected, strict=True)]
    if options.kills:
        with serve(options.folder, 32, 2) as server:
            before = server.megabytes()
            load = asyncio.run(send(server, cases, options.requests, 16, options.kills))
            show("2 workers, 16 clients", load)
            memory = f"memory of the workers: {before} MB before, {server.megabytes()} MB after"
            print(f"{options.kills} kills; {load.interrupted} requests were sent again; {memory}")
        return
    for batch in (1, 32):
        with serve(options.folder, batch, options.workers) as server:
            asyncio.run(send(server, cases, len(cases), 1))
            for clients in CLIENTS:
                load = asyncio.run(send(server, cases, options.requests, clients))
                show(f"at most {batch:2} texts at once, {clients:2} clients", load)
            print(f"memory of the workers: {server.megabytes()} MB")


def show(name: str, load: Load) -> None:
    *_, last = percentiles = quantiles(load.seconds, n=100)
    print(f"{name:40} p50 {1e3 * percentiles[49]:7.1f} ms  p99 {1e3 * last:7.1f} ms  "
          f"{len(load.seconds) / load.wall:7.0f} requests/s  {len(load.seconds)} answered, {load.wrong} wrong",
          flush=True)  # fmt: skip


def request_of(text: str) -> bytes:
    body = json.dumps({"texts": [text]}).encode()
    return b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + (
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


@contextmanager
def serve(folder: str, batch: int, workers: int) -> Iterator[Server]:
    command = [sys.executable, "-m", "attention_rnn", "serve", folder, "--port", "0", "--max_batch", str(batch)]
    command += ["--workers", str(workers)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port, started = 0, 0
        for line in process.stderr:
            if found := re.search(r"http://127.0.0.1:(\d+)", line):
                port = int(found[1])
            started += "startup complete" in line
            if started == workers:
                break
        else:
            raise RuntimeError(f"the server has ended with {process.wait()}")
        try:
            yield Server(port, process.pid)
        finally:
            process.terminate()
            process.stderr.read()


async def send(server: Server, cases: list[tuple[bytes, str]], requests: int, clients: int, kills: int = 0) -> Load:
    numbers = iter(range(requests))
    seconds: list[float] = []
    counts = {"wrong": 0, "interrupted": 0}

    async def client() -> None:
        connection = None
        for number in numbers:
            request, expected = cases[number % len(cases)]
            start = time.perf_counter()
            while True:
                try:
                    connection = connection or await asyncio.open_connection("127.0.0.1", server.port)
                    answer = await asyncio.wait_for(ask(*connection, request), TIMEOUT)
                    break
                except (OSError, asyncio.IncompleteReadError):
                    connection = None
                    counts["interrupted"] += 1
                    await asyncio.sleep(0.01)
            seconds.append(time.perf_counter() - start)
            counts["wrong"] += answer != expected
        if connection is not None:
            connection[1].close()

    async def kill() -> None:
        for index in range(kills):
            while len(seconds) < (index + 1) * requests // (kills + 1):
                await asyncio.sleep(0.05)
            os.kill(server.workers()[index % 2], signal.SIGKILL)
            while len(server.workers()) < 2:
                await asyncio.sleep(0.05)

    start = time.perf_counter()
    await asyncio.gather(kill(), *(client() for _ in range(clients)))
    return Load(seconds, time.perf_counter() - start, **counts)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = re.findall(rb"content-length: (\d+)", head)
    body = json.loads(await reader.readexactly(int(length)))
    return body["results"][0]["text"] if b" 200 " in head.partition(b"\r\n")[0] else f"{head!r}"


if __name__ == "__main__":
    main()
