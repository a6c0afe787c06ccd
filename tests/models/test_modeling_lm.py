"""Language models beside a plain reference: losses, no leakage between directions, generation, saving."""

import math

import pytest
import torch
from hypothesis import given
from strategies import few, gradients, little_config, random_ids, seeds, some_lengths
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForPreTraining, AutoModelForTokenClassification

from rnn_hf import RnnForCausalLM, RnnForPreTraining, RnnModel
from rnn_hf.models import language_model
from rnn_hf.models.language_model import LanguageModelHead

CELLS = ("lstm", "gru", "rnn_tanh")


def padded(rows):
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask}


def reference(model, row):
    """The logarithms of the probability of one text's tokens, by stock modules, each direction on its own."""
    rnn, head, table = model.model.rnn, model.lm_head, model.model.embeddings.word_embeddings.weight
    found = []
    for direction in range(model.config.num_directions):
        ids = row.flip(0) if direction else row
        states = model.model.embeddings(ids)
        for layer in range(rnn.num_layers):
            size = states.shape[1] if layer == 0 else rnn.hidden_size
            columns = slice(0, size) if layer == 0 else slice(direction * size, (direction + 1) * size)
            one = type(rnn).__mro__[2](size, rnn.hidden_size)
            ending = f"_l{layer}{'_reverse' if direction else ''}"
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                weight = getattr(rnn, name + ending)
                getattr(one, f"{name}_l0").data = weight[:, columns] if name == "weight_ih" else weight
            states = one(states)[0]
        logits = head.projections[direction](states) @ table.T + head.bias
        log_probabilities = logits.log_softmax(-1)
        found.append(sum((log_probabilities[step, ids[step + 1]] for step in range(len(ids) - 1)), torch.tensor(0.0)))
    return torch.stack(found)


@pytest.mark.parametrize("cell_type", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_losses_are_those_of_a_plain_reference(cell_type, num_layers, bidirectional):
    torch.manual_seed(0)
    config = little_config(cell_type=cell_type, num_hidden_layers=num_layers, bidirectional=bidirectional)
    model = RnnForPreTraining(config).eval()
    torch.nn.init.normal_(model.lm_head.bias)
    model.separate_directions()
    rows = random_ids([1, 5, 3], 0)
    output = model(**padded(rows))
    expected = torch.stack([reference(model, row) for row in rows])
    torch.testing.assert_close(output.log_likelihoods, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.loss, -expected.mean(1).sum() / 6, rtol=1e-4, atol=1e-5)


@given(some_lengths, seeds)
@few(20)
def test_losses_of_parts_of_a_batch_sum_to_that_of_the_whole(lengths, seed):
    torch.manual_seed(0)
    model, rows = RnnForPreTraining(little_config()).eval(), random_ids(lengths, seed)
    total = max(sum(max(len(row) - 1, 0) for row in rows), 1)
    whole = model(**padded(rows), num_items_in_batch=total).loss
    parts = [model(**padded([row]), num_items_in_batch=total).loss for row in rows]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(**padded(rows)).loss, whole)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_no_direction_sees_what_it_has_to_predict(num_layers):
    torch.manual_seed(0)
    model = RnnForPreTraining(little_config(num_hidden_layers=num_layers)).eval()
    assert model.mixes_directions == (num_layers > 1)
    model.separate_directions()
    assert not model.mixes_directions
    embeds = torch.randn(1, 6, model.config.input_size, requires_grad=True)
    states = model.model(inputs_embeds=embeds).last_hidden_state
    size = model.config.hidden_size
    for step in range(6):
        for half, unseen in ((slice(0, size), slice(step + 1, None)), (slice(size, None), slice(0, step))):
            (seen,) = torch.autograd.grad(states[0, step, half].sum(), embeds, retain_graph=True)
            assert not seen[0, unseen].any()


def test_directions_stay_separate_in_training_and_every_other_weight_learns():
    torch.manual_seed(0)
    model = RnnForPreTraining(little_config(num_hidden_layers=2)).train()
    model.separate_directions()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(**padded(random_ids([5, 4], 0))).loss.backward()
        optimizer.step()
    gradients(model)
    assert not model.mixes_directions


@pytest.mark.parametrize("vocab_size", [30, 5000])
def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(vocab_size):
    model = RnnForPreTraining(little_config(vocab_size=vocab_size)).eval()
    for projection in model.lm_head.projections:
        torch.nn.init.zeros_(projection.weight)
    loss = model(input_ids=torch.randint(vocab_size, (2, 7))).loss
    assert math.exp(loss.item()) == pytest.approx(vocab_size, rel=1e-4)


