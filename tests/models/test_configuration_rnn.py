"""The configuration: labels, refusals, round trips."""

import json
import math
import time
import warnings
from typing import ClassVar

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from hypothesis import given
from hypothesis import strategies as st
from strategies import CELLS, DIRECTIONS, POOLINGS, few
from transformers import AutoConfig, BertConfig, DistilBertConfig, GPT2Config, T5Config

from rnn_hf import RnnConfig

NAMES = {0: "red", 1: "green", 2: "blue"}
IDS = {"red": 0, "green": 1, "blue": 2}


@pytest.fixture
def saved(tmp_path):
    """A folder with the configuration of a classifier of two labels."""
    RnnConfig(vocab_size=50, id2label={0: "ham", 1: "spam"}).save_pretrained(tmp_path)
    return tmp_path


def content(config):
    """Everything but the folder that the configuration was loaded from."""
    return {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}


def assert_labels(config, names):
    assert config.id2label == names
    assert config.label2id == {name: index for index, name in names.items()}
    assert config.num_labels == len(names)
    assert all(type(index) is int for index in (*config.id2label, *config.label2id.values()))


@pytest.mark.parametrize(
    "labels",
    [
        {"id2label": NAMES},
        {"label2id": IDS},
        {"id2label": NAMES, "label2id": IDS},
        {"id2label": NAMES, "num_labels": 3},
        {"id2label": {str(index): name for index, name in NAMES.items()}},
        {"label2id": {name: str(index) for name, index in IDS.items()}},
        {"id2label": dict(reversed(NAMES.items()))},
    ],
    ids=str,
)
def test_either_map_of_labels_gives_the_other(labels, saved):
    assert_labels(RnnConfig(**labels), NAMES)
    assert_labels(RnnConfig.from_pretrained(saved, **labels), NAMES)
    assert_labels(AutoConfig.from_pretrained(saved, **labels), NAMES)


def test_a_number_of_labels_names_them(saved):
    names = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert_labels(RnnConfig(num_labels=3), names)
    assert_labels(RnnConfig.from_pretrained(saved, num_labels=3), names)


def test_without_labels_there_are_two():
    assert_labels(RnnConfig(), {0: "LABEL_0", 1: "LABEL_1"})


def test_loaded_labels_stay(saved):
    assert_labels(RnnConfig.from_pretrained(saved), {0: "ham", 1: "spam"})
    assert_labels(RnnConfig.from_pretrained(saved, num_labels=2), {0: "ham", 1: "spam"})


@pytest.mark.parametrize("attribute", ["id2label", "label2id", "num_labels"])
def test_labels_may_be_assigned(attribute):
    config = RnnConfig(id2label={0: "ham", 1: "spam"})
    setattr(config, attribute, {"id2label": NAMES, "label2id": IDS, "num_labels": 3}[attribute])
    assert_labels(config, {index: f"LABEL_{index}" for index in range(3)} if attribute == "num_labels" else NAMES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"id2label": {0: "a", 1: "a"}}, "names a label twice: 'a' has the ids 0, 1"),
        ({"id2label": {0: "a", 2: "b"}}, r"keys of id2label must be 0, 1, … 1, got \[0, 2\]"),
        ({"id2label": {1: "a", 2: "b"}}, r"keys of id2label must be 0, 1, … 1, got \[1, 2\]"),
        ({"label2id": {"a": 0, "b": 2}}, r"keys of id2label must be 0, 1, … 1, got \[0, 2\]"),
        ({"label2id": {"a": -1, "b": 0}}, r"keys of id2label must be 0, 1, … 1, got \[-1, 0\]"),
    ],
    ids=str,
)
def test_labels_with_gaps_or_duplicates_are_refused(labels, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        RnnConfig(**labels)


@pytest.mark.parametrize(
    "labels",
    [{"label2id": {"a": 0, "b": 0, "c": 1}}, {"id2label": {0: "a", 1: "b"}, "label2id": {"b": 0, "a": 1}}],
    ids=str,
)
def test_contradicting_labels_are_refused(labels):
    with pytest.raises((StrictDataclassClassValidationError, ValueError)):
        RnnConfig(**labels)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("hiden_size", "hidden_size"),
        ("vocabsize", "vocab_size"),
        ("num_label", "num_labels"),
        ("bi_directional", "bidirectional"),
        ("pad_token", "pad_token_id"),
        ("cell_types", "cell_type"),
    ],
)
def test_a_misspelt_keyword_is_refused_with_the_right_one(misspelt, meant):
    with pytest.raises(TypeError, match=f"no field '{misspelt}'. Did you mean '{meant}'?"):
        RnnConfig(**{misspelt: 3})


