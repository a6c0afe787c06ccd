"""Upload a demo page that `rnn-hf space` made to the Hugging Face hub, as a static Space.

    rnn-hf push-space outputs/reviews_space alice/reviews-demo --dry_run
    rnn-hf push-space outputs/reviews_space alice/reviews-demo

Log in before with `hf auth login`, or set HF_TOKEN. A push that was interrupted can be repeated.
"""

from ..sharing.hub import push_space
from ..utils.command_line import CommandParser, command


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line, push, and print the address."""
    parser = CommandParser(prog="rnn-hf push-space", description=__doc__)
    parser.add_argument("folder", help="folder that `rnn-hf space` wrote")
    parser.add_argument("repo_id", help="Space on the hub, namespace/name; made where it is missing")
    parser.add_argument("--private", action="store_true", help="make a new Space private")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request")
    parser.add_argument("--dry_run", action="store_true", help="only show what would be uploaded, without network")
    options = parser.parse_args(argv)
    address = push_space(
        options.folder,
        options.repo_id,
        private=options.private,
        create_pr=options.create_pr,
        dry_run=options.dry_run,
    )
    if address is not None:
        print(address)
