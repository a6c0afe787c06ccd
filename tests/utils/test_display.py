"""Text from strangers is shown as text: on terminals, in tables, in Markdown, in JSON lines."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rnn_hf.utils.display import (
    hide_folders,
    json_line,
    markdown,
    markdown_block,
    markdown_code,
    one_line,
    printable,
    shorten,
)

HOSTILE = [
    "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\tb", "a\nb", "a\r\nb", "\u2028", "\x85", "\ud800", "\u202egpj.exe",
    "[red]x[/red]", "x[/b]", "a|b", "`code`", "``", "a`b``c", "<script>alert(1)</script>", "<b>", "&lt;", "&amp;",
    "# title", "**bold**", "_em_", "![x](http://x/y.png)", "[x](http://x)", "~~no~~", "$x^2$", "\\|", "\\", "a\\`b",
    "\x00", "\x7f", "---", "|", "| a | b |", "``` \n", "  two  spaces  ", "", " ", "東京", "العربية", "👩‍👩‍👧", "é",
]  # fmt: skip
texts = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), max_size=12))


def rendered(text: str) -> str:
    """Return what a reader of a Markdown line sees; raise where it holds anything but text and code."""
    _, inline, _ = MarkdownIt("commonmark").enable("table").parse(text)
    shown, depth = [], 0
    for token in inline.children:
        if token.type == "html_inline" and token.content in ("<code>", "</code>"):
            depth += 1
            continue
        assert token.type in ("text", "code_inline", "text_special"), token
        shown.append(token.content)
    return "".join(shown)


@given(texts)
def test_printable_text_moves_no_cursor_and_ends_no_line(text):
    shown = printable(text)
    assert all(one.isprintable() or one.isspace() or ord(one) > 0x9F for one in shown)
    assert len(f"|{shown}|".splitlines()) == 1
    assert "\t" not in shown
    shown.encode("utf-8")


@pytest.mark.parametrize("text", ["東京", "العربية", "👩‍👩‍👧", "é", "a b"])
def test_printable_leaves_every_script_as_it_is(text):
    assert printable(text) == text


def test_a_message_takes_one_line():
    assert one_line("a\n  b\x1b[0m\n") == r"a b\x1b[0m"


@given(texts)
def test_markdown_renders_as_the_text(text):
    assert rendered("x" + markdown(text) + "x") == "x" + printable(" ".join(text.split())) + "x"


@given(texts)
def test_code_in_markdown_renders_as_the_text(text):
    assert rendered("x " + markdown_code(text) + " x").replace(" ", "") == f"x{printable(text)}x".replace(" ", "")


@given(texts, texts)
def test_a_cell_of_a_table_stays_one(one, other):
    table = f"| a | b |\n|---|---|\n| {markdown(one)} | {markdown_code(other)} |\n"
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    cells = [after.children for token, after in pairwise(tokens) if token.type == "td_open"]
    assert len(cells) == 2
    assert "".join(token.content for token in cells[0]).strip() == printable(" ".join(one.split()))
    shown = "".join(token.content for token in cells[1] if token.type != "html_inline")
    assert shown.replace(" ", "") == printable(other).replace(" ", "")


@given(st.lists(st.one_of(texts, st.sampled_from(["```", "````", "~~~", "## Title", "</pre>"])), max_size=5))
def test_nothing_in_a_block_of_code_closes_it(lines):
    text = "\n".join(lines)
    tokens = MarkdownIt("commonmark").parse(markdown_block(text, "text") + "\n\n## After\n")
    assert [token.type for token in tokens] == ["fence", "heading_open", "inline", "heading_close"]
    assert tokens[0].info == "text"


@given(st.dictionaries(texts, st.lists(texts, max_size=3), max_size=3))
def test_json_lines_are_valid_and_printable(value):
    line = json_line(value)
    assert json.loads(line) == value
    assert len(line.splitlines()) <= 1
    assert not any(ord(one) < 0x20 or 0x7F <= ord(one) < 0xA0 for one in line)
    line.encode("utf-8")


@given(texts, st.integers(2, 20))
def test_long_texts_are_cut(text, width):
    short = shorten(text, width)
    assert len(short) <= width
    assert short == text or (short[-1] == "…" and text.startswith(short[:-1]))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/al/data/a.csv", "a.csv"),
        ("/home/al/my data/a.csv", "a.csv"),
        ("/data/", "data"),
        ("/", "/"),
        ("~/a.csv", "a.csv"),
        ("~al/a.csv", "a.csv"),
        ("file:///home/al/a.csv", "a.csv"),
        (r"C:\Users\al\a.csv", "a.csv"),
        ("C:/Users/al/a.csv", "a.csv"),
        (r"\\server\share\a.csv", "a.csv"),
        ("--train_file=/home/al/my data/a.csv", "--train_file=a.csv"),
        ("a.csv,/home/al/b.csv", "a.csv,b.csv"),
        ("train:/home/al/b.csv", "train:b.csv"),
        ('{"path": "/home/al/x", "n": [1, "/a/b"]}', '{"path": "x", "n": [1, "b"]}'),
        ('["/home/al/x"', '["x"'),
        ({"a": ["/b/c", None, 1.5, True]}, {"a": ["c", None, 1.5, True]}),
        *[(same, same) for same in ("outputs/pos", "./a", "../a", "and/or", "https://hub/a/b", "s3://b/c", "a b", "")],
        *[(same, same) for same in (r"\t", "1/2", "alice/pos", "text of 3 / 4", "~")],
    ],
)
def test_folders_of_absolute_paths_are_hidden(value, expected):
    assert hide_folders(value) == expected
