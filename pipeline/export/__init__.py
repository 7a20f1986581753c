"""A released model in the formats of other programs: ONNX and torch.export."""
