"""Words as the steps of a tagger: the same as loops over words and tokens give, in scores and gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    CELLS,
    VOCAB_SIZE,
    assert_same,
    few,
    generator,
    gradients,
    little_config,
    project,
    random_ids,
    seeds,
)
from torch.nn.utils.rnn import pack_sequence, pad_sequence

from rnn_hf import DataCollatorWithPacking, RnnForTokenClassification, train_tokenizer
from rnn_hf.models.packing import Packing
from rnn_hf.models.pooled_words import PooledWords, Words, without_ends

END = 2
TOKENIZER = train_tokenizer(["to be or not to be"], "word", min_frequency=1)
IOB2 = {0: "O", 1: "B-X", 2: "I-X"}
FEATURES = {"characters": "abc", "char_num_filters": 3, "static_embedding_size": 3, "static_vocab_size": 4}
lengths_with_none = st.lists(st.integers(0, 9), min_size=1, max_size=5)


def make(seed, share=0.6, **options) -> RnnForTokenClassification:
    """Make a tagger with random tables, in which this share of the entries begins a word."""
    torch.manual_seed(seed % 1000)
    options = {"id2label": IOB2, "subword_pooling": "mean", "eos_token_id": END} | FEATURES | options
    model = RnnForTokenClassification(little_config(**options))
    source = generator(seed)
    model.word_starts.copy_(torch.rand(VOCAB_SIZE, generator=source) < share)
    if model.model.embeddings.static_embeddings is not None:
        model.model.embeddings.static_embeddings.vector_ids.random_(0, 5, generator=source)
    if model.model.embeddings.character_cnn is not None:
        model.model.embeddings.character_cnn.character_ids.random_(0, 8, generator=source)
    if model.lexical is not None:
        model.lexical.character_codes.random_(0, 40, generator=source)
        torch.nn.init.normal_(model.lexical.weight)
        model.lexical.set_characters(model.lexical.character_codes)
    return model


def words_of(model, ids: list[int]) -> list[list[int]]:
    """Split a sequence into its words, without its end token."""
    ids = ids[:-1] if ids and ids[-1] == END else ids
    words: list[list[int]] = []
    for entry in ids:
        if not words or model.word_starts[entry]:
            words.append([])
        words[-1].append(entry)
    return words


def vectors_of(model, words: list[list[int]]) -> torch.Tensor:
    """Pool the vectors of tokens, word by word: `[num_words, input_size]`."""
    config = model.config
    num_means = config.embedding_size + config.static_embedding_size
    table = model.model.embeddings(torch.arange(VOCAB_SIZE))  # all at once, so that equal maxima are equal to the bit
    pooled = []
    for word in words:
        vectors = table[word]
        pooled.append(torch.cat([vectors[:, :num_means].mean(dim=0), vectors[:, num_means:].amax(dim=0)]))
    return torch.stack(pooled) if pooled else torch.zeros(0, config.input_size)


def scores_of(model, words: list[list[int]]) -> torch.Tensor:
    """Score the labels of each word of a sequence by itself: `[num_words, num_labels]`."""
    if not words:
        return torch.zeros(0, len(model.config.label_names))
    states = model.model(inputs_embeds=vectors_of(model, words).unsqueeze(0)).last_hidden_state[0]
    scores = model.classifier(states)
    if model.lexical is not None:
        tokens = torch.tensor([entry for word in words for entry in word])
        begins = torch.tensor([position == 0 for word in words for position in range(len(word))])
        scores = scores + model.lexical(tokens, Words.find(begins, Packing.from_mask(torch.ones(1, len(tokens)))))
    return scores


def logits_of(model, ids: list[int]) -> torch.Tensor:
    """Score the tokens of a sequence, in evaluation: `[num_tokens, num_labels]`, 0 at the end token."""
    words = words_of(model, ids)
    scores = scores_of(model, words)
    if model.crf is not None and words:
        scores = model.crf.max_marginals(scores, Packing.from_mask(torch.ones(1, len(scores))))
    rows = []
    for word, row in zip(words, scores, strict=True):
        inside = torch.stack([row[0], row[1:].amin(), row[1:].amax()])  # `B-X` goes on as `I-X`
        rows += [row, *[inside] * (len(word) - 1)]
    return torch.stack(rows + [torch.zeros(scores.shape[1])] * (len(ids) - len(rows))) if ids else scores


def padded(ids: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    mask = pad_sequence([torch.ones(len(row)) for row in ids], batch_first=True)
    return {"input_ids": pad_sequence(ids, batch_first=True), "attention_mask": mask}


def ended(lengths, seed) -> list[torch.Tensor]:
    """Draw sequences, of which some have an end token."""
    rows = random_ids(lengths, seed)
    for position, row in enumerate(rows):
        if len(row) and (seed >> position) % 3:
            row[-1] = END
    return rows


@given(
    lengths=lengths_with_none,
    share=st.sampled_from([0.0, 0.6, 1.0]),
    cell=st.sampled_from(CELLS),
    bidirectional=st.booleans(),
    use_crf=st.booleans(),
    features=st.sampled_from([{}, {"num_lexical_features": 60}, {"characters": None, "static_embedding_size": 0}]),
    seed=seeds,
)
@few(80)
def test_logits_are_those_of_loops_over_words(lengths, share, cell, bidirectional, use_crf, features, seed):
    options = {"cell_type": cell, "bidirectional": bidirectional, "use_crf": use_crf, **features}
    model, ids = make(seed, share, **options).eval(), ended(lengths, seed)
    batch = padded(ids)
    with torch.no_grad():
        expected = [logits_of(model, row.tolist()) for row in ids]
        found = model(**batch).logits
        if not use_crf:
            torch.testing.assert_close(model.marginals(**batch), found.softmax(dim=-1))
    torch.testing.assert_close(found, pad_sequence(expected, batch_first=True), rtol=1e-4, atol=1e-5)
    holes = {name: values.repeat_interleave(2, dim=1) for name, values in batch.items()}
    holes["attention_mask"][:, 1::2] = 0
    with torch.no_grad():
        torch.testing.assert_close(model(**holes).logits[:, ::2], found, rtol=1e-4, atol=1e-5)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), use_crf=st.booleans(), seed=seeds)
@few(40)
def test_losses_and_gradients_are_those_of_loops_over_words(lengths, use_crf, seed):
    model, ids = make(seed, use_crf=use_crf, num_lexical_features=60, lexical_dropout=0.0), ended(lengths, seed)
    rows = [words_of(model, row.tolist()) for row in ids]
    if not any(rows):
        return
    source = generator(seed)
    labels = [torch.full((len(row),), -100) for row in ids]
    of_words = []
    for words, row in zip(rows, labels, strict=True):
        first, chosen = 0, torch.tensor([0, *torch.randint(2, (max(len(words) - 1, 0),), generator=source).tolist()])
        for word, label in zip(words, chosen.tolist(), strict=False):
            row[first] = label
            first += len(word)
        of_words.append(chosen[: len(words)])
    loss = model.train()(**padded(ids), labels=pad_sequence(labels, batch_first=True, padding_value=-100)).loss
    loss.backward()
    found = gradients(model)

    given = [scores_of(model, words) for words in rows]
    if use_crf:
        longest = pad_sequence(given, batch_first=True)
        packing = Packing.from_mask(pad_sequence([torch.ones(len(row)) for row in given], batch_first=True))
        tags = packing.pack(pad_sequence(of_words, batch_first=True))
        expected = model.crf(packing.pack(longest), tags, packing).sum() / packing.num_tokens
    else:
        expected = torch.nn.functional.cross_entropy(torch.cat(given), torch.cat(of_words))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    expected.backward()
    assert_same(found, gradients(model), rtol=1e-3, atol=1e-5)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=seeds)
@few(25)
def test_every_form_of_input_gives_the_same(lengths, seed):
    model, ids = make(seed, use_crf=True, num_lexical_features=60).eval(), ended(lengths, seed)
    with torch.no_grad():
        expected = model(**padded(ids)).logits
        packed = pack_sequence(ids, enforce_sorted=False)
        torch.testing.assert_close(model(packed).logits, expected, rtol=1e-4, atol=1e-5)
        collated = DataCollatorWithPacking(TOKENIZER)([{"input_ids": row} for row in ids])
        torch.testing.assert_close(model(**collated).logits, expected, rtol=1e-4, atol=1e-5)
        vectors = model.model.embeddings(packed.data)
        layout = {"batch_sizes": packed.batch_sizes, "sorted_indices": packed.sorted_indices}
        beside_ids = model(input_ids=packed.data, inputs_embeds=vectors, **layout)
        torch.testing.assert_close(beside_ids.logits, expected, rtol=1e-4, atol=1e-5)


def test_hidden_states_are_those_of_words_at_their_first_tokens():
    model = make(0).eval()
    model.word_starts.fill_(True)[7] = False
    ids = torch.tensor([[5, 7, 6, END]])
    embeds, states = model(input_ids=ids, output_hidden_states=True).hidden_states
    expected = vectors_of(model, [[5, 7], [6]])
    torch.testing.assert_close(embeds[0, [0, 2]], expected)
    torch.testing.assert_close(states[0, [0, 2]], model.model(inputs_embeds=expected[None]).last_hidden_state[0])
    assert not embeds[0, [1, 3]].any()
    assert not states[0, [1, 3]].any()


def test_repeated_words_change_nothing():
    model, ids = make(3, use_crf=True).eval(), ended([9, 7, 8, 9] * 30, 3)
    with torch.no_grad():
        expected = [model(input_ids=row.unsqueeze(0)).logits[0] for row in ids]
        assert model._encode(**padded(ids), output_hidden_states=False).words.distinct(model.model.rnn)[1] is not None
        found = model(**padded(ids)).logits  # a batch in which distinct words are read once
    torch.testing.assert_close(found, pad_sequence(expected, batch_first=True), rtol=1e-4, atol=1e-5)


def test_the_token_after_a_sequence_may_be_a_separator():
    model = make(0, eos_token_id=None, sep_token_id=END).eval()
    ids = torch.tensor([[5, 6, 7, END]])
    logits = model(input_ids=ids).logits
    torch.testing.assert_close(logits[:, :3], model(input_ids=ids[:, :3]).logits)
    assert not logits[:, 3].any()


def test_in_training_first_tokens_alone_have_scores():
    model = make(0).train()
    model.word_starts.fill_(True)[7] = False
    logits = model(input_ids=torch.tensor([[5, 7, 6]]), labels=torch.tensor([[0, -100, 1]])).logits
    assert logits[0, [0, 2]].any(dim=1).all()
    assert not logits[0, 1].any()


def test_long_words_are_averaged_in_single_precision():
    tokens = Packing.from_mask(torch.ones(1, 3000))
    words = PooledWords.find(torch.zeros(3000, dtype=torch.long), torch.zeros(3000, dtype=torch.bool), tokens)
    mean = words.embed(lambda positions: torch.ones(len(positions), 2, dtype=torch.bfloat16), words.numbers, 2)
    assert mean.tolist() == [[1.0, 1.0]]


def test_vectors_alone_do_where_each_token_is_a_word():
    model = make(0, bidirectional=False).eval()
    ids = torch.tensor([[5, 6, 7]])
    vectors = model.model.embeddings(ids[0]).unsqueeze(0)
    model.word_starts.fill_(True)
    torch.testing.assert_close(model(inputs_embeds=vectors).logits, model(input_ids=ids).logits)
    model.word_starts[6] = False
    with pytest.raises(ValueError, match="give input_ids beside inputs_embeds"):
        model(inputs_embeds=vectors)


def test_of_two_passes_each_drops_words_of_its_own():
    model = make(0, word_dropout=0.5).train()
    batch = padded(ended([9, 4], 5))
    encoded = model._encode(**batch, output_hidden_states=True, num_passes=2)
    first, second = encoded.packing.pad(encoded.embeds).chunk(2)
    assert encoded.packing.batch_size == 4
    assert not torch.equal(first, second)


def test_a_saved_tagger_gives_the_same(tmp_path):
    model = make(4, use_crf=True, num_lexical_features=60).eval()
    model.save_pretrained(tmp_path)
    loaded = RnnForTokenClassification.from_pretrained(tmp_path)
    assert loaded.config.subword_pooling == "mean"
    batch = padded(ended([6, 3], 4))
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


@given(lengths=lengths_with_none, seed=seeds)
@few(40)
def test_the_last_token_is_left_out_where_it_is_the_end(lengths, seed):
    ids = ended(lengths, seed)
    batch = padded(ids)
    packing = Packing.from_mask(batch["attention_mask"])
    packed = packing.pack(batch["input_ids"])
    (others, doubled), left = without_ends([packed, 2.0 * packed], packed, packing, [END])
    expected = [row[:-1] if len(row) and row[-1] == END else row for row in ids]
    assert left.lengths.tolist() == list(map(len, expected))
    assert left.sequence_length == packing.sequence_length
    assert (
        left.pad(others, -1)[:, : max(map(len, expected))].tolist()
        == pad_sequence(expected, batch_first=True, padding_value=-1).tolist()
    )
    assert torch.equal(doubled, 2.0 * others)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=seeds)
@few(40)
def test_values_of_words_are_spread_to_their_tokens(lengths, seed):
    ids = random_ids(lengths, seed)
    batch = padded(ids)
    tokens = Packing.from_mask(batch["attention_mask"])
    packed = tokens.pack(batch["input_ids"])
    is_start = packed < VOCAB_SIZE // 2
    words = PooledWords.find(packed, is_start, tokens)
    assert torch.equal(words.first_ids, packed[words.first_tokens])
    assert bool((is_start | (tokens.steps == 0))[words.first_tokens].all())
    spread = tokens.pad(words.spread(words.first_ids))
    for row, found in zip(ids, spread, strict=True):
        current = None
        for step, entry in enumerate(row.tolist()):
            current = entry if step == 0 or entry < VOCAB_SIZE // 2 else current
            assert found[step] == current
    assert project(words.packing.pad(words.first_ids)) == project(
        torch.where(tokens.pad(is_start | (tokens.steps == 0)), batch["input_ids"], 0)
    )
