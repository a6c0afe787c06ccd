"""Put a server under load: clients that each send one text after the other over a connection of their own.

rnn-hf serve outputs/reviews_onnx --port 8000
python tests/export/serve_load.py 8000 --clients 64 --seconds 60
"""

import argparse
import asyncio
import json
import time

TEXT = "The striker scored twice in the cup final."


async def request(reader, writer, body: bytes, path: str = "/", method: str = "POST") -> tuple[int, bytes]:
    """Send a request and read the status and the body of the response."""
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    size = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(size)


async def _client(port: int, until: float, seconds: list[float], failures: list[int], text: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"inputs": text}).encode()
    while time.perf_counter() < until:
        start = time.perf_counter()
        status, _ = await request(reader, writer, body)
        seconds.append(time.perf_counter() - start)
        if status != 200:
            failures.append(status)
    writer.close()


async def load(port: int, num_clients: int, duration: float, text: str = TEXT) -> dict[str, float]:
    """Measure requests a second, and milliseconds of a request."""
    seconds: list[float] = []
    failures: list[int] = []
    start = time.perf_counter()
    await asyncio.gather(*(_client(port, start + duration, seconds, failures, text) for _ in range(num_clients)))
    elapsed, ordered = time.perf_counter() - start, sorted(seconds)
    return {
        "clients": num_clients,
        "requests": len(seconds),
        "failed": len(failures),
        "per_second": round(len(seconds) / elapsed, 1),
        "p50_ms": round(1000 * ordered[len(ordered) // 2], 2),
        "p99_ms": round(1000 * ordered[len(ordered) * 99 // 100], 2),
        "max_ms": round(1000 * ordered[-1], 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--text", default=TEXT)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(load(options.port, options.clients, options.seconds, options.text))))
