"""Texts in three languages, and tokenizers that are trained on them."""

import pytest

from rnn_hf.text.tokenization import train_tokenizer

REVIEWS = [
    "이 영화 정말 재미있어요! 배우들의 연기가 최고였습니다.",
    "시간이 아까운 영화... 돈 주고 보지 마세요 ㅠㅠ",
    "기대 안 하고 봤는데 생각보다 재미있네요 ^^",
    "지루해서 중간에 나왔습니다. 별 반 개도 아깝다.",
    "음악도 좋고 영상도 좋고, 마지막 장면은 잊지 못할 것 같아요.",
    "정말 재미있어요! 정말 최고였습니다.",
]


@pytest.fixture(scope="module")
def reviews():
    """Korean reviews of films."""
    return REVIEWS


@pytest.fixture(scope="module")
def corpora(japanese_sentences, news_articles):
    """Texts or words, by their name and whether they are split into words."""
    words = [[word[0] for word in sentence] for sentence in japanese_sentences]
    texts = [text for text, _ in news_articles]
    return {
        ("japanese", True): words[:200],
        ("japanese", False): ["".join(sentence) for sentence in words[:200]],
        ("english", True): [text.split() for text in texts],
        ("english", False): texts,
        ("korean", True): [text.split() for text in REVIEWS],
        ("korean", False): REVIEWS,
    }


@pytest.fixture(scope="module")
def trained(corpora):
    """A tokenizer of a kind, trained once on one of the corpora."""
    cache = {}

    def make(kind, language="japanese", is_split_into_words=True):
        key = kind, language, is_split_into_words
        if key not in cache:
            corpus = corpora[language, is_split_into_words]
            cache[key] = train_tokenizer(corpus, kind, vocab_size=3000, is_split_into_words=is_split_into_words)
        return cache[key]

    return make
