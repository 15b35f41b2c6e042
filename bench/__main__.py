"""The tool against the same Helm upgrades typed by hand, paired and interleaved in one run. Reports; asserts nothing.

python -m bench [--rounds 3] [--only release,in-place,plan,help,memory,rollback,timeline]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import timeline
from bench.service import CHART, RELEASE, REPOSITORY, BenchError, Service, Timed
from helm_canary.core.model import Role
from helm_canary.core.stages import DEFAULT_WEIGHTS, stages_for
from tests.cluster import Cluster, ClusterError, Request, Traffic, up

TAGS = ("83", "84")
# Enough that at 10 % the canary answers every 50 ms.
RPS = 200
SAFETY = ("prove", "drain", "watch")
DEPLOYMENTS = {"production": "productpage", "canary": "productpagecanary"}
IN_PLACE_RUNS, HELP_RUNS = 5, 20
SETTLE_S = 1.0


@dataclass
class Numbers:
    """Name of a measurement -> its values, with their unit and aim."""

    values: dict[tuple[str, str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, value: float, unit: str = "s", aim: str = "") -> None:
        self.values[name, unit, aim].append(value)

    def table(self) -> str:
        rows: list[Sequence[str]] = [("", "median", "min", "max", "runs", "aim")]
        for (name, unit, aim), values in self.values.items():
            digits = 0 if unit in ("ms", "MB") else 2
            shown = (f"{number:.{digits}f} {unit}" for number in (statistics.median(values), min(values), max(values)))
            rows.append((name, *shown, str(len(values)), aim))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join((row[0].ljust(widths[0]), *cells)).rstrip()


@dataclass
class Bench:
    cluster: Cluster
    tool: Service
    hand: Service
    rounds: int
    numbers: Numbers = field(default_factory=Numbers)
    notes: list[str] = field(default_factory=list)
    _turn: int = 0

    def next_tag(self) -> str:
        """Releases alternate between two versions, so that each is one."""
        self._turn += 1
        return TAGS[self._turn % 2]

    def install(self) -> None:
        for service in (self.tool, self.hand):
            service.create()
        self._by_hand(self.tool.tool("stage", "1", "--tag", TAGS[0]))

    # --- cases -------------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Each stage by the tool, then the upgrades it echoed by hand on the other service."""
        for _ in range(self.rounds):
            tag, whole, whole_by_hand = self.next_tag(), 0.0, 0.0
            for stage in stages_for(DEFAULT_WEIGHTS)[1:]:
                run = self.tool.tool("stage", stage.name, "--tag", tag, "--again")
                upgrades, waits = self._by_hand(run)
                self._compare(stage.name, run, upgrades)
                whole, whole_by_hand = whole + run.seconds, whole_by_hand + sum(upgrades) + waits
            self.numbers.add("whole release, tool", whole)
            self.numbers.add("whole release, the same upgrades and `rollout status` by hand", whole_by_hand)

    def _by_hand(self, run: Timed) -> tuple[list[float], float]:
        """The seconds of each upgrade, and of all waits for pods."""
        upgrades, waits, echoed = [], 0.0, iter(run.upgrades)
        for said in run.lines:
            if said.text.strip().startswith("$ helm "):
                upgrades.append(self.hand.by_hand(next(echoed)).seconds)
            elif said.text.startswith("[") and "] wait: " in said.text:
                track = said.text.split("] wait: ")[1].split()[0]
                waits += self.hand.rollout(DEPLOYMENTS[track]).seconds
        return upgrades, waits

    def _compare(self, stage: str, run: Timed, by_hand: list[float]) -> None:
        """Pods take as long for both, so their wait is left out; what safety needs is told apart."""
        over = run.in_steps("plan", "helm upgrade") - sum(by_hand)
        self.numbers.add("overhead an upgrade, without waits", 1000 * over / max(len(by_hand), 1), "ms", "<= 700 ms")
        self.numbers.add(f"  {stage}: whole command", run.seconds)
        self.numbers.add(f"  {stage}: {len(by_hand)} upgrades by hand", sum(by_hand))
        self.numbers.add(f"  {stage}: until the plan is made", run.in_steps("plan"))
        self.numbers.add(f"  {stage}: upgrades with their checks", run.in_steps("helm upgrade"))
        self.numbers.add(f"  {stage}: prove, drain, watch", run.in_steps(*SAFETY))

    def in_place(self) -> None:
        """The stage that is reached already, asked for again."""
        tag = TAGS[self._turn % 2]
        for _ in range(IN_PLACE_RUNS):
            run = self.tool.tool("stage", "steady" if not self._turn else "finish", "--tag", tag)
            self.numbers.add("a stage that is in place", run.seconds)

    def plan(self) -> None:
        for _ in range(IN_PLACE_RUNS):
            self.numbers.add("plan of one stage", self.tool.tool("plan", "2", "--tag", self._other_tag()).seconds)
            self.numbers.add("status", self.tool.tool("status").seconds)

    def _other_tag(self) -> str:
        return TAGS[(self._turn + 1) % 2]

    def help(self) -> None:
        for _ in range(HELP_RUNS):
            bare = _seconds("-c", "pass")
            helped = _seconds("-m", "helm_canary", "--help")
            self.numbers.add("python -c pass", 1000 * bare, "ms")
            self.numbers.add("--help, more than that", 1000 * (helped - bare), "ms", "<= 60 ms")

    def memory(self) -> None:
        tag = self.next_tag()
        for stage in stages_for(DEFAULT_WEIGHTS)[1:3]:
            used = self.tool.tool_memory("stage", stage.name, "--tag", tag, "--again")
            self.numbers.add("peak memory of the tool's own process", used, "MB", "<= 60 MB")
        self.numbers.add("peak memory of the tool's own process", self.tool.tool_memory("rollback"), "MB", "<= 60 MB")
        self._turn += 1

    def rollback(self) -> None:
        """From the start of the command to the last request that the canary answered, against a bare upgrade."""
        canary = [stage for stage in stages_for(DEFAULT_WEIGHTS) if stage.role is Role.CANARY]
        with Traffic(self.cluster, self.tool.host, rps=RPS) as traffic:
            for _ in range(self.rounds):
                for last in canary:
                    tag = self.next_tag()
                    for stage in canary[: last.number - 1]:
                        self.tool.tool("stage", stage.name, "--tag", tag, "--again")
                    bare = self._weights(0)
                    self._add_last(f"rollback at {last.name}, bare upgrade: last canary answer", bare, traffic)
                    self._weights(last.split.canary)
                    time.sleep(SETTLE_S)
                    run = self.tool.tool("rollback")
                    self._turn += 1
                    self._add_last(f"rollback at {last.name}, tool: last canary answer", run, traffic, "<= 1 s")
                    self.numbers.add(f"rollback at {last.name}, tool: whole command", run.seconds)
            lost = sum(request.lost for request in traffic.requests())
            self.notes.append(f"lost while rollbacks were measured: {lost} of {len(traffic.requests())}")

    def _weights(self, canary: int) -> Timed:
        """A bare upgrade that moves the weights and keeps all other values, the record among them."""
        asked = ("helm", "get", "values", RELEASE, "--namespace", self.tool.namespace, "--output", "json")
        values = json.loads(self.cluster.run(*asked).stdout)
        values["productionDeployment"]["weight"], values["canaryDeployment"]["weight"] = 100 - canary, canary
        command = ["helm", "upgrade", RELEASE, str(CHART), "--server-side=true", "--force-conflicts", "--values", "-"]
        return self.tool.timed([*command, "--namespace", self.tool.namespace], stdin=json.dumps(values))

    def _add_last(self, name: str, run: Timed, traffic: Traffic, aim: str = "") -> None:
        time.sleep(SETTLE_S)
        last = max((request.sent_ms for request in traffic.requests() if _by_canary(request)), default=run.began_ms)
        self.numbers.add(name, max(last - run.began_ms, 0) / 1000, "s", aim)

    def timeline(self) -> None:
        """Each helm and kubectl call of one weight step and of one rollback."""
        tag, (_, first, second, *_rest) = self.next_tag(), stages_for(DEFAULT_WEIGHTS)
        self.tool.tool("stage", first.name, "--tag", tag, "--again")
        for words in (("stage", second.name, "--tag", tag, "--again"), ("rollback",)):
            with timeline.stand_ins(self.cluster, self.tool) as notes:
                run = self.tool.tool(*words)
                self.notes.append(timeline.describe(" ".join(words), timeline.read(notes, run), run))
        self._turn += 1


