"""No value of a Secret is in anything that a command prints, whatever it comes to."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from .conftest import Lab
from .service import Run, Service, copy_chart

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

KEY = "\n".join(
    [
        "-----BEGIN PRIVATE KEY-----",
        *(letter * 8 + "planted+line/of-a-key" + letter * 8 for letter in "abc"),
        "-----END PRIVATE KEY-----",
        "",
    ]
)
# What a person put in, which shows in the cluster alone.
PLANTED = {
    "password": "planted-password-of-the-shop",
    "pin": "hun7er",
    "token": "cGxhbnRlZC10b2tlbi1vZi10aGUtc2hvcA==",
    "tls.key": KEY,
}
LATER = {name: text.replace("planted", "another").replace("hun7er", "7ater") for name, text in PLANTED.items()}
LATER["token"] = base64.b64encode(b"another-token-of-the-shop").decode()
HAND = {"password": "typed-in-by-hand-at-night", "pin": "n1ght"}
SHORT_NUMBER = "739164"
MASK = re.compile(r"^(::add-mask::|##vso\[task\.setsecret\]).*\n?", re.MULTILINE)
LONG = re.compile(r"[A-Za-z0-9+/=]{40,}|BEGIN [A-Z ]*KEY")


def forms(text: str) -> Iterator[str]:
    """A secret as it stands, line by line, in base64, and the beginning of each."""
    for form in (
        *(line for line in text.splitlines() if not line.startswith("-----")),
        base64.b64encode(text.encode()).decode(),
    ):
        yield from (form, form[:20])


def check_nothing_leaked(text: str, *secrets: Mapping[str, str]) -> None:
    said = MASK.sub("", text)
    for secret in secrets:
        for name, value in secret.items():
            found = [form for form in forms(value) if form in said]
            assert not found, f"{name} is seen: {found} in\n{said}"


def template(values: Mapping[str, str]) -> str:
    """One Secret in base64, and one in plain text within a list."""
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    listed = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "listed"}, "stringData": dict(values)}
    return "\n---\n".join(
        json.dumps(thing).replace("{{", "{ {")
        for thing in (
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "data": data},
            {"apiVersion": "v1", "kind": "List", "items": [listed]},
        )
    )


def chart(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir()
    return copy_chart(folder / name, ("templates/secrets.yaml", "", text))


def modes(folder: Path) -> Iterator[tuple[Mapping[str, str], tuple[str, ...]]]:
    """Each platform, with answers as text and as JSON."""
    files = {"GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary")}
    github = {"GITHUB_ACTIONS": "true", **files}
    azure = {"TF_BUILD": "True", "AGENT_TEMPDIRECTORY": str(folder), "SYSTEM_HOSTTYPE": "build"}
    for environment in ({}, github, azure):
        for output in ("text", "json"):
            yield environment, ("--output", output)


def seen(run: Run, folder: Path) -> str:
    """All that anyone can read of a run: both streams, and what it left for the platform."""
    files = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    return "\n".join([run.said, json.dumps(run.answer), *map(str, run.answer.values()), *files])


def hold_by_hand(service: Service, values: Mapping[str, str]) -> None:
    typed = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    service.kubectl("patch", "secret", "db", "--type=merge", "--patch", json.dumps({"data": typed}))


def test_no_value_of_a_secret_is_printed(lab: Lab, tmp_path: Path) -> None:
    """In plan, status, a refusal of what a hand typed in, a release of others, and a rollback that overwrites; keys are."""
    left = tmp_path / "left"
    left.mkdir()
    literal = {"pod": {"env": {"PASSWORD": PLANTED["password"]}, "annotations": {"shop/pin": PLANTED["pin"]}}}
    service = lab.service(values=literal).having(chart=chart(tmp_path, "first", template(PLANTED)))
    check_nothing_leaked(seen(service.install("83"), left), PLANTED)
    later = service.having(
        chart=chart(tmp_path, "later", template(LATER)),
        values={"pod": {"env": {"PASSWORD": LATER["password"]}, "annotations": {"shop/pin": LATER["pin"]}}},
    )
    hold_by_hand(service, HAND)
    for environment, options in modes(left):
        there = replace(later.having(options=options), environment=environment)
        refused = there.stage(2, "84").expect(3)
        for name in ("Secret/db data.password: a value -> another value", "data.pin"):
            assert name in seen(refused, left), refused.text
        for run in (refused, there.plan("all", "84").expect(0), there.start("status").end().expect(0)):
            check_nothing_leaked(seen(run, left), PLANTED, LATER, HAND)
    hold_by_hand(service, {name: PLANTED[name] for name in HAND})
    for number in range(2, 6):
        check_nothing_leaked(seen(later.stage(number, "84").expect(0, "done"), left), PLANTED, LATER)
    hold_by_hand(service, HAND)
    environment, options = list(modes(left))[-2]
    back = replace(service.having(options=options), environment=environment).rollback().expect(0)
    assert "restores Secret/db, Secret/listed" in back.said, back.text
    check_nothing_leaked(seen(back, left), PLANTED, LATER, HAND)
    lab.delete(service.namespace)


MADE = """\
{{- $made := genSelfSignedCert "shop.example" nil nil 1 }}
apiVersion: v1
kind: Secret
metadata: {name: tls}
type: kubernetes.io/tls
data: {tls.crt: {{ $made.Cert | b64enc }}, tls.key: {{ $made.Key | b64enc }}}
"""
NUMBER = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: number}}\nstringData: {{pin: {SHORT_NUMBER}}}\n"


@pytest.mark.matrix
def test_no_value_of_a_secret_is_in_a_failure(lab: Lab, tmp_path: Path) -> None:
    """A key that is another one each time, refused before anything is installed; a number that the API server quotes."""
    left = tmp_path / "left"
    left.mkdir()
    service = lab.service()
    made, number = (chart(tmp_path, name, text) for name, text in (("made", MADE), ("number", NUMBER)))
    for environment, options in modes(left):
        there = replace(service.having(options=options), environment=environment)
        refused = there.having(chart=made).stage(1, "83").expect(3)
        assert service.revision() == 0
        assert "Secret/tls" in refused.text
        found = [text for text in LONG.findall(MASK.sub("", seen(refused, left))) if str(tmp_path) not in text]
        assert not found, found
    service.install("83")
    for environment, options in modes(left):
        there = replace(service.having(options=options), environment=environment)
        failed = there.having(chart=number).stage(2, "84").expect(3)
        assert "stringData.pin" in failed.text, failed.text
        assert SHORT_NUMBER not in MASK.sub("", seen(failed, left))
    lab.delete(service.namespace)
