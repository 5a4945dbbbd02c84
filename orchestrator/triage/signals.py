"""Read sentiment, urgency and warning signs from the wording, in English, German, French and Spanish.

Rules only: each cue is a row of a table with the words that raise it, so that an analyst can see why. Knows no model.
"""
# ruff: noqa: E501 (the tables read better as long lines)

import re
from collections.abc import Sequence

from orchestrator.domain.triage import Sentiment, Signals

LEGAL = r"""(?:\b(?:legal (?:action|steps|proceedings|consequences)|su(?:e|ing) (?:you|your)|(?:will|going to|have to|shall) sue|law ?suit|small claims|ombuds(?:man|person|woman)|consumer protection|data protection (?:authority|commissioner|agency)
|(?:take|taking|see|meet) (?:you|this|it|the matter|your company) (?:to|in|before) (?:a |the )?court|court (?:order|action|case|proceedings)|(?:to|before|notify|tell|inform|involve) the regulator|trading standards|(?:our|my) legal (?:department|team|counsel) (?:will|is|has|gets?)
|my (?:lawyer|attorney|solicitor)s?|(?:our|an?|the) (?:lawyer|attorney|solicitor)s? (?:will|is going|are going|has been|have been|gets?|is involved|is drafting)|(?:contact|consult|involv|instruct|engag|hir|hear from|speak (?:to|with)|talk(?:ing)? to|hand(?:ing)? (?:this|it) (?:over )?to|pass(?:ing)? (?:this|it) (?:on )?to|through)\w* (?:my|our|an?|the) (?:lawyer|attorney|solicitor)s?
|(?:mein|meinem|meinen|unser|unserem|unseren|einen?|einem|den|dem) (?:rechts)?anw(?:alt|ältin|älte|älten)\b|anwalt (?:einschalten|eingeschaltet)|rechtsabteilung (?:wird|ein\w+)|(?:mit )?klage (?:drohen|einreichen|erheben)|verklage\w*|verklagen|vor gericht|gerichtlich\w*|rechtlich\w* (?:schritte|konsequenzen|mittel)|juristisch\w* (?:schritte|vorgehen)|verbraucher(?:schutz|zentrale)|datenschutzbehörde|strafanzeige|mahnbescheid
|(?:mon|notre|un|une|l['’])\s?avocate?|porter plainte|(?:devant|saisir\w*|saisis) (?:le |la )?(?:tribunal|justice)|poursuites? (?:judiciaires?|en justice)|poursuivre en justice|mise en demeure|action en justice|médiateur
|(?:mi|nuestro|un|una) abogad[oa]s?|demandar(?:les|los|é)|demanda judicial|(?:ante|a) los? (?:tribunal(?:es)?|juzgados?)|acciones legales|poner una denuncia|denunciar(?:é|les|los))\b)"""
DISTRESS = r"""\b(?:suicid\w*|kill(?:ing)? myself|end(?:ing)? my life|self[- ]harm\w*|(?:hurt|harm|hurting|harming) myself|don['’]?t want to live|can['’]?t go on (?:living|any ?more|any longer|like this anymore)|panic attack|having a breakdown|scared for my (?:life|safety)|fear for my (?:life|safety)
|(?:i am|i['’]m) desperate(?! (?:for|to))|threaten(?:ed|ing|s) (?:me|to kill|my (?:life|family))|(?:being |am )stalk(?:ed|ing)|stalker|patients? (?:is |are )?(?:at risk|in danger)|life[- ]threatening|selbstmord\w*|umbringen|(?:ich bin|bin) (?:(?:völlig|total|so|ganz) )?verzweifelt|lebensgefahr|angst um mein leben
|nicht mehr leben|suicid(?:e|er|aire)|désespérée?|en danger de mort|peur pour ma vie|(?:estoy|muy) desesperad[oa]|suicid\w*|miedo por mi vida)\b"""
LOSS = r"""(?:\b(?:los(?:ing|es?) (?:us |me )?(?:\w+ )?(?:money|customers|revenue|sales|thousands|business|orders|turnover)|(?:we|i|we['’]ve|i['’]ve|have) (?:already )?lost (?:\w+ )?(?:customers|revenue|sales|thousands|business|orders|turnover)|money every (?:minute|hour)|cost(?:s|ing) us \W?(?:\d|thousands|a fortune|money)
|(?:cannot|can['’]?t|can not|unable to) (?:sell|take (?:any )?(?:payments?|orders?|money)|ship (?:anything|orders?|goods))|production (?:is |has )?(?:stopped|standing still|down|halted)|(?:the|our) (?:production |assembly )?line (?:is |has )?(?:stopped|standing)
|(?:wir |ich )?verlier(?:en|e) (?:wir )?(?:\w+ ){0,3}(?:geld|umsatz|kunden|aufträge)|(?:geld|umsatz|kunden) verlier(?:en|e)|umsatzausfall|(?:die )?produktion steht|kostet uns|bandstillstand|können nichts? (?:mehr )?(?:verkaufen|kassieren|abrechnen)
|(?:nous |on )?perd(?:ons|s|ent)? (?:de l['’]argent|des clients|du chiffre|des ventes)|production (?:est )?(?:arrêtée|à l['’]arrêt)|nous coûte|(?:ne )?(?:pouvons|peut|peux) (?:plus|pas) (?:vendre|encaisser)|perdiendo (?:dinero|clientes|ventas)|perdemos (?:dinero|clientes|ventas)|producción (?:está )?parada|nos cuesta|no podemos (?:vender|cobrar)))"""
REPEAT = r"""(?:\b(?:for|now|already|is|it['’]s|that['’]s|this|my|our) (?:the |my |our )?(?:second|2nd|third|3rd|fourth|4th|fifth|5th) (?:ticket|mail|email|e-mail|message|contact|call|reminder|complaint)\b|(?:second|2nd|third|3rd|fourth|4th|fifth|5th) time (?:i|we|this|that|asking|writing|contacting|reporting|calling|now|in)\b|for the (?:second|third|fourth|fifth|2nd|3rd|4th|5th) time\b
|\bthird time\b|\b(?:asked|wrote|written|called|reported|contacted you|told you) (?:\w+ ){0,2}(?:three|several|many|two|four) times\b|\b(?:three|four|five) times (?:i|we) (?:have )?(?:asked|wrote|written|called|reported|contacted)\b|\b(?:i|we)(?:['’]ve)? (?:have )?already (?:wrote|written|called|contacted|reported|asked|told)\b|\b(?:still|again) no (?:answer|reply|response)\b
|\b(?:nobody|no one|no-one) (?:ever )?(?:answers?|answered|replies|replied|responds?|responded|calls back|called back|got back)\b|\bas i wrote\b|\bhow many (?:more )?times (?:do|must|should|have|will) (?:i|we)\b|\bzum (?:zweiten|dritten|vierten|fünften|x-ten) mal\b|\bschon (?:zwei|drei|vier|mehr|zig)mal\b|\bimmer noch keine (?:antwort|rückmeldung|reaktion)\b
|\bbereits (?:mehrfach|mehrmals|zweimal|dreimal)\b|\b(?:deuxième|troisième|quatrième|2e|3e|4e) (?:fois|message|demande|mail|courriel|relance|ticket)\b|\btoujours (?:pas de|aucune) (?:réponse|nouvelles?)\b|\b(?:segunda|tercera|cuarta) vez\b|\b(?:segundo|tercer|cuarto) (?:correo|mensaje|ticket)\b|\b(?:sigo )?sin (?:recibir )?respuesta\b)"""
FURIOUS = r"""\b(?:furious|outrageous|outraged|(?:completely |totally |absolutely |simply )?unacceptable|ridiculous|disgrace\w*|incompeten\w*|(?:you(?:r \w+)?(?: are| is)?|support is|service is|completely|utterly|absolutely) useless|pathetic|worst (?:support|service|company|experience)|fed up|sick of|(?:is this|what|a|some) joke|laughing stock|scandalous|a scandal|disgust\w*|wtf|bullshit|damn(?:ed)?|is rubbish|garbage company
|unverschämt\w*|unfassbar|frechheit|eine katastrophe|unmöglich(?:er|es) (?:service|support|verhalten|zustand)|einfach unmöglich|inakzeptabel|saftladen|sauerei|stinksauer|wütend|schnauze voll|reicht(?: es)? (?:mir|jetzt)|inacceptable|inadmissible|honteu(?:x|se)|scandaleu(?:x|se)|furieu(?:x|se)|ras[- ]le[- ]bol|incompétents?|vous (?:vous )?(?:moquez|foutez)
|inaceptable|una? vergüenza|indignante|estoy (?:harto|harta)|harto de|harta de|furios[oa]|incompetentes?|tomadura de pelo)\b"""
NEGATIVE = r"""\b(?:annoy\w*|frustrat\w*|disappoint\w*|unhappy|upset|angry|terrible|awful|horrible|(?:very|really|so) bad|bad experience|waste of|not happy|not (?:impressed|amused|good enough)|(?:i|we|to|must|formally) complain|complain(?:ing)? about (?:you|the (?:service|support))|formal complaint|ärgerlich\w*|enttäusch\w*|unzufrieden|nervt|nervig|genervt|verärgert
|(?:bin|sehr|echt|ziemlich|langsam) sauer|beschwere mich|beschwerde einlegen|déçue?s?|mécontent\w*|agaçant\w*|agacée?|énervé\w*|pénible|lamentable\w*|decepcionad[oa]|decepcionante|molest[oa]s? (?:con|por)|enfadad[oa]|muy mal servicio)\b"""
POSITIVE = r"\b(?:thank you so much|great (?:work|service|support|job)|love (?:it|the (?:new|product|app|service)|your)|(?:really |much )?appreciated?|awesome|wonderful|well done|keep up the good|super service|toller service|großes lob|vielen herzlichen dank|excellent (?:work|service|support)|génial|bravo|genial|encantad[oa] con|excelente (?:servicio|trabajo))\b"
NOW = r"""(?:\b(?:urgent(?:ly)?|urgency|asap|a\.s\.a\.p|as soon as (?:possible|you can)|right (?:now|away)|(?:an|this is|is an|it['’]s an) emergency|emergency!|(?:is|are|it['’]s|very|really|super|extremely|most|business|mission|time)[- ]critical(?:ly)?|critical (?:for|to) (?:us|me|our|the business)
|immediate(?:ly)?|hard deadline|deadline (?:is |ends )?(?:today|tonight|tomorrow|in|at|by)|(?:before|meet|miss) (?:the|our|my|a) deadline|within the (?:next )?hour|(?:prio(?:rity)? ?1|p1|sev ?1)(?! \w*(?:client|player))|dring(?:end|lich)\w*|dringlichkeit|sofort(?:ige|iger|igen)?|eilt|umgehend\w*|(?:ein|absoluter) notfall|(?:sehr|ist|äußerst|hoch|zeit|geschäfts)[- ]?kritisch|unverzüglich|so schnell wie möglich|schnellstmöglich|brandeilig
|immédiatement|immédiate?s?|tout de suite|au plus (?:vite|tôt)|dès que possible|(?:c['’]est|est|très|situation) critique|urgence|urgentes?|urgencia|urgentemente|inmediat(?:o|a|amente)|cuanto antes|lo antes posible|ya mismo|(?:es|muy) crítico)\b)"""
SOON = r"""\b(?:today|this (?:morning|afternoon|evening)|tonight|tomorrow|in (?:an|one|two|three|1|2|3) (?:hours?|days?)|before (?:noon|lunch|the meeting|\d)|(?:am|are|is|we['’]re|i['’]m|me|us|completely|totally) blocked|(?:cannot|can['’]?t|unable to|not able to) work|(?:my|a|the|client|customer|board) (?:presentation|meeting) (?:is |starts? |at |in |today|tomorrow|on )|client meeting
|renews? (?:on|in)|expires (?:today|tomorrow|soon)|heute|(?<!guten\s)(?<!schönen\s)morgen|kann (?:\w+ )?nicht arbeiten|nicht arbeiten|(?:bin|sind|ist|komplett) blockiert|in (?:einer|zwei|drei) (?:stunden?|tagen?)|vor dem termin|aujourd['’]hui|demain|ce (?:matin|soir)|cet après-midi|(?:suis|sommes|est) bloquée?s?
|(?:peux|peut|pouvons) (?:pas|plus) travailler|hoy|(?<!la\s)mañana|esta (?:tarde|noche|mañana)|no (?:puedo|podemos) trabajar|(?:estoy|estamos) bloquead[oa]s?)\b"""
WHENEVER = r"""\b(?:no rush|no hurry|not (?:very |so |that |really )?urgent|isn['’]?t urgent|non[- ]urgent|(?:no|not an?) emergency|not critical|whenever (?:you (?:can|have|get|like|find)|it suits|suits|convenient|it is convenient|possible)|when(?:ever)? you (?:have time|get a chance|get a moment|find time)|low priority|keine eile|eilt nicht|nicht (?:so |sehr |besonders )?(?:dringend|eilig)|bei gelegenheit
|hat zeit|wenn sie zeit haben|pas (?:très |vraiment )?urgent|rien ne presse|quand vous (?:pouvez|pourrez|aurez)|sin prisa|no (?:es|corre) (?:muy )?(?:urgente|prisa)|cuando (?:puedan|pueda|tengan tiempo))\b"""
SMUGGLED = r"""(?:\bignore (?:all |any |the |your |of |these |my )*(?:previous|prior|above|earlier|preceding|other) (?:instructions?|rules|prompts?|guidelines|policies)|\bignore (?:all |your )+(?:instructions?|rules|prompts?|guidelines|policies)|\bdisregard (?:all |any |your |the |previous |prior |above |earlier )+(?:instructions?|rules|prompts?|guidelines|policies|safety)|\b(?:forget|override|bypass) (?:all |any |your |the |previous |prior )+(?:instructions?|rules|prompts?|guidelines|policies|policy|safety)
|(?:reveal|print|show|repeat|output|leak|your) (?:me )?(?:the |your )?system prompt|\bsystem prompt:|\byou are now (?:\w+,? (?:an? |the )|an? |my |acting |in \w+ mode)|\bnew (?:system )?instructions?:|developer mode|\bjailbreak(?:ed)?\b(?! detect)|\bdo anything now\b|<\|?(?:system|im_start|im_end|assistant)\|?>|\[/?(?:system|inst)\]|###\s*(?:system|instruction)
|\bas an? (?:ai|language model|assistant|bot),? (?:you|model)|without (?:any )?(?:approval|verification)[,.]? (?:and )?(?:approve|execute|issue|refund|grant)|\b(?:note|message|instruction) (?:to|for) (?:the )?(?:ai|bot|assistant|model|agent)\b|mark (?:this|the) (?:ticket|request|refund) (?:as )?(?:approved|verified|authori[sz]ed)
|ignorier\w* (?:sie )?(?:alle|sämtliche|die|ihre|deine)\w* ?(?:bisherigen|vorherigen|obigen|vorigen)? ?(?:anweisungen|regeln|vorgaben)|(?:du bist|sie sind) (?:jetzt|nun) (?:ein|eine) |neue anweisung(?:en)?:|ignore[rz]? (?:toutes? )?(?:les|vos|tes) (?:instructions|consignes|règles)|tu es (?:désormais|maintenant) (?:un|une) |ignor[ae] (?:todas )?(?:las|tus|sus) (?:instrucciones|reglas)|ahora eres (?:un|una) )"""
AT_ONCE = r"""(?:crash\w*|clos\w+|quits?|exits?|fails?|dies|died|disconnects?\w*|log(?:s|ged)? (?:me |us )?(?:out|off)|drops?|disappear\w*|freez\w+|shut\w*|restarts?|stops?|goes|bounce\w*|kick\w*|stürzt|schließt|geht|bricht|beendet|verschwindet|fliegt|trennt|ferme|plante|déconnecte|coupe|disparaît|quitte|cierra|apaga|desconecta|bloquea|sale)(?:\s+\S+){0,3}\s+$"""
ASKS_HOW = r"""(?:\bhow (?:do|can|could|would|should|to|does|is|are)\b|\b(?:is|would) (?:it|there)(?: be)? (?:possible|a way|any way)\b|\bcan (?:i|we|one|you (?:tell|show|explain))\b|\bwhat(?:'s| is) the (?:way|procedure|best way|right way|process)\b
|\bwhere (?:do|can|is|are|would)\b|\b(?:instructions?|guide|steps|documentation|manual) (?:for|on|to|about)\b|\bdo you support\b|\bwie (?:kann|können|richte|stelle|bekomme|mache|geht|funktioniert|lässt|füge|lege|ändere|exportiere|verbinde|aktiviere|schalte|teile|man|ich|wir)\b
|\bwo (?:kann|finde|finden|stelle|sehe|stellt)\b|\bgibt es (?:eine (?:möglichkeit|anleitung)|einen weg)\b|\bist es möglich\b|\banleitung\b|\bcomment (?:faire|puis|peut|peux|on|je|nous|configurer|activer|ajouter|inviter|exporter|changer|créer|installer|partager|obtenir)\b
|\bcomment\b[^.!]{0,60}\?|\boù (?:puis|peut|se trouve|trouver|est)\b|\b(?:est-il|est-ce qu'il est|serait-il) possible\b|\bexiste-t-il\b|\bc[oó]mo (?:puedo|podemos|se|hago|hacer|configuro|activo|añado|exporto|cambio)\b|\bd[oó]nde (?:puedo|est[aá]|se)\b|\bes posible\b)"""
TROUBLE = r"""(?:\b(?:forgot\w*|forgotten|lost|stolen|broke\w*|fail(?:s|ed|ing|ure)?|errors?|crash\w*|reject\w*|refus\w*|expired|locked|blocked|stuck|wrong|invalid|missing|down|outage|hung|hangs?|freez\w*|frozen|charged twice|twice|refund|cancel\w*|never (?:arrived|came|got|received)
|not (?:work\w*|accepted|arrived|received|possible|loading|opening|connecting|able)|(?:don'?t|doesn'?t|didn'?t|won'?t|can'?t|cannot|can not|could ?n'?t|isn'?t|aren'?t|no longer)|new phone|problem|issue|trouble|urgent|asap|reset|please (?:reset|send|renew|cancel|unlock|resend))\b
|\b(?:vergessen|verloren|gestohlen|kaputt|fehler\w*|abgest\w+|abgelehnt|abgelaufen|gesperrt|blockiert|falsch|ung[uü]ltig|fehlt|st[oö]rung|ausfall|h[aä]ngt|doppelt|erstattung|k[uü]ndig\w*|funktioniert nicht|geht nicht|klappt nicht|nicht mehr|komme nicht|kann nicht|neues handy|zur[uü]cksetzen)\b
|\b(?:oubli\w*|perdu\w*|vol[eé]\w*|cass[eé]\w*|erreurs?|plant\w*|refus\w*|expir[eé]\w*|bloqu[eé]\w*|incorrect\w*|invalide|manqu\w*|panne|rembours\w*|r[eé]sili\w*|annul\w*|ne (?:marche|fonctionne|s'ouvre|peux|peut)\w*|n'arrive|nouveau t[eé]l[eé]phone|r[eé]initialis\w*)\b
|\b(?:olvid\w*|perd[ií]\w*|robad\w*|rot[oa]|errores?|rechaz\w*|caducad\w*|bloquead\w*|incorrect\w*|falla\w*|reembols\w*|cancel\w*|no (?:funciona|puedo|abre|carga|llega)|m[oó]vil nuevo|restablec\w*)\b)"""
_VAGUE = """a again all already also am an and any anymore are asap at back be been broke broken but bug can cannot cant come crap dead dear did do does doesn't
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
    pasa por problema puede puedo que qué rota roto se sigue sistema tengo todo un una urgente va vez ya y"""
