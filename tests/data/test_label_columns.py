"""What a column of labels shows as a whole: blanks, whole numbers with a decimal point, rejected rows."""

import json

import pytest
from test_labels import evaluate, jsonl, load, table


def test_blanks_around_labels_are_no_part_of_them(tmp_path, streaming):
    corpus = load(table(tmp_path / "a.csv", [" good", "bad ", "good"] * 4), streaming=streaming)
    assert corpus.label_names == ["bad", "good"]
    old = evaluate(table(tmp_path / "b.csv", [" good", " bad"]), [" bad", " good"], "single_label_classification")
    assert old.num_rows == {"test": 2}  # a model of an earlier version


def test_labels_that_differ_in_case_are_named(tmp_path, messages):
    load(table(tmp_path / "a.csv", ["True", "TRUE", "False"] * 4))
    assert any("'True' (row 1) and 'TRUE' (row 2)" in one for one in messages())


@pytest.mark.parametrize("label", ["nan", "N/A", "-"])
def test_labels_that_say_there_is_none_are_named(tmp_path, messages, label):
    load(table(tmp_path / "a.csv", ["good", "bad"] * 40 + [label]))
    assert any(f"row 81: column 'label' holds '{label}', which is a label as the others" in one for one in messages())


def test_signs_may_be_labels(tmp_path, messages):
    load(table(tmp_path / "a.csv", ["+", "-", "none"] * 4))
    assert not any("is a label as the others" in one for one in messages())


@pytest.mark.parametrize(("labels", "is_said"), [([1.0, 2.0], True), ([1.0, 2.5], False)])
def test_classes_that_pandas_made_fractions_are_named(tmp_path, messages, labels, is_said):
    file = jsonl(tmp_path / "a.jsonl", labels * 4)
    assert load(file).problem_type == "regression"
    assert any("whole numbers with a decimal point" in one for one in messages()) == is_said
    assert load(file, problem_type="single_label_classification").label_names == [str(one) for one in labels]


def test_a_list_may_hold_the_one_label_of_a_text(tmp_path, messages, streaming):
    file = jsonl(tmp_path / "a.jsonl", [["good"], ["bad"]] * 4)
    assert load(file, streaming=streaming).problem_type == "multi_label_classification"
    assert any("lists one label in each row" in one for one in messages())
    corpus = load(file, problem_type="single_label_classification", streaming=streaming)
    assert corpus.label_names == ["bad", "good"]


def test_rows_that_an_annotator_rejected_are_left_out(tmp_path, messages, streaming):
    answers = ["accept", "accept", "reject", "ignore", "accept"] * 2
    rows = [{"text": f"text {row}", "label": "ab"[row % 2], "answer": one} for row, one in enumerate(answers)]
    file = tmp_path / "prodigy.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert load(str(file), streaming=streaming).num_rows["train"] == 6
    assert any("whose column 'answer' does not say accept are left out" in one for one in messages())


def test_answers_of_another_kind_are_a_column_as_any_other(tmp_path):
    rows = [{"text": f"text {row}", "label": "ab"[row % 2], "answer": "42" if row else "reject"} for row in range(10)]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert load(str(file)).num_rows["train"] == 10
