"""Which objects of a chart are meant to carry the release, also where the chart does not fit yet. Pure.

`manifest.find_shape` takes a chart that fits; here the parts are guessed, so that all that is missing can be said at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from helm_canary.core.model import Track
from helm_canary.manifest import Object, full_host, of_kind, pod_labels, reference, sources, weighs_both
from helm_canary.moments import Moment, Probe

# Labels of a chart's version: they are no part of a selector.
PASSING = ("helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "version", "chart", "heritage")


@dataclass(frozen=True, kw_only=True)
class Renderings:
    """What chart and values render at each moment that was asked; `manifest`: what Helm wrote for the first."""

    at: Mapping[Moment, tuple[Probe, tuple[Object, ...]]] = field(repr=False)
    namespace: str
    manifest: str = field(default="", repr=False)

    @cached_property
    def files(self) -> Mapping[str, str]:
        """Object -> template."""
        return sources(self.manifest)

    @property
    def objects(self) -> tuple[Object, ...]:
        return self.at[Moment.BETWEEN][1]

    def find(self, moment: Moment, name: str) -> Object | None:
        return next((thing for thing in self.at[moment][1] if reference(thing) == name), None)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a release in a chart. `labels` tell the tracks apart, `common` choose both tracks' pods."""

    rule: Object | None
    tracks: Mapping[Track, Object | None]
    service: Object | None
    route: Object | None
    labels: Mapping[Track, Mapping[str, str]]
    common: Mapping[str, str]
    telling: bool  # whether the labels are the rule's own

    def pods(self, track: Track) -> dict[str, str]:
        """The labels that a track's pods have, or will have when what is missing is added."""
        own = self.tracks[track] or self.tracks[track.other]
        found = {key: str(value) for key, value in (pod_labels(own) if own else {}).items()}
        return {**found, **self.common, **self.labels[track]}


def find_parts(found: Renderings) -> Parts:
    rule = _rule(found)
    subsets = subsets_of(rule)
    tracks = _tracks(found, subsets)
    labels = _telling(subsets, found)
    telling = bool(labels)
    labels = labels or _labels(tracks)
    service = _service(found, rule, tracks)
    common = _common(found, tracks, service, labels)
    return Parts(
        rule=rule,
        tracks=tracks,
        service=service,
        route=_route(found, rule, service),
        labels=labels,
        common=common,
        telling=telling,
    )


def subsets_of(rule: Object | None) -> dict[Track, dict[str, str]]:
    """The labels of both subsets of a DestinationRule, none where one of the two is not there."""
    entries = {
        entry.get("name"): entry.get("labels") or {} for entry in (rule or {}).get("spec", {}).get("subsets") or []
    }
    if not all(track.value in entries for track in Track):
        return {}
    return {track: {key: str(value) for key, value in entries[track.value].items()} for track in Track}


def _rule(found: Renderings) -> Object | None:
    """The DestinationRule with both subsets, or else the one for the host of a Service of the chart."""
    rules = of_kind(found.objects, "DestinationRule")
    hosts = {full_host(name_of(service), found.namespace) for service in of_kind(found.objects, "Service")}
    with_both = (rule for rule in rules if subsets_of(rule))
    of_service = (rule for rule in rules if full_host(str(rule["spec"].get("host", "")), found.namespace) in hosts)
    return next(with_both, next(of_service, None))


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def carries(deployment: Object, labels: Mapping[str, str]) -> bool:
    return labels.items() <= {key: str(value) for key, value in pod_labels(deployment).items()}.items()


def _tracks(found: Renderings, subsets: Mapping[Track, Mapping[str, str]]) -> dict[Track, Object | None]:
    """Each track's Deployment: by the labels of its subset, else by the tag that its image follows, else by its name."""
    every = of_kind(found.objects, "Deployment")
    labelled = {track: [one for one in every if subsets.get(track) and carries(one, subsets[track])] for track in Track}
    sure = {track: ones[0] if len(ones) == 1 else None for track, ones in labelled.items()}
    if sure[Track.PRODUCTION] is sure[Track.CANARY]:
        sure = dict.fromkeys(Track)
    for track in (Track.CANARY, Track.PRODUCTION):
        if sure[track] is None:
            pool = labelled[track] if len(labelled[track]) > 1 else every
            sure[track] = _guess([one for one in pool if one is not sure[track.other]], track, found)
    return sure


def _guess(pool: list[Object], track: Track, found: Renderings) -> Object | None:
    following = [one for one in pool if follows(found, one) == {track}]
    named = [one for one in pool if ("canary" in name_of(one)) == (track is Track.CANARY)]
    for few in (following, [one for one in named if follows(found, one)], named):
        if len(few) == 1:
            return few[0]
    return min(named, key=lambda one: len(name_of(one)), default=None)


def images(deployment: Object) -> list[str]:
    spec = (deployment["spec"].get("template") or {}).get("spec") or {}
    return [str(container.get("image", "")) for container in spec.get("containers") or []]


