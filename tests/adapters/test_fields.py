"""How two objects differ: list items by Kubernetes' own keys, whatever compares them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from helm_canary.fields import Likeness, differences, is_left_over, likeness, normal, owns

OTHER, ALIKE, SAME = Likeness.OTHER, Likeness.ALIKE, Likeness.SAME
TMP, CACHE = ({"name": "tmp", "mountPath": path} for path in ("/tmp", "/cache"))
TCP, UDP = ({"containerPort": 53, "protocol": protocol} for protocol in ("TCP", "UDP"))
A, B, TOKEN = ({"name": name, "value": "1"} for name in ("A", "B", "TOKEN"))
SPREAD = {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}
SOON = {**SPREAD, "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 2}

# field, live, rendered -> how far the live one is it
LIKE: dict[str, tuple[str, Any, Any, Likeness]] = {
    "two mounts of a volume": ("volumeMounts", [TMP, CACHE], [TMP, CACHE], SAME),
    "one of two mounts elsewhere": ("volumeMounts", [TMP, CACHE], [TMP, {**CACHE, "mountPath": "/other"}], OTHER),
    "mounts of two volumes exchanged": (
        "volumeMounts", [TMP, CACHE], [{**TMP, "name": "a"}, {**CACHE, "name": "b"}], OTHER,
    ),
    "a mount that a webhook put between": ("volumeMounts", [TMP, {"name": "t", "mountPath": "/t"}, CACHE], [TMP, CACHE], SAME),
    "devices by their path": (
        "volumeDevices", [{"name": "a", "devicePath": "/1"}, {"name": "a", "devicePath": "/2"}],
        [{"name": "a", "devicePath": "/1"}, {"name": "a", "devicePath": "/2"}], SAME,
    ),
    "a port for TCP and UDP": ("ports", [TCP, UDP], [TCP, UDP], SAME),
    "a port for UDP alone": ("ports", [TCP], [UDP], OTHER),
    "the default of a key left out": ("ports", [TCP, UDP], [{"containerPort": 53}, UDP], SAME),
    "only the default of a key": ("ports", [UDP], [{"containerPort": 53}], OTHER),
    "ports of a Service": ("ports", [{"port": 80, "protocol": "TCP", "nodePort": 3}], [{"port": 80}], SAME),
    "ports without a key": ("ports", [{"protocol": "TCP"}], [{"protocol": "TCP"}], SAME),
    "aliases by their address": (
        "hostAliases", [{"ip": "1", "hostnames": ["a"]}, {"ip": "2"}], [{"ip": "1", "hostnames": ["a"]}], SAME,
    ),
    "two spreads over one key": ("topologySpreadConstraints", [SPREAD, SOON], [SPREAD, SOON], SAME),
    "one of two spreads otherwise": ("topologySpreadConstraints", [SPREAD, SOON], [SPREAD, {**SOON, "maxSkew": 1}], OTHER),
    "variables in another order": ("env", [B, A], [A, B], ALIKE),
    "variables with others' between": ("env", [A, TOKEN, B], [A, B], SAME),
    "a variable less": ("env", [A], [A, B], OTHER),
    "a variable twice": ("env", [A, {**A, "value": "2"}], [A, {**A, "value": "2"}], SAME),
    "of a variable twice the later one": ("env", [A, {**A, "value": "2"}], [{**A, "value": "2"}], ALIKE),
    "of a variable twice the earlier one": ("env", [A, {**A, "value": "2"}], [A], OTHER),
    "init containers in another order": ("initContainers", [{"name": "b"}, {"name": "a"}], [{"name": "a"}, {"name": "b"}], ALIKE),
    "no variables": ("env", None, [], SAME),
    "arguments": ("args", ["a", "b"], ["a", "b"], SAME),
    "arguments in another order": ("args", ["b", "a"], ["a", "b"], OTHER),
    "an argument more": ("args", ["a", "b"], ["a"], OTHER),
    "tolerations, a list as a whole": ("tolerations", [{"key": "a"}, {"key": "b"}], [{"key": "b"}], OTHER),
    "tolerations with what the server sets": ("tolerations", [{"key": "a", "operator": "Equal"}], [{"key": "a"}], SAME),
    "finalizers, a set": ("finalizers", ["b", "a"], ["a"], SAME),
    "a finalizer less": ("finalizers", ["b"], ["a"], OTHER),
    "annotations left empty": ("annotations", None, None, SAME),
    "annotations left empty, set by a restart": ("annotations", {"a": "1"}, None, SAME),
    "resources left empty": ("resources", {}, None, SAME),
    "an empty map": ("annotations", None, {}, SAME),
    "a false that is left out": ("hostNetwork", None, False, SAME),
    "an empty text that is left out": ("value", None, "", SAME),
    "a true that is not there": ("hostNetwork", None, True, OTHER),
    "a port by number, not by name": ("port", 80, "80", OTHER),
    "a name of a port": ("port", "http", "http", SAME),
    "a size": ("emptyDir", {"sizeLimit": "1Gi"}, {"sizeLimit": "1024Mi"}, SAME),
    "a quantity that is a number": ("resources", {"limits": {"cpu": "2"}}, {"limits": {"cpu": 2}}, SAME),
    "a time of creation that is null": ("metadata", {"name": "a"}, {"creationTimestamp": None, "name": "a"}, SAME),
    "a key that is no scalar": ("env", [{"name": {"a": 1}}], [{"name": {"a": 1}}], SAME),
}  # fmt: skip


@pytest.mark.parametrize(("name", "live", "rendered", "expected"), LIKE.values(), ids=[*LIKE])
def test_how_far_what_is_live_was_rendered(name: str, live: Any, rendered: Any, expected: Likeness) -> None:
    """Items by their keys, in their order; what the server adds or leaves out is the same."""
    assert likeness({name: live}, {name: rendered}) is expected


MOUNTS: dict[str, Any] = {
    'k:{"mountPath":"/cache"}': {"f:mountPath": {}, "f:name": {}},
    'k:{"mountPath":"/tmp"}': {".": {}},
}
PORTS: dict[str, Any] = {
    'k:{"containerPort":53,"protocol":"UDP"}': {"f:containerPort": {}, "f:protocol": {}, "f:name": {}}
}
# field, what Helm owns of it, live, rendered -> whether another version left it
LEFT: dict[str, tuple[str, dict[str, Any], Any, Any, bool]] = {
    "both mounts": ("volumeMounts", MOUNTS, [TMP, CACHE], [TMP, CACHE], False),
    "a mount": ("volumeMounts", MOUNTS, [TMP, CACHE], [TMP], True),
    "a mount that is another one now": ("volumeMounts", MOUNTS, [TMP, CACHE], [TMP, {**CACHE, "mountPath": "/b"}], True),
    "a port": ("ports", PORTS, [{**UDP, "name": "dns"}], [{**UDP, "name": "dns"}], False),
    "a port's name": ("ports", PORTS, [{**UDP, "name": "dns"}], [UDP], True),
    "a port for UDP where TCP is left": ("ports", PORTS, [{**UDP, "name": "dns"}], [{**TCP, "name": "dns"}], True),
    "the key of an item that was left out": (
        "ports", {'k:{"containerPort":53,"protocol":"TCP"}': {"f:containerPort": {}, "f:protocol": {}}},
        [TCP], [{"containerPort": 53}], False,
    ),
    "of a variable twice, the later one's field": (
        "env", {'k:{"name":"A"}': {"f:value": {}}}, [A, {"name": "A", "value": "2"}], [A, {"name": "A", "value": "2"}], False,
    ),
    "annotations that are null": ("annotations", {}, None, None, False),
    "resources that are null": ("resources", {}, {}, None, False),
    "a list that the server did not keep": ("env", {}, None, ..., False),
    "a map that is there": ("annotations", {"f:a": {}}, {"a": "1"}, ..., True),
    "a map that is there, and null": ("annotations", {"f:a": {}}, {"a": "1"}, None, True),
    "a map that is empty": ("annotations", {"f:a": {}}, {"a": "1"}, {}, True),
    "a finalizer": ("finalizers", {'v:"a"': {}}, ["a"], ["b"], True),
    "a finalizer that stays": ("finalizers", {'v:"a"': {}}, ["a", "b"], ["a"], False),
    "a list by place": ("args", {"i:0": {}}, ["a"], ["a"], False),
}  # fmt: skip


@pytest.mark.parametrize(("name", "owned", "live", "rendered", "expected"), LEFT.values(), ids=[*LEFT])
def test_what_another_version_left(name: str, owned: dict[str, Any], live: Any, rendered: Any, expected: bool) -> None:
    """A field of Helm's that is there and not rendered; a null, or what the server dropped, is none."""
    wanted = {} if rendered is ... else {name: rendered}
    assert is_left_over({f"f:{name}": owned}, wanted, {name: live}) is expected


