"""Where the answer goes: a terminal or a plain log (`console`); the CI platforms have a module each beside it."""
