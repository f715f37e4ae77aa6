"""`./runMe.sh new`: a commented fragment for a model of the Hugging Face hub, or of a folder."""
