"""Personal data out of every text that a report shows, as training replaces it. Knows texts; knows no report."""

from orchestrator.privacy.redact import redact


def redacted(text: str) -> str:
    """The text with personal data replaced by placeholders."""
    return redact(text).text
