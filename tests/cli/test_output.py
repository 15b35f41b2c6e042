"""What comes out: keys and types of every JSON answer, exit codes, and that no text from a cluster is a command to a CI."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from helm_canary import __main__ as program
from tests.cli.charts import VALUES, write_chart
from tests.cli.conftest import REPOSITORY
from tests.cli.program import CHART, Ran, Service, run
from tests.cluster import images
from tests.cluster.binaries import ensure
from tests.cluster.places import places

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

NUMBER, TEXT, LIST = (int, type(None)), (str,), (list,)
OUTCOME: dict[str, tuple[type, ...]] = {
    "result": TEXT, "changed": (bool,), "stage": TEXT, "stage-number": NUMBER, "release-id": TEXT, "tag": TEXT,
    "previous-tag": TEXT, "production-tag": TEXT, "production-weight": NUMBER, "canary-tag": TEXT, "canary-weight": NUMBER,
    "revision": NUMBER, "traffic": TEXT, "proof": TEXT, "in-flight-cut": (int,),
    "version-id": TEXT, "headline": TEXT, "next-changes": (bool, type(None)),
}  # fmt: skip
PLANNED = {"because": TEXT, "notes": LIST, "steps": LIST}
FAILED: dict[str, tuple[type, ...]] = {"error": (dict,)}
ERROR = {"happened": TEXT, "means": TEXT, "do-next": TEXT, "details": LIST, "exit-code": (int,)}
STATUS: dict[str, tuple[type, ...]] = {
    "stage": TEXT, "stage-number": NUMBER, "direction": (str, type(None)), "toward": (str, type(None)),
    "release-id": (str, type(None)), "previous-tag": (str, type(None)), "revision": (int,), "revision-applied": (bool,),
    "weights-in-force": (dict,), "proof": TEXT, "traffic": TEXT, "production": (dict,), "canary": (dict,), "by": (dict,),
    "since": TEXT, "history": LIST, "differences": LIST, "obstacles": LIST,
}  # fmt: skip
TRACK: dict[str, tuple[type, ...]] = {"tag": TEXT, "weight": NUMBER, "replicas": (int,), "ready": (int,)}
VERIFY: dict[str, tuple[type, ...]] = {
    "result": TEXT, "requests": (int,), "status": (dict,), "split": (dict,), "asked": (dict,), "latency-ms": (dict,),
}  # fmt: skip
CODES = {"done": 0, "nothing": 0, "already-past": 0, "first-install": 0, "usage": 2, "refused": 3, "failed": 4}
TRAFFIC, PROOFS = {"production", "canary", "split", "unknown"}, {"proven", "gateways", "unproven"}


def check_shape(body: Mapping[str, Any], shape: Mapping[str, tuple[type, ...]]) -> None:
    """Exactly these keys, each of one of its types; a number is no truth."""
    assert sorted(body) == sorted(shape)
    for key, kinds in shape.items():
        assert type(body[key]) in kinds, (key, body[key])


def check_outcome(ran: Ran, result: str, **expected: object) -> dict[str, Any]:
    """The answer of `stage` and `rollback`: documented keys, the exit code of its result, and what this case expects."""
    body = ran.answer
    check_shape(body, OUTCOME | (FAILED if "error" in body else {}) | (PLANNED if "because" in body else {}))
    assert (body["result"], ran.code) == (result, CODES[result]), ran
    assert ("error" in body) == (ran.code != 0)
    assert ("because" in body) == (ran.code == 0)
    assert body["traffic"] in TRAFFIC
    assert body["proof"] in PROOFS
    if "error" in body:
        check_shape(body["error"], ERROR)
        assert body["error"]["exit-code"] == ran.code
    wanted = {key.replace("_", "-"): value for key, value in expected.items()}
    assert {key: body[key] for key in wanted} == wanted, ran
    check_harmless(ran)
    return body


COMMANDS = re.compile(r"##(?:vso)?\[|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]|^\s*::", re.MULTILINE)


def check_harmless(ran: Ran) -> None:
    """No line of either stream is a command to GitHub, to Azure Pipelines or to a terminal."""
    for stream in (ran.stdout, ran.stderr):
        found = COMMANDS.search(stream)
        assert found is None, f"{found!r} in\n{ran}"


def test_usage() -> None:
    """Wrong input has all keys too, with nothing known of the cluster."""
    ran = run("stage", "2", "--release", "page", "--chart", ".", "--tag", "${{ x }}", "--output", "json")

    check_outcome(ran, "usage", changed=False, traffic="unknown", proof="unproven", stage="", revision=None)


@pytest.mark.parametrize(
    "tag", ["##vso[task.setvariable variable=x]1", "##[error]x", "::error::x", "\x1b[31m", "\n::error::x"]
)
def test_wrong_input_is_not_repeated_raw(tag: str) -> None:
    """What a pipeline hands over may come from a stranger's branch name: it is no command either."""
    for more in ((), ("--output", "json")):
        ran = run("stage", tag, "--release", tag, "--chart", ".", f"--tag={tag}", *more)

        assert ran.code == 2
        check_harmless(ran)
    ran = run(tag)
    assert ran.code == 2
    check_harmless(ran)


