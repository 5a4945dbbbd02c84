"""What goes to the models on a ticket's way holds tokens; what the desk finds in the words, it finds in the words as they came."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from orchestrator.pipeline.models import Served, TriageModels, standing
from orchestrator.ports import ScoreRequest, ScoreResult
from orchestrator.standins import CountingLanguageModel, HashEmbedder, NamedClassifier
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.taxonomy import load_taxonomy
from tests.integration.resolution_world import at, open_desk, user, world
from tests.integration.test_pipeline import Rooms

PERSONAL = ("hal.ames@elm.example", "4111 1111 1111 1111", "Hal Ames")
WORDS = (
    "vpn: the VPN does not let me in on nyc-lt-0042. Write to hal.ames@elm.example, card 4111 1111 1111 1111.\nRegards\nHal Ames"
)


@dataclass(frozen=True, kw_only=True)
class Remembering(HashEmbedder):
    seen: list[str] = field(default_factory=list)

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> np.ndarray:
        self.seen.extend(texts)
        return super().embed(texts, model=model)


@dataclass(frozen=True, kw_only=True)
class Asked(CountingLanguageModel):
    prompts: list[str] = field(default_factory=list)

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        self.prompts.extend(request.prompt for request in requests)
        return super().score(requests, model=model)


def test_triage_shows_the_models_tokens(store: PostgresStore) -> None:
    rooms, embedder = Rooms(store), Remembering()
    taxonomy = load_taxonomy()
    served = Served(classifier=NamedClassifier(names=tuple(c.name for c in taxonomy.categories)), taxonomy=taxonomy)
    rooms.triager = replace(rooms.triager, models=standing(TriageModels(live=served, embedder=embedder)))
    (triage,) = rooms.triage(("vpn", "hal.ames", WORDS))
    assert embedder.seen and not any(value in text for text in embedder.seen for value in PERSONAL)
    assert all("<EMAIL_1>" in text and "nyc-lt-0042" in text for text in embedder.seen)
    assert triage.classification.category == "vpn"


def test_a_choice_among_steps_shows_the_model_tokens(store: PostgresStore, tmp_path: Path) -> None:
    model = Asked()
    with open_desk(store, tmp_path) as house:
        one = world()
        one["users"].append(user(10, "Hal Ames", "acc-elm", status="locked"))
        one["vpn_certificates"] = [{"id": "vc-1", "user_id": "usr-010", "state": "expired", "expires_at": at(-1)}]
        house.sandbox.seed(one)
        house.desk = replace(house.desk, language_model=model)
        ticket_id = house.say("vpn", WORDS, by="hal.ames@elm.example", portal=True)
        house.run()
        assert house.ticket(ticket_id).description == WORDS
    assert model.prompts and not any(value in prompt for prompt in model.prompts for value in PERSONAL)
    assert "<EMAIL_1>" in model.prompts[0]
