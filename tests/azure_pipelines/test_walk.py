"""The pipelines walked by the documented rules: what runs, after whose decision, and the way back at every point.

What the service leaves of a rejected approval is not documented, so each result is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.azure_pipelines.expander import expand
from tests.azure_pipelines.pipelines import FOLDER, ROOT, pipeline
from tests.azure_pipelines.scheduler import GraphError, Result, Run

NAMES = ["steady", "canary-10", "canary-90", "canary-100", "promote", "return", "finish"]
GATES = {f"canary-{number}" for number in range(2, 8)}
REJECTED = (Result.FAILED, Result.SKIPPED, Result.CANCELED)
VERSION = "84-1f3a9c"
STAGES = range(1, 8)
SERVER, SERVICES = "release-server", "release"


@dataclass(kw_only=True)
class Program:
    """The task: remembers what it was asked for, and fails at one stage as it is told."""

    fails_at: str = ""
    outcome: str = "failed"
    calls: list[str] = field(default_factory=list)
    during: Callable[[str], object] | None = None

    def __call__(self, inputs: dict[str, str], variables: dict[str, str]) -> tuple[Result, dict[str, str]]:
        stage = inputs.get("stage", "")
        self.calls.append(stage or f"rollback of {inputs['of']}")
        if self.during is not None:
            self.during(stage)
        outputs = {"versionId": VERSION, "result": "done"}
        if stage and stage == self.fails_at:
            return Result.FAILED, {**outputs, "result": self.outcome}
        if self.fails_at == "rollback" and not stage:
            return Result.FAILED, outputs
        return Result.SUCCEEDED, outputs


def started(
    name: str = SERVICES, *, program: Program | None = None, gates: set[str] = GATES, **more: Any
) -> tuple[Run, Program]:
    program = program or Program()
    run = Run(pipeline(name), run_task=program, approvals=set() if name == SERVER else gates, **more)
    run.advance()
    return run, program


def go_on(run: Run, name: str, stage: int) -> None:
    """A person lets `stage` begin, after the one before it."""
    if name == SERVER:
        run.resume(f"stage_{stage - 1}")
    else:
        run.approve(f"stage_{stage}")


def brought_to(stage: int, name: str = SERVICES, **more: Any) -> tuple[Run, Program]:
    """A run in which every stage up to this one was let pass."""
    run, program = started(name, **more)
    for number in range(2, stage + 1):
        go_on(run, name, number)
    return run, program


def ways_back(run: Run) -> list[str]:
    return [name for name in run.startable() if name.startswith("rollback")]


@pytest.mark.parametrize("name", [SERVICES, SERVER])
def test_seven_stages_in_their_order(name: str) -> None:
    """With every decision for it, the release walks the seven stages, and rolls nothing back."""
    run, program = brought_to(7, name)
    assert program.calls == NAMES
    assert [run.results[f"stage_{number}"] for number in STAGES] == [Result.SUCCEEDED] * 7
    assert not run.waiting()
    assert not run.validations()


@pytest.mark.parametrize("name", [SERVICES, SERVER])
@pytest.mark.parametrize("stage", range(1, 7))
def test_nothing_runs_without_a_decision(name: str, stage: int) -> None:
    """After each stage the run waits for a person, however often it is looked at."""
    run, program = brought_to(stage, name)
    for _ in range(3):
        run.advance()
    assert program.calls == NAMES[:stage]
    assert (run.validations() if name == SERVER else run.waiting()) == [
        f"stage_{stage if name == SERVER else stage + 1}"
    ]


# --- the way back, at every point --------------------------------------------------------------------------------------

Point = list[tuple[Run, Program]]


def before(**more: Any) -> Point:
    """Before anything has run: the first stage waits too."""
    return [started(gates={*GATES, "canary-1"}, **more)]


def waiting(**more: Any) -> Point:
    return [brought_to(stage - 1, **more) for stage in STAGES if stage > 1]


def turned_down(**more: Any) -> Point:
    found = []
    for left in REJECTED:
        for stage in range(2, 8):
            run, program = brought_to(stage - 1, rejected_as=left, **more)
            run.reject(f"stage_{stage}")
            assert run.results[f"stage_{stage}"] is left
            assert f"stage_{stage + 1}" not in run.waiting()
            found.append((run, program))
    return found


def expired(**more: Any) -> Point:
    found = []
    for stage in range(2, 8):
        run, program = brought_to(stage - 1, **more)
        run.expire(f"stage_{stage}")
        found.append((run, program))
    return found


def failed(**more: Any) -> Point:
    return [brought_to(stage, program=Program(fails_at=NAMES[stage - 1]), **more) for stage in STAGES]


def finished(**more: Any) -> Point:
    return [brought_to(7, **more)]


POINTS = [before, waiting, turned_down, expired, failed, finished]
WAYS = [f"rollback_{number}" for number in STAGES]


@pytest.mark.parametrize("point", POINTS)
def test_every_way_back_is_there_at_every_point(point: Callable[..., Point]) -> None:
    """Before, between, after a rejection whatever it leaves, after an expiry, a failure and the end: each of the rollbacks
    can be started, and rolls back this run's version, and nothing besides."""
    for run, program in point():
        assert ways_back(run) == WAYS
        for way in WAYS:
            done = len(program.calls)
            run.start(way)
            assert program.calls[done:] == ["rollback of 84"]
            assert run.results[way] is Result.SUCCEEDED


