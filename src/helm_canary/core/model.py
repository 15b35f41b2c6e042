"""The words of a release as frozen values.

Nothing here reads a cluster or decides anything: `cluster.py`, `helm.py` and `proxies.py` make these values from what
they read, `planner.py` turns them into a `Plan` or a `Refusal`, `invariants.py` judges both. Pod templates travel
along as opaque text, so that the planner can compare versions without knowing what a pod is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Track(str, Enum):
    """One of the two Deployments of a service."""

    PRODUCTION = "production"
    CANARY = "canary"

    @property
    def other(self) -> Track:
        return Track.CANARY if self is Track.PRODUCTION else Track.PRODUCTION


@dataclass(frozen=True, kw_only=True)
class Version:
    """What a track's pods are made of. Two versions are the same when tag and digest are.

    `production` and `canary` hold the pod template that Helm renders for that track, as canonical JSON without the
    labels that tell the tracks apart; they take no part in comparison, because the digest stands for them.
    """

    tag: str
    digest: str
    production: str = field(default="", compare=False, repr=False)
    canary: str = field(default="", compare=False, repr=False)

    @property
    def id(self) -> str:
        """The release id, `84-1f3a9c`: short enough for a job's name."""
        return f"{self.tag}-{self.digest[:6]}"

    def template(self, track: Track) -> str:
        return self.production if track is Track.PRODUCTION else self.canary

    def __str__(self) -> str:
        return self.tag


@dataclass(frozen=True, kw_only=True)
class Split:
    """Weights in percent. Whether they sum to 100 is for the judge to say: a person may have written others."""

    production: int
    canary: int

    @classmethod
    def of_canary(cls, canary_percent: int) -> Split:
        return cls(production=100 - canary_percent, canary=canary_percent)

    def of(self, track: Track) -> int:
        return self.production if track is Track.PRODUCTION else self.canary

    def __str__(self) -> str:
        return f"{self.production}/{self.canary}"


ALL_PRODUCTION = Split(production=100, canary=0)
ALL_CANARY = Split(production=0, canary=100)


class Direction(str, Enum):
    """Where a release is heading, as the record remembers it."""

    INSTALLING = "installing"
    FORWARD = "forward"
    FINISHED = "finished"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"


class Role(str, Enum):
    """What a stage is for; every list of weights is made of these."""

    STEADY = "steady"
    CANARY = "canary"
    PROMOTE = "promote"
    RETURN = "return"
    FINISH = "finish"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One line of the stage table: what is true of each track when the stage is reached.

    `production_is_new` and `canary_is_new` say which of previous and new the track runs; `canary_sized_for_percent`
    is the weight that the canary's replicas are reckoned from, or None where it has none.
    """

    number: int
    name: str
    role: Role
    production_is_new: bool
    canary_is_new: bool
    split: Split
    canary_sized_for_percent: int | None

    def is_new(self, track: Track) -> bool:
        return self.production_is_new if track is Track.PRODUCTION else self.canary_is_new

    def __str__(self) -> str:
        return f"{self.number} ({self.name})"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who carries a command out, for the record: account, run URL, approver, comment, UTC time, commit, chart."""

    who: str = ""
    run: str = ""
    approver: str = ""
    comment: str = ""
    at: str = ""
    commit: str = ""
    chart: str = ""
    chart_digest: str = ""


@dataclass(frozen=True, kw_only=True)
class Past:
    """One line of the record's history."""

    id: str
    outcome: str
    run: str = ""
    at: str = ""

    @property
    def tag(self) -> str:
        return self.id.rsplit("-", 1)[0]


