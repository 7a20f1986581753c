"""The commands of ``medcurve``, each with an example in its help; they only call stages."""