@pytest.mark.parametrize(
    "keyword",
    ["tie_word_embeddings", "mask_token_id", "cls_token_id", "is_decoder", "use_cache", "tokenizer_class", "prefix",
     "torchscript", "pruned_heads", "gradient_checkpointing", "decoder_start_token_id", "max_length", "top_k"],
)  # fmt: skip
def test_keywords_that_configurations_of_transformers_have_are_taken_quietly(keyword, saved):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RnnConfig(**{keyword: False})
        written = json.loads((saved / "config.json").read_text(encoding="utf-8")) | {keyword: None}
        (saved / "config.json").write_text(json.dumps(written), encoding="utf-8")
        RnnConfig.from_pretrained(saved)


def test_no_keyword_of_a_configuration_of_transformers_is_taken_for_a_misspelt_one():
    for other in (BertConfig, DistilBertConfig, GPT2Config, T5Config):
        for keyword in ("pad_token_id", "tie_word_embeddings", "torch_dtype", "use_cache"):
            RnnConfig(**{keyword: other().to_dict().get(keyword)})


@pytest.mark.parametrize("load", [RnnConfig.from_pretrained, AutoConfig.from_pretrained], ids=["own", "auto"])
@pytest.mark.parametrize(
    ("key", "meant"),
    [("transformers_weights", "transformers_version"), ("hiden_size", "hidden_size"), ("corpus", None)],
)
def test_an_unknown_key_of_a_file_is_kept_with_a_warning(load, key, meant, saved):
    written = json.loads((saved / "config.json").read_text(encoding="utf-8")) | {key: "x"}
    (saved / "config.json").write_text(json.dumps(written), encoding="utf-8")
    asked = f" Did you mean '{meant}'\\?" if meant else "$"
    with pytest.warns(UserWarning, match=f"no field '{key}'; it is kept as an attribute .*{asked}"):
        config = load(saved)
    assert getattr(config, key) == "x"
    assert config.hidden_size == RnnConfig().hidden_size
    assert config.to_dict()[key] == "x"


def test_from_dict_gives_back_what_it_did_not_use(saved):
    with pytest.warns(UserWarning, match="no field 'corpus'"):
        config, unused = RnnConfig.from_dict({"corpus": "news"}, hidden_size=3, other=1, return_unused_kwargs=True)
    assert (config.corpus, config.hidden_size, unused) == ("news", 3, {"other": 1})


def test_an_unknown_keyword_is_kept_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="RnnConfig has no field 'corpus'; it is kept as an attribute"):
        config = RnnConfig(corpus="news")
    assert config.corpus == "news"
    config.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="corpus"):
        assert RnnConfig.from_pretrained(tmp_path).corpus == "news"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", "100"),
        ("vocab_size", 100.0),
        ("hidden_size", None),
        ("num_hidden_layers", True),
        ("cell_type", "elman"),
        ("cell_type", "LSTM"),
        ("bidirectional", "yes"),
        ("bidirectional", 1),
        ("pooling", "average"),
        ("hidden_dropout", "0.1"),
        ("embedding_dropout", None),
        ("pad_token_id", "0"),
        ("problem_type", "tagging"),
        ("id2label", ["ham", "spam"]),
    ],
)
def test_values_of_the_wrong_type_are_refused(field, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=field):
        RnnConfig(**{field: value})
    config = RnnConfig()
    with pytest.raises(StrictDataclassFieldValidationError, match=field):
        setattr(config, field, value)


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("field", ["vocab_size", "embedding_size", "hidden_size", "num_hidden_layers"])
def test_sizes_are_at_least_1(field, value):
    with pytest.raises(StrictDataclassClassValidationError, match=f"{field} must be at least 1, got {value}"):
        RnnConfig(**{field: value})


@pytest.mark.parametrize("value", [-0.1, 1, 1.0, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["embedding_dropout", "hidden_dropout", "classifier_dropout"])
def test_dropouts_are_probabilities_below_1(field, value):
    with pytest.raises(StrictDataclassClassValidationError, match=f"{field} must be at least 0 and below 1"):
        RnnConfig(**{field: value})


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), -float("inf")])
def test_the_deviation_of_embeddings_is_finite_and_not_negative(value):
    with pytest.raises(StrictDataclassClassValidationError, match="initializer_range must not be negative, and finite"):
        RnnConfig(initializer_range=value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(
            ({field: 99999999999}, f"{field} must be at most 1.*, got 99,999,999,999")
            for field in (
                "vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "static_vocab_size",
                "static_embedding_size", "max_characters_per_token", "char_embedding_size", "char_num_filters",
            )
        ),
        ({"num_hidden_layers": 1000000000}, "num_hidden_layers must be at most 1,000, got 1,000,000,000"),
        ({"char_kernel_sizes": [3, 10**9]}, "char_kernel_sizes must hold at most 1000 sizes, none above that"),
        ({"char_kernel_sizes": [3] * 2000}, "char_kernel_sizes must hold at most 1000 sizes"),
        ({"vocab_size": 10**8, "embedding_size": 10**5}, "These sizes make a model of .* parameters, more than"),
        ({"hidden_size": 10**5, "num_hidden_layers": 2}, "These sizes make a model of .* parameters, more than"),
        ({"num_labels": 400_000, "use_crf": True}, "make a model of .* parameters, .* 400000 labels"),
    ],
    ids=str,
)  # fmt: skip
def test_sizes_that_no_model_has_are_refused_at_once(fields, message, saved):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        RnnConfig(**fields)
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        RnnConfig.from_dict(fields)


