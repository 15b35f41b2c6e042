"""action.yml from the option table: every option an input, every input a variable of the program, none a part of a script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from helm_canary.options import (
    COMMAND_VARIABLE,
    KUBECONFIG_VARIABLE,
    REGISTRY_VARIABLES,
    STAGE_VARIABLE,
    TABLE,
    Command,
    Kind,
    Option,
)

# The commands that a pipeline calls; `token` is for kubectl.
COMMANDS = tuple(command for command in Command if command is not Command.TOKEN)
HELM, KUBECTL = "v4.3.1", "v1.37.1"
SETUP_HELM = "azure/setup-helm@9bc31f4ebc9c6b171d7bfbaa5d006ae7abdb4310 # v5.0.1"
SETUP_KUBECTL = "azure/setup-kubectl@829323503d1be3d00ca8346e5391ca0b07a9ab0d # v5.1.0"
SECRETS = {
    KUBECONFIG_VARIABLE: "Content of a kubeconfig, as it is or as base64; from a secret.",
    REGISTRY_VARIABLES[0]: "User of the chart's registry, for a chart `oci://...`.",
    REGISTRY_VARIABLES[1]: "Password of that user; from a secret.",
}


def options() -> list[Option]:
    """The options that are inputs."""
    return [option for option in TABLE if set(option.commands) & set(COMMANDS)]


def inputs() -> dict[str, tuple[str, str]]:
    """Input -> its variable and its description."""
    names = ", ".join(f"`{command.value}`" for command in COMMANDS)
    found = {
        "command": (COMMAND_VARIABLE, f"One of {names}."),
        "stage": (STAGE_VARIABLE, "For `stage` and `plan`: number or name of the stage."),
    }
    found.update({option.name: (option.variable, _described(option)) for option in options()})
    for variable, text in SECRETS.items():
        found[variable.removeprefix("HELM_CANARY_").lower().replace("_", "-")] = (variable, text)
    return found


def _described(option: Option) -> str:
    words = [option.help]
    if option.kind is Kind.LIST:
        words = [option.help.replace("; repeatable", ""), "One a line."]
    if option.choices:
        words.append("One of " + ", ".join(f"`{choice}`" for choice in option.choices) + ".")
    if option.default:
        words.append(f"Default: `{option.default}`.")
    elif "GITHUB_RUN_ID" in option.fallbacks:
        words.append("Default: the id of the run.")
    elif option.name == "chart":
        words.append("Default: `charts/productpage` of this action.")
    commands = [command for command in COMMANDS if command in option.commands]
    if len(commands) < len(COMMANDS) - 1:
        words.append("For " + ", ".join(f"`{command.value}`" for command in commands) + ".")
    return " ".join(words)


def action(outputs: Mapping[str, str]) -> str:
    """The whole of action.yml. `outputs`: name -> description."""
    lines = [
        "# Made by `make generate` from src/helm_canary/options.py and tools/action.py: change those.",
        "name: helm-canary",
        "description: Release a microservice on AKS, Istio and Helm in approved stages, without losing a request",
        "author: helm-canary",
        "branding:",
        "  icon: git-branch",
        "  color: blue",
        "inputs:",
        *_inputs(),
        "outputs:",
        *_outputs(outputs),
        "runs:",
        "  using: composite",
        "  steps:",
        *_prepare(),
        *_run(),
    ]
    return "\n".join(lines) + "\n"


def _inputs() -> Iterable[str]:
    for name, (_, description) in inputs().items():
        yield f"  {name}:"
        yield f"    description: {json.dumps(description, ensure_ascii=False)}"
        yield f"    required: {'true' if name == 'command' else 'false'}"
        if name == "tag":
            yield "    default: ${{ github.run_id }}"


def _outputs(outputs: Mapping[str, str]) -> Iterable[str]:
    for name, description in outputs.items():
        yield f"  {name}:"
        yield f"    description: {json.dumps(description, ensure_ascii=False)}"
        yield f"    value: ${{{{ steps.run.outputs.{name} }}}}"


def _value(name: str, variable: str) -> str:
    """An input that was not given leaves what the job's own `env` says; but an empty tag is a mistake, and is told."""
    if name == "tag":
        return "inputs.tag"
    own_chart = " || format('{0}/charts/productpage', github.action_path)" if name == "chart" else ""
    return f"inputs.{name} || env.{variable}{own_chart}"


def _prepare() -> Iterable[str]:
    yield "    - name: Prepare"
    yield "      id: prepare"
    yield "      shell: bash"
    yield "      run: '\"$GITHUB_ACTION_PATH/tools/prepare-action.sh\"'"
    for name, uses, version in (("helm", SETUP_HELM, HELM), ("kubectl", SETUP_KUBECTL, KUBECTL)):
        yield f"    - name: Set up {name}"
        yield f"      if: steps.prepare.outputs.{name} == 'missing'"
        yield f"      uses: {uses}"
        yield "      with:"
        yield f"        version: {version}"


def _run() -> Iterable[str]:
    yield "    - name: Run"
    yield "      id: run"
    yield "      shell: bash"
    yield "      env:"
    yield "        PROGRAM_PYTHON: ${{ steps.prepare.outputs.python }}"
    yield "        GITHUB_TOKEN: ${{ github.token }}"
    for name, (variable, _) in inputs().items():
        yield f"        {variable}: ${{{{ {_value(name, variable)} }}}}"
    yield "      # Nothing of ours stays between the runner's signal and the program, which ends in order within 5 seconds."
    yield '      run: exec "$PROGRAM_PYTHON" -I -m helm_canary'
