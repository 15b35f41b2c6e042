"""Charts as teams have them: what would harm a release is refused before the first write, what does not is released."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import Traffic

from .conftest import QUICK, Lab
from .plain import upgrade
from .service import RELEASE, Run, Service, copy_chart
from .states import Release
from .test_shared_objects import PINNED

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LABELS = "{{- mustMergeOverwrite (deepCopy ($pod.labels | default dict)) $labels | toYaml | nindent 4 }}"
NO_PINS = ("templates/_pod.tpl", PINNED, '{{- $pinned := "" -}}')
REVISION = ("templates/_pod.tpl", LABELS, LABELS + "\n    revision: {{ .root.Release.Revision | quote }}")
WALK = Release("83", "84")


def refused(service: Service, run: Run, *said: str) -> None:
    """Exit code 3, with these words in the message."""
    run.expect(3, "refused")
    assert run.answer["changed"] is False
    error = json.dumps(run.answer["error"])
    assert all(word in error for word in said), run.text


def test_pods_that_change_with_each_revision_are_refused_at_stage_1(fresh: Service, tmp_path: Path) -> None:
    """With the line of the template, and nothing is installed; without that line it is."""
    bad = fresh.having(chart=copy_chart(tmp_path, REVISION))

    refused(bad, bad.stage(1, "83"), "templates/_pod.tpl:", ".Release.Revision")

    assert fresh.revision() == 0
    fresh.install("83")
    refused(bad, bad.stage(2, "84"), "templates/_pod.tpl:")
    assert fresh.tracks() == (WALK.at(1).production, WALK.at(1).canary)


@pytest.mark.matrix
def test_what_only_helm_knows_is_never_written(fresh: Service, tmp_path: Path) -> None:
    """A revision that no search of the templates finds: Helm's rendering is not what was checked, and it stores nothing."""
    hidden = ("templates/_pod.tpl", LABELS, LABELS + '\n    revision: {{ get .root.Release "Revision" | quote }}')
    fresh.install("83")
    pods, before = fresh.pods("production"), fresh.revision()
    service = fresh.having(chart=copy_chart(tmp_path, hidden))

    run = service.stage(2, "84").expect(3, "refused")

    assert run.answer["error"]["code"] == "rendered-otherwise", run.text
    assert "templates/deployment.yaml" in run.text
    assert (fresh.revision(), fresh.pods("production")) == (before, pods)
    fresh.stage(2, "84").expect(0, "done")
    fresh.stage(2, "84").expect(0, "done")


POLICY = """\
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: NAME}
spec:
  reinvocationPolicy: Never
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  mutations:
    - patchType: ApplyConfiguration
      applyConfiguration:
        expression: >-
          Object{spec: Object.spec{template: Object.spec.template{metadata: Object.spec.template.metadata{
          labels: {"policed": "yes"}}}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: NAME}
spec:
  policyName: NAME
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAME}}
"""


@contextmanager
def policed(service: Service) -> Iterator[None]:
    """Every Deployment that is written in the service's namespace gets a label on its pods."""
    text = POLICY.replace("NAME", service.namespace)
    service.cluster.kubectl("apply", "-f", "-", stdin=text)
    try:
        yield
    finally:
        service.cluster.kubectl("delete", "-f", "-", stdin=text)


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.matrix)])
def test_a_policy_that_would_replace_pods_under_traffic_is_named(fresh: Service, stage: int) -> None:
    """Added between two writes it would replace production's pods: refused, no permission helps; exempted, the stage goes on."""
    fresh.install("83")
    for number in range(2, stage):
        fresh.stage(number, "84").expect(0, "done")
    pods = fresh.pods("production")
    with policed(fresh):
        settled(fresh)
        for allowing in ((), ("--allow", f"Deployment/{RELEASE}", "--allow", f"Deployment/{RELEASE}canary")):
            run = fresh.stage(stage, "84", *allowing)
            refused(fresh, run, f"Deployment/{RELEASE}", "policed", "Exempt")
            assert "--allow" not in json.dumps(run.answer["error"])
        assert fresh.pods("production") == pods
    fresh.stage(stage, "84").expect(0, "done")
    fresh.check(WALK.at(stage))
    assert fresh.pods("production") == pods


def settled(service: Service) -> None:
    """A new policy is known to the API server a moment after it was made."""
    for _ in range(60):
        text = service.kubectl(
            *("patch", "deployment", RELEASE, "--dry-run=server", "--output", "json"),
            *("--patch", '{"metadata": {"labels": {"probe": "1"}}}'),
        )
        if "policed" in text:
            return
    raise AssertionError("the policy does not work")


