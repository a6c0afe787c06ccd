"""Sharing on a hub: what is pushed from here works anywhere, and what goes wrong is said.

Everything runs with the real client against the small hub of `hub_server.py`.
"""

import io
import itertools
import json
import re
import shutil
import time
import typing
from pathlib import Path

import pytest
from hub_client import Client
from hub_server import HubError, HubServer
from safetensors.torch import load_file, save_file
from transformers import pipeline

from rnn_hf import RnnModel
from rnn_hf.export.folder import export
from rnn_hf.sharing.hub import check_access, push_folder
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

PACKAGE = Path(__file__).parents[2] / "rnn_hf" / "models"
# What classifiers and taggers carry; the rest is of language models.
CODE = {path.name for path in PACKAGE.glob("[!_]*.py")} - {"language_model.py", "modeling_lm.py"}
TEXTS = {
    "text-classification": ["The striker scored twice.", "Shares fell as the bank raised interest rates."],
    "token-classification": ["東京 で 本 を 読み まし た 。", "日本 の 首相 は アメリカ を 訪問 し た 。"],
}
TINY = ["--hidden_size", "12", "--embedding_size", "8", "--vocab_size", "300", "--disable_tqdm", "true"]
SHORT = [*TINY, "--num_train_epochs", "6", "--learning_rate", "0.02"]
_DIFFERENCES = itertools.count(1)
ALICE, ALICE_READS, BOB = "hf_alice_write", "hf_alice_read", "hf_bob_write"


def write_jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def trained(japanese_sentences, news_articles, tmp_path_factory) -> dict[str, Path]:
    """A classifier, and a tagger of spans with a conditional random field, by task."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [{"tokens": [w[0] for w in words], "tags": [w[-1] for w in words]} for words in japanese_sentences[:120]]
    files = {
        "token-classification": write_jsonl(folder / "entities.jsonl", rows),
        "text-classification": write_jsonl(
            folder / "news.jsonl", [{"text": text[:300], "label": topic} for text, topic in news_articles]
        ),
    }
    folders = {}
    for task, file in files.items():
        folders[task] = folder / task
        arguments = ["--train_file", file, "--output_dir", str(folders[task]), "--license", "mit", *SHORT]
        train(task, *parse_arguments(task, "", arguments))
    return folders


@pytest.fixture
def tagger(trained, tmp_path) -> Path:
    """A copy of the tagger's folder."""
    return shutil.copytree(trained["token-classification"], tmp_path / "tagger")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubServer(tmp_path_factory.mktemp("hub")) as hub:
        hub.add_user("alice", organisations=("team",))
        hub.add_user("bob")
        yield hub


@pytest.fixture(autouse=True)
def _undisturbed(request):
    yield
    if "hub" in request.fixturenames:
        request.getfixturevalue("hub").before = None


