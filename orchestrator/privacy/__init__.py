"""Personal data: find it and replace it. Imports domain only."""
