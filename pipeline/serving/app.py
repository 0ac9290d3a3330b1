"""The endpoints: `/v1/embeddings`, `/v1/models`, `/health` and `/metrics`. `server` runs them, `protocol` reads bodies.

Requests are read, tokenized and answered in threads of a pool, so that the event loop stays free; the engine runs in
the thread of a batcher. A request is accepted unless the server stops or has too many in progress; from then on it is
answered.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pipeline.serving.batching import Batch, Batcher, Full, Limits, Row, Stopped
from pipeline.serving.encoders import Retriever, engine, truncated
from pipeline.serving.protocol import Refusal, Request, Rules, answer, parse

BODY_S = 30.0  # a client that takes longer to send its request gets 408
CLOSE = {"connection": "close"}
LINGER_S, LINGER_BYTES = 2.0, 16 << 20  # a client may still send after an answer that closes its connection
RETRY = {"retry-after": "1"}  # seconds
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DISCONNECTED = 499  # nginx's status of a request whose client went away


class LastResponse(JSONResponse):
    """A response after which the connection is closed, once the client has sent its body, or too much of it.

    A connection that is closed with bytes unread is reset, and the client may lose the response (RFC 9112, 9.6).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole response, discard what the client still sends, and end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        discarded = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while discarded < LINGER_BYTES:
                    message = await receive()
                    discarded += len(message.get("body", b""))
                    if not message.get("more_body"):  # all is read, or the client is gone
                        break
        await send({"type": "http.response.body", "body": b""})


class Metrics:
    """What `/metrics` shows, in Prometheus' names and units."""

    def __init__(self, waiting: Callable[[], float]):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, CPU time
        of: dict[str, Any] = {"namespace": "paretrieve", "registry": self.registry}
        self.requests = Counter("requests", "Requests for embeddings by HTTP status", ["status"], **of)
        self.seconds = Histogram("request_seconds", "Time to answer a request that succeeded", buckets=SECONDS, **of)
        self.tokens = Counter("tokens", "Tokens embedded, prompts and special tokens included", **of)
        self.batch_texts = Histogram("batch_texts", "Texts per batch of the engine", buckets=TEXTS, **of)
        self.batch_seconds = Histogram("batch_seconds", "Time of the engine per batch", buckets=SECONDS, **of)
        Gauge("queue_texts", "Texts that wait for the engine", **of).set_function(waiting)

    def batch(self, batch: Batch) -> None:
        """Count a batch of the engine."""
        self.tokens.inc(batch.tokens)
        self.batch_texts.observe(batch.texts)
        self.batch_seconds.observe(batch.seconds)


