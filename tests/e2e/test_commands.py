"""Commands that are given again, too late or only to look."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from .conftest import Lab
from .service import Service
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RELEASE = Release("83", "84")


def test_every_command_may_be_given_again(steady: Service) -> None:
    """A stage again is `nothing`, an earlier one `already-past`, a second rollback `nothing`: no revision is written."""
    for stage in range(2, 8):
        steady.stage(stage, "84").expect(0, "done")
        before = steady.snapshot()
        assert steady.stage(stage, "84").expect(0, "nothing").upgrades == []
        if stage > 2:
            assert steady.stage(stage - 1, "84").expect(0, "already-past").upgrades == []
        assert steady.snapshot() == before
    # An old pipeline, run again from its beginning.
    before = steady.snapshot()
    for stage in (1, 2, 4):
        assert steady.stage(stage, "83").expect(0).answer["changed"] is False
    assert steady.snapshot() == before
    steady.rollback().expect(0, "done")
    steady.check(RELEASE.rolled_back)
    before = steady.snapshot()
    assert steady.rollback().expect(0, "nothing").upgrades == []
    assert steady.snapshot() == before


def test_plan_shows_and_changes_nothing(lab: Lab) -> None:
    """`plan 2` and `plan all` name every Helm command with its weights, tags and replicas, and touch nothing."""
    with lab.lend("refusals", lab.service) as service:
        before = service.snapshot()
        two, whole = service.plan(2, "84").expect(0), service.plan("all", "84").expect(0)
        assert service.snapshot() == before
    (first,) = two.answer["plans"]
    assert [entry["stage"] for entry in whole.answer["plans"]] == [1, 2, 3, 4, 5, 6, 7]
    assert first["commands"] == whole.answer["plans"][1]["commands"]
    commands = [command for entry in whole.answer["plans"] for command in entry["commands"]]
    assert all(command.startswith("helm upgrade productpage ") for command in commands)
    splits = [
        f"productionDeployment.replicaCount=2,productionDeployment.weight={100 - w}," for w in (0, 10, 90, 100, 0)
    ]
    positions = [next(n for n, command in enumerate(commands) if split in command) for split in splits]
    assert positions[:4] == sorted(positions[:4])
    assert any("canaryDeployment.replicaCount=2,canaryDeployment.weight=10" in command for command in commands)
    assert any("image.tag=83,canaryDeployment.image.tag=84" in command for command in commands)


def test_a_plan_on_a_cluster_loads_no_cloud_and_no_http(lab: Lab) -> None:
    """Without --cluster-name neither the cloud's libraries nor those for HTTP are loaded, also where a cluster is asked."""
    with lab.lend("refusals", lab.service) as service:
        run = replace(service, environment={"PYTHONPROFILEIMPORTTIME": "1"}).plan(2, "84").expect(0)
    times = (line.split("|") for line in run.said.splitlines() if line.startswith("import time:"))
    loaded = {words[-1].strip().split(".")[0] for words in times}
    assert "yaml" in loaded
    assert loaded & {"azure", "msal", "requests", "urllib3", "cryptography"} == set()


def test_what_plan_shows_is_what_stage_does(steady: Service) -> None:
    """The Helm commands of `plan 2` are, word by word, those that `stage 2` then carries out."""
    (planned,) = steady.plan(2, "84").expect(0).answer["plans"]
    assert steady.stage(2, "84").expect(0, "done").upgrades == planned["commands"]


def test_verify_sees_the_split(steady: Service) -> None:
    """After stage 3 `verify` counts about nine tenths on the canary, and all statuses 200."""
    steady.stage(2, "84").expect(0, "done")
    steady.stage(3, "84").expect(0, "done")
    answer = steady.verify("--requests", "200").expect(0, "done").answer
    assert answer["status"] == {"200": 200}
    assert answer["asked"] == {"production": 10, "canary": 90}
    split = Counter(answer["split"])
    assert split.keys() == {"production", "canary"}
    assert 155 <= split["canary"] <= 199
