r"""Make a demo page of trained models, as a static Space: what one types is labelled and explained in the browser.

    rnn-hf space outputs/reviews outputs/reviews_space
    rnn-hf space outputs/quickstart/topics_classifier outputs/quickstart/tags_tagger outputs/demo --title "Quick start"
    rnn-hf push-space outputs/reviews_space alice/reviews-demo

The folder holds README.md, the page, and for each model its int8 graph and tokenizer. What the page says of a model,
its examples and its limits come from the model card. To see the page before it is pushed, serve the folder:

    python -m http.server --directory outputs/reviews_space

The page fetches two JavaScript libraries from cdn.jsdelivr.net. With --libraries it has a copy of them, and runs
offline.
"""

from transformers.utils import logging

from ..utils.command_line import CommandParser, command


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and make the Space."""
    parser = CommandParser(prog="rnn-hf space", description=__doc__)
    parser.add_argument("models", nargs="+", help="folders or hub ids of trained models")
    parser.add_argument("output_dir", help="folder to write to")
    parser.add_argument("--title", help="title of the page; else that of the first model")
    parser.add_argument("--libraries", help="folder node_modules to copy the page's libraries from")
    options = parser.parse_args(argv)
    logging.disable_progress_bar()
    from ..sharing.space import make_space

    files = make_space(options.models, options.output_dir, title=options.title, libraries=options.libraries)
    for name, size in files.items():
        print(f"{size / 1e6:8.2f} MB  {options.output_dir}/{name}")
