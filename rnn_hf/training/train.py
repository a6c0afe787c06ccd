"""Train classifiers and taggers."""

import contextlib
import copy
import dataclasses
import json
import math
import sys
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import set_seed
from transformers.trainer_utils import PredictionOutput
from transformers.utils import logging

from ..data.corpus import Corpus, DataArguments, Task, load_corpus
from ..data.examples import SizedStream, iterate_examples
from ..data.report import DataReport, report_on
from ..data.report_table import print_report
from ..data.unlabelled import encode_unlabelled
from ..inference.loading import load_config
from ..inference.model_files import read_json
from ..linear.lexical_solver import join_solution, solve_lexical, weigh_lexical
from ..linear.ngram_choice import set_ngrams
from ..linear.ngram_solver import solve_ngrams
from ..models.labels import span_labels
from ..models.modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification
from ..sharing.hub import push_folder
from ..sharing.model_card import write_model_card
from ..sharing.run_record import record_run
from ..utils.display import printable
from ..utils.files import replace_file
from ..utils.processor import keep_freed_memory
from ..utils.secrets import find_secrets, mask, mask_options
from .argument_checks import check_arguments
from .arguments import RnnTrainingArguments, TokenizerArguments
from .checkpoints import ARGUMENTS, RESULTS, find_checkpoint, list_checkpoints
from .evaluate import print_results, quieten
from .locks import locked
from .model_setup import build, is_encoder
from .precision import keep_precision, record_precision, settle_precision
from .presets import apply_preset
from .runs import Announcement, Watch, check_resumed, compare_options, course, repository, tidy
from .self_training import remove_teachers, settle_self_training, train_teachers
from .soft_labels import teach
from .teacher import Teacher, load_teacher
from .trainer import RnnTrainer
from .trainer_checks import diverged

logger = logging.get_logger(__name__)

_SHUFFLE_BUFFER = 10_000
# What a batch holds beside the inputs.
_TARGETS = ("labels", "auxiliary_tags", "teacher_logits")


def train(
    task: Task,
    data_arguments: DataArguments,
    tokenizer_arguments: TokenizerArguments,
    config_arguments: Any,
    training_arguments: RnnTrainingArguments,
) -> dict[str, float]:
    """Train a model on a corpus, keep the best on validation, test it, and save it.

    With `eval_strategy="no"`, nothing is held out of the training data, and the last state is kept.

    The output folder holds `config.json`, `model.safetensors`, the code, the tokenizer, `all_results.json`, the
    arguments in `training_args.json`, the model card with what it is made from, and the Trainer's `checkpoint-*`
    folders. Only one run at a time may write to it.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        data_arguments ([`DataArguments`]): The corpus.
        tokenizer_arguments ([`TokenizerArguments`]): The tokenizer, or a checkpoint to fine-tune.
        config_arguments (`ConfigArguments`): Fields of the configuration to override.
        training_arguments ([`RnnTrainingArguments`]): Everything else.

    Returns:
        `dict[str, float]`: results with the prefixes `train_`, `eval_` and, where there is test data, `test_`.

    Raises:
        ValueError: For data, arguments or folders that do not fit, and where training diverged: its losses, weights or
            logits are NaN or infinite. The message says what to do.
    """
    check_arguments(task, data_arguments, tokenizer_arguments, config_arguments, training_arguments)
    args = copy.copy(training_arguments)
    output_dir = Path(str(args.output_dir))
    # The Trainer's own pushing would replace the card by its own, and add pickled arguments; those of checkpoints would
    # hold the token.
    push_to, args.push_to_hub = repository(args), False
    token, args.hub_token = args.hub_token, None
    secrets = find_secrets(sys.argv, token, vars(data_arguments))
    for name in ("license", "dataset_pretty_name", "run_name"):
        setattr(args, name, mask_options(getattr(args, name), secrets))
    if mask(output_dir.name, secrets) != output_dir.name:
        raise ValueError(
            "The name of --output_dir is or holds a token or a password, and would stand in the model card: take "
            "another one."
        )
    is_first = args.process_index == 0
    settle_self_training(args, data_arguments)
    if args.self_training:
        args.teacher = train_teachers(train, task, data_arguments, tokenizer_arguments, config_arguments, args)
    with locked(output_dir) if is_first else contextlib.nullcontext():
        try:
            was_finished = (output_dir / RESULTS).exists()
            trainer, corpus, encoded, checkpoint, options, report, teaching = _prepare(
                task, data_arguments, tokenizer_arguments, config_arguments, args, secrets
            )
            first_step = 0 if checkpoint is None else read_json(checkpoint / "trainer_state.json")["global_step"]
            result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except KeyboardInterrupt as error:
            hint = "Resume with --resume_from_checkpoint true." if list_checkpoints(output_dir) else ""
            raise KeyboardInterrupt(hint) from error
        if checkpoint is not None:
            if was_finished and result.global_step == first_step:
                # Its results would be replaced by empty ones.
                raise ValueError(
                    f"The run in {output_dir} has ended after {result.global_step:,} steps, and nothing is left to "
                    "train: give more --num_train_epochs, --max_steps or --early_stopping_patience, or name another "
                    "--output_dir."
                )
            if is_first:
                replace_file(output_dir / ARGUMENTS, json.dumps(options, indent=2))
        tokenizer, model = trainer.processing_class, trainer.model
        _check_finite(trainer, encoded.get("validation", encoded.get("test", trainer.train_dataset)))
        # Whoever gives a rate wants that alone.
        rate = getattr(trainer.args, "lexical_learning_rate", None)
        joins = rate != training_arguments.lexical_learning_rate
        calibration = _calibrate(trainer, corpus, encoded.get("validation"), joins)
        if is_first:
            model.save_pretrained(output_dir)
            tokenizer.save_pretrained(output_dir)  # type: ignore[union-attr]
        trainer.save_state()
        metrics, predictions = _measure(trainer, result.metrics, corpus, encoded)
        trainer.save_metrics("all", metrics, combined=False)
        if is_first:
            print_results(metrics, _title(trainer, metrics))
            for line in (*course(trainer), *calibration):
                print(printable(line))
            base_model = tokenizer_arguments.model_name_or_path
            where = (args.device, args.world_size)
            told: dict[str, Any] = {"has_examples": args.examples, "report": report, "teaching": teaching}
            record_run(output_dir, corpus, data_arguments, base_model, *where, predictions, secrets, **told)
            write_model_card(output_dir)
            tidy(output_dir, args.keep_checkpoints)
            if not args.keep_checkpoints:
                remove_teachers(output_dir)
            if push_to is not None:
                private, revision = bool(args.hub_private_repo), args.hub_revision
                print(push_folder(output_dir, push_to, private=private, revision=revision, token=token))
    return metrics


