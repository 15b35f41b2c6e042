"""What each command may do, and has to: the pages of docs/rights, whole and with every single right taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from .account import Account, Right, rights
from .conftest import Lab
from .service import Run, Service
from .states import Release
from .test_ways_in import apply, delegate_chart, gateway, namespace, rendered_elsewhere, root

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

GATEWAYS = "istio-system"
RELEASE = Release("83", "84")
# With a HorizontalPodAutoscaler the chart renders every kind that it can.
VALUES = {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 3}}
# Without these a command goes on, and says what it cannot see.
TOLD = {"events", "pods/log", "pods/portforward", "ingresses", "httproutes"}
QUICK = {"patch virtualservices", "delete secrets", "list pods", "create leases"}


def pages(service: Service, own: str) -> dict[str, str]:
    return {own: service.namespace, "gateway": GATEWAYS, "everywhere": ""}


@pytest.fixture
def accounts() -> Iterator[Callable[..., Account]]:
    """Makes accounts, and takes back what they got outside of their namespace."""
    made: list[Account] = []

    def make(service: Service, where: Mapping[str, str], name: str = "pipeline") -> Account:
        made.append(Account(service, where, name))
        return made[-1].make()

    yield make
    for account in made:
        account.delete()


@dataclass(frozen=True)
class UnderWay:
    """A service at `canary-10`, and its accounts: two with the Role of their namespace alone, two with all rights."""

    service: Service
    release: Account
    look: Account
    whole_release: Account
    whole_look: Account


@pytest.fixture(scope="module")
def under_way(lab: Lab) -> Iterator[UnderWay]:
    """For tests that move nothing."""
    service = lab.service(values=VALUES)
    service.install("83")
    service.stage(2, "84").expect(0, "done")
    alone = [Account(service, {page: service.namespace}, page) for page in ("release", "look")]
    whole = [Account(service, pages(service, page), f"whole-{page}") for page in ("release", "look")]
    try:
        yield UnderWay(service, *(account.make() for account in (*alone, *whole)))
    finally:
        for account in (*alone, *whole):
            account.delete()
        lab.delete(service.namespace)


@pytest.mark.parametrize(
    "stages", [(2,), pytest.param(range(2, RELEASE.last + 1), marks=pytest.mark.matrix)], ids=["2", "all"]
)
def test_the_documented_rights_are_enough(stages: Iterable[int], lab: Lab, accounts: Callable[..., Account]) -> None:
    """Installation, stages and a rollback by one account, every look by another: all proven, nothing refused or unseen."""
    service = lab.service(values=VALUES)
    runs = accounts(service, pages(service, "release")).runs
    looks = accounts(service, pages(service, "look"), "look").runs
    runs.install("83")
    assert len(looks.plan("all", "84").expect(0).answer["plans"]) == 7
    for stage in stages:
        ran = runs.stage(stage, "84").expect(0, "done")
        assert (ran.answer["proof"], "note:" in ran.said) == ("proven", False), ran.text
    assert looks.status()["proof"] == "proven"
    assert looks.verify("--requests", "20").expect(0).answer["status"] == {"200": 20}
    assert runs.rollback().expect(0, "done").answer["proof"] == "proven"
    looks.check(RELEASE.rolled_back)
    lab.delete(service.namespace)


# --- each right taken away ----------------------------------------------------------------------------------------------


def check_named(ran: Run, right: Right, service: Service) -> None:
    """The refusal names the right, and the rule to add, in three parts."""
    ran.expect(3, "refused")
    error = ran.answer["error"]
    assert ran.answer["changed"] is False
    assert error["happened"], ran.text
    assert error["means"], ran.text
    assert f'apiGroups: ["{right.group}"], resources: ["{right.resource}"], verbs: ["{right.verb}"]' in error["do-next"]
    assert f"Role in the namespace {service.namespace}" in error["do-next"], ran.text


def chosen(page: str, wanted: Callable[[Right], bool]) -> list[object]:
    """The rights of a page as cases: a few in every run, the rest in the matrix."""
    return [
        pytest.param(right, id=str(right), marks=[] if str(right) in QUICK else [pytest.mark.matrix])
        for right in rights(page)
        if wanted(right)
    ]


def is_for_what_is_there(right: Right) -> bool:
    """Not the rights to make what is there already; Secrets and the Lease are made again and again."""
    if str(right) == "get pods":
        return False
    return right.resource not in TOLD and (right.verb != "create" or right.resource in ("secrets", "leases"))


@pytest.mark.parametrize("right", chosen("release", is_for_what_is_there))
def test_a_missing_right_is_named_before_anything_is_touched(right: Right, under_way: UnderWay) -> None:
    """Neither `stage` nor `rollback` begins without a right that it would need by its end."""
    service = under_way.service
    before, revision, lease = service.snapshot(), service.revision(), service.read("leases")
    with under_way.release.without(right) as runs:
        check_named(runs.stage(3, "84"), right, runs)
        check_named(runs.rollback(), right, runs)
    assert (service.snapshot(), service.revision(), service.read("leases")) == (before, revision, lease)


@pytest.mark.matrix
@pytest.mark.parametrize("right", chosen("look", lambda right: right.resource not in TOLD))
def test_looking_names_a_missing_right(right: Right, under_way: UnderWay) -> None:
    """`plan`, `status` and `verify` say which right they lack."""
    with under_way.look.without(right) as runs:
        for ran in (runs.plan(3, "84"), runs.start("status").end(), runs.verify("--requests", "1")):
            check_named(ran, right, runs)


@pytest.mark.matrix
def test_a_missing_right_to_create_is_named_before_an_installation(lab: Lab, accounts: Callable[..., Account]) -> None:
    """`stage 1` makes nothing where it could not make everything."""
    service = lab.service(values=VALUES)
    account = accounts(service, pages(service, "release"))
    before = service.snapshot()
    for right in rights("release"):
        if right.verb == "create":
            with account.without(right) as runs:
                check_named(runs.stage(1, "83"), right, runs)
            assert (service.snapshot(), service.revision()) == (before, 0)
            assert service.read("leases") == []
    account.runs.install("83")
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_a_missing_right_to_delete_is_named_where_something_would_be_deleted(
    lab: Lab, accounts: Callable[..., Account]
) -> None:
    """Where `--allow` lets an object go, the right to delete it is needed; nobody else needs it."""
    service = lab.service(values=VALUES)
    service.install("83")
    account = accounts(service, pages(service, "release"))
    before = service.snapshot()
    names = [name for name in before if name.startswith("PodDisruptionBudget/")]
    allow = [word for name in names for word in ("--allow", name)]
    ran = account.runs.having(values={"podDisruptionBudget": {"enabled": False}}).stage(2, "84", *allow)
    check_named(ran, Right("release", "policy", "poddisruptionbudgets", "delete"), service)
    assert service.snapshot() == before
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_a_missing_right_to_bring_back_what_was_deleted_is_named(lab: Lab, accounts: Callable[..., Account]) -> None:
    """A rollback that has to make the VirtualService again needs the right for it, and says so before it begins."""
    service = lab.service(values=VALUES)
    service.install("83")
    service.stage(2, "84").expect(0, "done")
    account = accounts(service, pages(service, "release"))
    service.kubectl("delete", "virtualservices.networking.istio.io", "--all")
    before, right = service.snapshot(), Right("release", "networking.istio.io", "virtualservices", "create")
    with account.without(right) as runs:
        check_named(runs.rollback(), right, service)
    assert service.snapshot() == before
    account.runs.rollback().expect(0, "done")
    service.check(RELEASE.rolled_back)
    lab.delete(service.namespace)


# --- rights that are not needed -----------------------------------------------------------------------------------------

OPTIONAL = {
    "pods/exec": (
        Right("gateway", "", "pods/exec", "create"),
        "not allowed to create pods/exec in the namespace istio-system",
    ),
    "get pods": (Right("gateway", "", "pods", "get"), "not allowed to get pods in the namespace istio-system"),
    "list pods everywhere": (
        Right("everywhere", "", "pods", "list"),
        "The account is not allowed to list gateway pods in other namespaces",
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "pods/exec" else [pytest.mark.matrix]) for n in OPTIONAL]
)
def test_without_a_right_to_see_the_gateways_nothing_is_called_proven(name: str, under_way: UnderWay) -> None:
    """`stage` goes on, says what it cannot see, and its proof is `unproven`; so is that of `status`."""
    right, said = OPTIONAL[name]
    with under_way.whole_release.without(right) as runs, under_way.whole_look.without(right) as looks:
        ran = runs.stage(2, "84").expect(0, "nothing")
        seen = looks.status()
    assert ran.answer["proof"] == "unproven", ran.text
    assert said in ran.said
    assert seen["proof"].startswith("unproven"), seen


def test_without_the_right_to_forward_a_release_goes_on(lab: Lab, accounts: Callable[..., Account]) -> None:
    """Neither the installation nor a new version is asked for an answer; a note says so and names the rule."""
    service = lab.service(values=VALUES)
    account = accounts(service, pages(service, "release"))
    taken = [Right(name, "", "pods/portforward", "create") for name in ("release", "gateway")]
    with account.without(*taken) as runs:
        installed = runs.stage(1, "83").expect(0, "done")
        started = runs.stage(2, "84").expect(0, "done")
    for ran, where in ((installed, GATEWAYS), (started, service.namespace)):
        assert "No request was sent" in ran.said, ran.text
        rule = f'Role in the namespace {where}: {{apiGroups: [""], resources: ["pods/portforward"], verbs: ["create"]}}'
        assert rule in ran.said, ran.text
        assert ran.answer["proof"] == "proven"
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_without_any_right_outside_of_the_namespace_a_release_goes_on(
    lab: Lab, accounts: Callable[..., Account]
) -> None:
    """The Role in the service's own namespace is enough for every move; none is called proven, each is told why."""
    service = lab.service(values=VALUES)
    runs = accounts(service, {"release": service.namespace}).runs
    service.install("83")
    for stage in range(2, RELEASE.last + 1):
        ran = runs.stage(stage, "84").expect(0, "done")
        assert ran.answer["proof"] == "unproven", ran.text
        assert "The account is not allowed to list the gateway pods." in ran.said
    assert runs.rollback().expect(0, "done").answer["proof"] == "unproven"
    service.check(RELEASE.rolled_back)
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_without_everywhere_the_gateways_own_namespace_is_looked_at(lab: Lab, accounts: Callable[..., Account]) -> None:
    """The Role in the gateways' namespace finds them, which is no proof that there are no others; without `list pods` none."""
    service = lab.service(values=VALUES)
    service.install("83")
    account = accounts(service, {"release": service.namespace, "gateway": GATEWAYS})
    ran = account.runs.stage(1, "83").expect(0)
    assert (ran.answer["proof"], "The account is not allowed to list gateway pods in other namespaces" in ran.said) == (
        "unproven",
        True,
    )
    with account.without(Right("gateway", "", "pods", "list")) as runs:
        assert "The right `list pods` is missing in istio-system" in runs.stage(1, "83").expect(0).said
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_without_the_right_to_list_routes_everywhere_it_is_said(under_way: UnderWay) -> None:
    """A VirtualService of another namespace that routes to the Service cannot be seen then, and that is told."""
    right = Right("everywhere", "networking.istio.io", "virtualservices", "list")
    said = "The account is not allowed to list the VirtualServices of other namespaces"
    with under_way.whole_release.without(right) as runs, under_way.whole_look.without(right) as looks:
        assert said in runs.stage(2, "84").expect(0, "nothing").said
        assert said in looks.plan(3, "84").expect(0).said


