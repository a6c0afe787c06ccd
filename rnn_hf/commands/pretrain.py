r"""Pretrain an encoder on texts without labels, as a language model, to fine-tune it for a task with few labels.

    rnn-hf pretrain --train_file texts.txt --output_dir outputs/encoder
    rnn-hf train-classifier --model_name_or_path outputs/encoder --train_file train.csv --output_dir outputs/reviews

    rnn-hf pretrain --train_file "news/*.jsonl" --text_column body --hidden_size 512 --output_dir outputs/news

It reads from left to right and from right to left, or with --bidirectional false from left to right alone. Every option
can also stand in a YAML or JSON file: --config options.yaml.
"""

from ..training.options import parse_arguments
from ..training.pretrain import pretrain
from ..utils.command_line import command


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and pretrain."""
    pretrain(*parse_arguments("language-modeling", __doc__ or "", argv))
