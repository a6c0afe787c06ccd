"""The tagger with a conditional random field: words of several tokens, labels of every kind, loading, pipelines."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import assert_same, few, generator, gradients, little_config, random_ids, seeds, with_objectives
from transformers import Trainer, TrainingArguments, pipeline

from rnn_hf import DataCollatorWithPacking, RnnForTokenClassification, train_tokenizer
from rnn_hf.models.packing import Packing
from rnn_hf.text.characters import set_vocabulary

LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
SENTENCES = [["Ann", "lives", "in", "New", "York"], ["unbelievably", "many", "believers"], ["Ann", "believes"]]

lengths_and_more = st.lists(st.integers(1, 8), min_size=1, max_size=4)


def make(seed=0, **options) -> RnnForTokenClassification:
    torch.manual_seed(seed)
    model = RnnForTokenClassification(little_config(id2label=LABELS, use_crf=True, **options))
    with torch.no_grad():
        for parameter in model.crf.parameters():
            parameter.normal_()
        model.classifier.weight.mul_(10)
    return model


def is_valid(labels) -> bool:
    return all(
        not name.startswith("I-") or (before[2:] == name[2:] and before != "O")
        for before, name in zip(["O", *labels], labels, strict=False)
    )


def decoded(logits) -> list[str]:
    return [LABELS[index] for index in logits.argmax(-1).tolist()]


def padded(sequences, value=0):
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=value)


@given(lengths_and_more, seeds)
@few(25)
def test_unlabelled_tokens_are_left_out_of_the_sequence_wherever_they_are(lengths, seed):
    model, source = make(seed % 100), generator(seed)
    labels = [torch.randint(-2, 5, (length,), generator=source) for length in lengths]
    labels = [row.masked_fill(row < 0, -100) for row in labels]
    ids = random_ids(lengths, seed)
    mask = padded([torch.ones(length) for length in lengths])
    output = model(input_ids=padded(ids), attention_mask=mask, labels=padded(labels, -100))
    # The same emissions without the tokens that have no label.
    with torch.no_grad():
        emissions = model.train()(input_ids=padded(ids), attention_mask=mask).logits
    total, count = torch.tensor(0.0), 0
    for row, tags in zip(emissions, labels, strict=True):
        kept = row[: len(tags)][tags != -100]
        if len(kept):
            total = total + model.crf(kept, tags[tags != -100], Packing.from_mask(torch.ones(1, len(kept)))).sum()
            count += len(kept)
    torch.testing.assert_close(output.loss, total / max(count, 1), rtol=1e-4, atol=1e-5)


@given(lengths_and_more, seeds)
@few(25)
def test_best_labels_of_words_are_a_valid_sequence_and_do_not_depend_on_the_batch(lengths, seed):
    model, ids = make(seed % 100).eval(), random_ids(lengths, seed)
    model.word_starts.copy_(torch.rand(30, generator=generator(seed)) < 0.6)
    mask = padded([torch.ones(length) for length in lengths])
    logits = model(input_ids=padded(ids), attention_mask=mask).logits
    for row, sequence in zip(logits, ids, strict=True):
        alone = model(input_ids=sequence.unsqueeze(0)).logits[0]
        torch.testing.assert_close(row[: len(sequence)], alone, rtol=1e-4, atol=1e-4)
        assert is_valid(decoded(alone[model.word_starts[sequence]]))


def test_other_tokens_of_a_word_continue_its_label():
    model = make().eval()
    model.word_starts.zero_()[[3, 5]] = True
    # Word 3 has two more tokens; the first token of all belongs to no word.
    logits = model(input_ids=torch.tensor([[9, 3, 8, 9, 5]])).logits[0]
    first, *others = logits[1:4]
    for other in others:
        for begin, inside in ((1, 2), (3, 4)):
            assert other[inside] == max(first[begin], first[inside])
            assert other[begin] == min(first[begin], first[inside])
        assert other[0] == first[0]
    assert not logits[0].any()


def test_without_ids_every_vector_is_a_word():
    model = make().eval()
    embeds = torch.randn(2, 6, 5, generator=generator(0))
    for row in model(inputs_embeds=embeds).logits:
        assert is_valid(decoded(row))


@pytest.mark.parametrize("labels", [torch.full((2, 3), -100), torch.tensor([[-100, 1, -100], [-100, -100, 0]])])
def test_losses_of_few_or_no_labels_are_finite(labels):
    model = make()
    loss = model(input_ids=torch.tensor([[3, 4, 5], [6, 7, 8]]), labels=labels).loss
    loss.backward()
    assert loss.isfinite()
    assert all(value.isfinite().all() for value in (p.grad for p in model.parameters()) if value is not None)


def test_every_parameter_receives_a_gradient():
    model = make(characters="ab", max_characters_per_token=4, char_num_filters=2)
    model.model.embeddings.character_cnn.character_ids.copy_(torch.randint(7, (30, 4), generator=generator(0)))
    ids = torch.randint(30, (6, 9), generator=generator(0))
    model(input_ids=ids, labels=ids % 5).loss.backward()
    for name, gradient in gradients(model).items():
        assert gradient.any(), name


def test_losses_of_small_batches_sum_to_that_of_the_big_one():
    model = make()
    ids, labels = (torch.randint(high, (6, 4), generator=generator(high)) for high in (30, 5))
    labels[0, :3] = -100
    whole = model(input_ids=ids, labels=labels).loss
    count = (labels != -100).sum()
    parts = [
        model(input_ids=ids[i : i + 2], labels=labels[i : i + 2], num_items_in_batch=count).loss for i in (0, 2, 4)
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_class_weights_weigh_each_label_s_share_of_the_likelihood():
    ids, labels = (torch.randint(high, (3, 4), generator=generator(high)) for high in (30, 5))
    plain, weighted = make(), with_objectives(make(), class_weights=[1.0, 2.0, 3.0, 1.0, 1.0])
    even = with_objectives(make(), class_weights=[2.0] * 5)
    assert float(even(input_ids=ids, labels=labels).loss) == pytest.approx(
        2 * float(plain(input_ids=ids, labels=labels).loss), rel=1e-5
    )
    labels = torch.full_like(labels, 2)
    assert float(weighted(input_ids=ids, labels=labels).loss) == pytest.approx(
        3 * float(plain(input_ids=ids, labels=labels).loss), rel=1e-5
    )


def test_marginals_are_probabilities_in_which_forbidden_labels_have_none():
    model = make().eval()
    probabilities = model.marginals(input_ids=torch.tensor([[3, 4, 5, 6]]))
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(1, 4))
    assert not probabilities[0, 0, [2, 4]].any()
    plain = RnnForTokenClassification(little_config(id2label=LABELS)).eval()
    ids = torch.tensor([[3, 4]])
    torch.testing.assert_close(plain.marginals(input_ids=ids), plain(input_ids=ids).logits.softmax(-1))


def test_a_saved_model_decodes_the_same_after_loading(tmp_path):
    model = make().eval()
    model.word_starts[[1, 2, 9]] = False
    model.save_pretrained(tmp_path)
    loaded = RnnForTokenClassification.from_pretrained(tmp_path)
    ids = torch.randint(30, (3, 7), generator=generator(0))
    assert_same({"logits": loaded(input_ids=ids).logits}, {"logits": model(input_ids=ids).logits})
    assert_same(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_field_that_a_checkpoint_lacks_is_initialised(tmp_path):
    RnnForTokenClassification(little_config(id2label=LABELS)).save_pretrained(tmp_path)
    loaded = RnnForTokenClassification.from_pretrained(tmp_path, use_crf=True)
    assert not any(parameter.any() for parameter in loaded.crf.parameters())
    assert loaded.word_starts.all()


def test_bfloat16_checkpoints_load_and_decode(tmp_path):
    make().save_pretrained(tmp_path)
    loaded = RnnForTokenClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    ids = torch.randint(30, (3, 7), generator=generator(0))
    logits = loaded(input_ids=ids).logits
    assert logits.dtype == torch.float32
    assert all(is_valid(decoded(row)) for row in logits)
    loaded.train()(input_ids=ids, labels=ids % 5).loss.backward()


@pytest.fixture(scope="module")
def tagger_and_tokenizer():
    tokenizer = train_tokenizer(SENTENCES, "wordpiece", vocab_size=60, min_frequency=1, is_split_into_words=True)
    model = make(vocab_size=len(tokenizer)).eval()
    set_vocabulary(model, tokenizer)
    return model, tokenizer


def test_pipelines_decode_what_the_model_decodes(tagger_and_tokenizer):
    model, tokenizer = tagger_and_tokenizer
    tag = pipeline("token-classification", model=model, tokenizer=tokenizer, ignore_labels=[])
    for words, found in zip(SENTENCES, tag(SENTENCES, is_split_into_words=True, batch_size=2), strict=True):
        encoding = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        starts = model.word_starts[encoding["input_ids"][0]]
        expected = decoded(model(**encoding).logits[0][starts])
        firsts = [one["entity"] for one in found if not one["word"].startswith("##")]
        assert firsts == expected
        assert is_valid(firsts)


def test_simple_aggregation_never_splits_a_word(tagger_and_tokenizer):
    model, tokenizer = tagger_and_tokenizer
    tag = pipeline(
        "token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple", ignore_labels=[]
    )
    for group in (group for groups in tag(SENTENCES, is_split_into_words=True) for group in groups):
        assert not group["word"].startswith("##")


def test_the_trainer_predicts_what_the_model_decodes(tagger_and_tokenizer, tmp_path):
    model, tokenizer = tagger_and_tokenizer
    rows = [{"input_ids": ids} for ids in tokenizer(SENTENCES, is_split_into_words=True)["input_ids"]]
    arguments = TrainingArguments(str(tmp_path), report_to="none", disable_tqdm=True, per_device_eval_batch_size=2)
    predicted = Trainer(model, arguments, DataCollatorWithPacking(tokenizer)).predict(rows).predictions
    for row, logits in zip(rows, predicted, strict=True):
        alone = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        assert logits[: len(alone)].argmax(-1).tolist() == alone.argmax(-1).tolist()


class TestEndsOfSpans:
    """The field scores IOBES labels in place of IOB2 labels."""

    @staticmethod
    def make(seed=0, **options) -> RnnForTokenClassification:
        return make(seed, crf_tag_scheme="iobes", **options)

    @staticmethod
    def refined(tags) -> list[str]:
        """Refine IOB2 tags, which may be wrong, one by one."""
        names = [LABELS[tag] for tag in tags]
        goes_on = [
            after[0] == "I" and after[2:] == name[2:] for name, after in zip(names, [*names[1:], "O"], strict=True)
        ]
        ends = {"B": "S", "I": "E", "O": "O"}
        return [name if on else ends[name[0]] + name[1:] for name, on in zip(names, goes_on, strict=True)]

    @given(lengths_and_more, seeds)
    @few(25)
    def test_the_loss_is_that_of_refined_labels(self, lengths, seed):
        model, source = self.make(seed % 100), generator(seed)
        scored = model.config.scored_label_names
        assert scored == ["O", "B-PER", "S-PER", "I-PER", "E-PER", "B-LOC", "S-LOC", "I-LOC", "E-LOC"]
        labels = [torch.randint(-2, 5, (length,), generator=source) for length in lengths]
        labels = [row.masked_fill(row < 0, -100) for row in labels]
        ids, mask = padded(random_ids(lengths, seed)), padded([torch.ones(length) for length in lengths])
        output = model(input_ids=ids, attention_mask=mask, labels=padded(labels, -100))
        encoded = model._encode(ids, mask)
        emissions = encoded.packing.pad(model.train()._classify(encoded))
        total, count = torch.tensor(0.0), 0
        for row, tags in zip(emissions, labels, strict=True):
            known = tags[tags != -100]
            if len(known):
                wanted = torch.tensor([scored.index(name) for name in self.refined(known.tolist())])
                one = Packing.from_mask(torch.ones(1, len(known)))
                total = total + model.crf(row[: len(tags)][tags != -100], wanted, one).sum()
                count += len(known)
        torch.testing.assert_close(output.loss, total / max(count, 1), rtol=1e-4, atol=1e-5)

    @given(lengths_and_more, seeds, st.sampled_from(["none", "mean"]))
    @few(25)
    def test_scores_are_the_best_and_the_sum_of_what_a_label_stands_for(self, lengths, seed, pooling):
        model = self.make(seed % 100, subword_pooling=pooling).eval()
        names = model.config.scored_label_names
        stands_for = [
            [names.index(name) for name in pair if name in names]
            for pair in (
                ["O"],
                ["B-PER", "S-PER"],
                ["I-PER", "E-PER"],
                ["B-LOC", "S-LOC"],
                ["I-LOC", "E-LOC"],
            )
        ]
        ids, mask = padded(random_ids(lengths, seed)), padded([torch.ones(length) for length in lengths])
        encoded = model._encode(ids, mask)
        emissions, packing = model._classify(encoded), encoded.packing
        best, log = model.crf.max_marginals(emissions, packing), model.crf.log_marginals(emissions, packing)
        highest = torch.stack([best[:, group].amax(1) for group in stands_for], dim=1)
        summed = torch.stack([log[:, group].exp().sum(1) for group in stands_for], dim=1)
        output = model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(packing.pack(output), highest)
        torch.testing.assert_close(packing.pack(model.marginals(input_ids=ids, attention_mask=mask)), summed)
        for row, length in zip(output, lengths, strict=True):
            assert is_valid(decoded(row[:length]))

    def test_the_head_has_a_row_for_each_refined_label(self):
        model = self.make(num_lexical_features=20, max_characters_per_token=4)
        assert model.classifier.out_features == len(model.crf.label_names) == model.lexical.size == 9
        assert self.make(num_lexical_features=0).config.num_labels == 5

    @pytest.mark.parametrize("options", [{"use_crf": False}, {"id2label": {0: "NOUN", 1: "VERB"}}])
    def test_without_a_field_or_spans_it_has_no_effect(self, options):
        config = little_config(**{"id2label": LABELS, "use_crf": True, "crf_tag_scheme": "iobes", **options})
        assert RnnForTokenClassification(config).classifier.out_features == len(config.label_names)

    def test_a_saved_model_decodes_the_same_after_loading(self, tmp_path):
        model = self.make().eval()
        model.save_pretrained(tmp_path)
        ids = torch.randint(30, (3, 7), generator=generator(0))
        loaded = RnnForTokenClassification.from_pretrained(tmp_path)
        assert loaded.config.crf_tag_scheme == "iobes"
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)

    def test_kinds_of_spans_may_be_named_anew_but_not_the_marks(self, tmp_path):
        model = self.make().eval()
        ids = torch.randint(30, (3, 7), generator=generator(0))
        model.config.id2label = {0: "O", 1: "B-Person", 2: "I-Person", 3: "B-Place", 4: "I-Place"}
        model.save_pretrained(tmp_path)
        assert torch.equal(
            RnnForTokenClassification.from_pretrained(tmp_path)(input_ids=ids).logits, model(input_ids=ids).logits
        )
        model.config.id2label = {0: "nothing", 1: "Person", 2: "more Person", 3: "Place", 4: "more Place"}
        with pytest.raises(ValueError, match="must stay so; got nothing, Person, more Person, Place, more Place"):
            model.save_pretrained(tmp_path)

    def test_class_weights_are_those_of_labels(self):
        ids, labels = (torch.randint(high, (3, 4), generator=generator(high)) for high in (30, 5))
        even = with_objectives(self.make(), class_weights=[2.0] * 5)
        twice = 2 * float(self.make()(input_ids=ids, labels=labels).loss)
        assert float(even(input_ids=ids, labels=labels).loss) == pytest.approx(twice, rel=1e-5)

    def test_labels_that_the_model_lacks_are_named(self):
        with pytest.raises(ValueError, match="labels must be from 0 to 4"):
            self.make()(input_ids=torch.tensor([[3]]), labels=torch.tensor([[5]]))
