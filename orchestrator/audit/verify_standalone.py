#!/usr/bin/env python3
"""Verifies an exported audit log, its checkpoints and bundles of single tickets. One file, the standard library alone, nothing of Cloister.

    python3 verify.py log EVENTS.jsonl [--checkpoints DIR]... [--key VKEY_OR_FILE] [--json]
    python3 verify.py bundle BUNDLE.json [--key VKEY_OR_FILE] [--show] [--json]

EVENTS.jsonl is what `cloister audit export --all` writes, DIR a folder of checkpoints, the key a line NAME+HEX+BASE64 as in audit.vkey.
Give the key that you wrote down when the log began: without --key the one beside the checkpoints, or in the bundle, is believed.
Exit codes: 0 whole, 1 a finding, 2 usage, 3 a file cannot be read. The exact bytes are told in docs/audit.md.
"""

import argparse
import base64
import glob
import hashlib
import json
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor

sha256 = hashlib.sha256
ZERO = bytes(32)
LINE = re.compile(
    rb'\{"seq":([0-9]+),"at":"([0-9T:.Z-]{27})","ticket":("(?:[^"\\]|\\.)*"),"kind":"([a-z][a-z0-9_]*)","actor":("(?:[^"\\]|\\.)*"),'
    rb'"salt":(?:"((?:[0-9a-f]{32})?)"|null),"body_sha256":"([0-9a-f]{64})","hash":"([0-9a-f]{64})",(?:"body":(.*)|"body_text":(".*"))\}'
)
NOTE = re.compile(r"((?:[^\n]+\n)+)\n— (\S+) ([A-Za-z0-9+/=]+)\n")
PAYLOAD_TYPE = "application/vnd.cloister.audit-bundle+json"
Key = tuple  # name, 32 bytes, hint of 4 bytes


class Finding(Exception):
    """What is wrong, and at which event (0: none)."""

    def __init__(self, seq, what):
        super().__init__(what)
        self.seq = seq


# --- Ed25519, RFC 8032, section 5.1.7 ---

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def _x(y, sign):
    """The x of a point; None where there is none."""
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT % P
    if (x * x - x2) % P:
        return None
    return P - x if x & 1 != sign else x


def _add(a, b):
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g = 2 * a[3] * b[3] * D % P
    h = 2 * a[2] * b[2] % P
    w, x, y, z = f - e, h - g, h + g, f + e
    return (w * x % P, y * z % P, x * y % P, w * z % P)


def _times(scalar, point):
    found = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            found = _add(found, point)
        point = _add(point, point)
        scalar >>= 1
    return found


