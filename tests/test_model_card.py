"""The model card: every statement comes from the run's files, and what users wrote stays."""

import json
import re
import shutil
from pathlib import Path

import pytest
from hub_server import check_card
from huggingface_hub import ModelCard
from PIL import Image

from rnn_hf.export import export
from rnn_hf.model_card import MARK, with_model_id, write_model_card
from rnn_hf.prediction import load, predict
from rnn_hf.run_record import record_export
from rnn_hf.training import train
from rnn_hf.training_args import parse_arguments

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
        widget, examples = ModelCard.load(tagger / "README.md").data.widget, read(tagger, "run.json")["examples"]
        for one, example in zip(widget, examples, strict=True):
            assert example["tokens"][: len(one["text"].split())] == one["text"].split()

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
                "Learning rate": "0.002", "Batch size": "32"}  # fmt: skip
        for name, value in rows.items():
            assert f"| {name} | {value} |" in text
        assert "```text\npython " in text
        for name in ("Duration", "Hardware", "Software", "Date", "Epochs"):
            assert f"| {name} | " in text

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

    def test_its_code_runs(self, classifier, capsys):
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
        right = sum(row[place] for place, row in enumerate(matrix["counts"]))
        assert right / results["test_samples"] == pytest.approx(results["test_accuracy"])


class TestOtherRuns:
    def test_a_regression(self, news_articles, tmp_path):
        rows = [{"text": text[:100], "label": float(len(topic))} for text, topic in news_articles]
        folder = train_on("text-classification", rows, tmp_path)
        assert "gives each text a number" in text_of(folder)
        assert "| mean squared error |" in section(folder, "Results")
        assert "None: the answer is a number." in section(folder, "Labels")
        assert check_card(text_of(folder)) == []

    def test_several_labels_a_text(self, news_articles, tmp_path):
        rows = [{"text": text[:100], "label": [topic, "long"][: 1 + len(text) % 2]} for text, topic in news_articles]
        folder = train_on("text-classification", rows, tmp_path)
        assert "gives each text those of 6 labels that apply" in text_of(folder)
        assert "| exact match |" in section(folder, "Results")
        assert not (folder / "confusion_matrix.png").exists()

    def test_a_loss_of_several_parts(self, folder):
        config = read(folder, "config.json") | {"rdrop_loss_weight": 1.5}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
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

    def test_options_from_a_file_are_shown_and_tokens_are_not(self, folder, monkeypatch, tmp_path):
        from rnn_hf.run_record import _command

        (tmp_path / "options.yaml").write_text("pooling: mean\n", encoding="utf-8")
        command = [
            "scripts/train_classifier.py",
            "--config",
            str(tmp_path / "options.yaml"),
            "--hub_token",
            "hf_secret",
        ]
        record = _command([*command, "--hub_token=hf_secret"])
        assert "hf_secret" not in record["command"]
        (folder / "run.json").write_text(json.dumps(read(folder, "run.json") | record))
        assert "```yaml\npooling: mean\n```" in write_model_card(folder).read_text(encoding="utf-8")


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
