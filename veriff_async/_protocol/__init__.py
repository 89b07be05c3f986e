"""What is said between a client and Veriff, as pure functions: no loop, socket, clock, randomness or file."""
