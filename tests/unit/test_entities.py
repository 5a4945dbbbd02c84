"""What a ticket names: by patterns and by the house's own words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.directory import Directory, Service
from orchestrator.triage.entities import find_entities
from tests.unit.desk_house import HOUSE


def named(text: str) -> dict[str, tuple[str, ...]]:
    found = find_entities(text, HOUSE)
    return {name: values for name in found.__dataclass_fields__ if (values := getattr(found, name))}


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("order 70012", "order_numbers", "ord-70012"),
        ("ORD-70012", "order_numbers", "ord-70012"),
        ("order number is 70012", "order_numbers", "ord-70012"),
        ("Order no. #70012", "order_numbers", "ord-70012"),
        ("Bestellnummer 70012", "order_numbers", "ord-70012"),
        ("Bestellung Nr. 70012", "order_numbers", "ord-70012"),
        ("commande n° 70012", "order_numbers", "ord-70012"),
        ("pedido número 70012", "order_numbers", "ord-70012"),
        ("INV-20431", "invoice_numbers", "inv-20431"),
        ("Rechnungsnr. 20431", "invoice_numbers", "inv-20431"),
        ("la facture n° 20431", "invoice_numbers", "inv-20431"),
        ("factura 20431", "invoice_numbers", "inv-20431"),
        ("ERR_CERT_DATE_INVALID", "error_codes", "err_cert_date_invalid"),
        ("code SSO-4031 appears", "error_codes", "sso-4031"),
        ("it says HTTP 504", "error_codes", "504"),
        ("Fehler 4711", "error_codes", "4711"),
        ("0x80070005", "error_codes", "0x80070005"),
        ("since version 2.1.7", "versions", "2.1.7"),
        ("update auf 9.4.2", "versions", "9.4.2"),
        ("2.1.7 is broken", "versions", "2.1.7"),
        ("fw-yhz-1 is down", "hosts", "fw-yhz-1"),
        ("Job_1148 abended", "hosts", "job_1148"),
        ("printer DV07", "hosts", "printer dv07"),
        ("Kasse 3", "hosts", "kasse 3"),
        ("id.northwind.example", "hosts", "id.northwind.example"),
        ("ping 10.1.2.3", "hosts", "10.1.2.3"),
        ("mail Ada.Berg@northwind.example", "emails", "ada.berg@northwind.example"),
        ("charged €1,200.50", "amounts", "€1,200.50"),
        ("49,90 EUR doppelt", "amounts", "49,90 eur"),
        ("the sign-in page is odd", "services", "sso"),
        ("Single Sign-On", "services", "sso"),
        ("mobile app", "services", "mobile-app"),
        ("im Lager GRZ", "sites", "graz"),
        ("our Bristol office", "regions", "europe"),
        ("all of Americas", "regions", "americas"),
    ],
)
def test_a_thing_is_found_however_it_is_written(text: str, field: str, value: str) -> None:
    assert value in named(text).get(field, ()), named(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("seit dem 18.11.2026", "versions"),
        ("our server 10.1.2.3", "versions"),
        ("Windows Server 2016", "hosts"),
        ("covid-19, utf-8, iso-8859", "hosts"),
        ("plant_107 and SID_34", "error_codes"),
        ("SSO-4031", "hosts"),
        ("ORD-70012 and INV-20431", "error_codes"),
        ("in order to log in 2026 times", "order_numbers"),
        ("the invoice of 2026-11-18", "invoice_numbers"),
        ("applause", "services"),
        ("Grazer Straße", "sites"),
        ("3 years ago", "amounts"),
    ],
)
def test_what_only_looks_like_one_is_none(text: str, field: str) -> None:
    assert field not in named(text), named(text)


def test_a_name_of_the_house_is_found_at_word_ends_only() -> None:
    inside = Directory(services=(Service(name="erp"),))
    assert find_entities("the ERP, please", inside).services == ("erp",)
    assert find_entities("interpretation of enterprise", inside).services == ()


def test_a_house_without_a_directory_still_has_numbers() -> None:
    assert find_entities("order 70012 in Graz", Directory()).order_numbers == ("ord-70012",)


@given(st.text(max_size=300))
def test_everything_found_is_lower_case_sorted_and_stands_once(text: str) -> None:
    for values in named(text).values():
        assert list(values) == sorted(set(values)) and all(value == value.lower().strip() != "" for value in values)


@given(st.integers(1000, 999_999_999), st.sampled_from(["order {}", "Bestellung Nr. {}", "commande : {}", "pedido {}", "ORD-{}"]))
def test_any_order_number_is_found_as_the_records_write_it(number: int, form: str) -> None:
    assert find_entities(form.format(number), HOUSE).order_numbers == (f"ord-{number}",)


@pytest.mark.timeout(60)  # matching that grows with the square of the length takes hours
@pytest.mark.parametrize("piece", ["a-", "1", "1,", "1.", "a.", "A_", "_", "a1-", "a@b.", "€1 ", "order "])
def test_a_hostile_text_of_a_mebibyte_is_read(piece: str) -> None:
    assert find_entities(piece * (1_048_576 // len(piece)), HOUSE) is not None
