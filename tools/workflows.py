"""The reusable workflows from the option table and the stage table: stage.yml, release.yml and rollback.yml.

Their inputs are the program's options. What differs from job to job, and why, is in docs/github-actions.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from helm_canary.core.model import Role, Stage
from helm_canary.core.stages import DEFAULT_WEIGHTS, stages_for
from helm_canary.options import TABLE, Command, Kind, Option

CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"
# This repository's action and workflow, at the commit of the workflow that names them.
ACTION = "$/"
STAGE_WORKFLOW = "$/.github/workflows/stage.yml"
MADE = "# Made by `make generate` from src/helm_canary/options.py and tools/workflows.py: change those."

# What a run tells by itself, what belongs to one job alone, and what is for other commands than these.
NOT_INPUTS = (
    "of", "from", "path", "requests", "approved-by", "comment", "require-approval", "require-rejection", "gate-attempt",
    "stages", "kubeconfig", "write", "server-id", "output", "dry-run",
)  # fmt: skip
SECRETS = {
    "kubeconfig": (
        "kubeconfig-data",
        "Content of a kubeconfig, as it is or as base64; for clusters without cluster-name.",
    ),
    "registry-password": ("registry-password", "Password of the chart's registry."),
    "azure-client-secret": ("", "Secret of the application, where the identity is no federated one."),
}
NAMES = {
    Role.STEADY: "Steady",
    Role.PROMOTE: "Promote",
    Role.RETURN: "Return",
    Role.FINISH: "Finish",
}
ORDINALS = ("First weight", "Second weight", "Third weight", "Fourth weight", "Fifth weight", "Sixth weight")


def options(*commands: Command) -> list[Option]:
    """The options of these commands that are inputs of a workflow."""
    return [option for option in TABLE if option.name not in NOT_INPUTS and set(option.commands) & set(commands)]


# --- parts -------------------------------------------------------------------------------------------------------------


def _input(name: str, text: str, *, kind: str = "string", required: bool = False, default: str = "") -> Iterator[str]:
    yield f"      {name}:"
    yield f"        description: {json.dumps(text, ensure_ascii=False)}"
    yield f"        type: {kind}"
    if required:
        yield "        required: true"
    else:
        yield f"        default: {default or ('false' if kind == 'boolean' else json.dumps(''))}"


def _option_inputs(found: Iterable[Option]) -> Iterator[str]:
    for option in found:
        text = option.help.replace("; repeatable", "")
        if option.kind is Kind.LIST:
            text += " One a line."
        if option.name == "tag":
            yield from _input("tag", text + " Default: the id of the run.", default="${{ github.run_id }}")
        elif option.name == "chart":
            yield from _input("chart", text + " Default: `charts/productpage` of helm-canary.")
        else:
            text += f" Default: the variable `{option.variable}`." if option.name in VARIABLES else ""
            kind = "boolean" if option.kind is Kind.FLAG else "string"
            yield from _input(option.name, text, kind=kind, required=option.name == "release")


def _job_inputs() -> Iterator[str]:
    yield from _input(
        "environment",
        "Environment with the credentials; no reviewers, since the gates have them.",
        default="canary-deploy",
    )
    yield from _input("runs-on", "Label of the runner, or a JSON list of labels.", default="ubuntu-latest")


def _secrets() -> Iterator[str]:
    yield "    secrets:"
    for name, (_, text) in SECRETS.items():
        yield f"      {name}:"
        yield f"        description: {json.dumps(text)}"
        yield "        required: false"


def _outputs(names: Mapping[str, str], job: str) -> Iterator[str]:
    yield "    outputs:"
    for name, text in names.items():
        yield f"      {name}:"
        yield f"        description: {json.dumps(text, ensure_ascii=False)}"
        yield f"        value: ${{{{ jobs.{job}.outputs.{name} }}}}"


# Where the cluster is and who asks is the same for every service: variables of the repository or of the environment.
VARIABLES = ("cluster-name", "resource-group", "subscription", "client-id", "tenant-id")


def _with(found: Iterable[Option], *, at_last: bool = True) -> Iterator[str]:
    """The inputs passed on; `at_last` to the action, where a variable stands in for one that was not given."""
    for option in found:
        own = f" || vars.{option.variable}" if at_last and option.name in VARIABLES else ""
        yield f"{option.name}: ${{{{ inputs.{option.name}{own} }}}}"


def _secret_inputs() -> Iterator[str]:
    for name, (given, _) in SECRETS.items():
        if given:
            yield f"{given}: ${{{{ secrets.{name} }}}}"


def _indented(lines: Iterable[str], width: int) -> Iterator[str]:
    return (" " * width + line if line else line for line in lines)


RUNS_ON = "runs-on: ${{ startsWith(inputs.runs-on, '[') && fromJSON(inputs.runs-on) || inputs.runs-on }}"
CLUSTER = "${{ inputs.cluster-name || vars.HELM_CANARY_CLUSTER_NAME }} ${{ inputs.context }}"
GROUP = CLUSTER + " ${{ inputs.namespace }} ${{ inputs.release }}"
RUN_PAGE = "${{ github.server_url }}/${{ github.repository }}/actions/runs/${{ github.run_id }}"


# --- stage.yml ---------------------------------------------------------------------------------------------------------


def stage_workflow(outputs: Mapping[str, str]) -> str:
    """One stage: its gate, the stage, and the way back. `outputs`: name -> description."""
    found = options(Command.STAGE)
    lines = [
        MADE,
        "name: helm-canary stage",
        "on:",
        "  workflow_call:",
        "    inputs:",
        *_input("stage", "Number or name of the stage.", required=True),
        *_input("gate", "Environment whose reviewers let the stage pass; empty: there is no gate."),
        *_input(
            "require-approval",
            "Refuse unless the gate was approved in this attempt of the run.",
            kind="boolean",
            default="true",
        ),
        *_input("title", "Name of the gate's job: what a person at the gate reads first."),
        *_input("next-changes", "Output of the stage before: `false` leaves the gate out, since nothing would change."),
        *_input("version-id", "Output of the first stage: what a rollback is of."),
        *_input("stages", "How many stages the release has here."),
        *_input(
            "goes-back",
            "When this stage rolls back by itself: `rejection` of its gate, `failure` of the stage, both, or neither.",
            default="rejection failure",
        ),
        *_option_inputs(found),
        *_job_inputs(),
        *_secrets(),
        *_outputs(outputs, "run"),
        "permissions: {}",
        "jobs:",
        *_indented(_gate(), 2),
        *_indented(_run(found, outputs), 2),
        *_indented(_way_back(), 2),
    ]
    return "\n".join(lines) + "\n"


def _gate() -> list[str]:
    return [
        "# Waits for people and does nothing: no credentials, no lock, so that nobody waits for whoever waits here.",
        "gate:",
        "  name: ${{ inputs.title || format('Gate {0}', inputs.gate) }}",
        "  if: inputs.gate != '' && inputs.next-changes != 'false'",
        "  " + RUNS_ON,
        "  environment:",
        "    name: ${{ inputs.gate }}",
        "    deployment: false",
        "  permissions: {}",
        "  outputs:",
        "    attempt: ${{ steps.passed.outputs.attempt }}",
        "  steps:",
        "    - name: Passed",
        "      id: passed",
        '      run: echo "attempt=$GITHUB_RUN_ATTEMPT" >>"$GITHUB_OUTPUT"',
        "      shell: bash",
    ]


def _run(found: Sequence[Option], outputs: Mapping[str, str]) -> list[str]:
    return [
        "run:",
        "  name: Stage ${{ inputs.stage }}",
        "  needs: gate",
        "  if: ${{ !cancelled() && (needs.gate.result == 'success' || needs.gate.result == 'skipped') }}",
        "  " + RUNS_ON,
        "  timeout-minutes: 120",
        "  environment:",
        "    name: ${{ inputs.environment }}",
        f"    url: {RUN_PAGE}#summary-${{{{ job.check_run_id }}}}",
        "  concurrency:",
        "    # Only for order: the lock that counts is the Lease in the cluster.",
        f"    group: helm-canary {GROUP}",
        "    cancel-in-progress: false",
        "    queue: max",
        "  permissions:",
        *_permissions("contents", "id-token", "actions"),
        "  outputs:",
        *(f"    {name}: ${{{{ steps.stage.outputs.{name} }}}}" for name in outputs),
        "  steps:",
        *_checkout(),
        "    - name: Stage",
        "      id: stage",
        f"      uses: {ACTION}",
        "      env:",
        "        AZURE_CLIENT_SECRET: ${{ secrets.azure-client-secret }}",
        "      with:",
        "        command: stage",
        "        stage: ${{ inputs.stage }}",
        "        stages: ${{ inputs.stages }}",
        "        require-approval: ${{ inputs.require-approval && inputs.gate || 'false' }}",
        "        gate-attempt: ${{ needs.gate.result == 'success' && needs.gate.outputs.attempt || '' }}",
        *_indented(_with(found), 8),
        *_indented(_secret_inputs(), 8),
    ]


def _checkout(condition: str = "") -> list[str]:
    lines = ["- name: Check out", f"  uses: {CHECKOUT}", "  with:", "    persist-credentials: false"]
    return list(_indented([lines[0], *([f"  if: {condition}"] if condition else []), *lines[1:]], 4))


WHY = {
    "contents": ("read", "the chart and its values"),
    "id-token": ("write", "a federated token for Azure"),
    "actions": ("read", "who approved"),
}


def _permissions(*names: str) -> list[str]:
    return [f"    {name}: {WHY[name][0]} # {WHY[name][1]}" for name in names]


ENDED_BADLY = 'contains(fromJSON(\'["failure", "cancelled"]\'), needs.{0}.result)'
# A gate of no such name was never rejected: the plan of the rollback is shown, and the command for it.
ONLY_SHOWN = "nobody-rejects-this"


def _way_back() -> list[str]:
    failed = "needs.run.outputs.result == 'failed' && contains(inputs.goes-back, 'failure')"
    gate = f"contains(inputs.goes-back, 'rejection') && inputs.gate || '{ONLY_SHOWN}'"
    return _rollback_job(
        [option for option in _going_back() if option.name != "started-by"],
        when=[
            "needs: [gate, run]",
            f"if: ${{{{ always() && ({ENDED_BADLY.format('gate')} || {ENDED_BADLY.format('run')}) }}}}",
        ],
        permissions=("contents", "id-token", "actions"),
        given=[
            "of: ${{ needs.run.result != 'skipped' && needs.run.outputs.version-id || inputs.version-id || inputs.tag }}",
            "# Empty: this stage failed where it goes back by itself. Otherwise only a person's rejection counts.",
            f"require-rejection: ${{{{ !({failed}) && ({gate}) || '' }}}}",
        ],
    )


def _going_back() -> list[Option]:
    """Rollback's options; it takes values and objects from the cluster."""
    return [
        option for option in options(Command.ROLLBACK) if option.name not in ("values", "set", "chart", "chart-version")
    ]