@pytest.mark.parametrize("point", POINTS)
def test_should_manual_stages_wait_each_waits_for_its_own_alone(point: Callable[..., Point]) -> None:
    """If the service has a stage without dependencies wait for the one before it in the list, the way back of every stage
    that has ended, however it ended, is there all the same."""
    for run, program in point(manual_waits=True):
        ended = [name.replace("stage", "rollback") for name in run.results if name.startswith("stage")]
        assert ways_back(run) == ended
        for way in ended:
            run.start(way)
            assert program.calls[-1] == "rollback of 84"


def test_a_list_of_stages_that_does_not_say_what_comes_before_is_refused() -> None:
    """A stage of a user's own list without `after` starts no run, and never beside the stage before it."""
    stages = [{"number": str(number), "name": name, "displayName": name} for number, name in enumerate(NAMES, 1)]
    found = expand(FOLDER / "canary.yml", {"release": "shop", "stages": stages}, root=ROOT)
    with pytest.raises(GraphError, match="depends on stage_, which is not there"):
        Run(found, run_task=Program())


@pytest.mark.parametrize("manual_waits", [False, True])
def test_no_stage_waits_for_a_rollback(manual_waits: bool) -> None:
    """The stages go on where no rollback was ever started, and after one that was started and failed."""
    for back in (False, True):
        run, program = started(manual_waits=manual_waits, program=Program(fails_at="rollback" if back else ""))
        for number in range(2, 8):
            if back:
                run.start(f"rollback_{number - 1}")
            run.approve(f"stage_{number}")
        assert [call for call in program.calls if "rollback" not in call] == NAMES


@pytest.mark.parametrize("stage", STAGES)
def test_the_way_back_is_there_while_a_stage_runs(stage: int) -> None:
    """A stage that hangs holds no rollback up."""
    seen: list[list[str]] = []
    program = Program()
    run, _ = started(program=program, gates={*GATES, "canary-1"})
    program.during = lambda name: seen.append(ways_back(run))
    for number in range(1, stage + 1):
        run.approve(f"stage_{number}")
    assert seen[-1] == WAYS


# --- by itself -------------------------------------------------------------------------------------------------------------


def back_by_itself(fails_at: str, outcome: str = "failed") -> list[str]:
    found = expand(FOLDER / "canary.yml", {"release": "shop", "rollbackOnFailure": "true"}, root=ROOT)
    program = Program(fails_at=fails_at, outcome=outcome)
    run = Run(found, run_task=program, approvals=GATES)
    run.advance()
    while run.waiting():
        run.approve(run.waiting()[0])
    return program.calls[-1:]


