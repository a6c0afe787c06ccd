"""Make text safe to show: on a terminal, and in the Markdown of a model card.

Labels, tokens and file names come from strangers. Shown as they are, they could move the cursor, hide what stands
before them, break a table, or turn into markup.
"""

import json
import re
import unicodedata
from typing import Any

# What reorders the text around it (https://trojansource.codes), beside the control characters.
_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~!$])")
_ROOT = r"(?:file:/+|~[\w.-]*(?=[\\/])|[A-Za-z]:(?=[\\/])|(?=/|\\\\))"
_ABSOLUTE = re.compile(rf"{_ROOT}.*", re.DOTALL)
# Within other text a path ends at white space, quotes and brackets; what follows a scheme is no path.
_ABSOLUTE_WITHIN = re.compile(rf"(?<![\w.~/\\-])(?<!:(?=//)){_ROOT}[\\/][^\s'\",;\])}}]*")


def printable(text: str) -> str:
    r"""Escape what a terminal would obey, or what would end a line or a cell of a table.

    Control characters, line breaks, tabs, lone surrogates and marks that reverse the direction of text are written as
    Python escapes; everything else, in any script, stays.

    Args:
        text (`str`): Any text.

    Returns:
        `str`: one line of text.

    Example:
    ```python
    >>> from rnn_hf.utils.display import printable
    >>> print(printable("\x1b[2Jred\talert"), printable("東京"))
    \x1b[2Jred\talert 東京

    ```
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(_escaped(character) if _is_unsafe(character) else character for character in text)


def one_line(text: str) -> str:
    r"""Put a message of several lines on one, and make it printable.

    Example:
    ```python
    >>> from rnn_hf.utils.display import one_line
    >>> one_line("Something\n   is wrong.\n")
    'Something is wrong.'

    ```
    """
    return printable(" ".join(text.split()))


def markdown(text: str) -> str:
    r"""Escape text for a line of Markdown, or for a cell of a table in it.

    Args:
        text (`str`): Any text; white space of any kind becomes a single space.

    Returns:
        `str`: Markdown that renders as the text: no markup, no HTML, no further column.

    Example:
    ```python
    >>> from rnn_hf.utils.display import markdown
    >>> print(markdown("a|b *c* <d>"))
    a\|b \*c\* &lt;d&gt;

    ```
    """
    escaped = _MARKDOWN.sub(r"\\\1", printable(" ".join(text.split())))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_code(text: str) -> str:
    r"""Write text as code within a line of Markdown, or within a cell of a table in it.

    Args:
        text (`str`): Any text.

    Returns:
        `str`: the text between as many backticks as it needs. Text with a pipe becomes an HTML element, because tables
        take every bare pipe for a border, also within code, and other lines show the backslash that prevents it.

    Example:
    ```python
    >>> from rnn_hf.utils.display import markdown_code
    >>> print(markdown_code("B-LOC"), markdown_code("a`b"), markdown_code("a|b"))
    `B-LOC` `` a`b `` <code>a&#124;b</code>

    ```
    """
    text = printable(text) or " "
    if "|" in text:
        return f"<code>{markdown(text)}</code>".replace("\\|", "&#124;")
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest or text != text.strip() else ""
    return f"{fence}{space}{text}{space}{fence}"


def markdown_block(text: str, language: str = "text") -> str:
    r"""Write text as a block of code in Markdown.

    Args:
        text (`str`): Any text; its lines stay lines.
        language (`str`): What the code is written in.

    Returns:
        `str`: the block, between fences that nothing in the text closes.

    Example:
    ```python
    >>> from rnn_hf.utils.display import markdown_block
    >>> print(markdown_block("cell_type: gru\n", "yaml"))
    ```yaml
    cell_type: gru
    ```

    ```
    """
    lines = [printable(line.expandtabs(4)) for line in text.strip("\n").split("\n")]
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return "\n".join([f"{fence}{language}", *lines, fence])


def json_line(value: Any) -> str:
    r"""Write a value as JSON on one line that is safe on a terminal.

    Args:
        value: Anything that JSON can hold.

    Returns:
        `str`: JSON in which every script is readable, and what [`printable`] escapes is escaped.

    Example:
    ```python
    >>> from rnn_hf.utils.display import json_line
    >>> print(json_line({"label": "東京\u2028", "text": "\ud800"}))
    {"label": "東京\u2028", "text": "\ud800"}

    ```
    """
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable() and text.isascii():
        return text
    # Whatever is unsafe lies in the first plane, so that four digits are enough.
    return "".join(f"\\u{ord(one):04x}" if _is_unsafe(one) else one for one in text)


def shorten(text: str, width: int) -> str:
    """Cut a text that is too long for its place.

    Args:
        text (`str`): Any text.
        width (`int`): Most characters.

    Returns:
        `str`: the text, or its beginning and an ellipsis.

    Example:
    ```python
    >>> from rnn_hf.utils.display import shorten
    >>> shorten("business", 8), shorten("entertainment", 8)
    ('business', 'enterta…')

    ```
    """
    return text if len(text) <= width else f"{text[: width - 1]}…"


def hide_folders(value: Any) -> Any:
    """Leave folders out of absolute paths, which tell others of somebody's machine and nothing else.

    Args:
        value: A text, with or without paths in it, or anything that JSON can hold.

    Returns:
        The same; of absolute paths only the last part is left. Relative ones, and addresses, stay.

    Example:
    ```python
    >>> from rnn_hf.utils.display import hide_folders
    >>> hide_folders(["/home/al/my data/a.csv", "--config=/home/al/b.yaml", "outputs/pos", "s3://bucket/c.csv"])
    ['a.csv', '--config=b.yaml', 'outputs/pos', 's3://bucket/c.csv']

    ```
    """
    if isinstance(value, dict):
        return {hide_folders(key): hide_folders(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [hide_folders(one) for one in value]
    if not isinstance(value, str):
        return value
    if value.startswith("--") and "=" in value:
        name, _, rest = value.partition("=")
        return f"{name}={hide_folders(rest)}"
    if value[:1] in ("{", "["):
        try:
            return json.dumps(hide_folders(json.loads(value)), ensure_ascii=False)
        except ValueError:
            pass
    if _ABSOLUTE.fullmatch(value):
        return _last_part(value)
    return _ABSOLUTE_WITHIN.sub(lambda found: _last_part(found[0]), value)


def _last_part(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or path


def _is_unsafe(character: str) -> bool:
    return character in _BIDIRECTIONAL or unicodedata.category(character) in _UNSAFE_CATEGORIES


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


__all__ = [
    "hide_folders",
    "json_line",
    "markdown",
    "markdown_block",
    "markdown_code",
    "one_line",
    "printable",
    "shorten",
]