@pytest.fixture(scope="module")
def clients(hub, tmp_path_factory):
    """Processes: `lfs` and `xet` upload so; `stranger` lacks the package; `offline` has the cache of `lfs`."""
    folder = tmp_path_factory.mktemp("clients")
    clients = {
        "lfs": Client(folder / "lfs", HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1"),
        "xet": Client(folder / "xet", HF_ENDPOINT=hub.url),
        "stranger": Client(folder / "stranger", with_package=False, HF_ENDPOINT=hub.url),
        "killed": Client(folder / "killed", HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1"),
        "offline": Client(folder / "lfs", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1"),
    }
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture(scope="module")
def owner(clients) -> Client:
    return clients["lfs"]


@pytest.fixture(scope="module")
def stranger(clients) -> Client:
    return clients["stranger"]


def push(client: Client, folder: Path, repo_id: str, *options: str, token: str | None = ALICE):
    return client.attempt(f"run_script('push_to_hub.py', {str(folder)!r}, {repo_id!r}, *{options!r})", token)


def pushed(client: Client, folder: Path, repo_id: str, *options: str, token: str | None = ALICE) -> str:
    """Push and return the address."""
    outcome = push(client, folder, repo_id, *options, token=token)
    assert outcome.error is None, outcome.error
    return outcome.output.strip().splitlines()[-1]


def change_weights(folder: Path) -> list[float]:
    """Give a model weights that no other test has uploaded, and return those of its bias."""
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] = weights["classifier.bias"] + next(_DIFFERENCES) / 64
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return weights["classifier.bias"].tolist()


PREDICT = """
from transformers import pipeline
options = {{}} if {task!r} == "text-classification" else {{"ignore_labels": []}}
pipe = pipeline({task!r}, model={model!r}, revision={revision!r}, trust_remote_code={trust}, **options)
answers = pipe({texts!r})
if {task!r} == "text-classification":
    answers = [answers]
result = [[(one.get("entity") or one["label"], float(one["score"])) for one in answer] for answer in answers]
"""


def predict(client: Client, task: str, model: str, revision=None, trust=False, token=None):
    code = PREDICT.format(task=task, model=model, revision=revision, trust=trust, texts=TEXTS[task])
    return client.run(code, token)


def predict_here(task: str, folder: Path):
    options = {} if task == "text-classification" else {"ignore_labels": []}
    answers = pipeline(task, model=str(folder), **options)(TEXTS[task])
    answers = [answers] if task == "text-classification" else answers
    return [[[one.get("entity") or one["label"], float(one["score"])] for one in answer] for answer in answers]


def assert_same(one, other) -> None:
    assert [[label for label, _ in answer] for answer in one] == [[label for label, _ in answer] for answer in other]
    for answer, expected in zip(one, other, strict=True):
        assert [score for _, score in answer] == pytest.approx([score for _, score in expected], abs=1e-5)


class TestSharing:
    @pytest.mark.parametrize("task", list(TEXTS))
    @pytest.mark.parametrize("upload", ["lfs", "xet"])
    def test_a_pushed_model_predicts_the_same_where_the_package_is_not_installed(
        self, hub, clients, stranger, trained, tmp_path, upload, task
    ):
        folder = shutil.copytree(trained[task], tmp_path / "model")
        change_weights(folder)
        expected = predict_here(task, folder)
        repo_id = f"alice/{upload}-{task}"
        assert pushed(clients[upload], folder, repo_id).startswith(f"{hub.url}/{repo_id}/commit/")
        shutil.rmtree(folder)
        weights = hub.files(repo_id)["model.safetensors"]
        assert (weights.oid in hub.large) == (upload == "lfs")
        refused = stranger.attempt("import rnn_hf")
        assert "import of rnn_hf halted" in refused.error
        assert_same(predict(stranger, task, repo_id, trust=True), expected)

    def test_every_auto_class_loads_the_folder_without_the_package(self, stranger, trained):
        folder = str(trained["token-classification"])
        code = f"""
            from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
            from transformers import AutoModelForTokenClassification
            classes = AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification
            # The head of a tagger of spans also tells where they end, which a classifier's has no room for.
            options = [{{}}, {{}}, {{"ignore_mismatched_sizes": True}}, {{}}]
            result = [
                type(one.from_pretrained({folder!r}, trust_remote_code=True, **given)).__name__
                for one, given in zip(classes, options)
            ]
        """
        assert stranger.run(code) == [
            "RnnConfig", "RnnModel", "RnnForSequenceClassification", "RnnForTokenClassification",
        ]  # fmt: skip

    def test_a_model_saved_without_the_package_is_whole_again(self, stranger, trained, tmp_path):
        folder, again = str(trained["token-classification"]), str(tmp_path / "again")
        stranger.run(f"""
            from transformers import AutoModelForTokenClassification, AutoTokenizer
            model = AutoModelForTokenClassification.from_pretrained({folder!r}, trust_remote_code=True)
            model.save_pretrained({again!r})
            AutoTokenizer.from_pretrained({folder!r}).save_pretrained({again!r})
        """)  # fmt: skip
        assert {path.name for path in Path(again).glob("*.py")} == CODE
        assert json.loads(Path(again, "config.json").read_text())["auto_map"]["AutoModel"] == "modeling_rnn.RnnModel"
        task = "token-classification"
        assert_same(predict(stranger, task, again, trust=True), predict_here(task, trained[task]))

    def test_with_the_package_no_trust_is_asked_for(self, owner, stranger, trained):
        task, folder = "token-classification", str(trained["token-classification"])
        assert_same(predict(owner, task, folder, trust=None), predict_here(task, trained[task]))
        assert "trust_remote_code=True" in stranger.attempt(PREDICT.format(
            task=task, model=folder, revision=None, trust=False, texts=TEXTS[task])).error  # fmt: skip


class TestFolder:
    def test_the_code_is_the_package_s_own(self, trained):
        for folder in trained.values():
            assert {path.name for path in folder.glob("*.py")} == CODE
            for name in CODE:
                assert (folder / name).read_bytes() == (PACKAGE / name).read_bytes()

    def test_nothing_in_it_is_pickled_or_would_run_by_itself(self, trained):
        for folder in trained.values():
            for path in folder.iterdir():
                if path.is_file():
                    assert path.suffix in {".json", ".md", ".png", ".py", ".safetensors"}, path
                    # Pickles begin with a protocol, archives of torch with a zip's mark.
                    assert path.read_bytes()[:1] != b"\x80", path
                    assert path.read_bytes()[:2] != b"PK", path
            assert "auto_map" not in json.loads((folder / "tokenizer_config.json").read_text())

    def test_its_code_is_not_run_without_trust(self, owner, stranger, tagger):
        marker = tagger / "was_run"
        for path in tagger.glob("*.py"):
            path.write_text(
                f"open({str(marker)!r}, 'w').close()\n" + path.read_text(encoding="utf-8"), encoding="utf-8"
            )
        predict(owner, "token-classification", str(tagger))
        owner.run(f"from rnn_hf.inference.loading import load; load({str(tagger)!r})")
        assert stranger.attempt(f"""
            from transformers import AutoModelForTokenClassification
            AutoModelForTokenClassification.from_pretrained({str(tagger)!r}, trust_remote_code=False)
        """).error
        assert not marker.exists()
        predict(stranger, "token-classification", str(tagger), trust=True)
        assert marker.exists(), "the marker would tell"

    def test_its_tokenizer_loads_anywhere_without_trust(self, stranger, tagger):
        """Left alone, `AutoTokenizer` asks, since it looks for the configuration's class first."""
        marker = tagger / "was_run"
        for path in tagger.glob("*.py"):
            path.write_text(
                f"open({str(marker)!r}, 'w').close()\n" + path.read_text(encoding="utf-8"), encoding="utf-8"
            )
        tokens = stranger.run(f"""
            from transformers import AutoTokenizer, PreTrainedTokenizerFast
            one = AutoTokenizer.from_pretrained({str(tagger)!r}, trust_remote_code=False)
            other = PreTrainedTokenizerFast.from_pretrained({str(tagger)!r})
            result = one("東京 で")["input_ids"], other("東京 で")["input_ids"]
        """)
        assert tokens[0] == tokens[1]
        assert len(tokens[0]) >= 3
        assert not marker.exists()


class TestPush:
    def test_says_what_will_be_uploaded(self, hub, owner, tagger):
        (tagger / "optimizer.pt").write_bytes(b"\x80")
        export(str(tagger), tagger)
        before = len(hub.requests)
        outcome = push(owner, tagger, "alice/dry", "--dry_run", token=None)
        assert outcome.error is None
        assert len(hub.requests) == before
        for name, purpose in (("model.safetensors", "weights"), ("README.md", "model card"), ("crf.py", "code"),
                              ("tokenizer.json", "tokenizer"), ("onnx/model.onnx", "ONNX")):  # fmt: skip
            assert any(name in line and purpose in line for line in outcome.output.splitlines()), name
        assert "Not uploaded: checkpoint-" in outcome.output
        assert "optimizer.pt" in outcome.output.splitlines()[-1]

    def test_is_one_commit_with_everything_but_what_is_pickled(self, hub, owner, tagger):
        (tagger / "training_args.bin").write_bytes(b"\x80")
        export(str(tagger), tagger)
        pushed(owner, tagger, "alice/whole")
        assert hub.titles("alice/whole") == ["Upload tagger", "initial commit"]
        assert set(hub.files("alice/whole")) == CODE | {
            ".gitattributes", "README.md", "all_results.json", "config.json", "handler.py", "model.safetensors",
            "onnx/model.onnx", "requirements.txt", "run.json", "tokenizer.json", "tokenizer_config.json",
            "trainer_state.json", "training_args.json", "training_curve.png",
        }  # fmt: skip

    def test_of_a_changed_model_uploads_what_changed(self, hub, owner, tagger):
        pushed(owner, tagger, "alice/again")
        first = hub.files("alice/again")
        assert "Nothing has changed" in push(owner, tagger, "alice/again").output
        assert len(hub.titles("alice/again")) == 2
        change_weights(tagger)
        before = len(hub.requests)
        pushed(owner, tagger, "alice/again")
        assert hub.titles("alice/again") == ["Upload tagger", "Upload tagger", "initial commit"]
        second = hub.files("alice/again")
        assert {name for name in second if second[name] != first.get(name)} == {"model.safetensors"}
        assert sum(request.startswith("PUT /storage") for request in hub.requests[before:]) == 1

    def test_the_card_names_the_repository(self, hub, owner, tagger):
        pushed(owner, tagger, "alice/named")
        card = hub.files("alice/named")["README.md"].content.decode()
        assert card.count('model="alice/named"') == 2
        assert str(tagger) not in card

    def test_to_a_branch_leaves_main_alone(self, hub, owner, tagger):
        pushed(owner, tagger, "alice/branched", "--revision", "next/1")
        assert set(hub.files("alice/branched")) == {".gitattributes"}
        assert "model.safetensors" in hub.files("alice/branched", "next/1")

    def test_of_a_private_model_is_hidden_from_others(self, hub, owner, stranger, tagger):
        pushed(owner, tagger, "team/hidden", "--private")
        assert hub.repos["team/hidden"].private
        for token in (None, BOB):
            outcome = owner.attempt("from rnn_hf.inference.loading import load; load('team/hidden')", token)
            assert "team/hidden holds no model: " in outcome.error
            assert "it is private and you may not read it" in outcome.error
            assert "hf auth login" in outcome.error
        assert predict(stranger, "token-classification", "team/hidden", trust=True, token=ALICE_READS)

    def test_never_makes_a_public_model_out_of_what_shall_be_private(self, hub, owner, tagger):
        pushed(owner, tagger, "alice/public")
        before = hub.titles("alice/public")
        assert "exists and is public" in push(owner, tagger, "alice/public", "--private").error
        assert hub.titles("alice/public") == before

    def test_of_another_s_model_is_proposed_as_a_pull_request(self, hub, owner, tagger):
        pushed(owner, tagger, "alice/open")
        change_weights(tagger)
        address = pushed(owner, tagger, "alice/open", "--create_pr", token=BOB)
        assert address == f"{hub.url}/alice/open/discussions/1"
        proposed = hub.files("alice/open", "refs/pr/1")
        assert proposed["model.safetensors"] != hub.files("alice/open")["model.safetensors"]


class TestPushErrors:
    @pytest.mark.parametrize(
        ("token", "repo_id", "message"),
        [
            (None, "alice/x", "There is no access token: make one with write permission at .*/settings/tokens"),
            ("hf_wrong", "alice/x", "The hub does not know the token: log in anew"),
            (ALICE_READS, "alice/x", "The access token of alice may only read: make one that may write"),
            (ALICE, "nobody/x", "alice may not write to the namespace 'nobody', or it does not exist.*alice, team"),
            (ALICE, "bob/x", "alice may not write to the namespace 'bob'"),
            (ALICE, "a/b/c", "'a/b/c' is no repository on the hub, namespace/name"),
        ],
    )
    def test_rights_are_checked_before_anything_is_made(self, hub, owner, tagger, token, repo_id, message):
        repos = set(hub.repos)
        outcome = push(owner, tagger, repo_id, token=token)
        assert_error(outcome, message)
        assert set(hub.repos) == repos
        assert outcome.error.startswith("error: ")

    @pytest.mark.parametrize("route", ["whoami", "repo_info", "create_repo", "preupload", "lfs_batch", "commit"])
    @pytest.mark.parametrize("body", [{}, [], b"<!DOCTYPE html><title>Log in to the Wi-Fi</title>"])
    def test_what_answers_is_no_hub(self, hub, owner, tagger, route, body):
        if route == "lfs_batch":
            change_weights(tagger)

        def answer(handler, name):
            if name != route:
                return False
            handler.read()
            handler.answer(body, headers={"Content-Type": "text/html"} if isinstance(body, bytes) else {})
            return True

        hub.before = answer
        outcome = push(owner, tagger, f"alice/strange-{next(_DIFFERENCES)}")
        assert_error(outcome, f"^error: {hub.url} did not answer as a hub does when asked for .*HF_ENDPOINT")

    @pytest.mark.parametrize(
        "answer",
        [{"name": 3}, {"name": "alice", "orgs": 3}, {"name": "alice", "orgs": [{}]}, {"name": "alice", "auth": []}],
    )
    def test_what_answers_for_the_user_is_no_hub(self, hub, owner, tagger, answer):
        hub.before = lambda handler, name: name == "whoami" and (handler.answer(answer) or True)
        assert_error(
            push(owner, tagger, "alice/strange"), "did not answer as a hub does when asked for the token's user"
        )

    def test_a_pull_request_that_is_refused_is_not_advised(self, hub, owner, tagger):
        pushed(owner, tagger, "alice/closed")
        change_weights(tagger)

        def refuse(handler, route):
            if route == "commit":
                raise HubError(403, "Discussions are disabled for this repo")

        hub.before = refuse
        outcome = push(owner, tagger, "alice/closed", "--create_pr", token=BOB)
        assert_error(outcome, "You may not open a pull request on alice/closed: it takes none, or")
        assert "--create_pr" not in outcome.error
        hub.before = refuse
        outcome = push(owner, tagger, "alice/closed")
        assert_error(
            outcome, "You may not write to alice/closed.*propose your version as a pull request with --create_pr"
        )

    def test_metadata_that_the_hub_refuses(self, hub, owner, tagger):
        card = (tagger / "README.md").read_text(encoding="utf-8")
        (tagger / "README.md").write_text(card.replace("license: mit", "license: MIT licence"), encoding="utf-8")
        assert_error(push(owner, tagger, "alice/unlicensed"), "refuses the metadata .*README.md: .*license")
        assert "alice/unlicensed" not in hub.repos

    def test_a_commit_in_between_is_not_overwritten(self, hub, owner, tagger):
        pushed(owner, tagger, "alice/busy")
        change_weights(tagger)

        def commit_first(handler, route):
            if route == "commit":
                repo = hub.repos["alice/busy"]
                repo.add("main", repo.refs["main"], "theirs", "bob", repo.find("main").files)

        hub.before = commit_first
        assert_error(push(owner, tagger, "alice/busy"), "alice/busy has changed while it was pushed to.*push again")
        hub.before = None
        assert hub.titles("alice/busy")[0] == "theirs"
        pushed(owner, tagger, "alice/busy")
        assert hub.titles("alice/busy")[:2] == ["Upload tagger", "theirs"]

    @pytest.mark.parametrize(
        ("upload", "route", "arrives"),
        [("lfs", "upload", False), ("lfs", "commit", False), ("xet", "commit", False), ("lfs", "commit", True)],
    )
    def test_a_broken_connection_loses_and_doubles_nothing(self, hub, clients, tagger, upload, route, arrives):
        repo_id = f"alice/broken-{upload}-{route}-{arrives}"
        change_weights(tagger)

        def hang_up(handler, name):
            if name == route:
                if arrives:
                    handler.wfile = io.BytesIO()
                    handler.commit(repo_id, "main")
                raise ConnectionResetError

        hub.before = hang_up
        clients[upload].run("import time; time.sleep = lambda seconds: None")  # between retries
        outcome = push(clients[upload], tagger, repo_id)
        assert_error(outcome, "the connection broke .*push again")
        assert hub.titles(repo_id) == [*(["Upload tagger"] if arrives else []), "initial commit"]
        hub.before, before = None, len(hub.requests)
        pushed(clients[upload], tagger, repo_id)
        assert hub.titles(repo_id) == ["Upload tagger", "initial commit"]
        sent = sum(request.startswith("PUT /storage") for request in hub.requests[before:])
        assert sent == (route == "upload")  # the weights; not again where they had arrived

    def test_no_network(self, hub, owner, tagger):
        with hub.down():
            outcome = push(owner, tagger, "alice/nowhere")
        assert_error(outcome, "could not be reached.*Check the network and HF_HUB_OFFLINE")

    def test_a_push_that_was_killed_is_repeated(self, hub, clients, owner, tagger):
        change_weights(tagger)
        uploading = []

        def wait(handler, route):
            if route == "upload" and not uploading:
                uploading.append(route)
                time.sleep(0.5)

        hub.before = wait
        clients["killed"].start(f"run_script('push_to_hub.py', {str(tagger)!r}, 'alice/killed')", ALICE)
        deadline = time.time() + 60
        while not uploading and time.time() < deadline:
            time.sleep(0.01)
        clients["killed"].close()
        assert hub.titles("alice/killed") == ["initial commit"]
        hub.before = None
        pushed(owner, tagger, "alice/killed")
        assert hub.titles("alice/killed") == ["Upload tagger", "initial commit"]


@pytest.fixture(scope="module")
def versions(hub, owner, trained, tmp_path_factory) -> dict[str, list[float]]:
    """Biases by revision of alice/versions, which has a tag v1, a branch next, and another version on main."""
    folder = shutil.copytree(trained["token-classification"], tmp_path_factory.mktemp("versions") / "tagger")
    biases = {"v1": change_weights(folder)}
    pushed(owner, folder, "alice/versions")
    owner.run("from huggingface_hub import HfApi; HfApi().create_tag('alice/versions', tag='v1')", ALICE)
    biases["next"] = change_weights(folder)
    pushed(owner, folder, "alice/versions", "--revision", "next")
    biases["main"] = change_weights(folder)
    pushed(owner, folder, "alice/versions")
    biases[hub.repos["alice/versions"].refs["tags/v1"]] = biases["v1"]
    return biases


class TestPull:
    LOAD = "from rnn_hf.inference.loading import load; result = load({!r}, {!r})[0].classifier.bias.tolist()"

    def bias(self, client: Client, repo_id: str, revision: str | None = None) -> list[float]:
        return client.run(self.LOAD.format(repo_id, revision))

    def test_branches_tags_and_commits_load(self, owner, versions):
        for revision, expected in versions.items():
            assert self.bias(owner, "alice/versions", revision) == pytest.approx(expected), revision
        assert self.bias(owner, "alice/versions") == pytest.approx(versions["main"])

    def test_the_scripts_take_a_revision(self, owner, versions, tmp_path):
        (tmp_path / "in.txt").write_text(TEXTS["token-classification"][0], encoding="utf-8")
        outcome = owner.attempt(
            f"run_script('predict.py', 'alice/versions', {str(tmp_path / 'in.txt')!r}, '--revision', 'v1')"
        )
        assert outcome.error is None
        assert outcome.output.startswith("東京\t")

    def test_code_is_not_downloaded_where_the_package_is(self, hub, owner, tagger):
        pushed(owner, tagger, "alice/codeless")
        before = len(hub.requests)
        self.bias(owner, "alice/codeless")
        assert not any(request.endswith(".py") for request in hub.requests[before:])

    def test_from_the_cache_without_network(self, hub, clients, owner, versions):
        for revision in ("main", "v1"):
            self.bias(owner, "alice/versions", revision)
        before = len(hub.requests)
        for revision in ("main", "v1"):
            assert self.bias(clients["offline"], "alice/versions", revision) == pytest.approx(versions[revision])
        assert len(hub.requests) == before
        with hub.down():
            owner.run("from huggingface_hub import close_session; close_session()")
            assert self.bias(owner, "alice/versions") == pytest.approx(versions["main"])

    def test_what_is_not_in_the_cache_is_named(self, hub, clients, owner, versions):
        outcome = clients["offline"].attempt(self.LOAD.format("alice/other", None))
        assert "alice/other is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub: unset it" in outcome.error
        with hub.down():
            owner.run("from huggingface_hub import close_session; close_session()")
            outcome = owner.attempt(self.LOAD.format("alice/other", None))
        assert f"{hub.url} could not be reached, and alice/other is not in the cache" in outcome.error

    @pytest.mark.parametrize(
        ("repo_id", "revision", "token", "message"),
        [
            ("alice/versions", "v9", None, "alice/versions has no revision 'v9': name one of its branches, tags"),
            ("alice/none", None, None, "alice/none holds no model: .* has no such repository, or it is private"),
            ("alice/none", None, ALICE, "alice/none holds no model: .* has no such repository, or it is private"),
            ("alice/uncached", None, "hf_wrong", "The hub does not know the token: log in anew"),
            ("no/such/folder", None, None, "no/such/folder holds no model: there is no such folder, and it is no id"),
        ],
    )
    def test_what_is_not_there_is_named(self, owner, versions, repo_id, revision, token, message):
        options = [] if revision is None else ["--revision", revision]
        assert_error(owner.attempt(f"run_script('predict.py', {repo_id!r}, *{options!r})", token), message)

    @pytest.mark.parametrize("body", [{}, [], "text", None, b"<!DOCTYPE html><title>Log in to the Wi-Fi</title>"])
    def test_what_answers_is_no_hub(self, hub, owner, body):
        hub.before = lambda handler, name: name == "repo_info" and (handler.answer(body) or True)
        outcome = owner.attempt(f"run_script('predict.py', 'alice/strange-{next(_DIFFERENCES)}')")
        assert_error(outcome, f"^error: {hub.url} did not answer as a hub does when asked for alice/strange")

    @pytest.mark.parametrize("route", ["repo_info", "resolve"])
    @pytest.mark.parametrize("option", ["--tokenizer_name", "--model_name_or_path"])
    def test_a_page_to_log_in_at_answers_where_training_looks(self, hub, owner, tagger, trained, option, route):
        pushed(owner, tagger, repo_id := f"alice/behind-{next(_DIFFERENCES)}")
        page = b"<!DOCTYPE html><title>Log in to the Wi-Fi</title>"
        hub.before = lambda handler, name: (
            name == route and (handler.answer(page, headers={"Content-Type": "text/html"}) or True)
        )
        outcome = self.train(owner, trained, tagger.parent, option, repo_id)
        assert_error(outcome, f"^error: {hub.url} did not answer as a hub does when asked for {repo_id}.*Check the net")

    @pytest.mark.parametrize("option", ["--tokenizer_name", "--model_name_or_path"])
    def test_what_training_looks_for_and_is_not_there_is_named(self, hub, owner, trained, tmp_path, option):
        outcome = self.train(owner, trained, tmp_path, option, "alice/none")
        assert_error(outcome, f"^error: alice/none holds no {option.strip('-').split('_')[0]}: {hub.url} has no such")

    def test_a_tokenizer_is_loaded(self, hub, owner, tagger, trained, tmp_path):
        pushed(owner, tagger, "alice/lends")
        outcome = self.train(owner, trained, tmp_path, "--tokenizer_name", "alice/lends", "--max_steps", "1")
        assert outcome.error is None, outcome.error
        lent, used = (
            json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
            for folder in (tagger, tmp_path / "out")
        )
        assert used == lent

    def train(self, client: Client, trained: dict[str, Path], folder: Path, *options: str):
        news = str(trained["text-classification"].parent / "news.jsonl")
        words = ["--train_file", news, "--output_dir", str(folder / "out"), "--disable_tqdm", "true", *options]
        return client.attempt(f"run_script('train_classifier.py', *{words!r})")

    @pytest.mark.parametrize("position", ["file", "file/below", "/proc/nowhere", "/sys/nowhere"])
    @pytest.mark.parametrize("option", [None, "--tokenizer_name", "--model_name_or_path"])
    def test_a_cache_that_cannot_be_written_is_named(self, hub, owner, versions, trained, tmp_path, position, option):
        (tmp_path / "file").write_text("")
        cache = str(tmp_path / position)
        owner.run(f"""
            from huggingface_hub import constants
            kept, constants.HF_HUB_CACHE = constants.HF_HUB_CACHE, {cache!r}
        """)
        try:
            if option is None:
                outcome = owner.attempt("run_script('predict.py', 'alice/versions')")
            else:
                outcome = self.train(owner, trained, tmp_path, option, "alice/versions")
        finally:
            owner.run("constants.HF_HUB_CACHE = kept")
        assert_error(outcome, f"^error: The cache folder of the hub's files, {cache}, cannot be written to .* HF_HOME")
        assert "could not be reached" not in outcome.error

    def test_what_may_not_be_read_is_named(self, hub, owner):
        def refuse(handler, route):
            raise HubError(403, "Access to this resource is restricted")

        hub.before = refuse
        outcome = owner.attempt("run_script('predict.py', 'alice/restricted')")
        assert_error(outcome, "^error: You may not read alice/restricted, or the token has no right to")


class TestPushOfTransformers:
    """`push_to_hub` of models and of the stock Trainer."""

    def test_a_model_and_its_tokenizer(self, hub, owner, stranger, trained):
        task, folder = "token-classification", str(trained["token-classification"])
        owner.run(f"""
            from transformers import AutoModelForTokenClassification, AutoTokenizer
            AutoModelForTokenClassification.from_pretrained({folder!r}).push_to_hub("alice/by_model")
            AutoTokenizer.from_pretrained({folder!r}).push_to_hub("alice/by_model")
        """, ALICE)  # fmt: skip
        assert set(hub.files("alice/by_model")) >= CODE
        assert_same(predict(stranger, task, "alice/by_model", trust=True), predict_here(task, trained[task]))

    def test_the_stock_trainer_while_it_trains_and_at_its_end(self, hub, owner, stranger, trained, tmp_path):
        task, folder = "token-classification", str(trained["token-classification"])
        owner.run(f"""
            from rnn_hf import DataCollatorWithPacking
            from transformers import AutoModelForTokenClassification, AutoTokenizer, Trainer, TrainingArguments
            tokenizer = AutoTokenizer.from_pretrained({folder!r})
            trainer = Trainer(
                model=AutoModelForTokenClassification.from_pretrained({folder!r}),
                args=TrainingArguments(
                    {str(tmp_path / "out")!r}, max_steps=2, save_steps=1, report_to="none", push_to_hub=True,
                    hub_model_id="alice/by_trainer", disable_tqdm=True, dataloader_pin_memory=False, use_cpu=True,
                ),
                data_collator=DataCollatorWithPacking(tokenizer),
                train_dataset=[{{"input_ids": [5, 6, 7], "labels": [0, 0, 0]}}] * 4,
                processing_class=tokenizer,
            )
            trainer.train()
            trainer.push_to_hub()
        """, ALICE)  # fmt: skip
        titles = hub.titles("alice/by_trainer")
        assert titles[0] == "End of training"
        assert "Training in progress, step 1" in titles
        assert set(hub.files("alice/by_trainer")) >= CODE | {"model.safetensors", "tokenizer.json"}
        assert_same(predict(stranger, task, "alice/by_trainer", trust=True), predict_here(task, tmp_path / "out"))


class TestPushOfTraining:
    def train(self, client: Client, file: str, output_dir: Path, *options: str, token: str | None = ALICE):
        arguments = ["--train_file", file, "--output_dir", str(output_dir), *TINY, "--push_to_hub", "true", *options]
        code = f"""
            from rnn_hf.training.train import train
            from rnn_hf.training.options import parse_arguments
            train("text-classification", *parse_arguments("text-classification", "", {arguments!r}))
        """
        return client.attempt(code, token)

    def test_is_one_commit_with_our_card(self, hub, owner, trained, tmp_path):
        file = str(trained["text-classification"].parent / "news.jsonl")
        options = ["--num_train_epochs", "1", "--hub_model_id", "alice/by_script", "--hub_token", ALICE]
        outcome = self.train(owner, file, tmp_path / "out", *options, token=None)
        assert outcome.error is None, outcome.error
        assert f"{hub.url}/alice/by_script/commit/" in outcome.output
        assert hub.titles("alice/by_script") == ["Upload out", "initial commit"]
        files = hub.files("alice/by_script")
        assert "How to use" in files["README.md"].content.decode()
        assert not any(name.startswith("checkpoint-") or name.endswith(".bin") for name in files)
        assert not any(ALICE.encode() in (blob.content or b"") for blob in files.values())

    def test_is_refused_before_training_starts(self, hub, owner, trained, tmp_path):
        file = str(trained["text-classification"].parent / "news.jsonl")
        assert "may only read" in self.train(owner, file, tmp_path / "out", token=ALICE_READS).error
        states = self.train(owner, file, tmp_path / "out", "--hub_strategy", "checkpoint")
        assert "pickled states of optimizers" in states.error
        assert not (tmp_path / "out").exists()


class TestFoldersThatAreNotPushed:
    def test_no_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"There is no folder .*nowhere"):
            push_folder(tmp_path / "nowhere", "alice/x", dry_run=True)

    def test_no_model(self, tmp_path):
        with pytest.raises(ValueError, match="holds no model"):
            push_folder(tmp_path, "alice/x", dry_run=True)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("model.safetensors", "holds no weights: model.safetensors is missing"),
            ("modeling_rnn.py", r"saved without the code .*load\(.*save_pretrained"),
            ("tokenizer*", r"holds no tokenizer: tokenizer\.json is missing\. Save it there"),
            ("README.md", "holds no model card: write one with `rnn-hf card"),
        ],
    )
    def test_what_is_missing_is_named(self, tagger, name, message):
        for path in tagger.glob(name):
            path.unlink()
        with pytest.raises(ValueError, match=message):
            push_folder(tagger, "alice/x", dry_run=True)

    def test_weights_that_were_cut_off(self, tagger):
        weights = tagger / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(ValueError, match=r"model.safetensors is damaged or was cut off"):
            push_folder(tagger, "alice/x", dry_run=True)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("classifier.weight", float("nan"), "not finite, in classifier.weight"),
            ("model.rnn.weight_hh_l0", float("-inf"), "not finite, in model.rnn.weight_hh_l0"),
            ("model.embeddings.character_cnn.character_ids", 10**6, "character_ids names rows that do not exist"),
            ("model.embeddings.character_cnn.character_ids", -1, "character_ids names rows that do not exist"),
        ],
    )
    def test_weights_that_others_could_not_load(self, tagger, name, value, message):
        weights = load_file(tagger / "model.safetensors")
        weights[name].view(-1)[1] = value
        save_file(weights, tagger / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=message):
            push_folder(tagger, "alice/x", dry_run=True)

    def test_a_model_without_a_head_that_others_could_not_load(self, tagger):
        RnnModel.from_pretrained(tagger).save_pretrained(tagger)
        with pytest.raises(ValueError, match=r"tagger holds no classifier or tagger .*\['RnnModel'\]"):
            push_folder(tagger, "alice/x", dry_run=True)

    @pytest.mark.parametrize("metadata", ["license: [mit", "- a list", "model-index: [{name: x}]"])
    def test_metadata_that_cannot_be_read(self, tagger, metadata):
        (tagger / "README.md").write_text(f"---\n{metadata}\n---\n# Model\n", encoding="utf-8")
        with pytest.raises(ValueError, match=r"metadata at the top of .*README.md cannot be read"):
            push_folder(tagger, "alice/x", dry_run=True)

    def test_a_pull_request_against_a_branch(self, tagger):
        with pytest.raises(ValueError, match="leave --revision or --create_pr out"):
            push_folder(tagger, "alice/x", revision="next", create_pr=True, dry_run=True)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("config.json", "[1]", r"config\.json must hold a JSON object"),
            ("config.json", {"hidden_size": 13}, r"do not fit its config\.json \(\d+ of another shape"),
            ("config.json", {"num_hidden_layers": 500}, r"do not fit its config\.json \(num_hidden_layers=500, but"),
            ("tokenizer.json", 0.5, r"tokenizer\.json is no JSON, it is damaged or was cut off"),
            ("tokenizer.json", "{}", r"no tokenizer that can be read, in tokenizer\.json"),
            ("tokenizer_config.json", "", r"tokenizer_config\.json is empty"),
            ("run.json", 0.5, r"run\.json is no JSON, it is damaged or was cut off"),
            ("all_results.json", "[]", r"all_results\.json must hold a JSON object"),
            ("trainer_state.json", "version https://git-lfs.github.com/spec/v1\n", r"state\.json is only a pointer"),
            ("onnx/model.onnx", "", r"onnx/model\.onnx is empty"),
            ("onnx/model.onnx", 0.5, r"onnx/model\.onnx is no ONNX graph that can be read"),
            ("onnx/info.json", "x", r"onnx/info\.json is no JSON"),
            (
                "model.safetensors.index.json",
                '{"weight_map": {"a": "../secret.safetensors"}}',
                r"names '\.\./secret\.safetensors', which is no file of weights in its folder",
            ),
        ],
    )
    def test_what_is_damaged_is_named(self, tagger, name, content, message):
        if name.startswith("onnx"):
            export(str(tagger), tagger)
        if "index" in name:
            (tagger / "model.safetensors").unlink()
        path = tagger / name
        if isinstance(content, dict):
            content = json.dumps(json.loads(path.read_text(encoding="utf-8")) | content)
        elif isinstance(content, float):
            content = path.read_bytes()[: int(content * path.stat().st_size)].decode("utf-8", "surrogateescape")
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(ValueError, match=message):
            push_folder(tagger, "alice/x", dry_run=True)


