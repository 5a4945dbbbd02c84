"""The console: server-rendered pages for the desk. No outside asset, no script."""
