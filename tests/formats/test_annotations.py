"""Exports of annotation tools, as the tools write them: recognised, read, and written with other spans."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import draw_spans, few, texts_of_all_scripts

from rnn_hf.formats.annotations import LabelStudioTasks, SpanRows, WordRows, recognise
from rnn_hf.formats.span_files import find_span_file
from rnn_hf.formats.spans import Document, Span, tag_spans

TEXT = "Anna 😀 lives in Oslo."
GOLD = ["B-PER", "O", "O", "O", "B-LOC", "O"]

DOCCANO = {"id": 7, "text": TEXT, "label": [[0, 4, "PER"], [16, 20, "LOC"]], "Comments": []}
DOCCANO_OLD = {"id": 7, "data": TEXT, "label": [[0, 4, "PER"], [16, 20, "LOC"]]}
DOCCANO_LABELS = {
    "id": 7,
    "text": TEXT,
    "meta": {},
    "annotation_approver": None,
    "labels": [[0, 4, "PER"], [16, 20, "LOC"]],
}
DOCCANO_RELATIONS = {
    "id": 7,
    "text": TEXT,
    "entities": [
        {"id": 20, "label": "PER", "start_offset": 0, "end_offset": 4},
        {"id": 21, "label": "LOC", "start_offset": 16, "end_offset": 20},
    ],
    "relations": [{"id": 3, "from_id": 20, "to_id": 21, "type": "lives_in"}],
    "Comments": [],
}
PRODIGY = {
    "text": TEXT,
    "meta": {"source": "news", "score": 0.5},
    "_input_hash": -1487477437,
    "_task_hash": 1298236362,
    "tokens": [
        {"text": "Anna", "start": 0, "end": 4, "id": 0, "ws": True},
        {"text": "😀", "start": 5, "end": 6, "id": 1, "ws": True},
        {"text": "lives", "start": 7, "end": 12, "id": 2, "ws": True},
        {"text": "in", "start": 13, "end": 15, "id": 3, "ws": True},
        {"text": "Oslo", "start": 16, "end": 20, "id": 4, "ws": False},
        {"text": ".", "start": 20, "end": 21, "id": 5, "ws": False},
    ],
    "spans": [
        {"start": 0, "end": 4, "token_start": 0, "token_end": 0, "label": "PER"},
        {"start": 16, "end": 20, "token_start": 4, "token_end": 4, "label": "LOC"},
    ],
    "_view_id": "ner_manual",
    "answer": "accept",
    "_timestamp": 1700000000,
}
# Label Studio counts as JavaScript does: the emoji is two.
JSON_MIN = {
    "text": TEXT,
    "id": 7,
    "label": [
        {"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]},
        {"start": 17, "end": 21, "text": "Oslo", "labels": ["LOC"]},
    ],
    "annotator": 1,
    "annotation_id": 9,
    "created_at": "2024-03-01T10:00:00.000000Z",
    "updated_at": "2024-03-01T10:00:00.000000Z",
    "lead_time": 8.2,
}


def region(start, end, text, label, kind="labels"):
    return {
        "id": f"r{start}",
        "from_name": "ner",
        "to_name": "doc",
        "type": kind,
        "origin": "manual",
        "value": {"start": start, "end": end, "text": text, kind: [label]},
    }


LABEL_STUDIO = {
    "id": 7,
    "annotations": [
        {
            "id": 9,
            "completed_by": 1,
            "result": [
                region(0, 4, "Anna", "PER"),
                region(17, 21, "Oslo", "LOC"),
                {"type": "relation", "from_id": "r0", "to_id": "r17", "direction": "right"},
                {"type": "choices", "from_name": "kind", "to_name": "doc", "value": {"choices": ["news"]}},
            ],
            "was_cancelled": False,
            "ground_truth": False,
            "lead_time": 8.2,
        }
    ],
    "file_upload": "1-news.txt",
    "drafts": [],
    "predictions": [],
    "data": {"text": TEXT, "title": "a title that is much longer than the text that the spans are of"},
    "meta": {},
    "inner_id": 1,
    "total_annotations": 1,
}
GLINER = {
    "tokenized_text": ["Anna", "😀", "lives", "in", "Oslo", "."],
    "ner": [[0, 0, "PER"], [4, 4, "LOC"]],
    "negatives": ["ORG"],
}
SPACY = [TEXT, {"entities": [[0, 4, "PER"], [16, 20, "LOC"]], "links": {}}]
EXPORTS = {
    "doccano": DOCCANO,
    "doccano, old": DOCCANO_OLD,
    "doccano, labels": DOCCANO_LABELS,
    "doccano, relations": DOCCANO_RELATIONS,
    "Prodigy": PRODIGY,
    "Label Studio JSON-MIN": JSON_MIN,
    "Label Studio": LABEL_STUDIO,
    "GLiNER": GLINER,
}
every_export = pytest.mark.parametrize("row", EXPORTS.values(), ids=EXPORTS.keys())


def spans_of(document):
    return [tuple(span)[:3] for span in document.spans]


class TestPairs:
    """Of a text and its entities, as spaCy was trained on."""

    def test_pairs_are_read_and_written(self, tmp_path):
        row_format = recognise([SPACY])
        assert row_format.title == "spaCy (pairs)"
        document = row_format.read(SPACY)
        assert document.tags() == GOLD
        assert row_format.write(document, tag_spans(document.offsets, GOLD)) == SPACY
        file = tmp_path / "train.json"
        file.write_text(json.dumps([SPACY, [TEXT, {"entities": []}]]), "utf-8")
        found = find_span_file(str(file))
        assert [document.tags() for document in found.documents()] == [GOLD, ["O"] * len(GOLD)]
        written = "".join(found.write((document, document.tags()) for document in found.documents()))
        assert json.loads(written) == json.loads(file.read_text("utf-8"))

    @pytest.mark.parametrize("row", [{"text": TEXT}, [TEXT], [TEXT, {"cats": {}}], [TEXT, {"entities": [[0, 4]]}]])
    def test_other_rows_are_refused(self, row):
        with pytest.raises(ValueError, match="a row must be a pair"):
            recognise([SPACY]).read(row)


class TestReading:
    @every_export
    def test_an_export_becomes_words_and_tags(self, row):
        row_format = recognise([row])
        document = row_format.read(row)
        assert document.words == ["Anna", "😀", "lives", "in", "Oslo", "."]
        assert document.tags() == GOLD
        assert document.notes == []
        assert document.left_out is None

    def test_each_is_known_by_its_tool(self):
        titles = {name: recognise([row]).title for name, row in EXPORTS.items()}
        assert all(name.startswith(title.partition(" (")[0]) for name, title in titles.items())

    def test_columns_may_have_other_names(self):
        row = {"sentence": TEXT, "ents": PRODIGY["spans"]}
        assert recognise([row]).title == "a tool such as Prodigy"
        assert recognise([row]).read(row).tags() == GOLD

    @every_export
    def test_the_first_rows_may_have_no_spans(self, row):
        bare = {key: [] if key in ("label", "labels", "entities", "spans", "ner") else one for key, one in row.items()}
        if "annotations" in row:
            bare["annotations"] = []
        assert recognise([bare, bare, row]) == recognise([row])

    def test_prodigy_says_what_was_accepted(self):
        row_format = recognise([PRODIGY])
        for answer in ("reject", "ignore"):
            assert row_format.read(PRODIGY | {"answer": answer}).left_out == "were rejected or ignored"

    def test_label_studio_leaves_cancelled_annotations_out(self):
        row_format = recognise([LABEL_STUDIO])
        (annotation,) = LABEL_STUDIO["annotations"]
        cancelled = annotation | {"was_cancelled": True, "result": []}
        assert row_format.read(LABEL_STUDIO | {"annotations": [cancelled, annotation]}).tags() == GOLD
        for annotations in ([cancelled], []):
            assert "no annotation" in row_format.read(LABEL_STUDIO | {"annotations": annotations}).left_out

    def test_label_studio_with_several_annotators(self):
        row_format = recognise([LABEL_STUDIO])
        (annotation,) = LABEL_STUDIO["annotations"]
        other = annotation | {"completed_by": 2, "result": [region(7, 12, "lives", "ACT")]}
        document = row_format.read(LABEL_STUDIO | {"annotations": [annotation, other]})
        assert (document.tags(), document.notes) == (GOLD, ["annotators"])
        document = row_format.read(LABEL_STUDIO | {"annotations": [other, annotation | {"ground_truth": True}]})
        assert document.tags() == GOLD, "what is marked as true comes first"

    def test_label_studio_wrote_completions_once(self):
        row = {"id": 1, "data": LABEL_STUDIO["data"], "completions": LABEL_STUDIO["annotations"]}
        assert recognise([row]).read(row).tags() == GOLD

    def test_label_studio_marks_hypertext_by_global_offsets(self):
        item = region("/div[1]/text()[1]", "/div[1]/text()[1]", "Oslo", "LOC", "hypertextlabels")
        item["value"] |= {"startOffset": 17, "endOffset": 21, "globalOffsets": {"start": 17, "end": 21}}
        row = LABEL_STUDIO | {"annotations": [{"result": [item]}]}
        assert recognise([row]).read(row).tags() == ["O", "O", "O", "O", "B-LOC", "O"]

    def test_offsets_are_counted_as_the_texts_of_spans_say(self):
        """Older versions of Label Studio, and scripts that write its format, count characters."""
        items = [region(0, 4, "Anna", "PER"), region(16, 20, "Oslo", "LOC")]
        row = LABEL_STUDIO | {"annotations": [{"result": items}]}
        assert recognise([row]).read(row).tags() == GOLD
        regions = [item["value"] for item in items]
        assert recognise([JSON_MIN]).read(JSON_MIN | {"label": regions}).tags() == GOLD

    def test_the_text_is_what_the_spans_are_of(self):
        data = {"title": "Anna", "body": TEXT, "url": "https://example.org/" + "x" * 100}
        assert recognise([LABEL_STUDIO | {"data": data}]).text_column == "body"
        row = {**JSON_MIN, "story": TEXT}
        del row["text"]
        assert recognise([row]).text_column == "story"

    def test_spans_that_hold_another_text_are_counted(self):
        moved = [{"start": 1, "end": 5, "text": "Anna", "labels": ["PER"]}]
        assert recognise([JSON_MIN]).read(JSON_MIN | {"label": moved}).notes == ["different"]


class TestWhatIsNoExport:
    @pytest.mark.parametrize(
        "row",
        [
            {"text": "a film", "label": "good"},
            {"text": "a film", "label": ["good", "long"]},
            {"text": "a film", "label": []},
            {"text": "a film", "label": [0, 1, 0]},
            {"tokens": ["Anna"], "tags": ["B-PER"]},
            {"tokens": ["Anna"], "ner_tags": [1], "spans": [{"start": 0, "end": 1, "label": "PER"}]},
            {"text": "a", "box": [[0, 4, 5], [1, 2, 3]]},
            {"text": "a", "box": [[True, False, "x"]]},
            {"text": "a", "spans": [{"start": 0.5, "end": 2.5, "label": "speech"}]},
            {"label": [[0, 4, "PER"]]},
            {
                "id": 1,
                "data": {"text": "a"},
                "annotations": [{"result": [{"type": "choices", "value": {"choices": ["x"]}}]}],
            },
            {"id": 1, "data": {"image": 5}, "annotations": []},
            {},
            "text",
            None,
        ],
    )
    def test_is_left_to_the_other_readers(self, row):
        assert recognise([row]) is None
        assert recognise([]) is None

    @pytest.mark.parametrize(
        "value",
        [
            {"start": 0.5, "end": 2.5, "labels": ["speech"]},
            {"start": "/p[1]", "end": "/p[1]", "hypertextlabels": ["X"]},
        ],
    )
    def test_regions_that_are_of_no_text_are_named(self, value):
        row = {"id": 1, "data": {"text": "a"}, "annotations": [{"result": [{"type": "labels", "value": value}]}]}
        with pytest.raises(ValueError, match="a region of a text must have whole numbers as 'start' and 'end'"):
            recognise([row])

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (DOCCANO | {"text": None}, "'text' must hold a text, got None"),
            (DOCCANO | {"label": "PER"}, "'label' must hold a list of spans, got 'PER'"),
            (DOCCANO | {"label": [[0, 4]]}, r"must hold spans as in the other rows, got \[0, 4\]"),
            (DOCCANO | {"label": [[0, 4, " "]]}, "must hold spans as in the other rows"),
            (DOCCANO | {"label": [["0", "4", "PER"]]}, "must hold spans as in the other rows"),
        ],
    )
    def test_a_row_that_differs_is_refused_with_its_value(self, row, reason):
        with pytest.raises(ValueError, match=reason):
            recognise([DOCCANO]).read(row)

    def test_rows_of_words_are_checked_too(self):
        with pytest.raises(ValueError, match="must hold a list of words, got 'Anna'"):
            WordRows().read(GLINER | {"tokenized_text": "Anna"})
        with pytest.raises(ValueError, match="must hold spans of words"):
            WordRows().read(GLINER | {"ner": [[0, "PER"]]})


class TestWriting:
    @every_export
    def test_the_same_spans_give_the_same_row(self, row):
        row_format = recognise([row])
        document = row_format.read(row)
        written = row_format.write(document, document.spans)
        if not isinstance(row_format, LabelStudioTasks):
            assert written == row
            return
        assert {key: one for key, one in written.items() if key != "predictions"} == {
            key: one for key, one in row.items() if key != "predictions"
        }
        (prediction,) = written["predictions"]
        assert prediction["model_version"] == "rnn_hf"
        expected = [item for item in row["annotations"][0]["result"] if item["type"] == "labels"]
        for item, wanted in zip(prediction["result"], expected, strict=True):
            assert item["value"] == wanted["value"]
            assert all(item[name] == wanted[name] for name in ("from_name", "to_name", "type"))

    @every_export
    def test_no_spans_leave_the_rest_as_it_was(self, row):
        row_format = recognise([row])
        written = row_format.write(row_format.read(row), [])
        assert list(written) == list(row), "the fields and their order"
        assert json.loads(json.dumps(written)) == written

    def test_relations_stay_where_both_ends_do(self):
        row_format = recognise([DOCCANO_RELATIONS])
        document = row_format.read(DOCCANO_RELATIONS)
        written = row_format.write(document, [document.spans[1], Span(7, 12, "ACT")])
        assert written["entities"] == [
            {"id": 21, "label": "LOC", "start_offset": 16, "end_offset": 20},
            {"id": 23, "label": "ACT", "start_offset": 7, "end_offset": 12},
        ]
        assert written["relations"] == []

    def test_spans_of_prodigy_name_its_tokens_where_they_fit(self):
        row_format = recognise([PRODIGY])
        document = row_format.read(PRODIGY)
        written = row_format.write(document, [Span(7, 15, "ACT"), Span(17, 20, "X")])["spans"]
        assert written == [
            {"start": 7, "end": 15, "token_start": 2, "token_end": 3, "label": "ACT"},
            {"start": 17, "end": 20, "label": "X"},
        ]

    def test_predictions_of_others_stay(self):
        row = LABEL_STUDIO | {"predictions": [{"model_version": "v1", "result": []}, {"model_version": "rnn_hf"}]}
        row_format = recognise([row])
        versions = [one["model_version"] for one in row_format.write(row_format.read(row), [])["predictions"]]
        assert versions == ["v1", "rnn_hf"]

    @given(texts_of_all_scripts(), st.sampled_from(sorted(EXPORTS)), st.data())
    @few(150)
    def test_spans_on_word_borders_come_back_from_a_perfect_tagger(self, text, name, data):
        """Any text, any spans: written by the tool, read, tagged with the true tags, written, and compared."""
        row, spans = EXPORTS[name], draw_spans(data, Document(text, []).offsets)
        if name == "GLiNER":
            words = Document(text, []).words
            row = row | {"tokenized_text": words}
            spans = draw_spans(data, [(index, index + 1) for index in range(len(words))])
            bare = Document("", [], row, words)
        else:
            key = "data" if name == "doccano, old" else "text"
            row = row | ({"data": {"text": text}} if name == "Label Studio" else {key: text})
            bare = Document(text, [], row, units=recognise([EXPORTS[name]]).read(EXPORTS[name]).units)
        row_format = recognise([EXPORTS[name]])
        original = row_format.write(bare, spans)
        if name == "Label Studio":
            result = original["predictions"][0]["result"]
            original["annotations"] = [{"result": result}]
        document = row_format.read(original)
        assert spans_of(document) == [tuple(span)[:3] for span in spans]
        tags = document.tags()  # what a perfect tagger predicts
        assert row_format.write(document, tag_spans(document.offsets, tags)) == original
        if spans and name == "Label Studio":
            encoded = text.encode("utf-16-le")
            for item in original["annotations"][0]["result"]:
                start, end = item["value"]["start"], item["value"]["end"]
                assert encoded[2 * start : 2 * end].decode("utf-16-le") == item["value"]["text"]

    def test_the_formats_are_what_their_names_say(self):
        assert recognise([DOCCANO]) == SpanRows("text", "label", "triples")
        assert recognise([PRODIGY]) == SpanRows("text", "spans", "spans")
        assert recognise([JSON_MIN]) == SpanRows("text", "label", "regions")
        assert recognise([LABEL_STUDIO]) == LabelStudioTasks("text", ("ner", "doc", "labels"))
