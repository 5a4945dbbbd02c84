"""Forms of the console: their fields, where they come from, the reason in them. Knows requests; knows no page and no session."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request

from serving.gateway.door import visit_of
from serving.gateway.json_body import mend_text
from serving.gateway.problems import Refusal

MAX_REASON_CHARS = 4000


def form_of(request: Request) -> dict[str, list[str]]:
    """The fields of a posted form, text that PostgreSQL can hold."""
    body = visit_of(request).body
    fields: dict[str, list[str]] = {}
    for name, value in parse_qsl(
        (body.raw if body else b"").decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000
    ):
        fields.setdefault(name, []).append(mend_text(value).replace("\r\n", "\n").strip())
    return fields


def same_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin and origin != "null" and urlsplit(origin).netloc != request.headers.get("host"):
        raise Refusal(403, "This form was sent by a page from elsewhere.")


def why(form: Mapping[str, list[str]], name: str = "reason") -> str:
    reason = form.get(name, [""])[0]
    if not 1 <= len(reason) <= MAX_REASON_CHARS:
        raise Refusal(422, f"Say why, in 1 to {MAX_REASON_CHARS} characters: it stands in the log.")
    return reason
