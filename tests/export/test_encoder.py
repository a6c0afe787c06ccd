"""Exported graphs agree with the model, whatever the architecture and the batch."""

import builtins
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from strategies import CELLS, POOLINGS, VOCAB_SIZE, few, generator, little_config, seeds, set_random_ngrams
from transformers import AutoConfig

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, RnnModel, train_tokenizer
from rnn_hf.export import encoder
from rnn_hf.export.crf import max_marginals
from rnn_hf.export.encoder import LOWEST_OPSET, to_onnx
from rnn_hf.export.folder import export, exported_files
from rnn_hf.export.graph import Graph
from rnn_hf.export.words import Words
from rnn_hf.inference.loading import load
from rnn_hf.inference.predictor import predict
from rnn_hf.models.crf import ConditionalRandomField

PLAIN = ["A", "B", "C", "D", "E"]
IOB2 = ["B-X", "O", "I-X", "B-Y", "I-Y"]
MANY = [f"L{number}" for number in range(70)]
IOBES = ["O", "B-X", "I-X", "E-X", "S-X"]
CHARACTERS = {"characters": "abc", "max_characters_per_token": 5, "char_embedding_size": 3, "char_num_filters": 2}
LEXICAL = {"num_lexical_features": 50}
STATIC = {"static_embedding_size": 3, "static_vocab_size": 7}
EMBEDDINGS = [
    {},
    {**CHARACTERS, "char_kernel_sizes": [2, 5, 3]},
    {**STATIC, "num_word_embeddings": 11, "unk_token_id": 2},
    {**CHARACTERS, **STATIC, "num_word_embeddings": 11, "unk_token_id": 2},
]
WORDS = {"subword_pooling": "mean", "eos_token_id": 3}
HEADS = [
    *[(RnnForSequenceClassification, PLAIN, {"pooling": pooling}) for pooling in POOLINGS],
    (RnnForSequenceClassification, PLAIN, {"ngram_buckets": 300, "max_ngram": 1, "pooling": "max"}),
    (RnnForSequenceClassification, [str(number) for number in range(70)], {"ngram_buckets": 300, "pooling": "mean"}),
    (RnnForTokenClassification, PLAIN, {}),
    (RnnForTokenClassification, PLAIN, LEXICAL),
    (RnnForTokenClassification, MANY, LEXICAL),
    (RnnForTokenClassification, IOB2, {**LEXICAL, "use_crf": True}),
    (RnnForTokenClassification, IOB2, WORDS),
    (RnnForTokenClassification, MANY, {**LEXICAL, **WORDS}),
    (RnnForTokenClassification, IOB2, {**LEXICAL, **WORDS, "use_crf": True}),
    (RnnForTokenClassification, IOB2, {**LEXICAL, "use_crf": True, "crf_tag_scheme": "iobes"}),
    (RnnForTokenClassification, [*IOB2, "B-Z"], {**WORDS, "use_crf": True, "crf_tag_scheme": "iobes"}),
    *[(RnnForTokenClassification, names, {"use_crf": True}) for names in (PLAIN, IOB2, IOBES)],
]


def make(model_class, label_names, seed, **options):
    """Make a model whose every parameter and table is random."""
    config = little_config(id2label=dict(enumerate(label_names)), **options)
    model = model_class(config).eval()
    source = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * 0.4)
        if getattr(model, "ngrams", None) is not None:
            set_random_ngrams(model.ngrams, seed)
        for name, table in model.named_buffers():
            if name.startswith("ngrams."):
                continue
            highest = {
                "character_ids": len(config.characters or "") + 5,
                "vector_ids": config.static_vocab_size + 1,
                "word_starts": 2,
                "character_codes": 40,
                "feature_rows": config.num_lexical_features + 1,
            }[name.rpartition(".")[2]]
            table.copy_(torch.randint(highest, table.shape, generator=source))
    return model


def session_for(model, **options):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(to_onnx(model, **options).SerializeToString(), settings)


def run(session, input_ids, attention_mask):
    inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
    outputs = [torch.from_numpy(values) for values in session.run(None, inputs)]
    return outputs if len(outputs) == 2 else (outputs[0], None)


