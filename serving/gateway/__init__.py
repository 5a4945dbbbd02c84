"""The HTTP door of Cloister: contract v1, the OpenAI-compatible routes and the console. Knows HTTP; decides nothing."""
