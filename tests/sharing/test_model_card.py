"""The model card: every statement comes from the run's files, and what users wrote stays."""

import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from hub_server import check_card
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image

from rnn_hf import RnnConfig, RnnForSequenceClassification, RnnForTokenClassification
from rnn_hf.export.folder import export
from rnn_hf.inference.loading import load
from rnn_hf.inference.predictor import predict
from rnn_hf.sharing.card_text import MARK, with_model_id
from rnn_hf.sharing.model_card import write_model_card
from rnn_hf.sharing.run_record import record_export
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

TINY = ["--hidden_size", "12", "--embedding_size", "8", "--vocab_size", "300", "--disable_tqdm", "true"]
OPTIONS = ["--license", "cc-by-4.0", "--dataset_pretty_name", "A corpus", "--num_train_epochs", "3"]


def write_jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def train_on(task: str, rows: list[dict], folder: Path, *options: str) -> Path:
    file = write_jsonl(folder / "corpus.jsonl", rows)
    arguments = ["--train_file", file, "--output_dir", str(folder / "model"), *TINY, *OPTIONS, *options]
    train(task, *parse_arguments(task, "", arguments))
    return folder / "model"


@pytest.fixture(scope="module")
def classifier(news_articles, tmp_path_factory) -> Path:
    rows = [{"text": text[:300], "label": topic} for text, topic in news_articles]
    return train_on("text-classification", rows, tmp_path_factory.mktemp("classifier"), "--language", "en")


@pytest.fixture(scope="module")
def tagger(japanese_sentences, tmp_path_factory) -> Path:
    rows = [{"tokens": [w[0] for w in words], "tags": [w[-1] for w in words]} for words in japanese_sentences[:80]]
    return train_on("token-classification", rows, tmp_path_factory.mktemp("tagger"), "--language", "ja", "en")


@pytest.fixture
def folder(classifier, tmp_path) -> Path:
    """A copy of the classifier's folder."""
    return shutil.copytree(classifier, tmp_path / "model")


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def section(folder: Path, heading: str) -> str:
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text_of(folder), re.MULTILINE | re.DOTALL)[1]


class TestMetadata:
    def test_says_what_was_given_and_what_the_model_is(self, classifier, tagger):
        data = ModelCard.load(classifier / "README.md").data
        assert (data.license, data.language) == ("cc-by-4.0", ["en"])
        assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
        assert data.tags == ["rnn_hf", "lstm"]
        assert data.metrics == ["accuracy", "f1", "precision", "recall"]
        data = ModelCard.load(tagger / "README.md").data
        assert (data.pipeline_tag, data.language) == ("token-classification", ["ja", "en"])
        assert data.tags == ["rnn_hf", "lstm", "crf"]

    def test_holds_every_test_score(self, classifier, tagger):
        for folder in (classifier, tagger):
            results = read(folder, "all_results.json")
            found = {result.metric_type: result for result in ModelCard.load(folder / "README.md").data.eval_results}
            assert set(found) == {"accuracy", "f1", "precision", "recall", "loss"}
            for name, result in found.items():
                assert result.metric_value == results[f"test_{name}"]
                assert (result.dataset_name, result.dataset_split) == ("A corpus", "test")
        assert found["f1"].metric_name == "span F1"

    def test_offers_inputs_to_try(self, tagger):
        texts = [one["text"] for one in ModelCard.load(tagger / "README.md").data.widget]
        assert texts == read(tagger, "run.json")["widget"]
        sentences = [" ".join(json.loads(line)["tokens"]) for line in (tagger.parent / "corpus.jsonl").open()]
        assert len(set(texts)) == 3
        for text in texts:
            assert text in sentences, "there are whole sentences that are short"
            assert len(text.split()) <= 12
            assert len(text) <= 100

    def test_of_long_texts_offers_beginnings(self, classifier):
        for one in ModelCard.load(classifier / "README.md").data.widget:
            assert 1 <= len(one["text"].split()) <= 12

    def test_shows_nothing_of_private_data(self, tmp_path):
        rows = [{"text": f"secret{index} {'ab'[index % 2]}", "label": "ab"[index % 2]} for index in range(40)]
        folder = train_on("text-classification", rows, tmp_path, "--no_examples")
        export(str(folder), folder)
        record_export(folder)
        write_model_card(folder)
        for name in ("README.md", "run.json", "training_args.json", "all_results.json"):
            assert re.search(r"secret\d", (folder / name).read_text(encoding="utf-8")) is None
        assert check_card(text_of(folder)) == []
        assert re.search(r"\| `onnx/model.onnx` \| [\d.]+ MB \|  \|", section(folder, "ONNX"))

    def test_is_what_the_hub_accepts(self, classifier, tagger):
        for folder in (classifier, tagger):
            assert check_card(text_of(folder)) == []

    def test_names_data_and_models_of_the_hub_only(self, folder):
        run = read(folder, "run.json")
        run |= {"data": {"dataset_name": "clinc/clinc_oos", "dataset_config_name": "plus"}, "base_model": "alice/base"}
        (folder / "run.json").write_text(json.dumps(run))
        assert ModelCard.load(folder / "README.md").data.datasets is None
        data = ModelCard.load(write_model_card(folder)).data
        assert (data.datasets, data.base_model) == (["clinc/clinc_oos"], "alice/base")
        assert {result.dataset_config for result in data.eval_results} == {"plus"}