class Service:
    """A retriever behind the endpoints.

    Args:
        model: the name that requests give.
        max_body: bytes per request.
    """

    def __init__(self, retriever: Retriever, model: str, limits: Limits, *, max_inputs: int, max_body: int):
        self.retriever, self.max_body = retriever, max_body
        self.rules = Rules(model, (retriever.width, *retriever.narrower), max_inputs)
        self.most_active = limits.queue + limits.max_batch  # no more can wait or be at work; bounds what bodies take
        self.started = int(time.time())
        self.active, self.draining, self.changed = 0, False, threading.Condition()
        self.metrics = Metrics(lambda: sum(batcher.waiting for batcher in {*self.batchers.values()}))
        # Both sides have one encoder most often, and then share its batches.
        distinct = {id(encoder): encoder for encoder in retriever.encoders.values()}
        batchers = {key: Batcher(engine(encoder), limits, self.metrics.batch) for key, encoder in distinct.items()}
        self.batchers = {side: batchers[id(encoder)] for side, encoder in retriever.encoders.items()}

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/v1/embeddings", self.embeddings, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/health", self.health),
            Route("/metrics", self.show_metrics),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: no_endpoint, Refusal: refused})

    async def embeddings(self, request: HttpRequest) -> Response:
        """Answer a request for embeddings, and count it."""
        began = time.monotonic()
        try:
            response = await self.embed(request)
            self.metrics.seconds.observe(time.monotonic() - began)
        except Refusal as refusal:
            response = refused(request, refusal)
        except ClientDisconnect:
            response = Response(status_code=DISCONNECTED)  # nobody reads it
        except Exception:  # of the engine
            print(traceback.format_exc(), file=sys.stderr, end="", flush=True)
            response = refused(request, Refusal(500, "the engine failed on these texts; the server's log says why."))
        self.metrics.requests.labels(response.status_code).inc()
        return response

    async def embed(self, request: HttpRequest) -> Response:
        """Read, tokenize, embed and answer."""
        self.accept()
        try:
            body = await self.body(request)
            parsed, rows = await asyncio.to_thread(self.read, body)
            emb_ND = await asyncio.wrap_future(self.batchers[parsed.side].submit(rows))
            content = await asyncio.to_thread(self.write, parsed, emb_ND, sum(map(len, rows)))
            return Response(content, media_type="application/json")
        except Full:
            raise busy("too many texts wait for the engine") from None
        except Stopped:
            raise stopping() from None
        finally:
            with self.changed:
                self.active -= 1
                self.changed.notify_all()

    def accept(self) -> None:
        """Count a request in; Refusal if the server stops or has too many."""
        with self.changed:
            if self.draining:
                raise stopping()
            if self.active >= self.most_active:
                raise busy("too many requests are in progress")
            self.active += 1

    async def body(self, request: HttpRequest) -> bytes:
        """Return the body of a request; no more than the limit is kept of a larger one."""
        large = Refusal(413, f"the body has more than {self.max_body // 1024} KiB.", None, "request_too_large", CLOSE)
        if int(request.headers.get("content-length", 0)) > self.max_body:  # h11 has checked that it is a number
            raise large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > self.max_body:
                        raise large
                    body += chunk
        except TimeoutError:
            raise Refusal(408, f"the body did not arrive within {BODY_S:g} s.", headers=CLOSE) from None
        return bytes(body)

    def read(self, body: bytes) -> tuple[Request, list[Row]]:
        """Return a request and the token ids of its texts."""
        parsed = parse(body, self.rules)
        return parsed, self.retriever.encoders[parsed.side].tokenize(parsed.texts, parsed.side)

    def write(self, parsed: Request, emb_ND: np.ndarray, tokens: int) -> bytes:
        """Return the body of the answer."""
        return answer(truncated(emb_ND, parsed.width), parsed.encoding, self.rules.model, tokens)

    def drain(self, timeout_s: float) -> bool:
        """Accept no more requests and wait until all are answered; called from outside the event loop.

        Returns:
            Whether all were answered with embeddings; after the timeout those that still wait get an error.
        """
        until = time.monotonic() + timeout_s
        with self.changed:
            self.draining = True
            self.changed.wait_for(lambda: not self.active, timeout_s)
        finished = [batcher.stop(max(until - time.monotonic(), 0)) for batcher in {*self.batchers.values()}]
        return all(finished)

    async def models(self, request: HttpRequest) -> Response:
        """List the one model."""
        return JSONResponse({"object": "list", "data": [self.description]})

    async def model(self, request: HttpRequest) -> Response:
        """Describe the model, if it is the one that the path names."""
        if (name := request.path_params["name"]) != self.rules.model:
            raise Refusal(404, f"model={name:.80}: this server has {self.rules.model}.", "model", "model_not_found")
        return JSONResponse(self.description)

    @property
    def description(self) -> dict[str, Any]:
        """The model in the protocol's shape."""
        return {"id": self.rules.model, "object": "model", "created": self.started, "owned_by": "paretrieve"}

    async def health(self, request: HttpRequest) -> Response:
        """Say whether requests are accepted."""
        if self.draining:
            return JSONResponse({"status": "draining"}, 503, CLOSE)
        return JSONResponse({"status": "ready"})

    async def show_metrics(self, request: HttpRequest) -> Response:
        """Show the metrics in Prometheus' text format."""
        return Response(generate_latest(self.metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})


def busy(why: str) -> Refusal:
    return Refusal(429, f"{why}: try again later.", None, "rate_limit_exceeded", RETRY)


def stopping() -> Refusal:
    return Refusal(503, "the server is stopping.", None, "service_unavailable", RETRY | CLOSE)


def refused(request: HttpRequest, refusal: Exception) -> Response:
    """Return the response to a request that is refused."""
    assert isinstance(refusal, Refusal)
    response = LastResponse if CLOSE.items() <= refusal.headers.items() else JSONResponse
    return response(refusal.body, refusal.status, refusal.headers)


def no_endpoint(request: HttpRequest, error: Exception) -> Response:
    """Return Starlette's own errors, of an unknown path or method, in the protocol's shape."""
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path:.80}: {error.detail.lower()}."
    return refused(request, Refusal(error.status_code, text, headers=error.headers or {}))
