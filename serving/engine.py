"""vLLM in this process: scores closed choices, generates text, holds LoRA adapters. Knows prompts and models; no tickets, no Ray.

No route of vLLM's own HTTP server exists. What a caller may set is bounded here (`GenerationParams`): no templates, schemas, media,
log-probabilities or unlimited stop conditions ever reach vLLM, because one request can spoil its neighbors or end the engine.
"""

import asyncio
import hashlib
import itertools
import math
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.domain.errors import AdapterMissing, BadInput, Busy, CloisterError, ConfigurationError, ModelUnavailable
from orchestrator.ports import ScoreRequest, ScoreResult
from serving.adapters import AdapterTable, DesiredAdapter, ServedAdapter, Verify, verify_manifest
from serving.platform import Capability, capability, phone_home_problems, switch_off_phone_home

T = TypeVar("T")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM accepts as max_lora_rank
MAX_OPTIONS = 64
LOOPBACK_ONLY = {"VLLM_HOST_IP": "127.0.0.1", "VLLM_LOOPBACK_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
"""Between the engine's own processes; without these vLLM asks the system for the machine's outward address."""
PROBE = "Answer with one letter. Type:"  # shorter than a block of the prefix cache: always computed
PROBE_TOLERANCE = 0.25  # between two probes of one adapter; batches of other shapes move bf16 results by about 0.01
TAIL_TOKENS = 64  # kept when an overlong prompt is cut: the words that ask for the answer


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How one replica serves one base model."""

    name: str  # of the base, as callers ask for it
    path: Path  # verified local folder: safetensors, config, tokenizer
    dtype: str = "auto"  # "auto": what the hardware multiplies natively
    max_model_len_tokens: int = 2048
    max_batched_tokens: int = 4096  # per step, all requests together
    max_sequences: int = 128  # per step
    block_size_tokens: int = 32  # 128 caches 71 % of a 360-token prefix, 32 caches 98 %; 16 does not start on CPUs
    kv_cache_bytes: int | None = 1 << 30  # on CPUs; None leaves it to vLLM (GPUs: gpu_memory_utilization)
    gpu_memory_utilization: float = 0.9
    max_adapters: int = 4  # served at the same time, each pinned
    max_lora_rank: int = 32
    adapter_linger_s: float = 30.0  # what nobody wants any more is served so long: callers ask by the name that they know
    broken_again_after_s: float = 10.0  # an adapter that could not be loaded is not tried again before
    max_in_flight: int = 1024  # requests inside the engine; beyond that callers get Busy
    max_generated_tokens: int = 512
    stalled_after_s: float = 120.0  # requests wait and nothing has come out for so long: unhealthy
    seed: int = 0

    def problems(self) -> list[str]:
        """Every contradiction, as sentences."""
        checks = (
            (self.path.is_dir(), f"path {self.path} is not a folder: import the model first."),
            (self.max_lora_rank in RANKS, f"max_lora_rank is {self.max_lora_rank}, must be one of {RANKS}."),
            (self.block_size_tokens % 32 == 0, f"block_size_tokens is {self.block_size_tokens}, must be a multiple of 32."),
            (1 <= self.max_adapters <= 64, f"max_adapters is {self.max_adapters}, must be 1..64."),
            (self.max_model_len_tokens >= 4 * TAIL_TOKENS, f"max_model_len_tokens is {self.max_model_len_tokens}, must be >= 256."),
            (0 < self.gpu_memory_utilization < 1, f"gpu_memory_utilization is {self.gpu_memory_utilization}, must be in (0, 1)."),
        )
        return [message for fine, message in checks if not fine]


@dataclass(frozen=True, kw_only=True)
class GenerationParams:
    """All that a caller may set when text is generated."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()  # at most 4, of at most 64 characters
    seed: int | None = None

    def check(self, *, max_tokens: int) -> None:
        checks = (
            (1 <= self.max_tokens <= max_tokens, f"max_tokens is {self.max_tokens}, must be 1..{max_tokens}."),
            (0 <= self.temperature <= 2, f"temperature is {self.temperature}, must be 0..2."),
            (0 < self.top_p <= 1, f"top_p is {self.top_p}, must be in (0, 1]."),
            (
                len(self.stop) <= 4 and all(1 <= len(s) <= 64 for s in self.stop),
                "stop may hold at most 4 strings of 1..64 characters.",
            ),
            (self.seed is None or 0 <= self.seed < 2**63, f"seed is {self.seed}, must be 0..2^63-1."),
        )
        problems = [message for fine, message in checks if not fine]
        if problems:
            raise BadInput(" ".join(problems))


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of generated text, as it comes."""

    text: str
    model: str  # what answers: the base's name, or the adapter's with its digest
    finish_reason: str | None = None  # "stop" or "length" on the last piece
    prompt_tokens: int = 0
    completion_tokens: int = 0  # so far


@dataclass(frozen=True, kw_only=True)
class Completion:
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    model: str


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What an adapter really answered to the fixed question, through the engine."""

    logprobs: tuple[float, ...]  # of the letters
    at: datetime

    @property
    def digest(self) -> str:
        """16 hexadecimal digits: two adapters of one base differ in it."""
        return hashlib.sha256(" ".join(f"{value:.2f}" for value in self.logprobs).encode()).hexdigest()[:16]


@dataclass(kw_only=True)
class Counters:
    """Since start; read by `status` and the metrics."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of prompt_tokens, taken from the prefix cache
    completion_tokens: int = 0
    prompts_cut: int = 0
    refused_busy: int = 0
    last_output_at: float = field(default_factory=time.monotonic)


class Engine:
    """One vLLM engine. All methods belong to the event loop in which `start` was awaited."""

    def __init__(self, config: EngineConfig, llm: Any, *, machine: Capability, verify: Verify) -> None:
        self.config = config
        self.adapters = AdapterTable(base=config.name, limit=config.max_adapters)
        self.counters = Counters()
        self.probe: Mapping[str, Any] = {}
        self._llm = llm
        self._machine = machine
        self._verify = verify
        self._tokenizer = llm.get_tokenizer()
        self._tokenizer_thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
        self._option_ids: dict[tuple[str, ...], list[int]] = {}
        self._letters: tuple[str, ...] = ()
        self._special = re.compile(
            "|".join(map(re.escape, set(self._tokenizer.all_special_tokens) | set(self._tokenizer.get_added_vocab())))
        )
        self._ids = itertools.count(1)
        self._in_flight = 0
        self._changing_adapters = asyncio.Lock()
        self._desired: dict[str, DesiredAdapter] = {}  # by alias
        self._probes: dict[str, Probe] = {}  # by adapter
        self._failed: dict[tuple[str, Path], tuple[float, str]] = {}  # when, why
        self._unwanted_since: dict[str, float] = {}
        self._suspect: dict[str, str] = {}  # served, and no longer what was loaded
        self._held: dict[str, str] = {}  # what an alias stood for until it broke
        self._ready = False

    # --- life -------------------------------------------------------------------------------------------------------

    @classmethod
    async def start(cls, config: EngineConfig, *, verify: Verify | None = None) -> "Engine":
        """Verify the base, start vLLM, prove that our plugin is at work in it, warm up. Takes 20-30 s on two cores.

        `verify` checks every model before it is loaded, the base and each adapter; by default against the models' manifests.

        Raises ConfigurationError with every problem found, or what `verify` raises.
        """
        switch_off_phone_home()
        problems = config.problems() + phone_home_problems()
        if problems:
            raise ConfigurationError(" ".join(problems))
        verify = verify or partial(verify_manifest, base=config.path)
        verify(config.name, config.path)
        machine = capability()
        engine = cls(config, _start_vllm(config, machine), machine=machine, verify=verify)
        try:
            await engine._prove_plugin()
            await engine._warm_up()
        except BaseException:
            engine.shutdown()
            raise
        engine._ready = True
        return engine

    def shutdown(self) -> None:
        """End vLLM's processes. Safe to call twice."""
        self._ready = False
        self._tokenizer_thread.shutdown(wait=False)
        llm, self._llm = self._llm, _Ended()
        llm.shutdown(timeout=3)  # whoever calls has let the requests end; what is left is vLLM taking leave of itself

    async def _prove_plugin(self) -> None:
        (self.probe,) = await self._llm.collective_rpc("cloister_probe")
        if self._machine.device == "cpu" and list(self.probe["lora"]) != ["GroupedPunicaWrapper"]:
            raise ConfigurationError(
                f"vLLM runs its own CPU LoRA operations ({self.probe['lora']}), which answer base requests with an adapter.",
                hint="Install the distribution, so that its vllm.general_plugins entry point is found; leave VLLM_PLUGINS unset.",
            )

    async def _warm_up(self) -> None:
        """One scored, one greedy and one sampled request: what is compiled or allocated on first use is paid here."""
        self._letters = self._single_token_letters()
        await self.score([ScoreRequest(prompt="Warm-up.", options=self._letters)] * 2, model=self.config.name)
        for params in (GenerationParams(max_tokens=2), GenerationParams(max_tokens=2, temperature=0.7, top_p=0.9, seed=1)):
            await self.generate(["Warm-up."], params, model=self.config.name)
        self.counters = Counters()

    def _single_token_letters(self) -> tuple[str, ...]:
        letters = [c for c in "ABCDEFGHIJ" if len(self._tokenizer.encode(c, add_special_tokens=False)) == 1]
        if len(letters) < 2:
            raise ConfigurationError(
                f"The tokenizer of {self.config.name} has no single token for capital letters, so options cannot be scored.",
                hint="Serve a model whose tokenizer has them (every byte-level BPE does).",
            )
        return tuple(letters)

    # --- health -----------------------------------------------------------------------------------------------------

    def check_health(self) -> None:
        """Raises ModelUnavailable when the engine process died, or when requests wait and nothing comes out."""
        if self._llm.errored:
            raise ModelUnavailable(
                f"The engine of {self.config.name} has died.", hint="Serve restarts the replica; work waits meanwhile."
            )
        silent_s = time.monotonic() - self.counters.last_output_at
        if self._in_flight and silent_s > self.config.stalled_after_s:
            raise ModelUnavailable(
                f"The engine of {self.config.name} has {self._in_flight} requests and gave nothing for {silent_s:.0f} s.",
                hint="Serve restarts the replica.",
            )

    def status(self) -> dict[str, Any]:
        """What this replica really serves, and its counters since start."""
        counters = asdict(self.counters)
        del counters["last_output_at"]
        return {
            "base": self.config.name,
            "models": self.adapters.models(),
            "adapters": sorted(self.adapters.served),
            "aliases": self.adapters.aliases,
            "alias_health": self.alias_health(),
            "ready": self._ready and not self._llm.errored,
            "in_flight": self._in_flight,
            "cached_share": self.counters.cached_tokens / max(1, self.counters.prompt_tokens),
            "engine": dict(self.probe),
            "max_model_len_tokens": self.config.max_model_len_tokens,
            **counters,
        }

    def alias_health(self) -> dict[str, dict[str, Any]]:
        """By alias: {desired, healthy, answers_with, probe, probed_at, problem}. What answers was asked, not looked up."""
        health = {}
        for alias in sorted({*self._desired, *self.adapters.aliases, *self.adapters.broken}):
            name, desired = self.adapters.aliases.get(alias), self._desired.get(alias)
            probe = self._probes.get(name or "")
            health[alias] = {
                "desired": desired.name if desired else name,
                "healthy": name is not None,
                "answers_with": name,
                "probe": probe.digest if probe else None,
                "probed_at": probe.at.isoformat(timespec="seconds") if probe else None,
                "problem": self.adapters.broken.get(alias, ""),
            }
        return health

    # --- scoring ----------------------------------------------------------------------------------------------------

    async def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        """Log-probability of every option's token at the end of its prompt, one forward pass each.

        Prompts are tokenized with the tokenizer's special tokens, as training and vLLM's own `LLM` do. An overlong prompt keeps its
        beginning and its last tokens. Raises AdapterMissing, ModelUnavailable, Busy, BadInput.
        """
        with self.adapters.using(model) as adapter, self._admitted(len(requests)):
            option_ids = [self._ids_of(request.options) for request in requests]
            prompts = await self._tokenize([request.prompt for request in requests])
            lora = _lora_request(adapter)
            rows: list[tuple[float, ...]] = await _all(
                self._score_one(ids, options, lora) for ids, options in zip(prompts, option_ids, strict=True)
            )
        return [ScoreResult(logprobs=row, model=self._name(adapter)) for row in rows]

    async def _score_one(self, ids: list[int], option_ids: list[int], lora: Any) -> tuple[float, ...]:
        from vllm import SamplingParams

        params = SamplingParams(
            max_tokens=1, temperature=0, logprob_token_ids=option_ids, detokenize=False, output_kind=_final_only()
        )
        outputs = [output async for output in self._stream(self._cut(ids), params, lora)]
        found = outputs[-1].outputs[0].logprobs[0]
        row = tuple(found[token].logprob for token in option_ids)
        if not all(map(math.isfinite, row)):
            await self._llm.collective_rpc("cloister_mend_cache")  # before its blocks go to another request
            raise ModelUnavailable(
                f"{self.config.name} gave a log-probability that is not a number.", hint="Its weights are damaged."
            )
        return row

    def _ids_of(self, options: tuple[str, ...]) -> list[int]:
        ids = self._option_ids.get(options)
        if ids is None:
            if len(self._option_ids) > 10_000:
                self._option_ids.clear()
            ids = self._option_ids[options] = self._check_options(options)
        return ids

    def _check_options(self, options: tuple[str, ...]) -> list[int]:
        if not 2 <= len(options) <= MAX_OPTIONS:
            raise BadInput(f"{len(options)} options were given, must be 2..{MAX_OPTIONS}.", hint="Score the best candidates only.")
        ids = []
        for option in options:
            encoded = self._tokenizer.encode(option, add_special_tokens=False)
            if len(encoded) != 1 or encoded[0] == self._tokenizer.unk_token_id:
                raise BadInput(
                    f"The option {option!r} is {len(encoded)} tokens of {self.config.name}'s tokenizer, must be exactly one.",
                    hint="Use single letters as codes.",
                )
            ids.append(encoded[0])
        if len(set(ids)) != len(ids):
            raise BadInput(f"Two of the options {options} are the same token.", hint="Give every option a code of its own.")
        return ids

    def _cut(self, ids: list[int]) -> list[int]:
        room = self.config.max_model_len_tokens - 1
        if len(ids) <= room:
            return ids
        self.counters.prompts_cut += 1
        return ids[: room - TAIL_TOKENS] + ids[-TAIL_TOKENS:]

    # --- generation -------------------------------------------------------------------------------------------------

    async def generate(self, prompts: Sequence[str], params: GenerationParams, *, model: str) -> list[Completion]:
        """Complete every prompt. Raises AdapterMissing, ModelUnavailable, Busy, BadInput (also for an overlong prompt)."""
        return await _all(self._complete(prompt, params, model) for prompt in prompts)

    async def _complete(self, prompt: str, params: GenerationParams, model: str) -> Completion:
        pieces = [piece async for piece in self.complete(prompt, params, model=model)]
        return Completion(
            text="".join(piece.text for piece in pieces),
            finish_reason=pieces[-1].finish_reason or "stop",
            prompt_tokens=pieces[-1].prompt_tokens,
            completion_tokens=pieces[-1].completion_tokens,
            model=pieces[-1].model,
        )

    async def chat(self, messages: Sequence[Mapping[str, str]], params: GenerationParams, *, model: str) -> AsyncIterator[Piece]:
        """Answer a conversation, piece by piece, through the model's own template. `messages`: {role, content}, both text."""
        async for piece in self.complete(self._conversation(messages), params, model=model, special_tokens=False):
            yield piece

    async def complete(
        self, prompt: str, params: GenerationParams, *, model: str, special_tokens: bool = True
    ) -> AsyncIterator[Piece]:
        """Continue a prompt, piece by piece. Leaving the iterator early aborts the request."""
        params.check(max_tokens=self.config.max_generated_tokens)
        with self.adapters.using(model) as adapter, self._admitted(1):
            (ids,) = await self._tokenize([prompt], special_tokens=special_tokens)
            room = self.config.max_model_len_tokens - params.max_tokens
            if not 1 <= len(ids) <= room:
                raise BadInput(
                    f"The prompt has {len(ids)} tokens; {room} fit beside {params.max_tokens} generated ones.",
                    hint="Shorten the prompt.",
                )
            generated, name = 0, self._name(adapter)
            async for output in self._stream(ids, _sampling_params(params), _lora_request(adapter)):
                answer = output.outputs[0]
                generated += len(answer.token_ids)
                self.counters.completion_tokens += len(answer.token_ids)
                yield Piece(
                    text=answer.text,
                    model=name,
                    finish_reason=answer.finish_reason,
                    prompt_tokens=len(ids),
                    completion_tokens=generated,
                )

    def _name(self, adapter: ServedAdapter | None) -> str:
        """What goes into records: the base's name, or the adapter's with its digest."""
        return adapter.name if adapter else self.config.name

    def _conversation(self, messages: Sequence[Mapping[str, str]]) -> str:
        for message in messages:
            if set(message) != {"role", "content"} or message["role"] not in ("system", "user", "assistant"):
                raise BadInput("Every message has a role (system, user or assistant) and a content, and nothing else.")
            if not isinstance(message["content"], str):
                raise BadInput("The content of a message must be text.")
        if not messages:
            raise BadInput("A conversation needs at least one message.")
        spoken = [{"role": message["role"], "content": self._plain(message["content"])} for message in messages]
        if self._tokenizer.chat_template is None:
            return "".join(f"{message['role']}: {message['content']}\n" for message in spoken) + "assistant:"
        try:
            return self._tokenizer.apply_chat_template(spoken, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates raise what they like, e.g. for an unexpected order of roles
            raise BadInput(f"The model's chat template refused the conversation: {error}") from error

    def _plain(self, text: str) -> str:
        """Without the tokenizer's special tokens: a message cannot end itself and speak as somebody else."""
        return self._special.sub(lambda found: found[0][0] + " " + found[0][1:], text) if self._special.pattern else text

    # --- the way to vLLM --------------------------------------------------------------------------------------------

    async def _stream(self, ids: list[int], params: Any, lora: Any) -> AsyncIterator[Any]:
        """The outputs of one request, counted; vLLM's errors become ours here and nowhere else."""
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input

        outputs = self._llm.generate(tokens_input(ids), params, f"c{next(self._ids)}", lora_request=lora)
        first = True
        try:
            async for output in outputs:
                self.counters.last_output_at = time.monotonic()
                if first:
                    self._count(len(ids), output.num_cached_tokens or 0)
                    first = False
                yield output
        except VLLMClientError as error:
            raise BadInput(f"The engine refused the request: {error}") from error
        except CloisterError:
            raise
        except Exception as error:
            raise ModelUnavailable(
                f"The engine of {self.config.name} failed: {type(error).__name__}.", hint="It is restarted; try again in a minute."
            ) from error

    def _count(self, prompt_tokens: int, cached_tokens: int) -> None:
        self.counters.requests += 1
        self.counters.prompt_tokens += prompt_tokens
        self.counters.cached_tokens += cached_tokens

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        """Refuse instead of queueing without bounds, and at once when the engine is gone."""
        if self._llm.errored:
            self.check_health()
        if self._in_flight + count > self.config.max_in_flight:
            self.counters.refused_busy += count
            raise Busy(
                f"{self._in_flight} requests are in the engine; {count} more would pass the limit of {self.config.max_in_flight}.",
                retry_after_s=2,
            )
        if not self._in_flight:
            self.counters.last_output_at = time.monotonic()
        self._in_flight += count
        try:
            yield
        finally:
            self._in_flight -= count

    async def _tokenize(self, prompts: list[str], *, special_tokens: bool = True) -> list[list[int]]:
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(
            self._tokenizer_thread, lambda: self._tokenizer(prompts, add_special_tokens=special_tokens, return_attention_mask=False)
        )
        if not all(encoded["input_ids"]):
            raise BadInput("A prompt is empty.", hint="Give at least one word.")
        return encoded["input_ids"]

    # --- adapters ---------------------------------------------------------------------------------------------------

    async def add_adapter(self, name: str, path: Path) -> None:
        """Verify, load, pin, try out; only then may requests go to it. Adding what is served from there already does nothing.

        Raises Conflict (another path under this name, no place left), BadInput (not the bytes that the name says, or not loadable).
        """
        async with self._changing_adapters:
            adapter = self.adapters.propose(name, path)
            if adapter is not None:
                await asyncio.to_thread(self._verify, name, path)
                await self._load(adapter)
                self.adapters.admit(adapter)

    async def _load(self, adapter: ServedAdapter) -> None:
        try:
            await self._llm.add_lora(_lora_request(adapter))
            await self._llm.pin_lora(adapter.number)
            self._probes[adapter.name] = await self._probe(adapter)
        except Exception as error:
            with suppress(Exception):
                await self._llm.remove_lora(adapter.number)
            self.check_health()
            raise BadInput(
                f"{adapter.name} cannot be loaded onto {self.config.name}: {error}",
                hint=f"It must be a LoRA adapter of this base, rank at most {self.config.max_lora_rank}, without DoRA or bias.",
            ) from error

    async def remove_adapter(self, name: str, *, patience_s: float = 60.0) -> bool:
        """Refuse new requests at once, let those under way finish, then unload. False when it was not served."""
        async with self._changing_adapters:
            adapter = self.adapters.withdraw(name)
            if adapter is None:
                return False
            self._suspect.pop(name, None)
            until = time.monotonic() + patience_s
            while self.adapters.in_use(name) and time.monotonic() < until:
                await asyncio.sleep(0.02)
            if not self.adapters.in_use(name):  # else it stays loaded, unreachable: unloading under a request ends the engine
                await self._llm.remove_lora(adapter.number)
            return True

    async def _probe(self, adapter: ServedAdapter) -> Probe:
        row = await self._score_one(self._tokenizer.encode(PROBE), self._ids_of(self._letters), _lora_request(adapter))
        return Probe(logprobs=row, at=datetime.now(UTC))

    async def probe_again(self) -> list[str]:
        """Ask every served adapter the fixed question once more. One that answers otherwise than when it was loaded loses its aliases.

        Gives what went wrong, as sentences.
        """
        for name in self.adapters.served:
            with suppress(AdapterMissing), self.adapters.using(name) as adapter:
                assert adapter is not None  # a served name is never the base
                first, now = self._probes[name], await self._probe(adapter)
                moved = max(abs(x - y) for x, y in zip(first.logprobs, now.logprobs, strict=True))
                self._probes[name] = replace(first, at=now.at)
                self._suspect.pop(name, None)
                if moved > PROBE_TOLERANCE:
                    self._suspect[name] = f"It answers otherwise than when it was loaded: log-probabilities moved by {moved:.2f}."
        return await self.reconcile(list(self._desired.values()))

    async def reconcile(self, desired: Sequence[DesiredAdapter]) -> list[str]:
        """Serve exactly these adapters under exactly these aliases, as far as possible; gives what went wrong, as sentences.

        A new adapter is loaded and probed before its alias moves; all aliases move at once. An alias whose adapter cannot be served
        stands for nothing: it is refused, never answered by another adapter or the base. What it stood for before is served on by its
        own name. What nobody wants any more is unloaded after `adapter_linger_s`, once its requests have ended.
        """
        wanted = {adapter.name: adapter.path for adapter in desired}
        await self._make_room(set(wanted))
        problems = {name: problem for name, path in wanted.items() if (problem := await self._add_if_whole(name, path))}
        kept = {a.alias: a.previous for a in desired if a.previous and a.name in problems}
        for name, path in kept.values():
            await self._add_if_whole(name, path)
        broken = {a.alias: problems[a.name] for a in desired if a.name in problems}
        before = {alias: name for alias, name in self.adapters.aliases.items() if alias in broken}
        self._desired = {adapter.alias: adapter for adapter in desired}
        sentences = [f"{name}: {problem}" for name, problem in problems.items()]
        try:
            self.adapters.point({a.alias: a.name for a in desired if a.name not in problems}, broken=broken)
        except CloisterError as error:
            sentences.append(str(error))
        self._held = {alias: name for alias, name in (self._held | before).items() if alias in broken}
        keep = {*wanted, *self.adapters.aliases.values(), *(name for name, _ in kept.values()), *self._held.values()}
        await self._remove_what_lingered(keep)
        return sentences

    async def _add_if_whole(self, name: str, path: Path) -> str:
        """Why it cannot be served; empty when it is. One that failed is left alone for a while: checking it reads all of it."""
        if name in self.adapters.served:  # the name stands for its bytes, wherever they lie by now
            return self._suspect.get(name, "")
        failed_at, problem = self._failed.get((name, path), (-math.inf, ""))
        if time.monotonic() - failed_at < self.config.broken_again_after_s:
            return problem
        try:
            await self.add_adapter(name, path)
        except (CloisterError, OSError) as error:
            self._failed[name, path] = time.monotonic(), str(error)
            return str(error)
        self._failed.pop((name, path), None)
        return ""

    async def _make_room(self, wanted: set[str]) -> None:
        """Unload what is neither wanted nor behind an alias, the longest unwanted first, as far as new ones need its place."""
        served = set(self.adapters.served)
        missing = len(wanted - served) - (self.config.max_adapters - len(served))
        idle = served - wanted - set(self.adapters.aliases.values()) - set(self._held.values())
        for name in sorted(idle, key=lambda name: self._unwanted_since.get(name, math.inf))[: max(0, missing)]:
            await self.remove_adapter(name)

    async def _remove_what_lingered(self, keep: set[str]) -> None:
        now, served = time.monotonic(), self.adapters.served
        self._unwanted_since = {name: self._unwanted_since.get(name, now) for name in served if name not in keep}
        for name, since in list(self._unwanted_since.items()):
            if now - since >= self.config.adapter_linger_s and (
                self.config.adapter_linger_s == 0 or not self.adapters.in_use(name)
            ):
                await self.remove_adapter(name)


class _Ended:
    """What stands in vLLM's place after shutdown."""

    errored = True

    def shutdown(self, timeout: float) -> None:
        """Nothing is left to end."""


def _start_vllm(config: EngineConfig, machine: Capability) -> Any:
    os.environ.update(LOOPBACK_ONLY)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**vllm_arguments(config, machine), disable_log_stats=True))


