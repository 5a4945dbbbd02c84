"""Lint on a small house with planted defects: everything planted is found, and nothing else is; the house's own knowledge is clean."""

from datetime import date
from pathlib import Path

import pytest

from orchestrator.knowledge.lint.articles import DOCS
from orchestrator.knowledge.lint.quantities import content, denies, quantities
from orchestrator.knowledge.lint.run import Report, lint, read_retired
from orchestrator.resolution.playbook import COMPANY

TODAY = date(2026, 11, 26)
DATES = {"effective_on": "2026-03-01", "reviewed_on": "2026-09-01"}


def write(folder: Path, name: str, title: str, body: str, **fields: object) -> None:
    about = {"id": name, "title": title, **DATES, **fields}
    front = "".join(f"{key}: {value}\n" for key, value in about.items() if value is not None)
    (folder / f"{name}.md").write_text(f"---\n{front}---\n{body}\n", encoding="utf-8")


def clean(folder: Path) -> None:
    """Articles that resemble each other, differ in numbers and are all right."""
    write(folder, "returns", "Returning goods", "## Returns\nUnused goods can be returned within 30 days of delivery.\n\n"
          "See [the limits](mailbox.md#how-large) and [the list](#returns).")  # fmt: skip
    write(
        folder, "mailbox", "Mailbox size", "## How large\nA mailbox holds 50 GB. At 45 GB you get a warning, at 50 GB it is full."
    )
    write(folder, "archive", "Archive size", "## How large\nAn archive holds 100 GB.")
    write(folder, "passwords", "Password rules", "## Staff\nPasswords of staff are good for 90 days.\n\n## Customers\n"
          "Passwords of customers are good for 180 days.", authority="policy")  # fmt: skip
    write(folder, "delivery", "Delivery", "## Europe\nDelivery in Europe takes two days, in Asia nine days.")
    write(folder, "delivery-us", "Delivery in the Americas", "## Americas\nDelivery in the Americas takes eight days.")
    write(folder, "seats-eu", "Seats", "## Seats\nAn account of a small shop may have 20 users.", regions="[Europe]")
    write(folder, "seats-us", "Seats", "## Seats\nAn account of a small shop may have 40 users.", regions="[Americas]")
    write(
        folder, "old-limit", "Upload limit", "## Upload\nOne upload of a spreadsheet may have 5,000 rows.", expires_on="2026-12-01"
    )
    write(folder, "new-limit", "Upload limit", "## Upload\nOne upload of a spreadsheet may have 9,000 rows.",
        supersedes="old-limit",
          effective_on="2026-12-01")  # fmt: skip
    write(
        folder, "printer", "Printer", "## Print\nThe printer may not be moved by customers.\n\nThe tray can be moved by customers."
    )
    write(folder, "refunds", "Refund policy", "## Refunds\n- A duplicate payment is refunded in full.\n- Shipping is not refunded.",
          authority="policy", policy_id="POL-1")  # fmt: skip
    write(folder, "refunds-inside", "Refund handling", "## Limits\nTwo approvers decide.", authority="policy", policy_id="POL-2",
          audience="internal")  # fmt: skip
    write(folder, "code", "Calls", "## Example\n```\n# not a heading [x](nowhere.md)\n```\nUse `[x](nowhere.md)` as it stands.")


PLANTED: dict[str, tuple[str, dict[str, object], str]] = {  # name: (rule, fields, body)
    "bad-returns": ("contradiction", {"title": "Sending goods back"},
        "## Back\nYou may return unused goods within 14 days after delivery."),
    "bad-mailbox": ("contradiction", {"title": "Mail quota"}, "## Quota\nThe mailbox holds 25 GB."),
    "bad-tray": ("contradiction", {"title": "Trays"}, "## Trays\nThe tray cannot be moved by customers."),
    "bad-password": ("contradiction", {"title": "Signing in"}, "## Staff\nStaff passwords are good for six months."),
    "bad-stale": ("stale", {"title": "Scanner", "reviewed_on": "2024-01-01"}, "## Scan\nPress the green key."),
    "bad-dates": ("undated", {"title": "Fax", "effective_on": None}, "## Fax\nThere is none."),
    "bad-change": ("undated-change", {"title": "Parking"}, "## Parking\nFrom now on the yard is closed at night."),
    "bad-exception": ("undefined-exception", {"title": "Discounts"}, "## Who\nA credit is granted, except in special cases."),
    "bad-maybe": ("undefined-exception", {"title": "Vouchers"}, "## Who\nVouchers may be refunded at our discretion."),
    "bad-link": ("broken-link", {"title": "Gates"}, "## Gates\nSee [the plan](plan.md)."),
    "bad-anchor": ("broken-link", {"title": "Doors"}, "## Doors\nSee [the size](mailbox.md#how-small)."),
    "bad-own-anchor": ("broken-link", {"title": "Lifts"}, "## Lifts\nSee [below](#cellar)."),
    "bad-long": ("long-section", {"title": "History"}, "## Then\n" + "Once there was a small shop in a narrow street. " * 40),
    "bad-retired": ("retired", {"title": "Till"}, "## Till\nOpen it with Internet Explorer 11."),
    "bad-house-retired": ("retired", {"title": "Bells"}, "## Bells\nStart Bellmaster 2 and press Ring."),
    "bad-policy-id": ("policy-id", {"title": "Cancellation rules", "authority": "policy"},
        "## End\nA plan ends on its renewal day."),
    "bad-purposes": (
        "several-purposes",
        {"title": "Terms", "authority": "policy"},
        "## Ends\nOwners cancel a plan in writing. A refund is paid within ten days.",
    ),
    "bad-second-source": (
        "two-sources",
        {"title": "Refund rules for shops", "authority": "policy", "policy_id": "POL-9"},
        "## Shops\nShops are asked to write to Billing.",
    ),
    "bad-field": ("front-matter", {"title": "Stairs", "audiance": "all"}, "## Stairs\nMind the step."),
    "bad-summary": (
        "summary-quotes",
        {"title": "Vault", "sensitive": "true", "summary": "The vault opens when two keepers turn both keys at once."},
        "## Vault\nThe vault opens when two keepers turn both keys at once.",
    ),
    "bad-prose": (
        "eligibility-prose",
        {"title": "Who gets it", "authority": "policy"},
        "## Who\nStaff are eligible. Guests are entitled. Partners are allowed in. Visitors are permitted on Mondays.",
    ),
}  # fmt: skip