@pytest.mark.parametrize("stage", NAMES)
def test_a_failure_goes_back_by_itself_where_that_is_chosen(stage: str) -> None:
    """Only at the canary stages, where the old version still has its pods."""
    expected = "rollback of 84" if stage.startswith("canary-") else stage
    assert back_by_itself(stage) == [expected]


@pytest.mark.parametrize("outcome", ["refused", "cancelled", "usage"])
def test_a_refusal_never_goes_back_by_itself(outcome: str) -> None:
    """What changed nothing is not undone, and a stage that was not approved ends no release."""
    assert back_by_itself("canary-90", outcome) == ["canary-90"]


@pytest.mark.parametrize("stage", NAMES)
def test_by_default_a_failure_changes_nothing_more(stage: str) -> None:
    """After a failure a person decides."""
    run, program = started(program=Program(fails_at=stage))
    while run.waiting():
        run.approve(run.waiting()[0])
    assert program.calls[-1] == stage


# --- Azure DevOps Server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", range(1, 7))
@pytest.mark.parametrize("fails", [False, True])
def test_on_the_server_a_rejection_rolls_back(stage: int, fails: bool) -> None:
    """After each stage, whether it succeeded or failed, a rejection rolls back this run's version, and no later stage runs."""
    program = Program(fails_at=NAMES[stage - 1] if fails else "")
    run, _ = brought_to(stage, SERVER, program=program)
    run.turn_down(f"stage_{stage}")
    assert program.calls == [*NAMES[:stage], f"rollback of {VERSION}"]
    assert run.results[f"stage_{stage}"] is Result.FAILED
    assert not run.validations()


@pytest.mark.parametrize("stage", STAGES)
def test_on_the_server_a_failure_is_left_as_it_is_where_a_person_says_so(stage: int) -> None:
    """After a failure to resume is to leave all as it is: no rollback, and no later stage."""
    run, program = brought_to(stage, SERVER, program=Program(fails_at=NAMES[stage - 1]))
    run.resume(f"stage_{stage}")
    assert program.calls == NAMES[:stage]
    assert not run.validations()


def test_on_the_server_a_finished_release_asks_nobody() -> None:
    """The run ends with the last stage; from then on the pipeline for rollbacks is the way."""
    run, _ = brought_to(7, SERVER)
    assert len(run.results) == 7


@pytest.mark.parametrize("stage", range(1, 7))
def test_on_the_server_nobodys_answer_is_no_rejection(stage: int) -> None:
    """When nobody answers in the job's time, nothing is rolled back, and no later stage runs."""
    run, program = brought_to(stage, SERVER)
    run.lapse(f"stage_{stage}")
    assert program.calls == NAMES[:stage]
    assert len(run.results) == 7


@pytest.mark.parametrize("stage", range(1, 7))
def test_on_the_server_a_cancelled_run_rolls_nothing_back(stage: int) -> None:
    """A run that is cancelled while a person decides ends without a rollback."""
    run, program = brought_to(stage, SERVER)
    run.cancel()
    assert program.calls == NAMES[:stage]
    assert len(run.results) == 7


# --- several runs, cancelled runs, runs again ------------------------------------------------------------------------------


def test_a_run_that_waits_for_a_person_holds_no_lock() -> None:
    """A newer run walks past an older one that waits at a gate."""
    locks: dict[str, Run] = {}
    older, _ = brought_to(2, locks=locks)
    newer, program = brought_to(4, locks=locks, build_id="85")
    assert older.waiting() == ["stage_3"]
    assert newer.waiting() == ["stage_5"]
    assert program.calls == NAMES[:4]


def test_the_same_stage_of_two_runs_runs_one_after_the_other() -> None:
    """While one run is in a stage, another waits for it there, is not cancelled, and goes on afterwards."""
    locks: dict[str, Run] = {}
    newer, later = brought_to(1, locks=locks, build_id="85")
    seen: list[tuple[list[str], list[str]]] = []

    def during(stage: str) -> None:
        if stage == "canary-10":
            newer.approve("stage_2")
            seen.append((newer.waiting_for_lock(), list(later.calls)))

    older, _ = brought_to(1, locks=locks, program=Program(during=during))
    older.approve("stage_2")
    assert seen == [(["stage_2"], ["steady"])]
    newer.advance()
    assert later.calls == ["steady", "canary-10"]


