"""Spans of texts and tags of words, there and back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import draw_spans, few, texts_of_all_scripts

from rnn_hf.formats.spans import (
    Document,
    Span,
    Units,
    describe_notes,
    find_units,
    mark_ends,
    tag_names,
    tag_spans,
    to_characters,
)

TEXT = "Anna O'Neill lives in New York City (USA)."


def at(part, label, text=TEXT):
    start = text.index(part)
    return Span(start, start + len(part), label)


def tagged(*spans, text=TEXT):
    """The words with a tag, and what is noted."""
    document = Document(text, list(spans))
    pairs = zip(document.words, document.tags(), strict=True)
    return [f"{word}/{tag}" for word, tag in pairs if tag != "O"], document.notes


class TestTags:
    def test_spans_become_iob2(self):
        spans = [at("Anna O'Neill", "PER"), at("New York City", "LOC"), at("USA", "LOC")]
        words, notes = tagged(*spans)
        assert words == [
            "Anna/B-PER",
            "O/I-PER",
            "'/I-PER",
            "Neill/I-PER",
            "New/B-LOC",
            "York/I-LOC",
            "City/I-LOC",
            "USA/B-LOC",
        ]
        assert notes == []

    def test_white_space_around_a_span_does_not_matter(self):
        assert tagged(at(" New York ", "LOC")) == (["New/B-LOC", "York/I-LOC"], [])

    def test_spans_that_touch_are_two(self):
        assert tagged(at("New ", "X"), at("York", "X"))[0] == ["New/B-X", "York/B-X"]

    def test_a_word_that_is_partly_covered_is_taken_whole(self):
        assert tagged(at("live", "ACT")) == (["lives/B-ACT"], ["partial"])
        assert tagged(at("ew Yor", "LOC")) == (["New/B-LOC", "York/I-LOC"], ["partial"])

    def test_of_nested_and_overlapping_spans_the_longest_stays(self):
        nested = [at("York", "NAME"), at("New York City", "LOC"), at("City", "KIND")]
        assert tagged(*nested) == (["New/B-LOC", "York/I-LOC", "City/I-LOC"], ["overlapping"] * 2)
        assert tagged(at("in New York", "A"), at("York City", "B"))[0] == ["in/B-A", "New/I-A", "York/I-A"]
        assert tagged(at("New", "FIRST"), at("New", "SECOND"))[0] == ["New/B-FIRST"]

    def test_two_parts_of_one_word_overlap(self):
        spans = [at("10", "NUMBER", "10km"), at("km", "UNIT", "10km")]
        assert tagged(*spans, text="10km") == (["10km/B-NUMBER"], ["partial", "overlapping"])

    @pytest.mark.parametrize("bounds", [(5, 5), (4, 5), (0, 0)])
    def test_empty_spans_are_left_out(self, bounds):
        assert tagged(Span(*bounds, "X")) == ([], ["empty"])

    @pytest.mark.parametrize("bounds", [(-1, 4), (0, 1000), (len(TEXT), len(TEXT) + 1), (4, 0)])
    def test_spans_outside_of_the_text_are_left_out(self, bounds):
        assert tagged(Span(*bounds, "X")) == ([], ["outside"])

    def test_a_span_with_gaps_gives_way_to_those_in_them(self):
        text = "North and South America"
        gaps = Span(0, 23, "LOC", is_whole=False)
        assert tagged(gaps, Span(10, 23, "LOC"), text=text) == (["South/B-LOC", "America/I-LOC"], ["overlapping"])
        words, notes = tagged(gaps, text=text)
        assert (len(words), notes) == (4, ["gaps"])

    def test_an_empty_text_has_no_words(self):
        assert Document("", []).tags() == []
        assert Document("", [Span(0, 1, "X")]).tags() == []

    def test_words_that_are_given_are_counted_one_by_one(self):
        document = Document("", [Span(0, 2, "LOC")], tokens=["New York", "City", "!"])
        assert document.tags() == ["B-LOC", "I-LOC", "O"]

    def test_each_label_has_both_tags_whatever_occurs(self):
        assert tag_names(["b", "a", "b"][:2]) == ["O", "B-a", "I-a", "B-b", "I-b"]

    def test_a_message_counts_what_was_noted(self):
        said = describe_notes(5, {"outside": 1, "overlapping": 2, "annotators": 7})
        assert said.startswith("Of 5 spans, 2 overlap another one")
        assert said.endswith("; 1 lie outside the text, and are left out.")
        assert describe_notes(5, {}) == ""


class TestSpansOfTags:
    @pytest.mark.parametrize(
        ("tags", "spans"),
        [
            ("B-X I-X O", [(0, 3, "X")]),
            ("B-X B-X I-X", [(0, 1, "X"), (2, 5, "X")]),
            ("I-X I-X O", [(0, 3, "X")]),  # no valid sequence, but clear
            ("B-X I-Y O", [(0, 1, "X"), (2, 3, "Y")]),
            ("B-X O I-X", [(0, 1, "X"), (4, 5, "X")]),
            ("B-X E-X S-X", [(0, 3, "X"), (4, 5, "X")]),
            ("B-X I-X E-X", [(0, 5, "X")]),
            ("S-X E-X O", [(0, 1, "X"), (2, 3, "X")]),
            ("NOUN VERB O", [(0, 1, "NOUN"), (2, 3, "VERB")]),
            ("B-job title O O", [(0, 1, "job title")]),
        ],
    )
    def test_are_found_in_any_scheme(self, tags, spans):
        tags = re.findall(r"B-job title|\S+", tags)
        assert [tuple(span)[:3] for span in tag_spans([(0, 1), (2, 3), (4, 5)], tags)] == spans

    @given(texts_of_all_scripts(), st.data())
    @few(100)
    def test_spans_on_word_borders_come_back(self, text, data):
        words = Document(text, []).offsets
        spans = draw_spans(data, words)
        document = Document(text, list(data.draw(st.permutations(spans))))
        assert tag_spans(document.offsets, document.tags()) == spans
        assert document.notes == []


class TestUnits:
    @given(texts_of_all_scripts())
    @few(60)
    def test_agree_with_how_others_count(self, text):
        utf16 = Units(utf16=True).positions(text)
        joined = Units(joins_line_ends=True).positions(text)
        for index in range(len(text) + 1):
            assert utf16[index] == len(text[:index].encode("utf-16-le")) // 2
            if text[index - 1 : index + 1] != "\r\n" or index == 0:
                assert joined[index] == len(text[:index].replace("\r\n", "\n"))

    @given(texts_of_all_scripts(), st.booleans(), st.booleans(), st.data())
    @few(60)
    def test_offsets_come_back_as_characters(self, text, utf16, joins, data):
        positions = Units(utf16, joins).positions(text)
        index = data.draw(st.integers(0, len(text)))
        if not (joins and text[index - 1 : index + 1] == "\r\n"):
            assert to_characters(positions, positions[index], positions[index]) == (index, index)

    def test_what_is_no_character_lies_outside(self):
        positions = Units(utf16=True).positions("a😀b")
        assert to_characters(positions, -1, 2) == (-1, 4), "2 is in the middle of a character"
        assert to_characters(positions, 4, 5) == (3, 4)

    def test_are_found_by_the_texts_of_spans(self):
        text = "😀 Anna\r\nOslo"
        assert find_units(text, [(2, 6, "Anna"), (8, 12, "Oslo")], Units()) == Units()
        assert find_units(text, [(3, 7, "Anna"), (9, 13, "Oslo")], Units()) == Units(utf16=True)
        assert find_units(text, [(2, 6, "Anna"), (7, 11, "Oslo")], Units()) == Units(joins_line_ends=True)
        assert find_units(text, [(3, 7, "Anna"), (8, 12, "Oslo")], Units()) == Units(True, True)

    @pytest.mark.parametrize("default", [Units(), Units(utf16=True)])
    def test_are_those_of_the_tool_where_the_texts_do_not_tell(self, default):
        assert find_units("😀 Anna", [(3, 7, None)], default) == default
        assert find_units("Anna 😀", [(0, 4, "Anna")], default) == default
        assert find_units("Anna", [(1, 2, "x")], default) == default


@given(st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=9))
def test_marked_ends_leave_the_spans_as_they_are(tags):
    words = [(start, start + 1) for start in range(len(tags))]
    marked = mark_ends(tags)
    spans = tag_spans(words, tags)
    assert tag_spans(words, marked) == spans
    ends = [start for start, tag in enumerate(marked) if tag[0] in "ES"]
    assert ends == [span.end - 1 for span in spans]
