"""Ingest processes of one server: how they and its main process talk, and what each asks of the other."""
