"""Identity verification with pictures from the user's phone: a complete application to copy."""
