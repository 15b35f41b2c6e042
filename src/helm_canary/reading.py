"""Reading the cluster: everything that a command is planned from, and what an upgrade would change.

The reads that do not need each other go side by side. What was read last is kept, and so are the waits that look at it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from helm_canary.cluster import Live
from helm_canary.composing import (
    Sources,
    Writing,
    compose,
    left_behind,
    named,
    needed_early,
    remember,
    shared_changes,
    takes_from_chart,
    writing_of,
)
from helm_canary.core.model import (
    ALL_PRODUCTION,
    Change,
    Direction,
    Observed,
    Provenance,
    Shared,
    Split,
    Track,
    TrackTarget,
    Upgrade,
    Version,
)
from helm_canary.core.stages import FIRST_CANARY
from helm_canary.errors import (
    RefusedError,
    ToolError,
)
from helm_canary.guard import Difference, as_helm_applies, belongs_to_others, compare, owner_of, refused_ahead
from helm_canary.helm import (
    NO_RECORD,
    ChartSource,
    Revision,
    Stored,
    native_arguments,
    step_arguments,
    write_stub,
)
from helm_canary.holding import Holding
from helm_canary.manifest import (
    Object,
    Shape,
    find_shape,
    is_hook,
    locate_tag,
    parse_objects,
    template_of,
)
from helm_canary.observe import observe
from helm_canary.options import Command, Options
from helm_canary.ports import (
    Clock,
    ClusterPort,
    HelmPort,
    LeasePort,
    PodRequestsPort,
    ProxiesPort,
    Reporter,
    RequestsPort,
)
from helm_canary.record import release_values, to_text
from helm_canary.rendering import Rendered, check_another_image, render_fitting, unsteady
from helm_canary.revisions import INSTALLS, changed, changes_after_installation, changes_with_each_revision
from helm_canary.rights import Right, advice, needed
from helm_canary.routing import follow_roots, full_name
from helm_canary.serving import Serving
from helm_canary.waits import Waits, proof_where_all_agree

KEPT = Shared()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One reading of the cluster."""

    stored: Stored
    live: Live
    observed: Observed


