"""Whether a model fits a machine's memory, from recorded facts and before anything is downloaded."""
