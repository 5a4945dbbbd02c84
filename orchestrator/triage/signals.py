"""Read sentiment, urgency and warning signs from the wording, in English, German, French and Spanish.

Rules only: each cue is a row of a table with the words that raise it, so that an analyst can see why. Knows no model.
"""
# ruff: noqa: E501 (the tables read better as long lines)

import re
from collections.abc import Sequence

from orchestrator.domain.triage import Sentiment, Signals

LEGAL = r"""\b(?:lawyers?|attorneys?|solicitors?|legal action|sue you|suing|lawsuit|court|ombudsman|regulator|consumer protection|data protection authority
|small claims|anwalt|anwältin|rechtsanwalt|rechtsanwältin|klage|verklage\w*|gericht|rechtliche\w* schritte|verbraucherschutz|verbraucherzentrale|avocate?|tribunal|poursuites?|porter plainte
|mise en demeure|abogad[oa]s?|demandar\w*|demanda judicial|tribunales|juzgado|denuncia\w*)\b"""
DISTRESS = r"""\b(?:suicid\w*|kill myself|end my life|self[- ]harm|hurt myself|can'?t go on|panic attack|having a breakdown|i am scared|i'?m scared|i'?m desperate|threatened me|stalk(?:er|ing)
|patient (?:is )?(?:at risk|in danger)|life[- ]threatening|selbstmord|umbringen|verzweifelt|lebensgefahr|angst um mein leben|suicide|désespéré\w*|en danger de mort|desesperad[oa]|suicidar\w*)\b"""
LOSS = r"""(?:los(?:ing|e|t) (?:money|customers|revenue|sales|thousands|business)|money every (?:minute|hour)|costs? us \W?\d|cannot (?:sell|take payments?|ship)|can'?t (?:sell|take payments?|ship)
|production (?:is )?(?:stopped|standing still|down|halted)|line (?:is )?(?:stopped|standing)|verlieren (?:wir )?(?:\w+ ){0,3}(?:geld|umsatz|kunden)|umsatzausfall|produktion steht|kostet uns
|bandstillstand|perdons (?:de l'argent|des clients|du chiffre)|production (?:est )?(?:arrêtée|à l'arrêt)|perdiendo (?:dinero|clientes|ventas)|producción (?:está )?parada)"""
REPEAT = r"""(?:(?:third|3rd|fourth|4th|fifth|5th|second|2nd) (?:time|ticket|mail|email|e-mail|message|contact|call|request)|three times|(?:i|we) (?:already|have already) (?:wrote|written|called|contacted|reported)
|(?:still|again) no (?:answer|reply|response)|nobody (?:answers|replies|responds)|as i wrote|how many (?:more )?times|zum (?:dritten|vierten|zweiten) mal|schon (?:drei|zwei|mehr)mal|immer noch keine antwort
|bereits (?:mehrfach|mehrmals|zweimal|dreimal)|(?:troisième|deuxième|quatrième|3e|2e) (?:fois|message|demande|mail|relance)|toujours (?:pas de|aucune) réponse|tercera vez|segunda vez|tercer (?:correo|mensaje)|sin respuesta)"""
FURIOUS = r"""\b(?:furious|outrage\w*|unacceptable|ridiculous|disgrace\w*|incompeten\w*|useless|pathetic|worst (?:support|service|company)|fed up|sick of|joke of|scandal\w*|disgust\w*|wtf|bullshit|damn
|unverschämt\w*|unfassbar|frechheit|katastrophe|unmöglich|inakzeptabel|saftladen|sauerei|stinksauer|wütend|schnauze voll|inacceptable|honteux|scandaleux|furieux|furieuse|ras[- ]le[- ]bol|incompétents?
|inaceptable|vergüenza|indignante|harto|harta|furios[oa])\b"""
NEGATIVE = r"""\b(?:annoy\w*|frustrat\w*|disappoint\w*|unhappy|upset|angry|terrible|awful|horrible|unfortunately|bad experience|waste of|not happy|complain\w*|ärgerlich|enttäusch\w*|leider|unzufrieden|nervt|genervt|verärgert
|sauer|déçu\w*|mécontent\w*|agaçant|énervé\w*|malheureusement|decepcionad[oa]|molest[oa]|enfadad[oa]|lamentable\w*|por desgracia)\b"""
POSITIVE = r"\b(?:thank you so much|great (?:work|service|support)|love (?:it|the|your)|appreciate|awesome|wonderful|well done|super service|toller service|vielen herzlichen dank|excellent|génial|genial|encantad[oa])\b"
NOW = r"""\b(?:urgent\w*|asap|immediately|right now|right away|emergency|critical\w*|at once|every minute|deadline|within the hour|p1|sev ?1|dringend\w*|sofort\w*|eilt|umgehend|notfall|kritisch\w*|unverzüglich
|immédiatement|tout de suite|au plus vite|dès que possible|critique|urgente\w*|inmediatamente|cuanto antes|ya mismo|crítico)\b"""
SOON = r"""\b(?:today|this morning|this afternoon|tonight|tomorrow|in (?:an|one|two|three|1|2|3) (?:hours?|days?)|before (?:noon|lunch|the meeting)|blocked|cannot work|can'?t work|unable to work|presentation|client meeting
|renews? (?:on|in)|expires (?:today|tomorrow|soon)|heute|morgen|kann nicht arbeiten|nicht arbeiten|blockiert|in (?:einer|zwei|drei) (?:stunden?|tagen?)|termin|aujourd'hui|demain|ce matin|cet après-midi|bloquée?s?
|(?:peux|peut) (?:pas|plus) travailler|hoy|mañana|no puedo trabajar|bloquead[oa]s?)\b"""
WHENEVER = r"\b(?:no rush|no hurry|not urgent|whenever|when you have time|when you get a chance|low priority|keine eile|eilt nicht|nicht dringend|bei gelegenheit|pas urgent|rien ne presse|quand vous pouvez|sin prisa|no es urgente|cuando puedan)\b"
SMUGGLED = r"""(?:ignore (?:all |any |the |your )*(?:previous|prior|above|earlier) (?:instructions|rules|prompts)|disregard (?:all|any|the|your)|system prompt|you are now|new instructions?:|developer mode|jailbreak|\bdo anything now\b
|<\|?(?:system|im_start|assistant)\|?>|\[(?:system|inst)\]|###\s*(?:system|instruction)|as an? (?:ai|admin|administrator),? you|override (?:the )?(?:policy|policies|rules|safety)|without (?:any )?(?:approval|verification)[,.]? (?:and )?(?:approve|execute|issue|refund|grant)
|note to (?:the )?(?:ai|bot|assistant|model)|mark (?:this|the) ticket (?:as )?(?:resolved|approved)|ignorier\w* (?:alle|sämtliche|die) (?:bisherigen|vorherigen|obigen)? ?(?:anweisungen|regeln)|ignore[rz] (?:toutes )?les (?:instructions|consignes)|ignora (?:todas )?las instrucciones)"""
ASKS_HOW = r"""(?:\bhow (?:do|can|could|would|should|to|does|is|are)\b|\b(?:is|would) (?:it|there)(?: be)? (?:possible|a way|any way)\b|\bcan (?:i|we|one|you (?:tell|show|explain))\b|\bwhat(?:'s| is) the (?:way|procedure|best way|right way|process)\b
|\bwhere (?:do|can|is|are|would)\b|\b(?:instructions?|guide|steps|documentation|manual) (?:for|on|to|about)\b|\bdo you support\b|\bwie (?:kann|können|richte|stelle|bekomme|mache|geht|funktioniert|lässt|füge|lege|ändere|exportiere|verbinde|aktiviere|schalte|teile|man|ich|wir)\b
|\bwo (?:kann|finde|finden|stelle|sehe|stellt)\b|\bgibt es (?:eine (?:möglichkeit|anleitung)|einen weg)\b|\bist es möglich\b|\banleitung\b|\bcomment (?:faire|puis|peut|peux|on|je|nous|configurer|activer|ajouter|inviter|exporter|changer|créer|installer|partager|obtenir)\b
|\bcomment\b[^.!]{0,60}\?|\boù (?:puis|peut|se trouve|trouver|est)\b|\b(?:est-il|est-ce qu'il est|serait-il) possible\b|\bexiste-t-il\b|\bc[oó]mo (?:puedo|podemos|se|hago|hacer|configuro|activo|añado|exporto|cambio)\b|\bd[oó]nde (?:puedo|est[aá]|se)\b|\bes posible\b)"""
TROUBLE = r"""(?:\b(?:forgot\w*|forgotten|lost|stolen|broke\w*|fail(?:s|ed|ing|ure)?|errors?|crash\w*|reject\w*|refus\w*|expired|locked|blocked|stuck|wrong|invalid|missing|down|outage|hung|hangs?|freez\w*|frozen|charged twice|twice|refund|cancel\w*|never (?:arrived|came|got|received)
|not (?:work\w*|accepted|arrived|received|possible|loading|opening|connecting|able)|(?:don'?t|doesn'?t|didn'?t|won'?t|can'?t|cannot|can not|could ?n'?t|isn'?t|aren'?t|no longer)|new phone|problem|issue|trouble|urgent|asap|reset|please (?:reset|send|renew|cancel|unlock|resend))\b
|\b(?:vergessen|verloren|gestohlen|kaputt|fehler\w*|abgest\w+|abgelehnt|abgelaufen|gesperrt|blockiert|falsch|ung[uü]ltig|fehlt|st[oö]rung|ausfall|h[aä]ngt|doppelt|erstattung|k[uü]ndig\w*|funktioniert nicht|geht nicht|klappt nicht|nicht mehr|komme nicht|kann nicht|neues handy|zur[uü]cksetzen)\b
|\b(?:oubli\w*|perdu\w*|vol[eé]\w*|cass[eé]\w*|erreurs?|plant\w*|refus\w*|expir[eé]\w*|bloqu[eé]\w*|incorrect\w*|invalide|manqu\w*|panne|rembours\w*|r[eé]sili\w*|annul\w*|ne (?:marche|fonctionne|s'ouvre|peux|peut)\w*|n'arrive|nouveau t[eé]l[eé]phone|r[eé]initialis\w*)\b
|\b(?:olvid\w*|perd[ií]\w*|robad\w*|rot[oa]|errores?|rechaz\w*|caducad\w*|bloquead\w*|incorrect\w*|falla\w*|reembols\w*|cancel\w*|no (?:funciona|puedo|abre|carga|llega)|m[oó]vil nuevo|restablec\w*)\b)"""
VAGUE_WORDS = frozenset(
    """a again all already also am an and any anymore are asap at back be been broke broken but bug can cannot cant come crap dead dear did do does doesn't
    doesnt don't done down error errors everything fail failed fails failing fix for get getting give good hello help here hey hi how i i'm im in is isn't it its it's
    just keep keeps kind me more my need no not nothing now of off ok on one or out please pls plz problem problems really regards same since so some someone
    somehow something sometimes still stopped stuck support sure team thank thanks that the there they thing things this today trouble try u up urgent urgently us
    very want was we what whats what's when why will with won't wont work worked working works wrong yes yesterday you your issue issues fine hope morning system
    stuff computer pc app program properly anything asap!!! guys
    aber alles auch bitte bräuchte brauche da danke das defekt dem den der die dringend ein eine einfach es etwas fehler funktioniert funktionierts geht gehts gar
    gestern grüße habe hallo helfen heute hier hilfe ich immer ist ja jemand kann kaputt klappt können läuft mal mehr mein meine mich mir mit nicht nichts nix noch
    nun nur problem probleme schnell schon sehr seit sie so spinnt stimmt system und uns viele was weiter wer wieder wir
    aide aider aidez alors au aucun avec besoin bonjour bug bugue ça ca cassé cassée ce cela cest c'est de depuis encore est et faire fonctionne fois il j'ai je la le
    les ma mal marche me merci mon ne non nous panne pas peut plus pourquoi problème probleme quelque chose quelqu'un rien s'il svp si toujours tout un une urgent va vous vite y
    a algo alguien ayuda ayudar ayúdenme buenas buenos días con de el error es está esta esto favor funciona gracias hola hoy la lo mal me mi muy nada necesito no otra
    pasa por problema puede puedo que qué rota roto se sigue sistema tengo todo un una urgente va vez ya y""".split()
)
STOPWORDS = {
    "en": "the is and to my not i you please have with for can we it of on this are when was your be cannot am our from in how do hi thanks need",
    "de": "der die das ist und nicht ich mein meine bitte mit für kann wir es auf ein eine seit den dem zu haben habe sich bei noch wie im vom hallo mir mich",
    "fr": "le la les est et ne pas je mon ma vous avec pour nous il sur un une depuis des du ce que qui bonjour mes plus merci votre j'ai dans au",
    "es": "el la los las es y no mi por favor con para que un una desde de del se me puedo hola gracias tengo está en al su nos lo",
    "pt": "o os as é e não meu minha por favor com para que um uma desde do da se me posso olá obrigado tenho está em ao",
    "it": "il lo gli è e non mio mia per favore con che un una dal della si mi posso ciao grazie ho sono nel al",
    "nl": "de het een is en niet ik mijn met voor kan we op sinds van dat die te hebben heb bij nog hoe hallo graag",
}
_FLAGS = re.I | re.X


