"""Label scoring through Serve handles against vLLM's own offline `LLM`: same prompts, adapter, block size; one run, one ratio.

Both engines stay loaded and take turns with fresh tickets, so that whatever else the machine does hits both. Run:

    python -m tests.benchmarks.bench_scoring [--prompts 256] [--rounds 6] [--batch 64] [--model live|base] [--url URL --key KEY]

`--url` measures POST /v1/score of a running stack beside it. Target: Serve >= 0.90 x offline.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.ports import ScoreRequest
from serving.engine import EngineConfig, vllm_arguments
from serving.platform import capability, switch_off_phone_home
from tests.benchmarks.workload import adapter, circumstances, engine_config, triage_requests

TARGET = 0.90
Score = Callable[[Sequence[ScoreRequest]], list[tuple[float, ...]]]


def offline(config: EngineConfig, *, with_adapter: bool) -> Score:
    """vLLM's `LLM` in this process, all prompts in one call: its best case."""
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    llm = LLM(**vllm_arguments(config, capability()), disable_log_stats=True)
    name, folder = adapter()
    lora = LoRARequest(name, 1, str(folder)) if with_adapter else None
    tokenizer = llm.get_tokenizer()

    def score(requests: Sequence[ScoreRequest]) -> list[tuple[float, ...]]:
        ids = [tokenizer.encode(option, add_special_tokens=False)[0] for option in requests[0].options]
        params = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=ids, detokenize=False)
        outputs = llm.generate([request.prompt for request in requests], params, lora_request=lora, use_tqdm=False)
        return [tuple(output.outputs[0].logprobs[0][token].logprob for token in ids) for output in outputs]

    return score


def through_serve(config: EngineConfig, *, model: str, batch: int, callers: int) -> Score:
    """The deployment, called as the worker calls it: batches from a few threads through the port."""
    import ray
    from ray import serve

    from serving.language_model import LanguageModel, RemoteLanguageModel

    ray.init(num_cpus=4, include_dashboard=False, configure_logging=False, log_to_driver=False)
    serve.start(http_options={"location": "NoServer"}, logging_config={"log_level": "WARNING"})
    name, folder = adapter()
    rows = [{"alias": "live", "name": name, "path": str(folder)}]
    port = RemoteLanguageModel(serve.run(LanguageModel.bind(config, rows), name="bench", route_prefix=None))
    threads = ThreadPoolExecutor(callers)

    def score(requests: Sequence[ScoreRequest]) -> list[tuple[float, ...]]:
        parts = [requests[start : start + batch] for start in range(0, len(requests), batch)]
        return [result.logprobs for part in threads.map(lambda part: port.score(part, model=model), parts) for result in part]

    return score


def over_http(url: str, key: str, *, model: str, batch: int) -> Score:
    """POST /v1/score of a running stack."""
    import httpx

    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120)

    def score(requests: Sequence[ScoreRequest]) -> list[tuple[float, ...]]:
        rows: list[tuple[float, ...]] = []
        for start in range(0, len(requests), batch):
            items = [{"prompt": r.prompt, "options": list(r.options)} for r in requests[start : start + batch]]
            answer = client.post("/v1/score", json={"model": model, "items": items}).raise_for_status().json()
            rows += [tuple(row) for row in answer["logprobs"]]
        return rows

    return score


def timed(score: Score, requests: Sequence[ScoreRequest]) -> tuple[float, list[tuple[float, ...]]]:
    """Requests per second, and the answers."""
    start = time.perf_counter()
    rows = score(requests)
    return len(requests) / (time.perf_counter() - start), rows


def compare(ways: dict[str, Score], *, prompts: int, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Rates per way and round (taking turns, order reversed every other round), and the largest difference of a log-probability."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    furthest = 0.0
    for round_ in range(-1, rounds):  # round -1 warms up
        requests = triage_requests(prompts, seed=round_, first=(round_ + 1) * prompts)
        answers = []
        for way in list(ways) if round_ % 2 else list(reversed(ways)):
            rate, rows = timed(ways[way], requests)
            answers.append(rows)
            if round_ >= 0:
                rates[way].append(rate)
        furthest = max(furthest, *(difference(answers[0], other) for other in answers[1:]))
    return rates, furthest


def difference(one: list[tuple[float, ...]], other: list[tuple[float, ...]]) -> float:
    return max(abs(a - b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256, help="per round and way")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch", type=int, default=64, help="prompts per call, at least 32")
    parser.add_argument("--callers", type=int, default=4, help="threads that call at the same time")
    parser.add_argument("--model", choices=("live", "base"), default="live")
    parser.add_argument("--url", help="a running stack, e.g. http://127.0.0.1:8000")
    parser.add_argument("--key", default="", help="an ml-engineer's key for --url")
    options = parser.parse_args()
    switch_off_phone_home()
    config = engine_config()
    model = "live" if options.model == "live" else config.name
    ways = {
        "offline LLM": offline(config, with_adapter=options.model == "live"),
        "Serve handle": through_serve(config, model=model, batch=options.batch, callers=options.callers),
    }
    if options.url:
        ways["HTTP"] = over_http(options.url, options.key, model=model, batch=options.batch)
    rates, furthest = compare(ways, prompts=options.prompts, rounds=options.rounds)
    report(config, options, rates, furthest)


def report(config: EngineConfig, options: Any, rates: dict[str, list[float]], furthest: float) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(config.path, local_files_only=True)
    lengths = [len(tokenizer.encode(request.prompt)) for request in triage_requests(64, seed=0)]
    print(circumstances(config))
    print(
        f"workload  {options.rounds} rounds of {options.prompts} prompts, {statistics.mean(lengths):.0f} tokens on average,"
        f" {len(triage_requests(1, seed=0)[0].options)} options, model {options.model};"
        f" Serve: {options.callers} callers, {options.batch} prompts per call"
    )
    ratios = {way: ratio(found, rates["offline LLM"]) for way, found in rates.items()}
    for way, found in rates.items():
        spread = f"rounds {min(found):.1f}..{max(found):.1f}"
        print(f"{way:14}{statistics.median(found):8.1f} requests/s   {ratios[way]:5.2f} x offline   ({spread})")
    print(f"largest difference of a log-probability between the ways: {furthest:.4f}")
    met = ratios["Serve handle"] >= TARGET
    print(f"target >= {TARGET:.2f} x: {'met' if met else 'MISSED'} ({ratios['Serve handle']:.2f})")


def ratio(rates: list[float], baseline: list[float]) -> float:
    """Median over the rounds of the quotient within each round."""
    return statistics.median(rate / other for rate, other in zip(rates, baseline, strict=True))


if __name__ == "__main__":
    main()
