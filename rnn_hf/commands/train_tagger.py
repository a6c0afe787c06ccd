r"""Train a recurrent tagger: parts of speech, chunks, named entities.

    rnn-hf train-tagger --train_file train.conllu --validation_file dev.conllu --test_file test.conllu \
        --output_dir outputs/pos

    rnn-hf train-tagger --train_file ner.jsonl --tokens_column words --tags_column ner \
        --cell_type gru --hidden_size 384 --output_dir outputs/ner

Without validation or test data a part of the training data is held out. Every option can also stand in a YAML or
JSON file: --config options.yaml. Several processes: torchrun --nproc_per_node 2 -m rnn_hf train-tagger ...
"""

from ..training.options import parse_arguments
from ..training.train import train
from ..utils.command_line import command


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    train("token-classification", *parse_arguments("token-classification", __doc__ or "", argv))
