"""`./runMe.sh backup` and `restore`: keys and usage as one file."""
