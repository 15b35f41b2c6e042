"""The files that users copy from pipelines/github, run by `act` on the real cluster under real traffic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.traffic import Traffic
from tests.github.act import OURS, ROOT, Hub, ended, hub

from .conftest import Lab
from .ledger import Ledger
from .service import Service
from .settling import RPS, settle
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.matrix, pytest.mark.timeout(900)]

FILES = ROOT / "pipelines/github"
RELEASE = Release("83", "84")
CALLED = f"{OURS}/.github/workflows/"


@pytest.fixture
def github(fresh: Service, tmp_path: Path) -> Iterator[Hub]:
    """A repository for a service that is not installed yet."""
    with hub(fresh, tmp_path) as made:
        yield made


def copied(service: Service, name: str, **more: Any) -> str:
    """The file as its user has it: with the names of the service, and here with a kubeconfig, since there is no AKS."""
    body = yaml.safe_load((FILES / name).read_text(encoding="utf-8"))
    # YAML 1.1 reads `on` as true.
    body["on"] = body.pop(True)
    for job in body["jobs"].values():
        assert job["uses"].startswith(CALLED)
        place = {"release": service.release, "namespace": service.namespace, "drain": "1s", "timeout": "90s"}
        values = {"values": str(service.values_file())} if "rollback" not in job["uses"] else {}
        job["with"] = {**job["with"], **place, **values, **more}
        job["secrets"] = {"kubeconfig": "${{ secrets.KUBECONFIG }}"}
    return yaml.safe_dump(body)


def test_every_stage_started_by_hand(github: Hub, ledger: Ledger) -> None:
    """by-hand.yml: who may starts one stage after the other, and it is in the record; anybody else changes nothing."""
    service = github.service
    service.install("83")
    text = copied(service, "by-hand.yml")
    (choices,) = [yaml.safe_load(text)["on"]["workflow_dispatch"]["inputs"]["stage"]["options"]]

    def start(stage: str, who: str) -> int:
        variables = {"GITHUB_TRIGGERING_ACTOR": who}
        run = ended(github.start_file(text, {"tag": "84", "stage": stage}, variables))
        assert run.of("Gate") == {}, run.jobs
        assert (run.code == 0) == (who == "release-manager"), run.log
        assert run.code == 0 or "eve is not allowed to start this stage" in run.log, run.log
        return run.code

    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        for number, stage in enumerate(choices, start=1):
            before = service.snapshot()
            traffic.mark(f"{stage} by nobody who may")
            start(stage, "eve")
            assert service.snapshot() == before
            if number == 1:
                continue  # the release begins at 2: at 1 another version is production
            traffic.mark(stage)
            start(stage, "release-manager")
            service.check(RELEASE.at(number))
            assert service.status()["by"]["who"] == "release-manager"
        settle(traffic, ledger, "by hand, by act")


def test_a_newer_run_while_an_older_one_waits(github: Hub, ledger: Ledger) -> None:
    """84 waits at a gate: a run of 85 is refused and names it, changes nothing and is rolled back by nobody; 84 goes on."""
    service = github.service
    service.install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("84 to stage 3")
        for stage in ("2", "3"):
            github.approve(f"canary-{stage}")
            run = github.run("stage", "84", {"stage": stage, "gate": f"canary-{stage}"})
            assert run.code == 0, run.log
        waiting = dict(github.state)
        before = service.snapshot()

        traffic.mark("85")
        github.new_run()
        github.approve("canary-2", "canary-3")
        newer = github.run("release", "85")
        assert newer.code == 1, newer.log
        assert "84" in next(entry["msg"] for entry in newer.entries if entry["msg"].startswith("error:")), newer.log
        assert service.snapshot() == before

        traffic.mark("84 goes on")
        github.state = waiting
        github.approve("canary-4")
        older = github.run("stage", "84", {"stage": "4", "gate": "canary-4"})
        assert older.code == 0, older.log
        service.check(RELEASE.at(4))

        traffic.mark("an emergency beside a waiting run")
        back = ended(github.start_file(copied(service, "rollback.yml"), {"of": "84"}))
        assert back.code == 0, back.log
        service.check(RELEASE.rolled_back)
        settle(traffic, ledger, "a newer run by act")


def test_two_services_release_at_once(lab: Lab, tmp_path: Path, ledger: Ledger) -> None:
    """Two workflows of one repository run side by side, each on its own release: one goes on, the other goes back."""
    shop, cart = lab.service(), lab.service()
    for folder in ("shop", "cart"):
        (tmp_path / folder).mkdir()
    with hub(shop, tmp_path / "shop") as one, hub(cart, tmp_path / "cart") as other:
        shop.install("83")
        cart.install("83")
        with (
            Traffic(shop.cluster, shop.host, rps=RPS // 2) as traffic,
            Traffic(cart.cluster, cart.host, rps=RPS // 2) as second,
        ):
            traffic.mark("shop of two")
            second.mark("cart of two")
            one.approve("canary-2", "canary-3")
            one.reject("canary-4")
            other.approve("cart-2", "cart-3", "cart-4")
            other.state["closed"].append("cart-5")
            other.write()
            started = [
                one.start_file(pushed(copied(shop, "several-services.yml", tag="84", gates="canary-"))),
                other.start_file(pushed(copied(cart, "several-services.yml", tag="84"))),
            ]
            runs = [ended(process) for process in started]
            for run in runs:
                assert list(run.of("Rollback").values()) == ["success"], run.log
            shop.check(RELEASE.rolled_back)
            cart.check(RELEASE.at(4))
            settle(traffic, ledger, "shop of two by act")
            settle(second, ledger, "cart of two by act")
    for service in (shop, cart):
        lab.delete(service.namespace)


def pushed(text: str) -> str:
    """`act` has no push with paths: the run is what matters here."""
    return yaml.safe_dump({**yaml.safe_load(text), "on": "push"})


def test_a_release_of_a_tag_that_was_pushed_elsewhere(github: Hub, ledger: Ledger) -> None:
    """release-kubeconfig.yml: dispatched with a tag, it walks all approved stages, 0 lost."""
    service = github.service
    service.install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("dispatched release")
        github.approve(*(f"canary-{number}" for number in range(2, 8)))
        run = ended(github.start_file(copied(service, "release-kubeconfig.yml"), {"tag": "84"}))
        assert run.code == 0, run.log
        service.check(RELEASE.at(7))
        settle(traffic, ledger, "a dispatched release by act")
