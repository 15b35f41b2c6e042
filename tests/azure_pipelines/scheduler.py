"""The order in which an expanded pipeline runs, by the documented rules, with a person's decisions from outside.

    run = Run(pipeline, run_task=call, approvals={"canary-2"})
    run.advance()                  # everything that needs nobody
    run.waiting(); run.approve("stage_2"); run.reject(...); run.expire(...)
    run.startable(); run.start("rollback_2")
    run.validations(); run.resume("stage_2"); run.turn_down("stage_2"); run.lapse("stage_2")
    run.cancel(); run.rerun("stage_2"); run.results

`run_task(inputs, variables) -> (result, outputs)` stands for the project's task. What a rejected approval leaves is stated
nowhere: `rejected_as` says which result to try. A stage that is started by hand has no dependencies, says the announcement of
`trigger: manual`; `manual_waits` is the other reading, that it waits for the stage before it in the list, as the rest does.
Locks are shared between runs that get the same `locks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.azure_pipelines.expressions import Scope, evaluate, to_boolean, to_text

Node = Mapping[str, Any]
MACRO = re.compile(r"\$\(([^()]+)\)")
TASK = "HelmCanary@0"
VALIDATIONS = ("ManualValidation@0", "ManualValidation@1")
HOOKS = ("preDeploy", "deploy", "routeTraffic", "postRouteTraffic")
STAGE_KEYS = {"stage", "displayName", "dependsOn", "condition", "variables", "jobs", "lockBehavior", "trigger", "pool"}
JOB_KEYS = {
    *(
        "job",
        "deployment",
        "displayName",
        "dependsOn",
        "condition",
        "variables",
        "pool",
        "environment",
        "strategy",
        "steps",
    ),
    *("timeoutInMinutes", "cancelTimeoutInMinutes"),
}
STEP_KEYS = {
    "task",
    "script",
    "bash",
    "pwsh",
    "checkout",
    "download",
    "name",
    "displayName",
    "condition",
    "inputs",
    "env",
}
STEP_KEYS |= {"continueOnError", "timeoutInMinutes"}


class Result(str, Enum):
    """The results of stages, jobs and steps."""

    SUCCEEDED = "Succeeded"
    ISSUES = "SucceededWithIssues"
    FAILED = "Failed"
    CANCELED = "Canceled"
    SKIPPED = "Skipped"


GOOD = (Result.SUCCEEDED, Result.ISSUES)
RunTask = Callable[[dict[str, str], dict[str, str]], tuple[Result, dict[str, str]]]


class GraphError(Exception):
    """A pipeline that the service would refuse, or one that uses what is not known here."""


@dataclass(kw_only=True)
class Job:
    """A job of one attempt of its stage."""

    node: Node
    result: Result | None = None
    asked: bool = False
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.node.get("job") or self.node["deployment"])

    @property
    def prefix(self) -> str:
        """A deployment job's outputs are keyed by its own name besides."""
        return f"{self.name}." if "deployment" in self.node else ""


@dataclass(kw_only=True)
class Stage:
    """A stage: not ready, waiting for people or its lock, running, or ended."""

    node: Node
    depends_on: tuple[str, ...]
    jobs: list[Job] = field(default_factory=list)
    result: Result | None = None
    attempt: int = 1
    started_by_hand: bool = False
    approved: bool = False
    running: bool = False

    @property
    def name(self) -> str:
        return str(self.node["stage"])


