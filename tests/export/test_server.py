"""The server answers every request, or says why not, and ends when it has."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from serve_load import load, request
from strategies import generator, little_config

from rnn_hf import RnnForSequenceClassification, train_tokenizer
from rnn_hf.export.folder import export
from rnn_hf.export.handler import EndpointHandler
from rnn_hf.export.server import Limits, PredictionServer, RequestError

TEXTS = ["the striker scored twice", "shares fell today", "서울 에서", "", "a goal in the final 🙂"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exported classifier."""
    folder = tmp_path_factory.mktemp("served")
    tokenizer = train_tokenizer(TEXTS * 2, vocab_size=60, min_frequency=1)
    model = RnnForSequenceClassification(little_config(vocab_size=len(tokenizer), id2label=dict(enumerate("ABC"))))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(number)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    export(str(folder), folder)
    return folder


class SlowHandler(EndpointHandler):
    """A model that takes its time, until it is let go."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.go, self.batches = threading.Event(), []

    def run(self, texts):
        self.batches.append(texts)
        self.go.wait(10)
        return super().run(texts)


def serve_slowly(folder, scenario, **limits):
    """Run a scenario with a server whose model is slow."""
    handler = SlowHandler(str(folder), num_threads=1)
    server = PredictionServer(handler, Limits(**limits))

    async def run():
        try:
            return await scenario(server, handler)
        finally:
            handler.go.set()

    return asyncio.run(run())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def test_requests_that_wait_run_in_one_batch(folder):
    async def scenario(server, handler):
        first = asyncio.ensure_future(server.predict({"inputs": "first"}))
        await until(lambda: handler.batches)
        data = [{"inputs": text, "parameters": {"top_k": None}} for text in TEXTS] + [{"inputs": TEXTS}]
        others = [asyncio.ensure_future(server.predict(one)) for one in data]
        await until(lambda: len(server.waiting) == len(data))
        handler.go.set()
        return await first, await asyncio.gather(*others), handler.batches, data

    first, others, batches, data = serve_slowly(folder, scenario)
    handler = EndpointHandler(str(folder))
    assert batches == [["first"], [*TEXTS, *TEXTS]]
    for one, expected in zip([first, *others], map(handler, [{"inputs": "first"}, *data]), strict=True):
        assert [label["label"] for label in flat(one)] == [label["label"] for label in flat(expected)]
        assert [label["score"] for label in flat(one)] == pytest.approx(
            [label["score"] for label in flat(expected)], abs=1e-5
        )


def flat(results):
    return [one for part in results for one in (part if isinstance(part, list) else [part])]


def test_a_batch_has_no_more_texts_than_it_may(folder):
    async def scenario(server, handler):
        first = asyncio.ensure_future(server.predict({"inputs": "first"}))
        await until(lambda: handler.batches)
        others = [asyncio.ensure_future(server.predict({"inputs": ["a"] * size})) for size in (2, 2, 3, 9)]
        await until(lambda: len(server.waiting) == 4)
        handler.go.set()
        await asyncio.gather(first, *others)
        return [len(batch) for batch in handler.batches]

    assert serve_slowly(folder, scenario, max_batch_size=4) == [1, 4, 3, 9]


def test_who_comes_when_too_many_wait_is_refused_at_once(folder):
    async def scenario(server, handler):
        running = asyncio.ensure_future(server.predict({"inputs": "first"}))
        await until(lambda: handler.batches)
        waiting = [asyncio.ensure_future(server.predict({"inputs": "a"})) for _ in range(2)]
        await until(lambda: len(server.waiting) == 2)
        with pytest.raises(RequestError, match="try again later") as refused:
            await server.predict({"inputs": "b"})
        handler.go.set()
        await asyncio.gather(running, *waiting)
        return refused.value.status

    assert serve_slowly(folder, scenario, max_waiting=2) == 503


def test_who_waits_too_long_is_told_so_and_left_out(folder):
    async def scenario(server, handler):
        running = asyncio.ensure_future(server.predict({"inputs": "first"}))
        await until(lambda: handler.batches)
        with pytest.raises(RequestError, match=r"within 0\.2 seconds") as late:
            await server.predict({"inputs": "late"})
        with pytest.raises(RequestError):
            await running
        handler.go.set()
        server.limits.timeout = 10
        await server.predict({"inputs": "next"})
        return late.value.status, handler.batches

    assert serve_slowly(folder, scenario, timeout=0.2) == (504, [["first"], ["next"]])


async def call(server, chunks, *, path="/", method="POST", hang_up=None):
    """Call the application as a server does; the client hangs up when `hang_up` is set."""
    sent, messages = [], [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks[:-1]]
    messages += [{"type": "http.request", "body": chunk, "more_body": False} for chunk in chunks[-1:]]

    async def receive():
        if messages:
            return messages.pop(0)
        await (hang_up or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await server({"type": "http", "path": path, "method": method, "headers": []}, receive, send)
    return (sent[0]["status"], json.loads(sent[1]["body"])) if sent else None


def test_a_request_whose_client_hangs_up_is_left_out(folder):
    async def scenario(server, handler):
        running = asyncio.ensure_future(call(server, [b'{"inputs": "first"}']))
        await until(lambda: handler.batches)
        hang_up = asyncio.Event()
        gone = asyncio.ensure_future(call(server, [b'{"inputs":', b' "gone"}'], hang_up=hang_up))
        await until(lambda: server.waiting)
        hang_up.set()
        assert await gone is None
        handler.go.set()
        status, _ = await running
        assert (await call(server, [b'{"inputs": "next"}']))[0] == 200
        return status, handler.batches

    assert serve_slowly(folder, scenario) == (200, [["first"], ["next"]])


def test_a_client_that_hangs_up_within_its_body_gets_nothing(folder):
    async def scenario(server, handler):
        hang_up = asyncio.Event()
        hang_up.set()

        async def receive():
            return {"type": "http.disconnect"}

        sent = []
        await server({"type": "http", "path": "/", "method": "POST", "headers": []}, receive, sent.append)
        return sent, handler.batches

    assert serve_slowly(folder, scenario) == ([], [])


def test_a_model_that_fails_is_said_and_the_server_goes_on(folder):
    class FailingHandler(EndpointHandler):
        def run(self, texts):
            if "fail" in texts:
                raise MemoryError
            return super().run(texts)

    async def run():
        server = PredictionServer(FailingHandler(str(folder)), Limits())
        failed = await call(server, [b'{"inputs": "fail"}'])
        return failed, (await call(server, [b'{"inputs": "a"}']))[0]

    assert asyncio.run(run()) == ((500, {"error": "The model failed: MemoryError."}), 200)


@pytest.mark.parametrize(
    ("chunks", "status", "said"),
    [
        ([b"{"], 400, "no JSON"),
        ([b"\xff\xfe\x00"], 400, "no JSON"),
        ([b"[" * 100_000], 400, "no JSON"),
        ([b"[]"], 400, '"inputs"'),
        ([b'{"inputs": 1}'], 400, "a text or a list of texts"),
        ([b'{"inputs": "\\ud800"}'], 400, "lone surrogate"),
        ([b'{"inputs": "a", "parameters": {"top_k": -1}}'], 400, "top_k"),
        ([b'{"inputs": "' + b"a" * 101 + b'"}'], 413, "100 characters, got 101"),
        ([b'{"inputs": ["a", "a", "a", "a"]}'], 413, "3 texts, got 4"),
        ([b" " * 150_000, b" " * 150_000], 413, "200,000 bytes"),
    ],
)
def test_bad_bodies_are_refused(folder, chunks, status, said):
    async def run():
        limits = Limits(max_body_size=200_000, max_characters=100, max_texts=3)
        return await call(PredictionServer(EndpointHandler(str(folder)), limits), chunks)

    found, body = asyncio.run(run())
    assert found == status
    assert said in body["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 405), ("POST", "/health", 405), ("GET", "/other", 404), ("GET", "/health", 200)],
)
def test_other_paths_and_methods_are_refused(folder, method, path, status):
    async def run():
        return await call(PredictionServer(EndpointHandler(str(folder)), Limits()), [b""], path=path, method=method)

    assert asyncio.run(run())[0] == status


class Process:
    """`rnn-hf serve` in a process of its own."""

    def __init__(self, folder, log, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = log.open("w+")
        command = [sys.executable, "-m", "rnn_hf", "serve", str(folder), "--port", str(self.port), *options]
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, cwd=root)
        for _ in range(600):
            assert self.process.poll() is None, log.read_text()
            try:
                self.connect().close()
                break
            except OSError:
                time.sleep(0.1)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, body, **options):
        async def ask():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            status, answer = await request(reader, writer, body, **options)
            writer.close()
            return status, json.loads(answer)

        return asyncio.run(ask())

    def memory(self):
        """Return the resident memory in megabytes."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def process(folder, tmp_path_factory):
    pytest.importorskip("uvicorn", reason="serving needs the extra serve")
    options = ("--timeout", "2", "--max_body_size", "100000")
    process = Process(folder, tmp_path_factory.mktemp("serve") / "log.txt", *options)
    yield process
    process.process.kill()


