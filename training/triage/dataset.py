"""Labeled tickets for the bundled taxonomy: gather, keep near-copies together, split, and write each in several ways.

House-written tickets come first; requests of public sets are added where one of their intents is one of our types without
any doubt. The tickets of the bundled demo day are never read here.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.domain.triage import OTHERS
from training.nano.corpus import house_texts, utterances

MAPPED = {  # (source, intent) -> our type; what is not here and not in OUT_OF_SCOPE is left out
    ("bitext", "recover_password"): "password_reset",
    ("bitext", "check_invoice"): "invoice",
    ("bitext", "get_invoice"): "invoice",
    ("bitext", "get_refund"): "refund",
    ("bitext", "track_refund"): "refund",
    ("bitext", "track_order"): "order_status",
    ("bitext", "delivery_period"): "order_status",
    ("bitext", "change_shipping_address"): "order_status",
    ("bitext", "complaint"): OTHERS,
    ("bitext", "contact_human_agent"): OTHERS,
    ("bitext", "contact_customer_service"): OTHERS,
    ("bitext", "review"): OTHERS,
    ("banking77", "passcode_forgotten"): "password_reset",
    ("banking77", "transaction_charged_twice"): "refund",
    ("banking77", "request_refund"): "refund",
    ("banking77", "exchange_rate"): OTHERS,
    ("banking77", "atm_support"): OTHERS,
    ("banking77", "country_support"): OTHERS,
    ("clinc150", "order_status"): "order_status",
    ("clinc150", "oos"): OTHERS,
}
ANSWERED_ELSEWHERE = (  # intents of clinc150 that no desk handles: small talk, weather, kitchen, travel, cars
    "accept_reservations",
    "alarm",
    "are_you_a_bot",
    "book_flight",
    "book_hotel",
    "calories",
    "car_rental",
    "carry_on",
    "cook_time",
    "definition",
    "directions",
    "distance",
    "do_you_have_pets",
    "flight_status",
    "flip_coin",
    "food_last",
    "fun_fact",
    "gas",
    "goodbye",
    "greeting",
    "how_old_are_you",
    "ingredients_list",
    "insurance",
    "interest_rate",
    "international_visa",
    "jump_start",
    "lost_luggage",
    "make_call",
    "maybe",
    "meal_suggestion",
    "meaning_of_life",
    "mpg",
    "next_holiday",
    "next_song",
    "no",
    "nutrition_info",
    "oil_change_how",
    "payday",
    "play_music",
    "plug_type",
    "pto_request",
    "recipe",
    "restaurant_reviews",
    "roll_dice",
    "rollover_401k",
    "schedule_maintenance",
    "shopping_list",
    "smart_home",
    "spelling",
    "taxes",
    "tell_joke",
    "thank_you",
    "tire_change",
    "traffic",
    "translate",
    "travel_alert",
    "travel_suggestion",
    "uber",
    "vaccines",
    "w2",
    "weather",
    "what_is_your_name",
    "what_song",
    "where_are_you_from",
    "who_made_you",
    "yes",
)
MAPPED_PER_INTENT, ELSEWHERE_PER_INTENT = 25, 4
ALIKE = 0.92  # cosine above which two tickets of one type are near-copies and go to the same side of the split
HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Row:
    subject: str
    description: str
    category: str
    language: str
    source: str  # "house", or the public set

    @property
    def text(self) -> str:
        """As `Ticket.text` puts them together."""
        if not self.subject or self.description.startswith(self.subject):
            return self.description
        return f"{self.subject}\n{self.description}" if self.description else self.subject


def gather(texts: Path, data: Path | None, *, seed: int) -> list[Row]:
    """House-written rows, then mapped public rows where the data folder is there. No text twice."""
    rows = [
        Row(
            subject=row["subject"],
            description=row["description"],
            category=OTHERS if row["category"].casefold() == "others" else row["category"],
            language=row["language"],
            source="house",
        )
        for row in house_texts(texts)
    ]
    if data is not None and data.is_dir():
        rows += _mapped(data, random.Random(seed))
    return list({row.text.casefold(): row for row in reversed(rows)}.values())[::-1]


def _mapped(data: Path, choose: random.Random) -> list[Row]:
    wanted = MAPPED | {("clinc150", intent): OTHERS for intent in ANSWERED_ELSEWHERE}
    by_intent: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in utterances(data):
        if (row["source"], row["label"]) in wanted:
            by_intent[row["source"], row["label"]].append(row["text"])
    return [
        Row(subject="", description=text, category=wanted[key], language="en", source=key[0])
        for key, found in sorted(by_intent.items())
        for text in choose.sample(
            found, min(len(found), ELSEWHERE_PER_INTENT if key[1] in ANSWERED_ELSEWHERE else MAPPED_PER_INTENT)
        )
    ]


def groups(rows: Sequence[Row], vectors: np.ndarray) -> np.ndarray:
    """[rows] group number: near-copies (cosine of the embeddings) of one type and language share one."""
    parent = list(range(len(rows)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    by_type: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_type[row.category, row.language].append(index)
    for members in by_type.values():
        similar = vectors[members] @ vectors[members].T
        for a, b in np.argwhere(np.triu(similar > ALIKE, 1)):
            parent[root(members[a])] = root(members[b])
    return np.array([root(index) for index in range(len(rows))])


def held_out(rows: Sequence[Row], group: np.ndarray, *, seed: int) -> np.ndarray:
    """[rows] True for the fifth that is kept for measuring. Mapped public rows only train: they are not this desk's tickets."""
    choose = random.Random(seed)
    names = sorted(set(group.tolist()))
    kept = set(choose.sample(names, int(len(names) * HELD_OUT_SHARE)))
    return np.array([row.source == "house" and g in kept for row, g in zip(rows, group.tolist(), strict=True)])