class Run:
    """One run of a pipeline."""

    def __init__(
        self,
        pipeline: Node,
        *,
        run_task: RunTask,
        approvals: Collection[str] = (),
        rejected_as: Result = Result.FAILED,
        build_id: str = "84",
        variables: Mapping[str, str] | None = None,
        locks: dict[str, Run] | None = None,
        manual_waits: bool = False,
    ) -> None:
        self.variables = {"Build.BuildId": build_id, "System.TeamProject": "shop", **(variables or {})}
        self._run_task, self._approvals, self._rejected_as = run_task, frozenset(approvals), rejected_as
        self._locks = {} if locks is None else locks
        self.canceled = False
        # Tasks of others and scripts, which are taken to succeed.
        self.others: list[str] = []
        self._top = pipeline
        self.stages = _stages(pipeline, manual_waits=manual_waits)

    # --- what is seen from outside ---------------------------------------------------------------------------------------

    @property
    def results(self) -> dict[str, Result]:
        """The stages that have ended."""
        return {stage.name: stage.result for stage in self.stages.values() if stage.result is not None}

    def waiting(self) -> list[str]:
        """Stages that wait for the approval of an environment."""
        return [stage.name for stage in self.stages.values() if self._waits_for_approval(stage)]

    def waiting_for_lock(self) -> list[str]:
        return [
            stage.name
            for stage in self.stages.values()
            if self._ready(stage) and not self._waits_for_approval(stage) and self._locked(stage)
        ]

    def startable(self) -> list[str]:
        """Stages that a person can start now."""
        return [
            stage.name
            for stage in self.stages.values()
            if _manual(stage) and not stage.started_by_hand and self._may_begin(stage) and self._holds(stage)
        ]

    def validations(self) -> list[str]:
        """Stages with a job that waits for a manual validation."""
        return [
            stage.name
            for stage in self.stages.values()
            if any(job.asked and job.result is None for job in stage.jobs) and stage.running
        ]

    # --- what people do --------------------------------------------------------------------------------------------------

    def approve(self, name: str) -> None:
        self._expect(name, self.waiting())
        self.stages[name].approved = True
        self.advance()

    def reject(self, name: str) -> None:
        self._expect(name, self.waiting())
        self._end(self.stages[name], self._rejected_as)
        self.advance()

    def expire(self, name: str) -> None:
        """Nobody answered in time."""
        self._expect(name, self.waiting())
        self._end(self.stages[name], Result.SKIPPED)
        self.advance()

    def start(self, name: str) -> None:
        self._expect(name, self.startable())
        self.stages[name].started_by_hand = True
        self.advance()

    def resume(self, name: str) -> None:
        self._answer(name, Result.SUCCEEDED)

    def turn_down(self, name: str) -> None:
        """A person rejects a manual validation, or nobody answers it in the task's time."""
        self._answer(name, Result.FAILED)

    def lapse(self, name: str) -> None:
        """Nobody answers a manual validation in its job's time."""
        self._answer(name, Result.CANCELED)

    def cancel(self) -> None:
        """Whatever runs or waits ends; what must run whatever happens still runs. Nothing can be started any more."""
        self.canceled = True
        for stage in self.stages.values():
            for job in stage.jobs:
                if job.asked and job.result is None:
                    job.result = Result.CANCELED
            if self._waits_for_approval(stage) or (stage.result is None and _manual(stage) and not stage.running):
                self._end(stage, Result.CANCELED)
        self.advance()

    def rerun(self, name: str) -> None:
        """The stage again, and all that depends on it; approvals are asked for again."""
        if self.stages[name].result is None:
            raise GraphError(f"{name} has not ended")
        for stage in self.stages.values():
            if stage.name == name or name in self._ancestors(stage):
                stage.result, stage.approved, stage.running, stage.started_by_hand = None, False, False, False
                stage.attempt, stage.jobs = stage.attempt + 1, []
        self.advance()

    def _answer(self, name: str, result: Result) -> None:
        self._expect(name, self.validations())
        for job in self.stages[name].jobs:
            if job.asked and job.result is None:
                job.result = result
        self.advance()

    @staticmethod
    def _expect(name: str, names: Iterable[str]) -> None:
        if name not in names:
            raise GraphError(f"{name} is not among {', '.join(names) or 'any'}")

    # --- stages ----------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Do all that needs nobody. A task that calls back into the run finds its own stage running."""
        while any(self._step(stage) for stage in self.stages.values()):
            pass

    def _step(self, stage: Stage) -> bool:
        if stage.running:
            return self._step_jobs(stage)
        if stage.result is not None or not self._complete(stage):
            return False
        if not self._holds(stage):
            # A stage that is started by hand is judged when it is started.
            if _manual(stage) and not stage.started_by_hand:
                return False
            self._end(stage, Result.CANCELED if self.canceled else Result.SKIPPED)
            return True
        if not self._ready(stage) or self._waits_for_approval(stage) or self._locked(stage):
            return False
        if "lockBehavior" in stage.node:
            self._locks[stage.name] = self
        stage.running, stage.jobs = True, [Job(node=node) for node in stage.node["jobs"]]
        _check_graph({job.name: _names(job.node, ()) for job in stage.jobs}, [job.name for job in stage.jobs])
        return True

    def _complete(self, stage: Stage) -> bool:
        return all(self.stages[name].result is not None for name in stage.depends_on)

    def _may_begin(self, stage: Stage) -> bool:
        return stage.result is None and not stage.running and self._complete(stage)

    def _ready(self, stage: Stage) -> bool:
        """Nothing stands before this stage but checks."""
        started = stage.started_by_hand or not _manual(stage)
        return started and self._may_begin(stage) and self._holds(stage)

    def _waits_for_approval(self, stage: Stage) -> bool:
        environments = {str(job["environment"]) for job in stage.node["jobs"] if "environment" in job}
        return self._ready(stage) and not stage.approved and bool(environments & self._approvals)

    def _locked(self, stage: Stage) -> bool:
        return "lockBehavior" in stage.node and self._locks.get(stage.name, self) is not self

    def _end(self, stage: Stage, result: Result) -> None:
        stage.result, stage.running = result, False
        if self._locks.get(stage.name) is self:
            del self._locks[stage.name]

    def _ancestors(self, stage: Stage) -> list[str]:
        graph = {other.name: other.depends_on for other in self.stages.values()}
        return list(dict.fromkeys(_ancestors(graph, stage.name)))

    def _holds(self, stage: Stage) -> bool:
        results = [self.stages[name].result for name in self._ancestors(stage)]
        direct = {name: {"result": _told(self.stages[name].result)} for name in stage.depends_on}
        names = {"dependencies": direct, "variables": self.variables}
        return self._condition(stage.node, results, names)

    def _condition(self, node: Node, results: Sequence[Result | None], names: Mapping[str, Any]) -> bool:
        scope = Scope(names=names, functions=_status(results, canceled=self.canceled))
        return to_boolean(evaluate(node.get("condition", "succeeded()"), scope))

    # --- jobs ------------------------------------------------------------------------------------------------------------

    def _step_jobs(self, stage: Stage) -> bool:
        """One job further; the stage ends with its last one."""
        jobs = {job.name: job for job in stage.jobs}
        graph = {job.name: _names(job.node, ()) for job in stage.jobs}
        for job in stage.jobs:
            if job.result is not None or job.asked or any(jobs[name].result is None for name in graph[job.name]):
                continue
            # Before anything else, since a task may call back into the run.
            job.asked = True
            results = [jobs[name].result for name in dict.fromkeys(_ancestors(graph, job.name))]
            names = {"dependencies": _outputs(jobs[name] for name in graph[job.name]), "variables": self.variables}
            if not self._condition(job.node, results, names):
                job.result = Result.CANCELED if self.canceled else Result.SKIPPED
            elif not _is_validation(job.node):
                job.result = self._run_job(stage, job, names["dependencies"])
            elif self.canceled:
                job.result = Result.CANCELED
            return True
        if all(job.result is not None for job in stage.jobs):
            self._end(stage, _together(job.result for job in stage.jobs if job.result is not None))
            return True
        return False

    def _run_job(self, stage: Stage, job: Job, dependencies: Mapping[str, Any]) -> Result:
        variables = self._job_variables(stage, job, dependencies)
        if "deployment" not in job.node:
            return self._run_steps(stage, job, job.node["steps"], variables)
        ((kind, strategy),) = job.node["strategy"].items()
        if kind != "runOnce" or set(strategy) - {*HOOKS, "on"}:
            raise GraphError(f"{job.name}: only runOnce and its hooks are known here, not {kind} {strategy}")
        result = Result.SUCCEEDED
        for hook in HOOKS:
            if hook in strategy and result in GOOD:
                result = self._run_steps(stage, job, strategy[hook]["steps"], variables)
        after = "success" if result in GOOD else "failure" if result is Result.FAILED else ""
        if after in strategy.get("on", {}):
            self._run_steps(stage, job, strategy["on"][after]["steps"], variables)
        return result

    def _job_variables(self, stage: Stage, job: Job, dependencies: Mapping[str, Any]) -> dict[str, str]:
        found = {
            **self.variables,
            "System.StageName": stage.name,
            "System.StageAttempt": str(stage.attempt),
            "System.JobName": job.name,
            **({"Environment.Name": str(job.node["environment"])} if "environment" in job.node else {}),
        }
        # Outputs of a stage are seen only by those that name it in dependsOn.
        seen = {name: _outputs(self.stages[name].jobs) for name in stage.depends_on}
        names = {"dependencies": dependencies, "stageDependencies": seen}
        for node in (self._top, stage.node, job.node):
            for name, value in _variables(node):
                found[name] = _runtime(value, Scope(names={**names, "variables": found}))
        return found

    # --- steps -----------------------------------------------------------------------------------------------------------

    def _run_steps(self, stage: Stage, job: Job, steps: Sequence[Node], variables: dict[str, str]) -> Result:
        results: list[Result] = []
        for step in steps:
            _known(step, STEP_KEYS, f"a step of {stage.name}")
            if not self._condition(step, results, {"variables": variables}):
                continue
            results.append(self._run_step(stage, job, step, variables))
            if self.canceled and results[-1] is Result.FAILED:
                results[-1] = Result.CANCELED
        return _together(results)

    def _run_step(self, stage: Stage, job: Job, step: Node, variables: dict[str, str]) -> Result:
        kind = step.get("task", "")
        if kind != TASK:
            self.others.append(kind or next(iter(step)))
            return Result.SUCCEEDED
        if _pool(self._top, stage, job) == "server":
            raise GraphError(f"{job.name}: {TASK} needs an agent")
        inputs = {name: _macros(value, variables) for name, value in step.get("inputs", {}).items()}
        result, outputs = self._run_task(inputs, dict(variables))
        if "name" in step:
            variables.update({f"{step['name']}.{name}": value for name, value in outputs.items()})
            job.outputs.update({f"{job.prefix}{step['name']}.{name}": value for name, value in outputs.items()})
        if result is Result.FAILED and step.get("continueOnError", "").lower() == "true":
            return Result.ISSUES
        return result


