"""task.json and vss-extension.json of the task for Azure Pipelines from the option table, as action.yml is made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helm_canary import __version__
from helm_canary.__main__ import SUMMARIES
from helm_canary.ci.azure_pipelines import camel
from helm_canary.options import RENDERING, Command, Kind, Option
from tools.action import COMMANDS, SECRETS
from tools.action import options as all_options

# What pipelines and organisations know the task by; it never changes.
TASK_ID = "d9bdf3b7-5cfd-4fd1-8f88-b9f4ec0fb749"
NAME, PUBLISHER, EXTENSION = "HelmCanary", "helm-canary", "helm-canary"
# The first agent with the older one of the two handlers.
MINIMUM_AGENT = "4.248.0"
HANDLERS = ("Node20_1", "Node24")
HELP_URL = "https://github.com/helm-canary/helm-canary/blob/main/docs/azure-pipelines.md"
TYPES = {Kind.FLAG: "boolean", Kind.LIST: "multiLine", Kind.CHOICE: "pickList"}
GATE = (
    "`true`: change nothing unless the environment of the deployment job (without one: the stage) was approved in this run. "
    "`false`: no gate. Anything else: the name of the gate."
)

# Of GitHub's gates: a stage of Azure Pipelines that was rejected runs nothing, and one that is run again asks its gate again.
ELSEWHERE = ("require-rejection", "gate-attempt")


def options() -> list[Option]:
    """The options that are inputs of the task."""
    return [option for option in all_options() if option.name not in ELSEWHERE]


class TaskError(Exception):
    """The option table and the groups here do not fit each other."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Inputs that stand together in the editor: options, and `more` that the program has no option for."""

    name: str
    title: str
    options: tuple[str, ...]
    more: tuple[str, ...] = ()
    open: bool = False

    def commands(self) -> tuple[Command, ...]:
        """The commands for which any of its inputs is of use."""
        if self.more:
            return COMMANDS
        used = {command for option in options() if option.name in self.options for command in option.commands}
        return tuple(command for command in COMMANDS if command in used)


GROUPS = (
    Group(
        name="release",
        title="Release",
        options=("release", "namespace", "tag", "of", "from", "again"),
        open=True,
    ),
    Group(
        name="chart",
        title="Chart and its values",
        options=("chart", "chart-version", "values", "set"),
        more=("registryUser", "registryPassword"),
        open=True,
    ),
    Group(
        name="rollout",
        title="Stages",
        options=("weights", "canary-replicas", "stages", "allow", "drain", "proof"),
    ),
    Group(
        name="approval",
        title="Approval",
        options=("require-approval", "started-by", "approved-by", "comment"),
        open=True,
    ),
    Group(
        name="cluster",
        title="Cluster",
        options=("kubeconfig", "context"),
        more=("kubernetesServiceConnection", "kubeconfigData"),
        open=True,
    ),
    Group(
        name="azure",
        title="Cluster of AKS",
        options=(
            "cluster-name", "resource-group", "subscription", "auth", "client-id", "tenant-id", "cloud", "admin", "public-fqdn",
        ),
        more=("azureSubscription",),
        open=True,
    ),
    Group(name="requests", title="Requests", options=("url", "path", "requests")),
    Group(name="advanced", title="Advanced", options=("timeout", "dry-run", "output", "write")),
)  # fmt: skip
AZURE_HELP = (
    "Connection to Azure Resource Manager: federated (best: nothing to renew), with a secret, with a certificate, or the agent's "
    "managed identity. Identity, subscription and cloud come from it; an input given below wins."
)
KUBERNETES_HELP = (
    "A Kubernetes connection in place of a kubeconfig, by kubeconfig or service account. For AKS better the two of "
    "`azureSubscription` and `clusterName`: its tokens are short-lived."
)
LABELS = {
    "azureSubscription": "Azure subscription (connection)",
    "kubernetesServiceConnection": "Kubernetes connection",
    "kubeconfigData": "Content of a kubeconfig",
    "registryUser": "Registry user",
    "registryPassword": "Registry password",
    "from": "From (plan without a cluster)",
    "of": "Only this release",
    "set": "Values, one by one",
    "values": "Values files",
    "url": "URL",
    "clientId": "Client id",
    "publicFqdn": "Public FQDN",
}


def task(outputs: Mapping[str, str]) -> str:
    """The whole of task.json. `outputs`: name -> description."""
    return _json(_task(outputs))


def _task(outputs: Mapping[str, str]) -> dict[str, Any]:
    major, minor, patch = (int(number) for number in re.findall(r"\d+", __version__)[:3])
    return {
        "id": TASK_ID,
        "name": NAME,
        "friendlyName": "Helm canary release",
        "description": "Release a microservice on AKS, Istio and Helm in approved stages, without losing a request",
        "helpUrl": HELP_URL,
        "helpMarkDown": f"Made by `make generate` from the table of options. [How it is used]({HELP_URL})",
        "category": "Deploy",
        "visibility": ["Build", "Release"],
        "runsOn": ["Agent"],
        "author": PUBLISHER,
        "version": {"Major": major, "Minor": minor, "Patch": patch},
        "minimumAgentVersion": MINIMUM_AGENT,
        "instanceNameFormat": "helm-canary $(command) $(stage)",
        "groups": [_group(group) for group in GROUPS],
        "inputs": list(_inputs()),
        "outputVariables": [{"name": camel(name), "description": text} for name, text in outputs.items()],
        # Commands stay unrestricted: the restricted mode has no task.uploadsummary.
        "restrictions": {"settableVariables": {"allowed": [camel(name) for name in outputs]}},
        "execution": {handler: {"target": "main.js"} for handler in HANDLERS},
    }