HISTORY_LIMIT = 20


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What happens to objects that both tracks share, each `KIND/NAME`: an upgrade does it, or chart and values ask for it.

    create, change  as chart and values render them now
    remove          taken away, because they are not rendered any more, or were made by a release that is undone
    restore         as they were before the release
    """

    create: tuple[str, ...] = ()
    change: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.create, *self.change, *self.remove, *self.restore)

    def only(self, names: tuple[str, ...]) -> Shared:
        """The part of it that is about these objects."""
        return self._of(lambda name: name in names)

    def without(self, names: tuple[str, ...]) -> Shared:
        return self._of(lambda name: name not in names)

    def _of(self, holds: Callable[[str], bool]) -> Shared:
        parts = (self.create, self.change, self.remove, self.restore)
        create, change, remove, restore = (tuple(filter(holds, names)) for names in parts)
        return Shared(create=create, change=change, remove=remove, restore=restore)


WORKLOADS = ("Deployment",)


def workloads(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of these objects that have pods of their own."""
    return tuple(name for name in names if name.split("/", 1)[0] in WORKLOADS)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the Helm release's own values remember of the release under way.

    `reached` and `toward` are stage names; `replicas` is R; `canary_replicas` what `--canary-replicas` asked, or None;
    `watched` whether production was watched through its whole time at `return`; `since` when `reached` was written;
    `shared` the shared objects that this release changed by permission, which a rollback leaves as they are; `created`,
    `moved`, `removed` those that it made, changed at promote and took away, which a rollback undoes, and `before` what these
    were, as text that only `composing` reads.
    """

    direction: Direction
    previous: Version | None
    new: Version
    reached: str
    toward: str
    weights: tuple[int, ...]
    replicas: int
    canary_replicas: int | None = None
    watched: bool = False
    shared: tuple[str, ...] = ()
    created: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    before: str = field(default="", repr=False)
    since: str = ""
    by: Provenance = Provenance()
    history: tuple[Past, ...] = ()

    @property
    def under_way(self) -> bool:
        return self.direction in (Direction.INSTALLING, Direction.FORWARD, Direction.ROLLING_BACK)


@dataclass(frozen=True, kw_only=True)
class TrackState:
    """One track as it stands. `version` None: there is no such Deployment.

    replicas    what its `spec.replicas` asks
    pods        pods that exist, of whatever version, terminating ones left out
    ready       pods that are updated to the Deployment's template and available
    endpoints   the fewest healthy endpoints of the subset that a readable gateway proxy lists; None: none was readable
    settled     the controller has seen the newest generation and no pod of an older template is left
    """

    version: Version | None
    replicas: int = 0
    pods: int = 0
    ready: int = 0
    endpoints: int | None = None
    settled: bool = True

    @property
    def serving(self) -> int:
        """Pods that are Ready and known to the proxies, where those can be asked."""
        return self.ready if self.endpoints is None else min(self.ready, self.endpoints)

    @property
    def fully_ready(self) -> bool:
        return self.version is not None and self.settled and self.serving >= self.replicas > 0


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A live field that is not what the release last wrote: where, what was found, what was expected, and by whom.

    gone  the whole object is not there, and without it nothing reaches the pods
    """

    where: str
    found: str
    expected: str
    manager: str = ""
    at: str = ""
    gone: bool = False


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why no stage may be planned at all, as a part of a sentence, and what takes it away without harm to anybody's traffic."""

    text: str
    do_next: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Everything the planner may know.

    installed    a Helm release of this name exists
    uninstalled  there was one, and Helm remembers it: `helm uninstall --keep-history`
    uninstalling Helm deletes its objects, or died over it
    ever_ready   its installation was Ready once
    unserved     it was not finished, and no request reaches it though its pods are Ready
    revision     newest Helm revision, 0 where there is none
    applied      Helm says that the newest revision was applied whole; else the record may be one write ahead
    written_replicas  production's replicas as the newest revision rendered them
    asked        the weights that the VirtualService asks; None: there is none, or its routes do not agree
    route_missing  there is no VirtualService: nothing reaches the service
    hpa          an autoscaler owns production's replicas
    edits        differences that other hands made
    obstacles    why no stage may be planned at all: rival routes, a port that is not routed, no way in; of an installation
                 also a Service of that name that serves already, and objects that are others'
    bypasses     other ways to the pods, which follow no weights
    changes      what the wanted chart and values make of the shared objects, compared with what is stored
    early        those of the changed ones that the new version's pods read, or that their pods need
    shared       the part of the changes that `--allow` names
    """

    installed: bool
    uninstalled: bool = False
    uninstalling: bool = False
    ever_ready: bool = True
    unserved: bool = False
    revision: int = 0
    applied: bool = True
    written_replicas: int | None = None
    production: TrackState = TrackState(version=None)
    canary: TrackState = TrackState(version=None)
    asked: Split | None = None
    route_missing: bool = False
    hpa: bool = False
    record: Record | None = None
    edits: tuple[Edit, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    bypasses: tuple[str, ...] = ()
    changes: Shared = Shared()
    early: tuple[str, ...] = ()
    shared: Shared = Shared()

    def track(self, track: Track) -> TrackState:
        return self.production if track is Track.PRODUCTION else self.canary


@dataclass(frozen=True, kw_only=True)
class WantedStage:
    """`stage N --tag T`: N, the version that chart and values render for T now, and what else was asked.

    `replica_count` 0: the chart leaves production's replicas to others.
    """

    number: int
    version: Version
    weights: tuple[int, ...]
    replica_count: int
    canary_replicas: int | None = None
    again: bool = False
    by: Provenance = Provenance()


@dataclass(frozen=True, kw_only=True)
class WantedRollback:
    """`rollback`, or `rollback --of ID|TAG`."""

    of: str = ""
    by: Provenance = Provenance()


Wanted: TypeAlias = WantedStage | WantedRollback


class Change(str, Enum):
    """What one `helm upgrade` is for; the guard before it allows just that."""

    INSTALL = "install"
    SHARED = "shared"
    SCALE = "scale"
    WEIGHT = "weight"
    RECORD = "record"


class Hooks(str, Enum):
    """Which of the chart's hooks run in an upgrade: those before a new version starts, those after its pods are Ready."""

    NONE = "none"
    PRE = "pre"
    POST = "post"
    BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class TrackTarget:
    """What an upgrade renders for a track. `replicas` None: the live count, read just before the write."""

    version: Version
    replicas: int | None = None


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """One `helm upgrade`: the whole of what it renders, and the record that is written with it.

    track     the track that a SCALE changes, else None
    native    the version that chart and values render by themselves; a track at any other is pinned to its pod template
    shared    what it does to objects that both tracks share; all others stay as they are stored
    hooks     which chart hooks run in this step
    at_once   written before it is checked: only a rollback's weights, which nothing else can change with
    anew      the installation of a release whose name an uninstalled one has
    """

    change: Change
    track: Track | None = None
    production: TrackTarget
    canary: TrackTarget
    split: Split
    record: Record
    native: Version | None = None
    shared: Shared = Shared()
    hooks: Hooks = Hooks.NONE
    at_once: bool = False
    anew: bool = False
    why: str

    def target(self, track: Track) -> TrackTarget:
        return self.production if track is Track.PRODUCTION else self.canary