@dataclass
class Reading:
    """What one command reads. The ports are given; `proxies_for` makes the port once the chart's shape is known.

    facts   the last reading of all
    source  the chart and values that are rendered; None: those of the options
    """

    options: Options
    helm: HelmPort
    cluster: ClusterPort
    proxies_for: Callable[[Shape], ProxiesPort]
    requests: RequestsPort
    pods: PodRequestsPort
    clock: Clock
    report: Reporter
    by: Provenance
    workspace: Path
    holding: Holding
    facts: Facts | None = None
    source: ChartSource | None = None
    shape: Shape | None = None
    proxies: ProxiesPort | None = None
    waits: Waits | None = None
    serving: Serving | None = None
    rules: Future[Sequence[Mapping[str, Any]]] | None = None
    objects: Sequence[Object] = ()
    _foreign_routes: Sequence[Mapping[str, Any]] = ()
    _ways_in: Sequence[Mapping[str, Any]] = ()
    _foreign_read: bool | None = None
    _target: Version | None = None
    _wanted: Rendered | None = None
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))

    def for_stage(self) -> tuple[Rendered, Facts]:
        """Everything a stage is planned from; the reads that do not need each other go side by side."""
        self.helm.build_dependencies()
        with ThreadPoolExecutor(4) as pool:
            jobs: list[Future[object]] = [pool.submit(self.helm.check_version)]
            reading = pool.submit(self._look_and_read)
            first = self.options.stage in (0, 1, 2)
            rendered = pool.submit(self._render, self.options.tag, installs=False, all_moments=first)
            foreign_routes = pool.submit(self.cluster.read_foreign_routes)
            ways_in = pool.submit(self.cluster.read_ways_in) if self.options.stage <= FIRST_CANARY else None
            facts_read = reading.result()
            if facts_read[0].newest is None:
                self.cluster.check_namespace()
            for job in jobs:
                job.result()
            target = rendered.result()
            if installs(facts_read[0]):
                # Before helm looks for each object: it would name the first right that is missing, and no other.
                self.check_rights(target.objects, () if facts_read[0].newest else target.objects, ())
                target = self._for_installation(target)
            if first:
                self._check_every_revision(target, installs=installs(facts_read[0]))
            self._take_foreign_routes(foreign_routes.result())
            self._take_ways_in(ways_in.result() if ways_in else ())
        self._target, self._wanted = target.version, target
        self._adopt_shape(target.shape, facts_read[1], target.objects)
        facts = self._facts_to_plan(*facts_read)
        check_another_image(target.version, facts.observed.production.version, target.shape)
        return target, facts

    def _facts_to_plan(self, stored: Stored, live: Live) -> Facts:
        """With what only a plan needs: of a stage, what of the shared objects it may change."""
        if self._wanted is None:
            return self.facts_of(stored, live)
        sources = self.sources(stored)
        changes = shared_changes(sources) if sources.written else Shared()
        early = needed_early(changes, sources, self._wanted.version)
        allowed = self._allowed_changes(stored, live, changes)
        facts = self.facts_of(stored, live, changes=changes, early=early, shared=allowed, rendered=self._wanted.objects)
        return self._with_service_seen(facts)

    def _with_service_seen(self, facts: Facts) -> Facts:
        """Of an installation that was not finished: whether requests arrive, where its pods are Ready."""
        observed = facts.observed
        begun = observed.record is not None and observed.record.direction is Direction.INSTALLING
        if begun and observed.production.fully_ready and self.serving and self.serving.never_served(facts.live):
            facts = replace(facts, observed=replace(observed, unserved=True))
            self.facts = facts
        return facts

    def sources(self, stored: Stored) -> Sources:
        """What a step is composed from: what is stored, and for a stage what chart and values render now."""
        written = () if installs(stored) or stored.newest is None else parse_objects(stored.newest.manifest)
        wanted = self._wanted.objects if self._wanted is not None and self.source is None else ()
        return Sources(
            written=tuple(thing for thing in written if not is_hook(thing)), wanted=wanted, shape=self.known_shape
        )

    def to_plan_again(self) -> Facts:
        return self._facts_to_plan(*self.read())

    def _take_foreign_routes(self, found: Sequence[Mapping[str, Any]] | None) -> None:
        if found is None:
            self.report.note(
                "The account is not allowed to list the VirtualServices of other namespaces: whether one of them routes to "
                "this Service is not known."
            )
        self._foreign_routes, self._foreign_read = found or (), found is not None

    def _take_ways_in(self, found: Sequence[Mapping[str, Any]] | None) -> None:
        if found is None:
            self.report.note(
                "The Ingresses or HTTPRoutes of the namespace may not be listed: whether one of them sends to the pods, whatever "
                "the weights, is not known."
            )
        self._ways_in = found or ()

    def _render(self, tag: str, *, installs: bool, all_moments: bool = False) -> Rendered:
        def render(arguments: list[str]) -> str:
            return self.helm.rendered(arguments, NO_RECORD, installs=installs)

        return render_fitting(render, tag, self.options.namespace, all_moments=all_moments)

    def check_rights(self, objects: Sequence[Object], new: Sequence[Object], gone: Sequence[Object]) -> None:
        """Raises RefusedError where the account lacks a right to write these; `new` and `gone`: see `needed`."""
        if self.rules is None:
            return
        wanted = needed(self.options.release, self.options.namespace, objects, new, gone)
        missing = self.cluster.missing(wanted, self.rules.result())
        if missing:
            raise not_allowed(missing)

    def _for_installation(self, upgraded: Rendered) -> Rendered:
        """What an installation renders. Raises RefusedError where the first upgrade would have other pods."""
        target = self._render(self.options.tag, installs=True)
        if target.version != upgraded.version:
            again = self._render(self.options.tag, installs=True)
            if differing := compare(target.objects, again.objects, target.objects, target.objects):
                raise unsteady(differing)
            names = [f"Deployment/{target.shape.deployment(track)}" for track in Track]
            raise changes_after_installation(names, self.helm.lines_with(INSTALLS))
        return target

    def _check_every_revision(self, target: Rendered, *, installs: bool) -> None:
        """Raises RefusedError where the chart renders an object otherwise in each revision: then no check holds."""
        arguments = native_arguments(self.options.tag)
        text, lines = self.helm.rendered_with_another_revision(arguments, NO_RECORD, installs=installs)
        other = [thing for thing in parse_objects(text) if not is_hook(thing)] if lines else target.objects
        names = changed(target.objects, other, self.options.namespace)
        if names:
            raise changes_with_each_revision(names, lines)

    def check_ahead(self, stored: Stored) -> None:
        """Raises RefusedError where the API server refuses what a later stage of a release that begins now would write.

        A selector that cannot change, an object that belongs to somebody else, a policy: said before anything is written.
        """
        sources = self.sources(stored)
        again = self._render(self.options.tag, installs=False)
        differing = compare(sources.wanted, again.objects, sources.wanted, sources.wanted)
        if differing:
            raise unsteady(differing)
        changes = shared_changes(sources)
        names = {*changes.create, *changes.change, *sources.tracks()}
        objects = [thing for thing in sources.wanted if named(thing, sources.namespace) in names]
        release, namespace = self.options.release, self.options.namespace
        try:
            live, _ = self.cluster.dry_run(as_helm_applies(objects, release, namespace))
        except ToolError as error:
            raise refused_ahead(error) from error
        foreign = [
            named(item, namespace)
            for item in live
            if named(item, namespace) in changes.create and owner_of(item) != (release, namespace)
        ]
        if foreign:
            raise belongs_to_others(foreign, release)

    def for_rollback(self) -> Facts:
        """Reads for `rollback`, `status` and `verify`: the chart's shape comes from what is stored in the cluster."""
        stored, live = self._look_and_read()
        revision = stored.applied or stored.newest
        if revision is None:
            self.cluster.check_namespace()
            raise _not_there(self.options, stored.uninstalled)
        objects = parse_objects(revision.manifest)
        shape = find_shape(objects, self.options.namespace)
        shape = locate_tag(shape, template_of(objects, shape, Track.PRODUCTION), revision.tag(Track.PRODUCTION))
        if self.goes_back:
            self.render_what_is_stored(stored)
        self._adopt_shape(shape, live, objects)
        return self.facts_of(stored, live)

    def render_what_is_stored(self, stored: Stored) -> None:
        """From now on the chart and values in the cluster are rendered, not the caller's."""
        if self.source is None:
            self.source = self._stored_source(stored)

    def _stored_source(self, stored: Stored) -> ChartSource:
        """What a rollback gives Helm: name, version and values that are stored; its objects are composed, not rendered."""
        revision = stored.applied or stored.newest
        assert revision is not None
        return write_stub(revision, self.workspace)

    def _adopt_shape(self, shape: Shape, live: Live, rendered: Sequence[Object]) -> Shape:
        """Where to look from now on. The chart's own Gateway counts before it is installed: its pods run already."""
        shape = self._with_roots(shape, live, rendered)
        self.shape, self.objects = shape, rendered
        self.proxies = self.proxies_for(shape)
        own = [thing for thing in rendered if thing.get("kind") == "Gateway"]
        self.proxies.find([*own, *live.of_kind("Gateway")])
        for name in (name for name, gateway in self.proxies.gateways.items() if gateway is None):
            self.report.note(f"The VirtualService {shape.route} names the Gateway {name}, which does not exist.")
        return shape

    def _with_roots(self, shape: Shape, live: Live, rendered: Sequence[Object]) -> Shape:
        """A delegate's hosts and Gateways: of the VirtualServices that delegate to it, there already or in the same chart."""
        if not shape.delegate:
            return shape
        if self._foreign_read is None:
            self._take_foreign_routes(self.cluster.read_foreign_routes())
        there = [*live.of_kind("VirtualService"), *self._foreign_routes]
        names = {full_name(route, shape.namespace) for route in there}
        own = [thing for thing in rendered if thing.get("kind") == "VirtualService"]
        new = [route for route in own if full_name(route, shape.namespace) not in names]
        return follow_roots(shape, [*there, *new], all_read=bool(self._foreign_read))

    def facts_of(
        self,
        stored: Stored,
        live: Live,
        *,
        changes: Shared = KEPT,
        early: tuple[str, ...] = (),
        shared: Shared = KEPT,
        rendered: Sequence[Object] = (),
    ) -> Facts:
        shape = self.known_shape
        assert self.proxies is not None
        observed = observe(
            stored,
            live,
            shape,
            target=self._target,
            changes=changes,
            early=early,
            shared=shared,
            foreign_routes=self._foreign_routes,
            rendered=rendered,
            weights=self.options.weights,
            gateways=self.proxies.gateways,
            release=self.options.release,
            ways_in=self._ways_in,
        )
        facts = Facts(stored=stored, live=live, observed=observed)
        self.facts = facts
        self.waits = self.waits or Waits(
            cluster=self.cluster,
            proxies=self.proxies,
            requests=self.requests,
            clock=_WatchfulClock(self.clock, self.holding.lease),
            report=self.report,
            shape=shape,
            stored=stored,
            timeout_s=self.options.timeout_s,
            drain_s=self.options.drain_s,
            mode=self.options.proof,
            target=self._target,
        )
        self.waits.stored = stored
        self.serving = self.serving or Serving(
            proxies=self.proxies,
            pods=self.pods,
            clock=self.waits.clock,
            report=self.report,
            shape=shape,
            path=self.options.path,
            mode=self.options.proof,
        )
        return facts

    def again(self) -> Facts:
        return self.facts_of(*self.read())

    def _look_and_read(self) -> tuple[Stored, Live]:
        """The Lease first: what is read after it was seen free stays true until another command takes it."""
        if self.options.command in (Command.STAGE, Command.ROLLBACK) and not self.options.dry_run:
            self.rules = self._pool.submit(self.cluster.read_rules)
            self.holding.look()
        return self.read()

    def read(self) -> tuple[Stored, Live]:
        with ThreadPoolExecutor(2) as pool:
            stored, live = pool.submit(self.helm.read), pool.submit(self.cluster.read)
            return stored.result(), live.result()

    def _allowed_changes(self, stored: Stored, live: Live, changes: Shared) -> Shared:
        """What `--allow` names and would change now, by chart, values or other hands; only the first canary stage asks.

        A track's Deployment is none of it, whoever allows it.
        """
        if not self.options.allow or self.options.stage != 2 or self._wanted is None or stored.newest is None:
            return KEPT
        sources = self.sources(stored)
        allowed = tuple(name for name in self.options.allow if name not in sources.tracks())
        other = tuple(name for name in allowed if name not in changes.names)
        edited = self._edited(stored, live, self._wanted.version, other) if other else ()
        found = changes.only(allowed)
        return replace(found, change=(*found.change, *edited))

    def _edited(self, stored: Stored, live: Live, target: Version, names: Sequence[str]) -> tuple[str, ...]:
        """Those of these objects that are not as they are stored."""
        observed = observe(stored, live, self.known_shape, target=target)
        # A VirtualService that was deleted is written again with these weights by stage 2.
        asked = ALL_PRODUCTION if observed.route_missing else observed.asked
        production, canary = observed.production.version, observed.canary.version
        if observed.record is None or asked is None or production is None or canary is None:
            return ()
        still = Upgrade(
            change=Change.SHARED,
            production=TrackTarget(version=production, replicas=observed.production.replicas),
            canary=TrackTarget(version=canary, replicas=observed.canary.replicas),
            split=asked,
            record=observed.record,
            native=target,
            why="",
        )
        differing = self.try_on_server(still, stored, compose(still, self.sources(stored)))
        found = {difference.where for difference in differing}
        return tuple(name for name in names if name in found)

    @property
    def known_shape(self) -> Shape:
        assert self.shape is not None
        return self.shape

    def rendered(self, step: Upgrade) -> tuple[Object, ...]:
        """What the chart renders with a step's own values."""
        stdin = to_text({"release": release_values(step)})
        first = step.change is Change.INSTALL and self.facts is not None and installs(self.facts.stored)
        text = self.helm.rendered(step_arguments(step), stdin, installs=first)
        return tuple(thing for thing in parse_objects(text) if not is_hook(thing))

    def rendered_as_planned(self, step: Upgrade, rendered: tuple[Object, ...]) -> tuple[Object, ...]:
        """What the chart renders now of the planned version, where a step's own values already gave `rendered`.

        Before promote these give production its old tag. A chart with the tag in a ConfigMap's labels and that ConfigMap's
        checksum on the pods renders other pods by it, so it is rendered once more with the new tag on both tracks.
        """
        if step.production.version.tag == step.canary.version.tag:
            return rendered
        return self._render(self.options.tag, installs=False).objects

    def rendered_if_needed(self, step: Upgrade) -> tuple[Object, ...]:
        return self.rendered(step) if takes_from_chart(step) else ()

    def completed(self, step: Upgrade, stored: Stored) -> Upgrade:
        """The step whose record holds what a rollback will put back."""
        return remember(step, self.sources(stored))

    def writing(self, step: Upgrade, stored: Stored, rendered: Sequence[Object]) -> Writing:
        """What Helm is let write; with a chart that is not rendered the release keeps its hooks."""
        made = writing_of(step, self.sources(stored), rendered, self.options.allow)
        if self.source is None or stored.newest is None:
            return made
        hooks = (thing for text in stored.newest.hooks for thing in parse_objects(text))
        return replace(made, stored=tuple(hooks))

    def left_behind(self, step: Upgrade, stored: Stored) -> tuple[Object, ...]:
        """What Helm would forget to delete in this step."""
        applied = stored.newest is None or stored.newest.applied
        return left_behind(step, self.sources(stored), applied=applied)

    def objects_of(self, writing: Writing) -> tuple[Object, ...]:
        """What is written; of an installation, what the chart renders."""
        wanted = self._wanted.objects if self._wanted is not None else ()
        return wanted if writing.objects is None else writing.objects

    def hooks(self) -> tuple[Object, ...]:
        """The hooks of the chart that is released."""
        return self._wanted.hooks if self._wanted is not None else ()

    def try_on_server(self, step: Upgrade, stored: Stored, objects: Sequence[Object]) -> list[Difference]:
        """What an upgrade would change, by a dry run on the API server with Helm's own field manager.

        Of an installation: what comes out otherwise when it is rendered once more.
        """
        if step.change is Change.INSTALL:
            return compare(objects, self.rendered(step), objects, objects)
        namespace = self.options.namespace
        live, would = self.cluster.dry_run(as_helm_applies(objects, self.options.release, namespace))
        seen = self.facts.live.items if self.facts else ()
        return compare(live, would, self.sources(stored).written, objects, seen)

    def unapplied(self, stored: Stored) -> tuple[str, ...]:
        """The objects of a newest revision that Helm did not apply whole."""
        if stored.newest is None or stored.newest.applied:
            return ()
        return tuple(named(thing, self.options.namespace) for thing in self.sources(stored).written)

    def in_force(self, asked: Split | None) -> tuple[dict[str, str], str]:
        """Per gateway pod the weights it has, and how good a proof of `asked` that is."""
        assert self.proxies is not None
        try:
            answers = self.proxies.splits().splits
        except ToolError as error:
            return {}, f"unproven ({error.happened} {error.means})"
        shown = {
            str(pod): "no answer" if found is None else " and ".join(map(str, found)) or "no route"
            for pod, found in answers.items()
        }
        if not answers or any(found != frozenset({asked}) for found in answers.values()):
            return shown, "unproven"
        return shown, proof_where_all_agree(self.proxies, self.known_shape)

    @property
    def goes_back(self) -> bool:
        return self.options.command is Command.ROLLBACK


