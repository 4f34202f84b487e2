"""The options of the networks that generate images. Torch-free."""

# ---- vae, vq-vae


# ---- dcgan


# ---- ddpm-unet