def plan_offline(*more: str, env: Mapping[str, str] | None = None) -> Ran:
    """`plan --from`, which needs helm and no cluster."""
    path = {"PATH": str(ensure("helm")["helm"].parent)}
    words = ("plan", "2", "--release", "page", "--chart", str(CHART), "--tag", "84", "--from", "83")
    return run(*words, *more, env=path | dict(env or {}))


def test_a_plan_shows_no_secret() -> None:
    """A value whose name says that it is secret is hidden in the commands that a plan prints, in both forms."""
    for more in ((), ("--output", "json")):
        ran = plan_offline("--set", r"pod.env.DB_PASSWORD=hunter2\,hunter3,pod.env.A=shown", *more)

        assert ran.code == 0, ran
        assert "hunter" not in ran.stdout + ran.stderr
        assert "shown" in ran.stdout


LATE = """\
import atexit, os, signal, sys
from helm_canary.__main__ import main
atexit.register(lambda: os.kill(os.getpid(), signal.{name}))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_after_the_end_changes_nothing(name: str) -> None:
    """Found by chaos: a job that is cancelled while a command that is done ends died with -15 instead of its exit code."""
    helm = str(ensure("helm")["helm"].parent)
    words = ("plan", "2", "--release", "page", "--chart", str(CHART), "--tag", "84", "--from", "83")
    done = subprocess.run([sys.executable, "-c", LATE.format(name=name), *words], capture_output=True, text=True, timeout=60,
                          env={"PYTHONPATH": str(CHART.parents[1] / "src"), "PATH": helm, "HOME": "/"})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_of_ours_is_told_in_three_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug ends with exit 5 and says so, with the lines to report; never with a bare traceback and exit 1."""

    def broken(*_: object) -> int:
        raise KeyError("weights")

    monkeypatch.setattr(program, "read_arguments", broken)
    assert program.main(["status", "--output", "json"]) == 5
    answer, said = capsys.readouterr()
    error = json.loads(answer)["error"]
    assert error["happened"] == "helm-canary itself failed: KeyError: 'weights'"
    assert error["means"]
    assert error["do-next"]
    assert "in broken" in said
    assert json.loads(answer)["result"] == "failed"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_log_of_another_encoding_is_no_reason_to_fail(encoding: str) -> None:
    """A character that the log cannot hold is written as an escape, after the work was done."""
    ran = plan_offline(
        "--set", "pod.env.A=##vso[x] 😀 ::error::", env={"PYTHONIOENCODING": encoding, "LC_ALL": "C.UTF-8"}
    )

    assert ran.code == 0, ran
    assert "Traceback" not in ran.stderr
    check_harmless(ran)


# --- one release, and every answer on its way -------------------------------------------------------------------------


