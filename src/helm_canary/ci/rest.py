"""Questions to a CI's own API, asked again where it is busy, for as long as it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helm_canary.errors import RefusedError

if TYPE_CHECKING:
    import requests

ANSWER_TIMEOUT_S = 20.0
TRIES = 4
FIRST_PAUSE_S = 0.5
BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True, kw_only=True)
class Api:
    """`name`: the platform's. `rights`: what lets a job ask, as a sentence for people. `token` may be empty."""

    name: str
    url: str
    rights: str
    token: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, path: str, missing: Any = None) -> Any:
        """The answer's JSON; `missing`, where it is given, for a 404. Raises RefusedError where there is no answer."""
        import requests

        headers = {**self.headers, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        try:
            with _patient_session() as session:
                # Who is not logged in is sent to a page for people. A password of a .netrc would take the token's place.
                session.auth = lambda request: request
                answer = session.get(
                    f"{self.url}/{path}", headers=headers, timeout=ANSWER_TIMEOUT_S, allow_redirects=False
                )
            if answer.status_code == 404 and missing is not None:
                return missing
            if answer.status_code != 200:
                raise self.silent(f"It answered {answer.status_code} for {path}.")
            return answer.json()
        except (requests.RequestException, ValueError) as error:
            raise self.silent(f"{type(error).__name__} for {path}.") from error

    def silent(self, means: str) -> RefusedError:
        return RefusedError(f"{self.name} did not report who reviewed this run.", means, self.rights)


def _patient_session() -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    retry = Retry(total=TRIES, backoff_factor=FIRST_PAUSE_S, status_forcelist=BUSY, raise_on_status=False)
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session
