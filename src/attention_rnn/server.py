"""
A model behind a port.

    attention-rnn serve runs/g2p --port 8000
    curl localhost:8000/generate -H 'Content-Type: application/json' -d '{"texts": ["hello"], "num_beams": 5}'

What is served is a folder that `export_onnx` has written; a checkpoint is exported first. Each worker is a process that
opens it; one that dies is replaced, and on SIGHUP all are, by ones that open it anew. The task of the model decides
between `POST /generate`, `/classify`, `/tag` and `/answer`; `/docs` describes it, `/health` says that it is there, and
`/metrics` what it has done, as Prometheus reads it.

Requests that come while a batch is computed are the next batch, so that one alone never waits for others.
"""

import asyncio
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Annotated, Any, NamedTuple

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from .limits import Limits
from .onnx import Weights
from .onnx.decoding import ANSWERING, CAUSAL, CLASSIFICATION, LABELLING, SEQ2SEQ, is_exported
from .onnx.runner import OnnxRunner, find_folder

logger = logging.getLogger("uvicorn.error")

PATHS = {
    SEQ2SEQ: "/generate",
    CAUSAL: "/generate",
    CLASSIFICATION: "/classify",
    LABELLING: "/tag",
    ANSWERING: "/answer",
}


_SECONDS_TO_START = 60  # of a new worker on a busy machine; if it takes longer, the one before goes on


class _Waiting(NamedTuple):
    inputs: list[Any]
    options: dict[str, Any]
    answer: asyncio.Future


class Batches:
    """
    Texts of several requests together, one batch at a time in a thread of its own.

    Args:
        run: list of inputs, options -> list of results.
        limits: `batch` and `queue` of them.
        on_batch: told the size of each batch.
    """

    def __init__(self, run: Callable[..., list[Any]], limits: Limits, on_batch: Callable[[int], Any]) -> None:
        self.run, self.limits, self.on_batch = run, limits, on_batch
        self.waiting: list[_Waiting] = []
        self.is_idle = True
        self.arrived = asyncio.Event()
        self.thread = ThreadPoolExecutor(1)

    @property
    def size(self) -> int:
        """How many texts wait."""
        return sum(len(request.inputs) for request in self.waiting)

    async def add(self, inputs: list[Any], options: dict[str, Any]) -> list[Any]:
        """
        The results of some inputs.

        Raises:
            OverflowError: too many wait already.
            TimeoutError: it takes too long.
        """
        if self.waiting and self.size + len(inputs) > self.limits.queue:
            raise OverflowError
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append(_Waiting(inputs, options, answer))
        self.arrived.set()
        return await asyncio.wait_for(answer, self.limits.seconds)

    async def work(self) -> None:
        """Compute what comes, until cancelled."""
        while True:
            await self.arrived.wait()
            self.is_idle = False
            while batch := self._next():
                await self._compute(batch)
            self.is_idle = True
            self.arrived.clear()

    def _next(self) -> list[_Waiting]:
        """The request that has waited longest, and others with the same options."""
        self.waiting = [request for request in self.waiting if not request.answer.done()]  # whose client still waits
        batch: list[_Waiting] = []
        for request in self.waiting:
            size = sum(len(other.inputs) for other in batch) + len(request.inputs)
            if not batch or (request.options == batch[0].options and size <= self.limits.batch):
                batch.append(request)
        self.waiting = [request for request in self.waiting if not any(request is other for other in batch)]
        return batch

    async def _compute(self, batch: list[_Waiting]) -> None:
        inputs = [item for request in batch for item in request.inputs]
        self.on_batch(len(inputs))
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self.thread, lambda: self.run(inputs, **batch[0].options))
        except Exception as error:
            if len(batch) > 1:  # one of them is to blame
                for request in batch:
                    if not request.answer.done():
                        await self._compute([request])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        for request in batch:
            own, results = results[: len(request.inputs)], results[len(request.inputs) :]
            if not request.answer.done():
                request.answer.set_result(own)


