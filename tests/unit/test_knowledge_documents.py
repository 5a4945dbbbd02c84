"""Front matter and passages: what a document says of itself, and where it is cut."""

import pytest

from orchestrator.domain.errors import BadInput, ConfigurationError
from orchestrator.knowledge.documents import PASSAGE_CHARS, Document, parse_document
from orchestrator.knowledge.glossary import Glossary, load_glossary
from orchestrator.privacy.quoting import quoted
from orchestrator.resolution.playbook import COMPANY


def document(body: str, **fields: object) -> Document:
    about = {"id": "x", "title": "The title", **fields}
    front = "".join(f"{key}: {value}\n" for key, value in about.items())
    return parse_document(f"---\n{front}---\n{body}", source="x.md")


def test_every_field_is_read() -> None:
    found = document(
        "text", audience="internal", authority="policy", effective_on="2026-01-01", expires_on="2027-01-01", reviewed_on="2026-08-31",
        review_every="6 months", groups="[staff, leads]", regions="Europe", plans="[Chain]", sensitive="true", summary="In short.",
        supersedes="[old-one]", policy_id="POL-7", language="de", version=3,
    )  # fmt: skip
    assert (found.groups, found.regions, found.plans, found.supersedes) == (
        ("staff", "leads"),
        ("Europe",),
        ("Chain",),
        ("old-one",),
    )
    assert (found.review_by, found.sensitive, found.version, found.language) == ("2027-02-28", True, "3", "de")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"audience": "all"}, "audience 'all' is none of requester, internal"),
        ({"audiance": "internal"}, "audiance is no field"),
        ({"effective_on": "soon"}, "'soon' is not a date"),
        ({"sensitive": "true"}, "no summary"),
        ({"groups": "{a: 1}"}, "neither a name nor a list"),
        ({"review_every": "often"}, "no number of months"),
        ({"sensitive": "perhaps"}, "neither true nor false"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        document("text", **fields)


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(BadInput) as refused:
        document("text", audience="all", effective_on="soon", colour="red")
    assert all(word in str(refused.value) for word in ("audience", "soon", "colour"))


def test_a_review_is_due_a_year_after_the_last_where_nothing_else_is_said() -> None:
    assert document("text", reviewed_on="2026-09-14").review_by == "2027-09-14"


def test_a_passage_keeps_the_path_of_its_headings() -> None:
    found = document("before\n# The title\nintro\n## Set up\none\n### On Windows\ntwo\n## Use\nthree")
    assert found.passages == (
        ("The title", "before"), ("The title", "intro"), ("Set up", "one"), ("Set up > On Windows", "two"), ("Use", "three"),
    )  # fmt: skip


def test_a_block_of_code_and_a_table_are_never_torn_and_hold_no_headings() -> None:
    code = "```bash\n# not a heading\n\n" + "echo a long line of code\n" * 60 + "```"
    table = "| a | b |\n| - | - |\n" + "| some cell | another cell |\n" * 60
    found = document(f"## Do it\n{'Words first. ' * 60}\n{code}\nThen look:\n{table.strip()}\n\nAnd done.")
    texts = [text for _, text in found.passages]
    assert {heading for heading, _ in found.passages} == {"Do it"}
    assert any(code in text for text in texts) and any(table.strip() in text for text in texts)
    assert len(texts) > 2


def test_long_text_is_cut_between_paragraphs() -> None:
    found = document("## Long\n" + "\n\n".join(f"Paragraph {number}. " + "word " * 80 for number in range(12)))
    assert len(found.passages) > 3 and all(len(text) <= PASSAGE_CHARS for _, text in found.passages)
    assert "\n\n".join(text for _, text in found.passages).count("Paragraph") == 12


def test_the_language_is_what_it_says_or_what_its_words_are() -> None:
    assert document("Öffnen Sie die Einstellungen und wählen Sie den ersten Tag, dann ist die Notiz für alle da.").language == "de"
    assert document("Open the settings and choose the first day, then it is there for all of you.").language == "en"
    assert document("Öffnen Sie die Einstellungen und wählen Sie den Tag.", language="fr").language == "fr"


def test_a_glossary_adds_the_house_s_term_and_takes_nothing_away() -> None:
    glossary = load_glossary(COMPANY / "glossary.yaml")
    assert glossary.rewrite("How do I turn on 2FA?") == "How do I turn on 2FA?\ntwo-factor sign-in"
    assert glossary.rewrite("Where is two-factor sign-in, the 2FA?") == "Where is two-factor sign-in, the 2FA?"
    assert glossary.rewrite("My AB2FAX is broken") == "My AB2FAX is broken", "whole words alone"
    assert Glossary().rewrite("2FA") == "2FA"


def test_a_glossary_with_mistakes_names_all_of_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "glossary.yaml"
    path.write_text("terms:\n- {en: [a]}\n- {house: b}\n- {house: c, xx: [d]}\n- {house: e, en: word}\n- {house: B, en: [f]}\n")
    with pytest.raises(ConfigurationError) as refused:
        load_glossary(path)
    for word in ("term 1", "term 2", "xx is no language", "a list of words", "'b' stands there twice"):
        assert word in str(refused.value)


SECRET = "Refunds above one hundred euros wait until two approvers have compared the bank file by hand, which takes a day."


@pytest.mark.parametrize(
    ("text", "quotes"),
    [
        (SECRET, True),
        ("She wrote: WAIT until two, approvers have *compared* the bank file!", True),
        ("Refunds above one hundred euros can wait; approvers have compared the bank file by machine, which takes a day.", True),
        ("Larger refunds are checked by people.", False),
        ("Refunds above one hundred euros are looked at by people before money goes out.", False),
        ("", False),
    ],
)
def test_a_quotation_is_eight_words_in_a_row_or_much_of_it_in_pieces(text: str, quotes: bool) -> None:
    assert (quoted(text, ["another text entirely, of no interest here at all", SECRET]) is not None) is quotes