def _rollback_job(
    found: Iterable[Option],
    *,
    given: Iterable[str],
    permissions: Sequence[str],
    when: Iterable[str] = (),
    outputs: Iterable[str] = (),
) -> list[str]:
    passed_on = [f"    {name}: ${{{{ steps.rollback.outputs.{name} }}}}" for name in outputs]
    return [
        "# In no concurrency group: the way back waits for nobody.",
        "rollback:",
        "  name: Rollback",
        *_indented(when, 2),
        "  " + RUNS_ON,
        "  timeout-minutes: 120",
        "  environment:",
        "    name: ${{ inputs.environment }}",
        f"    url: {RUN_PAGE}#summary-${{{{ job.check_run_id }}}}",
        "  permissions:",
        *_permissions(*permissions),
        *(["  outputs:", *passed_on] if passed_on else []),
        "  steps:",
        "    - name: Rollback",
        "      id: rollback",
        f"      uses: {ACTION}",
        "      env:",
        "        AZURE_CLIENT_SECRET: ${{ secrets.azure-client-secret }}",
        "      with:",
        "        command: rollback",
        *_indented(given, 8),
        *_indented(_with(found), 8),
        *_indented(_secret_inputs(), 8),
    ]


# --- release.yml -------------------------------------------------------------------------------------------------------