class TestText:
    def test_every_number_is_in_a_file_of_the_run(self, classifier, tagger):
        for folder in (classifier, tagger):
            known = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.json")).replace("\\", "")
            numbers = {float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", known)}
            prose = "\n".join(section(folder, heading) for heading in ("Results", "Training", "Speed"))
            prose = re.sub(r"```.*?```", "", prose, flags=re.DOTALL)
            found = [
                float(number.replace(",", "")) for number in re.findall(r"(?<![\w.])\d[\d,]*\.?\d*(?![\w.])", prose)
            ]
            assert len(found) > 20
            for number in found:
                assert any(abs(number - one) <= 5e-5 for one in numbers) or number in {round(one) for one in numbers}

    def test_says_what_the_data_holds(self, classifier, tagger):
        for folder in (classifier, tagger):
            splits = read(folder, "run.json")["data_report"]["splits"]
            text = section(folder, "Training")
            for unit in ("words", "tokens"):
                median, most, longest = splits["train"][unit]
                assert f"| Length in {unit} | median {median}, 95th percentile {most}, longest {longest} |" in text
            repeated, rows = splits["train"]["num_repeated"], splits["train"]["num_rows"]
            assert f"| Repeated in the training data | {repeated} of {rows}" in text
            found = ", ".join(
                f"{name} {splits[name]['num_in_training']} of {splits[name]['num_rows']}"
                for name in ("validation", "test")
            )
            assert f"| In the training data too | {found} |" in text
        assert "| Tag scheme | IOB2 |" in text

    def test_of_a_run_without_a_report_leaves_that_out(self, folder):
        run = read(folder, "run.json")
        del run["data_report"]
        (folder / "run.json").write_text(json.dumps(run))
        write_model_card(folder)
        assert "| Length in words |" not in text_of(folder)
        assert "| Examples | 32 train" in text_of(folder)

    def test_tables_the_scores(self, classifier):
        results = read(classifier, "all_results.json")
        text = section(classifier, "Results")
        assert "| Measure | validation | test |" in text
        assert f"| accuracy | {results['eval_accuracy']:.4f} | {results['test_accuracy']:.4f} |" in text
        assert f"| macro F1 | {results['eval_f1']:.4f} | {results['test_f1']:.4f} |" in text
        assert "One run, with seed 42. The validation and test data was held out from the training file." in text

    def test_says_how_it_was_trained(self, classifier):
        text = section(classifier, "Training")
        rows = {"Data": "train: `corpus.jsonl`", "Examples": "32 train, 4 validation, 4 test", "Seed": "42",
                "Learning rate": "0.002", "Batch size": "16"}  # fmt: skip
        for name, value in rows.items():
            assert f"| {name} | {value} |" in text
        assert "```text\npython " in text
        for name in ("Duration", "Hardware", "Software", "Date", "Epochs"):
            assert f"| {name} | " in text

    def test_says_which_ngrams_count(self, classifier):
        buckets = read(classifier, "config.json")["ngram_buckets"]
        row = f"| N-grams | of 1 to 2 words, and of 2 to 6 characters, in {buckets:,} buckets |"
        assert (row in (classifier / "README.md").read_text(encoding="utf-8")) == (buckets > 0)

    def test_says_how_fast_it_is_and_on_what(self, tagger):
        speed = read(tagger, "run.json")["speed"]
        text = section(tagger, "Speed")
        assert f"{speed['words_per_second']:,} words a second" in text
        assert f"{speed['milliseconds_per_input']} ms for one input" in text
        assert f"1 thread of {speed['device']}" in text
        assert 0 < speed["milliseconds_per_input"] < 1000

    def test_lists_labels_parameters_and_size(self, classifier):
        model, _ = load(str(classifier))
        assert "5, in the order of their ids: `business`, `entertainment`, `politics`, `sport" in section(
            classifier, "Labels"
        )
        text = section(classifier, "Model")
        assert f"| Parameters | {model.num_parameters():,} |" in text
        assert f"| Size of the weights | {(classifier / 'model.safetensors').stat().st_size / 1e6:.1f} MB |" in text

    def test_shows_what_the_model_answers(self, classifier):
        model, tokenizer = load(str(classifier))
        examples = read(classifier, "run.json")["examples"]
        assert len(examples) == 3
        for one in predict(model, tokenizer, [example["text"] for example in examples]):
            assert f"| {one['label']} ({one['score']:.3f}) |" in section(classifier, "How to use")

    def test_its_code_runs(self, classifier, capsys, monkeypatch):
        monkeypatch.chdir(classifier.parent)
        blocks = re.findall(r"```python\n(.*?)```", section(classifier, "How to use"), re.DOTALL)
        assert len(blocks) == 2
        for block in blocks:
            exec(block, {})
        answers = capsys.readouterr().out.splitlines()
        assert len(answers) == 2
        assert answers[0] == answers[1]
        assert "'label'" in answers[0]

    def test_names_limits(self, classifier, tagger):
        assert "For text in en of the kind it was trained on (32 examples)" in section(
            classifier, "Intended use and limits"
        )
        assert "`marginals`" in section(tagger, "Intended use and limits")

    def test_no_template_is_left_in_it(self, classifier, tagger):
        for folder in (classifier, tagger):
            assert not re.search(r"\{[{%]|[}%]\}|None|\n\n\n\n", text_of(folder))


class TestPictures:
    def test_are_linked_where_they_are(self, classifier, tagger):
        for folder, names in ((classifier, ["training_curve.png", "confusion_matrix.png"]),
                              (tagger, ["training_curve.png"])):  # fmt: skip
            assert re.findall(r"!\[.*?\]\((.*?)\)", text_of(folder)) == names
            for name in names:
                with Image.open(folder / name) as image:
                    assert image.width > 300
                    assert len(image.convert("L").getcolors()) > 10

    def test_the_matrix_counts_the_test_data(self, classifier):
        matrix = read(classifier, "run.json")["confusion_matrix"]
        results = read(classifier, "all_results.json")
        assert matrix["split"] == "test"
        assert sum(map(sum, matrix["counts"])) == results["test_samples"]
        right = sum(row[position] for position, row in enumerate(matrix["counts"]))
        assert right / results["test_samples"] == pytest.approx(results["test_accuracy"])


class TestOtherRuns:
    def test_a_regression(self, news_articles, tmp_path):
        rows = [{"text": text[:100], "label": float(len(topic))} for text, topic in news_articles]
        folder = train_on("text-classification", rows, tmp_path)
        assert "gives each text a number" in text_of(folder)
        assert "| mean squared error |" in section(folder, "Results")
        assert "None: the model predicts a number." in section(folder, "Labels")
        assert check_card(text_of(folder)) == []

    def test_several_labels_a_text(self, news_articles, tmp_path):
        rows = [{"text": text[:100], "label": [topic, "long"][: 1 + len(text) % 2]} for text, topic in news_articles]
        folder = train_on("text-classification", rows, tmp_path)
        assert "gives each text those of 6 labels that apply" in text_of(folder)
        assert "| exact match |" in section(folder, "Results")
        assert not (folder / "confusion_matrix.png").exists()

    def test_a_loss_of_several_parts(self, folder):
        args = read(folder, "training_args.json") | {"rdrop_loss_weight": 1.5}
        (folder / "training_args.json").write_text(json.dumps(args), encoding="utf-8")
        write_model_card(folder)
        assert "| Training loss | with that of R-Drop (weight 1.5); validation and test without |" in text_of(folder)

    def test_exported_graphs_with_their_size_speed_and_scores(self, folder):
        assert "## ONNX" not in text_of(folder)
        export(str(folder), folder, int8=True)
        record_export(folder)
        scores = json.dumps({"eval_accuracy": 0.98765, "eval_f1": 0.5, "eval_samples": 3})
        (folder / "onnx" / "model_int8_validation_results.json").write_text(scores, encoding="utf-8")
        write_model_card(folder)
        rows = [line.strip("| ").split(" | ") for line in section(folder, "ONNX").splitlines() if line.startswith("| ")]
        assert rows[0] == ["File", "Size", "Words a second", "accuracy (validation)", "macro F1 (validation)"]
        for row, name in zip(rows[1:], ("onnx/model.onnx", "onnx/model_int8.onnx"), strict=True):
            graph = read(folder, "run.json")["onnx"][name]
            assert graph["bytes"] == (folder / name).stat().st_size
            expected = [f"`{name}`", f"{graph['bytes'] / 1e6:.1f} MB", f"{graph['words_per_second']:,}"]
            assert row[:3] == expected
        assert rows[2][3:] == ["0.9877", "0.5000"]
        assert check_card(text_of(folder)) == []

    def test_a_model_without_a_record_of_its_run(self, folder):
        for name in ("README.md", "run.json", "all_results.json", "trainer_state.json", "training_args.json"):
            (folder / name).unlink()
        text = write_model_card(folder).read_text(encoding="utf-8")
        assert "Nothing was measured." in text
        assert "## Speed" not in text
        assert "None" not in text
        assert check_card(text) == []

    def test_options_from_a_file_are_shown(self, folder):
        update(folder, "run.json", options="pooling: mean\n")
        assert "```yaml\npooling: mean\n```" in write_model_card(folder).read_text(encoding="utf-8")


def update(folder: Path, name: str, **changes) -> None:
    """Change keys of a JSON file, which is made where it is missing."""
    content = read(folder, name) if (folder / name).exists() else {}
    (folder / name).write_text(json.dumps(content | changes, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def bare(tmp_path) -> Path:
    """A tiny model without a record of its run."""
    folder = tmp_path / "bare"
    RnnForTokenClassification(RnnConfig(vocab_size=9, hidden_size=4, num_labels=2)).save_pretrained(folder)
    return folder


class TestSecrets:
    """Records of runs may be old, and hold what is masked now."""

    TOKEN = "hf_" + "AbCdEf0123456789AbCd"

    @pytest.mark.parametrize(
        "record",
        [
            {"command": f"python train.py --hub_token {TOKEN}"},
            {"command": f"python train.py --hub-token={TOKEN} --seed 1"},
            {"command": "python train.py --hub_tok=sesame-1234 --hub_token sesame-1234"},
            {"command": 'python train.py --dataset_kwargs \'{"token": "sesame-1234"}\''},
            {"command": "python train.py --hub_token 'sesame-1234 unfinished"},
            {"options": "hub_token: sesame-1234\nseed: 1\n"},
            {"options": "storage_options: {key: sesame-1234, secret: sesame-1234}\n"},
            {"options": f"seed: 1 # {TOKEN}\n"},
            {"options": "- not a mapping\n- token: sesame-1234\n"},
            {"options": "broken: [\nhub_token: sesame-1234\n"},
            {"options": {"hub_token": "sesame-1234"}},
            {"data": {"train": "a.csv", "test": f"https://al:sesame-1234@host/b.csv?token={TOKEN}"}},
            {"base_model": f"https://al:{TOKEN}@hub/x"},
        ],
    )
    def test_are_masked_wherever_they_stand(self, bare, record):
        (bare / "run.json").write_text(json.dumps(RUN | record))
        text = write_model_card(bare).read_text(encoding="utf-8")
        assert self.TOKEN not in text
        assert "sesame-1234" not in text

    def test_of_the_environment_are_masked(self, bare, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
        (bare / "run.json").write_text(json.dumps(RUN | {"command": "python train.py --run_name 0123456789abcdef"}))
        text = write_model_card(bare).read_text(encoding="utf-8")
        assert "0123456789abcdef" not in text
        assert "python train.py --run_name '…'" in text

    def test_of_training_args_are_masked(self, bare):
        (bare / "training_args.json").write_text(json.dumps({"hub_token": "sesame-1234", "seed": 1}))
        (bare / "run.json").write_text(json.dumps(RUN | {"command": "python train.py sesame-1234"}))
        assert "sesame-1234" not in write_model_card(bare).read_text(encoding="utf-8")

    def test_what_is_none_stays(self, bare):
        command = "python scripts/train_tagger.py --max_tokens_per_batch 4096 --train_file a.csv"
        (bare / "run.json").write_text(json.dumps(RUN | {"command": command}))
        assert f"```text\n{command}\n```" in write_model_card(bare).read_text(encoding="utf-8")


RUN = {
    "num_rows": {"train": 10}, "data": {"train": "a.csv"}, "device": "A CPU, 2 cores", "num_threads": 2,
    "num_processes": 1, "versions": {"python": "3.11"}, "date": "2024-05-01", "examples": [],
}  # fmt: skip


class TestLocalPaths:
    def test_are_nowhere_in_the_card(self, bare, monkeypatch):
        command = ["python", "/home/al/code/train.py", "--train_file", "/home/al/my data/a.csv", "--seed", "1"]
        command += ["--vectors=/home/al/glove.txt", "--dataset_kwargs", '{"data_dir": "/home/al/d"}', "--x", "~/y"]
        options = {"train_file": "/home/al/a.csv", "files": ["/home/al/b.csv", "c/d.csv"], "windows": r"C:\al\e.csv"}
        record = {"command": shlex.join(command), "options": yaml.safe_dump(options), "base_model": "/home/al/base"}
        record["data"] = {"train": "/home/al/my data/a.csv", "folder": "/home/al/corpus/"}
        (bare / "run.json").write_text(json.dumps(RUN | record))
        text = write_model_card(bare.absolute()).read_text(encoding="utf-8")
        assert not re.search(r"/home|/tmp|al/|~/|C:", text)
        assert str(bare.parent) not in text
        assert 'model="bare"' in text
        assert "--train_file a.csv --seed 1 --vectors=glove.txt" in text
        assert "- b.csv\n- c/d.csv\n" in text
        assert "| Fine-tuned from | `base` |" in text
        assert "train: `a.csv`, folder: `corpus`" in text
        assert ModelCard.load(bare / "README.md").data.base_model is None

    def test_relative_ones_stay(self, bare, monkeypatch):
        monkeypatch.chdir(bare.parent)
        (bare / "run.json").write_text(json.dumps(RUN | {"command": "python scripts/x.py --train_file data/a.csv"}))
        text = write_model_card("bare").read_text(encoding="utf-8")
        assert "python scripts/x.py --train_file data/a.csv" in text
        assert 'model="bare"' in text


HOSTILE_LABELS = [
    "<script>alert(1)</script>", "a|b", "`", "``x", "**bold**", "[x](http://y)", "line\nbreak", "tab\there", "\x1b[2J",
    "$x^2$", "\u202eevil", "# title", "---", "```", "key: value", "'", '"', "{{ 7 * 7 }}", "{% raw %}", "\x00", "é東京",
    "x" * 20_000, "&lt;", "| --- |", "\ud800",
]  # fmt: skip


class TestTextOfStrangers:
    @pytest.fixture
    def card(self, tmp_path):
        labels = dict(enumerate(HOSTILE_LABELS))
        folder = tmp_path / "hostile"
        RnnForSequenceClassification(RnnConfig(vocab_size=9, hidden_size=4, id2label=labels)).save_pretrained(folder)
        nasty = "a|b <img src=x> **c**\n## Heading\n```\n{{ 1 }}"
        run = RUN | {
            "command": f"python train.py --x '{nasty}' '```' '~~~'",
            "options": yaml.safe_dump({"note": nasty, "fence": "`````"}),
            "data": {"train": nasty, "a|b\n": "x`y"},
            "num_rows": {"train": 1, "te|st": 2},
            "device": nasty,
            "versions": {"py|thon": "<3>"},
            "date": "<b>today</b>",
            "base_model": nasty,
            "examples": [{"text": label, "label": label, "score": 0.5} for label in HOSTILE_LABELS],
            "confusion_matrix": {"split": "te|st", "counts": [[1] * len(labels)] * len(labels)},
            "onnx": {"onnx/`|.onnx": {"bytes": 1, "words_per_second": 2}},
        }
        (folder / "run.json").write_text(json.dumps(run))
        (folder / "training_args.json").write_text(json.dumps({"language": ["<i>", "a|b"]}))
        write_model_card(folder, dataset_pretty_name=nasty, license="mit\n---\n# evil")
        return folder

    def test_is_shown_as_text(self, card):
        tokens = MarkdownIt("commonmark").enable("table").parse(ModelCard.load(card / "README.md").text)
        headings = [after.content for one, after in itertools.pairwise(tokens) if one.type == "heading_open"]
        assert headings == [
            "hostile", "Results", "How to use", "Labels", "Model", "Training", "ONNX", "Intended use and limits",
        ]  # fmt: skip
        inline = [child for token in tokens if token.type == "inline" for child in token.children]
        html = {child.content for child in inline if child.type == "html_inline"}
        assert html <= {"<code>", "</code>"}
        assert all(token.content.startswith("<!-- ") for token in tokens if token.type == "html_block")
        assert not [child for child in inline if child.type in ("link_open", "strong_open", "em_open")]
        assert [child.attrs["src"] for child in inline if child.type == "image"] == ["confusion_matrix.png"]

    def test_breaks_no_table(self, card):
        tokens = MarkdownIt("commonmark").enable("table").parse(ModelCard.load(card / "README.md").text)
        rows = "".join(
            {"tr_open": "\n", "td_open": "c", "th_open": "c"}.get(token.type, "") for token in tokens
        ).split()
        assert len(rows) > len(HOSTILE_LABELS)
        assert set(rows) <= {"cc", "ccc"}

    def test_is_whole_though_shortened(self, card):
        text = section(card, "Labels")
        assert text.startswith(f"\n{MARK}\n\n{len(HOSTILE_LABELS)}, in the order of their ids: `<script>alert(1)")
        assert "<code>a&#124;b</code>" in text
        assert "x" * 99 + "…" in text
        assert len(text_of(card)) < 20_000

    def test_is_no_metadata(self, card):
        data = ModelCard.load(card / "README.md").data
        assert data.license == "mit\n---\n# evil"
        assert data.pipeline_tag == "text-classification"
        assert len(data.widget) == len([label for label in HOSTILE_LABELS if label.split()])

    def test_is_drawn_as_text(self, card):
        with Image.open(card / "confusion_matrix.png") as image:
            assert max(image.size) < 4000

    def test_is_left_alone_when_the_card_is_written_anew(self, card):
        before = section(card, "Training")
        write_model_card(card)
        assert section(card, "Training") == before

    def test_in_the_code_is_a_literal(self, bare):
        text = 'say "hi" \\ ``` {{ 1 }} \u2028'
        (bare / "run.json").write_text(json.dumps(RUN | {"examples": [{"tokens": text.split(), "tags": text.split()}]}))
        card = write_model_card(bare).read_text(encoding="utf-8")
        assert f"print(pipe({json.dumps(' '.join(text.split()))}))" in card


class TestFilesThatAreDamaged:
    @pytest.mark.parametrize("name", ["all_results.json", "run.json", "trainer_state.json", "training_args.json"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "is empty"),
            ('{"a": ', "is no JSON, it is damaged or was cut off"),
            ("[1]", r"must hold a JSON object, \{…\}, but holds a list"),
            ("null", "must hold a JSON object, .*null"),
            ("version https://git-lfs.github.com/spec/v1\n", "is only a pointer"),
        ],
    )
    def test_are_named(self, bare, name, content, message):
        (bare / name).write_text(content)
        with pytest.raises(ValueError, match=rf"{name} {message}"):
            write_model_card(bare)
        assert not (bare / "README.md").exists()

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("run.json", {"data": 3}),
            ("run.json", {"examples": "none"}),
            ("run.json", {"examples": [{}]}),
            ("run.json", RUN | {"num_rows": []}),
            ("run.json", RUN | {"confusion_matrix": {"counts": "x"}}),
            ("run.json", RUN | {"speed": {"split": "test"}}),
            ("run.json", RUN | {"onnx": {"onnx/model.onnx": {}}}),
            ("all_results.json", {"eval_loss": "low"}),
            ("all_results.json", {"num_parameters": "many"}),
            ("trainer_state.json", {"log_history": 3}),
            ("trainer_state.json", {"epoch": "x"}),
            ("training_args.json", {"learning_rate": "x"}),
            ("training_args.json", {"hub_model_id": 3}),
        ],
    )
    def test_are_named_where_they_hold_something_else(self, bare, name, content):
        (bare / name).write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"card of .* cannot be written.*{name}.*copy it again from the run"):
            write_model_card(bare)
        assert not (bare / "README.md").exists()

    def test_no_folder_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"There is no folder .*nowhere"):
            write_model_card(tmp_path / "nowhere")


