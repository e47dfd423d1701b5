"""Telling people of finished, failed, stuck and late exports, by mail and by webhook."""