def _prepare(
    task: Task,
    data_arguments: DataArguments,
    tokenizer_arguments: TokenizerArguments,
    config_arguments: Any,
    args: RnnTrainingArguments,
    secrets: Collection[str],
) -> tuple[RnnTrainer, Corpus, dict[str, Any], Path | None, dict[str, Any], DataReport | None, Any]:
    """Load corpus, tokenizer and model, find the checkpoint to resume from, describe the options and the corpus."""
    quieten(not args.disable_tqdm)
    keep_freed_memory()
    set_seed(args.seed)
    output_dir, is_first = Path(str(args.output_dir)), args.process_index == 0
    with args.main_process_first(desc="loading the corpus"):
        checkpoint = find_checkpoint(output_dir, args.resume_from_checkpoint, set_aside=is_first)
        keep_precision(args, output_dir, checkpoint)
        needed = ("train",) if args.eval_strategy == "no" else ("train", "validation")
        has_auxiliary_loss = args.auxiliary_loss_weight > 0 and args.label_smoothing_factor == 0
        if task == "token-classification" and not has_auxiliary_loss:
            data_arguments = dataclasses.replace(data_arguments, auxiliary_tags_column="none")
        corpus = load_corpus(data_arguments, task, config_arguments.problem_type, needed=needed)
        is_weighed = "auxiliary_loss_weight" in getattr(args, "given_options", ())
        if is_weighed and has_auxiliary_loss and not corpus.auxiliary_names:
            raise ValueError(
                "--auxiliary_loss_weight has no effect: no column of auxiliary labels was found in "
                f"{corpus.origins['train']}. Name one with --auxiliary_tags_column, or leave the option out."
            )
        teachers = [load_teacher(name, corpus, args.device) for name in args.teacher or ()]
        base_model = tokenizer_arguments.model_name_or_path
        base_config = None if base_model is None else load_config(base_model)
        has_new_head = base_config is None or is_encoder(base_config)
        if args.preset == "auto" and has_new_head:
            config_arguments, args, chosen = apply_preset(corpus, config_arguments, args, base_model is None)
            if is_first and chosen:
                settings = ", ".join(f"{name} {value}" for name, value in chosen.items())
                logger.warning(f"By the data, --preset auto chooses {settings}.")
        tells_ends = _tells_ends(corpus, config_arguments, base_config)
        if tells_ends and corpus.auxiliary_column is None and not is_weighed:
            corpus.auxiliary_names = []
        description = _describe(corpus, data_arguments, teachers, tells_ends)
        options = mask_options(args.to_dict() | {"data": description}, secrets)
        if is_first:
            if checkpoint is None:
                replace_file(output_dir / ARGUMENTS, json.dumps(options, indent=2))
            else:
                compare_options(output_dir, checkpoint, options, args.world_size)
        tokenizer, model = build(
            corpus,
            tokenizer_arguments,
            config_arguments,
            output_dir,
            trained_already=checkpoint is not None or not is_first,
            max_seq_length=data_arguments.max_seq_length,
            tokenizer_folder=checkpoint,
        )
        encoded = corpus.encode(tokenizer, data_arguments.max_seq_length)
        report = None
        if is_first:
            report = report_on(corpus, data_arguments, tokenizer, encoded, args.examples, secrets)
            print_report(report)
    settle_precision(args, model.config)  # by all processes together
    with args.main_process_first(desc="labelling by teachers, solving"):
        num_rows, teaching, for_solving = corpus.num_rows["train"], None, encoded["train"]
        if teachers:
            how: dict[str, Any] = {"augment": args.augment, "seed": args.seed}
            how["max_length"] = data_arguments.max_seq_length
            how["bf16"] = args.bf16
            how["show_progress"] = is_first and not args.disable_tqdm
            lesson = teach(teachers, corpus, encoded["train"], tokenizer, **how)
            encoded["train"], num_rows, for_solving, teaching = lesson
        if has_new_head:
            _solve_linear_parts(model, for_solving, encoded.get("validation"), config_arguments, args)
        unlabelled = None
        if corpus.unlabelled is not None and not teachers:
            options_of_rows = (str(corpus.problem_type), len(corpus.label_names), data_arguments.max_seq_length)
            unlabelled = encode_unlabelled(corpus.unlabelled.split, tokenizer, *options_of_rows)
    if checkpoint is not None:
        check_resumed(checkpoint, model)
    train_dataset = encoded.pop("train")
    if isinstance(train_dataset, datasets.IterableDataset):
        shuffled = train_dataset.shuffle(seed=args.seed, buffer_size=_SHUFFLE_BUFFER)
        train_dataset = SizedStream(shuffled, num_rows)
    trainer = RnnTrainer(
        model=model,
        args=args,
        train_dataset=train_dataset,
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        label_names=corpus.label_names + corpus.unseen_names,
        num_auxiliary_tags=len(corpus.auxiliary_names),
        unlabelled_dataset=unlabelled,
        label_counts=[corpus.label_counts.get(name, 0) for name in corpus.label_names],
        callbacks=[Announcement(), Watch()],
    )
    options = record_precision(options, trainer.args, output_dir, checkpoint)
    return trainer, corpus, encoded, checkpoint, options, report, teaching


