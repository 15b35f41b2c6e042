"""What is not done, and why: each refusal names the facts and the way on, and nothing was touched.

A missing right is test_rights', another chart test_versions', wrong input that of tests/cli.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from .conftest import Lab
from .service import RELEASE, Run, Service
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

WALK = Release("83", "84")
HOST = "product-page-svc.{namespace}.svc.cluster.local"


def check_refused(run: Run, *said: str) -> None:
    """Three parts, of which the first two or the third name these facts."""
    run.expect(3, "refused")
    assert run.answer["changed"] is False, run.text
    error = run.answer["error"]
    assert all(error[part] for part in ("happened", "means", "do-next")), run.text
    assert "what it means:" in run.said
    assert "what to do:" in run.said
    text = " ".join(error[part] for part in ("happened", "means", "do-next"))
    missing = [fact for fact in said if fact not in text]
    assert not missing, f"{missing} not in\n{run.text}"


def all_of_it(service: Service) -> object:
    """Everything that a command could have written, the Lease included."""
    return service.snapshot(), service.revision(), service.read("leases")


@pytest.fixture(scope="module")
def under_way(lab: Lab) -> Iterator[Service]:
    """84 over 83, at `canary-10`."""
    service = lab.service()
    service.install("83")
    service.stage(2, "84", "--approved-by", "a colleague").expect(0, "done")
    yield service
    lab.delete(service.namespace)


Asked = Callable[[Service], Run]
# What is asked for while 84 is at canary-10 -> the facts that are named.
ASKED: dict[str, tuple[Asked, tuple[str, ...]]] = {
    "another release": (
        lambda service: service.stage(2, "85"),
        ("Another release is under way: 84-", "is at canary-10", " since ", "`rollback --of 84-"),
    ),
    "another release, at the same stage": (
        lambda service: service.stage(3, "85"),
        ("Another release is under way: 84-", "then start 85-"),
    ),
    "the same tag with other settings": (
        lambda service: service.having(values={"pod": {"env": {"NEW": "1"}}}).stage(3, "84"),
        ("chart and values now render 84-", "for the same tag"),
    ),
    "other weights": (
        lambda service: service.stage(3, "84", "--weights", "10,50,100"),
        ("is under way with the weights 10, 90, 100", "now 10, 50, 100 was asked for", "`--weights 10,90,100`"),
    ),
    "a stage skipped": (
        lambda service: service.stage("promote", "84"),
        ("Stage 5 (promote) was asked for", "has reached 2 (canary-10)", "First run `stage 3 --tag 84`"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("asked", ASKED.values(), ids=[*ASKED])
def test_what_does_not_fit_the_release_under_way_is_refused(
    asked: tuple[Asked, tuple[str, ...]], under_way: Service
) -> None:
    """Another release, other weights, other settings or a skipped stage is refused, with where the one under way is."""
    ask, said = asked
    before = all_of_it(under_way)
    run = ask(under_way)
    check_refused(run, *said)
    assert (run.answer["traffic"], run.answer["stage"]) == ("split", "canary-10")
    assert all_of_it(under_way) == before


@dataclass(frozen=True)
class Rival:
    """A VirtualService beside the chart's own: where it is bound, which host it takes, where it sends to."""

    gateways: tuple[str, ...]
    host: str
    to: str
    elsewhere: bool = False

    def text(self, service: Service, namespace: str) -> str:
        host, to = (name.format(namespace=service.namespace) for name in (self.host, self.to))
        spec = {"hosts": [host], "gateways": [*self.gateways], "http": [{"route": [{"destination": {"host": to}}]}]}
        metadata = {"name": "rival", "namespace": namespace}
        return json.dumps(
            {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}
        )


RIVALS = {
    "on the gateway, with a host of its own": Rival((RELEASE,), "rival.example.com", HOST),
    "in another namespace": Rival(("mesh",), "rival.example.com", HOST, elsewhere=True),
}


@pytest.mark.parametrize("rival", RIVALS.values(), ids=[*RIVALS])
def test_a_rival_route_is_refused(rival: Rival, under_way: Service, lab: Lab) -> None:
    """A VirtualService that sends to the same Service is named, wherever it is; without it the stage is as before."""
    namespace = lab.service().namespace if rival.elsewhere else under_way.namespace
    under_way.cluster.kubectl("apply", "-f", "-", stdin=rival.text(under_way, namespace))
    try:
        before = all_of_it(under_way)
        check_refused(
            under_way.stage(3, "84"), f"the VirtualService {namespace}/rival also routes to", "do not delete it"
        )
        assert all_of_it(under_way) == before
    finally:
        under_way.cluster.kubectl("--namespace", namespace, "delete", "virtualservice", "rival")
    assert under_way.stage(2, "84").expect(0, "nothing").answer["changed"] is False


@pytest.mark.matrix
def test_a_live_holder_is_refused(fresh: Service) -> None:
    """While another command waits for pods, the same stage is refused and names it; that one goes on with its wait."""
    fresh.install("83")
    holder = fresh.start_stage(2, "never")
    holder.wait_for_line("to be Ready")
    before = fresh.snapshot(), fresh.revision()
    check_refused(
        fresh.stage(2, "never"), "Another command is at work on this release: `stage 2`", "Wait until it has finished"
    )
    assert (fresh.snapshot(), fresh.revision()) == before
    holder.signal(signal.SIGINT)
    holder.end().expect(130)


def test_no_stage_while_a_rollback_is_on_its_way(fresh: Service) -> None:
    """After a rollback that was killed every stage is refused, of its release and of others; the rollback, run again, arrives."""
    fresh.install("83")
    fresh.stage(2, "84").expect(0, "done")
    rollback = fresh.having(options=("--drain", "60s", "--proof", "wait")).start("rollback")
    rollback.wait_for_line("to be in force")
    os.kill(rollback.process.pid, signal.SIGKILL)
    rollback.process.communicate()
    before = all_of_it(fresh)
    for stage, tag in ((3, "84"), (2, "84"), (2, "85")):
        said = ("The release 84-", "is being rolled back", "Run `rollback --of 84-")
        check_refused(fresh.stage(stage, tag), *said)
    assert all_of_it(fresh) == before
    fresh.rollback().expect(0, "done")
    fresh.check(WALK.rolled_back)
