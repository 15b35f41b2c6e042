"""Carries every command out in every state that can be reached, lets it die everywhere, and asks the judge each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from helm_canary.core.invariants import State, Violation, check_plan, check_state, check_step, may_go_back_at_once
from helm_canary.core.model import (
    ALL_PRODUCTION,
    Direction,
    Observed,
    Plan,
    Record,
    Refusal,
    Result,
    Role,
    Step,
    Track,
    Upgrade,
    Version,
    Wanted,
    WantedRollback,
    WantedStage,
    Watch,
)
from helm_canary.core.stages import stages_for
from tests.core import brief
from tests.core import world as sim
from tests.core.world import NEW, World

Planner = Callable[[Observed, Wanted], "Plan | Refusal"]
REFUSED, EMPTY, CHANGING, PLANNED = "refused", "empty", "changing", "planned"


class Broken(Exception):  # noqa: N818 - it is a finding, not an error of the walk
    """A rule that does not hold: its number, and how the walk came to it."""

    def __init__(self, rule: int, text: str) -> None:
        super().__init__(f"rule {rule}: {text}")
        self.rule = rule


@dataclass
class Walk:
    """One walk: a weights list, R, `--canary-replicas`, and the worlds it starts from."""

    planner: Planner
    weights: tuple[int, ...]
    replicas: int
    canary_replicas: int | None = None
    foreign: bool = False
    plans: int = 0
    refusals: int = 0
    deaths: int = 0
    steps: int = 0
    _numbers: dict[World, int] = field(default_factory=dict)
    _queue: list[World] = field(default_factory=list)
    _outcomes: dict[tuple[int, int], str] = field(default_factory=dict)
    _again: dict[tuple[int, int], str] = field(default_factory=dict)
    _dead: set[tuple[World, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.commands: list[Wanted] = [self.stage(each.number, NEW) for each in stages_for(self.weights)]
        self.commands.append(WantedRollback())

    def stage(self, number: int, version: Version) -> WantedStage:
        return WantedStage(
            number=number,
            version=version,
            weights=self.weights,
            replica_count=self.replicas,
            canary_replicas=self.canary_replicas,
        )

    @property
    def worlds(self) -> Iterable[World]:
        return self._numbers

    @property
    def states(self) -> int:
        return len(self._numbers)

    def run(self, starts: Iterable[World]) -> Walk:
        for start in starts:
            self._meet(start)
        while self._queue:
            world = self._queue.pop()
            for command in range(len(self.commands)):
                self._carry_out(world, command)
        self._check_the_same_again()
        return self

    def _meet(self, world: World, after: int | None = None, must: str = PLANNED) -> None:
        """Remember a world as one to walk from; `must` is what the command that left it must be when it is run again."""
        for met in self._as_time_passes(world):
            number = self._numbers.get(met)
            if number is None:
                number = self._numbers[met] = len(self._numbers)
                self._queue.append(met)
            if after is not None and self._again.get((number, after)) != EMPTY:
                self._again[number, after] = must if met is world else PLANNED

    def _die(self, dead: World, command: int) -> None:
        """A command died and left this world; `command` is what should go on from there."""
        if (dead, command) in self._dead:
            return
        self._dead.add((dead, command))
        for later in sim.aftermaths(dead):
            self.deaths += 1
            self._meet(later, command)

    def _as_time_passes(self, world: World) -> Iterable[World]:
        yield world
        if world.hpa and world.production.full and world.production.version is not None:
            for replicas in {1, self.replicas + 1} - {world.production.replicas}:
                yield replace(world, production=sim.ready_pods(world.production.version, replicas))

    def _carry_out(self, world: World, command: int) -> None:
        wanted = self.commands[command]
        made = self.planner(sim.observe(world), wanted)
        key = (self._numbers[world], command)
        if isinstance(made, Refusal):
            self.refusals += 1
            self._check_refusal(world, wanted, made)
            self._outcomes[key] = REFUSED
            return
        self.plans += 1
        self._outcomes[key] = CHANGING if made.changes else EMPTY
        final = self.play(world, wanted, made, command)
        if final is not None and made.changes:
            self._meet(final, command, EMPTY)

    def play(self, world: World, wanted: Wanted, made: Plan, command: int | None = None) -> World | None:
        """Judge a plan and carry it out; with `command` it also dies everywhere. None: its watch cannot succeed."""
        self._judge(check_plan(sim.observe(world), made), world, wanted, made)
        start = world
        for step in made.steps:
            self.steps += 1
            self._judge(check_step(self._truth(world), step), world, wanted, made)
            if command is not None:
                for dead in sim.deaths(world, step):
                    self._instant(world, dead, step, wanted, made)
                    self._die(dead, command)
            if isinstance(step, Watch):
                self._fail_watch(world, step, wanted, made)
                if world.production.replicas < step.replicas:
                    return None
            done = sim.after(world, step)
            self._instant(world, done, step, wanted, made)
            world = done
        if made.result in (Result.DONE, Result.NOTHING, Result.FIRST_INSTALL):
            self._check_arrival(world, wanted, made, start)
        return world

    def _fail_watch(self, world: World, watch: Watch, wanted: Wanted, made: Plan) -> None:
        """Production loses pods while it is watched. Its way out is taken where the canary can carry the traffic."""
        for left in {0, max(world.production.replicas - 1, 0)}:
            failing = replace(world, production=replace(world.production, ready=left, known=left))
            if not (watch.on_failure and world.canary.full and world.canary.replicas):
                self._meet(failing, self._goes_on(failing))
                continue
            for step in watch.on_failure:
                self._judge(check_step(self._truth(failing), step), failing, wanted, made)
                for dead in sim.deaths(failing, step):
                    self._die(dead, self._goes_on(dead))
                failing = sim.after(failing, step)
            self._meet(failing, self._goes_on(failing))

    def _goes_on(self, world: World) -> int:
        """The stage that goes on from there: finish where its record says so, else return."""
        over = world.record is not None and world.record.direction is Direction.FINISHED
        role = Role.FINISH if over else Role.RETURN
        return next(stage.number for stage in stages_for(self.weights) if stage.role is role) - 1

    # --- what must hold ------------------------------------------------------------------------------------------------

    def _truth(self, world: World) -> State:
        capacity = None if world.hpa else world.record.replicas if world.record else 0
        return sim.truth(world, capacity)

    def _instant(self, before: World, now: World, step: Step, wanted: Wanted, made: Plan) -> None:
        """No step makes an instant worse than it found it, but for the exception of rule 1."""
        if before.asked is None or (before.production, before.canary, before.asked, before.maybe) == (
            now.production,
            now.canary,
            now.asked,
            now.maybe,
        ):
            return
        if isinstance(step, Upgrade) and may_go_back_at_once(self._truth(before), step, Track.PRODUCTION):
            return
        capacity = None if before.hpa else before.record.replicas if before.record else 0
        was = {(bad.rule, bad.track) for bad in check_state(sim.truth(before, capacity))}
        worse = [bad for bad in check_state(sim.truth(now, capacity)) if (bad.rule, bad.track) not in was]
        self._judge(worse, before, wanted, made)

    def _judge(self, found: list[Violation], world: World, wanted: Wanted, made: Plan) -> None:
        if found:
            raise Broken(found[0].rule, _story(world, wanted, made, [str(each) for each in found]))

    def _check_refusal(self, world: World, wanted: Wanted, refusal: Refusal) -> None:
        if not (refusal.happened and refusal.means and refusal.do_next):
            raise Broken(7, _story(world, wanted, refusal, ["a refusal has three parts"]))
        has_previous = world.installed and world.record is not None and world.record.previous is not None
        if isinstance(wanted, WantedRollback) and has_previous:
            raise Broken(7, _story(world, wanted, refusal, ["a rollback with a previous version is never refused"]))

    def _check_arrival(self, final: World, wanted: Wanted, made: Plan, start: World) -> None:
        record, problem = final.record, None
        if isinstance(wanted, WantedRollback):
            if record is None or record.direction is not Direction.ROLLED_BACK:
                problem = "the record is not rolled back"
            elif made.changes or not self.foreign:
                problem = sim.is_at(final, record, stages_for(record.weights)[0])
        elif made.goal is not None and wanted.number > 1 and record is not None and record.previous is not None:
            over = record.direction is Direction.FINISHED and not made.changes  # its pods are the user's own again
            problem = sim.is_at(replace(final, hpa=final.hpa or over), record, made.goal)
            if made.goal.role in (Role.PROMOTE, Role.RETURN) and not final.production.full:
                problem = problem or "production is not Ready"
            if record.reached != made.goal.name:
                problem = problem or f"the record says {record.reached}"
        elif made.goal is not None and wanted.number == 1 and record is not None and record.previous is None:
            problem = _not_put_back(final, record)
        if record is not None and record.previous is not None and record.replicas < self.replicas:
            problem = problem or f"R is {record.replicas}, not {self.replicas}"
        if made.changes and not final.applied:
            problem = problem or "the newest revision is not applied"
        if problem:
            raise Broken(6, _story(start, wanted, made, ["the plan does not arrive: " + problem]))

    def _check_the_same_again(self) -> None:
        """After a death the same command goes on; after its end it finds nothing to do."""
        worlds = list(self._numbers)
        for (number, command), must in self._again.items():
            is_what = self._outcomes[number, command]
            if is_what == REFUSED or (must == EMPTY and is_what != EMPTY):
                again = self.planner(sim.observe(worlds[number]), self.commands[command])
                text = f"run again, the command is {is_what}"
                raise Broken(6, _story(worlds[number], self.commands[command], again, [text]))


def _not_put_back(final: World, record: Record) -> str | None:
    """Why this is not what the first installation left."""
    if record.direction is not Direction.FINISHED:
        return f"the record says {record.direction.value}"
    found, wanted = (final.production.version, final.asked, final.canary.replicas), (record.new, ALL_PRODUCTION, 0)
    if found != wanted:
        return f"{found} instead of {wanted}"
    return None if final.production.full else "production is not Ready"


def _story(world: World, wanted: Wanted, made: Plan | Refusal, found: list[str]) -> str:
    return "\n  ".join([*found, brief.command(wanted), str(world), *brief.outcome(made)])
