"""Check digits of numbers that identify people, accounts and wallets. Knows arithmetic; knows no text around a number.

Every check takes the written form, ignores what separates the digits, and answers whether such a number can exist. Sources: ISO/IEC
7812-1 (Luhn), ISO 13616 (IBAN), ISO/IEC 7064 (MOD 11,10), the issuers' published rules for national numbers, Base58Check and BIP-173.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import date
from ipaddress import IPv4Address, ip_address
from types import MappingProxyType

IBAN_LENGTHS: Mapping[str, int] = MappingProxyType(
    {
        pair[:2]: int(pair[2:])
        for pair in (
            "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 FR27 GB22"
            " GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24"
            " ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SD18 SE24 SI19 SK24 SM27 ST25 SV28 TL23"
            " TN24 TR26 UA29 VA22 VG24 XK20"
        ).split()
    }
)
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_VERHOEFF = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_FISCAL_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def digits(text: str) -> list[int]:
    """The ASCII digits of a written number."""
    return [int(char) for char in text if "0" <= char <= "9"]


def _number(text: str) -> str:
    return "".join(map(str, digits(text)))


def _weighted(values: Sequence[int], weights: Sequence[int]) -> int:
    return sum(value * weight for value, weight in zip(values, weights, strict=False))


def luhn(text: str) -> bool:
    """ISO/IEC 7812-1."""
    found = digits(text)
    doubled = (sum(divmod(2 * digit, 10)) for digit in found[-2::-2])
    return len(found) > 1 and (sum(found[-1::-2]) + sum(doubled)) % 10 == 0


def payment_card(text: str) -> int:
    """How many characters of a written number are a card's: 12 to 19 digits, first digit of an issuer (2-6), Luhn; 0 for none.

    What follows a card on the same line (its expiry, its code) is not taken for more of it.
    """
    places = [place for place, char in enumerate(text) if "0" <= char <= "9"]
    for length in range(min(19, len(places)), 11, -1):
        end = places[length - 1] + 1
        whole = end == len(text) or not text[end].isdecimal()
        if whole and text[places[0]] in "23456" and len(set(digits(text[:end]))) > 1 and luhn(text[:end]):
            return end
    return 0


def iban(text: str) -> int:
    """How many characters of the text are an IBAN: length of its country and the remainder 1 modulo 97; 0 for none."""
    places = [place for place, char in enumerate(text) if char.isalnum()]
    length = IBAN_LENGTHS.get(text[:2].upper(), 99)
    if length > len(places):
        return 0
    written = "".join(text[place] for place in places[:length]).upper()
    end = places[length - 1] + 1
    whole = end == len(text) or not text[end].isalnum()
    right = written.isascii() and int("".join(str(int(char, 36)) for char in written[4:] + written[:4])) % 97 == 1
    return end if whole and right else 0


def ssn(text: str) -> bool:
    """US: no area 000, 666 or 9xx, no group 00, no serial 0000. There is no check digit."""
    written = _number(text)
    return (
        len(written) == 9
        and written[:3] not in {"000", "666"}
        and written[0] != "9"
        and written[3:5] != "00"
        and written[5:] != "0000"
    )


def individual_tax_number(text: str) -> bool:
    """US ITIN: 9xx-(50-65, 70-88, 90-92, 94-99)-xxxx."""
    written = _number(text)
    return (
        len(written) == 9
        and written[0] == "9"
        and int(written[3:5]) in {*range(50, 66), *range(70, 89), 90, 91, 92, *range(94, 100)}
    )


def steuer_id(text: str) -> bool:
    """Germany: 11 digits, one of the first ten twice or three times, ISO/IEC 7064 MOD 11,10."""
    found = digits(text)
    if len(found) != 11 or not found[0] or len(set(found[:10])) not in {8, 9}:
        return False
    product = 10
    for digit in found[:10]:
        product = ((digit + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == found[10]


def nir(text: str) -> bool:
    """France: 13 characters and a key of 97 minus their remainder; Corsica's 2A and 2B count as 19 and 18."""
    written = re.sub(r"\s", "", text).upper().replace("2A", "19").replace("2B", "18")
    return len(written) == 15 and written.isdecimal() and 97 - int(written[:13]) % 97 == int(written[13:])


def dni(text: str) -> bool:
    """Spain: DNI and NIE, letter by remainder 23."""
    written = re.sub(r"[\s.-]", "", text).upper()
    number = written[:-1].translate(str.maketrans("XYZ", "012"))
    return number.isdecimal() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == written[-1]


def codice_fiscale(text: str) -> bool:
    """Italy: 16 characters, the last one from the sums over odd and even places."""
    written = text.upper()
    places = [int(char) if char.isdecimal() else ord(char) - 65 for char in written]
    return len(places) == 16 and chr(65 + (sum(_FISCAL_ODD[v] for v in places[:15:2]) + sum(places[1:15:2])) % 26) == written[-1]


