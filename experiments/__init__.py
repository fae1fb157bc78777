"""The first experiments of the survey's research agenda, each run by one command: ``xai-atlas experiment NAME``."""
