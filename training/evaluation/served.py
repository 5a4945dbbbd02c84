"""The language model as a running stack serves it, through `POST /v1/score`. Knows HTTP; knows no ticket and no engine."""

from collections.abc import Sequence

import httpx

from orchestrator.domain.errors import BadInput, Forbidden, ModelUnavailable
from orchestrator.ports import ScoreRequest, ScoreResult

BATCH = 64
TIMEOUT_S = 150.0


class ServedModel:
    """`orchestrator.ports.LanguageModel` over HTTP. `key` has the role ml-engineer."""

    def __init__(self, *, url: str, key: str) -> None:
        if not key:
            raise BadInput("There is no key for --served.", hint="Set CLOISTER_API_KEY to a key of the role ml-engineer.")
        self.url = url.rstrip("/")
        timeout = httpx.Timeout(TIMEOUT_S, connect=5.0)
        self._http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout, trust_env=False)

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        """Raises ModelUnavailable when the stack does not answer or does not serve this model, Forbidden for the key."""
        found: list[ScoreResult] = []
        for start in range(0, len(requests), BATCH):
            found += self._score(requests[start : start + BATCH], model)
        return found

    def _score(self, requests: Sequence[ScoreRequest], model: str) -> list[ScoreResult]:
        items = [{"prompt": each.prompt, "options": list(each.options)} for each in requests]
        try:
            answer = self._http.post("/v1/score", json={"model": model, "items": items})
        except httpx.HTTPError as error:
            raise ModelUnavailable(
                f"{self.url} does not answer ({type(error).__name__}).", hint="See `cloister status`."
            ) from error
        if answer.status_code in (401, 403):
            raise Forbidden(f"{self.url} refuses the key ({answer.status_code}).", hint="Use one of the role ml-engineer.")
        if answer.status_code != 200:
            raise ModelUnavailable(f"{self.url} answered {answer.status_code} for {model}: {answer.text[:200]}")
        return [ScoreResult(logprobs=tuple(row), model=model) for row in answer.json()["logprobs"]]