# field, live, would be -> the differences shown
SHOWN: dict[str, tuple[str, Any, Any, list[tuple[str, str, str]]]] = {
    "a variable put before others": ("env", [A, B], [TOKEN, A, B], [
        ("env[TOKEN]", "nothing", '{"name": "TOKEN", "value": "1"}'),
    ]),
    "a variable's value": ("env", [A, B], [A, {**B, "value": "2"}], [("env[B].value", '"1"', '"2"')]),
    "a variable taken out": ("env", [A, B], [B], [("env[A]", '{"name": "A", "value": "1"}', "nothing")]),
    "variables in another order": ("env", [A, TOKEN, B], [B, A], [
        ("env[TOKEN]", '{"name": "TOKEN", "value": "1"}', "nothing"), ("env", "in the order A, B", "in the order B, A"),
    ]),
    "a variable twice": ("env", [A, A], [A, {**A, "value": "2"}], [("env[A#2].value", '"1"', '"2"')]),
    "one of two mounts": ("volumeMounts", [TMP, CACHE], [TMP, {**CACHE, "readOnly": True}], [
        ("volumeMounts[/cache].readOnly", "nothing", "true"),
    ]),
    "a port for UDP": ("ports", [TCP], [TCP, UDP], [
        ("ports[53/UDP]", "nothing", '{"containerPort": 53, "protocol": "UDP"}'),
    ]),
    "a port of a Service": ("ports", [{"port": 80}], [{"port": 80, "protocol": "TCP", "targetPort": "x"}], [
        ("ports[80/TCP].protocol", "nothing", '"TCP"'), ("ports[80/TCP].targetPort", "nothing", '"x"'),
    ]),
    "an argument put between": ("args", ["a", "b"], ["a", "c", "b"], [("args[1]", "nothing", '"c"')]),
    "an argument taken out": ("args", ["a", "c", "b"], ["a", "b"], [("args[1]", '"c"', "nothing")]),
    "a route's weight": ("route", [{"weight": 1}, {"weight": 2}], [{"weight": 2}, {"weight": 1}], [
        ("route[0].weight", "1", "2"), ("route[1].weight", "2", "1"),
    ]),
    "a label with a dot": ("labels", {"a/b.c": "1"}, {"a/b.c": "2"}, [("labels[a/b.c]", '"1"', '"2"')]),
    "a file": ("data", {"a.yaml": "1"}, {"a.yaml": "2"}, [("data[a.yaml]", '"1"', '"2"')]),
    "no annotations": ("annotations", None, {}, []),
    "an empty list": ("args", [], None, []),
    "an empty map that means all": ("podSelector", None, {}, [("podSelector", "nothing", "{}")]),
    "a quantity in other words": ("limits", {"cpu": "1"}, {"cpu": "1000m"}, []),
    "a number for a truth": ("a", 1, True, [("a", "1", "true")]),
    "nothing for a false": ("a", None, False, [("a", "nothing", "false")]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "live", "would", "expected"), SHOWN.values(), ids=[*SHOWN])
