r"""Show what a corpus holds, and what is suspicious in it; training shows the same before it begins.

    rnn-hf inspect --train_file reviews.csv --test_file test.csv
    rnn-hf inspect --task token-classification --train_file train.conll --tokenizer_name outputs/entities

The options of the data are those of the training commands. Every row is checked, and nothing is trained or written.
"""

import sys
from dataclasses import dataclass, field
from typing import Literal

from ..data.corpus import load_corpus
from ..data.report import report_on
from ..data.report_table import print_report
from ..formats.arguments import DataArguments, Task
from ..text.encoding import NO_LIMIT
from ..training.evaluate import quieten
from ..training.options import DataclassParser
from ..training.presets import may_tell_ends
from ..training.tokenizer_setup import load_tokenizer
from ..utils.command_line import command
from ..utils.secrets import find_secrets


@dataclass
class InspectArguments:
    """What is shown of a corpus."""

    _argument_group_name = "report"

    task: Task = field(default="text-classification", metadata={"help": "What the data is for."})
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = field(
        default=None, metadata={"help": "What the labels are. (default: seen from the labels)"}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "Tokenizer to count tokens with: a hub id or a folder, also of a model."}
    )
    examples: bool = field(default=True, metadata={"help": "Show the first two examples of the training data."})


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line, read the data, and show what it holds."""
    parser = DataclassParser((DataArguments, InspectArguments), prog="rnn-hf inspect", description=__doc__)
    data_arguments, options, _ = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    quieten()
    if options.problem_type is not None and options.task == "token-classification":
        raise ValueError("--problem_type is for classifiers: each word has one tag. Leave it out.")
    if data_arguments.max_seq_length is not None and options.tokenizer_name is None:
        raise ValueError("--max_seq_length counts tokens: name a --tokenizer_name, or leave it out.")
    corpus = load_corpus(data_arguments, options.task, options.problem_type)
    if corpus.auxiliary_column is None and may_tell_ends(corpus.label_names):
        corpus.auxiliary_names = []  # as in training, by its defaults
    tokenizer = encoded = None
    if options.tokenizer_name is not None:
        tokenizer = load_tokenizer(options.tokenizer_name)
        tokenizer.model_max_length = data_arguments.max_seq_length or NO_LIMIT
        encoded = corpus.encode(tokenizer, data_arguments.max_seq_length)
    secrets = find_secrets(sys.argv, vars(data_arguments))
    print_report(report_on(corpus, data_arguments, tokenizer, encoded, options.examples, secrets))
