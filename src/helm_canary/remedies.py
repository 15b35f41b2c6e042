"""What makes a chart fit: for each thing that is missing the lines to add, with the chart's own names. Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from helm_canary.core.model import Track
from helm_canary.manifest import Object, image_tag, of_kind, tag_place
from helm_canary.parts import PASSING, Parts, destinations, is_to, name_of, sends_to
from helm_canary.secrecy import SENSITIVE
from helm_canary.snippets import Given, Whole, lines, value

SET = "Set:"
ADD = "Add the file:"
REMOVE = "Take it out."
UNCONDITIONAL = "Take the condition around it out."
RELEASE_NAMESPACE = Given("{{ .Release.Namespace }}")
VALUES = "Add what is not there yet:"


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """One place that does not fit: where it is, what is wrong, what to do, and the YAML to do it with."""

    where: str
    what: str
    do: str
    fragment: Mapping[str, Any] | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        return lines(self.fragment) if self.fragment else ()


def joined(misfits: Iterable[Misfit]) -> list[Misfit]:
    """What is to be set in one object, as one."""
    made: list[Misfit] = []
    for misfit in misfits:
        if made and misfit.do == made[-1].do == SET and misfit.where == made[-1].where:
            both = _merged(made[-1].fragment or {}, misfit.fragment or {})
            made[-1] = replace(made[-1], what=f"{made[-1].what}; {misfit.what}", fragment=both)
        else:
            made.append(misfit)
    return made


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {**one, **other}
    for key in one.keys() & other.keys():
        if isinstance(one[key], Mapping) and isinstance(other[key], Mapping):
            both[key] = _merged(one[key], other[key])
    return both


def change(what: str, do: str, where: str, fragment: Mapping[str, Any] | None) -> Misfit:
    return Misfit(where=where, what=what, do=do, fragment=fragment)


def addition(what: str, file: str, thing: Mapping[str, Any]) -> Misfit:
    return Misfit(where=file, what=what, do=ADD, fragment=thing)


def shown(misfits: Sequence[Misfit]) -> Iterator[str]:
    for number, misfit in enumerate(misfits, start=1):
        yield f"{number}. {misfit.where}: {misfit.what}. {misfit.do}"
        yield from (f"     {line}" for line in misfit.lines)


def new_file(name: str, files: Iterable[str]) -> str:
    """A file of the chart that is not there yet."""
    there = set(files)
    root = next((file.split("/templates/")[0] + "/" for file in sorted(there) if "/templates/" in file), "")
    path = f"{root}templates/{name}"
    return path if path not in there else f"{root}templates/released-{name}"


def values(files: Iterable[str]) -> Misfit:
    """The values that the lines take: without them in values.yaml a plain `helm upgrade` would fail."""
    root = next((file.split("/templates/")[0] + "/" for file in sorted(files) if "/templates/" in file), "")
    fragment = {
        f"{track.value}Deployment": {"replicaCount": count, "weight": weight, "image": {"tag": "0"}}
        for track, count, weight in ((Track.PRODUCTION, 1, 100), (Track.CANARY, 0, 0))
    }
    return Misfit(where=f"{root}values.yaml", what="the lines above take these values", do=VALUES, fragment=fragment)


# --- Deployments -------------------------------------------------------------------------------------------------------


def labels(own: Mapping[str, str]) -> Object:
    """Labels on a Deployment's pods and in its selector."""
    return {"spec": {"selector": {"matchLabels": dict(own)}, "template": {"metadata": {"labels": dict(own)}}}}


def own_selector(own: Mapping[str, str], common: Mapping[str, str]) -> Object:
    return {"spec": {Whole("selector"): {"matchLabels": {**common, **own}}}}


def replicas(track: Track) -> Object:
    return {"spec": {"replicas": value(track.value, "replicaCount")}}


def image(own: Object, track: Track, tag: str) -> Object:
    """The container that runs the app with the track's own tag; the repository stays what it is."""
    containers = own["spec"]["template"]["spec"]["containers"]
    return {"spec": {"template": {"spec": {"containers": [_imaged(containers, track, tag)]}}}}


def _imaged(containers: Sequence[Mapping[str, Any]], track: Track, tag: str) -> Object:
    chosen = next((one for one in containers if tag_place(str(one.get("image", "")), tag) is not None), containers[0])
    return {"name": chosen.get("name"), "image": _image_text(str(chosen.get("image", "")), track, tag)}


def _image_text(text: str, track: Track, tag: str) -> Given:
    expression, own, at = value(track.value, "image.tag"), image_tag(text), tag_place(text, tag)
    name = text.partition("@")[0]
    name = name[: len(name) - len(own) - 1] if own else name
    around = ("", "") if at is None else (own[:at], own[at + len(tag) :])
    return Given(f'"{name}:{around[0]}{expression}{around[1]}"')


