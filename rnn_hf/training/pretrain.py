"""Pretrain an encoder on texts without labels, as a language model."""

import contextlib
import copy
import dataclasses
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import datasets
from transformers import set_seed
from transformers.utils import logging

from ..data.examples import SizedStream
from ..data.text_corpus import TextArguments, encode_for_language_model, load_texts
from ..inference.model_files import read_json
from ..models.configuration_rnn import RnnConfig
from ..models.modeling_lm import RnnForCausalLM
from ..sharing.hub import push_folder
from ..sharing.model_card import write_model_card
from ..sharing.run_record import describe_run, file_name
from ..utils.display import printable
from ..utils.files import replace_file
from ..utils.processor import keep_freed_memory
from ..utils.secrets import find_secrets, mask, mask_options
from .argument_checks import check_pretraining_arguments
from .arguments import ConfigArguments, RnnTrainingArguments, TokenizerArguments
from .checkpoints import ARGUMENTS, RESULTS, find_checkpoint, list_checkpoints
from .evaluate import print_results, quieten
from .lm_trainer import RnnPretrainer
from .locks import locked
from .model_setup import build
from .precision import keep_precision, record_precision
from .runs import Announcement, Watch, check_resumed, compare_options, course, repository, tidy
from .trainer_checks import diverged

logger = logging.get_logger(__name__)

_SHUFFLE_BUFFER = 10_000
# What suits language models, where nothing else is given. Labels that are few need more dropout than texts.
_DROPOUTS = {"word_dropout": 0.0, "embedding_dropout": 0.2, "hidden_dropout": 0.2, "classifier_dropout": 0.2}


def pretrain(
    text_arguments: TextArguments,
    tokenizer_arguments: TokenizerArguments,
    config_arguments: ConfigArguments,
    training_arguments: RnnTrainingArguments,
) -> dict[str, float]:
    """Train an encoder as a language model on texts, and save it with its tokenizer.

    The output folder is that of [`~rnn_hf.training.train.train`], with a checkpoint that `AutoModel` and
    `--model_name_or_path` of the training commands take: of [`RnnForPreTraining`], or where the encoder reads from left
    to right alone, of [`RnnForCausalLM`].

    Args:
        text_arguments ([`TextArguments`]): The texts.
        tokenizer_arguments ([`TokenizerArguments`]): The tokenizer, or a checkpoint to train further.
        config_arguments ([`ConfigArguments`]): Fields of the configuration to override.
        training_arguments ([`RnnTrainingArguments`]): Everything else.

    Returns:
        `dict[str, float]`: results with the prefixes `train_` and `eval_`, perplexities among them.

    Raises:
        ValueError: For texts, arguments or folders that do not fit, and where training diverged.
    """
    check_pretraining_arguments(text_arguments, tokenizer_arguments, config_arguments, training_arguments)
    args = copy.copy(training_arguments)
    output_dir = Path(str(args.output_dir))
    push_to, args.push_to_hub = repository(args), False
    token, args.hub_token = args.hub_token, None
    secrets = find_secrets(sys.argv, token, vars(text_arguments))
    for name in ("license", "dataset_pretty_name", "run_name"):
        setattr(args, name, mask_options(getattr(args, name), secrets))
    if mask(output_dir.name, secrets) != output_dir.name:
        raise ValueError("The name of --output_dir is or holds a token or a password: take another one.")
    is_first = args.process_index == 0
    with locked(output_dir) if is_first else contextlib.nullcontext():
        try:
            was_finished = (output_dir / RESULTS).exists()
            trainer, corpus, checkpoint, options = _prepare(
                text_arguments, tokenizer_arguments, config_arguments, args, secrets
            )
            first_step = 0 if checkpoint is None else read_json(checkpoint / "trainer_state.json")["global_step"]
            result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except KeyboardInterrupt as error:
            hint = "Resume with --resume_from_checkpoint true." if list_checkpoints(output_dir) else ""
            raise KeyboardInterrupt(hint) from error
        if checkpoint is not None:
            if was_finished and result.global_step == first_step:
                raise ValueError(
                    f"The run in {output_dir} has ended after {result.global_step:,} steps, and nothing is left to "
                    "train: give more --num_train_epochs or --max_steps, or name another --output_dir."
                )
            if is_first:
                replace_file(output_dir / ARGUMENTS, json.dumps(options, indent=2))
        model: Any = trainer.model
        if not all(parameter.isfinite().all() for parameter in model.parameters()):
            raise diverged(f"its weights are no numbers any more, and no model is saved in {output_dir}")
        metrics = result.metrics | {
            "num_parameters": sum(parameter.numel() for parameter in model.model.parameters()),
            "train_samples": corpus.num_rows["train"],
        }
        if trainer.eval_dataset is not None:
            metrics |= trainer.evaluate() | {"eval_samples": corpus.num_rows["validation"]}
        metrics = {key: value for key, value in metrics.items() if not key.endswith(("total_flos", "preparation_time"))}
        if is_first:
            _save(trainer, config_arguments, output_dir)
        trainer.save_state()
        trainer.save_metrics("all", metrics, combined=False)
        if is_first:
            size = f"{metrics['num_parameters']:,} parameters in the encoder"
            print_results(metrics, f"{type(model).__name__}, {size}, saved in {output_dir}")
            for line in course(trainer):
                print(printable(line))
            files = {"train": text_arguments.train_file, "validation": text_arguments.validation_file}
            data = {name: file_name(file) for name, file in files.items() if file is not None}
            base_model = tokenizer_arguments.model_name_or_path
            where = (args.device, args.world_size)
            run = describe_run(corpus.task, data, corpus.num_rows, base_model, *where, secrets)
            replace_file(output_dir / "run.json", json.dumps(run, indent=1, ensure_ascii=False))
            write_model_card(output_dir)
            tidy(output_dir, args.keep_checkpoints)
            if push_to is not None:
                private, revision = bool(args.hub_private_repo), args.hub_revision
                print(push_folder(output_dir, push_to, private=private, revision=revision, token=token))
    return metrics