@dataclass(frozen=True)
class _WatchfulClock:
    """A clock for waits that end when the Lease is lost."""

    clock: Clock
    lease: LeasePort

    def now(self) -> float:
        return self.clock.now()

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.lease.raise_if_lost()


def installs(stored: Stored) -> bool:
    """Whether Helm's next upgrade is an installation."""
    return stored.newest is None


def not_allowed(missing: Sequence[Right]) -> RefusedError:
    return RefusedError(
        f"The account is not allowed to {', '.join(dict.fromkeys(map(str, missing)))}.",
        "Helm or this command needs it for the release, and would stop in the middle without it.",
        advice(missing),
    )


def _not_there(options: Options, uninstalled: Revision | None) -> RefusedError:
    where = f"{options.release!r} in the namespace {options.namespace!r}"
    if uninstalled is not None:
        return RefusedError(
            f"The Helm release {where} was uninstalled: nothing of it serves.",
            f"Helm keeps its history, up to revision {uninstalled.number}, because of `helm uninstall --keep-history`.",
            "Install it again with `stage 1 --tag TAG`.",
        )
    return RefusedError(
        f"There is no Helm release {where}.",
        "It was never installed, or --release, --namespace or --context name another place.",
        "Correct --release, --namespace or --context; where it is to be installed, run `stage 1 --tag TAG`.",
    )
