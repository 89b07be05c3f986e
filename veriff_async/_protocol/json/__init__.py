"""JSON of Veriff's API: decoding into models and encoding."""
