"""Answers as DICOM: a structured report and a picture of each scan that came from DICOM."""