def _prepare(
    text_arguments: TextArguments,
    tokenizer_arguments: TokenizerArguments,
    config_arguments: ConfigArguments,
    args: RnnTrainingArguments,
    secrets: Collection[str],
) -> tuple[RnnPretrainer, Any, Path | None, dict[str, Any]]:
    """Load texts, tokenizer and model, find the checkpoint to resume from, describe the options."""
    quieten(not args.disable_tqdm)
    keep_freed_memory()
    set_seed(args.seed)
    model: Any
    output_dir, is_first = Path(str(args.output_dir)), args.process_index == 0
    with args.main_process_first(desc="loading the texts"):
        checkpoint = find_checkpoint(output_dir, args.resume_from_checkpoint, set_aside=is_first)
        keep_precision(args, output_dir, checkpoint)
        corpus, num_words = load_texts(text_arguments, holds_out=args.eval_strategy != "no")
        data = corpus.fingerprints | {"chunk_length": str(text_arguments.chunk_length)}
        options = mask_options(args.to_dict() | {"data": data}, secrets)
        if is_first:
            if checkpoint is None:
                replace_file(output_dir / ARGUMENTS, json.dumps(options, indent=2))
            else:
                compare_options(output_dir, checkpoint, options, args.world_size)
        is_open: dict[str, Any] = {
            name: value for name, value in _DROPOUTS.items() if getattr(config_arguments, name) is None
        }
        trained_already = checkpoint is not None or not is_first
        tokenizer, model = build(
            corpus,
            tokenizer_arguments,
            dataclasses.replace(config_arguments, **is_open),
            output_dir,
            trained_already,
            tokenizer_folder=checkpoint,
        )
        if tokenizer_arguments.model_name_or_path is not None and model.mixes_directions:
            raise ValueError(
                f"In {tokenizer_arguments.model_name_or_path}, each direction of a deeper layer reads both directions "
                "of the layer below, and would see the tokens that it has to predict: take an encoder that rnn-hf "
                "pretrain has made, or one with a single layer."
            )
        model.separate_directions()
        encoded = encode_for_language_model(corpus, tokenizer)
    if checkpoint is not None:
        check_resumed(checkpoint, model)
    if is_first:
        words = "".join(f"{count:,} words of {name} data, " for name, count in num_words.items())
        logger.warning(f"There are {words}{len(tokenizer):,} entries of the vocabulary.")
    train_dataset: Any = encoded["train"]
    if isinstance(train_dataset, datasets.IterableDataset):
        shuffled = train_dataset.shuffle(seed=args.seed, buffer_size=_SHUFFLE_BUFFER)
        train_dataset = SizedStream(shuffled, corpus.num_rows["train"])
    trainer = RnnPretrainer(
        model,
        args,
        train_dataset=train_dataset,
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        chunk_length=text_arguments.chunk_length,
        num_words=num_words.get("validation"),
        callbacks=[Announcement(), Watch()],
    )
    options = record_precision(options, trainer.args, output_dir, checkpoint)
    return trainer, corpus, checkpoint, options


def _save(trainer: RnnPretrainer, config_arguments: ConfigArguments, output_dir: Path) -> None:
    """Save the model, with the dropouts that fine-tuning has by default, and its tokenizer."""
    model: Any = trainer.model
    config = copy.deepcopy(model.config)
    for name in _DROPOUTS:
        if getattr(config_arguments, name) is None:
            setattr(config, name, getattr(RnnConfig, name))
    model_class = type(model) if config.bidirectional else RnnForCausalLM
    saved = model_class(config)
    saved.load_state_dict(model.state_dict())
    saved.to(model.dtype).save_pretrained(output_dir)
    trainer.processing_class.save_pretrained(output_dir)  # type: ignore[union-attr]


__all__ = ["pretrain"]
