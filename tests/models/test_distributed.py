"""Training by several processes: tables that no step changes stay where they are."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from strategies import gradients, in_two_processes, little_config
from torch import distributed, nn

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, RnnModel

OPTIONS = {
    "num_labels": 3,
    "characters": "ab",
    "max_characters_per_token": 4,
    "char_num_filters": 2,
    "static_embedding_size": 2,
    "static_vocab_size": 3,
}


@pytest.mark.parametrize("model_class", [RnnModel, RnnForSequenceClassification, RnnForTokenClassification])
def test_every_model_names_its_tables(model_class, tmp_path):
    model = model_class(little_config(**OPTIONS))
    tables = {name for name, _ in model.named_buffers()}
    assert {name.rpartition(".")[2] for name in tables} >= {"character_ids", "vector_ids"}
    assert set(model._ddp_params_and_buffers_to_ignore) == tables
    model.save_pretrained(tmp_path)
    assert set(model_class.from_pretrained(tmp_path)._ddp_params_and_buffers_to_ignore) == tables


def make() -> RnnForTokenClassification:
    torch.manual_seed(0)
    return RnnForTokenClassification(little_config(**OPTIONS))


def batch(rank) -> dict[str, torch.Tensor]:
    ids = torch.randint(30, (2, 5), generator=torch.Generator().manual_seed(rank))
    return {"input_ids": ids, "labels": ids % 3}


def step(rank, folder) -> None:
    """Take a step of two processes, each with a table of its own, and write the gradients."""
    model = make()
    model.word_starts[rank] = False
    wrapped = nn.parallel.DistributedDataParallel(model)
    wrapped(**batch(rank)).loss.backward()
    wrapped(**batch(rank)).loss.backward()
    assert (~model.word_starts).nonzero().flatten().tolist() == [rank]
    save_file(gradients(model), folder / f"{rank}.safetensors")


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this build of torch has no gloo")
def test_two_processes_share_gradients_and_keep_their_tables(tmp_path):
    in_two_processes(step, tmp_path)
    found = load_file(tmp_path / "0.safetensors")
    alone = []
    for rank in range(2):
        model = make()
        model.word_starts[rank] = False
        (2 * model(**batch(rank)).loss).backward()
        alone.append(gradients(model))
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, (alone[0][name] + alone[1][name]) / 2, rtol=1e-4, atol=1e-6)
