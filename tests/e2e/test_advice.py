"""What a refusal or a failure advises, and would write, is done as it is printed, on the cluster, and arrives.

Each scenario comes to a message, reads the commands out of `do-next` of the JSON answer and runs these; what the message says to
be done by hand is done by kubectl. tests/advice/advice.yaml names the scenarios by these names.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.cluster import Traffic

from .conftest import Lab
from .hands import ROUTE, delete, patch, scale, set_image, weights
from .ledger import Ledger
from .service import RELEASE, Run, Service, copy_chart
from .settling import settle
from .states import Release
from .test_refusals import HOST, Rival
from .test_versions import LABELS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Scenario: TypeAlias = Callable[[Service], None]
WALK = Release("83", "84")
RPS = 50
COMMAND = re.compile(r"`((?:stage|rollback|kubectl|--)[^`]*)`")
SCENARIOS: dict[str, Scenario] = {}
# Where nothing serves at the beginning, or something breaks on the way: not under load.
QUIET: set[str] = set()


def scenario(name: str, *, quiet: bool = False) -> Callable[[Scenario], Scenario]:
    """Under this name in the table. Not `quiet`: from tag 83 on, under load."""

    def add(function: Scenario) -> Scenario:
        SCENARIOS[name] = function
        QUIET.update({name} if quiet else ())
        return function

    return add


@dataclass(frozen=True)
class Advice:
    """What a run said to do next. `asked`: what was asked for, without its options."""

    service: Service
    run: Run
    asked: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return str(self.run.answer["error"]["do-next"])

    def says(self, text: str) -> Advice:
        assert text in self.text, self.run.text
        return self

    def take(self, beginning: str, tag: str = "") -> Run:
        """Run the one command that begins so, as it is printed; `tag` stands in for TAG."""
        (command,) = [one for one in COMMAND.findall(self.text) if one.startswith(beginning)]
        words = shlex.split(command.replace("TAG", tag))
        if words[0] == "stage":
            assert words[2] == "--tag", command
            return self.service.stage(words[1], words[3], *words[4:])
        if words[0] == "rollback":
            return self.service.rollback(*words[1:])
        number, wanted = self.asked
        return self.service.stage(number, wanted, *words)


def refused(service: Service, number: int, tag: str, *more: str, said: str) -> Advice:
    """A stage that is refused with these words, and has changed nothing."""
    before = service.revision()
    run = service.stage(number, tag, *more).expect(3, "refused")
    assert said in run.answer["error"]["happened"], run.text
    assert service.revision() == before
    return Advice(service, run, (str(number), tag))


def failed(service: Service, run: Run, said: str) -> Advice:
    """A command that wrote, and ended with these words with all traffic on what is Ready."""
    run.expect(4, "failed")
    assert said in run.answer["error"]["happened"], run.text
    return Advice(service, run)


# --- stages out of order ------------------------------------------------------------------------------------------------


@scenario("a release that was not begun")
def _(service: Service) -> None:
    refused(service, 3, "84", said="no release of it is under way").take("stage 2").expect(0, "done")
    service.stage(3, "84").expect(0, "done")


@scenario("a stage skipped")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    refused(service, 4, "84", said="has reached 2 (canary-10)").take("stage 3").expect(0, "done")
    service.stage(4, "84").expect(0, "done")


@scenario("other weights")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    refused(service, 3, "84", "--weights", "10,50,100", said="now 10, 50, 100").take("--weights").expect(0, "done")
    service.check(WALK.at(3))


@scenario("other weights, rolled back")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    refused(service, 3, "84", "--weights", "10,50,100", said="now 10, 50, 100").take("rollback").expect(0, "done")
    for stage in (2, 3):
        service.stage(stage, "84", "--weights", "10,50,100").expect(0, "done")


@scenario("another release, rolled back")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    advice = refused(service, 2, "85", said="Another release is under way")
    advice.take("rollback").expect(0, "done")
    advice.take("stage 2").expect(0, "done")
    service.check(Release("83", "85").at(2))


@scenario("another release, finished")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    advice = refused(service, 2, "85", said="Another release is under way").says("remaining stages")
    advice.take("stage 3").expect(0, "done")
    for stage in range(4, 8):
        service.stage(stage, "84").expect(0, "done")
    advice.take("stage 2").expect(0, "done")
    service.check(Release("84", "85").at(2))


@scenario("other settings")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    other = service.having(values={"pod": {"env": {"NEW": "1"}}})
    refused(other, 3, "84", said="for the same tag").says("the chart and values that it was started with")
    service.stage(3, "84").expect(0, "done")


@scenario("other settings, rolled back")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    advice = refused(service.having(values={"pod": {"env": {"NEW": "1"}}}), 3, "84", said="for the same tag")
    advice.take("rollback").expect(0, "done")
    advice.take("stage 2").expect(0, "done")


@scenario("rolled back half-way")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    rollback = service.having(options=("--drain", "60s", "--proof", "wait")).start("rollback")
    rollback.wait_for_line("to be in force")
    os.kill(rollback.process.pid, signal.SIGKILL)
    rollback.process.communicate()
    advice = refused(service, 2, "85", said="is being rolled back")
    advice.take("rollback").expect(0, "done")
    advice.take("stage 2").expect(0, "done")


# --- changed outside helm-canary ----------------------------------------------------------------------------------------


@scenario("edited weights")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    weights(50, 50)(service)
    refused(service, 3, "84", said="the weights (production/canary)").says("Undo that change")
    weights(90, 10)(service)
    service.stage(3, "84").expect(0, "done")


@scenario("edited weights, rolled back")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    weights(50, 50)(service)
    refused(service, 3, "84", said="the weights (production/canary)").take("rollback").expect(0, "done")
    service.check(WALK.rolled_back)


@scenario("edited after the first installation")
def _(service: Service) -> None:
    set_image("production", "85")(service)
    refused(service, 2, "84", said="The cluster is not as").take("stage 1").expect(0, "done")
    service.stage(2, "84").expect(0, "done")


@scenario("a shared object edited")
def _(service: Service) -> None:
    patch("virtualservice", ROUTE, [{"op": "add", "path": "/spec/http/0/timeout", "value": "30s"}])(service)
    refused(service, 2, "84", said="would also change").take("--allow").expect(0, "done")


@scenario("a shared object edited, rolled back")
def _(service: Service) -> None:
    service.stage(2, "84").expect(0, "done")
    patch("virtualservice", ROUTE, [{"op": "add", "path": "/spec/http/0/timeout", "value": "30s"}])(service)
    refused(service, 3, "84", said="would also change").take("rollback").expect(0, "done")
    service.check(WALK.rolled_back)


@scenario("no VirtualService", quiet=True)
def _(service: Service) -> None:
    service.install("83")
    service.stage(2, "84").expect(0, "done")
    service.rollback().expect(0, "done")
    delete("virtualservice", ROUTE)(service)
    refused(service, 1, "85", said="there is no VirtualService").take("stage 2").expect(0, "done")
    service.check(Release("83", "85").at(2))


@scenario("another route")
def _(service: Service) -> None:
    rival = Rival((RELEASE,), "rival.example.com", HOST)
    service.cluster.kubectl("apply", "-f", "-", stdin=rival.text(service, service.namespace))
    refused(service, 2, "84", said="also routes to").says("without deleting a route that carries traffic")
    elsewhere = replace(rival, to="elsewhere.{namespace}.svc.cluster.local")
    service.cluster.kubectl("apply", "-f", "-", stdin=elsewhere.text(service, service.namespace))
    service.stage(2, "84").expect(0, "done")


@scenario("put back half-way")
def _(service: Service) -> None:
    set_image("production", "85")(service)
    started = service.start_stage(1, "83")
    started.wait_for_line("to be Ready")
    started.kill(alone=False)
    advice = refused(service, 2, "84", said="is being put back as it was")
    advice.take("stage 1").expect(0, "done")
    advice.take("stage 2").expect(0, "done")


@scenario("edited while it was watched")
def _(service: Service) -> None:
    for stage in range(2, 6):
        service.stage(stage, "84").expect(0, "done")
    started = service.having(options=("--drain", "10s")).start_stage(6, "84")
    started.wait_for_line("which has all traffic now")
    scale("canary", 1)(service)
    failed(service, started.end(), "the cluster is not as it should be").says("Run the same command again")
    service.stage(6, "84").expect(0, "done")
    service.check(WALK.at(6))


# --- first installations ------------------------------------------------------------------------------------------------


@scenario("nothing is installed", quiet=True)
def _(service: Service) -> None:
    refused(service, 2, "84", said="is not installed").take("stage 1").expect(0, "done")


@scenario("no release", quiet=True)
def _(service: Service) -> None:
    run = service.rollback().expect(3, "refused")
    Advice(service, run).take("stage 1", tag="83").expect(0, "done")


@scenario("no namespace", quiet=True)
def _(service: Service) -> None:
    missing = replace(service, namespace=f"{service.namespace}-x")
    advice = refused(missing, 1, "83", said="There is no namespace")
    (command,) = COMMAND.findall(advice.text)
    try:
        service.cluster.kubectl(*shlex.split(command)[1:])
        missing.stage(1, "83").expect(0, "done")
    finally:
        service.cluster.kubectl("delete", "namespace", missing.namespace, "--wait=false", "--ignore-not-found")


@scenario("a first installation")
def _(service: Service) -> None:
    run = service.rollback().expect(3, "refused")
    Advice(service, run).take("stage 2", tag="84").expect(0, "done")


@scenario("a first installation, put back")
def _(service: Service) -> None:
    set_image("production", "85")(service)
    run = service.rollback().expect(3, "refused")
    Advice(service, run).take("stage 1").expect(0, "done")
    service.check(WALK.at(1))


# --- failures -----------------------------------------------------------------------------------------------------------


@scenario("a canary that is late")
def _(service: Service) -> None:
    run = service.having(options=("--timeout", "3s")).stage(2, "late")
    failed(service, run, "is not Ready").says("run the same command again")
    service.stage(2, "late").expect(0, "done")


@scenario("a canary that is never Ready")
def _(service: Service) -> None:
    run = service.having(options=("--timeout", "8s")).stage(2, "never")
    failed(service, run, "is not Ready").take("rollback").expect(0, "done")
    service.stage(2, "84").expect(0, "done")


@scenario("cancelled")
def _(service: Service) -> None:
    runs = []
    for _ in range(2):
        started = service.start_stage(2, "late")
        started.wait_for_line("to be Ready")
        started.signal(signal.SIGINT)
        runs.append(Advice(service, started.end().expect(130)))
        if len(runs) == 1:
            runs[0].take("rollback").expect(0, "done")
    runs[1].says("Run the same command again")
    service.stage(2, "late").expect(0, "done")


@scenario("another command")
def _(service: Service) -> None:
    holder = service.start_stage(2, "late")
    holder.wait_for_line("to be Ready")
    refused(service, 2, "late", said="Another command is at work").says("Wait until it has finished")
    holder.end().expect(0, "done")
    service.stage(2, "late").expect(0, "nothing")


@scenario("helm by hand")
def _(service: Service) -> None:
    started = service.start_stage(2, "late")
    started.wait_for_line("to be Ready")
    words = ("helm", "upgrade", RELEASE, str(service.chart), "--reuse-values", "--namespace", service.namespace)
    service.cluster.run(*words)
    failed(service, started.end(), "was written outside of this command").says("run the same command again")
    service.stage(2, "late").expect(0, "done")


@scenario("a quota")
def _(service: Service) -> None:
    chart = _with_a_config_map(service, "quota")
    quota = ("resourcequota", "none", "--hard=count/configmaps=0")
    service.kubectl("create", *quota)
    run = service.having(chart=chart).stage(2, "84")
    assert "quota leaves no room" in run.answer["error"]["means"], run.text
    Advice(service, run).says("Raise the ResourceQuota")
    service.kubectl(
        "patch", "resourcequota", "none", "--type=merge", "--patch", '{"spec": {"hard": {"count/configmaps": "9"}}}'
    )
    service.having(chart=chart).stage(2, "84").expect(0, "done")


POLICY = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
        ]},
        "validations": [{"expression": "has(object.data) && object.data.size() > 1", "message": "two entries at least"}],
    },
}  # fmt: skip


@scenario("an admission policy")
def _(service: Service) -> None:
    name = {"name": service.namespace}
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": service.namespace}}
    binding = {
        "apiVersion": POLICY["apiVersion"],
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": name,
        "spec": {
            "policyName": service.namespace,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": chosen},
        },
    }
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [{**POLICY, "metadata": name}, binding]})
    service.cluster.kubectl("apply", "-f", "-", stdin=text)
    try:
        for _ in range(60):
            probe = ("create", "configmap", "probe", "--from-literal=a=b", "--dry-run=server", "--output", "name")
            if "two entries" in service.cluster.kubectl("--namespace", service.namespace, *probe, check=False):
                break
        bad, good = (
            _with_a_config_map(service, name, data) for name, data in (("bad", "{a: b}"), ("good", "{a: b, c: d}"))
        )
        run = service.having(chart=bad).stage(2, "84").expect(3, "refused")
        assert "policy rejects" in run.answer["error"]["means"], run.text
        assert "two entries at least" in run.text
        service.having(chart=good).stage(2, "84").expect(0, "done")
    finally:
        service.cluster.kubectl("delete", "-f", "-", stdin=text)


def _with_labels(service: Service, value: str) -> Path:
    folder = service.folder / f"{service.namespace}-labels"
    folder.mkdir()
    return copy_chart(folder, ("templates/_pod.tpl", LABELS, LABELS + f"\n    told: {value}"))


def _with_a_config_map(service: Service, name: str, data: str = "{a: b}") -> Path:
    folder = service.folder / f"{service.namespace}-{name}"
    folder.mkdir()
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: new}}\ndata: {data}\n"
    return copy_chart(folder, ("templates/new.yaml", "", text))


@scenario("a chart's own release value", quiet=True)
def _(service: Service) -> None:
    values = (
        "--values",
        str(service.values_file()),
        "--set",
        "productionDeployment.image.tag=83,canaryDeployment.image.tag=83",
    )
    place = (RELEASE, str(service.chart), "--namespace", service.namespace, "--wait", *values)
    service.cluster.run("helm", "install", *place, "--set", "release.name=shop")
    advice = refused(service, 2, "84", said="is not a record")
    advice.says("helm upgrade --reset-values")
    service.cluster.run("helm", "upgrade", *place, "--reset-values")
    service.stage(2, "84").expect(0, "done")


@scenario("a template that tells an installation", quiet=True)
def _(service: Service) -> None:
    chart = _with_labels(service, "{{ if .root.Release.IsInstall }}first{{ else }}later{{ end }}")
    run = service.having(chart=chart).stage(1, "83").expect(3, "refused")
    assert "in an installation than in an upgrade" in run.answer["error"]["happened"], run.text
    Advice(service, run).says("Let the pods not depend on it")
    service.install("83")


@scenario("a chart that renders differently", quiet=True)
def _(service: Service) -> None:
    chart = _with_a_config_map(service, "random", '{a: "{{ randAlphaNum 8 }}"}')
    run = service.having(chart=chart).stage(1, "83").expect(3, "refused")
    assert "renders differently each time" in run.answer["error"]["happened"], run.text
    Advice(service, run).says("Take it out")
    service.having(chart=_with_a_config_map(service, "steady")).stage(1, "83").expect(0, "done")


# --- running them -------------------------------------------------------------------------------------------------------

SHORT = ("other weights, rolled back", "edited weights, rolled back", "cancelled")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SHORT else pytest.mark.matrix) for name in SCENARIOS]
)
def test_an_advice_that_is_taken_arrives(name: str, lab: Lab, ledger: Ledger) -> None:
    """What the message of this scenario says is done, ends as it should, and loses no request."""
    service = lab.service()
    if name in QUIET:
        SCENARIOS[name](service)
    else:
        service.install("83")
        with Traffic(service.cluster, service.host, rps=RPS) as traffic:
            traffic.mark(name)
            SCENARIOS[name](service)
            settle(traffic, ledger, f"advice: {name}")
    lab.delete(service.namespace)