def _solve_linear_parts(
    model: Any, dataset: Any, validation: Any, config_arguments: Any, args: RnnTrainingArguments
) -> None:
    """Choose the n-grams of a new classifier; solve them, or a tagger's lexical features, unless they have a rate."""
    if isinstance(model, RnnForSequenceClassification) and model.ngrams is not None:
        num_ngrams = set_ngrams(model, dataset, config_arguments.ngram_buckets)
        is_solved = args.ngram_learning_rate is None and solve_ngrams(model, dataset, args.class_weights, validation)
        how = ": a linear support vector machine, solved" if is_solved else ", and are trained with them"
        logger.warning(f"{num_ngrams:,} n-grams of words and characters count beside the recurrent layers{how}.")
        if is_solved and config_arguments.ngram_dropout:
            logger.warning("--ngram_dropout has no effect on solved n-grams; --ngram_learning_rate trains them.")
    is_tagger = isinstance(model, RnnForTokenClassification)
    if is_tagger and model.lexical is not None and args.lexical_learning_rate is None and solve_lexical(model, dataset):
        logger.warning("Lexical features are solved before training, as a linear model of their own.")
        if config_arguments.lexical_dropout:
            logger.warning("--lexical_dropout has no effect on solved features; --lexical_learning_rate trains them.")


