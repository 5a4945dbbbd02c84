"""The house as this moment's batch sees it: directory, telemetry and requesters' profiles, read through the connectors.

Keeps what it read for a short while, so that a batch costs a handful of calls. Knows no ticket and no database.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from orchestrator.domain.directory import Alert, Certificate, Colleague, Deployment, Directory, FreezeWindow, Profile, Service, Site
from orchestrator.domain.resolution import ObservationStatus
from orchestrator.ports import Clock, SystemsOfRecord
from orchestrator.privacy.outgoing import Guard

CATALOG_FRESH = timedelta(seconds=60)
TELEMETRY_FRESH = timedelta(seconds=2)
PROFILE_FRESH = timedelta(seconds=30)
MAX_PROFILES = 10_000  # beyond it those that are no longer fresh are dropped
TELEMETRY = ("monitoring.list_alerts", "monitoring.list_deployments")
T = TypeVar("T")


@dataclass
class House:
    """Reads and caches; an unreachable system leaves what was known before, at first nothing."""

    systems: SystemsOfRecord
    clock: Clock
    pool: ThreadPoolExecutor
    guard: Guard = field(default_factory=Guard)  # told every name that is read, so that no text tells it to somebody else
    _rows: dict[str, tuple[datetime, tuple[Any, ...]]] = field(default_factory=dict)
    _profiles: dict[str, tuple[datetime, Profile]] = field(default_factory=dict)
    _last: Directory = field(default_factory=Directory)

    def directory(self) -> Directory:
        """Services, sites, staff, firing alerts, deployments and freeze windows, each as fresh as its kind needs.

        The same object as before while nothing has changed: what others derived from it stays good.
        """
        found = Directory(
            services=self._read("catalog.services", {}, CATALOG_FRESH, Service.read),
            sites=self._read("catalog.sites", {}, CATALOG_FRESH, Site.read),
            staff=self._read("catalog.staff", {}, CATALOG_FRESH, Colleague.read),
            freeze_windows=self._read("catalog.freeze_windows", {}, CATALOG_FRESH, FreezeWindow.read),
            alerts=self._read("monitoring.list_alerts", {"state": "firing"}, TELEMETRY_FRESH, Alert.read),
            deployments=self._read("monitoring.list_deployments", {}, TELEMETRY_FRESH, Deployment.read),
        )
        if found != self._last:
            self._last = found
            self.guard.know(colleague.name for colleague in found.staff)
        return self._last

    def certificates(self) -> tuple[Certificate, ...]:
        return self._read("monitoring.list_certificates", {}, CATALOG_FRESH, Certificate.read)

    def profiles(self, emails: Iterable[str]) -> dict[str, Profile]:
        """One profile per address; unknown people and unreachable systems give `known=False`."""
        now = self.clock()
        wanted = {email.lower() for email in emails if email}
        missing = [email for email in wanted if email not in self._profiles or now - self._profiles[email][0] > PROFILE_FRESH]
        for email, profile in zip(missing, self.pool.map(self._profile, missing), strict=True):
            if profile is not None:
                self._profiles[email] = (now, profile)
                self.guard.know([profile.name])
        if len(self._profiles) > MAX_PROFILES:
            self._profiles = {email: kept for email, kept in self._profiles.items() if now - kept[0] <= PROFILE_FRESH}
        return {email: self._profiles[email][1] if email in self._profiles else Profile(email=email) for email in wanted}

    def known_names(self, emails: Iterable[str]) -> dict[str, str]:
        """Names on record by address, of those whose profile is at hand; calls nothing."""
        kept = {email.lower(): self._profiles.get(email.lower()) for email in emails}
        return {email: entry[1].name or "" for email, entry in kept.items() if entry}

    def forget(self) -> None:
        """Read telemetry anew next time (after an action changed the world); the catalogue is nothing that we change."""
        for action in TELEMETRY:
            self._rows.pop(action, None)

    def _read(
        self, action: str, arguments: Mapping[str, Any], fresh: timedelta, reader: Callable[[Mapping[str, Any]], T]
    ) -> tuple[T, ...]:
        now = self.clock()
        kept = self._rows.get(action)
        if kept is None or now - kept[0] > fresh:
            observation = self.systems.call(action, arguments)
            if observation.status is ObservationStatus.OK:
                kept = (now, tuple(reader(row) for row in observation.body))
                self._rows[action] = kept
        return kept[1] if kept else ()

    def _profile(self, email: str) -> Profile | None:
        found = self.systems.call("identity.find_user", {"email": email})
        if found.status is not ObservationStatus.OK:
            return None
        if not found.body:
            return Profile(email=email)
        user = found.body[0]
        account = None
        if user.get("account"):
            answer = self.systems.call("billing.get_account", {"account_id": user["account"]})
            account = answer.body if answer.status is ObservationStatus.OK else None
        return Profile.read(email, user, account)
