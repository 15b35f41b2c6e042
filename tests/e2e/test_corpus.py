"""Charts as teams have them, on the cluster: each is released through all stages and back under load, or it is refused
before the first write. charts.yaml has those after public ones; seeds make others.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from tests.cluster import Traffic, table
from tests.cluster.binaries import ensure
from tests.corpus.generator import Features, features
from tests.corpus.table import Entry, Refused, entries

from .conftest import Lab
from .ledger import OURS, Ledger
from .service import Run, Service
from .together import side_by_side
from .walk import record

pytestmark = [pytest.mark.cluster, pytest.mark.matrix, pytest.mark.timeout(900)]

RELEASE = "shop"
# Two go side by side, under half of the other tests' load each.
AT_ONCE, RPS = 2, 50
HOLD_S = 1.0
SETTING = {"mode": "changed"}
# CORPUS="grafana netbox" runs these two of the table alone, whatever there is to them.
CHOSEN = os.environ.get("CORPUS", "").split() or [*entries()]
# Seeds that the matrix runs; CORPUS_SEEDS="7 8 9" runs others.
SEEDS = os.environ.get("CORPUS_SEEDS", "").split() or [str(seed) for seed in range(300, 324)]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart and what its release changes, wherever it comes from."""

    label: str
    path: Path
    change: Mapping[str, Any]
    install: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    before: str = ""

    @classmethod
    def of(cls, thing: Entry | Features, folder: Path) -> Chart:
        if isinstance(thing, Features):
            label, before, change = f"python -m tests.corpus {thing}", "", thing.change
        else:
            label, before, change = thing.name, thing.before, {**SETTING, **thing.change}
        return cls(
            label=label,
            path=thing.write(folder),
            change=change,
            install=thing.install,
            allow=tuple(word for name in thing.allow for word in ("--allow", name)),
            images=thing.images or ("83", "84"),
            before=before,
        )


