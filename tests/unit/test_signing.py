"""Signatures: whom they are by, what they are of, and everything that is not one."""

import base64
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from models import signing
from models.manifest import ModelRefused, read
from models.signing import Standing, judge_folder, key_id, keygen, pae, read_public, read_trusted, sign
from tests.unit.model_bench import make_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unsigned model and two key pairs."""
    place = tmp_path_factory.mktemp("made")
    make_model(place / "desk", parent=f"desk@sha256-{'a' * 64}")
    keygen(place / "ours")
    keygen(place / "theirs")
    return place


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "desk", tmp_path / "desk")
    return tmp_path / "desk"


def private(made: Path, whose: str) -> Path:
    return made / whose / signing.PRIVATE_FILE


def trusted(made: Path, *whose: str) -> dict:
    keys = [read_public(made / one / signing.PUBLIC_FILE) for one in whose]
    return {key_id(key): key for key in keys}


def test_the_encoding_is_the_specifications_example() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("é", b"\0") == b"DSSEv1 2 \xc3\xa9 1 \0"  # lengths are bytes


def test_the_statement_names_every_file_and_where_the_model_comes_from(made: Path, model: Path) -> None:
    sign(model, private(made, "ours"))
    envelope = json.loads((model / "signature.json").read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    manifest = read(model)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert {one["name"] for one in statement["subject"]} == {*manifest.files, "manifest.json"}
    predicate = statement["predicate"]
    assert predicate["manifest_digest"] == manifest.digest and predicate["base"] == manifest.base
    assert predicate["dataset"] == f"sha256-{'d' * 64}"
    assert predicate["evaluation"] == manifest.files["evaluation.json"].sha256
    assert predicate["lineage"] == {"parent": f"desk@sha256-{'a' * 64}"}


def test_a_signature_is_worth_what_its_key_is_trusted(made: Path, model: Path) -> None:
    assert judge_folder(model, trusted(made, "ours")).standing is Standing.UNSIGNED
    name = sign(model, private(made, "ours"))
    signed = judge_folder(model, trusted(made, "ours", "theirs"))
    assert signed.standing is Standing.SIGNED and str(signed) == f"signed by {name}"
    assert judge_folder(model, trusted(made, "theirs")).standing is Standing.UNTRUSTED
    assert "not trusted here" in str(judge_folder(model, {}))


def test_two_signatures_each_count(made: Path, model: Path) -> None:
    first, second = sign(model, private(made, "ours")), sign(model, private(made, "theirs"))
    assert judge_folder(model, trusted(made, "ours", "theirs")).keys == (first, second)
    assert judge_folder(model, trusted(made, "theirs")).keys == (second,)
    assert sign(model, private(made, "ours")) == first  # again: still two
    assert len(json.loads((model / "signature.json").read_text())["signatures"]) == 2


def test_one_good_signature_does_not_excuse_a_bad_one(made: Path, model: Path) -> None:
    sign(model, private(made, "ours"))
    sign(model, private(made, "theirs"))
    change(model, lambda record: record["signatures"][1].update(sig=record["signatures"][0]["sig"]))
    with pytest.raises(ModelRefused, match="does not fit the key"):
        judge_folder(model, trusted(made, "ours", "theirs"))


def change(model: Path, how: object) -> None:
    path = model / "signature.json"
    record = json.loads(path.read_text())
    how(record)  # type: ignore[operator]
    path.write_text(json.dumps(record))


def test_another_key_under_a_trusted_name_is_refused(made: Path, model: Path) -> None:
    ours = sign(model, private(made, "ours"))
    (model / "signature.json").unlink()
    sign(model, private(made, "theirs"))
    change(model, lambda record: record["signatures"][0].update(keyid=ours))
    with pytest.raises(ModelRefused, match="does not fit the key"):
        judge_folder(model, trusted(made, "ours"))


def test_a_swapped_payload_is_refused_whoever_signed_it(made: Path, model: Path) -> None:
    sign(model, private(made, "ours"))

    def swap(record: dict) -> None:
        statement = json.loads(base64.b64decode(record["payload"]))
        statement["predicate"]["dataset"] = "sha256-other"
        record["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    change(model, swap)
    for keys in (trusted(made, "ours"), {}):
        with pytest.raises(ModelRefused, match="signature of something else"):
            judge_folder(model, keys)


def test_a_forged_payload_type_is_refused(made: Path, model: Path) -> None:
    """And a signature made over another type does not count for ours."""
    sign(model, private(made, "ours"))
    whole = (model / "signature.json").read_text()
    change(model, lambda record: record.update(payloadType="application/json"))
    with pytest.raises(ModelRefused, match="payload type 'application/json'"):
        judge_folder(model, trusted(made, "ours"))
    payload = base64.b64decode(json.loads(whole)["payload"])
    other = signing.read_private(private(made, "ours")).sign(pae("application/json", payload))
    (model / "signature.json").write_text(whole)
    change(model, lambda record: record["signatures"][0].update(sig=base64.b64encode(other).decode()))
    with pytest.raises(ModelRefused, match="does not fit the key"):
        judge_folder(model, trusted(made, "ours"))


def test_an_altered_model_is_not_signed(made: Path, model: Path) -> None:
    (model / "taxonomy.json").write_text("{}")
    with pytest.raises(ModelRefused, match="was altered"):
        sign(model, private(made, "ours"))
    assert not (model / "signature.json").exists()


def test_a_private_key_is_for_its_owner_alone_and_never_overwritten(made: Path, model: Path, tmp_path: Path) -> None:
    key, _, _ = keygen(tmp_path / "keys")
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ModelRefused, match="holds a key already"):
        keygen(tmp_path / "keys")
    key.chmod(0o640)
    with pytest.raises(ModelRefused, match=r"may be read by others \(mode 640\)"):
        sign(model, key)


def test_other_keys_are_refused(made: Path, model: Path, tmp_path: Path) -> None:
    elliptic = generate_private_key(SECP256R1())
    pem = elliptic.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "ec.pem").write_bytes(pem)
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "ec.pub.pem").write_bytes(
        elliptic.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(ModelRefused, match="not an Ed25519 key"):
        sign(model, tmp_path / "ec.pem")
    with pytest.raises(ModelRefused, match="not an Ed25519 public key"):
        read_trusted(tmp_path / "trusted")
    with pytest.raises(ModelRefused, match="not a private key"):
        sign(model, made / "ours" / signing.PUBLIC_FILE)
    assert read_trusted(tmp_path / "nowhere") == {}
