"""Convolutional networks for images: LeNet, AlexNet, VGG, GoogLeNet, ResNet and a small CNN."""
