"""What a model or knowledge was asked and what came back, for the audit record: digests of texts, scores whole. Decides nothing."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.ports import Passage, ScoreRequest, ScoreResult


def choice_record(request: ScoreRequest, result: ScoreResult) -> Mapping[str, Any]:
    """{model, prompt_sha256, options: {code: natural log}}: the model with its adapter's digest, as it named itself."""
    options = dict(zip(request.options, result.logprobs, strict=True))
    return {"model": result.model, "prompt_sha256": _digest(request.prompt), "options": options}


def search_record(words: str, passages: Sequence[Passage]) -> Mapping[str, Any]:
    """{words_sha256, passages: [{document, passage, version, score, text_sha256}]}, in the order they were given back."""
    found = [
        {
            "document": passage.document_id,
            "passage": passage.passage_id,
            "version": passage.version,
            "score": passage.score,
            "text_sha256": _digest(passage.text),
        }
        for passage in passages
    ]
    return {"words_sha256": _digest(words), "passages": found}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
