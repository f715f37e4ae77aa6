"""`./runMe.sh doctor`: examines the machine and says what is wrong and how to put it right. Changes nothing.

Made to work where nothing else does: this package needs the standard library only. What needs more (the configuration)
is imported inside its check. Python 3.9 can run it, so that an old one is told what is missing.
"""
