"""How fast zpmeow is, beside a bare handler, the stores themselves and other caches, measured in one go."""
