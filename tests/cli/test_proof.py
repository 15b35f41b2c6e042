"""How well a weight is proven: what each --proof does, and what happens where a right or the gateway is missing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster import Cluster

pytestmark = pytest.mark.cluster

ROLE = f"cli-proof-{os.getpid()}"
VIEWER = ("--context", "viewer")
WAITED = "The weights cannot be proven; each time 1 s are waited instead."
COUNTED = "in the answers to requests: production answered 60, canary answered 0 of 60."


def grant(cluster: Cluster, namespace: str, name: str, rules: list[dict[str, list[str]]]) -> None:
    """Give the account of the context `viewer` these rights in a namespace."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name, "namespace": namespace}}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "viewer"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    items = [
        {**role, "kind": "Role", "rules": rules},
        {**role, "kind": "RoleBinding", "subjects": [subject], "roleRef": reference},
    ]
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


@pytest.fixture(scope="module")
def service(make_service: Callable[..., Service], app: Callable[..., None]) -> Service:
    """A steady service; the viewer may do anything in its namespace, and nothing elsewhere."""
    app("83", "84")
    made = make_service("proof")
    ran = made.stage("1", "83")
    assert ran.code == 0, ran
    grant(made.cluster, made.namespace, ROLE, [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])
    return made


@pytest.fixture
def may_list_gateways(cluster: Cluster) -> Iterator[None]:
    """The viewer may also list the gateways' pods, but not run anything in them."""
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
    grant(cluster, "istio-system", ROLE, [pods])
    yield
    cluster.kubectl("-n", "istio-system", "delete", "rolebinding/" + ROLE, "role/" + ROLE)


def look(service: Service, *more: str) -> tuple[str, str]:
    """(how well the weights are proven, what was said of it), of a stage that is in place."""
    ran = service.stage("1", "83", *more)
    assert ran.code == 0, ran
    assert ran.answer["changed"] is False
    return ran.answer["proof"], ran.stderr


def to_gateway(service: Service) -> tuple[str, str]:
    return ("--url", f"http://{service.cluster.gateway_address}")


@pytest.mark.parametrize("mode", ["auto", "proxies"])
def test_the_proxies_prove(mode: str, service: Service) -> None:
    """With all rights every gateway is asked, and where no sidecar is bound that is a proof."""
    proof, said = look(service, "--proof", mode)

    assert proof == "proven"
    assert "note:" not in said


def test_counted_requests_are_no_proof(service: Service) -> None:
    """`--proof requests` gives the counts, and says `unproven`; it finds the load balancer by itself."""
    proof, said = look(service, "--proof", "requests")

    assert proof == "unproven"
    assert COUNTED in said


def test_a_wait_is_no_proof(service: Service) -> None:
    """`--proof wait` asks nobody."""
    proof, said = look(service, "--proof", "wait")

    assert (proof, WAITED in said) == ("unproven", True)


def test_without_the_right_to_list_pods_requests_are_counted(service: Service) -> None:
    """`auto` falls back from the proxies to requests, and says so."""
    proof, said = look(service, *VIEWER, *to_gateway(service))

    assert proof == "unproven"
    assert "The gateway proxies cannot be read: The account is not allowed to list the gateway pods." in said
    assert COUNTED in said


def test_without_an_address_too_it_waits(service: Service) -> None:
    """`auto` falls back from requests, whose address it may not look up, to the wait, and says so."""
    proof, said = look(service, *VIEWER)

    assert proof == "unproven"
    assert "The gateway proxies cannot be read: The account is not allowed to list the gateway pods." in said
    assert WAITED in said


def test_asked_for_proxies_it_does_not_send_requests(service: Service) -> None:
    """`--proof proxies` without the right falls back to the wait at once."""
    proof, said = look(service, *VIEWER, *to_gateway(service), "--proof", "proxies")

    assert proof == "unproven"
    assert WAITED in said
    assert "requests" not in said


@pytest.mark.usefixtures("may_list_gateways")
def test_without_the_right_to_run_in_the_gateways_requests_are_counted(service: Service) -> None:
    """Gateways that are seen and may not be asked are named at once, and requests are counted."""
    proof, said = look(service, *VIEWER, *to_gateway(service))

    assert proof == "unproven"
    assert "No answer from istio-system/istio-ingressgateway" in said
    assert COUNTED in said


def test_a_release_goes_on_without_the_rights(service: Service) -> None:
    """A whole move and a rollback work with counted requests; the answer never says more than was seen."""
    more = (*VIEWER, *to_gateway(service))

    ran = service.stage("2", "84", *more)
    assert (ran.code, ran.answer["proof"], ran.answer["canary-weight"]) == (0, "unproven", 10), ran
    assert "of 60." in ran.stderr

    ran = service.json("rollback", *more)
    assert (ran.code, ran.answer["proof"], ran.answer["canary-weight"]) == (0, "unproven", 0), ran


def test_without_any_gateway_nothing_is_proven(make_service: Callable[..., Service], app: Callable[..., None]) -> None:
    """A VirtualService that is bound to the mesh alone has no gateway to ask: its sidecars follow unseen."""
    app("83")
    mesh = make_service("mesh", {"enabled": False, "mesh": True, "hosts": []})

    ran = mesh.stage("1", "83")

    assert (ran.code, ran.answer["proof"]) == (0, "unproven"), ran
    assert "No gateway pod is running" in ran.stderr
    assert WAITED in ran.stderr


def test_a_mesh_beside_the_gateways_is_said(make_service: Callable[..., Service], app: Callable[..., None]) -> None:
    """Where callers in the mesh follow the weights too, the gateways alone are what was seen."""
    app("83")
    both = make_service("both", {"mesh": True})

    ran = both.stage("1", "83")

    assert (ran.code, ran.answer["proof"]) == (0, "gateways"), ran
