"""No value of a Secret is in any output of any command, whatever tools quote when they fail. No cluster is needed."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm_canary.guard import as_helm_applies
from tests.cli.charts import VALUES, write_chart
from tests.cli.program import Ran, run
from tests.cluster.binaries import ensure

TOOL = Path(__file__).with_name("quoting.py")
KEY = "\n".join(
    [
        "-----BEGIN PRIVATE KEY-----",
        *(letter * 8 + "planted+line/of-a-key" + letter * 8 for letter in "abc"),
        "-----END KEY-----",
        "",
    ]
)
PLANTED = {
    "password": "planted-password-of-the-shop", "pin": "hun7er", "token": "cGxhbnRlZC10b2tlbi1vZi10aGUtc2hvcA==", "tlsKey": KEY,
    "numberPassword": 739164,
}  # fmt: skip
LATER = {
    "password": "another-password-of-the-shop", "pin": "7ater", "token": "YW5vdGhlci10b2tlbi1vZi10aGUtc2hvcA==",
    "tlsKey": KEY.upper(), "numberPassword": 739165,
}  # fmt: skip
SECRETS = """\
apiVersion: v1
kind: Secret
metadata: {name: db}
data:
  {{- range $name, $value := .Values.db }}
  {{ $name }}: {{ $value | toString | b64enc }}
  {{- end }}
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Secret
    metadata: {name: listed}
    stringData: {{ .Values.db | toJson }}
"""
SCHEMA = json.dumps({"properties": {"db": {"properties": {"password": {"pattern": "^x"}, "pin": {"type": "number"}}}}})
MASK = re.compile(r"^(::add-mask::|##vso\[task\.setsecret\]).*\n?", re.MULTILINE)


def forms(value: object) -> Iterator[str]:
    """A secret as it stands, line by line, in base64, and the beginning of each."""
    text = str(value)
    lines = [line for line in text.splitlines() if not line.startswith("-----")]
    for form in (*lines, base64.b64encode(text.encode()).decode()):
        yield from (form, form[:20])


def leaked(text: str) -> dict[str, str]:
    """Name -> form of each planted secret that is seen; a mask is one on purpose."""
    said = MASK.sub("", text)
    return {
        name: form
        for secrets in (PLANTED, LATER)
        for name, value in secrets.items()
        for form in forms(value)
        if form in said
    }


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder with the tools, two versions of the chart's values, and what the cluster holds."""

    folder: Path
    chart: Path

    def values(self, secrets: Mapping[str, object]) -> Path:
        path = self.folder / f"{'old' if secrets is PLANTED else 'new'}.json"
        path.write_text(json.dumps({"db": secrets}))
        return path

    def hold(self, failing: tuple[str, ...], *, installed: bool, by_hand: bool) -> None:
        """What the tools say from now on."""
        helm = str(ensure("helm")["helm"])
        state: dict[str, Any] = {"helm": helm, "failing": failing, "live": [], "releases": []}
        if installed:
            words = [
                helm,
                "template",
                "--set",
                "canaryDeployment.replicaCount=0",
                "small",
                str(self.chart),
                "--namespace",
                "shop",
                "--values",
                str(self.values(PLANTED)),
            ]
            manifest = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            state |= {"live": list(live(manifest)), "releases": [release(manifest)]}
        for thing in state["live"]:
            if by_hand and thing["kind"] == "Secret":
                thing["data"] = {name: base64.b64encode(str(text).encode()).decode() for name, text in LATER.items()}
        (self.folder / "tools" / "state.json").write_text(json.dumps(state))

    def run(self, *words: str, env: Mapping[str, str]) -> Ran:
        paths = {"PATH": f"{self.folder / 'tools'}:{os.environ['PATH']}", "TMPDIR": str(self.folder)}
        return run(*words, "--release", "small", "--namespace", "shop", env={**paths, **env})


def live(manifest: str) -> Iterator[dict[str, Any]]:
    """The objects as the API server has them, of a release that is whole."""
    for thing in yaml.safe_load_all(manifest):
        for item in thing.get("items", [thing]):
            if item["kind"] == "Deployment":
                pods = item["spec"]["replicas"]
                item["status"] = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), pods)
            if item["kind"] == "Secret":
                texts = {
                    name: base64.b64encode(str(text).encode()).decode()
                    for name, text in item.pop("stringData", {}).items()
                }
                item["data"] = {**item.get("data", {}), **texts}
            yield from as_helm_applies([item], "small", "shop")


