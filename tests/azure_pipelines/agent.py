"""Runs the task as an agent of Azure Pipelines does: inputs, connections and variables in, a log with logging commands out.

The rules are those of microsoft/azure-pipelines-agent: `Handler.cs` for what a task finds in its environment, `Command.cs` and
`TaskCommandExtension.cs` for what it may say. Nothing of the machine's own environment reaches the task.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

LIMIT_S = 300.0
RESULTS = ("Succeeded", "SucceededWithIssues", "Failed", "Canceled", "Skipped")
ESCAPED = {"%3B": ";", "%0D": "\r", "%0A": "\n", "%5D": "]"}
KNOWN = {
    "task.setvariable", "task.setsecret", "task.logissue", "task.complete", "task.uploadsummary", "task.setprogress",
    "task.debug", "build.addbuildtag", "build.updatebuildnumber",
}  # fmt: skip
# What an agent sets for each step of a build; the ids are made up.
VARIABLES = {
    "TF_BUILD": "True",
    "AGENT_VERSION": "4.255.0",
    "BUILD_BUILDID": "84",
    "BUILD_BUILDNUMBER": "20261124.1",
    "BUILD_REQUESTEDFOR": "Ana",
    "BUILD_SOURCEVERSION": "0f1e2d3c4b5a69788796a5b4c3d2e1f001122334",
    "SYSTEM_COLLECTIONURI": "https://dev.example.com/shop/",
    "SYSTEM_TEAMPROJECT": "shop",
    "SYSTEM_TEAMPROJECTID": "11111111-2222-3333-4444-555555555555",
    "SYSTEM_STAGENAME": "canary_10",
    "SYSTEM_STAGEATTEMPT": "1",
    "SYSTEM_JOBATTEMPT": "1",
    "SYSTEM_HOSTTYPE": "build",
    "SYSTEM_OIDCREQUESTURI": "https://127.0.0.1:9/oidctoken",
}
ACCESS_TOKEN = "the-access-token-of-the-job-0123456789"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A service connection; `id` is what an input names it by."""

    id: str
    scheme: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    data: Mapping[str, str] = field(default_factory=dict)
    url: str = ""

    def environment(self) -> dict[str, str]:
        """As the agent writes it."""
        whole = json.dumps({"Parameters": dict(self.parameters), "Scheme": self.scheme})
        found = {f"ENDPOINT_AUTH_{self.id}": whole, f"ENDPOINT_URL_{self.id}": self.url}
        found[f"ENDPOINT_AUTH_SCHEME_{self.id}"] = self.scheme
        for kind, values in (("AUTH_PARAMETER", self.parameters), ("DATA", self.data)):
            for key, value in values.items():
                found[f"ENDPOINT_{kind}_{self.id}_{key.replace(' ', '_').upper()}"] = value
        return found


