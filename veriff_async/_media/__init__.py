"""Media on its way up and down: sources, checks, signing, files."""