class _LimitBody:
    """Refuses a request with a longer body, before it is read."""

    def __init__(self, app: Any, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= self.limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                await Response(status_code=499)(scope, receive, send)  # for the metrics: nobody reads it
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > self.limit:
            refusal = JSONResponse({"detail": f"The body must have at most {self.limit} bytes."}, status_code=413)
            await refusal(scope, receive, send)
            return
        is_read = False

        async def receive_again() -> Any:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, receive_again, send)


def create_app(runner: OnnxRunner, limits: Limits = Limits()) -> FastAPI:  # noqa: B008 (it is never changed)
    """
    The application of a model, for any ASGI server.

    Args:
        runner: runs the model.
        limits: what is refused, and what is not asked for keeps to.
    """
    runner.limit(limits.beams, limits.new_tokens)
    registry = CollectorRegistry()
    shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # by several workers
    requests = Counter("requests", "Answered requests.", ["path", "status"], registry=registry)
    seconds = Histogram("request_seconds", "Time to the answer.", ["path"], registry=registry)
    sizes = Histogram("batch_texts", "Texts computed at once.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry)
    waiting = Gauge(
        "waiting_requests", "Requests that wait or are computed.", registry=registry, multiprocess_mode="livesum"
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.batches = batches = Batches(runner, limits, sizes.observe)
        worker = asyncio.create_task(batches.work())
        yield
        while batches.waiting or not batches.is_idle:  # the server has stopped to listen
            await asyncio.sleep(0.01)
        worker.cancel()
        batches.thread.shutdown()

    app = FastAPI(title="attention-rnn", description=f"A model for {runner.task}.", lifespan=lifespan)
    app.add_middleware(_LimitBody, limit=limits.body)
    path = PATHS[runner.task]
    request_type: Any = _request_type(runner.task, limits)

    @app.middleware("http")
    async def measure(request: Request, call_next: Any) -> Response:
        start = time.perf_counter()
        response = await call_next(request)
        known = request.url.path if request.url.path in (path, "/health") else "other"
        requests.labels(known, response.status_code).inc()
        seconds.labels(known).observe(time.perf_counter() - start)
        return response

    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> Response:
        # what was sent is not sent back: it may be long, and need not be text
        faults = [{"loc": [str(part)[:100] for part in f["loc"]], "msg": f["msg"]} for f in error.errors()[:10]]
        return Response(json.dumps({"detail": faults}), status_code=422, media_type="application/json")

    @app.post(path, responses={status: {} for status in (400, 413, 422, 429, 504)})
    async def compute(body: request_type) -> dict[str, list[Any]]:
        options = body.model_dump(exclude_none=True)
        inputs = options.pop("texts", None) or options.pop("questions")
        try:
            with waiting.track_inprogress():
                results = await app.state.batches.add(inputs, options)
        except OverflowError:
            raise HTTPException(429, "Too many requests wait.", {"Retry-After": "1"}) from None
        except (TimeoutError, asyncio.TimeoutError):
            raise HTTPException(504, f"It has taken more than {limits.seconds} seconds.") from None
        except (TypeError, ValueError) as error:
            raise HTTPException(422, str(error)) from None
        return {"results": results}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "task": runner.task}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        if shared is None:
            return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all, path=shared)
        return Response(generate_latest(of_all), media_type=CONTENT_TYPE_LATEST)

    return app


def _request_type(task: str, limits: Limits) -> type[BaseModel]:
    """What a request for this task holds."""
    text = Annotated[str, Field(min_length=1, max_length=limits.characters)]
    several: Any = {"min_length": 1, "max_length": limits.texts}
    strict = ConfigDict(extra="forbid", allow_inf_nan=False)
    if task == ANSWERING:
        question = create_model("Question", __config__=strict, question=(text, ...), context=(text, ...))
        return create_model("Questions", __config__=strict, questions=(list[question], Field(**several)))  # type: ignore[valid-type]
    fields: dict[str, Any] = {"texts": (list[text], Field(**several))}
    if task in (SEQ2SEQ, CAUSAL):
        for name, most in (
            ("num_beams", limits.beams),
            ("num_return_sequences", limits.beams),
            ("max_new_tokens", limits.new_tokens),
            ("min_new_tokens", limits.new_tokens),
        ):
            fields[name] = (_number(int) | None, Field(None, ge=0 if name == "min_new_tokens" else 1, le=most))
        fields["length_penalty"] = (_number(float) | None, Field(None, ge=-10, le=10))
    return create_model("Texts", __config__=strict, **fields)


