r"""Fine-tune a transformer as a teacher for recurrent models, with the stock Trainer.

    rnn-hf train-teacher google-bert/bert-base-uncased --train_file reviews.csv --output_dir outputs/teacher
    rnn-hf train-classifier --train_file reviews.csv --teacher outputs/teacher --output_dir outputs/student

The options of the data are those of the other training commands. The folder is a stock checkpoint of transformers.
"""

from dataclasses import dataclass, field
from typing import Literal

from ..formats.arguments import DataArguments, Task
from ..training.options import DataclassParser
from ..training.teacher_training import TeacherTrainingArguments, train_teacher
from ..utils.command_line import command


@dataclass
class TeacherArguments:
    """What a teacher is trained for."""

    _argument_group_name = "task"

    task: Task | None = field(
        default=None, metadata={"help": "What the data is for. (default: seen from the file and its columns)"}
    )
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = field(
        default=None, metadata={"help": "What the labels are. (default: seen from the labels)"}
    )


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = DataclassParser(
        (DataArguments, TeacherArguments, TeacherTrainingArguments),
        prog="rnn-hf train-teacher",
        usage="%(prog)s [options] --output_dir DIR MODEL",
        description=__doc__,
    )
    parser.add_argument("model", help="folder or hub id of a transformer")
    data, options, training, rest = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    if training.output_dir is None or training.output_dir == "trainer_output":
        parser.error("say with --output_dir where the teacher shall be saved")
    train_teacher(rest.model, data, training, options.task, options.problem_type)