# --- graphs ------------------------------------------------------------------------------------------------------------


def _stages(pipeline: Node, *, manual_waits: bool = False) -> dict[str, Stage]:
    """The stages, each after the one before it unless it says otherwise; a pipeline of steps is one stage with one job."""
    if "steps" in pipeline:
        pipeline = {"stages": [{"stage": "__default", "jobs": [{"job": "Job", "steps": pipeline["steps"]}]}]}
    if "lockBehavior" in pipeline or "stages" not in pipeline:
        raise GraphError("only stages or steps are known here, and no lockBehavior of the whole pipeline")
    found: dict[str, Stage] = {}
    before: tuple[str, ...] = ()
    for node in pipeline["stages"]:
        _known(node, STAGE_KEYS, "a stage")
        for job in node["jobs"]:
            _known(job, JOB_KEYS, f"a job of {node['stage']}")
        if node.get("lockBehavior", "sequential") != "sequential" or node.get("trigger", "manual") != "manual":
            raise GraphError(f"{node['stage']}: only lockBehavior sequential and trigger manual are known here")
        if node["stage"] in found:
            raise GraphError(f"the stage {node['stage']} is there twice")
        if "trigger" in node and "dependsOn" in node:
            raise GraphError(f"{node['stage']}: manually triggered stages cannot have dependencies")
        alone = "trigger" in node and not manual_waits
        found[node["stage"]] = Stage(node=node, depends_on=() if alone else _names(node, before))
        before = (node["stage"],)
    _check_graph({stage.name: stage.depends_on for stage in found.values()}, list(found))
    return found


