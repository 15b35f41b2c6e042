"""pipelines/azure: every file expands, and what comes out fits the published schema and the task."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helm_canary.core.stages import DEFAULT_WEIGHTS, stages_for
from tests.azure_pipelines.expander import ExpansionError, expand
from tests.azure_pipelines.pipelines import FOLDER, PARAMETERS, RELEASES, ROOT, pipeline
from tests.azure_pipelines.schema import TASK, name_of, problems, steps, unknown_inputs
from tools import action

Change = Callable[[Any], object]
# Connections are the task's own; the rest is the table of options.
CONNECTIONS = ("azureSubscription", "kubernetesServiceConnection")


def camel(name: str) -> str:
    first, *rest = name.split("-")
    return first + "".join(map(str.capitalize, rest))


def task() -> dict[str, Any]:
    """The task as it is packed; until there is one, a task with the program's inputs."""
    if (file := ROOT / TASK).is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    names = [*map(camel, action.inputs()), *CONNECTIONS]
    return {"name": "HelmCanary", "version": {"Major": 0}, "inputs": [{"name": name} for name in names]}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_file_fits_the_schema(name: str) -> None:
    """What a user copies is a pipeline that Azure DevOps takes, and every input is one of the task."""
    found = pipeline(name)
    assert problems(found, task()) == []
    assert unknown_inputs(found, task()) == []


def test_every_file_is_looked_at() -> None:
    """A new file of pipelines/azure is a template that another includes, or is expanded here."""
    assert {file.stem for file in FOLDER.glob("*.yml")} == {"canary", "canary-server", *PARAMETERS}


def step_of(found: Any) -> dict[str, Any]:
    return next(step for step in steps(found) if step["task"] == name_of(task()))


