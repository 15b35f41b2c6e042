"""Observe, plan, judge, apply, observe: one command from its facts to its outcome.

Nothing is decided here that the plan does not say. Before every write the facts are read again, the write is rendered and
tried on the API server, and refused if it would do more than its step is for; after it, it is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from helm_canary.cluster import READ, Live
from helm_canary.composing import Scaling, Writing, is_kept, scalings
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
    Step,
    Track,
    TrackTarget,
    Upgrade,
    WaitReady,
    Wanted,
    WantedRollback,
    WantedStage,
    Watch,
)
from helm_canary.core.planner import plan as make_plan
from helm_canary.core.stages import has_touched_production, stages_for
from helm_canary.core.ways import way_back
from helm_canary.errors import (
    CanaryError,
    CancelledError,
    FailedError,
    FailedUnsafeError,
    RefusedError,
    ToolError,
)
from helm_canary.excess import too_much
from helm_canary.guard import compare, unwanted
from helm_canary.helm import RenderedOtherwiseError, Stored
from helm_canary.holding import Holding, PlanAnewError
from helm_canary.hooks import Hooked
from helm_canary.manifest import Object, parse_objects, reference
from helm_canary.options import Options
from helm_canary.outcome import Outcome, describe_traffic, is_healthy, traffic_of
from helm_canary.ports import Clock, ClusterPort, HelmPort, Reporter
from helm_canary.reading import Facts, Reading, installs
from helm_canary.rendering import Rendered, check_same_pods
from helm_canary.serving import NotServedError
from helm_canary.waits import WaitFailedError

# A rendering so old is made again: what `lookup` in a chart reads may have changed.
STALE_AFTER_S = 10.0
MOST_PLANS = 10
# What helm says where another one writes the same release at the same time.
ANOTHER_HELM = ("another operation", "already exists", "cannot re-use a name", "cannot reuse a name")


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
    """One command on one release, from its plan to its outcome.

    not_approved  why nothing may be changed, where an approval is wanted and is not there
    """

    options: Options
    reading: Reading
    holding: Holding
    helm: HelmPort
    cluster: ClusterPort
    clock: Clock
    report: Reporter
    by: Provenance
    explain: Callable[[ToolError], CanaryError] = lambda error: error
    not_approved: RefusedError | None = None
    changed: bool = False
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))
    _prepared: _Prepared | None = None
    _written: _Written | None = None
    _overwrites: bool = False
    _rescues: bool = False
    _version_id: str = ""

    # --- commands ----------------------------------------------------------------------------------------------------

    def stage(self) -> Outcome:
        """Bring the release to the stage that the options name."""
        rendered, facts = self.reading.for_stage()
        self._version_id = rendered.version.id
        outcome = self._run(self.wanted_stage(rendered, self.options.stage), facts)
        return replace(outcome, next_changes=self._next_changes(rendered, outcome))

    def count_canary_requests(self, outcome: Outcome) -> Outcome:
        """The outcome with what the gateways counted: a release is not stopped by it, and people want to see it."""
        if outcome.observed is None or outcome.observed.asked is None or not outcome.observed.asked.canary:
            return outcome
        assert self.reading.waits is not None
        return replace(outcome, canary_requests=self.reading.waits.requests_of(Track.CANARY))

    def _next_changes(self, rendered: Rendered, outcome: Outcome) -> bool | None:
        if outcome.observed is None or self.options.dry_run:
            return None
        following = self.options.stage + 1
        if following > len(stages_for(self.options.weights)):
            return False
        made = make_plan(outcome.observed, self.wanted_stage(rendered, following))
        return isinstance(made, Refusal) or made.changes

    def rollback(self) -> Outcome:
        """Undo the release under way, or the last finished one, with the chart that is stored in the cluster."""
        facts = self.reading.for_rollback()
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
                made = self._plan_once_others_stopped(wanted, facts)
                if made is None:
                    facts = self.reading.to_plan_again()
                    continue
                self.report.plan(made)
                if self.options.dry_run:
                    return self._outcome(replace(made, result=Result.NOTHING), facts.observed)
                try:
                    outcome = self._carry_out(made, wanted, facts)
                    self.holding.end()
                    self.holding.lease.raise_if_lost()
                    return outcome
                except PlanAnewError as error:
                    self.report.note(f"{error} Planning again.")
                    self._prepared = self._written = None
                    facts = self.reading.to_plan_again()
            raise _never_still()
        except CanaryError as error:
            error = self._why(error)
            if isinstance(error, RefusedError) and not self.changed:
                if self.reading.facts is not None and not isinstance(error, ToolError):
                    error.outcome = self._outcome(None, self.reading.facts.observed, error=error)
                raise error from None
            raise self._failed(error) from error
        finally:
            self.holding.end()

    def _plan_once_others_stopped(self, wanted: Wanted, facts: Facts) -> Plan | None:
        """A plan that may be carried out; None where the facts must be read again, because others had been at work."""
        if self.options.dry_run:
            return self.make_plan(wanted, facts)
        if self.holding.must_take_over and not self.options.of:
            self.holding.ensure(facts.stored)
            return None
        try:
            made = self.make_plan(wanted, facts)
        except RefusedError:
            if not self.holding.former_may_write:
                raise
            made = None
        if made is not None and made.changes:
            if begins_release(made, wanted, facts.observed):
                self.reading.check_ahead(facts.stored)
            if self.not_approved is not None:
                raise self.not_approved
            self._check_rights(facts)
            return made if self.holding.ensure(facts.stored) else None
        if self.holding.former_may_write:
            self.holding.await_former(facts.stored)
            return None
        return made

    def _check_rights(self, facts: Facts) -> None:
        """Raises RefusedError where a right is missing that a write would need: found in the middle it would be too late."""
        if self.reading.rules is None:
            return
        written = parse_objects(facts.stored.newest.manifest) if facts.stored.newest else ()
        live, stored = set(map(reference, facts.live.items)), set(map(reference, written))
        rendered = set(map(reference, self.reading.objects))
        # Only these kinds of the namespace are read; of others Helm's manifest says that they are there.
        own = (None, "", self.options.namespace)
        read = [
            one for one in self.reading.objects if one.get("kind") in READ and one["metadata"].get("namespace") in own
        ]
        new = [one for one in self.reading.objects if reference(one) not in (live if one in read else stored)]
        gone = [one for one in written if reference(one) not in rendered and not is_kept(one)]
        if stored:  # what a release makes a rollback takes away
            gone += [one for one in self.reading.objects if reference(one) not in stored]
        self.reading.check_rights(self.reading.objects, new, gone)
        self.reading.rules = None

    def _why(self, error: CanaryError) -> CanaryError:
        """The cause of an error: where the Lease was lost, whatever ran was ended for that, and says nothing of it."""
        if not isinstance(error, CancelledError):
            try:
                self.holding.lease.raise_if_lost()
            except RefusedError as lost:
                return lost
        return error

    def _carry_out(self, made: Plan, wanted: Wanted, facts: Facts) -> Outcome:
        self._overwrites = made.overwrites
        if made.overwrites:
            self.reading.render_what_is_stored(facts.stored)
        for number, step in enumerate(made.steps, start=1):
            self.report.step(number, len(made.steps), step)
            self._prepare(made.steps[number - 1 :])
            self._take(step)
        self._settle()
        if self.changed and isinstance(made.steps[-1], (WaitReady, Drain, Watch)):
            self.reading.again()  # these take long; the end of an upgrade, or of its proof, was just read
        facts = self.reading.facts or facts
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
                "It was changed outside of helm-canary at the same time.",
                "Run the same command again.",
            )

    def _take(self, step: Step) -> None:
        assert self.reading.waits is not None
        if not isinstance(step, Prove):
            self._settle()
        match step:
            case Upgrade():
                self._apply(step)
            case WaitReady():
                self.reading.waits.ready(step)
            case Prove():
                self.reading.waits.prove(step, meanwhile=self._settle_if_read)
                self._settle()
                self._check_served()
            case Drain():
                self.reading.waits.drain(step)
            case Watch():
                self._watch(step)

    def _check_served(self) -> None:
        """An installation is not done before a request has arrived, where one can be sent."""
        assert self.reading.facts is not None
        assert self.reading.serving is not None
        record = self.reading.facts.observed.record
        if self.options.stage == 1 and record is not None and record.direction is Direction.INSTALLING:
            self.reading.serving.check_installation(self.reading.again().live)

    def _watch(self, step: Watch) -> None:
        assert self.reading.waits is not None
        try:
            self.reading.waits.watch(step)
        except WaitFailedError as error:
            facts = self.reading.again()
            if not facts.observed.track(step.track.other).fully_ready:
                raise
            self.report.note(f"{error.happened} Its traffic goes back to the {step.track.other.value}.")
            self._rescues = True
            for rescue in step.on_failure:
                self._rescue(rescue)
            raise

    def _rescue(self, step: Step) -> None:
        """A step of the way out of a failed watch, tried again where it must be: planned anew, the failure would be forgotten."""
        for last in (False, False, True):
            try:
                self._take(step)
                return
            except PlanAnewError:
                if last:
                    raise
                self._prepared = self._written = None
                self.holding.ensure(self.reading.again().stored)

    def _prepare(self, steps: Sequence[Step]) -> None:
        """While the first of these is waited for, the upgrade after it is rendered."""
        if isinstance(steps[0], Upgrade) or self.reading.facts is None:
            return
        following = next((step for step in steps if isinstance(step, Upgrade)), None)
        if following is not None and not following.at_once:
            guess = self._completed(following, self.reading.facts)
            if self._prepared is None or self._prepared.step != guess:
                objects = self._pool.submit(self.reading.rendered_if_needed, guess)
                self._prepared = _Prepared(step=guess, began=self.clock.now(), objects=objects)

    def _apply(self, step: Upgrade) -> None:
        before = self.reading.facts
        assert before is not None
        if not step.at_once:
            step, writing = self._guarded(step, before)
        else:
            step = self._completed(step, before)
            writing = self.reading.writing(step, before.stored, ())
            if self.changed:  # else the Lease was taken a moment ago
                self.holding.lease.check()
        self._write(step, writing)
        unchecked = before.live if step.at_once else None
        self._written = _Written(step=step, reading=self._pool.submit(self.reading.read), unchecked=unchecked)

    def _completed(self, step: Upgrade, facts: Facts) -> Upgrade:
        """The step with the live replicas, and with what a rollback must know of what it changes."""
        return self.reading.completed(_with_live_replicas(step, facts), facts.stored)

    def _write(self, step: Upgrade, writing: Writing) -> None:
        """One upgrade, and the replicas that its chart leaves to the `scale` subresource: fewer before it, more after."""
        hooks = Hooked(cluster=self.cluster, clock=self.clock, report=self.report, namespace=self.options.namespace)
        assert self.reading.facts is not None
        chart, first = self.reading.hooks(), installs(self.reading.facts.stored)
        writing = hooks.await_running(step, writing, chart, installs=first, timeout_s=self.options.timeout_s)
        scales = scalings(step, self.reading.objects_of(writing), self.reading.facts.live, self.reading.known_shape)
        self._scale(scales.before)
        try:
            self._upgrade(step, writing)
        except ToolError as error:
            raise hooks.explained(error, step, chart, installs=first) from error
        self._scale(scales.after)
        forgotten = self.reading.left_behind(step, self.reading.facts.stored)
        if forgotten:
            self.cluster.delete(forgotten)

    def _scale(self, wanted: Sequence[Scaling]) -> None:
        for one in wanted:
            self.changed = self.holding.wrote = True
            if one.hold:
                self.cluster.hold_replicas(one.deployment, one.replicas)
            else:
                self.cluster.scale(one.deployment, one.replicas)

    def _upgrade(self, step: Upgrade, writing: Writing) -> None:
        changed, wrote = self.changed, self.holding.wrote
        self.changed = self.holding.wrote = True
        try:
            self.helm.upgrade(step, writing, self.reading.source)
        except RenderedOtherwiseError:
            self.changed, self.holding.wrote = changed, wrote
            raise
        except ToolError as error:
            self.holding.lease.raise_if_lost()
            if error.renewed:
                raise PlanAnewError("The API server refused Helm's token; there is another one now.") from error
            if error.is_away:
                raise PlanAnewError("The API server went away while Helm was at work.") from error
            if any(sign in error.stderr for sign in ANOTHER_HELM):
                self.holding.lease.check()  # who took over may have written before we renewed
                if self.reading.goes_back:
                    raise PlanAnewError("Another Helm was at work at the same moment.") from error
            raise

    def _settle_if_read(self) -> None:
        if self._written is not None and self._written.reading.done():
            self._settle()

    def _settle(self) -> None:
        """Rule 6: what the last upgrade wrote is read back. The proof of its weights needs no reading and runs meanwhile."""
        if self._written is not None:
            written, self._written = self._written, None
            facts = self.reading.facts_of(*written.reading.result())
            self._check_written(written.step, facts)
            if written.unchecked is not None:
                self._tell_overwritten(written.step, written.unchecked, facts)

    def _tell_overwritten(self, step: Upgrade, before: Live, after: Facts) -> None:
        """What a step that was written at once took back of other hands' changes besides its weights."""
        manifest = parse_objects(after.stored.newest.manifest) if after.stored.newest else ()
        written = {reference(thing) for thing in manifest}
        was, now = ([item for item in live.items if reference(item) in written] for live in (before, after.live))
        for difference in unwanted(compare(was, now, (), ()), step, self.reading.known_shape):
            self.report.note(f"Overwrites {difference}")

    def _guarded(self, asked: Upgrade, before: Facts) -> tuple[Upgrade, Writing]:
        """The step with the live replicas, once everything that must hold before a write was seen to hold.

        The try on the API server takes longest, so it goes with the replicas of the last reading, beside a new one.
        """
        step = self._completed(asked, before)
        rendered = self._objects_of(step)
        writing = self.reading.writing(step, before.stored, rendered)
        objects = rendered if writing.objects is None else writing.objects
        trying = self._pool.submit(self.reading.try_on_server, step, before.stored, objects)
        checking = self._pool.submit(self.holding.lease.check)
        facts = self.reading.again()
        checking.result()
        self._check_still_ours(before, facts)
        waited = self._check_readiness(step, facts.live)
        differing = trying.result()
        if waited or self._completed(asked, facts) != step:
            return self._guarded(asked, facts)
        unapplied = self.reading.unapplied(facts.stored)
        allowed = self.options.allow
        found = unwanted(differing, step, self.reading.known_shape, unapplied=unapplied, allowed=allowed)
        if found and not self._overwrites:
            raise too_much(step, found, facts.observed.record, self.reading.known_shape)
        for difference in found:
            self.report.note(f"Overwrites {difference}")
        if rendered:
            check_same_pods(step, self.reading.rendered_as_planned(step, rendered), self.reading.known_shape)
        return step, writing

    def _objects_of(self, step: Upgrade) -> tuple[Object, ...]:
        prepared, self._prepared = self._prepared, None
        if prepared and prepared.step == step and self.clock.now() - prepared.began <= STALE_AFTER_S:
            return prepared.objects.result()
        return self.reading.rendered_if_needed(step)

    def _check_still_ours(self, before: Facts, facts: Facts) -> None:
        if before.observed.revision == facts.observed.revision:
            return
        happened = (
            f"Helm revision {facts.observed.revision} was written outside of this command while it ran "
            f"(it expected {before.observed.revision})."
        )
        if self.reading.goes_back or not self.changed:
            raise PlanAnewError(happened)
        raise RefusedError(
            happened,
            "Another helm command is at work on this release.",
            "Wait until it has finished, then run the same command again.",
        )

    def _check_readiness(self, step: Upgrade, live: Live) -> bool:
        """Rule 1 once more, at the last moment and with what the proxies know; whether that had to be waited for."""
        assert self.reading.waits is not None
        assert self.reading.facts is not None
        assert self.reading.serving is not None
        observed, waited = self.reading.facts.observed, False
        if step.change is not Change.WEIGHT or observed.asked is None:
            return False
        for track in Track:
            state = observed.track(track)
            if step.split.of(track) > observed.asked.of(track) and state.version is not None:
                enough = 1 if _is_early_return(step, track) else None
                wait = WaitReady(track=track, version=state.version, replicas=max(state.replicas, 1), enough=enough)
                at_once = self.reading.waits.ready(wait, live)
                if at_once and not observed.asked.of(track) and self._holds_weight(step):
                    self.reading.serving.check_before_weight(track, state.version.id, live)
                waited |= not at_once
        return waited

    def _holds_weight(self, step: Upgrade) -> bool:
        """Whether weight waits for an answer: never where it goes back."""
        return step.record.direction is Direction.FORWARD and not self._rescues

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
            facts = self.reading.again()
            observed: Observed | None = facts.observed
            self._leave_nothing_pending(facts.stored)
        except CanaryError:
            observed, self.holding.unclean = None, self.holding.wrote
        healthy = observed is not None and is_healthy(observed)
        where = describe_traffic(observed)
        error = self.explain(error) if isinstance(error, ToolError) else error
        failure: CanaryError
        if isinstance(error, CancelledError):
            failure = CancelledError(error.happened, where, error.do_next + way_back(observed), error.details)
        else:
            kind = FailedError if healthy and not isinstance(error, NotServedError) else FailedUnsafeError
            do_next = f"{error.do_next}{way_back(observed)}"
            failure = kind(error.happened, f"{error.means} {where}".strip(), do_next, error.details)
            failure.code = error.code
        failure.outcome = self._outcome(None, observed, error=failure)
        return failure

    def _leave_nothing_pending(self, stored: Stored) -> None:
        """A Helm of ours that was ended may have left its revision pending."""
        if not self.holding.wrote or stored.newest is None or not stored.newest.pending:
            return
        try:
            self.holding.lease.raise_if_lost()
            self.helm.mark_failed(stored.newest.number)
        except CanaryError:
            self.holding.unclean = True

    def _outcome(self, made: Plan | None, observed: Observed | None, error: CanaryError | None = None) -> Outcome:
        proof = self.reading.waits.proof if self.reading.waits else "unproven"
        return Outcome(
            result=error.result if error else made.result if made else Result.FAILED,
            changed=self.changed,
            plan=made,
            observed=observed,
            traffic=traffic_of(observed),
            proof="unproven" if error else proof,
            in_flight_cut=self.reading.waits.in_flight_cut if self.reading.waits else 0,
            error=error,
            version_id=self._version_id,
        )


