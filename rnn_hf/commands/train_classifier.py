"""Train a recurrent text classifier: topics, sentiments, intents; one label or several, or a number.

    python scripts/train_classifier.py --train_file reviews.csv --label_column stars --output_dir outputs/reviews

    python scripts/train_classifier.py --dataset_name clinc/clinc_oos --dataset_config_name plus \
        --label_column intent --pooling max --output_dir outputs/intents

Without validation or test data a part of the training data is held out. Every option can also stand in a YAML or
JSON file: --config options.yaml. Several processes: torchrun --nproc_per_node 2 scripts/train_classifier.py ...
"""

from _command import training_command

main = training_command("text-classification", __doc__)

if __name__ == "__main__":
    main()
