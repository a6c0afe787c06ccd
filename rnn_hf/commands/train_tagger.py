"""Train a recurrent tagger: parts of speech, chunks, named entities.

    python scripts/train_tagger.py --train_file train.conllu --validation_file dev.conllu --test_file test.conllu \
        --output_dir outputs/pos

    python scripts/train_tagger.py --train_file ner.jsonl --tokens_column words --tags_column ner \
        --cell_type gru --hidden_size 384 --output_dir outputs/ner

Without validation or test data a part of the training data is held out. Every option can also stand in a YAML or
JSON file: --config options.yaml. Several processes: torchrun --nproc_per_node 2 scripts/train_tagger.py ...
"""

from _command import training_command

main = training_command("token-classification", __doc__)

if __name__ == "__main__":
    main()
