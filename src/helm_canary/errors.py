"""Every error that a user can see: its exit code, its result word, and its three parts.

A message says what happened, what it usually means and what to do next. `__main__` catches `CanaryError`; any other exception
is an error of this program, and is told as an `UnexpectedError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helm_canary.core.model import Refusal, Result

if TYPE_CHECKING:
    from helm_canary.outcome import Outcome


class CanaryError(Exception):
    """The root. `happened`, `means` and `do_next` are a sentence or two each, `details` lines shown below them.

    `code` names the error where it is one of a table. `outcome` is what the command came to, where it had begun to carry a
    plan out.
    """

    exit_code = 5
    code = ""
    result = Result.FAILED
    outcome: Outcome | None = None

    def __init__(self, happened: str, means: str = "", do_next: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(happened)
        self.happened, self.means, self.do_next, self.details = happened, means, do_next, details

    @property
    def text(self) -> str:
        return "\n".join(part for part in (self.happened, self.means, self.do_next) if part)


class UsageError(CanaryError):
    """Wrong input; found before anything was read or touched."""

    exit_code = 2
    result = Result.USAGE


class RefusedError(CanaryError):
    """There is no safe plan, or the cluster could not be read; nothing was changed."""

    exit_code = 3
    result = Result.REFUSED

    @classmethod
    def of(cls, refusal: Refusal, details: tuple[str, ...] = ()) -> RefusedError:
        return cls(refusal.happened, refusal.means, refusal.do_next, details)


# What kubectl and helm say where the API server gave no answer at all, or none that holds.
AWAY = (
    "connection refused", "did you specify the right host or port", "connection reset", "i/o timeout",
    "tls handshake timeout", "unexpected eof", ": eof",
    "unable to connect to the server", "the server is currently unable to handle the request",
    "etcdserver: request timed out", "etcdserver: leader changed", "etcdserver: no leader",
    "context deadline exceeded", "no route to host", "network is unreachable", "service unavailable",
    "kubernetes cluster unreachable", "apiserver not ready", "server is shutting down", "http2: client connection lost",
)  # fmt: skip


UNAUTHORIZED = ("unauthorized", "must be logged in to the server", "asked for the client to provide credentials")


def is_away(stderr: str) -> bool:
    """Whether a failure says that the API server is away, which passes, and nothing about what was asked."""
    lowered = stderr.lower()
    # Helm calls a cluster unreachable as well that does not know who asks.
    return "webhook" not in lowered and not is_unauthorized(stderr) and any(sign in lowered for sign in AWAY)


def is_unauthorized(stderr: str) -> bool:
    """Whether the API server took the credentials for nobody's, or for expired ones."""
    lowered = stderr.lower()
    return any(sign in lowered for sign in UNAUTHORIZED)


class ToolError(RefusedError):
    """helm or kubectl failed. Before the first write that is a refusal; after it `execute` says where the traffic is.

    renewed  its credentials were refused, and there are other ones now
    """

    def __init__(self, happened: str, means: str = "", do_next: str = "", details: tuple[str, ...] = (), *,
                 stderr: str = "", renewed: bool = False) -> None:  # fmt: skip
        super().__init__(happened, means, do_next, details)
        self.stderr, self.renewed = stderr, renewed

    @property
    def is_away(self) -> bool:
        """Whether the API server was away."""
        return is_away(self.stderr)


class ToolMissingError(RefusedError):
    """A program that is needed is not on PATH."""


class ToolTimeoutError(ToolError):
    """A program did not end in its time."""


class FailedError(CanaryError):
    """A plan stopped in the middle, and all traffic is on a version whose pods are Ready."""

    exit_code = 4


class FailedUnsafeError(FailedError):
    """A plan stopped in the middle, and it cannot be said that all traffic is on a healthy version."""

    exit_code = 5


class VerificationError(CanaryError):
    """`verify` saw answers that it must not see; nothing was moved."""

    exit_code = 6
    result = Result.VERIFICATION_FAILED


class UnexpectedError(CanaryError):
    """An error in this program itself; what had been done by then is not known."""

    @classmethod
    def of(cls, error: Exception, trace: tuple[str, ...]) -> UnexpectedError:
        return cls(
            f"helm-canary itself failed: {type(error).__name__}: {error}",
            "This is an error in helm-canary. Where the traffic is was not read.",
            "Look at `helm-canary status`; then report this with the lines below.",
            trace,
        )


class CancelledError(CanaryError):
    """SIGINT or SIGTERM; the state is named."""

    exit_code = 130
    result = Result.CANCELLED
