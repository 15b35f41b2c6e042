"""What came from a Secret is found wherever it is, and hidden in whatever is printed."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest

from helm_canary.ci.github import GitHub
from helm_canary.ci.masks import Masks
from helm_canary.secrecy import LAST_APPLIED, Secrecy, secret_texts, suspects

PASSWORD = "a-password-of-the-shop"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nmultiline+key/with=signs\n-----END PRIVATE KEY-----\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(**more: Any) -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": "db"}, **more}


REGISTRY = json.dumps({"auths": {"r.example": {"password": PASSWORD, "auth": encoded(f"u:{PASSWORD}")}}})
# objects -> what must be among the texts
FOUND: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "data": ([secret(data={"a": encoded(PASSWORD)})], {PASSWORD}),
    "plain text": ([secret(stringData={"a": PASSWORD})], {PASSWORD}),
    "a number": ([secret(stringData={"pin": 1234})], {"1234"}),
    "a large number": ([secret(stringData={"pin": 10000000000})], {"10000000000", "1e+10"}),
    "no text": ([secret(data={"a": "/w=="})], {"/w=="}),
    "no base64": ([secret(data={"a": "hunter2!"})], {"hunter2!"}),
    "several lines of base64": (
        [secret(data={"a": encoded(PASSWORD)[:8] + "\n" + encoded(PASSWORD)[8:]})],
        {PASSWORD, encoded(PASSWORD)[:8] + "\n" + encoded(PASSWORD)[8:]},
    ),
    "a key": ([secret(data={"tls.key": encoded(KEY)})], {KEY}),
    "passwords of registries": ([secret(data={".dockerconfigjson": encoded(REGISTRY)})], {PASSWORD, encoded(f"u:{PASSWORD}")}),
    "within a list of lists": ([{"items": [{"kind": "List", "items": [secret(data={"a": encoded(PASSWORD)})]}]}], {PASSWORD}),
    "within another object": ([{"kind": "Bundle", "spec": {"template": secret(stringData={"a": PASSWORD})}}], {PASSWORD}),
    "as it was applied": (
        [secret(metadata={"annotations": {LAST_APPLIED: json.dumps(secret(data={"a": encoded(PASSWORD)}))}})], {PASSWORD},
    ),
    "a short one": ([secret(stringData={"a": "pw1"})], {"pw1"}),
}  # fmt: skip


@pytest.mark.parametrize(("objects", "texts"), FOUND.values(), ids=[*FOUND])
def test_every_value_of_a_secret_is_found(objects: list[dict[str, Any]], texts: set[str]) -> None:
    """Decoded, and as it stands where that is another text than its encoding, however deep."""
    assert texts <= set(secret_texts(objects))


CONTAINERS = {"template": {"spec": {"containers": [{"image": "r/shop:83"}]}}}
POD = {"kind": "Deployment", "metadata": {"name": "shop-backend"}, "spec": CONTAINERS}
NONE: dict[str, list[dict[str, Any]]] = {
    "a ConfigMap": [{"kind": "ConfigMap", "data": {"a": PASSWORD}}],
    "no values": [secret(), secret(data=None), secret(data={"a": ""}), secret(metadata=None)],
    "a truth": [secret(stringData={"a": True})],
    "the name of an object": [POD, secret(stringData={"host": "shop-backend"})],
    "a host": [
        {"kind": "VirtualService", "spec": {"hosts": ["shop.example.com"]}}, secret(stringData={"url": "shop.example.com"}),
    ],
    "a tag": [POD, secret(stringData={"version": "83"})],
    "what is given": [secret(stringData={"release": "the-release"})],
    "a release of Helm's": [secret(type="helm.sh/release.v1", data={"release": encoded(PASSWORD)})],
}  # fmt: skip


@pytest.mark.parametrize("objects", NONE.values(), ids=[*NONE])
def test_what_everybody_knows_is_no_secret(objects: list[dict[str, Any]]) -> None:
    """Names of objects and tags stay readable, also where a Secret repeats them; a packed release holds no text."""
    assert secret_texts(objects, ("the-release",)) == []


def masked(*texts: str) -> Masks:
    masks = Masks(stream=io.StringIO())
    for text in texts:
        masks.add(text)
    return masks


def test_a_secret_is_hidden_also_where_it_is_cut() -> None:
    """Whole, encoded, by its lines, and its beginning; what only begins alike stays as far as it is another text."""
    masks = masked(PASSWORD, KEY)
    parts = (PASSWORD[:20], encoded(PASSWORD)[:20], encoded(KEY)[:77], *KEY.splitlines()[1:3])
    for text in (PASSWORD, encoded(PASSWORD), *parts):
        assert masks.hide(f'"{text}..."') == '"***..."', text
    assert masks.hide("a-password-of-another") == "a-password-of-another"
    masks.add("https://ci.example.com/shop.git")
    assert masks.hide("see https://ci.example.com/runs/1") == "see https://ci.example.com/runs/1"
    assert masks.hide("see https://ci.example.com/sh... and https://ci.example.com/") == "see ***... and ***"


def test_a_short_secret_is_hidden_in_what_others_write() -> None:
    """As a word, not within one; and in our own texts nowhere: no CI could hide it, and words would be lost."""
    masks = masked("1234", "pw1")
    assert masks.conceal('got &value.valueUnstructured{Value:1234}, "pw1" of 12345 pw10') == (
        'got &value.valueUnstructured{Value:***}, "***" of 12345 pw10'
    )
    assert masks.hide("1234 pw1") == "1234 pw1"


def test_what_a_values_file_calls_secret_is_hidden_in_what_others_write() -> None:
    """Before any Secret is known; the CI is not told of it, and our own texts keep it."""
    masks = masked()
    for text in suspects(
        {"db": {"password": PASSWORD, "host": "db.example"}, "users": [{"apiKey": "k-12"}], "name": "shop"}
    ):
        masks.suspect(text)
    assert masks.conceal(f"got {PASSWORD} and k-12 for shop at db.example") == "got *** and *** for shop at db.example"
    assert masks.hide(PASSWORD) == PASSWORD


def test_answers_stay_answers() -> None:
    """A Secret that holds a word of an answer, or a line of JSON, changes no key and no result."""
    masks = masked("production", "unproven", "first-install", '"result": "done",', "production-tag")
    answer = json.dumps({"result": "done", "production-tag": "83", "proof": "unproven", "said": PASSWORD})
    masks.add(PASSWORD)
    assert json.loads(masks.hide_json(answer)) == {
        "result": "done",
        "production-tag": "83",
        "proof": "unproven",
        "said": "***",
    }
    assert masks.hide("all on production") == "all on production"


def test_a_ci_is_told_of_what_it_can_hide() -> None:
    """Each long text once, before it is used; no short one, no frame of a key, no name."""
    stream = io.StringIO()
    masks = Masks(platform=GitHub(output_path="", summary_path=""), stream=stream)
    objects = [POD, secret(stringData={"pw": PASSWORD, "pin": "1234", "host": "shop-backend", "key": KEY})]
    for _ in range(2):
        Secrecy(mask=masks.add).learn(objects)

    told = stream.getvalue().splitlines()

    assert len(told) == len(set(told))
    assert f"::add-mask::{PASSWORD}" in told
    assert f"::add-mask::{KEY.splitlines()[1]}" in told
    assert not [
        line for line in told if line.removeprefix("::add-mask::") in ("1234", "shop-backend") or "BEGIN" in line
    ]