def assert_agree(model, session, input_ids, attention_mask):
    logits, labels = run(session, input_ids, attention_mask)
    with torch.no_grad():
        expected = model(input_ids=input_ids, attention_mask=attention_mask).logits
    if labels is None:
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        return
    tokens = attention_mask != 0
    torch.testing.assert_close(logits[tokens], expected[tokens], rtol=1e-5, atol=1e-5)
    assert torch.equal(labels[tokens], expected[tokens].argmax(dim=-1))
    assert torch.equal(labels, logits.argmax(dim=-1))


def most_cached(number):
    return dict.fromkeys((False, True), number)


def right_padded(lengths, longest, seed):
    input_ids = torch.randint(VOCAB_SIZE, (len(lengths), longest), generator=generator(seed))
    return input_ids, (torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)).long()


@few(80)
@given(
    seed=seeds,
    head=st.sampled_from(HEADS),
    cell=st.sampled_from(CELLS),
    bidirectional=st.booleans(),
    num_layers=st.integers(1, 3),
    embedding=st.sampled_from(EMBEDDINGS),
    cached=st.booleans(),
    masks=st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=4),
    length=st.integers(0, 9),
)
def test_logits_and_tags_are_those_of_torch(
    seed, head, cell, bidirectional, num_layers, embedding, cached, masks, length
):
    model_class, names, options = head
    options = {**options, **embedding, "cell_type": cell, "bidirectional": bidirectional}
    model = make(model_class, names, seed, num_hidden_layers=num_layers, **options)
    with mock.patch.object(encoder, "_MOST_CACHED_ENTRIES", most_cached(VOCAB_SIZE if cached else 0)):
        session = session_for(model)
    mask = torch.tensor(masks)[:, :length].long()
    input_ids = torch.randint(VOCAB_SIZE, mask.shape, generator=generator(seed))
    assert_agree(model, session, torch.where(mask != 0, input_ids, -100), mask)
    lengths = mask.sum(dim=1).tolist()
    assert_agree(model, session, *right_padded(lengths, length, seed))


@pytest.mark.parametrize(("model_class", "names", "options"), HEADS)
@pytest.mark.parametrize("lengths", [[1000, 1, 437], [1], [1, 1], [0, 3], [0]])
def test_long_and_short_sequences_agree(model_class, names, options, lengths):
    model = make(model_class, names, 0, **options)
    session = session_for(model)
    assert_agree(model, session, *right_padded(lengths, max(lengths), 1))
    assert_agree(model, session, *right_padded(lengths, max(lengths) + 20, 1))


def test_tags_of_tied_sequences_are_one_allowed_sequence():
    model = make(RnnForTokenClassification, IOB2, 0, use_crf=True)
    with torch.no_grad():
        for parameter in [*model.classifier.parameters(), *model.crf.parameters()]:
            parameter.zero_()
    model.word_starts.fill_(True)
    assert_agree(model, session_for(model), *right_padded([7, 4, 1], 7, 0))


@pytest.mark.parametrize("size", [1.0, 100.0, 1000.0])
def test_of_sequences_that_tie_but_for_rounding_one_is_decoded_in_a_graph(size):
    crf = ConditionalRandomField(["A", "B"])
    with torch.no_grad():
        crf.transitions.copy_(torch.tensor([[0.0, -9.0], [-9.0, 0.0]]) * size)
    graph = Graph()
    scores = max_marginals(graph, crf, "emissions", Words(graph, "is_start"))
    inputs = {"emissions": (TensorProto.FLOAT, ["L", "B", 2]), "is_start": (TensorProto.BOOL, ["L", "B"])}
    infos = [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()]
    output = helper.make_tensor_value_info(scores, TensorProto.FLOAT, None)
    whole = helper.make_graph(graph.nodes, "crf", infos, [output], graph.initializers)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", LOWEST_OPSET)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    is_start = torch.ones(6, 1, dtype=torch.bool).numpy()
    for seed in range(200):
        one = torch.randn(6, generator=generator(seed)) * size
        other = one[torch.randperm(6, generator=generator(seed))]
        emissions = torch.stack([one, other], dim=1).unsqueeze(1).numpy()  # [L, 1, num_labels], whose sums tie
        (found,) = session.run(None, {"emissions": emissions, "is_start": is_start})
        assert len(set(found.argmax(axis=2).flatten().tolist())) == 1