# --- the same ticket, written otherwise -------------------------------------------------------------------------------

_GREETINGS = {
    "en": ("Hi,", "Hello team,", "Dear support,", "Good morning,", "hey", "To whom it may concern,"),
    "de": ("Hallo,", "Guten Tag,", "Sehr geehrte Damen und Herren,", "Moin,", "Liebes Team,"),
    "fr": ("Bonjour,", "Bonsoir,", "Madame, Monsieur,", "Salut,"),
    "es": ("Hola,", "Buenos días,", "Buenas tardes,", "Estimados señores:"),
}
_CLOSINGS = {
    "en": ("Thanks,\n{name}", "Best regards\n{name}", "Cheers", "Sent from my phone", "Thank you in advance!", "Please advise."),
    "de": ("Danke,\n{name}", "Mit freundlichen Grüßen\n{name}", "VG {name}", "Vielen Dank im Voraus!"),
    "fr": ("Merci,\n{name}", "Cordialement,\n{name}", "Bien à vous", "Merci d'avance !"),
    "es": ("Gracias,\n{name}", "Un saludo,\n{name}", "Saludos cordiales", "¡Muchas gracias!"),
}
_BOILERPLATE = (
    "This message and its attachments are confidential and intended for the addressee only.",
    "Diese Nachricht ist vertraulich und nur für den Empfänger bestimmt.",
    "Ce message est confidentiel et destiné uniquement à son destinataire.",
    "Este mensaje es confidencial y va dirigido únicamente a su destinatario.",
    "Please consider the environment before printing this e-mail.",
)
_NAMES = ("Alex", "Priya N.", "J. Okafor", "Marta", "T. Lindqvist", "Sam Whitlock", "Inès", "Jürgen B.", "Ana Ruiz", "Li Wei")
_SUBJECTS = {
    "en": ("Help", "Question", "Urgent", "Issue", "Request", "Ticket", "Support needed"),
    "de": ("Hilfe", "Frage", "Dringend", "Problem", "Anfrage"),
    "fr": ("Aide", "Question", "Urgent", "Problème", "Demande"),
    "es": ("Ayuda", "Consulta", "Urgente", "Problema", "Solicitud"),
}


def _pick(table: dict[str, tuple[str, ...]], row: Row, choose: random.Random) -> str:
    return choose.choice(table.get(row.language, table["en"])).format(name=choose.choice(_NAMES))


def _wrapped(row: Row, choose: random.Random) -> str:
    return f"{_pick(_GREETINGS, row, choose)}\n{row.text}\n{_pick(_CLOSINGS, row, choose)}"


def _titled(row: Row, choose: random.Random) -> str:
    return f"{_pick(_SUBJECTS, row, choose)}\n{row.text}"


def _typos(row: Row, choose: random.Random) -> str:
    letters = list(row.text)
    if not letters:
        return ""
    for _ in range(max(1, len(letters) // 40)):
        at = choose.randrange(max(1, len(letters) - 1))
        kind = choose.random()
        if kind < 0.35 and at + 1 < len(letters):
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif kind < 0.7:
            letters[at] = ""
        else:
            letters[at] *= 2
    return "".join(letters)


def _quoted(row: Row, choose: random.Random) -> str:
    head, _, rest = row.text.partition("\n")
    quoted = "\n".join(f"> {line}" for line in (rest or head).split("\n"))
    lead = head if rest else _pick(_GREETINGS, row, choose)
    return f"{'RE: ' if rest else ''}{lead}\nOn Monday {choose.choice(_NAMES)} wrote:\n{quoted}"


def _numbered(row: Row, choose: random.Random) -> str:
    """Other digits in every number, so that none of them is learned."""
    return re.sub(r"\d", lambda _: str(choose.randrange(10)), row.text)


def _one_part(row: Row, choose: random.Random) -> str:
    """Subject or description alone, where both say enough."""
    parts = [part for part in (row.subject, row.description) if len(part.split()) >= 4]
    return choose.choice(parts) if parts else row.text


def _flat(row: Row, choose: random.Random) -> str:
    text = row.text.lower()
    return re.sub(r"[^\w\s]", "", text) if choose.random() < 0.5 else text


def _unaccented(row: Row, choose: random.Random) -> str:
    """As typed on another keyboard."""
    table = str.maketrans(
        {
            "ä": "ae",
            "ö": "oe",
            "ü": "ue",
            "ß": "ss",
            "é": "e",
            "è": "e",
            "ê": "e",
            "à": "a",
            "ç": "c",
            "ñ": "n",
            "á": "a",
            "í": "i",
            "ó": "o",
            "ú": "u",
        }
    )
    return row.text.translate(table)


def _boilerplate(row: Row, choose: random.Random) -> str:
    return f"{row.text}\n{_pick(_CLOSINGS, row, choose)}\n-- \n{choose.choice(_BOILERPLATE)}"


WAYS: tuple[Callable[[Row, random.Random], str], ...] = (
    _wrapped,
    _titled,
    _typos,
    _quoted,
    _numbered,
    _one_part,
    _flat,
    _unaccented,
    _boilerplate,
    lambda row, choose: _typos(
        Row(subject="", description=_flat(row, choose), category="", language=row.language, source=""), choose
    ),
)


def otherwise(row: Row, choose: random.Random) -> str:
    """The ticket written in one other way, chosen at random. Its type stays the same."""
    return choose.choice(WAYS)(row, choose)