class TestLinks:
    @pytest.mark.parametrize(
        "name", ["vocab.txt", "LICENSE", "run.json", "model.safetensors", "README.md", "onnx/a.json"]
    )
    def test_out_of_the_folder_are_refused(self, tagger, tmp_path, name):
        outside = tmp_path / "outside"
        (tagger / name).parent.mkdir(exist_ok=True)
        shutil.move(tagger / name, outside) if (tagger / name).exists() else outside.write_text("{}")
        (tagger / name).symlink_to(outside)
        with pytest.raises(ValueError, match=rf"symbolic links to files outside of it, {name} → {outside}: put copies"):
            push_folder(tagger, "alice/x", dry_run=True)

    def test_of_folders_are_refused_too(self, tagger, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "a.json").write_text("{}")
        (tagger / "onnx").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match=r"symbolic links to files outside of it, onnx → "):
            push_folder(tagger, "alice/x", dry_run=True)

    def test_within_the_folder_are_followed(self, tagger, tmp_path, capsys):
        (tagger / "best").mkdir()
        shutil.move(tagger / "model.safetensors", tagger / "best")
        (tagger / "model.safetensors").symlink_to("best/model.safetensors")
        (tmp_path / "latest").symlink_to(tagger)
        push_folder(tmp_path / "latest", "alice/x", dry_run=True)
        assert "model.safetensors" in capsys.readouterr().out


