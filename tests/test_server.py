"""The server: batches of several requests, limits, and errors that say what is wrong."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from attention_rnn import cli  # noqa: E402
from attention_rnn.server import Limits, create_app  # noqa: E402


class Runner:
    """In the place of a model: says each text backwards, once it may."""

    task = "text2text-generation"

    def __init__(self):
        self.may_run = threading.Event()
        self.may_run.set()
        self.batches = []

    def limit(self, num_beams, new_tokens):
        self.limits = num_beams, new_tokens

    def __call__(self, texts, **options):
        assert self.may_run.wait(10)
        self.batches.append(list(texts))
        if any(text == "fault" for text in texts):
            raise ValueError("a text must not be a fault")
        return [{"text": text[::-1], **options} for text in texts]


def serve(talk, runner=None, **limits):
    """What `talk`, a function of a client, returns."""
    app = create_app(runner or Runner(), Limits(**limits))

    async def run():
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            return await talk(client)

    return asyncio.run(run())


def post(texts, path="/generate", **options):
    async def talk(client):
        return await client.post(path, json={"texts": texts, **options})

    return talk


def test_texts_and_options_reach_the_model():
    response = serve(post(["abc", "de"], num_beams=3))
    assert response.json() == {"results": [{"text": "cba", "num_beams": 3}, {"text": "ed", "num_beams": 3}]}


async def occupy(client, runner, request):
    """A request that the model is computing when this returns."""
    task = asyncio.create_task(client.post("/generate", json=request))
    while not runner.started:
        await asyncio.sleep(0.001)
    return task


async def many(client, runner, requests):
    """The answers to requests of which the first one occupies the model until all have come."""
    runner.may_run.clear()
    tasks = [await occupy(client, runner, requests[0])]
    tasks += [asyncio.create_task(client.post("/generate", json=request)) for request in requests[1:]]
    texts = sum(len(request["texts"]) for request in requests[1:])
    while client._transport.app.state.batches.size < texts:
        await asyncio.sleep(0.001)
    runner.may_run.set()
    return [await task for task in tasks]


class CountingRunner(Runner):
    started = 0

    def __call__(self, texts, **options):
        self.started += 1
        return super().__call__(texts, **options)


def test_requests_that_come_meanwhile_are_one_batch_for_each_set_of_options():
    runner = CountingRunner()
    requests = [{"texts": [f"text {index}"], "num_beams": 1 + index % 2} for index in range(9)]
    responses = serve(lambda client: many(client, runner, requests), runner)
    assert [response.json()["results"][0]["text"] for response in responses] == [
        request["texts"][0][::-1] for request in requests
    ]
    assert Counter(map(len, runner.batches)) == {1: 1, 4: 2}


def test_a_batch_is_no_larger_than_the_limit():
    runner = CountingRunner()
    requests = [{"texts": [f"text {index}"] * 2} for index in range(7)]
    serve(lambda client: many(client, runner, requests), runner, batch=5, queue=99)
    assert max(map(len, runner.batches)) == 4


def test_a_faulty_request_spoils_no_other():
    runner = CountingRunner()
    requests = [{"texts": [text]} for text in ("first", "fault", "fine")]
    responses = serve(lambda client: many(client, runner, requests), runner)
    assert [response.status_code for response in responses] == [200, 422, 200]
    assert responses[1].json() == {"detail": "a text must not be a fault"}


def test_what_nobody_waits_for_any_more_is_not_computed():
    runner = CountingRunner()

    async def talk(client):
        runner.may_run.clear()
        first = await occupy(client, runner, {"texts": ["first"]})
        batches = client._transport.app.state.batches
        given_up, kept = (asyncio.create_task(batches.add(["fault", name], {})) for name in ("a", "b"))
        while batches.size < 4:
            await asyncio.sleep(0.001)
        batches.on_batch = lambda size: given_up.cancel()  # once the two are in one batch
        runner.may_run.set()
        await first
        with pytest.raises(ValueError, match="a text must not be a fault"):
            await kept

    serve(talk, runner)
    assert ["fault", "a"] not in runner.batches


def test_what_is_not_asked_for_keeps_to_the_limits_too():
    runner = Runner()
    serve(post(["a"]), runner, beams=3, new_tokens=7)
    assert runner.limits == (3, 7)


@pytest.mark.parametrize(
    "flags",
    [
        ["--max_texts", "-1"],
        ["--max_batch", "0"],
        ["--max_beams", "0"],
        ["--max_body", "-5"],
        ["--max_seconds", "-1"],
        ["--max_seconds", "nan"],
        ["--max_seconds", "inf"],
        ["--port", "99999"],
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(flags):
    with pytest.raises(SystemExit, match=f"argument {flags[0]}: {flags[1]} is "):
        cli.main(["serve", "nothing", *flags])


def test_what_the_queue_has_no_room_for_is_refused():
    async def talk(client):
        runner.may_run.clear()
        tasks = [await occupy(client, runner, {"texts": ["a", "b"]})]
        tasks.append(asyncio.create_task(client.post("/generate", json={"texts": ["a", "b"]})))
        while client._transport.app.state.batches.size < 2:
            await asyncio.sleep(0.001)
        refused = await client.post("/generate", json={"texts": ["c"]})
        runner.may_run.set()
        return refused, [await task for task in tasks]

    runner = CountingRunner()
    refused, others = serve(talk, runner, queue=2)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert [response.status_code for response in others] == [200, 200]


def test_what_takes_too_long_is_given_up():
    async def talk(client):
        runner.may_run.clear()
        response = await client.post("/generate", json={"texts": ["a"]})
        runner.may_run.set()
        return response

    runner = Runner()
    response = serve(talk, runner, seconds=0.05)
    assert (response.status_code, response.json()["detail"]) == (504, "It has taken more than 0.05 seconds.")


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"no json", 422, "JSON"),
        (b"[]", 422, "dictionary"),
        (b"{}", 422, "required"),
        (b'{"texts": []}', 422, "at least 1"),
        (b'{"texts": [""]}', 422, "at least 1"),
        (b'{"texts": [3]}', 422, "string"),
        (b'{"texts": ["a"], "num_beams": 99}', 422, "less than or equal to 16"),
        (b'{"texts": ["a"], "length_penalty": NaN}', 422, "finite"),
        (b'{"texts": ["a"], "length_penalty": true}', 422, "should be a number"),
        (b'{"texts": ["a"], "num_beams": "3"}', 422, "should be a number"),
        (b'{"texts": ["a"], "num_beams": 3.5}', 422, "valid integer"),
        (b"\xf9o\xab", 400, "parsing the body"),
        (b'{"texts": ["a"], "path": "/etc/passwd"}', 422, "not permitted"),
        (b'{"texts": ["\\ud800"]}', 422, "unicode"),
        (b'{"texts": ["a"], "\\ud800": 1}', 422, "unicode"),
        (b'{"texts": ["aaaaaaaaaaa"]}', 422, "at most 10"),
        (b'{"texts": ["a", "a", "a", "a"]}', 422, "at most 3"),
        (b'{"texts": ["' + b"a" * 10_000_000 + b'"]}', 413, "at most 200 bytes"),
    ],
)
def test_a_bad_request_is_refused_and_not_sent_back(content, status, message):
    async def talk(client):
        return await client.post("/generate", content=content, headers={"Content-Type": "application/json"})

    response = serve(talk, characters=10, texts=3, body=200)
    assert response.status_code == status
    assert message in response.text
    assert '"input"' not in response.text
    assert len(response.text) < 300


def test_a_whole_number_may_be_written_with_a_point():
    assert serve(post(["a"], num_beams=3.0)).json() == {"results": [{"text": "a", "num_beams": 3}]}


def test_control_characters_are_text():
    assert serve(post(["a\x00\x1b"])).json() == {"results": [{"text": "\x1b\x00a"}]}


@pytest.mark.parametrize("path", ["/classify", "/../../etc/passwd", "/generate/x"])
def test_there_is_no_other_path(path):
    assert serve(post(["a"], path)).status_code == 404


def test_health_metrics_and_description():
    async def talk(client):
        await client.post("/generate", json={"texts": ["abc", "de"]})
        return [await client.get(path) for path in ("/health", "/metrics", "/openapi.json")]

    health, metrics, description = serve(talk)
    assert health.json() == {"status": "ok", "task": "text2text-generation"}
    assert 'requests_total{path="/generate",status="200"} 1.0' in metrics.text
    assert "batch_texts_sum 2.0" in metrics.text
    assert "num_beams" in description.json()["components"]["schemas"]["Texts"]["properties"]


def test_a_question_is_asked_with_its_context():
    class Reader(Runner):
        task = "question-answering"

        def __call__(self, examples):
            return [{"answer": example["context"][:3]} for example in examples]

    async def talk(client):
        return await client.post("/answer", json={"questions": [{"question": "who?", "context": "Ada wrote it."}]})

    assert serve(talk, Reader()).json() == {"results": [{"answer": "Ada"}]}


def test_what_waits_is_answered_before_the_server_stops():
    runner = CountingRunner()
    app = create_app(runner, Limits())

    async def run():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            async with app.router.lifespan_context(app):
                runner.may_run.clear()
                tasks = [await occupy(client, runner, {"texts": ["first"]})]
                tasks += [asyncio.create_task(client.post("/generate", json={"texts": [str(i)]})) for i in range(2)]
                while app.state.batches.size < 2:
                    await asyncio.sleep(0.001)
                runner.may_run.set()
            return [await task for task in tasks]

    assert [response.status_code for response in asyncio.run(run())] == [200, 200, 200]


def test_a_folder_that_cannot_be_opened_is_refused_at_once(tmp_path):
    (tmp_path / "config.json").write_text('{"format": "attention-rnn-onnx"}')
    with pytest.raises(SystemExit, match=r"attention-rnn serve: .*config.json is damaged"):
        cli.main(["serve", str(tmp_path), "--port", "0"])


@pytest.fixture(scope="module")
def live(exported, tmp_path_factory):
    """A server of two workers: its folder, its address, and its process."""
    pytest.importorskip("onnxscript")
    folder = shutil.copytree(exported("parallel").folder, tmp_path_factory.mktemp("live") / "model")
    log = folder.parent / "log"
    command = [sys.executable, "-m", "attention_rnn", "serve", str(folder), "--port", "0", "--workers", "2"]
    with open(log, "w") as file, subprocess.Popen(command, stderr=file, start_new_session=True) as process:
        try:
            port = wait_for(lambda: re.search(r"http://127.0.0.1:(\d+)", log.read_text()))[1]
            wait_for(lambda: log.read_text().count("startup complete") == 2)
            yield SimpleNamespace(folder=folder, url=f"http://127.0.0.1:{port}", process=process, log=log)
        finally:
            process.terminate()
            assert process.wait(20) == 0


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def workers(live):
    children = Path(f"/proc/{live.process.pid}/task/{live.process.pid}/children").read_text().split()
    return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the workers are found there")


@needs_proc
def test_a_worker_that_dies_is_replaced(live):
    before = workers(live)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(workers(live)) == 2 and before[0] not in workers(live))
    assert httpx.post(f"{live.url}/generate", json={"texts": ["abc"]}, timeout=30).status_code == 200


@needs_proc
def test_a_worker_that_dies_in_its_sleep_is_replaced_at_once(live):
    before = workers(live)
    os.kill(before[0], signal.SIGSTOP)
    time.sleep(1.2)  # the server looks twice a second whether they live
    os.kill(before[0], signal.SIGKILL)
    started = time.monotonic()
    wait_for(lambda: len(workers(live)) == 2 and before[0] not in workers(live))
    assert time.monotonic() - started < 30


@needs_proc
def test_a_worker_that_dies_is_replaced_by_one_of_the_same_model(live):
    away = live.folder.rename(live.folder.with_name("away"))
    try:
        before = workers(live)
        os.kill(before[0], signal.SIGKILL)
        started = live.log.read_text().count("startup complete")
        wait_for(lambda: len(workers(live)) == 2 and before[0] not in workers(live))
        wait_for(lambda: live.log.read_text().count("startup complete") > started)
        assert "Traceback" not in live.log.read_text()
    finally:
        away.rename(live.folder)


@needs_proc
def test_on_hangup_the_folder_is_opened_anew_and_no_request_is_lost(live):
    def generate():
        return httpx.post(f"{live.url}/generate", json={"texts": ["abc"]}, timeout=30).json()["results"][0]["token_ids"]

    before, ids = workers(live), generate()
    config = json.loads((live.folder / "config.json").read_text())
    config["generation"]["max_new_tokens"] = 3
    (live.folder / "config.json").write_text(json.dumps(config))
    assert generate() == ids
    os.kill(live.process.pid, signal.SIGHUP)
    answers = []
    wait_for(lambda: answers.append(generate()) or not set(before) & set(workers(live)))
    assert {len(answer) for answer in [*answers, generate()]} == {len(ids), 3}


@needs_proc
def test_on_hangup_a_folder_that_is_damaged_changes_nothing(live):
    before, kept = workers(live), (live.folder / "step.onnx").read_bytes()
    (live.folder / "step.onnx").write_bytes(b"no graph")
    os.kill(live.process.pid, signal.SIGHUP)
    wait_for(lambda: "The model stays what it is" in live.log.read_text())
    assert workers(live) == before
    assert httpx.post(f"{live.url}/generate", json={"texts": ["abc"]}, timeout=30).status_code == 200
    (live.folder / "step.onnx").write_bytes(kept)


def test_a_body_does_not_wait_for_the_acknowledgement_of_its_head(live):
    def seconds(client):
        start = time.perf_counter()
        client.get(f"{live.url}/health")
        return time.perf_counter() - start

    with httpx.Client(timeout=30) as client:  # which keeps its connection
        assert min(seconds(client) for _ in range(20)) < 0.04  # which is how long Linux waits


def test_the_metrics_are_those_of_all_workers(live):
    def total():
        found = re.search(
            r'requests_total{path="/health",status="200"} (\d+)', httpx.get(f"{live.url}/metrics", timeout=30).text
        )
        return int(found[1]) if found else 0

    before = total()
    for _ in range(8):
        httpx.get(f"{live.url}/health", timeout=30)
    assert [total() for _ in range(4)] == [before + 8] * 4