@pytest.mark.parametrize("opset", range(LOWEST_OPSET, 24))
def test_opsets_agree(opset):
    for model_class, names, options in HEADS:
        model = make(model_class, names, opset, **options, **EMBEDDINGS[-1])
        assert_agree(model, session_for(model, opset=opset), *right_padded([5, 2], 5, 0))


@pytest.mark.parametrize("int8", [False, True])
def test_padding_changes_nothing(int8):
    for model_class, names, options in HEADS:
        for embedding in EMBEDDINGS:
            with mock.patch.object(encoder, "_MOST_CACHED_ENTRIES", most_cached(0)):
                session = session_for(make(model_class, names, 0, **options, **embedding), int8=int8)
            input_ids, mask = right_padded([6, 3, 1], 6, 0)
            logits, _ = run(session, input_ids, mask)
            wider, wide_mask = right_padded([6, 3, 1], 11, 1)
            wider[:, :6] = torch.where(mask != 0, input_ids, wider[:, :6])
            wide_logits, _ = run(session, wider, wide_mask)
            shifted, _ = run(session, wider.flip(1), wide_mask.flip(1))
            if model_class is RnnForTokenClassification:
                wide_logits, logits = wide_logits[:, :6][mask != 0], logits[mask != 0]
            else:
                assert torch.equal(run(session, wider.roll(2, 1), wide_mask.roll(2, 1))[0], logits)
            assert torch.equal(wide_logits, logits)
            assert shifted.isfinite().all()


@pytest.mark.parametrize("cell", CELLS)
def test_int8_is_near_float32_and_a_third_of_its_size(cell):
    options = {"vocab_size": 3000, "embedding_size": 48, "hidden_size": 48, "num_hidden_layers": 2, "cell_type": cell}
    model = make(RnnForTokenClassification, PLAIN, 0, **options, **CHARACTERS, **STATIC)
    with torch.no_grad():
        for parameter in model.model.rnn.parameters():
            parameter.mul_(0.3)
    input_ids, mask = right_padded([20, 11, 5], 20, 0)
    exact, _ = run(session_for(model), input_ids, mask)
    logits, _ = run(session_for(model, int8=True), input_ids, mask)
    difference, spread = (logits - exact)[mask != 0], exact[mask != 0].std(dim=0)
    assert 0 < float(difference.square().mean().sqrt() / spread.mean()) < 0.03
    assert to_onnx(model, int8=True).ByteSize() * 3 < to_onnx(model).ByteSize()


@pytest.mark.parametrize("cell", CELLS)
def test_other_sequences_of_a_batch_change_the_int8_logits_of_an_lstm_only(cell):
    model = make(RnnForTokenClassification, PLAIN, 0, embedding_size=16, hidden_size=16, cell_type=cell)
    session = session_for(model, int8=True)
    input_ids, mask = right_padded([9, 9], 9, 0)
    together, _ = run(session, input_ids, mask)
    alone, _ = run(session, input_ids[:1], mask[:1])
    difference = float((together[0] - alone[0]).abs().max())
    assert difference < (0.1 if cell == "lstm" else 1e-5)
    assert (difference > 1e-5) == (cell == "lstm")


@pytest.mark.parametrize("int8", [False, True])
def test_of_a_large_alphabet_int8_keeps_the_characters_that_fit_a_byte(int8):
    letters = "".join(chr(0x4E00 + position) for position in range(400))
    model = make(
        RnnForTokenClassification, PLAIN, 0, **{**CHARACTERS, "characters": letters, "max_characters_per_token": 40}
    )
    entries = model.model.embeddings.character_cnn.character_ids
    entries[:5] = torch.arange(205, 405).view(5, 40)
    entries[5:] = torch.randint(205, (VOCAB_SIZE - 5, 40), generator=generator(0))
    with mock.patch.object(encoder, "_MOST_CACHED_ENTRIES", most_cached(0)):
        graph = to_onnx(model, int8=int8).graph
        session = session_for(model, int8=int8)
    kinds = {one.data_type for one in graph.initializer if list(one.dims) == [VOCAB_SIZE + 1, 40]}
    assert kinds == {TensorProto.UINT8 if int8 else TensorProto.UINT16}
    input_ids, mask = right_padded([9, 4], 9, 0)
    if not int8:
        assert_agree(model, session, input_ids, mask)
    input_ids = input_ids.clamp(min=5)
    logits, _ = run(session, input_ids, mask)
    with torch.no_grad():
        expected = model(input_ids=input_ids, attention_mask=mask).logits
    torch.testing.assert_close(logits[mask != 0], expected[mask != 0], rtol=0, atol=0.05 if int8 else 1e-5)


