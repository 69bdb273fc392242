"""The engine: which frames, decoded how, packed how. Knows no server and no network."""
