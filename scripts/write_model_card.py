"""Write the model card of a trained model anew, from the files in its folder; sections of your own stay.

python scripts/write_model_card.py outputs/pos --license apache-2.0 --language en
"""

import argparse
import sys

from rnn_hf.model_card import write_model_card


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="output folder of a training run")
    parser.add_argument("--license", help="the model's licence, as the hub calls it")
    parser.add_argument("--language", nargs="+", help="ISO 639 codes of the languages")
    parser.add_argument("--dataset_pretty_name", help="what the data is called")
    try:
        print(write_model_card(**vars(parser.parse_args())))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
