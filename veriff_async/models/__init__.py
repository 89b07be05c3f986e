"""What Veriff says, as frozen classes and open enums named in its own words. No JSON, nothing that works or waits."""