def test_the_command_serves(process, folder):
    assert process.ask(b"", path="/health", method="GET") == (
        200,
        {"status": "ok", "task": "text-classification", "waiting": 0},
    )
    status, answer = process.ask(json.dumps({"inputs": TEXTS, "parameters": {"top_k": 1}}).encode())
    expected = EndpointHandler(str(folder))({"inputs": TEXTS})
    assert status == 200
    assert [one["label"] for one in answer] == [one["label"] for one in expected]


def test_bad_clients_do_no_harm(process):
    assert process.ask(b"{")[0] == 400
    with process.connect() as client:  # announces more than is allowed
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    with process.connect() as client:  # sends it without an announcement
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        with_size = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        client.sendall(with_size * 4)
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    with process.connect() as client:  # does not send what it announced
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n{")
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
    with process.connect() as client:
        client.sendall(b"not HTTP at all\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
    for _ in range(20):  # hang up at once, and within the body
        client = process.connect()
        client.sendall(b'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n{"inputs": "a film"}')
        client.close()
        client = process.connect()
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n{")
        client.close()
    assert process.ask(b'{"inputs": "a"}')[0] == 200


@pytest.mark.parametrize("num_clients", [1, 64])
def test_under_load_nothing_is_lost_and_memory_stays(process, num_clients):
    asyncio.run(load(process.port, num_clients, 0.5))
    before = process.memory()
    measured = asyncio.run(load(process.port, num_clients, 1.5))
    assert measured["failed"] == 0
    assert measured["requests"] > num_clients
    assert process.memory() < before + 30


def test_what_has_arrived_is_answered_before_the_server_ends(folder, tmp_path):
    pytest.importorskip("uvicorn", reason="serving needs the extra serve")
    process = Process(folder, tmp_path / "log.txt")
    with process.connect() as client:
        body = json.dumps({"inputs": ["the striker scored twice " * 150] * 150}).encode()
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.5)
        process.process.send_signal(signal.SIGTERM)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert process.process.wait(30) in (0, -signal.SIGTERM)
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_an_address_that_is_taken_and_a_folder_without_a_graph_are_said(folder, tmp_path):
    pytest.importorskip("uvicorn", reason="serving needs the extra serve")
    command = [sys.executable, "-m", "rnn_hf", "serve"]
    (tmp_path / "config.json").write_text('{"model_type": "rnn_hf"}')
    result = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 1
    assert "holds no tokenizer.json: export the model" in result.stderr
    result = subprocess.run([*command, str(folder), "--timeout", "0"], capture_output=True, text=True)
    assert "--timeout must be above 0" in result.stderr
