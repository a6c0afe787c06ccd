"""What may import what, and that nothing is pickled."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rnn_hf"
MODULES = sorted(path for path in PACKAGE.rglob("*/*.py") if not path.name.startswith("__"))
SCRIPTS = [
    *sorted((PACKAGE.parent / "scripts").glob("*.py")),
    PACKAGE / "__main__.py",
    PACKAGE / "cli.py",
]
# Each folder may import from those before it.
FOLDERS = ["utils", "models", "text", "formats", "data", "inference", "export", "engines", "sharing"]
FOLDERS += ["evaluation", "linear", "objectives", "optimizers", "training", "benchmarks", "commands"]
# What `pip install rnn_hf` brings, which is enough to load a model and to run it.
CORE_REQUIREMENTS = {"torch", "transformers", "tokenizers", "huggingface_hub", "safetensors"}
CORE = [path for path in MODULES if path.parent.name in ("models", "inference")]
CORE += [
    PACKAGE / name
    for name in ("__init__.py", "data/collator.py", "text/tokenization.py", "text/encoding.py", "text/characters.py")
]


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Name the package's modules, as `folder.module`, and the other packages, that a file imports."""
    own, other = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = [] if node.level == 2 or path.parent == PACKAGE else [path.parent.name]
            own.add(".".join([*folder, *filter(None, [node.module])]))
        elif isinstance(node, ast.ImportFrom):
            other.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            other.update(name.name.partition(".")[0] for name in node.names)
    return own, other


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by these."""
    names = [path.name for path in sorted(Path(__file__).parent.rglob("test_*.py"))]
    assert sorted(set(names)) == sorted(names)


def test_every_module_stands_in_a_folder():
    assert {path.parent.name for path in MODULES} == set(FOLDERS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_folders_import_from_those_before_them(path):
    allowed = FOLDERS[: FOLDERS.index(path.parent.name) + 1]
    for name in imports(path)[0] - {""}:
        assert name.partition(".")[0] in allowed, f"{name_of(path)} imports {name}"


def test_no_modules_import_each_other_in_a_circle():
    graph = {f"{path.parent.name}.{path.stem}": imports(path)[0] for path in MODULES}
    free: set[str] = set()
    while ready := {name for name, needed in graph.items() if name not in free and needed & graph.keys() <= free}:
        free |= ready
    assert graph.keys() - free == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("[!_]*.py")), ids=name_of)
def test_what_travels_with_a_model_needs_only_what_travels(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, "files that travel import each other as `from .x import y`"
            assert node.module, "`from . import x` fails when the file travels with a model"
    assert imports(path)[1] <= CORE_REQUIREMENTS | set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_runs_without_what_training_needs(path):
    assert imports(path)[1] <= CORE_REQUIREMENTS | set(sys.stdlib_module_names)


def test_importing_the_package_loads_no_training_library():
    code = "import sys, rnn_hf; print([name for name in ('datasets', 'evaluate', 'sklearn') if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_code_from_elsewhere_is_never_trusted_by_default(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert ast.unparse(node.value) == "False"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_pickled(path):
    assert imports(path)[1].isdisjoint({"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"})
    text = path.read_text(encoding="utf-8")
    assert "torch.load(" not in text
    assert "torch.save(" not in text