VAGUE_WORDS = frozenset(_VAGUE.split())
STOPWORDS = {
    "en": "the is and to my not i you please have with for can we it of on this are when was your be cannot am our from in how do hi thanks need reset install access unable issue request account",
    "de": "der die das ist und nicht ich mein meine bitte mit für kann wir es auf ein eine seit den dem zu haben habe sich bei noch wie im vom hallo mir mich passwort kennwort anmeldung anmelden drucker rechnung bestellung konto hilfe zugriff rechner vergessen geht kaputt bildschirm netzwerk dringend guten von zur zum",
    "fr": "le la les est et ne pas je mon ma vous avec pour nous il sur un une depuis des du ce que qui bonjour mes plus merci votre j'ai dans au mot passe oublié facture commande connexion imprimante compte problème besoin aide écran réseau ordinateur urgent",
    "es": "el la los las es y no mi por favor con para que un una desde de del se me puedo hola gracias tengo está en al su nos lo contraseña factura pedido cuenta impresora acceso ayuda problema olvidado ordenador pantalla funciona",
    "pt": "o os as é e não meu minha por favor com para que um uma desde do da se me posso olá obrigado tenho está em ao",
    "it": "il lo gli è e non mio mia per favore con che un una dal della si mi posso ciao grazie ho sono nel al",
    "nl": "de het een is en niet ik mijn met voor kan we op sinds van dat die te hebben heb bij nog hoe hallo graag",
}