def test_large_sizes_that_models_have_are_taken():
    RnnConfig(vocab_size=3_000_000, static_vocab_size=3_000_000, static_embedding_size=300, num_word_embeddings=30_000)
    RnnConfig(hidden_size=4096, num_hidden_layers=8, embedding_size=4096)


class TestFieldsOfEarlierVersions:
    OF_TRAINING: ClassVar = {
        "class_weights": [1.0, 2.0], "rdrop_loss_weight": 1.0, "lm_loss_weight": 0.1, "auxiliary_loss_weight": 0.5,
        "num_auxiliary_tags": 3,
    }  # fmt: skip

    def test_that_training_has_now_are_ignored_in_a_file(self, tmp_path):
        RnnConfig(num_labels=2).save_pretrained(tmp_path)
        file = tmp_path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | self.OF_TRAINING))
        for load in (RnnConfig.from_pretrained, AutoConfig.from_pretrained):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                config = load(tmp_path)
            assert not self.OF_TRAINING.keys() & config.to_dict().keys()

    @pytest.mark.parametrize("field", OF_TRAINING)
    def test_that_training_has_now_are_refused_with_their_new_home(self, field, tmp_path):
        with pytest.raises(TypeError, match=f"{field} is an option of training: give it to RnnTrainingArguments"):
            RnnConfig(**{field: self.OF_TRAINING[field]})
        RnnConfig(num_labels=2).save_pretrained(tmp_path)
        with pytest.raises(TypeError, match=f"{field} is an option of training"):
            RnnConfig.from_pretrained(tmp_path, **{field: self.OF_TRAINING[field]})

    def test_that_were_renamed_are_read(self):
        assert RnnConfig.from_dict({"max_spelling_length": 7}).max_characters_per_token == 7


@pytest.mark.parametrize(
    "fields",
    [
        {"id2label": dict(enumerate(f"label {index}" for index in range(20_000)))},
        {"id2label": {0: "x" * 60_000, 1: "y" * 60_000}},
        {"characters": "".join(map(chr, range(20_000)))},
    ],
    ids=["labels", "long labels", "characters"],
)
def test_many_labels_and_characters_are_checked_fast(fields):
    start = time.process_time()
    RnnConfig(**fields)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "fields",
    [
        {"id2label": {0: "x" * 60_000, 1: "x" * 60_000}},
        {"id2label": {0: "x" * 60_000, 1: "y"}, "label2id": {"x": 0, "y": 1}},
        {"id2label": {2 * index: str(index) for index in range(9000)}},
        {"x" * 60_000 + "hidden_size": 1, "hidden_sizes": 1},
    ],
    ids=["twice", "contradiction", "gaps", "keyword"],
)
@pytest.mark.filterwarnings("ignore")
def test_messages_about_long_values_are_short(fields):
    with pytest.raises((ValueError, TypeError, StrictDataclassClassValidationError)) as error:
        RnnConfig(**fields)
    assert len(str(error.value)) < 1000


def test_the_initializer_range_is_not_negative():
    assert RnnConfig(initializer_range=0).initializer_range == 0
    with pytest.raises(StrictDataclassClassValidationError, match="initializer_range must not be negative"):
        RnnConfig(initializer_range=-0.1)


@pytest.mark.parametrize("field", ["pad_token_id", "unk_token_id", "bos_token_id", "eos_token_id", "sep_token_id"])
def test_special_token_ids_are_within_the_vocabulary(field):
    for value in (None, 0, 9):
        assert getattr(RnnConfig(vocab_size=10, **{field: value}), field) == value
    for value in (-1, 10):
        with pytest.raises(StrictDataclassClassValidationError, match=f"{field}={value} is outside the vocabulary"):
            RnnConfig(vocab_size=10, **{field: value})