class TestRewriting:
    def test_changes_nothing_without_a_change(self, folder):
        before = text_of(folder)
        write_model_card(folder)
        write_model_card(folder)
        # But for the folder's name, by which the examples load the model.
        assert with_model_id(text_of(folder), "x/y") == with_model_id(before, "x/y")

    def test_keeps_sections_of_one_s_own_where_they_are(self, folder):
        own = "## Ethics\n\nMind ```## this```.\n\n```text\n## no heading\n```\n\n"
        text = text_of(folder).replace("## Labels\n", own + "## Labels\n") + "\n## Last words\n\nMine.\n"
        (folder / "README.md").write_text(text, encoding="utf-8")
        results = read(folder, "all_results.json") | {"test_accuracy": 0.1234}
        (folder / "all_results.json").write_text(json.dumps(results))
        write_model_card(folder)
        new = text_of(folder)
        assert own in new
        assert new.index("## How to use") < new.index("## Ethics") < new.index("## Labels")
        assert new.endswith("## Last words\n\nMine.\n")
        assert "0.1234" in new
        assert new.count("## Labels\n") == 1

    def test_keeps_a_section_that_lost_its_mark(self, folder):
        text = text_of(folder)
        old = section(folder, "Intended use and limits")
        (folder / "README.md").write_text(text.replace(old, "\nFor internal use.\n"), encoding="utf-8")
        write_model_card(folder)
        assert section(folder, "Intended use and limits").strip() == "For internal use."
        assert text_of(folder).count("## Intended use and limits") == 1

    def test_adds_its_sections_to_a_card_of_one_s_own(self, folder):
        (folder / "README.md").write_text(
            "---\nlicense: mit\nthumbnail: x.png\n---\n\n# Mine\n\nHello.\n\n## Story\n\nLong.\n"
        )
        write_model_card(folder)
        card = ModelCard.load(folder / "README.md")
        assert card.text.startswith("\n# Mine\n\nHello.\n")
        assert "## Story\n\nLong.\n" in card.text
        assert "## Results" in card.text
        assert card.data.thumbnail == "x.png"

    def test_keeps_metadata_of_which_the_run_knows_nothing(self, folder):
        card = ModelCard.load(folder / "README.md")
        card.data.tags.append("news")
        card.data.co2_eq_emissions = 3
        card.save(folder / "README.md")
        write_model_card(folder, license="mit")
        data = ModelCard.load(folder / "README.md").data
        assert data.tags == ["rnn_hf", "lstm", "news"]
        assert (data.co2_eq_emissions, data.license) == (3, "mit")

    def test_a_repository_is_named_in_our_sections_only(self, folder):
        own = '\n## Mine\n\npipeline("text-classification", model="other/model")\n'
        text = with_model_id(text_of(folder) + own, "alice/topics")
        assert text.count('model="alice/topics"') == 2
        assert 'model="other/model"' in text
        assert MARK in text

    def test_metadata_that_cannot_be_read_is_named_and_left(self, folder):
        (folder / "README.md").write_text("---\nlicense: [mit\n---\nHello.\n")
        with pytest.raises(ValueError, match=r"metadata at the top of .*README\.md cannot be read"):
            write_model_card(folder)
        assert text_of(folder) == "---\nlicense: [mit\n---\nHello.\n"
