"""The configuration: labels, refusals, round trips."""

import json
import warnings

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from hypothesis import given
from hypothesis import strategies as st
from strategies import CELLS, DIRECTIONS, POOLINGS, few
from transformers import AutoConfig

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
