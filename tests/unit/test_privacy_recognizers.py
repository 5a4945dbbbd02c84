"""Personal data is found by form and check digit, and what triage needs stays."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.privacy import checks
from orchestrator.privacy.names import People
from orchestrator.privacy.recognizers import KEPT, RECOGNIZERS, Kind, find_personal_data

FOUND = (  # kind, text, the value that must be found whole
    (Kind.EMAIL, "Write to anna.schmidt+it@mail.example.org, please.", "anna.schmidt+it@mail.example.org"),
    (Kind.EMAIL, "Write to anna [at] example [dot] org", "anna [at] example [dot] org"),
    (Kind.CARD, "Card 4111 1111 1111 1111 12/27 was charged twice", "4111 1111 1111 1111"),
    (Kind.CARD, "amex 378282246310005", "378282246310005"),
    (Kind.IBAN, "Please use ES91 2100 0418 4502 0005 1332 as of now", "ES91 2100 0418 4502 0005 1332"),
    (Kind.IBAN, "IBAN: DE89370400440532013000", "DE89370400440532013000"),
    (Kind.BANK_ACCOUNT, "my account number is 12345678", "12345678"),
    (Kind.BANK_ACCOUNT, "ABA routing 021000021", "021000021"),
    (Kind.WALLET, "sent to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    (Kind.WALLET, "sent to bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
    (Kind.NATIONAL_ID, "My SSN is 078-05-1121 and I need help", "078-05-1121"),
    (Kind.NATIONAL_ID, "National insurance QQ123456C", "QQ123456C"),
    (Kind.NATIONAL_ID, "NI AB 12 34 56 C", "AB 12 34 56 C"),
    (Kind.NATIONAL_ID, "Steuer-ID 86095742719", "86095742719"),
    (Kind.NATIONAL_ID, "sécu 2 55 08 14 168 025 38", "2 55 08 14 168 025 38"),
    (Kind.NATIONAL_ID, "DNI 12345678Z", "12345678Z"),
    (Kind.NATIONAL_ID, "NIE X1234567L", "X1234567L"),
    (Kind.NATIONAL_ID, "cf RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    (Kind.NATIONAL_ID, "BSN 111222333", "111222333"),
    (Kind.NATIONAL_ID, "AHV 756.9217.0769.85", "756.9217.0769.85"),
    (Kind.NATIONAL_ID, "personnummer 811218-9876", "811218-9876"),
    (Kind.NATIONAL_ID, "hetu 131052-308T", "131052-308T"),
    (Kind.NATIONAL_ID, "PESEL 44051401359", "44051401359"),
    (Kind.NATIONAL_ID, "NHS 943 476 5919", "943 476 5919"),
    (Kind.NATIONAL_ID, "cpf 529.982.247-25", "529.982.247-25"),
    (Kind.NATIONAL_ID, "aadhaar 2341 2341 2346", "2341 2341 2346"),
    (Kind.NATIONAL_ID, "85.07.30-033 28", "85.07.30-033 28"),
    (Kind.NATIONAL_ID, "SVNR 1237 010180", "1237 010180"),
    (Kind.NATIONAL_ID, "NIF 123456789", "123456789"),
    (Kind.NATIONAL_ID, "CNP 1960911410013", "1960911410013"),
    (Kind.PASSPORT, "passport number C01X00T47 expires soon", "C01X00T47"),
    (Kind.DRIVER_LICENSE, "my driver's license number is D1234567", "D1234567"),
    (Kind.BIRTH_DATE, "date of birth: 12/15/1995", "12/15/1995"),
    (Kind.BIRTH_DATE, "geboren am 3. März 1980", "3. März 1980"),
    (Kind.AGE, "I am 45 years old", "45"),
    (Kind.PHONE, "Call +49 (0)89 1234-5678 after lunch", "+49 (0)89 1234-5678"),
    (Kind.PHONE, "phone:555-123-4567 x12", "555-123-4567 x12"),
    (Kind.PHONE, "reach me at 5551234567", "5551234567"),
    (Kind.PHONE, "joignable au 06 12 34 56 78", "06 12 34 56 78"),
    (Kind.IP, "from 84.23.11.7 since noon", "84.23.11.7"),
    (Kind.IP, "from 2001:db8::8a2e:370:7334 since noon", "2001:db8::8a2e:370:7334"),
    (Kind.MAC, "nic 4c:7c:5f:36:97:8d is down", "4c:7c:5f:36:97:8d"),
    (Kind.SECRET, "password: hunter2!", "hunter2!"),
    (Kind.SECRET, "Mein Passwort lautet Sommer2026", "Sommer2026"),
    (Kind.SECRET, "ghp_" + "a1B2" * 9, "ghp_" + "a1B2" * 9),
    (Kind.SECRET, "AKIA" + "ABCD2345" * 2, "AKIA" + "ABCD2345" * 2),
    (Kind.SECRET, "Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
    (Kind.SECRET, "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl"),
    (Kind.SECRET, "postgres://bob:s3cret@db/app", "bob:s3cret"),
    (Kind.SECRET, "https://x.example/reset?token=abcd1234&u=1", "abcd1234"),
    (Kind.SECRET, "https://hooks.slack.com/services/T01/B02/abcDEF0123456789", "T01/B02/abcDEF0123456789"),
    (Kind.SECRET, "AccountKey=" + "aB3+" * 8 + "==;Endpoint=x", "aB3+" * 8 + "=="),
    (Kind.SECRET, "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
    (Kind.SECRET, "xoxb-123456789012-abcdefghijkl", "xoxb-123456789012-abcdefghijkl"),
    (Kind.SECRET, "AIza" + "a1B2-" * 7, "AIza" + "a1B2-" * 7),
    (Kind.USERNAME, r"C:\Users\aschmidt\Desktop", "aschmidt"),
    (Kind.USERNAME, r"login as ACME\jdoe fails", "jdoe"),
    (Kind.USERNAME, "username: j.doe", "j.doe"),
    (Kind.ADDRESS, "Send it to 12 Baker Street, please", "12 Baker Street"),
    (Kind.ADDRESS, "Bergmannstraße 12, 10961 Berlin", "Bergmannstraße 12, 10961 Berlin"),
    (Kind.ADDRESS, "12 rue de la Paix", "12 rue de la Paix"),
    (Kind.PERSON, "Hello Judith,\nthe printer is broken.", "Judith"),
    (Kind.PERSON, "Printer broken.\nBest regards\nZlata Veres", "Zlata Veres"),
    (Kind.PERSON, "Drucker kaputt.\nMit freundlichen Grüßen\nZlata Veres", "Zlata Veres"),
    (Kind.PERSON, "From: Zlata Veres\nVPN", "Zlata Veres"),
    (Kind.PERSON, "my name is Zlata and I", "Zlata"),
    (Kind.PERSON, "Herr Veres braucht Zugriff", "Veres"),
    (Kind.PERSON, "Zlata works here. zlata.veres@acme.example", "Zlata"),
)
STAYS = (
    "Order 4482-1931 and ORD-70012 are late, order number 113542617735902",
    "job 442000000004, serial number 630000000004 and tracking no. 5500000000004",
    "basic authentication, Bearer-Authentication and basic Authorization are off since 2017/06/05",
    "INC0012345, REQ-2210 and ticket 5551234567",
    "error 0x80070005, ERR_CERT_DATE_INVALID, E4120, HTTP 503, event 4625",
    "version 2.1.7, build 19045.3803, v10.0.19045, firmware 1.2.3.4",
    "on 2026-11-18 at 09:30:12, between 10:00-12:00, on 18.11.2026",
    "host nyc-lt-0042 and db01.acme.example, https://status.acme.example/page",
    "127.0.0.1, 0.0.0.0 and 255.255.255.0",
    "it costs 1 250 000 EUR or $1,299.00",
    "request 3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "My password is expired and the PIN was entered wrong",
    "years 2019-2021, 1920x1080, 16 GB, port 8080 8443",
    "6469 643d 5479 7065 3a20 7465 7874",
    "the team support said: Dear Team, thanks",
)


@pytest.mark.parametrize(("kind", "text", "value"), FOUND)
def test_a_value_is_found_whole_and_as_what_it_is(kind: Kind, text: str, value: str) -> None:
    found = [(span.kind, text[span.start : span.end]) for span in find_personal_data(text)]
    assert (kind, value) in found, found


@pytest.mark.parametrize("text", STAYS)
def test_what_triage_needs_stays(text: str) -> None:
    assert [(span.kind, span.rule, text[span.start : span.end]) for span in find_personal_data(text)] == []


CHECKED = {rule.rule for rule in RECOGNIZERS if rule.check} - {"phone", "international", "bitcoin", "ipv4", "ipv6"}
WRONG = {  # rule -> a number that looks right, with a check digit that is not
    "iban": "use ES91 2100 0418 4502 0005 1333 as of now",
    "card": "the number 4111 1111 1111 1112 is ours",
    "nir_fr": "2 55 08 14 168 025 39",
    "ssn": "it is 666-05-1121 here",
    "itin": "it is 912-49-1121 here",
    "ssn_named": "tax file 000051121",
    "dni_es": "it is 12345678A here",
    "nie_es": "it is X1234567A here",
    "codice_fiscale_it": "cf RSSMRA85T10A562T",
    "ahv_ch": "ahv 756.9217.0769.84",
    "belgian": "85.07.30-033 29",
    "hetu_fi": "hetu 131052-308U",
    "personnummer_se": "it is 811318-9876 here",
    "cpf_br": "it is 529.982.247-26",
    "aadhaar_in": "aadhaar: the 2341 2341 2345",
    "steuer_id_de": "steuer: die 86095742718",
    "pesel_pl": "tax, the 44051401358",
    "belgian_named": "nn, the 85073003329",
    "cpf_named": "tax, the 52998224726",
    "nhs_gb": "national, the 9434765918",
    "svnr_at": "insurance, the 1239010180",
    "cnp_ro": "national, the 1960911410012",
    "nif_pt": "contribuinte, the 000456781",
    "sin_ca": "social, the 000692545",
    "tfn_au": "tax, the 000456785",
    "bsn_nl": "identity, the 000222334",
    "routing_us": "routing, the 021000022",
}


def test_every_check_digit_has_a_wrong_number_that_is_refused() -> None:
    assert set(WRONG) == CHECKED
    for rule, text in WRONG.items():
        assert rule not in {span.rule for span in find_personal_data(text)}, (rule, text)


def test_every_kind_has_a_recognizer_but_names() -> None:
    assert {one.kind for one in RECOGNIZERS} == set(Kind) - {Kind.PERSON}
    assert KEPT


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (checks.luhn, "79927398713", "79927398710"),
        (checks.payment_card, "5555555555554444", "5555555555554445"),
        (checks.iban, "GB82WEST12345698765432", "GB82WEST12345698765433"),
        (checks.steuer_id, "86095742719", "86095742718"),
        (checks.nir, "255081416802538", "255081416802539"),
        (checks.dni, "12345678Z", "12345678A"),
        (checks.codice_fiscale, "RSSMRA85T10A562S", "RSSMRA85T10A562T"),
        (checks.bsn, "111222333", "111222334"),
        (checks.belgian, "85.07.30-033 28", "85.07.30-033 29"),
        (checks.ahv, "756.9217.0769.85", "756.9217.0769.84"),
        (checks.personnummer, "811218-9876", "811218-9877"),
        (checks.hetu, "131052-308T", "131052-308U"),
        (checks.pesel, "44051401359", "44051401358"),
        (checks.svnr, "1237 010180", "1238 010180"),
        (checks.nif_pt, "123456789", "123456788"),
        (checks.cnp, "1960911410013", "1960911410012"),
        (checks.nhs, "943 476 5919", "943 476 5918"),
        (checks.cpf, "529.982.247-25", "529.982.247-26"),
        (checks.sin, "130 692 544", "130 692 545"),
        (checks.tfn, "123 456 782", "123 456 783"),
        (checks.aadhaar, "2341 2341 2346", "2341 2341 2345"),
        (checks.routing_number, "021000021", "021000022"),
        (checks.bitcoin, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"),
        (checks.bitcoin, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"),
        (checks.ssn, "078-05-1120", "666-05-1120"),
        (checks.reachable_ip, "10.1.2.3", "300.1.2.3"),
    ],
)
def test_a_check_digit_tells_right_from_wrong(check, right: str, wrong: str) -> None:  # type: ignore[no-untyped-def]
    assert check(right) and not check(wrong)


def test_people_of_the_house_are_found_in_any_order_case_and_form() -> None:
    people = People(["Jürgen Müller", "Van der Berg, Anneke", "Will Page", "anna.ruiz@acme.example", "李伟"])
    for text, value in (
        ("ask jürgen müller today", "jürgen müller"),
        ("Müller, Jürgen was here", "Müller, Jürgen"),
        ("J. Müller signed", "J. Müller"),
        ("Jürgen's laptop", "Jürgen"),
        ("ask Anna Ruiz", "Anna Ruiz"),
        ("Will Page called", "Will Page"),
        ("请联系李伟。", "李伟"),
        ("JURGEN MULLER", "JURGEN MULLER"),
    ):
        assert value in [text[span.start : span.end] for span in find_personal_data(text, people)], text


def test_everyday_words_that_are_names_too_stay_when_they_stand_alone() -> None:
    people = People(["Will Page", "May Long"])
    assert find_personal_data("Will the page load? It may take long. Page 4.", people) == []


@given(st.text(max_size=400), st.lists(st.text(max_size=20), max_size=4))
@settings(max_examples=80, deadline=None)
def test_spans_are_ordered_inside_the_text_and_never_overlap(text: str, names: list[str]) -> None:
    spans = find_personal_data(text, People(names))
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))


@pytest.mark.parametrize(
    "piece",
    ["a", "1 ", "a@", "Anna ", "password: ", "DE12", "1-", "(", "a:", "best ", "eyJ", "From: ", "+1", "12 Main ", "x.", "é", "İ"],
)
def test_no_long_text_takes_more_than_its_length(piece: str) -> None:
    text = (piece * 20_000)[:20_000]
    began = time.process_time()
    find_personal_data(text)
    assert time.process_time() - began < 1.0
