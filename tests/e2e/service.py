"""One service on the cluster, and the commands on it: what a person or a pipeline types, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.cluster import Cluster

from .states import State, TrackState

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/productpage"
RELEASE = "productpage"
# What the chart makes, and where Helm remembers: the command that changes nothing leaves all of it untouched.
KINDS = (
    "deployments,services,poddisruptionbudgets,configmaps,secrets,replicasets,"
    "virtualservices.networking.istio.io,destinationrules.networking.istio.io,gateways.networking.istio.io"
)
COMMAND_LIMIT_S = 240.0
LINE_LIMIT_S = 60.0


@dataclass(frozen=True)
class Run:
    """A command that ended: its exit code, its JSON answer, what it said on the way, and how long it took."""

    command: str
    code: int
    answer: Mapping[str, Any]
    said: str
    seconds: float

    @property
    def text(self) -> str:
        """All that a person would read."""
        return f"{self.said}\n{json.dumps(self.answer, indent=2)}"

    @property
    def upgrades(self) -> list[str]:
        """The Helm commands that it carried out."""
        return [line.strip()[2:] for line in self.said.splitlines() if line.strip().startswith("$ helm upgrade")]

    def expect(self, code: int, result: str = "") -> Run:
        assert self.code == code, f"{self.command}\nended with {self.code}, not {code}:\n{self.text}"
        assert not result or self.answer["result"] == result, f"{self.command}\nsaid {self.text}"
        return self


@dataclass
class Started:
    """A command that still runs."""

    command: str
    process: subprocess.Popen[str]
    began: float
    said: list[str] = field(default_factory=list)

    def wait_for_line(self, pattern: str) -> None:
        """Read on until it has said this."""
        assert self.reads(pattern), f"it ended without a line {pattern!r}:\n{''.join(self.said)}"

    def reads(self, pattern: str) -> bool:
        """Read on until it has said this; False where it ends first."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + LINE_LIMIT_S
        for line in self.process.stderr:
            self.said.append(line)
            if re.search(pattern, line):
                return True
            assert time.monotonic() < deadline, f"no line {pattern!r} in time:\n{''.join(self.said)}"
        return False

    def read_plan(self) -> tuple[str, ...]:
        """The steps that it is about to take, once it has said the first one's line; none where it ended without."""
        if not self.reads(r"^\[1/"):
            return ()
        numbered = (re.match(r"  (\d+)\. (.*)", line) for line in self.said)
        found = [(int(match[1]), match[2]) for match in numbered if match]
        # It may have planned more than once.
        last = max(index for index, (number, _) in enumerate(found) if number == 1)
        return tuple(text for _, text in found[last:])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self, *, alone: bool) -> None:
        """SIGKILL: with all that it has started, or so that those go on without it."""
        children: list[int] = []
        if not alone:
            # What it starts or hears of in between would be one that is not found.
            self.signal(signal.SIGSTOP)
            children = [pid for pid, _ in self.children()]
        self.process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def children(self) -> Iterator[tuple[int, list[str]]]:
        """The processes that it has started and that still run: id and words. Each is in a session of its own."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]) == self.process.pid:
                    words = folder.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0")
                    yield int(folder.name), words

    def helm(self) -> int:
        """The id of the `helm upgrade` that it waits for; 0 where there is none."""
        return next((pid for pid, words in self.children() if words[:2] == ["helm", "upgrade"]), 0)

    def end(self, timeout_s: float = COMMAND_LIMIT_S) -> Run:
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"{self.command}\nhad not ended after {timeout_s:g} s:\n{err}") from None
        seconds = time.monotonic() - self.began
        return Run(self.command, self.process.returncode, _parsed(out), "".join(self.said) + err, seconds)


def _parsed(out: str) -> Mapping[str, Any]:
    try:
        answer: Mapping[str, Any] = json.loads(out)
    except ValueError:
        return {"result": "", "text": out}
    return answer


@dataclass(frozen=True)
class Service:
    """One service of a namespace. `chart` and `values` are what the next command is given; `options` what every one is.

    `environment`: variables that a CI would set.
    """

    cluster: Cluster
    namespace: str
    folder: Path = field(repr=False)
    chart: Path = CHART
    values: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ("--drain", "5s", "--timeout", "90s")
    release: str = RELEASE
    environment: Mapping[str, str] = field(default_factory=dict)
    named_host: str = ""

    @property
    def host(self) -> str:
        return self.named_host or f"{self.namespace}.example.com"

    def having(
        self, *, values: Mapping[str, Any] | None = None, chart: Path | None = None, options: Sequence[str] = ()
    ) -> Service:
        """The same service, whose next commands get other values (merged in), another chart or further options."""
        merged = merge(self.values, values or {})
        return replace(self, values=merged, chart=chart or self.chart, options=(*self.options, *options))

    # --- the product's commands ------------------------------------------------------------------------------------

    def install(self, tag: str) -> Run:
        return self.stage(1, tag).expect(0, "done")

    def stage(self, stage: int | str, tag: str, *more: str) -> Run:
        return self.start("stage", str(stage), "--tag", tag, *self._source(), *more).end()

    def rollback(self, *more: str) -> Run:
        return self.start("rollback", *more).end()

    def plan(self, stage: int | str, tag: str, *more: str) -> Run:
        return self.start("plan", str(stage), "--tag", tag, *self._source(), *more).end()

    def status(self) -> Mapping[str, Any]:
        return self.start("status").end().expect(0).answer

    def verify(self, *more: str) -> Run:
        return self.start("verify", *more).end()

    def start(self, *words: str) -> Started:
        """Any command, as a process of its own in the cluster's network."""
        at = ("--release", self.release, "--namespace", self.namespace, "--output", "json", *self.options)
        argv = [sys.executable, "-m", "helm_canary", *words, *at]
        process = subprocess.Popen(
            self.cluster.command(*argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
        )
        return Started(shlex.join(["helm-canary", *words]), process, time.monotonic())

    def start_stage(self, stage: int | str, tag: str, *more: str) -> Started:
        return self.start("stage", str(stage), "--tag", tag, *self._source(), *more)

    def _environment(self) -> dict[str, str]:
        """Without what the shell or CI job that runs the tests may hold for the product."""
        held = ("HELM_CANARY_", "GITHUB_", "BUILD_", "SYSTEM_")
        kept = {name: value for name, value in self.cluster.environment().items() if not name.startswith(held)}
        return {**kept, **self.environment}

    def _source(self) -> tuple[str, ...]:
        return ("--chart", str(self.chart), "--values", str(self.values_file()))

    def values_file(self) -> Path:
        path = self.folder / f"{self.namespace}-{self.release}-values.json"
        path.write_text(json.dumps(self.values, indent=2))
        return path

    # --- what is there, seen without the product ---------------------------------------------------------------------

    def kubectl(self, *words: str | Path) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *words)

    def read(self, kinds: str, *more: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kinds, "--output", "json", *more))["items"]
        return items

    def tracks(self) -> tuple[TrackState, TrackState]:
        """Production and canary as the API server has them: image, weight, replicas."""
        return self.tracks_of(
            self.read("deployments,virtualservices.networking.istio.io", "--selector", f"release={self.release}")
        )

    def tracks_of(self, items: Sequence[Mapping[str, Any]]) -> tuple[TrackState, TrackState]:
        """The same, of what was read."""
        deployments = {item["metadata"]["name"]: item for item in items if item["kind"] == "Deployment"}
        route = next(item for item in items if item["kind"] == "VirtualService")
        entries = route["spec"]["http"][0]["route"]
        weights = {entry["destination"]["subset"]: int(entry.get("weight", 0)) for entry in entries}
        return tuple(  # type: ignore[return-value]
            TrackState(image_tag(deployments[name]), weights[track], int(deployments[name]["spec"].get("replicas", 1)))
            for track, name in (("production", self.release), ("canary", f"{self.release}canary"))
        )

    def template(self, track: str) -> dict[str, Any]:
        """The live pod template of a track."""
        name = self.release if track == "production" else f"{self.release}canary"
        spec = json.loads(self.kubectl("get", "deployment", name, "--output", "json"))["spec"]
        template: dict[str, Any] = spec["template"]
        return template

    def pods(self, track: str) -> dict[str, int]:
        """uid -> restarts of the track's pods that are not on their way out."""
        chosen = "false" if track == "production" else "true"
        found = self.read("pods", "--selector", f"release={self.release},canary={chosen}")
        return {
            pod["metadata"]["uid"]: sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))
            for pod in found
            if "deletionTimestamp" not in pod["metadata"]
        }

    def snapshot(self) -> dict[str, str]:
        """KIND/NAME -> all of everything that a release is made of, but what its controllers go on counting."""
        return {f"{item['kind']}/{item['metadata']['name']}": _lasting(item) for item in self.read(KINDS)}

    def revision(self) -> int:
        """The number of Helm's newest revision; 0 without one."""
        return max(self.revisions(), default=0)

    def revisions(self) -> dict[int, str]:
        """Number -> status of each revision that Helm still has."""
        selector = ("--selector", f"owner=helm,name={self.release}")
        labels = [item["metadata"]["labels"] for item in self.read("secrets", *selector)]
        return {int(of["version"]): of["status"] for of in labels}

    def check_serving(self) -> None:
        """What holds at every instant: the weights sum to 100, and whoever has any is whole: updated, Ready, available."""
        items = self.read("deployments,virtualservices.networking.istio.io", "--selector", f"release={self.release}")
        deployments = {item["metadata"]["name"]: item for item in items if item["kind"] == "Deployment"}
        tracks = dict(zip((self.release, f"{self.release}canary"), self.tracks_of(items), strict=True))
        assert sum(track.weight for track in tracks.values()) == 100, tracks
        for name, track in tracks.items():
            status = deployments[name].get("status") or {}
            whole = {status.get(key) for key in ("replicas", "updatedReplicas", "availableReplicas")}
            assert not track.weight or whole == {track.replicas}, f"{name} has {track.weight} % and {status}"

    def check(self, state: State, *, gateways: int = 2, proof: str = "proven") -> None:
        """The cluster is as the table says: asked of the API server, and of `status`, which asks both gateways."""
        assert self.tracks() == (state.production, state.canary)
        said = self.status()
        for track, wanted in (("production", state.production), ("canary", state.canary)):
            shown = said[track]
            assert (shown["tag"], shown["weight"], shown["replicas"]) == (wanted.tag, wanted.weight, wanted.replicas)
            assert shown["ready"] == wanted.replicas, said
        assert (said["stage"], said["stage-number"], said["direction"]) == (state.name, state.number, state.direction)
        assert len(said["weights-in-force"]) == gateways, said["weights-in-force"]
        assert set(said["weights-in-force"].values()) == {state.split}, said["weights-in-force"]
        assert said["proof"] == proof, said


