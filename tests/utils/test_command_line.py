"""How commands end when something goes wrong."""

import errno
import os
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from rnn_hf import RnnConfig
from rnn_hf.utils.command_line import CommandParser, command, describe, positive_int


def ends(capsys, error: BaseException, *words: str) -> tuple[object, list[str]]:
    """Run a command that raises, and return its exit code and what it says."""

    @command
    def main(argv=None):
        raise error

    with pytest.raises(SystemExit) as stop:
        main([*words])
    return stop.value.code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("a.csv, row 3:\n  the text is empty."), 1, "error: a.csv, row 3: the text is empty."),
        (ValueError("a label \x1b[2J is odd"), 1, r"error: a label \x1b[2J is odd"),
        (ImportError("onnx is missing"), 1, "error: onnx is missing"),
        (PermissionError(13, "Permission denied", "a.csv"), 1, "error: a.csv: Permission denied."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"), 1, "error: x: No space left on device."),
        (SafetensorError("I/O error: No space left on device (os error 28)"), 1, "error: A file could not be written"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), 1, "error: A file could not be written"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "error: There is not enough memory"),
        (MemoryError(), 1, "error: There is not enough memory: an allocation failed."),
        (KeyError("tags"), 1, "error: KeyError: 'tags'. This looks like a fault of rnn_hf: --debug shows where"),
        (RuntimeError(), 1, "error: RuntimeError: without a message."),
        (KeyboardInterrupt("Resume it."), 130, "error: interrupted. Resume it."),
        (KeyboardInterrupt(), 130, "error: interrupted."),
        (BrokenPipeError(), 141, "error: the output was closed before everything was written."),
    ],
)
def test_one_line_for_each_kind_of_error(error, code, line, capsys, monkeypatch):
    monkeypatch.delenv("RNN_HF_DEBUG", raising=False)
    monkeypatch.setattr("rnn_hf.utils.command_line._close_output", lambda: None)
    ended, lines = ends(capsys, error)
    assert ended == code
    assert len(lines) == 1
    assert lines[0].startswith(line)


def test_long_messages_are_shortened(capsys):
    _, lines = ends(capsys, ValueError("x" * 100_000))
    assert len(lines[0]) < 3000


def test_neither_message_nor_traceback_holds_a_secret(capsys):
    words = ["--hub_token", "tok-1234-abcd", "--debug"]
    _, lines = ends(capsys, ValueError("got tok-1234-abcd"), *words)
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "error: got …"
    assert not any("tok-1234" in line for line in lines)


def test_the_cause_of_a_refused_configuration_is_said():
    with pytest.raises(Exception, match="hidden_size") as error:
        RnnConfig(hidden_size=0)
    assert describe(error.value) == "hidden_size must be at least 1, got 0."


def test_a_command_that_works_says_nothing(capsys):
    @command
    def main(argv=None):
        print("done", argv)

    main(["a"])
    assert capsys.readouterr() == ("done ['a']\n", "")


class TestParser:
    @pytest.fixture
    def parser(self):
        parser = CommandParser(prog="predict.py")
        parser.add_argument("--batch_size", type=positive_int)
        return parser

    @pytest.mark.parametrize("words", [["--batch", "3"], ["--batch_size", "0"], ["--batch_size", "٣x"], ["x"]])
    def test_complains_in_one_line(self, parser, words, capsys):
        with pytest.raises(SystemExit) as stop:
            parser.parse_args(words)
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert line.endswith((". See predict.py --help.", "? See predict.py --help."))

    @pytest.mark.parametrize("word", ["--batchsize", "--batch-sise", "--bach_size=3"])
    def test_suggests_the_closest_option(self, parser, word, capsys):
        with pytest.raises(SystemExit):
            parser.parse_args([word, "3"])
        said = capsys.readouterr().err
        assert said.endswith("; did you mean --batch_size? See predict.py --help.\n")

    def test_help_tells_of_debug(self, parser):
        assert "--debug" in parser.format_help()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other pipes")
def test_a_closed_pipe_is_no_traceback():
    code = (
        "from rnn_hf.utils.command_line import command\n"
        "@command\ndef main(argv=None):\n    for i in range(100000): print('line', i)\n"
        "main()"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "line 0\n"
    first.stdout.close()
    assert first.stderr.read() == "error: the output was closed before everything was written.\n"
    assert first.wait() == 141


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other shells")
def test_closed_standard_streams_are_named():
    code = "from rnn_hf.utils.command_line import command\n@command\ndef main(argv=None):\n    print('done')\nmain()"
    closed = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, code], capture_output=True, text=True, check=False
    )
    assert (closed.returncode, closed.stderr.count("\n")) == (1, 1)
    assert closed.stderr.startswith("error: standard output is closed")
    silent = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" 2>&-', sys.executable, code], stdout=subprocess.PIPE, check=False
    )
    assert (silent.returncode, silent.stdout) == (0, b"done\n")