def release_workflow(outputs: Mapping[str, str]) -> str:
    """All stages in their order, one job each."""
    found, stages = options(Command.STAGE), stages_for(DEFAULT_WEIGHTS)
    last = f"stage-{stages[-1].number}"
    lines = [
        MADE,
        "name: helm-canary release",
        "on:",
        "  workflow_call:",
        "    inputs:",
        *_option_inputs(found),
        *_input(
            "gates",
            "The gates' environments are called so, with the number of the stage behind it: canary-2 to canary-7.",
            default="canary-",
        ),
        *_input(
            "require-approval",
            "Refuse a stage unless its gate was approved in this attempt of the run.",
            kind="boolean",
            default="true",
        ),
        *_job_inputs(),
        *_secrets(),
        *_outputs(outputs, last),
        "permissions: {}",
        "jobs:",
        *_indented((line for stage in stages for line in _stage_job(stage, stages, found)), 2),
    ]
    return "\n".join(lines) + "\n"


def _stage_job(stage: Stage, stages: Sequence[Stage], found: Sequence[Option]) -> list[str]:
    number, count = stage.number, len(stages)
    lines = [f"stage-{number}:", f"  name: {number} {_title(stage)}"]
    gate = []
    if number > 1:
        before = f"needs.stage-{number - 1}.outputs"
        lines.append("  needs: stage-1" if number == 2 else f"  needs: [stage-1, stage-{number - 1}]")
        gate = [
            f"gate: ${{{{ inputs.gates }}}}{number}",
            f"title: 'Gate {number} of {count}: ${{{{ {before}.headline }}}}'",
            f"next-changes: ${{{{ {before}.next-changes }}}}",
            "version-id: ${{ needs.stage-1.outputs.version-id }}",
        ]
    return [
        *lines,
        f"  uses: {STAGE_WORKFLOW}",
        "  permissions:",
        *_permissions("contents", "id-token", "actions"),
        "  with:",
        f'    stage: "{number}"',
        f'    stages: "{count}"',
        *_indented(gate, 4),
        "    require-approval: ${{ inputs.require-approval }}",
        f"    goes-back: {json.dumps(goes_back(stage))}",
        *_indented(_with(found, at_last=False), 4),
        "    environment: ${{ inputs.environment }}",
        "    runs-on: ${{ inputs.runs-on }}",
        "  secrets:",
        *(f"    {name}: ${{{{ secrets.{name} }}}}" for name in SECRETS),
    ]