@pytest.mark.cluster
def test_every_answer_of_a_release(make_service: Callable[..., Service], app: Callable[..., None]) -> None:
    """From the installation to the rollback each command answers with its documented keys, results and exit codes."""
    app("83", "84")
    service = make_service("answers")
    nothing = check_outcome(service.stage("2", "84"), "refused", changed=False, release_id="", revision=None)
    assert "not installed" in nothing["error"]["happened"]

    steady = {
        "stage": "steady",
        "stage-number": 1,
        "production-tag": "83",
        "production-weight": 100,
        "canary-weight": 0,
    }
    check_outcome(
        service.stage("1", "83"), "done", changed=True, traffic="production", previous_tag="", tag="83", **steady
    )
    check_outcome(service.stage("1", "83"), "first-install", changed=False, **steady)
    check_outcome(service.stage("5", "84"), "refused", changed=False)
    dry = check_outcome(service.stage("2", "84", "--dry-run"), "nothing", changed=False, **steady)
    assert len(dry["steps"]) > 1

    split = {"stage": "canary-10", "stage-number": 2, "production-tag": "83", "production-weight": 90, "canary-tag": "84",
             "canary-weight": 10, "traffic": "split", "tag": "84", "previous-tag": "83"}  # fmt: skip
    hostile = "##vso[task.setvariable variable=x]1 ##[error]2 ::error::3"
    done = check_outcome(service.stage("2", "84", "--comment", hostile), "done", changed=True, proof="proven", **split)
    assert re.fullmatch(r"84-[0-9a-f]{6}", done["release-id"])
    check_outcome(service.stage("canary-10", "84"), "nothing", changed=False, revision=done["revision"], **split)
    check_outcome(service.stage("1", "84"), "already-past", changed=False, **split)
    check_outcome(service.stage("4", "84"), "refused", changed=False)

    status = service.json("status")
    check_shape(status.answer, STATUS)
    for track in ("production", "canary"):
        check_shape(status.answer[track], TRACK)
    assert status.answer["by"]["comment"] == hostile, "the text itself is unchanged"
    check_harmless(status)
    check_harmless(service.run("status"))

    plan = service.json("plan", "3", "--tag", "84", "--chart", str(CHART), "--values", str(service.values))
    (only,) = plan.answer["plans"]
    check_shape(only, {"stage": (int,), "result": TEXT, **PLANNED, "commands": LIST})
    assert (plan.code, only["stage"], only["result"]) == (0, 3, "done")
    check_harmless(plan)

    url = ("--url", f"http://{service.cluster.gateway_address}")
    verified = service.json("verify", "--requests", "40", *url)
    check_shape(verified.answer, VERIFY)
    assert (verified.code, verified.answer["result"], verified.answer["status"]) == (0, "done", {"200": 40})
    wrong = service.json("verify", "--requests", "5", "--url", f"http://{service.cluster.gateway_address}:1")
    assert (wrong.code, wrong.answer["result"]) == (6, "verification-failed")
    check_shape(wrong.answer, OUTCOME | FAILED)

    check_outcome(service.json("rollback", "--of", "99"), "nothing", changed=False, **split)
    back = check_outcome(
        service.json("rollback", "--of", done["release-id"]), "done", changed=True, traffic="production"
    )
    assert (back["stage"], back["production-tag"], back["canary-weight"]) == ("steady", "83", 0)
    check_outcome(service.json("rollback", "--of", done["release-id"]), "nothing", changed=False)


@pytest.mark.cluster
def test_text_from_the_cluster_is_no_command(
    make_service: Callable[..., Service], app: Callable[..., None], tmp_path: Path
) -> None:
    """A pod's log, a chart's notes and values in a diff are shown, and no CI and no terminal takes them for its own."""
    app("83")
    service = make_service("hostile")
    lines = b"##vso[task.setvariable variable=stolen]1\n::error::boom\n##[error]bad\x1b[31mred\rover"
    files: dict[str, Path | bytes] = {"app": service.cluster.bin / "app", "version": lines}
    settings = {"START_DELAY_MS": "0", "NEVER_READY": "1"}
    images.load(places(), f"{REPOSITORY}:hostile", files, ["/app"], env=settings, user=images.NOBODY)

    def config(value: str) -> str:
        content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "text"}, "data": {"text": value}}
        return json.dumps(content)

    first = write_chart(tmp_path / "first", {"templates/text.yaml": config("before")})
    place = ("--release", "small", "--namespace", service.namespace, "--drain", "1s")
    ran = service.raw("stage", "1", "--tag", "83", "--chart", str(first), *place, "--timeout", "60s")
    assert ran.code == 0, ran
    check_harmless(ran)
    assert "A chart's own words" not in ran.stdout + ran.stderr

    text = "##vso[task.setvariable variable=stolen]1\n::error::boom\u2028::error::x"
    patch = ("--namespace", service.namespace, "patch", "configmap", "text", "--patch")
    service.cluster.kubectl(*patch, json.dumps({"data": {"text": text}}))
    for more in ((), ("--output", "json")):
        ran = service.raw("stage", "2", "--tag", "84", "--chart", str(first), *place, *more)
        assert ran.code == 3, ran
        assert "ConfigMap/text" in ran.stderr
        check_harmless(ran)
    service.cluster.kubectl(*patch, json.dumps({"data": {"text": "before"}}))

    ran = service.raw(
        "stage", "2", "--tag", "hostile", "--chart", str(first), *place, "--timeout", "4s", "--output", "json"
    )
    body = check_outcome(ran, "failed", changed=True, traffic="production", production_weight=100)
    said = "\n".join(body["error"]["details"])
    assert "##vso[task.setvariable variable=stolen]1" in said, "the text itself is unchanged"
    assert "readiness probe" in said
    assert "event:" in said
    assert VALUES["productionDeployment"]["weight"] == 100