def job(event: str, image: str, *args: str) -> str:
    """A hook of the chart: a Job that takes a while, or fails."""
    return f"""\
apiVersion: batch/v1
kind: Job
metadata: {{name: migrate, annotations: {{helm.sh/hook: "{event}"}}}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - {{name: job, image: "{image}", args: {json.dumps(args)}, resources: {{requests: {{cpu: 1m, memory: 8Mi}}}}}}
"""


def uids(service: Service) -> dict[str, str]:
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in service.read("jobs")}


@pytest.mark.matrix
def test_a_hook_that_still_runs_is_waited_for(fresh: Service, tmp_path: Path) -> None:
    """--timeout ends the wait and not the Job; the same command again waits for that Job and does not start another."""
    fresh.install("83")
    slow = ("templates/migrate.yaml", "", job("pre-upgrade", f"{QUICK}:84", "job", "25"))
    service = fresh.having(chart=copy_chart(tmp_path, slow))

    first = service.having(options=("--timeout", "6s")).stage(2, "84").expect(4, "failed")

    assert first.answer["error"]["code"] == "hook-failed", first.text
    assert "does not start another" in first.answer["error"]["do-next"]
    started = uids(fresh)
    assert fresh.pods("canary") == {}
    service.stage(2, "84").expect(0, "done")
    assert uids(fresh) == started
    service.check(WALK.at(2))


def test_a_hook_that_fails_shows_its_log(fresh: Service, tmp_path: Path) -> None:
    """Nothing has moved; with its cause corrected the same command runs the hook again and arrives."""
    fresh.install("83")
    (tmp_path / "bad").mkdir()
    (tmp_path / "good").mkdir()
    bad = fresh.having(
        chart=copy_chart(tmp_path / "bad", ("templates/migrate.yaml", "", job("pre-upgrade", f"{QUICK}:crash")))
    )

    run = bad.stage(2, "84").expect(4, "failed")

    assert run.answer["error"]["code"] == "hook-failed", run.text
    assert run.answer["error"]["details"]
    assert fresh.tracks()[1].replicas == 0
    good = copy_chart(tmp_path / "good", ("templates/migrate.yaml", "", job("pre-upgrade", f"{QUICK}:84", "job")))
    fresh.having(chart=good).stage(2, "84").expect(0, "done")
    fresh.check(WALK.at(2))


@pytest.mark.matrix
def test_a_check_after_the_upgrade_runs_when_the_canary_is_ready(fresh: Service, tmp_path: Path) -> None:
    """A post-upgrade hook starts after the canary's pods are Ready; one that fails leaves stage 3 refused until it ran."""
    fresh.install("83")
    (tmp_path / "bad").mkdir()
    (tmp_path / "good").mkdir()
    bad = copy_chart(tmp_path / "bad", ("templates/migrate.yaml", "", job("post-upgrade", f"{QUICK}:crash")))

    fresh.having(chart=bad).stage(2, "84").expect(4, "failed")

    (made,) = fresh.read("jobs")
    ready = [
        condition["lastTransitionTime"]
        for pod in fresh.read("pods", "--selector", f"release={RELEASE},canary=true")
        for condition in pod["status"]["conditions"]
        if condition["type"] == "Ready" and condition["status"] == "True"
    ]
    assert len(ready) == 2
    assert max(ready) <= made["metadata"]["creationTimestamp"]
    good = copy_chart(tmp_path / "good", ("templates/migrate.yaml", "", job("post-upgrade", f"{QUICK}:84", "job")))
    service = fresh.having(chart=good)
    refused(service, service.stage(3, "84"), "is not complete")
    service.stage(2, "84").expect(0, "done")
    service.check(WALK.at(2))
    service.stage(3, "84").expect(0, "done")


REPLICAS = "  replicas: {{ int $deployment.replicaCount }}\n"
COMMENT = (
    "  # Also under an autoscaler: a release plans with the number, and a field that is given up falls back to 1.\n"
)


