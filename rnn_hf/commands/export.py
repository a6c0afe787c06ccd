r"""Export a trained classifier or tagger to ONNX, to run it without torch.

    rnn-hf export outputs/reviews outputs/reviews_onnx --int8
    rnn-hf export outputs/pos outputs/pos             # adds the folder onnx to the model's own
    rnn-hf predict outputs/reviews_onnx reviews.txt --backend onnx --file_name onnx/model_int8.onnx

The output folder holds config.json and the tokenizer, and

- onnx/model.onnx: the model's results to float32 precision, for any batch and padding;
- onnx/model_int8.onnx, with --int8: a quarter of the size. An LSTM is several times as fast; GRU and simple RNN layers
  become smaller, but not faster, for onnxruntime has no int8 operator for them. What it costs in accuracy:

    rnn-hf evaluate outputs/pos --onnx_file_name onnx/model_int8.onnx --test_file test.conllu \
        --output_dir outputs/pos/onnx

In the folder of a training run the model card then lists the graphs, their speed, and these scores.

With --browser, the folder is for `pipeline` of transformers.js, in browsers and under Node. It holds config.json, the
tokenizer in the form that JavaScript reads as Python does, onnx/model.onnx and onnx/model_quantized.onnx (int8):

    rnn-hf export outputs/reviews outputs/reviews_browser --browser
"""

from pathlib import Path

from transformers.utils import logging

from ..inference.model_files import read_json
from ..utils.command_line import CommandParser, command


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and export."""
    parser = CommandParser(prog="rnn-hf export", description=__doc__)
    parser.add_argument("model", help="folder or hub id of a trained model")
    parser.add_argument("output_dir", help="folder to write to")
    parser.add_argument("--int8", action="store_true", help="write the quantised graph too")
    parser.add_argument("--browser", action="store_true", help="write a folder for transformers.js, with both graphs")
    parser.add_argument("--opset", type=int, default=18, help="version of ONNX's operators")
    options = parser.parse_args(argv)
    logging.disable_progress_bar()
    if options.browser:
        from ..export.browser import export_for_browser

        _show(options.output_dir, export_for_browser(options.model, options.output_dir, opset=options.opset))
        return
    from ..export.folder import export

    run = Path(options.output_dir) / "run.json"
    if run.is_file():
        read_json(run)  # before what takes long
    _show(options.output_dir, export(options.model, options.output_dir, opset=options.opset, int8=options.int8))
    if run.is_file():
        from ..sharing.model_card import write_model_card
        from ..sharing.run_record import record_export

        record_export(Path(options.output_dir))
        print(f"the model card, {write_model_card(options.output_dir)}, tells of them")


def _show(folder: str, files: dict[str, int]) -> None:
    for name, size in files.items():
        print(f"{size / 1e6:8.2f} MB  {folder}/{name}")
