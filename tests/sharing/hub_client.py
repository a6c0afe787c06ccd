"""Processes that talk to the hub of the tests.

The libraries read HF_ENDPOINT and its like once, when they are imported, so that each environment needs a process of
its own. It stays up and runs one piece of code after the other, which saves imports.
"""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    """What a piece of code left in `result`, what it printed, and the error that ended it."""

    result: Any
    output: str
    error: str | None


class Client:
    """A process with an environment of its own.

    Args:
        home (`Path`): Its HF_HOME.
        with_package (`bool`): Whether `rnn_hf` can be imported.
        environment (`str`): Further variables.
    """

    def __init__(self, home: Path, with_package: bool = True, **environment: str):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
        environment = kept | {
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            **environment,
        }  # fmt: skip
        command = [sys.executable, __file__, *([] if with_package else ["--without_package"])]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home.parent
        )

    def start(self, code: str, token: str | None = None) -> None:
        """Send code without waiting for its outcome."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"code": textwrap.dedent(code), "token": token}) + "\n")
        self.process.stdin.flush()

    def outcome(self) -> Outcome:
        """Wait for the outcome of what was sent."""
        assert self.process.stdout is not None
        return Outcome(*json.loads(self.process.stdout.readline()))

    def attempt(self, code: str, token: str | None = None) -> Outcome:
        """Run code that may fail; `token` is the HF_TOKEN."""
        self.start(code, token)
        return self.outcome()

    def run(self, code: str, token: str | None = None) -> Any:
        """Run code and return what it leaves in `result`."""
        outcome = self.attempt(code, token)
        assert outcome.error is None, outcome.error
        return outcome.result

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def run_script(name: str, *arguments: str) -> None:
    """Run one of the scripts in this process."""
    sys.argv = [name, *arguments]
    if str(ROOT / "scripts") not in sys.path:
        sys.path.insert(0, str(ROOT / "scripts"))
    runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")


def serve() -> None:
    """Run what comes in, line by line."""
    # The pipes are for requests and answers; the code has others.
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    if "--without_package" in sys.argv:
        sys.modules["rnn_hf"] = None  # type: ignore[assignment]
        import transformers.pipelines  # noqa: F401
    else:
        import rnn_hf.sharing.hub  # noqa: F401
    names: dict[str, Any] = {"run_script": run_script}
    # Imports take seconds: they are done before the first code comes in.
    for line in requests:
        request = json.loads(line)
        os.environ.pop("HF_TOKEN", None)
        if request["token"] is not None:
            os.environ["HF_TOKEN"] = request["token"]
        names["result"], error, output, errors = None, None, io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                exec(request["code"], names)
            except SystemExit:
                error = errors.getvalue().strip().rpartition("\n")[2]  # a command's last line
            except BaseException:
                error = traceback.format_exc()
        answers.write(json.dumps([names["result"], output.getvalue() + errors.getvalue(), error]) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