@pytest.fixture(scope="module", autouse=True)
def helm_on_path() -> Iterator[None]:
    """`helm create` makes one of the charts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{ensure('helm')['helm'].parent}{os.pathsep}{os.environ['PATH']}")
        yield


def _grouped(items: Iterable[Item]) -> list[list[Item]]:
    every = list(items)
    return [every[index : index + AT_ONCE] for index in range(0, len(every), AT_ONCE)]


ENTRIES = [entry for entry in entries().values() if entry.name in CHOSEN]
FITTING = _grouped(entry for entry in ENTRIES if entry.refused is None)
REFUSED = [entry for entry in ENTRIES if entry.refused is not None]
MADE = _grouped(features(int(seed)) for seed in SEEDS)


@pytest.mark.parametrize("group", FITTING, ids=lambda group: "+".join(entry.name for entry in group))
def test_a_chart_after_a_public_one_is_released_and_rolled_back(
    lab: Lab, ledger: Ledger, tmp_path: Path, group: list[Entry]
) -> None:
    """Through all seven stages and back, and to stage 5 and back, with a new tag and new settings: no request is lost."""
    side_by_side(group, lambda entry: _release_and_back(lab, ledger, Chart.of(entry, tmp_path / entry.name)))


@pytest.mark.parametrize("entry", REFUSED, ids=lambda entry: entry.name)
def test_a_chart_after_a_public_one_is_refused(lab: Lab, tmp_path: Path, entry: Entry) -> None:
    """A chart that does not fit is refused before anything of it is in the cluster, with words that say what is wrong."""
    assert entry.refused is not None
    _refuse(lab, Chart.of(entry, tmp_path), entry.refused)


@pytest.mark.parametrize("group", MADE, ids=lambda group: "+".join(str(made.seed) for made in group))
def test_a_made_chart_is_released_or_refused(lab: Lab, ledger: Ledger, tmp_path: Path, group: list[Features]) -> None:
    """What a seed makes is released through all stages and back without a loss, or refused before the first write."""

    def carry_out(made: Features) -> None:
        chart = Chart.of(made, tmp_path / str(made.seed))
        print(chart.label)
        if made.refused is None:
            _release_and_back(lab, ledger, chart)
        else:
            _refuse(lab, chart, made.refused)

    side_by_side(group, carry_out)


# --- a release ---------------------------------------------------------------------------------------------------------


def _release_and_back(lab: Lab, ledger: Ledger, chart: Chart) -> None:
    old, new = chart.images
    with _service(lab, chart) as service:
        _done(chart, service.stage(1, "83", *chart.install))
        changed = service.having(values=chart.change)
        with Traffic(lab.cluster, service.host, rps=RPS) as traffic:
            _forward(changed, chart, traffic, 7)
            _hold(traffic, "finished", {new})
            _back(changed, chart, traffic, 7)
            _hold(traffic, "rolled back", {old})
            _forward(changed, chart, traffic, 5)
            _back(changed, chart, traffic, 5)
            _hold(traffic, "rolled back again", {old})
            moves = traffic.report()
        record(ledger, OURS, "charts of the corpus", moves)
        assert sum(move.lost for move in moves) == 0, f"{chart.label}\n{table(moves)}"
        assert _differs_from_stored(service) == "", chart.label


@contextmanager
def _service(lab: Lab, chart: Chart) -> Iterator[Service]:
    """A namespace of its own with what the chart needs, for as long as the block runs."""
    for tag in chart.images:
        lab.cluster.image(f"localhost/quick:{tag}", START_DELAY_MS="300")
    if chart.before:
        lab.cluster.kubectl("apply", "--filename", "-", stdin=chart.before)
    service = lab.other(chart.path, RELEASE)
    try:
        yield service
    finally:
        lab.delete(service.namespace)
        if chart.before:
            lab.cluster.kubectl("delete", "--wait=false", "--filename", "-", stdin=chart.before)


def _forward(service: Service, chart: Chart, traffic: Traffic, last: int) -> None:
    for stage in range(2, last + 1):
        traffic.mark(f"{stage - 1} -> {stage}")
        _done(chart, service.stage(stage, "84", *(chart.allow if stage == 2 else ())))


def _back(service: Service, chart: Chart, traffic: Traffic, stage: int) -> None:
    traffic.mark(f"rollback from {stage}")
    _done(chart, service.rollback())


def _done(chart: Chart, run: Run) -> None:
    print(f"{chart.label}: {run.command[:21]} ended with {run.code} after {run.seconds:.1f} s", flush=True)
    run.expect(0, "done")


def _hold(traffic: Traffic, name: str, versions: set[str]) -> None:
    """Only these versions answer what is sent from now on."""
    traffic.mark(name)
    time.sleep(HOLD_S)
    (move,) = (move for move in traffic.report() if move.name == name)
    assert set(move.by_version) == versions, table([move])


def _differs_from_stored(service: Service) -> str:
    """What would change if Helm wrote its newest manifest once more: nothing, where live objects are as it says."""
    at = ("--namespace", service.namespace)
    manifest = service.cluster.run("helm", "get", "manifest", service.release, *at).stdout
    things = [thing for thing in yaml.safe_load_all(manifest) if thing]
    for thing in things:
        metadata = thing["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            "meta.helm.sh/release-name": service.release,
            "meta.helm.sh/release-namespace": service.namespace,
        }
    words = ("diff", "--server-side", "--force-conflicts", "--field-manager=helm", "--filename", "-", *at)
    done = service.cluster.run("kubectl", *words, stdin="\n---\n".join(map(json.dumps, things)), check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


# --- a refusal ---------------------------------------------------------------------------------------------------------


def _refuse(lab: Lab, chart: Chart, refused: Refused) -> None:
    with _service(lab, chart) as service:
        if refused.by == "stage 2":
            service.stage(1, "83", *chart.install).expect(0, "done")
            service, number, tag = service.having(values=chart.change), 2, "84"
        else:
            number, tag = 1, "83"
        before, revision = service.snapshot(), service.revision()
        run = service.stage(number, tag).expect(3, "refused")
        told = json.dumps(run.answer["error"])
        assert [word for word in refused.there or refused.says if word not in told] == [], f"{chart.label}\n{run.text}"
        assert run.answer["changed"] is False
        assert (service.snapshot(), service.revision()) == (before, revision)
        assert number == 2 or revision == 0