def vllm_arguments(config: EngineConfig, machine: Capability) -> dict[str, Any]:
    """The arguments for vLLM, shared with the benchmark's offline `LLM` so that both run the same engine."""
    return {
        "model": str(config.path),
        "served_model_name": config.name,
        "dtype": machine.dtype if config.dtype == "auto" else config.dtype,
        "max_model_len": config.max_model_len_tokens,
        "max_num_batched_tokens": max(config.max_batched_tokens, config.max_model_len_tokens),
        "max_num_seqs": config.max_sequences,
        "block_size": config.block_size_tokens,
        "kv_cache_memory_bytes": config.kv_cache_bytes if machine.device == "cpu" else None,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "enable_prefix_caching": True,
        "enforce_eager": machine.device == "cpu",
        "enable_lora": True,
        "max_loras": config.max_adapters,
        "max_cpu_loras": config.max_adapters,
        "max_lora_rank": config.max_lora_rank,
        "lora_target_modules": list(PROJECTIONS),
        "worker_extension_cls": "serving.vllm_plugin.EngineProbe",
        "generation_config": "vllm",  # not the model folder's: what callers do not set has our default
        "trust_remote_code": False,
        "load_format": "safetensors",
        "seed": config.seed,
    }


def _lora_request(adapter: ServedAdapter | None) -> Any:
    if adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.name, adapter.number, str(adapter.path))


def _sampling_params(params: GenerationParams) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        stop=list(params.stop),
        seed=params.seed,
        output_kind=RequestOutputKind.DELTA,
    )


def _final_only() -> Any:
    from vllm.sampling_params import RequestOutputKind

    return RequestOutputKind.FINAL_ONLY


async def _all(work: Iterable[Awaitable[T]]) -> list[T]:
    """Gather; on a failure the others end first, then the first error is raised."""
    results: list[Any] = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
