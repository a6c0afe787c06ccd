"""Which kind of tokenizer fits texts."""

import pytest

from rnn_hf import train_tokenizer
from rnn_hf.text.coverage import lacks_spaces, unknown_share

THAI = "วันนี้อากาศดีมากผมไปตลาดกับเพื่อนและซื้อผลไม้หลายอย่างกลับบ้าน"


@pytest.mark.parametrize("text", [THAI * 20, "ACGT" * 100, THAI])
def test_texts_without_spaces(text):
    assert lacks_spaces([text])


@pytest.mark.parametrize(
    "text",
    [
        "a text of words, and https://example.org/with/a/long/address/that/no/word/of/a/language/reaches",
        "東京で新しい本を買いました。とても面白かったです。",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft ist ein langes Wort, " * 1
        + "und andere Wörter sind kurz, wie man an diesem Satz sieht, der noch ein wenig weitergeht, bis er endet",
        "",
    ],
)
def test_other_texts(text):
    assert not lacks_spaces([text])


def test_share_of_unknown_tokens():
    tokenizer = train_tokenizer(["to be or not to be"] * 2, "word")
    assert unknown_share(tokenizer, ["to be", "what is"]) == 0.5
    assert unknown_share(tokenizer, [["to", "is"]]) == 0.5
    assert unknown_share(tokenizer, []) == 0.0
    assert unknown_share(train_tokenizer(["to be"], "bpe", vocab_size=300), ["ça"]) == 0.0


@pytest.mark.parametrize("length", [150, 1400, 5000])
def test_wordpiece_knows_words_of_any_length(length):
    word = (THAI * 100)[:length]
    tokenizer = train_tokenizer([word] * 2, "wordpiece")
    assert unknown_share(tokenizer, [word]) == 0.0
    split = train_tokenizer([[word, "b"]] * 2, "wordpiece", is_split_into_words=True)
    encoding = split([[word, "b"]], is_split_into_words=True)
    assert list(dict.fromkeys(encoding.word_ids(0))) == [0, 1, None]
    assert split.unk_token_id not in encoding["input_ids"][0]