@pytest.mark.matrix
def test_replicas_that_the_chart_leaves_out_are_never_made_one(lab: Lab, tmp_path: Path) -> None:
    """The program scales, Helm owns nothing of it; under load nothing is lost, and a plain upgrade later keeps the number."""
    chart = copy_chart(tmp_path, ("templates/deployment.yaml", COMMENT + REPLICAS, ""), NO_PINS)
    service = lab.service(QUICK).having(chart=chart)
    service.install("83")
    service.kubectl("scale", f"deployment/{RELEASE}", "--replicas=3")
    service.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=60s")
    with Traffic(service.cluster, service.host, rps=100) as traffic:
        for stage in range(2, 8):
            service.stage(stage, "84").expect(0, "done")
            production, canary = service.tracks()
            assert production.replicas == 3
            assert canary.replicas == (0 if stage == 7 else 3)
        service.rollback().expect(0, "done")
        assert [track.replicas for track in service.tracks()] == [3, 0]
        moves = traffic.report()
    assert sum(move.sent for move in moves) > 1000
    assert sum(move.lost for move in moves) == 0
    assert (
        "replicas"
        not in service.cluster.run("helm", "get", "manifest", RELEASE, "--namespace", service.namespace).stdout
    )
    upgrade(service, 1, "83", "84")
    assert [track.replicas for track in service.tracks()] == [3, 0]
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_replicas_that_a_newer_chart_leaves_out_stay_as_they_are(steady: Service, tmp_path: Path) -> None:
    """Helm owned them until now; when it lets go of them they would fall back to 1."""
    chart = copy_chart(tmp_path, ("templates/deployment.yaml", COMMENT + REPLICAS, ""))
    service = steady.having(chart=chart)
    for stage in range(2, 8):
        service.stage(stage, "84").expect(0, "done")
        assert service.tracks()[0].replicas == 2
    service.rollback().expect(0, "done")
    assert [track.replicas for track in service.tracks()] == [2, 0]


@pytest.mark.matrix
def test_what_the_api_server_would_refuse_later_is_said_at_stage_2(steady: Service, tmp_path: Path) -> None:
    """A selector cannot change: known at stage 2, not at promote, and nothing was written."""
    selector = '      {{- include "productpage.trackLabels" $context | nindent 6 }}\n'
    more = selector + "      added: label\n"
    pods = LABELS + "\n    added: label"
    chart = copy_chart(tmp_path, ("templates/deployment.yaml", selector, more), ("templates/_pod.tpl", LABELS, pods))
    before = steady.snapshot()

    refused(steady, steady.having(chart=chart).stage(2, "84"), "a later stage", "immutable")

    assert steady.snapshot() == before
    steady.stage(2, "84").expect(0, "done")


@pytest.mark.matrix
def test_an_object_of_somebody_else_is_not_taken_over(steady: Service, tmp_path: Path) -> None:
    """The chart makes a ConfigMap of a name that exists: said at stage 2; with another name the release goes on."""
    steady.kubectl("create", "configmap", "theirs", "--from-literal=a=b")
    (tmp_path / "bad").mkdir()
    (tmp_path / "good").mkdir()
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\ndata: {a: c}\n"
    bad, good = (
        copy_chart(tmp_path / folder, ("templates/new.yaml", "", text.replace("NAME", name)))
        for folder, name in (("bad", "theirs"), ("good", "ours"))
    )

    refused(steady, steady.having(chart=bad).stage(2, "84"), "ConfigMap/theirs", "another name")

    steady.having(chart=good).stage(2, "84").expect(0, "done")
    assert json.loads(steady.kubectl("get", "configmap", "theirs", "--output", "json"))["data"] == {"a": "b"}


@pytest.mark.matrix
def test_a_rollback_needs_neither_chart_nor_subcharts(fresh: Service, tmp_path: Path) -> None:
    """Helm stores no subcharts; what it wrote is all that a rollback needs, from a machine that has nothing of the chart."""
    chart = copy_chart(
        tmp_path, ("Chart.yaml", "version: 0.1.0", "version: 0.1.0\ndependencies:\n  - {name: base, version: 1.0.0}")
    )
    (chart / "values.schema.json").unlink()  # it knows no values of subcharts
    base = chart / "charts/base/templates"
    base.mkdir(parents=True)
    (base.parent / "Chart.yaml").write_text("apiVersion: v2\nname: base\nversion: 1.0.0\n")
    (base / "config.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: base}\ndata: {a: b}\n")
    service = fresh.having(chart=chart)
    service.install("83")
    service.stage(2, "84").expect(0, "done")
    shutil.rmtree(chart)

    fresh.rollback().expect(0, "done")

    fresh.check(WALK.rolled_back)
    assert json.loads(fresh.kubectl("get", "configmap", "base", "--output", "json"))["data"] == {"a": "b"}