def test_the_graph_knows_what_it_is():
    model = make(RnnForTokenClassification, ["É", "O"], 0, cell_type="gru")
    properties = {entry.key: entry.value for entry in to_onnx(model).metadata_props}
    assert properties["task"] == "token-classification"
    assert json.loads(properties["labels"]) == ["É", "O"]
    assert properties["cell_type"] == "gru"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", properties["rnn_hf_version"])


def test_the_weights_may_be_bfloat16():
    model = make(RnnForTokenClassification, IOB2, 0, use_crf=True, **EMBEDDINGS[-1]).to(torch.bfloat16)
    session = session_for(model)
    assert_agree(model.float(), session, *right_padded([5, 2], 5, 0))


@pytest.mark.parametrize("opset", [17, 1000])
def test_an_unsupported_opset_is_refused(opset):
    model = make(RnnForTokenClassification, PLAIN, 0)
    with pytest.raises(ValueError, match=rf"from {LOWEST_OPSET} to \d+.*got {opset}"):
        to_onnx(model, opset=opset)


def test_a_model_without_a_head_is_refused():
    with pytest.raises(ValueError, match=r"classifier or a tagger.*RnnModel"):
        to_onnx(RnnModel(little_config()))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        export(str(tmp_path / "nothing"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(monkeypatch):
    real_import = builtins.__import__

    def without_onnx(name, *args, **kwargs):
        if name.partition(".")[0] == "onnx":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    spec = importlib.util.spec_from_file_location("rnn_hf.export.encoder_again", encoder.__file__)
    with pytest.raises(ImportError, match=r'pip install "rnn_hf\[onnx\]"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    """Folder of a classifier of two topics that has learnt its four texts."""
    texts = ["the striker scored twice", "a goal in the final", "shares fell today", "the bank raised interest rates"]
    tokenizer = train_tokenizer(texts, kind="wordpiece", min_frequency=1, vocab_size=200)
    torch.manual_seed(0)
    config = little_config(vocab_size=len(tokenizer), id2label={0: "sports", 1: "business"}, pooling="mean")
    model = RnnForSequenceClassification(config)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    batch = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(30):
        model(**batch, labels=torch.tensor([0, 0, 1, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("topics")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_is_exported(topics, tmp_path):
    files = export(str(topics), tmp_path / "out", int8=True)
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx", "onnx/model_int8.onnx"]
    assert list(files) == names
    assert files == exported_files(tmp_path / "out")
    assert files["onnx/model_int8.onnx"] == (tmp_path / "out" / "onnx" / "model_int8.onnx").stat().st_size
    assert not list((tmp_path / "out").glob("*.safetensors"))
    # Nor is code named that is not there.
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in json.loads((tmp_path / "out" / name).read_text(encoding="utf-8"))
    assert AutoConfig.from_pretrained(tmp_path / "out", trust_remote_code=True).label_names == ["sports", "business"]


def test_a_model_can_be_exported_into_its_own_folder(topics):
    before = {path.name: path.read_bytes() for path in topics.iterdir() if path.is_file()}
    export(str(topics), topics)
    after = {path.name: path.read_bytes() for path in topics.iterdir() if path.is_file()}
    assert after.keys() - before.keys() == {"handler.py", "requirements.txt"}
    config, later = (json.loads(files.pop("config.json")) for files in (before, after))
    assert config.pop("pad_token_id") is None
    assert later == {**config, "max_position_embeddings": 16384}
    assert {name: after[name] for name in before} == before
    assert (topics / "onnx" / "model.onnx").is_file()


def test_the_readme_runs_a_model_without_torch_and_transformers(topics, tmp_path):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "InferenceSession" in one]
    example = block[block.index(">>> import json") :].splitlines()
    *lines, last = [line.removeprefix(">>> ") for line in example if line.startswith(">>> ")]
    assert len(lines) < 15
    export(str(topics), tmp_path, int8=True)
    blocked = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'transformers', 'rnn_hf', 'onnx']))"
    code = "\n".join([blocked, f"folder = {str(tmp_path)!r}", *lines, f"print({last})"])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    texts = re.findall(r'"([\w ]+)"', next(line for line in lines if "encode_batch" in line))
    expected = [one["label"] for one in predict(*load(str(topics)), texts)]
    assert result.stdout == f"{expected}\n"


class TestOutputFolders:
    def test_another_model_is_not_overwritten(self, topics, tmp_path):
        RnnForTokenClassification(little_config()).save_pretrained(tmp_path)
        before = (tmp_path / "config.json").read_bytes()
        with pytest.raises(ValueError, match="holds another model, whose configuration would be replaced"):
            export(str(topics), tmp_path)
        assert (tmp_path / "config.json").read_bytes() == before

    def test_somebody_s_own_configuration_is_not_overwritten(self, topics, tmp_path):
        (tmp_path / "config.json").write_text('{"editor": "vim"}')
        with pytest.raises(ValueError, match=r"holds a config\.json of something else"):
            export(str(topics), tmp_path)
        assert (tmp_path / "config.json").read_text() == '{"editor": "vim"}'

    def test_an_export_is_written_anew(self, topics, tmp_path):
        first = export(str(topics), tmp_path)
        assert export(str(topics), tmp_path) == first

    def test_a_file_is_no_folder(self, topics, tmp_path):
        (tmp_path / "file").write_text("mine")
        for output_dir in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(ValueError, match="is a file"):
                export(str(topics), output_dir)
        (tmp_path / "onnx").write_text("mine")
        with pytest.raises(ValueError, match="onnx is a file"):
            export(str(topics), tmp_path)

    def test_nothing_is_left_of_a_graph_that_could_not_be_written(self, topics, tmp_path, monkeypatch):
        export(str(topics), tmp_path)
        before = (tmp_path / "onnx" / "model.onnx").read_bytes()

        def disk_full(source, target):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", disk_full)
        with pytest.raises(ValueError, match=r"cannot be written: No space left on device"):
            export(str(topics), tmp_path)
        assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model.onnx"]
        assert (tmp_path / "onnx" / "model.onnx").read_bytes() == before

    def test_an_opset_is_checked_before_the_model_is_loaded(self, tmp_path):
        with pytest.raises(ValueError, match="opset must be from 18 to"):
            export("no/such/model", tmp_path / "out", opset=7)
        assert not (tmp_path / "out").exists()


class TestTemperature:
    @pytest.mark.parametrize("int8", [False, True])
    @pytest.mark.parametrize("temperature", [0.3, 2, 7.5])
    def test_divides_the_logits_of_a_graph(self, temperature, int8):
        model = make(RnnForSequenceClassification, PLAIN, 0)
        ids, mask = right_padded([3, 5], 5, 0)
        before = run(session_for(model, int8=int8), ids, mask)[0]
        model.config.temperature = temperature
        after = run(session_for(model, int8=int8), ids, mask)[0]
        torch.testing.assert_close(torch.as_tensor(after), torch.as_tensor(before) / temperature)
        if not int8:
            assert_agree(model, session_for(model), ids, mask)

    def test_1_leaves_the_graph_as_it_was(self):
        model = make(RnnForSequenceClassification, PLAIN, 0)
        graph = to_onnx(model)
        model.config.temperature = 2.0
        other = to_onnx(model)
        assert len(other.graph.node) == len(graph.graph.node) + 1
        assert "temperature" not in {one.key for one in graph.metadata_props}
        assert {one.key: one.value for one in other.metadata_props}["temperature"] == "2.0"

    def test_of_a_regression_or_a_tagger_means_nothing(self):
        for model_class, options in (
            (RnnForSequenceClassification, {"problem_type": "regression"}),
            (RnnForTokenClassification, {}),
        ):
            model = make(model_class, PLAIN, 0, **options)
            nodes = len(to_onnx(model).graph.node)
            model.config.temperature = 2.0
            assert len(to_onnx(model).graph.node) == nodes
