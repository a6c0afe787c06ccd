"""Make text safe to show: on a terminal, and in the Markdown of a model card.

Labels, tokens and file names come from strangers. Shown as they are, they could move the cursor, hide what stands
before them, break a table, or turn into markup.
"""

import re
import unicodedata

# What reorders the text around it (https://trojansource.codes), beside the control characters.
_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~!$])")


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
    >>> from rnn_hf.display import printable
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
    >>> from rnn_hf.display import one_line
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
    >>> from rnn_hf.display import markdown
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
        `str`: the text between as many backticks as it needs.

    Example:
    ```python
    >>> from rnn_hf.display import markdown_code
    >>> print(markdown_code("B-LOC"), markdown_code("a`b"), markdown_code("a|b"))
    `B-LOC` `` a`b `` `a\|b`

    ```
    """
    text = printable(text) or " "
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest or text != text.strip() else ""
    # A table takes every bare pipe for a border, also within code.
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


def _is_unsafe(character: str) -> bool:
    return character in _BIDIRECTIONAL or unicodedata.category(character) in _UNSAFE_CATEGORIES


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


__all__ = ["markdown", "markdown_code", "one_line", "printable"]
