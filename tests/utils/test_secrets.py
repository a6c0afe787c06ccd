"""Secrets are masked by their value and by their key, however they came in."""

import json

import pytest
import yaml

from rnn_hf.utils.secrets import (
    MASK,
    find_secrets,
    is_secret_key,
    mask,
    mask_command,
    mask_options,
    name_unknown,
    read_options_files,
)

TOKEN = "tok-1234-abcd"


@pytest.mark.parametrize(
    "key",
    ["token", "hub_token", "hub-token", "--hub_token", "HF_TOKEN", "use_auth_token", "password", "PASSWD", "secret",
     "client_secret", "aws_secret_access_key", "api_key", "apikey", "api-key", "Authorization", "Cookie", "key",
     "account_key", "connection_string", "credentials", "X-Amz-Signature", "sig", "accessToken", "clientSecret",
     "secretAccessKey", "AWSAccessKeyId", "private_key", "pass", "sas", "session", "storage_options", "headers"],
)  # fmt: skip
def test_keys_of_secrets(key):
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key",
    ["pad_token_id", "max_tokens_per_batch", "tokens_column", "tokenizer_kind", "--tokenizer_name", "keys", "monkey",
     "cell_type", "author", "design", "token_ids", "num_input_tokens_seen"],
)  # fmt: skip
def test_keys_of_other_things(key):
    assert not is_secret_key(key)


class TestFinding:
    @pytest.mark.parametrize(
        "words",
        [["--hub_token", TOKEN], [f"--hub_token={TOKEN}"], ["--hub-token", TOKEN], [f"--hub-token={TOKEN}"],
         ["--dataset_kwargs", json.dumps({"token": TOKEN})], [f"--dataset_kwargs={json.dumps({'token': TOKEN})}"],
         ["--dataset_kwargs", json.dumps({"storage_options": [{"headers": {"Authorization": TOKEN}}]})],
         ["--seed", "1", "--token", TOKEN, "--x", "2"]],
    )  # fmt: skip
    def test_on_the_command_line(self, words):
        assert TOKEN in find_secrets(["train.py", *words])

    @pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
    @pytest.mark.parametrize("equals", [False, True])
    def test_in_a_file_of_options(self, tmp_path, dump, equals):
        file = tmp_path / "options"
        file.write_text(dump({"dataset_kwargs": {"token": TOKEN}, "hub_token": "other-one"}), encoding="utf-8")
        words = [f"--config={file}"] if equals else ["--config", str(file)]
        assert {TOKEN, "other-one"} <= find_secrets(words)
        assert read_options_files(words)["hub_token"] == "other-one"

    def test_in_the_environment(self, monkeypatch):
        for name in (
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "WANDB_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "MY_PASSWORD",
            "PGPASSWORD",
            "GITHUB_PAT",
            "DB_PASS",
            "MY_PRIVATE_KEY",
        ):
            monkeypatch.setenv(name, f"{TOKEN}-{name}")
            assert f"{TOKEN}-{name}" in find_secrets()
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsehood")
        assert "falsehood" not in find_secrets()

    @pytest.mark.parametrize(
        ("name", "value", "is_secret"),
        [("NODE_PASS_THROUGH", "datasets-1", False), ("FLIGHT_PATH", "somewhere-1", False),
         ("SECRET_FILE", __file__, False), ("OAUTH_TOKEN_URL", "https://host/oauth", False),
         ("TOKEN_MODE", "read-only", False), ("GITHUB_TOKEN_CI", TOKEN, True), ("API_KEY_2", TOKEN, True),
         ("MY_PASSWORD", "correcthorse", True), ("DB_TOKEN", "short", False)],
    )  # fmt: skip
    def test_which_variables_hold_one(self, monkeypatch, name, value, is_secret):
        monkeypatch.setenv(name, value)
        assert (value in find_secrets()) == is_secret

    @pytest.mark.parametrize("name", ["--dataset_name", "--train_file"])
    def test_in_an_address(self, name):
        assert {f"{TOKEN}%2F", f"{TOKEN}/"} <= find_secrets([name, f"https://alice:{TOKEN}%2F@host/a.csv"])

    def test_words_that_records_are_made_of_are_none(self):
        assert not {"train", "test"} & find_secrets(["--token", "test", "--dataset_kwargs", '{"password": "train"}'])

    def test_what_stands_in_options_of_file_systems_is_masked_there_alone(self):
        options = {"storage_options": {"anon": "outputs", "headers": {"X-Auth": "outputs"}}, "folder": "outputs"}
        assert "outputs" not in find_secrets(["--dataset_kwargs", json.dumps({"storage_options": {"a": "outputs"}})])
        assert mask_options(options) == {"storage_options": MASK, "folder": "outputs"}

    def test_switches_are_none(self):
        assert not {"true", "no", "1"} & find_secrets(["--push_to_hub", "true", "--token", "no", "--auth=1"])

    def test_files_that_cannot_be_read_hold_none(self, tmp_path):
        (tmp_path / "broken.yaml").write_text("a: [", encoding="utf-8")
        for name in ("broken.yaml", "nowhere.yaml", "."):
            assert read_options_files(["--config", str(tmp_path / name)]) is None
            find_secrets(["--config", str(tmp_path / name)])


