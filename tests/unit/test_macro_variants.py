"""Texts that vary by plan, region and channel."""

from pathlib import Path

import pytest
import yaml

from orchestrator.resolution.playbook import COMPANY
from orchestrator.resolution.replies import Macros, load_macros

NAMES = {"name": "Ada", "ticket_id": "T-1", "group": "Billing", "matter": "a refund"}


def load(folder: Path, *variants: object) -> tuple[Macros, list[str]]:
    data = yaml.safe_load((COMPANY / "macros" / "replies.yaml").read_text()) | {"variants": list(variants)}
    path = folder / "replies.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True))
    return load_macros(path, [])


def variant(text: str, **when: object) -> dict[str, object]:
    return {"macro": "handed_over", "when": when, "en": text, "de": text}


def test_the_first_variant_whose_circumstances_all_hold_is_said(tmp_path: Path) -> None:
    macros, problems = load(
        tmp_path,
        variant("Both {{ name }}", plan="enterprise", region=["Europe", "Asia"]),
        variant("Plan {{ name }}", plan="Enterprise"),
    )
    assert problems == []

    def said(**about: str) -> str:
        return macros.say("handed_over", "en", about=about, **NAMES)

    assert said(plan="enterprise", region="Asia", channel="email") == "Both Ada"
    assert said(plan="enterprise", region="America") == said(plan="enterprise") == "Plan Ada"
    usual = macros.say("handed_over", "en", **NAMES)
    assert said(plan="team", region="Asia") == said(region="Asia") == said() == usual and "Ada" in usual
    assert macros.say("draft", "en", about={"plan": "enterprise"}, **NAMES) == macros.say("draft", "en", **NAMES)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (variant("x", mood="bad"), "plan, region, channel, health, vip, sentiment"),
        (variant("x"), "plan, region, channel, health, vip, sentiment"),
        ({**variant("x", plan="a"), "macro": "nothing"}, "unknown macro"),
        (variant("{{ code }}", plan="a"), "code, which nothing provides"),
        ({"macro": "draft", "when": {"plan": "a"}, "en": "x"}, "is missing"),
    ],
)
def test_a_variant_with_a_mistake_is_named(tmp_path: Path, row: dict[str, object], complaint: str) -> None:
    _, problems = load(tmp_path, row)
    assert any(complaint in problem for problem in problems)
