"""Showing results: tables, files, overlays, plots. Takes results, computes nothing."""
