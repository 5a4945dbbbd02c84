"""`train evaluate` on the model that comes with the installation: predictions, report, page, exit codes."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from models.local import ADAPTER, STORE
from models.manifest import Kind, read, write
from models.registry import Registry
from orchestrator.domain.errors import BadInput, NotFound
from orchestrator.domain.triage import OTHERS, Classification
from orchestrator.ports import ScoreRequest
from training.evaluation.command import evaluate
from training.evaluation.evaluate import Evaluator, Learned
from training.evaluation.exam import read_exam
from training.evaluation.findings import findings
from training.evaluation.page import page
from training.evaluation.predict import Predictor, open_predictor, split_shared
from training.evaluation.predictions import write_predictions
from training.evaluation.redaction import redactor

PREDICTION = {  # DESIGN, section 9
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "category", "confidence", "abstained", "alternatives", "stage"],
    "properties": {
        "id": {"type": "string"},
        "category": {"type": "string"},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "abstained": {"type": "boolean"},
        "alternatives": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "array",
                "prefixItems": [{"type": "string"}, {"type": "number", "minimum": 0}],
                "minItems": 2,
                "maxItems": 2,
            },
        },
        "stage": {"enum": ["head", "model"]},
    },
}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} my password is wrong, write to anna.keller@example.com"
TICKETS = (
    ("T1", "Password forgotten", "I forgot my password and cannot sign in", "password_reset", "en"),
    ("T2", "", "VPN Verbindung bricht ständig ab", "vpn", "de"),
    ("T3", "Refund", "Je veux être remboursé, j'ai été débité deux fois", "refund", "fr"),
    ("T4", "", "¿Dónde está mi pedido? Quiero el seguimiento del envío", "order_status", "es"),
    ("T5", "Lunch", "what is on the canteen's menu today", "oos", "en"),
    ("T6", "Printer", "the printer on floor 3 prints blank pages", "hardware", "en"),
    ("T7", "Invoice", "please send me a copy of the invoice of March", "invoice", "en"),
    ("T8", "", HOSTILE, "refund", "en"),  # a wrong label
    ("T9", "", "login to mail on the phone fails since the new contract", "sign_in_failure", "en"),
    ("T10", "", "Quarterly tea order", "facilities", "en"),  # a type that the model does not know
    ("T11", "VPN", "the tunnel to the head office drops every ten minutes", None, "en"),  # no label
    ("T12", "MFA", "new phone, the authenticator app has no codes any more", "mfa_reset", "en"),
    ("T13", "", "VPN Verbindung bricht ständig ab!", "vpn", "de"),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "tickets.jsonl"
    fields = ("id", "subject", "description", "category", "language")
    rows = [{k: v for k, v in zip(fields, ticket, strict=True) if v is not None} for ticket in TICKETS]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def find() -> Callable[[str], Path]:
    registry = Registry(Path("nowhere"))
    return lambda name: registry.find(name).folder


@pytest.fixture(scope="module")
def predictor(find: Callable[[str], Path]) -> Predictor:
    return open_predictor(find("triage"), find=find)


@pytest.fixture(scope="module")
def evaluated(predictor: Predictor, file: Path) -> tuple[tuple[Classification, ...], dict[str, Any]]:
    learned = Learned(
        texts=["vpn verbindung bricht ständig ab", "passwort vergessen", "where is my parcel", "refund please"],
        labels=["vpn", "password_reset", "order_status", "refund"],
        fitted=np.array([True, True, True, True]),
        origin="four tickets",
        kept=True,
    )
    exam = read_exam(file)
    redact = redactor(exam.rows)
    done = Evaluator(predictor=predictor, learned=learned, redact=redact, incumbent_note="no model is live").evaluate(exam)
    assert done.report is not None
    report = json.loads(json.dumps(dict(done.report), allow_nan=False))  # as it is written: plain JSON, no NaN
    report["file"] |= {"name": file.name, "sha256": "0" * 64}
    return done.found, report


# --- the file -----------------------------------------------------------------------------------------------------------


def test_labels_are_read_with_out_of_scope_and_without(file: Path) -> None:
    exam = read_exam(file)
    assert exam.labels[4] == OTHERS and exam.labels[10] is None and exam.unlabeled() == 1
    assert exam.unknown(["vpn", "refund"])["facilities"] == 1
    assert exam.judged(["vpn"]).tolist() == [1, 4, 12]
    assert exam.texts[0] == "Password forgotten\nI forgot my password and cannot sign in"


def test_spelling_does_not_part_a_label_from_its_type(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("description,category\na,VPN \nb,vpn\nc,Order  Status\nd,OOS\n")
    assert read_exam(path).spelled_as(["vpn", "order status"]).labels == ("vpn", "vpn", "order status", OTHERS)


def test_another_label_may_mean_out_of_scope(file: Path) -> None:
    exam = read_exam(file, others_label="facilities", limit=10)
    assert exam.labels[9] == OTHERS and exam.labels[4] == "oos" and len(exam) == 10 and exam.rows_of_file == 13


# --- predictions --------------------------------------------------------------------------------------------------------


def test_every_row_has_its_prediction_line_in_order(evaluated: tuple[Any, Any], file: Path, tmp_path: Path) -> None:
    found, _ = evaluated
    path = tmp_path / "out.jsonl"
    write_predictions(path, [row.id for row in read_exam(file).rows], found)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [ticket[0] for ticket in TICKETS]
    for line in lines:
        jsonschema.validate(line, PREDICTION)
        assert sum(p for _, p in line["alternatives"]) <= 1 and line["alternatives"][0][0] == line["category"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_prediction_says_what_the_desk_would_say(predictor: Predictor) -> None:
    """The same cascade, the same prompts; a ticket that the head is not sure of reaches the model."""
    texts = ["VPN Verbindung bricht ständig ab", "login to mail on the phone fails since the new contract"]
    vectors = predictor.embed(texts)
    sure, unsure = predictor.classify(texts, vectors)
    assert (sure.category, sure.stage) == ("vpn", "head") and unsure.stage == "model" and unsure.model == predictor.name
    alone = predictor.head_alone().classify(texts, vectors)
    assert {each.stage for each in alone} == {"head"} and alone[0] == sure


def test_scores_do_not_depend_on_who_is_asked_beside(predictor: Predictor) -> None:
    """Packing behind a shared prefix is a matter of speed: bfloat16 rounding is all that differs."""
    model, codes = predictor.cascade.language_model, predictor.cascade.taxonomy.codes
    assert model is not None
    prefix = predictor.cascade.taxonomy.prefix()
    asked = [
        ScoreRequest(prompt=f"{prefix}{text}\nType:\n", options=codes)
        for text in ("vpn drops", "where is my order? " * 9, "refund")
    ]
    together = [each.logprobs for each in model.score(asked, model="x")]
    apart = [model.score([request], model="x")[0].logprobs for request in asked]
    assert np.abs(np.array(together) - np.array(apart)).max() < 0.2
    assert [np.argmax(each) for each in together] == [np.argmax(each) for each in apart]


def test_prompts_are_split_where_they_part_at_the_end_of_a_line() -> None:
    prompts = ["Answer.\nA vpn\nTicket:\nthe VPN\nType:\n", "Answer.\nA vpn\nTicket:\nthe mail\nType:\n"]
    assert split_shared(prompts) == ("Answer.\nA vpn\nTicket:\n", ["the VPN\nType:\n", "the mail\nType:\n"])
    assert split_shared(prompts[:1])[1] == ["Type:\n"] and split_shared(["one", "two"]) == ("", ["one", "two"])
    assert split_shared([prompts[0], prompts[0]])[1] == ["Type:\n"] * 2  # the same ticket twice: something must be left to read


# --- the report ---------------------------------------------------------------------------------------------------------


def test_the_report_holds_every_comparison(evaluated: tuple[Any, Any]) -> None:
    _, report = evaluated
    assert report["schema_version"] == 1 and report["file"]["judged"] == 11 and report["file"]["unknown_types"] == {"facilities": 1}
    assert report["cascade"]["accuracy"]["of"] == 11 and report["cascade"]["accuracy"]["value"] >= 0.7
    assert [each["name"] for each in report["baselines"]["figures"]] == ["TF-IDF + linear", "embedding + linear"]
    assert report["baselines"]["fitted_on"] == "four tickets"
    assert report["model_part"]["asked"] >= 1 and report["model_part"]["model_alone"]["tickets"] == report["model_part"]["asked"]
    assert {row["value"] for row in report["slices"]["language"]} == {"de", "en", "es", "fr"}
    assert report["circumstances"]["tickets_per_s"] > 0
    assert len(findings(report)) >= 7


def test_what_the_model_was_fitted_on_is_reported_apart(evaluated: tuple[Any, Any]) -> None:
    seen = evaluated[1]["seen"]
    assert seen["examples"] == ["T2", "T13"] and seen["accuracy_unseen"]["of"] == 9
    assert any("near-copies" in found.says and found.tone == "stop" for found in findings(evaluated[1]))


def test_personal_data_is_in_no_report_and_its_effect_is_told(evaluated: tuple[Any, Any]) -> None:
    _, report = evaluated
    assert "anna.keller" not in json.dumps(report) and "<EMAIL_1>" in json.dumps(report["errors"])
    assert report["redaction"]["with_personal_data"] >= 1 and report["redaction"]["applied_before_prediction"] is False


def test_the_wrong_label_is_suspected(evaluated: tuple[Any, Any]) -> None:
    assert "T8" in [row["id"] for row in evaluated[1]["errors"]]


class Reader(HTMLParser):
    """Tags and addresses that a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [f"{key}={value}" for key, value in attrs if key in ("src", "href", "action") or key.startswith("on")]


