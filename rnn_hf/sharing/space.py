"""A static Space: a page that runs classifiers and taggers in the browser."""

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from transformers.utils import cached_file

from ..export.browser_tokenizer import word_splits
from ..inference.loading import is_tagger, load
from ..inference.model_files import read_json
from ..text.encoding import max_length_of
from ..text.raw_text import word_pattern
from ..text.words import has_word_splitter, word_splitter
from ..utils.display import markdown
from ..utils.files import replace_file
from .card_text import read_model_card, sections

PAGE = ("index.html", "index.js", "predictor.js", "style.css")
SETTINGS = "space.json"
# What the page imports, from the host that these libraries name in their documentation, or from a copy.
LIBRARIES = {
    "tokenizers": ("@huggingface/tokenizers", "0.2.0", "dist/tokenizers.min.mjs"),
    "onnxruntime": ("onnxruntime-web", "1.30.0", "dist/ort.wasm.bundle.min.mjs"),
}
_CDN = "https://cdn.jsdelivr.net/npm"
# The runtime itself, which stands beside what loads it.
_RUNTIME = ("onnxruntime-web", "dist/ort-wasm-simd-threaded.wasm")
# Languages without spaces between words, which browsers split.
_WITHOUT_SPACES = ("ja", "km", "lo", "my", "th", "zh")
_HINT = "A text without spaces is split into words by your browser. Put spaces between words to choose them yourself."
_MOST_EXAMPLES = 5


def make_space(
    models: list[str], output_dir: str | Path, *, title: str | None = None, libraries: str | Path | None = None
) -> dict[str, int]:
    """Write the folder of a static Space, whose page labels what one types and explains it.

    The page needs no server but one for files, no build, and no other host than that of its two libraries.

    Args:
        models (`list[str]`): Folders or hub ids of trained classifiers and taggers. Texts, examples and limits come
            from their model cards.
        output_dir (`str` or `Path`): Folder to write to: a new one, or one that this function wrote.
        title (`str`, *optional*): Title of the page; else the name of the first model.
        libraries (`str` or `Path`, *optional*): A folder `node_modules` with `@huggingface/tokenizers` and
            `onnxruntime-web`, of which the page then has a copy. It runs offline.

    Returns:
        `dict[str, int]`: bytes of each file, by its path in the folder.

    Raises:
        ValueError: No model of this package, a folder with other content, or libraries that are not there.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification, train_tokenizer
    >>> from rnn_hf.sharing.space import make_space
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tokenizer = train_tokenizer(["a b a b"], kind="word")
    ...     RnnForSequenceClassification(RnnConfig(vocab_size=len(tokenizer))).save_pretrained(f"{folder}/topics")
    ...     _ = tokenizer.save_pretrained(f"{folder}/topics")
    ...     list(make_space([f"{folder}/topics"], f"{folder}/space"))[:3]
    ['README.md', 'index.html', 'index.js']

    ```
    """
    folder = Path(output_dir)
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"} if folder.exists() else set()
    if SETTINGS not in there and not there <= {"models", "libraries"}:  # as an attempt that failed left them
        raise ValueError(f"{folder} holds something else than a Space of rnn_hf: name a new folder.")
    names = _folder_names(models)
    copies = _library_files(Path(libraries)) if libraries is not None else {}
    abouts = [_add_model(model, folder, name) for model, name in zip(models, names, strict=True)]
    title = title or abouts[0]["title"]
    settings = {
        "title": title,
        "libraries": {
            name: f"./libraries/{Path(file).name}" if copies else f"{_CDN}/{package}@{number}/{file}"
            for name, (package, number, file) in LIBRARIES.items()
        },
        "models": abouts,
    }
    for name, source in copies.items():
        (folder / "libraries").mkdir(exist_ok=True)
        shutil.copyfile(source, folder / "libraries" / name)
    for name in PAGE:
        replace_file(folder / name, Path(__file__).with_name("space_page").joinpath(name).read_text(encoding="utf-8"))
    replace_file(folder / SETTINGS, json.dumps(settings, ensure_ascii=False, indent=1) + "\n")
    replace_file(folder / "README.md", _readme(title, abouts))
    return space_files(folder)