def _by_canary(request: Request) -> bool:
    return request.track == "canary" and not request.lost


def _seconds(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main(arguments: Sequence[str]) -> int:
    cases: dict[str, Callable[[Bench], None]] = {
        "help": Bench.help,
        "plan": Bench.plan,
        "in-place": Bench.in_place,
        "release": Bench.release,
        "rollback": Bench.rollback,
        "memory": Bench.memory,
        "timeline": Bench.timeline,
    }
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "3")))
    parser.add_argument("--only", default=",".join(cases), help="which, by commas: " + ", ".join(cases))
    asked = parser.parse_args(arguments)
    wanted = asked.only.split(",")
    if unknown := [name for name in wanted if name not in cases]:
        parser.error(f"nothing is measured as {', '.join(unknown)}")
    cluster = up()
    for tag in TAGS:
        cluster.image(f"{REPOSITORY}:{tag}")
    bench = Bench(cluster, Service(cluster, "bench-tool"), Service(cluster, "bench-hand"), asked.rounds)
    try:
        bench.install()
        for name in wanted:
            print(f"{name} ...", file=sys.stderr, flush=True)
            cases[name](bench)
    finally:
        bench.tool.delete()
        bench.hand.delete()
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print("\n\n".join([f"{os.cpu_count()} cores, load {load} at the end", bench.numbers.table(), *bench.notes]))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BenchError, ClusterError) as error:
        sys.exit(f"bench: {error}")
