"""`./runMe.sh usage`: what was asked of the gateway, from the tables that LiteLLM keeps."""