def begins_release(made: Plan, wanted: Wanted, observed: Observed) -> bool:
    """Whether a plan starts a new version's first pods, so that all of its release must be possible."""
    if not isinstance(wanted, WantedStage) or wanted.number != 2 or not made.changes:
        return False
    record = observed.record
    return record is None or record.new != wanted.version or record.reached == "steady"


def _never_still() -> RefusedError:
    return RefusedError(
        f"Gave up after {MOST_PLANS} attempts: the release kept changing.",
        "Another command or controller writes to it all the time.",
        "Find it with `helm history`, stop it, then run the same command again.",
    )


def _with_live_replicas(step: Upgrade, facts: Facts) -> Upgrade:
    """Rule 11: an upgrade that is not about a track's replicas writes their live count, read just now."""

    def filled(track: Track) -> TrackTarget:
        wanted = step.target(track)
        live = facts.observed.track(track).replicas
        return wanted if wanted.replicas is not None else replace(wanted, replicas=live)

    return replace(step, production=filled(Track.PRODUCTION), canary=filled(Track.CANARY))


def _is_early_return(step: Upgrade, track: Track) -> bool:
    """The exception of rule 1: back to a production that this release never changed, with one Ready pod."""
    record = step.record
    going_back = record.direction is Direction.ROLLING_BACK and record.previous is not None
    return going_back and not has_touched_production(record) and track is Track.PRODUCTION
