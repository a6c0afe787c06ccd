"""The text of a model card: its sections, which of them are ours, and what an edited card keeps."""

import re
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

MARK = "<!-- Written by rnn_hf. Remove this line, and the section is yours: it will be left alone. -->"


def read_model_card(path: Path) -> ModelCard:
    """Read a card, and check that its metadata can be read.

    Args:
        path (`Path`): `README.md` of a model.

    Raises:
        ValueError: The metadata is no YAML, no mapping, or has a `model-index` without what it needs.
    """
    try:
        return ModelCard.load(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"The metadata at the top of {path} cannot be read: {error}. Correct it.") from error


def with_model_id(text: str, repo_id: str) -> str:
    """Name a repository in those examples of a card that we wrote.

    Args:
        text (`str`): A card.
        repo_id (`str`): The repository.

    Returns:
        `str`: the card, which loads the model from there.

    Example:
    ```python
    >>> from rnn_hf.sharing.card_text import MARK, with_model_id
    >>> text = 'pipeline("text-classification", model="outputs/topics")'
    >>> with_model_id(text, "alice/topics") == text
    True
    >>> with_model_id(f"{MARK} {text}", "alice/topics").removeprefix(MARK)
    ' pipeline("text-classification", model="alice/topics")'

    ```
    """

    def named(section: str) -> str:
        if MARK not in section:
            return section
        return re.sub(r'(pipeline\("[a-z-]+", model=)"(?:[^"\\\n]|\\.)*"', rf'\1"{repo_id}"', section)

    return "".join(named(section) for section in sections(text))


def sections(text: str) -> list[str]:
    """Cut a card's text before each heading of the second level, outside of code."""
    sections, fence = [""], ""
    for line in text.splitlines(keepends=True):
        if mark := re.match(r" {0,3}(`{3,}|~{3,})(.*)", line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif line.startswith("## ") and not fence:
            sections.append("")
        sections[-1] += line
    return sections


def _heading(section: str) -> str:
    return section.splitlines()[0].strip() if section.startswith("## ") else ""


def marked(section: str) -> str:
    """Put our mark below a section's heading, or below the title."""
    return re.sub(r"^(#+ .*)\n", rf"\1\n\n{MARK}\n", section, count=1, flags=re.MULTILINE)


def merged(old: str, new: str) -> str:
    """Replace our sections of an old text, keep all others, and add what is new after what precedes it."""
    ours = {_heading(section): section for section in sections(new)}
    merged = []
    for section in sections(old):
        if MARK not in section:
            merged.append(section)
        elif _heading(section) in ours:
            merged.append(ours[_heading(section)])
    position = 0
    for heading, section in ours.items():
        headings = [_heading(one) for one in merged]
        if heading in headings:
            position = headings.index(heading) + 1
        else:
            merged.insert(position, section)
            position += 1
    return joined(merged)


def joined(sections: list[str]) -> str:
    """Put sections together, with an empty line between them."""
    return "\n\n".join(section.rstrip("\n") for section in sections if section.strip()) + "\n"


__all__ = ["MARK", "joined", "marked", "merged", "read_model_card", "sections", "with_model_id"]