SYSTEM_CONNECTION = Endpoint(
    id="SYSTEMVSSCONNECTION",
    scheme="OAuth",
    parameters={"AccessToken": ACCESS_TOKEN},
    url="https://dev.example.com/shop/",
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One `##vso[area.event name=value;...]data`, with its escapes undone."""

    name: str
    properties: Mapping[str, str]
    data: str


def parse_command(line: str) -> Command | None:
    """The command of a line, wherever in the line it stands; None where there is none."""
    start = line.find("##vso[")
    end = line.find("]", start)
    if start < 0 or end < 0:
        return None
    name, _, rest = line[start + len("##vso[") : end].partition(" ")
    if not re.fullmatch(r"[^.\s]+\.[^.\s]+", name):
        return None
    pairs = (part.partition("=") for part in rest.split(";") if "=" in part)
    properties = {key.strip().lower(): unescape(value) for key, _, value in pairs}
    return Command(name=name.lower(), properties=properties, data=unescape(line[end + 1 :]))


def unescape(text: str) -> str:
    """In the agent's order: a literal percent sign comes last."""
    for escaped, plain in ESCAPED.items():
        text = text.replace(escaped, plain)
    return text.replace("%AZP25", "%")


@dataclass(frozen=True)
class Ended:
    """A step that ended. `raw` is what the task wrote, byte for byte as text."""

    code: int
    raw: str
    allowed: frozenset[str]
    known_secrets: tuple[str, ...] = ()

    @cached_property
    def commands(self) -> list[Command]:
        return [found for found in map(parse_command, self.raw.splitlines()) if found is not None]

    def of(self, name: str) -> list[Command]:
        return [command for command in self.commands if command.name == name]

    @property
    def unknown(self) -> list[str]:
        """Commands that no agent knows: it warns of them, or fails the step."""
        return sorted({command.name for command in self.commands} - KNOWN)

    @property
    def outputs(self) -> dict[str, str]:
        """Output variables of the step; one that task.json does not allow is not set."""
        return {
            command.properties["variable"]: command.data
            for command in self.of("task.setvariable")
            if command.properties.get("isoutput", "").lower() == "true"
            and command.properties["variable"].lower() in {name.lower() for name in self.allowed}
        }

    @property
    def refused(self) -> list[str]:
        """Variables that the step tried to set and may not."""
        asked = (command.properties.get("variable", "") for command in self.of("task.setvariable"))
        return [name for name in asked if name.lower() not in {allowed.lower() for allowed in self.allowed}]

    @property
    def secrets(self) -> list[str]:
        """What the step asked to have masked, in order."""
        return [command.data for command in self.of("task.setsecret")]

    @property
    def issues(self) -> list[tuple[str, str]]:
        """Errors and warnings on the page of the run: type and text."""
        return [(command.properties.get("type", ""), command.data) for command in self.of("task.logissue")]

    @property
    def summaries(self) -> list[str]:
        """The Markdown that the page of the run shows."""
        return [Path(command.data).read_text(encoding="utf-8") for command in self.of("task.uploadsummary")]

    @property
    def result(self) -> str:
        """The step's result: the exit code's and the commands', of which the worst counts."""
        asked = [command.properties.get("result", "") for command in self.of("task.complete")]
        multiline = any(
            "\n" in command.data and command.properties.get("issecret", "").lower() == "true"
            for command in self.of("task.setvariable")
        )
        found = ["Succeeded" if self.code == 0 and not multiline else "Failed", *asked]
        return max(found, key=RESULTS.index)

    @property
    def said(self) -> str:
        """What the step wrote, but for what it asked to have masked: where a secret stands here, only the agent hid it."""
        kept = ((line, parse_command(line)) for line in self.raw.splitlines())
        return "\n".join(line for line, found in kept if found is None or found.name != "task.setsecret")

    @property
    def log(self) -> str:
        """The log as people read it: without commands, and without what is masked so far."""
        masked: list[str] = [secret for secret in self.known_secrets if secret]
        lines = []
        for line in self.raw.splitlines():
            found = parse_command(line)
            if found is not None and found.name == "task.setsecret":
                masked.append(found.data)
            if found is None:
                for secret in sorted(masked, key=len, reverse=True):
                    line = line.replace(secret, "***")
                lines.append(line)
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"exit code {self.code}, {self.result}\n{self.raw}"


@dataclass
class Running:
    """A step that runs."""

    process: subprocess.Popen[bytes]
    allowed: frozenset[str]
    known_secrets: tuple[str, ...]

    def cancel(self, number: signal.Signals = signal.SIGINT) -> None:
        """As an agent begins to cancel: to the task's Node alone."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = LIMIT_S) -> Ended:
        try:
            raw, _ = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        text = raw.decode("utf-8", errors="replace")
        return Ended(self.process.returncode, text, self.allowed, self.known_secrets)


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One job's agent.

    task        the folder of an unpacked task: task.json, main.js, ...
    temp        AGENT_TEMPDIRECTORY; steps with the same one belong to one job
    node        the Node that runs main.js
    path        the whole PATH of the step
    variables   of the job, beside and over VARIABLES: public ones by the names that a process sees
    connection  to Azure DevOps itself; its URL is where the task asks who approved
    wrap        the words that start Node -> the words that are run, to enter another network namespace for instance
    """

    task: Path
    temp: Path
    node: str = "node"
    path: str = os.defpath
    home: str = "/"
    variables: Mapping[str, str] = field(default_factory=dict)
    connection: Endpoint = SYSTEM_CONNECTION
    wrap: Callable[[Sequence[str]], Sequence[str]] = list

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        return dict(json.loads((self.task / "task.json").read_text(encoding="utf-8")))

    def inputs(self, given: Mapping[str, str]) -> dict[str, str]:
        """Defaults, then what the step gives, by name or alias; names know no case. ValueError for what is no input."""
        names = {}
        for one in self.manifest["inputs"]:
            for name in (one["name"], *one.get("aliases", ())):
                names[name.lower()] = one["name"]
        unknown = [name for name in given if name.lower() not in names]
        if unknown:
            raise ValueError(f"no such input: {', '.join(unknown)}")
        found = {one["name"]: str(one.get("defaultValue", "")) for one in self.manifest["inputs"]}
        found |= {names[name.lower()]: value for name, value in given.items()}
        return {f"INPUT_{name.replace(' ', '_').upper()}": value for name, value in found.items()}

    def environment(
        self, given: Mapping[str, str], endpoints: Sequence[Endpoint], variables: Mapping[str, str]
    ) -> dict[str, str]:
        """All that the task finds."""
        folders = {"PATH": self.path, "HOME": self.home, "AGENT_TEMPDIRECTORY": str(self.temp)}
        found = {**VARIABLES, **folders, **self.variables, **variables, **self.inputs(given)}
        for endpoint in (self.connection, *endpoints):
            found |= endpoint.environment()
        return found

    def start(
        self,
        inputs: Mapping[str, str],
        endpoints: Sequence[Endpoint] = (),
        variables: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Running:
        """Start the step; standard output and error are one stream for the agent."""
        handlers = self.manifest["execution"]
        target = self.task / handlers[max(handlers, key=lambda name: int(re.findall(r"\d+", name)[0]))]["target"]
        self.temp.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            self.wrap([self.node, str(target)]),
            env=self.environment(inputs, endpoints, variables or {}),
            cwd=cwd or self.temp,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        allowed = self.manifest.get("restrictions", {}).get("settableVariables", {}).get("allowed", ())
        hidden = [value for endpoint in (self.connection, *endpoints) for value in endpoint.parameters.values()]
        return Running(process=process, allowed=frozenset(allowed), known_secrets=tuple(hidden))

    def run(
        self,
        inputs: Mapping[str, str],
        endpoints: Sequence[Endpoint] = (),
        variables: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Ended:
        """The step from its start to its end."""
        return self.start(inputs, endpoints, variables, cwd).wait()
