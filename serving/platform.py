"""What this machine can do and what its libraries must not do. Knows CPU features and environment switches; knows no model.

Nothing is set at import: a process calls `switch_off_phone_home` before it imports a heavy library; then `phone_home_problems` is
empty.
"""

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from types import MappingProxyType

PHONE_HOME_OFF: Mapping[str, str] = MappingProxyType(
    {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_USE_MODELSCOPE": "0",
    }
)
"""Every switch that keeps a library from reporting or fetching. Set in every process of ours, checked at start."""


ONE_MACHINE: Mapping[str, str] = MappingProxyType({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"})
"""Ray on this machine alone: its own switch for desktops makes it use the loopback address instead of probing for the outward one."""


def keep_to_loopback() -> None:
    """In every Ray worker of a local stack: a Serve replica's own gRPC server listens on the loopback address, not on all."""
    from ray.serve._private import replica

    listen = replica.add_port_to_grpc_server
    if getattr(listen, "of_cloister", False):
        return

    def listen_here(server: object, address: str) -> int:
        return listen(server, address.replace("[::]", "127.0.0.1"))

    listen_here.of_cloister = True  # type: ignore[attr-defined]
    replica.add_port_to_grpc_server = listen_here


def switch_off_phone_home(environ: MutableMapping[str, str] | None = None) -> None:
    """Set every switch, over whatever was there: an operator cannot turn reporting on by accident."""
    (os.environ if environ is None else environ).update(PHONE_HOME_OFF)


def phone_home_problems(environ: Mapping[str, str] | None = None) -> list[str]:
    """One sentence for each switch that is not off; empty when all are."""
    found = os.environ if environ is None else environ
    return [
        f"{name} is {found.get(name)!r}, must be {wanted!r}: set it before the process starts."
        for name, wanted in PHONE_HOME_OFF.items()
        if found.get(name) != wanted
    ]


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What the hardware offers to the models."""

    device: str  # "cpu" or "cuda"
    amx: bool = False  # bf16 tiles; the kernel must be asked for them (serving/vllm_plugin.py)
    avx512_bf16: bool = False
    cores: int = 1  # that this process may use

    @property
    def dtype(self) -> str:
        """bfloat16 where the hardware multiplies it natively; elsewhere it would be slower than float32."""
        return "bfloat16" if self.device == "cuda" or self.amx or self.avx512_bf16 else "float32"


def capability() -> Capability:
    """Ask torch about this machine."""
    import torch

    return Capability(
        device="cuda" if torch.cuda.is_available() else "cpu",
        amx=torch.cpu._is_amx_tile_supported(),
        avx512_bf16=torch.cpu._is_avx512_bf16_supported(),
        cores=len(os.sched_getaffinity(0)),
    )
