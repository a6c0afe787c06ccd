"""Serve an exported model over HTTP, with requests that wait at the same time in one batch.

The requests are those of Inference Endpoints; see [`EndpointHandler`]. Uvicorn speaks HTTP.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from .handler import EndpointHandler

_JSON = [(b"content-type", b"application/json")]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class RequestError(Exception):
    """A request that gets no prediction.

    Args:
        status (`int`): The status of HTTP.
        message (`str`): What is wrong, for who sent it.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass
class Limits:
    """What a server takes.

    Args:
        max_body_size (`int`): Most bytes of a request.
        max_texts (`int`): Most texts of a request.
        max_characters (`int`): Most characters of a text.
        max_waiting (`int`): Most requests that wait; others are refused at once.
        max_batch_size (`int`): Most texts of several requests in a batch.
        timeout (`float`): Most seconds that a request takes to arrive, and then to wait for its prediction.
    """

    max_body_size: int = 1_000_000
    max_texts: int = 256
    max_characters: int = 50_000
    max_waiting: int = 1024
    max_batch_size: int = 64
    timeout: float = 10.0


@dataclass
class _Request:
    data: dict[str, Any]
    texts: list[str]
    result: asyncio.Future[list[Any]]


class PredictionServer:
    """An ASGI application: `POST /` predicts, `GET /health` tells that it is ready.

    While a batch runs, requests wait, and all that wait make the next one. A request whose client hangs up or whose
    time is over is left out of it. Every refusal is JSON, `{"error": …}`, with a status: 400 for what is malformed, 404
    and 405 for other paths and methods, 408 for a body that does not arrive, 413 for what is too large, 503 where too
    many wait, and 504 for those that waited too long.

    Args:
        handler ([`EndpointHandler`]): The model, in one thread each (`num_threads=1`).
        limits ([`Limits`]): What it takes.
        num_workers (`int`): Batches that run at the same time.

    Example:
    ```python
    >>> import asyncio, tempfile
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification, train_tokenizer
    >>> from rnn_hf.export.folder import export
    >>> from rnn_hf.export.handler import EndpointHandler
    >>> from rnn_hf.export.server import Limits, PredictionServer
    >>> tokenizer = train_tokenizer(["a b a b"], kind="word")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     config = RnnConfig(vocab_size=len(tokenizer), id2label={0: "X"})
    ...     RnnForSequenceClassification(config).save_pretrained(folder)
    ...     _ = tokenizer.save_pretrained(folder)
    ...     _ = export(folder, folder)
    ...     server = PredictionServer(EndpointHandler(folder, num_threads=1), Limits())
    >>> asyncio.run(server.predict({"inputs": "a b"}))
    [{'label': 'X', 'score': 1.0}]

    ```
    """

    def __init__(self, handler: EndpointHandler, limits: Limits, num_workers: int = 1):
        self.handler = handler
        self.limits = limits
        self.num_workers = num_workers
        self.waiting: deque[_Request] = deque()
        self.num_running = 0
        self.executor = ThreadPoolExecutor(num_workers, thread_name_prefix="predict")
        self.tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            with contextlib.suppress(ConnectionError):
                await self._answer(scope, receive, send)

    async def _live(self, receive: _Receive, send: _Send) -> None:
        """Start and end with the process; what has arrived was answered before."""
        while True:
            event = (await receive())["type"]
            if event == "lifespan.shutdown":
                self.executor.shutdown(cancel_futures=True)
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return

    async def _answer(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        try:
            content = await self._route(scope, receive)
            status, headers = 200, _JSON
        except RequestError as error:
            content, status = {"error": str(error)}, error.status
            # What is left of a body is not read.
            headers = [*_JSON, (b"connection", b"close")] if status in (408, 413) else _JSON
        if content is None:
            return
        body = json.dumps(content, ensure_ascii=False).encode()
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _route(self, scope: dict[str, Any], receive: _Receive) -> Any:
        path, method = scope["path"], scope["method"]
        allowed = {"/": ("POST",), "/health": ("GET", "HEAD")}.get(path)
        if allowed is None:
            raise RequestError(404, "There are POST / and GET /health alone.")
        if method not in allowed:
            raise RequestError(405, f"{path} takes {' and '.join(allowed)} alone.")
        if path == "/health":
            return {"status": "ok", "task": self.handler.task, "waiting": len(self.waiting)}
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self.limits.timeout)
        except asyncio.TimeoutError as error:
            raise RequestError(408, f"The body did not arrive within {self.limits.timeout:g} seconds.") from error
        if body is None:
            return None
        try:
            data = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RequestError(400, f"The body is no JSON: {error}") from error
        return await self._predict_connected(data, receive)

    async def _read(self, scope: dict[str, Any], receive: _Receive) -> bytes | None:
        """Read a body; `None` where the client hung up."""
        most = self.limits.max_body_size
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        body, is_too_large = bytearray(), announced.isdigit() and int(announced) > most
        while not is_too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            is_too_large = len(body) > most
            if not message.get("more_body", False) and not is_too_large:
                return bytes(body)
        raise RequestError(413, f"A request may have {most:,} bytes.")

    async def _predict_connected(self, data: Any, receive: _Receive) -> list[Any] | None:
        """Predict for a client that may hang up; then nobody waits for the result."""
        result = self._submit(data)
        listening = asyncio.ensure_future(receive())
        listening.add_done_callback(lambda _: result.cancel())
        try:
            return await result
        except asyncio.CancelledError:
            if not listening.done():  # the server itself ends
                raise
            return None
        finally:
            listening.cancel()

    async def predict(self, data: Any) -> list[Any]:
        """Predict in the next batch.

        Args:
            data (`Any`): A request; see [`EndpointHandler.__call__`].

        Returns:
            `list`: its results.

        Raises:
            RequestError: It is malformed, too large, or was not handled in time.
        """
        return await self._submit(data)

    def _submit(self, data: Any) -> "asyncio.Future[list[Any]]":
        """Check a request and let it wait for the next batch."""
        limits = self.limits
        try:
            texts = self.handler.check(data)
        except ValueError as error:
            raise RequestError(400, str(error)) from error
        if len(texts) > limits.max_texts:
            raise RequestError(413, f"A request may have {limits.max_texts:,} texts, got {len(texts):,}.")
        longest = max(map(len, texts), default=0)
        if longest > limits.max_characters:
            raise RequestError(413, f"A text may have {limits.max_characters:,} characters, got {longest:,}.")
        if len(self.waiting) >= limits.max_waiting:
            raise RequestError(503, "Too many requests wait: try again later.")
        loop = asyncio.get_running_loop()
        request = _Request(data, texts, loop.create_future())
        timer = loop.call_later(limits.timeout, self._expire, request)
        request.result.add_done_callback(lambda _: timer.cancel())
        self.waiting.append(request)
        self._start_batch()
        return request.result

    def _expire(self, request: _Request) -> None:
        if not request.result.done():
            message = f"There was no prediction within {self.limits.timeout:g} seconds."
            request.result.set_exception(RequestError(504, message))

    def _start_batch(self) -> None:
        """Let requests that wait run, if a worker is free."""
        if not self.waiting or self.num_running >= self.num_workers:
            return
        batch: list[_Request] = []
        size = 0
        while self.waiting and (not batch or size + len(self.waiting[0].texts) <= self.limits.max_batch_size):
            request = self.waiting.popleft()
            if not request.result.done():  # nobody waits for it any more
                batch.append(request)
                size += len(request.texts)
        if not batch:
            return
        self.num_running += 1
        task = asyncio.ensure_future(self._run(batch))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run(self, batch: list[_Request]) -> None:
        try:
            results = await asyncio.get_running_loop().run_in_executor(self.executor, self._run_batch, batch)
            for request, result in zip(batch, results, strict=True):
                if not request.result.done():
                    request.result.set_result(result)
        except Exception as error:  # of any library; the server goes on
            for request in batch:
                if not request.result.done():
                    request.result.set_exception(RequestError(500, f"The model failed: {type(error).__name__}."))
        finally:
            self.num_running -= 1
            self._start_batch()

    def _run_batch(self, batch: list[_Request]) -> list[list[Any]]:
        outputs = self.handler.run([text for request in batch for text in request.texts])
        results, start = [], 0
        for request in batch:
            end = start + len(request.texts)
            results.append(self.handler.finish(request.data, outputs[start:end]))
            start = end
        return results


def serve(server: PredictionServer, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; requests that have arrived are answered before the process ends.

    Args:
        server ([`PredictionServer`]): The application.
        host (`str`): Address to listen on.
        port (`int`): Port to listen on; 0 for a free one.
    """
    import uvicorn

    uvicorn.run(
        server,
        host=host,
        port=port,
        access_log=False,
        log_level="info",
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(server.limits.timeout) + 1,
    )


__all__ = ["Limits", "PredictionServer", "RequestError", "serve"]
