"""Rendered YAML as the API server's clients read it, and which objects of a chart carry a release."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helm_canary.core.model import Track
from helm_canary.errors import RefusedError, UsageError
from helm_canary.manifest import (
    Object,
    canonical,
    check_values,
    find_container,
    find_shape,
    full_host,
    gateways_of,
    is_http,
    is_udp,
    locate_tag,
    parse_objects,
    reference,
    tag_of,
    template_of,
    version_of,
    weighted_routes,
)
from helm_canary.rendering import check_another_image
from tests.adapters.record import NAMESPACE
from tests.adapters.recordings import objects, rendered, shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster import Cluster

# A plain scalar -> what kubectl, and so the API server, makes of it. Helm applies with the same parser.
SCALARS: dict[str, object] = {
    "on": True, "off": False, "yes": True, "no": False, "y": True, "Y": True, "n": False, "N": False, "On": True, "OFF": False,
    "oN": "oN", "true": True, "TRUE": True, "True": True, "tRue": "tRue", "~": None, "null": None, "Null": None, "nULL": "nULL",
    "1e5": 100000, "1e+5": 100000, "1E5": 100000, "12e03": 12000, "1e": "1e", "e5": "e5", ".e5": ".e5", "1e400": "1e400",
    "0": 0, "-0": 0, "+7": 7, "0123": 83, "0_7": 7, "09": 9, "089": 89, "0o17": 15, "0o8": "0o8", "-012": -10, "+012": 10,
    "0x1F": 31, "0X1f": 31, "-0x1f": -31, "0x": "0x", "0x_1f": 31, "0b11": 3, "-0b11": -3, "0b2": "0b2", "0b_": "0b_",
    "1_000": 1000, "1__0": 10, "1_": 1, "_1": "_1", "-5_0": -50, "1_0.5": 10.5, ".5": 0.5, "5.": 5, "+.5": 0.5, "1.10": 1.1,
    "2024-01-01": "2024-01-01", "2024-01-01T00:00:00Z": "2024-01-01T00:00:00Z", "12:30:45": "12:30:45", "190:20:30": "190:20:30",
    "9007199254740993": 9007199254740993, "9223372036854775807": 9223372036854775807,
    "-9223372036854775808": -9223372036854775808,
    "123456789012345678901234567890": 1.2345678901234568e29, "NaN": "NaN", "inf": "inf", "=": "=", "0 1": "0 1", "--1": "--1",
    '"on"': "on", "'0123'": "0123", "!!str 5": "5", '!!int "7"': 7, "1.2.3": "1.2.3", "v1": "v1", "": None,
    "10.0.0.1": "10.0.0.1",
}  # fmt: skip


def nested(scalar: str, number: int) -> str:
    return f"""\
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: x{number}}}
spec: {{configPatches: [{{patch: {{value: {{a: [{scalar}], key: x}}}}}}]}}
"""


def value(thing: dict[str, Any]) -> object:
    (found,) = thing["spec"]["configPatches"][0]["patch"]["value"]["a"] or [None]
    return found


@pytest.mark.parametrize(("scalar", "expected"), SCALARS.items())
def test_a_plain_scalar_is_what_the_api_server_gets(scalar: str, expected: object) -> None:
    """Traps of YAML 1.1: what looks like a boolean, an octal number or a date is read as helm's clients read it."""
    (found,) = parse_objects(nested(scalar, 0))

    assert (type(value(found)), value(found)) == (type(expected), expected)


@pytest.mark.cluster
def test_kubectl_reads_the_same(real_cluster: Cluster) -> None:
    """The table above is kubectl's own reading."""
    whole = "---\n".join(nested(scalar, number) for number, scalar in enumerate(SCALARS))

    printed = real_cluster.kubectl(
        "create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", stdin=whole
    )

    decoder, at, read = json.JSONDecoder(), 0, []
    while at < len(printed.rstrip()):
        thing, at = decoder.raw_decode(printed, at)
        read += [value(item) for item in thing.get("items", [thing])]
        at += len(printed[at:]) - len(printed[at:].lstrip())
    ours = [value(thing) for thing in parse_objects(whole)]
    assert json.loads(json.dumps(ours)) == read


@pytest.mark.parametrize("scalar", [".inf", "-.INF", ".nan", "1e400", "-1e400"])
def test_what_no_json_has_is_no_traceback(scalar: str) -> None:
    """Infinity and NaN, which no API server takes, are text to us; the API server refuses them by name."""
    (found,) = parse_objects(nested(scalar, 0))

    assert value(found) == scalar