def _same(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def _point(data):
    if len(data) != 32:
        return None
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = _x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = _x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def ed25519_verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    if len(signature) != 64:
        return False
    a, r = _point(public), _point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    return _same(_times(s, BASE), _add(r, _times(h, a)))


# --- keys and notes ---


def read_key(text: str) -> tuple[str, bytes, bytes]:
    """(name, 32 bytes, hint) of NAME+HEX+BASE64."""
    try:
        name, hint, encoded = text.strip().split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise Finding(0, "the key is not of the form NAME+HEX+BASE64") from None
    if len(raw) != 33 or raw[0] != 1 or sha256(name.encode() + b"\n" + raw).digest()[:4].hex() != hint:
        raise Finding(0, "the key's parts do not fit each other")
    return name, raw[1:], bytes.fromhex(hint)


def key_id(public: bytes) -> str:
    return "ed25519-" + sha256(public).hexdigest()[:32]


def require_signed(note: str, key: Key, what: str) -> None:
    found = NOTE.fullmatch(note)
    name, public, hint = key
    if found:
        try:
            signature = base64.b64decode(found[3], validate=True)
        except ValueError:
            signature = b""
        named = found[2] == name and found[1].split("\n")[0] == name and signature[:4] == hint
        if named and ed25519_verifies(public, found[1].encode(), signature[4:]):
            return
    raise Finding(0, f"{what} is not signed by {key_id(public)} ({name})")


def read_checkpoint(note: str, where: str) -> dict:
    found = NOTE.fullmatch(note)
    if found is None:
        raise Finding(0, f"{where} is not a signed note")
    lines = found[1].split("\n")[:-1]
    names = ("number ", "previous ", "at ", "chain ", "peaks ")
    if len(lines) != 8 or any(not line.startswith(name) for line, name in zip(lines[3:], names)):
        raise Finding(0, f"{where} is not a checkpoint")
    try:
        number, previous, at, chain, _ = (line.split(" ", 1)[1] for line in lines[3:])
        root = base64.b64decode(lines[2], validate=True)
        made = {
            "size": int(lines[1]),
            "root": root,
            "number": int(number),
            "previous": previous,
            "at": at,
            "chain": bytes.fromhex(chain),
        }
    except ValueError as error:
        raise Finding(0, f"{where} is not a checkpoint: {error}") from None
    return {**made, "sha256": sha256(note.encode()).hexdigest(), "note": note}


def read_checkpoints(folders: list, key: Key) -> list:
    """One series out of all folders, signed at its end. Every note names the one before, so one signature vouches for all."""
    series = {}
    for folder in folders:
        for path in glob.glob(os.path.join(folder, "????-??-??", "*.note")):
            with open(path, "rb") as file:
                try:
                    found = read_checkpoint(file.read().decode(), path)
                except UnicodeDecodeError:
                    raise Finding(0, f"{path} is not a signed note") from None
            if os.path.basename(path) != f"{found['number']:012d}.note":
                raise Finding(0, f"{path} holds checkpoint {found['number']}")
            if series.setdefault(found["number"], found)["note"] != found["note"]:
                raise Finding(0, f"there are two different checkpoints {found['number']}: the log was forked")
    ordered = [series[number] for number in sorted(series)]
    previous, size = "0" * 64, 0
    for place, found in enumerate(ordered, 1):
        if found["number"] != place:
            raise Finding(0, f"checkpoint {place} is missing; the next one there is {found['number']}")
        if found["previous"] != previous:
            raise Finding(0, f"checkpoint {place} does not follow from the one before: one of them was changed")
        if found["size"] < size:
            raise Finding(0, f"checkpoint {place} covers fewer events than the one before")
        previous, size = found["sha256"], found["size"]
    if ordered:
        require_signed(ordered[-1]["note"], key, f"checkpoint {len(ordered)}")
    return ordered


# --- events ---


def read_line(line: bytes, seq: int) -> tuple:
    found = LINE.fullmatch(line)
    if found is None:
        raise Finding(seq, f"line {seq} is not an event's line, or was changed")
    return found.groups()


def event_parts(parts: tuple, before: bytes) -> tuple:
    """(hash, ticket, salted body or None, body digest) of a line's parts, recomputed."""
    seq, at, ticket, kind, actor, salt, digest, _, body, body_text = parts
    ticket = ticket[1:-1] if b"\\" not in ticket else json.loads(ticket).encode()
    actor = actor[1:-1] if b"\\" not in actor else json.loads(actor).encode()
    if body_text is not None:
        body = json.loads(body_text).encode()
    if salt is None:
        if body != b"null":
            raise Finding(int(seq), "the event's text was changed: it and its salt do not belong together")
        body = None
    elif sha256(bytes.fromhex(salt.decode()) + body).hexdigest().encode() != digest:
        raise Finding(int(seq), "the event's text was changed: its digest does not fit")
    computed = sha256(b"%s%s\n%s\n%s\n%s\n%s\n%s" % (before, seq, at, ticket, kind, actor, digest)).digest()
    return computed, ticket, body


def verify_piece(path: str, start: int, end: int, first: int, before: bytes) -> tuple:
    """Lines from byte `start` to `end`: (hashes joined, erased [(seq, ticket)], told [(seq, kind, ticket, body)], (seq, what) or None)."""
    hashes, erased, told = [], [], []
    match, hash_of, fromhex = LINE.fullmatch, sha256, bytes.fromhex
    seq = first
    try:
        with open(path, "rb") as file:
            file.seek(start)
            left = end - start
            for line in file:
                if left <= 0:
                    break
                left -= len(line)
                found = match(line[:-1] if line.endswith(b"\n") else line)
                if found is None:
                    raise Finding(seq, f"line {seq} is not an event's line, or was changed")
                number, at, ticket, kind, actor, salt, digest, stored, body, _ = parts = found.groups()
                if number != b"%d" % seq:
                    raise Finding(seq, f"event {seq} is missing: the next one is {number.decode()}")
                if body is not None and salt is not None and b"\\" not in ticket and b"\\" not in actor:
                    if hash_of(fromhex(salt.decode()) + body).hexdigest().encode() != digest:
                        raise Finding(seq, "the event's text was changed: its digest does not fit")
                    computed = hash_of(
                        b"%s%s\n%s\n%s\n%s\n%s\n%s" % (before, number, at, ticket[1:-1], kind, actor[1:-1], digest)
                    ).digest()
                    ticket = ticket[1:-1]
                else:
                    computed, ticket, body = event_parts(parts, before)
                if computed != fromhex(stored.decode()):
                    raise Finding(seq, "the event or the one before it was changed: its hash does not fit")
                if body is None:
                    erased.append((seq, ticket))
                elif kind == b"erased" or kind == b"checkpointed":
                    told.append((seq, kind, ticket, body))
                before = computed
                hashes.append(computed)
                seq += 1
    except Finding as error:
        return b"".join(hashes), erased, told, (error.seq, str(error))
    return b"".join(hashes), erased, told, None


def pieces(path: str, count: int) -> list:
    """Byte ranges at line ends, each with its first seq and the hash before it, as the lines themselves say: checked when joined."""
    size = os.path.getsize(path)
    starts = [0]
    with open(path, "rb") as file:
        for place in range(1, count):
            file.seek(size * place // count)
            file.readline()
            if starts[-1] < file.tell() < size:
                starts.append(file.tell())
        ranges = []
        for start, end in zip(starts, [*starts[1:], size]):
            first, before = 1, ZERO
            if start:
                file.seek(max(0, start - 1))
                first, before = _line_before(file, start)
            ranges.append((start, end, first, before))
    return ranges


def _line_before(file, start):
    step = 1 << 16
    while True:
        begin = max(0, start - step)
        file.seek(begin)
        block = file.read(start - begin - 1)
        at = block.rfind(b"\n")
        if at >= 0 or begin == 0:
            parts = LINE.fullmatch(block[at + 1 :])
            return (int(parts[1]) + 1, bytes.fromhex(parts[8].decode())) if parts else (0, ZERO)
        step *= 8


class Tree:
    def __init__(self):
        self.size, self.peaks = 0, []

    def add_all(self, hashes: bytes) -> None:
        """Many 32-byte hashes, joined."""
        size, peaks, hash_of = self.size, self.peaks, sha256
        for at in range(0, len(hashes), 32):
            node = hash_of(b"\0" + hashes[at : at + 32]).digest()
            place = size
            while place & 1:
                node = hash_of(b"\1" + peaks.pop() + node).digest()
                place >>= 1
            peaks.append(node)
            size += 1
        self.size = size

    def root(self) -> bytes:
        if not self.peaks:
            return sha256(b"").digest()
        node = self.peaks[-1]
        for left in reversed(self.peaks[:-1]):
            node = sha256(b"\1" + left + node).digest()
        return node


def verify_log(path: str, folders: list = (), key: Key = None, processes: int = 2) -> dict:
    """{whole, events, erased, checkpoints, covered, key, problem}."""
    found = {"whole": False, "events": 0, "erased": 0, "checkpoints": 0, "covered": 0, "key": key_id(key[1]) if key else None}
    try:
        series = read_checkpoints(folders, key) if folders else []
        found["checkpoints"] = len(series)
        _verify_events(path, series, bool(folders), processes, found)
        found.update(whole=True, problem=None, covered=series[-1]["size"] if series else 0)
    except Finding as error:
        found["problem"] = {"seq": error.seq, "what": str(error)}
    return found


def _verify_events(path, series, with_checkpoints, processes, found):
    ranges = pieces(path, max(1, processes * 4) if os.path.getsize(path) > 1 << 20 else 1)
    if len(ranges) > 1 and processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            parts = list(pool.map(verify_piece, [path] * len(ranges), *zip(*ranges)))
    else:
        parts = [verify_piece(path, *piece) for piece in ranges]
    tree, chain, erased, told, due = Tree(), ZERO, {}, [], list(reversed(series))
    for (_, _, first, before), (hashes, gone, words, problem) in zip(ranges, parts):
        if problem:
            raise Finding(*problem)
        if first != tree.size + 1 or before != chain:
            raise Finding(tree.size + 1, f"event {tree.size + 1} is missing or was changed")
        begin = tree.size
        while due and due[-1]["size"] <= begin + len(hashes) // 32:
            checkpoint = due.pop()
            tree.add_all(hashes[(tree.size - begin) * 32 : (checkpoint["size"] - begin) * 32])
            at = (tree.size - begin) * 32
            last = hashes[at - 32 : at] if at else chain
            if tree.root() != checkpoint["root"] or last != checkpoint["chain"]:
                raise Finding(
                    tree.size,
                    f"the log up to event {tree.size} is not the one that checkpoint {checkpoint['number']} of {checkpoint['at']} "
                    "vouches for: it was rewritten",
                )
        tree.add_all(hashes[(tree.size - begin) * 32 :])
        chain = hashes[-32:] or chain
        erased.update(gone)
        told += words
    found["events"] = tree.size
    if due:
        missed = due[-1]
        raise Finding(
            tree.size + 1,
            f"the log was cut or rolled back: checkpoint {missed['number']} of {missed['at']} covers {missed['size']} events, "
            f"the log has {tree.size}",
        )
    _verify_told(erased, told, {each["number"]: each for each in series}, with_checkpoints, found)


def _verify_told(erased, told, series, with_checkpoints, found):
    missing = []
    for seq, kind, ticket, body in told:
        try:
            record = json.loads(body)
            if kind == b"erased":
                for gone in record["seqs"]:
                    if gone < seq and erased.get(gone) == ticket:
                        del erased[gone]
                        found["erased"] += 1
            elif with_checkpoints:
                known = series.get(record["number"])
                if known is None:
                    missing.append((seq, f"checkpoint {record['number']} is missing: event {seq} tells of it"))
                elif known["sha256"] != record["sha256"]:
                    missing.append(
                        (
                            seq,
                            f"checkpoint {record['number']} is another one than event {seq} tells of: the checkpoints were replaced",
                        )
                    )
        except (ValueError, KeyError, TypeError) as error:
            raise Finding(seq, f"the event cannot be read: {error}") from None
    if erased:
        seq = min(erased)
        raise Finding(seq, f"the text of event {seq} is gone and no later event says that it was erased")
    if missing:
        raise Finding(*missing[0])


# --- bundles ---


def root_of(event_hash: bytes, index: int, size: int, path: list) -> bytes:
    if not 0 <= index < size:
        return None
    node, place, last = sha256(b"\0" + event_hash).digest(), index, size - 1
    for beside in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            node = sha256(b"\1" + beside + node).digest()
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            node = sha256(b"\1" + node + beside).digest()
        place, last = place >> 1, last >> 1
    return node if last == 0 else None


def verify_bundle(path: str, key: Key = None) -> dict:
    """{whole, ticket, events, erased, key, problem, lines}."""
    found = {"whole": False, "ticket": None, "events": 0, "erased": 0, "key": None, "lines": []}
    try:
        _verify_bundle(path, key, found)
        found.update(whole=True, problem=None)
    except Finding as error:
        found["problem"] = {"seq": error.seq, "what": str(error)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        found["problem"] = {"seq": 0, "what": f"the bundle cannot be read: {error!r}"}
    return found


def _verify_bundle(path, key, found):
    with open(path, "rb") as file:
        envelope = json.loads(file.read())
    payload = base64.b64decode(envelope["payload"], validate=True)
    record = json.loads(payload)
    key = key or read_key(record["key"])
    found.update(key=key_id(key[1]), ticket=record["ticket"])
    if envelope["payloadType"] != PAYLOAD_TYPE or record["format"] != "cloister-audit-bundle-1":
        raise Finding(0, "this is no bundle of an audit log")
    kind = PAYLOAD_TYPE.encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    if not any(ed25519_verifies(key[1], signed, base64.b64decode(each["sig"])) for each in envelope["signatures"]):
        raise Finding(0, f"the bundle is not signed by {key_id(key[1])} ({key[0]})")
    require_signed(record["checkpoint"], key, "the bundle's checkpoint")
    checkpoint = read_checkpoint(record["checkpoint"], "the bundle's checkpoint")
    last, erased = 0, set()
    for event in record["events"]:
        line = event["line"].encode()
        parts = read_line(line, last + 1)
        seq = int(parts[0])
        computed, ticket, body = event_parts(parts, bytes.fromhex(event["before"]))
        if seq <= last:
            raise Finding(seq, "the events are not in their order")
        if ticket.decode() != record["ticket"]:
            raise Finding(seq, "the event is of another ticket")
        if computed.hex().encode() != parts[7]:
            raise Finding(seq, "the event was changed: its hash does not fit")
        path_up = [bytes.fromhex(node) for node in event["proof"]]
        if root_of(computed, seq - 1, checkpoint["size"], path_up) != checkpoint["root"]:
            raise Finding(seq, "the event is not in the log that the checkpoint vouches for")
        if body is None:
            erased.add(seq)
        elif parts[3] == b"erased":
            gone = erased & set(json.loads(body)["seqs"])
            found["erased"] += len(gone)
            erased -= gone
        last = seq
        found["events"] += 1
        found["lines"].append(event["line"])
    if erased:
        raise Finding(min(erased), "the text of an event is gone and no later event says that it was erased")


# --- the command line ---


def main(arguments: list = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    log = commands.add_parser("log", help="an exported log and its checkpoints")
    log.add_argument("file")
    log.add_argument("--checkpoints", action="append", default=[], metavar="DIR")
    log.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    bundle = commands.add_parser("bundle", help="one ticket's events")
    bundle.add_argument("file")
    bundle.add_argument("--show", action="store_true", help="print the events that were verified")
    for each in (log, bundle):
        each.add_argument("--key", help="a verifier key, or a file with one")
        each.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    try:
        key = _given_key(given.key, getattr(given, "checkpoints", []))
        if given.command == "log":
            found = verify_log(given.file, given.checkpoints, key, given.processes)
        else:
            found = verify_bundle(given.file, key)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 3
    except Finding as error:
        print(error, file=sys.stderr)
        return 3
    lines = found.pop("lines", [])
    if given.json:
        print(json.dumps(found))
    else:
        _say(found, given)
    if getattr(given, "show", False):
        print("\n".join(lines))
    return 0 if found["whole"] else 1


def _given_key(text, folders):
    if text is None:
        beside = [os.path.join(folder, "audit.vkey") for folder in folders]
        text = next((path for path in beside if os.path.exists(path)), None)
        if text is None:
            if folders:
                raise Finding(0, "no key: give --key, the line that you wrote down when the log began")
            return None
    if os.path.exists(text):
        with open(text, encoding="utf-8") as file:
            text = file.read()
    return read_key(text)


def _say(found, given):
    if not found["whole"]:
        where = f" (event {found['problem']['seq']})" if found["problem"]["seq"] else ""
        print(f"NOT WHOLE{where}: {found['problem']['what']}")
        return
    print(f"whole: {found['events']} events, {found['erased']} of them with their text erased, key {found['key']}")
    if given.command == "log":
        if found["checkpoints"]:
            newest = found["events"] - found["covered"]
            print(f"{found['checkpoints']} checkpoints cover {found['covered']} events; the newest {newest} are chained alone")
        else:
            print("no checkpoint was given: a log that was rewritten whole, or cut at its end, would look like this, too")
    if given.key is None and found["key"]:
        print("the key was taken from beside what it vouches for: compare its id with the one that you wrote down")


if __name__ == "__main__":
    sys.exit(main())