def test_without_the_right_to_list_ingresses_it_is_said(under_way: UnderWay) -> None:
    """Whether an Ingress sends to the pods past all weights is not known then; the first stages say that, and go on."""
    right, said = Right("release", "networking.k8s.io", "ingresses", "list"), "The Ingresses or HTTPRoutes"
    with under_way.whole_release.without(right) as runs:
        assert said in runs.stage(2, "84").expect(0, "nothing").said


@pytest.mark.matrix
def test_without_the_right_to_list_services_everywhere_verify_asks_for_the_address(
    under_way: UnderWay,
) -> None:
    """The refusal names the right, and `--url`, which does without it."""
    with under_way.whole_look.without(Right("everywhere", "", "services", "list")) as looks:
        ran = looks.verify("--requests", "1").expect(3, "refused")
        assert (
            'ClusterRole: {apiGroups: [""], resources: ["services"], verbs: ["list"]}' in ran.answer["error"]["do-next"]
        )
        looks.verify("--requests", "1", "--url", f"http://{looks.cluster.gateway_address}").expect(0)


@pytest.mark.matrix
def test_a_gateway_of_another_namespace_that_may_not_be_read_is_named(
    lab: Lab, accounts: Callable[..., Account]
) -> None:
    """Whose pods such a Gateway selects is not known: nothing is proven, and the rule is given."""
    shared = lab.service()
    gateway = (
        f"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: shared, namespace: {shared.namespace}}}\n"
        "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n"
    )
    shared.cluster.kubectl("apply", "-f", "-", stdin=gateway)
    service = lab.service(values={"gateway": {"enabled": False, "names": [f"{shared.namespace}/shared"]}})
    service.install("83")
    here = accounts(service, pages(service, "release"))
    there = Account(service, {"gateway": shared.namespace})
    ran = here.runs.stage(1, "83").expect(0)
    assert ran.answer["proof"] == "unproven"
    assert f"The Gateway {shared.namespace}/shared cannot be read." in ran.said
    assert f'namespace {shared.namespace}: {{apiGroups: ["networking.istio.io"], resources: ["gateways"]' in ran.said
    there.bind()
    assert here.runs.stage(1, "83").expect(0).answer["proof"] == "proven"
    lab.delete(service.namespace)
    lab.delete(shared.namespace)


