"""The rights that a release needs, what rules hold, and the rule that a refusal names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from helm_canary.cluster import Cluster
from helm_canary.process import Completed, Connection, Processes
from helm_canary.rights import Right, advice, forbidden, is_granted, needed

LIST_PODS = Right(verb="list", group="", resource="pods", namespace="shop")
SAID = {
    'pods is forbidden: User "ci" cannot list resource "pods" in API group "" in the namespace "shop"': (LIST_PODS,),
    'deployments.apps "page" is forbidden: User "ci" cannot patch resource "deployments" in API group "apps" in the '
    'namespace "shop"': (Right(verb="patch", group="apps", resource="deployments", namespace="shop"),),
    'pods is forbidden: User "ci" cannot list resource "pods" in API group "" at the cluster scope': (
        Right(verb="list", group="", resource="pods", namespace=""),
    ),
    'pods "page-1" is forbidden: violates PodSecurity "restricted:latest"': (),
    'pods "page-1" is forbidden: exceeded quota: small': (),
}


@pytest.mark.parametrize(("text", "rights"), SAID.items())
def test_what_is_forbidden_is_read(text: str, rights: tuple[Right, ...]) -> None:
    """A missing right is told from what admission or a quota forbids."""
    assert forbidden(text) == list(rights)
    assert forbidden(f"{text}\n{text}") == list(rights)


RULE = {"verbs": ["list", "get"], "apiGroups": [""], "resources": ["pods"]}
RULES = {
    "as it is": (RULE, True),
    "everything": ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, True),
    "another verb": ({**RULE, "verbs": ["watch"]}, False),
    "another group": ({**RULE, "apiGroups": ["apps"]}, False),
    "a part of it": ({**RULE, "resources": ["pods/log"]}, False),
    "certain names only": ({**RULE, "resourceNames": ["page"]}, False),
    "rules for no resource": ({"verbs": ["get"]}, False),
}


@pytest.mark.parametrize(("rule", "granted"), RULES.values(), ids=[*RULES])
def test_a_rule_holds_a_right(rule: dict[str, list[str]], granted: bool) -> None:
    """A right is there only where a rule shows verb, group, resource and name."""
    assert is_granted(LIST_PODS, [rule]) is granted


def test_a_rule_may_name_the_lease() -> None:
    """Names in a rule hold for what has that name, and never for making it."""
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["leases"], "resourceNames": ["helm-canary.page"]}
    found = [right for right in needed("page", "shop", [], [], []) if right.resource == "leases"]
    assert [right.verb for right in found if is_granted(right, [rule])] == ["get", "update"]


def test_what_is_asked_for_follows_the_chart() -> None:
    """Each object of the chart in its own namespace; a kind whose name in rules is not known is left out."""
    policy = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "page"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "page", "namespace": "other"}}
    strange = {"apiVersion": "example.com/v1", "kind": "Index", "metadata": {"name": "page"}}
    found = needed("page", "shop", [policy, service, strange], [service], [policy])
    said = [str(right) for right in found if right.resource not in ("secrets", "leases")]
    assert said == [
        "get poddisruptionbudgets.policy in the namespace shop",
        "patch poddisruptionbudgets.policy in the namespace shop",
        "get services in the namespace other",
        "patch services in the namespace other",
        "create services in the namespace other",
        "delete poddisruptionbudgets.policy in the namespace shop",
    ]


def test_the_advice_can_be_copied() -> None:
    """One rule for each kind of object, under the Role or ClusterRole that it belongs to."""
    more = [
        Right(verb="get", group="", resource="pods", namespace="shop"),
        Right(verb="list", group="apps", resource="deployments", namespace=""),
    ]
    assert advice([LIST_PODS, *more]) == (
        "Add to the account's Role in the namespace shop: "
        '{apiGroups: [""], resources: ["pods"], verbs: ["list", "get"]}. '
        'Add to the account\'s ClusterRole: {apiGroups: ["apps"], resources: ["deployments"], verbs: ["list"]}.'
    )


@dataclass
class ApiServer(Processes):
    """Answers reviews: the verbs that are allowed, or nothing at all."""

    allowed: Sequence[str] | None = ()
    asked: int = 0

    def run(self, arguments: Sequence[str], *, stdin: str = "", timeout_s: float = 60.0, shown: bool = False,
            check: bool = True, once: bool = False, environment: Mapping[str, str] | None = None) -> Completed:  # fmt: skip
        if self.allowed is None:
            return Completed(code=1, stdout="", stderr="selfsubjectaccessreviews is forbidden")
        reviews = json.loads(stdin)["items"]
        self.asked += len(reviews)
        verbs = [review["spec"]["resourceAttributes"]["verb"] for review in reviews]
        answers = [{"kind": review["kind"], "status": {"allowed": verb in self.allowed}}
                   for review, verb in zip(reviews, verbs, strict=True)]  # fmt: skip
        return Completed(code=0, stdout="\n".join(map(json.dumps, answers)), stderr="")


PATCH = Right(verb="patch", group="apps", resource="deployments", namespace="shop")
ELSEWHERE = Right(verb="list", group="", resource="pods", namespace="other")
REVIEWS = {
    "the rules show them": ((), [RULE], [LIST_PODS], 0, []),
    "an authorizer without rules allows them": (("list", "patch"), [], [LIST_PODS, PATCH], 2, []),
    "one is not allowed": (("list",), [RULE], [LIST_PODS, PATCH], 1, [PATCH]),
    "rules are those of one namespace": ((), [RULE], [LIST_PODS, ELSEWHERE], 1, [ELSEWHERE]),
    "the API server does not say": (None, [], [LIST_PODS, PATCH], 0, []),
}


@pytest.mark.parametrize("review", REVIEWS.values(), ids=[*REVIEWS])
def test_what_rules_do_not_show_is_asked_for(
    review: tuple[Sequence[str] | None, list[dict[str, list[str]]], list[Right], int, list[Right]],
) -> None:
    """No right counts as missing that the API server has not denied by itself."""
    allowed, rules, wanted, asked, missing = review
    server = ApiServer(environment={}, allowed=allowed)
    cluster = Cluster(processes=server, connection=Connection(namespace="shop"))
    assert (cluster.missing(wanted, rules), server.asked) == (missing, asked)
