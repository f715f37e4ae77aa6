"""What the gateway alone can carry, measured with an upstream that costs next to nothing. See README.md."""
