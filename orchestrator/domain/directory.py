"""What the desk knows about its own house: services, sites, people, telemetry and the requester's profile.

Records with tolerant readers for the systems' JSON: a missing field is unknown, never guessed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any


def instant(text: str | None) -> datetime | None:
    """ISO 8601 text to an aware instant; None stays None."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _texts(values: Iterable[Any] | None) -> tuple[str, ...]:
    return tuple(str(value) for value in values or ())


@dataclass(frozen=True, kw_only=True)
class Service:
    name: str
    title: str = ""
    aliases: tuple[str, ...] = ()
    tier: int = 3  # 0: the house stands still without it
    owner_group: str | None = None
    regions: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    symptoms: tuple[str, ...] = ()

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Service":
        return cls(
            name=str(row["name"]),
            title=str(row.get("title") or ""),
            aliases=_texts(row.get("aliases")),
            tier=int(row.get("tier", 3)),
            owner_group=row.get("owner_group"),
            regions=_texts(row.get("regions")),
            sites=_texts(row.get("sites")),
            depends_on=_texts(row.get("depends_on")),
            symptoms=_texts(row.get("symptoms")),
        )


@dataclass(frozen=True, kw_only=True)
class Site:
    name: str
    aliases: tuple[str, ...] = ()
    region: str | None = None

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Site":
        return cls(name=str(row["name"]), aliases=_texts(row.get("aliases")), region=row.get("region"))


@dataclass(frozen=True, kw_only=True)
class Colleague:
    email: str
    name: str
    group: str
    skills: tuple[str, ...] = ()
    available: bool = True
    open_tickets: int = 0
    languages: tuple[str, ...] = ()

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Colleague":
        return cls(
            email=str(row["email"]),
            name=str(row.get("name") or row["email"]),
            group=str(row.get("group") or ""),
            skills=_texts(row.get("skills")),
            available=bool(row.get("available", True)),
            open_tickets=int(row.get("open_tickets") or 0),
            languages=_texts(row.get("languages")),
        )


@dataclass(frozen=True, kw_only=True)
class Alert:
    id: str
    service: str
    kind: str
    since: datetime | None
    site: str | None = None
    region: str | None = None
    detail: str = ""
    cleared_by: str | None = None
    firing: bool = True

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Alert":
        return cls(
            id=str(row["id"]),
            service=str(row["service"]),
            kind=str(row.get("kind") or "alert"),
            since=instant(row.get("since")),
            site=row.get("site"),
            region=row.get("region"),
            detail=str(row.get("detail") or ""),
            cleared_by=row.get("cleared_by"),
            firing=row.get("state", "firing") == "firing",
        )


@dataclass(frozen=True, kw_only=True)
class Deployment:
    id: str
    service: str
    version: str
    at: datetime | None
    live: bool = True

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Deployment":
        return cls(
            id=str(row["id"]),
            service=str(row["service"]),
            version=str(row.get("version") or ""),
            at=instant(row.get("at")),
            live=row.get("state", "live") == "live",
        )


@dataclass(frozen=True, kw_only=True)
class Certificate:
    id: str
    service: str
    expires_at: datetime | None

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Certificate":
        return cls(id=str(row["id"]), service=str(row.get("service") or ""), expires_at=instant(row.get("expires_at")))


@dataclass(frozen=True, kw_only=True)
class FreezeWindow:
    id: str
    starts_at: datetime
    ends_at: datetime
    services: tuple[str, ...]  # ("*",): all
    reason: str = ""
    emergency_allowed: bool = False

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "FreezeWindow":
        starts_at, ends_at = instant(row["from"]), instant(row["until"])
        assert starts_at and ends_at
        return cls(
            id=str(row["id"]),
            starts_at=starts_at,
            ends_at=ends_at,
            services=_texts(row.get("services")) or ("*",),
            reason=str(row.get("reason") or ""),
            emergency_allowed=bool(row.get("emergency_allowed", False)),
        )

    def covers(self, service: str, at: datetime) -> bool:
        return self.starts_at <= at < self.ends_at and ("*" in self.services or service in self.services)


@dataclass(frozen=True, kw_only=True)
class Directory:
    """The house as the service catalogue and the monitoring tell it, at one moment."""

    services: tuple[Service, ...] = ()
    sites: tuple[Site, ...] = ()
    staff: tuple[Colleague, ...] = ()
    alerts: tuple[Alert, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    freeze_windows: tuple[FreezeWindow, ...] = ()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.services, self.sites, self.staff, self.alerts, self.deployments, self.freeze_windows))

    @cached_property
    def _by_name(self) -> dict[str, Service]:
        return {service.name: service for service in reversed(self.services)}

    @cached_property
    def _reach(self) -> dict[str, frozenset[str]]:
        return {}

    def service(self, name: str) -> Service | None:
        return self._by_name.get(name)

    def upstream(self, name: str) -> frozenset[str]:
        """The service and everything that it depends on, however far."""
        if name not in self._reach:
            self._reach[name] = self._upstream(name)
        return self._reach[name]

    def _upstream(self, name: str) -> frozenset[str]:
        found: set[str] = set()
        queue = [name]
        while queue:
            current = queue.pop()
            if current in found:
                continue
            found.add(current)
            service = self.service(current)
            queue += service.depends_on if service else ()
        return frozenset(found)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The requester as the systems of record know them; `known` is False when the directory has no such address."""

    email: str
    known: bool = False
    user_id: str | None = None
    name: str | None = None
    kind: str | None = None  # employee, customer
    status: str | None = None
    vip: bool = False
    language: str | None = None
    site: str | None = None
    region: str | None = None
    account: str | None = None
    account_tier: str | None = None
    account_vip: bool = False
    annual_value: float = 0.0
    health: str | None = None  # good, watch, risk

    @classmethod
    def read(cls, email: str, user: Mapping[str, Any] | None, account: Mapping[str, Any] | None) -> "Profile":
        if user is None:
            return cls(email=email)
        account = account or {}
        return cls(
            email=email,
            known=True,
            user_id=user.get("id"),
            name=user.get("name"),
            kind=user.get("kind"),
            status=user.get("status"),
            vip=bool(user.get("vip")),
            language=user.get("language"),
            site=user.get("site"),
            region=user.get("region") or account.get("region"),
            account=user.get("account"),
            account_tier=account.get("tier"),
            account_vip=bool(account.get("vip")),
            annual_value=float(account.get("annual_value") or 0.0),
            health=account.get("health"),
        )