class TestMasking:
    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            (f"https://alice:{TOKEN}@host/a.csv", f"https://{MASK}@host/a.csv"),
            (f"https:/alice:{TOKEN}@host/a.csv", f"https:/{MASK}@host/a.csv"),
            (f"https://host/a.csv?token={TOKEN}&x=1", f"https://host/a.csv?{MASK}"),
            ("C:/mail@home/a.csv", "C:/mail@home/a.csv"),
            (f"?X-Amz-Signature={TOKEN}", f"?X-Amz-Signature={MASK}"),
            (f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {MASK}"),
            (f'{{"token": "{TOKEN}"', f'{{"token": "{MASK}"'),
            (f"hub_token: {TOKEN}", f"hub_token: {MASK}"),
            ("hf_abcdefghijklmnopqrstuvwxyz", f"hf_{MASK}"),
            ("There is no access token: make one", "There is no access token: make one"),
            ("The hub does not know the token: log in", "The hub does not know the token: log in"),
            ("pad_token_id=3 is outside the vocabulary", "pad_token_id=3 is outside the vocabulary"),
            ("outputs/rnn_hf_model", "outputs/rnn_hf_model"),
        ],
    )
    def test_what_looks_like_a_secret(self, text, masked):
        assert mask(text) == masked

    def test_known_values_wherever_they_stand(self):
        assert mask(f"a{TOKEN}b", {TOKEN, TOKEN[:6]}) == f"a{MASK}b"

    def test_options_of_any_depth(self):
        options = {"a": [{"token": 5, "seed": 3}], "b": json.dumps([{"password": TOKEN}]), "c": None, "token": None}
        assert mask_options(options) == {
            "a": [{"token": MASK, "seed": 3}], "b": json.dumps([{"password": MASK}], ensure_ascii=False), "c": None,
            "token": None,
        }  # fmt: skip

    def test_keys_stay_what_they_are(self):
        assert mask_options({"train": {"train_runtime": 1}, "x": "train"}, {"train"}) == {
            "train": {"train_runtime": 1}, "x": MASK,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("words", "named"),
        [(["--hub_tokn", TOKEN], "--hub_tokn"), ([f"--hub_tokn={TOKEN}"], "--hub_tokn"), (["-p", TOKEN], "-p"),
         (["hub_token", TOKEN], "hub_token"), (["b.csv", "c.csv"], "b.csv c.csv"),
         (["--a", TOKEN, TOKEN, "--b"], "--a --b")],
    )  # fmt: skip
    def test_of_unknown_options_the_values(self, words, named):
        assert name_unknown(words) == named

    def test_a_command(self):
        words = ["train.py", "--hub-token", TOKEN, "--hub_token=x", "--train_file", f"s3://{TOKEN}@b/c.csv", "--seed=1"]
        assert mask_command(words, {TOKEN}) == [
            "train.py", "--hub-token", MASK, f"--hub_token={MASK}", "--train_file", f"s3://{MASK}@b/c.csv", "--seed=1",
        ]  # fmt: skip