def test_a_rollback_waits_for_no_other_run() -> None:
    """While another run is in a stage, the rollback of this run can be started and runs."""
    locks: dict[str, Run] = {}
    older, program = brought_to(3, locks=locks)
    newer, _ = brought_to(1, locks=locks, build_id="85", program=Program(during=lambda _: _back(older)))
    newer.approve("stage_2")
    assert program.calls[-1] == "rollback of 84"


def _back(run: Run) -> None:
    if "rollback_3" in run.startable():
        run.start("rollback_3")


@pytest.mark.parametrize("stage", range(1, 7))
def test_a_cancelled_run_changes_nothing_more(stage: int) -> None:
    """Neither a stage nor a rollback runs in it; the pipeline for rollbacks is there, of any tag or of whichever is there."""
    run, program = brought_to(stage)
    run.cancel()
    assert program.calls == NAMES[:stage]
    assert not run.startable()
    assert not run.waiting()
    assert back_by_hand("84") == ["rollback of 84"]


def back_by_hand(of: str) -> list[str]:
    program = Program()
    run = Run(expand(FOLDER / "rollback.yml", {"of": of}), run_task=program)
    run.advance()
    return program.calls


@pytest.mark.parametrize("of", ["", "84", VERSION])
def test_the_way_back_in_a_pipeline_of_its_own(of: str) -> None:
    """It asks nobody, and rolls back what it is told."""
    assert back_by_hand(of) == [f"rollback of {of}"]


@pytest.mark.parametrize("stage", range(2, 8))
def test_a_stage_that_is_run_again_is_approved_again(stage: int) -> None:
    """An approval counts for one attempt, and the task is told which attempt it is."""
    told: list[str] = []

    def task(_: dict[str, str], variables: dict[str, str]) -> tuple[Result, dict[str, str]]:
        told.append(variables["System.StageAttempt"])
        return Result.SUCCEEDED, {}

    run = Run(pipeline(SERVICES), run_task=task, approvals=GATES)
    run.advance()
    for number in range(2, stage + 1):
        run.approve(f"stage_{number}")
    run.rerun(f"stage_{stage}")
    assert run.waiting() == [f"stage_{stage}"]
    run.approve(f"stage_{stage}")
    assert told == [*["1"] * stage, "2"]


# --- the walk itself -------------------------------------------------------------------------------------------------------


def graph(*stages: dict[str, Any]) -> dict[str, Any]:
    step = {"task": "HelmCanary@0", "name": "run", "inputs": {"command": "status", "stage": "x", "of": "$(v)"}}
    return {"stages": [{"jobs": [{"job": "only", "steps": [step]}], **stage} for stage in stages]}


# What the stage before left, the condition -> whether the stage runs; measured on the service, and documented.
CONDITIONS = [
    (Result.SUCCEEDED, {"", "succeeded()", "succeededOrFailed()", "always()"}),
    (Result.ISSUES, {"", "succeeded()", "succeededOrFailed()", "always()"}),
    (Result.FAILED, {"failed()", "succeededOrFailed()", "always()", "in(dependencies.a.result, 'Failed', 'Canceled')"}),
    (Result.SKIPPED, {"always()"}),
    (Result.CANCELED, {"always()", "in(dependencies.a.result, 'Failed', 'Canceled')"}),
]
ALL = {condition for _, conditions in CONDITIONS for condition in conditions}


@pytest.mark.parametrize(("left", "holding"), CONDITIONS)
def test_conditions(left: Result, holding: set[str]) -> None:
    """Each status function holds after exactly these results; after a skipped stage only always()."""
    for condition in ALL:
        told = {"condition": condition} if condition else {}
        run = Run(graph({"stage": "a"}, {"stage": "b", **told}), run_task=lambda *_: (left, {}), approvals=())
        if left is Result.SKIPPED:
            run.stages["a"].result = left
        run.advance()
        # Only a stage that began has jobs.
        assert bool(run.stages["b"].jobs) is (condition in holding), condition


