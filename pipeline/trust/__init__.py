"""Can an answer be trusted? Calibration, prediction sets, shift, explanation."""