def space_files(folder: str | Path) -> dict[str, int]:
    """List what a Space that [`make_space`] wrote consists of.

    Args:
        folder (`str` or `Path`): Its folder.

    Returns:
        `dict[str, int]`: bytes of each file, by its path in the folder.

    Raises:
        ValueError: The folder holds no such Space.
    """
    folder = Path(folder)
    if not (folder / SETTINGS).is_file():
        raise ValueError(f"{folder} holds no Space, which has a file {SETTINGS}: make one with `rnn-hf space`.")
    names, settings = ["README.md", *PAGE, SETTINGS], read_json(folder / SETTINGS)
    for about in settings["models"]:
        files = ("config.json", "tokenizer.json", "tokenizer_config.json", about["graph"])
        names += [f"{about['folder']}/{name}" for name in files]
    if settings["libraries"]["onnxruntime"].startswith("./"):
        names += [f"libraries/{Path(file).name}" for *_, file in (*LIBRARIES.values(), _RUNTIME)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: make it anew with `rnn-hf space`.")
    return {name: (folder / name).stat().st_size for name in names}


def _folder_names(models: list[str]) -> list[str]:
    names = [re.sub(r"[^\w.-]+", "_", Path(model).resolve().name).strip("._") or "model" for model in models]
    if len(set(names)) < len(names):
        raise ValueError(f"The models' folders must have different names, got {', '.join(names)}.")
    return names


def _library_files(modules: Path) -> dict[str, Path]:
    """Find the files of the libraries, by the names of their copies."""
    parts = [(package, file) for package, _, file in LIBRARIES.values()] + [_RUNTIME]
    files = {Path(file).name: modules / package / file for package, file in parts}
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        wanted = " ".join(f"{package}@{number}" for package, number, _ in LIBRARIES.values())
        raise ValueError(f"{missing[0]} is missing: install it with `npm install {wanted}`.")
    return files


def _add_model(model_name_or_path: str, space: Path, name: str) -> dict[str, Any]:
    """Export a model into a Space, and say what the page must know of it."""
    from ..export.browser import added_tokens, export_for_browser  # they need onnx, which pushing does not

    model, tokenizer = load(model_name_or_path)
    folder, graph = f"models/{name}", "onnx/model_quantized.onnx"
    files = export_for_browser(model_name_or_path, space / folder, float32=False)
    config, tags_words = model.config, is_tagger(model)
    splits_words = tags_words and (has_word_splitter(tokenizer) or word_pattern(tokenizer) is not None)
    prefix, suffix = added_tokens(tokenizer)
    card = _read_card(model_name_or_path)
    language = card["language"]
    segments = tags_words and not has_word_splitter(tokenizer) and language in _WITHOUT_SPACES
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kind = "tagger" if tags_words else "text classifier"
    return {
        "title": card["title"] or name,
        "license": card["license"],
        "folder": folder,
        "graph": graph,
        "task": "token-classification" if tags_words else "text-classification",
        "problem_type": None if tags_words else config.problem_type,
        "labels": config.label_names,
        "thresholds": config.label_thresholds,
        "language": language,
        "summary": card["summary"] or f"A recurrent {kind} with {len(config.label_names)} labels.",
        "limits": card["limits"] or ["It knows its labels only, and predicts one of them for whatever it is given."],
        "examples": card["examples"],
        "facts": f"{config.cell_type}, {parameters:,} parameters, as an int8 graph; rnn_hf {version('rnn_hf')}",
        "hint": _HINT if segments else None,
        "segments": segments,
        "splits": _word_splits(model, tokenizer, splits_words),
        "word_steps": 2 if splits_words else 0,
        "prefix": prefix,
        "suffix": suffix,
        "unknown": tokenizer.unk_token_id if tokenizer.unk_token_id is not None else suffix[-1] if suffix else 0,
        "max_length": None if tags_words else max_length_of(tokenizer),
        "bytes": files[graph],
    }


def _word_splits(model: Any, tokenizer: Any, splits_words: bool) -> list[dict[str, str]]:
    """Say how raw text is split: into a tagger's words, or into those of a text that are left out to explain it."""
    if not is_tagger(model):
        return word_splits(json.loads(word_splitter().__getstate__()))
    state = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]
    return word_splits(state if splits_words else {"type": "WhitespaceSplit"})


def _read_card(model_name_or_path: str) -> dict[str, Any]:
    """Read what the page says of a model from its card."""
    found: dict[str, Any] = {"title": "", "summary": "", "limits": [], "examples": [], "language": None}
    found["license"] = None
    try:
        path = cached_file(model_name_or_path, "README.md")
    except OSError:  # it has none
        return found
    card = read_model_card(Path(str(path)))
    data = card.data.to_dict()
    languages = data.get("language") or []
    found["language"] = languages if isinstance(languages, str) else next(iter(languages), None)
    found["license"] = data.get("license")
    examples = [one.get("text") for one in data.get("widget") or [] if isinstance(one, dict)]
    found["examples"] = [text for text in examples if isinstance(text, str)][:_MOST_EXAMPLES]
    for section in sections(card.text.strip()):
        lines = [line for line in section.splitlines() if not line.startswith("<!--")]
        if match := re.match(r"# (.*)", section):
            paragraphs = "\n".join(lines[1:]).strip().split("\n\n")
            found |= {"title": _plain(match[1]), "summary": _plain(" ".join(paragraphs[0].split()))}
        elif re.match(r"## .*\blimit", section, re.IGNORECASE):
            found["limits"] = [_plain(line[2:]) for line in lines if line.startswith("- ")]
    return found


def _plain(markdown: str) -> str:
    """Take the marks off a line of Markdown."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    text = re.sub(r"(?<!\\)[`*]", "", text)
    return re.sub(r"\\([^\w\s]|_)", r"\1", text).strip()


def _readme(title: str, abouts: list[dict[str, Any]]) -> str:
    licenses = {about["license"] for about in abouts}
    data: dict[str, Any] = {
        "title": title,
        "emoji": "🔤",
        "colorFrom": "indigo",
        "colorTo": "gray",
        "sdk": "static",
        "pinned": False,
        "tags": ["rnn_hf"],
    }
    if len(licenses) == 1 and None not in licenses:
        data["license"] = licenses.pop()
    listed = "\n".join(f"- {markdown(about['title'])}: {markdown(about['summary'])}" for about in abouts)
    return (
        f"---\n{yaml.safe_dump(data, allow_unicode=True, sort_keys=False)}---\n\n"
        f"A page that labels text in the browser, without a server:\n\n{listed}\n\n"
        "Made by `rnn-hf space`. To see it, serve this folder: `python -m http.server`.\n"
    )


__all__ = ["LIBRARIES", "PAGE", "make_space", "space_files"]
