"""The model routes with the stock `openai` client, and label scoring. The model behind them is a stand-in that echoes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from gateway_server import Gateway, key_of, problem, running

from orchestrator.domain.errors import Busy, ModelUnavailable
from orchestrator.standins import HashEmbedder
from orchestrator.storage.store import PostgresStore
from serving.engine import Piece
from serving.gateway.standins import EchoLanguage

MODEL, EMBEDDER = "standin-echo", "standin-hash"


def stock(gateway: Gateway, role: str = "service") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key_of(role), max_retries=0, timeout=20)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with stock(gateway) as made:
        yield made


def test_the_stock_client_lists_what_is_served(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, EMBEDDER]


def test_the_stock_client_chats(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "one two three"}], max_tokens=2, seed=1
    )
    assert answer.choices[0].message.content == "one two"
    assert (answer.choices[0].finish_reason, answer.object) == ("length", "chat.completion")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 2, 5)


def test_the_stock_client_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word by word"}], stream=True)
    chunks = list(stream)
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["word", " by", " word"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    text = client.completions.create(model=MODEL, prompt="go on", stream=True)
    assert "".join(chunk.choices[0].text for chunk in text) == "go on"


def test_the_stock_client_completes(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="left as it is", temperature=0.5, top_p=0.9, stop=["."], n=1)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("left as it is", "stop")


def test_the_stock_client_embeds_in_both_encodings(client: openai.OpenAI) -> None:
    texts = ["reset my password", "where is my order"]
    expected = HashEmbedder().embed(texts)
    packed = client.embeddings.create(model=EMBEDDER, input=texts)
    plain = client.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
    for answer in (packed, plain):
        assert np.allclose([row.embedding for row in answer.data], expected, atol=1e-6)
    single = client.embeddings.create(model=EMBEDDER, input=texts[0])
    assert len(single.data) == 1


REFUSED: list[dict[str, Any]] = [
    {"logprobs": True},
    {"top_logprobs": 3},
    {"response_format": {"type": "json_object"}},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"n": 2},
    {"max_tokens": 0},
    {"max_tokens": 10**9},
    {"temperature": 3},
    {"temperature": "hot"},
    {"top_p": 0},
    {"stop": ["a", "b", "c", "d", "e"]},
    {"stop": ["x" * 100]},
    {"seed": -1},
    {"extra_body": {"chat_template": "{{ evil }}"}},
    {"extra_body": {"guided_json": {}}},
    {"extra_body": {"prompt_logprobs": 1}},
    {"messages": []},
    {"messages": [{"role": "tool", "content": "x"}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x.test"}}]}]},
]


def test_anything_but_plain_bounded_parameters_is_refused_with_a_sentence(client: openai.OpenAI) -> None:
    for change in REFUSED:
        asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **change}
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            client.chat.completions.create(**asked)
        assert refused.value.status_code == 422, change
        assert isinstance(refused.value.body, dict) and refused.value.body["message"], change


def test_a_model_that_is_not_served_is_never_answered_by_another(client: openai.OpenAI) -> None:
    for call in (
        lambda: client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "hi"}]),
        lambda: list(client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "hi"}], stream=True)),
        lambda: client.embeddings.create(model="text-embedding-3", input="x"),
    ):
        with pytest.raises(openai.NotFoundError, match="not served"):
            call()


def test_wrong_keys_and_roles_reach_the_stock_client_as_its_own_errors(gateway: Gateway) -> None:
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
    with stock(gateway, "auditor") as auditor, pytest.raises(openai.PermissionDeniedError):
        auditor.models.list()


class BusyLanguage(EchoLanguage):
    async def chat(self, messages: Any, params: Any, *, model: str) -> Any:
        raise Busy("512 requests wait for the model already.", retry_after_s=3)
        yield


class DyingLanguage(EchoLanguage):
    async def chat(self, messages: Any, params: Any, *, model: str) -> Any:
        yield Piece(text="half", model=model, completion_tokens=1)
        raise ModelUnavailable("The engine has died.")


def test_a_full_model_queue_is_429_with_the_time_to_come_again(store: PostgresStore) -> None:
    with running(store, language=BusyLanguage()) as gateway, stock(gateway) as client:
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as busy:
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=stream)
            assert busy.value.response.headers["retry-after"] == "3"


def test_an_engine_that_dies_under_way_is_no_answer(store: PostgresStore) -> None:
    with running(store, language=DyingLanguage()) as gateway, stock(gateway) as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.APIError, match="died"):
            list(client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True))


def test_a_repeated_question_under_one_key_gives_the_stored_answer(gateway: Gateway) -> None:
    client = gateway.client("service", **{"Idempotency-Key": "q-1"})
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "same"}]}
    first, again = (client.post("/v1/chat/completions", json=asked) for _ in range(2))
    assert first.json() == again.json() and again.headers["idempotent-replayed"] == "true"
    problem(client.post("/v1/chat/completions", json={**asked, "max_tokens": 3}), 409)


# --- label scoring ---


def test_options_are_scored_in_their_order(gateway: Gateway) -> None:
    items = [{"prompt": "pick B B B now", "options": ["A", "B"]}, {"prompt": "nothing", "options": ["A", "B", "C"]}]
    answer = gateway.client("ml-engineer").post("/v1/score", json={"model": MODEL, "items": items})
    assert answer.status_code == 200
    first, second = answer.json()["logprobs"]
    assert first[1] > first[0] and len(second) == 3
    assert answer.json()["model"] == "standin-counting"


def test_scoring_is_bounded(gateway: Gateway) -> None:
    client = gateway.client("ml-engineer")
    for items in (
        [],
        [{"prompt": "", "options": ["A", "B"]}],
        [{"prompt": "x", "options": ["A"]}],
        [{"prompt": "x", "options": ["A"] * 65}],
    ):
        problem(client.post("/v1/score", json={"model": MODEL, "items": items}), 422)
    problem(client.post("/v1/score", json={"model": "other", "items": [{"prompt": "x", "options": ["A", "B"]}]}), 404)