def test_a_difference_is_where_it_is(name: str, live: Any, would: Any, expected: list[tuple[str, str, str]]) -> None:
    """What is put into a list, or taken out, moves nothing else; paths name items by their keys."""
    assert list(differences({name: live}, {name: would})) == expected


PASSWORD = base64.b64encode(b"hunter2").decode()
# a Secret live, as it would be -> the differences shown
HIDDEN: dict[str, tuple[Any, Any, list[tuple[str, str, str]]]] = {
    "a value": ({"data": {"a": "1"}}, {"data": {"a": "2"}}, [("data.a", "a value", "another value")]),
    "a value more": ({"data": None}, {"data": {"b.c": "2"}}, [("data[b.c]", "nothing", "a value")]),
    "all values less": ({"data": {"a": "1", "b": "2"}}, {}, [("data.a", "a value", "nothing"), ("data.b", "a value", "nothing")]),
    "an annotation that repeats it": (
        {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{hunter2}"}}}, {},
        [("metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]", "a value", "nothing")],
    ),
    "a list": ({"x": ["hunter2"]}, {"x": ["hunter3"]}, [("x", "a value", "another value")]),
    "a text for a map": ({"data": {"a": "hunter2"}}, {"data": "hunter2"}, [("data.a", "a value", "nothing")]),
    "in plain text": ({"stringData": {"a": "hunter2"}}, {"data": {"a": PASSWORD}}, []),
    "in plain text over encoded": ({"data": {"a": "eA=="}, "stringData": {"a": "hunter2"}}, {"data": {"a": PASSWORD}}, []),
    "a number in plain text": ({"stringData": {"a": 1}}, {"data": {"a": "MQ=="}}, []),
    "the same": ({"data": {"a": "1"}}, {"data": {"a": "1"}}, []),
}  # fmt: skip


@pytest.mark.parametrize(("live", "would", "expected"), HIDDEN.values(), ids=[*HIDDEN])
def test_of_a_secret_only_keys_are_shown(live: Any, would: Any, expected: list[tuple[str, str, str]]) -> None:
    """Neither old nor new value, however short, in whichever field, and also of a Secret within another object."""
    one, other = ({"kind": "Secret", "metadata": {}, **side} for side in (live, would))

    assert list(differences(normal(one), normal(other))) == expected
    if "stringData" not in live:
        below = [(f"items[0].{path}", before, after) for path, before, after in expected]
        assert list(differences({"items": [one]}, {"items": [other]})) == below


def test_a_secret_in_another_object_s_place_is_hidden_too() -> None:
    """Whichever side it is on."""
    secret = {"kind": "Secret", "data": {"a": "hunter2"}}
    for one, other in ((secret, None), (None, secret), (secret, "x"), ("x", secret)):
        assert "hunter2" not in repr(list(differences({"template": one}, {"template": other})))


OWNED: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:app.kubernetes.io/name": {}}},
    "f:spec": {
        "f:env": {'k:{"name":"A"}': {"f:value": {}}},
        "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:targetPort": {}}},
        "f:http": {},
    },
}


@pytest.mark.parametrize(("path", "expected"), [
    ("spec.env[A].value", True),
    ("spec.env[A]", True),
    ("spec.env[A#2].value", True),
    ("spec.env[B].value", False),
    ("spec.env[A].valueFrom", False),
    ("spec.env", True),
    ("spec.ports[80/TCP].targetPort", True),
    ("spec.ports[80/UDP].targetPort", False),
    ("spec.http[0].route[1].weight", True),
    ("metadata.labels[app.kubernetes.io/name]", True),
    ("metadata.labels[app.kubernetes.io/version]", False),
    ("spec.env[0]", True),
    ("status", False),
])  # fmt: skip
def test_who_owns_a_path(path: str, expected: bool) -> None:
    """The paths of differences are found again in what a manager owns, items by their keys."""
    assert owns(OWNED, path) is expected