def _rule(pattern: str) -> re.Pattern[str]:
    """Spaces in the table stand for any white space; line breaks are layout."""
    return re.compile(re.sub(r"\n", "", pattern).replace(" ", r"\s+"), re.I)


_RULES = {
    name: _rule(pattern)
    for name, pattern in {
        "legal": LEGAL, "distress": DISTRESS, "loss": LOSS, "repeat": REPEAT, "furious": FURIOUS, "negative": NEGATIVE,
        "positive": POSITIVE, "now": NOW, "soon": SOON, "whenever": WHENEVER, "smuggled": SMUGGLED,
    }.items()
}  # fmt: skip
_ASKS_HOW, _TROUBLE = _rule(ASKS_HOW), _rule(TROUBLE)
_STOP = {language: frozenset(words.split()) for language, words in STOPWORDS.items()}
SCRIPTS = (("zh", r"[一-鿿]"), ("ja", r"[぀-ヿ]"), ("ko", r"[가-힣]"), ("ru", r"[а-яА-Я]"), ("el", r"[α-ωΑ-Ω]"), ("ar", r"[؀-ۿ]"))


def detect_language(text: str) -> str:
    """ISO 639-1 by script, else by stop words; "en" where nothing decides."""
    for language, letters in SCRIPTS:
        if len(re.findall(letters, text)) > max(3, 0.2 * len(text.strip())):
            return language
    words = re.findall(r"[\w']+", text.lower())
    scores = {language: sum(word in stop for word in words) for language, stop in _STOP.items()}
    scores["de"] += 2 * len(re.findall(r"[ßäöü]", text.lower()))
    scores["fr"] += len(re.findall(r"[êèàçùœ]", text.lower()))
    scores["es"] += 2 * len(re.findall(r"[ñ¿¡]", text.lower()))
    best = max(scores, key=lambda language: (scores[language], language == "en"))
    return best if scores[best] > scores["en"] else "en"


