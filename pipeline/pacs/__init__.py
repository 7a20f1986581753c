"""Scans from a hospital's archive and back: DICOMweb, and a listener for C-STORE."""
