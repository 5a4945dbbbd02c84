"""What we change inside vLLM's own processes, through its `vllm.general_plugins` door. Loaded by vLLM; knows nothing of Ray.

1. Where the CPU has AMX, asks the kernel for its tiles: vLLM's attention uses them without asking and dies with SIGILL.
2. On the CPU build, replaces the LoRA operations: as shipped they give base requests an adapter (see `serving/lora_cpu.py`).
3. On the CPU build, keeps torch from compiling: it would call a C++ compiler at the first request, which a server may not have.
4. On the CPU build, lets a process that waits for work sleep: vLLM's spins for a second after each request, which under any steady
   traffic takes one core from everything else on the machine.
5. Ends an engine process whose parent was killed, so that a restarted replica never shares the machine with an orphan.

vLLM only logs a plugin that does not load, so the engine asks `EngineProbe` at start whether this one is really at work.
"""

import multiprocessing
import multiprocessing.process
import os
import threading
from multiprocessing.connection import wait
from typing import Any

SPIN_S = 0.002  # longer than the pause between two steps of a busy engine
PUNICA_WRAPPER = "serving.lora_cpu.GroupedPunicaWrapper"


def register() -> None:
    """Entry point; vLLM calls it in every one of its processes, sometimes more than once."""
    _end_with_parent()
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        _init_amx()
        _do_not_compile()
        _sleep_when_idle()
        type(current_platform).get_punica_wrapper = classmethod(lambda cls: PUNICA_WRAPPER)  # type: ignore[assignment,method-assign]


def _init_amx() -> None:
    import torch

    if torch.cpu._is_amx_tile_supported():
        torch.cpu._init_amx()


def _do_not_compile() -> None:
    import torch._dynamo

    torch._dynamo.config.disable = True


def _sleep_when_idle() -> None:
    """Waiting ends by a notification either way; this is the default of its only parameter that has one, `busy_loop_s`."""
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    SpinCondition.__init__.__defaults__ = (SPIN_S,)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    ours = multiprocessing.current_process().name.startswith(("EngineCore", "VllmWorker"))
    if parent is None or not ours or any(thread.name == "cloister-parent" for thread in threading.enumerate()):
        return
    threading.Thread(target=_wait_and_exit, args=(parent,), name="cloister-parent", daemon=True).start()


def _wait_and_exit(parent: multiprocessing.process.BaseProcess) -> None:
    wait([parent.sentinel])  # type: ignore[attr-defined]  # ParentProcess has one; typeshed does not know it
    os._exit(1)


class EngineProbe:
    """Mixed into vLLM's worker (`worker_extension_cls`): says what is really running there, and mends its cache."""

    def cloister_probe(self) -> dict[str, Any]:
        import torch
        from vllm.platforms import current_platform

        runner = self.model_runner  # type: ignore[attr-defined]
        return {
            "pid": os.getpid(),
            "device": current_platform.device_type,
            "dtype": str(runner.model_config.dtype).removeprefix("torch."),
            "lora": _wrapper_names(runner),
            "threads": torch.get_num_threads(),
        }

    def cloister_mend_cache(self) -> None:
        """Zeros for what is no number in the key-value cache. Attention masks what a request does not own by weights of zero, and zero
        times NaN is NaN: one damaged adapter's values would spoil every later request that gets its blocks."""
        import torch

        for cache in self.model_runner.kv_caches:  # type: ignore[attr-defined]
            torch.nan_to_num_(cache, nan=0.0, posinf=0.0, neginf=0.0)


def _wrapper_names(runner: Any) -> list[str]:
    manager = getattr(runner, "lora_manager", None)
    if manager is None:
        return []
    wrappers = manager._adapter_manager.punica_wrapper_mapping.values()
    return sorted({type(wrapper).__name__ for wrapper in wrappers})
