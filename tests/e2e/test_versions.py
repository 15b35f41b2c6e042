"""The version is canaried, not only the image: what makes the pods reaches production by way of the canary, or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import Lab
from .plain import upgrade
from .service import RELEASE, Service, copy_chart
from .states import Release
from .together import side_by_side

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LABELS = "{{- mustMergeOverwrite (deepCopy ($pod.labels | default dict)) $labels | toYaml | nindent 4 }}"
NEWER_CHART = (
    ("Chart.yaml", "version: 0.1.0", "version: 0.2.0"),
    ("templates/_pod.tpl", LABELS, LABELS + "\n    generation: newer"),
)


@dataclass(frozen=True)
class NewVersion:
    """A change of the pods, and where it shows in a pod template."""

    values: Mapping[str, Any] = field(default_factory=dict)
    chart: tuple[tuple[str, str, str], ...] = ()

    def apply(self, service: Service, folder: Path) -> Service:
        return service.having(values=self.values, chart=copy_chart(folder, *self.chart) if self.chart else None)


NEW_VERSIONS = {
    "an env value": NewVersion({"pod": {"env": {"GREETING": "hello", "BUILD": 17012345678}}}),
    "a probe": NewVersion({"pod": {"readinessProbe": {"httpGet": {"path": "/ready"}, "failureThreshold": 5}}}),
    "a newer chart with another label": NewVersion(chart=NEWER_CHART),
}


def _facts(template: Mapping[str, Any]) -> tuple[object, ...]:
    """What the changes above are about."""
    container = template["spec"]["containers"][0]
    env = {entry["name"]: entry["value"] for entry in container.get("env", [])}
    probe = container["readinessProbe"]
    shown = probe["httpGet"]["path"], probe["failureThreshold"]
    return env, shown, template["metadata"]["labels"].get("generation")


EXPECTED: Mapping[str, tuple[object, ...]] = {
    "as it was": ({}, ("/", 3), None),
    "an env value": ({"BUILD": "17012345678", "GREETING": "hello"}, ("/", 3), None),
    "a probe": ({}, ("/ready", 5), None),
    "a newer chart with another label": ({}, ("/", 3), "newer"),
}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(name, marks=[] if name == "a newer chart with another label" else pytest.mark.matrix)
        for name in NEW_VERSIONS
    ],
)
def test_a_new_version_goes_by_way_of_the_canary(lab: Lab, tmp_path: Path, change: str) -> None:
    """With a new tag or without: on the canary at 2, in production at 5, untouched until then, and taken back verbatim."""

    def walk_to(tag: str) -> None:
        (tmp_path / tag).mkdir()
        with lab.lend(f"versions, {tag}", lab.service) as service:
            changed = NEW_VERSIONS[change].apply(service, tmp_path / tag)
            if tag == "83":
                _walk(changed, tag, change, 4)
            _walk(changed, tag, change, 5)

    side_by_side(("83", "84"), walk_to)


def _walk(service: Service, tag: str, change: str, last: int) -> None:
    """To a stage and back."""
    release = Release("83", tag)
    pods, before = service.pods("production"), {track: service.template(track) for track in ("production", "canary")}
    assert len(pods) == 2
    for stage in range(2, last + 1):
        service.stage(stage, tag).expect(0, "done")
        state = release.at(stage)
        assert service.tracks() == (state.production, state.canary)
        assert _facts(service.template("canary")) == EXPECTED[change]
        if stage < 5:
            assert service.template("production") == before["production"]
            assert service.pods("production") == pods
        else:
            assert _facts(service.template("production")) == EXPECTED[change]
            assert len(service.pods("production")) == 2
            assert not service.pods("production").keys() & pods.keys()
    service.rollback().expect(0, "done")
    service.check(release.rolled_back)
    assert {track: service.template(track) for track in before} == before
    if last < 5:
        assert service.pods("production") == pods


# --- what both tracks share ----------------------------------------------------------------------------------------------

ROUTE, GATE = "VirtualService/product-page-virtual-service", "Gateway/product-page"


@dataclass(frozen=True)
class SharedChange:
    """A change of objects that both tracks share: the values, and which objects the plan names for which stage."""

    values: Mapping[str, Any]
    at_promote: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    at_finish: tuple[str, ...] = ()


SHARED_CHANGES = {
    "a header": SharedChange({"trackHeader": "x-track"}, (ROUTE,)),
    "a host": SharedChange({"gateway": {"hosts": ["new.example.com"]}}, (GATE, ROUTE)),
    "a service type": SharedChange({"service": {"type": "NodePort"}}, ("Service/product-page-svc",)),
    "TLS": SharedChange({"tls": {"mode": "DISABLE"}}, ("DestinationRule/product-page-destination-rule",)),
    "retries": SharedChange({"retries": {"attempts": 0}}, (ROUTE,)),
    "no disruption budget": SharedChange(
        {"podDisruptionBudget": {"enabled": False}}, at_finish=(f"PodDisruptionBudget/{RELEASE}",)
    ),
    "an autoscaler": SharedChange({"autoscaling": {"enabled": True}}, made=(f"HorizontalPodAutoscaler/{RELEASE}",)),
}


@pytest.mark.parametrize(
    "change",
    [pytest.param(name, marks=[] if name == "a header" else pytest.mark.matrix) for name in SHARED_CHANGES],
)
def test_the_plan_names_the_stage_of_a_shared_change(lab: Lab, change: str) -> None:
    """Changes for both tracks are planned for promote, new objects for 2, removed ones for finish; a plan changes nothing."""
    wanted = SHARED_CHANGES[change]
    with lab.lend("refusals", lab.service) as service:
        before = service.snapshot()
        changed = service.having(values={**wanted.values, "pod": {"env": {"NEW": "1"}}})
        said = changed.plan(2, "84").expect(0).answer["plans"][0]
        notes = "\n".join(said["notes"])
        for names, text in ((wanted.at_promote, "change at promote"), (wanted.at_finish, "removed at finish")):
            assert all(name in notes for name in names), notes
            assert (text in notes) == bool(names), notes
        assert all(name in said["steps"][1] for name in wanted.made), said
        assert service.snapshot() == before


def _assert_refused(service: Service, tag: str, named: tuple[str, ...]) -> None:
    before = service.snapshot()
    run = service.stage(2, tag).expect(3, "refused")
    error = run.answer["error"]
    told = json.dumps(error)
    assert all(name in told for name in named), run.text
    assert error["happened"]
    assert error["means"]
    assert error["do-next"]
    assert run.answer["changed"] is False
    assert service.snapshot() == before


def _random(data: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: random}}\ndata: {{{data}}}\n"


UNSTEADY = {
    "a random value in a ConfigMap": (
        (("templates/random.yaml", "", _random('value: "{{ randAlphaNum 8 }}"')),),
        ("ConfigMap/random", "data.value"),
    ),
    "the time in a ConfigMap": (
        (("templates/random.yaml", "", _random('value: "{{ now | unixEpoch }}.{{ now.Nanosecond }}"')),),
        ("ConfigMap/random", "data.value"),
    ),
    "a random label on the pods": (
        (("templates/_pod.tpl", LABELS, LABELS + "\n    random: {{ randAlphaNum 8 | quote }}"),),
        ("random",),
    ),
}


@pytest.mark.parametrize("chart", UNSTEADY)
def test_a_chart_that_renders_differently_each_time_is_refused(fresh: Service, tmp_path: Path, chart: str) -> None:
    """A chart with `randAlphaNum` or `now` is not installed, and what Helm alone installed with it is not touched."""
    changes, named = UNSTEADY[chart]
    service = fresh.having(chart=copy_chart(tmp_path, *changes))
    refused = service.stage(1, "83").expect(3, "refused")
    assert (refused.answer["changed"], service.revision()) == (False, 0)
    assert all(name in json.dumps(refused.answer["error"]) for name in named), refused.text
    upgrade(service, 1, "83", "84")
    _assert_refused(service, "84", named)


PINNED = "{{- $pinned := get ((.root.Values.release).pods | default dict) .track -}}"
NO_PINS = ("templates/_pod.tpl", PINNED, '{{- $pinned := "" -}}')


def test_a_chart_without_release_pods_releases_new_settings_too(fresh: Service, tmp_path: Path) -> None:
    """Production's pods stay as they are without any help of the chart, and a permission for its Deployment changes nothing."""
    service = fresh.having(chart=copy_chart(tmp_path, NO_PINS))
    service.install("83")
    pods = service.pods("production")
    changed = service.having(values={"pod": {"env": {"NEW": "1"}}})
    changed.stage(2, "84", "--allow", f"Deployment/{RELEASE}", "--allow", f"Deployment/{RELEASE}canary").expect(
        0, "done"
    )
    service.check(Release("83", "84").at(2))
    assert service.pods("production") == pods
    assert _facts(service.template("canary"))[0] == {"NEW": "1"}
    changed.rollback().expect(0, "done")
    assert service.pods("production") == pods


