"""The architectures of torchvision, as `torchvision/resnet50`."""
