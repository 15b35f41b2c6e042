"""Random deeds on one service under load; at the end one command must arrive. Bounded by the clock, an hour at most.

python -m chaos [--seed N] [--minutes 10]

The same seed draws the same deeds; what they meet depends on how fast the machine is. Not part of `make test`.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from chaos.deeds import TAGS, Deeds
from tests.cluster import Request, Traffic, up
from tests.e2e.service import Service, base_values

REPOSITORY, NAMESPACE = "localhost/chaos", "chaos"
RPS, MOST_MINUTES = 100, 60.0
OPTIONS = ("--drain", "3s", "--timeout", "60s")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or random.randrange(10**6)))
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES") or 10))
    asked = parser.parse_args(arguments)
    cluster = up()
    for tag in TAGS:
        cluster.image(f"{REPOSITORY}:{tag}", START_DELAY_MS="1000")
    cluster.kubectl("create", "namespace", NAMESPACE)
    values = base_values(REPOSITORY, f"{NAMESPACE}.example.com")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        service = Service(cluster, NAMESPACE, Path(folder), values=values, options=OPTIONS)
        try:
            return run(Deeds(cluster, service, random.Random(asked.seed)), asked.seed, min(asked.minutes, MOST_MINUTES))
        finally:
            cluster.start_daemon("istiod")
            cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def run(deeds: Deeds, seed: int, minutes: float) -> int:
    """Deeds until the time is over, then the end; 0 where nothing was wrong."""
    print(f"seed {seed}, {minutes:g} minutes", flush=True)
    deeds.service.install("83")
    until = time.monotonic() + 60 * minutes
    with Traffic(deeds.cluster, deeds.service.host, rps=RPS) as traffic:
        while time.monotonic() < until:
            print(f"{time.strftime('%H:%M:%S')} {deeds.next()}", flush=True)
        arrive(deeds)
        time.sleep(2)
        requests = traffic.requests()
    return account(deeds, requests)


def arrive(deeds: Deeds) -> None:
    """One command, whatever was done before: all traffic on a version that is Ready, and nothing half-done."""
    run = deeds.service.rollback()
    if run.code == 3 and "no version before" in run.text:
        run = deeds.service.stage(1, "83")
    said = deeds.service.status()
    production, canary = said["production"], said["canary"]
    arrived = run.code == 0 and production["weight"] == 100 and production["ready"] == production["replicas"] > 0
    if not arrived or canary["weight"] != 0 or said["direction"] not in ("rolled-back", "finished"):
        deeds.account.wrong.append(f"the last command did not arrive:\n{run.text}\n{said}")


def account(deeds: Deeds, requests: tuple[Request, ...]) -> int:
    done, excused = deeds.account, deeds.account.excused
    lost = [request for request in requests if request.lost]
    ours = [one for one in lost if not any(began <= one.sent_ms / 1000 <= ended for began, ended in excused)]
    codes = ", ".join(f"{count} with {code}" for code, count in sorted(done.codes.items()))
    print(
        f"{done.commands} commands ({codes}), {done.kills} of them killed, {done.edits} edits by hand, {done.pods} pods deleted, "
        f"istiod restarted {done.restarts} times\n"
        f"{len(requests)} requests; {len(lost) - len(ours)} lost by what was deleted by hand, {len(ours)} lost besides"
    )
    for one in ours[:20]:
        print(f"lost: sent {time.strftime('%H:%M:%S', time.localtime(one.sent_ms / 1000))}, status {one.status}")
    for text in done.wrong:
        print(f"wrong: {text}")
    return 1 if ours or done.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