@pytest.mark.matrix
def test_a_delegate_whose_root_is_not_seen_is_not_called_proven(
    lab: Lab, accounts: Callable[..., Account], tmp_path: Path
) -> None:
    """Which Gateways it has is not known then: the rule is given, and with it all is proven."""
    service = lab.service().having(chart=delegate_chart(tmp_path / "delegate"))
    with namespace(service.cluster, f"{service.namespace}-edge") as edge:
        apply(service.cluster, gateway("shared", edge, service.host), root(service, edge))
        service.install("83")
        account = accounts(service, pages(service, "release"))
        there = Account(service, {"gateway": edge})
        there.bind()
        with account.without(Right("everywhere", "networking.istio.io", "virtualservices", "list")) as runs:
            ran = runs.stage(2, "84").expect(0, "done")
        assert ran.answer["proof"] == "unproven", ran.text
        assert "It is not known which VirtualServices delegate to" in ran.said
        assert (
            'ClusterRole: {apiGroups: ["networking.istio.io"], resources: ["virtualservices"], verbs: ["list"]}'
            in ran.said
        )
        assert account.runs.stage(3, "84").expect(0, "done").answer["proof"] == "proven"
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_what_a_chart_renders_elsewhere_needs_rights_there(
    lab: Lab, accounts: Callable[..., Account], tmp_path: Path
) -> None:
    """They are asked for before anything is written; once the object is there a stage needs no right to create it."""
    service = lab.service()
    with namespace(service.cluster, f"{service.namespace}-edge") as edge:
        service = service.having(chart=rendered_elsewhere(tmp_path, edge))
        runs = accounts(service, pages(service, "release")).runs
        ran = runs.stage(1, "83").expect(3, "refused")
        assert f"Role in the namespace {edge}: " in ran.answer["error"]["do-next"]
        assert 'resources: ["gateways"], verbs: ["get", "patch", "create"]' in ran.answer["error"]["do-next"]
        assert service.revision() == 0
        there = Account(service, {"release": edge, "gateway": edge})
        there.bind()
        assert runs.stage(1, "83").expect(0, "done").answer["proof"] == "proven"
        with there.without(Right("release", "networking.istio.io", "gateways", "create")):
            assert runs.stage(2, "84").expect(0, "done").answer["proof"] == "proven"
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_without_events_and_logs_a_failure_is_told_without_them(lab: Lab, accounts: Callable[..., Account]) -> None:
    """A canary that is never Ready is named, and what the account is not allowed to read is said beside it."""
    service = lab.service(values=VALUES)
    service.install("83")
    account = accounts(service, pages(service, "release"))
    taken = [right for right in rights("release") if right.resource in TOLD]
    with account.without(*taken) as runs:
        ran = runs.having(options=("--timeout", "5s")).stage(2, "never").expect(4)
    assert "events: the account is not allowed to list them" in ran.said
    assert "the account is not allowed to get pods/log" in ran.said
    lab.delete(service.namespace)