def _number(kind: type) -> Any:
    """A number of that kind, which pydantic would make of texts and truth values as well."""

    def check(value: Any) -> Any:
        if isinstance(value, (bool, str)):
            raise ValueError("Input should be a number")
        return value

    return Annotated[kind, BeforeValidator(check)]


class Workers(Multiprocess):
    """
    Processes with an application each, which share a port.

    Args:
        config: of each of them; its application is what `open_app` returns.
        open_app: a function that makes the application, for processes that begin from now on.
    """

    def __init__(self, config: uvicorn.Config, open_app: Callable[[], Callable[[], FastAPI]]) -> None:
        config.app, self.open_app = open_app(), open_app
        listening = config.bind_socket()
        # else the body of an answer waits 40 ms for the client to say that it has its head: asyncio sets it for other
        # sockets, and connections inherit it
        listening.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        super().__init__(config, [listening])

    def keep_subprocess_alive(self) -> None:
        # without asking those that live: one that dies while it is asked would stop everything until it had to answer
        for index, process in enumerate(self.processes):
            if process.process.is_alive():
                continue
            if process.exitcode == STARTUP_FAILURE:
                logger.error(f"Worker [{process.pid}] could not start, as no other would: the server ends.")
                self.should_exit.set()
                return
            logger.info(f"Worker [{process.pid}] died")
            mark_process_dead(process.pid)  # nothing waits in it any more
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()

    def handle_hup(self) -> None:
        try:
            self.config.app = self.open_app()
        except Exception as error:
            logger.error(f"The model stays what it is, since the new one cannot be opened: {error}")
        else:
            super().handle_hup()


def serve(
    name: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    threads: int = 1,
    weights: Weights = "float32",
    limits: Limits = Limits(),  # noqa: B008 (it is never changed)
) -> None:
    """
    Serve a model until SIGTERM or SIGINT.

    Args:
        name: an exported folder, or a checkpoint, as a folder or a name on the Hub.
        workers: processes.
        threads: of each batch of a worker.
        weights: in which a checkpoint is exported.

    Raises:
        OSError, TypeError, ValueError: there is no such model, or it cannot be opened.
    """
    with tempfile.TemporaryDirectory() as temporary:
        copies: list[Path] = []

        def open_app() -> Callable[[], FastAPI]:
            source = find_folder(name)
            folder = Path(tempfile.mkdtemp(dir=temporary))
            try:
                if is_exported(source):
                    OnnxRunner([source])  # what a worker could not open is said here
                    # a copy, so that a worker which replaces another one opens what the others have
                    shutil.copytree(source, folder, dirs_exist_ok=True)
                else:
                    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # the memory of torch ends with it
                        pool.submit(_export, name, folder, weights).result()
                    OnnxRunner([folder])
            except BaseException:
                shutil.rmtree(folder)
                raise
            copies.append(folder)
            for old in copies[:-2]:  # the one before may still be opened
                shutil.rmtree(old, ignore_errors=True)
            return partial(_make_app, folder, threads, limits)

        os.environ["PROMETHEUS_MULTIPROC_DIR"] = temporary  # where the workers put their metrics together
        config = uvicorn.Config(
            "",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            access_log=False,
            timeout_graceful_shutdown=int(limits.seconds) + 1,
            timeout_worker_healthcheck=_SECONDS_TO_START,
        )
        Workers(config, open_app).run()


def _make_app(folder: Path, threads: int, limits: Limits) -> FastAPI:
    return create_app(OnnxRunner([folder], threads), limits)


def _export(name: str, folder: Path, weights: Weights) -> None:
    from .onnx.export import export_checkpoint

    export_checkpoint(name, folder, weights)
