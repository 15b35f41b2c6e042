"""Kinds that the cluster does not know: removed APIs."""

from __future__ import annotations

from helm_canary.kinds import lines_of, refuse_kinds, unknown_kinds

SAID = (
    "Error: unable to build kubernetes objects from release manifest: [resource mapping not found for name: "
    '"small" namespace: "" from "": no matches for kind "PodDisruptionBudget" in version "policy/v1beta1"\n'
    'ensure CRDs are installed first, resource mapping not found for name: "small" namespace: "" from "": '
    'no matches for kind "Ingress" in version "extensions/v1beta1"\nensure CRDs are installed first]'
)


def test_a_removed_api_is_named() -> None:
    """Each kind with its version, and the lines of the templates that ask for it."""
    kinds = unknown_kinds(SAID)
    assert list(map(str, kinds)) == [
        "PodDisruptionBudget in version policy/v1beta1",
        "Ingress in version extensions/v1beta1",
    ]
    lines = [
        "apiVersion: policy/v1beta1",
        '  apiVersion: "extensions/v1beta1"',
        "apiVersion: policy/v1",
        "# policy/v1beta1",
    ]
    assert [bool(lines_of(kinds).search(line)) for line in lines] == [True, True, False, False]
    told = refuse_kinds(kinds, ["templates/pdb.yaml:1"])
    assert "PodDisruptionBudget in version policy/v1beta1, Ingress" in told.happened
    assert told.details == ("templates/pdb.yaml:1",)
    assert unknown_kinds("Error: not found") == []