@pytest.mark.parametrize(
    "tagged", ["!!binary aGk=", "!!set {a}", "!!omap [a: 1]", "!!timestamp 2024-01-01", "!!python/name:os.system x"]
)
def test_yaml_that_json_does_not_have_is_refused(tagged: str) -> None:
    """A chart that uses YAML's own types is refused, and nothing of it is run."""
    with pytest.raises(RefusedError, match="not YAML"):
        parse_objects(f"kind: X\na: {tagged}\n")


def test_anchors_merges_and_lists_are_resolved() -> None:
    """Anchors and `<<` as in a values file; a List is its items; documents without an object are none."""
    found = parse_objects("""\
---
# only a comment
---
kind: A
base: &base {one: 1, two: 2}
other: {<<: *base, two: 3}
---
kind: List
items:
- kind: B
- kind: C
- just text
---
just text
---
- a list
""")

    assert [thing["kind"] for thing in found] == ["A", "B", "C"]
    assert found[0]["other"] == {"one": 1, "two": 3}


@pytest.mark.parametrize(
    "broken", ["a: [1", "a: b: c", "\tx: 1", "a: *nowhere", "? [1]\n: x\n---\n}", "a: \x00", '"\\x"']
)
def test_no_yaml_is_refused(broken: str) -> None:
    """What cannot be parsed is a refusal in three parts."""
    with pytest.raises(RefusedError, match="not YAML"):
        parse_objects(broken)


@pytest.mark.parametrize(
    "value", ["*hunter2", "!hunter2 x", "[hunter2", "hunter2: b: c", '"hunter2\\x"', "@hunter2", "&hunter2 *hunter3"]
)
def test_what_is_not_yaml_is_not_quoted(value: str) -> None:
    """The line may be a Secret's: its place is named, not what stands there."""
    with pytest.raises(RefusedError) as refused:
        parse_objects(f"kind: Secret\nstringData:\n  password: {value}\n")
    assert "line 3" in refused.value.text or "line 4" in refused.value.text
    assert "hunter" not in refused.value.text