def _names(node: Node, default: tuple[str, ...]) -> tuple[str, ...]:
    found = node.get("dependsOn", default)
    return (found,) if isinstance(found, str) and found else tuple(found)


def _check_graph(graph: Mapping[str, tuple[str, ...]], names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise GraphError(f"a name is there twice among {', '.join(names)}")
    for name, depends_on in graph.items():
        if unknown := set(depends_on) - set(graph):
            raise GraphError(f"{name} depends on {', '.join(unknown)}, which is not there")
        if name in _ancestors(graph, name):
            raise GraphError(f"{name} depends on itself")
    if all(graph.values()):
        raise GraphError("at least one must depend on nothing")


def _ancestors(graph: Mapping[str, tuple[str, ...]], name: str) -> Iterator[str]:
    seen: set[str] = set()
    left = list(graph[name])
    while left:
        if (found := left.pop(0)) not in seen:
            seen.add(found)
            left.extend(graph[found])
            yield found


def _known(node: Node, keys: Collection[str], what: str) -> None:
    if unknown := set(node) - set(keys):
        raise GraphError(f"{what} has {', '.join(sorted(unknown))}, which is not known here")


def _manual(stage: Stage) -> bool:
    return stage.node.get("trigger") == "manual"


def _pool(top: Node, stage: Stage, job: Job) -> Any:
    return job.node.get("pool", stage.node.get("pool", top.get("pool")))


def _is_validation(node: Node) -> bool:
    found = any(step.get("task") in VALIDATIONS for step in node.get("steps", []))
    if found and (node.get("pool") != "server" or len(node["steps"]) != 1):
        raise GraphError(f"{node['job']}: a manual validation needs `pool: server`, and a job of its own here")
    return found


# --- results and values ------------------------------------------------------------------------------------------------


def _told(result: Result | None) -> str:
    return result.value if result else ""


def _together(results: Iterable[Result]) -> Result:
    found = set(results)
    for worst in (Result.FAILED, Result.CANCELED, Result.ISSUES, Result.SUCCEEDED):
        if worst in found:
            return worst
    return Result.SKIPPED if found else Result.SUCCEEDED


def _status(results: Sequence[Result | None], *, canceled: bool) -> dict[str, Callable[[], bool]]:
    """The status functions, of all that stands before, directly or not. A skipped one satisfies none but always()."""
    ran = [result for result in results if result is not Result.SKIPPED]
    return {
        "always": lambda: True,
        "canceled": lambda: canceled,
        "succeeded": lambda: not canceled and all(result in GOOD for result in results),
        "failed": lambda: not canceled and Result.FAILED in results,
        "succeededorfailed": lambda: (
            not canceled and Result.CANCELED not in ran and (bool(ran) or not results)
        ),
    }  # fmt: skip


def _outputs(jobs: Iterable[Job]) -> dict[str, Any]:
    return {job.name: {"result": _told(job.result), "outputs": dict(job.outputs)} for job in jobs}


def _variables(node: Node) -> Iterator[tuple[str, str]]:
    found = node.get("variables", {})
    if isinstance(found, dict):
        yield from found.items()
        return
    for entry in found:
        if set(entry) - {"readonly"} != {"name", "value"}:
            raise GraphError(f"only variables with name and value are known here: {entry}")
        yield entry["name"], entry["value"]


def _runtime(value: str, scope: Scope) -> str:
    if not value.startswith("$["):
        return value
    if not value.endswith("]"):
        raise GraphError(f"an expression `$[ ]` is a whole value: {value!r}")
    return to_text(evaluate(value[2:-1], scope))


def _macros(value: str, variables: Mapping[str, str], depth: int = 0) -> str:
    """`$(name)`, also inside the values of variables; one that is not there stays as it is. Case does not count."""
    folded = {name.casefold(): text for name, text in variables.items()}

    def one(found: re.Match[str]) -> str:
        text = folded.get(found[1].casefold())
        return found[0] if text is None or depth > 20 else _macros(text, variables, depth + 1)

    return MACRO.sub(one, value)