def test_an_allowed_shared_change_is_the_first_step(steady: Service) -> None:
    """With `--allow` the shared change is made first and by itself at stage 2; a rollback leaves it, and says so."""
    service = steady.having(values={"trackHeader": "x-track"})
    run = service.stage(2, "84", "--allow", ROUTE).expect(0, "done")
    upgrades = [step for step in run.answer["steps"] if step.startswith("helm upgrade")]
    assert ROUTE in upgrades[0]
    assert "no pod and no weight changes" in upgrades[0]
    service.check(Release("83", "84").at(2))
    assert _header(service) == "x-track"
    back = service.rollback().expect(0, "done")
    assert ROUTE in back.text
    service.check(Release("83", "84").rolled_back)
    assert _header(service) == "x-track"


def test_an_allowed_shared_change_without_new_pods(steady: Service) -> None:
    """A shared change alone is made at stage 2 and restarts no pod; the other stages have nothing to do."""
    service, pods = steady.having(values={"trackHeader": "x-track"}), steady.pods("production")
    service.stage(2, "83", "--allow", ROUTE).expect(0, "done")
    assert _header(service) == "x-track"
    assert (service.pods("production"), service.pods("canary")) == (pods, {})
    for stage in (3, 7):
        assert service.stage(stage, "83").expect(0).answer["changed"] is False


def _header(service: Service) -> str:
    (route,) = service.read("virtualservices.networking.istio.io")
    (name,) = route["spec"]["http"][0]["route"][0]["headers"]["response"]["set"]
    return str(name)