class TestSecrets:
    SHAPED = "hf_" + "AbCdEf0123456789AbCdEf"

    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("MY_API_KEY", 'open-"sesame"-1234')

    @pytest.mark.parametrize("name", ["README.md", "run.json", "training_args.json", "crf.py", "LICENSE", "vocab.txt"])
    @pytest.mark.parametrize("secret", [SHAPED, 'open-"sesame"-1234', "the-token-of-this-push"])
    def test_are_not_published(self, tagger, name, secret):
        path = tagger / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        line = 2
        if name.endswith(".json"):
            text = json.dumps({"a": 1, "b": f"x {secret} y"}, indent=1)
            line = 3
        elif name == "README.md":
            text, line = f"{old}\nSee {secret}.\n", old.count("\n") + 2
        else:
            text = f"first\n# {secret}\n{old}"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(
            ValueError, match=rf"{name}, line {line} holds a token or a password.*take it out"
        ) as refused:
            push_folder(tagger, "alice/x", dry_run=True, token="the-token-of-this-push")
        assert secret not in str(refused.value)
        assert "sesame" not in str(refused.value)

    def test_no_others_are_seen(self, tagger, capsys):
        (tagger / "LICENSE").write_text("hf_short xhf_" + "a" * 30 + " rnn_hf_" + "b" * 30 + " hf_hub_offline_and_more")
        push_folder(tagger, "alice/x", dry_run=True)
        assert "LICENSE" in capsys.readouterr().out

    def test_a_token_that_cannot_be_sent_is_refused(self):
        with pytest.raises(ValueError, match="access token holds characters that no token has") as refused:
            check_access("alice/x", token="hf_é-1234")
        assert "1234" not in str(refused.value)