WRONG: dict[str, dict[str, Any]] = {
    "depends on nothing that is there": graph({"stage": "a"}, {"stage": "b", "dependsOn": "c"}),
    "depends on itself": graph({"stage": "a"}, {"stage": "b", "dependsOn": ["c"]}, {"stage": "c"}),
    "nothing begins": graph({"stage": "a", "dependsOn": "b"}, {"stage": "b", "dependsOn": "a"}),
    "twice": graph({"stage": "a"}, {"stage": "a"}),
    "cancels older runs": graph({"stage": "a", "lockBehavior": "runLatest"}),
    "manual, and after another": graph({"stage": "a"}, {"stage": "b", "trigger": "manual", "dependsOn": "a"}),
    "manual, and after none": graph({"stage": "a"}, {"stage": "b", "trigger": "manual", "dependsOn": []}),
    "a key that is not known": graph({"stage": "a", "isSkippable": "false"}),
    "a job's key that is not known": graph(
        {"stage": "a", "jobs": [{"job": "x", "strategy": {}, "continueOnError": "true"}]}
    ),
}


@pytest.mark.parametrize("found", WRONG.values(), ids=WRONG)
def test_what_the_walk_does_not_know_is_an_error(found: dict[str, Any]) -> None:
    """A graph that the service would refuse, or that is not known here, is never walked."""
    with pytest.raises(GraphError):
        Run(found, run_task=lambda *_: (Result.SUCCEEDED, {}))


def test_the_task_needs_an_agent() -> None:
    """A job without an agent cannot run the program."""
    found = graph({"stage": "a", "jobs": [{"job": "x", "pool": "server", "steps": [{"task": "HelmCanary@0"}]}]})
    with pytest.raises(GraphError, match="agent"):
        Run(found, run_task=lambda *_: (Result.SUCCEEDED, {})).advance()


# The dependsOn of the reader, the key of the output -> what it reads.
OUTPUTS = [
    ("a", "stageDependencies.a.only.outputs['run.x']", "yes"),
    ("b", "stageDependencies.a.only.outputs['run.x']", ""),
    ("a", "stageDependencies.a.only.outputs['only.run.x']", ""),
    ("a", "stageDependencies.a.only.result", "Succeeded"),
]


@pytest.mark.parametrize(("depends_on", "expression", "read"), OUTPUTS)
def test_outputs_of_a_stage_are_read_by_those_who_depend_on_it(depends_on: str, expression: str, read: str) -> None:
    """A stage reads outputs of the stages that it names in dependsOn, under the documented key."""
    reader = {"stage": "c", "dependsOn": depends_on, "variables": {"v": f"$[ {expression} ]"}}
    told: list[str] = []

    def task(inputs: dict[str, str], _: dict[str, str]) -> tuple[Result, dict[str, str]]:
        told.append(inputs["of"])
        return Result.SUCCEEDED, {"x": "yes"}

    Run(graph({"stage": "a"}, {"stage": "b"}, reader), run_task=task).advance()
    assert told[-1] == read


HOOKS = [(Result.SUCCEEDED, ["pre", "deploy", "good"]), (Result.FAILED, ["pre", "bad"])]


@pytest.mark.parametrize(("left", "order"), HOOKS)
def test_hooks_of_a_deployment(left: Result, order: list[str]) -> None:
    """The hooks run in their order; a failure goes to on.failure, and the job is failed all the same."""

    def hook(name: str) -> dict[str, Any]:
        return {"steps": [{"task": "HelmCanary@0", "inputs": {"name": name}}]}

    once = {"preDeploy": hook("pre"), "deploy": hook("deploy"), "on": {"failure": hook("bad"), "success": hook("good")}}
    called: list[str] = []

    def task(inputs: dict[str, str], _: dict[str, str]) -> tuple[Result, dict[str, str]]:
        called.append(inputs["name"])
        return (left if inputs["name"] == "pre" else Result.SUCCEEDED), {}

    run = Run(graph({"stage": "a", "jobs": [{"deployment": "x", "strategy": {"runOnce": once}}]}), run_task=task)
    run.advance()
    assert called == order
    assert run.results["a"] is left