def planted(folder: Path) -> None:
    for name, (_, fields, body) in PLANTED.items():
        write(folder, name, str(fields["title"]), body, **{key: value for key, value in fields.items() if key != "title"})
    copied = (
        "When the alarm rings everybody leaves by the nearest door, meets in the yard and waits there until the warden has counted "
    )
    copied += "all of them; nobody goes back for coats or bags"
    write(folder, "alarm", "Alarm", f"## Alarm\n{copied}.")
    write(folder, "bad-copy", "Fire", f"## Fire\n{copied}.")
    write(folder, "bad-copy-differs", "Smoke", f"## Smoke\n{copied}, and comes back after 20 minutes.")
    write(folder, "bad-id", "Cellar", "## Cellar\nThe cellar is dry.", id="mailbox")


def found(report: Report) -> set[tuple[str, str]]:
    """(article, rule). Of two articles that disagree the planted one, of two planted ones the one whose name says more."""
    pairs = [({finding.file, finding.other.rpartition(":")[0]} - {""}, finding.rule) for finding in report.findings]
    return {
        (max(files, key=lambda file: (file.startswith("bad-"), len(file), file)).removesuffix(".md"), rule) for files, rule in pairs
    }


def test_articles_that_are_right_are_left_alone(tmp_path: Path) -> None:
    clean(tmp_path)
    assert lint(tmp_path, today=TODAY, retired=["Bellmaster 2"]).findings == ()


def test_everything_planted_is_found_and_nothing_else(tmp_path: Path) -> None:
    clean(tmp_path)
    planted(tmp_path)
    report = lint(tmp_path, today=TODAY, retired=["Bellmaster 2"])
    wanted = {(name, rule) for name, (rule, _, _) in PLANTED.items()} | {("bad-copy", "duplicate"), ("bad-id", "duplicate-id")}
    wanted |= {("bad-copy-differs", "duplicate-disagrees")}
    hits = found(report) & wanted
    assert found(report) - wanted == set(), f"precision {len(hits) / len(found(report)):.2f}"
    assert wanted - found(report) == set(), f"recall {len(hits) / len(wanted):.2f}"


def test_a_finding_names_the_line_the_other_passage_and_what_to_do(tmp_path: Path) -> None:
    clean(tmp_path)
    write(
        tmp_path,
        "sending",
        "Sending goods back",
        "## Back\nAsk first.\n\nYou may return unused goods within 14 days after delivery.",
    )
    (finding,) = lint(tmp_path, today=TODAY).findings
    lines = (tmp_path / "sending.md").read_text().splitlines()
    assert "14 days" in lines[finding.line - 1] and finding.other.startswith("returns.md:") and finding.todo
    assert "14 days or 30 days" in finding.message and finding.severity == "error"


def test_a_vague_exception_is_worse_in_a_policy(tmp_path: Path) -> None:
    for name, authority in (("soft", "article"), ("hard", "policy")):
        write(tmp_path, name, name, f"## {name}\nThe {name} one is usually refunded.", authority=authority)
    severities = {finding.file: finding.severity for finding in lint(tmp_path, today=TODAY).findings}
    assert severities == {"soft.md": "warning", "hard.md": "error"}


def test_foreign_front_matter_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "---\ntitle: Mail quota\nms.date: 01/24/2024\naudience: ITPro\n---\n# Mail quota\nA mailbox holds 25 GB.\n"
    )
    (tmp_path / "b.md").write_text("# Mail size\n\nA mailbox holds 50 GB.\n")
    rules = sorted(found(lint(tmp_path, form=DOCS, today=TODAY)))
    assert rules == [("a", "stale"), ("b", "contradiction"), ("b", "undated")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("within 30 days", 30 * 86400), ("within 24 hours", 86400), ("a day", None), ("1,234.50 euros", 1234.5), ("€ 100", 100),
        ("two weeks", 14 * 86400), ("50 GB", 50 * 1048576), ("14-day", 14 * 86400), ("version 2.1", None), ("drei Tage", 3 * 86400),
        ("10 %", 10), ("5,000 rows", 5000), ("Office 2016 users", 2016),
    ],
)  # fmt: skip
def test_numbers_are_read_with_their_units(text: str, value: float | None) -> None:
    assert [each.value for each in quantities(text)] == ([] if value is None else [value])


def test_words_of_a_claim_are_the_same_however_they_are_bent() -> None:
    assert content("Unused goods can be returned within 30 days") == content("You may return the unused goods after 14 days")
    assert denies("It is not allowed") and not denies("It is allowed") and not denies("Never not allowed")


def test_the_house_s_own_knowledge_is_clean() -> None:
    report = lint(COMPANY / "knowledge", today=TODAY, retired=read_retired(COMPANY / "retired.yaml"))
    assert report.documents > 30 and report.findings == ()
