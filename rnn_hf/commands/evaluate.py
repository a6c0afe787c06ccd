"""Score a saved model on a split of a corpus.

    rnn-hf evaluate outputs/pos --test_file test.conllu
    rnn-hf evaluate outputs/reviews --split validation --validation_file dev.csv
    rnn-hf evaluate outputs/intents --test_file test.csv --out_of_scope_file others.csv
    rnn-hf evaluate outputs/pos_onnx --onnx_file_name onnx/model_int8.onnx --test_file test.conllu

The results are printed, and written as JSON into --output_dir.
"""

from ..data.corpus import DataArguments
from ..training.evaluate import evaluate_checkpoint
from ..training.options import DataclassParser
from ..utils.command_line import command


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and evaluate."""
    parser = DataclassParser(
        DataArguments, prog="rnn-hf evaluate", usage="%(prog)s [options] MODEL", description=__doc__
    )
    parser.add_argument("model", help="folder or hub id of a trained model")
    parser.add_argument("--revision", help="branch, tag or commit of a model on the hub")
    parser.add_argument("--split", choices=["train", "validation", "test"], default="test", help="what to score")
    parser.add_argument("--output_dir", default="outputs/evaluation", help="folder for {split}_results.json")
    parser.add_argument("--batch_size", type=int, default=128, help="examples in a batch")
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        help="type of the numbers that layers compute with; float32, so that scores are the same on each machine; "
        "bfloat16, or auto, which takes the faster one as rnn-hf predict does (default: float32)",
    )
    parser.add_argument("--onnx_file_name", help="an exported graph in the folder, to score it instead of the weights")
    parser.add_argument(
        "--out_of_scope_file",
        help="texts with none of the model's labels: score how well their probability tells them from the others",
    )
    parser.add_argument(
        "--rejection_threshold",
        type=float,
        help="beside --out_of_scope_file, the probability below which texts are rejected (default: the highest that "
        "keeps 95 percent of the right predictions)",
    )
    data_arguments, options = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    evaluate_checkpoint(
        options.model,
        data_arguments,
        options.split,
        options.output_dir,
        options.batch_size,
        options.revision,
        options.onnx_file_name,
        options.out_of_scope_file,
        options.rejection_threshold,
        options.precision,
    )
