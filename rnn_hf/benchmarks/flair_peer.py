"""Train Flair's tagger for an epoch and predict with it, in a Python that has Flair: `flair_peer.py FOLDER THREADS`."""

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

# Those that are tagged one by one.
_NUM_ALONE = 200


def main(folder: str, threads: int) -> dict[str, float]:
    """Train on `train.txt` and tag the words of `test.txt`, both with a line a word.

    Args:
        folder (`str`): Where they are.
        threads (`int`): Number of threads.

    Returns:
        `dict[str, float]`: words a second in training, without evaluation, and from lists of words to tags in batches
        of 32 and one by one, and the median milliseconds of one sentence.
    """
    import flair
    import torch
    from flair.data import Sentence
    from flair.datasets import ColumnCorpus
    from flair.embeddings import OneHotEmbeddings
    from flair.models import SequenceTagger
    from flair.trainers import ModelTrainer

    torch.set_num_threads(threads)
    flair.device = torch.device("cpu")
    columns = {0: "text", 1: "tag"}
    corpus: Any = ColumnCorpus(folder, columns, train_file="train.txt", sample_missing_splits=False)
    embeddings = OneHotEmbeddings.from_corpus(corpus, field="text", min_freq=2, embedding_length=256)
    tagger = SequenceTagger(
        hidden_size=256,
        embeddings=embeddings,
        tag_dictionary=corpus.make_label_dictionary("tag", add_unk=False),
        tag_type="tag",
        use_crf=False,
        rnn_layers=1,
        reproject_embeddings=False,
    )
    num_words = sum(map(len, corpus.train))
    start = time.perf_counter()
    ModelTrainer(tagger, corpus).train(
        f"{folder}/flair",
        learning_rate=0.002,
        optimizer=torch.optim.AdamW,
        mini_batch_size=32,
        max_epochs=1,
        save_final_model=False,
        embeddings_storage_mode="cpu",
    )
    training = num_words / (time.perf_counter() - start)
    blocks = Path(folder, "test.txt").read_text(encoding="utf-8").strip().split("\n\n")
    sentences = [[line.partition("\t")[0] for line in block.splitlines()] for block in blocks]
    start = time.perf_counter()
    tagger.predict([Sentence(words) for words in sentences], mini_batch_size=32)
    bulk = sum(map(len, sentences)) / (time.perf_counter() - start)
    times, alone = [], sentences[:_NUM_ALONE]
    for words in alone:
        start = time.perf_counter()
        tagger.predict(Sentence(words))
        times.append(time.perf_counter() - start)
    single = sum(map(len, alone)) / sum(times)
    return {
        "training, words/s": training,
        "bulk, words/s": bulk,
        "single, words/s": single,
        "single, ms": 1e3 * median(times),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))

__all__ = ["main"]
