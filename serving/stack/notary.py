"""The notary as the settings describe it. Knows settings; signs nothing itself."""

from orchestrator.bootstrap import open_notary
from orchestrator.pipeline.notary import Notary
from orchestrator.storage.store import PostgresStore
from serving.settings import Settings


def notary_of(settings: Settings, store: PostgresStore) -> Notary:
    """One for the thread that asks. Raises ConfigurationError for a key that cannot be used."""
    audit = settings.audit
    return open_notary(
        store,
        settings.home.resolve(),
        folders=audit.checkpoints,
        key=audit.key,
        origin=audit.origin,
        every_events=audit.every_events,
        every_s=audit.every_s,
        erase_after_days=audit.erase_after_days,
    )
