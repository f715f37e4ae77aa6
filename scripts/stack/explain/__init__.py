"""`./runMe.sh explain`: every argument, variable and parameter of a model, where it comes from and what it does."""
