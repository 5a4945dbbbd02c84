"""What the desk gave away of late, summed up. Records only: which act, for whom, how much, how often."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Spend:
    """One action for one requester and one account. An act without an answer counts; a refused one counts as a try only."""

    action: str
    requester: str  # e-mail address, lower case
    account: str  # the owner of the record, as its system says; empty where it has none
    amount: float  # within 24 hours
    acts_last_hour: int
    acts_in_window: int  # within the whole window
