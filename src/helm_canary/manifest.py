"""What a rendered chart holds: its objects, which of them the release moves, and the version of each track.

Pure: YAML text and values in, values out. The tracks are found by the DestinationRule's subsets `production` and `canary`, so
any chart that keeps those works, whatever it calls its objects.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias, cast

import yaml

from helm_canary.core.model import Track, Version
from helm_canary.errors import RefusedError, UsageError

Object: TypeAlias = "dict[str, Any]"

_Base = cast("type[yaml.SafeLoader]", getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class _Loader(_Base):  # type: ignore[valid-type, misc]
    """YAML as Helm and the API server's clients read it (YAML 1.1 with changes): `on` and `y` are true, 0o17 and 017 are 15,
    dates are text. Compared with kubectl, scalar by scalar, in tests/adapters/test_manifest.py.
    """


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|y|Y|yes|Yes|YES|on|On|ON|false|False|FALSE|n|N|no|No|NO|off|Off|OFF", "tTfFyYnNoO"),
    (
        "int",
        r"[-+]?(0b_*[01][01_]*|0o?_*[0-7][0-7_]*|0[xX]_*[0-9a-fA-F][0-9a-fA-F_]*|0_*|[1-9][0-9_]*)",
        "-+0123456789",
    ),
    ("float", r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    for _char in (*_first.replace("\0", ""), *([""] if "\0" in _first else [])):
        _Loader.yaml_implicit_resolvers.setdefault(_char, []).append(
            (f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"))
        )


def _bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return str(node.value).lower() in ("true", "y", "yes", "on")


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    text = str(node.value).replace("_", "").lower()
    digits = text.lstrip("+-")
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 8 if digits[0] == "0" else 10)
    number = int(digits.removeprefix("0o") or "0", base) * (-1 if text[0] == "-" else 1)
    return number if -(2**63) <= number < 2**64 else float(number)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float | str:
    """A whole one is the same number as an int: it comes back from the API server as one."""
    number = float(str(node.value).replace("_", ""))
    if not math.isfinite(number):
        return str(node.value)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


RESOLVERS = _Loader.yaml_implicit_resolvers


for _tag, _constructor in (("bool", _bool), ("int", _int), ("float", _float)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _constructor)
for _tag in ("binary", "timestamp", "omap", "pairs", "set"):  # nothing that JSON has
    _Loader.yaml_constructors.pop(f"tag:yaml.org,2002:{_tag}")


@lru_cache(maxsize=4)
def parse_objects(manifest: str) -> tuple[Object, ...]:
    """Every object of a rendered manifest, not to be changed by anyone. Raises RefusedError when it is not YAML.

    Kept for a few manifests: one command reads the same one many times.
    """
    try:
        documents = list(yaml.load_all(manifest, Loader=_Loader))
    except yaml.YAMLError as error:
        raise RefusedError(
            f"The rendered chart is not YAML: {_place_of(error)}.",
            "A template writes something that YAML cannot read.",
            "Look at `helm template` of the chart.",
        ) from error
    found: list[Object] = []
    for document in documents:
        found += _flat(document)
    return tuple(found)


def _flat(document: Any) -> Iterator[Object]:
    """The objects of a document, as Helm's client takes lists apart: also lists of one kind, and lists in lists."""
    if not isinstance(document, dict):
        return
    kind = str(document.get("kind"))
    if not kind.endswith("List") or not isinstance(document.get("items"), list):
        yield document
        return
    for item in document["items"]:
        if isinstance(item, dict):
            own = (
                {} if kind == "List" else {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List")}
            )
            yield from _flat({**own, **item})


def _place_of(error: yaml.YAMLError) -> str:
    """Where the fault is. What stands there, which the error quotes, may be a Secret's."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else type(error).__name__


def read_values(text: str) -> Any:
    """A values file; None where it is none, which helm says better."""
    try:
        return next(iter(yaml.load_all(text, Loader=_Loader)), None)
    except yaml.YAMLError:
        return None


def sources(manifest: str) -> dict[str, str]:
    """`KIND/NAME` of each object -> the template that Helm rendered it from, as Helm says it: `shop/templates/route.yaml`."""
    found = {}
    for part in re.split(r"^---\s*$", manifest, flags=re.MULTILINE):
        file = re.match(r"\s*# Source: (\S+)", part)
        if file:
            found.update({reference(thing): file.group(1) for thing in parse_objects(part)})
    return found


def check_values(name: str, text: str) -> None:
    """Raises UsageError where a values file sets `release`: helm would merge it into the record, pinned pods and all."""
    values = read_values(text)
    if isinstance(values, dict) and values.get("release"):
        raise UsageError(
            f"The values file {name} sets `release`, which is helm-canary's own.",
            "The record of the release, and the pod templates that a track keeps, are kept there.",
            "Take `release` out of the file; where the chart uses the name itself, it must choose another.",
        )


HOOK = "helm.sh/hook"


def events(thing: Mapping[str, Any]) -> list[str]:
    """The events at which an object is a hook of its chart; none for an ordinary object."""
    annotations = (thing.get("metadata") or {}).get("annotations") or {}
    return [word.strip().lower() for word in str(annotations.get(HOOK, "")).split(",") if word.strip()]


def is_hook(thing: Mapping[str, Any]) -> bool:
    return bool(events(thing))


def reference(thing: Mapping[str, Any]) -> str:
    """`Deployment/productpage`: how an object is named to people and in `--allow`."""
    return f"{thing.get('kind')}/{(thing.get('metadata') or {}).get('name')}"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Which objects of a chart carry the release.

    host is the DestinationRule's, fully qualified; `labels` are each subset's labels, `container` the index of the container
    that has the tag, `around` what its image has before and after the tag (`v84-alpine`); `gateways` are `namespace/name` or
    `mesh`; `hosts` are fully qualified; `ports` are the Service ports that the routes name, none where Istio chooses.

    A delegate, a VirtualService without hosts, is reached through its roots, the VirtualServices that delegate to it: hosts and
    Gateways are theirs. `all_roots`: no VirtualService that could be one is unread.
    """

    production: str
    canary: str
    service: str
    rule: str
    route: str
    namespace: str
    host: str
    port: int
    labels: tuple[tuple[str, str], ...]
    canary_labels: tuple[tuple[str, str], ...]
    gateways: tuple[str, ...]
    hosts: tuple[str, ...]
    container: int = 0
    around: tuple[str, str] = ("", "")
    ports: tuple[int, ...] = ()
    delegate: bool = False
    roots: tuple[str, ...] = ()
    all_roots: bool = False

    @property
    def unknown_callers(self) -> bool:
        """Whether other proxies than those of the known Gateways send by the weights: sidecars, or whatever roots bind."""
        return "mesh" in self.gateways or (self.delegate and not self.all_roots)

    def deployment(self, track: Track) -> str:
        return self.production if track is Track.PRODUCTION else self.canary

    def subset_labels(self, track: Track) -> dict[str, str]:
        return dict(self.labels if track is Track.PRODUCTION else self.canary_labels)

    @property
    def track_labels(self) -> frozenset[str]:
        """Label keys that tell the tracks apart; they are the chart's to set, not a version's."""
        return frozenset(key for key, _ in (*self.labels, *self.canary_labels))


def misfit(what: str, hint: str) -> RefusedError:
    return RefusedError(
        f"The chart does not fit: {what}.",
        "A canary release needs two Deployments, a Service, a DestinationRule with the subsets `production` and `canary`, and a "
        "VirtualService whose routes send to both.",
        hint,
    )


def find_shape(objects: Iterable[Object], namespace: str) -> Shape:
    """The parts of a rendered chart. Raises RefusedError that says what is missing."""
    objects = list(objects)
    rule, subsets = _rule(objects)
    host = full_host(str(rule["spec"].get("host", "")), namespace)
    deployments = {track: _deployment(objects, track, subsets[track]) for track in Track}
    if deployments[Track.PRODUCTION] is deployments[Track.CANARY]:
        raise misfit("one Deployment carries the labels of both subsets", "Give the canary a Deployment of its own.")
    service = _service(objects, host, namespace)
    route = _virtual_service(objects, host, namespace)
    return Shape(
        production=_name(deployments[Track.PRODUCTION]),
        canary=_name(deployments[Track.CANARY]),
        service=_name(service),
        rule=_name(rule),
        route=_name(route),
        namespace=namespace,
        host=host,
        port=_port(service),
        labels=tuple(sorted(subsets[Track.PRODUCTION].items())),
        canary_labels=tuple(sorted(subsets[Track.CANARY].items())),
        gateways=gateways_of(route, namespace),
        hosts=hosts_of(route, namespace),
        ports=named_ports(route, host, namespace),
        delegate=not route["spec"].get("hosts"),
    )


def full_host(host: str, namespace: str) -> str:
    """A Service's host as the proxies know it; a short name belongs to the namespace it is used in."""
    return host if "." in host or ":" in host or host == "*" else f"{host}.{namespace}.svc.cluster.local"


def hosts_of(route: Object, namespace: str) -> tuple[str, ...]:
    return tuple(full_host(str(host), namespace) for host in route["spec"].get("hosts") or ())


def gateways_of(route: Object, namespace: str) -> tuple[str, ...]:
    """`namespace/name` of each Gateway a VirtualService is bound to, and `mesh`; without a list it is `mesh` alone.

    A delegate has no hosts and is bound to none.
    """
    if not route["spec"].get("hosts"):
        return ()
    return full_gateways(route["spec"].get("gateways") or ["mesh"], namespace)


def full_gateways(names: Iterable[str], namespace: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_full_gateway(str(name), namespace) for name in names))


