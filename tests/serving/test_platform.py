"""The phone-home switches and the choice of number format."""

import pickle

import pytest

from orchestrator.domain.errors import AdapterMissing, Busy, CloisterError
from serving.platform import PHONE_HOME_OFF, Capability, phone_home_problems, switch_off_phone_home


def test_every_switch_is_set_over_what_an_operator_left_there() -> None:
    environ = {"HF_HUB_OFFLINE": "0"}
    assert len(phone_home_problems(environ)) == len(PHONE_HOME_OFF)
    switch_off_phone_home(environ)
    assert phone_home_problems(environ) == []


def test_bf16_is_chosen_only_where_the_hardware_multiplies_it() -> None:
    assert Capability(device="cpu").dtype == "float32"
    assert Capability(device="cpu", avx512_bf16=True).dtype == "bfloat16"
    assert Capability(device="cpu", amx=True).dtype == "bfloat16"
    assert Capability(device="cuda").dtype == "bfloat16"


@pytest.mark.parametrize("error", [AdapterMissing("gone", hint="load it"), Busy("full", retry_after_s=3)])
def test_errors_survive_the_way_between_processes(error: CloisterError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error) and str(back) == str(error) and back.__dict__ == error.__dict__
