"""Observe, plan, judge, apply, observe: one command from its facts to its outcome.

Nothing is decided here that the plan does not say. Before every write the facts are read again, the write is rendered and
tried on the API server, and refused if it would do more than its step is for; after it, it is read back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from helm_canary.cluster import Live
from helm_canary.core.invariants import check_plan
from helm_canary.core.model import (
    Change,
    Direction,
    Drain,
    Observed,
    Plan,
    Prove,
    Provenance,
    Refusal,
    Result,
    Split,
    Step,
    Track,
    TrackTarget,
    Upgrade,
    Version,
    WaitReady,
    Wanted,
    WantedRollback,
    WantedStage,
    Watch,
)
from helm_canary.core.planner import plan as make_plan
from helm_canary.core.stages import has_touched_production
from helm_canary.errors import (
    CanaryError,
    CancelledError,
    FailedError,
    FailedUnsafeError,
    RefusedError,
    ToolError,
)
from helm_canary.guard import Difference, as_helm_applies, compare, unwanted
from helm_canary.helm import (
    NO_RECORD,
    PROBE_REPLICAS,
    PROBE_WEIGHT,
    ChartSource,
    Revision,
    Stored,
    native_arguments,
    step_arguments,
    write_chart,
    write_values,
)
from helm_canary.holding import Holding, PlanAnewError
from helm_canary.manifest import (
    Object,
    Shape,
    find_container,
    find_shape,
    parse_objects,
    reference,
    template_of,
    version_of,
    weighted_routes,
)
from helm_canary.observe import differences, observe
from helm_canary.options import Command, Options
from helm_canary.outcome import Outcome, describe_traffic, is_healthy, traffic_of
from helm_canary.ports import Clock, ClusterPort, HelmPort, LeasePort, ProxiesPort, Reporter, RequestsPort
from helm_canary.record import from_values, release_values, to_text
from helm_canary.waits import WaitFailedError, Waits

# A rendering so old is made again: what `lookup` in a chart reads may have changed.
STALE_AFTER_S = 10.0
MOST_PLANS = 10
# What helm says where another one writes the same release at the same time.
ANOTHER_HELM = ("another operation", "already exists", "cannot re-use a name")


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What chart and values render for a tag now."""

    objects: tuple[Object, ...] = field(repr=False)
    shape: Shape
    version: Version
    replica_count: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One reading of the cluster."""

    stored: Stored
    live: Live
    observed: Observed


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A rendering that began while a wait before its upgrade ran; of use for as long as `lookup` answers are fresh."""

    step: Upgrade
    began: float
    objects: Future[tuple[Object, ...]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class _Written:
    """An upgrade that Helm has done, and the reading of what came of it, on its way. `unchecked`: what was live before it."""

    step: Upgrade
    reading: Future[tuple[Stored, Live]] = field(repr=False)
    unchecked: Live | None = field(default=None, repr=False)


@dataclass
class Execution:
    """One command on one release. The ports are given; `proxies_for` makes the port once the chart's shape is known."""

    options: Options
    helm: HelmPort
    cluster: ClusterPort
    proxies_for: Callable[[Shape], ProxiesPort]
    requests: RequestsPort
    clock: Clock
    report: Reporter
    by: Provenance
    workspace: Path
    holding: Holding
    changed: bool = False
    _source: ChartSource | None = None
    _shape: Shape | None = None
    _facts: Facts | None = None
    _proxies: ProxiesPort | None = None
    _waits: Waits | None = None
    _foreign_routes: Sequence[Mapping[str, Any]] = ()
    _target: Version | None = None
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))
    _prepared: _Prepared | None = None
    _written: _Written | None = None

    # --- commands ----------------------------------------------------------------------------------------------------

    def stage(self) -> Outcome:
        """Bring the release to the stage that the options name."""
        rendered, facts = self.read_for_stage()
        return self._run(self.wanted_stage(rendered, self.options.stage), facts)

    def rollback(self) -> Outcome:
        """Undo the release under way, or the last finished one, with the chart that is stored in the cluster."""
        facts = self.read_for_rollback()
        by = self.by
        if facts.observed.record is not None:
            # The record goes on naming the chart that the release was made with, not what the caller has here.
            made = facts.observed.record.by
            by = replace(by, chart=made.chart, chart_digest=made.chart_digest, commit=made.commit)
        return self._run(WantedRollback(of=self.options.of, by=by), facts)

    def wanted_stage(self, rendered: Rendered, number: int) -> WantedStage:
        return WantedStage(
            number=number,
            version=rendered.version,
            weights=self.options.weights,
            replica_count=rendered.replica_count,
            canary_replicas=self.options.canary_replicas,
            again=self.options.again,
            by=self.by,
        )

    # --- reading -----------------------------------------------------------------------------------------------------

    def read_for_stage(self) -> tuple[Rendered, Facts]:
        """Everything a stage is planned from; the reads that do not need each other go side by side."""
        with ThreadPoolExecutor(4) as pool:
            jobs: list[Future[object]] = [pool.submit(self.helm.check_version)]
            reading = pool.submit(self._look_and_read)
            rendered = pool.submit(self._render, self.options.tag)
            self._foreign_routes = pool.submit(self.cluster.read_foreign_routes).result()
            facts_read = reading.result()
            if facts_read[0].newest is None:
                self.cluster.check_namespace()
            for job in jobs:
                job.result()
            target = rendered.result()
        self._target = target.version
        shape = self._adopt_shape(target.shape, facts_read[1], target.objects)
        shared = self._shared_changes(facts_read[0], facts_read[1], shape, target)
        return target, self._facts_of(*facts_read, shared=shared, rendered=target.objects)

    def _render(self, tag: str) -> Rendered:
        manifest = self.helm.rendered(native_arguments(tag), NO_RECORD)
        return read_rendered(manifest, tag, self.options.namespace)

    def read_for_rollback(self) -> Facts:
        """Reads for `rollback`, `status` and `verify`: the chart's shape comes from what is stored in the cluster."""
        stored, live = self._look_and_read()
        revision = stored.applied or stored.newest
        if revision is None:
            self.cluster.check_namespace()
            raise RefusedError(
                f"There is no Helm release {self.options.release!r} in the namespace {self.options.namespace!r}.",
                "It was never installed, or --release, --namespace or --context name another place.",
                "Install it with `stage 1 --tag TAG`.",
            )
        objects = parse_objects(revision.manifest)
        shape = find_shape(objects, self.options.namespace)
        tags = revision.values.get("productionDeployment") or {}
        tag = str((tags.get("image") or {}).get("tag", ""))
        if tag:
            shape = replace(shape, container=_container(objects, shape, tag))
        if self._goes_back:
            self._source = self._stored_source(stored)
        self._adopt_shape(shape, live, objects)
        return self._facts_of(stored, live)

    def _stored_source(self, stored: Stored) -> ChartSource:
        """What a rollback renders: the chart and values in the cluster; only subcharts must come from the caller."""
        revision = stored.applied or stored.newest
        assert revision is not None
        if not revision.has_subcharts:
            return write_chart(revision, self.workspace)
        record = from_values(dict(revision.values))
        made = record.by if record else Provenance()
        if not self.options.chart or self.by.chart_digest != made.chart_digest:
            raise _needs_chart(revision, made, self.options.chart)
        return write_values(revision, self.workspace, self.options.chart, self.options.chart_version)

    def _adopt_shape(self, shape: Shape, live: Live, rendered: Sequence[Object]) -> Shape:
        """Where to look from now on. The chart's own Gateway counts before it is installed: its pods run already."""
        self._shape = shape
        self._proxies = self.proxies_for(shape)
        own = [thing for thing in rendered if thing.get("kind") == "Gateway"]
        self._proxies.find([*own, *live.of_kind("Gateway")])
        return shape

    def _facts_of(
        self, stored: Stored, live: Live, *, shared: tuple[str, ...] = (), rendered: Sequence[Object] = ()
    ) -> Facts:
        shape = self._known_shape()
        observed = observe(
            stored,
            live,
            shape,
            target=self._target,
            shared=shared,
            foreign_routes=self._foreign_routes,
            rendered=rendered,
            weights=self.options.weights,
        )
        facts = Facts(stored=stored, live=live, observed=observed)
        self._facts = facts
        assert self._proxies is not None
        self._waits = self._waits or Waits(
            cluster=self.cluster,
            proxies=self._proxies,
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
        self._waits.stored = stored
        return facts

    def _read_again(self) -> Facts:
        return self._facts_of(*self._read())

    def _look_and_read(self) -> tuple[Stored, Live]:
        """The Lease first: what is read after it was seen free stays true until another command takes it."""
        if self.options.command in (Command.STAGE, Command.ROLLBACK) and not self.options.dry_run:
            self.holding.look()
        return self._read()

    def _read(self) -> tuple[Stored, Live]:
        with ThreadPoolExecutor(2) as pool:
            stored, live = pool.submit(self.helm.read), pool.submit(self.cluster.read)
            return stored.result(), live.result()

    def _shared_changes(self, stored: Stored, live: Live, shape: Shape, target: Rendered) -> tuple[str, ...]:
        """The objects that `--allow` names and that chart and values would change now; only the first canary stage asks."""
        if not self.options.allow or self.options.stage != 2 or stored.newest is None:
            return ()
        observed = observe(stored, live, shape, target=target.version)
        known = observed.production.version, observed.canary.version, observed.asked
        if observed.record is None or None in known:
            return ()
        assert observed.asked is not None
        assert observed.production.version is not None
        assert observed.canary.version is not None
        still = Upgrade(
            change=Change.SHARED,
            production=TrackTarget(version=observed.production.version, replicas=observed.production.replicas),
            canary=TrackTarget(version=observed.canary.version, replicas=observed.canary.replicas),
            split=observed.asked,
            record=observed.record,
            native=target.version,
            why="",
        )
        found = {difference.where for difference in self._try(still, stored, self._rendered(still))}
        return tuple(name for name in self.options.allow if name in found)

    # --- carrying out ------------------------------------------------------------------------------------------------

    def make_plan(self, wanted: Wanted, facts: Facts) -> Plan:
        """The plan, judged. Raises RefusedError with the planner's refusal."""
        made = make_plan(facts.observed, wanted)
        if isinstance(made, Refusal):
            raise RefusedError.of(made)
        broken = check_plan(facts.observed, made)
        if broken:
            raise RefusedError(
                "The plan that was made would break the project's own rules; nothing was changed.",
                "This is an error in helm-canary.",
                "Please report it with the lines below.",
                tuple(map(str, broken)),
            )
        return made

    def _run(self, wanted: Wanted, facts: Facts) -> Outcome:
        """Carry the plan out, holding the release where it changes something; plan anew where others had been at work."""
        try:
            for _ in range(MOST_PLANS):
                made = self.make_plan(wanted, facts)
                writes = made.changes and not self.options.dry_run
                if writes and not self.holding.ensure(facts.stored):
                    facts = self._read_again()
                    continue
                self.report.plan(made)
                if self.options.dry_run:
                    return self._outcome(replace(made, result=Result.NOTHING), facts.observed)
                try:
                    return self._carry_out(made, wanted, facts)
                except PlanAnewError as error:
                    self.report.note(f"{error} Planning anew.")
                    self._prepared = self._written = None
                    facts = self._read_again()
            raise _never_still()
        except CanaryError as error:
            if isinstance(error, RefusedError) and not self.changed:
                raise
            raise self._failed(error) from error
        finally:
            self.holding.end()

    def _carry_out(self, made: Plan, wanted: Wanted, facts: Facts) -> Outcome:
        for number, step in enumerate(made.steps, start=1):
            self.report.step(number, len(made.steps), step)
            self._prepare(made.steps[number - 1 :])
            self._take(step)
        self._settle()
        if self.changed and isinstance(made.steps[-1], (WaitReady, Drain, Watch)):
            self._read_again()  # these take long; the end of an upgrade, or of its proof, was just read
        facts = self._facts or facts
        self._check_arrived(wanted, facts)
        return self._outcome(made, facts.observed)

    def _check_arrived(self, wanted: Wanted, facts: Facts) -> None:
        """Rule 6: planned again, nothing is left to be done."""
        if not self.changed:
            return
        again = make_plan(facts.observed, wanted)
        if isinstance(again, Refusal) or again.changes:
            said = again.happened if isinstance(again, Refusal) else "; ".join(step.why for step in again.upgrades)
            raise WaitFailedError(
                f"The plan was carried out, but the cluster is not as it should be: {said}",
                "Somebody or something else changed it at the same time.",
                "Run the same command again.",
            )

    def _take(self, step: Step) -> None:
        assert self._waits is not None
        if not isinstance(step, Prove):
            self._settle()
        match step:
            case Upgrade():
                self._apply(step)
            case WaitReady():
                self._waits.ready(step)
            case Prove():
                self._waits.prove(step, meanwhile=self._settle_if_read)
                self._settle()
            case Drain():
                self._waits.drain(step)
            case Watch():
                self._watch(step)

    def _watch(self, step: Watch) -> None:
        assert self._waits is not None
        try:
            self._waits.watch(step)
        except WaitFailedError as error:
            facts = self._read_again()
            if not facts.observed.track(step.track.other).fully_ready:
                raise
            self.report.note(f"{error.happened} Its traffic goes back to the {step.track.other.value}.")
            for rescue in step.on_failure:
                self._take(rescue)
            raise

    def _prepare(self, steps: Sequence[Step]) -> None:
        """While the first of these is waited for, the upgrade after it is rendered."""
        if isinstance(steps[0], Upgrade) or self._facts is None:
            return
        following = next((step for step in steps if isinstance(step, Upgrade)), None)
        if following is not None and not following.at_once:
            guess = _with_live_replicas(following, self._facts)
            if self._prepared is None or self._prepared.step != guess:
                objects = self._pool.submit(self._rendered, guess)
                self._prepared = _Prepared(step=guess, began=self.clock.now(), objects=objects)

    def _apply(self, step: Upgrade) -> None:
        before = self._facts
        assert before is not None
        if not step.at_once:
            step = self._guarded(step, before)
        else:
            step = _with_live_replicas(step, before)
            if self.changed:  # else the Lease was taken a moment ago
                self.holding.lease.check()
        self._upgrade(step)
        unchecked = before.live if step.at_once else None
        self._written = _Written(step=step, reading=self._pool.submit(self._read), unchecked=unchecked)

    def _upgrade(self, step: Upgrade) -> None:
        self.changed = self.holding.wrote = True
        try:
            self.helm.upgrade(step, self._source)
        except ToolError as error:
            self.holding.lease.raise_if_lost()
            if error.is_away:
                raise PlanAnewError("The API server went away while Helm was at work.") from error
            if self._goes_back and any(sign in error.stderr for sign in ANOTHER_HELM):
                raise PlanAnewError("Another Helm was at work at the same moment.") from error
            raise

    @property
    def _goes_back(self) -> bool:
        return self.options.command is Command.ROLLBACK

    def _settle_if_read(self) -> None:
        if self._written is not None and self._written.reading.done():
            self._settle()

    def _settle(self) -> None:
        """Rule 6: what the last upgrade wrote is read back. The proof of its weights needs no reading and runs meanwhile."""
        if self._written is not None:
            written, self._written = self._written, None
            facts = self._facts_of(*written.reading.result())
            self._check_written(written.step, facts)
            if written.unchecked is not None:
                self._tell_overwritten(written.step, written.unchecked, facts)

    def _tell_overwritten(self, step: Upgrade, before: Live, after: Facts) -> None:
        """What a step that was written at once took back of other hands' changes besides its weights."""
        manifest = parse_objects(after.stored.newest.manifest) if after.stored.newest else ()
        written = {reference(thing) for thing in manifest}
        was, now = ([item for item in live.items if reference(item) in written] for live in (before, after.live))
        for difference in unwanted(compare(was, now, (), ()), step, self._known_shape(), ()):
            self.report.note(f"Overwrites {difference}")

    def _guarded(self, asked: Upgrade, before: Facts) -> Upgrade:
        """The step with the live replicas, once everything that must hold before a write was seen to hold.

        The try on the API server takes longest, so it goes with the replicas of the last reading, beside a new one.
        """
        step = _with_live_replicas(asked, before)
        objects = self._objects_of(step)
        trying = self._pool.submit(self._try, step, before.stored, objects)
        checking = self._pool.submit(self.holding.lease.check)
        facts = self._read_again()
        checking.result()
        self._check_still_ours(before, facts)
        waited = self._check_readiness(step, facts.live)
        differing = trying.result()
        if waited or _with_live_replicas(asked, facts) != step:
            return self._guarded(asked, facts)
        found = unwanted(differing, step, self._known_shape(), self.options.allow)
        if found and not self._goes_back:
            raise _too_much(step, found)
        for difference in found:
            self.report.note(f"Overwrites {difference}")
        _check_same_pods(step, objects, self._known_shape())
        return step

    def _objects_of(self, step: Upgrade) -> tuple[Object, ...]:
        prepared, self._prepared = self._prepared, None
        if prepared and prepared.step == step and self.clock.now() - prepared.began <= STALE_AFTER_S:
            return prepared.objects.result()
        return self._rendered(step)

    def _known_shape(self) -> Shape:
        assert self._shape is not None
        return self._shape

    def _check_still_ours(self, before: Facts, facts: Facts) -> None:
        if before.observed.revision == facts.observed.revision:
            return
        happened = (
            f"Helm revision {facts.observed.revision} was written by somebody else while this command ran "
            f"(it expected {before.observed.revision})."
        )
        if self._goes_back or not self.changed:
            raise PlanAnewError(happened)
        raise RefusedError(
            happened,
            "Two commands run for one release.",
            "Wait for the other one, look at `helm-canary status`, then run the stage again.",
        )

    def _check_readiness(self, step: Upgrade, live: Live) -> bool:
        """Rule 1 once more, at the last moment and with what the proxies know; whether that had to be waited for."""
        assert self._waits is not None
        assert self._facts is not None
        observed, waited = self._facts.observed, False
        if step.change is not Change.WEIGHT or observed.asked is None:
            return False
        for track in Track:
            state = observed.track(track)
            if step.split.of(track) > observed.asked.of(track) and state.version is not None:
                enough = 1 if _is_early_return(step, track) else None
                wait = WaitReady(track=track, version=state.version, replicas=max(state.replicas, 1), enough=enough)
                waited |= not self._waits.ready(wait, live)
        return waited

    def _rendered(self, step: Upgrade) -> tuple[Object, ...]:
        stdin = to_text({"release": release_values(step)})
        return parse_objects(self.helm.rendered(step_arguments(step), stdin, self._source))

    def _try(self, step: Upgrade, stored: Stored, objects: Sequence[Object]) -> list[Difference]:
        """What an upgrade would change, by a dry run on the API server with Helm's own field manager.

        Of an installation: what comes out otherwise when it is rendered once more.
        """
        if step.change is Change.INSTALL:
            return compare(objects, self._rendered(step), objects, objects)
        namespace = self.options.namespace
        live, would = self.cluster.dry_run(as_helm_applies(objects, self.options.release, namespace))
        written = parse_objects(stored.newest.manifest) if stored.newest else ()
        return compare(live, would, written, objects)

    def _check_written(self, step: Upgrade, facts: Facts) -> None:
        """Rule 6: what was asked is what is there."""
        observed, wrong = facts.observed, []
        if observed.asked != step.split:
            wrong.append(f"the weights are {observed.asked}, not {step.split}")
        for track in Track:
            state, target = observed.track(track), step.target(track)
            if state.version != target.version:
                wrong.append(f"{track.value} has {state.version and state.version.id}, not {target.version.id}")
            if track is step.track and target.replicas is not None and state.replicas < target.replicas:
                wrong.append(f"{track.value} has {state.replicas} replicas, not {target.replicas}")
        if wrong:
            raise WaitFailedError(
                "The upgrade was written, but read back it is not what was asked: " + "; ".join(wrong) + ".",
                "An admission webhook or another controller changes it.",
                "Find out who with `kubectl get -o yaml --show-managed-fields`, then run the same command again.",
            )

    # --- ends --------------------------------------------------------------------------------------------------------

    def _failed(self, error: CanaryError) -> CanaryError:
        """The error with where the traffic is, and the exit code that follows from it."""
        try:
            facts = self._read_again()
            observed: Observed | None = facts.observed
            self._leave_nothing_pending(facts.stored)
        except CanaryError:
            observed, self.holding.unclean = None, self.holding.wrote
        healthy = observed is not None and is_healthy(observed)
        where = describe_traffic(observed)
        failure: CanaryError
        if isinstance(error, CancelledError):
            failure = CancelledError(error.happened, where, error.do_next, error.details)
        else:
            kind = FailedError if healthy else FailedUnsafeError
            failure = kind(error.happened, f"{error.means} {where}".strip(), error.do_next, error.details)
        failure.outcome = self._outcome(None, observed, error=failure)
        return failure

    def _leave_nothing_pending(self, stored: Stored) -> None:
        """A Helm of ours that was ended may have left its revision pending."""
        if self.holding.wrote and stored.newest is not None and stored.newest.pending:
            self.holding.lease.raise_if_lost()
            self.helm.mark_failed(stored.newest.number)

    def _outcome(self, made: Plan | None, observed: Observed | None, error: CanaryError | None = None) -> Outcome:
        proof = self._waits.proof if self._waits else "unproven"
        return Outcome(
            result=error.result if error else made.result if made else Result.FAILED,
            changed=self.changed,
            plan=made,
            observed=observed,
            traffic=traffic_of(observed),
            proof="unproven" if error else proof,
            in_flight_cut=self._waits.in_flight_cut if self._waits else 0,
            error=error,
        )

    def in_force(self, asked: Split | None) -> tuple[dict[str, str], str]:
        """Per gateway pod the weights it has, and how good a proof of `asked` that is."""
        assert self._proxies is not None
        try:
            answers = self._proxies.splits().splits
        except ToolError as error:
            return {}, f"unproven ({error.happened} {error.means})"
        shown = {
            str(pod): "no answer" if found is None else " and ".join(map(str, found)) or "no route"
            for pod, found in answers.items()
        }
        everyone = self._proxies.everywhere and bool(answers)
        if not everyone or any(found != frozenset({asked}) for found in answers.values()):
            return shown, "unproven"
        return shown, "gateways" if "mesh" in self._known_shape().gateways else "proven"


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


def _never_still() -> RefusedError:
    return RefusedError(
        f"The release was changed by others each of the {MOST_PLANS} times that this command had planned.",
        "Other commands or controllers write to it all the time.",
        "Find out which with `helm history`, stop them, then run the same command again.",
    )


def _check_values_are_taken(objects: Sequence[Object], shape: Shape) -> None:
    """Raises RefusedError where weights or canary replicas are not those that were set: no step could change them."""
    found = {f"{thing.get('kind')}/{(thing.get('metadata') or {}).get('name')}": thing for thing in objects}
    weights = weighted_routes(found[f"VirtualService/{shape.route}"], shape.host, shape.namespace)
    if any(one != {"production": 100 - PROBE_WEIGHT, "canary": PROBE_WEIGHT} for one in weights):
        raise _not_taken(f"the VirtualService {shape.route} does not take its weights", "weight", "weight")
    if found[f"Deployment/{shape.canary}"]["spec"].get("replicas") != PROBE_REPLICAS:
        raise _not_taken(f"the Deployment {shape.canary} does not take its replicas", "", "replicaCount")


def _not_taken(what: str, production: str, canary: str) -> RefusedError:
    names = [f"productionDeployment.{production}"] if production else []
    where = " and ".join([*names, f"canaryDeployment.{canary}"])
    return RefusedError(
        f"The chart does not fit: {what} from {where}.",
        "The stages set these values and nothing else; with a number of its own the chart would not follow.",
        "Render the value as it is; see charts/productpage.",
    )


def read_rendered(manifest: str, tag: str, namespace: str) -> Rendered:
    """A native rendering -> its shape and version. Raises RefusedError where the chart does not fit."""
    objects = parse_objects(manifest)
    shape = find_shape(objects, namespace)
    templates = {track: template_of(objects, shape, track) for track in Track}
    shape = replace(shape, container=find_container(templates[Track.PRODUCTION], tag))
    find_container(templates[Track.CANARY], tag)
    _check_values_are_taken(objects, shape)
    production = next(t for t in objects if reference(t) == f"Deployment/{shape.production}")
    return Rendered(
        objects=tuple(objects),
        shape=shape,
        version=version_of(templates[Track.PRODUCTION], templates[Track.CANARY], shape.container),
        replica_count=int(production["spec"].get("replicas", 1)),
    )


def _needs_chart(revision: Revision, made: Provenance, given: str) -> RefusedError:
    where = f" (commit {made.commit})" if made.commit else ""
    return RefusedError(
        f"The chart {revision.chart_name} has subcharts, which Helm does not store with a release"
        + (f", and {given} is not the chart it was made with." if given else "."),
        "A rollback renders the chart that the release was made with, and in the cluster that one is not whole.",
        f"Check {made.chart or 'that chart'}{where} out, with its subcharts, and give it with --chart.",
    )


def _with_live_replicas(step: Upgrade, facts: Facts) -> Upgrade:
    """Rule 11: an upgrade that is not about a track's replicas writes their live count, read just now."""

    def filled(track: Track) -> TrackTarget:
        wanted = step.target(track)
        live = facts.observed.track(track).replicas
        return wanted if wanted.replicas is not None else replace(wanted, replicas=live)

    return replace(step, production=filled(Track.PRODUCTION), canary=filled(Track.CANARY))


def _container(objects: Sequence[Object], shape: Shape, tag: str) -> int:
    try:
        return find_container(template_of(objects, shape, Track.PRODUCTION), tag)
    except RefusedError:
        return 0


def _is_early_return(step: Upgrade, track: Track) -> bool:
    """The exception of rule 1: back to a production that this release never changed, with one Ready pod."""
    record = step.record
    going_back = record.direction is Direction.ROLLING_BACK and not has_touched_production(record)
    return going_back and track is Track.PRODUCTION


def _check_same_pods(step: Upgrade, objects: Sequence[Object], shape: Shape) -> None:
    """Raises RefusedError where chart and values do not render the version that was planned a moment ago."""
    for track in Track:
        version = step.target(track).version
        planned, now = json.loads(version.template(track)), template_of(objects, shape, track)
        if version == step.native and now != planned:
            where = f"Deployment/{shape.deployment(track)}"
            raise _unsteady(
                [
                    Difference(where=where, path=f"spec.template.{path}", live=before, would=after)
                    for path, before, after in differences(planned, now)
                ]
            )


def _unsteady(found: Sequence[Difference]) -> RefusedError:
    return RefusedError(
        "The chart renders differently each time: " + ", ".join(dict.fromkeys(one.where for one in found)) + ".",
        "`randAlphaNum`, `now`, a weight or the like is in it. Each stage renders the chart, and would change this each time.",
        "Take it out. A value that `lookup` keeps once it is there may be installed with --allow KIND/NAME.",
        tuple(map(str, found)),
    )


def _too_much(step: Upgrade, found: list[Difference]) -> RefusedError:
    names = list(dict.fromkeys(difference.where for difference in found))
    if step.change is Change.INSTALL:
        return _unsteady(found)
    hands = sorted({difference.manager for difference in found if difference.manager})
    if hands:
        return RefusedError(
            f"The step `{step.why}` would also change {', '.join(names)}, which {' and '.join(hands)} changed.",
            "Somebody or something else changed it after this release was written; going on would undo that unseen.",
            "Undo that change and run the stage again, or run `rollback`, which overwrites it.",
            tuple(map(str, found)),
        )
    return RefusedError(
        f"The step `{step.why}` would also change {', '.join(names)}.",
        "Chart or values differ from what is installed in more than the pods, the chart renders differently each time, or it "
        "does not render `release.pods` (see charts/productpage), so that production would change before its stage.",
        "Take the change back, or allow a shared object with --allow " + " --allow ".join(names) + ".",
        tuple(map(str, found)),
    )
