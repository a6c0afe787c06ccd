"""Metrics against values worked out by hand, against scikit-learn and against a naive count of spans."""

import random
import socket
from itertools import pairwise

import evaluate
import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from transformers import EvalPrediction

from rnn_hf.evaluation.metrics import (
    F1,
    Accuracy,
    ExactMatch,
    ExpectedCalibrationError,
    SpanF1,
    SquaredError,
    TokenAccuracy,
    average_precision,
    expected_calibration_error,
)
from rnn_hf.evaluation.task_metrics import compute_metrics_for, labels_and_confidences

SEEDS = range(5)


@pytest.fixture(autouse=True)
def _private_cache_without_network(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("A metric asked for the network.")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)


def random_labels(seed: int, classes: int = 4, count: int = 200) -> tuple[list[int], list[int]]:
    """Predictions, of which about half are right, and references."""
    source = random.Random(seed)
    references = [source.randrange(classes) for _ in range(count)]
    return [label if source.random() < 0.5 else source.randrange(classes) for label in references], references


def random_spans(source: random.Random, length: int) -> list[tuple[int, int, str]]:
    """Begin, end and type of spans that do not overlap."""
    spans, position = [], 0
    while position < length:
        size = min(source.randint(1, 3), length - position)
        if source.random() < 0.5:
            spans.append((position, position + size, source.choice(["PER", "LOC"])))
        position += size
    return spans


def tags_of(spans: list[tuple[int, int, str]], length: int, scheme: str) -> list[str]:
    tags = ["O"] * length
    for begin, end, kind in spans:
        tags[begin:end] = [f"I-{kind}"] * (end - begin)
        tags[begin] = f"B-{kind}"
        if scheme == "IOBES":
            tags[end - 1] = f"S-{kind}" if end - begin == 1 else f"E-{kind}"
    return tags


def scores_of(right: int, predicted: int, wanted: int) -> dict[str, float]:
    precision, recall = right / max(predicted, 1), right / max(wanted, 1)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}


class TestAccuracy:
    @pytest.mark.parametrize(
        ("predictions", "references", "share"),
        [([0, 1, 2, 1], [0, 1, 2, 1], 1.0), ([0, 1, 2, 1], [1, 1, 2, 2], 0.5), ([0], [1], 0.0)],
    )
    def test_by_hand(self, predictions, references, share):
        assert Accuracy().compute(predictions=predictions, references=references) == {"accuracy": share}

    @pytest.mark.parametrize("seed", SEEDS)
    def test_as_counted(self, seed):
        predictions, references = random_labels(seed)
        right = sum(p == r for p, r in zip(predictions, references, strict=True))
        assert Accuracy().compute(predictions=predictions, references=references) == {"accuracy": right / 200}

    @pytest.mark.parametrize("array", [np.array, torch.tensor])
    def test_arrays(self, array):
        result = Accuracy().compute(predictions=array([1, 2, 3]), references=array([1, 2, 2]))
        assert result == {"accuracy": pytest.approx(2 / 3)}


