"""What may import what, and that nothing is pickled."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rnn_hf"
MODULES = sorted(PACKAGE.glob("*.py"))
SCRIPTS = sorted((PACKAGE.parent / "scripts").glob("*.py"))
# The parts of the package that run a model; they travel with it and need its requirements only.
TRAVELLING = [path for path in MODULES if path.stem.endswith("_rnn")]
CORE_REQUIREMENTS = {"torch", "transformers", "tokenizers", "huggingface_hub", "safetensors"}
# From what everything builds on, to what builds on everything.
LAYERS = [
    {"configuration_rnn", "display", "download", "losses_rnn", "model_files", "packing_rnn", "secrets"},
    {
        "checkpoints",
        "command_line",
        "crf_rnn",
        "embeddings_rnn",
        "inputs_rnn",
        "language_model_rnn",
        "padded_rnn",
        "pictures",
        "pooling_rnn",
        "stepwise_rnn",
    },
    {"messages", "recurrence_rnn"},
    {"data_arguments", "modeling_rnn", "tokenization"},
    {"data_collator", "data_files", "spelling"},
    {"batching", "prediction", "metrics", "data_checks", "vectors", "onnx_graph"},
    {"data", "export", "onnx_model", "task_metrics"},
    {"training_args"},
    {"argument_checks", "building", "run_record", "trainer"},
    {"evaluation"},
    {"model_card"},
    {"hub"},
    {"training"},
]
CORE = {
    "__init__",
    "download",
    "model_files",
    "prediction",
    "data_collator",
    "spelling",
    "tokenization",
    *(path.stem for path in TRAVELLING),
}


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Name the modules of the package, and the other packages, that a file imports."""
    own, other = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"{path.name}: modules of one folder import each other as `from .x import y`"
            assert node.module, f"{path.name}: `from . import x` fails when the file travels with a model"
            own.add(node.module)
        elif isinstance(node, ast.ImportFrom):
            other.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            other.update(name.name.partition(".")[0] for name in node.names)
    return own, other


@pytest.mark.parametrize("path", TRAVELLING, ids=lambda path: path.stem)
def test_what_travels_needs_only_what_travels(path):
    own, other = imports(path)
    assert all(name.endswith("_rnn") for name in own)
    assert other <= CORE_REQUIREMENTS | set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem in CORE], ids=lambda path: path.stem)
def test_the_core_runs_without_what_training_needs(path):
    assert imports(path)[1] <= CORE_REQUIREMENTS | set(sys.stdlib_module_names)


def test_modules_build_on_earlier_ones_only():
    rank = {name: place for place, layer in enumerate(LAYERS) for name in layer}
    assert set(rank) == {path.stem for path in MODULES} - {"__init__"}
    for path in MODULES:
        if path.stem != "__init__":
            for name in imports(path)[0]:
                assert rank[name] < rank[path.stem], f"{path.stem} imports {name}"


def test_importing_the_package_loads_no_training_library():
    code = "import sys, rnn_hf; print([name for name in ('datasets', 'evaluate', 'sklearn') if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda path: path.stem)
def test_code_from_elsewhere_is_never_trusted_by_default(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert ast.unparse(node.value) == "False"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_is_pickled(path):
    assert imports(path)[1].isdisjoint({"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"})
    text = path.read_text(encoding="utf-8")
    assert "torch.load(" not in text
    assert "torch.save(" not in text
