"""task.json: what pipelines know the task by, and that it has what the program has."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from task_variables import inputs as read_inputs

from helm_canary import __version__
from helm_canary.ci.azure_pipelines import camel
from helm_canary.options import TABLE
from tools.action import inputs as action_inputs
from tools.generate import OUTPUTS
from tools.pack_task import SOURCE, PackError, check
from tools.task import ELSEWHERE, GROUPS, NAME

TASK = json.loads((SOURCE / NAME / "task.json").read_text(encoding="utf-8"))
EXTENSION = json.loads((SOURCE / "vss-extension.json").read_text(encoding="utf-8"))
INPUTS = {one["name"]: one for one in TASK["inputs"]}
CONNECTIONS = {"azureSubscription", "kubernetesServiceConnection"}


def test_what_pipelines_know_the_task_by_never_changes() -> None:
    """Id, name and publisher are those of every version; another one would be another task."""
    assert (TASK["id"], TASK["name"]) == ("d9bdf3b7-5cfd-4fd1-8f88-b9f4ec0fb749", "HelmCanary")
    assert (EXTENSION["publisher"], EXTENSION["id"]) == ("helm-canary", "helm-canary")
    assert EXTENSION["contributions"][0]["properties"]["name"] == NAME


def test_the_version_is_the_programs() -> None:
    """Task and extension have the program's version, whose first number is what a pipeline asks for."""
    assert ".".join(str(TASK["version"][part]) for part in ("Major", "Minor", "Patch")) == __version__
    assert EXTENSION["version"] == __version__


def test_the_task_has_the_inputs_of_the_action() -> None:
    """Each input of action.yml is one here, in camel case, but for GitHub's gates; and there are the two kinds of connection."""
    assert set(INPUTS) == {camel(name) for name in action_inputs() if name not in ELSEWHERE} | CONNECTIONS
    assert len(INPUTS) == len(TASK["inputs"])


def test_every_input_is_read() -> None:
    """What task.json offers, the start of the task hands on; an input that nothing reads would be lost in silence."""
    assert set(INPUTS) - CONNECTIONS == set(read_inputs()) & set(INPUTS)
    assert set(INPUTS) - CONNECTIONS <= set(read_inputs())


def test_only_the_approval_has_a_default() -> None:
    """The agent gives defaults as if a person had, and no variable of the pipeline would count any more."""
    assert {name: one["defaultValue"] for name, one in INPUTS.items() if "defaultValue" in one} == {
        "requireApproval": "true"
    }


def test_only_the_command_is_required() -> None:
    """A step can leave out everything but what it should do."""
    assert [name for name, one in INPUTS.items() if one["required"]] == ["command"]


def test_choices_are_the_options() -> None:
    """A list in the editor has exactly the values that the program takes."""
    chosen = {camel(option.name): set(option.choices) for option in TABLE if option.choices}
    assert {name: set(INPUTS[name]["options"]) for name in chosen} == chosen


def test_the_outputs_are_the_programs_and_no_other_variable_can_be_set() -> None:
    """Every output is declared, and the agent refuses any other variable, whatever a chart or a cluster says."""
    names = [camel(name) for name in OUTPUTS]
    assert [one["name"] for one in TASK["outputVariables"]] == names
    assert TASK["restrictions"] == {"settableVariables": {"allowed": names}}


def test_groups_hide_what_the_command_has_no_use_for() -> None:
    """Each input's group exists, and is shown for each command for which the input is."""
    shown = {group.name: {command.value for command in group.commands()} for group in GROUPS}
    for one in TASK["inputs"]:
        rule = one.get("visibleRule", "")
        for command in INPUTS["command"]["options"]:
            if "groupName" in one and _is_shown(rule, command):
                assert command in shown[one["groupName"]], one["name"]


def _is_shown(rule: str, command: str) -> bool:
    if not rule:
        return True
    if "!=" in rule:
        return rule != f"command != {command}"
    return f"command = {command}" in rule.split(" || ")


def test_the_task_is_as_agents_read_it() -> None:
    """task.json passes the check that is made before it is packed."""
    check(TASK)


def _without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda task: task.pop(key)


def _input(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda task: task["inputs"][1].update(changes)


WRONG = {
    "no id": _without("id"),
    "bad id": lambda task: task.update(id="d9bdf3b7"),
    "no handler": lambda task: task.update(execution={}),
    "unknown handler": lambda task: task["execution"].update(Node99={"target": "main.js"}),
    "text as version": lambda task: task["version"].update(Minor="1"),
    "no label": lambda task: task["inputs"][1].pop("label"),
    "dash in a name": _input(name="canary-replicas"),
    "unknown type": _input(type="text"),
    "list without values": _input(type="pickList"),
    "values without a list": _input(options={"a": "a"}),
    "no such group": _input(groupName="nowhere"),
    "twice": _input(name="Command"),
    "alias twice": _input(aliases=["azureSubscription"]),
    "rule that mixes": _input(visibleRule="command = a and stage = b"),
    "unknown key": lambda task: task.update(demand=[]),
    "restricted commands": lambda task: task["restrictions"].update(commands={"mode": "restricted"}),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_task_is_not_packed(change: Callable[[dict[str, Any]], object]) -> None:
    """What tfx packs with a warning or without one, and Azure DevOps or the agent refuses later, stops the packing."""
    task = copy.deepcopy(TASK)
    change(task)
    with pytest.raises(PackError, match=r"task\.json is wrong"):
        check(task)