def release(manifest: str) -> dict[str, Any]:
    """Helm's Secret of the first revision."""
    whole = {"version": 1, "info": {"status": "deployed"}, "config": {"db": PLANTED}, "manifest": manifest, "chart": {}}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(whole).encode()))).decode()
    labels = {"version": "1", "status": "deployed", "owner": "helm", "name": "small"}
    return {"type": "helm.sh/release.v1", "metadata": {"name": "x", "labels": labels}, "data": {"release": packed}}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("helm", "kubectl"):
        (tools / name).write_text(f"#!{sys.executable}\n" + TOOL.read_text())
        (tools / name).chmod(0o755)
    return Place(folder=tmp_path, chart=write_chart(tmp_path / "chart", {"templates/secrets.yaml": SECRETS}))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command (`{old}` and `{new}`: values files), what fails, and what it comes to."""

    words: tuple[str, ...]
    code: int = 0
    said: str = ""
    failing: tuple[str, ...] = ()
    installed: bool = True
    by_hand: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


def stage(number: int, values: str = "{old}", tag: str = "84") -> tuple[str, ...]:
    return ("stage", str(number), "--tag", tag, "--values", values, "--drain", "1s", "--timeout", "5s")


CASES = {
    "a plan without a cluster": Case(words=("plan", "all", "--tag", "84", "--from", "83", "--values", "{old}")),
    "a plan": Case(words=("plan", "2", "--tag", "84", "--values", "{new}")),
    "status": Case(words=("status",), said="stage"),
    "a change by hand": Case(
        words=stage(2), code=3, said="Secret/db data.password: a value -> another value", by_hand=True,
    ),
    "a try that fails": Case(words=stage(2, "{new}"), code=3, said="cannot be handled", failing=("kubectl apply",)),
    "a reading that fails": Case(words=stage(2), code=3, said="cannot be handled", failing=("kubectl get --ignore",)),
    "an installation that fails": Case(
        words=stage(1, tag="83"), code=5, said="cannot be handled", failing=("helm upgrade",), installed=False
    ),
    "an upgrade that fails": Case(words=stage(2), code=4, said="cannot be handled", failing=("helm upgrade",)),
    "a chart that cannot be rendered": Case(words=stage(2), code=3, said="cannot be handled", failing=("helm template",)),
    "a template that is not YAML": Case(
        words=stage(1), code=3, said="unknown anchor", installed=False,
        files={"templates/more.yaml": "kind: Secret\nmetadata: {name: x}\nstringData: {a: *{{ .Values.db.password }}}\n"},
    ),
    "a template that is a text": Case(
        words=stage(1), code=3, said="cannot unmarshal", installed=False,
        files={"templates/more.yaml": "{{ .Values.db.password }}\n"},
    ),
    "a template that gives up": Case(
        words=stage(1), code=3, said="execution error", installed=False,
        files={"templates/more.yaml": "{{ fail (printf `not %s, %s` .Values.db.password .Values.db.pin) }}\n"},
    ),
    "a schema that does not match": Case(
        words=stage(1), code=3, said="schema", installed=False, files={"values.schema.json": SCHEMA},
    ),
    "a value on the command line": Case(
        words=(*stage(1), "--set", "db.password=planted-password-of-the-shop"), code=3, said="cannot be handled",
        failing=("helm template",), installed=False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=[*CASES])
def test_no_value_of_a_secret_is_printed(case: Case, place: Place) -> None:
    """Long, short, like base64, a key of many lines, a number: as text and JSON, on each platform, in files left for it."""
    for name, text in case.files.items():
        (place.chart / name).write_text(text)
    place.hold(case.failing, installed=case.installed, by_hand=case.by_hand)
    values = {"{old}": str(place.values(PLANTED)), "{new}": str(place.values(LATER))}
    words = [values.get(word, word) for word in case.words]
    chart = () if words[0] == "status" else ("--chart", str(place.chart))
    for number, (environment, output) in enumerate(platforms(place.folder)):
        ran = place.run(*words, *chart, "--output", output, env=environment)
        files = [path.read_text() for path in place.folder.glob("left/*")]
        said = "\n".join([ran.stdout, ran.stderr, *files])
        assert leaked(said) == {}, f"{environment} {output}\n{ran}"
        assert ran.code == case.code, ran
        assert case.said in said, ran
        if number == 0 and output == "json":
            json.loads(ran.stdout)


def platforms(folder: Path) -> Iterator[tuple[Mapping[str, str], str]]:
    left = folder / "left"
    left.mkdir(exist_ok=True)
    yield {}, "json"
    yield (
        {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": f"{left}/output", "GITHUB_STEP_SUMMARY": f"{left}/summary"},
        "text",
    )
    yield {"TF_BUILD": "True", "AGENT_TEMPDIRECTORY": str(left), "SYSTEM_HOSTTYPE": "build"}, "json"


def test_a_leak_would_be_seen() -> None:
    """Whichever planted secret, whole or its beginning, in base64 too; a mask for the CI is none."""
    for name, value in PLANTED.items():
        for form in forms(value):
            assert name in leaked(f"Error: {form}...")
    assert leaked("::add-mask::planted-password-of-the-shop\n") == {}
    assert VALUES.keys().isdisjoint({"db"})