WRONG: dict[str, Change] = {
    "a stage has a key that is none": lambda found: found["stages"][1].update(lockBehaviour="sequential"),
    "a lock is of no kind that there is": lambda found: found["stages"][1].update(lockBehavior="latest"),
    "a trigger is of no kind that there is": lambda found: found["stages"][-1].update(trigger="hand"),
    "a task that is not there": lambda found: step_of(found).update(task="HelmCanarie@0"),
    "a task of another version": lambda found: step_of(found).update(task="HelmCanary@7"),
    "a job has a key that is none": lambda found: found["stages"][1]["jobs"][0].update(needs="build"),
    "an input of another's task is none": lambda found: found["stages"][0]["jobs"][0]["steps"][0].update(
        inputs={"x": "y"}
    ),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_found(change: Change) -> None:
    """The check can fail."""
    found = copy.deepcopy(pipeline("release"))
    change(found)
    assert problems(found, task())


@pytest.mark.parametrize("name", ["relase", "resourcegroup ", "cluster-name"])
def test_an_input_that_the_task_does_not_have_is_found(name: str) -> None:
    """A misspelt input would be passed over in silence by the service."""
    found = copy.deepcopy(pipeline("release"))
    step_of(found)["inputs"][name] = "shop"
    assert unknown_inputs(found, task()) == [name]
    assert problems(found, task())


@pytest.mark.parametrize("name", RELEASES)
def test_the_stages_are_those_of_the_program(name: str) -> None:
    """The templates name the stages that the default weights make, and how many these are."""
    found = [step["inputs"] for step in steps(pipeline(name)) if step.get("inputs", {}).get("command") == "stage"]
    expected = [stage.name for stage in stages_for(DEFAULT_WEIGHTS)]
    assert [inputs["stage"] for inputs in found] == expected
    assert {inputs["stages"] for inputs in found} == {str(len(expected))}


def of_canary(**parameters: Any) -> dict[str, Any]:
    return {"stages": expand(FOLDER / "canary.yml", {"release": "shop", **parameters}, root=ROOT)["stages"]}


def given(found: Any, command: str) -> list[dict[str, str]]:
    return [step["inputs"] for step in steps(found) if step["inputs"].get("command") == command]


def test_only_the_first_stage_needs_no_approval() -> None:
    """The task's own default, to refuse without an approval, holds for every stage but the first."""
    assert [inputs.get("requireApproval") for inputs in given(of_canary(), "stage")] == ["false", *[None] * 6]


def test_the_approval_can_be_given_up() -> None:
    """`requireApproval: false` is passed to every stage."""
    found = given(of_canary(requireApproval="false"), "stage")
    assert [inputs["requireApproval"] for inputs in found] == ["false"] * 7


def test_other_inputs_go_to_every_step() -> None:
    """What `inputs` holds reaches each stage and each rollback; what is empty reaches none."""
    found = of_canary(inputs={"drain": "60s"}, chart="chart", set="a=1")
    ours = [*given(found, "stage"), *given(found, "rollback")]
    assert {inputs["drain"] for inputs in ours} == {"60s"}
    assert {tuple(sorted(set(inputs) & {"chart", "set", "values", "weights"})) for inputs in given(found, "stage")} == {
        ("chart", "set")
    }


TEMPLATES = {"canary": {"rollbackOnFailure": "true"}, "canary-server": {"notify": "[shop]/releasers"}}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_rollback_is_given_neither_tag_nor_values(name: str) -> None:
    """A rollback takes the version from `of`, and everything else from the cluster: no chart, no values, no checkout."""
    parameters = {"release": "shop", "set": "a=1", "values": "v.yaml", "chart": "charts/shop", **TEMPLATES[name]}
    found = expand(FOLDER / f"{name}.yml", parameters, root=ROOT)["stages"]
    for inputs in given(found, "rollback"):
        assert set(inputs) == {"command", "of", "release"}
    assert set(checkouts(found, "rollback")) == {"none"}


def checkouts(stages: Any, job: str) -> list[str]:
    """What is checked out by each of the jobs that are called so."""
    jobs = [found for stage in stages for found in stage["jobs"] if found.get("job") == job]
    return [step["checkout"] for found in jobs for step in found["steps"] if "checkout" in step]


@pytest.mark.parametrize(("version", "jobs"), [("4.3.1", 14), ("", 0)])
def test_every_job_has_helm(version: str, jobs: int) -> None:
    """The Helm of an agent may be too old: each job installs one before its first use, unless the agent's own is wanted."""
    found = of_canary(helmVersion=version)["stages"]
    tasks = [[step.get("task") for step in steps(stage)] for stage in found]
    assert [names for names in tasks if "HelmInstaller@1" in names[:-1]] == tasks[: len(tasks) if jobs else 0]
    assert sum(names.count("HelmInstaller@1") for names in tasks) == jobs


def test_the_way_back_waits_for_nobody() -> None:
    """A rollback has no lock, and no environment whose checks could hold it up."""
    back = [stage for stage in of_canary()["stages"] if stage["stage"].startswith("rollback")]
    assert len(back) == 7
    for stage in back:
        assert "lockBehavior" not in stage
        assert stage["trigger"] == "manual"
        assert "dependsOn" not in stage
        assert "environment" not in stage["jobs"][0]


def test_other_weights_have_a_list_of_their_own() -> None:
    """A list of eight stages makes eight stages and eight rollbacks, and the program is told how many."""
    names = ["steady", "canary-5", "canary-25", "canary-50", "canary-100", "promote", "return", "finish"]
    stages = [
        {"number": str(n), "after": str(n - 1), "name": name, "displayName": name} for n, name in enumerate(names, 1)
    ]
    found = of_canary(stages=stages, weights="5,25,50,100", rollbackOnFailure="true")
    assert len(found["stages"]) == 16
    assert problems(found, task()) == []
    assert {(inputs["stages"], inputs["weights"]) for inputs in given(found, "stage")} == {("8", "5,25,50,100")}
    # One beside each of the four weights, besides the eight.
    assert len(given(found, "rollback")) == 12


@pytest.mark.parametrize(
    "parameters", [{}, {"release": "shop", "clustername": "x"}, {"release": "shop", "requireApproval": "no"}]
)
def test_a_wrong_parameter_is_refused(parameters: dict[str, str]) -> None:
    """A missing or misspelt parameter, or one of another type, starts nothing."""
    with pytest.raises(ExpansionError):
        expand(FOLDER / "canary.yml", parameters, root=ROOT)


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_example_fits_on_a_page(name: str) -> None:
    """What a user copies has thirty lines at most."""
    assert len(Path(FOLDER / f"{name}.yml").read_text(encoding="utf-8").splitlines()) <= 30