def _tells_ends(corpus: Corpus, config_arguments: Any, base_config: Any) -> bool:
    """Tell whether the conditional random field of a tagger will tell where spans end."""
    scheme, use_crf = config_arguments.crf_tag_scheme, config_arguments.use_crf
    scheme = scheme or getattr(base_config, "crf_tag_scheme", "none")
    use_crf = getattr(base_config, "use_crf", True) if use_crf is None else use_crf
    return scheme == "iobes" and use_crf and span_labels(tuple(corpus.label_names)) is not None


def _describe(
    corpus: Corpus, data_arguments: DataArguments, teachers: Sequence[Teacher], tells_ends: bool
) -> dict[str, str]:
    """Describe the data of a run, so that other data is noticed when the run is resumed."""
    auxiliary = corpus.auxiliary_column or ("ends of spans" if corpus.auxiliary_names else None)
    given = {"max_seq_length": data_arguments.max_seq_length, "auxiliary_tags_column": auxiliary}
    if tells_ends:
        given["crf_tag_scheme"] = "iobes"
    if teachers:
        given["teacher"] = " ".join(teacher.digest for teacher in teachers)
    if corpus.unlabelled is not None:
        given["unlabelled"] = corpus.unlabelled.fingerprint
    return corpus.fingerprints | {name: str(value) for name, value in given.items() if value is not None}


def _check_finite(trainer: RnnTrainer, dataset: Any) -> None:
    """Check the weights of a trained model, and its logits on some data."""
    model: Any = trainer.model
    where = f"no model is saved in {trainer.args.output_dir}"
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise diverged(f"its weights are no numbers any more, and {where}")
    batch = trainer.data_collator(list(islice(iterate_examples(dataset), trainer.args.per_device_eval_batch_size)))
    inputs = {name: value.to(model.device) for name, value in batch.items() if name not in _TARGETS}
    with torch.no_grad():
        logits = model.eval()(**inputs).logits
    if not logits.isfinite().all():
        raise diverged(f"the model's logits are no numbers any more, and {where}")


def _calibrate(trainer: RnnTrainer, corpus: Corpus, validation: Any, joins: bool) -> list[str]:
    """Calibrate a classifier on validation data, or weigh the solved part of a tagger, and say so."""
    model: Any = trainer.model
    lexical = getattr(model, "lexical", None)
    examples = [] if validation is None else validation
    if lexical is not None and lexical.is_solved:
        return [weigh_lexical(trainer, examples)]
    if lexical is not None and joins and model.crf is not None:
        message = join_solution(trainer, trainer.train_dataset, examples)
        return [] if message is None else [message]
    if corpus.task == "token-classification" or corpus.problem_type == "regression":
        return []
    if validation is None:
        return ["Probabilities are not calibrated: there is no validation data."]
    return [trainer.calibrate(validation)]


def _measure(
    trainer: RnnTrainer, metrics: dict[str, float], corpus: Corpus, encoded: dict[str, Any]
) -> tuple[dict[str, float], dict[str, PredictionOutput]]:
    """Score the trained model on validation and test data."""
    parameters = trainer.model.named_parameters()
    num_parameters = sum(one.numel() for name, one in parameters if not name.startswith("objectives."))
    metrics = metrics | {"num_parameters": num_parameters, "train_samples": corpus.num_rows["train"]}
    predictions = {}
    for split, prefix in (("validation", "eval"), ("test", "test")):
        if split in encoded:
            output = trainer.predict(encoded[split], metric_key_prefix=prefix)
            metrics |= output.metrics or {}
            if output.predictions is not None:  # without --prediction_loss_only
                predictions[split] = output
            metrics[f"{prefix}_samples"] = corpus.num_rows[split]
    left_out = ("total_flos", "model_preparation_time")
    metrics = {key: value for key, value in metrics.items() if not key.endswith(left_out)}
    if infinite := [key for key, value in metrics.items() if not math.isfinite(value)]:
        logger.warning(f"{', '.join(infinite)}: no finite numbers, and therefore left out of the results.")
    return {key: value for key, value in metrics.items() if key not in infinite}, predictions


def _title(trainer: RnnTrainer, metrics: dict[str, float]) -> str:
    model: Any = trainer.model
    crf = " with a conditional random field" if getattr(model, "crf", None) is not None else ""
    size = f"{metrics['num_parameters']:,} parameters"
    return f"{type(model).__name__}{crf}, {size}, saved in {trainer.args.output_dir}"


__all__ = ["train"]
