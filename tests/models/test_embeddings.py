"""Word embeddings, pretrained word vectors and character features."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import few, generator, little_config, seeds
from torch import nn

from rnn_hf import RnnForTokenClassification, RnnModel
from rnn_hf.models.embeddings import BEGINNING, END, PADDING, CharacterCNN, RnnEmbeddings, _LargestSums, _sums

WITH_CHARACTERS = {
    "characters": "abcdef",
    "max_characters_per_token": 6,
    "char_embedding_size": 3,
    "char_num_filters": 4,
}
WITH_VECTORS = {"static_embedding_size": 2, "static_vocab_size": 5}


def randomize(table, seed=0) -> None:
    """Fill a table with entries of random length between marks."""
    source = generator(seed)
    table.zero_()
    for row in table[1:]:
        length = int(torch.randint(1, table.shape[1] - 1, (1,), generator=source))
        row[0], row[1 : 1 + length], row[1 + length] = BEGINNING, torch.randint(5, 11, (length,), generator=source), END


def make(seed=0, **options) -> RnnEmbeddings:
    torch.manual_seed(seed)
    embeddings = RnnModel(little_config(**options)).embeddings
    if embeddings.character_cnn is not None:
        randomize(embeddings.character_cnn.character_ids, seed)
    if embeddings.static_embeddings is not None:
        embeddings.static_embeddings.vector_ids.copy_(torch.randint(6, (30,), generator=generator(seed)))
    return embeddings


def by_convolution(encoder: CharacterCNN, input_ids) -> torch.Tensor:
    """The plain way: embed the characters of each entry, convolve, take the maximum."""
    codes = encoder.character_ids[input_ids].long()
    characters = encoder.char_embeddings(codes).masked_fill((codes == PADDING).unsqueeze(-1), 0.0).transpose(1, 2)
    outputs = []
    for convolution in encoder.convolutions:
        (size,) = convolution.kernel_size
        padded = nn.functional.pad(characters, (size // 2, (size - 1) // 2))
        convolved = nn.functional.conv1d(padded, convolution.weight, convolution.bias)
        outputs.append(convolved.amax(dim=2))
    return torch.cat(outputs, dim=1).relu()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(3, 9), seeds)
@few(30)
def test_character_features_are_those_of_a_convolution(kernel_sizes, length, seed):
    options = WITH_CHARACTERS | {"char_kernel_sizes": kernel_sizes, "max_characters_per_token": length}
    encoder = make(seed % 1000, **options).character_cnn
    ids = torch.randint(30, (7,), generator=generator(seed))
    found, expected = encoder(ids), by_convolution(encoder, ids)
    torch.testing.assert_close(found, expected)
    parameters = list(encoder.parameters())
    for one, other in zip(
        torch.autograd.grad(found.sum(), parameters), torch.autograd.grad(expected.sum(), parameters), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_character_features_that_are_nan_have_a_gradient():
    encoder = make(**WITH_CHARACTERS).character_cnn
    with torch.no_grad():
        encoder.char_embeddings.weight.fill_(torch.nan)
    features = encoder(torch.arange(7))
    features.sum().backward()
    assert features.isnan().any()


@pytest.mark.parametrize("options", [{}, WITH_CHARACTERS, WITH_VECTORS, WITH_CHARACTERS | WITH_VECTORS])
class TestParts:
    def test_are_joined_to_the_size_that_the_configuration_says(self, options):
        embeddings, config = make(**options), little_config(**options)
        assert embeddings(torch.tensor([3, 4, 3])).shape == (3, config.input_size)

    def test_training_and_evaluation_agree(self, options):
        embeddings, ids = make(**options), torch.tensor([3, 7, 3, 29])
        in_training = embeddings(ids)
        with torch.no_grad():
            torch.testing.assert_close(embeddings.eval()(ids), in_training, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(embeddings(ids), in_training, rtol=0, atol=0)

    def test_reloading_changes_nothing(self, options, tmp_path):
        model = RnnModel(little_config(**options)).eval()
        model.embeddings.load_state_dict(make(**options).state_dict())
        model.save_pretrained(tmp_path)
        loaded, ids = RnnModel.from_pretrained(tmp_path), torch.tensor([3, 7, 29])
        with torch.no_grad():
            torch.testing.assert_close(loaded.embeddings(ids), model.embeddings(ids), rtol=1e-6, atol=1e-7)

    def test_every_parameter_receives_a_gradient(self, options):
        embeddings = make(**options)
        embeddings(torch.arange(30)).square().sum().backward()
        for name, parameter in embeddings.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name

    def test_resizing_keeps_the_entries_that_stay(self, options):
        model = RnnForTokenClassification(little_config(use_crf=True, **options)).eval()
        model.model.embeddings.load_state_dict(make(**options).state_dict())
        ids = torch.tensor([[3, 7, 9]])
        before = model(input_ids=ids).logits
        model.resize_token_embeddings(35)
        torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=1e-5, atol=1e-6)
        assert model(input_ids=torch.tensor([[34]])).logits.isfinite().all()
        model.resize_token_embeddings(10)
        torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=1e-5, atol=1e-6)


def other_weights(seed=3) -> dict[str, torch.Tensor]:
    return make(seed=seed, **WITH_CHARACTERS).state_dict()


def averaged(embeddings) -> None:
    """Average weights as exponential moving averages do."""
    for parameter, other in zip(embeddings.parameters(), make(seed=5, **WITH_CHARACTERS).parameters(), strict=True):
        parameter.data = (parameter.data + other.data) / 2


def swap(module, name) -> None:
    setattr(module, name, nn.Parameter(getattr(module, name).detach() * 3))


CHANGES = {
    "nothing": lambda e: None,
    "a kernel, in place": lambda e: e.character_cnn.convolutions[0].weight.mul_(2),
    "a kernel, through data": lambda e: e.character_cnn.convolutions[1].weight.data.mul_(2),
    "a bias, through data": lambda e: e.character_cnn.convolutions[1].bias.data.add_(1),
    "one number, through data": lambda e: e.character_cnn.char_embeddings.weight.data[6, 1].add_(1),
    "data, replaced": averaged,
    "weights, loaded": lambda e: e.load_state_dict(other_weights()),
    "weights, loaded and assigned": lambda e: e.load_state_dict(other_weights(4), assign=True),
    "a kernel, swapped": lambda e: swap(e.character_cnn.convolutions[0], "weight"),
    "vectors of characters, swapped": lambda e: swap(e.character_cnn.char_embeddings, "weight"),
    "characters of one entry, in place": lambda e: e.character_cnn.character_ids[4].copy_(
        e.character_cnn.character_ids[5].clone()
    ),
    "characters of one entry, through data": lambda e: e.character_cnn.character_ids.data[4, 1].add_(1),
    "all entries": lambda e: randomize(e.character_cnn.character_ids, 9),
    "entries, replaced": lambda e: setattr(e.character_cnn, "character_ids", e.character_cnn.character_ids.flip(0)),
    "the type": lambda e: e.to(torch.bfloat16),
}


def as_read_anew(embeddings, ids):
    fresh = copy.deepcopy(embeddings)
    fresh._cached = None
    return fresh(ids)


@pytest.mark.parametrize("no_gradients", [torch.no_grad, torch.inference_mode])
def test_cached_character_features_follow_every_change_of_weights_and_characters(no_gradients):
    embeddings, ids = make(**WITH_CHARACTERS).eval(), torch.arange(30)
    before = None
    for name, change in CHANGES.items():
        with torch.no_grad():
            change(embeddings)
        with no_gradients():
            found = embeddings(ids)
            assert torch.equal(found, as_read_anew(embeddings, ids)), name
            assert torch.equal(copy.deepcopy(embeddings)(ids), found), name
            assert name == "nothing" or not torch.equal(found.float(), before), name
        before = found.float()


def test_only_entries_whose_characters_changed_are_computed_anew():
    embeddings, read = make(**WITH_CHARACTERS).eval(), []
    embeddings.character_cnn.register_forward_hook(lambda _, ids, __: read.extend(ids[0].tolist()))
    with torch.no_grad():
        embeddings(torch.arange(30))
        embeddings.character_cnn.character_ids[4] += 1
        del read[:]
        embeddings(torch.arange(30))
    assert read == [4]


def test_many_tokens_are_embedded_some_at_a_time(monkeypatch):
    embeddings = make(**WITH_CHARACTERS, **WITH_VECTORS).eval()
    ids = torch.randint(30, (23,), generator=generator(0))
    with torch.no_grad():
        expected = embeddings(ids)
        monkeypatch.setattr("rnn_hf.models.embeddings._MOST_TOKENS", 5)
        torch.testing.assert_close(embeddings(ids), expected, rtol=0, atol=0)


def test_character_features_are_computed_once_each_in_evaluation():
    embeddings, read = make(**WITH_CHARACTERS).eval(), []
    embeddings.character_cnn.register_forward_hook(lambda _, ids, __: read.extend(ids[0].tolist()))
    with torch.no_grad():
        for ids in ([5, 1, 5], [1, 5], [1, 7, 7, 2], []):
            embeddings(torch.tensor(ids, dtype=torch.long))
    assert read == [1, 5, 2, 7]
    embeddings.train()
    with torch.no_grad():
        embeddings.eval()(torch.tensor([1]))
    assert read == [1, 5, 2, 7, 1]


def test_entries_first_read_in_inference_mode_are_joined_by_others_outside():
    embeddings = make(**WITH_CHARACTERS).eval()
    expected = embeddings(torch.tensor([1, 7]))
    with torch.inference_mode():
        embeddings(torch.tensor([1]))
    with torch.no_grad():
        torch.testing.assert_close(embeddings(torch.tensor([1, 7])), expected)


def test_word_dropout_drops_whole_own_vectors_in_training_only():
    embeddings = make(word_dropout=0.5, **WITH_CHARACTERS)
    ids = torch.full((4000,), 7)
    torch.manual_seed(0)
    own, features = embeddings(ids).split([5, 8], dim=1)
    dropped = (own == 0).all(dim=1)
    assert 0.45 < dropped.float().mean() < 0.55
    assert torch.equal(own[~dropped], embeddings.word_embeddings.weight[[7]].expand_as(own[~dropped]))
    assert torch.equal(features, features[:1].expand_as(features))
    assert not (embeddings.eval()(ids)[:, :5] == 0).any()


def test_entries_without_a_vector_of_their_own_take_that_of_the_unknown_token():
    embeddings = make(num_word_embeddings=20, unk_token_id=1, **WITH_CHARACTERS)
    assert embeddings.word_embeddings.num_embeddings == 20
    own = embeddings(torch.tensor([1, 19, 20, 29]))[:, :5]
    assert torch.equal(own[[2, 3]], own[[0, 0]])
    assert not torch.equal(own[1], own[0])


def test_without_a_number_nothing_is_resized():
    model = RnnModel(little_config(num_word_embeddings=20, **WITH_CHARACTERS, **WITH_VECTORS))
    model.resize_token_embeddings()
    assert model.embeddings.num_entries == len(model.embeddings.character_cnn.character_ids) == 30


def test_a_vocabulary_with_entries_without_own_vectors_is_not_resized():
    with pytest.raises(ValueError, match="words that only have pretrained word vectors cannot be resized"):
        RnnModel(little_config(num_word_embeddings=20)).resize_token_embeddings(40)


@pytest.mark.parametrize("options", [WITH_CHARACTERS, WITH_VECTORS])
def test_autocast_to_bfloat16_is_near_single_precision(options):
    embeddings, ids = make(**options), torch.arange(30)
    precise = embeddings(ids)
    with torch.autocast("cpu", torch.bfloat16):
        found = embeddings(ids)
        found.float().sum().backward()
    torch.testing.assert_close(found.float(), precise, rtol=0.05, atol=0.05)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(embeddings.eval()(ids).float(), precise, rtol=0.05, atol=0.05)
    with torch.no_grad():
        torch.testing.assert_close(embeddings(ids), precise)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("length", [1, 20, 300])
def test_the_gradient_of_maxima_goes_to_the_first_position_of_each(dtype, length):
    source = generator(0)
    table = (torch.randn(40, 3, generator=source) * 1e-3).to(dtype).requires_grad_()
    rows = torch.randint(40, (5, length, 2), generator=source)
    weights = torch.randn(5, 3, generator=source).to(dtype)
    maxima = _LargestSums.apply(table, rows)
    found = torch.autograd.grad((maxima * weights).sum(), table)[0]
    sums = _sums(table, rows)
    firsts = (sums == sums.amax(dim=1, keepdim=True)).int().argmax(dim=1, keepdim=True)
    expected = torch.autograd.grad((sums.gather(1, firsts).squeeze(1) * weights).sum(), table)[0]
    assert maxima.tolist() == sums.gather(1, firsts).squeeze(1).tolist()
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-2)
