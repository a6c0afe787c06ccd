"""What tests of JavaScript share: where its packages are, Node, Chromium, and a server for files."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

# Names a folder node_modules.
MODULES = os.environ.get("RNN_HF_NODE_MODULES", "")


def find_chromium():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def has_packages(*packages):
    return bool(shutil.which("node")) and all(Path(MODULES, package).is_dir() for package in packages)


def can_browse(*packages):
    return find_chromium() is not None and has_packages("playwright-core", *packages)


def run_script(script: Path, request: dict, *packages: str, browse: bool = False):
    """Let Node run a script that reads a request and writes a result; skip where it cannot."""
    if browse and find_chromium() is None:
        pytest.skip("Chromium is missing")
    if not has_packages(*packages):
        pytest.skip(f"node is missing, or RNN_HF_NODE_MODULES names no folder with {', '.join(packages)}")
    request = {"modules": MODULES, "chromium": find_chromium(), **request}
    result = subprocess.run(
        ["node", str(script)], input=json.dumps(request), capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Say nothing."""


@contextmanager
def serve_files(folder):
    """Serve a folder on loopback, and give its address."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
