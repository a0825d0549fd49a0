"""Owns confirmation: the finalists again, on fresh replicates, compared in pairs."""
