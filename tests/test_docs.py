"""What the READMEs and CONTRIBUTING.md name exists, and their examples run."""

import contextlib
import dataclasses
import doctest
import importlib.util
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from rnn_hf import RnnConfig

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "scripts/README.md", "model_cards/README.md", "CONTRIBUTING.md"]
# The script that does what a command of `rnn-hf` does.
SCRIPTS = {
    "train-classifier": "train_classifier",
    "train-tagger": "train_tagger",
    "train-teacher": "train_teacher",
    "pretrain": "pretrain",
    "inspect": "inspect_data",
    "predict": "predict",
    "evaluate": "evaluate_checkpoint",
    "export": "export_onnx",
    "push": "push_to_hub",
    "space": "space",
    "push-space": "push_space",
    "serve": "serve",
    "card": "write_model_card",
    "benchmark": "benchmark",
}
# Scripts that pass what they do not know on to a training.
PASS_ON = {"reproduce", "benchmark"}
# Options of the parser itself, and of torchrun.
GENERAL = {"help", "help_all", "debug", "config", "nproc_per_node", "nnodes", "rdzv_backend", "rdzv_endpoint"}
# Words that another one of the field stands for.
OLD_WORDS = {
    r"places": "positions, indices",
    r"readings?": "forward passes",
    r"spellings?": "character CNN, character features",
    r"vectors? from outside|static vectors?": "pretrained word vectors",
    r"own vectors?": "word embedding",
    r"(?:tags|labels) of a second kind|auxiliary tags": "auxiliary labels",
    r"words? read whole|read to (?:its|their) ends?": "first/last subword pooling",
    r"divergence": "symmetric_kl",
    r"pictures?": "plots",
    r"building": "model setup",
    r"data_checks|data checks": "validation",
    r"gives? up": "drops",
    r"go(?:es)? on with": "resumes",
    r"stays? at home": "is not uploaded",
    r"answers?": "predictions",
}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_of(page: str) -> list[str]:
    """Return the lines of a page's indented blocks, and the code in its text, with continued lines joined."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    joined = re.sub(r"\\\n\s+", "", text)
    indented = re.findall(r"^    (\S.*)$", joined, re.MULTILINE)
    return indented + [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", joined)]


def training_options() -> set[str]:
    """Name the fields of the dataclasses that training takes."""
    modules = [
        "rnn_hf.formats.arguments",
        "rnn_hf.data.text_corpus",
        "rnn_hf.training.arguments",
        "rnn_hf.training.options",
    ]
    found: set[str] = set()
    for name in filter(importlib.util.find_spec, modules):
        for one in vars(importlib.import_module(name)).values():
            if isinstance(one, type) and dataclasses.is_dataclass(one):
                found.update(field.name for field in dataclasses.fields(one))
    return found


def script_options(script: str) -> set[str]:
    """Name the options in a script's `--help`."""
    spec = importlib.util.spec_from_file_location(f"docs_{script}", ROOT / "scripts" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    shown = io.StringIO()
    spec.loader.exec_module(module)
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code in (0, None)
    return set(re.findall(r"--(\w[\w-]*)", shown.getvalue()))


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of each script."""
    training = training_options()
    found = dict.fromkeys(("train_classifier", "train_tagger", "pretrain"), training)
    others = ({*SCRIPTS.values(), "reproduce", "quickstart"}) - found.keys()
    return found | {one: script_options(one) | (training if one in PASS_ON else set()) for one in sorted(others)}


def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 220


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT).as_posix()), f"{page} links to {link}"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    for name in re.findall(r"`((?:rnn_hf|tests|scripts|model_cards)/[\w/.]+)`", text_of(page)):
        assert (ROOT / name).exists(), f"{page} names {name}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page, options):
    every = set().union(*options.values()) | GENERAL
    for line in code_of(page):
        named = set(re.findall(r"(?<![\w-])--(\w[\w-]*)", line))
        command = re.search(r"(?:rnn-hf|-m rnn_hf) ([a-z-]+)", line)
        script = re.search(r"\bpython scripts/(\w+)\.py", line)
        if command:
            assert command[1] in SCRIPTS, f"{page}: {line}"
            known = options[SCRIPTS[command[1]]] | GENERAL
        elif script:
            assert script[1] in options, f"{page}: {line}"
            known = options[script[1]] | GENERAL
        else:
            known = every
        assert named <= known, f"{page}: {line} has no option {', '.join(sorted(named - known))}"


def test_every_command_is_described():
    described = re.findall(
        r"^\| `rnn-hf ([\w-]+)` \| `scripts/(\w+)\.py` \|", text_of("scripts/README.md"), re.MULTILINE
    )
    assert dict(described) == SCRIPTS


def test_defaults_are_those_of_the_code():
    from rnn_hf.training.arguments import RnnTrainingArguments, TokenizerArguments

    rows = re.findall(r"^\| `--(\w+)` \| ([\w.]+) \|", text_of("scripts/README.md"), re.MULTILINE)
    assert len(rows) > 10
    for name, default in rows:
        owner = next(one for one in (RnnConfig, TokenizerArguments, RnnTrainingArguments) if hasattr(one, name))
        # `vocab_size` is the largest one of a new tokenizer.
        owner = TokenizerArguments if name in TokenizerArguments.__dataclass_fields__ else owner
        assert default == str(getattr(owner, name)).lower(), name


@pytest.mark.parametrize("page", PAGES)
def test_words_are_those_of_the_field(page):
    for pattern, instead in OLD_WORDS.items():
        found = re.search(rf"(?<![\w/]){'(?:' + pattern + ')'}(?!\w)", text_of(page), re.IGNORECASE)
        assert found is None, f"{page}: {found and found[0]!r} should be: {instead}"


def test_the_map_names_every_module():
    rows = re.findall(r"^\|([^|]*)\|([^|]*)\|([^|]*)\|$", text_of("CONTRIBUTING.md"), re.MULTILINE)
    named: dict[str, set[str]] = {}
    folder = ""
    for first, modules, _ in rows:
        folder = first.strip(" `/") or folder
        named.setdefault(folder, set()).update(re.findall(r"`(\w+)`", modules))
    for folder, modules in named.items():
        if modules:  # else each is a command
            there = {path.stem for path in (ROOT / "rnn_hf" / folder).glob("*.py")} - {"__init__"}
            assert modules == there, f"{folder}/: the map and the folder differ in {sorted(modules ^ there)}"
    folders = {path.parent.name for path in (ROOT / "rnn_hf").glob("*/__init__.py")}
    assert folders == named.keys() - {"Folder", "---"}


@pytest.mark.parametrize("page", ["scripts/README.md"])  # README.md itself is collected by pytest
def test_examples_run(page, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    results = doctest.testfile(str(ROOT / page), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_python_is_written_as_examples_that_run(page):
    blocks = re.findall(r"^```python\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
    assert all(block.startswith(">>> ") for block in blocks)
    assert not blocks or page in ("README.md", "scripts/README.md")