class TestF1:
    # Class 0: one of two right, one of two found. Class 1: two of three, two of two. Class 2: none of one found.
    PREDICTIONS, REFERENCES = [0, 0, 1, 1, 1], [0, 2, 1, 1, 0]

    @pytest.mark.parametrize(
        ("average", "f1", "precision", "recall"),
        [
            ("macro", (1 / 2 + 4 / 5 + 0) / 3, (1 / 2 + 2 / 3 + 0) / 3, (1 / 2 + 1 + 0) / 3),
            ("micro", 3 / 5, 3 / 5, 3 / 5),
            ("weighted", (2 / 2 + 2 * 4 / 5) / 5, (2 / 2 + 2 * 2 / 3) / 5, (2 / 2 + 2) / 5),
        ],
    )
    def test_by_hand(self, average, f1, precision, recall):
        result = F1().compute(predictions=self.PREDICTIONS, references=self.REFERENCES, average=average)
        assert result == pytest.approx({"f1": f1, "precision": precision, "recall": recall})

    def test_macro_unless_told(self):
        arguments = {"predictions": self.PREDICTIONS, "references": self.REFERENCES}
        assert F1().compute(**arguments) == F1().compute(**arguments, average="macro")

    @pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
    @pytest.mark.parametrize("seed", SEEDS)
    def test_as_in_sklearn(self, seed, average):
        predictions, references = random_labels(seed)
        result = F1().compute(predictions=predictions, references=references, average=average)
        for name in ("f1", "precision", "recall"):
            score = getattr(sklearn_metrics, f"{name}_score")(references, predictions, average=average)
            assert result[name] == pytest.approx(score)

    def test_classes_that_do_not_occur_count_nothing(self):
        assert F1().compute(predictions=[7, 7], references=[7, 7])["f1"] == 1.0

    def test_several_labels_by_hand(self):
        # Label 0: one right of one, two wanted. Label 1: one right of two, one wanted. Label 2: never.
        predictions, references = [[1, 1, 0], [0, 1, 0], [0, 0, 0]], [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
        macro = F1("multilabel").compute(predictions=predictions, references=references)
        assert macro == pytest.approx({"f1": 4 / 9, "precision": 0.5, "recall": 0.5})
        micro = F1("multilabel").compute(predictions=predictions, references=references, average="micro")
        assert micro == pytest.approx({"f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3})

    @pytest.mark.parametrize("seed", SEEDS)
    def test_several_labels_as_in_sklearn(self, seed):
        source = np.random.default_rng(seed)
        predictions, references = source.integers(0, 2, (2, 50, 6))
        for average in ("macro", "micro", "samples"):
            result = F1("multilabel").compute(predictions=predictions, references=references, average=average)
            score = sklearn_metrics.f1_score(references, predictions, average=average, zero_division=0.0)
            assert result["f1"] == pytest.approx(score)


class TestExactMatch:
    def test_by_hand(self):
        predictions, references = [[0, 1], [1, 1], [], [2]], [[0, 1], [1, 0], [], [2, 0]]
        assert ExactMatch().compute(predictions=predictions, references=references) == {"exact_match": 0.5}

    @pytest.mark.parametrize("seed", SEEDS)
    def test_as_the_accuracy_of_sklearn(self, seed):
        source = np.random.default_rng(seed)
        predictions, references = source.integers(0, 2, (2, 80, 2))
        result = ExactMatch().compute(predictions=predictions, references=references)
        assert result["exact_match"] == pytest.approx(sklearn_metrics.accuracy_score(references, predictions))
        assert 0 < result["exact_match"] < 1


class TestTokenAccuracy:
    def test_longer_sentences_count_more(self):
        predictions = [["DET", "NOUN", "VERB"], ["X"], []]
        references = [["DET", "NOUN", "VERB"], ["NOUN"], []]
        assert TokenAccuracy().compute(predictions=predictions, references=references) == {"accuracy": 0.75}

    @pytest.mark.parametrize("seed", SEEDS)
    def test_as_in_sklearn_on_all_words_in_a_row(self, seed):
        predictions, references = ([f"T{label}" for label in labels] for labels in random_labels(seed))
        cuts = [0, 3, 3, 50, 51, 200]
        result = TokenAccuracy().compute(
            predictions=[predictions[a:b] for a, b in pairwise(cuts)],
            references=[references[a:b] for a, b in pairwise(cuts)],
        )
        assert result["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(references, predictions))

    def test_sentences_of_different_length(self):
        with pytest.raises(ValueError, match="longer"):
            TokenAccuracy().compute(predictions=[["X"]], references=[["X", "X"]])


class TestSpanF1:
    @pytest.mark.parametrize(
        ("prediction", "reference", "right", "predicted", "wanted"),
        [
            ("B-PER I-PER O", "B-PER I-PER O", 1, 1, 1),
            # Another end, another type, another beginning: each is wrong as a whole.
            ("B-PER O O", "B-PER I-PER O", 0, 1, 1),
            ("B-LOC I-LOC O", "B-PER I-PER O", 0, 1, 1),
            ("O B-PER O", "B-PER I-PER O", 0, 1, 1),
            # Two neighbours are not one span.
            ("B-PER B-PER O", "B-PER I-PER O", 0, 2, 1),
            ("B-PER I-PER B-PER", "B-PER I-PER B-PER", 2, 2, 2),
            ("B-PER I-PER B-PER", "B-PER I-PER B-LOC", 1, 2, 2),
            # A span that begins with I counts, as in conlleval.
            ("O I-PER I-PER", "O B-PER I-PER", 1, 1, 1),
            ("O O O", "B-PER I-PER O", 0, 0, 1),
            ("B-PER I-PER O", "O O O", 0, 1, 0),
            ("O O O", "O O O", 0, 0, 0),
            ("S-PER O S-LOC", "S-PER O S-PER", 1, 2, 2),
            ("B-PER I-PER E-PER", "B-PER I-PER E-PER", 1, 1, 1),
            ("B-PER E-PER S-PER", "B-PER I-PER E-PER", 0, 2, 1),
            ("S-PER S-PER O", "B-PER E-PER O", 0, 2, 1),
        ],
    )
    def test_by_hand(self, prediction, reference, right, predicted, wanted):
        result = SpanF1().compute(predictions=[prediction.split()], references=[reference.split()])
        assert result == pytest.approx(scores_of(right, predicted, wanted))

    @pytest.mark.parametrize("scheme", ["IOB2", "IOBES"])
    @pytest.mark.parametrize("seed", SEEDS)
    def test_as_counted(self, seed, scheme):
        source = random.Random(seed)
        lengths = [source.randint(1, 12) for _ in range(60)]
        predicted, wanted = ([random_spans(source, length) for length in lengths] for _ in range(2))
        for position in range(0, 60, 2):
            predicted[position] = wanted[position]
        result = SpanF1().compute(
            predictions=[tags_of(*pair, scheme) for pair in zip(predicted, lengths, strict=True)],
            references=[tags_of(*pair, scheme) for pair in zip(wanted, lengths, strict=True)],
        )
        right = sum(len(set(a) & set(b)) for a, b in zip(predicted, wanted, strict=True))
        assert 0 < right < sum(map(len, wanted))
        assert result == pytest.approx(scores_of(right, sum(map(len, predicted)), sum(map(len, wanted))))

    def test_spans_do_not_reach_over_sentences(self):
        predictions, references = [["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]]
        assert SpanF1().compute(predictions=predictions, references=references)["f1"] == 1.0

    def test_real_tags(self, japanese_sentences):
        references = [[word[-1] for word in sentence] for sentence in japanese_sentences[:100]]
        assert SpanF1().compute(predictions=references, references=references)["f1"] == 1.0
        unmarked = [["O"] * len(tags) for tags in references]
        result = SpanF1().compute(predictions=references[:50] + unmarked[50:], references=references)
        half, whole = (sum(tag[0] == "B" for tags in part for tag in tags) for part in (references[:50], references))
        assert result == pytest.approx(scores_of(half, half, whole))

    def test_sentences_of_different_length(self):
        with pytest.raises(ValueError, match="inconsistent"):
            SpanF1().compute(predictions=[["O"]], references=[["O", "O"]])


class TestSquaredError:
    def test_by_hand(self):
        result = SquaredError().compute(predictions=[1.0, 2.0, 3.0, 4.0], references=[1.0, 2.0, 3.0, 6.0])
        # The squared deviations from the mean, 3, add up to 14.
        assert result == pytest.approx({"mse": 1.0, "r2": 1 - 4 / 14})

    @pytest.mark.parametrize("seed", SEEDS)
    def test_as_in_numpy(self, seed):
        source = np.random.default_rng(seed)
        references = source.normal(size=50)
        predictions = references + source.normal(size=50) / 3
        error = ((predictions - references) ** 2).mean()
        result = SquaredError().compute(predictions=predictions, references=references)
        assert result == pytest.approx({"mse": error, "r2": 1 - error / references.var()})

    def test_one_value_has_no_coefficient_of_determination(self):
        assert SquaredError().compute(predictions=[1.0], references=[3.0]) == {"mse": 4.0}


ALL = [
    (Accuracy(), [0, 1, 1], [0, 1, 0]),
    (F1(), [0, 1, 1], [0, 1, 0]),
    (F1("multilabel"), [[0, 1], [1, 1], [0, 0]], [[0, 1], [1, 0], [1, 0]]),
    (ExactMatch(), [[0, 1], [1, 1], []], [[0, 1], [1, 0], []]),
    (TokenAccuracy(), [["A", "B"], ["A"], []], [["A", "B"], ["B"], []]),
    (SpanF1(), [["B-A", "I-A"], ["B-A"], []], [["B-A", "I-A"], ["B-B"], []]),
    (SquaredError(), [1.0, 2.0, 3.0], [1.0, 2.5, 4.0]),
]
every_metric = pytest.mark.parametrize(
    ("metric", "predictions", "references"), ALL, ids=lambda value: getattr(value, "name", "")
)


class TestEveryMetric:
    @every_metric
    def test_bit_by_bit_is_as_at_once(self, metric, predictions, references):
        fresh = type(metric)(metric.config_name)
        at_once = fresh.compute(predictions=predictions, references=references)
        fresh.add_batch(predictions=predictions[:1], references=references[:1])
        fresh.add(prediction=predictions[1], reference=references[1])
        fresh.add_batch(predictions=predictions[2:], references=references[2:])
        assert fresh.compute() == at_once
        assert any(0 < value < 1 for value in at_once.values())

    @every_metric
    def test_computes_again_from_the_beginning(self, metric, predictions, references):
        fresh = type(metric)(metric.config_name)
        first = fresh.compute(predictions=predictions, references=references)
        assert fresh.compute(predictions=references, references=references) != first
        assert fresh.compute(predictions=predictions, references=references) == first

    @every_metric
    def test_different_numbers_of_predictions_and_references(self, metric, predictions, references):
        with pytest.raises(ValueError, match=r"Mismatch in the number of predictions \(1\) and references \(3\)"):
            type(metric)(metric.config_name).compute(predictions=predictions[:1], references=references)

    @every_metric
    def test_results_are_plain_numbers(self, metric, predictions, references):
        results = type(metric)(metric.config_name).compute(predictions=predictions, references=references)
        assert {type(value) for value in results.values()} == {float}

    @every_metric
    def test_describes_itself(self, metric, predictions, references):
        assert metric.description
        assert set(metric.features) == {"predictions", "references"}

    @pytest.mark.parametrize("metric_class", [ExactMatch, TokenAccuracy, SpanF1])
    def test_nothing_scores_nothing(self, metric_class):
        results = metric_class().compute(predictions=[], references=[])
        assert results
        assert set(results.values()) == {0.0}

    @pytest.mark.parametrize("metric_class", [Accuracy, F1, SquaredError])
    def test_nothing_is_refused(self, metric_class):
        with pytest.raises(ValueError, match=r"empty input array|0 sample\(s\)"):
            metric_class().compute(predictions=[], references=[])

    @pytest.mark.parametrize("metric_class", [TokenAccuracy, SpanF1])
    def test_sentences_without_words_score_nothing(self, metric_class):
        assert set(metric_class().compute(predictions=[[], []], references=[[], []]).values()) == {0.0}

    @pytest.mark.parametrize("metric_class", [Accuracy, F1])
    def test_names_in_place_of_ids(self, metric_class):
        with pytest.raises(ValueError, match="invalid literal for int"):
            metric_class().compute(predictions=["ham"], references=["spam"])

    def test_combine(self):
        predictions, references = random_labels(0)
        combined = evaluate.combine([Accuracy(), F1()])
        arguments = {"predictions": predictions, "references": references}
        expected = Accuracy().compute(**arguments) | F1().compute(**arguments)
        assert combined.compute(**arguments) == expected
        for start in range(0, 200, 50):
            part = slice(start, start + 50)
            combined.add_batch(predictions=predictions[part], references=references[part])
        assert combined.compute() == expected

    def test_combine_of_tags(self):
        combined = evaluate.combine([TokenAccuracy(), SpanF1()])
        result = combined.compute(predictions=[["B-A", "I-A", "O"]], references=[["B-A", "O", "O"]])
        assert result == pytest.approx({"accuracy": 2 / 3, "f1": 0.0, "precision": 0.0, "recall": 0.0})


class TestUnseenReferences:
    """Labels that a model does not know are in references only, with ids behind its own; each is an error."""

    def test_of_classes(self):
        predictions, references = [0, 1, 1, 0], [0, 1, 3, 2]
        assert Accuracy().compute(predictions=predictions, references=references) == {"accuracy": 0.5}
        scores = F1().compute(predictions=predictions, references=references)
        # Two of the four classes are never found, and each of the other two once too often.
        assert scores["f1"] == pytest.approx((2 / 3 + 2 / 3) / 4)
        assert scores["recall"] == pytest.approx(2 / 4)

    def test_of_words(self):
        tags = {"predictions": [["X", "Y"], ["Y"]], "references": [["X", "NEW"], ["OTHER"]]}
        assert TokenAccuracy().compute(**tags) == {"accuracy": pytest.approx(1 / 3)}

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize(
        ("references", "precision", "recall"),
        [
            (["B-LOC", "O", "B-NEW", "I-NEW"], 1 / 1, 1 / 2),
            (["B-LOC", "O", "S-NEW", "S-NEW"], 1 / 1, 1 / 3),
            (["B-LOC", "I-NEW", "O", "O"], 1 / 1, 1 / 2),
            (["B-LOC", "NEW", "O", "O"], 1 / 1, 1 / 2),
            (["B-NEW", "O", "O", "O"], 0, 0),
            (["B-LOC", "O", "O", "x-LOC"], 1 / 1, 1 / 2),
        ],
    )
    def test_of_spans(self, references, precision, recall):
        scores = SpanF1().compute(predictions=[["B-LOC", "O", "O", "O"]], references=[references])
        assert (scores["precision"], scores["recall"]) == (pytest.approx(precision), pytest.approx(recall))


class TestLabelsThatOnlyReferencesHave:
    KNOWN = ("O", "B-LOC", "I-LOC")

    @pytest.mark.parametrize("unseen", ["Z", "Organisation", "PER", "B-PER", "S-PER", "X-PER"])
    def test_spans_stay_spans(self, unseen):
        compute = compute_metrics_for("token-classification", "", [*self.KNOWN, unseen], num_labels=3)
        scores = compute(EvalPrediction(np.array([[1, 2, 0, 0]]), np.array([[1, 2, 0, 3]])))
        assert scores["accuracy"] == 0.75
        # One span of two is found; macro F1 of four tags would be 0.69.
        assert (scores["precision"], scores["recall"]) == (1.0, 0.5)

    def test_tags_stay_tags(self):
        compute = compute_metrics_for("token-classification", "", ["X", "Y", "B-LOC"], num_labels=2)
        scores = compute(EvalPrediction(np.array([[0, 1, 1]]), np.array([[0, 1, 2]])))
        assert scores["accuracy"] == pytest.approx(2 / 3)
        assert scores["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


class TestAveragePrecision:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_is_the_mean_precision_at_each_text_that_has_the_label(self, seed):
        source = np.random.default_rng(seed)
        scores, labels = source.normal(size=(60, 5)), source.random((60, 5)) < 0.2
        labels[:, 4] = False  # does not count
        means = []
        for label in range(4):
            ranked = labels[np.argsort(-scores[:, label]), label]
            means.append(np.mean([ranked[: rank + 1].mean() for rank in np.flatnonzero(ranked)]))
        assert average_precision(scores, labels) == pytest.approx(np.mean(means))

    def test_without_any_label(self):
        assert average_precision(np.zeros((3, 2)), np.zeros((3, 2), dtype=int)) == 0


class TestExpectedCalibrationError:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_is_that_of_counting_bin_by_bin(self, seed):
        source = np.random.default_rng(seed)
        confidences = np.concatenate([source.random(300), [0.0, 1.0, 3 / 15]])
        is_right = (source.random(303) < confidences**2).astype(int)
        expected = 0.0
        for number in range(15):
            low, high = number / 15, (number + 1) / 15
            inside = (confidences > low) & (confidences <= high) | ((confidences == 0) & (number == 0))
            if inside.any():
                gap = confidences[inside].mean() - is_right[inside].mean()
                expected += inside.sum() / 303 * abs(gap)
        assert expected_calibration_error(confidences, is_right) == pytest.approx(expected)
        found = ExpectedCalibrationError().compute(predictions=confidences, references=is_right)
        assert found["expected_calibration_error"] == pytest.approx(expected)

    def test_of_a_classifier_is_that_of_its_best_labels(self):
        logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        labels = torch.randint(4, (50,), generator=torch.Generator().manual_seed(1))
        compute = compute_metrics_for("text-classification", "single_label_classification", list("abcd"))
        for temperature in (1.0, 2.0):
            kept = tuple(one.numpy() for one in labels_and_confidences(logits / temperature, temperature))
            scores = compute(EvalPrediction(kept, labels.numpy()))
            for name, scaled in (("", logits / temperature), ("_uncalibrated", logits)):
                best, indices = scaled.softmax(-1).max(-1)
                expected = expected_calibration_error(best.numpy(), (indices == labels).numpy())
                if name == "" or temperature != 1:
                    assert scores[f"expected_calibration_error{name}"] == pytest.approx(expected, abs=1e-6)
            assert ("expected_calibration_error_uncalibrated" in scores) == (temperature != 1)

    def test_of_several_labels_counts_each(self):
        logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        labels = torch.randint(2, (50, 4), generator=torch.Generator().manual_seed(1)).float()
        compute = compute_metrics_for(
            "text-classification", "multi_label_classification", list("abcd"), temperature=2.0,
            label_thresholds=[0.3, 0.5, 0.6, 0.9],
        )  # fmt: skip
        scores = compute(EvalPrediction((logits / 2).numpy(), labels.numpy()))
        for name, scaled in (("", logits / 2), ("_uncalibrated", logits)):
            expected = expected_calibration_error(scaled.sigmoid().flatten().numpy(), labels.flatten().numpy())
            assert scores[f"expected_calibration_error{name}"] == pytest.approx(expected, abs=1e-6)
        applies = (logits / 2).sigmoid() > torch.tensor([0.3, 0.5, 0.6, 0.9])
        f1 = sklearn_metrics.f1_score(labels.numpy(), applies.numpy(), average="macro")
        assert scores["f1"] == pytest.approx(f1)
        assert scores["exact_match"] == pytest.approx(float((applies == labels.bool()).all(-1).float().mean()))