def _title(stage: Stage) -> str:
    return NAMES.get(stage.role) or ORDINALS[stage.number - 2]


def goes_back(stage: Stage) -> str:
    """When a stage rolls back by itself: while the old version still has its pods, and a person or a failure said so."""
    match stage.role:
        case Role.STEADY:
            return ""
        case Role.CANARY:
            return "rejection failure"
        case Role.PROMOTE:
            return "rejection"
        case Role.RETURN | Role.FINISH:
            return ""


# --- rollback.yml ------------------------------------------------------------------------------------------------------


def rollback_workflow(outputs: Mapping[str, str]) -> str:
    """The way back at any time."""
    found = _going_back()
    job = _rollback_job(
        found,
        permissions=("contents", "id-token"),
        outputs=outputs,
        given=["of: ${{ inputs.of }}", "approved-by: ${{ github.triggering_actor }}"],
    )
    lines = [
        MADE,
        "name: helm-canary rollback",
        "on:",
        "  workflow_call:",
        "    inputs:",
        *_input("of", "Roll back only this release (its id or tag); empty: whichever it is."),
        *_option_inputs(found),
        *_job_inputs(),
        *_secrets(),
        *_outputs(outputs, "rollback"),
        "permissions: {}",
        "jobs:",
        *_indented(job, 2),
    ]
    return "\n".join(lines) + "\n"