def test_a_single_label_needs_several_classes():
    with pytest.raises(ValueError, match="num_labels > 1"):
        RnnConfig(num_labels=1, problem_type="single_label_classification")


def test_directions():
    assert [RnnConfig(bidirectional=bidirectional).num_directions for bidirectional in DIRECTIONS] == [1, 2]


dropouts = st.floats(0, 1, exclude_max=True)
configurations = st.fixed_dictionaries(
    {},
    optional={
        "vocab_size": st.integers(10, 10**6),
        "embedding_size": st.integers(1, 10**4),
        "hidden_size": st.integers(1, 10**4),
        "num_hidden_layers": st.integers(1, 10),
        "cell_type": st.sampled_from(CELLS),
        "bidirectional": st.booleans(),
        "embedding_dropout": dropouts,
        "hidden_dropout": dropouts,
        "classifier_dropout": dropouts,
        "pooling": st.sampled_from(POOLINGS),
        "initializer_range": st.floats(0, 10),
        "pad_token_id": st.none() | st.integers(0, 9),
        "unk_token_id": st.none() | st.integers(0, 9),
        "eos_token_id": st.none() | st.integers(0, 9),
        "id2label": st.lists(st.text(), min_size=1, unique=True).map(lambda names: dict(enumerate(names))),
        "problem_type": st.sampled_from([None, "regression", "multi_label_classification"]),
        "dtype": st.sampled_from([None, "float32", "bfloat16"]),
        "output_hidden_states": st.booleans(),
    },
)


@given(configurations)
@few(40)
def test_a_configuration_survives_saving(tmp_path_factory, fields):
    folder = tmp_path_factory.mktemp("configuration")
    config = RnnConfig(**fields)
    config.save_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = [RnnConfig.from_pretrained(folder), AutoConfig.from_pretrained(folder), RnnConfig(**config.to_dict())]
    for one in loaded:
        assert type(one) is RnnConfig
        assert content(one) == content(config)
        assert_labels(one, config.id2label)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "rnn_hf"


def test_keywords_of_from_pretrained_replace_loaded_values(saved):
    config, unused = RnnConfig.from_pretrained(saved, hidden_dropout=0.3, return_unused_kwargs=True, other=1)
    assert config.hidden_dropout == 0.3
    assert config.vocab_size == 50
    assert unused == {"other": 1}


def test_keywords_of_from_pretrained_are_checked(saved):
    with pytest.raises(StrictDataclassFieldValidationError, match="cell_type"):
        RnnConfig.from_pretrained(saved, cell_type="elman")


class TestCalibration:
    FIELDS: ClassVar[dict] = {
        "num_labels": 3,
        "temperature": 1.5,
        "label_thresholds": [0.5, 0.3, 0.7],
        "problem_type": "multi_label_classification",
    }

    @pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan])
    def test_a_temperature_is_positive_and_finite(self, temperature):
        with pytest.raises(StrictDataclassClassValidationError, match="temperature must be above 0 and finite"):
            RnnConfig(temperature=temperature)

    @pytest.mark.parametrize(
        ("thresholds", "message"),
        [
            ([0.5], "must hold one for each of 2 labels, got 1"),
            ([0.5, 1.0], "that of label 1 is 1.0"),
            ([math.nan, 0.5], "that of label 0 is nan"),
        ],
    )
    def test_each_label_has_a_threshold_between_0_and_1(self, thresholds, message):
        with pytest.raises(StrictDataclassClassValidationError, match=message):
            RnnConfig(label_thresholds=thresholds)

    def test_survives_saving(self, tmp_path):
        RnnConfig(**self.FIELDS).save_pretrained(tmp_path)
        for load in (RnnConfig.from_pretrained, AutoConfig.from_pretrained):
            config = load(tmp_path)
            assert (config.temperature, config.label_thresholds) == (1.5, [0.5, 0.3, 0.7])

    @pytest.mark.parametrize(
        ("changes", "stays"),
        [
            ({"id2label": {0: "a", 1: "b", 2: "c"}}, True),
            ({"num_labels": 3}, True),
            ({"hidden_dropout": 0.1}, True),
            ({"num_labels": 4}, False),
            ({"label2id": {"a": 0, "b": 1}}, False),
            ({"problem_type": "single_label_classification"}, False),
            ({"problem_type": "regression", "num_labels": 1}, False),
        ],
    )
    def test_is_dropped_with_other_labels_or_another_problem(self, changes, stays, tmp_path):
        RnnConfig(**self.FIELDS).save_pretrained(tmp_path)
        config = RnnConfig.from_pretrained(tmp_path, **changes)
        wanted = (1.5, [0.5, 0.3, 0.7]) if stays else (1.0, None)
        assert (config.temperature, config.label_thresholds) == wanted
        config.validate()
