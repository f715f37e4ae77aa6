"""`./runMe.sh logs`: what the parts print, merged by time."""
