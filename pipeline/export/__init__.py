"""A released model in the formats of other programs: ONNX, torch.export, a MONAI bundle."""
