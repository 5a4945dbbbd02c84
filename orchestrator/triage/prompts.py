"""The prompt of a closed choice. Knows how options and a ticket are written down; knows nothing of models or tokens' ids.

The same functions write the prompts for training and for serving. Everything that requests share comes first (instruction
and options), the ticket last, and the prompt ends exactly where the option's code would come, so that one forward pass
gives the log-probability of every code and the prefix cache carries the options.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

CODES: tuple[str, ...] = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789#@")
"""64 codes; each is one token in every byte-level vocabulary, also at the start of a line, where the prompt ends."""

TRIAGE_INSTRUCTION = "Answer with the code of the type that fits the ticket."
RERANK_INSTRUCTION = "Compare the ticket with the examples. Answer with the code of the type that fits the ticket."
STEP_INSTRUCTION = (
    "Steps that can be taken to solve the ticket. Only those listed under Open can be taken now. "
    "Choose from what was observed which of them most likely solves it. Answer with its code."
)
OBSERVED_CHARS = 160  # of one observation shown beside the steps
MAX_OBSERVATIONS = 12  # the newest
EXAMPLE_CHARS = 140  # of a labeled ticket shown beside a candidate
WINDOW_CHARS = 1000  # of a ticket the model sees this much: what people want stands at the start, the newest sentence at the end
WINDOW_TAIL_CHARS = 300

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u2028\u2029\ufeff]")
_SPECIAL = re.compile(r"<\|(.{0,40}?)\|>")  # a ticket must not be able to write our vocabulary's special tokens
_SPACES = re.compile(r"[ \t\u00a0]+")
_BREAKS = re.compile(r" ?\n[ \n]*")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One thing that may be chosen."""

    code: str  # a single token, see CODES
    name: str
    means: str = ""


def window(text: str, *, chars: int = WINDOW_CHARS, tail_chars: int = WINDOW_TAIL_CHARS) -> str:
    """What the model sees of a text: one line break at most, no control characters, head and tail of what is too long."""
    text = _SPECIAL.sub(r"<\1>", _CONTROL.sub(" ", text.replace("\r\n", "\n")))
    text = _BREAKS.sub("\n", _SPACES.sub(" ", text)).strip()
    if len(text) <= chars:
        return text
    return f"{text[: chars - tail_chars].rstrip()} ... {text[-tail_chars:].lstrip()}"


def choice_prefix(instruction: str, options: Sequence[Option]) -> str:
    """The part that all requests with these options share."""
    lines = [
        f"{option.code} {option.name}: {option.means}" if option.means else f"{option.code} {option.name}" for option in options
    ]
    return "\n".join([instruction, *lines, "Ticket:", ""])


def choice_suffix(text: str, *, chars: int = WINDOW_CHARS) -> str:
    """The part of one request: the ticket, then the line where the code comes."""
    return f"{window(text, chars=chars, tail_chars=min(WINDOW_TAIL_CHARS, chars // 3)) or '(empty)'}\nType:\n"


def candidate(code: str, name: str, examples: Sequence[str]) -> Option:
    """A candidate of a re-ranking: its name and some labeled tickets of that type, the most alike first."""
    shown = (window(text, chars=EXAMPLE_CHARS, tail_chars=EXAMPLE_CHARS // 3).replace("\n", " ") for text in examples)
    return Option(code=code, name=name.replace("_", " "), means=" | ".join(text for text in shown if text))


def rerank_prefix() -> str:
    """The part that all re-ranking requests share; candidates differ from ticket to ticket and come behind it."""
    return f"{RERANK_INSTRUCTION}\n"


def rerank_suffix(candidates: Sequence[Option], text: str, *, chars: int = WINDOW_CHARS) -> str:
    """The part of one re-ranking request. `rerank_prefix() + rerank_suffix(c, t)` equals `choice_prompt(RERANK_INSTRUCTION, c, t)`."""
    return choice_prompt(RERANK_INSTRUCTION, candidates, text, chars=chars).removeprefix(rerank_prefix())


def choice_prompt(instruction: str, options: Sequence[Option], text: str, *, chars: int = WINDOW_CHARS) -> str:
    """A whole prompt of a closed choice among `options` for one ticket."""
    return choice_prefix(instruction, options) + choice_suffix(text, chars=chars)


def next_step_prompt(steps: Sequence[Option], open_codes: Sequence[str], observed: Sequence[str], text: str) -> str:
    """A whole prompt of a closed choice among the steps of a loop: all of its steps first, so that every ticket and every turn
    shares them; then which of them are open and what was observed so far, as data; the ticket last. Bounded in length."""
    lines = [f"{step.code} {step.name}: {step.means}" for step in steps]
    seen = [window(each, chars=OBSERVED_CHARS, tail_chars=OBSERVED_CHARS // 3).replace("\n", " ") for each in observed]
    parts = [STEP_INSTRUCTION, *lines, f"Open: {', '.join(open_codes)}", "Observed:"]
    parts += [f"- {each}" for each in seen[-MAX_OBSERVATIONS:] if each]
    return "\n".join([*parts, "Ticket:", window(text) or "(empty)", "Step:", ""])