def test_names_with_brackets_are_shown_as_they_are(tagger, capsys):
    """For `rich`, brackets are markup."""
    folder = tagger.rename(tagger.with_name("x[bold][red]"))
    (folder / "LICENSE[b].txt").write_text("mine")
    (folder / "note\x1b[2J.txt").write_text("mine")
    push_folder(folder, "alice/x", dry_run=True)
    shown = capsys.readouterr().out
    assert "x[bold][red] → alice/x" in shown
    assert "LICENSE[b].txt" in shown
    assert r"Not uploaded: " in shown
    assert r"note\x1b[2J.txt" in shown
    assert "\x1b" not in shown


def assert_error(outcome, message: str) -> None:
    assert outcome.error is not None, outcome.output
    assert "Traceback" not in outcome.error, outcome.error
    assert re.search(message, " ".join(outcome.error.split())), outcome.error


class TestTokensInTraining:
    """No token reaches a file, the screen or the hub, in whatever way it came in."""

    WAYS: typing.ClassVar = {
        "option": (["--hub_token", ALICE], None),
        "option with =": ([f"--hub_token={ALICE}"], None),
        "option with hyphens": (["--hub-token", ALICE], None),
        "option with hyphens and =": ([f"--hub-token={ALICE}"], None),
        "YAML file": (["--config", "o.yaml"], None),
        "YAML file with =, a comment and escapes": (["--config=escaped.yaml"], None),
        "JSON file": (["--config", "o.json"], None),
        "JSON in an option": (["--dataset_kwargs", json.dumps({"token": ALICE})], ALICE),
        "JSON in an option in a file": (["--config", "nested.yaml"], ALICE),
        "variable": (["--dataset_pretty_name", f"News of {ALICE}"], ALICE),
    }

    @pytest.mark.parametrize("way", WAYS)
    def test_no_token_is_written_printed_or_pushed(self, way, hub, owner, trained, tmp_path):
        options, variable = self.WAYS[way]
        escaped = ALICE.replace("_", "\\x5f")
        for name, content in {
            "o.yaml": f"hub_token: {ALICE}\n",
            "escaped.yaml": f'# hub_token: {ALICE}\nhub_token: "{escaped}"\n',
            "o.json": json.dumps({"hub_token": ALICE}),
            "nested.yaml": f"dataset_kwargs:\n  token: {ALICE}\n",
        }.items():
            (tmp_path / name).write_text(content, encoding="utf-8")
        options = [
            option.replace("=o", f"={tmp_path}/o").replace("=escaped", f"={tmp_path}/escaped") for option in options
        ]
        options = [str(tmp_path / option) if (tmp_path / option).is_file() else option for option in options]
        news = trained["text-classification"].parent / "news.jsonl"
        words = ["--train_file", str(news), "--output_dir", str(tmp_path / "model"), *TINY, "--num_train_epochs", "1"]
        words += ["--push_to_hub", "true", "--hub_model_id", f"alice/secret-{next(_DIFFERENCES)}", *options]
        outcome = owner.attempt(f"run_script('train_classifier.py', *{words!r})", variable)
        assert outcome.error is None, outcome.error
        assert hub.files(words[words.index("--hub_model_id") + 1])
        assert ALICE not in outcome.output
        files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
        assert len(files) > 20
        assert [path for path in files if ALICE.encode() in path.read_bytes()] == []
        blobs = [
            blob.content for repo in hub.repos.values() for one in repo.commits.values() for blob in one.files.values()
        ]
        assert not any(ALICE.encode() in content for content in [*filter(None, blobs), *hub.large.values()])
        record = json.loads((tmp_path / "model" / "run.json").read_text(encoding="utf-8"))
        assert "train_classifier.py" in record["command"]

    def test_a_stored_token_is_masked_too(self, owner, trained, tmp_path):
        news = trained["text-classification"].parent / "news.jsonl"
        words = ["--train_file", str(news), "--output_dir", str(tmp_path / "model"), *TINY, "--num_train_epochs", "1"]
        words += ["--dataset_pretty_name", f"News of {BOB}"]
        owner.run(f"from huggingface_hub import login; login({BOB!r}, skip_if_logged_in=False)")
        try:
            outcome = owner.attempt(f"run_script('train_classifier.py', *{words!r})")
        finally:
            owner.run("from huggingface_hub import logout; logout()")
        assert outcome.error is None, outcome.error
        assert BOB not in outcome.output
        found = [
            path for path in (tmp_path / "model").rglob("*") if path.is_file() and BOB.encode() in path.read_bytes()
        ]
        assert found == []

    def test_messages_hold_no_token(self, owner, tmp_path):
        for options in (
            ["--dataset_kwargs", f'{{"token": "{ALICE}"'],
            ["--train_file", f"https://a:{ALICE}@127.0.0.1:9/x.csv"],
        ):
            words = ["--output_dir", str(tmp_path / "model"), *options]
            outcome = owner.attempt(f"run_script('train_classifier.py', *{words!r}, '--debug')", None)
            assert "error: " in str(outcome.error)
            assert ALICE not in outcome.output