class TestSampledSoftmax:
    def test_is_close_to_the_whole_sum_and_exact_where_all_entries_weigh_alike(self):
        torch.manual_seed(0)
        head, vectors = LanguageModelHead(little_config(vocab_size=6000), has_bias=True), torch.randn(6000, 5) / 2
        states, targets = torch.randn(50, 4), torch.randint(6000, (50,))
        exact = head.losses(0, states, targets, vectors, is_exact=True)
        sampled = torch.stack([head.losses(0, states, targets, vectors) for _ in range(10)])
        torch.testing.assert_close(sampled.mean(0), exact, rtol=0.02, atol=0.05)
        assert sampled.std(0).max() > 0
        torch.testing.assert_close(
            head.losses(0, states, targets, torch.zeros_like(vectors)), torch.full((50,), math.log(6000))
        )

    def test_its_gradients_are_close_to_those_of_the_whole_sum(self):
        torch.manual_seed(0)
        head, vectors = LanguageModelHead(little_config(vocab_size=6000)), torch.randn(6000, 5) / 2
        states, targets = torch.randn(50, 4, requires_grad=True), torch.randint(6000, (50,))
        (exact,) = torch.autograd.grad(head.losses(0, states, targets, vectors, is_exact=True).sum(), states)
        found = [torch.autograd.grad(head.losses(0, states, targets, vectors).sum(), states)[0] for _ in range(20)]
        torch.testing.assert_close(torch.stack(found).mean(0), exact, rtol=0.05, atol=0.05)

    def test_blocks_change_nothing(self, monkeypatch):
        torch.manual_seed(0)
        head, vectors = LanguageModelHead(little_config(), has_bias=True), torch.randn(30, 5)
        states, targets = torch.randn(11, 4), torch.randint(30, (11,))
        whole = head.losses(0, states, targets, vectors, is_exact=True)
        monkeypatch.setattr(language_model, "_MOST_LOGITS", 90)
        with torch.no_grad():
            torch.testing.assert_close(head.losses(0, states, targets, vectors, is_exact=True), whole)


def test_entries_without_a_word_embedding_count_as_unknown():
    config = little_config(num_word_embeddings=10, unk_token_id=1, static_embedding_size=3, static_vocab_size=5)
    model = RnnForPreTraining(config).eval()
    unknown = model(input_ids=torch.tensor([[4, 1]])).log_likelihoods[0, 0]
    torch.testing.assert_close(model(input_ids=torch.tensor([[4, 25]])).log_likelihoods[0, 0], unknown)
    logits = RnnForCausalLM(little_config(**{**config.to_diff_dict(), "bidirectional": False})).eval()
    assert logits(input_ids=torch.tensor([[4, 25]])).logits[0, 0, 10:].isneginf().all()


class TestCausalLM:
    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        return RnnForCausalLM(little_config(bidirectional=False, pad_token_id=0, eos_token_id=2)).eval()

    def test_loss_and_logits_agree_with_those_of_pretraining(self, model):
        rows = random_ids([5, 3], 0)
        batch = padded(rows)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        output = model(**batch, labels=labels)
        as_pretraining = RnnForPreTraining.forward(model, **batch)
        torch.testing.assert_close(output.loss, as_pretraining.loss)
        chosen = output.logits.log_softmax(-1)[0, :4].gather(1, rows[0][1:, None])
        torch.testing.assert_close(chosen.sum(), as_pretraining.log_likelihoods[0, 0])

    def test_labels_that_are_left_out_are_not_predicted(self, model):
        ids = torch.tensor([[5, 6, 7, 8]])
        whole, part = (
            model(input_ids=ids, labels=ids).logits,
            model(input_ids=ids, labels=torch.tensor([[-100, -100, 7, 8]])),
        )
        expected = -whole.log_softmax(-1)[0, [1, 2], [7, 8]].mean()
        torch.testing.assert_close(part.loss, expected)

    def test_generates_what_its_logits_choose_whatever_the_padding(self, model):
        ids = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 4]])
        options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
        together = model.generate(ids, attention_mask=(ids != 0).long(), **options)
        text = ids[:1, 2:]
        for _ in range(6):
            text = torch.cat([text, model(input_ids=text).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        assert together[0, 2:].tolist() == text[0].tolist()
        beams = model.generate(ids[1:], num_beams=3, **options)
        assert beams.shape == (1, 10)

    def test_a_bidirectional_architecture_is_refused(self):
        with pytest.raises(ValueError, match="take bidirectional=False"):
            RnnForCausalLM(little_config())


@pytest.mark.parametrize("bidirectional", [True, False])
def test_saved_models_load_as_encoders_and_as_what_they_are(tmp_path, bidirectional):
    torch.manual_seed(0)
    model_class, auto_class = (
        (RnnForPreTraining, AutoModelForPreTraining) if bidirectional else (RnnForCausalLM, AutoModelForCausalLM)
    )
    model = model_class(little_config(bidirectional=bidirectional, num_hidden_layers=2)).eval()
    model.save_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert type(encoder) is RnnModel
    for name, weight in model.model.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], weight), name
    assert type(auto_class.from_pretrained(tmp_path)) is model_class
    tagger = AutoModelForTokenClassification.from_pretrained(tmp_path, num_labels=3)
    assert torch.equal(tagger.model.rnn.weight_hh_l1, model.model.rnn.weight_hh_l1)
    assert {path.name for path in tmp_path.glob("*.py")} >= {"modeling_lm.py", "modeling_rnn.py", "language_model.py"}


def test_ids_are_needed():
    model = RnnForPreTraining(little_config())
    with pytest.raises(ValueError, match="give input_ids beside inputs_embeds"):
        model(inputs_embeds=torch.randn(1, 3, model.config.input_size))
