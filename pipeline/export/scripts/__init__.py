"""Python that a MONAI bundle of a medcurve model carries: copied into its ``scripts`` folder."""
