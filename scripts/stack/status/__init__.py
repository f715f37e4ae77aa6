"""`./runMe.sh status`: how the stack is, on one screen."""
