"""The scripts, as a package of its own once they are installed."""