def follows(found: Renderings, deployment: Object) -> frozenset[Track]:
    """The tracks whose tag an image of this Deployment is rendered from."""
    changed = {Moment.START: Track.CANARY, Moment.END: Track.PRODUCTION}
    tracks = set()
    for moment, track in changed.items():
        other = found.find(moment, reference(deployment)) if moment in found.at else None
        if other is not None and images(other) != images(deployment):
            tracks.add(track)
    return frozenset(tracks)


def _telling(subsets: Mapping[Track, Mapping[str, str]], found: Renderings) -> dict[Track, dict[str, str]]:
    """The rule's labels, where they can tell two Deployments apart."""
    if not subsets or not all(subsets.values()):
        return {}
    production, canary = subsets[Track.PRODUCTION], subsets[Track.CANARY]
    every = of_kind(found.objects, "Deployment")
    apart = any(production[key] != canary[key] for key in production.keys() & canary.keys())
    carrying = [[one for one in every if carries(one, subsets[track])] for track in Track]
    exact = all(len(ones) == 1 for ones in carrying) and carrying[0] != carrying[1]
    return {track: dict(subsets[track]) for track in Track} if apart or exact else {}


def _labels(tracks: Mapping[Track, Object | None]) -> dict[Track, dict[str, str]]:
    """A label whose values differ between the two Deployments already, else one of ours."""
    pods = {track: pod_labels(one) if one else {} for track, one in tracks.items()}
    production, canary = pods[Track.PRODUCTION], pods[Track.CANARY]
    for key in ("track", "canary", "version"):
        if key in production and key in canary and production[key] != canary[key]:
            return {track: {key: str(pods[track][key])} for track in Track}
    return {track: {"track": track.value} for track in Track}


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector, with matchLabels and matchExpressions, chooses pods with these labels."""
    selector = selector or {}
    wanted = {key: str(value) for key, value in (selector.get("matchLabels") or {}).items()}
    return wanted.items() <= labels.items() and all(
        _holds(one, labels) for one in selector.get("matchExpressions") or []
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(str(expression.get("key")))
    values = [str(one) for one in expression.get("values") or []]
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def _service(found: Renderings, rule: Object | None, tracks: Mapping[Track, Object | None]) -> Object | None:
    services = of_kind(found.objects, "Service")
    host = full_host(str((rule or {}).get("spec", {}).get("host", "")), found.namespace)
    by_host = (one for one in services if full_host(name_of(one), found.namespace) == host)
    pods = [
        {key: str(value) for key, value in pod_labels(one).items()}
        for one in (tracks[Track.PRODUCTION], tracks[Track.CANARY])
        if one
    ]
    by_pods = (
        one
        for labels in pods
        for one in services
        if one["spec"].get("selector") and selects({"matchLabels": one["spec"]["selector"]}, labels)
    )
    return next(by_host, next(by_pods, None)) or (services[0] if len(services) == 1 else None)


def _common(
    found: Renderings,
    tracks: Mapping[Track, Object | None],
    service: Object | None,
    labels: Mapping[Track, Mapping[str, str]],
) -> dict[str, str]:
    """Labels that the pods of both tracks have: those of the Service's selector, else those of both, else one of ours."""
    telling = {key for track in Track for key in labels[track]}
    there = [one for one in tracks.values() if one]
    pods = [{key: str(value) for key, value in pod_labels(one).items()} for one in there]
    same = dict(set.intersection(*(set(one.items()) for one in pods))) if pods else {}
    same = {key: value for key, value in sorted(same.items()) if key not in telling and key not in PASSING}
    chosen = {key: str(value) for key, value in ((service or {}).get("spec", {}).get("selector") or {}).items()}
    if chosen and chosen.items() <= same.items():
        return chosen
    kept = {key: value for key, value in chosen.items() if same.get(key) == value}
    others = [one for one in of_kind(found.objects, "Deployment") if one not in there]
    for few in (kept, same):
        if few and not any(carries(one, few) for one in others):
            return few
    return {"service": name_of(service or there[0]) if service or there else "app"}


def _route(found: Renderings, rule: Object | None, service: Object | None) -> Object | None:
    """The VirtualService with both subsets, or else one that sends to the Service."""
    host = host_of(None if service else rule, service, found.namespace)
    routes = of_kind(found.objects, "VirtualService")
    both = (one for one in routes if weighs_both(one, host, found.namespace))
    any_of = (
        one for one in routes if any(sends_to(http, host, found.namespace) for http in one["spec"].get("http") or [])
    )
    return next(both, next(any_of, None))


def host_of(rule: Object | None, service: Object | None, namespace: str) -> str:
    host = str((rule or {}).get("spec", {}).get("host", "")) or (name_of(service) if service else "")
    return full_host(host, namespace)


def destinations(entries: Iterable[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    return [entry.get("destination") or {} for entry in entries or []]


def is_to(destination: Mapping[str, Any] | None, host: str, namespace: str) -> bool:
    return full_host(str((destination or {}).get("host", "")), namespace) == host


def sends_to(http: Mapping[str, Any], host: str, namespace: str) -> bool:
    return any(is_to(one, host, namespace) for one in destinations(http.get("route")))
