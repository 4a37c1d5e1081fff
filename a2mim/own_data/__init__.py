"""Training from a folder alone: look at the images, choose, say why, and write the config."""