def _full_gateway(name: str, namespace: str) -> str:
    """As Istio's resolveGatewayName: `name`, `./name`, `namespace/name`, and the old `name.namespace.svc.cluster.local`."""
    if name == "mesh":
        return name
    where, slash, rest = name.partition("/")
    if slash:
        return f"{namespace}/{rest}" if where == "." else name
    short, dot, others = name.partition(".")
    return f"{others.partition('.')[0]}/{short}" if dot else f"{namespace}/{name}"


def _name(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def of_kind(objects: Iterable[Object], kind: str) -> list[Object]:
    """Those of one kind that have what every object has; an incomplete one is for the API server to refuse."""
    return [
        thing
        for thing in objects
        if thing.get("kind") == kind
        and (thing.get("metadata") or {}).get("name")
        and isinstance(thing.get("spec"), dict)
    ]


def _rule(objects: list[Object]) -> tuple[Object, dict[Track, dict[str, str]]]:
    for rule in of_kind(objects, "DestinationRule"):
        subsets = {entry.get("name"): entry.get("labels") or {} for entry in rule["spec"].get("subsets") or []}
        if {"production", "canary"} <= subsets.keys():
            return rule, {track: {k: str(v) for k, v in subsets[track.value].items()} for track in Track}
    raise misfit(
        "no DestinationRule has the subsets `production` and `canary`",
        "Add the two subsets, by the label that tells the Deployments apart, or see charts/productpage.",
    )


def _deployment(objects: list[Object], track: Track, labels: Mapping[str, str]) -> Object:
    fitting = [thing for thing in of_kind(objects, "Deployment") if labels.items() <= pod_labels(thing).items()]
    if len(fitting) != 1:
        shown = ", ".join(f"{key}={value}" for key, value in labels.items())
        raise misfit(
            f"{len(fitting)} Deployments have the pod labels of the subset `{track.value}` ({shown})",
            f"Exactly one Deployment must carry them: its pods are the {track.value} track.",
        )
    return fitting[0]


def pod_labels(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    template = deployment["spec"].get("template") or {}
    return (template.get("metadata") or {}).get("labels") or {}


def _service(objects: list[Object], host: str, namespace: str) -> Object:
    for service in of_kind(objects, "Service"):
        if full_host(_name(service), namespace) == host:
            return service
    raise misfit(f"no Service has the DestinationRule's host {host}", "Render the Service in the same chart.")


def _port(service: Object) -> int:
    ports = service["spec"].get("ports") or [{}]
    http = [port for port in ports if is_http(port)]
    return int((http or ports)[0].get("port", 0))


# As Istio reads a Service port (pkg/config/kube/conversion.go and pkg/config/protocol/instance.go of 1.31).
_KUBERNETES_PROTOCOLS = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}
HTTP_PROTOCOLS = frozenset({"http", "http2", "http_proxy", "grpc", "grpc-web"})
_NOT_HTTP = frozenset({"tcp", "https", "tls", "mongo", "redis", "mysql", "udp"})
# Nobody guesses at these: SMTP, DNS, MySQL and MongoDB servers speak first.
_NEVER_GUESSED = frozenset({25, 53, 3306, 27017})


def is_http(port: Mapping[str, Any]) -> bool:
    """Whether sidecars follow HTTP routes to this Service port: it says that it is HTTP, or nothing that Istio knows, so that
    Istio looks at each connection. A gateway follows them to every port that it has: there the listener decides.
    """
    return _protocol(port) in (*HTTP_PROTOCOLS, "")


def is_udp(port: Mapping[str, Any]) -> bool:
    """Whether no proxy has this Service port at all."""
    return _protocol(port) == "udp"


def _protocol(port: Mapping[str, Any]) -> str:
    """The protocol that Istio takes a Service port for; empty where it looks at each connection."""
    if str(port.get("protocol") or "TCP") == "UDP":
        return "udp"
    said = port.get("appProtocol")
    name = str(port.get("name") or "") if said is None else _KUBERNETES_PROTOCOLS.get(str(said), str(said))
    name = name.lower()
    name = "grpc-web" if name.startswith("grpc-web") else name.partition("-")[0]
    if name in HTTP_PROTOCOLS or name in _NOT_HTTP:
        return name
    return "tcp" if port.get("port") in _NEVER_GUESSED else ""


def _virtual_service(objects: list[Object], host: str, namespace: str) -> Object:
    for route in of_kind(objects, "VirtualService"):
        if weighted_routes(route, host, namespace):
            return route
    raise misfit(
        f"no VirtualService sends to both subsets of {host}",
        "Its http route needs both destinations with their weights, also the one with weight 0.",
    )


def weighted_routes(route: Object, host: str, namespace: str) -> list[dict[str, int]]:
    """Subset -> weight, for each http route of a VirtualService that sends to both subsets of this host.

    Istio adds the weights of a subset that is named twice, by other ports or headers; one that is left out is 0.
    """
    found = []
    for http in route.get("spec", {}).get("http") or []:
        weights: dict[str, int] = {}
        for entry in http.get("route") or []:
            destination = entry.get("destination") or {}
            subset = destination.get("subset")
            if full_host(str(destination.get("host", "")), namespace) == host and subset in ("production", "canary"):
                weights[subset] = weights.get(subset, 0) + _weight(entry.get("weight", 0))
        if {"production", "canary"} <= weights.keys():
            found.append(weights)
    return found


def named_ports(route: Object, host: str, namespace: str) -> tuple[int, ...]:
    """The Service ports of all destinations of this host; none where one of them names none."""
    found: dict[int, None] = {}
    for http in route["spec"].get("http") or []:
        for entry in http.get("route") or []:
            destination = entry.get("destination") or {}
            if full_host(str(destination.get("host", "")), namespace) == host:
                found[int((destination.get("port") or {}).get("number") or 0)] = None
    return () if 0 in found else tuple(found)


def weighs_both(route: Object, host: str, namespace: str) -> bool:
    """Whether an http route sends to both subsets of this host, whatever its weights are."""
    for http in route["spec"].get("http") or []:
        to = [entry.get("destination") or {} for entry in http.get("route") or []]
        ours = {one.get("subset") for one in to if full_host(str(one.get("host", "")), namespace) == host}
        if {"production", "canary"} <= ours:
            return True
    return False


def _weight(value: Any) -> int:
    if not isinstance(value, int):
        raise misfit(f"a weight of the VirtualService is {value!r}", "It must be a whole number; see `helm template`.")
    return value


# --- versions ----------------------------------------------------------------------------------------------------------


def template_of(objects: Iterable[Object], shape: Shape, track: Track) -> Object:
    """A track's pod template as rendered, without the labels that tell the tracks apart."""
    for thing in of_kind(objects, "Deployment"):
        if _name(thing) == shape.deployment(track):
            return without_track_labels(thing["spec"].get("template") or {}, shape)
    raise misfit(f"the Deployment {shape.deployment(track)} is not rendered", "Render both Deployments at every stage.")


def without_track_labels(template: Object, shape: Shape) -> Object:
    copy = cast("Object", json.loads(json.dumps(template)))
    labels = (copy.get("metadata") or {}).get("labels") or {}
    for key in shape.track_labels:
        labels.pop(key, None)
    return copy


def canonical(template: Object) -> str:
    return json.dumps(template, sort_keys=True, separators=(",", ":"))


def tag_of(template: Object, shape: Shape) -> str:
    """The tag of the version that a pod template runs: that of its image, without what the chart writes around it.

    An image named by digest alone has its digest for a tag.
    """
    image = image_of(template, shape)
    tag, (before, after) = image_tag(image), shape.around
    if tag.startswith(before) and tag.endswith(after) and len(tag) > len(before) + len(after):
        tag = tag[len(before) : len(tag) - len(after)]
    return tag or image_digest(image) or "latest"


def image_of(template: Object, shape: Shape) -> str:
    """The image of the container that has the tag."""
    containers = template["spec"]["containers"]
    return str(containers[min(shape.container, len(containers) - 1)].get("image", ""))


def image_tag(image: str) -> str:
    """A registry's port is no tag, and neither is a digest."""
    return image.partition("@")[0].rsplit("/", 1)[-1].partition(":")[2]


def image_digest(image: str) -> str:
    return image.partition("@")[2]


def holds_tag(image: str, tag: str) -> bool:
    """Whether an image's own tag has this one in it as a whole: `v84-alpine` has 84, `841` has not."""
    return tag_place(image, tag) is not None


def tag_place(image: str, tag: str) -> int | None:
    """Where in an image's own tag this one is."""
    return _place(image_tag(image), tag)


def _place(text: str, tag: str) -> int | None:
    """Where a text has the tag last, not as a part of a longer number or word."""
    if not tag:
        return None
    left, right = (r"\d" if char.isdigit() else r"[A-Za-z]" for char in (tag[0], tag[-1]))
    found = [one.start() for one in re.finditer(rf"(?<!{left})(?={re.escape(tag)}(?!{right}))", text)]
    return found[-1] if found else None


def find_container(template: Object, tag: str) -> int | None:
    """The index of the container whose image has this tag: as it is, or else with something around it."""
    containers = (template.get("spec") or {}).get("containers") or []
    images = [str(container.get("image", "")) for container in containers]
    exact = (index for index, image in enumerate(images) if tag and image_tag(image) == tag)
    within = (index for index, image in enumerate(images) if holds_tag(image, tag))
    return next(exact, next(within, None))


def locate_tag(shape: Shape, template: Object, tag: str, container: int | None = None) -> Shape:
    """The shape with the place of the tag in this pod template, which was made for the tag."""
    container = find_container(template, tag) if container is None else container
    if container is None:
        return shape
    text = image_tag(str(template["spec"]["containers"][container].get("image", "")))
    at = _place(text, tag)
    around = ("", "") if at is None else (text[:at], text[at + len(tag) :])
    return replace(shape, container=container, around=around)


def version_of(production: Object, canary: Object | None, tag: str) -> Version:
    """The version that these pod templates make. The digest is that of production's: there every version ends."""
    text = canonical(production)
    return Version(
        tag=tag,
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        production=text,
        canary=text if canary is None else canonical(canary),
    )