def extension() -> str:
    """The whole of vss-extension.json."""
    return _json(
        {
            "manifestVersion": 1,
            "id": EXTENSION,
            "publisher": PUBLISHER,
            "version": __version__,
            "name": "helm-canary",
            "description": "Release a microservice on AKS, Istio and Helm in approved stages, without losing a request",
            "categories": ["Azure Pipelines"],
            "tags": ["Helm", "Kubernetes", "Istio", "AKS", "canary", "release"],
            "targets": [{"id": "Microsoft.VisualStudio.Services"}],
            "icons": {"default": "icon.png"},
            "content": {"details": {"path": "overview.md"}, "license": {"path": "LICENSE"}},
            "files": [{"path": NAME}],
            "contributions": [
                {
                    "id": "helm-canary-task",
                    "type": "ms.vss-distributed-task.task",
                    "targets": ["ms.vss-distributed-task.tasks"],
                    "properties": {"name": NAME},
                }
            ],
        }
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _group(group: Group) -> dict[str, Any]:
    shown = {"name": group.name, "displayName": group.title, "isExpanded": group.open}
    return shown | _visible(group.commands())


def _visible(commands: Sequence[Command]) -> dict[str, str]:
    """The rule that hides what the chosen command has no use for."""
    others = [command for command in COMMANDS if command not in commands]
    if not others:
        return {}
    if len(others) == 1:
        return {"visibleRule": f"command != {others[0].value}"}
    return {"visibleRule": " || ".join(f"command = {command.value}" for command in commands)}


def _inputs() -> Iterable[dict[str, Any]]:
    yield {
        "name": "command",
        "type": "pickList",
        "label": "Command",
        "required": True,
        "options": {command.value: command.value for command in COMMANDS},
        "helpMarkDown": " ".join(f"`{command.value}`: {_azure(SUMMARIES[command])}." for command in COMMANDS),
    }
    yield {
        "name": "stage",
        "type": "string",
        "label": "Stage",
        "required": False,
        "helpMarkDown": "Number or name of the stage, such as `2` or `canary-10`; for `plan` also `all`.",
        **_visible(RENDERING),
    }
    known = {option.name: option for option in options()}
    _check_grouped(known)
    for group in GROUPS:
        yield from (_more(name, group) for name in group.more)
        yield from (_option(known[name], group) for name in group.options)


def _check_grouped(known: Mapping[str, Option]) -> None:
    grouped = [name for group in GROUPS for name in group.options]
    if sorted(grouped) != sorted(known):
        raise TaskError(f"Options and groups of {__file__} differ: {sorted(set(grouped) ^ set(known)) or grouped}.")


def _option(option: Option, group: Group) -> dict[str, Any]:
    name = camel(option.name)
    found: dict[str, Any] = {
        "name": name,
        # No `filePath`: the agent turns an empty one into the folder of the sources.
        "type": TYPES.get(option.kind, "string"),
        "label": LABELS.get(name, option.name.replace("-", " ").capitalize()),
        "required": False,
        "groupName": group.name,
    }
    if option.name == "require-approval":
        found |= {"defaultValue": "true", "helpMarkDown": GATE}
    else:
        # No default of the program's: the agent would give it, and a variable of the pipeline would never count.
        found["helpMarkDown"] = _described(option)
    if option.choices:
        found["options"] = {choice: choice for choice in option.choices}
    return found | _visible([command for command in COMMANDS if command in option.commands])


def _described(option: Option) -> str:
    words = [_azure(option.help)]
    if option.kind is Kind.LIST:
        words = [words[0].replace("; repeatable", ""), "One a line."]
    if option.default:
        words.append(f"Default: `{option.default}`.")
    elif "BUILD_BUILDID" in option.fallbacks:
        words.append("Default: the id of the run, `Build.BuildId`.")
    elif option.name == "chart":
        words.append("Default: the chart `productpage` of this task.")
    return " ".join(words)


def _azure(text: str) -> str:
    """Options as inputs are written here."""
    return re.sub(r"(?<!helm )`?--([a-z][a-z-]+)`?", lambda found: f"`{camel(found[1])}`", text)


def _more(name: str, group: Group) -> dict[str, Any]:
    """An input that the program has no option for: a connection, or a secret."""
    connections = {
        "azureSubscription": ("AzureRM", ["azureServiceConnection", "connectedServiceNameARM"], AZURE_HELP),
        "kubernetesServiceConnection": ("kubernetes", ["kubernetesServiceEndpoint"], KUBERNETES_HELP),
    }
    found: dict[str, Any] = {"name": name}
    if name in connections:
        kind, aliases, text = connections[name]
        found |= {"aliases": aliases, "type": f"connectedService:{kind}"}
    else:
        text = secret_inputs()[name][1]
        found["type"] = "multiLine" if name == "kubeconfigData" else "string"
    return found | {"label": LABELS[name], "required": False, "groupName": group.name, "helpMarkDown": text}


def secret_inputs() -> dict[str, tuple[str, str]]:
    """Input -> its variable and its description, for what must not be an option."""
    prefix = "HELM_CANARY_"
    return {
        camel(variable.removeprefix(prefix).lower().replace("_", "-")): (variable, text)
        for variable, text in SECRETS.items()
    }