@dataclass(frozen=True, kw_only=True)
class WaitReady:
    """Wait until a track has `replicas` pods, all at `version`, Ready and known to the proxies.

    `enough` ready pods let the plan go on sooner: 1 where weights must return to a production that was never changed.
    `beside`: other Deployments (`KIND/NAME`) that moved with it, and must be Ready as well.
    """

    track: Track
    version: Version
    replicas: int
    enough: int | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prove:
    """Wait until every proxy has these weights."""

    split: Split


@dataclass(frozen=True, kw_only=True)
class Drain:
    """Wait until no request is in flight to a track that has weight 0 in force."""

    track: Track


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Watch a track that just got all traffic, for the drain time; when it fails, carry `on_failure` out and stop.

    `beside`: other Deployments (`KIND/NAME`) that moved with it, whose failure is its own.
    """

    track: Track
    replicas: int
    on_failure: tuple[Upgrade | Prove, ...]
    beside: tuple[str, ...] = ()


Step: TypeAlias = Upgrade | WaitReady | Prove | Drain | Watch


class Result(str, Enum):
    """The word that a pipeline reads."""

    DONE = "done"
    NOTHING = "nothing"
    ALREADY_PAST = "already-past"
    FIRST_INSTALL = "first-install"
    REFUSED = "refused"
    USAGE = "usage"
    FAILED = "failed"
    VERIFICATION_FAILED = "verification-failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps from what is observed to what is wanted. `result` is what a command that carries it out reports.

    `goal` is the stage that is reached with it, None for a rollback; `because` says in one sentence why the plan is
    what it is, above all why it is empty; `notes` are facts a person should know (capacity, shared changes that stay,
    overwritten edits). `overwrites`: what other hands changed is taken back and named; otherwise a step that would do so is
    refused.
    """

    steps: tuple[Step, ...]
    result: Result
    goal: Stage | None
    because: str
    notes: tuple[str, ...] = ()
    overwrites: bool = False

    @property
    def upgrades(self) -> Iterator[Upgrade]:
        return (step for step in self.steps if isinstance(step, Upgrade))

    @property
    def changes(self) -> bool:
        return any(True for _ in self.upgrades)


class Reason(str, Enum):
    """Why there is no safe plan."""

    NOT_INSTALLED = "not-installed"
    SKIPPED = "skipped"
    OTHER_RELEASE = "other-release"
    ROLLING_BACK = "rolling-back"
    OTHER_DIGEST = "other-digest"
    OTHER_WEIGHTS = "other-weights"
    DIFFERENT = "different"
    NOT_READY = "not-ready"
    NOT_SERVED = "not-served"
    UNINSTALLING = "uninstalling"
    NO_PREVIOUS = "no-previous"
    OBSTACLE = "obstacle"
    NEEDED_EARLY = "needed-early"
    UNKNOWN_STAGE = "unknown-stage"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why nothing was done, with the facts: what happened, what it usually means, what to do next."""

    reason: Reason
    happened: str
    means: str
    do_next: str
