r"""Serve an exported model over HTTP: requests that wait at the same time run in one batch.

    rnn-hf export outputs/reviews outputs/reviews_onnx
    rnn-hf serve outputs/reviews_onnx --port 8000
    curl localhost:8000 -d '{"inputs": "a good film", "parameters": {"top_k": null}}'
    curl localhost:8000/health

A request has a text or a list of texts, and the parameters that Inference Endpoints take: top_k of a classifier,
aggregation_strategy and ignore_labels of a tagger. SIGTERM and Ctrl-C end the server after the requests that have
arrived. It listens on this machine alone unless --host names another address; it has no passwords and no encryption, so
put it behind a server that has.
"""

import contextlib
import os
from dataclasses import fields

from ..utils.command_line import CommandParser, command, positive_int


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and serve."""
    parser = CommandParser(prog="rnn-hf serve", description=__doc__)
    parser.add_argument("model", help="folder or hub id of an exported model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.add_argument("--file_name", default="onnx/model.onnx", help="the graph in the model's folder")
    parser.add_argument("--num_workers", type=positive_int, default=1, help="threads, with a batch each")
    parser.add_argument("--max_batch_size", type=positive_int, default=64, help="most texts in a batch")
    parser.add_argument("--max_body_size", type=positive_int, default=1_000_000, help="most bytes of a request")
    parser.add_argument("--max_texts", type=positive_int, default=256, help="most texts of a request")
    parser.add_argument("--max_characters", type=positive_int, default=50_000, help="most characters of a text")
    parser.add_argument("--max_waiting", type=positive_int, default=1024, help="most requests that wait")
    parser.add_argument("--timeout", type=float, default=10.0, help="most seconds of a request")
    options = parser.parse_args(argv)
    if not 0 < options.timeout < 3600:
        parser.error(f"--timeout must be above 0 and below 3600 seconds, got {options.timeout:g}")
    import uvicorn  # noqa: F401  (before what takes long)
    from transformers.utils import cached_file

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a thread for each worker
    from ..export.handler import EndpointHandler
    from ..export.server import Limits, PredictionServer, serve
    from ..inference.download import find_folder

    folder = find_folder(options.model, weights=False)
    with contextlib.suppress(OSError):
        cached_file(options.model, options.file_name)  # from the hub, into the same folder
    handler = EndpointHandler(str(folder), options.file_name, num_threads=1)
    limits = Limits(**{one.name: getattr(options, one.name) for one in fields(Limits)})
    serve(PredictionServer(handler, limits, options.num_workers), options.host, options.port)
