"""May this model go live: candidate against incumbent, served against trained, and what injected instructions do to it."""
