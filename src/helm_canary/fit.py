"""Whether a chart can carry a release: all that does not fit, each with the lines that make it fit. Pure.

The chart is rendered at several moments of a release (`moments`). What must be there at all of them, and what must follow the
values that a stage sets, is looked for here; what is missing is written with the chart's own names (`remedies`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from helm_canary import remedies
from helm_canary.core.model import Track
from helm_canary.errors import RefusedError
from helm_canary.manifest import (
    Object,
    Shape,
    full_host,
    gateways_of,
    hosts_of,
    named_ports,
    of_kind,
    pod_labels,
    reference,
    weighs_both,
)
from helm_canary.moments import Moment
from helm_canary.parts import (
    Parts,
    Renderings,
    carries,
    find_parts,
    follows,
    images,
    is_to,
    name_of,
    selects,
    sends_to,
    subsets_of,
)
from helm_canary.remedies import Misfit
from helm_canary.routing import obstacles

MEANS = (
    "A canary release needs two Deployments, a Service, a DestinationRule with the subsets `production` and `canary`, and a "
    "VirtualService whose routes send to both, all of them at every stage and with the values that a stage sets."
)
OTHERS = ("StatefulSet", "DaemonSet", "ReplicaSet", "Rollout", "DeploymentConfig", "Pod")
MOMENTS = {Moment.START: "while the canary has no pods and no weight", Moment.END: "while production has no weight"}


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A chart under judgement."""

    found: Renderings
    parts: Parts

    @property
    def namespace(self) -> str:
        return self.found.namespace

    @property
    def host(self) -> str:
        return full_host(remedies.service_name(self.parts), self.namespace)

    def misfit(self, what: str, do: str, thing: Object, fragment: Any = None) -> Misfit:
        file = self.found.files.get(reference(thing), "the chart")
        return remedies.change(what, do, f"{file}, {reference(thing)}", fragment)

    def new(self, what: str, name: str, thing: Any) -> Misfit:
        return remedies.addition(what, remedies.new_file(name, self.found.files.values()), thing)


def check_fit(found: Renderings) -> None:
    """Raises RefusedError with everything that does not fit."""
    misfits = list(judge(found))
    if not misfits:
        return
    places = [misfit for misfit in misfits if misfit.do != remedies.VALUES]
    said = f"{places[0].where}: {places[0].what}" if len(places) == 1 else f"{len(places)} changes are needed"
    raise RefusedError(
        f"The chart does not fit: {said}.",
        MEANS,
        "Change the templates as below, where names are this release's; docs/what-a-chart-needs.md shows a whole chart.",
        tuple(remedies.shown(misfits)),
    )


def judge(found: Renderings) -> Iterator[Misfit]:
    """Everything that does not fit, in the order in which a person would add it."""
    case = _Case(found=found, parts=find_parts(found))
    elsewhere = list(_elsewhere(case))
    if elsewhere:
        # Hosts without a namespace mean another Service there: what else does not fit is seen when this is mended.
        yield from elsewhere
        return
    if case.parts.tracks[Track.PRODUCTION] is None:
        yield from _no_deployment(case)
        return
    made = [
        *remedies.joined(_deployments(case)),
        *_service(case),
        *_rule(case),
        *_route(case),
        *_always_there(case),
    ]
    yield from made
    if any(".Values." in line for misfit in made for line in misfit.lines):
        yield remedies.values(found.files.values())


def _elsewhere(case: _Case) -> Iterator[Misfit]:
    """Parts of the release that Helm would install where no stage looks."""
    parts = case.parts
    for thing in (*parts.tracks.values(), parts.service, parts.rule, parts.route):
        other = str(((thing or {}).get("metadata") or {}).get("namespace") or case.namespace)
        if thing is not None and other != case.namespace:
            do = f"Give --namespace {other}, or set:"
            fragment = {"metadata": {"namespace": remedies.RELEASE_NAMESPACE}}
            yield case.misfit(f"its namespace is {other}, and the release's is {case.namespace}", do, thing, fragment)


# --- the Deployments ---------------------------------------------------------------------------------------------------


def _no_deployment(case: _Case) -> Iterator[Misfit]:
    other = next((thing for kind in OTHERS for thing in of_kind(case.found.objects, kind) if _is_plain(thing)), None)
    held = next(
        (one for one in of_kind(case.found.objects, "StatefulSet") if one["spec"].get("volumeClaimTemplates")), None
    )
    if other is None and held is not None:
        text = "its pods have disks of their own, and only Deployments can be released by weights"
        yield case.misfit(text, "Nothing in the chart can change that.", held)
    elif other is None:
        yield remedies.change("the chart has no Deployment", "Add the two that the page shows.", "the chart", None)
    else:
        text = f"the pods are those of a {other['kind']}, and only Deployments can be released by weights"
        yield case.misfit(text, remedies.REMOVE, other)
        for track in Track:
            made = remedies.deployment_of(other, track, case.parts)
            yield case.new(f"the chart has no Deployment of the {track.value} track", f"{track.value}.yaml", made)


def _is_plain(thing: Object) -> bool:
    return bool((thing["spec"].get("template") or {}).get("spec")) and not thing["spec"].get("volumeClaimTemplates")


