"""ONNX: graphs of classifiers and taggers, and running them."""