def _rule(pattern: str, flags: re.RegexFlag = re.I) -> re.Pattern[str]:
    """Spaces in the table stand for any white space; line breaks are layout."""
    return re.compile(re.sub(r"\n", "", pattern).replace(" ", r"\s+"), flags)


_RULES = {  # for a text in lower case, which they read twice as fast
    name: _rule(pattern, re.NOFLAG)
    for name, pattern in {
        "legal": LEGAL, "distress": DISTRESS, "loss": LOSS, "repeat": REPEAT, "furious": FURIOUS, "negative": NEGATIVE,
        "positive": POSITIVE, "now": NOW, "soon": SOON, "whenever": WHENEVER, "smuggled": SMUGGLED,
    }.items()
}  # fmt: skip
_ASKS_HOW, _TROUBLE = _rule(ASKS_HOW), _rule(TROUBLE)
_AT_ONCE = _rule(AT_ONCE)
_AT_ONCE_WORDS = re.compile(r"immediate|right\s+(?:now|away)|sofort|immédiate|tout\s+de\s+suite|inmediat", re.I)
_NO_PROSE = re.compile(r"\S+@\S+|https?://\S+|www\.\S+|\S*[\\/_]\S*|\w*\d\w*")  # addresses, paths, names of machines
_STOP = {language: frozenset(words.split()) for language, words in STOPWORDS.items()}
HEAD_CHARS, TAIL_CHARS = 9000, 3000  # of a longer text these are read
ANSWERED = frozenset({"en", "de", "fr", "es"})  # languages that replies are written in
SCRIPTS = (("zh", r"[一-鿿]"), ("ja", r"[぀-ヿ]"), ("ko", r"[가-힣]"), ("ru", r"[а-яА-Я]"), ("el", r"[α-ωΑ-Ω]"), ("ar", r"[؀-ۿ]"))