def _deployments(case: _Case) -> Iterator[Misfit]:
    parts = case.parts
    for track in Track:
        own = parts.tracks[track]
        if own is None:
            production = parts.tracks[Track.PRODUCTION]
            assert production is not None
            shown = _shown(parts.labels[track])
            made = remedies.deployment_of(production, track, parts)
            yield case.new(f"no Deployment is the {track.value} track ({shown})", f"{track.value}.yaml", made)
        else:
            yield from _labels(case, track, own)
            yield from _numbers_and_images(case, track, own)
    for third in of_kind(case.found.objects, "Deployment"):
        for track in Track:
            if third not in parts.tracks.values() and carries(third, parts.labels[track]) and _is_ours(case, third):
                text = f"its pods have the labels of the {track.value} track as well ({_shown(parts.labels[track])})"
                yield case.misfit(
                    text, remedies.SET, third, remedies.labels(dict.fromkeys(parts.labels[track], name_of(third)))
                )


def _is_ours(case: _Case, third: Object) -> bool:
    """A subset has only pods of the Service; before there is a selector, any pod."""
    labels = {key: str(value) for key, value in pod_labels(third).items()}
    return case.parts.common.items() <= labels.items()


def _shown(labels: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())


def _labels(case: _Case, track: Track, own: Object) -> Iterator[Misfit]:
    """What is missing of the labels that tell the tracks apart, on the pods and in the selector."""
    parts = case.parts
    wanted = {**parts.common, **parts.labels[track]}
    selector = own["spec"].get("selector") or {}
    missing = {key: value for key, value in wanted.items() if str(pod_labels(own).get(key)) != value}
    if missing:
        other = {**parts.labels[track], **missing}
        text = f"its pods do not have the labels of the {track.value} track ({_shown(missing)})"
        yield case.misfit(text, remedies.SET, own, remedies.labels(other))
    elif selects(selector, parts.pods(track.other)):
        text = f"its selector chooses the pods of the {track.other.value} track too"
        yield case.misfit(text, remedies.SET, own, remedies.labels(parts.labels[track]))
    elif not selects(selector, parts.pods(track)):
        text = "its selector does not choose its own pods"
        yield case.misfit(text, remedies.SET, own, remedies.own_selector(parts.labels[track], parts.common))


def _numbers_and_images(case: _Case, track: Track, own: Object) -> Iterator[Misfit]:
    name = f"{track.value}Deployment.replicaCount"
    if not all(_takes_replicas(case, track, own, moment) for moment in case.found.at):
        yield case.misfit(f"it does not take its replicas from {name}", remedies.SET, own, remedies.replicas(track))
    yield from _image(case, track, own)


def _takes_replicas(case: _Case, track: Track, own: Object, moment: Moment) -> bool:
    """Replicas that a chart leaves out are no Helm's to write, as under an autoscaler."""
    probe, thing = case.found.at[moment][0], case.found.find(moment, reference(own))
    asked = probe.replicas.get(track)
    return thing is None or asked is None or "replicas" not in thing["spec"] or thing["spec"]["replicas"] == asked


def _image(case: _Case, track: Track, own: Object) -> Iterator[Misfit]:
    name = f"{track.value}Deployment.image.tag"
    following = follows(case.found, own)
    if not images(own):
        yield case.misfit("its pods have no container", "Render the containers.", own)
    elif track not in following and _shows_tag(case, track, own):
        instead = f", but from {track.other.value}Deployment.image.tag" if following else ""
        fragment = remedies.image(own, track, case.found.at[Moment.BETWEEN][0].tags[track])
        yield case.misfit(f"no container's image is rendered from {name}{instead}", remedies.SET, own, fragment)
    elif following - {track}:
        fragment = remedies.image(own, track, case.found.at[Moment.BETWEEN][0].tags[track])
        text = f"its image is rendered from {track.other.value}Deployment.image.tag too"
        yield case.misfit(text, remedies.SET, own, fragment)


def _shows_tag(case: _Case, track: Track, own: Object) -> bool:
    """Whether the Deployment was rendered with another tag of its own as well."""
    moment = Moment.END if track is Track.PRODUCTION else Moment.START
    return moment in case.found.at and case.found.find(moment, reference(own)) is not None


# --- what both tracks share --------------------------------------------------------------------------------------------


def _service(case: _Case) -> Iterator[Misfit]:
    service, parts = case.parts.service, case.parts
    if service is None:
        yield case.new("no Service is in front of both tracks", "service.yaml", remedies.service(parts))
        return
    selector = {"matchLabels": service["spec"].get("selector")}
    if not service["spec"].get("selector") or not all(selects(selector, parts.pods(track)) for track in Track):
        yield case.misfit(
            "its selector does not choose the pods of both tracks", remedies.SET, service, remedies.selector(parts)
        )
    shape = _shape(case)
    for found in obstacles([], service, shape) if shape else ():
        yield case.misfit(found.text, remedies.SET, service, remedies.ports(service))


