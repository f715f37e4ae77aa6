"""`./runMe.sh bench`: what this stack does on this machine, measured, next to the engine alone."""
