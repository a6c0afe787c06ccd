"""Which batches a trainer reads: by tokens, with unlabelled examples, by length; alike whenever a run is resumed."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import datasets
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, IterableDataset, Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_utils import has_length, seed_worker

from ..data.examples import iterate_column
from .batching import MixedBatchSampler, SeededLengthGroupedSampler, TokenBatchSampler


class SeededTrainer(Trainer):
    """A `Trainer` whose batches depend on the seed and the epoch alone; see [`RnnTrainer`]."""

    _unlabelled_dataset: Any = None

    @property
    def _order_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def get_train_dataloader(self) -> DataLoader:
        """Make the batches of training.

        By tokens with `max_tokens_per_batch`; with unlabelled examples, half of each batch; else as the stock Trainer.
        """
        loader = self._mixed_batches() or self._token_batches() or super().get_train_dataloader()
        return self._with_own_generator(loader)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Make the batches of evaluation; see the stock Trainer."""
        with self._all_examples():
            return self._with_own_generator(super().get_eval_dataloader(eval_dataset))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Make the batches of prediction; see the stock Trainer."""
        with self._all_examples():
            return self._with_own_generator(super().get_test_dataloader(test_dataset))

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> DataLoader:
        if self.args.world_size > 1 and not kwargs.get("is_training") and isinstance(dataset, IterableDataset):
            # Else a stream's last batch is filled up with its first examples, which would count twice in the scores.
            dataset = list(dataset)
        return super()._get_dataloader(dataset, *args, **kwargs)

    @contextmanager
    def _all_examples(self) -> Iterator[None]:
        # The stock Trainer would drop the last batch of evaluation too, and with it a part of the scores.
        dropped = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = False
        try:
            yield
        finally:
            self.args.dataloader_drop_last = dropped

    def _with_own_generator(self, loader: Any) -> DataLoader:
        # Otherwise a loader takes its seed from the numbers that dropout takes, whenever an iterator is made.
        loader.base_dataloader.generator = torch.Generator().manual_seed(self._order_seed)
        return loader

    def _token_batches(self) -> DataLoader | None:
        max_tokens = getattr(self.args, "max_tokens_per_batch", None)
        if max_tokens is None:
            return None
        if isinstance(self.train_dataset, IterableDataset):
            raise ValueError("max_tokens_per_batch needs to know all lengths: use it without streaming.")
        lengths = _lengths(self.train_dataset)
        sampler = TokenBatchSampler(
            lengths, max_tokens, self.args.per_device_train_batch_size, self._order_seed, *self._processes
        )
        return self._load_batches(self.train_dataset, sampler)

    def _mixed_batches(self) -> DataLoader | None:
        if self._unlabelled_dataset is None:
            return None
        labelled: Any = self.train_dataset
        unlabelled = self._unlabelled_dataset
        columns = [name for name in ("input_ids", "labels", "auxiliary_tags") if name in labelled.column_names]
        if "auxiliary_tags" in columns:
            unlabelled = unlabelled.add_column("auxiliary_tags", unlabelled["labels"])
        both = datasets.concatenate_datasets([one.select_columns(columns) for one in (labelled, unlabelled)])
        sampler = MixedBatchSampler(
            len(labelled), len(unlabelled), self.args.train_batch_size, self._order_seed, *self._processes
        )
        return self._load_batches(both, sampler)

    @property
    def _processes(self) -> tuple[int, int]:
        """The number of processes, and which this is."""
        return self.args.world_size, self.args.process_index

    def _load_batches(self, dataset: Any, sampler: Sampler) -> DataLoader:
        """Load the batches of a sampler, which gives each process its own."""
        collator = self.data_collator
        if isinstance(dataset, datasets.Dataset):
            dataset = self._remove_unused_columns(dataset, description="Training")
        else:
            collator = self._get_collator_with_removed_columns(collator, description="Training")
        loader: DataLoader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            worker_init_fn=partial(
                seed_worker, num_workers=self.args.dataloader_num_workers, rank=self.args.process_index
            ),
        )
        return prepare_data_loader(
            loader, self.accelerator.device, num_processes=1, process_index=0, put_on_device=True
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not has_length(train_dataset):
            return super()._get_train_sampler(train_dataset)
        return SeededLengthGroupedSampler(
            self._order_seed,
            batch_size=self.args.train_batch_size * self.args.gradient_accumulation_steps,
            lengths=_lengths(train_dataset),
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        # The stock Trainer would sort predictions by length too.
        if self.args.world_size <= 1 and has_length(eval_dataset):
            return SequentialSampler(eval_dataset)
        return None


def _lengths(dataset: Any) -> list[int]:
    return [len(ids) for ids in iterate_column(dataset, "input_ids")]


__all__ = ["SeededTrainer"]
