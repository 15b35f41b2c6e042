"""Installations where something is there already: history of an uninstalled release, a service that serves, objects of others."""

from __future__ import annotations

import json

import pytest

from tests.cluster import Traffic

from .ledger import Ledger
from .service import RELEASE, Service
from .settling import RPS, settle
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

INSTALLED = Release("83", "83").at(1)
AGAIN = Release("84", "84").at(1)


def uninstall(service: Service) -> None:
    words = ("helm", "uninstall", RELEASE, "--namespace", service.namespace, "--keep-history", "--wait")
    service.cluster.run(*words, timeout_s=120)


def rendered(service: Service, tag: str) -> str:
    """The chart as `helm template` makes it for one tag, for kubectl to apply."""
    tags = ",".join(f"{track}Deployment.image.tag={tag}" for track in ("production", "canary"))
    words = ("helm", "template", RELEASE, service.chart, "--namespace", service.namespace)
    return service.cluster.run(*words, "--values", service.values_file(), "--set-string", tags, "--skip-tests").stdout


def test_an_uninstalled_release_is_installed_again(steady: Service, ledger: Ledger) -> None:
    """Nothing is green while nothing serves; `stage 1` installs the same tag, and another, anew; then nothing is lost.

    Revision 10 follows 9, which Helm's own `upgrade --install` does not find in the order of names.
    """
    while steady.revision() < 10:
        words = ("helm", "upgrade", RELEASE, steady.chart, "--namespace", steady.namespace, "--reuse-values")
        steady.cluster.run(*words, timeout_s=60)
    uninstall(steady)
    for ran in (steady.start("status").end(), steady.rollback(), steady.verify("--requests", "1")):
        assert "was uninstalled" in ran.expect(3, "refused").answer["error"]["happened"]
    assert "stage 1 --tag 83" in steady.stage(2, "83").expect(3, "refused").answer["error"]["do-next"]

    steady.stage(1, "83").expect(0, "done")

    steady.check(INSTALLED)
    with Traffic(steady.cluster, steady.host, rps=RPS) as traffic:
        steady.stage(2, "84").expect(0, "done")
        settle(traffic, ledger, "after an uninstalled release")
    uninstall(steady)
    steady.stage(1, "84").expect(0, "done")
    steady.check(AGAIN)


@pytest.mark.matrix
def test_an_uninstall_that_stopped_is_undone(steady: Service) -> None:
    """Half an uninstall is refused by every command, with what puts the objects back; taken, it does, and stages go on."""
    name = f"sh.helm.release.v1.{RELEASE}.v{steady.revision()}"
    uninstalling(steady, name)
    steady.kubectl("delete", "service", "--all")
    for ran in (steady.stage(1, "83"), steady.stage(2, "84"), steady.rollback()):
        error = ran.expect(3, "refused").answer["error"]
        assert f"`helm rollback RELEASE {steady.revision()}`" in error["do-next"], ran.text

    words = ("helm", "rollback", RELEASE, str(steady.revision()), "--namespace", steady.namespace)
    steady.cluster.run(*words, timeout_s=60)

    steady.check(INSTALLED)
    steady.stage(2, "84").expect(0, "done")


def uninstalling(service: Service, secret: str) -> None:
    """Helm's Secret as a `helm uninstall` that was killed leaves it."""
    import base64
    import gzip

    found = json.loads(service.kubectl("get", "secret", secret, "--output", "json"))
    body = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(found["data"]["release"]))))
    body["info"] |= {"status": "uninstalling", "deleted": "2026-01-31T09:00:00Z"}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(body).encode()))).decode()
    found["data"]["release"], found["metadata"]["labels"]["status"] = packed, "uninstalling"
    service.cluster.kubectl("--namespace", service.namespace, "replace", "-f", "-", stdin=json.dumps(found))


def test_an_installation_over_a_service_that_serves_is_refused(fresh: Service, ledger: Ledger) -> None:
    """What kubectl made and what serves stays as it is, also where it was labelled as if Helm owned it; nothing is lost."""
    fresh.cluster.kubectl("--namespace", fresh.namespace, "apply", "-f", "-", stdin=rendered(fresh, "83"))
    for track in (RELEASE, f"{RELEASE}canary"):
        fresh.kubectl("rollout", "status", f"deployment/{track}", "--timeout=60s")
    with Traffic(fresh.cluster, fresh.host, rps=RPS) as traffic:
        traffic.mark("stage 1 over what kubectl made")
        before = fresh.snapshot()
        error = fresh.stage(1, "84").expect(3, "refused").answer["error"]
        assert "is there already, made by kubectl" in error["happened"]
        assert "pods already, and there is no Helm release of this name" in error["happened"]
        assert "Leave it as it is" in error["do-next"]
        assert (fresh.snapshot(), fresh.revision()) == (before, 0)
        traffic.mark("stage 1 over what looks like ours")
        for kind in (
            "deployments",
            "services",
            "destinationrules",
            "virtualservices",
            "gateways.networking.istio.io",
            "pdb",
        ):
            fresh.kubectl("label", kind, "--all", "--overwrite", "app.kubernetes.io/managed-by=Helm")
            owner = (f"meta.helm.sh/release-name={RELEASE}", f"meta.helm.sh/release-namespace={fresh.namespace}")
            fresh.kubectl("annotate", kind, "--all", "--overwrite", *owner)
        error = fresh.stage(1, "84").expect(3, "refused").answer["error"]
        assert "pods already, and there is no Helm release of this name" in error["happened"]
        assert fresh.revision() == 0
        settle(traffic, ledger, "installations over what serves")


@pytest.mark.matrix
def test_nothing_is_past_while_nothing_serves(steady: Service) -> None:
    """A Service deleted by hand turns every command red that said there is nothing to do; `stage 1` of the tag restores it."""
    steady.kubectl("delete", "service", "--all")
    for stage in (2, 7):
        error = steady.stage(stage, "83").expect(3, "refused").answer["error"]
        assert "But it is not served: there is no Service/" in error["happened"]

    steady.stage(1, "83").expect(0, "done")

    steady.check(INSTALLED)
    assert steady.stage(2, "83").expect(0, "first-install").answer["changed"] is False
