"""Write the model card of a trained model anew, from the files in its folder; sections of your own stay.

    rnn-hf card outputs/pos --license apache-2.0 --language en

It is made of what training wrote into the folder.
"""

from ..sharing.model_card import write_model_card
from ..utils.command_line import CommandParser, command


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and write."""
    parser = CommandParser(prog="rnn-hf card", description=__doc__)
    parser.add_argument("folder", help="output folder of a training run")
    parser.add_argument("--license", help="the model's licence, as the hub calls it")
    parser.add_argument("--language", nargs="+", help="ISO 639 codes of the languages")
    parser.add_argument("--dataset_pretty_name", help="what the data is called")
    options = parser.parse_args(argv)
    card = write_model_card(
        options.folder,
        license=options.license,
        language=options.language,
        dataset_pretty_name=options.dataset_pretty_name,
    )
    print(card)
