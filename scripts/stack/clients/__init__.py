"""Set-ups of other programs for the running stack: `setup` is what they are made from, `registry` lists them."""