def _rule(case: _Case) -> Iterator[Misfit]:
    rule, parts = case.parts.rule, case.parts
    host = remedies.service_name(parts)
    if rule is None:
        text = "no DestinationRule has the subsets `production` and `canary`"
        yield case.new(text, "destinationrule.yaml", remedies.rule(host, parts))
        return
    for moment, when in MOMENTS.items():
        other = case.found.find(moment, reference(rule)) if moment in case.found.at else None
        if other is not None and subsets_of(rule) and not subsets_of(other):
            text = f"it does not have both subsets {when}"
            yield case.misfit(text, remedies.SET, rule, remedies.subsets(rule, parts))
    if subsets_of(rule) != parts.labels:
        there = "; ".join(f"{track.value}: {_shown(own)}" for track, own in subsets_of(rule).items())
        text = "its subsets `production` and `canary` do not tell the two Deployments apart" + (
            f" ({there})" if there else ""
        )
        yield case.misfit(text, remedies.SET, rule, remedies.subsets(rule, parts))
    if full_host(str(rule["spec"].get("host", "")), case.namespace) != full_host(host, case.namespace):
        yield case.misfit(f"its host is not the Service {host}", remedies.SET, rule, {"spec": {"host": host}})


def _route(case: _Case) -> Iterator[Misfit]:
    route, parts = case.parts.route, case.parts
    service = remedies.service_name(parts)
    if route is None:
        made = remedies.route(service, case.found.objects)
        yield case.new(f"no VirtualService sends to both subsets of {service}", "virtualservice.yaml", made)
        return
    reasons = list(dict.fromkeys(_wrong_weights(case, route)))
    shape = _shape(case)
    reasons += [found.text for found in obstacles([route], None, shape)] if shape and not reasons else []
    if reasons:
        yield case.misfit("; ".join(reasons), remedies.SET, route, remedies.http(route, service, case.namespace))
    for other in of_kind(case.found.objects, "VirtualService"):
        for found in obstacles([other], None, shape) if shape and reference(other) != reference(route) else ():
            yield case.misfit(found.text, remedies.REMOVE, other)


def _wrong_weights(case: _Case, route: Object) -> Iterator[str]:
    for moment, (probe, _) in case.found.at.items():
        thing = case.found.find(moment, reference(route))
        if thing is not None and not weighs_both(thing, case.host, case.namespace):
            when = f" {MOMENTS[moment]}" if moment in MOMENTS else ""
            yield f"it does not send to both subsets{when}"
            if not when:
                return
        for http in (thing or {}).get("spec", {}).get("http") or []:
            if sends_to(http, case.host, case.namespace):
                asked = {track.value: probe.split.of(track) for track in Track}
                yield from _wrong(_weights(http, case), asked)


def _weights(http: Object, case: _Case) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for entry in http.get("route") or []:
        to = entry.get("destination") or {}
        if is_to(to, case.host, case.namespace):
            found.setdefault(str(to.get("subset")), []).append(entry.get("weight", 0))
    return found


def _wrong(weights: dict[str, list[Any]], asked: dict[str, int]) -> Iterator[str]:
    names = "productionDeployment.weight and canaryDeployment.weight"
    if not asked.keys() <= weights.keys():
        return
    found = {subset: weights[subset] for subset in asked}
    if any(not isinstance(one, int) or isinstance(one, bool) for ones in found.values() for one in ones):
        yield f"its weights are not the numbers of {names}"
    elif {subset: sum(ones) for subset, ones in found.items()} == dict(
        zip(asked, reversed(asked.values()), strict=True)
    ):
        if len(set(asked.values())) > 1:
            yield "its weights are swapped: production has the canary's"
    elif any(sum(ones) != asked[subset] for subset, ones in found.items()):
        yield f"it does not take its weights from {names}"


def _shape(case: _Case) -> Shape | None:
    """Where the chart's parts would be, for what judges a live VirtualService; None while it has none."""
    parts = case.parts
    production, canary = parts.tracks[Track.PRODUCTION], parts.tracks[Track.CANARY] or parts.tracks[Track.PRODUCTION]
    if parts.route is None or parts.service is None or production is None or canary is None:
        return None
    return Shape(
        production=name_of(production),
        canary=name_of(canary),
        service=name_of(parts.service),
        rule=name_of(parts.rule) if parts.rule else "",
        route=name_of(parts.route),
        namespace=case.namespace,
        host=case.host,
        port=0,
        labels=(),
        canary_labels=(),
        gateways=gateways_of(parts.route, case.namespace),
        hosts=hosts_of(parts.route, case.namespace),
        ports=named_ports(parts.route, case.host, case.namespace),
        delegate=not parts.route["spec"].get("hosts"),
    )


def _always_there(case: _Case) -> Iterator[Misfit]:
    """What is there in between, and must be at the moments when a track has no pods or no weight as well."""
    parts = case.parts
    for thing in (*parts.tracks.values(), parts.service, parts.rule, parts.route):
        if thing is None:
            continue
        when = [
            text
            for moment, text in MOMENTS.items()
            if moment in case.found.at and not case.found.find(moment, reference(thing))
        ]
        if when:
            yield case.misfit(f"it is not rendered {' and '.join(when)}", remedies.UNCONDITIONAL, thing)