def image_tag(deployment: Mapping[str, Any]) -> str:
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image.rpartition(":")[2]


def _lasting(item: Mapping[str, Any]) -> str:
    """Pods that end later still change a Deployment's status, and with that its resource version."""
    metadata = {k: v for k, v in item["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    rest = {key: value for key, value in item.items() if key not in ("status", "metadata")}
    return json.dumps({**rest, "metadata": metadata}, sort_keys=True)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Maps key by key, everything else replaced: as Helm merges two values files."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def copy_chart(folder: Path, *changes: tuple[str, str, str]) -> Path:
    """A copy of the chart with (file, this text, that text instead) changed in it; `("file", "", text)` makes a new file."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    for name, old, new in changes:
        path = chart / name
        if old:
            text = path.read_text()
            assert text.count(old) == 1, f"{name} holds {text.count(old)} times {old!r}"
            path.write_text(text.replace(old, new))
        else:
            path.write_text(new)
    return chart


def base_values(repository: str, host: str) -> dict[str, Any]:
    """Two pods, routed by the gateways alone. Their requests are small: many services share a node of one or two CPUs."""
    image = {"repository": repository}
    return {
        "productionDeployment": {"replicaCount": 2, "image": image},
        "canaryDeployment": {"image": image},
        "pod": {"resources": {"requests": {"cpu": "1m", "memory": "8Mi"}}},
        "gateway": {"mesh": False, "hosts": [host]},
    }