def deployment_of(other: Object, track: Track, parts: Parts) -> Object:
    """A whole Deployment of a track, with the pods of another object of the chart."""
    template = copy.deepcopy(other["spec"]["template"])
    own = {**parts.common, **parts.labels[track]}
    metadata = template.setdefault("metadata", {})
    kept = {
        key: text for key, text in (metadata.get("labels") or {}).items() if key not in (*parts.labels[track], *PASSING)
    }
    metadata["labels"] = {**kept, **own}
    containers = template["spec"].get("containers") or []
    if containers:
        chosen = _imaged(containers, track, "")
        template["spec"]["containers"] = [
            _without_secrets({**one, "image": chosen["image"]} if one.get("name") == chosen["name"] else one)
            for one in containers
        ]
    name = name_of(other) + ("-canary" if track is Track.CANARY else "")
    body = {"replicas": value(track.value, "replicaCount"), "selector": {"matchLabels": own}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": body}


def _without_secrets(container: Mapping[str, Any]) -> Object:
    """A password in a variable is for nobody's log; whoever pastes the lines knows where it comes from."""
    env = [
        {**one, "value": "***"} if "value" in one and SENSITIVE.search(str(one.get("name"))) else one
        for one in container.get("env") or []
    ]
    return {**container, **({"env": env} if env else {})}


# --- what both tracks share --------------------------------------------------------------------------------------------


def service_name(parts: Parts) -> str:
    """The Service's name, or the one that it should have: that of the DestinationRule's host."""
    host = str((parts.rule or {}).get("spec", {}).get("host", ""))
    production = parts.tracks[Track.PRODUCTION]
    if parts.service:
        return name_of(parts.service)
    return host.partition(".")[0] or (name_of(production) if production else "app")


def service(parts: Parts) -> Object:
    """A Service in front of both tracks, to the first port that a container names."""
    production = parts.tracks[Track.PRODUCTION]
    containers = production["spec"]["template"]["spec"].get("containers") or [] if production else []
    found = [
        int(port["containerPort"]) for one in containers for port in one.get("ports") or [] if port.get("containerPort")
    ]
    port = {"name": "http", "port": 80, "targetPort": found[0] if found else 8080}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service_name(parts)},
        "spec": {"selector": dict(parts.common), "ports": [port]},
    }


def selector(parts: Parts) -> Object:
    return {"spec": {Whole("selector"): dict(parts.common)}}


def ports(thing: Object) -> Object:
    """The Service's ports, the first of them as one that Istio routes as HTTP."""
    there = copy.deepcopy(thing["spec"].get("ports") or [{"port": 80}])
    first = {key: text for key, text in there[0].items() if key not in ("name", "appProtocol", "protocol")}
    return {"spec": {Whole("ports"): [{"name": "http", **first}, *there[1:]]}}


def subset(track: Track, parts: Parts) -> Object:
    return {"name": track.value, "labels": dict(parts.labels[track])}


def rule(host: str, parts: Parts) -> Object:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": host},
        "spec": {"host": host, "subsets": [subset(track, parts) for track in Track]},
    }


def subsets(thing: Object, parts: Parts) -> Object:
    """The rule's subsets with the two; what else is in them stays."""
    there = copy.deepcopy(thing["spec"].get("subsets") or [])
    own = {entry.get("name"): entry for entry in there}
    both = [{**own.get(track.value, {}), **subset(track, parts)} for track in Track]
    names = {track.value for track in Track}
    return {"spec": {Whole("subsets"): [*both, *(entry for entry in there if entry.get("name") not in names)]}}


def route(host: str, objects: Iterable[Object]) -> Object:
    """A VirtualService on the chart's own Gateway, or for callers in the mesh where it has none."""
    gateway = next(iter(of_kind(objects, "Gateway")), None)
    named = [
        str(one).rpartition("/")[2]
        for server in (gateway or {}).get("spec", {}).get("servers") or []
        for one in server["hosts"]
    ]
    bound = {"gateways": [name_of(gateway)]} if gateway else {}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": host},
        "spec": {"hosts": named or [host], **bound, "http": [{"route": _pair([], host)}]},
    }


def http(thing: Object, host: str, namespace: str) -> Object:
    """All routes of a VirtualService: those to the Service send to both subsets by their weights, and mirror nothing there."""
    full = host if "." in host else f"{host}.{namespace}.svc.cluster.local"
    made = [_weighted(entry, full, host, namespace) for entry in thing["spec"].get("http") or [{}]]
    return {"spec": {Whole("http"): made}}


def _weighted(entry: Mapping[str, Any], full: str, host: str, namespace: str) -> Object:
    found = copy.deepcopy(dict(entry))
    if is_to(found.get("mirror"), full, namespace):
        for key in ("mirror", "mirrorPercentage", "mirrorPercent", "mirror_percent"):
            found.pop(key, None)
    if found.get("mirrors"):
        found["mirrors"] = [one for one in found["mirrors"] if not is_to(one.get("destination"), full, namespace)]
    if sends_to(found, full, namespace) or not found:
        own = [one for one in found.get("route") or [] if is_to(one.get("destination"), full, namespace)]
        found["route"] = _pair(own, host)
    return found


def _pair(own: Sequence[Mapping[str, Any]], host: str) -> list[Object]:
    """Both destinations with their weights; ports and headers that a route has stay."""
    made = []
    for track in Track:
        fitting = [one for one in own if destinations([one])[0].get("subset") == track.value]
        base = copy.deepcopy(dict((fitting or list(own) or [{}])[0]))
        to = {"host": host, **(base.get("destination") or {}), "subset": track.value}
        made.append({**base, "destination": to, "weight": value(track.value, "weight")})
    return made