def test_the_page_loads_nothing_and_a_tickets_text_is_inert(evaluated: tuple[Any, Any]) -> None:
    html = page(evaluated[1])
    reader = Reader()
    reader.feed(html)
    assert "svg" in reader.tags and not reader.tags & {"script", "img", "iframe", "link", "object"} and not reader.loads
    assert (
        "&lt;script&gt;alert(1)" in html and "{{ 7*7 }}" in html and "49" not in re.findall(r"onerror=alert\(2\)&gt; (\S+)", html)
    )
    assert (
        "url(" not in html and "@import" not in html and "default-src &#39;none&#39;" not in html and "default-src 'none'" in html
    )


# --- the command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])

    return invoke


def test_the_command_writes_report_page_and_predictions(run: Callable[..., Result], file: Path, tmp_path: Path) -> None:
    """Beside the model that is live: itself, here."""
    report, lines = tmp_path / "r.json", tmp_path / "p.jsonl"
    done = run(
        "--model", "live", "--tickets", file, "--json", report, "--predictions", lines, "--no-baselines", "--min-accuracy", 0.5
    )
    assert done.exit_code == 0, (done.output, done.exception)
    record = json.loads(report.read_text())
    assert record["file"]["name"] == "tickets.jsonl" and record["incumbent"]["why_not"] == "it is the evaluated model itself"
    assert record["baselines"]["why_not"] and len(lines.read_text().splitlines()) == 13
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert "cascade" in done.output and "acted on" in done.output


