"""Secrets are kept out of job requests, which schedulers store and show to others."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

HIDDEN = "[hidden]"

_SECRET_NAME = re.compile(
    r"TOKEN(?!IZERS)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY"
    r"|(?:^|_)KEY(?:_|$)|^AWS_|_(?:PASS|PWD|AUTH)$|AUTHORI[SZ]ATION$",
    re.IGNORECASE,
)
# Of Amazon, GitHub, Hugging Face, OpenAI, Slack, Google, GitLab and Docker, and web tokens.
_KNOWN = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bhf_[A-Za-z0-9]{20,}"
    r"|\bsk-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}|\bAIza[\w-]{30,}|\beyJ[\w-]{10,}\.[\w-]{10,}"
    r"|\bglpat-[\w-]{20,}|\bdckr_pat_[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^\s/:@]*:[^\s/@]+@"  # the password in a URL
    r"|\bBearer [\w.~+/=-]{8,}"  # as a header has it
)
_RANDOM_LOOKING = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
_LEAST_ENTROPY = 3.5  # bits a character: random hexadecimal digits have up to 4, words about 3

# NAME=VALUE, NAME: VALUE and their quoted forms, and what Kubernetes makes of a variable.
_ASSIGNED = re.compile(
    r"""(?P<name>\w+)(?P<is>['"]?[ ]*[=:][ ]*)(?P<value>'[^']*'|"[^"]*"|[^\s,;]+)"""
)
_LISTED = re.compile(r"(?P<name>\w+)(?P<is>\s+value: )(?P<value>.*)")


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse variables that look like secrets.

    Raises:
        ValueError: one does; its line names the variable and not its value.
    """
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            raise ValueError(f"env {name} looks like a secret by its name: {_ADVICE}")
        if is_secret(value):
            raise ValueError(f"env {name} looks like a secret by its value: {_ADVICE}")


def check_arguments(arguments: Iterable[str]) -> None:
    """Refuse arguments that hold a secret of a known form; ValueError that does not repeat it."""
    for number, argument in enumerate(arguments, 1):
        if _KNOWN.search(argument):
            raise ValueError(f"argument {number} looks like a secret: {_ADVICE}")


def is_secret(value: str) -> bool:
    """Whether a value has the form of a key, or is long and looks random."""
    if _KNOWN.search(value):
        return True
    # A path may be long and hold digits.
    if not _RANDOM_LOOKING.fullmatch(value) or value.startswith("/"):
        return False
    has_both = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return has_both and _entropy(value) >= _LEAST_ENTROPY


def redacted(text: str) -> str:
    """``text`` with what looks like a secret hidden, for what is printed of a request."""
    text = _KNOWN.sub(HIDDEN, text)
    return _LISTED.sub(_hide, _ASSIGNED.sub(_hide, text))


def _hide(found: re.Match[str]) -> str:
    value = found["value"].strip("'\"")
    if value and (_SECRET_NAME.search(found["name"]) or is_secret(value)):
        return f"{found['name']}{found['is']}{HIDDEN}"
    # The value may be an assignment of its own: --env=NAME=VALUE.
    return f"{found['name']}{found['is']}{_ASSIGNED.sub(_hide, found['value'])}"


def _entropy(text: str) -> float:
    """Bits a character, by how often each occurs."""
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)


_ADVICE = (
    "requests are stored and shown; on Slurm and here a job has the environment of your shell, in "
    "containers mount a file that holds it"
)