def _found(text: str, *names: str) -> dict[str, str]:
    return {name: match.group(0).strip() for name in names if (match := _RULES[name].search(text))}


def _shouting(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    return len(letters) >= 20 and sum(c.isupper() for c in letters) > 0.7 * len(letters)


def _sentiment(cues: dict[str, str], text: str) -> Sentiment:
    angry = ("furious" in cues) + _shouting(text) + (text.count("!") >= 3) + ("repeat" in cues and "negative" in cues)
    if ("furious" in cues and angry >= 2) or angry >= 3:
        return Sentiment.FURIOUS
    if angry or "negative" in cues or "legal" in cues:
        return Sentiment.NEGATIVE
    return Sentiment.POSITIVE if "positive" in cues else Sentiment.NEUTRAL


def _urgency(cues: dict[str, str]) -> int:
    if "whenever" in cues and "loss" not in cues:
        return 4
    if "loss" in cues or "distress" in cues:
        return 1
    return 2 if "now" in cues else 3


def read_signals(text: str, *, earlier_contacts: Sequence[str] = ()) -> Signals:
    """All signals of one ticket. `earlier_contacts`: ids of this requester's recent tickets in the same matter."""
    cues = _found(text, *_RULES)
    urgency = _urgency(cues)
    if urgency == 3 and "soon" not in cues and len(text) < 4000:
        urgency = 3 if cues.keys() & {"repeat", "furious", "legal"} else 4
    named = [f"{name}: “{words}”" for name, words in cues.items()]
    if len(earlier_contacts) >= 2:
        named.append(f"repeat: earlier tickets {', '.join(earlier_contacts[:3])}")
    return Signals(
        sentiment=_sentiment(cues, text),
        urgency=urgency,
        cues=tuple(named),
        legal_threat="legal" in cues,
        distress="distress" in cues,
        losing_money="loss" in cues,
        repeat_contact="repeat" in cues or len(earlier_contacts) >= 2,
        vague=is_vague(text),
        smuggled_instruction="smuggled" in cues,
        asks_how=asks_how(text),
        language=detect_language(text),
    )


def asks_how(text: str) -> bool:
    """True for a question how something is done, with no word of trouble in it: to be answered, not acted on."""
    return len(text) <= 1500 and _ASKS_HOW.search(text) is not None and _TROUBLE.search(text) is None


def is_vague(text: str) -> bool:
    """True where nothing but *it does not work* is said: no word that a colleague could act on."""
    words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text.lower().replace("’", "'"))
    return len(words) <= 30 and all(word in VAGUE_WORDS for word in words) and not re.search(r"\d{3,}", text)
