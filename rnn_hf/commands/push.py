"""Upload a trained model to the Hugging Face hub: code, weights, tokenizer, model card and results, as one commit.

    rnn-hf push outputs/pos alice/pos --dry_run
    rnn-hf push outputs/pos alice/pos --private

Log in before with `hf auth login`, or set HF_TOKEN. A push that was interrupted can be repeated.
"""

from ..sharing.hub import push_folder
from ..utils.command_line import CommandParser, command


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line, push, and print the address."""
    parser = CommandParser(prog="rnn-hf push", description=__doc__)
    parser.add_argument("folder", help="output folder of a training run")
    parser.add_argument("repo_id", help="repository on the hub, namespace/name; made where it is missing")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", help="branch to push to, made where it is missing")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request")
    parser.add_argument("--dry_run", action="store_true", help="only show what would be uploaded, without network")
    options = parser.parse_args(argv)
    address = push_folder(
        options.folder,
        options.repo_id,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        dry_run=options.dry_run,
    )
    if address is not None:
        print(address)