def detect_language(text: str) -> str:
    """ISO 639-1 by script, else by stop words; "en" where nothing decides."""
    for language, letters in () if text.isascii() else SCRIPTS:
        if len(re.findall(letters, text)) > max(3, 0.2 * len(text.strip())):
            return language
    prose = _NO_PROSE.sub(" ", text.lower().replace("’", "'"))
    words = re.findall(r"[^\W\d]+(?:'[^\W\d]+)?", prose)
    scores = {language: sum(word in stop for word in words) for language, stop in _STOP.items()}
    scores["de"] += 2 * len(re.findall(r"[ßäöü]", prose))
    scores["fr"] += len(re.findall(r"[êèàçùœ]", prose)) + len(re.findall(r"\b(?:l|d|qu|n|s|j|c)'", prose))
    scores["es"] += 2 * len(re.findall(r"[ñ¿¡]", prose))
    best = max(scores, key=lambda language: (scores[language], language in ANSWERED, language == "en"))
    needed = max(scores["en"] + (1 if best in ANSWERED else 2), min(2, len(words)))  # a stray word is no language
    return best if scores[best] >= needed else "en"


def _found(text: str, *names: str) -> dict[str, str]:
    lowered = text.lower()
    as_written = text if len(text) == len(lowered) else lowered  # a few letters grow when they are lowered
    return {name: found for name in names if (found := _first(name, lowered, as_written))}


def _first(name: str, lowered: str, as_written: str) -> str | None:
    """The first words that raise this cue. What happens at once (“crashes immediately”) is not wanted at once."""
    for match in _RULES[name].finditer(lowered):
        happens = name == "now" and _AT_ONCE_WORDS.match(match.group(0)) and _AT_ONCE.search(lowered[: match.start()][-80:])
        if not happens:
            return as_written[slice(*match.span())].strip()
    return None


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
    if "loss" in cues or "distress" in cues:
        return 1
    if "whenever" in cues:
        return 4
    if "now" in cues:
        return 2
    return 3 if cues.keys() & {"soon", "repeat", "furious", "legal"} else 4


def read_signals(text: str, *, earlier_contacts: Sequence[str] = ()) -> Signals:
    """All signals of one ticket. `earlier_contacts`: ids of this requester's recent tickets in the same matter."""
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    cues = _found(text, *_RULES)
    named = [f"{name}: “{words}”" for name, words in cues.items()]
    if len(earlier_contacts) >= 2:
        named.append(f"repeat: earlier tickets {', '.join(earlier_contacts[:3])}")
    return Signals(
        sentiment=_sentiment(cues, text),
        urgency=_urgency(cues),
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
