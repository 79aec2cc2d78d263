import hashlib

import pytest

from dropdrift.launchers.launch.secrets import (
    HIDDEN,
    check_arguments,
    check_environment,
    is_secret,
    redacted,
)

# In pieces, so that no scanner takes them for real ones; none was ever in use.
RANDOM = "Zq8" + "vT1kX0bYw7RmN4cP9eJ2" + "sLdUa6GfHi3"
AMAZON = "AKIA" + "IOSFODNN7EXAMPLE"
GITLAB = "glpat-" + "abcdefghij0123456789"
URL = "postgresql://someone:" + "hunter2@host/runs"
GITHUB = "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789"
BEARER = "Accept: text/plain; Authorization: Bearer " + "hunter2hunter2"
HEXADECIMAL = hashlib.sha256(b"dropdrift").hexdigest()


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "WANDB_API_KEY", "AWS_REGION", "db_password", "CLIENT_SECRET", "KEY", "SSH_KEY",
     "GOOGLE_APPLICATION_CREDENTIALS", "APIKEY", "PRIVATE_DATA", "DB_PASS", "MYSQL_PWD",
     "REDISCLI_AUTH", "Authorization"],
)  # fmt: skip
def test_names_of_secrets(name):
    with pytest.raises(ValueError, match=f"env {name} looks like a secret by its name"):
        check_environment({"A": "b", name: "x"})


@pytest.mark.parametrize(
    "value", [RANDOM, AMAZON, GITHUB, GITLAB, URL, HEXADECIMAL, BEARER, f"user:{GITHUB}"]
)
def test_values_of_secrets_are_refused_and_not_repeated(value):
    with pytest.raises(ValueError, match="env OTHER looks like a secret by its value") as refused:
        check_environment({"OTHER": value})
    assert value not in str(refused.value)


@pytest.mark.parametrize(
    "pair",
    ["NCCL_SOCKET_IFNAME=eth0", "KEYBOARD=us", "MONKEY=1", "OMP_NUM_THREADS=8", "EMPTY=",
     "PWD=/data", "TWO_PASSES=1",
     "TOKENIZERS_PARALLELISM=false", "MIRROR=https://host:8080/someone@home",
     "LD_LIBRARY_PATH=/opt/conda/envs/Dropdrift-2026/lib/python3.11/site-packages/torch/lib",
     "HF_HOME=/data/cache/huggingface/hub/models--someone--something-2026",
     "NAME=the-quick-brown-fox-jumps-over-the-lazy-dog",
     "NUMBER=12345678901234567890123456789012345",
     "DIVIDER=----------------------------------------1a"],
)  # fmt: skip
def test_what_is_no_secret(pair):
    name, _, value = pair.partition("=")
    check_environment({name: value})


def test_arguments():
    check_arguments(["train", "--data.path", f"/data/{HEXADECIMAL}", "--loop.epochs=3"])
    with pytest.raises(ValueError, match="argument 2 looks like a secret") as refused:
        check_arguments(["train", f"--x={GITHUB}"])
    assert GITHUB not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    ["export HF_TOKEN=hunter2", "export HF_TOKEN='hunter2'", "'HF_TOKEN': 'hunter2',",
     "HF_TOKEN: hunter2", "environment:\n  HF_TOKEN: hunter2",
     '"HF_TOKEN": "hunter2"', "- name: HF_TOKEN\n  value: hunter2",
     "DB_PASSWORD = hunter2", "--env=HF_TOKEN=hunter2"],
)  # fmt: skip
def test_requests_are_shown_without_them(line):
    shown = redacted(f"before: 1\n{line}\nafter=2")
    assert "hunter2" not in shown
    assert HIDDEN in shown
    assert shown.startswith("before: 1\n")
    assert shown.endswith("\nafter=2")


def test_values_that_give_themselves_away_are_hidden_under_any_name():
    for value in (RANDOM, AMAZON, GITHUB):
        assert value not in redacted(f"export OTHER={value}")
    assert redacted("export OTHER=plain") == "export OTHER=plain"
    assert not is_secret("plain")
