"""Find personal data in a text, as a table of recognizers. Knows forms, check digits and context; knows no ticket and no database.

What triage needs stays: order, invoice and ticket numbers, error codes, versions, host names and URLs without credentials, amounts,
times and dates that are not birth dates, UUIDs and hashes (table `KEPT`). A recognizer with a check refuses what cannot exist; one with
`context` needs those words on the same stretch of text before it.
"""
# ruff: noqa: E501 (the tables read better as long lines)

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from orchestrator.privacy import checks
from orchestrator.privacy.names import People, find_free_names, lower, occurrences

CONTEXT_CHARS = 48  # before a value
MANY_NUMBERS = 50  # from here on it pays to look first whether the context stands anywhere
AFTER_CHARS = 14  # behind it ("... office", "... mobile")


class Kind(StrEnum):
    """What a value is. The name stands in its placeholder."""

    SECRET = "SECRET"
    EMAIL = "EMAIL"
    CARD = "CARD"
    IBAN = "IBAN"
    BANK_ACCOUNT = "BANK_ACCOUNT"
    WALLET = "WALLET"
    NATIONAL_ID = "NATIONAL_ID"
    PASSPORT = "PASSPORT"
    DRIVER_LICENSE = "DRIVER_LICENSE"
    BIRTH_DATE = "BIRTH_DATE"
    AGE = "AGE"
    PHONE = "PHONE"
    IP = "IP"
    MAC = "MAC"
    USERNAME = "USERNAME"
    ADDRESS = "ADDRESS"
    PERSON = "PERSON"


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One found value: `text[start:end]`."""

    start: int
    end: int
    kind: Kind
    rule: str


@dataclass(frozen=True, kw_only=True)
class Recognizer:
    """One row of the table. The value is group `v` of the pattern, or all of it."""

    kind: Kind
    rule: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool | int] | None = None  # a number: so many of its characters are the value
    context: re.Pattern[str] | None = None
    needs: tuple[str, ...] = ()  # a text without any of these (lower case) is not searched
    starts: tuple[str, ...] = ()  # the pattern starts with one of these (lower case)
    digits: int = 0  # no text is searched whose longest number has fewer digits
    lead: tuple[int, ...] = ()  # the pattern starts so many characters before a number; (): anywhere


def _words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?i)(?<![^\W_])(?:{words})(?![^\W_])")


PLACEHOLDER = re.compile(rf"<(?:{'|'.join(Kind)})_[1-9]\d{{0,5}}>")
_DAY = r"(?:\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})|\d{4}[./-]\d{1,2}[./-]\d{1,2})"
_MONTH = (
    r"(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez|janv|févr|mars|avril|juin|juil|août|sept|déc"
    r"|ene|abr|mayo|ago|dic)[^\W\d_]{0,8}\.?"
)
_WORDED_DAY = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th|\.|er)?(?: de| of)? {_MONTH}(?: de|,)? \d{{4}}|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})"
)
_ID_WORDS = r"(?:no|nr|number|num|nummer|numéro|número|id|code|#)"
_IS = r"\.?[ \t]{0,3}(?:is|ist|est|es|lautet|was)?[ \t]{0,3}[:=#]?[ \t]{0,3}"
_STREET_NAME = r"[^\W\d_a-z](?:[^\W\d_]|['’.-]){0,24}"
_STREET_WORD = r"[^\W\d_](?:[^\W\d_]|['’.-]){0,24}"

CARD_CONTEXT = _words(r"card|cards|cc|credit|debit|visa|mastercard|amex|karte|kreditkarte|carte|tarjeta")
BANK_CONTEXT = _words(r"account|acct|a/c|routing|aba|sort code|bank|konto|kontonummer|blz|compte|cuenta|rib|bsb")
PHONE_CONTEXT = _words(
    r"phone|phones|tel|telephone|mobile|cell|cellphone|fax|office(?! 3\d\d| 20\d\d)|call|called|calling|reach|reached|ring|text|sms|whatsapp|contact|dial|landline|extension"
    r"|telefon|telefonnummer|tel\.-nr|handy|handynummer|rufnummer|rückruf|anruf|anrufen|erreichbar|durchwahl|mobil"
    r"|téléphone|portable|appeler|appelez|joindre|joignable|numéro de tél|teléfono|telefono|móvil|movil|llamar|llámame|celular|telefone|answering"
)
NATIONAL_CONTEXT = _words(
    r"ssn|ss#|social security|social|itin|tax|tax id|tin|taxpayer|steuer|steuer-?id|steuernummer|idnr|bsn|burgerservicenummer|sofi|sin|social insurance"
    r"|tfn|tax file|aadhaar|aadhar|uid|nhs|national|national id|identity|id number|personnummer|pesel|cpf|rijksregister|registre national|nn|niss"
    r"|insurance|sozialversicherung|sozialversicherungsnummer|svnr|sv-nummer|sv-nr|cnp|contribuinte|sécurité sociale|nir|numéro de sécu|dni|nie|nif|documento|ausweis|personalausweis|id card|cédula|cedula"
)

SECRETS = (
    Recognizer(
        kind=Kind.SECRET,
        rule="private_key",
        starts=("-----begin",),
        pattern=re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]{0,20000}?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)"),
    ),
    Recognizer(
        kind=Kind.SECRET, rule="jwt", starts=("eyj",), pattern=re.compile(r"\beyJ[\w-]{5,4000}\.[\w-]{5,8000}(?:\.[\w-]{0,2000})?")
    ),
    Recognizer(
        kind=Kind.SECRET,
        rule="key_prefix",
        starts=(
            "akia",
            "asia",
            "aroa",
            "aida",
            "ghp_",
            "gho_",
            "ghu_",
            "ghs_",
            "ghr_",
            "github_pat_",
            "glpat-",
            "xox",
            "sk-",
            "sk_",
            "pk-",
            "pk_",
            "rk-",
            "rk_",
            "aiza",
            "ya29.",
            "npm_",
            "pypi-",
            "sg.",
            "hf_",
            "dop_v1_",
            "hvs.",
            "age-secret",
        ),
        pattern=re.compile(
            r"(?<![\w-])(?:(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}|gh[pousr]_\w{20,255}|github_pat_\w{20,255}|glpat-[\w-]{18,64}|xox[abeprs]-[\w-]{10,250}"
            r"|(?:sk|pk|rk)[_-](?:live|test|proj|ant)[_-][\w-]{10,250}|sk-[A-Za-z0-9]{20,250}|AIza[\w-]{35}|ya29\.[\w-]{20,500}|npm_[A-Za-z0-9]{36}"
            r"|pypi-[\w-]{50,500}|SG\.[\w-]{16,64}\.[\w-]{16,64}|hf_[A-Za-z0-9]{30,64}|dop_v1_[a-f0-9]{64}|hvs\.[\w-]{20,200}|AGE-SECRET-KEY-1[A-Z0-9]{50,70})"
        ),
    ),
    Recognizer(
        kind=Kind.SECRET,
        rule="webhook",
        starts=("hooks.slack.com/", "discord.com/api/webhooks/", "discordapp.com/api/webhooks/"),
        pattern=re.compile(
            r"(?i)(?:hooks\.slack\.com/(?:services|workflows)|discord(?:app)?\.com/api/webhooks)/(?P<v>[\w/-]{16,200})"
        ),
    ),
    Recognizer(
        kind=Kind.SECRET,
        rule="account_key",
        starts=("accountkey", "sharedaccesskey", "sharedaccesssignature"),
        pattern=re.compile(r"(?i)(?:AccountKey|SharedAccessKey|SharedAccessSignature)[ ]?=[ ]?(?P<v>[\w+/=%&.-]{20,400})"),
    ),
    Recognizer(
        kind=Kind.SECRET,
        rule="url_credentials",
        needs=("://",),
        pattern=re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://(?P<v>[^\s/@:<>\"']{1,128}:[^\s/@<>\"']{1,256})@"),
    ),
    Recognizer(
        kind=Kind.SECRET,
        rule="url_parameter",
        needs=("=",),
        pattern=re.compile(
            r"(?i)[?&;](?:access_token|id_token|refresh_token|token|api_?key|key|sig|signature|secret|password|passwd|pwd|auth|code|otp|session(?:id)?)"
            r"=(?P<v>[^\s&#\"'<>]{4,2000})"
        ),
    ),
    Recognizer(
        kind=Kind.SECRET,
        rule="authorization",
        starts=(
            "bearer",
            "basic",
            "authorization:",
            "x-api-key:",
            "cookie:",
            "set-cookie:",
        ),
        pattern=re.compile(
            r"(?i)\b(?:bearer|basic|authorization:[ \t]*\w{1,12}|x-api-key:|(?:set-)?cookie:)[ \t]+(?P<v>(?=\S{0,200}(?:\d|=|(?-i:[a-z][A-Z])))[\w.~+/=;-]{12,4000})"
        ),
    ),
    Recognizer(
        kind=Kind.SECRET,
        rule="named_secret",
        starts=(
            "pass",
            "kennwort",
            "mot de passe",
            "contrase",
            "senha",
            "pwd",
            "pw",
            "pin",
            "secret",
            "client",
            "api",
            "access",
            "auth",
            "token",
            "one",
            "otp",
            "tan",
            "cv",
            "security",
            "recovery",
            "verification",
            "credential",
        ),
        pattern=re.compile(
            r"(?i)(?<![^\W_])(?:password|passwort|kennwort|mot de passe|contraseña|contrasena|senha|passcode|passphrase|passwd|pwd|pass|pw|pin(?: code)?|pin-?nummer"
            r"|secret|client[_ ]secret|api[_ -]?key|access[_ -]?key|secret[_ -]?key|auth[_ -]?token|token|one[- ]time (?:code|password)|otp|tan|cvv2?|cvc2?|security code"
            r"|security answer|recovery code|verification code|credentials?)"
            r"(?:[ \t]{1,2}(?:is|was|are|ist|lautet|war|est|es|für \S{1,30}|for \S{1,30}))?[ \t]{0,2}(?:[:=]|(?<=is)|(?<=was)|(?<=ist)|(?<=lautet)|(?<=est))[ \t]{0,3}"
            r"[\"'“„`]?(?P<v>[^\s\"'”“`,;<>]{3,200})"
        ),
    ),
    Recognizer(
        kind=Kind.SECRET,
        rule="named_code",
        starts=(
            "pin",
            "cv",
            "otp",
        ),
        digits=3,
        pattern=re.compile(r"(?i)\b(?:pin|cvv2?|cvc2?|otp)[ \t#]{1,3}(?P<v>\d{3,8})\b"),
    ),
)

STRUCTURED = (
    Recognizer(
        kind=Kind.EMAIL,
        rule="email",
        needs=("@",),
        pattern=re.compile(
            r"(?<![\w.%+-])[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:\[[0-9a-fA-F.:]{2,45}\]|[^\W_](?:[^\W_]|-){0,62}(?:\.[^\W_](?:[^\W_]|-){0,62}){1,8})"
        ),
    ),
    Recognizer(
        kind=Kind.EMAIL,
        rule="spelled_email",
        needs=("[at", "(at", "{at", "[ at", "( at", "{ at", "(@", "[@"),
        pattern=re.compile(
            r"(?i)(?<![\w.])[a-z0-9][\w.+-]{0,63}[ \t]?[\[({][ \t]?(?:at|@)[ \t]?[\])}][ \t]?[a-z0-9-]{1,63}"
            r"(?:[ \t]?(?:[\[({][ \t]?(?:dot|\.)[ \t]?[\])}]|\.)[ \t]?[a-z0-9-]{2,63}){1,4}"
        ),
    ),
    Recognizer(
        kind=Kind.IBAN,
        rule="iban",
        lead=(2,),
        digits=4,
        check=checks.iban,
        pattern=re.compile(r"(?i)(?<![^\W_])[a-z]{2}\d{2}(?:[ \t\u00a0.-]?[a-z0-9]){11,30}(?![^\W_])"),
    ),
    Recognizer(
        kind=Kind.IBAN,
        rule="named_iban",
        starts=("iban",),
        pattern=re.compile(
            rf"(?i)\biban\b(?:[ \t]{_ID_WORDS})?{_IS}(?P<v>[a-z]{{2}}[ \t]?\d{{2}}(?:[ \t.-]?[a-z0-9]){{8,30}})(?![^\W_])"
        ),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="nir_fr",
        lead=(0,),
        digits=13,
        check=checks.nir,
        pattern=re.compile(r"(?<!\w)[12](?:[ ]?\d{2}){2}[ ]?(?:\d{2}|2[ABab])(?:[ ]?\d{3}){2}[ ]?\d{2}(?!\w)"),
    ),
    Recognizer(
        kind=Kind.CARD,
        rule="card",
        lead=(0,),
        digits=12,
        check=checks.payment_card,
        pattern=re.compile(r"(?<![\w.])\d(?:[ \t\u00a0.-]{0,2}\d){11,18}(?![\w]|\.\d)"),
    ),
    Recognizer(
        kind=Kind.CARD,
        rule="named_card",
        lead=(0,),
        digits=12,
        context=CARD_CONTEXT,
        pattern=re.compile(r"(?<![\w.])[1-6](?:[ \t\u00a0.-]{0,2}\d){11,18}(?![\w]|\.\d)"),
    ),
    Recognizer(
        kind=Kind.WALLET,
        rule="bitcoin",
        check=checks.bitcoin,
        pattern=re.compile(r"(?<!\w)(?:[13][1-9A-HJ-NP-Za-km-z]{25,34}|(?i:bc1)[02-9ac-hj-np-zAC-HJ-NP-Z]{11,87})(?!\w)"),
    ),
    Recognizer(kind=Kind.WALLET, rule="ethereum", starts=("0x",), pattern=re.compile(r"(?<!\w)0x[0-9a-fA-F]{40}(?!\w)")),
    Recognizer(
        kind=Kind.MAC,
        rule="mac",
        pattern=re.compile(
            r"(?<![\w:.-])(?:[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4})(?![\w:-])"
        ),
    ),
    Recognizer(
        kind=Kind.IP,
        rule="ipv6",
        needs=(":",),
        check=checks.reachable_ip,
        pattern=re.compile(
            r"(?<![\w:.])(?:[0-9a-fA-F]{1,4}:{1,2}|::){1,8}(?:[0-9a-fA-F]{1,4}:{1,2}){0,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]{0,4})(?![\w:])"
        ),
    ),
    Recognizer(
        kind=Kind.IP,
        rule="ipv4",
        lead=(0,),
        needs=(".",),
        check=checks.reachable_ip,
        pattern=re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="ssn",
        lead=(0,),
        digits=9,
        check=checks.ssn,
        pattern=re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="itin",
        lead=(0,),
        digits=9,
        check=checks.individual_tax_number,
        pattern=re.compile(r"(?<![\w-])9\d{2}-\d{2}-\d{4}(?![\w-])"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="ssn_named",
        lead=(0,),
        digits=9,
        check=checks.ssn,
        context=NATIONAL_CONTEXT,
        pattern=re.compile(r"(?<![\w-])\d{3}[ .-]?\d{2}[ .-]?\d{4}(?![\w-])"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="nino_gb",
        lead=(3, 2),
        digits=6,
        pattern=re.compile(r"(?<!\w)(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?:[ ]?\d{2}){3}[ ]?[A-D](?!\w)"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="dni_es",
        digits=8,
        lead=(0,),
        check=checks.dni,
        pattern=re.compile(r"(?<!\w)\d{2}\.?\d{3}\.?\d{3}[ .-]?[A-Za-z](?!\w)"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="nie_es",
        digits=7,
        lead=(2, 1),
        check=checks.dni,
        pattern=re.compile(r"(?<!\w)[XYZxyz][ .-]?\d{7}[ .-]?[A-Za-z](?!\w)"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="codice_fiscale_it",
        lead=(6,),
        digits=3,
        check=checks.codice_fiscale,
        pattern=re.compile(r"(?i)(?<!\w)[a-z]{6}\d{2}[a-ehlmprst]\d{2}[a-z]\d{3}[a-z](?!\w)"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="ahv_ch",
        lead=(0,),
        needs=("756",),
        check=checks.ahv,
        pattern=re.compile(r"(?<!\w)756\.?\d{4}\.?\d{4}\.?\d{2}(?!\w)"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="belgian",
        lead=(0,),
        digits=11,
        check=checks.belgian,
        pattern=re.compile(r"(?<!\w)\d{2}\.\d{2}\.\d{2}-\d{3}[ .]\d{2}(?!\w)"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="hetu_fi",
        lead=(0,),
        digits=9,
        check=checks.hetu,
        pattern=re.compile(r"(?i)(?<!\w)\d{6}[-+a]\d{3}[0-9a-y](?!\w)"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="personnummer_se",
        lead=(0,),
        digits=10,
        check=checks.personnummer,
        pattern=re.compile(r"(?<!\w)(?:19|20)?\d{6}[-+]\d{4}(?!\w)"),
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="cpf_br",
        lead=(0,),
        digits=11,
        check=checks.cpf,
        pattern=re.compile(r"(?<!\w)\d{3}\.\d{3}\.\d{3}-\d{2}(?!\w)"),
    ),
    *(
        Recognizer(
            kind=Kind.NATIONAL_ID,
            rule=rule,
            digits=9,
            lead=(0,),
            check=check,
            context=NATIONAL_CONTEXT,
            pattern=re.compile(pattern),
        )
        for rule, check, pattern in (
            ("aadhaar_in", checks.aadhaar, r"(?<!\w)[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}(?!\w)"),
            ("steuer_id_de", checks.steuer_id, r"(?<!\w)\d{2}[ ]?\d{3}[ ]?\d{3}[ ]?\d{3}(?!\w)"),
            ("pesel_pl", checks.pesel, r"(?<!\w)\d{11}(?!\w)"),
            ("belgian_named", checks.belgian, r"(?<!\w)\d{11}(?!\w)"),
            ("cpf_named", checks.cpf, r"(?<!\w)\d{11}(?!\w)"),
            ("nhs_gb", checks.nhs, r"(?<!\w)\d{3}[ -]?\d{3}[ -]?\d{4}(?!\w)"),
            ("sin_ca", checks.sin, r"(?<!\w)\d{3}[ -]?\d{3}[ -]?\d{3}(?!\w)"),
            ("tfn_au", checks.tfn, r"(?<!\w)\d{3}[ -]?\d{3}[ -]?\d{3}(?!\w)"),
            ("svnr_at", checks.svnr, r"(?<!\w)\d{4}[ ]?\d{6}(?!\w)"),
            ("cnp_ro", checks.cnp, r"(?<!\w)[1-9]\d{12}(?!\w)"),
            ("nif_pt", checks.nif_pt, r"(?<!\w)\d{3}[ ]?\d{3}[ ]?\d{3}(?!\w)"),
            ("bsn_nl", checks.bsn, r"(?<!\w)\d{9}(?!\w)"),
        )
    ),
    Recognizer(
        kind=Kind.NATIONAL_ID,
        rule="named",
        starts=(
            "ssn",
            "ss#",
            "social",
            "national",
            "tax id",
            "steuer",
            "aadhaar",
            "bsn",
            "pesel",
            "cpf",
            "personalausweis",
            "dni",
            "nie",
            "id card",
        ),
        digits=1,
        pattern=re.compile(
            rf"(?i)\b(?:ssn|ss#|social security|social insurance|national id|national insurance|national identity|tax id|steuer-?id|aadhaar|bsn|pesel|cpf|personalausweis|dni|nie"
            rf"|id card)(?:[ \t-]{{0,2}}{_ID_WORDS})?{_IS}(?P<v>(?=[a-z0-9 .-]{{0,5}}\d)[a-z0-9](?:[a-z0-9]|[ .-](?=[a-z]{{0,2}}\d)[a-z0-9]|-[a-z](?!\w)){{5,17}})(?!\w)"
        ),
    ),
    Recognizer(
        kind=Kind.PASSPORT,
        rule="passport",
        starts=(
            "passport",
            "reisepass",
            "passeport",
            "pasaporte",
            "passnummer",
            "passaporto",
            "pass-nr",
        ),
        digits=1,
        pattern=re.compile(
            rf"(?i)\b(?:passport|reisepass|passeport|pasaporte|passnummer|passaporto|pass-nr)(?:[ \t]{{0,2}}{_ID_WORDS})?{_IS}(?P<v>(?=[a-z]{{0,4}}\d)[a-z0-9]{{6,12}})(?!\w)"
        ),
    ),
    Recognizer(
        kind=Kind.DRIVER_LICENSE,
        rule="driver_license",
        starts=(
            "driv",
            "licen",
            "dl",
            "führerschein",
            "permis",
            "carnet",
        ),
        digits=1,
        pattern=re.compile(
            rf"(?i)\b(?:driv(?:er|ing)(?:['’]?s)?[ \t]+licen[cs]e|licen[cs]e (?:number|no)|dl(?=[ \t]{0, 2}(?:#|:|no|num))|führerschein(?:nummer)?|permis de conduire|carnet de conducir|permiso de conducir)"
            rf"(?:[ \t]{{0,2}}{_ID_WORDS})?{_IS}(?P<v>(?=[a-z -]{{0,5}}\d)[a-z0-9](?:[a-z0-9]|[ -](?=[a-z]{{0,2}}\d)[a-z0-9]){{4,19}})(?!\w)"
        ),
    ),
    Recognizer(
        kind=Kind.BANK_ACCOUNT,
        rule="routing_us",
        lead=(0,),
        needs=("routing", "aba", "rtn"),
        digits=9,
        check=checks.routing_number,
        context=_words(r"routing|aba|rtn"),
        pattern=re.compile(r"(?<!\w)\d{9}(?!\w)"),
    ),
    Recognizer(
        kind=Kind.BANK_ACCOUNT,
        rule="sort_code_gb",
        lead=(0,),
        needs=("sort", "bank"),
        digits=6,
        context=_words(r"sort code|sort-code|bank"),
        pattern=re.compile(r"(?<![\w-])\d{2}-\d{2}-\d{2}(?![\w-])"),
    ),
    Recognizer(
        kind=Kind.BANK_ACCOUNT,
        rule="named_account",
        starts=(
            "bank ",
            "checking ",
            "savings ",
            "account",
            "acct",
            "konto",
            "compte",
            "número",
            "cuenta",
            "bsb",
        ),
        digits=6,
        pattern=re.compile(
            rf"(?i)\b(?:(?:bank |checking |savings )account|account[ \t]{{1,2}}{_ID_WORDS}|acct\.?[ \t]{{0,2}}{_ID_WORDS}?|konto(?:nummer|-?nr\.?)|compte[ \t]+(?:bancaire|numéro)"
            rf"|(?:número de )?cuenta(?: bancaria)?|bsb)(?:[ \t]{{0,2}}{_ID_WORDS})?{_IS}(?P<v>\d(?:[ -]?\d){{5,17}})(?!\w)"
        ),
    ),
    Recognizer(
        kind=Kind.BIRTH_DATE,
        rule="birth_date",
        starts=(
            "born",
            "birth",
            "date of birth",
            "date de naissance",
            "dob",
            "d.o",
            "do.b",
            "geb",
            "né",
            "naissance",
            "nacid",
            "fecha",
            "nascid",
        ),
        digits=3,
        pattern=re.compile(
            rf"(?i)\b(?:born|birth ?date|date of birth|birthday|d\.?o\.?b\.?|geboren|geb\.|geburtsdatum|geburtstag|née?|date de naissance|naissance|nacid[oa]|fecha de nacimiento|nascid[oa])"
            rf"\W{{0,4}}(?:(?:is|it['’]?s|its|on|am|ist|le|el|est|es|:|in|the)\W{{1,3}}){{0,3}}(?P<v>{_DAY}|{_WORDED_DAY})(?!\w)"
        ),
    ),
    Recognizer(
        kind=Kind.AGE,
        rule="age",
        starts=(
            "i am",
            "i'm",
            "i’m",
            "he is",
            "she is",
            "he's",
            "he’s",
            "she's",
            "she’s",
            "patient is",
            "employee is",
            "customer is",
            "age",
            "alter",
            "edad",
        ),
        digits=1,
        pattern=re.compile(
            r"(?i)\b(?:(?:i am|i['’]m|he is|she is|he['’]s|she['’]s|patient is|employee is|customer is)[ \t]{1,2}(?:a )?(?P<v>1?\d{1,2})(?=[ -]{1,2}(?:years?[ -]old|yrs?[ -]old|yo\b|y/o))"
            r"|(?:aged?|alter|edad)[ \t]?:?[ \t]{1,2}(?P<w>1?\d{1,2})(?!\w|[.,:/]\d|[ \t]?(?:days?|hours?|min|h\b|%)))"
        ),
    ),
    Recognizer(
        kind=Kind.USERNAME,
        rule="named_user",
        starts=(
            "user",
            "login",
            "logon",
            "samaccountname",
            "benutzername",
            "nom d",
            "identifiant",
            "nombre de usuario",
        ),
        pattern=re.compile(
            r"(?i)(?<![^\W_])(?:user ?name|user[ _-]?id|userid|login(?: name| id)?|logon(?: name)?|samaccountname|benutzername|nom d['’]utilisateur|identifiant|nombre de usuario)"
            r"(?:[ \t]{1,2}(?:is|ist|est|es|lautet)[ \t]{1,2}|[ \t]{0,2}[:=][ \t]{0,2})[\"'“]?(?P<v>(?!is\b|not\b|the\b|my\b|in\b|on\b)[\w.\\-]{2,64})"
        ),
    ),
    Recognizer(
        kind=Kind.USERNAME,
        rule="domain_user",
        needs=("\\",),
        pattern=re.compile(r"(?<![\w\\:])[A-Z][A-Z0-9-]{1,14}\\(?P<v>[A-Za-z][\w.-]{1,63})(?![\w\\])"),
    ),
    Recognizer(
        kind=Kind.USERNAME,
        rule="home_folder",
        starts=(
            "/users/",
            "\\users\\",
            "\\users/",
            "/users\\",
            "/home/",
        ),
        pattern=re.compile(r"(?i)(?:[\\/]users[\\/]|/home/)(?P<v>(?!public\b|default\b|shared\b|administrator\b)[\w.-]{2,64})"),
    ),
)


def _phone(text: str) -> bool:
    """7 to 15 digits in groups that people write; not years, not a figure with thousands in it, not a version."""
    main = re.split(r"(?i)[ \t]?(?:x|ext)", text)[0]
    groups = re.findall(r"\d+", main)
    count = sum(map(len, groups))
    if not 7 <= count <= 15:
        return False
    if main.startswith(("+", "00")):
        return True
    if all(len(group) == 4 and group[:2] in {"19", "20"} for group in groups):
        return False
    if re.fullmatch(r"\d{1,3}(?:\.\d{1,3}){3}", main) or ("." in main and (count < 9 or min(map(len, groups)) < 2)):
        return False
    if len(groups) > 2 and all(group == "000" for group in groups[1:]):
        return False
    return len(groups) > 1 and not (len(groups) == 2 and min(map(len, groups)) == 1)


_SEPARATOR = r"[ \t\u00a0.\-/–]{0,2}"
PHONES = (
    Recognizer(
        kind=Kind.PHONE,
        rule="phone",
        lead=(3, 2, 1, 0),
        digits=7,
        check=_phone,
        pattern=re.compile(
            r"(?<![\w#$€£=%+])(?<![\w#$€£=%+][(+])(?<!\d[.,:/-])(?:\+[ ]?|00)?\(?\d{1,5}\)?(?:[ \t\u00a0./–-]{1,2}\(?\d{1,8}\)?|\(\d{1,5}\)|(?<=\))\d{1,8}|\)\d{2,8}){1,6}"
            r"(?:[ \t]?(?:x|ext\.?|extension|durchwahl|poste)[ \t.:#]{0,2}\d{1,6})?(?![\w%€$£]|[.,:/-]\d|[ \t]?(?:eur|usd|gbp|chf|euro|dollars?|[kmgt]i?b|ms|px)\b)",
            re.I,
        ),
    ),
    Recognizer(
        kind=Kind.PHONE,
        rule="international",
        lead=(2, 1),
        needs=("+",),
        check=_phone,
        pattern=re.compile(
            rf"(?<![\w+])\+[ ]?\(?\d(?:{_SEPARATOR}\(?\d\)?){{6,14}}(?:[ \t]?(?:x|ext\.?)[ \t]?\d{{1,6}})?(?!\w)", re.I
        ),
    ),
    Recognizer(
        kind=Kind.PHONE,
        rule="named_phone",
        lead=(1, 0),
        digits=6,
        context=PHONE_CONTEXT,
        pattern=re.compile(
            rf"(?<![\w$€£])(?<!\d[.,/-])\(?\d(?:{_SEPARATOR}\(?\d\)?){{5,14}}(?:[ \t]?(?:x|ext\.?)[ \t]?\d{{1,6}})?(?![\w%])", re.I
        ),
    ),
)

_STREET_KIND = r"street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|way|square|sq|place|pl|terrace|parkway|pkwy|highway|hwy|crescent|close|circle|cir|alley|trail|row|walk"
ADDRESSES = (
    Recognizer(
        kind=Kind.ADDRESS,
        rule="street_en",
        lead=(0,),
        digits=1,
        pattern=re.compile(
            rf"(?<![\w.-])\d{{1,6}}[a-zA-Z]?,?[ \t]+(?:(?:[NSEW]\.?|{_STREET_NAME}|\d{{1,3}}(?:st|nd|rd|th))[ \t]+){{1,4}}(?i:{_STREET_KIND})\b\.?"
            rf"(?:,?[ \t\n]{{1,3}}(?i:apt|suite|unit|flat|floor|#)\.?[ \t]?[\w-]{{1,6}})?(?:,?[ \t\n]{{1,3}}{_STREET_WORD}(?:[ \t]{_STREET_WORD}){{0,2}},?[ \t\n]{{1,3}}(?:[A-Z]{{2}},?[ \t\n]{{1,3}})?\d{{4,5}}(?:-\d{{4}})?)?"
        ),
    ),
    Recognizer(
        kind=Kind.ADDRESS,
        rule="street_de",
        needs=tuple(
            f"{kind} {digit}"
            for kind in ("straße", "strasse", "str.", "weg", "platz", "allee", "gasse", "ring", "ufer", "damm")
            for digit in "123456789"
        ),
        digits=1,
        pattern=re.compile(
            rf"\b(?:{_STREET_WORD}[ \t-]){{0,3}}?[^\W\d_]{{2,30}}(?:straße|strasse|str\.|weg|platz|allee|gasse|ring|ufer|damm)[ \t]+\d{{1,4}}[ \t]?[a-z]?\b(?:,?[ \t\n]{{1,3}}(?:[A-Z]{{1,2}}-)?\d{{4,5}}[ \t]+{_STREET_WORD})?"
            rf"|\b(?:{_STREET_WORD}[ \t-]){{1,3}}(?:Straße|Strasse|Str\.|Weg|Platz|Allee|Gasse|Ring|Ufer|Damm)[ \t]+\d{{1,4}}[ \t]?[a-z]?\b(?:,?[ \t\n]{{1,3}}(?:[A-Z]{{1,2}}-)?\d{{4,5}}[ \t]+{_STREET_WORD})?"
        ),
    ),
    Recognizer(
        kind=Kind.ADDRESS,
        rule="street_fr",
        lead=(0,),
        needs=("rue", "av", "boulevard", "bd", "place", "chemin", "allée", "impasse", "quai", "cours", "route", "square"),
        digits=1,
        pattern=re.compile(
            rf"(?<![\w.-])\d{{1,4}}(?:[ \t]?(?:bis|ter|quater))?,?[ \t]+(?i:rue|avenue|av\.|boulevard|bd|place|chemin|allée|impasse|quai|cours|route|square)[ \t]+(?:(?:de|du|des|la|le|les|l['’]|d['’])[ \t]?){{0,3}}{_STREET_WORD}(?:[ \t-]{_STREET_WORD}){{0,3}}"
            rf"(?:,?[ \t\n]{{1,3}}\d{{5}}[ \t]+{_STREET_WORD})?"
        ),
    ),
    Recognizer(
        kind=Kind.ADDRESS,
        rule="street_es",
        starts=(
            "calle",
            "avda",
            "avenida",
            "plaza",
            "paseo",
            "carrer",
            "c/",
            "via",
            "piazza",
            "rua",
        ),
        digits=1,
        pattern=re.compile(
            rf"\b(?i:calle|avenida|avda\.|plaza|paseo|carrer|c/|via|viale|piazza|rua)[ \t]+(?:(?:de|del|la|los|las|el)[ \t]){{0,2}}{_STREET_WORD}(?:[ \t]{_STREET_WORD}){{0,3}},?[ \t]+(?:n[º°.o]{{1,2}}[ \t]?)?\d{{1,4}}\b(?:,?[ \t\n]{{1,3}}\d{{5}}[ \t]+{_STREET_WORD})?"
        ),
    ),
    Recognizer(
        kind=Kind.ADDRESS,
        rule="po_box",
        starts=(
            "po box",
            "p.o. box",
            "p.o.box",
            "pobox",
            "p o box",
            "postfach",
            "apartado",
            "boîte",
            "bp",
        ),
        digits=1,
        pattern=re.compile(r"(?i)\b(?:p\.?[ ]?o\.?[ ]?box|postfach|apartado|boîte postale|bp)[ \t]{1,2}\d{1,6}\b"),
    ),
    Recognizer(
        kind=Kind.ADDRESS,
        rule="postcode_gb",
        lead=(2, 1),
        digits=2,
        pattern=re.compile(r"(?<!\w)[A-Z]{1,2}\d[A-Z\d]?[ ]\d[ABD-HJLNP-UW-Z]{2}(?!\w)"),
    ),
    Recognizer(
        kind=Kind.ADDRESS,
        rule="named_postcode",
        starts=(
            "zip",
            "post",
            "plz",
            "código postal",
            "code postal",
        ),
        digits=1,
        pattern=re.compile(
            rf"(?i)\b(?:zip(?: ?code)?|postal code|post ?code|postleitzahl|plz|code postal|código postal)(?:[ \t]{{0,2}}{_ID_WORDS})?{_IS}(?P<v>(?=[a-z ]{{0,3}}\d)[a-z0-9]{{2,6}}(?:[ -][a-z0-9]{{3,4}})?)(?!\w)"
        ),
    ),
    Recognizer(
        kind=Kind.ADDRESS,
        rule="named_address",
        starts=(
            "home address",
            "postal address",
            "billing address",
            "shipping address",
            "delivery address",
            "mailing address",
            "street address",
            "my address",
            "new address",
            "private address",
            "anschrift",
            "lieferadresse",
            "rechnungsadresse",
            "wohnhaft",
            "i live at",
            "live",
            "adresse postale",
            "mon adresse",
            "mi direcc",
            "direcc",
        ),
        digits=1,
        pattern=re.compile(
            r"(?i)\b(?:(?:home|postal|billing|shipping|delivery|mailing|street|my|new|private) address|anschrift|lieferadresse|rechnungsadresse|wohnhaft|i live at|lives? at|adresse postale"
            r"|mon adresse|mi dirección|dirección postal)(?: is| to| ist| in| est| es| with)?[ \t]{0,2}:?[ \t]{0,3}(?P<v>(?=[^\n@]{0,60}\d)(?![^\n]{0,20}(?:@|://|\d\.\d))[^\n.;?!]{8,100})"
        ),
    ),
)
RECOGNIZERS: tuple[Recognizer, ...] = (*SECRETS, *STRUCTURED, *ADDRESSES, *PHONES)
"""Highest claim first: a later recognizer takes nothing that an earlier one has."""

KEPT: tuple[re.Pattern[str], ...] = (  # what triage and audit need is no phone and no account, whatever its digits
    re.compile(
        r"(?i)(?<![^\W_])(?:ord(?:er)?s?|po|inv(?:oice)?s?|bestell(?:ung|nummer|nr)?|auftrag(?:s(?:nummer|nr))?|commande|pedido|rechnung(?:s(?:nummer|nr))?|facture|factura"
        r"|inc(?:ident)?s?|req(?:uest)?s?|ritm|chg|change|prb|problem|tkt|ticket|case|task|ref(?:erence)?|tracking|shipment|sku|part|serial|s/n|asset|model|article|artikel|item|job|batch|build"
        r"|event|kb|port|ports|error|err|fehler|erreur|code|http|status|version|ver|release|firmware|rev|pid|transaction|txn|contract|vertrag|policy|license key|room|raum)"
        r"(?:[ \t]{0,2}(?:id|no|nr|number|num|nummer|numéro|número|code|key)s?)?[\s.:#°º=-]{0,4}(?:is |ist |est |es )?[#]?[A-Z]{0,5}[-_]?\d[\w.-]{0,40}"
    ),
    re.compile(
        r"(?<!\w)(?:\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}\.\d{1,2}\.(?:19|20)\d{2}|\d{1,2}/\d{1,2}/(?:19|20)?\d{2})(?:[T ,]{0,2}\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)?(?!\w)"
    ),
    re.compile(r"(?<![\w:])\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:[ ]?-[ ]?\d{1,2}:\d{2})?(?![\w:])"),
    re.compile(r"(?i)(?<!\w)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?!\w)"),
    re.compile(r"(?i)(?<!\w)(?:0x[0-9a-f]{4,16}|(?=[0-9a-f]{0,63}[a-f])[0-9a-f]{32,64})(?!\w)"),
    re.compile(r"(?<!\w)[vV]\d{1,5}(?:\.\d{1,6}){1,4}"),
    re.compile(
        r"(?i)(?:€|\$|£|eur|usd|gbp|chf)[ ]?\d[\d., ]{0,20}|(?<![\w.,])\d{1,3}(?:[., ]\d{3}){0,4}(?:[.,]\d{2})?[ ]?(?:€|\$|£|eur\b|usd\b|gbp\b|chf\b|euros?\b|dollars?\b|pounds?\b)"
    ),
)
_TOLD = frozenset({"named_secret", "named_user"})  # rules whose value may be a word of a sentence
DUMP = re.compile(r"(?i)(?<!\w)(?=(?:[0-9a-f]{4} ){0,8}[0-9a-f]{0,3}[a-f])(?:[0-9a-f]{4,6} ){3,}[0-9a-f]{2,4}(?!\w)")
NUMBERED = re.compile(  # 12 to 14 digits: one in ten passes as a card by chance
    r"(?i)(?<![^\W_])(?:job|serial|s/n|asset|part|batch|build|tracking|shipment|sku|item|task|event|order|ticket|ref(?:erence)?)"
    r"(?:[ \t]{0,2}(?:id|no|nr|number|num|code))?[\s.:#-]{0,3}\d{12,14}(?!\w)"
)
VERSIONED = re.compile(r"(?i)(?<![^\W_])(?:version|ver|release|firmware|build|rev|fw|v)[ .:]{0,2}\d[\d.]{0,40}")
KEPT_FROM: Mapping[Kind, tuple[re.Pattern[str], ...]] = MappingProxyType(  # what a recognizer of a kind may not take
    {
        Kind.PHONE: (*KEPT, DUMP),
        Kind.BANK_ACCOUNT: KEPT,
        Kind.ADDRESS: KEPT,
        Kind.CARD: (DUMP, NUMBERED),
        Kind.IP: (VERSIONED,),
    }
)
_NUMBER = re.compile(r"\d+")
_STRETCH = re.compile(r"\d[\d \t\u00a0.()/+–-]*")
_SAYS_NOTHING = frozenset(
    "not no expired wrong incorrect invalid locked reset changed forgotten working the a an my your being still required correct unknown empty failing"
    " rejected missing accepted needed abgelaufen falsch gesperrt vergessen nicht nie ungültig expiré oublié incorrecto caducada olvidada bloqueada"
    " same different new old too very always never set also only sent shown stored known about to in on at for from with and or but that this there"
    " valid blocked disabled okay ok fine asked supposed going now again out up compromised leaked unchanged temporary case-sensitive".split()
)


def find_personal_data(text: str, people: People | None = None) -> list[Span]:
    """Every value found, in order, without overlaps. Placeholders that stand in the text already are left alone."""
    taken = bytearray(len(text))
    for match in PLACEHOLDER.finditer(text) if "<" in text else ():
        _take(taken, *match.span())
    spans: list[Span] = []
    lowered, numbers = lower(text), [match.start() for match in _NUMBER.finditer(text)]
    longest = max((_count_digits(match.group()) for match in _STRETCH.finditer(text)), default=0) if numbers else 0
    for recognizer in RECOGNIZERS:
        if recognizer.digits > longest or not _has_any(lowered, recognizer.needs):
            continue
        if recognizer.context and len(numbers) > MANY_NUMBERS and not recognizer.context.search(text):
            continue
        for start, end in _matches(recognizer, text, lowered, numbers):
            if _free(taken, start, end) and not _is_kept(recognizer.kind, text, start, end):
                spans.append(Span(start=start, end=end, kind=recognizer.kind, rule=recognizer.rule))
                _take(taken, start, end)
    for start, end, rule in _people(text, people):
        if _free(taken, start, end):
            spans.append(Span(start=start, end=end, kind=Kind.PERSON, rule=rule))
            _take(taken, start, end)
    return sorted(spans, key=lambda span: span.start)


def _free(taken: bytearray, start: int, end: int) -> bool:
    return start < end and taken.find(1, start, end) < 0


def _take(taken: bytearray, start: int, end: int) -> None:
    taken[start:end] = b"\x01" * (end - start)


def _has_any(lowered: str, needs: tuple[str, ...]) -> bool:
    if not needs:
        return True
    for needed in needs:  # noqa: SIM110 (a generator costs more than the search)
        if needed in lowered:
            return True
    return False


def _count_digits(stretch: str) -> int:
    return sum(char.isdecimal() for char in stretch)


def _people(text: str, people: People | None) -> Iterator[tuple[int, int, str]]:
    """The longest first, so that no surname stays behind a given name found by another rule."""
    found = [*(people.find(text) if people else ()), *find_free_names(text)]
    return iter(sorted(found, key=lambda one: (one[0] - one[1], one[0])))


def _matches(recognizer: Recognizer, text: str, lowered: str, numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    for match in _candidates(recognizer, text, lowered, numbers):
        groups = match.groupdict()
        name: str | int = next((name for name in ("v", "w") if groups.get(name) is not None), 0)
        start, end = match.span(name)
        value = text[start:end]
        told = text[match.start() : start].rstrip(" \t\"'“„`")[-1:] in {":", "="}
        if recognizer.rule in _TOLD and not _says_something(value, told=told):
            continue
        if recognizer.kind is not Kind.SECRET:
            end -= len(value) - len(value.rstrip(" \t\n.,;-–/"))
        if recognizer.check:
            right = recognizer.check(text[start:end])
            if not right:
                continue
            end = end if right is True else start + right
        if recognizer.context and not _in_context(recognizer, text, start, end):
            continue
        yield start, end


def _candidates(recognizer: Recognizer, text: str, lowered: str, numbers: Sequence[int]) -> Iterator[re.Match[str]]:
    """What the pattern matches: anywhere, or only where its first words or the numbers of the text stand, which costs far less."""
    if recognizer.starts:
        places: Iterable[int] = occurrences(lowered, recognizer.starts)
    elif recognizer.lead:
        places = (number - lead for number in numbers for lead in recognizer.lead if number >= lead)
    else:
        yield from recognizer.pattern.finditer(text)
        return
    for place in places:
        if match := recognizer.pattern.match(text, place):
            yield match


def _in_context(recognizer: Recognizer, text: str, start: int, end: int) -> bool:
    assert recognizer.context is not None
    around = text[max(0, start - CONTEXT_CHARS) : start]
    if recognizer.kind is Kind.PHONE:
        around += " | " + text[end : end + AFTER_CHARS]
    return bool(recognizer.context.search(around))


def _says_something(value: str, *, told: bool) -> bool:
    """Behind "password:" stands a secret unless it is an everyday word; behind "password is" it must look like one."""
    plain = value.rstrip(".!?)")
    return plain.casefold() not in _SAYS_NOTHING and (told or not plain.isalpha() or plain[1:] != plain[1:].lower())


def _is_kept(kind: Kind, text: str, start: int, end: int) -> bool:
    """Whether something that triage needs stands here, or a dump of bytes."""
    patterns = KEPT_FROM.get(kind, ())
    low = max(0, start - CONTEXT_CHARS)
    around = text[low : end + CONTEXT_CHARS] if patterns else ""
    return any(
        match.start() + low < end and match.end() + low > start for pattern in patterns for match in pattern.finditer(around)
    )