def _worse_model(home: Path) -> None:
    """The bundled model with the head's classes turned by one place: wrong about nearly everything."""
    folder = home / "models" / "new"
    shutil.copytree(STORE / ADAPTER, folder)
    tensors = load_file(folder / "head.safetensors")
    turned = {name: np.roll(t, 1, axis=-1) if "weights" in name or name in ("dense", "bias") else t for name, t in tensors.items()}
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in turned.items()}, folder / "head.safetensors")
    manifest = write(folder, name="worse", kind=Kind.ADAPTER, base=read(STORE / ADAPTER).base)
    folder.rename(home / "models" / manifest.full_name)


@pytest.mark.parametrize(("model", "incumbent", "verdict"), [("triage", "worse", "better"), ("worse", "triage", "worse")])
def test_what_is_worse_than_the_incumbent_is_said_to_be_worse(
    run: Callable[..., Result], file: Path, tmp_path: Path, model: str, incumbent: str, verdict: str
) -> None:
    _worse_model(tmp_path / "home")
    report = tmp_path / "r.json"
    done = run("--model", model, "--incumbent", incumbent, "--tickets", file, "--json", report, "--no-model", "--no-baselines")
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(report.read_text())["incumbent"]
    assert found["name"].startswith(f"{incumbent}@") and found["tickets"] == 11
    assert found["comparison"]["accuracy"]["verdict"] == verdict
    assert f"Beside the incumbent {incumbent}" in done.output


def test_a_floor_that_is_not_reached_is_exit_code_1(run: Callable[..., Result], file: Path) -> None:
    done = run("--model", "triage", "--tickets", file, "--no-model", "--no-baselines", "--min-accuracy", 1.0)
    assert done.exit_code == 1 and "is below the 100.0%" in done.output


def test_a_file_without_labels_is_predicted_and_not_judged(run: Callable[..., Result], tmp_path: Path) -> None:
    plain, lines = tmp_path / "plain.csv", tmp_path / "p.jsonl"
    plain.write_text("id,description\na,VPN drops\nb,where is my order\n")
    done = run("--model", "triage", "--tickets", plain, "--predictions", lines, "--no-model", "--json", tmp_path / "r.json")
    assert done.exit_code == 0 and "predictions only" in done.output and len(lines.read_text().splitlines()) == 2
    assert not (tmp_path / "r.json").exists()


def test_what_cannot_be_evaluated_is_said_in_a_sentence(run: Callable[..., Result], file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("description,category\nfoo,red\nbar,blue\n")
    for arguments, error, words in (
        (("--model", "triage", "--tickets", other, "--no-model"), BadInput, "None of the file's types is one of the model's"),
        (("--model", "nobody", "--tickets", file), NotFound, "nobody"),
        (("--model", "canary", "--tickets", file), NotFound, "No model is canary"),
        (("--model", "triage", "--tickets", tmp_path / "gone.csv"), BadInput, "There is no file"),
        (("--model", "triage", "--tickets", file, "--json", tmp_path / "no/r.json"), BadInput, "There is no folder"),
        (("--model", "triage", "--tickets", file, "--served", "http://127.0.0.1:9"), BadInput, "CLOISTER_API_KEY"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, error) and words in str(done.exception), (arguments, done.exception)
