r"""Train a recurrent text classifier: topics, sentiments, intents; one label or several, or a number.

    rnn-hf train-classifier --train_file reviews.csv --label_column stars --output_dir outputs/reviews

    rnn-hf train-classifier --dataset_name clinc/clinc_oos --dataset_config_name plus \
        --label_column intent --pooling max --output_dir outputs/intents

Without validation or test data a part of the training data is held out. Every option can also stand in a YAML or
JSON file: --config options.yaml. Several processes: torchrun --nproc_per_node 2 -m rnn_hf train-classifier ...
"""

from ..training.options import parse_arguments
from ..training.train import train
from ..utils.command_line import command


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    train("text-classification", *parse_arguments("text-classification", __doc__ or "", argv))