LISTS = {
    "a list of one kind": ({"kind": "SecretList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}}]}, ["Secret/a"]),
    "a list in a list": (
        {"kind": "List", "items": [{"kind": "List", "items": [{"kind": "A", "metadata": {"name": "a"}}]}]}, ["A/a"],
    ),
    "a kind that only sounds so": ({"kind": "AllowList", "metadata": {"name": "a"}, "spec": {"items": []}}, ["AllowList/a"]),
    "a list without items": ({"kind": "List", "items": []}, []),
}  # fmt: skip


@pytest.mark.parametrize(("document", "names"), LISTS.values(), ids=[*LISTS])
def test_lists_are_taken_apart_as_helm_does(document: dict[str, Any], names: list[str]) -> None:
    """Also those of one kind, whose items need not name it, and those in others."""
    assert [reference(thing) for thing in parse_objects(json.dumps(document))] == names


# --- the parts of a chart -----------------------------------------------------------------------------------------------


def one(things: list[Object], kind: str, name: str = "") -> Object:
    return next(thing for thing in things if thing["kind"] == kind and thing["metadata"]["name"].endswith(name))


def without(kind: str) -> Callable[[list[Object]], object]:
    return lambda things: things.remove(one(things, kind))


MISFITS: dict[str, tuple[Callable[[list[Object]], object], str]] = {
    "no rule": (without("DestinationRule"), "no DestinationRule has the subsets"),
    "a rule without a spec": (lambda things: one(things, "DestinationRule").update(spec=None), "no DestinationRule"),
    "a rule without subsets": (lambda things: one(things, "DestinationRule")["spec"].update(subsets=None), "no DestinationRule"),
    "a rule without a host": (lambda things: one(things, "DestinationRule")["spec"].pop("host"), "no Service has"),
    "a rule of another host": (lambda things: one(things, "DestinationRule")["spec"].update(host="other"), "no Service has"),
    "no Service": (without("Service"), "no Service has"),
    "no route": (without("VirtualService"), "no VirtualService sends to both subsets"),
    "a route without http": (lambda things: one(things, "VirtualService")["spec"].pop("http"), "no VirtualService"),
    "a route to one subset": (
        lambda things: one(things, "VirtualService")["spec"]["http"][0]["route"].pop(), "no VirtualService sends to both",
    ),
    "a weight that is no number": (
        lambda things: one(things, "VirtualService")["spec"]["http"][0]["route"][0].update(weight="ninety"), "'ninety'",
    ),
    "a weight that is nothing": (
        lambda things: one(things, "VirtualService")["spec"]["http"][0]["route"][0].update(weight=None), "None",
    ),
    "no canary": (lambda things: things.remove(one(things, "Deployment", "canary")), "0 Deployments"),
    "a Deployment without a template": (
        lambda things: one(things, "Deployment", "canary")["spec"].pop("template"), "0 Deployments",
    ),
    "a pod without labels": (
        lambda things: one(things, "Deployment", "canary")["spec"]["template"].update(metadata=None), "0 Deployments",
    ),
    "two canaries": (lambda things: things.append(one(things, "Deployment", "canary")), "2 Deployments"),
    "the tracks are one": (
        lambda things: (
            one(things, "DestinationRule")["spec"]["subsets"][1].update(labels={"canary": "false"})
        ), "one Deployment carries the labels of both",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "said"), MISFITS.values(), ids=[*MISFITS])
def test_a_chart_that_does_not_fit_is_told_what_is_missing(spoil: Callable[[list[Object]], object], said: str) -> None:
    """Whatever is missing or of another kind is named, in three parts."""
    things = objects("steady.yaml")
    spoil(things)

    with pytest.raises(RefusedError, match=said) as told:
        find_shape(things, NAMESPACE)

    assert told.value.means
    assert told.value.do_next


def test_the_shape_of_the_chart() -> None:
    """Names, host, port, labels and gateways, whatever they are called in the chart."""
    found = shape()

    assert (found.production, found.canary) == ("productpage", "productpagecanary")
    assert (found.host, found.port) == (f"product-page-svc.{NAMESPACE}.svc.cluster.local", 9080)
    assert (found.labels, found.canary_labels) == ((("canary", "false"),), (("canary", "true"),))
    assert found.gateways == (f"{NAMESPACE}/product-page",)
    assert found.track_labels == {"canary"}


HOSTS = [("page", "page.shop.svc.cluster.local"), ("page.shop.svc.cluster.local", "page.shop.svc.cluster.local"),
         ("page.other", "page.other"), ("page.example.com", "page.example.com"),
         ("*", "*"), ("*.example.com", "*.example.com")]  # fmt: skip


@pytest.mark.parametrize(("host", "full"), HOSTS)
def test_a_short_host_belongs_to_its_namespace(host: str, full: str) -> None:
    """Istio completes a name without a dot, and leaves any other as it is."""
    assert full_host(host, "shop") == full


GATEWAYS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({}, ("mesh",)),
    ({"gateways": []}, ("mesh",)),
    ({"gateways": ["page"]}, ("shop/page",)),
    ({"gateways": ["edge/page", "mesh", "own"]}, ("edge/page", "mesh", "shop/own")),
    ({"gateways": ["./page", "page"]}, ("shop/page",)),
    ({"gateways": ["page.edge.svc.cluster.local", "page.edge"]}, ("edge/page",)),
    ({"hosts": []}, ()),
    ({"hosts": None, "gateways": ["page"]}, ()),
]


@pytest.mark.parametrize(("spec", "names"), GATEWAYS)
def test_gateways_are_named_with_their_namespace(spec: dict[str, Any], names: tuple[str, ...]) -> None:
    """Without a list a VirtualService is bound to the mesh, without hosts to none; names are completed as Istio does it."""
    assert gateways_of({"spec": {"hosts": ["page"], **spec}}, "shop") == names


# What a sidecar makes of a Service port; the first nine are the cases of Istio's own TestConvertProtocol.
PORTS: list[tuple[dict[str, Any], str]] = [
    ({}, "sniffed"),
    ({"protocol": "UDP"}, "udp"),
    ({"name": "http-something"}, "http"),
    ({"name": "http-something", "appProtocol": "https"}, "tcp"),
    ({"name": "something-httpx", "appProtocol": "https"}, "tcp"),
    ({"name": "grpc-web-x"}, "http"),
    ({"name": "grpcweb-x"}, "sniffed"),
    ({"name": "random-name", "port": 3306}, "tcp"),
    ({"name": "random-name", "port": 3306, "appProtocol": "kubernetes.io/h2c"}, "http"),
    ({"name": "http"}, "http"),
    ({"name": "HTTP"}, "http"),
    ({"name": "http2"}, "http"),
    ({"name": "http2-api"}, "http"),
    ({"name": "grpc"}, "http"),
    ({"name": "web"}, "sniffed"),
    ({"name": "api"}, "sniffed"),
    ({"name": "metrics"}, "sniffed"),
    ({"name": "https"}, "tcp"),
    ({"name": "tls-x"}, "tcp"),
    ({"name": "tcp"}, "tcp"),
    ({"name": "mongo"}, "tcp"),
    ({"name": "redis-x"}, "tcp"),
    ({"name": "mysql-http"}, "tcp"),
    ({"name": "udp-x"}, "udp"),
    ({"name": "web", "port": 53}, "tcp"),
    ({"name": "http", "port": 27017}, "http"),
    ({"name": "web", "appProtocol": "http"}, "http"),
    ({"name": "tcp", "appProtocol": "kubernetes.io/ws"}, "http"),
    ({"name": "http", "appProtocol": "kubernetes.io/wss"}, "tcp"),
    ({"name": "http", "appProtocol": "tcp"}, "tcp"),
    ({"name": "http", "appProtocol": "example.com/own"}, "sniffed"),
    ({"name": "tcp", "appProtocol": ""}, "sniffed"),
]


@pytest.mark.parametrize(("port", "kind"), PORTS)
def test_what_istio_takes_a_port_for(port: dict[str, Any], kind: str) -> None:
    """By appProtocol, or else by the first word of the name; HTTP routes hold where it says HTTP or nothing that Istio knows."""
    assert is_http(port) is (kind in ("http", "sniffed"))
    assert is_udp(port) is (kind == "udp")


IMAGES = [
    ("localhost:5000/app:84", "84"), ("localhost:5000/app", "latest"), ("app", "latest"), ("app:1.10", "1.10"),
    ("app:84@sha256:ab", "84"), ("app@sha256:ab", "sha256:ab"), ("a/b/c:0123", "0123"), ("a.b:80/c:17012345678", "17012345678"),
]  # fmt: skip


def running(*images: str) -> Object:
    return {"spec": {"containers": [{"image": image} for image in images]}}


@pytest.mark.parametrize(("image", "tag"), IMAGES)
def test_the_tag_of_an_image(image: str, tag: str) -> None:
    """A registry's port is no tag; an image named by its digest alone has that."""
    assert tag_of(running(image), shape()) == tag


# The tag that was asked for, an image that was rendered for it -> what the chart writes around; None: it does not have the tag.
AROUND: list[tuple[str, str, tuple[str, str] | None]] = [
    ("84", "app:84", ("", "")), ("84", "app:84@sha256:ab84", ("", "")), ("84", "app:v84", ("v", "")),
    ("84", "app:84-alpine", ("", "-alpine")), ("84", "registry:5000/app:84", ("", "")),
    ("84", "r:84/app:v84-3.19", ("v", "-3.19")), ("84", "app:1.0.84", ("1.0.", "")), ("84", "app:84-84", ("84-", "")),
    ("84", "app:84alpine", ("", "alpine")),
    ("v1.2.3", "app:v1.2.3-slim", ("", "-slim")), ("a1b2", "app:git-a1b2", ("git-", "")), ("1.10", "app:1.10_x", ("", "_x")),
    ("84", "app:841", None), ("84", "app:184", None), ("84", "app84", None), ("84", "app-84:1", None), ("84", "r:84/app", None),
    ("84", "app@sha256:84", None), ("rc", "app:rca", None), ("1.2", "app:1x2", None), ("84", "app", None), ("84", "", None),
]  # fmt: skip


@pytest.mark.parametrize(("tag", "image", "around"), AROUND)
def test_the_tag_is_found_within_an_images_tag(tag: str, image: str, around: tuple[str, str] | None) -> None:
    """As a whole number or word, with anything around it; a repository, a port and a digest have none."""
    assert find_container(running(image), tag) == (None if around is None else 0)
    assert locate_tag(replace(shape(), container=0), running(image), tag).around == (around or ("", ""))


OTHERS = [
    ("app:v84-alpine", "app:v83-alpine", "83"), ("app:v84-alpine", "app:v83-slim", "v83-slim"), ("app:v84", "app:v", "v"),
    ("app:84-alpine@sha256:ab", "app:83-alpine@sha256:cd", "83"), ("app:v84", "app@sha256:cd", "sha256:cd"),
    ("app:v84", "app", "latest"), ("app:84", "app:v83", "v83"),
]  # fmt: skip


@pytest.mark.parametrize(("rendered_for_84", "live", "tag"), OTHERS)
def test_another_versions_tag_is_what_a_person_asked_for(rendered_for_84: str, live: str, tag: str) -> None:
    """What this chart writes around a tag is taken off another image; one that another chart made has its own whole tag."""
    here = locate_tag(shape(), running(rendered_for_84), "84")

    assert tag_of(running(live), here) == tag


SAME_IMAGE = [
    ("app:84@sha256:ab", "84", "app:83@sha256:ab", "83", True), ("app:84@sha256:cd", "84", "app:83@sha256:ab", "83", False),
    ("app:84", "84", "app:83", "83", False), ("app:84@sha256:ab", "84", "app:84@sha256:ab", "84", False),
    ("app:84@sha256:ab", "84", "app:83", "83", False),
]  # fmt: skip


@pytest.mark.parametrize(("new", "tag", "old", "old_tag", "refused"), SAME_IMAGE)
def test_another_tag_with_the_same_digest_is_refused(new: str, tag: str, old: str, old_tag: str, refused: bool) -> None:
    """A node takes an image by its digest, so a new tag before an old digest would release nothing."""
    coming, there = (version_of(running(image), None, name) for image, name in ((new, tag), (old, old_tag)))

    with pytest.raises(RefusedError, match="digest of 83") if refused else nullcontext():
        check_another_image(coming, there, shape())


def test_the_container_is_the_one_whose_tag_was_set() -> None:
    """A sidecar in front does not make its tag the version's, even where it has the same number in it."""
    template = running("proxy:1.84", "page:84")

    assert find_container(template, "84") == 1
    assert find_container(running("proxy:1.26", "page:v84"), "84") == 1
    odd: Object
    for odd in (template, {}, {"spec": None}, {"spec": {"containers": [{}]}}):
        assert find_container(odd, "4") is None
        assert locate_tag(shape(), odd, "4") == shape()


def test_weights_of_every_route_are_read() -> None:
    """Short hosts, several routes, a route to others between, a missing weight."""
    short, full = {"host": "page"}, {"host": "page.shop.svc.cluster.local"}
    first = [
        {"destination": {**short, "subset": "production"}, "weight": 90},
        {"destination": {**full, "subset": "canary"}, "weight": 10},
    ]
    last = [
        {"destination": {**full, "subset": "production"}, "weight": 100},
        {"destination": {**full, "subset": "canary"}},
    ]
    other = [{"destination": {"host": "other", "subset": "production"}}]
    route = {"spec": {"http": [{"route": first}, {"route": other}, {"redirect": {}}, {"route": last}]}}

    found = weighted_routes(route, "page.shop.svc.cluster.local", "shop")

    assert found == [{"production": 90, "canary": 10}, {"production": 100, "canary": 0}]


def test_a_version_is_its_template_without_the_tracks_labels() -> None:
    """Both tracks of one rendering are one version; another environment is another one with the same tag."""
    production, canary = (rendered("steady.yaml", track) for track in Track)

    assert json.loads(production.production)["metadata"]["labels"] == {"app": "productpage", "release": "productpage"}
    template = json.loads(production.production)
    template["spec"]["containers"][0]["env"][0]["value"] = "2"
    assert version_of(template, None, "83") != production
    assert production.tag == canary.tag == "83"
    assert version_of(json.loads(production.production), None, "83") == production


def test_a_templates_text_does_not_depend_on_the_order_of_its_keys() -> None:
    """Helm sorts, people do not."""
    assert canonical({"b": 1, "a": {"d": [1, 2], "c": None}}) == canonical({"a": {"c": None, "d": [1, 2]}, "b": 1})


def test_a_chart_that_leaves_a_track_out_is_told_so() -> None:
    """Both Deployments are needed at every stage, also with no pods."""
    with pytest.raises(RefusedError, match="is not rendered"):
        template_of(objects("steady.yaml"), replace(shape(), canary="other"), Track.CANARY)


# --- values files -------------------------------------------------------------------------------------------------------

HARMLESS = [
    "", "# nothing", "release:", "release: {}", "release: null", "pod: {release: {a: 1}}", "releases: {a: 1}", "- release",
    "release",    "productionDeployment: {weight: 50, image: {tag: 1.10}}", "a: [1",
]  # fmt: skip
FIGHTING = [
    "release: {pods: {}}", "release: {a: 1}", "release: 1", "release: x", "release: [1]", '"release": {a: 1}',
    '{"release": {"a": 1}}', "r: &r {a: 1}\nrelease: *r", "x: 1\n<<: {release: {a: 1}}", "? release\n: a",
]  # fmt: skip


@pytest.mark.parametrize("text", HARMLESS)
def test_a_values_file_may_hold_anything_else(text: str) -> None:
    """An empty `release`, weights, tags, and what helm itself will refuse."""
    check_values("values.yaml", text)


@pytest.mark.parametrize("text", FIGHTING)
def test_a_values_file_may_not_set_release(text: str) -> None:
    """helm would merge it into the record, however it is written."""
    with pytest.raises(UsageError, match=r"The values file values\.yaml sets `release`"):
        check_values("values.yaml", text)