def bsn(text: str) -> bool:
    """The Netherlands: the eleven test over nine digits."""
    found = digits(text)
    return len(found) == 9 and any(found) and _weighted(found, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def belgian(text: str) -> bool:
    """Belgium: 97 minus the remainder of the first nine digits; a 2 before them since 2000."""
    written = _number(text)
    return len(written) == 11 and int(written[9:]) in {97 - int(written[:9]) % 97, 97 - int("2" + written[:9]) % 97}


def ahv(text: str) -> bool:
    """Switzerland: 756 and an EAN-13 check digit."""
    found = digits(text)
    return len(found) == 13 and found[:3] == [7, 5, 6] and _weighted(found, (1, 3) * 6 + (1,)) % 10 == 0


def personnummer(text: str) -> bool:
    """Sweden: a date (coordination numbers: day + 60) and Luhn over ten digits."""
    written = _number(text)[-10:]
    return len(written) == 10 and _is_day(written[2:4], written[4:6], moved=60) and luhn(written)


def hetu(text: str) -> bool:
    """Finland: a date and a character by remainder 31."""
    written = text.upper()
    number = written[:6] + written[7:10]
    return (
        number.isdecimal()
        and _is_day(written[2:4], written[:2])
        and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number) % 31] == written[-1]
    )


def pesel(text: str) -> bool:
    """Poland: weights 1 3 7 9."""
    found = digits(text)
    return (
        len(found) == 11
        and (_weighted(found, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) + found[10]) % 10 == 0
        and 1 <= int(_number(text)[4:6]) <= 31
    )


def svnr(text: str) -> bool:
    """Austria: the fourth of ten digits from the sum of the others modulo 11."""
    found = digits(text)
    return len(found) == 10 and found[0] > 0 and _weighted(found, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 == found[3]


def nif_pt(text: str) -> bool:
    """Portugal: weights 9 to 2, modulo 11; remainders 0 and 1 give 0."""
    found = digits(text)
    return len(found) == 9 and any(found) and (11 - _weighted(found, range(9, 1, -1)) % 11) % 11 % 10 == found[8]


def cnp(text: str) -> bool:
    """Romania: weights 2 7 9 1 4 6 3 5 8 2 7 9, modulo 11; 10 gives 1."""
    found = digits(text)
    weights = (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)
    rest = _weighted(found, weights) % 11
    return len(found) == 13 and found[0] > 0 and (1 if rest == 10 else rest) == found[12]


def nhs(text: str) -> bool:
    """England: weights 10 to 2, modulo 11."""
    found = digits(text)
    return len(found) == 10 and (11 - _weighted(found, range(10, 1, -1)) % 11) % 11 == found[9]


def cpf(text: str) -> bool:
    """Brazil: two check digits modulo 11."""
    found = digits(text)
    if len(found) != 11 or len(set(found)) == 1:
        return False
    return all(_weighted(found, range(length + 1, 1, -1)) * 10 % 11 % 10 == found[length] for length in (9, 10))


def sin(text: str) -> bool:
    """Canada: nine digits, not from 0 or 8, Luhn."""
    found = digits(text)
    return len(found) == 9 and found[0] not in {0, 8} and luhn(text)


def tfn(text: str) -> bool:
    """Australia: nine digits, weights modulo 11."""
    found = digits(text)
    return len(found) == 9 and _weighted(found, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def aadhaar(text: str) -> bool:
    """India: twelve digits, not from 0 or 1, Verhoeff."""
    found = digits(text)
    return len(found) == 12 and found[0] > 1 and verhoeff(found)


def verhoeff(found: Sequence[int]) -> bool:
    """Products in the dihedral group of ten, each place permuted once more."""
    product = 0
    for place, digit in enumerate(reversed(found)):
        for _ in range(place % 8):
            digit = _VERHOEFF[digit]
        product = _dihedral(product, digit)
    return product == 0


def _dihedral(a: int, b: int) -> int:
    if a < 5:
        return (a + b) % 5 + (5 if b >= 5 else 0)
    return (a - b) % 5 + (0 if b >= 5 else 5)


def routing_number(text: str) -> bool:
    """US banks: weights 3 7 1."""
    found = digits(text)
    return len(found) == 9 and any(found) and _weighted(found, (3, 7, 1) * 3) % 10 == 0


def reachable_ip(text: str) -> bool:
    """An address that can be someone's: not loopback, unspecified, multicast or a netmask."""
    try:
        found = ip_address(text)
    except ValueError:
        return False
    if found.is_loopback or found.is_unspecified or found.is_multicast:
        return False
    return not (isinstance(found, IPv4Address) and (text.startswith("255.") or text.startswith("0.")))


def bitcoin(text: str) -> bool:
    """Base58Check (double SHA-256), or Bech32 and Bech32m."""
    return _bech32(text.lower()) if text[:3].lower() == "bc1" else _base58check(text)


def _base58check(text: str) -> bool:
    value = 0
    for char in text:
        place = _BASE58.find(char)
        if place < 0:
            return False
        value = value * 58 + place
    if value >= 1 << 200:
        return False
    whole = value.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(whole[:21]).digest()).digest()[:4] == whole[21:]


def _bech32(text: str) -> bool:
    human, _, data = text.rpartition("1")
    if not human or any(char not in _BECH32 for char in data):
        return False
    checksum = 1
    for value in [*(ord(c) >> 5 for c in human), 0, *(ord(c) & 31 for c in human), *(_BECH32.index(c) for c in data)]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for place in range(5):
            checksum ^= _BECH32_GENERATOR[place] if top >> place & 1 else 0
    return checksum in {1, 0x2BC830A3}


def _is_day(month: str, day: str, *, moved: int = 0) -> bool:
    number = int(day)
    try:
        date(2000, int(month), number - moved if number > moved else number)
    except ValueError:
        return False
    return True
