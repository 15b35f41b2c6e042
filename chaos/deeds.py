"""What may happen to a service: commands that may be killed, edits by hand, pods that go, istiod that starts anew.

Every deed says what it did. One that may lose requests by itself, whatever the release step does, notes for how long: those are
counted apart.
"""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.cluster import Cluster
from tests.e2e.service import RELEASE, Run, Service, Started

TAGS = ("83", "84", "85")
CANARY = f"{RELEASE}canary"
ROUTE = "product-page-virtual-service"
# A pod that is deleted stops after its preStop sleep; what it still had in flight is lost, and may be seen later.
POD_GONE_S = 20.0
# The codes of section 6 of the design but for wrong usage, which no deed is.
EXPECTED_CODES = {0, 3, 4, 5, 6, 130, -signal.SIGKILL}


@dataclass
class Account:
    """What happened. `excused`: spans of time, in seconds, in which a deed loses requests by itself."""

    commands: int = 0
    kills: int = 0
    edits: int = 0
    pods: int = 0
    restarts: int = 0
    codes: dict[int, int] = field(default_factory=dict)
    excused: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Deeds:
    """Carries deeds out on one service, each drawn from `chance`."""

    cluster: Cluster
    service: Service
    chance: random.Random
    account: Account = field(default_factory=Account)
    tag: str = "84"

    def next(self) -> str:
        """One deed, and what it was."""
        deeds: list[tuple[int, Callable[[], str]]] = [
            (50, self.command),
            (20, self.killed_command),
            (6, self.patch_weights),
            (5, self.scale),
            (4, self.set_image),
            (4, self.restart_rollout),
            (2, self.delete_lease),
            (1, self.delete_route),
            (5, self.delete_pod),
            (2, self.restart_istiod),
        ]
        weights = [weight for weight, _ in deeds]
        return self.chance.choices([deed for _, deed in deeds], weights)[0]()

    # --- commands ----------------------------------------------------------------------------------------------------

    def command(self) -> str:
        words = self._words()
        run = self._start(words).end()
        self._note(run)
        return f"{' '.join(words)}: {run.code} {run.answer['result']}"

    def killed_command(self) -> str:
        words, number = (
            self._words(),
            self.chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
        )
        started = self._start(words)
        time.sleep(self.chance.uniform(0.1, 6.0))
        with_helm = self.chance.random() < 0.5
        if number is signal.SIGKILL:
            started.kill(alone=not with_helm)
        else:
            started.signal(number)
        run = started.end()
        self.account.kills += 1
        self._note(run)
        return f"{' '.join(words)}, {number.name}{' with its helm' if with_helm else ''}: {run.code}"

    def _words(self) -> list[str]:
        """Mostly what a pipeline would do next; now and then what it should not."""
        if self.chance.random() < 0.2:
            return ["rollback"]
        stage = self._next_stage() if self.chance.random() < 0.75 else self.chance.randint(1, 7)
        if stage == 2 and self.chance.random() < 0.5:
            self.tag = self.chance.choice(TAGS)
        return ["stage", str(stage), self.tag]

    def _next_stage(self) -> int:
        said = self.service.start("status").end()
        number = said.answer.get("stage-number") or 1
        return 2 if number == 7 or said.answer.get("direction") == "rolled-back" else min(int(number) + 1, 7)

    def _start(self, words: list[str]) -> Started:
        self.account.commands += 1
        if words[0] == "stage":
            return self.service.start_stage(words[1], words[2], "--again")
        return self.service.start(*words)

    def _note(self, run: Run) -> None:
        self.account.codes[run.code] = self.account.codes.get(run.code, 0) + 1
        if run.code not in EXPECTED_CODES or re.search(r"Traceback|itself failed", run.said):
            self.account.wrong.append(f"{run.command} ended with {run.code}:\n{run.text}")
        if run.code == 0 and run.answer.get("changed"):
            self._mended()

    # --- edits -------------------------------------------------------------------------------------------------------

    def patch_weights(self) -> str:
        """Between tracks that both have Ready pods: anything else would lose requests by itself."""
        if not all(self._ready(name) for name in (RELEASE, CANARY)) or not self._has_route():
            return "no weights patched"
        weight = self.chance.choice((0, 30, 50, 100))
        patch = (
            "["
            + ",".join(
                f'{{"op":"replace","path":"/spec/http/0/route/{index}/weight","value":{value}}}'
                for index, value in enumerate((100 - weight, weight))
            )
            + "]"
        )
        return self._edit("patch", "virtualservice", ROUTE, "--type=json", "-p", patch)

    def scale(self) -> str:
        name = self.chance.choice((RELEASE, CANARY))
        now = self._ready(name)
        return (
            self._edit("scale", "deployment", name, f"--replicas={self.chance.randint(2, 3)}")
            if now
            else "nothing scaled"
        )

    def set_image(self) -> str:
        image = f"{self.service.values['productionDeployment']['image']['repository']}:{self.chance.choice(TAGS)}"
        return self._edit("set", "image", f"deployment/{self.chance.choice((RELEASE, CANARY))}", f"*={image}")

    def restart_rollout(self) -> str:
        return self._edit("rollout", "restart", f"deployment/{self.chance.choice((RELEASE, CANARY))}")

    def delete_lease(self) -> str:
        return self._edit("delete", "lease", f"helm-canary.{RELEASE}", "--ignore-not-found")

    def delete_route(self) -> str:
        """Everything is lost until a command writes it again."""
        if self._has_route():
            self.account.excused.append((time.time(), float("inf")))
        return self._edit("delete", "virtualservice", ROUTE, "--ignore-not-found")

    def _has_route(self) -> bool:
        return bool(
            self.service.kubectl("get", "virtualservice", ROUTE, "--ignore-not-found", "--output", "name").strip()
        )

    def _mended(self) -> None:
        self.account.excused = [
            (began, time.time() + 2 if ended == float("inf") and self._has_route() else ended)
            for began, ended in self.account.excused
        ]

    def _ready(self, name: str) -> int:
        found = {item["metadata"]["name"]: item.get("status") or {} for item in self.service.read("deployments")}
        return int(found.get(name, {}).get("availableReplicas") or 0)

    def _edit(self, *words: str) -> str:
        self.account.edits += 1
        return "kubectl " + " ".join(words) + ": " + self.service.kubectl(*words).strip()

    # --- what goes by itself -----------------------------------------------------------------------------------------

    def delete_pod(self) -> str:
        pods = sorted(pod["metadata"]["name"] for pod in self.service.read("pods"))
        if not pods:
            return "no pod to delete"
        self.account.pods += 1
        self.account.excused.append((time.time(), time.time() + POD_GONE_S))
        return self.service.kubectl("delete", "pod", self.chance.choice(pods), "--wait=false").strip()

    def restart_istiod(self) -> str:
        self.account.restarts += 1
        self.cluster.stop_daemon("istiod")
        time.sleep(self.chance.uniform(0.0, 5.0))
        self.cluster.start_daemon("istiod")
        return "istiod restarted"
