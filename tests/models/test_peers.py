"""What users bring from other models: tokenizers with `token_type_ids`, the stock Trainer, pipelines, adapters."""

from functools import cache

import pytest
import torch
from strategies import little_config
from transformers import (
    BertTokenizerFast,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

from rnn_hf import (
    DataCollatorWithPacking,
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnModel,
    RnnTrainer,
    RnnTrainingArguments,
    train_tokenizer,
)
from rnn_hf.text.characters import set_vocabulary

HEADS = (RnnForSequenceClassification, RnnForTokenClassification)
WORDS = ["good", "bad", "film", "##s", "anna", "lives", "in", "oslo", "."]


@cache
def bert_tokenizer():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizerFast(vocab={word: index for index, word in enumerate(vocabulary)}, model_max_length=512)


def make(model_class, **options):
    torch.manual_seed(0)
    return model_class(little_config(**options)).eval()


class TestArgumentsOfOtherModels:
    @pytest.mark.parametrize("model_class", [RnnModel, *HEADS])
    def test_what_stock_tokenizers_and_pipelines_pass_has_no_effect(self, model_class):
        model, ids = make(model_class), torch.tensor([[5, 6, 7], [8, 9, 0]])
        mask = (ids != 0).long()
        expected = model(input_ids=ids, attention_mask=mask)
        given = {"token_type_ids": torch.zeros_like(ids), "use_cache": False, "output_attentions": False}
        found = model(input_ids=ids, attention_mask=mask, head_mask=None, **given)
        assert torch.equal(found[0], expected[0])

    @pytest.mark.parametrize("model_class", [RnnModel, *HEADS])
    @pytest.mark.parametrize("asked", [{"output_attentions": True}, {"head_mask": torch.ones(1, 1)}])
    def test_attention_is_not_there_to_be_asked_for(self, model_class, asked):
        with pytest.raises(ValueError, match="has no attention heads"):
            make(model_class)(input_ids=torch.tensor([[5, 6]]), **asked)

    @pytest.mark.parametrize("model_class", [RnnModel, *HEADS])
    def test_a_mistyped_argument_is_refused(self, model_class):
        with pytest.raises(TypeError, match="atention_mask"):
            make(model_class)(input_ids=torch.tensor([[5, 6]]), atention_mask=torch.ones(1, 2))

    @pytest.mark.parametrize("packs", [False, True], ids=["padded", "packed"])
    @pytest.mark.parametrize("keeps_columns", [False, True], ids=["own columns", "all columns"])
    def test_a_classifier_with_a_bert_tokenizer_in_the_stock_trainer_and_a_pipeline(
        self, tmp_path, packs, keeps_columns
    ):
        tokenizer = bert_tokenizer()
        rows = [{**tokenizer(text), "labels": label} for text, label in [("good film.", 1), ("bad films", 0)] * 8]
        collator = DataCollatorWithPacking(tokenizer) if packs else DataCollatorWithPadding(tokenizer)
        model = make(RnnForSequenceClassification, num_labels=2)
        _train(model, rows, collator, tmp_path, remove_unused_columns=not keeps_columns)
        pipe = pipeline("text-classification", model=model, tokenizer=tokenizer)
        assert [one["label"] for one in pipe(["good film.", "bad films"], batch_size=2)] == ["LABEL_1", "LABEL_0"]

    @pytest.mark.parametrize("packs", [False, True], ids=["padded", "packed"])
    def test_a_tagger_with_a_bert_tokenizer_in_the_stock_trainer_and_a_pipeline(self, tmp_path, packs):
        tokenizer = bert_tokenizer()
        row = tokenizer("Anna lives in Oslo.")
        rows = [{**row, "labels": [-100, 1, 0, 0, 2, 0, -100]}] * 16
        collator = (DataCollatorWithPacking if packs else DataCollatorForTokenClassification)(tokenizer)
        model = make(RnnForTokenClassification, id2label={0: "O", 1: "B-PER", 2: "B-LOC"})
        _train(model, rows, collator, tmp_path)
        pipe = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple")
        found = pipe("Anna lives in Oslo.", ignore_labels=["O"])
        assert [(one["entity_group"], one["start"], one["end"]) for one in found] == [("PER", 0, 4), ("LOC", 14, 18)]

    @pytest.mark.parametrize("model_class", HEADS)
    def test_an_exported_model_ignores_the_same(self, model_class, tmp_path):
        pytest.importorskip("onnxruntime")
        from rnn_hf.export import runtime
        from rnn_hf.export.folder import export

        tokenizer = bert_tokenizer()
        make(model_class, vocab_size=len(tokenizer)).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        export(str(tmp_path), tmp_path)
        model, _ = runtime.load(tmp_path)
        task = "text-classification" if model_class is RnnForSequenceClassification else "token-classification"
        assert pipeline(task, model=model, tokenizer=tokenizer)("Anna lives in Oslo.")
        with pytest.raises(ValueError, match="has no attention heads"):
            model(torch.tensor([[5]]), output_attentions=True)


class TestLongDocuments:
    """A recurrent model reads texts of any length, in a stock pipeline too."""

    TEXT = "a cat sat on the mat . " * 3000 + "Oslo"

    @pytest.mark.parametrize("model_class", HEADS)
    def test_nothing_is_cut(self, model_class, tmp_path):
        tokenizer = train_tokenizer([self.TEXT, self.TEXT], kind="word", min_frequency=1)
        model = make(model_class, vocab_size=len(tokenizer), bidirectional=False)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        if model_class is RnnForTokenClassification:
            found = pipeline("token-classification", model=str(tmp_path))(self.TEXT, ignore_labels=[])
            assert len(found) >= 7 * 3000 + 1
            assert max(one["end"] for one in found) == len(self.TEXT)
        else:  # the state at the last token, which has read all
            score = pipeline("text-classification", model=str(tmp_path))(self.TEXT)[0]["score"]
            with torch.no_grad():
                logits = model(**tokenizer(self.TEXT, return_tensors="pt")).logits
            assert score == pytest.approx(float(logits.softmax(-1).max()), abs=1e-6)


class TestLora:
    """Adapters of peft: on embeddings and linear layers by their modules, on recurrent weights by their parameters."""

    ALL = ("word_embeddings", "char_embeddings", "convolutions.0", "attention")

    def make(self, task, **options):
        tokenizer = train_tokenizer(["the cat sat on the mat", "a dog sees"], kind="word", min_frequency=1)
        model_class = RnnForSequenceClassification if task == "SEQ_CLS" else RnnForTokenClassification
        options |= {"characters": "abcdegmost", "char_num_filters": 3, "char_embedding_size": 3, "pooling": "attention"}
        model = make(model_class, vocab_size=len(tokenizer), num_labels=2, pad_token_id=0, **options)
        set_vocabulary(model, tokenizer)
        return model

    def adapt(self, task, model, **options):
        peft = pytest.importorskip("peft", reason="needs peft: pip install peft")
        return peft.get_peft_model(model, peft.LoraConfig(task_type=task, r=2, **options))

    def batch(self, task):
        ids = torch.tensor([[3, 4, 5, 6], [7, 8, 3, 0]])
        labels = torch.tensor([0, 1]) if task == "SEQ_CLS" else torch.tensor([[0, 1, 0, 1], [1, 0, 1, -100]])
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}

    def train(self, model, task):
        parameters = [one for one in model.parameters() if one.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=0.5)
        model.train()
        for _ in range(3):
            model(**self.batch(task)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return model.eval()

    CASES = (
        ("SEQ_CLS", {"target_modules": ["word_embeddings"]}),
        ("TOKEN_CLS", {"target_modules": ["word_embeddings"]}),
        ("SEQ_CLS", {"target_modules": list(ALL)}),
        ("TOKEN_CLS", {"target_modules": ["char_embeddings", "convolutions.1"]}),
        ("SEQ_CLS", {"target_modules": [], "target_parameters": ["rnn.weight_ih_l0", "rnn.weight_hh_l0_reverse"]}),
        ("TOKEN_CLS", {"target_modules": ["word_embeddings"], "target_parameters": ["rnn.weight_hh_l0"]}),
    )

    @pytest.mark.parametrize(("task", "options"), CASES)
    @torch.no_grad()
    def test_adapters_train_save_load_switch_off_and_merge(self, task, options, tmp_path):
        peft = pytest.importorskip("peft", reason="needs peft: pip install peft")
        inputs = {name: value for name, value in self.batch(task).items() if name != "labels"}
        model = self.adapt(task, self.make(task), **options)
        before = model(**inputs).logits
        with torch.enable_grad():
            self.train(model, task)
        moved = [name for name, one in model.named_parameters() if "lora_" in name and "_B" in name and one.any()]
        assert len(moved) == sum(map(len, options.values())), "each adapter learns"
        after = model(**inputs).logits
        assert not torch.allclose(after, before, atol=1e-3)
        with model.disable_adapter():
            assert torch.equal(model(**inputs).logits, before)
        model.save_pretrained(tmp_path / "adapter")
        loaded = peft.PeftModel.from_pretrained(self.make(task), tmp_path / "adapter").eval()
        assert torch.equal(loaded(**inputs).logits, after)
        merged = model.merge_and_unload()
        merged.save_pretrained(tmp_path / "merged")
        for one in (merged, type(merged).from_pretrained(tmp_path / "merged").eval()):
            torch.testing.assert_close(one(**inputs).logits, after, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS"])
    def test_the_classifier_is_trained_beside_the_adapters(self, task):
        model = self.adapt(task, self.make(task), target_modules=["word_embeddings"])
        trained = [name for name, one in model.named_parameters() if one.requires_grad and "lora" not in name]
        assert len(trained) == 2
        assert all("classifier.modules_to_save" in name for name in trained)

    def test_a_recurrent_module_as_a_target_is_refused_by_name(self):
        with pytest.raises(ValueError, match=r"PackedLSTM.* is not supported"):
            self.adapt("SEQ_CLS", self.make("SEQ_CLS"), target_modules=["rnn"])

    def test_the_trainer_adds_its_objectives_to_the_model_within(self, tmp_path):
        model = self.adapt("SEQ_CLS", self.make("SEQ_CLS"), target_modules=["word_embeddings"])
        rows = [{"input_ids": [3, 4, 5], "labels": 0}, {"input_ids": [6, 7], "labels": 1}] * 8
        args = RnnTrainingArguments(
            tmp_path, rdrop_loss_weight=1.0, num_train_epochs=1, eval_strategy="no", disable_tqdm=True, use_cpu=True
        )
        trainer = RnnTrainer(model, args, train_dataset=rows, data_collator=DataCollatorWithPacking(bert_tokenizer()))
        trainer.train()
        assert model.get_base_model().objectives.num_passes == 2
        trainer.save_model(tmp_path / "adapter")
        assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()

    def test_a_field_is_trained_whole_beside_the_adapters(self):
        model = self.make("TOKEN_CLS", id2label={0: "B-X", 1: "I-X"}, use_crf=True)
        options = {"target_modules": ["word_embeddings"], "modules_to_save": ["classifier", "crf"]}
        model = self.adapt("TOKEN_CLS", model, **options)
        before = {name: one.clone() for name, one in model.named_parameters() if "crf.modules_to_save" in name}
        assert before
        self.train(model, "TOKEN_CLS")
        assert any(not torch.equal(dict(model.named_parameters())[name], one) for name, one in before.items())


def _train(model, rows, collator, folder, **options):
    args = TrainingArguments(
        folder, learning_rate=0.05, num_train_epochs=25, report_to="none", save_strategy="no", **options
    )
    trainer = Trainer(model, args, train_dataset=rows, data_collator=collator)
    trainer.train()
    model.eval()
